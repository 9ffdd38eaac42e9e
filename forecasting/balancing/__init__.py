# SPDX-License-Identifier: Apache-2.0
"""From a zone's forecast to the smallest bounded action that keeps its grid within its limits.

`scenarios` makes courses of the day, `plan` chooses actions (`actions`, `optimise`, `calls`,
`prices`) and confirms them by the power flow (`confirm`, `risk`). What is told of a plan, where it
may go, and what came of it live beside them.
"""

from forecasting.balancing.actions import (
    CHARGE_POINTS,
    DEMO_BATTERY,
    HOME_BATTERIES,
    MAX_WINDOWS,
    NO_CAP_W,
    Action,
    ChargePoint,
    Flexibility,
    HomeBattery,
    Window,
    battery_of,
    follow,
    schedule_of,
    windows_of,
)
from forecasting.balancing.plan import Plan, plan, plan_day
from forecasting.balancing.prices import KeyBounds, PriceRules
from forecasting.balancing.risk import Risk, risk_of
from forecasting.balancing.scenarios import Courses, Scenario, courses_of, median_of
from forecasting.balancing.shares import Shares, standard_shares

__all__ = [
    "CHARGE_POINTS",
    "DEMO_BATTERY",
    "HOME_BATTERIES",
    "MAX_WINDOWS",
    "NO_CAP_W",
    "Action",
    "ChargePoint",
    "Courses",
    "Flexibility",
    "HomeBattery",
    "KeyBounds",
    "Plan",
    "PriceRules",
    "Risk",
    "Scenario",
    "Shares",
    "Window",
    "battery_of",
    "courses_of",
    "follow",
    "median_of",
    "plan",
    "plan_day",
    "risk_of",
    "schedule_of",
    "standard_shares",
    "windows_of",
]
