# SPDX-License-Identifier: Apache-2.0
"""Orders and money by account, from the events of a real chain, to the last unit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from dao.market.orders import ASK
from dao.node import Node
from dao.tariffs import Tariffs
from dashboard.repositories import trades as repo
from dashboard.repositories.trades import Posted, SessionFacts, Trades
from dashboard.services import orders
from dashboard.services.orders import Mark, Name, OrderView, Stage
from tests.dashboard.market import ACCOUNTS, THIRD, Market, market_day
from tests.relay.conftest import DAY_SLOT, SLOTS, ZONE

TARIFFS = Tariffs()
LATER = DAY_SLOT + 96


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    with market_day(tmp_path_factory.mktemp("market")) as made:
        yield made


@pytest.fixture
def trades(market: Market, tmp_path: Path) -> Trades:
    made = Trades(market.index, ZONE, tmp_path / "trades.sqlite")
    assert made.update().whole
    return made


def node_of(market: Market) -> tuple[Node, str]:
    return Node(market.lane.node.url), market.lane.relay.market.address


def views(trades: Trades, market: Market, account: int) -> list[OrderView]:
    found = []
    for posted in trades.orders([account]):
        facts = trades.facts(posted.order.session_slot, *node_of(market))
        assert facts is not None
        filled = orders.session_fills(facts)
        found.append(orders.view(posted, facts, filled, TARIFFS, market.lane.chain.now()))
    return found


def test_the_movements_of_every_account_sum_to_its_balance_on_chain(
    trades: Trades, market: Market
) -> None:
    for account in ACCOUNTS:
        balance = market.lane.balance(account)
        assert trades.balance(account) == balance
        moves = trades.movements(account)
        assert moves[0].balance == balance
        assert sum(move.amount for move in moves) == balance
        for later, earlier in pairwise(moves):
            assert later.balance - later.amount == earlier.balance


def test_every_kind_of_movement_is_there(trades: Trades) -> None:
    kinds = {move.kind for account in ACCOUNTS for move in trades.movements(account)}
    assert kinds == {
        repo.DEPOSIT,
        repo.WITHDRAWAL,
        repo.ESCROW,
        repo.SETTLEMENT,
        repo.GIVEN_BACK,
        repo.CORRECTION,
    }
    assert trades.movements(3, kinds=[repo.WITHDRAWAL])[0].amount == -7_000_000


def test_read_in_small_steps_and_in_pages_it_is_the_same(
    trades: Trades, market: Market, tmp_path: Path
) -> None:
    slow = Trades(market.index, ZONE, tmp_path / "slow.sqlite")
    rounds = 1
    while not slow.update(1).whole:
        rounds += 1
    assert rounds > 10
    for account in ACCOUNTS:
        whole = trades.movements(account)
        assert slow.movements(account) == whole
        paged, before = [], None
        while page := slow.movements(account, limit=2, before=before):
            paged += page
            before = (page[-1].block, page[-1].log_index, page[-1].part)
        assert paged == whole
        assert slow.orders([account]) == trades.orders([account])


def test_the_book_is_the_chains_own(trades: Trades, market: Market) -> None:
    from dao.market.session import read_book

    for first_slot in (DAY_SLOT, THIRD, LATER):
        book = read_book(market.lane.relay.market, ZONE, first_slot)
        assert [one.order for one in trades.book(first_slot)] == book.orders


def test_fills_and_payments_of_each_slot_come_to_what_the_contract_paid(
    trades: Trades, market: Market
) -> None:
    told = 0
    for account in ACCOUNTS:
        for one in views(trades, market, account):
            assert one.fills_agree
            assert one.net is not None
            assert sum(fill.filled_wh for fill in one.fills) == one.filled_wh
            if any(fill.paid is None for fill in one.fills) or one.penalty is None:
                continue
            told += 1
            paid = sum(fill.paid or 0 for fill in one.fills)
            assert one.net == (paid - one.penalty if one.sells else one.penalty - paid)
            assert one.delivered_wh == sum(fill.delivered_wh or 0 for fill in one.fills)
    assert told >= 8


def test_the_fills_are_the_same_without_a_node_once_they_are_settled(
    trades: Trades, market: Market
) -> None:
    for first_slot in (DAY_SLOT, LATER):
        with_node = trades.facts(first_slot, *node_of(market))
        assert with_node is not None
        assert with_node.words is not None
        alone = replace(with_node, words=None)
        mine, same = orders.session_fills(with_node), orders.session_fills(alone)
        assert mine is not None
        assert same is not None
        assert (mine.wh == same.wh).all()
        assert mine.prices == same.prices


def test_prices_that_are_not_the_chains_are_not_used(trades: Trades, market: Market) -> None:
    facts = trades.facts(DAY_SLOT, *node_of(market))
    assert facts is not None
    wrong = [replace(one, price=(one.price or 0) + 1) for one in facts.cleared]
    assert orders.session_fills(replace(facts, cleared=tuple(wrong))) is None


def test_a_penalty_a_partial_fill_and_a_refund_are_told(trades: Trades, market: Market) -> None:
    short = next(one for one in views(trades, market, 6) if one.sells)
    assert short.stage is Stage.PAID
    assert short.filled_wh is not None
    assert short.delivered_wh is not None
    assert short.delivered_wh < short.filled_wh
    assert short.penalty is not None
    assert short.penalty > 0
    part = views(trades, market, 8)[0]
    assert part.filled_wh is not None
    assert 0 < part.filled_wh < part.order.total_wh
    void = [one for one in views(trades, market, 5) if one.key and one.key[0] == THIRD]
    assert [one.stage for one in void] == [Stage.VOID]
    assert void[0].net == 0
    assert {step.name: step.mark for step in void[0].steps}[Name.CLEARED] is Mark.FAILED


def test_an_order_shows_its_steps_as_time_goes_by(trades: Trades, market: Market) -> None:
    facts = trades.facts(LATER, *node_of(market))
    assert facts is not None
    posted = next(one for one in facts.book if one.order.account == 6)
    begin, end = LATER * 900, (LATER + SLOTS) * 900

    def marks(facts: SessionFacts, now: int, of: Posted = posted) -> list[Mark]:
        filled = orders.session_fills(facts)
        return [step.mark for step in orders.view(of, facts, filled, TARIFFS, now).steps]

    done, waits, going = Mark.DONE, Mark.WAITING, Mark.NOW
    fresh = replace(facts, cleared=(), settled=(), runs=(), words=None)
    assert marks(fresh, begin - 7_200) == [done, done, going, waits, waits]
    cleared = replace(facts, settled=(), runs=())
    assert marks(cleared, begin - 60) == [done, done, done, waits, waits]
    assert marks(cleared, begin + 60) == [done, done, done, going, waits]
    assert marks(cleared, end) == [done, done, done, done, going]
    half = replace(facts, runs=tuple(run for run in facts.runs if run.from_slot == LATER))
    assert marks(half, end)[-1] is going
    assert marks(facts, end + 1) == [done] * 5


def test_what_was_turned_away_is_told_with_its_reason(trades: Trades) -> None:
    assert [one.reason for one in trades.turned_away([3])] == [5]
    assert trades.turned_away([1]) == []


def test_a_receipt_names_the_digest_and_the_transactions(trades: Trades, market: Market) -> None:
    one = views(trades, market, 1)[-1]
    lane = market.lane
    document = orders.receipt(
        one, chain_id=lane.chain.chain_id, market=lane.relay.market.address, zone=ZONE
    )
    from dao.market.orders import order_digest

    assert document["order_digest"] == "0x" + order_digest(lane.relay.separator, one.order).hex()
    hashes = {step["step"]: step["transaction"] for step in document["steps"]}
    for step, event in (("posted", "OrdersPosted"), ("cleared", "SlotCleared")):
        mined = lane.chain.rpc("eth_getTransactionReceipt", hashes[step])
        topics = {log["topics"][0] for log in mined["logs"]}
        assert lane.relay.market.interface.topic(event) in topics
    table = orders.receipt_csv(document)
    assert document["order_digest"] in table
    assert hashes["paid"] in table
    assert orders.receipt_name(document).startswith("receipt-1-")


def test_a_cell_of_a_receipt_is_never_a_formula() -> None:
    assert orders.receipt_csv({"name": "=1+1"}).splitlines()[1] == "name,'=1+1"


def test_sums_count_what_was_bought_and_not_used_as_no_saving(
    trades: Trades, market: Market
) -> None:
    results = trades.results(7, 0)
    by_key = {one.key: one for one in views(trades, market, 7)}
    assert [by_key[one.session, one.position].net for one in results] == [
        one.net for one in results
    ]

    def fills(one: repo.Result) -> tuple[orders.Fill, ...]:
        return by_key[one.session, one.position].fills

    slots = {fill.slot: 10_000 for one in results for fill in fills(one)}
    full = orders.sums(results, TARIFFS, slots, fills)
    assert full.use_known
    assert full.used_wh == full.bought_wh > 0
    assert full.saved == full.bought_wh * TARIFFS.retail - full.purchases
    none = orders.sums(results, TARIFFS, dict.fromkeys(slots, 0), fills)
    assert none.saved == -none.purchases
    unknown = orders.sums(results, TARIFFS, {}, fills)
    assert not unknown.use_known
    assert unknown.saved == full.saved
    sold = orders.sums(trades.results(6, 0), TARIFFS, {}, fills)
    assert sold.sold_wh > 0
    assert sold.earned == sold.sales - sold.sold_wh * TARIFFS.feed_in


def test_escrow_is_what_open_orders_hold(trades: Trades, market: Market) -> None:
    assert [trades.escrowed(account) for account in ACCOUNTS] == [0] * len(ACCOUNTS)


def test_a_reorganisation_is_followed(market: Market, tmp_path: Path) -> None:
    lane = market.lane
    trades = Trades(market.index, ZONE, tmp_path / "reorg.sqlite")
    trades.update()
    before = lane.balance(3)
    snapshot = lane.chain.rpc("evm_snapshot")
    lane.relay.market.transact("deposit", [], [], sender=lane.relay.account)
    token, owner = lane.deployment["TestEuro"], lane.owners[2]
    token.transact("approve", lane.relay.market.address, 900, sender=owner)
    lane.relay.market.transact("deposit", [3], [900], sender=owner)
    market.sync()
    trades.update()
    assert trades.balance(3) == before + 900
    assert lane.chain.rpc("evm_revert", snapshot)
    lane.chain._nonces.clear()
    token.transact("approve", lane.relay.market.address, 50, sender=owner)
    lane.relay.market.transact("deposit", [3], [50], sender=owner)
    market.sync()
    assert trades.update().whole
    assert trades.balance(3) == before + 50 == lane.balance(3)
    assert len(trades.orders([1])) == 2


def test_another_chain_in_the_same_place_is_read_anew(market: Market, tmp_path: Path) -> None:
    from tests.dashboard.sample import Index

    path = tmp_path / "index.sqlite"
    index = Index(path)
    index.add("Deposited", 1, {"account": 1, "amount": 5}, "EnergyMarket")
    trades = Trades(path, ZONE, tmp_path / "trades.sqlite")
    trades.update()
    assert trades.balance(1) == 5
    path.unlink()
    trades.update()
    assert trades.balance(1) == 5  # nothing to read is no reason to forget
    other = Index(path)
    other.block = 10
    other.add("Deposited", 1, {"account": 1, "amount": 7}, "EnergyMarket")
    trades.update()
    assert trades.balance(1) == 7


def test_a_damaged_file_is_named(market: Market, tmp_path: Path) -> None:
    from dao.errors import CheckFailed

    path = tmp_path / "trades.sqlite"
    path.write_bytes(b"no database" * 1_000)
    with pytest.raises(CheckFailed, match="delete the file to build it again"):
        Trades(market.index, ZONE, path).update()


def test_sides_are_read_from_the_words(trades: Trades) -> None:
    book = trades.book(DAY_SLOT)
    assert [one.order.side == ASK for one in book] == [True, True, True, False, False, False]
