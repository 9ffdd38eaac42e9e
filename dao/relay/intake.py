# SPDX-License-Identifier: Apache-2.0
"""From a submitted document to a stored order with a signed promise, and to a stored receipt.

Reads from the chain what the checks need, stores what passes, and answers after the commit. HTTP is
the API's business, posting `posting`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dao.eip712 import address_bytes
from dao.market.orders import (
    ASK,
    BID,
    Order,
    Vouched,
    order_digest,
    receipt_digest,
)
from dao.market.session import DeviceReceipt, SignedOrder, read_session
from dao.parameters import DAY
from dao.relay import checks, promise
from dao.relay.checks import AccountState, MandateState, Outlook, Terms
from dao.relay.promise import Promise
from dao.relay.reader import Reader, Relay, opening, wallet_agrees
from dao.relay.request_store import Held
from dao.relay.store import WAITING, Receipt, State, StoredOrder
from dao.relay.submitted import Draft, Problem, key_signature, parse_order, receipt_problems
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY


@dataclass(frozen=True)
class Answer:
    """What the relay says to one submitted order.

    Taken, now or before: stored and promise, and if it waits, outlook. Refused: problems. To come
    again later: retry_after, in seconds. signed: the order is new and its owner's signature good.
    """

    stored: StoredOrder | None = None
    promise: Promise | None = None
    outlook: Outlook | None = None
    problems: tuple[Problem, ...] = ()
    retry_after: int = 0
    signed: bool = False


@dataclass(frozen=True)
class Level:
    """Energy at one price, in Wh: posted on chain, and waiting here."""

    price: int
    posted_wh: int
    waiting_wh: int


@dataclass(frozen=True)
class Depth:
    """One slot's book: bids from the highest price down, asks from the lowest up."""

    slot: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


def session_slots(relay: Relay, first: int) -> int | Problem:
    """The length of the session that starts with a slot, or why there is none."""
    reader = Reader(relay)
    if reader.now <= opening(first):
        return Problem("slot", f"the day of {first} is not announced", "a slot of a day before")
    slots = reader.length(first)
    if first % slots:
        return Problem("slot", f"no session starts at {first}", f"{first - first % slots}")
    return slots


def coming_sessions(relay: Relay) -> tuple[int, list[Terms]]:
    """The chain's time, and the sessions of all announced days whose gate is ahead, the next gate
    first."""
    reader = Reader(relay)
    today = reader.now // DAY * SLOTS_PER_DAY
    found = []
    for day in (today, today + SLOTS_PER_DAY):
        if reader.now <= opening(day):
            continue
        for first in range(day, day + SLOTS_PER_DAY, reader.length(day)):
            if first * SLOT_SECONDS > reader.now:
                terms = reader.terms(first)
                if isinstance(terms, Terms) and terms.gate > reader.now:
                    found.append(terms)
    return reader.now, found


def submit(
    relay: Relay, documents: Sequence[Any], allow: Callable[[int], int] = lambda account: 0
) -> list[Answer]:
    """Judge each submitted order alone and store the good ones; returns once they are on disk.

    allow: seconds that an account has to wait before its next order, 0 for none; asked only about
    orders that the account's owner signed, so that nobody can use up what is another's.
    """
    parsed = [parse_order(document) for document in documents]
    good = [draft for draft, _ in parsed if draft is not None]
    reader = Reader(relay)
    # Read before the chain: an order that is posted in between is then counted twice, not never.
    queued = relay.store.waiting_of(draft.account for draft in good)
    held = relay.store.requests.held(draft.account for draft in good)
    vouched = [_vouched(relay, reader, draft) if draft else None for draft, _ in parsed]
    answers = []
    with relay.store.writing():  # in which the node is not asked anything more
        waiting = {one.id: one for one in [*queued, *_waiting(relay, reader, good)]}
        held |= relay.store.requests.held(draft.account for draft in good)
        for (draft, problems), how in zip(parsed, vouched, strict=True):
            if draft is None:
                answer = Answer(problems=tuple(problems))
            else:
                answer = _take(relay, reader, draft, how, list(waiting.values()), held, allow)
            if answer.stored is not None and answer.stored.state in WAITING:
                waiting[answer.stored.id] = answer.stored
            answers.append(answer)
    return answers


