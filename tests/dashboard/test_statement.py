# SPDX-License-Identifier: Apache-2.0
"""A month's statement from a real chain and a real lake: every sum is theirs, to the last unit."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pypdf import PdfReader

from dao.errors import BadUse
from dao.node import Node
from dao.tariffs import Tariffs
from dashboard.i18n import Locale
from dashboard.repositories.months import account_month, corrections, first_session, month_orders
from dashboard.repositories.readings import HomeReadings
from dashboard.repositories.trades import Trades
from dashboard.services import orders, statement_files
from dashboard.services.my_data import month_now, month_of_name, month_slots
from dashboard.services.statement import State, Statement, statement
from meters.lake import write_batch
from meters.leaves import month_at
from meters.readings import Quality, Readings
from tests.dashboard.market import ACCOUNTS, Market, market_day
from tests.meters.batch_rows import leaves
from tests.relay.conftest import DAY_SLOT, ZONE

TARIFFS = Tariffs()
MONTH = month_at(DAY_SLOT)
FIRST, SLOTS = month_slots(MONTH)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    with market_day(tmp_path_factory.mktemp("market")) as made:
        yield made


@pytest.fixture(scope="module")
def lake(market: Market) -> Path:
    """Two days of everybody's readings, one of them missing and one estimated."""
    slots, homes = 192, 8
    meters = np.repeat(np.arange(1, homes + 1), slots)
    slot = np.tile(np.arange(DAY_SLOT, DAY_SLOT + slots), homes)
    made = Readings.columns(meters, slot, 200 + slot % 37, 100 + (slot * 7 + meters) % 501)
    gap = slot == DAY_SLOT + 3
    made.import_wh[gap] = made.export_wh[gap] = 0xFFFF_FFFF
    made.quality[gap] = Quality.MISSING
    made.quality[slot == DAY_SLOT + 4] = Quality.ESTIMATED
    for day in (0, 96):
        here = (made.slot >= DAY_SLOT + day) & (made.slot < DAY_SLOT + day + 96)
        part = made.take(here)
        write_batch(market.folder / "lake", ZONE, DAY_SLOT + day, 96, part, leaves(len(part)))
    return market.folder / "lake"


def of(market: Market, lake: Path, account: int, now: int | None = None) -> Statement:
    path = market.folder / "trades.sqlite"
    trades = Trades(market.index, ZONE, path)
    trades.update()
    node = Node(market.lane.node.url)
    address = market.lane.relay.market.address
    now = market.lane.chain.now() if now is None else now
    views = []
    for posted in month_orders(trades, account, FIRST, FIRST + SLOTS):
        facts = trades.facts(posted.order.session_slot, node, address)
        assert facts is not None
        filled = orders.session_fills(facts)
        views.append((orders.view(posted, facts, filled, TARIFFS, now), facts))
    return statement(
        account=account,
        zone=ZONE,
        month=MONTH,
        first_slot=FIRST,
        slots=SLOTS,
        now=now,
        tariffs=TARIFFS,
        readings=HomeReadings(lake, market.folder / "inbox.sqlite", ZONE).series(
            account, FIRST, SLOTS
        ),
        views=views,
        corrections=corrections(path, account, FIRST, FIRST + SLOTS),
        money=account_month(path, account, FIRST * 900, (FIRST + SLOTS) * 900),
    )


def test_the_sums_are_the_chains_to_the_last_unit(market: Market, lake: Path) -> None:
    path = market.folder / "trades.sqlite"
    for account in ACCOUNTS:
        one = of(market, lake, account)
        moved = sum(amount for kind, amount in one.money.by_kind.items() if kind not in _FLOWS)
        assert one.traded == moved - _held(one), account
        parts = one.sales - one.penalties - one.purchases + one.refunds + one.unsplit
        assert one.traded == parts + one.corrected, account
        closing = account_month(path, account, 0, 2**40).closing
        assert closing == market.lane.balance(account) == one.money.closing, account


_FLOWS = ("deposit", "withdrawal")


def _held(one: Statement) -> int:
    """Of the changes of the account, what open orders hold is no result yet."""
    return -one.open_escrow


def test_sales_penalties_purchases_and_refunds_meet_across_all_homes(
    market: Market, lake: Path
) -> None:
    """What buyers spend is what sellers get and the grid's fees, and penalties are refunds."""
    all_of_them = [of(market, lake, account) for account in ACCOUNTS]
    assert not any(one.unsplit for one in all_of_them)
    assert sum(one.penalties for one in all_of_them) == sum(one.refunds for one in all_of_them) > 0
    fees = sum(one.fees or 0 for one in all_of_them)
    sales = sum(one.sales for one in all_of_them)
    assert sum(one.purchases for one in all_of_them) == sales + fees
    assert fees > 0
    assert sum(one.corrected for one in all_of_them) == 0
    assert any(one.corrected < 0 for one in all_of_them)


