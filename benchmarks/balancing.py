# SPDX-License-Identifier: Apache-2.0
"""Hours over the limit with and without the balancer's plans, over weeks in which limits break.

Each evening at 18:00 the forecaster knows the published totals so far and no more; the balancer
plans the next day from its forecast; the devices then do what their energy allows on SimBench's
own profiles (`balancing_street`); and the power flow of every home's measured power judges. The
same is done with the forecast's median as the only course, so the value of the scenarios is seen.
No people answer to any price here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import date

import numpy as np

from benchmarks.balancing_street import Street
from benchmarks.results import Number, Result
from dao.parameters import COMMUNITY_BATTERY
from dao.paths import cache_dir
from dao.slots import SLOTS_PER_DAY, first_slot_of_day
from dao.tariffs import Tariffs
from forecasting.balancing import (
    CHARGE_POINTS,
    DEMO_BATTERY,
    HOME_BATTERIES,
    NO_CAP_W,
    Flexibility,
    Plan,
    courses_of,
    median_of,
    plan,
    schedule_of,
    standard_shares,
)
from forecasting.balancing.actions import NOT_CALLED, community_store
from forecasting.balancing.flexibility import flexibility_of
from forecasting.grid import BatterySpec, IntArray, load_grid
from forecasting.zone import DayForecast, ZoneTotals, forecast_zone_day, without_battery
from meters.profiles import zone_profiles
from meters.simbench import load_grid as load_elements

HISTORY_DAYS = 56
DAYS = 28
# The forecast is made at 18:00 with the totals up to then.
KNOWN_BEFORE = 24


@dataclass(frozen=True)
class Weeks:
    """Four weeks of a zone. name: in the figures."""

    name: str
    code: str
    first: date
    battery: BatterySpec | None
    """None for one at the transformer's busbar, as large as the first rules allow."""


WEEKS = (
    Weeks("tuned", "1-LV-rural3--2-sw", date(2016, 5, 16), DEMO_BATTERY),
    Weeks("unseen", "1-LV-rural3--2-sw", date(2016, 7, 4), DEMO_BATTERY),
    # Another zone, its battery as large as the demo's, at the three feeder ends whose voltage was
    # highest in the eight weeks before.
    Weeks(
        "rural2",
        "1-LV-rural2--2-sw",
        date(2016, 7, 4),
        BatterySpec((80, 3, 25), DEMO_BATTERY.capacity_wh, DEMO_BATTERY.max_power_w),
    ),
    # Thirteen homes whose roofs overload the transformer to more than twice its rating: too few to
    # publish totals of, and here only to show that nothing hangs on the demo zone.
    Weeks("rural1", "1-LV-rural1--2-sw", date(2016, 5, 16), None),
)
_LARGEST_W, _LARGEST_WH = 150_000, 900_000


@dataclass
class Outcome:
    """Sums over days. Slots over a limit, Wh, µ€."""

    without: int = 0
    over: int = 0
    worse_days: int = 0
    taken_wh: int = 0
    given_wh: int = 0
    called_slots: int = 0
    capped_slots: int = 0
    homes_cost: int = 0
    expected_before: float = 0.0
    expected_after: float = 0.0
    slowest_s: float = 0.0
    days: list[tuple[int, int]] = field(default_factory=list)


