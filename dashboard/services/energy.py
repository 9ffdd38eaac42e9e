# SPDX-License-Identifier: Apache-2.0
"""What the zone makes and uses, beside what was forecast."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dao.runstate import ForecastDay
from dao.slots import SLOTS_PER_DAY
from dashboard.services.units import wall_clock

DAYS_SHOWN = 2


@dataclass(frozen=True)
class EnergyView:
    """One row per slot, kWh in a quarter-hour; not yet measured or not forecast is NaN.

    Columns: time (local wall clock), used_kwh (drawn from the grid by the homes), fed_kwh (given to
    it), net_kwh (used less fed), q10_kwh, q50_kwh, q90_kwh. The Wh figures are sums over the
    newest day that has any totals, `inside_band` is the share of its slots within q10..q90, those
    aside in which the battery followed a schedule: the forecast leaves its work out.
    """

    frame: pd.DataFrame
    measured_slots: int
    day_used_wh: int
    day_fed_wh: int
    inside_band: float | None

    @property
    def is_empty(self) -> bool:
        return self.frame.empty


def shown_range(now: int, forecasts: Sequence[ForecastDay]) -> tuple[int, int]:
    """First slot and number of slots of the chart: the newest forecast day and the one before it;
    without a forecast the day of `now` (a slot) and the one before."""
    newest = now // SLOTS_PER_DAY
    if forecasts:
        # A run ends days after its last day, when that day is final and scored.
        newest = max(one.first_slot for one in forecasts) // SLOTS_PER_DAY
    return (newest - DAYS_SHOWN + 1) * SLOTS_PER_DAY, DAYS_SHOWN * SLOTS_PER_DAY


def energy_view(
    totals: pd.DataFrame,
    forecasts: Sequence[ForecastDay],
    first_slot: int,
    slots: int,
    scheduled: Collection[int] = (),
) -> EnergyView:
    """Totals (slot, net_wh, export_wh) and forecasts over the slots of a range.

    scheduled: slots inside an executed window of the battery.
    """
    frame = pd.DataFrame({"slot": np.arange(first_slot, first_slot + slots)})
    frame = frame.merge(totals[["slot", "net_wh", "export_wh"]], on="slot", how="left")
    bands = [
        pd.DataFrame(
            {
                "slot": np.arange(len(one.q50)) + one.first_slot,
                "q10": one.q10,
                "q50": one.q50,
                "q90": one.q90,
            }
        )
        for one in forecasts
        if one.first_slot + len(one.q50) > first_slot and one.first_slot < first_slot + slots
    ]
    if bands:
        frame = frame.merge(pd.concat(bands).drop_duplicates("slot"), on="slot", how="left")
    else:
        frame = frame.assign(q10=np.nan, q50=np.nan, q90=np.nan)
    measured = frame["net_wh"].notna()
    day = frame["slot"] // SLOTS_PER_DAY
    newest = frame[measured & (day == day[measured].max())]
    both = newest[newest["q10"].notna() & ~newest["slot"].isin(list(scheduled))]
    inside = both["net_wh"].between(both["q10"], both["q90"])
    view = pd.DataFrame(
        {
            "time": wall_clock(frame["slot"]),
            "used_kwh": (frame["net_wh"] + frame["export_wh"]) / 1000,
            "fed_kwh": frame["export_wh"] / 1000,
            "net_kwh": frame["net_wh"] / 1000,
            "q10_kwh": frame["q10"] / 1000,
            "q50_kwh": frame["q50"] / 1000,
            "q90_kwh": frame["q90"] / 1000,
        }
    )
    seen = view[["net_kwh", "q50_kwh"]].notna().any(axis=1)
    return EnergyView(
        frame=view[seen].reset_index(drop=True),
        measured_slots=int(measured.sum()),
        day_used_wh=int((newest["net_wh"] + newest["export_wh"]).sum()),
        day_fed_wh=int(newest["export_wh"].sum()),
        inside_band=float(inside.mean()) if len(both) else None,
    )
