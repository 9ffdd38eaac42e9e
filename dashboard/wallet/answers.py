# SPDX-License-Identifier: Apache-2.0
"""What came back from a wallet, read with suspicion: it passed through somebody's browser."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .requests import Request

PROBLEMS = (
    "rejected",
    "wrong-account",
    "wrong-chain",
    "no-wallet",
    "busy",
    "disconnected",
    "delivery-failed",
    "other",
)

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_HEX = re.compile(r"0x[0-9a-fA-F]*")
_MAX_TEXT = 300
# A contract wallet's signature may be long; a megabyte is none.
_MAX_SIGNATURE = 20_000


@dataclass(frozen=True)
class Answer:
    """How one request ended.

    `account` is the address that answered, in the wallet's spelling, empty if there was none;
    `delivered` the HTTP status and JSON of the delivery, {"status": int, "body": ...}; `problem`
    one of PROBLEMS, None when all is well; `detail` the wallet's or the server's own words, text
    that nobody has vouched for. `fresh` is True in one script run only: act on the answer then.
    `request` is what was asked, None where this session did not ask it (the page was reloaded).
    """

    request_id: str
    ok: bool
    signature: str | None
    transaction: str | None
    account: str
    delivered: dict[str, Any] | None
    problem: str | None
    detail: str
    fresh: bool = False
    request: Request | None = None


def read_answer(raw: Any, fresh: bool, request: Request | None) -> Answer | None:
    """The answer in a component's state, None for anything that is not one."""
    if not isinstance(raw, Mapping):
        return None
    ok, problem = raw.get("ok"), raw.get("problem")
    request_id, account = raw.get("id"), raw.get("account") or ""
    signature, transaction = raw.get("signature"), raw.get("transaction")
    detail, delivered = raw.get("detail") or "", raw.get("delivered")
    sound = (
        isinstance(ok, bool)
        and isinstance(request_id, str)
        and len(request_id) <= _MAX_TEXT
        and problem in (None, *PROBLEMS)
        and ok == (problem is None)
        and (account == "" or _matches(_ADDRESS, account, 42))
        and (signature is None or _matches(_HEX, signature, _MAX_SIGNATURE))
        and (transaction is None or _matches(_HEX, transaction, 66))
        and isinstance(detail, str)
        and (delivered is None or _is_delivery(delivered))
    )
    if not sound:
        return None
    return Answer(
        request_id=str(request_id),
        ok=bool(ok),
        signature=signature,
        transaction=transaction,
        account=account,
        delivered=delivered,
        problem=problem,
        detail=detail[:_MAX_TEXT],
        fresh=fresh,
        request=request,
    )


def _matches(pattern: re.Pattern[str], text: Any, longest: int) -> bool:
    return isinstance(text, str) and len(text) <= longest and bool(pattern.fullmatch(text))


def _is_delivery(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("status"), int)
