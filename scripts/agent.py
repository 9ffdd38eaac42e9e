# SPDX-License-Identifier: Apache-2.0
"""`gridcommons agent`: follows the standing offers of a zone's homes under their mandates."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scripts._common import (
    LOCAL_NODE,
    LOCAL_RELAY,
    deployment_option,
    handles_errors,
    json_option,
    stop_on_signals,
)

if TYPE_CHECKING:
    from forecasting.agent.store import Deed, OfferStore


@click.command(name="agent")
@click.option(
    "--rpc",
    "--network",
    metavar="URL",
    default=LOCAL_NODE,
    show_default=True,
    help="A node of the chain.",
)
@click.option("--relay", metavar="URL", default=LOCAL_RELAY, show_default=True)
@deployment_option
@click.option("--zone", type=click.IntRange(1, 1_023), default=1, show_default=True)
@click.option(
    "--lake", help="Where the committed readings lie.  [default: the state folder's lake]"
)
@click.option(
    "--inbox",
    type=click.Path(path_type=Path),
    help="The collector's file of readings to come.  [default: in the state folder]",
)
@click.option(
    "--ahead",
    type=click.IntRange(60, 86_400),
    default=1_800,
    show_default=True,
    help="Seconds before the relay's last call from which on a session is ordered for.",
)
@click.option(
    "--poll",
    type=click.FloatRange(0.1, 3_600),
    default=15.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option("--once", is_flag=True, help="Do what is due now, and end.")
@click.option(
    "--show",
    "account",
    type=click.IntRange(1, 2**32 - 1),
    metavar="ACCOUNT",
    help="Print an account's offers and what was done lately, and end.",
)
@json_option
@handles_errors
def cli(
    rpc: str,
    relay: str,
    deployment_file: Path | None,
    zone: int,
    lake: str | None,
    inbox: Path | None,
    ahead: int,
    poll: float,
    once: bool,
    account: int | None,
    as_json: bool,
) -> None:
    """Follow the standing offers of a zone's homes.

    Shortly before each gate it makes of every offer one order at most, from the home's own recent
    readings on this machine, inside what the offer and the mandate on chain allow; signs it with
    the agent's key for the account, and hands it to the relay. It may be stopped, killed and
    started again at any time: no session is ordered for twice. One agent works in a state folder.

    Prints one line for each step, without amounts: those are for the owner, and lie in
    offers.sqlite.
    """
    from dao.errors import CheckFailed
    from dao.node import Node, read_addresses
    from dao.paths import deployment_path, inbox_path, lake_dir, offers_path
    from forecasting.agent import service
    from forecasting.agent.follow import Follower, check_relay, owner_signed
    from forecasting.agent.keys import AgentKeys
    from forecasting.agent.recent import HomeReadings
    from forecasting.agent.relaying import RelayClient
    from forecasting.agent.store import OfferStore

    if account is not None:
        if not offers_path().exists():
            raise CheckFailed("there are no standing offers in this state folder")
        with OfferStore() as store:
            _show(store, account, as_json)
        return
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    node, relaying = Node(rpc), RelayClient(relay)
    addresses = read_addresses(deployment_file or deployment_path())
    chain_id, market = addresses.chain_id, addresses["EnergyMarket"]
    if node.chain_id != chain_id:
        raise CheckFailed(f"the deployment is of chain {chain_id}, the node of {node.chain_id}")
    check_relay(relaying, chain_id, market)
    stop = stop_on_signals()
    with OfferStore() as store:
        service.run(
            Follower(
                store=store,
                keys=AgentKeys(),
                readings=HomeReadings(lake or lake_dir(), zone, inbox or inbox_path()),
                relay=relaying,
                zone=zone,
                chain_id=chain_id,
                market=market,
                owner_signed=owner_signed(node, addresses),
                ahead=ahead,
                report=lambda deed: click.echo(_line(deed, as_json)),
            ),
            clock=node.now,
            wait=stop.wait,
            poll=poll,
            once=once,
        )


def _line(deed: Deed, as_json: bool) -> str:
    """A step for the log: nothing of what a home makes or needs."""
    from forecasting.agent.offers import side_name

    told = {
        "time": deed.at,
        "account": deed.account,
        "side": side_name(deed.side),
        "session": deed.session,
        "state": str(deed.state),
        "reason": deed.code,
    }
    if as_json:
        return json.dumps(told)
    return (
        f"account {deed.account}  {told['side']}  session {deed.session}  {deed.state}  {deed.code}"
    )


def _show(store: OfferStore, account: int, as_json: bool) -> None:
    from dao.errors import CheckFailed
    from forecasting.agent.words import offer_words, words

    history = store.history(account)
    if not history:
        raise CheckFailed(f"account {account} has no standing offer here")
    versions = {(one.offer.side, one.offer.version): one.offer for one in history}
    deeds = [deed for deed in store.deeds(account) if (deed.side, deed.version) in versions]
    said = [(deed, words(versions[deed.side, deed.version], deed)) for deed in deeds]
    if as_json:
        rows = [{"session": deed.session, "state": str(deed.state), "text": t} for deed, t in said]
        offers = [{"id": "0x" + one.id.hex(), **one.offer.as_dict()} for one in history]
        click.echo(json.dumps({"account": account, "offers": offers, "done": rows}))
        return
    for one in history:
        click.echo(f"version {one.offer.version}  {offer_words(one.offer)}")
    for deed, text in said:
        click.echo(f"session {deed.session}  {text}")
