# SPDX-License-Identifier: Apache-2.0
"""Chapters on energy, trade, money and the meters."""

from __future__ import annotations

from typing import Any

import numpy as np

from dao.audit.operator_rules import MIN_HOMES
from dao.audit.report import blocks, charts
from dao.audit.report.blocks import Block
from dao.audit.report.glyphs import printable
from dao.audit.report.reader import Masked, Reader, total
from dao.slots import SLOTS_PER_DAY

# Energy


def energy(reader: Reader) -> list[Block]:
    """The balance: metered = own use + traded + grid."""
    w = reader.words
    own, traded = reader.by_slot("slots", "own_use_wh"), reader.by_slot("slots", "traded_wh")
    grid_in, grid_out = (
        reader.by_slot("slots", "grid_in_wh"),
        reader.by_slot("slots", "grid_out_wh"),
    )

    def series(name: str, values: Masked, colour: str) -> charts.Series:
        return charts.Series(w(name), _thousandths(reader.by_bin(values)), colour)

    svg = charts.stacked(
        reader.bins.labels,
        [
            series("figure.own_use_wh", own, charts.DARK),
            series("figure.traded_wh", traded, charts.MIDDLE),
            series("figure.grid_in_wh", grid_in, charts.PALE),
        ],
        w(f"unit.kwh_{reader.bins.name}"),
        reader.axis,
        down=[series("figure.grid_out_wh", grid_out, charts.tint(charts.INK, 0.28))],
    )
    names = ("own_use_wh", "traded_wh", "grid_in_wh", "grid_out_wh", "residual_wh")
    drawn, fed = reader.value("import_wh") or 0, reader.value("export_wh") or 0
    rows = [(w("figure.import_wh"), w.wh(drawn), w.share(1_000_000), "")]
    rows.append((w("figure.export_wh"), w.wh(fed), "", w.share(1_000_000)))
    for name in names:
        value = reader.value(name)
        of_drawn = name in ("own_use_wh", "traded_wh", "grid_in_wh", "residual_wh")
        of_fed = name in ("own_use_wh", "traded_wh", "grid_out_wh", "residual_wh")
        rows.append(
            (
                w(f"figure.{name}"),
                w.wh(value),
                _part(reader, value, drawn) if of_drawn else "",
                _part(reader, value, fed) if of_fed else "",
            )
        )
    residual = reader.value("residual_wh") or 0
    return [
        blocks.heading(w("energy.title")),
        blocks.paragraph(w("energy.text")),
        blocks.chart(
            svg,
            w(f"energy.chart.{reader.bins.name}"),
            w(
                "energy.alt",
                drawn=w.wh(drawn),
                own=reader.shown("own_use_wh"),
                traded=reader.shown("traded_wh"),
                grid=reader.shown("grid_in_wh"),
                out=reader.shown("grid_out_wh"),
            ),
        ),
        *_short_bin(reader),
        blocks.table(
            [w("head.energy"), w("head.amount"), w("head.of_drawn"), w("head.of_fed")],
            rows,
            "lrrr",
            [2.4, 1, 1, 1],
        ),
        blocks.paragraph(
            w("energy.residual", wh=w.wh(residual)) if residual else w("energy.no_residual"),
            small=True,
        ),
    ]


