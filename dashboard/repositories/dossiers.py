# SPDX-License-Identifier: Apache-2.0
"""Dossiers made and checked for visitors: one at a time, each in a process of its own.

Files lie in the state folder's cache, in a folder of this server alone; they go with it, and with
the chain that they tell of. At most `MAX_KEPT` of them are kept, and `MAX_BYTES` of them together.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from dao.audit.scope import Period
from dao.errors import CheckFailed, GridCommonsError
from dao.processes import end_child, start_child
from dashboard.dossier_child import JOB, MAX_FILE
from dashboard.repositories.cache import Version, cached, version
from dashboard.settings import Settings

log = logging.getLogger(__name__)

MAX_KEPT = 5
MAX_BYTES = 512 << 20
MAX_UPLOAD = 64 << 20
"""Bytes of a file that a visitor may bring; a year of 150 homes has 46 MB."""
EXPORT_S, VERIFY_S = 1_200, 600
_JOBS_KEPT = 50
_LINE = 1 << 20
_PAUSE_S = 0.1
_ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Job:
    """One piece of work. state: running, done, or failed. step: what it is at, as it says itself.

    result: what the child told; problem: why it failed, and `is_use` whether because of what it
    was given. begun_at, ended_at: seconds of a clock that only runs forward.
    """

    id: str
    kind: str
    name: str
    period: Period | None = None
    language: str = "en"
    state: str = "running"
    step: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    is_use: bool = False
    begun_at: float = field(default_factory=time.monotonic)
    ended_at: float | None = None

    @property
    def seconds(self) -> int:
        """How long it has taken."""
        return int((self.ended_at or time.monotonic()) - self.begun_at)


@dataclass(frozen=True)
class Ready:
    """A dossier that can be had. name: of its file, and of its address."""

    name: str
    period: Period
    language: str
    root: str
    size: int
    path: Path
    chain: tuple[object, ...]
    by_operator: bool = False


class Busy(Exception):
    """Another piece of work is under way."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.id)
        self.job = job


