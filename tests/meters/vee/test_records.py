# SPDX-License-Identifier: Apache-2.0
"""Edit records: one way to write them, and nothing but their rule's result passes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dao.errors import BadUse, CheckFailed, GridCommonsError
from dao.slots import SLOTS_PER_DAY
from meters.leaves import slots_named
from meters.readings import Quality
from meters.vee.records import EditRecord, pack, replay, unpack

SLOT = 1_600_000
EMPTY = (None, None, int(Quality.MISSING))


def record(rule: str, inputs: dict[str, Any], before: Any = EMPTY, result: Any = EMPTY) -> Any:
    return EditRecord(7, SLOT, rule, 1, inputs, before, result)


def signed(imported: int, exported: int) -> dict[str, Any]:
    return {
        "import_wh": imported,
        "export_wh": exported,
        "quality": int(Quality.MEASURED),
        "sequence": 3,
        "previous": "11" * 32,
        "signature": "22" * 65,
    }


LINE = record("gap_linear", {"left": [SLOT - 1, 100, 0], "right": [SLOT + 2, 400, 30]})
DAYS = record(
    "gap_like_days",
    {"days": [[SLOT - 7 * SLOTS_PER_DAY, 100, None], [SLOT - 21 * SLOTS_PER_DAY, 201, None]]},
)


def test_a_line_between_neighbours_is_rounded_to_the_nearest_wh() -> None:
    assert replay(LINE) == (200, 10, Quality.ESTIMATED)


def test_like_days_give_their_mean_and_an_unknown_channel_stays_unknown() -> None:
    assert replay(DAYS) == (151, None, Quality.SUBSTITUTED)


def test_a_value_no_connection_can_carry_is_taken_out_and_nothing_else() -> None:
    before = (9_000, 0, int(Quality.MEASURED))
    inputs = {"capacity_wh": 8_000, "signed": signed(9_000, 0)}
    assert replay(record("above_capacity", inputs, before)) == EMPTY
    with pytest.raises(CheckFailed, match="can carry"):
        replay(record("above_capacity", {**inputs, "capacity_wh": 9_000}, before))


def test_what_the_device_signed_must_be_what_the_row_held() -> None:
    inputs = {"capacity_wh": 8_000, "signed": signed(9_001, 0)}
    with pytest.raises(CheckFailed, match="signed something else"):
        replay(record("above_capacity", inputs, (9_000, 0, 1)))


@pytest.mark.parametrize(
    "odd",
    [{"sequence": 2**63}, {"sequence": "3"}, {"previous": "11"}, {"signature": "zz" * 65}],
)
def test_what_no_device_signs_is_bad_use(odd: dict[str, Any]) -> None:
    inputs = {"capacity_wh": 8_000, "signed": {**signed(9_000, 0), **odd}}
    with pytest.raises(BadUse, match="not those of the rule"):
        replay(record("above_capacity", inputs, (9_000, 0, 1)))


def test_signs_are_not_swapped_on_weak_evidence() -> None:
    inputs = {"signed": None, "decisive": 40, "against": 37, "hours": 10, "level": 10}
    with pytest.raises(CheckFailed, match="too weak"):
        replay(record("sign_swapped", inputs, (0, 50, 1)))
    strong = record("sign_swapped", {**inputs, "against": 38}, (0, 50, 1))
    assert replay(strong) == (50, 0, Quality.SUBSTITUTED)


@pytest.mark.parametrize(
    ("rule", "inputs", "before", "says"),
    [
        ("gap_linear", {"left": [SLOT - 1, 1, 1], "right": [SLOT + 9, 1, 1]}, EMPTY, "no line"),
        ("gap_linear", {"left": [SLOT - 1, 1, 1], "right": [SLOT, 1, 1]}, EMPTY, "both sides"),
        ("gap_linear", {"left": [SLOT - 1, 1, 1], "right": [SLOT + 1, 1, 1]}, (1, 1, 1), "none"),
        ("gap_like_days", {"days": [[SLOT - 672, 1, 1]]}, EMPTY, "fewer than 2"),
        ("gap_like_days", {"days": [[SLOT - 672, 1, 1]] * 2}, EMPTY, "counted twice"),
        ("gap_like_days", {"days": [[SLOT - 1, 1, 1], [SLOT - 2, 1, 1]]}, EMPTY, "not like days"),
        ("invalid_at_source", {"signed": None}, (1, 1, 1), "did not call"),
        ("estimated_at_source", {"signed": None}, (1, 1, 1), "did not call"),
        ("made_up", {}, EMPTY, "no rule made_up"),
    ],
)
def test_a_rule_that_does_not_apply_fails_the_check(
    rule: str, inputs: dict[str, Any], before: Any, says: str
) -> None:
    with pytest.raises(CheckFailed, match=says):
        replay(record(rule, inputs, before))


@pytest.mark.parametrize("inputs", [{}, {"left": 3, "right": None}, {"left": [], "right": []}])
def test_inputs_of_another_shape_are_bad_use(inputs: dict[str, Any]) -> None:
    with pytest.raises(BadUse, match="not those of the rule"):
        replay(record("gap_linear", inputs))


@given(
    energy=st.integers(0, 1 << 31),
    weights=st.lists(st.integers(0, 10_000), min_size=1, max_size=96).filter(sum),
)
def test_the_parts_of_a_known_energy_add_up_to_it_exactly(energy: int, weights: list[int]) -> None:
    total, low, parts = sum(weights), 0, []
    for step, weight in enumerate(weights):
        made = EditRecord(
            7,
            SLOT + step,
            "gap_energy",
            1,
            {
                "source": "registers",
                "first": SLOT,
                "slots": len(weights),
                "energy": [energy, None],
                "weights": [[low, low + weight, total], None],
            },
            EMPTY,
            EMPTY,
        )
        imported, exported, quality = replay(made)
        assert (exported, quality) == (None, Quality.ESTIMATED)
        parts.append(imported or 0)
        low += weight
    assert sum(parts) == energy


def test_a_record_is_read_back_as_it_was_written() -> None:
    assert EditRecord.parse(LINE.canonical()) == LINE
    assert unpack(pack([LINE, DAYS])) == [LINE, DAYS]
    assert unpack(pack([])) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b":", b": ", 1),
        lambda text: text.replace(b"100", b"1e2", 1),
        lambda text: text.replace(b"100", b"100.0", 1),
        lambda text: text.replace(b"100", b"NaN", 1),
        lambda text: text.replace(b"100", b"true", 1),
        lambda text: text.replace(b"100", b"9" * 5_000, 1),
        lambda text: text.replace(b'"meter":7', b'"meter":7,"meter":7', 1),
        lambda text: text.replace(b'"meter":7', b'"meter":-7', 1),
        lambda text: text.replace(b"gap", b"g\\u0061p", 1),
        lambda text: text[:-1],
        lambda text: b"[" + text + b"]",
        lambda text: b"[" * 50_000,
        lambda text: b"\xff",
        lambda text: b"",
    ],
)
def test_a_second_way_to_write_a_record_is_refused(change: Any) -> None:
    with pytest.raises(BadUse):
        EditRecord.parse(change(LINE.canonical()))


def rewritten(read: Callable[[bytes], Any], write: Callable[[Any], bytes], data: bytes) -> bytes:
    """What was read, written again; nothing where it was refused."""
    try:
        return write(read(data))
    except BadUse:
        return b""


@given(st.binary(max_size=200) | st.sampled_from([LINE, DAYS]).map(EditRecord.canonical))
def test_any_bytes_are_the_one_way_to_write_something_or_a_clear_error(data: bytes) -> None:
    assert rewritten(EditRecord.parse, EditRecord.canonical, data) in (b"", data)
    assert rewritten(unpack, pack, b"[" + data + b"]") in (b"", b"[" + data + b"]")


_JSON = st.recursive(
    st.none() | st.integers(-3, 1 << 32) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@given(
    rule=st.sampled_from(["gap_linear", "gap_like_days", "gap_energy", "sign_swapped"]),
    inputs=st.dictionaries(
        st.sampled_from(["left", "right", "days", "energy", "weights", "signed", "source"]),
        _JSON,
        max_size=3,
    ),
)
def test_a_rule_survives_any_inputs(rule: str, inputs: dict[str, Any]) -> None:
    made = record(rule, inputs)
    document = json.loads(made.canonical())
    assert document["rule"] == rule
    with pytest.raises(GridCommonsError):
        replay(made)


def test_whoever_erases_slots_finds_the_records_that_tell_of_them() -> None:
    assert {SLOT - 1, SLOT + 2} <= slots_named(LINE.canonical())
    assert {SLOT - 21 * SLOTS_PER_DAY, SLOT - 7 * SLOTS_PER_DAY} <= slots_named(DAYS.canonical())
    shared = {"source": "registers", "first": SLOT - 40, "slots": 90}
    assert {SLOT - 40, SLOT + 49} <= slots_named(record("gap_energy", shared).canonical())
