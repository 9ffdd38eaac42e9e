# SPDX-License-Identifier: Apache-2.0
"""Bills in a dossier: one for each metering point and month, closed to all but its home.

A bill is nine sums. Its leaf is a salted hash of them, and its box the same sums under a key that
the leaf and the home's month secret give: who has the secret opens the box, recomputes the leaf,
and finds it under the dossier's root; who has not learns nothing, and once the secret is erased
nobody does. Key and salt never serve twice for different sums: the key depends on the leaf, and
the leaf on the sums.

    context = keccak(tag, chain id, ledger, zone, first slot, slots)
    salt    = keccak(secret, "bill salt", context)
    leaf    = keccak(tag, context, account, month, sums, salt)
    box     = sums xor keccak(secret, "bill box", leaf, 0), keccak(..., 1), ...

Months count from January 1970, UTC. Where the month is not wholly inside the period, the bill is of
the part that is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dao.audit.scope import Scope
from dao.eip712 import address_bytes, keccak
from dao.errors import BadUse, CheckFailed
from dao.json_input import loads
from dao.merkle import root_of
from dao.slots import SLOT_SECONDS

if TYPE_CHECKING:
    import pyarrow as pa

SECRETS_FORMAT = "gridcommons bill secrets 1"
MAX_SECRETS_BYTES = 1 << 20

_TAG = keccak(b"GridCommons bill v1")


@dataclass(frozen=True)
class Bill:
    """What one metering point metered and traded in a month of the period.

    Energy in Wh, money in µ€. Metered sums leave unknown values out: `known_slots` says of how many
    of the `slots` they are. received and paid: penalties taken off or added, fees included.
    """

    import_wh: int
    export_wh: int
    known_slots: int
    slots: int
    orders: int
    sold_wh: int
    received: int
    bought_wh: int
    paid: int

    def packed(self) -> bytes:
        """The sums as 64-bit words, signed, big-endian."""
        return b"".join(
            getattr(self, one.name).to_bytes(8, "big", signed=True) for one in fields(self)
        )

    @staticmethod
    def unpacked(data: bytes) -> Bill:
        """Inverse of `packed`."""
        count = len(fields(Bill))
        return Bill(
            *(int.from_bytes(data[8 * i : 8 * i + 8], "big", signed=True) for i in range(count))
        )


BILL_BYTES = 8 * len(fields(Bill))


def bill_schema() -> pa.Schema:
    """Columns of `proofs/bills.parquet`: account, month (2016-06), leaf and box as 0x text."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("account", pa.int64(), nullable=False),
            pa.field("month", pa.string(), nullable=False),
            pa.field("leaf", pa.string(), nullable=False),
            pa.field("box", pa.string(), nullable=False),
        ]
    )


def context_of(scope: Scope) -> bytes:
    """What every leaf of a dossier is bound to."""
    period = scope.period
    numbers = (scope.chain_id, period.zone, period.first_slot, period.slots)
    packed = b"".join(number.to_bytes(32, "big") for number in numbers)
    return keccak(_TAG + packed + address_bytes(scope.contracts["ReadingLedger"].address))


def month_number(month: str) -> int:
    """Months since January 1970 of 2016-06. ValueError for anything else."""
    if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", month):
        raise ValueError(f"{month!r} is not a month")
    return (int(month[:4]) - 1970) * 12 + int(month[5:]) - 1


def months_of_slots(slots: np.ndarray) -> np.ndarray:
    """The UTC month that each slot begins in, as text."""
    seconds = np.asarray(slots, dtype=np.int64) * SLOT_SECONDS
    return seconds.astype("datetime64[s]").astype("datetime64[M]").astype(str)


def leaf_of(context: bytes, account: int, month: str, bill: Bill, secret: bytes) -> bytes:
    """A bill's leaf, 32 bytes."""
    salt = keccak(secret + b"bill salt" + context)
    place = account.to_bytes(8, "big") + month_number(month).to_bytes(4, "big")
    return keccak(_TAG + context + place + bill.packed() + salt)


