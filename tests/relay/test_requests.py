# SPDX-License-Identifier: Apache-2.0
"""What people sign besides orders: taken, carried, and brought in line with the chain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dao import deployment as deploying
from dao.chain import Chain, Contract
from dao.market.account import (
    CAP_UNIT,
    Mandate,
    mandate_digest,
    mandate_end_digest,
    revocation_digest,
    withdrawal_digest,
)
from dao.market.orders import BID
from dao.relay import carrying
from dao.relay.carrying import carry
from dao.relay.intake import submit
from dao.relay.request_intake import RequestAnswer, submit_request, typed_request
from dao.relay.request_store import Kind, RequestState, StoredRequest
from dao.relay.service import run_round
from dao.relay.store import State
from tests.relay.conftest import DAY_SLOT, DEPOSIT, HOUR, ZONE, Lane
from tests.relay.signing import ask, sign, taken, wanted

EURO = 1_000_000
PAYEE = "0x00000000000000000000000000000000000000EE"
AGENT = "0x00000000000000000000000000000000000000aa"


def stored(lane: Lane, number: bytes) -> StoredRequest:
    found = lane.relay.store.requests.get(number)
    assert found is not None
    return found


def carried(lane: Lane, number: bytes) -> StoredRequest:
    """The request after a round."""
    assert run_round(lane.relay, flush=True) == ()
    return stored(lane, number)


def fields(answer: RequestAnswer) -> list[str]:
    assert answer.stored is None
    return [problem.field for problem in answer.problems]


def pocket(lane: Lane, account: int, amount: int = 50 * EURO) -> None:
    """Money in an owner's own wallet."""
    lane.deployment["TestEuro"].transact("transfer", lane.owners[account - 1].address, amount)


def wealth(lane: Lane, address: str) -> int:
    return int(lane.deployment["TestEuro"].call("balanceOf", address))


def withdraw(lane: Lane, account: int = 1, amount: int = EURO, **more: Any) -> bytes:
    who = lane.owners[account - 1]
    return taken(lane.relay, Kind.WITHDRAWAL, who, account=account, amount=amount, to=PAYEE, **more)


def deposit(lane: Lane, account: int = 1, amount: int = 20 * EURO) -> bytes:
    who = lane.owners[account - 1]
    return taken(lane.relay, Kind.DEPOSIT, who, account=account, amount=amount)


# What is signed


def test_every_typed_document_is_what_the_contract_hashes(lane: Lane) -> None:
    """The ids, which come from the documents, against the digests packed by hand."""
    relay, who = lane.relay, lane.owners[0]
    separator = relay.separator
    terms = Mandate(AGENT, BID, 300, 12, 20_000)
    expected = {
        Kind.WITHDRAWAL: withdrawal_digest(separator, 1, 3, EURO, PAYEE, 2_000_000_000),
        Kind.REVOCATION: revocation_digest(separator, 1, 4),
        Kind.MANDATE: mandate_digest(separator, 1, 7, terms),
    }
    given: dict[Kind, dict[str, Any]] = {
        Kind.WITHDRAWAL: {"nonce": 3, "amount": EURO, "to": PAYEE, "deadline": 2_000_000_000},
        Kind.REVOCATION: {"nonce": 4},
        Kind.MANDATE: {
            "number": 7,
            "agent": AGENT,
            "side": "bid",
            "limit": 300,
            "daily_cap": 12 * CAP_UNIT,
            "last_day": 20_000,
        },
    }
    for kind, digest in expected.items():
        assert taken(relay, kind, who, account=1, **given[kind]) == digest
    run_round(relay)
    end = taken(relay, Kind.MANDATE_END, who, account=1, number=7)
    assert end == mandate_end_digest(separator, 1, 7)


