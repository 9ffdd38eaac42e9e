# SPDX-License-Identifier: Apache-2.0
"""An order's way from signature to money, from the market's events: fills, payments, its steps.

The events name prices per slot and sums per order. What an order got in each slot is worked out
again from the whole book, by the market's own rules, and shown only where it agrees with what the
chain says. Energy in Wh, money in µ€, prices in µ€/Wh, times in unix seconds. No words here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from dao.eip712 import keccak
from dao.market.book import session_book
from dao.market.orders import ASK, MAX_LIMIT, Order, market_separator, order_digest
from dao.market.solver import clear_session, share
from dao.slots import SLOT_SECONDS
from dao.tariffs import Tariffs
from dashboard.repositories.trades import (
    Posted,
    Result,
    Run,
    SessionFacts,
)


class Name(StrEnum):
    """The steps of an order, in turn."""

    SIGNED = "signed"
    POSTED = "posted"
    CLEARED = "cleared"
    DELIVERED = "delivered"
    PAID = "paid"


class Mark(StrEnum):
    """How a step stands."""

    DONE = "done"
    NOW = "now"
    WAITING = "waiting"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Step:
    """One step. at: when it was done, or is due; tx: the transaction that did it."""

    name: Name
    mark: Mark
    at: int | None = None
    tx: str | None = None


@dataclass(frozen=True)
class Fill:
    """What an order got in one slot. delivered_wh, paid, penalty: None where the events do not
    tell. paid: the seller gets it, the buyer spends it, grid fee included."""

    slot: int
    wanted_wh: int
    filled_wh: int
    price: int
    fee: int
    delivered_wh: int | None
    paid: int | None
    penalty: int | None


class Stage(StrEnum):
    """Where an order stands as a whole."""

    WAITING = "waiting"
    OPEN = "open"
    SOLD = "sold"
    EMPTY = "empty"
    VOID = "void"
    PAID = "paid"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    LATE = "late"


@dataclass(frozen=True)
class OrderView:
    """One order and all that is known of it.

    key: session and position on chain; filled_wh: None before clearing, or where the fills cannot
    be worked out and are not settled yet; delivered_wh, credit, net, tariff: None before all slots
    are settled. net: change of the balance over the whole order; tariff: what the delivered energy
    would have brought (sold) or cost (bought) without the market. fills: slots that got something.
    fills_agree: False where the fills worked out here do not sum to what the chain says.
    """

    order: Order
    key: tuple[int, int] | None
    stage: Stage
    steps: tuple[Step, ...]
    escrow: int
    filled_wh: int | None
    delivered_wh: int | None
    credit: int | None
    net: int | None
    tariff: int | None
    penalty: int | None
    fills: tuple[Fill, ...]
    fills_agree: bool
    reason: str | None = None
    relay_id: str | None = None

    @property
    def sells(self) -> bool:
        return self.order.side == ASK

    @property
    def better(self) -> int | None:
        """By how much the order was the better deal, against the tariff alone."""
        return None if self.net is None or self.tariff is None else self.net - self.tariff


@dataclass(frozen=True)
class Filled:
    """A session's fills: Wh of (orders, slots), the price and fee of each slot."""

    wh: np.ndarray
    prices: tuple[int | None, ...]
    fees: tuple[int | None, ...]


def session_fills(facts: SessionFacts) -> Filled | None:
    """The fills of a session by the market's own rules; None before all of its slots are cleared,
    or where the prices worked out are not the chain's.

    Without the market's words a slot's fee is what its settlement shows, and where nothing was
    delivered there is none: then the fills of bids at the edge of the fee cannot be told.
    """
    session = facts.session
    end = session.first_slot + session.slots
    void_from = min((one.from_slot for one in facts.voided), default=end)
    prices: list[int | None] = [None] * session.slots
    seen = 0
    for one in facts.cleared:
        if session.first_slot <= one.slot < min(end, void_from):
            prices[one.slot - session.first_slot] = one.price
            seen += 1
    if seen < min(end, void_from) - session.first_slot:
        return None
    fees = _fees(facts)
    bands = _bands(facts)
    book = session_book([one.order for one in facts.book], session.slots)
    wh = np.zeros((len(facts.book), session.slots), dtype=np.int64)
    traded = [slot for slot, price in enumerate(prices) if price is not None]
    if any(fees[slot] is None for slot in traded):
        return None
    if traded:
        found = clear_session(
            book.side,
            book.limit,
            book.wh[:, traded],
            band=[bands[slot] for slot in traded],
            fee=[fees[slot] or 0 for slot in traded],
        )
        if found.prices != tuple(prices[slot] for slot in traded):
            return None
        wh[:, traded] = np.asarray(found.fills, dtype=np.int64)
    return Filled(wh, tuple(prices), tuple(fees))


