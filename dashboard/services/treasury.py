# SPDX-License-Identifier: Apache-2.0
"""The treasury as it stands: budgets, grants, what is paid again and again, every payment, and
whether these are all of them. Pure, from the chain's events; money in µ€, times in unix seconds.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from dao.audit.scope import EventRow
from dao.eip712 import word
from dao.errors import CheckFailed
from dao.governance.describe import plain_text
from dao.treasury import Kind, Milestone, MilestoneState, Outcome, Payment, next_hash
from dao.treasury import verify_payments as verify
from dashboard.repositories.house import House, Purse, Votes
from dashboard.services.decided import Decisions

CONTRACT = "Treasury"
_BY_EVIDENCE = 1


class Verdict(Enum):
    """Whether the payments are those that the contract has made its chain of hashes of."""

    FITS = "fits"
    DIFFERS = "differs"
    UNKNOWN = "unknown"


class When(Enum):
    """Where a budget's edition stands."""

    COMING = "coming"
    RUNNING = "running"
    OVER = "over"


@dataclass(frozen=True)
class BudgetView:
    """The newest edition of a purpose's budget that has begun, or one that is still to come.

    spent: paid or promised in its running period, which is [period_begins, period_ends).
    """

    purpose: int
    name: str
    edition: int
    amount: int
    period_seconds: int
    starts_at: int
    ends_at: int
    when: When
    period_begins: int
    period_ends: int
    spent: int
    proposal: int


@dataclass(frozen=True)
class GrantView:
    """Money promised by milestones."""

    id: int
    purpose: int
    payee: str
    amount: int
    proposal: int
    made_at: int
    reference: str
    milestones: tuple[MilestoneState, ...]
    tx: str

    @property
    def paid(self) -> int:
        """Of the milestones that were reached."""
        return sum(one.milestone.amount for one in self.milestones if one.outcome is Outcome.PAID)


@dataclass(frozen=True)
class RecurringView:
    """An amount that is paid `count` times, `period_seconds` apart. due: of these now."""

    id: int
    purpose: int
    payee: str
    amount: int
    period_seconds: int
    count: int
    first_at: int
    paid: int
    due: int
    ended: bool
    reference: str
    proposal: int

    @property
    def next_at(self) -> int | None:
        """When the next payment is due; None where none is left."""
        if self.ended or self.paid >= self.count:
            return None
        return self.first_at + self.paid * self.period_seconds


@dataclass(frozen=True)
class Paid:
    """A payment and the transaction that made it."""

    payment: Payment
    tx: str
    block: int


@dataclass(frozen=True)
class Forfeit:
    """A proposer's bond that went to the treasury."""

    at: int
    account: str
    amount: int
    proposal: int
    tx: str


@dataclass(frozen=True)
class Ledger:
    """All of it. purse: what the contract says, None where no node could be asked.

    slashed: what forecasters lost of their bonds; it pays rewards and does not come here.
    """

    purse: Purse | None
    names: Mapping[int, str]
    budgets: tuple[BudgetView, ...]
    grants: tuple[GrantView, ...]
    recurring: tuple[RecurringView, ...]
    payments: tuple[Paid, ...]
    verdict: Verdict
    fees: int
    forfeits: tuple[Forfeit, ...]
    slashed: int
    slashes: int

    @property
    def paid(self) -> int:
        """The sum of all payments."""
        return sum(one.payment.amount for one in self.payments)

    @property
    def forfeited(self) -> int:
        """The sum of the forfeited bonds."""
        return sum(one.amount for one in self.forfeits)

    @property
    def otherwise(self) -> int | None:
        """What came in and was neither a fee nor a bond; None where no node tells the balance."""
        if self.purse is None or not self.purse.same_block:
            return None
        held = self.purse.free + self.purse.reserved
        return held + self.purse.total_paid - self.fees - self.forfeited


