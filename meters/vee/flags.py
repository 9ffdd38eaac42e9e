# SPDX-License-Identifier: Apache-2.0
"""What looks wrong and may be right: flags for people, which change no value.

Thresholds are chosen so that a clean year of the demo zone raises as good as none (docs/vee.md has
the counts). A flag names meter and slots, never a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dao.slots import SLOTS_PER_DAY
from meters.readings import NULL_WH
from meters.vee.history import Columns, History, IntArray, series
from meters.vee.signs import PAST_DAYS, past_days, sign_evidence
from meters.vee.table import CHUNK_METERS, BoolArray, Table, known, runs

FLAGS: Mapping[str, str] = {
    "frozen": "the same reading, 5 Wh or more, for six hours",
    "outlier": "more than three times as much as in any slot of the last four weeks",
    "sign": "import and export look swapped against the home's own last two weeks",
    "dead_inverter": "no export on a clear midday, while the neighbours' roofs produce",
    "shifted": "the roof's day lies beside that of the neighbours' roofs: check the clock",
}
"""Name and meaning of every flag."""

# OpenSTEF calls a load a flatliner after 360 minutes too.
FROZEN_SLOTS = 24
# Below this, whole Wh repeat by rounding: a home at rest shows 1 Wh for seven hours.
FROZEN_LEAST_WH = 5
OUTLIER_LEAST_WH = 500
OUTLIER_TIMES = 3
_OUTLIER_DAYS = 28
_OUTLIER_LEAST_DAYS = 7
SIGN_DECISIVE = 16
SIGN_SHARE = (90, 100)
# A clear midday: the slots in which the zone exports half its peak of the day or more, on a day
# that exports 70 % of the best of the last two weeks. Five such days show a roof that works, with
# 50 Wh a slot or more.
CLEAR_SHARE = (70, 100)
CLEAR_DAYS = 5
MIDDAY_SLOTS = 8
MIDDAY_LEAST_WH = 50
SHIFT_SLOTS = 4
_SHIFT_REACH = 12
_SHIFT_FIT = 0.95
_SHIFT_DAYS = 5
_SHIFT_STEADY = 3


@dataclass(frozen=True, order=True)
class Flag:
    """One stretch of one meter's slots that looks wrong."""

    meter: int
    first_slot: int
    slots: int
    rule: str

    @property
    def message(self) -> str:
        return (
            f"meter {self.meter}, slots {self.first_slot}..{self.first_slot + self.slots - 1}: "
            + (FLAGS[self.rule])
        )


def day_flags(table: Table, history: History) -> list[Flag]:
    """What only a whole UTC day shows beside the days before, at the batch that ends it."""
    day = _day_of(table, history)
    found: list[Flag] = []
    total = _or_zero(day.export_wh, day.measured).sum(axis=0)
    before = np.zeros((PAST_DAYS, SLOTS_PER_DAY), dtype=np.int64)
    parts = []
    for _, part in day.chunks():
        past = past_days(history, part.meters, day.first_slot, SLOTS_PER_DAY)
        before += _or_zero(past[1], known(*past)).sum(axis=1)
        parts.append((part, past))
    for part, past in parts:
        found += _outliers(part, past, history)
        found += _signs(part, past)
        found += _dead_inverters(part, past, total, before)
        found += _shifted(part, past, total, before)
    return found


def batch_flags(table: Table, history: History) -> list[Flag]:
    """What a batch shows by itself: runs of one value, also such as began before it."""
    measured = table.measured
    level = np.maximum(_or_zero(table.import_wh, measured), _or_zero(table.export_wh, measured))
    usable = measured & (level >= FROZEN_LEAST_WH)
    same = _repeats(table.import_wh, table.export_wh, usable)
    found = []
    # A run that could have begun before: it reaches back to the first slot, and goes on.
    lead = min(4, table.slots)
    at_start = np.flatnonzero(usable[:, 0] & same[:, 1:lead].all(axis=1))
    for first in range(0, len(at_start), CHUNK_METERS):
        rows = at_start[first : first + CHUNK_METERS]
        back = FROZEN_SLOTS - 1
        past = history.block(table.meters[rows], table.first_slot - back, back)
        joined = tuple(
            np.concatenate([before, column[rows]], axis=1)
            for before, column in zip(
                past, (table.import_wh, table.export_wh, table.quality), strict=True
            )
        )
        for row, start, end in runs(_repeats(joined[0], joined[1], known(*joined))):
            # The run's first slot repeats nothing, so it is not in the mask.
            if start <= back + 1 <= end and end - start + 1 >= FROZEN_SLOTS:
                slot = table.first_slot - back + start - 1
                found.append(Flag(int(table.meters[rows[row]]), slot, end - start + 1, "frozen"))
    for row, start, end in runs(same):
        if start > 1 and end - start + 1 >= FROZEN_SLOTS:
            slot = table.first_slot + start - 1
            found.append(Flag(int(table.meters[row]), slot, end - start + 1, "frozen"))
    return found


def _repeats(import_wh: IntArray, export_wh: IntArray, usable: BoolArray) -> BoolArray:
    """Where a row shows what the one before it showed."""
    same = np.zeros(usable.shape, dtype=bool)
    same[:, 1:] = (
        usable[:, 1:]
        & usable[:, :-1]
        & (import_wh[:, 1:] == import_wh[:, :-1])
        & (export_wh[:, 1:] == export_wh[:, :-1])
    )
    return same


