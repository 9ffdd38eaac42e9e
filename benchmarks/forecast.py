# SPDX-License-Identifier: Apache-2.0
"""The zone's forecast: the closed form beside Stan, seconds for a day, accuracy beside the naive.

On the demo zone's profiles. Its households share five load shapes (see `meters.profiles`), so the
accuracy here says that the method works and not how well it serves distinct homes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks.results import Result, race, seconds
from dao.errors import CheckFailed
from dao.forecasts import pinball_loss
from dao.parameters import MARKET_RULES
from dao.paths import cache_dir
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY, first_slot_of_day
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


def run() -> Result:
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
            "forecast.closed_form_vs_stan": times.stan_solver / times.closed_solver,
            "forecast.fit_vs_stan_fit": times.stan_fit / times.closed_fit,
            "forecast.zone_pinball_vs_naive": losses / naive,
        },
        notes={
            "forecast.closed_form_s": f"the solver, {HISTORY_DAYS} days of 15 minutes",
            "forecast.fit_s": "Prophet's whole fit around it",
            "forecast.zone_day_s": "net and export, three quantiles and the mean",
            "forecast.zone_pinball_wh": f"mean over {DAYS} days from {FIRST_DAY}",
            "forecast.zone_coverage": "of the 80 % interval",
            "forecast.naive_pinball_wh": f"same slot a week before, +-{NAIVE_SPREAD} Wh",
            "forecast.closed_form_vs_stan": "times as fast, same forecast",
            "forecast.fit_vs_stan_fit": "the same with what Prophet does before either",
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
    from forecasting.model import Settings, prophet_of

    regressors = train.columns.drop(["ds", "y", "workday", "free_day"])
    model = prophet_of(kind, regressors, Settings(kind="net"))
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
