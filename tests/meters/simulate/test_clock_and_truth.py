# SPDX-License-Identifier: Apache-2.0
"""Time that is moved by hand or runs fast, and energy that is linear inside a slot."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from dao.errors import BadUse
from meters.simulate.clock import ManualClock, ScaledClock, ticks
from meters.simulate.truth import Truth
from tests.meters.simulate.conftest import BEGIN, FIRST, edges, run


def test_a_clock_moved_by_hand_wakes_whoever_waited_for_a_moment_that_came() -> None:
    async def body() -> None:
        clock = ManualClock(100)
        early = asyncio.create_task(clock.sleep_until(105))
        late = asyncio.create_task(clock.sleep_until(200))
        await asyncio.sleep(0)
        clock.advance(5)
        await early
        assert not late.done()
        clock.set(300)
        await late

    run(body())


def test_a_clock_does_not_go_back() -> None:
    with pytest.raises(BadUse, match="does not go back"):
        ManualClock(100).set(99)


def test_ticks_lie_on_their_grid_and_only_the_last_of_missed_ones_comes() -> None:
    async def body() -> list[float]:
        clock, seen = ManualClock(1003), []
        async for at in ticks(clock, 10):
            seen.append(at)
            if len(seen) == 3:
                return seen
            asyncio.get_running_loop().call_soon(clock.advance, 25)
        return seen

    assert run(body()) == [1000, 1020, 1050]


@pytest.mark.parametrize("speed", [0.5, 1, 7, 60, 777, 900, 5_000, 17_999, 100_000])
def test_a_fast_clock_meets_every_slot_edge_or_skips_whole_slots(speed: float) -> None:
    step = ScaledClock(0, speed).stride(1)
    assert 900 % step == 0 or step % 900 == 0
    assert step >= 0.05 * speed or step == 1


@pytest.mark.parametrize("speed", [0, -1, float("nan"), float("inf")])
def test_a_speed_that_is_none_is_refused(speed: float) -> None:
    with pytest.raises(BadUse, match="speed"):
        ScaledClock(0, speed)


def test_registers_at_slot_edges_are_the_running_sums(truth: Truth) -> None:
    for i, expected in enumerate(edges(truth)):
        assert truth.registers(BEGIN + i * 900) == expected
        assert truth.registers(BEGIN + i * 900, 100) == (expected[0] * 100, expected[1] * 100)


def test_registers_grow_in_a_line_inside_a_slot() -> None:
    truth = Truth(FIRST, np.array([900]), np.array([0]))
    assert [truth.registers(BEGIN + s)[0] for s in (0, 1, 450, 899.999, 900)] == [
        0,
        1,
        450,
        899,
        900,
    ]


def test_before_and_after_the_profile_nothing_flows(truth: Truth) -> None:
    end = BEGIN + truth.slots * 900
    assert truth.registers(BEGIN - 10**6) == edges(truth)[0]
    assert truth.registers(end + 10**6) == edges(truth)[-1]
    assert truth.power(BEGIN - 1) == truth.power(end) == (0, 0)


def test_two_parts_of_a_truth_add_up_to_it(truth: Truth) -> None:
    mask = np.arange(truth.slots) % 3 == 0
    one, other = truth.where(mask, truth.import_start_wh, truth.export_start_wh), truth.where(~mask)
    for at in range(BEGIN, BEGIN + truth.slots * 900, 333):
        a, b, whole = one.registers(at), other.registers(at), truth.registers(at)
        assert (a[0] + b[0], a[1] + b[1]) == whole


def test_energy_below_zero_is_refused() -> None:
    with pytest.raises(BadUse, match="cannot be negative"):
        Truth(FIRST, np.array([-1]), np.array([0]))
