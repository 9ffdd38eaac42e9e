# SPDX-License-Identifier: Apache-2.0
"""What stands in the sheets of summary.xlsx; how it is written is in `workbook`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

import numpy as np

from dao.audit.report.chapters_scope import FIGURE_GROUPS
from dao.audit.report.reader import Masked, Reader, total
from dao.slots import SLOTS_PER_DAY, day_of

MOST_ROWS = 10_000
"""Of a sheet; the data have all."""


class Kind(Enum):
    """What a column counts: the unit of the table and, after the arrow, of the sheet."""

    TEXT = "text"
    COUNT = "whole numbers"
    KWH = "Wh -> kWh"
    EURO = "µ€ -> €"
    CENT = "µ€/Wh -> ct/kWh"
    SHARE = "ppm -> %"


@dataclass(frozen=True)
class Column:
    """Values in the unit of the tables; a text says why a number is kept back."""

    title: str
    kind: Kind
    values: Sequence[int | str | None]


@dataclass(frozen=True)
class Sheet:
    """One page of the workbook."""

    name: str
    title: str
    note: str
    columns: Sequence[Column]


_UNITS = {
    Kind.KWH: " (kWh)",
    Kind.EURO: " (€)",
    Kind.CENT: " (ct/kWh)",
    Kind.SHARE: " (%)",
}


def _column(title: str, kind: Kind, values: Sequence[Any]) -> Column:
    return Column(title + _UNITS.get(kind, ""), kind, values)


def _sheet(reader: Reader, key: str, columns: Sequence[Column]) -> Sheet:
    w = reader.words
    return Sheet(w(f"sheet.{key}"), w(f"{key}.title"), w(f"sheet.{key}.note"), columns)


def _days(reader: Reader) -> list[str]:
    first = reader.period.first_slot
    count = reader.period.slots // SLOTS_PER_DAY
    return [day_of(first + SLOTS_PER_DAY * at).isoformat() for at in range(count)]


def _by_day(values: Masked) -> list[int | None]:
    """Sums by day; None where nothing is known."""
    found = []
    for at in range(0, len(values), SLOTS_PER_DAY):
        part = values[at : at + SLOTS_PER_DAY]
        found.append(total(part) if part.count() else None)
    return found


def figures(reader: Reader) -> Sheet:
    """Key figures; each in the unit of its row."""
    w = reader.words
    names = [n for _, group in FIGURE_GROUPS for n in group if n in reader.figures]
    rows = [reader.figures[name] for name in names]
    # A column has one format, and rows here have many units: as text they read as in the report.
    return _sheet(
        reader,
        "figures",
        [
            _column(w("head.figure"), Kind.TEXT, [w(f"figure.{name}") for name in names]),
            _column(
                w("head.now"), Kind.TEXT, [w.figure(row["value"], row["unit"]) for row in rows]
            ),
            _column(
                w("head.before"), Kind.TEXT, [w.figure(row["before"], row["unit"]) for row in rows]
            ),
            _column(
                w("head.change"),
                Kind.TEXT,
                [w.change(row["value"], row["before"], row["unit"]) for row in rows],
            ),
            _column(w("head.basis"), Kind.TEXT, [w.of("basis", row["basis"]) for row in rows]),
            _column(w("head.table"), Kind.TEXT, names),
            _column(w("sheet.raw"), Kind.COUNT, [row["value"] for row in rows]),
            _column(w("sheet.raw_unit"), Kind.TEXT, [row["unit"] for row in rows]),
        ],
    )


def energy(reader: Reader) -> Sheet:
    """The balance day by day."""
    names = (
        *("import_wh", "export_wh", "own_use_wh", "traded_wh", "grid_in_wh", "grid_out_wh"),
        "residual_wh",
    )
    return _sheet(
        reader,
        "energy",
        [
            _column(reader.words("head.day"), Kind.TEXT, _days(reader)),
            *(
                _column(
                    reader.words(f"figure.{name}"),
                    Kind.KWH,
                    _by_day(reader.by_slot("slots", name)),
                )
                for name in names
            ),
        ],
    )


def trade(reader: Reader) -> Sheet:
    """Volume and prices day by day."""
    w = reader.words
    price, volume = reader.by_slot("prices", "price"), reader.by_slot("prices", "volume_wh")
    means: list[int | None] = []
    for at in range(0, reader.period.slots, SLOTS_PER_DAY):
        part = slice(at, at + SLOTS_PER_DAY)
        known = ~np.ma.getmaskarray(price[part])
        wh = total(volume[part][known])
        means.append(total(price[part][known] * volume[part][known]) // wh if wh else None)
    counted: Masked = np.ma.MaskedArray(
        np.ones(reader.period.slots, dtype=np.int64), mask=price.mask
    )
    return _sheet(
        reader,
        "trade",
        [
            _column(w("head.day"), Kind.TEXT, _days(reader)),
            _column(w("figure.cleared_wh"), Kind.KWH, _by_day(volume)),
            _column(w("figure.slots_with_trade"), Kind.COUNT, _by_day(counted)),
            _column(w("figure.mean_price"), Kind.CENT, means),
            *(
                _column(w(f"sheet.{name}"), kind, _by_day(reader.by_slot("prices", name)))
                for name, kind in (("bid_wh", Kind.KWH), ("ask_wh", Kind.KWH))
            ),
        ],
    )


def settlement(reader: Reader) -> Sheet:
    """Deliveries and money day by day."""
    w = reader.words
    kinds = (
        ("cleared_wh", Kind.KWH, "figure.cleared_wh"),
        ("delivered_wh", Kind.KWH, "figure.traded_wh"),
        ("turnover", Kind.EURO, "figure.turnover"),
        ("fees", Kind.EURO, "figure.grid_fees"),
        ("buyers_paid", Kind.EURO, "sheet.buyers_paid"),
        ("penalties", Kind.EURO, "figure.penalties"),
    )
    return _sheet(
        reader,
        "settlement",
        [
            _column(w("head.day"), Kind.TEXT, _days(reader)),
            *(
                _column(w(key), kind, _by_day(reader.by_slot("settlement", name)))
                for name, kind, key in kinds
            ),
        ],
    )


def quality(reader: Reader) -> Sheet:
    """Readings by quality day by day; a day with a small group says that it is kept back."""
    w = reader.words
    meters, measured = reader.by_slot("quality", "meters"), reader.by_slot("quality", "measured")
    hidden = _by_day(
        np.ma.MaskedArray(
            (~np.ma.getmaskarray(meters) & np.ma.getmaskarray(measured)).astype(np.int64)
        )
    )
    columns = [_column(w("head.day"), Kind.TEXT, _days(reader))]
    for name in ("measured", "estimated", "substituted", "missing", "invalid", "erased"):
        values: list[Any] = list(_by_day(reader.by_slot("quality", name)))
        for at, slots in enumerate(hidden):
            if slots:
                values[at] = w("kept_back")
        columns.append(_column(w(f"quality.{name}"), Kind.COUNT, values))
    return _sheet(reader, "quality", columns)


def gains(reader: Reader) -> Sheet:
    """Groups day by day; what is kept back says so."""
    w = reader.words
    rows = reader.rows("groups")
    kinds = (
        ("homes", Kind.COUNT, "head.homes"),
        ("import_wh", Kind.KWH, "head.drawn"),
        ("export_wh", Kind.KWH, "head.fed"),
        ("sold_wh", Kind.KWH, "head.sold"),
        ("bought_wh", Kind.KWH, "head.bought"),
        ("taken_wh", Kind.KWH, "sheet.taken"),
        ("received", Kind.EURO, "sheet.received"),
        ("paid", Kind.EURO, "sheet.paid"),
        ("gain", Kind.EURO, "gains.gain"),
        ("saving", Kind.EURO, "gains.saving"),
    )
    columns = [
        _column(w("head.day"), Kind.TEXT, [row["day"] for row in rows]),
        _column(w("head.group"), Kind.TEXT, [w.recorded(row["group"]) for row in rows]),
    ]
    for name, kind, key in kinds:
        values = [w("kept_back") if row["homes"] is None else row[name] for row in rows]
        columns.append(_column(w(key), kind, values))
    return _sheet(reader, "gains", columns)


Field = tuple[str, str, Kind]
"""Column of the table, key of its title, kind."""


def _listed(reader: Reader, key: str) -> Sheet:
    """A sheet of `LISTED`."""
    w = reader.words
    table, fields = LISTED[key]
    rows = reader.content.tables[table].slice(0, MOST_ROWS).to_pylist()

    def cells(name: str, kind: Kind) -> list[Any]:
        if kind is not Kind.TEXT:
            return [row[name] for row in rows]
        if name.endswith("_at") or name == "at":
            return [None if row[name] is None else w.time(row[name]) for row in rows]
        return [None if row[name] is None else w.recorded(str(row[name])) for row in rows]

    return _sheet(reader, key, [_column(w(t), kind, cells(name, kind)) for name, t, kind in fields])


LISTED: Mapping[str, tuple[str, tuple[Field, ...]]] = {
    "balancing": (
        "actions",
        (
            ("start", "head.window", Kind.TEXT),
            ("slots", "head.slots", Kind.COUNT),
            ("what", "head.device", Kind.TEXT),
            ("value", "head.value", Kind.COUNT),
            ("ordered_wh", "head.ordered", Kind.KWH),
            ("forecast_low_wh", "sheet.low", Kind.KWH),
            ("forecast_wh", "head.forecast", Kind.KWH),
            ("forecast_high_wh", "sheet.high", Kind.KWH),
            ("without_wh", "head.without", Kind.KWH),
            ("measured_wh", "head.metered", Kind.KWH),
            ("proposal", "head.proposal", Kind.TEXT),
        ),
    ),
    "forecasts": (
        "scores",
        (
            ("day", "head.day", Kind.TEXT),
            ("forecaster", "head.forecaster", Kind.TEXT),
            ("state", "head.outcome", Kind.TEXT),
            ("loss", "sheet.loss", Kind.COUNT),
            ("naive_loss", "sheet.naive_loss", Kind.COUNT),
            ("slots_scored", "head.slots", Kind.COUNT),
            ("slashed", "scores.slash", Kind.EURO),
            ("rewarded", "scores.gain", Kind.EURO),
        ),
    ),
    "spending": (
        "payments",
        (
            ("number", "sheet.number", Kind.COUNT),
            ("paid_at", "head.when", Kind.TEXT),
            ("name", "sheet.budget", Kind.TEXT),
            ("reference", "head.what_for", Kind.TEXT),
            ("payee", "sheet.payee", Kind.TEXT),
            ("amount", "head.amount", Kind.EURO),
            ("kind", "head.lane", Kind.TEXT),
            ("votes_for", "vote.for", Kind.COUNT),
            ("votes_against", "vote.against", Kind.COUNT),
            ("proposal", "head.proposal", Kind.TEXT),
            ("tx", "head.transaction", Kind.TEXT),
        ),
    ),
    "governance": (
        "proposals",
        (
            ("created_at", "head.when", Kind.TEXT),
            ("title", "head.proposal", Kind.TEXT),
            ("lane", "head.lane", Kind.TEXT),
            ("members", "n.members.head", Kind.COUNT),
            ("votes_for", "vote.for", Kind.COUNT),
            ("votes_against", "vote.against", Kind.COUNT),
            ("votes_abstain", "vote.abstain", Kind.COUNT),
            ("quorum", "vote.quorum", Kind.COUNT),
            ("turnout_ppm", "head.turnout", Kind.SHARE),
            ("outcome", "head.outcome", Kind.TEXT),
            ("tx", "head.transaction", Kind.TEXT),
        ),
    ),
    "anomalies": (
        "anomalies",
        (
            ("at", "head.when", Kind.TEXT),
            ("kind", "head.kind", Kind.TEXT),
            ("subject", "sheet.subject", Kind.TEXT),
            ("detail", "head.detail", Kind.TEXT),
            ("treatment", "head.treatment", Kind.TEXT),
            ("tx", "head.transaction", Kind.TEXT),
        ),
    ),
    "gas": (
        "gas",
        (
            ("purpose", "head.purpose", Kind.TEXT),
            ("transactions", "head.transactions", Kind.COUNT),
            ("gas", "head.gas", Kind.COUNT),
            ("fee_gwei", "sheet.gwei", Kind.COUNT),
            ("energy_wh", "head.mainnet", Kind.KWH),
        ),
    ),
}
"""Sheets that are a table row by row: the table, and its columns in order."""


SHEETS: tuple[Callable[[Reader], Sheet], ...] = (
    figures,
    energy,
    trade,
    settlement,
    quality,
    partial(_listed, key="balancing"),
    partial(_listed, key="forecasts"),
    partial(_listed, key="spending"),
    partial(_listed, key="governance"),
    gains,
    partial(_listed, key="anomalies"),
    partial(_listed, key="gas"),
)
