# SPDX-License-Identifier: Apache-2.0
"""Order books as the solver takes them: from a CSV file, or from the orders of a session.

A CSV book has the columns side (bid or ask), price (micro-euro per Wh) and wh (Wh), in any order,
other columns ignored. Every defect of a file is named with its row, the header being row 1.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dao.errors import BadUse
from dao.market.orders import Order
from dao.market.solver import ASK, BID, MAX_LIMIT, MAX_TOTAL_WH, Ints

if TYPE_CHECKING:
    import _csv

COLUMNS = ("side", "price", "wh")
SIDES = {"bid": BID, "ask": ASK}

_DIGITS = re.compile(r"[0-9]+", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)


@dataclass(frozen=True)
class Book:
    """One slot's orders in arrival order: side (BID, ASK), price (micro-euro per Wh), wh (Wh)."""

    side: Ints
    price: Ints
    wh: Ints

    def __len__(self) -> int:
        return int(self.side.size)


@dataclass(frozen=True)
class SessionBook:
    """A session's orders in arrival order: side and limit per order, wh of (orders, slots)."""

    side: Ints
    limit: Ints
    wh: Ints


def session_book(orders: Sequence[Order], slots: int) -> SessionBook:
    """Orders of one session of `slots` slots as arrays; 0 Wh where an order does not speak.

    Raises ValueError for orders of different sessions or slots beyond the session's end.
    """
    if len({order.session_slot for order in orders}) > 1:
        raise ValueError("orders of more than one session")
    wh = np.zeros((len(orders), slots), dtype=np.int64)
    for row, order in enumerate(orders):
        if order.offset + order.count > slots:
            raise ValueError(f"order {row} leaves the session of {slots} slots")
        wh[row, order.offset : order.offset + order.count] = order.wh
    return SessionBook(
        side=np.fromiter((order.side for order in orders), np.int64, len(orders)),
        limit=np.fromiter((order.limit for order in orders), np.int64, len(orders)),
        wh=wh,
    )


def parse_book(data: bytes, name: str) -> Book:
    """A book from the bytes of a CSV file (UTF-8, with or without BOM, any line ends).

    name: how messages call the file. A header alone is an empty book. Raises BadUse with one line
    that says which row and column is wrong, and what would be accepted.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        raise BadUse(f"{name}: row {row}: not UTF-8 text (save the file as CSV UTF-8)") from None
    if not text.strip():
        raise BadUse(f"{name}: empty file; expected a header row side,price,wh")
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        return _parse_rows(rows, name)
    except csv.Error as error:
        raise BadUse(f"{name}: row {rows.line_num}: not valid CSV: {error}") from None


def _parse_rows(rows: _csv.Reader, name: str) -> Book:
    header: list[str] = []
    while not header:
        header = [cell.strip().lower() for cell in next(rows)]
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise BadUse(
            f"{name}: row {rows.line_num}: missing column{'s' if len(missing) > 1 else ''} "
            f"{', '.join(missing)}; expected a header row side,price,wh"
        )
    for column in COLUMNS:
        if header.count(column) > 1:
            raise BadUse(f"{name}: row {rows.line_num}: column {column} appears more than once")
    side_at, price_at, wh_at = (header.index(column) for column in COLUMNS)

    sides: list[int] = []
    prices: list[int] = []
    energies: list[int] = []
    total = 0
    for cells in rows:
        if not any(cell.strip() for cell in cells):
            continue
        where = f"{name}: row {rows.line_num}"
        if len(cells) != len(header):
            raise BadUse(f"{where}: {len(cells)} values, the header has {len(header)} columns")
        side = SIDES.get(cells[side_at].strip().lower())
        if side is None:
            raise BadUse(f"{where}: unknown side {_shown(cells[side_at])}; expected bid or ask")
        wh = _whole(cells[wh_at], MAX_TOTAL_WH, f"{where}: wh")
        total += wh
        if total > MAX_TOTAL_WH:
            raise BadUse(f"{where}: wh: the book holds more than {MAX_TOTAL_WH} Wh up to here")
        sides.append(side)
        prices.append(_whole(cells[price_at], MAX_LIMIT, f"{where}: price"))
        energies.append(wh)
    return Book(
        side=np.array(sides, dtype=np.int64),
        price=np.array(prices, dtype=np.int64),
        wh=np.array(energies, dtype=np.int64),
    )


def _whole(cell: str, highest: int, where: str) -> int:
    text = cell.strip()
    expected = f"expected a whole number 0..{highest}"
    if _DIGITS.fullmatch(text):
        # Measured before int() sees it: thousands of digits are a slow or failing conversion.
        if len(text.lstrip("0")) > len(str(highest)) or int(text) > highest:
            raise BadUse(f"{where} {_shown(text)} is too large; {expected}")
        return int(text)
    if not text:
        why = "is empty"
    elif not _NUMBER.fullmatch(text):
        why = f"{_shown(text)} is not a number"
    elif text.startswith("-"):
        why = f"{text} is negative"
    else:
        why = f"{_shown(text)} is not a whole number"
    raise BadUse(f"{where} {why}; {expected}")


def _shown(text: str) -> str:
    """A cell as a message quotes it: on one line, and not for ever."""
    return repr(text if len(text) <= 40 else text[:37] + "...")
