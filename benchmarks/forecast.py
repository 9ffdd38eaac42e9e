# SPDX-License-Identifier: Apache-2.0
"""Forecasts: the closed form beside Stan, seconds for a zone, accuracy beside the naive.

The zone's accuracy is measured on the demo zone's profiles. Its households share five load shapes
(see `meters.profiles`), so it says that the method works and not how well it serves distinct homes.
Where the shared data lies beside the checkout, distinct homes and substations are measured too.
"""

from __future__ import annotations

import logging
import resource
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks import forecast_data
from benchmarks.forecast_peers import lightgbm, lightgbm_bands, prophet_bands
from benchmarks.results import Result, merge, race, seconds
from dao.errors import CheckFailed
from dao.forecasts import pinball_loss
from dao.parameters import MARKET_RULES
from dao.paths import cache_dir
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY, first_slot_of_day
from forecasting.backtest import accuracy, backtest, fairness, origins_of, pinball, roll
from forecasting.fanout import cores
from forecasting.homes import forecast_homes
from forecasting.model import Settings
from forecasting.series import IntArray
from forecasting.zone import (
    DEMO_COUNTRY,
    DEMO_REGION,
    DEMO_TIMEZONE,
    DayForecast,
    ZoneTotals,
    forecast_zone_day,
)
from meters.profiles import zone_profiles

if TYPE_CHECKING:
    import pandas as pd
    from prophet import Prophet

CODE = "1-LV-rural3--2-sw"
FIRST_DAY = date(2016, 6, 6)
HISTORY_DAYS, DAYS = 56, 7
# Made at 18:00 UTC of the evening before, as the demo does: before the deadline for commitments.
GAP_SLOTS = 24
WEEK_SLOTS = 7 * SLOTS_PER_DAY
# The registry's rule when the contracts are deployed, Wh to either side.
NAIVE_SPREAD = next(rule.initial for rule in MARKET_RULES if rule.name == "naive_spread")
# Stan stops where it is near enough; this is how near the two forecasts come, as a share.
AGREEMENT = 2e-4

ZONE_HOMES = 150
MANY_HOMES = 2_000
# Of the days of a window, so many are forecast by the peers too: Stan takes seconds a day.
PEER_DAYS, PROPHET_DAYS = 8, 3
FONTANA_PROPHET_DAYS = 4
_LOOP_HOMES = 10


def run() -> Result:
    """All parts of the suite that the data at hand allows.

    Raises CheckFailed where LightGBM is needed and not installed, and where a peer disagrees.
    """
    lightgbm()
    real = all(forecast_data.substation(number).exists() for number in forecast_data.SUBSTATIONS)
    parts = [demo_zone(), zone_of(ZONE_HOMES), linearity(ZONE_HOMES, MANY_HOMES), simbench()]
    if forecast_data.FONTANA.exists():
        parts += [fontana(), fontana_prophet()]
    if real:
        parts.append(substations())
    return merge(parts)


