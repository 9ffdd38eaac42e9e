# SPDX-License-Identifier: Apache-2.0
"""A village of 40 homes on a real node, three days long, for the dossier's tests.

Everything that a dossier tells of happened through the contracts: readings signed, edited and
committed, orders posted (some turned away), sessions cleared, settled, voided and never opened, a
forecast and a balancing vote, an ordinary vote that pays somebody.
The homes' readings lie where no other number of the village does, so that a search for them finds
readings and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import numpy as np

from dao import deployment as deploying
from dao import forecasts, governance, membership, treasury
from dao.anvil import AnvilNode
from dao.audit.export import Request
from dao.audit.scope import Period
from dao.chain import Chain, Contract, LocalAccount
from dao.deployment import Deployment, Pace, Roles
from dao.eip712 import checksum_address, keccak
from dao.governance import Lane, Support
from dao.market import session as market
from dao.market.orders import ASK, BID, Order, market_separator, sign_order, sign_receipt
from dao.market.session import DeviceReceipt, OrderNonces, SignedOrder
from dao.market.solver import SessionClearing
from dao.parameters import DAY, HOUR
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY, first_slot_of_day
from forecasting.dossier import Sources
from meters.collector import Collector
from meters.devices import Fleet
from meters.publishing import publish
from meters.readings import Readings
from meters.registry import KeyPeriods
from meters.secrets import SecretStore
from meters.signing import reading_separator, sign_chains
from meters.vee.edit import Editor

ZONE = 1
HOMES = 40
SELLERS = tuple(range(1, 9))
BUYERS = tuple(range(21, 33))
SOLAR = 20
"""Homes 1 to 20 feed in, the others never do."""
FIRST_DAY, LAST_DAY = date(2016, 6, 5), date(2016, 6, 7)
FIRST = first_slot_of_day(FIRST_DAY)
JUNE_6 = FIRST + SLOTS_PER_DAY
JUNE_7 = JUNE_6 + SLOTS_PER_DAY
SLOTS = 24
GAP = range(JUNE_6 + 30, JUNE_6 + 33)
"""Three quarter-hours that meter 25 never delivered: estimated."""
NEVER_CLEARED, NEVER_OPENED = JUNE_7 + 2 * SLOTS, JUNE_7 + 3 * SLOTS
LOWEST_READING, STEP = 40_000_003, 1_009
CAPACITY_W = 2_000_000_000
BOND = 100_000_000
EURO = 1_000_000
PAYEE = "0x" + "17" * 20
TARIFFS = {"feed_in": 79, "retail": 397, "grid_fee": 110}
SALT = keccak(b"salt")


@dataclass
class Village:
    """The chain, who acts on it, and the state folder."""

    chain: Chain
    deployment: Deployment
    folder: Path
    owners: tuple[LocalAccount, ...]
    fleet: Fleet
    collector: LocalAccount
    forecaster: LocalAccount
    relay: LocalAccount
    readings: Readings
    nonces: OrderNonces = field(default_factory=OrderNonces)

    @property
    def separator(self) -> bytes:
        return market_separator(self.chain.chain_id, self["EnergyMarket"].address)

    def __getitem__(self, name: str) -> Contract:
        return self.deployment[name]

    def request(self, begin: date, end: date, **more: object) -> Request:
        """What is asked for a dossier of these days."""
        return Request(
            period=Period.of_days(ZONE, begin, end),
            rpc=self.chain.url,
            chain_id=self.chain.chain_id,
            addresses={name: c.address for name, c in self.deployment.contracts.items()},
            first_block=self.deployment.first_block,
            tariffs=TARIFFS,
            **more,  # type: ignore[arg-type]
        )

    def sources(self, **more: object) -> Sources:
        made = Sources(self.folder / "lake", self.folder / "secrets.sqlite")
        return replace(made, **more)  # type: ignore[arg-type]


@contextmanager
def built(folder: Path) -> Iterator[Village]:
    """The village, its time a week after its last day."""
    begin = FIRST * SLOT_SECONDS - 5 * DAY
    with (
        AnvilNode(timestamp=begin, prune_history=False) as node,
        Chain.local(node.url) as chain,
    ):
        village = _founded(chain, folder)
        with _collecting(village) as collector:
            _live(village, collector)
        yield village


def _founded(chain: Chain, folder: Path) -> Village:
    registrar, collector, forecaster, guardian, relay = chain.accounts[1:6]
    made = deploying.deploy(
        chain,
        Roles(registrar.address, collector.address, forecaster.address, guardian.address),
        zone=ZONE,
        ordinary=Pace(HOUR, DAY, 3 * DAY, DAY),
        initial={"admission_delay": DAY, "holding_time": 0, "proposal_bond": 0},
    )
    owners = tuple(LocalAccount.from_key(keccak(f"owner {i}".encode())) for i in range(HOMES))
    fleet = Fleet.of(5, list(range(1, HOMES + 1)))
    numbers = deploying.register_homes(
        made,
        registrar,
        zone=ZONE,
        owners=[one.address for one in owners],
        devices=[checksum_address(gateway.address) for gateway in fleet.gateways],
        members=HOMES,
    )
    token, book = made["TestEuro"], made["EnergyMarket"]
    token.transact("mint", relay.address, 100 * EURO * HOMES, sender=chain.deployer)
    token.transact("mint", forecaster.address, BOND, sender=chain.deployer)
    token.transact("mint", made["Treasury"].address, 500 * EURO, sender=chain.deployer)
    token.transact("approve", book.address, 100 * EURO * HOMES, sender=relay)
    book.transact("deposit", numbers, [100 * EURO] * HOMES, sender=relay)
    token.transact("approve", made["ForecastRegistry"].address, BOND, sender=forecaster)
    made["ForecastRegistry"].transact("deposit_bond", BOND, sender=forecaster)
    chain.fund(owners[0].address)
    deploying.hand_over(made)
    separator = reading_separator(chain.chain_id, made["MeterRegistry"].address)
    return Village(
        chain,
        made,
        folder,
        owners,
        fleet,
        collector,
        forecaster,
        relay,
        _signed(separator, fleet),
    )


def _signed(separator: bytes, fleet: Fleet) -> Readings:
    """Everybody's readings of three days; each value occurs once."""
    slots = 3 * SLOTS_PER_DAY
    n = HOMES * slots
    meter = np.repeat(np.arange(1, HOMES + 1), slots)
    slot = np.tile(np.arange(FIRST, FIRST + slots), HOMES)
    value = LOWEST_READING + STEP * np.arange(2 * n)
    rows = Readings.columns(meter, slot, value[:n], np.where(meter <= SOLAR, value[n:], 0))
    rows = rows.take(~((rows.meter == 25) & np.isin(rows.slot, GAP)))
    return sign_chains({one.meter: one.key for one in fleet.gateways}, separator, rows, {})


