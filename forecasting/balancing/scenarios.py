# SPDX-License-Identifier: Apache-2.0
"""The courses a day may take: quantiles of a forecast made into whole days, with their weights.

A quantile of every slot at once is no day that ever comes. How the slots of a day go together is
taken from the published totals: each past day lends the forecast the order in which its slots
stood among the other days' (the Schaake shuffle: Clark et al. 2004, Journal of Hydrometeorology 5;
its use for solar and wind power: Alessandrini and McCandless 2020, Energies 13). What a slot then
holds is the forecast's own quantile of that rank. There is no random number in it, so the evidence
file alone gives the same courses again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from dao.errors import BadUse
from dao.slots import SLOTS_PER_DAY
from forecasting.balancing.shares import Shares
from forecasting.grid import FloatArray, IntArray
from forecasting.zone import DayForecast, ZoneTotals

# A course for every day of seven weeks: enough to tell one day in twenty, few enough to plan with.
MOST_COURSES = 49
# With fewer past days their order says too little, and fixed ranks serve instead.
LEAST_COURSES = 14
# What a day departs from: the mean of the same slot in the days before it.
_BEFORE_DAYS = 7
_FIXED_RANKS = (0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95)
# No course exports more, or draws less, than the zone did in the hour around the same time of any
# day in the totals, by this much: a roof's output has an upper end that a bell curve has not.
_HEADROOM = 1.05
_AROUND_SLOTS = 2


@dataclass(frozen=True)
class Scenario:
    """One course the day may take: net power per bus, (slots, buses) W, and how likely it is."""

    name: str
    weight: float
    net_w: FloatArray


@dataclass(frozen=True)
class Courses:
    """Zone totals of every course in Wh, (courses, slots) each; weights sum to 1.

    method: "shuffle" where past days gave the order, "fixed" where there were too few.
    """

    weights: FloatArray
    import_wh: FloatArray
    export_wh: FloatArray
    method: str

    def spread(self, shares: Shares) -> tuple[Scenario, ...]:
        """Net power per bus of every course, by standard shares."""
        return tuple(
            Scenario(f"course {at + 1}", float(weight), shares.spread(taken, given))
            for at, (weight, taken, given) in enumerate(
                zip(self.weights, self.import_wh, self.export_wh, strict=True)
            )
        )


def courses_of(forecast: DayForecast, history: ZoneTotals | None = None) -> Courses:
    """The courses of a forecast day, from the published totals before it.

    history: as the forecast saw them, without the community battery. Whole UTC days of it count;
    None, or less than three weeks of it, gives ten fixed ranks of every slot at once, which is
    wider than days are. Raises BadUse for a forecast that is no whole UTC day.
    """
    slots = forecast.slots
    if forecast.first_slot % SLOTS_PER_DAY or slots != SLOTS_PER_DAY:
        raise BadUse("courses are made for one whole UTC day")
    days = np.zeros((0, 2, slots)) if history is None else _departures(history, forecast)
    shuffled = len(days) >= LEAST_COURSES
    if shuffled:
        ranks = _ranks(days)
        net_rank, export_rank = ranks[:, 0], ranks[:, 1]
    else:
        fixed = np.repeat(np.array(_FIXED_RANKS)[:, None], slots, axis=1)
        net_rank, export_rank = fixed, 1.0 - fixed
    net = _quantile(net_rank, forecast.net_q10, forecast.net_q50, forecast.net_q90)
    export = _quantile(export_rank, forecast.export_q10, forecast.export_q50, forecast.export_q90)
    if shuffled and history is not None:
        least, most = _envelope(history)
        net = np.maximum(net, np.minimum(least, forecast.net_q10))
        export = np.minimum(export, np.maximum(most, forecast.export_q90))
    export = np.maximum(export, np.maximum(0.0, -net))
    count = len(net)
    return Courses(
        np.full(count, 1.0 / count), net + export, export, "shuffle" if shuffled else "fixed"
    )


def median_of(forecast: DayForecast) -> Courses:
    """The median of every slot as the only course: what planning without scenarios would see."""
    taken, given = forecast.scenario("median")
    return Courses(np.ones(1), taken[None].astype(float), given[None].astype(float), "median")


def _days(history: ZoneTotals) -> tuple[int, FloatArray]:
    """The first whole UTC day's first slot, and (days, 2, slots) of net and export in Wh."""
    skip = -history.first_slot % SLOTS_PER_DAY
    count = max(0, history.net_wh.size - skip) // SLOTS_PER_DAY
    part = slice(skip, skip + count * SLOTS_PER_DAY)
    both = [
        table[part].reshape(count, SLOTS_PER_DAY) for table in (history.net_wh, history.export_wh)
    ]
    return history.first_slot + skip, np.stack(both, axis=1).astype(np.float64)


