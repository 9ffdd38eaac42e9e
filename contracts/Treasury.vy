# pragma version ~=0.4.3
# @license AGPL-3.0-only
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Treasury
@notice The members' money, and a ledger of public spending that nobody can edit. Every payment
        names the proposal that decided it, its purpose and its payee, and is chained to all
        payments before it. Money leaves in four ways, each by a vote and inside a budget:

           pay        at once
           milestone  of a grant: promised and set aside first; paid by another vote,
                      or by anyone who shows what the meter has fed in
           recurring  so much a period, so many times; paid by anyone when it is due

@dev A purpose has editions of its budget. A new one takes effect where a period of the one in
     force ends, so the running period and all past ones stay as they were agreed:

         edition 1   |-- period 0 --|-- period 1 --|-- period 2 ..
                              ^ set_budget         | edition 2    |-- period 0 --|-- period 1 ..

     What is promised is charged to the period of the promise, and never again when it is paid.
     Tokens held = free + reserved, whatever happens.

     A meter's slot counts once: every meter has a bitmap of the slots that have counted, for any
     milestone of any grant. As evidence is public once it is sent, nobody may use it in another
     place than it was meant for: a meter serves one open grant at a time, and its milestones in
     their order; and a slot that has counted already is passed over.

     Words packed by hand:

         account     reserved:96 @160 | paid in total:96 @64 | number of payments:64 @0
         purpose     paid:96 @32 | editions:32 @0
         edition     amount:64 @120 | period:40 @80 | ends at:40 @40 | starts at:40 @0
         period      purpose:32 @64 | edition:32 @32 | number of the period:32 @0
         grant       milestones:8 @232 | made at:40 @192 | purpose:32 @160 | payee @0
         milestone   state:8 @240 | kind:8 @232 | meter:32 @200 | expires at:40 @160
                     | produced Wh:48 @112 | threshold Wh:48 @64 | amount:64 @0
         recurring   paid:16 @240 | count:16 @224 | period:32 @192 | purpose:32 @160 | payee @0
         schedule    ended:1 @104 | first at:40 @64 | amount:64 @0
