# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from forecasting.checks import examine
from forecasting.model import Settings, forecast
from forecasting.series import IntervalSeries, Location, clear_sky

Maker = Callable[..., IntervalSeries]
PLACE = Location(34.1, -117.4)


def damaged(series: IntervalSeries, name: str) -> np.ndarray:
    """The series with one fault in its third week."""
    values = series.values.copy()
    day = slice(15 * series.per_day, 18 * series.per_day)
    if name == "frozen":
        values[day] = values[day.start]
    elif name == "dead":
        values[day] = 0.0
    elif name == "impossible":
        values[day.start : day.start + 3] = 1e6
    elif name == "missing":
        values[day] = np.nan
    return values


@pytest.mark.parametrize("step", [900, 1800, 3600])
@pytest.mark.parametrize("name", ["frozen", "dead", "impossible", "missing"])
def test_each_fault_is_named_and_told_and_left_out(made_up: Maker, name: str, step: int) -> None:
    series = made_up(40, step)
    values = damaged(series, name)
    found = examine(values, step, signed=False)
    assert [finding.name for finding in found.findings] == [name]
    assert "left out" in found.findings[0].done
    wrong = values != series.values
    assert np.isnan(found.values[wrong]).mean() > 0.99
    assert np.array_equal(found.values[~wrong], values[~wrong]) or name == "frozen"
    made = forecast(replace(series, values=values), series.per_day, Settings())
    whole = forecast(series, series.per_day, Settings())
    assert [finding.name for finding in made.findings] == [name]
    assert made.model == "prophet"
    assert np.abs(made.mean - whole.mean).mean() < 0.1 * whole.mean.mean()


def test_a_sound_series_has_no_findings(made_up: Maker) -> None:
    series = made_up(40)
    found = examine(series.values, 900, signed=False)
    assert found.findings == ()
    assert np.array_equal(found.values, series.values)


def test_a_few_readings_below_zero_are_faults_of_a_load_and_none_of_net_energy(
    made_up: Maker,
) -> None:
    values = made_up(40, 3600).values.copy()
    values[500] = -100.0
    assert [f.name for f in examine(values, 3600, signed=False).findings] == ["impossible"]
    assert examine(values, 3600, signed=True).findings == ()


def test_night_is_no_dead_meter_and_a_coarse_one_is_not_frozen() -> None:
    start = 1_480_550_400
    utc = start + 3600 * np.arange(30 * 24)
    sky = clear_sky(utc, 3600, Location(62.0, 10.0))  # short days
    assert (sky == 0.0).mean() > 0.7
    assert examine(sky, 3600, signed=False, solar=True, sky=sky).findings == ()
    coarse = np.where(np.random.default_rng(0).random(720) < 0.4, 1.0, 0.0)
    assert examine(coarse, 3600, signed=False).findings == ()


def test_what_stands_still_often_is_not_dead_when_it_stands_still_for_days() -> None:
    pump = np.where(np.random.default_rng(0).random(40 * 24) < 0.5, 800.0, 0.0)
    pump += np.where(pump > 0.0, np.random.default_rng(1).uniform(0, 50, pump.size), 0.0)
    pump[-20 * 24 :] = 0.0
    assert examine(pump, 3600, signed=False).findings == ()
    made = forecast(IntervalSeries(0, 3600, pump), 24, Settings())
    assert made.q50.max() < 40.0


def test_a_roof_without_output_for_days_is_dead() -> None:
    series, settings = roof(0)
    values = series.values.copy()
    values[30 * 24 : 34 * 24] = 0.0
    found = forecast(replace(series, values=values), 24, settings).findings
    assert [finding.name for finding in found] == ["dead"]


def test_a_meter_that_is_dead_at_the_end_falls_back_and_says_so(made_up: Maker) -> None:
    series = made_up(40)
    values = series.values.copy()
    values[-9 * 96 :] = 0.0
    made = forecast(replace(series, values=values), 96, Settings())
    assert made.model == "seasonal-naive-week"
    assert "no value in the last seven days" in made.reason
    assert [finding.name for finding in made.findings] == ["dead"]
    assert made.q50.min() > 0.0


def roof(shift: int, azimuth_shift: int = 0) -> tuple[IntervalSeries, Settings]:
    """Two months of a roof, with its clock `shift` hours behind the sun."""
    start, days = 1_462_060_800, 60
    utc = start + 3600 * np.arange(days * 24)
    cloud = np.repeat(np.random.default_rng(1).uniform(0.3, 1.0, days), 24)
    sky = clear_sky(utc, 3600, PLACE)
    facing = np.where(sky > 0.0, np.roll(sky, azimuth_shift), 0.0)
    series = IntervalSeries(start, 3600, np.roll(facing * cloud, shift))
    return series, Settings(kind="solar", location=PLACE)


@pytest.mark.parametrize("shift", [-7, 3, 8])
def test_a_clock_that_is_off_is_found_and_the_sun_moved(shift: int) -> None:
    series, settings = roof(shift)
    made = forecast(series, 24, settings)
    assert [finding.name for finding in made.findings] == ["shifted"]
    assert f"{abs(shift)} h" in made.findings[0].what
    assert made.model == "prophet"
    peak = np.argmax(series.values.reshape(-1, 24).sum(axis=0))
    assert abs(int(np.argmax(made.mean)) - int(peak)) <= 1


@pytest.mark.parametrize("facing", [-2, 2])
def test_a_roof_that_faces_east_or_west_has_no_clock_that_is_off(facing: int) -> None:
    series, settings = roof(0, facing)
    assert forecast(series, 24, settings).findings == ()
