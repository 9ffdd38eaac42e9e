# SPDX-License-Identifier: Apache-2.0
"""Child processes that never outlive the program: the node and the dashboard's server.

What lives here: starting a child bound to its parent's life, ending it, and looking for a free
port. What the child is and when it is ready is known by whoever starts it.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from dao.errors import CheckFailed

_PR_SET_PDEATHSIG = 1
LOOPBACK = "127.0.0.1"
_PAUSE = 0.02


def _tie_to_parent(parent: int) -> Callable[[], None] | None:
    """What the child runs before its program: ask the kernel to kill it when `parent` dies.

    Covers the one case no handler can: SIGKILL of the parent. Linux only; elsewhere None.
    """
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)  # loaded before the fork: the child only calls it

    def tie() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died between fork and prctl
            os._exit(1)

    return tie


def start_child(
    command: Sequence[str | Path],
    *,
    output: IO[bytes] | int = subprocess.DEVNULL,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own, dying with this process at the latest.

    The own session keeps a Ctrl-C in the terminal from reaching the child before we end it.
    Start from a thread that lives as long as the child should: the kernel ties the child to it.
    """
    return subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output != subprocess.DEVNULL else subprocess.DEVNULL,
        env=None if environment is None else dict(environment),
        cwd=folder,
        start_new_session=True,
        preexec_fn=_tie_to_parent(os.getpid()),
    )


def end_child(process: subprocess.Popen[bytes], patience: float = 5.0) -> None:
    """End a child and its group: first politely, after `patience` seconds by force. Idempotent."""
    if process.poll() is not None:
        return
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=patience)
            return


class ChildServer(ABC):
    """A server as a child process: running inside the `with`, gone after it.

    What is started, and how it shows that it is ready, is the subclass's. `title` names the server
    in messages; `url` says where it answers.
    """

    title: str

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it answers."""

    @abstractmethod
    def start(self, patience: float = 60.0) -> Self:
        """Start it and wait until it answers. Does nothing while it runs."""

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self.is_running else None

    def stop(self) -> None:
        """End the process and give its port back. Safe to call twice, or before the start."""
        if self._process is not None:
            end_child(self._process)
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _launch(
        self,
        command: Sequence[str | Path],
        answers: Callable[[], bool],
        patience: float,
        *,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        """Start `command` and wait until `answers` is true; it may raise while nothing listens.

        Raises CheckFailed, with the last line it wrote, when it ends or stays silent, and leaves no
        process behind.
        """
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop
        self._process = start_child(
            command, output=self._log, environment=environment, folder=folder
        )
        deadline = time.monotonic() + patience
        try:
            while time.monotonic() < deadline:
                if not self.is_running:
                    raise CheckFailed(f"{self.title} ended at once: {self._last_words()}")
                with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                    if answers():
                        return
                time.sleep(_PAUSE)
            raise CheckFailed(f"{self.title} at {self.url} did not answer within {patience:.0f} s")
        except BaseException:
            self.stop()
            raise

    def _last_words(self) -> str:
        if self._log is None:
            return "no output"
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "no output"


def port_is_free(port: int) -> bool:
    """Whether nothing listens on this port of the loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that was free a moment ago, chosen by the kernel."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
