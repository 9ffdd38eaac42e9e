# SPDX-License-Identifier: Apache-2.0
"""`gridcommons relay`: takes signed orders over HTTP, posts them in batches, pays the gas."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import click

from scripts._common import (
    deployment_option,
    handles_errors,
    json_option,
    network_option,
    open_chain,
    unlocked,
)

# The accounts before it hold the roles that `gridcommons deploy` gives out on a local node.
_LOCAL_ACCOUNT = 5


@click.command(name="relay")
@network_option()
@click.option(
    "--account",
    help="Alias of the Ape account that pays and promises; use it for nothing else. Not needed on "
    "a local node.",
)
@deployment_option
@click.option("--zone", type=click.IntRange(1, 1_023), default=1, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(1, 65_535), default=8550, show_default=True)
@click.option(
    "--behind-proxy", is_flag=True, help="Believe X-Forwarded-For from a proxy on this machine."
)
@click.option(
    "--interval",
    type=click.IntRange(1, 3_600),
    default=30,
    show_default=True,
    help="Seconds that an order may wait for others to share its batch.",
)
@click.option(
    "--margin",
    type=click.IntRange(150, 3_600),
    default=300,
    show_default=True,
    help="Seconds before the gate from which on nothing waits.",
)
@click.option(
    "--store", type=click.Path(path_type=Path), help="The relay's file. Default: relay.sqlite."
)
@json_option
@handles_errors
def cli(
    network: str,
    account: str | None,
    deployment_file: Path | None,
    zone: int,
    host: str,
    port: int,
    behind_proxy: bool,
    interval: int,
    margin: int,
    store: Path | None,
    as_json: bool,
) -> None:
    """Run the relay of a zone.

    It takes signed orders, other signed requests and delivery receipts over HTTP, checks them,
    promises to post the orders before the gate, sends what it took and pays the gas. Ctrl-C ends
    it; what it has taken stays in its file and is sent when it runs again.
    """
    from dao import deployment as deploying
    from dao.paths import deployment_path
    from dao.relay.posting import Pace
    from dao.relay.reader import Relay
    from dao.relay.service import listen, serve
    from dao.relay.store import RelayStore

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    with listen(host, port) as listener, open_chain(network, account) as chain:
        deployed = deploying.read(chain, deployment_file or deployment_path())
        pace = Pace(interval=interval, margin=margin)
        payer = unlocked(chain.accounts[_LOCAL_ACCOUNT] if chain.is_local else chain.deployer)
        relay = Relay.of(deployed, RelayStore(store), zone, payer, pace)
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{port}"
        if as_json:
            facts = {
                "url": url,
                "zone": zone,
                "market": relay.market.address,
                "relay": relay.account.address,
                "store": str(relay.store.path),
            }
            click.echo(json.dumps(facts))
        else:
            click.echo(f"The relay of zone {zone} is at {url}, its operations at {url}/docs.")
            click.echo(f"It posts and promises as {relay.account.address}. Ctrl-C ends it.")
        serve(relay, listener, behind_proxy=behind_proxy)
        relay.store.close()
