# SPDX-License-Identifier: Apache-2.0
"""Quantiles of what is to come: from a point forecast's residuals, from recent values, from both.

A `Band` is one such forecast together with what it would have said of the recent past, so that
several can be held against what came and weighed. Point forecasts and which bands a series gets
live in `model`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forecasting.features import History
from forecasting.series import FloatArray, IntArray

QUANTILES = (0.1, 0.5, 0.9)

_LEAST_SAMPLE = 10
# A dozen days off of an hour and its neighbours: enough to stand for days off alone.
_LEAST_OF_TYPE = 30
_PARTS = 4
# Of the loss, per unit of weight moved (a weight that moves leaves one band for another: twice).
_COST = 0.02

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Band:
    """Quantiles: past (3, p) of rows whose value is known by now, ahead (3, n) of rows to come."""

    past: FloatArray
    ahead: FloatArray


def conformal(residuals: FloatArray, level: float) -> float:
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


def near_hours(
    residuals: FloatArray, hours: IntArray, wanted: npt.NDArray[np.integer]
) -> Iterator[tuple[int, BoolArray]]:
    """Each wanted hour, and which residuals are those of that hour and its two neighbours.

    Where these are too few to say anything, all are.
    """
    for hour in np.unique(wanted).tolist():
        near = np.abs((hours - hour + 12) % 24 - 12) <= 1
        yield hour, near if near.sum() >= _LEAST_SAMPLE else np.ones(near.shape, dtype=bool)


def shifted_mean(
    mean: FloatArray, hours: IntArray, residuals: FloatArray, residual_hours: IntArray
) -> FloatArray:
    """The mean corrected by the mean residual of the same local hour and its two neighbours."""
    result = mean.copy()
    for hour, near in near_hours(residuals, residual_hours, hours):
        result[hours == hour] += residuals[near].mean()
    return result


def residual_quantiles(
    mean: FloatArray,
    hours: IntArray,
    workday: BoolArray,
    residuals: FloatArray,
    residual_hours: IntArray,
    residual_workday: BoolArray,
) -> FloatArray:
    """(3, n): the mean shifted by the quantiles of the residuals of the hour and its neighbours.

    Half way to those of days of the same type alone, where there are enough of them: a shop is
    another one on Sundays, but two days a week tell little of it.
    """
    quantiles = np.tile(mean, (len(QUANTILES), 1))
    for hour, near in near_hours(residuals, residual_hours, hours):
        for kind in (True, False):
            at = (hours == hour) & (workday == kind)
            if not at.any():
                continue
            alike = near & (residual_workday == kind)
            samples = [residuals[near]]
            if alike.sum() >= _LEAST_OF_TYPE:
                samples.append(residuals[alike])
            for row, level in enumerate(QUANTILES):
                shifts = [conformal(sample, level) for sample in samples]
                quantiles[row, at] += sum(shifts) / len(shifts)
    return np.sort(quantiles, axis=0)


def recent_quantiles(
    history: History, rows: IntArray, leads: IntArray, days: Sequence[IntArray], reach: int
) -> tuple[FloatArray, IntArray]:
    """(3, r) quantiles of past values at that time of day, and how many values there are.

    days: for each look back the interval that stands for each row, negative where none does;
    reach: so many seconds earlier and later count too. A value at or after the row's origin is
    never read.
    """
    near = reach // history.step
    end = np.minimum(rows - leads, history.size)
    columns = []
    for at in days:
        for offset in sorted({-near, -(near // 2), 0, near // 2, near}):
            place = at + offset
            fits = (at >= 0) & (place >= 0) & (place < end)
            columns.append(np.where(fits, history.values[np.where(fits, place, 0)], np.nan))
    table = np.sort(np.stack(columns, axis=1), axis=1)  # NaN comes last
    count = (~np.isnan(table)).sum(axis=1)
    row = np.arange(rows.size)
    quantiles = np.empty((len(QUANTILES), rows.size))
    for at_level, level in enumerate(QUANTILES):
        rank = level * np.maximum(count - 1, 0)
        low = np.floor(rank).astype(np.int64)
        high = np.minimum(low + 1, np.maximum(count - 1, 0))
        below, above = table[row, low], table[row, high]
        quantiles[at_level] = below + (rank - low) * (above - below)
    return quantiles, count


def mixed(
    bands: Sequence[Band],
    usual: Sequence[float],
    came: FloatArray,
    past_type: BoolArray,
    ahead_type: BoolArray,
) -> FloatArray:
    """(3, ahead): the bands averaged, with the weights that fit past days of the same type best.

    usual: a weight each, which stands unless others pay: quarters are tried, and what moves from
    one band to another must save 4 % of the pinball loss. came: (past,) the values that the bands'
    past speaks of. past_type, ahead_type: of which of two types of day each row is.
    """
    result = np.empty(bands[0].ahead.shape)
    for kind in (True, False):
        at, like = ahead_type == kind, past_type == kind
        if not at.any():
            continue
        weights = tuple(usual)
        if like.any():
            weights = _weights([band.past[:, like] for band in bands], usual, came[like])
        result[:, at] = _average([band.ahead[:, at] for band in bands], weights)
    return result


def _weights(
    pasts: Sequence[FloatArray], usual: Sequence[float], came: FloatArray
) -> tuple[float, ...]:
    choices = [tuple(usual), *_shares(len(pasts))]
    best, weights = math.inf, choices[0]
    for choice in choices:
        moved = sum(abs(part - stands) for part, stands in zip(choice, usual, strict=True))
        # Ten digits, so that the last bits of a sum choose nothing.
        loss = float(f"{_loss(_average(pasts, choice), came) * (1.0 + _COST * moved):.10g}")
        if loss < best:
            best, weights = loss, choice
    return weights


def _average(parts: Sequence[FloatArray], weights: Sequence[float]) -> FloatArray:
    result = np.zeros(parts[0].shape)
    for part, weight in zip(parts, weights, strict=True):
        if weight:
            result += weight * part
    return result


def _shares(count: int, left: int = _PARTS) -> Iterator[tuple[float, ...]]:
    """Every way to give quarters to `count` bands."""
    if count == 1:
        yield (left / _PARTS,)
        return
    for first in range(left, -1, -1):
        for rest in _shares(count - 1, left - first):
            yield (first / _PARTS, *rest)


def _loss(bands: FloatArray, came: FloatArray) -> float:
    levels = np.array(QUANTILES)[:, None]
    error = came - bands
    return float(np.maximum(levels * error, (levels - 1.0) * error).mean())
