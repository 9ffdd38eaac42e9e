# SPDX-License-Identifier: Apache-2.0
"""What a score costs or earns is plain arithmetic, and the chain agrees with it on a real node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from dao import forecasts, ledger
from dao.anvil import AnvilNode
from dao.chain import Chain, Contract, LocalAccount
from dao.eip712 import keccak
from dao.errors import BadUse
from dao.parameters import DAY, EURO, HOUR, MARKET_RULES

ZONE = 1
START_DAY = 17_000
FIRST_DAY = START_DAY + 10
MINIMUM_BOND = 100 * EURO
RULES = {rule.name: rule.initial for rule in MARKET_RULES}
SALT, EVIDENCE = keccak(b"salt"), keccak(b"evidence")
DICE = np.random.default_rng(4)
NET = {day: DICE.integers(-30_000, 30_000, 96) for day in range(START_DAY, FIRST_DAY + 4)}


# -- arithmetic --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "naive", "expected"),
    [
        (100, 100, 0),
        (99, 100, 0),
        (101, 100, 50),
        (150, 100, 2_500),
        (199, 100, 4_950),
        (200, 100, 5_000),
        (10**20, 100, 5_000),
        (1, 0, 5_000),
        (0, 0, 0),
        # Rounded down, for the forecaster.
        (4, 3, 1_666),
    ],
)
def test_a_worse_day_is_slashed_in_proportion_up_to_the_cap(
    loss: int, naive: int, expected: int
) -> None:
    assert forecasts.slash_of(loss, naive, max_slash=5_000, bond=10**9) == expected


@pytest.mark.parametrize(("loss", "naive"), [(150, 100), (300, 100), (1, 0)])
def test_a_slash_ends_with_the_bond(loss: int, naive: int) -> None:
    assert forecasts.slash_of(loss, naive, max_slash=5_000, bond=7) == 7


@pytest.mark.parametrize(
    ("loss", "naive", "expected"),
    [(100, 100, 0), (101, 100, 0), (99, 100, 10), (0, 100, 1_000), (0, 0, 0), (2, 3, 333)],
)
def test_a_better_day_is_rewarded_in_proportion(loss: int, naive: int, expected: int) -> None:
    assert forecasts.reward_of(loss, naive, max_reward=1_000, pool=10**9) == expected


def test_a_reward_ends_with_the_pool() -> None:
    assert forecasts.reward_of(0, 100, max_reward=1_000, pool=7) == 7


@pytest.mark.parametrize(
    ("skill", "threshold", "most", "expected"),
    [
        (49, 50, 4, 0),
        (-1_000, 0, 4, 0),
        (50, 50, 4, 1),
        (366, 50, 4, 1),
        (367, 50, 4, 2),
        (999, 50, 4, 3),
        (1_000, 50, 4, 4),
        (1_000, 1_000, 4, 4),
        (999, 1_000, 4, 0),
        (1_000, 50, 1, 1),
        (1_000, 50, 0, 0),
    ],
)
def test_the_allowance_grows_with_skill(
    skill: int, threshold: int, most: int, expected: int
) -> None:
    assert forecasts.allowance_of(skill, threshold, most) == expected


# -- on a node ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Office:
    chain: Chain
    registry: Contract
    readings: Contract
    membership: Contract
    forecaster: LocalAccount
    collector: LocalAccount
    member: LocalAccount

    def at(self, day: int, seconds: int = 0) -> None:
        self.chain.set_time(day * DAY + seconds)

    def meter(self, first: int, last: int) -> None:
        for day in range(first, last + 1):
            ledger.commit(
                self.readings,
                self.collector,
                zone=ZONE,
                first_slot=day * 96,
                root=keccak(b"root"),
                homes=20,
                leaves=20 * 96,
                net_wh=NET[day],
                export_wh=[0] * 96,
            )

    def commit(self, day: int, words: Sequence[int]) -> None:
        commitment = forecasts.commitment(
            ZONE, day * 96, self.forecaster.address, words, EVIDENCE, SALT
        )
        self.registry.transact("commit", ZONE, day * 96, commitment, sender=self.forecaster)

    def reveal(self, day: int, words: Sequence[int]) -> None:
        self.registry.transact(
            "reveal", ZONE, day * 96, words, EVIDENCE, SALT, sender=self.forecaster
        )

    def score(self, day: int, words: Sequence[int]) -> tuple[int, int]:
        """Loss and naive loss of the day."""
        receipt = self.registry.transact("score", self.forecaster.address, ZONE, day * 96, words)
        scored = receipt.event("ForecastScored").args
        return int(scored["loss"]), int(scored["naive_loss"])

    def standing(self) -> forecasts.Standing:
        return forecasts.standing_of(self.registry, self.forecaster.address, ZONE)


@pytest.fixture(scope="module")
def office() -> Iterator[Office]:
    """A forecaster with 110 euros of bond and three days of forecasts: bad, good, and hidden."""
    with AnvilNode(timestamp=START_DAY * DAY) as node, Chain.local(node.url) as chain:
        forecaster, collector, registrar, member = chain.accounts[1:5]
        token = chain.deploy("TestEuro")
        parameters = chain.deploy("GridParameters")
        parameters.transact("define_batch", [rule.as_tuple() for rule in MARKET_RULES])
        readings = chain.deploy("ReadingLedger", parameters.address)
        readings.transact("set_collector", ZONE, collector.address)
        meters = chain.deploy("MeterRegistry", registrar.address)
        membership = chain.deploy(
            "Membership", registrar.address, meters.address, parameters.address
        )
        meters.transact(
            "register_batch", [member.address], [collector.address], ZONE, sender=registrar
        )
        membership.transact("announce_admissions", [member.address], [1], sender=registrar)
        registry = chain.deploy(
            "ForecastRegistry",
            readings.address,
            parameters.address,
            membership.address,
            token.address,
            MINIMUM_BOND,
        )
        registry.transact("set_forecaster", forecaster.address, True)
        token.transact("mint", forecaster.address, 2 * MINIMUM_BOND)
        token.transact("approve", registry.address, 2 * MINIMUM_BOND, sender=forecaster)
        registry.transact("deposit_bond", MINIMUM_BOND + 10 * EURO, sender=forecaster)
        yield Office(chain, registry, readings, membership, forecaster, collector, member)


def words_missing_by(day: int, wh: int) -> list[int]:
    net = NET[day] + wh
    return forecasts.pack_quantiles(net, net, net)


def test_the_life_of_a_forecaster_reads_as_it_is(office: Office) -> None:
    """One story, since on a node time only goes on."""
    new = office.standing()
    assert new == forecasts.Standing(
        skill=0,
        days_scored=0,
        bond=MINIMUM_BOND + 10 * EURO,
        leaving=0,
        unlocked_at=0,
        open_disputes=0,
        in_good_standing=True,
        allowance=1,
        used=0,
    )
    assert forecasts.disputes(office.registry) == []

    bad, good = words_missing_by(FIRST_DAY, 30_000), words_missing_by(FIRST_DAY + 1, 100)
    office.at(FIRST_DAY, -DAY + HOUR)
    office.membership.transact("complete", [1])
    office.commit(FIRST_DAY, bad)
    office.commit(FIRST_DAY + 1, good)
    office.at(FIRST_DAY + 1, HOUR)
    office.reveal(FIRST_DAY, bad)
    office.reveal(FIRST_DAY + 1, good)
    office.commit(FIRST_DAY + 2, good)
    office.at(FIRST_DAY + 3, RULES["finality"])
    office.meter(START_DAY, FIRST_DAY + 2)

    # Worse than naive: the bond pays, and the pool has it.
    loss, naive_loss = office.score(FIRST_DAY, bad)
    q = forecasts.unpack_quantiles(bad)
    assert loss == forecasts.pinball_loss(q, NET[FIRST_DAY]) > naive_loss
    slash = forecasts.slash_of(loss, naive_loss, RULES["max_slash"], new.bond)
    assert 0 < slash < RULES["max_slash"]
    assert office.standing().bond == new.bond - slash
    assert office.registry.call("reward_pool") == slash

    # Better: the pool pays.
    loss, naive_loss = office.score(FIRST_DAY + 1, good)
    reward = forecasts.reward_of(loss, naive_loss, RULES["max_reward"], slash)
    assert 0 < reward < RULES["max_reward"]
    assert office.standing().bond == new.bond - slash + reward

    # Never shown: the cap.
    office.registry.transact("miss", office.forecaster.address, ZONE, (FIRST_DAY + 2) * 96)
    bond = new.bond - slash + reward - RULES["max_slash"]
    office.registry.transact("announce_withdrawal", 4, sender=office.forecaster)
    told = office.standing()
    assert told.days_scored == 2
    assert (told.bond, told.leaving) == (bond, 4)
    assert told.unlocked_at == office.chain.now() + forecasts.WITHDRAWAL_DELAY

    # A member complains, and the members find the forecaster liable.
    office.registry.transact(
        *("open_dispute", office.forecaster.address, ZONE, FIRST_DAY * 96, "We lost a day's sun."),
        sender=office.member,
    )
    opened = forecasts.Dispute(
        id=1,
        forecaster=office.forecaster.address,
        zone=ZONE,
        first_slot=FIRST_DAY * 96,
        complainant=office.member.address,
        opened_at=office.chain.now(),
        state="open",
        liable=None,
        amount=0,
    )
    assert forecasts.disputes(office.registry) == [opened]
    assert office.standing().open_disputes == 1
    office.registry.transact("decide_dispute", 1, office.forecaster.address, 9 * EURO, "It knew.")
    decided = replace(opened, state="decided", liable=office.forecaster.address, amount=9 * EURO)
    assert forecasts.dispute_of(office.registry, 1) == decided
    after = office.standing()
    assert (after.bond, after.open_disputes) == (bond - 9 * EURO, 0)
    # Below the least bond nobody proposes.
    assert after.bond < MINIMUM_BOND
    assert (after.in_good_standing, after.allowance) == (False, 0)


def test_a_number_without_a_dispute_is_refused(office: Office) -> None:
    with pytest.raises(BadUse, match="there is no dispute 99; there are "):
        forecasts.dispute_of(office.registry, 99)
    with pytest.raises(BadUse, match="there is no dispute 0"):
        forecasts.dispute_of(office.registry, 0)
