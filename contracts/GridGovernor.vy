# pragma version ~=0.4.3
# pragma optimize codesize
# @license AGPL-3.0-only
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Grid governor
@notice Members propose calls, vote, and have the timelock execute what passed. There are three
        lanes, and what a proposal may call is checked when it is proposed:

          ordinary    any calls; all members vote, for days
          balancing   windows of one zone only; the zone's members vote, for hours
          policy      windows inside a standing policy; passes unless enough of the zone object

          propose          snapshot             deadline      queue       eta
             |--- Pending ----|------ Active ------|-- Succeeded --|- Queued -|- execute ...
                voting delay      voting period     | Defeated         delay    until grace ends

        A member proposes with a bond, which goes to the treasury where many vote veto. A forecaster
        proposes windows within its allowance, which follows from its skill.
@dev Event and function names, the proposal id and the order of the states follow OpenZeppelin's
     Governor 5. A proposal takes two words, and a vote touches two more at most:

       core      proposer:160 @96 | lane:2 @94 | snapshot:32 @62 | bond in euros:12 @50
                 | zone:10 @40 | voting period in hours:10 @30 | grace in hours:10 @20
                 | number:20 @0
       tally     extended deadline:40 @144 | eta:40 @104 | flags:8 @96 | veto:24 @72
                 | abstain:24 @48 | for:24 @24 | against:24 @0
       voted     per voter and 256 proposals one word: bit `number % 256`
       bond      deposited:96 @96 | locked:96 @0

     A member's first vote opens such a word; later ones find it open, at a quarter of the gas.
     Voting period and grace are those of the time of the proposal, so a later vote on them
     neither shortens a vote under way nor brings an expired proposal back.
