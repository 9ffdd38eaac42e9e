# SPDX-License-Identifier: Apache-2.0
"""A statement's lines in the visitor's language: the page and the PDF say the same by them.

Each figure says where it comes from: counted by the meter, told by the chain, or reckoned by
tariff. Money is shown to the cent; the exact numbers are in the CSV file.
"""

from __future__ import annotations

from dataclasses import dataclass

from dashboard.i18n import Formats, _, ngettext
from dashboard.services.my_data import month_start
from dashboard.services.statement import State, Statement

METER, CHAIN, TARIFF = "meter", "chain", "tariff"


@dataclass(frozen=True)
class Line:
    """One line: what, how much of it, at what price, what it comes to; `source` says whence.
    strong: a sum."""

    name: str
    energy: str
    price: str
    amount: str
    source: str
    strong: bool = False


def source_name(source: str) -> str:
    """Where a figure comes from, in a word or two."""
    names = {METER: _("metered"), CHAIN: _("chain"), TARIFF: _("by tariff")}
    return names.get(source, source)


def month_title(month: int, fmt: Formats) -> str:
    """A month as people say it: `June 2016`."""
    from babel.dates import format_skeleton

    from dashboard.services.units import local_time

    middle = month_start(month) + 14 * 86_400
    return str(format_skeleton("yMMMM", local_time(middle), locale=fmt.locale.tag))


def span(one: Statement, fmt: Formats) -> str:
    """From when to when the statement counts."""
    begin, end = month_start(one.month), month_start(one.month + 1)
    return _("{begin}, {begin_time} to {end}, {end_time}").format(
        begin=fmt.date(begin),
        begin_time=fmt.time(begin),
        end=fmt.date(end),
        end_time=fmt.time(end),
    )


def state_words(one: Statement) -> str:
    """How far the month is, in a sentence."""
    if one.state is State.RUNNING:
        return _("The month is still running: this is how it stands now.")
    if one.state is State.OPEN:
        return _("Not final: something of this month may still be settled or corrected.")
    return _("Final: nothing of this month can change any more.")


def money(micro: int, fmt: Formats) -> str:
    """Money with its sign, to the cent; nothing is never `minus zero`."""
    if round(micro / 10_000) == 0:
        return fmt.euro(0)
    return ("+" if micro > 0 else "\u2212") + fmt.euro(abs(micro))


def _price(micro: int, wh: int, fmt: Formats) -> str:
    return fmt.ct(micro / wh) if wh else ""


def metered_lines(one: Statement, fmt: Formats) -> list[Line]:
    """What the meter counted."""
    dash = "–"
    drawn, fed = one.metered.import_wh, one.metered.export_wh
    return [
        Line(
            _("Drawn from the grid"),
            dash if drawn is None else fmt.kwh(drawn, 3),
            "",
            "",
            METER,
        ),
        Line(_("Fed into the grid"), dash if fed is None else fmt.kwh(fed, 3), "", "", METER),
    ]


def trade_lines(one: Statement, fmt: Formats) -> list[Line]:
    """What the market paid and took; the last line is the sum that the chain says."""
    found = [
        Line(
            _("Sold and delivered"),
            fmt.kwh(one.sold_wh + one.given_back_wh, 3),
            _price(one.sales, _split_wh(one, sells=True), fmt),
            money(one.sales, fmt),
            CHAIN,
        ),
        Line(
            _("Bought and delivered"),
            fmt.kwh(one.bought_wh, 3),
            _price(one.purchases, _split_wh(one, sells=False), fmt),
            money(-one.purchases, fmt),
            CHAIN,
        ),
    ]
    if one.fees:
        name = _("of it grid fees: {amount}").format(amount=fmt.euro(one.fees))
        found.append(Line(name, "", _price(one.fees, one.bought_wh, fmt), "", CHAIN))
    if one.penalties:
        name = _("Penalties for energy not delivered")
        found.append(Line(name, "", "", money(-one.penalties, fmt), CHAIN))
    if one.refunds:
        name = _("Refunds from sellers who fell short")
        found.append(Line(name, "", "", money(one.refunds, fmt), CHAIN))
    if one.unsplit:
        name = _("Orders whose price and penalty the chain tells only as one sum")
        found.append(Line(name, "", "", money(one.unsplit, fmt), CHAIN))
    if one.corrections:
        energy = "\u2212" + fmt.kwh(one.given_back_wh, 3) if one.given_back_wh else ""
        name = _("Corrected after settlement")
        found.append(Line(name, energy, "", money(one.corrected, fmt), CHAIN))
    found.append(Line(_("Trade in all"), "", "", money(one.traded, fmt), CHAIN, strong=True))
    return found


