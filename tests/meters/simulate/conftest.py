# SPDX-License-Identifier: Apache-2.0
"""What flows through a metering point for a day, and how tests run devices."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import numpy as np
import pytest

from meters.simulate.clock import ManualClock
from meters.simulate.truth import Truth

T = TypeVar("T")

# 2016-10-29T22:00Z: midnight in Amsterdam, before the night in which an hour comes twice.
FIRST = 1_641_976
SLOTS = 100
BEGIN = FIRST * 900


def run(body: Coroutine[Any, Any, T]) -> T:
    """A test's coroutine, with an end to it."""
    return asyncio.run(asyncio.wait_for(body, 60))


async def until(condition: Any, what: str) -> None:
    """Wait for what a device does in its own task; the deadline only ends a broken test."""
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"never happened: {what}")


@pytest.fixture
def truth() -> Truth:
    """A home that imports and feeds in, in no slot both."""
    random = np.random.default_rng(11)
    net = random.integers(-700, 1100, SLOTS)
    return Truth(FIRST, np.maximum(net, 0), np.maximum(-net, 0), 4_321_987, 1_234_567)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(BEGIN)


def edges(truth: Truth) -> list[tuple[int, int]]:
    """Import and export registers at every edge of a slot, added up plainly."""
    imported, exported = truth.import_start_wh, truth.export_start_wh
    found = [(imported, exported)]
    for i in range(truth.slots):
        imported += int(truth.import_wh[i])
        exported += int(truth.export_wh[i])
        found.append((imported, exported))
    return found
