# SPDX-License-Identifier: Apache-2.0
"""What a dossier's making and checking say, in the visitor's words. Details stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dashboard.i18n import N_, _

STEPS = {
    "Reading the chain's events": N_("Reading the chain’s events"),
    "Clearing and settling again": N_("Clearing and settling every auction again"),
    "Reading the lake": N_("Counting readings and groups"),
    "Writing": N_("Writing tables and report"),
}
"""The steps of `forecasting.dossier.write_dossier`, by what it says of them."""

CHECKS = {
    "file": N_("Parts of the file"),
    "tables": N_("Tables"),
    "totals": N_("Totals and figures"),
    "clearing": N_("Auctions"),
    "settlement": N_("Settlements"),
    "operator": N_("The operator’s tables"),
    "bills": N_("Closed bills"),
    "report": N_("Report and sheets"),
    "contracts": N_("Contracts"),
    "chain": N_("Chain and blocks"),
    "events": N_("Events"),
    "ledger": N_("Ledger of readings"),
    "spending": N_("Public spending"),
    "gas": N_("Gas"),
    "anchor": N_("Publication"),
}
"""The checks of `dao.audit.verify`, in its order."""


def step_words(step: str) -> str:
    """A step of either work."""
    if step in STEPS:
        return _(STEPS[step])
    if step in CHECKS:
        return _("Checking: {name}").format(name=_(CHECKS[step]))
    return _("Beginning")


def share_done(step: str) -> float:
    """How far a step is along, between 0 and 1: steps, not time."""
    for names in (list(STEPS), list(CHECKS)):
        if step in names:
            return (names.index(step) + 0.5) / len(names)
    return 0.02


@dataclass(frozen=True)
class CheckLine:
    """A check's outcome: passed, failed or not checked."""

    name: str
    state: str
    detail: str


@dataclass(frozen=True)
class Verdict:
    """A dossier as it was checked. first: the first thing that differs, None where all holds.
    is_anchored: whether its publication stands on the chain."""

    root: str
    zone: int
    begin: str
    end: str
    lines: tuple[CheckLine, ...]
    first: CheckLine | None
    is_anchored: bool
    is_on_chain: bool


def verdict(result: dict[str, Any]) -> Verdict:
    """What a check told."""
    raw: Sequence[Sequence[str]] = result["checks"]
    lines = tuple(CheckLine(str(n), str(state), str(detail)) for n, state, detail in raw)
    states = {one.name: one.state for one in lines}
    return Verdict(
        root=str(result["root"]),
        zone=int(result["zone"]),
        begin=str(result["from"]),
        end=str(result["to"]),
        lines=lines,
        first=next((one for one in lines if one.state == "failed"), None),
        is_anchored=states.get("anchor") == "passed",
        is_on_chain=states.get("events") == "passed",
    )


def check_name(name: str) -> str:
    """A check's name; one that is not known here as it stands."""
    return _(CHECKS[name]) if name in CHECKS else name


def state_words(state: str) -> tuple[str, str]:
    """A check's outcome in words, and its colour."""
    return {
        "passed": (_("holds"), "good"),
        "failed": (_("does not hold"), "bad"),
    }.get(state, (_("not checked"), "open"))


def headline(one: Verdict) -> tuple[str, str]:
    """What the checks come to, and its colour."""
    if one.first is not None:
        return _("This dossier does not hold."), "bad"
    if not one.is_on_chain:
        return _("The file agrees with itself; no node was asked."), "open"
    if not one.is_anchored:
        return (
            _(
                "Everything holds, but nobody has published this dossier on the chain: the "
                "operator’s own tables could still be anybody’s."
            ),
            "open",
        )
    return _("Everything holds, and it is the dossier that was published on the chain."), "good"
