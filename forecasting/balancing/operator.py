# SPDX-License-Identifier: Apache-2.0
"""The operator's own view of a day: the same courses, spread as the homes' readings are.

Whoever runs the zone knows each home's recent days and may plan with them. What comes out tells on
single homes, so it is for the operator's eyes: a proposal made from it names no public evidence.
"""

from __future__ import annotations

import numpy as np

from dao.errors import BadUse
from dao.slots import SLOTS_PER_DAY
from forecasting.balancing.scenarios import Courses, Scenario
from forecasting.balancing.shares import SLOTS_PER_HOUR
from forecasting.grid import FloatArray, IntArray

METHOD = "readings"
_HOURS = 24


def spread_as_measured(
    courses: Courses, import_wh: IntArray, export_wh: IntArray
) -> tuple[Scenario, ...]:
    """Courses over homes: each home's part of the zone's import and export, by hour of the day.

    import_wh, export_wh: (slots, homes) of whole recent UTC days, nothing missing. An hour in
    which the zone never imported or exported is shared by the whole days' energy. Raises BadUse
    for readings that are no whole days, or are all zero.
    """
    slots, homes = import_wh.shape
    if export_wh.shape != import_wh.shape or slots == 0 or slots % SLOTS_PER_DAY or homes == 0:
        raise BadUse("the operator's view needs import and export of whole days, a column per home")
    if (import_wh < 0).any() or (export_wh < 0).any():
        raise BadUse("readings below zero: a missing value is not a number of Wh")
    if not import_wh.any():
        raise BadUse("the readings hold no import at all")
    taken, given = (_parts(table.astype(np.float64)) for table in (import_wh, export_wh))
    hour = np.arange(courses.import_wh.shape[1]) % SLOTS_PER_DAY // SLOTS_PER_HOUR
    return tuple(
        Scenario(
            f"course {at + 1}",
            float(weight),
            SLOTS_PER_HOUR * (imported[:, None] * taken[hour] - exported[:, None] * given[hour]),
        )
        for at, (weight, imported, exported) in enumerate(
            zip(courses.weights, courses.import_wh, courses.export_wh, strict=True)
        )
    )


def _parts(energy: FloatArray) -> FloatArray:
    """Each home's part of the sum, (24, homes); rows sum to 1, or to 0 where there is nothing."""
    by_hour = energy.reshape(-1, _HOURS, SLOTS_PER_HOUR, energy.shape[1]).sum(axis=(0, 2))
    whole = by_hour.sum(axis=0)
    overall = whole / whole.sum() if whole.any() else whole
    sums = by_hour.sum(axis=1, keepdims=True)
    parts = np.divide(by_hour, sums, out=np.zeros_like(by_hour), where=sums > 0.0)
    return np.where(sums > 0.0, parts, overall)
