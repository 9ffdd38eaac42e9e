# pragma version ~=0.4.3
# @license AGPL-3.0-only
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Forecast registry
@notice A forecaster puts up a bond, commits the hash of a whole day of a zone before the
        deadline, reveals it afterwards, and is scored once the day's totals are final: by
        pinball loss, against a naive forecast that the contract makes itself. It can neither
        choose what it said after the fact nor be judged twice.

           |-- commit --|-- reveal ----------- day ------------------|-- score, or miss ...
                        deadline          first slot   last slot     end + FINALITY
                        = first slot - FORECAST_LEAD                 reveal ends

        What follows from the score: a day worse than naive cuts the bond, a better one earns a
        reward out of the pool that the cuts fill, and skill decides how many balancing
        proposals a day the forecaster may make. What was committed and not revealed costs as
        much as the worst day, so hiding a bad forecast never pays. A member may dispute a
        forecast; who is liable for it is decided by a vote and stays on record.

        A forecast is 48 words. Word w holds the slots 2w (bits 0 to 95) and 2w + 1 (bits 96 to
        191) of the day, zero above. Of a slot's 96 bits the lowest 32 are the 10 % quantile,
        the next 32 the median, the highest 32 the 90 % quantile of the zone's net energy in
        Wh, import minus export, each an int32 in two's complement, none below the one before.

            forecast_hash = keccak256(words as 48 * 32 bytes, big-endian)
            committed     = keccak256(abi.encode(uint256 zone, uint256 first_slot,
                                address forecaster, bytes32 forecast_hash,
                                bytes32 evidence_hash, bytes32 salt))

        The forecaster's address is in the hash, so a copied commitment cannot be revealed.
@dev One word per forecast, which keeps the upper 208 bits of a hash (to find two forecasts
     with the same ones takes 2**104 trials):

         forecast  hash @48 | committed at:40 @8 | disputed:1 @7 | status:7 @0
         day       day:32 @224 | status:8 @192 | naive loss:96 @96 | loss:96 @0   (ring of 28)
         bond      open disputes:23 @233 | allowed:1 @232 | unlocked at:40 @192
                   | leaving:96 @96 | bond:96 @0
         span      proposals used:32 @96 | on day:32 @64 | latest day with a result:32 @32
                   | first day committed:32 @0

     Every rule that bears on a forecast (lead, finality, spread, exemptions, homes, largest
     slash and reward) is taken as it stood when the forecast was committed, so no vote changes
     a score afterwards. Standing and allowance follow the rules of now.

     Loss of a quantile q for tau permille against y, in permille * Wh:
         tau * (y - q) if y >= q else (1000 - tau) * (q - y),   summed over 100, 500, 900.
     Naive: median = net energy of the same slot one week earlier, 10 % and 90 % quantiles
     NAIVE_SPREAD below and above it.

     Money: tokens held = all bonds + reward pool. A slash moves from a bond to the pool, a
     reward from the pool to a bond, so neither can pay out what is not there.
         slash  = MAX_SLASH  * (loss - naive) // naive, at most MAX_SLASH and the bond
         reward = MAX_REWARD * (naive - loss) // naive, at most the pool
