# SPDX-License-Identifier: Apache-2.0
"""The keeper's duties on a real node: what it does for sessions, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from benchmarks.street import DAY, DAY_SLOT, ZONE, Street
from dao.chain import ContractReverted
from dao.keeper.context import Outcome
from dao.keeper.sending import GasTooDear
from dao.market import session
from dao.market.orders import BID
from dao.market.session import DeviceReceipt
from dao.parameters import HOUR
from tests.keeper.conftest import (
    BUYERS,
    LATER_SLOT,
    SELLERS,
    SLOTS,
    Receipts,
    balance,
    commit,
    deliver,
    done,
    escrow,
    keeper,
    market,
    post_book,
    post_full_book,
    state,
    turn,
)

RECEIPT_PERIOD = 12 * HOUR
ABANDON_PERIOD = 7 * DAY
END = 6 * HOUR
"""When the first session's delivery is over, seconds after midnight."""


def test_two_sessions_go_through_by_the_keeper_alone(on: Street) -> None:
    before = {n: balance(on, n) for n in (*SELLERS, *BUYERS)}
    post_book(on)
    post_book(on, LATER_SLOT)
    receipts = Receipts()
    context = keeper(on, receipts)
    assert done(turn(context)) == []
    on.at(-HOUR)
    assert done(turn(context)) == [("clear", DAY_SLOT)]
    on.at(5 * HOUR)
    assert done(turn(context)) == [("clear", LATER_SLOT)]
    on.at(DAY)
    deliver(on, receipts, DAY_SLOT, *SELLERS)
    deliver(on, receipts, LATER_SLOT, *SELLERS, wh=300)
    on.commit_day(0)
    assert done(turn(context)) == [("settle", DAY_SLOT), ("settle", LATER_SLOT)]
    assert done(turn(context)) == []
    on.check_conservation()
    # 400 Wh a slot at 100, then 300 Wh with 100 Wh short at a penalty of 100.
    earned = SLOTS * (400 * 100) + SLOTS * (300 * 100 - 100 * 100)
    assert [balance(on, n) - before[n] for n in SELLERS] == [earned, earned]
    # The price and a fee of 110; the penalty comes to the buyers.
    spent = SLOTS * (400 * 210) + SLOTS * (300 * 210 - 100 * 100)
    assert [before[n] - balance(on, n) for n in BUYERS] == [spent, spent]
    assert escrow(on) == 0


def test_a_keeper_that_knows_nothing_finds_nothing_left_to_do(on: Street) -> None:
    post_book(on)
    receipts = Receipts()
    deliver(on, receipts, DAY_SLOT, *SELLERS)
    for hour in (-2, -1, 3, 7, 24):
        on.at(hour * HOUR)
        if hour == 24:
            on.commit_day(0)
        turn(keeper(on, receipts))
        sent = on.chain.transactions
        assert done(turn(keeper(on, receipts))) == []
        assert on.chain.transactions == sent
    assert state(on).settled == SLOTS


def test_a_session_that_nobody_cleared_in_time_pays_everything_back_at_once(on: Street) -> None:
    before = [balance(on, n) for n in (*SELLERS, *BUYERS)]
    post_book(on)
    on.at(1)
    assert done(turn(keeper(on))) == [("void", DAY_SLOT), ("settle", DAY_SLOT)]
    assert [balance(on, n) for n in (*SELLERS, *BUYERS)] == before
    on.check_conservation()


def test_a_session_whose_gate_falls_into_a_pause_pays_back_before_its_gate(on: Street) -> None:
    guardian = on.chain.accounts[4]
    post_book(on)
    post_book(on, LATER_SLOT)
    context = keeper(on)
    on.at(-2 * HOUR)
    market(on).transact("pause", [], sender=guardian)
    assert done(turn(context)) == [
        ("void", DAY_SLOT),
        ("void", LATER_SLOT),
        ("settle", DAY_SLOT),
        ("settle", LATER_SLOT),
    ]
    assert escrow(on) == 0


