# SPDX-License-Identifier: Apache-2.0
"""Chapters on what people decided and what it brought: spending, votes, gains."""

from __future__ import annotations

from collections import defaultdict

from dao.audit.operator_rules import MIN_HOMES
from dao.audit.report import blocks, charts
from dao.audit.report.blocks import Block
from dao.audit.report.glyphs import printable, short
from dao.audit.report.reader import MOST_ROWS, Reader, more

# Public spending


def spending(reader: Reader) -> list[Block]:
    """Each payment with its proposal, vote and transaction."""
    w = reader.words
    found = [blocks.heading(w("spending.title")), blocks.paragraph(w("spending.text"))]
    budgets = reader.rows("budgets")
    if budgets:
        shown = budgets[:12]
        svg = charts.across(
            [(_fit(printable(row["name"], 40)), [row["paid"] / 1_000_000]) for row in shown],
            [w("spending.paid")],
            [charts.DARK],
            "€",
            reader.axis,
            [
                w("spending.of", paid=w.money(row["paid"]), budget=w.money(row["amount"]))
                for row in shown
            ],
            marks=[row["amount"] / 1_000_000 for row in shown],
            mark_name=w("spending.budget"),
        )
        alt = w("spending.alt", paid=reader.shown("public_spending"), count=len(budgets))
        found.append(blocks.chart(svg, w("spending.chart"), alt))
    payments = reader.rows("payments")
    if not payments:
        return [*found, blocks.paragraph(w("spending.none"))]
    titles = {row["id"]: row["title"] for row in reader.rows("proposals")}
    rows = []
    for row in payments[:MOST_ROWS]:
        what = printable(row["reference"] or titles.get(row["proposal"], ""), 120)
        vote = "–"
        if row["votes_for"] is not None:
            vote = f"{w.integer(row['votes_for'])} : {w.integer(row['votes_against'])}"
        rows.append(
            (
                w.short_time(row["paid_at"]),
                f"{printable(row['name'], 60)}: {what}",
                w.money(row["amount"]),
                short(hex(int(row["proposal"]))),
                vote,
                short(row["tx"]),
            )
        )
    found.append(
        blocks.table(
            [
                w("head.when"),
                w("head.what_for"),
                w("head.amount"),
                w("head.proposal"),
                w("head.vote"),
                w("head.transaction"),
            ],
            rows,
            "llrlrl",
            [1, 2, 0.9, 1.3, 1.1, 1.3],
            code=(3, 5),
        )
    )
    found += more(reader, MOST_ROWS, len(payments), "data/payments.csv")
    found.append(blocks.paragraph(w("spending.ocds"), small=True))
    return found


# Governance


def governance(reader: Reader) -> list[Block]:
    """Turnout, delegation, concentration, and how each vote ended."""
    w = reader.words
    found = [
        blocks.heading(w("governance.title")),
        blocks.paragraph(
            w(
                "governance.text",
                proposals=w.count("n.proposals", reader.value("proposals") or 0),
                executed=w.integer(reader.value("proposals_executed") or 0),
                ballots=w.count("n.ballots", reader.value("ballots") or 0),
                turnout=reader.shown("median_turnout_ppm"),
            )
        ),
    ]
    proposals = reader.rows("proposals")
    if proposals:
        shown = proposals[:14]
        rows = []
        for row in shown:
            away = max(
                0, row["members"] - row["votes_for"] - row["votes_against"] - row["votes_abstain"]
            )
            rows.append(
                (
                    _fit(printable(row["title"], 60)),
                    [
                        float(row["votes_for"]),
                        float(row["votes_against"]),
                        float(row["votes_abstain"]),
                        float(away),
                    ],
                )
            )
        svg = charts.across(
            rows,
            [w("vote.for"), w("vote.against"), w("vote.abstain"), w("vote.away")],
            [charts.DARK, charts.MIDDLE, charts.PALE, "#ffffff"],
            w("vote.members"),
            reader.axis,
            [w.of("outcome", row["outcome"]) for row in shown],
            marks=[float(row["quorum"]) for row in shown],
            mark_name=w("vote.quorum"),
            left=165,
        )
        alt = w("governance.alt", count=len(shown), turnout=reader.shown("median_turnout_ppm"))
        found.append(blocks.chart(svg, w("governance.chart"), alt))
        listed = [
            (
                printable(row["title"], 160),
                w.of("lane", row["lane"]),
                w.share(row["turnout_ppm"]),
                f"{w.integer(row['votes_for'])} : {w.integer(row['votes_against'])}",
                w.of("outcome", row["outcome"]),
                short(row["tx"]),
            )
            for row in proposals[:MOST_ROWS]
        ]
        head = [
            *(w("head.proposal"), w("head.lane"), w("head.turnout"), w("head.vote")),
            *(w("head.outcome"), w("head.transaction")),
        ]
        found.append(blocks.table(head, listed, "llrrll", [2.3, 1, 0.9, 1.2, 1.1, 1.3], code=(5,)))
        found += more(reader, MOST_ROWS, len(proposals), "data/proposals.csv")
    else:
        found.append(blocks.paragraph(w("governance.none")))
    votes = reader.ints("delegates", "votes").filled(0)
    lent = int((votes[votes > 1] - 1).sum()) if votes.size else 0
    found.append(blocks.heading(w("delegation.title"), 2))
    found.append(
        blocks.paragraph(
            w(
                "delegation.text",
                members=w.count("n.members", reader.value("members_who_vote") or 0),
                delegates=w.integer(int(votes.size)),
                lent=w.integer(lent),
                largest=reader.shown("largest_delegate_ppm"),
            )
        )
    )
    return found


