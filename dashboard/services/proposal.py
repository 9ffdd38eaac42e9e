# SPDX-License-Identifier: Apache-2.0
"""What a proposal says and does: its text, its windows, its calls in words, and the transactions
that carry it on. Pure.

Everything in a proposal was written by somebody else: what cannot be read is shown as it is, and
nothing here fails on it. What it would do to the grid is in `services/promise.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from dao.eip712 import address_bytes, keccak, word
from dao.errors import BadUse
from dao.governance.describe import Reading, plain_text, rule_name, rule_value, unpack_window
from dao.governance.proposals import Call
from dao.json_input import is_too_deep
from dao.parameters import CHARGE_POINTS, COMMUNITY_BATTERY, HOME_BATTERIES, KEYS
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from dashboard.i18n import _, formats
from dashboard.repositories.governance import Made
from dashboard.services.units import wall_clock

MAX_TITLE = 140
MAX_SUMMARY = 2_000
MAX_WINDOWS = 256
_LAST_SLOT = 10**8
_FOOT = re.compile(r"\n?(simulation: 0x[0-9a-f]{64}|#proposer=0x[0-9a-fA-F]{40})\s*\Z")
_HASH = re.compile(r"0x[0-9a-f]{64}")
_ID = re.compile(r"0x[0-9a-fA-F]{1,64}|[0-9]{1,78}", re.ASCII)


def read_id(text: Any) -> int | None:
    """A proposal's id out of an address bar; None for anything that is none."""
    if not isinstance(text, str) or not _ID.fullmatch(text):
        return None
    number = int(text, 16) if text.startswith("0x") else int(text)
    return number if 0 < number < 1 << 256 else None


def link(number: int) -> str:
    """The page of a proposal."""
    return f"/proposal?id=0x{number:064x}"


@dataclass(frozen=True)
class Told:
    """What the proposer says. evidence: the hash of a forecast's evidence, simulation: of a record
    of `gridcommons dao simulate`; 0x text. whole: all of it, as it stands on the chain."""

    title: str
    summary: str
    evidence: str | None
    simulation: str | None
    whole: str


@lru_cache(maxsize=1_024)
def told(description: str) -> Told:
    """A description, taken apart: a balancing plan's JSON, or a text whose first line is its title.

    Control characters and such that turn the reading direction are shown as escapes.
    """
    body, simulation = description, None
    while found := _FOOT.search(body):
        if found[1].startswith("simulation"):
            simulation = found[1].removeprefix("simulation: ")
        body = body[: found.start()]
    title, summary, evidence = "", "", None
    document = _json(body)
    if isinstance(document, dict):
        title, summary = _text(document.get("title")), _text(document.get("summary"))
        given = document.get("evidence")
        if isinstance(given, str) and _HASH.fullmatch(given):
            evidence = given
    if not title:
        first, _line, rest = plain_text(body).strip().partition("\n")
        title, summary = first, summary or rest.strip()
    return Told(
        _cut(" ".join(title.split()) or "–", MAX_TITLE),
        _cut(summary, MAX_SUMMARY),
        evidence,
        simulation,
        plain_text(description),
    )


def _json(text: str) -> Any:
    if not text.lstrip().startswith("{") or is_too_deep(text):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _text(value: Any) -> str:
    return plain_text(value).strip() if isinstance(value, str) else ""


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


# Windows


@dataclass(frozen=True)
class Window:
    """Quarter-hours of a zone in which a key has a value; units as in `dao.parameters`."""

    zone: int
    key: int
    first_slot: int
    slots: int
    value: int

    @property
    def end_slot(self) -> int:
        return self.first_slot + self.slots


_OPEN_WINDOW = keccak(b"open_window(uint256,uint256,uint256,uint256,int256)")[:4]
_OPEN_WINDOWS = keccak(b"open_windows(uint256,uint256,uint256[])")[:4]


def windows_of(calls: Sequence[Call], parameters: str | None) -> tuple[Window, ...] | None:
    """The windows that calls open, None where a call does anything else, or is not encoded in the
    one way that contracts and people write it. parameters: the address of `GridParameters`."""
    if parameters is None or not calls:
        return None
    found: list[Window] = []
    for call in calls:
        if call.target.lower() != parameters.lower() or call.value:
            return None
        words = _words(call.calldata[4:])
        if words is None:
            return None
        if call.calldata[:4] == _OPEN_WINDOW and len(words) == 5:
            value = words[4] - (1 << 256) if words[4] >> 255 else words[4]
            found.append(Window(words[0], words[1], words[2], words[3], value))
        elif (
            call.calldata[:4] == _OPEN_WINDOWS
            and len(words) >= 4
            and words[2] == 96
            and words[3] == len(words) - 4
        ):
            found += [Window(words[0], words[1], *unpack_window(one)) for one in words[4:]]
        else:
            return None
    if not found or len(found) > MAX_WINDOWS or any(not _sane(one) for one in found):
        return None
    return tuple(sorted(found, key=lambda one: (one.key, one.first_slot)))


