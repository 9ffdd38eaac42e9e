# SPDX-License-Identifier: Apache-2.0
"""`gridcommons deploy`: the contracts on any network, everything handed to the timelock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scripts._common import handles_errors, json_option, open_chain

if TYPE_CHECKING:
    from dao.chain import Chain
    from dao.deployment import Roles


@click.command(name="deploy")
@click.option(
    "--network",
    required=True,
    help="Ape's name of a network (ethereum:sepolia:node), or the URL of a local node.",
)
@click.option("--account", help="Alias of the Ape account that pays. Not needed on a local node.")
@click.option("--zone", type=click.IntRange(1, 1_023), default=1, show_default=True)
@click.option("--token", help="Settlement token, 6 decimals. Default: a test euro, local only.")
@click.option("--registrar", help="Address that registers meters and admits members.")
@click.option("--collector", help="Address that commits the zone's readings.")
@click.option("--forecaster", help="Address of the first forecaster.")
@click.option("--guardian", help="May cancel a forecaster's proposal, and pause the market once.")
@click.option("--voting-hours", type=click.IntRange(1, 720), default=3, show_default=True)
@click.option("--delay-minutes", type=click.IntRange(15, 43_200), default=15, show_default=True)
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
    voting_hours: int,
    delay_minutes: int,
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
    from dao.parameters import HOUR
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
        pace = deploying.Pace(voting_period=voting_hours * HOUR, timelock_delay=delay_minutes * 60)
        deployed = deploying.deploy(
            chain, roles, zone=zone, token=_address("--token", token), pace=pace
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
        given = _address(f"--{role}", address)
        if given is None and not chain.is_local:
            raise BadUse(f"--{role} is needed on a network that is not local")
        found[role] = given or chain.accounts[number].address
    return Roles(**found)


def _address(option: str, text: str | None) -> str | None:
    from dao.eip712 import checksum_address
    from dao.errors import BadUse

    if text is None:
        return None
    try:
        return checksum_address(text)
    except ValueError:
        raise BadUse(f"{option} {text}: expected an address of 20 bytes, 0x...") from None
