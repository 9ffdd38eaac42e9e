# SPDX-License-Identifier: Apache-2.0
"""A member's voting power: how much, where it comes from, and who may be asked to hold it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from dao.eip712 import address_bytes, checksum_address
from dashboard.repositories.governance import Lent, Members

NOBODY = "0x" + "00" * 20
MOST_HISTORY = 60


@dataclass(frozen=True)
class Power:
    """How a member stands. votes: that it can cast; own: whether its own is among them;
    lent_to: who holds its vote, None where it does itself; lenders: whose votes it holds."""

    zone: int
    votes: int
    own: bool
    lent_to: str | None
    lenders: tuple[str, ...]


def power_of(members: Members, account: str, now: int) -> Power | None:
    """How an account stands now, None for who is no member."""
    zone = members.zone(account, now)
    if not zone:
        return None
    held = members.delegates(now)
    to = held.get(account, account)
    lent_to = None if to in (account, NOBODY) else to
    lenders = tuple(
        sorted(
            one
            for one, holder in held.items()
            if holder == account and one != account and members.zone(one, now) == zone
        )
    )
    return Power(zone, members.power(account, now, 0), lent_to is None, lent_to, lenders)


def candidates(members: Members, account: str, now: int) -> list[str]:
    """Members of the same zone, by metering point: those whom the account may lend its vote to."""
    zone = members.zone(account, now)
    if not zone:
        return []
    found = [one for one in members.zones if one != account and members.zone(one, now) == zone]
    return sorted(found, key=lambda one: (members.meters.get(one, 0), one))


def history(members: Members, account: str) -> list[Lent]:
    """When the account's vote moved, and when others lent it theirs; newest first."""
    found = [one for one in members.lent if account in (one.delegator, one.to)]
    return found[::-1][:MOST_HISTORY]


def read_address(text: str) -> str | None:
    """An address as somebody typed it, None where it is none: its checksum tells a slip."""
    plain = text.strip()
    if len(plain) != 42 or not plain.startswith("0x"):
        return None
    try:
        made = checksum_address(address_bytes(plain))
    except (ValueError, TypeError):
        return None
    digits = plain[2:]
    if digits not in (digits.lower(), digits.upper()) and made != plain:
        return None
    return made
