# SPDX-License-Identifier: Apache-2.0
"""An account's money: what is free, what open orders hold, and every movement that led there.

µ€ throughout. The movements come from the chain's events and have to sum to the balance that the
contract tells; both are shown, and whether they agree.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dao.eip712 import address_word, keccak, word
from dashboard.repositories.trades import ESCROW, SETTLEMENT, Movement

CENT = 10_000
MAX_DEPOSIT = 1 << 47
"""An account takes deposits up to this balance, so that a later credit always fits."""


@dataclass(frozen=True)
class Standing:
    """What an account has. free: on chain now; waiting: of it spoken for by orders that the relay
    has not posted; escrowed: held by open orders; purse: tokens outside, in the owner's wallet."""

    free: int
    waiting: int
    escrowed: int
    purse: int | None

    @property
    def available(self) -> int:
        return max(0, self.free - self.waiting)


@dataclass(frozen=True)
class Proof:
    """Whether the history is whole. summed: of all movements; on_chain: what the contract says,
    None where it could not be asked; same_block: of the same block that the history ends with."""

    summed: int
    on_chain: int | None
    block: int | None
    same_block: bool = True

    @property
    def agrees(self) -> bool | None:
        """None where it cannot be told: nobody to ask, or the chain is ahead of the history."""
        if self.on_chain is None:
            return None
        if self.summed == self.on_chain:
            return True
        return False if self.same_block else None


@dataclass(frozen=True)
class Line:
    """A movement with the order behind it. paired: for money that came back of an order, what it
    had put in escrow; the difference is what it earned or spent."""

    movement: Movement
    paired: int | None = None

    @property
    def result(self) -> int | None:
        """What the order changed in all, once its money is back."""
        return None if self.paired is None else self.movement.amount - self.paired


def lines(movements: Sequence[Movement], escrows: Mapping[tuple[int, int], int]) -> list[Line]:
    """Movements with the escrow of their orders. escrows: by session and position."""
    found = []
    for one in movements:
        paired = None
        if one.kind == SETTLEMENT and one.session is not None and one.position is not None:
            paired = escrows.get((one.session, one.position))
        found.append(Line(one, paired))
    return found


def held_orders(movements: Sequence[Movement]) -> dict[tuple[int, int], int]:
    """What orders put in escrow, by session and position, as far as these movements go."""
    return {
        (one.session, one.position): -one.amount
        for one in movements
        if one.kind == ESCROW and one.session is not None and one.position is not None
    }


def amount_of(euros: float | None) -> int:
    """Euros as typed, in µ€, to the cent."""
    return 0 if euros is None else round(euros * 100) * CENT


# For those with gas: plain transactions


def approve_data(market: str, amount: int) -> str:
    """Calldata of the token's `approve`: let the market take so much."""
    return _call("approve(address,uint256)", address_word(market), word(amount))


def deposit_data(account: int, amount: int) -> str:
    """Calldata of the market's `deposit` into one account."""
    parts = (64, 128, 1, account, 1, amount)
    return _call("deposit(uint256[],uint256[])", *(word(part) for part in parts))


def _call(signature: str, *words: bytes) -> str:
    return "0x" + (keccak(signature.encode("ascii"))[:4] + b"".join(words)).hex()


def statement(movements: Sequence[Movement]) -> list[dict[str, Any]]:
    """The history as rows of a file, oldest first: each with its transaction to check."""
    return [
        {
            "time": one.at,
            "what": one.kind,
            "amount_micro_euro": one.amount,
            "balance_micro_euro": one.balance,
            "session_first_slot": one.session,
            "position_in_book": one.position,
            "slot": one.slot,
            "wh": one.wh,
            "to": one.party,
            "block": one.block,
            "transaction": one.tx,
        }
        for one in reversed(movements)
    ]


def statement_csv(movements: Sequence[Movement]) -> str:
    """The same rows for a spreadsheet: the time also as a date (UTC), the money also in euro."""
    rows = [
        {
            "time_utc": datetime.fromtimestamp(row["time"], UTC).strftime("%Y-%m-%d %H:%M:%S"),
            "amount_euro": _euro(row["amount_micro_euro"]),
            "balance_euro": _euro(row["balance_micro_euro"]),
            **row,
        }
        for row in statement(movements)
    ]
    out = io.StringIO(newline="")
    if rows:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return out.getvalue()


def _euro(micro: int) -> str:
    """µ€ in euro, to the last digit."""
    whole, rest = divmod(abs(micro), 1_000_000)
    return f"{'-' if micro < 0 else ''}{whole}.{rest:06d}"
