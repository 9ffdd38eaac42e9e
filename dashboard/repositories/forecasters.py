# SPDX-License-Identifier: Apache-2.0
"""What the registry says of a forecaster now: bond, skill, standing. Asked of a node, kept until
the index moves; all of it is public."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dao.errors import CheckFailed
from dao.node import Node
from dashboard.repositories.cache import Version, cached, version
from dashboard.settings import Settings

MAX_FORECASTERS = 5
REGISTRY = "ForecastRegistry"


@dataclass(frozen=True)
class Standing:
    """Money in µ€; skill in permille better than the simple forecast, over the last 28 days.

    leaving: how much of the bond is announced to leave. allowance, used: balancing proposals in
    this UTC day.
    """

    forecaster: str
    bond: int
    leaving: int
    skill: int
    days_scored: int
    is_good: bool
    allowance: int
    used: int
    open_disputes: int


def standings(
    settings: Settings, zone: int, forecasters: tuple[str, ...]
) -> tuple[Standing, ...] | None:
    """Of each forecaster, None where no node can tell."""
    registry = (settings.deployment or {}).get(REGISTRY)
    if settings.rpc is None or registry is None:
        return None
    index = settings.home / "index.sqlite"
    try:
        return _standings(
            index, version(index), settings.rpc, registry, zone, forecasters[:MAX_FORECASTERS]
        )
    except CheckFailed:
        return None


@cached(ttl=600, max_entries=8)
def _standings(
    _index: Path, _version: Version, rpc: str, registry: str, zone: int, who: tuple[str, ...]
) -> tuple[Standing, ...]:
    node = Node(rpc, patience_s=2.0)
    try:
        return tuple(_standing(node, registry, zone, one) for one in who)
    finally:
        node.close()


def _standing(node: Node, registry: str, zone: int, forecaster: str) -> Standing:
    number = int(forecaster, 16)
    skill, days = node.view(registry, "skill(address,uint256)", number, zone)
    bond, leaving, _ = node.view(registry, "bond_of(address)", number)
    allowance, used = node.view(registry, "allowance(address,uint256)", number, zone)
    good = node.view(registry, "in_good_standing(address,uint256)", number, zone)[0]
    disputes = node.view(registry, "open_disputes(address)", number)[0]
    signed = skill - (1 << 256) if skill >> 255 else skill
    return Standing(forecaster, bond, leaving, signed, days, bool(good), allowance, used, disputes)
