# pragma version ~=0.4.3
# @license AGPL-3.0-only
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Membership
@notice One member, one metering point, one vote. A membership cannot be transferred. The
        registrar announces who joins and who leaves; it takes effect after a delay, and until
        then a vote can stop it. The vote that comes with a membership can be delegated to
        another member of the same zone. Votes, the number of members and of a zone's members
        stay readable for any past time, so that nobody votes with what was acquired after the
        snapshot.

           announced ---- admission_delay ---- due ------- 30 days ------- expired
                       may be cancelled         | completed by anyone

@dev ERC-6372 clock in unix seconds and the views, events, `delegate` and `delegateBySig` of
     ERC-5805. A history is one head word, the newest checkpoint, and the older ones behind it:

         head      count of older checkpoints:48 @144 | since:48 @96 | weight @0
         older[i]                                       since:48 @96 | weight @0
         weight    member:1 @80 | zone:16 @64 | amount:64 @0

     A question about a time after the newest checkpoint, the common case, reads one word. An
     account's history has its address for a key; that of a zone's member count has 2**160 plus
     the zone, where zone 0 stands for all zones together.

     Whoever is removed may still hold votes of others. They rest: the account answers as one
     without votes, until they are delegated anew or it becomes a member again.
"""

from snekmate.auth import ownable
from snekmate.utils import eip712_domain_separator
from interfaces import IGridParameters
from interfaces import IMembership
from interfaces import IMeterRegistry

implements: IMembership
initializes: ownable
initializes: eip712_domain_separator
exports: (ownable.owner, ownable.transfer_ownership, eip712_domain_separator.eip712Domain)


# ---------------------------------------------------------------------------- #
#                                   CONSTANTS                                  #
# ---------------------------------------------------------------------------- #

# A transaction holds 16.7 million gas (EIP-7825); to complete an admission costs about 80,000.
MAX_BATCH: constant(uint256) = 128
# Metering points are numbered in 32 bits everywhere.
MAX_METER: constant(uint256) = 2**32 - 1
# The registry's zones fit the market's packed account word.
MAX_ZONE: constant(uint256) = 1_023
# The governor counts votes in 24 bits.
MAX_MEMBERS: constant(uint256) = 2**24 - 1
# The rule in `GridParameters`: seconds from an announcement to its effect.
ADMISSION_DELAY: constant(uint256) = 29
# Long enough for anybody to complete what is due; nobody keeps admissions in stock.
EXPIRY: constant(uint256) = 30 * 86_400
# Halving 2**48 checkpoints takes 48 steps.
SEARCH_STEPS: constant(uint256) = 48

# The keys of member counts; an address has 160 bits.
GROUPS: constant(uint256) = 2**160

ADDRESS_MASK: constant(uint256) = 2**160 - 1
AMOUNT_MASK: constant(uint256) = 2**64 - 1
TIME_MASK: constant(uint256) = 2**48 - 1
# Of a weight: whether the account was a member then, and the zone.
MEMBER: constant(uint256) = 2**80
ZONE: constant(uint256) = 64
ZONE_MASK: constant(uint256) = 2**16 - 1
WEIGHT_MASK: constant(uint256) = 2**96 - 1
# Of a checkpoint.
SINCE: constant(uint256) = 96
COUNT: constant(uint256) = 144
# Of an announcement.
REMOVAL: constant(uint256) = 2**208

DELEGATION_TYPE: constant(bytes32) = keccak256(
    "Delegation(address delegatee,uint256 nonce,uint256 expiry)"
)
# Half of the order of secp256k1: above it a signature is the malleable twin of another.
MAX_S: constant(uint256) = (
    57896044618658097711785492504343953926418782139537452191302581570759080747168
)


# ---------------------------------------------------------------------------- #
#                                    EVENTS                                    #
# ---------------------------------------------------------------------------- #

event RegistrarChanged:
    registrar: indexed(address)


event AdmissionAnnounced:
    member: indexed(address)
    meter: indexed(uint256)
    effective_at: uint256


event RemovalAnnounced:
    member: indexed(address)
    meter: indexed(uint256)
    effective_at: uint256


event AnnouncementCancelled:
    member: indexed(address)
    meter: indexed(uint256)
    removal: bool


event MemberAdmitted:
    member: indexed(address)
    meter: indexed(uint256)
    zone: indexed(uint256)


event MemberRemoved:
    member: indexed(address)
    meter: indexed(uint256)
    zone: indexed(uint256)


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

registry: public(immutable(IMeterRegistry))
parameters: public(immutable(IGridParameters))

registrar: public(address)
# Metering point -> member
member_of: public(HashMap[uint256, address])
# Account -> the nonce of its next signed delegation; survives the membership
nonces: public(HashMap[address, uint256])
# Metering point -> removal:1 @208 | effective at:48 @160 | member:160 @0
_announcements: HashMap[uint256, uint256]
# Member -> zone:16 @240 | admitted at:48 @192 | meter:32 @160 | delegate:160 @0; 0 for others
_members: HashMap[address, uint256]
# Key -> newest checkpoint; key -> position -> older checkpoint
_heads: HashMap[uint256, uint256]
_older: HashMap[uint256, HashMap[uint256, uint256]]


# ---------------------------------------------------------------------------- #
#                                  CONSTRUCTOR                                 #
# ---------------------------------------------------------------------------- #

@deploy
def __init__(registrar: address, registry_: address, parameters_: address):
    """
    @param registrar Announces admissions and removals.
    @param registry_ Tells the owner and the zone of a metering point.
    @param parameters_ Tells the delay from an announcement to its effect.
    """
    ownable.__init__()
    eip712_domain_separator.__init__("Membership", "1")
    registry = IMeterRegistry(registry_)
    parameters = IGridParameters(parameters_)
    self.registrar = registrar
    log RegistrarChanged(registrar=registrar)


# ---------------------------------------------------------------------------- #
#                            EXTERNAL: ANNOUNCEMENTS                           #
# ---------------------------------------------------------------------------- #

@external
def set_registrar(registrar: address):
    """
    @notice Appoints the registrar; the zero address leaves the office empty. What the last one
            announced stays announced. Owner only.
    """
    ownable._check_owner()
    self.registrar = registrar
    log RegistrarChanged(registrar=registrar)


@external
def announce_admissions(
    members: DynArray[address, MAX_BATCH], meters: DynArray[uint256, MAX_BATCH]
):
    """
    @notice Announces one new member per metering point, all of them or none. Registrar only.
    @param members Each owns its metering point, and is not a member yet.
    @param meters No member votes for them, and nothing else is announced for them.
    """
    self._check_registrar()
    assert len(members) == len(meters), "membership: one metering point per member"
    effective_at: uint256 = self._effective_at()
    for i: uint256 in range(len(members), bound=MAX_BATCH):
        self._check_admission(members[i], meters[i])
        self._announce(meters[i], convert(members[i], uint256) | (effective_at << 160))
        log AdmissionAnnounced(member=members[i], meter=meters[i], effective_at=effective_at)


@external
def announce_removals(members: DynArray[address, MAX_BATCH]):
    """
    @notice Announces the end of memberships, all of them or none. Registrar only.
    """
    self._check_registrar()
    effective_at: uint256 = self._effective_at()
    for member: address in members:
        word: uint256 = self._members[member]
        assert word != 0, "membership: not a member"
        meter: uint256 = (word >> 160) & MAX_METER
        self._announce(meter, convert(member, uint256) | (effective_at << 160) | REMOVAL)
        log RemovalAnnounced(member=member, meter=meter, effective_at=effective_at)


@external
def cancel_announcements(meters: DynArray[uint256, MAX_BATCH]):
    """
    @notice Takes back what is announced for these metering points, all of it or nothing.
            Registrar, or owner: so by a vote.
    """
    assert (
        msg.sender == self.registrar or msg.sender == ownable.owner
    ), "membership: caller is neither registrar nor owner"
    for meter: uint256 in meters:
        word: uint256 = self._announcements[meter]
        assert word != 0, "membership: nothing announced"
        self._announcements[meter] = 0
        log AnnouncementCancelled(
            member=convert(word & ADDRESS_MASK, address), meter=meter, removal=word >= REMOVAL
        )


@external
def complete(meters: DynArray[uint256, MAX_BATCH]):
    """
    @notice Carries out what was announced for these metering points and is due, all of it or
            nothing. Open to anyone.
    @dev Conditions are those of the moment, so a metering point that changed hands meanwhile
         admits nobody.
    """
    for meter: uint256 in meters:
        word: uint256 = self._announcements[meter]
        effective_at: uint256 = (word >> 160) & TIME_MASK
        assert word != 0, "membership: nothing announced"
        assert block.timestamp >= effective_at, "membership: not due yet"
        assert block.timestamp < effective_at + EXPIRY, "membership: announcement expired"
        self._announcements[meter] = 0
        member: address = convert(word & ADDRESS_MASK, address)
        if word >= REMOVAL:
            self._remove(member, meter)
        else:
            self._admit(member, meter)


# ---------------------------------------------------------------------------- #
#                             EXTERNAL: DELEGATION                             #
# ---------------------------------------------------------------------------- #

@external
def delegate(delegatee: address):
    """
    @notice Hands the caller's vote to another member of its zone, or back to the caller.
    @param delegatee A member: votes stay among those who live with the outcome.
    """
    self._delegate(msg.sender, delegatee)


@external
def delegateBySig(
    delegatee: address, nonce: uint256, expiry: uint256, v: uint8, r: bytes32, s: bytes32
):
    """
    @notice As `delegate`, for whoever signed it (EIP-712); anyone may carry the signature.
    @param delegatee A member of the signer's zone.
    @param nonce That of `nonces`: each signature counts once.
    @param expiry The last unix second at which the signature counts.
    """
    assert block.timestamp <= expiry, "membership: signature expired"
    assert convert(s, uint256) <= MAX_S, "membership: bad signature"
    digest: bytes32 = eip712_domain_separator._hash_typed_data_v4(
        keccak256(abi_encode(DELEGATION_TYPE, delegatee, nonce, expiry))
    )
    signer: address = ecrecover(digest, v, r, s)
    # `ecrecover` answers zero for what is no signature at all.
    assert signer != empty(address), "membership: bad signature"
    assert nonce == self.nonces[signer], "membership: nonce is not the next"
    self.nonces[signer] = nonce + 1
    self._delegate(signer, delegatee)


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
def announcement_of(meter: uint256) -> (address, uint256, bool):
    """
    @return What is announced for the metering point: the member, the unix time from which it can
            be completed, and whether it is a removal. Zeros where nothing is, or it expired.
    """
    word: uint256 = self._announcements[meter]
    if not self._is_live(word):
        return empty(address), 0, False
    return convert(word & ADDRESS_MASK, address), (word >> 160) & TIME_MASK, word >= REMOVAL


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
def zone_of(account: address) -> uint256:
    """
    @return The zone of the member, or zero.
    """
    return self._members[account] >> 240


@view
@external
def member_since(account: address) -> uint256:
    """
    @return Unix time since when the account is a member without a break, or zero.
    """
    return (self._members[account] >> 192) & TIME_MASK


@view
@external
def member_count() -> uint256:
    """
    @return The number of members now.
    """
    return self._heads[GROUPS] & AMOUNT_MASK


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
    @return The votes that the account holds now, its own included; 0 for who is no member.
    """
    return self._weight(self._heads[convert(account, uint256)]) & AMOUNT_MASK


