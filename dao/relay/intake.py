# SPDX-License-Identifier: Apache-2.0
"""From a submitted document to a stored order with a signed promise, and to a stored receipt.

Reads from the chain what the checks need, stores what passes, and answers after the commit. HTTP is
the API's business, posting `posting`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dao import abi
from dao.chain import Account, Chain, Contract
from dao.eip712 import address_bytes, keccak, typed_frame
from dao.errors import CheckFailed
from dao.market.account import Mandate
from dao.market.orders import (
    ASK,
    BID,
    DOMAIN_NAME,
    DOMAIN_VERSION,
    ORDER_TYPE,
    Order,
    Vouched,
    market_separator,
    order_digest,
    pack,
    receipt_digest,
    words_hash,
)
from dao.market.session import DeviceReceipt, SignedOrder, read_session, read_terms
from dao.parameters import DAY, SessionTerms, unpack_session_terms
from dao.relay import checks, promise
from dao.relay.checks import (
    AccountState,
    Draft,
    MandateState,
    Nonces,
    Outlook,
    Problem,
    Terms,
)
from dao.relay.posting import Pace, gate_in_pause
from dao.relay.promise import Promise
from dao.relay.store import WAITING, Receipt, RelayStore, State, StoredOrder
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY

# As EnergyMarket asks a contract wallet.
WALLET_GAS = 100_000
_IS_VALID = keccak(b"isValidSignature(bytes32,bytes)")[:4]
_IS_VALID_INPUTS = ({"name": "hash", "type": "bytes32"}, {"name": "signature", "type": "bytes"})


@dataclass(frozen=True)
class Relay:
    """What the relay works with. `account` pays the gas and signs the promises; first_block: of
    the deployment."""

    market: Contract
    parameters: Contract
    registry: Contract
    store: RelayStore
    zone: int
    account: Account
    pace: Pace = field(default_factory=Pace)
    first_block: int = 0
    separator: bytes = field(init=False)

    def __post_init__(self) -> None:
        separator = market_separator(self.chain.chain_id, self.market.address)
        object.__setattr__(self, "separator", separator)

    @property
    def chain(self) -> Chain:
        """The chain all contracts lie on."""
        return self.market.chain


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


class Reader:
    """What the chain says at one moment, each thing read once."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        latest = relay.chain.rpc("eth_getBlockByNumber", "latest", False)
        self.block = int(latest["number"], 16)
        self.now = int(latest["timestamp"], 16)
        self._fixed: dict[int, SessionTerms] = {}
        self._terms: dict[int, Terms] = {}
        self._accounts: dict[int, AccountState] = {}
        self._mandates: dict[tuple[int, int], tuple[Mandate, Nonces]] = {}

    def fixed(self, slot: int) -> SessionTerms:
        """What was fixed for the sessions of the slot's UTC day when they were announced."""
        opens = opening(slot)
        if opens not in self._fixed:
            word = self._relay.parameters.call("session_terms", opens)
            self._fixed[opens] = unpack_session_terms(word)
        return self._fixed[opens]

    def length(self, slot: int) -> int:
        """Slots in each session of the slot's UTC day, which has to be announced."""
        return SLOTS_PER_DAY // self.fixed(slot).sessions_per_day

    def terms(self, slot: int) -> Terms | Problem:
        """The terms of the session that a slot belongs to, or why it cannot be traded yet."""
        opens = opening(slot)
        if self.now <= opens:
            return Problem(
                "first_slot",
                f"{slot} lies in a day whose sessions are not announced",
                f"a slot before {(self.now // DAY + 2) * SLOTS_PER_DAY}, or an order after {opens}",
            )
        if slot * SLOT_SECONDS <= self.now:
            return Problem("first_slot", f"{slot} has begun", "a slot of a session still to come")
        slots = self.length(slot)
        first = slot - slot % slots
        if first not in self._terms:
            self._terms[first] = self._read_terms(first, slots)
        return self._terms[first]

    def account(self, number: int) -> AccountState:
        """An account's state; zone 0 where it is not open."""
        if number not in self._accounts:
            owner, balance, zone, open_orders, base, used = self._relay.market.call(
                "account", number
            )
            self._accounts[number] = AccountState(
                number, owner, balance, zone, open_orders, Nonces(base, used)
            )
        return self._accounts[number]

    def mandate(self, account: int, number: int) -> MandateState:
        """A mandate's state, with what waits here, and was posted from here today, as spent."""
        key = (account, number)
        if key not in self._mandates:
            terms, _, base, used = self._relay.market.call("mandate", account, number)
            self._mandates[key] = (Mandate(**terms), Nonces(base, used))
        terms, nonces = self._mandates[key]
        counted = self._relay.store.of_mandate(account, number, self.now // DAY * DAY)
        return MandateState(terms, nonces, sum(checks.counted(one.escrow) for one in counted))

    def _read_terms(self, first: int, slots: int) -> Terms:
        relay, fixed = self._relay, self.fixed(first)
        gate = first * SLOT_SECONDS - fixed.gate_lead
        state = read_session(relay.market, relay.zone, first)
        rows = 0
        if state.orders:
            # The book's word: its hash, then the words of its orders and their number.
            rows = relay.market.call("session_words", relay.zone, first)[1] >> 12 & 0xFFF
        closed = ""
        if state.void:
            closed = "the session is void"
        elif gate_in_pause(relay.market, gate):
            closed = "the market is paused at the session's gate: it will be void"
        prices = read_terms(relay.parameters, relay.zone, first, slots, self.now)
        return Terms(
            zone=relay.zone,
            first_slot=first,
            slots=slots,
            gate=gate,
            penalty=fixed.penalty,
            min_order_wh=fixed.min_order_wh,
            max_slot_wh=fixed.max_slot_wh,
            grid_fee=prices.fee,
            band_min=tuple(lowest for lowest, _ in prices.band),
            band_max=tuple(highest for _, highest in prices.band),
            orders=state.orders,
            rows=rows,
            closed=closed,
        )


def opening(slot: int) -> int:
    """When the sessions of a slot's UTC day are announced: orders are taken after that second."""
    return slot // SLOTS_PER_DAY * DAY - DAY


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
    parsed = [checks.parse_order(document) for document in documents]
    good = [draft for draft, _ in parsed if draft is not None]
    reader = Reader(relay)
    # Read before the chain: an order that is posted in between is then counted twice, not never.
    queued = relay.store.waiting_of(draft.account for draft in good)
    vouched = [_vouched(relay, reader, draft) if draft else None for draft, _ in parsed]
    answers = []
    with relay.store.writing():  # in which the node is not asked anything more
        waiting = {one.id: one for one in [*queued, *_waiting(relay, reader, good)]}
        for (draft, problems), how in zip(parsed, vouched, strict=True):
            if draft is None:
                answer = Answer(problems=tuple(problems))
            else:
                answer = _take(relay, reader, draft, how, list(waiting.values()), allow)
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
    if checks.is_signed_by(digest, checks.key_signature(draft.signature), signer):
        return Vouched.BY_KEY
    if wallet_agrees(relay, signer, digest, draft.signature):
        return Vouched.BY_WALLET
    return None


def wallet_agrees(relay: Relay, wallet: str, digest: bytes, signature: bytes) -> bool:
    """Whether a contract wallet takes a signature for its own (ERC-1271), asked as the market
    will ask: with so much gas and no more."""
    if relay.chain.rpc("eth_getCode", wallet, "latest") == "0x":
        return False
    data = _IS_VALID + abi.encode(_IS_VALID_INPUTS, [digest, signature])
    # What a node takes off before the call begins.
    gas = 21_000 + sum(16 if byte else 4 for byte in data) + WALLET_GAS
    question = {
        "from": relay.market.address,
        "to": wallet,
        "data": f"0x{data.hex()}",
        "gas": hex(gas),
    }
    try:
        answer = str(relay.chain.rpc("eth_call", question, "latest"))
    except CheckFailed:  # it reverted, or took too much; that the node is there, we know
        return False
    return answer == f"0x{_IS_VALID.hex():0<64}"


def _take(
    relay: Relay,
    reader: Reader,
    draft: Draft,
    vouched: Vouched | None,
    waiting: Sequence[StoredOrder],
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
        signature = checks.key_signature(signature)
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


def typed_order(relay: Relay, document: Any) -> tuple[dict[str, Any] | None, list[Problem]]:
    """The EIP-712 document that a wallet signs for an order's fields (`eth_signTypedData_v4`)."""
    draft, problems = checks.parse_order(document, signed=False)
    if draft is None:
        return None, problems
    terms = Reader(relay).terms(draft.first_slot)
    if isinstance(terms, Problem):
        return None, [terms]
    order = draft.order(terms.first_slot)
    if problems := checks.fit_problems(order, terms):
        return None, problems
    profile = words_hash(pack(order)[1:]) if order.is_profile else bytes(32)
    frame = typed_frame(
        ORDER_TYPE, DOMAIN_NAME, DOMAIN_VERSION, relay.chain.chain_id, relay.market.address
    )
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
        "profile": "0x" + profile.hex(),
    }
    return {**frame, "message": message}, []


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
    problems = checks.receipt_problems(document)
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
    signature = checks.key_signature(bytes.fromhex(document["signature"][2:]))
    digest = receipt_digest(relay.separator, meter, first, exports)
    if not checks.is_signed_by(digest, signature, device):
        return None, [checks.foreign_signature(device, "the meter's device")]
    return relay.store.add_receipt(first, DeviceReceipt(meter, exports, signature)), []
