# SPDX-License-Identifier: Apache-2.0
"""Rolling-origin accuracy of the forecasts, beside the naive ones, and over several homes.

Every origin is a local midnight; the model gets the values before it and nothing else. The same
`model.forecast` that makes a forecast is measured here. Reading files lives in `csv_input`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dao.errors import BadUse, CheckFailed
from forecasting.fanout import fan_out
from forecasting.model import LEAST_DAYS, QUANTILES, Settings, forecast
from forecasting.series import (
    DAY_SECONDS,
    FloatArray,
    IntArray,
    IntervalSeries,
    calendar,
    clear_sky,
)

_NAIVE_DAYS = 56


@dataclass(frozen=True)
class Naive:
    """A yardstick: the value `days` days before, with the quantiles of its own residuals.

    by_hour: residuals of the same hour of the day and its neighbours, and not of all hours, which
    is the harder one to beat.
    """

    days: int
    by_hour: bool


NAIVES: Mapping[str, Naive] = {
    "yesterday": Naive(1, by_hour=False),
    "yesterday by hour": Naive(1, by_hour=True),
    "last week": Naive(7, by_hour=True),
}


@dataclass(frozen=True)
class Home:
    """One series to be measured. generation: what its sun made, where that is known apart.

    weather: columns known in advance, one value per interval of the series.
    """

    name: str
    series: IntervalSeries
    generation: FloatArray | None = None
    weather: Mapping[str, FloatArray] | None = None


@dataclass(frozen=True)
class Run:
    """What was forecast and what came, one row per origin, one column per interval ahead.

    origins: (o,) unix seconds; bands: (3, o, h) quantiles; mean, actual: (o, h); naive: by name
    (3, o, h); scored: (o, h) where coverage counts (known, and for solar by day); models: how
    often each model answered; unit of the input throughout.
    """

    name: str
    step: int
    origins: IntArray
    bands: FloatArray
    mean: FloatArray
    actual: FloatArray
    naive: Mapping[str, FloatArray]
    scored: npt.NDArray[np.bool_]
    models: Mapping[str, int]
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of one home. Losses are mean pinball losses over the three quantiles.

    ratio: loss over that of yesterday's value with the quantiles of its residuals; ratio_by_hour:
    with those of the hour; ratio_week: over last week's value with those of the hour. coverage:
    share of values inside the 80 % interval; bias: energy forecast by the mean over energy that
    came, less one (None where nothing came).
    """

    name: str
    origins: int
    loss: float
    naive_loss: float
    naive_by_hour_loss: float
    naive_week_loss: float
    ratio: float
    ratio_by_hour: float
    ratio_week: float
    coverage: float
    bias: float | None
    models: Mapping[str, int]
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fairness:
    """Whom the forecasts serve badly, over several homes.

    ratio: of the summed losses; left_behind: share of homes that yesterday's value serves better;
    parity: P90 over P50 of the homes' ratios; coverage_gap: largest distance of a home's coverage
    from 0.8; bias: of all homes' energy together.
    """

    homes: int
    ratio: float
    ratio_by_hour: float
    ratio_week: float
    coverage: float
    left_behind: float
    parity: float
    coverage_gap: float
    bias: float | None


def origins_of(
    series: IntervalSeries,
    horizon: int,
    settings: Settings,
    *,
    count: int | None = None,
    test_from: int | None = None,
) -> IntArray:
    """Positions of the local midnights that a forecast of `horizon` intervals can start at.

    count: only the last so many; test_from: unix seconds before which none lies. Without either,
    all with enough history for the full model. Raises CheckFailed where none is left.
    """
    clock = calendar(series.start, series.step, series.values.size, settings.timezone, None, None)
    midnight = np.flatnonzero(clock.wall % DAY_SECONDS == 0)
    known = np.cumsum(~np.isnan(series.values))
    enough = midnight[midnight > 0]
    enough = enough[known[enough - 1] >= LEAST_DAYS * series.per_day]
    fits = enough[enough + horizon <= series.values.size]
    if test_from is not None:
        fits = fits[clock.utc[fits] >= test_from]
    if count is not None:
        fits = fits[-count:]
    if not fits.size:
        raise CheckFailed(
            f"no day to forecast: {series.values.size / series.per_day:.1f} days of values; "
            f"expected more than {LEAST_DAYS} days of history and then the horizon"
        )
    return fits