@view
@external
def getPastVotes(account: address, timepoint: uint256) -> uint256:
    """
    @return The votes that the account held at the end of the past unix time `timepoint`; 0 for
            who was no member then.
    """
    return self._weight(self._checkpoint(convert(account, uint256), timepoint)) & AMOUNT_MASK


@view
@external
def past_weight(account: address, timepoint: uint256) -> uint256:
    """
    @return `zone << 64 | votes` of the account at the end of the past unix time `timepoint`;
            0 for who was no member then. A member that had lent its vote has a zone and 0 votes.
    """
    return self._weight(self._checkpoint(convert(account, uint256), timepoint))


@view
@external
def getPastTotalSupply(timepoint: uint256) -> uint256:
    """
    @return The number of members at the end of the past unix time `timepoint`.
    """
    return self._checkpoint(GROUPS, timepoint) & AMOUNT_MASK


@view
@external
def getPastZoneSupply(zone: uint256, timepoint: uint256) -> uint256:
    """
    @return The number of the zone's members at the end of the past unix time `timepoint`; of all
            members for zone 0.
    """
    assert zone <= MAX_ZONE, "membership: zone out of range"
    return self._checkpoint(GROUPS + zone, timepoint) & AMOUNT_MASK


# ---------------------------------------------------------------------------- #
#                            INTERNAL: ANNOUNCEMENTS                           #
# ---------------------------------------------------------------------------- #

