# SPDX-License-Identifier: Apache-2.0
"""Decisions: where each stands at a moment, what it still needs, and what a person can do about it.

Pure; what is asked and from where is in `repositories/governance.py`. How a proposal's text and its
effects are read is in `services/proposal.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dao.governance.proposals import Lane
from dao.runstate import Outcome
from dashboard.i18n import _, formats, ngettext
from dashboard.repositories.governance import Ballot, Made, Tally
from dashboard.services.vote import OPEN, status, tone

AGAINST, FOR, ABSTAIN, VETO = range(4)
"""How a ballot counts, as the governor numbers it."""


@dataclass(frozen=True)
class Standing:
    """A proposal at a moment. needed: votes that decide, None where no node tells or it is not
    known yet; members: who could vote; expiry: until when it can be carried on.

    power: the visitor's votes at the snapshot; mine: their ballot.
    """

    made: Made
    state: Outcome
    tally: Tally
    needed: int | None
    members: int
    expiry: int | None
    now: int
    power: int = 0
    mine: Ballot | None = None

    @property
    def is_open(self) -> bool:
        return self.state is Outcome.ACTIVE

    @property
    def can_vote(self) -> bool:
        """Whether the visitor's ballot is still wanted."""
        return self.is_open and self.power > 0 and self.mine is None

    @property
    def towards(self) -> int:
        """Votes that count towards what decides."""
        if self.made.under_policy:
            return self.tally.against
        return self.tally.in_favour + self.tally.abstain

    @property
    def left(self) -> int:
        """Seconds until the next turn of events that has a time, 0 where there is none."""
        ends = {
            Outcome.PENDING: self.made.snapshot,
            Outcome.ACTIVE: self.made.deadline,
            Outcome.SUCCEEDED: self.expiry,
            Outcome.QUEUED: self.made.eta
            if self.made.eta is not None and self.now < self.made.eta
            else self.expiry,
        }.get(self.state)
        return max((ends or 0) - self.now, 0)

    @property
    def can_queue(self) -> bool:
        return self.state is Outcome.SUCCEEDED

    @property
    def can_execute(self) -> bool:
        """Whether its time in the timelock is over. A block's time is what counts, so a second
        later is safe."""
        return (
            self.state is Outcome.QUEUED and self.made.eta is not None and self.now >= self.made.eta
        )


def state_at(made: Made, tally: Tally, needed: int | None, expiry: int | None, now: int) -> Outcome:
    """The governor's `state` at a moment, from what is known.

    Without `needed`, what was not carried on counts as accepted while more are for it; whoever
    then tries to carry it on is told by the contract.
    """
    if made.executed is not None:
        return Outcome.EXECUTED
    if made.cancelled is not None:
        return Outcome.CANCELED
    if now <= made.snapshot:
        return Outcome.PENDING
    if now <= made.deadline:
        return Outcome.ACTIVE
    late = expiry is not None and now > expiry
    if made.eta is not None:
        return Outcome.EXPIRED if late else Outcome.QUEUED
    if not _passed(made, tally, needed):
        return Outcome.DEFEATED
    return Outcome.EXPIRED if late else Outcome.SUCCEEDED


def _passed(made: Made, tally: Tally, needed: int | None) -> bool:
    if made.under_policy:
        return needed is None or tally.against < needed
    if tally.in_favour <= tally.against:
        return False
    return needed is None or tally.in_favour + tally.abstain >= needed


@dataclass(frozen=True)
class Agenda:
    """What there is to decide, in the order in which it needs somebody."""

    mine: tuple[Standing, ...]
    """Open, and the visitor's vote is missing: the one that closes first stands first."""
    vetoes: tuple[Standing, ...]
    """Under a standing policy, and the visitor may still object."""
    due: tuple[Standing, ...]
    """Accepted: to queue, waiting in the timelock, or to execute."""
    others: tuple[Standing, ...]
    """Open or about to open, without anything for the visitor to do."""
    past: tuple[Standing, ...]


