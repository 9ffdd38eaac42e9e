# SPDX-License-Identifier: Apache-2.0
"""The relay over HTTP: sessions, books, accounts, orders, and what a wallet is to sign.

What comes back is data of another program: it is read into dataclasses field by field, within
limits of size and time, and anything else is one plain error. Energy in Wh, money in µ€, prices in
µ€/Wh, times in unix seconds.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from dao.errors import CheckFailed
from dao.json_input import is_too_deep
from dao.market.orders import MAX_LIMIT
from dao.slots import SLOT_SECONDS
from dashboard.repositories.cache import cached

T = TypeVar("T")

BOOK_S = 3.0
SESSIONS_S = 15.0
"""So old may an answer be that is the same for everybody: the relay reads the chain for each."""
CONNECT_S = 2.0
ANSWER_S = 8.0
MAX_BYTES = 2 << 20
MAX_TEXT = 2_000
MAX_ITEMS = 20_000
MAX_WHOLE = 1 << 256
MAX_PRICE = 1 << 32
MAX_TIME = 1 << 40
MAX_WH = 1 << 62


class RelayAway(CheckFailed):
    """The relay does not answer. What it took before is safe on its disk."""


class RelayOdd(CheckFailed):
    """What answers is no relay, or not one of this version."""


@dataclass(frozen=True)
class Problem:
    """What the relay finds wrong with a field, and what it would accept."""

    field: str
    problem: str
    accepted: str


class RelayRefused(CheckFailed):
    """The relay understood and said no."""

    def __init__(self, status: int, problem: Problem) -> None:
        super().__init__(f"the relay refused {problem.field}: {problem.problem}")
        self.status = status
        self.problem = problem


@dataclass(frozen=True)
class Coming:
    """A session whose gate is ahead. orders_until: from then on the relay takes none for it."""

    first_slot: int
    slots: int
    gate: int
    orders_until: int
    orders: int
    waiting: int
    penalty: int
    min_order_wh: int
    max_slot_wh: int
    grid_fee: tuple[int, ...]
    band_min: tuple[int, ...]
    band_max: tuple[int, ...]


@dataclass(frozen=True)
class Sessions:
    """The sessions to order for, the next gate first; now: chain time."""

    zone: int
    now: int
    sessions: tuple[Coming, ...]


@dataclass(frozen=True)
class Level:
    """Energy at one price: posted on chain, and waiting at the relay."""

    price: int
    posted_wh: int
    waiting_wh: int


@dataclass(frozen=True)
class Depth:
    """One slot's book: bids from the highest price down, asks from the lowest up."""

    slot: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


@dataclass(frozen=True)
class Book:
    """Energy at each price in every slot of a session."""

    zone: int
    session: int
    slots: tuple[Depth, ...]


@dataclass(frozen=True)
class Account:
    """An account: free balance, what of it no waiting order needs, and the numbers to use next."""

    account: int
    owner: str
    zone: int
    balance: int
    available: int
    open_orders: int
    nonces: tuple[int, ...]
    waiting: tuple[str, ...]


@dataclass(frozen=True)
class OrderFields:
    """An order as it is submitted. wh: in each slot, or one value per slot."""

    account: int
    mandate: int
    nonce: int
    expiry: int
    side: str
    limit: int
    first_slot: int
    slots: int
    wh: int | tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """Something that happened to an order, or that will at a known time."""

    step: str
    at: int | None
    block: int | None


@dataclass(frozen=True)
class OrderStatus:
    """An order that the relay holds. reason: why it was rejected, withdrawn or late."""

    id: str
    state: str
    reason: str | None
    order: OrderFields
    escrow: int
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Promised:
    """The relay's signed promise to post an order before a time, as it tells it."""

    order: str
    account: int
    session: int
    post_before: int
    market: str
    relay: str
    signature: str


@dataclass(frozen=True)
class WithPromise:
    """An order's answer, of which only the promise is wanted."""

    promise: Promised


