# SPDX-License-Identifier: Apache-2.0
"""A day of the grid as the page tells it: the picture's file read, a slot's figures, what devices
said to their schedule. How it is drawn is in `grid_drawing`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

import numpy as np

from dao.errors import CheckFailed
from dao.parameters import COMMUNITY_BATTERY
from dao.runstate import Outcome, Proposal
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY, first_slot_of_day
from dashboard.repositories.devices import Report
from dashboard.repositories.grid import Day, Row

VOLTS = 230.0
"""What one pu of the low voltage is between phase and neutral."""
FORMAT = 1
# The picture's own steps: see `forecasting.balancing.picture`.
_VOLT_STEP = 1e-5
_LOAD_STEP = 0.1
REPORT_PATIENCE_S = 1_800
"""So long after a slot its device's report may still come."""


class Basis(StrEnum):
    """What a picture is made from."""

    FORECAST = "forecast"
    MEASURED = "measured"


class Side(StrEnum):
    """Which side of the action is shown."""

    WITHOUT = "without"
    WITH = "with"


@dataclass(frozen=True)
class Limits:
    """What counts as over: pu, pu, percent."""

    highest: float
    lowest: float
    loading: float


@dataclass(frozen=True)
class Flow:
    """A day's states. volts: (slots, buses) pu; lines: (slots, lines) percent; transformer:
    (slots,) percent; over: (slots,) whether any limit breaks; battery_w: (slots,) W of the whole
    community battery, positive charges."""

    volts: np.ndarray
    lines: np.ndarray
    transformer: np.ndarray
    over: np.ndarray
    battery_w: np.ndarray


@dataclass(frozen=True)
class Picture:
    """A zone and one of its days. place: right and down per bus, 0 to 1,000, in the order of
    `buses`, as are the columns of all voltages. homes: how many stand at a bus."""

    first_slot: int
    evidence: str
    courses: int
    limits: Limits
    low_bus: int
    rated_kva: float
    buses: tuple[int, ...]
    place: tuple[tuple[int, int], ...]
    lines: tuple[tuple[int, int], ...]
    homes: Mapping[int, int]
    battery_buses: tuple[int, ...]
    battery_w: int
    battery_wh: int
    charge_points: Mapping[int, int]
    home_batteries: int
    flows: Mapping[tuple[Basis, Side], Flow]

    def flow(self, basis: Basis, side: Side) -> Flow:
        """The wanted states, or the nearest there are."""
        for one in (basis, Basis.FORECAST):
            for other in (side, Side.WITHOUT):
                if (one, other) in self.flows:
                    return self.flows[one, other]
        raise CheckFailed("the picture holds no states")

    def has(self, basis: Basis, side: Side = Side.WITHOUT) -> bool:
        """Whether there are such states."""
        return (basis, side) in self.flows


