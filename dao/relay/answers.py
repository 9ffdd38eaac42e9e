# SPDX-License-Identifier: Apache-2.0
"""What the relay answers: the shapes, and how they are put together from store and chain.

Plain dataclasses; the API turns them into JSON, and their fields into its description. Money is in
token units (micro euro), energy in Wh, prices in micro euro per Wh, times in unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dao.eip712 import checksum_address
from dao.market.account import CAP_UNIT
from dao.market.orders import Order
from dao.market.session import SessionState, read_session
from dao.relay import intake
from dao.relay.checks import Outlook, Terms
from dao.relay.drafts import Drafted
from dao.relay.intake import Answer, Depth
from dao.relay.posting import in_flight
from dao.relay.reader import Reader, Relay
from dao.relay.request_store import Kind, RequestState, StoredRequest
from dao.relay.store import WAITING, Receipt, State, StoredOrder
from dao.relay.submitted import SIDE_NAMES, Problem
from dao.slots import SLOT_SECONDS

# A batch of a hundred orders takes about this much gas.
_BATCH_GAS = 2_000_000
_FEW_BATCHES = 10


@dataclass(frozen=True)
class OrderFields:
    """An order: energy in Wh per slot, limit in micro euro per Wh, expiry in unix seconds."""

    account: int
    mandate: int
    nonce: int
    expiry: int
    side: str
    limit: int
    first_slot: int
    slots: int
    wh: int | list[int]


@dataclass(frozen=True)
class SignedPromise:
    """EIP-712 PostingPromise, signed by the relay: to post the order before the time."""

    order: str
    account: int
    session: int
    post_before: int
    market: str
    relay: str
    signature: str


@dataclass(frozen=True)
class Taken:
    """An order the relay has taken. outlook: None where it had been taken before."""

    id: str
    state: State
    promise: SignedPromise
    outlook: Outlook | None


@dataclass(frozen=True)
class Refused:
    """Why something was refused: the first problem, and all of them."""

    error: Problem
    problems: list[Problem]
    retry_after: int | None = None


@dataclass(frozen=True)
class Results:
    """One result per submitted order, in their order. Each was judged alone."""

    results: list[Taken | Refused]


@dataclass(frozen=True)
class Step:
    """Something that happened to an order, or that will at a known time; unix seconds."""

    step: str
    at: int | None
    block: int | None = None


@dataclass(frozen=True)
class OrderStatus:
    """An order the relay holds, and its way so far."""

    id: str
    state: State
    reason: str | None
    order: OrderFields
    escrow: int
    promise: SignedPromise
    steps: list[Step]


@dataclass(frozen=True)
class OrdersPage:
    """An account's orders, the newest first. next: `before` of the page to go on with."""

    orders: list[OrderStatus]
    next: int | None


@dataclass(frozen=True)
class Prospect:
    """An order not signed yet: its fields, complete, and either what would be wrong with it, or
    what would come of it."""

    order: OrderFields
    problems: list[Problem]
    outlook: Outlook | None


@dataclass(frozen=True)
class RequestTaken:
    """A request the relay has taken, now or before."""

    id: str
    state: RequestState


@dataclass(frozen=True)
class RequestStatus:
    """A request, and what became of it. account: of a vote the voter's own; reason: why it failed,
    in the contract's words; transaction: where the chain shows it; times in unix seconds."""

    id: str
    kind: Kind
    account: int
    state: RequestState
    reason: str | None
    transaction: str | None
    received_at: int
    sent_at: int | None
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class RequestsPage:
    """An account's requests, the newest first. next: `before` of the page to go on with."""

    requests: list[RequestStatus]
    next: int | None


@dataclass(frozen=True)
class AccountStatus:
    """An account. balance: free, in token units; available: less what waits here; nonces: the
    numbers to use next; waiting: ids of orders not posted yet."""

    account: int
    owner: str
    zone: int
    balance: int
    available: int
    open_orders: int
    nonces: list[int]
    waiting: list[str]


@dataclass(frozen=True)
class MandateStatus:
    """A mandate, which lets an agent order for an account. limit: highest of its bids, or lowest
    of its asks; daily_cap: token units per UTC day, counted on what goes into escrow; spent: of
    it today, as known here; last_day: UTC day, unix seconds divided by 86,400; nonces: the numbers
    its orders use next."""

    account: int
    mandate: int
    agent: str
    side: str
    limit: int
    daily_cap: int
    spent: int
    last_day: int
    nonces: list[int]


