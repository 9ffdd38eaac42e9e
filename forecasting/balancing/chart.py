# SPDX-License-Identifier: Apache-2.0
"""The chart of a proposal: the limit at risk over the day, without and with the action.

What is drawn stands in the proposal's document; nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from dao.errors import BadUse
from dao.slots import slot_start

_WITHOUT, _WITH, _LIMIT, _POWER = "#b0563b", "#1f6f9f", "#222222", "#5b8c5a"
_LABELS = {
    "voltage_max": "highest voltage, pu",
    "voltage_min": "lowest voltage, pu",
    "transformer": "transformer, % of rated",
    "line": "fullest line, % of rated",
}
_NAMES = {"1000": "community battery", "1001": "charge points", "1002": "home batteries"}


def draw(document: Mapping[str, Any], limit: str, timezone: str, target: Path) -> None:
    """Write a PNG or SVG, by the ending of `target`. Raises BadUse where it cannot be written.

    document: of a proposal; limit: which of its limits to show.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.dates import DateFormatter
    from matplotlib.figure import Figure

    chart = document["chart"]
    count = len(chart["net_wh"])
    zone = UTC if timezone == "UTC" else ZoneInfo(timezone)
    first = chart["first_slot"]
    hours = [slot_start(first + slot).astimezone(zone) for slot in range(count)]
    figure = Figure(figsize=(10, 5.5), dpi=120)
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.3))
    shown = chart[limit]
    for name, label, colour in (
        ("without", "if nothing is done", _WITHOUT),
        ("with", "with the action", _WITH),
    ):
        band = shown[name]
        above.fill_between(hours, band["q10"], band["q90"], color=colour, alpha=0.22, linewidth=0)
        above.plot(hours, band["q50"], color=colour, lw=1.4, label=f"{label} (median, 10 to 90 %)")
    above.axhline(shown["limit"], color=_LIMIT, lw=0.9, ls="--", label="limit")
    above.set_ylabel(_LABELS[limit])
    above.set_title(document["title"], loc="left", fontsize=11)
    above.legend(frameon=False, fontsize=8, loc="lower left")
    for at, (key, watts) in enumerate(sorted(chart["power_w"].items())):
        below.step(
            hours,
            [watt / 1000 for watt in watts],
            where="post",
            color=(_POWER, _WITH, _WITHOUT)[at % 3],
            lw=1.2,
            label=_NAMES.get(key, key),
        )
    if chart["power_w"]:
        below.legend(frameon=False, fontsize=8, loc="upper left")
    below.axhline(0.0, color=_LIMIT, lw=0.6)
    below.set_ylabel("drawn more, kW")
    below.xaxis.set_major_formatter(DateFormatter("%H:%M", tz=zone))
    below.set_xlabel(timezone)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    try:
        figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadUse(f"cannot write {target}: {reason}") from None
