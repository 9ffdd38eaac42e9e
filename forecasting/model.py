# SPDX-License-Identifier: Apache-2.0
"""Quantile forecasts of one interval series: Prophet with autoregressive regressors, or a fallback.

Input is an `IntervalSeries` whose end is the origin: nothing later exists. Output says by name
which model made it and why. Reading files lives in `csv_input`, the zone's rules in `zone`.

Method: flat growth, no changepoints, daily seasonality conditional on working day or not, the
regressors of `features`, fitted in closed form; a short window averaged with a long one; quantiles
from the residuals of recent days under fits that left those days out, per local hour and type of
day. A series that never falls below zero is forecast on the scale of its square root too, and each
series by what it did lately at that time of day. `quantiles` weighs these by how they would have
done on the recent days.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from dao.errors import BadUse
from forecasting.checks import Finding, examine
from forecasting.features import History, load_features, solar_features, weather_features
from forecasting.fit import Point, Settings, fit, sum_of
from forecasting.quantiles import (
    QUANTILES,
    Band,
    conformal,
    mixed,
    recent_quantiles,
    residual_quantiles,
    shifted_mean,
)
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

# Two weeks give every regressor a value and each weekday a second look; less is noise.
LEAST_DAYS = 14
# A long window only helps once it holds clearly more than the short one.
_LONG_FROM_DAYS = 84
_MAX_HORIZON_DAYS = 31
_NAIVE_RESIDUAL_DAYS = 56
_RECENT_DAYS = 28
_RECENT_WEEKS = 8
_LEAST_RECENT = 10
# What a home does, it may do an hour later; how clear the sky is, changes with its height.
_RECENT_REACH = 3600
_CLEARNESS_REACH = 1800
_LOW_SUN = 5.0  # W/m2


@dataclass(frozen=True)
class QuantileForecast:
    """Quantiles and mean per interval, in the unit of the input.

    start: unix seconds of the first interval; step: seconds; arrays of shape (n,), q10 <= q50 <=
    q90. model: "prophet", "neighbours", "seasonal-naive-week", "seasonal-naive-day" or
    "constant-mean"; reason: why that one, in plain words. train_from, train_until: unix seconds of
    the data it learned from. findings: what was wrong with the data, and what was done.
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
    findings: tuple[Finding, ...] = ()


