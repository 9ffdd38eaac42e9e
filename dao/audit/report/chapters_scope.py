# SPDX-License-Identifier: Apache-2.0
"""Chapters on what the report is, on whose word it rests, and its key figures."""

from __future__ import annotations

from dao.audit.report import blocks
from dao.audit.report.blocks import Block
from dao.audit.report.glyphs import printable, short
from dao.audit.report.reader import Reader
from dao.audit.tables import TABLES, Basis

FIGURE_GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "energy",
        (
            *("import_wh", "export_wh", "traded_wh", "own_use_wh", "grid_in_wh", "grid_out_wh"),
            *("residual_wh", "matched_by_the_hour_ppm", "matched_by_the_period_ppm"),
        ),
    ),
    (
        "trade",
        (
            *("cleared_wh", "slots_with_trade", "median_price", "mean_price", "feed_in_tariff"),
            *("retail_tariff", "orders", "orders_turned_away", "orders_promised"),
            *("orders_not_posted", "largest_seller_ppm", "seller_concentration_ppm"),
            *("largest_buyer_ppm", "buyer_concentration_ppm"),
        ),
    ),
    (
        "money",
        (
            *("turnover", "grid_fees", "penalties", "sellers_over_feed_in", "buyers_under_retail"),
            *("sessions", "sessions_settled", "sessions_not_conserved", "public_spending"),
            "payments",
        ),
    ),
    (
        "clearing",
        (
            *("clearing_efficiency_ppm", "clearing_irrational", "clearing_envious"),
            "clearing_unbalanced_wh",
        ),
    ),
    (
        "meters",
        (
            *("readings", "readings_measured_ppm", "readings_estimated_ppm"),
            *("readings_substituted_ppm", "readings_missing_ppm", "edit_records", "batches"),
            "batches_corrected",
        ),
    ),
    (
        "forecasts",
        (
            *("forecast_coverage_ppm", "forecast_bias_wh", "forecast_loss_of_naive_ppm"),
            *("days_scored", "balancing_actions"),
        ),
    ),
    (
        "people",
        (
            *("proposals", "proposals_executed", "ballots", "median_turnout_ppm"),
            *("members_who_vote", "largest_delegate_ppm", "vote_concentration_ppm"),
        ),
    ),
    ("machine", ("anomalies", "transactions", "gas", "gas_energy_wh")),
)


# Statement and scope


def scope(reader: Reader) -> list[Block]:
    """What this report is, and of what."""
    w, s = reader.words, reader.scope
    begin, end = reader.period.days
    rows = [
        (w("scope.zone"), str(s.period.zone)),
        (w("scope.period"), f"{w.days(begin, end)} (UTC)"),
        (w("scope.homes"), _homes(reader)),
        (w("scope.as_of"), f"{w.time(s.as_of)} UTC"),
        (w("scope.chain"), str(s.chain_id)),
        (
            w("scope.blocks"),
            w(
                "scope.blocks_value",
                first=w.integer(s.market_block),
                last=w.integer(s.last_block.number),
                deployed=w.integer(s.first_block),
            ),
        ),
        (w("scope.last_hash"), short(s.last_block.hash)),
        (
            w("scope.tariffs"),
            w(
                "scope.tariffs_value",
                retail=w.price(s.tariffs.get("retail")),
                feed_in=w.price(s.tariffs.get("feed_in")),
            ),
        ),
        (w("scope.software"), printable(s.software, 80)),
        (w("scope.corrects"), short(s.corrects) if s.corrects else w("scope.corrects_none")),
    ]
    found = [
        blocks.heading(w("scope.title")),
        blocks.paragraph(w("scope.text")),
        blocks.table([w("head.what"), w("head.value")], rows, "ll", [1, 2.6]),
        blocks.heading(w("scope.contracts"), 2),
        blocks.table(
            [w("head.contract"), w("head.address"), w("head.code")],
            [
                (
                    printable(name, 40),
                    printable(one.address, 42, breaks=False),
                    short(printable(one.code, 66, breaks=False)),
                )
                for name, one in sorted(s.contracts.items())
            ],
            "lll",
            [1.3, 2.6, 1],
            code=(1, 2),
        ),
    ]
    if s.corrects:
        found += _changes(reader)
    return found


def _homes(reader: Reader) -> str:
    homes = reader.ints("slots", "homes")
    low, high = int(homes.min()), int(homes.max())
    w = reader.words
    return w.integer(low) if low == high else f"{w.integer(low)} – {w.integer(high)}"


def _changes(reader: Reader) -> list[Block]:
    w = reader.words
    tables = reader.texts("changes", "table")
    kinds = reader.texts("changes", "change")
    counts = {
        name: [
            sum(1 for t, k in zip(tables, kinds, strict=True) if t == name and k == kind)
            for kind in ("changed", "added", "removed")
        ]
        for name in TABLES
        if name in set(tables)
    }
    rows = [(name, *(w.integer(n) for n in found)) for name, found in counts.items()]
    head = [w("head.table"), w("head.changed"), w("head.added"), w("head.removed")]
    found = [blocks.heading(w("changes.title"), 2), blocks.paragraph(w("changes.text"))]
    if rows:
        found.append(blocks.table(head, rows, "lrrr", [2, 1, 1, 1]))
    else:
        found.append(blocks.paragraph(w("changes.none")))
    return found


# On whose word


def proof(reader: Reader) -> list[Block]:
    """What can be proved, and what rests on whose word."""
    w = reader.words
    rows = []
    for basis in Basis:
        names = [t.name for t in TABLES.values() if t.basis is basis]
        rows.append((w(f"basis.{basis}"), w(f"basis.{basis}.text"), ", ".join(names)))
    return [
        blocks.heading(w("proof.title")),
        blocks.paragraph(w("proof.text")),
        blocks.table(
            [w("head.basis"), w("head.meaning"), w("head.tables")], rows, "lll", [1, 2.6, 2]
        ),
        blocks.paragraph(w("proof.limits")),
        blocks.points([w(f"proof.limit.{at}") for at in range(1, 6)]),
    ]


# Key figures


def figures(reader: Reader) -> list[Block]:
    """Every key figure, with its change and basis."""
    w = reader.words
    found = [blocks.heading(w("figures.title")), blocks.paragraph(w("figures.text"))]
    head = [w("head.figure"), w("head.now"), w("head.before"), w("head.change"), w("head.basis")]
    for group, names in FIGURE_GROUPS:
        rows = []
        for name in names:
            if (row := reader.figures.get(name)) is None:
                continue
            value, before, unit = row["value"], row["before"], row["unit"]
            rows.append(
                (
                    w(f"figure.{name}"),
                    w.figure(value, unit),
                    w.figure(before, unit),
                    w.change(value, before, unit),
                    w.of("basis", row["basis"]),
                )
            )
        found.append(blocks.heading(w(f"figures.{group}"), 2))
        found.append(blocks.table(head, rows, "lrrrl", [3.4, 1.5, 1.5, 1.2, 1.5]))
    found.append(blocks.paragraph(w("figures.remark"), small=True))
    return found
