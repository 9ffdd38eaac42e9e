# SPDX-License-Identifier: Apache-2.0
"""From a signed request to a stored one, and from its fields to what a wallet signs.

Checks the signature first, then what the chain and what waits here say, last the contract itself,
by a call that changes nothing; stores what passes, and answers after the commit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dao.chain import Contract, ContractReverted
from dao.eip712 import address_bytes
from dao.relay import checks, request_fields
from dao.relay.kinds import RULES
from dao.relay.reader import Relay, wallet_agrees
from dao.relay.request_store import Kind, RequestState, StoredRequest
from dao.relay.requests import Fields, Moment, Rule, Waiting
from dao.relay.store import State
from dao.relay.submitted import Problem, key_signature

Allow = Callable[[str], int]
"""Seconds that a signer has to wait before its next request, 0 for none."""


@dataclass(frozen=True)
class RequestAnswer:
    """What the relay says to one request: stored, and fresh where it was not known before; or
    problems; or seconds to wait. signed: it is its signer's."""

    stored: StoredRequest | None = None
    fresh: bool = False
    problems: tuple[Problem, ...] = ()
    retry_after: int = 0
    signed: bool = False


def submit_request(
    relay: Relay, kind: Kind, document: Any, allow: Allow = lambda signer: 0
) -> RequestAnswer:
    """Judge a signed request and store it if it is good; returns once it is on disk.

    allow: asked only about requests that their signer really signed, so that nobody can use up
    what is another's. One that failed before may come again, as it is, and is judged anew.
    """
    rule = RULES[kind]
    fields, signature, problems = request_fields.parse(rule.fields, document, signed=True)
    contract = rule.contract(relay)
    if problems or contract is None:
        return _refused(*(problems or [_not_carried(rule)]))
    at = Moment(relay)
    signer = rule.signer(at, fields)
    if isinstance(signer, Problem):
        return _refused(signer)
    number = rule.digest(at, fields, signer)
    if number is None:
        return _refused(_not_carried(rule))
    known = relay.store.requests.get(number)
    if known is not None and known.state is not RequestState.FAILED:
        return RequestAnswer(known)
    signed = _signed(rule, contract, number, signature, signer)
    if isinstance(signed, Problem):
        return _refused(signed)
    if wait := allow(signer):
        return RequestAnswer(retry_after=wait, signed=True)
    signature, by_key = signed
    request = StoredRequest(
        id=number,
        kind=kind,
        account=rule.account(at, fields),
        signer=signer,
        fields=fields,
        signature=signature,
        by_key=by_key,
        state=RequestState.RECEIVED,
        reason=None,
        transaction=None,
        received_at=at.now,
        received_block=at.block,
    )
    waiting = _waiting(relay, rule, request.account, signer)
    found = rule.problems(at, fields, signer, waiting)
    # With others of its signer before it, only the chain can say what it will find.
    if not found and not waiting.requests:
        found = _contracts_problems(relay, rule, contract, request)
    if found:
        return RequestAnswer(problems=tuple(found), signed=True)
    with relay.store.writing():  # in which the node is not asked anything more
        known = relay.store.requests.get(number)
        if known is not None and known.state is not RequestState.FAILED:
            return RequestAnswer(known)
        waiting = _waiting(relay, rule, request.account, signer)
        if found := rule.problems(at, fields, signer, waiting):
            return RequestAnswer(problems=tuple(found), signed=True)
        relay.store.requests.put(request)
        _stop_what_it_stops(relay, request, waiting)
    return RequestAnswer(request, fresh=True, signed=True)


def typed_request(
    relay: Relay, kind: Kind, document: Any
) -> tuple[dict[str, Any] | None, list[Problem]]:
    """The EIP-712 document that a wallet signs for a request's fields (`eth_signTypedData_v4`).

    What is left out of numbers and times, the relay fills in.
    """
    rule = RULES[kind]
    fields, _, problems = request_fields.parse(rule.fields, document, signed=False)
    if problems or rule.contract(relay) is None:
        return None, problems or [_not_carried(rule)]
    at = Moment(relay)
    if rule.domain(at) is None:
        return None, [_not_carried(rule)]
    signer = rule.signer(at, fields)
    if isinstance(signer, Problem):
        return None, [signer]
    account = rule.account(at, fields)
    if problem := _fill(relay, rule, at, fields, signer, account):
        return None, [problem]
    return rule.document(at, fields, signer), []


