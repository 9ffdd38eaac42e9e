# SPDX-License-Identifier: Apache-2.0
"""`/relay/...`: the relay's JSON API under this server's own address, for the visitor's browser.

Only the paths that a person needs, within limits of size and time. What the relay answers is given
on as it is; where there is no answer, the error has the relay's own shape.
"""

from __future__ import annotations

import http.client
import logging
import re
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dashboard.routes._guard import Refused, check_own_page, read_body, refusal
from dashboard.settings import Settings

log = logging.getLogger(__name__)

READ = frozenset({"accounts", "health", "orders", "requests", "zones"})
SENT = frozenset(
    {
        "ballots",
        "delegations",
        "deposits",
        "mandate-ends",
        "mandates",
        "objections",
        "orders",
        "revocations",
        "typed-data",
        "withdrawals",
    }
)
"""What may be asked and what may be sent: the first word of the path after `/v1/`."""

MAX_SENT = 262_144
MAX_ANSWER = 480_000
"""Bytes of a request and of an answer."""

_PATIENCE_S = 20.0
_CONNECT_S = 3.0
_RETRY_S = 5
_PATH = re.compile(r"v1/([a-z-]+)((?:/[A-Za-z0-9-]{1,80}){0,5})")
_QUERY = ("before", "limit")
_NUMBER = re.compile(r"[0-9]{1,16}")
# Each question holds a thread until it is answered.
_AT_ONCE = 32
_threads = CapacityLimiter(_AT_ONCE)


@dataclass(frozen=True)
class _Question:
    """A request as it goes to the relay."""

    method: str
    path: str
    body: bytes | None
    client: str


class _Away(Exception):
    """The relay did not answer, or with something that is not its API's."""


def routes(settings: Settings) -> list[BaseRoute]:
    """The route to the relay that `settings` name."""

    async def relayed(request: Request) -> Response:
        try:
            question = await _question(request)
        except Refused as refused:
            return refused.response()
        if settings.relay is None:
            return refusal(503, "relay", "there is no relay here", "the same later", _RETRY_S)
        if _threads.available_tokens < 1:
            return refusal(503, "relay", "too many at once", "the same again", 1)
        try:
            return await to_thread.run_sync(_ask, settings.relay, question, limiter=_threads)
        except _Away as away:
            log.warning("relay: %s", away)
            problem = "the relay does not answer; nothing is lost, and sending it again is safe"
            return refusal(502, "relay", problem, "the same again, later", _RETRY_S)

    return [Route("/relay/{path:path}", relayed, methods=["GET", "POST"])]


async def _question(request: Request) -> _Question:
    """The request, checked. Refused where it is none that may be passed on."""
    method, path = request.method, request.path_params["path"]
    found = _PATH.fullmatch(path)
    if found is None or found[1] not in (SENT if method == "POST" else READ):
        raise Refused(404, "path", "nothing is here", "a path of the relay's API")
    query = {}
    for name, value in request.query_params.items():
        if name not in _QUERY or not _NUMBER.fullmatch(value):
            raise Refused(422, "query", "not a question of the API", "before and limit, numbers")
        query[name] = value
    body = None
    if method == "POST":
        check_own_page(request)
        body = await read_body(request, MAX_SENT)
    client = request.client.host if request.client else "unknown"
    return _Question(method, f"/{path}" + (f"?{urlencode(query)}" if query else ""), body, client)


def _ask(relay: str, question: _Question) -> Response:
    """The relay's answer. Raises _Away."""
    at = urlsplit(relay)
    kind: Any = http.client.HTTPSConnection if at.scheme == "https" else http.client.HTTPConnection
    deadline = time.monotonic() + _PATIENCE_S
    connection = kind(at.hostname, at.port, timeout=_CONNECT_S)
    headers = {"Accept": "application/json", "X-Forwarded-For": question.client}
    if question.body is not None:
        headers["Content-Type"] = "application/json"
    try:
        connection.connect()
        connection.sock.settimeout(_PATIENCE_S)
        connection.request(question.method, at.path + question.path, question.body, headers)
        answer = connection.getresponse()
        body = bytearray()
        while part := answer.read1(65_536):
            body += part
            if len(body) > MAX_ANSWER:
                raise _Away(f"{question.path}: more than {MAX_ANSWER} bytes")
            if time.monotonic() > deadline:
                raise _Away(f"{question.path}: not finished after {_PATIENCE_S:.0f} s")
        if answer.length:
            raise _Away(f"{question.path}: cut off, {answer.length} bytes short")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Away(f"{question.path}: {type(error).__name__}") from error
    finally:
        connection.close()
    told = answer.headers.get_content_type()
    if told != "application/json" or not (200 <= answer.status < 300 or answer.status >= 400):
        raise _Away(f"{question.path}: {answer.status} {told}")
    kept = {"Cache-Control": "no-store"}
    if (wait := answer.headers.get("Retry-After", "")).isdigit():
        kept["Retry-After"] = wait
    return Response(bytes(body), answer.status, kept, media_type="application/json")
