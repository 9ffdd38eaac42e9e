# SPDX-License-Identifier: Apache-2.0
"""A batch is corrected once, whole, before its totals are final, and never after a score.

The ledger, the rules and the forecast registry are the real ones; the last test goes through
`dao.ledger` on a real node.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import boa
import pytest
from eth_abi import encode

from dao import ledger as client
from dao.anvil import AnvilNode
from dao.chain import Chain, ContractReverted
from dao.eip712 import keccak
from dao.errors import CheckFailed
from dao.forecasts import pack_quantiles
from dao.ledger import pack_totals
from tests.contracts.governance_fixtures import (
    DAY,
    HOUR,
    RULES,
    START,
    deploy,
    events,
    new_parameters,
    reverts,
)
from tests.contracts.market_world import rules

ZONE = 1
FINALITY_KEY, FINALITY = 12, 3 * DAY
FIRST = START // 900
ROOT, NEW_ROOT = b"\x01" * 32, b"\x02" * 32
BOND = 1_000_000


@dataclass
class Office:
    """A zone's ledger with its collector, the rules, and a forecaster with its registry."""

    parameters: Any
    ledger: Any
    registry: Any
    collector: str
    forecaster: str

    def at(self, seconds: int) -> None:
        """Turn the clock to so many seconds after the first slot."""
        boa.env.timestamp = START + seconds

    def commit(self, first: int, net: Sequence[int], homes: int = 20) -> None:
        """Commit the batch that starts `first` slots after the first; its export is 7 a slot."""
        words = pack_totals(net, [7] * len(net))
        self.ledger.commit(
            ZONE, FIRST + first, len(net), ROOT, homes, 99, words, sender=self.collector
        )

    def correct(self, first: int, net: Sequence[int], **changes: Any) -> None:
        given = {"zone": ZONE, "root": NEW_ROOT, "homes": 18, "leaves": 98} | changes
        sender = given.pop("sender", self.collector)
        self.ledger.correct(
            given["zone"],
            FIRST + first,
            given["root"],
            given["homes"],
            given["leaves"],
            pack_totals(net, [8] * len(net)),
            sender=sender,
        )

    def window(self, first: int) -> tuple[int, int]:
        """The batch's correction window, in seconds after the first slot."""
        opens, closes = self.ledger.correction_window(ZONE, FIRST + first)
        return opens - START, closes - START

    def net(self, first: int, slots: int) -> list[int]:
        lanes = self.ledger.totals(ZONE, FIRST + first, slots)
        low = [lane & 0xFFFFFFFF for lane in lanes]
        return [value - 2**32 if value >> 31 else value for value in low]

    def forecast(self, day: int, words: Sequence[int]) -> None:
        """Commit a forecast of the day, counted from the first."""
        slot, salt, evidence = FIRST + 96 * day, b"\x03" * 32, b"\x04" * 32
        hash_ = keccak(b"".join(word.to_bytes(32, "big") for word in words))
        types = ["uint256", "uint256", "address", "bytes32", "bytes32", "bytes32"]
        commitment = keccak(encode(types, [ZONE, slot, self.forecaster, hash_, evidence, salt]))
        self.registry.commit(ZONE, slot, commitment, sender=self.forecaster)

    def reveal(self, day: int, words: Sequence[int]) -> None:
        slot, salt, evidence = FIRST + 96 * day, b"\x03" * 32, b"\x04" * 32
        self.registry.reveal(ZONE, slot, words, evidence, salt, sender=self.forecaster)

    def score(self, day: int, words: Sequence[int]) -> None:
        self.registry.score(self.forecaster, ZONE, FIRST + 96 * day, words)


FORECAST = pack_quantiles([-500] * 96, [0] * 96, [500] * 96)


