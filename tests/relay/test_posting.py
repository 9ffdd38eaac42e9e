# SPDX-License-Identifier: Apache-2.0
"""Promises kept: posted once, in time, whatever happens in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dao.chain import Chain, Contract
from dao.market import session as market_session
from dao.market.orders import BID, Order
from dao.relay import posting
from dao.relay.intake import submit
from dao.relay.posting import Pace, Report, follow_clearing, post_due
from dao.relay.store import RelayStore, State
from tests.relay.conftest import DAY_SLOT, GATE, HOUR, MIDNIGHT, SLOTS, ZONE, Lane

NOON = MIDNIGHT - 12 * HOUR
PACE = Pace()


def take(lane: Lane, *orders: Order) -> list[bytes]:
    """Submit orders as their owners would; all of them have to be taken."""
    answers = submit(lane.relay, [lane.document(order) for order in orders])
    assert [answer.problems for answer in answers] == [()] * len(orders)
    return [answer.stored.id for answer in answers if answer.stored is not None]


def post(lane: Lane, **options: bool) -> Report:
    """One round at the chain's present time."""
    relay = lane.relay
    return post_due(
        relay.store, relay.market, relay.account, ZONE, lane.chain.now(), relay.pace, **options
    )


def states(lane: Lane) -> list[State]:
    return [stored.state for stored in lane.relay.store.of_session(ZONE, DAY_SLOT)]


def on_chain(lane: Lane, session: int = DAY_SLOT) -> list[tuple[int, int]]:
    """Accounts and sides of all that was ever posted, in chain order, turned away or not."""
    found = posting.promise.postings(lane.relay.market, ZONE, session)
    return [(one.order.account, one.order.side) for one in found]


def test_an_order_waits_for_company_and_is_then_posted(lane: Lane) -> None:
    take(lane, lane.order(1))
    lane.at(-12 * HOUR + PACE.interval - 1)
    assert post(lane) == Report()
    lane.at(-12 * HOUR + PACE.interval)
    assert post(lane) == Report(accepted=1)
    (stored,) = lane.relay.store.of_session(ZONE, DAY_SLOT)
    assert (stored.state, stored.posted_at) == (State.ACCEPTED, NOON + PACE.interval)
    assert lane.balance(1) == 100_000_000 - stored.escrow


def test_a_full_batch_waits_for_nobody(lane: Lane) -> None:
    lane.relay = replace(lane.relay, pace=replace(PACE, batch=3))
    take(lane, lane.order(1), lane.order(2))
    assert post(lane) == Report()
    take(lane, lane.order(3))
    assert post(lane) == Report(accepted=3)


def test_close_to_the_gate_nothing_waits(lane: Lane) -> None:
    lane.at(-HOUR - PACE.margin - 1)
    take(lane, lane.order(1))
    assert post(lane) == Report()
    lane.at(-HOUR - PACE.margin)
    assert post(lane) == Report(accepted=1)


def test_orders_go_in_the_order_of_receipt(lane: Lane) -> None:
    take(lane, lane.order(5), lane.ask(4), lane.order(2), lane.ask(9), lane.ask(3))
    post(lane, flush=True)
    assert on_chain(lane) == [(5, 0), (4, 1), (2, 0), (9, 1), (3, 1)]


def test_each_session_gets_a_batch_of_its_own(lane: Lane) -> None:
    later = lane.order(2, session_slot=DAY_SLOT + SLOTS, expiry=2**40 - 1)
    take(lane, lane.order(1), later)
    assert post(lane, flush=True) == Report(accepted=2)
    assert (len(on_chain(lane)), len(on_chain(lane, DAY_SLOT + SLOTS))) == (1, 1)


def test_more_orders_than_a_batch_holds_go_in_several(lane: Lane) -> None:
    lane.relay = replace(lane.relay, pace=replace(PACE, batch=3))
    take(lane, *(lane.order(account) for account in range(1, 8)))
    before = lane.chain.transactions
    assert post(lane) == Report(accepted=7)
    assert lane.chain.transactions - before == 3


def test_a_second_round_posts_nothing_again(lane: Lane) -> None:
    take(lane, lane.order(1))
    post(lane, flush=True)
    before = lane.chain.transactions
    assert post(lane, flush=True) == Report()
    assert lane.chain.transactions == before


def test_what_the_contract_turns_away_is_written_down_with_its_reason(lane: Lane) -> None:
    poor, good = lane.order(1, wh=25_000), lane.order(2)
    take(lane, poor, good)
    lane.chain.fund(lane.owners[0].address)
    lane.relay.market.transact(
        "withdraw", 1, 100_000_000, lane.owners[0].address, sender=lane.owners[0]
    )
    assert post(lane, flush=True) == Report(accepted=1, rejected=1)
    found = lane.relay.store.of_session(ZONE, DAY_SLOT, [State.REJECTED])
    assert [(one.order, one.reason) for one in found] == [(poor, "poor")]
    assert post(lane, flush=True) == Report()


