# SPDX-License-Identifier: Apache-2.0
"""The agent promises what a home could count on in its own recent days, and no more."""

from __future__ import annotations

import numpy as np

from forecasting.home_agent import Limits, dependable_wh, intent

LIMITS = Limits(floor=90, ceiling=350)


def days(*values: int) -> np.ndarray:
    """One day per value, the same Wh in each of its slots."""
    return np.repeat(np.array(values, dtype=np.int64), 96)


def test_the_dependable_amount_is_one_that_was_reached() -> None:
    week = days(70, 10, 50, 30, 20, 60, 40)
    assert dependable_wh(week, 0, 1, 0).tolist() == [10]
    assert dependable_wh(week, 0, 1, 300).tolist() == [20]
    assert dependable_wh(week, 0, 1, 500).tolist() == [40]
    assert dependable_wh(week, 0, 1, 1_000).tolist() == [70]


def test_the_slots_of_the_day_are_kept_and_wrap_at_midnight() -> None:
    day = np.arange(96)
    assert dependable_wh(np.tile(day, 7), 94, 4, 500).tolist() == [94, 95, 0, 1]


def test_a_home_sells_or_buys_in_a_slot_but_never_both() -> None:
    imports, exports = np.zeros(96 * 7, dtype=int), np.zeros(96 * 7, dtype=int)
    imports[0::96] = 100
    exports[1::96] = 300
    imports[2::96], exports[2::96] = 50, 50
    wanted = intent(imports, exports, 0, 3, LIMITS)
    assert wanted.buy_wh == (100, 0, 50)
    assert wanted.sell_wh == (0, 300, 0)


def test_one_dull_day_lowers_the_promise_and_one_sunny_day_does_not_raise_it() -> None:
    steady = intent(days(*[0] * 7), days(*[400] * 7), 0, 1, LIMITS)
    sunny = intent(days(*[0] * 7), days(*[400] * 6, 4_000), 0, 1, LIMITS)
    dull = intent(days(*[0] * 7), days(*[400] * 5, 0, 0), 0, 1, LIMITS)
    assert steady.sell_wh == sunny.sell_wh == (400,)
    assert dull.sell_wh == (0,)
