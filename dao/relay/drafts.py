# SPDX-License-Identifier: Apache-2.0
"""An order before it is signed: what a wallet signs for it, and what would come of it.

Numbers that the fields leave out are filled in. Signed orders are `intake`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dao.market.orders import DOMAIN_NAME, DOMAIN_VERSION, ORDER_TYPE, Order, pack, words_hash
from dao.relay import checks
from dao.relay.checks import Outlook, Terms
from dao.relay.reader import Reader, Relay
from dao.relay.store import WAITING
from dao.relay.submitted import Problem, parse_order
from dao.relay.typed_data import Domain, document


@dataclass(frozen=True)
class Drafted:
    """An order not signed yet: complete, as one of a session; outlook where nothing is wrong."""

    order: Order
    problems: tuple[Problem, ...]
    outlook: Outlook | None


def draft_order(relay: Relay, submitted: Any) -> tuple[Drafted | None, list[Problem]]:
    """An order's fields judged as if their owner had signed them; `nonce` and `expiry` may be
    absent. None where they do not make an order."""
    read, problems = _completed(relay, submitted)
    if read is None:
        return None, problems
    order, terms, reader = read
    account = reader.account(order.account)
    mandate = reader.mandate(order.account, order.mandate) if order.mandate else None
    waiting = relay.store.waiting_of([order.account])
    waiting += relay.store.of_session(relay.zone, terms.first_slot, WAITING)
    waiting = list({one.id: one for one in waiting}.values())
    held = relay.store.requests.held([order.account]).of(order.account)
    problems = checks.judge(
        order,
        terms,
        account,
        mandate,
        waiting,
        held,
        now=reader.now,
        last_call=relay.pace.last_call,
    )
    mine = sum(one.escrow for one in waiting if one.order.account == order.account)
    outlook = checks.outlook(
        order,
        terms,
        account.balance - mine - held.money,
        now=reader.now,
        interval=relay.pace.interval,
        margin=relay.pace.margin,
    )
    return Drafted(order, tuple(problems), None if problems else outlook), []


def typed_order(relay: Relay, submitted: Any) -> tuple[dict[str, Any] | None, list[Problem]]:
    """The EIP-712 document that a wallet signs for an order's fields (`eth_signTypedData_v4`);
    `nonce` and `expiry` are filled in where they are absent."""
    read, problems = _completed(relay, submitted)
    if read is None:
        return None, problems
    order, _, _ = read
    profile = words_hash(pack(order)[1:]) if order.is_profile else bytes(32)
    domain = Domain(DOMAIN_NAME, DOMAIN_VERSION, relay.chain.chain_id, relay.market.address)
    message = {
        "account": order.account,
        "mandate": order.mandate,
        "nonce": order.nonce,
        "expiry": order.expiry,
        "side": order.side,
        "limit": order.limit,
        "firstSlot": order.first_slot,
        "slots": order.count,
        "wh": 0 if order.is_profile else order.wh,
        "profile": profile,
    }
    return document(ORDER_TYPE, domain, message), []


def _completed(
    relay: Relay, submitted: Any
) -> tuple[tuple[Order, Terms, Reader] | None, list[Problem]]:
    """The order that fields stand for, and the terms of its session."""
    filled = dict(submitted) if isinstance(submitted, Mapping) else submitted
    absent: list[str] = []
    if isinstance(filled, dict):
        absent = [name for name in ("nonce", "expiry") if name not in filled]
        filled.update(dict.fromkeys(absent, 0))
    draft, problems = parse_order(filled, signed=False)
    if draft is None:
        return None, problems
    reader = Reader(relay)
    terms = reader.terms(draft.first_slot)
    if isinstance(terms, Problem):
        return None, [terms]
    numbers: dict[str, int] = {}
    if "nonce" in absent:
        free = _free_numbers(relay, reader, draft.account, draft.mandate)
        if not free:
            accepted = "a number, or once an order is posted"
            return None, [Problem("nonce", "none is free now", accepted)]
        numbers["nonce"] = free[0]
    if "expiry" in absent:
        numbers["expiry"] = terms.gate
    draft, problems = parse_order({**filled, **numbers}, signed=False)
    assert draft is not None
    order = draft.order(terms.first_slot)
    if problems := checks.fit_problems(order, terms):
        return None, problems
    return (order, terms, reader), []


def _free_numbers(relay: Relay, reader: Reader, account: int, mandate: int) -> list[int]:
    waiting = [one for one in relay.store.waiting_of([account]) if one.order.mandate == mandate]
    if mandate:
        return reader.mandate(account, mandate).nonces.to_use(waiting)
    held = relay.store.requests.held([account]).of(account)
    return reader.account(account).nonces.to_use(waiting, held.nonces)
