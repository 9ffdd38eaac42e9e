# SPDX-License-Identifier: Apache-2.0
"""How everything runs, in sentences: what the page for operators says of each part, and the few
words that everybody else gets. What is looked at is `dao.status`'s and `dao.due`'s."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import metadata

from dao.status import Part, State
from dashboard.i18n import N_, Formats, _

NAMES: Mapping[str, str] = {
    "node": N_("Node"),
    "contracts": N_("Contracts"),
    "ledger": N_("Readings on chain"),
    "index": N_("Index of events"),
    "relay": N_("Relay"),
    "keeper": N_("Keeper"),
    "agent": N_("Agent for standing offers"),
    "collector": N_("Collector of readings"),
    "devices": N_("Called devices"),
    "readings": N_("Batches of readings"),
    "clearing": N_("Clearing"),
    "settlement": N_("Settlement"),
    "forecast": N_("Forecast"),
    "votes": N_("Votes"),
    "gas": N_("Gas"),
}
RUNNING = ("node", "contracts", "ledger", "index", "relay", "keeper", "agent", "collector")
DUE = ("readings", "clearing", "settlement", "forecast", "votes", "devices")
GROUPS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "chain": (N_("Chain"), ("node", "contracts", "index")),
    "trade": (N_("Trade"), ("relay", "clearing", "settlement")),
    "readings": (N_("Readings"), ("collector", "ledger", "readings")),
    "decisions": (N_("Forecast and votes"), ("forecast", "votes")),
}
"""What is told to everybody, and which parts each stands for."""
ROLES: Mapping[str, str] = {
    "relay": N_("posts orders"),
    "keeper": N_("clears and settles"),
    "collector": N_("commits readings"),
    "forecaster": N_("commits forecasts"),
}

_SENTENCES: Mapping[str, str] = {
    "node": N_("Chain {chain}, latest block of {time}."),
    "old": N_("Chain {chain}: the latest block is {age} old, of {time}."),
    "contracts": N_("All are on the chain: {count}."),
    "no-deployment": N_("No deployment is known here."),
    "other-chain": N_("The deployment is of chain {deployed}, the node of chain {chain}."),
    "gone": N_("Not on this chain: {names}."),
    "ledger": N_("Complete until {until}."),
    "not-begun": N_("No reading is committed yet."),
    "relay": N_("Orders taken: {orders}. Promises broken: {broken}."),
    "keeper": N_("Was at work {age} ago."),
    "agent": N_("Offers followed: {offers}. Was at work {age} ago."),
    "failed": N_("The last round, {age} ago, failed; its log says why."),
    "silent": N_("Nothing heard for {age}."),
    "no-file": N_("Does not run from this state folder."),
    "collector": N_(
        "Readings waiting: {waiting}. Meters silent for an hour: {silent} of {meters}."
    ),
    "index": N_("Read up to block {block} of {time}."),
    "index-late": N_("Read up to block {block} of {time}: {behind} behind the chain."),
    "batch": N_("Committed until {until}; the next batch is due at {due}."),
    "batch-late": N_("Committed until {until}; the next batch was due at {due}, {late} ago."),
    "clearing": N_("Sessions past their gate, being cleared: {open}."),
    "clearing-late": N_("Sessions late: {late} of {open}, the oldest since {oldest}."),
    "settlement": N_("Sessions delivered, waiting to be settled: {open}."),
    "settlement-late": N_("Sessions late: {late} of {open}, the oldest since {oldest}."),
    "nothing-due": N_("Nothing is due."),
    "committed": N_("Tomorrow’s is committed."),
    "forecast-due": N_("Tomorrow’s is due until {deadline}."),
    "forecast-late": N_("Tomorrow’s was not committed by {deadline}."),
    "votes": N_("Passed votes waiting to be executed: {open}."),
    "devices": N_("Calls of the last day acknowledged: {taken} of {calls}."),
    "none": N_("Nothing to look at yet."),
    "away": N_("Nothing answers at {where}."),
    "late": N_("Does not answer in time."),
    "odd": N_("What answers at {where} cannot be understood."),
    "no-node": N_("No node that could tell answers."),
    "unreadable": N_("Cannot be read here."),
}
_MOMENTS = ("time", "until", "due", "oldest", "deadline")
_SPANS = {"age_s": "age", "behind_s": "behind", "late_s": "late"}


class Standing(StrEnum):
    """What everybody may know of a group."""

    WORKS = "works"
    LATE = "late"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Line:
    """One part on the page: its name, how it is, the sentence, and what it says of itself."""

    name: str
    state: State
    sentence: str
    said: tuple[str, ...]


@dataclass(frozen=True)
class Account:
    """Somebody who pays gas: what for, from which address, ETH, transactions that it lasts for."""

    role: str
    address: str
    ether: float
    left: int
    is_low: bool


def lines(parts: Sequence[Part], names: Sequence[str], fmt: Formats) -> list[Line]:
    """The named parts, in the order of the names, as far as they were seen."""
    return [
        Line(_(NAMES[one.part]), one.state, sentence(one, fmt), one.said)
        for name in names
        for one in parts
        if one.part == name
    ]


def sentence(part: Part, fmt: Formats) -> str:
    """What is said of a part. An unknown code is told by its state alone."""
    text = _SENTENCES.get(part.code)
    if text is None:
        return ""
    values: dict[str, str] = {}
    for name, value in part.facts.items():
        if value is None:
            values[name] = "–"
        elif name in _SPANS and isinstance(value, int):
            values[_SPANS[name]] = fmt.duration(value)
        elif name in _MOMENTS and isinstance(value, int):
            values[name] = fmt.moment(value)
        elif isinstance(value, int) and name not in ("chain", "deployed"):
            values[name] = fmt.number(value)
        else:
            values[name] = str(value)
    try:
        return _(text).format(**values)
    except (KeyError, IndexError):
        return ""


def accounts(parts: Sequence[Part]) -> list[Account]:
    """Who pays gas, and how long it lasts."""
    found = []
    for one in parts:
        gwei, left = one.facts.get("gwei"), one.facts.get("left")
        role = ROLES.get(str(one.facts.get("role")), "–")
        if one.part == "gas" and isinstance(gwei, int) and isinstance(left, int):
            found.append(
                Account(
                    role=_(role),
                    address=str(one.facts.get("account")),
                    ether=gwei / 1e9,
                    left=left,
                    is_low=one.state is State.WRONG,
                )
            )
    return found


def standing(parts: Sequence[Part]) -> dict[str, Standing]:
    """By group, whether it works, for everybody: no address, no number, no reason."""
    found = {}
    for key, (_name, names) in GROUPS.items():
        states = [one.state for one in parts if one.part in names]
        if State.WRONG in states:
            found[key] = Standing.LATE
        elif State.WELL in states:
            found[key] = Standing.WORKS
        else:
            found[key] = Standing.UNKNOWN
    return found


def wrong(parts: Sequence[Part]) -> list[str]:
    """The names of what somebody should look at."""
    return list(
        dict.fromkeys(_(NAMES[one.part]) for one in parts if one.state is State.WRONG and one.part)
    )


def versions(parts: Sequence[Part]) -> list[tuple[str, str]]:
    """What runs here, with its version."""
    client = next((one.facts.get("client") for one in parts if one.part == "node"), None)
    return [*_packages(), *([(_("Node"), str(client))] if client else [])]


@cache
def _packages() -> tuple[tuple[str, str], ...]:
    found = []
    for name in ("gridcommons", "streamlit", "duckdb"):
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return (*found, ("Python", platform.python_version()))
