# SPDX-License-Identifier: Apache-2.0
"""The running collector: writer, committer, HTTP and MQTT in one process, and how they end.

On SIGINT and SIGTERM nothing more is taken in, what was taken is written and acknowledged, the step
on the chain that is under way is finished, and the process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from dao.chain import Account, Chain, LocalAccount
from dao.deployment import Deployment
from dao.errors import CheckFailed, GridCommonsError
from dao.node import Node
from meters.acknowledgements import Acknowledgement, acknowledgement_separator
from meters.broker import EmbeddedBroker
from meters.collector import Collector
from meters.lake import LakeLike
from meters.registry import KeyPeriods
from meters.secrets import SecretStore
from meters.service.committer import Committer, Terms
from meters.service.dispatches import Dispatches
from meters.service.http import Service, create_app
from meters.service.intake import Intake, Limits
from meters.service.metrics import Metrics
from meters.service.mqtt import Broker, MqttSide
from meters.service.status import Status, look
from meters.service.writer import Room, Writer
from meters.signing import Head, reading_separator
from meters.vee.edit import Editor

log = logging.getLogger("gridcommons.collector")

_MOST_CONNECTIONS = 1_024
_DRAIN_S = 10
_LOOK_S = 10.0
_LOOK_SHARE = 50
"""Counting takes a fiftieth of the writer's time at most."""
_POLL_LOCAL_S = 1.0
_POLL_PUBLIC_S = 15.0
_LONGEST_PAUSE_LOCAL_S = 5.0


@dataclass(frozen=True)
class Places:
    """Where the state lies."""

    lake: LakeLike
    inbox: Path
    secrets: Path
    dispatches: Path


@dataclass(frozen=True)
class Options:
    """How the service runs. commits: whether batches go to the ledger. token: the operator's.
    embedded: where to run a broker inside, host and port. restore: first build a lost inbox again
    from the lake."""

    zone: int
    places: Places
    terms: Terms
    commits: bool = True
    broker: Broker | None = None
    embedded: tuple[str, int] | None = None
    token: str = ""
    limits: Limits | None = None
    room: Room | None = None
    behind_proxy: bool = False
    restore: bool = False


def check_office(deployment: Deployment, zone: int, account: Account) -> None:
    """CheckFailed unless the account is the zone's collector: gateways would believe no answer."""
    office = str(deployment["ReadingLedger"].call("collectors", zone))
    if not int(office, 16):
        raise CheckFailed(f"zone {zone} has no collector: the ledger's owner appoints one")
    if office.lower() != account.address.lower():
        raise CheckFailed(
            f"{account.address} is not the collector of zone {zone}: that is {office}; choose its "
            "account with --account"
        )


def signer_of(
    account: Account, chain_id: int, ledger: str
) -> Callable[[Acknowledgement], Acknowledgement]:
    """How acknowledgements are signed. What it gives raises CheckFailed where the account does
    not sign by itself."""
    if isinstance(account, LocalAccount):
        key, separator = account.key, acknowledgement_separator(chain_id, ledger)
        return lambda made: made.signed(key, separator)

    def sign(made: Acknowledgement) -> Acknowledgement:
        return replace(made, signature=account.sign_typed(made.typed_data(chain_id, ledger)))

    return sign


def chain_clock(chain: Chain) -> Callable[[], float]:
    """Unix seconds as the chain counts them: a local one's time is simulated and asked for, and
    the last known while the node is away; a public one's is everybody's."""
    if not chain.is_local:
        return time.time
    node = Node(chain.url)
    last = float(chain.now())

    def now() -> float:
        nonlocal last
        with contextlib.suppress(GridCommonsError):
            last = float(node.now())
        return last

    return now


