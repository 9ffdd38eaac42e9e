# SPDX-License-Identifier: Apache-2.0
"""`/my-data/v1/...`: grants, their ends, reading under them, the record of who read, erasures.

    POST grants            {grant, signature[, name]}         the owner's ReadGrant
    POST revocations       {meter, grant, signature}          the owner's GrantRevocation
    POST challenges        {grant}                            what the reader signs next
    POST readings          {grant, challenge, signature[, from_slot, to_slot, proof]}
    POST record-challenges {meter}                            what the owner signs next
    POST record            {meter, challenge, signature}      who read, who tried
    POST erasures          {meter, month, deadline, signature}

Who may do what is decided by signatures against the registry's owner of that moment, never by who
is signed in; a session only lets an owner's name for a reader be kept.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from dao.eip712 import checksum_address
from dao.errors import BadUse, CheckFailed, GridCommonsError
from dao.market.session import WALLET_SIGNATURE_BYTES
from dao.relay.limits import Buckets, Rate
from dao.slots import slot_start
from dashboard import identity
from dashboard.errors import plain
from dashboard.repositories.marks import MAX_NAME, marks
from dashboard.repositories.own_data import NoChain, OwnData
from dashboard.routes._guard import Refused, check_own_page, read_json, refusal
from dashboard.services.my_data import grant_of_message, month_of_name, raw, whole
from dashboard.settings import Settings
from meters import granted
from meters.consent import LONGEST, access_data, erasure_digest, record_data
from meters.grants import Access, AccessRefused, Grants, Held
from meters.readings import Reading
from meters.secrets import month_name

log = logging.getLogger(__name__)

MAX_SENT = 32_768
MAX_READ = 31 * 96
MAX_PROVEN = 7 * 96
"""Slots in one answer, and in one with proofs."""
_ERASURE_WAIT_S = 8.0
_RETRY_S = 5
_threads = CapacityLimiter(6)
_sent = Buckets(Rate(burst=60, per_minute=60))
_erasing = threading.Lock()

Answer = Callable[["Call"], Response]


class Call:
    """One request: its settings, its fields, who is signed in, and the home's data."""

    def __init__(self, settings: Settings, body: Mapping[str, Any], mine: tuple[int, ...]) -> None:
        self.settings = settings
        self.body = body
        self.mine = mine
        self.data = OwnData.of(settings)

    @property
    def chain_id(self) -> int:
        return self.data.addresses.chain_id

    def fields(self, needed: set[str], optional: frozenset[str] | set[str] = frozenset()) -> None:
        """BadUse unless the body has just these fields."""
        there = set(self.body)
        if not needed <= there or there - needed - optional:
            raise BadUse(f"the fields are {', '.join(sorted(needed | optional))}")

    @property
    def meter(self) -> int:
        return whole(self.body["meter"], "meter", 32)

    @property
    def signature(self) -> bytes:
        return raw(self.body["signature"], "signature", most=WALLET_SIGNATURE_BYTES)

    def word(self, name: str) -> bytes:
        return raw(self.body[name], name, 32)


def routes(settings: Settings) -> list[BaseRoute]:
    """The routes for the deployment that `settings` name."""
    answers: dict[str, Answer] = {
        "grants": _grant,
        "revocations": _revoke,
        "challenges": _challenge,
        "readings": _read,
        "record-challenges": _record_challenge,
        "record": _record,
        "erasures": _erase,
    }

    def route(name: str, answer: Answer) -> Route:
        async def handle(request: Request) -> Response:
            return await _handled(request, settings, answer)

        return Route(f"/my-data/v1/{name}", handle, methods=["POST"])

    return [route(name, answer) for name, answer in answers.items()]