def picture_of(document: Mapping[str, Any]) -> Picture:
    """The picture that a file holds. CheckFailed for anything else."""
    try:
        if document["format"] != FORMAT:
            raise ValueError
        buses = [[int(value) for value in row] for row in document["buses"]]
        battery, limits = document["battery"], document["limits"]
        points: dict[int, int] = {}
        for bus, watts in document["charge_points"]:
            points[int(bus)] = points.get(int(bus), 0) + int(watts)
        shape = (SLOTS_PER_DAY, len(buses), len(document["lines"]))
        flows = {
            (basis, side): _flow(document[basis][side], *shape)
            for basis in Basis
            for side in Side
            if document[basis] is not None and document[basis][side] is not None
        }
        return Picture(
            first_slot=int(document["first_slot"]),
            evidence=str(document["evidence"]),
            courses=int(document["courses"]),
            limits=Limits(
                float(limits["voltage_max"]),
                float(limits["voltage_min"]),
                float(limits["loading_max"]),
            ),
            low_bus=int(document["low_bus"]),
            rated_kva=float(document["rated_va"]) / 1_000,
            buses=tuple(row[0] for row in buses),
            place=tuple((row[1], row[2]) for row in buses),
            lines=tuple((int(one), int(other)) for one, other in document["lines"]),
            homes={int(bus): int(count) for bus, count in document["homes"]},
            battery_buses=tuple(int(bus) for bus in battery["buses"]),
            battery_w=int(battery["max_power_w"]),
            battery_wh=int(battery["capacity_wh"]),
            charge_points=points,
            home_batteries=int(document["home_batteries"]),
            flows=flows,
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise CheckFailed(f"the picture of the grid cannot be read ({type(error).__name__})") from (
            error
        )


def _flow(document: Mapping[str, Any], slots: int, buses: int, lines: int) -> Flow:
    found = Flow(
        volts=np.array(document["volts"], dtype=np.float64) * _VOLT_STEP,
        lines=np.array(document["lines"], dtype=np.float64).reshape(slots, lines) * _LOAD_STEP,
        transformer=np.array(document["transformer"], dtype=np.float64) * _LOAD_STEP,
        over=np.array(document["over"], dtype=bool),
        battery_w=np.array(document["battery_w"], dtype=np.int64),
    )
    if found.volts.shape != (slots, buses) or any(
        column.shape != (slots,) for column in (found.transformer, found.over, found.battery_w)
    ):
        raise ValueError
    return found


# One slot


@dataclass(frozen=True)
class Moment:
    """A quarter-hour in figures: voltages in pu with their bus, loadings in percent, the fullest
    line's two ends, and how many buses lie beyond a limit."""

    highest: float
    highest_bus: int
    lowest: float
    lowest_bus: int
    transformer: float
    line: float
    line_ends: tuple[int, int] | None
    above: int
    below: int
    full_lines: int


def moment(picture: Picture, flow: Flow, slot: int) -> Moment:
    """The figures of a slot, 0 for the day's first."""
    volts, lines, limits = flow.volts[slot], flow.lines[slot], picture.limits
    top, bottom = int(volts.argmax()), int(volts.argmin())
    fullest = int(lines.argmax()) if lines.size else None
    return Moment(
        highest=float(volts[top]),
        highest_bus=picture.buses[top],
        lowest=float(volts[bottom]),
        lowest_bus=picture.buses[bottom],
        transformer=float(flow.transformer[slot]),
        line=float(lines[fullest]) if fullest is not None else 0.0,
        line_ends=picture.lines[fullest] if fullest is not None else None,
        above=int((volts > limits.highest).sum()),
        below=int((volts < limits.lowest).sum()),
        full_lines=int((lines > limits.loading).sum()),
    )


def tightest(picture: Picture, flow: Flow) -> int:
    """The slot that comes nearest to a limit, or goes farthest beyond one."""
    limits = picture.limits
    strain = np.max(
        [
            (flow.volts.max(axis=1) - 1.0) / (limits.highest - 1.0),
            (1.0 - flow.volts.min(axis=1)) / (1.0 - limits.lowest),
            flow.transformer / limits.loading,
            flow.lines.max(axis=1, initial=0.0) / limits.loading,
        ],
        axis=0,
    )
    return int(strain.argmax())


def cables(picture: Picture, flow: Flow, slot: int) -> dict[int, float]:
    """The loading of the fullest cable at each bus, percent."""
    found: dict[int, float] = dict.fromkeys(picture.buses, 0.0)
    for (one, other), loading in zip(picture.lines, flow.lines[slot].tolist(), strict=True):
        found[one] = max(found[one], loading)
        found[other] = max(found[other], loading)
    return found


# What was asked for


@dataclass(frozen=True)
class Wish:
    """What an address asks for, as far as it makes sense. odd: some of it did not."""

    day: Day | None = None
    slot: int | None = None
    basis: Basis | None = None
    side: Side | None = None
    odd: bool = False


def wish_of(asked: Mapping[str, str], there: Sequence[Day]) -> Wish:
    """Read `day`, `slot`, `shown` and `action` of an address, which anybody may have written."""
    texts = {name: asked[name] for name in ("day", "slot", "shown", "action") if name in asked}
    day = _day(texts.get("day", ""), there)
    text = texts.get("slot", "")
    slot = int(text) if re.fullmatch(r"[0-9]{1,2}", text) else None
    slot = slot if slot is not None and slot < SLOTS_PER_DAY else None
    basis = next((one for one in Basis if one == texts.get("shown")), None)
    side = next((one for one in Side if one == texts.get("action")), None)
    read = {"day": day, "slot": slot, "shown": basis, "action": side}
    return Wish(day, slot, basis, side, any(read[name] is None for name in texts))


def _day(text: str, there: Sequence[Day]) -> Day | None:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return None
    try:
        first_slot = first_slot_of_day(date.fromisoformat(text))
    except (ValueError, OverflowError):
        return None
    return next((one for one in there if one.first_slot == first_slot), None)


def day_of_now(there: Sequence[Day], now: int) -> Day:
    """The day that is, or the newest there is."""
    today = now // SLOT_SECONDS // SLOTS_PER_DAY * SLOTS_PER_DAY
    return next((one for one in there if one.first_slot == today), there[0])


def later_evidence(there: Sequence[Day], day: Day) -> Day | None:
    """The first evidence made after the whole day was measured: it is made the evening before its
    own day, so of two days on."""
    wanted = day.first_slot + 2 * SLOTS_PER_DAY
    return next((one for one in reversed(there) if one.first_slot >= wanted), None)


# The action and its devices


@dataclass(frozen=True)
class Action:
    """What is done, or would be, about a day. rows: windows of it and the days before; proposal:
    where it is only proposed, or where a vote put it in force."""

    rows: tuple[Row, ...]
    in_force: bool
    proposal: Proposal | None

    def of_day(self, key: int, first_slot: int) -> dict[int, int]:
        """Value by slot, for the slots of the day in which a window is in force."""
        end = first_slot + SLOTS_PER_DAY
        return {
            slot: value
            for one, begin, slots, value in self.rows
            if one == key
            for slot in range(max(begin, first_slot), min(begin + slots, end))
        }


def action_of(rows: tuple[Row, ...], proposals: Sequence[Proposal], first_slot: int) -> Action:
    """The windows in force on the day; where there are none, those of a proposal about it."""
    put = next((one for one in reversed(proposals) if one.first_slot == first_slot), None)
    if any(row[1] >= first_slot for row in rows):
        executed = put if put is not None and put.state == Outcome.EXECUTED else None
        return Action(rows, True, executed)
    if put is None or not put.windows:
        return Action(rows, False, None)
    proposed = ((COMMUNITY_BATTERY, one.first_slot, one.slots, one.power_w) for one in put.windows)
    return Action((*rows, *proposed), False, put)


class Said(StrEnum):
    """What a device said to a slot of its schedule."""

    TOOK = "took"
    OTHER = "other"
    SILENT = "silent"
    MISSING = "missing"
    TO_COME = "to come"


@dataclass(frozen=True)
class Told:
    """A slot of the battery's schedule: W wanted, W acknowledged, Wh done, and what that means."""

    slot: int
    wanted: int
    acknowledged: int | None
    done_wh: int | None
    said: Said


def told(schedule: Mapping[int, int], reports: Sequence[Report], now: int) -> tuple[Told, ...]:
    """Each slot with a window in force, beside what the battery's gateway reported of it."""
    known = {one.slot: one for one in reports}
    found = []
    for slot, wanted in sorted(schedule.items()):
        report = known.get(slot)
        if report is None:
            late = now > (slot + 1) * SLOT_SECONDS + REPORT_PATIENCE_S
            found.append(Told(slot, wanted, None, None, Said.MISSING if late else Said.TO_COME))
            continue
        if report.acknowledged is None:
            said = Said.SILENT
        else:
            said = Said.TOOK if report.acknowledged == wanted else Said.OTHER
        found.append(Told(slot, wanted, report.acknowledged, report.done_wh, said))
    return tuple(found)
