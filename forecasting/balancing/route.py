# SPDX-License-Identifier: Apache-2.0
"""Which way an action may go: under a standing policy that allows it, or to a vote.

The same conditions as `StandingPolicies.use`, asked before anything is sent. The contract decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dao.governance.proposals import Lane
from dao.parameters import neutral_distance
from dao.slots import SLOT_SECONDS
from forecasting.balancing.actions import PRICE_KEYS, Action

if TYPE_CHECKING:
    from dao.chain import Contract


@dataclass(frozen=True)
class Policy:
    """A standing policy as read from the chain; `remaining` of the budget of these thirty days."""

    number: int
    zone: int
    key: int
    lowest: int
    highest: int
    max_slots: int
    remaining: int
    veto_hours: int
    expires_at: int
    ended: bool


@dataclass(frozen=True)
class Route:
    """Where an action goes. policy: its number in the policy lane, else None. why: in words."""

    action: Action
    lane: Lane
    policy: int | None
    why: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "key": self.action.key,
            "lane": self.lane.name.lower(),
            "policy": self.policy,
            "why": self.why,
        }


def read_policies(contract: Contract) -> list[Policy]:
    """Every standing policy of the deployment, ended ones too."""
    found = []
    for number in range(1, int(contract.call("policy_count")) + 1):
        terms = contract.call("policy_of", number)
        found.append(
            Policy(
                number=number,
                zone=int(terms["zone"]),
                key=int(terms["key"]),
                lowest=int(terms["lowest"]),
                highest=int(terms["highest"]),
                max_slots=int(terms["max_slots"]),
                remaining=int(contract.call("remaining", number)),
                veto_hours=int(terms["veto_hours"]),
                expires_at=int(terms["expires_at"]),
                ended=bool(terms["ended"]),
            )
        )
    return found


def route(
    actions: Sequence[Action],
    zone: int,
    policies: Sequence[Policy],
    rules: Mapping[int, int] | None = None,
) -> list[Route]:
    """Where each action goes. rules: the price rules' values now by key, µ€ per Wh.

    An action costs its deviation: slots times `neutral_distance` of each value from what would hold
    without it. What is used up by an action is off the budget for the next. Of several fitting
    policies the one with the most left is taken. Raises KeyError where a price window comes without
    its rule's value.
    """
    left = {policy.number: policy.remaining for policy in policies}
    found = []
    for action in actions:
        rule = (rules or {})[action.key] if action.key in PRICE_KEYS else 0
        cost = sum(w.slots * neutral_distance(action.key, w.value, rule) for w in action.windows)
        own = [one for one in policies if (one.zone, one.key) == (zone, action.key)]
        fits: list[tuple[Policy, str]] = []
        refused: list[tuple[Policy, str]] = []
        for policy in own:
            reason = _reason(policy, action, cost, left[policy.number])
            (refused if reason else fits).append((policy, reason))
        if fits:
            best = max(fits, key=lambda pair: (left[pair[0].number], -pair[0].number))[0]
            left[best.number] -= cost
            why = (
                f"inside standing policy {best.number}: takes effect unless enough members object "
                f"within {best.veto_hours} hours"
            )
            found.append(Route(action, Lane.POLICY, best.number, why))
        else:
            why = "no standing policy of the zone is about it"
            if refused:
                why = "; ".join(f"policy {policy.number}: {why}" for policy, why in refused)
            found.append(Route(action, Lane.BALANCING, None, f"to a vote: {why}"))
    return found


def _reason(policy: Policy, action: Action, cost: int, left: int) -> str:
    """Why the policy does not cover the action; empty where it does."""
    values = [window.value for window in action.windows]
    if policy.ended:
        return "has ended"
    if min(values) < policy.lowest or max(values) > policy.highest:
        return f"allows {policy.lowest:,} to {policy.highest:,}"
    if action.slots > policy.max_slots:
        return f"allows {policy.max_slots:,} slots at a time, these are {action.slots:,}"
    end = max(window.first_slot + window.slots for window in action.windows)
    if end * SLOT_SECONDS > policy.expires_at:
        return "expires before the last window ends"
    if cost > left:
        return f"has {left:,} left of its budget, this takes {cost:,}"
    return ""


def calls_json(actions: Sequence[Action], zone: int) -> list[dict[str, Any]]:
    """The calls of a proposal, as `gridcommons dao propose` reads them: one per action."""
    return [
        {
            "target": "GridParameters",
            "function": "open_windows",
            "arguments": {
                "zone": zone,
                "key": action.key,
                "windows": [
                    str(w.first_slot | (w.slots << 64) | ((w.value % (1 << 128)) << 128))
                    for w in action.windows
                ],
            },
        }
        for action in actions
    ]
