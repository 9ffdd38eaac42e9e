# SPDX-License-Identifier: Apache-2.0
"""From a zone's forecast to the smallest battery schedule that keeps the grid within its limits.

Public inputs only: the forecast's scenarios are spread over the buses by standard shares (import
by yearly load, export by installed solar power), never by readings. Whether the schedule comes
into force is a matter of votes, not of this module.

The schedule is found with the power flow's own sensitivities (two extra power flows: all slots
with the battery charging, and discharging, at full power) in a small linear programme (HiGHS), and
then confirmed by the full power flow; where the linear picture was too kind, a margin is added and
the programme is solved again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dao.errors import BadUse, CheckFailed
from dao.slots import SLOTS_PER_DAY, day_of, slot_start
from forecasting.grid import BatterySpec, FloatArray, GridLimits, GridResult, ZoneGrid
from forecasting.zone import DayForecast

IntArray = npt.NDArray[np.int64]

SLOTS_PER_HOUR = 4
# As many as GridParameters takes for a day.
MAX_WINDOWS = 16
# The battery of the demo zone 1-LV-rural3--2-sw. Its over-voltage sits at the ends of two feeders
# (bus 83 in nearly all broken quarter-hours, bus 121 next), and neither end feels what happens in
# the other: one unit at bus 83 would need 100 kW where two units of 20 kW do. At 40 kW nearly
# all broken quarter-hours of the summer can be mended; 50 kW leave room for the forecast's error.
# 300 kWh last for the nine hours of a clear June day at the power needed; with 200 kWh three times
# as many quarter-hours stay broken.
DEMO_BATTERY = BatterySpec(buses=(83, 121), capacity_wh=300_000, max_power_w=50_000)

_POWER_STEP_W = 100
_ATTEMPTS = 4
_MARGIN_STEP = 0.0004  # pu; the linear picture is off by less than this on the demo zone
_REWEIGHTINGS = 5
_REWEIGHT_FLOOR = 0.02  # in rows' unit: 0.0002 pu
# Energy is only given back where every scenario is this far (pu) inside the limit anyway: a sunnier
# evening than forecast must not turn help into harm.
_GIVING_DISTANCE = 0.0015
# The programme's rows are brought to the order of 1, well above the solver's tolerances.
_VOLTAGE_SCALE = 100.0


class HasPlace(Protocol):
    """What of a home is public: where it stands, its yearly load and its installed solar power."""

    @property
    def bus(self) -> int: ...
    @property
    def annual_load_kwh(self) -> int: ...
    @property
    def solar_wp(self) -> int: ...


@dataclass(frozen=True)
class Shares:
    """Standard shares per bus; each array (buses,) sums to 1 (export: or to 0 without solar)."""

    buses: IntArray
    import_share: FloatArray
    export_share: FloatArray

    def spread(self, import_wh: npt.ArrayLike, export_wh: npt.ArrayLike) -> FloatArray:
        """Net power in W of each bus: (slots,) Wh of the zone to (slots, buses)."""
        taken = np.asarray(import_wh, dtype=np.float64) * SLOTS_PER_HOUR
        given = np.asarray(export_wh, dtype=np.float64) * SLOTS_PER_HOUR
        return np.outer(taken, self.import_share) - np.outer(given, self.export_share)


@dataclass(frozen=True)
class BatteryWindow:
    """A run of slots at one power: positive charges, negative discharges, in W."""

    first_slot: int
    slots: int
    power_w: int


@dataclass(frozen=True)
class Assessment:
    """What a schedule does to the grid in one scenario: before is without it, after with it."""

    scenario: str
    slots_over_before: int
    slots_over_after: int
    voltage_max_before: float
    voltage_max_after: float
    voltage_max_bus: int
    voltage_min_before: float
    voltage_min_after: float
    transformer_loading_before: float
    transformer_loading_after: float
    line_loading_before: float
    line_loading_after: float
    charged_wh: int
    discharged_wh: int
    summary: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Plan:
    """Windows for one UTC day (none where nothing is to be mended) and what they do.

    assessment: in the first scenario, the one at risk; assessments: in every scenario.
    """

    first_slot: int
    windows: tuple[BatteryWindow, ...]
    assessments: tuple[Assessment, ...]

    @property
    def assessment(self) -> Assessment:
        return self.assessments[0]


@dataclass(frozen=True)
class Scenario:
    """One course the day may take: net power per bus, (slots, buses) W, and how likely it is."""

    name: str
    weight: float
    net_w: FloatArray


@dataclass(frozen=True)
class _Course:
    """A scenario's power flow: without the battery, at full charge, at full discharge."""

    scenario: Scenario
    before: GridResult
    charging: GridResult
    giving: GridResult


