# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from dao.errors import CheckFailed
from forecasting.backtest import (
    NAIVES,
    Home,
    Naive,
    accuracy,
    backtest,
    fairness,
    naive_quantiles,
    origins_of,
    pinball,
    roll,
)
from forecasting.fanout import fan_out
from forecasting.model import Settings
from forecasting.series import IntervalSeries, Location, clear_sky
from scripts.backtest import cli

Maker = Callable[..., IntervalSeries]
BERLIN = Settings(timezone="Europe/Berlin", country="DE")


def test_a_spike_after_an_origin_changes_no_output_before_it(made_up: Maker) -> None:
    series = made_up(30, 3600)
    origins = origins_of(series, 24, BERLIN)
    spiked = series.values.copy()
    cut = int(origins[6])
    spiked[cut:] += 1e6
    calm, wild = (
        roll(Home("a", replace(series, values=values)), origins, 24, BERLIN)
        for values in (series.values, spiked)
    )
    # The forecast from the spike's own origin has not seen it either; the next one has.
    assert calm.bands[:, :7].tobytes() == wild.bands[:, :7].tobytes()
    assert calm.mean[:7].tobytes() == wild.mean[:7].tobytes()
    for name in NAIVES:
        assert calm.naive[name][:, :7].tobytes() == wild.naive[name][:, :7].tobytes()
    assert calm.mean[7].tobytes() != wild.mean[7].tobytes()


def test_what_is_measured_is_what_forecast_would_have_said(made_up: Maker) -> None:
    from forecasting.model import forecast

    series = made_up(25, 3600)
    origins = origins_of(series, 24, BERLIN, count=3)
    run = roll(Home("a", series), origins, 24, BERLIN)
    for at, origin in enumerate(origins.tolist()):
        made = forecast(replace(series, values=series.values[:origin]), 24, BERLIN)
        assert run.bands[1, at].tolist() == made.q50.tolist()
        assert run.actual[at].tolist() == series.values[origin : origin + 24].tolist()


def test_every_local_midnight_with_enough_history_is_an_origin(made_up: Maker) -> None:
    series = made_up(20, 1800)  # from 00:00 UTC, which is 01:00 in Berlin
    origins = origins_of(series, 48, BERLIN)
    clock = [datetime.fromtimestamp(series.start + 1800 * at, UTC) for at in origins.tolist()]
    assert {moment.hour for moment in clock} == {23}
    assert len(origins) == 5
    assert origins_of(series, 48, BERLIN, count=2).tolist() == origins[-2:].tolist()
    since = int(clock[3].timestamp())
    assert origins_of(series, 48, BERLIN, test_from=since).tolist() == origins[3:].tolist()
    with pytest.raises(CheckFailed, match=r"no day to forecast: 20\.0 days"):
        origins_of(series, 7 * 48, BERLIN)


@pytest.mark.parametrize("by_hour", [False, True])
def test_the_naive_is_the_last_known_value_with_its_residual_quantiles(by_hour: bool) -> None:
    # Noise at noon only: all hours share its quantiles, or noon and its neighbours alone do.
    rng = np.random.default_rng(0)
    values = np.tile(np.arange(24.0), 60) - 50.0
    values[12::24] += rng.standard_normal(60)
    made = naive_quantiles(values, 48, 24, Naive(1, by_hour))
    assert made[1, :12].tolist() == made[1, 24:36].tolist() == values[-24:-12].tolist()
    assert (made[2, 12] - made[0, 12] > 1.0) == by_hour
    assert made[0, 3] == made[2, 3] == values[-21]


def test_a_naive_looks_further_back_where_a_value_is_missing() -> None:
    values = np.arange(24.0 * 20)
    values[-24] = np.nan
    made = naive_quantiles(values, 24, 24, NAIVES["last week"])
    assert made[1, 0] == values[-7 * 24] + 168.0
    assert naive_quantiles(values, 24, 24, NAIVES["yesterday"])[1, 0] == values[-48] + 24.0


def test_pinball_weighs_misses_by_their_side() -> None:
    bands = np.array([[8.0], [10.0], [14.0]])
    assert pinball(bands, np.array([12.0])) == pytest.approx((0.4 + 1.0 + 0.2) / 3)


def test_solar_coverage_counts_daylight_only() -> None:
    place = Location(-33.9, 18.4)  # the other hemisphere
    start, days = 1_451_606_400, 30
    utc = start + 1800 * np.arange(days * 48)
    cloud = np.repeat(np.random.default_rng(0).uniform(0.2, 1.0, days), 48)
    series = IntervalSeries(start, 1800, clear_sky(utc, 1800, place) * cloud)
    settings = Settings(kind="solar", timezone="Africa/Johannesburg", location=place)
    run = roll(Home("roof", series), origins_of(series, 48, settings, count=5), 48, settings)
    assert 0.4 < run.scored.mean() < 0.7
    assert (run.actual[~run.scored] == 0.0).all()
    assert (run.bands[:, ~run.scored] == 0.0).all()
    assert accuracy(run).ratio < 1.0


def test_fairness_names_the_homes_that_yesterday_serves_better(made_up: Maker) -> None:
    good = roll(
        Home("good", made_up(30, 3600)),
        origins_of(made_up(30, 3600), 24, BERLIN, count=4),
        24,
        BERLIN,
    )
    bad = replace(good, name="bad", bands=good.bands + 1e4, mean=good.mean * 3)
    each, both = [accuracy(run) for run in (good, bad)], fairness([good, bad])
    assert each[0].ratio < 1.0 < each[1].ratio
    assert both.left_behind == 0.5
    assert both.coverage_gap == pytest.approx(0.8)
    assert both.ratio == pytest.approx(
        (each[0].loss + each[1].loss) / (each[0].naive_loss + each[1].naive_loss)
    )
    assert each[0].bias is not None
    assert both.bias == pytest.approx((1 + each[0].bias) * 2 - 1)


