# SPDX-License-Identifier: Apache-2.0
"""A session's way through the market, one plain function a step: post, clear, settle, void.

Whoever holds the session's orders may take any step; the contracts check it. The functions read
what is due from the chain, so running one twice, or after a crash, does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np

from dao.chain import Account, Contract, Receipt
from dao.eip712 import compact
from dao.errors import BadUse, CheckFailed
from dao.market.book import session_book
from dao.market.orders import (
    ASK,
    MAX_LIMIT,
    WH_PER_WORD,
    Order,
    Vouched,
    fold,
    pack,
    pack_wh,
    unpack,
)
from dao.market.settlement import settle_session
from dao.market.solver import NULL_PRICE, SessionClearing, clear_session, effective_limits

# Posting 120 orders costs about a million and a half gas: far below a transaction's 16.7 million,
# and the receipts of smaller batches show earlier what was turned away.
POST_BATCH = 120
# What the contract takes for the signature of a contract wallet.
WALLET_SIGNATURE_BYTES = 512
# A claim that nothing trades in a slot is this plus a witness.
NO_TRADE = 1 << 16
# Order numbers wrap here.
NONCES = 65_536


class Rejection(IntEnum):
    """Why the contract turned an order away."""

    UNKNOWN_ACCOUNT = 1
    MALFORMED = 2
    EXPIRED = 3
    ENERGY_BOUND = 4
    NONCE_USED = 5
    TOO_MANY_OPEN = 6
    POOR = 7
    BAD_SIGNATURE = 8
    NO_MANDATE = 9
    BEYOND_MANDATE = 10


@dataclass(frozen=True)
class SignedOrder:
    """An order with its signature: by the account's owner, or by the agent of its mandate.

    signature: 65 bytes r || s || v of a key; whatever a contract wallet takes for its own, up to
    512 bytes; empty where the signer posts in person.
    """

    order: Order
    signature: bytes
    vouched: Vouched = Vouched.BY_KEY


@dataclass(frozen=True)
class PostedBook:
    """A session's accepted words, page by page as the chain took them in."""

    first_slot: int
    pages: tuple[tuple[int, ...], ...]

    @property
    def rows(self) -> list[int]:
        """The words in order of arrival."""
        return [row for page in self.pages for row in page]

    @property
    def page_words(self) -> list[int]:
        """Words in each page, a byte a page, 32 to a word, lowest first."""
        sizes = bytes(len(page) for page in self.pages)
        return [int.from_bytes(sizes[i : i + 32], "little") for i in range(0, len(sizes), 32)]

    @property
    def orders(self) -> list[Order]:
        """The orders in order of arrival."""
        return unpack(self.rows, self.first_slot)

    @property
    def hash(self) -> int:
        """What the pages fold into."""
        value = 0
        for page in self.pages:
            value = fold(value, page)
        return value


@dataclass(frozen=True)
class SessionState:
    """A session as the contract has it; times in unix seconds, all zero before the first order."""

    slots: int
    gate: int
    cleared: int
    settled: int
    orders: int
    penalty: int
    void: bool


@dataclass(frozen=True)
class DeviceReceipt:
    """What a meter exported in each slot of a session, in Wh, signed by its device."""

    meter: int
    exports: tuple[int, ...]
    signature: bytes

    def as_tuple(self) -> tuple[list[int], int, int]:
        """Export words, r and vs, as the contracts' struct has them."""
        r, vs = (int.from_bytes(half, "big") for half in compact(self.signature))
        return pack_wh(self.exports), r, vs

    def as_words(self) -> list[int]:
        """r, vs and the export words, as a settlement brings them."""
        exports, r, vs = self.as_tuple()
        return [r, vs, *exports]


