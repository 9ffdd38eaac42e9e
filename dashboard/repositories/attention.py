# SPDX-License-Identifier: Apache-2.0
"""What a home's notices follow from, asked of every source; one that is away is left out.

Whoever asks has made sure that the home is the visitor's own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from dao.errors import GridCommonsError
from dao.index import EventReader
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from dashboard.repositories.cache import Version, cached, version
from dashboard.repositories.governance import Governance
from dashboard.repositories.instructions import instructions
from dashboard.repositories.marks import marks
from dashboard.repositories.months import corrections, first_session
from dashboard.repositories.own_data import grants_of
from dashboard.repositories.people import owners
from dashboard.repositories.sources import sources
from dashboard.services.instructions import prepared
from dashboard.services.known import session
from dashboard.services.notices import (
    LOOK_BACK,
    Ending,
    Known,
    Notice,
    Vote,
    notices,
    unseen,
)
from dashboard.services.orders import OrderView
from dashboard.services.orders import view as order_view
from dashboard.services.proposal import told, windows_of
from dashboard.settings import Settings, read_settings
from meters.leaves import month_at

if TYPE_CHECKING:
    from dashboard.context import State
    from dashboard.repositories.sources import Sources

log = logging.getLogger(__name__)
T = TypeVar("T")

ORDER_DAYS = 7
ORDERS = 28
EVENTS = 100
VOTES = 60
_DAY = 86_400


def notices_of(settings: Settings, state: State, account: int) -> list[Notice]:
    """The notices of an account, at most half a minute old."""
    return _notices(*_asked(settings, state, account))


def _asked(settings: Settings, state: State, account: int) -> tuple[str, int, int, int, Version]:
    # By the quarter-hour, so that those who look again soon are told the same; who read, and what
    # an instruction changes, is told at once.
    read = version(settings.home / "grants.sqlite")
    read += version(settings.home / "instructions.sqlite")
    return str(settings.home), state.zone, account, state.now // SLOT_SECONDS, read


def unseen_of(
    settings: Settings, state: State, accounts: tuple[int, ...], *, at_once: bool = False
) -> int:
    """How many notices of these accounts were not marked as seen. at_once: of what was told
    before, without asking any source, for the first look at a page."""
    held, count = marks(settings), 0
    for account in accounts[:8]:
        asked = _asked(settings, state, account)
        found = _notices.told(*asked) if at_once else _notices(*asked)
        count += len(unseen(found or [], held.seen(account)))
    return count


@cached(ttl=30, max_entries=256)
def _notices(home: str, zone: int, account: int, slot: int, read: Version) -> list[Notice]:
    from dashboard.context import read_state

    return notices(known(read_settings(), read_state(), account))


def known(settings: Settings, state: State, account: int) -> Known:
    """All that is known of an account for its notices."""
    now, slot = state.now, state.now // SLOT_SECONDS
    found = tried(lambda: sources(settings, state.zone))
    values: dict[str, Any] = {"now": now}

    def put(name: str, ask: Callable[[], Any]) -> None:
        answer = tried(ask)
        if answer is not None:
            values[name] = answer

    if found is not None:
        put("turned_away", lambda: found.trades.turned_away([account], limit=20))
        put("orders", lambda: _orders(found, state, account))
        first = slot - LOOK_BACK // SLOT_SECONDS
        put("corrections", lambda: corrections(found.path, account, first, slot + 1))
        put("newest", lambda: found.readings.newest(account, slot + 1))
        begin = (slot // SLOTS_PER_DAY - 7) * SLOTS_PER_DAY
        put("days", lambda: _days(found, account, begin))
        put("escrowed", lambda: found.trades.escrowed(account))
        put("free", lambda: _free(found, account))
        put("first_month", lambda: _first_month(found, account))
        if found.relay is not None:
            relay = found.relay
            put("relayed", lambda: relay.orders(account, limit=30).orders)
    put("accesses", lambda: grants_of(settings.home, account)[1])
    put("offers", lambda: _offers(settings, account))
    put("mandates", lambda: _mandates(settings, account))
    put("corrected", lambda: _corrected(settings, state))
    put("votes", lambda: _votes(settings, state, account))
    return Known(**values)


def tried(ask: Callable[[], T]) -> T | None:
    """What a source answers, None where it cannot: the notices from the others are told."""
    try:
        return ask()
    except GridCommonsError as error:
        log.info("notices: %s", error)
        return None


def _orders(found: Sources, state: State, account: int) -> list[OrderView]:
    since = state.now // SLOT_SECONDS - ORDER_DAYS * SLOTS_PER_DAY
    views = []
    for posted in found.trades.orders([account], limit=ORDERS, since=since):
        facts, filled = session(found.key(posted.order.session_slot))
        if facts is not None:
            views.append(order_view(posted, facts, filled, state.tariffs, state.now))
    return views


def _votes(settings: Settings, state: State, account: int) -> list[Vote]:
    """Open votes that lack the owner's."""
    owner = owners(settings.home / "index.sqlite", state.zone).get(account)
    governance, now = Governance(settings), state.now
    if owner is None or governance.governor is None:
        return []
    members, cast = governance.members(), governance.cast_by(owner)
    own = instructions(settings).of(owner, now)
    parameters = (settings.deployment or {}).get("GridParameters")
    found = []
    for made in governance.proposals()[:VOTES]:
        is_open = made.snapshot < now <= made.deadline and made.cancelled is None
        if not is_open or made.id in cast or not members.power(owner, made.snapshot, made.zone):
            continue
        windows = windows_of(made.calls, parameters)
        ready = prepared(own, windows, made.lane, now) is not None
        title = told(made.description).title
        found.append(Vote(f"{made.id:064x}", title, made.deadline, made.under_policy, ready))
    return found


