# SPDX-License-Identifier: Apache-2.0
"""The whole market once more, in plain Python: the oracle of the stateful test.

Written from the rules, not from the contracts: no packed words, no hashes, no running sums kept
between calls. What an operation should do is worked out from the full history each time. Each
operation raises `Refused` with the reason the contract must give, and then changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dao.market.session import Rejection
from tests.dao.reference_market import (
    Effective,
    canonical_price,
    effective_book,
    fills_at,
    four_sums,
)

SLOT = 900
DAY = 86_400
PAUSE = 3 * DAY
CENT = 10_000
BID, ASK = 0, 1
# Keys of the rules that the market reads.
SESSIONS, LEAD, CLEARING, RECEIPTS, BAND_MIN, BAND_MAX, FEE, PENALTY, MIN_WH, MAX_WH = range(1, 11)
FINALITY, ABANDON = 12, 16


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

    mandate: whose agent signs it, 0 for the owner. `well_formed` and `well_signed` say what is
    wrong with the words that carry it.
    """

    account: int
    mandate: int
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
class Numbers:
    """Order numbers that were used, and those that may be: sixteen from the first unused on."""

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
class Account:
    balance: int = 0
    open_orders: int = 0
    numbers: Numbers = field(default_factory=Numbers)


@dataclass
class Mandate:
    """side, limit: as in an order; cap: ten cents a day; last_day: of unix time."""

    agent: str
    side: int
    limit: int
    cap: int
    last_day: int
    numbers: Numbers = field(default_factory=Numbers)
    used_on: int = 0
    cents: int = 0
    ended: bool = False

    def cents_on(self, day: int) -> int:
        """What counts against the day's cap; only the last three bits of a day are remembered."""
        return self.cents if day % 8 == self.used_on % 8 else 0


