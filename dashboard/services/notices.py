# SPDX-License-Identifier: Apache-2.0
"""What needs an owner's attention, derived anew from what there is: newest first, nothing stored.

Pure. Each notice has an id that stays the same, by which it can be marked as seen. No words here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from dao.slots import SLOT_SECONDS
from dashboard.repositories.months import Correction
from dashboard.repositories.readings import Bucket, Reading
from dashboard.repositories.relay import OrderStatus
from dashboard.repositories.trades import GIVEN_BACK, TurnedAway
from dashboard.services.home import STALE_SECONDS
from dashboard.services.my_data import month_now, month_start
from dashboard.services.orders import Name, OrderView
from dashboard.services.statement import FINALITY
from meters.grants import Access, Outcome

LOOK_BACK = 30 * 86_400
"""Nothing older is told, seconds."""
EXPIRES_SOON = 3 * 86_400
LOW_BALANCE = 1_000_000
MAX_NOTICES = 100
_MONTHS_TOLD = 3


class Kind(StrEnum):
    """What a notice is about."""

    REFUSED = "refused"
    PROMISE_BROKEN = "promise-broken"
    SHORT = "short"
    GIVEN_BACK = "given-back"
    GOT_BACK = "got-back"
    MISSING = "missing"
    SILENT = "silent"
    OFFER_ENDS = "offer-ends"
    MANDATE_ENDS = "mandate-ends"
    LOW_BALANCE = "low-balance"
    READ = "read"
    TRIED = "tried"
    CORRECTED = "corrected"
    STATEMENT = "statement"
    VOTE = "vote"
    OBJECTION = "objection"
    PREPARED = "prepared"


BAD = frozenset({Kind.PROMISE_BROKEN, Kind.SHORT, Kind.SILENT, Kind.TRIED})
GOOD = frozenset({Kind.STATEMENT, Kind.GOT_BACK})


@dataclass(frozen=True)
class Notice:
    """One thing to know. at: when it came about, or is due; number: what it is about (µ€, slots,
    seconds, a month, a slot); who: an address or a title, as it came; page: the slug where more of
    it is."""

    id: str
    kind: Kind
    at: int
    page: str
    number: int = 0
    other: int = 0
    who: str = ""

    @property
    def tone(self) -> str:
        """Of the pill beside it."""
        return "bad" if self.kind in BAD else "good" if self.kind in GOOD else "open"


@dataclass(frozen=True)
class Ending:
    """An offer or a mandate and when it ends, unix seconds."""

    number: int
    ends: int


@dataclass(frozen=True)
class Vote:
    """A vote that is open until `ends`, and lacks the owner's. objection: it takes effect unless
    enough object; prepared: an instruction of the owner picks a ballot."""

    id: str
    title: str
    ends: int
    objection: bool = False
    prepared: bool = False

    @property
    def kind(self) -> Kind:
        if self.prepared:
            return Kind.PREPARED
        return Kind.OBJECTION if self.objection else Kind.VOTE


@dataclass(frozen=True)
class Known:
    """All that notices follow from. free: balance, None where it could not be asked; days: buckets
    of past UTC days that are committed; corrected: first slot and time of corrected batches;
    first_month: of which there is anything at all."""

    now: int
    turned_away: Sequence[TurnedAway] = ()
    relayed: Sequence[OrderStatus] = ()
    orders: Sequence[OrderView] = ()
    corrections: Sequence[Correction] = ()
    newest: Reading | None = None
    days: Sequence[Bucket] = ()
    offers: Sequence[Ending] = ()
    mandates: Sequence[Ending] = ()
    free: int | None = None
    escrowed: int = 0
    accesses: Sequence[Access] = ()
    corrected: Sequence[tuple[int, int]] = ()
    first_month: int | None = None
    votes: Sequence[Vote] = field(default_factory=tuple)


def notices(known: Known) -> list[Notice]:
    """The notices, the newest first."""
    found = [
        *_of_orders(known),
        *_of_meter(known),
        *_of_endings(known),
        *_of_data(known),
        *(
            Notice(f"{v.kind}:{v.id}", v.kind, known.now, "votes", v.ends, 0, v.title)
            for v in known.votes
            if v.ends > known.now
        ),
    ]
    recent = [one for one in found if one.at > known.now - LOOK_BACK]
    # What is true now and began at no time stands first.
    return sorted(recent, key=lambda one: (-one.at, one.id))[:MAX_NOTICES]


def unseen(found: Sequence[Notice], seen: set[str]) -> list[Notice]:
    """Those that were not marked as seen."""
    return [one for one in found if one.id not in seen]


def _of_orders(known: Known) -> list[Notice]:
    found = [
        Notice(f"refused:{one.tx}:{one.nonce}", Kind.REFUSED, one.at, "orders", one.session)
        for one in known.turned_away
    ]
    for one in known.relayed:
        begin = one.order.first_slot
        at = next((s.at for s in one.steps if s.step == one.state and s.at), None)
        at = min(begin * SLOT_SECONDS if at is None else at, known.now)
        if one.state == "late":
            found.append(Notice(f"late:{one.id[:80]}", Kind.PROMISE_BROKEN, at, "orders", begin))
        elif one.state == "rejected" and not _told(known, one):
            found.append(Notice(f"rejected:{one.id[:80]}", Kind.REFUSED, at, "orders", begin))
    for view in known.orders:
        short = (view.filled_wh or 0) - (view.delivered_wh or 0)
        if view.key is None or view.net is None or not view.sells or short <= 0:
            continue
        paid = next((s.at for s in view.steps if s.name is Name.PAID and s.at), known.now)
        name = f"short:{view.key[0]}:{view.key[1]}"
        found.append(Notice(name, Kind.SHORT, paid, "orders", short, view.penalty or 0))
    for made in known.corrections:
        kind = Kind.GIVEN_BACK if made.kind == GIVEN_BACK else Kind.GOT_BACK
        name = f"{kind}:{made.tx}:{made.slot}"
        found.append(Notice(name, kind, made.at, "orders", abs(made.amount), made.slot))
    return found


def _told(known: Known, one: OrderStatus) -> bool:
    """Whether the contract's own refusal of an order is told already."""
    return any(
        t.nonce == one.order.nonce and t.session <= one.order.first_slot < t.session + 96
        for t in known.turned_away
    )


