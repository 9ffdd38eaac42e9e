# SPDX-License-Identifier: Apache-2.0
"""Offers, sessions and homes to make orders of, each with whatever is to be different."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np

from dao.market.account import Mandate
from dao.market.orders import ASK, BID
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY, first_slot_of_day
from forecasting.agent.offers import ALL_HOURS, ALL_WEEKDAYS, StandingOffer
from forecasting.agent.plan import Means, Terms
from forecasting.agent.recent import Recent

AGENT = "0x" + "a9" * 20
DAY = first_slot_of_day(date(2016, 6, 6))
NOON = DAY + 48
SLOTS = 24

SELL = StandingOffer(
    account=7,
    side=ASK,
    version=1,
    withdrawn=False,
    mandate=2,
    limit=120,
    daily_wh=0,
    hours=ALL_HOURS,
    weekdays=ALL_WEEKDAYS,
    caution=0,
    valid_until=(DAY + 30 * SLOTS_PER_DAY) * SLOT_SECONDS,
    timezone="Europe/Berlin",
)
BUY = replace(SELL, side=BID, mandate=1, limit=300, daily_wh=5_000)


def terms(first_slot: int = NOON, **changes: Any) -> Terms:
    """A session of six hours whose gate closes an hour before it."""
    slots = changes.pop("slots", SLOTS)
    gate = first_slot * SLOT_SECONDS - 3_600
    plain = Terms(
        first_slot=first_slot,
        slots=slots,
        gate=gate,
        orders_until=gate - 300,
        penalty=100,
        min_order_wh=50,
        max_slot_wh=8_000,
        grid_fee=(110,) * slots,
        band_min=(0,) * slots,
        band_max=(1_000,) * slots,
    )
    return replace(plain, **changes)


def means(offer: StandingOffer, **changes: Any) -> Means:
    """A mandate with exactly the offer's price, and money for more than is ever ordered."""
    mandate = Mandate(AGENT, offer.side, offer.limit, 4_095, 32_767)
    plain = Means(1, mandate, 0, 10**12, (0, 1, 2))
    return replace(plain, **changes)


def mandated(offer: StandingOffer, **changes: Any) -> Means:
    """The same with other terms of the mandate."""
    whole = means(offer)
    assert whole.mandate is not None
    return replace(whole, mandate=replace(whole.mandate, **changes))


def flat_home(import_wh: int, export_wh: int, end_slot: int = NOON - 8, days: int = 7) -> Recent:
    """The same in every slot of every day."""
    n = days * SLOTS_PER_DAY
    return Recent(
        np.full(n, import_wh, dtype=np.int64), np.full(n, export_wh, dtype=np.int64), end_slot
    )


def before(session: Terms) -> int:
    """A quarter of an hour before the relay's last call."""
    return session.orders_until - 900