@dataclass
class OrderNonces:
    """Hands out order numbers, from 0 for every account and every mandate.

    The contract takes numbers inside a window that starts at the lowest unused one, so a number
    whose order was turned away has to be used again: else the window stays behind for good.
    """

    _next: dict[tuple[int, int], int] = field(default_factory=dict)
    _spare: dict[tuple[int, int], list[int]] = field(default_factory=dict)

    def take(self, account: int, mandate: int = 0) -> int:
        """A number for the next order of the account's owner, or under a mandate."""
        key = (account, mandate)
        if spare := self._spare.get(key):
            return spare.pop(0)
        nonce = self._next.get(key, 0)
        self._next[key] = (nonce + 1) % NONCES
        return nonce

    def give_back(self, order: Order) -> None:
        """The order was turned away and its number is unused."""
        self._spare.setdefault((order.account, order.mandate), []).append(order.nonce)


def read_session(market: Contract, zone: int, first_slot: int) -> SessionState:
    """The session's state on chain."""
    slots, gate, cleared, settled, orders, penalty, void = market.call("session", zone, first_slot)
    return SessionState(slots, gate, cleared, settled, orders, penalty, void)


def pack_batch(orders: Sequence[SignedOrder]) -> tuple[int, int, list[int]]:
    """A batch as `post` takes it: number of orders, number of their words, all words."""
    rows = [row for signed in orders for row in pack(signed.order, signed.vouched)]
    signatures = [word for signed in orders for word in _signature_words(signed)]
    return len(orders), len(rows), rows + signatures


def _signature_words(signed: SignedOrder) -> list[int]:
    if signed.vouched is Vouched.BY_CALLER:
        return []
    if signed.vouched is Vouched.BY_WALLET:
        if len(signed.signature) > WALLET_SIGNATURE_BYTES:
            raise BadUse(
                f"the wallet's signature has {len(signed.signature)} bytes; accepted: up to "
                f"{WALLET_SIGNATURE_BYTES}"
            )
        padded = signed.signature.ljust(WALLET_SIGNATURE_BYTES, b"\0")
        words = [int.from_bytes(padded[i : i + 32], "big") for i in range(0, len(padded), 32)]
        return [len(signed.signature), *words]
    return [int.from_bytes(half, "big") for half in compact(signed.signature)]


def post(
    market: Contract,
    zone: int,
    first_slot: int,
    orders: Sequence[SignedOrder],
    relay: Account,
) -> tuple[list[SignedOrder], list[tuple[SignedOrder, Rejection]]]:
    """Post signed orders; the relay pays the gas. Returns those accepted, in order of arrival,
    and those turned away with the reason."""
    accepted: list[SignedOrder] = []
    rejected: list[tuple[SignedOrder, Rejection]] = []
    for start in range(0, len(orders), POST_BATCH):
        part = orders[start : start + POST_BATCH]
        receipt = market.transact("post", zone, first_slot, *pack_batch(part), sender=relay)
        reasons = {
            int(e.args["position"]): Rejection(int(e.args["reason"]))
            for e in receipt.events
            if e.name == "OrderRejected"
        }
        for position, signed in enumerate(part):
            if position in reasons:
                rejected.append((signed, reasons[position]))
            else:
                accepted.append(signed)
    return accepted, rejected


def session_key(zone: int, first_slot: int) -> int:
    """How the market's events name a session."""
    return zone << 64 | first_slot


def read_book(market: Contract, zone: int, first_slot: int) -> PostedBook:
    """The session's book, read back from the chain's events; empty where nothing was posted.

    Raises CheckFailed where the pages do not fold into the book's hash: the node left out some of
    them, or holds another chain than the contract's state.
    """
    events = market.chain.logs(
        [market.address],
        topics=[market.interface.topic("OrdersPosted"), f"0x{session_key(zone, first_slot):064x}"],
    )
    pages = []
    for event in events:
        data = bytes(event.args["page"])
        pages.append(
            tuple(int.from_bytes(data[i : i + 32], "big") for i in range(0, len(data), 32))
        )
    book = PostedBook(first_slot, tuple(pages))
    if pages and book.hash != market.call("session_words", zone, first_slot)[1] >> 24 << 24:
        raise CheckFailed(f"the orders of session {first_slot} do not match its book's hash")
    return book


