# pragma version ~=0.4.3
# @license AGPL-3.0-only
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Membership
@notice One member, one metering point, one vote. A membership cannot be transferred, only
        given and taken by the registrar; the vote that comes with it can be delegated to
        another member. Votes and the number of members stay readable for any past time, so
        that nobody votes with what was acquired after the snapshot.
@dev ERC-6372 clock in unix seconds and the views, events and `delegate` of ERC-5805.
     A history is one head word, the newest checkpoint, and the older ones behind it:

         head      count of older checkpoints:48 @128 | since:48 @64 | amount:64 @0
         older[i]                                       since:48 @64 | amount:64 @0

     A question about a time after the newest checkpoint, the common case, reads one word.
     The history of the member count has the key 0, an account's history its address.
"""

from snekmate.auth import ownable
from interfaces import IMembership

implements: IMembership
initializes: ownable
exports: (ownable.owner, ownable.transfer_ownership)


# ---------------------------------------------------------------------------- #
#                                   CONSTANTS                                  #
# ---------------------------------------------------------------------------- #

# A transaction holds 16.7 million gas (EIP-7825); an admission in a batch costs 73,000.
MAX_BATCH: constant(uint256) = 128
# Metering points are numbered in 32 bits everywhere.
MAX_METER: constant(uint256) = 2**32 - 1
# Halving 2**48 checkpoints takes 48 steps.
SEARCH_STEPS: constant(uint256) = 48
# The key of the member count's history; the zero address can never hold votes.
SUPPLY: constant(uint256) = 0

ADDRESS_MASK: constant(uint256) = 2**160 - 1
AMOUNT_MASK: constant(uint256) = 2**64 - 1
TIME_MASK: constant(uint256) = 2**48 - 1


# ---------------------------------------------------------------------------- #
#                                    EVENTS                                    #
# ---------------------------------------------------------------------------- #

event RegistrarChanged:
    registrar: indexed(address)


event MemberAdmitted:
    member: indexed(address)
    meter: indexed(uint256)


event MemberRemoved:
    member: indexed(address)
    meter: indexed(uint256)


event DelegateChanged:
    delegator: indexed(address)
    fromDelegate: indexed(address)
    toDelegate: indexed(address)


event DelegateVotesChanged:
    delegate: indexed(address)
    previousVotes: uint256
    newVotes: uint256


# ---------------------------------------------------------------------------- #
#                                    STORAGE                                   #
# ---------------------------------------------------------------------------- #

registrar: public(address)
# Metering point -> member
member_of: public(HashMap[uint256, address])
# Member -> delegate:160 @0 | meter:32 @160 | admitted at:48 @192; 0 for everybody else
_members: HashMap[address, uint256]
# Key -> newest checkpoint; key -> position -> older checkpoint
_heads: HashMap[uint256, uint256]
_older: HashMap[uint256, HashMap[uint256, uint256]]


# ---------------------------------------------------------------------------- #
#                                  CONSTRUCTOR                                 #
# ---------------------------------------------------------------------------- #

@deploy
def __init__(registrar: address):
    """
    @param registrar Admits and removes members.
    """
    ownable.__init__()
    self.registrar = registrar
    log RegistrarChanged(registrar=registrar)


# ---------------------------------------------------------------------------- #
#                                   EXTERNAL                                   #
# ---------------------------------------------------------------------------- #

@external
def set_registrar(registrar: address):
    """
    @notice Appoints the registrar; the zero address leaves the office empty. Owner only.
    """
    ownable._check_owner()
    self.registrar = registrar
    log RegistrarChanged(registrar=registrar)


@external
def admit(member: address, meter: uint256):
    """
    @notice Admits a member for a metering point; the vote is delegated to the member itself.
            Registrar only.
    @param member Not a member yet.
    @param meter A metering point that nobody else votes for.
    """
    self._check_registrar()
    self._admit(member, meter)
    self._add(SUPPLY, 1)


@external
def admit_batch(members: DynArray[address, MAX_BATCH], meters: DynArray[uint256, MAX_BATCH]):
    """
    @notice Admits many members at once, all of them or none. Registrar only.
    """
    self._check_registrar()
    assert len(members) == len(meters), "membership: one metering point per member"
    for i: uint256 in range(len(members), bound=MAX_BATCH):
        self._admit(members[i], meters[i])
    self._add(SUPPLY, len(members))


@external
def remove(member: address):
    """
    @notice Ends a membership; its vote leaves whoever it was delegated to. Registrar only.
    @dev Votes that others delegated to the removed member stay there until they delegate anew.
    """
    self._check_registrar()
    word: uint256 = self._members[member]
    assert word != 0, "membership: not a member"
    meter: uint256 = (word >> 160) & MAX_METER
    delegatee: address = convert(word & ADDRESS_MASK, address)
    self._members[member] = 0
    self.member_of[meter] = empty(address)
    log MemberRemoved(member=member, meter=meter)
    log DelegateChanged(delegator=member, fromDelegate=delegatee, toDelegate=empty(address))
    self._take_vote(delegatee)
    self._subtract(SUPPLY, 1)


@external
def delegate(delegatee: address):
    """
    @notice Hands the caller's vote to another member, or back to the caller.
    @param delegatee A member: votes stay among those who live with the outcome.
    """
    word: uint256 = self._members[msg.sender]
    assert word != 0, "membership: caller is not a member"
    assert self._members[delegatee] != 0, "membership: delegate is not a member"
    previous: address = convert(word & ADDRESS_MASK, address)
    assert delegatee != previous, "membership: already delegated so"
    self._members[msg.sender] = ((word >> 160) << 160) | convert(delegatee, uint256)
    log DelegateChanged(delegator=msg.sender, fromDelegate=previous, toDelegate=delegatee)
    self._take_vote(previous)
    self._give_vote(delegatee)


# ---------------------------------------------------------------------------- #
#                                     VIEW                                     #
# ---------------------------------------------------------------------------- #

@view
@external
def clock() -> uint256:
    """
    @return The time that checkpoints are made by: unix seconds (ERC-6372).
    """
    return block.timestamp


@pure
@external
def CLOCK_MODE() -> String[14]:
    """
    @return The clock in machine-readable form (ERC-6372).
    """
    return "mode=timestamp"


@view
@external
def is_member(account: address) -> bool:
    """
    @return Whether the account is a member now.
    """
    return self._members[account] != 0


@view
@external
def meter_of(account: address) -> uint256:
    """
    @return The metering point of the member, or zero.
    """
    return (self._members[account] >> 160) & MAX_METER


@view
@external
def admitted_at(account: address) -> uint256:
    """
    @return Unix time of the member's admission, or zero.
    """
    return self._members[account] >> 192


@view
@external
def member_count() -> uint256:
    """
    @return The number of members now.
    """
    return self._heads[SUPPLY] & AMOUNT_MASK


@view
@external
def delegates(account: address) -> address:
    """
    @return Who holds the member's vote; zero for accounts that are not members.
    """
    return convert(self._members[account] & ADDRESS_MASK, address)


@view
@external
def getVotes(account: address) -> uint256:
    """
    @return The votes that the account holds now, its own included.
    """
    if account == empty(address):
        return 0
    return self._heads[convert(account, uint256)] & AMOUNT_MASK


@view
@external
def getPastVotes(account: address, timepoint: uint256) -> uint256:
    """
    @return The votes that the account held at the end of the past unix time `timepoint`.
    """
    if account == empty(address):
        return 0
    return self._amount_at(convert(account, uint256), timepoint)


@view
@external
def getPastTotalSupply(timepoint: uint256) -> uint256:
    """
    @return The number of members at the end of the past unix time `timepoint`.
    """
    return self._amount_at(SUPPLY, timepoint)


# ---------------------------------------------------------------------------- #
#                                   INTERNAL                                   #
# ---------------------------------------------------------------------------- #

@view
@internal
def _check_registrar():
    assert msg.sender == self.registrar, "membership: caller is not the registrar"


@internal
def _admit(member: address, meter: uint256):
    assert member != empty(address), "membership: member is the zero address"
    assert self._members[member] == 0, "membership: already a member"
    assert meter != 0 and meter <= MAX_METER, "membership: metering point out of range"
    assert self.member_of[meter] == empty(address), "membership: metering point has a member"
    self.member_of[meter] = member
    self._members[member] = convert(member, uint256) | (meter << 160) | (block.timestamp << 192)
    log MemberAdmitted(member=member, meter=meter)
    log DelegateChanged(delegator=member, fromDelegate=empty(address), toDelegate=member)
    self._give_vote(member)


@internal
def _give_vote(account: address):
    votes: uint256 = self._add(convert(account, uint256), 1)
    log DelegateVotesChanged(delegate=account, previousVotes=votes - 1, newVotes=votes)


@internal
def _take_vote(account: address):
    votes: uint256 = self._subtract(convert(account, uint256), 1)
    log DelegateVotesChanged(delegate=account, previousVotes=votes + 1, newVotes=votes)


@internal
def _add(key: uint256, amount: uint256) -> uint256:
    result: uint256 = (self._heads[key] & AMOUNT_MASK) + amount
    self._push(key, result)
    return result


@internal
def _subtract(key: uint256, amount: uint256) -> uint256:
    result: uint256 = (self._heads[key] & AMOUNT_MASK) - amount
    self._push(key, result)
    return result


@internal
def _push(key: uint256, amount: uint256):
    head: uint256 = self._heads[key]
    count: uint256 = head >> 128
    since: uint256 = (head >> 64) & TIME_MASK
    # Within one second the last change wins; only what stood before it is history.
    if head != 0 and since != block.timestamp:
        self._older[key][count] = (since << 64) | (head & AMOUNT_MASK)
        count += 1
    self._heads[key] = (count << 128) | (block.timestamp << 64) | amount


@view
@internal
def _amount_at(key: uint256, timepoint: uint256) -> uint256:
    assert timepoint < block.timestamp, "membership: future lookup"
    head: uint256 = self._heads[key]
    if (head >> 64) & TIME_MASK <= timepoint:
        return head & AMOUNT_MASK
    # The answer is the last older checkpoint at or before the time. It lies before `high`,
    # and all before `low` are early enough: |..early..|low ? ? ? high|..late..|
    low: uint256 = 0
    high: uint256 = head >> 128
    amount: uint256 = 0
    for _: uint256 in range(SEARCH_STEPS):
        if low == high:
            break
        middle: uint256 = (low + high) // 2
        checkpoint: uint256 = self._older[key][middle]
        if checkpoint >> 64 <= timepoint:
            amount = checkpoint & AMOUNT_MASK
            low = middle + 1
        else:
            high = middle
    return amount
