# SPDX-License-Identifier: Apache-2.0
"""Files of a home for whoever is signed in as its owner: statements, disclosures, evidence; and
what is public, for everybody.

    GET /my-data/v1/statements/{meter}/{month}.{pdf|csv}[?lang=de]
    GET /my-data/v1/disclosures/{meter}?from=2016-06-01&to=2016-06-07[&records=1]
    GET /my-data/v1/disputes/{meter}/{session}-{position}.zip
    GET /public/v1/payments.csv

A home's files only from this dashboard's own pages, and only of meters that the registry says now
are the signed-in person's. Anybody else is told the same for a home that is and one that is not
there.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dao.errors import BadUse, GridCommonsError
from dao.relay.limits import Buckets, Rate
from dashboard import identity
from dashboard.context import read_state
from dashboard.errors import plain
from dashboard.repositories.own_data import OwnData
from dashboard.repositories.sources import sources
from dashboard.routes._guard import Refused, check_own_page, refusal
from dashboard.routes._language import language_of
from dashboard.services import statement_files
from dashboard.services.known import statement_of
from dashboard.services.my_data import month_of_name, slots_of_days, whole
from dashboard.settings import Settings

log = logging.getLogger(__name__)

_threads = CapacityLimiter(2)
"""Setting a file takes a core: two at a time, the others wait."""
_asked = Buckets(Rate(burst=30, per_minute=30))
_public = Buckets(Rate(burst=30, per_minute=30))
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_NOT_YOURS = ("meter", "not one of yours", "a metering point of the person that is signed in")


@dataclass(frozen=True)
class Asked:
    """A request for a file of a home that is the visitor's own."""

    settings: Settings
    meter: int
    request: Request

    def path(self, name: str) -> str:
        return str(self.request.path_params[name])

    def query(self, name: str) -> str:
        return self.request.query_params.get(name, "")


Made = tuple[bytes, str, str]
"""A file: its bytes, its name and its type."""


def routes(settings: Settings) -> list[BaseRoute]:
    """The routes for the deployment that `settings` name."""

    def route(path: str, make: Callable[[Asked], Made]) -> Route:
        async def handle(request: Request) -> Response:
            return await _handled(request, settings, make)

        return Route(f"/my-data/v1/{path}", handle, methods=["GET"])

    return [
        route("statements/{meter}/{month}.{kind}", _statement),
        route("disclosures/{meter}", _disclosure),
        route("disputes/{meter}/{session}-{position}.zip", _dispute),
        _payments(settings),
    ]


def _payments(settings: Settings) -> Route:
    """The treasury's payments: they stand on the chain, so nobody has to sign in for them."""

    def work(client: str) -> Response:
        if wait := _public.take(client):
            return refusal(429, "client", "too many files", f"again in {wait} s", wait)
        try:
            text = payments_csv(settings, read_state().now)
        except GridCommonsError as error:
            log.warning("the payments could not be listed: %s", error)
            return refusal(409, "file", "this cannot be read now", "the same later")
        headers = {
            "Cache-Control": "no-store",
            "Content-Disposition": 'attachment; filename="payments.csv"',
        }
        return Response(text.encode(), media_type="text/csv; charset=utf-8", headers=headers)

    async def handle(request: Request) -> Response:
        client = request.client.host if request.client else ""
        return await to_thread.run_sync(work, client, limiter=_threads)

    return Route("/public/v1/payments.csv", handle, methods=["GET"])


def payments_csv(settings: Settings, now: int) -> str:
    """Every payment of the treasury as CSV. CheckFailed where the index is damaged."""
    from dashboard.repositories import house as asking
    from dashboard.services.decided import decisions
    from dashboard.services.treasury import csv_text, ledger

    found = asking.house(settings)
    contract = (settings.deployment or {}).get("Treasury")
    one = ledger(found, purse=None, treasury=contract, now=now)
    return csv_text(one, decisions(found), asking.votes(settings))


async def _handled(request: Request, settings: Settings, make: Callable[[Asked], Made]) -> Response:
    try:
        check_own_page(request)
    except Refused as refused:
        return refused.response()

    def work() -> Response:
        person = identity.person_of(request, settings)
        if person is None:
            return refusal(401, "session", "nobody is signed in", "a browser that is signed in")
        if wait := _asked.take(person.address):
            return refusal(429, "client", "too many files", f"again in {wait} s", wait)
        try:
            meter = whole(request.path_params["meter"], "meter", 32)
            # The index knows who owned it; the chain says who does now.
            mine = meter in person.accounts
            if mine and settings.rpc is not None and settings.deployment is not None:
                mine = OwnData.of(settings).owns(person.address, meter)
            if not mine:
                return refusal(404, *_NOT_YOURS)
            data, name, kind = make(Asked(settings, meter, request))
        except BadUse as error:
            return refusal(422, "path", plain(error), "as the page's own links name it")
        except GridCommonsError as error:
            log.warning("a file could not be made: %s", error)
            said = plain(error)
            if "node" in said or str(settings.home) in said:
                said = "this cannot be read now"
            return refusal(409, "file", f"{said}; nothing was changed", "the same later")
        headers = {
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="{name}"',
        }
        return Response(data, media_type=kind, headers=headers)

    return await to_thread.run_sync(work, limiter=_threads)


def _statement(asked: Asked) -> Made:
    kind = asked.path("kind")
    if kind not in ("pdf", "csv"):
        raise BadUse("a statement is a .pdf or a .csv")
    month = month_of_name(asked.path("month"))
    state = read_state()
    known = sources(asked.settings, state.zone)
    one = statement_of(known, asked.meter, month, state.tariffs, state.now)
    name = f"{statement_files.base_name(one)}.{kind}"
    if kind == "csv":
        text = statement_files.csv_text(one, known.chain_id or 0, known.market or "")
        return text.encode(), name, "text/csv; charset=utf-8"
    locale = language_of(asked.request)
    return statement_files.pdf(one, locale), name, "application/pdf"


def _disclosure(asked: Asked) -> Made:
    from meters.disclosure import document

    first, slots = slots_of_days(_day(asked.query("from")), _day(asked.query("to")))
    data = OwnData.of(asked.settings)
    with_records = asked.query("records") == "1"
    there = [
        row.slot for row in data.committed(asked.meter).rows(asked.meter, first, first + slots)
    ]
    if not there:
        raise BadUse("none of these days is committed yet, or they were erased")
    made = data.disclose(asked.meter, there, with_records=with_records)
    name = f"readings-{asked.meter}-{asked.query('from')}-{asked.query('to')}.json"
    return (json.dumps(document(made), indent=1) + "\n").encode(), name, "application/json"


def _day(text: str) -> date:
    try:
        if not _DAY.fullmatch(text):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise BadUse("a day is written as 2016-06-07") from None


def _dispute(asked: Asked) -> Made:
    from dashboard.repositories.evidence import gather
    from dashboard.services.dispute import package, package_name

    session = whole(asked.path("session"), "session", 40)
    position = whole(asked.path("position"), "position", 16)
    state = read_state()
    known = sources(asked.settings, state.zone)
    found = gather(asked.settings, known, asked.meter, (session, position), state)
    locale = language_of(asked.request)
    return package(found, locale), package_name(found), "application/zip"
