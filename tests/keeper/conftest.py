# SPDX-License-Identifier: Apache-2.0
"""A street with a keeper in it, and a gateway before its node that can be closed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

from benchmarks.street import DAY_SLOT, HOMES, ZONE, Street, street
from dao import ledger
from dao.chain import Chain, Contract
from dao.deployment import Deployment
from dao.eip712 import keccak
from dao.keeper.context import Action, Context, Outcome
from dao.keeper.duties import DUTIES
from dao.keeper.loop import tick
from dao.market import session
from dao.market.orders import ASK, BID, sign_order
from dao.market.session import DeviceReceipt, SessionState, SignedOrder
from dao.parameters import HOUR
from dao.processes import LOOPBACK, free_port
from tests.chains import put_back

SLOTS = 24
LATER_SLOT = DAY_SLOT + SLOTS
"""The day's second session."""
KEEPER = 6
SELLERS = (1, 2)
BUYERS = (3, 4)


class Receipts(dict[int, dict[int, DeviceReceipt]]):
    """A source of receipts: by first slot, then by meter."""

    def receipts(self, first_slot: int) -> Mapping[int, DeviceReceipt]:
        """Those of the sessions that begin with `first_slot`."""
        return self.get(first_slot, {})


@pytest.fixture(scope="module")
def settled() -> Iterator[Street]:
    """A street that the tests of a module share: settling in takes seconds."""
    with street(days_before=1) as made:
        made.at(-12 * HOUR)
        yield made


@contextlib.contextmanager
def anew(settled: Street) -> Iterator[Street]:
    """The street as it was when it had settled in; what is done to it inside is undone."""
    with put_back(settled.chain):
        yield replace(settled, nonces=dict(settled.nonces))


@pytest.fixture
def on(settled: Street) -> Iterator[Street]:
    with anew(settled) as made:
        yield made


def keeper(
    on: Street, receipts: Receipts | None = None, account: int = KEEPER, **more: Any
) -> Context:
    """A keeper that knows nothing yet."""
    return Context(on.deployment, on.chain.accounts[account], receipts=receipts, **more)


def turn(context: Context) -> list[Action]:
    """All duties once."""
    return tick(context, DUTIES, context.chain.now())


def done(actions: list[Action]) -> list[tuple[str, object]]:
    """What was done, and for which session or forecast."""
    return [(a.duty, a.about.get("first_slot")) for a in actions if a.outcome is Outcome.DONE]


def market(on: Street) -> Contract:
    return on.deployment["EnergyMarket"]


def state(on: Street, first_slot: int = DAY_SLOT) -> SessionState:
    return session.read_session(market(on), ZONE, first_slot)


def balance(on: Street, account: int) -> int:
    """An account's free money, in token units."""
    return int(market(on).call("account", account)[1])


def escrow(on: Street) -> int:
    """What stands in orders, in token units: all that is owed, less what is free."""
    return int(market(on).call("owed")) - sum(balance(on, n) for n in range(1, HOMES + 1))


def post_book(on: Street, first_slot: int = DAY_SLOT) -> None:
    """Two sellers whose energy two buyers want, 400 Wh of each in every slot, for 100 µ€/Wh and
    the grid fee of 110."""
    asks = [on.order(n, ASK, 100, (400,) * SLOTS, first_slot) for n in SELLERS]
    bids = [on.order(n, BID, 210, (400,) * SLOTS, first_slot) for n in BUYERS]
    on.post(asks + bids)


def post_full_book(on: Street, sellers: Iterable[int], buyers: Iterable[int]) -> None:
    """500 Wh of each in every slot of the first session, in orders of one word."""

    def order(account: int, side: int, limit: int) -> SignedOrder:
        made = replace(on.order(account, side, limit, 500, DAY_SLOT).order, count=SLOTS)
        return SignedOrder(made, sign_order(on.separator, made, on.owners[account - 1].key))

    on.post([order(n, ASK, 100) for n in sellers])
    on.post([order(n, BID, 210) for n in buyers])


def deliver(on: Street, receipts: Receipts, first_slot: int, *meters: int, wh: int = 400) -> None:
    """The meters' devices sign what they exported."""
    signed = on.receipts(first_slot, {meter: [wh] * SLOTS for meter in meters})
    receipts.setdefault(first_slot, {}).update(signed)


def commit(on: Street, first_slot: int = DAY_SLOT) -> None:
    """The collector commits a session's readings."""
    ledger.commit(
        on.deployment["ReadingLedger"],
        on.collector,
        zone=ZONE,
        first_slot=first_slot,
        root=keccak(b"root"),
        homes=15,
        leaves=15 * SLOTS,
        net_wh=[0] * SLOTS,
        export_wh=[100_000] * SLOTS,
    )


def moved(on: Street, chain: Chain) -> Deployment:
    """The street's contracts, reached over another connection."""
    contracts = {name: chain.at(name, c.address) for name, c in on.deployment.contracts.items()}
    return replace(on.deployment, chain=chain, contracts=contracts)


Request = dict[str, Any]


@dataclass
class Gateway:
    """A door before the node, as a context manager: passes requests on while it is open.

    refuses: what it answers itself with, as an error. before, after: called before a request is
    passed on, and once the node has answered it.
    """

    node: str
    refuses: Callable[[Request], str | None] = lambda asked: None
    before: Callable[[Request], None] = lambda asked: None
    after: Callable[[Request], None] = lambda asked: None
    port: int = field(default_factory=free_port)
    _server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def open(self) -> None:
        """Answer from now on."""
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with contextlib.suppress(ConnectionError):  # who asked may be killed meanwhile
                    answer = gateway.answer(body)
                    self.send_response(200)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer((LOOPBACK, self.port), Handler)
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Refuse every connection from now on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, body: bytes) -> bytes:
        """What a request is answered with."""
        asked = json.loads(body)
        refusal = self.refuses(asked)
        if refusal is not None:
            error = {"code": -32_000, "message": refusal}
            return json.dumps({"jsonrpc": "2.0", "id": asked["id"], "error": error}).encode()
        self.before(asked)
        node = urlsplit(self.node)
        connection = HTTPConnection(str(node.hostname), node.port)
        try:
            connection.request("POST", "/", body, {"Content-Type": "application/json"})
            found = connection.getresponse().read()
        finally:
            connection.close()
        self.after(asked)
        return found

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
