# SPDX-License-Identifier: Apache-2.0
"""What the forecasts are measured on: made-up homes, and the shared real data where it lies.

The real data is no part of the repository. It lies beside the checkout, in `shared/data`, or where
GRIDCOMMONS_SHARED_DATA says.
"""

from __future__ import annotations

import csv
import gzip
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from forecasting.backtest import Home
from forecasting.homes import HomeInput
from forecasting.model import Settings
from forecasting.series import IntervalSeries, Location, clear_sky
from meters.simbench import load_grid

FloatArray = npt.NDArray[np.float64]

SHARED = Path(
    os.environ.get("GRIDCOMMONS_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data")
)
FONTANA = SHARED / "forecast" / "fontana17_hourly.csv.gz"
FONTANA_ZONE = "America/Los_Angeles"
FONTANA_PLACE = Location(34.1, -117.4)
# The roof of h15 is dead for most of the year: SOURCES.md leaves the home out.
FONTANA_HOMES = tuple(f"h{number:02d}" for number in range(1, 18) if number != 15)
FONTANA_TEST_FROM = int(datetime(2017, 2, 1, tzinfo=ZoneInfo(FONTANA_ZONE)).timestamp())
SUBSTATIONS = (287, 307)

# SimBench's year is 2016; the second half is measured, and nothing was chosen on it.
SIMBENCH_GRIDS = ("1-LV-rural3--2-sw", "1-LV-semiurb5--2-sw", "1-LV-rural1--2-sw")
SIMBENCH_PLACE = Location(53.65, 11.41)
SIMBENCH_TEST_FROM = 1_467_324_000  # 1 July 2016 in Berlin
_HALF_A_YEAR = 26 * 7 * 86_400

MADE_UP_DAYS = 182
MADE_UP_START = 1_451_606_400  # 2016-01-01
MADE_UP_PLACE = Location(53.65, 11.41)


def substation(number: int) -> Path:
    return SHARED / "forecast" / f"openstef_pid{number}_15min.csv.gz"


def fontana() -> tuple[list[Home], list[Home], Home]:
    """Load and roof of every home, and the district's net energy with what its roofs made, kWh.

    The file numbers every hour of the year although clocks change: the hour that spring skips is
    dropped, and the one that autumn has twice is there once.
    """
    rows = _rows(FONTANA)
    zone = ZoneInfo(FONTANA_ZONE)
    moments: list[int] = []
    kept: list[dict[str, str]] = []
    for row in rows:
        wall = datetime.fromisoformat(row["start_local"])
        local = wall.replace(tzinfo=zone)
        if local.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == wall:
            moments.append(int(local.timestamp()))
            kept.append(row)

    def home(name: str, kind: str) -> Home:
        values = [float(row[f"{name}_{kind}_kwh"]) for row in kept]
        return Home(name, _series(moments, values, 3600))

    loads = [home(name, "load") for name in FONTANA_HOMES]
    roofs = [home(name, "pv") for name in FONTANA_HOMES]
    made = np.sum([one.series.values for one in roofs], axis=0)
    net = np.sum([one.series.values for one in loads], axis=0) - made
    first = loads[0].series
    return loads, roofs, Home("district", IntervalSeries(first.start, 3600, net), made)


def openstef(number: int) -> Home:
    """A substation's net load in MW, without the weather that its file has."""
    rows = _rows(substation(number))
    moments = [int(datetime.fromisoformat(row["index"]).timestamp()) for row in rows]
    values = [float(row["load"] or "nan") for row in rows]
    return Home(str(number), _series(moments, values, 900))


