# pragma version ~=0.4.3
# @license AGPL-3.0-only
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Grid parameters
@notice The market's rules as numbers. Each has a minimum, a maximum, a largest step and a
        cooldown, so that no single vote can overturn the market; each stays readable for any
        past time, so that what was in force at gate closure can always be told. A window
        overrides a value for some slots of one zone, or gives the community battery a power.
@dev Three words per rule:

         bounds    cooldown:40 @192 | max step:64 @128 | maximum:64 @64 | minimum:64 @0
         head      defined:1 @255 | count of older values:32 @104 | since:40 @64 | value:64 @0
         older[i]                                                   since:40 @64 | value:64 @0

     and per zone, key and UTC day up to 16 windows of one word, with a word that says which
     of the day's 96 slots they cover:

         window    value:128 (signed) @128 | opened at:40 @16 | slots:8 @8 | first slot of 96:8 @0
         covered   count of windows:8 @96 | bit i: slot i of the day lies inside a window
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
# No rule but the key of windows for the community battery; power in W, positive charges it.
COMMUNITY_BATTERY: public(constant(uint256)) = 1_000

# Only what the market reads slot by slot can differ from slot to slot.
FIRST_WINDOW_KEY: constant(uint256) = PRICE_BAND_MIN
LAST_WINDOW_KEY: constant(uint256) = MAX_SLOT_WH

SLOT_SECONDS: constant(uint256) = 900
SLOTS_PER_DAY: constant(uint256) = 96
# A deployment defines the 19 rules in one call; some room for more.
MAX_RULES: constant(uint256) = 32
# Enough for a window every hour and a half; bounds the search for the one that holds.
MAX_WINDOWS: constant(uint256) = 16
# Halving 2**32 older values takes 32 steps.
SEARCH_STEPS: constant(uint256) = 32
# The market packs zones into 10 bits; 32 leave room here.
MAX_ZONE: constant(uint256) = 2**32 - 1
# 65,535 means "no trade", so no price may reach it.
MAX_PRICE: constant(uint256) = 65_534

VALUE_MASK: constant(uint256) = 2**64 - 1
TIME_MASK: constant(uint256) = 2**40 - 1
COUNT_MASK: constant(uint256) = 2**32 - 1
DAY_MASK: constant(uint256) = 2**96 - 1
DEFINED: constant(uint256) = 2**255


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
_bounds: HashMap[uint256, uint256]
_heads: HashMap[uint256, uint256]
_older: HashMap[uint256, HashMap[uint256, uint256]]
# Zone, key and day in one word -> covered slots; -> position -> window
_covered: HashMap[uint256, uint256]
_windows: HashMap[uint256, HashMap[uint256, uint256]]
# Zone and day in one word -> slots inside any window
_exempt: HashMap[uint256, uint256]


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
    head: uint256 = self._head(key)
    current: uint256 = head & VALUE_MASK
    since: uint256 = (head >> 64) & TIME_MASK
    count: uint256 = (head >> 104) & COUNT_MASK
    bounds: uint256 = self._bounds[key]
    self._check_value(current, new_value, bounds)
    self._check_sessions(key, new_value)
    if count != 0:
        assert block.timestamp >= since + (bounds >> 192), "parameters: cooling down"
    # Within one second the last change wins; only what stood before it is history.
    if count == 0 or since != block.timestamp:
        self._older[key][count] = (since << 64) | current
        count += 1
    self._heads[key] = DEFINED | (count << 104) | (block.timestamp << 64) | new_value
    log ValueChanged(key=key, previous=current, current=new_value)


