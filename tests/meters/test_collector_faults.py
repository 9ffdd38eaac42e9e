# SPDX-License-Identifier: Apache-2.0
"""Faults: killed at any moment, no room on the disk. Real processes, real files, real errors."""

from __future__ import annotations

import itertools
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dao.errors import CheckFailed
from meters import frames
from meters.collector import Collector
from meters.lake import batch_files, leaves_hold, read_batch
from meters.readings import Readings
from meters.registry import KeyPeriods
from meters.secrets import DerivedSecrets
from meters.signing import sign_chains
from tests.meters.batch_rows import DAY, SEPARATOR

Zone = Any
SLOTS = 24
SECRETS = DerivedSecrets(b"a secret for the tests only")

# What the victim does for ever: takes frames, two at a time, says so, closes each hour that is
# whole, marks it committed; and begins anew with the frames, which must then be duplicates.
VICTIM = """
import json, sys
from pathlib import Path
from meters import frames
from meters.collector import Collector
from meters.secrets import DerivedSecrets
from meters.registry import KeyPeriods

folder, first = Path(sys.argv[1]), int(sys.argv[2])
given = json.loads((folder / "given.json").read_text())
keys = KeyPeriods.fixed({int(m): bytes.fromhex(a) for m, a in given["devices"].items()})
sent = [bytes.fromhex(frame) for frame in given["frames"]]
with Collector(1, keys, DerivedSecrets(b"a secret for the tests only"),
               bytes.fromhex(given["separator"]), folder / "lake", folder / "inbox.sqlite",
               workers=1) as collector:
    print("ready", flush=True)
    while True:
        for at in range(0, len(sent), 2):
            reports = collector.receive_frames(sent[at:at + 2])
            for i, report in enumerate(reports):
                assert report.report.accepted + report.report.duplicates == len(
                    frames.decode(sent[at + i])), report
            print(at, at + 1, flush=True)
            if at % 8 == 6:
                batch = collector.close_batch(first + at // 8 * 4, 4)
                print("closed", batch.first_slot, batch.root.hex(), flush=True)
                if at % 16 == 6:
                    collector.mark_committed(batch)
"""


@pytest.fixture(scope="module")
def traffic() -> tuple[dict[int, bytes], dict[int, bytes], Readings]:
    """Sixteen homes' keys, addresses, and six hours of readings."""
    from meters.devices import Fleet

    fleet = Fleet.of(7, range(1, 17))
    dice = np.random.default_rng(11)
    rows = Readings.columns(
        np.tile(np.arange(1, 17), SLOTS),
        np.repeat(np.arange(DAY, DAY + SLOTS), 16),
        dice.integers(0, 900, 16 * SLOTS),
        dice.integers(0, 300, 16 * SLOTS),
    )
    keys = {gateway.meter: gateway.key for gateway in fleet.gateways}
    return keys, fleet.devices, sign_chains(keys, SEPARATOR, rows, {})


