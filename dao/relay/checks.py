# SPDX-License-Identifier: Apache-2.0
"""What is wrong with an order, and what will happen to it: plain functions over plain data.

What stands on chain comes in as `Terms` and `AccountState`, what waits here as stored orders; the
reading and storing is `intake`'s. The contract has the last word: these checks spare a resident the
wait for its answer, and name the field.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dao.eip712 import address_bytes, recover
from dao.market.account import CAP_UNIT, Mandate
from dao.market.orders import (
    ASK,
    BID,
    WH_PER_WORD,
    InvalidOrder,
    Order,
    validate,
)
from dao.market.session import NONCES
from dao.parameters import DAY
from dao.relay.request_store import NOTHING_HELD, Claims
from dao.relay.store import StoredOrder
from dao.relay.submitted import SIDE_NAMES, Problem

# As EnergyMarket has them (docs/market.md). The last two bound a session's book.
NONCE_WINDOW = 16
MAX_OPEN = 32
MAX_ORDERS = 512
MAX_ROWS = 1_024
# What a mandate's order counts against its daily cap is rounded up to a cent, in token units.
CENT = 10_000

# What the names of the packed order are called in a submitted one.
_SUBMITTED_AS = {"count": "slots", "session_slot": "first_slot", "offset": "first_slot"}


@dataclass(frozen=True)
class Terms:
    """A session's terms. Length, gate, penalty and the bounds of energy are fixed; fee and band,
    per slot, are those of the moment and may change until the gate.

    orders, rows: in its book now, rows being the words they take; closed: why it takes none.
    """

    zone: int
    first_slot: int
    slots: int
    gate: int
    penalty: int
    min_order_wh: int
    max_slot_wh: int
    grid_fee: tuple[int, ...]
    band_min: tuple[int, ...]
    band_max: tuple[int, ...]
    orders: int = 0
    rows: int = 0
    closed: str = ""


@dataclass(frozen=True)
class Nonces:
    """The numbers an account, or a mandate of its, has used: bit i of `used` for base + i."""

    base: int
    used: int

    def is_free(self, nonce: int) -> bool:
        """Whether an order with this number could be posted now."""
        distance = (nonce - self.base) % NONCES
        return distance < NONCE_WINDOW and not self.used >> distance & 1

    def to_use(
        self, waiting: Iterable[StoredOrder], held: frozenset[int] = frozenset()
    ) -> list[int]:
        """The numbers to use next, lowest first, without those of waiting orders, and `held`."""
        taken = {stored.order.nonce for stored in waiting} | held
        window = ((self.base + i) % NONCES for i in range(NONCE_WINDOW))
        return [nonce for nonce in window if self.is_free(nonce) and nonce not in taken]


@dataclass(frozen=True)
class AccountState:
    """An account on chain; a number that is not open has zone 0."""

    number: int
    owner: str
    balance: int
    zone: int
    open_orders: int
    nonces: Nonces


@dataclass(frozen=True)
class MandateState:
    """A mandate on chain. agent: zero address where there is none or it has ended; spent: token
    units that its orders, waiting and posted today, are known here to count against the cap."""

    terms: Mandate
    nonces: Nonces
    spent: int

    @property
    def exists(self) -> bool:
        """Whether an agent may use it."""
        return any(address_bytes(self.terms.agent))


@dataclass(frozen=True)
class Outlook:
    """What will happen to an order. Money in token units (micro euro), energy in Wh, times in
    unix seconds.

    escrow: leaves the free balance when the order is posted; balance_after: what is then left of
    it, the orders that wait before it counted; at_limit: change of the balance if everything fills
    at the limit and is delivered, negative where the resident pays, grid fee included;
    fee_at_limit: the grid fee in it; worst_case: the lowest the change can be.
    """

    energy_wh: int
    escrow: int
    balance_after: int
    at_limit: int
    fee_at_limit: int
    worst_case: int
    gate: int
    posted_within_s: int
    posted_before: int
    if_not_filled: str
    if_not_delivered: str
    warnings: tuple[str, ...]


def fit_problems(order: Order, terms: Terms) -> list[Problem]:
    """What keeps an order from being packed and signed as one of the session."""
    try:
        validate(order, session_slots=terms.slots)
    except InvalidOrder as error:
        field = _SUBMITTED_AS.get(error.field, error.field)
        return [Problem(field, error.why, error.accepted)]
    return []


def judge(
    order: Order,
    terms: Terms,
    account: AccountState,
    mandate: MandateState | None,
    waiting: Sequence[StoredOrder],
    held: Claims = NOTHING_HELD,
    *,
    now: int,
    last_call: int,
) -> list[Problem]:
    """Everything that would keep the order from being accepted, empty where nothing does; who
    signed it is another question.

    mandate: the one the order names, None for the owner's own. waiting: the orders of this account,
    and of this session, that wait here; held: what its requests that wait here will take.
    last_call: seconds before the gate from which on no posting
    is promised any more.
    """
    if account.zone != terms.zone:
        lies = f"lies in zone {account.zone}" if account.zone else "is not open"
        accepted = f"an account of zone {terms.zone}"
        return [Problem("account", f"{account.number} {lies}", accepted)]
    mine = [stored for stored in waiting if stored.order.account == order.account]
    problems = _session_problems(order, terms, waiting, now, last_call)
    if order.total_wh < terms.min_order_wh:
        problems.append(
            Problem("wh", f"{order.total_wh} Wh in all", f"{terms.min_order_wh} Wh or more")
        )
    if (highest := max(order.profile)) > terms.max_slot_wh:
        problems.append(
            Problem("wh", f"{highest} Wh in a slot", f"at most {terms.max_slot_wh} Wh in each")
        )
    if mandate is not None:
        problems += _mandate_problems(order, terms, mandate, now)
    numbers = account.nonces if mandate is None else mandate.nonces
    alike = [stored for stored in mine if stored.order.mandate == order.mandate]
    problems += _nonce_problems(
        order, numbers, alike, held.nonces if mandate is None else frozenset()
    )
    if account.open_orders + len(mine) >= MAX_OPEN:
        found = f"{account.open_orders} orders are open and {len(mine)} wait"
        problems.append(Problem("account", found, f"fewer than {MAX_OPEN} together"))
    escrow = escrow_of(order, terms)
    free = account.balance - sum(stored.escrow for stored in mine) - held.money
    if escrow > free:
        problems.append(
            Problem(
                "limit" if order.side == BID else "wh",
                f"needs an escrow of {escrow}, the account has {max(free, 0)} free",
                "a smaller order, or a deposit first",
            )
        )
    return problems


def escrow_of(order: Order, terms: Terms) -> int:
    """What posting the order takes from the free balance: its worst case, in token units."""
    return order.total_wh * (terms.penalty if order.side == ASK else order.limit)


def rows_of(order: Order) -> int:
    """The words that an order takes in its session's book, as `pack` makes them."""
    if not order.is_profile:
        return 1
    return 1 - (-(order.offset % WH_PER_WORD + order.count) // WH_PER_WORD)


def counted(escrow: int) -> int:
    """What an order of a mandate counts against its daily cap, in token units."""
    return -(-escrow // CENT) * CENT


def is_signed_by(digest: bytes, signature: bytes, signer: str) -> bool:
    """Whether a signature is the key's of an address; 65 bytes r || s || v."""
    try:
        return recover(digest, signature) == address_bytes(signer)
    except ValueError:
        return False


def foreign_signature(signer: str, who: str) -> Problem:
    """A signature that is not the one it should be: `signer`'s, an address; `who`: in words."""
    return Problem(
        "signature",
        f"not by {who}, or over other values",
        f"the signature of {signer} over the typed data of these fields",
    )


def outlook(
    order: Order, terms: Terms, free: int, *, now: int, interval: int, margin: int
) -> Outlook:
    """What will happen to a good order.

    free: balance that no order before it needs. interval, margin: the relay's pace, in seconds.
    """
    escrow = escrow_of(order, terms)
    slots = range(
        order.first_slot - terms.first_slot, order.first_slot - terms.first_slot + order.count
    )
    money = order.total_wh * order.limit
    if order.side == BID:
        fee = sum(terms.grid_fee[i] * wh for i, wh in zip(slots, order.profile, strict=True))
        at_limit, worst_case, fee_at_limit = -money, -money, min(fee, money)
        outside = [i for i in slots if order.limit < terms.grid_fee[i] + terms.band_min[i]]
        outside_is = "less the grid fee lies below the lowest price of the band"
        if_not_filled = (
            "What is not filled is given back in full, when the session is settled or void."
        )
        if_not_delivered = (
            "What the seller does not deliver is not paid: its price is given back, with a share "
            "of the seller's penalty. What is delivered is paid, used or not."
        )
    else:
        at_limit, worst_case, fee_at_limit = money, -escrow, 0
        outside = [i for i in slots if order.limit > terms.band_max[i]]
        outside_is = "lies above the highest price of the band"
        if_not_filled = (
            "The collateral of what is not filled is given back in full, when the session is "
            "settled or void."
        )
        if_not_delivered = (
            f"Each Wh that is filled and not delivered costs {terms.penalty} micro euro of the "
            "collateral, which goes to the buyers it was sold to."
        )
    warnings = []
    if outside:
        warnings.append(
            f"In {len(outside)} of {order.count} slots the limit {outside_is}, as things stand: "
            "there the order cannot trade."
        )
    return Outlook(
        energy_wh=order.total_wh,
        escrow=escrow,
        balance_after=free - escrow,
        at_limit=at_limit,
        fee_at_limit=fee_at_limit,
        worst_case=worst_case,
        gate=terms.gate,
        posted_within_s=max(0, min(interval, terms.gate - margin - now)),
        posted_before=terms.gate,
        if_not_filled=if_not_filled,
        if_not_delivered=if_not_delivered,
        warnings=tuple(warnings),
    )


# Inside


def _session_problems(
    order: Order, terms: Terms, waiting: Sequence[StoredOrder], now: int, last_call: int
) -> list[Problem]:
    problems = []
    another = "an order for another session"
    if terms.closed:
        problems.append(Problem("first_slot", terms.closed, another))
    if now >= terms.gate - last_call:
        closes = "closed" if now >= terms.gate else "is too close to promise a posting: it closes"
        problems.append(Problem("first_slot", f"the gate {closes} at {_time(terms.gate)}", another))
    if order.expiry < terms.gate:
        problems.append(
            Problem(
                "expiry",
                f"{order.expiry} lies before the gate, until which the order may be posted",
                f"{terms.gate} or later",
            )
        )
    queued = [stored.order for stored in waiting if stored.session == terms.first_slot]
    rows = terms.rows + sum(map(rows_of, [*queued, order]))
    if terms.orders + len(queued) >= MAX_ORDERS or rows > MAX_ROWS:
        problems.append(Problem("first_slot", "the session's book is full", another))
    return problems


def _mandate_problems(order: Order, terms: Terms, mandate: MandateState, now: int) -> list[Problem]:
    granted = mandate.terms
    if not mandate.exists:
        return [Problem("mandate", f"{order.mandate} is not in force", "one that was granted")]
    problems = []
    if granted.side != order.side:
        allowed = SIDE_NAMES[granted.side]
        problems.append(Problem("side", "not what the mandate allows", allowed))
    elif not granted.allows(order.side, order.limit):
        bound = "at most" if order.side == BID else "at least"
        problems.append(Problem("limit", "beyond the mandate's price", f"{bound} {granted.limit}"))
    if now // DAY > granted.last_day:
        problems.append(Problem("mandate", "its last day is past", "one that is in force"))
    cap = granted.daily_cap * CAP_UNIT
    wanted = counted(escrow_of(order, terms))
    if mandate.spent + wanted > cap:
        problems.append(
            Problem(
                "mandate",
                f"{wanted} more than the {mandate.spent} of today would pass its daily cap",
                f"orders that put at most {max(0, cap - mandate.spent)} in escrow",
            )
        )
    return problems


def _nonce_problems(
    order: Order, numbers: Nonces, waiting: Sequence[StoredOrder], held: frozenset[int]
) -> list[Problem]:
    free = numbers.to_use(waiting, held)
    if order.nonce in free:
        return []
    accepted = f"one of {', '.join(map(str, free))}" if free else "none until an order is posted"
    if not numbers.is_free(order.nonce):
        why = f"{order.nonce} is used, revoked, or too far ahead"
    else:
        why = f"{order.nonce} is taken by what waits here"
    return [Problem("nonce", why, accepted)]


def _time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
