# SPDX-License-Identifier: Apache-2.0
"""A zone of sixteen homes on a real node with four committed days across the end of May.

Meter 3 has a bit of everything in May: values that are easy to find, a superseded reading, a late
one, a contradiction kept as evidence, device receipts at a relay, a report of its battery, and edit
records of June that were made from its May.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np

from dao import ledger
from dao.anvil import AnvilNode
from dao.chain import Chain, Contract, LocalAccount
from dao.eip712 import keccak
from dao.market.orders import market_separator, sign_receipt
from dao.market.session import DeviceReceipt
from dao.relay.store import RelayStore
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY, first_slot_of_day
from meters.collector import Collector
from meters.dispatch import DispatchReport
from meters.erasure import Stores
from meters.grants import grant_separator
from meters.leaves import first_slot_of_month
from meters.readings import Reading, Readings
from meters.registry import KeyPeriods
from meters.secrets import SecretStore
from meters.service.dispatches import Dispatches
from meters.signing import Head, heads_after, reading_separator, sign_chain, sign_chains
from meters.vee.edit import Editor
from tests.chains import put_back
from tests.meters.batch_rows import fleet, rows
from tests.meters.on_node import OnNode, addresses_of, deploy

ZONE, HOMES, METER = 1, 16, 3
MAY = 46 * 12 + 4
JUNE_SLOT = first_slot_of_month(MAY + 1)
FIRST = JUNE_SLOT - 2 * SLOTS_PER_DAY
"""The ledger of the zone begins on May 30."""
DAYS = 4
GAP = range(JUNE_SLOT, JUNE_SLOT + 4)
"""The first hour of June, which meter 3 does not deliver: filled from the last slot of May on."""
OWNERS = tuple(LocalAccount.from_key(keccak(f"owner {i}".encode())) for i in range(HOMES))
STRANGER = LocalAccount.from_key(keccak(b"a stranger"))
READER = LocalAccount.from_key(keccak(b"a reader"))


@dataclass(frozen=True)
class Town(OnNode):
    """The zone, in a state folder that the test may change."""

    readings: Readings
    beside: Readings
    """What meter 3 signed of May and did not count: superseded, contradicting, late."""

    @property
    def grant_separator(self) -> bytes:
        return grant_separator(self.addresses.chain_id, self.addresses["MeterRegistry"])

    def stores(self, secrets: SecretStore) -> Stores:
        return Stores(
            lake=self.lake,
            secrets=secrets,
            inbox=self.folder / "inbox.sqlite",
            relay=self.folder / "relay.sqlite",
            dispatches=self.folder / "dispatch.sqlite",
            journal=self.folder / "erasures",
            separator=self.separator,
        )

    def of(self, meter: int, first: int, end: int) -> Readings:
        """What a meter's device signed of these slots, as it counts."""
        here = (self.readings.meter == meter) & (self.readings.slot >= first)
        return self.readings.take(here & (self.readings.slot < end))

    def reading(self, meter: int, slot: int) -> Reading:
        (found,) = self.of(meter, slot, slot + 1)
        return found


def _four_days(separator: bytes) -> tuple[Readings, Readings]:
    """Everybody's signed readings, and one that meter 3 signed before the one that counts.

    Meter 3's values of May occur once each and nowhere else.
    """
    plain = rows(FIRST, DAYS * SLOTS_PER_DAY, HOMES)
    mine = np.flatnonzero((plain.meter == METER) & (plain.slot < JUNE_SLOT))
    plain.import_wh[mine] = 11_003 + 31 * np.arange(len(mine))
    plain.export_wh[mine] = 10_007 + 29 * np.arange(len(mine))
    plain = plain.take(~((plain.meter == METER) & np.isin(plain.slot, GAP)))
    first = _more(plain.take(plain.meter == METER).take(np.array([0])))
    keys = {gateway.meter: gateway.key for gateway in fleet(HOMES).gateways}
    signed = sign_chains(keys, separator, Readings.concat([first, plain]), {})
    return signed.take(np.arange(1, len(signed))), signed.take(np.array([0]))


def _more(readings: Readings) -> Readings:
    return replace(readings, import_wh=readings.import_wh + 5_000)


