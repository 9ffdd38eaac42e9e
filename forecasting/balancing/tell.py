# SPDX-License-Identifier: Apache-2.0
"""A plan in words that a resident understands: a headline, and two or three sentences.

Times are local, energy in kWh, the voltage in volts. What the figures are made of is in `proposal`.
"""

from __future__ import annotations

from datetime import UTC
from zoneinfo import ZoneInfo

from dao.parameters import CHARGE_POINTS, COMMUNITY_BATTERY, HOME_BATTERIES, KEYS
from dao.slots import day_of, slot_start
from forecasting.balancing.actions import PRICE_KEYS, Action
from forecasting.balancing.bill import Bill
from forecasting.balancing.plan import Plan
from forecasting.balancing.shares import SLOTS_PER_HOUR

# What a low-voltage pu is in a socket.
_VOLTS = 230.0
_SUBJECTS = {
    COMMUNITY_BATTERY: "Community battery",
    HOME_BATTERIES: "called home batteries",
    CHARGE_POINTS: "charge points",
    KEYS["grid_fee"]: "grid fee",
    KEYS["price_band_min"]: "lowest price",
    KEYS["price_band_max"]: "highest price",
}


def title_of(plan: Plan) -> str:
    """The headline: what acts, and on which day."""
    day = day_of(plan.first_slot).isoformat()
    if not plan.actions:
        return f"Nothing to do on {day}"
    words = [_SUBJECTS[action.key] for action in plan.actions]
    listed = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    return f"{listed[0].upper()}{listed[1:]} on {day}"


def summary_of(plan: Plan, bill: Bill | None = None, timezone: str = "UTC") -> str:
    """Two or three sentences: what threatens, what would be done, what that leaves and costs."""
    before, after = plan.before, plan.after
    day = day_of(plan.first_slot).isoformat()
    if before.expected == 0.0:
        return f"On {day} the grid is expected to stay within its limits; nothing needs to be done."
    first = (
        f"If nothing is done, {_threat(plan)} for about {_hours(before.expected)} on {day}; "
        f"{_chance(before.probability)}."
    )
    if not plan.actions:
        return f"{first} No action that the members allow would mend this."
    second = " ".join(_sentence(plan, action, timezone) for action in plan.actions)
    left = _hours(after.expected) if after.expected >= 0.125 else "next to nothing"
    third = f"That should leave {left}"
    if bill is not None:
        third += f" and cost a typical home about {_cents(bill.each_home)}"
    return f"{first} {second} {third}."


def _threat(plan: Plan) -> str:
    name = plan.before.worst_limit
    found = plan.before.limits[name]
    worst = found.worst[2]
    if name == "voltage_max":
        return (
            f"the voltage at the end of the street rises above its limit of "
            f"{_VOLTS * found.limit:.0f} V (to {_VOLTS * worst:.0f} V on a bad day)"
        )
    if name == "voltage_min":
        return (
            f"the voltage at the end of the street falls below its limit of "
            f"{_VOLTS * found.limit:.0f} V (to {_VOLTS * worst:.0f} V on a bad day)"
        )
    what = "the transformer" if name == "transformer" else "a cable"
    return f"{what} carries more than it is built for ({worst:.0f} % on a bad day)"


def _chance(probability: float) -> str:
    if probability > 0.995:
        return "that is practically certain"
    if probability < 0.005:
        return "that is very unlikely"
    return f"the chance of it is {100 * probability:.0f} %"


def _hours(quarters: float) -> str:
    hours = quarters / SLOTS_PER_HOUR
    if hours < 0.95:
        return f"{max(1, round(60 * hours))} minutes"
    text = f"{hours:.1f}".removesuffix(".0")
    return f"{text} hour{'' if text == '1' else 's'}"


def _cents(micro: int) -> str:
    sign = "minus " if micro < 0 else ""
    cents = abs(micro) / 10_000
    return f"{sign}{cents:.1f} cents" if cents >= 0.05 else "nothing"


def _sentence(plan: Plan, action: Action, timezone: str) -> str:
    windows = action.windows
    whole = _span(windows[0].first_slot, windows[-1].first_slot + windows[-1].slots, timezone)
    if action.key in (COMMUNITY_BATTERY, HOME_BATTERIES):
        power = plan.power_w[action.key]
        taking = [w for w in windows if w.value > 0]
        taken = int(power[power > 0].sum()) / SLOTS_PER_HOUR / 1000
        given = int(-power[power < 0].sum()) / SLOTS_PER_HOUR / 1000
        who = f"The {_SUBJECTS[action.key].lower()}"
        if not taking:
            return f"{who} would give {given:.0f} kWh {whole}."
        span = _span(taking[0].first_slot, taking[-1].first_slot + taking[-1].slots, timezone)
        back = f" and give {given:.0f} kWh in quiet hours" if given >= 0.5 else ""
        return f"{who} would take in {taken:.0f} kWh {span}{back}."
    if action.key == CHARGE_POINTS:
        cap = min(w.value for w in windows) / 1000
        return f"Charge points would draw at most {cap:.1f} kW at times {whole}, and catch up."
    assert action.key in PRICE_KEYS
    return (
        f"The {_SUBJECTS[action.key]} would be {windows[0].value} µ€ per Wh {whole}; none of the "
        "figures counts on anybody answering to that."
    )


def _span(first_slot: int, end_slot: int, timezone: str) -> str:
    zone = UTC if timezone == "UTC" else ZoneInfo(timezone)
    begin, end = (slot_start(slot).astimezone(zone) for slot in (first_slot, end_slot))
    named = " UTC" if timezone == "UTC" else ""
    return f"between {begin:%H:%M} and {end:%H:%M}{named}"