def roll(
    home: Home,
    origins: IntArray,
    horizon: int,
    settings: Settings,
) -> Run:
    """Forecast from every origin in turn. What lies at or after an origin is never passed on."""
    series, values = home.series, home.series.values
    clock = calendar(series.start, series.step, values.size, settings.timezone, None, None)
    light = np.ones(values.size, dtype=bool)
    if settings.kind == "solar":
        if settings.location is not None:
            light = clear_sky(clock.utc, series.step, settings.location) > 0.0
        else:
            light = values > 0.0
    ahead = origins[:, None] + np.arange(horizon)
    bands = np.empty((len(QUANTILES), origins.size, horizon))
    mean = np.empty((origins.size, horizon))
    naive = {name: np.empty_like(bands) for name in NAIVES}
    models: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for at, origin in enumerate(origins.tolist()):
        past = values[:origin]
        made = forecast(
            replace(series, values=past),
            horizon,
            settings,
            generation=None if home.generation is None else home.generation[:origin],
            weather=None
            if home.weather is None
            else {name: column[: origin + horizon] for name, column in home.weather.items()},
        )
        bands[:, at] = made.q10, made.q50, made.q90
        mean[at] = made.mean
        models[made.model] += 1
        found.update(finding.name for finding in made.findings)
        for name, rule in NAIVES.items():
            naive[name][:, at] = naive_quantiles(past, horizon, series.per_day, rule)
    actual = values[ahead]
    return Run(
        name=home.name,
        step=series.step,
        origins=clock.utc[origins],
        bands=bands,
        mean=mean,
        actual=actual,
        naive=naive,
        scored=light[ahead] & ~np.isnan(actual),
        models=dict(models),
        findings=tuple(f"{name} at {times} origins" for name, times in sorted(found.items())),
    )


