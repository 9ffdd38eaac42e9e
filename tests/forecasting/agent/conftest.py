# SPDX-License-Identifier: Apache-2.0
"""A lane on a real node with its relay served over HTTP, and a lake in which homes have a past."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import uvicorn

from dao import ledger
from dao.eip712 import keccak, sign_digest
from dao.market import session
from dao.market.account import Mandate, mandate_digest
from dao.market.orders import ASK
from dao.market.session import DeviceReceipt
from dao.node import Addresses, Node
from dao.processes import free_port
from dao.relay.api import Limits, create_app
from dao.relay.limits import Rate
from dao.relay.posting import post_due
from dao.relay.service import listen
from dao.slots import SLOTS_PER_DAY
from forecasting.agent.follow import Follower, owner_signed
from forecasting.agent.keys import AgentKeys
from forecasting.agent.offers import StandingOffer, offer_digest
from forecasting.agent.recent import HomeReadings
from forecasting.agent.relaying import RelayClient
from forecasting.agent.store import Deed, HeldOffer, OfferStore
from meters.lake import write_batch
from tests.forecasting.agent.samples import BUY, SELL
from tests.meters.batch_rows import leaves, rows
from tests.relay.conftest import DAY_SLOT, GATE, HOMES, HOUR, SLOTS, ZONE, Lane, lane, street

__all__ = ["lane", "street"]  # fixtures

SELLER, BUYER = 7, 8
EXPORT_WH, IMPORT_WH = 400, 300
"""What the seller's home has left, and the buyer's needs, in every slot of every day."""
WIDE = Rate(burst=10**6, per_minute=10**6)
DUE = GATE - HOUR // 2
"""Half an hour before the gate of the traded day's first session: the agent looks at it."""


@dataclass
class Village:
    """The lane, what the agent works with, and a folder of its state."""

    lane: Lane
    folder: Path
    url: str
    store: OfferStore
    keys: AgentKeys

    @property
    def market(self) -> str:
        return self.lane.relay.market.address

    @property
    def now(self) -> int:
        return self.lane.chain.now()

    def follower(self, **changes: object) -> Follower:
        """An agent as the command makes it, with whatever is to be different."""
        chain_id = self.lane.chain.chain_id
        contracts = {
            name: self.lane.deployment[name].address for name in ("EnergyMarket", "MeterRegistry")
        }
        plain = Follower(
            store=self.store,
            keys=self.keys,
            readings=HomeReadings(self.folder / "lake", ZONE),
            relay=RelayClient(self.url),
            zone=ZONE,
            chain_id=chain_id,
            market=self.market,
            owner_signed=owner_signed(Node(self.lane.chain.url), Addresses(chain_id, contracts)),
        )
        return replace(plain, **changes)  # type: ignore[arg-type]

    def sign(self, offer: StandingOffer, by: int | None = None) -> HeldOffer:
        """An offer signed by the account's owner, or by another account's."""
        number = offer_digest(self.lane.chain.chain_id, self.market, offer)
        key = self.lane.owners[(by or offer.account) - 1].key
        return HeldOffer(number, offer, sign_digest(key, number), self.now)

    def grant(self, offer: StandingOffer, **changes: object) -> None:
        """The owner's signed mandate for the offer's agent, brought to the chain by the relay."""
        agent = self.keys.address(offer.account)
        terms = Mandate(agent, offer.side, offer.limit, 1_000, 32_767)
        terms = replace(terms, **changes)  # type: ignore[arg-type]
        digest = mandate_digest(self.lane.relay.separator, offer.account, offer.mandate, terms)
        signature = sign_digest(self.lane.owners[offer.account - 1].key, digest)
        market, account = self.lane.relay.market, self.lane.relay.account
        vs = signature[:32] + (
            int.from_bytes(signature[32:64], "big") | (signature[64] - 27) << 255
        ).to_bytes(32, "big")
        market.transact(
            "grant_mandate_signed",
            offer.account,
            offer.mandate,
            terms.as_tuple(),
            vs,
            sender=account,
        )

    def flush(self) -> None:
        """Post what waits at the relay, as its posting thread would."""
        relay = self.lane.relay
        post_due(relay.store, relay.market, relay.account, ZONE, self.now, relay.pace, flush=True)

    def deed(self, account: int = SELLER, side: int = ASK) -> Deed | None:
        return self.store.deed(account, side, DAY_SLOT)

    def settle(self) -> None:
        """The day is metered and committed, the seller's device signs, and all is paid."""
        lane = self.lane
        ledger.commit(
            lane.deployment["ReadingLedger"],
            lane.chain.accounts[2],
            zone=ZONE,
            first_slot=DAY_SLOT,
            root=keccak(b"root"),
            homes=HOMES,
            leaves=HOMES * SLOTS_PER_DAY,
            net_wh=[0] * SLOTS_PER_DAY,
            export_wh=[EXPORT_WH] * SLOTS_PER_DAY,
        )
        receipt = lane.receipt(SELLER, [EXPORT_WH] * SLOTS)
        signature = bytes.fromhex(receipt["signature"][2:])
        proof = DeviceReceipt(SELLER, tuple(receipt["exports"]), signature)
        auction, account = lane.deployment["UniformPriceAuction"], lane.relay.account
        book = session.read_book(lane.relay.market, ZONE, DAY_SLOT)
        session.settle(auction, lane.relay.market, ZONE, book, {SELLER: proof}, account)


SELLS = replace(SELL, account=SELLER, limit=120)
BUYS = replace(BUY, account=BUYER, limit=300, daily_wh=10**6)


@pytest.fixture(scope="session")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with eight days of twenty homes before the traded one."""
    lake = tmp_path_factory.mktemp("past")
    for day in range(1, 9):
        first = DAY_SLOT - day * SLOTS_PER_DAY
        held = rows(first, SLOTS_PER_DAY, HOMES)
        held.export_wh[:] = np.where(held.meter == SELLER, EXPORT_WH, 0)
        held.import_wh[:] = np.where(held.meter == BUYER, IMPORT_WH, 0)
        write_batch(lake, ZONE, first, SLOTS_PER_DAY, held, leaves(HOMES * SLOTS_PER_DAY))
    return lake


@contextmanager
def served(lane: Lane) -> Iterator[str]:
    """The relay's URL while it answers."""
    stopping = threading.Event()
    port = free_port()
    limits = Limits(account=WIDE, refused=WIDE, reads=WIDE)
    app = create_app(lane.relay, limits, stopping=stopping.is_set)
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=2)
    )
    listener = listen("127.0.0.1", port)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        stopping.set()
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def village(lane: Lane, past: Path, tmp_path: Path) -> Iterator[Village]:
    """Half an hour before the gate, no offer made yet."""
    (tmp_path / "lake").symlink_to(past)
    lane.chain.set_time(DUE)
    with served(lane) as url, OfferStore(tmp_path / "offers.sqlite") as store:
        yield Village(lane, tmp_path, url, store, AgentKeys(tmp_path / "agent-keys"))
