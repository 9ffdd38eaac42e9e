# SPDX-License-Identifier: Apache-2.0
"""What a zone's ledger takes, and what it says afterwards. Corrections: test_corrections.py."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import boa
import pytest

from dao.errors import BadUse
from dao.ledger import pack_totals, unpack_totals
from tests.contracts.market_world import DAY_SLOT, load, rules

ROOT = b"\x01" * 32
ZERO = "0x" + "00" * 20


@dataclass
class Ledger:
    contract: Any
    owner: str
    collector: str

    def commit(
        self,
        first_slot: int = DAY_SLOT,
        net: Sequence[int] = (0,) * 4,
        export: Sequence[int] | None = None,
        *,
        zone: int = 1,
        slots: int | None = None,
        root: bytes = ROOT,
        homes: int = 15,
        leaves: int = 60,
        sender: str | None = None,
    ) -> None:
        words = pack_totals(net, export or [0] * len(net))
        count = len(net) if slots is None else slots
        self.contract.commit(
            zone, first_slot, count, root, homes, leaves, words, sender=sender or self.collector
        )


@pytest.fixture(scope="module")
def deployed() -> Ledger:
    owner, collector = (str(boa.env.generate_address(n)) for n in ("owner", "collector"))
    with boa.env.prank(owner):
        parameters = load("GridParameters")
        parameters.define_batch(rules())
        contract = load("ReadingLedger", parameters.address)
        contract.set_collector(1, collector)
    return Ledger(contract, owner, collector)


@pytest.fixture
def ledger(deployed: Ledger) -> Iterator[Ledger]:
    with boa.env.anchor():
        before, boa.env.timestamp = boa.env.timestamp, (DAY_SLOT + 960) * 900
        yield deployed
        boa.env.timestamp = before


def test_a_committed_batch_can_be_read_back(ledger: Ledger) -> None:
    ledger.commit(net=[5, -7, 0, 2**31 - 1], export=[0, 7, 2**32 - 1, 1])
    assert ledger.contract.batches(1, DAY_SLOT) == (ROOT, 4, 15, 60)
    assert ledger.contract.version_of(1, DAY_SLOT) == 1
    assert ledger.contract.committed_until(1) == DAY_SLOT + 4
    lanes = ledger.contract.totals(1, DAY_SLOT, 4)
    assert [lane >> 32 for lane in lanes] == [0, 7, 2**32 - 1, 1]
    assert [lane & 0xFFFFFFFF for lane in lanes] == [5, 2**32 - 7, 0, 2**31 - 1]


def test_a_commit_is_announced_with_its_totals(ledger: Ledger) -> None:
    ledger.commit(net=[1, 2, 3, 4])
    (event,) = ledger.contract.get_logs()
    assert (event.zone, event.first_slot, event.slots, event.root) == (1, DAY_SLOT, 4, ROOT)
    assert (event.homes, event.leaves) == (15, 60)
    assert event.totals == pack_totals([1, 2, 3, 4], [0] * 4)


@pytest.mark.parametrize("slots", [4, 8, 96])
def test_packed_totals_arrive_unharmed_at_any_offset(ledger: Ledger, slots: int) -> None:
    rng = random.Random(slots)
    edges = (0, 1, -1, -(2**31), 2**31 - 1)
    net = [rng.choice((*edges, rng.randint(-(2**31), 2**31 - 1))) for _ in range(slots)]
    export = [rng.choice((0, 1, 2**32 - 1, rng.randint(0, 2**32 - 1))) for _ in range(slots)]
    words = pack_totals(net, export)
    assert [list(a) for a in unpack_totals(words, slots)] == [net, export]
    ledger.commit(net=net, export=export)
    for _ in range(10):
        start = rng.randrange(slots)
        count = rng.randint(0, slots - start)
        lanes = ledger.contract.totals(1, DAY_SLOT + start, count)
        assert [lane >> 32 for lane in lanes] == export[start : start + count]
        low = [lane & 0xFFFFFFFF for lane in lanes]
        assert [v - 2**32 if v >> 31 else v for v in low] == net[start : start + count]


@pytest.mark.parametrize(
    ("net", "export"),
    [
        ([2**31, 0, 0, 0], [0] * 4),
        ([-(2**31) - 1, 0, 0, 0], [0] * 4),
        ([0] * 4, [-1, 0, 0, 0]),
        ([0] * 4, [2**32, 0, 0, 0]),
        ([0] * 3, [0] * 3),
        ([0] * 4, [0] * 8),
    ],
)
def test_totals_that_do_not_fit_are_not_packed(net: list[int], export: list[int]) -> None:
    with pytest.raises(BadUse):
        pack_totals(net, export)


def test_slots_outside_the_ledger_read_as_zero(ledger: Ledger) -> None:
    ledger.commit(net=[9] * 4)
    assert ledger.contract.totals(1, DAY_SLOT - 2, 8) == [0, 0, 9, 9, 9, 9, 0, 0]
    assert ledger.contract.totals(2, DAY_SLOT, 1) == [0]


def test_what_was_never_committed_is_no_batch(ledger: Ledger) -> None:
    ledger.commit(net=[1] * 8)
    for zone, first_slot in ((1, DAY_SLOT + 4), (1, DAY_SLOT - 4), (2, DAY_SLOT)):
        assert ledger.contract.batches(zone, first_slot) == (bytes(32), 0, 0, 0)
        assert ledger.contract.version_of(zone, first_slot) == 0
        for version in (0, 1, 2, 3, 2**256 - 1):
            assert ledger.contract.root_of(zone, first_slot, version) == bytes(32)
        with boa.reverts("ledger: no such batch"):
            ledger.contract.correction_window(zone, first_slot)


def test_counts_that_do_not_fit_their_places_are_refused(ledger: Ledger) -> None:
    for homes, leaves in ((2**32, 60), (15, 2**64)):
        with boa.reverts("ledger: count out of range"):
            ledger.commit(homes=homes, leaves=leaves)
    ledger.commit(net=[0] * 96, homes=2**32 - 1, leaves=2**64 - 1)
    assert ledger.contract.batches(1, DAY_SLOT) == (ROOT, 96, 2**32 - 1, 2**64 - 1)


def test_only_the_zones_collector_commits(ledger: Ledger) -> None:
    for zone, sender in ((1, ledger.owner), (2, ledger.collector), (0, ledger.collector)):
        with boa.reverts("ledger: caller is not the zone's collector"):
            ledger.commit(zone=zone, sender=sender)


def test_only_the_owner_appoints_collectors(ledger: Ledger) -> None:
    with boa.reverts("ownable: caller is not the owner"):
        ledger.contract.set_collector(2, ledger.collector, sender=ledger.collector)
    ledger.contract.set_collector(2, ledger.owner, sender=ledger.owner)
    (event,) = ledger.contract.get_logs()
    assert (event.zone, event.collector) == (2, ledger.owner)
    ledger.commit(zone=2, sender=ledger.owner)


def test_a_dismissed_collector_commits_no_more(ledger: Ledger) -> None:
    ledger.contract.set_collector(1, ZERO, sender=ledger.owner)
    with boa.reverts("ledger: caller is not the zone's collector"):
        ledger.commit()


def test_a_batch_that_is_not_whole_is_refused(ledger: Ledger) -> None:
    with boa.reverts("ledger: slots out of range"):
        ledger.commit(net=[], slots=0)
    with boa.reverts("ledger: slots out of range"):
        ledger.commit(net=[0] * 96, slots=100)
    for first_slot, slots in ((DAY_SLOT + 1, 4), (DAY_SLOT, 5), (DAY_SLOT, 2)):
        with boa.reverts("ledger: batch is not on the hour"):
            ledger.commit(first_slot, slots=slots)
    for net in ([0] * 4, [0] * 12):
        with boa.reverts("ledger: totals do not match the slots"):
            ledger.commit(net=net, slots=8)
    with boa.reverts("ledger: root is zero"):
        ledger.commit(root=bytes(32))


def test_a_group_too_small_to_hide_a_home_is_refused(ledger: Ledger) -> None:
    with boa.reverts("ledger: group too small to publish"):
        ledger.commit(homes=14)


def test_a_batch_is_committed_only_when_it_is_over(ledger: Ledger) -> None:
    boa.env.timestamp = (DAY_SLOT + 4) * 900 - 1
    with boa.reverts("ledger: batch is not over"):
        ledger.commit()
    boa.env.timestamp += 1
    ledger.commit()


def test_batches_leave_no_gap_and_never_repeat(ledger: Ledger) -> None:
    ledger.commit(net=[0] * 8)
    for first_slot in (DAY_SLOT, DAY_SLOT + 4, DAY_SLOT + 12, DAY_SLOT - 4):
        with boa.reverts("ledger: batch does not follow the last"):
            ledger.commit(first_slot)
    ledger.commit(DAY_SLOT + 8)
    assert ledger.contract.committed_until(1) == DAY_SLOT + 12


def test_zones_keep_separate_ledgers(ledger: Ledger) -> None:
    ledger.contract.set_collector(2, ledger.collector, sender=ledger.owner)
    ledger.commit(net=[1] * 4)
    ledger.commit(DAY_SLOT + 40, net=[2] * 4, zone=2)
    assert ledger.contract.totals(1, DAY_SLOT, 1) == [1]
    assert ledger.contract.committed_until(2) == DAY_SLOT + 44


def test_the_homes_behind_a_slot_are_those_of_its_batch(ledger: Ledger) -> None:
    ledger.commit(net=[0] * 96, homes=20)
    ledger.commit(DAY_SLOT + 96, net=[0] * 4, homes=30)
    ledger.commit(DAY_SLOT + 100, net=[0] * 8, homes=40)
    expected = {0: 20, 3: 20, 4: 20, 95: 20, 96: 30, 99: 30, 100: 40, 107: 40, 108: 0, -1: 0}
    for place, homes in expected.items():
        assert ledger.contract.homes_of(1, DAY_SLOT + place) == homes, place
    assert ledger.contract.homes_of(2, DAY_SLOT) == 0
