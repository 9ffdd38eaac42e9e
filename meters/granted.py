# SPDX-License-Identifier: Apache-2.0
"""Reading under a grant: a reader's signed request in, readings or a disclosure out.

Plain functions, so that a command, the dashboard or a service may stand before them. Whether a
request gets anything is judged, and put on record, by `grants.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dao import eip712
from dao.eip712 import checksum_address
from dao.errors import CheckFailed
from dao.node import Addresses, Node
from meters.grants import Grants, OwnerSigned
from meters.readings import Quality, Reading
from meters.secrets import MonthSecrets

if TYPE_CHECKING:
    from meters.disclosure import Disclosure
    from meters.lake import LakeLike


def asks_registry(node: Node, registry: str) -> OwnerSigned:
    """Who owns a meter is asked of the MeterRegistry; a contract wallet vouches by ERC-1271."""

    def signed(meter: int, digest: bytes, signature: bytes) -> bool:
        owner = owner_of(node, registry, meter)
        try:
            if eip712.recover(digest, signature) == owner:
                return True
        except ValueError:
            pass
        return node.vouches(checksum_address(owner), digest, signature)

    return signed


def owner_of(node: Node, registry: str, meter: int) -> bytes:
    """The 20 bytes of a meter's owner. CheckFailed for an unknown meter."""
    owner, _ = node.view(registry, "metering_point(uint256)", meter)
    if not owner:
        raise CheckFailed(f"the registry knows no meter {meter}")
    return owner.to_bytes(20, "big")


@dataclass(frozen=True)
class Committed:
    """What grants give out of: the lake, and up to which slot (exclusive) the ledger has it."""

    lake: LakeLike
    zone: int
    until: int

    def rows(self, meter: int, first_slot: int, end_slot: int) -> list[Reading]:
        """A meter's readings of the slots, without signatures; erased ones are left out."""
        from meters.lake import meter_series

        count = min(end_slot, self.until) - first_slot
        if count < 1:
            return []
        table = meter_series(self.lake, self.zone, meter, first_slot, count)
        table = table[table["quality"].notna()]
        columns = (table[name] for name in ("slot", "import_wh", "export_wh", "quality"))
        return [
            Reading(meter, int(slot), _known(imported), _known(exported), Quality(int(quality)))
            for slot, imported, exported, quality in zip(*columns, strict=True)
        ]


def _known(value: Any) -> int | None:
    import pandas as pd

    return None if value is pd.NA else int(value)


@dataclass(frozen=True)
class Request:
    """A reader's request: the grant's id, the challenge and the reader's signature over both; a
    part of the grant's slots, or all of them."""

    grant: bytes
    challenge: bytes
    signature: bytes
    first_slot: int | None = None
    end_slot: int | None = None


def read_under(grants: Grants, committed: Committed, request: Request, now: int) -> list[Reading]:
    """The readings that a request gets. AccessRefused, on record, where it gets nothing."""
    held, first, end = grants.access(
        request.grant,
        request.challenge,
        request.signature,
        now,
        request.first_slot,
        request.end_slot,
    )
    rows = committed.rows(held.grant.meter, first, end)
    grants.give(held, [row.slot for row in rows], now)
    return rows


def disclose_under(
    grants: Grants,
    committed: Committed,
    request: Request,
    now: int,
    secrets: MonthSecrets,
    addresses: Addresses,
) -> Disclosure:
    """As `read_under`, with what proves each slot against the chain."""
    from meters.disclosure import disclose

    rows = read_under(grants, committed, request, now)
    slots = [row.slot for row in rows]
    meter = rows[0].meter
    return disclose(committed.lake, secrets, addresses, committed.zone, meter, slots)
