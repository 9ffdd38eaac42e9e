# SPDX-License-Identifier: Apache-2.0
"""An empty Streamlit page, served as the dashboard is: what its pages are measured against."""

from __future__ import annotations

import http.client
import os
import sys
from pathlib import Path
from typing import Self

import dashboard
from dao.processes import LOOPBACK, ChildServer, free_port
from dashboard.serve import server_command


class EmptyServer(ChildServer):
    """The page on a port of its own, as a context manager; the dashboard's Streamlit settings."""

    title = "the empty page"

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def start(self, patience: float = 60.0) -> Self:
        if self.is_running:
            return self
        self.port = free_port()
        folder = Path(dashboard.__file__).resolve().parent
        search = os.pathsep.join([str(folder.parent), os.environ.get("PYTHONPATH", "")])
        self._launch(
            [sys.executable, *server_command("benchmarks.empty.asgi:app", self.port)],
            self._answers,
            patience,
            environment={**os.environ, "PYTHONPATH": search},
            # Whose .streamlit/ holds the settings.
            folder=folder,
        )
        return self

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=2)
        try:
            connection.request("GET", "/_stcore/health")
            return connection.getresponse().status == 200
        finally:
            connection.close()
