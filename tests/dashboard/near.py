# SPDX-License-Identifier: Apache-2.0
"""Some of the dashboard's routes on a port of their own, and a browser's way of asking them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import requests
import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from dao.processes import free_port


@contextmanager
def serving(routes: Callable[[], list[BaseRoute]]) -> Iterator[str]:
    """Serve what `routes` gives, asked anew for each request; yields the address."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            inner = Starlette(routes=routes())
            await inner(scope, receive, send)

    port = free_port()
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(timeout=10)


class Browser:
    """Keeps cookies and says which page it sends from, as browsers do."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()

    def post(self, path: str, body: Any, **headers: str) -> requests.Response:
        sent = {"Origin": self.url, "Sec-Fetch-Site": "same-origin", **headers}
        return self.session.post(f"{self.url}{path}", json=body, headers=sent, timeout=20)