"""

from ethereum.ercs import IERC20
from snekmate.auth import ownable
from interfaces import IForecastRegistry
from interfaces import IGridParameters
from interfaces import IGridTimelock
from interfaces import IMembership
from interfaces import IStandingPolicies

initializes: ownable
exports: (ownable.owner, ownable.transfer_ownership)


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

HOUR: constant(uint256) = 3_600
DAY: constant(uint256) = 86_400
BASIS_POINTS: constant(uint256) = 10_000
# Bonds are in whole euros of a token with six decimals.
EURO: constant(uint256) = 1_000_000

# Keys of `GridParameters`.
QUORUM: constant(uint256) = 15
VETO_SHARE: constant(uint256) = 20
FORFEIT_SHARE: constant(uint256) = 21
# At most 4,095, which fits the core word.
PROPOSAL_BOND: constant(uint256) = 22
HOLDING_TIME: constant(uint256) = 23
ZONE_QUORUM: constant(uint256) = 24

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

ORDINARY: constant(uint256) = 0
BALANCING: constant(uint256) = 1
POLICY: constant(uint256) = 2

# Against, for, abstain, and against with a veto.
LAST_SUPPORT: constant(uint256) = 3

# Where the parts of the core word begin.
PROPOSER: constant(uint256) = 96
LANE: constant(uint256) = 94
SNAPSHOT: constant(uint256) = 62
BOND: constant(uint256) = 50
ZONE: constant(uint256) = 40
PERIOD: constant(uint256) = 30
GRACE: constant(uint256) = 20
# Of the tally; the votes of each kind of support take 24 bits.
VOTES: constant(uint256) = 24
ETA: constant(uint256) = 104
EXTENDED: constant(uint256) = 144
CANCELED_FLAG: constant(uint256) = 1 << 96
EXECUTED_FLAG: constant(uint256) = 2 << 96
RELEASED_FLAG: constant(uint256) = 4 << 96
# Cancelled before its deadline: what was cast until then says nothing.
CUT_SHORT_FLAG: constant(uint256) = 8 << 96
# Of the settings: after the number the terms of two lanes, and the parts of each.
TERMS: constant(uint256) = 20
TERMS_BITS: constant(uint256) = 62
TERMS_PERIOD: constant(uint256) = 20
TERMS_GRACE: constant(uint256) = 30
TERMS_TIMELOCK: constant(uint256) = 40
# Of a bond.
DEPOSITED: constant(uint256) = 96

# Why a ballot of a batch was left out.
BAD_SUPPORT: constant(uint8) = 1
BALLOT_EXPIRED: constant(uint8) = 2
BAD_SIGNATURE: constant(uint8) = 3
ALREADY_VOTED: constant(uint8) = 4
NO_VOTES: constant(uint8) = 5
OTHER_ZONE: constant(uint8) = 6

DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
DOMAIN_NAME: constant(bytes32) = keccak256("GridGovernor")
DOMAIN_VERSION: constant(bytes32) = keccak256("1")
BALLOT_TYPE_HASH: constant(bytes32) = keccak256(
    "Ballot(uint256 proposalId,uint8 support,address voter,bytes32 reasonHash,uint256 deadline)"
)
EMPTY_HASH: constant(bytes32) = keccak256("")
# Half the order of secp256k1: above it lies the mirror image of every signature.
HALF_ORDER: constant(uint256) = (
    57896044618658097711785492504343953926418782139537452191302581570759080747168
)
# Several owners' signatures; the market takes as many from a wallet.
MAX_SIGNATURE: constant(uint256) = 512
# A wallet of several owners checks a few signatures; what it burns, whoever carries it pays.
WALLET_GAS: constant(uint256) = 100_000
# With it the wallet really gets that much: a call hands on 63/64 of what is there.
WALLET_RESERVE: constant(uint256) = 110_000
# What a contract that agrees answers: bytes4(0x1626ba7e), padded on the right.
WALLET_AGREES: constant(uint256) = 371_636_862 << 224

# "#proposer=0x", and what the address behind it is written with.
PROPOSER_MARK: constant(uint256) = 10_967_915_441_013_376_328_457_334_904
ADDRESS_CHARACTERS: constant(uint256) = 40
MARK_CHARACTERS: constant(uint256) = 12
# So many zeros and ones in turn.
SPREAD_64: constant(uint256) = max_value(uint256) // (2**64 + 1)
SPREAD_32: constant(uint256) = max_value(uint256) // (2**32 + 1)
SPREAD_16: constant(uint256) = max_value(uint256) // (2**16 + 1)
SPREAD_8: constant(uint256) = max_value(uint256) // (2**8 + 1)
# One in each byte.
ONES: constant(uint256) = max_value(uint256) // 255

MASK_10: constant(uint256) = 2**10 - 1
MASK_12: constant(uint256) = 2**12 - 1
MASK_20: constant(uint256) = 2**20 - 1
MASK_22: constant(uint256) = 2**22 - 1
MASK_24: constant(uint256) = 2**24 - 1
MASK_32: constant(uint256) = 2**32 - 1
MASK_40: constant(uint256) = 2**40 - 1
MASK_64: constant(uint256) = 2**64 - 1
MASK_96: constant(uint256) = 2**96 - 1
MASK_255: constant(uint256) = 2**255 - 1


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


# Follows each ProposalCreated; zone 0 stands for all members.
event ProposalLane:
    proposalId: indexed(uint256)
    lane: indexed(uint256)
    zone: uint256


event ProposedUnderPolicy:
    proposalId: indexed(uint256)
    policyId: indexed(uint256)


event ProposalQueued:
    proposalId: uint256
    etaSeconds: uint256


event ProposalExecuted:
    proposalId: uint256


event ProposalCanceled:
    proposalId: uint256


event ProposalExtended:
    proposalId: indexed(uint256)
    extendedDeadline: uint256


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


event BondDeposited:
    account: indexed(address)
    amount: uint256


event BondWithdrawn:
    account: indexed(address)
    amount: uint256


event BondReleased:
    proposalId: indexed(uint256)
    account: indexed(address)
    amount: uint256


event BondForfeited:
    proposalId: indexed(uint256)
    account: indexed(address)
    amount: uint256


# Of the ordinary lane, as OpenZeppelin's.
event VotingDelaySet:
    oldVotingDelay: uint256
    newVotingDelay: uint256


event VotingPeriodSet:
    oldVotingPeriod: uint256
    newVotingPeriod: uint256


event LaneSet:
    lane: indexed(uint256)
    votingDelay: uint256
    votingPeriod: uint256
    gracePeriod: uint256
    timelockDelay: uint256


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
    r: uint256
    vs: uint256


# In seconds; voting and grace periods are whole hours.
struct LaneTerms:
    voting_delay: uint256
    voting_period: uint256
    grace_period: uint256
    timelock_delay: uint256


timelock: public(immutable(IGridTimelock))
token: public(immutable(IMembership))
parameters: public(immutable(IGridParameters))
forecasts: public(immutable(IForecastRegistry))
policies: public(immutable(IStandingPolicies))
treasury: public(immutable(address))
bond_token: public(immutable(IERC20))

guardian: public(address)
# The proposal that is being executed now; 0 outside of an execution
executing: public(transient(uint256))

# terms of the balancing lane:62 @82 | of the ordinary lane:62 @20 | next number:20 @0, with terms
# timelock delay:22 @40 | grace in hours:10 @30 | voting period in hours:10 @20 | voting delay:20 @0
_settings: uint256
_cores: HashMap[uint256, uint256]
_tallies: HashMap[uint256, uint256]
_operations: HashMap[uint256, bytes32]
# Voter -> proposal number // 256 -> bits
_voted: HashMap[address, HashMap[uint256, uint256]]
_bonds: HashMap[address, uint256]


# ---------------------------------------------------------------------------- #
#                                  CONSTRUCTOR                                 #
# ---------------------------------------------------------------------------- #

@deploy
def __init__(
    timelock_: address,
    membership: address,
    parameters_: address,
    forecasts_: address,
    policies_: address,
    treasury_: address,
    bond_token_: address,
    ordinary: LaneTerms,
    balancing: LaneTerms,
):
    """
    @param timelock_ Executes what passed; the governor is its proposer, canceller, executor.
    @param membership Tells the votes and the zone of a member at a past time.
    @param parameters_ Tells quorum, shares and bond; its windows are what two lanes may open.
    @param forecasts_ Tells which forecaster may propose windows, and how often.
    @param policies_ Tells what the members have agreed to in advance.
    @param treasury_ Gets the bonds that are forfeited.
    @param bond_token_ The settlement token, which bonds are in.
    @param ordinary The terms of the ordinary lane.
    @param balancing The terms of the balancing lane, and but for the voting period of policies.
    """
    ownable.__init__()
    timelock = IGridTimelock(timelock_)
    token = IMembership(membership)
    parameters = IGridParameters(parameters_)
    forecasts = IForecastRegistry(forecasts_)
    policies = IStandingPolicies(policies_)
    treasury = treasury_
    bond_token = IERC20(bond_token_)
    # Proposals count from 1.
    self._settings = 1
    self._set_lane(ORDINARY, ordinary)
    self._set_lane(BALANCING, balancing)


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
    @notice Proposes a batch of any calls to all members. Members, with a bond.
    @param targets The contracts to call, in order; at least one.
    @param values The wei that the timelock sends with each call.
    @param calldatas The ABI-encoded call of each target.
    @param description Why, with the hash of the evidence. The same calls with the same
           description are the same proposal and can be made only once. One that ends in
           `#proposer=0x` and an address can be made by that address only.
    @return The proposal's id.
    """
    self._check_lengths(len(targets), len(values), len(calldatas))
    return self._propose(ORDINARY, 0, 0, targets, values, calldatas, description)