@dataclass(frozen=True)
class Terms:
    """Fee and price band of a session's slots as in force at its gate, µ€/Wh per slot."""

    fee: tuple[int, ...]
    band: tuple[tuple[int, int], ...]


def read_terms(parameters: Contract, zone: int, first_slot: int, slots: int, when: int) -> Terms:
    """The terms of a run of slots within a day, as in force at the unix time `when`."""
    words = parameters.call("market_terms", zone, first_slot, slots, when)
    return Terms(
        fee=tuple(t & 0xFFFF for t in words),
        band=tuple(((t >> 16) & 0xFFFF, t >> 32) for t in words),
    )


def solve(orders: Sequence[Order], slots: int, terms: Terms) -> SessionClearing:
    """The canonical prices and fills of a session."""
    book = session_book(orders, slots)
    return clear_session(book.side, book.limit, book.wh, band=terms.band, fee=terms.fee)


def claims(
    orders: Sequence[Order], slots: int, terms: Terms, prices: Sequence[int | None]
) -> list[int]:
    """The session's prices as the auction takes them.

    Where nothing trades the claim names a witness: a price with no bid at or above it and no ask
    below it, here the lowest ask, or else the price just above the band.
    """
    book = session_book(orders, slots)
    claimed = []
    for slot, price in enumerate(prices):
        if price is not None:
            claimed.append(price)
            continue
        effective, inside = effective_limits(
            book.side, book.limit, band=terms.band[slot], fee=terms.fee[slot]
        )
        asks = effective[(book.side == ASK) & (book.wh[:, slot] > 0) & inside]
        witness = int(np.min(asks, initial=terms.band[slot][1] + 1))
        claimed.append(NO_TRADE + witness)
    return claimed


def clear(
    auction: Contract,
    market: Contract,
    parameters: Contract,
    zone: int,
    book: PostedBook,
    sender: Account,
    *,
    slots: int | None = None,
) -> SessionClearing | None:
    """Clear a session after its gate; None where there is nothing left to clear.

    slots: how many slots this transaction clears at most; the rest is left to the next call.
    """
    state = read_session(market, zone, book.first_slot)
    if state.cleared == state.slots:
        return None
    terms = read_terms(parameters, zone, book.first_slot, state.slots, state.gate)
    orders = book.orders
    result = solve(orders, state.slots, terms)
    claimed = claims(orders, state.slots, terms, result.prices)[state.cleared :]
    auction.transact(
        "clear",
        zone,
        book.first_slot,
        claimed[:slots],
        book.page_words,
        book.rows,
        sender=sender,
    )
    return result


def settle(
    auction: Contract,
    market: Contract,
    zone: int,
    book: PostedBook,
    receipts: Mapping[int, DeviceReceipt],
    sender: Account,
    *,
    slots: int | None = None,
) -> Receipt | None:
    """Settle the slots of a session that are left; None where none is.

    receipts: by meter; those of meters without a filled ask are left out. slots: how many slots
    this transaction settles at most. Raises ContractReverted with the auction's reason, for example
    while a receipt is outstanding.
    """
    state = read_session(market, zone, book.first_slot)
    last = state.slots if state.void else state.cleared
    if state.settled == last:
        return None
    run = range(state.settled, last if slots is None else min(last, state.settled + slots))
    words = market.call("clearing_words", zone, book.first_slot, state.slots)
    ledger = market.chain.at("ReadingLedger", auction.call("contracts")[3])
    totals = ledger.call("totals", zone, book.first_slot, state.slots)
    batch = settlement_batch(
        book, state, words, receipts, zone_export=[total >> 32 for total in totals], run=run
    )
    return auction.transact(
        "settle",
        zone,
        book.first_slot,
        len(run),
        len(book.page_words),
        len(book.rows),
        batch,
        sender=sender,
    )


