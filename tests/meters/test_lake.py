# SPDX-License-Identifier: Apache-2.0
"""Batch files and the queries over them."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dao.errors import BadUse, CheckFailed
from dao.slots import first_slot_of_day
from meters import lake as lake_module
from meters.lake import (
    SCHEMA,
    batch_path,
    counts,
    meter_series,
    read_batch,
    totals_of,
    write_batch,
    zone_totals,
)
from meters.readings import NULL_WH, Quality, Readings

DAY = first_slot_of_day(date(2016, 6, 1))


def rows(first_slot: int, slots: int, homes: int, seed: int = 1) -> Readings:
    random = np.random.default_rng(seed)
    n = homes * slots
    return Readings.columns(
        np.repeat(np.arange(1, homes + 1), slots),
        np.tile(np.arange(first_slot, first_slot + slots), homes),
        random.integers(0, 1000, n),
        random.integers(0, 1000, n),
        signature=random.integers(1, 255, (n, 65)),
    )


def leaves(n: int) -> list[bytes]:
    return [i.to_bytes(32, "big") for i in range(n)]


def missing(readings: Readings, at: np.ndarray) -> Readings:
    readings.import_wh[at] = NULL_WH
    readings.export_wh[at] = NULL_WH
    readings.quality[at] = Quality.MISSING
    readings.signature[at] = 0
    return readings


def test_a_batch_is_one_file_with_the_agreed_columns(tmp_path: Path) -> None:
    path = write_batch(tmp_path, 1, DAY, 4, rows(DAY, 4, 3), leaves(12))
    assert path == tmp_path / "zone=1" / "day=2016-06-01" / f"batch-{DAY}-4.parquet"
    table = pq.ParquetFile(path)
    assert table.schema_arrow.equals(SCHEMA)
    assert table.metadata.row_group(0).column(0).compression == "ZSTD"
    assert SCHEMA.field("signature").type == pa.binary(65)
    assert [p.name for p in path.parent.iterdir()] == [path.name], "no temporary file stays"


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    written = missing(rows(DAY, 4, 3), np.array([1, 5]))
    written.export_wh[0] = NULL_WH
    path = write_batch(tmp_path, 1, DAY, 4, written, leaves(12))
    read, hashes = read_batch(path)
    assert list(read) == list(written)
    assert hashes == leaves(12)


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    first = write_batch(tmp_path, 1, DAY, 4, rows(DAY, 4, 3), leaves(12)).read_bytes()
    assert write_batch(tmp_path, 1, DAY, 4, rows(DAY, 4, 3), leaves(12)).read_bytes() == first


def test_a_write_that_breaks_off_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_batch(tmp_path, 1, DAY, 4, rows(DAY, 4, 3), leaves(12))
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lake_module.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_batch(tmp_path, 1, DAY, 4, rows(DAY, 4, 3, seed=2), leaves(12))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_batch_that_overlaps_another_is_refused(tmp_path: Path) -> None:
    write_batch(tmp_path, 1, DAY, 4, rows(DAY, 4, 3), leaves(12))
    with pytest.raises(CheckFailed, match="overlaps"):
        write_batch(tmp_path, 1, DAY + 2, 4, rows(DAY + 2, 4, 3), leaves(12))
    write_batch(tmp_path, 1, DAY + 4, 4, rows(DAY + 4, 4, 3), leaves(12))
    write_batch(tmp_path, 2, DAY + 2, 4, rows(DAY + 2, 4, 3), leaves(12))


@pytest.mark.parametrize(("first", "slots"), [(DAY + 95, 2), (DAY, 0), (DAY, 97), (-1, 1)])
def test_a_batch_lies_within_one_utc_day(tmp_path: Path, first: int, slots: int) -> None:
    with pytest.raises(BadUse):
        write_batch(tmp_path, 1, first, slots, rows(DAY, 1, 1), leaves(1))


def test_totals_are_the_sums_of_the_rows(tmp_path: Path) -> None:
    readings = missing(rows(DAY, 96, 20), np.array([0, 500]))
    readings.import_wh[7] = NULL_WH
    write_batch(tmp_path, 1, DAY, 96, readings, leaves(len(readings)))
    frame = zone_totals(tmp_path, 1, DAY, 96)
    for slot in (DAY, DAY + 7, DAY + 500 % 96, DAY + 95):
        of_slot = [r for r in readings if r.slot == slot]
        row = frame[frame["slot"] == slot].iloc[0]
        assert row["import_wh"] == sum(r.import_wh or 0 for r in of_slot)
        assert row["export_wh"] == sum(r.export_wh or 0 for r in of_slot)
        assert row["net_wh"] == row["import_wh"] - row["export_wh"]
        assert row["homes"] == sum(r.quality != Quality.MISSING for r in of_slot)
    net, export, homes = totals_of(readings, DAY, 96)
    assert frame["net_wh"].tolist() == net.tolist()
    assert frame["export_wh"].tolist() == export.tolist()
    assert frame["homes"].tolist() == homes.tolist()


def test_totals_of_fewer_than_fifteen_homes_are_withheld(tmp_path: Path) -> None:
    readings = missing(rows(DAY, 2, 15), np.array([0]))
    write_batch(tmp_path, 1, DAY, 2, readings, leaves(30))
    frame = zone_totals(tmp_path, 1, DAY, 2)
    assert frame["homes"].tolist() == [14, 15]
    assert frame["net_wh"].isna().tolist() == [True, False]
    assert frame["export_wh"].isna().tolist() == [True, False]


def test_totals_of_several_files_come_in_order_and_only_as_asked(tmp_path: Path) -> None:
    for first, slots in ((DAY + 96, 96), (DAY, 48), (DAY + 48, 48)):
        write_batch(tmp_path, 1, first, slots, rows(first, slots, 15), leaves(15 * slots))
    frame = zone_totals(tmp_path, 1, DAY + 40, 100)
    assert frame["slot"].tolist() == list(range(DAY + 40, DAY + 140))


def test_a_meters_series_keeps_what_is_unknown_unknown(tmp_path: Path) -> None:
    write_batch(tmp_path, 1, DAY, 4, missing(rows(DAY, 4, 3), np.array([5])), leaves(12))
    frame = meter_series(tmp_path, 1, 2, DAY, 4)
    assert frame["slot"].tolist() == [DAY, DAY + 1, DAY + 2, DAY + 3]
    assert frame["import_wh"].isna().tolist() == [False, True, False, False]
    assert frame["quality"].tolist() == [1, 0, 1, 1]


def test_counts_tell_each_day(tmp_path: Path) -> None:
    write_batch(tmp_path, 1, DAY, 48, missing(rows(DAY, 48, 3), np.array([5])), leaves(144))
    write_batch(tmp_path, 1, DAY + 48, 48, rows(DAY + 48, 48, 3), leaves(144))
    write_batch(tmp_path, 1, DAY + 96, 96, rows(DAY + 96, 96, 3), leaves(288))
    frame = counts(tmp_path, 1)
    assert frame["day"].tolist() == [date(2016, 6, 1), date(2016, 6, 2)]
    assert frame["batches"].tolist() == [2, 1]
    assert frame["meters"].tolist() == [3, 3]
    assert frame["rows"].tolist() == [288, 288]
    assert frame["missing"].tolist() == [1, 0]


def test_an_empty_lake_answers_with_empty_tables(tmp_path: Path) -> None:
    assert len(zone_totals(tmp_path, 1, DAY, 96)) == 0
    assert len(meter_series(tmp_path, 1, 1, DAY, 96)) == 0
    assert len(counts(tmp_path, 1)) == 0


@pytest.mark.parametrize("content", [b"", b"not parquet at all"])
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "batch-1-1.parquet"
    file.write_bytes(content)
    with pytest.raises(BadUse, match="batch-1-1"):
        read_batch(file)


def test_a_parquet_file_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "batch-1-1.parquet"
    pq.write_table(pa.table({"a": [1]}), file)
    with pytest.raises(BadUse, match="columns"):
        read_batch(file)


def test_the_path_names_zone_day_and_range() -> None:
    assert batch_path(Path("x"), 3, DAY + 95, 1).as_posix() == (
        f"x/zone=3/day=2016-06-01/batch-{DAY + 95}-1.parquet"
    )