@external
def proposeBalancing(
    targets: DynArray[address, MAX_CALLS],
    values: DynArray[uint256, MAX_CALLS],
    calldatas: DynArray[Bytes[MAX_CALLDATA], MAX_CALLS],
    description: String[MAX_DESCRIPTION],
) -> uint256:
    """
    @notice Proposes windows of one zone to the members of that zone. Forecasters with allowance,
            and members with a bond.
    @param targets Nothing but `GridParameters`.
    @param values Zeros.
    @param calldatas Calls of `open_window` and `open_windows`, all of one zone.
    @param description As for `propose`.
    @return The proposal's id.
    """
    self._check_lengths(len(targets), len(values), len(calldatas))
    # Checks every call.
    zone: uint256 = staticcall policies.zone_of(targets, values, calldatas)
    return self._propose(BALANCING, zone, 0, targets, values, calldatas, description)


@external
def proposeUnderPolicy(
    policyId: uint256,
    targets: DynArray[address, MAX_CALLS],
    values: DynArray[uint256, MAX_CALLS],
    calldatas: DynArray[Bytes[MAX_CALLDATA], MAX_CALLS],
    description: String[MAX_DESCRIPTION],
) -> uint256:
    """
    @notice Announces windows inside a standing policy; they are opened unless enough of the zone's
            members object. Forecasters with allowance, and members with a bond.
    @param policyId The policy, which is charged at once and for good.
    @param targets As for `proposeBalancing`, as are the following.
    @return The proposal's id.
    """
    self._check_lengths(len(targets), len(values), len(calldatas))
    # Checks every call.
    agreed: uint256 = extcall policies.use(policyId, msg.sender, targets, values, calldatas)
    id: uint256 = self._propose(
        POLICY, agreed & MASK_32, agreed >> 32, targets, values, calldatas, description
    )
    log ProposedUnderPolicy(proposalId=id, policyId=policyId)
    return id


@external
def queue(
    targets: DynArray[address, MAX_CALLS],
    values: DynArray[uint256, MAX_CALLS],
    calldatas: DynArray[Bytes[MAX_CALLDATA], MAX_CALLS],
    descriptionHash: bytes32,
) -> uint256:
    """
    @notice Hands a proposal that passed to the timelock, for the delay of its lane and at least
            the timelock's own. Anyone.
    @return The proposal's id.
    """
    id: uint256 = self._id(targets, values, calldatas, descriptionHash)
    assert self._state(id) == SUCCEEDED, "governor: proposal has not succeeded"
    terms: uint256 = self._settings >> TERMS
    if (self._cores[id] >> LANE) & 3 != ORDINARY:
        terms = terms >> TERMS_BITS
    delay: uint256 = max((terms >> TERMS_TIMELOCK) & MASK_22, staticcall timelock.getMinDelay())
    salt: bytes32 = self._salt(descriptionHash)
    eta: uint256 = block.timestamp + delay
    self._operations[id] = keccak256(
        abi_encode(targets, values, calldatas, empty(bytes32), salt)
    )
    self._tallies[id] |= eta << ETA
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
    @dev The proposal is marked before the calls, and the timelock runs no batch inside another, so
         `executing` is never overwritten by a proposal within a proposal.
    @return The proposal's id.
    """
    id: uint256 = self._id(targets, values, calldatas, descriptionHash)
    assert self._state(id) == QUEUED, "governor: proposal is not queued"
    self._tallies[id] |= EXECUTED_FLAG
    log ProposalExecuted(proposalId=id)
    self.executing = id
    extcall timelock.executeBatch(
        targets, values, calldatas, empty(bytes32), self._salt(descriptionHash)
    )
    self.executing = 0
    return id


@external
def cancel(
    targets: DynArray[address, MAX_CALLS],
    values: DynArray[uint256, MAX_CALLS],
    calldatas: DynArray[Bytes[MAX_CALLDATA], MAX_CALLS],
    descriptionHash: bytes32,
) -> uint256:
    """
    @notice Takes a proposal back: its proposer while it is pending; the guardian, in every lane
            but the ordinary one, at any time before its execution.
    @return The proposal's id.
    """
    id: uint256 = self._id(targets, values, calldatas, descriptionHash)
    now_in: uint256 = self._state(id)
    core: uint256 = self._cores[id]
    guards: bool = msg.sender == self.guardian and (core >> LANE) & 3 != ORDINARY
    assert (
        guards or msg.sender == convert(core >> PROPOSER, address)
    ), "governor: caller may not cancel"
    assert now_in == PENDING or (
        guards and (now_in == ACTIVE or now_in == SUCCEEDED or now_in == QUEUED)
    ), "governor: too late to cancel"
    flags: uint256 = CANCELED_FLAG
    if now_in <= ACTIVE:
        flags |= CUT_SHORT_FLAG
    self._tallies[id] |= flags
    if now_in == QUEUED:
        extcall timelock.cancel(self._operations[id])
    log ProposalCanceled(proposalId=id)
    return id


# ---------------------------------------------------------------------------- #
#                                EXTERNAL: BONDS                               #
# ---------------------------------------------------------------------------- #

@external
def depositBond(amount: uint256):
    """
    @notice Adds to the caller's bond from its allowance. Each of a member's proposals locks some
            of it until its vote is over.
    @param amount In micro euro.
    """
    word: uint256 = self._bonds[msg.sender]
    assert amount != 0, "governor: amount is zero"
    assert amount <= MASK_96 - (word >> DEPOSITED), "governor: amount out of range"
    self._bonds[msg.sender] = word + (amount << DEPOSITED)
    log BondDeposited(account=msg.sender, amount=amount)
    # A token that is not what it should be cannot re-enter to any gain: all is booked.
    assert extcall bond_token.transferFrom(
        msg.sender, self, amount, default_return_value=True
    ), "governor: transfer failed"


@external
def withdrawBond(amount: uint256):
    """
    @notice Pays out some of the caller's bond that is not locked.
    @param amount In micro euro.
    """
    word: uint256 = self._bonds[msg.sender]
    assert amount != 0, "governor: amount is zero"
    assert amount <= (word >> DEPOSITED) - (word & MASK_96), "governor: more than the free bond"
    self._bonds[msg.sender] = word - (amount << DEPOSITED)
    log BondWithdrawn(account=msg.sender, amount=amount)
    self._pay(msg.sender, amount)


@external
def releaseBond(proposalId: uint256):
    """
    @notice Frees the bond of a proposal once its vote is over or it was cancelled. Where as many
            votes were cast as the outcome needs, and vetoes are at least the forfeit share of
            them, it goes to the treasury instead. Anyone.
    @dev Without the first condition a single veto in a vote that nobody heeds would be all votes
         cast. A vote that a cancellation cut short forfeits nothing: whoever cancels must not
         choose the moment.
    """
    now_in: uint256 = self._state(proposalId)
    assert now_in != PENDING and now_in != ACTIVE, "governor: vote is not over"
    core: uint256 = self._cores[proposalId]
    tally: uint256 = self._tallies[proposalId]
    amount: uint256 = self._locked_by(core, tally)
    assert amount != 0, "governor: proposal locks no bond"
    self._tallies[proposalId] = tally | RELEASED_FLAG
    account: address = convert(core >> PROPOSER, address)
    word: uint256 = self._bonds[account] - amount
    if not self._is_abuse(core, tally):
        self._bonds[account] = word
        log BondReleased(proposalId=proposalId, account=account, amount=amount)
        return
    self._bonds[account] = word - (amount << DEPOSITED)
    log BondForfeited(proposalId=proposalId, account=account, amount=amount)
    self._pay(treasury, amount)


# ---------------------------------------------------------------------------- #
#                               EXTERNAL: BALLOTS                              #
# ---------------------------------------------------------------------------- #

@external
def castVote(proposalId: uint256, support: uint8) -> uint256:
    """
    @notice Votes on an active proposal, once and for good.
    @param proposalId The proposal.
    @param support 0 against, 1 for, 2 abstain, 3 against with a veto.
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
    signature: Bytes[MAX_SIGNATURE],
) -> uint256:
    """
    @notice Casts the ballot that `voter` signed; anyone may carry it.
    @param proposalId The proposal.
    @param support 0 against, 1 for, 2 abstain, 3 against with a veto.
    @param voter Who signed, and whose votes count.
    @param reason Its keccak256 is what the ballot covers, of the empty text too.
    @param deadline Unix time after which the ballot counts no more.
    @param signature 65 bytes r s v, or 64 bytes r vs (EIP-2098); of a contract whatever it asks
           for (ERC-1271).
    @return The votes that counted.
    """
    assert block.timestamp <= deadline, "governor: ballot expired"
    digest: bytes32 = self._digest(proposalId, support, voter, keccak256(reason), deadline)
    signed: bool = False
    if len(signature) == 64:
        vs: uint256 = extract32(signature, 32, output_type=uint256)
        signed = self._is_signed(
            digest,
            voter,
            extract32(signature, 0, output_type=uint256),
            vs & MASK_255,
            27 + (vs >> 255),
        )
    elif len(signature) == 65:
        signed = self._is_signed(
            digest,
            voter,
            extract32(signature, 0, output_type=uint256),
            extract32(signature, 32, output_type=uint256),
            convert(slice(signature, 64, 1), uint256),
        )
    if not signed:
        signed = self._wallet_agrees(voter, digest, signature)
    assert signed, "governor: bad signature"
    return self._cast(proposalId, voter, support, reason)


