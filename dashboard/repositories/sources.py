# SPDX-License-Identifier: Apache-2.0
"""The sources of a resident's pages, opened as the settings say: trades, readings, relay, node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dao.errors import CheckFailed
from dao.node import Node
from dashboard.repositories.readings import HomeReadings
from dashboard.repositories.relay import RelayClient
from dashboard.repositories.trades import Reached, SessionFacts, Trades
from dashboard.settings import Settings

MARKET = "EnergyMarket"
TOKEN = "TestEuro"


@dataclass(frozen=True)
class SessionKey:
    """A session at a state of the chain, by which what follows from it can be remembered."""

    path: Path
    zone: int
    first_slot: int
    rpc: str | None
    market: str | None
    mark: str


@dataclass(frozen=True)
class OnChain:
    """What a contract says. same_block: as of the block that the events are read up to, and not of
    a later one."""

    amount: int
    same_block: bool


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
    zone: int
    path: Path
    rpc: str | None

    def key(self, first_slot: int) -> SessionKey:
        """What names all that is known of a session: another one once more of the chain is read,
        and the same for good once the session is settled."""
        mark = self.trades.settled_by(first_slot) or str(self.reached.block)
        return SessionKey(self.path, self.zone, first_slot, self.rpc, self.market, mark)

    def balance(self, account: int) -> OnChain | None:
        """The account's free balance on chain, None where no node can tell.

        As of the block that the events are read up to, where the node still knows it.
        """
        if self.node is None or self.market is None:
            return None
        view = "account(uint256)"
        block = self.reached.block
        for at in (None,) if block is None else (block, None):
            try:
                words = self.node.view(self.market, view, account, block=at)
            except CheckFailed:
                continue
            if len(words) == 6:
                return OnChain(words[1], at is not None)
        return None

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
        zone=zone,
        path=path,
        rpc=settings.rpc,
    )


def trades_path(home: Path, zone: int) -> Path:
    """Where the trades by account lie: a copy, like all of the cache."""
    return home / "cache" / f"trades-{zone}.sqlite"


def facts(key: SessionKey) -> SessionFacts | None:
    """All that is known of a session."""
    trades = Trades(key.path.parent.parent / "index.sqlite", key.zone, key.path)
    return trades.facts(key.first_slot, Node(key.rpc) if key.rpc else None, key.market)
