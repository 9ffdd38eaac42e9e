# SPDX-License-Identifier: Apache-2.0
"""What owners and readers sign about readings besides grants, as wallets take it (EIP-712).

The end of a grant, one access under it, one look at the record of accesses, and the erasure of a
month. Digests of the first three are `grants.py`'s; whether a signature counts is asked there and
by whoever carries the request out.
"""

from __future__ import annotations

from typing import Any

from dao import eip712
from dao.eip712 import checksum_address, keccak, word
from meters.grants import (
    ACCESS_TYPE,
    DOMAIN_NAME,
    DOMAIN_VERSION,
    RECORD_TYPE,
    REVOCATION_TYPE,
)
from meters.secrets import month_name

ERASURE_TYPE = b"EraseMonth(uint32 meter,string month,uint64 deadline)"
LONGEST = 7 * 86_400
"""No erasure signed for longer ahead is taken, in seconds."""


def erasure_digest(separator: bytes, meter: int, month: int, deadline: int) -> bytes:
    """What the owner signs to have a month of a meter erased; good before `deadline` (unix
    seconds). month: counted from January 1970, signed as its name, `2016-05`."""
    name = keccak(month_name(month).encode())
    struct = keccak(ERASURE_TYPE) + word(meter) + name + word(deadline)
    return eip712.digest(separator, keccak(struct))


def erasure_data(
    meter: int, month: int, deadline: int, chain_id: int, registry: str
) -> dict[str, Any]:
    """The erasure as wallets take it."""
    message = {"meter": meter, "month": month_name(month), "deadline": deadline}
    return _document(ERASURE_TYPE, message, chain_id, registry)


def revocation_data(meter: int, grant: bytes, chain_id: int, registry: str) -> dict[str, Any]:
    """The end of a grant as wallets take it."""
    message = {"meter": meter, "grant": "0x" + grant.hex()}
    return _document(REVOCATION_TYPE, message, chain_id, registry)


def access_data(grant: bytes, challenge: bytes, chain_id: int, registry: str) -> dict[str, Any]:
    """One access under a grant as wallets take it."""
    message = {"grant": "0x" + grant.hex(), "challenge": "0x" + challenge.hex()}
    return _document(ACCESS_TYPE, message, chain_id, registry)


def record_data(meter: int, challenge: bytes, chain_id: int, registry: str) -> dict[str, Any]:
    """One look at the record of accesses as wallets take it."""
    message = {"meter": meter, "challenge": "0x" + challenge.hex()}
    return _document(RECORD_TYPE, message, chain_id, registry)


def _document(
    type_text: bytes, message: dict[str, Any], chain_id: int, registry: str
) -> dict[str, Any]:
    frame = eip712.typed_frame(
        type_text.decode(), DOMAIN_NAME, DOMAIN_VERSION, chain_id, checksum_address(registry)
    )
    return {**frame, "message": message}