def _of_meter(known: Known) -> list[Notice]:
    found = []
    for day in known.days:
        if gaps := day.slots - day.known:
            end = (day.slot + day.slots) * SLOT_SECONDS
            found.append(
                Notice(f"missing:{day.slot}", Kind.MISSING, end, "my-data", gaps, day.slot)
            )
    if known.newest is not None:
        last = (known.newest.slot + 1) * SLOT_SECONDS
        if known.now - last > STALE_SECONDS:
            found.append(
                Notice(f"silent:{known.newest.slot}", Kind.SILENT, known.now, "my-data", last)
            )
    return found


def _of_endings(known: Known) -> list[Notice]:
    found = []
    for kind, endings in ((Kind.OFFER_ENDS, known.offers), (Kind.MANDATE_ENDS, known.mandates)):
        for one in endings:
            if 0 < one.ends - known.now <= EXPIRES_SOON:
                name = f"{kind}:{one.number}:{one.ends}"
                at = one.ends - EXPIRES_SOON
                found.append(Notice(name, kind, at, "standing-offers", one.ends))
    if known.free is not None and known.free + known.escrowed < LOW_BALANCE:
        name = f"low:{known.now // 86_400}"
        found.append(Notice(name, Kind.LOW_BALANCE, known.now, "money", known.free))
    return found


def _of_data(known: Known) -> list[Notice]:
    found = []
    for one in known.accesses:
        name = f"access:{one.grant.hex()[:16]}:{one.at}:{one.outcome.value}"
        kind = Kind.READ if one.outcome is Outcome.READ else Kind.TRIED
        who = "0x" + one.reader.hex()
        count = one.slots if kind is Kind.READ else one.times
        found.append(Notice(name, kind, one.last_at, "my-data", count, 0, who))
    for slot, at in known.corrected:
        found.append(Notice(f"corrected:{slot}", Kind.CORRECTED, at, "my-data", slot))
    this = month_now(known.now)
    if known.first_month is not None:
        for month in range(max(known.first_month, this - _MONTHS_TOLD), this):
            ready = month_start(month + 1) + FINALITY
            if ready <= known.now:
                found.append(
                    Notice(f"statement:{month}", Kind.STATEMENT, ready, "statement", month)
                )
    return found
