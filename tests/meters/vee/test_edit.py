# SPDX-License-Identifier: Apache-2.0
"""What the editor does to a batch of a few homes, rule by rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dao import eip712
from dao.errors import BadUse
from dao.slots import SLOTS_PER_DAY
from meters.devices import device_key
from meters.readings import NULL_WH, Quality, Reading, Readings
from meters.signing import Head, digests, reading_separator, recover_all, sign_chain
from meters.vee.edit import Edited, Editor
from meters.vee.history import NoHistory, ReadingsHistory
from meters.vee.records import EditRecord, replay
from tests.meters.vee.zone import copy_of

DAY = 16_953 * SLOTS_PER_DAY
SLOTS = 24
HOMES = 3
CAPACITY_W = 40_000
EDITOR = Editor(capacity_w=CAPACITY_W)
SEPARATOR = reading_separator(31337, "0x" + "42" * 20)


def values(meter: int, slot: int) -> tuple[int, int]:
    """Import and export of a home with a daily shape; meter 3 has a roof."""
    phase = slot % SLOTS_PER_DAY
    roof = 900 if meter == 3 and 36 <= phase < 60 else 0
    imported = 0 if roof else 50 + 3 * phase + 7 * meter + slot // SLOTS_PER_DAY % 5
    return imported, roof


def rows(first: int, slots: int, meters: range = range(1, HOMES + 1)) -> Readings:
    return Readings.of(
        Reading(meter, slot, *values(meter, slot))
        for meter in meters
        for slot in range(first, first + slots)
    )


HISTORY = ReadingsHistory(rows(DAY - 28 * SLOTS_PER_DAY, 28 * SLOTS_PER_DAY))


def batch() -> Readings:
    return copy_of(rows(DAY, SLOTS))


def drop(readings: Readings, meter: int, first: int, end: int) -> None:
    at = slice((meter - 1) * SLOTS + first, (meter - 1) * SLOTS + end)
    readings.import_wh[at] = readings.export_wh[at] = NULL_WH
    readings.quality[at] = Quality.MISSING


def row(edited: Edited, meter: int, at: int) -> Reading:
    return next(iter(edited.readings.take(np.array([(meter - 1) * SLOTS + at]))))


def rules_of(edited: Edited) -> list[str]:
    return sorted({record.rule for record in edited.records})


def test_a_sound_batch_comes_back_as_it_is() -> None:
    readings = batch()
    edited = EDITOR(readings, HISTORY)
    assert edited.readings is readings
    assert edited.records == ()


def test_a_short_gap_is_a_line_between_its_measured_neighbours() -> None:
    readings = batch()
    drop(readings, 1, 5, 8)
    edited = EDITOR(readings, HISTORY)
    assert rules_of(edited) == ["gap_linear"]
    left, right = values(1, DAY + 4)[0], values(1, DAY + 8)[0]
    assert [row(edited, 1, at).import_wh for at in range(5, 8)] == [
        round(left + (right - left) * step / 4) for step in (1, 2, 3)
    ]
    assert row(edited, 1, 5).quality == Quality.ESTIMATED


def test_the_neighbour_may_lie_in_the_batch_before() -> None:
    readings = batch()
    drop(readings, 1, 0, 2)
    edited = EDITOR(readings, HISTORY)
    assert rules_of(edited) == ["gap_linear"]
    assert edited.records[0].inputs["left"][0] == DAY - 1


def test_a_long_gap_and_one_without_an_end_are_filled_from_the_homes_like_days() -> None:
    readings = batch()
    drop(readings, 1, 3, 12)
    drop(readings, 2, 20, SLOTS)
    edited = EDITOR(readings, HISTORY)
    assert rules_of(edited) == ["gap_like_days"]
    assert len(edited.records) == 9 + 4
    weeks = [values(1, DAY + 3 - 7 * week * SLOTS_PER_DAY)[0] for week in (1, 2, 3, 4)]
    assert row(edited, 1, 3).import_wh == (2 * sum(weeks) + 4) // 8
    assert row(edited, 1, 3).quality == Quality.SUBSTITUTED


def test_without_enough_weeks_the_last_days_serve_and_below_three_nothing_does() -> None:
    readings = batch()
    drop(readings, 1, 3, 12)
    five = ReadingsHistory(rows(DAY - 5 * SLOTS_PER_DAY, 5 * SLOTS_PER_DAY))
    assert [len(record.inputs["days"]) for record in EDITOR(readings, five).records] == [5] * 9
    two = ReadingsHistory(rows(DAY - 2 * SLOTS_PER_DAY, 2 * SLOTS_PER_DAY))
    assert EDITOR(readings, two).records == ()


def test_where_nothing_is_known_missing_stays_missing_and_is_never_zero() -> None:
    readings = batch()
    drop(readings, 1, 0, SLOTS)
    edited = EDITOR(readings, NoHistory())
    assert edited.records == ()
    assert row(edited, 1, 3) == Reading(1, DAY + 3, None, None, Quality.MISSING)


def test_what_was_filled_before_never_fills_again() -> None:
    filled = rows(DAY - 28 * SLOTS_PER_DAY, 28 * SLOTS_PER_DAY)
    filled = replace(filled, quality=np.full(len(filled), Quality.SUBSTITUTED, dtype=np.uint8))
    readings = batch()
    drop(readings, 1, 0, SLOTS)
    assert EDITOR(readings, ReadingsHistory(filled)).records == ()


def test_a_channel_that_no_day_knows_stays_unknown() -> None:
    past = rows(DAY - 28 * SLOTS_PER_DAY, 28 * SLOTS_PER_DAY)
    past.export_wh[:] = NULL_WH
    readings = batch()
    drop(readings, 1, 0, SLOTS)
    edited = EDITOR(readings, ReadingsHistory(past))
    assert row(edited, 1, 4).import_wh is not None
    assert row(edited, 1, 4).export_wh is None


def test_an_impossible_value_is_taken_out_and_filled_in_two_steps_on_record() -> None:
    readings = batch()
    readings.import_wh[10] = CAPACITY_W // 4 + 1
    edited = EDITOR(readings, HISTORY)
    assert [record.rule for record in edited.records] == ["above_capacity", "gap_linear"]
    first, second = edited.records
    assert first.before == (CAPACITY_W // 4 + 1, 0, Quality.MEASURED)
    assert first.result == second.before == (None, None, Quality.MISSING)
    assert row(edited, 1, 10).import_wh == second.result[0]


def test_an_impossible_value_with_nothing_to_fill_it_from_is_missing() -> None:
    readings = batch()
    readings.import_wh[SLOTS - 1] = CAPACITY_W // 4 + 1
    edited = EDITOR(readings, NoHistory())
    assert rules_of(edited) == ["above_capacity"]
    assert row(edited, 1, SLOTS - 1).quality == Quality.MISSING


def test_each_home_has_its_own_capacity() -> None:
    readings = batch()
    readings.import_wh[[5, SLOTS + 5]] = 3_000
    edited = Editor(capacity_w={1: 11_000, 2: 13_000})(readings, HISTORY)
    assert {record.meter for record in edited.records} == {1}


def test_a_value_that_holds_the_energy_of_the_gap_before_it_is_shared_out_exactly() -> None:
    readings = batch()
    true = readings.import_wh[4:20].sum()
    drop(readings, 1, 4, 19)
    readings.import_wh[19] = true
    edited = Editor(capacity_w=4_000)(readings, HISTORY)
    assert rules_of(edited) == ["above_capacity", "gap_energy"]
    assert edited.readings.import_wh[4:20].sum() == true
    # The shape is that of the like days, so each part is close to what was drawn.
    off = np.abs(edited.readings.import_wh[4:20] - rows(DAY, SLOTS).import_wh[4:20])
    assert off.max() <= 5


def test_a_huge_value_that_the_home_never_drew_is_a_fault_not_the_gaps_energy() -> None:
    readings = batch()
    drop(readings, 1, 4, 19)
    readings.import_wh[19] = 16 * 900
    edited = Editor(capacity_w=4_000)(readings, HISTORY)
    assert rules_of(edited) == ["above_capacity", "gap_like_days"]


class Reads:
    """Register reads at two edges."""

    def __init__(self, meter: int, first: int, slots: int, energy: tuple[int | None, int | None]):
        self._at = (meter, first, slots)
        self._energy = energy

    def energy(self, meter: int, first_slot: int, slots: int) -> tuple[int | None, int | None]:
        return self._energy if (meter, first_slot, slots) == self._at else (None, None)


@given(
    first=st.integers(0, SLOTS - 1),
    length=st.integers(1, SLOTS),
    imported=st.integers(0, 10_000),
    exported=st.none() | st.integers(0, 10_000),
)
@settings(max_examples=60)
def test_between_two_register_reads_the_energy_is_exact(
    first: int, length: int, imported: int, exported: int | None
) -> None:
    end = min(SLOTS, first + length)
    readings = batch()
    drop(readings, 3, first, end)
    reads = Reads(3, DAY + first, end - first, (imported, exported))
    edited = replace(EDITOR, registers=reads)(readings, HISTORY)
    assert rules_of(edited) == ["gap_energy"]
    at = slice(2 * SLOTS + first, 2 * SLOTS + end)
    assert edited.readings.import_wh[at].sum() == imported
    if exported is None:
        assert (edited.readings.export_wh[at] == NULL_WH).all()
    else:
        assert edited.readings.export_wh[at].sum() == exported


@pytest.mark.parametrize("wrong", [-5, 10_000 * SLOTS])
def test_register_reads_that_cannot_be_true_are_not_used(wrong: int) -> None:
    readings = batch()
    drop(readings, 1, 4, 16)
    edited = replace(EDITOR, registers=Reads(1, DAY + 4, 12, (wrong, 0)))(readings, HISTORY)
    assert rules_of(edited) == ["gap_like_days"]


def test_swapped_signs_are_turned_back_and_the_neighbours_are_left_alone() -> None:
    sound = rows(DAY, SLOTS)
    readings = batch()
    readings.import_wh[:SLOTS] = sound.export_wh[:SLOTS]
    readings.export_wh[:SLOTS] = sound.import_wh[:SLOTS]
    edited = EDITOR(readings, HISTORY)
    assert rules_of(edited) == ["sign_swapped"]
    assert (edited.readings.import_wh == sound.import_wh).all()
    assert (edited.readings.export_wh == sound.export_wh).all()
    assert (edited.readings.quality[SLOTS:] == Quality.MEASURED).all()


def test_a_new_battery_that_feeds_in_at_night_is_not_taken_for_a_swapped_meter() -> None:
    readings = batch()
    readings.import_wh[:SLOTS] = 0
    readings.export_wh[:SLOTS] = 700
    assert EDITOR(readings, HISTORY).records == ()


def test_an_invalid_value_is_taken_out_and_an_estimated_one_kept_on_record() -> None:
    readings = batch()
    readings.quality[3] = Quality.INVALID
    readings.quality[SLOTS + 3] = Quality.ESTIMATED
    edited = EDITOR(readings, HISTORY)
    assert [(r.meter, r.rule) for r in edited.records] == [
        (1, "invalid_at_source"),
        (1, "gap_linear"),
        (2, "estimated_at_source"),
    ]
    kept = edited.records[2]
    assert kept.before == kept.result == (*values(2, DAY + 3), Quality.ESTIMATED)


def test_the_record_keeps_what_the_device_signed_and_the_row_no_signature() -> None:
    key = device_key(7, 1)
    part = rows(DAY, SLOTS, range(1, 2))
    part.import_wh[10] = CAPACITY_W // 4 + 9
    signed = sign_chain(key, SEPARATOR, part, Head.NONE)
    edited = EDITOR(signed, HISTORY)
    held = edited.records[0].inputs["signed"]
    again = Readings.of(
        [
            Reading(
                1,
                DAY + 10,
                held["import_wh"],
                held["export_wh"],
                Quality(held["quality"]),
                bytes.fromhex(held["signature"]),
                held["sequence"],
                bytes.fromhex(held["previous"]),
            )
        ]
    )
    address = recover_all(digests(SEPARATOR, again), again.signature)[0]
    assert address == eip712.address_bytes(eip712.address_of(key))
    assert row(edited, 1, 10).signature == b""
    assert row(edited, 1, 10).sequence == 0
    assert row(edited, 1, 10).previous == bytes(32)
    rest = np.arange(SLOTS) != 10
    assert (edited.readings.signature[rest] == signed.signature[rest]).all()
    assert (edited.readings.previous[rest] == signed.previous[rest]).all()


@pytest.mark.parametrize(
    "broken",
    [
        lambda r: r.take(np.arange(1, len(r))),
        lambda r: r.take(np.arange(len(r))[::-1]),
        lambda r: r.take(np.r_[0:SLOTS, 0 : 2 * SLOTS]),
        lambda r: replace(r, slot=np.where(r.slot == DAY + 4, DAY + 5, r.slot)),
        lambda r: replace(r, quality=np.where(r.slot == DAY + 4, 0, r.quality)),
    ],
)
def test_a_slot_twice_or_left_out_or_missing_with_a_value_is_refused(broken: object) -> None:
    with pytest.raises(BadUse):
        EDITOR(broken(batch()), HISTORY)  # type: ignore[operator]


def test_an_empty_batch_is_an_empty_batch() -> None:
    assert EDITOR(Readings.of([]), NoHistory()).records == ()


@st.composite
def spoilt(draw: st.DrawFn) -> Readings:
    """A batch with anything in it that can be delivered, and much that cannot."""
    readings = batch()
    for _ in range(draw(st.integers(0, 6))):
        meter = draw(st.integers(1, HOMES))
        first = draw(st.integers(0, SLOTS - 1))
        end = draw(st.integers(first + 1, SLOTS))
        at = slice((meter - 1) * SLOTS + first, (meter - 1) * SLOTS + end)
        kind = draw(st.sampled_from(["drop", "huge", "quality", "same", "swap", "half"]))
        if kind == "drop":
            drop(readings, meter, first, end)
        elif kind == "huge":
            readings.import_wh[at.start] = draw(st.integers(9_000, 0x7FFF_FFFF))
            readings.quality[at.start] = Quality.MEASURED
        elif kind == "quality":
            known = readings.quality[at] != Quality.MISSING
            readings.quality[at][known] = draw(st.sampled_from([2, 3, 4]))
        elif kind == "same":
            readings.import_wh[at] = readings.import_wh[at.start]
        elif kind == "swap":
            kept = readings.import_wh[at].copy()
            readings.import_wh[at] = readings.export_wh[at]
            readings.export_wh[at] = kept
        else:
            readings.export_wh[at] = NULL_WH
    missing = readings.quality == Quality.MISSING
    readings.import_wh[missing] = readings.export_wh[missing] = NULL_WH
    return readings


def check_everything(readings: Readings, edited: Edited) -> None:
    """What holds of any edited batch."""
    by_row: dict[tuple[int, int], list[EditRecord]] = {}
    for record in edited.records:
        assert replay(record) == record.result
        assert EditRecord.parse(record.canonical()) == record
        by_row.setdefault((record.meter, record.slot), []).append(record)
    assert list(by_row) == sorted(by_row)
    for before, after in zip(readings, edited.readings, strict=True):
        steps = by_row.get((before.meter, before.slot), [])
        state = (before.import_wh, before.export_wh, int(before.quality))
        for step in steps:
            assert step.before == state
            state = step.result
        assert state == (after.import_wh, after.export_wh, int(after.quality))
        if not steps:
            assert before == after


@given(spoilt())
@settings(max_examples=150)
def test_records_lead_from_what_was_signed_to_what_is_committed(readings: Readings) -> None:
    check_everything(readings, EDITOR(readings, HISTORY))


@given(spoilt())
@settings(max_examples=40)
def test_the_same_rows_give_the_same_bytes(readings: Readings) -> None:
    one, two = EDITOR(readings, HISTORY), EDITOR(copy_of(readings), HISTORY)
    assert [r.canonical() for r in one.records] == [r.canonical() for r in two.records]
    assert one.flags == two.flags


@given(spoilt(), st.permutations(range(HOMES)))
@settings(max_examples=40)
def test_which_number_a_home_has_does_not_matter(readings: Readings, order: list[int]) -> None:
    numbers = np.array(order) + 11
    moved = replace(readings, meter=numbers[readings.meter - 1])
    moved = moved.take(np.argsort(moved.meter, kind="stable"))
    past = rows(DAY - 28 * SLOTS_PER_DAY, 28 * SLOTS_PER_DAY)
    history = ReadingsHistory(replace(past, meter=numbers[past.meter - 1]))
    one = {
        (numbers[r.meter - 1], r.slot, r.rule, r.result) for r in EDITOR(readings, HISTORY).records
    }
    assert one == {(r.meter, r.slot, r.rule, r.result) for r in EDITOR(moved, history).records}


def test_homes_without_a_fault_are_not_asked_about_their_past() -> None:
    class Asked(NoHistory):
        meters: set[int] = set()  # noqa: RUF012

        def block(self, meters, first_slot, slots):  # type: ignore[no-untyped-def]
            self.meters.update(meters.tolist())
            return super().block(meters, first_slot, slots)

    homes = 20_000
    hour = Readings.columns(
        np.repeat(np.arange(1, homes + 1), 4),
        np.tile(np.arange(DAY, DAY + 4), homes),
        np.arange(4 * homes) % 700,
        np.zeros(4 * homes),
    )
    hour.quality[[400, 4_000]] = Quality.MISSING
    hour.import_wh[[400, 4_000]] = NULL_WH
    hour.export_wh[[400, 4_000]] = NULL_WH
    history = Asked()
    EDITOR(hour, history)
    assert history.meters == {101, 1001}
