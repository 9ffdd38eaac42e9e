# SPDX-License-Identifier: Apache-2.0
"""The shape of what is submitted: JSON values as an order's or a receipt's fields, or everything
that is wrong with them.

Plain functions over plain data. Whether an order of good shape is a good order, `checks` asks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dao.eip712 import expand
from dao.market.orders import ASK, BID, MAX_LIMIT, MAX_SESSION_SLOTS, MAX_WH, Order
from dao.market.session import NONCES, WALLET_SIGNATURE_BYTES
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY

SIDES = {"bid": BID, "ask": ASK}
SIDE_NAMES = {side: name for name, side in SIDES.items()}
WHOLE: dict[str, tuple[int, int]] = {
    "account": (1, 2**32 - 1),
    "mandate": (0, 2**32 - 1),
    "nonce": (0, NONCES - 1),
    "expiry": (0, 2**40 - 1),
    "limit": (0, MAX_LIMIT),
    # The day before has to lie in unix time, and the end in the chain's 40 bits of it.
    "first_slot": (SLOTS_PER_DAY, 2**40 // SLOT_SECONDS - MAX_SESSION_SLOTS),
    "slots": (1, MAX_SESSION_SLOTS),
}
"""Fields of an order that are whole numbers, each with its lowest and highest value."""
FIELDS = ("account", "mandate", "nonce", "expiry", "side", "limit", "first_slot", "slots", "wh")
_OPTIONAL = {"mandate": 0}
RECEIPT_FIELDS = ("meter", "first_slot", "exports", "signature")

_SIGNATURE = re.compile(rf"0x(?:[0-9a-fA-F]{{2}}){{1,{WALLET_SIGNATURE_BYTES}}}", re.ASCII)
_SIGNATURE_ACCEPTED = (
    "0x and 65 bytes r, s, v, or the 64 bytes of EIP-2098, in hex; of a contract wallet up to "
    f"{WALLET_SIGNATURE_BYTES} bytes"
)


@dataclass(frozen=True)
class Problem:
    """What is wrong with a field, and what would be accepted."""

    field: str
    problem: str
    accepted: str


@dataclass(frozen=True)
class Draft:
    """An order as submitted, its shape known to be good. It names its own first slot: which
    session that belongs to, the chain says. signature: as submitted, empty where none was asked.
    """

    account: int
    mandate: int
    nonce: int
    expiry: int
    side: int
    limit: int
    first_slot: int
    slots: int
    wh: int | tuple[int, ...]
    signature: bytes

    def order(self, session_slot: int) -> Order:
        """The order as an order of the session that starts with `session_slot`."""
        return Order(
            account=self.account,
            mandate=self.mandate,
            nonce=self.nonce,
            expiry=self.expiry,
            side=self.side,
            limit=self.limit,
            session_slot=session_slot,
            offset=self.first_slot - session_slot,
            wh=self.wh,
            count=self.slots,
        )


def parse_order(document: Any, *, signed: bool = True) -> tuple[Draft | None, list[Problem]]:
    """A submitted JSON value as an order, or everything that is wrong with its shape.

    signed: whether it has to carry a signature; without, it must not.
    """
    if not isinstance(document, Mapping):
        return None, [Problem("order", f"{shown(document)} is not an object", "an order's fields")]
    known = (*FIELDS, "signature") if signed else FIELDS
    problems = unknown_fields(document, known)
    values: dict[str, Any] = {**_OPTIONAL}
    for field in known:
        if field in document:
            values[field] = document[field]
        elif field not in _OPTIONAL:
            problems.append(Problem(field, "missing", _accepted(field)))
    for field in WHOLE.keys() & values.keys():
        problems += whole(field, values[field], *WHOLE[field])
    if "side" in values and (not isinstance(values["side"], str) or values["side"] not in SIDES):
        problems.append(
            Problem("side", f"{shown(values['side'])} is not a side", _accepted("side"))
        )
    if "wh" in values:
        problems += _energy_problems(values["wh"], values.get("slots"))
    if "signature" in values:
        problems += signature_problems(values["signature"])
    if problems:
        return None, sorted(problems, key=lambda one: one.field)
    wh = values["wh"]
    return (
        Draft(
            **{field: values[field] for field in WHOLE},
            side=SIDES[values["side"]],
            wh=tuple(wh) if isinstance(wh, list) else wh,
            signature=bytes.fromhex(values["signature"][2:]) if signed else b"",
        ),
        [],
    )


def receipt_problems(document: Any) -> list[Problem]:
    """What is wrong with the shape of a submitted delivery receipt."""
    if not isinstance(document, Mapping):
        return [Problem("receipt", f"{shown(document)} is not an object", "a receipt's fields")]
    problems = unknown_fields(document, RECEIPT_FIELDS)
    problems += [
        Problem(field, "missing", ", ".join(RECEIPT_FIELDS))
        for field in RECEIPT_FIELDS
        if field not in document
    ]
    if problems:
        return problems
    problems += whole("meter", document["meter"], *WHOLE["account"])
    problems += whole("first_slot", document["first_slot"], *WHOLE["first_slot"])
    exports = document["exports"]
    if not isinstance(exports, list) or not 1 <= len(exports) <= MAX_SESSION_SLOTS:
        accepted = f"a list of Wh for each slot, 1..{MAX_SESSION_SLOTS} of them"
        problems.append(Problem("exports", f"{shown(exports)} is not one", accepted))
    else:
        for index, value in enumerate(exports):
            problems += whole(f"exports[{index}]", value, 0, MAX_WH)
    return problems + signature_problems(document["signature"])


def whole(field: str, value: Any, lowest: int, highest: int) -> list[Problem]:
    """What keeps a JSON value from being a whole number in a range."""
    accepted = f"a whole number {lowest}..{highest}"
    if isinstance(value, bool) or not isinstance(value, int):
        return [Problem(field, f"{shown(value)} is not a whole number", accepted)]
    if not lowest <= value <= highest:
        return [Problem(field, f"{shown(value)} is out of range", accepted)]
    return []


def shown(value: Any) -> str:
    """A value as a message quotes it: plain ASCII, on one line, and not for ever."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**38:
        return "a number of more than 38 digits"
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = ascii(value[:64] if isinstance(value, str) else value)
    return text if len(text) <= 40 else text[:37] + "..."


