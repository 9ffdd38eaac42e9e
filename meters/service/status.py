# SPDX-License-Identifier: Apache-2.0
"""How the service is, as one document: for people, for `gridcommons status`, and for Prometheus.

Everything is at hand when it is asked for: what the writer and the chain know is looked up in the
background. No value of a reading is in it, and no meter's number but for the operator.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dao.slots import SLOT_SECONDS, slot_start
from meters.collector import Collector
from meters.lake import MIN_HOMES
from meters.service.committer import Committer
from meters.service.intake import Intake
from meters.service.mqtt import MqttSide
from meters.service.writer import Writer

DISK_LOW = 1 << 30
DISK_FULL = 64 << 20
LATE_S = 3_600
"""A batch that has been due for so long is a problem."""
SILENT_S = {"1h": 3_600, "6h": 21_600, "24h": 86_400}
_MQTT_AWAY_S = 60
_WRITER_SILENT_S = 300
_MOST_SILENT = 10_000


@dataclass(frozen=True)
class Facts:
    """What the writer found out about inbox and disk; `at` in steady seconds."""

    at: float
    waiting: int = 0
    late: int = 0
    gaps: int = 0
    forks: int = 0
    broken: int = 0
    inbox_bytes: int = 0
    disk_free: int = 0
    disk_problem: str | None = None


def look(collector: Collector, steady: Callable[[], float] = time.monotonic) -> Facts:
    """Count what the inbox holds and try the disk; in the writer's thread."""
    path = collector.inbox.path
    tallies = collector.inbox.tallies()
    size = sum(part.stat().st_size for part in _files(path))
    try:
        free = shutil.disk_usage(path.parent).free
        _try_to_write(path.with_name(path.name + ".probe"))
        problem = "the disk is full" if free < DISK_FULL else None
    except OSError as error:
        free, problem = 0, f"the disk cannot be written: {error.strerror}"
    return Facts(
        at=steady(),
        waiting=collector.waiting(),
        late=tallies["late"],
        gaps=tallies["gaps"],
        forks=tallies["sequence"],
        broken=tallies["previous"],
        inbox_bytes=size,
        disk_free=free,
        disk_problem=problem,
    )


@dataclass(frozen=True)
class Silence:
    """How many meters there are, were not heard since the start, and are silent for how long."""

    registered: int
    not_heard: int
    silent: dict[str, int]


@dataclass(frozen=True)
class Told:
    """The document; what keeps readings from being durable; who is silent, for the operator."""

    document: dict[str, Any]
    durability: list[str]
    silent: Callable[[], list[dict[str, int]]]


