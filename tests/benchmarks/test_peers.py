# SPDX-License-Identifier: Apache-2.0
"""The peers do the same work: a ratio to something that does less would be worth nothing."""

from __future__ import annotations

import sys
from functools import partial

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import forecast_peers, market
from benchmarks.results import race
from dao.errors import CheckFailed
from dao.market.solver import BID, clear
from tests.dao.reference_market import most_welfare


def small_book(seed: int) -> list[tuple[int, int, int]]:
    rng = np.random.default_rng(seed)
    return [
        (int(rng.integers(2)), int(rng.integers(1, 12)), int(rng.integers(1, 30)))
        for _ in range(int(rng.integers(1, 12)))
    ]


@pytest.mark.parametrize("seed", range(20))
def test_sweep_and_linear_program_reach_the_most_welfare(seed: int) -> None:
    book = small_book(seed)
    most = most_welfare([("bid" if side == BID else "ask", *order) for side, *order in book])
    assert market.sort_and_sweep(book) == most
    assert market.optimum(*np.array(book).T) == most


def test_solver_and_sweep_agree_on_a_benchmark_book() -> None:
    side, limit, wh = market.random_book(500)
    rows = list(zip(side.tolist(), limit.tolist(), wh.tolist(), strict=True))
    assert market.sort_and_sweep(rows) == clear(side, limit, wh).welfare > 0


def test_books_are_the_same_every_time() -> None:
    for ours, again in zip(market.random_book(100), market.random_book(100), strict=True):
        assert (ours == again).all()


def test_solver_is_ten_times_as_fast_as_the_sweep() -> None:
    book = market.random_book(100_000)
    rows = list(zip(*(column.tolist() for column in book), strict=True))
    ours, sweep, _ = race(
        partial(clear, *book), partial(market.sort_and_sweep, rows), rounds=2, repeat=10
    )
    assert sweep >= 10 * ours


def test_without_pymarket_the_suite_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pymarket", None)
    assert command.main(["market", "--json"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    errors = [line for line in said.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert "pymarket" in errors[0]
    assert "make setup-bench" in errors[0]


def test_pymarket_trades_most_of_a_book_the_same_every_time() -> None:
    pytest.importorskip("pymarket", reason="a peer: `make setup-bench` installs it")
    book = market.random_book(300)
    auction = market.pymarket_muda(*book)
    assert 0.9 < auction() / market.optimum(*book) <= 1
    assert auction() == auction()


def test_without_lightgbm_the_forecasts_say_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(CheckFailed, match="make setup-bench"):
        forecast_peers.lightgbm()
