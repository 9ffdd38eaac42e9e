# SPDX-License-Identifier: Apache-2.0
"""One home's readings, its sums and days, its money, and what it is asked to sign."""

from __future__ import annotations

import csv
import io
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dao.errors import CheckFailed
from dao.market.orders import Order, order_digest
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from dashboard.repositories.readings import Bucket, HomeReadings, Reading
from dashboard.repositories.relay import Coming, Depth, Level
from dashboard.repositories.trades import Cleared, Movement
from dashboard.services import home, money, session, typed_data
from dashboard.services.home import Matter
from dashboard.services.typed_data import NotAsAsked, checked, order_message
from meters.frames import cut, records_of
from meters.inbox import Inbox
from meters.lake import write_batch
from meters.readings import Quality, Readings
from tests.meters.batch_rows import DAY, leaves, missing, rows

CHAIN = 31_337
MARKET = "0x" + "1a" * 20
HOMES = 3


def lake(folder: Path, days: int = 2) -> dict[int, tuple[int, int]]:
    """Batches of six hours of three homes; returns what home 2 read, by slot. Its sixth slot is
    missing, its seventh estimated."""
    values: dict[int, tuple[int, int]] = {}
    for first in range(DAY, DAY + days * SLOTS_PER_DAY, 24):
        made = rows(first, 24, HOMES, seed=first)
        if first == DAY:
            missing(made, [24 + 5])
            made.quality[24 + 6] = Quality.ESTIMATED
        write_batch(folder, 1, first, 24, made, leaves(len(made)))
        for one in made:
            if one.meter == 2 and one.import_wh is not None and one.export_wh is not None:
                values[one.slot] = (one.import_wh, one.export_wh)
    return values


def waiting(path: Path, readings: Readings) -> None:
    """Put readings into an inbox, as a collector keeps them."""
    inbox = Inbox(path, 1)
    with inbox.transaction():
        inbox.add(
            zip(
                readings.slot.tolist(),
                readings.meter.tolist(),
                readings.sequence.tolist(),
                cut(records_of(readings)),
                strict=True,
            )
        )
    inbox.close()


# Readings


def test_a_home_sees_its_own_readings_and_no_others(tmp_path: Path) -> None:
    values = lake(tmp_path / "lake")
    asked = HomeReadings(tmp_path / "lake", tmp_path / "inbox.sqlite", 1)
    series = asked.series(2, DAY, 2 * SLOTS_PER_DAY)
    assert len(series) == 2 * SLOTS_PER_DAY
    known = {
        one.slot: (one.import_wh, one.export_wh) for one in series if one.import_wh is not None
    }
    assert known == values
    gap = series[5]
    assert (gap.import_wh, gap.export_wh, gap.quality) == (None, None, Quality.MISSING)
    assert asked.series(9, DAY, SLOTS_PER_DAY) == []


def test_what_is_not_committed_yet_comes_from_the_inbox_the_newest_report_first(
    tmp_path: Path,
) -> None:
    lake(tmp_path / "lake", days=1)
    end = DAY + SLOTS_PER_DAY
    fresh = rows(end, 4, HOMES, seed=5)
    later = rows(end, 4, HOMES, seed=6)
    later.sequence[:] = 1
    waiting(tmp_path / "inbox.sqlite", Readings.concat([fresh, later]))
    asked = HomeReadings(tmp_path / "lake", tmp_path / "inbox.sqlite", 1)
    series = asked.series(2, end - 2, 8)
    assert [one.slot for one in series] == list(range(end - 2, end + 4))
    assert [one.committed for one in series] == [True] * 2 + [False] * 4
    assert [one.import_wh for one in series[2:]] == later.import_wh[later.meter == 2].tolist()
    newest = asked.newest(2, end + 96)
    assert newest is not None
    assert newest.slot == end + 3


def test_sums_are_those_of_the_quarter_hours_and_know_their_gaps(tmp_path: Path) -> None:
    values = lake(tmp_path / "lake")
    end = DAY + 2 * SLOTS_PER_DAY
    waiting(tmp_path / "inbox.sqlite", rows(end, 2, HOMES, seed=5))
    asked = HomeReadings(tmp_path / "lake", tmp_path / "inbox.sqlite", 1)
    buckets = asked.buckets(2, DAY, 2 * SLOTS_PER_DAY + 4, 4)
    assert [one.slot for one in buckets] == list(range(DAY, end + 1, 4))
    for one in buckets[:-1]:
        inside = [values[s] for s in range(one.slot, one.slot + 4) if s in values]
        assert one.import_wh == sum(pair[0] for pair in inside)
        assert one.export_wh == sum(pair[1] for pair in inside)
        assert one.known == len(inside)
    assert (buckets[1].known, buckets[1].missing, buckets[1].estimated) == (3, 1, 1)
    assert buckets[-1].known == 2
    whole = home.totals(buckets, 2 * SLOTS_PER_DAY + 4)
    assert whole.known == 2 * SLOTS_PER_DAY + 1
    assert whole.missing == 3
    assert not whole.is_complete