@dataclass(frozen=True)
class ComingSession:
    """A session whose gate is ahead. orders_until: from then on the relay takes none for it;
    grid_fee, band_min, band_max: micro euro per Wh in each slot, as they stand now."""

    first_slot: int
    slots: int
    gate: int
    orders_until: int
    delivery_from: int
    delivery_to: int
    orders: int
    waiting: int
    penalty: int
    min_order_wh: int
    max_slot_wh: int
    grid_fee: tuple[int, ...]
    band_min: tuple[int, ...]
    band_max: tuple[int, ...]


@dataclass(frozen=True)
class Sessions:
    """The sessions to order for, the next gate first."""

    zone: int
    now: int
    sessions: list[ComingSession]


@dataclass(frozen=True)
class Book:
    """Energy at each price, in every slot of a session: posted on chain, and waiting here."""

    zone: int
    session: int
    slots: list[Depth]


@dataclass(frozen=True)
class PostedBook:
    """The orders of a session as they were posted and accepted, in order of arrival."""

    zone: int
    session: int
    orders: list[OrderFields]


@dataclass(frozen=True)
class ReceiptStored:
    """A delivery receipt on record; `known` where it was before."""

    meter: int
    first_slot: int
    status: Receipt


@dataclass(frozen=True)
class Health:
    """How the relay is. orders, requests: how many in which state; broken_promises: orders never
    posted; problems: what an operator should look at; gas_gwei: what the relay's account has for
    fees."""

    status: str
    problems: list[str]
    chain_id: int
    block: int
    time: int
    zone: int
    market: str
    relay: str
    gas_gwei: int
    orders: dict[State, int]
    requests: dict[RequestState, int]
    broken_promises: int
    waiting_since: int | None


def order_fields(order: Order) -> OrderFields:
    """An order as it is submitted and shown."""
    return OrderFields(
        account=order.account,
        mandate=order.mandate,
        nonce=order.nonce,
        expiry=order.expiry,
        side=SIDE_NAMES[order.side],
        limit=order.limit,
        first_slot=order.first_slot,
        slots=order.count,
        wh=list(order.wh) if isinstance(order.wh, tuple) else order.wh,
    )


def result(relay: Relay, answer: Answer) -> Taken | Refused:
    """The answer to one submitted order."""
    if answer.retry_after:
        problem = Problem("account", "too many orders", f"again in {answer.retry_after} s")
        return Refused(problem, [problem], answer.retry_after)
    if answer.stored is None:
        return Refused(answer.problems[0], list(answer.problems))
    stored = answer.stored
    return Taken(hex_text(stored.id), stored.state, signed_promise(relay, stored), answer.outlook)


def signed_promise(relay: Relay, stored: StoredOrder) -> SignedPromise:
    """The promise that was given for a stored order."""
    made = intake.promised(relay, stored)
    return SignedPromise(
        order=hex_text(made.order),
        account=made.account,
        session=made.session,
        post_before=made.post_before,
        market=made.market,
        relay=checksum_address(relay.account.address),
        signature=hex_text(stored.promise),
    )


def order_status(
    relay: Relay, stored: StoredOrder, sessions_seen: dict[int, SessionState] | None = None
) -> OrderStatus:
    """Where a stored order stands. sessions_seen: sessions read already, by first slot."""
    return OrderStatus(
        id=hex_text(stored.id),
        state=stored.state,
        reason=stored.reason,
        order=order_fields(stored.order),
        escrow=stored.escrow,
        promise=signed_promise(relay, stored),
        steps=_steps(relay, stored, {} if sessions_seen is None else sessions_seen),
    )


def orders_page(relay: Relay, account: int, before: int | None, limit: int) -> OrdersPage:
    """An account's orders before a number, the newest first."""
    found, following = relay.store.of_account(account, before, limit)
    seen: dict[int, SessionState] = {}
    return OrdersPage([order_status(relay, one, seen) for one in found], following)


def prospect(drafted: Drafted) -> Prospect:
    """What would come of an order that is not signed yet."""
    return Prospect(order_fields(drafted.order), list(drafted.problems), drafted.outlook)


def request_status(stored: StoredRequest) -> RequestStatus:
    """Where a stored request stands."""
    return RequestStatus(
        id=hex_text(stored.id),
        kind=stored.kind,
        account=stored.account,
        state=stored.state,
        reason=stored.reason,
        transaction=stored.transaction,
        received_at=stored.received_at,
        sent_at=stored.sent_at,
        fields=stored.fields,
    )


