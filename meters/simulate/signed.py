# SPDX-License-Identifier: Apache-2.0
"""What a charge point's meter signs of a visit: an OCMF 1.0 record with its two readings.

The key follows from the meter's serial number: it protects nothing, and stands for no real meter.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class SigningMeter:
    """A meter that counts its records; ECDSA on secp256r1 over SHA-256."""

    def __init__(self, serial: str) -> None:
        self.serial = serial
        self._records = 0

    @cached_property
    def _key(self) -> Any:
        from cryptography.hazmat.primitives.asymmetric import ec

        seed = hashlib.sha256(b"gridcommons simulated meter " + self.serial.encode()).digest()
        number = int.from_bytes(seed, "big") % (_P256_ORDER - 1) + 1
        return ec.derive_private_key(number, ec.SECP256R1())

    @cached_property
    def public_key(self) -> str:
        """Hex of the key as it stands on the meter (DER)."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        made: bytes = self._key.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        return made.hex()

    def record(self, tag: str, begin: tuple[float, int], end: tuple[float, int]) -> str:
        """`OCMF|payload|signature` of a visit: time and register (Wh) at its begin and end."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        self._records += 1
        readings = [
            {
                "TM": _time(at),
                "TX": kind,
                "RV": wh / 1000,
                "RI": "1-0:1.8.0",
                "RU": "kWh",
                "RT": "AC",
                "EF": "",
                "ST": "G",
            }
            for kind, (at, wh) in (("B", begin), ("E", end))
        ]
        payload = json.dumps(
            {
                "FV": "1.0",
                "GI": "GridCommons simulated",
                "GS": self.serial,
                "GV": "1",
                "PG": f"T{self._records}",
                "MV": "GridCommons",
                "MM": "Simulated",
                "MS": self.serial,
                "MF": "1",
                "IS": True,
                "IL": "NONE",
                "IF": [],
                "IT": "LOCAL",
                "ID": tag,
                "RD": readings,
            },
            separators=(",", ":"),
        )
        signature = self._key.sign(payload.encode(), ec.ECDSA(hashes.SHA256()))
        sealed = json.dumps(
            {"SA": "ECDSA-secp256r1-SHA256", "SD": signature.hex()}, separators=(",", ":")
        )
        return f"OCMF|{payload}|{sealed}"


def _time(at: float) -> str:
    """OCMF's time, S for a clock that is synchronised."""
    when = datetime.fromtimestamp(round(at * 1000) / 1000, UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%S,") + f"{when.microsecond // 1000:03}+0000 S"
