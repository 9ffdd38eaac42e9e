# SPDX-License-Identifier: Apache-2.0
"""What an action promises for grid and bill, what its forecaster is worth, and what was metered
afterwards. Pure.

The promise is the balancing plan that the forecast led to: a document beside the chain, shown only
where it is about the very windows and the very evidence that the proposal names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from dao.parameters import COMMUNITY_BATTERY, KEYS
from dao.runstate import Proposal as RunProposal
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from dashboard.i18n import _, formats, ngettext
from dashboard.repositories.devices import Report
from dashboard.services.proposal import Told, Window
from dashboard.services.units import wall_clock

FORMAT = "gridcommons-balancing-1"
LIMITS = ("voltage_max", "voltage_min", "transformer", "line")
RECORD_DAYS = 28
"""Days that a forecaster's skill is counted over, as the contract does."""
_QUARTER_HOURS = 4


@dataclass(frozen=True)
class Side:
    """A day without or with the action: quarter-hours over a limit (mean, one in ten below, nine in
    ten below), the chance of any, and the worst voltage (pu) and loading (%) of nine in ten
    courses; None where not told."""

    low: int
    high: int
    mean: float | None = None
    chance: float | None = None
    voltage: float | None = None
    loading: float | None = None


@dataclass(frozen=True)
class Band:
    """A quantity in each quarter-hour, (q10, q50, q90) without and with the action; its limit."""

    limit: float
    without: tuple[tuple[float, ...], ...]
    with_action: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class BillLine:
    """A part of the bill. cost: µ€ of the day for all; each_home: for a typical home."""

    what: str
    paid_by: str
    energy_wh: int
    cost: int
    each_home: int


@dataclass(frozen=True)
class Promise:
    """What the plan says. source: "plan", or "run" for the short form that a demo tells."""

    source: str
    first_slot: int
    before: Side
    after: Side
    bands: Mapping[str, Band] = field(default_factory=dict)
    homes: int = 0
    each_home: int | None = None
    lines: tuple[BillLine, ...] = ()
    worst: str = "voltage_max"


def promise_of(document: Any, told: Told, windows: Sequence[Window] | None) -> Promise | None:
    """A plan's document as a promise; None where it is none, or about something else than the
    proposal: other windows, or another forecast's evidence."""
    if not isinstance(document, dict) or document.get("format") != FORMAT or windows is None:
        return None
    try:
        if document["evidence"] != told.evidence or _planned(document) != {
            (one.zone, one.key, one.first_slot, one.slots, one.value) for one in windows
        }:
            return None
        before, after = document["if_nothing_is_done"], document["with_the_action"]
        chart = document["chart"]
        bands = {name: _band(chart[name]) for name in LIMITS if name in chart}
        bill = document["bill"]
        return Promise(
            source="plan",
            first_slot=_whole(document["first_slot"]),
            before=_side(before),
            after=_side(after),
            bands=bands,
            homes=_whole(bill["homes"]),
            each_home=_whole(bill["each_home"]),
            lines=tuple(
                BillLine(
                    str(one["what"])[:80],
                    str(one["paid_by"])[:80],
                    _whole(one["energy_wh"]),
                    _whole(one["cost"]),
                    _whole(one["each_home"]),
                )
                for one in bill["lines"][:8]
            ),
            worst=max(LIMITS, key=lambda name: float(before["limits"][name]["probability"])),
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError):
        return None


def _planned(document: Mapping[str, Any]) -> set[tuple[int, ...]]:
    zone = _whole(document["zone"])
    return {
        (zone, _whole(action["key"]), *(_whole(number) for number in window))
        for action in document["actions"]
        for window in action["windows"]
    }


def _side(risk: Mapping[str, Any]) -> Side:
    hours, limits = risk["quarter_hours"], risk["limits"]
    return Side(
        low=_whole(hours["q10"]),
        high=_whole(hours["q90"]),
        mean=_finite(hours["mean"]),
        chance=_finite(risk["probability"]),
        voltage=_finite(limits["voltage_max"]["worst"]["q90"]),
        loading=_finite(limits["transformer"]["worst"]["q90"]),
    )


