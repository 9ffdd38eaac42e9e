# SPDX-License-Identifier: Apache-2.0
"""What windows in any proposal would do to grid and bill: the hook of `dao.governance.simulate`.

The simulation runs a proposal's calls on a fork of the chain and asks here with the chain before
and after. What is compared are the windows that are then in force on the forecast's day, whoever
proposed them and however they were encoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dao.chain import ContractReverted
from dao.governance.simulate import Effect, Moment
from dao.parameters import COMMUNITY_BATTERY, KEYS
from dao.slots import SLOTS_PER_DAY
from dao.tariffs import Tariffs
from forecasting.balancing.actions import (
    CHARGE_POINTS,
    HOME_BATTERIES,
    NO_CAP_W,
    PRICE_KEYS,
    Flexibility,
    Window,
    charging_change,
    community_store,
    home_store,
    price_response,
    schedule_of,
)
from forecasting.balancing.bill import Bill, bill_lines
from forecasting.balancing.confirm import Bench, Change, change_of
from forecasting.balancing.prices import PriceRules
from forecasting.balancing.risk import risk_of
from forecasting.balancing.scenarios import Scenario
from forecasting.grid import BatterySpec, GridLimits, IntArray, ZoneGrid

WINDOW_KEYS = (COMMUNITY_BATTERY, CHARGE_POINTS, HOME_BATTERIES, *PRICE_KEYS)


@dataclass(frozen=True, eq=False)
class Setting:
    """A zone and a forecast day: everything public that effects are computed from.

    zone: its number on chain. scenarios, buses: the day's courses. stored_wh: what the community
    battery holds when the day begins. homes: how many share the bill.
    """

    zone: int
    first_slot: int
    grid: ZoneGrid
    scenarios: Sequence[Scenario]
    buses: IntArray
    homes: int
    battery: BatterySpec | None = None
    stored_wh: int = 0
    flexibility: Flexibility = field(default_factory=Flexibility)
    prices: PriceRules | None = None
    tariffs: Tariffs = field(default_factory=Tariffs)
    limits: GridLimits = field(default_factory=GridLimits)


def effects_of(setting: Setting) -> dict[str, Effect]:
    """The effects "grid" and "bill", ready for `dao.governance.simulate.simulate(effects=...)`.

    Each is JSON with the day before and after the calls; "grid" also tells the answer to prices,
    which its own figures leave out.
    """
    bench = Bench(setting.grid, setting.scenarios, setting.buses, setting.limits)

    def grid_effect(before: Moment, after: Moment) -> Any:
        found: dict[str, Any] = {"first_slot": setting.first_slot}
        for name, moment in (("before", before), ("after", after)):
            windows = _windows(moment, setting)
            changes, _, answered = changes_under(bench, setting, windows)
            risk = risk_of(bench.flow(changes), bench.weights, setting.limits)
            found[name] = _short(risk.as_dict())
            if answered is not None and setting.prices is not None:
                flow = bench.flow([*changes, answered])
                risk = risk_of(flow, bench.weights, setting.limits)
                found[f"{name}_if_people_answer"] = {
                    "elasticity": setting.prices.elasticity,
                    **_short(risk.as_dict()),
                }
        return found

    def bill_effect(before: Moment, after: Moment) -> Any:
        found = {}
        for name, moment in (("before", before), ("after", after)):
            windows = _windows(moment, setting)
            _, power, _ = changes_under(bench, setting, windows)
            kept = 0
            if setting.battery is not None and COMMUNITY_BATTERY in power:
                store = community_store(setting.battery, setting.stored_wh, bench.slots)
                kept = int(store.follow(power[COMMUNITY_BATTERY])[1][-1]) - setting.stored_wh
            fee = setting.prices.fee.value if setting.prices is not None else 0
            lines = bill_lines(
                power,
                kept,
                windows.get(KEYS["grid_fee"], ()),
                setting.first_slot,
                bench.weights @ bench.drawn_w / 4.0,
                setting.homes,
                setting.tariffs,
                fee,
            )
            found[name] = Bill(setting.homes, lines).as_dict()
        return found

    return {"grid": grid_effect, "bill": bill_effect}


def _windows(moment: Moment, setting: Setting) -> dict[int, tuple[Window, ...]]:
    """The windows in force on the day at that moment, by key; a key without any is left out."""
    found = {}
    for key in WINDOW_KEYS:
        try:
            rows = moment.call(
                "GridParameters", "windows_of", setting.zone, key, setting.first_slot
            )
        except ContractReverted:
            continue  # a deployment need not know every key
        windows = tuple(
            Window(int(row["first_slot"]), int(row["slots"]), int(row["value"])) for row in rows
        )
        if windows:
            found[key] = tuple(sorted(windows, key=lambda window: window.first_slot))
    return found


def changes_under(
    bench: Bench, setting: Setting, windows: dict[int, tuple[Window, ...]]
) -> tuple[list[Change], dict[int, IntArray], Change | None]:
    """What devices do under the windows, their power per key, and people's answer to prices."""
    changes: list[Change] = []
    power: dict[int, IntArray] = {}
    batteries = setting.flexibility.home_batteries
    stores = [
        None
        if setting.battery is None
        else community_store(setting.battery, setting.stored_wh, bench.slots),
        home_store(batteries, bench.expected_at(batteries)),
    ]
    for store in stores:
        if store is None or store.key not in windows:
            continue
        values = schedule_of(windows[store.key], setting.first_slot, bench.slots, store.rest)
        done, _ = store.follow(store.departure_of(values))
        power[store.key] = done
        changes.append(change_of(store, done))
    points = setting.flexibility.charge_points
    if points and CHARGE_POINTS in windows:
        caps = schedule_of(windows[CHARGE_POINTS], setting.first_slot, bench.slots, NO_CAP_W)
        moved = charging_change(setting.flexibility, caps, setting.first_slot)
        rated = float(sum(point.rated_w for point in points))
        power[CHARGE_POINTS] = np.rint(moved).astype(np.int64)
        parts = tuple(point.rated_w / rated for point in points)
        changes.append(Change(moved, tuple(point.bus for point in points), parts))
    return changes, power, _answer(bench, setting, windows)