class Killed:
    """A collector in a process of its own, killed again and again."""

    def __init__(self, folder: Path, traffic: tuple[Any, dict[int, bytes], Readings]) -> None:
        self.folder = folder
        _, self.devices, readings = traffic
        # A frame a slot: four of them are an hour, eight numbers in the victim's count.
        halves = [
            readings.take((readings.slot == DAY + slot) & ((readings.meter > 8) == upper))
            for slot in range(SLOTS)
            for upper in (False, True)
        ]
        self.frames = [frames.encode(part) for part in halves]
        self.readings = readings
        self.acknowledged: set[int] = set()
        self.roots: dict[int, str] = {}
        (folder / "given.json").write_text(
            json.dumps(
                {
                    "devices": {str(m): a.hex() for m, a in self.devices.items()},
                    "frames": [frame.hex() for frame in self.frames],
                    "separator": SEPARATOR.hex(),
                }
            )
        )

    def run_and_kill(self, lines: int, after: float) -> None:
        """Run the victim and kill it so many seconds after it has said so many lines; note what
        it said."""
        victim = subprocess.Popen(
            [sys.executable, "-c", VICTIM, str(self.folder), str(DAY)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert victim.stdout is not None
        assert victim.stdout.readline() == "ready\n"
        said = list(itertools.islice(victim.stdout, lines))
        time.sleep(after)
        assert victim.poll() is None, "it fell over by itself"
        victim.send_signal(signal.SIGKILL)
        for line in [*said, *victim.stdout]:
            if not line.endswith("\n"):
                break
            words = line.split()
            if words[0] == "closed":
                assert self.roots.setdefault(int(words[1]), words[2]) == words[2]
            else:
                self.acknowledged.update(map(int, words))
        victim.stdout.close()
        victim.wait()

    def open(self) -> Collector:
        keys = KeyPeriods.fixed(self.devices)
        lake, inbox = self.folder / "lake", self.folder / "inbox.sqlite"
        return Collector(1, keys, SECRETS, SEPARATOR, lake, inbox, workers=1)

    def check(self) -> None:
        """Nothing acknowledged is lost, nothing counts twice, file and root agree."""
        with self.open() as collector:
            for closed in collector.inbox.closed():
                batch = collector.close_batch(closed.first_slot, closed.slots)
                assert batch.root.hex() == self.roots.setdefault(
                    closed.first_slot, batch.root.hex()
                )
                stored = read_batch(batch.path, separator=SEPARATOR)
                assert stored.root() == batch.root
                assert leaves_hold(stored, SECRETS)
            assert set(self.roots) == {c.first_slot for c in collector.inbox.closed()}
            for number in sorted(self.acknowledged):
                (report,) = collector.receive_frames([self.frames[number]])
                assert report.report.accepted == 0, f"frame {number} was lost"
                assert report.report.duplicates == 8

    def finish(self) -> None:
        """Deliver everything and close all hours: every reading is there exactly once."""
        with self.open() as collector:
            collector.receive_frames(self.frames)
            for first in range(DAY, DAY + SLOTS, 4):
                collector.mark_committed(collector.close_batch(first, 4))
            assert collector.waiting() == 0
            assert collector.inbox.evidence() == []
            assert collector.inbox.meters_with_gaps() == []
        files = batch_files(self.folder / "lake", 1, DAY, SLOTS)
        stored = Readings.concat([read_batch(f.path, separator=SEPARATOR).readings for f in files])
        expected = {(r.meter, r.slot): r for r in self.readings}
        assert {(r.meter, r.slot): r for r in stored} == expected
        assert len(stored) == len(expected)


def kill_often(folder: Path, traffic: Any, times: int, seed: int) -> int:
    """Kill so many times, a few times each from an empty folder to the last batch, and check after
    each; how many frames were acknowledged and then found again."""
    dice = random.Random(seed)
    victim: Killed | None = None
    acknowledged = 0
    for i in range(times):
        if i % 3 == 0:
            if victim is not None:
                victim.finish()
            (folder / str(i)).mkdir()
            victim = Killed(folder / str(i), traffic)
        assert victim is not None
        # Somewhere in the next transaction, or in the closing of a batch.
        victim.run_and_kill(dice.randrange(40), dice.uniform(0.0, 0.02))
        victim.check()
        acknowledged += len(victim.acknowledged)
    assert victim is not None
    victim.finish()
    return acknowledged


def test_a_collector_killed_five_times_loses_nothing(tmp_path: Path, traffic: Any) -> None:
    assert kill_often(tmp_path, traffic, 5, seed=1) > 5


@pytest.mark.deep
def test_a_collector_killed_fifty_times_loses_nothing(tmp_path: Path, traffic: Any) -> None:
    assert kill_often(tmp_path, traffic, 50, seed=2) > 50


@pytest.fixture
def no_room() -> Iterator[Any]:
    """Let no file grow beyond a size: every write past it fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    def lift() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    limit.lift = lift  # type: ignore[attr-defined]
    yield limit
    lift()
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_refuses_the_readings_and_takes_them_later(
    zone: Zone, tmp_path: Path, no_room: Any
) -> None:
    parts = [frames.encode(zone.readings.take(zone.readings.meter == m)) for m in range(1, 17)]
    with zone.collector() as collector:
        assert sum(r.report.accepted for r in collector.receive_frames(parts[:2])) == 8
        no_room((tmp_path / "inbox.sqlite-wal").stat().st_size + 2_000)
        with pytest.raises(CheckFailed, match=r"cannot use the inbox .*inbox\.sqlite"):
            collector.receive_frames(parts)
        assert collector.waiting() == 8, "what was acknowledged is there, nothing half"
        assert set(collector.heads(range(1, 17))) == {1, 2}
        no_room.lift()
        reports = collector.receive_frames(parts)
    assert sum(r.report.accepted for r in reports) == 56
    assert sum(r.report.duplicates for r in reports) == 8


def test_a_database_that_may_not_grow_says_so_and_loses_nothing(zone: Zone) -> None:
    with zone.collector() as collector:
        collector.receive(zone.readings.take(np.arange(8)))
        pages = collector.inbox._db.execute("PRAGMA page_count").fetchone()[0]
        collector.inbox._db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(CheckFailed, match="full"):
            collector.receive(zone.readings)
        assert collector.waiting() == 8
        collector.inbox._db.execute("PRAGMA max_page_count = 1000000")
        assert collector.receive(zone.readings).accepted == 56


def test_no_room_for_the_batch_file_leaves_the_batch_open(
    zone: Zone, tmp_path: Path, no_room: Any
) -> None:
    with zone.collector() as collector:
        collector.receive(zone.readings)
        no_room(1_000)
        with pytest.raises(CheckFailed, match="cannot write the batch"):
            collector.close_batch(zone.first_slot, zone.slots)
        no_room.lift()
        assert collector.uncommitted() == []
        assert collector.waiting() == 64
        assert [p for p in (tmp_path / "lake").rglob("*") if p.is_file()] == [], "no half file"
        assert collector.close_batch(zone.first_slot, zone.slots).homes == 16


def test_a_second_process_on_the_same_inbox_is_refused(zone: Zone, tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from dao.errors import CheckFailed
from meters.inbox import Inbox
try:
    Inbox(Path(sys.argv[1]), 1)
except CheckFailed as error:
    print(error)
"""
    with zone.collector() as collector:
        collector.receive(zone.readings)
        told = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "inbox.sqlite")],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
        ).stdout
        assert collector.waiting() == 64
    assert f"process {os.getpid()}" in told


