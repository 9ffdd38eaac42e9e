# SPDX-License-Identifier: Apache-2.0
"""`/agent/v1/offers`: takes signed standing offers, and shows a signed-in person their own.

What an offer is, and where it is kept, is `forecasting.agent`'s. A signature by the account's owner
is all that is asked of whoever sends one: a wallet may deliver it after its person signed out.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from dao.errors import BadUse, CheckFailed, GridCommonsError
from dao.market.session import WALLET_SIGNATURE_BYTES
from dao.node import Node
from dao.relay.limits import Buckets, Rate
from dashboard import identity
from dashboard.routes._guard import Refused, read_json, refusal
from dashboard.settings import Settings
from forecasting.agent.offers import StandingOffer, from_typed_data, offer_digest
from forecasting.agent.store import Deed, HeldOffer, OfferStore

log = logging.getLogger(__name__)

_SIGNATURE = re.compile(rf"0x(?:[0-9a-fA-F]{{2}}){{1,{WALLET_SIGNATURE_BYTES}}}", re.ASCII)
MAX_SENT = 16_384
MAX_DEEDS = 100
_RETRY_S = 5
# Each question holds a thread while the node answers.
_threads = CapacityLimiter(8)
# By account only what its owner signed counts, so that nobody uses up what is another's.
_sent = Buckets(Rate(burst=30, per_minute=30))
_signed = Buckets(Rate(burst=20, per_minute=6))


def routes(settings: Settings) -> list[BaseRoute]:
    """The route for the deployment that `settings` name."""

    async def take(request: Request) -> Response:
        try:
            document = await read_json(request, MAX_SENT)
        except Refused as refused:
            return refused.response()
        client = request.client.host if request.client else "unknown"
        if wait := _sent.take(client):
            return refusal(429, "client", "too many offers", f"again in {wait} s", wait)
        if _threads.available_tokens < 1:
            return refusal(503, "agent", "too many at once", "the same again", 1)
        return await to_thread.run_sync(_take, settings, document, limiter=_threads)

    async def show(request: Request) -> Response:
        person = await to_thread.run_sync(identity.person_of, request, settings, limiter=_threads)
        if person is None:
            return refusal(401, "session", "nobody is signed in", "a browser that is signed in")
        return await to_thread.run_sync(_show, settings, person.accounts, limiter=_threads)

    path = "/agent/v1/offers"
    return [Route(path, take, methods=["POST"]), Route(path, show, methods=["GET"])]


def _take(settings: Settings, document: Any) -> Response:
    if settings.rpc is None or settings.deployment is None or settings.chain_id is None:
        return refusal(503, "chain", "no market is known here", "the same later", _RETRY_S)
    if not isinstance(document, Mapping) or set(document) != {"document", "signature"}:
        return refusal(422, "body", "not a signed offer", "document and signature")
    signature = document["signature"]
    if not isinstance(signature, str) or not _SIGNATURE.fullmatch(signature):
        return refusal(422, "signature", "not a signature in hex", "what the wallet gave")
    try:
        market = settings.deployment["EnergyMarket"]
        offer = from_typed_data(settings.chain_id, market, document["document"])
        number = offer_digest(settings.chain_id, market, offer)
        return _keep(settings, offer, number, bytes.fromhex(signature[2:]))
    except BadUse as error:
        return refusal(422, "document", str(error), "the offer as this page makes it")
    except (GridCommonsError, KeyError) as error:
        # The text may name the node's address, with a key in it: it stays here.
        log.warning("an offer could not be taken: %s", error)
        problem = "the offer cannot be checked now; nothing is lost, and sending it again is safe"
        return refusal(503, "chain", problem, "the same again, later", _RETRY_S)


def _keep(settings: Settings, offer: StandingOffer, number: bytes, signature: bytes) -> Response:
    """Ask the chain who may say so, and keep the offer."""
    from forecasting.agent.follow import vouched

    assert settings.rpc is not None
    assert settings.deployment is not None
    node = Node(settings.rpc)
    registry = settings.deployment["MeterRegistry"]
    owner, _ = node.view(registry, "metering_point(uint256)", offer.account)
    if not owner or not vouched(node, owner, number, signature):
        return refusal(
            403, "signature", "not by the account's owner, or over other values", "the owner's"
        )
    with OfferStore(settings.home / "offers.sqlite") as store:
        if not store.knows(number) and (wait := _signed.take(offer.account)):
            return refusal(429, "account", "too many offers", f"again in {wait} s", wait)
        try:
            new = store.put(HeldOffer(number, offer, signature, node.now()))
        except BadUse as error:
            return refusal(409, "version", str(error), "an offer made after the newest one")
    told = {"id": "0x" + number.hex(), "version": offer.version, "state": "received"}
    return JSONResponse(told, 201 if new else 200, {"Cache-Control": "no-store"})


def _show(settings: Settings, accounts: tuple[int, ...]) -> Response:
    path = settings.home / "offers.sqlite"
    found = []
    try:
        if path.exists():
            with OfferStore(path) as store:
                found = [_account(store, account) for account in accounts]
    except CheckFailed as error:
        log.warning("offers cannot be shown: %s", error)
        return refusal(503, "agent", "the offers cannot be read", "the same later", _RETRY_S)
    return JSONResponse({"accounts": found}, headers={"Cache-Control": "no-store"})


def _account(store: OfferStore, account: int) -> dict[str, Any]:
    offers = [
        {"id": "0x" + one.id.hex(), "received_at": one.received_at, **one.offer.as_dict()}
        for one in store.history(account)
    ]
    done = [_deed(one) for one in store.deeds(account, MAX_DEEDS)]
    return {"account": account, "offers": offers, "done": done}


def _deed(deed: Deed) -> dict[str, Any]:
    return {
        "side": deed.side,
        "session": deed.session,
        "version": deed.version,
        "state": str(deed.state),
        "reason": deed.code,
        "facts": dict(deed.facts),
        "at": deed.at,
        "order": None if deed.order_id is None else "0x" + deed.order_id.hex(),
    }
