# SPDX-License-Identifier: Apache-2.0
"""Chapters on how the machine did: what went wrong, the clearing, its cost, carbon, privacy, and
how to check all of it. And the first page."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from dao.audit.operator_rules import MIN_HOMES
from dao.audit.report import blocks, charts
from dao.audit.report.blocks import Block
from dao.audit.report.glyphs import short
from dao.audit.report.reader import MOST_ROWS, Reader, more, total

# The first page


def opening(reader: Reader) -> list[Block]:
    """Statement, key figures at a glance, and what went well and what did not."""
    w = reader.words
    good, bad = verdicts(reader)
    first = [
        ("import_wh", "card.import"),
        ("traded_wh", "card.traded"),
        ("matched_by_the_hour_ppm", "card.matched"),
        ("mean_price", "card.price"),
        ("buyers_under_retail", "card.saved"),
        ("readings_measured_ppm", "card.measured"),
    ]
    cards = []
    for name, remark in first:
        change = reader.change(name)
        text = w(remark)
        if change != "–":
            text = w("card.change", change=change)
        label = w("card.saving.label" if name == "buyers_under_retail" else f"figure.{name}")
        cards.append((label, reader.shown(name), text))
    return [
        blocks.paragraph(w("opening.text", zone=reader.period.zone)),
        blocks.cards(cards),
        blocks.pair(
            blocks.box("good", w("opening.good"), good or [w("opening.nothing")]),
            blocks.box("bad", w("opening.bad"), bad or [w("opening.nothing")]),
        ),
        blocks.paragraph(w("opening.proof"), small=True),
    ]


def verdicts(reader: Reader) -> tuple[list[str], list[str]]:
    """What went well and what went wrong, by the same rules for both."""
    w = reader.words
    good: list[str] = []
    bad: list[str] = []

    def say(is_good: bool, key: str, **values: object) -> None:
        text = w(f"verdict.{key}.{'good' if is_good else 'bad'}", **values)
        (good if is_good else bad).append(text)

    value, shown = reader.value, reader.shown
    sessions, settled = value("sessions") or 0, value("sessions_settled") or 0
    if sessions:
        say(
            settled == sessions,
            "settled",
            sessions=shown("sessions"),
            left=w.integer(sessions - settled),
        )
        faulty = value("sessions_not_conserved") or 0
        say(faulty == 0, "conserved", faulty=w.integer(faulty))
    efficiency = value("clearing_efficiency_ppm")
    if efficiency is not None:
        slips = sum(value(f"clearing_{n}") or 0 for n in ("irrational", "envious", "unbalanced_wh"))
        is_best = efficiency >= 999_000 and slips == 0
        say(is_best, "clearing", share=shown("clearing_efficiency_ppm"), slips=w.integer(slips))
    for name in ("buyers_under_retail", "sellers_over_feed_in"):
        if (amount := value(name)) is not None and value("traded_wh"):
            say(amount >= 0, name, amount=w.money(abs(amount)))
    if value("readings"):
        rest = [value(f"readings_{n}_ppm") or 0 for n in ("estimated", "substituted", "missing")]
        say(
            sum(rest) == 0,
            "measured",
            share=shown("readings_measured_ppm"),
            missing=shown("readings_missing_ppm"),
        )
    _forecast_verdicts(reader, say)
    promised, broken = value("orders_promised"), value("orders_not_posted")
    if promised is None:
        bad.append(w("verdict.promises.unknown"))
    else:
        say(not broken, "promises", promised=w.integer(promised), broken=w.integer(broken or 0))
    for name, amount, text in (
        ("turned_away", value("orders_turned_away"), shown("orders_turned_away")),
        ("penalties", value("penalties"), shown("penalties")),
        ("corrected", value("batches_corrected"), shown("batches_corrected")),
        ("residual", value("residual_wh"), w.wh(abs(value("residual_wh") or 0))),
    ):
        if amount:
            bad.append(w(f"verdict.{name}.bad", amount=text))
    records = value("anomalies") or 0
    say(records == 0, "anomalies", records=w.integer(records))
    return good, bad


def _forecast_verdicts(reader: Reader, say: Any) -> None:
    value, shown = reader.value, reader.shown
    if not reader.count("forecasts"):
        say(False, "no_forecast")
        return
    loss = value("forecast_loss_of_naive_ppm")
    if loss is None:
        say(False, "unscored")
    else:
        say(loss <= 1_000_000, "loss", share=shown("forecast_loss_of_naive_ppm"))
    coverage = value("forecast_coverage_ppm")
    if coverage is not None:
        say(700_000 <= coverage <= 900_000, "coverage", share=shown("forecast_coverage_ppm"))


# What went wrong


def anomalies(reader: Reader) -> list[Block]:
    """Everything on record that should not have been."""
    w = reader.words
    found = [blocks.heading(w("anomalies.title")), blocks.paragraph(w("anomalies.text"))]
    kinds = reader.texts("anomalies", "kind")
    if not kinds:
        return [*found, blocks.paragraph(w("anomalies.none"))]
    counts = Counter(kinds)
    if len(counts) > 1 or len(kinds) > MOST_ROWS:
        sums = [(w.recorded(kind), w.integer(counts[kind])) for kind in sorted(counts)]
        found.append(blocks.table([w("head.kind"), w("head.count")], sums, "lr", [3, 1]))
    # Of each kind the first ones, so that no common kind hides a rare one.
    most = max(3, MOST_ROWS // len(counts))
    left: Counter[str] = Counter()
    rows = []
    for row in reader.content.tables["anomalies"].slice(0, 20_000).to_pylist():
        left[row["kind"]] += 1
        if left[row["kind"]] > most:
            continue
        rows.append(
            (
                w.short_time(row["at"]),
                f"{w.recorded(row['kind'])}: {w.recorded(row['subject'])}",
                w.recorded(row["detail"]),
                w.recorded(row["treatment"]),
            )
        )
    head = [w("head.when"), w("head.kind"), w("head.detail"), w("head.treatment")]
    found.append(blocks.table(head, rows, "llll", [0.9, 1.7, 2, 1.8]))
    return found + more(reader, len(rows), len(kinds), "data/anomalies.csv")


# Clearing


def clearing(reader: Reader) -> list[Block]:
    """Every auction computed again."""
    w = reader.words
    found = [blocks.heading(w("clearing.title")), blocks.paragraph(w("clearing.text"))]
    same = np.array(
        [
            a == b
            for a, b in zip(
                reader.texts("clearing", "price"),
                reader.texts("clearing", "replayed_price"),
                strict=True,
            )
        ],
        dtype=bool,
    )
    efficiency = reader.ints("clearing", "efficiency_ppm").compressed()
    least = int(efficiency.min()) if efficiency.size else None
    rows = [
        (w("clearing.slots"), w.integer(int(same.size)), w("clearing.slots_text")),
        (w("clearing.differ"), w.integer(int((~same).sum())), w("clearing.differ_text")),
        (
            w("figure.clearing_efficiency_ppm"),
            reader.shown("clearing_efficiency_ppm"),
            w("clearing.efficiency_text", least=w.share(least)),
        ),
        (
            w("figure.clearing_unbalanced_wh"),
            reader.shown("clearing_unbalanced_wh"),
            w("clearing.unbalanced_text"),
        ),
        (
            w("figure.clearing_irrational"),
            reader.shown("clearing_irrational"),
            w("clearing.irrational_text"),
        ),
        (
            w("figure.clearing_envious"),
            reader.shown("clearing_envious"),
            w("clearing.envious_text"),
        ),
    ]
    found.append(
        blocks.table(
            [w("head.property"), w("head.value"), w("head.meaning")], rows, "lrl", [2, 1, 3]
        )
    )
    found.append(blocks.heading(w("promises.title"), 2))
    if not reader.count("promises"):
        return [*found, blocks.paragraph(w("promises.none"))]
    fates = [
        (w(f"promises.{name}"), w.integer(total(reader.ints("promises", name))))
        for name in ("promised", "posted", "withdrawn", "not_posted")
    ]
    found.append(blocks.paragraph(w("promises.text")))
    found.append(blocks.table([w("head.orders"), w("head.count")], fates, "lr", [3, 1]))
    return found


# Cost of the chain


def gas(reader: Reader) -> list[Block]:
    """Gas, fees, and the energy that the chain itself used."""
    w = reader.words
    rows = sorted(reader.rows("gas"), key=lambda row: -row["gas"])
    found = [blocks.heading(w("gas.title")), blocks.paragraph(w("gas.text"))]
    if not rows:
        return [*found, blocks.paragraph(w("gas.none"))]
    used = sum(row["gas"] for row in rows)
    svg = charts.across(
        [(w.recorded(row["purpose"]), [row["gas"] / 1_000_000]) for row in rows],
        [],
        [charts.DARK],
        w("gas.unit"),
        reader.axis,
        [w.share(row["gas"] * 1_000_000 // used) if used else "–" for row in rows],
        left=130,
    )
    alt = w("gas.alt", most=w.recorded(rows[0]["purpose"]), gas=w.integer(used))
    found.append(blocks.chart(svg, w("gas.chart"), alt))
    listed = [
        (
            w.recorded(row["purpose"]),
            w.integer(row["transactions"]),
            w.integer(row["gas"]),
            w.integer(row["fee_gwei"]),
            w.wh(row["energy_wh"]),
        )
        for row in rows
    ]
    head = [
        w("head.purpose"),
        w("head.transactions"),
        w("head.gas"),
        w("head.fee"),
        w("head.mainnet"),
    ]
    found.append(blocks.table(head, listed, "lrrrr", [2, 1, 1.3, 1.2, 1.3]))
    energy = reader.value("gas_energy_wh") or 0
    traded = reader.value("traded_wh") or 0
    share = w.share(energy * 1_000_000 // traded) if traded else "–"
    found.append(blocks.paragraph(w("gas.energy", energy=w.wh(energy), share=share)))
    found.append(blocks.paragraph(w("gas.source"), small=True))
    return found


# Carbon


def carbon(reader: Reader) -> list[Block]:
    """The share of each hour's energy that came from the zone itself."""
    w = reader.words
    matched, drawn = reader.ints("carbon", "matched_wh"), reader.ints("carbon", "import_wh")
    first = (reader.ints("carbon", "first_slot").filled(0) - reader.period.first_slot) // 4
    days = reader.period.slots // 96
    width = 1 if days <= 62 else 7
    columns = -(-days // width)
    sums = np.zeros((2, columns, 24), dtype=np.int64)
    for at, values in enumerate((matched, drawn)):
        here = (first >= 0) & (first < 24 * days)
        hours, found_wh = first[here], values.filled(0)[here]
        np.add.at(sums[at], (hours // 24 // width, hours % 24), found_wh)
    cells: list[list[float | None]] = [
        [float(m / d) if d else None for m, d in zip(ms, ds, strict=True)]
        for ms, ds in zip(sums[0], sums[1], strict=True)
    ]
    if reader.bins.name == "hour":
        labels = [w.short_day(day) for day in _days(reader)]
    else:
        labels = list(reader.bins.labels)
    svg = charts.heat(
        labels,
        cells,
        lambda value, _: w.share(round(value * 1_000_000)),
        w("carbon.heat"),
        w("carbon.hour"),
        w("carbon.unknown"),
    )
    return [
        blocks.heading(w("carbon.title")),
        blocks.paragraph(
            w(
                "carbon.text",
                hour=reader.shown("matched_by_the_hour_ppm"),
                period=reader.shown("matched_by_the_period_ppm"),
            )
        ),
        blocks.chart(
            svg,
            w("carbon.chart.day" if width == 1 else "carbon.chart.week"),
            w("carbon.alt", hour=reader.shown("matched_by_the_hour_ppm"), best=_best_hour(sums)),
        ),
        blocks.paragraph(w("carbon.remark"), small=True),
    ]


def _days(reader: Reader) -> list[Any]:
    from dao.slots import day_of

    first = reader.period.first_slot
    return [day_of(first + 96 * at) for at in range(reader.period.slots // 96)]


def _best_hour(sums: np.ndarray) -> str:
    matched, drawn = sums[0].sum(axis=0), sums[1].sum(axis=0)
    shares = np.where(drawn > 0, matched / np.maximum(drawn, 1), 0)
    return f"{int(np.argmax(shares)):02d}"


# Privacy, method


def privacy(reader: Reader) -> list[Block]:
    """Groups and what was kept back."""
    w = reader.words
    measured = np.ma.getmaskarray(reader.by_slot("quality", "measured"))
    meters = np.ma.getmaskarray(reader.by_slot("quality", "meters"))
    slots = int((measured & ~meters).sum())
    days = {row["day"] for row in reader.rows("groups") if row["homes"] is None}
    rows = [
        (w("privacy.smallest"), _smallest(reader)),
        (w("privacy.quality"), w.count("n.slots", slots)),
        (w("privacy.groups"), w.count("n.days", len(days))),
        (w("privacy.bills"), w.integer(int(reader.content.bills.num_rows))),
    ]
    return [
        blocks.heading(w("privacy.title")),
        blocks.paragraph(w("privacy.text", homes=MIN_HOMES)),
        blocks.table([w("head.what"), w("head.value")], rows, "lr", [3, 1]),
        blocks.points([w(f"privacy.point.{at}", homes=MIN_HOMES) for at in range(1, 5)]),
    ]


def _smallest(reader: Reader) -> str:
    """The smallest group that stands behind a number of this report."""
    found = [int(reader.ints("slots", "homes").min())]
    groups = reader.ints("groups", "homes").compressed()
    if groups.size:
        found.append(int(groups.min()))
    return reader.words.count("n.homes", min(found))


def method(reader: Reader) -> list[Block]:
    """How it is made, and how anybody checks it."""
    w = reader.words
    files = [(name, w(f"file.{key}")) for name, key in _FILES]
    return [
        blocks.heading(w("method.title")),
        blocks.paragraph(w("method.text")),
        blocks.heading(w("method.verify"), 2),
        {
            "kind": "code",
            "lines": [
                "gridcommons audit verify FILE --rpc URL",
                "gridcommons audit verify FILE --rpc URL --bill SECRETFILE",
            ],
        },
        blocks.points([w(f"method.step.{at}") for at in range(1, 6)]),
        blocks.paragraph(w("method.block", hash=short(reader.scope.last_block.hash))),
        blocks.heading(w("method.files"), 2),
        blocks.table([w("head.file"), w("head.holds")], files, "ll", [1.3, 2.6], code=(0,)),
        blocks.heading(w("method.words"), 2),
        blocks.points([w(f"method.word.{at}") for at in range(1, 7)]),
    ]


_FILES = (
    ("manifest.json", "manifest"),
    ("data/*.parquet, *.csv", "data"),
    ("proofs/events.parquet", "events"),
    ("proofs/bills.parquet", "bills"),
    ("summary.xlsx", "xlsx"),
    ("ocds/releases.json", "ocds"),
    ("datapackage.json", "package"),
)
