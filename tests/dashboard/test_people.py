# SPDX-License-Identifier: Apache-2.0
"""Whose metering points are whose, and which demonstration homes have something to sell."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dao.demo_people import owner_account
from dashboard.repositories import people
from tests.dashboard.sample import Index

STRANGER = "0x00000000000000000000000000000000000000AA"


def test_owners_are_those_of_the_zone_and_seeded_ones_those_of_the_seed(tmp_path: Path) -> None:
    index = Index(tmp_path / "index.sqlite")
    ours, theirs = owner_account(7, 1).address, owner_account(8, 3).address
    for meter, owner, zone in [(1, ours, 1), (2, STRANGER, 1), (3, theirs, 1), (4, ours, 2)]:
        args = {"meter": meter, "owner": owner, "zone": zone, "device": STRANGER}
        index.add("MeterRegistered", 0, args)
    assert people.owners(index.path, 1) == {1: ours, 2: STRANGER, 3: theirs}
    assert people.seeded(index.path, 1, 7) == {1: ours}


def test_homes_that_feed_in_are_found_in_the_newest_days(tmp_path: Path) -> None:
    for day, exports in [(1, [5, 0, 0]), (4, [0, 0, 0]), (5, [0, 1, 0]), (6, [0, 0, 0])]:
        folder = tmp_path / "zone=1" / f"day=2016-06-{day:02}"
        folder.mkdir(parents=True)
        table = pa.table({"meter": [1, 2, 3], "export_wh": exports})
        pq.write_table(table, folder / "batch.parquet")
    assert people.feeding_in(tmp_path, 1) == {2}
    assert people.feeding_in(tmp_path, 2) == frozenset()


def test_a_damaged_lake_costs_only_the_hint(tmp_path: Path) -> None:
    folder = tmp_path / "zone=1" / "day=2016-06-01"
    folder.mkdir(parents=True)
    (folder / "batch.parquet").write_text("no parquet")
    assert people.feeding_in(tmp_path, 1) == frozenset()
