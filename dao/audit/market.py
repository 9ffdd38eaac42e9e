# SPDX-License-Identifier: Apache-2.0
"""The market's tables, replayed from its events: books, prices, fills, settlement, quality.

Nothing is taken from the chain's outcome that follows from its input: prices and fills come from
the pages of the books and the rules in force at the gate, and the outcome is held against them in
`replay`. What a seller delivered in a slot is not public; what a buyer got is a share of the slot's
sum, so it follows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dao.audit.scope import EventRow, Events, Period, session_of
from dao.audit.tables import TABLES
from dao.errors import CheckFailed
from dao.market.orders import MAX_SESSION_SLOTS, PAGE_SIZES, fold
from dao.market.solver import ASK, BID, NULL_PRICE, SessionClearing, clear_session, effective_limits
from dao.slots import slot_start

if TYPE_CHECKING:
    import pyarrow as pa

Ints = npt.NDArray[np.int64]

SIDES = {BID: "bid", ASK: "ask"}
_PROFILE = 2
_WORD = 32
_PER_WORD = 16


@dataclass(frozen=True, eq=False)
class Book:
    """A session's orders in order of arrival, one value per order; wh: (orders, slots) Wh."""

    account: Ints
    side: Ints
    limit: Ints
    mandate: Ints
    offset: Ints
    count: Ints
    block: Ints
    wh: Ints
    hash: int

    def __len__(self) -> int:
        return int(self.side.size)


@dataclass(eq=False)
class Session:
    """A session as its events tell it. Per slot: prices (NULL_PRICE without trade), volume, and
    what was settled; -1 where the chain has not spoken."""

    first_slot: int
    slots: int
    gate: int
    penalty: int
    opened: EventRow
    pages: list[EventRow] = field(default_factory=list)
    rejected: int = 0
    void_from: int | None = None
    price: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    volume: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    delivered: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    fees: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    penalties: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    entries: list[EventRow] = field(default_factory=list)

    @property
    def is_void(self) -> npt.NDArray[np.bool_]:
        """(slots,) whether a slot can never trade."""
        slots = np.arange(self.first_slot, self.first_slot + self.slots)
        return slots >= (self.void_from if self.void_from is not None else slots[-1] + 1)

    @property
    def is_settled(self) -> bool:
        """Whether every slot is."""
        return bool((self.delivered >= 0).all())


@dataclass(frozen=True, eq=False)
class Replay:
    """A session computed again. fills, bought, paid, shared: (orders, slots); the last three of
    bids: Wh delivered, money paid for them, penalties received."""

    session: Session
    book: Book
    fee: Ints
    band: Ints
    clearing: SessionClearing
    fills: Ints
    bought: Ints
    paid: Ints
    shared: Ints
    delivered: Ints
    credit: Ints
    held: Ints
    faults: tuple[str, ...]

    @property
    def slots(self) -> Ints:
        """Its slots."""
        first = self.session.first_slot
        return np.arange(first, first + self.session.slots, dtype=np.int64)


# Reading


def sessions_of(events: Events, period: Period) -> list[Session]:
    """The period's sessions, by first slot."""
    found: dict[int, Session] = {}
    for row in events.of("SessionOpened"):
        args = row.args
        if period.has(args["first_slot"]):
            if not 1 <= args["slots"] <= MAX_SESSION_SLOTS:
                raise CheckFailed(f"a session of {args['slots']} slots opened in block {row.block}")
            one = Session(args["first_slot"], args["slots"], args["gate"], args["penalty"], row)
            for name in ("price", "volume", "delivered", "fees", "penalties"):
                setattr(one, name, np.full(one.slots, -1, dtype=np.int64))
            found[one.first_slot] = one
    at_slot = {
        slot: one
        for one in found.values()
        for slot in range(one.first_slot, one.first_slot + one.slots)
    }
    for row in events.of("OrdersPosted"):
        _the(found, session_of(row)[1], row).pages.append(row)
    for row in events.of("OrderRejected"):
        # A batch for a session that it did not open may still be told of.
        if (told := found.get(session_of(row)[1])) is not None:
            told.rejected += 1
    for row in events.of("SessionVoided"):
        _the(found, row.args["first_slot"], row).void_from = row.args["from_slot"]
    for row in events.of("SlotCleared"):
        args = row.args
        if period.has(args["slot"]):
            one = _the(at_slot, args["slot"], row)
            at = args["slot"] - one.first_slot
            one.price[at], one.volume[at] = args["price"], args["volume_wh"]
    for row in events.of("SlotSettled"):
        args = row.args
        if period.has(args["slot"]):
            one = _the(at_slot, args["slot"], row)
            at = args["slot"] - one.first_slot
            one.delivered[at] = args["delivered_wh"]
            one.fees[at], one.penalties[at] = args["fees"], args["penalties"]
    for row in events.of("OrdersSettled"):
        _the(found, row.args["first_slot"], row).entries.append(row)
    return [found[first] for first in sorted(found)]


