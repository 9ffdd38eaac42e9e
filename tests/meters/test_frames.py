# SPDX-License-Identifier: Apache-2.0
"""The wire: frames and JSON come back as they went, and nothing malformed gets through."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dao.eip712 import keccak
from dao.errors import BadUse
from meters import frames
from meters.readings import NULL_WH, Quality, Reading, Readings

wh = st.none() | st.integers(0, NULL_WH - 1)
any_reading = st.builds(
    Reading,
    st.integers(0, (1 << 32) - 1),
    st.integers(0, (1 << 63) - 1),
    wh,
    wh,
    st.sampled_from(Quality),
    st.binary(min_size=65, max_size=65).filter(any),
    st.integers(0, (1 << 63) - 1),
    st.binary(min_size=32, max_size=32),
)
READING = Reading(0x01020304, 5, 6, None, Quality.ESTIMATED, b"\x07" * 65, 0x0A0B, bytes(range(32)))


@given(st.lists(any_reading, min_size=1, max_size=8))
def test_readings_survive_a_frame_and_json(rows: list[Reading]) -> None:
    readings = Readings.of(rows)
    assert list(frames.decode(frames.encode(readings))) == rows
    assert list(frames.from_json(json.loads(json.dumps(frames.to_json(readings))))) == rows


def test_a_frame_is_laid_out_as_agreed() -> None:
    frame = frames.encode(Readings.of([READING]))
    record = struct.pack(">IQIIBQ", 0x01020304, 5, 6, 0xFFFFFFFF, 2, 0x0A0B)
    assert frame == b"GCR1" + b"\0\0\0\1" + record + bytes(range(32)) + b"\x07" * 65
    assert len(frame) == 8 + 126
    assert frames.frame_id(frame) == keccak(frame)


def test_a_full_frame_is_as_large_as_the_limit_says() -> None:
    full = Readings.of([READING] * 4096)
    assert len(frames.encode(full)) == frames.MAX_FRAME_BYTES
    assert len(frames.decode(frames.encode(full))) == 4096


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"GCR1",
        b"GCR1\0\0\0\0",
        b"GCR2\0\0\0\1" + bytes(126),
        b"GCR1\0\0\0\1" + bytes(125),
        b"GCR1\0\0\0\1" + bytes(127),
        b"GCR1\xff\xff\xff\xff" + bytes(126),
        b"GCR1\0\0\x10\x01" + bytes(126 * 4097),
        b"GCR1\0\0\0\1" + bytes(4) + b"\x80" + bytes(121),
        b"GCR1\0\0\0\1" + bytes(20) + b"\x05" + bytes(105),
        b"GCR1\0\0\0\1" + bytes(21) + b"\xff" + bytes(104),
    ],
)
def test_a_malformed_frame_is_refused(broken: bytes) -> None:
    with pytest.raises(BadUse):
        frames.decode(broken)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_decoder(rubbish: bytes) -> None:
    for frame in (rubbish, b"GCR1\0\0\0\2" + rubbish, b"GCR1\0\0\0\1" + rubbish[:126]):
        try:
            readings = frames.decode(frame)
        except BadUse:
            continue
        assert frames.encode(readings) == frame


@pytest.mark.parametrize(
    "change",
    [
        {"meter": np.array([1 << 32])},
        {"slot": np.array([-1])},
        {"import_wh": np.array([-1])},
        {"export_wh": np.array([1 << 32])},
        {"quality": np.array([5], dtype=np.uint8)},
        {"sequence": np.array([-1])},
    ],
)
def test_a_value_that_does_not_fit_is_not_sent_cut_off(change: dict[str, Any]) -> None:
    with pytest.raises(BadUse, match="does not fit"):
        frames.encode(replace(Readings.of([READING]), **change))


@pytest.mark.parametrize("count", [0, 4097])
def test_a_frame_is_neither_empty_nor_too_large(count: int) -> None:
    with pytest.raises(BadUse, match=f"not {count}"):
        frames.encode(Readings.of([READING] * count))


GOOD = frames.to_json(Readings.of([READING]))[0]


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        [],
        [None],
        [[]],
        [{}],
        [{**GOOD, "more": 1}],
        [{**GOOD, "meter": "1"}],
        [{**GOOD, "meter": True}],
        [{**GOOD, "meter": None}],
        [{**GOOD, "meter": 1.0}],
        [{**GOOD, "slot": -1}],
        [{**GOOD, "slot": 1 << 63}],
        [{**GOOD, "import_wh": NULL_WH}],
        [{**GOOD, "export_wh": -1}],
        [{**GOOD, "quality": 5}],
        [{**GOOD, "previous": "0x00"}],
        [{**GOOD, "previous": None}],
        [{**GOOD, "previous": "0x" + "zz" * 32}],
        [{**GOOD, "previous": "0x" + " " * 64}],
        [{**GOOD, "signature": "00" * 66}],
        [GOOD] * 4097,
    ],
)
def test_malformed_json_is_refused_in_one_line(document: object) -> None:
    with pytest.raises(BadUse) as caught:
        frames.from_json(document)
    assert "\n" not in str(caught.value)


def test_null_in_json_is_never_zero() -> None:
    (row,) = frames.from_json([{**GOOD, "import_wh": 0, "export_wh": None}])
    assert (row.import_wh, row.export_wh) == (0, None)