def _turned(data: bytes, secret: bytes, leaf: bytes) -> bytes:
    """Close or open a box."""
    stream = b"".join(
        keccak(secret + b"bill box" + leaf + bytes([i])) for i in range(-(-len(data) // 32))
    )
    return bytes(a ^ b for a, b in zip(data, stream, strict=False))


def close_bills(
    scope: Scope, bills: Mapping[tuple[int, str], Bill], secrets: Mapping[tuple[int, str], bytes]
) -> pa.Table:
    """Leaves and boxes by account and month; a bill whose secret is not there is left out."""
    import pyarrow as pa

    context = context_of(scope)
    rows: list[tuple[int, str, str, str]] = []
    for account, month in sorted(bills):
        secret = secrets.get((account, month))
        if secret is None:
            continue
        bill = bills[account, month]
        leaf = leaf_of(context, account, month, bill, secret)
        box = _turned(bill.packed(), secret, leaf)
        rows.append((account, month, "0x" + leaf.hex(), "0x" + box.hex()))
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
    return pa.Table.from_arrays(
        [
            pa.array(column, type=field.type)
            for column, field in zip(columns, bill_schema(), strict=True)
        ],
        schema=bill_schema(),
    )


def bills_root(table: pa.Table) -> bytes:
    """The root over a dossier's bills, in their order."""
    return root_of([bytes.fromhex(leaf[2:]) for leaf in table["leaf"].to_pylist()])


@dataclass(frozen=True)
class TradeSums:
    """What an account's orders came to in a month."""

    orders: int = 0
    sold_wh: int = 0
    received: int = 0
    bought_wh: int = 0
    paid: int = 0


def trade_sums(orders: pa.Table) -> dict[tuple[int, str], TradeSums]:
    """By account and month, from the table `orders` alone: sessions never cross a month."""
    if not orders.num_rows:
        return {}
    account = np.asarray(orders["account"])
    month = months_of_slots(np.asarray(orders["session"]))
    settled = ~np.asarray(orders["credit"].combine_chunks().is_null())
    is_ask = np.array(orders["side"].to_pylist()) == "ask"
    delivered = np.asarray(orders["delivered_wh"].combine_chunks().fill_null(0))
    moved = np.asarray(orders["credit"].combine_chunks().fill_null(0)) - np.asarray(
        orders["escrow"]
    )
    moved = np.where(settled, moved, 0)
    months, month_at = np.unique(month, return_inverse=True)
    accounts, account_at = np.unique(account, return_inverse=True)
    place = account_at * months.size + month_at
    size = accounts.size * months.size

    def sums(values: np.ndarray) -> np.ndarray:
        # Below 2**53, where float sums are exact.
        return np.bincount(place, weights=values, minlength=size).astype(np.int64)

    counts = np.bincount(place, minlength=size)
    columns = [
        sums(np.where(is_ask, delivered, 0)),
        sums(np.where(is_ask, moved, 0)),
        sums(np.where(is_ask, 0, delivered)),
        sums(np.where(is_ask, 0, -moved)),
    ]
    return {
        (int(accounts[at // months.size]), str(months[at % months.size])): TradeSums(
            int(counts[at]), *(int(column[at]) for column in columns)
        )
        for at in np.flatnonzero(counts).tolist()
    }


# A resident's check


@dataclass(frozen=True)
class BillSecrets:
    """What a home brings: its metering point, its month secrets, and, where it likes, what its own
    meter shows for a month (import and export, Wh)."""

    account: int
    months: Mapping[str, bytes]
    metered: Mapping[str, tuple[int, int]]


def secrets_document(account: int, months: Mapping[str, bytes]) -> dict[str, Any]:
    """The file that a home keeps, and shows to nobody."""
    return {
        "format": SECRETS_FORMAT,
        "account": account,
        "months": {month: "0x" + secret.hex() for month, secret in sorted(months.items())},
    }


def read_secrets(path: Path) -> BillSecrets:
    """BadUse unless the file is one of `secrets_document`; `metered` may stand beside it."""
    try:
        data = path.read_bytes()
        if len(data) > MAX_SECRETS_BYTES:
            raise ValueError("too large")
        document = loads(data)
        if document["format"] != SECRETS_FORMAT:
            raise ValueError("another format")
        months = {}
        for month, text in document["months"].items():
            month_number(month)
            secret = bytes.fromhex(text[2:])
            if len(secret) != 32 or text[:2] != "0x":
                raise ValueError(month)
            months[month] = secret
        metered = {
            str(month): (int(one["import_wh"]), int(one["export_wh"]))
            for month, one in document.get("metered", {}).items()
        }
        account = document["account"]
        if type(account) is not int or not 0 < account < 1 << 32 or not months:
            raise ValueError("account")
        return BillSecrets(account, months, metered)
    except OSError as error:
        raise BadUse(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadUse(f"{path} is not a file of bill secrets") from None


def open_bill(
    scope: Scope, table: pa.Table, root: str, account: int, month: str, secret: bytes
) -> Bill:
    """The bill of a home and month; root: of all bills, as the manifest has it. CheckFailed where
    it is not in the dossier, or not its own."""
    if "0x" + bills_root(table).hex() != root:
        raise CheckFailed("the bills are not those under the dossier's root")
    for row in table.to_pylist():
        if (row["account"], row["month"]) != (account, month):
            continue
        leaf, box = (bytes.fromhex(row[name][2:]) for name in ("leaf", "box"))
        if len(box) != BILL_BYTES:
            raise CheckFailed(f"the bill of account {account} for {month} is cut off")
        bill = Bill.unpacked(_turned(box, secret, leaf))
        if leaf_of(context_of(scope), account, month, bill, secret) != leaf:
            raise CheckFailed(
                f"the bill of account {account} for {month} does not open with this secret: "
                "it is another home's, or was changed"
            )
        return bill
    raise CheckFailed(f"the dossier has no bill of account {account} for {month}")


def bills_with(
    trades: Mapping[tuple[int, str], TradeSums],
    metered: Iterable[tuple[int, str, int, int, int, int]],
) -> dict[tuple[int, str], Bill]:
    """Bills from what was traded and what was metered: account, month, import, export, known slots
    and slots."""
    found = {}
    for account, month, imported, exported, known, slots in metered:
        traded = trades.get((account, month), TradeSums())
        found[account, month] = Bill(
            imported,
            exported,
            known,
            slots,
            traded.orders,
            traded.sold_wh,
            traded.received,
            traded.bought_wh,
            traded.paid,
        )
    return found
