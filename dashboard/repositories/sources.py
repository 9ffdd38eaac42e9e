# SPDX-License-Identifier: Apache-2.0
"""The sources of a resident's pages, opened as the settings say: trades, readings, relay, node.

A session's facts are kept for all visitors until more of the chain is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dao.errors import CheckFailed
from dao.node import Node
from dashboard.repositories.cache import cached
from dashboard.repositories.readings import HomeReadings
from dashboard.repositories.relay import RelayClient
from dashboard.repositories.trades import Reached, SessionFacts, Trades
from dashboard.settings import Settings

MARKET = "EnergyMarket"
TOKEN = "TestEuro"


@dataclass(frozen=True)
class Sources:
    """What a resident's pages ask. relay, node: None where none is named."""

    trades: Trades
    readings: HomeReadings
    relay: RelayClient | None
    node: Node | None
    market: str | None
    token: str | None
    chain_id: int | None
    reached: Reached
    _marks: tuple[Path, int, str | None]

    def facts(self, first_slot: int) -> SessionFacts | None:
        """All that is known of a session; remembered until more of the chain is read, and for good
        once it is settled."""
        path, zone, rpc = self._marks
        mark = self.trades.settled_by(first_slot) or str(self.reached.block)
        return _facts(path, zone, first_slot, rpc, self.market, mark)

    def balance(self, account: int) -> int | None:
        """The account's free balance as of the block that the events are read up to, None where
        no node can tell."""
        if self.node is None or self.market is None or self.reached.block is None:
            return None
        try:
            words = self.node.view(
                self.market, "account(uint256)", account, block=self.reached.block
            )
        except CheckFailed:
            return None
        return words[1] if len(words) == 6 else None

    def purse(self, owner: str) -> int | None:
        """Tokens in somebody's own wallet, None where no node can tell."""
        return self._of_token("balanceOf(address)", int(owner, 16))

    def allowance(self, owner: str) -> int | None:
        """How much of them the market may take."""
        if self.market is None:
            return None
        return self._of_token("allowance(address,address)", int(owner, 16), int(self.market, 16))

    def _of_token(self, view: str, *numbers: int) -> int | None:
        if self.node is None or self.token is None:
            return None
        try:
            return self.node.view(self.token, view, *numbers)[0]
        except CheckFailed:
            return None


def sources(settings: Settings, zone: int) -> Sources:
    """The sources, the trades brought up to the index. CheckFailed where a file is damaged."""
    path = trades_path(settings.home, zone)
    trades = Trades(settings.home / "index.sqlite", zone, path)
    contracts = settings.deployment or {}
    return Sources(
        trades=trades,
        readings=HomeReadings(settings.home / "lake", settings.home / "inbox.sqlite", zone),
        relay=RelayClient(settings.relay) if settings.relay else None,
        node=Node(settings.rpc) if settings.rpc else None,
        market=contracts.get(MARKET),
        token=contracts.get(TOKEN),
        chain_id=settings.chain_id,
        reached=trades.update(),
        _marks=(path, zone, settings.rpc),
    )


def trades_path(home: Path, zone: int) -> Path:
    """Where the trades by account lie: a copy, like all of the cache."""
    return home / "cache" / f"trades-{zone}.sqlite"


@cached(ttl=600, max_entries=512)
def _facts(
    path: Path, zone: int, first_slot: int, rpc: str | None, market: str | None, _: str
) -> SessionFacts | None:
    trades = Trades(path.parent.parent / "index.sqlite", zone, path)
    return trades.facts(first_slot, Node(rpc) if rpc else None, market)