def test_an_order_that_its_owner_posted_first_is_not_posted_again(lane: Lane) -> None:
    order = lane.order(1)
    take(lane, order)
    other = lane.chain.accounts[7]
    market_session.post(lane.relay.market, ZONE, DAY_SLOT, [lane.signed(order)], other)
    assert post(lane, flush=True) == Report(accepted=1)
    assert len(on_chain(lane)) == 1


def test_an_order_that_somebody_tried_before_its_receipt_is_still_posted(lane: Lane) -> None:
    """Turned away then, because the account was poor; now it is not."""
    order, owner = lane.order(1), lane.owners[0]
    lane.chain.fund(owner.address)
    lane.relay.market.transact("withdraw", 1, 100_000_000, owner.address, sender=owner)
    other = lane.chain.accounts[7]
    _, rejected = market_session.post(
        lane.relay.market, ZONE, DAY_SLOT, [lane.signed(order)], other
    )
    assert len(rejected) == 1
    token = lane.deployment["TestEuro"]
    token.transact("approve", lane.relay.market.address, 100_000_000, sender=owner)
    lane.relay.market.transact("deposit", [1], [100_000_000], sender=owner)
    take(lane, order)
    assert post(lane, flush=True) == Report(accepted=1)


def test_a_revoked_order_is_withdrawn_and_not_posted(lane: Lane) -> None:
    take(lane, lane.order(1), lane.order(2))
    lane.chain.fund(lane.owners[0].address)
    lane.relay.market.transact("revoke", 1, 0, sender=lane.owners[0])
    assert post(lane, flush=True) == Report(accepted=1, withdrawn=1)
    assert on_chain(lane) == [(2, BID)]


def test_an_agents_order_is_withdrawn_with_its_mandate(lane: Lane) -> None:
    owner, agent = lane.owners[0], lane.owners[5]
    lane.chain.fund(owner.address)
    lane.grant(1, 7, agent)
    take(lane, lane.order(1))
    (answer,) = submit(lane.relay, [lane.document(lane.order(1, mandate=7), by=agent)])
    assert answer.problems == ()
    lane.relay.market.transact("end_mandate", 1, 7, sender=owner)
    assert post(lane, flush=True) == Report(accepted=1, withdrawn=1)


def test_a_revoked_number_is_the_owners_and_no_agents(lane: Lane) -> None:
    owner, agent = lane.owners[0], lane.owners[5]
    lane.chain.fund(owner.address)
    lane.grant(1, 7, agent)
    submit(lane.relay, [lane.document(lane.order(1, mandate=7), by=agent)])
    lane.relay.market.transact("revoke", 1, 0, sender=owner)
    assert post(lane, flush=True) == Report(accepted=1)


def test_what_a_pause_makes_void_is_withdrawn_and_no_promise_broken(lane: Lane) -> None:
    take(lane, lane.order(1), lane.order(2, session_slot=DAY_SLOT + SLOTS, expiry=2**40 - 1))
    lane.pause()
    assert post(lane, flush=True) == Report(withdrawn=2)
    (answer,) = submit(lane.relay, [lane.document(lane.order(3))])
    assert [problem.field for problem in answer.problems] == ["first_slot"]


def test_a_missed_gate_is_counted_as_a_broken_promise(lane: Lane) -> None:
    take(lane, lane.order(1))
    lane.at(-HOUR)
    assert post(lane) == Report(late=1)
    assert lane.relay.store.counts()[State.LATE] == 1
    assert [session.closed for session in lane.relay.store.sessions(ZONE)] == [True]
    assert post(lane) == Report()


def test_after_a_reorganisation_an_order_is_posted_again(lane: Lane) -> None:
    take(lane, lane.order(1))
    snapshot = lane.chain.rpc("evm_snapshot")
    post(lane, flush=True)
    assert lane.chain.rpc("evm_revert", snapshot)
    assert on_chain(lane) == []
    with Chain.local(lane.node.url) as chain:  # which has not counted the lost transaction
        market = chain.at("EnergyMarket", lane.relay.market.address)
        report = post_due(
            lane.relay.store, market, lane.relay.account, ZONE, chain.now(), flush=True
        )
    assert report == Report(accepted=1)
    assert on_chain(lane) == [(1, BID)]
    assert states(lane) == [State.ACCEPTED]


def test_while_a_transaction_is_under_way_nothing_is_posted(lane: Lane) -> None:
    take(lane, lane.order(1))
    lane.chain.rpc("evm_setAutomine", False)
    stuck = {"from": lane.relay.account.address, "to": lane.owners[0].address, "value": "0x1"}
    lane.chain.rpc("eth_sendTransaction", stuck)
    assert post(lane, flush=True) == Report(in_flight=True)
    assert states(lane) == [State.RECEIVED]
    lane.chain.mine()
    lane.chain.rpc("evm_setAutomine", True)
    assert post(lane, flush=True) == Report(accepted=1)


def test_another_process_that_posts_is_left_alone(lane: Lane) -> None:
    take(lane, lane.order(1))
    with RelayStore(lane.relay.store.path).posting():
        assert post(lane, flush=True) == Report(busy=True)
    assert post(lane, flush=True) == Report(accepted=1)


