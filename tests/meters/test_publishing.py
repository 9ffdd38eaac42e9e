# SPDX-License-Identifier: Apache-2.0
"""From a closed batch to the ledger of a real node: once, noted, and never against another's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dao.anvil import AnvilNode
from dao.chain import Chain, Contract, ContractReverted, LocalAccount, Receipt
from dao.deployment import Deployment, Roles, deploy
from dao.errors import CheckFailed
from dao.ledger import read_totals
from meters.collector import Collector
from meters.lake import Batch
from meters.publishing import due_corrections, publish, publish_correction
from meters.readings import Readings
from tests.chains import put_back
from tests.meters.batch_rows import DAY

Zone = Any


@pytest.fixture(scope="module")
def node() -> Iterator[Chain]:
    with AnvilNode(timestamp=(DAY - 7 * 96) * 900) as running, Chain.local(running.url) as chain:
        yield chain


@pytest.fixture(scope="module")
def founded(node: Chain) -> Deployment:
    offices = (account.address for account in node.accounts[1:5])
    return deploy(node, Roles(*offices), zone=1)


@pytest.fixture
def town(node: Chain, founded: Deployment, zone: Zone) -> Iterator[Town]:
    """The contracts as deployed; the clock stands at the end of the batch."""
    with put_back(node):
        node.set_time((zone.first_slot + zone.slots) * 900)
        yield Town(node, founded["ReadingLedger"], node.accounts[2])


@dataclass(frozen=True)
class Town:
    chain: Chain
    ledger: Contract
    account: LocalAccount

    def publish(self, collector: Any, batch: Batch) -> Receipt | None:
        return publish(collector, self.ledger, self.account, batch)

    def correct(self, collector: Collector, first_slot: int) -> Receipt | None:
        return publish_correction(collector, self.ledger, self.account, first_slot)

    def due(self, collector: Collector) -> list[int]:
        return due_corrections(collector, self.ledger, self.chain.now())


def test_a_batch_reaches_the_ledger_once(zone: Zone, town: Town) -> None:
    with zone.collector() as collector:
        collector.receive(zone.readings)
        batch = collector.close_batch(zone.first_slot, zone.slots)
        assert town.publish(collector, batch) is not None
        assert collector.uncommitted() == []
        assert town.publish(collector, batch) is None
    assert town.ledger.call("root_of", 1, zone.first_slot, 1) == batch.root


def test_a_commit_that_was_not_noted_is_noted_later(zone: Zone, town: Town) -> None:
    with zone.collector() as collector:
        collector.receive(zone.readings)
        batch = collector.close_batch(zone.first_slot, zone.slots)
        town.publish(Forgetful(collector), batch)
        assert collector.uncommitted() == [(zone.first_slot, zone.slots)]
        assert town.publish(collector, batch) is None
        assert collector.uncommitted() == []


class Forgetful:
    """A collector that ends between the transaction and its note."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector

    def mark_committed(self, batch: Batch) -> None:
        pass


def test_two_collectors_on_two_machines_are_told_so(zone: Zone, town: Town, tmp_path: Path) -> None:
    other = {"inbox": tmp_path / "other.sqlite", "lake": tmp_path / "other"}
    with zone.collector() as one, zone.collector(**other) as two:
        one.receive(zone.readings)
        two.receive(zone.readings.take(zone.readings.slot > zone.first_slot))
        two.receive(zone.readings.take(zone.readings.meter != 3))
        town.publish(one, one.close_batch(zone.first_slot, zone.slots))
        batch = two.close_batch(zone.first_slot, zone.slots)
        with pytest.raises(CheckFailed, match="another collector has published"):
            town.publish(two, batch)
        assert two.uncommitted() == [(zone.first_slot, zone.slots)], "nothing is purged"
        assert two.waiting() == 63


def test_other_batches_over_the_same_slots_are_told_too(
    zone: Zone, town: Town, tmp_path: Path
) -> None:
    other = {"inbox": tmp_path / "other.sqlite", "lake": tmp_path / "other"}
    with zone.collector() as one, zone.collector(**other) as two:
        one.receive(zone.readings)
        whole = one.close_batch(zone.first_slot, 4)
        longer = {name: np.pad(getattr(whole, name), (0, 4)) for name in ("net_wh", "export_wh")}
        town.chain.set_time((zone.first_slot + 8) * 900)
        town.publish(Forgetful(one), replace(whole, slots=8, **longer))
        with pytest.raises(CheckFailed, match="has other batches over the slots"):
            town.publish(two, two.close_batch(zone.first_slot + 4, 4))


def test_a_node_that_is_away_leaves_the_batch_for_later(zone: Zone) -> None:
    with AnvilNode() as running, Chain.local(running.url) as chain, zone.collector() as collector:
        founded = deploy(chain, Roles(*(a.address for a in chain.accounts[1:5])), zone=1)
        collector.receive(zone.readings)
        batch = collector.close_batch(zone.first_slot, zone.slots)
        running.stop()
        with pytest.raises(CheckFailed, match="unreachable"):
            publish(collector, founded["ReadingLedger"], chain.accounts[2], batch)
        assert collector.uncommitted() == [(zone.first_slot, zone.slots)]
        assert collector.waiting() == 64


def test_a_correction_is_due_inside_its_window_and_published_there(zone: Zone, town: Town) -> None:
    first = zone.first_slot
    newer = [zone.signed(meter, first + 1, 77, 0) for meter in zone.fleet.devices]
    with zone.collector() as collector:
        collector.receive(zone.readings)
        town.publish(collector, collector.close_batch(first, zone.slots))
        assert collector.receive(Readings.concat(newer)).late == 16
        assert town.due(collector) == []
        with pytest.raises(ContractReverted, match="too early"):
            town.correct(collector, first)
        assert collector.uncommitted_corrections() == [], "taken back"
        opens, closes = town.ledger.call("correction_window", 1, first)
        town.chain.set_time(opens)
        assert town.due(collector) == [first]
        second = collector.correct_batch(first)  # and the process ends here
        assert town.due(collector) == [first]
        assert town.correct(collector, first) is not None
        assert town.due(collector) == []
        assert town.ledger.call("root_of", 1, first, 2) == second.root
        assert town.ledger.call("batches", 1, first)["root"] == second.root
        assert collector.uncommitted_corrections() == []
        net, _ = read_totals(town.ledger, 1, first, first + zone.slots)
        assert net.tolist() == second.net_wh.tolist()
        assert closes > town.chain.now()


def test_after_its_window_a_correction_is_not_due(zone: Zone, town: Town) -> None:
    newer = zone.signed(3, zone.first_slot + 1, 77, 0)
    with zone.collector() as collector:
        collector.receive(zone.readings)
        town.publish(collector, collector.close_batch(zone.first_slot, zone.slots))
        collector.receive(newer)
        _, closes = town.ledger.call("correction_window", 1, zone.first_slot)
        town.chain.set_time(closes)
        assert town.due(collector) == []
        with pytest.raises(ContractReverted, match="totals are final"):
            publish_correction(collector, town.ledger, town.account, zone.first_slot, force=True)
        assert len(list(read_batch_files(collector))) == 1


def read_batch_files(collector: Collector) -> list[Path]:
    """What lies in the lake."""
    (batch,) = collector.inbox.closed()
    folder = collector.close_batch(batch.first_slot, batch.slots).path.parent
    return sorted(folder.glob("*.parquet"))