"""

from ethereum.ercs import IERC20
from snekmate.auth import ownable
from interfaces import IForecastRegistry
from interfaces import IReadingLedger

implements: IForecastRegistry
initializes: ownable
exports: (ownable.owner, ownable.transfer_ownership)


interface Rules:
    def value(key: uint256) -> uint256: view
    def value_at(key: uint256, when: uint256) -> uint256: view
    def exempt_slots(zone: uint256, first_slot: uint256) -> uint256: view


interface Members:
    def is_member(account: address) -> bool: view


struct Dispute:
    forecaster: address
    zone: uint256
    first_slot: uint256
    complainant: address
    opened_at: uint256
    # 0 there is none, 1 open, 2 decided, 3 closed without a decision
    status: uint256
    # Once decided: who is liable, zero for nobody, and for how much, in micro euro.
    liable: address
    amount: uint256


# ---------------------------------------------------------------------------- #
#                                   CONSTANTS                                  #
# ---------------------------------------------------------------------------- #

SLOT_SECONDS: constant(uint256) = 900
SLOTS_PER_DAY: constant(uint256) = 96
DAY: constant(uint256) = 86_400
WEEK_SLOTS: constant(uint256) = 672
# Two slots of three int32 a word.
WORDS: constant(uint256) = 48
LANE_BITS: constant(uint256) = 96

# Skill is judged over four weeks: long enough that a weekend does not decide it.
SKILL_DAYS: public(constant(uint256)) = 28
# A forecast speaks of a day that starts within two days.
MAX_AHEAD: public(constant(uint256)) = 2 * DAY
# Complaints about a day are heard for two weeks after its end.
DISPUTE_PERIOD: public(constant(uint256)) = 14 * DAY
# An ordinary decision takes eight days; a complaint that nobody brings to a vote lapses.
DISPUTE_LAPSE: public(constant(uint256)) = 30 * DAY
# Two days ahead, the day, and the time for complaints, which is longer than any finality: what a
# bond announced right after a commitment backs is scored, and disputed or not, before it leaves.
WITHDRAWAL_DELAY: public(constant(uint256)) = 17 * DAY
# Whoever scores gets a day for it before the day counts as missed.
SCORE_PERIOD: public(constant(uint256)) = DAY
# The homes behind the totals are read every six hours, the longest common session.
HOMES_STEP: constant(uint256) = 24

# Keys of `GridParameters`.
FORECAST_LEAD: constant(uint256) = 11
FINALITY: constant(uint256) = 12
NAIVE_SPREAD: constant(uint256) = 13
MAX_EXEMPT_SLOTS: constant(uint256) = 18
MIN_HOMES: constant(uint256) = 19
SKILL_THRESHOLD: constant(uint256) = 14
MAX_SLASH: constant(uint256) = 25
MAX_REWARD: constant(uint256) = 26
PROBATION_DAYS: constant(uint256) = 27
MAX_ALLOWANCE: constant(uint256) = 28

# What became of a forecast; 0 where there is none. SCORED and UNSCORED also mark ring days.
COMMITTED: constant(uint256) = 1
REVEALED: constant(uint256) = 2
SCORED: constant(uint256) = 3
UNSCORED: constant(uint256) = 4
MISSED: constant(uint256) = 5
# Bit of the forecast word beside its status.
DISPUTED: constant(uint256) = 128

# What became of a dispute.
OPEN: constant(uint256) = 1
DECIDED: constant(uint256) = 2
LAPSED: constant(uint256) = 3

# Bounds the skill of a forecast that misses where the naive one does not.
WORST_SKILL: constant(int256) = -1_000
BEST_SKILL: constant(uint256) = 1_000

SIGN_32: constant(uint256) = 2**31
MASK_32: constant(uint256) = 2**32 - 1
MASK_40: constant(uint256) = 2**40 - 1
MASK_64: constant(uint256) = 2**64 - 1
MASK_96: constant(uint256) = 2**96 - 1
STATUS: constant(uint256) = 2**7 - 1
# Of the bond word.
ALLOWED: constant(uint256) = 2**232
FLAGS: constant(uint256) = 232
ONE_DISPUTE: constant(uint256) = 2**233
DISPUTES: constant(uint256) = 233


# ---------------------------------------------------------------------------- #
#                                    EVENTS                                    #
# ---------------------------------------------------------------------------- #

event ForecasterChanged:
    forecaster: indexed(address)
    allowed: bool


event MinimumBondChanged:
    previous: uint256
    current: uint256


event GovernorChanged:
    governor: indexed(address)


event BondDeposited:
    forecaster: indexed(address)
    amount: uint256


event BondWithdrawalAnnounced:
    forecaster: indexed(address)
    amount: uint256
    unlocked_at: uint256


event BondWithdrawn:
    forecaster: indexed(address)
    amount: uint256


event ForecastCommitted:
    forecaster: indexed(address)
    zone: indexed(uint256)
    first_slot: indexed(uint256)
    commitment: bytes32


event ForecastRevealed:
    forecaster: indexed(address)
    zone: indexed(uint256)
    first_slot: indexed(uint256)
    evidence_hash: bytes32
    words: uint256[WORDS]


event ForecastScored:
    forecaster: indexed(address)
    zone: indexed(uint256)
    first_slot: indexed(uint256)
    loss: uint256
    naive_loss: uint256
    slots_scored: uint256


event DayUnscored:
    forecaster: indexed(address)
    zone: indexed(uint256)
    first_slot: indexed(uint256)


event ForecastMissed:
    forecaster: indexed(address)
    zone: indexed(uint256)
    first_slot: indexed(uint256)


event BondSlashed:
    forecaster: indexed(address)
    zone: indexed(uint256)
    first_slot: indexed(uint256)
    amount: uint256


event BondRewarded:
    forecaster: indexed(address)
    zone: indexed(uint256)
    first_slot: indexed(uint256)
    amount: uint256


event RewardsFunded:
    payer: indexed(address)
    amount: uint256


event AllowanceUsed:
    forecaster: indexed(address)
    zone: indexed(uint256)
    used: uint256
    allowance: uint256


event DisputeOpened:
    dispute_id: indexed(uint256)
    forecaster: indexed(address)
    zone: indexed(uint256)
    first_slot: uint256
    complainant: address
    complaint: String[256]


event DisputeDecided:
    dispute_id: indexed(uint256)
    liable: indexed(address)
    amount: uint256
    slashed: uint256
    finding: String[256]


event DisputeLapsed:
    dispute_id: indexed(uint256)


# ---------------------------------------------------------------------------- #
#                                    STORAGE                                   #
# ---------------------------------------------------------------------------- #

ledger: public(immutable(IReadingLedger))
parameters: public(immutable(address))
token: public(immutable(IERC20))
_RULES: immutable(Rules)
_MEMBERS: immutable(Members)

# Whose proposals use the allowances.
governor: public(address)
minimum_bond: public(uint256)
# What slashes and gifts have left for rewards, in micro euro.
reward_pool: public(uint256)
_bonds: HashMap[address, uint256]
# Forecaster -> zone -> UTC day -> forecast
_forecasts: HashMap[address, HashMap[uint256, HashMap[uint256, uint256]]]
# Forecaster -> zone -> day % 28 -> result
_ring: HashMap[address, HashMap[uint256, HashMap[uint256, uint256]]]
# Forecaster -> zone -> span
_spans: HashMap[address, HashMap[uint256, uint256]]
# Numbered from 1.
dispute_count: public(uint256)
dispute_of: public(HashMap[uint256, Dispute])


# ---------------------------------------------------------------------------- #
#                                  CONSTRUCTOR                                 #
# ---------------------------------------------------------------------------- #

@deploy
def __init__(
    ledger_: address,
    parameters_: address,
    membership_: address,
    token_: address,
    minimum_bond: uint256,
):
    """
    @param ledger_ The `ReadingLedger` whose totals forecasts are scored against.
    @param parameters_ The `GridParameters` with the rules.
    @param membership_ The `Membership` whose members may dispute a forecast.
    @param token_ The settlement token that bonds are in.
    @param minimum_bond What a forecaster must have in place to commit, in micro euro.
    """
    ownable.__init__()
    ledger = IReadingLedger(ledger_)
    parameters = parameters_
    token = IERC20(token_)
    _RULES = Rules(parameters_)
    _MEMBERS = Members(membership_)
    self._set_minimum_bond(minimum_bond)


# ---------------------------------------------------------------------------- #
#                                EXTERNAL: BONDS                               #
# ---------------------------------------------------------------------------- #

@external
def set_forecaster(forecaster: address, allowed: bool):
    """
    @notice Admits a forecaster, or bars it from committing; what it committed is still scored,
            and its bond stays its own. Owner only.
    """
    ownable._check_owner()
    word: uint256 = self._bonds[forecaster] & ~ALLOWED
    if allowed:
        word |= ALLOWED
    self._bonds[forecaster] = word
    log ForecasterChanged(forecaster=forecaster, allowed=allowed)


@external
def set_minimum_bond(amount: uint256):
    """
    @notice What a forecaster must have in place to commit, in micro euro. Owner only.
    """
    ownable._check_owner()
    self._set_minimum_bond(amount)


@external
def set_governor(governor: address):
    """
    @notice Names the contract whose proposals use the forecasters' allowances. Owner only.
    """
    ownable._check_owner()
    self.governor = governor
    log GovernorChanged(governor=governor)


@external
def deposit_bond(amount: uint256):
    """
    @notice Adds to the caller's bond from its allowance. Admitted forecasters only.
    @param amount In micro euro.
    """
    word: uint256 = self._bonds[msg.sender]
    assert word & ALLOWED != 0, "forecast: caller is not a forecaster"
    assert amount != 0, "forecast: amount is zero"
    assert (word & MASK_96) + amount <= MASK_96, "forecast: amount out of range"
    self._bonds[msg.sender] = word + amount
    log BondDeposited(forecaster=msg.sender, amount=amount)
    # A token that is not what it should be cannot re-enter to any gain: all is booked.
    assert extcall token.transferFrom(
        msg.sender, self, amount, default_return_value=True
    ), "forecast: transfer failed"


@external
def announce_withdrawal(amount: uint256):
    """
    @notice Announces how much of the bond is to leave, after WITHDRAWAL_DELAY. What is leaving
            backs no new forecast and no proposal, and can still be slashed. A new announcement
            takes the place of the last.
    @param amount In micro euro; zero takes the announcement back.
    """
    word: uint256 = self._bonds[msg.sender]
    assert amount <= word & MASK_96, "forecast: more than the bond"
    unlocked_at: uint256 = 0
    if amount != 0:
        unlocked_at = block.timestamp + WITHDRAWAL_DELAY
    self._bonds[msg.sender] = (
        ((word >> FLAGS) << FLAGS) | (unlocked_at << 192) | (amount << 96) | (word & MASK_96)
    )
    log BondWithdrawalAnnounced(forecaster=msg.sender, amount=amount, unlocked_at=unlocked_at)


@external
def withdraw_bond():
    """
    @notice Pays out what was announced WITHDRAWAL_DELAY ago or earlier, or what is left of it.
            Not while a forecast of the caller is disputed.
    """
    word: uint256 = self._bonds[msg.sender]
    amount: uint256 = (word >> 96) & MASK_96
    assert amount != 0, "forecast: nothing announced"
    assert block.timestamp >= (word >> 192) & MASK_40, "forecast: bond is still locked"
    assert word >> DISPUTES == 0, "forecast: dispute is open"
    # No slash leaves `leaving` above the bond.
    self._bonds[msg.sender] = ((word >> FLAGS) << FLAGS) | ((word & MASK_96) - amount)
    log BondWithdrawn(forecaster=msg.sender, amount=amount)
    assert extcall token.transfer(
        msg.sender, amount, default_return_value=True
    ), "forecast: transfer failed"


@external
def fund_rewards(amount: uint256):
    """
    @notice Adds to the reward pool from the caller's allowance, for good. Anyone.
    @param amount In micro euro.
    """
    assert amount != 0, "forecast: amount is zero"
    self.reward_pool += amount
    log RewardsFunded(payer=msg.sender, amount=amount)
    assert extcall token.transferFrom(
        msg.sender, self, amount, default_return_value=True
    ), "forecast: transfer failed"


# ---------------------------------------------------------------------------- #
#                              EXTERNAL: FORECASTS                             #
# ---------------------------------------------------------------------------- #

@external
def commit(zone: uint256, first_slot: uint256, commitment: bytes32):
    """
    @notice Commits a forecast of a whole UTC day of a zone. Final: one per forecaster and day.
    @param zone The zone; its collector, who holds the readings, may not forecast it.
    @param first_slot The day's first slot; it starts more than FORECAST_LEAD and at most
           MAX_AHEAD seconds from now.
    @param commitment The hash that the head of this contract defines.
    """
    bond: uint256 = self._bonds[msg.sender]
    assert bond & ALLOWED != 0, "forecast: caller is not a forecaster"
    assert self._backing(bond) >= self.minimum_bond, "forecast: bond too small"
    assert (
        staticcall ledger.collectors(zone) != msg.sender
    ), "forecast: collector may not forecast"
    day: uint256 = self._day(first_slot)
    lead: uint256 = staticcall _RULES.value(FORECAST_LEAD)
    assert block.timestamp + lead < day * DAY, "forecast: too late to commit"
    assert day * DAY <= block.timestamp + MAX_AHEAD, "forecast: too early to commit"
    assert self._forecasts[msg.sender][zone][day] == 0, "forecast: already committed"
    self._forecasts[msg.sender][zone][day] = self._pack(commitment, block.timestamp, COMMITTED)
    span: uint256 = self._spans[msg.sender][zone]
    first: uint256 = span & MASK_32
    if first == 0 or day < first:
        self._spans[msg.sender][zone] = ((span >> 32) << 32) | day
    log ForecastCommitted(
        forecaster=msg.sender, zone=zone, first_slot=first_slot, commitment=commitment
    )


@external
def reveal(
    zone: uint256,
    first_slot: uint256,
    words: uint256[WORDS],
    evidence_hash: bytes32,
    salt: bytes32,
):
    """
    @notice Reveals the forecast that the caller committed, after the deadline for commitments.
    @param zone The zone.
    @param first_slot The day's first slot.
    @param words The quantiles, packed as the head of this contract defines.
    @param evidence_hash Hash of the file from which anyone can recompute the forecast.
    @param salt What kept the commitment from being guessed.
    """
    day: uint256 = self._day(first_slot)
    forecast: uint256 = self._forecasts[msg.sender][zone][day]
    assert forecast & STATUS == COMMITTED, "forecast: nothing to reveal"
    committed_at: uint256 = (forecast >> 8) & MASK_40
    lead: uint256 = staticcall _RULES.value_at(FORECAST_LEAD, committed_at)
    finality: uint256 = staticcall _RULES.value_at(FINALITY, committed_at)
    assert block.timestamp + lead >= day * DAY, "forecast: too early to reveal"
    assert block.timestamp < (day + 1) * DAY + finality, "forecast: too late to reveal"
    forecast_hash: bytes32 = keccak256(abi_encode(words))
    commitment: bytes32 = keccak256(
        abi_encode(zone, first_slot, msg.sender, forecast_hash, evidence_hash, salt)
    )
    disputed: uint256 = forecast & DISPUTED
    assert (
        self._pack(commitment, committed_at, disputed | COMMITTED) == forecast
    ), "forecast: not what was committed"
    for word: uint256 in words:
        assert word >> (2 * LANE_BITS) == 0, "forecast: word is not canonical"
        for lane: uint256 in range(2):
            quantiles: uint256 = word >> (LANE_BITS * lane)
            low: int256 = self._int32(quantiles)
            middle: int256 = self._int32(quantiles >> 32)
            high: int256 = self._int32(quantiles >> 64)
            assert low <= middle and middle <= high, "forecast: quantiles are not monotone"
    self._forecasts[msg.sender][zone][day] = self._pack(
        forecast_hash, committed_at, disputed | REVEALED
    )
    log ForecastRevealed(
        forecaster=msg.sender,
        zone=zone,
        first_slot=first_slot,
        evidence_hash=evidence_hash,
        words=words,
    )


@external
def score(forecaster: address, zone: uint256, first_slot: uint256, words: uint256[WORDS]):
    """
    @notice Scores a revealed forecast, once, on the totals that are final. Anyone.
    @dev Slots inside an executed window are left out, the first ones up to MAX_EXEMPT_SLOTS a
         day. A day with too few homes then or one week earlier, or with no slot left to score,
         is not scored and counts neither for nor against; so does one whose forecaster has
         become the zone's collector, who could have made it come true.
    @param forecaster Who revealed it.
    @param zone The zone.
    @param first_slot The day's first slot.
    @param words The quantiles that were revealed.
    """
    day: uint256 = self._day(first_slot)
    forecast: uint256 = self._forecasts[forecaster][zone][day]
    assert forecast & STATUS == REVEALED, "forecast: nothing to score"
    committed_at: uint256 = (forecast >> 8) & MASK_40
    disputed: uint256 = forecast & DISPUTED
    assert (
        self._pack(keccak256(abi_encode(words)), committed_at, disputed | REVEALED) == forecast
    ), "forecast: not what was revealed"
    finality: uint256 = staticcall _RULES.value_at(FINALITY, committed_at)
    assert block.timestamp >= (day + 1) * DAY + finality, "forecast: totals are not final"
    assert (
        staticcall ledger.committed_until(zone) >= first_slot + SLOTS_PER_DAY
    ), "forecast: day is not metered"

    loss: uint256 = 0
    naive_loss: uint256 = 0
    scored: uint256 = 0
    if staticcall ledger.collectors(zone) != forecaster and self._enough_homes(
        zone, first_slot, committed_at
    ):
        loss, naive_loss, scored = self._losses(zone, first_slot, words, committed_at)
    status: uint256 = UNSCORED
    if scored != 0:
        status = SCORED
        log ForecastScored(
            forecaster=forecaster,
            zone=zone,
            first_slot=first_slot,
            loss=loss,
            naive_loss=naive_loss,
            slots_scored=scored,
        )
    else:
        log DayUnscored(forecaster=forecaster, zone=zone, first_slot=first_slot)
    self._forecasts[forecaster][zone][day] = (forecast ^ REVEALED) | status
    # A result that comes four weeks late does not push out a newer one.
    place: uint256 = day % SKILL_DAYS
    if self._ring[forecaster][zone][place] >> 224 < day:
        self._ring[forecaster][zone][place] = (
            (day << 224) | (status << 192) | (naive_loss << 96) | loss
        )
    span: uint256 = self._spans[forecaster][zone]
    if day > (span >> 32) & MASK_32:
        self._spans[forecaster][zone] = ((span >> 64) << 64) | (day << 32) | (span & MASK_32)

    if loss > naive_loss:
        slash: uint256 = staticcall _RULES.value_at(MAX_SLASH, committed_at)
        # A day twice as bad as naive costs the whole; so does any miss of a perfect naive one.
        if loss < 2 * naive_loss:
            slash = slash * (loss - naive_loss) // naive_loss
        self._slash(forecaster, zone, first_slot, slash)
    elif loss < naive_loss:
        self._reward(forecaster, zone, first_slot, naive_loss - loss, naive_loss, committed_at)


@external
def miss(forecaster: address, zone: uint256, first_slot: uint256):
    """
    @notice Ends a forecast that was committed and not revealed in time: it costs what the worst
            forecast of the day could have cost. Final. Anyone.
    @param forecaster Who committed it.
    @param zone The zone.
    @param first_slot The day's first slot.
    """
    day: uint256 = self._day(first_slot)
    forecast: uint256 = self._forecasts[forecaster][zone][day]
    assert forecast & STATUS == COMMITTED, "forecast: nothing is missing"
    committed_at: uint256 = (forecast >> 8) & MASK_40
    finality: uint256 = staticcall _RULES.value_at(FINALITY, committed_at)
    assert block.timestamp >= (day + 1) * DAY + finality, "forecast: may still be revealed"
    self._forecasts[forecaster][zone][day] = (forecast ^ COMMITTED) | MISSED
    log ForecastMissed(forecaster=forecaster, zone=zone, first_slot=first_slot)
    slash: uint256 = staticcall _RULES.value_at(MAX_SLASH, committed_at)
    self._slash(forecaster, zone, first_slot, slash)


# ---------------------------------------------------------------------------- #
#                             EXTERNAL: ALLOWANCE                              #
# ---------------------------------------------------------------------------- #

@external
def use_allowance(forecaster: address, zone: uint256):
    """
    @notice Takes one balancing proposal off the forecaster's allowance of the UTC day, or
            reverts and says why there is none. Governor only.
    """
    assert msg.sender == self.governor, "forecast: caller is not the governor"
    total: uint256 = 0
    refusal: String[48] = ""
    total, refusal = self._standing(forecaster, zone)
    assert len(refusal) == 0, refusal
    used: uint256 = self._used_today(forecaster, zone)
    assert used < total, "forecast: no allowance left today"
    self._spans[forecaster][zone] = (
        ((used + 1) << 96)
        | ((block.timestamp // DAY) << 64)
        | (self._spans[forecaster][zone] & MASK_64)
    )
    log AllowanceUsed(forecaster=forecaster, zone=zone, used=used + 1, allowance=total)


# ---------------------------------------------------------------------------- #
#                              EXTERNAL: DISPUTES                              #
# ---------------------------------------------------------------------------- #

@external
def open_dispute(
    forecaster: address, zone: uint256, first_slot: uint256, complaint: String[256]
) -> uint256:
    """
    @notice Disputes a forecast, once, within DISPUTE_PERIOD after its day. Until that is decided
            or lapses the forecaster's bond stays. Members only.
    @param forecaster Who committed it.
    @param zone The zone.
    @param first_slot The day's first slot.
    @param complaint What was wrong and what it did.
    @return The number of the dispute.
    """
    assert staticcall _MEMBERS.is_member(msg.sender), "forecast: caller is not a member"
    day: uint256 = self._day(first_slot)
    forecast: uint256 = self._forecasts[forecaster][zone][day]
    assert forecast != 0, "forecast: nothing to dispute"
    assert forecast & DISPUTED == 0, "forecast: already disputed"
    day_end: uint256 = (day + 1) * DAY
    assert block.timestamp >= day_end, "forecast: day is not over"
    assert block.timestamp < day_end + DISPUTE_PERIOD, "forecast: too late to dispute"
    self._forecasts[forecaster][zone][day] = forecast | DISPUTED
    self._bonds[forecaster] += ONE_DISPUTE
    dispute_id: uint256 = self.dispute_count + 1
    self.dispute_count = dispute_id
    self.dispute_of[dispute_id] = Dispute(
        forecaster=forecaster,
        zone=zone,
        first_slot=first_slot,
        complainant=msg.sender,
        opened_at=block.timestamp,
        status=OPEN,
        liable=empty(address),
        amount=0,
    )
    log DisputeOpened(
        dispute_id=dispute_id,
        forecaster=forecaster,
        zone=zone,
        first_slot=first_slot,
        complainant=msg.sender,
        complaint=complaint,
    )
    return dispute_id


@external
def decide_dispute(
    dispute_id: uint256, liable: address, amount: uint256, finding: String[256]
):
    """
    @notice Puts on record who is liable for a disputed forecast. Owner only.
    @param dispute_id An open dispute, less than DISPUTE_LAPSE old.
    @param liable The forecaster, whose bond is cut by the amount or by what is left of it; another
           address, for the record only, since nobody else's money is here; or zero for nobody.
    @param amount In micro euro; zero where nobody is liable.
    @param finding Why.
    """
    ownable._check_owner()
    dispute: Dispute = self.dispute_of[dispute_id]
    assert dispute.status == OPEN, "forecast: dispute is not open"
    assert block.timestamp < dispute.opened_at + DISPUTE_LAPSE, "forecast: dispute lapsed"
    assert liable != empty(address) or amount == 0, "forecast: an amount needs somebody liable"
    self.dispute_of[dispute_id].status = DECIDED
    self.dispute_of[dispute_id].liable = liable
    self.dispute_of[dispute_id].amount = amount
    self._bonds[dispute.forecaster] -= ONE_DISPUTE
    slashed: uint256 = 0
    if liable == dispute.forecaster:
        slashed = self._slash(liable, dispute.zone, dispute.first_slot, amount)
    log DisputeDecided(
        dispute_id=dispute_id, liable=liable, amount=amount, slashed=slashed, finding=finding
    )


@external
def close_dispute(dispute_id: uint256):
    """
    @notice Closes a dispute that was not decided within DISPUTE_LAPSE, and frees the bond. Anyone.
    """
    dispute: Dispute = self.dispute_of[dispute_id]
    assert dispute.status == OPEN, "forecast: dispute is not open"
    assert block.timestamp >= dispute.opened_at + DISPUTE_LAPSE, "forecast: dispute may be decided"
    self.dispute_of[dispute_id].status = LAPSED
    self._bonds[dispute.forecaster] -= ONE_DISPUTE
    log DisputeLapsed(dispute_id=dispute_id)


# ---------------------------------------------------------------------------- #
#                                     VIEW                                     #
# ---------------------------------------------------------------------------- #

@view
@external
def skill(forecaster: address, zone: uint256) -> (int256, uint256):
    """
    @notice How much better than naive a forecaster was over the last 28 days.
    @dev 1 - (sum of losses) / (sum of naive losses) over the days with a score. A missed day is
         one that was due (its end, FINALITY and SCORE_PERIOD are over) without a result,
         counted from the forecaster's first day in the zone. It counts as no skill, that is,
         as if loss and naive loss were both the mean naive loss of the scored days; with d
         days scored and m missed, skill becomes skill * d / (d + m). Missing a day never
         mends a negative skill.
    @return Skill in permille, at most 1000 and 0 without a scored day; and the days scored.
    """
    result: int256 = 0
    scored: uint256 = 0
    missed: uint256 = 0
    result, scored, missed = self._record(forecaster, zone)
    return result, scored


@view
@external
def allowance(forecaster: address, zone: uint256) -> (uint256, uint256):
    """
    @notice How many balancing proposals the forecaster has for the zone this UTC day: none
            without good standing, one on probation, and from there one more for each step
            that its skill takes from SKILL_THRESHOLD to perfect, MAX_ALLOWANCE at most.
    @return How many it has, and how many of them it has used.
    """
    total: uint256 = 0
    refusal: String[48] = ""
    total, refusal = self._standing(forecaster, zone)
    return total, self._used_today(forecaster, zone)


@view
@external
def in_good_standing(forecaster: address, zone: uint256) -> bool:
    """
    @notice Whether the forecaster is admitted, with a bond that stays, not the zone's collector,
            and on probation or skilled enough. Probation ends after PROBATION_DAYS that were
            scored or missed, so that nobody stays on it by forecasting now and then.
    """
    total: uint256 = 0
    refusal: String[48] = ""
    total, refusal = self._standing(forecaster, zone)
    return len(refusal) == 0


@view
@external
def is_forecaster(account: address) -> bool:
    """
    @return Whether the account may commit forecasts, its bond aside.
    """
    return self._bonds[account] & ALLOWED != 0


@view
@external
def bond_of(forecaster: address) -> (uint256, uint256, uint256):
    """
    @return The bond, how much of it was announced to leave, in micro euro, and from when on
            that can be withdrawn.
    """
    word: uint256 = self._bonds[forecaster]
    return word & MASK_96, (word >> 96) & MASK_96, (word >> 192) & MASK_40


@view
@external
def open_disputes(forecaster: address) -> uint256:
    """
    @return How many disputes keep the forecaster's bond where it is.
    """
    return self._bonds[forecaster] >> DISPUTES


@view
@external
def is_disputed(forecaster: address, zone: uint256, first_slot: uint256) -> bool:
    """
    @return Whether the forecast is or was disputed.
    """
    return self._forecasts[forecaster][zone][self._day(first_slot)] & DISPUTED != 0


@view
@external
def forecast_of(
    forecaster: address, zone: uint256, first_slot: uint256
) -> (uint256, uint256, uint256):
    """
    @return Status (0 none, 1 committed, 2 revealed, 3 scored, 4 not scored, 5 missed), unix time
            of the commitment, and the upper 208 bits of the hash: of the commitment at first,
            of the words once they are revealed.
    """
    word: uint256 = self._forecasts[forecaster][zone][self._day(first_slot)]
    return word & STATUS, (word >> 8) & MASK_40, word >> 48


@view
@external
def result_of(
    forecaster: address, zone: uint256, first_slot: uint256
) -> (uint256, uint256, uint256):
    """
    @return Status, loss and naive loss of a day in permille * Wh, while it is among the last
            28; zeros otherwise.
    """
    day: uint256 = self._day(first_slot)
    word: uint256 = self._ring[forecaster][zone][day % SKILL_DAYS]
    if word >> 224 != day:
        return 0, 0, 0
    return (word >> 192) & 255, word & MASK_96, (word >> 96) & MASK_96


# ---------------------------------------------------------------------------- #
#                                   INTERNAL                                   #
# ---------------------------------------------------------------------------- #

@internal
def _set_minimum_bond(amount: uint256):
    assert amount <= MASK_96, "forecast: amount out of range"
    log MinimumBondChanged(previous=self.minimum_bond, current=amount)
    self.minimum_bond = amount


@pure
@internal
def _backing(bond: uint256) -> uint256:
    # What is leaving is never more than the bond.
    return (bond & MASK_96) - ((bond >> 96) & MASK_96)


@internal
def _slash(forecaster: address, zone: uint256, first_slot: uint256, amount: uint256) -> uint256:
    """
    @return What was moved from the bond to the reward pool: the amount, or all there is.
    """
    word: uint256 = self._bonds[forecaster]
    bond: uint256 = word & MASK_96
    slashed: uint256 = min(amount, bond)
    if slashed == 0:
        return 0
    bond -= slashed
    leaving: uint256 = min((word >> 96) & MASK_96, bond)
    self._bonds[forecaster] = ((word >> 192) << 192) | (leaving << 96) | bond
    self.reward_pool += slashed
    log BondSlashed(forecaster=forecaster, zone=zone, first_slot=first_slot, amount=slashed)
    return slashed


@internal
def _reward(
    forecaster: address,
    zone: uint256,
    first_slot: uint256,
    gain: uint256,
    naive_loss: uint256,
    committed_at: uint256,
):
    pool: uint256 = self.reward_pool
    if pool == 0:
        return
    word: uint256 = self._bonds[forecaster]
    largest: uint256 = staticcall _RULES.value_at(MAX_REWARD, committed_at)
    # The last bound keeps the bond within its 96 bits, whatever the token's supply.
    reward: uint256 = min(min(largest * gain // naive_loss, pool), MASK_96 - (word & MASK_96))
    if reward == 0:
        return
    self._bonds[forecaster] = word + reward
    self.reward_pool = pool - reward
    log BondRewarded(forecaster=forecaster, zone=zone, first_slot=first_slot, amount=reward)


@view
@internal
def _standing(forecaster: address, zone: uint256) -> (uint256, String[48]):
    """
    @return How many proposals a day the forecaster has; or zero, and why it is not in good
            standing.
    """
    bond: uint256 = self._bonds[forecaster]
    if bond & ALLOWED == 0:
        return 0, "forecast: proposer is not a forecaster"
    if self._backing(bond) < self.minimum_bond:
        return 0, "forecast: bond too small"
    if staticcall ledger.collectors(zone) == forecaster:
        return 0, "forecast: collector may not propose"
    largest: uint256 = staticcall _RULES.value(MAX_ALLOWANCE)
    skill_now: int256 = 0
    scored: uint256 = 0
    missed: uint256 = 0
    skill_now, scored, missed = self._record(forecaster, zone)
    if scored + missed < staticcall _RULES.value(PROBATION_DAYS):
        return min(largest, 1), ""
    threshold: uint256 = staticcall _RULES.value(SKILL_THRESHOLD)
    if skill_now < convert(threshold, int256):
        return 0, "forecast: skill is below the threshold"
    if largest == 0 or threshold >= BEST_SKILL:
        return largest, ""
    above: uint256 = convert(skill_now, uint256) - threshold
    return 1 + (largest - 1) * above // (BEST_SKILL - threshold), ""


@view
@internal
def _used_today(forecaster: address, zone: uint256) -> uint256:
    span: uint256 = self._spans[forecaster][zone]
    if (span >> 64) & MASK_32 != block.timestamp // DAY:
        return 0
    return span >> 96


@view
@internal
def _record(forecaster: address, zone: uint256) -> (int256, uint256, uint256):
    """
    @return Skill, days scored and days missed; see `skill`.
    """
    span: uint256 = self._spans[forecaster][zone]
    first: uint256 = span & MASK_32
    if first == 0:
        return 0, 0, 0
    # The first day that is not due yet: before it every day should have a result.
    margin: uint256 = staticcall _RULES.value(FINALITY) + SCORE_PERIOD
    due: uint256 = 0
    if block.timestamp > margin:
        due = (block.timestamp - margin) // DAY
    # The 28 days end with the last one that is due or has a result: [begin, end)
    end: uint256 = max(due, ((span >> 32) & MASK_32) + 1)
    begin: uint256 = max(first, end - min(end, SKILL_DAYS))
    losses: uint256 = 0
    naive_losses: uint256 = 0
    scored: uint256 = 0
    missed: uint256 = 0
    if begin < end:
        for i: uint256 in range(end - begin, bound=SKILL_DAYS):
            day: uint256 = begin + i
            word: uint256 = self._ring[forecaster][zone][day % SKILL_DAYS]
            if word >> 224 == day:
                if (word >> 192) & 255 == SCORED:
                    losses += word & MASK_96
                    naive_losses += (word >> 96) & MASK_96
                    scored += 1
            elif day < due:
                missed += 1
    if scored == 0:
        return 0, 0, missed
    result: int256 = 0
    if naive_losses != 0:
        result = (
            1_000 * (convert(naive_losses, int256) - convert(losses, int256))
            // convert(naive_losses, int256)
        )
    elif losses != 0:
        # The naive forecast was perfect and this one was not.
        result = WORST_SKILL
    if result > 0:
        result = result * convert(scored, int256) // convert(scored + missed, int256)
    return max(result, WORST_SKILL), scored, missed


@pure
@internal
def _day(first_slot: uint256) -> uint256:
    assert first_slot % SLOTS_PER_DAY == 0, "forecast: not the first slot of a day"
    day: uint256 = first_slot // SLOTS_PER_DAY
    assert day <= MASK_32, "forecast: slot out of range"
    return day


@pure
@internal
def _pack(digest: bytes32, committed_at: uint256, status: uint256) -> uint256:
    return ((convert(digest, uint256) >> 48) << 48) | (committed_at << 8) | status


@pure
@internal
def _int32(word: uint256) -> int256:
    # Flipping the sign bit turns two's complement into an offset of 2**31; 33 bits cannot wrap.
    return unsafe_sub(convert((word & MASK_32) ^ SIGN_32, int256), 2**31)


@pure
@internal
def _pinball(low: int256, middle: int256, high: int256, actual: int256) -> uint256:
    # Differences of 33 bits times 900 stay far inside 256 bits: nothing can wrap.
    loss: int256 = 0
    if actual >= low:
        loss = unsafe_mul(100, unsafe_sub(actual, low))
    else:
        loss = unsafe_mul(900, unsafe_sub(low, actual))
    if actual >= middle:
        loss = unsafe_add(loss, unsafe_mul(500, unsafe_sub(actual, middle)))
    else:
        loss = unsafe_add(loss, unsafe_mul(500, unsafe_sub(middle, actual)))
    if actual >= high:
        loss = unsafe_add(loss, unsafe_mul(900, unsafe_sub(actual, high)))
    else:
        loss = unsafe_add(loss, unsafe_mul(100, unsafe_sub(high, actual)))
    return convert(loss, uint256)


@view
@internal
def _enough_homes(zone: uint256, first_slot: uint256, committed_at: uint256) -> bool:
    # No slot before the ledger begins has a home, so this also tells a week that is missing.
    least: uint256 = max(staticcall _RULES.value_at(MIN_HOMES, committed_at), 1)
    if first_slot < WEEK_SLOTS:
        return False
    for i: uint256 in range(SLOTS_PER_DAY // HOMES_STEP):
        slot: uint256 = first_slot + HOMES_STEP * i
        if staticcall ledger.homes_of(zone, slot) < least:
            return False
        if staticcall ledger.homes_of(zone, slot - WEEK_SLOTS) < least:
            return False
    return True


@view
@internal
def _losses(
    zone: uint256, first_slot: uint256, words: uint256[WORDS], committed_at: uint256
) -> (uint256, uint256, uint256):
    spread: int256 = convert(staticcall _RULES.value_at(NAIVE_SPREAD, committed_at), int256)
    exemptions: uint256 = staticcall _RULES.value_at(MAX_EXEMPT_SLOTS, committed_at)
    exempt: uint256 = staticcall _RULES.exempt_slots(zone, first_slot)
    today: DynArray[uint256, SLOTS_PER_DAY] = staticcall ledger.totals(
        zone, first_slot, SLOTS_PER_DAY
    )
    last_week: DynArray[uint256, SLOTS_PER_DAY] = staticcall ledger.totals(
        zone, first_slot - WEEK_SLOTS, SLOTS_PER_DAY
    )
    loss: uint256 = 0
    naive_loss: uint256 = 0
    scored: uint256 = 0
    for i: uint256 in range(SLOTS_PER_DAY):
        if exemptions != 0 and (exempt >> i) & 1 == 1:
            exemptions -= 1
            continue
        actual: int256 = self._int32(today[i])
        quantiles: uint256 = words[i // 2] >> (LANE_BITS * (i % 2))
        loss += self._pinball(
            self._int32(quantiles),
            self._int32(quantiles >> 32),
            self._int32(quantiles >> 64),
            actual,
        )
        naive: int256 = self._int32(last_week[i])
        naive_loss += self._pinball(naive - spread, naive, naive + spread, actual)
        scored += 1
    return loss, naive_loss, scored