def test_a_session_in_which_nothing_trades_pays_back_without_any_reading(on: Street) -> None:
    before = balance(on, 3)
    on.post([on.order(3, BID, 50, 400, DAY_SLOT)])
    on.at(-HOUR)
    assert done(turn(keeper(on))) == [("clear", DAY_SLOT), ("settle", DAY_SLOT)]
    assert balance(on, 3) == before


def test_a_session_without_an_accepted_order_costs_no_gas(on: Street) -> None:
    forged = on.order(1, BID, 400, 500, DAY_SLOT)
    forged = replace(forged, order=replace(forged.order, limit=401))
    session.post(market(on), ZONE, DAY_SLOT, [forged], on.relay)
    assert state(on).slots == SLOTS
    on.at(2 * DAY)
    assert turn(keeper(on)) == []


def test_a_session_waits_for_an_outstanding_receipt_and_settles_after_its_deadline(
    on: Street,
) -> None:
    before = [balance(on, n) for n in SELLERS]
    post_book(on)
    receipts = Receipts()
    context = keeper(on, receipts, lodges=False)
    on.at(-HOUR)
    turn(context)
    on.at(END)
    commit(on)
    deliver(on, receipts, DAY_SLOT, 1)
    (waiting,) = turn(context)
    assert (waiting.duty, waiting.outcome) == ("settle", Outcome.WAITING)
    assert waiting.detail == "auction: a receipt is outstanding (meter 2)"
    on.at(END + RECEIPT_PERIOD)
    assert done(turn(context)) == []
    on.at(END + RECEIPT_PERIOD + 1)
    assert done(turn(context)) == [("settle", DAY_SLOT)]
    paid, penalty = SLOTS * 400 * 100, SLOTS * 400 * 100
    assert [balance(on, n) - was for n, was in zip(SELLERS, before, strict=True)] == [
        paid,
        -penalty,
    ]
    on.check_conservation()


def test_the_receipt_it_waited_for_settles_the_session_at_once(on: Street) -> None:
    post_book(on)
    receipts = Receipts()
    context = keeper(on, receipts)
    on.at(-HOUR)
    turn(context)
    on.at(END)
    commit(on)
    deliver(on, receipts, DAY_SLOT, 1)
    assert done(turn(context)) == []
    deliver(on, receipts, DAY_SLOT, 2)
    assert done(turn(context)) == [("settle", DAY_SLOT)]


def test_it_says_only_once_that_it_waits(on: Street) -> None:
    post_book(on)
    context = keeper(on, Receipts())
    on.at(-HOUR)
    turn(context)
    on.at(END)
    commit(on)
    assert [a.outcome for a in turn(context)] == [Outcome.WAITING]
    on.at(END + HOUR)
    assert turn(context) == []


def test_receipts_are_lodged_before_the_deadline_and_then_no_settler_can_leave_them_out(
    on: Street,
) -> None:
    before = balance(on, 1)
    post_book(on)
    receipts = Receipts()
    context = keeper(on, receipts)
    on.at(-HOUR)
    turn(context)
    on.at(END)
    commit(on)
    # The third meter sold nothing: its receipt is nobody's business.
    deliver(on, receipts, DAY_SLOT, 1, 3)
    assert done(turn(context)) == []
    on.at(END + RECEIPT_PERIOD - HOUR)
    lodged = [a for a in turn(context) if a.outcome is Outcome.DONE]
    assert [(a.duty, a.about["meter"]) for a in lodged] == [("lodge", 1)]
    on.at(END + RECEIPT_PERIOD + 1)
    stranger = keeper(on, Receipts(), account=7)
    assert done(turn(stranger)) == [("settle", DAY_SLOT)]
    assert balance(on, 1) - before == SLOTS * 400 * 100


def test_a_keeper_without_receipts_leaves_a_late_session_to_the_others_for_an_hour(
    on: Street,
) -> None:
    post_book(on)
    context = keeper(on)
    on.at(-HOUR)
    turn(context)
    on.at(END)
    commit(on)
    on.at(END + RECEIPT_PERIOD + HOUR)
    assert done(turn(context)) == []
    on.at(END + RECEIPT_PERIOD + HOUR + 1)
    assert done(turn(context)) == [("settle", DAY_SLOT)]