def zone_of(homes: int) -> Result:
    """Seconds for load and roof of so many homes, half a year of 15 minutes each, next day."""
    street = forecast_data.made_up_street(homes)
    took, made = seconds(lambda: forecast_homes(street, SLOTS_PER_DAY))
    if any(one.model != "prophet" for one in made):
        raise CheckFailed("a home of the made-up street fell back to a simpler model")
    own, child = (
        resource.getrusage(who).ru_maxrss / 1024
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    # The same work one by one, where it is as slow as the machine is now: what the pool saves.
    sample = street[: 2 * _LOOP_HOMES]
    alone, _ = seconds(lambda: forecast_homes(sample, SLOTS_PER_DAY, workers=1))
    name = f"forecast.zone_{homes}"
    return Result(
        figures={f"{name}_s": took, f"{name}_mib": own + cores() * child},
        ratios={f"{name}_vs_loop": took / (alone * len(street) / len(sample))},
        notes={
            f"{name}_vs_loop": f"over one by one in one process, from {_LOOP_HOMES} homes",
            f"{name}_s": "load and roof of each, half a year of 15 minutes, quantiles; processes "
            "started included",
            f"{name}_mib": "at most, all processes together",
        },
    )


def linearity(few: int, many: int) -> Result:
    """Seconds per home of many homes over those of a few, each forecast for the next day."""
    street = forecast_data.made_up_homes(many)
    per_home: dict[int, float] = {}
    for homes in (few, many):
        took, made = seconds(partial(forecast_homes, street[:homes], 24))
        if any(one.model != "prophet" for one in made):
            raise CheckFailed("a made-up home fell back to a simpler model")
        per_home[homes] = took / homes
    return Result(
        figures={
            "forecast.homes_per_s": 1.0 / per_home[many],
            "forecast.homes_linearity": per_home[many] / per_home[few],
        },
        notes={
            "forecast.homes_per_s": f"{many} homes, 56 days of hours each, next day",
            "forecast.homes_linearity": f"seconds per home, of {many} over {few}; 1 is linear",
        },
    )


def simbench() -> Result:
    """Other shapes, intervals and the other hemisphere, beside LightGBM and plain Prophet."""
    figures: dict[str, float] = {}
    ratios: dict[str, float] = {}
    notes: dict[str, str] = {}
    for home, settings, since in forecast_data.simbench(cache_dir()):
        horizon = home.series.per_day
        days = origins_of(home.series, horizon, settings, test_from=since)
        few = _spread(days, PEER_DAYS)
        name = f"forecast.{home.name}"
        ours = roll(home, few, horizon, settings)
        found = accuracy(ours)
        figures[name] = found.ratio
        figures[f"{name}_coverage"] = found.coverage
        theirs = pinball(lightgbm_bands(home, few, horizon, settings), ours.actual)
        ratios[f"{name}_vs_lightgbm"] = found.loss / theirs
        fewer = few[:: max(1, PEER_DAYS // PROPHET_DAYS)]
        part = roll(home, fewer, horizon, settings)
        plain = pinball(prophet_bands(home, fewer, horizon, settings), part.actual)
        ratios[f"{name}_vs_prophet"] = pinball(part.bands, part.actual) / plain
        notes[name] = f"of the loss of yesterday's value, {few.size} days"
        notes[f"{name}_vs_lightgbm"] = "loss, same days; below 1 is better"
        notes[f"{name}_vs_prophet"] = f"the same, {fewer.size} days"
    for peer in ("lightgbm", "prophet"):
        found_ratios = [value for key, value in ratios.items() if key.endswith(f"_vs_{peer}")]
        ratios[f"forecast.simbench_vs_{peer}"] = float(np.exp(np.mean(np.log(found_ratios))))
        notes[f"forecast.simbench_vs_{peer}"] = "geometric mean of the above"
    return Result(figures=figures, ratios=ratios, notes=notes)


def fontana_prophet() -> Result:
    """Plain Prophet on the same homes, some days of the window."""
    loads, roofs, district = forecast_data.fontana()
    load = Settings(timezone=forecast_data.FONTANA_ZONE, country="US")
    solar = replace(load, kind="solar", location=forecast_data.FONTANA_PLACE)
    ratios: dict[str, float] = {}
    notes: dict[str, str] = {}
    for name, homes, settings in (
        ("load", loads[::5], load),
        ("pv", roofs[::5], solar),
        ("district_net", [district], replace(solar, kind="net")),
    ):
        ours = theirs = 0.0
        for home in homes:
            days = origins_of(home.series, 24, settings, test_from=forecast_data.FONTANA_TEST_FROM)
            few = _spread(days, FONTANA_PROPHET_DAYS)
            made = roll(home, few, 24, settings)
            ours += pinball(made.bands, made.actual)
            theirs += pinball(prophet_bands(home, few, 24, settings), made.actual)
        ratios[f"forecast.fontana_{name}_vs_prophet"] = ours / theirs
        notes[f"forecast.fontana_{name}_vs_prophet"] = f"loss, {len(homes)} series, {few.size} days"
    return Result(ratios=ratios, notes=notes)


def _spread(days: IntArray, count: int) -> IntArray:
    """So many of the days, evenly over all and over the days of the week."""
    return days[np.linspace(0, days.size - 1, count).round().astype(np.int64)]


def fontana() -> Result:
    """Distinct homes: 16 of Fontana, every day of February to July 2017 from midnight."""
    loads, roofs, district = forecast_data.fontana()
    since = forecast_data.FONTANA_TEST_FROM
    load = Settings(timezone=forecast_data.FONTANA_ZONE, country="US")
    solar = replace(load, kind="solar", location=forecast_data.FONTANA_PLACE)
    figures: dict[str, float] = {}
    notes: dict[str, str] = {}
    for name, homes, settings in (
        ("load", loads, load),
        ("pv", roofs, solar),
        ("district_net", [district], replace(solar, kind="net")),
    ):
        runs = backtest(homes, 24, settings, test_from=since)
        all_homes = fairness(runs)
        figures[f"forecast.fontana_{name}"] = all_homes.ratio
        notes[f"forecast.fontana_{name}"] = "of the loss of yesterday's value"
        figures[f"forecast.fontana_{name}_by_hour"] = all_homes.ratio_by_hour
        notes[f"forecast.fontana_{name}_by_hour"] = "the same, its residuals by hour"
        figures[f"forecast.fontana_{name}_coverage"] = all_homes.coverage
        notes[f"forecast.fontana_{name}_coverage"] = "of the 80 % interval"
        if name == "load":
            figures["forecast.left_behind"] = all_homes.left_behind
            figures["forecast.parity"] = all_homes.parity
            figures["forecast.coverage_gap"] = all_homes.coverage_gap
            notes["forecast.left_behind"] = "share of homes worse than by yesterday's value"
            notes["forecast.parity"] = "P90 over P50 of the homes' ratios"
            notes["forecast.coverage_gap"] = "worst home's distance from 0.8"
        if all_homes.bias is not None:
            figures[f"forecast.fontana_{name}_bias"] = all_homes.bias
            notes[f"forecast.fontana_{name}_bias"] = "energy forecast over energy that came, less 1"
    return Result(figures=figures, notes=notes)


def substations() -> Result:
    """Two substations without weather, beside LightGBM on the same regressors."""
    figures: dict[str, float] = {}
    peers: dict[str, float] = {}
    ratios: dict[str, float] = {}
    notes: dict[str, str] = {}
    settings = Settings(kind="net", timezone="Europe/Amsterdam", country="NL")
    for number in forecast_data.SUBSTATIONS:
        home = forecast_data.openstef(number)
        # Four weeks of regressors before the first origin, for trees want rows.
        origins = origins_of(home.series, SLOTS_PER_DAY, settings)
        origins = origins[origins >= 42 * SLOTS_PER_DAY]
        made = roll(home, origins, SLOTS_PER_DAY, settings)
        ours = accuracy(made)
        theirs = pinball(lightgbm_bands(home, origins, SLOTS_PER_DAY, settings), made.actual)
        name = f"forecast.openstef_{number}"
        figures[f"{name}_pinball_mw"] = ours.loss
        figures[name] = ours.ratio
        figures[f"{name}_coverage"] = ours.coverage
        peers[f"{name}_lightgbm_pinball_mw"] = theirs
        ratios[f"{name}_vs_lightgbm"] = ours.loss / theirs
        notes[name] = "of the loss of yesterday's value"
        notes[f"{name}_coverage"] = "of the 80 % interval"
        notes[f"{name}_vs_lightgbm"] = "loss, same regressors and origins; below 1 is better"
    return Result(figures=figures, peers=peers, ratios=ratios, notes=notes)


def demo_zone() -> Result:
    """Speed of the fit and of a zone's day, and pinball loss over a week of days."""
    first = first_slot_of_day(FIRST_DAY)
    profiles = zone_profiles(
        CODE,
        first - HISTORY_DAYS * SLOTS_PER_DAY,
        (HISTORY_DAYS + DAYS) * SLOTS_PER_DAY,
        1,
        cache_dir(),
    )
    totals = ZoneTotals(
        profiles.first_slot, profiles.net_wh, profiles.export_wh.sum(1, dtype=np.int64)
    )
    times = fit_times(totals)
    losses = naive = inside = 0
    day_s = float("inf")
    for day in range(DAYS):
        took, made = seconds(partial(_forecast, totals, first + day * SLOTS_PER_DAY))
        day_s = min(day_s, took)
        at = made.first_slot - totals.first_slot
        actual = totals.net_wh[at : at + SLOTS_PER_DAY]
        losses += pinball_loss(_quantiles(made), actual)
        week_ago = totals.net_wh[at - WEEK_SLOTS : at - WEEK_SLOTS + SLOTS_PER_DAY]
        naive += pinball_loss(
            np.stack([week_ago - NAIVE_SPREAD, week_ago, week_ago + NAIVE_SPREAD]), actual
        )
        inside += int(((made.net_q10 <= actual) & (actual <= made.net_q90)).sum())
    terms = 1_000 * DAYS * SLOTS_PER_DAY * 3
    return Result(
        figures={
            "forecast.closed_form_s": times.closed_solver,
            "forecast.fit_s": times.closed_fit,
            "forecast.zone_day_s": day_s,
            "forecast.zone_pinball_wh": losses / terms,
            "forecast.zone_coverage": inside / (DAYS * SLOTS_PER_DAY),
        },
        peers={
            "forecast.stan_s": times.stan_solver,
            "forecast.stan_fit_s": times.stan_fit,
            "forecast.naive_pinball_wh": naive / terms,
        },
        ratios={
            "forecast.closed_form_vs_stan": times.stan_fit / times.closed_fit,
            "forecast.solver_vs_stan": times.stan_solver / times.closed_solver,
            "forecast.zone_pinball_vs_naive": losses / naive,
        },
        notes={
            "forecast.closed_form_s": f"the solver, {HISTORY_DAYS} days of 15 minutes",
            "forecast.fit_s": "the whole fit: matrix and solver",
            "forecast.zone_day_s": "net and export, three quantiles and the mean",
            "forecast.zone_pinball_wh": f"mean over {DAYS} days from {FIRST_DAY}",
            "forecast.zone_coverage": "of the 80 % interval",
            "forecast.naive_pinball_wh": f"same slot a week before, +-{NAIVE_SPREAD} Wh",
            "forecast.closed_form_vs_stan": "times as fast: whole fits, same forecast",
            "forecast.solver_vs_stan": "the same, of the solver inside alone",
            "forecast.zone_pinball_vs_naive": "below 1 is better than the naive",
        },
    )


@dataclass(frozen=True)
class FitTimes:
    """Shortest times in seconds: of Prophet's whole fit, and of the solver inside it."""

    closed_fit: float
    stan_fit: float
    closed_solver: float
    stan_solver: float


def fit_times(totals: ZoneTotals) -> FitTimes:
    """Fit in closed form and with Stan, in turn; CheckFailed where they disagree."""
    from prophet import Prophet

    from forecasting.ridge_backend import RidgeProphet

    # Prophet turns its logger on when it is imported.
    logging.getLogger("cmdstanpy").disabled = True
    train = training_frame(totals)
    fitted: dict[str, Prophet] = {}
    solver = {"closed": float("inf"), "stan": float("inf")}

    def fit(name: str, kind: type[Prophet]) -> None:
        fitted[name], took = _fitted(kind, train)
        solver[name] = min(solver[name], took)

    closed_s, stan_s, _ = race(
        lambda: fit("closed", RidgeProphet), lambda: fit("stan", Prophet), repeat=3
    )
    closed, stan = (fitted[name].predict(train)["yhat"] for name in ("closed", "stan"))
    apart = np.abs(closed - stan).max()
    if apart > AGREEMENT * train["y"].abs().max():
        raise CheckFailed(f"closed form and Stan are {apart:.1f} Wh apart")
    return FitTimes(closed_s, stan_s, solver["closed"], solver["stan"])


def _fitted(kind: type[Prophet], train: pd.DataFrame) -> tuple[Prophet, float]:
    """A fitted model, and the seconds that its solver took of the fit."""
    from forecasting.fit import prophet_of

    regressors = train.columns.drop(["ds", "y", "workday", "free_day"])
    model = prophet_of(kind, regressors, Settings(kind="net"), train["y"].to_numpy())
    backend: Any = model.stan_backend
    solve = backend.fit
    took: list[float] = []

    def timed(*args: Any, **options: Any) -> Any:
        seconds_taken, parameters = seconds(partial(solve, *args, **options))
        took.append(seconds_taken)
        return parameters

    backend.fit = timed
    return model.fit(train), took[0]


def training_frame(totals: ZoneTotals) -> pd.DataFrame:
    """The history as Prophet takes it, with the regressors of a day-ahead load forecast."""
    import pandas as pd

    from forecasting.features import History, load_features
    from forecasting.series import calendar

    slots = HISTORY_DAYS * SLOTS_PER_DAY
    clock = calendar(
        totals.first_slot * SLOT_SECONDS,
        SLOT_SECONDS,
        slots,
        DEMO_TIMEZONE,
        DEMO_COUNTRY,
        DEMO_REGION,
    )
    values = totals.net_wh[:slots].astype(np.float64)
    rows = np.arange(slots)
    columns = load_features(History(values, SLOT_SECONDS, clock), rows, rows % SLOTS_PER_DAY)
    return pd.DataFrame(
        {
            "ds": pd.to_datetime(clock.wall, unit="s"),
            "y": values,
            "workday": clock.workday,
            "free_day": ~clock.workday,
            **columns,
        }
    )


def _forecast(totals: ZoneTotals, target: int) -> DayForecast:
    known = target - GAP_SLOTS - totals.first_slot
    return forecast_zone_day(
        ZoneTotals(totals.first_slot, totals.net_wh[:known], totals.export_wh[:known]), target
    )


def _quantiles(made: DayForecast) -> npt.NDArray[np.int64]:
    return np.stack([made.net_q10, made.net_q50, made.net_q90])
