# SPDX-License-Identifier: Apache-2.0
"""Quarter-hours from registers and from power, and what is done where they cannot be known."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dao.errors import BadUse
from meters.gateway.intervals import Assembler, Feed, Interval, PowerSample, Rules, Sample
from meters.readings import Quality

SLOT = 1_900_000
START = SLOT * 900
M, E = Quality.MEASURED, Quality.ESTIMATED
IMPORT_ONLY = Feed("m", Rules(), ("import",))


def run(samples: Iterable[Sample | PowerSample], *feeds: Feed, **more: object) -> list[Interval]:
    """All slots of one channel's samples."""
    assembler = Assembler(feeds or (IMPORT_ONLY,), **more)  # type: ignore[arg-type]
    name = next(iter(assembler.feeds))
    return [interval for sample in samples for interval in assembler.add(name, sample)]


def rows(intervals: Iterable[Interval]) -> list[tuple[int, int | None, Quality]]:
    return [(one.slot - SLOT, one.import_wh, one.quality) for one in intervals]


def register(*points: tuple[float, int]) -> list[Sample]:
    """Samples of the import register at seconds after the first slot's begin."""
    return [Sample(START + at, wh) for at, wh in points]


def steady(begin: int, end: int, wh: int = 5_000, step: int = 10) -> list[Sample]:
    """A register that counts one Wh a step."""
    return register(*((at, wh + at // step) for at in range(begin, end + 1, step)))


def test_a_slot_is_the_difference_of_the_register_at_its_edges() -> None:
    assert rows(run(register((0, 100), (900, 350), (1_800, 351)))) == [(0, 250, M), (1, 1, M)]


def test_the_slot_in_which_the_gateway_began_is_not_reported() -> None:
    assert rows(run(steady(400, 1_800))) == [(1, 90, M)]


def test_the_edge_lies_between_two_near_samples() -> None:
    found = run(register((0, 1_000), (895, 1_895), (905, 1_905), (1_800, 2_800)))
    assert rows(found) == [(0, 900, M), (1, 900, M)]


def test_an_edge_between_samples_far_apart_makes_both_its_slots_estimated() -> None:
    found = run(register((0, 0), (600, 600), (1_200, 1_200), (1_800, 1_800), (2_700, 2_700)))
    assert rows(found) == [(0, 900, E), (1, 900, E), (2, 900, M)]


def test_an_edge_across_which_the_register_stood_still_is_known_however_long_the_gap() -> None:
    assert rows(run(register((0, 5), (300, 9), (1_700, 9), (1_800, 9)))) == [(0, 4, M), (1, 0, M)]


def test_a_gap_of_hours_is_spread_over_its_slots_with_the_exact_sum() -> None:
    found = run(register((0, 0), (900, 7), (900 * 8, 7 + 1_000), (900 * 9, 1_010)))
    assert sum(one.import_wh or 0 for one in found) == 1_010
    assert [one.quality for one in found] == [M] + [E] * 7 + [M]
    assert all(141 <= (one.import_wh or 0) <= 144 for one in found[1:8])


def test_a_gap_beyond_the_bridge_stays_unknown() -> None:
    feed = Feed("m", Rules(bridge_s=3_600), ("import",))
    found = run(register((0, 0), (900, 10), (9_000, 90), (9_900, 100)), feed)
    assert rows(found) == [(0, 10, M), (10, 10, M)]


def test_a_rollover_of_known_width_loses_nothing() -> None:
    feed = Feed("m", Rules(rollover_wh=1_000_000), ("import",))
    found = run(register((0, 999_900), (450, 999_990), (460, 3), (900, 80), (1_800, 81)), feed)
    assert rows(found) == [(0, 180, M), (1, 1, M)]


def test_without_a_known_width_no_fall_passes_for_a_rollover() -> None:
    found = run(register((0, 999_900), (450, 999_990), (800, 3), (900, 80), (1_800, 81)))
    assert (0, 180, M) not in rows(found)
    assert 0 not in [slot for slot, _, _ in rows(found)]


def test_a_reset_to_zero_between_near_samples_is_bridged_and_marked() -> None:
    before, after = steady(0, 450), register((460, 0), (470, 1), (900, 44), (1_800, 50))
    found = run([*before, *after])
    assert rows(found) == [(0, 45 + 44, E), (1, 6, M)]


def test_the_slot_of_a_reset_that_nobody_saw_is_unknown() -> None:
    found = run(register((0, 5_000), (100, 5_100), (800, 3), (900, 80), (1_800, 90)))
    assert rows(found) == [(1, 10, M)]


def test_one_odd_sample_is_a_glitch_and_changes_nothing() -> None:
    clean = steady(0, 1_800)
    for odd in (0, 10**9, 4_990):
        dirty = [*clean[:50], Sample(clean[50].at - 5, odd), *clean[50:]]
        assert rows(run(dirty)) == rows(run(clean))


def test_another_device_with_a_higher_count_gives_no_energy() -> None:
    found = run([*steady(0, 500), *steady(510, 1_800, wh=9_000_000)])
    assert rows(found) == [(1, 90, M)]


def test_a_register_that_counts_backwards_gives_nothing() -> None:
    falling = register(*((at, 50_000_000 - at // 10) for at in range(0, 3_600, 10)))
    assembler = Assembler([IMPORT_ONLY])
    assert [one for sample in falling for one in assembler.add("m", sample)] == []


def test_two_samples_of_one_moment_and_older_ones_count_once() -> None:
    points = register((0, 0), (900, 90), (900, 95), (300, 20), (1_800, 180))
    assert rows(run(points)) == [(0, 90, M), (1, 90, M)]


def test_registers_that_stand_still_for_long_count_as_estimated() -> None:
    feed = Feed("m", Rules(frozen_s=1_800), ("import",))
    found = run(register(*((at, 7) for at in range(0, 4_501, 100))), feed)
    assert [quality for _, _, quality in rows(found)] == [M, M, E, E, E]


def test_crossed_wires_swap_the_directions() -> None:
    feed = Feed("m", Rules(), crossed=True)
    found = run([Sample(START, 0, 0), Sample(START + 900, 10, 20)], feed)
    assert found == [Interval(SLOT, 20, 10, M)]


def test_two_devices_add_up_and_a_slot_waits_for_both() -> None:
    assembler = Assembler([Feed("a", Rules(), ("import",)), Feed("b", Rules(), ("import",))])
    given = assembler.add("a", Sample(START, 0)) + assembler.add("b", Sample(START, 100))
    given += assembler.add("a", Sample(START + 900, 10))
    assert given == []
    assert rows(assembler.add("b", Sample(START + 900, 130))) == [(0, 40, M)]


def test_a_direction_that_stays_away_is_null_and_comes_later_as_a_correction() -> None:
    feeds = [Feed("in", Rules(), ("import",)), Feed("out", Rules(), ("export",))]
    assembler = Assembler(feeds, patience_s=600)
    for name, sample in (("in", Sample(START, 0)), ("out", Sample(START, None, 0))):
        assert assembler.add(name, sample) == []
    assert assembler.add("in", Sample(START + 900, 10)) == []
    assert assembler.complete(START + 1_500) == [Interval(SLOT, 10, None, M)]
    assert assembler.complete(START + 1_600) == []
    late = assembler.add("out", Sample(START + 1_800, None, 400))
    assert late == [Interval(SLOT, 10, 200, E)]


def test_a_direction_that_the_point_does_not_have_is_zero_and_an_unread_one_null() -> None:
    samples = register((0, 0), (900, 10))
    assert run(samples, absent=("export",)) == [Interval(SLOT, 10, 0, M)]
    assert run(samples) == [Interval(SLOT, 10, None, M)]


def test_power_is_integrated_and_split_where_it_changes_sign() -> None:
    feed = Feed("m", Rules(), is_power=True)
    watts = [(0, 1_000.0), (60, 1_000.0), (120, -1_000.0)]
    points = [PowerSample(START + at, w) for at, w in watts]
    points += [PowerSample(START + at, -1_000.0) for at in range(180, 901, 60)]
    found = run(points, feed)
    assert found == [Interval(SLOT, int(1_000 * 75 / 3_600), int(1_000 * 795 / 3_600), M)]


def test_a_gap_in_power_marks_its_slot_and_a_long_one_loses_it() -> None:
    feed = Feed("m", Rules(), is_power=True)
    at = [*range(0, 1_801, 60), *range(2_000, 2_701, 50), *range(3_200, 4_501, 50)]
    found = run([PowerSample(START + t, 400.0) for t in at], feed)
    assert rows(found) == [(0, 100, M), (1, 100, M), (2, 100, E), (4, 100, M)]


def test_a_spike_of_power_beyond_the_connection_is_left_out() -> None:
    feed = Feed("m", Rules(), is_power=True)
    points = [PowerSample(START + t, 1e9 if t == 450 else 400.0) for t in range(0, 901, 30)]
    assert rows(run(points, feed)) == [(0, 100, M)]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_sums_never_drift_from_the_register_whatever_the_samples_and_restarts(
    seed: int, restarts: bool
) -> None:
    random = np.random.default_rng(seed)
    steps = random.choice([1, 7, 10, 60, 300, 901, 5_000], 200)
    at = START + np.cumsum(steps)
    wh = np.cumsum([random.integers(0, 1 + int(step * 10)) for step in steps])
    feeds = [Feed("m", Rules(frozen_s=0), ("import",))]
    assembler, found = Assembler(feeds), []
    for moment, count in zip(at.tolist(), wh.tolist(), strict=True):
        found += assembler.add("m", Sample(float(moment), int(count)))
        if restarts and random.random() < 0.2:
            assembler = Assembler(feeds, kept=json.loads(json.dumps(assembler.as_dict())))
    slots = [one.slot for one in found]
    assert slots == list(range(slots[0], slots[0] + len(slots)))
    # Telescoped: the sum is the difference of the register at the first and last edge.
    first, last = slots[0] * 900, (slots[-1] + 1) * 900
    register_at = np.interp([first, last], at, wh)
    total = sum(one.import_wh or 0 for one in found)
    assert abs(total - (register_at[1] - register_at[0])) <= 1


@pytest.mark.parametrize(
    "change",
    [{"near_s": 0}, {"bridge_s": 1}, {"capacity_w": 0}, {"rollover_wh": 0}, {"power_gap_s": 1}],
)
def test_rules_that_cannot_be_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(BadUse):
        Rules(**change)
