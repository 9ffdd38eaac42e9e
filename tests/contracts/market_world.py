# SPDX-License-Identifier: Apache-2.0
"""A market with its people on titanoboa: real contracts, real signatures, a clock to turn.

The world signs orders and receipts with the project's own packing (tests/dao proves that against
eth-account) and checks the laws of conservation against sums of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import boa

from dao.eip712 import address_of, compact, keccak, sign_digest
from dao.market.orders import (
    ASK,
    BID,
    Order,
    market_separator,
    order_digest,
    pack,
    pack_wh,
    receipt_digest,
)
from dao.parameters import MARKET_RULES

CONTRACTS = Path(__file__).parents[2] / "contracts"
ZONE = 1
NO_PRICE = 65_535
# 2016-06-06 00:00 UTC, a Monday; any day would do.
DAY_SLOT = 1_465_171_200 // 900
EURO = 1_000_000
# The test token lives on local chains only.
CHAIN_ID = 31_337


def key_of(name: str) -> bytes:
    return keccak(name.encode())


def load(name: str, *args: Any) -> Any:
    return boa.load(str(CONTRACTS / f"{name}.vy"), *args)


@dataclass
class World:
    token: Any
    parameters: Any
    registry: Any
    ledger: Any
    market: Any
    deployer: str
    treasury: str
    collector: str
    homes: int
    separator: bytes
    book: list[Order] = field(default_factory=list)
    pending: list[Order] = field(default_factory=list)

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

    def fund(self, accounts: Iterable[int], amount: int) -> None:
        numbers = list(accounts)
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
        session: int = DAY_SLOT,
        nonce: int | None = None,
        expiry: int | None = None,
        offset: int = 0,
        count: int = 1,
    ) -> Order:
        if nonce is None:
            nonce = int(self.market.account(account)[4])
            taken = {o.nonce for o in self.pending if o.account == account}
            bits = int(self.market.account(account)[5])
            while nonce in taken or bits >> (nonce - int(self.market.account(account)[4])) & 1:
                nonce += 1
        order = Order(
            account=account,
            mandate=0,
            nonce=nonce,
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

    def signature(self, order: Order, key: bytes | None = None) -> list[bytes]:
        signed = sign_digest(
            key or self.owner_key(order.account), order_digest(self.separator, order)
        )
        return list(compact(signed))

    def post(
        self,
        orders: Sequence[Order],
        *,
        session: int = DAY_SLOT,
        signatures: Sequence[bytes] | None = None,
        sender: str | None = None,
        zone: int = ZONE,
    ) -> list[int]:
        """Post a batch; returns the reason per rejected position. Accepted ones join the book."""
        rows = [w for o in orders for w in pack(o)]
        if signatures is None:
            signatures = [part for o in orders for part in self.signature(o)]
        self.market.post(zone, session, rows, list(signatures), sender=sender or self.deployer)
        reasons = {e.position: e.reason for e in self.events("OrderRejected")}
        for position, order in enumerate(orders):
            if position not in reasons:
                self.book.append(order)
        self.pending.clear()
        self.check_conservation()
        return [reasons.get(i, 0) for i in range(len(orders))]

    def events(self, name: str) -> list[Any]:
        return [e for e in self.market.get_logs(strict=False) if type(e).__name__ == name]

    def rows(self, book: Sequence[Order] | None = None) -> list[int]:
        return [w for o in (self.book if book is None else book) for w in pack(o)]

    def clear(self, prices: Sequence[int], *, session: int = DAY_SLOT, zone: int = ZONE) -> None:
        self.market.clear(zone, session, self.rows(), list(prices), sender=self.deployer)
        self.check_conservation()

    # -- delivery --------------------------------------------------------------------------

    def commit(
        self, first_slot: int, export: Sequence[int], net: Sequence[int] | None = None
    ) -> None:
        """Commit the next batch of the zone's totals, Wh per slot."""
        net = net or [-e for e in export]
        words = []
        for i in range(0, len(export), 4):
            word = 0
            for j in range(4):
                word |= ((export[i + j] << 32) | (net[i + j] & 0xFFFFFFFF)) << (64 * j)
            words.append(word)
        self.ledger.commit(
            ZONE,
            first_slot,
            len(export),
            keccak(b"root"),
            15,
            15 * len(export),
            words,
            sender=self.collector,
        )

    def receipts(
        self,
        exports: dict[int, Sequence[int]],
        *,
        session: int = DAY_SLOT,
        keys: dict[int, bytes] | None = None,
        separator: bytes | None = None,
    ) -> tuple[list[int], list[bytes]]:
        words: list[int] = []
        signatures: list[bytes] = []
        for meter in sorted(exports):
            values = exports[meter]
            words += [meter, *pack_wh(values)]
            key = (keys or {}).get(meter, self.device_key(meter))
            digest = receipt_digest(separator or self.separator, meter, session, values)
            signatures += compact(sign_digest(key, digest))
        return words, signatures

    def hints(self, meters: Sequence[int]) -> list[int]:
        """One 16-bit position per order of the book: the ask's receipt, counted from 1."""
        words = [0] * ((len(self.book) + 15) // 16)
        for i, order in enumerate(self.book):
            if order.side == ASK and order.account in meters:
                words[i // 16] |= (sorted(meters).index(order.account) + 1) << (16 * (i % 16))
        return words

    def settle(
        self,
        exports: dict[int, Sequence[int]],
        *,
        slots: int = 4,
        session: int = DAY_SLOT,
        **receipt_options: Any,
    ) -> list[tuple[int, int, int, int, int]]:
        """Settle; returns (account, side, delivered, filled, credit) per order, asks first."""
        words, signatures = self.receipts(exports, session=session, **receipt_options)
        self.market.settle(
            ZONE,
            session,
            slots,
            self.rows(),
            words,
            signatures,
            self.hints(sorted(exports)),
            sender=self.deployer,
        )
        entries = self.events("OrdersSettled")[0].entries
        self.check_conservation()
        return [
            (
                e >> 224,
                (e >> 216) & 1,
                (e >> 168) & (2**48 - 1),
                (e >> 120) & (2**48 - 1),
                e & (2**120 - 1),
            )
            for e in entries
        ]

    # -- laws ------------------------------------------------------------------------------

    def check_conservation(self) -> None:
        held = self.token.balanceOf(self.market.address)
        accounts = sum(self.balance(a) for a in range(1, self.homes + 1))
        assert self.market.balances() == accounts
        assert held == accounts + self.market.escrow() + self.market.fees_due()


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


def build(homes: int = 20, token: Any = None, **changes: int) -> World:
    """Deploy a market; sessions of four slots unless told otherwise, and yesterday's clock."""
    changes.setdefault("sessions_per_day", 24)
    boa.env.evm.patch.chain_id = CHAIN_ID
    boa.env.timestamp = DAY_SLOT * 900 - 3 * 86_400
    deployer = boa.env.generate_address("deployer")
    treasury = boa.env.generate_address("treasury")
    collector = boa.env.generate_address("collector")
    with boa.env.prank(deployer):
        token = token or load("TestEuro")
        parameters = load("GridParameters")
        parameters.define_batch(rules(**changes))
        registry = load("MeterRegistry", deployer)
        ledger = load("ReadingLedger")
        ledger.set_collector(ZONE, collector)
        market = load(
            "EnergyMarket",
            token.address,
            parameters.address,
            registry.address,
            ledger.address,
            treasury,
        )
        world = World(
            token=token,
            parameters=parameters,
            registry=registry,
            ledger=ledger,
            market=market,
            deployer=deployer,
            treasury=treasury,
            collector=collector,
            homes=homes,
            separator=market_separator(CHAIN_ID, market.address),
        )
        numbers = list(range(1, homes + 1))
        registry.register_batch(
            [world.owner(n) for n in numbers],
            [address_of(world.device_key(n)) for n in numbers],
            ZONE,
        )
        market.open_accounts(numbers)
    boa.env.timestamp = DAY_SLOT * 900 - 4 * 3600
    return world


__all__ = ["ASK", "BID", "DAY_SLOT", "EURO", "NO_PRICE", "ZONE", "World", "build", "key_of", "load"]
