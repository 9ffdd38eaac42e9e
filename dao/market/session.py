# SPDX-License-Identifier: Apache-2.0
"""A session's way through the market, one plain function a step: post, clear, settle, void.

Whoever holds the session's orders may take any step; the contract checks it. The functions read
what is due from the chain, so running one twice, or after a crash, does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from dao.chain import Account, Contract, Receipt
from dao.eip712 import compact
from dao.errors import CheckFailed
from dao.market.book import session_book
from dao.market.orders import ASK, Order, order_chain, pack, pack_wh, unpack
from dao.market.solver import SessionClearing, clear_session

# Posting 120 orders costs about two million gas: far below a transaction's 16.7 million, and the
# receipts of smaller batches show earlier what was turned away.
POST_BATCH = 120
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
    BOOK_FULL = 9


@dataclass(frozen=True)
class SignedOrder:
    """An order with its owner's signature, 65 bytes r || s || v."""

    order: Order
    signature: bytes


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


@dataclass
class OrderNonces:
    """Hands out order numbers, from 0 for every account.

    The contract takes numbers inside a window that starts at the lowest unused one, so a number
    whose order was turned away has to be used again: else the window stays behind for good.
    """

    _next: dict[int, int] = field(default_factory=dict)
    _spare: dict[int, list[int]] = field(default_factory=dict)

    def take(self, account: int) -> int:
        """A number for the account's next order."""
        if spare := self._spare.get(account):
            return spare.pop(0)
        nonce = self._next.get(account, 0)
        self._next[account] = (nonce + 1) % NONCES
        return nonce

    def give_back(self, order: Order) -> None:
        """The order was turned away and its number is unused."""
        self._spare.setdefault(order.account, []).append(order.nonce)


def read_session(market: Contract, zone: int, first_slot: int) -> SessionState:
    """The session's state on chain."""
    slots, gate, cleared, settled, orders, penalty, void = market.call("session", zone, first_slot)
    return SessionState(slots, gate, cleared, settled, orders, penalty, void)


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
        receipt = market.transact(
            "post",
            zone,
            first_slot,
            [row for signed in part for row in pack(signed.order)],
            [half for signed in part for half in compact(signed.signature)],
            sender=relay,
        )
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


def posted_rows(market: Contract, zone: int, first_slot: int) -> list[int]:
    """The session's accepted words in order of arrival, read back from the chain's events.

    Raises CheckFailed where they do not fold into the session's running hash: the node left out
    some of them, or holds another chain than the contract's state.
    """
    events = market.chain.logs(
        [market.address],
        topics=[
            [market.interface.topic("OrdersPosted"), market.interface.topic("OrderRejected")],
            f"0x{zone:064x}",
            f"0x{first_slot:064x}",
        ],
    )
    rows: list[int] = []
    dropped: set[int] = set()
    for event in events:
        if event.name == "OrderRejected":
            # Logged before the batch it belongs to.
            dropped.add(int(event.args["position"]))
            continue
        for position, order in enumerate(unpack(event.args["rows"], first_slot)):
            if position not in dropped:
                rows.extend(pack(order))
        dropped.clear()
    expected = market.call("running_hashes", (zone << 64) | first_slot)
    if order_chain(bytes(32), rows) != expected:
        raise CheckFailed(f"the orders of session {first_slot} do not match its running hash")
    return rows


def solve(
    market: Contract, parameters: Contract, zone: int, first_slot: int, rows: Sequence[int]
) -> SessionClearing:
    """The canonical prices of a session's slots under the terms in force at its gate."""
    state = read_session(market, zone, first_slot)
    terms = parameters.call("market_terms", zone, first_slot, state.slots, state.gate)
    orders = unpack(rows, first_slot)
    book = session_book(orders, state.slots)
    return clear_session(
        book.side,
        book.limit,
        book.wh,
        band=[((t >> 16) & 0xFFFF, t >> 32) for t in terms],
        fee=[t & 0xFFFF for t in terms],
    )


def clear(
    market: Contract,
    parameters: Contract,
    zone: int,
    first_slot: int,
    rows: Sequence[int],
    sender: Account,
) -> SessionClearing | None:
    """Clear a session after its gate; None where there is nothing left to clear."""
    state = read_session(market, zone, first_slot)
    if state.cleared == state.slots:
        return None
    result = solve(market, parameters, zone, first_slot, rows)
    prices = result.chain_prices[state.cleared :]
    market.transact("clear", zone, first_slot, list(rows), prices, sender=sender)
    return result


def settle(
    market: Contract,
    zone: int,
    first_slot: int,
    rows: Sequence[int],
    receipts: Mapping[int, DeviceReceipt],
    sender: Account,
) -> Receipt | None:
    """Settle all slots of a session that are left; None where none is.

    receipts: by meter; those of meters without an ask are left out. Raises ContractReverted with
    the market's reason, for example while a receipt is outstanding.
    """
    state = read_session(market, zone, first_slot)
    last = state.slots if state.void else state.cleared
    if state.settled == last:
        return None
    asks = [(i, o.account) for i, o in enumerate(unpack(rows, first_slot)) if o.side == ASK]
    used = sorted({account for _, account in asks if account in receipts})
    words: list[int] = []
    signatures: list[bytes] = []
    for meter in used:
        receipt = receipts[meter]
        if len(receipt.exports) != state.slots:
            raise CheckFailed(f"the receipt of meter {meter} does not cover the session")
        words += [meter, *pack_wh(receipt.exports)]
        signatures += compact(receipt.signature)
    hints = [0] * ((state.orders + 15) // 16)
    for i, account in asks:
        if account in receipts:
            hints[i // 16] |= (used.index(account) + 1) << (16 * (i % 16))
    return market.transact(
        "settle",
        zone,
        first_slot,
        last - state.settled,
        list(rows),
        words,
        signatures,
        hints,
        sender=sender,
    )


@dataclass(frozen=True)
class Settled:
    """One order's part of a settlement; energy in Wh, money in token units."""

    account: int
    side: int
    delivered_wh: int
    filled_wh: int
    credit: int


def unpack_entry(entry: int) -> Settled:
    """A word of the event OrdersSettled."""
    wh = (1 << 48) - 1
    return Settled(
        account=entry >> 224,
        side=(entry >> 216) & 1,
        delivered_wh=(entry >> 168) & wh,
        filled_wh=(entry >> 120) & wh,
        credit=entry & ((1 << 120) - 1),
    )