@view
@internal
def _check_registrar():
    assert msg.sender == self.registrar, "membership: caller is not the registrar"


@view
@internal
def _effective_at() -> uint256:
    return block.timestamp + staticcall parameters.value(ADMISSION_DELAY)


@view
@internal
def _is_live(announcement: uint256) -> bool:
    """
    @return Whether there is an announcement, and it has not expired.
    """
    # None at all counts as one of 1970.
    return block.timestamp < ((announcement >> 160) & TIME_MASK) + EXPIRY


@internal
def _announce(meter: uint256, announcement: uint256):
    assert not self._is_live(self._announcements[meter]), "membership: already announced"
    self._announcements[meter] = announcement


@view
@internal
def _check_admission(member: address, meter: uint256) -> uint256:
    """
    @return The zone of the metering point.
    """
    assert member != empty(address), "membership: member is the zero address"
    assert meter != 0 and meter <= MAX_METER, "membership: metering point out of range"
    assert self._members[member] == 0, "membership: already a member"
    assert self.member_of[meter] == empty(address), "membership: metering point has a member"
    point_owner: address = empty(address)
    zone: uint256 = 0
    point_owner, zone = staticcall registry.metering_point(meter)
    assert point_owner == member, "membership: metering point is another's"
    assert zone != 0 and zone <= MAX_ZONE, "membership: zone out of range"
    return zone