def _answer(
    bench: Bench, setting: Setting, windows: dict[int, tuple[Window, ...]]
) -> Change | None:
    rules = setting.prices
    keys = (KEYS["grid_fee"], KEYS["price_band_min"], KEYS["price_band_max"])
    if rules is None or not any(key in windows for key in keys):
        return None

    def values(key: int, rest: int) -> IntArray:
        return schedule_of(windows.get(key, ()), setting.first_slot, SLOTS_PER_DAY, rest)

    market = np.full(SLOTS_PER_DAY, rules.market_price)
    market = np.maximum(market, values(keys[1], rules.band_min.value))
    market = np.minimum(market, values(keys[2], rules.band_max.value))
    paid = market + values(keys[0], rules.fee.value)
    more = np.zeros(bench.drawn_w.shape)
    before = rules.market_price + rules.fee.value
    for slot in np.flatnonzero(paid != before).tolist():
        more[:, slot] = price_response(
            bench.drawn_w[:, slot], before, max(1, int(paid[slot])), rules.elasticity
        )
    shares = rules.shares
    used = shares.import_share > 0.0
    return Change(
        more,
        tuple(int(bus) for bus in shares.buses[used]),
        tuple(float(part) for part in shares.import_share[used]),
    )


def _short(risk: dict[str, Any]) -> dict[str, Any]:
    """Without the slots: a record on chain's side is for reading, the chart has them."""
    for limit in risk["limits"].values():
        del limit["probability_per_slot"], limit["expected_excess_per_slot"]
    return risk