@contextmanager
def built(folder: Path) -> Iterator[tuple[Chain, Town]]:
    """The town on a node of its own, its time noon of June 3."""
    begin = FIRST * SLOT_SECONDS - 43_200
    with AnvilNode(timestamp=begin) as running, Chain.local(running.url) as chain:
        registry, book = deploy(chain, ZONE, [owner.address for owner in OWNERS])
        addresses, collecting = addresses_of(registry, book), chain.accounts[2]
        separator = reading_separator(chain.chain_id, registry.address)
        readings, older = _four_days(separator)
        chain.set_time((FIRST + DAYS * SLOTS_PER_DAY) * SLOT_SECONDS + 43_200)
        beside = _collected(folder, registry, book, collecting, readings, older)
        _relayed(folder)
        _reported(folder, registry, readings)
        yield chain, Town(chain, addresses, folder, readings, beside)


def _collected(
    folder: Path,
    registry: Contract,
    book: Contract,
    collecting: LocalAccount,
    readings: Readings,
    older: Readings,
) -> Readings:
    """Four days taken in, closed and committed; what meter 3 signed beside what counts."""
    chain = registry.chain
    separator = reading_separator(chain.chain_id, registry.address)
    key = fleet(HOMES).gateways[METER - 1].key
    with (
        SecretStore(folder / "secrets.sqlite") as secrets,
        Collector(
            ZONE,
            KeyPeriods.read(registry, ZONE),
            secrets,
            separator,
            folder / "lake",
            folder / "inbox.sqlite",
            clock=chain.now,
            editor=Editor(with_flags=False),
        ) as collector,
    ):
        last = FIRST + DAYS * SLOTS_PER_DAY - 1
        late = _again(readings, separator, key, FIRST + 7, after=last)
        fork = _again(readings, separator, key, FIRST + 5, after=FIRST + 4)
        assert collector.receive(older).accepted == 1
        for day in range(DAYS):
            first = FIRST + day * SLOTS_PER_DAY
            here = (readings.slot >= first) & (readings.slot < first + SLOTS_PER_DAY)
            assert not collector.receive(readings.take(here)).rejected
            if not day:
                assert collector.receive(fork).rejected[0][0] == "sequence"
            batch = collector.close_batch(first, SLOTS_PER_DAY)
            ledger.commit(
                book,
                collecting,
                zone=ZONE,
                first_slot=first,
                root=batch.root,
                homes=batch.homes,
                leaves=batch.leaves,
                net_wh=batch.net_wh,
                export_wh=batch.export_wh,
            )
            collector.mark_committed(batch)
        assert collector.receive(late).accepted == 1
    return Readings.concat([older, fork, late])


def _again(readings: Readings, separator: bytes, key: bytes, slot: int, *, after: int) -> Readings:
    """Another value of meter 3 for a slot, next in its chain after the reading of slot `after`."""
    mine = readings.take((readings.meter == METER) & (readings.slot <= after))
    head = heads_after(separator, mine).get(METER, Head.NONE)
    one = readings.take((readings.meter == METER) & (readings.slot == slot))
    return sign_chain(key, separator, _more(one), head)


def _relayed(folder: Path) -> None:
    store = RelayStore(folder / "relay.sqlite")
    separator = market_separator(31_337, "0x" + "17" * 20)
    for gateway in fleet(HOMES).gateways:
        for session in (FIRST, FIRST + SLOTS_PER_DAY, JUNE_SLOT):
            exports = tuple(40_000 + 97 * gateway.meter + i for i in range(24))
            signature = sign_receipt(separator, gateway.meter, session, exports, gateway.key)
            store.add_receipt(session, DeviceReceipt(gateway.meter, exports, signature))
    store.close()


def _reported(folder: Path, registry: Contract, readings: Readings) -> None:
    """Meter 3's battery did in one slot of May and one of June what the meter shows there."""
    chain = registry.chain
    separator = reading_separator(chain.chain_id, registry.address)
    reports = Dispatches(folder / "dispatch.sqlite", KeyPeriods.read(registry, ZONE), separator)
    for slot in (FIRST, FIRST + DAYS * SLOTS_PER_DAY - 1):
        (meant,) = readings.take((readings.meter == METER) & (readings.slot == slot))
        plain = DispatchReport(METER, slot, 5_000, 5_000, meant.import_wh, "battery")
        signed = plain.signed(fleet(HOMES).gateways[METER - 1].key, separator)
        assert reports.add(signed.to_json(), chain.now())
    reports.close()


@contextmanager
def visited(town: Town, folder: Path, at: date | None = None) -> Iterator[Town]:
    """The town with a state folder of its own, on a day; the chain is put back afterwards."""
    shutil.copytree(town.folder, folder, dirs_exist_ok=True)
    with put_back(town.chain):
        if at is not None:
            town.chain.set_time(first_slot_of_day(at) * SLOT_SECONDS)
        yield replace(town, folder=folder)
