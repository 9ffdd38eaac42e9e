# SPDX-License-Identifier: Apache-2.0
"""What a wallet is asked to sign, checked against what was meant.

The relay fills in numbers (an order number, a deadline); everything else has to be what the page
asked for, to the last field, or nothing is signed. So a relay that lies, or is none, can make
nobody sign another amount, price or receiver.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dao.errors import CheckFailed
from dao.market.account import REVOCATION_TYPE, WITHDRAWAL_TYPE
from dao.market.orders import DOMAIN_NAME, DOMAIN_VERSION, ORDER_TYPE, Order, pack, words_hash
from dao.parameters import DAY

PERMIT_TYPE = "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
BALLOT_TYPE = (
    "Ballot(uint256 proposalId,uint8 support,address voter,bytes32 reasonHash,uint256 deadline)"
)
DELEGATION_TYPE = "Delegation(address delegatee,uint256 nonce,uint256 expiry)"
TYPES = {
    "order": ORDER_TYPE,
    "withdrawal": WITHDRAWAL_TYPE,
    "revocation": REVOCATION_TYPE,
    "permit": PERMIT_TYPE,
    "ballot": BALLOT_TYPE,
    "delegation": DELEGATION_TYPE,
}
_DOMAINS = {"ballot": ("GridGovernor", "1"), "delegation": ("Membership", "1")}
"""Name and version of the domains that are not the market's."""
LONGEST = 7 * DAY
"""No signature asked for here stays good for longer, in seconds."""


def deadline(now: int) -> int:
    """Until when a message signed now is good: two to three days, the same for a whole UTC day, so
    that a page drawn again asks for the same."""
    return (now // DAY + 3) * DAY


class NotAsAsked(CheckFailed):
    """What came back is something else than was asked for: nothing is signed."""


def checked(
    document: Mapping[str, Any],
    kind: str,
    wanted: Mapping[str, Any],
    *,
    chain_id: int,
    contract: str,
    now: int,
) -> dict[str, Any]:
    """The document to sign, if it says what is wanted; raises NotAsAsked.

    wanted: fields of the message that are fixed; the others, `nonce` and `deadline` at most, are
    the relay's to fill in. contract: who checks the signature. now: unix seconds of chain time.
    """
    name, fields = _members(TYPES[kind])
    domain, message = document.get("domain"), document.get("message")
    types = document.get("types")
    if not (isinstance(domain, dict) and isinstance(message, dict) and isinstance(types, dict)):
        raise NotAsAsked("there is no message to sign")
    if document.get("primaryType") != name or types.get(name) != [
        {"name": field, "type": of} for of, field in fields
    ]:
        raise NotAsAsked("the message is of another kind")
    if set(types) - {name, "EIP712Domain"}:
        raise NotAsAsked("the message is of another kind")
    ours = _DOMAINS.get(kind, (DOMAIN_NAME, DOMAIN_VERSION))
    if kind != "permit" and (domain.get("name"), domain.get("version")) != ours:
        raise NotAsAsked("the message is for another contract")
    if _whole(domain.get("chainId")) != chain_id:
        raise NotAsAsked("the message is for another chain")
    if str(domain.get("verifyingContract")).lower() != contract.lower():
        raise NotAsAsked("the message is for another contract")
    if set(message) != {field for _, field in fields}:
        raise NotAsAsked("the message has other fields")
    for field, value in wanted.items():
        if _plain(message[field]) != _plain(value):
            raise NotAsAsked(f"the message has another {field}")
    for field in set(message) - set(wanted):
        number = _whole(message[field])
        if field not in ("nonce", "deadline") or number is None or number < 0:
            raise NotAsAsked(f"the message has another {field}")
        if field == "deadline" and not now < number <= now + LONGEST:
            raise NotAsAsked("the message stays good for too long, or not at all")
    told = {"name": str(domain.get("name")), "version": str(domain.get("version"))}
    return _document(kind, dict(message), told, chain_id, contract)


def own(kind: str, message: Mapping[str, Any], *, chain_id: int, contract: str) -> dict[str, Any]:
    """The document of a message of which every field is known here."""
    name, version = _DOMAINS.get(kind, (DOMAIN_NAME, DOMAIN_VERSION))
    told = {"name": name, "version": version}
    return _document(kind, dict(message), told, chain_id, contract)


def _document(
    kind: str, message: dict[str, Any], told: dict[str, str], chain_id: int, contract: str
) -> dict[str, Any]:
    name, fields = _members(TYPES[kind])
    domain = ("name string", "version string", "chainId uint256", "verifyingContract address")
    return {
        "types": {
            "EIP712Domain": [
                {"name": one, "type": of} for one, of in (part.split() for part in domain)
            ],
            name: [{"name": field, "type": of} for of, field in fields],
        },
        "primaryType": name,
        "domain": {**told, "chainId": chain_id, "verifyingContract": contract},
        "message": message,
    }


def order_message(order: Order) -> dict[str, Any]:
    """Every field that an order's signature covers."""
    profile = words_hash(pack(order)[1:]) if order.is_profile else bytes(32)
    return {
        "account": order.account,
        "mandate": order.mandate,
        "nonce": order.nonce,
        "expiry": order.expiry,
        "side": order.side,
        "limit": order.limit,
        "firstSlot": order.first_slot,
        "slots": order.count,
        "wh": 0 if order.is_profile else order.wh,
        "profile": "0x" + profile.hex(),
    }


def _members(type_: str) -> tuple[str, list[tuple[str, str]]]:
    """A type's name and its members as (type, name), from how EIP-712 spells it."""
    name, _, rest = type_.partition("(")
    pairs = [part.split(" ") for part in rest.rstrip(")").split(",")]
    return name, [(of, field) for of, field in pairs]


def _plain(value: Any) -> Any:
    """Numbers as numbers, however they are written, and text without regard to case."""
    number = _whole(value)
    if number is not None:
        return number
    return value.lower() if isinstance(value, str) else value


def _whole(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 78:
        return int(value)
    return None
