# SPDX-License-Identifier: Apache-2.0
"""The relay as the agent asks it, over HTTP: sessions, accounts, mandates, orders.

What a relay answers is judged here before anything is made of it. The orders themselves are held
to offer and mandate by `plan`, whatever the relay says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dao.errors import BadUse, CheckFailed
from dao.json_input import loads
from dao.market.account import CAP_UNIT, Mandate
from dao.market.orders import MAX_LIMIT, MAX_SESSION_SLOTS
from dao.relay.submitted import SIDE_NAMES, SIDES, shown
from dao.slots import SLOT_SECONDS
from dao.urls import is_web_address
from forecasting.agent.plan import Means, Terms

_PATIENCE_S = 20
_MOST_BYTES = 1 << 21
_MOST = 2**62


class Away(CheckFailed):
    """Relay or node does not answer, or cannot now: the same again, later."""


@dataclass(frozen=True)
class Refusal:
    """The relay does not take an order: the field and what is wrong with it."""

    problem: str


@dataclass(frozen=True)
class SentMandate:
    """A mandate on its way to the chain, or there. terms: as it was signed, None where unknown."""

    number: int
    agent: str
    side: str
    done: bool
    terms: Mandate | None = None


class RelayClient:
    """A relay at a URL."""

    def __init__(self, url: str) -> None:
        if not is_web_address(url):
            raise BadUse(f"--relay {url}: expected an address like http://127.0.0.1:8550")
        self.url = url.rstrip("/")

    def market(self) -> tuple[int, str]:
        """The chain's id and the market's address that the relay works with."""
        health = self._get("/v1/health")
        return _whole(health, "chain_id"), str(health.get("market"))

    def sessions(self, zone: int) -> list[Terms]:
        """The sessions whose gate is ahead, the next gate first."""
        found = self._get(f"/v1/zones/{zone}/sessions").get("sessions")
        if not isinstance(found, list):
            raise _odd("sessions")
        return sorted((_terms(one) for one in found), key=lambda one: one.gate)

    def means(self, account: int, mandate: int) -> Means:
        """An account's free balance, and the mandate if it is in force."""
        status = self._get(f"/v1/accounts/{account}", missing=True)
        if status is None:
            return Means(0, None, 0, 0)
        zone, available = _whole(status, "zone"), _whole(status, "available")
        granted = self._get(f"/v1/accounts/{account}/mandates/{mandate}", missing=True)
        if granted is None:
            return Means(zone, None, 0, available)
        side = granted.get("side")
        if side not in SIDES:
            raise _odd("side")
        numbers = granted.get("nonces")
        if not isinstance(numbers, list) or not all(_is_whole(one, 65_535) for one in numbers):
            raise _odd("nonces")
        terms = Mandate(
            str(granted.get("agent")),
            SIDES[side],
            _whole(granted, "limit", MAX_LIMIT),
            _whole(granted, "daily_cap", 4_095 * CAP_UNIT) // CAP_UNIT,
            _whole(granted, "last_day", 65_535),
        )
        return Means(zone, terms, _whole(granted, "spent"), available, tuple(numbers))

    def submit(self, document: Mapping[str, Any]) -> Refusal | None:
        """Hand over a signed order; None once the relay has it on disk, now or from before.

        Away where it is not known whether it has.
        """
        status, answer = self._ask("POST", "/v1/orders", document)
        if status in (200, 201) and isinstance(answer, Mapping) and "promise" in answer:
            return None
        error = answer.get("error") if isinstance(answer, Mapping) else None
        if status == 422 and isinstance(error, Mapping):
            return Refusal(f"{shown(error.get('field'))}: {str(error.get('problem'))[:160]}")
        raise Away(f"the relay at {self.url} answers {status} to an order")

    def next_mandate(self, account: int, wanted: Mandate) -> int:
        """The number that an account's next mandate gets, waiting ones counted."""
        fields = {
            "account": account,
            "agent": wanted.agent,
            "side": SIDE_NAMES[wanted.side],
            "limit": wanted.limit,
            "daily_cap": wanted.daily_cap * CAP_UNIT,
            "last_day": wanted.last_day,
        }
        status, answer = self._ask("POST", "/v1/typed-data/mandate", fields)
        message = answer.get("message") if isinstance(answer, Mapping) else None
        if status != 200 or not isinstance(message, Mapping):
            raise Away(f"the relay at {self.url} answers {status} to a question for a mandate")
        number = _whole(message, "number", 2**32 - 1)
        if number == 0:
            raise _odd("number")
        return number

    def mandates_sent(self, account: int) -> list[SentMandate]:
        """The mandates that the relay carried lately for an account, the newest first; without
        those that failed."""
        found = self._get(f"/v1/accounts/{account}/requests", missing=True) or {}
        rows = found.get("requests")
        if not isinstance(rows, list):
            return []
        sent = []
        for row in rows:
            fields = row.get("fields") if isinstance(row, Mapping) else None
            if not isinstance(fields, Mapping) or row.get("kind") != "mandate":
                continue
            if row.get("state") not in ("received", "sent", "done"):
                continue
            side = str(fields.get("side"))
            terms = Mandate(
                str(fields.get("agent")),
                SIDES.get(side, 0),
                _whole(fields, "limit", MAX_LIMIT),
                _whole(fields, "daily_cap", 4_095 * CAP_UNIT) // CAP_UNIT,
                _whole(fields, "last_day", 65_535),
            )
            number = _whole(fields, "number", 2**32 - 1)
            sent.append(SentMandate(number, terms.agent, side, row["state"] == "done", terms))
        return sent

    def order_state(self, order_id: bytes) -> str | None:
        """Where an order stands, None where the relay does not know it."""
        found = self._get(f"/v1/orders/0x{order_id.hex()}", missing=True)
        return None if found is None else str(found.get("state"))

    def _get(self, path: str, missing: bool = False) -> Any:
        status, answer = self._ask("GET", path)
        if missing and status == 404:
            return None
        if status != 200 or not isinstance(answer, Mapping):
            raise Away(f"the relay at {self.url} answers {status} to {path}")
        return answer

    def _ask(
        self, method: str, path: str, document: Mapping[str, Any] | None = None
    ) -> tuple[int, Any]:
        import requests

        try:
            with requests.request(
                method,
                self.url + path,
                json=None if document is None else dict(document),
                timeout=_PATIENCE_S,
                stream=True,
                allow_redirects=False,
            ) as answer:
                body = answer.raw.read(_MOST_BYTES + 1, decode_content=True)
                status = answer.status_code
        except Exception as error:  # a client's errors have no class in common
            raise Away(
                f"the relay at {self.url} does not answer ({type(error).__name__})"
            ) from None
        try:
            return status, loads(body) if len(body) <= _MOST_BYTES else None
        except ValueError:
            return status, None


