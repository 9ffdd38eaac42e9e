# SPDX-License-Identifier: Apache-2.0
"""The vote: what is proposed, what the grid would see, how it stands, how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dao.runstate import Outcome, Proposal, Window
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from dashboard.i18n import N_, _, formats, ngettext
from dashboard.services.units import local_time, wall_clock

SLOTS_PER_HOUR = 4
OPEN = {Outcome.PENDING, Outcome.ACTIVE}
WAITING = {Outcome.SUCCEEDED, Outcome.QUEUED}

_UNDER_POLICY = {
    Outcome.ACTIVE: N_("Open for objections"),
    Outcome.DEFEATED: N_("Stopped by objections"),
    Outcome.SUCCEEDED: N_("Not objected to"),
    Outcome.QUEUED: N_("Not objected to, waiting for execution"),
}
_WORDS = {
    Outcome.PENDING: N_("Opens shortly"),
    Outcome.ACTIVE: N_("Open"),
    Outcome.CANCELED: N_("Cancelled"),
    Outcome.DEFEATED: N_("Rejected"),
    Outcome.SUCCEEDED: N_("Accepted"),
    Outcome.QUEUED: N_("Accepted, waiting for execution"),
    Outcome.EXPIRED: N_("Expired"),
    Outcome.EXECUTED: N_("Executed"),
}


@dataclass(frozen=True)
class VoteView:
    """One proposal in words and figures.

    timing: countdown or what happened. plan: the schedule in a sentence.
    turnout: share reached of the votes that decide, at most 1; decided_by says it in words. These
    are the quorum, or under a standing policy the objections that stop the action.
    voltage: time, before, after (per unit) of each slot, empty without curves.
    schedule: time, power_kw of each slot of the day, positive charges.
    """

    proposal: Proposal
    is_open: bool
    status: str
    tone: str
    timing: str
    votes: int
    turnout: float
    quorum_reached: bool
    decided_by: str
    plan: str
    voltage: pd.DataFrame
    schedule: pd.DataFrame


def chosen(proposals: Sequence[Proposal]) -> Proposal | None:
    """The proposal to show: the open one, else the newest."""
    if not proposals:
        return None
    running = [one for one in proposals if one.state in OPEN]
    return max(running or proposals, key=lambda one: (one.first_slot, one.deadline))


def vote_view(proposal: Proposal, now: int) -> VoteView:
    """A proposal as it stands at `now`, unix seconds of chain time."""
    try:
        state: Outcome | None = Outcome(proposal.state)
    except ValueError:
        state = None
    votes = proposal.votes_for + proposal.votes_against + proposal.votes_abstain
    # Abstentions count towards the quorum, objections do not, as in OpenZeppelin's Governor.
    towards = proposal.votes_for + proposal.votes_abstain
    if proposal.under_policy:
        towards = proposal.votes_against
    hours = np.arange(proposal.first_slot, proposal.first_slot + len(proposal.voltage_before))
    whole = len(proposal.voltage_before) == len(proposal.voltage_after)
    voltage = pd.DataFrame(
        {
            "time": wall_clock(hours),
            "before": proposal.voltage_before,
            "after": proposal.voltage_after if whole else proposal.voltage_before,
        }
    )
    day = np.arange(proposal.first_slot, proposal.first_slot + SLOTS_PER_DAY)
    power = np.zeros(SLOTS_PER_DAY)
    for window in proposal.windows:
        power[(day >= window.first_slot) & (day < window.first_slot + window.slots)] = (
            window.power_w / 1000
        )
    schedule = pd.DataFrame({"time": wall_clock(day), "power_kw": power})
    return VoteView(
        proposal=proposal,
        is_open=state in OPEN,
        status=_status(state, proposal),
        tone=tone(state),
        timing=_timing(state, proposal, now),
        votes=votes,
        turnout=min(towards / proposal.quorum, 1.0) if proposal.quorum else 1.0,
        quorum_reached=towards >= proposal.quorum,
        decided_by=_decided_by(proposal, towards),
        plan=_plan(proposal.windows),
        voltage=voltage,
        schedule=schedule,
    )


def _status(state: Outcome | None, proposal: Proposal) -> str:
    return proposal.state if state is None else status(state, proposal.under_policy)


def status(state: Outcome, under_policy: bool) -> str:
    """A state in words."""
    words = _WORDS | _UNDER_POLICY if under_policy else _WORDS
    return _(words[state])


def _decided_by(proposal: Proposal, towards: int) -> str:
    """How far the vote is from being decided."""
    if proposal.under_policy:
        words = _("{number} of the {quorum} objections that stop it")
    elif towards >= proposal.quorum:
        words = _("Quorum of {quorum} reached")
    else:
        words = _("{number} of {quorum} towards the quorum")
    return words.format(number=towards, quorum=proposal.quorum)


def _plan(windows: Sequence[Window]) -> str:
    """The schedule in a sentence, on the zone's own clock."""

    def side(sign: int) -> tuple[str, str] | None:
        """Energy and times of the windows that charge (1) or give back (-1)."""
        mine = [one for one in windows if one.power_w * sign > 0]
        energy = sum(abs(one.power_w) * one.slots for one in mine) / SLOTS_PER_HOUR
        return (formats().kwh(energy, 0), ", ".join(_spans(mine))) if mine else None

    taken, given = side(1), side(-1)
    if taken and given:
        return _(
            "The community battery takes in {taken} ({taken_at}) and gives back {given} "
            "({given_at})."
        ).format(taken=taken[0], taken_at=taken[1], given=given[0], given_at=given[1])
    if taken:
        return _("The community battery takes in {taken} ({taken_at}).").format(
            taken=taken[0], taken_at=taken[1]
        )
    if given:
        return _("The community battery gives back {given} ({given_at}).").format(
            given=given[0], given_at=given[1]
        )
    return ""


