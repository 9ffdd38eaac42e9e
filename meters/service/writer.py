# SPDX-License-Identifier: Apache-2.0
"""The one thread that owns the collector: a bounded queue before it, many frames a transaction.

Frames that wait while a transaction is under way share the next one. What does not fit into the
queue is turned away at once, so that nobody waits for what cannot be kept. Who may send how much is
the door's business (`intake.py`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from dao.errors import CheckFailed, GridCommonsError
from meters.collector import Collector, FrameReport
from meters.frames import RECORD_BYTES
from meters.inbox_file import InboxFailed

log = logging.getLogger("gridcommons.collector")

T = TypeVar("T")

_SHORTEST_WAIT_S = 1
_LONGEST_WAIT_S = 60
_ENDING = "the collector is ending"


class Busy(Exception):
    """The frame was not taken; the same again after so many seconds."""

    def __init__(self, seconds: int, why: str) -> None:
        super().__init__(why)
        self.seconds = seconds
        self.why = why


@dataclass(frozen=True)
class Room:
    """How much may wait, and how much one transaction takes.

    A source may fill a quarter of the queue at most, so one that floods leaves room for the others.
    A group is not cut inside a frame: it may be one frame larger than `group_readings`.
    """

    frames: int = 4_096
    readings: int = 524_288
    group_frames: int = 256
    group_readings: int = 8_192
    share: int = 4


@dataclass(frozen=True)
class Depth:
    """What waits for the writer."""

    frames: int = 0
    readings: int = 0


@dataclass(frozen=True)
class _Frame:
    data: bytes
    source: str
    future: Future[FrameReport]

    @property
    def readings(self) -> int:
        return readings_in(self.data)


@dataclass(frozen=True)
class _Task:
    work: Callable[[Collector], Any]
    future: Future[Any]

    def do(self, collector: Collector) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self.work(collector))
        except BaseException as error:
            self.future.set_exception(error)

    def refuse(self) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(CheckFailed(_ENDING))


def readings_in(frame: bytes) -> int:
    """How many readings a frame of this length can hold, at least one."""
    return max(len(frame) // RECORD_BYTES, 1)


class Writer:
    """Runs a collector in a thread of its own until `stop`. Safe for any number of threads.

    make: opens the collector, in the writer's thread.
    """

    def __init__(self, make: Callable[[], Collector], room: Room | None = None) -> None:
        self._make = make
        self._room = room or Room()
        self._turn = threading.Condition()
        self._frames: deque[_Frame] = deque()
        self._tasks: deque[_Task] = deque()
        self._held: Counter[str] = Counter()
        self._held_frames: Counter[str] = Counter()
        self._readings = 0
        self._ending = False
        self._opened: Future[None] = Future()
        self._per_second = 2_000.0
        self.fault: str | None = None
        """Why the last transaction failed; None once one has gone well again."""
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    # For other threads

    def start(self) -> None:
        """Open the collector; raises what opening it raised."""
        self._thread.start()
        self._opened.result()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive() and not self._ending

    def depth(self) -> Depth:
        """What waits now."""
        with self._turn:
            return Depth(len(self._frames), self._readings)

    def submit(self, frame: bytes, source: str) -> Future[FrameReport]:
        """Queue a frame. Its report comes when what it holds is on disk; Busy where it was not
        taken. Raises Busy where there is no room for it."""
        entry = _Frame(frame, source, Future())
        room = self._room
        with self._turn:
            if not self.is_alive:
                raise Busy(_LONGEST_WAIT_S, "ending")
            if len(self._frames) >= room.frames or self._readings >= room.readings:
                raise Busy(self._wait(), "queue")
            # The very first frame of a source finds room however small the share is.
            held, frames = self._held[source], self._held_frames[source]
            too_many = held + entry.readings > room.readings // room.share
            if frames and (too_many or frames >= room.frames // room.share):
                raise Busy(self._wait(), "share")
            self._frames.append(entry)
            self._held[source] += entry.readings
            self._held_frames[source] += 1
            self._readings += entry.readings
            self._turn.notify()
        return entry.future

    def ask(self, work: Callable[[Collector], T]) -> Future[T]:
        """Let the writer do something with the collector, before the frames that wait; its result,
        or what it raised. CheckFailed once the writer ends."""
        task = _Task(work, Future())
        with self._turn:
            if not self.is_alive:
                raise CheckFailed(_ENDING)
            self._tasks.append(task)
            self._turn.notify()
        return task.future

    def call(self, work: Callable[[Collector], T]) -> T:
        """As `ask`, and wait for it."""
        return self.ask(work).result()

    def stop(self, patience: float = 60.0) -> bool:
        """Take nothing more, write what waits, close the inbox; whether that was done in time."""
        with self._turn:
            self._ending = True
            self._turn.notify()
        if self._thread.ident is not None:
            self._thread.join(patience)
        return not self._thread.is_alive()

    # In the writer's thread

    def _run(self) -> None:
        try:
            collector = self._make()
        except BaseException as error:
            self._opened.set_exception(error)
            return
        self._opened.set_result(None)
        try:
            with collector:
                while True:
                    task, group = self._next()
                    if task is not None:
                        task.do(collector)
                    elif group:
                        self._write(collector, group)
                    else:
                        return
        except Exception:
            log.exception("the writer ended")
        finally:
            self._give_up()

    def _next(self) -> tuple[_Task | None, list[_Frame]]:
        """A task, or the frames of the next transaction; neither once all is done."""
        group: list[_Frame] = []
        with self._turn:
            while not (self._tasks or self._frames or self._ending):
                self._turn.wait()
            if self._tasks:
                return self._tasks.popleft(), group
            readings = 0
            while (
                self._frames
                and len(group) < self._room.group_frames
                and readings < self._room.group_readings
            ):
                entry = self._frames.popleft()
                readings += entry.readings
                group.append(entry)
                self._held[entry.source] -= entry.readings
                self._held_frames[entry.source] -= 1
                if not self._held_frames[entry.source]:
                    del self._held[entry.source], self._held_frames[entry.source]
            self._readings -= readings
        return None, group

    def _write(self, collector: Collector, group: Sequence[_Frame]) -> None:
        begun = time.monotonic()
        try:
            reports = collector.receive_frames([entry.data for entry in group])
        except InboxFailed as error:
            # The disk does not take it: nothing of the group is in, and nothing is promised.
            if self.fault is None:
                log.error("not written: %s", error)
            self.fault = str(error)
            self._refuse(group, Busy(_LONGEST_WAIT_S // 2, "disk"))
            return
        except Exception as error:
            # One of them meets a defect, or a batch file that cannot be read: it must not take the
            # others along.
            if len(group) > 1:
                for entry in group:
                    self._write(collector, [entry])
            elif isinstance(error, GridCommonsError):
                log.error("a frame cannot be judged: %s", error)
                self._refuse(group, Busy(_LONGEST_WAIT_S // 2, "lake"))
            else:
                log.exception("a frame of %d bytes met a defect", len(group[0].data))
                self._refuse(group, Busy(_LONGEST_WAIT_S, "defect"))
            return
        self.fault = None
        taken = sum(entry.readings for entry in group)
        speed = taken / max(time.monotonic() - begun, 1e-4)
        self._per_second += 0.2 * (speed - self._per_second)
        for entry, report in zip(group, reports, strict=True):
            entry.future.set_result(report)

    def _wait(self) -> int:
        """Seconds until about half of what waits is written."""
        seconds = self._readings / 2 / max(self._per_second, 1.0)
        return round(min(max(seconds, _SHORTEST_WAIT_S), _LONGEST_WAIT_S))

    @staticmethod
    def _refuse(group: Sequence[_Frame], why: Busy) -> None:
        for entry in group:
            entry.future.set_exception(why)

    def _give_up(self) -> None:
        """Nobody waits for a thread that is gone."""
        with self._turn:
            self._ending = True
            left, tasks = list(self._frames), list(self._tasks)
            self._frames.clear()
            self._tasks.clear()
            self._readings = 0
        self._refuse(left, Busy(_LONGEST_WAIT_S, "ending"))
        for task in tasks:
            task.refuse()
