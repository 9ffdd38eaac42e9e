# SPDX-License-Identifier: Apache-2.0
"""What the rules see of the committed past: the newest rows, and nothing where nothing is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dao.errors import BadUse
from dao.slots import SLOTS_PER_DAY
from meters.lake import erase_rows
from meters.readings import NULL_WH, Quality, Readings
from meters.signing import reading_separator
from meters.vee.edit import Editor
from meters.vee.history import LakeHistory, ReadingsHistory, series
from tests.meters.batch_rows import filed

DAY = 16_953 * SLOTS_PER_DAY
METERS = np.array([3, 5, 9])


def rows(first: int, slots: int, add: int = 0) -> Readings:
    slot = np.tile(np.arange(first, first + slots), len(METERS))
    meter = np.repeat(METERS, slots)
    return Readings.columns(meter, slot, meter * 100 + slot % SLOTS_PER_DAY + add, meter + 0)


def write(lake: Path, first: int, slots: int, add: int = 0, version: int = 1) -> Path:
    made = rows(first, slots, add)
    leaves = [bytes(32)] * len(made)
    return filed(lake, 1, first, slots, made, leaves, version=version)


def test_a_lake_gives_the_rows_of_any_range_across_batches_and_days(tmp_path: Path) -> None:
    for first in (DAY - 24, DAY, DAY + 24):
        write(tmp_path, first, 24)
    history = LakeHistory(tmp_path, 1)
    imported, exported, quality = history.block(np.array([5, 9]), DAY - 2, 30)
    expected = ReadingsHistory(rows(DAY - 24, 72)).block(np.array([5, 9]), DAY - 2, 30)
    assert (imported == expected[0]).all()
    assert (exported == expected[1]).all()
    assert (quality == Quality.MEASURED).all()
    assert (series(history, 5, DAY - 2, 30)[0] == imported[0]).all()


def test_what_is_not_in_the_lake_is_missing_and_not_zero(tmp_path: Path) -> None:
    write(tmp_path, DAY, 24)
    imported, _, quality = LakeHistory(tmp_path, 1).block(np.array([5, 6]), DAY - 4, 8)
    assert imported[0].tolist() == [NULL_WH] * 4 + [500, 501, 502, 503]
    assert (imported[1] == NULL_WH).all()
    assert quality[0].tolist() == [Quality.MISSING] * 4 + [Quality.MEASURED] * 4
    assert (series(LakeHistory(tmp_path / "none", 1), 5, DAY, 3)[0] == NULL_WH).all()


def test_a_correction_counts_and_an_erased_row_says_nothing(tmp_path: Path) -> None:
    write(tmp_path, DAY, 24)
    history = LakeHistory(tmp_path, 1)
    assert series(history, 5, DAY, 1)[0][0] == 500
    path = write(tmp_path, DAY, 24, add=7, version=2)
    history.forget()
    assert series(history, 5, DAY, 1)[0][0] == 507
    separator = reading_separator(31337, "0x" + "42" * 20)
    assert erase_rows(tmp_path, str(path), 5, DAY, DAY + 4, separator)
    history.forget()
    imported, exported, quality = series(history, 5, DAY, 5)
    assert imported.tolist() == [*exported[:4].tolist(), 511]
    assert imported[0] == NULL_WH
    assert quality.tolist() == [Quality.MISSING] * 4 + [Quality.MEASURED]


def test_an_editor_keeps_nothing_of_the_past_once_a_batch_is_edited(tmp_path: Path) -> None:
    write(tmp_path, DAY - 7 * SLOTS_PER_DAY, 24)
    write(tmp_path, DAY - 14 * SLOTS_PER_DAY, 24)
    history = LakeHistory(tmp_path, 1)
    batch = rows(DAY, 24)
    batch.import_wh[:12] = batch.export_wh[:12] = NULL_WH
    batch.quality[:12] = Quality.MISSING
    assert len(Editor()(batch, history).records) == 12
    assert not history._kept


def test_a_file_that_is_no_batch_is_said_to_be_none(tmp_path: Path) -> None:
    path = write(tmp_path, DAY, 24)
    path.write_bytes(b"no parquet")
    with pytest.raises(BadUse, match="cannot read the batch"):
        series(LakeHistory(tmp_path, 1), 5, DAY, 1)
