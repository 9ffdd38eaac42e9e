# SPDX-License-Identifier: Apache-2.0
"""What a plan costs, and who pays: means over the courses, in whole Wh and µ€.

What is not here: the wear of batteries, which no tariff states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dao.errors import BadUse
from dao.parameters import CHARGE_POINTS, COMMUNITY_BATTERY, HOME_BATTERIES
from dao.tariffs import Tariffs
from forecasting.balancing.actions import Window
from forecasting.balancing.plan import Plan
from forecasting.balancing.prices import GRID_FEE, PriceRules
from forecasting.balancing.shares import SLOTS_PER_HOUR
from forecasting.grid import FloatArray, IntArray


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
    fee = plan.windows(GRID_FEE)
    rates = tariffs or Tariffs()
    lines = bill_lines(
        plan.power_w,
        plan.stored_wh[1] - plan.stored_wh[0],
        fee,
        plan.first_slot,
        plan.drawn_wh,
        homes,
        rates,
        rates.grid_fee if prices is None else prices.fee.value,
    )
    return Bill(homes, lines)


def bill_lines(
    power_w: Mapping[int, IntArray],
    kept_wh: int,
    fee_windows: Sequence[Window],
    first_slot: int,
    drawn_wh: FloatArray,
    homes: int,
    tariffs: Tariffs,
    fee: int,
) -> tuple[Line, ...]:
    """The lines of a day's bill from what devices draw more, per key and slot.

    kept_wh: what the community battery holds more at the end than at first. drawn_wh: what the
    zone draws in each slot from first_slot on. fee: the grid fee outside its windows, µ€ per Wh.
    """
    if homes < 1:
        raise BadUse("a bill is shared by at least one home")
    lines = []
    for key, what, payer in (
        (COMMUNITY_BATTERY, "losses of the community battery", "treasury"),
        (HOME_BATTERIES, "losses of called home batteries", "owners of the batteries called"),
    ):
        power = power_w.get(key)
        if power is None:
            continue
        kept = kept_wh if key == COMMUNITY_BATTERY else 0
        lost = max(0, int(power.sum()) // SLOTS_PER_HOUR - kept)
        lines.append(_line(what, payer, lost, lost * tariffs.feed_in, homes))
    charged = power_w.get(CHARGE_POINTS)
    if charged is not None:
        moved = int(-charged[charged < 0].sum()) // SLOTS_PER_HOUR
        lines.append(_line("charging moved to later hours", "nobody", moved, 0, homes))
    if fee_windows:
        cost = energy = 0
        for window in fee_windows:
            begin = window.first_slot - first_slot
            part = round(float(np.maximum(drawn_wh[begin : begin + window.slots], 0.0).sum()))
            energy += part
            cost += part * (window.value - fee)
        lines.append(_line("grid fee of traded energy", "buyers", energy, cost, homes))
        lines.append(_line("grid fee of traded energy", "treasury", energy, -cost, 0))
    return tuple(lines)


def _line(what: str, payer: str, energy: int, cost: int, homes: int) -> Line:
    # Rounded away from zero: nobody is told less than it comes to.
    each = 0 if homes == 0 else (-(-cost // homes) if cost >= 0 else cost // homes)
    return Line(what, payer, energy, cost, each)
