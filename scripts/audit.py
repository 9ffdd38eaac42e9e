# SPDX-License-Identifier: Apache-2.0
"""`gridcommons audit export|verify|secrets`: a period as a dossier that proves itself.

The commands read options and print; what they do is in `dao/audit/` and `forecasting/dossier.py`.
"""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dao.errors import BadUse, CheckFailed
from scripts._common import (
    CHECK_MARKS,
    deployment_option,
    handles_errors,
    is_local,
    json_option,
    open_chain,
)
from scripts._privacy_options import (
    addresses_from,
    lake_from,
    lake_option,
    meter_option,
    secrets_option,
    state_paths,
    write_output,
)

if TYPE_CHECKING:
    from dao.audit.package import Dossier, Manifest
    from dao.audit.verify import Check
    from dao.node import Addresses

LOCAL_COLLECTOR = 2
"""Which account of a local node collects, as in `gridcommons meter collect`."""


@click.group(name="audit")
def cli() -> None:
    """Export a period as a dossier that proves itself, and check one."""


@cli.command()
@click.option(
    "--zone", required=True, type=click.IntRange(1, 2**32 - 1), help="Number of the zone."
)
@click.option("--from", "begin", required=True, help="From this UTC day on: 2016-06-01.")
@click.option("--to", "end", required=True, help="To the end of this UTC day.")
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="The file.")
@click.option(
    "--lang", "language", default="en", show_default=True, help="Of the report: en or de."
)
@click.option(
    "--corrects",
    type=click.Path(path_type=Path),
    help="The earlier dossier that this one corrects.",
)
@click.option("--rpc", metavar="URL", help="A node of the chain.  [default: the running demo's]")
@click.option("--publish", is_flag=True, help="Put the root on the chain, as the zone's collector.")
@click.option(
    "--network",
    help="With --publish: Ape's name of the network (ethereum:sepolia:node).  [default: --rpc]",
)
@click.option(
    "--account",
    help="With --publish: alias of the collector's Ape account; on a local node its number, 0 to "
    f"9.  [default: {LOCAL_COLLECTOR}]",
)
@click.option("--tariffs", type=click.Path(path_type=Path), help="TOML file with other tariffs.")
@lake_option
@secrets_option
@deployment_option
@json_option
@handles_errors
def export(
    zone: int,
    begin: str,
    end: str,
    output: Path,
    language: str,
    corrects: Path | None,
    rpc: str | None,
    publish: bool,
    network: str | None,
    account: str | None,
    tariffs: Path | None,
    lake_place: str | None,
    secrets_file: Path | None,
    deployment_file: Path | None,
    as_json: bool,
) -> None:
    """Write a zone's period as a dossier: data, proofs, and the report to read.

    The days must be over for good: committed, final, and an hour past, so that they are scored.
    No home's reading and no group below 15 homes is in it; each home can open its own bill with its
    secret. With --publish the root goes on the chain, and from then on nobody can change the file
    unseen.
    """
    from dao.audit.export import Request
    from dao.audit.scope import Period
    from forecasting.dossier import Sources, write_dossier

    if not publish and (network is not None or account is not None):
        raise BadUse("--network and --account say who publishes: --publish is needed")
    paths = state_paths()
    addresses = addresses_from(deployment_file)
    url = rpc or _running()
    sources = Sources(
        lake=lake_from(lake_place),
        secrets=secrets_file or paths.secrets_path(),
        relay=paths.home() / "relay.sqlite",
    )
    request = Request(
        period=Period.of_days(zone, _day(begin, "--from"), _day(end, "--to")),
        rpc=url,
        chain_id=addresses.chain_id,
        addresses=addresses.contracts,
        first_block=_first_block(deployment_file or paths.deployment_path()),
        tariffs=_tariffs(tariffs),
        language=language,
        index=paths.index_path(),
        corrects=corrects,
    )
    say = (lambda _: None) if as_json else (lambda text: click.echo(f"{text} ...", err=True))
    manifest = write_dossier(request, sources, output, say)
    published = None
    if publish:
        published = _publish(manifest, network or url, account, deployment_file)
    _tell(manifest, output, published, as_json)


def _publish(
    manifest: Manifest, network: str, account: str | None, deployment_file: Path | None
) -> str:
    """The transaction that published; "before" where the root stood on the chain already."""
    from dao import deployment as deploying
    from dao.audit.anchor import publish

    if is_local(network):
        number = str(LOCAL_COLLECTOR) if account is None else account
        if number not in map(str, range(10)):
            raise BadUse(f"--account {account}: a local node has the accounts 0 to 9")
    with open_chain(network, account) as chain:
        deployed = deploying.read(chain, deployment_file or state_paths().deployment_path())
        if "DossierAnchor" not in deployed.contracts:
            raise CheckFailed("this deployment has no DossierAnchor; the file is written")
        payer = chain.accounts[int(number)] if chain.is_local else chain.deployer
        receipt = publish(deployed["DossierAnchor"], manifest, payer)
    return "before" if receipt is None else receipt.tx


def _tell(manifest: Manifest, output: Path, published: str | None, as_json: bool) -> None:
    period = manifest.scope.period
    facts: dict[str, Any] = {
        "file": str(output),
        "root": manifest.root,
        "zone": period.zone,
        "first_slot": period.first_slot,
        "slots": period.slots,
        "parts": len(manifest.parts),
        "bytes": output.stat().st_size,
        "corrects": manifest.scope.corrects,
        "published": published,
    }
    if as_json:
        click.echo(json.dumps(facts))
        return
    begin, end = period.days
    click.echo(f"{output}: zone {period.zone}, {begin} to {end}, {facts['bytes']:,} bytes")
    click.echo(f"Root {manifest.root}")
    if published is None:
        click.echo("Not published: its root is not on the chain (--publish).")
    else:
        click.echo(f"Published: {published}")