async def _handled(request: Request, settings: Settings, answer: Answer) -> Response:
    client = request.client.host if request.client else "unknown"
    try:
        check_own_page(request)
        if wait := _sent.take(client):
            return refusal(429, "client", "too many requests", f"again in {wait} s", wait)
        body = await read_json(request, MAX_SENT)
        if not isinstance(body, dict):
            raise Refused(422, "body", "not an object", "the fields that the documentation names")
    except Refused as refused:
        return refused.response()
    if _threads.available_tokens < 1:
        return refusal(503, "my-data", "too many at once", "the same again", 1)

    def work() -> Response:
        try:
            person = identity.person_of(request, settings)
            return answer(Call(settings, body, person.accounts if person else ()))
        except Refused as refused:
            return refused.response()
        except NoChain:
            return refusal(503, "chain", "no market is known here", "the same later", _RETRY_S)
        except BadUse as error:
            return refusal(422, "body", plain(error), "as docs/privacy.md describes it")
        except AccessRefused as error:
            return refusal(403, "grant", f"{error}; nothing was given out", "a grant that holds")
        except GridCommonsError as error:
            return _failed(settings, error)

    return await to_thread.run_sync(work, limiter=_threads)


def _failed(settings: Settings, error: GridCommonsError) -> Response:
    """Something of ours said no, or could not be asked. The whole text may name files and
    addresses of this machine: it stays in the log."""
    log.warning("my-data: %s", error)
    said = plain(error)
    if "node" in said or str(settings.home) in said:
        problem = "this cannot be checked now; nothing was changed, and sending it again is safe"
        return refusal(503, "my-data", problem, "the same again, later", _RETRY_S)
    return refusal(403, "my-data", f"{said}; nothing was changed", "what the owner signs")


def _json(body: Any, status: int = 200) -> JSONResponse:
    return JSONResponse(body, status, {"Cache-Control": "no-store"})


# What owners do


def _grant(call: Call) -> Response:
    call.fields({"grant", "signature"}, {"name"})
    given = grant_of_message(call.body["grant"])
    name = call.body.get("name", "")
    if not isinstance(name, str) or len(name) > 4 * MAX_NAME:
        raise BadUse(f"name is a text of at most {MAX_NAME} characters")
    with call.data.grants() as store:
        number = given.digest(call.data.separator)
        new = all(one.id != number for one in store.of_meter(given.meter))
        held = store.add(given, call.signature, call.data.node.now())
    # The name is not signed, so only the owner's own browser may give one.
    if name and given.meter in call.mine:
        marks(call.settings).name(given.meter, checksum_address(given.reader), name)
    return _json({"id": "0x" + held.id.hex(), "state": "received"}, 201 if new else 200)


def _revoke(call: Call) -> Response:
    call.fields({"meter", "grant", "signature"})
    number = call.word("grant")
    with call.data.grants() as store:
        store.revoke(call.meter, number, call.signature, call.data.node.now())
    return _json({"id": "0x" + number.hex(), "state": "revoked"})


def _record_challenge(call: Call) -> Response:
    call.fields({"meter"})
    call.data.zone(call.meter)
    with call.data.grants() as store:
        made = store.owner_challenge(call.meter, call.data.node.now())
    document = record_data(call.meter, made, call.chain_id, call.data.registry)
    return _json({"challenge": "0x" + made.hex(), "typed_data": document})


def _record(call: Call) -> Response:
    call.fields({"meter", "challenge", "signature"})
    with call.data.grants() as store:
        found = store.accesses_for_owner(
            call.meter, call.word("challenge"), call.signature, call.data.node.now()
        )
    newest = [_access(one) for one in reversed(found[-1_000:])]
    return _json({"meter": call.meter, "accesses": newest})


def _access(one: Access) -> dict[str, Any]:
    return {
        "grant": "0x" + one.grant.hex(),
        "reader": checksum_address(one.reader),
        "outcome": one.outcome.value,
        "first_slot": one.first_slot,
        "end_slot": one.end_slot,
        "slots": one.slots,
        "at": one.at,
        "last_at": one.last_at,
        "times": one.times,
    }


