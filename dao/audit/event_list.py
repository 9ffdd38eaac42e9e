# SPDX-License-Identifier: Apache-2.0
"""Which events a dossier rests on, and how they look, so that nobody needs a compiler to read them.

Written as signatures in their ABI form; a test holds them equal to the compiled contracts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

STANDING: tuple[tuple[str, str], ...] = (
    ("RuleDefined", "GridParameters"),
    ("ValueChanged", "GridParameters"),
    ("MeterRegistered", "MeterRegistry"),
    ("MemberAdmitted", "Membership"),
    ("MemberRemoved", "Membership"),
    ("DelegateChanged", "Membership"),
    ("ForecasterChanged", "ForecastRegistry"),
    ("PolicyAdopted", "StandingPolicies"),
    ("BudgetSet", "Treasury"),
    ("Payment", "Treasury"),
    ("GrantMade", "Treasury"),
    ("MilestoneClosed", "Treasury"),
    ("GrantCancelled", "Treasury"),
    ("RecurringMade", "Treasury"),
    ("RecurringEnded", "Treasury"),
)
"""Counted from the deployment on: what held in the period may be older than it."""

SLOT_EVENTS: tuple[tuple[str, str, str, bool], ...] = (
    ("BatchCommitted", "ReadingLedger", "first_slot", True),
    ("BatchCorrected", "ReadingLedger", "first_slot", True),
    ("SlotCleared", "EnergyMarket", "slot", True),
    ("SlotSettled", "EnergyMarket", "slot", True),
    ("SessionOpened", "EnergyMarket", "first_slot", False),
    ("OrdersPosted", "EnergyMarket", "session", False),
    ("OrderRejected", "EnergyMarket", "session", False),
    ("OrdersSettled", "EnergyMarket", "first_slot", False),
    ("SessionVoided", "EnergyMarket", "first_slot", False),
    ("AdjustmentRecorded", "EnergyMarket", "slot", False),
    ("ForecastCommitted", "ForecastRegistry", "first_slot", False),
    ("ForecastRevealed", "ForecastRegistry", "first_slot", False),
    ("ForecastScored", "ForecastRegistry", "first_slot", False),
    ("DayUnscored", "ForecastRegistry", "first_slot", False),
    ("ForecastMissed", "ForecastRegistry", "first_slot", False),
    ("BondSlashed", "ForecastRegistry", "first_slot", False),
    ("BondRewarded", "ForecastRegistry", "first_slot", False),
    ("WindowOpened", "GridParameters", "first_slot", False),
)
"""Event, contract, the argument that names its slot, and whether the period before counts too."""

OTHERS: tuple[tuple[str, str], ...] = (
    ("Deposited", "EnergyMarket"),
    ("Withdrawn", "EnergyMarket"),
    ("FeesCollected", "EnergyMarket"),
    ("Paused", "EnergyMarket"),
    ("KeySuspended", "MeterRegistry"),
    ("ReceiptConflict", "MeterRegistry"),
    ("DisputeOpened", "ForecastRegistry"),
    ("DisputeDecided", "ForecastRegistry"),
    ("DisputeLapsed", "ForecastRegistry"),
    ("ProposalCreated", "GridGovernor"),
    ("ProposalLane", "GridGovernor"),
    ("ProposedUnderPolicy", "GridGovernor"),
    ("ProposalQueued", "GridGovernor"),
    ("ProposalExecuted", "GridGovernor"),
    ("ProposalCanceled", "GridGovernor"),
    ("ProposalExtended", "GridGovernor"),
    ("VoteCast", "GridGovernor"),
    ("BallotReason", "GridGovernor"),
    ("BallotRejected", "GridGovernor"),
    ("BondForfeited", "GridGovernor"),
)
"""Of the period, by rules of their own in `scope`."""

WITHHELD: Mapping[str, frozenset[str]] = {
    "ReceiptConflict": frozenset({"wh_a", "wh_b"}),
}
"""Arguments that are a home's reading of one slot. They stand on the chain, a dossier leaves them
out. `ReceiptLodged` and `EvidenceCounted`, which hold little else, are not part of any."""

MARKET_CONTRACTS = ("EnergyMarket", "ReadingLedger")
"""Their events begin with the period before; those of all others with the deployment."""


@lru_cache(maxsize=1)
def abis() -> dict[str, list[dict[str, Any]]]:
    """Contract to the ABI entries of the events above."""
    text = files("dao.audit").joinpath("events.json").read_text(encoding="utf-8")
    found: dict[str, list[dict[str, Any]]] = json.loads(text)
    return found


def wanted() -> dict[str, list[str]]:
    """Contract to the names of its events above."""
    found: dict[str, list[str]] = {}
    for name, contract in (
        *STANDING,
        *((name, contract) for name, contract, _, _ in SLOT_EVENTS),
        *OTHERS,
    ):
        found.setdefault(contract, []).append(name)
    return {contract: sorted(names) for contract, names in sorted(found.items())}


def extract(artifacts: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The entries as compiled contracts have them; what `events.json` has to be equal to."""
    found = {}
    for contract, names in wanted().items():
        entries = {
            str(item["name"]): {
                "type": "event",
                "name": item["name"],
                "anonymous": bool(item.get("anonymous", False)),
                "inputs": [_input(one) for one in item["inputs"]],
            }
            for item in artifacts[contract].abi
            if item.get("type") == "event" and item["name"] in names
        }
        found[contract] = [entries[name] for name in names]
    return found


def _input(entry: Mapping[str, Any]) -> dict[str, Any]:
    plain = {"name": entry["name"], "type": entry["type"]}
    if "indexed" in entry and entry["indexed"] is not None:
        plain["indexed"] = bool(entry["indexed"])
    if entry.get("components"):
        components: Sequence[Mapping[str, Any]] = entry["components"]
        plain["components"] = [_input(one) for one in components]
    return plain
