# SPDX-License-Identifier: Apache-2.0
"""`gridcommons meter register`: a list of metering points to the registry. Attached to `gridcommons
meter`; what it does is in `dao.registering`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dao.errors import BadUse
from scripts._common import (
    LOCAL_NODE,
    chain_options,
    handles_errors,
    json_option,
    open_as,
    read_input,
)

if TYPE_CHECKING:
    from dao.registering import Registered

LOCAL_ACCOUNT = 1
"""The account of a local node that `gridcommons deploy` makes the registrar."""


@click.command()
@click.argument("file", metavar="[FILE]", required=False)
@click.option("--zone", type=click.IntRange(1, 1_023), default=1, show_default=True)
@chain_options("is the registrar", LOCAL_ACCOUNT, LOCAL_NODE)
@click.option("--dry-run", is_flag=True, help="Only say what would be sent.")
@json_option
@handles_errors
def register(
    file: str | None,
    zone: int,
    network: str,
    account: str | None,
    deployment_file: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Register metering points, and open their accounts.

    FILE is CSV with the columns owner and device (addresses), and where wanted zone (else --zone)
    and meter: the number that the gateway was set up with. Where the registry would give another
    number nothing is sent. "-" reads standard input. What is registered already is left as it is,
    so a list can be given again. Without FILE it says which number comes next.
    """
    from dao import deployment as deploying
    from dao.paths import deployment_path
    from dao.registering import next_meter, open_accounts, plan, read_points
    from dao.registering import register as register_all

    points = None
    if file is not None:
        try:
            text = read_input(file).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise BadUse(f"{file} is not text") from None
        points = read_points(text, zone)
    with open_as(network, account, LOCAL_ACCOUNT) as (chain, registrar):
        deployed = deploying.read(chain, deployment_file or deployment_path())
        if points is None:
            number = next_meter(deployed)
            click.echo(json.dumps({"next": number}) if as_json else f"{number} comes next.")
            return
        known, fresh = plan(deployed, points)
        if dry_run:
            first = next_meter(deployed)
            click.echo(
                json.dumps({"known": len(known), "new": len(fresh), "first": first})
                if as_json
                else f"{len(known)} are registered; {len(fresh)} would be, from {first} on."
            )
            return
        done = list(known)
        try:
            for batch in register_all(deployed, registrar, fresh):
                done += batch
            open_accounts(deployed, registrar, [one.meter for one in done])
        finally:
            # Also what was registered before it broke off.
            _show(done, as_json)


def _show(done: list[Registered], as_json: bool) -> None:
    rows = sorted(done, key=lambda one: one.meter)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in rows]))
        return
    if rows:
        click.echo(f"{'meter':>6}  {'zone':>4}  {'device':<42}  owner")
    for one in rows:
        note = "" if one.is_new else "  (was registered)"
        click.echo(f"{one.meter:>6}  {one.zone:>4}  {one.device}  {one.owner}{note}")
