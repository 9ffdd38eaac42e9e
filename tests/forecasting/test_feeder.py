# SPDX-License-Identifier: Apache-2.0
"""The transformer's meter beside the homes' meters: what honest meters show, and a bypassed one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import pytest

from dao.errors import BadUse
from dao.slots import SLOTS_PER_DAY, first_slot_of_day
from forecasting.feeder import balance, read_buses, read_feeder
from meters.faults.balance import CLASSES, Balance
from tests.forecasting.conftest import DemoZone

DAYS = 7
SLOTS = DAYS * SLOTS_PER_DAY
FIRST = first_slot_of_day(date(2016, 4, 18))


def metered(
    zone: DemoZone,
    seed: int,
    bypassed: Sequence[int] = (),
    part: float = 0.0,
    high_side: bool = False,
    beside_wh: int | np.ndarray = 0,
) -> Balance:
    """A week with meters that are each off by what their class allows, always the same way.

    beside_wh: what somebody without a meter draws per slot.
    """
    random = np.random.default_rng(seed)
    at = slice(FIRST - zone.first_slot, FIRST - zone.first_slot + SLOTS)
    imported, exported = zone.import_wh[at].astype(np.int64), zone.export_wh[at].astype(np.int64)
    losses = zone.grid.losses((imported - exported) * 4.0, zone.buses)
    lost = (losses.lines + (losses.transformer if high_side else 0.0)) / 4
    feeder_class, home_class = CLASSES["feeder"] / 1000, CLASSES["home"] / 1000
    fed = ((imported - exported).sum(axis=1) + lost + beside_wh) * (
        1 + random.uniform(-feeder_class, feeder_class)
    )
    gains = 1 + random.uniform(-home_class, home_class, imported.shape[1])
    drawn, given = imported * gains, exported * gains
    drawn[:, np.array(bypassed, dtype=np.int64) - 1] *= 1 - part
    meters = np.arange(1, imported.shape[1] + 1)
    return balance(
        zone.grid,
        dict(zip(meters.tolist(), zone.buses, strict=True)),
        dict(zip(range(FIRST, FIRST + SLOTS), np.rint(fed).astype(int).tolist(), strict=True)),
        meters,
        np.arange(FIRST, FIRST + SLOTS),
        *(np.floor(c + random.random(c.shape)).astype(np.int64) for c in (drawn, given)),
        high_side=high_side,
    )


@pytest.mark.parametrize("seed", range(8))
def test_honest_meters_stay_inside_their_classes_and_nobody_is_named(
    demo_zone: DemoZone, seed: int
) -> None:
    made = metered(demo_zone, seed)
    assert made.slots_over == []
    assert made.days_over == []
    assert made.suspects == ()


def test_a_tenth_to_a_half_that_a_meter_does_not_count_is_mostly_found(demo_zone: DemoZone) -> None:
    homes = np.random.default_rng(3).choice(np.arange(1, 119), 12, replace=False).tolist()
    for part, least in ((0.1, 7), (0.5, 9)):
        named = 0
        for home in homes:
            made = metered(demo_zone, home, [home], part)
            found = {one.meter: one for one in made.suspects}
            if home in found:
                named += 1
                assert abs(found[home].part_permille - 1000 * part) < 60
            # What one home leaves out is less than what a hundred meters may be off.
            assert made.days_over == []
        assert named >= least


def test_energy_that_no_meter_saw_at_all_is_beyond_the_classes(demo_zone: DemoZone) -> None:
    made = metered(demo_zone, 1, beside_wh=4_000)
    assert len(made.days_over) == DAYS
    assert all(day.residual_wh > day.tolerance_wh for day in made.days)


NIGHT = np.arange(SLOTS) % SLOTS_PER_DAY < 16


@pytest.mark.parametrize(
    "beside_wh",
    [
        np.full(SLOTS, 4_000),
        np.full(SLOTS, 100),
        np.where(NIGHT, 2_750, 0),
        np.where(NIGHT & (np.arange(SLOTS) // SLOTS_PER_DAY % 3 == 0), 2_750, 0),
    ],
    ids=["a farm", "a lamp", "a car", "a car on some nights"],
)
def test_whoever_taps_the_line_looks_like_no_home_and_none_is_named(
    demo_zone: DemoZone, beside_wh: np.ndarray
) -> None:
    made = metered(demo_zone, 1, beside_wh=beside_wh)
    assert sum(made.residual_wh) > 0
    assert made.suspects == ()


def test_of_two_homes_that_are_bypassed_the_one_that_explains_more_is_named(
    demo_zone: DemoZone,
) -> None:
    made = metered(demo_zone, 1, bypassed=(1, 5), part=0.3)
    assert [one.meter for one in made.suspects] == [5]


def test_before_the_transformer_its_own_losses_count_too(demo_zone: DemoZone) -> None:
    high, low = metered(demo_zone, 1, high_side=True), metered(demo_zone, 1)
    # No-load losses of a 630 or 400 kVA transformer are about a kilowatt.
    assert 200 < sum(high.losses_wh) / SLOTS - sum(low.losses_wh) / SLOTS < 600
    assert high.days_over == []


def test_a_meter_without_a_bus_and_a_transformer_without_a_meter_are_told(
    demo_zone: DemoZone,
) -> None:
    slots, wh = np.arange(FIRST, FIRST + SLOTS), np.ones((SLOTS, 1), dtype=np.int64)
    one = np.array([5])
    with pytest.raises(BadUse, match="meter 5 has no bus"):
        balance(demo_zone.grid, {}, {}, one, slots, wh, wh)
    with pytest.raises(BadUse, match="known in 0 quarter-hours"):
        balance(demo_zone.grid, {5: int(demo_zone.grid.buses[0])}, {}, one, slots, wh, wh)
    feeder = dict.fromkeys(slots.tolist(), 5)
    with pytest.raises(BadUse, match="no low-voltage bus"):
        balance(demo_zone.grid, {5: -7}, feeder, one, slots, wh, wh)


def test_a_feeder_file_is_read_by_the_slot() -> None:
    text = (
        "timestamp,import_wh,export_wh\n1970-01-01T00:15:00Z,7,2\n1970-01-01T01:30:00+01:00,0,9\n"
    )
    assert read_feeder(text.encode(), "f") == {1: 5, 2: -9}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("1970-01-01T00:15:00,7,2", "no offset"),
        ("1970-01-01T00:16:00Z,7,2", "does not begin a quarter-hour"),
        ("yesterday,7,2", "no time like"),
        ("1970-01-01T00:15:00Z,7.5,2", "not whole Wh"),
        ("1970-01-01T00:15:00Z,-7,2", "not whole Wh"),
        ("1970-01-01T00:15:00Z,٧,2", "not whole Wh"),
        ("1970-01-01T00:15:00Z,7", "three columns"),
        ("1970-01-01T00:15:00Z,7,2\n1970-01-01T00:15:00Z,7,2", "comes twice"),
        ("1969-01-01T00:15:00Z,7,2", "does not begin a quarter-hour"),
    ],
)
def test_a_feeder_file_that_cannot_be_read_says_where(line: str, says: str) -> None:
    with pytest.raises(BadUse, match=says) as raised:
        read_feeder(f"timestamp,import_wh,export_wh\n{line}\n".encode(), "f.csv")
    assert "line " in str(raised.value)


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"a,b\n1,2\n", b"meter,bus\n1,2,3\n"])
def test_files_of_another_kind_are_bad_use(data: bytes) -> None:
    with pytest.raises(BadUse):
        read_feeder(data, "f")
    with pytest.raises(BadUse):
        read_buses(data, "b")


def test_a_meter_has_one_bus() -> None:
    assert read_buses(b"meter,bus\n3,9\n\n4,9\n", "b") == {3: 9, 4: 9}
    with pytest.raises(BadUse, match="twice"):
        read_buses(b"meter,bus\n3,9\n3,8\n", "b")
