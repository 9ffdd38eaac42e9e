# SPDX-License-Identifier: Apache-2.0
"""The text that a wallet signs to sign in (EIP-4361): written here, and read back strictly.

Pure text: who made it, and whether it was used before, is the business of `dashboard.sessions`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from dao.eip712 import checksum_address, keccak

STATEMENTS = {
    "en": "Sign in to GridCommons. This costs nothing and moves no money.",
    "de": "Anmelden bei GridCommons. Das kostet nichts und bewegt kein Geld.",
}
"""What is signed, by language; the lines around it are the standard's, and so is that it has
letters of ASCII only."""
MAX_MESSAGE = 1_500

_TEXT = re.compile(
    r"(?P<domain>[A-Za-z0-9.:\[\]_-]{1,260}) wants you to sign in with your Ethereum account:\n"
    r"(?P<account>0x[0-9a-fA-F]{40})\n\n"
    rf"(?P<statement>{'|'.join(map(re.escape, STATEMENTS.values()))})\n\n"
    r"URI: (?P<uri>https?://[A-Za-z0-9.:\[\]_-]{1,260}/?)\n"
    r"Version: 1\n"
    r"Chain ID: (?P<chain>[1-9][0-9]{0,15})\n"
    r"Nonce: (?P<nonce>[A-Za-z0-9]{8,128})\n"
    r"Issued At: (?P<issued>[0-9TZ:-]{20})\n"
    r"Expiration Time: (?P<expires>[0-9TZ:-]{20})"
)


@dataclass(frozen=True)
class SignInText:
    """The fields of a sign-in text. domain: host and port; issued, expires: unix seconds; language:
    one that there is a statement in."""

    domain: str
    account: str
    uri: str
    chain_id: int
    nonce: str
    issued: int
    expires: int
    language: str = "en"

    def write(self) -> str:
        """The text itself."""
        return (
            f"{self.domain} wants you to sign in with your Ethereum account:\n"
            f"{self.account}\n\n{STATEMENTS[self.language]}\n\n"
            f"URI: {self.uri}\nVersion: 1\nChain ID: {self.chain_id}\nNonce: {self.nonce}\n"
            f"Issued At: {_iso(self.issued)}\nExpiration Time: {_iso(self.expires)}"
        )


def read(text: str) -> SignInText:
    """The fields of a text as `write` writes it. ValueError for anything else."""
    found = _TEXT.fullmatch(text) if len(text) <= MAX_MESSAGE else None
    if found is None:
        raise ValueError("not a sign-in text of this dashboard")
    fields = SignInText(
        domain=found["domain"],
        account=checksum_address(found["account"]),
        uri=found["uri"],
        chain_id=int(found["chain"]),
        nonce=found["nonce"],
        issued=_seconds(found["issued"]),
        expires=_seconds(found["expires"]),
        language=next(one for one, said in STATEMENTS.items() if said == found["statement"]),
    )
    if fields.write() != text:
        raise ValueError("not a sign-in text of this dashboard")
    return fields


def personal_digest(text: str) -> bytes:
    """What personal_sign signs (EIP-191), 32 bytes."""
    raw = text.encode("utf-8")
    return keccak(b"\x19Ethereum Signed Message:\n" + str(len(raw)).encode() + raw)


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(text: str) -> int:
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())
