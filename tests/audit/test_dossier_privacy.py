# SPDX-License-Identifier: Apache-2.0
"""No reading is in a dossier, no group below fifteen homes, and two give no more than one."""

from __future__ import annotations

import io
import re
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import forecasting.dossier
from dao.audit.build import OPERATOR_TABLES
from dao.audit.operator_rules import MIN_HOMES, fault_of_operator
from dao.audit.package import Dossier
from forecasting.dossier import write_dossier
from meters.lake import Lake, erase_rows
from meters.secrets import SecretStore
from meters.signing import reading_separator
from tests.audit.conftest import JUNE_5, JUNE_6, JUNE_7, Published, make
from tests.audit.village import JUNE_7 as JUNE_7_SLOT
from tests.audit.village import LOWEST_READING, SOLAR, Village

_NUMBER = re.compile(rb"[0-9]+")


def numbers_in(dossier: Dossier) -> set[int]:
    """Every number in every part: cells of Parquet files, and digits wherever they stand."""
    found: set[int] = set()
    for path in dossier.paths:
        data = dossier.read(path)
        if path.endswith(".parquet"):
            for column in pq.read_table(io.BytesIO(data)).columns:
                if pa.types.is_integer(column.type):
                    found.update(column.drop_null().to_pylist())
                elif pa.types.is_string(column.type):
                    text = "\n".join(column.drop_null().to_pylist()).encode()
                    found.update(
                        int(digits) for digits in _NUMBER.findall(text) if len(digits) < 20
                    )
        elif path.endswith((".csv", ".json")):
            found.update(int(digits) for digits in _NUMBER.findall(data) if len(digits) < 20)
    return found


def test_no_reading_of_any_home_is_anywhere_in_a_dossier(
    village: Village, published: Published
) -> None:
    rows = village.readings
    secret = {*rows.import_wh.tolist(), *rows.export_wh.tolist()} - {0}
    assert min(secret) == LOWEST_READING
    with Dossier(published.path) as dossier:
        seen = numbers_in(dossier)
        assert len(seen) > 2_000  # the search sees something
        assert not secret & seen
        # Nor any sum over one home: of a day, a month's part, or the two days.
        for first, slots in ((JUNE_7_SLOT - 96, 96), (JUNE_7_SLOT, 96), (JUNE_7_SLOT - 96, 192)):
            here = (rows.slot >= first) & (rows.slot < first + slots)
            for values in (rows.import_wh, rows.export_wh):
                sums = np.bincount(rows.meter[here], weights=values[here])
                assert not {int(one) for one in sums if one} & seen


def test_no_bill_shows_what_is_in_it(village: Village, published: Published) -> None:
    with Dossier(published.path) as dossier:
        boxes = [bytes.fromhex(row["box"][2:]) for row in dossier.bills.to_pylist()]
    assert len(boxes) == len(set(boxes)) == 40
    words = {box[i : i + 8] for box in boxes for i in range(0, len(box), 8)}
    # Each word of a box is as good as chance: none is a small number, none stands twice.
    assert len(words) == sum(len(box) // 8 for box in boxes)
    assert not any(word.startswith(bytes(3)) for word in words)


def test_every_group_shown_has_fifteen_homes_and_the_rest_has_too(published: Published) -> None:
    with Dossier(published.path) as dossier:
        groups = dossier.tables["groups"].to_pylist()
        assert {row["homes"] for row in groups} == {SOLAR}
        assert min(dossier.tables["slots"]["homes"].to_pylist()) >= MIN_HOMES
        assert fault_of_operator(dossier.tables, dossier.scope) is None


@pytest.fixture
def larger_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a group needed one home more than those with solar are."""
    monkeypatch.setattr(forecasting.dossier, "MIN_HOMES", SOLAR + 1)


@pytest.mark.usefixtures("larger_groups")
def test_where_one_group_is_too_small_none_is_shown(village: Village, tmp_path: Path) -> None:
    make(village, tmp_path / "small.zip", JUNE_6, JUNE_7)
    with Dossier(tmp_path / "small.zip") as dossier:
        for row in dossier.tables["groups"].to_pylist():
            assert [row[name] for name in row if name not in ("day", "group")] == [None] * 10


def test_two_dossiers_say_the_same_of_a_day_that_both_cover(
    village: Village, published: Published, tmp_path: Path
) -> None:
    """So nothing is to be had by subtracting one from the other."""
    spans = [(JUNE_6, JUNE_6), (JUNE_7, JUNE_7), (JUNE_5, JUNE_7)]
    told: dict[tuple[str, object], dict[str, object]] = {}
    paths = [published.path]
    for at, (begin, end) in enumerate(spans):
        make(village, tmp_path / f"{at}.zip", begin, end)
        paths.append(tmp_path / f"{at}.zip")
    compared = 0
    for path in paths:
        with Dossier(path) as dossier:
            for name in OPERATOR_TABLES:
                for row in dossier.tables[name].to_pylist():
                    place = row.get("slot", row.get("first_slot", row.get("day")))
                    key = (name, (place, row.get("group"), row.get("rule")))
                    compared += key in told
                    assert told.setdefault(key, row) == row
    assert compared > 200


def test_an_erased_home_is_not_given_away_by_an_older_dossier(
    village: Village, published: Published, tmp_path: Path
) -> None:
    folder = tmp_path / "state"
    shutil.copytree(village.folder / "lake", folder / "lake")
    shutil.copy(village.folder / "secrets.sqlite", folder / "secrets.sqlite")
    lake = Lake.of(folder / "lake")
    registry = village["MeterRegistry"].address
    separator = reading_separator(village.chain.chain_id, registry)
    for file in lake.zone_batches(1):
        assert erase_rows(
            lake, file.path, 25, file.first_slot, file.first_slot + file.slots, separator
        )
    with SecretStore(folder / "secrets.sqlite", make=False) as secrets:
        secrets.erase(25, 46 * 12 + 5)
    sources = replace(village.sources(), lake=folder / "lake", secrets=folder / "secrets.sqlite")
    path = tmp_path / "after.zip"
    write_dossier(village.request(JUNE_6, JUNE_7), sources, path)
    with Dossier(published.path) as before, Dossier(path) as after:
        assert fault_of_operator(after.tables, after.scope) is None
        assert {row["homes"] for row in after.tables["groups"].to_pylist()} == {None}
        assert 25 in before.bills["account"].to_pylist()
        assert 25 not in after.bills["account"].to_pylist()
        # What the chain tells is the same, and no operator's figure is left to subtract.
        for name in after.tables:
            if name not in (*OPERATOR_TABLES, "figures"):
                assert after.tables[name].equals(before.tables[name]), name
        assert set(after.tables["quality"]["erased"].to_pylist()) == {1}


def test_a_period_of_one_day_is_the_shortest(village: Village) -> None:
    assert village.request(date(2016, 6, 6), date(2016, 6, 6)).period.slots == 96