def standard_shares(homes: Sequence[HasPlace]) -> Shares:
    """Shares from what is public about homes. Raises BadUse where no home has any load."""
    buses = np.array(sorted({int(home.bus) for home in homes}), dtype=np.int64)
    column = {int(bus): at for at, bus in enumerate(buses)}
    load = np.zeros(buses.size)
    solar = np.zeros(buses.size)
    for home in homes:
        load[column[int(home.bus)]] += home.annual_load_kwh
        solar[column[int(home.bus)]] += home.solar_wp
    if load.sum() <= 0.0:
        raise BadUse("no home of the zone has any yearly load")
    return Shares(buses, load / load.sum(), solar / solar.sum() if solar.sum() > 0.0 else solar)


def schedule_of(windows: Sequence[BatteryWindow], first_slot: int, slots: int) -> IntArray:
    """Power per slot in W, zero outside the windows: (slots,) int64."""
    power = np.zeros(slots, dtype=np.int64)
    for window in windows:
        begin = max(0, window.first_slot - first_slot)
        end = max(0, window.first_slot + window.slots - first_slot)
        power[begin:end] = window.power_w
    return power


def follow(
    battery: BatterySpec, power_w: npt.ArrayLike, stored_wh: int = 0
) -> tuple[IntArray, IntArray]:
    """What a battery really does with a schedule: power in W and energy held in Wh after each slot.

    It stops charging when full and discharging when empty, and never exceeds its power.
    """
    asked = np.asarray(power_w, dtype=np.int64)
    done = np.zeros_like(asked)
    held = np.zeros_like(asked)
    level = stored_wh * 1000  # in mWh, so that rounding never creates energy
    for at, power in enumerate(asked.tolist()):
        power = max(-battery.max_power_w, min(battery.max_power_w, power))
        if power > 0:
            room = battery.capacity_wh * 1000 - level
            power = min(power, room * SLOTS_PER_HOUR // battery.efficiency_permille)
            level += power * battery.efficiency_permille // SLOTS_PER_HOUR
        elif power < 0:
            power = -min(-power, level * SLOTS_PER_HOUR // 1000)
            level -= -power * 1000 // SLOTS_PER_HOUR
        done[at] = power
        held[at] = level // 1000
    return done, held


def assess(
    grid: ZoneGrid,
    net_w: npt.ArrayLike,
    buses: Sequence[int] | IntArray,
    battery: BatterySpec,
    windows: Sequence[BatteryWindow],
    first_slot: int,
    *,
    limits: GridLimits | None = None,
    scenario: str = "measured",
    stored_wh: int = 0,
) -> Assessment:
    """Power flow without and with the schedule. net_w: (slots, homes) W from first_slot on."""
    bound = limits or GridLimits()
    net = np.asarray(net_w, dtype=np.float64)
    power, _ = follow(battery, schedule_of(windows, first_slot, net.shape[0]), stored_wh)
    before = grid.states(net, buses, limits=bound)
    after = grid.states(net, buses, battery_w=power, battery=battery, limits=bound)
    return _assessment(scenario, first_slot, before, after, power, windows, bound)


def scenarios_of(forecast: DayForecast, shares: Shares) -> tuple[Scenario, ...]:
    """The courses a schedule is judged by, the risky one first.

    A quantile of every slot at once is more extreme than any real day: the two outer courses stand
    for a third of the days each, with one half way between sunny and median.
    """
    sunny = shares.spread(*forecast.scenario("high_export"))
    median = shares.spread(*forecast.scenario("median"))
    dull = shares.spread(*forecast.scenario("high_load"))
    return (
        Scenario("high_export", 0.3, sunny),
        Scenario("above_median_export", 0.4, (sunny + median) / 2.0),
        Scenario("median", 0.3, median),
        # Not there to be mended for, but a schedule may not overload a dull day either.
        Scenario("high_load", 0.05, dull),
    )


def plan_day(
    forecast: DayForecast,
    grid: ZoneGrid,
    shares: Shares,
    battery: BatterySpec,
    *,
    limits: GridLimits | None = None,
    stored_wh: int = 0,
) -> Plan:
    """The smallest schedule that mends the forecast day: see `plan`."""
    return plan(
        scenarios_of(forecast, shares),
        shares.buses,
        forecast.first_slot,
        grid,
        battery,
        limits=limits,
        stored_wh=stored_wh,
    )


def plan(
    scenarios: Sequence[Scenario],
    buses: IntArray,
    first_slot: int,
    grid: ZoneGrid,
    battery: BatterySpec,
    *,
    limits: GridLimits | None = None,
    stored_wh: int = 0,
) -> Plan:
    """The smallest schedule for one UTC day, or a part of it, over all scenarios.

    First as few slots over the limit as possible, weighed by the scenarios' likelihood, then as
    little energy as possible. The battery begins with stored_wh and gives everything back the same
    day, in hours in which no scenario is near a limit. No slot that keeps its limits may lose them.
    At most 16 windows; none where no scenario breaks a limit.
    """
    bound = limits or GridLimits()
    if not scenarios:
        raise BadUse("a schedule needs at least one scenario")
    slots = scenarios[0].net_w.shape[0]
    if not 0 < slots <= SLOTS_PER_DAY or first_slot % SLOTS_PER_DAY + slots > SLOTS_PER_DAY:
        raise BadUse("a battery schedule is planned within one UTC day")
    full = np.full(slots, float(battery.max_power_w))
    courses = []
    for scenario in scenarios:
        net = scenario.net_w
        courses.append(
            _Course(
                scenario,
                grid.states(net, buses, limits=bound),
                grid.states(net, buses, battery_w=full, battery=battery, limits=bound),
                grid.states(net, buses, battery_w=-full, battery=battery, limits=bound),
            )
        )

    def judged(power: IntArray, windows: tuple[BatteryWindow, ...]) -> tuple[Plan, float, int]:
        done, _ = follow(battery, power, stored_wh)
        found = []
        cost = 0.0
        most = 0
        for course in courses:
            after = course.before
            if done.any():
                after = grid.states(
                    course.scenario.net_w, buses, battery_w=done, battery=battery, limits=bound
                )
            cost += course.scenario.weight * after.slots_over_limit
            most = max(most, after.slots_over_limit)
            found.append(
                _assessment(
                    course.scenario.name, first_slot, course.before, after, done, windows, bound
                )
            )
        return Plan(first_slot, windows, tuple(found)), cost, most

    best, least, most = judged(np.zeros(slots, dtype=np.int64), ())
    for attempt in range(_ATTEMPTS):
        if most == 0:
            break
        for hours in (1, 2):
            power, hoped = _solve(
                courses, battery, bound, attempt * _MARGIN_STEP, hours * SLOTS_PER_HOUR, stored_wh
            )
            windows = _windows(power, first_slot)
            if len(windows) <= MAX_WINDOWS:
                break
        found, cost, most = judged(power, windows)
        if cost < least - 1e-9:
            best, least = found, cost
        if cost <= hoped + 1e-9:
            break  # the power flow confirms every slot the programme took for mended
    return best


def _measures(
    course: _Course, bound: GridLimits, margin: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """What must stay at or below zero in each slot, and what full power does to it.

    Each (slots, measures): voltages at the buses that are highest in any of the three power flows,
    the lowest voltage, transformer and line loading; all in pu of their limit.
    """
    flows = (course.before, course.charging, course.giving)
    # The bus that becomes the highest half way belongs in the picture too.
    halfway = ((course.before.voltages + course.charging.voltages) / 2.0).argmax(axis=1)
    columns = np.unique(
        np.concatenate([flow.voltages.argmax(axis=1) for flow in flows] + [halfway])
    )

    def table(result: GridResult) -> FloatArray:
        return np.column_stack(
            [
                result.voltages[:, columns] - (bound.voltage_max - margin),
                (bound.voltage_min + margin) - result.voltage_min[:, None],
                (result.transformer_loading[:, None] - bound.loading_max) / 100.0,
                (result.line_loading[:, None] - bound.loading_max) / 100.0,
            ]
        )

    base = table(course.before)
    return base, table(course.charging) - base, table(course.giving) - base


def _solve(
    courses: Sequence[_Course],
    battery: BatterySpec,
    bound: GridLimits,
    margin: float,
    block: int,
    stored_wh: int,
) -> tuple[IntArray, float]:
    """Power per slot in W, constant per block, and the weighed number of slots expected to stay.

    Unknowns per block h, as shares of full power: charge c and discharge d; per scenario and slot
    over the limit: the excess e that stays. Counting slots needs whole numbers; the usual way
    around them is a few linear programmes, each weighing an excess by the inverse of what the one
    before left of it (Candes, Wakin and Boyd 2008), which leaves few slots instead of small rests.
    A block either charges or discharges, decided beforehand: energy must not be burnt to make room.
    """
    from scipy import sparse
    from scipy.optimize import linprog

    slots = courses[0].before.voltage_max.size
    blocks = math.ceil(slots / block)
    block_of = np.arange(slots) // block
    length = np.bincount(block_of, minlength=blocks) / SLOTS_PER_HOUR  # hours
    power = float(battery.max_power_w)
    efficiency = battery.efficiency_permille / 1000.0
    may_charge = np.zeros(blocks)
    overloaded = np.zeros(blocks, dtype=bool)
    weights: list[float] = []
    rows: list[tuple[dict[int, float], float]] = []  # coefficients, upper bound
    for course in courses:
        base, up, down = (_VOLTAGE_SCALE * part for part in _measures(course, bound, margin))
        for slot in range(slots):
            h = int(block_of[slot])
            stays = -1
            if course.before.over_limit[slot]:
                stays = 2 * blocks + len(weights)
                weights.append(course.scenario.weight)
            if course.before.voltage_max[slot] > bound.voltage_max - _GIVING_DISTANCE:
                may_charge[h] = 1.0
            elif stays >= 0:
                overloaded[h] = True  # by too much load: energy has to be there before
            for at in range(base.shape[1]):
                worst = base[slot, at] + max(0.0, up[slot, at], down[slot, at])
                if worst <= 0.0:
                    continue  # no power of the battery can break this one
                row = {h: float(up[slot, at]), blocks + h: float(down[slot, at])}
                limit = -float(base[slot, at])
                if stays >= 0:
                    row[stays] = -1.0
                else:
                    # Inside the limit but within the margin, it only has to get no worse.
                    limit = max(0.0, limit)
                rows.append((row, limit))
    size = 2 * blocks + len(weights)
    charge_share = efficiency * power * length / battery.capacity_wh
    give_share = power * length / battery.capacity_wh
    stored = stored_wh / battery.capacity_wh
    for h in range(blocks):
        held: dict[int, float] = {}
        for k in range(h + 1):
            held[k] = float(charge_share[k])
            held[blocks + k] = -float(give_share[k])
        rows.append((held, 1.0 - stored))
        rows.append(({column: -value for column, value in held.items()}, stored))
    matrix = sparse.lil_matrix((len(rows), size))
    for number, (row, _) in enumerate(rows):
        for column, value in row.items():
            matrix[number, column] = value

    demand = sum(course.scenario.weight * course.scenario.net_w.sum(axis=1) for course in courses)
    # A mended slot outweighs any energy; leftover energy at the end of the day costs more than
    # discharging it ever does; what is given back goes where the zone draws most.
    day_demand = np.bincount(block_of, weights=demand, minlength=blocks) / np.maximum(
        np.bincount(block_of, minlength=blocks), 1
    )
    rank = np.argsort(np.argsort(-day_demand, kind="stable"), kind="stable") / blocks
    if overloaded.any():
        quiet = ~overloaded & (day_demand <= np.median(day_demand))
        may_charge = np.maximum(may_charge, quiet.astype(np.float64))
    cost = np.zeros(size)
    cost[:blocks] = 0.3 * charge_share
    cost[blocks : 2 * blocks] = -0.2 * give_share * (1.0 - 0.2 * rank)
    upper = np.ones(size)
    upper[2 * blocks :] = np.inf
    upper[:blocks] = may_charge
    upper[blocks : 2 * blocks] = 1.0 - may_charge
    limits = np.array([limit for _, limit in rows])
    table = matrix.tocsr()
    likelihood = np.array(weights)
    cost[2 * blocks :] = likelihood
    solution = np.zeros(size)
    for _ in range(_REWEIGHTINGS):
        result = linprog(
            cost, table, limits, bounds=np.column_stack([np.zeros(size), upper]), method="highs-ds"
        )
        if result.x is None:
            raise CheckFailed(f"no battery schedule found: {result.message}")
        solution = result.x
        # What is left over the limit now counts for its slot, not for its size.
        cost[2 * blocks :] = likelihood / (solution[2 * blocks :] + _REWEIGHT_FLOOR)
    hoped = float((solution[2 * blocks :] > 1e-6) @ likelihood)
    charge = solution[:blocks] * power
    give = solution[blocks : 2 * blocks] * power
    # Charging is rounded up (it is what mends), discharging down to what is then stored.
    charge = np.minimum(np.ceil(charge / _POWER_STEP_W - 1e-6) * _POWER_STEP_W, power)
    charge = np.where(charge >= 2 * _POWER_STEP_W, charge, 0.0)
    give = np.where(charge > 0.0, 0.0, np.floor(give / _POWER_STEP_W + 1e-6) * _POWER_STEP_W)
    return np.asarray((charge - give)[block_of], dtype=np.int64), hoped


def _windows(power: IntArray, first_slot: int) -> tuple[BatteryWindow, ...]:
    windows: list[BatteryWindow] = []
    edges = np.flatnonzero(np.diff(power)) + 1
    for begin, end in zip([0, *edges.tolist()], [*edges.tolist(), power.size], strict=True):
        if power[begin] != 0:
            windows.append(BatteryWindow(first_slot + begin, end - begin, int(power[begin])))
    return tuple(windows)


def _assessment(
    scenario: str,
    first_slot: int,
    before: GridResult,
    after: GridResult,
    power: IntArray,
    windows: Sequence[BatteryWindow],
    bound: GridLimits,
) -> Assessment:
    worst = int(before.voltage_max.argmax())
    charged = int(power[power > 0].sum()) // SLOTS_PER_HOUR
    given = int(-power[power < 0].sum()) // SLOTS_PER_HOUR
    return Assessment(
        scenario=scenario,
        slots_over_before=before.slots_over_limit,
        slots_over_after=after.slots_over_limit,
        voltage_max_before=float(before.voltage_max.max()),
        voltage_max_after=float(after.voltage_max.max()),
        voltage_max_bus=int(before.voltage_max_bus[worst]),
        voltage_min_before=float(before.voltage_min.min()),
        voltage_min_after=float(after.voltage_min.min()),
        transformer_loading_before=float(before.transformer_loading.max()),
        transformer_loading_after=float(after.transformer_loading.max()),
        line_loading_before=float(before.line_loading.max()),
        line_loading_after=float(after.line_loading.max()),
        charged_wh=charged,
        discharged_wh=given,
        summary=_summary(first_slot, before, after, charged, given, windows, bound),
    )


def _summary(
    first_slot: int,
    before: GridResult,
    after: GridResult,
    charged: int,
    given: int,
    windows: Sequence[BatteryWindow],
    bound: GridLimits,
) -> str:
    day = day_of(first_slot).isoformat()
    if before.slots_over_limit == 0:
        return f"On {day} every limit of the grid is kept; nothing needs to be done."
    causes = []
    if before.voltage_max.max() > bound.voltage_max:
        bus = int(before.voltage_max_bus[int(before.voltage_max.argmax())])
        causes.append(
            f"the voltage rises to {before.voltage_max.max():.3f} pu at bus {bus} "
            f"(limit {bound.voltage_max:.3f})"
        )
    if before.voltage_min.min() < bound.voltage_min:
        causes.append(
            f"the voltage falls to {before.voltage_min.min():.3f} pu "
            f"(limit {bound.voltage_min:.3f})"
        )
    if before.transformer_loading.max() > bound.loading_max:
        causes.append(f"the transformer is loaded to {before.transformer_loading.max():.0f} %")
    if before.line_loading.max() > bound.loading_max:
        causes.append(f"a line is loaded to {before.line_loading.max():.0f} %")
    first = (
        f"On {day} the grid is outside its limits for {before.slots_over_limit} quarter-hours: "
        f"{' and '.join(causes)}."
    )
    charging = [window for window in windows if window.power_w > 0]
    if not charging:
        return f"{first} No schedule of the community battery can mend this."
    begin = slot_start(charging[0].first_slot).strftime("%H:%M")
    end = slot_start(charging[-1].first_slot + charging[-1].slots).strftime("%H:%M")
    peak = max(window.power_w for window in charging) / 1000.0
    second = (
        f"Between {begin} and {end} UTC the community battery would take in "
        f"{charged / 1000:.0f} kWh with up to {peak:.1f} kW, and give {given / 1000:.0f} kWh back "
        "when the neighbourhood draws most."
    )
    left = after.slots_over_limit
    third = (
        f"That leaves {left or 'no'} quarter-hour{'' if left == 1 else 's'} outside the limits, "
        f"with at most {after.voltage_max.max():.3f} pu."
    )
    return f"{first} {second} {third}"
