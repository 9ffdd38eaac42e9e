# SPDX-License-Identifier: Apache-2.0
"""The API over a real server on a real port: what a client sends, and what it gets back."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dao.eip712 import checksum_address
from dao.processes import free_port
from dao.relay import promise
from dao.relay.api import Limits, create_app
from dao.relay.kinds import RULES
from dao.relay.limits import Buckets, Rate
from dao.relay.posting import post_due
from dao.relay.promise import Verdict
from dao.relay.service import listen
from tests.relay.conftest import (
    DAY_SLOT,
    GATE,
    HOUR,
    MIDNIGHT,
    SLOTS,
    ZONE,
    Lane,
    Street,
    as_promise,
    lane_on,
)

JSON = {"Content-Type": "application/json"}
# Other tests than those of the limits must not meet them.
WIDE = Rate(burst=10**6, per_minute=10**6)
UNLIMITED = Limits(account=WIDE, refused=WIDE, reads=WIDE, streams_per_client=64)


class Client:
    """Talks to the server as any program would."""

    def __init__(self, lane: Lane, port: int) -> None:
        self.lane = lane
        self.port = port

    def raw(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] = JSON
    ) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            sent = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, answer.read(), sent
        finally:
            connection.close()

    def get(self, path: str) -> tuple[int, Any]:
        status, body, _ = self.raw("GET", path)
        return status, json.loads(body)

    def post(self, path: str, document: Any) -> tuple[int, Any]:
        status, body, _ = self.raw("POST", path, json.dumps(document).encode())
        return status, json.loads(body)

    def flush(self) -> None:
        """Post what waits, as the posting thread would."""
        relay = self.lane.relay
        now = relay.chain.now()
        post_due(relay.store, relay.market, relay.account, ZONE, now, relay.pace, flush=True)


@contextmanager
def serving(lane: Lane, limits: Limits) -> Iterator[Client]:
    stopping = threading.Event()
    port = free_port()
    app = create_app(lane.relay, limits, stopping=stopping.is_set)
    config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    listener = listen("127.0.0.1", port)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield Client(lane, port)
    finally:
        stopping.set()
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def client(lane: Lane) -> Iterator[Client]:
    with serving(lane, UNLIMITED) as made:
        yield made


@pytest.fixture(scope="module")
def shared(street: Street, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """One server for the tests that change nothing."""
    folder = tmp_path_factory.mktemp("shared")
    with lane_on(*street, folder) as lane, serving(lane, UNLIMITED) as made:
        yield made


def error_of(document: Any) -> str:
    """The field of an error, whose shape is checked in passing."""
    assert set(document["error"]) == {"field", "problem", "accepted"}
    assert all(document["error"].values())
    return str(document["error"]["field"])


# Orders


def test_an_order_is_signed_submitted_promised_posted_and_the_promise_kept(client: Client) -> None:
    lane = client.lane
    order = lane.order(1)
    status, taken = client.post("/v1/orders", lane.document(order))
    assert (status, taken["state"]) == (201, "received")
    assert taken["outlook"]["escrow"] == 150_000
    made = as_promise(taken["promise"])
    signature = bytes.fromhex(taken["promise"]["signature"][2:])
    signer = promise.signer(lane.chain.chain_id, made, signature)
    assert signer == taken["promise"]["relay"] == lane.relay.account.address
    assert promise.verdict(made, lane.relay.market, ZONE) is Verdict.NOT_YET_DUE

    client.flush()
    assert promise.verdict(made, lane.relay.market, ZONE) is Verdict.KEPT
    status, now = client.get(f"/v1/orders/{taken['id']}")
    assert (status, now["state"], now["reason"]) == (200, "accepted", None)
    assert [step["step"] for step in now["steps"]] == ["received", "posted", "accepted", "gate"]
    assert now["order"] == {
        key: value for key, value in lane.document(order).items() if key != "signature"
    }


def test_the_same_order_again_is_answered_with_the_same_promise(client: Client) -> None:
    document = client.lane.document(client.lane.order(1))
    first = client.post("/v1/orders", document)
    again = client.post("/v1/orders", document)
    assert (first[0], again[0]) == (201, 200)
    assert again[1] == {**first[1], "outlook": None}


def test_many_orders_are_judged_each_alone(client: Client) -> None:
    lane = client.lane
    good = lane.document(lane.order(1))
    bad = lane.document(lane.order(2), limit="cheap", wh=0)
    status, answer = client.post("/v1/orders", {"orders": [bad, good]})
    assert status == 200
    refused, taken = answer["results"]
    assert error_of(refused) == "limit"
    assert [problem["field"] for problem in refused["problems"]] == ["limit", "wh"]
    assert taken["state"] == "received"


def test_a_refused_order_names_the_field_and_what_would_be_accepted(client: Client) -> None:
    lane = client.lane
    status, answer = client.post("/v1/orders", lane.document(lane.order(1, nonce=400)))
    assert (status, error_of(answer)) == (422, "nonce")
    assert answer["error"]["accepted"].startswith("one of 0, 1, 2")


def test_a_cleared_and_settled_order_shows_its_last_steps(client: Client) -> None:
    lane = client.lane
    _, taken = client.post("/v1/orders", lane.document(lane.order(1)))
    client.flush()
    lane.at(-HOUR)
    lane.clear()
    _, now = client.get(f"/v1/orders/{taken['id']}")
    assert [step["step"] for step in now["steps"]][-1] == "cleared"


def test_a_wallet_signs_what_the_typed_data_says_and_the_relay_takes_it(client: Client) -> None:
    from eth_account import Account as Signer

    lane = client.lane
    fields = lane.document(lane.ask(1, wh=(10, 0, 400), count=3))
    del fields["signature"]
    status, typed = client.post("/v1/typed-data/order", fields)
    assert status == 200
    signed = Signer.sign_typed_data(lane.owners[0].key, full_message=typed)
    document = {**fields, "signature": "0x" + signed.signature.hex()}
    assert client.post("/v1/orders", document)[0] == 201
    status, answer = client.post("/v1/typed-data/order", {**fields, "side": "both"})
    assert (status, error_of(answer)) == (422, "side")


# What is shown


def test_an_account_shows_what_it_can_use_next(client: Client) -> None:
    lane = client.lane
    _, taken = client.post("/v1/orders", lane.document(lane.order(1, nonce=1)))
    status, account = client.get("/v1/accounts/1")
    assert status == 200
    assert account["owner"] == checksum_address(lane.owners[0].address)
    assert (account["balance"], account["available"]) == (100_000_000, 100_000_000 - 150_000)
    assert account["nonces"][:2] == [0, 2]
    assert account["waiting"] == [taken["id"]]


def test_the_next_gates_are_shown_with_what_waits(client: Client) -> None:
    client.post("/v1/orders", client.lane.document(client.lane.order(1)))
    status, answer = client.get(f"/v1/zones/{ZONE}/sessions")
    assert status == 200
    assert answer["now"] == MIDNIGHT - 12 * HOUR
    (session,) = [one for one in answer["sessions"] if one["first_slot"] == DAY_SLOT]
    assert (session["gate"], session["orders_until"]) == (GATE, GATE - 120)
    assert (session["slots"], session["waiting"], session["orders"]) == (SLOTS, 1, 0)


def test_the_book_shows_depth_without_names_and_the_orders_as_posted(client: Client) -> None:
    lane = client.lane
    client.post("/v1/orders", lane.document(lane.ask(1)))
    client.flush()
    client.post("/v1/orders", lane.document(lane.order(2)))
    path = f"/v1/zones/{ZONE}/sessions/{DAY_SLOT}"
    _, book = client.get(f"{path}/book")
    assert len(book["slots"]) == SLOTS
    assert book["slots"][0] == {
        "slot": DAY_SLOT,
        "bids": [{"price": 300, "posted_wh": 0, "waiting_wh": 500}],
        "asks": [{"price": 100, "posted_wh": 500, "waiting_wh": 0}],
    }
    assert "account" not in json.dumps(book)
    _, posted = client.get(f"{path}/orders")
    assert [order["side"] for order in posted["orders"]] == ["ask"]


def test_health_counts_orders_and_broken_promises(client: Client) -> None:
    client.post("/v1/orders", client.lane.document(client.lane.order(1)))
    status, health = client.get("/v1/health")
    assert (status, health["status"], health["broken_promises"]) == (200, "ok", 0)
    assert health["waiting_since"] == MIDNIGHT - 12 * HOUR
    client.lane.at(-HOUR)
    client.flush()
    assert client.get("/v1/health")[1]["broken_promises"] == 1


def test_a_relay_that_cannot_pay_much_longer_says_so(client: Client) -> None:
    client.lane.chain.rpc("anvil_setBalance", client.lane.relay.account.address, "0x1")
    _, health = client.get("/v1/health")
    assert health["status"] == "degraded"
    assert "0 more batches" in health["problems"][0]


def test_a_receipt_is_taken_once_and_a_second_one_kept_as_evidence(client: Client) -> None:
    lane = client.lane
    lane.at(6 * HOUR)
    first, second = lane.receipt(2, [500] * SLOTS), lane.receipt(2, [400] * SLOTS)
    assert client.post("/v1/receipts", first)[0] == 201
    assert client.post("/v1/receipts", first)[0] == 200
    status, answer = client.post("/v1/receipts", second)
    assert (status, error_of(answer)) == (409, "exports")
    assert len(lane.relay.store.conflicts()) == 1
    status, answer = client.post("/v1/receipts", {**first, "meter": 3})
    assert (status, error_of(answer)) == (422, "signature")


def lines_of_feed(port: int, path: str, headers: dict[str, str], count: int) -> list[str]:
    """The next lines of a feed that are no comments."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        assert answer.getheader("Content-Type", "").startswith("text/event-stream")
        lines: list[str] = []
        while len(lines) < count:
            line = answer.readline().decode().strip()
            if line and not line.startswith(":"):
                lines.append(line)
        return lines
    finally:
        connection.close()


