# pragma version ~=0.4.3
# @license AGPL-3.0-only
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Grid governor
@notice Members propose calls, vote, and have the timelock execute what passed. Forecasters may
        propose too, but only calls on a list (the bounded windows of `GridParameters`).

          propose          snapshot             deadline      queue       eta
             |--- Pending ----|------ Active ------|-- Succeeded --|- Queued -|- execute ...
                voting delay      voting period     | Defeated         delay    until grace ends

@dev Event and function names, the proposal id and the order of the states follow OpenZeppelin's
     Governor 5. A proposal takes two words, and a vote touches two more at most:

       core      proposer:160 @96 | lane:2 @94 | snapshot:34 @60 | voting period:24 @36
                 | grace in minutes:16 @20 | number:20 @0
       tally     eta:40 @128 | flags:8 @120 | abstain:40 @80 | for:40 @40 | against:40 @0
       voted     per voter and 256 proposals one word: bit `number % 256`

     A member's first vote opens such a word; later ones find it open, at a quarter of the gas.
     Voting period and grace are those of the time of the proposal, so a later vote on them
     neither shortens a vote under way nor brings an expired proposal back.
"""

from snekmate.auth import ownable
from snekmate.utils import eip712_domain_separator
from interfaces import IGridParameters
from interfaces import IGridTimelock
from interfaces import IMembership

initializes: ownable
initializes: eip712_domain_separator
exports: (ownable.owner, ownable.transfer_ownership, eip712_domain_separator.eip712Domain)


# ---------------------------------------------------------------------------- #
#                                   CONSTANTS                                  #
# ---------------------------------------------------------------------------- #

# As in the timelock, which must be able to carry every proposal.
MAX_CALLS: constant(uint256) = 8
MAX_CALLDATA: constant(uint256) = 1_024
# Room for a page of text with the hash of its evidence; longer ones belong behind that hash.
MAX_DESCRIPTION: constant(uint256) = 4_096
# A few sentences; the event that carries them costs 8 gas a byte.
MAX_REASON: constant(uint256) = 1_024
# A transaction holds 16.7 million gas (EIP-7825); a ballot costs up to 44,000.
MAX_BALLOTS: constant(uint256) = 128

# The snapshot must lie after the proposal, or its proposer could still gather votes for it.
MIN_VOTING_DELAY: public(constant(uint256)) = 1
# A week to delegate or to object is enough; longer would let nothing be decided in time.
MAX_VOTING_DELAY: public(constant(uint256)) = 7 * 86_400
# An hour reaches those who are awake; less would let a few decide unseen.
MIN_VOTING_PERIOD: public(constant(uint256)) = 3_600
# A month; also bounds what the core word must hold.
MAX_VOTING_PERIOD: public(constant(uint256)) = 30 * 86_400
# An hour leaves a keeper time to execute.
MIN_GRACE: public(constant(uint256)) = 3_600
# What nobody wanted to execute for a month, nobody decided for today.
MAX_GRACE: public(constant(uint256)) = 30 * 86_400
# The core word keeps the grace period in minutes.
GRACE_UNIT: constant(uint256) = 60
# One member, one vote: every member may propose.
THRESHOLD: constant(uint256) = 1
BASIS_POINTS: constant(uint256) = 10_000
OPEN_WINDOW: constant(bytes4) = method_id(
    "open_window(uint256,uint256,uint256,uint256,int256)", output_type=bytes4
)
# The key of the quorum in `GridParameters`.
QUORUM_KEY: constant(uint256) = 15

# States, in OpenZeppelin's order.
PENDING: constant(uint256) = 0
ACTIVE: constant(uint256) = 1
CANCELED: constant(uint256) = 2
DEFEATED: constant(uint256) = 3
SUCCEEDED: constant(uint256) = 4
QUEUED: constant(uint256) = 5
EXPIRED: constant(uint256) = 6
EXECUTED: constant(uint256) = 7

# How the timelock marks an operation that was executed.
TIMELOCK_DONE: constant(uint256) = 1

# Lanes: who proposed, and so what may be called.
MEMBER_LANE: constant(uint256) = 0
FORECASTER_LANE: constant(uint256) = 1

CANCELED_FLAG: constant(uint256) = 1 << 120
EXECUTED_FLAG: constant(uint256) = 2 << 120

# Why a ballot of a batch was left out.
BAD_SUPPORT: public(constant(uint8)) = 1
BALLOT_EXPIRED: public(constant(uint8)) = 2
BAD_SIGNATURE: public(constant(uint8)) = 3
ALREADY_VOTED: public(constant(uint8)) = 4
NO_VOTES: public(constant(uint8)) = 5

BALLOT_TYPE_HASH: constant(bytes32) = keccak256(
    "Ballot(uint256 proposalId,uint8 support,address voter,bytes32 reasonHash,uint256 deadline)"
)
EMPTY_HASH: constant(bytes32) = keccak256("")
# Half the order of secp256k1: above it lies the mirror image of every signature.
HALF_ORDER: constant(bytes32) = (
    0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
)
S_MASK: constant(uint256) = 2**255 - 1

MASK_16: constant(uint256) = 2**16 - 1
MASK_20: constant(uint256) = 2**20 - 1
MASK_24: constant(uint256) = 2**24 - 1
MASK_34: constant(uint256) = 2**34 - 1
MASK_40: constant(uint256) = 2**40 - 1


# ---------------------------------------------------------------------------- #
#                                    EVENTS                                    #
# ---------------------------------------------------------------------------- #

event ProposalCreated:
    proposalId: uint256
    proposer: address
    targets: DynArray[address, MAX_CALLS]
    values: DynArray[uint256, MAX_CALLS]
    signatures: DynArray[String[1], MAX_CALLS]
    calldatas: DynArray[Bytes[MAX_CALLDATA], MAX_CALLS]
    voteStart: uint256
    voteEnd: uint256
    description: String[MAX_DESCRIPTION]


event ProposalQueued:
    proposalId: uint256
    etaSeconds: uint256


event ProposalExecuted:
    proposalId: uint256


event ProposalCanceled:
    proposalId: uint256


event VoteCast:
    voter: indexed(address)
    proposalId: uint256
    support: uint8
    weight: uint256
    reason: String[MAX_REASON]


# A batch carries the hash of a ballot's reason; the text is published off chain.
event BallotReason:
    proposalId: indexed(uint256)
    voter: indexed(address)
    reasonHash: bytes32


event BallotRejected:
    proposalId: indexed(uint256)
    voter: indexed(address)
    reason: uint8


event VotingDelaySet:
    oldVotingDelay: uint256
    newVotingDelay: uint256


event VotingPeriodSet:
    oldVotingPeriod: uint256
    newVotingPeriod: uint256


event GracePeriodSet:
    oldGracePeriod: uint256
    newGracePeriod: uint256


event ForecasterChanged:
    forecaster: indexed(address)
    allowed: bool


event ForecasterCallChanged:
    target: indexed(address)
    selector: indexed(bytes4)
    allowed: bool


event GuardianChanged:
    guardian: indexed(address)


# ---------------------------------------------------------------------------- #
#                                    STORAGE                                   #
# ---------------------------------------------------------------------------- #

struct Ballot:
    # voter:160 @96 | support:8 @88 | deadline:40 @48 | zero below
    head: uint256
    reason_hash: bytes32
    # EIP-2098: vs is s with the parity of y in its highest bit
    r: bytes32
    vs: bytes32


timelock: public(immutable(IGridTimelock))
token: public(immutable(IMembership))
parameters: public(immutable(IGridParameters))

guardian: public(address)
is_forecaster: public(HashMap[address, bool])
# Target -> selector -> whether a forecaster may propose the call
is_forecaster_call: public(HashMap[address, HashMap[bytes4, bool]])

# grace in minutes:16 @80 | voting period:24 @56 | voting delay:24 @32 | next number:32 @0
_settings: uint256
_cores: HashMap[uint256, uint256]
_tallies: HashMap[uint256, uint256]
_operations: HashMap[uint256, bytes32]
# Voter -> proposal number // 256 -> bits
_voted: HashMap[address, HashMap[uint256, uint256]]


# ---------------------------------------------------------------------------- #
#                                  CONSTRUCTOR                                 #
# ---------------------------------------------------------------------------- #

@deploy
def __init__(
    timelock_: address,
    membership: address,
    parameters_: address,
    voting_delay: uint256,
    voting_period: uint256,
    grace_period: uint256,
):
    """
    @param timelock_ Executes what passed; the governor is its proposer, canceller, executor.
    @param membership Tells the votes of a member at a past time.
    @param parameters_ Tells the quorum at a past time; its windows are what a forecaster may
           propose from the start.
    @param voting_delay Seconds from a proposal to its snapshot.
    @param voting_period Seconds from the snapshot to the deadline.
    @param grace_period Seconds in which a passed proposal must be queued, and again in which
           a queued one must be executed; whole minutes.
    """
    ownable.__init__()
    eip712_domain_separator.__init__("GridGovernor", "1")
    timelock = IGridTimelock(timelock_)
    token = IMembership(membership)
    parameters = IGridParameters(parameters_)
    # Proposals count from 1.
    self._settings = 1
    self._set_voting_delay(voting_delay)
    self._set_voting_period(voting_period)
    self._set_grace_period(grace_period)
    self._set_forecaster_call(parameters_, OPEN_WINDOW, True)


# ---------------------------------------------------------------------------- #
#                              EXTERNAL: PROPOSALS                             #
# ---------------------------------------------------------------------------- #

@external
def propose(
    targets: DynArray[address, MAX_CALLS],
    values: DynArray[uint256, MAX_CALLS],
    calldatas: DynArray[Bytes[MAX_CALLDATA], MAX_CALLS],
    description: String[MAX_DESCRIPTION],
) -> uint256:
    """
    @notice Proposes a batch of calls. Members, and forecasters within their list of calls.
    @param targets The contracts to call, in order; at least one.
    @param values The wei that the timelock sends with each call.
    @param calldatas The ABI-encoded call of each target.
    @param description Why, with the hash of the evidence. The same calls with the same
           description are the same proposal and can be made only once.
    @return The proposal's id.
    """
    count: uint256 = len(targets)
    assert count != 0, "governor: no calls"
    assert count == len(values), "governor: one value per target"
    assert count == len(calldatas), "governor: one calldata per target"
    lane: uint256 = MEMBER_LANE
    votes: uint256 = staticcall token.getPastVotes(msg.sender, block.timestamp - 1)
    if votes < THRESHOLD:
        assert self.is_forecaster[msg.sender], "governor: proposer below threshold"
        lane = FORECASTER_LANE
        for i: uint256 in range(count, bound=MAX_CALLS):
            assert len(calldatas[i]) >= 4, "governor: call outside the forecaster's list"
            selector: bytes4 = convert(slice(calldatas[i], 0, 4), bytes4)
            assert (
                self.is_forecaster_call[targets[i]][selector] and values[i] == 0
            ), "governor: call outside the forecaster's list"

    id: uint256 = self._id(targets, values, calldatas, keccak256(description))
    assert self._cores[id] == 0, "governor: already proposed"
    settings: uint256 = self._settings
    number: uint256 = settings & MASK_20
    assert number < MASK_20, "governor: no numbers left"
    self._settings = settings + 1
    period: uint256 = (settings >> 56) & MASK_24
    snapshot: uint256 = block.timestamp + ((settings >> 32) & MASK_24)
    assert snapshot <= MASK_34, "governor: clock out of range"
    self._cores[id] = (
        (convert(msg.sender, uint256) << 96)
        | (lane << 94)
        | (snapshot << 60)
        | (period << 36)
        | ((settings >> 80) << 20)
        | number
    )
    signatures: DynArray[String[1], MAX_CALLS] = []
    for i: uint256 in range(count, bound=MAX_CALLS):
        signatures.append("")
    log ProposalCreated(
        proposalId=id,
        proposer=msg.sender,
        targets=targets,
        values=values,
        signatures=signatures,
        calldatas=calldatas,
        voteStart=snapshot,
        voteEnd=snapshot + period,
        description=description,
    )
    return id


@external
def queue(
    targets: DynArray[address, MAX_CALLS],
    values: DynArray[uint256, MAX_CALLS],
    calldatas: DynArray[Bytes[MAX_CALLDATA], MAX_CALLS],
    descriptionHash: bytes32,
) -> uint256:
    """
    @notice Hands a proposal that passed to the timelock. Anyone.
    @return The proposal's id.
    """
    id: uint256 = self._id(targets, values, calldatas, descriptionHash)
    assert self._state(id) == SUCCEEDED, "governor: proposal has not succeeded"
    delay: uint256 = staticcall timelock.getMinDelay()
    salt: bytes32 = self._salt(descriptionHash)
    eta: uint256 = block.timestamp + delay
    self._operations[id] = keccak256(
        abi_encode(targets, values, calldatas, empty(bytes32), salt)
    )
    self._tallies[id] |= eta << 128
    extcall timelock.scheduleBatch(targets, values, calldatas, empty(bytes32), salt, delay)
    log ProposalQueued(proposalId=id, etaSeconds=eta)
    return id


@external
def execute(
    targets: DynArray[address, MAX_CALLS],
    values: DynArray[uint256, MAX_CALLS],
    calldatas: DynArray[Bytes[MAX_CALLDATA], MAX_CALLS],
    descriptionHash: bytes32,
) -> uint256:
    """
    @notice Has the timelock execute a queued proposal, once its delay is over and before its
            grace period ends. Anyone. One failing call reverts all of them.
    @dev The proposal is marked before the calls, and the timelock runs no batch inside another.
    @return The proposal's id.
    """
    id: uint256 = self._id(targets, values, calldatas, descriptionHash)
    assert self._state(id) == QUEUED, "governor: proposal is not queued"
    self._tallies[id] |= EXECUTED_FLAG
    log ProposalExecuted(proposalId=id)
    extcall timelock.executeBatch(
        targets, values, calldatas, empty(bytes32), self._salt(descriptionHash)
    )
    return id


@external
def cancel(
    targets: DynArray[address, MAX_CALLS],
    values: DynArray[uint256, MAX_CALLS],
    calldatas: DynArray[Bytes[MAX_CALLDATA], MAX_CALLS],
    descriptionHash: bytes32,
) -> uint256:
    """
    @notice Takes a proposal back: its proposer while it is pending; the guardian, where a
            forecaster made it, at any time before its execution.
    @return The proposal's id.
    """
    id: uint256 = self._id(targets, values, calldatas, descriptionHash)
    now_in: uint256 = self._state(id)
    core: uint256 = self._cores[id]
    if msg.sender == self.guardian and (core >> 94) & 3 == FORECASTER_LANE:
        assert (
            now_in in [PENDING, ACTIVE, SUCCEEDED, QUEUED]
        ), "governor: too late to cancel"
        if now_in == QUEUED:
            extcall timelock.cancel(self._operations[id])
    else:
        assert msg.sender == convert(core >> 96, address), "governor: caller may not cancel"
        assert now_in == PENDING, "governor: too late to cancel"
    self._tallies[id] |= CANCELED_FLAG
    log ProposalCanceled(proposalId=id)
    return id


# ---------------------------------------------------------------------------- #
#                               EXTERNAL: BALLOTS                              #
# ---------------------------------------------------------------------------- #

@external
def castVote(proposalId: uint256, support: uint8) -> uint256:
    """
    @notice Votes on an active proposal, once and for good.
    @param proposalId The proposal.
    @param support 0 against, 1 for, 2 abstain.
    @return The votes that counted.
    """
    return self._cast(proposalId, msg.sender, support, "")


@external
def castVoteWithReason(
    proposalId: uint256, support: uint8, reason: String[MAX_REASON]
) -> uint256:
    """
    @notice Votes on an active proposal and says why.
    @return The votes that counted.
    """
    return self._cast(proposalId, msg.sender, support, reason)


@external
def castVoteBySig(
    proposalId: uint256,
    support: uint8,
    voter: address,
    reason: String[MAX_REASON],
    deadline: uint256,
    r: bytes32,
    vs: bytes32,
) -> uint256:
    """
    @notice Casts the ballot that `voter` signed; anyone may carry it.
    @param proposalId The proposal.
    @param support 0 against, 1 for, 2 abstain.
    @param voter Who signed, and whose votes count.
    @param reason Its keccak256 is what the ballot covers, of the empty text too.
    @param deadline Unix time after which the ballot counts no more.
    @param r First half of the signature.
    @param vs Second half with the parity of y in the highest bit (EIP-2098).
    @return The votes that counted.
    """
    assert block.timestamp <= deadline, "governor: ballot expired"
    assert self._is_signed(
        proposalId, support, voter, keccak256(reason), deadline, r, vs
    ), "governor: bad signature"
    return self._cast(proposalId, voter, support, reason)


@external
def castBallots(proposalId: uint256, ballots: DynArray[Ballot, MAX_BALLOTS]) -> uint256:
    """
    @notice Casts many signed ballots at once. One that cannot count is left out, with an event
            that says why, and the rest goes on.
    @dev A ballot signs the same as for `castVoteBySig`; the batch carries the hash of its
         reason. The proposal must be active, or the whole batch reverts: nothing could count.
    @param proposalId The proposal.
    @param ballots Packed as `Ballot` says.
    @return How many ballots counted.
    """
    core: uint256 = self._active_core(proposalId)
    snapshot: uint256 = (core >> 60) & MASK_34
    word_index: uint256 = (core & MASK_20) >> 8
    bit: uint256 = 1 << (core & 255)
    tally: uint256 = self._tallies[proposalId]
    counted: uint256 = 0
    for ballot: Ballot in ballots:
        voter: address = convert(ballot.head >> 96, address)
        support: uint256 = (ballot.head >> 88) & 255
        deadline: uint256 = (ballot.head >> 48) & MASK_40
        word: uint256 = self._voted[voter][word_index]
        votes: uint256 = 0
        rejection: uint8 = 0
        if support > 2:
            rejection = BAD_SUPPORT
        elif block.timestamp > deadline:
            rejection = BALLOT_EXPIRED
        elif word & bit != 0:
            rejection = ALREADY_VOTED
        elif not self._is_signed(
            proposalId,
            convert(support, uint8),
            voter,
            ballot.reason_hash,
            deadline,
            ballot.r,
            ballot.vs,
        ):
            rejection = BAD_SIGNATURE
        else:
            votes = staticcall token.getPastVotes(voter, snapshot)
            if votes == 0:
                rejection = NO_VOTES
        if rejection != 0:
            log BallotRejected(proposalId=proposalId, voter=voter, reason=rejection)
            continue
        self._voted[voter][word_index] = word | bit
        # No counter overflows: all votes together are the members, at most 2**32.
        tally += votes << (40 * support)
        counted += 1
        log VoteCast(
            voter=voter,
            proposalId=proposalId,
            support=convert(support, uint8),
            weight=votes,
            reason="",
        )
        if ballot.reason_hash != EMPTY_HASH:
            log BallotReason(proposalId=proposalId, voter=voter, reasonHash=ballot.reason_hash)
    self._tallies[proposalId] = tally
    return counted


# ---------------------------------------------------------------------------- #
#                              EXTERNAL: SETTINGS                              #
# ---------------------------------------------------------------------------- #

@external
def setVotingDelay(newVotingDelay: uint256):
    """
    @notice Seconds from a proposal to its snapshot, for later proposals. Owner only.
    """
    ownable._check_owner()
    self._set_voting_delay(newVotingDelay)


@external
def setVotingPeriod(newVotingPeriod: uint256):
    """
    @notice Seconds from the snapshot to the deadline, for later proposals. Owner only.
    """
    ownable._check_owner()
    self._set_voting_period(newVotingPeriod)


@external
def setGracePeriod(newGracePeriod: uint256):
    """
    @notice Seconds until what passed expires, for later proposals; whole minutes. Owner only.
    """
    ownable._check_owner()
    self._set_grace_period(newGracePeriod)


@external
def setForecaster(forecaster: address, allowed: bool):
    """
    @notice Lets an account that is no member propose the calls of the list. Owner only.
    """
    ownable._check_owner()
    self.is_forecaster[forecaster] = allowed
    log ForecasterChanged(forecaster=forecaster, allowed=allowed)


@external
def setForecasterCall(target: address, selector: bytes4, allowed: bool):
    """
    @notice Puts a call on the forecasters' list, or takes it off. Owner only.
    """
    ownable._check_owner()
    self._set_forecaster_call(target, selector, allowed)


@external
def setGuardian(guardian: address):
    """
    @notice Appoints who may cancel the forecasters' proposals, and no others; the zero address
            leaves the office empty. Owner only.
    """
    ownable._check_owner()
    self.guardian = guardian
    log GuardianChanged(guardian=guardian)


# ---------------------------------------------------------------------------- #
#                                     VIEW                                     #
# ---------------------------------------------------------------------------- #

@pure
@external
def name() -> String[12]:
    """
    @return The name in the signing domain.
    """
    return "GridGovernor"


@pure
@external
def version() -> String[1]:
    """
    @return The version in the signing domain.
    """
    return "1"


@view
@external
def clock() -> uint256:
    """
    @return The time that snapshots are made by: unix seconds (ERC-6372).
    """
    return block.timestamp


@pure
@external
def CLOCK_MODE() -> String[14]:
    """
    @return The clock in machine-readable form (ERC-6372).
    """
    return "mode=timestamp"


@pure
@external
def COUNTING_MODE() -> String[32]:
    """
    @return How votes count: against, for, abstain; the last two towards the quorum.
    """
    return "support=bravo&quorum=for,abstain"


@view
@external
def votingDelay() -> uint256:
    """
    @return Seconds from a proposal to its snapshot.
    """
    return (self._settings >> 32) & MASK_24


@view
@external
def votingPeriod() -> uint256:
    """
    @return Seconds from the snapshot to the deadline.
    """
    return (self._settings >> 56) & MASK_24


@view
@external
def gracePeriod() -> uint256:
    """
    @return Seconds in which a passed proposal must be queued, and a queued one executed.
    """
    return (self._settings >> 80) * GRACE_UNIT


@pure
@external
def proposalThreshold() -> uint256:
    """
    @return Votes that a member needs to propose.
    """
    return THRESHOLD


@view
@external
def proposalCount() -> uint256:
    """
    @return How many proposals were ever made.
    """
    return (self._settings & MASK_20) - 1


@view
@external
def quorum(timepoint: uint256) -> uint256:
    """
    @return Votes for and abstaining that a proposal with this past snapshot needs, rounded up.
    """
    return self._quorum(timepoint)


@pure
@external
def hashProposal(
    targets: DynArray[address, MAX_CALLS],
    values: DynArray[uint256, MAX_CALLS],
    calldatas: DynArray[Bytes[MAX_CALLDATA], MAX_CALLS],
    descriptionHash: bytes32,
) -> uint256:
    """
    @return The proposal's id, as OpenZeppelin computes it.
    """
    return self._id(targets, values, calldatas, descriptionHash)


@view
@external
def state(proposalId: uint256) -> uint8:
    """
    @return 0 Pending, 1 Active, 2 Canceled, 3 Defeated, 4 Succeeded, 5 Queued, 6 Expired,
            7 Executed. Reverts for an unknown proposal.
    """
    return convert(self._state(proposalId), uint8)


@view
@external
def hasVoted(proposalId: uint256, account: address) -> bool:
    """
    @return Whether a ballot of the account was counted.
    """
    number: uint256 = self._core(proposalId) & MASK_20
    return (self._voted[account][number >> 8] >> (number & 255)) & 1 == 1


@view
@external
def proposalVotes(proposalId: uint256) -> (uint256, uint256, uint256):
    """
    @return Votes against, for, abstaining.
    """
    tally: uint256 = self._tallies[proposalId]
    return tally & MASK_40, (tally >> 40) & MASK_40, (tally >> 80) & MASK_40


@view
@external
def proposalSnapshot(proposalId: uint256) -> uint256:
    """
    @return The time at which votes and quorum are read; voting starts right after it.
    """
    return (self._core(proposalId) >> 60) & MASK_34


@view
@external
def proposalDeadline(proposalId: uint256) -> uint256:
    """
    @return The last moment in which a ballot counts.
    """
    return self._deadline(self._core(proposalId))


@view
@external
def proposalEta(proposalId: uint256) -> uint256:
    """
    @return From when on a queued proposal can be executed; 0 where it was never queued.
    """
    return self._tallies[proposalId] >> 128


@view
@external
def proposalExpiry(proposalId: uint256) -> uint256:
    """
    @return The last moment in which a passed proposal can be queued, or once queued, executed.
    """
    core: uint256 = self._core(proposalId)
    eta: uint256 = self._tallies[proposalId] >> 128
    return max(eta, self._deadline(core)) + self._grace(core)


@view
@external
def proposalProposer(proposalId: uint256) -> address:
    """
    @return Who made the proposal.
    """
    return convert(self._core(proposalId) >> 96, address)


@view
@external
def proposalByForecaster(proposalId: uint256) -> bool:
    """
    @return Whether it was made by a forecaster, who may propose the calls of the list only.
    """
    return (self._core(proposalId) >> 94) & 3 == FORECASTER_LANE


@view
@external
def proposalOperation(proposalId: uint256) -> bytes32:
    """
    @return The id of the timelock's operation; zero where the proposal was never queued.
    """
    return self._operations[proposalId]


@pure
@external
def proposalNeedsQueuing(proposalId: uint256) -> bool:
    """
    @return True: every proposal passes through the timelock.
    """
    return True


@view
@external
def getVotes(account: address, timepoint: uint256) -> uint256:
    """
    @return The votes of the account at the past unix time.
    """
    return staticcall token.getPastVotes(account, timepoint)


# ---------------------------------------------------------------------------- #
#                                   INTERNAL                                   #
# ---------------------------------------------------------------------------- #

@pure
@internal
def _id(
    targets: DynArray[address, MAX_CALLS],
    values: DynArray[uint256, MAX_CALLS],
    calldatas: DynArray[Bytes[MAX_CALLDATA], MAX_CALLS],
    description_hash: bytes32,
) -> uint256:
    return convert(
        keccak256(abi_encode(targets, values, calldatas, description_hash)), uint256
    )


@view
@internal
def _salt(description_hash: bytes32) -> bytes32:
    # As OpenZeppelin's: the governor's address in the high bytes over the description's hash.
    # Proposals with the same calls differ in their description, and so in their operation.
    return convert(
        (convert(self, uint256) << 96) ^ convert(description_hash, uint256), bytes32
    )


@view
@internal
def _core(id: uint256) -> uint256:
    core: uint256 = self._cores[id]
    assert core != 0, "governor: unknown proposal"
    return core


@pure
@internal
def _deadline(core: uint256) -> uint256:
    return ((core >> 60) & MASK_34) + ((core >> 36) & MASK_24)


@pure
@internal
def _grace(core: uint256) -> uint256:
    return ((core >> 20) & MASK_16) * GRACE_UNIT


@view
@internal
def _state(id: uint256) -> uint256:
    core: uint256 = self._core(id)
    tally: uint256 = self._tallies[id]
    if tally & EXECUTED_FLAG != 0:
        return EXECUTED
    if tally & CANCELED_FLAG != 0:
        return CANCELED
    snapshot: uint256 = (core >> 60) & MASK_34
    if block.timestamp <= snapshot:
        return PENDING
    deadline: uint256 = self._deadline(core)
    if block.timestamp <= deadline:
        return ACTIVE
    eta: uint256 = tally >> 128
    if eta != 0:
        # What was queued had passed. The timelock forgets what another canceller cancels, and
        # marks what another executor executes, where the members appoint any.
        ready_at: uint256 = staticcall timelock.getTimestamp(self._operations[id])
        if ready_at == 0:
            return CANCELED
        if ready_at == TIMELOCK_DONE:
            return EXECUTED
        if block.timestamp > eta + self._grace(core):
            return EXPIRED
        return QUEUED
    in_favour: uint256 = (tally >> 40) & MASK_40
    if in_favour <= tally & MASK_40:
        return DEFEATED
    if in_favour + ((tally >> 80) & MASK_40) < self._quorum(snapshot):
        return DEFEATED
    if block.timestamp > deadline + self._grace(core):
        return EXPIRED
    return SUCCEEDED


@view
@internal
def _quorum(timepoint: uint256) -> uint256:
    members: uint256 = staticcall token.getPastTotalSupply(timepoint)
    fraction: uint256 = staticcall parameters.value_at(QUORUM_KEY, timepoint)
    return (members * fraction + BASIS_POINTS - 1) // BASIS_POINTS


@view
@internal
def _active_core(id: uint256) -> uint256:
    core: uint256 = self._core(id)
    assert block.timestamp > (core >> 60) & MASK_34, "governor: vote not active"
    assert block.timestamp <= self._deadline(core), "governor: vote not active"
    assert self._tallies[id] & CANCELED_FLAG == 0, "governor: vote not active"
    return core


@internal
def _cast(
    id: uint256, voter: address, support: uint8, reason: String[MAX_REASON]
) -> uint256:
    core: uint256 = self._active_core(id)
    assert support <= 2, "governor: support is not 0, 1 or 2"
    word_index: uint256 = (core & MASK_20) >> 8
    bit: uint256 = 1 << (core & 255)
    word: uint256 = self._voted[voter][word_index]
    assert word & bit == 0, "governor: already voted"
    votes: uint256 = staticcall token.getPastVotes(voter, (core >> 60) & MASK_34)
    assert votes != 0, "governor: no votes at the snapshot"
    self._voted[voter][word_index] = word | bit
    # No counter overflows: all votes together are the members, at most 2**32.
    self._tallies[id] += votes << (40 * convert(support, uint256))
    log VoteCast(voter=voter, proposalId=id, support=support, weight=votes, reason=reason)
    return votes


@view
@internal
def _is_signed(
    id: uint256,
    support: uint8,
    voter: address,
    reason_hash: bytes32,
    deadline: uint256,
    r: bytes32,
    vs: bytes32,
) -> bool:
    s: uint256 = convert(vs, uint256) & S_MASK
    if s > convert(HALF_ORDER, uint256):
        return False
    digest: bytes32 = eip712_domain_separator._hash_typed_data_v4(
        keccak256(abi_encode(BALLOT_TYPE_HASH, id, support, voter, reason_hash, deadline))
    )
    signer: address = ecrecover(
        digest, 27 + (convert(vs, uint256) >> 255), convert(r, uint256), s
    )
    # `ecrecover` answers zero for what is no signature at all.
    return signer != empty(address) and signer == voter


@internal
def _set_voting_delay(delay: uint256):
    assert (
        delay >= MIN_VOTING_DELAY and delay <= MAX_VOTING_DELAY
    ), "governor: voting delay out of range"
    settings: uint256 = self._settings
    log VotingDelaySet(oldVotingDelay=(settings >> 32) & MASK_24, newVotingDelay=delay)
    self._settings = (settings & ~(MASK_24 << 32)) | (delay << 32)


@internal
def _set_voting_period(period: uint256):
    assert (
        period >= MIN_VOTING_PERIOD and period <= MAX_VOTING_PERIOD
    ), "governor: voting period out of range"
    settings: uint256 = self._settings
    log VotingPeriodSet(oldVotingPeriod=(settings >> 56) & MASK_24, newVotingPeriod=period)
    self._settings = (settings & ~(MASK_24 << 56)) | (period << 56)


@internal
def _set_grace_period(grace: uint256):
    assert grace >= MIN_GRACE and grace <= MAX_GRACE, "governor: grace period out of range"
    assert grace % GRACE_UNIT == 0, "governor: grace period is not in whole minutes"
    settings: uint256 = self._settings
    log GracePeriodSet(oldGracePeriod=(settings >> 80) * GRACE_UNIT, newGracePeriod=grace)
    self._settings = (settings & (2**80 - 1)) | ((grace // GRACE_UNIT) << 80)


@internal
def _set_forecaster_call(target: address, selector: bytes4, allowed: bool):
    self.is_forecaster_call[target][selector] = allowed
    log ForecasterCallChanged(target=target, selector=selector, allowed=allowed)