def _fees(facts: SessionFacts) -> list[int | None]:
    slots = facts.session.slots
    if facts.words is not None:
        return [word >> 16 & 0xFFFF for word in facts.words]
    fees: list[int | None] = [None] * slots
    for one in facts.settled:
        if one.delivered_wh and 0 <= one.slot - facts.session.first_slot < slots:
            fees[one.slot - facts.session.first_slot] = one.fees // one.delivered_wh
    return fees


def _bands(facts: SessionFacts) -> list[tuple[int, int]]:
    if facts.words is None:
        return [(0, MAX_LIMIT)] * facts.session.slots
    return [(word >> 32 & 0xFFFF, word >> 48 & 0xFFFF) for word in facts.words]


def view(
    posted: Posted, facts: SessionFacts, filled: Filled | None, tariffs: Tariffs, now: int
) -> OrderView:
    """An order on chain. now: unix seconds of chain time."""
    session, order = facts.session, posted.order
    runs = [run for run in facts.runs if run.position == posted.position]
    done = sum(run.slots for run in runs) >= session.slots > 0
    settled_filled = sum(run.filled_wh for run in runs)
    delivered = sum(run.delivered_wh for run in runs)
    credit = sum(run.credit for run in runs)
    row = None if filled is None else filled.wh[posted.position]
    fills = () if filled is None or row is None else fills_of(posted, facts, filled)
    mine = None if row is None else int(row.sum())
    agree = mine is None or not done or mine == settled_filled
    if not agree:
        fills, mine = (), settled_filled
    total = settled_filled if done else mine
    sells = order.side == ASK
    rate = tariffs.feed_in if sells else -tariffs.retail
    return OrderView(
        order=order,
        key=(session.first_slot, posted.position),
        stage=_stage(facts, total, done),
        steps=_steps(posted, facts, runs, total, done, now),
        escrow=posted.escrow,
        filled_wh=total,
        delivered_wh=delivered if done else None,
        credit=credit if done else None,
        net=credit - posted.escrow if done else None,
        tariff=delivered * rate if done else None,
        penalty=_penalty(fills, settled_filled, delivered) if done else None,
        fills=fills,
        fills_agree=agree,
    )


def fills_of(posted: Posted, facts: SessionFacts, filled: Filled) -> tuple[Fill, ...]:
    """What an order got in each slot that gave it something."""
    session, order = facts.session, posted.order
    at_slot = {one.slot: one for one in facts.settled}
    asks = np.array([one.order.side == ASK for one in facts.book])
    found = []
    for slot in range(session.slots):
        wanted = order.at(session.first_slot + slot)
        wh, price = int(filled.wh[posted.position, slot]), filled.prices[slot]
        if not wanted or price is None or not wh:
            continue
        fee = filled.fees[slot] or 0
        delivered = paid = penalty = None
        settled = at_slot.get(session.first_slot + slot)
        if settled is not None:
            column = filled.wh[:, slot]
            if order.side == ASK:
                sellers = np.flatnonzero(asks & (column > 0))
                if settled.delivered_wh == int(column[asks].sum()):
                    delivered, penalty = wh, 0
                elif len(sellers) == 1:
                    delivered, penalty = settled.delivered_wh, settled.penalties
                elif settled.delivered_wh == 0:
                    delivered = 0
                if delivered is not None:
                    paid = delivered * price
            else:
                bids = np.flatnonzero(~asks)
                place = int(np.searchsorted(bids, posted.position))
                delivered = int(share(column[bids], settled.delivered_wh)[place])
                penalty = int(share(column[bids], settled.penalties)[place])
                paid = delivered * (price + fee)
        found.append(
            Fill(session.first_slot + slot, wanted, wh, price, fee, delivered, paid, penalty)
        )
    return tuple(found)


def _penalty(fills: Sequence[Fill], filled_wh: int, delivered_wh: int) -> int | None:
    """Penalties paid (sold) or received (bought) over the order; None where the events do not
    separate them from the price."""
    if filled_wh == delivered_wh and not fills:
        return None if filled_wh else 0
    parts = [one.penalty for one in fills]
    return None if None in parts else sum(part or 0 for part in parts)


