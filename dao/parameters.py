# SPDX-License-Identifier: Apache-2.0
"""The rules that `GridParameters` holds: key, first value, bounds, and why.

`scripts/` and `dao/deployment.py` define them on chain at deployment; from then on only a vote
moves a value, within minimum, maximum, largest step and cooldown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dao.errors import BadUse

HOUR = 3_600
DAY = 24 * HOUR
EURO = 1_000_000


@dataclass(frozen=True)
class Rule:
    """One rule as the contract keeps it.

    Times in seconds, energy in Wh, prices in µ€/Wh, shares in basis points, money in µ€ except
    `proposal_bond` in whole euros.
    """

    key: int
    name: str
    initial: int
    minimum: int
    maximum: int
    max_step: int
    cooldown: int
    why: str

    def as_tuple(self) -> tuple[int, str, int, int, int, int, int]:
        """The fields in the order of the contract's `Rule` struct."""
        return (
            self.key,
            self.name,
            self.initial,
            self.minimum,
            self.maximum,
            self.max_step,
            self.cooldown,
        )


# Largest values of prices leave 65,535 free, which means "nothing trades". The bounds of the band's
# two ends do not touch, so that no vote can turn it inside out. Finality stays short enough that a
# forecaster's bond cannot leave (17 days) before the day it stands for is final and was disputed.
MARKET_RULES: tuple[Rule, ...] = (
    Rule(1, "sessions_per_day", 4, 1, 24, 23, 7 * DAY, "four gates a day suit people at home"),
    Rule(2, "gate_lead", HOUR, 900, 6 * HOUR, HOUR, DAY, "time to post, clear and plan"),
    Rule(3, "clear_period", HOUR, 900, 6 * HOUR, HOUR, DAY, "cleared before delivery begins"),
    Rule(4, "receipt_period", 12 * HOUR, HOUR, 7 * DAY, DAY, DAY, "a gateway may be offline"),
    Rule(5, "price_band_min", 0, 0, 100, 50, DAY, "no seller pays to be rid of energy"),
    Rule(6, "price_band_max", 1_000, 150, 5_000, 500, DAY, "2.5 times the usual retail tariff"),
    Rule(7, "grid_fee", 110, 0, 500, 50, DAY, "the mean network charge, BDEW 2025"),
    Rule(8, "penalty", 100, 0, 1_000, 100, DAY, "what a Wh not delivered costs its seller"),
    Rule(9, "min_order_wh", 50, 1, 10_000, 1_000, DAY, "smaller orders cost more than they move"),
    Rule(10, "max_slot_wh", 25_000, 1_000, 60_000, 10_000, DAY, "a 100 kW connection"),
    Rule(11, "forecast_lead", 5 * HOUR, HOUR, 24 * HOUR, 4 * HOUR, DAY, "leaves time for a vote"),
    Rule(12, "finality", 3 * DAY, DAY, 4 * DAY, DAY, DAY, "late readings are in by then"),
    Rule(13, "naive_spread", 4_000, 0, 1_000_000, 100_000, DAY, "10 to 90 % spread of the naive"),
    Rule(14, "skill_threshold", 50, 0, 1_000, 100, DAY, "permille better than the naive"),
    Rule(15, "quorum", 2_000, 500, 6_000, 500, 7 * DAY, "a fifth of the members"),
    Rule(16, "abandon_period", 7 * DAY, DAY, 60 * DAY, 7 * DAY, DAY, "long after any deadline"),
    Rule(17, "battery_max_w", 150_000, 0, 500_000, 100_000, DAY, "rating of the battery"),
    Rule(18, "max_exempt_slots", 72, 0, 96, 24, DAY, "a sunny day of charging and giving back"),
    Rule(19, "min_homes", 15, 15, 100, 10, DAY, "a sum over fewer homes tells on them"),
    Rule(20, "veto_share", 1_000, 100, 5_000, 500, 7 * DAY, "a tenth of a zone may say stop"),
    Rule(21, "forfeit_share", 3_334, 2_500, 6_667, 500, 7 * DAY, "a third calls it an abuse"),
    Rule(22, "proposal_bond", 20, 0, 1_000, 50, 7 * DAY, "felt by who floods the polls"),
    Rule(23, "holding_time", 7 * DAY, 0, 90 * DAY, 30 * DAY, 7 * DAY, "nobody joins for one vote"),
    Rule(24, "zone_quorum", 0, 0, 6_000, 1_000, 7 * DAY, "0: the quorum of all votes"),
    Rule(25, "max_slash", 5 * EURO, 0, 100 * EURO, 10 * EURO, DAY, "twenty bad days of a bond"),
    Rule(26, "max_reward", EURO, 0, 20 * EURO, 5 * EURO, DAY, "the machine's running costs"),
    Rule(27, "probation_days", 7, 0, 28, 7, DAY, "a week tells a model from a guess"),
    Rule(28, "max_allowance", 4, 0, 8, 2, DAY, "one for each session of a day"),
    Rule(29, "admission_delay", 9 * DAY, DAY, 60 * DAY, 7 * DAY, DAY, "longer than a vote takes"),
)