@pytest.mark.parametrize("defect", ["another key", "too short", "no signature", "another meter"])
def test_a_receipt_that_is_not_its_devices_holds_nobody_up(on: Street, defect: str) -> None:
    before = balance(on, 1)
    post_book(on)
    receipts = Receipts()
    context = keeper(on, receipts)
    on.at(-HOUR)
    turn(context)
    on.at(END)
    commit(on)
    deliver(on, receipts, DAY_SLOT, *SELLERS)
    good = receipts[DAY_SLOT][2]
    receipts[DAY_SLOT][2] = {
        "another key": replace(good, exports=(65_535,) * SLOTS),
        "too short": replace(good, exports=good.exports[1:]),
        "no signature": replace(good, signature=b""),
        "another meter": receipts[DAY_SLOT][1],
    }[defect]
    (waiting,) = turn(context)
    assert "meter 2" in waiting.detail
    on.at(END + RECEIPT_PERIOD + 1)
    assert ("settle", DAY_SLOT) in done(turn(context))
    assert balance(on, 1) - before == SLOTS * 400 * 100


def test_a_device_that_signed_two_receipts_loses_its_key(on: Street) -> None:
    registry = on.deployment["MeterRegistry"]
    post_book(on)
    receipts = Receipts()
    on.at(-HOUR)
    turn(keeper(on, receipts))
    deliver(on, receipts, DAY_SLOT, 1)
    on.at(END + RECEIPT_PERIOD - HOUR)
    assert [a.duty for a in turn(keeper(on, receipts)) if a.outcome is Outcome.DONE] == ["lodge"]
    deliver(on, receipts, DAY_SLOT, 1, wh=500)
    found = [a for a in turn(keeper(on, receipts)) if a.duty == "conflict"]
    assert [(a.about["meter"], a.outcome) for a in found] == [(1, Outcome.DONE)]
    assert int(registry.call("device_at", 1, DAY_SLOT * 900), 16) == 0
    assert [a for a in turn(keeper(on, receipts)) if a.duty == "conflict"] == []


def test_a_conflict_that_the_relay_met_is_reported_before_anybody_is_paid(on: Street) -> None:
    post_book(on)
    receipts, others = Receipts(), Receipts()
    deliver(on, receipts, DAY_SLOT, *SELLERS)
    deliver(on, others, DAY_SLOT, 1, wh=500)
    both = (receipts[DAY_SLOT][1], others[DAY_SLOT][1])
    on.at(-HOUR)
    turn(keeper(on))
    on.at(END)
    commit(on)
    context = keeper(on, receipts, conflicts=lambda: [(1, DAY_SLOT, both)])
    actions = turn(context)
    assert [(a.duty, a.outcome) for a in actions] == [
        ("conflict", Outcome.DONE),
        ("settle", Outcome.WAITING),
    ]
    assert "meter 1" in actions[1].detail


def test_a_forged_contradiction_takes_nobodys_key(on: Street) -> None:
    receipts = Receipts()
    deliver(on, receipts, DAY_SLOT, 1)
    good = receipts[DAY_SLOT][1]
    forged = replace(good, exports=(500,) * SLOTS)
    on.at(END)
    assert turn(keeper(on, conflicts=lambda: [(1, DAY_SLOT, (good, forged))])) == []


def test_a_session_too_large_for_a_transaction_settles_in_runs_of_slots(on: Street) -> None:
    sellers, buyers = range(1, 251), range(251, 501)
    post_full_book(on, sellers, buyers)
    receipts = Receipts()
    context = keeper(on, receipts)
    on.at(-HOUR)
    turn(context)
    on.at(END)
    commit(on)
    deliver(on, receipts, DAY_SLOT, *sellers, wh=500)
    settled = [a for a in turn(context) if a.duty == "settle"]
    assert [a.outcome for a in settled] == [Outcome.DONE]
    assert len(settled[0].transactions) > 1
    assert state(on).settled == SLOTS
    on.check_conservation()


