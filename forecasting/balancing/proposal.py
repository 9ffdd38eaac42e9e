# SPDX-License-Identifier: Apache-2.0
"""A plan as it is put to the members: one JSON document, and the description that goes on chain.

Everything in it follows from the forecast's evidence and public data about the zone, so anybody
can make it again and compare.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dao.errors import BadUse
from dao.slots import SLOTS_PER_DAY
from dao.tariffs import Tariffs
from forecasting.balancing.bill import Bill, bill_of
from forecasting.balancing.plan import Plan
from forecasting.balancing.prices import PriceRules
from forecasting.balancing.risk import LEVELS, LimitRisk, Risk
from forecasting.balancing.route import Route, calls_json
from forecasting.balancing.tell import summary_of, title_of
from forecasting.grid import FloatArray

FORMAT = "gridcommons-balancing-1"
_DIGITS = 5


@dataclass(frozen=True)
class BalancingProposal:
    """A plan with what members need to judge it.

    evidence: hash of the forecast's evidence. method: how the courses were made ("shuffle",
    "fixed", "median", or "readings" for the operator's own view, which is no public evidence).
    routes: where each action goes; empty where nobody asked the chain.
    """

    zone: int
    evidence: bytes
    method: str
    plan: Plan
    bill: Bill
    routes: tuple[Route, ...]
    timezone: str
    elasticity: float | None

    @property
    def title(self) -> str:
        return title_of(self.plan)

    @property
    def summary(self) -> str:
        return summary_of(self.plan, self.bill, self.timezone)

    def document(self) -> dict[str, Any]:
        """Everything, as plain JSON values. Power in W, energy in Wh, money in µ€."""
        plan = self.plan
        answered = plan.with_prices
        return {
            "format": FORMAT,
            "zone": self.zone,
            "first_slot": plan.first_slot,
            "slots": plan.slots,
            "evidence": "0x" + self.evidence.hex(),
            "courses": self.method,
            "title": self.title,
            "summary": self.summary,
            "actions": [action.as_dict() for action in plan.actions],
            "routes": [route.as_dict() for route in self.routes],
            "calls": calls_json(plan.actions, self.zone),
            "if_nothing_is_done": plan.before.as_dict(),
            "with_the_action": plan.after.as_dict(),
            "if_people_answer_to_prices": None
            if answered is None
            else {"elasticity": self.elasticity, **answered.as_dict()},
            "bill": self.bill.as_dict(),
            "chart": chart_of(plan),
        }

    def description(self) -> str:
        """What goes on chain: headline, summary and evidence hash, as JSON."""
        return json.dumps(
            {
                "title": self.title,
                "summary": self.summary,
                "evidence": "0x" + self.evidence.hex(),
            },
            ensure_ascii=False,
        )


def proposal_of(
    plan: Plan,
    *,
    zone: int,
    evidence: bytes,
    homes: int,
    method: str = "shuffle",
    routes: Sequence[Route] = (),
    timezone: str = "UTC",
    tariffs: Tariffs | None = None,
    prices: PriceRules | None = None,
) -> BalancingProposal:
    """A plan with its bill, ready to be told. homes: how many share the bill."""
    return BalancingProposal(
        zone=zone,
        evidence=evidence,
        method=method,
        plan=plan,
        bill=bill_of(plan, homes, tariffs, prices),
        routes=tuple(routes),
        timezone=timezone,
        elasticity=None if prices is None else prices.elasticity,
    )


def check_document(document: Any) -> None:
    """Whether something read from a file has what `report` needs of a document. BadUse if not."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BadUse(f"no balancing plan: expected the format {FORMAT}")
    first, slots = document.get("first_slot"), document.get("slots")
    if type(first) is not int or type(slots) is not int or not 0 < slots <= SLOTS_PER_DAY:
        raise BadUse("first_slot and slots: expected slots of one day")
    if type(document.get("zone")) is not int:
        raise BadUse("zone: expected a number")
    for part in ("if_nothing_is_done", "with_the_action"):
        quarters = (document.get(part) or {}).get("quarter_hours")
        if not isinstance(quarters, dict) or not all(
            type(quarters.get(name)) in (int, float) for name in ("mean", "q10", "q50", "q90")
        ):
            raise BadUse(f"{part}: expected quarter_hours with mean, q10, q50 and q90")
    power = (document.get("chart") or {}).get("power_w")
    if not isinstance(power, dict) or not all(
        isinstance(watts, list) and len(watts) == slots and all(type(watt) is int for watt in watts)
        for watts in power.values()
    ):
        raise BadUse("chart.power_w: expected a list of whole W per slot for each key")


def chart_of(plan: Plan) -> dict[str, Any]:
    """Per slot, without and with the actions: highest voltage and transformer loading.

    Each as quantiles of the courses, named q10, q50 and q90; the powers by plan beside them.
    """
    shown = ("voltage_max", "voltage_min", "transformer", "line")
    return {
        "first_slot": plan.first_slot,
        **{
            name: {
                "limit": plan.before.limits[name].limit,
                "without": _band(plan.before, name),
                "with": _band(plan.after, name),
            }
            for name in shown
        },
        "power_w": {str(key): [int(watt) for watt in power] for key, power in plan.power_w.items()},
        "net_wh": [round(float(energy)) for energy in plan.net_wh],
    }


def _band(risk: Risk, name: str) -> dict[str, list[float]]:
    found: LimitRisk = risk.limits[name]
    return {
        f"q{round(100 * level)}": _rounded(values)
        for level, values in zip(LEVELS, found.band, strict=True)
    }


def _rounded(values: FloatArray) -> list[float]:
    return [round(float(value), _DIGITS) for value in np.asarray(values)]
