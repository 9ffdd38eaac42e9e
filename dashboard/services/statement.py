# SPDX-License-Identifier: Apache-2.0
"""A home's month in figures: metered, traded on the chain, and what the supplier still bills.

Pure and in integers: Wh and µ€. What the chain says is taken as it stands, order by order, so the
sums equal the chain's; how an order's money splits into price and penalty follows from the events,
and where they do not tell, it is left whole. Tariffs are per Wh; no base fee, no tax. Words and
files are `statement_words.py` and `statement_files.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from dao.market.orders import ASK
from dao.parameters import MARKET_RULES
from dao.slots import SLOT_SECONDS
from dao.tariffs import Tariffs
from dashboard.repositories.months import AccountMonth, Correction
from dashboard.repositories.readings import Reading
from dashboard.repositories.trades import GIVEN_BACK, SessionFacts
from dashboard.services.orders import OrderView
from meters.readings import Quality

FINALITY = next(rule.maximum for rule in MARKET_RULES if rule.name == "finality")
"""So long after its last slot a month may still be corrected, seconds."""


class State(StrEnum):
    """How far a month is."""

    RUNNING = "running"
    OPEN = "open"
    """Over, but something may still change: not settled, not committed, or within correction."""
    FINAL = "final"


@dataclass(frozen=True)
class Metered:
    """What the meter counted, committed readings only. import_wh, export_wh: sums over what is
    known, None where nothing is. expected: quarter-hours of the month that are past."""

    import_wh: int | None
    export_wh: int | None
    known: int
    estimated: int
    expected: int

    @property
    def missing(self) -> int:
        return max(0, self.expected - self.known)


@dataclass(frozen=True)
class OrderLine:
    """A settled order. net: change of the balance; paid: for delivered energy, fees included, got
    (sold) or spent (bought); penalty: paid (sold) or got (bought); fees: of it, grid fees. None
    where the events do not tell. transactions: posted, then each settlement."""

    session: int
    position: int
    sells: bool
    filled_wh: int
    delivered_wh: int
    net: int
    paid: int | None
    penalty: int | None
    fees: int | None
    transactions: tuple[str, ...]


@dataclass(frozen=True)
class Statement:
    """A month of one metering point. All sums are over `orders` and `corrections`.

    unsplit: µ€ of orders whose money the events do not split; unfilled: orders that got nothing;
    open_orders: not settled, and in no sum. unused_wh: bought and not drawn in its quarter-hour.
    rest_import_wh, rest_export_wh: left to the supplier, None where nothing was metered.
    """

    account: int
    zone: int
    month: int
    first_slot: int
    slots: int
    state: State
    tariffs: Tariffs
    metered: Metered
    orders: tuple[OrderLine, ...]
    corrections: tuple[Correction, ...]
    unfilled: int
    open_orders: int
    open_escrow: int
    unused_wh: int
    use_known: bool
    rest_import_wh: int | None
    rest_export_wh: int | None
    money: AccountMonth

    # energy

    @property
    def given_back_wh(self) -> int:
        return sum(one.wh for one in self.corrections if one.kind == GIVEN_BACK)

    @property
    def sold_wh(self) -> int:
        """Delivered by sales, less what the meter took back later."""
        return sum(one.delivered_wh for one in self.orders if one.sells) - self.given_back_wh

    @property
    def bought_wh(self) -> int:
        return sum(one.delivered_wh for one in self.orders if not one.sells)

    # money, in the home's favour where positive

    @property
    def sales(self) -> int:
        return sum(one.paid or 0 for one in self.orders if one.sells and one.paid is not None)

    @property
    def penalties(self) -> int:
        return sum(one.penalty or 0 for one in self.orders if one.sells and one.paid is not None)

    @property
    def purchases(self) -> int:
        """Spent on delivered energy, grid fees included."""
        return sum(one.paid or 0 for one in self.orders if not one.sells)

    @property
    def fees(self) -> int | None:
        """Grid fees in `purchases`; None where they are not known of every order."""
        parts = [one.fees for one in self.orders if not one.sells and one.delivered_wh]
        return None if None in parts else sum(part or 0 for part in parts)

    @property
    def refunds(self) -> int:
        """Got from sellers who fell short."""
        return sum(one.penalty or 0 for one in self.orders if not one.sells)

    @property
    def unsplit(self) -> int:
        return sum(one.net for one in self.orders if one.paid is None)

    @property
    def corrected(self) -> int:
        return sum(one.amount for one in self.corrections)

    @property
    def traded(self) -> int:
        """All that the market paid less all that it took: what the chain says, to the last µ€."""
        return sum(one.net for one in self.orders) + self.corrected

    # against the supplier

    @property
    def import_bill(self) -> int:
        return (self.rest_import_wh or 0) * self.tariffs.retail

    @property
    def export_credit(self) -> int:
        return (self.rest_export_wh or 0) * self.tariffs.feed_in

    @property
    def total(self) -> int:
        """What the month's energy cost (positive) or brought (negative)."""
        return self.import_bill - self.export_credit - self.traded

    @property
    def without_market(self) -> int:
        """The same, had everything gone through the supplier."""
        imported, exported = self.metered.import_wh or 0, self.metered.export_wh or 0
        return imported * self.tariffs.retail - exported * self.tariffs.feed_in

    @property
    def better(self) -> int:
        """By how much trade made the month cheaper."""
        return self.without_market - self.total


