# SPDX-License-Identifier: Apache-2.0
"""The forecast registry on titanoboa, with a ledger, members and a clock, for its tests.

Commitments are packed and hashed, and losses computed, by this module's own plain code.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import boa
from eth_abi import encode
from eth_utils import keccak

from tests.contracts import governance_fixtures
from tests.contracts.governance_fixtures import (
    DAY,
    HOUR,
    LOCAL_CHAIN,
    START,
    deploy,
)

ZONE = 1
LEAD, FINALITY = 6 * HOUR, 3 * DAY
SPREAD = 500
MAX_EXEMPT = 4
MINIMUM_BOND = 1_000_000
BOND = 3 * MINIMUM_BOND
MAX_SLASH, MAX_REWARD = 100_000, 40_000
NAIVE_SPREAD = 13
SKILL_THRESHOLD, MAX_SLASH_KEY, MAX_REWARD_KEY, PROBATION_DAYS, MAX_ALLOWANCE = 14, 25, 26, 27, 28
ADMISSION_DELAY = 29
# key: (name, initial, minimum, maximum, largest step, cooldown)
RULES = governance_fixtures.RULES | {
    NAIVE_SPREAD: ("NAIVE_SPREAD", SPREAD, 0, 5_000, 1_000, DAY),
    SKILL_THRESHOLD: ("SKILL_THRESHOLD", 50, 0, 1_000, 1_000, 1),
    MAX_SLASH_KEY: ("MAX_SLASH", MAX_SLASH, 0, 10**8, 10**8, 1),
    MAX_REWARD_KEY: ("MAX_REWARD", MAX_REWARD, 0, 10**8, 10**8, 1),
    PROBATION_DAYS: ("PROBATION_DAYS", 3, 0, 28, 28, 1),
    MAX_ALLOWANCE: ("MAX_ALLOWANCE", 4, 0, 8, 8, 1),
    ADMISSION_DELAY: ("ADMISSION_DELAY", HOUR, HOUR, 30 * DAY, 7 * DAY, DAY),
}
WITHDRAWAL_DELAY = 17 * DAY
EVIDENCE = keccak(text="evidence")
SALT = keccak(text="salt")
# The first day with a forecast; the ledger begins a week earlier.
FIRST_DAY = START // DAY + 8
NONE, COMMITTED, REVEALED, SCORED, UNSCORED, MISSED = range(6)

Quantiles = Sequence[tuple[int, int, int]]


def pack(quantiles: Quantiles) -> list[int]:
    """96 times (10 %, 50 %, 90 %) in Wh as 48 words: two slots a word, the first one low; of a
    slot's 96 bits the 10 % quantile lowest; int32 in two's complement."""
    words = []
    for first, second in zip(quantiles[::2], quantiles[1::2], strict=True):
        word = 0
        for place, quantile in enumerate((*first, *second)):
            word |= (quantile % 2**32) << (32 * place)
        words.append(word)
    return words


def hash_of(words: Sequence[int]) -> bytes:
    return bytes(keccak(b"".join(word.to_bytes(32, "big") for word in words)))


def commitment_of(
    words: Sequence[int], first_slot: int, forecaster: str, evidence: bytes = EVIDENCE
) -> bytes:
    types = ["uint256", "uint256", "address", "bytes32", "bytes32", "bytes32"]
    values = (ZONE, first_slot, forecaster, hash_of(words), evidence, SALT)
    return bytes(keccak(encode(types, values)))


def losses_of(
    quantiles: Quantiles, actual: Sequence[int], last_week: Sequence[int], skip: set[int]
) -> tuple[int, int]:
    """The textbook pinball loss, in fractions, of the forecast and of the naive one."""

    def pinball(tau: Fraction, forecast: int, outcome: int) -> Fraction:
        return max(tau * (outcome - forecast), (tau - 1) * (outcome - forecast))

    taus = (Fraction(1, 10), Fraction(1, 2), Fraction(9, 10))
    loss = naive_loss = Fraction(0)
    for slot in range(96):
        if slot in skip:
            continue
        naive = (last_week[slot] - SPREAD, last_week[slot], last_week[slot] + SPREAD)
        for tau, ours, theirs in zip(taus, quantiles[slot], naive, strict=True):
            loss += pinball(tau, ours, actual[slot])
            naive_loss += pinball(tau, theirs, actual[slot])
    assert (1_000 * loss).denominator == (1_000 * naive_loss).denominator == 1
    return int(1_000 * loss), int(1_000 * naive_loss)


@dataclass
class Bench:
    registry: Any
    parameters: Any
    ledger: Any
    membership: Any
    token: Any
    forecaster: str
    collector: str
    member: str
    governor: str
    net: dict[int, list[int]]

    def at_day(self, day: int, offset: int = 0) -> None:
        boa.env.timestamp = day * DAY + offset

    def meter(self, day: int, net: Sequence[int] | None = None, homes: int = 20) -> None:
        """Commit a day's totals; by default its metered net energy is random but fixed."""
        net = self.net.setdefault(
            day, list(net or random.Random(day).choices(range(-30_000, 30_000), k=96))
        )
        words = [0] * 24
        for slot, value in enumerate(net):
            # An export beside it proves that only the low half is read.
            words[slot // 4] |= ((7 << 32) | value % 2**32) << (64 * (slot % 4))
        with boa.env.prank(self.collector):
            self.ledger.commit(ZONE, day * 96, 96, keccak(text="root"), homes, 96 * homes, words)

    def commit(self, day: int, quantiles: Quantiles, who: str | None = None) -> None:
        who = who or self.forecaster
        with boa.env.prank(who):
            self.registry.commit(ZONE, day * 96, commitment_of(pack(quantiles), day * 96, who))

    def reveal(
        self, day: int, quantiles: Quantiles, evidence: bytes = EVIDENCE, who: str | None = None
    ) -> None:
        with boa.env.prank(who or self.forecaster):
            self.registry.reveal(ZONE, day * 96, pack(quantiles), evidence, SALT)

    def score(self, day: int, quantiles: Quantiles, who: str | None = None) -> None:
        self.registry.score(who or self.forecaster, ZONE, day * 96, pack(quantiles))

    def miss(self, day: int) -> None:
        self.registry.miss(self.forecaster, ZONE, day * 96)

    def propose(self, who: str | None = None) -> None:
        """What the governor asks for when a forecaster proposes."""
        with boa.env.prank(self.governor):
            self.registry.use_allowance(who or self.forecaster, ZONE)

    def dispute(self, day: int, who: str | None = None) -> int:
        with boa.env.prank(who or self.member):
            return int(self.registry.open_dispute(self.forecaster, ZONE, day * 96, "harm"))

    def fund(self, amount: int) -> None:
        self.token.mint(self.member, amount)
        with boa.env.prank(self.member):
            self.token.approve(self.registry.address, amount)
            self.registry.fund_rewards(amount)

    def bond(self, who: str | None = None) -> int:
        return int(self.registry.bond_of(who or self.forecaster)[0])

    def status(self, day: int) -> int:
        return int(self.registry.forecast_of(self.forecaster, ZONE, day * 96)[0])

    def committed(self, day: int, quantiles: Quantiles) -> None:
        """Turn the clock to half a day before the day, and commit."""
        self.at_day(day, -DAY // 2)
        self.commit(day, quantiles)

    def revealed(self, day: int, quantiles: Quantiles) -> None:
        self.committed(day, quantiles)
        self.at_day(day, -LEAD)
        self.reveal(day, quantiles)

    def scored(self, day: int, quantiles: Quantiles) -> tuple[int, int]:
        """Commit, reveal, score; the ledger is metered as far as the day."""
        self.revealed(day, quantiles)
        self.finish(day)
        self.score(day, quantiles)
        _, loss, naive_loss = self.registry.result_of(self.forecaster, ZONE, day * 96)
        return loss, naive_loss

    def finish(self, day: int) -> None:
        """Meter all days up to this one and turn the clock to its finality."""
        self.at_day(day + 1, FINALITY)
        for each in range(self.ledger.committed_until(ZONE) // 96, day + 1):
            self.meter(each)


def forecast(seed: int = 1, spread: int = 3_000) -> Quantiles:
    dice = random.Random(seed)
    return [
        (middle - spread, middle, middle + spread)
        for middle in (dice.randrange(-25_000, 25_000) for _ in range(96))
    ]


FORECAST = forecast()


def skilled(bench: Bench, day: int, share: Fraction) -> tuple[int, int]:
    """Score a day whose forecast misses the outcome by a share of last week's miss."""
    return bench.scored(day, missing_by(bench, day, share))


def missing_by(bench: Bench, day: int, share: Fraction) -> Quantiles:
    """A forecast of the day that misses what will be metered by a share of last week's miss."""
    medians = [
        outcome + int((before - outcome) * share)
        for outcome, before in zip(outcome_of(day), bench.net[day - 7], strict=True)
    ]
    return [(value, value, value) for value in medians]


def outcome_of(day: int) -> list[int]:
    """What `Bench.meter` commits for the day unless told otherwise."""
    return random.Random(day).choices(range(-30_000, 30_000), k=96)


def new_bench() -> Bench:
    """Two forecasters with a bond, one of them the collector; a member; no history but a week."""
    boa.env.timestamp = START
    forecaster, collector, member, governor, registrar = (
        str(boa.env.generate_address(name))
        for name in ("forecaster", "collector", "member", "governor", "registrar")
    )
    parameters = deploy("GridParameters")
    parameters.define_batch([(key, *RULES[key]) for key in sorted(RULES)])
    ledger = deploy("ReadingLedger", parameters.address)
    ledger.set_collector(ZONE, collector)
    meters = deploy("MeterRegistry", registrar)
    membership = deploy("Membership", registrar, meters.address, parameters.address)
    with boa.env.prank(registrar):
        meters.register_batch([member], [str(boa.env.generate_address("device"))], ZONE)
        membership.announce_admissions([member], [1])
    boa.env.timestamp += HOUR
    membership.complete([1])
    token = deploy("TestEuro")
    registry = deploy(
        "ForecastRegistry",
        ledger.address,
        parameters.address,
        membership.address,
        token.address,
        MINIMUM_BOND,
    )
    registry.set_governor(governor)
    bench = Bench(
        registry,
        parameters,
        ledger,
        membership,
        token,
        forecaster,
        collector,
        member,
        governor,
        {},
    )
    for who in (forecaster, collector):
        admit(bench, who)
    bench.at_day(FIRST_DAY - 1)
    for day in range(FIRST_DAY - 7, FIRST_DAY - 1):
        bench.meter(day)
    return bench


def admit(bench: Bench, who: str) -> str:
    """Make it a forecaster with a bond, and as much again in its pocket."""
    bench.registry.set_forecaster(who, True)
    bench.token.mint(who, 2 * BOND)
    with boa.env.prank(who):
        bench.token.approve(bench.registry.address, 2 * BOND)
        bench.registry.deposit_bond(BOND)
    return who


@contextmanager
def rolled_back(deployed: Bench) -> Iterator[Bench]:
    """The bench for one test, which leaves no trace on it."""
    boa.env.evm.patch.chain_id = LOCAL_CHAIN
    before = boa.env.timestamp
    with boa.env.anchor():
        yield Bench(**(vars(deployed) | {"net": dict(deployed.net)}))
    boa.env.timestamp = before
