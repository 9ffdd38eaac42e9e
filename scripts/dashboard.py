# SPDX-License-Identifier: Apache-2.0
"""`gridcommons dashboard`: the pages alone, over a state folder, a node and a relay."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scripts._common import handles_errors, json_option

if TYPE_CHECKING:
    from dao.index import Indexer
    from dashboard.serve import DashboardServer

PORT = 8501
_PAUSE_S = 2.0


@click.command(name="dashboard")
@click.option("--rpc", metavar="URL", help="A node of the chain.  [default: what a demo wrote]")
@click.option("--relay", metavar="URL", help="The relay.  [default: what a demo wrote]")
@click.option(
    "--zone", type=click.IntRange(1, 1_023), help="The zone to show.  [default: a demo's, or 1]"
)
@click.option(
    "--port",
    type=click.IntRange(1, 65_535),
    default=PORT,
    show_default=True,
    help="The pages' port on this machine, or the next free one.",
)
@click.option(
    "--host-name",
    "names",
    multiple=True,
    metavar="NAME",
    help="A further name that a proxy serves the pages under. May be repeated.",
)
@json_option
@handles_errors
def cli(
    rpc: str | None,
    relay: str | None,
    zone: int | None,
    port: int,
    names: tuple[str, ...],
    as_json: bool,
) -> None:
    """Serve the pages until Ctrl-C.

    They show what lies in the state folder. With --rpc the index of chain events there is kept up
    to date, for the contracts whose addresses `gridcommons deploy` wrote into it. The server
    listens on this machine only: others reach it through a proxy that ends TLS, whose name
    --host-name gives.
    """
    from dashboard.hosts import HOSTS
    from dashboard.serve import DashboardServer
    from dashboard.settings import RELAY, RPC, ZONE, checked_address

    for option, url in (("--rpc", rpc), ("--relay", relay)):
        if url is not None:
            checked_address(option, url)
    indexer = _indexer(rpc) if rpc else None
    given = {RPC: rpc, RELAY: relay, ZONE: zone and str(zone), HOSTS: ",".join(names)}
    with DashboardServer(port, {name: value for name, value in given.items() if value}) as server:
        # SIGTERM ends it as Ctrl-C does: the server's process goes with it.
        signal.signal(signal.SIGTERM, _interrupt)
        if as_json:
            click.echo(json.dumps({"url": server.url, "zone": zone}))
        else:
            click.echo(server.notice or f"The pages are at {server.url}. Ctrl-C ends it.")
        _live(server, indexer)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _live(server: DashboardServer, indexer: Indexer | None) -> None:
    """Follow the chain for as long as the server runs."""
    from dao.errors import CheckFailed

    told = ""
    while server.is_running:
        if indexer is not None:
            try:
                indexer.sync()
                told = ""
            except CheckFailed as error:
                # A node comes back; until then the pages show what they have.
                if str(error) != told:
                    click.echo(f"Waiting: {error}", err=True)
                told = str(error)
        time.sleep(_PAUSE_S)
    raise CheckFailed("the pages' server ended")


def _indexer(rpc: str) -> Indexer:
    """The index of the deployment in the state folder. BadUse without one, CheckFailed where the
    node is of another chain."""
    from dao.artifacts import load_artifacts
    from dao.errors import CheckFailed
    from dao.index import Indexer
    from dao.node import Node, read_addresses
    from dao.paths import deployment_path, index_path

    path = deployment_path()
    addresses = read_addresses(path)
    chain_id = Node(rpc).chain_id
    if chain_id != addresses.chain_id:
        raise CheckFailed(f"{path} is of chain {addresses.chain_id}, this node is of {chain_id}")
    artifacts = load_artifacts(notify=lambda text: click.echo(text, err=True))
    contracts = {
        name: (address, artifacts[name].abi)
        for name, address in addresses.contracts.items()
        if name in artifacts
    }
    return Indexer(rpc, contracts, index_path(), first_block=_first_block(path))


def _first_block(path: Path) -> int:
    """The block that the deployment began at."""
    from dao.errors import BadUse

    try:
        return int(json.loads(path.read_text())["first_block"])
    except (OSError, ValueError, KeyError, TypeError):
        raise BadUse(f"{path} is not a deployment file") from None