@dataclass(frozen=True)
class Orders:
    """A page of an account's orders, the newest first; next: where the following page begins."""

    orders: tuple[OrderStatus, ...]
    next: int | None


@dataclass(frozen=True)
class RequestStatus:
    """Something signed besides orders that the relay carries: received, sent, done or failed."""

    id: str
    kind: str
    account: int | None
    state: str
    reason: str | None
    transaction: str | None
    received_at: int
    sent_at: int | None


@dataclass(frozen=True)
class Requests:
    """What an account's owner had carried lately."""

    requests: tuple[RequestStatus, ...]


@dataclass(frozen=True)
class Outlook:
    """What the relay says will happen to an order: energy, escrow, what is free then, and within
    how many seconds it goes to the chain."""

    energy_wh: int
    escrow: int
    balance_after: int
    posted_within_s: int


@dataclass(frozen=True)
class Prospect:
    """An order not signed yet: what would be wrong with it, or what would come of it."""

    problems: tuple[Problem, ...]
    outlook: Outlook | None


class RelayClient:
    """A relay at a URL. Raises RelayAway, RelayOdd or RelayRefused."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def sessions(self, zone: int) -> Sessions:
        """The sessions to order for."""
        found = read(Sessions, self._get(f"/v1/zones/{zone}/sessions"))
        for one in found.sessions:
            if not 1 <= one.slots <= 96 or one.first_slot < 0:
                raise RelayOdd("the relay names a session that cannot be")
            if any(len(v) != one.slots for v in (one.grid_fee, one.band_min, one.band_max)):
                raise RelayOdd("the relay's terms do not cover the session")
            begin = one.first_slot * SLOT_SECONDS
            if not 0 <= one.orders_until <= one.gate <= begin <= MAX_TIME:
                raise RelayOdd("the relay names a gate that cannot be")
            prices = (*one.grid_fee, *one.band_min, *one.band_max)
            if not (
                0 <= one.penalty <= MAX_LIMIT and all(0 <= price <= MAX_PRICE for price in prices)
            ):
                raise RelayOdd("the relay names a price that cannot be")
            if not (0 <= one.min_order_wh <= MAX_WH and 0 <= one.max_slot_wh <= MAX_WH):
                raise RelayOdd("the relay names an energy that cannot be")
        return found

    def book(self, zone: int, session: int) -> Book:
        """A session's book."""
        return read(Book, self._get(f"/v1/zones/{zone}/sessions/{session}/book"))

    def account(self, account: int) -> Account:
        """An account as the relay sees it; RelayRefused (404) where it is not open."""
        return read(Account, self._get(f"/v1/accounts/{account}"))

    def orders(self, account: int, limit: int = 50, before: int | None = None) -> Orders:
        """The account's orders that the relay took."""
        older = "" if before is None else f"&before={before}"
        return read(Orders, self._get(f"/v1/accounts/{account}/orders?limit={limit}{older}"))

    def order(self, order: str) -> OrderStatus:
        """One order by its id."""
        return read(OrderStatus, self._get(f"/v1/orders/{order}"))

    def promised(self, order: str) -> Promised:
        """The promise that the relay gave for an order: who signs it is not looked at here."""
        return read(WithPromise, self._get(f"/v1/orders/{order}")).promise

    def requests(self, account: int) -> Requests:
        """What else was carried for the account."""
        return read(Requests, self._get(f"/v1/accounts/{account}/requests"))

    def request(self, request: str) -> RequestStatus:
        """One of them by its id."""
        return read(RequestStatus, self._get(f"/v1/requests/{request}"))

    def outlook(self, fields: Mapping[str, Any]) -> Prospect:
        """What would come of an order. Nothing is stored."""
        return read(Prospect, self._ask("POST", "/v1/outlook/order", dict(fields)))

    def typed_data(self, kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """What a wallet signs, with the numbers that the relay fills in.

        Only its shape is looked at here: whoever has it signed compares it with what was meant.
        """
        answer = self._ask("POST", f"/v1/typed-data/{kind}", dict(values))
        parts = ("types", "primaryType", "domain", "message")
        if not isinstance(answer, dict) or any(part not in answer for part in parts):
            raise RelayOdd("the relay answers no typed data")
        if not isinstance(answer["message"], dict) or not isinstance(answer["domain"], dict):
            raise RelayOdd("the relay answers no typed data")
        return {part: answer[part] for part in parts}

    def _get(self, path: str) -> Any:
        return self._ask("GET", path, None)

    def _ask(self, method: str, path: str, body: Any) -> Any:
        import requests

        try:
            with requests.request(
                method,
                self.url + path,
                json=body,
                timeout=(CONNECT_S, ANSWER_S),
                stream=True,
                allow_redirects=False,
            ) as response:
                raw = response.raw.read(MAX_BYTES + 1, decode_content=True)
                status = response.status_code
        except (requests.RequestException, OSError) as error:
            raise RelayAway(f"the relay does not answer ({type(error).__name__})") from error
        except Exception as error:  # urllib3's own, of a body that is cut off
            if type(error).__module__.startswith("urllib3"):
                raise RelayAway("the relay's answer was cut off") from error
            raise
        if len(raw) > MAX_BYTES:
            raise RelayOdd("the relay's answer is too large")
        try:
            text = raw.decode("utf-8")
            if is_too_deep(text):
                raise RelayOdd("what answers is not a relay")
            answer = json.loads(text)
        except (ValueError, RecursionError):
            raise RelayOdd("what answers is not a relay") from None
        if status >= 400:
            said = answer.get("error") if isinstance(answer, dict) else None
            if isinstance(said, dict):
                raise RelayRefused(status, read(Problem, said))
            raise RelayOdd(f"what answers is not a relay (HTTP {status})")
        return answer


@cached(ttl=SESSIONS_S, max_entries=16)
def _sessions(url: str, zone: int, slot: int) -> Sessions:
    return RelayClient(url).sessions(zone)


def sessions_of(relay: RelayClient, zone: int, now: int) -> Sessions:
    """The sessions to order for, asked for once in a while for all visitors. now: chain time, unix
    seconds; what was said in another quarter-hour of it is asked anew."""
    return _sessions(relay.url, zone, now // SLOT_SECONDS)


@cached(ttl=BOOK_S, max_entries=128)
def _book(url: str, zone: int, session: int) -> Book:
    return RelayClient(url).book(zone, session)


def book_of(relay: RelayClient, zone: int, session: int) -> Book:
    """A session's book, asked for once in a few seconds for all visitors."""
    return _book(relay.url, zone, session)


def read(kind: type[T], value: Any) -> T:
    """A JSON value as a dataclass. RelayOdd where a field is missing or of another kind."""
    made = _read(kind, value, kind.__name__)
    assert isinstance(made, kind)
    return made


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind)


def _read(kind: Any, value: Any, where: str) -> Any:
    if is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise RelayOdd(f"the relay's {where} is not an object")
        hints = _hints(kind)
        made = {}
        for one in fields(kind):
            optional = type(None) in get_args(hints[one.name])
            if one.name not in value and not optional:
                raise RelayOdd(f"the relay's {where} has no {one.name}")
            made[one.name] = _read(hints[one.name], value.get(one.name), f"{where}.{one.name}")
        return kind(**made)
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        options = get_args(kind)
        if value is None and type(None) in options:
            return None
        for option in options:
            if option is not type(None) and (get_origin(option) is tuple) == isinstance(
                value, list
            ):
                return _read(option, value, where)
        raise RelayOdd(f"the relay's {where} is missing or of another kind")
    if origin is tuple:
        if not isinstance(value, list) or len(value) > MAX_ITEMS:
            raise RelayOdd(f"the relay's {where} is no list, or too long")
        return tuple(_read(get_args(kind)[0], one, where) for one in value)
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        if abs(value) < MAX_WHOLE:
            return value
    elif kind is str and isinstance(value, str):
        return value[:MAX_TEXT]
    raise RelayOdd(f"the relay's {where} is of another kind")