def test_one_session_that_fails_does_not_hold_up_the_others(on: Street) -> None:
    class Broken(Receipts):
        def receipts(self, first_slot: int) -> Mapping[int, DeviceReceipt]:
            if first_slot == DAY_SLOT:
                raise OSError("the disk is gone")
            return super().receipts(first_slot)

    post_book(on)
    post_book(on, LATER_SLOT)
    receipts = Broken()
    context = keeper(on, receipts)
    for hour in (-1, 5):
        on.at(hour * HOUR)
        turn(context)
    deliver(on, receipts, LATER_SLOT, *SELLERS)
    on.at(DAY)
    on.commit_day(0)
    actions = turn(context)
    assert done(actions) == [("settle", LATER_SLOT)]
    failed = [a for a in actions if a.outcome is Outcome.FAILED]
    assert ("settle", DAY_SLOT) in {(a.duty, a.about["first_slot"]) for a in failed}
    assert {a.detail for a in failed} == {"OSError: the disk is gone"}


def test_what_failed_is_left_in_peace_for_a_while_and_for_longer_each_time(on: Street) -> None:
    class Broken(Receipts):
        def receipts(self, first_slot: int) -> Mapping[int, DeviceReceipt]:
            raise OSError("the disk is gone")

    post_book(on)
    context = keeper(on, Broken())
    on.at(-HOUR)
    turn(context)
    tries = []
    for second in range(0, 300, 10):
        on.at(END + second)
        if any(a.duty == "settle" for a in turn(context)):
            tries.append(second)
    assert tries == [0, 30, 90, 210]


def test_a_session_nobody_can_settle_is_abandoned_and_pays_back(on: Street) -> None:
    before = [balance(on, n) for n in (*SELLERS, *BUYERS)]
    post_book(on)
    receipts = Receipts()
    context = keeper(on, receipts)
    on.at(-HOUR)
    turn(context)
    deliver(on, receipts, DAY_SLOT, *SELLERS)
    on.at(END + ABANDON_PERIOD)  # the readings never come
    assert ("abandon", DAY_SLOT) not in done(turn(context))
    on.at(END + ABANDON_PERIOD + 1)
    assert ("abandon", DAY_SLOT) in done(turn(context))
    assert state(on).settled == SLOTS
    assert [balance(on, n) for n in (*SELLERS, *BUYERS)] == before
    on.check_conservation()


def test_fees_go_to_the_treasury_once_they_are_worth_the_gas(on: Street) -> None:
    post_book(on)
    receipts = Receipts()
    deliver(on, receipts, DAY_SLOT, *SELLERS)
    fees = SLOTS * 800 * 110
    for hour in (-1, 6):
        on.at(hour * HOUR)
        if hour == 6:
            commit(on)
        turn(keeper(on, receipts, collect_above=fees))
    assert market(on).call("fees_due") == fees
    assert ("fees", None) in done(turn(keeper(on, receipts, collect_above=fees - 1)))
    treasury = on.deployment["Treasury"].address
    assert on.deployment["TestEuro"].call("balanceOf", treasury) == fees


def test_nothing_is_sent_while_gas_costs_more_than_the_bound(on: Street) -> None:
    post_book(on)
    on.at(-HOUR)
    sent = on.chain.transactions
    with pytest.raises(GasTooDear, match="the bound is"):
        turn(keeper(on, max_gas_price=1))
    assert on.chain.transactions == sent
    assert done(turn(keeper(on, max_gas_price=10**12))) == [("clear", DAY_SLOT)]


def test_what_the_contract_would_refuse_is_not_sent(on: Street) -> None:
    post_book(on)
    on.at(-HOUR)
    asked = keeper(on).asked_first("EnergyMarket", [])
    sent = on.chain.transactions
    with pytest.raises(ContractReverted, match="can still be cleared"):
        asked.transact("void", ZONE, DAY_SLOT, sender=on.relay)
    assert on.chain.transactions == sent