class Workshop:
    """Makes and checks dossiers under one state folder. Thread-safe."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._running: Job | None = None
        self._ready: dict[str, Ready] = {}
        self._folder: Path | None = None
        self._held: IO[str] | None = None

    # Asking

    def running(self) -> Job | None:
        """What is under way."""
        return self._running

    def job(self, number: str) -> Job | None:
        """A piece of work by its id; of those that ended the last ones are known."""
        return self._jobs.get(number)

    def ready(self, settings: Settings) -> list[Ready]:
        """The dossiers of this chain that can be had: the operator's, then the newest first."""
        chain = chain_of(settings)
        with self._lock:
            made = [
                one
                for one in reversed(self._ready.values())
                if one.chain == chain and one.path.is_file()
            ]
        return [*left_by_operator(settings), *made]

    # Working

    def export(
        self, settings: Settings, period: Period, tariffs: Mapping[str, int], language: str
    ) -> Job:
        """Begin to make a dossier. Busy while something else is under way; CheckFailed where there
        is no chain to ask, or no room."""
        if settings.rpc is None or settings.chain_id is None or settings.deployment is None:
            raise CheckFailed("a dossier needs a node and a deployment, and none is named here")
        name = file_name(period, language)
        with self._lock:
            job = self._begin(Job(secrets.token_hex(8), "export", name, period, language))
        part = self._bench(job) / name
        return self._start(
            job,
            {
                "kind": "export",
                "seconds": EXPORT_S,
                "home": str(settings.home),
                "zone": period.zone,
                "first_slot": period.first_slot,
                "slots": period.slots,
                "rpc": settings.rpc,
                "chain_id": settings.chain_id,
                "addresses": settings.deployment,
                "tariffs": dict(tariffs),
                "language": language,
                "file": str(part),
            },
            part,
            chain_of(settings),
        )

    def verify(self, settings: Settings, name: str, content: bytes | None = None) -> Job:
        """Begin to check a dossier: one that is ready, by name, or a visitor's own file's content.

        Busy while something else is under way; CheckFailed where there is no such file, it is too
        large, or there is no room.
        """
        if content is not None and len(content) > MAX_UPLOAD:
            raise CheckFailed(f"a file of more than {MAX_UPLOAD >> 20} MB is not taken")
        there = None
        if content is None:
            there = next((one for one in self.ready(settings) if one.name == name), None)
        if content is None and there is None:
            raise CheckFailed("there is no such dossier any more")
        with self._lock:
            job = self._begin(Job(secrets.token_hex(8), "verify", name))
        part = self._bench(job) / "dossier.zip"
        try:
            if there is None:
                part.write_bytes(content or b"")
            else:
                # A copy: the file may be cleared away meanwhile, or written anew.
                shutil.copyfile(there.path, part)
        except OSError as error:
            self._end(job, "failed", problem=f"the file cannot be kept: {error.strerror}")
            return job
        return self._start(
            job,
            {
                "kind": "verify",
                "seconds": VERIFY_S,
                "rpc": settings.rpc,
                "chain_id": settings.chain_id,
                "addresses": settings.deployment,
                "file": str(part),
            },
            part,
            chain_of(settings),
        )

    def _begin(self, job: Job) -> Job:
        if self._running is not None:
            raise Busy(self._running)
        try:
            folder = self._own_folder()
            if shutil.disk_usage(folder).free < MAX_FILE:
                raise CheckFailed("there is too little room on this server's disk")
            # Before the work counts as under way: what fails here blocks nobody after it.
            (folder / job.id).mkdir()
        except OSError as error:
            raise CheckFailed(f"a file cannot be kept here: {error.strerror}") from None
        self._running = self._jobs[job.id] = job
        for old in list(self._jobs)[:-_JOBS_KEPT]:
            del self._jobs[old]
        return job

    def _bench(self, job: Job) -> Path:
        """The folder of one piece of work: all of it goes when that ends."""
        return self._own_folder() / job.id

    def _start(self, job: Job, what: dict[str, Any], part: Path, chain: tuple[object, ...]) -> Job:
        # The kernel ends the child with the thread that started it: this one lives as long.
        threading.Thread(
            target=self._work, args=(job, what, part, chain), name="dossier", daemon=True
        ).start()
        return job

    def _work(self, job: Job, what: dict[str, Any], part: Path, chain: tuple[object, ...]) -> None:
        problem, is_use, result = "it broke off; the server's log says more", False, None
        try:
            told = _followed(job, what, part.parent)
            if "done" in told:
                result = told["done"]
                if job.kind == "export":
                    self._keep(job, part, result, chain)
            elif "failed" in told:
                problem, is_use = str(told["failed"]), bool(told["use"])
        except TimeoutError:
            problem = f"it took longer than {what['seconds'] // 60} minutes and was ended"
        except Exception as error:
            log.error("a dossier's process failed", exc_info=error)
        finally:
            shutil.rmtree(part.parent, ignore_errors=True)
            said = problem.replace(str(part), job.name).replace(str(self._home), "")
            if result is None:
                self._end(job, "failed", problem=said, is_use=is_use)
            else:
                self._end(job, "done", result=result)

    def _end(self, job: Job, state: str, **facts: Any) -> None:
        for name, value in facts.items():
            setattr(job, name, value)
        job.ended_at = time.monotonic()
        with self._lock:
            self._running = None
            job.state = state

    # Keeping

    def _keep(
        self, job: Job, part: Path, result: Mapping[str, Any], chain: tuple[object, ...]
    ) -> None:
        assert job.period is not None
        with self._lock:
            path = part.parent.parent / f"{job.id}.zip"
            part.replace(path)
            if (old := self._ready.pop(job.name, None)) is not None:
                old.path.unlink(missing_ok=True)
            self._ready[job.name] = Ready(
                job.name,
                job.period,
                job.language,
                str(result["root"]),
                int(result["bytes"]),
                path,
                chain,
            )
            for name, one in list(self._ready.items())[:-1]:
                total = sum(other.size for other in self._ready.values())
                if one.chain != chain or len(self._ready) > MAX_KEPT or total > MAX_BYTES:
                    one.path.unlink(missing_ok=True)
                    del self._ready[name]

    def _own_folder(self) -> Path:
        """A folder of this server's own, made when it is first wanted; what servers that are gone
        left behind is cleared away."""
        if self._folder is not None:
            return self._folder
        above = self._home / "cache" / "dossiers"
        above.mkdir(parents=True, exist_ok=True)
        for other in above.iterdir():
            if _is_left(other):
                shutil.rmtree(other, ignore_errors=True)
        folder = above / f"{os.getpid()}-{secrets.token_hex(4)}"
        folder.mkdir(mode=0o700)
        held = (folder / "lock").open("w")
        fcntl.flock(held, fcntl.LOCK_EX)
        self._held, self._folder = held, folder
        return folder