def test_a_node_signs_the_documents_as_eth_account_does(lane: Lane) -> None:
    """anvil's own wallet stands in for a browser's."""
    relay, who = lane.relay, lane.chain.accounts[0]
    for kind, given in (
        (Kind.WITHDRAWAL, {"amount": EURO, "to": PAYEE}),
        (Kind.REVOCATION, {"nonce": 4}),
        (Kind.DEPOSIT, {"amount": EURO}),
        (Kind.MANDATE, {"agent": AGENT, "side": "ask", "limit": 1, "daily_cap": CAP_UNIT}),
    ):
        document, _ = typed_request(relay, kind, {"account": 1, **given})
        assert document is not None
        theirs = lane.chain.rpc("eth_signTypedData_v4", who.address, document)
        assert theirs == sign(document, who)


# Carried out


def test_a_withdrawal_is_on_disk_and_then_paid(lane: Lane) -> None:
    number = withdraw(lane, amount=3 * EURO)
    assert stored(lane, number).state is RequestState.RECEIVED
    done = carried(lane, number)
    assert (done.state, wealth(lane, PAYEE)) == (RequestState.DONE, 3 * EURO)
    assert lane.balance(1) == DEPOSIT - 3 * EURO
    receipt = lane.chain.rpc("eth_getTransactionReceipt", done.transaction)
    assert receipt["status"] == "0x1"


def test_a_permit_pays_money_in_without_a_gas_token(lane: Lane) -> None:
    pocket(lane, 1)
    number = deposit(lane)
    assert carried(lane, number).state is RequestState.DONE
    assert lane.balance(1) == DEPOSIT + 20 * EURO
    assert wealth(lane, lane.owners[0].address) == 30 * EURO


def test_permits_of_one_owner_stand_in_a_row(lane: Lane) -> None:
    pocket(lane, 1)
    numbers = [deposit(lane, amount=amount * EURO) for amount in (1, 2, 3)]
    run_round(lane.relay)
    assert {stored(lane, number).state for number in numbers} == {RequestState.DONE}
    assert lane.balance(1) == DEPOSIT + 6 * EURO


def test_a_mandate_is_granted_and_ended(lane: Lane) -> None:
    terms = {"agent": AGENT, "side": "ask", "limit": 120, "daily_cap": 30 * CAP_UNIT}
    number = taken(lane.relay, Kind.MANDATE, lane.owners[0], account=1, **terms)
    assert carried(lane, number).state is RequestState.DONE
    granted, *_ = lane.relay.market.call("mandate", 1, stored(lane, number).fields["number"])
    assert (granted["side"], granted["limit"], granted["daily_cap"]) == (1, 120, 30)
    end = taken(lane.relay, Kind.MANDATE_END, lane.owners[0], account=1, number=1)
    assert carried(lane, end).state is RequestState.DONE
    assert int(lane.relay.market.call("mandate", 1, 1)[0]["agent"], 16) == 0
    # The number is spent, and the next grant is offered another one.
    document, _ = typed_request(lane.relay, Kind.MANDATE, {"account": 1, **terms})
    assert document is not None
    assert document["message"]["number"] == 2


def test_a_signed_revocation_beats_a_waiting_order(lane: Lane) -> None:
    (answer,) = submit(lane.relay, [lane.document(lane.order(1))])
    assert answer.stored is not None
    number = taken(lane.relay, Kind.REVOCATION, lane.owners[0], account=1, nonce=0)
    order = lane.relay.store.get(answer.stored.id)
    assert order is not None
    assert (order.state, order.reason) == (State.WITHDRAWN, "revoked by its owner")
    assert carried(lane, number).state is RequestState.DONE
    assert lane.relay.market.call("session", ZONE, DAY_SLOT)[4] == 0
    assert lane.balance(1) == DEPOSIT


def test_a_revocation_stops_only_the_order_with_its_number(lane: Lane) -> None:
    submit(lane.relay, [lane.document(lane.order(1)), lane.document(lane.order(1, nonce=1))])
    taken(lane.relay, Kind.REVOCATION, lane.owners[0], account=1, nonce=1)
    run_round(lane.relay, flush=True)
    assert lane.relay.store.counts()[State.ACCEPTED] == 1


