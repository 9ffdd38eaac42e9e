# SPDX-License-Identifier: Apache-2.0
"""The zone that the balancing commands are about: its grid, its homes, and what stands in it.

Shared by `gridcommons balance` and `gridcommons dao simulate`. All of it public but `readings`,
which only the operator has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dao.errors import BadUse, CheckFailed

if TYPE_CHECKING:
    from dao.deployment import Deployment
    from dao.governance.simulate import Effect
    from dao.tariffs import Tariffs
    from forecasting.balancing import Flexibility, PriceRules, Shares
    from forecasting.evidence import Evidence
    from forecasting.grid import BatterySpec, IntArray, ZoneGrid
    from forecasting.zone import DayForecast

DEMO_GRID = "1-LV-rural3--2-sw"


def zone_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options that say which grid it is and what stands in it."""
    for option in (
        click.option(
            "--grid",
            "code",
            default=DEMO_GRID,
            show_default=True,
            help="SimBench's code of the zone's grid.",
        ),
        click.option(
            "--seed",
            type=click.IntRange(0, 2**63 - 1),
            default=1,
            show_default=True,
            help="Of the homes' scales, as the demo was run with.",
        ),
        click.option(
            "--battery",
            "battery_text",
            metavar="BUS[+BUS]:WH:W",
            help='The community battery: where its units stand, size and power; "none" for none.  '
            "[default: the demo's in its grid, else none]",
        ),
    ):
        function = option(function)
    return function


class Zone:
    """A grid, its homes, and what stands in it, all public."""

    def __init__(self, code: str, seed: int, battery_text: str | None, stored_wh: int = 0) -> None:
        """Raises BadUse for what the grid does not have, or the battery cannot hold."""
        import numpy as np

        from dao.paths import cache_dir
        from forecasting.balancing import standard_shares
        from forecasting.balancing.actions import community_store
        from forecasting.balancing.flexibility import flexibility_of
        from forecasting.grid import load_grid
        from meters.profiles import zone_profiles
        from meters.simbench import load_grid as load_elements

        self.grid: ZoneGrid = load_grid(code, cache_dir())
        self.homes = zone_profiles(code, 0, 0, seed, cache_dir()).homes
        self.shares: Shares = standard_shares(self.homes)
        self.flexibility: Flexibility = flexibility_of(load_elements(code, cache_dir()), self.homes)
        self.battery = battery_from(battery_text, code)
        if self.battery is not None:
            community_store(self.battery, stored_wh, 1)
            self.grid.at_buses(np.zeros((0, len(self.battery.buses))), self.battery.buses)
        elif stored_wh:
            raise BadUse("--stored tells of a community battery, and there is none")

    @property
    def buses(self) -> IntArray:
        """Of each home."""
        import numpy as np

        return np.array([home.bus for home in self.homes], dtype=np.int64)

    def week_before(self, lake: Path, evidence: Evidence) -> tuple[IntArray, IntArray]:
        """The homes' readings of the seven whole days before the forecast, (slots, homes) Wh."""
        from dao.slots import SLOTS_PER_DAY

        end = evidence.totals.end_slot // SLOTS_PER_DAY * SLOTS_PER_DAY
        return self._readings(lake, evidence.zone, end - 7 * SLOTS_PER_DAY, end)

    def report(self, promise: Mapping[str, Any], evidence: Evidence, lake: Path | None) -> Any:
        """The measured effect of a plan, as JSON."""
        import numpy as np

        from forecasting.balancing.actions import home_store
        from forecasting.balancing.report import Done, operator_effect, public_effect
        from forecasting.zone import ZoneTotals

        first, slots = int(promise["first_slot"]), int(promise["slots"])
        totals = evidence.totals
        if promise["zone"] != evidence.zone:
            raise BadUse(f"the plan is of zone {promise['zone']}, the evidence of {evidence.zone}")
        if not totals.first_slot <= first or first + slots > totals.end_slot:
            raise BadUse("the evidence ends before the plan's day does; take a later one")
        done = []
        battery_w = np.zeros(slots, dtype=np.int64)
        for slot, taken, given in evidence.battery_wh:
            if first <= slot < first + slots:
                battery_w[slot - first] = 4 * (taken - given)
        if battery_w.any():
            if self.battery is None:
                raise BadUse("the evidence tells of a community battery: give it with --battery")
            count = len(self.battery.buses)
            done.append(
                Done(
                    1_000,
                    battery_w,
                    self.battery.buses,
                    (1.0 / count,) * count,
                    self.battery.reactive_per_active,
                )
            )
        batteries, points = self.flexibility.home_batteries, self.flexibility.charge_points
        nobody = home_store(batteries, np.zeros((slots, len(batteries))))
        for key, buses, parts in (
            (1_002, *(() if nobody is None else (nobody.buses, nobody.parts))),
            (
                1_001,
                tuple(point.bus for point in points),
                tuple(point.rated_w / sum(p.rated_w for p in points) for point in points),
            ),
        ):
            power = promise["chart"]["power_w"].get(str(key))
            if power is not None and any(power):
                done.append(Done(key, np.array(power, dtype=np.int64), buses, parts, inside=True))
        if lake is not None:
            imported, exported = self._readings(lake, evidence.zone, first, first + slots)
            return operator_effect(
                self.grid,
                (imported - exported) * 4.0,
                [home.bus for home in self.homes],
                first,
                done,
                promise=promise,
            ).as_dict()
        part = slice(first - totals.first_slot, first - totals.first_slot + slots)
        day = ZoneTotals(first, totals.net_wh[part], totals.export_wh[part])
        return public_effect(self.grid, self.shares, day, done, promise=promise).as_dict()

    def _readings(self, lake: Path, zone: int, first: int, end: int) -> tuple[IntArray, IntArray]:
        """Import and export in Wh, (slots, homes); a value that is missing counts as 0."""
        import numpy as np

        from meters.lake import meter_series

        if not lake.is_dir():
            raise CheckFailed(f"{lake} holds no readings: there is no such folder")
        tables = np.zeros((2, end - first, len(self.homes)), dtype=np.int64)
        rows = 0
        for at in range(len(self.homes)):
            frame = meter_series(lake, zone, at + 1, first, end - first)
            rows += len(frame)
            where = frame["slot"].to_numpy(dtype=np.int64) - first
            for number, name in enumerate(("import_wh", "export_wh")):
                tables[number, where, at] = frame[name].fillna(0).to_numpy(dtype=np.int64)
        if not rows:
            raise CheckFailed(f"{lake} holds no readings of zone {zone} for these days")
        return tables[0], tables[1]


