# SPDX-License-Identifier: Apache-2.0
"""`gridcommons meter faults|faults-verify`: a dossier of tampering and faults, and its check.

The commands read options and print; what they do is in `meters/faults/` and
`forecasting/feeder.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dao.errors import BadUse, CheckFailed
from scripts._common import CHECK_MARKS, deployment_option, handles_errors, json_option, read_input
from scripts._privacy_options import (
    addresses_from,
    lake_from,
    lake_option,
    same_chain,
    secrets_option,
    span_from,
    state_paths,
    write_output,
)

if TYPE_CHECKING:
    from dao.node import Addresses
    from meters.faults.balance import Balance
    from meters.faults.dossier import Dossier
    from meters.faults.findings import Rows

SHOWN = 20
"""Lines of one kind for people; --json holds all."""


@click.command()
@click.option("--zone", required=True, type=click.IntRange(1, 1_023), help="Number of the zone.")
@click.option("--from", "begin", required=True, help="From this UTC day on: 2016-06-01.")
@click.option("--to", "end", required=True, help="To the end of this UTC day.")
@click.option("--meters", "wanted", help="Look at these only and name no other: 3,17,20.")
@click.option("--feeder", help="What the transformer's meter said: timestamp,import_wh,export_wh.")
@click.option("--grid", "code", help="Code of the zone's grid, for the losses; with --feeder.")
@click.option("--buses", help="Where each meter is connected: meter,bus; with --feeder.")
@click.option(
    "--feeder-side",
    type=click.Choice(["low", "high"]),
    default="low",
    show_default=True,
    help="Behind the transformer, or before it and its losses.",
)
@click.option("--output", "-o", required=True, help="The file to write.")
@click.option("--rpc", metavar="URL", help="A node of the chain: whose keys signed.")
@click.option(
    "--inbox", type=click.Path(path_type=Path), help="The collector's inbox: gaps, forks."
)
@lake_option
@secrets_option
@deployment_option
@json_option
@handles_errors
def faults(
    zone: int,
    begin: str,
    end: str,
    wanted: str | None,
    feeder: str | None,
    code: str | None,
    buses: str | None,
    feeder_side: str,
    output: str,
    rpc: str | None,
    inbox: Path | None,
    lake_place: str | None,
    secrets_file: Path | None,
    deployment_file: Path | None,
    as_json: bool,
) -> None:
    """Look for tampering and faults in what a zone committed, and write them down as evidence.

    Values that stand still, dead inverters, readings signed by another key (--rpc), numbers that
    never arrived and contradictions (--inbox), and energy that no meter saw (--feeder). The file
    opens the slots that a finding rests on, and no other: that is shown to whoever gets it. The
    hash is what a proposal names.
    """
    from dao.node import Node
    from meters.faults.dossier import MAX_DAYS, Dossier, encode, file_hash, open_findings
    from meters.faults.findings import KINDS, find, read_rows
    from meters.secrets import SecretStore
    from meters.signing import reading_separator
    from meters.vee.history import LakeHistory

    meters = _meters(wanted)
    if feeder is not None and (code is None or buses is None):
        raise BadUse("--feeder needs --grid and --buses: the losses are computed from them")
    addresses = addresses_from(deployment_file)
    first, stop = span_from(None, begin, end)
    if stop - first > MAX_DAYS * 96:
        raise BadUse(f"a dossier covers at most {MAX_DAYS} days")
    lake = lake_from(lake_place)
    separator = reading_separator(addresses.chain_id, addresses["MeterRegistry"])
    node = Node(rpc) if rpc is not None else None
    if node is not None:
        same_chain(node, addresses)
    rows = read_rows(lake, zone, first, stop - first, separator)
    lost = sorted(set(meters or ()) - set(rows.meters.tolist()))
    if lost:
        raise BadUse(f"--meters: zone {zone} has no rows of meter {lost[0]}")
    found = find(
        rows,
        LakeHistory(lake, zone),
        separator=separator,
        device_at=None if node is None else partial(node.device_at, addresses["MeterRegistry"]),
        inbox=inbox,
        meters=meters,
    )
    balance = None
    if feeder is not None and code is not None and buses is not None:
        balance = _balance(rows, feeder, code, buses, feeder_side == "high", meters)
    with SecretStore(secrets_file or state_paths().secrets_path(), make=False) as secrets:
        findings, opened, unopened = open_findings(found, lake, secrets, addresses, zone)
    missing = {"signature"} if node is None else set()
    missing |= {"gap", "fork", "link"} if inbox is None else set()
    dossier = Dossier(
        addresses,
        zone,
        first,
        stop - first,
        tuple(kind for kind in KINDS if kind not in missing),
        None if meters is None else tuple(meters),
        tuple(findings),
        tuple(opened),
        balance,
    )
    data = encode(dossier)
    write_output(output, data.decode())
    _report(dossier, "0x" + file_hash(data).hex(), unopened, as_json)


@click.command(name="faults-verify")
@click.argument("file", metavar="FILE")
@click.option("--rpc", metavar="URL", help="Hold it against the chain too, through this node.")
@click.option("--hash", "expected", help="The hash that a proposal names.")
@deployment_option
@json_option
@handles_errors
def faults_verify(
    file: str, rpc: str | None, expected: str | None, deployment_file: Path | None, as_json: bool
) -> None:
    """Check a dossier of faults: what it opens, and each finding by its own rule.

    FILE alone and a node are enough; "-" reads standard input. Without --rpc the file is checked in
    itself, and what was not checked is said.

    Ends with 0 where all that was checked holds, 1 where something does not, 2 where FILE is no
    dossier.
    """
    from dao.node import Node
    from meters.faults.check import verify
    from meters.faults.dossier import decode, file_hash

    data = read_input(file)
    shown = "0x" + file_hash(data).hex()
    if expected is not None and not re.fullmatch("0x[0-9a-fA-F]{64}", expected):
        raise BadUse("--hash: expected 0x and 64 hex digits")
    if expected is not None and expected.lower() != shown:
        raise CheckFailed(f"the file's hash is {shown}: it is not the file that was named")
    dossier = decode(data, "standard input" if file == "-" else file)
    node = Node(rpc) if rpc is not None else None
    known: Addresses | None = None
    named = deployment_file is not None
    if named or state_paths().deployment_path().exists():
        known = addresses_from(deployment_file)
    checks = verify(dossier, node, known, named=named)
    failed = [check for check in checks if check.state == "failed"]
    if as_json:
        document = {
            "hash": shown,
            "zone": dossier.zone,
            "holds": not failed,
            "complete": all(check.state == "passed" for check in checks),
            "checks": [vars(check) for check in checks],
        }
        click.echo(json.dumps(document))
    else:
        for check in checks:
            click.echo(f"{check.name:<14}{CHECK_MARKS[check.state]:<13}{check.detail}")
        click.echo(f"\nHash: {shown}")
    if failed:
        raise CheckFailed(f"the dossier does not hold: {failed[0].name}: {failed[0].detail}")


def _meters(text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch("[0-9]{1,10}", part) for part in parts):
        raise BadUse(f"--meters {text}: expected numbers like 3,17,20")
    return sorted({int(part) for part in parts})


def _balance(
    rows: Rows,
    feeder: str,
    code: str,
    buses: str,
    high_side: bool,
    meters: Sequence[int] | None,
) -> Balance:
    from forecasting.feeder import balance, read_buses, read_feeder
    from forecasting.grid import load_grid

    whole = rows.measured.all(axis=0)
    slots = rows.first_slot + whole.nonzero()[0]
    made = balance(
        load_grid(code, state_paths().cache_dir()),
        read_buses(read_input(buses), buses),
        read_feeder(read_input(feeder), feeder),
        rows.meters,
        slots,
        rows.import_wh[:, whole].T,
        rows.export_wh[:, whole].T,
        high_side=high_side,
    )
    if meters is None:
        return made
    return made.with_suspects(one for one in made.suspects if one.meter in meters)


def _report(dossier: Dossier, shown: str, unopened: Sequence[str], as_json: bool) -> None:
    opened = {one.meter: len(one.slots) for one in dossier.opened}
    if as_json:
        document: dict[str, Any] = {
            "hash": shown,
            "zone": dossier.zone,
            "looked_for": list(dossier.looked_for),
            "findings": [
                {
                    "meter": one.meter,
                    "kind": one.kind,
                    "first_slot": one.first_slot,
                    "slots": one.slots,
                }
                for one in dossier.findings
            ],
            "opened": {str(meter): count for meter, count in opened.items()},
            "not_opened": list(unopened),
            "balance": None if dossier.balance is None else _balance_facts(dossier.balance),
        }
        click.echo(json.dumps(document))
        return
    for one in dossier.findings[:SHOWN]:
        click.echo(one.message)
    if len(dossier.findings) > SHOWN:
        click.echo(f"... {len(dossier.findings) - SHOWN:,} more (--json lists all findings)")
    if not dossier.findings:
        click.echo(f"Nothing was found. Looked for: {', '.join(dossier.looked_for)}.")
    if dossier.balance is not None:
        _show_balance(dossier.balance)
    for text in unopened[:SHOWN]:
        click.echo(f"Left out: {text}", err=True)
    if opened:
        whose = ", ".join(f"{meter} ({count})" for meter, count in sorted(opened.items()))
        click.echo(f"Opens slots of meters {whose}; --meters restricts that.", err=True)
    click.echo(f"Hash: {shown}")


def _balance_facts(balance: Balance) -> dict[str, Any]:
    return {
        "slots": len(balance.slots),
        "slots_over": balance.slots_over,
        "days": [
            {
                "day": day.day.isoformat(),
                "slots": day.slots,
                "residual_wh": day.residual_wh,
                "tolerance_wh": day.tolerance_wh,
                "over": day.is_over,
            }
            for day in balance.days
        ],
        "suspects": [vars(one) for one in balance.suspects],
    }


def _show_balance(balance: Balance) -> None:
    over = balance.days_over
    click.echo(
        f"Balance over {len(balance.slots):,} quarter-hours: {sum(balance.residual_wh):,} Wh "
        f"missing; {len(over)} of {len(balance.days)} days and {len(balance.slots_over)} "
        "quarter-hours beyond what meters of their classes allow."
    )
    for day in over[:SHOWN]:
        click.echo(f"  {day.day}  {day.residual_wh:>10,} Wh, allowed {day.tolerance_wh:,}")
    for one in balance.suspects:
        click.echo(
            f"  would fit: meter {one.meter}, were {one.part_permille / 10:.1f} % of its "
            f"consumption left out (z {one.z_tenths / 10:.1f}, correlation "
            f"{one.correlation_permille / 1000:.2f})"
        )
    if balance.suspects:
        click.echo("  A home that fits need not be the cause: others may fit that are not metered.")


COMMANDS = (faults, faults_verify)
