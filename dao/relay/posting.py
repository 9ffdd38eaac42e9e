# SPDX-License-Identifier: Apache-2.0
"""Keeping the promises: what waits is posted in batches, and what became of it is read back.

The chain is the truth and the store follows it: before anything is posted, the session's events say
what was posted already, by whomever. So a crash at any point leaves nothing posted twice or lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dao.chain import Account, Chain, Contract, ContractReverted
from dao.errors import BadUse
from dao.market import session as market_session
from dao.market.session import Rejection
from dao.relay import promise
from dao.relay.store import Fate, OpenSession, RelayStore, State, StoredOrder

# A batch that the contract refuses as a whole is halved to find the order it refuses. Eight
# refusals find one among a hundred; where it takes more, the reason lies elsewhere.
_MOST_REFUSALS = 8
# As EnergyMarket takes them in one call, signatures included.
_MOST_WORDS = 2_048
# Blocks that a reorganisation may bring an order's posting forward by.
_REORGANISED = 64
# A session is cleared, or can be void, six hours after its gate at the latest.
_CLEARING_WATCHED = 48 * 3_600


@dataclass(frozen=True)
class Pace:
    """When the relay posts. A promise allows for `margin`, and is not given after `last_call`.

    interval: seconds that an order waits for others to share its batch; batch: orders that are
    posted at once, without waiting longer; margin: seconds before the gate from which on whatever
    comes is posted at once; last_call: seconds before the gate from which on no order is taken.
    """

    interval: int = 30
    batch: int = 100
    margin: int = 300
    last_call: int = 120


@dataclass
class Report:
    """What one round did: orders by what became of them, and what went wrong.

    busy: another process is posting; in_flight: a transaction of the relay is not mined yet.
    """

    accepted: int = 0
    rejected: int = 0
    withdrawn: int = 0
    late: int = 0
    busy: bool = False
    in_flight: bool = False
    errors: list[str] = field(default_factory=list)

    def count(self, fates: Sequence[Fate]) -> None:
        """Add orders to the round's figures."""
        for fate in fates:
            if fate.state in (State.ACCEPTED, State.REJECTED, State.WITHDRAWN, State.LATE):
                setattr(self, fate.state, getattr(self, fate.state) + 1)


def post_due(
    store: RelayStore,
    market: Contract,
    relay_account: Account,
    zone: int,
    now: int,
    pace: Pace = Pace(),
    *,
    flush: bool = False,
    first_block: int = 0,
) -> Report:
    """Post what is due, one batch a session, and write down what became of every order.

    now: unix seconds, the chain's. flush: post all that waits, due or not. first_block: of the
    deployment. Safe to call from several processes and after a crash; a session that cannot be
    posted is reported and does not hold up the others. Raises CheckFailed for an unreachable node.
    """
    report = Report()
    with store.posting() as alone:
        if not alone:
            report.busy = True
            return report
        for session in store.sessions(zone):
            if session.closed:
                continue
            fates = follow(store, market, relay_account, zone, session, now, first_block)
            report.count(fates)
            if now >= session.gate:
                if not _waiting(store, zone, session):
                    store.close_session(zone, session.first_slot)
                continue
            waiting = _waiting(store, zone, session)
            if not waiting or not (flush or _is_due(waiting, session, now, pace)):
                continue
            # Close to the gate it is tried all the same: the transaction takes the place of the one
            # under way, which has the same number, so that only one of the two can be mined.
            if now < session.gate - pace.margin and in_flight(market.chain, relay_account):
                report.in_flight = True
                continue
            for part in _batches(waiting, pace.batch):
                report.errors += _post(store, market, relay_account, zone, session, part, now)
            report.count(follow(store, market, relay_account, zone, session, now, first_block))
    return report


