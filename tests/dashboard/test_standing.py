# SPDX-License-Identifier: Apache-2.0
"""What a standing offer would have done, what is signed for it, and the words on the page."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import forecasting.agent
from dao.eip712 import domain_separator
from dao.market.account import CAP_UNIT, Mandate, mandate_digest, mandate_end_digest
from dao.market.orders import ASK, BID, DOMAIN_NAME, DOMAIN_VERSION
from dao.slots import SLOTS_PER_DAY
from dao.tariffs import Tariffs
from dashboard.i18n import Formats
from dashboard.services import agent_words, standing
from dashboard.services.standing import PastWeek, Wish
from forecasting.agent.offers import hours_between
from forecasting.agent.store import Deed, State
from meters.readings import Quality, Reading
from tests.forecasting.agent.samples import BUY, NOON, SELL, SLOTS, terms

CHAIN, MARKET = 31_337, "0x" + "11" * 20
END = NOON
FEE, PENALTY = 110, 100
TARIFFS = Tariffs()
WISH = Wish(ASK, 120, 3_000, 10, 16, date(2016, 10, 29), "safe")


def home(days: int, import_wh: int, export_wh: int) -> list[Reading]:
    """The same in every slot of the days before noon."""
    first = END - days * SLOTS_PER_DAY
    return [Reading(7, slot, import_wh, export_wh) for slot in range(first, END)]


def week(offer: Any, rows: list[Reading], price: int | None = 200) -> PastWeek:
    prices = {row.slot: price for row in rows}
    session = terms(grid_fee=(FEE,) * SLOTS, penalty=PENALTY)
    return standing.past_week(offer, rows, prices, session, TARIFFS)


# The week before


def test_a_steady_home_would_have_sold_all_it_fed_in() -> None:
    found = week(SELL, home(22, 0, 400))
    wh = 400 * SLOTS_PER_DAY * 7
    assert found.total("flow_wh") == found.total("ordered_wh") == wh
    assert found.total("traded_wh") == found.total("kept_wh") == wh
    assert found.total("money") == wh * 200
    assert found.total("gain") == wh * (200 - TARIFFS.feed_in)


def test_what_was_sold_and_not_there_costs_the_penalty() -> None:
    rows = home(22, 0, 400)
    rows[-50] = replace(rows[-50], export_wh=100)
    found = week(SELL, rows)
    wh = 400 * SLOTS_PER_DAY * 7
    assert found.total("kept_wh") == wh - 300
    assert found.total("money") == (wh - 300) * 200 - 300 * PENALTY


def test_nothing_is_sold_below_the_floor_or_where_nothing_traded() -> None:
    for price in (119, None):
        found = week(SELL, home(22, 0, 400), price)
        assert found.total("ordered_wh") > 0
        assert found.total("traded_wh") == found.total("gain") == 0


def test_slots_without_a_known_price_are_counted_as_such() -> None:
    rows = home(22, 0, 400)
    found = standing.past_week(SELL, rows, {}, terms(), TARIFFS)
    assert found.total("unpriced_wh") == found.total("ordered_wh") > 0
    assert found.total("traded_wh") == 0


def test_a_bid_pays_price_and_fee_for_what_it_bought_and_saves_what_was_used() -> None:
    found = week(replace(BUY, limit=310, daily_wh=10**6), home(22, 300, 0))
    wh = 300 * SLOTS_PER_DAY * 7
    assert found.total("money") == -wh * (200 + FEE)
    assert found.total("gain") == wh * (TARIFFS.retail - 200 - FEE)
    assert week(replace(BUY, limit=309), home(22, 300, 0)).total("traded_wh") == 0


def test_no_day_buys_more_than_its_amount() -> None:
    found = week(replace(BUY, limit=400, daily_wh=2_000), home(22, 300, 0))
    assert {day.ordered_wh for day in found.days[1:-1]} == {2_000}
    assert max(day.ordered_wh for day in found.days) == 2_000


def test_the_past_is_planned_without_what_was_measured_later() -> None:
    """A home that begins to export on the last day has nothing to count on before."""
    rows = home(22, 0, 0)
    rows[-SLOTS_PER_DAY:] = [replace(row, export_wh=400) for row in rows[-SLOTS_PER_DAY:]]
    assert week(SELL, rows).total("ordered_wh") == 0


def test_a_home_without_readings_has_no_week() -> None:
    assert week(SELL, []) == PastWeek(())
    unknown = [Reading(7, END - 1, None, None, Quality.MISSING)]
    assert week(SELL, unknown) == PastWeek(())


# What is signed


def test_a_wish_becomes_an_offer_that_ends_at_local_midnight() -> None:
    offer = standing.offer_of(WISH, 7, 3, 2, "Europe/Berlin")
    assert (offer.limit, offer.daily_wh, offer.version, offer.mandate) == (120, 3_000, 3, 2)
    assert offer.hours == hours_between(10, 16)
    # The night in which summer time ends: midnight is at 22:00 UTC still.
    assert offer.valid_until % 86_400 == 22 * 3_600
    after = standing.offer_of(replace(WISH, until=date(2016, 10, 30)), 7, 3, 2, "Europe/Berlin")
    assert after.valid_until - offer.valid_until == 25 * 3_600


def test_the_documents_of_mandates_are_those_that_the_market_checks() -> None:
    from eth_account.messages import _hash_eip191_message, encode_typed_data

    separator = domain_separator(DOMAIN_NAME, DOMAIN_VERSION, CHAIN, MARKET)
    mandate = Mandate("0x" + "a9" * 20, ASK, 120, 25, 17_000)
    granted = standing.mandate_document(CHAIN, MARKET, 7, 4, mandate)
    ended = standing.mandate_end_document(CHAIN, MARKET, 7, 4)
    assert _hash_eip191_message(encode_typed_data(full_message=granted)) == mandate_digest(
        separator, 7, 4, mandate
    )
    assert _hash_eip191_message(encode_typed_data(full_message=ended)) == mandate_end_digest(
        separator, 7, 4
    )
    sent = standing.mandate_request(7, 4, mandate)
    assert (sent["daily_cap"], sent["side"]) == (25 * CAP_UNIT, "ask")


def test_a_mandate_allows_what_the_offer_needs_and_no_more() -> None:
    offer = standing.offer_of(WISH, 7, 1, 2, "Europe/Berlin")
    cap = standing.daily_cap(offer, week(SELL, home(22, 0, 400)))
    mandate = standing.mandate_for(offer, "0x" + "a9" * 20, cap)
    assert (mandate.side, mandate.limit) == (ASK, 120)
    assert mandate.last_day == (offer.valid_until - 1) // 86_400
    assert mandate.daily_cap * CAP_UNIT == 5_800_000  # 38.4 kWh at 100, half as much again
    assert standing.suits(mandate, mandate)
    for other in ({"limit": 90}, {"side": BID}, {"daily_cap": 1}, {"last_day": 1}, {"agent": "0x"}):
        assert not standing.suits(replace(mandate, **other), mandate)  # type: ignore[arg-type]


def test_a_bid_is_never_allowed_more_than_its_daily_amount_costs() -> None:
    offer = replace(BUY, limit=300, daily_wh=5_000)
    assert standing.daily_cap(offer, week(offer, home(22, 300, 0))) == 1_500_000
    assert standing.daily_cap(offer, PastWeek(())) <= 1_500_000


# Words


def test_offers_read_as_their_owners_would_say_them() -> None:
    fmt = Formats()
    offer = standing.offer_of(WISH, 7, 1, 2, "Europe/Berlin")
    assert agent_words.offer_in_words(offer, fmt).replace("\u00a0", " ") == (
        "Sell what I do not need for at least 12.0 ct/kWh, keep 3.0 kWh a day, between 10:00 and "
        "16:00, until 29 Oct 2016."
    )
    assert "at any hour" in agent_words.offer_in_words(BUY, fmt)


FACTS = dict.fromkeys(
    ("valid_until", "newest", "days", "needed", "likely_wh", "daily_wh", "limit", "accepted",
     "wh", "min_order_wh", "most_wh"), 1,
)  # fmt: skip


def test_every_reason_of_the_agent_has_a_sentence_of_its_own() -> None:
    folder = Path(forecasting.agent.__file__).parent
    source = "".join((folder / name).read_text() for name in ("plan.py", "follow.py"))
    codes = set(re.findall(r'Idle\(\s*"([a-z-]+)"', source)) | {"cap-used", "balance-used"}
    codes |= set(re.findall(r'code="([a-z-]+)"', source))
    said = {}
    for code in codes:
        deed = Deed(7, ASK, NOON, 1, State.IDLE, code, FACTS, 0, 0, 24)
        said[code] = agent_words.deed_in_words(SELL, deed, Formats())
    assert len(set(said.values())) == len(codes) >= 20
    assert "Nothing was ordered." not in said.values()


@pytest.mark.parametrize("state", list(State))
def test_every_state_has_a_name(state: State) -> None:
    deed = Deed(7, ASK, NOON, 1, state, "gate", {}, 0, 0, 24)
    name, tone = agent_words.state_in_words(deed)
    assert name
    assert tone in ("good", "open", "bad", "plain")
