# SPDX-License-Identifier: Apache-2.0
"""A day of a zone's grid to look at: where everything stands, each bus and cable in each slot.

Made from what is public (evidence files, windows on chain, standard shares) by a process of its own
that leaves a file; who draws it reads the file and needs no power flow:

    python -m forecasting.balancing.picture QUESTION.json PICTURE.json
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dao.errors import BadUse, GridCommonsError
from dao.parameters import COMMUNITY_BATTERY
from dao.slots import SLOTS_PER_DAY
from forecasting.balancing.actions import (
    Window,
    battery_of,
    community_store,
    schedule_of,
)
from forecasting.balancing.confirm import Bench, Change
from forecasting.balancing.effects import Setting, changes_under
from forecasting.balancing.flexibility import flexibility_of
from forecasting.balancing.scenarios import Courses, Scenario, courses_of
from forecasting.balancing.shares import SLOTS_PER_HOUR, Shares, standard_shares
from forecasting.evidence import Evidence, read_evidence, stated_forecast
from forecasting.grid import BatterySpec, GridLimits, ZoneGrid, load_grid
from forecasting.zone import ZoneTotals

FORMAT = 1
# Voltages in the file are whole steps of so many pu, loadings of so many percent.
VOLT_STEP = 1e-5
LOAD_STEP = 0.1
# Nine courses of ten have no more quarter-hours over a limit than the one that is shown.
_RANK = 0.9
_SIDE = 1_000
# A day takes a few seconds, with SimBench to be read first a quarter of a minute.
_PATIENCE_S = 120


@dataclass(frozen=True)
class Question:
    """What is to be drawn.

    zone, first_slot: which day of which zone. code, seed: SimBench's code of its grid, and of its
    homes' scales. evidence, later: files of the day's forecast, and of a later one that holds what
    was then measured. windows: rows of key, first slot, slots and value, of the day and those
    before it.
    """

    zone: int
    first_slot: int
    code: str
    seed: int
    evidence: str
    later: str | None
    windows: tuple[tuple[int, int, int, int], ...]
    cache: str


def draw(question: Question) -> dict[str, Any]:
    """The picture as plain JSON values. BadUse or CheckFailed for what cannot be used."""
    from meters.profiles import zone_profiles
    from meters.simbench import load_grid as load_elements

    cache = Path(question.cache)
    evidence = _evidence(question.evidence)
    first = question.first_slot
    if (evidence.zone, evidence.first_slot) != (question.zone, first):
        raise BadUse(f"{Path(question.evidence).name} is of another zone or day than its name says")
    grid = load_grid(question.code, cache)
    homes = zone_profiles(question.code, 0, 0, question.seed, cache).homes
    shares = standard_shares(homes)
    flexibility = flexibility_of(load_elements(question.code, cache), homes)
    battery = battery_of(grid)
    windows = _by_key(question.windows, first, first + SLOTS_PER_DAY)
    known = _by_key(question.windows, 0, first)
    stored = stored_at(evidence, battery, known.get(COMMUNITY_BATTERY, ()))
    courses = courses_of(stated_forecast(evidence), evidence.totals)
    setting = Setting(
        zone=evidence.zone,
        first_slot=first,
        grid=grid,
        scenarios=courses.spread(shares),
        buses=shares.buses,
        homes=len(homes),
        battery=battery,
        stored_wh=stored,
        flexibility=flexibility,
    )
    later = None if question.later is None else _evidence(question.later)
    return {
        "format": FORMAT,
        "code": question.code,
        "zone": evidence.zone,
        "first_slot": first,
        "evidence": "0x" + evidence.hash.hex(),
        "courses": len(courses.weights),
        "limits": asdict(GridLimits()),
        "low_bus": grid.low_bus,
        "rated_va": grid.rated_va,
        "buses": [[bus, *place] for bus, place in places(grid).items()],
        "lines": [[line["from_bus"], line["to_bus"]] for line in grid.document["lines"]],
        "homes": _homes(shares, homes),
        "battery": {**asdict(battery), "buses": list(battery.buses)},
        "charge_points": [[point.bus, point.rated_w] for point in flexibility.charge_points],
        "home_batteries": len(flexibility.home_batteries),
        "forecast": _forecast(setting, courses, windows),
        "measured": None if later is None else _measured(setting, later, shares, windows),
    }


def stored_at(evidence: Evidence, battery: BatterySpec, windows: Sequence[Window]) -> int:
    """Wh that the community battery holds when the evidence's day begins: it began empty, did what
    the evidence says, and obeys the windows since then."""
    level = 0
    for _, taken, given in evidence.battery_wh:
        level += taken * battery.efficiency_permille // 1_000 - given
        level = min(max(level, 0), battery.capacity_wh)
    begin = evidence.published.end_slot
    slots = evidence.first_slot - begin
    if slots <= 0:
        return level
    store = community_store(battery, level, slots)
    _, held = store.follow(store.departure_of(schedule_of(windows, begin, slots)))
    return int(held[-1])


def places(grid: ZoneGrid) -> dict[int, tuple[int, int]]:
    """Where each low-voltage bus is drawn: right and down, 0 to 1,000.

    By the coordinates of the grid's own model, which are a tidy plan; without them as a tree under
    the transformer.
    """
    rows = {bus["index"]: bus.get("place") for bus in grid.document["buses"]}
    wanted = [int(bus) for bus in grid.buses]
    if all(rows.get(bus) is not None for bus in wanted):
        points = {bus: (float(rows[bus][0]), -float(rows[bus][1])) for bus in wanted}
    else:
        points = _tree(grid, wanted)
    right, down = ([point[axis] for point in points.values()] for axis in (0, 1))
    return {
        bus: (_scaled(x, min(right), max(right)), _scaled(y, min(down), max(down)))
        for bus, (x, y) in points.items()
    }


def _scaled(value: float, low: float, high: float) -> int:
    return _SIDE // 2 if high <= low else round((value - low) / (high - low) * _SIDE)


def _tree(grid: ZoneGrid, wanted: Sequence[int]) -> dict[int, tuple[float, float]]:
    """Each bus as many rows down as cables lie before it; leaves beside each other."""
    near: dict[int, list[int]] = {bus: [] for bus in wanted}
    for line in grid.document["lines"]:
        near[line["from_bus"]].append(line["to_bus"])
        near[line["to_bus"]].append(line["from_bus"])
    found: dict[int, tuple[float, float]] = {}
    column = 0.0
    seen: set[int] = set()
    for root in (grid.low_bus, *wanted):
        if root in seen:
            continue
        seen.add(root)
        # Depth first without recursion: a bus is placed once all behind it are.
        stack: list[tuple[int, int, list[int] | None]] = [(root, 0, None)]
        while stack:
            bus, depth, behind = stack.pop()
            if behind is None:
                behind = [one for one in sorted(near[bus]) if one not in seen]
                seen.update(behind)
                stack.append((bus, depth, behind))
                stack += [(one, depth + 1, None) for one in reversed(behind)]
            elif behind:
                xs = [found[one][0] for one in behind]
                found[bus] = (sum(xs) / len(xs), float(depth))
            else:
                found[bus] = (column, float(depth))
                column += 1.0
    return found


def _evidence(path: str) -> Evidence:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise BadUse(f"cannot read {path}: {error.strerror}") from None
    return read_evidence(data, Path(path).name)


def _by_key(
    rows: Sequence[tuple[int, int, int, int]], begin: int, end: int
) -> dict[int, tuple[Window, ...]]:
    """The windows that lie in these slots, by key and in order."""
    found: dict[int, list[Window]] = {}
    for key, first_slot, slots, value in sorted(rows):
        if begin <= first_slot and first_slot + slots <= end:
            found.setdefault(key, []).append(Window(first_slot, slots, value))
    return {key: tuple(windows) for key, windows in found.items()}


def _homes(shares: Shares, homes: Sequence[Any]) -> list[list[int]]:
    """How many homes stand at each bus that has any."""
    count: dict[int, int] = {int(bus): 0 for bus in shares.buses}
    for home in homes:
        count[int(home.bus)] += 1
    return [[bus, homes] for bus, homes in count.items()]


def _forecast(
    setting: Setting, courses: Courses, windows: Mapping[int, tuple[Window, ...]]
) -> dict[str, Any]:
    """One course of the day without and with the windows: nine of ten are no harder."""
    bench = Bench(setting.grid, setting.scenarios, setting.buses, setting.limits)
    rest = bench.flow()
    over = rest.over_limit.reshape(bench.courses, -1).sum(axis=1)
    highest = rest.voltage_max.reshape(bench.courses, -1).max(axis=1)
    order = np.lexsort((highest, over))
    at = int(order[math.ceil(_RANK * bench.courses) - 1])
    one = _bench(setting, setting.scenarios[at].net_w)
    changes, power, _ = changes_under(bench, setting, dict(windows))
    return {
        "without": _state(one, []),
        "with": _state(one, changes, power.get(COMMUNITY_BATTERY)) if changes else None,
        # The course as such, so that nobody takes a picture for the mean.
        "net_wh": [round(float(value)) for value in _net(courses, at)],
    }


def _net(courses: Courses, at: int) -> Any:
    return courses.import_wh[at] - courses.export_wh[at]


def _measured(
    setting: Setting,
    later: Evidence,
    shares: Shares,
    windows: Mapping[int, tuple[Window, ...]],
) -> dict[str, Any] | None:
    """The day as the published totals have it, and with the action taken out; None where the later
    evidence does not hold the whole day."""
    first, end = setting.first_slot, setting.first_slot + SLOTS_PER_DAY
    totals = later.totals
    if later.zone != setting.zone or not totals.first_slot <= first or end > totals.end_slot:
        return None
    part = slice(first - totals.first_slot, end - totals.first_slot)
    day = ZoneTotals(first, totals.net_wh[part], totals.export_wh[part])
    bench = _bench(setting, shares.spread(day.net_wh + day.export_wh, day.export_wh))
    power = np.zeros(SLOTS_PER_DAY)
    for slot, taken, given in later.battery_wh:
        if first <= slot < end:
            power[slot - first] = SLOTS_PER_HOUR * (taken - given)
    # The totals are the homes', called devices in them and the community battery not.
    others = {key: value for key, value in windows.items() if key != COMMUNITY_BATTERY}
    called, _, _ = changes_under(bench, setting, others)
    less = [Change(-one.power_w, one.buses, one.parts, -one.reactive_per_active) for one in called]
    acted = []
    if setting.battery is not None and power.any():
        units = setting.battery.buses
        parts = (1.0 / len(units),) * len(units)
        acted.append(Change(power, units, parts, setting.battery.reactive_per_active))
    return {
        "without": _state(bench, less),
        "with": _state(bench, acted, power) if acted or called else None,
        "net_wh": [int(value) for value in day.net_wh],
    }


def _bench(setting: Setting, net_w: Any) -> Bench:
    return Bench(setting.grid, [Scenario("shown", 1.0, net_w)], setting.buses, setting.limits)


def _state(bench: Bench, changes: Sequence[Change], battery_w: Any = None) -> dict[str, Any]:
    active, reactive = bench.powers(changes)
    found = bench.grid.states(active, reactive_var=reactive, limits=bench.limits)
    lines = bench.grid.line_loadings(active, reactive)
    return {
        "volts": _steps(found.voltages, VOLT_STEP),
        "lines": _steps(lines, LOAD_STEP),
        "transformer": _steps(found.transformer_loading, LOAD_STEP),
        "over": [int(value) for value in found.over_limit],
        "battery_w": [round(float(value)) for value in battery_w]
        if battery_w is not None
        else [0] * bench.slots,
    }


def _steps(values: Any, step: float) -> Any:
    return np.rint(np.asarray(values) / step).astype(int).tolist()


def main(arguments: Sequence[str]) -> int:
    """Leave the picture that a question file asks for, or why there is none."""
    question_file, target = (Path(name) for name in arguments)
    try:
        asked = json.loads(question_file.read_text(encoding="utf-8"))
        asked["windows"] = tuple(tuple(row) for row in asked["windows"])
        document = draw(Question(**asked))
    except GridCommonsError as error:
        document = {"format": FORMAT, "error": " ".join(str(error).split())}
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    part.write_text(json.dumps(document, separators=(",", ":")), encoding="utf-8")
    part.replace(target)
    return 1 if "error" in document else 0


if __name__ == "__main__":
    os.nice(10)  # pages come first
    signal.alarm(_PATIENCE_S)  # it ends by itself, whoever forgot it
    sys.exit(main(sys.argv[1:]))