def _departures(history: ZoneTotals, forecast: DayForecast) -> FloatArray:
    """How far each past day lay from the mean of the week before it: (days, 2, slots) Wh."""
    if history.end_slot > forecast.first_slot:
        raise BadUse("the totals reach into the day that is forecast")
    _, days = _days(history)
    if len(days) <= _BEFORE_DAYS:
        return np.zeros((0, 2, SLOTS_PER_DAY))
    running = np.concatenate([np.zeros((1, *days.shape[1:])), np.cumsum(days, axis=0)])
    means = (running[_BEFORE_DAYS:-1] - running[: -_BEFORE_DAYS - 1]) / _BEFORE_DAYS
    found: FloatArray = (days[_BEFORE_DAYS:] - means)[-MOST_COURSES:]
    return found


def _envelope(history: ZoneTotals) -> tuple[FloatArray, FloatArray]:
    """Lowest net and highest export of each slot of a day, with the hour around it; (slots,)."""
    _, days = _days(history)
    least, most = days[:, 0].min(axis=0), days[:, 1].max(axis=0)
    around = range(-_AROUND_SLOTS, _AROUND_SLOTS + 1)
    least = np.min([np.roll(least, shift) for shift in around], axis=0)
    most = np.max([np.roll(most, shift) for shift in around], axis=0)
    return np.where(least < 0.0, _HEADROOM * least, least / _HEADROOM), _HEADROOM * most


def _ranks(values: FloatArray) -> FloatArray:
    """The rank of each value among those along axis 0, inside 0 to 1; equals share their mean."""
    lower = (values[None] < values[:, None]).sum(axis=1)
    equal = (values[None] == values[:, None]).sum(axis=1)
    found: FloatArray = (lower + equal / 2.0) / len(values)
    return found


def _quantile(rank: FloatArray, low: IntArray, mid: IntArray, high: IntArray) -> FloatArray:
    """Values of ranks (courses, slots) under three quantiles (slots,): two half bell curves.

    They meet at the median and pass through the 10 and the 90 % quantile.
    """
    steps = ndtri(rank) / ndtri(0.9)
    below, above = (mid - low).astype(np.float64), (high - mid).astype(np.float64)
    values: FloatArray = mid + steps * np.where(steps < 0.0, below, above)
    return values


def weighted_quantile(values: FloatArray, weights: FloatArray, level: float) -> FloatArray:
    """The smallest value that at least `level` of the weight does not exceed, along axis 0."""
    order = np.argsort(values, axis=0, kind="stable")
    ranked = np.take_along_axis(values, order, axis=0)
    summed = np.cumsum(np.asarray(weights)[order], axis=0)
    first = (summed < level - 1e-12).sum(axis=0).clip(max=len(values) - 1)
    found: FloatArray = np.take_along_axis(ranked, first[None], axis=0)[0]
    return found


def check_weights(scenarios: Sequence[Scenario]) -> FloatArray:
    """The scenarios' weights, which must be positive and all of one shape. BadUse otherwise."""
    if not scenarios:
        raise BadUse("a plan needs at least one scenario")
    weights = np.array([scenario.weight for scenario in scenarios], dtype=np.float64)
    shapes = {scenario.net_w.shape for scenario in scenarios}
    if len(shapes) != 1 or not np.isfinite(weights).all() or (weights <= 0.0).any():
        raise BadUse("scenarios need one shape and weights above zero")
    return weights / weights.sum()
