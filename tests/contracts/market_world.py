# SPDX-License-Identifier: Apache-2.0
"""A market with its people on titanoboa: real contracts, real signatures, a clock to turn.

The world signs orders and receipts with the project's own packing (tests/dao proves that against
eth-account), reads the books back from the market's events, and checks the laws of conservation
against sums of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import boa
import coincurve

from dao.eip712 import address_of, compact, keccak, sign_digest
from dao.ledger import pack_totals
from dao.market.orders import (
    ASK,
    BID,
    Order,
    market_separator,
    order_digest,
    receipt_digest,
)
from dao.market.session import (
    DeviceReceipt,
    PostedBook,
    Rejection,
    SessionState,
    Settled,
    SignedOrder,
    Terms,
    claims,
    pack_batch,
    settlement_batch,
    unpack_entries,
)
from dao.parameters import MARKET_RULES
from tests.contracts.compiling import compiled

ZONE = 1
NO_PRICE = 65_535
# 2016-06-06 00:00 UTC, a Monday; any day would do.
DAY_SLOT = 1_465_171_200 // 900
EURO = 1_000_000
CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
# The test token lives on local chains only.
CHAIN_ID = 31_337
# With sessions of four slots, as the tests have them: one hour before the first, and after the
# last.
GATE = DAY_SLOT - 4
END = DAY_SLOT + 4


def key_of(name: str) -> bytes:
    return keccak(name.encode())


def key_with_twin(digest: bytes) -> tuple[bytes, int, int, int]:
    """A key, and r and two forms of `vs` with which it signed the digest: the lower, which may be
    taken, and its malleable twin with an s in the upper half.

    Hardly any such s fits beside the parity bit, so the key is made to suit one that does.
    """
    k, s = 12_345, CURVE_ORDER // 2 + 1
    x, y = coincurve.PrivateKey(k.to_bytes(32, "big")).public_key.point()
    # From s = (digest + x key) / k.
    secret = (s * k - int.from_bytes(digest, "big")) * pow(x, -1, CURVE_ORDER) % CURVE_ORDER
    lower = CURVE_ORDER - s | (1 - (y & 1)) << 255
    return secret.to_bytes(32, "big"), x, lower, s | (y & 1) << 255


def load(name: str, *args: Any) -> Any:
    """Deploy a contract."""
    return compiled(name).deploy(*args)


def logged(contract: Any, name: str) -> list[Any]:
    """The events of a name in the contract's last call, its callees' included."""
    return [e for e in contract.get_logs(strict=False) if type(e).__name__ == name]


@dataclass
class World:
    token: Any
    parameters: Any
    registry: Any
    ledger: Any
    market: Any
    auction: Any
    adjustments: Any
    deployer: str
    treasury: str
    guardian: str
    collector: str
    separator: bytes
    # By the session's first slot: the pages of its book, as the market logged them.
    book: dict[int, list[tuple[int, ...]]] = field(default_factory=dict)
    # Orders made since the last batch: their numbers are taken.
    pending: list[Order] = field(default_factory=list)
    # Whether sessions are settled slot by slot where nothing else is asked for.
    singly: bool = False
    # Accounts that were ever given money: nobody else has any.
    funded: set[int] = field(default_factory=set)

    # -- time ------------------------------------------------------------------------------

    def at(self, slot: int, offset: int = 0) -> None:
        """Turn the clock to `offset` seconds after the start of the slot."""
        boa.env.timestamp = slot * 900 + offset

    # -- people ----------------------------------------------------------------------------

    def owner_key(self, account: int) -> bytes:
        return key_of(f"owner {account}")

    def device_key(self, meter: int) -> bytes:
        return key_of(f"device {meter}")

    def owner(self, account: int) -> str:
        return address_of(self.owner_key(account))

    def join(
        self, owner: str | None = None, *, device: str | None = None, funds: int = 100 * EURO
    ) -> int:
        """One metering point more, with an open account; its owner may be a contract."""
        number = int(self.registry.meter_count()) + 1
        self.registry.register_batch(
            [owner or self.owner(number)],
            [device or address_of(self.device_key(number))],
            ZONE,
            sender=self.deployer,
        )
        self.market.open_accounts([number])
        self.fund([number], funds)
        return number

    def fund(self, accounts: Iterable[int], amount: int) -> None:
        numbers = list(accounts)
        self.funded.update(numbers)
        with boa.env.prank(self.deployer):
            self.token.mint(self.deployer, amount * len(numbers))
            self.token.approve(self.market.address, amount * len(numbers))
            self.market.deposit(numbers, [amount] * len(numbers))

    def balance(self, account: int) -> int:
        return int(self.market.account(account)[1])

    # -- orders ----------------------------------------------------------------------------

    def order(
        self,
        account: int,
        side: int,
        limit: int,
        wh: int | tuple[int, ...],
        *,
        mandate: int = 0,
        session: int = DAY_SLOT,
        nonce: int | None = None,
        expiry: int | None = None,
        offset: int = 0,
        count: int = 1,
    ) -> Order:
        """An order with the next free number of its account or mandate, unless told otherwise."""
        order = Order(
            account=account,
            mandate=mandate,
            nonce=self.free_nonce(account, mandate) if nonce is None else nonce,
            expiry=session * 900 if expiry is None else expiry,
            side=side,
            limit=limit,
            session_slot=session,
            offset=offset,
            wh=wh,
            count=len(wh) if isinstance(wh, tuple) else count,
        )
        self.pending.append(order)
        return order

    def free_nonce(self, account: int, mandate: int = 0) -> int:
        if mandate:
            base, bits = self.market.mandate(account, mandate)[2:]
        else:
            base, bits = self.market.account(account)[4:]
        taken = {o.nonce for o in self.pending if (o.account, o.mandate) == (account, mandate)}
        nonce = int(base)
        while nonce in taken or bits >> (nonce - base) & 1:
            nonce += 1
        return nonce

    def sign(self, order: Order, key: bytes | None = None) -> SignedOrder:
        """The order with its owner's signature, or with that of another key."""
        key = key or self.owner_key(order.account)
        return SignedOrder(order, sign_digest(key, order_digest(self.separator, order)))

    def signature(self, order: Order, key: bytes | None = None) -> list[int]:
        """The two words of the order's signature."""
        return [int.from_bytes(part, "big") for part in compact(self.sign(order, key).signature)]

    def post(
        self,
        orders: Sequence[Order | SignedOrder],
        *,
        session: int = DAY_SLOT,
        zone: int = ZONE,
        sender: str | None = None,
    ) -> list[int]:
        """Post a batch; returns why each was turned away, 0 where it was not. Orders without a
        signature are signed by their owners."""
        signed = [self.sign(o) if isinstance(o, Order) else o for o in orders]
        count, rows, words = pack_batch(signed)
        return self.post_words(count, rows, words, session=session, zone=zone, sender=sender)

    def post_words(
        self,
        count: int,
        rows: int,
        words: Sequence[int],
        *,
        session: int = DAY_SLOT,
        zone: int = ZONE,
        sender: str | None = None,
    ) -> list[int]:
        self.market.post(zone, session, count, rows, list(words), sender=sender or self.deployer)
        reasons = {e.position: int(e.reason) for e in logged(self.market, "OrderRejected")}
        self.take_down()
        self.pending.clear()
        self.check_conservation()
        return [Rejection(reasons[i]) if i in reasons else 0 for i in range(count)]

    def take_down(self) -> None:
        """Add what the last call logged to the books."""
        for event in logged(self.market, "OrdersPosted"):
            page = bytes(event.page)
            words = tuple(int.from_bytes(page[i : i + 32], "big") for i in range(0, len(page), 32))
            self.book.setdefault(event.session & 2**64 - 1, []).append(words)

    def posted(self, session: int = DAY_SLOT) -> PostedBook:
        """The session's book."""
        return PostedBook(session, tuple(self.book.get(session, ())))

    def orders(self, session: int = DAY_SLOT) -> list[Order]:
        """The orders of the session's book, in order of arrival."""
        return self.posted(session).orders

    # -- clearing --------------------------------------------------------------------------

    def clear(
        self,
        prices: Sequence[int | None],
        *,
        session: int = DAY_SLOT,
        book: PostedBook | None = None,
    ) -> None:
        """Clear the next slots at these prices, None where nothing trades."""
        book = book or self.posted(session)
        self.auction.clear(
            ZONE,
            session,
            self.claims(prices, session=session),
            book.page_words,
            book.rows,
            sender=self.deployer,
        )
        self.check_conservation()

    def claims(self, prices: Sequence[int | None], *, session: int = DAY_SLOT) -> list[int]:
        """The prices as the auction takes them, with a witness where nothing trades."""
        slots, gate, cleared, *_ = self.market.session(ZONE, session)
        # The right witness is known only once the gate has closed.
        when = min(int(gate), boa.env.timestamp)
        words = self.parameters.market_terms(ZONE, session, slots, when)
        terms = Terms(
            tuple(t & 0xFFFF for t in words), tuple((t >> 16 & 0xFFFF, t >> 32) for t in words)
        )
        wanted = [*[0] * cleared, *prices][:slots]
        return claims(self.orders(session), slots, terms, wanted)[cleared:]

    # -- delivery --------------------------------------------------------------------------

    def commit(
        self, first_slot: int, export: Sequence[int], net: Sequence[int] | None = None
    ) -> None:
        """Commit the next batch of the zone's totals, Wh per slot."""
        self.ledger.commit(
            ZONE,
            first_slot,
            len(export),
            keccak(b"root"),
            15,
            15 * len(export),
            pack_totals([-e for e in export] if net is None else net, export),
            sender=self.collector,
        )

    def receipt(
        self,
        meter: int,
        exports: Sequence[int],
        *,
        session: int = DAY_SLOT,
        key: bytes | None = None,
        separator: bytes | None = None,
    ) -> DeviceReceipt:
        """A meter's receipt, signed by its first device unless told otherwise."""
        digest = receipt_digest(separator or self.separator, meter, session, exports)
        return DeviceReceipt(
            meter, tuple(exports), sign_digest(key or self.device_key(meter), digest)
        )

    def lodge(self, receipt: DeviceReceipt, *, session: int = DAY_SLOT) -> None:
        self.auction.lodge_receipt(receipt.meter, ZONE, session, receipt.as_tuple())

    def settlement(
        self,
        exports: dict[int, Sequence[int]] | Sequence[DeviceReceipt],
        *,
        slots: int = 4,
        session: int = DAY_SLOT,
        other_book: PostedBook | None = None,
    ) -> list[Any]:
        """All that the auction's `settle` takes, to settle the next slots with these receipts.

        other_book: to bring instead of the session's, with all else as it should be.
        """
        receipts = (
            [self.receipt(m, values, session=session) for m, values in exports.items()]
            if isinstance(exports, dict)
            else exports
        )
        book = self.posted(session)
        state = SessionState(*self.market.session(ZONE, session))
        batch = settlement_batch(
            book,
            state,
            self.market.clearing_words(ZONE, session, state.slots),
            {receipt.meter: receipt for receipt in receipts},
            zone_export=[t >> 32 for t in self.ledger.totals(ZONE, session, state.slots)],
            run=range(state.settled, min(state.settled + slots, state.slots)),
        )
        if other_book:
            outcomes = batch[len(book.page_words) :][: min(slots, state.slots - state.settled)]
            papers = batch[len(book.page_words) + len(outcomes) + len(book.rows) :]
            book = other_book
            batch = [*book.page_words, *outcomes, *book.rows, *papers]
        return [ZONE, session, slots, len(book.page_words), len(book.rows), batch]

    def settle(
        self,
        exports: dict[int, Sequence[int]] | Sequence[DeviceReceipt],
        *,
        slots: int | None = None,
        session: int = DAY_SLOT,
        other_book: PostedBook | None = None,
        edit: Callable[[list[Any]], list[Any]] | None = None,
    ) -> list[Settled]:
        """Settle the next slots; returns each order's part, in order of arrival.

        slots: in one transaction; None for the whole session, singly or at once. other_book: as
        for `settlement`. edit: changes the arguments.
        """
        if slots is None:
            slots = int(self.market.session(ZONE, session)[0])
            if self.singly:
                options: dict[str, Any] = {"session": session, "other_book": other_book}
                runs = [self.settle(exports, slots=1, edit=edit, **options) for _ in range(slots)]
                return [
                    Settled(
                        parts[0].account,
                        *[
                            sum(getattr(part, name) for part in parts)
                            for name in ("delivered_wh", "filled_wh", "credit")
                        ],
                    )
                    for parts in zip(*runs, strict=True)
                ]
        arguments = self.settlement(exports, slots=slots, session=session, other_book=other_book)
        self.auction.settle(*(edit(arguments) if edit else arguments), sender=self.deployer)
        (event,) = logged(self.auction, "OrdersSettled")
        self.check_conservation()
        return unpack_entries(event.entries)

    # -- laws ------------------------------------------------------------------------------

    def escrow(self) -> int:
        """What the orders of slots that are not settled have put in."""
        total = 0
        for first in self.book:
            slots, _, _, settled, _, penalty, _ = self.market.session(ZONE, first)
            for order in self.orders(first):
                rate = penalty if order.side == ASK else order.limit
                total += rate * sum(map(order.at, range(first + settled, first + slots)))
        return total

    def check_conservation(self) -> None:
        """Tokens held = what accounts have and what their orders put in + fees due."""
        accounts = sum(map(self.balance, self.funded))
        assert self.market.owed() == accounts + self.escrow()
        held = self.token.balanceOf(self.market.address)
        assert held == self.market.owed() + self.market.fees_due()