def agenda(those: Iterable[Standing]) -> Agenda:
    """Proposals by what they need."""
    mine: list[Standing] = []
    vetoes: list[Standing] = []
    due: list[Standing] = []
    others: list[Standing] = []
    past: list[Standing] = []
    for one in those:
        if one.can_vote:
            (vetoes if one.made.under_policy else mine).append(one)
        elif one.state in (Outcome.SUCCEEDED, Outcome.QUEUED):
            due.append(one)
        elif one.state in OPEN:
            others.append(one)
        else:
            past.append(one)

    def soon(one: Standing) -> tuple[int, int]:
        return (one.left, one.made.id)

    return Agenda(
        tuple(sorted(mine, key=soon)),
        tuple(sorted(vetoes, key=soon)),
        tuple(sorted(due, key=lambda one: (not (one.can_queue or one.can_execute), *soon(one)))),
        tuple(sorted(others, key=soon)),
        tuple(sorted(past, key=lambda one: one.made.place, reverse=True)),
    )


# In words


def state_words(one: Standing) -> tuple[str, str]:
    """The state, and how a screen marks it."""
    return status(one.state, one.made.under_policy), tone(one.state)


def decided_by(one: Standing) -> str:
    """How many must take part, and how many have: one plain sentence."""
    needed, members, fmt = one.needed, one.members, formats()
    if needed is None:
        if one.state is Outcome.PENDING:
            return _("Who may vote, and how many must, is counted when the vote opens.")
        return _("How many must take part cannot be told without a node.")
    done = {
        "needed": fmt.number(needed),
        "members": fmt.number(members),
        "reached": fmt.number(one.towards),
    }
    if one.made.under_policy:
        return ngettext(
            "It takes effect unless {needed} of {members} members objects (so far: {reached}).",
            "It takes effect unless {needed} of {members} members object (so far: {reached}).",
            needed,
        ).format(**done)
    if one.state is Outcome.ACTIVE:
        return ngettext(
            "{needed} of {members} members must vote for it or abstain (so far: {reached}).",
            "{needed} of {members} members must vote for it or abstain (so far: {reached}).",
            needed,
        ).format(**done)
    return ngettext(
        "{needed} of {members} members had to vote for it or abstain; {reached} did.",
        "{needed} of {members} members had to vote for it or abstain; {reached} did.",
        needed,
    ).format(**done)


def majority(one: Standing) -> str:
    """What besides the quorum decides, as it stands; empty under a policy."""
    if one.made.under_policy or not one.is_open:
        return ""
    if one.tally.in_favour > one.tally.against:
        return _("More are for it than against.")
    if one.tally.ballots == 0:
        return _("Nobody has voted yet.")
    return _("It fails as it stands: more must be for it than against.")


def timing(one: Standing) -> str:
    """The next thing to come, with its time."""
    made, fmt = one.made, formats()
    if one.state is Outcome.PENDING:
        return _("Voting opens {time}.").format(time=fmt.moment(made.snapshot))
    if one.state is Outcome.ACTIVE:
        if made.under_policy:
            words = _("Objections count until {time}.")
        elif made.extended:
            words = _("Voting closes {time}; a late quorum made it longer.")
        else:
            words = _("Voting closes {time}.")
        return words.format(time=fmt.moment(made.deadline))
    if one.state is Outcome.SUCCEEDED:
        if one.expiry is None:
            return _("Anyone may hand it to the timelock now.")
        return _("Anyone may hand it to the timelock, until {time}.").format(
            time=fmt.moment(one.expiry)
        )
    if one.state is Outcome.QUEUED and made.eta is not None:
        if one.now < made.eta:
            return _("It waits in the timelock until {time}.").format(time=fmt.moment(made.eta))
        if one.expiry is None:
            return _("Anyone may carry it out now.")
        return _("Anyone may carry it out, until {time}.").format(time=fmt.moment(one.expiry))
    if one.state is Outcome.EXECUTED and made.executed is not None:
        return _("Carried out {time}.").format(time=fmt.moment(made.executed.at))
    if one.state is Outcome.CANCELED and made.cancelled is not None:
        return _("Cancelled {time}.").format(time=fmt.moment(made.cancelled.at))
    if one.state is Outcome.EXPIRED:
        return _("It was accepted, but nobody carried it on in time.")
    return _("Voting closed {time}.").format(time=fmt.moment(made.deadline))