def statement(
    *,
    account: int,
    zone: int,
    month: int,
    first_slot: int,
    slots: int,
    now: int,
    tariffs: Tariffs,
    readings: Sequence[Reading],
    views: Sequence[tuple[OrderView, SessionFacts]],
    corrections: Sequence[Correction],
    money: AccountMonth,
) -> Statement:
    """A month's statement. readings: of its slots; views: the orders of sessions that begin in it,
    with their sessions; corrections: of its slots. now: unix seconds of chain time."""
    end = first_slot + slots
    held = [one for one in readings if one.committed and first_slot <= one.slot < end]
    past = min(slots, max(0, now // SLOT_SECONDS - first_slot))
    metered = _metered(held, past)
    settled = [(one, facts) for one, facts in views if one.net is not None]
    waiting = [one for one, _ in views if one.net is None]
    lines = tuple(_line(one, facts) for one, facts in settled if one.filled_wh)
    unfilled = sum(1 for one, _ in settled if not one.filled_wh)
    drawn = {one.slot: one.import_wh for one in held}
    taken, unused, known = _used([one for one, _ in settled if not one.sells], drawn)
    given_back = sum(one.wh for one in corrections if one.kind == GIVEN_BACK)
    sold = sum(line.delivered_wh for line in lines if line.sells) - given_back
    return Statement(
        account=account,
        zone=zone,
        month=month,
        first_slot=first_slot,
        slots=slots,
        state=_state(end, now, absent=past - len(held), waits=bool(waiting)),
        tariffs=tariffs,
        metered=metered,
        orders=lines,
        corrections=tuple(corrections),
        unfilled=unfilled,
        open_orders=len(waiting),
        open_escrow=sum(one.escrow for one in waiting),
        unused_wh=unused,
        use_known=known,
        rest_import_wh=(None if metered.import_wh is None else max(0, metered.import_wh - taken)),
        rest_export_wh=(None if metered.export_wh is None else max(0, metered.export_wh - sold)),
        money=money,
    )


def _metered(readings: Sequence[Reading], expected: int) -> Metered:
    imports = [one.import_wh for one in readings if one.import_wh is not None]
    exports = [one.export_wh for one in readings if one.export_wh is not None]
    known = [one for one in readings if one.import_wh is not None or one.export_wh is not None]
    return Metered(
        import_wh=sum(imports) if imports else None,
        export_wh=sum(exports) if exports else None,
        known=len(known),
        estimated=sum(1 for one in known if one.quality is not Quality.MEASURED),
        expected=max(expected, len(known)),
    )


def _state(end: int, now: int, *, absent: int, waits: bool) -> State:
    if now < end * SLOT_SECONDS:
        return State.RUNNING
    if waits or absent > 0 or now < end * SLOT_SECONDS + FINALITY:
        return State.OPEN
    return State.FINAL


def _line(one: OrderView, facts: SessionFacts) -> OrderLine:
    assert one.net is not None
    assert one.key is not None
    session, position = one.key
    filled, delivered = one.filled_wh or 0, one.delivered_wh or 0
    penalty = one.penalty
    if one.sells and penalty is None:
        penalty = _short_of(one, facts)
    paid = fees = None
    if penalty is not None:
        paid = one.net + penalty if one.sells else penalty - one.net
    if not one.sells and one.fills:
        parts = [None if f.delivered_wh is None else f.delivered_wh * f.fee for f in one.fills]
        fees = None if None in parts else sum(part or 0 for part in parts)
    posted = next(p.tx for p in facts.book if p.position == position)
    paying = [run.tx for run in facts.runs if run.position == position]
    return OrderLine(
        session=session,
        position=position,
        sells=one.sells,
        filled_wh=filled,
        delivered_wh=delivered,
        net=one.net,
        paid=paid,
        penalty=penalty,
        fees=fees,
        transactions=(posted, *dict.fromkeys(paying)),
    )


def _short_of(one: OrderView, facts: SessionFacts) -> int | None:
    """A sale's penalty as its session's rate for what it fell short by: where the session's
    penalties are just that over all sales, it is so for each of them."""
    sides = {posted.position: posted.order.side for posted in facts.book}
    short = sum(
        run.filled_wh - run.delivered_wh for run in facts.runs if sides.get(run.position) == ASK
    )
    rate = facts.session.penalty
    if short * rate != sum(slot.penalties for slot in facts.settled):
        return None
    return ((one.filled_wh or 0) - (one.delivered_wh or 0)) * rate


def _used(bids: Sequence[OrderView], drawn: Mapping[int, int | None]) -> tuple[int, int, bool]:
    """Of what was bought and delivered: how much was drawn in its own quarter-hour, how much was
    not, and whether that is known of all of it. What is not known counts as drawn."""
    left = {slot: wh for slot, wh in drawn.items() if wh is not None}
    used = unused = 0
    known = True
    for one in bids:
        delivered = one.delivered_wh or 0
        parts = [(fill.slot, fill.delivered_wh or 0) for fill in one.fills]
        if sum(wh for _, wh in parts) != delivered:
            used, known = used + delivered, known and not delivered
            continue
        for slot, wh in parts:
            if slot not in left:
                # Nothing was metered here, so nothing is left to the supplier either.
                known = known and not wh
                continue
            taken = min(wh, left[slot])
            left[slot] -= taken
            used, unused = used + taken, unused + wh - taken
    return used, unused, known