def test_the_feed_tells_what_happens_and_goes_on_where_one_left_off(client: Client) -> None:
    lane = client.lane
    _, taken = client.post("/v1/orders", lane.document(lane.order(1)))
    client.flush()
    lines = lines_of_feed(client.port, "/v1/feed?after=0", {}, 9)
    assert [line for line in lines if line.startswith("event:")] == [
        "event: order-received",
        "event: order-posted",
        "event: order-accepted",
    ]
    data = json.loads(lines[2].removeprefix("data: "))
    assert data == {
        "at": MIDNIGHT - 12 * HOUR,
        "order": taken["id"],
        "zone": ZONE,
        "session": DAY_SLOT,
    }
    last = lines[3].removeprefix("id: ")
    assert lines_of_feed(client.port, "/v1/feed", {"Last-Event-ID": last}, 3) == lines[6:]


def test_a_feed_that_is_already_open_hears_of_an_order(client: Client) -> None:
    heard: list[str] = []
    listener = threading.Thread(
        target=lambda: heard.extend(lines_of_feed(client.port, "/v1/feed", {}, 2))
    )
    listener.start()
    time.sleep(1)
    client.post("/v1/orders", client.lane.document(client.lane.order(1)))
    listener.join(20)
    assert heard[1] == "event: order-received"