def _waiting(relay: Relay, reader: Reader, drafts: Sequence[Draft]) -> list[StoredOrder]:
    """What waits here of the accounts and the sessions of some orders."""
    terms = {reader.terms(draft.first_slot) for draft in drafts}
    found = relay.store.waiting_of(draft.account for draft in drafts)
    for one in terms:
        if isinstance(one, Terms):
            found += relay.store.of_session(relay.zone, one.first_slot, WAITING)
    return found


def _vouched(relay: Relay, reader: Reader, draft: Draft) -> Vouched | None:
    """Who vouches for an order: the signer's key or contract wallet; None where neither does.

    The signer is the account's owner, or the agent of the mandate that the order names. Reads all
    that `_take` needs from the node.
    """
    terms = reader.terms(draft.first_slot)
    signer = reader.account(draft.account).owner
    if draft.mandate:
        signer = reader.mandate(draft.account, draft.mandate).terms.agent
    if isinstance(terms, Problem) or not any(address_bytes(signer)):
        return None
    order = draft.order(terms.first_slot)
    if checks.fit_problems(order, terms):
        return None
    digest = order_digest(relay.separator, order)
    if checks.is_signed_by(digest, key_signature(draft.signature), signer):
        return Vouched.BY_KEY
    if wallet_agrees(relay.market, signer, digest, draft.signature):
        return Vouched.BY_WALLET
    return None


def _take(
    relay: Relay,
    reader: Reader,
    draft: Draft,
    vouched: Vouched | None,
    waiting: Sequence[StoredOrder],
    held: Held,
    allow: Callable[[int], int],
) -> Answer:
    terms = reader.terms(draft.first_slot)
    if isinstance(terms, Problem):
        return Answer(problems=(terms,))
    order = draft.order(terms.first_slot)
    if problems := checks.fit_problems(order, terms):
        return Answer(problems=tuple(problems))
    number = order_digest(relay.separator, order)
    known = relay.store.get(number)
    if known is not None:
        if known.state is State.REJECTED:
            return Answer(problems=(_turned_away_before(known),))
        return Answer(stored=known, promise=promised(relay, known))
    if vouched is not None and (wait := allow(order.account)):
        return Answer(retry_after=wait, signed=True)
    account = reader.account(draft.account)
    mandate = reader.mandate(draft.account, draft.mandate) if draft.mandate else None
    problems = checks.judge(
        order,
        terms,
        account,
        mandate,
        waiting,
        held.of(order.account),
        now=reader.now,
        last_call=relay.pace.last_call,
    )
    if vouched is None:
        problems += _unsigned(account, mandate)
        return Answer(problems=tuple(problems))
    if problems:
        return Answer(problems=tuple(problems), signed=True)
    made = Promise(number, order.account, terms.first_slot, terms.gate, relay.market.address)
    signature = draft.signature
    if vouched is Vouched.BY_KEY:
        signature = key_signature(signature)
    stored = StoredOrder(
        id=number,
        zone=relay.zone,
        session=terms.first_slot,
        gate=terms.gate,
        signed=SignedOrder(order, signature, vouched),
        escrow=checks.escrow_of(order, terms),
        promise=promise.sign(relay.chain.chain_id, made, relay.account),
        state=State.RECEIVED,
        reason=None,
        received_at=reader.now,
        received_block=reader.block,
    )
    relay.store.add(stored)
    mine = sum(one.escrow for one in waiting if one.order.account == order.account)
    mine += held.of(order.account).money
    return Answer(
        stored=stored,
        promise=made,
        outlook=checks.outlook(
            order,
            terms,
            account.balance - mine,
            now=reader.now,
            interval=relay.pace.interval,
            margin=relay.pace.margin,
        ),
        signed=True,
    )