def left_words(one: Standing) -> str:
    """What the countdown counts to, with a place for the {time}."""
    return {
        Outcome.PENDING: _("{time} until voting opens"),
        Outcome.ACTIVE: _("{time} left to object")
        if one.made.under_policy
        else _("{time} left to vote"),
        Outcome.SUCCEEDED: _("{time} left to hand it to the timelock"),
        Outcome.QUEUED: _("{time} left to carry it out")
        if one.can_execute
        else _("{time} until it can be carried out"),
    }.get(one.state, "")


def lane_words(made: Made) -> str:
    """Who decides, and by which way."""
    if made.lane is Lane.POLICY:
        return _("Under standing policy {number} of zone {zone}").format(
            number=made.policy or "?", zone=made.zone
        )
    if made.lane is Lane.BALANCING:
        return _("The members of zone {zone} decide").format(zone=made.zone)
    return _("All members decide")


def support_words(support: int) -> tuple[str, str]:
    """A ballot's choice, and the tone it is shown in."""
    return {
        FOR: (_("For"), "good"),
        AGAINST: (_("Against"), "bad"),
        ABSTAIN: (_("Abstained"), "plain"),
        VETO: (_("Against, with a veto"), "bad"),
    }.get(support, ("?", "plain"))


@dataclass(frozen=True)
class Turn:
    """One step of a decision. mark: done, now, next, or failed; at: unix seconds, None where that
    is not known; planned: whether `at` lies ahead."""

    name: str
    mark: str
    at: int | None
    planned: bool = False


def timeline(one: Standing, delay: int | None) -> list[Turn]:
    """The steps of a decision. delay: seconds in the timelock, None where not known."""
    made, state = one.made, one.state
    over = state not in OPEN
    ended = state in (Outcome.DEFEATED, Outcome.CANCELED, Outcome.EXPIRED)
    cut = made.cancelled is not None and made.cancelled.at <= made.deadline
    eta = made.eta
    if eta is None and not ended and delay is not None:
        eta = max(made.deadline, one.now if over else 0) + delay
    steps = [Turn(_("Proposed"), "done", made.made.at)]
    opened = one.now > made.snapshot
    steps.append(
        Turn(
            _("Open for objections") if made.under_policy else _("Voting"),
            "failed" if cut else "now" if one.is_open else "done" if over and opened else "next",
            made.snapshot,
            not opened,
        )
    )
    passed = made.eta is not None or state is Outcome.SUCCEEDED
    steps.append(
        Turn(
            _("Decided"),
            "failed"
            if state is Outcome.DEFEATED or cut
            else "now"
            if state is Outcome.SUCCEEDED
            else "done"
            if passed or state is Outcome.EXPIRED
            else "next",
            made.deadline,
            not over,
        )
    )
    steps.append(
        Turn(
            _("In the timelock"),
            "now"
            if state is Outcome.QUEUED
            else "done"
            if made.executed is not None
            else "failed"
            if state is Outcome.EXPIRED or (made.cancelled is not None and not cut)
            else "next",
            made.queued.at if made.queued is not None else None,
        )
    )
    steps.append(
        Turn(
            _("Carried out"),
            "done" if made.executed is not None else "next",
            made.executed.at if made.executed is not None else (None if ended else eta),
            made.executed is None,
        )
    )
    return steps


def standing_of(
    made: Made,
    tally: Tally,
    needed: int | None,
    members: int,
    expiry: int | None,
    now: int,
    power: int = 0,
    mine: Ballot | None = None,
) -> Standing:
    """A proposal at a moment."""
    state = state_at(made, tally, needed, expiry, now)
    return Standing(made, state, tally, needed, members, expiry, now, power, mine)


def counted(those: Sequence[Standing]) -> tuple[int, int]:
    """How many proposals are shown, and how many of them were carried out."""
    return len(those), sum(one.state is Outcome.EXECUTED for one in those)