def test_an_ended_mandate_stops_what_waits_under_it(lane: Lane) -> None:
    lane.chain.fund(lane.owners[0].address)
    lane.grant(1, 7, lane.owners[5])
    submit(lane.relay, [lane.document(lane.order(1, mandate=7), by=lane.owners[5])])
    number = taken(lane.relay, Kind.MANDATE_END, lane.owners[0], account=1, number=7)
    assert carried(lane, number).state is RequestState.DONE
    assert lane.relay.store.counts()[State.WITHDRAWN] == 1


def test_a_revocation_stops_a_withdrawal_that_waits(lane: Lane) -> None:
    number = withdraw(lane, nonce=0)
    taken(lane.relay, Kind.REVOCATION, lane.owners[0], account=1, nonce=0)
    assert carried(lane, number).reason == "revoked by its owner"
    assert (wealth(lane, PAYEE), lane.balance(1)) == (0, DEPOSIT)


def test_an_order_taken_back_here_that_somebody_else_posted_is_shown_as_posted(lane: Lane) -> None:
    from dao.market import session

    order = lane.order(1)
    (answer,) = submit(lane.relay, [lane.document(order)])
    assert answer.stored is not None
    number = taken(lane.relay, Kind.REVOCATION, lane.owners[0], account=1, nonce=0)
    session.post(lane.relay.market, ZONE, DAY_SLOT, [lane.signed(order)], lane.chain.accounts[7])
    failed = carried(lane, number)
    assert (failed.state, failed.reason) == (RequestState.FAILED, "market: nonce is not free")
    shown = lane.relay.store.get(answer.stored.id)
    assert shown is not None
    assert shown.state is State.ACCEPTED


# What is not taken


def test_only_the_owner_can_sign(lane: Lane) -> None:
    body = wanted(
        lane.relay, Kind.WITHDRAWAL, {"account": 1, "amount": EURO, "to": PAYEE}, lane.owners[1]
    )
    answer = submit_request(lane.relay, Kind.WITHDRAWAL, body)
    assert (fields(answer), answer.signed) == (["signature"], False)


def test_other_values_than_the_signed_ones_are_nobodys(lane: Lane) -> None:
    given = {"account": 1, "amount": EURO, "to": PAYEE}
    body = wanted(lane.relay, Kind.WITHDRAWAL, given, lane.owners[0])
    changes: list[dict[str, Any]] = [{"amount": 2 * EURO}, {"to": AGENT}, {"nonce": 1}]
    for change in changes:
        answer = submit_request(lane.relay, Kind.WITHDRAWAL, {**body, **change})
        assert fields(answer) == ["signature"]


def test_money_that_is_promised_to_waiting_orders_stays(lane: Lane) -> None:
    (order,) = submit(lane.relay, [lane.document(lane.order(1))])
    assert order.stored is not None
    free = DEPOSIT - order.stored.escrow
    who, given = lane.owners[0], {"account": 1, "to": PAYEE}
    assert fields(ask(lane.relay, Kind.WITHDRAWAL, who, **given, amount=free + 1)) == ["amount"]
    taken(lane.relay, Kind.WITHDRAWAL, who, **given, amount=free)


def test_an_order_cannot_use_what_a_waiting_withdrawal_takes(lane: Lane) -> None:
    withdraw(lane, amount=DEPOSIT)
    (answer,) = submit(lane.relay, [lane.document(lane.order(1))])
    assert [problem.field for problem in answer.problems] == ["nonce", "limit"]


def test_a_number_serves_one_thing(lane: Lane) -> None:
    submit(lane.relay, [lane.document(lane.order(1))])
    who, given = lane.owners[0], {"account": 1, "to": PAYEE, "amount": EURO}
    assert fields(ask(lane.relay, Kind.WITHDRAWAL, who, **given, nonce=0)) == ["nonce"]
    document, _ = typed_request(lane.relay, Kind.WITHDRAWAL, given)
    assert document is not None
    assert document["message"]["nonce"] == 1


