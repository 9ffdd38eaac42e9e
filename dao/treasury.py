# SPDX-License-Identifier: Apache-2.0
"""Public money as Python objects: calls for proposals, evidence from meters, the list of payments.

Who decides is `dao.governance`; readings, salts and paths come from a batch of `meters`, as plain
data. A list of payments is only handed out after it was checked against the chain of hashes that
the contract keeps, so a node that leaves one out, or changes one, is found out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from dao.chain import Account, Contract, Event, Receipt
from dao.eip712 import address_word, keccak, word
from dao.errors import BadUse, CheckFailed
from dao.governance import Call
from dao.leaves import NULL_WH, leaf_of, root_above

MAX_LEAVES = 96
"""Leaves of one submission; more are sent in several."""
MAX_MILESTONES = 8
MAX_PATH = 24
MAX_NAME = 64
"""Bytes of a purpose's name."""
MAX_REFERENCE = 128
"""Bytes of a payment's reference."""

_MEASURED = 1


class Kind(IntEnum):
    """What a payment was."""

    SINGLE = 0
    VOTED_MILESTONE = 1
    METERED_MILESTONE = 2
    RECURRING = 3


class Outcome(IntEnum):
    """What became of a milestone."""

    OPEN = 0
    PAID = 1
    LAPSED = 2
    CANCELLED = 3


@dataclass(frozen=True)
class Milestone:
    """A part of a grant: released by a vote, or by `threshold_wh` that `meter` has fed in."""

    amount: int
    """Token base units, micro euro."""
    expires_at: int
    """Unix seconds from which nothing is paid any more."""
    meter: int | None = None
    threshold_wh: int = 0

    def terms(self) -> tuple[int, int, int, int, int]:
        """As the contract takes it. BadUse for a meter without a threshold, or the reverse."""
        if (self.meter is None) != (self.threshold_wh == 0):
            raise BadUse(
                "a metered milestone names a meter and how many Wh it has to feed in; one that a "
                "vote releases names neither"
            )
        metered = self.meter is not None
        return self.amount, int(metered), self.meter or 0, self.threshold_wh, self.expires_at


@dataclass(frozen=True)
class MilestoneState:
    """A milestone as it stands."""

    milestone: Milestone
    produced_wh: int
    outcome: Outcome


@dataclass(frozen=True)
class Grant:
    """Money promised by milestones, under the proposal that made the promise."""

    id: int
    purpose: int
    payee: str
    proposal: int
    made_at: int
    reference: str
    milestones: tuple[MilestoneState, ...]


@dataclass(frozen=True)
class Recurring:
    """An amount that is paid so many times, `period_seconds` apart, from `first_at` on."""

    id: int
    purpose: int
    payee: str
    proposal: int
    amount: int
    period_seconds: int
    count: int
    first_at: int
    paid: int
    ended: bool
    reference: str
    due: int
    """Payments that are due and not made."""


@dataclass(frozen=True)
class Budget:
    """The edition of a purpose's budget that is in force, and its running period."""

    purpose: int
    name: str
    edition: int
    amount: int
    period_seconds: int
    starts_at: int
    ends_at: int
    period: int
    spent: int
    """Paid or promised in this period."""


@dataclass(frozen=True)
class Accounts:
    """What the treasury holds and has paid, in token base units."""

    free: int
    reserved: int
    total_paid: int
    payments: int


@dataclass(frozen=True)
class Payment:
    """One entry of the ledger of public spending; `number` counts from 1 without a gap."""

    number: int
    proposal: int
    purpose: int
    payee: str
    amount: int
    kind: Kind
    source: int
    """The grant or the recurring payment; 0 for a single one."""
    paid_at: int
    reference: str


@dataclass(frozen=True)
class MeteredSlot:
    """What one slot's leaf says, and where it stands. To show it makes these values public."""

    batch: int
    """The first slot of the batch that holds the slot."""
    slot: int
    import_wh: int | None
    export_wh: int
    salt: bytes
    path: tuple[bytes, ...]
    """The siblings from the leaf up to the root."""


# Calls for proposals


def budget_call(
    treasury: Contract,
    purpose: int,
    name: str,
    amount: int,
    period_seconds: int,
    starts_at: int,
    ends_at: int,
) -> Call:
    """Set a purpose's next budget: so much in each period, between two unix times.

    The name stays for ever. Where a budget is in force, the next one starts at the end of one of
    its periods (`next_edge`) or after its end.
    """
    _fits("a purpose's name", name, MAX_NAME)
    return _call(treasury, "set_budget", purpose, name, amount, period_seconds, starts_at, ends_at)


def pay_call(treasury: Contract, purpose: int, payee: str, amount: int, reference: str) -> Call:
    """Pay at once. Two payments of one proposal that are alike need different references."""
    _fits("a reference", reference, MAX_REFERENCE)
    return _call(treasury, "pay", purpose, payee, amount, reference)


