# SPDX-License-Identifier: Apache-2.0
"""What is due on a real chain: batches in order, a node that is away, new meters, corrections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dao import ledger as client
from dao.chain import Chain, Contract
from dao.eip712 import keccak
from meters.collector import Collector
from meters.devices import Fleet
from meters.frames import encode
from meters.lake import read_batch
from meters.readings import Quality, Readings
from meters.registry import KeyPeriods
from meters.secrets import DerivedSecrets
from meters.service.committer import Committer, Terms
from meters.service.metrics import Metrics
from meters.service.writer import Busy, Writer
from meters.signing import Head, heads_after, sign_chains
from meters.vee.edit import Editor
from tests.keeper.conftest import Gateway as Door
from tests.meters.batch_rows import rows
from tests.meters.service.served import intake_of
from tests.meters.service.zone import (
    COLLECTOR,
    FIRST,
    HOMES,
    KEYS,
    ZONE,
    OnChain,
    of,
    signed,
)

HOUR = 3_600
TERMS = Terms(slots=8, delay_s=1_800, patience_s=6 * HOUR)


@dataclass
class Zone:
    """A collector with its committer, driven look by look."""

    on: OnChain
    writer: Writer
    committer: Committer
    lake: Path

    def receive(self, readings: Readings) -> int:
        report = self.writer.submit(encode(readings), "test").result(30)
        return report.report.accepted

    def look(self) -> bool:
        return self.committer.look()


Opened = Callable[..., Zone]


@pytest.fixture
def opened(on: OnChain, tmp_path: Path) -> Iterator[Opened]:
    made: list[Zone] = []

    def make(url: str | None = None, commits: bool = True) -> Zone:
        chain, ledger, registry = on.chain, on.ledger, on.deployment["MeterRegistry"]
        if url is not None:
            chain = Chain.local(url)
            ledger, registry = _through(chain, ledger), _through(chain, registry)
        keys = KeyPeriods.read(registry, ZONE)
        lake = tmp_path / "lake"

        def collector() -> Collector:
            return Collector(
                ZONE,
                keys,
                DerivedSecrets(b"a secret for the tests only"),
                on.separator,
                lake,
                tmp_path / "inbox.sqlite",
                editor=Editor(),
            )

        writer = Writer(collector)
        writer.start()
        account = on.chain.accounts[COLLECTOR] if commits else None
        committer = Committer(
            writer, keys, ledger, account, ZONE, lake, Metrics(), terms=TERMS, now=chain.now
        )
        zone = Zone(on, writer, committer, lake)
        made.append(zone)
        return zone

    yield make
    for zone in made:
        assert zone.writer.stop()


def _through(chain: Chain, contract: Contract) -> Contract:
    return chain.at(contract.name, contract.address)


def test_batches_are_committed_in_order_once_they_are_due(on: OnChain, opened: Opened) -> None:
    zone = opened()
    assert zone.receive(signed(on.separator, FIRST, 16)) == 16 * HOMES
    on.at_slot(FIRST + 4, 1_799)
    assert zone.look()
    assert on.until() == 0
    on.at_slot(FIRST + 4, 1_800)
    assert zone.look()
    assert on.until() == FIRST + 4  # the first hour, from which on the ledger counts
    on.at_slot(FIRST + 16, 1_800)
    assert zone.look()
    assert on.until() == FIRST + 16
    version = on.ledger.call("batches", ZONE, FIRST + 8)
    assert version["slots"] == 8
    assert dict(zone.committer.standing.quality)["measured"] == 1.0
    assert zone.writer.call(lambda collector: collector.waiting()) == 0


def test_without_readings_of_fifteen_homes_nothing_is_closed(on: OnChain, opened: Opened) -> None:
    zone = opened()
    zone.receive(signed(on.separator, FIRST, 8, homes=14))
    on.at_slot(FIRST + 96)
    assert zone.look()
    assert on.until() == 0
    assert zone.committer.standing.waits_for == "an hour with readings of 15 homes"


def test_a_gap_is_filled_with_a_record_once_patience_is_over(on: OnChain, opened: Opened) -> None:
    zone = opened()
    readings = signed(on.separator, FIRST, 8)
    zone.receive(readings.take(readings.slot != FIRST + 5))
    on.at_slot(FIRST + 8, 1_800)
    assert zone.look()
    assert on.until() == FIRST + 4
    assert "0 came" in str(zone.committer.standing.waits_for)
    on.at_slot(FIRST + 8, 1_800 + TERMS.patience_s)
    assert zone.look()
    assert on.until() == FIRST + 8
    stored = read_batch(next(zone.lake.rglob(f"batch-{FIRST + 4}-4.parquet")))
    filled = stored.readings.slot == FIRST + 5
    assert (stored.readings.quality[filled] == Quality.ESTIMATED).all()
    assert len(stored.records) >= HOMES


def test_a_batch_that_the_ledger_cannot_take_stays_open_for_what_comes(
    on: OnChain, opened: Opened
) -> None:
    zone = opened()
    readings = signed(on.separator, FIRST, 4)
    zone.receive(readings)
    after = heads_after(on.separator, readings)
    late = signed(on.separator, FIRST + 4, 4, after)
    on.at_slot(FIRST + 8, 1_800 + TERMS.patience_s)
    assert zone.look()
    assert on.until() == FIRST + 4
    assert zone.writer.call(lambda collector: collector.uncommitted()) == []
    assert not list(zone.lake.rglob(f"batch-{FIRST + 4}-*"))
    assert zone.receive(late) == len(late)
    assert zone.look()
    assert on.until() == FIRST + 8


def test_while_the_node_is_away_readings_are_taken_and_committed_afterwards(
    on: OnChain, opened: Opened
) -> None:
    with Door(on.node.url) as door:
        zone = opened(door.url)
        on.at_slot(FIRST + 16, 1_800)
        door.close()
        assert not zone.look()
        assert zone.committer.standing.is_away
        assert zone.receive(signed(on.separator, FIRST, 16)) == 16 * HOMES
        assert not zone.look()
        door.open()
        assert zone.look()
        assert not zone.committer.standing.is_away
    assert on.until() == FIRST + 16


def test_a_transaction_whose_answer_was_lost_is_found_on_the_ledger(
    on: OnChain, opened: Opened
) -> None:
    cut: list[str] = []
    with Door(on.node.url) as door:

        def after(asked: dict[str, object]) -> None:
            if asked["method"] == "eth_sendRawTransactionSync" and not cut:
                cut.append("once")
                raise ConnectionError("the answer is lost")

        door.after = after
        zone = opened(door.url)
        zone.receive(signed(on.separator, FIRST, 4))
        on.at_slot(FIRST + 4, 1_800)
        assert not zone.look()
        assert on.until() == FIRST + 4
        assert zone.writer.call(lambda collector: collector.uncommitted()) == [(FIRST, 4)]
        assert zone.look()
    assert zone.writer.call(lambda collector: collector.uncommitted()) == []
    assert len(on.ledger.events("BatchCommitted")) == 1


def test_a_batch_that_a_reorganisation_took_back_is_committed_again(
    on: OnChain, opened: Opened
) -> None:
    zone = opened()
    zone.receive(signed(on.separator, FIRST, 8))
    on.at_slot(FIRST + 4, 1_800)
    assert zone.look()
    before = on.chain.rpc("evm_snapshot")
    on.at_slot(FIRST + 8, 1_800)
    assert zone.look()
    assert on.until() == FIRST + 8
    assert on.chain.rpc("evm_revert", before)
    on.chain._nonces.clear()
    assert on.until() == FIRST + 4
    on.at_slot(FIRST + 8, 1_900)
    assert zone.look()
    assert on.until() == FIRST + 8
    assert zone.committer.standing.uncommitted == 0


def test_a_new_meter_and_a_new_key_count_from_the_first_reading_on(
    on: OnChain, opened: Opened
) -> None:
    new, rotated = Fleet.of(7, range(1, 40)).gateways[20:22]
    readings = sign_chains(
        {HOMES + 1: new.key, 2: rotated.key},
        on.separator,
        Readings.concat([of(rows(FIRST, 4, HOMES + 1), meter) for meter in (HOMES + 1, 2)]),
        {},
    )
    frame = encode(readings)
    with Door(on.node.url) as door:
        zone = opened(door.url)
        intake = intake_of(zone.writer, follow=zone.committer.follow)
        registry, registrar = on.deployment["MeterRegistry"], on.chain.accounts[1]
        device, owner = "0x" + new.address.hex(), on.chain.accounts[9].address
        registry.transact("register_batch", [owner], [device], ZONE, sender=registrar)
        registry.transact("rotate_key", 2, "0x" + rotated.address.hex(), sender=registrar)
        on.at_slot(FIRST + 4)
        door.close()
        # A rejection is for good: nobody is rejected by a registry that may be out of date.
        with pytest.raises(Busy):
            asyncio.run(intake.take("http", "a", frame))
        door.open()
        made = asyncio.run(intake.take("http", "a", frame))
    assert (made.accepted, made.duplicates, made.rejected) == (8, 0, ())
    assert made.heads[2].sequence == 3


def test_a_correction_is_published_in_its_window(on: OnChain, opened: Opened) -> None:
    zone = opened()
    readings = signed(on.separator, FIRST, 4)
    zone.receive(readings)
    on.at_slot(FIRST + 4, 1_800)
    assert zone.look()
    again = Readings.columns(
        readings.meter, readings.slot, readings.import_wh + 7, readings.export_wh
    )
    late = sign_chains(KEYS, on.separator, again, heads_after(on.separator, readings))
    assert zone.receive(late) == len(late)
    assert zone.look()
    assert on.ledger.call("version_of", ZONE, FIRST) == 1
    opens, _ = client.correction_window(on.ledger, ZONE, FIRST)
    on.chain.set_time(opens)
    assert zone.look()
    assert on.ledger.call("version_of", ZONE, FIRST) == 2
    totals = client.read_totals(on.ledger, ZONE, FIRST, FIRST + 4)[0]
    by_slot = (again.import_wh - again.export_wh).reshape(HOMES, 4).sum(axis=0)
    assert np.array_equal(totals, by_slot)


def test_a_correction_window_that_is_over_is_not_asked_for_again(
    on: OnChain, opened: Opened
) -> None:
    asked: list[str] = []
    selector = "0x" + keccak(b"correction_window(uint256,uint256)")[:4].hex()

    def before(request: dict[str, Any]) -> None:
        if request["method"] == "eth_call":
            call = request["params"][0]
            data = str(call.get("data") or call.get("input"))
            asked.extend([data] if data.startswith(selector) else [])

    with Door(on.node.url, before=before) as door:
        zone = opened(door.url)
        readings = signed(on.separator, FIRST, 4)
        zone.receive(readings)
        on.at_slot(FIRST + 4, 1_800)
        zone.look()
        one = readings.take(readings.meter == 3)
        again = Readings.columns(one.meter, one.slot, one.import_wh + 7, one.export_wh)
        zone.receive(sign_chains({3: KEYS[3]}, on.separator, again, heads_after(on.separator, one)))
        _, closes = client.correction_window(on.ledger, ZONE, FIRST)
        for moment in (closes, closes + 60, closes + 120):
            on.chain.set_time(moment)
            assert zone.look()
    assert len(asked) == 1


def test_a_correction_of_a_few_homes_is_not_published(on: OnChain, opened: Opened) -> None:
    zone = opened()
    readings = signed(on.separator, FIRST, 4)
    zone.receive(readings)
    on.at_slot(FIRST + 4, 1_800)
    zone.look()
    one = readings.take(readings.meter == 3)
    head: Head = heads_after(on.separator, one)[3]
    again = Readings.columns(one.meter, one.slot, one.import_wh + 7, one.export_wh)
    zone.receive(sign_chains({3: KEYS[3]}, on.separator, again, {3: head}))
    on.chain.set_time(client.correction_window(on.ledger, ZONE, FIRST)[0])
    assert zone.look()
    assert on.ledger.call("version_of", ZONE, FIRST) == 1
    assert zone.committer.standing.corrections == (FIRST,)


def test_another_collector_on_the_ledger_is_told_and_nothing_is_purged(
    on: OnChain, opened: Opened
) -> None:
    zone = opened()
    zone.receive(signed(on.separator, FIRST, 4))
    zone.writer.call(lambda collector: collector.close_batch(FIRST, 4))
    on.at_slot(FIRST + 4, 1_800)
    client.commit(
        on.ledger,
        on.chain.accounts[COLLECTOR],
        zone=ZONE,
        first_slot=FIRST,
        root=b"\x01" * 32,
        homes=15,
        leaves=60,
        net_wh=[0] * 4,
        export_wh=[0] * 4,
    )
    assert not zone.look()
    assert "see the log" in str(zone.committer.standing.problem)
    assert zone.writer.call(lambda collector: collector.waiting()) == 4 * HOMES


def test_with_no_commit_nothing_is_closed(on: OnChain, opened: Opened) -> None:
    zone = opened(commits=False)
    zone.receive(signed(on.separator, FIRST, 4))
    on.at_slot(FIRST + 96)
    assert zone.look()
    assert on.until() == 0
    assert not list(zone.lake.rglob("*.parquet"))


@pytest.mark.parametrize("slots", [0, 3, 20, 40, 192])
def test_a_batch_divides_a_day_into_whole_hours(slots: int) -> None:
    with pytest.raises(ValueError):
        Terms(slots=slots)
