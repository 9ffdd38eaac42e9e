# SPDX-License-Identifier: Apache-2.0
"""The smallest schedule of one device class that mends what breaks, as a linear programme.

Unknown is the device's power per block of slots. The power flow's answer to it is taken as linear
on either side of rest, between rest and full power (two extra power flows), solved with SciPy's
HiGHS. `plan` has the full power flow confirm what comes out, and asks again with a margin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dao.errors import CheckFailed
from forecasting.balancing.actions import MAX_WINDOWS, Store, fewer_windows
from forecasting.balancing.confirm import Bench, Change, change_of
from forecasting.balancing.fewest import Blocks, Choices, in_fewest_slots
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
# So many slots are one block until the day's windows are known.
_FINE = 2
# From so many powers between rest and what was found the least that mends as much is chosen.
_POWERS = 21
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


def solve(
    bench: Bench, store: Store, answer: Answer, used: BoolArray, most_slots: int
) -> tuple[IntArray, float]:
    """The key's value per slot, and the slots expected to stay over a limit.

    First by the half-hour, which tells where the day's few windows should begin and end, then
    with these windows. Of the day's slots most_slots may be used, those in `used` (slots,) are
    already.
    """
    block_of = np.arange(bench.slots) // _FINE
    values, _, need = _solve(bench, store, answer, block_of, used, most_slots)
    windows = fewer_windows(values, MAX_WINDOWS, store.rest)
    block_of = np.cumsum(np.diff(windows, prepend=windows[:1]) != 0)
    values, hoped, _ = _solve(bench, store, answer, block_of, used, most_slots, need)
    return fewer_windows(values, MAX_WINDOWS, store.rest), hoped


def _solve(
    bench: Bench,
    store: Store,
    answer: Answer,
    block_of: IntArray,
    used: BoolArray,
    most_slots: int,
    need: float | None = None,
) -> tuple[IntArray, float, float]:
    """The same with the day's slots in given blocks, one value in each.

    Unknowns, as a share of full power: what each block draws or feeds in; per course and slot over
    the limit: the excess e that stays. Counting slots needs whole numbers; the usual way
    around them is a few linear programmes, each weighing an excess by the inverse of what the one
    before left of it (Candes, Wakin and Boyd 2008), which leaves few slots instead of small rests.
    A block either draws or feeds in, decided beforehand: energy must not be burnt to make room.
    What mends nothing is then chosen again in few slots (`fewest`). need: what tomorrow is to take
    in; None to find out. Returns the values, the slots expected to stay over, and the need.
    """
    from scipy import sparse
    from scipy.optimize import linprog

    slots, courses = bench.slots, bench.courses
    count = int(block_of[-1]) + 1
    draws = _draws(bench, answer, block_of, count)

    # A row of the grid knows one unknown: base + slope x <= e.
    at = np.tile(block_of, courses)
    slope = np.where(draws[at][:, None], answer.up, answer.down)
    blocks = _blocks(bench, store, block_of, draws, _most(answer, slope, at, count))
    over = np.flatnonzero(answer.over)
    row, measure = np.nonzero(_largest(answer.base[over], slope[over]))
    size = count + over.size
    grid_rows = sparse.coo_matrix(
        (
            np.concatenate([slope[over[row], measure], np.full(row.size, -1.0)]),
            (np.tile(np.arange(row.size), 2), np.concatenate([at[over[row]], count + row])),
        ),
        shape=(row.size, size),
    )
    held = sparse.coo_matrix(blocks.held)
    held.resize((count, size))
    table = sparse.vstack([grid_rows, held, -held], format="csr")
    likelihood = np.repeat(bench.weights, slots)[over]
    upper = np.concatenate([blocks.upper, np.full(over.size, np.inf)])
    bounds = np.column_stack([np.zeros(size), upper])

    def mended(least: FloatArray, most: FloatArray) -> tuple[FloatArray, float, Choices]:
        right = np.concatenate([-answer.base[over[row], measure], most, -least])
        cost = np.concatenate([blocks.cost, likelihood])
        solution = np.zeros(size)
        for _ in range(_REWEIGHTINGS):
            result = linprog(cost, table, right, bounds=bounds, method="highs-ds")
            if result.x is None:
                raise CheckFailed(f"no schedule found: {result.message}")
            solution = result.x
            # What is left over the limit now counts for its slot, not for its size.
            cost[count:] = likelihood / (solution[count:] + _REWEIGHT_FLOOR)
        found = np.where(solution[:count] > _TOUCHING, solution[:count], 0.0)
        hoped = float((solution[count:] > _TOUCHING) @ likelihood)
        return found, hoped, _choices(answer.base[over], slope[over], at[over], likelihood, found)

    found, hoped, choices = mended(blocks.least, blocks.most)
    if need is None:
        need = 0.0
        if not store.must_return:
            # Tomorrow is taken to be like today, and its battery to have all the room.
            alone, _, enough = mended(np.zeros(count), np.ones(count))
            need = enough.worth_taking(alone, blocks)
    power = in_fewest_slots(
        found,
        choices,
        blocks,
        np.bincount(block_of, ~used, minlength=count).astype(np.float64),
        most_slots - int(used.sum()),
        need=need,
        called=store.must_return,
    )
    departure = _departure(store, np.where(draws, power, -power))[block_of]
    return store.values_of(departure), hoped, need


def _blocks(
    bench: Bench, store: Store, block_of: IntArray, draws: BoolArray, most: FloatArray
) -> Blocks:
    """What the store can do in each block, and at which cost beside a quarter-hour over a limit."""
    count = draws.size
    hours = np.bincount(block_of) / SLOTS_PER_HOUR
    filling = store.max_power_w * hours / store.capacity_wh
    filling = np.where(draws, store.efficiency_permille / 1000.0 * filling, -filling)
    own = np.bincount(block_of, weights=store.own_w) / np.bincount(block_of) / store.max_power_w
    if store.must_return:
        # Late is better than early, and holding back what would be charged anyway costs nothing.
        early = 1.0 - np.arange(count) / count
        worth = store.capacity_wh / SLOT_WORTH_WH * (1.0 + 0.2 * early)
        giving = np.where(own > 0.0, 0.1 * _FILLING, worth)
    else:
        giving = _GIVING * (1.0 - 0.2 * _rank(bench, block_of))
    # A battery that would charge by itself is held back, and not made to give.
    free = np.where(draws, 1.0 - own, np.where(own > 0.0, own, 1.0 + own))
    stored = store.stored_wh / store.capacity_wh
    last = np.flatnonzero(np.diff(block_of, append=count))
    least = store.floor_wh[last] / store.capacity_wh - stored
    if store.must_return:
        least[-1] = max(0.0, least[-1])  # at the end at least what it held in the beginning
    return Blocks(
        filling=filling,
        cost=np.where(draws, _FILLING * filling, giving * -filling),
        upper=np.minimum(most, free),
        least=least,
        most=np.full(count, 1.0 - stored),
    )


def _choices(
    base: FloatArray, slope: FloatArray, block: IntArray, likelihood: FloatArray, found: FloatArray
) -> Choices:
    """Between rest and what was found, the least power for each number of rows it mends.

    base, slope: of the rows over a limit; block: where they are.
    """
    table = []
    for at in np.unique(block):
        here = block == at
        shares = np.linspace(0.0, found[at], _POWERS if found[at] > 0.0 else 1)
        measures = base[here] + shares[:, None, None] * slope[here]
        left = (measures.max(axis=2) > _TOUCHING) @ likelihood[here]
        better = left < np.append(np.inf, np.minimum.accumulate(left)[:-1])
        table += [
            (at, share, rest) for share, rest in zip(shares[better], left[better], strict=True)
        ]
    columns = np.array(table).reshape(-1, 3).T
    return Choices(columns[0].astype(np.int64), columns[1], columns[2])


def _most(answer: Answer, slope: FloatArray, at: IntArray, blocks: int) -> FloatArray:
    """The largest share of full power per block at which no row loses a limit that it keeps.

    A row inside its limit but within the margin only has to get no worse.
    """
    rising = ~answer.over[:, None] & (slope > _TOUCHING)
    share = np.full(slope.shape, np.inf)
    np.divide(np.maximum(0.0, -answer.base), slope, out=share, where=rising)
    most = np.ones(blocks)
    np.minimum.at(most, at, share.min(axis=1))
    return most


def _largest(base: FloatArray, slope: FloatArray) -> BoolArray:
    """Which measures of each row are its largest somewhere between rest and full power."""
    keep = np.zeros(base.shape, dtype=bool)
    each = np.arange(base.shape[0])
    for share in np.linspace(0.0, 1.0, _LOOKS):
        keep[each, (base + share * slope).argmax(axis=1)] = True
    return keep


def _draws(bench: Bench, answer: Answer, block_of: IntArray, blocks: int) -> BoolArray:
    """In which blocks the device may draw; in the others it may feed in."""
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
    over = np.bincount(
        block_of, weights=answer.over.reshape(courses, slots).any(axis=0), minlength=blocks
    )
    if (shortage & (over > 0)).any():
        # Energy for it has to be there before: quiet hours with little demand may charge.
        demand = _demand(bench, block_of)
        surplus |= ~shortage & (demand <= np.median(demand))
    return surplus


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


def _departure(store: Store, power: FloatArray) -> IntArray:
    """Shares of full power, below zero fed in, as W in whole steps of the key.

    Charging is rounded up (it is what mends), giving down to what is then stored.
    """
    full, step = float(store.max_power_w), store.step * store.max_power_w / store.full
    whole = np.minimum(np.ceil(power * full / step - 1e-6) * step, full)
    whole[(whole > 0.0) & (whole < 2 * step)] = 0.0
    return np.rint(whole).astype(np.int64)
