# SPDX-License-Identifier: Apache-2.0
"""The whole market once more, in plain Python: the oracle of the stateful test.

Written from the rules, not from the contract: no packed words, no hashes, no running sums kept
between calls. What an operation should do is worked out from the full history each time. Each
operation raises `Refused` with the reason the contract must give, and then changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.dao.reference_market import canonical_price, effective_book, fills_at, four_sums

SLOT = 900
DAY = 86_400
NO_PRICE = 65_535
BID, ASK = 0, 1

UNKNOWN, MALFORMED, EXPIRED, ENERGY, NONCE, OPEN, POOR, SIGNATURE = range(1, 9)


class Refused(Exception):
    """The operation must revert with this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def require(condition: bool, reason: str) -> None:
    if not condition:
        raise Refused(reason)


@dataclass(frozen=True)
class Offer:
    """An order as its owner thinks of it; `values` are Wh per slot from `first_slot` on.

    `well_formed` and `well_signed` say what is wrong with the words that carry it.
    """

    account: int
    side: int
    limit: int
    first_slot: int
    values: tuple[int, ...]
    nonce: int
    expiry: int
    well_formed: bool = True
    well_signed: bool = True

    def at(self, slot: int) -> int:
        place = slot - self.first_slot
        return self.values[place] if 0 <= place < len(self.values) else 0


@dataclass
class Account:
    balance: int = 0
    open_orders: int = 0
    used: set[int] = field(default_factory=set)

    @property
    def first_unused(self) -> int:
        nonce = 0
        while nonce in self.used:
            nonce += 1
        return nonce

    def free(self, nonce: int) -> bool:
        return nonce not in self.used and self.first_unused <= nonce < self.first_unused + 16


@dataclass
class Session:
    first_slot: int
    slots: int
    gate: int
    penalty: int
    book: list[Offer] = field(default_factory=list)
    prices: list[int] = field(default_factory=list)
    settled: int = 0
    voided: bool = False

    @property
    def end(self) -> int:
        return (self.first_slot + self.slots) * SLOT

    def rate(self, order: Offer) -> int:
        """What an order puts in escrow per Wh."""
        return self.penalty if order.side == ASK else order.limit

    def escrow(self) -> int:
        """What the slots that are not settled hold."""
        return sum(
            self.rate(order) * order.at(slot)
            for order in self.book
            for slot in range(self.first_slot + self.settled, self.first_slot + self.slots)
        )


@dataclass
class Rule:
    """A rule's values with the time of each change; the first has stood for ever."""

    values: list[tuple[int, int]]
    cooldown: int

    def at(self, when: int) -> int:
        return [value for since, value in self.values if since <= when][-1]


@dataclass(frozen=True)
class Window:
    key: int
    first_slot: int
    slots: int
    value: int
    opened_at: int


@dataclass
class Key:
    name: str
    since: int
    until: int | None = None


@dataclass(frozen=True)
class Entry:
    """One order's part in a settlement."""

    account: int
    side: int
    delivered: int
    filled: int
    credit: int


@dataclass(frozen=True)
class Settlement:
    entries: list[Entry]
    delivered: list[int]
    fees: int


