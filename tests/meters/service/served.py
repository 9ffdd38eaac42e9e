# SPDX-License-Identifier: Apache-2.0
"""The collector's HTTP side on a real socket, with a real inbox and no chain."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
import uvicorn

from dao.chain import Contract, LocalAccount
from dao.eip712 import keccak
from dao.paths import dispatches_path
from meters.acknowledgements import acknowledgement_separator
from meters.registry import KeyPeriods
from meters.service.committer import Committer
from meters.service.dispatches import Dispatches
from meters.service.http import Service, create_app
from meters.service.intake import Intake, Limits
from meters.service.metrics import Metrics
from meters.service.status import Status, look
from meters.service.writer import Writer
from meters.signing import Head
from tests.meters.batch_rows import DAY, SEPARATOR, keys
from tests.meters.service.zone import HOMES, ZONE

NOW = (DAY + 96) * 900
"""Unix seconds at which reports of devices come."""
LEDGER = "0x" + "43" * 20
ACCOUNT = LocalAccount.from_key(keccak(b"a collector of the tests"))
SEAL = acknowledgement_separator(31_337, LEDGER)


def intake_of(writer: Writer, limits: Limits | None = None, **more: Any) -> Intake:
    return Intake(writer, lambda made: made.signed(ACCOUNT.key, SEAL), Metrics(), limits, **more)


@dataclass
class Served:
    url: str
    port: int
    intake: Intake
    status: Status

    def get(self, path: str, **more: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=20, **more)

    def post(
        self, body: bytes, kind: str = "application/octet-stream", path: str = "/v1/readings"
    ) -> requests.Response:
        return requests.post(self.url + path, body, headers={"Content-Type": kind}, timeout=20)


class NoLedger:
    """In place of a ledger that nobody asks."""


@contextmanager
def served(
    writer: Writer,
    limits: Limits | None = None,
    token: str = "",
    intake: Intake | None = None,
    periods: KeyPeriods | None = None,
) -> Iterator[Served]:
    intake, periods = intake or intake_of(writer, limits), periods or keys(HOMES)
    nobody: Contract = NoLedger()  # type: ignore[assignment]
    committer = Committer(
        writer, periods, nobody, None, ZONE, "memory://none", intake.metrics, now=lambda: 0
    )
    status = Status(
        ZONE, 31_337, LEDGER, ACCOUNT.address, writer, committer, intake, periods.meters.tolist
    )
    status.facts = writer.call(look)
    status.survey()

    async def head(meter: int) -> Head | None:
        if not periods.periods(meter):
            return None
        found = await asyncio.wrap_future(writer.ask(lambda c: c.heads([meter])))
        return found.get(meter, Head.NONE)

    reports = writer.call(
        lambda c: Dispatches(dispatches_path(c.inbox.path), periods, SEPARATOR, c.inbox.erased)
    )

    async def report(document: object) -> bool:
        kept = writer.ask(lambda _: reports.add(document, NOW))
        return await asyncio.wrap_future(kept)

    listener = socket.create_server(("127.0.0.1", 0))
    service = Service(intake, head, report, status.told, token)
    server = uvicorn.Server(
        uvicorn.Config(create_app(service), log_config=None, lifespan="off", access_log=False)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    port = listener.getsockname()[1]
    try:
        while not server.started:
            time.sleep(0.01)
        yield Served(f"http://127.0.0.1:{port}", port, intake, status)
    finally:
        server.should_exit = True
        thread.join(30)