@pytest.fixture(scope="module")
def deployed() -> Office:
    boa.env.timestamp = START - 30 * DAY
    collector, forecaster = (str(boa.env.generate_address(n)) for n in ("collector", "forecaster"))
    parameters = new_parameters()
    ledger = deploy("ReadingLedger", parameters.address)
    ledger.set_collector(ZONE, collector)
    token = deploy("TestEuro")
    # Nobody disputes anything here, so no members are asked for.
    nobody = boa.env.generate_address("no membership")
    registry = deploy(
        "ForecastRegistry", ledger.address, parameters.address, nobody, token.address, BOND
    )
    registry.set_forecaster(forecaster, True)
    token.mint(forecaster, BOND)
    token.approve(registry.address, BOND, sender=forecaster)
    registry.deposit_bond(BOND, sender=forecaster)
    return Office(parameters, ledger, registry, collector, forecaster)


@pytest.fixture
def office(deployed: Office) -> Iterator[Office]:
    before = boa.env.timestamp
    with boa.env.anchor():
        yield deployed
    boa.env.timestamp = before


@pytest.fixture
def batch(office: Office) -> Office:
    """The first day is committed, and the clock stands in its correction window."""
    office.at(DAY)
    office.commit(0, [5] * 96)
    office.at(DAY + FINALITY // 2)
    return office


def test_a_correction_is_a_second_version_beside_the_first(batch: Office) -> None:
    batch.correct(0, [6] * 48 + [-7] * 48)
    (event,) = events(batch.ledger, "BatchCorrected")
    assert (event.zone, event.first_slot, event.slots, event.root) == (ZONE, FIRST, 96, NEW_ROOT)
    assert (event.homes, event.leaves) == (18, 98)
    assert event.totals == pack_totals([6] * 48 + [-7] * 48, [8] * 96)
    ledger = batch.ledger
    assert ledger.version_of(ZONE, FIRST) == 2
    assert [ledger.root_of(ZONE, FIRST, version) for version in range(4)] == [
        bytes(32), ROOT, NEW_ROOT, bytes(32)
    ]  # fmt: skip


def test_every_view_tells_the_newest_version(batch: Office) -> None:
    batch.correct(0, [6] * 48 + [-7] * 48)
    assert batch.net(0, 96) == [6] * 48 + [-7] * 48
    assert {lane >> 32 for lane in batch.ledger.totals(ZONE, FIRST, 96)} == {8}
    assert batch.ledger.batches(ZONE, FIRST) == (NEW_ROOT, 96, 18, 98)
    assert batch.ledger.homes_of(ZONE, FIRST + 95) == 18
    assert batch.ledger.committed_until(ZONE) == FIRST + 96


def test_the_neighbours_of_a_corrected_batch_stay_as_they_are(office: Office) -> None:
    office.at(DAY)
    for first in (0, 24, 48):
        office.commit(first, [first] * 24)
    office.at(FINALITY)
    office.correct(24, [1] * 24)
    assert office.net(0, 72) == [0] * 24 + [1] * 24 + [48] * 24
    assert [office.ledger.version_of(ZONE, FIRST + first) for first in (0, 24, 48)] == [1, 2, 1]
    assert office.ledger.batches(ZONE, FIRST + 48) == (ROOT, 24, 20, 99)


def test_a_batch_is_corrected_once(batch: Office) -> None:
    batch.correct(0, [6] * 96)
    with reverts("ledger: batch was corrected"):
        batch.correct(0, [7] * 96)


def test_the_next_batch_still_follows_the_last(batch: Office) -> None:
    batch.correct(0, [6] * 96)
    batch.commit(96, [5] * 4)
    with reverts("ledger: batch does not follow the last"):
        batch.commit(0, [5] * 96)


def test_only_the_zones_collector_corrects(batch: Office) -> None:
    for zone, sender in ((ZONE, batch.forecaster), (2, batch.collector)):
        with reverts("ledger: caller is not the zone's collector"):
            batch.correct(0, [6] * 96, zone=zone, sender=sender)


def test_what_is_no_batch_is_not_corrected(batch: Office) -> None:
    for first in (4, -96, 96):
        with reverts("ledger: no such batch"):
            batch.correct(first, [6] * 92)


@pytest.mark.parametrize(
    ("net", "changes", "reason"),
    [
        ([6] * 92, {}, "totals do not match the slots"),
        ([], {}, "totals do not match the slots"),
        ([6] * 96, {"root": bytes(32)}, "root is zero"),
        ([6] * 96, {"homes": 14}, "group too small to publish"),
        ([6] * 96, {"homes": 2**32}, "count out of range"),
        ([6] * 96, {"leaves": 2**64}, "count out of range"),
    ],
)
def test_a_correction_is_as_whole_as_a_first_commit(
    batch: Office, net: list[int], changes: dict[str, Any], reason: str
) -> None:
    with reverts(f"ledger: {reason}"):
        batch.correct(0, net, **changes)


# When


@pytest.mark.parametrize(
    ("first", "slots", "counted_from"),
    [
        (0, 24, 6 * HOUR),
        (72, 24, DAY),
        (0, 96, DAY),
        # It reaches into the next day: the end of its first day counts.
        (48, 96, DAY),
        (92, 8, DAY),
    ],
)
def test_the_window_is_the_second_half_of_the_finality(
    office: Office, first: int, slots: int, counted_from: int
) -> None:
    office.at(2 * DAY)
    office.commit(first, [5] * slots)
    opens, closes = office.window(first)
    assert (opens, closes) == (counted_from + FINALITY // 2, counted_from + FINALITY)
    for moment, reason in ((opens - 1, "too early to correct"), (closes, "totals are final")):
        office.at(moment)
        with reverts(f"ledger: {reason}"):
            office.correct(first, [6] * slots)
    for moment in (opens, closes - 1):
        office.at(moment)
        with boa.env.anchor():
            office.correct(first, [6] * slots)


def test_no_later_vote_moves_a_window(batch: Office) -> None:
    before = batch.window(0)
    batch.parameters.set_value(FINALITY_KEY, 2 * DAY)
    assert batch.window(0) == before


# Changes of the finality: when, in seconds after the day began, and to how many days.
VOTES = {
    "no vote": [],
    "longer before any forecast": [(-3 * DAY, 4)],
    "shorter just before the day": [(-HOUR, 2)],
    "shorter when forecasts begin": [(-2 * DAY, 2)],
    "longer after the forecast": [(-11 * HOUR, 4), (13 * HOUR, 5)],
    "shorter and longer again": [(-2 * DAY + 1, 2), (-DAY + 1, 3)],
    "longer and shorter again": [(-2 * DAY - 1, 4), (-DAY - 1, 3)],
    "shorter after the day": [(DAY + 1, 2), (2 * DAY + 1, 1)],
    "shorter day by day": [(-2 * DAY - HOUR, 2), (-DAY - HOUR, 1)],
    "longer day by day": [(-DAY - HOUR, 4), (-HOUR, 5), (DAY, 6)],
}


@pytest.mark.parametrize("asked_at", [-2 * DAY, -DAY, -12 * HOUR, -6 * HOUR - 1])
@pytest.mark.parametrize("votes", VOTES.values(), ids=VOTES)
@pytest.mark.parametrize("first", [0, 24, -48, -92, 48], ids=str)
def test_nothing_is_corrected_once_a_forecast_can_be_scored(
    office: Office, first: int, votes: list[tuple[int, int]], asked_at: int
) -> None:
    """Day 8, and a batch of 96 slots that starts `first` slots after it begins: the forecast that
    is scored the earliest finds all of its totals beyond correction."""
    day = 8
    begins = day * DAY
    steps = sorted([(when, "vote", days) for when, days in votes] + [(asked_at, "ask", 0)])
    for when, what, days in steps:
        office.at(begins + when)
        if what == "vote":
            office.parameters.set_value(FINALITY_KEY, days * DAY)
        else:
            office.forecast(day, FORECAST)
            asked = int(office.parameters.value(FINALITY_KEY))
    office.at(max(boa.env.timestamp - START, begins - 6 * HOUR))
    office.reveal(day, FORECAST)
    # The score waits for the ledger to reach the end of the day.
    office.at(max(boa.env.timestamp - START, begins + 2 * DAY))
    start = 96 * day + first
    if first > 0:
        office.commit(start - 96, [5] * 96)
    office.commit(start, [5] * 96)
    if first < 0:
        office.commit(start + 96, [5] * 96)
    opens, closes = office.window(start)
    scored_from = begins + DAY + asked
    assert opens < closes <= scored_from
    office.at(scored_from)
    with reverts("ledger: totals are final"):
        office.correct(start, [6] * 96)
    office.score(day, FORECAST)
    (result,) = events(office.registry, "DayUnscored")
    assert result.first_slot == FIRST + 96 * day


def test_a_forecast_is_scored_on_the_corrected_totals(office: Office) -> None:
    day = 8
    office.at(day * DAY - 12 * HOUR)
    office.forecast(day, FORECAST)
    office.at(day * DAY - 6 * HOUR)
    office.reveal(day, FORECAST)
    office.at((day + 1) * DAY)
    for each in range(day + 1):
        office.commit(96 * each, [0] * 96)
    office.at((day + 1) * DAY + FINALITY - 1)
    office.correct(96 * day, [500] * 96)
    office.at((day + 1) * DAY + FINALITY)
    office.score(day, FORECAST)
    (scored,) = events(office.registry, "ForecastScored")
    # Quantiles -500, 0, 500 against 500: permille 100 * 1000 + 500 * 500 + 900 * 0 a slot.
    assert scored.loss == 96 * (100 * 1_000 + 500 * 500)


def test_the_registry_looks_as_far_ahead_as_the_ledger_believes(deployed: Office) -> None:
    """Where these part, a forecast could be scored under a finality that the ledger ignores."""
    assert deployed.registry.MAX_AHEAD() == 2 * DAY
    # A correction of the week before, which the naive forecast is made of, is over by then too.
    _, _, _, longest, _, _ = RULES[FINALITY_KEY]
    assert longest <= 7 * DAY


# Through dao.ledger


def test_a_correction_on_a_real_node() -> None:
    with AnvilNode(timestamp=START - DAY) as node, Chain.local(node.url) as chain:
        collector = chain.accounts[1]
        parameters = chain.deploy("GridParameters", sender=chain.deployer)
        parameters.transact("define_batch", rules(), sender=chain.deployer)
        ledger = chain.deploy("ReadingLedger", parameters.address, sender=chain.deployer)
        ledger.transact("set_collector", ZONE, collector.address, sender=chain.deployer)
        batch = {"zone": ZONE, "first_slot": FIRST, "root": ROOT, "homes": 20, "leaves": 99}
        chain.set_time(START + DAY)
        client.commit(ledger, collector, **batch, net_wh=[5] * 96, export_wh=[7] * 96)
        opens, closes = client.correction_window(ledger, ZONE, FIRST)
        assert (opens, closes) == (START + DAY + FINALITY // 2, START + DAY + FINALITY)
        corrected = batch | {"root": NEW_ROOT, "net_wh": [6] * 96, "export_wh": [8] * 96}
        with pytest.raises(ContractReverted, match="too early to correct"):
            client.correct(ledger, collector, **corrected)
        chain.set_time(opens)
        receipt = client.correct(ledger, collector, **corrected)
        assert receipt.event("BatchCorrected").args["root"] == NEW_ROOT
        net, export = client.read_totals(ledger, ZONE, FIRST, FIRST + 96)
        assert (set(net.tolist()), set(export.tolist())) == ({6}, {8})
        with pytest.raises(CheckFailed, match="no batch"):
            client.correction_window(ledger, ZONE, FIRST + 4)