def _outliers(day: Table, past: Columns, history: History) -> list[Flag]:
    usable = known(*past)
    mask = np.zeros(day.quality.shape, dtype=bool)
    for now, before in ((day.import_wh, past[0]), (day.export_wh, past[1])):
        value, peaks = _or_zero(now, day.measured), _or_zero(before, usable).max(axis=(0, 2))
        mask |= (value >= OUTLIER_LEAST_WH) & (value > OUTLIER_TIMES * peaks[:, None])
    mask &= (usable.sum(axis=(0, 2)) >= _OUTLIER_LEAST_DAYS * SLOTS_PER_DAY)[:, None]
    found = []
    slots = _OUTLIER_DAYS * SLOTS_PER_DAY
    for row in np.flatnonzero(mask.any(axis=1)).tolist():
        meter = int(day.meters[row])
        longer = series(history, meter, day.first_slot - slots, slots)
        measured = known(*longer)
        high = np.zeros(day.slots, dtype=bool)
        for now, before in ((day.import_wh, longer[0]), (day.export_wh, longer[1])):
            high |= _or_zero(now[row], mask[row]) > OUTLIER_TIMES * _or_zero(before, measured).max()
        for _, start, end in runs(high[None, :]):
            found.append(Flag(meter, day.first_slot + start, end - start, "outlier"))
    return found


def _or_zero(values: IntArray, usable: BoolArray) -> IntArray:
    """The values where they are known, zero elsewhere: for sums and peaks only."""
    clean: IntArray = np.where(usable & (values != NULL_WH), values, 0)
    return clean


def _day_of(table: Table, history: History) -> Table:
    """The whole UTC day that the batch ends, its earlier slots from the history."""
    missing = SLOTS_PER_DAY - table.slots
    if missing <= 0:
        return table
    first = table.first_slot - missing
    before = history.block(table.meters, first, missing)
    imported, exported, quality = (
        np.concatenate([early, late], axis=1)
        for early, late in zip(
            before, (table.import_wh, table.export_wh, table.quality), strict=True
        )
    )
    return Table(table.meters, first, imported, exported, quality)


def _signs(day: Table, past: Columns) -> list[Flag]:
    evidence = sign_evidence(day, past)
    doubtful = (evidence.decisive >= SIGN_DECISIVE) & (
        evidence.against * SIGN_SHARE[1] >= evidence.decisive * SIGN_SHARE[0]
    )
    return _whole_day(day, doubtful, "sign")


def _whole_day(day: Table, rows: BoolArray, rule: str) -> list[Flag]:
    return [Flag(meter, day.first_slot, day.slots, rule) for meter in day.meters[rows].tolist()]


def _dead_inverters(day: Table, past: Columns, total: IntArray, before: IntArray) -> list[Flag]:
    """Homes that exported on every clear midday of the last two weeks, and now do not at all.

    How clear a day was is told by what all others exported.
    """
    midday = 2 * total >= total.max()
    if total.max() == 0 or midday.sum() < MIDDAY_SLOTS:
        return []
    seen = known(*past)[:, :, midday].all(axis=2)
    exported = _or_zero(past[1], known(*past))[:, :, midday].sum(axis=2)
    others = before[:, midday].sum(axis=1)[:, None] - exported
    best = others.max(axis=0)
    now = np.where(day.export_wh == NULL_WH, -1, day.export_wh)[:, midday]
    silent = day.measured[:, midday].all(axis=1) & (now == 0).all(axis=1)
    is_clear = (best > 0) & (total[midday].sum() * CLEAR_SHARE[1] >= best * CLEAR_SHARE[0])
    counted = seen & (others * CLEAR_SHARE[1] >= best * CLEAR_SHARE[0])
    least = MIDDAY_LEAST_WH * int(midday.sum())
    always = (counted.sum(axis=0) >= CLEAR_DAYS) & (~counted | (exported >= least)).all(axis=0)
    return _whole_day(day, always & silent & is_clear, "dead_inverter")


def _shifted(day: Table, past: Columns, total: IntArray, before: IntArray) -> list[Flag]:
    """Roofs whose day lies some slots beside where it lay against the zone's before."""
    export = _or_zero(day.export_wh, day.measured)
    usual = _or_zero(past[1], known(*past))
    rows = np.flatnonzero(export.any(axis=1))
    now, fit = _lag(export[rows], total - export[rows])
    lags, fits = zip(
        *(_lag(one[rows], zone - one[rows]) for one, zone in zip(usual, before, strict=True)),
        strict=True,
    )
    # A battery that fills first moves a roof's export about from day to day: no clock does that.
    good = np.stack(fits) >= _SHIFT_FIT
    lowest = np.where(good, np.stack(lags), _SHIFT_REACH + 1).min(axis=0)
    highest = np.where(good, np.stack(lags), -_SHIFT_REACH - 1).max(axis=0)
    moved = (now - highest >= SHIFT_SLOTS) | (lowest - now >= SHIFT_SLOTS)
    steady = (good.sum(axis=0) >= _SHIFT_DAYS) & (highest - lowest <= _SHIFT_STEADY)
    mask = np.zeros(len(day.meters), dtype=bool)
    mask[rows] = moved & steady & (fit >= _SHIFT_FIT)
    return _whole_day(day, mask, "shifted")


def _lag(exported: IntArray, others: IntArray) -> tuple[IntArray, np.ndarray]:
    """By how many slots each roof lies behind the others, and how well it fits there."""
    lags = np.arange(-_SHIFT_REACH, _SHIFT_REACH + 1)
    one, other = exported.astype(np.float64), others.astype(np.float64)
    size = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    fits = np.stack([(one * np.roll(other, lag, axis=1)).sum(axis=1) for lag in lags])
    with np.errstate(all="ignore"):
        fits = np.nan_to_num(fits / size)
    best = fits.argmax(axis=0)
    return lags[best].astype(np.int64), fits[best, np.arange(len(exported))]