def _band(found: Mapping[str, Any]) -> Band:
    def side(name: str) -> tuple[tuple[float, ...], ...]:
        made = tuple(
            tuple(_finite(one) for one in found[name][level][:SLOTS_PER_DAY])
            for level in ("q10", "q50", "q90")
        )
        if {len(one) for one in made} != {SLOTS_PER_DAY}:
            raise ValueError("a band has one value for each quarter-hour")
        return made

    return Band(_finite(found["limit"]), side("without"), side("with"))


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 1 << 62:
        raise ValueError("not a whole number")
    return value


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e12:
        raise ValueError("not a number")
    return float(value)


def promise_of_run(told_by_run: RunProposal) -> Promise:
    """The short form in a demo's state: nine of ten courses stay below these."""
    one = told_by_run
    bands = {}
    if len(one.voltage_before) == len(one.voltage_after) == SLOTS_PER_DAY:
        before, after = tuple(one.voltage_before), tuple(one.voltage_after)
        bands["voltage_max"] = Band(one.limit, (before,) * 3, (after,) * 3)
    return Promise(
        source="run",
        first_slot=one.first_slot,
        before=Side(0, one.slots_over_before, voltage=one.worst_voltage_before),
        after=Side(0, one.slots_over_after, voltage=one.worst_voltage_after),
        bands=bands,
    )


# In words


def grid_words(found: Promise) -> str:
    """What the action does to the quarter-hours over a limit."""
    fmt = formats()
    if found.before.mean is None or found.after.mean is None:
        return ngettext(
            "In nine of ten courses of the day, at most {before} quarter-hour is over a limit "
            "without it and {after} with it.",
            "In nine of ten courses of the day, at most {before} quarter-hours are over a limit "
            "without it and {after} with it.",
            found.before.high,
        ).format(before=fmt.number(found.before.high), after=fmt.number(found.after.high))
    return _(
        "Quarter-hours over a limit: {before} expected without it ({before_low} to {before_high} "
        "in eight of ten courses), {after} with it ({after_low} to {after_high})."
    ).format(
        before=fmt.number(found.before.mean, 1),
        before_low=fmt.number(found.before.low),
        before_high=fmt.number(found.before.high),
        after=fmt.number(found.after.mean, 1),
        after_low=fmt.number(found.after.low),
        after_high=fmt.number(found.after.high),
    )


def nothing_words(found: Promise) -> str:
    """What happens if nothing is done."""
    fmt = formats()
    if found.before.high == 0 and not found.before.mean:
        return _("If nothing is done, the grid stays within its limits as forecast.")
    if found.before.chance is None or found.before.mean is None:
        return ngettext(
            "If nothing is done, up to {number} quarter-hour of the day is over a limit.",
            "If nothing is done, up to {number} quarter-hours of the day are over a limit.",
            found.before.high,
        ).format(number=fmt.number(found.before.high))
    return _(
        "If nothing is done, {what} for about {hours}, with a chance of {chance}. Solar inverters "
        "then switch off by themselves, or the operator has to step in."
    ).format(
        what={
            "voltage_max": _("the voltage at the end of the street rises above its limit"),
            "voltage_min": _("the voltage at the end of the street falls below its limit"),
            "transformer": _("the transformer carries more than it is built for"),
            "line": _("a cable carries more than it is built for"),
        }[found.worst],
        hours=fmt.duration(round(found.before.mean * SLOT_SECONDS)),
        chance=fmt.percent(found.before.chance),
    )


def line_words(line: BillLine) -> str:
    """What a part of the bill is for, in the visitor's language where it is a usual one."""
    return {
        "losses of the community battery": _("Losses of the community battery"),
        "losses of called home batteries": _("Losses of the home batteries called"),
        "charging moved to later hours": _("Charging moved to later hours"),
        "grid fee of traded energy": _("Grid fee of traded energy"),
    }.get(line.what, line.what)