@external
def castBallots(proposalId: uint256, ballots: DynArray[Ballot, MAX_BALLOTS]) -> uint256:
    """
    @notice Casts many signed ballots at once. One that cannot count is left out, with an event
            that says why, and the rest goes on.
    @dev A ballot signs the same as for `castVoteBySig`; the batch carries the hash of its
         reason. A contract gets its ballot's r and vs as 65 bytes r s v (ERC-1271). The proposal
         must be active, or the whole batch reverts: nothing could count.
    @param proposalId The proposal.
    @param ballots Packed as `Ballot` says.
    @return How many ballots counted.
    """
    core: uint256 = 0
    before: uint256 = 0
    core, before = self._active(proposalId)
    tally: uint256 = before
    word_index: uint256 = (core & MASK_20) >> 8
    bit: uint256 = 1 << (core & 255)
    counted: uint256 = 0
    for ballot: Ballot in ballots:
        voter: address = convert(ballot.head >> 96, address)
        support: uint256 = (ballot.head >> 88) & 255
        deadline: uint256 = (ballot.head >> 48) & MASK_40
        word: uint256 = self._voted[voter][word_index]
        votes: uint256 = 0
        rejection: uint8 = 0
        if support > LAST_SUPPORT:
            rejection = BAD_SUPPORT
        elif block.timestamp > deadline:
            rejection = BALLOT_EXPIRED
        elif word & bit != 0:
            rejection = ALREADY_VOTED
        elif not self._is_ballot_signed(
            self._digest(
                proposalId, convert(support, uint8), voter, ballot.reason_hash, deadline
            ),
            voter,
            ballot.r,
            ballot.vs,
        ):
            rejection = BAD_SIGNATURE
        else:
            votes, rejection = self._votes_of(core, voter)
        if rejection != 0:
            log BallotRejected(proposalId=proposalId, voter=voter, reason=rejection)
            continue
        self._voted[voter][word_index] = word | bit
        # No counter overflows: all votes together are the members, less than 2**24.
        tally += votes << (VOTES * support)
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
    self._tallies[proposalId] = self._extended(proposalId, core, before, tally)
    return counted


# ---------------------------------------------------------------------------- #
#                              EXTERNAL: SETTINGS                              #
# ---------------------------------------------------------------------------- #

