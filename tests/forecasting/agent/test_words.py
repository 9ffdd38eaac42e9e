# SPDX-License-Identifier: Apache-2.0
"""Every reason of the agent is a sentence that its owner understands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import forecasting.agent
from dao.market.orders import ASK, BID
from forecasting.agent.offers import hours_between
from forecasting.agent.store import Deed, State
from forecasting.agent.words import _REASONS, offer_words, words
from tests.forecasting.agent.samples import BUY, NOON, SELL


def deed(code: str, facts: dict[str, Any], side: int = ASK, state: State = State.IDLE) -> Deed:
    order = {"first_slot": NOON, "wh": [600, 600]} if state is not State.IDLE else None
    number = b"\x01" * 32 if order else None
    return Deed(7, side, NOON, 1, state, code, facts, 0, 0, 24, number, order)


def test_a_home_that_had_nothing_to_sell_hears_how_little_it_was() -> None:
    said = words(SELL, deed("nothing-likely", {"days": 7, "most_wh": 200}))
    assert said == ("nothing to sell 06 Jun 14:00-20:00: the last 7 days exported 0.2 kWh at most")
    said = words(BUY, deed("nothing-likely", {"days": 5, "most_wh": 0}, BID))
    assert said.endswith("the last 5 days drew 0.0 kWh at most")


def test_an_order_is_told_with_its_energy_price_and_fate() -> None:
    facts = {"limit": 120, "escrow": 1, "cut_by": "cap"}
    said = words(SELL, deed("ordered", facts, state=State.ACCEPTED))
    assert said == (
        "to sell 1.2 kWh 06 Jun 14:00-20:00 for at least 12.0 ct/kWh: accepted "
        "(less than likely: the cap allows no more)"
    )


def test_an_offer_is_told_in_a_line() -> None:
    assert offer_words(SELL) == (
        "ask: at least 12.0 ct/kWh, 0.0 kWh a day kept back, 0-24 h, "
        "until 06 Jul 2016 02:00 Europe/Berlin"
    )
    assert hours_between(22, 6).bit_count() == 8


def test_no_code_of_the_program_is_without_a_sentence() -> None:
    folder = Path(forecasting.agent.__file__).parent
    source = "".join((folder / name).read_text() for name in ("plan.py", "follow.py"))
    used = set(re.findall(r'Idle\(\s*"([a-z-]+)"', source)) | {"cap-used", "balance-used"}
    used |= set(re.findall(r'code="([a-z-]+)"', source))
    assert used - {"ordered", "nothing-likely"} == set(_REASONS)


@pytest.mark.parametrize("code", sorted(_REASONS))
def test_every_sentence_can_be_said(code: str) -> None:
    numbers = dict.fromkeys(
        ("valid_until", "mandate", "last_day", "newest", "days", "needed", "likely_wh", "daily_wh",
         "limit", "accepted", "wh", "min_order_wh", "left", "zone"), 1,
    )  # fmt: skip
    said = words(SELL, deed(code, {**numbers, "agent": "0x1", "problem": "x"}))
    assert said.startswith("nothing to sell 06 Jun 14:00-20:00: ")
    assert len(said) < 200