def payer_words(line: BillLine) -> str:
    """Who pays it."""
    return {
        "treasury": _("the treasury"),
        "owners of the batteries called": _("owners of the batteries called"),
        "nobody": _("nobody"),
        "buyers": _("buyers"),
    }.get(line.paid_by, line.paid_by)


# My bill


def fee_windows(windows: Sequence[Window] | None) -> list[Window]:
    """The windows that change what energy costs."""
    return [one for one in windows or () if one.key == KEYS["grid_fee"]]


def my_fee(windows: Sequence[Window], fee: int, by_quarter: Mapping[int, float]) -> int | None:
    """What changed grid fees would cost a home, µ€, if it drew as on its last days and bought all
    of it from neighbours. by_quarter: mean Wh drawn by quarter-hour of the UTC day; None: nothing
    is known of the home."""
    if not by_quarter:
        return None
    total = 0.0
    for one in windows:
        for slot in range(one.first_slot, one.end_slot):
            total += by_quarter.get(slot % SLOTS_PER_DAY, 0.0) * (one.value - fee)
    return round(total)


# The forecaster


@dataclass(frozen=True)
class Day:
    """A day that was forecast. loss, naive_loss: None where it was missed or cannot be scored."""

    first_slot: int
    loss: int | None
    naive_loss: int | None
    missed: bool = False


@dataclass(frozen=True)
class Record:
    """What a forecaster has shown in a zone: its days, newest first; skill in permille, None before
    a score; bond in µ€, None where no node tells; what was taken from it and added to it."""

    forecaster: str
    days: tuple[Day, ...]
    skill: int | None
    bond: int | None
    slashed: int
    rewarded: int

    @property
    def scored(self) -> int:
        return sum(one.loss is not None for one in self.days)

    @property
    def better(self) -> int:
        """Days on which it beat the naive forecast."""
        return sum(
            one.loss is not None and one.naive_loss is not None and one.loss < one.naive_loss
            for one in self.days
        )


def skill_of(days: Sequence[Day]) -> int | None:
    """Permille better than the naive forecast, as the contract counts: missed days are no skill."""
    scored = [one for one in days if one.loss is not None and one.naive_loss is not None]
    naive = sum(one.naive_loss or 0 for one in scored)
    if not naive:
        return None
    skill = 1_000 * (naive - sum(one.loss or 0 for one in scored)) // naive
    missed = sum(one.missed for one in days)
    return skill * len(scored) // (len(scored) + missed) if skill > 0 else skill


def record_words(found: Record) -> str:
    """How far the forecaster is to be believed, in a sentence or two."""
    fmt = formats()
    if found.skill is None:
        return _("None of its forecasts has been scored yet.")
    first = ngettext(
        "Of {number} scored day in four weeks it beat the naive forecast (the same day a week "
        "before) on {better}.",
        "Of {number} scored days in four weeks it beat the naive forecast (the same day a week "
        "before) on {better}.",
        found.scored,
    ).format(number=fmt.number(found.scored), better=fmt.number(found.better))
    if found.skill >= 0:
        second = _("Over all of them its error is {share} smaller.")
    else:
        second = _("Over all of them its error is {share} larger.")
    return first + " " + second.format(share=fmt.percent(abs(found.skill) / 1_000))


# Afterwards


@dataclass(frozen=True)
class Measured:
    """What was metered in the quarter-hours in which the community battery was to take in
    (`takes`) or to give back. Wh; positive draws more.

    promised_wh: what it was told. zone_wh: how much more the zone drew than the forecast's median,
    and low_wh to high_wh what the forecast's 10 and 90 % leave open at most; None before the totals
    of all of them are on the chain. battery_wh: by its own signed reports, None without.
    """

    takes: bool
    slots: int
    known: int
    promised_wh: int
    zone_wh: int | None = None
    low_wh: int | None = None
    high_wh: int | None = None
    battery_wh: int | None = None
    acknowledged: int = 0
    reported: int = 0

    @property
    def inside(self) -> bool | None:
        """Whether what was promised lies within what the zone's meters leave open."""
        if self.zone_wh is None or self.low_wh is None or self.high_wh is None:
            return None
        return self.low_wh <= self.promised_wh <= self.high_wh