@contextmanager
def _collecting(village: Village) -> Iterator[Collector]:
    registry = village["MeterRegistry"]
    with (
        SecretStore(village.folder / "secrets.sqlite") as secrets,
        Collector(
            ZONE,
            KeyPeriods.read(registry, ZONE),
            secrets,
            reading_separator(village.chain.chain_id, registry.address),
            village.folder / "lake",
            village.folder / "inbox.sqlite",
            capacity_w=CAPACITY_W,
            clock=village.chain.now,
            editor=Editor(capacity_w=CAPACITY_W, with_flags=False),
        ) as collector,
    ):
        yield collector


# What happens, hour by hour


def _live(village: Village, collector: Collector) -> None:
    """The steps of the days in order of time; each is one function."""
    start = FIRST * SLOT_SECONDS
    chain = village.chain
    chain.set_time(start - 3 * DAY)
    membership.complete(village["Membership"], list(range(1, HOMES + 1)), village.relay)
    spending = _Spending(village)
    balancing = _Balancing(village)
    sessions = [
        _Session(village, first)
        for first in range(JUNE_6, JUNE_7 + SLOTS_PER_DAY, SLOTS)
        if first != NEVER_OPENED
    ]
    midnight = JUNE_7 * SLOT_SECONDS
    steps = [
        (start - 3 * DAY + 60, spending.propose),
        (start - 3 * DAY + 2 * HOUR, spending.vote),
        (start - 2 * DAY + 2 * HOUR, spending.queue),
        (midnight - DAY + HOUR, spending.execute),
        (start + DAY + 600, lambda: _commit(village, collector, FIRST, SLOTS_PER_DAY)),
        (midnight - 5 * HOUR - 900, balancing.commit),
        (midnight - 5 * HOUR + 300, balancing.reveal),
        (midnight - 5 * HOUR + 600, balancing.propose),
        (midnight - 5 * HOUR + 900, balancing.vote),
        (midnight - HOUR, balancing.queue),
        (midnight - HOUR + 901, balancing.execute),
        (midnight + 4 * DAY + HOUR, balancing.score),
    ]
    for one in sessions:
        begin = one.first_slot * SLOT_SECONDS
        end = begin + SLOTS * SLOT_SECONDS
        steps += [(begin - 2 * HOUR, one.post), (begin - HOUR + 60, one.clear)]
        steps += [(end + 1_800, one.commit(collector)), (end + 2_400, one.settle)]
    last = NEVER_OPENED
    steps.append(
        ((last + SLOTS) * SLOT_SECONDS + 1_800, lambda: _commit(village, collector, last, SLOTS))
    )
    for at, step in sorted(steps, key=lambda pair: pair[0]):
        chain.set_time(at)
        step()
    chain.set_time((JUNE_7 + 8 * SLOTS_PER_DAY) * SLOT_SECONDS)


