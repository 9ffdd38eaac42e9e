# SPDX-License-Identifier: Apache-2.0
"""Reading requests within limits, and refusing them: each error as
{"error": {"field", "problem", "accepted"}}.

With `api` and `request_api` the only modules that know FastAPI; the operations are theirs.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

from fastapi import FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from dao.errors import GridCommonsError
from dao.json_input import is_too_deep
from dao.relay.answers import Refused
from dao.relay.submitted import WHOLE, Problem, shown

log = logging.getLogger("gridcommons.relay")

_BODY_PATIENCE_S = 10.0

AccountNumber = Annotated[int, Path(ge=1, le=WHOLE["account"][1])]
Digest = Annotated[str, Path(pattern="^0x[0-9a-fA-F]{64}$", description="its EIP-712 digest")]
Before = Annotated[int | None, Query(ge=1, le=2**53, description="go on from `next`")]
Most = Annotated[int, Query(ge=1, le=100, description="at most so many")]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Door:
    """How requests come in. body: a request's JSON; may_ask: counts a request, or refuses it;
    nonsense: counts what made no sense; allow: seconds that a signer has to wait, 0 for none."""

    body: Callable[[Request], Awaitable[Any]]
    may_ask: Callable[[Request], None]
    nonsense: Callable[[Request], None]
    allow: Callable[[str], int]

    async def judged(
        self,
        request: Request,
        judge: Callable[P, tuple[T | None, list[Problem]]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """What `judge` makes of a request. Where that is None, it is refused with what is wrong."""
        found, problems = await run_in_threadpool(judge, *args, **kwargs)
        if found is None:
            self.nonsense(request)
            raise Refusal(422, *problems)
        return found


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, *problems: Problem, retry_after: int | None = None) -> None:
        super().__init__(problems[0].problem)
        self.status = status
        self.refused = Refused(problems[0], list(problems), retry_after)


async def read_json(request: Request, most: int) -> Any:
    """The body as a JSON value, read within limits of size, time and depth."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        # Which also keeps foreign web pages from submitting in a visitor's name.
        raise Refusal(415, Problem("Content-Type", shown(kind), "application/json"))
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_PATIENCE_S):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise Refusal(413, Problem("body", "too large", f"at most {most} bytes"))
    except TimeoutError:
        slow = Problem("body", "too slow", f"all of it within {_BODY_PATIENCE_S:.0f} s")
        raise Refusal(408, slow) from None
    except ClientDisconnect:
        raise Refusal(400, Problem("body", "cut off", "a whole body")) from None
    try:
        text = body.decode("utf-8")
        if is_too_deep(text):
            raise Refusal(400, Problem("body", "nested too deeply", "plain JSON"))
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_each_once)
    except ValueError as error:
        raise Refusal(400, Problem("body", shown(str(error)), "JSON in UTF-8")) from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which no name stands twice: which of the two was meant?"""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return found


def client_of(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def too_many(what: str, wait: int) -> Refusal:
    problem = Problem("client", f"too many {what}", f"again in {wait} s")
    return Refusal(429, problem, retry_after=wait)


def answer_errors(app: FastAPI) -> None:
    """Every way a request can fail, as an error of the same shape."""

    @app.exception_handler(Refusal)
    async def refusal(_: Request, error: Refusal) -> Response:
        return json_answer(error.refused, error.status)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        problems = []
        for one in error.errors():
            bounds = one.get("ctx") or {}
            accepted = ", ".join(f"{name} {value}" for name, value in sorted(bounds.items()))
            problems.append(
                Problem(str(one["loc"][-1]), one["msg"], shown(accepted or "see /docs"))
            )
        return json_answer(Refused(problems[0], problems), 422)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        problem = Problem("request", str(error.detail), "see /docs")
        return json_answer(Refused(problem, [problem]), error.status_code, error.headers)

    @app.exception_handler(GridCommonsError)
    async def failed(_: Request, error: GridCommonsError) -> Response:
        # The text may name the node's address, with a key in it: it stays here.
        log.error("%s", error)
        problem = Problem("chain", "the relay cannot read the chain", "the same again, later")
        return json_answer(Refused(problem, [problem], 5), 503)


def json_answer(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    if isinstance(value, Refused) and value.retry_after:
        headers = {**(headers or {}), "Retry-After": str(value.retry_after)}
    return JSONResponse(asdict(value), status, headers)
