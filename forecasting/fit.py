# SPDX-License-Identifier: Apache-2.0
"""One fit of Prophet as the method asks for it: what it depends on, and the points it gives.

Which regressors and windows a series gets, and what becomes of the points, is `model`'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from forecasting.series import Calendar, FloatArray, IntArray, Location

if TYPE_CHECKING:
    from prophet import Prophet

P = TypeVar("P", bound="Prophet")

Kind = Literal["load", "net", "solar"]

_WEATHER_PRIOR = 10.0  # times as wide as that of the other regressors


@dataclass(frozen=True)
class Settings:
    """What a forecast depends on beside the data.

    kind: "load" (no sun), "net" (load minus generation: both signs) or "solar" (never negative,
    zero at night). location: needed for solar regressors; without it they are left out. country
    and region: whose public holidays count as days off (None: weekends only). Windows in days.
    prior_weight: how much the prior of every coefficient (none but the level is expected) weighs
    beside the window's rows.
    """

    kind: Kind = "load"
    timezone: str = "UTC"
    country: str | None = None
    region: str | None = None
    location: Location | None = None
    short_days: int = 56
    long_days: int = 182
    residual_days: int = 42
    fourier_order: int = 6
    prior_weight: float = 0.3

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class Point:
    """A point forecast of some rows with residuals that it had not been fitted to."""

    mean: FloatArray
    residual_rows: IntArray
    residuals: FloatArray


def sum_of(points: list[tuple[float, Point]]) -> Point:
    """Weighted sum of forecasts; its residuals are the sum's, on the rows that all of them have."""
    if len(points) == 1 and points[0][0] == 1.0:
        return points[0][1]
    shared = points[0][1].residual_rows
    for _, one in points[1:]:
        shared = np.intersect1d(shared, one.residual_rows, assume_unique=True)
    mean = np.zeros(points[0][1].mean.size)
    residuals = np.zeros(shared.size)
    for share, one in points:
        mean += share * one.mean
        residuals += share * one.residuals[np.searchsorted(one.residual_rows, shared)]
    return Point(mean=mean, residual_rows=shared, residuals=residuals)


def prophet_of(
    kind: type[P], regressors: Iterable[str], settings: Settings, target: FloatArray
) -> P:
    """Prophet, or a kind of it, set up as the method asks: flat, additive, no changepoints.

    The frame it is fitted to has the conditions `workday` and `free_day` beside the regressors;
    target: its y, of which the strength of the prior is measured.
    """
    model = kind(
        growth="flat",
        n_changepoints=0,
        daily_seasonality=False,
        weekly_seasonality=False,
        yearly_seasonality=False,
        uncertainty_samples=0,
    )
    # Prophet divides y by its largest value. On that scale a prior this wide weighs as much as
    # `prior_weight` times the rows beside a column of unit variance. Three digits, so that the
    # last bits of a sum do not reach the forecast.
    spread = float(np.std(target)) / max(float(np.abs(target).max()), 1e-300)
    wide = spread / math.sqrt(settings.prior_weight * target.size)
    prior = float(f"{max(wide, 1e-9):.3g}")
    for condition in ("workday", "free_day"):
        model.add_seasonality(
            f"daily_{condition}",
            1,
            settings.fourier_order,
            condition_name=condition,
            # A wave has half the variance of a standardised column, on the days it speaks of.
            prior_scale=2.0 * prior,
        )
    for name in regressors:
        # Lags tell much the same, and the prior shares the weight out among them. What the weather
        # tells, nothing else does: it is hardly held back.
        told = _WEATHER_PRIOR * prior if name.startswith("weather_") else prior
        model.add_regressor(name, prior_scale=told, standardize=True)
    return model


def fit(
    columns: dict[str, FloatArray],
    past_count: int,
    inside: npt.NDArray[np.bool_],
    target: FloatArray,
    every: IntArray,
    clock: Calendar,
    settings: Settings,
    residuals_from: int,
) -> Point:
    """Fit one window and forecast the rows after `past_count`.

    columns: regressors of all rows in `every`, the past ones first; inside: which past rows the
    window holds; target: (past_count,) values.
    """
    import pandas as pd

    from forecasting.ridge_backend import RidgeProphet, left_out_residuals

    stamps = (clock.wall * 1_000_000_000).view("datetime64[ns]")
    # A column that never changes says nothing, and Prophet would not scale it.
    telling = [n for n, column in columns.items() if np.ptp(column[:past_count][inside]) > 0.0]

    def frame(at: IntArray, chosen: npt.NDArray[np.bool_] | slice, part: slice) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "ds": stamps[at],
                "workday": clock.workday[at],
                "free_day": ~clock.workday[at],
                **{name: columns[name][part][chosen] for name in telling},
            }
        )

    before, after = slice(None, past_count), slice(past_count, None)
    train = frame(every[before][inside], inside, before)
    train["y"] = target[inside]
    model = prophet_of(RidgeProphet, telling, settings, target[inside])
    model.fit(train)
    predicted = model.point(frame(every[after], slice(None), after))
    rows = every[:past_count][inside]
    # Prophet sorts its history by wall clock; in the hour that occurs twice that is not our order.
    order = np.argsort(clock.wall[rows], kind="stable")
    day = clock.day[rows] - clock.day[rows].min()  # before 1970 days have negative numbers
    groups = np.where(rows >= residuals_from, day, -1)[order]
    left_out = np.empty(rows.size)
    left_out[order] = left_out_residuals(model.ridge(), groups) * float(model.y_scale or 1.0)
    asked = ~np.isnan(left_out)
    return Point(mean=predicted, residual_rows=rows[asked], residuals=left_out[asked])
