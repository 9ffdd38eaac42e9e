# SPDX-License-Identifier: Apache-2.0
"""The rules that change a row: name, version, where the field knows it from, and the arithmetic.

Pure functions of whole numbers, so that a record gives the same result on every machine. They
decide nothing about when they are used: that is `edit.py`. A rule that computes something else one
day gets another version; the old one stays, for the records that name it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dao.errors import CheckFailed
from dao.slots import SLOTS_PER_DAY
from meters.readings import LINK_BYTES, SIGNATURE_BYTES, Quality

Values = tuple[int | None, int | None, int]
"""Import Wh, export Wh (None where unknown) and quality of a row."""

LINEAR_SLOTS = 8
"""Two hours: up to here the neighbours say more than other days do."""
LIKE_WEEKS = (7, 14, 21, 28)
"""The same weekday of the last four weeks, in days back."""
LIKE_WEEKS_LEAST = 2
LIKE_DAYS = (1, 2, 3, 4, 5, 6, 7)
"""Where the weeks are not known: the last seven days."""
LIKE_DAYS_LEAST = 3
SWAP_DECISIVE = 20
SWAP_SHARE = (95, 100)
SWAP_LEVEL_SHARE = (80, 100)

_NOTHING: Values = (None, None, int(Quality.MISSING))


@dataclass(frozen=True)
class Rule:
    """apply: (slot, before, inputs) to the row's new values; CheckFailed where it may not be used.

    origin: where the field knows it from; says: what it does, in one line.
    """

    name: str
    version: int
    says: str
    origin: str
    apply: Callable[[int, Values, Mapping[str, Any]], Values]


def rounded(numerator: int, denominator: int) -> int:
    """The quotient of non-negative whole numbers, halves up."""
    return (2 * numerator + denominator) // (2 * denominator)


def between(left: int, right: int, step: int, steps: int) -> int:
    """The value `step` of `steps` of the way from left to right."""
    return rounded(left * (steps - step) + right * step, steps)


def share(energy: int, before: int, through: int, total: int) -> int:
    """The part of `energy` between two running sums of weights: all parts add up to it exactly."""
    return energy * through // total - energy * before // total


def like_slots(slot: int, days: Sequence[int]) -> list[int]:
    """The same quarter-hour of the UTC day so many days before."""
    return [slot - day * SLOTS_PER_DAY for day in days]


def is_at_least(part: int, whole: int, least: tuple[int, int]) -> bool:
    return part * least[1] >= whole * least[0]


def _need(holds: bool, what: str) -> None:
    if not holds:
        raise CheckFailed(what)


def _is_empty(before: Values) -> None:
    _need(before == _NOTHING, "a gap is filled that is none")


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"not a whole number: {value!r}")
    return value


def _energy(value: Any) -> int | None:
    return None if value is None else _whole(value)


def _signed_as(before: Values, inputs: Mapping[str, Any]) -> None:
    """What the device signed, where it did, is what the row held."""
    signed = inputs["signed"]
    if signed is not None:
        held = (signed["import_wh"], signed["export_wh"], signed["quality"])
        _need(held == before, "the device signed something else than the row held")
        if (
            _whole(signed["sequence"]) >> 63
            or len(bytes.fromhex(signed["previous"])) != LINK_BYTES
            or len(bytes.fromhex(signed["signature"])) != SIGNATURE_BYTES
        ):
            raise ValueError("not what a device signs")


def _linear(slot: int, before: Values, inputs: Mapping[str, Any]) -> Values:
    _is_empty(before)
    (start, *left), (end, *right) = inputs["left"], inputs["right"]
    _need(start < slot < end, "the neighbours do not lie on both sides")
    _need(end - start - 1 <= LINEAR_SLOTS, f"a gap of more than {LINEAR_SLOTS} slots is no line")
    filled = [
        None
        if one is None or other is None
        else between(_whole(one), _whole(other), slot - start, end - start)
        for one, other in zip(left, right, strict=True)
    ]
    _need(filled != [None, None], "neither import nor export is known on both sides")
    imported, exported = filled
    return imported, exported, int(Quality.ESTIMATED)


def _like_days(slot: int, before: Values, inputs: Mapping[str, Any]) -> Values:
    _is_empty(before)
    days = inputs["days"]
    at = [day[0] for day in days]
    _need(len(set(at)) == len(at), "a day is counted twice")
    weekly = set(at) <= set(like_slots(slot, LIKE_WEEKS))
    _need(weekly or set(at) <= set(like_slots(slot, LIKE_DAYS)), "the days are not like days")
    least = LIKE_WEEKS_LEAST if weekly else LIKE_DAYS_LEAST
    filled = []
    for channel in (1, 2):
        known = [_whole(day[channel]) for day in days if day[channel] is not None]
        filled.append(rounded(sum(known), len(known)) if len(known) >= least else None)
    _need(filled != [None, None], f"fewer than {least} like days are known")
    imported, exported = filled
    return imported, exported, int(Quality.SUBSTITUTED)


def _known_energy(slot: int, before: Values, inputs: Mapping[str, Any]) -> Values:
    _is_empty(before)
    _need(inputs["source"] in ("catch_up", "registers"), "the source of the energy is not known")
    first, slots = _whole(inputs["first"]), _whole(inputs["slots"])
    _need(first <= slot < first + slots, "the slot lies outside the gap")
    filled: list[int | None] = []
    for energy, weights in zip(inputs["energy"], inputs["weights"], strict=True):
        if _energy(energy) is None:
            filled.append(None)
            continue
        low, high, total = map(_whole, weights)
        _need(low <= high <= total and total > 0, "the weights are not running sums")
        filled.append(share(energy, low, high, total))
    _need(filled != [None, None], "no energy is known")
    imported, exported = filled
    return imported, exported, int(Quality.ESTIMATED)


def _above_capacity(_: int, before: Values, inputs: Mapping[str, Any]) -> Values:
    _signed_as(before, inputs)
    limit = _whole(inputs["capacity_wh"])
    _need(
        any(value is not None and value > limit for value in before[:2]),
        "the connection can carry what was measured",
    )
    return _NOTHING


def _invalid(_: int, before: Values, inputs: Mapping[str, Any]) -> Values:
    _signed_as(before, inputs)
    _need(before[2] == Quality.INVALID, "the device did not call the value invalid")
    return _NOTHING


def _estimated(_: int, before: Values, inputs: Mapping[str, Any]) -> Values:
    _signed_as(before, inputs)
    _need(
        before[2] in (Quality.ESTIMATED, Quality.SUBSTITUTED),
        "the device did not call it estimated",
    )
    return before


def _swapped(_: int, before: Values, inputs: Mapping[str, Any]) -> Values:
    _signed_as(before, inputs)
    decisive, against = _whole(inputs["decisive"]), _whole(inputs["against"])
    hours, level = _whole(inputs["hours"]), _whole(inputs["level"])
    _need(before[2] == Quality.MEASURED, "only a measured value can have its sign wrong")
    _need(
        decisive >= SWAP_DECISIVE
        and hours > 0
        and is_at_least(against, decisive, SWAP_SHARE)
        and is_at_least(level, hours, SWAP_LEVEL_SHARE),
        "the evidence is too weak to swap import and export",
    )
    return before[1], before[0], int(Quality.SUBSTITUTED)


_AEMO = "AEMO, Metrology Procedure Part B (NEM12 method flags)"

RULES: Mapping[tuple[str, int], Rule] = {
    (rule.name, rule.version): rule
    for rule in (
        Rule(
            "gap_linear",
            1,
            f"up to {LINEAR_SLOTS} slots between two measured ones: a straight line",
            f"{_AEMO}: 17, linear",
            _linear,
        ),
        Rule(
            "gap_like_days",
            1,
            "the mean of the same quarter-hour on the home's own like days",
            f"{_AEMO}: 15, average like day; Elexon BSCP502: same weekday, within a month",
            _like_days,
        ),
        Rule(
            "gap_energy",
            1,
            "the energy of the gap is known: shared out over it, to the Wh",
            "Elexon BSCP502: estimates from the meter advance",
            _known_energy,
        ),
        Rule(
            "above_capacity",
            1,
            "more than the connection can carry: taken out",
            "physics",
            _above_capacity,
        ),
        Rule(
            "invalid_at_source", 1, "the device itself called it invalid: taken out", "-", _invalid
        ),
        Rule(
            "estimated_at_source",
            1,
            "the device itself estimated: kept as it was signed, and on record",
            "-",
            _estimated,
        ),
        Rule(
            "sign_swapped",
            1,
            "import and export changed places, against the home's own last two weeks",
            "-",
            _swapped,
        ),
    )
}
