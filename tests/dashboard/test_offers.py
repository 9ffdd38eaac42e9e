# SPDX-License-Identifier: Apache-2.0
"""`/agent/v1/offers` on a real node: whose signature is taken, and whose offers are shown."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from dao.processes import free_port
from dao.relay.limits import Buckets, Rate
from dao.relay.service import listen
from dashboard import identity
from dashboard.identity import Person
from dashboard.routes import offers as route
from dashboard.settings import Settings
from forecasting.agent.offers import StandingOffer, offer_digest, typed_data
from tests.forecasting.agent.conftest import BUYER, SELLER, SELLS, Village, lane, past, street
from tests.forecasting.agent.conftest import village as village

__all__ = ["lane", "past", "street", "village"]  # fixtures

WIDE = Rate(burst=10**6, per_minute=10**6)


class Desk:
    """The route served over HTTP, and what a wallet would send to it."""

    def __init__(self, village: Village, url: str) -> None:
        self.village = village
        self.url = url + "/agent/v1/offers"

    def body(self, offer: StandingOffer = SELLS, by: int | None = None) -> dict[str, Any]:
        held = self.village.sign(offer, by)
        chain_id = self.village.lane.chain.chain_id
        document = typed_data(chain_id, self.village.market, offer)
        return {"document": document, "signature": "0x" + held.signature.hex()}

    def post(self, body: Any, **headers: str) -> requests.Response:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **headers}
        return requests.post(self.url, data=text, headers=sent, timeout=20)


@pytest.fixture
def desk(village: Village, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    for name in ("_sent", "_signed"):
        monkeypatch.setattr(route, name, Buckets(WIDE))
    known = Settings(
        home=village.folder,
        rpc=village.lane.chain.url,
        relay=village.url,
        chain_id=village.lane.chain.chain_id,
        deployment={
            name: village.lane.deployment[name].address
            for name in ("EnergyMarket", "MeterRegistry")
        },
        local=True,
    )
    app = Starlette(routes=route.routes(known))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    port = free_port()
    listener = listen("127.0.0.1", port)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield Desk(village, f"http://127.0.0.1:{port}")
    server.should_exit = True
    thread.join(10)


def test_an_owners_offer_is_kept_and_the_same_again_does_no_harm(desk: Desk) -> None:
    assert desk.post(desk.body()).status_code == 201
    again = desk.post(desk.body())
    assert (again.status_code, again.json()["version"]) == (200, 1)
    (held,) = desk.village.store.in_force()
    assert held.offer == SELLS
    assert held.id == offer_digest(desk.village.lane.chain.chain_id, desk.village.market, SELLS)
    assert held.received_at == desk.village.now


def test_an_offer_of_somebody_else_is_not_taken(desk: Desk) -> None:
    assert desk.post(desk.body(by=BUYER)).status_code == 403
    assert desk.post(desk.body(replace(SELLS, account=999), by=BUYER)).status_code == 403
    swapped = {**desk.body(), "signature": desk.body(replace(SELLS, limit=1))["signature"]}
    assert desk.post(swapped).status_code == 403
    assert desk.village.store.in_force() == []


def test_an_old_version_is_refused_and_a_withdrawal_holds(desk: Desk) -> None:
    second = replace(SELLS, version=2, withdrawn=True)
    assert desk.post(desk.body()).status_code == 201
    assert desk.post(desk.body(second)).status_code == 201
    assert desk.post(desk.body()).status_code == 200  # known, and no longer the newest
    refused = desk.post(desk.body(replace(SELLS, limit=1)))
    assert (refused.status_code, refused.json()["error"]["field"]) == (409, "version")
    assert desk.village.store.in_force() == []


def test_another_page_cannot_send_and_no_form_can(desk: Desk) -> None:
    body = desk.body()
    assert desk.post(body, Origin="https://evil.example").status_code == 403
    assert desk.post(body, **{"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert desk.post(body, **{"Content-Type": "text/plain"}).status_code == 415
    assert desk.post(b"[" * 10_000).status_code == 400
    assert desk.post(b" " * 20_000).status_code == 413


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=12),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=9), inside),
    max_leaves=8,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(json_values, st.sampled_from(["", "document", "signature", "message"]))
def test_nonsense_is_refused_and_never_a_fault(desk: Desk, value: Any, place: str) -> None:
    body: Any = desk.body()
    if place == "message":
        body["document"]["message"] = value
    elif place:
        body[place] = value
    else:
        body = value
    answer = desk.post(body)
    assert answer.status_code in (403, 422), answer.text
    assert set(answer.json()["error"]) == {"field", "problem", "accepted"}


def test_who_sends_too_much_has_to_wait(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "_signed", Buckets(Rate(burst=1, per_minute=1)))
    assert desk.post(desk.body()).status_code == 201
    assert desk.post(desk.body()).status_code == 200
    late = desk.post(desk.body(replace(SELLS, version=2)))
    assert late.status_code == 429
    assert int(late.headers["Retry-After"]) > 0


def test_offers_are_shown_to_their_owner_only(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.post(desk.body())
    assert requests.get(desk.url, timeout=20).status_code == 401
    for account, count in ((SELLER, 1), (BUYER, 0)):
        person = Person("0x" + "11" * 20, (account,))
        monkeypatch.setattr(identity, "person_of", lambda *_, who=person: who)
        answer = requests.get(f"{desk.url}?account={SELLER}", timeout=20).json()
        assert [one["account"] for one in answer["accounts"]] == [account]
        assert len(answer["accounts"][0]["offers"]) == count


def test_while_the_node_is_away_it_is_said_so(desk: Desk) -> None:
    gone = Settings(
        home=desk.village.folder,
        rpc=f"http://127.0.0.1:{free_port()}",
        chain_id=desk.village.lane.chain.chain_id,
        deployment={"EnergyMarket": desk.village.market, "MeterRegistry": desk.village.market},
    )
    answer = route._take(gone, desk.body())
    assert answer.status_code == 503
    assert b"127.0.0.1" not in answer.body
    assert route._take(Settings(home=desk.village.folder), desk.body()).status_code == 503
