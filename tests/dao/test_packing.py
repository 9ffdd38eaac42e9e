# SPDX-License-Identifier: Apache-2.0
"""Totals and quantiles as words, losses as the contract sums them, tariffs as people write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dao.errors import BadUse
from dao.forecasts import pack_quantiles, pinball_loss, unpack_quantiles
from dao.ledger import pack_totals, unpack_totals
from dao.tariffs import Tariffs, load_tariffs

INT32 = st.integers(-(2**31), 2**31 - 1)
UINT32 = st.integers(0, 2**32 - 1)


@given(st.lists(st.tuples(INT32, UINT32), min_size=4, max_size=4))
def test_totals_come_back_from_their_word(slots: list[tuple[int, int]]) -> None:
    net, export = zip(*slots, strict=True)
    words = pack_totals(net, export)
    assert len(words) == 1
    back = unpack_totals(words, 4)
    assert (back[0].tolist(), back[1].tolist()) == (list(net), list(export))


@pytest.mark.parametrize(
    ("net", "export"),
    [([2**31] * 4, [0] * 4), ([0] * 4, [-1] * 4), ([0] * 4, [2**32] * 4), ([0] * 3, [0] * 3)],
)
def test_totals_that_do_not_fit_are_refused(net: list[int], export: list[int]) -> None:
    with pytest.raises(BadUse):
        pack_totals(net, export)


@given(st.lists(st.tuples(INT32, INT32, INT32), min_size=96, max_size=96))
def test_quantiles_come_back_from_their_words(rows: list[tuple[int, int, int]]) -> None:
    table = np.sort(np.array(rows, dtype=np.int64), axis=1).T
    words = pack_quantiles(*table)
    assert len(words) == 48
    assert all(word < 2**192 for word in words)
    assert (unpack_quantiles(words) == table).all()


def test_quantiles_that_fall_or_do_not_fit_are_refused() -> None:
    flat = np.zeros(96, dtype=np.int64)
    with pytest.raises(BadUse, match="must not fall"):
        pack_quantiles(flat + 1, flat, flat)
    with pytest.raises(BadUse, match="32 bits"):
        pack_quantiles(flat, flat, flat + 2**31)
    with pytest.raises(BadUse, match="96 slots"):
        pack_quantiles(flat[:95], flat[:95], flat[:95])


@given(st.lists(st.tuples(INT32, INT32, INT32, INT32), min_size=1, max_size=8))
def test_the_pinball_loss_is_the_tilted_absolute_value(
    rows: list[tuple[int, int, int, int]],
) -> None:
    expected = 0
    for *quantiles, actual in rows:
        for tau, q in zip((100, 500, 900), quantiles, strict=True):
            expected += tau * (actual - q) if actual >= q else (1_000 - tau) * (q - actual)
    table = np.array([row[:3] for row in rows], dtype=np.int64).T
    assert pinball_loss(table, [row[3] for row in rows]) == expected


def test_a_tariff_file_replaces_what_it_names(tmp_path: Path) -> None:
    file = tmp_path / "tariffs.toml"
    file.write_text("feed_in = 80\n")
    assert load_tariffs(file) == Tariffs(feed_in=80, retail=397, grid_fee=110)
    assert load_tariffs(None) == Tariffs()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("feed_in = 7.9", "whole number"),
        ("feed_in = -1", "expected 0"),
        ("feed-in = 79", "unknown tariff 'feed-in'"),
        ("feed_in = 300", "nothing can be gained"),
        ("feed_in 79", "cannot read tariffs"),
    ],
)
def test_a_tariff_that_makes_no_sense_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "tariffs.toml"
    file.write_text(text)
    with pytest.raises(BadUse, match=message):
        load_tariffs(file)
