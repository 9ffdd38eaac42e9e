# SPDX-License-Identifier: Apache-2.0
"""What every route checks before it believes a request, and how it says no.

A POST is taken only as JSON and only from this dashboard's own pages, so no other page can send
one in a visitor's name. Errors have the relay's shape: error, problems, retry_after.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from dao.json_input import loads

MAX_BODY = 65_536
_PATIENCE_S = 10.0


class Refused(Exception):
    """A request that is not taken: HTTP status, the field, what is wrong, what is accepted."""

    def __init__(self, status: int, field: str, problem: str, accepted: str) -> None:
        super().__init__(problem)
        self.status = status
        self.field = field
        self.problem = problem
        self.accepted = accepted

    def response(self) -> JSONResponse:
        """The refusal as the answer to the request."""
        return refusal(self.status, self.field, self.problem, self.accepted)


def refusal(
    status: int, field: str, problem: str, accepted: str, retry_after: int | None = None
) -> JSONResponse:
    """An answer that is an error."""
    one = {"field": field, "problem": problem, "accepted": accepted}
    body = {"error": one, "problems": [one], "retry_after": retry_after}
    headers = {"Cache-Control": "no-store"}
    if retry_after:
        headers["Retry-After"] = str(retry_after)
    return JSONResponse(body, status, headers)


def check_own_page(request: Request) -> None:
    """Refused unless the request comes from a page of this very server.

    A browser says so by itself and no page can change what it says. A request without either
    header does not come from a browser, and so carries nobody's cookie.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        raise Refused(403, "Sec-Fetch-Site", "sent by another page", "same-origin")
    origin = request.headers.get("origin")
    if origin is None:
        return
    # Behind a proxy that ends TLS the scheme differs; name and port are what must agree.
    if urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower():
        raise Refused(403, "Origin", "sent by another page", "this dashboard's own pages")


async def read_json(request: Request, most: int = MAX_BODY) -> Any:
    """The request's JSON, from an own page, of at most `most` bytes. Refused otherwise."""
    check_own_page(request)
    return parsed(await read_body(request, most))


async def read_body(request: Request, most: int = MAX_BODY) -> bytes:
    """The body of a request that says it is JSON, within limits of size and time."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "Content-Type", "not JSON", "application/json")
    body = bytearray()
    try:
        async with asyncio.timeout(_PATIENCE_S):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise Refused(413, "body", "too large", f"at most {most} bytes")
    except TimeoutError:
        raise Refused(408, "body", "too slow", f"all within {_PATIENCE_S:.0f} s") from None
    except ClientDisconnect:
        raise Refused(400, "body", "cut off", "a whole body") from None
    return bytes(body)


def parsed(body: bytes) -> Any:
    """The body as a JSON value. Refused where it is none, or is nested out of all reason."""
    try:
        return loads(body.decode("utf-8"))
    except ValueError:
        raise Refused(400, "body", "not JSON in UTF-8", "JSON in UTF-8") from None