@external
def setLane(
    lane: uint256,
    votingDelay: uint256,
    votingPeriod: uint256,
    gracePeriod: uint256,
    timelockDelay: uint256,
):
    """
    @notice Sets the terms of a lane, in seconds: the timelock's delay for what is queued later,
            the others for later proposals. Owner only.
    @param lane 0 ordinary, or 1 balancing, whose terms policies follow but for the voting period.
    @param votingDelay From a proposal to its snapshot.
    @param votingPeriod From the snapshot to the deadline; whole hours.
    @param gracePeriod In which a passed proposal must be queued, and again in which a queued one
           must be executed; whole hours.
    @param timelockDelay From the queue to the execution; the timelock's own delay counts where it
           is longer.
    """
    ownable._check_owner()
    self._set_lane(
        lane,
        LaneTerms(
            voting_delay=votingDelay,
            voting_period=votingPeriod,
            grace_period=gracePeriod,
            timelock_delay=timelockDelay,
        ),
    )


@external
def setGuardian(guardian: address):
    """
    @notice Appoints who may cancel proposals outside the ordinary lane; the zero address leaves
            the office empty. Owner only.
    """
    ownable._check_owner()
    self.guardian = guardian
    log GuardianChanged(guardian=guardian)


# ---------------------------------------------------------------------------- #
#                                     VIEW                                     #
# ---------------------------------------------------------------------------- #

@view
@external
def eip712Domain() -> (
    bytes1, String[12], String[1], uint256, address, bytes32, DynArray[uint256, 1]
):
    """
    @return The domain that ballots are signed under (ERC-5267).
    """
    return 0x0F, "GridGovernor", "1", chain.id, self, empty(bytes32), []


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
    @return How votes count: against, for, abstain, the last two towards the quorum. A veto, 3, is
            a vote against that also speaks against the proposer's bond.
    """
    return "support=bravo&quorum=for,abstain"


@view
@external
def laneTerms(lane: uint256) -> LaneTerms:
    """
    @return Voting delay, voting period, grace period and timelock delay of a lane, in seconds.
    """
    assert lane <= BALANCING, "governor: lane has no terms of its own"
    return self._terms(lane)


@view
@external
def votingDelay() -> uint256:
    """
    @return Seconds from a proposal of the ordinary lane to its snapshot.
    """
    return self._terms(ORDINARY).voting_delay


@view
@external
def votingPeriod() -> uint256:
    """
    @return Seconds from the snapshot to the deadline in the ordinary lane.
    """
    return self._terms(ORDINARY).voting_period


@pure
@external
def proposalThreshold() -> uint256:
    """
    @return Votes that a proposer needs: none. It takes a membership and a bond, and who has lent
            its vote has both.
    """
    return 0


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
    @return Votes for and abstaining that an ordinary proposal with this past snapshot needs,
            rounded up.
    """
    return self._quorum(timepoint)