@dataclass
class Session:
    first_slot: int
    slots: int
    gate: int
    penalty: int
    min_wh: int
    max_wh: int
    book: list[Offer] = field(default_factory=list)
    # None where nothing trades.
    prices: list[int | None] = field(default_factory=list)
    settled: int = 0
    voided: bool = False

    @property
    def end(self) -> int:
        return (self.first_slot + self.slots) * SLOT

    def rate(self, order: Offer) -> int:
        """What an order puts in escrow per Wh."""
        return self.penalty if order.side == ASK else order.limit

    def held(self, order: Offer, slots: Iterable[int]) -> int:
        return self.rate(order) * sum(order.at(slot) for slot in slots)

    def escrow(self) -> int:
        """What the slots that are not settled hold."""
        open_slots = range(self.first_slot + self.settled, self.first_slot + self.slots)
        return sum(self.held(order, open_slots) for order in self.book)


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
    mandates: dict[tuple[int, int], Mandate] = field(default_factory=dict)
    sessions: dict[int, Session] = field(default_factory=dict)
    windows: list[Window] = field(default_factory=list)
    exports: dict[int, int] = field(default_factory=dict)
    committed_until: int = 0
    lodged: set[tuple[int, int]] = field(default_factory=set)
    adjusted: set[tuple[int, int]] = field(default_factory=set)
    guarded: bool = True
    # Since when and until when the market pauses, or paused last.
    pauses: tuple[int, int] = (0, 0)
    fees_due: int = 0
    fees_paid: int = 0
    paid_out: int = 0

    # -- money ----------------------------------------------------------------------------

    def deposit(self, account: int, amount: int) -> None:
        require(account in self.accounts, "market: unknown account")
        self.accounts[account].balance += amount

    def deposit_with_permit(self, account: int, amount: int, *, well_signed: bool) -> None:
        require(well_signed, "market: permit is not valid")
        self.deposit(account, amount)

    def withdraw(self, account: int, amount: int, *, by_owner: bool) -> None:
        require(by_owner, "market: caller is not the owner")
        self._pay_out(account, amount)

    def withdraw_signed(
        self, account: int, nonce: int, amount: int, deadline: int, *, well_signed: bool
    ) -> None:
        numbers = self.accounts[account].numbers
        require(self.now <= deadline, "market: withdrawal has expired")
        require(numbers.free(nonce), "market: nonce is not free")
        require(well_signed, "market: not the owner's signature")
        self._pay_out(account, amount)
        numbers.used.add(nonce)

    def _pay_out(self, account: int, amount: int) -> None:
        require(amount <= self.accounts[account].balance, "market: balance too low")
        self.accounts[account].balance -= amount
        self.paid_out += amount

    def revoke(self, account: int, nonce: int, *, by_owner: bool) -> None:
        require(by_owner, "market: caller is not the owner")
        self._revoke(account, nonce)

    def revoke_signed(self, account: int, nonce: int, *, well_signed: bool) -> None:
        require(well_signed, "market: not the owner's signature")
        self._revoke(account, nonce)

    def _revoke(self, account: int, nonce: int) -> None:
        numbers = self.accounts[account].numbers
        require(numbers.free(nonce), "market: nonce is not free")
        numbers.used.add(nonce)

    def collect_fees(self) -> None:
        self.fees_paid += self.fees_due
        self.fees_due = 0

    def escrow(self) -> int:
        return sum(session.escrow() for session in self.sessions.values())

    # -- mandates -------------------------------------------------------------------------

    def grant(self, account: int, number: int, mandate: Mandate) -> None:
        require((account, number) not in self.mandates, "market: mandate number is used")
        self.mandates[account, number] = mandate

    def end_mandate(self, account: int, number: int) -> None:
        mandate = self.mandates.get((account, number))
        require(mandate is not None and not mandate.ended, "market: no such mandate")
        assert mandate is not None
        mandate.ended = True

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
        """The band's ends or the fee of a slot, as in force at a time."""
        for window in self.windows:
            inside = window.first_slot <= slot < window.first_slot + window.slots
            if window.key == key and inside and window.opened_at <= when:
                return window.value
        return self.rule(key, when)

    # -- keys -----------------------------------------------------------------------------

    def rotate(self, meter: int, name: str) -> None:
        require(len(self.keys[meter]) < 8, "registry: too many keys")
        if self.keys[meter][-1].until is None:
            self.keys[meter][-1].until = self.now
        self.keys[meter].append(Key(name, self.now))

    def suspend(self, meter: int) -> None:
        key = self._key_at(meter, self.now)
        require(key is not None, "registry: no key in force")
        assert key is not None
        key.until = self.now

    def report_conflict(self, meter: int, session: Session, signed_by: str) -> None:
        """Two receipts for the session that differ, both signed with the key of that name."""
        require(session.end <= self.now, "registry: delivery is not over")
        key = self._key_at(meter, session.end - 1)
        require(key is not None, "registry: no key in force")
        assert key is not None
        require(key.name == signed_by, "registry: not the device's receipt")
        key.until = max(session.first_slot * SLOT, key.since)

    def key_at(self, meter: int, moment: int) -> str | None:
        key = self._key_at(meter, moment)
        return key.name if key else None

    def _key_at(self, meter: int, moment: int) -> Key | None:
        for key in reversed(self.keys[meter]):
            if key.since <= moment and (key.until is None or moment < key.until):
                return key
        return None

    # -- pause ----------------------------------------------------------------------------

    def pause(self, first_slots: list[int], *, by_guardian: bool) -> None:
        """Pause, and void the sessions that are named."""
        require(by_guardian and self.guarded, "market: caller is not the guardian")
        since, until = self.pauses
        began = since if until > self.now else self.now
        pauses = (began, self.now + PAUSE)
        for first in first_slots:
            session = self.known(first)
            require(not session.voided, "market: session is void")
            require(pauses[0] <= session.gate < pauses[1], "market: the gate is not in the pause")
            require(len(session.prices) < session.slots, "market: session is cleared")
        self.guarded = False
        self.pauses = pauses
        for first in first_slots:
            self.sessions[first].voided = True

    def in_pause(self, session: Session) -> bool:
        return self.pauses[0] <= session.gate < self.pauses[1]

    # -- posting --------------------------------------------------------------------------

    def shape(self, first_slot: int) -> Session:
        """The session that would open with the slot."""
        announced = first_slot * SLOT // DAY * DAY - DAY
        require(self.now > announced, "market: too early to post")
        slots = 96 // self.rule(SESSIONS, announced)
        require(first_slot % slots == 0, "market: no session starts here")
        require(self.now >= self.pauses[1], "market: paused")
        return Session(
            first_slot,
            slots,
            first_slot * SLOT - self.rule(LEAD, announced),
            *[self.rule(key, announced) for key in (PENALTY, MIN_WH, MAX_WH)],
        )

    def post(self, first_slot: int, offers: list[Offer]) -> list[int]:
        """Why each offer is turned away, 0 for those that joined the book."""
        session = self.sessions.get(first_slot) or self.shape(first_slot)
        require(self.now < session.gate, "market: the gate is closed")
        require(not session.voided, "market: session is void")
        self.sessions[first_slot] = session
        return [self._place(session, offer) for offer in offers]

    def _place(self, session: Session, offer: Offer) -> int:
        account = self.accounts.get(offer.account)
        if account is None:
            return Rejection.UNKNOWN_ACCOUNT
        amount = session.rate(offer) * sum(offer.values)
        today = self.now // DAY
        mandate = self.mandates.get((offer.account, offer.mandate))
        if mandate and mandate.ended:
            mandate = None
        numbers = account.numbers
        no_mandate = beyond = False
        cents = -(-amount // CENT)
        if offer.mandate:
            no_mandate = mandate is None
            numbers = mandate.numbers if mandate else Numbers()
        if mandate:
            cents += mandate.cents_on(today)
            too_dear = offer.limit > mandate.limit
            too_cheap = offer.limit < mandate.limit
            beyond = (
                cents > 10 * mandate.cap
                or today > mandate.last_day
                or offer.side != mandate.side
                or (too_cheap if offer.side == ASK else too_dear)
            )
        last = offer.first_slot + len(offer.values)
        energy_ok = max(offer.values) <= session.max_wh and sum(offer.values) >= session.min_wh
        for wrong, reason in (
            (account.open_orders >= 32, Rejection.TOO_MANY_OPEN),
            (last > session.first_slot + session.slots, Rejection.MALFORMED),
            (offer.expiry < self.now, Rejection.EXPIRED),
            (not energy_ok, Rejection.ENERGY_BOUND),
            (not numbers.free(offer.nonce), Rejection.NONCE_USED),
            (amount > account.balance, Rejection.POOR),
            (no_mandate, Rejection.NO_MANDATE),
            (beyond, Rejection.BEYOND_MANDATE),
            (not offer.well_formed, Rejection.MALFORMED),
            (not offer.well_signed, Rejection.BAD_SIGNATURE),
        ):
            if wrong:
                return reason
        account.balance -= amount
        account.open_orders += 1
        numbers.used.add(offer.nonce)
        if mandate:
            mandate.cents, mandate.used_on = cents, today
        session.book.append(offer)
        return 0

    # -- clearing -------------------------------------------------------------------------

    def known(self, first_slot: int) -> Session:
        require(first_slot in self.sessions, "market: no such session")
        return self.sessions[first_slot]

    def band(self, session: Session, slot: int) -> tuple[int, int]:
        low, high = (self.term(key, slot, session.gate) for key in (BAND_MIN, BAND_MAX))
        return low, high

    def effective(self, session: Session, slot: int) -> Effective:
        """The book of an absolute slot, with limits as they count."""
        book = [
            ("ask" if order.side == ASK else "bid", order.limit, order.at(slot))
            for order in session.book
        ]
        fee = self.term(FEE, slot, session.gate)
        return effective_book(book, *self.band(session, slot), fee)

    def price_and_fills(self, session: Session, slot: int) -> tuple[int | None, list[int]]:
        """The canonical price of an absolute slot, and the fill of every order of the book."""
        low, high = self.band(session, slot)
        effective = self.effective(session, slot)
        price = canonical_price(effective, range(low, high + 1))
        if price is None:
            return None, [0] * len(session.book)
        return price, fills_at(effective, price)

    def witness(self, session: Session, slot: int) -> int:
        """A price with no ask below it, and if nothing trades no bid at or above it."""
        asks = [order[1] for order in self.effective(session, slot) if order and order[0] == "ask"]
        return min(asks, default=self.band(session, slot)[1] + 1)

    def why_not(self, session: Session, slot: int, price: int | None) -> str:
        """The reason against a price of an absolute slot that is not the canonical one."""
        if price is None:
            return "auction: orders cross"
        low, high = self.band(session, slot)
        if not low <= price <= high:
            return "auction: price outside the band"
        above, demand, below, supply = four_sums(self.effective(session, slot), price)
        if min(demand, supply) == 0:
            return "auction: nothing trades here"
        if max(above, below) > min(demand, supply):
            return "auction: price does not clear"
        return "auction: price is not canonical"

    def due_prices(self, session: Session, run: int) -> list[int | None]:
        start = session.first_slot + len(session.prices)
        return [self.price_and_fills(session, slot)[0] for slot in range(start, start + run)]

    def clear(self, first_slot: int, run: int, *, whole_book: bool = True) -> None:
        """Clear the next `run` slots, at their canonical prices."""
        session = self.known(first_slot)
        left = session.slots - len(session.prices)
        require(0 < run <= left, "auction: slots out of range")
        require(whole_book, "auction: not the session's orders")
        self._require_past_gate(session)
        deadline = session.gate + self.rule(CLEARING, session.gate)
        require(self.now <= deadline, "auction: too late to clear")
        require(not session.voided, "market: session is void")
        require(not self.in_pause(session), "market: the gate fell into a pause")
        session.prices += self.due_prices(session, run)

    def void(self, first_slot: int) -> None:
        session = self.known(first_slot)
        require(not session.voided, "market: session is void")
        if not self.in_pause(session):
            self._require_past_gate(session)
            deadline = session.gate + self.rule(CLEARING, session.gate)
            require(self.now > deadline, "market: can still be cleared")
        require(len(session.prices) < session.slots, "market: session is cleared")
        session.voided = True

    def _require_past_gate(self, session: Session) -> None:
        # Which rule holds at the gate is not known before it; the rules themselves refuse.
        require(self.now >= session.gate, "parameters: future lookup")

    def abandon(self, first_slot: int) -> None:
        session = self.known(first_slot)
        require(session.settled < len(session.prices), "market: nothing to abandon")
        deadline = session.end + self.rule(ABANDON, session.gate)
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
        require(self.now >= session.end, "receipts: delivery is not over")
        genuine = self.key_at(meter, session.end - 1) == key
        require(genuine, "receipts: not the device's receipt")
        self.lodged.add((meter, first_slot))

    def price_of(self, session: Session, slot: int) -> int | None:
        """What an absolute slot was cleared at; none where it is void or nothing traded."""
        place = slot - session.first_slot
        return session.prices[place] if place < len(session.prices) else None

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
        book = session.book
        stop = session.settled + run
        require(run > 0 and stop <= session.slots, "auction: slots out of range")
        require(whole_book, "auction: not the session's orders")
        slots = range(first_slot + session.settled, first_slot + stop)
        fills = {slot: [0] * len(book) for slot in slots}
        for slot in slots:
            price = self.price_of(session, slot)
            if price is not None:
                again, fills[slot] = self.price_and_fills(session, slot)
                assert again == price, "a price does not move once the gate is closed"
        filled = [sum(fills[slot][i] for slot in slots) for i in range(len(book))]
        needed = {o.account for o, wh in zip(book, filled, strict=True) if o.side == ASK and wh}
        if any(self.price_of(session, slot) is not None for slot in slots):
            require(self.now >= session.end, "auction: delivery is not over")
            require(self.committed_until >= first_slot + stop, "auction: readings not committed")
        late = self.now > session.end + self.rule(RECEIPTS, min(session.gate, self.now))
        for order, wh in zip(book, filled, strict=True):
            if order.side == ASK and wh and order.account not in receipts:
                require(late, "auction: a receipt is outstanding")
                binds = self.key_at(order.account, session.end - 1) is not None
                require(
                    (order.account, first_slot) not in self.lodged or not binds,
                    "auction: receipt was lodged",
                )
        for meter in needed & set(receipts):
            genuine = self.key_at(meter, session.end - 1) == receipts[meter][1]
            require(genuine, "auction: not the device's receipt")
        settleable = session.slots if session.voided else len(session.prices)
        require(stop <= settleable, "market: slots are not cleared")

        got, credit = [0] * len(book), [session.held(order, slots) for order in book]
        delivered_by_slot, fees = [], 0
        for slot in slots:
            delivered = missing = 0
            price = self.price_of(session, slot)
            if price is not None:
                fee = self.term(FEE, slot, session.gate)
                left = {m: values[slot - first_slot] for m, (values, _) in receipts.items()}
                for i, order in enumerate(book):
                    if order.side == ASK:
                        fill = fills[slot][i]
                        proven = min(fill, left.get(order.account, 0))
                        if order.account in left:
                            left[order.account] -= proven
                        missing += fill - proven
                        served = min(proven, self.exports.get(slot, 0) - delivered)
                        got[i] += served
                        delivered += served
                        credit[i] += served * price - (fill - proven) * session.penalty
                bought = self._bought(session, fills[slot])
                energy = shares(bought, delivered)
                comfort = shares(bought, missing * session.penalty)
                for i in range(len(book)):
                    got[i] += energy[i]
                    credit[i] += comfort[i] - energy[i] * (price + fee)
                fees += delivered * fee
            delivered_by_slot.append(delivered)

        for i, order in enumerate(book):
            self.accounts[order.account].balance += credit[i]
            if stop == session.slots:
                self.accounts[order.account].open_orders -= 1
        self.fees_due += fees
        session.settled = stop
        entries = [
            Entry(order.account, got[i], filled[i], credit[i]) for i, order in enumerate(book)
        ]
        return Settlement(entries, delivered_by_slot, fees)

    @staticmethod
    def _bought(session: Session, fills: list[int]) -> list[int]:
        return [
            fill if order.side == BID else 0
            for order, fill in zip(session.book, fills, strict=True)
        ]

    def adjust(
        self,
        first_slot: int,
        slot: int,
        meter: int,
        proved: int,
        kept: int,
        keys: tuple[str, str],
    ) -> int:
        """A meter takes back what is more than `kept` of what it proved for a slot; what its
        account gives back to the buyers. keys: that signed the receipt, and the correction."""
        session = self.known(first_slot)
        require(slot - first_slot < session.settled, "adjustments: slot is not settled")
        price = self.price_of(session, slot)
        require(price is not None, "adjustments: nothing traded here")
        assert price is not None
        deadline = session.end + self.rule(FINALITY, session.gate)
        require(self.now <= deadline, "adjustments: readings are final")
        require((meter, slot) not in self.adjusted, "adjustments: slot was adjusted")
        genuine = self.key_at(meter, session.end - 1)
        require(keys == (genuine, genuine), "receipts: not the device's receipt")
        _, fills = self.price_and_fills(session, slot)
        sold = sum(
            fill
            for order, fill in zip(session.book, fills, strict=True)
            if order.side == ASK and order.account == meter
        )
        back = min(sold, proved) - min(sold, kept)
        require(back > 0, "adjustments: nothing to take back")
        amount = min(back * price, self.accounts[meter].balance)
        self.accounts[meter].balance -= amount
        given = shares(self._bought(session, fills), amount)
        for order, money in zip(session.book, given, strict=True):
            self.accounts[order.account].balance += money
        self.adjusted.add((meter, slot))
        return amount