def account_status(relay: Relay, number: int) -> AccountStatus | None:
    """An account's state, None where it is not open."""
    waiting = relay.store.waiting_of([number])
    held = relay.store.requests.held([number]).of(number)
    state = Reader(relay).account(number)
    if state.zone == 0:
        return None
    return AccountStatus(
        account=number,
        owner=state.owner,
        zone=state.zone,
        balance=state.balance,
        available=max(0, state.balance - sum(one.escrow for one in waiting) - held.money),
        open_orders=state.open_orders,
        nonces=state.nonces.to_use((one for one in waiting if not one.order.mandate), held.nonces),
        waiting=[hex_text(stored.id) for stored in waiting],
    )


def mandate_status(relay: Relay, account: int, number: int) -> MandateStatus | None:
    """A mandate's state, None where it is not in force."""
    waiting = relay.store.waiting_of([account])
    state = Reader(relay).mandate(account, number)
    if not state.exists:
        return None
    return MandateStatus(
        account=account,
        mandate=number,
        agent=state.terms.agent,
        side=SIDE_NAMES[state.terms.side],
        limit=state.terms.limit,
        daily_cap=state.terms.daily_cap * CAP_UNIT,
        spent=state.spent,
        last_day=state.terms.last_day,
        nonces=state.nonces.to_use(one for one in waiting if one.order.mandate == number),
    )


def hex_text(data: bytes) -> str:
    """Bytes as 0x text."""
    return "0x" + data.hex()


def _steps(relay: Relay, stored: StoredOrder, seen: dict[int, SessionState]) -> list[Step]:
    steps = [Step("received", stored.received_at, stored.received_block)]
    if stored.posted_block is not None:
        steps.append(Step("posted", stored.posted_at, stored.posted_block))
    if stored.state not in WAITING:
        steps.append(Step(stored.state, stored.posted_at, stored.posted_block))
    steps.append(Step("gate", stored.gate))
    if stored.state is State.ACCEPTED:
        if stored.session not in seen:
            seen[stored.session] = read_session(relay.market, relay.zone, stored.session)
        session = seen[stored.session]
        if session.void:
            steps.append(Step("void", None))
        elif session.cleared == session.slots:
            steps.append(Step("cleared", None))
        if session.slots and session.settled == session.slots:
            steps.append(Step("settled", None))
    return steps


def sessions(relay: Relay) -> Sessions:
    """The sessions to order for."""
    now, terms = intake.coming_sessions(relay)
    return Sessions(relay.zone, now, [_coming(relay, one) for one in terms])


def _coming(relay: Relay, terms: Terms) -> ComingSession:
    end = terms.first_slot + terms.slots
    return ComingSession(
        first_slot=terms.first_slot,
        slots=terms.slots,
        gate=terms.gate,
        orders_until=terms.gate - relay.pace.last_call,
        delivery_from=terms.first_slot * SLOT_SECONDS,
        delivery_to=end * SLOT_SECONDS,
        orders=terms.orders,
        waiting=len(relay.store.of_session(relay.zone, terms.first_slot, WAITING)),
        penalty=terms.penalty,
        min_order_wh=terms.min_order_wh,
        max_slot_wh=terms.max_slot_wh,
        grid_fee=terms.grid_fee,
        band_min=terms.band_min,
        band_max=terms.band_max,
    )


def health(relay: Relay, faults: Sequence[str]) -> Health:
    """How the relay is. faults: what went wrong in posting lately."""
    chain = relay.chain
    reader = Reader(relay)
    address = relay.account.address
    balance = int(chain.rpc("eth_getBalance", address, "latest"), 16)
    batches = balance // (int(chain.rpc("eth_gasPrice"), 16) * _BATCH_GAS or 1)
    problems = list(faults)
    if batches < _FEW_BATCHES:
        problems.append(f"the relay's account can pay for {batches} more batches")
    if in_flight(chain, relay.account):
        problems.append("a transaction of the relay's account is not mined yet")
    counts = relay.store.counts()
    return Health(
        status="degraded" if problems else "ok",
        problems=problems,
        chain_id=chain.chain_id,
        block=reader.block,
        time=reader.now,
        zone=relay.zone,
        market=relay.market.address,
        relay=checksum_address(address),
        gas_gwei=balance // 10**9,
        orders=counts,
        requests=relay.store.requests.counts(),
        broken_promises=counts[State.LATE],
        waiting_since=relay.store.oldest_waiting(),
    )
