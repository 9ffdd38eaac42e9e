# pragma version ~=0.4.3
# @license AGPL-3.0-only
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Forecast registry
@notice A forecaster puts up a bond, commits the hash of a whole day of a zone before the
        deadline, reveals it afterwards, and is scored once the day's totals are final: by
        pinball loss, against a naive forecast that the contract makes itself. It can neither
        choose what it said after the fact nor be judged twice.

           |-- commit --|-- reveal ----------- day ------------------|-- score ...
                        deadline          first slot   last slot     end + FINALITY
                        = first slot - FORECAST_LEAD                 reveal ends

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

         forecast  hash @48 | committed at:40 @8 | status:8 @0
         day       day:32 @224 | status:8 @192 | naive loss:96 @96 | loss:96 @0   (ring of 28)
         bond      allowed:1 @232 | unlocked at:40 @192 | leaving:96 @96 | bond:96 @0

     Every rule that bears on a forecast (lead, finality, spread, exemptions, homes) is taken
     as it stood when the forecast was committed, so no vote changes a score afterwards.

     Loss of a quantile q for tau permille against y, in permille * Wh:
         tau * (y - q) if y >= q else (1000 - tau) * (q - y),   summed over 100, 500, 900.
     Naive: median = net energy of the same slot one week earlier, 10 % and 90 % quantiles
     NAIVE_SPREAD below and above it.
"""

from ethereum.ercs import IERC20
from snekmate.auth import ownable
from interfaces import IReadingLedger

initializes: ownable
exports: (ownable.owner, ownable.transfer_ownership)


interface Rules:
    def value(key: uint256) -> uint256: view
    def value_at(key: uint256, when: uint256) -> uint256: view
    def exempt_slots(zone: uint256, first_slot: uint256) -> uint256: view


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
# A forecast speaks of a day that starts within two days. With that day and up to four days of
# finality it is final before a bond announced at its commitment can leave.
MAX_AHEAD: public(constant(uint256)) = 2 * DAY
WITHDRAWAL_DELAY: public(constant(uint256)) = 7 * DAY
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

# What became of a forecast; 0 where there is none. SCORED and UNSCORED also mark ring days.
COMMITTED: constant(uint256) = 1
REVEALED: constant(uint256) = 2
SCORED: constant(uint256) = 3
UNSCORED: constant(uint256) = 4

# Bounds the skill of a forecast that misses where the naive one does not.
WORST_SKILL: constant(int256) = -1_000

SIGN_32: constant(uint256) = 2**31
MASK_32: constant(uint256) = 2**32 - 1
MASK_40: constant(uint256) = 2**40 - 1
MASK_96: constant(uint256) = 2**96 - 1
ALLOWED: constant(uint256) = 2**232


# ---------------------------------------------------------------------------- #
#                                    EVENTS                                    #
# ---------------------------------------------------------------------------- #

event ForecasterChanged:
    forecaster: indexed(address)
    allowed: bool


event MinimumBondChanged:
    previous: uint256
    current: uint256


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


# ---------------------------------------------------------------------------- #
#                                    STORAGE                                   #
# ---------------------------------------------------------------------------- #

ledger: public(immutable(IReadingLedger))
parameters: public(immutable(address))
token: public(immutable(IERC20))
_RULES: immutable(Rules)

minimum_bond: public(uint256)
_bonds: HashMap[address, uint256]
# Forecaster -> zone -> UTC day -> forecast
_forecasts: HashMap[address, HashMap[uint256, HashMap[uint256, uint256]]]
# Forecaster -> zone -> day % 28 -> result
_ring: HashMap[address, HashMap[uint256, HashMap[uint256, uint256]]]
# Forecaster -> zone -> latest day with a result:32 @32 | first day committed:32 @0
_spans: HashMap[address, HashMap[uint256, uint256]]


# ---------------------------------------------------------------------------- #
#                                  CONSTRUCTOR                                 #
# ---------------------------------------------------------------------------- #

@deploy
def __init__(ledger_: address, parameters_: address, token_: address, minimum_bond: uint256):
    """
    @param ledger_ The `ReadingLedger` whose totals forecasts are scored against.
    @param parameters_ The `GridParameters` with the rules.
    @param token_ The settlement token that bonds are in.
    @param minimum_bond What a forecaster must have in place to commit, in micro euro.
    """
    ownable.__init__()
    ledger = IReadingLedger(ledger_)
    parameters = parameters_
    token = IERC20(token_)
    _RULES = Rules(parameters_)
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
    word: uint256 = self._bonds[forecaster] & (ALLOWED - 1)
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
    @notice Announces how much of the bond is to leave, after seven days. What is leaving backs
            no new forecast. A new announcement takes the place of the last.
    @param amount In micro euro; zero takes the announcement back.
    """
    word: uint256 = self._bonds[msg.sender]
    assert amount <= word & MASK_96, "forecast: more than the bond"
    unlocked_at: uint256 = 0
    if amount != 0:
        unlocked_at = block.timestamp + WITHDRAWAL_DELAY
    self._bonds[msg.sender] = (
        (word & ALLOWED) | (unlocked_at << 192) | (amount << 96) | (word & MASK_96)
    )
    log BondWithdrawalAnnounced(forecaster=msg.sender, amount=amount, unlocked_at=unlocked_at)


