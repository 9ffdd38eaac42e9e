# SPDX-License-Identifier: Apache-2.0
"""The dashboard's server as a child process: started here, ended here, on this machine only."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO

from dao.errors import BadUse, CheckFailed
from dao.paths import home
from dao.processes import LOOPBACK, end_child, port_is_free, start_child

FIRST_PORT = 8501
# After this many taken ports in a row something else is wrong.
_PORTS_TRIED = 20


class DashboardServer:
    """Streamlit on the loopback address, as a context manager.

    Takes `port`, or when it is taken the next free one (`port` then differs from `wanted_port`;
    `notice` says so in a sentence). State is read from the folder that `dao.paths.home()` names
    now.
    """

    def __init__(self, port: int = FIRST_PORT) -> None:
        if not 1 <= port <= 65_535:
            raise BadUse(f"port {port} does not exist; ports are 1 to 65535")
        self.wanted_port = port
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://localhost:{self.port}"

    @property
    def notice(self) -> str | None:
        """What to tell when the page is not where one expects it."""
        if self.port == self.wanted_port:
            return None
        return f"Port {self.wanted_port} is taken; the dashboard is at {self.url} instead."

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self.is_running else None

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self, patience: float = 60.0) -> DashboardServer:
        """Start the server and wait until it answers. Does nothing while it runs.

        Raises CheckFailed when no port is free or nothing answers within `patience` seconds.
        """
        if self.is_running:
            return self
        if importlib.util.find_spec("streamlit") is None:
            raise BadUse("the dashboard's packages are not installed; run `make setup`")
        self.port = self._free_port()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop
        folder = Path(__file__).resolve().parent
        command = [sys.executable, "-m", "streamlit", "run", str(folder / "app.py")]
        command += ["--server.address", LOOPBACK, "--server.port", str(self.port)]
        environment = {
            **os.environ,
            "GRIDCOMMONS_HOME": str(home()),
            # Importable from any checkout, installed or not.
            "PYTHONPATH": os.pathsep.join([str(folder.parent), os.environ.get("PYTHONPATH", "")]),
        }
        # Its settings are found in .streamlit/ of the working folder.
        self._process = start_child(
            command, output=self._log, environment=environment, folder=folder
        )
        try:
            self._wait(patience)
        except BaseException:
            self.stop()
            raise
        return self

    def wait(self) -> None:
        """Block until the server ends, however that comes about."""
        if self._process is not None:
            self._process.wait()

    def stop(self) -> None:
        """End the server and give its port back. Safe to call twice, or before the start."""
        if self._process is not None:
            end_child(self._process)
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def __enter__(self) -> DashboardServer:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _free_port(self) -> int:
        last = min(self.wanted_port + _PORTS_TRIED, 65_536)
        for port in range(self.wanted_port, last):
            if port_is_free(port):
                return port
        raise CheckFailed(
            f"ports {self.wanted_port} to {last - 1} are all taken; name a free one for the "
            "dashboard"
        )

    def _wait(self, patience: float) -> None:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if not self.is_running:
                raise CheckFailed(f"the dashboard ended at once: {self._last_words()}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=2)
                try:
                    connection.request("GET", "/_stcore/health")
                    if connection.getresponse().status == 200:
                        return
                finally:
                    connection.close()
            time.sleep(0.1)
        raise CheckFailed(f"the dashboard at {self.url} did not answer within {patience:.0f} s")

    def _last_words(self) -> str:
        if self._log is None:
            return "no output"
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "no output"