def _stage(facts: SessionFacts, filled_wh: int | None, done: bool) -> Stage:
    cleared = _is_cleared(facts)
    if done:
        if _is_void(facts) and not filled_wh:
            return Stage.VOID
        return Stage.PAID if filled_wh else Stage.EMPTY
    if _is_void(facts) and not any(one.price is not None for one in facts.cleared):
        return Stage.VOID
    if not cleared:
        return Stage.OPEN
    return Stage.EMPTY if filled_wh == 0 else Stage.SOLD


def _is_void(facts: SessionFacts) -> bool:
    return bool(facts.voided)


def _is_cleared(facts: SessionFacts) -> bool:
    session = facts.session
    return bool(facts.voided) or len(facts.cleared) >= session.slots


def _steps(
    posted: Posted,
    facts: SessionFacts,
    runs: Sequence[Run],
    filled_wh: int | None,
    done: bool,
    now: int,
) -> tuple[Step, ...]:
    session = facts.session
    begin = session.first_slot * SLOT_SECONDS
    end = begin + session.slots * SLOT_SECONDS
    steps = [
        Step(Name.SIGNED, Mark.DONE),
        Step(Name.POSTED, Mark.DONE, posted.at, posted.tx),
    ]
    if facts.voided and not any(one.price is not None for one in facts.cleared):
        first = facts.voided[0]
        steps.append(Step(Name.CLEARED, Mark.FAILED, first.at, first.tx))
    elif _is_cleared(facts):
        last = max(facts.cleared, key=lambda one: one.at)
        steps.append(Step(Name.CLEARED, Mark.DONE, last.at, last.tx))
    else:
        steps.append(Step(Name.CLEARED, Mark.NOW, session.gate))
    nothing = filled_wh == 0 and (done or _is_cleared(facts))
    if nothing:
        steps.append(Step(Name.DELIVERED, Mark.SKIPPED))
    elif done or (_is_cleared(facts) and now >= end):
        steps.append(Step(Name.DELIVERED, Mark.DONE, end))
    elif _is_cleared(facts) and now >= begin:
        steps.append(Step(Name.DELIVERED, Mark.NOW, end))
    else:
        steps.append(Step(Name.DELIVERED, Mark.WAITING, end))
    if done:
        last_run = max(runs, key=lambda run: run.block)
        steps.append(Step(Name.PAID, Mark.DONE, last_run.at, last_run.tx))
    else:
        over = _is_cleared(facts) and (now >= end or nothing)
        steps.append(Step(Name.PAID, Mark.NOW if over else Mark.WAITING))
    return tuple(steps)


# The receipt

_HOW = """\
order_digest is the EIP-712 digest of the order in the domain GridCommons EnergyMarket, version 1, \
this chain id and market.
The step posted names the transaction whose OrdersPosted event holds the order's words, under \
session {session}.
The step cleared names the transaction with the SlotCleared events: price and volume of each slot.
The step paid names the transaction whose OrdersSettled event holds, at position_in_book, sixteen \
bytes: account, delivered Wh, filled Wh, credit.
change_of_balance is credit less escrow; escrow is limit times Wh of a bid, and the session's \
penalty times Wh of an ask.""".splitlines()


def receipt(
    one: OrderView, *, chain_id: int, market: str, zone: int, signed_at: int | None = None
) -> dict[str, Any]:
    """An order as a document that anybody can check against the chain.

    It carries the order's digest, the transactions, the fills, and how to check each. Money in
    µ€, energy in Wh, prices in µ€/Wh.
    """
    order = one.order
    session = one.key[0] if one.key else order.session_slot
    steps = [
        {"step": step.name.value, "state": step.mark.value, "at": step.at, "transaction": step.tx}
        for step in one.steps
    ]
    if signed_at is not None:
        steps[0]["at"] = signed_at
    return {
        "what": "GridCommons receipt of an order",
        "version": 1,
        "units": {"energy": "Wh", "money": "micro euro", "price": "micro euro per Wh"},
        "chain_id": chain_id,
        "market": market,
        "zone": zone,
        "session_first_slot": session,
        "position_in_book": one.key[1] if one.key else None,
        "order_digest": digest_of(order, chain_id, market),
        "order": {
            "account": order.account,
            "mandate": order.mandate,
            "nonce": order.nonce,
            "expiry": order.expiry,
            "side": "ask" if one.sells else "bid",
            "limit": order.limit,
            "first_slot": order.first_slot,
            "slots": order.count,
            "wh": list(order.profile),
        },
        "stage": one.stage.value,
        "escrow": one.escrow,
        "filled_wh": one.filled_wh,
        "delivered_wh": one.delivered_wh,
        "credit": one.credit,
        "change_of_balance": one.net,
        "penalty": one.penalty,
        "same_energy_at_tariff": one.tariff,
        "fills": [asdict(fill) for fill in one.fills],
        "steps": steps,
        "how_to_check": [line.format(session=(zone << 64) | session) for line in _HOW],
    }


