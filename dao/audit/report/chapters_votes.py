# SPDX-License-Identifier: Apache-2.0
"""Chapters on balancing votes and on forecasts: what was expected, and what came."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from dao.audit.report import blocks, charts
from dao.audit.report.blocks import Block
from dao.audit.report.glyphs import printable, short
from dao.audit.report.reader import MOST_ROWS, Reader, more

MOST_MARKS = 36
"""Spans that a chart can show beside each other."""


# Balancing


def balancing(reader: Reader) -> list[Block]:
    """Forecast before, decision, and what was metered after."""
    w = reader.words
    found = [blocks.heading(w("balancing.title")), blocks.paragraph(w("balancing.text"))]
    actions = reader.rows("actions")
    if not actions:
        return [*found, blocks.paragraph(w("balancing.none"))]
    found += _effect_chart(reader, actions)
    titles = {row["id"]: row["title"] for row in reader.rows("proposals")}
    rows = []
    for row in actions[:MOST_ROWS]:
        rows.append(
            (
                f"{w.short_time(row['first_slot'] * 900)}, {w('minutes', n=15 * row['slots'])}",
                w.recorded(row["what"]),
                _ordered(reader, row),
                w.wh(row["forecast_wh"]),
                w.wh(row["without_wh"]),
                w.wh(row["measured_wh"]),
            )
        )
    found.append(
        blocks.table(
            [
                w("head.window"),
                w("head.device"),
                w("head.ordered"),
                w("head.forecast"),
                w("head.without"),
                w("head.metered"),
            ],
            rows,
            "llrrrr",
            [1.7, 1.5, 1.1, 1.1, 1.1, 1.1],
        )
    )
    found += more(reader, MOST_ROWS, len(actions), "data/actions.csv")
    found.append(blocks.paragraph(w("balancing.remark"), small=True))
    proposals = sorted({row["proposal"] for row in actions if row["proposal"]})
    listed = [
        f"{printable(titles[one], 160)} ({short(hex(int(one)))})"
        for one in proposals
        if one in titles
    ]
    if listed:
        found.append(blocks.heading(w("balancing.decided"), 2))
        found.append(blocks.points(listed[:12]))
        found += more(reader, 12, len(listed), "data/proposals.csv")
    return found + _grid(reader)


def _ordered(reader: Reader, row: dict[str, Any]) -> str:
    if row["ordered_wh"] is not None:
        return reader.words.wh(row["ordered_wh"])
    return reader.words.integer(row["value"])


def _effect_chart(reader: Reader, actions: list[dict[str, Any]]) -> list[Block]:
    """One span for each window; for each bin where there are too many."""
    w = reader.words
    names = ("forecast_low_wh", "forecast_wh", "forecast_high_wh", "without_wh", "measured_wh")
    known = [
        row
        for row in actions
        if reader.period.has(row["first_slot"]) and all(row[name] is not None for name in names)
    ]
    if not known:
        return [blocks.paragraph(w("balancing.no_forecast"))]
    groups: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    by_window = len(known) <= MOST_MARKS
    for row in known:
        if by_window:
            key = (row["first_slot"], w.short_time(row["first_slot"] * 900))
        else:
            at = reader.bin_of(row["first_slot"])
            key = (at, reader.bins.labels[at])
        groups[key].append(row)
    sums = [
        [sum(row[name] for row in groups[key]) / 1_000 for name in names] for key in sorted(groups)
    ]
    labels = [label for _, label in sorted(groups)]
    if by_window:
        labels = _short_labels(labels)
    svg = charts.ranges(
        labels,
        [(s[0], s[1], s[2]) for s in sums],
        [
            charts.Line(w("balancing.without"), [s[3] for s in sums], charts.AMBER, "ring"),
            charts.Line(w("balancing.metered"), [s[4] for s in sums], charts.INK, "dot"),
        ],
        "kWh",
        reader.axis,
        (w("forecast.band"), w("forecast.median")),
    )
    inside = sum(
        1 for row in known if row["forecast_low_wh"] <= row["without_wh"] <= row["forecast_high_wh"]
    )
    return [
        blocks.chart(
            svg,
            w("balancing.chart" if by_window else f"balancing.chart.{reader.bins.name}"),
            w("balancing.alt", inside=w.integer(inside), windows=w.integer(len(known))),
        ),
        blocks.paragraph(
            w("balancing.inside", inside=w.integer(inside), windows=w.integer(len(known)))
        ),
    ]


def _short_labels(labels: list[str]) -> list[str]:
    """The day only where it changes."""
    found, day = [], ""
    for label in labels:
        head, _, clock = label.rpartition(" ")
        found.append(label if head != day else clock)
        day = head
    return found


def _grid(reader: Reader) -> list[Block]:
    w = reader.words
    found = [blocks.heading(w("grid.title"), 2)]
    rows = reader.rows("grid")
    if not rows:
        return [*found, blocks.paragraph(w("grid.none"))]

    def said(row: dict[str, Any], name: str) -> str:
        value = row[name]
        if value is None:
            return "–"
        if row["unit"] == "ppm of rated":
            return w.share(value)
        if row["unit"] == "millionths per unit":
            return w.decimal(value, 1_000_000, 3)
        return w.integer(value)

    names = ("measured", "without", "forecast_before", "forecast_after")
    listed = [
        (
            printable(row["day"], 20),
            w.recorded(row["quantity"]),
            *(said(row, name) for name in names),
        )
        for row in rows[:MOST_ROWS]
    ]
    head = [w("head.day"), w("head.quantity"), *(w(f"grid.{name}") for name in names)]
    found.append(blocks.paragraph(w("grid.text")))
    found.append(blocks.table(head, listed, "llrrrr", [1, 2, 1, 1, 1, 1]))
    return found + more(reader, MOST_ROWS, len(rows), "data/grid.csv")


# Forecasts


def forecasts(reader: Reader) -> list[Block]:
    """How good they were, and good for whom."""
    w = reader.words
    found = [blocks.heading(w("forecasts.title")), blocks.paragraph(w("forecasts.text"))]
    if not reader.count("forecasts"):
        return [*found, blocks.paragraph(w("forecasts.none"))]
    found.append(
        blocks.cards(
            [
                (
                    w("forecasts.coverage"),
                    reader.shown("forecast_coverage_ppm"),
                    w("forecasts.coverage_goal"),
                ),
                (
                    w("forecasts.loss"),
                    reader.shown("forecast_loss_of_naive_ppm"),
                    w("forecasts.loss_goal"),
                ),
                (w("forecasts.bias"), reader.shown("forecast_bias_wh"), w("forecasts.bias_goal")),
            ]
        )
    )
    found.append(_fan(reader))
    found.append(blocks.heading(w("fair.title"), 2))
    found.append(blocks.paragraph(w("fair.text")))
    found.append(_fairness(reader))
    found += _scores(reader)
    return found


def _fan(reader: Reader) -> Block:
    """Band, median and metered: slot by slot, or over a mean day."""
    w = reader.words
    slots = reader.ints("forecasts", "slot").filled(0)
    windowed = np.array(reader.texts("forecasts", "in_window"), dtype=bool)
    everywhere = (slots >= reader.period.first_slot) & (slots < reader.period.end_slot)
    if reader.bins.name == "hour":
        places, bins = slots - reader.period.first_slot, reader.period.slots
        labels = [reader.bins.labels[at // 4] if at % 4 == 0 else "" for at in range(bins)]
        caption = w("forecasts.chart")
    else:
        places, bins = slots % 96, 96
        labels = [f"{at // 4:02d}" if at % 4 == 0 else "" for at in range(96)]
        caption = w("forecasts.chart_mean")

    def mean(column: str, chosen: np.ndarray) -> list[float | None]:
        values = reader.ints("forecasts", column).filled(0)[chosen] / 1_000
        counts = np.bincount(places[chosen], minlength=bins)
        sums = np.bincount(places[chosen], weights=values, minlength=bins)
        return [float(s / n) if n else None for s, n in zip(sums, counts, strict=True)]

    low, middle, high = (mean(name, everywhere) for name in ("q10", "q50", "q90"))
    svg = charts.lines(
        labels,
        [
            charts.Line(w("forecast.median"), middle, charts.BLUE, "dash"),
            charts.Line(w("balancing.metered"), mean("net_wh", everywhere & ~windowed), charts.INK),
            charts.Line(
                w("forecasts.metered_action"),
                mean("net_wh", everywhere & windowed),
                charts.AMBER,
                "thin",
            ),
        ],
        w("unit.kwh_slot"),
        reader.axis,
        band=(w("forecast.band"), low, high),
        height=180,
    )
    alt = w("forecasts.alt", coverage=reader.shown("forecast_coverage_ppm"))
    return blocks.chart(svg, caption, alt)


def _fairness(reader: Reader) -> Block:
    """Coverage and bias by time of day, inside and outside of actions."""
    w = reader.words
    slots = reader.ints("forecasts", "slot").filled(0)
    inside = np.array(reader.texts("forecasts", "inside"), dtype=bool)
    windowed = np.array(reader.texts("forecasts", "in_window"), dtype=bool)
    bias = reader.ints("forecasts", "q50").filled(0) - reader.ints("forecasts", "net_wh").filled(0)
    hour = slots % 96 // 4
    kinds = [
        (w("fair.night"), ~windowed & (hour < 6)),
        (w("fair.morning"), ~windowed & (hour >= 6) & (hour < 12)),
        (w("fair.afternoon"), ~windowed & (hour >= 12) & (hour < 18)),
        (w("fair.evening"), ~windowed & (hour >= 18)),
        (w("fair.windows"), windowed),
    ]
    rows = []
    for name, chosen in kinds:
        count = int(chosen.sum())
        hits = int((inside & chosen).sum())
        off = int(bias[chosen].sum())
        rows.append(
            (
                name,
                w.integer(count),
                w.share(hits * 1_000_000 // count) if count else "–",
                w.wh(int(off / count)) if count else "–",
            )
        )
    return blocks.table(
        [w("head.time"), w("head.slots"), w("head.coverage"), w("head.bias")],
        rows,
        "lrrr",
        [2.2, 1, 1, 1.2],
    )


def _scores(reader: Reader) -> list[Block]:
    w = reader.words
    people: dict[str, dict[str, Any]] = {}
    for row in reader.rows("scores"):
        one = people.setdefault(
            row["forecaster"],
            {"scored": 0, "unscored": 0, "missed": 0, "loss": 0, "naive": 0, "slash": 0, "gain": 0},
        )
        if row["state"] in one:
            one[row["state"]] += 1
        one["loss"] += row["loss"] or 0
        one["naive"] += row["naive_loss"] or 0
        one["slash"] += row["slashed"]
        one["gain"] += row["rewarded"]
    if not people:
        return []
    rows = [
        (
            short(who),
            w.integer(one["scored"]),
            w.integer(one["unscored"]),
            w.integer(one["missed"]),
            w.share(one["loss"] * 1_000_000 // one["naive"]) if one["naive"] else "–",
            w.money(one["slash"]),
            w.money(one["gain"]),
        )
        for who, one in sorted(people.items())
    ]
    head = [
        w("head.forecaster"),
        *(
            w(f"scores.{name}")
            for name in ("scored", "unscored", "missed", "loss", "slash", "gain")
        ),
    ]
    return [
        blocks.heading(w("scores.title"), 2),
        blocks.table(head, rows[:MOST_ROWS], "lrrrrrr", [1.6, 1, 1, 1, 1.1, 1, 1], code=(0,)),
        *more(reader, MOST_ROWS, len(rows), "data/scores.csv"),
    ]
