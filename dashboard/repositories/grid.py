# SPDX-License-Identifier: Apache-2.0
"""A zone's grid as the state folder has it: days with evidence, windows in force, the picture of a
day. No power flow runs here: a child process makes pictures as files.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

from dao.errors import CheckFailed
from dao.index import EventReader
from dao.json_input import loads
from dao.parameters import CHARGE_POINTS, COMMUNITY_BATTERY, HOME_BATTERIES
from dao.processes import end_child, start_child
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY, day_of, first_slot_of_day
from dashboard.repositories.cache import Version, cached, version
from dashboard.repositories.events import Mark, mark_of

log = logging.getLogger("dashboard")

MAX_DAYS = 60
# Of a day and the two before it, three keys with 16 windows each at most; some are opened twice.
MAX_WINDOWS = 600
_KEYS = (COMMUNITY_BATTERY, CHARGE_POINTS, HOME_BATTERIES)
_BEFORE_DAYS = 2
# A window may be voted long before its day.
_VOTED_BEFORE_S = 14 * 24 * 3_600
_KEPT_S = 3_600
_KEPT_PICTURES = 40
_LARGEST_PICTURE = 8_000_000
_PATIENCE_S = 130.0
_AGAIN_S = 60.0
_ROOT = Path(__file__).parents[2]

Row = tuple[int, int, int, int]
"""A window: key, first slot, slots, value."""


@dataclass(frozen=True)
class Day:
    """A UTC day that a forecast's evidence is there for."""

    first_slot: int
    evidence: Path


@dataclass(frozen=True)
class Asked:
    """A picture that was asked for: its file once it is there, or why there is none; with neither
    it is being made."""

    file: Path | None = None
    problem: str | None = None

    @property
    def is_made(self) -> bool:
        """Whether there is something to tell, and nothing to wait for."""
        return self.file is not None or self.problem is not None


def days(home: Path, zone: int) -> tuple[Day, ...]:
    """The days with evidence, the newest first."""
    prefix = f"zone-{zone}-"
    found = []
    with suppress(OSError):
        for path in (home / "evidence").glob(f"{prefix}????-??-??.json"):
            with suppress(ValueError):
                day = date.fromisoformat(path.stem.removeprefix(prefix))
                found.append(Day(first_slot_of_day(day), path))
    return tuple(sorted(found, key=lambda one: -one.first_slot)[:MAX_DAYS])


def windows(index: Path, zone: int, first_slot: int) -> tuple[Row, ...]:
    """The windows of devices that are in force on a day and the two before it."""
    return _windows(index, mark_of(index), zone, first_slot)


@cached(ttl=_KEPT_S, max_entries=32)
def _windows(index: Path, _: Mark, zone: int, first_slot: int) -> tuple[Row, ...]:
    end = first_slot + SLOTS_PER_DAY
    rows = EventReader(index).events(
        "WindowOpened",
        contract="GridParameters",
        match={"zone": zone},
        first_time=first_slot * SLOT_SECONDS - _VOTED_BEFORE_S,
        last_time=end * SLOT_SECONDS,
        limit=MAX_WINDOWS,
        newest_first=True,
    )
    found = [
        tuple(int(row["args"][name]) for name in ("key", "first_slot", "slots", "value"))
        for row in rows
    ]
    begin = first_slot - _BEFORE_DAYS * SLOTS_PER_DAY
    kept = {row for row in found if row[0] in _KEYS and begin <= row[1] < end}
    return tuple(sorted((a, b, c, d) for a, b, c, d in kept))


def revealed(index: Path, zone: int, first_slot: int, evidence: str) -> bool:
    """Whether a forecaster revealed on chain that a day's forecast has this evidence hash."""
    return evidence in _revealed(index, mark_of(index), zone, first_slot)


@cached(ttl=_KEPT_S, max_entries=32)
def _revealed(index: Path, _: Mark, zone: int, first_slot: int) -> frozenset[str]:
    rows = EventReader(index).events(
        "ForecastRevealed",
        contract="ForecastRegistry",
        match={"zone": zone, "first_slot": first_slot},
        limit=50,
    )
    return frozenset(str(row["args"]["evidence_hash"]) for row in rows)