def _unsigned(account: AccountState, mandate: MandateState | None) -> list[Problem]:
    """That nobody who may has signed; nothing where there is nobody who might."""
    if account.zone == 0 or (mandate is not None and not mandate.exists):
        return []
    if mandate is not None:
        return [checks.foreign_signature(mandate.terms.agent, "the mandate's agent")]
    return [checks.foreign_signature(account.owner, "the account's owner")]


def promised(relay: Relay, stored: StoredOrder) -> Promise:
    """The promise that was given for a stored order; its signature is `stored.promise`."""
    return Promise(
        stored.id, stored.order.account, stored.session, stored.gate, relay.market.address
    )


def _turned_away_before(stored: StoredOrder) -> Problem:
    return Problem(
        "order",
        f"this very order was posted and turned away: {stored.reason}",
        "the same order signed anew with another expiry, or a corrected one",
    )


def posted_orders(relay: Relay, session: int) -> list[Order]:
    """The open book of a session: what was posted and accepted, in order of arrival."""
    return [
        one.order
        for one in promise.postings(relay.market, relay.zone, session, relay.first_block)
        if one.rejection is None
    ]


def depth(relay: Relay, session: int, slots: int) -> list[Depth]:
    """The energy at each price in every slot of a session, by the limits as they were signed."""
    levels: dict[tuple[int, int, int], list[int]] = {}
    posted = posted_orders(relay, session)
    waiting = [one.order for one in relay.store.of_session(relay.zone, session, WAITING)]
    for place, orders in enumerate((posted, waiting)):
        for order in orders:
            for index, wh in enumerate(order.profile):
                if wh:
                    key = (order.side, order.first_slot + index, order.limit)
                    levels.setdefault(key, [0, 0])[place] += wh

    def side(of: int, slot: int) -> tuple[Level, ...]:
        found = [Level(key[2], *wh) for key, wh in levels.items() if key[:2] == (of, slot)]
        return tuple(sorted(found, key=lambda level: level.price, reverse=of != ASK))

    return [
        Depth(slot, side(BID, slot), side(ASK, slot)) for slot in range(session, session + slots)
    ]


def submit_receipt(relay: Relay, document: Any) -> tuple[Receipt | None, list[Problem]]:
    """Store a device's delivery receipt, or say what is wrong with it."""
    problems = receipt_problems(document)
    if problems:
        return None, problems
    meter, first = document["meter"], document["first_slot"]
    exports = tuple(document["exports"])
    reader = Reader(relay)
    if reader.now < first * SLOT_SECONDS:
        return None, [Problem("first_slot", f"{first} has not begun", "a session that is over")]
    state = read_session(relay.market, relay.zone, first)
    slots = state.slots or reader.length(first)
    end = (first + slots) * SLOT_SECONDS
    if first % slots:
        return None, [
            Problem("first_slot", f"no session starts at {first}", f"{first - first % slots}")
        ]
    if reader.now < end:
        return None, [Problem("first_slot", "the session is not over", f"a receipt from {end} on")]
    if len(exports) != slots:
        return None, [Problem("exports", f"{len(exports)} values", f"{slots}, one for each slot")]
    _, zone = relay.registry.call("metering_point", meter)
    if zone != relay.zone:
        return None, [Problem("meter", f"{meter} is not of this zone", f"one of zone {relay.zone}")]
    device = relay.registry.call("device_at", meter, end - 1)
    signature = key_signature(bytes.fromhex(document["signature"][2:]))
    digest = receipt_digest(relay.separator, meter, first, exports)
    if not checks.is_signed_by(digest, signature, device):
        return None, [checks.foreign_signature(device, "the meter's device")]
    return relay.store.add_receipt(first, DeviceReceipt(meter, exports, signature)), []
