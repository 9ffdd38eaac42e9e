# SPDX-License-Identifier: Apache-2.0
"""`gridcommons meter evidence`: checks the file that a dispute begins with.

What the file is and how it is checked is in `dashboard/services/dispute.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from dao.errors import BadUse, CheckFailed
from scripts._common import CHECK_MARKS, deployment_option, handles_errors, json_option
from scripts._privacy_options import addresses_from, state_paths


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--rpc", metavar="URL", help="Hold it against the chain too, through this node.")
@deployment_option
@json_option
@handles_errors
def evidence(file: Path, rpc: str | None, deployment_file: Path | None, as_json: bool) -> None:
    """Check the evidence of an order, as the dashboard gives it: pieces, readings, promise.

    FILE alone and a node are enough. Without --rpc it is checked in itself, and what was not
    checked is said. Ends with 0 where all that was checked holds, 1 where something does not, 2
    where FILE is no evidence.
    """
    from dao.node import Node
    from dashboard.services.dispute import check

    try:
        data = file.read_bytes()
    except OSError as error:
        raise BadUse(f"cannot read {file}: {error.strerror}") from None
    known = None
    if deployment_file is not None or state_paths().deployment_path().exists():
        known = addresses_from(deployment_file)
    checks = check(data, Node(rpc) if rpc is not None else None, known)
    if as_json:
        click.echo(json.dumps([vars(one) for one in checks]))
    else:
        for one in checks:
            click.echo(f"{one.name:<22}{CHECK_MARKS[one.state]:<13}{one.detail}")
    faults = [one for one in checks if one.state == "failed"]
    if faults:
        raise CheckFailed(f"the evidence does not hold: {faults[0].name}: {faults[0].detail}")
