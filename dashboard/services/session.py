# SPDX-License-Identifier: Apache-2.0
"""The session somebody orders for: which ones there are, their book, and the prices so far.

µ€/Wh, Wh and unix seconds come in; what a chart or table draws goes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from dao.slots import SLOTS_PER_DAY
from dashboard.repositories.relay import Book, Coming, Depth
from dashboard.repositories.trades import Cleared
from dashboard.services.units import wall_clock

HISTORY_DAYS = 3
"""So many days of prices are shown, and looked back for a slot's recent price."""


def open_sessions(sessions: Iterable[Coming], now: int) -> list[Coming]:
    """Those that still take orders, the next gate first."""
    return sorted((one for one in sessions if now < one.orders_until), key=lambda one: one.gate)


def chosen(sessions: Sequence[Coming], wanted: object) -> Coming | None:
    """The session that was picked if it still takes orders, else the next one."""
    for one in sessions:
        if one.first_slot == wanted:
            return one
    return sessions[0] if sessions else None


def recent_prices(
    cleared: Sequence[Cleared], first_slot: int, slots: int
) -> tuple[int | None, ...]:
    """For each slot of a session the newest price at its time of day, within `HISTORY_DAYS`.

    A day on which nothing traded then is passed over; None where there is none.
    """
    by_slot = {one.slot: one.price for one in cleared}
    found: list[int | None] = []
    for slot in range(first_slot, first_slot + slots):
        price = None
        for day in range(1, HISTORY_DAYS + 2):
            price = by_slot.get(slot - day * SLOTS_PER_DAY)
            if price is not None:
                break
        found.append(price)
    return tuple(found)


@dataclass(frozen=True)
class Prices:
    """The last days' prices. frame: time (wall clock), price_ct (NaN without trade), volume_kwh.
    mean: weighted with the energy, None without trade."""

    frame: pd.DataFrame
    low: int | None
    high: int | None
    mean: float | None
    traded_wh: int


def price_history(cleared: Sequence[Cleared], now_slot: int, days: int = HISTORY_DAYS) -> Prices:
    """Prices of the last days and of what is cleared ahead."""
    shown = [one for one in cleared if one.slot >= now_slot - days * SLOTS_PER_DAY]
    traded = [one for one in shown if one.price is not None and one.volume_wh]
    prices = [one.price for one in traded if one.price is not None]
    energy = sum(one.volume_wh for one in traded)
    frame = pd.DataFrame(
        {
            "time": wall_clock(pd.Series([one.slot for one in shown], dtype="int64")),
            "price_ct": [float("nan") if one.price is None else one.price / 10 for one in shown],
            "volume_kwh": [one.volume_wh / 1000 for one in shown],
        }
    )
    return Prices(
        frame=frame,
        low=min(prices, default=None),
        high=max(prices, default=None),
        mean=sum((one.price or 0) * one.volume_wh for one in traded) / energy if energy else None,
        traded_wh=energy,
    )


@dataclass(frozen=True)
class SlotBook:
    """One slot's book in a line: best prices, and the energy on each side."""

    slot: int
    best_bid: int | None
    best_ask: int | None
    bid_wh: int
    ask_wh: int


def book_lines(book: Book) -> list[SlotBook]:
    """Every slot of a book in a line."""
    return [
        SlotBook(
            slot=one.slot,
            best_bid=one.bids[0].price if one.bids else None,
            best_ask=one.asks[0].price if one.asks else None,
            bid_wh=sum(level.posted_wh + level.waiting_wh for level in one.bids),
            ask_wh=sum(level.posted_wh + level.waiting_wh for level in one.asks),
        )
        for one in book.slots
    ]


def hourly_book(lines: Sequence[SlotBook]) -> list[SlotBook]:
    """The same by hour: energy in sum, prices the best of its quarters."""
    found = []
    for at in range(0, len(lines), 4):
        hour = lines[at : at + 4]
        bids = [one.best_bid for one in hour if one.best_bid is not None]
        asks = [one.best_ask for one in hour if one.best_ask is not None]
        found.append(
            SlotBook(
                slot=hour[0].slot,
                best_bid=max(bids, default=None),
                best_ask=min(asks, default=None),
                bid_wh=sum(one.bid_wh for one in hour),
                ask_wh=sum(one.ask_wh for one in hour),
            )
        )
    return found


def depth_of(book: Book, slot: int) -> Depth | None:
    """One slot's levels."""
    return next((one for one in book.slots if one.slot == slot), None)


def own_recent(
    readings: Sequence[tuple[int, int | None]], first_slot: int, slots: int
) -> list[int | None]:
    """(slot, Wh) pairs as one value for each slot of a range, None where there is none."""
    by_slot = dict(readings)
    return [by_slot.get(slot) for slot in range(first_slot, first_slot + slots)]