def _commit(village: Village, collector: Collector, first: int, slots: int) -> None:
    rows = village.readings
    here = (rows.slot >= first) & (rows.slot < first + slots)
    report = collector.receive(rows.take(here))
    assert not report.rejected, report.rejected[:3]
    batch = collector.close_batch(first, slots)
    publish(collector, village["ReadingLedger"], village.collector, batch)


@dataclass
class _Spending:
    """An ordinary vote that sets a budget and pays out of it."""

    village: Village
    proposal: governance.Proposal | None = None

    def propose(self) -> None:
        made = self.village["Treasury"]
        pays_at = JUNE_6 * SLOT_SECONDS + HOUR
        calls = [
            treasury.budget_call(
                made, 1, "Upkeep", 50 * EURO, 30 * DAY, pays_at, pays_at + 60 * DAY
            ),
            treasury.pay_call(made, 1, PAYEE, 7 * EURO, "a new fuse; invoice 12"),
        ]
        self.proposal = governance.propose(
            self.village["GridGovernor"], calls, "Mend the fuse box", self.village.owners[0]
        )

    def vote(self) -> None:
        _cast(self.village, self.proposal, 20, 3)

    def queue(self) -> None:
        assert self.proposal is not None
        governance.queue(self.village["GridGovernor"], self.proposal, self.village.relay)

    def execute(self) -> None:
        assert self.proposal is not None
        governance.execute(self.village["GridGovernor"], self.proposal, self.village.relay)


@dataclass
class _Balancing:
    """A forecast of June 7, and the battery's windows that it leads to."""

    village: Village
    proposal: governance.Proposal | None = None

    @property
    def words(self) -> list[int]:
        middle = 100_000_000 + 1_000 * np.arange(SLOTS_PER_DAY)
        return forecasts.pack_quantiles(middle - 50_000_000, middle, middle + 900_000_000)

    def commit(self) -> None:
        by = self.village.forecaster
        evidence = keccak(b"evidence")
        digest = forecasts.commitment(ZONE, JUNE_7, by.address, self.words, evidence, SALT)
        self.village["ForecastRegistry"].transact("commit", ZONE, JUNE_7, digest, sender=by)

    def reveal(self) -> None:
        self.village["ForecastRegistry"].transact(
            "reveal",
            ZONE,
            JUNE_7,
            self.words,
            keccak(b"evidence"),
            SALT,
            sender=self.village.forecaster,
        )

    def propose(self) -> None:
        windows = [(JUNE_7 + 40, 8, 20_000), (JUNE_7 + 72, 8, -18_000)]
        call = governance.battery_call(self.village["GridParameters"], ZONE, windows)
        self.proposal = governance.propose(
            self.village["GridGovernor"],
            [call],
            "Charge at noon, give back in the evening",
            self.village.forecaster,
            lane=Lane.BALANCING,
        )

    def vote(self) -> None:
        _cast(self.village, self.proposal, 25, 4)

    def queue(self) -> None:
        assert self.proposal is not None
        governance.queue(self.village["GridGovernor"], self.proposal, self.village.relay)

    def execute(self) -> None:
        assert self.proposal is not None
        governance.execute(self.village["GridGovernor"], self.proposal, self.village.relay)

    def score(self) -> None:
        by = self.village.forecaster.address
        self.village["ForecastRegistry"].transact(
            "score", by, ZONE, JUNE_7, self.words, sender=self.village.relay
        )


