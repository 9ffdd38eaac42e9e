# SPDX-License-Identifier: Apache-2.0
"""Afterwards: what a plan promised, and what really came of it.

The day is computed as it was measured, and again with the action taken out: what the devices drew
more than by themselves is taken off where they stand. Two views that are never mixed. The public
one spreads the published totals by standard shares, and anybody can compute it. The operator's own
takes every home's readings, and stays with the operator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dao.errors import BadUse
from forecasting.balancing.confirm import Bench, Change
from forecasting.balancing.scenarios import Scenario
from forecasting.balancing.shares import SLOTS_PER_HOUR, Shares
from forecasting.grid import FloatArray, GridLimits, IntArray, ZoneGrid
from forecasting.zone import ZoneTotals


@dataclass(frozen=True, eq=False)
class Done:
    """What an action's devices drew more than by themselves: (slots,) W in fixed parts at buses.

    inside: whether the zone's totals and the homes' readings contain it (home batteries, charge
    points) or not (the community battery, whose own meter is taken out of them).
    """

    key: int
    power_w: IntArray
    buses: tuple[int, ...]
    parts: tuple[float, ...]
    reactive_per_active: float = 0.0
    inside: bool = False

    @property
    def taken_wh(self) -> int:
        return int(self.power_w[self.power_w > 0].sum()) // SLOTS_PER_HOUR

    @property
    def given_wh(self) -> int:
        return int(-self.power_w[self.power_w < 0].sum()) // SLOTS_PER_HOUR


@dataclass(frozen=True)
class MeasuredEffect:
    """A day as it was, with the action and with it taken out. view: "public" or "operator".

    over_with, over_without: quarter-hours over a limit; made_worse: those over it with it only.
    voltage_max and transformer: the day's highest, (with, without). promised: the proposal's own
    figures, None where there was none; kept: whether over_with lies inside the promised 80 %.
    energy: per key what was taken and given, Wh.
    """

    view: str
    first_slot: int
    over_with: int
    over_without: int
    made_worse: int
    voltage_max: tuple[float, float]
    transformer: tuple[float, float]
    energy: Mapping[int, tuple[int, int]]
    promised: Mapping[str, Any] | None
    kept: bool | None
    foreseen: bool | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "view": self.view,
            "first_slot": self.first_slot,
            "quarter_hours_over": {
                "with": self.over_with,
                "without": self.over_without,
                "only_with": self.made_worse,
            },
            "voltage_max": _pair(self.voltage_max),
            "transformer": _pair(self.transformer),
            "energy_wh": {
                str(key): {"taken": taken, "given": given}
                for key, (taken, given) in self.energy.items()
            },
            "promised": None if self.promised is None else dict(self.promised),
            "inside_the_promised_interval": self.kept,
            "inside_the_foreseen_interval_without": self.foreseen,
        }


def public_effect(
    grid: ZoneGrid,
    shares: Shares,
    totals: ZoneTotals,
    done: Sequence[Done],
    *,
    promise: Mapping[str, Any] | None = None,
    limits: GridLimits | None = None,
) -> MeasuredEffect:
    """From the published totals of one day, the community battery taken out (`without_battery`)."""
    power = shares.spread(totals.net_wh + totals.export_wh, totals.export_wh)
    return _effect("public", grid, power, shares.buses, totals.first_slot, done, promise, limits)


def operator_effect(
    grid: ZoneGrid,
    net_w: npt.ArrayLike,
    buses: Sequence[int] | IntArray,
    first_slot: int,
    done: Sequence[Done],
    *,
    promise: Mapping[str, Any] | None = None,
    limits: GridLimits | None = None,
) -> MeasuredEffect:
    """From readings: (slots, homes) W of one day, and each home's bus. No public evidence."""
    power = np.asarray(net_w, dtype=np.float64)
    return _effect("operator", grid, power, buses, first_slot, done, promise, limits)


def _effect(
    view: str,
    grid: ZoneGrid,
    net_w: FloatArray,
    buses: Sequence[int] | IntArray,
    first_slot: int,
    done: Sequence[Done],
    promise: Mapping[str, Any] | None,
    limits: GridLimits | None,
) -> MeasuredEffect:
    if any(one.power_w.shape != net_w.shape[:1] for one in done):
        raise BadUse("what was done needs one value for each slot that was measured")
    if promise is not None and promise.get("first_slot") != first_slot:
        raise BadUse(f"the promise is not about the day that begins at slot {first_slot}")
    bench = Bench(grid, [Scenario(view, 1.0, net_w)], buses, limits or GridLimits())
    # What is in the readings is taken out for the one, what is not is added for the other.
    acted = bench.flow([_change(one, 1.0) for one in done if not one.inside])
    rested = bench.flow([_change(one, -1.0) for one in done if one.inside])
    over_with, over_without = acted.slots_over_limit, rested.slots_over_limit
    return MeasuredEffect(
        view=view,
        first_slot=first_slot,
        over_with=over_with,
        over_without=over_without,
        made_worse=int((acted.over_limit & ~rested.over_limit).sum()),
        voltage_max=(float(acted.voltage_max.max()), float(rested.voltage_max.max())),
        transformer=(
            float(acted.transformer_loading.max()),
            float(rested.transformer_loading.max()),
        ),
        energy={one.key: (one.taken_wh, one.given_wh) for one in done},
        promised=None
        if promise is None
        else {name: promise[name]["quarter_hours"] for name in _PROMISED},
        kept=None if promise is None else _inside(promise["with_the_action"], over_with),
        foreseen=None if promise is None else _inside(promise["if_nothing_is_done"], over_without),
    )


_PROMISED = ("if_nothing_is_done", "with_the_action")


def _change(done: Done, sign: float) -> Change:
    power = sign * done.power_w.astype(np.float64)
    return Change(power, done.buses, done.parts, done.reactive_per_active)


def _inside(risk: Mapping[str, Any], slots: int) -> bool:
    quantiles = risk["quarter_hours"]
    return bool(quantiles["q10"] <= slots <= quantiles["q90"])


def _pair(values: tuple[float, float]) -> dict[str, float]:
    return {"with": round(values[0], 5), "without": round(values[1], 5)}
