# SPDX-License-Identifier: Apache-2.0
"""The running relay: the API's server, and beside it the thread that keeps the promises.

What is served is `api`'s, what is posted when `posting`'s. Ends on SIGINT and SIGTERM, with the
batch that is under way done and no other begun.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING

from dao.errors import BadUse, CheckFailed, GridCommonsError
from dao.relay.carrying import carry
from dao.relay.posting import follow_clearing, post_due
from dao.relay.reader import Relay

if TYPE_CHECKING:
    from starlette.types import ASGIApp
    from uvicorn import Server

log = logging.getLogger("gridcommons.relay")

# How often is looked for what is due, in seconds. A public chain has a block every few seconds.
TICK_LOCAL = 1.0
TICK_PUBLIC = 5.0
_AFTER_A_FAULT_S = 30.0
# A batch under way may have to be mined; what is then not known is read from the chain next time.
_END_PATIENCE_S = 30.0
_OPEN_FEEDS_S = 3
_MOST_CONNECTIONS = 256


class Poster(threading.Thread):
    """Posts what is due until `end` is called. A round that fails is told and tried again."""

    def __init__(self, relay: Relay) -> None:
        super().__init__(name="posting", daemon=True)
        self._relay = relay
        self._ending = threading.Event()
        self._faults: tuple[str, ...] = ()

    def faults(self) -> tuple[str, ...]:
        """What went wrong in the latest round; nothing that must stay in the house."""
        return self._faults if self.is_alive() else ("the posting thread does not run",)

    def end(self) -> None:
        """Begin no further round, and wait for the one under way."""
        self._ending.set()
        if self.is_alive():
            self.join(_END_PATIENCE_S)

    def run(self) -> None:
        """The rounds, one after the other."""
        local = self._relay.chain.is_local
        flushed = time.monotonic()
        while True:
            # A local chain's clock may stand still: there the interval is counted on ours.
            flush = local and time.monotonic() >= flushed + self._relay.pace.interval
            if flush:
                flushed = time.monotonic()
            try:
                self._faults = self._round(flush)
            except GridCommonsError as error:
                # The text may name the node's address, with a key in it: it goes to the log only.
                log.error("%s", error)
                self._faults = ("posting failed: the chain cannot be read or written",)
            except Exception:
                # A defect must not end the posting of everything that was promised.
                log.exception("posting failed")
                self._faults = ("posting failed: see the log",)
            pause = TICK_LOCAL if local else TICK_PUBLIC
            if self._faults:  # not again at once: the cause may last
                pause = min(self._relay.pace.interval, _AFTER_A_FAULT_S)
            if self._ending.wait(pause):
                return

    def _round(self, flush: bool) -> tuple[str, ...]:
        return run_round(self._relay, flush=flush)


def run_round(relay: Relay, *, flush: bool = False) -> tuple[str, ...]:
    """Carry and post what is due, once; returns what went wrong. flush: what waits, due or not.

    Revocations go before orders, everything else after them. Raises CheckFailed for an unreachable
    node.
    """
    now = relay.chain.now()
    stopped = carry(relay, now, urgent=True)
    report = post_due(
        relay.store,
        relay.market,
        relay.account,
        relay.zone,
        now,
        relay.pace,
        flush=flush,
        first_block=relay.first_block,
    )
    carried = carry(relay, now, urgent=False, flush=flush)
    follow_clearing(relay.store, relay.market, relay.zone, now)
    errors = (*stopped.errors, *report.errors, *carried.errors)
    for error in errors:
        log.error("not sent: %s", error)
    if report.late:
        log.error("%d orders were not posted before the gate", report.late)
    return errors


def listen(host: str, port: int, option: str = "--port") -> socket.socket:
    """A socket that listens. BadUse for an address that is none here, CheckFailed where it is
    taken or not allowed. option: the one that names another."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        named = "--host" if option == "--port" else option
        raise BadUse(f"{named} {host}: not an address of this machine ({error})") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise CheckFailed(
            f"cannot listen on {host} port {port}: {error.strerror}; name another with {option}"
        ) from None
    return listener


def http_server(app: ASGIApp, *, behind_proxy: bool, grace_s: int = _OPEN_FEEDS_S) -> Server:
    """uvicorn as the relay runs it. behind_proxy: see `serve`; grace_s: how long open feeds may
    take to end."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        proxy_headers=behind_proxy,
        forwarded_allow_ips="127.0.0.1",
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=grace_s,
    )
    return uvicorn.Server(config)


def serve(relay: Relay, listener: socket.socket, *, behind_proxy: bool = False) -> None:
    """Serve and post until SIGINT or SIGTERM.

    behind_proxy: believe the X-Forwarded-For of a proxy on this machine, so that its clients are
    told apart.
    """
    from dao.relay.api import create_app

    poster = Poster(relay)
    app = create_app(relay, stopping=lambda: server.should_exit, faults=poster.faults)
    server = http_server(app, behind_proxy=behind_proxy)

    def end(_: int, __: FrameType | None) -> None:
        server.should_exit = True

    # uvicorn sets handlers of its own while it runs, and raises the signal again when it is done.
    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    poster.start()
    try:
        server.run(sockets=[listener])
    finally:
        poster.end()
        for number, handler in before.items():
            signal.signal(number, handler)
