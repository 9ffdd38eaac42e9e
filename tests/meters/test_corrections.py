# SPDX-License-Identifier: Apache-2.0
"""What comes after closing enters by one correction, where it shows no home, or never."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dao.errors import CheckFailed
from meters.collector import Collector
from meters.lake import read_batch, zone_totals
from meters.readings import NULL_WH, Quality, Readings
from tests.meters.batch_rows import SEPARATOR, Edit

Zone = Any


@pytest.fixture
def closed(zone: Zone) -> Iterator[Collector]:
    """A collector with a committed batch of which one slot of every meter was missing."""
    with zone.collector() as collector:
        collector.receive(zone.readings.take(zone.readings.slot != zone.first_slot + 1))
        collector.mark_committed(collector.close_batch(zone.first_slot, zone.slots))
        yield collector


def test_late_readings_enter_by_one_correction(
    zone: Zone, closed: Collector, tmp_path: Path
) -> None:
    late = zone.readings.take(zone.readings.slot == zone.first_slot + 1)
    report = closed.receive(late)
    assert (report.accepted, report.late, report.rejected) == (16, 16, [])
    assert [b.first_slot for b in closed.correctable()] == [zone.first_slot]
    batch = closed.correct_batch(zone.first_slot)
    assert (batch.version, batch.homes, batch.leaves) == (2, 16, 64)
    assert batch.net_wh.sum() == (zone.readings.import_wh - zone.readings.export_wh).sum()
    assert closed.uncommitted_corrections() == [zone.first_slot]
    assert closed.correct_batch(zone.first_slot).root == batch.root
    closed.mark_committed(batch)
    assert closed.correctable() == closed.uncommitted_corrections() == []
    assert closed.receive(zone.readings).duplicates == 64
    frame = zone_totals(tmp_path / "lake", 1, zone.first_slot, zone.slots)
    assert frame["net_wh"].tolist() == batch.net_wh.tolist(), "queries read the newest version"
    first = batch.path.with_name(batch.path.name.replace(".v2", ""))
    assert first != batch.path
    assert sum(r.quality == Quality.MISSING for r in read_batch(first).readings) == 16


def test_a_correction_of_few_homes_would_show_them(zone: Zone, closed: Collector) -> None:
    late = zone.readings.take(
        (zone.readings.slot == zone.first_slot + 1) & (zone.readings.meter < 15)
    )
    closed.receive(late)
    with pytest.raises(CheckFailed, match="only 14 homes change"):
        closed.correct_batch(zone.first_slot)
    assert closed.uncommitted_corrections() == []
    assert closed.correct_batch(zone.first_slot, force=True).version == 2


def test_a_late_reading_that_is_older_than_what_counts_changes_nothing(zone: Zone) -> None:
    newer = zone.signed(3, zone.first_slot, 12_345, 0)
    of = (zone.readings.meter == 3) & (zone.readings.slot == zone.first_slot)
    with zone.collector() as collector:
        collector.receive(Readings.concat([zone.readings.take(~of), newer]))
        collector.mark_committed(collector.close_batch(zone.first_slot, zone.slots))
        assert collector.receive(zone.readings.take(of)).late == 1
        with pytest.raises(CheckFailed, match="no late reading changes"):
            collector.correct_batch(zone.first_slot, force=True)
        assert collector.correctable() == [], "and is not asked for again"


def test_a_correction_that_is_discarded_leaves_the_first_version(
    zone: Zone, closed: Collector
) -> None:
    closed.receive(zone.readings)
    batch = closed.correct_batch(zone.first_slot)
    closed.discard_correction(zone.first_slot)
    closed.discard_correction(zone.first_slot)
    assert not batch.path.exists()
    assert closed.correct_batch(zone.first_slot).root == batch.root
    closed.mark_committed(batch)
    with pytest.raises(CheckFailed, match="published"):
        closed.discard_correction(zone.first_slot)


@pytest.mark.parametrize("first", [0, 1])
def test_only_a_committed_batch_is_corrected(zone: Zone, first: int) -> None:
    with zone.collector() as collector:
        collector.receive(zone.readings)
        collector.close_batch(zone.first_slot, zone.slots)
        with pytest.raises(CheckFailed, match="no committed batch"):
            collector.correct_batch(zone.first_slot + first)


@dataclass(frozen=True)
class Filled:
    readings: Readings
    records: tuple[Edit, ...]


def fill(complete: Readings, history: object) -> Filled:
    """An editor that puts 1 Wh where nothing was delivered, and cuts what exceeds 10 kWh."""
    gone = complete.quality == Quality.MISSING
    high = (complete.import_wh > 10_000) & (complete.import_wh != NULL_WH)
    edited = gone | high
    rows = replace(
        complete,
        import_wh=np.where(edited, 1, complete.import_wh),
        export_wh=np.where(edited, 0, complete.export_wh),
        quality=np.where(edited, Quality.SUBSTITUTED, complete.quality).astype(np.uint8),
        signature=np.where(edited[:, None], 0, complete.signature).astype(np.uint8),
        sequence=np.where(edited, 0, complete.sequence),
        previous=np.where(edited[:, None], 0, complete.previous).astype(np.uint8),
    )
    at = np.flatnonzero(edited).tolist()
    return Filled(rows, tuple(Edit(int(complete.meter[i]), int(complete.slot[i])) for i in at))


def test_what_an_editor_changes_is_recorded_under_the_root(zone: Zone) -> None:
    with zone.collector(editor=fill, history=object()) as collector:
        collector.receive(zone.readings.take(zone.readings.meter > 2))
        batch = collector.close_batch(zone.first_slot, zone.slots)
        again = collector.close_batch(zone.first_slot, zone.slots)
        collector.mark_committed(batch)
        assert collector.receive(zone.readings).late == 8
    stored = read_batch(batch.path, separator=SEPARATOR)
    assert stored.root() == batch.root == again.root
    assert (len(stored.leaves), len(stored.records), batch.leaves) == (64, 8, 72)
    assert (batch.homes, again.leaves) == (16, 72)


def test_a_correction_edits_what_the_devices_signed_not_what_was_edited(zone: Zone) -> None:
    spike = zone.signed(3, zone.first_slot, 12_345, 0)
    gap = zone.readings.slot == zone.first_slot + 1
    with zone.collector(editor=fill, history=object()) as collector:
        collector.receive(zone.readings.take(~gap))
        collector.receive(spike)
        first = collector.close_batch(zone.first_slot, zone.slots)
        collector.mark_committed(first)
        collector.receive(zone.readings.take(gap))
        second = collector.correct_batch(zone.first_slot)
    stored = read_batch(second.path, separator=SEPARATOR)
    assert (first.leaves, second.leaves) == (64 + 17, 64 + 1)
    (edited,) = [r for r in stored.readings if r.quality == Quality.SUBSTITUTED]
    assert (edited.meter, edited.slot, edited.import_wh) == (3, zone.first_slot, 1)
