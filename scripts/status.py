# SPDX-License-Identifier: Apache-2.0
"""`gridcommons status`: how every part is, what is due and late, and what gas is left, in a table.

What is looked at is `dao.status`'s and `dao.due`'s; the dashboard's page for operators shows the
same.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from dao.errors import CheckFailed
from scripts._common import LOCAL_NODE, LOCAL_RELAY, handles_errors, json_option, printable
from scripts._meter_collect import PORT

COLLECTOR = f"http://127.0.0.1:{PORT}"


@click.command(name="status")
@click.option(
    "--rpc", metavar="URL", help=f"A node of the chain.  [default: {LOCAL_NODE}, if it answers]"
)
@click.option("--relay", metavar="URL", help=f"[default: {LOCAL_RELAY}, if it answers]")
@click.option("--collector", metavar="URL", help=f"[default: {COLLECTOR}, if it answers]")
@click.option("--zone", type=click.IntRange(1, 1_023), default=1, show_default=True)
@click.option(
    "--deployment",
    "deployment_file",
    type=click.Path(path_type=Path),
    help="Where the addresses are written down.  [default: in the state folder, if it is there]",
)
@json_option
@handles_errors
def cli(
    rpc: str | None,
    relay: str | None,
    collector: str | None,
    zone: int,
    deployment_file: Path | None,
    as_json: bool,
) -> None:
    """Look at every part and say how it is.

    What is named has to answer; what is not named is looked at where it runs. With an index of the
    chain in the state folder it also tells what is due and late, and what gas is left. Exits 0 if
    all is well, 1 if something is wrong or nothing could be looked at. With the operator's token in
    GRIDCOMMONS_OPERATOR_TOKEN the collector also tells which meters are silent.
    """
    from dao.due import look_due
    from dao.node import read_addresses
    from dao.paths import deployment_path, home
    from dao.status import Places, State, check_url, look

    for option, url in (("--rpc", rpc), ("--relay", relay), ("--collector", collector)):
        if url is not None:
            check_url(option, url)
    file = deployment_file or deployment_path()
    addresses = None
    if deployment_file is not None or file.exists():
        addresses = read_addresses(file)
    places = Places(
        home=home(),
        zone=zone,
        rpc=rpc,
        relay=relay,
        collector=collector,
        contracts=None if addresses is None else tuple(addresses.contracts.items()),
        chain_id=None if addresses is None else addresses.chain_id,
    )
    parts = [*look(places), *look_due(places)]
    if as_json:
        wrong = [part.part for part in parts if part.state == State.WRONG]
        rows = [asdict(part) for part in parts]
        click.echo(json.dumps({"ok": not wrong, "wrong": wrong, "parts": rows}))
    else:
        for part in parts:
            state = part.state if part.part else ""
            click.echo(f"{part.part:<11} {state:<12} {printable(part.about)}")
    if all(part.state == State.UNCHECKED for part in parts):
        raise CheckFailed("nothing is running here; name what to look at, see --help")
    if any(part.state == State.WRONG for part in parts):
        raise SystemExit(1)
