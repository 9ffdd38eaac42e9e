# SPDX-License-Identifier: Apache-2.0
"""The collector over HTTP: the only module that knows FastAPI.

Reads requests within limits of size, time and depth, hands them to the door, and writes answers.
Who may say what is decided by signatures alone; only the numbers of silent meters are the
operator's.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from dao.errors import BadUse, GridCommonsError
from dao.relay.limits import Buckets, Rate
from meters.adapters.fields import load_json
from meters.frames import MAX_FRAME_BYTES, encode, from_json
from meters.service.dispatches import MAX_REPORT_BYTES
from meters.service.intake import Intake, Malformed
from meters.service.metrics import CONTENT_TYPE
from meters.service.status import Told
from meters.service.status_page import CONTENT_SECURITY_POLICY, page
from meters.service.writer import Busy
from meters.signing import Head

log = logging.getLogger("gridcommons.collector")

MAX_JSON_BYTES = 2 << 20
_BODY_PATIENCE_S = 10.0
_MOST_READING = 64 << 20
"""Bytes of all bodies that are being read: who comes when more are on the way comes again."""
_READS = Rate(burst=240, per_minute=600)
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, problem: str, retry_after: int | None = None) -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem
        self.retry_after = retry_after


@dataclass(frozen=True)
class Service:
    """What the answers come from. heads: the head of a meter's chain, None for a meter that is
    not of the zone. report: keeps a dispatch report, True where it is new. told: the status, and
    the numbers of silent meters. token: what the operator shows for those; empty for nobody."""

    intake: Intake
    head: Callable[[int], Awaitable[Head | None]]
    report: Callable[[object], Awaitable[bool]]
    told: Callable[[], Told]
    token: str = ""


def create_app(service: Service) -> FastAPI:
    """The collector's endpoints."""
    reads = Buckets(_READS)
    reading = _Reading()
    intake = service.intake
    app = FastAPI(
        title="GridCommons collector",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    _answer_errors(app)

    def may_ask(request: Request) -> None:
        if wait := reads.take(_client(request)):
            raise Refusal(429, "too many requests", wait)

    @app.post("/v1/readings")
    async def readings(request: Request) -> Response:
        client = _client(request)
        intake.check("http", client)
        kind = _kind(request)
        try:
            if kind == "application/octet-stream":
                frame = await reading.body(request, MAX_FRAME_BYTES)
            elif kind == "application/json":
                body = await reading.body(request, MAX_JSON_BYTES)
                frame = await asyncio.to_thread(_frame_of_json, body)
            else:
                raise Refusal(415, "expected application/octet-stream or application/json")
        except BadUse as error:
            intake.spoilt("http", client)
            raise Refusal(400, str(error)) from None
        except Refusal:
            intake.spoilt("http", client)
            raise
        try:
            acknowledgement = await intake.take("http", client, frame)
        except Malformed as error:
            raise Refusal(400, str(error)) from None
        return _json(acknowledgement.to_json())

    @app.get("/v1/heads/{meter}")
    async def heads(request: Request, meter: str) -> Response:
        may_ask(request)
        if not (meter.isascii() and meter.isdigit() and len(meter) <= 10):
            raise Refusal(422, "a meter is a number")
        head = await service.head(int(meter))
        if head is None:
            raise Refusal(404, "no such meter in this zone")
        return _json({"sequence": head.sequence, "link": "0x" + head.link.hex()})

    @app.post("/v1/dispatch")
    async def dispatch(request: Request) -> Response:
        client = _client(request)
        intake.check("http", client)
        may_ask(request)
        try:
            if _kind(request) != "application/json":
                raise Refusal(415, "expected application/json")
            is_new = await service.report(load_json(await reading.body(request, MAX_REPORT_BYTES)))
        except BadUse as error:
            intake.spoilt("http", client)
            intake.metrics.reported("refused")
            raise Refusal(422, str(error)) from None
        except Refusal:
            intake.spoilt("http", client)
            raise
        intake.metrics.reported("stored" if is_new else "known")
        return _json({"stored": True, "new": is_new})

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        may_ask(request)
        service.told()
        return Response(intake.metrics.page(), headers=_HEADERS, media_type=CONTENT_TYPE)

    @app.get("/health")
    async def health(request: Request) -> Response:
        may_ask(request)
        problems = service.told().durability
        return _json({"ok": not problems, "problems": problems}, 503 if problems else 200)

    @app.get("/status.json")
    async def status(request: Request) -> Response:
        may_ask(request)
        told = service.told()
        document = told.document
        if _is_operator(request, service.token):
            document = {**document, "silent_meters": told.silent()}
        return _json(document)

    @app.get("/status")
    async def status_page(request: Request) -> Response:
        may_ask(request)
        headers = {**_HEADERS, "Content-Security-Policy": CONTENT_SECURITY_POLICY}
        return Response(page(service.told().document), media_type="text/html", headers=headers)

    return app


def _frame_of_json(body: bytes) -> bytes:
    return encode(from_json(load_json(body)))


def _is_operator(request: Request, token: str) -> bool:
    given = request.headers.get("authorization", "")
    shown = given.removeprefix("Bearer ").encode("utf-8", "replace")
    return bool(token) and hmac.compare_digest(shown, token.encode())


def _kind(request: Request) -> str:
    # Also keeps foreign web pages from sending in a visitor's name: neither is a form's.
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _client(request: Request) -> str:
    return request.client.host if request.client else "unknown"


class _Reading:
    """Reads bodies, each within its bounds, and not too many at once."""

    def __init__(self) -> None:
        self._under_way = 0

    async def body(self, request: Request, most: int) -> bytes:
        """The body, read no further than it may be long, and not for ever."""
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and (len(announced) > 12 or int(announced) > most):
            raise Refusal(413, f"a body has at most {most} bytes")
        body = bytearray()
        try:
            async with asyncio.timeout(_BODY_PATIENCE_S):
                async for part in request.stream():
                    body += part
                    self._under_way += len(part)
                    if len(body) > most:
                        raise Refusal(413, f"a body has at most {most} bytes")
                    if self._under_way > _MOST_READING:
                        raise Busy(5, "bodies")
        except TimeoutError:
            raise Refusal(408, f"the body took longer than {_BODY_PATIENCE_S:.0f} s") from None
        except ClientDisconnect:
            raise Refusal(400, "the body was cut off") from None
        finally:
            self._under_way -= len(body)
        return bytes(body)


def _answer_errors(app: FastAPI) -> None:
    """Every way a request can fail, as JSON."""

    @app.exception_handler(Refusal)
    async def refusal(_: Request, error: Refusal) -> Response:
        return _json({"error": error.problem}, error.status, error.retry_after)

    @app.exception_handler(Busy)
    async def busy(_: Request, error: Busy) -> Response:
        # What the source did wrong is 429; what it cannot help is 503.
        status = 429 if error.why in ("rate", "refused_before", "share") else 503
        return _json({"busy": error.seconds}, status, error.seconds)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        return _json({"error": str(error.detail)}, error.status_code)

    @app.exception_handler(GridCommonsError)
    async def failed(_: Request, error: GridCommonsError) -> Response:
        # The text may name a path or the node's address: it stays here.
        log.error("%s", error)
        return _json({"error": "the collector cannot do this now"}, 503, 30)

    @app.exception_handler(Exception)
    async def defect(_: Request, error: Exception) -> Response:
        log.error("a request met a defect", exc_info=error)
        return _json({"busy": 60}, 503, 60)


def _json(document: Mapping[str, Any], status: int = 200, retry: int | None = None) -> Response:
    headers = dict(_HEADERS) if retry is None else {**_HEADERS, "Retry-After": str(retry)}
    return JSONResponse(document, status, headers)
