# SPDX-License-Identifier: Apache-2.0
"""Delivery receipts: for a session that is over and in which this account sold, what was exported.

A receipt shows its session's export on the chain, so one is handed in only where the book holds an
ask of the account. It is on disk before it leaves, and no slot ever gets two that differ.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from dao.errors import CheckFailed
from dao.market.orders import market_separator
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from meters.gateway.clock import Clock
from meters.gateway.keystore import DeviceKey
from meters.gateway.outbox import ACKNOWLEDGED, REFUSED, Outbox
from meters.gateway.settings import Settings
from meters.gateway.uplink import Backoff

_PATIENCE_S = 30.0
_ASKED_AGAIN_S = 3_600.0
"""A book as posted no longer changes, but a relay may have been behind the chain."""
_LOOK_BACK_DAYS = 1
"""A receipt is of use for half a day (`receipt_period`); a day leaves room for that to change."""


class Receipts:
    """Looks at each session once it is over, until its receipt is with the relay."""

    def __init__(
        self,
        settings: Settings,
        outbox: Outbox,
        clock: Clock,
        key_of: Callable[[int], DeviceKey | None],
        draw: Callable[[], float] = random.random,
    ) -> None:
        import requests

        assert settings.market is not None
        assert settings.chain.market is not None
        self._market = settings.market
        self._zone = settings.zone
        self._outbox = outbox
        self._clock = clock
        self._key_of = key_of
        self._draw = draw
        self._session = requests.Session()
        self._separator = market_separator(settings.chain.chain_id, settings.chain.market)
        self._slots = SLOTS_PER_DAY // settings.market.sessions_per_day
        self._backoff = Backoff(settings.collector.first_s, settings.collector.most_s)
        self._failures = 0
        # When the book of a session in which nothing was sold is looked at again.
        self._asked_again: dict[int, float] = {}
        self.faults: Counter[str] = Counter()
        self.problem: str | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.turn()
                self.problem, self._failures = None, 0
                wait = self._backoff.first_s * (0.5 + self._draw())
            except CheckFailed as error:
                self.problem = str(error)
                wait = self._backoff.wait(self._failures, self._draw)
                self._failures += 1
            await self._clock.sleep_until(self._clock() + wait)

    async def turn(self) -> None:
        """Make what receipts are due, and hand in what waits. Raises CheckFailed to come again."""
        now = self._clock()
        for first in self._due(now):
            exports = self._outbox.exports(first, self._slots)
            unknown = sum(wh is None for wh in exports)
            end = (first + self._slots) * SLOT_SECONDS
            if unknown and now < end + self._market.wait_s:
                continue
            if now < self._asked_again.get(first, now):
                continue
            if not await asyncio.to_thread(self._has_sold, first):
                self._asked_again[first] = now + _ASKED_AGAIN_S
                continue
            # The device that signs is the one of the session's last second, for all its slots.
            key = self._key_of(first + self._slots - 1)
            if key is None:
                continue
            if unknown:
                self.faults["unknown_slots"] += unknown
            whole = [wh or 0 for wh in exports]
            self._outbox.make_receipt(self._separator, first, whole, key)
        for receipt in self._outbox.receipts():
            await self._hand_in(receipt)

    def _due(self, now: float) -> list[int]:
        """First slots of sessions that are over, of which all was measured by this file."""
        born = self._outbox.born
        if born is None:
            return []
        length = self._slots
        last = int(now // SLOT_SECONDS) // length * length - length
        earliest = max(last - _LOOK_BACK_DAYS * SLOTS_PER_DAY, -(-born // length) * length)
        slots = range(earliest, last + 1, length)
        return [first for first in slots if not self._outbox.has_receipt(first)]

    def _has_sold(self, first_slot: int) -> bool:
        """Whether the account has an ask in the session's book as posted."""
        status, document = self._ask("GET", f"/v1/zones/{self._zone}/sessions/{first_slot}/orders")
        orders = document.get("orders") if isinstance(document, dict) else None
        if status != 200 or not isinstance(orders, list):
            raise CheckFailed(f"the relay answered {status} when asked for a session's book")
        return any(
            isinstance(order, dict)
            and order.get("account") == self._outbox.meter
            and order.get("side") == "ask"
            for order in orders
        )

    async def _hand_in(self, receipt: dict[str, Any]) -> None:
        first = int(receipt["first_slot"])
        status, document = await asyncio.to_thread(self._ask, "POST", "/v1/receipts", json=receipt)
        if status in (200, 201):
            self._outbox.settle_receipt(first, ACKNOWLEDGED, "stored")
        elif status == 409 or (status == 422 and self._is_old(receipt)):
            # Kept, with what was said: the same bytes will not fare better.
            self.faults["conflict" if status == 409 else "refused"] += 1
            self._outbox.settle_receipt(first, REFUSED, str(document)[:500])
        else:
            raise CheckFailed(f"the relay answered {status} to a receipt")

    def _is_old(self, receipt: dict[str, Any]) -> bool:
        """Whether the session ended an hour ago: until then a chain's clock may be behind ours."""
        end = (receipt["first_slot"] + len(receipt["exports"])) * SLOT_SECONDS
        return self._clock() > end + 3_600

    def _ask(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        import requests

        url = self._market.relay.url.rstrip("/") + path
        try:
            with self._session.request(method, url, timeout=_PATIENCE_S, **more) as answer:
                return answer.status_code, answer.json()
        except (requests.RequestException, OSError, ValueError, RecursionError) as error:
            name = type(error).__name__
            raise CheckFailed(f"the relay {self._market.relay} does not answer ({name})") from None

    def close(self) -> None:
        """Give the connection back."""
        self._session.close()