def key_signature(raw: bytes) -> bytes:
    """A key's signature as 65 bytes r || s || v, from any form that wallets give it; what is
    none stays as it is."""
    if len(raw) == 64:
        return expand(raw[:32], raw[32:])
    if len(raw) == 65 and raw[64] < 2:
        return raw[:64] + bytes([raw[64] + 27])
    return raw


# Inside


def unknown_fields(document: Mapping[str, Any], known: Sequence[str]) -> list[Problem]:
    """The first few: a request full of them must not make a much longer answer."""
    unknown = [key for key in document if key not in known][:5]
    return [Problem(shown(key), "unknown field", f"only {', '.join(known)}") for key in unknown]


def _energy_problems(wh: Any, slots: Any) -> list[Problem]:
    if not isinstance(wh, list):
        return whole("wh", wh, 1, MAX_WH)
    if len(wh) != slots:
        return [Problem("wh", f"{len(wh)} values", f"one for each of the slots, {shown(slots)}")]
    problems = [
        problem
        for index, value in enumerate(wh)
        for problem in whole(f"wh[{index}]", value, 0, MAX_WH)
    ]
    if not problems and not any(wh):
        problems.append(Problem("wh", "0 in every slot", "at least one slot above 0"))
    return problems


def signature_problems(value: Any) -> list[Problem]:
    if isinstance(value, str) and _SIGNATURE.fullmatch(value):
        return []
    return [Problem("signature", "not a signature in hex", _SIGNATURE_ACCEPTED)]


def _accepted(field: str) -> str:
    if field in WHOLE:
        return "a whole number {}..{}".format(*WHOLE[field])
    return {
        "side": "bid or ask",
        "wh": f"Wh in each slot, 1..{MAX_WH}, or a list with one value per slot",
        "signature": _SIGNATURE_ACCEPTED,
    }[field]