@dataclass
class Status:
    """Puts the document together. Belongs to the event loop; `facts` is set from outside."""

    zone: int
    chain_id: int
    ledger: str
    collector: str
    writer: Writer
    committer: Committer
    intake: Intake
    meters: Callable[[], list[int]]
    mqtt: MqttSide | None = None
    steady: Callable[[], float] = time.monotonic
    facts: Facts = field(default_factory=lambda: Facts(time.monotonic()))
    silence: Silence = field(default_factory=lambda: Silence(0, 0, dict.fromkeys(SILENT_S, 0)))
    reports: int = 0
    ending: bool = False

    def survey(self) -> None:
        """Count who is silent; may take a moment, and any thread may call it."""
        meters, heard = self.meters(), self.intake.heard
        silent = {name: len(heard.silent(meters, s)) for name, s in SILENT_S.items()}
        self.silence = Silence(len(meters), heard.never(meters), silent)

    def told(self) -> Told:
        """How everything is at this moment."""
        durability = self._durability()
        problems: list[str] = []
        warnings: list[str] = []
        document: dict[str, Any] = {
            "zone": self.zone,
            "chain_id": self.chain_id,
            "ledger_address": self.ledger,
            "collector": self.collector,
            "running_s": round(self.steady() - self.intake.heard.begun),
            "node": {"ok": not self.committer.standing.is_away},
            "ledger": self._ledger(problems),
            "inbox": self._inbox(warnings),
            "meters": self._meters(warnings),
            "traffic": self._traffic(),
            "mqtt": self._mqtt(problems),
            "dispatch_reports": self.reports,
        }
        if self.silence.registered < MIN_HOMES:
            meters = f"{self.silence.registered} meters"
            warnings.append(f"the zone has {meters}: the ledger takes {MIN_HOMES} or more")
        document = {
            "ok": not (durability or problems),
            "problems": [*durability, *problems],
            "warnings": warnings,
            **document,
        }
        self._measure(document)
        return Told(document, durability, self._silent)

    def _durability(self) -> list[str]:
        """Why what is acknowledged now might not be on disk; nothing in the usual case."""
        found = []
        if self.ending:
            found.append("the service is ending")
        elif not self.writer.is_alive:
            found.append("the writer does not run")
        elif self.steady() - self.facts.at > _WRITER_SILENT_S:
            found.append("the writer does not answer")
        if self.writer.fault is not None:
            found.append("the inbox cannot be written")
        if self.facts.disk_problem is not None:
            found.append(self.facts.disk_problem)
        return found

    def _ledger(self, problems: list[str]) -> dict[str, Any]:
        standing, terms = self.committer.standing, self.committer.terms
        late = standing.late_s(terms) if self.committer.commits else 0
        due = standing.due_at(terms)
        if standing.problem is not None:
            problems.append(standing.problem)
        if not self.committer.is_alive() and not self.ending:
            problems.append("the thread that commits does not run")
        if late > LATE_S:
            problems.append(f"a batch has been due for {late // 60} minutes")
        return {
            "chain_time": standing.now,
            "commits": self.committer.commits,
            "until_slot": standing.until,
            "until": _utc(standing.until) if standing.until else None,
            "last_commit": standing.last_commit,
            "uncommitted": standing.uncommitted,
            "next_slot": standing.next_slot,
            "next_slots": standing.next_slots,
            "due_at": due,
            "late_s": late,
            "waits_for": standing.waits_for,
            "corrections_due": len(standing.corrections),
            "quality": dict(standing.quality),
        }

    def _inbox(self, warnings: list[str]) -> dict[str, Any]:
        facts = self.facts
        if facts.disk_problem is None and 0 < facts.disk_free < DISK_LOW:
            warnings.append(f"{facts.disk_free >> 20} MiB are left on the disk")
        return {
            "waiting": facts.waiting,
            "late": facts.late,
            "bytes": facts.inbox_bytes,
            "disk_free_bytes": facts.disk_free,
        }

    def _meters(self, warnings: list[str]) -> dict[str, Any]:
        facts, silence = self.facts, self.silence
        if facts.forks:
            warnings.append(f"{facts.forks} readings contradict others: two stories of one device")
        if facts.broken:
            warnings.append(f"{facts.broken} readings do not follow the one before")
        return {
            "registered": silence.registered,
            "not_heard": silence.not_heard,
            "silent": silence.silent,
            "with_gaps": facts.gaps,
            "forks": facts.forks,
            "broken_links": facts.broken,
        }

    def _traffic(self) -> dict[str, Any]:
        metrics, depth = self.intake.metrics, self.writer.depth()
        since = metrics.seconds_since_reading()
        return {
            "accepted": metrics.accepted,
            "duplicates": metrics.duplicates,
            "late": metrics.late,
            "rejected": dict(metrics.rejected),
            "turned_away": dict(metrics.busy),
            "malformed": metrics.malformed,
            "queued_frames": depth.frames,
            "queued_readings": depth.readings,
            "seconds_since_reading": None if since is None else round(since),
        }

    def _mqtt(self, problems: list[str]) -> dict[str, Any] | None:
        side = self.mqtt
        if side is None:
            return None
        seconds = self.steady() - side.changed
        if not side.is_connected and seconds > _MQTT_AWAY_S:
            problems.append("the MQTT broker does not answer")
        return {
            "broker": repr(side.broker),
            "connected": side.is_connected,
            "for_s": round(seconds),
            "reconnects": side.reconnects,
        }

    def _silent(self) -> list[dict[str, int]]:
        """The meters not heard for an hour, for as long as is known."""
        heard = self.intake.heard
        silent = heard.silent(self.meters(), SILENT_S["1h"])[:_MOST_SILENT]
        return [{"meter": meter, "seconds": heard.seconds(meter)} for meter in silent]

    def _measure(self, document: dict[str, Any]) -> None:
        put, ledger = self.intake.metrics.set, document["ledger"]
        quality, until = ledger["quality"], ledger["until_slot"]
        traffic, meters = document["traffic"], document["meters"]
        put("queue_frames", traffic["queued_frames"], "Frames that wait for the writer.")
        put("queue_readings", traffic["queued_readings"], "Readings that wait for the writer.")
        now = ledger["chain_time"]
        age = now - until * SLOT_SECONDS if until and now else None
        put("batch_age_seconds", age, "Since the end of the last committed slot, chain time.")
        put("batch_late_seconds", ledger["late_s"], "For how long a batch has been due.")
        put("last_commit_timestamp_seconds", ledger["last_commit"], "Chain time of the last one.")
        put("estimated_share", quality.get("estimated"), "Of the rows of the last batch.")
        put("missing_share", quality.get("missing"), "Of the rows of the last batch.")
        put("meters", meters["registered"], "Meters of the zone.")
        put("meters_with_gaps", meters["with_gaps"], "Meters some of whose readings never came.")
        put("forks", meters["forks"], "Readings kept that contradict another one.")
        put("broken_links", meters["broken_links"], "Readings kept that do not follow another.")
        for name, count in meters["silent"].items():
            put(f"meters_silent_{name}", count, f"Meters not heard for {name}.")
        put("inbox_readings", self.facts.waiting, "Readings not committed yet.")
        put("disk_free_bytes", self.facts.disk_free, "Where the inbox lies.")
        put("node_up", float(document["node"]["ok"]), "Whether the node answers.")
        connected = document["mqtt"] and float(document["mqtt"]["connected"])
        put("mqtt_up", connected, "Whether the broker is connected.")


def _utc(slot: int) -> str:
    return slot_start(slot).strftime("%Y-%m-%dT%H:%M:%SZ")


def _files(path: Path) -> list[Path]:
    beside = (path, path.with_name(path.name + "-wal"))
    return [part for part in beside if part.exists()]


def _try_to_write(path: Path) -> None:
    with path.open("wb") as out:
        out.write(bytes(4_096))
        out.flush()
        os.fsync(out.fileno())
    path.unlink()