def test_a_deadline_that_is_past_or_near_is_refused(lane: Lane) -> None:
    given = {"account": 1, "to": PAYEE, "amount": EURO}
    for deadline in (0, lane.chain.now(), lane.chain.now() + 59):
        answer = ask(lane.relay, Kind.WITHDRAWAL, lane.owners[0], **given, deadline=deadline)
        assert fields(answer) == ["deadline"]


def test_a_deposit_needs_money_in_the_owners_wallet(lane: Lane) -> None:
    answer = ask(lane.relay, Kind.DEPOSIT, lane.owners[0], account=1, amount=1)
    assert fields(answer) == ["amount"]


def test_an_account_that_is_not_open_is_said_so(lane: Lane) -> None:
    _, problems = typed_request(lane.relay, Kind.REVOCATION, {"account": 999, "nonce": 0})
    assert [problem.field for problem in problems] == ["account"]


def test_what_only_the_contract_knows_is_told_in_its_words(lane: Lane) -> None:
    given = {"agent": AGENT, "side": "ask", "limit": 120, "daily_cap": CAP_UNIT, "number": 1}
    number = taken(lane.relay, Kind.MANDATE, lane.owners[0], account=1, **given)
    assert carried(lane, number).state is RequestState.DONE
    answer = ask(lane.relay, Kind.MANDATE, lane.owners[0], account=1, **{**given, "limit": 121})
    assert answer.problems[0].problem == "market: mandate number is used"


def test_a_relay_without_a_contract_says_that_it_does_not_carry_what_goes_there(
    lane: Lane,
) -> None:
    relay = replace(lane.relay, token=None, governor=None, membership=None)
    who = lane.owners[0].address
    given: dict[Kind, dict[str, Any]] = {
        Kind.DEPOSIT: {"account": 1, "amount": 1},
        Kind.BALLOT: {"proposal": "1", "voter": who, "support": "for"},
        Kind.DELEGATION: {"delegator": who, "delegatee": who},
    }
    more = {"nonce": 0, "deadline": 2**40 - 1, "expiry": 2**40 - 1}
    for kind, fields in given.items():
        assert typed_request(relay, kind, fields)[1][0].field == "request"
        wanted_too = {name: more[name] for name in carrying.RULES[kind].fields if name in more}
        body = {**fields, **wanted_too, "signature": "0x" + "11" * 65}
        assert submit_request(relay, kind, body).problems[0].field == "request"


def test_a_token_without_a_permit_takes_no_deposit_by_signature(lane: Lane) -> None:
    plain = replace(lane.deployment["TestEuro"], address=lane.deployment["GridParameters"].address)
    relay = replace(lane.relay, token=plain)
    _, problems = typed_request(relay, Kind.DEPOSIT, {"account": 1, "amount": 1})
    assert [problem.field for problem in problems] == ["request"]


# Once, whatever happens


def test_the_same_request_again_is_the_same(lane: Lane) -> None:
    given = {"account": 1, "amount": EURO, "to": PAYEE}
    body = wanted(lane.relay, Kind.WITHDRAWAL, given, lane.owners[0])
    answers = [submit_request(lane.relay, Kind.WITHDRAWAL, body) for _ in range(2)]
    assert [answer.fresh for answer in answers] == [True, False]
    run_round(lane.relay)
    again = submit_request(lane.relay, Kind.WITHDRAWAL, body)
    assert again.stored is not None
    assert (again.fresh, again.stored.state) == (False, RequestState.DONE)
    assert wealth(lane, PAYEE) == EURO


def test_a_second_round_sends_nothing_again(lane: Lane) -> None:
    withdraw(lane)
    run_round(lane.relay)
    before = lane.chain.transactions
    run_round(lane.relay)
    assert lane.chain.transactions == before


