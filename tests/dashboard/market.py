# SPDX-License-Identifier: Apache-2.0
"""A market day on a real node, with its index: sold, sold short, void, corrected, paid out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dao import ledger
from dao.eip712 import compact, keccak, sign_digest
from dao.index import Indexer
from dao.market import session
from dao.market.account import withdrawal_digest
from dao.market.orders import Order, correction_digest, sign_receipt
from dao.market.session import DeviceReceipt
from dao.slots import SLOT_SECONDS
from tests.relay.conftest import DAY_SLOT, HOUR, MIDNIGHT, SLOTS, ZONE, Lane, built, lane_on

SECOND = DAY_SLOT + SLOTS
THIRD = DAY_SLOT + 2 * SLOTS
ACCOUNTS = range(1, 9)


@dataclass
class Market:
    """The lane with an index beside it."""

    lane: Lane
    indexer: Indexer
    folder: Path
    lodged: dict[int, DeviceReceipt] = field(default_factory=dict)

    @property
    def index(self) -> Path:
        return self.indexer.db_path

    def post(self, *orders: Order) -> int:
        """Post orders of one session in one transaction; how many were accepted."""
        accepted, _ = session.post(
            self.lane.relay.market,
            ZONE,
            orders[0].session_slot,
            [self.lane.signed(order) for order in orders],
            self.lane.relay.account,
        )
        return len(accepted)

    def receipts(
        self, first_slot: int, exports: Mapping[int, Sequence[int]]
    ) -> dict[int, DeviceReceipt]:
        """What the meters say they exported, signed by their devices."""
        separator = self.lane.relay.separator
        return {
            meter: DeviceReceipt(
                meter,
                tuple(values),
                sign_receipt(
                    separator, meter, first_slot, values, self.lane.devices[meter - 1].key
                ),
            )
            for meter, values in exports.items()
        }

    def commit(self, first_slot: int) -> None:
        """Commit a session's totals: more export than anybody sold."""
        ledger.commit(
            self.lane.deployment["ReadingLedger"],
            self.lane.chain.accounts[2],
            zone=ZONE,
            first_slot=first_slot,
            root=keccak(f"root {first_slot}".encode()),
            homes=20,
            leaves=20 * SLOTS,
            net_wh=[0] * SLOTS,
            export_wh=[100_000] * SLOTS,
        )

    def settle(
        self,
        first_slot: int,
        exports: Mapping[int, Sequence[int]],
        slots: int | None = None,
    ) -> dict[int, DeviceReceipt]:
        """Settle a session, or a run of its slots."""
        lane = self.lane
        book = session.read_book(lane.relay.market, ZONE, first_slot)
        receipts = self.receipts(first_slot, exports)
        auction = lane.deployment["UniformPriceAuction"]
        session.settle(
            auction, lane.relay.market, ZONE, book, receipts, lane.relay.account, slots=slots
        )
        return receipts

    def sync(self) -> None:
        self.indexer.sync()


@contextmanager
def market_day(folder: Path) -> Iterator[Market]:
    """Three sessions of a day: one delivered in part, one void, one sold and settled in two runs.
    Then a correction, a withdrawal and a deposit."""
    with (
        built(folder) as (node, chain),
        lane_on(node, chain, folder / "deployment.json", folder) as lane,
    ):
        indexer = Indexer(
            node.url,
            lane.deployment.index_contracts(),
            folder / "index.sqlite",
            first_block=lane.deployment.first_block,
        )
        market = Market(lane, indexer, folder)
        _first(market)
        _second(market)
        _third(market)
        _afterwards(market)
        market.sync()
        yield market


def _first(market: Market) -> None:
    lane = market.lane
    profile = tuple(100 + 10 * i for i in range(SLOTS))
    asks = [
        lane.ask(1, wh=profile, count=SLOTS, limit=90),
        lane.ask(2, wh=400, count=10, offset=5, limit=120),
        lane.ask(1, wh=50, count=SLOTS, limit=150, nonce=1),
    ]
    bids = [
        lane.order(3, wh=300, count=SLOTS, limit=330),
        lane.order(4, wh=profile[::-1], count=SLOTS, limit=280),
        # Turned away: nobody opened this account, and a number that is used.
        lane.order(3, wh=300, count=SLOTS, limit=330),
        lane.order(5, wh=250, count=6, offset=10, limit=231),
    ]
    assert market.post(*asks) == 3
    assert market.post(*bids) == 3
    lane.at(-HOUR)
    lane.clear(DAY_SLOT)
    lane.at(SLOTS * SLOT_SECONDS + 60)
    market.commit(DAY_SLOT)
    short = [wh - 60 if i % 3 else wh + 500 for i, wh in enumerate(profile)]
    receipts = market.settle(DAY_SLOT, {1: short, 2: [390] * SLOTS})
    market.lodged = receipts


def _second(market: Market) -> None:
    lane = market.lane
    orders = [
        lane.ask(2, wh=500, count=SLOTS, session_slot=THIRD, nonce=1, expiry=2**33, limit=100),
        lane.order(5, wh=500, count=SLOTS, session_slot=THIRD, nonce=1, expiry=2**33),
    ]
    assert market.post(*orders) == 2
    lane.at(THIRD * SLOT_SECONDS - MIDNIGHT + 60)
    lane.relay.market.transact("void", ZONE, THIRD)
    market.settle(THIRD, {})


def _third(market: Market) -> None:
    lane = market.lane
    day = DAY_SLOT + 96
    orders = [
        lane.ask(6, wh=200, count=SLOTS, session_slot=day, expiry=2**33, limit=80),
        lane.order(7, wh=150, count=SLOTS, session_slot=day, expiry=2**33, limit=390),
        lane.order(8, wh=150, count=4, offset=20, session_slot=day, expiry=2**33, limit=300),
    ]
    assert market.post(*orders) == 3
    lane.at(day * SLOT_SECONDS - MIDNIGHT - HOUR)
    lane.clear(day)
    lane.at((day + SLOTS) * SLOT_SECONDS - MIDNIGHT + 60)
    for first in (SECOND, THIRD, THIRD + SLOTS, day):
        market.commit(first)
    market.settle(day, {6: [180] * SLOTS}, slots=10)
    market.settle(day, {6: [180] * SLOTS})


def _afterwards(market: Market) -> None:
    lane, relay = market.lane, market.lane.relay
    book = session.read_book(relay.market, ZONE, DAY_SLOT)
    receipt = market.lodged[1]
    less = [wh - 40 for wh in receipt.exports]
    key = lane.devices[0].key
    signed = sign_digest(key, correction_digest(relay.separator, 1, DAY_SLOT, less))
    session.adjust(
        lane.deployment["DeliveryAdjustments"],
        ZONE,
        book,
        DAY_SLOT + 7,
        receipt,
        DeviceReceipt(1, tuple(less), signed),
        relay.account,
    )
    deadline = lane.chain.now() + HOUR
    owner = lane.owners[2]
    digest = withdrawal_digest(relay.separator, 3, 1, 7_000_000, owner.address, deadline)
    relay.market.transact(
        "withdraw_signed",
        3,
        1,
        7_000_000,
        owner.address,
        deadline,
        _compact(sign_digest(owner.key, digest)),
        sender=relay.account,
    )
    token = lane.deployment["TestEuro"]
    lane.chain.fund(owner.address)
    token.transact("approve", relay.market.address, 2_000_000, sender=owner)
    relay.market.transact("deposit", [4, 3], [1_500_000, 500_000], sender=owner)


def _compact(signature: bytes) -> bytes:
    return b"".join(compact(signature))
