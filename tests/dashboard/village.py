# SPDX-License-Identifier: Apache-2.0
"""A village that the pages can be tried on: a real chain with seeded people, a relay that serves,
an index, a lake of readings, and a clock that moves only when it is told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import uvicorn

from dao import deployment as deploying
from dao import ledger, membership
from dao.anvil import AnvilNode
from dao.chain import Chain, LocalAccount
from dao.demo_people import owner_account
from dao.deployment import Deployment, Roles
from dao.eip712 import keccak
from dao.index import Indexer
from dao.market import session
from dao.market.orders import ASK, BID, Order, sign_order, sign_receipt
from dao.market.session import DeviceReceipt, SignedOrder
from dao.parameters import KEYS
from dao.processes import free_port
from dao.relay.api import Limits, create_app
from dao.relay.limits import Rate
from dao.relay.reader import Relay
from dao.relay.service import listen, run_round
from dao.relay.store import RelayStore
from dao.runstate import RunState, Step, write_run_state
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY, first_slot_of_day
from dao.tariffs import Tariffs
from meters.lake import write_batch
from meters.leaves import leaves_of, root_of_leaves
from meters.readings import Quality, Readings
from meters.secrets import SecretStore
from meters.signing import Head, heads_after, reading_separator, sign_chains

ZONE, SEED, HOMES, SLOTS = 1, 1, 20, 24
SUNNY = range(1, 9)
"""Homes with a roof full of panels."""
DEPOSIT = 50_000_000
PURSE = 30_000_000
FIRST = first_slot_of_day(date(2016, 6, 6))
HOUR = 3_600
_WIDE = Rate(burst=10**6, per_minute=10**6)


@dataclass
class Village:
    """Everything in hand. `relay_url` is where the relay listens."""

    folder: Path
    node: AnvilNode
    chain: Chain
    deployment: Deployment
    relay: Relay
    relay_url: str
    indexer: Indexer
    people: tuple[LocalAccount, ...]
    devices: tuple[LocalAccount, ...]
    nonces: dict[int, int] = field(default_factory=dict)
    short: dict[int, int] = field(default_factory=dict)
    heads: dict[int, Head] = field(default_factory=dict)

    # time

    def at(self, seconds: int) -> None:
        """Turn the clock to a moment, unix seconds, and tell the pages."""
        self.chain.set_time(max(seconds, self.chain.now()))
        self.publish()

    def publish(self) -> None:
        """Bring index and state file up to the chain, as the demo does."""
        self.indexer.sync()
        write_run_state(
            RunState(
                zone="village",
                zone_id=ZONE,
                seed=SEED,
                start="2016-06-06",
                days=1,
                day=1,
                step=Step.GATE,
                sim_time=self.chain.now(),
                tariffs=Tariffs(),
                rpc=self.node.url,
                homes=HOMES,
                prosumers=len(SUNNY),
                relay=self.relay_url,
            ),
            self.folder / "run.json",
        )

    # meters

    def readings(self, first_slot: int, slots: int) -> Readings:
        """What the homes' meters show, from the slots alone: the same each time it is asked."""
        meters = np.repeat(np.arange(1, HOMES + 1), slots)
        slot = np.tile(np.arange(first_slot, first_slot + slots), HOMES)
        hour = ((slot % SLOTS_PER_DAY) / 4 + 2) % 24
        noise = ((slot * 7919 + meters * 104_729) % 101) / 100
        sun = np.clip(np.sin((hour - 6) / 14 * np.pi), 0, None) * ((hour > 6) & (hour < 20))
        roof = np.where(meters <= SUNNY[-1], 900 * sun * (0.6 + 0.4 * noise), 0)
        use = 55 + 90 * np.exp(-((hour - 19.5) ** 2) / 5) + 45 * np.exp(-((hour - 7.5) ** 2) / 3)
        net = use * (0.6 + 0.8 * noise) * (1 + meters % 5 / 5) - roof
        return Readings.columns(
            meters,
            slot,
            np.where(net > 0, net, 0).astype(np.int64),
            np.where(net < 0, -net, 0).astype(np.int64),
        )

    def measure(self, first_slot: int, slots: int, *, commit: bool = True) -> None:
        """Put a batch into the lake, and its totals on chain."""
        made = self.readings(first_slot, slots)
        if first_slot % SLOTS_PER_DAY == 0:
            gap = (made.meter == 3) & (made.slot == first_slot + 5)
            made.import_wh[gap] = made.export_wh[gap] = 0xFFFF_FFFF
            made.quality[gap] = Quality.MISSING
            made.quality[(made.meter == 3) & (made.slot == first_slot + 9)] = Quality.ESTIMATED
        lake = self.folder / "lake"
        if not commit:
            leaves = [keccak(b"%d" % i) for i in range(len(made))]
            write_batch(lake, ZONE, first_slot, slots, made, leaves)
            return
        made = self._signed(made)
        with SecretStore(self.folder / "secrets.sqlite") as secrets:
            leaves = leaves_of(made, secrets)
        write_batch(lake, ZONE, first_slot, slots, made, leaves)
        truth = self.readings(first_slot, slots)
        export = truth.export_wh.reshape(HOMES, slots).sum(axis=0)
        imported = truth.import_wh.reshape(HOMES, slots).sum(axis=0)
        ledger.commit(
            self.deployment["ReadingLedger"],
            self.chain.accounts[2],
            zone=ZONE,
            first_slot=first_slot,
            root=root_of_leaves(leaves),
            homes=HOMES,
            leaves=HOMES * slots,
            net_wh=imported - export,
            export_wh=export,
        )

    def _signed(self, made: Readings) -> Readings:
        """As the devices sign them; what was not measured carries nobody's signature."""
        registry = self.deployment["MeterRegistry"].address
        separator = reading_separator(self.chain.chain_id, registry)
        keys = {meter: one.key for meter, one in enumerate(self.devices, 1)}
        signed = sign_chains(keys, separator, made, self.heads)
        self.heads.update(heads_after(separator, signed))
        unsigned = made.quality != Quality.MEASURED
        signed.signature[unsigned] = 0
        signed.previous[unsigned] = 0
        signed.sequence[unsigned] = 0
        return signed

    # market

    def order(
        self, account: int, side: int, limit: int, first_slot: int, wh: Sequence[int]
    ) -> SignedOrder:
        """An order of a whole session, signed by its owner."""
        nonce = self.nonces.get(account, 0)
        self.nonces[account] = nonce + 1
        made = Order(
            account,
            0,
            nonce,
            first_slot * SLOT_SECONDS,
            side,
            limit,
            first_slot,
            0,
            tuple(int(v) for v in wh),
            len(wh),
        )
        key = self.people[account - 1].key
        return SignedOrder(made, sign_order(self.relay.separator, made, key))

    def neighbours(self, first_slot: int, accounts: Sequence[int]) -> int:
        """The homes offer and ask for what their meters will show; how many orders were taken."""
        truth = self.readings(first_slot, SLOTS)
        orders = []
        for account in accounts:
            mine = truth.meter == account
            export, imported = truth.export_wh[mine], truth.import_wh[mine]
            for side, limit, energy in (
                (ASK, 95 + 7 * (account % 9), export * 9 // 10),
                (BID, 390 - 6 * (account % 11), imported * 8 // 10),
            ):
                if energy.sum() >= 50:
                    orders.append(self.order(account, side, limit, first_slot, energy.tolist()))
        if not orders:
            return 0
        accepted, _ = session.post(
            self.relay.market, ZONE, first_slot, orders, self.chain.accounts[6]
        )
        return len(accepted)

    def carry(self) -> None:
        """One round of the relay: what waits there goes to the chain."""
        run_round(self.relay, flush=True)
        self.publish()

    def clear(self, first_slot: int) -> None:
        """Close the gate and find the prices."""
        self.at(first_slot * SLOT_SECONDS - HOUR)
        session.clear(
            self.deployment["UniformPriceAuction"],
            self.relay.market,
            self.relay.parameters,
            ZONE,
            session.read_book(self.relay.market, ZONE, first_slot),
            self.chain.accounts[6],
        )
        self.publish()

    def deliver(self, first_slot: int, short: Mapping[int, int] | None = None) -> None:
        """Let the time of delivery pass, measure it, and settle. short: by meter, permille of what
        it gave that its receipt leaves out."""
        self.at((first_slot + SLOTS) * SLOT_SECONDS + 1_800)
        self.measure(first_slot, SLOTS)
        book = session.read_book(self.relay.market, ZONE, first_slot)
        truth = self.readings(first_slot, SLOTS)
        receipts = {}
        for meter in {one.account for one in book.orders if one.side == ASK}:
            given = truth.export_wh[truth.meter == meter]
            less = given * (short or {}).get(meter, 0) // 1000
            exports = tuple(int(v) for v in given - less)
            signature = sign_receipt(
                self.relay.separator, meter, first_slot, exports, self.devices[meter - 1].key
            )
            receipts[meter] = DeviceReceipt(meter, exports, signature)
        session.settle(
            self.deployment["UniformPriceAuction"],
            self.relay.market,
            ZONE,
            book,
            receipts,
            self.chain.accounts[6],
        )
        self.publish()

    def live(self, first_slot: int, sessions: int) -> None:
        """Whole sessions of the neighbourhood by itself, each step at its time."""
        steps = []
        for number in range(sessions):
            here = first_slot + number * SLOTS
            begin = here * SLOT_SECONDS
            steps += [
                (begin - 2 * HOUR, lambda at=here: self.neighbours(at, range(1, HOMES + 1))),
                (begin - HOUR, lambda at=here: self.clear(at)),
                (
                    begin + SLOTS * SLOT_SECONDS + 1_800,
                    lambda at=here, n=number: self.deliver(at, {2: 400} if n % 3 == 2 else None),
                ),
            ]
        for when, step in sorted(steps, key=lambda one: one[0]):
            self.at(when)
            step()

    def balance(self, account: int) -> int:
        """The account's free money on chain."""
        return int(self.relay.market.call("account", account)[1])

    def purse(self, account: int) -> int:
        """The owner's tokens outside."""
        owner = self.people[account - 1].address
        return int(self.deployment["TestEuro"].call("balanceOf", owner))


@contextmanager
def village(
    folder: Path, first_slot: int = FIRST, history_days: int = 0, members: int = 0
) -> Iterator[Village]:
    """A village on the eve of `first_slot`'s day, its homes with money, some days of readings in
    the lake, the owners of the first `members` homes members long enough to propose.
    GRIDCOMMONS_HOME has to name the folder for whoever looks at it."""
    begin = eve = (first_slot - SLOTS_PER_DAY) * SLOT_SECONDS
    if members:
        begin -= 60 * 86_400
    people = tuple(owner_account(SEED, meter) for meter in range(1, HOMES + 1))
    devices = tuple(
        LocalAccount.from_key(keccak(f"village device {i}".encode())) for i in range(HOMES)
    )
    with AnvilNode(timestamp=begin) as node, Chain.local(node.url) as chain:
        registrar, collector, forecaster, guardian = chain.accounts[1:5]
        roles = Roles(registrar.address, collector.address, forecaster.address, guardian.address)
        deployment = deploying.deploy(chain, roles, zone=ZONE)
        numbers = deploying.register_homes(
            deployment,
            registrar,
            zone=ZONE,
            owners=[one.address for one in people],
            devices=[one.address for one in devices],
            members=members,
        )
        if members:
            rule = int(deployment["GridParameters"].call("value", KEYS["admission_delay"]))
            chain.set_time(chain.now() + rule + 1)
            membership.complete(deployment["Membership"], numbers[:members], chain.accounts[5])
            chain.set_time(eve)
        token, market = deployment["TestEuro"], deployment["EnergyMarket"]
        token.transact("mint", chain.deployer.address, DEPOSIT * HOMES)
        token.transact("approve", market.address, DEPOSIT * HOMES)
        market.transact("deposit", numbers, [DEPOSIT] * HOMES)
        for one in people[:4]:
            token.transact("mint", one.address, PURSE)
        deploying.hand_over(deployment)
        deploying.write(deployment, folder / "deployment.json")
        store = RelayStore(folder / "relay.sqlite")
        relay = Relay.of(deployment, store, ZONE, chain.accounts[5])
        with _serving(relay) as url:
            indexer = Indexer(
                node.url,
                deployment.index_contracts(),
                folder / "index.sqlite",
                first_block=deployment.first_block,
            )
            made = Village(folder, node, chain, deployment, relay, url, indexer, people, devices)
            for day in range(history_days, 0, -1):
                made.measure(first_slot - day * SLOTS_PER_DAY, SLOTS_PER_DAY, commit=False)
            made.publish()
            yield made
        store.close()


@contextmanager
def _serving(relay: Relay) -> Iterator[str]:
    stopping = threading.Event()
    port = free_port()
    limits = Limits(account=_WIDE, refused=_WIDE, reads=_WIDE)
    config = uvicorn.Config(
        create_app(relay, limits, stopping=stopping.is_set),
        log_config=None,
        lifespan="off",
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    listener = listen("127.0.0.1", port)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        stopping.set()
        server.should_exit = True
        thread.join(10)