def digest_of(order: Order, chain_id: int, market: str) -> str:
    """The EIP-712 digest that was signed, by which the relay knows the order; 0x text."""
    return "0x" + order_digest(market_separator(chain_id, market), order).hex()


def receipt_rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    """A receipt as rows of name and value, for a table or a CSV file."""
    rows: list[tuple[str, str]] = []

    def put(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                put(f"{name}.{key}" if name else key, inner)
        elif isinstance(value, list) and any(isinstance(v, (dict, list)) for v in value):
            for number, inner in enumerate(value):
                put(f"{name}.{number}", inner)
        elif isinstance(value, list) and name == "how_to_check":
            for number, inner in enumerate(value, 1):
                rows.append((f"{name}.{number}", str(inner)))
        else:
            shown = " ".join(map(str, value)) if isinstance(value, list) else value
            rows.append((name, "" if shown is None else str(shown)))

    put("", document)
    return rows


def receipt_csv(document: dict[str, Any]) -> str:
    """A receipt as CSV with the columns name and value. A cell never begins as a formula does."""
    import csv
    import io

    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(("name", "value"))
    for name, value in receipt_rows(document):
        safe = "'" + value if value[:1] in "=+@\t\r" and value else value
        writer.writerow((name, safe))
    return out.getvalue()


def receipt_name(document: dict[str, Any]) -> str:
    """A file's name for a receipt: of numbers only."""
    order = document["order"]
    mark = keccak(document["order_digest"].encode()).hex()[:8]
    return f"receipt-{order['account']}-{order['first_slot']}-{mark}"


# Sums


@dataclass(frozen=True)
class Sums:
    """What a home's orders came to over a time, settled ones only; µ€ and Wh.

    earned: what sales brought, penalties taken off, less what the feed-in tariff would have paid
    for the same energy. saved: what the energy that was bought and used would have cost at retail,
    less all that was paid. used_wh: of what was bought; use_known: whether the readings tell.
    """

    sold_wh: int
    bought_wh: int
    sales: int
    purchases: int
    earned: int
    saved: int
    used_wh: int
    use_known: bool
    orders: int


def sums(
    results: Sequence[Result],
    tariffs: Tariffs,
    imported_wh: Mapping[int, int | None],
    fills: Callable[[Result], Sequence[Fill]],
) -> Sums:
    """Sums over settled orders.

    imported_wh: by slot what the home drew, None or absent where it is not known: what was bought
    there counts as used, and `use_known` is False. fills: of an order that bought something, empty
    where they cannot be told.
    """
    left = dict(imported_wh)
    used, known = 0, True
    for one in results:
        if one.sells or not one.delivered_wh:
            continue
        per_slot = [(fill.slot, fill.delivered_wh or 0) for fill in fills(one)]
        if sum(wh for _, wh in per_slot) != one.delivered_wh:
            used += one.delivered_wh
            known = False
            continue
        for slot, wh in per_slot:
            drawn = left.get(slot)
            if drawn is None:
                used += wh
                known = known and not wh
            else:
                used += min(wh, drawn)
                left[slot] = drawn - min(wh, drawn)
    sold = sum(one.delivered_wh for one in results if one.sells)
    sales = sum(one.net for one in results if one.sells)
    purchases = -sum(one.net for one in results if not one.sells)
    return Sums(
        sold_wh=sold,
        bought_wh=sum(one.delivered_wh for one in results if not one.sells),
        sales=sales,
        purchases=purchases,
        earned=sales - sold * tariffs.feed_in,
        saved=used * tariffs.retail - purchases,
        used_wh=used,
        use_known=known,
        orders=len(results),
    )
