# SPDX-License-Identifier: Apache-2.0
"""What a suite comes to, how suites are merged, and how they are shown."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")
Number = int | float


@dataclass(frozen=True)
class Result:
    """Figures of a suite by name.

    figures: ours; the end of a name says the unit (`_s` seconds, `_mib`, `_per_s`), gas otherwise.
    peers: the same measured on something else. ratios: ours to a peer, as the name says.
    notes: what a reader has to know of a figure, by its name; shown to people only.
    """

    figures: Mapping[str, Number] = field(default_factory=dict)
    peers: Mapping[str, Number] = field(default_factory=dict)
    ratios: Mapping[str, Number] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, dict[str, Number]]:
        """What `--json` prints."""
        return {
            "figures": dict(self.figures),
            "peers": dict(self.peers),
            "ratios": dict(self.ratios),
        }


def merge(results: Iterable[Result]) -> Result:
    """Several suites as one. ValueError where two claim the same name."""
    parts: dict[str, dict[str, Number]] = {"figures": {}, "peers": {}, "ratios": {}}
    notes: dict[str, str] = {}
    for result in results:
        for part, values in result.as_dict().items():
            if twice := parts[part].keys() & values.keys():
                raise ValueError(f"two suites report {', '.join(sorted(twice))}")
            parts[part].update(values)
        notes.update(result.notes)
    return Result(**parts, notes=notes)


def table(result: Result) -> str:
    """For people: a block per kind of number, notes beside their figures."""
    lines: list[str] = []
    names = [name for part in result.as_dict().values() for name in part]
    width = max((len(name) for name in names), default=0)
    for title, values in result.as_dict().items():
        if not values:
            continue
        lines += ["", title.capitalize()] if lines else [title.capitalize()]
        for name, value in values.items():
            note = result.notes.get(name, "")
            lines.append(f"  {name:<{width}}  {_shown(value):>14}  {note}".rstrip())
    return "\n".join(lines)


def _shown(value: Number) -> str:
    if isinstance(value, int) or abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def seconds(work: Callable[[], T], repeat: int = 1) -> tuple[float, T]:
    """The shortest of `repeat` runs in seconds of wall time, and what the last one returned.

    The shortest, because other programs on the machine only ever add time.
    """
    best = float("inf")
    for _ in range(repeat):
        began = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - began)
    return best, result


def race(
    ours: Callable[[], T], theirs: Callable[[], object], rounds: int = 5, repeat: int = 1
) -> tuple[float, float, T]:
    """The shortest times of two ways in turn, in seconds, and what the first one returned.

    In turn, so that a busy moment of the machine meets both; the first one `repeat` times a turn,
    where it is so short that it needs more looks.
    """
    best_ours = best_theirs = float("inf")
    for _ in range(rounds):
        took, result = seconds(ours, repeat)
        best_ours = min(best_ours, took)
        took, _ignored = seconds(theirs)
        best_theirs = min(best_theirs, took)
    return best_ours, best_theirs, result
