# SPDX-License-Identifier: Apache-2.0
"""The writer: group commit, a queue with an end, and a disk that does not take it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from dao.errors import CheckFailed
from meters.collector import Collector, FrameReport
from meters.frames import encode
from meters.readings import Readings
from meters.service.writer import Busy, Room, Writer
from tests.meters.service.conftest import Made
from tests.meters.service.zone import FIRST, frames_of, of


class Counting(Collector):
    """A collector that notes how many frames each transaction took."""

    groups: list[int]

    def receive_frames(self, received: Sequence[bytes]) -> list[FrameReport]:
        self.__dict__.setdefault("groups", []).append(len(received))
        return super().receive_frames(received)


class Poisoned(Collector):
    """A collector with a fault that one frame meets."""

    poison: bytes = b""
    fault: Exception = ZeroDivisionError("a defect")

    def receive_frames(self, received: Sequence[bytes]) -> list[FrameReport]:
        if self.poison in received:
            raise self.fault
        return super().receive_frames(received)


@contextmanager
def held(writer: Writer) -> Iterator[None]:
    """The writer is busy with something else until the end."""
    begun, go = threading.Event(), threading.Event()

    def wait(_: Collector) -> None:
        begun.set()
        go.wait(30)

    waiting = threading.Thread(target=writer.call, args=(wait,))
    waiting.start()
    begun.wait(30)
    try:
        yield
    finally:
        go.set()
        waiting.join()


def test_frames_that_wait_share_one_transaction(writers: Made, day: Readings) -> None:
    writer = writers(Counting)
    with held(writer):
        reports = [writer.submit(frame, "a") for frame in frames_of(day)]
    assert [report.result(30).report.accepted for report in reports] == [8] * 16
    assert writer.call(lambda collector: collector.groups) == [16]  # type: ignore[attr-defined]


def test_a_transaction_is_not_larger_than_its_bound(writers: Made, day: Readings) -> None:
    writer = writers(Counting, Room(group_frames=5))
    with held(writer):
        reports = [writer.submit(frame, "a") for frame in frames_of(day)]
    assert all(report.result(30).report.accepted for report in reports)
    assert writer.call(lambda collector: collector.groups) == [5, 5, 5, 1]  # type: ignore[attr-defined]


def test_a_full_queue_turns_away_and_says_when_to_come_again(writers: Made, day: Readings) -> None:
    writer = writers(room=Room(frames=3))
    frames = frames_of(day)
    with held(writer):
        taken = [writer.submit(frame, f"{i}") for i, frame in enumerate(frames[:3])]
        with pytest.raises(Busy) as busy:
            writer.submit(frames[3], "d")
    assert busy.value.why == "queue"
    assert 1 <= busy.value.seconds <= 60
    assert all(report.result(30).report.accepted == 8 for report in taken)


@pytest.mark.parametrize("room", [Room(readings=160), Room(frames=20)])
def test_a_source_that_floods_leaves_room_for_the_others(
    writers: Made, day: Readings, room: Room
) -> None:
    writer = writers(room=room)
    frames = frames_of(day)
    with held(writer):
        for frame in frames[:5]:
            writer.submit(frame, "flood")
        with pytest.raises(Busy) as busy:
            writer.submit(frames[5], "flood")
        assert busy.value.why == "share"
        quiet = writer.submit(frames[6], "quiet")
    assert quiet.result(30).report.accepted == 8


def test_nothing_is_acknowledged_that_the_disk_did_not_take(writers: Made, day: Readings) -> None:
    writer = writers()
    frame = encode(day)

    def pages(collector: Collector, most: int) -> None:
        collector.inbox._db.execute(f"PRAGMA max_page_count = {most}")

    writer.call(lambda collector: pages(collector, 1))
    with pytest.raises(Busy) as busy:
        writer.submit(frame, "a").result(30)
    assert busy.value.why == "disk"
    assert writer.fault is not None
    assert writer.call(lambda collector: collector.waiting()) == 0
    writer.call(lambda collector: pages(collector, 1 << 30))
    assert writer.submit(frame, "a").result(30).report.accepted == len(day)
    assert writer.fault is None


class Unread(Poisoned):
    """The same, where a batch file that the frame is held against cannot be read."""

    fault = CheckFailed("the lake does not answer")


@pytest.mark.parametrize(("kind", "why"), [(Poisoned, "defect"), (Unread, "lake")])
def test_a_frame_that_meets_a_fault_does_not_take_the_others_along(
    writers: Made, day: Readings, kind: type[Collector], why: str
) -> None:
    writer = writers(kind)
    frames = frames_of(day)
    writer.call(lambda collector: setattr(collector, "poison", frames[1]))
    with held(writer):
        reports = [writer.submit(frame, "a") for frame in frames[:3]]
    assert reports[0].result(30).report.accepted == 8
    assert reports[2].result(30).report.accepted == 8
    with pytest.raises(Busy) as busy:
        reports[1].result(30)
    assert busy.value.why == why
    assert writer.is_alive
    assert writer.fault is None


def test_what_waits_is_written_before_the_end(writers: Made, day: Readings, tmp_path: Path) -> None:
    writer = writers()
    with held(writer):
        reports = [writer.submit(frame, "a") for frame in frames_of(day)]
        ending = threading.Thread(target=writer.stop)
        ending.start()
    ending.join(30)
    assert sum(report.result(0).report.accepted for report in reports) == len(day)
    with pytest.raises(Busy):
        writer.submit(encode(of(day, 1)), "a")
    with pytest.raises(CheckFailed):
        writer.call(lambda collector: collector.waiting())


def test_a_second_collector_on_the_same_inbox_is_refused_at_once(
    writers: Made, day: Readings
) -> None:
    writers()
    with pytest.raises(CheckFailed, match="another collector"):
        writers()


def test_a_restored_inbox_knows_what_it_took_before_it_is_committed(
    writers: Made, day: Readings, tmp_path: Path
) -> None:
    first = writers()
    first.submit(encode(day), "a").result(30)
    first.call(lambda collector: collector.close_batch(FIRST, 8))
    assert first.stop()
    for file in tmp_path.glob("inbox.sqlite*"):
        file.unlink()
    second = writers()
    assert second.call(lambda collector: collector.restore()) == 1
    report = second.submit(encode(day), "a").result(30).report
    assert (report.accepted, report.duplicates, report.rejected) == (0, len(day), [])