def naive_quantiles(past: FloatArray, horizon: int, per_day: int, rule: Naive) -> FloatArray:
    """(3, horizon) quantiles of a yardstick from the values before an origin.

    A value not known at the origin is looked for as many days further back. Residuals are those
    of the last 56 days; nothing falls below zero where nothing ever did.
    """
    whole = past[past.size % per_day :].reshape(-1, per_day)
    hours = per_day // 24
    result = np.full((len(QUANTILES), horizon), np.nan)
    for first in range(0, horizon, per_day):
        here = slice(first, min(first + per_day, horizon))
        ahead = first // per_day
        reach = rule.days * (ahead // rule.days + 1)  # from the day that is forecast
        back = reach - ahead  # from the origin
        point = np.full(per_day, np.nan)
        while np.isnan(point).any() and back <= len(whole):
            point = np.where(np.isnan(point), whole[-back], point)
            back += rule.days
        errors = (whole[reach:] - whole[:-reach])[-_NAIVE_DAYS:].reshape(-1, 24, hours)
        if rule.by_hour:
            near = [np.roll(errors, 1, axis=1), errors, np.roll(errors, -1, axis=1)]
            samples = np.concatenate(near, axis=2).transpose(1, 0, 2).reshape(24, -1)
        else:
            samples = errors.reshape(1, -1)
        spread = np.broadcast_to(_quantiles(samples), (len(QUANTILES), 24))
        result[:, here] = (point + np.repeat(spread, hours, axis=1))[:, : here.stop - first]
    known = past[~np.isnan(past)]
    return np.maximum(result, 0.0) if known.size and known.min() >= 0.0 else result


def _quantiles(samples: FloatArray) -> FloatArray:
    """(3, rows) quantiles of each row, NaN ignored; zero where a row holds nothing."""
    if samples.size and not np.isnan(samples).any():
        return np.quantile(samples, QUANTILES, axis=1)
    rows = [row[~np.isnan(row)] for row in samples]
    return np.stack(
        [np.quantile(row, QUANTILES) if row.size else np.zeros(len(QUANTILES)) for row in rows],
        axis=1,
    )


def pinball(bands: FloatArray, actual: FloatArray) -> float:
    """Mean pinball loss over the three quantiles and all known values."""
    levels = np.array(QUANTILES).reshape(-1, *([1] * actual.ndim))
    error = actual - bands
    return float(np.nanmean(np.maximum(levels * error, (levels - 1.0) * error)))


def accuracy(run: Run) -> Accuracy:
    """The figures of one home. Raises CheckFailed where no value came to compare with."""
    known = ~np.isnan(run.actual)
    if not known.any():
        raise CheckFailed(f"{run.name}: no value is known in the days that were forecast")
    loss = pinball(run.bands, run.actual)
    day, hour, week = (pinball(run.naive[name], run.actual) for name in NAIVES)
    inside = (run.bands[0] <= run.actual) & (run.actual <= run.bands[2])
    came = float(run.actual[known].sum())
    return Accuracy(
        name=run.name,
        origins=int(run.origins.size),
        loss=loss,
        naive_loss=day,
        naive_by_hour_loss=hour,
        naive_week_loss=week,
        ratio=_ratio(loss, day),
        ratio_by_hour=_ratio(loss, hour),
        ratio_week=_ratio(loss, week),
        coverage=float(inside[run.scored].mean()) if run.scored.any() else float("nan"),
        bias=float(run.mean[known].sum()) / came - 1.0 if came != 0.0 else None,
        models=run.models,
        findings=run.findings,
    )


def _ratio(ours: float, theirs: float) -> float:
    return ours / theirs if theirs > 0.0 else float("nan")


def fairness(runs: Sequence[Run]) -> Fairness:
    """The figures over several homes."""
    each = [accuracy(run) for run in runs]
    ratios = np.array([one.ratio for one in each])
    known = [~np.isnan(run.actual) for run in runs]
    came = sum(float(run.actual[at].sum()) for run, at in zip(runs, known, strict=True))
    made = sum(float(run.mean[at].sum()) for run, at in zip(runs, known, strict=True))
    loss = sum(one.loss for one in each)
    coverage = np.array([one.coverage for one in each])
    return Fairness(
        homes=len(each),
        ratio=_ratio(loss, sum(one.naive_loss for one in each)),
        ratio_by_hour=_ratio(loss, sum(one.naive_by_hour_loss for one in each)),
        ratio_week=_ratio(loss, sum(one.naive_week_loss for one in each)),
        coverage=float(np.nanmean(coverage)),
        left_behind=float((ratios > 1.0).mean()),
        parity=float(np.nanquantile(ratios, 0.9) / np.nanmedian(ratios)),
        coverage_gap=float(np.nanmax(np.abs(coverage - 0.8))),
        bias=made / came - 1.0 if came != 0.0 else None,
    )


def backtest(
    homes: Sequence[Home],
    horizon: int,
    settings: Settings,
    *,
    count: int | None = None,
    test_from: int | None = None,
    workers: int | None = None,
    dask: str | None = None,
) -> list[Run]:
    """Every home from every origin; workers and dask as in `fan_out`."""
    if not homes:
        raise BadUse("nothing to measure: no series given")
    jobs = []
    for home in homes:
        chosen = origins_of(home.series, horizon, settings, count=count, test_from=test_from)
        jobs.append((home, chosen, horizon, settings))
    # One home with many origins keeps every core busy too: its origins go out in parts.
    parts = [
        (at, (home, piece, horizon, settings))
        for at, (home, chosen, _, _) in enumerate(jobs)
        for piece in np.array_split(chosen, max(1, min(8, chosen.size // 8)))
    ]
    done = fan_out(roll, [job for _, job in parts], workers, dask)
    return [
        _joined([run for (of, _), run in zip(parts, done, strict=True) if of == at])
        for at in range(len(homes))
    ]


def _joined(runs: Sequence[Run]) -> Run:
    """Parts of one home's origins as one run."""
    first = runs[0]
    models: Counter[str] = Counter()
    for run in runs:
        models.update(run.models)
    findings = list(dict.fromkeys(one for run in runs for one in run.findings))
    return replace(
        first,
        origins=np.concatenate([run.origins for run in runs]),
        bands=np.concatenate([run.bands for run in runs], axis=1),
        mean=np.concatenate([run.mean for run in runs]),
        actual=np.concatenate([run.actual for run in runs]),
        naive={
            name: np.concatenate([run.naive[name] for run in runs], axis=1) for name in first.naive
        },
        scored=np.concatenate([run.scored for run in runs]),
        models=dict(models),
        findings=tuple(findings),
    )
