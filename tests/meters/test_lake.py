# SPDX-License-Identifier: Apache-2.0
"""Batch files and the queries over them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dao.errors import BadUse, CheckFailed
from meters.lake import (
    SCHEMA,
    Lake,
    batch_path,
    counts,
    erase_rows,
    frame,
    leaves_hold,
    meter_series,
    quality_shares,
    read_batch,
    totals_of,
    verify_signatures,
    write_batch,
    zone_totals,
)
from meters.lake import store as store_module
from meters.leaves import leaves_of, record_leaves, root_of_leaves
from meters.readings import NULL_WH, Quality, Readings
from meters.registry import KeyPeriods, Period
from meters.secrets import DerivedSecrets
from meters.signing import heads_after
from tests.meters.batch_rows import (
    DAY,
    SEPARATOR,
    Edit,
    chained,
    filed,
    fleet,
    keys,
    leaves,
    missing,
    rows,
)

PROOFS = ("signature", "leaf", "previous")
SECRETS = DerivedSecrets(b"a secret for the tests only")


def test_a_batch_is_one_file_with_the_agreed_columns(tmp_path: Path) -> None:
    path = filed(tmp_path, 1, DAY, 4, rows(DAY, 4, 3), leaves(12))
    assert path == tmp_path / "zone=1" / "day=2016-06-01" / f"batch-{DAY}-4.parquet"
    table = pq.ParquetFile(path)
    assert table.schema_arrow.equals(SCHEMA)
    assert table.metadata.row_group(0).column(0).compression == "ZSTD"
    assert SCHEMA.field("signature").type == pa.binary(65)
    assert [p.name for p in path.parent.iterdir()] == [path.name], "no temporary file stays"


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    written = missing(rows(DAY, 4, 3), np.array([1, 5]))
    written.export_wh[0] = NULL_WH
    path = filed(tmp_path, 1, DAY, 4, written, leaves(12))
    stored = read_batch(path)
    assert list(stored.readings) == list(written)
    assert stored.leaves == leaves(12)
    assert stored.records == stored.record_leaves == []
    assert not stored.erased.any()


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    first = filed(tmp_path, 1, DAY, 4, rows(DAY, 4, 3), leaves(12)).read_bytes()
    assert filed(tmp_path, 1, DAY, 4, rows(DAY, 4, 3), leaves(12)).read_bytes() == first


def test_a_write_that_breaks_off_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filed(tmp_path, 1, DAY, 4, rows(DAY, 4, 3), leaves(12))
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module.os, "fsync", full)
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
    table = zone_totals(tmp_path, 1, DAY, 96)
    for slot in (DAY, DAY + 7, DAY + 500 % 96, DAY + 95):
        of_slot = [r for r in readings if r.slot == slot]
        row = table[table["slot"] == slot].iloc[0]
        assert row["import_wh"] == sum(r.import_wh or 0 for r in of_slot)
        assert row["export_wh"] == sum(r.export_wh or 0 for r in of_slot)
        assert row["net_wh"] == row["import_wh"] - row["export_wh"]
        assert row["homes"] == sum(r.quality != Quality.MISSING for r in of_slot)
    net, export, homes = totals_of(readings, DAY, 96)
    assert table["net_wh"].tolist() == net.tolist()
    assert table["export_wh"].tolist() == export.tolist()
    assert table["homes"].tolist() == homes.tolist()


def test_totals_of_fewer_than_fifteen_homes_are_withheld(tmp_path: Path) -> None:
    readings = missing(rows(DAY, 2, 15), np.array([0]))
    write_batch(tmp_path, 1, DAY, 2, readings, leaves(30))
    table = zone_totals(tmp_path, 1, DAY, 2)
    assert table["homes"].tolist() == [14, 15]
    assert table["net_wh"].isna().tolist() == [True, False]
    assert table["export_wh"].isna().tolist() == [True, False]


def test_totals_of_several_files_come_in_order_and_only_as_asked(tmp_path: Path) -> None:
    for first, slots in ((DAY + 96, 96), (DAY, 48), (DAY + 48, 48)):
        write_batch(tmp_path, 1, first, slots, rows(first, slots, 15), leaves(15 * slots))
    table = zone_totals(tmp_path, 1, DAY + 40, 100)
    assert table["slot"].tolist() == list(range(DAY + 40, DAY + 140))


def test_a_meters_series_keeps_what_is_unknown_unknown(tmp_path: Path) -> None:
    write_batch(tmp_path, 1, DAY, 4, missing(rows(DAY, 4, 3), np.array([5])), leaves(12))
    table = meter_series(tmp_path, 1, 2, DAY, 4)
    assert table["slot"].tolist() == [DAY, DAY + 1, DAY + 2, DAY + 3]
    assert table["import_wh"].isna().tolist() == [False, True, False, False]
    assert table["quality"].tolist() == [1, 0, 1, 1]


def test_counts_tell_each_day(tmp_path: Path) -> None:
    write_batch(tmp_path, 1, DAY, 48, missing(rows(DAY, 48, 3), np.array([5])), leaves(144))
    write_batch(tmp_path, 1, DAY + 48, 48, rows(DAY + 48, 48, 3), leaves(144))
    write_batch(tmp_path, 1, DAY + 96, 96, rows(DAY + 96, 96, 3), leaves(288))
    table = counts(tmp_path, 1)
    assert table["day"].tolist() == [date(2016, 6, 1), date(2016, 6, 2)]
    assert table["batches"].tolist() == [2, 1]
    assert table["meters"].tolist() == [3, 3]
    assert table["rows"].tolist() == [288, 288]
    assert table["missing"].tolist() == [1, 0]
    assert table["erased"].tolist() == [0, 0]


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


# The chain of readings


def test_signed_rows_come_back_with_their_links_though_the_file_holds_few(tmp_path: Path) -> None:
    written = missing(chained(DAY, 8, 3), [2, 8])
    path = filed(tmp_path, 1, DAY, 8, written, leaves(24), separator=SEPARATOR)
    assert list(read_batch(path, separator=SEPARATOR).readings) == list(written)
    explicit = pq.read_table(path)["previous"].drop_null()
    # The first row of each meter, and the one after a row that is missing.
    assert len(explicit) == 4


def test_without_the_domain_every_link_is_kept_in_full(tmp_path: Path) -> None:
    written = chained(DAY, 8, 3)
    path = filed(tmp_path, 1, DAY, 8, written, leaves(24))
    assert pq.read_table(path)["previous"].null_count == 0
    assert list(read_batch(path).readings) == list(written)


def test_all_signatures_of_a_file_verify_and_a_changed_value_does_not(tmp_path: Path) -> None:
    written = missing(chained(DAY, 8, 3), [9])
    path = filed(tmp_path, 1, DAY, 8, written, leaves(24), separator=SEPARATOR)
    check = verify_signatures(read_batch(path), SEPARATOR, keys(3))
    assert (len(check.good), check.bad.tolist(), check.unsigned.tolist()) == (23, [], [9])

    written.import_wh[12] += 1
    path = filed(tmp_path, 1, DAY, 8, written, leaves(24), separator=SEPARATOR)
    assert verify_signatures(read_batch(path), SEPARATOR, keys(3)).bad.tolist() == [12]


def test_a_signature_counts_only_by_the_key_of_its_time(tmp_path: Path) -> None:
    path = filed(tmp_path, 1, DAY, 4, chained(DAY, 4, 2), leaves(8), separator=SEPARATOR)
    first, second = (fleet(2).devices[meter] for meter in (1, 2))
    rotation = (DAY + 2) * 900
    held = KeyPeriods(
        {1: [Period(second, 0, rotation), Period(first, rotation)], 2: [Period(second)]}
    )
    assert verify_signatures(read_batch(path), SEPARATOR, held).bad.tolist() == [0, 1]
    assert len(verify_signatures(read_batch(path), SEPARATOR, KeyPeriods({})).bad) == 8


# Edit records


def edited(tmp_path: Path, readings: Readings, records: list[Edit]) -> Path:
    hashes = record_leaves(records, SECRETS)
    return filed(
        tmp_path,
        1,
        DAY,
        4,
        readings,
        leaves_of(readings, SECRETS),
        records,
        hashes,
        separator=SEPARATOR,
    )


def test_edit_records_lie_beside_their_rows_and_in_the_tree(tmp_path: Path) -> None:
    readings = missing(chained(DAY, 4, 3), [5])
    records = [Edit(1, DAY + 3, {"text": "a, ] é"}), Edit(2, DAY + 1), Edit(2, DAY + 1, {"n": [2]})]
    stored = read_batch(edited(tmp_path, readings, records))
    assert stored.records == [record.canonical() for record in records]
    assert stored.record_leaves == record_leaves(records, SECRETS)
    assert stored.record_rows.tolist() == [3, 5, 5]
    assert stored.root() == root_of_leaves(leaves_of(readings, SECRETS) + stored.record_leaves)
    assert leaves_hold(stored, SECRETS)
    for changed in (
        replace(stored, records=[*stored.records[:2], Edit(2, DAY + 1).canonical()]),
        replace(stored, record_leaves=stored.record_leaves[::-1]),
        replace(stored, leaves=stored.leaves[::-1]),
    ):
        assert not leaves_hold(changed, SECRETS)


@pytest.mark.parametrize(
    "records", [[Edit(9, DAY)], [Edit(2, DAY + 9)], [Edit(2, DAY), Edit(1, DAY)]]
)
def test_a_record_without_a_row_or_out_of_order_is_refused(
    tmp_path: Path, records: list[Edit]
) -> None:
    with pytest.raises(BadUse, match="edit record"):
        edited(tmp_path, chained(DAY, 4, 3), records)
    assert not list(tmp_path.rglob("*.parquet"))


# Versions


def test_a_correction_lies_beside_the_first_version_and_questions_read_it(tmp_path: Path) -> None:
    first, second = rows(DAY, 4, 15), rows(DAY, 4, 15, seed=2)
    path = filed(tmp_path, 1, DAY, 4, first, leaves(60))
    corrected = filed(tmp_path, 1, DAY, 4, second, leaves(60), version=2)
    assert corrected.name == f"batch-{DAY}-4.v2.parquet"
    assert list(read_batch(path).readings) == list(first)
    assert (
        zone_totals(tmp_path, 1, DAY, 4)["net_wh"].tolist() == totals_of(second, DAY, 4)[0].tolist()
    )
    assert counts(tmp_path, 1)["rows"].tolist() == [60]
    assert counts(tmp_path, 1)["batches"].tolist() == [1]
    with pytest.raises(BadUse, match="versions"):
        write_batch(tmp_path, 1, DAY, 4, second, leaves(60), version=3)


# Erasing


def test_an_erased_row_keeps_its_place_in_the_tree_and_nothing_else(tmp_path: Path) -> None:
    readings = chained(DAY, 4, 3)
    records = [Edit(2, DAY + 1, {"slots": [DAY]}), Edit(3, DAY)]
    path = edited(tmp_path, readings, records)
    root = read_batch(path).root()
    assert erase_rows(tmp_path, str(path), 2, DAY, DAY + 3, SEPARATOR)

    stored = read_batch(path, separator=SEPARATOR)
    assert stored.root() == root
    assert np.flatnonzero(stored.erased).tolist() == [4, 5, 6]
    assert stored.records == [None, records[1].canonical()]
    gone = stored.readings.take(stored.erased)
    assert set(gone.import_wh.tolist() + gone.export_wh.tolist()) == {NULL_WH}
    for column in (gone.quality, gone.signature, gone.previous, gone.sequence):
        assert not column.any()
    assert list(stored.readings.take(~stored.erased)) == list(readings.take(~stored.erased))
    assert len(verify_signatures(stored, SEPARATOR, keys(3)).good) == 9
    assert leaves_hold(stored, SECRETS)
    assert not erase_rows(tmp_path, str(path), 2, DAY, DAY + 3, SEPARATOR), "nothing is left to do"


def test_a_later_slots_record_that_names_an_erased_slot_goes_with_it(tmp_path: Path) -> None:
    records = [
        Edit(2, DAY + 3, {"like_days": [{"slot": DAY, "import_wh": 77}]}),
        Edit(3, DAY + 3, {"like_days": [{"slot": DAY, "import_wh": 78}]}),
    ]
    path = edited(tmp_path, chained(DAY, 4, 3), records)
    erase_rows(tmp_path, str(path), 2, DAY, DAY + 1, SEPARATOR)
    stored = read_batch(path)
    assert stored.records == [None, records[1].canonical()]
    assert stored.readings.import_wh[7] != NULL_WH


def test_totals_with_an_erased_home_are_withheld_and_its_rows_are_null(tmp_path: Path) -> None:
    path = filed(tmp_path, 1, DAY, 4, rows(DAY, 4, 16), leaves(64))
    erase_rows(tmp_path, str(path), 2, DAY, DAY + 2, SEPARATOR)
    table = zone_totals(tmp_path, 1, DAY, 4)
    assert table["net_wh"].isna().tolist() == [True, True, False, False]
    assert table["homes"].tolist() == [15, 15, 16, 16]
    series = meter_series(tmp_path, 1, 2, DAY, 4)
    assert series["import_wh"].isna().tolist() == [True, True, False, False]
    assert series["quality"].isna().tolist() == [True, True, False, False]
    assert counts(tmp_path, 1)["erased"].tolist() == [2]


# Stores


@pytest.fixture
def memory() -> str:
    place = "memory://lake=1/of [all]"
    filesystem = fsspec.filesystem("memory")
    if filesystem.exists("/lake=1"):
        filesystem.rm("/lake=1", recursive=True)
    return place


def test_an_object_store_holds_the_same_bytes_and_answers_the_same(
    tmp_path: Path, memory: str
) -> None:
    readings = missing(chained(DAY, 4, 16), [5])
    answers = []
    for lake in (tmp_path, tmp_path.as_uri(), memory, Lake.of(memory)):
        for first in (DAY, DAY + 4):
            moved = readings.take(np.ones(64, dtype=bool))
            moved.slot[:] += first - DAY
            write_batch(lake, 1, first, 4, moved, leaves(64))
        write_batch(lake, 1, DAY, 4, readings, leaves(64), version=2, separator=SEPARATOR)
        path = Lake.of(lake).path(1, DAY, 4, 2)
        with Lake.of(lake).reading(path) as source:
            content = source.read()
        assert list(read_batch(path, lake, separator=SEPARATOR).readings) == list(readings)
        assert list(read_batch(batch_path(lake, 1, DAY + 4, 4)).readings) == list(moved)
        answers.append(
            (
                content,
                zone_totals(lake, 1, DAY, 8).to_dict(),
                meter_series(lake, 1, 2, DAY + 1, 5)["import_wh"].to_list()[1:],
                counts(lake, 1).to_dict(),
                quality_shares(lake, 1, DAY, 8).to_dict(),
                frame(lake, 1, DAY, 8, ("meter", "slot", "export_wh")).dropna().to_dict(),
            )
        )
    assert all(answer == answers[0] for answer in answers[1:])


def test_rows_of_an_object_store_are_erased_too(memory: str) -> None:
    write_batch(memory, 1, DAY, 4, chained(DAY, 4, 3), leaves(12), separator=SEPARATOR)
    path = batch_path(memory, 1, DAY, 4)
    root = read_batch(path).root()
    assert erase_rows(memory, Lake.of(memory).path(1, DAY, 4), 2, DAY, DAY + 3, SEPARATOR)
    stored = read_batch(path)
    assert np.flatnonzero(stored.erased).tolist() == [4, 5, 6]
    assert stored.root() == root
    assert len(verify_signatures(stored, SEPARATOR, keys(3)).good) == 9


def test_pandas_and_duckdb_find_the_same(tmp_path: Path) -> None:
    for first in (DAY, DAY + 96):
        write_batch(tmp_path, 1, first, 4, missing(rows(first, 4, 15), [5]), leaves(60))
    table = frame(tmp_path, 1, DAY + 1, 97)
    assert sorted(set(table["slot"])) == [DAY + 1, DAY + 2, DAY + 3, DAY + 96, DAY + 97]
    assert table["import_wh"].isna().sum() == 2
    totals = zone_totals(tmp_path, 1, DAY + 1, 97, min_homes=1).set_index("slot")
    assert table.groupby("slot")["export_wh"].sum().to_dict() == totals["export_wh"].to_dict()
    assert len(frame(tmp_path, 2, DAY, 4)) == 0


def test_shares_of_quality_are_told_by_day(tmp_path: Path) -> None:
    readings = missing(rows(DAY, 4, 5), [0, 1])
    readings.quality[3] = Quality.ESTIMATED
    path = filed(tmp_path, 1, DAY, 4, readings, leaves(20))
    erase_rows(tmp_path, str(path), 5, DAY, DAY + 4, SEPARATOR)
    (day,) = quality_shares(tmp_path, 1, DAY, 4).to_dict("records")
    assert (day["day"], day["rows"]) == (date(2016, 6, 1), 20)
    assert (day["missing"], day["measured"], day["estimated"]) == (2 / 16, 13 / 16, 1 / 16)


def test_a_lake_at_an_unknown_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadUse, match="nowhere"):
        zone_totals("nowhere://lake", 1, DAY, 4)


# Size and speed


def test_a_days_readings_take_less_than_three_bytes_each(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    sun = np.clip(np.sin(np.linspace(0, 2 * np.pi, 96) - np.pi / 2), 0, None)
    net = random.gamma(0.7, 120, (40, 96)) - 900 * sun * random.uniform(0, 1, (40, 1))
    readings = chained(
        DAY, 96, 40, values=(np.clip(net, 0, None).astype(int), np.clip(-net, 0, None).astype(int))
    )
    path = filed(tmp_path, 1, DAY, 96, readings, leaves(len(readings)), separator=SEPARATOR)
    metadata = pq.ParquetFile(path).metadata
    group = [metadata.row_group(0).column(i) for i in range(metadata.num_columns)]
    assert metadata.num_row_groups == 1
    proofs = sum(c.total_compressed_size for c in group if c.path_in_schema in PROOFS)
    assert (path.stat().st_size - proofs) / len(readings) < 3


def test_a_chain_goes_on_from_file_to_file(tmp_path: Path) -> None:
    first = chained(DAY, 4, 3)
    second = chained(DAY + 4, 4, 3, heads=heads_after(SEPARATOR, first))
    for start, part in ((DAY, first), (DAY + 4, second)):
        write_batch(tmp_path, 1, start, 4, part, leaves(12), separator=SEPARATOR)
    stored = read_batch(batch_path(tmp_path, 1, DAY + 4, 4), separator=SEPARATOR)
    assert stored.readings.sequence.tolist() == [4, 5, 6, 7] * 3
    assert list(stored.readings) == list(second)
