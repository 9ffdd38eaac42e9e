# SPDX-License-Identifier: Apache-2.0
"""What there is about one order of a home, from every place that knows some of it.

Whoever asks has made sure that the home is the visitor's own. What a place cannot tell is left
out, with the reason; nothing here judges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from dao.errors import CheckFailed, GridCommonsError
from dao.index import EventReader
from dao.market.orders import Order
from dao.market.session import DeviceReceipt
from dao.parameters import MARKET_RULES
from dashboard.errors import plain
from dashboard.repositories.months import Correction, corrections
from dashboard.repositories.own_data import OwnData
from dashboard.repositories.relay import Promised
from dashboard.repositories.sources import Sources
from dashboard.repositories.trades import MAX_ROWS, SessionFacts
from dashboard.services.known import session as known_session
from dashboard.services.orders import OrderView, digest_of
from dashboard.services.orders import view as order_view
from dashboard.settings import Settings

if TYPE_CHECKING:
    from dashboard.context import State
    from meters.disclosure import Disclosure

T = TypeVar("T")
_FINALITY = next(rule for rule in MARKET_RULES if rule.name == "finality")


@dataclass(frozen=True)
class Evidence:
    """Everything about an order. absent: what could not be had, by the name of the piece, and why.

    revoked_at, paused: whether the owner took the order's number back before its gate, and whether
    the market was paused at the gate. finality: seconds after delivery in which a meter can take
    something back; window: when the batch of the delivery can be corrected, unix seconds.
    """

    chain_id: int
    zone: int
    contracts: dict[str, str]
    account: int
    now: int
    view: OrderView
    facts: SessionFacts
    digest: str
    promise: Promised | None
    revoked_at: int | None
    paused: bool
    disclosure: Disclosure | None
    receipts: tuple[DeviceReceipt, ...]
    corrections: tuple[Correction, ...]
    finality: int
    window: tuple[int, int] | None
    absent: dict[str, str]

    @property
    def order(self) -> Order:
        return self.view.order


def gather(
    settings: Settings, sources: Sources, account: int, key: tuple[int, int], state: State
) -> Evidence:
    """The evidence of an account's order, by its session and its position in the book. CheckFailed
    where there is no such order of that account."""
    first, position = key
    facts, filled = known_session(sources.key(first))
    posted = (
        None
        if facts is None
        else next((one for one in facts.book if one.position == position), None)
    )
    if facts is None or posted is None or posted.order.account != account:
        raise CheckFailed("you have no such order")
    if sources.chain_id is None or sources.market is None:
        raise CheckFailed("no market is known here")
    absent: dict[str, str] = {}

    def tried(name: str, ask: Callable[[], T]) -> T | None:
        try:
            return ask()
        except GridCommonsError as error:
            said = plain(error)
            absent[name] = "it cannot be read now" if str(settings.home) in said else said
            return None

    view = order_view(posted, facts, filled, state.tariffs, state.now)
    digest = digest_of(posted.order, sources.chain_id, sources.market)
    session = facts.session
    end = session.first_slot + session.slots
    data = OwnData.of(settings)
    relay = sources.relay
    promise = None
    if relay is None:
        absent["promise"] = "no relay is known here"
    else:
        promise = tried("promise", lambda: relay.promised(digest))
    disclosure = tried(
        "disclosure",
        lambda: data.disclose(account, range(first, end), with_records=True),
    )
    receipts = tried("receipts", lambda: _receipts(settings, account, first)) or ()
    if not receipts:
        absent.setdefault("receipts", "no receipt of your meter for this session is kept here")
    return Evidence(
        chain_id=sources.chain_id,
        zone=sources.zone,
        contracts=dict(settings.deployment or {}),
        account=account,
        now=state.now,
        view=view,
        facts=facts,
        digest=digest,
        promise=promise,
        revoked_at=_revoked_at(settings, posted.order),
        paused=_paused(settings, session.gate),
        disclosure=disclosure,
        receipts=receipts,
        corrections=tuple(corrections(sources.path, account, first, end)),
        finality=_finality(data, session.gate),
        window=tried("window", lambda: _window(data, sources.zone, first, session.slots)),
        absent=absent,
    )


def _receipts(settings: Settings, account: int, first_slot: int) -> tuple[DeviceReceipt, ...]:
    """What the home's own device signed for a session: one receipt, or two that differ."""
    from dao.relay.store import RelayStore

    path = settings.home / "relay.sqlite"
    if not path.exists():
        return ()
    store = RelayStore(path)
    try:
        for one in store.conflicts():
            if (one.meter, one.first_slot) == (account, first_slot):
                return one.receipts
        found = store.receipts(first_slot).get(account)
    finally:
        store.close()
    return () if found is None else (found,)


def _events(settings: Settings, name: str, **match: int) -> list[dict[str, Any]]:
    reader = EventReader(settings.home / "index.sqlite")
    return reader.events(name, match=match or None, limit=MAX_ROWS, newest_first=True)


def _revoked_at(settings: Settings, order: Order) -> int | None:
    if order.mandate:
        found = _events(settings, "MandateEnded", account=order.account, number=order.mandate)
    else:
        found = _events(settings, "NonceRevoked", account=order.account, nonce=order.nonce)
    return int(found[0]["timestamp"]) if found else None


def _paused(settings: Settings, gate: int) -> bool:
    return any(
        int(one["timestamp"]) <= gate < int(one["args"]["until"])
        for one in _events(settings, "Paused")
    )


def _finality(data: OwnData, gate: int) -> int:
    """The finality in force at a gate; the longest that there can be where nobody can tell."""
    try:
        parameters = data.addresses["GridParameters"]
        return data.node.view(parameters, "value_at(uint256,uint256)", _FINALITY.key, gate)[0]
    except (GridCommonsError, KeyError):
        return _FINALITY.maximum


def _window(data: OwnData, zone: int, first_slot: int, slots: int) -> tuple[int, int] | None:
    """When the batches of a session can be corrected: from the first opening to the last close."""
    from meters.lake.batches import batch_files

    files = batch_files(data.lake, zone, first_slot, slots)
    ledger = data.addresses["ReadingLedger"]
    found = [
        data.node.view(ledger, "correction_window(uint256,uint256)", zone, one.first_slot)
        for one in files
    ]
    if not found:
        return None
    return min(one[0] for one in found), max(one[1] for one in found)
