# SPDX-License-Identifier: Apache-2.0
"""The chart of a backtest: one home's last days, or many homes' ratios side by side.

What is drawn was computed in `backtest`; nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dao.errors import BadUse
from forecasting.backtest import Accuracy, Fairness, Run

_SHOWN_DAYS = 7
_BAND, _LINE, _CAME, _NAIVE = "#9ec9e2", "#1f6f9f", "#222222", "#b0563b"


def draw(runs: Sequence[Run], each: Sequence[Accuracy], together: Fairness, target: Path) -> None:
    """Write a PNG or SVG, by the ending of `target`. Raises BadUse where it cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5 if len(runs) == 1 else 1.8 + 0.32 * len(runs)), dpi=120)
    FigureCanvasAgg(figure)
    if len(runs) == 1:
        _one(figure, runs[0], each[0])
    else:
        _many(figure, each, together)
    figure.tight_layout()
    try:
        figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)
    except OSError as error:
        raise BadUse(f"cannot write {target}: {error.strerror or error}") from error


def _one(figure: Any, run: Run, accuracy: Accuracy) -> None:
    """The last days: what was forecast before each of them, and what came."""
    axes = figure.subplots()
    first = max(0, run.origins.size - _SHOWN_DAYS)
    for at in range(first, run.origins.size):
        begin = int(run.origins[at])
        stamps = [
            datetime.fromtimestamp(begin + run.step * slot, UTC)
            for slot in range(run.actual.shape[1])
        ]
        labels = at == first
        axes.fill_between(
            stamps,
            run.bands[0, at],
            run.bands[2, at],
            color=_BAND,
            linewidth=0,
            label="10 to 90 %" if labels else None,
        )
        axes.plot(stamps, run.bands[1, at], color=_LINE, lw=1.2, label="median" if labels else None)
        axes.plot(stamps, run.actual[at], color=_CAME, lw=0.9, label="came" if labels else None)
    axes.set_title(
        f"{accuracy.name or 'Forecast'}: {accuracy.ratio:.2f} of yesterday's loss over "
        f"{accuracy.origins} days, interval holds {100 * accuracy.coverage:.0f} %",
        loc="left",
        fontsize=10,
    )
    axes.set_xlabel("UTC")
    axes.legend(loc="upper right", fontsize=8, frameon=False, ncols=3)
    axes.margins(x=0)
    axes.spines[["top", "right"]].set_visible(False)


def _many(figure: Any, each: Sequence[Accuracy], together: Fairness) -> None:
    """Loss over yesterday's of every home, and how often its interval held."""
    left, right = figure.subplots(1, 2, sharey=True)
    ordered = sorted(each, key=lambda one: one.ratio)
    names = [one.name for one in ordered]
    worse = [one.ratio > 1.0 for one in ordered]
    left.barh(names, [one.ratio for one in ordered], color=[_NAIVE if w else _LINE for w in worse])
    left.axvline(1.0, color=_CAME, lw=1)
    left.set_xlabel("loss over that of yesterday's value")
    left.set_title(f"All: {together.ratio:.3f}", loc="left", fontsize=10)
    right.plot([100 * one.coverage for one in ordered], names, "o", color=_LINE)
    right.axvline(80, color=_CAME, lw=1)
    right.set_xlim(50, 100)
    right.set_xlabel("values inside the 80 % interval, %")
    right.set_title(f"Worst gap: {100 * together.coverage_gap:.1f} points", loc="left", fontsize=10)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    left.invert_yaxis()
