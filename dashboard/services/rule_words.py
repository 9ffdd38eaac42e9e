# SPDX-License-Identifier: Apache-2.0
"""The rules in a resident's words: what each is for, and its values as one reads them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from dao.governance.describe import plain_text
from dao.parameters import (
    CHARGE_POINTS,
    COMMUNITY_BATTERY,
    HOME_BATTERIES,
)
from dashboard.i18n import N_, Formats, _, ngettext
from dashboard.services.rules import NAMES, RuleState

_NARROW = "\u00a0"


class Unit(StrEnum):
    """How a rule's number is to be read."""

    TIME = "time"
    PRICE = "price"
    ENERGY = "energy"
    POWER = "power"
    HUNDREDTHS = "hundredths"
    """Of a percent."""
    PERMILLE = "permille"
    EURO = "euro"
    MICRO_EURO = "micro-euro"
    COUNT = "count"
    DAYS = "days"


@dataclass(frozen=True)
class Words:
    """A rule's title, what it is for, and its unit; English, for `_`."""

    title: str
    about: str
    unit: Unit


class Group(StrEnum):
    """What rules are about."""

    PRICES = "prices"
    TRADE = "trade"
    VOTES = "votes"
    FORECASTS = "forecasts"
    OTHER = "other"


RULES: MappingProxyType[Group, dict[str, Words]] = MappingProxyType(
    {
        Group.PRICES: {
            "price_band_min": Words(
                N_("Lowest price"), N_("Nobody can offer energy for less."), Unit.PRICE
            ),
            "price_band_max": Words(
                N_("Highest price"), N_("Nobody can ask or bid more."), Unit.PRICE
            ),
            "grid_fee": Words(
                N_("Grid fee"),
                N_("What a buyer pays for the grid on top; it goes to the treasury."),
                Unit.PRICE,
            ),
            "penalty": Words(
                N_("Penalty for energy not delivered"),
                N_("What a seller pays the buyers for each kWh sold and not delivered."),
                Unit.PRICE,
            ),
        },
        Group.TRADE: {
            "sessions_per_day": Words(
                N_("Sessions a day"), N_("How often trading closes each day."), Unit.COUNT
            ),
            "gate_lead": Words(
                N_("Close before delivery"),
                N_("Orders are taken until this long before a session's first quarter-hour."),
                Unit.TIME,
            ),
            "clear_period": Words(
                N_("Time to find the prices"),
                N_("A session without prices after this can be called off."),
                Unit.TIME,
            ),
            "receipt_period": Words(
                N_("Time for meters to report"),
                N_("How long payment waits for the sellers' meters."),
                Unit.TIME,
            ),
            "abandon_period": Words(
                N_("Money back after"),
                N_("If a session is never settled, its orders get their money back."),
                Unit.TIME,
            ),
            "min_order_wh": Words(
                N_("Smallest order"), N_("No order can be for less energy."), Unit.ENERGY
            ),
            "max_slot_wh": Words(
                N_("Largest order"),
                N_("No order can be for more energy in a quarter-hour."),
                Unit.ENERGY,
            ),
        },
        Group.VOTES: {
            "quorum": Words(
                N_("Quorum"),
                N_("The share of members that has to take part for a vote to count."),
                Unit.HUNDREDTHS,
            ),
            "zone_quorum": Words(
                N_("Quorum of a zone"),
                N_("For votes of one zone alone; at 0 the quorum of all votes holds."),
                Unit.HUNDREDTHS,
            ),
            "veto_share": Words(
                N_("Objections that stop an action"),
                N_("Of a zone's members, against an action under a standing policy."),
                Unit.HUNDREDTHS,
            ),
            "forfeit_share": Words(
                N_("Vetoes that cost the bond"),
                N_("Of the votes cast; the proposer's bond then goes to the treasury."),
                Unit.HUNDREDTHS,
            ),
            "proposal_bond": Words(
                N_("Bond for a proposal"),
                N_("What a member puts up to propose, and gets back after a fair vote."),
                Unit.EURO,
            ),
            "holding_time": Words(
                N_("Membership before proposing"),
                N_("A new member waits this long before it may propose."),
                Unit.TIME,
            ),
            "admission_delay": Words(
                N_("Notice before joining or leaving"),
                N_("Time for the members to stop an admission or a removal."),
                Unit.TIME,
            ),
        },
        Group.FORECASTS: {
            "battery_max_w": Words(
                N_("Most power of the community battery"),
                N_("No schedule can ask for more."),
                Unit.POWER,
            ),
            "forecast_lead": Words(
                N_("Forecast before its day"),
                N_("A day's forecast has to be fixed this long before."),
                Unit.TIME,
            ),
            "finality": Words(
                N_("Readings become final after"),
                N_("Until then a day's readings can be corrected."),
                Unit.TIME,
            ),
            "naive_spread": Words(
                N_("Spread of the simple forecast"),
                N_("Half the range of the forecast that others are measured against."),
                Unit.ENERGY,
            ),
            "skill_threshold": Words(
                N_("Skill a forecaster needs"),
                N_("So much better than the simple forecast, to stay in good standing."),
                Unit.PERMILLE,
            ),
            "probation_days": Words(
                N_("Probation of a forecaster"),
                N_("Days before its skill decides."),
                Unit.DAYS,
            ),
            "max_allowance": Words(
                N_("Proposals of a forecaster"),
                N_("At most, for a zone and day."),
                Unit.COUNT,
            ),
            "max_exempt_slots": Words(
                N_("Quarter-hours left out of a score"),
                N_("Those in which an action changed what was forecast, at most a day."),
                Unit.COUNT,
            ),
            "min_homes": Words(
                N_("Homes behind a score"),
                N_("A sum over fewer homes would tell on them."),
                Unit.COUNT,
            ),
            "max_slash": Words(
                N_("Most that a bad day costs"),
                N_("Taken from the forecaster's bond."),
                Unit.MICRO_EURO,
            ),
            "max_reward": Words(
                N_("Most that a good day earns"),
                N_("Paid from what bad days cost."),
                Unit.MICRO_EURO,
            ),
        },
    }
)
_BY_NAME = {name: words for group in RULES.values() for name, words in group.items()}