def traded(world: World, wh: int = 1_000, bid: int = 400, ask: int = 100) -> None:
    """Account 1 sells to account 2 in the first slot, cleared at the only canonical price."""
    assert world.post([world.order(1, ASK, ask, wh), world.order(2, BID, bid, wh)]) == [0, 0]
    world.at(GATE)
    # The interval of clearing prices runs from the ask to the bid less the fee of 110.
    world.clear([(ask + bid - 110) // 2, None, None, None])


def delivered(world: World, *export: int) -> None:
    """The session is over, and the zone exported so much in its slots, by default 1,000 Wh in
    the first."""
    world.at(END)
    world.commit(DAY_SLOT, [*(export or (1_000,)), 0, 0, 0][:4])


def whole_day(world: World) -> None:
    """Make the day one session of 96 slots, and turn the clock to its first posting."""
    world.at(DAY_SLOT, -86_410)
    world.parameters.set_value(1, 1, sender=world.deployer)
    world.at(DAY_SLOT, 1 - 86_400)


def set_numbers(world: World, account: int, base: int) -> None:
    """Pretend that the account has used all order numbers below `base`, and none since."""
    first = world.market.compiler_data.storage_layout["storage_layout"]["_accounts"]["slot"]
    word = boa.env.get_storage(world.market.address, first + account)
    word = word & ~((2**32 - 1) << 208) | base << 208
    boa.env.set_storage(world.market.address, first + account, word)


def rules(**changes: int) -> list[tuple[int, str, int, int, int, int, int]]:
    """The deployment's rules with other initial values, bounds widened to let them in."""
    result = []
    for rule in MARKET_RULES:
        if rule.name in changes:
            value = changes[rule.name]
            rule = replace(
                rule,
                initial=value,
                minimum=min(rule.minimum, value),
                maximum=max(rule.maximum, value),
            )
        result.append(rule.as_tuple())
    return result


def build(
    homes: int = 20,
    *,
    token: Any = None,
    defined: list[tuple[int, str, int, int, int, int, int]] | None = None,
    owner: str | None = None,
    **changes: int,
) -> World:
    """Deploy a market; sessions of four slots unless told otherwise, and yesterday's clock.

    defined: all rules, in place of the deployment's with `changes`. owner: of all homes, which
    have owners of their own else.
    """
    changes.setdefault("sessions_per_day", 24)
    boa.env.evm.patch.chain_id = CHAIN_ID
    boa.env.timestamp = DAY_SLOT * 900 - 3 * 86_400
    deployer, treasury, guardian, collector = (
        str(boa.env.generate_address(name))
        for name in ("deployer", "treasury", "guardian", "collector")
    )
    with boa.env.prank(deployer):
        token = token or load("TestEuro")
        parameters = load("GridParameters")
        parameters.define_batch(defined or rules(**changes))
        registry = load("MeterRegistry", deployer)
        ledger = load("ReadingLedger", parameters.address)
        ledger.set_collector(ZONE, collector)
        market = load("EnergyMarket", token.address, parameters.address, registry.address, treasury)
        auction = load(
            "UniformPriceAuction",
            market.address,
            parameters.address,
            registry.address,
            ledger.address,
        )
        adjustments = load(
            "DeliveryAdjustments", market.address, parameters.address, registry.address
        )
        market.set_auction(auction.address, adjustments.address)
        market.set_guardian(guardian)
        world = World(
            token=token,
            parameters=parameters,
            registry=registry,
            ledger=ledger,
            market=market,
            auction=auction,
            adjustments=adjustments,
            deployer=deployer,
            treasury=treasury,
            guardian=guardian,
            collector=collector,
            separator=market_separator(CHAIN_ID, market.address),
        )
        for first in range(1, homes + 1, 128):
            numbers = list(range(first, min(first + 128, homes + 1)))
            registry.register_batch(
                [owner or world.owner(n) for n in numbers],
                [address_of(world.device_key(n)) for n in numbers],
                ZONE,
            )
            market.open_accounts(numbers)
    boa.env.timestamp = DAY_SLOT * 900 - 4 * 3600
    return world


__all__ = [
    "ASK", "BID", "CHAIN_ID", "CURVE_ORDER", "DAY_SLOT", "END", "EURO", "GATE", "NO_PRICE",
    "ZONE", "World", "build", "delivered", "key_of", "key_with_twin", "load", "logged", "rules",
    "set_numbers", "traded", "whole_day",
]  # fmt: skip
