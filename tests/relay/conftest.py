# SPDX-License-Identifier: Apache-2.0
"""A short lane on a real node: contracts as deployed, a few homes with money, and a relay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from dao import deployment as deploying
from dao.anvil import AnvilNode
from dao.chain import Chain, LocalAccount
from dao.deployment import Deployment, Roles
from dao.eip712 import keccak
from dao.market import session
from dao.market.account import Mandate
from dao.market.orders import ASK, BID, Order, sign_order, sign_receipt
from dao.market.session import SignedOrder
from dao.relay.answers import order_fields
from dao.relay.promise import Promise
from dao.relay.reader import Relay
from dao.relay.store import RelayStore
from dao.slots import SLOT_SECONDS, first_slot_of_day
from tests.chains import put_back

ZONE = 1
HOMES = 20
DEPOSIT = 100_000_000
DAY_SLOT = first_slot_of_day(date(2016, 6, 6))
"""The first session of the traded day: 24 slots, its gate an hour before midnight."""
MIDNIGHT = DAY_SLOT * SLOT_SECONDS
HOUR = 3_600
GATE = MIDNIGHT - HOUR
SLOTS = 24
OWNERS, DEVICES = (
    tuple(LocalAccount.from_key(keccak(f"{who} {i}".encode())) for i in range(HOMES))
    for who in ("owner", "device")
)


@dataclass
class Lane:
    """The deployment, its people, and the relay that serves them."""

    chain: Chain
    deployment: Deployment
    owners: tuple[LocalAccount, ...]
    devices: tuple[LocalAccount, ...]
    relay: Relay
    node: AnvilNode

    def at(self, seconds: int) -> None:
        """Turn the clock to so many seconds after midnight of the traded day."""
        self.chain.set_time(MIDNIGHT + seconds)

    def order(self, account: int, **changes: Any) -> Order:
        """A bid of one slot by an account, with whatever is to be different."""
        plain = Order(
            account=account,
            mandate=0,
            nonce=0,
            expiry=MIDNIGHT,
            side=BID,
            limit=300,
            session_slot=DAY_SLOT,
            offset=0,
            wh=500,
            count=1,
        )
        return replace(plain, **changes)

    def ask(self, account: int, **changes: Any) -> Order:
        """An ask of one slot."""
        return self.order(account, **{"side": ASK, "limit": 100, **changes})

    def signed(self, order: Order, by: LocalAccount | None = None) -> SignedOrder:
        """The order, signed by the account's owner or by somebody else."""
        key = (by or self.owners[order.account - 1]).key
        return SignedOrder(order, sign_order(self.relay.separator, order, key))

    def document(
        self, order: Order, *, by: LocalAccount | None = None, **changes: Any
    ) -> dict[str, Any]:
        """The order as it is submitted, signed by its owner or `by`, before `changes` are made."""
        fields = dict(vars(order_fields(order)))
        signature = "0x" + self.signed(order, by).signature.hex()
        return {**fields, "signature": signature, **changes}

    def grant(self, account: int, number: int, agent: LocalAccount, **terms: int) -> None:
        """Let an agent order for an account, by default much and for long."""
        granted = {"side": BID, "limit": 1_000, "daily_cap": 4_095, "last_day": 32_767, **terms}
        self.relay.market.transact(
            "grant_mandate",
            account,
            number,
            Mandate(agent.address, **granted).as_tuple(),
            sender=self.owners[account - 1],
        )

    def pause(self) -> None:
        """The guardian stops the market for three days from now."""
        self.relay.market.transact("pause", [], sender=self.chain.accounts[4])

    def receipt(self, meter: int, exports: list[int], session: int = DAY_SLOT) -> dict[str, Any]:
        """A device's delivery receipt as it is submitted."""
        key = self.devices[meter - 1].key
        signature = sign_receipt(self.relay.separator, meter, session, exports, key)
        return {
            "meter": meter,
            "first_slot": session,
            "exports": exports,
            "signature": "0x" + signature.hex(),
        }

    def clear(self, session_slot: int = DAY_SLOT) -> None:
        """Clear a session whose gate has closed."""
        market, account = self.relay.market, self.relay.account
        auction = self.deployment["UniformPriceAuction"]
        book = session.read_book(market, ZONE, session_slot)
        session.clear(auction, market, self.relay.parameters, ZONE, book, account)

    def balance(self, account: int) -> int:
        """The account's free money."""
        return int(self.relay.market.call("account", account)[1])


def as_promise(document: dict[str, Any]) -> Promise:
    """A promise from what the API answered."""
    return Promise(
        order=bytes.fromhex(document["order"][2:]),
        account=document["account"],
        session=document["session"],
        post_before=document["post_before"],
        market=document["market"],
    )


@contextmanager
def built(folder: Path) -> Iterator[tuple[AnvilNode, Chain]]:
    """A node with all contracts and homes, the addresses in the folder's deployment.json."""
    with AnvilNode(timestamp=MIDNIGHT - 24 * HOUR) as node, Chain.local(node.url) as chain:
        registrar, collector, forecaster, guardian = chain.accounts[1:5]
        roles = Roles(registrar.address, collector.address, forecaster.address, guardian.address)
        deployment = deploying.deploy(chain, roles, zone=ZONE)
        numbers = deploying.register_homes(
            deployment,
            registrar,
            zone=ZONE,
            owners=[one.address for one in OWNERS],
            devices=[one.address for one in DEVICES],
            members=0,
        )
        token, market = deployment["TestEuro"], deployment["EnergyMarket"]
        token.transact("mint", chain.deployer.address, 2 * DEPOSIT * HOMES)
        token.transact("approve", market.address, DEPOSIT * HOMES)
        market.transact("deposit", numbers, [DEPOSIT] * HOMES)
        deploying.hand_over(deployment)
        deploying.write(deployment, folder / "deployment.json")
        chain.set_time(MIDNIGHT - 12 * HOUR)
        yield node, chain


@contextmanager
def lane_on(node: AnvilNode, chain: Chain, addresses: Path, folder: Path) -> Iterator[Lane]:
    """The lane on a node, with a store of its own, at noon of the day before the traded one."""
    deployment = deploying.read(chain, addresses)
    store = RelayStore(folder / "relay.sqlite")
    relay = Relay.of(deployment, store, ZONE, chain.accounts[5])
    yield Lane(chain, deployment, OWNERS, DEVICES, relay, node)
    store.close()


Street = tuple[AnvilNode, Chain, Path]


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    """A node that the tests of a module share, each finding it as it was built."""
    folder = tmp_path_factory.mktemp("street")
    with built(folder) as (node, chain):
        yield node, chain, folder / "deployment.json"


@pytest.fixture
def lane(street: Street, tmp_path: Path) -> Iterator[Lane]:
    """The lane for one test; what the test did to the chain is undone."""
    with lane_on(*street, tmp_path) as made, put_back(made.chain):
        yield made


@pytest.fixture
def own_lane(tmp_path: Path) -> Iterator[Lane]:
    """A lane on a node of its own, which the test may stop."""
    addresses = tmp_path / "deployment.json"
    with built(tmp_path) as (node, chain), lane_on(node, chain, addresses, tmp_path) as made:
        yield made