def group_title(group: Group) -> str:
    """A group's heading."""
    return {
        Group.PRICES: _("Prices and fees"),
        Group.TRADE: _("How trading runs"),
        Group.VOTES: _("Votes and membership"),
        Group.FORECASTS: _("Battery and forecasts"),
        Group.OTHER: _("Further rules"),
    }[group]


def group_of(rule: RuleState) -> Group:
    """What a rule is about; one that a vote added since is among the further ones."""
    name = NAMES.get(rule.key)
    for group, rules in RULES.items():
        if name in rules:
            return group
    return Group.OTHER


def title(key: int, own: str = "") -> str:
    """A rule's title; `own` is the contract's name for one that has no words here."""
    words = _BY_NAME.get(NAMES.get(key, ""))
    if words is not None:
        return _(words.title)
    return plain_text(own)[:64] or _("Rule {number}").format(number=key)


def about(key: int) -> str:
    """What a rule is for; empty where no words are known."""
    words = _BY_NAME.get(NAMES.get(key, ""))
    return _(words.about) if words is not None else ""


def value(key: int, number: int, fmt: Formats) -> str:
    """A rule's number with its unit, exactly."""
    words = _BY_NAME.get(NAMES.get(key, ""))
    unit = words.unit if words is not None else Unit.COUNT
    if unit is Unit.TIME:
        return duration(number, fmt)
    if unit is Unit.PRICE:
        return fmt.ct(number)
    if unit is Unit.ENERGY:
        return fmt.kwh(number, _places(number, 3))
    if unit is Unit.POWER:
        return power(number, fmt)
    if unit is Unit.HUNDREDTHS:
        return fmt.percent(number / 10_000, _places(number, 2))
    if unit is Unit.PERMILLE:
        return fmt.percent(number / 1_000, _places(number, 1))
    if unit is Unit.EURO:
        return fmt.euro(number * 1_000_000)
    if unit is Unit.MICRO_EURO:
        return fmt.euro(number)
    if unit is Unit.DAYS:
        days = ngettext("{number} day", "{number} days", number)
        return days.format(number=fmt.number(number)).replace(" ", _NARROW)
    return fmt.number(number)


def duration(seconds: int, fmt: Formats) -> str:
    """A span to the second: `9 d`, `1 h 30 min`; none at all is 0."""
    parts, left = [], seconds
    for size, words in (
        (86_400, _("{number} d")),
        (3_600, _("{number} h")),
        (60, _("{number} min")),
        (1, _("{number} s")),
    ):
        count, left = divmod(left, size)
        if count:
            parts.append(words.format(number=fmt.number(count)).replace(" ", _NARROW))
    return " ".join(parts) or fmt.number(0)


def power(watts: int, fmt: Formats) -> str:
    """Power in kW."""
    return f"{fmt.number(watts / 1_000, _places(watts, 3))}{_NARROW}kW"


def _places(number: int, most: int) -> int:
    """Decimals that tell a whole number divided by ten to the power of `most` exactly."""
    places = most
    while places and number % 10 == 0:
        number //= 10
        places -= 1
    return places


def window_title(key: int) -> str:
    """What a window is about."""
    devices = {
        COMMUNITY_BATTERY: _("Community battery"),
        CHARGE_POINTS: _("Charge points taking part"),
        HOME_BATTERIES: _("Home batteries taking part"),
    }
    return devices.get(key) or title(key)


def window_value(key: int, number: int, fmt: Formats) -> str:
    """What a window says, in words."""
    if key == COMMUNITY_BATTERY:
        if number == 0:
            return _("rests")
        words = _("charges with {power}") if number > 0 else _("gives back {power}")
        return words.format(power=power(abs(number), fmt))
    if key == CHARGE_POINTS:
        return _("draw at most {power} each").format(power=power(number, fmt))
    if key == HOME_BATTERIES:
        if number == 0:
            return _("rest")
        share = fmt.percent(abs(number) / 1_000, _places(abs(number), 1))
        words = (
            _("charge with {share} of their power")
            if number > 0
            else _("give back {share} of their power")
        )
        return words.format(share=share)
    return value(key, number, fmt)
