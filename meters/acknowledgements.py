# SPDX-License-Identifier: Apache-2.0
"""What a collector promises to a gateway: these readings are durable, and here your chains stand.

`Acknowledgement(bytes32 frame,uint32 accepted,uint32 duplicates,uint32 rejected,bytes32 heads)` in
the domain "GridCommons Collector", version "1", whose verifying contract is the ReadingLedger,
signed by the zone's collector. `heads` is keccak of meter (4), sequence (8) and link (32) of each
meter in the frame, by meter. Sending is not done here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dao import eip712
from dao.errors import BadUse, CheckFailed
from meters.frames import hex_bytes
from meters.readings import LINK_BYTES, SIGNATURE_BYTES
from meters.signing import Head
from meters.validation import RULES, Finding

DOMAIN_NAME = "GridCommons Collector"
DOMAIN_VERSION = "1"
TYPE = (
    b"Acknowledgement(bytes32 frame,uint32 accepted,uint32 duplicates,uint32 rejected,"
    b"bytes32 heads)"
)
TYPEHASH = eip712.keccak(TYPE)

_COUNT = 1 << 32
_NUMBER = 1 << 63


@dataclass(frozen=True)
class Busy:
    """The collector cannot take the frame now: keep it and come again after so many seconds."""

    seconds: float

    def to_json(self) -> dict[str, Any]:
        return {"busy": self.seconds}


@dataclass(frozen=True)
class Acknowledgement:
    """What became of one frame. What was accepted is durable; what was rejected is so for good,
    `future_slot` aside.

    frame: its id. heads: where the chain of each meter in the frame now stands; a meter with no
    reading yet is left out.
    """

    frame: bytes
    accepted: int
    duplicates: int
    rejected: Sequence[Finding] = ()
    heads: Mapping[int, Head] = field(default_factory=dict)
    signature: bytes = bytes(SIGNATURE_BYTES)

    def digest(self, separator: bytes) -> bytes:
        """What the collector signs; `separator` is `acknowledgement_separator`."""
        return eip712.digest(
            separator,
            eip712.keccak(
                TYPEHASH
                + self.frame
                + eip712.word(self.accepted)
                + eip712.word(self.duplicates)
                + eip712.word(len(self.rejected))
                + self.heads_hash
            ),
        )

    @property
    def heads_hash(self) -> bytes:
        """The heads as they are signed, 32 bytes."""
        return eip712.keccak(
            b"".join(
                meter.to_bytes(4, "big") + head.sequence.to_bytes(8, "big") + head.link
                for meter, head in sorted(self.heads.items())
            )
        )

    def typed_data(self, chain_id: int, ledger: str) -> dict[str, Any]:
        """The same as wallets sign it (`eth_signTypedData_v4`)."""
        return {
            **eip712.typed_frame(TYPE.decode(), DOMAIN_NAME, DOMAIN_VERSION, chain_id, ledger),
            "message": {
                "frame": self.frame,
                "accepted": self.accepted,
                "duplicates": self.duplicates,
                "rejected": len(self.rejected),
                "heads": self.heads_hash,
            },
        }

    def signed(self, key: bytes, separator: bytes) -> Acknowledgement:
        """This acknowledgement with the signature of the collector's private key."""
        return replace(self, signature=eip712.sign_digest(key, self.digest(separator)))

    def verify(self, separator: bytes, collector: bytes | str, frame: bytes) -> None:
        """Raises CheckFailed unless it speaks of the frame with this id and is the collector's."""
        if self.frame != frame:
            raise CheckFailed("the acknowledgement speaks of another frame")
        try:
            signer = eip712.recover(self.digest(separator), self.signature)
        except ValueError:
            signer = b""
        if signer != eip712.address_bytes(collector):
            raise CheckFailed("the acknowledgement is not signed by the zone's collector")

    def to_json(self) -> dict[str, Any]:
        return {
            "frame": "0x" + self.frame.hex(),
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "rejected": [finding._asdict() for finding in self.rejected],
            "heads": {
                str(meter): {"sequence": head.sequence, "link": "0x" + head.link.hex()}
                for meter, head in sorted(self.heads.items())
            },
            "signature": "0x" + self.signature.hex(),
        }


def acknowledgement_separator(chain_id: int, ledger: str | bytes) -> bytes:
    """The domain separator of acknowledgements for the ReadingLedger at `ledger`, 32 bytes."""
    return eip712.domain_separator(DOMAIN_NAME, DOMAIN_VERSION, chain_id, ledger)


def parse(document: object) -> Acknowledgement | Busy:
    """What a collector answered, of a parsed JSON document; not verified. BadUse if malformed."""
    if not isinstance(document, Mapping):
        raise BadUse("an acknowledgement is a JSON object")
    if "busy" in document:
        seconds = document["busy"]
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise BadUse("acknowledgement: busy is not a number of seconds")
        # A gateway takes no order to wait for ever, or not at all; NaN compares false.
        return Busy(min(max(float(seconds), 0.0), 3600.0) if seconds == seconds else 0.0)
    rejected = document.get("rejected")
    heads = document.get("heads")
    if not isinstance(rejected, list) or not isinstance(heads, Mapping):
        raise BadUse("acknowledgement: rejected or heads is missing")
    return Acknowledgement(
        frame=hex_bytes(document.get("frame"), 32, "acknowledgement: frame"),
        accepted=_whole(document, "accepted", _COUNT),
        duplicates=_whole(document, "duplicates", _COUNT),
        rejected=tuple(_finding(entry) for entry in rejected),
        heads=dict(_head(meter, entry) for meter, entry in heads.items()),
        signature=hex_bytes(
            document.get("signature"), SIGNATURE_BYTES, "acknowledgement: signature"
        ),
    )


def _finding(entry: object) -> Finding:
    if not isinstance(entry, Mapping) or str(entry.get("rule")) not in RULES:
        raise BadUse("acknowledgement: a rejected reading names no rule")
    return Finding(
        str(entry["rule"]),
        _whole(entry, "meter", _NUMBER),
        _whole(entry, "slot", _NUMBER),
        _whole(entry, "sequence", _NUMBER),
    )


def _head(meter: object, entry: object) -> tuple[int, Head]:
    # Unicode has digits that int() takes and nobody writes.
    if not isinstance(meter, str) or not (meter.isascii() and meter.isdigit() and len(meter) <= 10):
        raise BadUse("acknowledgement: a head's meter is not a number")
    if int(meter) >= _COUNT or not isinstance(entry, Mapping):
        raise BadUse("acknowledgement: a head is malformed")
    link = hex_bytes(entry.get("link"), LINK_BYTES, "acknowledgement: a head's link")
    return int(meter), Head(_whole(entry, "sequence", _NUMBER), link)


def _whole(document: Mapping[str, Any], name: str, limit: int) -> int:
    value = document.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < limit:
        raise BadUse(f"acknowledgement: {name} is not a whole number below {limit}")
    return value