@internal
def _admit(member: address, meter: uint256):
    zone: uint256 = self._check_admission(member, meter)
    key: uint256 = convert(member, uint256)
    head: uint256 = self._heads[key]
    votes: uint256 = head & AMOUNT_MASK
    # Votes that rest here come from the members of one zone and must not be cast in another.
    assert (
        votes == 0 or (head >> ZONE) & ZONE_MASK == zone
    ), "membership: holds votes of another zone"
    self.member_of[meter] = member
    self._members[member] = key | (meter << 160) | (block.timestamp << 192) | (zone << 240)
    log MemberAdmitted(member=member, meter=meter, zone=zone)
    log DelegateChanged(delegator=member, fromDelegate=empty(address), toDelegate=member)
    self._push(key, MEMBER | (zone << ZONE) | (votes + 1))
    log DelegateVotesChanged(delegate=member, previousVotes=0, newVotes=votes + 1)
    members: uint256 = (self._heads[GROUPS] & AMOUNT_MASK) + 1
    assert members <= MAX_MEMBERS, "membership: too many members"
    self._push(GROUPS, members)
    self._push(GROUPS + zone, (self._heads[GROUPS + zone] & AMOUNT_MASK) + 1)


@internal
def _remove(member: address, meter: uint256):
    # A member leaves its metering point only this way, and one announcement at a time: whoever
    # was a member when it was announced still is.
    word: uint256 = self._members[member]
    zone: uint256 = word >> 240
    delegatee: address = convert(word & ADDRESS_MASK, address)
    self._members[member] = 0
    self.member_of[meter] = empty(address)
    log MemberRemoved(member=member, meter=meter, zone=zone)
    log DelegateChanged(delegator=member, fromDelegate=delegatee, toDelegate=empty(address))
    self._take_vote(delegatee)
    key: uint256 = convert(member, uint256)
    weight: uint256 = self._heads[key] & WEIGHT_MASK
    # What others delegated to it stays in place, and rests.
    self._push(key, weight ^ MEMBER)
    if weight & AMOUNT_MASK != 0:
        log DelegateVotesChanged(
            delegate=member, previousVotes=weight & AMOUNT_MASK, newVotes=0
        )
    self._push(GROUPS, (self._heads[GROUPS] & AMOUNT_MASK) - 1)
    self._push(GROUPS + zone, (self._heads[GROUPS + zone] & AMOUNT_MASK) - 1)