def test_a_chain_that_is_away_is_said_so_and_nothing_is_told_of_the_node(own_lane: Lane) -> None:
    body = json.dumps(own_lane.document(own_lane.order(1))).encode()
    paths = (("POST", "/v1/orders"), ("GET", "/v1/health"), ("GET", "/v1/accounts/1"))
    with serving(own_lane, UNLIMITED) as client:
        own_lane.node.stop()
        for method, path in paths:
            status, answer, headers = client.raw(method, path, body)
            assert (status, error_of(json.loads(answer))) == (503, "chain")
            assert headers["retry-after"] == "5"
            assert b"127.0.0.1" not in answer


# Documentation


def test_every_operation_is_described_and_the_page_loads_nothing(shared: Client) -> None:
    status, document = shared.get("/openapi.json")
    assert status == 200
    assert {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
    } == {
        "POST /v1/orders",
        "GET /v1/orders/{order}",
        "GET /v1/accounts/{account}",
        "GET /v1/accounts/{account}/mandates/{mandate}",
        "GET /v1/zones/{zone}/sessions",
        "GET /v1/zones/{zone}/sessions/{slot}/book",
        "GET /v1/zones/{zone}/sessions/{slot}/orders",
        "GET /v1/feed",
        "GET /v1/health",
        "POST /v1/receipts",
        "POST /v1/typed-data/order",
        "POST /v1/outlook/order",
        "GET /v1/accounts/{account}/orders",
        "GET /v1/accounts/{account}/requests",
        "GET /v1/requests/{request_id}",
        *(f"POST /v1/{rule.plural}" for rule in RULES.values()),
        *(f"POST /v1/typed-data/{rule.typed_as}" for rule in RULES.values()),
    }
    _, page, headers = shared.raw("GET", "/docs")
    text = page.decode()
    for path in document["paths"]:
        assert path in text
    assert "://" not in text
    assert "<script" not in text
    assert "default-src 'none'" in headers["content-security-policy"]


