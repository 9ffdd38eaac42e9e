# SPDX-License-Identifier: Apache-2.0
"""Whose dossiers of which periods the anchor takes, and what it says of them afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boa
import pytest

from dao.ledger import pack_totals
from tests.contracts.market_world import DAY_SLOT, load, rules

ROOT, NEXT, OTHER = (bytes([i]) * 32 for i in (1, 2, 3))
NONE = bytes(32)
NOW = (DAY_SLOT + 960) * 900


@dataclass
class Anchor:
    contract: Any
    ledger: Any
    owner: str
    collector: str

    def publish(
        self,
        root: bytes = ROOT,
        corrects: bytes = NONE,
        *,
        zone: int = 1,
        first_slot: int = DAY_SLOT,
        slots: int = 96,
        sender: str | None = None,
    ) -> None:
        self.contract.publish(
            zone, first_slot, slots, root, corrects, sender=sender or self.collector
        )


@pytest.fixture(scope="module")
def deployed() -> Anchor:
    names = ("owner", "collector", "another collector")
    owner, collector, another = (str(boa.env.generate_address(name)) for name in names)
    before, boa.env.timestamp = boa.env.timestamp, NOW
    with boa.env.prank(owner):
        parameters = load("GridParameters")
        parameters.define_batch(rules())
        ledger = load("ReadingLedger", parameters.address)
        ledger.set_collector(1, collector)
        ledger.set_collector(2, another)
        contract = load("DossierAnchor", ledger.address)
    words = pack_totals([0] * 96, [0] * 96)
    for first in (DAY_SLOT, DAY_SLOT + 96):
        ledger.commit(1, first, 96, ROOT, 15, 60, words, sender=collector)
    ledger.commit(2, DAY_SLOT, 96, ROOT, 15, 60, words, sender=another)
    boa.env.timestamp = before
    return Anchor(contract, ledger, owner, collector)


@pytest.fixture
def anchor(deployed: Anchor) -> Iterator[Anchor]:
    with boa.env.anchor():
        before, boa.env.timestamp = boa.env.timestamp, NOW
        yield deployed
        boa.env.timestamp = before


def test_a_root_is_read_back_with_who_published_it_when(anchor: Anchor) -> None:
    anchor.publish()
    (event,) = anchor.contract.get_logs()
    assert (event.zone, event.root, event.publisher) == (1, ROOT, anchor.collector)
    assert (event.first_slot, event.slots, event.corrects) == (DAY_SLOT, 96, NONE)
    assert anchor.contract.dossier(ROOT) == (
        *(1, DAY_SLOT, 96, anchor.collector, NOW),
        *(NONE, NONE),
    )
    assert anchor.contract.latest(1, DAY_SLOT, 96) == ROOT


def test_what_was_never_published_reads_as_zeros(anchor: Anchor) -> None:
    assert anchor.contract.dossier(OTHER) == (0, 0, 0, "0x" + "00" * 20, 0, NONE, NONE)


def test_a_correction_and_what_it_corrects_name_each_other(anchor: Anchor) -> None:
    anchor.publish()
    anchor.publish(NEXT, ROOT)
    assert anchor.contract.dossier(ROOT)[5:] == (NONE, NEXT)
    assert anchor.contract.dossier(NEXT)[5:] == (ROOT, NONE)
    assert anchor.contract.latest(1, DAY_SLOT, 96) == NEXT


@pytest.mark.parametrize("corrects", [NONE, OTHER, ROOT])
def test_a_second_story_names_the_newest_one(anchor: Anchor, corrects: bytes) -> None:
    anchor.publish()
    anchor.publish(NEXT, ROOT)
    with boa.reverts("anchor: corrects another dossier"):
        anchor.publish(OTHER, corrects)


def test_a_first_dossier_corrects_none(anchor: Anchor) -> None:
    with boa.reverts("anchor: corrects another dossier"):
        anchor.publish(ROOT, OTHER)


def test_periods_that_overlap_have_dossiers_of_their_own(anchor: Anchor) -> None:
    anchor.publish()
    anchor.publish(NEXT, slots=192)
    anchor.publish(OTHER, first_slot=DAY_SLOT + 96)
    assert anchor.contract.latest(1, DAY_SLOT, 96) == ROOT
    assert anchor.contract.latest(1, DAY_SLOT, 192) == NEXT


def test_a_root_is_published_once(anchor: Anchor) -> None:
    anchor.publish()
    with boa.reverts("anchor: root was published"):
        anchor.publish(first_slot=DAY_SLOT + 96)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"zone": 2}, "anchor: caller is not the zone's collector"),
        ({"zone": 3}, "anchor: caller is not the zone's collector"),
        ({"slots": 0}, "anchor: slots out of range"),
        ({"slots": 366 * 96 + 1}, "anchor: slots out of range"),
        ({"slots": 193}, "anchor: period is open"),
        ({"first_slot": DAY_SLOT + 192, "slots": 1}, "anchor: period is open"),
        ({"root": NONE}, "anchor: root is zero"),
    ],
)
def test_what_does_not_fit_is_refused(anchor: Anchor, options: dict[str, Any], reason: str) -> None:
    with boa.reverts(reason):
        anchor.publish(**options)


def test_a_period_at_the_end_of_numbers_is_refused(anchor: Anchor) -> None:
    with boa.reverts():
        anchor.publish(first_slot=2**256 - 1, slots=2)


def test_neither_owner_nor_a_former_collector_publishes(anchor: Anchor) -> None:
    with boa.reverts("anchor: caller is not the zone's collector"):
        anchor.publish(sender=anchor.owner)
    anchor.publish()
    successor = str(boa.env.generate_address("successor"))
    anchor.ledger.set_collector(1, successor, sender=anchor.owner)
    with boa.reverts("anchor: caller is not the zone's collector"):
        anchor.publish(NEXT, ROOT)
    anchor.publish(NEXT, ROOT, sender=successor)
    assert anchor.contract.dossier(ROOT)[3] == anchor.collector
    assert anchor.contract.dossier(NEXT)[3] == successor
