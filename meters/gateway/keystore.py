# SPDX-License-Identifier: Apache-2.0
"""The device key on disk: an encrypted JSON keystore (version 3, scrypt), and its change.

The format is Ethereum's, so that any wallet opens it. A password comes from a file or from the
environment, never from the command line, where every process of the machine can read it.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dao import eip712
from dao.errors import BadUse, CheckFailed
from dao.metering import KeyRotation, registry_separator, sign_rotation
from dao.paths import ensure_parent
from meters.signing import CURVE_ORDER

PASSWORD_VARIABLE = "GRIDCOMMONS_GATEWAY_PASSWORD"


@dataclass(frozen=True)
class DeviceKey:
    """A private key (32 bytes) and the address that is registered for it."""

    private: bytes
    address: str

    @classmethod
    def of(cls, private: bytes) -> DeviceKey:
        return cls(private, eip712.address_of(private))

    def __repr__(self) -> str:
        return f"DeviceKey({self.address})"  # the key stays out of logs


def read_password(file: Path | None) -> str:
    """The keystore's password: the first line of a file, else from the environment."""
    if file is None:
        password = os.environ.get(PASSWORD_VARIABLE, "")
        if not password:
            raise BadUse(f"no password: name a password_file, or set {PASSWORD_VARIABLE}")
        return password
    try:
        text = file.read_text(encoding="utf-8")
        mode = file.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise BadUse(f"cannot read the password file {file}: {error}") from None
    if mode & 0o077:
        raise BadUse(f"the password file {file} can be read by others: chmod 600 it")
    password = text.split("\n", 1)[0].rstrip("\r")
    if not password:
        raise BadUse(f"the password file {file} is empty")
    return password


def new_key(file: Path, password: str, work: int | None = None) -> DeviceKey:
    """A random key, written encrypted to a file that does not exist yet.

    work: scrypt's cost, a power of two; None for what wallets use (262,144).
    """
    from eth_keyfile import create_keyfile_json

    private = bytes(32)
    while not 0 < int.from_bytes(private, "big") < CURVE_ORDER:
        private = secrets.token_bytes(32)
    key = DeviceKey.of(private)
    document = create_keyfile_json(private, password, kdf="scrypt", iterations=work)
    _write_new(file, json.dumps(document).encode())
    return key


def _write_new(file: Path, data: bytes) -> None:
    """A file that only its owner reads, on disk before this returns; an old one is never lost."""
    try:
        descriptor = os.open(ensure_parent(file), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise BadUse(f"{file} exists already; a key is never overwritten") from None
    except OSError as error:
        raise CheckFailed(f"cannot write {file}: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load_key(file: Path, password: str) -> DeviceKey:
    """The key in a keystore. BadUse for a file that is none, CheckFailed for a wrong password."""
    return DeviceKey.of(open_keystore(_document(file), str(file), password))


def open_keystore(document: dict[str, Any], name: str, password: str) -> bytes:
    """The private key in a keystore's document, 32 bytes. BadUse for one that is none, CheckFailed
    for a wrong password."""
    from eth_keyfile import decode_keyfile_json

    try:
        return bytes(decode_keyfile_json(document, password))
    except ValueError as error:
        if "MAC" in str(error):
            raise CheckFailed(f"the password does not open {name}") from None
        raise BadUse(f"{name} is not a keystore: {error}") from None
    # The last is what eth_keyfile says of any version but 3 and 4.
    except (KeyError, TypeError, AttributeError, NotImplementedError) as error:
        raise BadUse(f"{name} is not a keystore: {error!r}") from None


def address_in(file: Path) -> str:
    """The address that a keystore says it holds; no password is needed."""
    try:
        return eip712.checksum_address(_document(file)["address"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BadUse(f"{file} is not a keystore: it names no address") from None


def _document(file: Path) -> dict[str, Any]:
    try:
        return parse_keystore(file.read_bytes(), str(file))
    except FileNotFoundError:
        raise BadUse(
            f"there is no key at {file}; `gridcommons meter gateway key new` makes one"
        ) from None
    except OSError as error:
        raise BadUse(f"{file} is not a keystore: {error}") from None


def parse_keystore(content: bytes, name: str) -> dict[str, Any]:
    """A keystore's document, its key still closed. BadUse for what is no JSON object."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadUse(f"{name} is not a keystore: {error}") from None
    if not isinstance(document, dict):
        raise BadUse(f"{name} is not a keystore: no JSON object")
    return document


# The change of a key: countersigned by the old one, so that any account may send it.


@dataclass(frozen=True)
class RotationRequest:
    """What `MeterRegistry.rotate_key_signed` takes, signed by the old key and by the new one."""

    chain_id: int
    registry: str
    rotation: KeyRotation
    old_signature: bytes
    new_signature: bytes

    def as_dict(self) -> dict[str, Any]:
        """The request as JSON, its fields in the order of the call's arguments."""
        return {
            "chain_id": self.chain_id,
            "registry": self.registry,
            "call": "rotate_key_signed",
            **asdict(self.rotation),
            "old_signature": "0x" + self.old_signature.hex(),
            "new_signature": "0x" + self.new_signature.hex(),
        }


def request_rotation(
    chain_id: int, registry: str, meter: int, old: DeviceKey, new: DeviceKey, valid_from: int
) -> RotationRequest:
    """The request that a new key holds from a unix time on, until which it can be sent."""
    if old.address == new.address:
        raise BadUse("the new key is the old one")
    rotation = KeyRotation(meter, new.address, valid_from, deadline=valid_from)
    separator = registry_separator(chain_id, registry)
    old_signature, new_signature = (
        sign_rotation(separator, key.private, rotation) for key in (old, new)
    )
    return RotationRequest(chain_id, registry, rotation, old_signature, new_signature)
