# SPDX-License-Identifier: Apache-2.0
"""The relay inside a demo: the real HTTP service for people, its posting driven by the clock.

A demo's time jumps, so no thread of the relay's own decides when to post: the clock has it post all
that waits before it moves over a gate.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any, Self

from dao.chain import Account, is_away
from dao.deployment import Deployment
from dao.errors import CheckFailed, GridCommonsError
from dao.processes import LOOPBACK
from dao.relay.posting import Pace
from dao.relay.reader import Relay
from dao.relay.store import RelayStore

PORT = 8550
# What is under way when the clock is about to move over a gate is let finish.
_PATIENCE_S = 5.0
_LOOK_S = 0.01

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]


class Counting:
    """An ASGI app that knows how many requests that change something are under way."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._turn = threading.Lock()
        self.begun = 0
        self._open: set[int] = set()

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope.get("method") != "POST":
            await self._app(scope, receive, send)
            return
        with self._turn:
            self.begun += 1
            number = self.begun
            self._open.add(number)
        try:
            await self._app(scope, receive, send)
        finally:
            with self._turn:
                self._open.discard(number)

    def drain(self) -> None:
        """Wait until all that began before now has ended; not for ever."""
        with self._turn:
            last = self.begun
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            with self._turn:
                if not any(number <= last for number in self._open):
                    return
            time.sleep(_LOOK_S)


class Counter:
    """The relay's service on this machine, as a context manager. `url`: of its API."""

    def __init__(self, deployment: Deployment, zone: int, account: Account) -> None:
        self.pace = Pace()
        self._relay = Relay.of(deployment, RelayStore(), zone, account, self.pace)
        self._faults: tuple[str, ...] = ()
        self.url = ""

    def __enter__(self) -> Self:
        from dao.relay.api import create_app
        from dao.relay.service import http_server, listen

        try:
            listener = listen(LOOPBACK, PORT)
        except CheckFailed:  # another one is there: any port will do
            listener = listen(LOOPBACK, 0)
        self.url = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        self._app = Counting(
            create_app(
                self._relay,
                stopping=lambda: self._server.should_exit,
                faults=lambda: self._faults,
            )
        )
        self._server = http_server(self._app, behind_proxy=True, grace_s=1)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="relay", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        self._thread.join(_PATIENCE_S)
        self._relay.store.close()

    def drain(self) -> None:
        """Wait until what is being taken in has been."""
        self._app.drain()

    def round(self, *, flush: bool = False) -> None:
        """Carry and post what is due, or with flush all that waits. A fault is kept for /v1/health
        and tried again next time; it does not stop the village."""
        from dao.relay.service import run_round

        try:
            self._faults = run_round(self._relay, flush=flush)
        except GridCommonsError as error:
            if is_away(error):
                raise
            self._faults = (f"posting failed: {type(error).__name__}",)
