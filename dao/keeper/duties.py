# SPDX-License-Identifier: Apache-2.0
"""The keeper's duties for the market, and all of its duties in order: what is due, step by step.

Each duty is a plain function of context and time that returns what it did. It reads what is due
from the chain and believes nothing that it remembers, so it may run twice, beside another keeper,
or after a crash anywhere. When the duties run is the loop's business, how a failure is kept apart
that of `steps`; what a step means is known to `dao.market`, `dao.governance` and the contracts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from dao.chain import ContractReverted, Receipt
from dao.errors import CheckFailed
from dao.keeper.context import Action, Context, Duty, Session
from dao.keeper.governing import (
    close_disputes,
    complete_announcements,
    execute_proposals,
    pay_recurring,
    release_bonds,
    report_missed,
    score_forecasts,
)
from dao.keeper.receipts import (
    Contradiction,
    Receipts,
    as_registry_takes,
    is_signed_by,
    receipt_deadline,
    receipts_of,
)
from dao.keeper.sending import TooLarge, allows, in_runs
from dao.keeper.steps import Task, carry, planned
from dao.market import session as market_session
from dao.market.orders import ASK
from dao.market.session import DeviceReceipt, PostedBook
from dao.parameters import HOUR
from dao.slots import SLOT_SECONDS

if TYPE_CHECKING:
    from dao.relay.store import RelayStore

LODGE_LEAD = HOUR
"""A receipt is lodged so long before its deadline, where the session is not settled by then."""
STRANGERS_PATIENCE = HOUR
"""A keeper without a source of receipts leaves a late session to those who may have them."""


# The market


def void_sessions(context: Context, now: int) -> list[Action]:
    """Void what was not cleared in time, or has its gate in a pause of the market.

    Whether a session can still be cleared is the contract's word. It is asked for those past their
    gate, and while the market is paused for all, so that their money comes back at once.
    """
    _, _, paused_until = context.market.call("guard")

    def plan(session: Session) -> Iterable[Task]:
        def do(sent: list[Receipt]) -> str:
            market = context.asked_first("EnergyMarket", sent)
            market.transact("void", *session.place, sender=context.account)
            return f"{session.state.slots - session.state.cleared} slots were not cleared"

        if session.can_clear(max(now, paused_until)) and allows(
            context.market, "void", *session.place, sender=context.account
        ):
            yield _session_task(context, session, do)

    return carry(context, now, "void", planned(context.sessions.open(), plan))


def clear_sessions(context: Context, now: int) -> list[Action]:
    """Clear what is past its gate, in runs of slots where a transaction does not hold them all."""

    def plan(session: Session) -> Iterable[Task]:
        def do(sent: list[Receipt]) -> str:
            auction = context.asked_first("UniformPriceAuction", sent)
            parameters = context.deployment["GridParameters"]
            book = read_book(context, session)
            in_runs(
                session.state.slots,
                lambda slots: market_session.clear(
                    auction,
                    context.market,
                    parameters,
                    session.zone,
                    book,
                    context.account,
                    slots=slots,
                ),
            )
            return f"{session.state.orders} orders"

        if session.can_clear(now):
            yield _session_task(context, session, do)

    return carry(context, now, "clear", planned(context.sessions.open(), plan))


def settle_sessions(context: Context, now: int) -> list[Action]:
    """Settle what was delivered, and give back what is void.

    Whether a session can settle is the contract's word. It is asked when something has changed that
    the answer depends on: the end of delivery, the commit of readings, another receipt, the
    deadline. After the receipt deadline a session settles without the receipts that are missing.
    """

    def plan(session: Session) -> Iterable[Task]:
        if session.is_cleared or session.state.void:
            task = _settle_task(context, session, now)
            if task is not None:
                yield task

    return carry(context, now, "settle", planned(context.sessions.open(), plan))


def abandon_sessions(context: Context, now: int) -> list[Action]:
    """Abandon what was cleared, whose time is over, and what the contract refuses to settle; and
    give its escrow back."""

    def plan(session: Session) -> Iterable[Task]:
        def do(sent: list[Receipt]) -> str:
            try:
                settle(sent)
                return "settled after all"
            except (ContractReverted, TooLarge) as refused:
                reason = str(refused)
            market = context.asked_first("EnergyMarket", sent)
            market.transact("abandon", *session.place, sender=context.account)
            settle(sent)
            return reason

        def settle(sent: list[Receipt]) -> None:
            _settle(context, session, receipts_of(context, session), sent)

        if (
            session.is_cleared
            and session.end < now
            and allows(context.market, "abandon", *session.place, sender=context.account)
        ):
            yield _session_task(context, session, do)

    return carry(context, now, "abandon", planned(context.sessions.open(), plan))


def lodge_receipts(context: Context, now: int) -> list[Action]:
    """Put the receipts of filled sellers on record, where a session is not settled an hour before
    its receipt deadline.

    It protects from the others: who settles after the deadline without a seller's receipt makes
    that seller pay, and cannot once it is lodged. Earlier it would only cost gas: the session may
    still settle in time.
    """

    def plan(session: Session) -> Iterable[Task]:
        if not context.lodges or not session.is_cleared or now < session.end:
            return
        if now < receipt_deadline(context, session) - LODGE_LEAD:
            return
        held = receipts_of(context, session)
        missing = held.usable.keys() - held.lodged
        if missing:
            sellers = filled_sellers(context, session, read_book(context, session))
            for meter in sorted(missing & sellers):
                yield _lodge_task(context, session, held.usable[meter])

    return carry(context, now, "lodge", planned(context.sessions.open(), plan))


def report_conflicts(context: Context, now: int) -> list[Action]:
    """Show the registry two different receipts of one device for one session: its key ends.

    Before settling, so that nobody is paid by either of them.
    """
    registry = context.deployment["MeterRegistry"]

    def plan(found: Contradiction) -> Iterable[Task]:
        one, other = found.receipts
        slots = zip(one.exports, other.exports, strict=False)
        differing = [i for i, (wh, other_wh) in enumerate(slots) if wh != other_wh]
        ends = [(found.first_slot + len(r.exports)) * SLOT_SECONDS for r in found.receipts]
        if not differing or max(ends) > now:
            return

        def look() -> list[str]:
            return [str(registry.call("device_at", found.meter, end - 1)) for end in ends]

        def do(sent: list[Receipt]) -> str:
            context.asked_first("MeterRegistry", sent).transact(
                "report_conflict",
                found.meter,
                context.market.address,
                found.first_slot + differing[0],
                *(as_registry_takes(found.first_slot, receipt) for receipt in found.receipts),
                sender=context.account,
            )
            return "two different receipts; the device's key has ended"

        devices = look()
        if all(
            is_signed_by(context, found.first_slot, receipt, device)
            for receipt, device in zip(found.receipts, devices, strict=True)
        ):
            yield Task(found.about, do, devices, look)

    def plan_session(session: Session) -> Iterable[Task]:
        if session.is_cleared and session.end <= now:
            for pair in receipts_of(context, session).conflicting:
                yield from plan(Contradiction(pair[0].meter, session.first_slot, pair))

    met = [
        Contradiction(meter, first_slot, (receipts[0], receipts[1]))
        for meter, first_slot, receipts in context.conflicts()
    ]
    tasks = chain(planned(met, plan), planned(context.sessions.open(), plan_session))
    return carry(context, now, "conflict", tasks)


def collect_fees(context: Context, now: int) -> list[Action]:
    """Send the grid fees to the treasury once they are worth the gas."""

    def look() -> int:
        return int(context.market.call("fees_due"))

    def do(sent: list[Receipt]) -> str:
        market = context.asked_first("EnergyMarket", sent)
        market.transact("collect_fees", sender=context.account)
        return f"{fees / 1e6:,.2f} € to the treasury"

    fees = look()
    tasks = [Task({}, do, fees, look)] if fees > context.collect_above else []
    return carry(context, now, "fees", tasks)


# What a relay has promised


def post_orders(store: RelayStore, zone: int) -> Duty:
    """The duty of posting a zone's orders from a relay's file before their gate."""

    def duty(context: Context, now: int) -> list[Action]:
        from dao.relay.posting import post_due

        def do(sent: list[Receipt]) -> str:
            report = post_due(
                store,
                context.asked_first("EnergyMarket", sent),
                context.account,
                zone,
                now,
                first_block=context.deployment.first_block,
            )
            broken = [f"{report.late} orders came too late"] if report.late else []
            if report.errors or broken:
                raise CheckFailed("; ".join([*report.errors, *broken]))
            return f"{report.accepted} orders accepted, {report.rejected} turned away"

        # Asked at every look: orders come in meanwhile, and the gate does not wait.
        return carry(context, now, "post", [Task({"zone": zone}, do, None, lambda: None, seen=now)])

    return duty


DUTIES: tuple[Duty, ...] = (
    void_sessions,
    clear_sessions,
    report_conflicts,
    settle_sessions,
    abandon_sessions,
    lodge_receipts,
    collect_fees,
    complete_announcements,
    execute_proposals,
    release_bonds,
    score_forecasts,
    report_missed,
    close_disputes,
    pay_recurring,
)
"""In the order in which one may make the next due."""


# What the duties read


def read_book(context: Context, session: Session) -> PostedBook:
    """The session's book, as the chain took it in."""
    return market_session.read_book(context.market, *session.place)


