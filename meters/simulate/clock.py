# SPDX-License-Identifier: Apache-2.0
"""The time that simulated devices live in: moved by hand, or a multiple of the real one.

A clock is called for the unix time in seconds, so it serves wherever a `clock` is asked for. No
device asks the machine for the time of day.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import count
from typing import Protocol

from dao.errors import BadUse
from dao.slots import SLOT_SECONDS

# A device wakes at most so often in real time, however fast its own time runs.
MIN_REAL_SECONDS = 0.05


class Clock(Protocol):
    """Unix seconds, and waiting until one of them."""

    def __call__(self) -> float: ...

    async def sleep_until(self, at: float) -> None:
        """Return once the clock shows `at` or later."""
        ...

    def stride(self, period: int) -> int:
        """Seconds between wake-ups of a device that would like to wake every `period` seconds."""
        ...


class ManualClock:
    """Stands still until it is moved; may be moved from another thread than the devices' own."""

    def __init__(self, at: float) -> None:
        self._now = float(at)
        self._lock = threading.Lock()
        self._order = count()
        self._waiting: list[tuple[float, int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> float:
        """Move on and wake who waited; returns the new time. Time never goes back."""
        return self.set(self._now + seconds)

    def set(self, at: float) -> float:
        with self._lock:
            if at < self._now:
                raise BadUse(f"a clock does not go back: {at} lies before {self._now}")
            self._now = float(at)
            due = []
            while self._waiting and self._waiting[0][0] <= at:
                due.append(heapq.heappop(self._waiting))
        for _, _, loop, future in due:
            # A loop that has ended took its devices with it.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_wake, future)
        return self._now

    async def sleep_until(self, at: float) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            waits = at > self._now
            if waits:
                heapq.heappush(self._waiting, (at, next(self._order), loop, future))
        if not waits:
            await asyncio.sleep(0)
            return
        try:
            await future
        except asyncio.CancelledError:
            with self._lock:
                self._waiting = [one for one in self._waiting if one[3] is not future]
                heapq.heapify(self._waiting)
            raise

    def stride(self, period: int) -> int:
        return period


class ScaledClock:
    """Begins at `start` and runs `speed` times as fast as the machine's steady clock."""

    def __init__(self, start: float, speed: float = 1.0) -> None:
        if not 0 < speed <= 100_000:
            raise BadUse(f"a clock's speed lies above 0 and up to 100,000, not {speed:g}")
        self.start = float(start)
        self.speed = speed
        self._began = time.monotonic()

    def __call__(self) -> float:
        return self.start + (time.monotonic() - self._began) * self.speed

    async def sleep_until(self, at: float) -> None:
        while (wait := (at - self()) / self.speed) > 0:
            await asyncio.sleep(wait)
        await asyncio.sleep(0)

    def stride(self, period: int) -> int:
        """The next coarser step that still meets every quarter-hour."""
        wanted = max(float(period), MIN_REAL_SECONDS * self.speed)
        if wanted > SLOT_SECONDS:
            return SLOT_SECONDS * -(-int(wanted) // SLOT_SECONDS)
        return next(n for n in range(1, SLOT_SECONDS + 1) if SLOT_SECONDS % n == 0 and n >= wanted)


async def ticks(clock: Clock, period: int) -> AsyncIterator[float]:
    """Times on the grid of `period` seconds: now, then each as it comes.

    Of times that pass unseen, because the clock jumped or the machine was busy, only the last is
    given: a meter does not make up for telegrams that it has not sent.
    """
    step = clock.stride(period)
    at = clock() // step * step
    while True:
        yield at
        await clock.sleep_until(at + step)
        at = clock() // step * step


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
