# SPDX-License-Identifier: Apache-2.0
"""The collector: nothing acknowledged is lost, nothing counts twice, nothing is invented."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dao.errors import BadUse, CheckFailed
from meters.collector import MAX_VERSIONS
from meters.inbox import State
from meters.lake import read_batch, zone_totals
from meters.leaves import leaves_of, proof_of, root_of_leaves, verify_proof
from meters.readings import Quality, Reading, Readings
from meters.registry import KeyPeriods
from meters.secrets import DerivedSecrets
from meters.signing import CURVE_ORDER, heads_after
from tests.meters.batch_rows import SEPARATOR

Zone = Any


def test_good_readings_are_accepted_and_become_a_batch(zone: Zone) -> None:
    with zone.collector() as collector:
        report = collector.receive(zone.readings)
        batch = collector.close_batch(zone.first_slot, zone.slots)
    assert (report.accepted, report.duplicates, report.rejected) == (64, 0, [])
    assert (batch.homes, batch.leaves) == (16, 64)
    assert batch.publishable
    assert batch.net_wh.dtype == batch.export_wh.dtype == np.int64
    assert batch.net_wh.sum() == (zone.readings.import_wh - zone.readings.export_wh).sum()
    assert batch.export_wh.tolist() == [
        zone.readings.export_wh[zone.readings.slot == zone.first_slot + i].sum() for i in range(4)
    ]


def test_every_row_of_the_file_proves_itself_against_the_root(zone: Zone) -> None:
    with zone.collector() as collector:
        collector.receive(zone.readings)
        batch = collector.close_batch(zone.first_slot, zone.slots)
    stored = read_batch(batch.path, separator=SEPARATOR)
    rows, leaves = stored.readings, stored.leaves
    assert leaves == leaves_of(rows, DerivedSecrets(b"a secret for the tests only"))
    assert root_of_leaves(leaves) == batch.root
    assert all(verify_proof(batch.root, leaf, proof_of(leaves, i)) for i, leaf in enumerate(leaves))
    order = np.lexsort((zone.readings.slot, zone.readings.meter))
    assert list(rows) == list(zone.readings.take(order)), "signature and chain are in the file"
    assert list(zip(rows.meter, rows.slot, strict=True)) == sorted(
        zip(rows.meter, rows.slot, strict=True)
    )


def test_the_same_reading_again_has_no_effect(zone: Zone) -> None:
    with zone.collector() as collector:
        collector.receive(zone.readings)
        again = collector.receive(zone.readings)
        twice = collector.receive(Readings.concat([zone.readings, zone.readings]))
        assert collector.waiting() == 64
    assert (again.accepted, again.duplicates, again.rejected) == (0, 64, [])
    assert (twice.accepted, twice.duplicates) == (0, 128)


def test_a_reading_twice_in_one_delivery_counts_once(zone: Zone) -> None:
    with zone.collector() as collector:
        report = collector.receive(Readings.concat([zone.readings, zone.readings]))
    assert (report.accepted, report.duplicates) == (64, 64)


def test_a_newer_reading_of_a_slot_counts_and_the_older_stays_beside_it(zone: Zone) -> None:
    newer = zone.signed(3, zone.first_slot, 12_345, 0)
    with zone.collector() as collector:
        collector.receive(zone.readings)
        assert collector.receive(newer).accepted == 1
        batch = collector.close_batch(zone.first_slot, zone.slots)
        collector.mark_committed(batch)
        (older,) = collector.inbox.beside(
            zone.first_slot, zone.first_slot + zone.slots, State.SUPERSEDED
        )
        assert collector.receive(zone.readings).duplicates == 64, "the older one is known too"
    assert next(iter(newer)) in list(read_batch(batch.path, separator=SEPARATOR).readings)
    assert older == next(r for r in zone.readings if (r.meter, r.slot) == (3, zone.first_slot))


def test_the_newest_counts_in_whatever_order_they_arrive(zone: Zone) -> None:
    newer = zone.signed(3, zone.first_slot, 12_345, 0)
    with zone.collector() as collector:
        collector.receive(newer)
        collector.receive(zone.readings)
        batch = collector.close_batch(zone.first_slot, zone.slots)
    assert next(iter(newer)) in list(read_batch(batch.path, separator=SEPARATOR).readings)


def test_a_device_cannot_flood_a_slot_with_corrections(zone: Zone) -> None:
    with zone.collector() as collector:
        collector.receive(zone.readings)
        head = zone.head(3)
        reports = []
        for value in range(MAX_VERSIONS + 1):
            row = zone.signed(3, zone.first_slot, value, 0, head)
            head = heads_after(SEPARATOR, row)[3]
            reports.append(collector.receive(row))
        assert collector.waiting() == 64 + MAX_VERSIONS - 1
    assert [r.accepted for r in reports] == [1] * (MAX_VERSIONS - 1) + [0, 0]
    assert {finding.rule for r in reports for finding in r.rejected} == {"versions"}


def test_a_forged_signature_is_rejected_alone(zone: Zone) -> None:
    bent = replace(zone.readings, signature=zone.readings.signature.copy())
    bent.signature[5, 10] ^= 1
    bent.signature[6] = 0
    with zone.collector() as collector:
        report = collector.receive(bent)
    assert report.accepted == 62
    assert {entry.rule for entry in report.rejected} == {"signature"}


def test_a_value_changed_on_the_way_is_rejected(zone: Zone) -> None:
    bent = replace(zone.readings, export_wh=zone.readings.export_wh + 1)
    with zone.collector() as collector:
        report = collector.receive(bent)
    assert (report.accepted, len(report.rejected)) == (0, 64)


def test_one_device_cannot_speak_for_another(zone: Zone) -> None:
    row = zone.signed(4, zone.first_slot, 1, 1)
    with zone.collector() as collector:
        report = collector.receive(replace(row, meter=np.array([5])))
    assert report.rejected == [("signature", 5, zone.first_slot, 4)]


def test_values_cannot_be_tried_out_against_the_answers(zone: Zone) -> None:
    guess = replace(zone.readings, signature=np.full_like(zone.readings.signature, 1))
    with zone.collector() as collector:
        collector.receive(zone.readings)
        right = collector.receive(guess)
        wrong = collector.receive(replace(guess, import_wh=guess.import_wh + 1))
    assert right.duplicates == 0
    assert right.rejected == wrong.rejected


def test_a_signature_with_a_high_s_is_the_same_reading(zone: Zone) -> None:
    twin = zone.readings.signature.copy()
    for row in twin:
        s = CURVE_ORDER - int.from_bytes(row[32:64].tobytes(), "big")
        row[32:64] = np.frombuffer(s.to_bytes(32, "big"), dtype=np.uint8)
        row[64] = 55 - row[64]
    with zone.collector() as collector:
        assert collector.receive(replace(zone.readings, signature=twin)).accepted == 64
        assert collector.receive(zone.readings).duplicates == 64


def test_implausible_readings_are_named_and_stay_missing(zone: Zone) -> None:
    rows = Readings.concat(
        [
            zone.signed(1, zone.first_slot, 60_000, 0),
            zone.signed(2, zone.first_slot + 500, 1, 0),
            Readings.of([Reading(99, zone.first_slot, 1, 1)]),
            Readings.of([Reading(3, zone.first_slot, None, None)]),
        ]
    )
    with zone.collector() as collector:
        report = collector.receive(rows)
        batch = collector.close_batch(zone.first_slot, zone.slots)
    assert {(entry.rule, entry.meter) for entry in report.rejected} == {
        ("above_capacity", 1),
        ("future_slot", 2),
        ("unknown_meter", 99),
        ("no_value", 3),
    }
    rows = read_batch(batch.path).readings
    assert all(r.quality == Quality.MISSING and r.import_wh is r.export_wh is None for r in rows)
    assert batch.homes == 0
    assert not batch.publishable


def test_a_missing_reading_is_null_never_zero(zone: Zone) -> None:
    gap = (zone.readings.meter == 2) & (zone.readings.slot == zone.first_slot + 1)
    with zone.collector() as collector:
        collector.receive(zone.readings.take(~gap))
        batch = collector.close_batch(zone.first_slot, zone.slots)
    row = next(
        r for r in read_batch(batch.path).readings if (r.meter, r.slot) == (2, zone.first_slot + 1)
    )
    assert row == Reading(2, zone.first_slot + 1, None, None, Quality.MISSING)
    assert batch.homes == 15, "the fewest homes behind any slot"
    assert batch.leaves == 64


def test_a_restart_loses_nothing(zone: Zone) -> None:
    first = zone.collector()
    first.receive(zone.readings.take(np.arange(40)))
    del first  # no close: as if the process had gone
    with zone.collector() as second:
        assert second.waiting() == 40
        report = second.receive(zone.readings)
        assert (report.accepted, report.duplicates) == (24, 40)


def test_closing_twice_gives_the_same_root_and_file(zone: Zone) -> None:
    with zone.collector() as collector:
        collector.receive(zone.readings)
        first = collector.close_batch(zone.first_slot, zone.slots)
        content = first.path.read_bytes()
        again = collector.close_batch(zone.first_slot, zone.slots)
        assert again.root == first.root
        assert again.path.read_bytes() == content
        collector.mark_committed(first)
    with zone.collector() as later:
        after = later.close_batch(zone.first_slot, zone.slots)
        assert after.root == first.root
        assert after.net_wh.tolist() == first.net_wh.tolist()
        assert after.path.read_bytes() == content


def test_the_order_of_arrival_does_not_change_the_batch(zone: Zone, tmp_path: Path) -> None:
    roots = []
    for name, order in (("a", slice(None)), ("b", slice(None, None, -1))):
        changes = {"inbox": tmp_path / f"{name}.sqlite", "lake": tmp_path / name}
        with zone.collector(**changes) as collector:
            collector.receive(zone.readings.take(np.arange(64)[order]))
            batch = collector.close_batch(zone.first_slot, zone.slots)
            roots.append((batch.root, batch.path.read_bytes()))
    assert roots[0] == roots[1]


def test_a_commit_purges_the_inbox(zone: Zone, tmp_path: Path) -> None:
    with zone.collector() as collector:
        collector.receive(zone.readings)
        batch = collector.close_batch(zone.first_slot, zone.slots)
        assert collector.uncommitted() == [(zone.first_slot, zone.slots)]
        collector.mark_committed(batch)
        collector.mark_committed(batch)
        assert collector.waiting() == 0
        assert collector.uncommitted() == []
        again = collector.receive(zone.readings)
        assert (again.accepted, again.duplicates) == (0, 64)
        wal = tmp_path / "inbox.sqlite-wal"
        stored = (tmp_path / "inbox.sqlite").read_bytes() + wal.read_bytes()
    assert all(bytes(signature) not in stored for signature in zone.readings.signature)


def test_only_the_batch_that_was_closed_can_be_marked(zone: Zone) -> None:
    with zone.collector() as collector:
        collector.receive(zone.readings)
        batch = collector.close_batch(zone.first_slot, zone.slots)
        with pytest.raises(CheckFailed, match="no batch"):
            collector.mark_committed(replace(batch, root=bytes(32)))
        with pytest.raises(CheckFailed, match="overlap"):
            collector.close_batch(zone.first_slot + 1, 2)
        assert collector.waiting() == 64


def test_a_file_changed_afterwards_is_noticed(zone: Zone) -> None:
    from meters.lake import write_batch

    with zone.collector() as collector:
        collector.receive(zone.readings)
        batch = collector.close_batch(zone.first_slot, zone.slots)
        stored = read_batch(batch.path, separator=SEPARATOR)
        rows, leaves = stored.readings, stored.leaves
        more = replace(rows, export_wh=rows.export_wh + 1)
        swapped = [leaves[1], leaves[2], leaves[0], *leaves[3:]]
        for values, hashes in ((more, leaves), (rows, swapped)):
            write_batch(batch.path.parents[2], 1, zone.first_slot, 4, values, hashes)
            with pytest.raises(CheckFailed, match="was changed"):
                collector.close_batch(zone.first_slot, zone.slots)


def test_history_in_bulk_gives_the_batch_that_the_inbox_gives(zone: Zone, tmp_path: Path) -> None:
    with zone.collector() as collector:
        collector.receive(zone.readings)
        slow = collector.close_batch(zone.first_slot, zone.slots)
    bulk = {"inbox": tmp_path / "bulk.sqlite", "lake": tmp_path / "bulk"}
    with zone.collector(**bulk) as collector:
        fast, report = collector.close_history(zone.readings, zone.first_slot, zone.slots)
        again, _ = collector.close_history(zone.readings, zone.first_slot, zone.slots)
    assert (report.accepted, report.duplicates, report.rejected) == (64, 0, [])
    assert fast.root == slow.root == again.root
    assert fast.path.read_bytes() == slow.path.read_bytes()
    assert fast.net_wh.tolist() == slow.net_wh.tolist()


def test_history_names_what_it_rejects(zone: Zone) -> None:
    bent = replace(zone.readings, signature=zone.readings.signature.copy())
    bent.signature[3, 3] ^= 1
    fork = zone.signed(9, zone.first_slot, 1, 2, zone.head(9, 2))
    rows = Readings.concat([bent, zone.readings.take(np.array([7])), fork])
    with zone.collector() as collector:
        batch, report = collector.close_history(rows, zone.first_slot, zone.slots)
        again, _ = collector.close_history(rows, zone.first_slot, zone.slots)
    assert (report.accepted, report.duplicates) == (63, 1)
    assert sorted(report.rejected) == [
        ("sequence", 9, zone.first_slot, 2),
        ("signature", 1, zone.first_slot + 3, 3),
    ]
    assert batch.homes == 15
    assert again.root == batch.root


def test_history_does_not_pass_over_what_waits_or_was_closed(zone: Zone) -> None:
    with zone.collector() as collector:
        collector.receive(zone.readings.take(np.array([0])))
        with pytest.raises(CheckFailed, match="inbox holds 1"):
            collector.close_history(zone.readings, zone.first_slot, zone.slots)
        with pytest.raises(BadUse, match="outside"):
            collector.close_history(zone.readings, zone.first_slot, 2)
        first = collector.close_batch(zone.first_slot, zone.slots)
        collector.mark_committed(first)
        with pytest.raises(CheckFailed, match="another root"):
            collector.close_history(zone.readings, zone.first_slot, zone.slots)


def test_totals_in_the_lake_are_those_of_the_batch(zone: Zone, tmp_path: Path) -> None:
    with zone.collector() as collector:
        collector.receive(zone.readings)
        batch = collector.close_batch(zone.first_slot, zone.slots)
    frame = zone_totals(tmp_path / "lake", 1, zone.first_slot, zone.slots)
    assert frame["net_wh"].tolist() == batch.net_wh.tolist()
    assert frame["export_wh"].tolist() == batch.export_wh.tolist()


def test_a_second_collector_on_the_same_inbox_is_refused_at_once(zone: Zone) -> None:
    with zone.collector() as one:
        with pytest.raises(CheckFailed, match=rf"process {os.getpid()}\) works with"):
            zone.collector()
        assert one.receive(zone.readings).accepted == 64
    with zone.collector() as two:
        assert two.receive(zone.readings).duplicates == 64


def test_an_inbox_serves_one_zone(zone: Zone) -> None:
    with zone.collector() as collector:
        collector.receive(zone.readings)
    with pytest.raises(CheckFailed, match="is of zone 1, not of zone 2"):
        zone.collector(zone=2)
    with zone.collector() as collector:
        assert collector.waiting() == 64, "a refused one takes no lock with it"


def test_an_inbox_of_the_layout_before_is_named_and_left_alone(zone: Zone, tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "inbox.sqlite")
    old.execute("CREATE TABLE reading (zone INTEGER, slot INTEGER, meter INTEGER)")
    old.execute("INSERT INTO reading VALUES (1, 2, 3)")
    old.commit()
    with pytest.raises(CheckFailed, match="not of this version"):
        zone.collector()
    assert old.execute("SELECT * FROM reading").fetchall() == [(1, 2, 3)]
    old.close()


def test_an_unusable_inbox_is_named(zone: Zone, tmp_path: Path) -> None:
    file = tmp_path / "broken.sqlite"
    file.write_bytes(b"this is no database, but long enough to look like one" * 20)
    with pytest.raises(CheckFailed, match=r"broken\.sqlite"):
        zone.collector(inbox=file)


def test_a_zone_without_meters_has_nothing_to_close(zone: Zone) -> None:
    with (
        zone.collector(keys=KeyPeriods.fixed({})) as collector,
        pytest.raises(CheckFailed, match="no meters"),
    ):
        collector.close_batch(zone.first_slot, 4)


def test_the_inbox_is_durable_before_it_answers(zone: Zone, tmp_path: Path) -> None:
    with zone.collector() as collector:
        collector.receive(zone.readings)
        other = sqlite3.connect(tmp_path / "inbox.sqlite")
        assert other.execute("SELECT count(*) FROM reading").fetchone() == (64,)
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        other.close()
        assert collector.inbox._db.execute("PRAGMA synchronous").fetchone() == (2,)
