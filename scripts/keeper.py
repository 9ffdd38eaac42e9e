# SPDX-License-Identifier: Apache-2.0
"""`gridcommons keeper`: carries every session through, and executes and scores what is due."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts._common import (
    chain_options,
    handles_errors,
    json_option,
    open_as,
    stop_on_signals,
    unlocked,
)

if TYPE_CHECKING:
    from dao.keeper.context import Action
    from dao.market.session import DeviceReceipt
    from dao.relay.store import RelayStore

LOCAL_ACCOUNT = 6
"""The funded account of a local node that pays, as in the demo."""


class Finite(click.FloatRange):
    """A number in a range; `nan` and `inf`, which Python reads as numbers, are none."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


@click.command(name="keeper")
@chain_options("pays", LOCAL_ACCOUNT)
@click.option(
    "--relay-store",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The relay's file: post its orders, settle with its receipts.",
)
@click.option(
    "--zone",
    type=click.IntRange(1, 1_023),
    default=1,
    show_default=True,
    help="Zone that the relay takes orders for. What is due on chain is done in all zones.",
)
@click.option("--once", is_flag=True, help="Do what is due now, and end.")
@click.option(
    "--poll",
    type=Finite(0.1, 3_600),
    default=15,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option(
    "--max-gas-price",
    type=Finite(0, min_open=True),
    help="Gwei; while gas costs more, nothing is sent.  [default: no bound]",
)
@click.option(
    "--warn-days",
    type=Finite(0),
    default=7,
    show_default=True,
    help="Warn when the account's money lasts for fewer days.",
)
@click.option(
    "--collect-above",
    type=Finite(0),
    default=10,
    show_default=True,
    help="Euro of grid fees from which on they are sent to the treasury.",
)
@click.option(
    "--lodge/--no-lodge",
    default=True,
    show_default=True,
    help="Put receipts on record an hour before their deadline passes.",
)
@json_option
@handles_errors
def cli(
    network: str,
    account: str | None,
    deployment_file: Path | None,
    relay_store: Path | None,
    zone: int,
    once: bool,
    poll: float,
    max_gas_price: float | None,
    warn_days: float,
    collect_above: float,
    lodge: bool,
    as_json: bool,
) -> None:
    """Do what is due on the chain, for whoever it concerns.

    Sessions past their gate are cleared, delivered ones settled; what came too late is voided, what
    nobody can settle abandoned, so that every escrow comes back. Passed votes are queued and
    executed, forecasts scored, fees sent to the treasury. Everything is read from the chain: the
    command may be stopped, killed and started again at any time, and several may run at once.

    Prints one line for each step, with --json one object. Ends on Ctrl-C or SIGTERM, after the step
    under way. With --once it exits 0 when something was done, 1 when nothing was due or a step
    failed.
    """
    from dao import deployment as deploying
    from dao.errors import CheckFailed
    from dao.keeper import loop, watch
    from dao.keeper.context import Context
    from dao.keeper.duties import DUTIES, post_orders
    from dao.paths import deployment_path, home
    from dao.relay.store import RelayStore

    bookmarks = home() / "keeper.json"
    with open_as(network, account, LOCAL_ACCOUNT) as (chain, payer):
        store = None if relay_store is None else RelayStore(relay_store)
        own = () if store is None else (post_orders(store, zone),)
        deployment = deploying.read(chain, deployment_file or deployment_path())
        stop = stop_on_signals()
        context = Context(
            deployment,
            unlocked(payer),  # asks for a password once, not at every step
            receipts=store,
            conflicts=tuple if store is None else lambda: _conflicts(store),
            report=lambda action: click.echo(_as_json(action) if as_json else _as_text(action)),
            stopping=stop.is_set,
            max_gas_price=None if max_gas_price is None else round(max_gas_price * 1e9),
            collect_above=round(collect_above * 1e6),
            lodges=lodge,
            bookmarks=watch.load(bookmarks),
        )

        def save() -> None:
            with contextlib.suppress(OSError):  # a full disk costs reading, not a session
                watch.save(context.bookmarks, bookmarks)

        all_well = loop.run(
            context,
            (*own, *DUTIES),
            clock=chain.now,
            wait=stop.wait,
            poll=poll,
            once=once,
            warn_days=warn_days,
            after_tick=save,
        )
    if once and not all_well:
        raise CheckFailed("nothing was due, or a step failed")


def _conflicts(store: RelayStore) -> list[tuple[int, int, Sequence[DeviceReceipt]]]:
    return [(found.meter, found.first_slot, found.receipts) for found in store.conflicts()]


def _as_json(action: Action) -> str:
    return json.dumps(
        {
            "time": _utc(action.time),
            "duty": action.duty,
            **action.about,
            "outcome": action.outcome,
            "detail": action.detail,
            "transactions": action.transactions,
            "gas": action.gas,
        }
    )


def _as_text(action: Action) -> str:
    about = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in action.about.items())
    words = [_utc(action.time), f"{action.duty:<8}", f"{action.outcome:<7}"]
    words += [part for part in (about, action.detail) if part]
    if action.gas:
        words.append(f"({action.gas:,} gas)")
    return "  ".join(words)


def _utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
