# SPDX-License-Identifier: Apache-2.0
"""`gridcommons evidence`: whether a committed forecast is what its evidence makes of it."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dao.errors import BadUse, CheckFailed
from scripts._common import (
    CHECK_MARKS,
    deployment_option,
    handles_errors,
    json_option,
    open_chain,
    read_input,
)

if TYPE_CHECKING:
    from dao.chain import Chain
    from forecasting.evidence import Check, Evidence

ON_CHAIN = ("roots", "totals", "battery", "registry")
"""The checks that need a node."""


@click.group(name="evidence")
def cli() -> None:
    """Recompute a committed forecast from its evidence."""


@cli.command()
@click.argument("file", metavar="FILE")
@click.option(
    "--network",
    help="Hold it against a chain too: Ape's name of a network (ethereum:sepolia:node), or the URL "
    "of a local node.",
)
@click.option(
    "--account",
    help="Alias of an Ape account, which a network that is not local is opened with. It signs "
    "nothing and pays nothing.",
)
@deployment_option
@json_option
@handles_errors
def verify(
    file: str,
    network: str | None,
    account: str | None,
    deployment_file: Path | None,
    as_json: bool,
) -> None:
    """Recompute the forecast of an evidence file, to the Wh.

    FILE alone is enough: it holds the zone's published totals and all settings; "-" reads standard
    input. With --network the totals, the Merkle roots, the battery's windows and the forecaster's
    commitment are looked up on chain as well. Other library versions than the forecaster's are
    told; they fail nothing by themselves.

    Ends with 0 where all that was checked holds, with 1 where something does not, with 2 where
    FILE is no evidence file.
    """
    if network is None and (account is not None or deployment_file is not None):
        raise BadUse("--account and --deployment say where on a chain to look: --network is needed")
    from forecasting.evidence import Check, check_file, library_differences, read_evidence

    evidence = read_evidence(read_input(file), "standard input" if file == "-" else file)
    # A node that does not answer is told before seconds are spent.
    with nullcontext() if network is None else open_chain(network, account) as chain:
        found = (
            [Check(name, "not checked", "needs a node: --network") for name in ON_CHAIN]
            if chain is None
            else _on_chain(evidence, chain, deployment_file)
        )
    checks = [*check_file(evidence), *found]
    others = library_differences(evidence)
    faults = [check for check in checks if check.state == "failed"]
    if as_json:
        click.echo(json.dumps(_facts(evidence, checks, others)))
    else:
        click.echo(_table(evidence, checks, others))
    if faults:
        raise CheckFailed(f"the evidence does not hold: {faults[0].name}: {faults[0].detail}")


def _on_chain(evidence: Evidence, chain: Chain, deployment_file: Path | None) -> list[Check]:
    from dao import deployment as deploying
    from dao.paths import deployment_path
    from forecasting.evidence import check_battery, check_ledger, check_registry

    path = deployment_file or deployment_path()
    deployment = deploying.read(chain, path)
    for name in ("ReadingLedger", "GridParameters", "ForecastRegistry"):
        if name not in deployment.contracts:
            raise BadUse(f"{path} names no {name}")
    since = deployment.first_block
    return [
        *check_ledger(evidence, deployment["ReadingLedger"], since),
        check_battery(evidence, deployment["GridParameters"]),
        check_registry(evidence, deployment["ForecastRegistry"], since),
    ]


def _facts(
    evidence: Evidence, checks: list[Check], others: dict[str, tuple[str, str]]
) -> dict[str, object]:
    from dao.slots import day_of

    return {
        "hash": "0x" + evidence.hash.hex(),
        "zone": evidence.zone,
        "day": day_of(evidence.first_slot).isoformat(),
        "first_slot": evidence.first_slot,
        "method": evidence.document["method"],
        "model": evidence.document["model"],
        "holds": all(check.state != "failed" for check in checks),
        "checks": [
            {"name": check.name, "state": check.state, "detail": check.detail} for check in checks
        ],
        "other_libraries": {
            name: {"file": there, "here": here} for name, (there, here) in others.items()
        },
    }


def _table(evidence: Evidence, checks: list[Check], others: dict[str, tuple[str, str]]) -> str:
    from dao.slots import day_of

    day, method = day_of(evidence.first_slot), evidence.document["method"]
    lines = [
        f"Forecast of zone {evidence.zone} for {day}, {method}",
        f"Evidence hash 0x{evidence.hash.hex()}",
        "",
    ]
    lines += [f"{check.name:<9} {CHECK_MARKS[check.state]:<12} {check.detail}" for check in checks]
    lines += [
        f"Note: made with {name} {there}, checked with {here}"
        for name, (there, here) in others.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    cli()