def fields_of(kind: Kind, document: dict[str, Any]) -> Fields:
    """The fields that a typed-data document stands for, to be submitted with its signature.

    A ballot's reason has to be added, because the document holds its hash, and a deposit's
    account, because a permit names none.
    """
    return RULES[kind].fields_of(dict(document["message"]))


# Inside


def _refused(*problems: Problem) -> RequestAnswer:
    return RequestAnswer(problems=problems)


def _not_carried(rule: Rule) -> Problem:
    return Problem("request", f"this relay carries no {rule.plural}", "another relay")


def _signed(
    rule: Rule, contract: Contract, digest: bytes, signature: bytes, signer: str
) -> tuple[bytes, bool] | Problem:
    """The signature in its one spelling, and whether a key made it; or that it is another's."""
    of_key = key_signature(signature)
    if checks.is_signed_by(digest, of_key, signer):
        return of_key, True
    if not rule.by_key_only and any(address_bytes(signer)):
        if wallet_agrees(contract, signer, digest, signature):
            return signature, False
    elif contract.chain.rpc("eth_getCode", signer, "latest") != "0x":
        why = f"{signer} is a contract, and here only keys can sign"
        return Problem("signature", why, "a transaction of the wallet's own")
    return checks.foreign_signature(signer, "who it has to be")


def _waiting(relay: Relay, rule: Rule, account: int, signer: str) -> Waiting:
    """What waits here that concerns a request: an account's orders and requests, or a voter's."""
    store = relay.store
    if rule.contract(relay) is not relay.market:
        kinds = (Kind.BALLOT, Kind.OBJECTION)
        mine = kinds if rule.kind in kinds else (rule.kind,)
        return Waiting(requests=store.requests.live_of_signer(mine, signer))
    if rule.kind is Kind.DEPOSIT:  # the permits of an owner stand in one row
        return Waiting(requests=store.requests.live_of_signer((rule.kind,), signer))
    return Waiting(store.waiting_of([account]), store.requests.live_of_account(account))


def _contracts_problems(
    relay: Relay, rule: Rule, contract: Contract, request: StoredRequest
) -> list[Problem]:
    """What the contract itself says, asked without a transaction."""
    function, arguments = rule.call(request)
    try:
        contract.call(function, *arguments, sender=relay.account.address)
    except ContractReverted as error:
        return [Problem("request", _one_line(error.reason), "what the contract takes")]
    return []


def _one_line(reason: str) -> str:
    """A contract's reason on one line."""
    return reason.encode("ascii", "backslashreplace").decode("ascii").replace("\n", " ")[:200]


def _stop_what_it_stops(relay: Relay, request: StoredRequest, waiting: Waiting) -> None:
    """A signed revocation beats what waits here with its number, as the end of a mandate does."""
    if request.kind is Kind.REVOCATION:
        nonce = request.fields["nonce"]
        orders = [
            one for one in waiting.orders if not one.order.mandate and one.order.nonce == nonce
        ]
        reason = "revoked by its owner"
    elif request.kind is Kind.MANDATE_END:
        orders = [one for one in waiting.orders if one.order.mandate == request.fields["number"]]
        reason = "its mandate was ended"
    else:
        return
    # What is under way already cannot be called back.
    orders = [one for one in orders if one.state is State.RECEIVED]
    relay.store.withdraw(orders, reason, request.received_at)
    if request.kind is Kind.REVOCATION:
        withdrawals = [
            one
            for one in waiting.requests
            if one.kind is Kind.WITHDRAWAL
            and one.fields["nonce"] == request.fields["nonce"]
            and one.state is RequestState.RECEIVED
        ]
        relay.store.requests.take_back(withdrawals, reason, request.received_at)


def _fill(
    relay: Relay, rule: Rule, at: Moment, fields: Fields, signer: str, account: int
) -> Problem | None:
    rule.fill(at, fields, signer, _waiting(relay, rule, account, signer))
    for name, field in rule.fields.items():
        if name not in fields:
            return Problem(name, "none is free now", f"later, or {field.accepted}")
    return None
