# SPDX-License-Identifier: Apache-2.0
"""What a plan costs, and who pays: means over the courses, in whole Wh and µ€.

What is not here: the wear of batteries, which no tariff states.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dao.errors import BadUse
from dao.parameters import COMMUNITY_BATTERY
from dao.tariffs import Tariffs
from forecasting.balancing.actions import CHARGE_POINTS, HOME_BATTERIES
from forecasting.balancing.plan import Plan
from forecasting.balancing.prices import GRID_FEE, PriceRules
from forecasting.balancing.shares import SLOTS_PER_HOUR


@dataclass(frozen=True)
class Line:
    """One part of the bill. cost: µ€ of the day, below zero a gain; each_home: of a typical home,
    the mean of all. energy: what it is for, Wh."""

    what: str
    paid_by: str
    energy_wh: int
    cost: int
    each_home: int


@dataclass(frozen=True)
class Bill:
    """A plan's expected cost in a zone of `homes` homes."""

    homes: int
    lines: tuple[Line, ...]

    @property
    def cost(self) -> int:
        """µ€ of the day, all together: what one pays to another within the zone cancels out."""
        return sum(line.cost for line in self.lines)

    @property
    def each_home(self) -> int:
        """µ€ of the day for a typical home."""
        return sum(line.each_home for line in self.lines)

    def as_dict(self) -> dict[str, Any]:
        return {
            "homes": self.homes,
            "cost": self.cost,
            "each_home": self.each_home,
            "lines": [asdict(line) for line in self.lines],
        }


def bill_of(
    plan: Plan, homes: int, tariffs: Tariffs | None = None, prices: PriceRules | None = None
) -> Bill:
    """The expected cost of a plan.

    Energy lost in the community battery is what it takes less what it gives and still holds more
    than before, at the feed-in tariff: what it takes would else have been sold at that. Home
    batteries lose by the same measure, and their owners bear it. Energy shifted by charge points
    costs nothing. A changed grid fee moves money between buyers and treasury, counted on all that
    the zone draws in the window as if all of it were traded, which is the most it can come to.
    """
    if homes < 1:
        raise BadUse("a bill is shared by at least one home")
    rates = tariffs or Tariffs()
    lines = []
    for key, what, payer in (
        (COMMUNITY_BATTERY, "losses of the community battery", "treasury"),
        (HOME_BATTERIES, "losses of called home batteries", "owners of the batteries called"),
    ):
        power = plan.power_w.get(key)
        if power is None:
            continue
        kept = plan.stored_wh[1] - plan.stored_wh[0] if key == COMMUNITY_BATTERY else 0
        lost = max(0, int(power.sum()) // SLOTS_PER_HOUR - kept)
        lines.append(_line(what, payer, lost, lost * rates.feed_in, homes))
    charged = plan.power_w.get(CHARGE_POINTS)
    if charged is not None:
        moved = int(-charged[charged < 0].sum()) // SLOTS_PER_HOUR
        lines.append(_line("charging moved to later hours", "nobody", moved, 0, homes))
    fee = plan.action(GRID_FEE)
    if fee is not None and prices is not None:
        drawn = np.maximum(plan.drawn_wh, 0.0)
        cost = energy = 0
        for window in fee.windows:
            begin = window.first_slot - plan.first_slot
            part = round(float(drawn[begin : begin + window.slots].sum()))
            energy += part
            cost += part * (window.value - prices.fee.value)
        lines.append(_line("grid fee of traded energy", "buyers", energy, cost, homes))
        lines.append(_line("grid fee of traded energy", "treasury", energy, -cost, 0))
    return Bill(homes, tuple(lines))


def _line(what: str, payer: str, energy: int, cost: int, homes: int) -> Line:
    # Rounded away from zero: nobody is told less than it comes to.
    each = 0 if homes == 0 else (-(-cost // homes) if cost >= 0 else cost // homes)
    return Line(what, payer, energy, cost, each)
