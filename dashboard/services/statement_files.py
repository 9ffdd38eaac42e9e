# SPDX-License-Identifier: Apache-2.0
"""A statement as files: a PDF to read (typst, its own fonts, tagged for screen readers), and a CSV
that holds every number exactly, with the transactions to check it by."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dao.errors import CheckFailed
from dao.slots import slot_start
from dashboard.i18n import Formats, Locale, _, speaking
from dashboard.services import statement_words as words
from dashboard.services.my_data import month_start
from dashboard.services.statement import Statement
from dashboard.services.statement_words import Line
from meters.secrets import month_name

_TEMPLATE = Path(__file__).with_name("statement.typ")


def base_name(one: Statement) -> str:
    """A file's name for a statement: of numbers only."""
    return f"statement-{one.account}-{month_name(one.month)}"


# CSV: English names that never change, whole numbers


def csv_text(one: Statement, chain_id: int, market: str) -> str:
    """The statement as CSV: part, name, source, and Wh, µ€ per Wh, µ€ as whole numbers.

    Every cell is of numbers, hex and our own words, so none begins as a formula does; a minus
    stands before digits only.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(
        ("part", "name", "source", "wh", "micro_euro_per_wh", "micro_euro", "transactions")
    )
    for row in csv_rows(one, chain_id, market):
        writer.writerow(["" if cell is None else cell for cell in row])
    return out.getvalue()


Row = tuple[str, str, str, int | None, int | None, "int | str | None", str]


def csv_rows(one: Statement, chain_id: int, market: str) -> list[Row]:
    """The rows of `csv_text`. In the home's favour is positive."""
    meter, tariffs = one.metered, one.tariffs
    about: list[tuple[str, int | str]] = [
        ("metering_point", one.account),
        ("zone", one.zone),
        ("month_utc", month_name(one.month)),
        ("state", one.state.value),
        ("chain_id", chain_id),
        ("market", market),
        ("slots_expected", meter.expected),
        ("slots_known", meter.known),
        ("slots_estimated", meter.estimated),
        ("orders_open", one.open_orders),
        ("orders_unfilled", one.unfilled),
    ]
    rows: list[Row] = [("about", name, "", None, None, value, "") for name, value in about]
    rows += [
        ("metered", "import", words.METER, meter.import_wh, None, None, ""),
        ("metered", "export", words.METER, meter.export_wh, None, None, ""),
        ("trade", "sales", words.CHAIN, one.sold_wh, None, one.sales, ""),
        ("trade", "penalties", words.CHAIN, None, None, -one.penalties, ""),
        ("trade", "purchases", words.CHAIN, one.bought_wh, None, -one.purchases, ""),
        ("trade", "grid_fees_in_purchases", words.CHAIN, None, None, _minus(one.fees), ""),
        ("trade", "refunds", words.CHAIN, None, None, one.refunds, ""),
        ("trade", "not_split", words.CHAIN, None, None, one.unsplit, ""),
        ("trade", "corrections", words.CHAIN, -one.given_back_wh, None, one.corrected, ""),
        ("trade", "sum", words.CHAIN, None, None, one.traded, ""),
        (
            "supplier",
            "rest_of_import",
            words.TARIFF,
            one.rest_import_wh,
            tariffs.retail,
            -one.import_bill,
            "",
        ),
        (
            "supplier",
            "rest_of_export",
            words.TARIFF,
            one.rest_export_wh,
            tariffs.feed_in,
            one.export_credit,
            "",
        ),
        ("result", "month", words.TARIFF, None, None, -one.total, ""),
        ("result", "without_market", words.TARIFF, None, None, -one.without_market, ""),
        ("result", "better_by", words.TARIFF, None, None, one.better, ""),
        ("account", "opening", words.CHAIN, None, None, one.money.opening, ""),
    ]
    for kind, amount in sorted(one.money.by_kind.items()):
        rows.append(("account", kind, words.CHAIN, None, None, amount, ""))
    rows.append(("account", "closing", words.CHAIN, None, None, one.money.closing, ""))
    for line in one.orders:
        side = "sold" if line.sells else "bought"
        name = f"{slot_start(line.session):%Y-%m-%dT%H:%MZ} {side} {line.position}"
        hashes = " ".join(line.transactions)
        rows.append(("order", name, words.CHAIN, line.delivered_wh, None, line.net, hashes))
    for made in one.corrections:
        name = f"{slot_start(made.slot):%Y-%m-%dT%H:%MZ} {made.kind}"
        rows.append(("correction", name, words.CHAIN, made.wh, None, made.amount, made.tx))
    return rows


def _minus(value: int | None) -> int | None:
    return None if value is None else -value


# PDF


def pdf(one: Statement, locale: Locale) -> bytes:
    """The statement as PDF/UA, at most two pages. CheckFailed where it cannot be made."""
    import typst

    with speaking(locale):
        content = json.dumps(_content(one, Formats(locale), locale))
    try:
        return bytes(
            typst.compile(
                _TEMPLATE.read_bytes(),
                format="pdf",
                ignore_system_fonts=True,
                pdf_standards=["ua-1"],
                sys_inputs={"content": content},
                # The same month makes the same file.
                timestamp=month_start(one.month + 1),
            )
        )
    except (RuntimeError, ValueError) as error:
        raise CheckFailed(f"the statement cannot be set: {str(error)[:200]}") from error


def _content(one: Statement, fmt: Formats, locale: Locale) -> dict[str, Any]:
    title = _("Energy statement, {month}").format(month=words.month_title(one.month, fmt))

    def table(heading: str, lines: Sequence[Line]) -> dict[str, Any]:
        rows = [{**asdict(line), "source": words.source_name(line.source)} for line in lines]
        return {"heading": heading, "rows": rows}

    return {
        "language": locale.language,
        "title": title,
        "brand": "GridCommons",
        "facts": [
            [_("Metering point"), str(one.account)],
            [_("Zone"), str(one.zone)],
            [_("Time"), words.span(one, fmt)],
        ],
        "state": words.state_words(one),
        "final": one.state.value == "final",
        "headline": [
            [_("The month in all"), words.money(-one.total, fmt)],
            [_("Without the market"), words.money(-one.without_market, fmt)],
            [_("What trade changed"), words.money(one.better, fmt)],
        ],
        "columns": [_("What"), _("Energy"), _("Price"), _("Amount"), _("Source")],
        "tables": [
            table(_("Metered"), words.metered_lines(one, fmt)),
            table(_("Traded in the neighbourhood"), words.trade_lines(one, fmt)),
            table(_("With your supplier, and the result"), words.supplier_lines(one, fmt)),
            table(_("Your account in the market"), words.account_lines(one, fmt)),
        ],
        "notes_heading": _("Good to know"),
        "notes": words.notes(one, fmt),
        "sign": _("Plus is in your favour, minus is to your cost."),
        "page": _("Page {number} of {count}"),
    }
