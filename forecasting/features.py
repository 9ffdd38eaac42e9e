# SPDX-License-Identifier: Apache-2.0
"""The autoregressive, solar and weather regressors, each from what was known at its origin.

A row is a target interval with a *lead*: how many intervals it lies after the first unknown one.
Its origin is `row - lead`, and no value at or after the origin is ever read. Training rows get the
lead that the forecast's interval of the same time of day has, so that the model learns from
exactly the information it will have.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from forecasting.series import Calendar, FloatArray, IntArray

_EVENING = (18, 22)  # local hours whose mean is "last evening"
_RECENT_SECONDS = 3 * 3600
_ENVELOPE_DAYS = 14


class History:
    """Known values up to the origin of the forecast, with the look-ups that regressors need."""

    def __init__(self, values: FloatArray, step: int, clock: Calendar) -> None:
        """values: (n,) known, NaN where missing; clock: at least n intervals, the future too."""
        self.size = values.size
        self.values = values
        self.clock = clock
        self.step = step
        self.per_day = 86_400 // step
        known = ~np.isnan(values)
        # Running sums make every mean over a stretch before an origin one subtraction.
        self._sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
        self._counts = np.concatenate([[0], np.cumsum(known)])

    @cached_property
    def _evenings(self) -> FloatArray:
        """For each origin 0..n, the mean of the last evening that had ended by then."""
        hour = self.clock.hour[: self.size]
        inside = (hour >= _EVENING[0]) & (hour < _EVENING[1])
        ends = np.flatnonzero(inside & ~np.append(inside[1:], False))
        result = np.full(self.size + 1, np.nan)
        steps = (_EVENING[1] - _EVENING[0]) * 3600 // self.step
        # An evening cut off by the origin is not over: it ends where its last hour ends.
        ends = ends[(self.clock.wall[ends] + self.step) % 86_400 == _EVENING[1] * 3600]
        means = self.mean(ends + 1 - steps, ends + 1)
        for at, mean in zip(ends + 1, means, strict=True):
            if not np.isnan(mean):
                result[at:] = mean
        return result

    def mean(self, begin: IntArray, end: IntArray) -> FloatArray:
        """Mean of the known values in [begin, end); NaN where there is none."""
        begin = np.clip(begin, 0, self.size)
        end = np.clip(end, 0, self.size)
        count = (self._counts[end] - self._counts[begin]).astype(np.float64)
        total = self._sums[end] - self._sums[begin]
        return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)

    def total(self, begin: IntArray, end: IntArray) -> FloatArray:
        begin = np.clip(begin, 0, self.size)
        end = np.clip(end, 0, self.size)
        return np.asarray(self._sums[end] - self._sums[begin])

    def evening(self, origins: IntArray) -> FloatArray:
        return np.asarray(self._evenings[np.clip(origins, 0, self.size)])

    def source(self, rows: IntArray, origins: IntArray, days: IntArray, local: bool) -> IntArray:
        """Index of the interval `days` whole days before each row, -1 where not known by then.

        With `local` the same wall clock is meant: an hour is put right across a change of clocks,
        and where that would reach past the origin the day before is taken.
        """
        at = rows - days * self.per_day
        if local:
            offset = self.clock.offset
            shift = (offset[rows] - offset[np.clip(at, 0, None)]) // self.step
            at = at + shift
            at = np.where(at >= origins, at - self.per_day, at)
        return np.where((at >= 0) & (at < np.minimum(origins, self.size)), at, -1)

    def lag(
        self, rows: IntArray, origins: IntArray, days: IntArray, local: bool = True
    ) -> FloatArray:
        at = self.source(rows, origins, days, local)
        return np.where(at >= 0, self.values[at], np.nan)


def _mean_of(stack: list[FloatArray]) -> FloatArray:
    """Mean over the list, NaN ignored, NaN where all are."""
    table = np.stack(stack)
    known = ~np.isnan(table)
    count = known.sum(axis=0).astype(np.float64)
    total = np.where(known, table, 0.0).sum(axis=0)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def load_features(history: History, rows: IntArray, leads: IntArray) -> dict[str, FloatArray]:
    """The load regressors of each row, without gaps.

    rows: (r,) interval indices, may lie in the future; leads: (r,) intervals after the origin.
    `days` below is the smallest whole number of days after which a row's value is known.
    """
    origins = rows - leads
    days = leads // history.per_day + 1
    weeks = 7 * ((days + 6) // 7)
    same_slot = [history.lag(rows, origins, days + extra) for extra in range(7)]
    same_weekday = [history.lag(rows, origins, weeks + extra) for extra in (0, 7, 14, 21)]
    workday = history.clock.workday
    same_type = np.full(rows.shape, np.nan)
    for extra in range(10):
        at = history.source(rows, origins, days + extra, local=True)
        fits = (at >= 0) & (workday[at] == workday[rows]) & np.isnan(same_type)
        same_type = np.where(fits, history.values[at], same_type)
    width = _RECENT_SECONDS // history.step
    past = [
        history.mean(origins - width - day * history.per_day, origins - day * history.per_day)
        for day in range(1, 8)
    ]
    week_mean = _mean_of(same_slot)
    columns = {
        "day_ago": same_slot[0],
        "week_ago": same_weekday[0],
        "week_mean": week_mean,
        "weekday_mean": _mean_of(same_weekday),
        "level": history.mean(origins - history.per_day, origins),
        "evening": history.evening(origins),
        "same_type": same_type,
        "recent": history.mean(origins - width, origins) - _mean_of(past),
    }
    ever = history.mean(np.zeros_like(origins), origins)
    stand_in = np.where(np.isnan(week_mean), np.where(np.isnan(ever), 0.0, ever), week_mean)
    level = np.where(np.isnan(ever), 0.0, ever)
    filled: dict[str, FloatArray] = {}
    for name, column in columns.items():
        fill = {"level": level, "evening": level, "recent": np.zeros(rows.size)}.get(name, stand_in)
        filled[name] = np.where(np.isnan(column), fill, column)
    return filled


def solar_features(
    solar: History, sky: FloatArray, rows: IntArray, leads: IntArray
) -> dict[str, FloatArray]:
    """The solar regressors of each row: clear sky times recent clearness, and an envelope.

    solar: history of the generation, or of what stands for it; sky: clear-sky output per interval
    of the clock. Clearness is generation over clear sky, summed over the last day and week.
    """
    origins = rows - leads
    days = leads // solar.per_day + 1
    known_sky = np.where(np.isnan(solar.values), 0.0, sky[: solar.size])
    sums = np.concatenate([[0.0], np.cumsum(known_sky)])

    def clearness(length: int) -> FloatArray:
        begin = np.clip(origins - length * solar.per_day, 0, solar.size)
        end = np.clip(origins, 0, solar.size)
        light = sums[end] - sums[begin]
        made = solar.total(begin, end)
        return np.divide(made, light, out=np.zeros(made.shape), where=light > 0.0)

    envelope = np.full(rows.shape, -np.inf)
    for extra in range(_ENVELOPE_DAYS):
        value = solar.lag(rows, origins, days + extra, local=False)
        envelope = np.maximum(envelope, np.where(np.isnan(value), -np.inf, value))
    last = solar.lag(rows, origins, days, local=False)
    recent = [solar.lag(rows, origins, days + extra, local=False) for extra in range(7)]
    week = _mean_of(recent)
    week = np.where(np.isnan(week), 0.0, week)
    return {
        "sun_day_ago": np.where(np.isnan(last), week, last),
        "sun_week_mean": week,
        "sun_clear_day": sky[rows] * clearness(1),
        "sun_clear_week": sky[rows] * clearness(7),
        "sun_envelope": np.where(np.isfinite(envelope), envelope, 0.0),
    }


def weather_features(weather: Mapping[str, FloatArray], rows: IntArray) -> dict[str, FloatArray]:
    """The weather of each row, known in advance; of a temperature how cold and how hot it is too.

    weather: columns over history and horizon, without gaps. Heating begins below a series' own
    lower third and cooling above its upper third: no country's thresholds.
    """
    columns: dict[str, FloatArray] = {}
    for name, column in weather.items():
        columns[f"weather_{name}"] = column[rows]
        if name == "temperature":
            cool, warm = np.quantile(column, (1 / 3, 2 / 3))
            columns["weather_cold"] = np.maximum(0.0, cool - column[rows])
            columns["weather_hot"] = np.maximum(0.0, column[rows] - warm)
    return columns
