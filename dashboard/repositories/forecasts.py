# SPDX-License-Identifier: Apache-2.0
"""Forecasts as they were revealed on the chain, their scores and bonds, and plans that lie beside
it. Each question is capped and kept until its source changes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dao.errors import CheckFailed
from dao.index import EventReader
from dao.json_input import is_too_deep
from dao.node import Node
from dao.paths import plan_path
from dao.slots import SLOTS_PER_DAY
from dashboard.repositories.cache import Version, cached, version
from dashboard.repositories.events import Mark, mark_of
from dashboard.services.promise import RECORD_DAYS, Day, Record, skill_of
from dashboard.settings import Settings

REGISTRY = "ForecastRegistry"
MAX_PLAN = 4 << 20
MAX_DAYS = 60
_KEPT_S = 3_600.0


@dataclass(frozen=True)
class Revealed:
    """A day's forecast on the chain. quantiles: (3, 96) Wh, rows q10, q50, q90."""

    forecaster: str
    zone: int
    first_slot: int
    evidence: str
    quantiles: np.ndarray
    at: int


def revealed(settings: Settings, zone: int, first_slot: int) -> tuple[Revealed, ...]:
    """The forecasts of a zone's day, the first revealed first."""
    index = settings.home / "index.sqlite"
    return _revealed(index, mark_of(index), zone, first_slot)


@cached(ttl=_KEPT_S, max_entries=64)
def _revealed(index: Path, _: Mark, zone: int, first_slot: int) -> tuple[Revealed, ...]:
    rows = EventReader(index).events(
        "ForecastRevealed",
        contract=REGISTRY,
        match={"zone": zone, "first_slot": first_slot},
        limit=16,
    )
    return tuple(
        Revealed(
            str(row["args"]["forecaster"]),
            zone,
            first_slot,
            str(row["args"]["evidence_hash"]),
            _unpacked(row["args"]["words"]),
            int(row["timestamp"]),
        )
        for row in rows
    )


def _unpacked(words: Sequence[int]) -> np.ndarray:
    """As `dao.forecasts.unpack_quantiles`, from the words of two quarter-hours each."""
    raw = b"".join(int(one).to_bytes(32, "big")[8:] for one in words)
    # Each word holds two times q90, q50, q10 from its upper end, the later quarter-hour first.
    table = np.frombuffer(raw, dtype=">i4").reshape(SLOTS_PER_DAY // 2, 2, 3)[:, ::-1, ::-1]
    return table.reshape(SLOTS_PER_DAY, 3).T.astype(np.int64)


def record_of(settings: Settings, forecaster: str, zone: int, now_slot: int) -> Record:
    """What a forecaster has shown over the last four weeks."""
    index = settings.home / "index.sqlite"
    first = now_slot - (RECORD_DAYS + 1) * SLOTS_PER_DAY
    days, slashed, rewarded = _shown(index, mark_of(index), forecaster, zone)
    recent = tuple(one for one in days if one.first_slot >= first)
    bond = None
    contract = (settings.deployment or {}).get(REGISTRY)
    if settings.rpc is not None and contract is not None:
        bond = _bond(settings.rpc, contract, forecaster)
    return Record(forecaster, recent, skill_of(recent), bond, slashed, rewarded)


@cached(ttl=_KEPT_S, max_entries=32)
def _shown(index: Path, _: Mark, forecaster: str, zone: int) -> tuple[tuple[Day, ...], int, int]:
    reader = EventReader(index)

    def events(name: str) -> list[dict[str, Any]]:
        return [
            one["args"]
            for one in reader.events(
                name,
                contract=REGISTRY,
                match={"forecaster": forecaster, "zone": zone},
                limit=MAX_DAYS,
                newest_first=True,
            )
        ]

    days = [
        Day(int(a["first_slot"]), int(a["loss"]), int(a["naive_loss"]))
        for a in events("ForecastScored")
    ]
    days += [Day(int(a["first_slot"]), None, None, missed=True) for a in events("ForecastMissed")]
    days.sort(key=lambda one: -one.first_slot)
    slashed = sum(int(a["amount"]) for a in events("BondSlashed"))
    rewarded = sum(int(a["amount"]) for a in events("BondRewarded"))
    return tuple(days), slashed, rewarded


@cached(ttl=30.0, max_entries=64)
def _bond(rpc: str, contract: str, forecaster: str) -> int | None:
    try:
        node = Node(rpc, patience_s=5.0)
        return node.view(contract, "bond_of(address)", int(forecaster, 16))[0]
    except CheckFailed:
        return None


def plan_of(settings: Settings, proposal: int) -> Any:
    """The balancing plan that lies beside a proposal, as JSON; None where there is none."""
    path = settings.home / "plans" / plan_path(proposal).name
    return _plan(path, version(path))


@cached(ttl=_KEPT_S, max_entries=32)
def _plan(path: Path, mark: Version) -> Any:
    if not mark or mark[0][1] > MAX_PLAN:
        return None
    try:
        text = path.read_text("utf-8")
        return None if is_too_deep(text) else json.loads(text)
    except (OSError, ValueError, RecursionError):
        return None