"""

from ethereum.ercs import IERC20
from snekmate.auth import ownable
from interfaces import IGridGovernor
from interfaces import IMeterRegistry
from interfaces import IReadingLedger

initializes: ownable
exports: (ownable.owner, ownable.transfer_ownership)


# ---------------------------------------------------------------------------- #
#                                  INTERFACES                                  #
# ---------------------------------------------------------------------------- #

struct Batch:
    root: bytes32
    slots: uint256
    homes: uint256
    leaves: uint256


# The roots; what else is asked of the ledger is in `IReadingLedger`.
interface Roots:
    def batches(zone: uint256, first_slot: uint256) -> Batch: view


# ---------------------------------------------------------------------------- #
#                                   CONSTANTS                                  #
# ---------------------------------------------------------------------------- #

# What a payment was.
PAY: constant(uint256) = 0
VOTED_MILESTONE: constant(uint256) = 1
METERED_MILESTONE: constant(uint256) = 2
RECURRING: constant(uint256) = 3

# How a milestone is released.
BY_VOTE: constant(uint256) = 0
BY_EVIDENCE: constant(uint256) = 1

# What became of a milestone.
OPEN: constant(uint256) = 0
PAID: constant(uint256) = 1
LAPSED: constant(uint256) = 2
CANCELLED: constant(uint256) = 3

MAX_MILESTONES: constant(uint256) = 8
# About 15 years of monthly payments, and what one transaction can carry out with room to spare.
MAX_COUNT: public(constant(uint256)) = 180
# Shorter than a day a budget would bound nothing that votes do not.
MIN_PERIOD: public(constant(uint256)) = 86_400
MAX_PERIOD: public(constant(uint256)) = 366 * 86_400
# Fifteen years: a solar roof pays for itself within them, and nothing is promised for ever.
MAX_LIFE: public(constant(uint256)) = 15 * 366 * 86_400
# 18 trillion euro; sums of them fit 96 bits.
MAX_AMOUNT: public(constant(uint256)) = 2**64 - 1
MAX_PURPOSE: constant(uint256) = 2**32 - 1
MAX_METER: constant(uint256) = 2**32 - 1
# 281 TWh
MAX_WH: constant(uint256) = 2**48 - 1

# A day of one meter.
MAX_LEAVES: public(constant(uint256)) = 96
# A tree of 16 million leaves.
MAX_PATH: constant(uint256) = 24
# As in meters/leaves.py: an inner node hashes 64 bytes and a leaf 85, so neither can pass for
# the other.
LEAF_TAG: constant(bytes32) = keccak256("GridCommons reading leaf v1")
# The quality of a value that a meter measured.
MEASURED: constant(bytes1) = 0x01
# Stands for an unknown value, which is not zero.
NULL_WH: constant(uint256) = 2**32 - 1
SLOT_SECONDS: constant(uint256) = 900

MASK_8: constant(uint256) = 2**8 - 1
MASK_16: constant(uint256) = 2**16 - 1
MASK_32: constant(uint256) = 2**32 - 1
MASK_40: constant(uint256) = 2**40 - 1
MASK_48: constant(uint256) = 2**48 - 1
MASK_64: constant(uint256) = 2**64 - 1
MASK_96: constant(uint256) = 2**96 - 1
MASK_160: constant(uint256) = 2**160 - 1


# ---------------------------------------------------------------------------- #
#                                    EVENTS                                    #
# ---------------------------------------------------------------------------- #

struct Milestone:
    amount: uint256
    # 0 released by a vote, 1 by metered evidence
    kind: uint256
    # Which meter, and how many Wh it has to feed in; zeros where a vote releases
    meter: uint256
    threshold_wh: uint256
    # Unix time from which nothing is paid any more
    expires_at: uint256


event GovernorChanged:
    governor: indexed(address)


# The proposal is 0 where the owner acted without one, before the hand-over.
event BudgetSet:
    purpose: indexed(uint256)
    edition: indexed(uint256)
    proposal: indexed(uint256)
    name: String[64]
    amount: uint256
    period_seconds: uint256
    starts_at: uint256
    ends_at: uint256


# The ledger's entries, numbered from 1 without a gap. `source` is the grant or the recurring
# payment, 0 for a single one. `spending_hash` binds every field.
event Payment:
    number: indexed(uint256)
    proposal: indexed(uint256)
    payee: indexed(address)
    purpose: uint256
    amount: uint256
    kind: uint256
    source: uint256
    paid_at: uint256
    reference: String[128]


event GrantMade:
    grant_id: indexed(uint256)
    proposal: indexed(uint256)
    payee: indexed(address)
    purpose: uint256
    amount: uint256
    milestones: DynArray[Milestone, MAX_MILESTONES]
    reference: String[128]


# A milestone was paid (1), lapsed (2) or was cancelled (3).
event MilestoneClosed:
    grant_id: indexed(uint256)
    milestone: indexed(uint256)
    outcome: indexed(uint256)
    amount: uint256


event EvidenceCounted:
    grant_id: indexed(uint256)
    milestone: indexed(uint256)
    meter: indexed(uint256)
    slots: uint256
    wh: uint256
    produced_wh: uint256


event GrantCancelled:
    grant_id: indexed(uint256)
    proposal: indexed(uint256)


event RecurringMade:
    recurring_id: indexed(uint256)
    proposal: indexed(uint256)
    payee: indexed(address)
    purpose: uint256
    amount: uint256
    period_seconds: uint256
    count: uint256
    first_at: uint256
    reference: String[128]


event RecurringEnded:
    recurring_id: indexed(uint256)
    proposal: indexed(uint256)
    paid: uint256


# ---------------------------------------------------------------------------- #
#                                    STORAGE                                   #
# ---------------------------------------------------------------------------- #

struct Leaf:
    # The first slot of the batch that holds the slot
    batch: uint64
    slot: uint64
    import_wh: uint32
    export_wh: uint32
    salt: bytes32
    # The siblings from the leaf up to the root
    path: DynArray[bytes32, MAX_PATH]


struct Budget:
    name: String[64]
    edition: uint256
    amount: uint256
    period_seconds: uint256
    starts_at: uint256
    ends_at: uint256
    # Counted from 0 within the edition
    period: uint256
    # Paid or promised in this period
    spent: uint256


struct Grant:
    purpose: uint256
    payee: address
    proposal: uint256
    made_at: uint256
    milestones: uint256
    reference: String[128]


struct MilestoneState:
    amount: uint256
    kind: uint256
    meter: uint256
    threshold_wh: uint256
    expires_at: uint256
    produced_wh: uint256
    # 0 open, 1 paid, 2 lapsed, 3 cancelled
    state: uint256


struct Recurring:
    purpose: uint256
    payee: address
    proposal: uint256
    amount: uint256
    period_seconds: uint256
    count: uint256
    first_at: uint256
    paid: uint256
    ended: bool
    reference: String[128]


token: public(immutable(IERC20))
registry: public(immutable(IMeterRegistry))
ledger: public(immutable(address))

governor: public(IGridGovernor)
# The head of the chain over all payments
spending_hash: public(bytes32)
grant_count: public(uint256)
recurring_count: public(uint256)

_account: uint256
# What each proposal has decided, so that it decides it once
_decided: HashMap[bytes32, bool]

_names: HashMap[uint256, String[64]]
_purposes: HashMap[uint256, uint256]
# purpose -> number of the edition -> edition word
_editions: HashMap[uint256, HashMap[uint256, uint256]]
# period word -> paid or promised
_spent: HashMap[uint256, uint256]

_grants: HashMap[uint256, uint256]
_grant_proposals: HashMap[uint256, uint256]
# The period that a grant was charged to
_grant_periods: HashMap[uint256, uint256]
_grant_references: HashMap[uint256, String[128]]
_milestones: HashMap[uint256, uint256[MAX_MILESTONES]]
# meter -> grant << 8 | its open milestones for this meter
_serves: HashMap[uint256, uint256]
# meter -> slot // 256 -> one bit a slot
_counted: HashMap[uint256, HashMap[uint256, uint256]]

_recurring: HashMap[uint256, uint256]
_schedules: HashMap[uint256, uint256]
_recurring_proposals: HashMap[uint256, uint256]
_recurring_references: HashMap[uint256, String[128]]


# ---------------------------------------------------------------------------- #
#                                  CONSTRUCTOR                                 #
# ---------------------------------------------------------------------------- #

@deploy
def __init__(token_: address, registry_: address, ledger_: address):
    """
    @param token_ What is held and paid; an ERC-20.
    @param registry_ The `MeterRegistry` that knows the zone of a meter.
    @param ledger_ The `ReadingLedger` that evidence is checked against.
    """
    ownable.__init__()
    token = IERC20(token_)
    registry = IMeterRegistry(registry_)
    ledger = ledger_


# ---------------------------------------------------------------------------- #
#                                   EXTERNAL                                   #
# ---------------------------------------------------------------------------- #

@external
def set_governor(governor: address):
    """
    @notice Appoints the governor, whose executions payments belong to. Owner only.
    """
    ownable._check_owner()
    assert governor.is_contract, "treasury: governor is no contract"
    self.governor = IGridGovernor(governor)
    log GovernorChanged(governor=governor)


@external
def set_budget(
    purpose: uint256,
    name: String[64],
    amount: uint256,
    period_seconds: uint256,
    starts_at: uint256,
    ends_at: uint256,
):
    """
    @notice Sets the next edition of a purpose's budget. Owner only. It replaces one that has not
            begun; one that has begun goes on until the new one begins, at the end of one of its
            periods or after its own end.
    @param purpose From 1.
    @param name What the purpose is, the same for ever.
    @param amount At most so much is paid or promised in each period; 0 ends the spending.
    @param period_seconds A day to 366 days.
    @param starts_at Unix time from which the edition is in force; not in the past.
    @param ends_at Unix time from which it is not.
    """
    ownable._check_owner()
    assert purpose != 0 and purpose <= MAX_PURPOSE, "treasury: purpose out of range"
    assert amount <= MAX_AMOUNT, "treasury: amount out of range"
    assert (
        period_seconds >= MIN_PERIOD and period_seconds <= MAX_PERIOD
    ), "treasury: period out of range"
    assert starts_at >= block.timestamp, "treasury: budget begins in the past"
    assert ends_at > starts_at, "treasury: budget ends before it begins"
    assert ends_at <= block.timestamp + MAX_LIFE, "treasury: budget ends too late"
    word: uint256 = self._purposes[purpose]
    edition: uint256 = word & MASK_32
    if edition == 0:
        assert len(name) != 0, "treasury: purpose has no name"
        self._names[purpose] = name
    else:
        # A new name would tell another story about what was paid.
        assert (
            keccak256(self._names[purpose]) == keccak256(name)
        ), "treasury: a purpose keeps its name"
        if self._editions[purpose][edition] & MASK_40 > block.timestamp:
            edition -= 1
    if edition != 0:
        before: uint256 = self._editions[purpose][edition]
        # The period that begins this very second is running, and may have spent already.
        assert (
            starts_at >= (before >> 40) & MASK_40
            or (
                starts_at > block.timestamp
                and (starts_at - (before & MASK_40)) % ((before >> 80) & MASK_40) == 0
            )
        ), "treasury: budget begins within a period"
    edition += 1
    self._editions[purpose][edition] = (
        (amount << 120) | (period_seconds << 80) | (ends_at << 40) | starts_at
    )
    self._purposes[purpose] = (word & ~MASK_32) | edition
    proposal: uint256 = 0
    if self.governor.address != empty(address):
        proposal = staticcall self.governor.executing()
    log BudgetSet(
        purpose=purpose,
        edition=edition,
        proposal=proposal,
        name=name,
        amount=amount,
        period_seconds=period_seconds,
        starts_at=starts_at,
        ends_at=ends_at,
    )


@external
@nonreentrant
def pay(purpose: uint256, payee: address, amount: uint256, reference: String[128]):
    """
    @notice Pays at once, out of free money and the purpose's budget. Owner only, within a proposal.
    @param reference What for. A proposal pays the same to the same once: two payments that are
           alike have references that differ.
    """
    proposal: uint256 = self._proposal()
    self._check(payee, amount)
    self._decide(proposal, PAY, purpose, payee, amount, reference)
    self._charge(purpose, amount)
    assert self._free() >= amount, "treasury: not enough free money"
    self._pay(proposal, purpose, payee, amount, PAY, 0, reference)


@external
@nonreentrant
def grant(
    purpose: uint256,
    payee: address,
    milestones: DynArray[Milestone, MAX_MILESTONES],
    reference: String[128],
) -> uint256:
    """
    @notice Promises money by milestones, and sets it aside. The sum is charged to the budget now.
            Owner only, within a proposal.
    @return The grant's number, from 1.
    """
    proposal: uint256 = self._proposal()
    assert len(milestones) != 0, "treasury: grant has no milestone"
    id: uint256 = self.grant_count + 1
    self.grant_count = id
    total: uint256 = 0
    for i: uint256 in range(len(milestones), bound=MAX_MILESTONES):
        milestone: Milestone = milestones[i]
        self._check(payee, milestone.amount)
        assert (
            milestone.expires_at > block.timestamp
            and milestone.expires_at <= block.timestamp + MAX_LIFE
        ), "treasury: milestone's expiry out of range"
        if milestone.kind == BY_EVIDENCE:
            assert (
                milestone.threshold_wh != 0 and milestone.threshold_wh <= MAX_WH
            ), "treasury: threshold out of range"
            self._bind(milestone.meter, id)
        else:
            assert milestone.kind == BY_VOTE, "treasury: unknown kind of milestone"
            assert (
                milestone.meter == 0 and milestone.threshold_wh == 0
            ), "treasury: a vote measures nothing"
        self._milestones[id][i] = (
            (milestone.kind << 232)
            | (milestone.meter << 200)
            | (milestone.expires_at << 160)
            | (milestone.threshold_wh << 64)
            | milestone.amount
        )
        total += milestone.amount
    assert total <= MAX_AMOUNT, "treasury: amount out of range"
    # The kind of its first payment tells a grant from a single payment.
    self._decide(proposal, VOTED_MILESTONE, purpose, payee, total, reference)
    self._grant_periods[id] = self._charge(purpose, total)
    assert self._free() >= total, "treasury: not enough free money"
    self._account += total << 160
    self._grants[id] = (
        (len(milestones) << 232)
        | (block.timestamp << 192)
        | (purpose << 160)
        | convert(payee, uint256)
    )
    self._grant_proposals[id] = proposal
    self._grant_references[id] = reference
    log GrantMade(
        grant_id=id,
        proposal=proposal,
        payee=payee,
        purpose=purpose,
        amount=total,
        milestones=milestones,
        reference=reference,
    )
    return id


@external
@nonreentrant
def release(grant_id: uint256, milestone: uint256):
    """
    @notice Pays a milestone that a vote releases, under the proposal that does so. Owner only,
            within a proposal.
    """
    proposal: uint256 = self._proposal()
    word: uint256 = self._open(grant_id, milestone)
    assert (word >> 232) & MASK_8 == BY_VOTE, "treasury: milestone asks for evidence"
    self._fulfil(grant_id, milestone, word, proposal, VOTED_MILESTONE)


@external
@nonreentrant
def submit_evidence(
    grant_id: uint256, milestone: uint256, leaves: DynArray[Leaf, MAX_LEAVES]
):
    """
    @notice Anyone shows what the milestone's meter has fed in, slot by slot. Where it comes to the
            threshold the milestone is paid, under the proposal that made the grant; until then it
            adds up.
    @dev A leaf counts whose slot began after the grant was made, which the meter measured, and
         which lies under the final root of its batch in the ledger of the meter's zone. Whatever
         else is wrong with one, all of them are refused; a slot that has counted is passed over,
         so nobody can spoil a submission by sending part of it first. What comes after the
         threshold is reached is not looked at.
    """
    word: uint256 = self._open(grant_id, milestone)
    assert (word >> 232) & MASK_8 == BY_EVIDENCE, "treasury: milestone asks for a vote"
    meter: uint256 = (word >> 200) & MASK_32
    for i: uint256 in range(milestone, bound=MAX_MILESTONES):
        earlier: uint256 = self._milestones[grant_id][i]
        assert (
            earlier >> 240 != OPEN
            or (earlier >> 200) & MASK_32 != meter
            or (earlier >> 160) & MASK_40 <= block.timestamp
        ), "treasury: an earlier milestone of the meter is open"
    zone: uint256 = (staticcall registry.metering_point(meter))[1]
    made_at: uint256 = (self._grants[grant_id] >> 192) & MASK_40
    threshold: uint256 = (word >> 64) & MASK_48
    produced: uint256 = (word >> 112) & MASK_48
    before: uint256 = produced
    slots: uint256 = 0
    batch: Batch = empty(Batch)
    first_slot: uint256 = 0
    place: uint256 = max_value(uint256)
    bits: uint256 = 0
    for i: uint256 in range(len(leaves), bound=MAX_LEAVES):
        if produced >= threshold:
            break
        slot: uint256 = convert(leaves[i].slot, uint256)
        if slot >> 8 != place:
            if place != max_value(uint256):
                self._counted[meter][place] = bits
            place = slot >> 8
            bits = self._counted[meter][place]
        bit: uint256 = 1 << (slot & 255)
        if bits & bit != 0:
            continue
        assert slot * SLOT_SECONDS >= made_at, "treasury: slot before the grant"
        if batch.slots == 0 or convert(leaves[i].batch, uint256) != first_slot:
            first_slot = convert(leaves[i].batch, uint256)
            batch = self._final_batch(zone, first_slot)
        assert (
            slot >= first_slot and slot - first_slot < batch.slots
        ), "treasury: slot outside the batch"
        wh: uint256 = convert(leaves[i].export_wh, uint256)
        assert wh != NULL_WH, "treasury: slot has no reading"
        node: bytes32 = keccak256(
            concat(
                LEAF_TAG,
                convert(convert(meter, uint32), bytes4),
                convert(leaves[i].slot, bytes8),
                convert(leaves[i].import_wh, bytes4),
                convert(leaves[i].export_wh, bytes4),
                MEASURED,
                leaves[i].salt,
            )
        )
        for sibling: bytes32 in leaves[i].path:
            if convert(node, uint256) < convert(sibling, uint256):
                node = keccak256(concat(node, sibling))
            else:
                node = keccak256(concat(sibling, node))
        assert node == batch.root, "treasury: leaf is not under the root"
        bits |= bit
        slots += 1
        produced += wh
    assert slots != 0, "treasury: nothing new to count"
    self._counted[meter][place] = bits
    # Beyond the threshold nothing is owed, and the sum keeps its 48 bits.
    counted: uint256 = produced - before
    produced = min(produced, threshold)
    word = (word & ~(MASK_48 << 112)) | (produced << 112)
    self._milestones[grant_id][milestone] = word
    log EvidenceCounted(
        grant_id=grant_id,
        milestone=milestone,
        meter=meter,
        slots=slots,
        wh=counted,
        produced_wh=produced,
    )
    if produced == threshold:
        self._fulfil(
            grant_id, milestone, word, self._grant_proposals[grant_id], METERED_MILESTONE
        )


@external
@nonreentrant
def cancel_grant(grant_id: uint256):
    """
    @notice Takes back what a grant has not paid; the money is free again. Owner only, within a
            proposal.
    """
    proposal: uint256 = self._proposal()
    word: uint256 = self._grants[grant_id]
    assert word != 0, "treasury: unknown grant"
    open: uint256 = 0
    for i: uint256 in range(word >> 232, bound=MAX_MILESTONES):
        milestone: uint256 = self._milestones[grant_id][i]
        if milestone >> 240 == OPEN:
            open += 1
            self._free_again(grant_id, i, milestone, CANCELLED)
    assert open != 0, "treasury: nothing left to cancel"
    log GrantCancelled(grant_id=grant_id, proposal=proposal)


@external
@nonreentrant
def lapse(grant_id: uint256, milestone: uint256):
    """
    @notice Anyone closes a milestone that has expired; its money is free again.
    """
    word: uint256 = self._known_milestone(grant_id, milestone)
    assert word >> 240 == OPEN, "treasury: milestone is closed"
    assert (word >> 160) & MASK_40 <= block.timestamp, "treasury: milestone has not expired"
    self._free_again(grant_id, milestone, word, LAPSED)


@external
@nonreentrant
def recurring(
    purpose: uint256,
    payee: address,
    amount: uint256,
    period_seconds: uint256,
    count: uint256,
    first_at: uint256,
    reference: String[128],
) -> uint256:
    """
    @notice Agrees to pay an amount again and again, so many times. Each time it is charged to the
            budget of the period in which it is paid; nothing is set aside. Owner only, within a
            proposal.
    @param first_at Unix time at which the first payment is due; not in the past.
    @return The number of the recurring payment, from 1.
    """
    proposal: uint256 = self._proposal()
    self._check(payee, amount)
    # The budget itself is asked when something is due.
    assert self._purposes[purpose] != 0, "treasury: unknown purpose"
    assert (
        period_seconds >= MIN_PERIOD and period_seconds <= MAX_PERIOD
    ), "treasury: period out of range"
    assert count != 0 and count <= MAX_COUNT, "treasury: count out of range"
    assert first_at >= block.timestamp, "treasury: first payment lies in the past"
    assert (
        first_at + (count - 1) * period_seconds <= block.timestamp + MAX_LIFE
    ), "treasury: last payment is too far ahead"
    self._decide(proposal, RECURRING, purpose, payee, amount, reference)
    id: uint256 = self.recurring_count + 1
    self.recurring_count = id
    self._recurring[id] = (
        (count << 224) | (period_seconds << 192) | (purpose << 160) | convert(payee, uint256)
    )
    self._schedules[id] = (first_at << 64) | amount
    self._recurring_proposals[id] = proposal
    self._recurring_references[id] = reference
    log RecurringMade(
        recurring_id=id,
        proposal=proposal,
        payee=payee,
        purpose=purpose,
        amount=amount,
        period_seconds=period_seconds,
        count=count,
        first_at=first_at,
        reference=reference,
    )
    return id


@external
@nonreentrant
def pay_due(recurring_id: uint256) -> uint256:
    """
    @notice Anyone has paid out what is due, as far as the budget of this period and the free money
            reach. The rest stays due.
    @return How many payments were made; reverts where it would be none.
    """
    due: uint256 = self._due(recurring_id)
    assert due != 0, "treasury: nothing is due"
    word: uint256 = self._recurring[recurring_id]
    amount: uint256 = self._schedules[recurring_id] & MASK_64
    purpose: uint256 = (word >> 160) & MASK_32
    payee: address = convert(word & MASK_160, address)
    period: uint256 = 0
    left: uint256 = 0
    period, left = self._budget(purpose)
    count: uint256 = min(due, left // amount)
    assert count != 0, "treasury: over the budget"
    count = min(count, self._free() // amount)
    assert count != 0, "treasury: not enough free money"
    self._spent[period] += count * amount
    self._recurring[recurring_id] = word + (count << 240)
    proposal: uint256 = self._recurring_proposals[recurring_id]
    for _: uint256 in range(count, bound=MAX_COUNT):
        self._pay(
            proposal,
            purpose,
            payee,
            amount,
            RECURRING,
            recurring_id,
            self._recurring_references[recurring_id],
        )
    return count


@external
@nonreentrant
def end_recurring(recurring_id: uint256):
    """
    @notice Ends a recurring payment for good; what is due and not paid is not paid any more.
            Owner only, within a proposal.
    """
    proposal: uint256 = self._proposal()
    word: uint256 = self._recurring[recurring_id]
    assert word != 0, "treasury: unknown recurring payment"
    schedule: uint256 = self._schedules[recurring_id]
    assert schedule >> 104 == 0, "treasury: recurring payment has ended"
    self._schedules[recurring_id] = schedule | (1 << 104)
    log RecurringEnded(recurring_id=recurring_id, proposal=proposal, paid=word >> 240)


# ---------------------------------------------------------------------------- #
#                                     VIEW                                     #
# ---------------------------------------------------------------------------- #

@view
@external
def free() -> uint256:
    """
    @return What is held and not reserved.
    """
    return self._free()


@view
@external
def reserved() -> uint256:
    """
    @return What is promised to milestones that are still open.
    """
    return self._account >> 160


@view
@external
def total_paid() -> uint256:
    """
    @return The sum of all payments ever made.
    """
    return (self._account >> 64) & MASK_96


@view
@external
def payment_count() -> uint256:
    """
    @return The number of the last payment; they count from 1.
    """
    return self._account & MASK_64


@view
@external
def paid_to_purpose(purpose: uint256) -> uint256:
    """
    @return The sum of all payments ever made for the purpose.
    """
    return self._purposes[purpose] >> 32


@view
@external
def edition_count(purpose: uint256) -> uint256:
    """
    @return The number of the newest edition of the purpose's budget, begun or not; 0 for none.
    """
    return self._purposes[purpose] & MASK_32


@view
@external
def budget_of(purpose: uint256) -> Budget:
    """
    @return The edition in force and its running period; one numbered 0 where none is in force.
    """
    edition: uint256 = self._edition(purpose)
    if edition == 0:
        budget: Budget = empty(Budget)
        budget.name = self._names[purpose]
        return budget
    word: uint256 = self._editions[purpose][edition]
    return self._budget_in(
        purpose, edition, (block.timestamp - (word & MASK_40)) // ((word >> 80) & MASK_40)
    )


@view
@external
def budget_in(purpose: uint256, edition: uint256, period: uint256) -> Budget:
    """
    @return Any edition of a purpose's budget, and what was spent in one of its periods; reverts
            for an edition that there is not.
    """
    assert (
        edition != 0 and edition <= self._purposes[purpose] & MASK_32
    ), "treasury: unknown edition"
    assert period <= MASK_32, "treasury: period out of range"
    return self._budget_in(purpose, edition, period)


@view
@external
def grant_of(grant_id: uint256) -> Grant:
    """
    @return The grant; reverts for an unknown number.
    """
    word: uint256 = self._grants[grant_id]
    assert word != 0, "treasury: unknown grant"
    return Grant(
        purpose=(word >> 160) & MASK_32,
        payee=convert(word & MASK_160, address),
        proposal=self._grant_proposals[grant_id],
        made_at=(word >> 192) & MASK_40,
        milestones=word >> 232,
        reference=self._grant_references[grant_id],
    )


@view
@external
def milestone_of(grant_id: uint256, milestone: uint256) -> MilestoneState:
    """
    @return The milestone, counted from 0, and how far it is; reverts for one that there is not.
    """
    word: uint256 = self._known_milestone(grant_id, milestone)
    return MilestoneState(
        amount=word & MASK_64,
        kind=(word >> 232) & MASK_8,
        meter=(word >> 200) & MASK_32,
        threshold_wh=(word >> 64) & MASK_48,
        expires_at=(word >> 160) & MASK_40,
        produced_wh=(word >> 112) & MASK_48,
        state=word >> 240,
    )


@view
@external
def serves(meter: uint256) -> uint256:
    """
    @return The grant whose open milestones the meter's evidence goes to, or 0.
    """
    return self._serves[meter] >> 8


@view
@external
def has_counted(meter: uint256, slot: uint256) -> bool:
    """
    @return Whether the meter's slot was evidence for a milestone already.
    """
    return (self._counted[meter][slot >> 8] >> (slot & 255)) & 1 != 0


@view
@external
def recurring_of(recurring_id: uint256) -> Recurring:
    """
    @return The recurring payment; reverts for an unknown number.
    """
    word: uint256 = self._recurring[recurring_id]
    assert word != 0, "treasury: unknown recurring payment"
    schedule: uint256 = self._schedules[recurring_id]
    return Recurring(
        purpose=(word >> 160) & MASK_32,
        payee=convert(word & MASK_160, address),
        proposal=self._recurring_proposals[recurring_id],
        amount=schedule & MASK_64,
        period_seconds=(word >> 192) & MASK_32,
        count=(word >> 224) & MASK_16,
        first_at=(schedule >> 64) & MASK_40,
        paid=word >> 240,
        ended=schedule >> 104 != 0,
        reference=self._recurring_references[recurring_id],
    )


@view
@external
def due_of(recurring_id: uint256) -> uint256:
    """
    @return How many payments are due and not paid; reverts for an unknown number.
    """
    return self._due(recurring_id)


# ---------------------------------------------------------------------------- #
#                                   INTERNAL                                   #
# ---------------------------------------------------------------------------- #

@internal
def _proposal() -> uint256:
    """
    @return The proposal that is being executed. Reverts for anyone but the owner, and for the
            owner outside of an execution: no money moves that no proposal answers for.
    """
    ownable._check_owner()
    assert self.governor.address != empty(address), "treasury: no governor"
    proposal: uint256 = staticcall self.governor.executing()
    assert proposal != 0, "treasury: no proposal is being executed"
    return proposal


@view
@internal
def _check(payee: address, amount: uint256):
    assert payee != empty(address), "treasury: payee is the zero address"
    assert payee != self and payee != token.address, "treasury: payee cannot use the money"
    assert amount != 0 and amount <= MAX_AMOUNT, "treasury: amount out of range"


@internal
def _decide(
    proposal: uint256,
    kind: uint256,
    purpose: uint256,
    payee: address,
    amount: uint256,
    reference: String[128],
):
    """
    @dev The governor executes a proposal once. Here it cannot pay the same twice even if not.
    """
    decision: bytes32 = keccak256(
        abi_encode(proposal, kind, purpose, payee, amount, keccak256(reference))
    )
    assert not self._decided[decision], "treasury: proposal has decided that already"
    self._decided[decision] = True


@view
@internal
def _free() -> uint256:
    held: uint256 = staticcall token.balanceOf(self)
    promised: uint256 = self._account >> 160
    # A token that takes money away by itself must not stop the views.
    return held - promised if held > promised else 0


@view
@internal
def _edition(purpose: uint256) -> uint256:
    """
    @return The edition in force, or 0.
    """
    edition: uint256 = self._purposes[purpose] & MASK_32
    # At most the newest one has not begun.
    if edition != 0 and self._editions[purpose][edition] & MASK_40 > block.timestamp:
        edition -= 1
    if edition != 0 and (self._editions[purpose][edition] >> 40) & MASK_40 <= block.timestamp:
        return 0
    return edition


@view
@internal
def _budget(purpose: uint256) -> (uint256, uint256):
    """
    @return The word of the running period, and what is left in it.
    """
    edition: uint256 = self._edition(purpose)
    assert edition != 0, "treasury: no budget in force"
    word: uint256 = self._editions[purpose][edition]
    number: uint256 = (block.timestamp - (word & MASK_40)) // ((word >> 80) & MASK_40)
    period: uint256 = (purpose << 64) | (edition << 32) | number
    return period, (word >> 120) - self._spent[period]


@internal
def _charge(purpose: uint256, amount: uint256) -> uint256:
    """
    @return The word of the period that the amount is charged to.
    """
    period: uint256 = 0
    left: uint256 = 0
    period, left = self._budget(purpose)
    assert amount <= left, "treasury: over the budget"
    self._spent[period] += amount
    return period


@view
@internal
def _budget_in(purpose: uint256, edition: uint256, period: uint256) -> Budget:
    word: uint256 = self._editions[purpose][edition]
    return Budget(
        name=self._names[purpose],
        edition=edition,
        amount=word >> 120,
        period_seconds=(word >> 80) & MASK_40,
        starts_at=word & MASK_40,
        ends_at=(word >> 40) & MASK_40,
        period=period,
        spent=self._spent[(purpose << 64) | (edition << 32) | period],
    )


@internal
def _bind(meter: uint256, grant_id: uint256):
    """
    @dev One more open milestone of the grant waits for the meter.
    """
    assert meter <= MAX_METER, "treasury: unknown meter"
    assert (
        (staticcall registry.metering_point(meter))[0] != empty(address)
    ), "treasury: unknown meter"
    serves: uint256 = self._serves[meter]
    assert serves == 0 or serves >> 8 == grant_id, "treasury: meter serves another grant"
    self._serves[meter] = (grant_id << 8) | ((serves & MASK_8) + 1)


@view
@internal
def _known_milestone(grant_id: uint256, milestone: uint256) -> uint256:
    # An unknown grant has no milestones.
    assert milestone < self._grants[grant_id] >> 232, "treasury: unknown milestone"
    return self._milestones[grant_id][milestone]


@view
@internal
def _open(grant_id: uint256, milestone: uint256) -> uint256:
    """
    @return The word of a milestone that can still be paid.
    """
    word: uint256 = self._known_milestone(grant_id, milestone)
    assert word >> 240 == OPEN, "treasury: milestone is closed"
    assert (word >> 160) & MASK_40 > block.timestamp, "treasury: milestone has expired"
    return word


@internal
def _close(grant_id: uint256, milestone: uint256, word: uint256, outcome: uint256):
    """
    @dev The milestone is closed, its money no longer reserved, and its meter let go.
    """
    amount: uint256 = word & MASK_64
    self._milestones[grant_id][milestone] = word | (outcome << 240)
    self._account -= amount << 160
    if (word >> 232) & MASK_8 == BY_EVIDENCE:
        meter: uint256 = (word >> 200) & MASK_32
        serves: uint256 = self._serves[meter]
        # The last open milestone lets the meter go.
        self._serves[meter] = serves - 1 if serves & MASK_8 != 1 else 0
    log MilestoneClosed(
        grant_id=grant_id, milestone=milestone, outcome=outcome, amount=amount
    )


@internal
def _free_again(grant_id: uint256, milestone: uint256, word: uint256, outcome: uint256):
    self._close(grant_id, milestone, word, outcome)
    # The period of the promise gets it back: if it is over, nothing can be charged to it.
    self._spent[self._grant_periods[grant_id]] -= word & MASK_64


@internal
def _fulfil(
    grant_id: uint256, milestone: uint256, word: uint256, proposal: uint256, kind: uint256
):
    self._close(grant_id, milestone, word, PAID)
    terms: uint256 = self._grants[grant_id]
    self._pay(
        proposal,
        (terms >> 160) & MASK_32,
        convert(terms & MASK_160, address),
        word & MASK_64,
        kind,
        grant_id,
        self._grant_references[grant_id],
    )


@view
@internal
def _final_batch(zone: uint256, first_slot: uint256) -> Batch:
    """
    @return The newest version of a batch that can be corrected no more.
    """
    batch: Batch = staticcall Roots(ledger).batches(zone, first_slot)
    assert batch.slots != 0, "treasury: no such batch"
    closes: uint256 = (staticcall IReadingLedger(ledger).correction_window(zone, first_slot))[1]
    assert block.timestamp >= closes, "treasury: batch is not final"
    return batch


@view
@internal
def _due(recurring_id: uint256) -> uint256:
    word: uint256 = self._recurring[recurring_id]
    assert word != 0, "treasury: unknown recurring payment"
    schedule: uint256 = self._schedules[recurring_id]
    first_at: uint256 = (schedule >> 64) & MASK_40
    if schedule >> 104 != 0 or block.timestamp < first_at:
        return 0
    due: uint256 = (block.timestamp - first_at) // ((word >> 192) & MASK_32) + 1
    return min(due, (word >> 224) & MASK_16) - (word >> 240)


@internal
def _pay(
    proposal: uint256,
    purpose: uint256,
    payee: address,
    amount: uint256,
    kind: uint256,
    source: uint256,
    reference: String[128],
):
    """
    @dev The one place where money leaves. It is charged and no longer reserved when it comes here;
         the entry is written before the token is called, and every external function that writes
         is locked, so a token that calls back finds nothing half done.
    """
    account: uint256 = self._account
    number: uint256 = (account & MASK_64) + 1
    # Neither sum outgrows 96 bits while amounts have 64 and there are fewer than 2**32 of them.
    self._account = account + (amount << 64) + 1
    self._purposes[purpose] += amount << 32
    self.spending_hash = keccak256(
        abi_encode(
            self.spending_hash,
            number,
            proposal,
            purpose,
            payee,
            amount,
            kind,
            source,
            block.timestamp,
            keccak256(reference),
        )
    )
    log Payment(
        number=number,
        proposal=proposal,
        payee=payee,
        purpose=purpose,
        amount=amount,
        kind=kind,
        source=source,
        paid_at=block.timestamp,
        reference=reference,
    )
    here: uint256 = staticcall token.balanceOf(self)
    there: uint256 = staticcall token.balanceOf(payee)
    assert extcall token.transfer(
        payee, amount, default_return_value=True
    ), "treasury: transfer failed"
    # What the entry says is what was paid: no less arrives, and no more leaves.
    assert (
        staticcall token.balanceOf(payee) >= there + amount
        and staticcall token.balanceOf(self) + amount >= here
    ), "treasury: token took a fee"