class Case:
    """One zone over its weeks, ready to be run with one way of planning or another."""

    def __init__(self, weeks: Weeks) -> None:
        self.first_slot = first_slot_of_day(weeks.first)
        self.history_slot = self.first_slot - HISTORY_DAYS * SLOTS_PER_DAY
        self.profiles = zone_profiles(
            weeks.code,
            self.history_slot,
            (HISTORY_DAYS + DAYS) * SLOTS_PER_DAY,
            1,
            cache_dir(),
        )
        self.grid = load_grid(weeks.code, cache_dir())
        elements = load_elements(weeks.code, cache_dir())
        self.flexibility = flexibility_of(elements, self.profiles.homes)
        self.street = Street(elements, self.profiles)
        self.shares = standard_shares(self.profiles.homes)
        self.buses = [home.bus for home in self.profiles.homes]
        self.battery = weeks.battery or BatterySpec((self.grid.low_bus,), _LARGEST_WH, _LARGEST_W)
        self._forecasts: dict[tuple[int, bytes], DayForecast] = {}

    def run(
        self, *, scenarios: bool, called: bool, community: bool = True, days: int = DAYS
    ) -> Outcome:
        """Live through the days: forecast, plan, do, measure."""
        flexibility = self.flexibility if called else Flexibility()
        battery = self.battery if community else None
        done = Outcome()
        levels = self.street.levels()
        # The batteries settle into the season before anybody calls them.
        before = self.first_slot - 7 * SLOTS_PER_DAY
        self.street.own_programme_w(before, 7 * SLOTS_PER_DAY, levels)
        levels.called[:] = levels.own
        net = self.profiles.import_wh.astype(np.int64) - self.profiles.export_wh
        rows: list[list[int]] = []
        stored = 0
        for day in range(days):
            at = self.first_slot + day * SLOTS_PER_DAY
            known = at - KNOWN_BEFORE - self.history_slot
            published = ZoneTotals(
                self.history_slot,
                np.asarray(net[:known].sum(axis=1)),
                np.asarray(np.maximum(-net[:known], 0).sum(axis=1)),
            )
            history = without_battery(published, _possible(rows, published))
            forecast = self._forecast(history, at)
            began = time.process_time()
            courses = courses_of(forecast, history) if scenarios else median_of(forecast)
            found = plan(
                courses.spread(self.shares),
                self.shares.buses,
                at,
                self.grid,
                battery,
                flexibility=flexibility,
                stored_wh=stored,
            )
            done.slowest_s = max(done.slowest_s, time.process_time() - began)
            permille, caps = _orders(found, at)
            change = self.street.day(at, permille, caps, levels)
            rows += _public_rows(found, at)
            begin = at - self.history_slot
            part = slice(begin, begin + SLOTS_PER_DAY)
            measured = net[part] * 4.0
            wanted = schedule_of(found.windows(COMMUNITY_BATTERY), at, SLOTS_PER_DAY)
            power = np.zeros(SLOTS_PER_DAY, dtype=np.int64)
            if battery is not None:
                power, level = community_store(battery, stored, SLOTS_PER_DAY).follow(wanted)
                stored = int(level[-1])
            rest = self.grid.states(measured, self.buses).slots_over_limit
            acted = self.grid.states(
                measured + change, self.buses, battery_w=power, battery=self.battery
            ).slots_over_limit
            # From here on the meters have shown the called devices too.
            net[part] = np.rint((measured + change) / 4.0).astype(np.int64)
            _add(done, found, rest, acted, power, permille, caps)
            bill = _bill(measured / 4.0, net[part], Tariffs())
            done.homes_cost += int(bill.sum())
        return done

    def _forecast(self, history: ZoneTotals, day: int) -> DayForecast:
        """Two ways of planning often see the same totals: each forecast is made once."""
        key = (day, history.net_wh.tobytes() + history.export_wh.tobytes())
        if key not in self._forecasts:
            self._forecasts[key] = forecast_zone_day(history, day)
        return self._forecasts[key]


def _orders(found: Plan, at: int) -> tuple[IntArray, IntArray]:
    permille = schedule_of(found.windows(HOME_BATTERIES), at, SLOTS_PER_DAY, rest=NOT_CALLED)
    caps = schedule_of(found.windows(CHARGE_POINTS), at, SLOTS_PER_DAY, rest=NO_CAP_W)
    return permille, caps