# ---------------------------------------------------------------------------- #
#                               INTERNAL: VOTES                                #
# ---------------------------------------------------------------------------- #

@internal
def _delegate(delegator: address, delegatee: address):
    word: uint256 = self._members[delegator]
    other: uint256 = self._members[delegatee]
    assert word != 0, "membership: delegator is not a member"
    assert other != 0, "membership: delegate is not a member"
    assert word >> 240 == other >> 240, "membership: delegate lives in another zone"
    previous: address = convert(word & ADDRESS_MASK, address)
    assert delegatee != previous, "membership: already delegated so"
    self._members[delegator] = ((word >> 160) << 160) | convert(delegatee, uint256)
    log DelegateChanged(delegator=delegator, fromDelegate=previous, toDelegate=delegatee)
    self._take_vote(previous)
    self._give_vote(delegatee)


@internal
def _give_vote(account: address):
    key: uint256 = convert(account, uint256)
    weight: uint256 = self._heads[key] & WEIGHT_MASK
    self._push(key, weight + 1)
    votes: uint256 = weight & AMOUNT_MASK
    log DelegateVotesChanged(delegate=account, previousVotes=votes, newVotes=votes + 1)


@internal
def _take_vote(account: address):
    key: uint256 = convert(account, uint256)
    weight: uint256 = self._heads[key] & WEIGHT_MASK
    self._push(key, weight - 1)
    # A vote that rests is none that anybody sees go.
    if weight & MEMBER != 0:
        votes: uint256 = weight & AMOUNT_MASK
        log DelegateVotesChanged(delegate=account, previousVotes=votes, newVotes=votes - 1)


@internal
def _push(key: uint256, weight: uint256):
    head: uint256 = self._heads[key]
    count: uint256 = head >> COUNT
    since: uint256 = (head >> SINCE) & TIME_MASK
    # Within one second the last change wins; only what stood before it is history.
    if head != 0 and since != block.timestamp:
        self._older[key][count] = head & (2**COUNT - 1)
        count += 1
    self._heads[key] = (count << COUNT) | (block.timestamp << SINCE) | weight


@pure
@internal
def _weight(checkpoint: uint256) -> uint256:
    """
    @return `zone << 64 | votes` of an account's checkpoint; 0 where it was no member.
    """
    if checkpoint & MEMBER == 0:
        return 0
    return checkpoint & (MEMBER - 1)


@view
@internal
def _checkpoint(key: uint256, timepoint: uint256) -> uint256:
    """
    @return The newest checkpoint of the key at the end of `timepoint`; 0 where there is none.
    """
    assert timepoint < block.timestamp, "membership: future lookup"
    head: uint256 = self._heads[key]
    if (head >> SINCE) & TIME_MASK <= timepoint:
        return head
    # The answer is the last older checkpoint at or before the time. It lies before `high`,
    # and all before `low` are early enough: |..early..|low ? ? ? high|..late..|
    low: uint256 = 0
    high: uint256 = head >> COUNT
    found: uint256 = 0
    for _: uint256 in range(SEARCH_STEPS):
        if low == high:
            break
        middle: uint256 = (low + high) // 2
        checkpoint: uint256 = self._older[key][middle]
        if checkpoint >> SINCE <= timepoint:
            found = checkpoint
            low = middle + 1
        else:
            high = middle
    return found
