# SPDX-License-Identifier: Apache-2.0
"""The relay over HTTP: the operations of orders, receipts and sessions.

Hands requests, read within `http`'s limits, to `intake`, and writes answers: JSON with whole
numbers. Requests have operations of their own in `request_api`. Everything here is public; who may
do what is decided by signatures alone.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import FastAPI, Header, Path, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from dao.relay import answers, description, drafts, intake, request_api
from dao.relay.answers import (
    AccountStatus,
    Book,
    Health,
    MandateStatus,
    OrdersPage,
    OrderStatus,
    PostedBook,
    Prospect,
    ReceiptStored,
    Refused,
    Results,
    Sessions,
    Taken,
)
from dao.relay.http import (
    AccountNumber,
    Before,
    Digest,
    Door,
    Most,
    Refusal,
    answer_errors,
    client_of,
    json_answer,
    read_json,
    too_many,
)
from dao.relay.limits import Buckets, Rate
from dao.relay.reader import Relay
from dao.relay.store import FeedEvent, Receipt
from dao.relay.submitted import WHOLE, Problem

_FEED_PAUSE_S = 0.5
# Proxies close a silent connection after a minute or less.
_FEED_SILENCE_S = 15.0

ZoneNumber = Annotated[int, Path(ge=1, le=1_023)]
_EARLIEST, _LATEST = WHOLE["first_slot"]
FirstSlot = Annotated[int, Path(ge=_EARLIEST, le=_LATEST, description="of a session")]


@dataclass(frozen=True)
class Limits:
    """What one request, one account and one client may ask for.

    account: orders signed by its owner; signer: other things that an address signed, each of which
    costs a transaction; refused: what a client sent that was not signed, or made no sense; reads:
    all requests of a client.
    """

    body_bytes: int = 262_144
    orders: int = 100
    account: Rate = field(default_factory=lambda: Rate(burst=32, per_minute=16))
    signer: Rate = field(default_factory=lambda: Rate(burst=16, per_minute=8))
    refused: Rate = field(default_factory=lambda: Rate(burst=60, per_minute=60))
    reads: Rate = field(default_factory=lambda: Rate(burst=120, per_minute=1_200))
    streams: int = 64
    streams_per_client: int = 4


def create_app(
    relay: Relay,
    limits: Limits | None = None,
    *,
    stopping: Callable[[], bool] = lambda: False,
    faults: Callable[[], Sequence[str]] = tuple,
) -> FastAPI:
    """The relay's API. stopping: ends open feeds; faults: what went wrong in posting lately."""
    bounds = limits or Limits()
    accounts, refused, reads = map(Buckets, (bounds.account, bounds.refused, bounds.reads))
    signers = Buckets(bounds.signer)
    streams: Counter[str] = Counter()
    app = FastAPI(
        title="GridCommons relay",
        summary="Takes signed orders, promises to post them before the gate, and pays the gas.",
        version="1",
        docs_url=None,
        redoc_url=None,
        # Nothing is told to anybody but whoever asks here.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        responses={
            "4XX": {"model": Refused, "description": "What is wrong, and what is accepted"},
            "503": {"model": Refused, "description": "The relay cannot read the chain"},
        },
    )
    answer_errors(app)

    def may_ask(request: Request) -> None:
        if wait := reads.take(client_of(request)):
            raise too_many("requests", wait)

    async def body_of(request: Request) -> Any:
        """The request's JSON. A client that sent much nonsense has to wait."""
        client = client_of(request)
        if wait := refused.take(client, 0):
            raise too_many("refused requests", wait)
        may_ask(request)
        try:
            return await read_json(request, bounds.body_bytes)
        except Refusal:
            refused.take(client)
            raise

    def nonsense(request: Request) -> None:
        refused.take(client_of(request))

    door = Door(body=body_of, may_ask=may_ask, nonsense=nonsense, allow=signers.take)
    request_api.add_routes(app, relay, door)

    def check_zone(zone: int) -> None:
        if zone != relay.zone:
            problem = f"this relay does not serve zone {zone}"
            raise Refusal(404, Problem("zone", problem, f"{relay.zone}"))

    def session_slots(slot: int) -> int:
        found = intake.session_slots(relay, slot)
        if isinstance(found, Problem):
            raise Refusal(404, found)
        return found

    @app.post(
        "/v1/orders",
        status_code=201,
        response_model=Taken,
        responses={200: {"model": Results | Taken, "description": "Many, or one known before"}},
        summary="Submit signed orders",
        description='One order, or {"orders": [...]}. Each is judged alone: the answer to many is '
        "200 with a result for each. The answer comes when the good ones are safe on disk.",
        openapi_extra=description.body(description.one_or_many(bounds.orders)),
    )
    async def submit_orders(request: Request) -> Response:
        document = await body_of(request)
        many = isinstance(document, dict) and "orders" in document
        orders = document["orders"] if many else [document]
        if many and not (
            len(document) == 1 and isinstance(orders, list) and 1 <= len(orders) <= bounds.orders
        ):
            nonsense(request)
            accepted = f'one order, or {{"orders": [...]}} with 1 to {bounds.orders} of them'
            raise Refusal(422, Problem("orders", "not a list of orders", accepted))
        found = await run_in_threadpool(intake.submit, relay, orders, accounts.take)
        if unsigned := sum(not answer.signed for answer in found):
            refused.take(client_of(request), unsigned)
        results = [answers.result(relay, answer) for answer in found]
        if many:
            return json_answer(Results(results))
        result = results[0]
        if isinstance(result, Refused):
            return json_answer(result, 429 if result.retry_after else 422)
        return json_answer(result, 201 if result.outlook else 200)

    @app.get("/v1/orders/{order}", summary="Where an order stands")
    def get_order(request: Request, order: Digest) -> OrderStatus:
        may_ask(request)
        stored = relay.store.get(bytes.fromhex(order[2:]))
        if stored is None:
            accepted = "the id of an order that this relay took"
            raise Refusal(404, Problem("order", "not known here", accepted))
        return answers.order_status(relay, stored)

    @app.get("/v1/accounts/{account}", summary="An account: balance, numbers to use, what waits")
    def get_account(request: Request, account: AccountNumber) -> AccountStatus:
        may_ask(request)
        found = answers.account_status(relay, account)
        if found is None:
            accepted = "an account that was opened"
            raise Refusal(404, Problem("account", f"{account} is not open", accepted))
        return found

    @app.get("/v1/accounts/{account}/orders", summary="An account's orders, the newest first")
    def get_orders(
        request: Request, account: AccountNumber, before: Before = None, limit: Most = 50
    ) -> OrdersPage:
        may_ask(request)
        return answers.orders_page(relay, account, before, limit)

    @app.get("/v1/accounts/{account}/mandates/{mandate}", summary="What an agent may still do")
    def get_mandate(
        request: Request, account: AccountNumber, mandate: AccountNumber
    ) -> MandateStatus:
        may_ask(request)
        found = answers.mandate_status(relay, account, mandate)
        if found is None:
            problem = f"account {account} has no mandate {mandate} in force"
            raise Refusal(404, Problem("mandate", problem, "one that was granted"))
        return found

    @app.get("/v1/zones/{zone}/sessions", summary="The next gates and their terms")
    def get_sessions(request: Request, zone: ZoneNumber) -> Sessions:
        may_ask(request)
        check_zone(zone)
        return answers.sessions(relay)

    @app.get("/v1/zones/{zone}/sessions/{slot}/book", summary="Energy at each price, per slot")
    def get_book(request: Request, zone: ZoneNumber, slot: FirstSlot) -> Book:
        may_ask(request)
        check_zone(zone)
        return Book(zone, slot, intake.depth(relay, slot, session_slots(slot)))

    @app.get("/v1/zones/{zone}/sessions/{slot}/orders", summary="The open book as posted")
    def get_posted(request: Request, zone: ZoneNumber, slot: FirstSlot) -> PostedBook:
        may_ask(request)
        check_zone(zone)
        session_slots(slot)
        orders = intake.posted_orders(relay, slot)
        return PostedBook(zone, slot, [answers.order_fields(order) for order in orders])

    @app.post(
        "/v1/typed-data/order",
        response_model=dict[str, Any],
        summary="What a wallet signs for an order",
        description="The EIP-712 document of the order's fields, for eth_signTypedData_v4.",
        openapi_extra=description.body(description.UNSIGNED_ORDER),
    )
    async def typed_data(request: Request) -> Response:
        document = await body_of(request)
        return JSONResponse(await door.judged(request, drafts.typed_order, relay, document))

    @app.post(
        "/v1/outlook/order",
        response_model=Prospect,
        summary="What would come of an order",
        description="The order's fields, complete, with what would be wrong with it, or what would "
        "happen to it. Nothing is stored, and nobody has to have signed it.",
        openapi_extra=description.body(description.UNSIGNED_ORDER),
    )
    async def outlook(request: Request) -> Response:
        document = await body_of(request)
        drafted = await door.judged(request, drafts.draft_order, relay, document)
        return json_answer(answers.prospect(drafted))

    @app.post(
        "/v1/receipts",
        status_code=201,
        response_model=ReceiptStored,
        responses={200: {"model": ReceiptStored, "description": "Known before"}},
        summary="Submit a device's delivery receipt",
        description="Sending it again does no harm. A second one that differs is kept beside the "
        "first as evidence, and answered with 409.",
        openapi_extra=description.body(description.RECEIPT),
    )
    async def submit_receipt(request: Request) -> Response:
        document = await body_of(request)
        status = await door.judged(request, intake.submit_receipt, relay, document)
        if status is Receipt.CONFLICT:
            problem = "another receipt of this meter for this session is on record; both are kept"
            raise Refusal(409, Problem("exports", problem, "one receipt per meter and session"))
        stored = ReceiptStored(document["meter"], document["first_slot"], status)
        return json_answer(stored, 201 if status is Receipt.NEW else 200)

    @app.get("/v1/health", summary="How the relay is, and how many promises it broke")
    def get_health(request: Request) -> Health:
        may_ask(request)
        return answers.health(relay, faults())

    @app.get(
        "/v1/feed",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
        summary="What happens, as server-sent events",
        description="Events order-received, order-posted, order-accepted, order-rejected, "
        "order-withdrawn, order-late, session-cleared, session-void, request-received, "
        "request-sent, request-done and request-failed, each with a JSON object. Begins with "
        "what comes next, or with what came after the event that the query's `after` or the header "
        "Last-Event-ID names.",
    )
    async def get_feed(
        request: Request,
        after: Annotated[int | None, Query(ge=0, le=2**53)] = None,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> StreamingResponse:
        may_ask(request)
        client = client_of(request)
        if streams.total() >= bounds.streams or streams[client] >= bounds.streams_per_client:
            raise too_many("open feeds", int(_FEED_SILENCE_S))
        if after is None and last_event_id and last_event_id.isascii() and last_event_id.isdigit():
            after = int(last_event_id[:15])
        if after is None:
            after = await run_in_threadpool(relay.store.last_event)
        return _Feed(_events(relay, after, stopping), streams, client)

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return HTMLResponse(description.page(app.openapi()), headers=policy)

    return app


# The feed


class _Feed(StreamingResponse):
    """An event stream that is counted for as long as it is open."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str], streams: Counter[str], client: str) -> None:
        super().__init__(events, headers={"Cache-Control": "no-store"})
        self._streams = streams
        self._of = client

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._streams[self._of] += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams[self._of] -= 1
            if not self._streams[self._of]:
                del self._streams[self._of]


async def _events(relay: Relay, after: int, stopping: Callable[[], bool]) -> AsyncIterator[str]:
    yield ": what happens from here on\n\n"
    silent = 0.0
    while not stopping():
        events = await run_in_threadpool(relay.store.feed, after)
        for event in events:
            after = event.seq
            yield _sent(event)
        silent = 0.0 if events else silent + _FEED_PAUSE_S
        if silent >= _FEED_SILENCE_S:
            silent = 0.0
            yield ": nothing new\n\n"
        if not events:
            await asyncio.sleep(_FEED_PAUSE_S)


def _sent(event: FeedEvent) -> str:
    body = json.dumps({"at": event.at, **event.body})
    return f"id: {event.seq}\nevent: {event.kind}\ndata: {body}\n\n"
