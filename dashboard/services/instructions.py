# SPDX-License-Identifier: Apache-2.0
"""Standing ballot instructions: what a member wants to be reminded to vote, by kind and size of an
action.

An instruction never votes. It picks the ballot that is offered beside an open vote; the member's
own wallet signs it, or does not. Pure; where they are kept is in `repositories/instructions.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dao.governance.proposals import Lane
from dao.parameters import CHARGE_POINTS, COMMUNITY_BATTERY, HOME_BATTERIES
from dashboard.i18n import _, formats
from dashboard.services.proposal import Window, moved_wh
from dashboard.services.votes import ABSTAIN, AGAINST, FOR

KINDS = (COMMUNITY_BATTERY, CHARGE_POINTS, HOME_BATTERIES)
"""What an instruction can be about; the first is measured in Wh, the others in quarter-hours."""
SUPPORTS = (FOR, AGAINST, ABSTAIN)
MOST_WH = 10_000_000
MOST_SLOTS = 96
MOST_DAYS = 366
MOST_KEPT = 20


@dataclass(frozen=True)
class Instruction:
    """For actions of one kind, up to a size, which ballot to offer. most: Wh that the community
    battery moves, or quarter-hours; until: unix seconds; number: its own, 0 before it is kept."""

    key: int
    most: int
    support: int
    until: int
    number: int = 0


def is_sound(one: Instruction, now: int) -> bool:
    """Whether an instruction can be kept: it passed through a browser."""
    most = MOST_WH if one.key == COMMUNITY_BATTERY else MOST_SLOTS
    return (
        one.key in KINDS
        and one.support in SUPPORTS
        and 0 < one.most <= most
        and now < one.until <= now + MOST_DAYS * 86_400
    )


def covers(one: Instruction, windows: Sequence[Window] | None, lane: Lane, now: int) -> bool:
    """Whether an action is one that the instruction is about: nothing but windows of its kind, and
    not beyond its size. Under a standing policy only an objection can be cast."""
    if not windows or now >= one.until or lane is Lane.ORDINARY:
        return False
    if lane is Lane.POLICY and one.support != AGAINST:
        return False
    if any(window.key != one.key for window in windows):
        return False
    if one.key == COMMUNITY_BATTERY:
        return moved_wh(windows) <= one.most
    return sum(window.slots for window in windows) <= one.most


def prepared(
    those: Sequence[Instruction], windows: Sequence[Window] | None, lane: Lane, now: int
) -> Instruction | None:
    """The instruction whose ballot is offered; None where there is none, or they disagree."""
    found = [one for one in those if covers(one, windows, lane, now)]
    if len({one.support for one in found}) != 1:
        return None
    return found[0]


def disagree(
    those: Sequence[Instruction], windows: Sequence[Window] | None, lane: Lane, now: int
) -> bool:
    """Whether two instructions about an action say different things."""
    return len({one.support for one in those if covers(one, windows, lane, now)}) > 1


def words(one: Instruction) -> str:
    """An instruction in a sentence."""
    fmt = formats()
    ballot = ballot_words(one.support)
    until = fmt.date(one.until)
    if one.key == COMMUNITY_BATTERY:
        return _(
            "Where the community battery moves at most {energy}: {ballot}. Until {date}."
        ).format(energy=fmt.kwh(one.most), ballot=ballot, date=until)
    time = fmt.duration(one.most * 900)
    if one.key == CHARGE_POINTS:
        return _(
            "Where charge points are held back for at most {time}: {ballot}. Until {date}."
        ).format(time=time, ballot=ballot, date=until)
    return _("Where home batteries are called for at most {time}: {ballot}. Until {date}.").format(
        time=time, ballot=ballot, date=until
    )


def ballot_words(support: int) -> str:
    """A ballot's choice inside a sentence."""
    return {FOR: _("vote for"), AGAINST: _("vote against"), ABSTAIN: _("abstain")}[support]


def kind_words(key: int) -> str:
    """What an instruction is about."""
    return {
        COMMUNITY_BATTERY: _("Schedules of the community battery"),
        CHARGE_POINTS: _("Caps for charge points"),
        HOME_BATTERIES: _("Calls on home batteries"),
    }[key]