def shares(weights: list[int], amount: int) -> list[int]:
    """`amount` shared over the weights by cumulative rounding."""
    total, running, result = sum(weights), 0, []
    for weight in weights:
        before = running
        running += weight
        result.append(running * amount // total - before * amount // total if total else 0)
    return result


@dataclass
class Market:
    now: int
    rules: dict[int, Rule]
    accounts: dict[int, Account]
    keys: dict[int, list[Key]]
    sessions: dict[int, Session] = field(default_factory=dict)
    windows: list[Window] = field(default_factory=list)
    exports: dict[int, int] = field(default_factory=dict)
    committed_until: int = 0
    lodged: set[tuple[int, int]] = field(default_factory=set)
    fees_due: int = 0
    fees_paid: int = 0
    paid_out: int = 0

    # -- money ----------------------------------------------------------------------------

    def deposit(self, account: int, amount: int) -> None:
        require(account in self.accounts, "market: unknown account")
        self.accounts[account].balance += amount

    def withdraw(self, account: int, amount: int, *, by_owner: bool) -> None:
        require(by_owner, "market: caller is not the owner")
        require(amount <= self.accounts[account].balance, "market: balance too low")
        self.accounts[account].balance -= amount
        self.paid_out += amount

    def revoke(self, account: int, nonce: int, *, by_owner: bool) -> None:
        require(by_owner, "market: caller is not the owner")
        require(self.accounts[account].free(nonce), "market: nonce is not free")
        self.accounts[account].used.add(nonce)

    def collect_fees(self) -> None:
        self.fees_paid += self.fees_due
        self.fees_due = 0

    def escrow(self) -> int:
        return sum(session.escrow() for session in self.sessions.values())

    # -- rules ----------------------------------------------------------------------------

    def rule(self, key: int, when: int | None = None) -> int:
        return self.rules[key].at(self.now if when is None else when)

    def set_rule(self, key: int, value: int) -> None:
        rule = self.rules[key]
        if len(rule.values) > 1:
            require(self.now >= rule.values[-1][0] + rule.cooldown, "parameters: cooling down")
        rule.values.append((self.now, value))

    def open_window(self, key: int, first_slot: int, slots: int, value: int) -> None:
        require(first_slot * SLOT > self.now, "parameters: window has begun")
        for other in self.windows:
            require(
                other.key != key
                or first_slot + slots <= other.first_slot
                or other.first_slot + other.slots <= first_slot,
                "parameters: window overlaps another",
            )
        self.windows.append(Window(key, first_slot, slots, value, self.now))

    def term(self, key: int, slot: int, when: int) -> int:
        """The band's ends (5, 6) or the fee (7) of a slot, as in force at a time."""
        for window in self.windows:
            inside = window.first_slot <= slot < window.first_slot + window.slots
            if window.key == key and inside and window.opened_at <= when:
                return window.value
        return self.rule(key, when)

    # -- keys -----------------------------------------------------------------------------

    def rotate(self, meter: int, name: str) -> None:
        self._close(meter)
        require(len(self.keys[meter]) < 8, "registry: too many keys")
        self.keys[meter].append(Key(name, self.now))

    def suspend(self, meter: int) -> None:
        require(self.keys[meter][-1].until is None, "registry: no key in force")
        self._close(meter)

    def _close(self, meter: int) -> None:
        if self.keys[meter][-1].until is None:
            self.keys[meter][-1].until = self.now

    def key_at(self, meter: int, moment: int) -> str | None:
        for key in reversed(self.keys[meter]):
            if key.since <= moment and (key.until is None or moment < key.until):
                return key.name
        return None

    # -- posting --------------------------------------------------------------------------

    def shape(self, first_slot: int) -> Session:
        """The session that would open with the slot."""
        announced = first_slot * SLOT // DAY * DAY - DAY
        require(self.now > announced, "market: too early to post")
        slots = 96 // self.rule(1, announced)
        require(slots % 4 == 0 and 96 % slots == 0, "market: day does not divide")
        require(first_slot % slots == 0, "market: no session starts here")
        gate = first_slot * SLOT - self.rule(2, announced)
        return Session(first_slot, slots, gate, self.rule(8, announced))

    def post(self, first_slot: int, offers: list[Offer]) -> list[int]:
        """The reason per offer, 0 for those that joined the book."""
        session = self.sessions.get(first_slot) or self.shape(first_slot)
        require(self.now < session.gate, "market: the gate is closed")
        self.sessions[first_slot] = session
        return [self._place(session, offer) for offer in offers]

    def _place(self, session: Session, offer: Offer) -> int:
        account = self.accounts.get(offer.account)
        if account is None:
            return UNKNOWN
        last = offer.first_slot + len(offer.values)
        if not offer.well_formed or last > session.first_slot + session.slots:
            return MALFORMED
        if offer.expiry < self.now:
            return EXPIRED
        if max(offer.values) > self.rule(10) or sum(offer.values) < self.rule(9):
            return ENERGY
        if not account.free(offer.nonce):
            return NONCE
        if account.open_orders >= 32:
            return OPEN
        amount = session.rate(offer) * sum(offer.values)
        if amount > account.balance:
            return POOR
        if not offer.well_signed:
            return SIGNATURE
        account.balance -= amount
        account.open_orders += 1
        account.used.add(offer.nonce)
        session.book.append(offer)
        return 0

    # -- clearing -------------------------------------------------------------------------

    def known(self, first_slot: int) -> Session:
        require(first_slot in self.sessions, "market: no such session")
        return self.sessions[first_slot]

    def price_and_fills(self, session: Session, slot: int) -> tuple[int, list[int]]:
        """The canonical price of an absolute slot, and the fill of every order of the book."""
        low, high, fee = (self.term(key, slot, session.gate) for key in (5, 6, 7))
        book = [
            ("ask" if order.side == ASK else "bid", order.limit, order.at(slot))
            for order in session.book
        ]
        effective = effective_book(book, low, high, fee)
        price = canonical_price(effective, range(low, high + 1))
        if price is None:
            return NO_PRICE, [0] * len(book)
        return price, fills_at(effective, price)

    def why_not(self, session: Session, slot: int, price: int) -> str:
        """The reason against a price of an absolute slot that is not the canonical one."""
        if price == NO_PRICE:
            return "market: orders cross"
        low, high, fee = (self.term(key, slot, session.gate) for key in (5, 6, 7))
        book = [
            ("ask" if order.side == ASK else "bid", order.limit, order.at(slot))
            for order in session.book
        ]
        above, demand, below, supply = four_sums(effective_book(book, low, high, fee), price)
        if min(demand, supply) == 0:
            return "market: nothing trades here"
        if max(above, below) > min(demand, supply):
            return "market: price does not clear"
        return "market: price is not canonical"

    def due_prices(self, session: Session, run: int) -> list[int]:
        start = session.first_slot + len(session.prices)
        return [self.price_and_fills(session, slot)[0] for slot in range(start, start + run)]

    def clear(self, first_slot: int, run: int, *, whole_book: bool = True) -> None:
        """Clear the next `run` slots, at their canonical prices."""
        session = self.known(first_slot)
        require(not session.voided, "market: session is void")
        require(self.now >= session.gate, "market: the gate is open")
        deadline = session.gate + self.rule(3, session.gate)
        require(self.now <= deadline, "market: too late to clear")
        left = session.slots - len(session.prices)
        require(0 < run <= left, "market: slots out of range")
        require(whole_book, "market: not the session's orders")
        session.prices += self.due_prices(session, run)

    def void(self, first_slot: int) -> None:
        session = self.known(first_slot)
        require(not session.voided, "market: session is void")
        require(len(session.prices) < session.slots, "market: session is cleared")
        # Which rule holds at the gate is not known before it; the rules themselves refuse.
        require(self.now >= session.gate, "parameters: future lookup")
        deadline = session.gate + self.rule(3, session.gate)
        require(self.now > deadline, "market: can still be cleared")
        session.voided = True

    def abandon(self, first_slot: int) -> None:
        session = self.known(first_slot)
        require(session.settled < len(session.prices), "market: nothing to abandon")
        deadline = session.end + self.rule(16, session.gate)
        require(self.now > deadline, "market: can still be settled")
        session.prices = session.prices[: session.settled]
        session.voided = True

    # -- delivery -------------------------------------------------------------------------

    def commit(self, first_slot: int, exports: list[int]) -> None:
        require((first_slot + len(exports)) * SLOT <= self.now, "ledger: batch is not over")
        require(self.committed_until in (0, first_slot), "ledger: batch does not follow the last")
        for place, export in enumerate(exports):
            self.exports[first_slot + place] = export
        self.committed_until = first_slot + len(exports)

    def lodge(self, meter: int, first_slot: int, key: str) -> None:
        session = self.known(first_slot)
        require(self.now >= session.end, "market: delivery is not over")
        genuine = self.key_at(meter, session.end - 1) == key
        require(genuine, "market: not the device's receipt")
        self.lodged.add((meter, first_slot))

    def settle(
        self,
        first_slot: int,
        run: int,
        receipts: dict[int, tuple[list[int], str]],
        *,
        whole_book: bool = True,
    ) -> Settlement:
        """Settle the next `run` slots. receipts: meter -> (Wh per slot, name of the key)."""
        session = self.known(first_slot)
        stop = session.settled + run
        settleable = session.slots if session.voided else len(session.prices)
        require(run > 0, "market: slots out of range")
        require(stop <= settleable, "market: slots are not cleared")
        require(whole_book, "market: not the session's orders")
        slots = range(first_slot + session.settled, first_slot + stop)
        prices = {
            slot: session.prices[slot - first_slot]
            if slot - first_slot < len(session.prices)
            else NO_PRICE
            for slot in slots
        }
        trades = any(price != NO_PRICE for price in prices.values())
        if trades:
            require(self.now >= session.end, "market: delivery is not over")
            require(self.committed_until >= first_slot + stop, "market: readings not committed")
        for meter, (_, key) in receipts.items():
            genuine = self.key_at(meter, session.end - 1) == key
            require(genuine, "market: not the device's receipt")
        due = trades and self.now <= session.end + self.rule(4, session.gate)

        book = session.book
        filled, got, credit = [0] * len(book), [0] * len(book), [0] * len(book)
        delivered_by_slot, fees = [], 0
        for i, order in enumerate(book):
            credit[i] = session.rate(order) * sum(order.at(slot) for slot in slots)
        for slot in slots:
            delivered = missing = 0
            if prices[slot] != NO_PRICE:
                fee = self.term(7, slot, session.gate)
                price, fills = self.price_and_fills(session, slot)
                assert price == prices[slot], "a price does not move once the gate is closed"
                left = {m: values[slot - first_slot] for m, (values, _) in receipts.items()}
                for i, order in enumerate(book):
                    filled[i] += fills[i]
                    if order.side == ASK:
                        proven = min(fills[i], left.get(order.account, 0))
                        if order.account in left:
                            left[order.account] -= proven
                        missing += fills[i] - proven
                        served = min(proven, self.exports.get(slot, 0) - delivered)
                        got[i] += served
                        delivered += served
                        credit[i] += served * price - (fills[i] - proven) * session.penalty
                bought = [
                    fill if order.side == BID else 0
                    for order, fill in zip(book, fills, strict=True)
                ]
                energy = shares(bought, delivered)
                comfort = shares(bought, missing * session.penalty)
                for i in range(len(book)):
                    got[i] += energy[i]
                    credit[i] += comfort[i] - energy[i] * (price + fee)
                fees += delivered * fee
            delivered_by_slot.append(delivered)
        for i, order in enumerate(book):
            if order.side == ASK and filled[i] and order.account not in receipts:
                require(not due, "market: a receipt is outstanding")
                require(
                    (order.account, first_slot) not in self.lodged, "market: receipt was lodged"
                )

        for i, order in enumerate(book):
            self.accounts[order.account].balance += credit[i]
            if stop == session.slots:
                self.accounts[order.account].open_orders -= 1
        self.fees_due += fees
        session.settled = stop
        entries = [
            Entry(order.account, order.side, got[i], filled[i], credit[i])
            for side in (ASK, BID)
            for i, order in enumerate(book)
            if order.side == side
        ]
        return Settlement(entries, delivered_by_slot, fees)
