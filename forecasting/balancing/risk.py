# SPDX-License-Identifier: Apache-2.0
"""How likely each limit of the grid breaks, and by how much, over the courses of a day.

Means for how long and how far, quantiles for what may happen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from forecasting.balancing.scenarios import weighted_quantile
from forecasting.grid import FloatArray, GridLimits, GridResult

LEVELS = (0.1, 0.5, 0.9)
LIMITS = ("voltage_max", "voltage_min", "transformer", "line")
_DIGITS = 5


@dataclass(frozen=True)
class LimitRisk:
    """One limit. Units: pu of voltage, percent of rated current.

    probability: that it breaks in any slot; per_slot: in each one, (slots,). excess: expected
    distance beyond the limit in each slot, (slots,), where nothing breaks 0. worst: the day's most
    extreme value at LEVELS of the courses, the most extreme ones last. band: the value of each slot
    at LEVELS, (3, slots).
    """

    limit: float
    probability: float
    per_slot: FloatArray
    excess: FloatArray
    worst: tuple[float, ...]
    band: FloatArray


@dataclass(frozen=True)
class Risk:
    """A day's risk. Quarter-hours are slots in which any limit breaks.

    probability: of at least one; expected: their mean number; quantiles: their number at LEVELS.
    """

    probability: float
    expected: float
    quantiles: tuple[int, ...]
    limits: Mapping[str, LimitRisk]

    def as_dict(self) -> dict[str, Any]:
        """As JSON: the day in figures, and each limit with its slots."""
        return {
            "probability": round(self.probability, 4),
            "quarter_hours": {
                "mean": round(self.expected, 2),
                **_named(self.quantiles),
            },
            "limits": {
                name: {
                    "limit": found.limit,
                    "probability": round(found.probability, 4),
                    "worst": _named([round(value, _DIGITS) for value in found.worst]),
                    "largest_expected_excess": round(float(found.excess.max()), _DIGITS),
                    "probability_per_slot": _rounded(found.per_slot, 4),
                    "expected_excess_per_slot": _rounded(found.excess, _DIGITS),
                }
                for name, found in self.limits.items()
            },
        }

    @property
    def worst_limit(self) -> str:
        """The limit that breaks most likely; of equals the one with the larger share of excess."""
        return max(
            LIMITS,
            key=lambda name: (
                self.limits[name].probability,
                float(self.limits[name].excess.max()) / self.limits[name].limit,
            ),
        )


def risk_of(result: GridResult, weights: FloatArray, limits: GridLimits) -> Risk:
    """The risk in a power flow of all courses; rows: all slots of the first one, and so on."""
    courses = weights.size
    tables = {
        "voltage_max": (result.voltage_max, limits.voltage_max, 1.0),
        "voltage_min": (result.voltage_min, limits.voltage_min, -1.0),
        "transformer": (result.transformer_loading, limits.loading_max, 1.0),
        "line": (result.line_loading, limits.loading_max, 1.0),
    }
    found = {}
    for name, (values, limit, sign) in tables.items():
        table = values.reshape(courses, -1)
        beyond = sign * (table - limit)
        extreme = sign * (sign * table).max(axis=1)
        ranked = sign * weighted_quantiles(sign * extreme, weights)
        found[name] = LimitRisk(
            limit=limit,
            probability=float(weights @ (beyond > 0.0).any(axis=1)),
            per_slot=weights @ (beyond > 0.0),
            excess=weights @ np.maximum(beyond, 0.0),
            worst=tuple(ranked.tolist()),
            band=np.array([weighted_quantile(table, weights, level) for level in LEVELS]),
        )
    over = result.over_limit.reshape(courses, -1).sum(axis=1)
    return Risk(
        probability=float(weights @ (over > 0)),
        expected=float(weights @ over),
        quantiles=tuple(int(value) for value in weighted_quantiles(over, weights)),
        limits=found,
    )


def weighted_quantiles(values: Any, weights: FloatArray) -> FloatArray:
    """The values at LEVELS of the weight, (3,)."""
    table = np.asarray(values, dtype=np.float64)[:, None]
    return np.array([weighted_quantile(table, weights, level)[0] for level in LEVELS])


def _named(values: Any) -> dict[str, Any]:
    return {f"q{round(100 * level)}": value for level, value in zip(LEVELS, values, strict=True)}


def _rounded(values: FloatArray, digits: int) -> list[float]:
    return [round(float(value), digits) for value in values]
