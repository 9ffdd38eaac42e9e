# SPDX-License-Identifier: Apache-2.0
"""Typed data (EIP-712) of one flat type: the document that a wallet signs, and its digest.

Orders and readings are hashed by the hundred thousand, in code of their own; here a document comes
one at a time, and the same message makes document and digest, so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dao.eip712 import address_word, digest, domain_separator, keccak, typed_frame, word

# Above it a number in JSON is not exact in every wallet.
_EXACT = 2**53


@dataclass(frozen=True)
class Domain:
    """Which contract, of which name and version, on which chain."""

    name: str
    version: str
    chain_id: int
    contract: str

    @property
    def separator(self) -> bytes:
        """The domain separator, 32 bytes."""
        return domain_separator(self.name, self.version, self.chain_id, self.contract)


def fields_of(type_text: str) -> list[tuple[str, str]]:
    """Types and names of `Name(type field,...)`."""
    inside = type_text.rstrip(")").partition("(")[2]
    return [(kind, name) for kind, _, name in (one.partition(" ") for one in inside.split(","))]


def frame(type_text: str, domain: Domain) -> dict[str, Any]:
    """Typed data without its message, for one type as EIP-712 spells it: `Name(type field,...)`."""
    return typed_frame(type_text, domain.name, domain.version, domain.chain_id, domain.contract)


def document(type_text: str, domain: Domain, message: Mapping[str, Any]) -> dict[str, Any]:
    """What `eth_signTypedData_v4` takes. message: whole numbers, addresses, and bytes as bytes."""
    return {**frame(type_text, domain), "message": {k: _shown(v) for k, v in message.items()}}


def signed_digest(type_text: str, domain: Domain, message: Mapping[str, Any]) -> bytes:
    """The 32 bytes that are signed for a message of whole numbers, addresses and 32-byte words."""
    data = keccak(type_text.encode("ascii"))
    for kind, name in fields_of(type_text):
        value = message[name]
        if kind == "address":
            data += address_word(value)
        elif kind == "bytes32":
            data += value
        else:
            data += word(value)
    return digest(domain.separator, keccak(data))


def _shown(value: Any) -> Any:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return str(value) if isinstance(value, int) and value >= _EXACT else value