def _split_wh(one: Statement, *, sells: bool) -> int:
    return sum(
        line.delivered_wh for line in one.orders if line.sells is sells and line.paid is not None
    )


def supplier_lines(one: Statement, fmt: Formats) -> list[Line]:
    """What is left to the supplier, what the month comes to, what it would have without trade."""
    dash = "–"
    rest_in, rest_out = one.rest_import_wh, one.rest_export_wh
    tariffs = one.tariffs
    return [
        Line(
            _("Rest of what you drew, from your supplier"),
            dash if rest_in is None else fmt.kwh(rest_in, 3),
            fmt.ct(tariffs.retail),
            money(-one.import_bill, fmt),
            TARIFF,
        ),
        Line(
            _("Rest of what you fed in, to your supplier"),
            dash if rest_out is None else fmt.kwh(rest_out, 3),
            fmt.ct(tariffs.feed_in),
            money(one.export_credit, fmt),
            TARIFF,
        ),
        Line(_("Trade in all"), "", "", money(one.traded, fmt), CHAIN),
        Line(_("The month in all"), "", "", money(-one.total, fmt), TARIFF, strong=True),
        Line(
            _("The same energy without the market"),
            "",
            "",
            money(-one.without_market, fmt),
            TARIFF,
        ),
        Line(_("What trade changed"), "", "", money(one.better, fmt), TARIFF, strong=True),
    ]


def account_lines(one: Statement, fmt: Formats) -> list[Line]:
    """The account in the market, by the time of the blocks."""
    names = {
        "deposit": _("Paid in"),
        "withdrawal": _("Paid out"),
        "escrow": _("Held for orders"),
        "settlement": _("Came back with settlement"),
        "given-back": _("Given back by correction"),
        "correction": _("Got back by correction"),
    }
    found = [Line(_("Free at the beginning"), "", "", fmt.euro(one.money.opening), CHAIN)]
    for kind, name in names.items():
        if amount := one.money.by_kind.get(kind):
            found.append(Line(name, "", "", money(amount, fmt), CHAIN))
    end = _("Free at the end") if one.state is not State.RUNNING else _("Free now")
    found.append(Line(end, "", "", fmt.euro(one.money.closing), CHAIN, strong=True))
    return found


def notes(one: Statement, fmt: Formats) -> list[str]:
    """What to know about the figures, weightiest first."""
    found = []
    metered = one.metered
    if metered.missing:
        found.append(
            ngettext(
                "{number} quarter-hour has no reading. It is not reckoned as zero: nothing is "
                "reckoned for it.",
                "{number} quarter-hours have no reading. They are not reckoned as zero: nothing "
                "is reckoned for them.",
                metered.missing,
            ).format(number=fmt.number(metered.missing))
        )
    if metered.estimated:
        found.append(
            ngettext(
                "{number} quarter-hour was estimated or substituted, not measured.",
                "{number} quarter-hours were estimated or substituted, not measured.",
                metered.estimated,
            ).format(number=fmt.number(metered.estimated))
        )
    if one.open_orders:
        found.append(
            ngettext(
                "{number} order is not settled and is in no sum; {amount} is held for it.",
                "{number} orders are not settled and are in no sum; {amount} is held for them.",
                one.open_orders,
            ).format(number=fmt.number(one.open_orders), amount=fmt.euro(one.open_escrow))
        )
    if one.unfilled:
        found.append(
            ngettext(
                "{number} order got nothing; what was held came back in full.",
                "{number} orders got nothing; what was held came back in full.",
                one.unfilled,
            ).format(number=fmt.number(one.unfilled))
        )
    if one.unused_wh:
        found.append(
            _(
                "{energy} was bought but not drawn in its own quarter-hour, so your supplier "
                "bills you no less for it."
            ).format(energy=fmt.kwh(one.unused_wh, 3))
        )
    if not one.use_known:
        found.append(
            _(
                "Of some bought energy it is not known whether it was drawn in its own "
                "quarter-hour; it counts as drawn."
            )
        )
    found.append(
        _(
            "An order belongs to the month in which its session begins, a reading to its "
            "quarter-hour. Months are counted in UTC, as the meters' batches are."
        )
    )
    found.append(
        _(
            "Tariffs: {retail} drawn, {feed_in} fed in, as this dashboard is set up. Base fees "
            "and taxes of your supplier are not in it; this is no invoice."
        ).format(retail=fmt.ct(one.tariffs.retail), feed_in=fmt.ct(one.tariffs.feed_in))
    )
    found.append(
        _(
            "Amounts are rounded to the cent, each by itself. The CSV file has every one to the "
            "millionth of a euro, with its transactions."
        )
    )
    return found
