# pragma version ~=0.4.3
# @license AGPL-3.0-only
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Standing policies
@notice What the members agree to once, in the ordinary lane, so that it need not be voted on every
        day: windows of one key in one zone, of values within bounds, so many slots at a time, so
        much in thirty days, until the policy expires or a vote ends it. The governor asks here
        whether an action stays inside; the zone's members may still object to each one.

          adopted_at       + 30 d           + 60 d                 expires_at
              |-- budget ------|-- budget ------|-- budget ... --------|
                                                    last window ends before

@dev An action costs its deviation: slots times the distance of each window's value from what would
     hold without it:

       a rule               its value now
       community battery    rest, 0 W
       charge points        no cap, that is 22,000 W
       home batteries       their own programmes. Nobody here knows them, so the distance to the
                            one furthest away counts: 1,000 permille and those of the window

     It is taken off the budget
     when it is proposed and stays so, whatever becomes of the proposal: who wants to act again
     after an objection has less left, and no budget can be filled twice by waiting.
     A policy is two words:

       terms     ended:1 @255 | adopted at:40 @188 | expires at:40 @148 | highest:32 @116
                 | lowest:32 @84 (both in two's complement) | slots:16 @68 | veto hours:8 @60
                 | key:10 @50 | zone:10 @40
       account   period:32 @128 | used in that period:64 @64 | budget:64 @0
"""

from snekmate.auth import ownable
from interfaces import IGridParameters
from interfaces import IStandingPolicies

implements: IStandingPolicies
initializes: ownable
exports: (ownable.owner, ownable.transfer_ownership)


# ---------------------------------------------------------------------------- #
#                                   CONSTANTS                                  #
# ---------------------------------------------------------------------------- #

# As in the governor and the timelock.
MAX_CALLS: constant(uint256) = 8
MAX_CALLDATA: constant(uint256) = 1_024
MAX_WINDOWS: constant(uint256) = 16
OPEN_WINDOW: constant(bytes4) = method_id(
    "open_window(uint256,uint256,uint256,uint256,int256)", output_type=bytes4
)
OPEN_WINDOWS: constant(bytes4) = method_id(
    "open_windows(uint256,uint256,uint256[])", output_type=bytes4
)
# Four bytes of selector and five words; four and the four words before the first window.
OPEN_WINDOW_BYTES: constant(uint256) = 164
OPEN_WINDOWS_HEAD: constant(uint256) = 132
SLOT_SECONDS: constant(uint256) = 900

# Keys of `GridParameters` that take windows: of rules, and of devices.
FIRST_KEY: constant(uint256) = 5
LAST_KEY: constant(uint256) = 7
COMMUNITY_BATTERY: constant(uint256) = 1_000
CHARGE_POINTS: constant(uint256) = 1_001
HOME_BATTERIES: constant(uint256) = 1_002
# The cap in W, and the share of power in permille, that no window exceeds.
MAX_CHARGE_POINT_W: constant(int256) = 22_000
FULL_POWER: constant(uint256) = 1_000

# The governor and the market pack zones into 10 bits.
MAX_ZONE: constant(uint256) = 1_023
# All slots of the 14 days that windows reach ahead.
MAX_SLOTS: public(constant(uint256)) = 1_344
# Windows are opened for the next day or two; who needs longer than a day to object may vote.
MAX_VETO_HOURS: public(constant(uint256)) = 24
# What was agreed to a year ago should be asked again.
MAX_LIFE: public(constant(uint256)) = 366 * 86_400
PERIOD: public(constant(uint256)) = 30 * 86_400

MIN_INT32: constant(int256) = -(2**31)
MAX_INT32: constant(int256) = 2**31 - 1

ENDED: constant(uint256) = 2**255
ADOPTED: constant(uint256) = 188
EXPIRES: constant(uint256) = 148
HIGHEST: constant(uint256) = 116
LOWEST: constant(uint256) = 84
SLOTS: constant(uint256) = 68
VETO_HOURS: constant(uint256) = 60
KEY: constant(uint256) = 50
ZONE: constant(uint256) = 40
MASK_8: constant(uint256) = 2**8 - 1
MASK_10: constant(uint256) = 2**10 - 1
MASK_16: constant(uint256) = 2**16 - 1
MASK_32: constant(uint256) = 2**32 - 1
MASK_40: constant(uint256) = 2**40 - 1
MASK_64: constant(uint256) = 2**64 - 1
HALF_128: constant(int256) = 2**127


# ---------------------------------------------------------------------------- #
#                                    EVENTS                                    #
# ---------------------------------------------------------------------------- #

event GovernorChanged:
    governor: indexed(address)


event PolicyAdopted:
    policy_id: indexed(uint256)
    zone: indexed(uint256)
    key: indexed(uint256)
    lowest: int256
    highest: int256
    max_slots: uint256
    budget: uint256
    veto_hours: uint256
    expires_at: uint256


event PolicyEnded:
    policy_id: indexed(uint256)


event PolicyUsed:
    policy_id: indexed(uint256)
    proposer: indexed(address)
    slots: uint256
    deviation: uint256
    remaining: uint256


# ---------------------------------------------------------------------------- #
#                                    STORAGE                                   #
# ---------------------------------------------------------------------------- #

struct Policy:
    zone: uint256
    key: uint256
    lowest: int256
    highest: int256
    max_slots: uint256
    budget: uint256
    veto_hours: uint256
    adopted_at: uint256
    expires_at: uint256
    ended: bool


parameters: public(immutable(IGridParameters))

governor: public(address)
policy_count: public(uint256)
_terms: HashMap[uint256, uint256]
_accounts: HashMap[uint256, uint256]


# ---------------------------------------------------------------------------- #
#                                  CONSTRUCTOR                                 #
# ---------------------------------------------------------------------------- #

@deploy
def __init__(parameters_: address):
    """
    @param parameters_ Its windows are what policies allow.
    """
    ownable.__init__()
    parameters = IGridParameters(parameters_)


# ---------------------------------------------------------------------------- #
#                                   EXTERNAL                                   #
# ---------------------------------------------------------------------------- #

@external
def set_governor(governor: address):
    """
    @notice Appoints the contract that may use policies. Owner only.
    """
    ownable._check_owner()
    self.governor = governor
    log GovernorChanged(governor=governor)


@external
def adopt(
    zone: uint256,
    key: uint256,
    lowest: int256,
    highest: int256,
    max_slots: uint256,
    budget: uint256,
    veto_hours: uint256,
    expires_at: uint256,
) -> uint256:
    """
    @notice Adopts a policy. Owner only.
    @param zone Whose windows, and whose members may object.
    @param key One of the rules 5 to 7 of `GridParameters`, or 1000 to 1002 for devices.
    @param lowest The smallest value of a window; micro euro per Wh, W, or permille.
    @param highest The largest one.
    @param max_slots Slots of all windows of one action together.
    @param budget Deviation in thirty days: slots times the distance from what would hold else.
    @param veto_hours How long members may object to an action.
    @param expires_at Unix time at which the last window must have ended.
    @return The policy's number, from 1.
    """
    ownable._check_owner()
    assert zone != 0 and zone <= MAX_ZONE, "policies: zone out of range"
    assert (
        (key >= FIRST_KEY and key <= LAST_KEY)
        or (key >= COMMUNITY_BATTERY and key <= HOME_BATTERIES)
    ), "policies: key takes no window"
    assert lowest >= MIN_INT32 and highest <= MAX_INT32, "policies: value out of range"
    assert lowest <= highest, "policies: lowest above highest"
    assert max_slots != 0 and max_slots <= MAX_SLOTS, "policies: slots out of range"
    assert budget != 0 and budget <= MASK_64, "policies: budget out of range"
    assert veto_hours != 0 and veto_hours <= MAX_VETO_HOURS, "policies: veto hours out of range"
    assert expires_at > block.timestamp, "policies: expiry has passed"
    assert expires_at <= block.timestamp + MAX_LIFE, "policies: expiry is too far ahead"
    id: uint256 = self.policy_count + 1
    self.policy_count = id
    self._terms[id] = (
        (block.timestamp << ADOPTED)
        | (expires_at << EXPIRES)
        | (self._word(highest) << HIGHEST)
        | (self._word(lowest) << LOWEST)
        | (max_slots << SLOTS)
        | (veto_hours << VETO_HOURS)
        | (key << KEY)
        | (zone << ZONE)
    )
    self._accounts[id] = budget
    log PolicyAdopted(
        policy_id=id,
        zone=zone,
        key=key,
        lowest=lowest,
        highest=highest,
        max_slots=max_slots,
        budget=budget,
        veto_hours=veto_hours,
        expires_at=expires_at,
    )
    return id


@external
def end(policy_id: uint256):
    """
    @notice Ends a policy for good. What was proposed under it before goes on. Owner only.
    """
    ownable._check_owner()
    terms: uint256 = self._known(policy_id)
    assert terms & ENDED == 0, "policies: policy has ended"
    self._terms[policy_id] = terms | ENDED
    log PolicyEnded(policy_id=policy_id)


@external
def use(
    policy_id: uint256,
    proposer: address,
    targets: DynArray[address, MAX_CALLS],
    values: DynArray[uint256, MAX_CALLS],
    calldatas: DynArray[Bytes[MAX_CALLDATA], MAX_CALLS],
) -> uint256:
    """
    @notice Checks that an action stays inside a policy, and takes it off the budget. Governor only.
    @dev The governor has checked that there are calls, and one value and calldata for each.
    @return `hours in which to object << 32 | zone`.
    """
    assert msg.sender == self.governor, "policies: caller is not the governor"
    terms: uint256 = self._known(policy_id)
    assert terms & ENDED == 0, "policies: policy has ended"
    zone: uint256 = (terms >> ZONE) & MASK_10
    key: uint256 = (terms >> KEY) & MASK_10
    lowest: int256 = self._signed(terms >> LOWEST)
    highest: int256 = self._signed(terms >> HIGHEST)
    expires_at: uint256 = (terms >> EXPIRES) & MASK_40
    neutral: int256 = 0
    beyond: uint256 = 0
    if key == CHARGE_POINTS:
        neutral = MAX_CHARGE_POINT_W
    elif key == HOME_BATTERIES:
        beyond = FULL_POWER
    elif key != COMMUNITY_BATTERY:
        neutral = convert(staticcall parameters.value(key), int256)

    slots: uint256 = 0
    deviation: uint256 = 0
    for i: uint256 in range(len(targets), bound=MAX_CALLS):
        call_zone: uint256 = 0
        call_key: uint256 = 0
        windows: DynArray[uint256, MAX_WINDOWS] = []
        call_zone, call_key, windows = self._read(targets[i], values[i], calldatas[i])
        assert call_zone == zone, "policies: another zone"
        assert call_key == key, "policies: another key"
        for window: uint256 in windows:
            window_value: int256 = convert(convert(window, bytes32), int256) >> 128
            assert (
                window_value >= lowest and window_value <= highest
            ), "policies: value outside the bounds"
            length: uint256 = (window >> 64) & MASK_64
            assert (
                ((window & MASK_64) + length) * SLOT_SECONDS <= expires_at
            ), "policies: window ends after the policy"
            slots += length
            deviation += length * (convert(abs(window_value - neutral), uint256) + beyond)
    assert slots <= (terms >> SLOTS) & MASK_16, "policies: too many slots"

    period: uint256 = self._period(terms)
    account: uint256 = self._accounts[policy_id]
    left: uint256 = self._left(account, period)
    assert deviation <= left, "policies: budget is used up"
    budget: uint256 = account & MASK_64
    left -= deviation
    self._accounts[policy_id] = (period << 128) | ((budget - left) << 64) | budget
    log PolicyUsed(
        policy_id=policy_id,
        proposer=proposer,
        slots=slots,
        deviation=deviation,
        remaining=left,
    )
    return (((terms >> VETO_HOURS) & MASK_8) << 32) | zone


# ---------------------------------------------------------------------------- #
#                                     VIEW                                     #
# ---------------------------------------------------------------------------- #

@view
@external
def zone_of(
    targets: DynArray[address, MAX_CALLS],
    values: DynArray[uint256, MAX_CALLS],
    calldatas: DynArray[Bytes[MAX_CALLDATA], MAX_CALLS],
) -> uint256:
    """
    @notice What the balancing lane asks, policy or not.
    @return The one zone whose windows the calls open; reverts where one of them does anything
            else, is not canonically encoded, or is of another zone than the first.
    """
    zone: uint256 = 0
    for i: uint256 in range(len(targets), bound=MAX_CALLS):
        call_zone: uint256 = 0
        key: uint256 = 0
        windows: DynArray[uint256, MAX_WINDOWS] = []
        call_zone, key, windows = self._read(targets[i], values[i], calldatas[i])
        assert call_zone != 0 and call_zone <= MAX_ZONE, "policies: zone out of range"
        assert i == 0 or call_zone == zone, "policies: another zone"
        zone = call_zone
    return zone


@view
@external
def policy_of(policy_id: uint256) -> Policy:
    """
    @return What was agreed to; reverts for an unknown number.
    """
    terms: uint256 = self._known(policy_id)
    return Policy(
        zone=(terms >> ZONE) & MASK_10,
        key=(terms >> KEY) & MASK_10,
        lowest=self._signed(terms >> LOWEST),
        highest=self._signed(terms >> HIGHEST),
        max_slots=(terms >> SLOTS) & MASK_16,
        budget=self._accounts[policy_id] & MASK_64,
        veto_hours=(terms >> VETO_HOURS) & MASK_8,
        adopted_at=(terms >> ADOPTED) & MASK_40,
        expires_at=(terms >> EXPIRES) & MASK_40,
        ended=terms & ENDED != 0,
    )


@view
@external
def remaining(policy_id: uint256) -> uint256:
    """
    @return What is left of the budget of the thirty days that run now; 0 once the policy is over.
    """
    terms: uint256 = self._known(policy_id)
    if terms & ENDED != 0 or block.timestamp >= (terms >> EXPIRES) & MASK_40:
        return 0
    return self._left(self._accounts[policy_id], self._period(terms))


# ---------------------------------------------------------------------------- #
#                                   INTERNAL                                   #
# ---------------------------------------------------------------------------- #

@view
@internal
def _read(
    target: address, amount: uint256, data: Bytes[MAX_CALLDATA]
) -> (uint256, uint256, DynArray[uint256, MAX_WINDOWS]):
    """
    @return The zone, the key, and the windows one word each: value @128 in two's complement
            | slots @64 | first slot @0.
    """
    windows: DynArray[uint256, MAX_WINDOWS] = []
    assert target == parameters.address and amount == 0, "policies: call opens no windows"
    assert len(data) >= OPEN_WINDOWS_HEAD, "policies: call opens no windows"
    selector: bytes4 = convert(slice(data, 0, 4), bytes4)
    zone: uint256 = extract32(data, 4, output_type=uint256)
    if selector == OPEN_WINDOW:
        # Vyper and Solidity overlook bytes behind the arguments; nobody should vote on them.
        assert len(data) == OPEN_WINDOW_BYTES, "policies: encoding is not canonical"
        first_slot: uint256 = extract32(data, 68, output_type=uint256)
        slots: uint256 = extract32(data, 100, output_type=uint256)
        assert first_slot <= MASK_64 and slots <= MASK_64, "policies: slot out of range"
        window_value: int256 = extract32(data, 132, output_type=int256)
        assert window_value >= -HALF_128, "policies: value out of range"
        assert window_value < HALF_128, "policies: value out of range"
        high: uint256 = convert(convert(window_value, bytes32), uint256) << 128
        windows.append(high | (slots << 64) | first_slot)
    else:
        assert selector == OPEN_WINDOWS, "policies: call opens no windows"
        # The list follows right behind the three words of the head.
        assert extract32(data, 68, output_type=uint256) == 96, "policies: encoding is not canonical"
        count: uint256 = extract32(data, 100, output_type=uint256)
        assert count != 0 and count <= MAX_WINDOWS, "policies: no windows, or too many"
        assert len(data) == OPEN_WINDOWS_HEAD + 32 * count, "policies: encoding is not canonical"
        for i: uint256 in range(count, bound=MAX_WINDOWS):
            windows.append(extract32(data, OPEN_WINDOWS_HEAD + 32 * i, output_type=uint256))
    return zone, extract32(data, 36, output_type=uint256), windows


@view
@internal
def _known(policy_id: uint256) -> uint256:
    terms: uint256 = self._terms[policy_id]
    assert terms != 0, "policies: unknown policy"
    return terms


@view
@internal
def _period(terms: uint256) -> uint256:
    return (block.timestamp - ((terms >> ADOPTED) & MASK_40)) // PERIOD


@pure
@internal
def _left(account: uint256, period: uint256) -> uint256:
    budget: uint256 = account & MASK_64
    if account >> 128 != period:
        return budget
    return budget - ((account >> 64) & MASK_64)


@pure
@internal
def _word(number: int256) -> uint256:
    return convert(convert(number, bytes32), uint256) & MASK_32


@pure
@internal
def _signed(word: uint256) -> int256:
    # Shifted to the top and back down, the number takes its sign along.
    return convert(convert(word << 224, bytes32), int256) >> 224