def grant_call(
    treasury: Contract, purpose: int, payee: str, milestones: Sequence[Milestone], reference: str
) -> Call:
    """Promise money by up to eight milestones, and set it aside."""
    _fits("a reference", reference, MAX_REFERENCE)
    if not 0 < len(milestones) <= MAX_MILESTONES:
        raise BadUse(f"a grant has 1 to {MAX_MILESTONES} milestones, not {len(milestones)}")
    return _call(treasury, "grant", purpose, payee, [one.terms() for one in milestones], reference)


def release_call(treasury: Contract, grant_id: int, milestone: int) -> Call:
    """Pay a milestone that a vote releases."""
    return _call(treasury, "release", grant_id, milestone)


def cancel_call(treasury: Contract, grant_id: int) -> Call:
    """Take back what a grant has not paid."""
    return _call(treasury, "cancel_grant", grant_id)


def recurring_call(
    treasury: Contract,
    purpose: int,
    payee: str,
    amount: int,
    period_seconds: int,
    count: int,
    first_at: int,
    reference: str,
) -> Call:
    """Agree to pay an amount `count` times. Each is charged to the budget when it is paid."""
    _fits("a reference", reference, MAX_REFERENCE)
    return _call(
        treasury,
        "recurring",
        purpose,
        payee,
        amount,
        period_seconds,
        count,
        first_at,
        reference,
    )


def end_recurring_call(treasury: Contract, recurring_id: int) -> Call:
    """End a recurring payment; what is due and not paid is not paid any more."""
    return _call(treasury, "end_recurring", recurring_id)


def _call(treasury: Contract, function: str, *args: Any) -> Call:
    return Call(treasury.address, treasury.encode(function, *args))


def _fits(what: str, text: str, limit: int) -> None:
    size = len(text.encode())
    if size > limit:
        raise BadUse(f"{what} has at most {limit} bytes, not {size}")


# What anyone may do


def lapse(treasury: Contract, grant_id: int, milestone: int, sender: Account) -> Receipt:
    """Close a milestone that has expired; its money is free again."""
    return treasury.transact("lapse", grant_id, milestone, sender=sender)


def pay_due(treasury: Contract, recurring_id: int, sender: Account) -> list[Payment]:
    """Have paid out what is due, as far as budget and free money reach."""
    receipt = treasury.transact("pay_due", recurring_id, sender=sender)
    return [_payment(event) for event in receipt.events if event.name == "Payment"]


def evidence_leaf(meter: int, slot: MeteredSlot) -> bytes:
    """The leaf that the contract makes of a slot: what was measured, nothing else."""
    imported = NULL_WH if slot.import_wh is None else slot.import_wh
    if not (0 <= slot.export_wh < NULL_WH and 0 <= imported <= NULL_WH):
        raise BadUse(f"slot {slot.slot} of meter {meter}: Wh must fit 32 bits, and not be null")
    if len(slot.salt) != 32 or len(slot.path) > MAX_PATH:
        raise BadUse(
            f"slot {slot.slot} of meter {meter}: a salt has 32 bytes, and a path up to "
            f"{MAX_PATH} of 32"
        )
    return leaf_of(meter, slot.slot, imported, slot.export_wh, _MEASURED, slot.salt)


def check_evidence(ledger: Contract, zone: int, meter: int, slots: Sequence[MeteredSlot]) -> int:
    """The Wh that the slots come to, each found under the final root of its batch.

    What the contract would ask, before anything is sent or made public. CheckFailed names the
    first slot that would not count: no batch, not final yet, another value, twice.
    """
    now = ledger.chain.now()
    roots: dict[int, tuple[bytes, int]] = {}
    seen: set[int] = set()
    for one in slots:
        where = f"slot {one.slot} of meter {meter}"
        if one.batch not in roots:
            batch = ledger.call("batches", zone, one.batch)
            if not batch["slots"]:
                raise CheckFailed(f"{where}: zone {zone} has no batch that begins at {one.batch}")
            _, closes = ledger.call("correction_window", zone, one.batch)
            if now < closes:
                raise CheckFailed(f"{where}: its batch is final from {closes} on, it is {now}")
            roots[one.batch] = batch["root"], batch["slots"]
        root, length = roots[one.batch]
        if not one.batch <= one.slot < one.batch + length:
            raise CheckFailed(f"{where}: not in the batch that begins at {one.batch}")
        if one.slot in seen:
            raise CheckFailed(f"{where}: given twice")
        if root_above(evidence_leaf(meter, one), one.path) != root:
            raise CheckFailed(
                f"{where}: not what was committed; other values, another quality than measured, "
                "another salt, or a path of another batch"
            )
        seen.add(one.slot)
    return sum(one.export_wh for one in slots)


def submit_evidence(
    treasury: Contract,
    grant_id: int,
    milestone: int,
    slots: Sequence[MeteredSlot],
    sender: Account,
) -> list[Receipt]:
    """Show what a meter has fed in, in as few transactions as it takes; stops once it is enough.

    Makes the slots' readings public. Raises ContractReverted with the contract's reason.
    """
    receipts: list[Receipt] = []
    for start in range(0, len(slots), MAX_LEAVES):
        leaves = [
            (
                one.batch,
                one.slot,
                NULL_WH if one.import_wh is None else one.import_wh,
                one.export_wh,
                one.salt,
                list(one.path),
            )
            for one in slots[start : start + MAX_LEAVES]
        ]
        receipt = treasury.transact("submit_evidence", grant_id, milestone, leaves, sender=sender)
        receipts.append(receipt)
        if any(event.name == "Payment" for event in receipt.events):
            break
    return receipts


