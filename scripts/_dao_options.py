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
    """The ways to say what is to be done."""
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
            "--zone",
            type=click.IntRange(1, 1_023),
            default=1,
            show_default=True,
            help="The zone of --battery.",
        ),
    ):
        function = option(function)
    return function


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


def calls_from(
    place: Place, file: str | None, rules: Sequence[str], battery: Sequence[str], zone: int
) -> list[Call]:
    """The calls that the options name, in the order file, rules, battery. BadUse for none."""
    from dao.errors import BadUse
    from dao.governance import battery_call, rule_call
    from dao.governance.calls import parse_calls

    parameters = place.deployment["GridParameters"]
    calls: list[Call] = []
    if file is not None:
        calls += parse_calls(place.deployment, read_input(file), file)
    for text in rules:
        found = re.fullmatch(r"(\w+)=([0-9]{1,18})", text)
        if found is None:
            raise BadUse(f"--set {text}: expected RULE=VALUE, as in grid_fee=120")
        calls.append(rule_call(parameters, found[1], int(found[2])))
    if battery:
        calls.append(battery_call(parameters, zone, [window_from(text) for text in battery]))
    if not calls:
        raise BadUse("nothing to do: name CALLS.json, --set or --battery")
    return calls


def window_from(text: str) -> tuple[int, int, int]:
    """START/SLOTS/WATTS as first slot, slots and power in W. BadUse otherwise."""
    from dao.errors import BadUse
    from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY

    try:
        start, slots, watts = text.split("/")
        when = datetime.fromisoformat(start)
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
        seconds, length, power = int(when.timestamp()), int(slots), int(watts)
        if seconds % SLOT_SECONDS or seconds < 0 or not 1 <= length <= SLOTS_PER_DAY:
            raise ValueError
        if abs(power) >= 2**63:
            raise ValueError
    except (ValueError, OverflowError):
        raise BadUse(
            f"--battery {text}: expected START/SLOTS/WATTS, as in 2026-05-04T10:00/8/60000, "
            "START a quarter-hour and SLOTS 1 to 96"
        ) from None
    return seconds // SLOT_SECONDS, length, power


def euro_from(option: str, text: str) -> int:
    """An amount in euro as token units. BadUse otherwise; `option` says where it stood."""
    from dao.errors import BadUse

    found = re.fullmatch(r"([0-9]{1,12})(?:\.([0-9]{1,6}))?", text)
    if found is None:
        raise BadUse(f"{option} {text}: expected euro, as in 20 or 12.50")
    return int(found[1]) * 10**6 + int((found[2] or "").ljust(6, "0"))
