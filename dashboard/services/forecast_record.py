# SPDX-License-Identifier: Apache-2.0
"""How good the committed forecasts were, from the dossier's tables `forecasts` and `scores`.

Pure. Forecasts are of the whole zone, never of a home. What is fair is told as far as the totals
tell: by time of day, and while an action was in force.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dashboard.i18n import Formats, _
from dashboard.repositories.analysis import Analysis
from dashboard.services.analysis import short
from dashboard.services.units import wall_clock

PARTS_OF_DAY = ((0, 6), (6, 12), (12, 18), (18, 24))
"""On the zone's own clock."""
NOMINAL = 0.8
"""What the band from the 10 % to the 90 % quantile should hold."""


@dataclass(frozen=True)
class Record:
    """Of some days. ratio: loss over the simple forecast's, None without a scored day; coverage:
    share of quarter-hours inside the band, of those without an action; slots: how many. bias_wh:
    mean of forecast less metered."""

    days: int
    missed: int
    ratio: float | None
    coverage: float | None
    bias_wh: float | None
    slots: int
    forecasters: tuple[str, ...]


def record(one: Analysis) -> Record:
    """All days together."""
    scores, slots = one.tables["scores"].to_pylist(), _slots(one)
    scored = [row for row in scores if row["state"] == "scored"]
    naive = sum(row["naive_loss"] for row in scored)
    free = slots[~slots["in_window"]]
    return Record(
        days=len(scored),
        missed=sum(row["state"] == "missed" for row in scores),
        ratio=sum(row["loss"] for row in scored) / naive if naive else None,
        coverage=float(free["inside"].mean()) if len(free) else None,
        bias_wh=float((free["q50"] - free["net_wh"]).mean()) if len(free) else None,
        slots=len(free),
        forecasters=tuple(dict.fromkeys(row["forecaster"] for row in scores)),
    )


def _slots(one: Analysis) -> pd.DataFrame:
    names = ("slot", "forecaster", "q10", "q50", "q90", "net_wh", "inside", "in_window")
    table = one.tables["forecasts"]
    frame = pd.DataFrame({name: table[name].to_pylist() for name in names})
    return frame.astype({"inside": bool, "in_window": bool})


@dataclass(frozen=True)
class DayLine:
    """One forecaster's forecast of one day."""

    first_slot: int
    day: str
    forecaster: str
    state: str
    ratio: float | None
    inside: int
    slots: int
    evidence: str | None
    slashed: int
    rewarded: int


def day_lines(one: Analysis) -> list[DayLine]:
    """The newest day first."""
    slots = _slots(one)
    free = slots[~slots["in_window"]]
    counted: dict[tuple[int, str], tuple[int, int]] = {}
    for (day, who), part in free.groupby([free["slot"] // 96, "forecaster"]):
        counted[int(day) * 96, str(who)] = (int(part["inside"].sum()), len(part))
    rows: list[dict[str, Any]] = one.tables["scores"].to_pylist()
    lines = []
    for row in sorted(rows, key=lambda row: (-row["first_slot"], row["forecaster"])):
        inside, count = counted.get((row["first_slot"], row["forecaster"]), (0, 0))
        naive = row["naive_loss"]
        lines.append(
            DayLine(
                row["first_slot"],
                row["day"],
                row["forecaster"],
                row["state"],
                row["loss"] / naive if row["state"] == "scored" and naive else None,
                inside,
                count,
                row["evidence"],
                row["slashed"],
                row["rewarded"],
            )
        )
    return lines


def state_words(state: str) -> tuple[str, str]:
    """What became of a forecast, and its colour."""
    return {
        "scored": (_("scored"), "good"),
        "unscored": (_("not scored"), "plain"),
        "missed": (_("not revealed"), "bad"),
        "revealed": (_("waits for its score"), "open"),
        "committed": (_("committed"), "open"),
    }.get(state, (state, "plain"))


def day_frame(lines: list[DayLine], fmt: Formats) -> pd.DataFrame:
    """The days in words; evidence and money as far as there are."""
    none = "–"
    return pd.DataFrame(
        [
            {
                _("Day (UTC)"): line.day,
                _("Forecaster"): short(line.forecaster),
                _("State"): state_words(line.state)[0],
                _("Error, of the simple forecast’s"): none
                if line.ratio is None
                else fmt.percent(line.ratio),
                _("Skill"): none if line.ratio is None else fmt.percent(1 - line.ratio),
                _("Metered within the band"): fmt.percent(line.inside / line.slots)
                if line.slots
                else none,
                _("Bond"): _money(line, fmt),
                _("Evidence"): short(line.evidence) if line.evidence else none,
            }
            for line in lines
        ]
    )


def _money(line: DayLine, fmt: Formats) -> str:
    moved = line.rewarded - line.slashed
    if not moved:
        return "–"
    return f"{'+' if moved > 0 else '−'}{fmt.euro(abs(moved))}"


def chart_frame(lines: list[DayLine]) -> pd.DataFrame:
    """time, loss_percent: the scored days in order; of several forecasters the mean."""
    scored = [(line.first_slot, line.ratio * 100) for line in lines if line.ratio is not None]
    frame = pd.DataFrame(scored, columns=["slot", "loss_percent"])
    frame = frame.groupby("slot", as_index=False).mean().sort_values("slot")
    times = pd.to_datetime(frame["slot"].to_numpy(dtype=np.int64) * 900, unit="s")
    return pd.DataFrame({"time": pd.Series(times), "loss_percent": frame["loss_percent"]})


def fairness_frame(one: Analysis, fmt: Formats) -> pd.DataFrame:
    """Coverage and bias by part of the day, and while an action was in force, in words."""
    slots = _slots(one)
    if slots.empty:
        return pd.DataFrame()
    hour = wall_clock(slots["slot"].to_numpy()).dt.hour.to_numpy()
    free = ~slots["in_window"].to_numpy()
    parts = [
        (
            _("{begin} to {end} o’clock").format(begin=begin, end=end),
            free & (hour >= begin) & (hour < end),
        )
        for begin, end in PARTS_OF_DAY
    ]
    parts.append((_("While an action was in force"), ~free))
    rows = []
    for name, here in parts:
        part = slots[here]
        if part.empty:
            continue
        bias = float((part["q50"] - part["net_wh"]).mean())
        rows.append(
            {
                _("When"): name,
                _("Quarter-hours"): fmt.number(len(part)),
                _("Metered within the band"): fmt.percent(float(part["inside"].mean())),
                _("Forecast less metered, mean"): fmt.kwh(bias, 2),
            }
        )
    return pd.DataFrame(rows)
