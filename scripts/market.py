# SPDX-License-Identifier: Apache-2.0
"""`gridcommons market`: the market's rules on files, without a chain."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from scripts._common import handles_errors, json_option, read_input

if TYPE_CHECKING:
    from dao.market.book import Book
    from dao.market.solver import Clearing

SHOWN_ROWS = 40
"""Rows of the table for people; --json holds every fill."""


@click.group(name="market")
def cli() -> None:
    """Clear an order book."""


@cli.command()
@click.argument("book", metavar="BOOK.csv")
@json_option
@handles_errors
def clear(book: str, as_json: bool) -> None:
    """Price, fills and welfare of an order book.

    BOOK.csv has the columns side (bid or ask), price (micro-euro per Wh, which is euro per MWh)
    and wh (Wh), one order per row in order of arrival; "-" reads standard input. No fee and no
    price band apply. A book without trade has price null.
    """
    from dao.market.book import parse_book
    from dao.market.solver import clear as solve

    orders = parse_book(read_input(book), "standard input" if book == "-" else book)
    cleared = solve(orders.side, orders.price, orders.wh)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "price": cleared.price,
                    "volume_wh": cleared.volume_wh,
                    "welfare": cleared.welfare,
                    "fills": cleared.fills.tolist(),
                }
            )
        )
    else:
        click.echo(_table(orders, cleared))


def _table(book: Book, cleared: Clearing) -> str:
    from dao.market.solver import BID

    if cleared.price is None:
        return f"No trade: in this book of {_orders(len(book))} no bid meets an ask."
    lines = [
        f"Price    {cleared.price:,} µ€/Wh ({cleared.price / 1000:.3f} €/kWh)",
        f"Volume   {cleared.volume_wh:,} Wh",
        f"Welfare  {cleared.welfare:,} µ€ ({cleared.welfare / 1e6:,.6f} €)",
        "",
        f"{'order':>7}  side  {'price':>10}  {'Wh':>12}  {'filled Wh':>12}",
    ]
    columns = (book.side, book.price, book.wh, cleared.fills)
    rows = zip(*(column[:SHOWN_ROWS].tolist() for column in columns), strict=True)
    for number, (side, price, wh, filled) in enumerate(rows, start=1):
        name = "bid" if side == BID else "ask"
        lines.append(f"{number:>7}  {name:<4}  {price:>10,}  {wh:>12,}  {filled:>12,}")
    if len(book) > SHOWN_ROWS:
        more = _orders(len(book) - SHOWN_ROWS, "more ")
        lines.append(f"{'...':>7}  {more} (--json lists all fills)")
    return "\n".join(lines)


def _orders(count: int, which: str = "") -> str:
    return f"{count:,} {which}order{'' if count == 1 else 's'}"