@cli.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--rpc", metavar="URL", help="A node of the chain: hold the dossier against it.")
@click.option(
    "--bill",
    "secrets",
    metavar="SECRETFILE",
    type=click.Path(path_type=Path),
    help="Your own secrets (`gridcommons audit secrets`): is your bill in it, and right?",
)
@click.option(
    "--anchored", is_flag=True, help="Fail where the dossier was not published on the chain."
)
@deployment_option
@json_option
@handles_errors
def verify(
    file: Path,
    rpc: str | None,
    secrets: Path | None,
    anchored: bool,
    deployment_file: Path | None,
    as_json: bool,
) -> None:
    """Check a dossier: every hash, every total, every auction and settlement again, every bill of
    yours, and all of it against the chain.

    FILE and a node are enough. Without --rpc what needs the chain is not checked, and is said.

    Ends with 0 where all that was checked holds, with 1 where something does not or the node is
    away, with 2 where FILE is no dossier.
    """
    from dao.audit.bills import read_secrets
    from dao.audit.package import Dossier
    from dao.audit.remote import Remote
    from dao.audit.verify import check_bills
    from dao.audit.verify import verify as check_all

    if anchored and rpc is None:
        raise BadUse("--anchored asks the chain: --rpc is needed")
    remote = None if rpc is None else Remote(rpc)
    own = None if secrets is None else read_secrets(secrets)
    with Dossier(file) as dossier:
        checks = check_all(
            dossier,
            remote,
            _known(deployment_file),
            named=deployment_file is not None,
            must_be_anchored=anchored,
        )
        if own is not None and all(one.state != "failed" for one in checks):
            checks += check_bills(dossier, own)
        _show(dossier, checks, as_json)
    faults = [check for check in checks if check.state == "failed"]
    if faults:
        raise CheckFailed(f"the dossier does not hold: {faults[0].name}: {faults[0].detail}")


def _known(file: Path | None) -> Addresses | None:
    """The deployment to compare with: the one that is named, or the state folder's."""
    if file is not None:
        return addresses_from(file)
    path = state_paths().deployment_path()
    return addresses_from(None) if path.is_file() else None


def _show(dossier: Dossier, checks: list[Check], as_json: bool) -> None:
    period = dossier.scope.period
    begin, end = period.days
    if as_json:
        facts = {
            "root": dossier.root,
            "zone": period.zone,
            "from": begin.isoformat(),
            "to": end.isoformat(),
            "corrects": dossier.scope.corrects,
            "holds": all(check.state != "failed" for check in checks),
            "checks": [
                {"name": one.name, "state": one.state, "detail": one.detail} for one in checks
            ],
        }
        click.echo(json.dumps(facts))
        return
    click.echo(f"Dossier of zone {period.zone}, {begin} to {end}")
    click.echo(f"Root {dossier.root}")
    if dossier.scope.corrects:
        click.echo(f"Corrects {dossier.scope.corrects}")
    click.echo()
    width = max(len(check.name) for check in checks)
    for check in checks:
        click.echo(f"{check.name:<{width}}  {CHECK_MARKS[check.state]:<12} {check.detail}")


@cli.command(name="secrets")
@meter_option
@click.option("--months", required=True, help="Which months: 2016-06, or several with commas.")
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="The file.")
@secrets_option
@handles_errors
def secrets_command(meter: int, months: str, output: Path, secrets_file: Path | None) -> None:
    """Write a home's month secrets, for its owner alone: they open its bills and its readings.

    Run by the operator, who keeps the store. The file is for `gridcommons audit verify --bill`.
    """
    from dao.audit.bills import month_number, secrets_document
    from forecasting.dossier import home_secrets
    from meters.secrets import SecretStore

    wanted = [one.strip() for one in months.split(",")]
    for one in wanted:
        try:
            month_number(one)
        except ValueError:
            raise BadUse(f"--months {one}: expected a month like 2016-06") from None
    with SecretStore(secrets_file or state_paths().secrets_path(), make=False) as store:
        found = home_secrets(store, [(meter, month) for month in wanted])
    if len(found) < len(wanted):
        raise CheckFailed("a secret of these months was erased: nothing of them can be opened")
    document = secrets_document(meter, {month: secret for (_, month), secret in found.items()})
    write_output(str(output), json.dumps(document, indent=1) + "\n")
    click.echo(f"{output}: secrets of meter {meter} for {', '.join(wanted)}")


# Options


def _day(text: str, option: str) -> date:
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        try:
            day = date.fromisoformat(text)
            if day.year >= 1971:
                return day
        except ValueError:
            pass
    raise BadUse(f"{option} {text}: expected a UTC day like 2016-06-01")


def _running() -> str:
    """The node of the demo that runs in the state folder."""
    from dao.runstate import read_run_state

    state = read_run_state()
    if state is None or not state.rpc:
        raise BadUse("--rpc is needed: no demo runs in the state folder")
    return state.rpc


def _first_block(path: Path) -> int:
    try:
        return int(json.loads(path.read_text())["first_block"])
    except (OSError, ValueError, KeyError, TypeError):
        raise BadUse(f"{path} names no first block") from None


def _tariffs(path: Path | None) -> dict[str, int]:
    """Of a file; else the demo's of this folder; else the defaults."""
    from dataclasses import asdict

    from dao.runstate import read_run_state
    from dao.tariffs import load_tariffs

    if path is None and (state := read_run_state()) is not None:
        return asdict(state.tariffs)
    return asdict(load_tariffs(path))


if __name__ == "__main__":
    cli()
