# SPDX-License-Identifier: Apache-2.0
"""A meter's key hands over to the next one, by two signatures that anyone may bring to the chain.

Which keys a meter had is told by `MeterRegistry`, and so is what a handover may do. Keys are made
and kept by the gateways; here they only sign.
"""

from __future__ import annotations

from dataclasses import dataclass

from dao.chain import Account, Contract, Receipt
from dao.eip712 import (
    address_bytes,
    address_word,
    checksum_address,
    digest,
    domain_separator,
    keccak,
    recover,
    sign_digest,
    word,
)
from dao.errors import BadUse

MAX_AHEAD = 30 * 86_400
"""Seconds that a new key may begin ahead."""

_ROTATION_TYPEHASH = keccak(
    b"KeyRotation(uint32 meter,address device,uint64 validFrom,uint64 deadline)"
)
_NOBODY = "0x" + "00" * 20


@dataclass(frozen=True)
class KeyRotation:
    """What the meter's key in force and the new one both sign."""

    meter: int
    device: str
    """Address of the new key."""
    valid_from: int
    """Unix seconds; the old key ends there. Best the beginning of a slot, and a few minutes ahead:
    what reaches the chain later is refused."""
    deadline: int
    """The last unix second at which the signatures count. Not far behind, or ahead of, now: what
    is signed and not sent can be sent by anyone until then."""


def registry_separator(chain_id: int, registry: str | bytes) -> bytes:
    """The EIP-712 domain that rotations are signed under."""
    return domain_separator("GridCommons MeterRegistry", "1", chain_id, registry)


def rotation_digest(separator: bytes, rotation: KeyRotation) -> bytes:
    """What both keys sign, 32 bytes. BadUse where a field cannot stand in it."""
    for name, value, bits in (
        ("meter", rotation.meter, 32),
        ("valid_from", rotation.valid_from, 64),
        ("deadline", rotation.deadline, 64),
    ):
        if not 0 <= value < 1 << bits:
            raise BadUse(f"{name} {value}: expected 0 to {(1 << bits) - 1}")
    try:
        device = address_word(rotation.device)
    except ValueError as error:
        raise BadUse(f"device {rotation.device!r}: {error}") from None
    return digest(
        separator,
        keccak(
            _ROTATION_TYPEHASH
            + word(rotation.meter)
            + device
            + word(rotation.valid_from)
            + word(rotation.deadline)
        ),
    )


def sign_rotation(separator: bytes, key: bytes, rotation: KeyRotation) -> bytes:
    """The signature of the key in force, or of the new one: 65 bytes r, s, v."""
    return sign_digest(key, rotation_digest(separator, rotation))


def rotate(
    registry: Contract,
    rotation: KeyRotation,
    old_signature: bytes,
    new_signature: bytes,
    sender: Account,
) -> Receipt:
    """Bring a handover to the chain; the sender pays and needs no right.

    Raises BadUse where a signature is not that of the key in force now, or of the new device;
    ContractReverted with the registry's reason.
    """
    signed = rotation_digest(
        registry_separator(registry.chain.chain_id, registry.address), rotation
    )
    in_force = str(registry.call("device_at", rotation.meter, registry.chain.now()))
    if in_force != _NOBODY:
        _check(signed, old_signature, in_force, f"the key in force of meter {rotation.meter}")
    _check(signed, new_signature, rotation.device, "the new device")
    return registry.transact(
        "rotate_key_signed",
        rotation.meter,
        checksum_address(rotation.device),
        rotation.valid_from,
        rotation.deadline,
        old_signature,
        new_signature,
        sender=sender,
    )


def _check(signed: bytes, signature: bytes, by: str, whose: str) -> None:
    """BadUse where the signature is not by that address."""
    try:
        signer = recover(signed, signature)
    except ValueError as error:
        raise BadUse(f"the signature of {whose} cannot be used: {error}") from None
    if signer != address_bytes(by):
        raise BadUse(
            f"the signature of {whose} is {checksum_address(signer)}'s, not {by}'s, or was made "
            "for other terms, another registry or another chain"
        )
