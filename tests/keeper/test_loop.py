# SPDX-License-Identifier: Apache-2.0
"""The keeper's loop: it outlives the node, a broken duty and an empty purse; two do no harm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Barrier, Thread

import pytest

from benchmarks.street import DAY, DAY_SLOT, Street
from dao.chain import Chain
from dao.errors import CheckFailed
from dao.keeper.context import Action, Context, Duty, Outcome
from dao.keeper.duties import DUTIES
from dao.keeper.loop import SESSION_GAS, check_money, run, tick
from dao.parameters import HOUR
from tests.keeper.conftest import (
    KEEPER,
    LATER_SLOT,
    SELLERS,
    SLOTS,
    Gateway,
    Receipts,
    deliver,
    done,
    escrow,
    keeper,
    market,
    moved,
    post_book,
    state,
    turn,
)


class Waits:
    """Stands for the time between two looks: does one thing in each, and ends after the last."""

    def __init__(self, *doings: Callable[[], None]) -> None:
        self.doings = list(doings)
        self.pauses: list[float] = []

    def __call__(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        if not self.doings:
            return True
        self.doings.pop(0)()
        return False


def loop(context: Context, duties: Sequence[Duty] = DUTIES, *doings: Callable[[], None]) -> Waits:
    waits = Waits(*doings)
    run(context, duties, clock=context.chain.now, wait=waits, poll=10)
    return waits


def test_a_node_that_goes_away_is_waited_for_and_then_the_work_goes_on(on: Street) -> None:
    post_book(on)
    said: list[Action] = []
    with Gateway(on.chain.url) as gateway, Chain.local(gateway.url) as behind:
        context = Context(moved(on, behind), on.chain.accounts[KEEPER], report=said.append)

        def go() -> None:
            gateway.close()
            on.at(-HOUR)

        waits = loop(context, DUTIES, go, lambda: None, gateway.open)
    assert waits.pauses == [10, 20, 40, 10]
    assert [(a.duty, a.outcome) for a in said] == [
        ("keeper", Outcome.WAITING),
        ("keeper", Outcome.WAITING),
        ("clear", Outcome.DONE),
        ("settle", Outcome.WAITING),
        ("keeper", Outcome.DONE),
    ]
    assert said[0].detail.startswith("node unreachable at")
    assert state(on).cleared == SLOTS


def test_a_node_that_goes_away_in_the_middle_of_a_duty_loses_nothing(on: Street) -> None:
    post_book(on)
    post_book(on, LATER_SLOT)
    on.at(5 * HOUR)  # the first session is void, the second is to be cleared
    said: list[Action] = []
    with Gateway(on.chain.url) as gateway, Chain.local(gateway.url) as behind:
        sends = 0

        def count(asked: dict[str, object]) -> None:
            nonlocal sends
            if asked["method"] == "eth_sendRawTransactionSync":
                sends += 1
                if sends == 2:
                    raise ConnectionError  # its answer never arrives

        gateway.after = count
        context = Context(moved(on, behind), on.chain.accounts[KEEPER], report=said.append)
        loop(context, DUTIES, lambda: None, lambda: None)
    assert [(a.duty, a.about.get("first_slot")) for a in said if a.outcome is Outcome.DONE] == [
        ("void", DAY_SLOT),
        ("settle", DAY_SLOT),
        ("keeper", None),
    ]
    assert state(on).settled == SLOTS
    assert state(on, LATER_SLOT).cleared == SLOTS


def test_gas_that_is_too_dear_is_waited_out(on: Street) -> None:
    post_book(on)
    on.at(-HOUR)
    waits = loop(keeper(on, max_gas_price=1), DUTIES, lambda: None)
    assert waits.pauses == [20, 40]
    assert state(on).cleared == 0


def test_a_duty_that_breaks_does_not_keep_the_next_from_its_turn(on: Street) -> None:
    def broken(context: Context, now: int) -> list[Action]:
        raise ZeroDivisionError("a defect")

    post_book(on)
    on.at(-HOUR)
    actions = tick(keeper(on), (broken, *DUTIES), on.chain.now())
    assert [(a.duty, a.outcome) for a in actions[:2]] == [
        ("broken", Outcome.FAILED),
        ("clear", Outcome.DONE),
    ]


def test_once_is_well_where_something_was_done_and_nothing_failed(on: Street) -> None:
    def once(context: Context, duties: Sequence[Duty] = DUTIES) -> bool:
        return run(context, duties, clock=on.chain.now, wait=Waits(), once=True)

    def broken(context: Context, now: int) -> list[Action]:
        raise ZeroDivisionError("a defect")

    post_book(on)
    assert not once(keeper(on))
    on.at(-HOUR)
    assert once(keeper(on))
    on.at(5 * HOUR)
    post_book(on, DAY_SLOT + 2 * SLOTS)
    on.at(11 * HOUR)
    assert not once(keeper(on), (broken, *DUTIES))


def test_once_raises_where_the_node_is_away(on: Street) -> None:
    with Gateway(on.chain.url) as gateway, Chain.local(gateway.url) as behind:
        context = Context(moved(on, behind), on.relay)
        gateway.close()
        with pytest.raises(CheckFailed, match="node unreachable"):
            run(context, DUTIES, clock=behind.now, wait=Waits(), once=True)


def test_it_stops_after_the_step_under_way(on: Street) -> None:
    post_book(on)
    post_book(on, LATER_SLOT)
    on.at(7 * HOUR)  # both are to be voided
    said: list[Action] = []
    context = keeper(on, report=said.append)
    context = replace(context, stopping=lambda: bool(said))
    loop(context)
    assert [(a.duty, a.about["first_slot"]) for a in said] == [("void", DAY_SLOT)]


@pytest.mark.parametrize(("days", "warned"), [(6.9, True), (7.1, False)])
def test_it_warns_once_a_day_when_the_money_ends_within_a_week(
    on: Street, days: float, warned: bool
) -> None:
    post_book(on)
    context = keeper(on)
    price = int(on.chain.rpc("eth_gasPrice"), 16)
    on.chain.fund(context.account.address, int(days * 4 * SESSION_GAS * price))
    now = on.chain.now()
    found = check_money(context, now, 0, 7)
    assert [a.outcome for a in found] == [Outcome.WARNING] * warned
    assert check_money(context, now + DAY - 1, 0, 7) == []
    assert len(check_money(context, now + DAY, 0, 7)) == warned


def test_a_day_that_was_dearer_than_usual_counts_as_it_was(on: Street) -> None:
    context = keeper(on)
    price = int(on.chain.rpc("eth_gasPrice"), 16)
    on.chain.fund(context.account.address, 10 * 4 * SESSION_GAS * price)
    assert check_money(context, on.chain.now(), 0, 7) == []
    assert len(check_money(context, on.chain.now(), 8 * SESSION_GAS, 7)) == 1


def test_two_keepers_at_once_do_everything_once(on: Street) -> None:
    """Each look begins at the same moment in both, so that they meet at every step."""
    receipts = Receipts()
    slots = (DAY_SLOT, LATER_SLOT)
    for first_slot in slots:
        post_book(on, first_slot)
        deliver(on, receipts, first_slot, *SELLERS)
    first, second = keeper(on, receipts), keeper(on, receipts, account=7)
    actions: list[Action] = []
    with Chain.local(on.chain.url) as beside:
        second = replace(second, deployment=moved(on, beside))
        for seconds in (-HOUR, 5 * HOUR, DAY):
            on.at(seconds)
            if seconds == DAY:
                on.commit_day(0)
            start = Barrier(2)

            def look(context: Context, start: Barrier = start) -> None:
                start.wait()
                actions.extend(turn(context))

            threads = [Thread(target=look, args=(context,)) for context in (first, second)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert sorted(done(actions)) == sorted(
        [(step, slot) for step in ("clear", "settle") for slot in slots]
    )
    assert {a.outcome for a in actions} <= {Outcome.DONE, Outcome.LOST, Outcome.WAITING}
    for name in ("SlotCleared", "SlotSettled"):
        assert len(market(on).events(name)) == len(slots) * SLOTS
    assert escrow(on) == 0
    on.check_conservation()