def ledger(
    house: House,
    *,
    purse: Purse | None,
    treasury: str | None,
    now: int,
) -> Ledger:
    """The ledger at `now`. treasury: the contract's address, whose fees count."""
    budgets = house.of(CONTRACT, "BudgetSet")
    payments = tuple(
        Paid(Payment(**{**row.args, "kind": Kind(row.args["kind"])}), row.tx, row.block)
        for row in house.of(CONTRACT, "Payment")
    )
    grants = _grants(house)
    slashes = house.of("ForecastRegistry", "BondSlashed")
    own = (treasury or "").lower()
    return Ledger(
        purse=purse,
        names={row.args["purpose"]: plain_text(row.args["name"]) for row in budgets},
        budgets=_budgets(house, payments, grants, now),
        grants=grants,
        recurring=_recurring(house, payments, now),
        payments=payments,
        verdict=_verdict(payments, purse, whole=(CONTRACT, "Payment") not in house.cut),
        fees=sum(
            row.args["amount"]
            for row in house.of("EnergyMarket", "FeesCollected")
            if row.args["treasury"].lower() == own
        ),
        forfeits=tuple(
            Forfeit(
                row.timestamp,
                row.args["account"],
                row.args["amount"],
                row.args["proposalId"],
                row.tx,
            )
            for row in house.of("GridGovernor", "BondForfeited")
        ),
        slashed=sum(row.args["amount"] for row in slashes),
        slashes=len(slashes),
    )


def _verdict(payments: Sequence[Paid], purse: Purse | None, *, whole: bool) -> Verdict:
    if purse is None or not whole:
        return Verdict.UNKNOWN
    if not purse.same_block and purse.payments != len(payments):
        return Verdict.UNKNOWN  # the node is ahead
    try:
        verify([one.payment for one in payments], purse.spending_hash, purse.total_paid)
    except CheckFailed:
        return Verdict.DIFFERS
    return Verdict.FITS


# Budgets


@dataclass(frozen=True)
class _Edition:
    amount: int
    period_seconds: int
    starts_at: int
    ends_at: int


def _editions(rows: Sequence[EventRow]) -> dict[int, dict[int, _Edition]]:
    """By purpose and number; one that had not begun was replaced under its own number."""
    found: dict[int, dict[int, _Edition]] = {}
    for row in rows:
        args = row.args
        found.setdefault(args["purpose"], {})[args["edition"]] = _Edition(
            args["amount"], args["period_seconds"], args["starts_at"], args["ends_at"]
        )
    return found


def _in_force(editions: Mapping[int, _Edition], when: int) -> int:
    """The number of the edition that was in force, 0 for none."""
    begun = [number for number, one in editions.items() if one.starts_at <= when]
    number = max(begun, default=0)
    return number if number and when < editions[number].ends_at else 0


def _budgets(
    house: House, payments: Sequence[Paid], grants: Sequence[GrantView], now: int
) -> tuple[BudgetView, ...]:
    rows = house.of(CONTRACT, "BudgetSet")
    editions = _editions(rows)
    spent = _spent(editions, payments, grants)
    last = {(row.args["purpose"], row.args["edition"]): row for row in rows}
    found = []
    for (purpose, number), row in last.items():
        one = editions[purpose][number]
        newest_begun = max(
            (n for n, other in editions[purpose].items() if other.starts_at <= now), default=0
        )
        if one.starts_at > now:
            when = When.COMING
        elif number != newest_begun:
            continue
        else:
            when = When.RUNNING if now < one.ends_at else When.OVER
        at = min(max(now, one.starts_at), one.ends_at - 1)
        period = (at - one.starts_at) // one.period_seconds
        begins = one.starts_at + period * one.period_seconds
        found.append(
            BudgetView(
                purpose=purpose,
                name=plain_text(row.args["name"]),
                edition=number,
                amount=one.amount,
                period_seconds=one.period_seconds,
                starts_at=one.starts_at,
                ends_at=one.ends_at,
                when=when,
                period_begins=begins,
                period_ends=min(begins + one.period_seconds, one.ends_at),
                spent=spent[purpose, number, period],
                proposal=row.args["proposal"],
            )
        )
    return tuple(sorted(found, key=lambda one: (one.purpose, one.edition)))