def test_processes_measure_what_one_process_measures(made_up: Maker) -> None:
    homes = [Home(name, made_up(24, 3600, seed=at)) for at, name in enumerate("ab")]
    alone = backtest(homes, 24, BERLIN, workers=1)
    pooled = backtest(homes, 24, BERLIN, workers=2)
    for one, other in zip(alone, pooled, strict=True):
        assert one.name == other.name
        assert one.bands.tobytes() == other.bands.tobytes()


def test_an_error_in_a_process_arrives_here() -> None:
    with pytest.raises(ZeroDivisionError):
        fan_out(divmod, [(1, 1), (1, 0)], workers=2)


# The command


def write(path: Path, columns: dict[str, np.ndarray], step: int = 3600) -> Path:
    count = len(next(iter(columns.values())))
    lines = [",".join(["timestamp", *columns])]
    for at in range(count):
        stamp = datetime.fromtimestamp(1_451_606_400 + step * at, UTC)
        cells = [
            f"{column[at]:.5g}" if isinstance(column[at], float) else str(column[at])
            for column in columns.values()
        ]
        lines.append(",".join([f"{stamp:%Y-%m-%dT%H:%M:%SZ}", *cells]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def run(*arguments: object) -> Result:
    return CliRunner(mix_stderr=False).invoke(
        cli, [*(str(part) for part in arguments), "--workers", "1"]
    )


def test_one_file_gives_a_table_and_a_chart(tmp_path: Path, made_up: Maker) -> None:
    source = write(tmp_path / "home.csv", {"value": made_up(24, 3600).values})
    chart = tmp_path / "chart.png"
    done = run(source, "--origins", 3, "-o", chart)
    assert done.exit_code == 0, done.stderr
    head, titles, row = done.stdout.splitlines()
    assert "load" in head
    assert titles.split()[:2] == ["days", "loss"]
    assert row.split()[:2] == ["home", "3"]
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_several_homes_come_as_files_as_columns_or_as_meters(
    tmp_path: Path, made_up: Maker
) -> None:
    a, b = (made_up(20, 3600, seed=seed).values for seed in (1, 2))
    one, two = write(tmp_path / "a.csv", {"value": a}), write(tmp_path / "b.csv", {"value": b})
    wide = write(tmp_path / "wide.csv", {"a_load": a, "b_load": b})
    order = np.argsort(np.tile(np.arange(a.size), 2), kind="stable")
    long = tmp_path / "long.csv"
    rows = [
        *(line + ",a" for line in one.read_text().splitlines()[1:]),
        *(line + ",b" for line in two.read_text().splitlines()[1:]),
    ]
    long.write_text("timestamp,value,meter\n" + "\n".join(rows[at] for at in order) + "\n")
    found = []
    for arguments in ((one, two), (wide, "--value", "*_load"), (long,)):
        done = run(*arguments, "--origins", 2, "--json")
        assert done.exit_code == 0, done.stderr
        made = json.loads(done.stdout)
        assert made["all"]["homes"] == 2
        found.append([home["loss"] for home in made["homes"]])
    assert found[0] == found[1] == found[2]


def test_weather_that_explains_the_load_makes_its_forecast_better(
    tmp_path: Path, made_up: Maker
) -> None:
    base = made_up(60, 3600)
    rng = np.random.default_rng(5)
    cold = np.repeat(rng.uniform(-10, 15, 60), 24)
    values = base.values + 40 * np.maximum(0, 12 - cold)
    plain = write(tmp_path / "plain.csv", {"value": values})
    told = write(tmp_path / "told.csv", {"value": values, "temperature": cold})
    losses = [
        json.loads(run(source, "--origins", 10, "--json").stdout)["homes"][0]["loss"]
        for source in (plain, told)
    ]
    assert losses[1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--horizon", "soon"], "24h, 2d or 90min"),
        (["--test-from", "spring"], "expected a date like"),
        (["--value", "none*"], "no none*"),
        (["--time", "when"], "no when"),
        (["-o", "chart.pdf"], ".png or .svg"),
        (["--latitude", "3"], "both --latitude and --longitude"),
        (["--country", "XX"], "no holidays known"),
    ],
)
def test_bad_options_end_with_one_line(
    tmp_path: Path, made_up: Maker, options: list[str], words: str
) -> None:
    source = write(tmp_path / "home.csv", {"value": made_up(20, 3600).values})
    done = run(source, *options)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


def test_too_little_history_to_measure_is_a_failed_check(tmp_path: Path, made_up: Maker) -> None:
    done = run(write(tmp_path / "home.csv", {"value": made_up(10, 3600).values}))
    assert done.exit_code == 1
    assert "no day to forecast: 10.0 days of values" in done.stderr


def test_homes_with_other_intervals_are_refused(tmp_path: Path, made_up: Maker) -> None:
    hourly = write(tmp_path / "a.csv", {"value": made_up(20, 3600).values})
    half = write(tmp_path / "b.csv", {"value": made_up(20, 1800).values}, step=1800)
    done = run(hourly, half)
    assert done.exit_code == 2
    assert "one length for all homes" in done.stderr


def test_help_needs_neither_prophet_nor_numpy() -> None:
    program = (
        "import sys, scripts.backtest\n"
        "print(sorted({'prophet', 'numpy', 'pandas', 'matplotlib'} & set(sys.modules)))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    assert ended.stdout == "[]\n"
