# SPDX-License-Identifier: Apache-2.0
"""Windows of the grid fee and the price band: what people may answer to, and may not.

How they answer is an assumption (`actions.SHORT_TERM_ELASTICITY`, with its source). So a price
window is never counted on: it comes on top, and the plan's own figures are those without any
answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dao.errors import BadUse
from dao.parameters import KEYS
from forecasting.balancing.actions import (
    SHORT_TERM_ELASTICITY,
    Action,
    price_response,
    windows_of,
)
from forecasting.balancing.confirm import Bench, Change
from forecasting.balancing.shares import SLOTS_PER_HOUR, Shares
from forecasting.grid import FloatArray, GridResult

GRID_FEE, BAND_MIN, BAND_MAX = (
    KEYS[name] for name in ("grid_fee", "price_band_min", "price_band_max")
)


@dataclass(frozen=True)
class KeyBounds:
    """A price rule as GridParameters has it, µ€ per Wh: its value now, and what a window may be."""

    value: int
    minimum: int
    maximum: int
    max_step: int

    @property
    def lowest(self) -> int:
        return max(self.minimum, self.value - self.max_step)

    @property
    def highest(self) -> int:
        return min(self.maximum, self.value + self.max_step)


@dataclass(frozen=True)
class PriceRules:
    """What is known of prices before the auction. Prices in µ€ per Wh.

    market_price: what a Wh is expected to cost before the fee, the mean of recent auctions or the
    middle between feed-in and retail. elasticity: of what the zone draws, to its price all in.
    shares: where the zone draws.
    """

    fee: KeyBounds
    band_min: KeyBounds
    band_max: KeyBounds
    market_price: int
    shares: Shares
    elasticity: float = SHORT_TERM_ELASTICITY

    def __post_init__(self) -> None:
        if self.market_price <= 0:
            raise BadUse("the expected market price must be above zero")


@dataclass(frozen=True)
class Offer:
    """The action, and what it would change if people answered as assumed."""

    action: Action
    change: Change


def price_windows(
    bench: Bench, rules: PriceRules, others: list[Change], before: GridResult, first_slot: int
) -> Offer | None:
    """One price for all hours in which a limit is at risk; None where none of the keys helps.

    Too much export asks for a cheaper hour: a lower fee, or an upper end of the band below the
    expected price. Too much load asks for a dearer one: a higher fee, or a lower end above it. The
    key that moves the price furthest is taken.
    """
    risk = bench.weights @ before.over_limit.reshape(bench.courses, bench.slots)
    blocks = -(-bench.slots // SLOTS_PER_HOUR)
    block_of = np.arange(bench.slots) // SLOTS_PER_HOUR
    at_risk = np.bincount(block_of, weights=risk, minlength=blocks) > 0.2
    slots = at_risk[block_of]
    if not slots.any():
        return None
    exporting = float((bench.weights @ bench.net_w)[slots].sum()) < 0.0
    key, value, moved = _best(rules, cheaper=exporting)
    if moved == 0:
        return None
    paid = rules.market_price + rules.fee.value
    values = np.where(slots, value, -1)
    windows = windows_of(values, first_slot, rest=-1)
    drawn = np.maximum(bench.drawn_w, 0.0)
    more = np.where(slots, price_response(drawn, paid, paid + moved, rules.elasticity), 0.0)
    shares = rules.shares
    used = shares.import_share > 0.0
    return Offer(
        Action(key, windows),
        Change(
            more,
            tuple(int(bus) for bus in shares.buses[used]),
            tuple(float(part) for part in shares.import_share[used]),
        ),
    )


def _best(rules: PriceRules, *, cheaper: bool) -> tuple[int, int, int]:
    """Key, value, and how far it moves what a buyer pays; 0 where nothing moves."""
    if cheaper:
        choices = [
            (GRID_FEE, rules.fee.lowest, rules.fee.lowest - rules.fee.value),
            (BAND_MAX, rules.band_max.lowest, min(0, rules.band_max.lowest - rules.market_price)),
        ]
    else:
        choices = [
            (GRID_FEE, rules.fee.highest, rules.fee.highest - rules.fee.value),
            (BAND_MIN, rules.band_min.highest, max(0, rules.band_min.highest - rules.market_price)),
        ]
    return max(choices, key=lambda choice: abs(choice[2]))


def response_w(offer: Offer) -> FloatArray:
    """What is drawn more on the mean of the courses, (slots,) W."""
    power = offer.change.power_w
    return power.mean(axis=0) if power.ndim == 2 else power
