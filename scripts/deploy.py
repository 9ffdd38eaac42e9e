# SPDX-License-Identifier: Apache-2.0
"""`gridcommons deploy`: the contracts on any network, everything handed to the timelock."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scripts._common import (
    address_from,
    handles_errors,
    json_option,
    network_option,
    open_chain,
)

if TYPE_CHECKING:
    from dao.chain import Chain
    from dao.deployment import Roles


@click.command(name="deploy")
@network_option()
@click.option("--account", help="Alias of the Ape account that pays. Not needed on a local node.")
@click.option("--zone", type=click.IntRange(1, 1_023), default=1, show_default=True)
@click.option("--token", help="Settlement token, 6 decimals. Default: a test euro, local only.")
@click.option("--registrar", help="Address that registers meters and admits members.")
@click.option("--collector", help="Address that commits the zone's readings.")
@click.option("--forecaster", help="Address of the first forecaster.")
@click.option("--guardian", help="May cancel in the balancing lane, and pause the market once.")
@click.option(
    "--voting-days",
    type=click.IntRange(1, 30),
    default=5,
    show_default=True,
    help="An ordinary vote is open so long.",
)
@click.option(
    "--timelock-days",
    type=click.IntRange(1, 30),
    default=2,
    show_default=True,
    help="What an ordinary vote decided waits so long.",
)
@click.option(
    "--balancing-hours",
    type=click.IntRange(1, 24),
    default=3,
    show_default=True,
    help="A balancing vote is open so long.",
)
@click.option(
    "--balancing-delay-minutes",
    type=click.IntRange(15, 1_440),
    default=15,
    show_default=True,
    help="What a balancing vote decided waits so long.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Where the addresses are written down."
)
@json_option
@handles_errors
def cli(
    network: str,
    account: str | None,
    zone: int,
    token: str | None,
    registrar: str | None,
    collector: str | None,
    forecaster: str | None,
    guardian: str | None,
    voting_days: int,
    timelock_days: int,
    balancing_hours: int,
    balancing_delay_minutes: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Put all contracts on a network.

    The roles are filled, the timelock becomes the owner of every contract, the deployer keeps no
    privilege, and the addresses are written down. On a local node (a URL) the roles default to
    its funded accounts; elsewhere each must be named.
    """
    from dao import deployment as deploying
    from dao.errors import CheckFailed
    from dao.parameters import DAY, HOUR
    from dao.paths import deployment_path

    path = output or deployment_path()
    if path.exists():
        raise CheckFailed(f"{path} exists: it names another deployment; choose a file with -o")
    with open_chain(network, account) as chain:
        roles = _roles(
            chain,
            {
                "registrar": registrar,
                "collector": collector,
                "forecaster": forecaster,
                "guardian": guardian,
            },
        )
        deployed = deploying.deploy(
            chain,
            roles,
            zone=zone,
            token=None if token is None else address_from(token, "--token"),
            ordinary=replace(
                deploying.ORDINARY,
                voting_period=voting_days * DAY,
                timelock_delay=timelock_days * DAY,
            ),
            balancing=replace(
                deploying.BALANCING,
                voting_period=balancing_hours * HOUR,
                timelock_delay=balancing_delay_minutes * 60,
            ),
        )
        deploying.hand_over(deployed)
        deploying.write(deployed, path)
        gas = chain.gas_used
    if as_json:
        click.echo(json.dumps({**deployed.as_dict(), "gas_used": gas, "file": str(path)}))
        return
    for name, contract in deployed.contracts.items():
        click.echo(f"{name:<20} {contract.address}")
    click.echo(f"{gas:,} gas. The timelock owns everything. Addresses are in {path}.")


def _roles(chain: Chain, named: dict[str, str | None]) -> Roles:
    """The roles as named, or the local node's accounts 1 to 4."""
    from dao.deployment import Roles
    from dao.errors import BadUse

    found: dict[str, str] = {}
    for number, (role, address) in enumerate(named.items(), start=1):
        if address is not None:
            found[role] = address_from(address, f"--{role}")
        elif chain.is_local:
            found[role] = chain.accounts[number].address
        else:
            raise BadUse(f"--{role} is needed on a network that is not local")
    return Roles(**found)
