# SPDX-License-Identifier: Apache-2.0
"""The relay as the pages ask it: a real one, one that is away, and one that answers nonsense."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dao.processes import free_port
from dao.tariffs import Tariffs
from dashboard.repositories import relay as client
from dashboard.repositories.relay import RelayAway, RelayClient, RelayOdd, RelayRefused
from dashboard.services import ticket as tickets
from dashboard.services.ticket import BUY, SELL, Ticket, preview
from dashboard.services.typed_data import checked, order_message
from tests.relay.conftest import DAY_SLOT, ZONE, Lane, Street, lane_on
from tests.relay.conftest import street as street
from tests.relay.test_api import UNLIMITED, serving

TARIFFS = Tariffs()


@pytest.fixture(scope="module")
def real(street: Street, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lane, str]]:
    with (
        lane_on(*street, tmp_path_factory.mktemp("relay")) as lane,
        serving(lane, UNLIMITED) as made,
    ):
        yield lane, f"http://127.0.0.1:{made.port}"


@contextmanager
def answering(status: int, body: bytes, headers: dict[str, str] | None = None) -> Iterator[str]:
    """A server that answers everything with the same."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in (headers or {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_sessions_accounts_and_books_are_read(real: tuple[Lane, str]) -> None:
    lane, url = real
    relay = RelayClient(url)
    sessions = relay.sessions(ZONE).sessions
    (first,) = (one for one in sessions if one.first_slot == DAY_SLOT)
    assert relay.account(1).balance == lane.balance(1)
    book = relay.book(ZONE, DAY_SLOT)
    assert len(book.slots) == first.slots


def test_what_the_relay_offers_to_sign_is_what_was_asked_for(real: tuple[Lane, str]) -> None:
    lane, url = real
    relay = RelayClient(url)
    terms = relay.sessions(ZONE).sessions[0]
    for wh in ((500,) * 24, (0,) * 5 + (300, 0, 200) + (0,) * 16):
        ticket = Ticket(SELL, 120, wh)
        fields = tickets.order_fields(ticket, terms, 3, relay.account(3).nonces[0])
        offered = relay.typed_data("order", fields)
        order = tickets.as_order(fields, terms)
        market = lane.relay.market.address
        made = checked(
            offered,
            "order",
            order_message(order),
            chain_id=lane.chain.chain_id,
            contract=market,
            now=lane.chain.now(),
        )
        assert made["message"]["limit"] == 120


@pytest.mark.parametrize("side", [SELL, BUY])
def test_the_ticket_and_the_relays_outlook_agree(real: tuple[Lane, str], side: str) -> None:
    import requests

    lane, url = real
    relay = RelayClient(url)
    terms = relay.sessions(ZONE).sessions[0]
    account = 4 if side == SELL else 5
    state = relay.account(account)
    ticket = Ticket(side, 300, tuple(100 + i for i in range(24)))
    said = preview(ticket, terms, TARIFFS, free=state.available, now=lane.chain.now())
    fields = tickets.order_fields(ticket, terms, account, state.nonces[0])
    order = tickets.as_order(fields, terms)
    answer = requests.post(f"{url}/v1/orders", json=lane.document(order), timeout=10)
    assert answer.status_code == 201
    outlook = answer.json()["outlook"]
    assert outlook["escrow"] == said.escrow
    assert outlook["balance_after"] == said.free_after
    assert outlook["at_limit"] == said.at_limit.money
    assert outlook["fee_at_limit"] == said.at_limit.fees
    assert outlook["worst_case"] == said.worst.money
    known = relay.order(answer.json()["id"])
    assert known.order.limit == 300
    assert known.escrow == said.escrow


def test_a_refusal_names_the_field(real: tuple[Lane, str]) -> None:
    with pytest.raises(RelayRefused) as refused:
        RelayClient(real[1]).account(999)
    assert refused.value.status == 404
    assert refused.value.problem.field == "account"


def test_a_relay_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(RelayAway):
        RelayClient(f"http://127.0.0.1:{free_port()}").sessions(1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>hello</html>",
        b"[]",
        b"null",
        b'{"zone": 1}',
        b'{"zone": 1, "now": "soon", "sessions": []}',
        b'{"zone": 1, "now": true, "sessions": []}',
        b'{"zone": 1, "now": 5, "sessions": {}}',
        b'{"zone": 1, "now": 5, "sessions": [{}]}',
        b'{"zone": 1, "now": 5, "sessions": [5]}',
        b'{"zone": 1, "now": 5, "sessions": ' + b"[" * 100_000,
        b"\xff\xfe",
        b'"' + b"x" * (3 << 20) + b'"',
    ],
)
def test_nonsense_is_one_plain_error(body: bytes) -> None:
    with answering(200, body) as url, pytest.raises(RelayOdd):
        RelayClient(url).sessions(1)


def test_a_session_that_cannot_be_is_not_taken() -> None:
    names = "first_slot slots gate orders_until orders waiting penalty min_order_wh max_slot_wh"
    one = dict.fromkeys(names.split(), 1)
    terms = {"grid_fee": [1], "band_min": [0], "band_max": [9]}

    def saying(**wrong: Any) -> dict[str, Any]:
        return {"zone": 1, "now": 5, "sessions": [{**one, **terms, **wrong}]}

    with answering(200, json.dumps(saying()).encode()) as url:
        assert len(RelayClient(url).sessions(1).sessions) == 1
    for wrong in (
        {"slots": 97},
        {"slots": 0},
        {"first_slot": -1},
        {"grid_fee": [1, 2]},
        {"grid_fee": [-1]},
        {"band_max": [2**200]},
        {"penalty": 2**16},
        {"gate": 901},
        {"orders_until": 2},
        {"first_slot": 2**60},
        {"max_slot_wh": 2**200},
        {"min_order_wh": -1},
    ):
        body = saying(**wrong)
        with answering(200, json.dumps(body).encode()) as url, pytest.raises(RelayOdd):
            RelayClient(url).sessions(1)


def test_an_answer_that_leads_elsewhere_is_not_followed() -> None:
    headers = {"Location": "http://203.0.113.1/", "Content-Length": "0"}
    with answering(302, b"", headers) as url, pytest.raises(RelayOdd):
        RelayClient(url).sessions(1)


def test_an_error_without_the_relays_shape_is_not_shown() -> None:
    body = b'{"error": "<script>alert(1)</script>"}'
    with answering(500, body) as url, pytest.raises(RelayOdd) as odd:
        RelayClient(url).sessions(1)
    assert "script" not in str(odd.value)


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["zone", "now", "sessions", "orders", "next", "account", "owner"]),
                inner,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_read_or_refused(value: Any) -> None:
    for kind in (client.Sessions, client.Account, client.Orders, client.Requests, client.Book):
        try:
            found = client.read(kind, value)
        except RelayOdd:
            continue
        assert isinstance(found, kind)