def _is_left(folder: Path) -> bool:
    """Whether nobody holds a server's folder any more."""
    try:
        with (folder / "lock").open("r+") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        # Made this moment, or cleared away this moment.
        with contextlib.suppress(OSError):
            return time.time() - folder.stat().st_mtime > 3_600
        return False
    except OSError:
        return False
    return True


def _followed(job: Job, what: dict[str, Any], bench: Path) -> dict[str, Any]:
    """Run a job's process to its end, and what it said last. TimeoutError when its time is up."""
    read, write = os.pipe()
    try:
        process = start_child(
            [sys.executable, "-m", "dashboard.dossier_child"],
            output=write,
            environment={**os.environ, JOB: json.dumps(what), "TMPDIR": str(bench)},
            folder=_ROOT,
        )
    except BaseException:
        os.close(read)
        raise
    finally:
        os.close(write)
    deadline = time.monotonic() + what["seconds"]
    timer = threading.Timer(what["seconds"], end_child, args=(process,))
    timer.daemon = True
    timer.start()
    last: dict[str, Any] = {}
    try:
        with os.fdopen(read, "rb") as lines:
            while line := lines.readline(_LINE):
                with contextlib.suppress(ValueError, AttributeError):
                    told = json.loads(line)
                    if "step" in told:
                        job.step = str(told["step"])
                    elif told.keys() & {"done", "failed"}:
                        last = told
                    continue
                log.warning("a dossier's process says: %s", line[:500].decode(errors="replace"))
        process.wait(timeout=10)
    finally:
        timer.cancel()
        end_child(process)
    if not last and time.monotonic() >= deadline:
        raise TimeoutError
    return last


def left_by_operator(settings: Settings) -> list[Ready]:
    """The dossiers of this chain that lie in the state folder itself, as the demo leaves one."""
    found = []
    for path in sorted(settings.home.glob("dossier-zone-*.zip"))[:MAX_KEPT]:
        one = _of_operator(path, version(path))
        if one is not None and one.chain == (settings.chain_id, _placed(settings.deployment)):
            found.append(one)
    return found


@cached(ttl=3_600, max_entries=2 * MAX_KEPT)
def _of_operator(path: Path, _: Version) -> Ready | None:
    from dao.audit.package import Dossier

    try:
        with Dossier(path) as dossier:
            scope, root = dossier.scope, dossier.root
        size = path.stat().st_size
    except (GridCommonsError, OSError):
        return None
    where = {name: one.address for name, one in scope.contracts.items()}
    chain = (scope.chain_id, _placed(where))
    return Ready(path.name, scope.period, scope.language, root, size, path, chain, True)


def _placed(addresses: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((addresses or {}).items()))


def file_name(period: Period, language: str) -> str:
    """The name of a dossier's file."""
    begin, end = period.days
    return f"dossier-zone-{period.zone}-{begin}-{end}-{language}.zip"


def chain_of(settings: Settings) -> tuple[object, ...]:
    """What another chain, or another run in the same folder, differs in."""
    index = settings.home / "index.sqlite"
    number = index.stat().st_ino if index.exists() else 0
    return (settings.chain_id, _placed(settings.deployment), number)


_workshops: dict[Path, Workshop] = {}
_opening = threading.Lock()


def workshop(home: Path) -> Workshop:
    """The workshop of a state folder: one for the whole server."""
    with _opening:
        return _workshops.setdefault(home, Workshop(home))