def test_one_order_that_makes_the_contract_revert_does_not_hold_up_the_others(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch is refused as a whole for its gas only: a lower limit stands in for a heavy order."""
    take(lane, *(lane.order(account) for account in range(1, 11)))
    send = Contract.transact

    def with_a_limit(self: Contract, function: str, *args: Any, **kwargs: Any) -> Any:
        _, _, orders, rows, batch = args
        heavy = any(row >> 224 == 6 for row in batch[:rows])
        gas = 30_000 + 6_000 * orders if heavy else None
        return send(self, function, *args, **kwargs, gas=gas)

    monkeypatch.setattr(Contract, "transact", with_a_limit)
    report = post(lane, flush=True)
    assert report.accepted == 9
    assert len(report.errors) == 1
    assert f"session {DAY_SLOT}, 1 orders" in report.errors[0]
    monkeypatch.undo()
    assert post(lane, flush=True) == Report(accepted=1)
    assert len(on_chain(lane)) == 10


def test_a_session_that_cannot_be_posted_does_not_hold_up_the_next(lane: Lane) -> None:
    """The gate of the first one closes unseen, between the round's look at the clock and its
    posting."""
    later = lane.order(2, session_slot=DAY_SLOT + SLOTS, expiry=2**40 - 1)
    take(lane, lane.order(1), later)
    lane.at(-HOUR)
    relay = lane.relay
    report = post_due(relay.store, relay.market, relay.account, ZONE, GATE - 1, relay.pace)
    assert report.accepted == 1
    assert "gate is closed" in report.errors[0]
    assert post(lane) == Report(late=1)


def test_the_feed_tells_when_a_session_is_cleared(lane: Lane) -> None:
    take(lane, lane.order(1), lane.ask(2))
    post(lane, flush=True)
    lane.at(-HOUR)
    follow_clearing(lane.relay.store, lane.relay.market, ZONE, lane.chain.now())
    before = lane.relay.store.last_event()
    lane.clear()
    for _ in range(2):
        follow_clearing(lane.relay.store, lane.relay.market, ZONE, lane.chain.now())
    assert [event.kind for event in lane.relay.store.feed(before)] == ["session-cleared"]


KILLED = """
import os, signal, sys
from pathlib import Path
from dao import deployment
from dao.chain import Chain
from dao.relay import posting
from dao.relay.store import RelayStore

store, addresses, url, point = sys.argv[1:]
send = posting.market_session.post

def and_die(*args):
    if point == "after sending":
        send(*args)
    os.kill(os.getpid(), signal.SIGKILL)

posting.market_session.post = and_die
with Chain.local(url) as chain:
    market = deployment.read(chain, Path(addresses))["EnergyMarket"]
    posting.post_due(
        RelayStore(Path(store)), market, chain.accounts[5], 1, chain.now(), flush=True
    )
"""


@pytest.mark.parametrize("point", ["before sending", "after sending"])
def test_a_relay_killed_while_it_posts_neither_doubles_nor_loses_an_order(
    lane: Lane, tmp_path: Path, point: str
) -> None:
    from dao import deployment

    take(lane, lane.order(1), lane.ask(2), lane.order(3))
    deployment.write(lane.deployment, tmp_path / "deployment.json")
    arguments = [lane.relay.store.path, tmp_path / "deployment.json", lane.node.url, point]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert states(lane) == [State.POSTED] * 3
    assert len(on_chain(lane)) == (3 if point == "after sending" else 0)
    assert post(lane, flush=True) == Report(accepted=3)
    assert on_chain(lane) == [(1, 0), (2, 1), (3, 0)]


def test_a_round_that_is_too_late_to_see_its_batch_mined_finds_it_later(lane: Lane) -> None:
    """Sent and not yet mined, when the process died: it is neither forgotten nor sent again."""
    (number,) = take(lane, lane.order(1))
    stored = lane.relay.store.get(number)
    assert stored is not None
    lane.relay.store.settle_fates([posting.Fate(number, State.POSTED)], NOON)
    lane.chain.rpc("evm_setAutomine", False)
    batch = market_session.pack_batch([stored.signed])
    data = lane.relay.market.encode("post", ZONE, DAY_SLOT, *batch)
    sent = {
        "from": lane.relay.account.address,
        "to": lane.relay.market.address,
        "data": "0x" + data.hex(),
        "gas": hex(1_000_000),
    }
    lane.chain.rpc("eth_sendTransaction", sent)
    assert post(lane, flush=True) == Report(in_flight=True)
    assert states(lane) == [State.POSTED]
    lane.chain.mine()
    lane.chain.rpc("evm_setAutomine", True)
    assert post(lane, flush=True) == Report(accepted=1)
    assert len(on_chain(lane)) == 1


def test_the_pace_is_measured_from_the_oldest_order(lane: Lane) -> None:
    take(lane, lane.order(1))
    lane.at(-12 * HOUR + PACE.interval)
    take(lane, lane.order(2))
    assert post(lane) == Report(accepted=2)