class CollectorService:
    """One zone's collector between `run` and its end."""

    def __init__(self, deployment: Deployment, account: Account, options: Options) -> None:
        chain, zone = deployment.chain, options.zone
        registry, ledger = deployment["MeterRegistry"], deployment["ReadingLedger"]
        check_office(deployment, zone, account)
        self.options = options
        self.keys = KeyPeriods.read(registry, zone, deployment.first_block)
        self._separator = reading_separator(chain.chain_id, registry.address)
        self._clock = chain_clock(chain)
        self._dispatches: Dispatches | None = None
        self.secrets = SecretStore(options.places.secrets)
        self.writer = Writer(self._open, options.room)
        self.metrics = Metrics()
        sign = signer_of(account, chain.chain_id, ledger.address)
        local = chain.is_local
        self.committer = Committer(
            self.writer,
            self.keys,
            ledger,
            account if options.commits else None,
            zone,
            options.places.lake,
            self.metrics,
            terms=options.terms,
            now=chain.now,
            poll=_POLL_LOCAL_S if local else _POLL_PUBLIC_S,
            longest_pause=_LONGEST_PAUSE_LOCAL_S if local else 300.0,
        )
        self.intake = Intake(
            self.writer, sign, self.metrics, options.limits, follow=self.committer.follow
        )
        self.mqtt: MqttSide | None = None
        if options.broker is not None:
            # One name per collector: a broker lets only one of the same name in.
            identifier = f"gridcommons-collector-{zone}-{account.address[2:10].lower()}"
            self.mqtt = MqttSide(options.broker, zone, identifier, self.intake, self._report)
        self.status = Status(
            zone=zone,
            chain_id=chain.chain_id,
            ledger=ledger.address,
            collector=account.address,
            writer=self.writer,
            committer=self.committer,
            intake=self.intake,
            meters=lambda: self.keys.meters.tolist(),
            mqtt=self.mqtt,
        )

    def open(self) -> None:
        """Open inbox and secrets; raises what that raises, another collector on the inbox too."""
        self.writer.start()

    def close(self) -> None:
        """Write what waits, finish the step on the chain, close the files. CheckFailed where a
        part does not end."""
        self.status.ending = True
        ended = self.committer.end()
        written = self.writer.stop()
        self.secrets.close()
        if not (ended and written):
            raise CheckFailed("a step did not end in time; what was acknowledged is on disk")

    def run(self, listener: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGINT or SIGTERM, then drain. `open` comes before, `close` after."""
        with _signals() as stop:
            asyncio.run(self._serve(listener, stop, ready))

    # Parts

    def _open(self) -> Collector:
        places = self.options.places
        try:
            collector = Collector(
                self.options.zone,
                self.keys,
                self.secrets,
                self._separator,
                places.lake,
                places.inbox,
                clock=self._clock,
                editor=Editor(),
            )
        except OSError as error:
            raise CheckFailed(f"cannot use the inbox {places.inbox}: {error.strerror}") from None
        try:
            if self.options.restore:
                log.info("restored", extra={"batches": collector.restore()})
            self._dispatches = Dispatches(
                places.dispatches, self.keys, self._separator, collector.inbox.erased
            )
            self.status.reports = self._dispatches.count()
        except BaseException:
            collector.close()
            raise
        return collector

    async def _head(self, meter: int) -> Head | None:
        if not self.keys.periods(meter):
            return None

        def find(collector: Collector) -> Head:
            return collector.heads([meter]).get(meter, Head.NONE)

        return await asyncio.wrap_future(self.writer.ask(find))

    async def _report(self, document: object) -> bool:
        def add(_: Collector) -> bool:
            assert self._dispatches is not None
            return self._dispatches.add(document, self._clock())

        is_new = await asyncio.wrap_future(self.writer.ask(add))
        self.status.reports += is_new
        return is_new

    async def _watch(self) -> None:
        """Look at inbox and disk again and again, seldom where that takes long."""
        while True:
            begun = time.monotonic()
            try:
                await asyncio.to_thread(self.status.survey)
                self.status.facts = await asyncio.wrap_future(self.writer.ask(look))
            except Exception as error:  # SQLite's own too: who watches must not end of it
                log.error("the inbox cannot be read: %s", error)
                self.status.facts = replace(
                    self.status.facts, at=begun, disk_problem="the inbox cannot be read"
                )
            took = time.monotonic() - begun
            await asyncio.sleep(max(_LOOK_S, _LOOK_SHARE * took))

    async def _serve(self, listener: socket.socket, stop: _Stop, ready: Callable[[], None]) -> None:
        import uvicorn

        service = Service(
            self.intake, self._head, self._report, self.status.told, self.options.token
        )
        config = uvicorn.Config(
            create_app(service),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            proxy_headers=self.options.behind_proxy,
            forwarded_allow_ips="127.0.0.1",
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=_DRAIN_S,
        )
        server = uvicorn.Server(config)
        stop.then(partial(setattr, server, "should_exit", True))
        async with AsyncExitStack() as stack:
            if self.options.embedded is not None:
                await stack.enter_async_context(EmbeddedBroker(*self.options.embedded))
            self.status.survey()
            self.status.facts = await asyncio.wrap_future(self.writer.ask(look))
            self.committer.start()
            parts: list[Coroutine[Any, Any, None]] = [self._watch()]
            if self.mqtt is not None:
                parts.append(self.mqtt.run())
            tasks = [asyncio.create_task(part) for part in parts]
            stack.push_async_callback(_ended, tasks, self.mqtt)
            ready()
            await server.serve(sockets=[listener])
            self.status.ending = True


async def _ended(tasks: list[asyncio.Task[None]], mqtt: MqttSide | None) -> None:
    if mqtt is not None:
        await mqtt.drain()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _Stop:
    """What the first signal sets off."""

    def __init__(self) -> None:
        self.asked = False
        self._then: Callable[[], None] = lambda: None

    def then(self, action: Callable[[], None]) -> None:
        """Do this at the signal, or now where it has come already."""
        self._then = action
        if self.asked:
            action()

    def __call__(self, _: int, __: FrameType | None) -> None:
        self.asked = True
        self._then()


@contextlib.contextmanager
def _signals() -> Iterator[_Stop]:
    """Handlers of our own: uvicorn sets its own while it serves, and raises the signal again when
    it is done."""
    stop = _Stop()
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