def _short_bin(reader: Reader) -> list[Block]:
    """That the last bar stands for less than the others."""
    if not (left := reader.period.slots % reader.bins.slots // SLOTS_PER_DAY):
        return []
    return [blocks.paragraph(reader.words("energy.short_week", days=left), small=True)]


def _part(reader: Reader, part: int | None, whole: int) -> str:
    if part is None or not whole:
        return "–"
    return reader.words.share(part * 1_000_000 // whole)


def _thousandths(values: list[int | None]) -> list[float | None]:
    return [None if value is None else value / 1_000 for value in values]


# Trade


def trade(reader: Reader) -> list[Block]:
    """Volume and prices against the tariffs, and concentration."""
    w = reader.words
    price, fee = reader.by_slot("prices", "price"), reader.by_slot("prices", "fee")
    volume = reader.by_slot("prices", "volume_wh")
    found = [
        blocks.heading(w("trade.title")),
        blocks.paragraph(
            w(
                "trade.text",
                cleared=reader.shown("cleared_wh"),
                slots=w.count("n.slots", reader.value("slots_with_trade") or 0),
                orders=w.count("n.orders", reader.value("orders") or 0),
                median=reader.shown("median_price"),
                mean=reader.shown("mean_price"),
            )
        ),
    ]
    if not price.count():
        return [*found, blocks.paragraph(w("trade.none"))]
    sold: list[float | None] = []
    paid: list[float | None] = []
    for p, f, v in zip(*(reader.parts(x) for x in (price, fee, volume)), strict=True):
        known = ~np.ma.getmaskarray(p)
        wh = total(v[known])
        if not wh:
            sold.append(None)
            paid.append(None)
            continue
        worth = total(p[known] * v[known])
        sold.append(worth / wh / 10)
        paid.append((worth + total(f[known] * v[known])) / wh / 10)
    bins = len(reader.bins.labels)
    tariffs = reader.scope.tariffs
    rows = [
        charts.Line(w("trade.paid"), paid, charts.BLUE),
        charts.Line(w("trade.sold"), sold, charts.GREEN, "thick"),
        charts.Line(w("trade.retail"), [tariffs["retail"] / 10] * bins, charts.RED, "dash"),
        charts.Line(w("trade.feed_in"), [tariffs["feed_in"] / 10] * bins, charts.MUTED, "dots"),
    ]
    found.append(
        blocks.chart(
            charts.lines(reader.bins.labels, rows, "ct/kWh", reader.axis),
            w(f"trade.chart.{reader.bins.name}"),
            w(
                "trade.alt",
                median=reader.shown("median_price"),
                retail=reader.shown("retail_tariff"),
                feed_in=reader.shown("feed_in_tariff"),
            ),
        )
    )
    hours = np.arange(reader.period.slots) // 4 % 24
    by_hour: list[float | None] = [
        total(volume[hours == hour]) / 1_000 / (reader.period.slots / 96) for hour in range(24)
    ]
    found.append(
        blocks.chart(
            charts.stacked(
                [f"{hour:02d}" for hour in range(24)],
                [charts.Series(w("trade.volume"), by_hour, charts.MIDDLE)],
                w("unit.kwh_hour"),
                reader.axis,
                height=120,
            ),
            w("trade.hours"),
            w("trade.hours_alt", hour=f"{int(np.argmax(by_hour)):02d}"),  # type: ignore[arg-type]
        )
    )
    found.append(_against_tariffs(reader))
    found.append(blocks.heading(w("trade.concentration"), 2))
    found.append(
        blocks.paragraph(
            w(
                "trade.concentration_text",
                seller=reader.shown("largest_seller_ppm"),
                buyer=reader.shown("largest_buyer_ppm"),
                sellers=_effective(reader, "seller_concentration_ppm"),
                buyers=_effective(reader, "buyer_concentration_ppm"),
            )
        )
    )
    return found


def _effective(reader: Reader, name: str) -> str:
    """As many sellers or buyers of equal size would give the same concentration."""
    index = reader.value(name) or 0
    return reader.words.decimal(1_000_000, index, 1) if index else "–"


def _against_tariffs(reader: Reader) -> Block:
    w = reader.words
    over, under = reader.value("sellers_over_feed_in"), reader.value("buyers_under_retail")
    rows = [
        (w("figure.sellers_over_feed_in"), w.money(over), w("trade.over_text")),
        (w("figure.buyers_under_retail"), w.money(under), w("trade.under_text")),
    ]
    return blocks.table(
        [w("head.comparison"), w("head.amount"), w("head.meaning")], rows, "lrl", [2, 1, 3]
    )


# Settlement


def settlement(reader: Reader) -> list[Block]:
    """Where the money of the sessions went."""
    w = reader.words
    states: dict[str, int] = {}
    for state in reader.texts("sessions", "state"):
        states[state] = states.get(state, 0) + 1
    conserved = reader.texts("sessions", "conserved")
    known = [one for one in conserved if one is not None]
    escrow = reader.ints("sessions", "escrow")
    credited, fees = reader.ints("sessions", "credited"), reader.ints("sessions", "fees")
    settled = ~np.ma.getmaskarray(credited)
    rows = [
        (w("settlement.escrow"), w.money(total(escrow[settled]))),
        (w("settlement.credited"), w.money(total(credited))),
        (w("settlement.fees"), w.money(total(fees[settled]))),
        (
            w("settlement.left"),
            w.money(total(escrow[settled]) - total(credited) - total(fees[settled])),
        ),
    ]
    text = w(
        "settlement.conserved" if all(known) else "settlement.not_conserved",
        sessions=w.count("n.sessions", len(known)),
        faulty=w.integer(known.count(False)),
    )
    found = [
        blocks.heading(w("settlement.title")),
        blocks.paragraph(w("settlement.text") + " " + text),
        blocks.table([w("head.money"), w("head.amount")], rows, "lr", [3, 1]),
    ]
    if reader.value("turnover"):
        svg = charts.stacked(
            reader.bins.labels,
            [
                charts.Series(w("settlement.to_sellers"), _euro(reader, "turnover"), charts.DARK),
                charts.Series(w("settlement.to_grid"), _euro(reader, "fees"), charts.PALE),
            ],
            w(f"unit.euro_{reader.bins.name}"),
            reader.axis,
        )
        found.append(
            blocks.chart(
                svg,
                w(f"settlement.chart.{reader.bins.name}"),
                w(
                    "settlement.alt",
                    turnover=reader.shown("turnover"),
                    fees=reader.shown("grid_fees"),
                ),
            )
        )
    delivered = total(reader.ints("settlement", "delivered_wh"))
    cleared = reader.value("cleared_wh") or 0
    counts = [(w.of("state", name), w.integer(states[name])) for name in sorted(states)]
    found.append(blocks.table([w("head.sessions"), w("head.count")], counts, "lr", [3, 1]))
    found.append(
        blocks.paragraph(
            w(
                "settlement.delivery",
                cleared=w.wh(cleared),
                delivered=w.wh(delivered),
                penalties=reader.shown("penalties"),
            )
        )
    )
    moved = [
        (w.recorded(row["what"]), w.integer(row["count"]), w.money(row["amount"]))
        for row in reader.rows("money")
    ]
    found.append(blocks.heading(w("settlement.accounts"), 2))
    found.append(
        blocks.table(
            [w("head.movement"), w("head.count"), w("head.amount")], moved, "lrr", [3, 1, 1]
        )
    )
    return found


def _euro(reader: Reader, column: str) -> list[float | None]:
    sums = reader.by_bin(reader.by_slot("settlement", column))
    return [None if value is None else value / 1_000_000 for value in sums]


# Meters


QUALITIES = ("estimated", "substituted", "missing", "invalid", "erased")


def quality(reader: Reader) -> list[Block]:
    """Measured, estimated, substituted, missing; and every rule that changed a value."""
    w = reader.words
    meters = reader.by_slot("quality", "meters")
    measured = reader.by_slot("quality", "measured")
    found = [blocks.heading(w("quality.title")), blocks.paragraph(w("quality.text"))]
    if not reader.count("quality"):
        return [*found, blocks.paragraph(w("quality.none"))]
    hidden_slots = int((~np.ma.getmaskarray(meters) & np.ma.getmaskarray(measured)).sum())
    shown = meters[~np.ma.getmaskarray(measured)]
    readings = total(shown)
    rows: list[Any] = []
    for name in ("measured", *QUALITIES):
        count = total(reader.by_slot("quality", name))
        share = w.share(count * 1_000_000 // readings) if readings else "–"
        rows.append((w(f"quality.{name}"), w.integer(count), share, w(f"quality.{name}.text")))
    found.append(
        blocks.table(
            [w("head.quality"), w("head.readings"), w("head.share"), w("head.meaning")],
            rows,
            "lrrl",
            [1.2, 1, 0.8, 3],
        )
    )
    if hidden_slots:
        found.append(
            blocks.paragraph(
                w("quality.hidden", slots=w.count("n.slots", hidden_slots), homes=MIN_HOMES)
            )
        )
    series, hidden = _quality_series(reader, meters, measured)
    if any(value for one in series for value in one.values if value):
        svg = charts.stacked(
            reader.bins.labels,
            series,
            w("quality.unit"),
            reader.axis,
            hidden=hidden,
            hidden_name=w("kept_back"),
            height=140,
        )
        found.append(blocks.chart(svg, w(f"quality.chart.{reader.bins.name}"), w("quality.alt")))
    else:
        found.append(blocks.paragraph(w("quality.all_measured")))
    found += _edits(reader)
    return found


def _quality_series(
    reader: Reader, meters: Masked, measured: Masked
) -> tuple[list[charts.Series], list[bool]]:
    known: Masked = np.ma.MaskedArray(meters.filled(0), mask=np.ma.getmaskarray(measured))
    totals = reader.by_bin(known)
    hidden = [whole is None for whole in totals]
    fills = dict(
        zip(
            QUALITIES,
            (charts.PALE, charts.MIDDLE, charts.RED, charts.INK, charts.tint(charts.INK, 0.4)),
            strict=True,
        )
    )
    series = []
    for name in QUALITIES:
        values = reader.by_bin(reader.by_slot("quality", name))
        if name in ("invalid", "erased") and not any(values):
            continue
        shares = [
            None if value is None or not whole else 100 * value / whole
            for value, whole in zip(values, totals, strict=True)
        ]
        series.append(charts.Series(reader.words(f"quality.{name}"), shares, fills[name]))
    return series, hidden


def _edits(reader: Reader) -> list[Block]:
    w = reader.words
    found = [blocks.heading(w("edits.title"), 2)]
    sums: dict[tuple[str, int, str, str], list[Any]] = {}
    for row in reader.rows("edits"):
        key = (row["rule"], row["version"], row["quality_before"], row["quality_after"])
        one = sums.setdefault(key, [0, set()])
        one[0] += row["records"]
        one[1].add(row["day"])
    if not sums:
        return [*found, blocks.paragraph(w("edits.none"))]
    rows = [
        (
            printable(f"{rule} {version}", 60),
            f"{_quality_word(reader, before)} → {_quality_word(reader, after)}",
            w.integer(records),
            w.integer(len(days)),
        )
        for (rule, version, before, after), (records, days) in sorted(sums.items())
    ]
    found.append(blocks.paragraph(w("edits.text")))
    found.append(
        blocks.table(
            [w("head.rule"), w("head.step"), w("head.values"), w("head.days")],
            rows,
            "llrr",
            [1.6, 2, 0.8, 0.6],
            code=(0,),
        )
    )
    return found


def _quality_word(reader: Reader, name: str) -> str:
    return reader.words.of("quality", name)
