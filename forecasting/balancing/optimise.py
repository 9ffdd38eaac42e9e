# SPDX-License-Identifier: Apache-2.0
"""The smallest schedule of one device class that mends what breaks, as a linear programme.

Unknown is the device's power per block of hours. The power flow's answer to it is taken as linear
on either side of rest, between rest and full power (two extra power flows), solved with SciPy's
HiGHS. `plan` has the full power flow confirm what comes out, and asks again with a margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from dao.errors import CheckFailed
from forecasting.balancing.actions import MAX_WINDOWS, Store, fewer_windows
from forecasting.balancing.confirm import Bench, Change, change_of
from forecasting.balancing.shares import SLOTS_PER_HOUR
from forecasting.grid import BoolArray, FloatArray, GridLimits, GridResult, IntArray

_REWEIGHTINGS = 4
_REWEIGHT_FLOOR = 0.02  # in rows' unit: 0.0002 pu
# A block in which a course is this close (pu) to its limit is left for taking in energy, not for
# giving it back: a sunnier evening than forecast must not turn help into harm.
_GIVING_DISTANCE = 0.0015
# The programme's rows are brought to the order of 1, well above the solver's tolerances.
_SCALE = 100.0
# What filling the battery once weighs against one quarter-hour over the limit: a mended one
# outweighs any energy. What giving everything back earns: leftover energy costs more than that.
_FILLING = 0.3
_GIVING = -0.2
# What may at most be taken out of people's own batteries for one quarter-hour mended, Wh.
SLOT_WORTH_WH = 20_000.0
_TOUCHING = 1e-6
# At so many powers between rest and full it is looked which measure is the largest.
_LOOKS = 9


@dataclass(frozen=True)
class Answer:
    """How the grid answers to a device: measures at rest, and their change at full power.

    Each (rows, measures), scaled; a measure is over its limit above zero. rows are the courses'
    slots. up: at full power drawn; down: at full power fed in. voltages: how many of the measures,
    the first ones, are voltages.
    """

    base: FloatArray
    up: FloatArray
    down: FloatArray
    over: BoolArray
    voltages: int

    def tightened(self, margin: float) -> Answer:
        """The same with the voltage limits `margin` pu further in."""
        base = self.base.copy()
        base[:, : self.voltages] += _SCALE * margin
        return replace(self, base=base)


def answer_of(bench: Bench, store: Store, others: list[Change], before: GridResult) -> Answer:
    """Two power flows beside `before`, which is the one with `others` alone."""
    full = np.full(bench.slots, float(store.max_power_w))
    charging = bench.flow([*others, change_of(store, full)])
    giving = bench.flow([*others, change_of(store, -full)])
    flows = (before, charging, giving)
    # The bus that becomes the highest half way belongs in the picture too.
    halfway = ((before.voltages + charging.voltages) / 2.0).argmax(axis=1)
    highest = [flow.voltages.argmax(axis=1) for flow in flows] + [halfway]
    columns = np.unique(np.concatenate(highest))
    lowest = np.unique(np.concatenate([flow.voltages.argmin(axis=1) for flow in flows]))
    base, up, down = (_table(flow, columns, lowest, bench.limits) for flow in flows)
    return Answer(base, up - base, down - base, before.over_limit, columns.size + lowest.size)


def _table(flow: GridResult, highest: IntArray, lowest: IntArray, limits: GridLimits) -> FloatArray:
    voltages = flow.voltages
    return _SCALE * np.column_stack(
        [
            voltages[:, highest] - limits.voltage_max,
            limits.voltage_min - voltages[:, lowest],
            (flow.transformer_loading[:, None] - limits.loading_max) / 100.0,
            (flow.line_loading[:, None] - limits.loading_max) / 100.0,
        ]
    )


def solve(bench: Bench, store: Store, answer: Answer, block: int) -> tuple[IntArray, float]:
    """The key's value per slot, constant per block, and the slots expected to stay over a limit.

    Unknowns per block h, as shares of full power: charge c and discharge d; per course and slot
    over the limit: the excess e that stays. Counting slots needs whole numbers; the usual way
    around them is a few linear programmes, each weighing an excess by the inverse of what the one
    before left of it (Candes, Wakin and Boyd 2008), which leaves few slots instead of small rests.
    A block either charges or discharges, decided beforehand: energy must not be burnt to make room.
    """
    from scipy import sparse
    from scipy.optimize import linprog

    slots, courses = bench.slots, bench.courses
    blocks = math.ceil(slots / block)
    block_of = np.arange(slots) // block
    hours = np.bincount(block_of, minlength=blocks) / SLOTS_PER_HOUR
    charge_share = store.efficiency_permille / 1000.0 * store.max_power_w * hours
    charge_share = charge_share / store.capacity_wh
    give_share = store.max_power_w * hours / store.capacity_wh
    may_charge, may_give = _directions(bench, answer, block_of, blocks)

    # A block has one direction, so a row of the grid knows one unknown: base + slope x <= e.
    at = np.tile(block_of, courses)
    slope = np.where(may_charge[at][:, None], answer.up, answer.down)
    most = np.minimum(_room(answer, slope, at, blocks), 1.0)
    weight = np.repeat(bench.weights, slots)
    over = np.flatnonzero(answer.over)
    row, measure = np.nonzero(_largest(answer.base[over], slope[over]))
    count, size = row.size, 2 * blocks + over.size
    column = np.where(may_charge[at[over[row]]], 0, blocks) + at[over[row]]
    each = np.arange(count)
    grid_rows = sparse.coo_matrix(
        (
            np.concatenate([slope[over[row], measure], np.full(count, -1.0)]),
            (np.tile(each, 2), np.concatenate([column, 2 * blocks + row])),
        ),
        shape=(count, size),
    )
    bound = -answer.base[over[row], measure]
    # What the battery holds after each block: between nothing and all of its size.
    until = np.tril(np.ones((blocks, blocks)))
    held = sparse.coo_matrix(np.hstack([until * charge_share, -until * give_share]))
    held.resize((blocks, size))
    stored = store.stored_wh / store.capacity_wh
    table = sparse.vstack([grid_rows, held, -held], format="csr")
    last = np.flatnonzero(np.diff(block_of, append=blocks))
    floor = store.floor_wh[last] / store.capacity_wh
    right = np.concatenate([bound, np.full(blocks, 1.0 - stored), stored - floor])
    if store.must_return:
        # At the end of the day at least what it held in the beginning.
        table = sparse.vstack([table, -held.tocsr()[-1:]], format="csr")
        right = np.append(right, 0.0)

    cost = np.zeros(size)
    cost[:blocks] = _FILLING * charge_share
    own = np.bincount(block_of, weights=store.own_w) / np.bincount(block_of) / store.max_power_w
    if store.must_return:
        # Late is better than early, and holding back what would be charged anyway costs nothing.
        early = 1.0 - np.arange(blocks) / blocks
        worth = give_share * store.capacity_wh / SLOT_WORTH_WH
        cost[blocks : 2 * blocks] = np.where(
            own > 0.0, 0.1 * _FILLING * give_share, worth * (1.0 + 0.2 * early)
        )
    else:
        cost[blocks : 2 * blocks] = _GIVING * give_share * (1.0 - 0.2 * _rank(bench, block_of))
    likelihood = weight[over]
    cost[2 * blocks :] = likelihood
    upper = np.ones(size)
    upper[2 * blocks :] = np.inf
    upper[:blocks] = np.where(may_charge, np.minimum(most, 1.0 - own), 0.0)
    # A battery that would charge by itself is held back, and not made to give.
    held_back = np.where(own > 0.0, own, 1.0 + own)
    upper[blocks : 2 * blocks] = np.where(may_give, np.minimum(most, held_back), 0.0)
    bounds = np.column_stack([np.zeros(size), upper])
    solution = np.zeros(size)
    for _ in range(_REWEIGHTINGS):
        result = linprog(cost, table, right, bounds=bounds, method="highs-ds")
        if result.x is None:
            raise CheckFailed(f"no schedule found: {result.message}")
        solution = result.x
        # What is left over the limit now counts for its slot, not for its size.
        cost[2 * blocks :] = likelihood / (solution[2 * blocks :] + _REWEIGHT_FLOOR)
    hoped = float((solution[2 * blocks :] > _TOUCHING) @ likelihood)
    departure = _departure(store, solution[:blocks], solution[blocks : 2 * blocks])[block_of]
    return fewer_windows(store.values_of(departure), MAX_WINDOWS, store.rest), hoped


def _room(answer: Answer, slope: FloatArray, at: IntArray, blocks: int) -> FloatArray:
    """The largest share of full power per block at which no row loses a limit that it keeps.

    A row inside its limit but within the margin only has to get no worse.
    """
    rising = ~answer.over[:, None] & (slope > _TOUCHING)
    share = np.full(slope.shape, np.inf)
    np.divide(np.maximum(0.0, -answer.base), slope, out=share, where=rising)
    most = np.full(blocks, np.inf)
    np.minimum.at(most, at, share.min(axis=1))
    return most


def _largest(base: FloatArray, slope: FloatArray) -> BoolArray:
    """Which measures of each row are its largest somewhere between rest and full power."""
    keep = np.zeros(base.shape, dtype=bool)
    each = np.arange(base.shape[0])
    for share in np.linspace(0.0, 1.0, _LOOKS):
        keep[each, (base + share * slope).argmax(axis=1)] = True
    return keep


def _directions(
    bench: Bench, answer: Answer, block_of: IntArray, blocks: int
) -> tuple[BoolArray, BoolArray]:
    """In which blocks the device may draw, and in which it may feed in; each in one of them."""
    courses, slots = bench.courses, bench.slots
    each = np.arange(answer.base.shape[0])
    worst = answer.base.argmax(axis=1)
    relief = np.minimum(answer.down, 0.0)[each, worst] - np.minimum(answer.up, 0.0)[each, worst]
    weight = np.repeat(bench.weights, slots)
    near = answer.base.max(axis=1) > -_SCALE * _GIVING_DISTANCE
    # Above zero where drawing mends more than feeding in does, over all courses near a limit.
    pull = (weight * near * relief).reshape(courses, slots).sum(axis=0)
    pull = np.bincount(block_of, weights=pull, minlength=blocks)
    surplus, shortage = pull > 0.0, pull < 0.0
    may_charge, may_give = surplus.copy(), ~surplus
    over = np.bincount(
        block_of, weights=answer.over.reshape(courses, slots).any(axis=0), minlength=blocks
    )
    if (shortage & (over > 0)).any():
        # Energy for it has to be there before: quiet hours with little demand may charge.
        demand = _demand(bench, block_of)
        quiet = ~shortage & ~surplus & (demand <= np.median(demand))
        may_charge |= quiet
        may_give &= ~quiet
    return may_charge, may_give


def _demand(bench: Bench, block_of: IntArray) -> FloatArray:
    mean = bench.weights @ bench.net_w
    found: FloatArray = np.bincount(block_of, weights=mean) / np.bincount(block_of)
    return found


def _rank(bench: Bench, block_of: IntArray) -> FloatArray:
    """0 for the block in which the zone draws most, towards 1 for the one with the least."""
    demand = _demand(bench, block_of)
    order = np.argsort(np.argsort(-demand, kind="stable"), kind="stable")
    found: FloatArray = order / demand.size
    return found


def _departure(store: Store, charge: FloatArray, give: FloatArray) -> IntArray:
    """Shares of full power as W, in whole steps of the key.

    Charging is rounded up (it is what mends), giving down to what is then stored.
    """
    full, step = float(store.max_power_w), store.step * store.max_power_w / store.full
    up = np.minimum(np.ceil(charge * full / step - 1e-6) * step, full)
    up = np.where(up >= 2 * step, up, 0.0)
    down = np.where(up > 0.0, 0.0, np.floor(give * full / step + 1e-6) * step)
    return np.asarray(np.rint(up - down), dtype=np.int64)
