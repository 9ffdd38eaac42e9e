# SPDX-License-Identifier: Apache-2.0
"""`gridcommons meter disclose|verify|erase`: opening single slots, and erasing a month.

What they do is in `meters/disclosure.py`, `verification.py` and `erasure.py`; grants are in
`_meter_grants.py`. A node is asked by `--rpc`, without Ape.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dao.errors import CheckFailed
from scripts import _meter_evidence, _meter_grants
from scripts._common import CHECK_MARKS, deployment_option, handles_errors, json_option, read_input
from scripts._privacy_options import (
    addresses_from,
    lake_from,
    lake_option,
    meter_option,
    month_from,
    row_facts,
    rows_table,
    rpc_option,
    secrets_option,
    span_from,
    span_options,
    state_paths,
    write_output,
)

if TYPE_CHECKING:
    from meters.disclosure import Disclosure
    from meters.verification import Check


@click.command()
@meter_option
@span_options
@click.option("--output", "-o", help="The file to write.  [default: standard output]")
@click.option("--records", is_flag=True, help="Also the edit records behind edited values.")
@lake_option
@secrets_option
@deployment_option
@handles_errors
def disclose(
    meter: int,
    slot: int | None,
    begin: str | None,
    end: str | None,
    output: str | None,
    records: bool,
    lake_place: str | None,
    secrets_file: Path | None,
    deployment_file: Path | None,
) -> None:
    """Open some slots of a home to whoever gets the file, and no others.

    The file holds values, salts, the paths to the roots on the ledger, and the device's signatures.
    `gridcommons meter verify` checks it. What was given out cannot be taken back.

    An edit record quotes the slots that a value was made from, so --records opens more than the
    slots named.
    """
    from meters.disclosure import disclose as make
    from meters.disclosure import document, zone_of
    from meters.secrets import SecretStore

    addresses = addresses_from(deployment_file)
    first, stop = span_from(slot, begin, end)
    lake = lake_from(lake_place)
    with SecretStore(secrets_file or state_paths().secrets_path(), make=False) as secrets:
        zone = zone_of(lake, meter)
        made = make(lake, secrets, addresses, zone, meter, range(first, stop), with_records=records)
    write_output(output, json.dumps(document(made), indent=1) + "\n")
    if output is not None:
        click.echo(f"Opened {len(made.slots)} slots of meter {meter} in {output}.")
    withheld = sum(one.edits for one in made.slots) if not records else 0
    if withheld:
        click.echo(
            f"{withheld} edit records were left out: they quote other slots too (--records).",
            err=True,
        )


@click.command()
@click.argument("file", metavar="FILE")
@click.option("--rpc", metavar="URL", help="Hold it against the chain too, through this node.")
@deployment_option
@json_option
@handles_errors
def verify(file: str, rpc: str | None, deployment_file: Path | None, as_json: bool) -> None:
    """Check a disclosure: leaves, paths, roots on the ledger, signatures of the meter's device.

    FILE alone and a node are enough; "-" reads standard input. Without --rpc the file is checked
    in itself, and what was not checked is said. A file can name contracts of its own: they are
    compared with --deployment, or with the deployment in the state folder.

    Ends with 0 where all that was checked holds, 1 where something does not, 2 where FILE is no
    disclosure.
    """
    from dao.node import Node
    from meters.disclosure import read
    from meters.verification import verify as check

    disclosure = read(read_input(file), "standard input" if file == "-" else file)
    node = Node(rpc) if rpc is not None else None
    named = deployment_file is not None
    known = None
    if named or state_paths().deployment_path().exists():
        known = addresses_from(deployment_file)
    checks = check(disclosure, node, known, named=named)
    if as_json:
        click.echo(json.dumps(_facts(disclosure, checks)))
    else:
        click.echo(
            rows_table(f"meter {disclosure.meter}", [one.reading for one in disclosure.slots])
        )
        click.echo()
        for one in checks:
            click.echo(f"{one.name:<12}{CHECK_MARKS[one.state]:<13}{one.detail}")
    faults = [one for one in checks if one.state == "failed"]
    if faults:
        raise CheckFailed(f"the disclosure does not hold: {faults[0].name}: {faults[0].detail}")


def _facts(disclosure: Disclosure, checks: Sequence[Check]) -> dict[str, Any]:
    return {
        "meter": disclosure.meter,
        "zone": disclosure.zone,
        "holds": all(check.state != "failed" for check in checks),
        "complete": all(check.state == "passed" for check in checks),
        "checks": [vars(check) for check in checks],
        "slots": [row_facts(one.reading) for one in disclosure.slots],
    }


@click.command()
@meter_option
@click.option("--month", required=True, help="A whole past month, UTC: 2016-05.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@rpc_option
@lake_option
@click.option(
    "--inbox",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The collector's inbox, dispatch.sqlite beside it.  [default: in the state folder]",
)
@click.option(
    "--relay-store",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The relay's file.  [default: in the state folder]",
)
@secrets_option
@deployment_option
@json_option
@handles_errors
def erase(
    meter: int,
    month: str,
    yes: bool,
    rpc: str,
    lake_place: str | None,
    inbox: Path | None,
    relay_store: Path | None,
    secrets_file: Path | None,
    deployment_file: Path | None,
    as_json: bool,
) -> None:
    """Erase a home's month: its secret, and every value of it in every store here.

    What remains still verifies. It cannot be undone. Run it again where it broke off. What is on
    the chain, what was given out, and backups stay: docs/privacy.md says what they show.
    """
    from dao.node import Node
    from meters.erasure import Stores, check_final, erase_month, unfinished
    from meters.secrets import SecretStore, month_name
    from meters.signing import reading_separator

    paths = state_paths()
    number = month_from(month)
    addresses = addresses_from(deployment_file)
    node, lake = Node(rpc), lake_from(lake_place)
    now = node.now()
    inbox = inbox or paths.inbox_path()
    zone = check_final(node, addresses, lake, meter, number, now)
    if not yes:
        click.confirm(
            f"Erase all readings of meter {meter} in {month_name(number)} for good? The zone's "
            "totals stay on the chain.",
            abort=True,
            err=True,
        )
    with SecretStore(secrets_file or paths.secrets_path(), make=False) as secrets:
        stores = Stores(
            lake=lake,
            secrets=secrets,
            inbox=inbox,
            relay=relay_store or paths.home() / "relay.sqlite",
            journal=paths.erasures_dir(),
            dispatches=paths.dispatches_path(inbox),
            separator=reading_separator(addresses.chain_id, addresses["MeterRegistry"]),
        )
        done = erase_month(stores, zone, meter, number, now)
    if as_json:
        click.echo(json.dumps({"meter": meter, "month": month_name(number), **vars(done)}))
    else:
        click.echo(
            f"Erased {month_name(number)} of meter {meter}: its secret, rows in {done.files} files "
            f"of the lake, {done.inbox} in the inbox, {done.relay} of the relay."
        )
    for other in unfinished(paths.erasures_dir()):
        which = f"meter {other.meter}, {month_name(other.month)}"
        click.echo(f"An erasure of {which} broke off: run it again.", err=True)


COMMANDS: tuple[click.Command, ...] = (
    disclose,
    verify,
    _meter_evidence.evidence,
    _meter_grants.grant,
    _meter_grants.read,
    _meter_grants.access,
    erase,
)
