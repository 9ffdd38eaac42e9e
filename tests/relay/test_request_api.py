# SPDX-License-Identifier: Apache-2.0
"""Requests over HTTP: what is answered, in which shape, to friendly and to hostile clients."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dao.relay.api import Limits
from dao.relay.kinds import RULES
from dao.relay.limits import Rate
from dao.relay.request_intake import fields_of
from dao.relay.request_store import Kind
from dao.relay.service import run_round
from tests.relay.conftest import DEPOSIT, Lane, Street, lane_on
from tests.relay.signing import sign, wanted
from tests.relay.test_api import UNLIMITED, WIDE, Client, error_of, serving

EURO = 1_000_000
PAYEE = "0x00000000000000000000000000000000000000EE"
WITHDRAWAL = {"account": 1, "amount": EURO, "to": PAYEE}
OPEN = replace(UNLIMITED, signer=WIDE)


@pytest.fixture
def client(lane: Lane) -> Iterator[Client]:
    with serving(lane, OPEN) as made:
        yield made


@pytest.fixture(scope="module")
def shared(street: Street, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """One server for the tests that change nothing."""
    with lane_on(*street, tmp_path_factory.mktemp("shared")) as lane, serving(lane, OPEN) as made:
        yield made


def test_a_resident_withdraws_over_http(client: Client) -> None:
    lane = client.lane
    status, document = client.post("/v1/typed-data/withdrawal", WITHDRAWAL)
    assert status == 200
    body = {
        **fields_of(Kind.WITHDRAWAL, document),
        "signature": sign(document, lane.owners[0]),
    }
    status, taken = client.post("/v1/withdrawals", body)
    assert (status, taken["state"]) == (201, "received")
    assert client.post("/v1/withdrawals", body) == (200, taken)
    run_round(lane.relay)
    status, shown = client.get(f"/v1/requests/{taken['id']}")
    assert (status, shown["state"], shown["kind"]) == (200, "done", "withdrawal")
    assert (shown["account"], shown["fields"]["amount"]) == (1, EURO)
    assert shown["received_at"] <= shown["sent_at"]
    assert lane.balance(1) == DEPOSIT - EURO
    assert client.post("/v1/withdrawals", body) == (200, {**taken, "state": "done"})


def test_the_account_shows_what_a_waiting_request_takes(client: Client) -> None:
    lane = client.lane
    client.post("/v1/withdrawals", wanted(lane.relay, Kind.WITHDRAWAL, WITHDRAWAL, lane.owners[0]))
    _, account = client.get("/v1/accounts/1")
    assert (account["balance"], account["available"]) == (DEPOSIT, DEPOSIT - EURO)
    assert account["nonces"][0] == 1


def test_an_accounts_requests_and_orders_come_in_pages(client: Client) -> None:
    lane = client.lane
    who = lane.owners[0]
    for nonce in range(5):
        assert client.post("/v1/orders", lane.document(lane.order(1, nonce=nonce)))[0] == 201
        revoked = wanted(lane.relay, Kind.REVOCATION, {"account": 1, "nonce": 8 + nonce}, who)
        assert client.post("/v1/revocations", revoked)[0] == 201
    for what in ("orders", "requests"):
        seen: list[str] = []
        path = f"/v1/accounts/1/{what}?limit=2"
        following: int | None = 0
        while following is not None:
            status, page = client.get(path + (f"&before={following}" if following else ""))
            assert status == 200
            assert len(page[what]) <= 2
            seen += [one["id"] for one in page[what]]
            following = page["next"]
        assert len(seen) == len(set(seen)) == 5
    assert client.get("/v1/accounts/2/requests") == (200, {"requests": [], "next": None})


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "before=0", "before=x", "limit=1e9"])
def test_a_page_is_bounded(shared: Client, query: str) -> None:
    for what in ("orders", "requests"):
        status, document = shared.get(f"/v1/accounts/1/{what}?{query}")
        assert (status, error_of(document)) == (422, query.partition("=")[0])


def test_an_unknown_request_is_not_found(shared: Client) -> None:
    status, document = shared.get("/v1/requests/0x" + "00" * 32)
    assert (status, error_of(document)) == (404, "request")


def test_an_order_can_be_looked_at_before_it_is_signed(client: Client) -> None:
    lane = client.lane
    fields = lane.document(lane.order(1))
    for name in ("signature", "nonce", "expiry"):
        del fields[name]
    status, found = client.post("/v1/outlook/order", fields)
    assert (status, found["problems"]) == (200, [])
    assert (found["order"]["nonce"], found["order"]["expiry"]) == (0, found["outlook"]["gate"])
    status, typed = client.post("/v1/typed-data/order", fields)
    assert status == 200
    body = {**found["order"], "signature": sign(typed, lane.owners[0])}
    status, taken = client.post("/v1/orders", body)
    assert status == 201
    assert taken["outlook"] == found["outlook"]
    _, again = client.post("/v1/outlook/order", fields)
    assert again["order"]["nonce"] == 1
    _, poor = client.post("/v1/outlook/order", {**fields, "wh": 60_000, "limit": 60_000})
    assert poor["outlook"] is None
    assert "limit" in [problem["field"] for problem in poor["problems"]]


def test_who_signs_too_much_has_to_wait_and_nobody_else(lane: Lane) -> None:
    limits: Limits = replace(OPEN, signer=Rate(burst=2, per_minute=1))
    with serving(lane, limits) as client:
        for nonce in (3, 4, 5):
            for account in (1, 2) if nonce == 3 else (1,):
                body = wanted(
                    lane.relay,
                    Kind.REVOCATION,
                    {"account": account, "nonce": nonce},
                    lane.owners[account - 1],
                )
                status, answer = client.post("/v1/revocations", body)
                assert status == (429 if nonce == 5 else 201)
        assert error_of(answer) == "signature"
        assert answer["retry_after"] > 0
        # Forged ones do not use up the second owner's.
        for _ in range(5):
            client.post("/v1/revocations", {**body, "account": 2})
        good = wanted(lane.relay, Kind.REVOCATION, {"account": 2, "nonce": 9}, lane.owners[1])
        assert client.post("/v1/revocations", good)[0] == 201


SAMPLES: dict[str, Any] = {
    "account": 1,
    "nonce": 0,
    "amount": EURO,
    "to": PAYEE,
    "deadline": 2_000_000_000,
    "number": 1,
    "agent": PAYEE,
    "side": "bid",
    "limit": 100,
    "daily_cap": 100_000,
    "last_day": 20_000,
    "proposal": "0x" + "11" * 32,
    "voter": PAYEE,
    "support": "for",
    "veto": False,
    "reason": "",
    "delegator": PAYEE,
    "delegatee": PAYEE,
    "expiry": 2_000_000_000,
    "signature": "0x" + "11" * 64 + "1b",
}
odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**31, max_value=2**300),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=80),
    st.sampled_from(
        ["0x", "0x" + "00" * 20, "0x" + "f" * 41, "\ud800", "é" * 600, "0x" + "1" * 65]
    ),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@st.composite
def hostile(draw: st.DrawFn) -> tuple[str, Any]:
    """A path, and a body that is nearly right or not at all."""
    rule = RULES[draw(st.sampled_from(list(Kind)))]
    typed = draw(st.booleans())
    path = f"/v1/typed-data/{rule.typed_as}" if typed else f"/v1/{rule.plural}"
    names = [*rule.fields] + ([] if typed else ["signature"])
    body: Any = {name: SAMPLES[name] for name in names}
    for name in draw(st.lists(st.sampled_from([*names, "extra"]), max_size=3)):
        if draw(st.booleans()):
            body.pop(name, None)
        else:
            body[name] = draw(odd)
    return path, draw(st.just(body) | st.just(body) | odd)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(hostile())
def test_no_body_makes_the_relay_fail(shared: Client, sent: tuple[str, Any]) -> None:
    path, document = sent
    status, body, _ = shared.raw("POST", path, json.dumps(document).encode())
    answer = json.loads(body)
    assert status in ((200, 422) if "typed-data" in path else (400, 422)), answer
    if status != 200:
        error_of(answer)
        assert len(body) < 20_000
    assert not shared.lane.relay.store.requests.live()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"account": 1, "account": 1}'])
def test_what_is_no_request_is_refused(shared: Client, body: bytes) -> None:
    for path in ("/v1/withdrawals", "/v1/typed-data/permit"):
        status, answer, _ = shared.raw("POST", path, body)
        assert status in (400, 422)
        error_of(json.loads(answer))


def test_a_form_of_a_foreign_page_is_refused(shared: Client) -> None:
    status, _, _ = shared.raw("POST", "/v1/withdrawals", b"{}", {"Content-Type": "text/plain"})
    assert status == 415