def _days(found: Sources, account: int, begin: int) -> list[Any]:
    """Whole days that are committed; those of which nothing is there at all are a silent meter."""
    return found.readings.buckets(account, begin, 7 * SLOTS_PER_DAY, SLOTS_PER_DAY)


def _free(found: Sources, account: int) -> int | None:
    told = found.balance(account)
    return None if told is None else told.amount


def _first_month(found: Sources, account: int) -> int | None:
    first = first_session(found.path, account)
    return None if first is None else month_at(first)


def _offers(settings: Settings, account: int) -> list[Ending]:
    from forecasting.agent.store import OfferStore

    path = settings.home / "offers.sqlite"
    if not path.exists():
        return []
    with OfferStore(path) as store:
        newest = {one.offer.side: one.offer for one in reversed(store.history(account))}
    return [
        Ending(side, offer.valid_until) for side, offer in newest.items() if not offer.withdrawn
    ]


def _mandates(settings: Settings, account: int) -> list[Ending]:
    reader = EventReader(settings.home / "index.sqlite")

    def events(name: str) -> list[dict[str, Any]]:
        return reader.events(name, match={"account": account}, limit=EVENTS, newest_first=True)

    ended = {one["args"]["number"] for one in events("MandateEnded")}
    found = []
    for one in events("MandateGranted"):
        args = one["args"]
        if args["number"] not in ended:
            # A mandate's terms in the contract's order; the last day counts to its end.
            _agent, _side, _limit, _daily_cap, last_day = args["terms"]
            ends = (int(last_day) + 1) * _DAY
            found.append(Ending(int(args["number"]), ends))
    return found


def _corrected(settings: Settings, state: State) -> list[tuple[int, int]]:
    reader = EventReader(settings.home / "index.sqlite")
    found = reader.events(
        "BatchCorrected",
        match={"zone": state.zone},
        first_time=max(0, state.now - LOOK_BACK),
        limit=EVENTS,
        newest_first=True,
    )
    return [(int(one["args"]["first_slot"]), int(one["timestamp"])) for one in found]