def _terms(one: Any) -> Terms:
    if not isinstance(one, Mapping):
        raise _odd("sessions")
    slots = _whole(one, "slots", MAX_SESSION_SLOTS)
    terms = Terms(
        first_slot=_whole(one, "first_slot", 2**40 // SLOT_SECONDS),
        slots=slots,
        gate=_whole(one, "gate", 2**40),
        orders_until=_whole(one, "orders_until", 2**40),
        penalty=_whole(one, "penalty", MAX_LIMIT),
        min_order_wh=_whole(one, "min_order_wh"),
        max_slot_wh=_whole(one, "max_slot_wh"),
        grid_fee=_prices(one, "grid_fee", slots),
        band_min=_prices(one, "band_min", slots),
        band_max=_prices(one, "band_max", slots),
    )
    if slots < 1 or terms.orders_until > terms.gate or terms.gate > terms.first_slot * SLOT_SECONDS:
        raise _odd("sessions")
    return terms


def _prices(one: Mapping[str, Any], name: str, slots: int) -> tuple[int, ...]:
    found = one.get(name)
    if not isinstance(found, list) or len(found) != slots:
        raise _odd(name)
    if not all(_is_whole(price, 2**32) for price in found):
        raise _odd(name)
    return tuple(found)


def _whole(one: Mapping[str, Any], name: str, most: int = _MOST) -> int:
    if not _is_whole(one.get(name), most):
        raise _odd(name)
    return int(one[name])


def _is_whole(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _odd(what: str) -> Away:
    return Away(f"what answers is no relay of this version: {what}")