def filled_sellers(context: Context, session: Session, book: PostedBook) -> set[int]:
    """The meters that sold something in the session's cleared slots."""
    state = session.state
    if not state.cleared:  # its terms may not stand yet
        return set()
    terms = market_session.read_terms(
        context.deployment["GridParameters"], *session.place, state.slots, state.gate
    )
    orders = book.orders
    fills = market_session.solve(orders, state.slots, terms).fills[:, : state.cleared]
    return {
        order.account
        for order, sold in zip(orders, fills.any(axis=1), strict=True)
        if order.side == ASK and sold
    }


# The steps


def _session_task(
    context: Context, session: Session, do: Callable[[list[Receipt]], str], **more: Any
) -> Task:
    return Task(
        session.about,
        do,
        session.state,
        lambda: market_session.read_session(context.market, *session.place),
        **{"seen": session.state, **more},
    )


def _settle_task(context: Context, session: Session, now: int) -> Task | None:
    """None while the session is to be left to others."""
    receipts, metered, overdue = Receipts(), False, False
    delivered = session.is_cleared and session.end <= now
    if delivered:
        receipts = receipts_of(context, session)
        metered = context.metered(session.zone, session.first_slot + session.state.slots)
        deadline = receipt_deadline(context, session)
        overdue = now > deadline
        if overdue and now <= deadline + STRANGERS_PATIENCE and context.receipts is None:
            return None

    def do(sent: list[Receipt]) -> str:
        try:
            _settle(context, session, receipts, sent)
        except ContractReverted as refused:
            if sent or not metered or overdue:
                raise
            sellers = filled_sellers(context, session, read_book(context, session))
            missing = sorted(sellers - receipts.usable.keys())
            raise ContractReverted("settlement", f"{refused.reason} ({_meters(missing)})") from None
        return f"{_meters(receipts.foreign)}: not the device's receipt" if receipts.foreign else ""

    return _session_task(
        context,
        session,
        do,
        seen=(session.state, delivered, metered, overdue, frozenset(receipts.usable)),
        patient=session.is_cleared and not (metered and overdue),
    )


def _settle(context: Context, session: Session, receipts: Receipts, sent: list[Receipt]) -> None:
    """With the receipts of those who sold something: every other one would only cost gas."""
    auction = context.asked_first("UniformPriceAuction", sent)
    book = read_book(context, session)
    sellers = filled_sellers(context, session, book) & receipts.usable.keys()
    needed = {meter: receipts.usable[meter] for meter in sellers}
    in_runs(
        session.state.slots,
        lambda slots: market_session.settle(
            auction, context.market, session.zone, book, needed, context.account, slots=slots
        ),
    )


def _lodge_task(context: Context, session: Session, receipt: DeviceReceipt) -> Task:
    def do(sent: list[Receipt]) -> str:
        auction = context.asked_first("UniformPriceAuction", sent)
        market_session.lodge(auction, *session.place, receipt, context.account)
        return ""

    return Task(
        {**session.about, "meter": receipt.meter},
        do,
        False,
        lambda: bool(context.auction.call("lodged", receipt.meter, session.first_slot)),
    )


def _meters(numbers: Sequence[int]) -> str:
    """Some meters by number, however many there are."""
    shown = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
    return f"meter{'s' if len(numbers) != 1 else ''} {shown}"
