# SPDX-License-Identifier: Apache-2.0
"""A proposal's calls as `dao.governance.describe` reads them, with the compiled contracts' ABIs and
any node: no Ape, no account. Where the contracts were never compiled here, calls stay bytes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

from dao.abi import Interface
from dao.artifacts import compiled_artifacts
from dao.deployment import Deployment
from dao.errors import CheckFailed, GridCommonsError
from dao.governance.describe import Reading, read_call
from dao.governance.proposals import Call
from dao.node import Node
from dashboard.repositories.cache import cached
from dashboard.settings import Settings

log = logging.getLogger(__name__)

_PATIENCE_S = 5.0


@dataclass(frozen=True)
class _Contract:
    """As much of a contract as describing a call takes."""

    name: str
    address: str
    interface: Interface
    rpc: str | None

    def encode(self, function: str, *args: Any) -> bytes:
        return self.interface.encode_call(function, args)

    def call(self, function: str, *args: Any, block: int | str = "latest") -> Any:
        if self.rpc is None:
            raise CheckFailed("no node is known")
        data = "0x" + self.encode(function, *args).hex()
        at = hex(block) if isinstance(block, int) else block
        answer = Node(self.rpc, patience_s=_PATIENCE_S).ask(
            "eth_call", {"to": self.address, "data": data}, at
        )
        try:
            raw = bytes.fromhex(str(answer).removeprefix("0x"))
            return self.interface.decode_result(function, len(args), raw)
        except Exception as error:  # what the decoder's parts raise
            raise CheckFailed(f"{self.name} does not answer {function}") from error


def readings(settings: Settings, calls: Sequence[Call], block: int | None) -> list[Reading]:
    """What calls mean. block: whose values are told as those before; None for the latest."""
    contracts = tuple(sorted((settings.deployment or {}).items()))
    return list(_readings(contracts, settings.rpc, tuple(calls), block))


@cached(ttl=30.0, max_entries=64)
def _readings(
    contracts: tuple[tuple[str, str], ...],
    rpc: str | None,
    calls: tuple[Call, ...],
    block: int | None,
) -> list[Reading]:
    known = {
        name: _Contract(name, address, _interfaces()[name], rpc)
        for name, address in contracts
        if name in _interfaces()
    }
    deployment = cast(Deployment, SimpleNamespace(contracts=known))
    return [read_call(deployment, one, "latest" if block is None else block) for one in calls]


@cache
def _interfaces() -> dict[str, Interface]:
    """The ABIs of the compiled contracts; none where they were not compiled, because a page does
    not wait for a compiler."""
    try:
        found = compiled_artifacts()
    except (GridCommonsError, OSError) as error:
        log.info("calls are shown as bytes: %s", error)
        return {}
    return {name: one.interface for name, one in (found or {}).items()}
