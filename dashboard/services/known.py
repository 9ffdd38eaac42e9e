# SPDX-License-Identifier: Apache-2.0
"""What many pages and files need and is costly: sessions with their fills, statements of a month.

Worked out once for all visitors and kept as long as what it is made of stands. Whoever asks for a
home's statement has made sure that the home is the visitor's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dao.slots import SLOT_SECONDS
from dao.tariffs import Tariffs
from dashboard.repositories.cache import cached
from dashboard.repositories.months import account_month, corrections, month_orders
from dashboard.repositories.readings import HomeReadings
from dashboard.repositories.sources import SessionKey, Sources, facts
from dashboard.repositories.trades import SessionFacts, Trades
from dashboard.services.my_data import month_slots
from dashboard.services.orders import Filled, OrderView, session_fills
from dashboard.services.orders import view as order_view
from dashboard.services.statement import Statement, statement


@cached(ttl=3_600, max_entries=512)
def session(key: SessionKey) -> tuple[SessionFacts | None, Filled | None]:
    """All that is known of a session, with its fills."""
    known = facts(key)
    return known, None if known is None else session_fills(known)


@dataclass(frozen=True)
class _Month:
    """What a statement is made of; another one as soon as any of it changed."""

    path: Path
    zone: int
    account: int
    month: int
    rpc: str | None
    market: str | None
    block: int | None
    hour: int
    tariffs: Tariffs
    readings: tuple[tuple[str, int], ...]


def statement_of(
    sources: Sources, account: int, month: int, tariffs: Tariffs, now: int
) -> Statement:
    """A home's statement. now: unix seconds of chain time. CheckFailed where something of it
    cannot be read."""
    key = _Month(
        path=sources.path,
        zone=sources.zone,
        account=account,
        month=month,
        rpc=sources.rpc,
        market=sources.market,
        block=sources.reached.block,
        hour=now // 3_600,
        tariffs=tariffs,
        readings=sources.readings.version(*month_slots(month)),
    )
    return _statement(key)


@cached(ttl=600, max_entries=64)
def _statement(key: _Month) -> Statement:
    first, slots = month_slots(key.month)
    home, now = key.path.parent.parent, (key.hour + 1) * 3_600 - 1
    trades = Trades(home / "index.sqlite", key.zone, key.path)
    views: list[tuple[OrderView, SessionFacts]] = []
    for posted in month_orders(trades, key.account, first, first + slots):
        begin = posted.order.session_slot
        mark = trades.settled_by(begin) or str(key.block)
        known, filled = session(SessionKey(key.path, key.zone, begin, key.rpc, key.market, mark))
        if known is not None:
            views.append((order_view(posted, known, filled, key.tariffs, now), known))
    readings = HomeReadings(home / "lake", home / "inbox.sqlite", key.zone)
    return statement(
        account=key.account,
        zone=key.zone,
        month=key.month,
        first_slot=first,
        slots=slots,
        now=now,
        tariffs=key.tariffs,
        readings=readings.series(key.account, first, slots),
        views=views,
        corrections=corrections(key.path, key.account, first, first + slots),
        money=account_month(
            key.path, key.account, first * SLOT_SECONDS, (first + slots) * SLOT_SECONDS
        ),
    )