def _words(data: bytes) -> list[int] | None:
    if len(data) % 32:
        return None
    return [int.from_bytes(data[at : at + 32], "big") for at in range(0, len(data), 32)]


def _sane(one: Window) -> bool:
    return one.first_slot < _LAST_SLOT and 0 < one.slots <= 96 and abs(one.value) < 1 << 62


def moved_wh(windows: Sequence[Window]) -> int:
    """Energy that the community battery takes and gives under the windows, Wh."""
    return sum(
        abs(one.value) * one.slots * SLOT_SECONDS // 3_600
        for one in windows
        if one.key == COMMUNITY_BATTERY
    )


def battery_words(windows: Sequence[Window]) -> str | None:
    """A schedule of the community battery in one sentence; None where there is anything else."""
    if not windows or any(one.key != COMMUNITY_BATTERY for one in windows):
        return None
    fmt = formats()
    begin = min(one.first_slot for one in windows) * SLOT_SECONDS
    end = max(one.end_slot for one in windows) * SLOT_SECONDS
    parts = {"zone": windows[0].zone, "begin": fmt.moment(begin), "end": fmt.moment(end)}

    def energy(sign: int) -> str:
        mine = [one for one in windows if one.value * sign > 0]
        return fmt.kwh(moved_wh(mine))

    return _(
        "Between {begin} and {end}, the community battery of zone {zone} takes in {taken} and "
        "gives back {given}."
    ).format(taken=energy(1), given=energy(-1), **parts)


def schedule_frame(windows: Sequence[Window]) -> pd.DataFrame:
    """The community battery's power for its chart: time, power_kw of each quarter-hour."""
    mine = [one for one in windows if one.key == COMMUNITY_BATTERY]
    first = min(one.first_slot for one in mine) // SLOTS_PER_DAY * SLOTS_PER_DAY
    last = max(one.end_slot for one in mine)
    slots = np.arange(first, max(min(last, first + 3 * SLOTS_PER_DAY), first + SLOTS_PER_DAY))
    power = np.zeros(len(slots))
    for one in mine:
        power[(slots >= one.first_slot) & (slots < one.end_slot)] = one.value / 1_000
    return pd.DataFrame({"time": wall_clock(slots), "power_kw": power})


# Calls in words


def call_words(reading: Reading, parameters: str | None, call: Call) -> list[str]:
    """A call in the visitor's language where it is one of those that people propose every day, else
    as `dao.governance.describe` tells it."""
    found = windows_of([call], parameters)
    if found is not None:
        return [window_words(one) for one in found]
    if reading.contract == "GridParameters" and reading.function == "set_value" and not call.value:
        key, after = reading.arguments.values()
        name = rule_words(int(key))
        unit = rule_value(rule_name(int(key)), int(after))
        before = _before(reading.text)
        if before is None:
            return [_("Set “{rule}” to {after}.").format(rule=name, after=unit)]
        return [
            _("Set “{rule}” from {before} to {after}.").format(rule=name, before=before, after=unit)
        ]
    return [reading.text]


def _before(text: str) -> str | None:
    found = re.fullmatch(r"set \S+ from (.+) to [^()]+", text)
    return found[1] if found else None


def rule_words(key: int) -> str:
    """A rule's name for people: its own, without underscores."""
    return rule_name(key).replace("_", " ")


