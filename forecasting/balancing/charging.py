# SPDX-License-Identifier: Apache-2.0
"""When to cap the charge points: whole hours, chosen by a small mixed-integer programme.

A cap is on or off. Under it a car gets 6 A on one phase, the least that IEC 61851-1 lets a charge
point offer, and takes what it missed afterwards (`actions.charging_change`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forecasting.balancing.actions import (
    CHARGE_POINTS,
    NO_CAP_W,
    Action,
    Flexibility,
    charging_change,
    windows_of,
)
from forecasting.balancing.confirm import Bench, Change
from forecasting.balancing.shares import SLOTS_PER_HOUR
from forecasting.grid import FloatArray, GridResult, IntArray

CAP_W = 1_400
# A capped hour has to mend this much of a quarter-hour to be worth it.
_CAPPED_HOUR = 0.02
_SCALE = 100.0
_NODES = 2_000


@dataclass(frozen=True)
class Caps:
    """The action and what it changes by standard behaviour."""

    action: Action
    change: Change


def cap_charge_points(
    bench: Bench,
    flexibility: Flexibility,
    others: list[Change],
    before: GridResult,
    first_slot: int,
) -> Caps | None:
    """The caps that mend most of what is left; None where no cap mends anything."""
    from scipy import sparse
    from scipy.optimize import Bounds, LinearConstraint, milp

    points = flexibility.charge_points
    rated = float(sum(point.rated_w for point in points))
    buses = tuple(point.bus for point in points)
    parts = tuple(point.rated_w / rated for point in points)
    blocks = -(-bench.slots // SLOTS_PER_HOUR)
    kernel = np.column_stack(
        [
            charging_change(flexibility, _caps(bench.slots, [block]), first_slot)
            for block in range(blocks)
        ]
    )
    largest = float(np.abs(kernel).max())
    over = np.flatnonzero(before.over_limit)
    if largest <= 0.0 or not over.size:
        return None
    # How the measures answer to power there, per W: a secant as wide as the caps' own effect.
    nudged = bench.flow([*others, Change(np.full(bench.slots, largest), buses, parts)])
    base, moved = _worst(before, bench, over), _worst(nudged, bench, over)
    slope = (moved - base) / largest
    slot = over % bench.slots
    size = blocks + over.size
    rows = sparse.hstack(
        [sparse.csr_matrix(slope[:, None] * kernel[slot]), -sparse.identity(over.size)],
        format="csr",
    )
    weight = np.repeat(bench.weights, bench.slots)[over]
    most = np.concatenate([np.ones(blocks), np.full(over.size, np.inf)])
    cost = np.concatenate([np.full(blocks, _CAPPED_HOUR), weight / np.maximum(base, 1e-6)])
    found = milp(
        cost,
        constraints=LinearConstraint(rows, ub=-base),
        integrality=np.concatenate([np.ones(blocks), np.zeros(over.size)]),
        bounds=Bounds(np.zeros(size), most),
        options={"node_limit": _NODES},
    )
    if found.x is None:
        return None
    chosen = np.flatnonzero(found.x[:blocks] > 0.5).tolist()
    caps = _caps(bench.slots, chosen)
    windows = windows_of(caps, first_slot, rest=NO_CAP_W)
    if not windows:
        return None
    return Caps(
        Action(CHARGE_POINTS, windows),
        Change(charging_change(flexibility, caps, first_slot), buses, parts),
    )


def _caps(slots: int, blocks: list[int]) -> FloatArray:
    caps = np.full(slots, float(NO_CAP_W))
    for block in blocks:
        caps[block * SLOTS_PER_HOUR : (block + 1) * SLOTS_PER_HOUR] = CAP_W
    return caps


def _worst(result: GridResult, bench: Bench, rows: IntArray) -> FloatArray:
    """How far each row is beyond the limit that it breaks most, in parts of a hundred."""
    limits = bench.limits
    measures = np.column_stack(
        [
            result.voltage_max[rows] - limits.voltage_max,
            limits.voltage_min - result.voltage_min[rows],
            (result.transformer_loading[rows] - limits.loading_max) / 100.0,
            (result.line_loading[rows] - limits.loading_max) / 100.0,
        ]
    )
    found: FloatArray = _SCALE * measures.max(axis=1)
    return found