def _erase(call: Call) -> Response:
    """Erase a month; what takes longer than a moment goes on after the answer."""
    call.fields({"meter", "month", "deadline", "signature"})
    data, meter, now = call.data, call.meter, call.data.node.now()
    month = month_of_name(call.body["month"])
    deadline = whole(call.body["deadline"], "deadline")
    if not now < deadline <= now + LONGEST:
        raise BadUse("the signature is too old, or good for more than a week: nothing was erased")
    data.zone(meter)
    digest = erasure_digest(data.separator, meter, month, deadline)
    if not data.signed_by_owner(meter, digest, call.signature):
        raise CheckFailed(f"the erasure is not signed by the owner of meter {meter}")
    told = {"meter": meter, "month": month_name(month)}
    before = data.erasure(meter, month)
    if before is not None and before.finished_at is not None:
        return _json({**told, "state": "done"})
    try:
        zone = data.check_final(meter, month, now)
    except (BadUse, CheckFailed) as error:
        if re.search("node|answer", plain(error)):
            raise
        problem = f"{plain(error)}; nothing was erased, everything is where it was"
        return refusal(409, "month", problem, "the same later, signed anew")
    if not _erasing.acquire(blocking=False):
        problem = "another erasure is running; nothing of this month was erased yet"
        return refusal(409, "month", problem, "the same again, in a few minutes", 60)
    done: list[Mapping[str, Any]] = []

    def work() -> None:
        try:
            found = data.erase(zone, meter, month, now)
            done.append({"files": found.files, "inbox": found.inbox, "relay": found.relay})
        except GridCommonsError as error:
            log.warning("an erasure broke off: %s", error)
        finally:
            _erasing.release()

    # No daemon: a server that stops lets what was begun end.
    thread = threading.Thread(target=work, name="erasure")
    thread.start()
    thread.join(_ERASURE_WAIT_S)
    if done:
        return _json({**told, "state": "done", **done[0]}, 201)
    if thread.is_alive():
        return _json({**told, "state": "running"}, 202)
    problem = "the erasure broke off; what is erased stays erased, signing again completes it"
    return refusal(503, "month", problem, "the same again, signed anew", _RETRY_S)


# What readers do


def _challenge(call: Call) -> Response:
    call.fields({"grant"})
    number = call.word("grant")
    with call.data.grants() as store:
        held = _known(store, number)
        made = store.challenge(number, call.data.node.now())
    document = access_data(number, made, call.chain_id, call.data.registry)
    given = held.grant
    return _json(
        {
            "challenge": "0x" + made.hex(),
            "typed_data": document,
            "meter": given.meter,
            "from_slot": given.from_slot,
            "to_slot": given.to_slot,
            "expires": given.expires,
        }
    )


def _known(store: Grants, number: bytes) -> Held:
    try:
        return store.get(number)
    except CheckFailed:
        raise Refused(404, "grant", "there is no such grant", "the id of a grant") from None


def _read(call: Call) -> Response:
    call.fields({"grant", "challenge", "signature"}, {"from_slot", "to_slot", "proof"})
    number = call.word("grant")
    proof = call.body.get("proof", False)
    if not isinstance(proof, bool):
        raise BadUse("proof is true or false")
    asked = [
        None if call.body.get(name) is None else whole(call.body[name], name, 40)
        for name in ("from_slot", "to_slot")
    ]
    with call.data.grants() as store:
        held = _known(store, number)
        first = held.grant.from_slot if asked[0] is None else asked[0]
        end = held.grant.to_slot if asked[1] is None else asked[1]
        most = MAX_PROVEN if proof else MAX_READ
        if end - first > most:
            raise BadUse(f"an answer has at most {most} slots: name from_slot and to_slot")
        now = call.data.node.now()
        committed = call.data.committed(held.grant.meter)
        request = granted.Request(number, call.word("challenge"), call.signature, *asked)
        if not proof:
            rows = granted.read_under(store, committed, request, now)
            return _json({"meter": held.grant.meter, "readings": [_row(one) for one in rows]})
        from meters.disclosure import document

        with call.data.secrets() as secrets:
            made = granted.disclose_under(
                store, committed, request, now, secrets, call.data.addresses
            )
        return _json(document(made))


def _row(one: Reading) -> dict[str, Any]:
    return {
        "slot": one.slot,
        "start": f"{slot_start(one.slot):%Y-%m-%dT%H:%M:%SZ}",
        "import_wh": one.import_wh,
        "export_wh": one.export_wh,
        "quality": one.quality.name.lower(),
    }
