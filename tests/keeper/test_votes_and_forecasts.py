# SPDX-License-Identifier: Apache-2.0
"""What the keeper does beside the market: passed votes, forecasts, and a relay's promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.street import BOND, DAY, DAY_SLOT, MEMBERS, ZONE, Street, street
from dao import forecasts, governance, membership, treasury
from dao.governance import Call, Lane, Proposal, State, Support
from dao.keeper.context import Outcome
from dao.keeper.duties import post_orders
from dao.market.orders import BID, order_digest
from dao.parameters import EURO, HOUR, KEYS
from dao.relay.store import RelayStore, StoredOrder
from dao.relay.store import State as OrderState
from dao.slots import SLOTS_PER_DAY
from tests.keeper.conftest import done, keeper, state, turn

HISTORY_DAYS = 8
VOTERS = range(50, 90)
ADMISSION_DELAY = 9 * DAY


@pytest.fixture(scope="module")
def with_history() -> Iterator[Street]:
    with street(days_before=HISTORY_DAYS) as made:
        yield made


def fee(on: Street, slot: int = DAY_SLOT) -> int:
    """The grid fee in force for a slot, in µ€/Wh."""
    return int(on.deployment["GridParameters"].call("effective", ZONE, KEYS["grid_fee"], slot))


def propose(on: Street, calls: list[Call], why: str, lane: Lane = Lane.BALANCING) -> Proposal:
    governor = on.deployment["GridGovernor"]
    proposal = governance.propose(governor, calls, why, on.owners[0], lane=lane)
    on.chain.set_time(proposal.snapshot + 1)
    return proposal


def accept(on: Street, proposal: Proposal, support: Support = Support.FOR) -> None:
    separator = governance.governor_separator(on.deployment["GridGovernor"])
    ballots = [
        governance.sign_ballot(
            separator, one.key, one.address, proposal.id, support, "", proposal.deadline
        )
        for one in (on.owners[i] for i in VOTERS)
    ]
    governance.cast_ballots(on.deployment["GridGovernor"], proposal.id, ballots, on.relay)


def window(on: Street, value: int, slot: int = DAY_SLOT) -> Call:
    """A grid fee for one hour."""
    parameters = on.deployment["GridParameters"]
    arguments = (ZONE, KEYS["grid_fee"], slot, 4, value)
    return Call(parameters.address, parameters.encode("open_window", *arguments))


def test_a_passed_vote_is_queued_and_executed_when_its_time_has_come(on: Street) -> None:
    proposal = propose(on, [window(on, 120)], "A higher fee.")
    accept(on, proposal)
    context = keeper(on)
    assert done(turn(context)) == []
    on.chain.set_time(proposal.deadline + 1)
    assert [a.detail for a in turn(context)] == ["queued", "20.00 € free again"]
    on.chain.set_time(on.chain.now() + 899)
    assert done(turn(context)) == []
    on.chain.set_time(on.chain.now() + 1)
    assert [a.detail for a in turn(context)] == ["executed"]
    assert fee(on) == 120
    assert turn(context) == []


def test_a_rule_is_changed_in_the_slower_lane(on: Street) -> None:
    parameters = on.deployment["GridParameters"]
    call = Call(parameters.address, parameters.encode("set_value", KEYS["grid_fee"], 120))
    proposal = propose(on, [call], "A higher fee for good.", Lane.ORDINARY)
    accept(on, proposal)
    context = keeper(on)
    on.chain.set_time(proposal.deadline + 1)
    assert [a.detail for a in turn(context)] == ["queued", "20.00 € free again"]
    on.chain.set_time(on.chain.now() + 2 * DAY)
    assert [a.detail for a in turn(context)] == ["executed"]
    assert parameters.call("value", KEYS["grid_fee"]) == 120


def test_a_vote_that_failed_frees_its_bond_and_is_left_alone(on: Street) -> None:
    proposal = propose(on, [window(on, 120)], "Nobody wants this.")
    on.chain.set_time(proposal.deadline + 1)
    context = keeper(on)
    assert [a.detail for a in turn(context)] == ["20.00 € free again"]
    assert turn(context) == []


def test_a_vetoed_proposals_bond_goes_to_the_treasury(on: Street) -> None:
    proposal = propose(on, [window(on, 120)], "Spam.")
    accept(on, proposal, Support.VETO)
    on.chain.set_time(proposal.deadline + 1)
    assert [a.detail for a in turn(keeper(on))] == ["20.00 € forfeited"]
    treasury = on.deployment["Treasury"].address
    assert on.deployment["TestEuro"].call("balanceOf", treasury) == 20_000_000


def test_a_vote_that_cannot_be_executed_does_not_hold_up_the_next(on: Street) -> None:
    context = keeper(on)
    # Half an hour before its own call it is too late: the window has begun.
    late = window(on, 120, on.chain.now() // 900 + 13)
    for proposal in (
        propose(on, [late], "Too late."),
        propose(on, [window(on, 120)], "In time."),
    ):
        accept(on, proposal)
    on.chain.set_time(proposal.deadline + 1)
    turn(context)
    on.chain.set_time(on.chain.now() + 900)
    outcomes = {a.detail: a.outcome for a in turn(context)}
    assert outcomes == {
        "parameters: window has begun": Outcome.FAILED,
        "executed": Outcome.DONE,
    }
    assert fee(on) == 120


def test_a_proposal_whose_text_is_no_text_does_not_hide_the_others(on: Street) -> None:
    governor = on.deployment["GridGovernor"]
    member = on.owners[0].address
    call = window(on, 121, DAY_SLOT + 8)
    data = governor.encode("proposeBalancing", [call.target], [0], [call.calldata], "XXXX")
    data = data.replace(b"XXXX", b"\xff\xfe\xfd\xfc")
    on.chain.rpc("anvil_impersonateAccount", member)
    mined = on.chain.rpc(
        "eth_sendTransactionSync",
        {"from": member, "to": governor.address, "data": "0x" + data.hex()},
    )
    assert mined["status"] == "0x1"
    proposal = propose(on, [window(on, 120)], "In plain words.")
    accept(on, proposal)
    context = keeper(on)
    on.chain.set_time(proposal.deadline + 1)
    assert "queued" in [a.detail for a in turn(context)]
    assert governance.state(governor, proposal) is State.QUEUED


def test_who_is_announced_is_admitted_and_removed_when_it_is_due(on: Street) -> None:
    contract, registrar = on.deployment["Membership"], on.chain.accounts[1]
    newcomer = on.owners[MEMBERS].address
    membership.announce_admissions(contract, [newcomer], [MEMBERS + 1], registrar)
    context = keeper(on)
    assert turn(context) == []
    on.chain.set_time(on.chain.now() + ADMISSION_DELAY)
    assert [a.detail for a in turn(context)] == ["admitted"]
    membership.announce_removals(contract, [newcomer], registrar)
    on.chain.set_time(on.chain.now() + ADMISSION_DELAY)
    assert [a.detail for a in turn(context)] == ["removed"]
    assert not contract.call("is_member", newcomer)
    assert turn(context) == []


def test_an_announcement_that_was_taken_back_is_left_alone(on: Street) -> None:
    contract, registrar = on.deployment["Membership"], on.chain.accounts[1]
    newcomer, meter = on.owners[MEMBERS].address, MEMBERS + 1
    membership.announce_admissions(contract, [newcomer], [meter], registrar)
    membership.cancel_announcements(contract, [meter], registrar)
    on.chain.set_time(on.chain.now() + ADMISSION_DELAY)
    assert turn(keeper(on)) == []


def test_a_forecast_that_was_never_revealed_is_reported(on: Street) -> None:
    registry = on.deployment["ForecastRegistry"]
    on.at(-6 * HOUR)
    registry.transact("commit", ZONE, DAY_SLOT, b"\x01" * 32, sender=on.forecaster)
    context = keeper(on)
    on.at(4 * DAY - 1)
    assert turn(context) == []
    on.at(4 * DAY)
    assert done(turn(context)) == [("miss", DAY_SLOT)]
    assert turn(context) == []
    assert registry.call("bond_of", on.forecaster.address)[0] < BOND


def pass_ordinary(on: Street, calls: list[Call], why: str) -> None:
    """All members are asked, and a keeper carries out what they decided."""
    proposal = propose(on, calls, why, Lane.ORDINARY)
    accept(on, proposal)
    on.chain.set_time(proposal.deadline + 1)
    turn(keeper(on))
    on.chain.set_time(on.chain.now() + 2 * DAY)
    turn(keeper(on))
    state = governance.state(on.deployment["GridGovernor"], proposal)
    assert state is State.EXECUTED


def test_what_the_members_agreed_to_pay_every_month_is_paid_when_it_is_due(on: Street) -> None:
    token, contract = on.deployment["TestEuro"], on.deployment["Treasury"]
    owner, payee = on.owners[1], on.owners[2].address
    on.deployment["GridGovernor"].transact("withdrawBond", 60 * EURO, sender=owner)
    token.transact("transfer", contract.address, 60 * EURO, sender=owner)
    begin = on.chain.now() + 12 * DAY
    pass_ordinary(
        on,
        [
            treasury.budget_call(
                contract, 1, "Street lights", 30 * EURO, 30 * DAY, begin, begin + 90 * DAY
            ),
            treasury.recurring_call(
                contract, 1, payee, 25 * EURO, 30 * DAY, 3, begin, "Power of the street lights"
            ),
        ],
        "Pay for the street lights for three months.",
    )
    before = int(token.call("balanceOf", payee))
    context = keeper(on)
    assert turn(context) == []
    on.chain.set_time(begin)
    assert done(turn(context)) == [("payment", None)]
    assert turn(context) == []
    on.chain.set_time(begin + 30 * DAY)
    assert done(turn(context)) == [("payment", None)]
    assert int(token.call("balanceOf", payee)) - before == 50 * EURO
    # Ten euro are left, the third payment waits for money.
    on.chain.set_time(begin + 60 * DAY)
    assert [(a.outcome, a.detail) for a in turn(context)] == [
        (Outcome.WAITING, "treasury: not enough free money")
    ]
    (first, second) = treasury.payments(contract, on.deployment.first_block)
    (made,) = governance.list_proposals(on.deployment["GridGovernor"])
    assert first.proposal == second.proposal == made.id


def test_a_dispute_that_no_vote_decided_lapses(on: Street) -> None:
    registry = on.deployment["ForecastRegistry"]
    on.at(-6 * HOUR)
    registry.transact("commit", ZONE, DAY_SLOT, b"\x01" * 32, sender=on.forecaster)
    on.at(4 * DAY)
    turn(keeper(on))
    complaint = "It was hidden because it was wrong."
    arguments = (on.forecaster.address, ZONE, DAY_SLOT, complaint)
    registry.transact("open_dispute", *arguments, sender=on.owners[1])
    context = keeper(on)
    on.chain.set_time(on.chain.now() + 30 * DAY - 1)
    assert turn(context) == []
    on.chain.set_time(on.chain.now() + 1)
    assert [a.detail for a in turn(context)] == ["not decided in time"]
    assert registry.call("open_disputes", on.forecaster.address) == 0


def test_a_vote_decides_a_dispute_and_the_liable_forecaster_pays(on: Street) -> None:
    registry = on.deployment["ForecastRegistry"]
    on.at(-6 * HOUR)
    registry.transact("commit", ZONE, DAY_SLOT, b"\x01" * 32, sender=on.forecaster)
    on.at(4 * DAY)
    turn(keeper(on))
    arguments = (on.forecaster.address, ZONE, DAY_SLOT, "Hidden.")
    registry.transact("open_dispute", *arguments, sender=on.owners[1])
    before = int(registry.call("bond_of", on.forecaster.address)[0])
    finding = "It never revealed what it had committed to."
    decide = registry.encode("decide_dispute", 1, on.forecaster.address, 7 * EURO, finding)
    pass_ordinary(on, [Call(registry.address, decide)], "The forecaster is liable.")
    assert before - int(registry.call("bond_of", on.forecaster.address)[0]) == 7 * EURO
    (found,) = forecasts.disputes(registry)
    assert (found.state, found.liable) == ("decided", on.forecaster.address)


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
