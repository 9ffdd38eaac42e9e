# SPDX-License-Identifier: Apache-2.0
"""A day's plan: which actions, in which order of preference, and what the power flow says of them.

The community battery comes first: it obeys. Then devices that people let be called: home
batteries, charge points. Another price comes last, and only on top: a plan is judged as if nobody
answered to it. Each step starts from what the steps before it left, and is dropped where it mends
too little. Whether a plan comes into force is a matter of votes, not of this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dao.errors import BadUse
from dao.parameters import MARKET_RULES
from dao.slots import SLOTS_PER_DAY
from forecasting.balancing.actions import (
    CALLED_PART,
    Action,
    Flexibility,
    Store,
    Window,
    community_store,
    home_store,
    windows_of,
)
from forecasting.balancing.charging import cap_charge_points
from forecasting.balancing.confirm import Bench, Change, change_of
from forecasting.balancing.optimise import SLOT_WORTH_WH, answer_of, solve
from forecasting.balancing.prices import PriceRules, price_windows
from forecasting.balancing.risk import Risk, risk_of
from forecasting.balancing.scenarios import Scenario, courses_of
from forecasting.balancing.shares import SLOTS_PER_HOUR, Shares
from forecasting.grid import (
    BatterySpec,
    BoolArray,
    FloatArray,
    GridLimits,
    GridResult,
    IntArray,
    ZoneGrid,
)
from forecasting.zone import DayForecast, ZoneTotals

# As many slots of a day as are exempt from the score of its forecast, unless members change it.
EXEMPT_SLOTS = next(rule.initial for rule in MARKET_RULES if rule.name == "max_exempt_slots")
_ATTEMPTS = 3
_MARGIN_STEP = 0.0004  # pu; the linear picture is off by less than this on the demo zone
# So far (expected quarter-hours) the power flow may find more than the programme hoped for.
_CONFIRMED = 0.1
# Less than this (expected quarter-hours) is no reason to put the community battery to a vote.
WORTH_A_VOTE = 0.1
# A day with less than this expected (quarter-hours) bothers nobody's devices, and an action that
# mends less than that is not worth a vote.
TOLERATED = 0.5


@dataclass(frozen=True)
class Plan:
    """What is to be done on a day, and what it does in all courses.

    actions: none where nothing is to be mended. before, after: the day's risk without and with
    them, prices unanswered. with_prices: the same had people answered to the price windows; None
    without any. power_w: what each action's devices draw more than by themselves, per key, (slots,)
    W, as planned.
    stored_wh: what the community battery held at first, and then holds. net_wh, drawn_wh: what the
    zone is expected to draw net, and gross, per slot. flows: all courses without and with the
    actions.
    """

    first_slot: int
    slots: int
    actions: tuple[Action, ...]
    before: Risk
    after: Risk
    with_prices: Risk | None
    power_w: dict[int, IntArray]
    stored_wh: tuple[int, int]
    net_wh: FloatArray
    drawn_wh: FloatArray
    flows: tuple[GridResult, GridResult]

    def action(self, key: int) -> Action | None:
        """The action of a key, if there is one."""
        return next((action for action in self.actions if action.key == key), None)

    def windows(self, key: int) -> tuple[Window, ...]:
        """The windows of a key; none where it has no action."""
        found = self.action(key)
        return () if found is None else found.windows


@dataclass(frozen=True)
class _Step:
    """How far planning has come: the changes so far, their power flow, what is over in it, and
    which slots are used."""

    changes: list[Change]
    result: GridResult
    expected: float
    used: BoolArray


def plan_day(
    forecast: DayForecast,
    grid: ZoneGrid,
    shares: Shares,
    battery: BatterySpec | None,
    *,
    history: ZoneTotals | None = None,
    flexibility: Flexibility | None = None,
    prices: PriceRules | None = None,
    limits: GridLimits | None = None,
    stored_wh: int = 0,
    most_slots: int = EXEMPT_SLOTS,
) -> Plan:
    """The plan for a forecast day, from public inputs only: see `plan`.

    history: the totals behind the forecast, which its courses take their order from.
    """
    return plan(
        courses_of(forecast, history).spread(shares),
        shares.buses,
        forecast.first_slot,
        grid,
        battery,
        flexibility=flexibility,
        prices=prices,
        limits=limits,
        stored_wh=stored_wh,
        most_slots=most_slots,
    )


def plan(
    scenarios: Sequence[Scenario],
    buses: Sequence[int] | IntArray,
    first_slot: int,
    grid: ZoneGrid,
    battery: BatterySpec | None,
    *,
    flexibility: Flexibility | None = None,
    prices: PriceRules | None = None,
    limits: GridLimits | None = None,
    stored_wh: int = 0,
    most_slots: int = EXEMPT_SLOTS,
) -> Plan:
    """The smallest plan for one UTC day, or a part of it, over all scenarios.

    First as few quarter-hours over a limit as possible, weighed by the scenarios' likelihood, then
    as little energy as possible. No slot of any scenario that keeps its limits may lose them.
    battery, flexibility, prices: what may be used; None for not at all. stored_wh: what the
    battery holds when the first slot begins. most_slots: how many slots of the day batteries may
    use, unless that would mend less. Raises BadUse for what is no part of one UTC day.
    """
    bound = limits or GridLimits()
    bench = Bench(grid, scenarios, buses, bound)
    if (
        not 0 < bench.slots <= SLOTS_PER_DAY
        or first_slot % SLOTS_PER_DAY + bench.slots > SLOTS_PER_DAY
    ):
        raise BadUse("a balancing plan is made within one UTC day")
    flex = flexibility or Flexibility()
    rest = bench.flow()
    step = _Step([], rest, bench.expected_slots(rest), np.zeros(bench.slots, dtype=bool))
    actions: list[Action] = []
    power: dict[int, IntArray] = {}
    store = None if battery is None else community_store(battery, stored_wh, bench.slots)
    held = (stored_wh, stored_wh)
    if store is not None and step.expected > 0.0:
        found = _schedule(bench, store, step, most_slots)
        if found is not None and step.expected - found[1].expected >= WORTH_A_VOTE:
            values, step = found
            actions.append(Action(store.key, windows_of(values, first_slot)))
            power[store.key], level = store.follow(store.departure_of(values))
            held = (stored_wh, int(level[-1]))
    if flex.home_batteries and step.expected > TOLERATED:
        best = _call_homes(bench, flex, step, most_slots)
        if best is not None:
            called, values, step = best
            actions.append(Action(called.key, windows_of(values, first_slot, called.rest)))
            power[called.key], _ = called.follow(called.departure_of(values))
    if flex.charge_points and step.expected > TOLERATED:
        caps = cap_charge_points(bench, flex, step.changes, step.result, first_slot)
        if caps is not None:
            changes = [*step.changes, caps.change]
            result = bench.flow(changes)
            expected = bench.expected_slots(result)
            if step.expected - expected >= TOLERATED:
                step = _Step(changes, result, expected, step.used)
                actions.append(caps.action)
                power[caps.action.key] = np.rint(caps.change.power_w).astype(np.int64)
    after = risk_of(step.result, bench.weights, bound)
    with_prices = None
    if prices is not None and step.expected > TOLERATED:
        offer = price_windows(bench, prices, step.changes, step.result, first_slot)
        if offer is not None:
            answered = bench.flow([*step.changes, offer.change])
            if step.expected - bench.expected_slots(answered) >= TOLERATED:
                actions.append(offer.action)
                with_prices = risk_of(answered, bench.weights, bound)
    return Plan(
        first_slot=first_slot,
        slots=bench.slots,
        actions=tuple(actions),
        before=risk_of(rest, bench.weights, bound),
        after=after,
        with_prices=with_prices,
        power_w=power,
        stored_wh=held,
        net_wh=bench.weights @ bench.net_w / SLOTS_PER_HOUR,
        drawn_wh=bench.weights @ bench.drawn_w / SLOTS_PER_HOUR,
        flows=(rest, step.result),
    )


def _call_homes(
    bench: Bench, flex: Flexibility, step: _Step, most_slots: int
) -> tuple[Store, IntArray, _Step] | None:
    """The call to home batteries that is worth it; None where none is.

    Two are tried: holding back the morning's own charging, which costs their owners nothing, and
    taking energy out at night besides. What is taken out counts against what it mends.
    """
    expected = bench.expected_at(flex.home_batteries)
    best: tuple[Store, IntArray, _Step] | None = None
    least = step.expected - TOLERATED
    for called_part in (0.0, CALLED_PART):
        store = home_store(flex.home_batteries, expected, called_part)
        if store is None or not _reaches(bench, store, step):
            return None
        found = _schedule(bench, store, step, most_slots)
        if found is None:
            continue
        values, after = found
        departure, _ = store.follow(store.departure_of(values))
        given = -departure[(departure < 0) & (store.own_w <= 0.0)].sum() / SLOTS_PER_HOUR
        score = after.expected + given / SLOT_WORTH_WH
        if score < least:
            best, least = (store, values, after), score
    return best


def _schedule(
    bench: Bench, store: Store, step: _Step, most_slots: int
) -> tuple[IntArray, _Step] | None:
    """The best schedule of a store that the power flow confirms; None where none mends anything."""
    best: tuple[IntArray, _Step] | None = None
    least = step.expected - 1e-9
    answer = answer_of(bench, store, step.changes, step.result)
    for attempt in range(_ATTEMPTS):
        tightened = answer.tightened(attempt * _MARGIN_STEP)
        values, hoped = solve(bench, store, tightened, step.used, most_slots)
        done, _ = store.follow(store.departure_of(values))
        if not done.any():
            break
        changes = [*step.changes, change_of(store, done)]
        result = bench.flow(changes)
        expected = bench.expected_slots(result)
        if expected < least:
            used = step.used | (values != store.rest)
            best, least = (values, _Step(changes, result, expected, used)), expected - 1e-9
        if expected <= hoped + _CONFIRMED:
            break  # the power flow confirms what the programme took for mended
    return best


def _reaches(bench: Bench, store: Store, step: _Step) -> bool:
    """Whether the devices can move what is broken at all, by the power flow's derivative.

    Cheaper than planning them, and exact for small changes: at the row that is furthest over its
    voltage limit, all of them at full power have to move that bus by a fiftieth of a percent. A
    loading is moved by any power behind the transformer, so there the answer is yes.
    """
    result, limits = step.result, bench.limits
    over = np.flatnonzero(result.voltage_max > limits.voltage_max)
    under = np.flatnonzero(result.voltage_min < limits.voltage_min)
    if not over.size and not under.size:
        return True
    if over.size:
        row = int(over[result.voltage_max[over].argmax()])
        bus = result.voltage_max_bus[row]
    else:
        row = int(under[result.voltage_min[under].argmin()])
        bus = result.voltage_min_bus[row]
    columns = {int(one): at for at, one in enumerate(bench.grid.buses)}
    change = bench.grid.sensitivity(*bench.state(row))[columns[int(bus)]]
    moved = sum(
        part * change[columns[int(one)]] for one, part in zip(store.buses, store.parts, strict=True)
    )
    return abs(float(moved)) * store.max_power_w / 1000.0 > 0.0002
