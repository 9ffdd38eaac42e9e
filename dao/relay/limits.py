# SPDX-License-Identifier: Apache-2.0
"""Rate limits: one token bucket for each account, client or other key, in memory.

A restart fills every bucket; what must not be lost lies in the store.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

# Buckets kept; the ones longest unused go first, and have mostly filled up again.
_MOST_KEYS = 20_000


@dataclass(frozen=True)
class Rate:
    """`burst` at once, and `per_minute` in the long run."""

    burst: int
    per_minute: int


class Buckets:
    """A bucket of tokens per key. Safe for several threads. clock: seconds that only rise."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._turn = threading.Lock()
        self._levels: dict[Hashable, tuple[float, float]] = {}

    def take(self, key: Hashable, tokens: int = 1) -> int:
        """Take tokens from the key's bucket: 0, or seconds to wait, with nothing taken.

        A bucket may be overdrawn by a last large request, and then takes longer to fill.
        """
        with self._turn:
            now = self._clock()
            level, since = self._levels.pop(key, (float(self._rate.burst), now))
            level = min(self._rate.burst, level + (now - since) * self._rate.per_minute / 60)
            wait = 0
            if level < 1:
                wait = math.ceil((1 - level) * 60 / self._rate.per_minute)
            else:
                level -= tokens
            self._levels[key] = (level, now)
            if len(self._levels) > _MOST_KEYS:
                del self._levels[next(iter(self._levels))]
            return wait