# Limits


def test_an_account_has_its_rate_and_a_forger_cannot_use_it_up(lane: Lane) -> None:
    limits = Limits(account=Rate(burst=2, per_minute=1), refused=WIDE, reads=WIDE)
    with serving(lane, limits) as client:
        for nonce in range(3):
            forged = lane.document(lane.order(1, nonce=nonce), limit=301)
            assert client.post("/v1/orders", forged)[0] == 422
        for nonce in range(2):
            good = lane.document(lane.order(1, nonce=nonce))
            assert client.post("/v1/orders", good)[0] == 201
        body = json.dumps(lane.document(lane.order(1, nonce=2))).encode()
        status, answer, headers = client.raw("POST", "/v1/orders", body)
        assert (status, error_of(json.loads(answer))) == (429, "account")
        assert 0 < int(headers["retry-after"]) <= 60
        assert client.post("/v1/orders", lane.document(lane.order(2)))[0] == 201


def test_a_client_that_sends_nonsense_has_to_wait(lane: Lane) -> None:
    limits = Limits(account=WIDE, refused=Rate(burst=3, per_minute=1), reads=WIDE)
    with serving(lane, limits) as client:
        for _ in range(3):
            assert client.raw("POST", "/v1/orders", b"{")[0] == 400
        status, _, headers = client.raw("POST", "/v1/orders", b"{")
        assert status == 429
        assert int(headers["retry-after"]) > 0
        assert client.get("/v1/health")[0] == 200


def test_a_client_has_a_rate_of_requests_and_of_feeds(lane: Lane) -> None:
    limits = Limits(reads=Rate(burst=4, per_minute=1), streams_per_client=1)
    with serving(lane, limits) as client:
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
        connection.request("GET", "/v1/feed")
        connection.getresponse().readline()
        assert client.raw("GET", "/v1/feed")[0] == 429
        assert [client.raw("GET", "/v1/health")[0] for _ in range(3)] == [200, 200, 429]
        connection.close()


def test_a_bucket_fills_again_with_time() -> None:
    now = [0.0]
    buckets = Buckets(Rate(burst=2, per_minute=6), clock=lambda: now[0])
    assert [buckets.take("one") for _ in range(3)] == [0, 0, 10]
    assert buckets.take("other") == 0
    now[0] = 9.9
    assert buckets.take("one") == 1
    now[0] = 10.0
    assert [buckets.take("one"), buckets.take("one")] == [0, 10]
    now[0] = 10_000.0
    assert [buckets.take("one") for _ in range(3)] == [0, 0, 10]


def test_requests_beyond_the_limits_are_refused(shared: Client) -> None:
    large = b'{"orders": [' + b"1," * 150_000 + b"1]}"
    status, body, _ = shared.raw("POST", "/v1/orders", large)
    assert (status, error_of(json.loads(body))) == (413, "body")
    status, answer = shared.post("/v1/orders", {"orders": [1] * 101})
    assert (status, error_of(answer)) == (422, "orders")


# Hostile input