def rules_from(initial: Mapping[str, int]) -> tuple[Rule, ...]:
    """The rules with other first values by name; BadUse for an unknown name or a value too far."""
    unknown = sorted(set(initial) - {rule.name for rule in MARKET_RULES})
    if unknown:
        raise BadUse(f"there is no rule {unknown[0]!r}")
    found = []
    for rule in MARKET_RULES:
        value = initial.get(rule.name, rule.initial)
        if not rule.minimum <= value <= rule.maximum:
            raise BadUse(f"{rule.name} {value}: expected {rule.minimum}..{rule.maximum}")
        found.append(replace(rule, initial=value))
    return tuple(found)


@dataclass(frozen=True)
class SessionTerms:
    """What `GridParameters.session_terms` tells in one word; times in seconds."""

    penalty: int
    min_order_wh: int
    max_slot_wh: int
    sessions_per_day: int
    gate_lead: int
    clear_period: int
    receipt_period: int


# Bits of each field in the word, the lowest first.
_SESSION_TERMS = (16, 16, 16, 8, 24, 24, 24)


def unpack_session_terms(word: int) -> SessionTerms:
    """The word that `GridParameters.session_terms` returns, as its fields."""
    values = []
    for bits in _SESSION_TERMS:
        values.append(word & ((1 << bits) - 1))
        word >>= bits
    return SessionTerms(*values)


KEYS: dict[str, int] = {rule.name: rule.key for rule in MARKET_RULES}

# Keys of windows for devices (GridParameters), and what their values mean.
COMMUNITY_BATTERY = 1_000
"""Power in W, positive charges; without a window it rests."""
CHARGE_POINTS = 1_001
"""The most W that each charge point taking part may draw; without a window no cap."""
HOME_BATTERIES = 1_002
"""Permille of each home battery's rated power, positive charges; without a window each follows its
own programme."""
MAX_CHARGE_POINT_W = 22_000
FULL_POWER = 1_000

WINDOW_NAMES: dict[int, str] = {
    **{key: name for name, key in KEYS.items() if 5 <= key <= 7},
    COMMUNITY_BATTERY: "community battery",
    CHARGE_POINTS: "charge points",
    HOME_BATTERIES: "home batteries",
}
"""Every key that takes windows, with its name."""


def neutral_distance(key: int, value: int, rule_value: int = 0) -> int:
    """How far a window's value moves something, as `StandingPolicies` takes it off a budget a slot.

    rule_value: what the rule says now, for keys 5 to 7.
    """
    if key == COMMUNITY_BATTERY:
        return abs(value)
    if key == CHARGE_POINTS:
        return abs(value - MAX_CHARGE_POINT_W)
    if key == HOME_BATTERIES:
        return FULL_POWER + abs(value)
    return abs(value - rule_value)