def settlement_batch(
    book: PostedBook,
    state: SessionState,
    clearing_words: Sequence[int],
    receipts: Mapping[int, DeviceReceipt],
    *,
    zone_export: Sequence[int],
    run: range,
) -> list[int]:
    """The words with which the auction settles a run of a session's slots.

    clearing_words: per slot what the market says it came to; receipts: by meter, one that is needed
    and not there is sent as missing; zone_export: Wh per slot of the session; run: slots, counted
    from the session's first. In turn: the pages' sizes, what each slot comes to, the book, and the
    receipts in the order in which the meters' asks are first filled.
    """
    orders = book.orders
    cleared = [
        word if i < state.cleared and word & 0xFFFF != NULL_PRICE else 0
        for i, word in enumerate(clearing_words)
    ]
    # A slot without price has a band that nobody's limit meets.
    terms = Terms(
        fee=tuple((word >> 16) & 0xFFFF if word else MAX_LIMIT for word in cleared),
        band=tuple(
            ((word >> 32) & 0xFFFF, (word >> 48) & 0xFFFF) if word else (0, 0) for word in cleared
        ),
    )
    solved = solve(orders, state.slots, terms)
    fills = np.array(solved.fills, dtype=np.int64)
    fills[:, [not word for word in cleared]] = 0
    prices = tuple(
        price if word else None for price, word in zip(solved.prices, cleared, strict=True)
    )
    for price, word in zip(prices, cleared, strict=True):
        if word and price != word & 0xFFFF:
            raise CheckFailed(f"session {book.first_slot} was not cleared with this book")
    asks = [i for i, order in enumerate(orders) if order.side == ASK]
    here = list(run)
    needed = list(dict.fromkeys(orders[i].account for i in asks if fills[i, here].any()))
    used = {meter: receipts[meter] for meter in needed if meter in receipts}
    for meter, receipt in used.items():
        if len(receipt.exports) != state.slots:
            raise CheckFailed(f"the receipt of meter {meter} does not cover the session")
    settled = settle_session(
        orders,
        state.slots,
        replace(solved, prices=prices, fills=fills),
        {meter: receipt.exports for meter, receipt in used.items()},
        zone_export,
        terms.fee,
        state.penalty,
    )
    delivered = settled.delivered_wh[asks].sum(axis=0)
    outcomes = [int(delivered[slot]) | int(settled.missing_wh[slot]) << 48 for slot in run]
    absent = [0] * (2 + -(-state.slots // WH_PER_WORD))
    papers = [
        word for meter in needed for word in (used[meter].as_words() if meter in used else absent)
    ]
    return [*book.page_words, *outcomes, *book.rows, *papers]


def lodge(
    auction: Contract, zone: int, first_slot: int, delivery: DeviceReceipt, sender: Account
) -> Receipt:
    """Put a device's receipt on record, so that nobody can settle late as if it were missing."""
    return auction.transact(
        "lodge_receipt", delivery.meter, zone, first_slot, delivery.as_tuple(), sender=sender
    )


def adjust(
    adjustments: Contract,
    zone: int,
    book: PostedBook,
    slot: int,
    receipt: DeviceReceipt,
    correction: DeviceReceipt,
    sender: Account,
) -> Receipt:
    """Have a seller give back what it was paid for energy that its meter takes back.

    slot: absolute; receipt: as settled; correction: what the device signs now
    (`correction_digest`). Raises ContractReverted with the contract's reason.
    """
    return adjustments.transact(
        "adjust",
        zone,
        book.first_slot,
        slot,
        receipt.meter,
        receipt.as_tuple(),
        correction.as_tuple(),
        book.page_words,
        book.rows,
        sender=sender,
    )


@dataclass(frozen=True)
class Settled:
    """One order's part of a settlement; energy in Wh, money in token units."""

    account: int
    delivered_wh: int
    filled_wh: int
    credit: int


def unpack_entries(entries: bytes) -> list[Settled]:
    """The entries of the event OrdersSettled: sixteen bytes an order, in order of arrival."""
    halves = [int.from_bytes(entries[i : i + 16], "big") for i in range(0, len(entries), 16)]
    return [
        Settled(
            account=half >> 96,
            delivered_wh=(half >> 72) & 0xFFFFFF,
            filled_wh=(half >> 48) & 0xFFFFFF,
            credit=half & (1 << 48) - 1,
        )
        for half in halves
    ]
