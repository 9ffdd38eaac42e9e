# SPDX-License-Identifier: Apache-2.0
"""The rules as they stand: values, bounds, changes and who decided them, what is being voted on,
and windows. Pure, from the chain's events; words and units are in `rule_words`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dao.eip712 import keccak
from dao.parameters import KEYS
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from dashboard.repositories.house import House
from dashboard.services.decided import (
    OPEN,
    QUEUED,
    Decision,
    Decisions,
    grace_of,
    state_by_events,
    undecided,
)

CONTRACT = "GridParameters"
MAX_WINDOWS = 64
"""Shown of windows that are not over, the next ones first."""

NAMES: Mapping[int, str] = {key: name for name, key in KEYS.items()}
_SET_VALUE = keccak(b"set_value(uint256,uint256)")[:4]
_OPEN_WINDOW = keccak(b"open_window(uint256,uint256,uint256,uint256,int256)")[:4]
_OPEN_WINDOWS = keccak(b"open_windows(uint256,uint256,uint256[])")[:4]
_LARGEST = 2**32 - 1
"""What the contract could never take is left out: anybody may propose it, and no page has to bear
it."""
_LAST_SLOT = 10**8
"""Far beyond the year 3000 and within what a date can hold."""


@dataclass(frozen=True)
class Change:
    """A rule's value was changed; `proposal` is None where no vote did it."""

    at: int
    before: int
    after: int
    proposal: int | None
    tx: str


@dataclass(frozen=True)
class Wish:
    """A value that a rule would take by a proposal that is not over. state as in
    `dao.governance.State`; until: end of the vote, or from when it can be executed."""

    value: int
    proposal: int
    state: int
    until: int


@dataclass(frozen=True)
class RuleState:
    """A rule. Units as in `dao.parameters.Rule`; `name` is the contract's own."""

    key: int
    name: str
    value: int
    initial: int
    minimum: int
    maximum: int
    max_step: int
    cooldown: int
    changes: tuple[Change, ...] = ()
    wishes: tuple[Wish, ...] = ()

    @property
    def rests_until(self) -> int:
        """Unix seconds before which no vote can change it again; 0: any time."""
        return self.changes[-1].at + self.cooldown if self.changes else 0


@dataclass(frozen=True)
class WindowState:
    """A window of a zone: `opened_at` once decided, else the `wish` that would open it."""

    zone: int
    key: int
    first_slot: int
    slots: int
    value: int
    proposal: int | None
    tx: str = ""
    wish: Wish | None = None

    @property
    def begins_at(self) -> int:
        """Unix seconds."""
        return self.first_slot * SLOT_SECONDS

    @property
    def ends_at(self) -> int:
        """Unix seconds."""
        return (self.first_slot + self.slots) * SLOT_SECONDS


@dataclass(frozen=True)
class RuleBook:
    """Rules by key; windows of all zones that are not over, decided and proposed, the next first.

    more_windows: how many stand beyond `MAX_WINDOWS`.
    """

    rules: tuple[RuleState, ...]
    windows: tuple[WindowState, ...]
    more_windows: int = 0