# Reading


def accounts(treasury: Contract, block: int | str = "latest") -> Accounts:
    """What is held and was paid, at a block."""
    return Accounts(
        *(
            int(treasury.call(view, block=block))
            for view in ("free", "reserved", "total_paid", "payment_count")
        )
    )


def budget(treasury: Contract, purpose: int, block: int | str = "latest") -> Budget | None:
    """The budget in force, or None."""
    found = treasury.call("budget_of", purpose, block=block)
    return Budget(purpose=purpose, **found) if found["edition"] else None


def budgets(treasury: Contract, first_block: int = 0) -> list[Budget]:
    """All budgets in force at the latest block, by purpose."""
    block = treasury.chain.block_number()
    purposes = sorted(
        {int(event.args["purpose"]) for event in treasury.events("BudgetSet", first_block, block)}
    )
    found = [budget(treasury, purpose, block) for purpose in purposes]
    return [one for one in found if one is not None]


def next_edge(current: Budget, now: int) -> int:
    """When the running period of a budget ends: the first time at which the next one may start."""
    periods = (now - current.starts_at) // current.period_seconds + 1
    return min(current.starts_at + periods * current.period_seconds, current.ends_at)


def grant(treasury: Contract, grant_id: int, block: int | str = "latest") -> Grant:
    """A grant with its milestones. ContractReverted for an unknown number."""
    found = treasury.call("grant_of", grant_id, block=block)
    count = found.pop("milestones")
    milestones = []
    for index in range(count):
        one = treasury.call("milestone_of", grant_id, index, block=block)
        milestones.append(
            MilestoneState(
                Milestone(
                    amount=one["amount"],
                    expires_at=one["expires_at"],
                    meter=one["meter"] if one["kind"] else None,
                    threshold_wh=one["threshold_wh"],
                ),
                produced_wh=one["produced_wh"],
                outcome=Outcome(one["state"]),
            )
        )
    return Grant(id=grant_id, milestones=tuple(milestones), **found)


def grants(treasury: Contract) -> list[Grant]:
    """All grants ever made, at the latest block."""
    block = treasury.chain.block_number()
    count = int(treasury.call("grant_count", block=block))
    return [grant(treasury, number, block) for number in range(1, count + 1)]


def recurring(treasury: Contract, recurring_id: int, block: int | str = "latest") -> Recurring:
    """A recurring payment and what is due. ContractReverted for an unknown number."""
    return Recurring(
        id=recurring_id,
        due=int(treasury.call("due_of", recurring_id, block=block)),
        **treasury.call("recurring_of", recurring_id, block=block),
    )


def all_recurring(treasury: Contract) -> list[Recurring]:
    """All recurring payments ever agreed to, ended or not, at the latest block."""
    block = treasury.chain.block_number()
    count = int(treasury.call("recurring_count", block=block))
    return [recurring(treasury, number, block) for number in range(1, count + 1)]


def payments(treasury: Contract, first_block: int = 0) -> list[Payment]:
    """Every payment ever made, in order, checked against the contract.

    first_block: that of the deployment saves a public node the search before it.
    Raises CheckFailed where the events are not those that the contract's hash was made of.
    """
    block = treasury.chain.block_number()
    found = [_payment(event) for event in treasury.events("Payment", first_block, block)]
    verify_payments(
        found,
        bytes(treasury.call("spending_hash", block=block)),
        int(treasury.call("total_paid", block=block)),
    )
    return found


def verify_payments(found: Sequence[Payment], spending_hash: bytes, total_paid: int) -> None:
    """That these are all payments, unaltered: numbers without a gap, and the contract's hash."""
    head = bytes(32)
    for number, payment in enumerate(found, 1):
        if payment.number != number:
            raise CheckFailed(
                f"payment {number} is missing; the next one found is {payment.number}"
            )
        head = next_hash(head, payment)
    if head != spending_hash:
        raise CheckFailed(
            f"the {len(found)} payments found are not those on chain: their hash is "
            f"0x{head.hex()}, the contract's is 0x{spending_hash.hex()}"
        )
    total = sum(payment.amount for payment in found)
    if total != total_paid:
        raise CheckFailed(f"the payments come to {total}, the contract has paid {total_paid}")


def next_hash(head: bytes, payment: Payment) -> bytes:
    """The head of the chain after a payment; 32 zero bytes stand before the first."""
    return keccak(
        head
        + word(payment.number)
        + word(payment.proposal)
        + word(payment.purpose)
        + address_word(payment.payee)
        + word(payment.amount)
        + word(payment.kind)
        + word(payment.source)
        + word(payment.paid_at)
        + keccak(payment.reference.encode())
    )


def _payment(event: Event) -> Payment:
    return Payment(**{**event.args, "kind": Kind(event.args["kind"])})