def _cast(
    village: Village, proposal: governance.Proposal | None, favour: int, against: int
) -> None:
    assert proposal is not None
    governor = village["GridGovernor"]
    separator = governance.governor_separator(governor)
    ballots = [
        governance.sign_ballot(
            separator,
            owner.key,
            owner.address,
            proposal.id,
            Support.FOR if i < favour else Support.AGAINST,
            "because" if i % 2 else "",
            proposal.deadline,
        )
        for i, owner in enumerate(village.owners[: favour + against])
    ]
    governance.cast_ballots(governor, proposal.id, ballots, village.relay)


@dataclass
class _Session:
    """One session of six hours: eight asks, twelve bids, one of them forged."""

    village: Village
    first_slot: int
    clearing: SessionClearing | None = None

    def post(self) -> None:
        rng = np.random.default_rng(self.first_slot)
        signed = [self._order(n, ASK, 90 + 7 * n, rng) for n in SELLERS]
        signed += [self._order(n, BID, 190 + 9 * (n - 20), rng) for n in BUYERS]
        forged = self._order(33, BID, 300, rng)
        signed.insert(5, replace(forged, signature=signed[0].signature))
        _, rejected = market.post(
            self.village["EnergyMarket"], ZONE, self.first_slot, signed, self.village.relay
        )
        assert len(rejected) == 1

    def _order(self, account: int, side: int, limit: int, rng: np.random.Generator) -> SignedOrder:
        flat = account % 3 == 0
        wh = tuple(int(v) for v in rng.integers(1, 60, SLOTS) * 10)
        order = Order(
            account=account,
            mandate=0,
            nonce=self.village.nonces.take(account),
            expiry=self.first_slot * SLOT_SECONDS,
            side=side,
            limit=limit,
            session_slot=self.first_slot,
            offset=2 if flat else 0,
            wh=wh[0] if flat else wh,
            count=SLOTS - 4 if flat else SLOTS,
        )
        key = self.village.owners[account - 1].key
        return SignedOrder(order, sign_order(self.village.separator, order, key))

    def clear(self) -> None:
        if self.first_slot == NEVER_CLEARED:
            return
        made = self.village.deployment
        book = market.read_book(made["EnergyMarket"], ZONE, self.first_slot)
        self.clearing = market.clear(
            made["UniformPriceAuction"],
            made["EnergyMarket"],
            made["GridParameters"],
            ZONE,
            book,
            self.village.relay,
        )

    def commit(self, collector: Collector) -> Callable[[], None]:
        return lambda: _commit(self.village, collector, self.first_slot, SLOTS)

    def settle(self) -> None:
        made, relay = self.village.deployment, self.village.relay
        if self.first_slot == NEVER_CLEARED:
            made["EnergyMarket"].transact("void", ZONE, self.first_slot, sender=relay)
        book = market.read_book(made["EnergyMarket"], ZONE, self.first_slot)
        receipts = {}
        for order in book.orders:
            if order.side == ASK:
                # Seller 3 falls short in every slot, seller 4 in the first ones.
                share = 5 if order.account == 3 else 10
                wh = [order.at(slot) * share // 10 for slot in self._slots]
                if order.account == 4:
                    wh[:8] = [0] * 8
                gateway = self.village.fleet.gateways[order.account - 1]
                signature = sign_receipt(
                    self.village.separator, order.account, self.first_slot, wh, gateway.key
                )
                receipts[order.account] = DeviceReceipt(order.account, tuple(wh), signature)
        # In two runs, so that an order's sums stand in two events.
        for slots in (10, None):
            market.settle(
                made["UniformPriceAuction"],
                made["EnergyMarket"],
                ZONE,
                book,
                receipts,
                relay,
                slots=slots,
            )

    @property
    def _slots(self) -> range:
        return range(self.first_slot, self.first_slot + SLOTS)
