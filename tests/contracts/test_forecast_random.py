# SPDX-License-Identifier: Apache-2.0
"""Forecasters, members and votes at random, beside a plain model that keeps its own books.

Every step is either refused for the reason that the model gives, or has the effect that it books;
after every step the tokens held are all bonds and the reward pool.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import boa
import pytest

from tests.contracts.forecast_bench import (
    BOND,
    FINALITY,
    FIRST_DAY,
    LEAD,
    MAX_REWARD,
    MAX_SLASH,
    MAX_SLASH_KEY,
    MINIMUM_BOND,
    ZONE,
    Bench,
    Quantiles,
    losses_of,
    missing_by,
    new_bench,
    rolled_back,
)
from tests.contracts.governance_fixtures import DAY, HOUR, ZERO, reverts

SHARES = [Fraction(0), Fraction(1, 2), Fraction(4, 5), Fraction(1), Fraction(5, 4), Fraction(3)]
STEPS = 400
WAYS = (
    *("deposit", "announce", "withdraw", "fund", "commit", "reveal", "score", "miss"),
    *("complain", "decide", "propose", "change_cap"),
)


@dataclass
class Purse:
    bond: int = 0
    leaving: int = 0
    unlocked_at: int = 0
    admitted: bool = False
    in_pocket: int = 2 * BOND


@dataclass
class Said:
    """A forecast as it was committed, and what became of it."""

    who: str
    day: int
    quantiles: Quantiles
    at: int
    state: str = "committed"
    result: tuple[int, int] = (0, 0)


@dataclass
class Complaint:
    about: Said
    at: int
    state: str = "open"


@dataclass
class Model:
    """What the registry should hold, in words; no code or packing is shared with it."""

    purses: dict[str, Purse]
    minimum: int = MINIMUM_BOND
    pool: int = 0
    said: dict[tuple[str, int], Said] = field(default_factory=dict)
    complaints: list[Complaint] = field(default_factory=list)
    used: Counter[tuple[str, int]] = field(default_factory=Counter)
    max_slash: list[tuple[int, int]] = field(default_factory=lambda: [(0, MAX_SLASH)])

    def open_complaints(self, who: str) -> int:
        return sum(c.state == "open" and c.about.who == who for c in self.complaints)

    def slash_cap(self, when: int) -> int:
        return [value for since, value in self.max_slash if since <= when][-1]

    def slash(self, who: str, amount: int) -> None:
        purse = self.purses[who]
        taken = min(amount, purse.bond)
        purse.bond -= taken
        purse.leaving = min(purse.leaving, purse.bond)
        self.pool += taken

    def settle(self, said: Said, loss: int, naive: int) -> None:
        """Money for a scored day."""
        if loss > naive:
            cap = self.slash_cap(said.at)
            self.slash(said.who, cap if naive == 0 else min(cap, cap * (loss - naive) // naive))
        elif loss < naive:
            reward = min(self.pool, MAX_REWARD * (naive - loss) // naive)
            self.pool -= reward
            self.purses[said.who].bond += reward

    def skill(self, who: str, now: int) -> tuple[int, int, int]:
        """Skill in permille, days scored, days missed."""
        mine = {said.day: said for said in self.said.values() if said.who == who}
        if not mine:
            return 0, 0, 0
        due = (now - FINALITY - DAY) // DAY
        last = max([day for day, said in mine.items() if said.state == "scored"], default=0)
        end = max(due, last + 1)
        window = range(max(min(mine), end - 28), end)
        results = [mine[d].result for d in window if d in mine and mine[d].state == "scored"]
        missed = sum(d < due and not (d in mine and mine[d].state == "scored") for d in window)
        if not results:
            return 0, 0, missed
        loss, naive = (sum(part) for part in zip(*results, strict=True))
        # Towards zero, as the contract divides.
        permille = int(Fraction(1_000 * (naive - loss), naive))
        if permille > 0:
            permille = permille * len(results) // (len(results) + missed)
        return max(permille, -1_000), len(results), missed

    def standing(self, who: str, now: int) -> tuple[int, str]:
        """Proposals a day, and why there are none."""
        purse = self.purses[who]
        if not purse.admitted:
            return 0, "forecast: proposer is not a forecaster"
        if purse.bond - purse.leaving < self.minimum:
            return 0, "forecast: bond too small"
        permille, scored, missed = self.skill(who, now)
        if scored + missed < 3:
            return 1, ""
        if permille < 50:
            return 0, "forecast: skill is below the threshold"
        return 1 + 3 * (permille - 50) // 950, ""


class Play:
    """Draws one act after the other, and plays it on the model and on the contract."""

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench, self.dice = bench, random.Random(seed)
        self.people = [bench.forecaster, *(str(boa.env.generate_address(n)) for n in ("b", "c"))]
        self.model = Model({who: Purse() for who in self.people})
        # The collector of the bench has a bond that nothing may touch.
        self.other_bonds = bench.bond(bench.collector)
        self.model.purses[bench.forecaster] = Purse(bench.bond(), admitted=True, in_pocket=BOND)
        for who in self.people[1:]:
            bench.token.mint(who, 2 * BOND)
            with boa.env.prank(who):
                bench.token.approve(bench.registry.address, 2 * BOND)
        self.done: Counter[str] = Counter()

    @property
    def now(self) -> int:
        return int(boa.env.timestamp)

    def run(self, steps: int) -> None:
        acts = [
            (self.admit, 2), (self.deposit, 3), (self.announce, 2), (self.withdraw, 3),
            (self.fund, 1), (self.commit, 14), (self.reveal, 14), (self.score, 12), (self.miss, 4),
            (self.complain, 4), (self.decide, 2), (self.close, 2), (self.propose, 8),
            (self.change_cap, 1), (self.change_minimum, 1),
        ]  # fmt: skip
        for _ in range(steps):
            self.wait()
            (act,) = self.dice.choices([act for act, _ in acts], [weight for _, weight in acts])
            act()
            self.check()

    def wait(self) -> None:
        boa.env.timestamp += self.dice.randrange(1, 8 * HOUR)
        metered = self.bench.ledger.committed_until(ZONE) // 96
        for day in range(metered, self.now // DAY):
            self.bench.meter(day)

    def attempt(self, refusal: str, call: Callable[[], Any], sender: str | None = None) -> bool:
        """Whether the call went through; it does exactly where the model has no objection."""
        with boa.env.prank(sender or str(boa.env.eoa)):
            if refusal:
                with reverts(refusal):
                    call()
                return False
            call()
        self.done[call.__qualname__.split(".")[1]] += 1
        return True

    def anyone(self) -> str:
        return self.dice.choice(self.people)

    def any_forecast(self) -> Said | None:
        recent = [s for s in self.model.said.values() if s.day >= self.now // DAY - 20]
        return self.dice.choice(recent) if recent else None

    # -- acts ----------------------------------------------------------------------------------

    def admit(self) -> None:
        who, admitted = self.anyone(), self.dice.random() < 0.85
        if self.attempt("", lambda: self.bench.registry.set_forecaster(who, admitted)):
            self.model.purses[who].admitted = admitted

    def deposit(self) -> None:
        who = self.anyone()
        purse = self.model.purses[who]
        amount = self.dice.randrange(0, max(1, min(purse.in_pocket, BOND)))
        refusal = "" if amount else "forecast: amount is zero"
        refusal = refusal if purse.admitted else "forecast: caller is not a forecaster"
        if self.attempt(refusal, lambda: self.bench.registry.deposit_bond(amount), who):
            purse.bond += amount
            purse.in_pocket -= amount

    def announce(self) -> None:
        who = self.anyone()
        purse = self.model.purses[who]
        amount = self.dice.choice([0, purse.bond // 7, purse.bond, purse.bond + 1])
        refusal = "forecast: more than the bond" if amount > purse.bond else ""
        if self.attempt(refusal, lambda: self.bench.registry.announce_withdrawal(amount), who):
            purse.leaving = amount
            purse.unlocked_at = self.now + 17 * DAY if amount else 0

    def withdraw(self) -> None:
        who = self.anyone()
        purse = self.model.purses[who]
        refusal = ""
        if purse.leaving == 0:
            refusal = "forecast: nothing announced"
        elif self.now < purse.unlocked_at:
            refusal = "forecast: bond is still locked"
        elif self.model.open_complaints(who):
            refusal = "forecast: dispute is open"
        if self.attempt(refusal, lambda: self.bench.registry.withdraw_bond(), who):
            purse.bond -= purse.leaving
            purse.in_pocket += purse.leaving
            purse.leaving = purse.unlocked_at = 0

    def fund(self) -> None:
        amount = self.dice.randrange(1, 3 * MAX_REWARD)
        if self.attempt("", lambda: self.bench.fund(amount)):
            self.model.pool += amount

    def commit(self) -> None:
        who, day = self.anyone(), self.now // DAY + self.dice.choice([1, 1, 1, 2, 3])
        purse = self.model.purses[who]
        quantiles = missing_by(self.bench, day, self.dice.choice(SHARES))
        refusal = ""
        if not purse.admitted:
            refusal = "forecast: caller is not a forecaster"
        elif purse.bond - purse.leaving < self.model.minimum:
            refusal = "forecast: bond too small"
        elif self.now + LEAD >= day * DAY:
            refusal = "forecast: too late to commit"
        elif day * DAY > self.now + 2 * DAY:
            refusal = "forecast: too early to commit"
        elif (who, day) in self.model.said:
            refusal = "forecast: already committed"
        if self.attempt(refusal, lambda: self.bench.commit(day, quantiles, who)):
            self.model.said[who, day] = Said(who, day, quantiles, self.now)

    def reveal(self) -> None:
        said = self.any_forecast()
        if said is None:
            return
        refusal = ""
        if said.state != "committed":
            refusal = "forecast: nothing to reveal"
        elif self.now + LEAD < said.day * DAY:
            refusal = "forecast: too early to reveal"
        elif self.now >= (said.day + 1) * DAY + FINALITY:
            refusal = "forecast: too late to reveal"
        if self.attempt(refusal, lambda: self.bench.reveal(said.day, said.quantiles, who=said.who)):
            said.state = "revealed"

    def score(self) -> None:
        said = self.any_forecast()
        if said is None:
            return
        refusal = ""
        if said.state != "revealed":
            refusal = "forecast: nothing to score"
        elif self.now < (said.day + 1) * DAY + FINALITY:
            refusal = "forecast: totals are not final"
        if self.attempt(refusal, lambda: self.bench.score(said.day, said.quantiles, said.who)):
            net = self.bench.net
            said.result = losses_of(said.quantiles, net[said.day], net[said.day - 7], set())
            said.state = "scored"
            self.model.settle(said, *said.result)

    def miss(self) -> None:
        said = self.any_forecast()
        if said is None:
            return
        refusal = ""
        if said.state != "committed":
            refusal = "forecast: nothing is missing"
        elif self.now < (said.day + 1) * DAY + FINALITY:
            refusal = "forecast: may still be revealed"
        slot = said.day * 96
        if self.attempt(refusal, lambda: self.bench.registry.miss(said.who, ZONE, slot)):
            said.state = "missed"
            self.model.slash(said.who, self.model.slash_cap(said.at))

    def complain(self) -> None:
        said = self.any_forecast()
        if said is None:
            return
        refusal = ""
        if any(complaint.about is said for complaint in self.model.complaints):
            refusal = "forecast: already disputed"
        elif self.now < (said.day + 1) * DAY:
            refusal = "forecast: day is not over"
        elif self.now >= (said.day + 15) * DAY:
            refusal = "forecast: too late to dispute"
        slot = said.day * 96
        if self.attempt(
            refusal,
            lambda: self.bench.registry.open_dispute(said.who, ZONE, slot, ""),
            self.bench.member,
        ):
            self.model.complaints.append(Complaint(said, self.now))

    def any_complaint(self) -> tuple[int, Complaint] | None:
        numbered = list(enumerate(self.model.complaints, start=1))
        waiting = [(number, c) for number, c in numbered if c.state == "open"]
        return self.dice.choice(waiting or numbered) if numbered else None

    def decide(self) -> None:
        drawn = self.any_complaint()
        if drawn is None:
            return
        number, complaint = drawn
        who = complaint.about.who
        liable = self.dice.choice([who, self.bench.collector, ZERO])
        amount = 0 if liable == ZERO else self.dice.choice([1, BOND // 10, 2 * BOND])
        refusal = ""
        if complaint.state != "open":
            refusal = "forecast: dispute is not open"
        elif self.now >= complaint.at + 30 * DAY:
            refusal = "forecast: dispute lapsed"
        call = lambda: self.bench.registry.decide_dispute(number, liable, amount, "")  # noqa: E731
        if self.attempt(refusal, call):
            complaint.state = "decided"
            if liable == who:
                self.model.slash(who, amount)

    def close(self) -> None:
        drawn = self.any_complaint()
        if drawn is None:
            return
        number, complaint = drawn
        refusal = ""
        if complaint.state != "open":
            refusal = "forecast: dispute is not open"
        elif self.now < complaint.at + 30 * DAY:
            refusal = "forecast: dispute may be decided"
        if self.attempt(refusal, lambda: self.bench.registry.close_dispute(number)):
            complaint.state = "lapsed"

    def propose(self) -> None:
        who, today = self.anyone(), self.now // DAY
        total, refusal = self.model.standing(who, self.now)
        if not refusal and self.model.used[who, today] >= total:
            refusal = "forecast: no allowance left today"
        if self.attempt(refusal, lambda: self.bench.propose(who)):
            self.model.used[who, today] += 1

    def change_cap(self) -> None:
        value = self.dice.choice([MAX_SLASH // 4, MAX_SLASH, 3 * MAX_SLASH])
        if self.attempt("", lambda: self.bench.parameters.set_value(MAX_SLASH_KEY, value)):
            self.model.max_slash.append((self.now, value))

    def change_minimum(self) -> None:
        amount = self.dice.choice([MINIMUM_BOND // 2, MINIMUM_BOND])
        if self.attempt("", lambda: self.bench.registry.set_minimum_bond(amount)):
            self.model.minimum = amount

    # -- what always holds ---------------------------------------------------------------------

    def check(self) -> None:
        registry, token, model = self.bench.registry, self.bench.token, self.model
        held = token.balanceOf(registry.address)
        assert held == sum(map(self.bench.bond, self.people)) + self.other_bonds + (
            registry.reward_pool()
        )
        assert registry.reward_pool() == model.pool
        assert self.bench.bond(self.bench.collector) == self.other_bonds
        for who, purse in model.purses.items():
            bond, leaving, unlocked_at = registry.bond_of(who)
            assert (bond, leaving) == (purse.bond, purse.leaving)
            assert leaving == 0 or unlocked_at == purse.unlocked_at
            assert token.balanceOf(who) == purse.in_pocket
            assert registry.is_forecaster(who) == purse.admitted
            assert registry.open_disputes(who) == model.open_complaints(who)
            assert registry.skill(who, ZONE) == model.skill(who, self.now)[:2]
            total, refusal = model.standing(who, self.now)
            assert registry.in_good_standing(who, ZONE) == (refusal == "")
            assert registry.allowance(who, ZONE) == (total, model.used[who, self.now // DAY])


@pytest.fixture(scope="module")
def deployed() -> Bench:
    return new_bench()


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.deep)])
def test_the_books_hold_through_months_at_random(deployed: Bench, seed: int) -> None:
    with rolled_back(deployed) as bench:
        bench.at_day(FIRST_DAY - 1, HOUR)
        play = Play(bench, seed)
        play.run(STEPS)
    # A walk that never went some way proves nothing about it.
    assert not {act for act in WAYS if play.done[act] == 0}