def _the(found: dict[int, Session], key: int, row: EventRow) -> Session:
    one = found.get(key)
    if one is None:
        raise CheckFailed(f"{row.event} in block {row.block} speaks of a session that never opened")
    return one


def read_book(session: Session) -> Book:
    """The orders in the session's pages. CheckFailed where the pages are no book."""
    where = f"the book of session {session.first_slot}"
    raw: list[bytes] = []
    blocks: list[int] = []
    hashed = 0
    for row in session.pages:
        page = bytes.fromhex(row.args["page"][2:])
        words = len(page) // _WORD
        if words not in PAGE_SIZES or len(page) % _WORD:
            raise CheckFailed(f"{where}: a page of {len(page)} bytes")
        hashed = fold(
            hashed, (int.from_bytes(page[i : i + 32], "big") for i in range(0, len(page), 32))
        )
        raw.append(page)
        blocks += [row.block] * words
    data = b"".join(raw)
    energy = np.frombuffer(data, dtype=">u2").reshape(-1, _PER_WORD)[:, ::-1].astype(np.int64)
    headers: list[tuple[int, ...]] = []
    rows: list[Ints] = []
    at, words = 0, len(data) // _WORD
    while at < words:
        header = int.from_bytes(data[at * _WORD : (at + 1) * _WORD], "big")
        offset, count = header >> 80 & 255, header >> 72 & 255
        if count == 0 or offset + count > session.slots:
            raise CheckFailed(f"{where}: an order of {count} slots from {offset}")
        wh = np.zeros(session.slots, dtype=np.int64)
        block = blocks[at]
        at += 1
        if header >> 128 & _PROFILE:
            skip = offset % _PER_WORD
            length = -(-(skip + count) // _PER_WORD)
            if at + length > words:
                raise CheckFailed(f"{where}: a profile is cut short")
            wh[offset : offset + count] = energy[at : at + length].ravel()[skip : skip + count]
            at += length
        else:
            wh[offset : offset + count] = header >> 88 & 0xFFFF
        rows.append(wh)
        headers.append(
            (
                header >> 224,
                header >> 128 & 1,
                header >> 104 & 0xFFFF,
                header >> 192 & 0xFFFFFFFF,
                offset,
                count,
                block,
            )
        )
    columns = np.array(headers, dtype=np.int64).reshape(-1, 7).T
    matrix = np.stack(rows) if rows else np.zeros((0, session.slots), dtype=np.int64)
    account, side, limit, mandate, first, length_, posted = (
        np.ascontiguousarray(column) for column in columns
    )
    return Book(account, side, limit, mandate, first, length_, posted, matrix, hashed)


# Replaying


def replay(session: Session, events: Events) -> Replay:
    """Clear and settle a session again; `faults` says where the chain's outcome differs."""
    book = read_book(session)
    rules, first, n = events.rules, session.first_slot, session.slots
    fee, low, high = (
        np.array(rules.per_slot(name, first, n, session.gate), dtype=np.int64)
        for name in ("grid_fee", "price_band_min", "price_band_max")
    )
    band = np.stack([low, high], axis=1)
    pairs = list(zip(low.tolist(), high.tolist(), strict=True))
    clearing = clear_session(book.side, book.limit, book.wh, band=pairs, fee=fee.tolist())
    faults = _clearing_faults(session, clearing)
    # Where nothing was cleared on chain nothing is filled, whatever the book would come to.
    traded = (session.price >= 0) & (session.price != NULL_PRICE) & ~session.is_void
    fills = np.where(traded, clearing.fills, 0)
    is_bid = book.side == BID
    delivered = np.where(traded, np.maximum(session.delivered, 0), 0)
    price = np.where(traded, session.price, 0)
    bids = np.where(is_bid[:, None], fills, 0)
    bought = share_columns(bids, delivered)
    paid = bought * (price + fee)
    shared = share_columns(bids, np.where(traded, np.maximum(session.penalties, 0), 0))
    held = book.wh.sum(axis=1) * np.where(is_bid, book.limit, session.penalty)
    sums = _entries(session, book)
    faults += _settlement_faults(session, book, fills, bought, paid, shared, held, fee, sums)
    return Replay(
        session=session,
        book=book,
        fee=fee,
        band=band,
        clearing=clearing,
        fills=fills,
        bought=bought,
        paid=paid,
        shared=shared,
        delivered=sums[0],
        credit=sums[2],
        held=held,
        faults=tuple(faults),
    )


def share_columns(weights: Ints, amounts: Ints) -> Ints:
    """`solver.share` for each column: weights (orders, slots), amounts (slots,)."""
    running = np.cumsum(weights, axis=0)
    total = running[-1] if len(running) else np.zeros_like(amounts)
    if (total.astype(np.float64) * amounts > 2.0**62).any():
        raise CheckFailed("an amount is beyond what a market can hold")
    upto = running * amounts // np.maximum(total, 1)
    return np.diff(upto, axis=0, prepend=np.zeros((1, upto.shape[1]), dtype=np.int64))


def _clearing_faults(session: Session, clearing: SessionClearing) -> list[str]:
    expected = np.array(clearing.chain_prices, dtype=np.int64)
    volume = np.array(clearing.volume_wh, dtype=np.int64)
    cleared = (session.price >= 0) & ~session.is_void
    wrong = np.flatnonzero(cleared & ((session.price != expected) | (session.volume != volume)))
    return [
        f"slot {session.first_slot + at}: the chain has price {_told(int(session.price[at]))} and "
        f"{session.volume[at]} Wh, the book gives {_told(int(expected[at]))} and {volume[at]} Wh"
        for at in wrong[:1].tolist()
    ]


def _told(price: int) -> str:
    return "none" if price == NULL_PRICE else str(price)


def _entries(session: Session, book: Book) -> tuple[Ints, Ints, Ints]:
    """Delivered, filled and credited per order, summed over the runs of a settlement."""
    sums = tuple(np.zeros(len(book), dtype=np.int64) for _ in range(3))
    for row in session.entries:
        data = bytes.fromhex(row.args["entries"][2:])
        if len(data) != 16 * len(book):
            raise CheckFailed(
                f"session {session.first_slot}: {len(data) // 16} orders settled of {len(book)}"
            )
        raw = np.frombuffer(data, dtype=np.uint8).reshape(-1, 16).astype(np.int64)
        account = _number(raw[:, :4])
        if not np.array_equal(account, book.account):
            raise CheckFailed(f"session {session.first_slot}: settled orders of other accounts")
        for total, part in zip(sums, (raw[:, 4:7], raw[:, 7:10], raw[:, 10:]), strict=True):
            total += _number(part)
    return sums[0], sums[1], sums[2]


def _number(columns: Ints) -> Ints:
    value = np.zeros(columns.shape[0], dtype=np.int64)
    for column in columns.T:
        value = (value << 8) | column
    return value


def _settlement_faults(
    session: Session,
    book: Book,
    fills: Ints,
    bought: Ints,
    paid: Ints,
    shared: Ints,
    held: Ints,
    fee: Ints,
    sums: tuple[Ints, Ints, Ints],
) -> list[str]:
    """What does not add up in a settled session; nothing is asked of one that is open."""
    if not session.is_settled:
        return []
    where = f"session {session.first_slot}"
    delivered, filled, credit = sums
    is_bid = book.side == BID
    asks = ~is_bid
    price = np.where(session.price == NULL_PRICE, 0, np.maximum(session.price, 0))
    faults = []

    def hold(what: str, mine: Any, chain: Any) -> None:
        if not np.array_equal(np.asarray(mine), np.asarray(chain)):
            faults.append(f"{where}: {what}: the chain has {_first(mine, chain)}")

    hold("Wh filled per order", fills.sum(axis=1), filled)
    hold("Wh delivered per bid", bought.sum(axis=1)[is_bid], delivered[is_bid])
    hold("Wh delivered by all asks", int(session.delivered.sum()), int(delivered[asks].sum()))
    hold("grid fees per slot", session.delivered * fee, session.fees)
    expected = (held - paid.sum(axis=1) + shared.sum(axis=1))[is_bid]
    hold("money returned per bid", expected, credit[is_bid])
    sellers = (
        int(held[asks].sum())
        + int((session.delivered * price).sum())
        - int(session.penalties.sum())
    )
    hold("money returned to all asks", sellers, int(credit[asks].sum()))
    hold("escrow", int(held.sum()), int(credit.sum()) + int(session.fees.sum()))
    # What one ask delivered in one slot is not public; its sums leave this much room.
    traded = price[session.delivered > 0]
    if traded.size:
        moved = (credit - held)[asks]
        most = delivered[asks] * int(traded.max())
        least = delivered[asks] * int(traded.min()) - session.penalty * (filled - delivered)[asks]
        if ((moved > most) | (moved < least)).any() or (delivered > filled).any():
            faults.append(f"{where}: an ask was paid more or less than its energy can come to")
    return faults[:1]


def _first(mine: Any, chain: Any) -> str:
    ours, theirs = np.atleast_1d(mine), np.atleast_1d(chain)
    at = int(np.flatnonzero(ours != theirs)[0])
    place = "" if ours.size == 1 else f" in place {at}"
    return f"{theirs[at]}, replayed {ours[at]}{place}"


# Tables


def market_tables(replays: Iterable[Replay], period: Period) -> dict[str, pa.Table]:
    """The tables sessions, orders, fills, prices, settlement and clearing."""
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in replays:
        rows["sessions"].append(_session_columns(one))
        rows["orders"].append(_order_columns(one))
        rows["fills"].append(_fill_columns(one))
        rows["prices"].append(_price_columns(one))
        rows["settlement"].append(_settlement_columns(one))
        rows["clearing"].append(_clearing_columns(one))
    names = ("sessions", "orders", "fills", "prices", "settlement", "clearing")
    return {name: _stacked(name, rows[name]) for name in names}


def _stacked(name: str, parts: list[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    table = TABLES[name]
    if not parts:
        return table.of_rows([])
    pieces = [table.of_columns(part, is_sorted=True) for part in parts]
    return pa.concat_tables(pieces).combine_chunks()


def _starts(slots: Ints) -> list[str]:
    return [start_text(int(slot)) for slot in slots]


def start_text(slot: int) -> str:
    """When a slot begins, as tables say it."""
    return slot_start(slot).strftime("%Y-%m-%dT%H:%MZ")


def _masked(values: Ints, known: npt.NDArray[np.bool_]) -> np.ma.MaskedArray[Any, Any]:
    return np.ma.MaskedArray(values, mask=~known)


def _session_columns(one: Replay) -> dict[str, Any]:
    session = one.session
    is_void = session.is_void
    cleared = int(((session.price >= 0) & ~is_void).sum())
    settled = int((session.delivered >= 0).sum())
    if session.is_settled:
        state = "void" if is_void.all() else "partly void" if is_void.any() else "settled"
    else:
        state = "open"
    held = int(one.held.sum())
    credited = int(one.credit.sum()) if session.is_settled else None
    fees = int(session.fees.sum()) if session.is_settled else None
    return {
        "session": [session.first_slot],
        "start": [start_text(session.first_slot)],
        "slots": [session.slots],
        "gate": [session.gate],
        "penalty": [session.penalty],
        "orders": [len(one.book)],
        "rejected": [session.rejected],
        "book_hash": [f"0x{one.book.hash:064x}"],
        "cleared_slots": [cleared],
        "settled_slots": [settled],
        "state": [state],
        "escrow": [held],
        "credited": [credited],
        "fees": [fees],
        "conserved": [None if credited is None or fees is None else held == credited + fees],
    }


def _order_columns(one: Replay) -> dict[str, Any]:
    book, session = one.book, one.session
    n = len(book)
    known = np.full(n, session.is_settled)
    return {
        "session": np.full(n, session.first_slot),
        "position": np.arange(n),
        "account": book.account,
        "side": [SIDES[side] for side in book.side.tolist()],
        "price_limit": book.limit,
        "mandate": book.mandate,
        "first_slot": book.offset + session.first_slot,
        "slots": book.count,
        "wh": book.wh.sum(axis=1),
        "escrow": one.held,
        "filled_wh": one.fills.sum(axis=1),
        "delivered_wh": _masked(one.delivered, known),
        "credit": _masked(one.credit, known),
        "block": book.block,
    }


def _fill_columns(one: Replay) -> dict[str, Any]:
    slot, order = np.nonzero(one.fills.T)
    is_bid = one.book.side[order] == BID
    known = is_bid & (one.session.delivered[slot] >= 0)
    return {
        "slot": slot + one.session.first_slot,
        "session": np.full(slot.size, one.session.first_slot),
        "position": order,
        "account": one.book.account[order],
        "side": [SIDES[side] for side in one.book.side[order].tolist()],
        "filled_wh": one.fills[order, slot],
        "delivered_wh": _masked(one.bought[order, slot], known),
        "paid": _masked(one.paid[order, slot], known),
    }


def _has_price(session: Session) -> npt.NDArray[np.bool_]:
    known: npt.NDArray[np.bool_] = (session.price >= 0) & (session.price != NULL_PRICE)
    return known & ~session.is_void


def _price_columns(one: Replay) -> dict[str, Any]:
    session, book = one.session, one.book
    is_bid = (book.side == BID)[:, None]
    return {
        "slot": one.slots,
        "start": _starts(one.slots),
        "session": np.full(session.slots, session.first_slot),
        "price": _masked(session.price, _has_price(session)),
        "volume_wh": np.where(_has_price(session), session.volume, 0),
        "bids": ((book.wh > 0) & is_bid).sum(axis=0),
        "asks": ((book.wh > 0) & ~is_bid).sum(axis=0),
        "bid_wh": np.where(is_bid, book.wh, 0).sum(axis=0),
        "ask_wh": np.where(is_bid, 0, book.wh).sum(axis=0),
        "fee": one.fee,
        "band_min": one.band[:, 0],
        "band_max": one.band[:, 1],
    }


def _settlement_columns(one: Replay) -> dict[str, Any]:
    session = one.session
    known = session.delivered >= 0
    priced = _has_price(session)
    turnover = np.where(priced, session.delivered * session.price, 0)
    states = np.where(~known, "open", np.where(session.is_void, "void", "settled"))
    return {
        "slot": one.slots,
        "start": _starts(one.slots),
        "session": np.full(session.slots, session.first_slot),
        "state": states.tolist(),
        "price": _masked(session.price, priced),
        "cleared_wh": np.where(priced, session.volume, 0),
        "delivered_wh": _masked(session.delivered, known),
        "turnover": _masked(turnover, known),
        "fees": _masked(session.fees, known),
        "buyers_paid": _masked(one.paid.sum(axis=0), known),
        "penalties": _masked(session.penalties, known),
    }


def _clearing_columns(one: Replay) -> dict[str, Any]:
    """What the economists ask of a clearing, at effective limits; the bound is weak duality's.

    As much is bought as sold, so at any price p an allocation is worth the gains of its orders at
    p, and no more than the gains of all that gain (docs/market.md).
    """
    session, book = one.session, one.book
    priced = _has_price(session)
    is_bid = (book.side == BID)[:, None]
    limits, inside = [], []
    for at in range(session.slots):
        limit, part = effective_limits(
            book.side,
            book.limit,
            band=(int(one.band[at, 0]), int(one.band[at, 1])),
            fee=int(one.fee[at]),
        )
        limits.append(limit)
        inside.append(np.ones(len(book), dtype=bool) if part is None else part)
    effective, taking_part = np.stack(limits, axis=1), np.stack(inside, axis=1)
    price = np.where(priced, session.price, 0)
    gain = np.where(is_bid, effective - price, price - effective)
    offered = np.where(taking_part, book.wh, 0)
    best = np.where(priced, (offered * np.maximum(gain, 0)).sum(axis=0), 0)
    welfare = np.where(priced, (one.fills * gain).sum(axis=0), 0)
    pays = np.where(is_bid, book.limit[:, None] < price + one.fee, book.limit[:, None] > price)
    return {
        "slot": one.slots,
        "start": _starts(one.slots),
        "price": _masked(session.price, priced),
        "replayed_price": [
            replayed if known else None
            for replayed, known in zip(one.clearing.prices, priced.tolist(), strict=True)
        ],
        "volume_wh": np.where(priced, session.volume, 0),
        "welfare": welfare,
        "best_welfare": best,
        "efficiency_ppm": _masked(welfare * 1_000_000 // np.maximum(best, 1), best > 0),
        "unbalanced_wh": np.where(is_bid, one.fills, -one.fills).sum(axis=0),
        "irrational": ((one.fills > 0) & pays).sum(axis=0),
        "envious": (priced & (gain > 0) & (one.fills < offered)).sum(axis=0),
    }
