# SPDX-License-Identifier: Apache-2.0
"""People who sign what the relay hands them: typed data over the relay's own functions."""

from __future__ import annotations

from typing import Any

from eth_account import Account as Signer

from dao.chain import LocalAccount
from dao.relay.reader import Relay
from dao.relay.request_intake import (
    RequestAnswer,
    fields_of,
    submit_request,
    typed_request,
)
from dao.relay.request_store import Kind


def sign(document: dict[str, Any], who: LocalAccount) -> str:
    """A wallet's signature of typed data, by eth-account, which shares nothing with the relay."""
    return "0x" + Signer.sign_typed_data(who.key, full_message=document).signature.hex()


def wanted(relay: Relay, kind: Kind, fields: dict[str, Any], who: LocalAccount) -> dict[str, Any]:
    """The body of a request: fields as the relay completes them, and the signature."""
    document, problems = typed_request(relay, kind, fields)
    assert document is not None, problems
    kept: dict[str, Any] = {
        name: fields[name] for name in ("account", "reason", "delegator") if name in fields
    }
    return {**kept, **fields_of(kind, document), "signature": sign(document, who)}


def ask(relay: Relay, kind: Kind, who: LocalAccount, **fields: Any) -> RequestAnswer:
    """Sign and submit."""
    return submit_request(relay, kind, wanted(relay, kind, fields, who))


def taken(relay: Relay, kind: Kind, who: LocalAccount, **fields: Any) -> bytes:
    """Sign and submit what has to be taken; its id."""
    answer = ask(relay, kind, who, **fields)
    assert answer.stored is not None, answer.problems
    return answer.stored.id
