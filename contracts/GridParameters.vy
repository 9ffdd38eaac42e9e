# pragma version ~=0.4.3
# @license AGPL-3.0-only
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Grid parameters
@notice The market's rules as numbers. Each has a minimum, a maximum, a largest step and a
        cooldown, so that no single vote can overturn the market; each stays readable for any
        past time, so that what was in force at gate closure can always be told. A window
        overrides a value for some slots of one zone, or tells devices what to do in them: the
        community battery, the charge points and home batteries that take part.
@dev A rule is one word, and its older values lie three to a word. The first of those words is
     written with the rule, so that its first three changes write no word that is empty, and of
     the later ones only every third does: 22,100 gas instead of 5,000.

         rule      defined:1 @255 | cooldown:40 @200 | max step:32 @168 | maximum:32 @136
                   | minimum:32 @104 | count of older values:32 @72 | since:40 @32 | value:32 @0
         older     written:1 @255 | three of: since:40 @32 | value:32 @0, the oldest lowest

     The market reads the rules 1 to 10 all the time, so the latest of their values lie in one
     word more, at the places at which `session_terms` and `market_terms` return them:

         packed    since:40 @216 | defined:11 @176 | band max:16 @160 | band min:16 @144
                   | fee:16 @128 | receipt period:24 @104 | clear period:24 @80
                   | gate lead:24 @56 | sessions a day:8 @48 | max slot Wh:16 @32
                   | min order Wh:16 @16 | penalty:16 @0

     where `since` is the time of the latest change of any of them: for that time and any later
     one the word tells all ten.

     Per zone, key and UTC day there are up to 16 windows of one word, with a word that says
     which of the day's 96 slots they cover; and per zone and day one for all keys:

         window    value:128 (signed) @128 | opened at:40 @16 | slots:8 @8 | first slot of 96:8 @0
         covered   count of windows:8 @96 | bit i: slot i of the day lies inside a window
         day       bit 96 + i: inside a window of a market key | bit i: inside any window