def _public_rows(found: Plan, at: int) -> list[list[int]]:
    """What the called home batteries did by plan, as rows that `without_battery` takes out again.

    In the sun they lower an export and at night they make one, so all of it is export.
    """
    power = found.power_w.get(HOME_BATTERIES)
    if power is None:
        return []
    return [[at + k, 0, -int(power[k]) // 4] for k in range(SLOTS_PER_DAY) if power[k]]


def _possible(rows: list[list[int]], published: ZoneTotals) -> list[list[int]]:
    """Only as much export as there was can be taken out: what homes kept is not public."""
    found = []
    for slot, taken, given in rows:
        at = slot - published.first_slot
        if at < published.export_wh.size:
            found.append([slot, taken, min(given, int(published.export_wh[at]))])
    return found


def _add(
    done: Outcome,
    found: Plan,
    rest: int,
    acted: int,
    power: IntArray,
    permille: IntArray,
    caps: IntArray,
) -> None:
    done.without += rest
    done.over += acted
    done.worse_days += acted > rest
    done.days.append((rest, acted))
    done.taken_wh += int(power[power > 0].sum()) // 4
    done.given_wh += int(-power[power < 0].sum()) // 4
    done.called_slots += int((permille != NOT_CALLED).sum())
    done.capped_slots += int((caps != NO_CAP_W).sum())
    done.expected_before += found.before.expected
    done.expected_after += found.after.expected


def _bill(before: np.ndarray, after: np.ndarray, tariffs: Tariffs) -> IntArray:
    """How much more each home pays, µ€: retail for what it draws, feed-in for what it gives."""

    def cost(net: np.ndarray) -> np.ndarray:
        return np.where(net > 0, net * tariffs.retail, net * tariffs.feed_in)

    return np.rint((cost(after) - cost(before)).sum(axis=0)).astype(np.int64)


def run() -> Result:
    """Hours over the limit of every case, and what it took."""
    figures: dict[str, Number] = {}
    peers: dict[str, Number] = {}
    ratios: dict[str, Number] = {}
    notes: dict[str, str] = {}
    for weeks in WEEKS:
        case = Case(weeks)
        planned = case.run(scenarios=True, called=True)
        homes = case.run(scenarios=True, called=True, community=False)
        median = case.run(scenarios=False, called=True)
        name = f"balancing.{weeks.name}"
        loss = planned.taken_wh - planned.given_wh
        figures |= {
            f"{name}_hours_without": planned.without / 4,
            f"{name}_hours_with": planned.over / 4,
            f"{name}_hours_called_devices_alone": homes.over / 4,
            f"{name}_called_devices_alone_cost_eur": homes.homes_cost / 1e6,
            f"{name}_hours_foreseen_without": planned.expected_before / 4,
            f"{name}_hours_foreseen_with": planned.expected_after / 4,
            f"{name}_community_battery_loss_kwh": loss / 1000,
            f"{name}_community_battery_cost_eur": loss * Tariffs().feed_in / 1e6,
            f"{name}_called_homes_cost_eur": planned.homes_cost / 1e6,
            f"{name}_called_hours": planned.called_slots / 4,
            f"{name}_capped_hours": planned.capped_slots / 4,
            f"{name}_worse_days": planned.worse_days,
            f"{name}_slowest_plan_cpu_s": planned.slowest_s,
        }
        peers[f"{name}_hours_median_only"] = median.over / 4
        ratios[f"{name}_with_vs_without"] = planned.over / planned.without
        ratios[f"{name}_scenarios_vs_median"] = planned.over / max(1, median.over)
        notes |= {
            f"{name}_hours_without": f"{weeks.code}, {DAYS} days from {weeks.first}",
            f"{name}_hours_with": "batteries and charge points, no answer to any price",
            f"{name}_hours_called_devices_alone": "home batteries and charge points only",
            f"{name}_hours_foreseen_without": "expected by the plans' own courses",
            f"{name}_community_battery_cost_eur": "its losses at the feed-in tariff",
            f"{name}_called_homes_cost_eur": "what all homes pay more for called devices",
            f"{name}_hours_median_only": "planned on the forecast's median alone",
        }
    return Result(figures, peers, ratios, notes)