@external
def withdraw_bond():
    """
    @notice Pays out what was announced seven days ago or earlier.
    """
    word: uint256 = self._bonds[msg.sender]
    amount: uint256 = (word >> 96) & MASK_96
    assert amount != 0, "forecast: nothing announced"
    assert block.timestamp >= (word >> 192) & MASK_40, "forecast: bond is still locked"
    self._bonds[msg.sender] = (word & ALLOWED) | ((word & MASK_96) - amount)
    log BondWithdrawn(forecaster=msg.sender, amount=amount)
    assert extcall token.transfer(
        msg.sender, amount, default_return_value=True
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
    assert (
        (bond & MASK_96) - ((bond >> 96) & MASK_96) >= self.minimum_bond
    ), "forecast: bond too small"
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
    if span == 0 or day < span & MASK_32:
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
    assert forecast & 255 == COMMITTED, "forecast: nothing to reveal"
    committed_at: uint256 = (forecast >> 8) & MASK_40
    lead: uint256 = staticcall _RULES.value_at(FORECAST_LEAD, committed_at)
    finality: uint256 = staticcall _RULES.value_at(FINALITY, committed_at)
    assert block.timestamp + lead >= day * DAY, "forecast: too early to reveal"
    assert block.timestamp < (day + 1) * DAY + finality, "forecast: too late to reveal"
    forecast_hash: bytes32 = keccak256(abi_encode(words))
    commitment: bytes32 = keccak256(
        abi_encode(zone, first_slot, msg.sender, forecast_hash, evidence_hash, salt)
    )
    assert (
        self._pack(commitment, committed_at, COMMITTED) == forecast
    ), "forecast: not what was committed"
    for word: uint256 in words:
        assert word >> (2 * LANE_BITS) == 0, "forecast: word is not canonical"
        for lane: uint256 in range(2):
            quantiles: uint256 = word >> (LANE_BITS * lane)
            low: int256 = self._int32(quantiles)
            middle: int256 = self._int32(quantiles >> 32)
            high: int256 = self._int32(quantiles >> 64)
            assert low <= middle and middle <= high, "forecast: quantiles are not monotone"
    self._forecasts[msg.sender][zone][day] = self._pack(forecast_hash, committed_at, REVEALED)
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
         is not scored and counts neither for nor against.
    @param forecaster Who revealed it.
    @param zone The zone.
    @param first_slot The day's first slot.
    @param words The quantiles that were revealed.
    """
    day: uint256 = self._day(first_slot)
    forecast: uint256 = self._forecasts[forecaster][zone][day]
    assert forecast & 255 == REVEALED, "forecast: nothing to score"
    committed_at: uint256 = (forecast >> 8) & MASK_40
    assert (
        self._pack(keccak256(abi_encode(words)), committed_at, REVEALED) == forecast
    ), "forecast: not what was revealed"
    finality: uint256 = staticcall _RULES.value_at(FINALITY, committed_at)
    assert block.timestamp >= (day + 1) * DAY + finality, "forecast: totals are not final"
    assert (
        staticcall ledger.committed_until(zone) >= first_slot + SLOTS_PER_DAY
    ), "forecast: day is not metered"

    loss: uint256 = 0
    naive_loss: uint256 = 0
    scored: uint256 = 0
    if self._enough_homes(zone, first_slot, committed_at):
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
    self._forecasts[forecaster][zone][day] = (forecast & ~convert(255, uint256)) | status
    # A result that comes four weeks late does not push out a newer one.
    place: uint256 = day % SKILL_DAYS
    if self._ring[forecaster][zone][place] >> 224 < day:
        self._ring[forecaster][zone][place] = (
            (day << 224) | (status << 192) | (naive_loss << 96) | loss
        )
    span: uint256 = self._spans[forecaster][zone]
    if day > span >> 32:
        self._spans[forecaster][zone] = (day << 32) | (span & MASK_32)


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
    span: uint256 = self._spans[forecaster][zone]
    if span == 0:
        return 0, 0
    first: uint256 = span & MASK_32
    # The first day that is not due yet: before it every day should have a result.
    margin: uint256 = staticcall _RULES.value(FINALITY) + SCORE_PERIOD
    due: uint256 = 0
    if block.timestamp > margin:
        due = (block.timestamp - margin) // DAY
    # The 28 days end with the last one that is due or has a result: [begin, end)
    end: uint256 = max(due, (span >> 32) + 1)
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
        return 0, 0
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
    return max(result, WORST_SKILL), scored


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
def forecast_of(
    forecaster: address, zone: uint256, first_slot: uint256
) -> (uint256, uint256, uint256):
    """
    @return Status (0 none, 1 committed, 2 revealed, 3 scored, 4 not scored), unix time of the
            commitment, and the upper 208 bits of the hash: of the commitment at first, of the
            words once they are revealed.
    """
    word: uint256 = self._forecasts[forecaster][zone][self._day(first_slot)]
    return word & 255, (word >> 8) & MASK_40, word >> 48


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