"""

from snekmate.auth import ownable
from interfaces import IGridParameters

implements: IGridParameters
initializes: ownable
exports: (ownable.owner, ownable.transfer_ownership)


# ---------------------------------------------------------------------------- #
#                                   CONSTANTS                                  #
# ---------------------------------------------------------------------------- #

# The keys. Times in seconds, energy in Wh, prices in micro euro per Wh.
SESSIONS_PER_DAY: public(constant(uint256)) = 1
# From gate closure to the session's first slot.
GATE_LEAD: public(constant(uint256)) = 2
# After gate closure; a session not cleared by then may be voided.
CLEAR_PERIOD: public(constant(uint256)) = 3
# After the session's end; until then settlement needs the receipt of every filled ask.
RECEIPT_PERIOD: public(constant(uint256)) = 4
PRICE_BAND_MIN: public(constant(uint256)) = 5
PRICE_BAND_MAX: public(constant(uint256)) = 6
GRID_FEE: public(constant(uint256)) = 7
# Collateral of an ask, and what a shortfall costs.
PENALTY: public(constant(uint256)) = 8
MIN_ORDER_WH: public(constant(uint256)) = 9
MAX_SLOT_WH: public(constant(uint256)) = 10
# Before a day's first slot: until then its forecast is committed.
FORECAST_LEAD: public(constant(uint256)) = 11
# After a day's end its totals are final.
FINALITY: public(constant(uint256)) = 12
# Half the spread of the naive forecast's 10 % and 90 % quantiles, in Wh per slot.
NAIVE_SPREAD: public(constant(uint256)) = 13
# In permille.
SKILL_THRESHOLD: public(constant(uint256)) = 14
# In basis points of the member count.
QUORUM: public(constant(uint256)) = 15
# After a session's end; one that is not settled by then may be refunded.
ABANDON_PERIOD: public(constant(uint256)) = 16
# Bound on the power of a battery window, in W.
BATTERY_MAX_W: public(constant(uint256)) = 17
# Slots a day that a forecast may be excused for.
MAX_EXEMPT_SLOTS: public(constant(uint256)) = 18
MIN_HOMES: public(constant(uint256)) = 19
# Basis points of a zone's members: so many objections stop an action under a standing policy.
VETO_SHARE: public(constant(uint256)) = 20
# Basis points of the votes cast: so many vetoes forfeit a proposer's bond.
FORFEIT_SHARE: public(constant(uint256)) = 21
# In whole euros.
PROPOSAL_BOND: public(constant(uint256)) = 22
# Of a membership, before it may propose.
HOLDING_TIME: public(constant(uint256)) = 23
# Basis points of a zone's members, for the votes of that zone alone; 0 leaves it to QUORUM.
ZONE_QUORUM: public(constant(uint256)) = 24
# Micro euro a day that a forecast worse, or better, than the naive one costs, or earns.
MAX_SLASH: public(constant(uint256)) = 25
MAX_REWARD: public(constant(uint256)) = 26
# Scored days before skill decides on a forecaster's standing.
PROBATION_DAYS: public(constant(uint256)) = 27
# Balancing proposals of a forecaster a zone and day.
MAX_ALLOWANCE: public(constant(uint256)) = 28
# From an announced admission or removal of a member to its effect.
ADMISSION_DELAY: public(constant(uint256)) = 29
# No rules but the keys of windows for devices. Power of the community battery in W, positive
# charges it; without a window it rests.
COMMUNITY_BATTERY: public(constant(uint256)) = 1_000
# The most W that each charge point taking part may draw; without a window no cap.
CHARGE_POINTS: public(constant(uint256)) = 1_001
# Power of each home battery taking part, in permille of its rating, positive charges it; without
# a window it follows its own programme.
HOME_BATTERIES: public(constant(uint256)) = 1_002

# Three-phase, 32 A: what a charge point at home draws at most. A cap above it caps nothing.
MAX_CHARGE_POINT_W: constant(int256) = 22_000
FULL_POWER: constant(int256) = 1_000

# Only what the market reads slot by slot can differ from slot to slot. Penalty and energy bounds
# hold for a whole order, over all its slots: a window on them would change nothing.
FIRST_WINDOW_KEY: constant(uint256) = PRICE_BAND_MIN
LAST_WINDOW_KEY: constant(uint256) = GRID_FEE
# Keys up to this one are in the packed word.
LAST_PACKED_KEY: constant(uint256) = MAX_SLOT_WH

SLOT_SECONDS: constant(uint256) = 900
SLOTS_PER_DAY: constant(uint256) = 96
# A deployment defines the 29 rules in one call; some room for more.
MAX_RULES: constant(uint256) = 32
# Enough for a window every hour and a half; bounds the search for the one that holds.
MAX_WINDOWS: constant(uint256) = 16
# Halving 2**32 older values takes 32 steps.
SEARCH_STEPS: constant(uint256) = 32
# Bounds the search for the lowest value; cooldowns keep changes far rarer.
MAX_CHANGES: constant(uint256) = 64
# A window knows neither cooldown nor the step of the one before it: one that reached further ahead
# could hold a value in force for good that no change of the rule may take.
MAX_WINDOW_AHEAD: public(constant(uint256)) = 14 * 86_400
# The governor keeps a bond in 12 bits.
MAX_PROPOSAL_BOND: constant(uint256) = 4_095
# The market packs zones into 10 bits; 32 leave room here.
MAX_ZONE: constant(uint256) = 2**32 - 1
# 65,535 means "no trade", so no price may reach it.
MAX_PRICE: constant(uint256) = 65_534

VALUE_MASK: constant(uint256) = 2**32 - 1
TIME_MASK: constant(uint256) = 2**40 - 1
COUNT_MASK: constant(uint256) = 2**32 - 1
DAY_MASK: constant(uint256) = 2**96 - 1
LANE_MASK: constant(uint256) = 2**64 - 1
DEFINED: constant(uint256) = 2**255

# The rule word.
SINCE: constant(uint256) = 32
OLDER: constant(uint256) = 72
MINIMUM: constant(uint256) = 104
MAXIMUM: constant(uint256) = 136
MAX_STEP: constant(uint256) = 168
COOLDOWN: constant(uint256) = 200
# Minimum, maximum, step and cooldown, which never change.
FIXED: constant(uint256) = (2**152 - 1) << MINIMUM
# Of an older value, three to a word.
ENTRY_BITS: constant(uint256) = 72
ENTRIES: constant(uint256) = 3

# The packed word, and in one byte a key where the keys 1 to 10 stand in it.
PACKED_SINCE: constant(uint256) = 216
PACKED_DEFINED: constant(uint256) = 176
MARKET_TERMS: constant(uint256) = 128
PLACES: constant(uint256) = (
    (48 << (8 * SESSIONS_PER_DAY))
    | (56 << (8 * GATE_LEAD))
    | (80 << (8 * CLEAR_PERIOD))
    | (104 << (8 * RECEIPT_PERIOD))
    | (144 << (8 * PRICE_BAND_MIN))
    | (160 << (8 * PRICE_BAND_MAX))
    | (128 << (8 * GRID_FEE))
    | (0 << (8 * PENALTY))
    | (16 << (8 * MIN_ORDER_WH))
    | (32 << (8 * MAX_SLOT_WH))
)
# Bit `key` of the keys that the two views ask for.
SESSION_KEYS: constant(uint256) = (15 << SESSIONS_PER_DAY) | (7 << PENALTY)
MARKET_KEYS: constant(uint256) = 7 << PRICE_BAND_MIN


# ---------------------------------------------------------------------------- #
#                                    EVENTS                                    #
# ---------------------------------------------------------------------------- #

event RuleDefined:
    key: indexed(uint256)
    name: String[32]
    initial: uint256
    minimum: uint256
    maximum: uint256
    max_step: uint256
    cooldown: uint256


event ValueChanged:
    key: indexed(uint256)
    previous: uint256
    current: uint256


event WindowOpened:
    zone: indexed(uint256)
    key: indexed(uint256)
    first_slot: uint256
    slots: uint256
    value: int256


# ---------------------------------------------------------------------------- #
#                                    STORAGE                                   #
# ---------------------------------------------------------------------------- #

struct Rule:
    key: uint256
    name: String[32]
    initial: uint256
    minimum: uint256
    maximum: uint256
    max_step: uint256
    cooldown: uint256


struct Bounds:
    minimum: uint256
    maximum: uint256
    max_step: uint256
    cooldown: uint256
    # Unix time of the last change; 0 where there was none.
    changed_at: uint256


struct Window:
    first_slot: uint256
    slots: uint256
    value: int256
    opened_at: uint256


name_of: public(HashMap[uint256, String[32]])
_rules: HashMap[uint256, uint256]
# Key -> number of the word -> three older values
_older: HashMap[uint256, HashMap[uint256, uint256]]
_packed: uint256
# Zone, key and day in one word -> covered slots; -> position -> window
_covered: HashMap[uint256, uint256]
_windows: HashMap[uint256, HashMap[uint256, uint256]]
# Zone and day in one word -> slots inside windows
_days: HashMap[uint256, uint256]


# ---------------------------------------------------------------------------- #
#                                  CONSTRUCTOR                                 #
# ---------------------------------------------------------------------------- #

@deploy
def __init__():
    ownable.__init__()


# ---------------------------------------------------------------------------- #
#                                   EXTERNAL                                   #
# ---------------------------------------------------------------------------- #

@external
def define(
    key: uint256,
    name: String[32],
    initial: uint256,
    minimum: uint256,
    maximum: uint256,
    max_step: uint256,
    cooldown: uint256,
):
    """
    @notice Defines a rule, once and for good. Owner only.
    @param key 1 to 999.
    @param name For people.
    @param initial Holds for all time before the first change.
    @param minimum The smallest value it can ever take.
    @param maximum The largest value it can ever take.
    @param max_step The largest difference that one change, or one window, may make.
    @param cooldown Seconds between two changes; the first one does not wait.
    """
    ownable._check_owner()
    self._define(
        Rule(
            key=key,
            name=name,
            initial=initial,
            minimum=minimum,
            maximum=maximum,
            max_step=max_step,
            cooldown=cooldown,
        )
    )


@external
def define_batch(rules: DynArray[Rule, MAX_RULES]):
    """
    @notice Defines many rules, all of them or none. Owner only.
    """
    ownable._check_owner()
    for rule: Rule in rules:
        self._define(rule)


@external
def set_value(key: uint256, new_value: uint256):
    """
    @notice Changes a rule from now on, within its bounds, step and cooldown. Owner only.
    """
    ownable._check_owner()
    rule: uint256 = self._rule(key)
    current: uint256 = rule & VALUE_MASK
    since: uint256 = (rule >> SINCE) & TIME_MASK
    count: uint256 = (rule >> OLDER) & COUNT_MASK
    self._check_value(rule, new_value)
    self._check_sessions(key, new_value)
    if count != 0:
        assert (
            block.timestamp >= since + ((rule >> COOLDOWN) & TIME_MASK)
        ), "parameters: cooling down"
    # Within one second the last change wins; only what stood before it is history.
    if count == 0 or since != block.timestamp:
        self._older[key][count // ENTRIES] |= (
            DEFINED | (((since << SINCE) | current) << (ENTRY_BITS * (count % ENTRIES)))
        )
        count += 1
    self._rules[key] = (rule & FIXED) | (count << OLDER) | (block.timestamp << SINCE) | new_value
    if key <= LAST_PACKED_KEY:
        # Replaces the value, which fits its place, and the time.
        place: uint256 = self._place(key)
        packed: uint256 = self._packed
        packed ^= (current ^ new_value) << place
        self._packed = (packed & (2**PACKED_SINCE - 1)) | (block.timestamp << PACKED_SINCE)
    log ValueChanged(key=key, previous=current, current=new_value)


@external
def open_window(
    zone: uint256, key: uint256, first_slot: uint256, slots: uint256, window_value: int256
):
    """
    @notice Overrides a rule for some slots of a zone, or tells a kind of devices what to do in
            them. Owner only. Final: a window is never moved or closed.
    @param zone The zone.
    @param key One of the rules 5 to 7, COMMUNITY_BATTERY, CHARGE_POINTS, or HOME_BATTERIES.
    @param first_slot The first slot; it has not begun and begins within MAX_WINDOW_AHEAD.
    @param slots How many, within one UTC day and outside every other window of the key.
    @param window_value Within the rule's bounds and at most its largest step away from the value
           now; for the community battery W, at most BATTERY_MAX_W either way; for charge points
           W, 0 to 22,000; for home batteries permille, at most 1,000 either way.
    """
    ownable._check_owner()
    self._open_window(zone, key, first_slot, slots, window_value)


@external
def open_windows(zone: uint256, key: uint256, windows: DynArray[uint256, MAX_WINDOWS]):
    """
    @notice Opens several windows of one key, all of them or none: a battery's schedule of a day
            fits one call of a proposal. Owner only.
    @param zone The zone.
    @param key As for `open_window`.
    @param windows One word each: value @128 in two's complement | slots @64 | first slot @0.
    """
    ownable._check_owner()
    for word: uint256 in windows:
        self._open_window(
            zone, key, word & LANE_MASK, (word >> 64) & LANE_MASK, self._signed_value(word)
        )


# ---------------------------------------------------------------------------- #
#                                     VIEW                                     #
# ---------------------------------------------------------------------------- #

@view
@external
def value(key: uint256) -> uint256:
    """
    @return The value of the rule now, windows aside.
    """
    return self._rule(key) & VALUE_MASK


@view
@external
def value_at(key: uint256, when: uint256) -> uint256:
    """
    @return The value of the rule at the unix time `when`, windows aside; `when` may not lie
            in the future.
    """
    return self._value_at(key, when)


@view
@external
def bounds_of(key: uint256) -> Bounds:
    """
    @return Minimum, maximum, largest step, cooldown in seconds, and time of the last change.
    """
    rule: uint256 = self._rule(key)
    return Bounds(
        minimum=(rule >> MINIMUM) & VALUE_MASK,
        maximum=(rule >> MAXIMUM) & VALUE_MASK,
        max_step=(rule >> MAX_STEP) & VALUE_MASK,
        cooldown=(rule >> COOLDOWN) & TIME_MASK,
        changed_at=(rule >> SINCE) & TIME_MASK,
    )


@view
@external
def lowest_value(key: uint256, start: uint256, end: uint256) -> uint256:
    """
    @return The lowest value that the rule had at any time from `start` to `end`, both included
            and in unix seconds, windows aside; `end` may not lie in the future.
    """
    assert start <= end, "parameters: period ends before it begins"
    assert end <= block.timestamp, "parameters: future lookup"
    rule: uint256 = self._rule(key)
    entry: uint256 = rule
    count: uint256 = (rule >> OLDER) & COUNT_MASK
    lowest: uint256 = max_value(uint256)
    for _: uint256 in range(MAX_CHANGES):
        since: uint256 = (entry >> SINCE) & TIME_MASK
        if since <= end:
            lowest = min(lowest, entry & VALUE_MASK)
        if since <= start:
            return lowest
        # The first value holds since time 0, so there is one more.
        count -= 1
        entry = self._older_entry(key, count)
    raise "parameters: too many changes"


@view
@external
def window_at(zone: uint256, key: uint256, slot: uint256) -> (bool, int256):
    """
    @return Whether the slot lies inside a window of the key, and the window's value.
    """
    return self._window_at(zone, key, slot, block.timestamp)


@view
@external
def windows_of(zone: uint256, key: uint256, first_slot: uint256) -> DynArray[Window, MAX_WINDOWS]:
    """
    @return The windows of a zone and key on the UTC day of `first_slot`, in order of opening.
    """
    day: uint256 = first_slot // SLOTS_PER_DAY
    id: uint256 = self._window_id(zone, key, day)
    result: DynArray[Window, MAX_WINDOWS] = []
    for i: uint256 in range(self._covered[id] >> 96, bound=MAX_WINDOWS):
        word: uint256 = self._windows[id][i]
        result.append(
            Window(
                first_slot=day * SLOTS_PER_DAY + (word & 255),
                slots=(word >> 8) & 255,
                value=self._signed_value(word),
                opened_at=(word >> 16) & TIME_MASK,
            )
        )
    return result


@view
@external
def exempt_slots(zone: uint256, first_slot: uint256) -> uint256:
    """
    @param first_slot The first slot of a UTC day.
    @return A bitmap of the day: bit i is set where slot i lies inside any window.
    """
    assert first_slot % SLOTS_PER_DAY == 0, "parameters: not the first slot of a day"
    return self._days[self._window_id(zone, 0, first_slot // SLOTS_PER_DAY)] & DAY_MASK


@view
@external
def effective(zone: uint256, key: uint256, slot: uint256) -> uint256:
    """
    @return What holds for the slot as things stand: the window's value, or else the rule's.
    """
    return self._effective_at(zone, key, slot, block.timestamp)


@view
@external
def effective_at(zone: uint256, key: uint256, slot: uint256, when: uint256) -> uint256:
    """
    @return What held for the slot at the unix time `when`: the value of a window that was open
            by then, or else the rule's at that time.
    """
    return self._effective_at(zone, key, slot, when)


@view
@external
def session_terms(when: uint256) -> uint256:
    """
    @notice What the market needs to open a session and to take orders, in one word.
    @return `receipt period:24 @104 | clear period:24 @80 | gate lead:24 @56 | sessions a day:8 @48
            | max slot Wh:16 @32 | min order Wh:16 @16 | penalty:16 @0` as in force at the unix
            time `when`, which may not lie in the future.
    """
    return self._packed_at(when, SESSION_KEYS) & (2**MARKET_TERMS - 1)


@view
@external
def market_terms(
    zone: uint256, first_slot: uint256, slots: uint256, when: uint256
) -> DynArray[uint256, SLOTS_PER_DAY]:
    """
    @notice The price terms of a run of slots within one UTC day, in one call.
    @return Per slot `band maximum << 32 | band minimum << 16 | grid fee` in micro euro per Wh,
            as in force at the unix time `when`, windows included.
    """
    start: uint256 = first_slot % SLOTS_PER_DAY
    day: uint256 = first_slot // SLOTS_PER_DAY
    assert slots <= SLOTS_PER_DAY - start, "parameters: slots leave their day"
    base: uint256 = (self._packed_at(when, MARKET_KEYS) >> MARKET_TERMS) & (2**48 - 1)
    terms: DynArray[uint256, SLOTS_PER_DAY] = []
    for i: uint256 in range(slots, bound=SLOTS_PER_DAY):
        terms.append(base)
    asked: uint256 = ((1 << slots) - 1) << start
    # Usually no window of these keys meets the slots.
    if (self._days[self._window_id(zone, 0, day)] >> SLOTS_PER_DAY) & asked == 0:
        return terms
    # In the order of their places in a word, lowest first.
    keys: uint256[3] = [GRID_FEE, PRICE_BAND_MIN, PRICE_BAND_MAX]
    for place: uint256 in range(3):
        id: uint256 = self._window_id(zone, keys[place], day)
        covered: uint256 = self._covered[id]
        if covered & asked == 0:
            continue
        keep: uint256 = max_value(uint256) ^ (65_535 << (16 * place))
        for j: uint256 in range(covered >> 96, bound=MAX_WINDOWS):
            word: uint256 = self._windows[id][j]
            if (word >> 16) & TIME_MASK > when:
                continue
            # Of the window's slots those that were asked for.
            window_start: uint256 = word & 255
            first: uint256 = max(window_start, start)
            last: uint256 = min(window_start + ((word >> 8) & 255), start + slots)
            if first < last:
                for k: uint256 in range(last - first, bound=SLOTS_PER_DAY):
                    at: uint256 = first - start + k
                    terms[at] = (terms[at] & keep) | ((word >> 128) << (16 * place))
    return terms


# ---------------------------------------------------------------------------- #
#                                   INTERNAL                                   #
# ---------------------------------------------------------------------------- #

@internal
def _define(rule: Rule):
    assert rule.key != 0 and rule.key < COMMUNITY_BATTERY, "parameters: key out of range"
    assert self._rules[rule.key] == 0, "parameters: already defined"
    assert rule.maximum <= self._largest(rule.key), "parameters: maximum out of range"
    assert rule.minimum <= rule.initial, "parameters: value out of bounds"
    assert rule.initial <= rule.maximum, "parameters: value out of bounds"
    self._check_sessions(rule.key, rule.initial)
    assert rule.max_step <= VALUE_MASK, "parameters: step out of range"
    assert rule.cooldown <= TIME_MASK, "parameters: cooldown out of range"
    self.name_of[rule.key] = rule.name
    self._rules[rule.key] = (
        DEFINED
        | (rule.cooldown << COOLDOWN)
        | (rule.max_step << MAX_STEP)
        | (rule.maximum << MAXIMUM)
        | (rule.minimum << MINIMUM)
        | rule.initial
    )
    # No value yet; the first changes find the word written.
    self._older[rule.key][0] = DEFINED
    if rule.key <= LAST_PACKED_KEY:
        # Holds for all time before the first change, so `since` stays.
        self._packed |= (1 << (PACKED_DEFINED + rule.key)) | (rule.initial << self._place(rule.key))
    log RuleDefined(
        key=rule.key,
        name=rule.name,
        initial=rule.initial,
        minimum=rule.minimum,
        maximum=rule.maximum,
        max_step=rule.max_step,
        cooldown=rule.cooldown,
    )


@internal
def _open_window(
    zone: uint256, key: uint256, first_slot: uint256, slots: uint256, window_value: int256
):
    assert zone != 0 and zone <= MAX_ZONE, "parameters: zone out of range"
    start: uint256 = first_slot % SLOTS_PER_DAY
    assert slots != 0 and slots <= SLOTS_PER_DAY - start, "parameters: window leaves its day"
    # Also bounds the slot, and with it the day, far below 2**64.
    assert first_slot <= TIME_MASK // SLOT_SECONDS, "parameters: slot out of range"
    assert first_slot * SLOT_SECONDS > block.timestamp, "parameters: window has begun"
    assert (
        first_slot * SLOT_SECONDS <= block.timestamp + MAX_WINDOW_AHEAD
    ), "parameters: window is too far ahead"
    if key == COMMUNITY_BATTERY:
        limit: int256 = convert(self._rule(BATTERY_MAX_W) & VALUE_MASK, int256)
        assert (
            window_value >= -limit and window_value <= limit
        ), "parameters: battery power out of range"
    elif key == CHARGE_POINTS:
        assert (
            window_value >= 0 and window_value <= MAX_CHARGE_POINT_W
        ), "parameters: charging power out of range"
    elif key == HOME_BATTERIES:
        assert (
            window_value >= -FULL_POWER and window_value <= FULL_POWER
        ), "parameters: share of power out of range"
    else:
        assert key >= FIRST_WINDOW_KEY and key <= LAST_WINDOW_KEY, "parameters: key takes no window"
        assert window_value >= 0, "parameters: value out of bounds"
        self._check_value(self._rule(key), convert(window_value, uint256))

    day: uint256 = first_slot // SLOTS_PER_DAY
    id: uint256 = self._window_id(zone, key, day)
    covered: uint256 = self._covered[id]
    count: uint256 = covered >> 96
    mask: uint256 = ((1 << slots) - 1) << start
    assert covered & mask == 0, "parameters: window overlaps another"
    assert count < MAX_WINDOWS, "parameters: too many windows"
    # Shifted up, the value keeps its two's complement in the upper half; both bounds fit it.
    self._windows[id][count] = (
        (convert(convert(window_value, bytes32), uint256) << 128)
        | (block.timestamp << 16)
        | (slots << 8)
        | start
    )
    self._covered[id] = ((count + 1) << 96) | (covered & DAY_MASK) | mask
    if key < COMMUNITY_BATTERY:
        mask |= mask << SLOTS_PER_DAY
    self._days[self._window_id(zone, 0, day)] |= mask
    log WindowOpened(zone=zone, key=key, first_slot=first_slot, slots=slots, value=window_value)


@view
@internal
def _rule(key: uint256) -> uint256:
    rule: uint256 = self._rules[key]
    assert rule != 0, "parameters: unknown key"
    return rule


@pure
@internal
def _place(key: uint256) -> uint256:
    return (PLACES >> (8 * key)) & 255


@pure
@internal
def _largest(key: uint256) -> uint256:
    """
    @return The largest value that a rule of this key can be given.
    """
    if key == SESSIONS_PER_DAY:
        return 24
    if key <= RECEIPT_PERIOD:
        return 2**24 - 1
    if key >= PRICE_BAND_MIN and key <= GRID_FEE:
        return MAX_PRICE
    if key <= LAST_PACKED_KEY:
        return 2**16 - 1
    if key in [QUORUM, VETO_SHARE, FORFEIT_SHARE, ZONE_QUORUM]:
        return 10_000
    if key == PROPOSAL_BOND:
        return MAX_PROPOSAL_BOND
    return VALUE_MASK


@pure
@internal
def _check_value(rule: uint256, proposed: uint256):
    current: uint256 = rule & VALUE_MASK
    assert proposed >= (rule >> MINIMUM) & VALUE_MASK, "parameters: value out of bounds"
    assert proposed <= (rule >> MAXIMUM) & VALUE_MASK, "parameters: value out of bounds"
    step: uint256 = max(current, proposed) - min(current, proposed)
    assert step <= (rule >> MAX_STEP) & VALUE_MASK, "parameters: step too large"


@pure
@internal
def _check_sessions(key: uint256, sessions: uint256):
    """
    @dev Sessions cover a day in whole hours. Any other number would open no session at all,
         and only a vote could end that.
    """
    if key == SESSIONS_PER_DAY:
        assert sessions != 0 and 24 % sessions == 0, "parameters: sessions split hours"


@view
@internal
def _older_entry(key: uint256, number: uint256) -> uint256:
    """
    @return An older value with its time, counted from 0; what stands above both is of others.
    """
    return self._older[key][number // ENTRIES] >> (ENTRY_BITS * (number % ENTRIES))


@view
@internal
def _value_at(key: uint256, when: uint256) -> uint256:
    assert when <= block.timestamp, "parameters: future lookup"
    rule: uint256 = self._rule(key)
    if (rule >> SINCE) & TIME_MASK <= when:
        return rule & VALUE_MASK
    # The answer is the last older value at or before the time; the first one stands at time 0.
    low: uint256 = 0
    high: uint256 = (rule >> OLDER) & COUNT_MASK
    result: uint256 = 0
    for _: uint256 in range(SEARCH_STEPS):
        if low == high:
            break
        middle: uint256 = (low + high) // 2
        entry: uint256 = self._older_entry(key, middle)
        if (entry >> SINCE) & TIME_MASK <= when:
            result = entry & VALUE_MASK
            low = middle + 1
        else:
            high = middle
    return result


@view
@internal
def _packed_at(when: uint256, wanted: uint256) -> uint256:
    """
    @return The packed word as of the time, with at least the keys whose bits are wanted.
    """
    assert when <= block.timestamp, "parameters: future lookup"
    packed: uint256 = self._packed
    if packed >> PACKED_SINCE <= when:
        assert (packed >> PACKED_DEFINED) & wanted == wanted, "parameters: unknown key"
        return packed
    packed = 0
    for key: uint256 in range(1, LAST_PACKED_KEY + 1):
        if (wanted >> key) & 1 == 1:
            packed |= self._value_at(key, when) << self._place(key)
    return packed


@pure
@internal
def _window_id(zone: uint256, key: uint256, day: uint256) -> uint256:
    # Zone and key are bounded where windows open; larger ones find no window.
    assert zone <= MAX_ZONE and key <= HOME_BATTERIES, "parameters: no such window"
    assert day <= TIME_MASK, "parameters: no such window"
    return (zone << 128) | (key << 96) | day


@pure
@internal
def _signed_value(word: uint256) -> int256:
    # Shifting a signed number keeps its sign.
    return convert(convert(word, bytes32), int256) >> 128


@view
@internal
def _window_at(zone: uint256, key: uint256, slot: uint256, when: uint256) -> (bool, int256):
    id: uint256 = self._window_id(zone, key, slot // SLOTS_PER_DAY)
    covered: uint256 = self._covered[id]
    place: uint256 = slot % SLOTS_PER_DAY
    if (covered >> place) & 1 == 0:
        return False, 0
    for i: uint256 in range(covered >> 96, bound=MAX_WINDOWS):
        word: uint256 = self._windows[id][i]
        start: uint256 = word & 255
        if place >= start and place < start + ((word >> 8) & 255):
            # Windows do not overlap: it is this one or none.
            if (word >> 16) & TIME_MASK > when:
                return False, 0
            return True, self._signed_value(word)
    return False, 0


@view
@internal
def _effective_at(zone: uint256, key: uint256, slot: uint256, when: uint256) -> uint256:
    base: uint256 = self._value_at(key, when)
    inside: bool = False
    window_value: int256 = 0
    inside, window_value = self._window_at(zone, key, slot, when)
    if inside:
        return convert(window_value, uint256)
    return base
