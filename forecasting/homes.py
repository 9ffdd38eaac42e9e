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
    return fan_out(
        _one,
        [(home, _neighbours(home, homes), horizon, gap) for home in homes],
        workers,
        dask,
    )


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


def _neighbours(home: HomeInput, homes: Sequence[HomeInput]) -> FloatArray | None:
    """Mean of the older homes of the same kind, over their common time; None where not needed."""
    if home.days_known >= LEAST_DAYS:
        return None
    older = [
        other.series
        for other in homes
        if other is not home
        and other.settings.kind == home.settings.kind
        and other.series.step == home.series.step
        and other.series.end == home.series.end
        and other.days_known >= LEAST_DAYS
    ]
    if not older:
        return None
    size = min(series.values.size for series in older)
    return np.asarray(np.mean([series.values[-size:] for series in older], axis=0))


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