@view
@external
def quorumOf(proposalId: uint256) -> uint256:
    """
    @return Votes for and abstaining that the proposal needs; under a policy the votes against that
            stop it. Both rounded up, and known from the snapshot on.
    """
    return self._needed(self._core(proposalId))


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
    @return Votes against (with a veto or without), for, abstaining.
    """
    tally: uint256 = self._tallies[proposalId]
    return self._against(tally), (tally >> 24) & MASK_24, (tally >> 48) & MASK_24


@view
@external
def proposalVetoes(proposalId: uint256) -> uint256:
    """
    @return Votes against that came with a veto.
    """
    return (self._tallies[proposalId] >> 72) & MASK_24


@view
@external
def proposalSnapshot(proposalId: uint256) -> uint256:
    """
    @return The time at which votes and quorum are read; voting starts right after it.
    """
    return (self._core(proposalId) >> SNAPSHOT) & MASK_32


@view
@external
def proposalDeadline(proposalId: uint256) -> uint256:
    """
    @return The last moment in which a ballot counts; later once a late quorum extended the vote.
    """
    return self._deadline(self._core(proposalId), self._tallies[proposalId])


@view
@external
def proposalEta(proposalId: uint256) -> uint256:
    """
    @return From when on a queued proposal can be executed; 0 where it was never queued.
    """
    return (self._tallies[proposalId] >> ETA) & MASK_40


@view
@external
def proposalExpiry(proposalId: uint256) -> uint256:
    """
    @return The last moment in which a passed proposal can be queued, or once queued, executed.
    """
    core: uint256 = self._core(proposalId)
    tally: uint256 = self._tallies[proposalId]
    return max((tally >> ETA) & MASK_40, self._deadline(core, tally)) + self._grace(core)


@view
@external
def proposalProposer(proposalId: uint256) -> address:
    """
    @return Who made the proposal.
    """
    return convert(self._core(proposalId) >> PROPOSER, address)


@view
@external
def proposalLane(proposalId: uint256) -> uint256:
    """
    @return 0 ordinary, 1 balancing, 2 under a policy.
    """
    return (self._core(proposalId) >> LANE) & 3


@view
@external
def proposalZone(proposalId: uint256) -> uint256:
    """
    @return The zone whose members vote; 0 for all members.
    """
    return (self._core(proposalId) >> ZONE) & MASK_10


@view
@external
def proposalBond(proposalId: uint256) -> uint256:
    """
    @return What the proposal locks of its proposer's bond, in micro euro; 0 once released.
    """
    return self._locked_by(self._core(proposalId), self._tallies[proposalId])


@view
@external
def bondOf(account: address) -> (uint256, uint256):
    """
    @return The account's bond, and how much of it is locked, in micro euro.
    """
    word: uint256 = self._bonds[account]
    return word >> DEPOSITED, word & MASK_96


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
#                              INTERNAL: PROPOSALS                             #
# ---------------------------------------------------------------------------- #

@pure
@internal
def _check_lengths(targets: uint256, values: uint256, calldatas: uint256):
    assert targets != 0, "governor: no calls"
    assert targets == values, "governor: one value per target"
    assert targets == calldatas, "governor: one calldata per target"


@internal
def _stake(lane: uint256, zone: uint256) -> uint256:
    """
    @notice What the caller answers with: a forecaster with its allowance, a member with a bond.
    @return The bond in whole euros.
    """
    since: uint256 = staticcall token.member_since(msg.sender)
    if lane != ORDINARY:
        total: uint256 = 0
        used: uint256 = 0
        if since != 0:
            # A forecaster that is a member too needs no bond while it has allowance.
            total, used = staticcall forecasts.allowance(msg.sender, zone)
        if since == 0 or used < total:
            # Says why, where there is none.
            extcall forecasts.use_allowance(msg.sender, zone)
            return 0
    assert since != 0, "governor: proposer is not a member"
    assert (
        since + staticcall parameters.value(HOLDING_TIME) <= block.timestamp
    ), "governor: proposer joined too recently"
    bond: uint256 = staticcall parameters.value(PROPOSAL_BOND)
    if bond != 0:
        word: uint256 = self._bonds[msg.sender]
        amount: uint256 = bond * EURO
        assert (
            amount <= (word >> DEPOSITED) - (word & MASK_96)
        ), "governor: proposer has no free bond"
        self._bonds[msg.sender] = word + amount
    return bond


@internal
def _propose(
    lane: uint256,
    zone: uint256,
    hours: uint256,
    targets: DynArray[address, MAX_CALLS],
    values: DynArray[uint256, MAX_CALLS],
    calldatas: DynArray[Bytes[MAX_CALLDATA], MAX_CALLS],
    description: String[MAX_DESCRIPTION],
) -> uint256:
    """
    @param hours The voting period; 0 for that of the lane.
    """
    assert self._may_describe(description), "governor: description names another proposer"
    id: uint256 = self._id(targets, values, calldatas, keccak256(description))
    assert self._cores[id] == 0, "governor: already proposed"
    bond: uint256 = self._stake(lane, zone)
    settings: uint256 = self._settings
    number: uint256 = settings & MASK_20
    assert number < MASK_20, "governor: no numbers left"
    self._settings = settings + 1
    terms: uint256 = settings >> TERMS
    if lane != ORDINARY:
        terms = terms >> TERMS_BITS
    period: uint256 = hours
    if period == 0:
        period = (terms >> TERMS_PERIOD) & MASK_10
    snapshot: uint256 = block.timestamp + (terms & MASK_20)
    assert snapshot <= MASK_32, "governor: clock out of range"
    self._cores[id] = (
        (convert(msg.sender, uint256) << PROPOSER)
        | (lane << LANE)
        | (snapshot << SNAPSHOT)
        | (bond << BOND)
        | (zone << ZONE)
        | (period << PERIOD)
        | (((terms >> TERMS_GRACE) & MASK_10) << GRACE)
        | number
    )
    signatures: DynArray[String[1], MAX_CALLS] = []
    for i: uint256 in range(len(targets), bound=MAX_CALLS):
        signatures.append("")
    log ProposalCreated(
        proposalId=id,
        proposer=msg.sender,
        targets=targets,
        values=values,
        signatures=signatures,
        calldatas=calldatas,
        voteStart=snapshot,
        voteEnd=snapshot + period * HOUR,
        description=description,
    )
    log ProposalLane(proposalId=id, lane=lane, zone=zone)
    return id


@view
@internal
def _may_describe(description: String[MAX_DESCRIPTION]) -> bool:
    """
    @return Whether the description ends in no proposer's mark, or in that of the caller.
    @dev OpenZeppelin lets a mark with anything but an address pass; here nobody can use it.
    """
    length: uint256 = len(description)
    if length < MARK_CHARACTERS + ADDRESS_CHARACTERS:
        return True
    start: uint256 = length - (MARK_CHARACTERS + ADDRESS_CHARACTERS)
    tail: Bytes[52] = convert(slice(description, start, 52), Bytes[52])
    if extract32(tail, 0, output_type=uint256) >> 160 != PROPOSER_MARK:
        return True
    # Letters of either case count: bit 5 is what tells them apart, and digits have it set.
    lower: uint256 = ONES << 5
    high: uint256 = extract32(tail, 12, output_type=uint256) | lower
    low: uint256 = (extract32(tail, 20, output_type=uint256) | lower) & MASK_64
    caller: uint256 = convert(msg.sender, uint256)
    return high == self._hex(caller >> 32) and low == self._hex(caller & MASK_32) & MASK_64


@pure
@internal
def _hex(number: uint256) -> uint256:
    """
    @return The 32 characters that write a number of 128 bits, lower case.
    """
    # Halves move apart until each byte holds four bits.
    spread: uint256 = (number | (number << 64)) & SPREAD_64
    spread = (spread | (spread << 32)) & SPREAD_32
    spread = (spread | (spread << 16)) & SPREAD_16
    spread = (spread | (spread << 8)) & SPREAD_8
    spread = (spread | (spread << 4)) & (15 * ONES)
    # Six more carry into the next bit from ten on; "a" lies 39 beyond where "9" ends.
    letters: uint256 = ((spread + 6 * ONES) >> 4) & ONES
    return spread + 48 * ONES + 39 * letters


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
def _deadline(core: uint256, tally: uint256) -> uint256:
    extended: uint256 = tally >> EXTENDED
    if extended != 0:
        return extended
    return ((core >> SNAPSHOT) & MASK_32) + ((core >> PERIOD) & MASK_10) * HOUR


@pure
@internal
def _grace(core: uint256) -> uint256:
    return ((core >> GRACE) & MASK_10) * HOUR


@pure
@internal
def _locked_by(core: uint256, tally: uint256) -> uint256:
    if tally & RELEASED_FLAG != 0:
        return 0
    return ((core >> BOND) & MASK_12) * EURO


@view
@internal
def _state(id: uint256) -> uint256:
    core: uint256 = self._core(id)
    tally: uint256 = self._tallies[id]
    if tally & EXECUTED_FLAG != 0:
        return EXECUTED
    if tally & CANCELED_FLAG != 0:
        return CANCELED
    if block.timestamp <= (core >> SNAPSHOT) & MASK_32:
        return PENDING
    deadline: uint256 = self._deadline(core, tally)
    if block.timestamp <= deadline:
        return ACTIVE
    eta: uint256 = (tally >> ETA) & MASK_40
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
    if not self._passed(core, tally):
        return DEFEATED
    if block.timestamp > deadline + self._grace(core):
        return EXPIRED
    return SUCCEEDED


@internal
def _pay(to: address, amount: uint256):
    assert extcall bond_token.transfer(
        to, amount, default_return_value=True
    ), "governor: transfer failed"


# ---------------------------------------------------------------------------- #
#                              INTERNAL: COUNTING                              #
# ---------------------------------------------------------------------------- #

@pure
@internal
def _share(members: uint256, fraction: uint256) -> uint256:
    return (members * fraction + BASIS_POINTS - 1) // BASIS_POINTS


@view
@internal
def _quorum(timepoint: uint256) -> uint256:
    return self._share(
        staticcall token.getPastTotalSupply(timepoint),
        staticcall parameters.value_at(QUORUM, timepoint),
    )


@view
@internal
def _needed(core: uint256) -> uint256:
    """
    @return The votes that decide, of the electorate at the snapshot: those that make a quorum, or
            under a policy those against that stop it. Nobody can be counted on in a zone without
            members: zero then, so that nothing passes there.
    """
    snapshot: uint256 = (core >> SNAPSHOT) & MASK_32
    zone: uint256 = (core >> ZONE) & MASK_10
    if zone == 0:
        return self._quorum(snapshot)
    fraction: uint256 = 0
    if (core >> LANE) & 3 == POLICY:
        fraction = staticcall parameters.value_at(VETO_SHARE, snapshot)
    else:
        fraction = staticcall parameters.value_at(ZONE_QUORUM, snapshot)
        if fraction == 0:
            fraction = staticcall parameters.value_at(QUORUM, snapshot)
    return self._share(staticcall token.getPastZoneSupply(zone, snapshot), fraction)


@pure
@internal
def _against(tally: uint256) -> uint256:
    return (tally & MASK_24) + ((tally >> 72) & MASK_24)


@pure
@internal
def _for_or_abstaining(tally: uint256) -> uint256:
    return ((tally >> 24) & MASK_24) + ((tally >> 48) & MASK_24)


@view
@internal
def _passed(core: uint256, tally: uint256) -> bool:
    if (core >> LANE) & 3 == POLICY:
        return self._against(tally) < self._needed(core)
    if (tally >> 24) & MASK_24 <= self._against(tally):
        return False
    return self._for_or_abstaining(tally) >= self._needed(core)


@view
@internal
def _is_abuse(core: uint256, tally: uint256) -> bool:
    """
    @return Whether the vote takes the proposer's bond.
    """
    vetoes: uint256 = (tally >> 72) & MASK_24
    if vetoes == 0 or tally & CUT_SHORT_FLAG != 0:
        return False
    cast: uint256 = self._against(tally) + self._for_or_abstaining(tally)
    fraction: uint256 = staticcall parameters.value_at(
        FORFEIT_SHARE, (core >> SNAPSHOT) & MASK_32
    )
    return vetoes * BASIS_POINTS >= cast * fraction and cast >= self._needed(core)


@internal
def _extended(id: uint256, core: uint256, before: uint256, tally: uint256) -> uint256:
    """
    @notice A quorum reached in the last eighth of the voting period gives the others an eighth to
            answer, once. Under a policy there is none to reach.
    @return The tally, with the new deadline where there is one.
    """
    if tally >> EXTENDED != 0 or (core >> LANE) & 3 == POLICY:
        return tally
    eighth: uint256 = ((core >> PERIOD) & MASK_10) * HOUR // 8
    if block.timestamp + eighth <= self._deadline(core, tally):
        return tally
    needed: uint256 = self._needed(core)
    if self._for_or_abstaining(before) >= needed or self._for_or_abstaining(tally) < needed:
        return tally
    deadline: uint256 = block.timestamp + eighth
    log ProposalExtended(proposalId=id, extendedDeadline=deadline)
    return tally | (deadline << EXTENDED)


# ---------------------------------------------------------------------------- #
#                               INTERNAL: BALLOTS                              #
# ---------------------------------------------------------------------------- #

@view
@internal
def _active(id: uint256) -> (uint256, uint256):
    """
    @return Core and tally of a proposal whose vote is open.
    """
    core: uint256 = self._core(id)
    tally: uint256 = self._tallies[id]
    assert block.timestamp > (core >> SNAPSHOT) & MASK_32, "governor: vote not active"
    assert block.timestamp <= self._deadline(core, tally), "governor: vote not active"
    assert tally & CANCELED_FLAG == 0, "governor: vote not active"
    return core, tally


@view
@internal
def _votes_of(core: uint256, voter: address) -> (uint256, uint8):
    """
    @return The voter's votes at the snapshot, and why they do not count, or 0.
    """
    weight: uint256 = staticcall token.past_weight(voter, (core >> SNAPSHOT) & MASK_32)
    if weight & MASK_64 == 0:
        return 0, NO_VOTES
    zone: uint256 = (core >> ZONE) & MASK_10
    if zone != 0 and zone != weight >> 64:
        return 0, OTHER_ZONE
    return weight & MASK_64, 0


@internal
def _cast(
    id: uint256, voter: address, support: uint8, reason: String[MAX_REASON]
) -> uint256:
    core: uint256 = 0
    tally: uint256 = 0
    core, tally = self._active(id)
    kind: uint256 = convert(support, uint256)
    assert kind <= LAST_SUPPORT, "governor: support is not 0, 1, 2 or 3"
    word_index: uint256 = (core & MASK_20) >> 8
    bit: uint256 = 1 << (core & 255)
    word: uint256 = self._voted[voter][word_index]
    assert word & bit == 0, "governor: already voted"
    votes: uint256 = 0
    rejection: uint8 = 0
    votes, rejection = self._votes_of(core, voter)
    assert rejection != NO_VOTES, "governor: no votes at the snapshot"
    assert rejection != OTHER_ZONE, "governor: voter lives in another zone"
    self._voted[voter][word_index] = word | bit
    # No counter overflows: all votes together are the members, less than 2**24.
    self._tallies[id] = self._extended(id, core, tally, tally + (votes << (VOTES * kind)))
    log VoteCast(voter=voter, proposalId=id, support=support, weight=votes, reason=reason)
    return votes


@view
@internal
def _digest(
    id: uint256, support: uint8, voter: address, reason_hash: bytes32, deadline: uint256
) -> bytes32:
    # The domain is hashed anew each time: on a chain that splits off, its ballots are its own.
    domain: bytes32 = keccak256(
        abi_encode(DOMAIN_TYPE, DOMAIN_NAME, DOMAIN_VERSION, chain.id, self)
    )
    ballot: bytes32 = keccak256(
        abi_encode(BALLOT_TYPE_HASH, id, support, voter, reason_hash, deadline)
    )
    return keccak256(concat(b"\x19\x01", domain, ballot))


@pure
@internal
def _is_signed(digest: bytes32, voter: address, r: uint256, s: uint256, v: uint256) -> bool:
    if s > HALF_ORDER:
        return False
    signer: address = ecrecover(digest, v, r, s)
    # `ecrecover` answers zero for what is no signature at all.
    return signer != empty(address) and signer == voter


@view
@internal
def _is_ballot_signed(digest: bytes32, voter: address, r: uint256, vs: uint256) -> bool:
    s: uint256 = vs & MASK_255
    v: uint256 = 27 + (vs >> 255)
    if self._is_signed(digest, voter, r, s, v):
        return True
    if not voter.is_contract:
        return False
    signature: Bytes[65] = concat(
        convert(r, bytes32), convert(s, bytes32), convert(convert(v, uint8), bytes1)
    )
    return self._wallet_agrees(voter, digest, signature)


@view
@internal
def _wallet_agrees(wallet: address, digest: bytes32, signature: Bytes[MAX_SIGNATURE]) -> bool:
    """
    @return Whether a contract takes the signature for its own (ERC-1271).
    @dev A static call: whatever the contract does, nothing has changed when it answers.
    """
    if not wallet.is_contract:
        return False
    # Too little gas to give would turn a good ballot away.
    assert msg.gas >= WALLET_RESERVE, "governor: too little gas for a wallet"
    success: bool = False
    answer: Bytes[32] = b""
    success, answer = raw_call(
        wallet,
        abi_encode(digest, signature, method_id=method_id("isValidSignature(bytes32,bytes)")),
        max_outsize=32,
        gas=WALLET_GAS,
        is_static_call=True,
        revert_on_failure=False,
    )
    return success and len(answer) == 32 and convert(answer, uint256) == WALLET_AGREES


# ---------------------------------------------------------------------------- #
#                              INTERNAL: SETTINGS                              #
# ---------------------------------------------------------------------------- #

@view
@internal
def _terms(lane: uint256) -> LaneTerms:
    terms: uint256 = self._settings >> (TERMS + TERMS_BITS * lane)
    return LaneTerms(
        voting_delay=terms & MASK_20,
        voting_period=((terms >> TERMS_PERIOD) & MASK_10) * HOUR,
        grace_period=((terms >> TERMS_GRACE) & MASK_10) * HOUR,
        timelock_delay=(terms >> TERMS_TIMELOCK) & MASK_22,
    )


@internal
def _set_lane(lane: uint256, terms: LaneTerms):
    """
    @dev What the ordinary lane decides can be objected to, discussed and left in time; what the
         balancing lane decides is bounded, and must hold tomorrow. Neither may last so long that
         the members are locked out of their own rules.
    """
    assert lane <= BALANCING, "governor: lane has no terms of its own"
    # The snapshot must lie after the proposal, or its proposer could still gather votes for it.
    least_delay: uint256 = 1
    most_delay: uint256 = DAY
    # An hour reaches those who are awake.
    least: uint256 = HOUR
    most: uint256 = DAY
    # One slot: the shortest time in which a gateway that polls every slot sees what is coming.
    least_timelock: uint256 = 900
    if lane == ORDINARY:
        least_delay = HOUR
        most_delay = 7 * DAY
        least = DAY
        most = 30 * DAY
        least_timelock = DAY
    assert (
        terms.voting_delay >= least_delay and terms.voting_delay <= most_delay
    ), "governor: voting delay out of range"
    assert (
        terms.timelock_delay >= least_timelock and terms.timelock_delay <= most
    ), "governor: timelock delay out of range"
    period: uint256 = self._hours(terms.voting_period, least, most)
    grace: uint256 = self._hours(terms.grace_period, least, most)
    if lane == ORDINARY:
        before: LaneTerms = self._terms(ORDINARY)
        log VotingDelaySet(
            oldVotingDelay=before.voting_delay, newVotingDelay=terms.voting_delay
        )
        log VotingPeriodSet(
            oldVotingPeriod=before.voting_period, newVotingPeriod=terms.voting_period
        )
    log LaneSet(
        lane=lane,
        votingDelay=terms.voting_delay,
        votingPeriod=terms.voting_period,
        gracePeriod=terms.grace_period,
        timelockDelay=terms.timelock_delay,
    )
    place: uint256 = TERMS + TERMS_BITS * lane
    packed: uint256 = (
        terms.voting_delay
        | (period << TERMS_PERIOD)
        | (grace << TERMS_GRACE)
        | (terms.timelock_delay << TERMS_TIMELOCK)
    )
    self._settings = (
        self._settings & ~((2**TERMS_BITS - 1) << place)
    ) | (packed << place)


@pure
@internal
def _hours(seconds: uint256, least: uint256, most: uint256) -> uint256:
    assert seconds >= least and seconds <= most, "governor: period out of range"
    assert seconds % HOUR == 0, "governor: period is not in whole hours"
    return seconds // HOUR
