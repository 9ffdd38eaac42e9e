# SPDX-License-Identifier: Apache-2.0
"""The dashboard's server as a child process: started here, ended here, on this machine only."""

from __future__ import annotations

import http.client
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from dao.errors import BadUse, CheckFailed
from dao.paths import home
from dao.processes import LOOPBACK, ChildServer, port_is_free

FIRST_PORT = 8501
# After this many taken ports in a row something else is wrong.
_PORTS_TRIED = 20
MAX_MESSAGE = 1 << 20
"""Bytes of the largest message that a browser may send."""


def server_command(app: str, port: int) -> list[str]:
    """What Python is given to serve an ASGI app on this machine's `port`."""
    return [
        "-m",
        "uvicorn",
        app,
        *("--host", LOOPBACK),
        *("--port", str(port)),
        # What a browser sends is clicks and signatures; files go another way.
        *("--ws-max-size", str(MAX_MESSAGE)),
        *("--timeout-graceful-shutdown", "3"),
        "--no-access-log",
        *("--log-level", "warning"),
    ]


class DashboardServer(ChildServer):
    """The dashboard on the loopback address, as a context manager.

    Takes `port`, or when it is taken the next free one (`port` then differs from `wanted_port`;
    `notice` says so in a sentence). State is read from the folder that `dao.paths.home()` names
    now.
    """

    title = "the dashboard"

    def __init__(self, port: int = FIRST_PORT, given: Mapping[str, str] | None = None) -> None:
        """given: further variables of the server's environment, as `dashboard.settings` names
        them."""
        super().__init__()
        if not 1 <= port <= 65_535:
            raise BadUse(f"port {port} does not exist; ports are 1 to 65535")
        self.wanted_port = port
        self.port = port
        self._given = dict(given or {})

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

    def start(self, patience: float = 60.0) -> Self:
        """Start the server and wait until it answers. Does nothing while it runs.

        Raises CheckFailed when no port is free or nothing answers within `patience` seconds.
        """
        if self.is_running:
            return self
        if importlib.util.find_spec("streamlit") is None:
            raise BadUse("the dashboard's packages are not installed; run `make setup`")
        self.port = self._free_port()
        folder = Path(__file__).resolve().parent
        command = [sys.executable, *server_command("dashboard.asgi:app", self.port)]
        environment = {
            **os.environ,
            "GRIDCOMMONS_HOME": str(home()),
            # Importable from any checkout, installed or not.
            "PYTHONPATH": os.pathsep.join([str(folder.parent), os.environ.get("PYTHONPATH", "")]),
            **self._given,
        }
        # Streamlit's settings are found in .streamlit/ beside app.py.
        self._launch(command, self._answers, patience, environment=environment, folder=folder)
        return self

    def wait(self) -> None:
        """Block until the server ends, however that comes about."""
        if self._process is not None:
            self._process.wait()

    def _free_port(self) -> int:
        last = min(self.wanted_port + _PORTS_TRIED, 65_536)
        for port in range(self.wanted_port, last):
            if port_is_free(port):
                return port
        raise CheckFailed(
            f"ports {self.wanted_port} to {last - 1} are all taken; name a free one for the "
            "dashboard"
        )

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=2)
        try:
            connection.request("GET", "/_stcore/health")
            return connection.getresponse().status == 200
        finally:
            connection.close()