def bring(lane: Lane, number: bytes) -> None:
    """Somebody else sends the very same signature."""
    request = stored(lane, number)
    rule = carrying.RULES[request.kind]
    function, arguments = rule.call(request)
    contract = rule.contract(lane.relay)
    assert contract is not None
    contract.transact(function, *arguments, sender=lane.chain.accounts[7])


@pytest.mark.parametrize("kind", ["withdrawal", "deposit", "revocation", "mandate"])
def test_what_somebody_else_brings_first_is_done_and_not_failed(lane: Lane, kind: str) -> None:
    pocket(lane, 1)
    who = lane.owners[0]
    number = {
        "withdrawal": lambda: withdraw(lane),
        "deposit": lambda: deposit(lane),
        "revocation": lambda: taken(lane.relay, Kind.REVOCATION, who, account=1, nonce=0),
        "mandate": lambda: taken(
            lane.relay,
            Kind.MANDATE,
            who,
            account=1,
            agent=AGENT,
            side="bid",
            limit=9,
            daily_cap=0,
        ),
    }[kind]()
    bring(lane, number)
    before = lane.balance(1)
    assert carried(lane, number).state is RequestState.DONE
    assert lane.balance(1) == before


@pytest.mark.parametrize("kind", ["withdrawal", "deposit"])
def test_what_is_front_run_in_the_last_moment_is_done_and_not_failed(
    lane: Lane, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pocket(lane, 1)
    number = withdraw(lane) if kind == "withdrawal" else deposit(lane)
    send = Contract.transact

    def after_somebody_else(self: Contract, *args: Any, **more: Any) -> Any:
        monkeypatch.undo()
        bring(lane, number)
        return send(self, *args, **more)

    monkeypatch.setattr(Contract, "transact", after_somebody_else)
    assert carried(lane, number).state is RequestState.DONE


def test_a_permit_that_somebody_used_leaves_an_allowance_that_serves(lane: Lane) -> None:
    pocket(lane, 1)
    number = deposit(lane)
    request = stored(lane, number)
    account, amount, deadline, v, r, s = carrying.RULES[Kind.DEPOSIT].call(request)[1]
    lane.deployment["TestEuro"].transact(
        "permit", request.signer, lane.relay.market.address, amount, deadline, v, r, s,
        sender=lane.chain.accounts[7],
    )  # fmt: skip
    assert carried(lane, number).state is RequestState.DONE
    assert lane.balance(account) == DEPOSIT + amount


def test_a_deposit_is_not_made_twice_where_the_owner_allowed_the_market_much(lane: Lane) -> None:
    """Brought by somebody else, it could go through once more on the allowance."""
    pocket(lane, 1)
    owner = lane.owners[0]
    number = deposit(lane)
    bring(lane, number)
    lane.chain.fund(owner.address)
    market = lane.relay.market.address
    lane.deployment["TestEuro"].transact("approve", market, 2**200, sender=owner)
    assert carried(lane, number).state is RequestState.DONE
    assert lane.balance(1) == DEPOSIT + 20 * EURO


def test_another_withdrawal_of_the_same_amount_is_not_taken_for_it(lane: Lane) -> None:
    owner = lane.owners[0]
    number = withdraw(lane)
    lane.chain.fund(owner.address)
    lane.relay.market.transact("withdraw", 1, EURO, PAYEE, sender=owner)
    assert carried(lane, number).state is RequestState.DONE
    assert wealth(lane, PAYEE) == 2 * EURO


def test_what_fails_is_told_with_the_contracts_reason_and_may_come_again(lane: Lane) -> None:
    owner = lane.owners[0]
    given = {"account": 1, "amount": DEPOSIT, "to": PAYEE}
    body = wanted(lane.relay, Kind.WITHDRAWAL, given, owner)
    answer = submit_request(lane.relay, Kind.WITHDRAWAL, body)
    assert answer.stored is not None
    lane.chain.fund(owner.address)
    lane.relay.market.transact("withdraw", 1, EURO, owner.address, sender=owner)
    failed = carried(lane, answer.stored.id)
    assert (failed.state, failed.reason) == (RequestState.FAILED, "market: balance too low")
    token, market = lane.deployment["TestEuro"], lane.relay.market
    token.transact("approve", market.address, EURO, sender=owner)
    market.transact("deposit", [1], [EURO], sender=owner)
    assert submit_request(lane.relay, Kind.WITHDRAWAL, body).fresh
    assert carried(lane, answer.stored.id).state is RequestState.DONE


def test_after_a_reorganisation_a_request_is_carried_again(lane: Lane) -> None:
    number = withdraw(lane)
    snapshot = lane.chain.rpc("evm_snapshot")
    run_round(lane.relay)
    assert lane.chain.rpc("evm_revert", snapshot)
    lane.chain._nonces.clear()
    assert wealth(lane, PAYEE) == 0
    assert carried(lane, number).state is RequestState.DONE
    assert wealth(lane, PAYEE) == EURO


KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from dao import deployment
from dao.chain import Chain, Contract
from dao.relay.carrying import carry
from dao.relay.reader import Relay
from dao.relay.store import RelayStore

store, addresses, url, point = sys.argv[1:]
send = Contract.transact

def and_die(self, *args, **more):
    if point == "after sending":
        send(self, *args, **more)
    os.kill(os.getpid(), signal.SIGKILL)

Contract.transact = and_die
with Chain.local(url) as chain:
    deployed = deployment.read(chain, Path(addresses))
    relay = Relay.of(deployed, RelayStore(Path(store)), 1, chain.accounts[5])
    carry(relay, chain.now())
"""


@pytest.mark.parametrize("point", ["before sending", "after sending"])
def test_a_relay_killed_while_it_sends_neither_doubles_nor_loses_a_request(
    lane: Lane, tmp_path: Path, point: str
) -> None:
    number = withdraw(lane)
    deploying.write(lane.deployment, tmp_path / "deployment.json")
    arguments = [lane.relay.store.path, tmp_path / "deployment.json", lane.node.url, point]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert stored(lane, number).state is RequestState.SENT
    assert wealth(lane, PAYEE) == (EURO if point == "after sending" else 0)
    assert carried(lane, number).state is RequestState.DONE
    assert wealth(lane, PAYEE) == EURO


def test_while_a_transaction_is_under_way_nothing_is_sent(lane: Lane) -> None:
    number = withdraw(lane)
    lane.chain.rpc("evm_setAutomine", False)
    stuck = {"from": lane.relay.account.address, "to": lane.owners[0].address, "value": "0x1"}
    lane.chain.rpc("eth_sendTransaction", stuck)
    assert carry(lane.relay, lane.chain.now()).in_flight
    lane.chain.mine()
    lane.chain.rpc("evm_setAutomine", True)
    assert carried(lane, number).state is RequestState.DONE


def test_trouble_of_the_node_is_not_the_contracts_refusal(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dao.chain import ContractReverted

    def overloaded(self: Chain, *_: Any, **__: Any) -> bytes:
        raise ContractReverted("the call", "too many requests")

    number = withdraw(lane)
    monkeypatch.setattr(Chain, "call", overloaded)
    report = carry(lane.relay, lane.chain.now())
    assert len(report.errors) == 1
    assert stored(lane, number).state is RequestState.SENT
    monkeypatch.undo()
    assert carried(lane, number).state is RequestState.DONE


def test_orders_near_their_gate_do_not_wait_for_requests(lane: Lane) -> None:
    lane.at(-HOUR - 200)
    submit(lane.relay, [lane.document(lane.order(2))])
    for _ in range(3):
        withdraw(lane)
    run_round(lane.relay)
    assert lane.relay.store.counts()[State.ACCEPTED] == 1
    assert lane.relay.store.requests.counts()[RequestState.DONE] == 3
