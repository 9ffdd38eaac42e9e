# SPDX-License-Identifier: Apache-2.0
"""The whole DAO once more, in plain Python: the oracle of the stateful test.

Written from the rules, not from the contracts: no packed words, no checkpoints, no sums kept
between calls. Who had how many votes is counted anew from what the membership was at that time.
Each operation raises `Refused` with the reason the contract must give, and then changes nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

SLOT, HOUR, DAY = 900, 3_600, 86_400
EURO = 1_000_000
ORDINARY, BALANCING, POLICY = range(3)
AGAINST, FOR, ABSTAIN, VETO = range(4)
(PENDING, ACTIVE, CANCELED, DEFEATED, SUCCEEDED, QUEUED, EXPIRED, EXECUTED) = range(8)
(BAD_SUPPORT, BALLOT_EXPIRED, BAD_SIGNATURE, ALREADY_VOTED, NO_VOTES, OTHER_ZONE) = range(1, 7)
# Keys of the rules that the DAO itself reads; a battery window has a key without a rule.
BATTERY_MAX_W, SKILL_THRESHOLD, QUORUM, VETO_SHARE, FORFEIT_SHARE = 17, 14, 15, 20, 21
BOND, HOLDING_TIME, ZONE_QUORUM, PROBATION, ALLOWANCE, ADMISSION_DELAY = 22, 23, 24, 27, 28, 29
DEVICES = BATTERY, CHARGE_POINTS, HOME_BATTERIES = 1_000, 1_001, 1_002
OFFICE_ENDS = 30 * DAY
BUDGET_PERIOD = 30 * DAY
WINDOW_AHEAD = 14 * DAY

T = TypeVar("T")
Timed = tuple[tuple[int, T], ...]


class Refused(Exception):
    """The operation must revert with this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def require(condition: bool, reason: str) -> None:
    if not condition:
        raise Refused(reason)


def at(history: Timed[T], moment: int) -> T:
    """What held at the end of a second."""
    return [value for since, value in history if since <= moment][-1]


def then(history: Timed[T], now: int, value: T) -> Timed[T]:
    """The history with what holds from now on; of one second the last change stays."""
    return (*(entry for entry in history if entry[0] < now), (now, value))


# -- what there is -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """What the timelock is to do. `fault`: how the call is spoiled, "value", "tail" or nothing."""

    what: str
    arguments: tuple[Any, ...]
    fault: str = ""


@dataclass(frozen=True)
class Member:
    zone: int
    meter: int
    since: int
    delegate: str


@dataclass(frozen=True)
class Announcement:
    member: str
    due: int
    removal: bool


@dataclass(frozen=True)
class Rule:
    minimum: int
    maximum: int
    step: int
    cooldown: int
    values: Timed[int]

    @property
    def value(self) -> int:
        return self.values[-1][1]


@dataclass(frozen=True)
class Window:
    first: int
    slots: int
    value: int
    opened: int


@dataclass(frozen=True)
class Policy:
    zone: int
    key: int
    lowest: int
    highest: int
    max_slots: int
    budget: int
    veto_hours: int
    expires: int
    adopted: int
    ended: bool = False
    # Per action: when, and its deviation.
    uses: tuple[tuple[int, int], ...] = ()

    def left(self, now: int) -> int:
        period = (now - self.adopted) // BUDGET_PERIOD
        spent = [
            cost for when, cost in self.uses if (when - self.adopted) // BUDGET_PERIOD == period
        ]
        return self.budget - sum(spent)


@dataclass(frozen=True)
class Forecaster:
    admitted: bool
    bond: int
    leaving: int = 0


@dataclass(frozen=True)
class Lane:
    delay: int
    period: int
    grace: int
    timelock: int