def test_a_lost_inbox_is_built_again_from_the_lake(zone: Zone, tmp_path: Path) -> None:
    older = zone.readings.take(zone.readings.slot < zone.first_slot + 2)
    newer = zone.signed(3, zone.first_slot, 12_345, 0, zone.head(3, 2))
    spare = {"inbox": tmp_path / "spare.sqlite"}
    with zone.collector() as collector:
        collector.receive(older)
        collector.receive(newer)
        first = collector.close_batch(zone.first_slot, 1)
        collector.mark_committed(first)
        second = collector.close_batch(zone.first_slot + 1, 1)
        heads = collector.heads(range(1, 17))
    with zone.collector(**spare) as collector:
        collector.receive(older.take(np.arange(3)))
        with pytest.raises(CheckFailed, match="restore the inbox from the lake"):
            collector.close_batch(zone.first_slot, 1)
        with pytest.raises(CheckFailed, match="not empty"):
            collector.restore()
    for file in tmp_path.glob("spare*"):
        file.unlink()
    with zone.collector(**spare) as collector:
        assert collector.restore() == 2
        assert collector.heads(range(1, 17)) == heads
        assert collector.uncommitted() == [(zone.first_slot, 1), (zone.first_slot + 1, 1)]
        for before in (first, second):
            batch = collector.close_batch(before.first_slot, 1)
            assert batch.root == before.root
            collector.mark_committed(batch)
        report = collector.receive(older)
        assert (report.duplicates, report.late, report.rejected) == (31, 1, [])
        rest = zone.readings.take(
            (zone.readings.slot > zone.first_slot + 1) & (zone.readings.meter != 3)
        )
        assert collector.receive(rest).accepted == 30
        assert collector.inbox.meters_with_gaps() == []
