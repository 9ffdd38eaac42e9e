# SPDX-License-Identifier: Apache-2.0
"""A day's schedule in as few slots as mend the same, by a small mixed-integer programme.

What a schedule uses of a day is exempt from the score of that day's forecast, up to a number of
slots; beyond it the forecaster answers for what the devices did. So energy is moved in few hours
at high power, not in many at little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dao.errors import CheckFailed
from forecasting.grid import FloatArray, IntArray

# What a used slot costs where giving everything back earns 0.2: an hour that moves less than 3 %
# of what fits is left out.
_USED = 0.0015
# A slot over most_slots: more than all that could be given in it earns, and a twentieth of a
# quarter-hour over a limit.
_TOO_MANY = 0.05
# What room that tomorrow lacks costs, per filling: the quarter-hours that it has to mend at least.
_TOO_FULL = 3.0
_TINY = 1e-9


@dataclass(frozen=True)
class Blocks:
    """What a store can do in each block of a day; arrays (blocks,).

    filling: what full power adds to the energy held, as a part of what fits; below zero where it
    feeds in. cost: of full power. upper: the largest share of full power. least, most: bounds of
    what all blocks until then add together.
    """

    filling: FloatArray
    cost: FloatArray
    upper: FloatArray
    least: FloatArray
    most: FloatArray

    @property
    def held(self) -> FloatArray:
        """What each block's full power adds to the energy held at the end of each, as a table."""
        return np.tril(np.ones((self.filling.size, self.filling.size))) * self.filling


@dataclass(frozen=True)
class Choices:
    """Powers that a block may choose from where a limit breaks, and what stays broken under each.

    block, share (of full power), left (expected quarter-hours over a limit): (choices,).
    """

    block: IntArray
    share: FloatArray
    left: FloatArray

    def worth_taking(self, found: FloatArray, blocks: Blocks) -> float:
        """What all blocks take in where each mends as much as what it takes in is worth."""
        filling = np.maximum(blocks.filling, 0.0)
        worth = self.left + _TOO_FULL * filling[self.block] * self.share
        shares = np.where(np.isin(np.arange(found.size), self.block), 0.0, found)
        for at in np.unique(self.block):
            here = self.block == at
            shares[at] = self.share[here][worth[here].argmin()]
        return float(filling @ shares)


def in_fewest_slots(
    found: FloatArray,
    choices: Choices,
    blocks: Blocks,
    fresh: FloatArray,
    most_slots: int,
    *,
    need: float,
    called: bool,
) -> FloatArray:
    """Shares of full power per block, from what mends most (`found`) to what needs few slots.

    fresh: how many slots of each block are not used by an action before; most_slots: how many of
    them may be. need: what tomorrow is to take in. called: whether the store belongs to people:
    then all from the first used block to the last is used, and tomorrow is their own.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    n, many = found.size, choices.block.size
    broken = np.isin(np.arange(n), choices.block)
    upper = np.where(broken, found, blocks.upper)
    morning, morning_slots = _morning(found, blocks, fresh)
    # Where a limit breaks, the power is what is chosen; elsewhere it is an unknown of its own.
    free, choice = np.diag(1.0 * ~broken), np.eye(n)[:, choices.block]
    chosen_power = choice * choices.share
    # Unknowns: power, whether a block is used, whether use begins there, what is chosen; slots over
    # most_slots; what is held at the end that is given tomorrow morning, and that finds no time.
    power, used, begun = slice(0, n), slice(n, 2 * n), slice(2 * n, 3 * n)
    chosen, size = slice(3 * n, 3 * n + many), 3 * n + many + 3
    rows = np.zeros((4 * n + 3, size))
    least, most = np.full(len(rows), -np.inf), np.zeros(len(rows))
    rows[:n, power], rows[:n, chosen] = blocks.held @ free, blocks.held @ chosen_power
    least[:n], most[:n] = blocks.least, blocks.most
    # No power where a block is not used; use begins where the block before is not used.
    rows[n : 2 * n, power], rows[n : 2 * n, chosen] = free, chosen_power
    rows[n : 2 * n, used] = -np.diag(upper)
    rows[2 * n : 3 * n, used] = np.eye(n) - np.eye(n, k=-1)
    rows[2 * n : 3 * n, begun] = -np.eye(n)
    # One choice where a limit breaks.
    rows[3 * n : 4 * n, chosen] = choice
    least[3 * n : 4 * n] = most[3 * n : 4 * n] = broken
    rows[-3, used], rows[-3, -3], most[-3] = fresh, -1.0, most_slots
    rows[-2], rows[-2, -2:] = rows[n - 1], -1.0
    most[-2] = np.inf if called else blocks.most[-1] - need
    rows[-1, begun], most[-1] = 1.0, 1.0 if called else np.inf
    cost = np.concatenate(
        [
            blocks.cost @ free,
            _USED * fresh,
            np.zeros(n),
            choices.left + blocks.cost @ chosen_power,
            # A morning's slot is over most_slots tomorrow, where today has none for it.
            [_TOO_MANY, _TOO_MANY * morning_slots / max(morning, _TINY), _TOO_FULL],
        ]
    )
    whole = np.zeros(size, dtype=int)
    whole[used], whole[chosen] = 1, 1
    result = milp(
        cost,
        constraints=LinearConstraint(rows, least, most),
        integrality=whole,
        bounds=Bounds(
            0.0, np.concatenate([upper, np.ones(2 * n + many), [np.inf, morning, np.inf]])
        ),
    )
    if result.x is None:
        raise CheckFailed(f"no schedule found: {result.message}")
    found_power = free @ result.x[power] + chosen_power @ np.rint(result.x[chosen])
    shares: FloatArray = np.where(result.x[used] > 0.5, found_power, 0.0)
    return shares


def _morning(found: FloatArray, blocks: Blocks, fresh: FloatArray) -> tuple[float, float]:
    """What can be given before energy is first taken in, and in how many slots."""
    begin = int(np.argmax(blocks.filling * found > 0.0))
    gives = np.flatnonzero((blocks.filling * blocks.upper)[:begin] < 0.0)
    return float(-blocks.filling[gives] @ blocks.upper[gives]), float(fresh[gives].sum())