def battery_from(text: str | None, code: str) -> BatterySpec | None:
    """A community battery from BUS[+BUS]:WH:W. BadUse says what is wrong."""
    from forecasting.balancing import DEMO_BATTERY
    from forecasting.grid import BatterySpec

    if text is None:
        return DEMO_BATTERY if code == DEMO_GRID else None
    if text == "none":
        return None
    parts = text.split(":")
    try:
        buses = tuple(int(bus) for bus in parts[0].split("+"))
        size, power = (int(part) for part in parts[1:])
    except ValueError:
        raise BadUse(
            f"--battery {text}: expected BUS[+BUS]:WH:W like 83+121:300000:50000"
        ) from None
    return BatterySpec(buses, size, power)


def price_rules(deployed: Deployment | None, tariffs: Tariffs, shares: Shares) -> PriceRules:
    """The price rules of the chain, or as they are first deployed with these tariffs.

    Energy is expected to cost the middle between what a seller gets and a buyer pays elsewhere.
    """
    from dao.parameters import KEYS, MARKET_RULES
    from forecasting.balancing import KeyBounds, PriceRules

    first = {rule.name: rule for rule in MARKET_RULES}
    found = {}
    for name in ("grid_fee", "price_band_min", "price_band_max"):
        if deployed is None:
            rule = first[name]
            value = tariffs.grid_fee if name == "grid_fee" else rule.initial
            found[name] = KeyBounds(value, rule.minimum, rule.maximum, rule.max_step)
        else:
            bounds = deployed["GridParameters"].call("bounds_of", KEYS[name])
            found[name] = KeyBounds(
                int(deployed["GridParameters"].call("value", KEYS[name])),
                int(bounds["minimum"]),
                int(bounds["maximum"]),
                int(bounds["max_step"]),
            )
    fee = found["grid_fee"]
    middle = max(1, (tariffs.feed_in + tariffs.retail - fee.value) // 2)
    return PriceRules(fee, found["price_band_min"], found["price_band_max"], middle, shares)


def read(name: str) -> Evidence:
    """An evidence file of the right form; "-" is standard input. BadUse otherwise."""
    from forecasting.evidence import read_evidence
    from scripts._common import read_input

    return read_evidence(read_input(name), "standard input" if name == "-" else name)


def checked_forecast(evidence: Evidence) -> DayForecast:
    """The forecast that the evidence states, recomputed first. CheckFailed where it differs."""
    from forecasting.evidence import check_file, stated_forecast

    fault = next((check for check in check_file(evidence) if check.state == "failed"), None)
    if fault is not None:
        raise CheckFailed(f"the evidence does not hold: {fault.name}: {fault.detail}")
    return stated_forecast(evidence)


def effects_from(
    deployed: Deployment, evidence_file: str, code: str, seed: int, stored_wh: int
) -> Mapping[str, Effect]:
    """The effects on grid and bill of whatever windows a simulation opens on the forecast's day."""
    from dao.tariffs import Tariffs
    from forecasting.balancing import courses_of
    from forecasting.balancing.effects import Setting, effects_of

    evidence = read(evidence_file)
    zone = Zone(code, seed, None, stored_wh)
    return effects_of(
        Setting(
            zone=evidence.zone,
            first_slot=evidence.first_slot,
            grid=zone.grid,
            scenarios=courses_of(checked_forecast(evidence), evidence.totals).spread(zone.shares),
            buses=zone.shares.buses,
            homes=len(zone.homes),
            battery=zone.battery,
            stored_wh=stored_wh,
            flexibility=zone.flexibility,
            prices=price_rules(deployed, Tariffs(), zone.shares),
        )
    )


def effect_lines(effects: Mapping[str, Any]) -> list[str]:
    """What a simulation found of grid and bill, for people; nothing where it was not asked."""
    lines = []
    for name, risk in effects.get("grid", {}).items():
        if isinstance(risk, dict):
            lines.append(
                f"Grid {name.replace('_', ' ')}: {100 * risk['probability']:.0f} % chance of a "
                f"broken limit, {risk['quarter_hours']['mean']:.1f} quarter-hours expected"
            )
    for name, bill in effects.get("bill", {}).items():
        lines.append(f"Bill {name}: {bill['each_home'] / 1e6:.4f} € a home and day")
    return lines