def forecast(
    series: IntervalSeries,
    horizon: int,
    settings: Settings | None = None,
    *,
    gap: int = 0,
    generation: FloatArray | None = None,
    weather: Mapping[str, FloatArray] | None = None,
) -> QuantileForecast:
    """Forecast `horizon` intervals, the first of them `gap` intervals after the series ends.

    generation: (n,) what the sun made, same intervals as the series, where it is known apart from
    the series itself (a zone's export beside its net energy). weather: columns by name, known for
    the n intervals and the gap + horizon after them.
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
    if np.isnan(values).all():
        raise BadUse("the series holds no value at all")

    keep = max(chosen.long_days, chosen.short_days) * per_day + 28 * per_day
    cut = max(0, values.size - keep)
    values = values[cut:]
    size = values.size
    begin = series.end - size * series.step
    first = size + gap
    clock = _clock(begin, series.step, first + horizon, chosen)
    sky = _sky(begin, series.step, first + horizon, chosen)
    solar = chosen.kind == "solar"
    examined = examine(
        values,
        series.step,
        signed=chosen.kind == "net",
        solar=solar,
        sky=sky[:size] if solar and sky is not None else None,
    )
    findings = list(examined.findings)
    if not np.isnan(examined.values).all():
        values = examined.values
    if examined.sun_shift and sky is not None:
        sky = np.roll(sky, examined.sun_shift)
    if generation is not None:
        generation = examine(generation[cut:], series.step, signed=False, solar=True).values
    outside: dict[str, FloatArray] = {}
    for name, column in (weather or {}).items():
        part = np.asarray(column, dtype=np.float64)[cut : cut + first + horizon]
        filled = _filled(part, first + horizon, per_day)
        if filled is None:
            what = f"the weather column {name} does not reach over history and forecast"
            findings.append(Finding("missing", what, "left out"))
        else:
            outside[name] = filled

    known = ~np.isnan(values)
    days_known = int(known.sum()) / per_day
    if not known[-7 * per_day :].any():
        lack = "no value in the last seven days"
    elif days_known < LEAST_DAYS:
        lack = f"only {days_known:.1f} days of values, the model needs {LEAST_DAYS}"
    elif np.ptp(values[known][-chosen.short_days * per_day :]) == 0.0:
        lack = "all recent values are equal"
    else:
        lack = ""
    made = None
    if not lack:
        from forecasting.ridge_backend import NotRidge

        source = _Source(values, generation, sky, outside, clock, series.step, chosen)
        try:
            made = _prophet(source, first, horizon)
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
    night = None
    if solar and sky is not None:
        # A clock that is off is not off by a whole number of intervals all year.
        twilight = per_day // 24 if examined.sun_shift else 0
        light = np.flatnonzero(sky > 0.0)
        night = np.ones(sky.size, dtype=bool)
        for side in range(-twilight, twilight + 1):
            night[np.clip(light + side, 0, sky.size - 1)] = False
        night = night[first:]
    mean, quantiles = _bounded(mean, quantiles, values[known], solar, night)
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
        findings=tuple(findings),
    )


def borrowed(
    series: IntervalSeries,
    neighbours: FloatArray,
    horizon: int,
    settings: Settings,
    *,
    gap: int = 0,
) -> QuantileForecast | None:
    """The forecast of a young home: what its neighbours will do, at its own height.

    neighbours: mean of comparable homes over intervals of the same length that end with the
    series. Height: energy of the home over that of the neighbours while both are known. Quantiles
    from how the home differed from its neighbours, per local hour. None where the home has less
    than a day, or the two do not compare.
    """
    size = min(series.values.size, neighbours.size)
    own = series.values[-size:]
    theirs = neighbours[-size:]
    both = np.flatnonzero(~(np.isnan(own) | np.isnan(theirs)))
    if both.size < series.per_day or theirs[both].sum() <= 0.0 or own[both].sum() <= 0.0:
        return None
    height = float(own[both].sum() / theirs[both].sum())
    begin = series.end - neighbours.size * series.step
    made = forecast(IntervalSeries(begin, series.step, neighbours), horizon, settings, gap=gap)
    clock = _clock(series.end - size * series.step, series.step, size + gap + horizon, settings)
    point, differed = height * made.mean, own[both] - height * theirs[both]
    ahead = np.arange(size + gap, size + gap + horizon)
    mean = shifted_mean(point, clock.hour[ahead], differed, clock.hour[both])
    quantiles = residual_quantiles(
        point,
        clock.hour[ahead],
        clock.workday[ahead],
        differed,
        clock.hour[both],
        clock.workday[both],
    )
    sky = _sky(made.start, series.step, horizon, settings) if settings.kind == "solar" else None
    night = None if sky is None else sky <= 0.0
    mean, quantiles = _bounded(mean, quantiles, own[both], settings.kind == "solar", night)
    days = both.size / series.per_day
    return replace(
        made,
        q10=quantiles[0],
        q50=quantiles[1],
        q90=quantiles[2],
        mean=mean,
        model="neighbours",
        reason=f"neighbours at {height:.2f} of their height: only {days:.1f} days of values, the "
        f"model needs {LEAST_DAYS}",
        train_from=series.end - int(both.size) * series.step,
        rows=int(both.size),
    )


# The homes of a zone share clock and sun.
@lru_cache(maxsize=4)
def _calendar(
    begin: int, step: int, count: int, timezone: str, country: str | None, region: str | None
) -> Calendar:
    return calendar(begin, step, count, timezone, country, region)


def _clock(begin: int, step: int, count: int, settings: Settings) -> Calendar:
    return _calendar(begin, step, count, settings.timezone, settings.country, settings.region)


@lru_cache(maxsize=4)
def _clear_sky(begin: int, step: int, count: int, place: Location) -> FloatArray:
    sky = clear_sky(begin + step * np.arange(count, dtype=np.int64), step, place)
    sky.flags.writeable = False
    return sky


def _sky(begin: int, step: int, count: int, settings: Settings) -> FloatArray | None:
    """Clear-sky output of every interval where the sun matters and the place is known."""
    if settings.kind == "load" or settings.location is None:
        return None
    return _clear_sky(begin, step, count, settings.location)


def _filled(column: FloatArray, size: int, per_day: int) -> FloatArray | None:
    """A weather column without gaps, or None where more is missing than half a day in a row."""
    known = np.flatnonzero(~np.isnan(column))
    edges = np.concatenate([[-1], known, [size]])
    if column.size < size or np.diff(edges).max() > per_day // 2:
        return None
    return np.interp(np.arange(size), known, column[known])


def _bounded(
    mean: FloatArray,
    quantiles: FloatArray,
    known: FloatArray,
    solar: bool,
    night: npt.NDArray[np.bool_] | None,
) -> tuple[FloatArray, FloatArray]:
    """Put quantiles in order; nothing below zero where nothing ever was; no sun at night."""
    quantiles = np.sort(quantiles, axis=0)
    if solar or known.min() >= 0.0:
        quantiles = np.maximum(quantiles, 0.0)
        mean = np.maximum(mean, 0.0)
    if night is not None:
        quantiles = np.where(night, 0.0, quantiles)
        mean = np.where(night, 0.0, mean)
    return mean, quantiles


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
        quantiles = np.stack([point + conformal(residuals, level) for level in QUANTILES])
        return name, words, point, quantiles, size
    known = values[~np.isnan(values)]
    quantiles = np.stack([np.full(horizon, conformal(known, level)) for level in QUANTILES])
    return "constant-mean", "mean of all values", np.full(horizon, known.mean()), quantiles, size


def _periodic(values: FloatArray, rows: IntArray, period: int, size: int) -> FloatArray:
    at = rows - period * ((rows - size) // period + 1)
    point = np.full(rows.shape, np.nan)
    while (at >= 0).any():
        found = np.where(at >= 0, values[at], np.nan)
        point = np.where(np.isnan(point), found, point)
        at = at - period
    return point


@dataclass(frozen=True)
class _Source:
    """All that the model of one series reads. sky, weather: over history, gap and horizon."""

    values: FloatArray
    generation: FloatArray | None
    sky: FloatArray | None
    weather: Mapping[str, FloatArray]
    clock: Calendar
    step: int
    settings: Settings

    @property
    def per_day(self) -> int:
        return DAY_SECONDS // self.step

    def columns(self, scale: _Scale, every: IntArray, leads: IntArray) -> dict[str, FloatArray]:
        """The regressors of some rows, each from what is known `leads` intervals before it."""
        solar = self.settings.kind == "solar"
        columns: dict[str, FloatArray] = {}
        if self.sky is not None:
            made = self.generation
            if made is None:
                made = self.values if solar else np.maximum(0.0, -self.values)
            if np.nansum(made) > 0.0:
                sun = History(made, self.step, self.clock)
                columns.update(solar_features(sun, self.sky, every, leads))
        # A roof knows neither evenings nor weekdays.
        if not (solar and columns):
            known = History(scale.there(self.values), self.step, self.clock)
            columns = load_features(known, every, leads) | columns
        return columns | weather_features(self.weather, every)

    def parts(self) -> list[tuple[float, _Source]]:
        """The series as sums of what is forecast apart, with the share of each in the whole.

        Net energy whose generation is known is forecast directly, and as load less generation.
        """
        if self.settings.kind != "net" or self.generation is None or self.sky is None:
            return [(1.0, self)]
        load = self.values + self.generation
        recent = slice(-self.settings.short_days * self.per_day, None)
        if not all(_varies(part[recent]) for part in (load, self.generation)):
            return [(1.0, self)]
        as_load, as_solar = (replace(self.settings, kind=kind) for kind in ("load", "solar"))
        return [
            (0.5, self),
            (0.5, replace(self, values=load, generation=None, sky=None, settings=as_load)),
            (-0.5, replace(self, values=self.generation, settings=as_solar)),
        ]


def _varies(values: FloatArray) -> bool:
    known = values[~np.isnan(values)]
    return bool(known.size and np.ptp(known) > 0.0)


class _Scale:
    """The scale on which a fit is made: that of the series, or its square root."""

    def __init__(self, root: bool) -> None:
        self.root = root

    def there(self, values: FloatArray) -> FloatArray:
        return np.sqrt(values) if self.root else values

    def back(self, values: FloatArray) -> FloatArray:
        return np.square(np.maximum(values, 0.0)) if self.root else values


def _prophet(
    source: _Source, first: int, horizon: int
) -> tuple[FloatArray, FloatArray, int, tuple[str, ...], str]:
    per_day, settings, values = source.per_day, source.settings, source.values
    size = values.size
    days = size / per_day
    windows = [min(settings.short_days, int(days))]
    if days >= _LONG_FROM_DAYS and settings.long_days > settings.short_days:
        windows.append(min(settings.long_days, int(days)))
    scales = [_Scale(root=False)]
    # Under the root quiet hours count for more and peaks for less. That is the better guess at
    # medians, and the plain scale at sums.
    floor = settings.kind == "solar" or float(np.nanmin(values)) >= 0.0
    if settings.kind == "load" and floor:
        scales.append(_Scale(root=True))
    parts = source.parts()
    hours = source.clock.hour
    # A roof knows no weekdays.
    sunny = settings.kind == "solar" and source.sky is not None
    means: list[FloatArray] = []
    bands: list[FloatArray] = []
    names: dict[str, None] = {}
    for at in range(first, first + horizon, per_day):
        rows = np.arange(at, min(at + per_day, first + horizon))
        made: list[Band] = []
        for scale in scales:
            points = [
                (share, _averaged(part, scale, windows, at, rows, names)) for share, part in parts
            ]
            whole = sum_of(points)
            if not scale.root:
                means.append(
                    shifted_mean(
                        whole.mean, hours[rows], whole.residuals, hours[whole.residual_rows]
                    )
                )
            made.append(_residual_band(source, scale, whole, rows, floor))
        recent = whole.residual_rows
        usual = [1.0 / len(scales)] * len(scales)
        if sunny:
            made.append(_clearness_band(source, made[0], recent, rows, at))
            usual = [0.5, 0.5]
        elif len(parts) == 1:  # load and sun apart tell more than their sum's last days
            made += _recent_bands(source, made[0], recent, rows, at)
            usual += [0.0, 0.0]
        types = np.ones(source.clock.workday.shape, dtype=bool) if sunny else source.clock.workday
        bands.append(mixed(made, usual, values[recent], types[recent], types[rows]))
    words = " and ".join(f"{window} days" for window in windows)
    return (
        np.concatenate(means),
        np.concatenate(bands, axis=1),
        min(size, windows[-1] * per_day),
        tuple(names),
        words,
    )


def _averaged(
    source: _Source,
    scale: _Scale,
    windows: list[int],
    at: int,
    rows: IntArray,
    names: dict[str, None],
) -> Point:
    """The mean of the fits over all windows, for one day of rows that begins at `at`.

    Adds the names of the regressors to `names`.
    """
    per_day, settings, values = source.per_day, source.settings, source.values
    size = values.size
    # Rows before this have no value of a week earlier, only stand-ins.
    earliest = min(7 * per_day, max(0, size - 7 * per_day))
    past = np.arange(max(earliest, size - windows[-1] * per_day), size)
    past = past[~np.isnan(values[past])]
    # Each time of day has one lead in this forecast; training rows take over that lead.
    every = np.concatenate([past, rows])
    columns = source.columns(scale, every, _leads(source, at)[every % per_day])
    names.update(dict.fromkeys(columns))
    target = scale.there(values[past])
    points = [
        (
            1.0 / len(windows),
            fit(
                columns,
                past.size,
                past >= size - window * per_day,
                target,
                every,
                source.clock,
                settings,
                size - settings.residual_days * per_day,
            ),
        )
        for window in windows
    ]
    return sum_of(points)


def _leads(source: _Source, at: int) -> IntArray:
    """How far after the origin each interval of a day lies, for the day that begins at `at`."""
    whole = np.arange(at, at + source.per_day)
    leads = np.empty(source.per_day, dtype=np.int64)
    leads[whole % source.per_day] = whole - source.values.size
    return leads


def _residual_band(
    source: _Source, scale: _Scale, whole: Point, rows: IntArray, floor: bool
) -> Band:
    """The point forecast with the quantiles of its residuals, back on the scale of the series."""
    recent, clock = whole.residual_rows, source.clock
    every = np.concatenate([recent, rows])
    point = scale.there(source.values[recent]) - whole.residuals
    quantiles = residual_quantiles(
        np.concatenate([point, whole.mean]),
        clock.hour[every],
        clock.workday[every],
        whole.residuals,
        clock.hour[recent],
        clock.workday[recent],
    )
    if floor:
        quantiles = np.maximum(quantiles, 0.0)
    quantiles = scale.back(quantiles)
    return Band(quantiles[:, : recent.size], quantiles[:, recent.size :])


def _recent_bands(
    source: _Source, made: Band, recent: IntArray, rows: IntArray, at: int
) -> list[Band]:
    """What the series did at that time of day: on days of the same type, and of the same name.

    `made` stands where too little is known.
    """
    every = np.concatenate([recent, rows])
    leads = _leads(source, at)[every % source.per_day]
    history, workday = History(source.values, source.step, source.clock), source.clock.workday
    back = leads // source.per_day + 1
    alike = []
    for extra in range(_RECENT_DAYS):
        found = history.source(every, every - leads, back + extra, local=True)
        alike.append(np.where(workday[found] == workday[every], found, -1))
    weeks = 7 * ((back + 6) // 7)
    named = [
        history.source(every, every - leads, weeks + 7 * extra, local=True)
        for extra in range(_RECENT_WEEKS)
    ]
    bands = []
    for days in (alike, named):
        quantiles, count = recent_quantiles(history, every, leads, days, _RECENT_REACH)
        bands.append(_band(quantiles, count >= _LEAST_RECENT, made))
    return bands


def _band(quantiles: FloatArray, fits: npt.NDArray[np.bool_], stand_in: Band) -> Band:
    """A band of rows of the past and then of those ahead; `stand_in` where it does not fit."""
    other = np.concatenate([stand_in.past, stand_in.ahead], axis=1)
    whole = np.where(fits, quantiles, other)
    return Band(whole[:, : stand_in.past.shape[1]], whole[:, stand_in.past.shape[1] :])


def _clearness_band(source: _Source, made: Band, recent: IntArray, rows: IntArray, at: int) -> Band:
    """The clearness of the last four weeks, same time of day, under the sky of each row.

    Tomorrow's clouds are hardly told by today's; how clear the sky was lately is a forecast of its
    own, and a mixture of the two is better than either. The last two weeks count twice. `made`
    stands where the sun is too low for a ratio.
    """
    assert source.sky is not None
    size = source.values.size
    high = source.sky[:size] > _LOW_SUN
    clear = np.where(high, source.values / np.where(high, source.sky[:size], 1.0), np.nan)
    every = np.concatenate([recent, rows])
    leads = _leads(source, at)[every % source.per_day]
    history = History(clear, source.step, source.clock)
    days = [
        history.source(every, every - leads, leads // source.per_day + 1 + extra, local=False)
        for extra in range(_RECENT_DAYS)
    ]
    twice = [*days, *days[: _RECENT_DAYS // 2]]
    quantiles, count = recent_quantiles(history, every, leads, twice, _CLEARNESS_REACH)
    sky = source.sky[every]
    fits = (count >= _LEAST_RECENT) & (sky > _LOW_SUN)
    return _band(quantiles * sky, fits, made)