def test_an_erased_row_and_a_broken_file_are_no_zeros(tmp_path: Path) -> None:
    lake(tmp_path / "lake", days=1)
    asked = HomeReadings(tmp_path / "lake", tmp_path / "inbox.sqlite", 1)
    path = next((tmp_path / "lake").rglob("batch-*.parquet"))
    path.write_bytes(b"PAR1 but not really")
    with pytest.raises(CheckFailed, match="cannot be read"):
        asked.series(2, DAY, SLOTS_PER_DAY)


def test_a_home_without_readings_has_none(tmp_path: Path) -> None:
    asked = HomeReadings(tmp_path / "lake", tmp_path / "inbox.sqlite", 1)
    assert asked.series(2, DAY, 96) == []
    assert asked.newest(2, DAY) is None
    assert home.totals(asked.buckets(2, DAY, 96, 4), 96) == home.Totals(None, None, 0, 96, 0, 96)
    with pytest.raises(CheckFailed, match="31 days"):
        asked.series(2, DAY, 32 * SLOTS_PER_DAY)


# The home


def seconds(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp())  # type: ignore[arg-type]


def test_a_day_is_a_local_one_of_23_or_25_hours_where_clocks_change() -> None:
    spring = seconds(2016, 3, 27, 12)
    assert home.midnight(spring) == seconds(2016, 3, 26, 23)
    assert home.midnight(spring, -1) - home.midnight(spring) == 23 * 3_600
    autumn = seconds(2016, 10, 30, 12)
    assert home.midnight(autumn, -1) - home.midnight(autumn) == 25 * 3_600
    first, slots = home.day_slots(spring, 1)
    assert (first, slots) == (seconds(2016, 3, 26, 23) // SLOT_SECONDS, 13 * 4)


def test_hours_come_to_local_days() -> None:
    first = seconds(2016, 6, 6, 20) // SLOT_SECONDS
    hours = [Bucket(first + 4 * i, 4, 10, None, 4, 0, 0) for i in range(6)]
    days = home.daily(hours)
    assert [(one.import_wh, one.export_wh, one.known) for one in days] == [
        (20, None, 8),
        (40, None, 16),
    ]


def test_an_unknown_hour_is_a_gap_in_the_chart_and_not_zero() -> None:
    one = Bucket(DAY + 4, 4, 0, 500, 4, 0, 0)
    frame = home.chart_frame([one], DAY, 12, 4)
    assert [math.isnan(v) for v in frame["drawn_kwh"]] == [True, False, True]
    assert frame["drawn_kwh"][1] == 0
    assert frame["fed_kwh"][1] == 0.5


def test_what_needs_attention_is_said_and_nothing_else() -> None:
    now = DAY * SLOT_SECONDS
    good = home.Totals(1, 1, 670, 2, 0, 672)
    fresh = Reading(DAY - 2, 1, 1, Quality.MEASURED, True)
    calm: dict[str, Any] = {
        "newest": fresh,
        "now": now,
        "week": good,
        "free": 5,
        "rejected": 0,
        "short_wh": 0,
        "next_gate": now + 7_200,
        "has_order": True,
    }
    assert home.attention(**calm) == []
    assert [one.matter for one in home.attention(**{**calm, "has_order": False})] == [Matter.GATE]
    late = {**calm, "has_order": False, "next_gate": now + 7_201}
    assert home.attention(**late) == []
    old = Reading(DAY - 110, 1, 1, Quality.MEASURED, True)
    assert [one.matter for one in home.attention(**{**calm, "newest": old})] == [Matter.STALE]
    none = {**calm, "newest": None, "free": 0, "rejected": 2, "short_wh": 7}
    assert [one.matter for one in home.attention(**none)] == [
        Matter.NO_READINGS,
        Matter.REJECTED,
        Matter.SHORT,
        Matter.NO_MONEY,
    ]
    holed = home.Totals(1, 1, 500, 172, 0, 672)
    assert [one.matter for one in home.attention(**{**calm, "week": holed})] == [Matter.MISSING]


@pytest.mark.parametrize("wanted", [4, "7", "5 OR 1=1", None, True, [5], 2**70])
def test_only_an_own_account_can_be_chosen(wanted: object) -> None:
    assert home.own_account((5, 7), wanted) == 5
    assert home.own_account((5, 7), 7) == 7
    assert home.own_account((), wanted) is None


# The session


def coming(first_slot: int, gate: int) -> Coming:
    flat = (0,) * 4
    return Coming(first_slot, 4, gate, gate - 120, 0, 0, 100, 50, 25_000, flat, flat, flat)


def test_a_session_that_is_closed_cannot_be_chosen() -> None:
    held = [coming(8, 900), coming(4, 500)]
    assert [one.first_slot for one in session.open_sessions(held, 379)] == [4, 8]
    still = session.open_sessions(held, 380)
    assert [one.first_slot for one in still] == [8]
    picked = session.chosen(still, 4)
    assert picked is not None
    assert picked.first_slot == 8
    assert session.chosen([], 4) is None


def test_a_recent_price_is_of_the_same_time_of_day() -> None:
    cleared = [
        Cleared(100 - 96, 150, 1, "0x", 0),
        Cleared(100 - 192, 120, 1, "0x", 0),
        Cleared(101 - 96, None, 0, "0x", 0),
        Cleared(101 - 192, 90, 1, "0x", 0),
        Cleared(102 - 96 * 5, 70, 1, "0x", 0),
    ]
    assert session.recent_prices(cleared, 100, 3) == (150, 90, None)
    shown = session.price_history(cleared, 101)
    assert (shown.low, shown.high) == (90, 150)
    assert math.isnan(shown.frame["price_ct"][1]) is False
    assert session.price_history([], 101).mean is None


def test_a_book_line_has_the_best_of_each_side() -> None:
    from dashboard.repositories.relay import Book

    book = Book(1, 4, (Depth(4, (Level(300, 5, 2), Level(200, 1, 0)), ()), Depth(5, (), ())))
    first, second = session.book_lines(book)
    assert (first.best_bid, first.best_ask, first.bid_wh, first.ask_wh) == (300, None, 8, 0)
    assert (second.best_bid, second.bid_wh) == (None, 0)
    assert session.depth_of(book, 5) == book.slots[1]
    assert session.depth_of(book, 6) is None


# Money


def test_money_that_came_back_is_paired_with_what_the_order_had_put_in() -> None:
    def move(kind: str, amount: int, block: int) -> Movement:
        return Movement(kind, amount, 0, 0, block, 0, 3, "0x", session=96, position=3)

    moves = [move("settlement", 130, 9), move("escrow", -100, 5)]
    found = money.lines(moves, money.held_orders(moves))
    assert [one.result for one in found] == [30, None]


def test_the_spreadsheet_of_movements_says_what_the_json_says() -> None:
    moves = [
        Movement("withdrawal", -1, 129_999_999, 1_465_300_800, 9, 0, 3, "0xb", party="0xc"),
        Movement("deposit", 130_000_000, 130_000_000, 1_465_214_400, 5, 0, 3, "0xa"),
    ]
    header, first, last = csv.reader(io.StringIO(money.statement_csv(moves)))
    rows = [dict(zip(header, one, strict=True)) for one in (first, last)]
    assert [one["amount_euro"] for one in rows] == ["130.000000", "-0.000001"]
    assert rows[1]["balance_euro"] == "129.999999"
    assert rows[0]["time_utc"] == "2016-06-06 12:00:00"
    for row, told in zip(rows, money.statement(moves), strict=True):
        assert {name: row[name] for name in told} == {
            name: "" if value is None else str(value) for name, value in told.items()
        }
    assert money.statement_csv([]) == ""


@pytest.mark.parametrize(("typed", "micro"), [(12.34, 12_340_000), (0.1 + 0.2, 300_000), (None, 0)])
def test_euros_are_counted_in_cents(typed: float | None, micro: int) -> None:
    assert money.amount_of(typed) == micro


def test_calldata_is_what_the_contracts_take() -> None:
    from eth_abi.abi import encode

    approve = bytes.fromhex(money.approve_data(MARKET, 5)[10:])
    assert approve == encode(["address", "uint256"], [MARKET, 5])
    deposit = bytes.fromhex(money.deposit_data(7, 9)[10:])
    assert deposit == encode(["uint256[]", "uint256[]"], [[7], [9]])
    assert money.approve_data(MARKET, 5).startswith("0x095ea7b3")


# What is signed


def order(wh: int | tuple[int, ...] = (5, 0, 9)) -> Order:
    count = len(wh) if isinstance(wh, tuple) else 3
    return Order(7, 0, 2, 1_465_200_000, 1, 120, 1_628_064, 2, wh, count)


def document(message: dict[str, Any], type_: str = typed_data.ORDER_TYPE) -> dict[str, Any]:
    name, members = typed_data._members(type_)
    return {
        "types": {name: [{"name": field, "type": of} for of, field in members]},
        "primaryType": name,
        "domain": {
            "name": "GridCommons EnergyMarket",
            "version": "1",
            "chainId": CHAIN,
            "verifyingContract": MARKET,
        },
        "message": message,
    }


def ask(found: dict[str, Any], kind: str, wanted: dict[str, Any], now: int = 1_000) -> Any:
    return checked(found, kind, wanted, chain_id=CHAIN, contract=MARKET, now=now)


@pytest.mark.parametrize("wh", [500, (5, 0, 9)])
def test_an_order_that_is_as_asked_is_signed_with_the_contracts_digest(
    wh: int | tuple[int, ...],
) -> None:
    from eth_account.messages import encode_typed_data
    from eth_utils import keccak

    from dao.market.orders import market_separator

    one = order(wh)
    wanted = order_message(one)
    good = ask(document(wanted), "order", wanted)
    signable = encode_typed_data(full_message=good)
    digest = keccak(b"\x19\x01" + signable.header + signable.body)
    assert digest == order_digest(market_separator(CHAIN, MARKET), one)


def changed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    made = document(order_message(order()))
    inner: Any = made
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    return made


@pytest.mark.parametrize(
    "made",
    [
        changed(("message", "limit"), 1),
        changed(("message", "account"), 8),
        changed(("message", "side"), 0),
        changed(("message", "profile"), "0x" + "00" * 32),
        changed(("message", "nonce"), 3),
        changed(("message", "more"), 3),
        changed(("message", "wh"), True),
        changed(("domain", "chainId"), 1),
        changed(("domain", "verifyingContract"), "0x" + "2b" * 20),
        changed(("domain", "name"), "TestEuro"),
        changed(("primaryType",), "Withdrawal"),
        changed(("types", "Order"), []),
        changed(("types", "Permit"), []),
        changed(("message",), "nothing"),
        {},
    ],
)
def test_a_relay_that_answers_something_else_gets_no_signature(made: dict[str, Any]) -> None:
    with pytest.raises(NotAsAsked):
        ask(made, "order", order_message(order()))


def test_the_relay_may_fill_in_a_number_and_a_deadline_and_nothing_else() -> None:
    wanted = {"account": 7, "amount": 5_000_000, "to": MARKET}
    filled = {**wanted, "nonce": 3, "deadline": 2_000}
    good = ask(document(filled, typed_data.WITHDRAWAL_TYPE), "withdrawal", wanted)
    assert good["message"] == filled
    for wrong in (
        {**filled, "deadline": 1_000},
        {**filled, "deadline": 1_001 + typed_data.LONGEST},
        {**filled, "nonce": "a lot"},
        {**filled, "amount": 5_000_001},
        {**filled, "to": "0x" + "2b" * 20},
    ):
        with pytest.raises(NotAsAsked):
            ask(document(wrong, typed_data.WITHDRAWAL_TYPE), "withdrawal", wanted)
    short = {key: value for key, value in wanted.items() if key != "amount"}
    with pytest.raises(NotAsAsked):
        ask(document(filled, typed_data.WITHDRAWAL_TYPE), "withdrawal", short)


def test_a_revocation_made_here_has_the_digest_that_the_market_checks() -> None:
    from eth_account.messages import encode_typed_data
    from eth_utils import keccak

    from dao.market.account import revocation_digest
    from dao.market.orders import market_separator

    made = typed_data.own("revocation", {"account": 7, "nonce": 3}, chain_id=CHAIN, contract=MARKET)
    signable = encode_typed_data(full_message=made)
    digest = keccak(b"\x19\x01" + signable.header + signable.body)
    assert digest == revocation_digest(market_separator(CHAIN, MARKET), 7, 3)


def test_numbers_count_however_they_are_written() -> None:
    wanted = {"account": 7, "amount": 5_000_000, "to": MARKET.upper().replace("X", "x")}
    filled = {"account": "7", "amount": "5000000", "to": MARKET, "nonce": "3", "deadline": "2000"}
    assert ask(document(filled, typed_data.WITHDRAWAL_TYPE), "withdrawal", wanted)
