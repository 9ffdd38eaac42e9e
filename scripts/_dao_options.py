# SPDX-License-Identifier: Apache-2.0
"""What the `gridcommons dao` commands are given: where they act, and what is to be done."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from scripts._common import chain_options, handles_errors, json_option, open_as, read_input

if TYPE_CHECKING:
    from dao.chain import Account, Chain, Contract
    from dao.deployment import Deployment
    from dao.governance import Call, Proposal


_LOCAL_ACCOUNT = 0


class Place(NamedTuple):
    """Where a command acts, and as whom. No dataclass: Ape runs a script outside `sys.modules`,
    where one cannot be made."""

    deployment: Deployment
    account: Account
    as_json: bool

    @property
    def governor(self) -> Contract:
        return self.deployment["GridGovernor"]

    @property
    def chain(self) -> Chain:
        return self.deployment.chain

    def proposals(self) -> list[Proposal]:
        from dao.governance import list_proposals

        return list_proposals(self.governor, self.deployment.first_block)

    def proposal(self, text: str) -> Proposal:
        from dao.governance import find_proposal

        return find_proposal(self.proposals(), text)

    def tell(self, facts: Mapping[str, Any] | Sequence[Any], *lines: str) -> None:
        """The facts as JSON where that is wanted, else the lines."""
        click.echo(json.dumps(facts) if self.as_json else "\n".join(lines))


class Asked(NamedTuple):
    """What the options of `calls_options` say is to be done. windows: texts by their option."""

    file: str | None
    rules: Sequence[str]
    windows: Mapping[str, Sequence[str]]
    zone: int

    @property
    def is_nothing(self) -> bool:
        return not (self.file or self.rules or any(self.windows.values()))


def on_chain(function: Callable[..., None]) -> Callable[..., None]:
    """The options that every command here takes, and the place that they open."""

    @chain_options("acts and pays", _LOCAL_ACCOUNT)
    @json_option
    @handles_errors
    @functools.wraps(function)
    def wrapped(
        *args: Any,
        network: str,
        account: str | None,
        deployment_file: Path | None,
        as_json: bool,
        **options: Any,
    ) -> None:
        with opened(network, account, deployment_file, as_json) as place:
            function(place, *args, **options)

    return wrapped


def calls_options(function: Callable[..., None]) -> Callable[..., None]:
    """The ways to say what is to be done, given as `asked`."""

    @functools.wraps(function)
    def wrapped(
        *args: Any,
        file: str | None,
        rules: Sequence[str],
        battery: Sequence[str],
        charge_points: Sequence[str],
        home_batteries: Sequence[str],
        zone: int,
        **options: Any,
    ) -> None:
        windows = {
            "--battery": battery,
            "--charge-points": charge_points,
            "--home-batteries": home_batteries,
        }
        function(*args, asked=Asked(file, rules, windows, zone), **options)

    for option in (
        click.argument("file", metavar="[CALLS.json]", required=False),
        click.option(
            "--set",
            "rules",
            multiple=True,
            metavar="RULE=VALUE",
            help="Set a rule, in the unit it has on chain. May be repeated.",
        ),
        click.option(
            "--battery",
            multiple=True,
            metavar="START/SLOTS/WATTS",
            help="Give the community battery a power for some slots: START in UTC "
            "(2026-05-04T10:00), WATTS below zero discharges. May be repeated within one day.",
        ),
        click.option(
            "--charge-points",
            multiple=True,
            metavar="START/SLOTS/WATTS",
            help="Let each charge point that takes part draw at most so much. May be repeated.",
        ),
        click.option(
            "--home-batteries",
            multiple=True,
            metavar="START/SLOTS/PERMILLE",
            help="Call home batteries that take part to so much of their rated power, below zero "
            "to discharge. May be repeated.",
        ),
        click.option(
            "--zone",
            type=click.IntRange(1, 1_023),
            default=1,
            show_default=True,
            help="The zone of the windows.",
        ),
    ):
        wrapped = option(wrapped)
    return wrapped


@contextmanager
def opened(
    network: str, account: str | None, deployment_file: Path | None, as_json: bool
) -> Iterator[Place]:
    from dao import deployment as deploying
    from dao.paths import deployment_path

    with open_as(network, account, _LOCAL_ACCOUNT) as (chain, acting):
        deployment = deploying.read(chain, deployment_file or deployment_path())
        yield Place(deployment, acting, as_json)


# What is read from the options


def calls_from(place: Place, asked: Asked) -> list[Call]:
    """The calls that the options name: file, rules, then windows. BadUse for none."""
    from dao.errors import BadUse
    from dao.governance import rule_call, windows_call
    from dao.governance.calls import parse_calls

    parameters = place.deployment["GridParameters"]
    calls: list[Call] = []
    if asked.file is not None:
        calls += parse_calls(place.deployment, read_input(asked.file), asked.file)
    for text in asked.rules:
        found = re.fullmatch(r"(\w+)=([0-9]{1,18})", text)
        if found is None:
            raise BadUse(f"--set {text}: expected RULE=VALUE, as in grid_fee=120")
        calls.append(rule_call(parameters, found[1], int(found[2])))
    for option, kind in _kinds().items():
        if windows := [window_from(option, kind, text) for text in asked.windows[option]]:
            calls.append(windows_call(parameters, asked.zone, kind.key, windows))
    if not calls:
        raise BadUse("nothing to do: name CALLS.json, --set or windows, as --battery does")
    return calls


class _Kind(NamedTuple):
    """A kind of devices: the key of its windows, and what a value of them can be."""

    key: int
    unit: str
    example: int
    lowest: int
    highest: int


def _kinds() -> dict[str, _Kind]:
    from dao.parameters import (
        CHARGE_POINTS,
        COMMUNITY_BATTERY,
        FULL_POWER,
        HOME_BATTERIES,
        KEYS,
        MARKET_RULES,
        MAX_CHARGE_POINT_W,
    )

    (most,) = (rule.maximum for rule in MARKET_RULES if rule.key == KEYS["battery_max_w"])
    return {
        "--battery": _Kind(COMMUNITY_BATTERY, "WATTS", 60_000, -most, most),
        "--charge-points": _Kind(CHARGE_POINTS, "WATTS", 3_700, 0, MAX_CHARGE_POINT_W),
        "--home-batteries": _Kind(HOME_BATTERIES, "PERMILLE", -500, -FULL_POWER, FULL_POWER),
    }


def window_from(option: str, kind: _Kind, text: str) -> tuple[int, int, int]:
    """START/SLOTS/VALUE as first slot, slots and value. BadUse otherwise."""
    from dao.errors import BadUse
    from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY

    try:
        start, slots, value = text.split("/")
        when = datetime.fromisoformat(start)
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
        seconds, length, wanted = int(when.timestamp()), int(slots), int(value)
        if seconds % SLOT_SECONDS or seconds < 0 or not 1 <= length <= SLOTS_PER_DAY:
            raise ValueError
        if not kind.lowest <= wanted <= kind.highest:
            raise ValueError
    except (ValueError, OverflowError):
        raise BadUse(
            f"{option} {text}: expected START/SLOTS/{kind.unit}, as in "
            f"2026-05-04T10:00/8/{kind.example}, START a quarter-hour, SLOTS 1 to 96 and "
            f"{kind.unit} {kind.lowest:,} to {kind.highest:,}"
        ) from None
    return seconds // SLOT_SECONDS, length, wanted


def euro_from(option: str, text: str) -> int:
    """An amount in euro as token units. BadUse otherwise; `option` says where it stood."""
    from dao.errors import BadUse

    found = re.fullmatch(r"([0-9]{1,12})(?:\.([0-9]{1,6}))?", text)
    if found is None:
        raise BadUse(f"{option} {text}: expected euro, as in 20 or 12.50")
    return int(found[1]) * 10**6 + int((found[2] or "").ljust(6, "0"))
