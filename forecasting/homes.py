# SPDX-License-Identifier: Apache-2.0
"""Forecasts of many homes at once: in parallel, helping a young home out, adding up to the zone.

The forecast of one series is `model`'s. What is made here of single homes stays with whoever may
read them; the zone's public forecast is `zone`'s and reads totals only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dao.errors import BadUse
from forecasting.fanout import fan_out
from forecasting.model import LEAST_DAYS, QuantileForecast, Settings, borrowed, forecast
from forecasting.series import FloatArray, IntervalSeries

_LEAST_KNOWN = 0.9


@dataclass(frozen=True)
class HomeInput:
    """What the forecast of one series of a home is made from; see `model.forecast`."""

    series: IntervalSeries
    settings: Settings
    generation: FloatArray | None = None
    weather: Mapping[str, FloatArray] = field(default_factory=dict)

    @property
    def days_known(self) -> float:
        return float((~np.isnan(self.series.values)).sum()) / self.series.per_day

    @property
    def is_grown(self) -> bool:
        """Whether the full model has enough to go by, lately too."""
        lately = self.series.values[-7 * self.series.per_day :]
        return self.days_known >= LEAST_DAYS and not bool(np.isnan(lately).all())


@dataclass(frozen=True)
class Street:
    """Forecasts of homes, in their order, and of the zone that some of them are.

    zone: None where too few homes have a history; counted: which homes add up to it in the mean.
    """

    homes: list[QuantileForecast]
    zone: QuantileForecast | None
    counted: tuple[int, ...]


def forecast_homes(
    homes: Sequence[HomeInput],
    horizon: int,
    *,
    gap: int = 0,
    workers: int | None = None,
    dask: str | None = None,
) -> list[QuantileForecast]:
    """A forecast of every home, in their order; workers and dask as in `fan_out`.

    A home with less history than the full model needs borrows the shape of those of its kind that
    have it, where all series end at one moment. Raises BadUse as `model.forecast` does.
    """
    return fan_out(_one, _jobs(homes, horizon, gap), workers, dask)


def forecast_street(
    homes: Sequence[HomeInput],
    horizon: int,
    *,
    workers: int | None = None,
    dask: str | None = None,
) -> Street:
    """A forecast of every home and of all together, which add up in the mean.

    All begin at the latest end of the series: a home that ended before has missing values up to
    there. Homes with too little history are forecast beside the others and not counted in the
    zone. Raises BadUse as `model.forecast` does, and for series of different intervals.
    """
    steps = {home.series.step for home in homes}
    if len(steps) != 1:
        raise BadUse("homes with intervals of different lengths; expected one length for all")
    end = max(home.series.end for home in homes)
    aligned = [replace(home, series=_until(home.series, end)) for home in homes]
    counted = [at for at, home in enumerate(aligned) if home.is_grown]
    if len(counted) < 2:
        return Street(fan_out(_one, _jobs(aligned, horizon, 0), workers, dask), None, ())
    zone = _together([aligned[at] for at in counted])
    *made, total = fan_out(
        _one, [*_jobs(aligned, horizon, 0), (zone, None, horizon, 0)], workers, dask
    )
    fitted = add_up([made[at] for at in counted], total.mean)
    for at, one in zip(counted, fitted, strict=True):
        made[at] = one
    return Street(made, total, tuple(counted))


def _jobs(homes: Sequence[HomeInput], horizon: int, gap: int) -> list[tuple[object, ...]]:
    """What `_one` takes for every home: a young one with the mean of the grown ones of its kind."""
    grown: dict[object, list[HomeInput]] = {}
    young = []
    for at, home in enumerate(homes):
        if home.days_known < LEAST_DAYS:
            young.append(at)
        else:
            grown.setdefault(_likeness(home), []).append(home)
    means: dict[object, FloatArray] = {}
    neighbours: dict[int, FloatArray] = {}
    for at in young:
        like = _likeness(homes[at])
        if like in grown:
            if like not in means:
                means[like] = _sum_of(grown[like]) / len(grown[like])
            neighbours[at] = means[like]
    return [(home, neighbours.get(at), horizon, gap) for at, home in enumerate(homes)]


def _likeness(home: HomeInput) -> object:
    return home.settings.kind, home.series.step, home.series.end


def _until(series: IntervalSeries, end: int) -> IntervalSeries:
    """The series with missing values up to `end`."""
    more = (end - series.end) // series.step
    return replace(series, values=np.concatenate([series.values, np.full(more, np.nan)]))


def _sum_of(homes: Sequence[HomeInput]) -> FloatArray:
    """The homes' sum from the earliest start of a series to the end that all have.

    Where a few are missing, the others stand for them in proportion to their energy; where more
    than a tenth of the energy is, the sum is missing.
    """
    values = np.full((len(homes), max(home.series.values.size for home in homes)), np.nan)
    for row, home in zip(values, homes, strict=True):
        row[row.size - home.series.values.size :] = home.series.values
    known = ~np.isnan(values)
    energy = np.nanmean(np.abs(values), axis=1)
    part = energy @ known / max(float(energy.sum()), 1e-300)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.divide(total, part, out=np.full(total.size, np.nan), where=part >= _LEAST_KNOWN)


def _together(homes: Sequence[HomeInput]) -> HomeInput:
    """The sum of the homes as one series, under the weather of the one that began first."""
    first = min(homes, key=lambda home: home.series.start)
    kinds = {home.settings.kind for home in homes}
    settings = replace(first.settings, kind=kinds.pop() if len(kinds) == 1 else "net")
    series = replace(first.series, values=_sum_of(homes))
    return HomeInput(series, settings, weather=first.weather)


def _one(
    home: HomeInput, neighbours: FloatArray | None, horizon: int, gap: int
) -> QuantileForecast:
    if neighbours is not None:
        made = borrowed(home.series, neighbours, horizon, home.settings, gap=gap)
        if made is not None:
            return made
    return forecast(
        home.series,
        horizon,
        home.settings,
        gap=gap,
        generation=home.generation,
        weather=home.weather,
    )


def add_up(homes: Sequence[QuantileForecast], zone: FloatArray) -> list[QuantileForecast]:
    """The homes with means that add up to the zone's, which knows more than any of them.

    zone: (horizon,) mean of the whole. What is missing goes to the homes in proportion to their
    80 % intervals, for the least certain are the likeliest to be wrong. What is too much is taken
    in proportion to the means where none is below zero, so that none falls below. Quantiles stay.
    """
    means = np.stack([home.mean for home in homes])
    if zone.shape != means.shape[1:]:
        raise BadUse(f"{zone.size} values of the zone for homes of {means.shape[1]} intervals")
    rest = zone - means.sum(axis=0)
    width = np.stack([home.q90 - home.q10 for home in homes])
    equal = np.full(means.shape, 1.0 / len(homes))
    share = np.divide(width, width.sum(axis=0), out=equal.copy(), where=width.sum(axis=0) > 0.0)
    if (means >= 0.0).all() and (zone >= 0.0).all():
        total = means.sum(axis=0)
        down = np.divide(means, total, out=equal, where=total > 0.0)
        share = np.where(rest < 0.0, down, share)
    return [replace(home, mean=row) for home, row in zip(homes, means + share * rest, strict=True)]