# Pictures


def picture(
    home: Path, zone: int, code: str, seed: int, day: Day, later: Path | None, rows: Sequence[Row]
) -> Asked:
    """The picture of a day, kept as a file under what it is made from. Where it is not there it is
    asked for and being made, one at a time: ask again in a moment."""
    question = {
        "zone": zone,
        "first_slot": day.first_slot,
        "code": code,
        "seed": seed,
        "evidence": str(day.evidence),
        "later": None if later is None else str(later),
        "windows": [list(row) for row in rows],
        "cache": str(home / "cache"),
    }
    sources = [version(path) for path in (day.evidence, later) if path is not None]
    name = sha256(json.dumps([question, sources]).encode()).hexdigest()[:16]
    target = home / "cache" / "grid" / f"{day_of(day.first_slot)}-{name}.json"
    if target.exists():
        problem = _problem(target, version(target))
        return Asked(target) if problem is None else Asked(problem=problem)
    return _MAKER.ask(target, question)


def document(file: Path) -> dict[str, Any]:
    """What a picture's file holds. CheckFailed where it cannot be read."""
    try:
        data = file.read_bytes()
        found = loads(data) if len(data) <= _LARGEST_PICTURE else None
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise CheckFailed("the file of the grid's picture is damaged")
    return found


@cached(ttl=_AGAIN_S, max_entries=64)
def _problem(target: Path, _: Version) -> str | None:
    try:
        found = document(target)
    except CheckFailed as error:
        with suppress(OSError):
            target.unlink()  # it is made again
        return str(error)
    if "error" not in found:
        return None
    _forget(target)
    return str(found["error"])[:300]


def _forget(target: Path) -> None:
    """Let a failure be tried again after a while."""
    with suppress(OSError):
        if time.time() - target.stat().st_mtime > _AGAIN_S:
            target.unlink()


class _Maker:
    """Runs one child at a time; the thread that starts it waits for it, and ends it if it must."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._failed: dict[Path, tuple[float, str]] = {}

    def ask(self, target: Path, question: dict[str, Any]) -> Asked:
        with self._lock:
            failed = self._failed.get(target)
            if failed is not None and time.monotonic() - failed[0] < _AGAIN_S:
                return Asked(problem=failed[1])
            if self._thread is None or not self._thread.is_alive():
                self._failed.pop(target, None)
                self._thread = threading.Thread(
                    target=self._make, args=(target, question), name="grid picture", daemon=True
                )
                self._thread.start()
        return Asked()

    def _make(self, target: Path, question: dict[str, Any]) -> None:
        try:
            problem = _make(target, question)
        except OSError as error:
            problem = f"the folder of the pictures cannot be used: {error.strerror}"
        if problem is not None:
            log.warning("a picture of the grid was not made: %s", problem)
            with self._lock:
                self._failed[target] = (time.monotonic(), problem)
                while len(self._failed) > MAX_DAYS:
                    del self._failed[next(iter(self._failed))]


_MAKER = _Maker()


def _make(target: Path, question: dict[str, Any]) -> str | None:
    """Run the child; what went wrong, if it left nothing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for old in sorted(target.parent.glob("*.json"), key=_age)[_KEPT_PICTURES:]:
        old.unlink(missing_ok=True)
    asked = target.with_suffix(".question")
    asked.write_text(json.dumps(question), encoding="utf-8")
    child = start_child(
        [sys.executable, "-m", "forecasting.balancing.picture", asked, target],
        environment={**_plain(os.environ), "OMP_NUM_THREADS": "1"},
        folder=_ROOT,
    )
    try:
        code = child.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        return "the power flow took too long"
    finally:
        end_child(child)
        asked.unlink(missing_ok=True)
    return None if target.exists() else f"the power flow ended with code {code}"


def _plain(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what is ours in it: the child is told all that it needs, and no password."""
    return {name: one for name, one in environment.items() if not name.startswith("GRIDCOMMONS_")}


def _age(path: Path) -> float:
    try:
        return -path.stat().st_mtime
    except OSError:
        return 0.0