def follow(
    store: RelayStore,
    market: Contract,
    relay_account: Account,
    zone: int,
    session: OpenSession,
    now: int,
    first_block: int = 0,
) -> list[Fate]:
    """Bring a session's orders in line with the chain, and return those that moved.

    What the chain shows was accepted or turned away there; what it shows no longer, after a
    reorganisation, waits again. What its owner took back, or a pause makes void, is withdrawn. What
    else the chain does not show once the gate is past is late: a promise broken.
    """
    orders = store.of_session(
        zone,
        session.first_slot,
        (State.RECEIVED, State.POSTED, State.ACCEPTED, State.REJECTED, State.WITHDRAWN),
    )
    if not orders:
        return []
    # In this order: a transaction that is mined in between shows up in the events.
    flying = in_flight(market.chain, relay_account)
    received = {stored.id: stored.received_block for stored in orders}
    since = max(first_block, min(received.values()) - _REORGANISED)
    shown: dict[bytes, promise.Posting] = {}
    for one in promise.postings(market, zone, session.first_slot, since):
        if one.id not in received:
            continue
        # Accepted once is accepted, whoever posts it again. Turned away counts from its receipt
        # here on: before, somebody else may have tried it too early.
        if one.rejection is None or (one.id not in shown and one.block > received[one.id]):
            shown[one.id] = one
    missing = [
        stored.order
        for stored in orders
        if stored.id not in shown and stored.state is not State.WITHDRAWN
    ]
    back = promise.taken_back(market, missing, since)
    paused = bool(missing) and gate_in_pause(market, session.gate)
    times: dict[int, int] = {}
    fates = []
    for stored in orders:
        posted = shown.get(stored.id)
        # Taken back here, and yet on the chain, by whomever else: the chain is the truth.
        if stored.state is State.WITHDRAWN and (posted is None or posted.rejection is not None):
            continue
        if posted is not None:
            if posted.block not in times:
                times[posted.block] = promise.block_time(market.chain, posted.block)
            fate = Fate(
                stored.id,
                State.ACCEPTED if posted.rejection is None else State.REJECTED,
                None if posted.rejection is None else reason_text(posted.rejection),
                times[posted.block],
                posted.block,
            )
        elif back.get(stored.order, -1) > stored.received_block:
            why = "its mandate was ended" if stored.order.mandate else "revoked by its owner"
            fate = Fate(stored.id, State.WITHDRAWN, why)
        elif paused:
            fate = Fate(stored.id, State.WITHDRAWN, "the market is paused at the gate")
        elif now >= session.gate and not flying:
            fate = Fate(stored.id, State.LATE, "not posted before the gate")
        elif stored.state is State.POSTED and flying:
            continue
        else:
            fate = Fate(stored.id, State.RECEIVED)
        if (fate.state, fate.posted_block) != (stored.state, stored.posted_block):
            fates.append(fate)
    store.settle_fates(fates, now)
    return fates


def follow_clearing(store: RelayStore, market: Contract, zone: int, now: int) -> None:
    """Tell the feed of each session here that has been cleared, or is void."""
    for session in store.sessions(zone):
        if session.cleared or not session.gate <= now < session.gate + _CLEARING_WATCHED:
            continue
        state = market_session.read_session(market, zone, session.first_slot)
        if state.void or 0 < state.slots == state.cleared:
            store.mark_cleared(zone, session.first_slot, now, void=state.void)


def reason_text(rejection: Rejection) -> str:
    """Why the contract turned an order away, in the words of docs/market.md."""
    return rejection.name.lower().replace("_", " ")


def gate_in_pause(market: Contract, gate: int) -> bool:
    """Whether the market is paused at a gate, as far as is known now: the session is then void."""
    _, since, until = market.call("guard")
    return bool(since <= gate < until)


def in_flight(chain: Chain, account: Account) -> bool:
    """Whether a transaction of the account is sent and not mined yet."""
    mined, known = (
        int(chain.rpc("eth_getTransactionCount", account.address, tag), 16)
        for tag in ("latest", "pending")
    )
    return known > mined


def _waiting(store: RelayStore, zone: int, session: OpenSession) -> list[StoredOrder]:
    return store.of_session(zone, session.first_slot, (State.RECEIVED, State.POSTED))


def _batches(orders: Sequence[StoredOrder], most: int) -> list[list[StoredOrder]]:
    """Runs of at most so many orders, each no longer than the contract takes."""
    found: list[list[StoredOrder]] = [[]]
    words = 0
    for stored in orders:
        _, _, batch = market_session.pack_batch([stored.signed])
        if found[-1] and (len(found[-1]) == most or words + len(batch) > _MOST_WORDS):
            found.append([])
            words = 0
        found[-1].append(stored)
        words += len(batch)
    return found


def _is_due(waiting: Sequence[StoredOrder], session: OpenSession, now: int, pace: Pace) -> bool:
    return (
        len(waiting) >= pace.batch
        or now >= waiting[0].received_at + pace.interval
        or now >= session.gate - pace.margin
    )


def _post(
    store: RelayStore,
    market: Contract,
    relay_account: Account,
    zone: int,
    session: OpenSession,
    orders: Sequence[StoredOrder],
    now: int,
) -> list[str]:
    """Post orders in one batch, or where the contract refuses it, in halves around what it
    refuses. Returns the refusals that remain; their orders wait on."""
    errors: list[str] = []
    refusals = 0
    parts = [list(orders)]
    while parts:
        # What its owner took back since it was read does not go out.
        part = store.claim(parts.pop(0), now)
        if not part:
            continue
        try:
            market_session.post(
                market,
                zone,
                session.first_slot,
                [stored.signed for stored in part],
                relay_account,
            )
        except (ContractReverted, BadUse) as error:
            refusals += 1
            if len(part) == 1 or refusals > _MOST_REFUSALS:
                errors.append(f"session {session.first_slot}, {len(part)} orders: {error}")
            else:
                middle = len(part) // 2
                parts[:0] = [part[:middle], part[middle:]]
    return errors
