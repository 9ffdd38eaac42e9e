# SPDX-License-Identifier: Apache-2.0
"""What an account's owner signs besides orders: mandates, withdrawals, revocations.

Each message can be brought to the market by anyone who pays the gas. Digests are packed by hand
and held byte-identical to eth-account by the tests; orders live in `orders.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from dao.chain import Account, Contract, Receipt
from dao.eip712 import address_word, compact, digest, keccak, word
from dao.errors import BadUse
from dao.market.orders import BID, MAX_LIMIT

WITHDRAWAL_TYPE = "Withdrawal(uint32 account,uint16 nonce,uint48 amount,address to,uint40 deadline)"
REVOCATION_TYPE = "Revocation(uint32 account,uint16 nonce)"
MANDATE_TYPE = (
    "Mandate(uint32 account,uint32 number,address agent,uint8 side,uint16 limit,uint16 dailyCap,"
    "uint16 lastDay)"
)
MANDATE_END_TYPE = "MandateEnd(uint32 account,uint32 number)"

_WITHDRAWAL = keccak(WITHDRAWAL_TYPE.encode("ascii"))
_REVOCATION = keccak(REVOCATION_TYPE.encode("ascii"))
_MANDATE = keccak(MANDATE_TYPE.encode("ascii"))
_MANDATE_END = keccak(MANDATE_END_TYPE.encode("ascii"))

CAP_UNIT = 100_000
"""A daily cap counts ten cents, in token units."""
MAX_CAP = 4_095
MAX_DAY = 65_535
DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Mandate:
    """What an agent may do for an account: order on one side, within a price and a daily cap.

    agent: address; side: BID or ASK; limit: µ€/Wh, the highest of its bids or the lowest of its
    asks; daily_cap: ten cents per UTC day, counted on what its orders put in escrow, each rounded
    up to a cent; last_day: last UTC day (unix seconds // 86,400) on which its orders are taken.
    """

    agent: str
    side: int
    limit: int
    daily_cap: int
    last_day: int

    def __post_init__(self) -> None:
        for name, value, highest in (
            ("side", self.side, 1),
            ("limit", self.limit, MAX_LIMIT),
            ("daily_cap", self.daily_cap, MAX_CAP),
            ("last_day", self.last_day, MAX_DAY),
        ):
            if not 0 <= value <= highest:
                raise BadUse(f"mandate: {name}: {value} is out of range; accepted: 0..{highest}")

    def allows(self, side: int, limit: int) -> bool:
        """Whether an order of this side and limit lies within side and price of the mandate."""
        within = limit <= self.limit if side == BID else limit >= self.limit
        return side == self.side and within

    def as_tuple(self) -> tuple[str, int, int, int, int]:
        """The fields in the order of the contract's struct."""
        return (self.agent, self.side, self.limit, self.daily_cap, self.last_day)


def mandate_digest(separator: bytes, account: int, number: int, terms: Mandate) -> bytes:
    """What an owner signs to grant a mandate under a number not used before, 32 bytes."""
    fields = (terms.side, terms.limit, terms.daily_cap, terms.last_day)
    return digest(
        separator,
        keccak(
            _MANDATE
            + word(account)
            + word(number)
            + address_word(terms.agent)
            + b"".join(map(word, fields))
        ),
    )


def mandate_end_digest(separator: bytes, account: int, number: int) -> bytes:
    """What an owner signs to end a mandate, 32 bytes."""
    return digest(separator, keccak(_MANDATE_END + word(account) + word(number)))


def withdrawal_digest(
    separator: bytes, account: int, nonce: int, amount: int, to: str, deadline: int
) -> bytes:
    """What an owner signs to be paid out; amount in token units, deadline in unix seconds. The
    number is one of the account's order numbers and is used up."""
    return digest(
        separator,
        keccak(
            _WITHDRAWAL
            + word(account)
            + word(nonce)
            + word(amount)
            + address_word(to)
            + word(deadline)
        ),
    )


def revocation_digest(separator: bytes, account: int, nonce: int) -> bytes:
    """What an owner signs to make an order worthless that is signed and not posted, 32 bytes."""
    return digest(separator, keccak(_REVOCATION + word(account) + word(nonce)))


def grant_signed(
    market: Contract, account: int, number: int, terms: Mandate, signature: bytes, relay: Account
) -> Receipt:
    """Bring an owner's signed mandate to the chain. signature: 65 bytes r || s || v."""
    return market.transact(
        "grant_mandate_signed",
        account,
        number,
        terms.as_tuple(),
        b"".join(compact(signature)),
        sender=relay,
    )
