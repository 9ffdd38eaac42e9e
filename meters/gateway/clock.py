# SPDX-License-Identifier: Apache-2.0
"""The time that a gateway lives by. Only `SystemClock` asks the machine; all else is handed one.

The simulated devices' clocks serve as well.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Protocol

_LONGEST_NAP = 30.0
"""A clock that is set while somebody sleeps is noticed after so many seconds."""


class Clock(Protocol):
    """Unix seconds, and waiting until one of them."""

    def __call__(self) -> float: ...

    async def sleep_until(self, at: float) -> None:
        """Return once the clock shows `at` or later."""
        ...


class SystemClock:
    """The machine's own time."""

    def __call__(self) -> float:
        return time.time()

    async def sleep_until(self, at: float) -> None:
        while (wait := at - time.time()) > 0:
            await asyncio.sleep(min(wait, _LONGEST_NAP))


async def every(clock: Clock, period: float) -> AsyncIterator[float]:
    """Times on the grid of `period` seconds as they come; of those that pass unseen only the last.

    Slots begin on the grid where the period divides 900 s, so that registers are read right there.
    """
    while True:
        now = clock()
        yield now
        await clock.sleep_until((now // period + 1) * period)