def simbench(cache: Path | None) -> list[tuple[Home, Settings, int]]:
    """Other shapes than a home's, from the installed package: series, settings, first test second.

    One profile each, so no shape is there twice; at 15, 30 and 60 minutes. The campus is the sum of
    the businesses. The southern homes are the same year half a year later under the sky of the
    opposite latitude: their winter is in July.
    """
    profiles: dict[str, FloatArray] = {}
    first = 0
    for code in SIMBENCH_GRIDS:
        grid = load_grid(code, cache)
        first = grid.first_slot * 900
        profiles.update(zip(grid.profiles, grid.values.T, strict=True))
    berlin = Settings(timezone="Europe/Berlin", country="DE")
    south = Settings(timezone="Africa/Johannesburg", country="ZA")
    under = Location(-SIMBENCH_PLACE.latitude, SIMBENCH_PLACE.longitude)

    def made(
        name: str, values: FloatArray, minutes: int, settings: Settings, later: int = 0
    ) -> tuple[Home, Settings, int]:
        many = minutes // 15
        means = np.asarray(values[: values.size // many * many].reshape(-1, many).mean(axis=1))
        series = IntervalSeries(first + later, 60 * minutes, means)
        return Home(name, series), settings, SIMBENCH_TEST_FROM + later

    # kW: a household's peak is about 4, its roof's 8.
    home, roof = 4 * profiles["H0-A"], 8 * profiles["PV3"]
    campus = np.sum([profiles[name] for name in ("G1-C", "G3-A", "G4-A", "G5-A", "G6-A")], axis=0)
    solar = replace(berlin, kind="solar", location=SIMBENCH_PLACE)
    net = replace(berlin, kind="net", location=SIMBENCH_PLACE)
    return [
        made("home_15", home, 15, berlin),
        made("home_60", 4 * profiles["H0-G"], 60, berlin),
        made("home_net_30", home - roof, 30, net),
        made("roof_15", roof, 15, solar),
        made("heat_pump_30", profiles["Soil_Alternative_1"], 30, berlin),
        made("charger_15", 11 * profiles["HLS_A_11.0"], 15, berlin),
        made("farm_60", profiles["L1-A"], 60, berlin),
        made("shop_15", profiles["G6-A"], 15, berlin),
        made("campus_15", campus, 15, berlin),
        made("campus_60", campus, 60, berlin),
        made("south_home_30", 4 * profiles["H0-C"], 30, south, _HALF_A_YEAR),
        made(
            "south_roof_60",
            profiles["PV5"],
            60,
            replace(south, kind="solar", location=under),
            _HALF_A_YEAR,
        ),
    ]


def _rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _series(moments: list[int], values: list[float], step: int) -> IntervalSeries:
    places = (np.array(moments) - moments[0]) // step
    series = np.full(int(places[-1]) + 1, np.nan)
    series[places] = values
    return IntervalSeries(moments[0], step, series)


def made_up_street(homes: int, seed: int = 1) -> list[HomeInput]:
    """Load and roof of each of some homes, half a year of 15-minute Wh. For speed, not accuracy."""
    count = MADE_UP_DAYS * 96
    at = np.arange(count)
    hour = at % 96 / 4.0
    shape = 60 + 50 * np.exp(-((hour - 8) ** 2) / 4) + 120 * np.exp(-((hour - 19) ** 2) / 6)
    sky = clear_sky(MADE_UP_START + 900 * at, 900, MADE_UP_PLACE)
    load = Settings(timezone="Europe/Berlin", country="DE", region="MV")
    solar = Settings(kind="solar", timezone="Europe/Berlin", location=MADE_UP_PLACE)
    street: list[HomeInput] = []
    for home in range(homes):
        rng = np.random.default_rng((seed, home))
        level = np.repeat(rng.uniform(0.7, 1.3, MADE_UP_DAYS), 96)
        used = np.rint(shape * level * rng.gamma(2.0, 0.5, count))
        cloud = np.repeat(rng.uniform(0.2, 1.0, MADE_UP_DAYS), 96)
        made = np.rint(sky * cloud * rng.uniform(0.5, 1.5))
        street.append(HomeInput(IntervalSeries(MADE_UP_START, 900, used), load))
        street.append(HomeInput(IntervalSeries(MADE_UP_START, 900, made), solar))
    return street


def made_up_homes(homes: int, days: int = 56, seed: int = 1) -> list[HomeInput]:
    """Hourly loads of so many homes, each with peaks, height and noise of its own. For speed."""
    at = np.arange(days * 24)
    hour = at % 24
    settings = Settings(timezone="Europe/Berlin", country="DE")
    street: list[HomeInput] = []
    for home in range(homes):
        rng = np.random.default_rng((seed, home))
        morning, evening = rng.uniform(6, 9), rng.uniform(17, 21)
        shape = 200 + 150 * np.exp(-((hour - morning) ** 2) / 4)
        shape += 400 * np.exp(-((hour - evening) ** 2) / 6)
        level = np.repeat(rng.uniform(0.7, 1.3, days), 24) * rng.uniform(0.3, 3.0)
        used = np.rint(shape * level * rng.gamma(2.0, 0.5, at.size))
        street.append(HomeInput(IntervalSeries(MADE_UP_START, 3600, used), settings))
    return street