def battery_slots(windows: Sequence[Window]) -> dict[int, int]:
    """By quarter-hour what the community battery is told, W."""
    return {
        slot: one.value
        for one in windows
        if one.key == COMMUNITY_BATTERY
        for slot in range(one.first_slot, one.end_slot)
    }


def measured(
    windows: Sequence[Window],
    totals: pd.DataFrame,
    forecast: pd.DataFrame | None,
    reports: Sequence[Report],
) -> list[Measured]:
    """What was metered in the windows of the community battery; nothing where there are none.

    totals: columns slot, net_wh; forecast: slot, q10, q50, q90 in Wh; reports: the
    battery's own; one of another order counts as none.
    """
    wanted = battery_slots(windows)
    net = dict(zip(totals["slot"].tolist(), totals["net_wh"].tolist(), strict=True))
    found = []
    for takes in (True, False):
        mine = {slot: one for slot, one in wanted.items() if one and (one > 0) == takes}
        if mine:
            found.append(_part(takes, mine, net, forecast, reports))
    return found


def _part(
    takes: bool,
    wanted: Mapping[int, int],
    net: Mapping[int, int],
    forecast: pd.DataFrame | None,
    reports: Sequence[Report],
) -> Measured:
    known = [slot for slot in wanted if slot in net]
    zone = low = high = None
    if forecast is not None and len(known) == len(wanted):
        rows = forecast.set_index("slot")
        if all(slot in rows.index for slot in wanted):
            chosen = rows.loc[list(wanted)]
            drawn = sum(net[slot] for slot in wanted)
            zone = int(drawn - chosen["q50"].sum())
            low, high = int(drawn - chosen["q90"].sum()), int(drawn - chosen["q10"].sum())
    told = [one for one in reports if one.slot in wanted and one.wanted == wanted[one.slot]]
    done = [one.done_wh for one in told]
    whole = len(told) == len(wanted) and all(one is not None for one in done)
    return Measured(
        takes=takes,
        slots=len(wanted),
        known=len(known),
        promised_wh=sum(wanted.values()) // _QUARTER_HOURS,
        zone_wh=zone,
        low_wh=low,
        high_wh=high,
        battery_wh=sum(one or 0 for one in done) if whole else None,
        acknowledged=sum(one.acknowledged == one.wanted for one in told),
        reported=len(told),
    )


# Frames for charts


def forecast_frame(
    first_slot: int, quantiles: np.ndarray | None, totals: pd.DataFrame
) -> pd.DataFrame:
    """A day for the energy chart, kWh per quarter-hour: time, net_kwh, used_kwh, fed_kwh, q10_kwh,
    q50_kwh, q90_kwh; NaN where something is not known."""
    slots = np.arange(first_slot, first_slot + SLOTS_PER_DAY)
    frame = pd.DataFrame({"time": wall_clock(slots)})
    known = totals.set_index("slot").reindex(slots)
    frame["net_kwh"] = known["net_wh"].to_numpy(dtype=float) / 1_000
    fed = known["export_wh"].to_numpy(dtype=float) / 1_000
    frame["fed_kwh"] = fed
    frame["used_kwh"] = frame["net_kwh"] + fed
    for place, name in enumerate(("q10_kwh", "q50_kwh", "q90_kwh")):
        frame[name] = np.nan if quantiles is None else quantiles[place] / 1_000
    return frame


def band_frame(first_slot: int, band: Band, scale: float = 1.0) -> pd.DataFrame:
    """A band for its chart: time, and q10, q50, q90 without (`before_`) and with (`after_`)."""
    slots = np.arange(first_slot, first_slot + SLOTS_PER_DAY)
    frame = pd.DataFrame({"time": wall_clock(slots)})
    for side, values in (("before", band.without), ("after", band.with_action)):
        for name, row in zip(("q10", "q50", "q90"), values, strict=True):
            frame[f"{side}_{name}"] = np.asarray(row) * scale
    return frame