def _spans(windows: Sequence[Window]) -> list[str]:
    """From when to when, windows that touch as one."""
    runs: list[list[int]] = []
    for one in sorted(windows, key=lambda window: window.first_slot):
        if runs and runs[-1][1] == one.first_slot:
            runs[-1][1] += one.slots
        else:
            runs.append([one.first_slot, one.first_slot + one.slots])
    return ["–".join(f"{local_time(end * SLOT_SECONDS):%H:%M}" for end in run) for run in runs]


def tone(state: Outcome | None) -> str:
    """good, bad, open or calm: how a screen marks the state."""
    if state in OPEN:
        return "open"
    if state in WAITING or state is Outcome.EXECUTED:
        return "good"
    return "bad" if state in (Outcome.DEFEATED, Outcome.EXPIRED, Outcome.CANCELED) else "calm"


def _timing(state: Outcome | None, proposal: Proposal, now: int) -> str:
    fmt = formats()
    close = fmt.weekday(proposal.deadline)
    if state in OPEN:
        left = proposal.deadline - now
        if left > 0:
            return _("Closes in {left}, {time}").format(left=fmt.duration(left), time=close)
        return _("Closed {time}, counting").format(time=close)
    if state in WAITING:
        return _("Voting closed {time}; the timelock lets the grid's operator see it first").format(
            time=close
        )
    if state is Outcome.EXECUTED:
        return _("The community battery follows the schedule")
    if state is Outcome.DEFEATED:
        return _("The battery keeps still, and the grid runs as forecast")
    return _("Voting closed {time}").format(time=close)


@dataclass(frozen=True)
class Decisions:
    """All proposals of the run: how many, how many were executed, and a table of the others."""

    total: int
    executed: int
    table: pd.DataFrame


def decisions(proposals: Sequence[Proposal], shown: Proposal | None) -> Decisions:
    """Earlier proposals, newest first: Day, Outcome, For, Against, Quarter-hours over the limit."""
    rows = [
        {
            _("Day"): formats().day(local_time(one.first_slot * 900 + SLOTS_PER_DAY * 450)),
            _("Outcome"): _outcome(one.state),
            _("For"): one.votes_for,
            _("Against"): one.votes_against,
            _("Over the limit"): f"{one.slots_over_before} → {one.slots_over_after}",
        }
        for one in sorted(proposals, key=lambda one: -one.first_slot)
        if shown is None or one.id != shown.id
    ]
    return Decisions(
        total=len(proposals),
        executed=sum(one.state == Outcome.EXECUTED for one in proposals),
        table=pd.DataFrame(rows),
    )


def _outcome(state: str) -> str:
    words = _WORDS.get(state)  # type: ignore[call-overload]
    return _(words) if words else state


def effect(proposal: Proposal) -> str:
    """What the schedule does to the grid, in one sentence."""
    before, after = proposal.slots_over_before, proposal.slots_over_after
    if after == 0:
        words = ngettext(
            "{before} quarter-hour over the limit without it, none with it.",
            "{before} quarter-hours over the limit without it, none with it.",
            before,
        )
    else:
        words = ngettext(
            "{before} quarter-hour over the limit without it, {after} with it.",
            "{before} quarter-hours over the limit without it, {after} with it.",
            before,
        )
    return words.format(before=before, after=after)
