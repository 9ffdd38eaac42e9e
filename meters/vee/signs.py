# SPDX-License-Identifier: Apache-2.0
"""Whether import and export of a meter changed places, told by its own last two weeks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dao.slots import SLOTS_PER_DAY
from meters.readings import NULL_WH
from meters.vee import rules
from meters.vee.history import Columns, History, IntArray
from meters.vee.table import BoolArray, Table, known

PAST_DAYS = 14
_LEAST_DAYS = 7
_SLOTS_PER_HOUR = 4


@dataclass(frozen=True)
class SignEvidence:
    """Per meter, int64 (meters,).

    decisive: slots in which the home only ever imported, or only ever exported, on at least 9 of
    10 known days, and now does one of both alone; against: those of them with the other direction;
    hours: hours with such slots; level: those whose energy is within 2 / 5 and 5 / 2 of the usual.
    """

    decisive: IntArray
    against: IntArray
    hours: IntArray
    level: IntArray

    @property
    def is_strong(self) -> BoolArray:
        """Enough to change values."""
        strong: BoolArray = (
            (self.decisive >= rules.SWAP_DECISIVE)
            & (self.against * rules.SWAP_SHARE[1] >= self.decisive * rules.SWAP_SHARE[0])
            & (self.hours > 0)
            & (self.level * rules.SWAP_LEVEL_SHARE[1] >= self.hours * rules.SWAP_LEVEL_SHARE[0])
        )
        return strong


def past_days(history: History, meters: IntArray, first_slot: int, slots: int) -> Columns:
    """The same slots on each of the last 14 days, (days, meters, slots) each, yesterday first."""
    blocks = [
        history.block(meters, first_slot - day * SLOTS_PER_DAY, slots)
        for day in range(1, PAST_DAYS + 1)
    ]
    imported, exported, quality = (np.stack(columns) for columns in zip(*blocks, strict=True))
    return imported, exported, quality


def sign_evidence(table: Table, past: Columns) -> SignEvidence:
    """What speaks for swapped signs in every meter's rows."""
    now = _direction(table.import_wh, table.export_wh, table.measured)
    before_known = known(*past)
    before = _direction(past[0], past[1], before_known)
    days = before_known.sum(axis=0)
    usual = np.zeros_like(now)
    for sign in (1, -1):
        usual[(days >= _LEAST_DAYS) & ((before == sign).sum(axis=0) * 10 >= days * 9)] = sign
    decisive = (usual != 0) & (now != 0)
    against = decisive & (now == -usual)

    energy = np.where(against, _size(table.import_wh, table.export_wh), 0)
    expected = np.where(before_known, _size(past[0], past[1]), 0).sum(axis=0)
    expected = np.where(against, expected // np.maximum(days, 1), 0)
    before_hour = table.first_slot % _SLOTS_PER_HOUR
    padding = ((0, 0), (before_hour, -(before_hour + table.slots) % _SLOTS_PER_HOUR))
    hourly, hourly_expected, hourly_against = (
        np.pad(column, padding).reshape(len(now), -1, _SLOTS_PER_HOUR).sum(axis=2)
        for column in (energy, expected, against.astype(np.int64))
    )
    counted = (hourly_against > 0) & (hourly_expected > 0)
    level = counted & (5 * hourly >= 2 * hourly_expected) & (2 * hourly <= 5 * hourly_expected)
    return SignEvidence(
        decisive.sum(axis=1), against.sum(axis=1), counted.sum(axis=1), level.sum(axis=1)
    )


def _direction(import_wh: IntArray, export_wh: IntArray, measured: BoolArray) -> IntArray:
    """1 where a home only imports, -1 where it only exports, 0 elsewhere."""
    usable = measured & (import_wh != NULL_WH) & (export_wh != NULL_WH)
    imports = usable & (import_wh > 0) & (export_wh == 0)
    exports = usable & (export_wh > 0) & (import_wh == 0)
    return imports.astype(np.int64) - exports.astype(np.int64)


def _size(import_wh: IntArray, export_wh: IntArray) -> IntArray:
    """The larger of both, with unknown as nothing."""
    size: IntArray = np.maximum(
        np.where(import_wh == NULL_WH, 0, import_wh), np.where(export_wh == NULL_WH, 0, export_wh)
    )
    return size
