# SPDX-License-Identifier: Apache-2.0
"""A home's agent: from the home's own recent days to one bid and one ask for a session.

It looks at nothing but its own meter and its owner's two price limits. The forecast of a single
home stays here; only the signed order leaves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dao.slots import SLOTS_PER_DAY


@dataclass(frozen=True)
class Limits:
    """What an owner told the agent: prices in µ€ per Wh, caution in permille of the recent days.

    floor: least to sell for; ceiling: most to pay, grid fee included. sell_permille, buy_permille:
    the quantile of the recent days that is offered and asked for. 300 means an amount that was
    reached on seven days of ten: a promise that the sun does not keep costs a penalty. A bid is
    paid for whether the energy is used or not, so it asks for little more than what runs always.
    """

    floor: int
    ceiling: int
    sell_permille: int = 300
    buy_permille: int = 100


@dataclass(frozen=True)
class Intent:
    """Wh per slot that the agent would sell and buy in a session; zeros where nothing."""

    sell_wh: tuple[int, ...]
    buy_wh: tuple[int, ...]


def dependable_wh(
    recent_wh: npt.ArrayLike, first_of_day: int, slots: int, permille: int
) -> np.ndarray:
    """The `permille` quantile over the recent days of the energy in each slot of the day, int64 Wh.

    recent_wh: shape (days * 96,), whole days; first_of_day: position of the first wanted slot in
    its day. The quantile is the lower of two neighbouring days, so that it was really reached.
    """
    days = np.sort(np.asarray(recent_wh, dtype=np.int64).reshape(-1, SLOTS_PER_DAY), axis=0)
    wanted = (first_of_day + np.arange(slots)) % SLOTS_PER_DAY
    rank = permille * (len(days) - 1) // 1000
    quantile: np.ndarray = days[rank][wanted]
    return quantile


def intent(
    import_wh: npt.ArrayLike,
    export_wh: npt.ArrayLike,
    first_of_day: int,
    slots: int,
    limits: Limits,
) -> Intent:
    """What to offer and ask for, from whole recent days of a home's import and export in Wh.

    In each slot a home either sells or buys, whichever it can count on more of.
    """
    buy = dependable_wh(import_wh, first_of_day, slots, limits.buy_permille)
    sell = dependable_wh(export_wh, first_of_day, slots, limits.sell_permille)
    sells = sell > buy
    return Intent(
        sell_wh=tuple(int(v) for v in np.where(sells, sell, 0)),
        buy_wh=tuple(int(v) for v in np.where(sells, 0, buy)),
    )