def window_words(one: Window) -> str:
    """One window in a sentence, on the zone's own clock."""
    fmt = formats()
    begin, end = one.first_slot * SLOT_SECONDS, one.end_slot * SLOT_SECONDS
    at = {"zone": one.zone, "begin": fmt.moment(begin), "end": fmt.time(end)}
    kw = fmt.number(abs(one.value) / 1_000, 1)
    if one.key == COMMUNITY_BATTERY:
        energy = fmt.kwh(abs(one.value) * one.slots * SLOT_SECONDS / 3_600)
        if one.value == 0:
            return _("The community battery of zone {zone} rests, {begin}–{end}.").format(**at)
        if one.value > 0:
            return _(
                "The community battery of zone {zone} takes in {energy} at {kw} kW, {begin}–{end}."
            ).format(energy=energy, kw=kw, **at)
        return _(
            "The community battery of zone {zone} gives back {energy} at {kw} kW, {begin}–{end}."
        ).format(energy=energy, kw=kw, **at)
    if one.key == CHARGE_POINTS:
        if one.value == 0:
            return _(
                "Charge points taking part in zone {zone} may draw nothing, {begin}–{end}."
            ).format(**at)
        return _(
            "Charge points taking part in zone {zone} draw at most {kw} kW, {begin}–{end}."
        ).format(kw=kw, **at)
    if one.key == HOME_BATTERIES:
        share = fmt.percent(abs(one.value) / 1_000)
        if one.value == 0:
            return _("Home batteries taking part in zone {zone} rest, {begin}–{end}.").format(**at)
        if one.value > 0:
            return _(
                "Home batteries taking part in zone {zone} charge at {share} of their power, "
                "{begin}–{end}."
            ).format(share=share, **at)
        return _(
            "Home batteries taking part in zone {zone} discharge at {share} of their power, "
            "{begin}–{end}."
        ).format(share=share, **at)
    price = fmt.ct(one.value)
    if one.key == KEYS["grid_fee"]:
        words = _("The grid fee in zone {zone} is {price}, {begin}–{end}.")
    elif one.key == KEYS["price_band_min"]:
        words = _("The lowest price in zone {zone} is {price}, {begin}–{end}.")
    elif one.key == KEYS["price_band_max"]:
        words = _("The highest price in zone {zone} is {price}, {begin}–{end}.")
    else:
        return _("Key {key} of zone {zone} is {value}, {begin}–{end}.").format(
            key=one.key, value=fmt.number(one.value), **at
        )
    return words.format(price=price, **at)


# Transactions and signatures


def proposal_arguments(made: Made) -> bytes | None:
    """Targets, values, calldatas and the description's hash, encoded as `queue` and `execute` take
    them; None where they do not make the proposal's id (a description that is no UTF-8)."""
    digest = keccak(made.description.encode("utf-8", "surrogatepass"))
    targets = b"".join(bytes(12) + address_bytes(call.target) for call in made.calls)
    values = b"".join(word(call.value) for call in made.calls)
    count = len(made.calls)
    heads, tails = [], b""
    for call in made.calls:
        heads.append(word(32 * count + len(tails)))
        tails += word(len(call.calldata)) + call.calldata + bytes(-len(call.calldata) % 32)
    parts = (
        word(count) + targets,
        word(count) + values,
        word(count) + b"".join(heads) + tails,
    )
    offsets, at = [], 128
    for part in parts:
        offsets.append(word(at))
        at += len(part)
    data = b"".join(offsets) + digest + b"".join(parts)
    return data if int.from_bytes(keccak(data), "big") == made.id else None


def carry_on(made: Made, function: str) -> str | None:
    """The data of a transaction that queues or executes a proposal, 0x text."""
    if function not in ("queue", "execute"):
        raise BadUse(f"{function} carries no proposal on")
    data = proposal_arguments(made)
    if data is None:
        return None
    selector = keccak(f"{function}(address[],uint256[],bytes[],bytes32)".encode())[:4]
    return "0x" + (selector + data).hex()


def vote_data(number: int, support: int, reason: str) -> str:
    """The data of a transaction that votes in person, 0x text."""
    if not reason:
        selector = keccak(b"castVote(uint256,uint8)")[:4]
        return "0x" + (selector + word(number) + word(support)).hex()
    raw = reason.encode()
    selector = keccak(b"castVoteWithReason(uint256,uint8,string)")[:4]
    tail = word(len(raw)) + raw + bytes(-len(raw) % 32)
    return "0x" + (selector + word(number) + word(support) + word(96) + tail).hex()


def ballot_message(
    number: int, support: int, voter: str, reason: str, deadline: int
) -> dict[str, Any]:
    """What a ballot's signature covers. deadline: unix seconds."""
    return {
        "proposalId": number,
        "support": support,
        "voter": voter,
        "reasonHash": "0x" + keccak(reason.encode()).hex(),
        "deadline": deadline,
    }


def clean_reason(text: Any) -> str:
    """A reason as it is signed: as typed, and what nobody can see as escapes."""
    return plain_text(str(text or "")).strip()


MAX_REASON = 1_024
"""Bytes of a reason that the governor takes."""


def reason_of(text: str, reason_hash: str | None, published: Mapping[str, str]) -> str | None:
    """What a voter gave as a reason: on the chain, or published and fitting the hash that is there.
    None where there is only a hash."""
    if text:
        return plain_text(text)
    if reason_hash is None or reason_hash == _EMPTY:
        return ""
    found = published.get(reason_hash)
    return None if found is None else plain_text(found)


_EMPTY = "0x" + keccak(b"").hex()