def _fit(text: str, most: int = 34) -> str:
    plain = text.replace("\u200b", "")
    return plain if len(plain) <= most else plain[: most - 1].rstrip() + "…"


# Who gains


def gains(reader: Reader) -> list[Block]:
    """By group of homes, with and without solar."""
    w = reader.words
    found = [blocks.heading(w("gains.title")), blocks.paragraph(w("gains.text", homes=MIN_HOMES))]
    rows = reader.rows("groups")
    if not rows:
        return [*found, blocks.paragraph(w("gains.none"))]
    shown = [row for row in rows if row["homes"] is not None]
    days = {row["day"] for row in rows}
    kept = days - {row["day"] for row in shown}
    if kept:
        found.append(
            blocks.paragraph(w("gains.hidden", days=w.count("n.days", len(kept)), homes=MIN_HOMES))
        )
    if not shown:
        return found
    sums: dict[str, dict[str, int]] = {}
    for row in shown:
        one = sums.setdefault(row["group"], defaultdict(int))
        one["least"] = min(one["least"] or row["homes"], row["homes"])
        one["most"] = max(one["most"], row["homes"])
        one["days"] += 1
        for name in ("homes", "import_wh", "export_wh", "sold_wh", "bought_wh", "gain", "saving"):
            one[name] += row[name]

    def cents(one: dict[str, int], name: str) -> float:
        return one[name] / max(1, one["homes"]) / 10_000

    names = sorted(sums)
    svg = charts.across(
        [
            (_fit(w.recorded(name), 20), [cents(sums[name], "gain"), cents(sums[name], "saving")])
            for name in names
        ],
        [w("gains.gain"), w("gains.saving")],
        [charts.DARK, charts.MIDDLE],
        w("gains.unit"),
        reader.axis,
        [_cents(reader, sums[name]) for name in names],
        left=90,
    )
    found.append(
        blocks.chart(
            svg,
            w("gains.chart"),
            w("gains.alt")
            + " "
            + " ".join(f"{w.recorded(name)}: {_cents(reader, sums[name])}." for name in names),
        )
    )
    listed = [
        (
            w.recorded(name),
            _span(reader, sums[name]),
            w.wh(sums[name]["import_wh"]),
            w.wh(sums[name]["export_wh"]),
            w.wh(sums[name]["sold_wh"]),
            w.wh(sums[name]["bought_wh"]),
            w.money(sums[name]["gain"]),
            w.money(sums[name]["saving"]),
        )
        for name in names
    ]
    head = [
        *(w("head.group"), w("head.homes"), w("head.drawn"), w("head.fed"), w("head.sold")),
        *(w("head.bought"), w("gains.gain"), w("gains.saving")),
    ]
    found.append(blocks.table(head, listed, "lrrrrrrr", [1.3, 0.8, 1.2, 1.2, 1.1, 1.1, 1, 1]))
    found.append(blocks.paragraph(w("gains.remark"), small=True))
    return found


def _span(reader: Reader, one: dict[str, int]) -> str:
    w = reader.words
    low, high = w.integer(one["least"]), w.integer(one["most"])
    return low if low == high else f"{low}–{high}"


def _cents(reader: Reader, one: dict[str, int]) -> str:
    """Gain and saving of a home on a day."""
    return (
        f"{reader.words.decimal(one['gain'] + one['saving'], 10_000 * max(1, one['homes']), 1)} ct"
    )