def rule_book(
    house: House,
    decisions: Decisions,
    *,
    contract: str | None,
    states: Mapping[int, int],
    now: int,
) -> RuleBook:
    """The rules at `now`, unix seconds.

    contract: the address of GridParameters; states: the governor's word on proposals, where a
    node could be asked. Without it the events tell, and a vote that is over counts for nothing
    until it is queued.
    """
    wishes: dict[int, list[Wish]] = {}
    windows = []
    for one in _open(house, decisions, contract, states, now):
        decision, wish_state, until = one
        for key, value in rule_calls(decision, contract):
            if value > _LARGEST:
                continue
            wishes.setdefault(key, []).append(Wish(value, decision.id, wish_state, until))
        for zone, key, first, slots, value in window_calls(decision, contract):
            if not 0 < slots <= SLOTS_PER_DAY or abs(value) > _LARGEST or zone > _LARGEST:
                continue
            wish = Wish(value, decision.id, wish_state, until)
            windows.append(WindowState(zone, key, first, slots, value, decision.id, wish=wish))
    changes: dict[int, list[Change]] = {}
    for row in house.of(CONTRACT, "ValueChanged"):
        args = row.args
        change = Change(
            row.timestamp, args["previous"], args["current"], decisions.behind(row), row.tx
        )
        changes.setdefault(args["key"], []).append(change)
    rules = []
    for row in house.of(CONTRACT, "RuleDefined"):
        args, made = row.args, changes.get(row.args["key"], [])
        rules.append(
            RuleState(
                key=args["key"],
                name=args["name"],
                value=made[-1].after if made else args["initial"],
                initial=args["initial"],
                minimum=args["minimum"],
                maximum=args["maximum"],
                max_step=args["max_step"],
                cooldown=args["cooldown"],
                changes=tuple(made),
                wishes=tuple(wishes.get(args["key"], ())),
            )
        )
    for row in house.of(CONTRACT, "WindowOpened"):
        args = row.args
        proposal = decisions.behind(row)
        windows.append(
            WindowState(
                args["zone"],
                args["key"],
                args["first_slot"],
                args["slots"],
                args["value"],
                proposal,
                row.tx,
            )
        )
    left = sorted(
        (one for one in windows if one.ends_at > now and one.first_slot <= _LAST_SLOT),
        key=lambda one: (one.first_slot, one.zone, one.key),
    )
    return RuleBook(
        tuple(sorted(rules, key=lambda one: one.key)),
        tuple(left[:MAX_WINDOWS]),
        max(0, len(left) - MAX_WINDOWS),
    )


def _open(
    house: House,
    decisions: Decisions,
    contract: str | None,
    states: Mapping[int, int],
    now: int,
) -> Iterator[tuple[Decision, int, int]]:
    """Proposals about the rules that can still take effect: state, and until when it lasts."""
    for number in undecided(decisions, contract):
        one = decisions.by_id[number]
        state = states.get(number)
        if state is None:
            state = state_by_events(one, now, grace_of(house, one))
        if state not in OPEN:
            continue
        until = one.eta if state == QUEUED and one.eta is not None else one.deadline
        yield one, state, until


def rule_calls(one: Decision, contract: str | None) -> Iterator[tuple[int, int]]:
    """Key and value of each change of a rule that a proposal asks for."""
    for data in _to(one, contract):
        if data[:4] == _SET_VALUE and len(data) >= 68:
            yield _word(data, 0), _word(data, 1)


def window_calls(one: Decision, contract: str | None) -> Iterator[tuple[int, int, int, int, int]]:
    """Zone, key, first slot, slots and value of each window that a proposal asks for."""
    for data in _to(one, contract):
        count = (len(data) - 4) // 32
        if data[:4] == _OPEN_WINDOW and count >= 5:
            zone, key, first, slots, value = (_word(data, at) for at in range(5))
            yield zone, key, first, slots, value - (1 << 256) if value >> 255 else value
        elif data[:4] == _OPEN_WINDOWS and count >= 4:
            zone, key, offset = (_word(data, at) for at in range(3))
            begin = offset // 32
            if offset % 32 or begin >= count:
                continue
            held = min(_word(data, begin), count - begin - 1)
            for at in range(begin + 1, begin + 1 + held):
                yield zone, key, *_unpacked(_word(data, at))


def _to(one: Decision, contract: str | None) -> Sequence[bytes]:
    wanted = (contract or "").lower()
    return [data for target, data in one.calls if target.lower() == wanted]


def _word(data: bytes, number: int) -> int:
    return int.from_bytes(data[4 + 32 * number : 36 + 32 * number], "big")


def _unpacked(word: int) -> tuple[int, int, int]:
    from dao.governance.describe import unpack_window

    return unpack_window(word)
