# SPDX-License-Identifier: Apache-2.0
"""The operations of requests: typed data, submission and state of all that people sign besides
orders. Which kinds there are, and what they mean, is `kinds`'.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from dao.relay import answers, description, request_intake
from dao.relay.answers import RequestsPage, RequestStatus, RequestTaken
from dao.relay.http import AccountNumber, Before, Digest, Door, Most, Refusal, json_answer
from dao.relay.kinds import RULES
from dao.relay.reader import Relay
from dao.relay.requests import Rule
from dao.relay.submitted import Problem

Endpoint = Callable[[Request], Awaitable[Response]]


def add_routes(app: FastAPI, relay: Relay, door: Door) -> None:
    """Add the operations of every kind of request, and those that show what became of one."""
    for rule in RULES.values():
        app.post(
            f"/v1/typed-data/{rule.typed_as}",
            response_model=dict[str, Any],
            name=f"typed_data_{rule.typed_as}",
            summary=f"What a wallet signs for a {rule.kind}",
            description="The EIP-712 document, for eth_signTypedData_v4. Fields that the body "
            "leaves out, the relay fills in where it can.",
            openapi_extra=description.body(description.unsigned_request(rule)),
        )(_typing(relay, door, rule))
        app.post(
            f"/v1/{rule.plural}",
            status_code=201,
            response_model=RequestTaken,
            responses={200: {"model": RequestTaken, "description": "Known before"}},
            name=f"submit_{rule.kind}",
            summary=f"Submit a signed {rule.kind}",
            description="It is on disk when the answer comes, and sent within seconds. The same "
            "again changes nothing; one that failed is judged anew.",
            openapi_extra=description.body(description.signed_request(rule)),
        )(_submitting(relay, door, rule))

    @app.get("/v1/requests/{request_id}", summary="Where a request stands")
    def get_request(request: Request, request_id: Digest) -> RequestStatus:
        door.may_ask(request)
        stored = relay.store.requests.get(bytes.fromhex(request_id[2:]))
        if stored is None:
            accepted = "the id of a request that this relay took"
            raise Refusal(404, Problem("request", "not known here", accepted))
        return answers.request_status(stored)

    @app.get("/v1/accounts/{account}/requests", summary="An account's requests, the newest first")
    def get_requests(
        request: Request, account: AccountNumber, before: Before = None, limit: Most = 50
    ) -> RequestsPage:
        door.may_ask(request)
        found, following = relay.store.requests.of_account(account, before, limit)
        return RequestsPage([answers.request_status(one) for one in found], following)


def _typing(relay: Relay, door: Door, rule: Rule) -> Endpoint:
    async def typed_data(request: Request) -> Response:
        document = await door.body(request)
        return JSONResponse(
            await door.judged(request, request_intake.typed_request, relay, rule.kind, document)
        )

    return typed_data


def _submitting(relay: Relay, door: Door, rule: Rule) -> Endpoint:
    async def submit(request: Request) -> Response:
        document = await door.body(request)
        found = await run_in_threadpool(
            request_intake.submit_request, relay, rule.kind, document, door.allow
        )
        if found.stored is not None:
            taken = RequestTaken(answers.hex_text(found.stored.id), found.stored.state)
            return json_answer(taken, 201 if found.fresh else 200)
        if found.retry_after:
            wait = found.retry_after
            problem = Problem("signature", "too many requests signed so", f"again in {wait} s")
            raise Refusal(429, problem, retry_after=wait)
        if not found.signed:
            door.nonsense(request)
        raise Refusal(422, *found.problems)

    return submit
