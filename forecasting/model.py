# SPDX-License-Identifier: Apache-2.0
"""Quantile forecasts of one interval series: Prophet with autoregressive regressors, or a fallback.

Input is an `IntervalSeries` whose end is the origin: nothing later exists. Output says by name
which model made it and why. Reading files lives in `csv_input`, the zone's rules in `zone`.

Method: flat growth, no changepoints, daily seasonality conditional on working day or not, the
regressors of `features`, fitted in closed form; a short window averaged with a long one; quantiles
from the residuals of recent days under fits that left those days out, per local hour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from dao.errors import BadUse
from forecasting.features import History, load_features, solar_features
from forecasting.series import (
    DAY_SECONDS,
    Calendar,
    FloatArray,
    IntArray,
    IntervalSeries,
    Location,
    calendar,
    clear_sky,
)

if TYPE_CHECKING:
    from prophet import Prophet

P = TypeVar("P", bound="Prophet")

Kind = Literal["load", "net", "solar"]
QUANTILES = (0.1, 0.5, 0.9)

# Two weeks give every regressor a value and each weekday a second look; less is noise.
_LEAST_DAYS = 14
# A long window only helps once it holds clearly more than the short one.
_LONG_FROM_DAYS = 84
_MAX_HORIZON_DAYS = 31
_NAIVE_RESIDUAL_DAYS = 56


@dataclass(frozen=True)
class Settings:
    """What a forecast depends on beside the data.

    kind: "load" (no sun), "net" (load minus generation: both signs) or "solar" (never negative,
    zero at night). location: needed for solar regressors; without it they are left out. country
    and region: whose public holidays count as days off (None: weekends only). Windows in days.
    """

    kind: Kind = "load"
    timezone: str = "UTC"
    country: str | None = None
    region: str | None = None
    location: Location | None = None
    short_days: int = 56
    long_days: int = 182
    residual_days: int = 28
    fourier_order: int = 6
    prior_scale: float = 1.0

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class QuantileForecast:
    """Quantiles and mean per interval, in the unit of the input.

    start: unix seconds of the first interval; step: seconds; arrays of shape (n,), q10 <= q50 <=
    q90. model: "prophet", "seasonal-naive-week", "seasonal-naive-day" or "constant-mean"; reason:
    why that one, in plain words. train_from, train_until: unix seconds of the data it learned from.
    """

    start: int
    step: int
    q10: FloatArray
    q50: FloatArray
    q90: FloatArray
    mean: FloatArray
    model: str
    reason: str
    train_from: int
    train_until: int
    rows: int
    regressors: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class _Point:
    """A point forecast of some rows with residuals that it had not been fitted to."""

    mean: FloatArray
    residual_rows: IntArray
    residuals: FloatArray


def forecast(
    series: IntervalSeries,
    horizon: int,
    settings: Settings | None = None,
    *,
    gap: int = 0,
    generation: FloatArray | None = None,
) -> QuantileForecast:
    """Forecast `horizon` intervals, the first of them `gap` intervals after the series ends.

    generation: (n,) what the sun made, same intervals as the series, where it is known apart from
    the series itself (a zone's export beside its net energy).
    Raises BadUse for a horizon that is not positive or longer than 31 days, and for a series
    without any value.
    """
    chosen = settings or Settings()
    values = np.asarray(series.values, dtype=np.float64)
    per_day = series.per_day
    if horizon <= 0:
        raise BadUse(f"horizon of {horizon} intervals: expected at least 1")
    if gap < 0:
        raise BadUse("the forecast must begin at or after the end of its data")
    if horizon + gap > _MAX_HORIZON_DAYS * per_day:
        raise BadUse(f"horizon too long: at most {_MAX_HORIZON_DAYS} days after the data's end")
    if generation is not None and generation.shape != values.shape:
        raise BadUse("generation must have one value per interval of the series")
    known = ~np.isnan(values)
    if not known.any():
        raise BadUse("the series holds no value at all")

    keep = max(chosen.long_days, chosen.short_days) * per_day + 28 * per_day
    if values.size > keep:
        values = values[-keep:]
        known = known[-keep:]
        generation = None if generation is None else generation[-keep:]
    size = values.size
    begin = series.end - size * series.step
    clock = calendar(
        begin,
        series.step,
        size + gap + horizon,
        chosen.timezone,
        chosen.country,
        chosen.region,
    )
    first = size + gap
    days_known = int(known.sum()) / per_day
    if not known[-7 * per_day :].any():
        lack = "no value in the last seven days"
    elif days_known < _LEAST_DAYS:
        lack = f"only {days_known:.1f} days of values, the model needs {_LEAST_DAYS}"
    elif np.ptp(values[known][-chosen.short_days * per_day :]) == 0.0:
        lack = "all recent values are equal"
    else:
        lack = ""
    made = None
    if not lack:
        from forecasting.ridge_backend import NotRidge

        try:
            made = _prophet(values, generation, clock, series.step, first, horizon, chosen)
        except NotRidge as error:
            lack = f"the model could not be fitted ({error})"
    regressors: tuple[str, ...] = ()
    if made is None:
        model, why, mean, quantiles, train_rows = _fallback(values, first, horizon, per_day)
        reason = f"{why}: {lack}"
    else:
        model = "prophet"
        mean, quantiles, train_rows, regressors, windows = made
        reason = f"enough history ({days_known:.0f} days); averaged over {windows}"
    train_from = begin + max(0, size - train_rows) * series.step
    mean, quantiles = _bounded(mean, quantiles, values[known], clock, series.step, first, chosen)
    return QuantileForecast(
        start=begin + first * series.step,
        step=series.step,
        q10=quantiles[0],
        q50=quantiles[1],
        q90=quantiles[2],
        mean=mean,
        model=model,
        reason=reason,
        train_from=train_from,
        train_until=series.end,
        rows=train_rows,
        regressors=regressors,
        settings=chosen.as_dict(),
    )


def _bounded(
    mean: FloatArray,
    quantiles: FloatArray,
    known: FloatArray,
    clock: Calendar,
    step: int,
    first: int,
    settings: Settings,
) -> tuple[FloatArray, FloatArray]:
    """Put quantiles in order; nothing below zero where nothing ever was; no sun at night."""
    quantiles = np.sort(quantiles, axis=0)
    if settings.kind == "solar" or known.min() >= 0.0:
        quantiles = np.maximum(quantiles, 0.0)
        mean = np.maximum(mean, 0.0)
    if settings.kind == "solar" and settings.location is not None:
        day = clear_sky(clock.utc[first:], step, settings.location) > 0.0
        quantiles = np.where(day, quantiles, 0.0)
        mean = np.where(day, mean, 0.0)
    return mean, quantiles


def _conformal(residuals: FloatArray, level: float) -> float:
    """Split-conformal quantile: the rank counts the unseen value too, so small samples widen."""
    ordered = np.sort(residuals)
    count = ordered.size
    if level < 0.5:
        rank = math.floor((count + 1) * level) - 1
    elif level > 0.5:
        rank = math.ceil((count + 1) * level) - 1
    else:
        return float(np.median(ordered))
    return float(ordered[min(max(rank, 0), count - 1)])


def _hourly_quantiles(
    mean: FloatArray, hours: IntArray, residuals: FloatArray, residual_hours: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Shift the mean by the residual quantiles of the same local hour and its two neighbours.

    Returns the mean corrected by the mean residual of that hour, and the three quantiles.
    """
    shifted = mean.copy()
    quantiles = np.tile(mean, (len(QUANTILES), 1))
    for hour in np.unique(hours):
        distance = (residual_hours - hour + 12) % 24 - 12
        near = residuals[np.abs(distance) <= 1]
        if near.size < 10:
            near = residuals
        at = hours == hour
        shifted[at] += near.mean()
        for row, level in enumerate(QUANTILES):
            quantiles[row, at] += _conformal(near, level)
    return shifted, quantiles


def _fallback(
    values: FloatArray, first: int, horizon: int, per_day: int
) -> tuple[str, str, FloatArray, FloatArray, int]:
    """The simplest forecast the history allows: last week, yesterday, or its mean.

    Lags are the smallest whole number of weeks or days known at the origin, and a missing value
    is looked for one period further back.
    """
    size = values.size
    rows = first + np.arange(horizon)
    for name, words, period in (
        ("seasonal-naive-week", "same slot one week before", 7 * per_day),
        ("seasonal-naive-day", "same slot one day before", per_day),
    ):
        point = _periodic(values, rows, period, size)
        if np.isnan(point).any():
            continue
        # The residuals of the same rule one period earlier; none with a single period of data.
        recent = np.arange(max(0, size - _NAIVE_RESIDUAL_DAYS * per_day), size)
        before = recent - period
        inside = before >= 0
        residuals = values[recent[inside]] - values[before[inside]]
        residuals = residuals[~np.isnan(residuals)]
        if residuals.size < 2:
            spread = values[~np.isnan(values)]
            residuals = spread - spread.mean()
        # Centred: a trend of one week is no reason to expect the next one to repeat it.
        residuals = residuals - np.median(residuals)
        quantiles = np.stack([point + _conformal(residuals, level) for level in QUANTILES])
        return name, words, point, quantiles, size
    known = values[~np.isnan(values)]
    quantiles = np.stack([np.full(horizon, _conformal(known, level)) for level in QUANTILES])
    return "constant-mean", "mean of all values", np.full(horizon, known.mean()), quantiles, size


def _periodic(values: FloatArray, rows: IntArray, period: int, size: int) -> FloatArray:
    at = rows - period * ((rows - size) // period + 1)
    point = np.full(rows.shape, np.nan)
    while (at >= 0).any():
        found = np.where(at >= 0, values[at], np.nan)
        point = np.where(np.isnan(point), found, point)
        at = at - period
    return point


def _prophet(
    values: FloatArray,
    generation: FloatArray | None,
    clock: Calendar,
    step: int,
    first: int,
    horizon: int,
    settings: Settings,
) -> tuple[FloatArray, FloatArray, int, tuple[str, ...], str]:
    per_day = DAY_SECONDS // step
    size = values.size
    history = History(values, step, clock)
    solar: History | None = None
    sky = np.zeros(clock.utc.size)
    if settings.kind != "load" and settings.location is not None:
        made = generation
        if made is None:
            made = values if settings.kind == "solar" else np.maximum(0.0, -values)
        if np.nansum(made) > 0.0:
            solar = History(made, step, clock)
            sky = clear_sky(clock.utc, step, settings.location)

    days = size / per_day
    windows = [min(settings.short_days, int(days))]
    if days >= _LONG_FROM_DAYS and settings.long_days > settings.short_days:
        windows.append(min(settings.long_days, int(days)))
    # Rows before this have no value of a week earlier, only stand-ins.
    earliest = min(7 * per_day, max(0, size - 7 * per_day))
    means: list[FloatArray] = []
    bands: list[FloatArray] = []
    names: tuple[str, ...] = ()
    for at in range(first, first + horizon, per_day):
        rows = np.arange(at, min(at + per_day, first + horizon))
        # Each time of day has one lead in this forecast; training rows take over that lead.
        whole = np.arange(at, at + per_day)
        lead_of = np.empty(per_day, dtype=np.int64)
        lead_of[whole % per_day] = whole - size
        past = np.arange(max(earliest, size - windows[-1] * per_day), size)
        past = past[~np.isnan(values[past])]
        every = np.concatenate([past, rows])
        leads = lead_of[every % per_day]
        columns = load_features(history, every, leads)
        if solar is not None:
            columns.update(solar_features(solar, sky, every, leads))
        names = tuple(columns)
        points = [
            _fit(
                columns,
                past.size,
                past >= size - window * per_day,
                values[past],
                every,
                clock,
                settings,
                size - settings.residual_days * per_day,
            )
            for window in windows
        ]
        mean = sum((point.mean for point in points), np.zeros(rows.size)) / len(points)
        # Averaged forecasts have averaged residuals, on the rows that every window holds.
        shared = points[0].residual_rows
        for point in points[1:]:
            shared = np.intersect1d(shared, point.residual_rows)
        residuals = np.zeros(shared.size)
        for point in points:
            residuals += point.residuals[np.searchsorted(point.residual_rows, shared)]
        residuals /= len(points)
        mean, quantiles = _hourly_quantiles(mean, clock.hour[rows], residuals, clock.hour[shared])
        means.append(mean)
        bands.append(quantiles)
    words = " and ".join(f"{window} days" for window in windows)
    return (
        np.concatenate(means),
        np.concatenate(bands, axis=1),
        min(size, windows[-1] * per_day),
        names,
        words,
    )


def prophet_of(kind: type[P], regressors: Iterable[str], settings: Settings) -> P:
    """Prophet, or a kind of it, set up as the method asks: flat, additive, no changepoints.

    The frame it is fitted to has the conditions `workday` and `free_day` beside the regressors.
    """
    model = kind(
        growth="flat",
        n_changepoints=0,
        daily_seasonality=False,
        weekly_seasonality=False,
        yearly_seasonality=False,
        uncertainty_samples=0,
    )
    for condition in ("workday", "free_day"):
        model.add_seasonality(
            f"daily_{condition}", 1, settings.fourier_order, condition_name=condition
        )
    for name in regressors:
        model.add_regressor(name, prior_scale=settings.prior_scale, standardize=True)
    return model


def _fit(
    columns: dict[str, FloatArray],
    past_count: int,
    inside: npt.NDArray[np.bool_],
    target: FloatArray,
    every: IntArray,
    clock: Calendar,
    settings: Settings,
    residuals_from: int,
) -> _Point:
    """Fit one window and forecast the rows after `past_count`.

    columns: regressors of all rows in `every`, the past ones first; inside: which past rows the
    window holds; target: (past_count,) values.
    """
    import pandas as pd

    from forecasting.ridge_backend import RidgeProphet, left_out_residuals

    frame = pd.DataFrame({"ds": pd.to_datetime(clock.wall[every], unit="s"), **columns})
    frame["workday"] = clock.workday[every]
    frame["free_day"] = ~clock.workday[every]
    train = frame.iloc[:past_count][inside].assign(y=target[inside])
    # A column that never changes says nothing, and Prophet would not scale it.
    telling = [n for n, column in columns.items() if np.ptp(column[:past_count][inside]) > 0.0]
    model = prophet_of(RidgeProphet, telling, settings)
    model.fit(train)
    predicted = model.predict(frame.iloc[past_count:])["yhat"].to_numpy()
    rows = every[:past_count][inside]
    # Prophet sorts its history by wall clock; in the hour that occurs twice that is not our order.
    order = np.argsort(clock.wall[rows], kind="stable")
    day = clock.day[rows]
    groups = np.where(rows >= residuals_from, day, -1)[order]
    left_out = np.empty(rows.size)
    left_out[order] = left_out_residuals(model.ridge(), groups) * float(model.y_scale or 1.0)
    asked = ~np.isnan(left_out)
    return _Point(mean=predicted, residual_rows=rows[asked], residuals=left_out[asked])
