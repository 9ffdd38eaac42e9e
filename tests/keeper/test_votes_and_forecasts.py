# SPDX-License-Identifier: Apache-2.0
"""What the keeper does beside the market: passed votes, forecasts, and a relay's promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.street import DAY, DAY_SLOT, ZONE, Street, street
from dao import forecasts, governance
from dao.governance import Call, Proposal, State, Support
from dao.keeper.context import Outcome
from dao.keeper.duties import post_orders
from dao.market.orders import BID, order_digest
from dao.parameters import HOUR, KEYS
from dao.relay.store import RelayStore, StoredOrder
from dao.relay.store import State as OrderState
from dao.slots import SLOTS_PER_DAY
from tests.keeper.conftest import done, keeper, state, turn

HISTORY_DAYS = 8
VOTERS = range(50, 90)


@pytest.fixture(scope="module")
def with_history() -> Iterator[Street]:
    with street(days_before=HISTORY_DAYS) as made:
        yield made


def rule(on: Street, name: str) -> int:
    return int(on.deployment["GridParameters"].call("value", KEYS[name]))


def propose(on: Street, calls: list[Call], why: str) -> Proposal:
    on.chain.fund(on.owners[0].address)
    proposal = governance.propose(on.deployment["GridGovernor"], calls, why, on.owners[0])
    on.chain.set_time(proposal.snapshot + 1)
    return proposal


def accept(on: Street, proposal: Proposal) -> None:
    separator = governance.governor_separator(on.deployment["GridGovernor"])
    ballots = [
        governance.sign_ballot(
            separator, one.key, one.address, proposal.id, Support.FOR, "", proposal.deadline
        )
        for one in (on.owners[i] for i in VOTERS)
    ]
    governance.cast_ballots(on.deployment["GridGovernor"], proposal.id, ballots, on.relay)


def set_rule(on: Street, name: str, value: int) -> Call:
    parameters = on.deployment["GridParameters"]
    return Call(parameters.address, parameters.encode("set_value", KEYS[name], value))


def test_a_passed_vote_is_queued_and_executed_when_its_time_has_come(on: Street) -> None:
    proposal = propose(on, [set_rule(on, "grid_fee", 120)], "A higher fee.")
    accept(on, proposal)
    context = keeper(on)
    assert done(turn(context)) == []
    on.chain.set_time(proposal.deadline + 1)
    assert [a.detail for a in turn(context)] == ["queued"]
    on.chain.set_time(on.chain.now() + 899)
    assert done(turn(context)) == []
    on.chain.set_time(on.chain.now() + 1)
    assert [a.detail for a in turn(context)] == ["executed"]
    assert rule(on, "grid_fee") == 120
    assert turn(context) == []


def test_a_vote_that_failed_is_left_alone(on: Street) -> None:
    proposal = propose(on, [set_rule(on, "grid_fee", 120)], "Nobody wants this.")
    on.chain.set_time(proposal.deadline + 1)
    assert turn(keeper(on)) == []


def test_a_vote_that_cannot_be_executed_does_not_hold_up_the_next(on: Street) -> None:
    context = keeper(on)
    # Half an hour before its own call it is too late: the window has begun.
    late = governance.battery_call(
        on.deployment["GridParameters"], ZONE, [(on.chain.now() // 900 + 4, 4, 1_000)]
    )
    for proposal in (
        propose(on, [late], "Too late."),
        propose(on, [set_rule(on, "grid_fee", 120)], "In time."),
    ):
        accept(on, proposal)
    on.at(-8 * HOUR)
    turn(context)
    on.at(-7 * HOUR)
    outcomes = {a.detail: a.outcome for a in turn(context)}
    assert outcomes == {
        "parameters: window has begun": Outcome.FAILED,
        "executed": Outcome.DONE,
    }
    assert rule(on, "grid_fee") == 120


def test_a_proposal_whose_text_is_no_text_does_not_hide_the_others(on: Street) -> None:
    governor = on.deployment["GridGovernor"]
    member = on.owners[0].address
    on.chain.fund(member)
    call = set_rule(on, "grid_fee", 121)
    data = governor.encode("propose", [call.target], [0], [call.calldata], "XXXX")
    data = data.replace(b"XXXX", b"\xff\xfe\xfd\xfc")
    on.chain.rpc("anvil_impersonateAccount", member)
    mined = on.chain.rpc(
        "eth_sendTransactionSync",
        {"from": member, "to": governor.address, "data": "0x" + data.hex()},
    )
    assert mined["status"] == "0x1"
    proposal = propose(on, [set_rule(on, "grid_fee", 120)], "In plain words.")
    accept(on, proposal)
    context = keeper(on)
    on.chain.set_time(proposal.deadline + 1)
    assert [a.detail for a in turn(context)] == ["queued"]
    assert governance.state(governor, proposal) is State.QUEUED


def test_a_revealed_forecast_is_scored_once_its_day_is_final(with_history: Street) -> None:
    on = with_history
    registry = on.deployment["ForecastRegistry"]
    actual = [on.net_wh(0, slot) for slot in range(SLOTS_PER_DAY)]
    words = forecasts.pack_quantiles(
        [wh - 3_000 for wh in actual], actual, [wh + 3_000 for wh in actual]
    )
    evidence, salt = bytes(32), bytes(range(32))
    digest = forecasts.commitment(ZONE, DAY_SLOT, on.forecaster.address, words, evidence, salt)
    on.at(-6 * HOUR)
    registry.transact("commit", ZONE, DAY_SLOT, digest, sender=on.forecaster)
    on.at(HOUR)
    registry.transact("reveal", ZONE, DAY_SLOT, words, evidence, salt, sender=on.forecaster)
    for day in range(1 - HISTORY_DAYS, 0):
        on.commit_day(day)
    context = keeper(on)
    on.at(4 * DAY - 1)
    on.commit_day(0)
    assert turn(context) == []
    on.at(4 * DAY)
    assert done(turn(context)) == [("score", DAY_SLOT)]
    assert turn(context) == []
    skill, days = registry.call("skill", on.forecaster.address, ZONE)
    assert days == 1
    assert skill > 0


def test_a_relays_orders_are_posted_before_their_gate(on: Street, tmp_path: Path) -> None:
    store = RelayStore(tmp_path / "relay.sqlite")
    signed = on.order(3, BID, 210, 400, DAY_SLOT)
    with store.writing():
        store.add(
            StoredOrder(
                id=order_digest(on.separator, signed.order),
                zone=ZONE,
                session=DAY_SLOT,
                gate=DAY_SLOT * 900 - HOUR,
                signed=signed,
                escrow=400 * 210,
                promise=bytes(65),
                state=OrderState.RECEIVED,
                reason=None,
                received_at=on.chain.now(),
                received_block=on.chain.block_number(),
            )
        )
    post = post_orders(store, ZONE)
    context = keeper(on)
    on.at(-2 * HOUR)
    assert [a.outcome for a in post(context, on.chain.now())] == [Outcome.DONE]
    assert state(on).orders == 1
    assert post(context, on.chain.now()) == []
    store.close()