@dataclass(frozen=True)
class Proposal:
    number: int
    calls: tuple[Call, ...]
    description: str
    proposer: str
    lane: int
    zone: int
    snapshot: int
    period: int
    grace: int
    bond: int
    # Voter, support, votes; in the order in which they were cast.
    ballots: tuple[tuple[str, int, int], ...] = ()
    extended: int = 0
    eta: int = 0
    canceled_in: int | None = None
    executed: bool = False
    released: bool = False

    @property
    def deadline(self) -> int:
        return self.extended or self.snapshot + self.period

    @property
    def expiry(self) -> int:
        return max(self.deadline, self.eta) + self.grace

    @property
    def locked(self) -> int:
        return 0 if self.released else self.bond

    def count(self, *supports: int) -> int:
        return sum(votes for _, support, votes in self.ballots if support in supports)

    def has_voted(self, voter: str) -> bool:
        return any(who == voter for who, _, _ in self.ballots)


@dataclass(frozen=True)
class Ballot:
    """A signed ballot as its carrier sees it."""

    voter: str
    support: int
    deadline: int
    well_signed: bool


@dataclass
class Dao:
    now: int
    # Metering point -> owner, zone.
    points: dict[int, tuple[str, int]]
    rules: dict[int, Rule]
    lanes: dict[int, Lane]
    min_delay: int
    guardian: str
    minimum_bond: int
    forecasters: dict[str, Forecaster]
    members: dict[str, Member] = field(default_factory=dict)
    # Who was a member when: member -> zone, delegate.
    rolls: Timed[dict[str, tuple[int, str]]] = ((0, {}),)
    announcements: dict[int, Announcement] = field(default_factory=dict)
    delegations: dict[str, int] = field(default_factory=dict)
    windows: dict[tuple[int, int, int], tuple[Window, ...]] = field(default_factory=dict)
    policies: dict[int, Policy] = field(default_factory=dict)
    # Forecaster, zone -> times at which its allowance was used.
    allowances: dict[tuple[str, int], tuple[int, ...]] = field(default_factory=dict)
    deposits: dict[str, int] = field(default_factory=dict)
    proposals: dict[int, Proposal] = field(default_factory=dict)
    treasury: int = 0

    @contextmanager
    def whole(self) -> Iterator[None]:
        """All of what is done inside, or nothing."""
        before = {name: copy.copy(value) for name, value in vars(self).items()}
        try:
            yield
        except Refused:
            vars(self).update(before)
            raise

    def rule(self, key: int) -> int:
        return self.rules[key].value

    def rule_at(self, key: int, moment: int) -> int:
        return at(self.rules[key].values, moment)

    # -- members ---------------------------------------------------------------------------

    def _enroll(self) -> None:
        roll = {name: (member.zone, member.delegate) for name, member in self.members.items()}
        self.rolls = then(self.rolls, self.now, roll)

    def electorate(self, zone: int, moment: int) -> int:
        return sum(zone in (0, home) for home, _ in at(self.rolls, moment).values())

    def weight(self, account: str, moment: int) -> tuple[int, int]:
        """Zone and votes; zeros for who was no member then, whatever others lent it."""
        roll = at(self.rolls, moment)
        if account not in roll:
            return 0, 0
        return roll[account][0], sum(delegate == account for _, delegate in roll.values())

    def is_live(self, meter: int) -> bool:
        found = self.announcements.get(meter)
        return found is not None and self.now < found.due + OFFICE_ENDS

    def _check_admission(self, member: str, meter: int) -> int:
        require(member not in self.members, "membership: already a member")
        taken = {m.meter for m in self.members.values()}
        require(meter not in taken, "membership: metering point has a member")
        owner, zone = self.points.get(meter, ("", 0))
        require(owner == member, "membership: metering point is another's")
        return zone

    def announce_admissions(self, by: str, entries: Sequence[tuple[str, int]]) -> None:
        require(by == "registrar", "membership: caller is not the registrar")
        with self.whole():
            for member, meter in entries:
                self._check_admission(member, meter)
                self._announce(meter, member, removal=False)

    def announce_removals(self, by: str, members: Sequence[str]) -> None:
        require(by == "registrar", "membership: caller is not the registrar")
        with self.whole():
            for member in members:
                require(member in self.members, "membership: not a member")
                self._announce(self.members[member].meter, member, removal=True)

    def _announce(self, meter: int, member: str, *, removal: bool) -> None:
        require(not self.is_live(meter), "membership: already announced")
        due = self.now + self.rule(ADMISSION_DELAY)
        self.announcements[meter] = Announcement(member, due, removal)

    def cancel_announcements(self, by: str, meters: Sequence[int]) -> None:
        require(
            by in ("registrar", "timelock"), "membership: caller is neither registrar nor owner"
        )
        with self.whole():
            for meter in meters:
                require(meter in self.announcements, "membership: nothing announced")
                del self.announcements[meter]

    def complete(self, meters: Sequence[int]) -> None:
        with self.whole():
            for meter in meters:
                require(meter in self.announcements, "membership: nothing announced")
                found = self.announcements.pop(meter)
                require(self.now >= found.due, "membership: not due yet")
                expired = self.now >= found.due + OFFICE_ENDS
                require(not expired, "membership: announcement expired")
                if found.removal:
                    del self.members[found.member]
                else:
                    self._admit(found.member, meter)
                self._enroll()

    def _admit(self, member: str, meter: int) -> None:
        zone = self._check_admission(member, meter)
        lenders = {m.zone for m in self.members.values() if m.delegate == member}
        require(lenders <= {zone}, "membership: holds votes of another zone")
        self.members[member] = Member(zone, meter, self.now, member)

    def delegate(self, by: str, to: str) -> None:
        require(by in self.members, "membership: delegator is not a member")
        require(to in self.members, "membership: delegate is not a member")
        giver, taker = self.members[by], self.members[to]
        require(giver.zone == taker.zone, "membership: delegate lives in another zone")
        require(giver.delegate != to, "membership: already delegated so")
        self.members[by] = replace(giver, delegate=to)
        self._enroll()

    def delegate_by_signature(self, signer: str, to: str, nonce: int, expiry: int) -> None:
        """signer: who the signature turns out to be of; "" for nobody known."""
        require(self.now <= expiry, "membership: signature expired")
        due = self.delegations.get(signer, 0)
        require(nonce == due, "membership: nonce is not the next")
        self.delegate(signer, to)
        self.delegations[signer] = due + 1

    # -- bonds -----------------------------------------------------------------------------

    def locked(self, account: str) -> int:
        return sum(p.locked for p in self.proposals.values() if p.proposer == account)

    def free(self, account: str) -> int:
        return self.deposits.get(account, 0) - self.locked(account)

    def deposit(self, by: str, amount: int) -> None:
        require(amount > 0, "governor: amount is zero")
        self.deposits[by] = self.deposits.get(by, 0) + amount

    def withdraw(self, by: str, amount: int) -> None:
        require(amount > 0, "governor: amount is zero")
        require(amount <= self.free(by), "governor: more than the free bond")
        self.deposits[by] -= amount

    def release(self, number: int) -> None:
        proposal = self.known(number)
        over = self.state(number) not in (PENDING, ACTIVE)
        require(over, "governor: vote is not over")
        require(proposal.locked > 0, "governor: proposal locks no bond")
        if self.is_abuse(proposal):
            self.deposits[proposal.proposer] -= proposal.bond
            self.treasury += proposal.bond
        self.proposals[number] = replace(proposal, released=True)

    def is_abuse(self, proposal: Proposal) -> bool:
        """Many vetoes, in a vote that enough took part in, and that ran its course."""
        vetoes, cast = proposal.count(VETO), proposal.count(*range(4))
        if vetoes == 0 or proposal.canceled_in in (PENDING, ACTIVE):
            return False
        share = self.rule_at(FORFEIT_SHARE, proposal.snapshot)
        return vetoes * 10_000 >= cast * share and cast >= self.needed(proposal)

    # -- proposals -------------------------------------------------------------------------

    def allowance(self, who: str, zone: int) -> tuple[int, int]:
        used = [t for t in self.allowances.get((who, zone), ()) if t // DAY == self.now // DAY]
        try:
            return self._standing(who), len(used)
        except Refused:
            return 0, len(used)

    def _standing(self, who: str) -> int:
        """Proposals a day of a forecaster that never committed a forecast."""
        forecaster = self.forecasters.get(who, Forecaster(admitted=False, bond=0))
        require(forecaster.admitted, "forecast: proposer is not a forecaster")
        backing = forecaster.bond - forecaster.leaving
        require(backing >= self.minimum_bond, "forecast: bond too small")
        if self.rule(PROBATION) == 0:
            threshold = self.rule(SKILL_THRESHOLD)
            require(threshold <= 0, "forecast: skill is below the threshold")
        return min(self.rule(ALLOWANCE), 1)

    def announce_withdrawal(self, who: str, amount: int) -> None:
        forecaster = self.forecasters[who]
        require(amount <= forecaster.bond, "forecast: more than the bond")
        self.forecasters[who] = replace(forecaster, leaving=amount)

    def _stake(self, by: str, lane: int, zone: int) -> int:
        total, used = self.allowance(by, zone)
        if lane != ORDINARY and (by not in self.members or used < total):
            left = used < self._standing(by)
            require(left, "forecast: no allowance left today")
            self.allowances[by, zone] = (*self.allowances.get((by, zone), ()), self.now)
            return 0
        require(by in self.members, "governor: proposer is not a member")
        held = self.now - self.members[by].since
        require(held >= self.rule(HOLDING_TIME), "governor: proposer joined too recently")
        bond = self.rule(BOND) * EURO
        require(bond == 0 or bond <= self.free(by), "governor: proposer has no free bond")
        return bond

    def propose(
        self,
        by: str,
        lane: int,
        calls: tuple[Call, ...],
        description: str,
        *,
        policy: int = 0,
        only: str = "",
    ) -> int:
        """only: the one account that the description names as its proposer."""
        require(bool(calls), "governor: no calls")
        with self.whole():
            zone, period = 0, self.lanes[min(lane, BALANCING)].period
            if lane == BALANCING:
                zone = self._zone_of(calls)
            elif lane == POLICY:
                zone, period = self._use(policy, calls)
            require(only in ("", by), "governor: description names another proposer")
            made = [p for p in self.proposals.values() if p.description == description]
            again = any(p.calls == calls for p in made)
            require(not again, "governor: already proposed")
            bond = self._stake(by, lane, zone)
            terms = self.lanes[min(lane, BALANCING)]
            number = len(self.proposals) + 1
            self.proposals[number] = Proposal(
                number, calls, description, by, lane, zone,
                self.now + terms.delay, period, terms.grace, bond,
            )  # fmt: skip
        return number

    @staticmethod
    def _read(call: Call) -> tuple[int, int, list[tuple[int, int, int]]]:
        """Zone, key and windows of a call that opens some and does nothing else."""
        opens = call.what in ("open_window", "open_windows") and call.fault != "value"
        require(opens, "policies: call opens no windows")
        require(call.fault != "tail", "policies: encoding is not canonical")
        zone, key, *rest = call.arguments
        return zone, key, [tuple(rest)] if call.what == "open_window" else list(rest[0])

    def _zone_of(self, calls: tuple[Call, ...]) -> int:
        first = 0
        for call in calls:
            zone, _, _ = self._read(call)
            require(zone != 0, "policies: zone out of range")
            require(first in (0, zone), "policies: another zone")
            first = zone
        return first

    def _use(self, number: int, calls: tuple[Call, ...]) -> tuple[int, int]:
        require(number in self.policies, "policies: unknown policy")
        policy = self.policies[number]
        require(not policy.ended, "policies: policy has ended")
        slots = cost = 0
        for call in calls:
            zone, key, windows = self._read(call)
            require(zone == policy.zone, "policies: another zone")
            require(key == policy.key, "policies: another key")
            for first, length, value in windows:
                inside = policy.lowest <= value <= policy.highest
                require(inside, "policies: value outside the bounds")
                ends = (first + length) * SLOT
                require(ends <= policy.expires, "policies: window ends after the policy")
                slots += length
                cost += length * self._deviation(key, value)
        require(slots <= policy.max_slots, "policies: too many slots")
        require(cost <= policy.left(self.now), "policies: budget is used up")
        self.policies[number] = replace(policy, uses=(*policy.uses, (self.now, cost)))
        return policy.zone, policy.veto_hours * HOUR

    def _deviation(self, key: int, value: int) -> int:
        """The longest way from where the devices may be without the window, or the rule is."""
        if key == CHARGE_POINTS:
            return 22_000 - value if value <= 22_000 else value - 22_000
        if key == HOME_BATTERIES:
            return max(abs(value - programme) for programme in (-1_000, 1_000))
        return abs(value if key == BATTERY else value - self.rule(key))

    def remaining(self, number: int) -> int:
        policy = self.policies[number]
        over = policy.ended or self.now >= policy.expires
        return 0 if over else policy.left(self.now)

    def known(self, number: int) -> Proposal:
        require(number in self.proposals, "governor: unknown proposal")
        return self.proposals[number]

    def needed(self, proposal: Proposal) -> int:
        """Votes of the electorate at the snapshot that decide, rounded up."""
        moment = proposal.snapshot
        if proposal.lane == POLICY:
            share = self.rule_at(VETO_SHARE, moment)
        else:
            share = self.rule_at(QUORUM, moment)
            if proposal.lane == BALANCING:
                share = self.rule_at(ZONE_QUORUM, moment) or share
        return -(-self.electorate(proposal.zone, moment) * share // 10_000)

    def passed(self, proposal: Proposal) -> bool:
        against = proposal.count(AGAINST, VETO)
        if proposal.lane == POLICY:
            # Nobody could object where nobody lives.
            return against < self.needed(proposal)
        heard = proposal.count(FOR, ABSTAIN) >= self.needed(proposal)
        return heard and proposal.count(FOR) > against

    def state(self, number: int) -> int:
        p = self.known(number)
        if p.executed:
            return EXECUTED
        if p.canceled_in is not None:
            return CANCELED
        if self.now <= p.snapshot:
            return PENDING
        if self.now <= p.deadline:
            return ACTIVE
        if not p.eta and not self.passed(p):
            return DEFEATED
        if self.now > p.expiry:
            return EXPIRED
        return QUEUED if p.eta else SUCCEEDED

    def queue(self, number: int) -> None:
        succeeded = self.state(number) == SUCCEEDED
        require(succeeded, "governor: proposal has not succeeded")
        proposal = self.proposals[number]
        delay = max(self.lanes[min(proposal.lane, BALANCING)].timelock, self.min_delay)
        self.proposals[number] = replace(proposal, eta=self.now + delay)

    def execute(self, number: int) -> None:
        require(self.state(number) == QUEUED, "governor: proposal is not queued")
        proposal = self.proposals[number]
        require(self.now >= proposal.eta, "timelock: not ready")
        with self.whole():
            self.proposals[number] = replace(proposal, executed=True)
            for call in proposal.calls:
                self.carry_out(call)

    def cancel(self, by: str, number: int) -> None:
        now_in = self.state(number)
        proposal = self.proposals[number]
        guards = by == self.guardian and proposal.lane != ORDINARY
        require(guards or by == proposal.proposer, "governor: caller may not cancel")
        while_open = now_in in (ACTIVE, SUCCEEDED, QUEUED)
        early = now_in == PENDING or (guards and while_open)
        require(early, "governor: too late to cancel")
        self.proposals[number] = replace(proposal, canceled_in=now_in)

    # -- ballots ---------------------------------------------------------------------------

    def _active(self, number: int) -> Proposal:
        self.known(number)
        require(self.state(number) == ACTIVE, "governor: vote not active")
        return self.proposals[number]

    def _votes(self, proposal: Proposal, voter: str) -> tuple[int, int]:
        """The voter's votes, and why they do not count, or 0."""
        zone, votes = self.weight(voter, proposal.snapshot)
        if votes == 0:
            return 0, NO_VOTES
        if proposal.zone not in (0, zone):
            return 0, OTHER_ZONE
        return votes, 0

    def vote(self, number: int, voter: str, support: int) -> None:
        proposal = self._active(number)
        require(support <= VETO, "governor: support is not 0, 1, 2 or 3")
        require(not proposal.has_voted(voter), "governor: already voted")
        votes, why = self._votes(proposal, voter)
        require(why != NO_VOTES, "governor: no votes at the snapshot")
        require(why != OTHER_ZONE, "governor: voter lives in another zone")
        self._count(proposal, [(voter, support, votes)])

    def vote_signed(self, number: int, ballot: Ballot) -> None:
        require(self.now <= ballot.deadline, "governor: ballot expired")
        require(ballot.well_signed, "governor: bad signature")
        self.vote(number, ballot.voter, ballot.support)

    def vote_batch(self, number: int, ballots: Sequence[Ballot]) -> list[tuple[str, int]]:
        """Who was turned away, and why."""
        proposal = self._active(number)
        good: list[tuple[str, int, int]] = []
        bad = []
        for ballot in ballots:
            votes, why = self._votes(proposal, ballot.voter)
            if not ballot.well_signed:
                why = BAD_SIGNATURE
            if proposal.has_voted(ballot.voter) or any(b[0] == ballot.voter for b in good):
                why = ALREADY_VOTED
            if self.now > ballot.deadline:
                why = BALLOT_EXPIRED
            if ballot.support > VETO:
                why = BAD_SUPPORT
            if why:
                bad.append((ballot.voter, why))
            else:
                good.append((ballot.voter, ballot.support, votes))
        self._count(proposal, good)
        return bad

    def _count(self, before: Proposal, ballots: list[tuple[str, int, int]]) -> None:
        after = replace(before, ballots=(*before.ballots, *ballots))
        eighth = before.period // 8
        late = self.now + eighth > before.deadline
        needed = self.needed(before)
        reached = before.count(FOR, ABSTAIN) < needed <= after.count(FOR, ABSTAIN)
        if before.lane != POLICY and not before.extended and late and reached:
            after = replace(after, extended=self.now + eighth)
        self.proposals[before.number] = after

    # -- what the timelock may do ----------------------------------------------------------

    def carry_out(self, call: Call) -> None:
        """One call of the timelock: of a proposal that is executed, or in a test in its name."""
        acts: dict[str, Callable[..., None]] = {
            "set_value": self._set_value,
            "open_window": self._open_window,
            "open_windows": self._open_windows,
            "adopt": self._adopt,
            "end": self._end,
            "setLane": self._set_lane,
            "setGuardian": lambda who: setattr(self, "guardian", who),
            "updateDelay": self._set_min_delay,
            "cancel_announcements": lambda meters: self.cancel_announcements("timelock", meters),
            "set_forecaster": self._set_forecaster,
            "set_minimum_bond": lambda amount: setattr(self, "minimum_bond", amount),
        }
        with self.whole():
            acts[call.what](*call.arguments)

    def _check_value(self, rule: Rule, value: int) -> None:
        inside = rule.minimum <= value <= rule.maximum
        require(inside, "parameters: value out of bounds")
        require(abs(value - rule.value) <= rule.step, "parameters: step too large")

    def _set_value(self, key: int, value: int) -> None:
        require(key in self.rules, "parameters: unknown key")
        rule = self.rules[key]
        self._check_value(rule, value)
        changed_at = rule.values[-1][0]
        cool = changed_at == 0 or self.now >= changed_at + rule.cooldown
        require(cool, "parameters: cooling down")
        self.rules[key] = replace(rule, values=then(rule.values, self.now, value))

    def _open_windows(self, zone: int, key: int, windows: Sequence[tuple[int, int, int]]) -> None:
        for window in windows:
            self._open_window(zone, key, *window)

    def _open_window(self, zone: int, key: int, first: int, slots: int, value: int) -> None:
        require(zone != 0, "parameters: zone out of range")
        inside = 0 < slots <= 96 - first % 96
        require(inside, "parameters: window leaves its day")
        require(first * SLOT > self.now, "parameters: window has begun")
        near = first * SLOT <= self.now + WINDOW_AHEAD
        require(near, "parameters: window is too far ahead")
        if key == BATTERY:
            possible = abs(value) <= self.rule(BATTERY_MAX_W)
            require(possible, "parameters: battery power out of range")
        elif key == CHARGE_POINTS:
            require(0 <= value <= 22_000, "parameters: charging power out of range")
        elif key == HOME_BATTERIES:
            require(-1_000 <= value <= 1_000, "parameters: share of power out of range")
        else:
            require(5 <= key <= 7, "parameters: key takes no window")
            require(value >= 0, "parameters: value out of bounds")
            self._check_value(self.rules[key], value)
        today = self.windows.get((zone, key, first // 96), ())
        apart = all(first + slots <= w.first or w.first + w.slots <= first for w in today)
        require(apart, "parameters: window overlaps another")
        require(len(today) < 16, "parameters: too many windows")
        opened = (*today, Window(first, slots, value, self.now))
        self.windows[zone, key, first // 96] = opened

    def _adopt(
        self,
        zone: int,
        key: int,
        lowest: int,
        highest: int,
        max_slots: int,
        budget: int,
        veto_hours: int,
        expires: int,
    ) -> None:
        require(0 < zone < 1_024, "policies: zone out of range")
        require(key in (5, 6, 7, *DEVICES), "policies: key takes no window")
        require(lowest <= highest, "policies: lowest above highest")
        require(0 < max_slots <= 14 * 96, "policies: slots out of range")
        require(budget > 0, "policies: budget out of range")
        require(0 < veto_hours <= 24, "policies: veto hours out of range")
        require(expires > self.now, "policies: expiry has passed")
        require(expires <= self.now + 366 * DAY, "policies: expiry is too far ahead")
        self.policies[len(self.policies) + 1] = Policy(
            zone, key, lowest, highest, max_slots, budget, veto_hours, expires, self.now
        )

    def _end(self, number: int) -> None:
        require(number in self.policies, "policies: unknown policy")
        require(not self.policies[number].ended, "policies: policy has ended")
        self.policies[number] = replace(self.policies[number], ended=True)

    def _set_lane(self, lane: int, delay: int, period: int, grace: int, timelock: int) -> None:
        require(lane in (ORDINARY, BALANCING), "governor: lane has no terms of its own")
        slow = lane == ORDINARY
        delays = (HOUR, 7 * DAY) if slow else (1, DAY)
        periods = (DAY, 30 * DAY) if slow else (HOUR, DAY)
        require(delays[0] <= delay <= delays[1], "governor: voting delay out of range")
        least = DAY if slow else 900
        require(least <= timelock <= periods[1], "governor: timelock delay out of range")
        for length in (period, grace):
            inside = periods[0] <= length <= periods[1]
            require(inside, "governor: period out of range")
            require(length % HOUR == 0, "governor: period is not in whole hours")
        self.lanes[lane] = Lane(delay, period, grace, timelock)

    def _set_min_delay(self, delay: int) -> None:
        require(900 <= delay <= 30 * DAY, "timelock: delay out of range")
        self.min_delay = delay

    def _set_forecaster(self, who: str, admitted: bool) -> None:
        before = self.forecasters.get(who, Forecaster(admitted=False, bond=0))
        self.forecasters[who] = replace(before, admitted=admitted)