def test_energy_is_the_lakes_and_the_rest_is_the_suppliers(market: Market, lake: Path) -> None:
    one = of(market, lake, 3)
    slot = np.arange(DAY_SLOT, DAY_SLOT + 192)
    there = slot != DAY_SLOT + 3
    drawn, fed = (200 + slot % 37)[there], (100 + (slot * 7 + 3) % 501)[there]
    assert one.metered.import_wh == int(drawn.sum())
    assert one.metered.export_wh == int(fed.sum())
    assert (one.metered.known, one.metered.estimated) == (191, 1)
    # Bought in this home's name, slot by slot, where it drew that much.
    assert one.rest_import_wh is not None
    assert one.bought_wh > 0
    assert one.rest_import_wh >= int(drawn.sum()) - one.bought_wh
    assert one.rest_export_wh == int(fed.sum())
    assert one.import_bill == one.rest_import_wh * TARIFFS.retail
    assert one.total == one.import_bill - one.export_credit - one.traded
    assert one.better == one.without_market - one.total


def test_a_month_is_final_only_when_nothing_of_it_can_change(market: Market, lake: Path) -> None:
    end = (FIRST + SLOTS) * 900
    assert of(market, lake, 3).state is State.RUNNING
    late = of(market, lake, 3, end + 30 * 86_400)
    assert late.state is State.OPEN, "most of the month has no readings"
    assert late.metered.missing == SLOTS - 191
    whole = replace(late, state=State.FINAL)
    assert whole.traded == late.traded


def test_the_csv_holds_every_number_exactly(market: Market, lake: Path) -> None:
    one = of(market, lake, 1)
    text = statement_files.csv_text(one, 31_337, market.lane.relay.market.address)
    rows = list(csv.DictReader(io.StringIO(text)))
    amount = {(row["part"], row["name"]): row["micro_euro"] for row in rows}
    assert int(amount["trade", "sum"]) == one.traded
    listed = [row for row in rows if row["part"] in ("order", "correction")]
    assert sum(int(row["micro_euro"]) for row in listed) == one.traded
    assert all(len(row["transactions"].split()[0]) == 66 for row in listed)
    kinds = [int(v) for (part, name), v in amount.items() if part == "account"]
    assert sum(kinds[:-1]) == kinds[-1] == market.lane.balance(1)
    assert not any(cell[:1] in tuple("=+@\t") for row in rows for cell in row.values())


@pytest.mark.parametrize("account", [1, 3, 5])
def test_the_pdf_is_tagged_short_and_says_what_the_page_says(
    market: Market, lake: Path, account: int
) -> None:
    one = of(market, lake, account)
    made = statement_files.pdf(one, Locale("en"))
    assert made == statement_files.pdf(one, Locale("en"))
    document = PdfReader(io.BytesIO(made))
    root = document.trailer["/Root"]
    assert len(document.pages) <= 2
    assert root["/Lang"] == "en"
    assert root["/MarkInfo"]["/Marked"]
    assert document.metadata is not None
    assert document.metadata.title == "Energy statement, June 2016"
    text = " ".join(" ".join(page.extract_text() for page in document.pages).split())
    for words in (f"Metering point: {account}", "Trade in all", "this is no invoice"):
        assert words in text
    for page in document.pages:
        for font in page["/Resources"]["/Font"].values():
            (inner,) = font.get_object()["/DescendantFonts"]
            names = inner.get_object()["/FontDescriptor"].get_object()
            assert {"/FontFile2", "/FontFile3"} & set(names), "every font is in the file"


def test_a_home_without_trade_or_readings_has_a_statement_too(
    market: Market, lake: Path, tmp_path: Path
) -> None:
    one = replace(of(market, lake, 8))
    empty = of(market, tmp_path, 8)
    assert empty.metered.import_wh is None
    assert empty.rest_import_wh is None
    assert empty.import_bill == 0
    assert one.traded == empty.traded
    assert statement_files.pdf(empty, Locale("en"))[:5] == b"%PDF-"
    assert first_session(market.folder / "trades.sqlite", 99) is None


TRICKS = [
    "",
    "2016-6",
    "2016-13",
    "2016-00",
    "../2016-06",
    "2016-06/..",
    "1969-12",
    "9999-01",
    None,
]


@pytest.mark.parametrize("text", TRICKS)
def test_a_month_is_a_month_and_no_path(text: str | None) -> None:
    with pytest.raises(BadUse):
        month_of_name(text)


def test_months_are_counted_in_utc() -> None:
    assert month_of_name("2016-05") == 556
    first, slots = month_slots(556)
    assert (month_now(first * 900), month_now((first + slots) * 900)) == (556, 557)
    assert slots == 31 * 96