def _spent(
    editions: Mapping[int, Mapping[int, _Edition]],
    payments: Sequence[Paid],
    grants: Sequence[GrantView],
) -> Counter[tuple[int, int, int]]:
    """What each period of each edition was charged: a grant counts when it is made, whole, and
    what of it is never paid is given back to that period."""
    charges = [
        (one.payment.purpose, one.payment.paid_at, one.payment.amount)
        for one in payments
        if one.payment.kind in (Kind.SINGLE, Kind.RECURRING)
    ]
    for grant in grants:
        kept = sum(
            one.milestone.amount
            for one in grant.milestones
            if one.outcome in (Outcome.OPEN, Outcome.PAID)
        )
        charges.append((grant.purpose, grant.made_at, kept))
    spent: Counter[tuple[int, int, int]] = Counter()
    for purpose, when, amount in charges:
        number = _in_force(editions.get(purpose, {}), when)
        if number:
            one = editions[purpose][number]
            spent[purpose, number, (when - one.starts_at) // one.period_seconds] += amount
    return spent


# Grants, and what is paid again and again


def _grants(house: House) -> tuple[GrantView, ...]:
    closed = {
        (row.args["grant_id"], row.args["milestone"]): Outcome(row.args["outcome"])
        for row in house.of(CONTRACT, "MilestoneClosed")
    }
    produced = {
        (row.args["grant_id"], row.args["milestone"]): row.args["produced_wh"]
        for row in house.of(CONTRACT, "EvidenceCounted")
    }
    found = []
    for row in house.of(CONTRACT, "GrantMade"):
        args, number = row.args, row.args["grant_id"]
        milestones = []
        for index, terms in enumerate(args["milestones"]):
            amount, kind, meter, threshold_wh, expires_at = terms
            milestones.append(
                MilestoneState(
                    Milestone(
                        amount=amount,
                        expires_at=expires_at,
                        meter=meter if kind == _BY_EVIDENCE else None,
                        threshold_wh=threshold_wh,
                    ),
                    produced_wh=produced.get((number, index), 0),
                    outcome=closed.get((number, index), Outcome.OPEN),
                )
            )
        found.append(
            GrantView(
                id=number,
                purpose=args["purpose"],
                payee=args["payee"],
                amount=args["amount"],
                proposal=args["proposal"],
                made_at=row.timestamp,
                reference=plain_text(args["reference"]),
                milestones=tuple(milestones),
                tx=row.tx,
            )
        )
    return tuple(found)


def _recurring(house: House, payments: Sequence[Paid], now: int) -> tuple[RecurringView, ...]:
    made = Counter(one.payment.source for one in payments if one.payment.kind is Kind.RECURRING)
    ended = {row.args["recurring_id"] for row in house.of(CONTRACT, "RecurringEnded")}
    found = []
    for row in house.of(CONTRACT, "RecurringMade"):
        args, number = row.args, row.args["recurring_id"]
        paid, due = made[number], 0
        if number not in ended and now >= args["first_at"]:
            passed = (now - args["first_at"]) // args["period_seconds"] + 1
            due = max(0, min(passed, args["count"]) - paid)
        found.append(
            RecurringView(
                id=number,
                purpose=args["purpose"],
                payee=args["payee"],
                amount=args["amount"],
                period_seconds=args["period_seconds"],
                count=args["count"],
                first_at=args["first_at"],
                paid=paid,
                due=due,
                ended=number in ended,
                reference=plain_text(args["reference"]),
                proposal=args["proposal"],
            )
        )
    return tuple(found)


# CSV: English names that never change, whole numbers

COLUMNS = (
    "number",
    "paid_at",
    "paid_at_utc",
    "purpose",
    "purpose_name",
    "payee",
    "micro_euro",
    "kind",
    "source",
    "reference",
    "proposal",
    "proposal_title",
    "votes_for",
    "votes_against",
    "votes_abstain",
    "transaction",
    "block",
    "chain_hash",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(one: Ledger, decisions: Decisions, votes: Mapping[int, Votes]) -> str:
    """Every payment, the oldest first, with the head of the hash chain after it.

    What people wrote begins with an apostrophe where a spreadsheet would take it for a formula.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    head = bytes(32)
    # Without the first payments nobody knows what the chain was when the others were added.
    whole = not one.payments or one.payments[0].payment.number == 1
    for paid in one.payments:
        payment = paid.payment
        head = next_hash(head, payment)
        cast = votes.get(payment.proposal, Votes())
        writer.writerow(
            (
                payment.number,
                payment.paid_at,
                f"{datetime.fromtimestamp(payment.paid_at, UTC):%Y-%m-%dT%H:%M:%SZ}",
                payment.purpose,
                _cell(one.names.get(payment.purpose, "")),
                payment.payee,
                payment.amount,
                payment.kind.name.lower(),
                payment.source or "",
                _cell(plain_text(payment.reference)),
                "0x" + word(payment.proposal).hex(),
                _cell(decisions.title(payment.proposal)),
                cast.favour,
                cast.against,
                cast.abstain,
                paid.tx,
                paid.block,
                "0x" + head.hex() if whole else "",
            )
        )
    return out.getvalue()


def _cell(text: str) -> str:
    flat = " ".join(text.split("\n"))
    return f"'{flat}" if flat.lstrip(" ").startswith(_FORMULA) else flat
