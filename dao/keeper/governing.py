# SPDX-License-Identifier: Apache-2.0
"""The keeper's duties for the DAO: members, votes, forecasts and payments that are due.

As `duties` does for the market: each is a plain function that reads from the chain what is due, and
believes nothing that it remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain

from dao import forecasts, governance, membership, treasury
from dao.chain import Contract, Receipt
from dao.governance import State
from dao.keeper.context import (
    Action,
    Context,
    OpenAnnouncement,
    OpenDispute,
    OpenForecast,
    OpenPayment,
    OpenProposal,
)
from dao.keeper.steps import Task, carry, planned
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY


def complete_announcements(context: Context, now: int) -> list[Action]:
    """Admit and remove the members whose announcement is due."""
    contract = context.deployment["Membership"]

    def plan(found: OpenAnnouncement) -> Iterable[Task]:
        announced = found.announcement

        def do(sent: list[Receipt]) -> str:
            asked = context.asked_first("Membership", sent)
            membership.complete(asked, [announced.meter], context.account)
            return "removed" if announced.removal else "admitted"

        if announced.effective_at <= now:
            yield Task(
                found.about,
                do,
                announced,
                lambda: membership.announcement(contract, announced.meter),
                seen=announced,
            )

    return carry(
        context,
        now,
        "member",
        planned(chain(context.announcements.open(), context.removals.open()), plan),
    )


def execute_proposals(context: Context, now: int) -> list[Action]:
    """Queue what passed, and execute it when its delay is over."""

    def plan(found: OpenProposal) -> Iterable[Task]:
        governor = context.deployment["GridGovernor"]
        proposal = found.proposal

        def queue(sent: list[Receipt]) -> str:
            governance.queue(context.asked_first("GridGovernor", sent), proposal, context.account)
            return "queued"

        def execute(sent: list[Receipt]) -> str:
            governance.execute(context.asked_first("GridGovernor", sent), proposal, context.account)
            return "executed"

        do = None
        if found.state is State.SUCCEEDED:
            do = queue
        elif found.state is State.QUEUED and governor.call("proposalEta", proposal.id) <= now:
            do = execute
        if do is not None:
            yield Task(
                found.about,
                do,
                found.state,
                lambda: governance.state(governor, proposal),
                seen=found.state,
            )

    return carry(context, now, "vote", planned(context.proposals.open(), plan))


def release_bonds(context: Context, now: int) -> list[Action]:
    """Free the bonds of proposals whose vote is over; those that were vetoed are forfeited."""
    governor = context.deployment["GridGovernor"]

    def plan(found: OpenProposal) -> Iterable[Task]:
        def bond() -> int:
            return int(governor.call("proposalBond", found.proposal.id))

        def do(sent: list[Receipt]) -> str:
            asked = context.asked_first("GridGovernor", sent)
            receipt = asked.transact("releaseBond", found.proposal.id, sender=context.account)
            forfeited = any(event.name == "BondForfeited" for event in receipt.events)
            return f"{found.bond / 1e6:,.2f} € {'forfeited' if forfeited else 'free again'}"

        if found.bond and found.state not in (State.PENDING, State.ACTIVE):
            yield Task(found.about, do, found.bond, bond)

    return carry(context, now, "bond", planned(context.proposals.open(), plan))


def score_forecasts(context: Context, now: int) -> list[Action]:
    """Have the contract score the revealed forecasts of days whose totals are final."""

    def plan(found: OpenForecast) -> Iterable[Task]:
        end_slot = found.first_slot + SLOTS_PER_DAY

        def do(sent: list[Receipt]) -> str:
            registry = context.asked_first("ForecastRegistry", sent)
            registry.transact("score", *found.place, list(found.words), sender=context.account)
            return "scored"

        if final_at(context, found) <= now and context.metered(found.zone, end_slot):
            yield _forecast_task(context, found, do)

    return carry(context, now, "score", planned(context.revealed.open(), plan))


def report_missed(context: Context, now: int) -> list[Action]:
    """Report forecasts that were committed and never revealed: hiding one must not pay."""

    def plan(found: OpenForecast) -> Iterable[Task]:
        def do(sent: list[Receipt]) -> str:
            registry = context.asked_first("ForecastRegistry", sent)
            registry.transact("miss", *found.place, sender=context.account)
            return "never revealed"

        # Until its totals are final a forecast may be revealed.
        if final_at(context, found) <= now:
            yield _forecast_task(context, found, do)

    return carry(context, now, "miss", planned(context.commitments.open(), plan))


def close_disputes(context: Context, now: int) -> list[Action]:
    """Free the bonds that disputes hold which no vote has decided in time."""
    registry = context.deployment["ForecastRegistry"]

    def plan(found: OpenDispute) -> Iterable[Task]:
        def look() -> str:
            return forecasts.dispute_of(registry, found.number).state

        def do(sent: list[Receipt]) -> str:
            asked = context.asked_first("ForecastRegistry", sent)
            asked.transact("close_dispute", found.number, sender=context.account)
            return "not decided in time"

        if found.opened_at + forecasts.DISPUTE_LAPSE <= now:
            yield Task(found.about, do, "open", look)

    return carry(context, now, "dispute", planned(context.disputes.open(), plan))


def pay_recurring(context: Context, now: int) -> list[Action]:
    """Have the treasury pay what is due of payments that were decided to recur."""
    contract = context.deployment["Treasury"]

    def plan(found: OpenPayment) -> Iterable[Task]:
        def look() -> int:
            return treasury.recurring(contract, found.number).paid

        def do(sent: list[Receipt]) -> str:
            asked = context.asked_first("Treasury", sent)
            made = treasury.pay_due(asked, found.number, context.account)
            return f"{sum(one.amount for one in made) / 1e6:,.2f} € paid"

        if found.due_at <= now:
            paid = look()
            # Short of money or budget it waits for better times.
            yield Task(found.about, do, paid, look, seen=paid, patient=True)

    return carry(context, now, "payment", planned(context.payments.open(), plan))


def final_at(context: Context, found: OpenForecast) -> int:
    """When the totals of the forecast's day are final, unix seconds."""
    end = (found.first_slot + SLOTS_PER_DAY) * SLOT_SECONDS
    return end + context.rule_at("finality", found.committed_at)


def forecast_status(registry: Contract, place: tuple[str, int, int]) -> int:
    """0 none, 1 committed, 2 revealed; what is more is final."""
    return int(registry.call("forecast_of", *place)[0])


def _forecast_task(
    context: Context, found: OpenForecast, do: Callable[[list[Receipt]], str]
) -> Task:
    registry = context.deployment["ForecastRegistry"]
    before = forecast_status(registry, found.place)
    return Task(found.about, do, before, lambda: forecast_status(registry, found.place))