@external
def open_window(
    zone: uint256, key: uint256, first_slot: uint256, slots: uint256, window_value: int256
):
    """
    @notice Overrides a rule for some slots of a zone, or sets the community battery's power.
            Owner only. Final: a window is never moved or closed.
    @param zone The zone.
    @param key One of the rules 5 to 10, or COMMUNITY_BATTERY.
    @param first_slot The first slot; it has not begun.
    @param slots How many, within one UTC day and outside every other window of the key.
    @param window_value Within the rule's bounds and at most its largest step away from the value
           now; for the battery W, positive charges, at most BATTERY_MAX_W either way.
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
            zone, key, word & VALUE_MASK, (word >> 64) & VALUE_MASK, self._signed_value(word)
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
    return self._head(key) & VALUE_MASK


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
    head: uint256 = self._head(key)
    bounds: uint256 = self._bounds[key]
    return Bounds(
        minimum=bounds & VALUE_MASK,
        maximum=(bounds >> 64) & VALUE_MASK,
        max_step=(bounds >> 128) & VALUE_MASK,
        cooldown=bounds >> 192,
        changed_at=(head >> 64) & TIME_MASK,
    )


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
    return self._exempt[self._window_id(zone, 0, first_slot // SLOTS_PER_DAY)]


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
def market_terms(
    zone: uint256, first_slot: uint256, slots: uint256, when: uint256
) -> DynArray[uint256, SLOTS_PER_DAY]:
    """
    @notice The price terms of a run of slots within one UTC day, in one call.
    @return Per slot `band maximum << 32 | band minimum << 16 | grid fee` in micro euro per Wh,
            as in force at the unix time `when`, windows included.
    """
    start: uint256 = first_slot % SLOTS_PER_DAY
    assert slots <= SLOTS_PER_DAY - start, "parameters: slots leave their day"
    base: uint256 = (
        (self._value_at(PRICE_BAND_MAX, when) << 32)
        | (self._value_at(PRICE_BAND_MIN, when) << 16)
        | self._value_at(GRID_FEE, when)
    )
    terms: DynArray[uint256, SLOTS_PER_DAY] = []
    for i: uint256 in range(slots, bound=SLOTS_PER_DAY):
        terms.append(base)
    # In the order of their places in a word, lowest first.
    keys: uint256[3] = [GRID_FEE, PRICE_BAND_MIN, PRICE_BAND_MAX]
    asked: uint256 = ((1 << slots) - 1) << start
    for place: uint256 in range(3):
        id: uint256 = self._window_id(zone, keys[place], first_slot // SLOTS_PER_DAY)
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
    assert self._heads[rule.key] == 0, "parameters: already defined"
    assert rule.maximum <= VALUE_MASK, "parameters: maximum out of range"
    if rule.key >= PRICE_BAND_MIN and rule.key <= GRID_FEE:
        assert rule.maximum <= MAX_PRICE, "parameters: maximum out of range"
    if rule.key == QUORUM:
        assert rule.maximum <= 10_000, "parameters: maximum out of range"
    assert rule.minimum <= rule.initial, "parameters: value out of bounds"
    assert rule.initial <= rule.maximum, "parameters: value out of bounds"
    self._check_sessions(rule.key, rule.initial)
    assert rule.max_step <= VALUE_MASK, "parameters: step out of range"
    assert rule.cooldown <= TIME_MASK, "parameters: cooldown out of range"
    self.name_of[rule.key] = rule.name
    self._bounds[rule.key] = (
        (rule.cooldown << 192) | (rule.max_step << 128) | (rule.maximum << 64) | rule.minimum
    )
    self._heads[rule.key] = DEFINED | rule.initial
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
    if key == COMMUNITY_BATTERY:
        limit: int256 = convert(self._head(BATTERY_MAX_W) & VALUE_MASK, int256)
        assert (
            window_value >= -limit and window_value <= limit
        ), "parameters: battery power out of range"
    else:
        assert key >= FIRST_WINDOW_KEY and key <= LAST_WINDOW_KEY, "parameters: key takes no window"
        assert window_value >= 0, "parameters: value out of bounds"
        base: uint256 = self._head(key) & VALUE_MASK
        self._check_value(base, convert(window_value, uint256), self._bounds[key])

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
    exempt_id: uint256 = self._window_id(zone, 0, day)
    self._exempt[exempt_id] |= mask
    log WindowOpened(zone=zone, key=key, first_slot=first_slot, slots=slots, value=window_value)


@view
@internal
def _head(key: uint256) -> uint256:
    head: uint256 = self._heads[key]
    assert head != 0, "parameters: unknown key"
    return head


@pure
@internal
def _check_value(current: uint256, proposed: uint256, bounds: uint256):
    assert proposed >= bounds & VALUE_MASK, "parameters: value out of bounds"
    assert proposed <= (bounds >> 64) & VALUE_MASK, "parameters: value out of bounds"
    step: uint256 = max(current, proposed) - min(current, proposed)
    assert step <= (bounds >> 128) & VALUE_MASK, "parameters: step too large"


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
def _value_at(key: uint256, when: uint256) -> uint256:
    assert when <= block.timestamp, "parameters: future lookup"
    head: uint256 = self._head(key)
    if (head >> 64) & TIME_MASK <= when:
        return head & VALUE_MASK
    # The answer is the last older value at or before the time; the first one stands at time 0.
    low: uint256 = 0
    high: uint256 = (head >> 104) & COUNT_MASK
    result: uint256 = 0
    for _: uint256 in range(SEARCH_STEPS):
        if low == high:
            break
        middle: uint256 = (low + high) // 2
        checkpoint: uint256 = self._older[key][middle]
        if checkpoint >> 64 <= when:
            result = checkpoint & VALUE_MASK
            low = middle + 1
        else:
            high = middle
    return result


@pure
@internal
def _window_id(zone: uint256, key: uint256, day: uint256) -> uint256:
    # Zone and key are bounded where windows open; larger ones find no window.
    assert zone <= MAX_ZONE and key <= COMMUNITY_BATTERY, "parameters: no such window"
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