HOSTILE = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"order"',
    b"NaN",
    b'{"account": NaN}',
    b'{"account": Infinity}',
    b'{"account": 1e999}',
    b'{"account": ' + b"9" * 5_000 + b"}",
    b'{"account": ' + b"9" * 4_000 + b"}",
    b'{"account": -0}',
    b"[" * 50_000,
    b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    b'{"account": 1, "account": 2}',
    b'{"side": "\\ud800"}',
    b'{"\\ud800": 1}',
    b'{"orders": "all"}',
    b'{"orders": []}',
    b'{"orders": [[[]]], "more": 1}',
    b'{"orders": [' + b"{}," * 99 + b"{}]}",
    b"\xff\xfe\x00",
    b'\xef\xbb\xbf{"account": 1}',
    b'{"wh": [' + b"1," * 60_000 + b"1]}",
]


@pytest.mark.parametrize("path", ["/v1/orders", "/v1/receipts", "/v1/typed-data/order"])
def test_hostile_bodies_are_refused_with_an_error_of_the_usual_shape(
    shared: Client, path: str
) -> None:
    for body in HOSTILE:
        status, answer, _ = shared.raw("POST", path, body)
        document = json.loads(answer)
        if status == 200:
            assert path == "/v1/orders"
            document = document["results"][0]
        else:
            assert 400 <= status < 500, (body[:40], status)
        error_of(document)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/orders/0x12", 422),
        ("GET", "/v1/orders/0x" + "00" * 32, 404),
        ("GET", "/v1/orders/%f0%9f%8c%9e", 422),
        ("GET", "/v1/accounts/0", 422),
        ("GET", "/v1/accounts/999", 404),
        ("GET", "/v1/accounts/" + "9" * 300, 422),
        ("GET", "/v1/accounts/1.5", 422),
        ("GET", "/v1/accounts/%D9%A1", 422),
        ("GET", "/v1/zones/2/sessions", 404),
        ("GET", "/v1/zones/-1/sessions", 422),
        ("GET", f"/v1/zones/{ZONE}/sessions/{DAY_SLOT + 1}/book", 404),
        ("GET", f"/v1/zones/{ZONE}/sessions/{DAY_SLOT + 96_000}/orders", 404),
        ("GET", f"/v1/zones/{ZONE}/sessions/{2**70}/orders", 422),
        ("GET", f"/v1/zones/{ZONE}/sessions/95/book", 422),
        ("GET", "/v1/feed?after=-1", 422),
        ("GET", "/v1/feed?after=x", 422),
        ("DELETE", "/v1/orders", 405),
        ("PUT", "/v1/receipts", 405),
    ],
)
def test_a_path_that_leads_nowhere_is_an_error_of_the_usual_shape(
    shared: Client, method: str, path: str, status: int
) -> None:
    found, body, _ = shared.raw(method, path)
    assert found == status
    error_of(json.loads(body))


@pytest.mark.parametrize("kind", ["text/plain", "", "application/x-www-form-urlencoded"])
def test_a_foreign_page_cannot_submit_in_a_visitors_name(shared: Client, kind: str) -> None:
    body = json.dumps(shared.lane.document(shared.lane.order(1))).encode()
    status, answer, _ = shared.raw("POST", "/v1/orders", body, {"Content-Type": kind})
    assert (status, error_of(json.loads(answer))) == (415, "Content-Type")


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(0, 70_000)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["bid", "ask", "0x" + "11" * 65, "0x" + "00" * 64])
)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3), max_leaves=6)
NAMES = ["account", "mandate", "nonce", "expiry", "side", "limit", "first_slot", "slots", "wh"]
NAMES += ["signature", "meter", "exports", "orders"]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    document=st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=4), values),
    changed=st.dictionaries(st.sampled_from(NAMES), values, min_size=1, max_size=2),
    path=st.sampled_from(["/v1/orders", "/v1/receipts", "/v1/typed-data/order"]),
)
def test_no_document_makes_the_server_fail(
    shared: Client, document: dict[str, Any], changed: dict[str, Any], path: str
) -> None:
    """Random objects, and a good order with fields changed at random: all are answered."""
    good = shared.lane.document(shared.lane.order(1))
    for sent in (document, {**good, **changed}):
        status, answer = shared.post(path, sent)
        assert status in (200, 201) or 400 <= status < 500
        if status >= 400:
            error_of(answer)
