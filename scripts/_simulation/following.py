# SPDX-License-Identifier: Apache-2.0
"""The agent inside a demo: the real follower of standing offers, driven by the run's clock.

Homes whose owner made an offer on a page are ordered for by it, and no longer by the loop.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from dao.deployment import Deployment
from dao.errors import GridCommonsError
from dao.node import Addresses, Node
from dao.paths import inbox_path, lake_dir
from forecasting.agent.follow import Follower, owner_signed
from forecasting.agent.keys import AgentKeys
from forecasting.agent.recent import HomeReadings
from forecasting.agent.relaying import RelayClient
from forecasting.agent.service import beat
from forecasting.agent.store import OfferStore, following

log = logging.getLogger("gridcommons.demo")


class Following:
    """The agent of a zone, as a context manager; the only one of its state folder."""

    def __init__(self, deployment: Deployment, zone: int, relay: str) -> None:
        chain = deployment.chain
        contracts = {name: deployment[name].address for name in ("EnergyMarket", "MeterRegistry")}
        addresses = Addresses(chain.chain_id, contracts)
        self._store = OfferStore()
        self._follower = Follower(
            store=self._store,
            keys=AgentKeys(),
            readings=HomeReadings(lake_dir(), zone, inbox_path()),
            relay=RelayClient(relay),
            zone=zone,
            chain_id=chain.chain_id,
            market=contracts["EnergyMarket"],
            owner_signed=owner_signed(Node(chain.url), addresses),
        )
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._open.callback(self._store.close)
        self._open.enter_context(following(self._store.path))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    def round(self, now: int) -> None:
        """Order what is due. What goes wrong is told and due again; the village goes on."""
        problem = None
        try:
            self._follower.round(now)
        except GridCommonsError as error:
            problem = str(error)
            log.warning("the agent: %s", problem)
        beat(self._follower, problem)

    def sides(self, now: int) -> frozenset[tuple[int, int]]:
        """Accounts and sides for which an owner's offer stands."""
        return frozenset(
            (one.offer.account, one.offer.side)
            for one in self._store.in_force()
            if now < one.offer.valid_until
        )
