# SPDX-License-Identifier: Apache-2.0
"""Market orders and delivery receipts as the chain knows them: words, digests, signatures.

What an order means to a book is the solver's business; where orders are posted, the relay's. The
digests are packed by hand and held byte-identical to eth-account by the tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from dao.eip712 import digest, domain_separator, keccak, sign_digest, word
from dao.errors import BadUse
from dao.market.solver import ASK, BID

T = TypeVar("T")

DOMAIN_NAME = "GridCommons EnergyMarket"
DOMAIN_VERSION = "1"

ORDER_TYPE = (
    "Order(uint32 account,uint32 mandate,uint16 nonce,uint40 expiry,uint8 side,uint16 limit,"
    "uint64 firstSlot,uint8 slots,uint16 wh,bytes32 profile)"
)
RECEIPT_TYPE = "DeliveryReceipt(uint32 meter,uint64 firstSlot,uint8 slots,bytes32 exports)"
CORRECTION_TYPE = "DeliveryCorrection(uint32 meter,uint64 firstSlot,uint8 slots,bytes32 exports)"
ORDER_TYPEHASH = keccak(ORDER_TYPE.encode("ascii"))
RECEIPT_TYPEHASH = keccak(RECEIPT_TYPE.encode("ascii"))
CORRECTION_TYPEHASH = keccak(CORRECTION_TYPE.encode("ascii"))

WH_PER_WORD = 16
MAX_WH = 2**16 - 1
MAX_LIMIT = 2**16 - 2
"""65535 stands for "no price" wherever a price is packed, so no limit may name it."""
PAGE_SIZES = (64, 32, 16, 8, 4, 2, 1)
"""Words in a page of the book."""
MAX_SESSION_SLOTS = 96
"""One session a day is the longest there is."""

_PROFILE_FLAG = 2
_NO_PROFILE = bytes(32)
_UINT = {bits: 2**bits - 1 for bits in (8, 16, 32, 40, 64, 256)}


class Vouched(IntEnum):
    """Who vouches for a posted order: its signer's key, the signer's contract wallet (ERC-1271),
    or the signer as the one who posts."""

    BY_KEY = 0
    BY_WALLET = 4
    BY_CALLER = 8


class InvalidOrder(BadUse):
    """An order or receipt field that cannot be: which field, why, and what would be accepted."""

    def __init__(self, field: str, why: str, accepted: str) -> None:
        super().__init__(f"{field}: {why}; accepted: {accepted}")
        self.field = field
        self.why = why
        self.accepted = accepted


@dataclass(frozen=True)
class Order:
    """A limit order over a run of slots of one session.

    account: metering point; mandate: 0 for the owner's own order; nonce; expiry: unix seconds;
    side: BID or ASK; limit: micro-euro per Wh (a bid's includes the grid fee);
    session_slot: absolute first slot of the session; offset: slots from there to the order's first;
    wh: Wh in every slot, or a tuple with one value per slot; count: number of slots.
    """

    account: int
    mandate: int
    nonce: int
    expiry: int
    side: int
    limit: int
    session_slot: int
    offset: int
    wh: int | tuple[int, ...]
    count: int

    @property
    def first_slot(self) -> int:
        """The order's own first slot, absolute: the `firstSlot` that is signed."""
        return self.session_slot + self.offset

    @property
    def is_profile(self) -> bool:
        """Whether the order names its own Wh for every slot."""
        return isinstance(self.wh, tuple)

    @property
    def profile(self) -> tuple[int, ...]:
        """Wh per slot, `count` values, flat or not."""
        return self.wh if isinstance(self.wh, tuple) else (self.wh,) * self.count

    @property
    def total_wh(self) -> int:
        """Wh over all slots."""
        return sum(self.wh) if isinstance(self.wh, tuple) else self.wh * self.count

    def at(self, slot: int) -> int:
        """Wh wanted or offered in an absolute slot, 0 outside the order."""
        index = slot - self.first_slot
        return self.profile[index] if 0 <= index < self.count else 0


def validate(order: Order, *, session_slots: int = MAX_SESSION_SLOTS) -> Order:
    """Return `order` if it can be packed and signed, else raise InvalidOrder.

    session_slots: length of the session the order speaks of. What only the chain knows (account
    open, nonce unused, money enough) is not asked here.
    """
    _whole("account", order.account, 1, _UINT[32])
    _whole("mandate", order.mandate, 0, _UINT[32])
    _whole("nonce", order.nonce, 0, _UINT[16])
    _whole("expiry", order.expiry, 0, _UINT[40])
    _whole("side", order.side, BID, ASK, f"{BID} (bid) or {ASK} (ask)")
    _whole("limit", order.limit, 0, MAX_LIMIT)
    _whole("session_slot", order.session_slot, 0, _UINT[64] - MAX_SESSION_SLOTS)
    _whole("offset", order.offset, 0, session_slots - 1)
    _whole("count", order.count, 1, session_slots)
    if order.offset + order.count > session_slots:
        raise InvalidOrder(
            "count",
            f"slots {order.offset}..{order.offset + order.count - 1} leave the session",
            f"1..{session_slots - order.offset} from offset {order.offset}",
        )
    if isinstance(order.wh, tuple):
        if len(order.wh) != order.count:
            raise InvalidOrder(
                "wh", f"{len(order.wh)} values for {order.count} slots", "one value per slot"
            )
        for index, value in enumerate(order.wh):
            _whole(f"wh[{index}]", value, 0, MAX_WH)
        if not any(order.wh):
            raise InvalidOrder("wh", "0 in every slot", "at least one slot above 0")
    else:
        _whole("wh", order.wh, 1, MAX_WH)
    return order


def pack_wh(values: Iterable[int]) -> list[int]:
    """Wh values (uint16) as words of 16, value i at bits 16 * (i % 16), lowest first."""
    items = [int(value) for value in values]
    for index, value in enumerate(items):
        if not 0 <= value <= MAX_WH:
            raise InvalidOrder(f"wh[{index}]", f"{value} is out of range", f"0..{MAX_WH}")
    return [
        sum(value << 16 * i for i, value in enumerate(items[start : start + WH_PER_WORD]))
        for start in range(0, len(items), WH_PER_WORD)
    ]


def unpack_wh(words: Sequence[int], count: int) -> tuple[int, ...]:
    """The inverse of `pack_wh` for `count` values."""
    if len(words) != -(-count // WH_PER_WORD):
        raise InvalidOrder(
            "profile", f"{len(words)} words for {count} slots", f"{-(-count // WH_PER_WORD)} words"
        )
    return tuple(words[i // WH_PER_WORD] >> 16 * (i % WH_PER_WORD) & MAX_WH for i in range(count))


def words_hash(words: Iterable[int]) -> bytes:
    """keccak256 of words, each as 32 big-endian bytes."""
    return keccak(b"".join(map(word, words)))


def pack(order: Order, vouched: Vouched = Vouched.BY_KEY) -> list[int]:
    """The order as the contract reads it: header word, then the words of its profile, if any.

    vouched: how the contract finds that the signer agrees; a flag in the header.
    """
    validate(order)
    header = (
        order.account << 224
        | order.mandate << 192
        | order.nonce << 176
        | order.expiry << 136
        | (order.side | (_PROFILE_FLAG if order.is_profile else 0) | vouched) << 128
        | order.limit << 104
        | (0 if isinstance(order.wh, tuple) else order.wh) << 88
        | order.offset << 80
        | order.count << 72
    )
    return [header, *_profile_words(order)]


def _profile_words(order: Order) -> list[int]:
    """The words of a profile, cut at every sixteenth slot of the session; none for a flat order."""
    if not isinstance(order.wh, tuple):
        return []
    return pack_wh((0,) * (order.offset % WH_PER_WORD) + order.wh)


def unpack(words: Sequence[int], session_slot: int) -> list[Order]:
    """The orders in a run of words (a batch, or a whole session), in their order.

    Reads what was posted, valid or not; raises InvalidOrder only where a profile is cut short.
    """
    orders = []
    position = 0
    while position < len(words):
        header = words[position]
        position += 1
        side = header >> 128 & _UINT[8]
        count = header >> 72 & _UINT[8]
        wh: int | tuple[int, ...] = header >> 88 & MAX_WH
        offset = header >> 80 & _UINT[8]
        if side & _PROFILE_FLAG:
            skip = offset % WH_PER_WORD
            length = -(-(skip + count) // WH_PER_WORD)
            wh = unpack_wh(words[position : position + length], skip + count)[skip:]
            position += length
        orders.append(
            Order(
                account=header >> 224,
                mandate=header >> 192 & _UINT[32],
                nonce=header >> 176 & _UINT[16],
                expiry=header >> 136 & _UINT[40],
                side=side & ASK,
                limit=header >> 104 & _UINT[16],
                session_slot=session_slot,
                offset=offset,
                wh=wh,
                count=count,
            )
        )
    return orders


def pages(words: Sequence[T]) -> list[Sequence[T]]:
    """A run of accepted words as the contract cuts it: pages of 64 words, then 32, 16, 8, 4, 2, 1
    as what is left needs them."""
    found = []
    at = 0
    for size in PAGE_SIZES:
        while len(words) - at >= size:
            found.append(words[at : at + size])
            at += size
    return found


def fold(previous: int, page: Iterable[int]) -> int:
    """The book's hash with one page more: keccak256(hash || page), its low 24 bits cleared.

    previous: 0 before a session's first page.
    """
    return int.from_bytes(keccak(word(previous) + b"".join(map(word, page))), "big") >> 24 << 24


def market_separator(chain_id: int, contract: str | bytes) -> bytes:
    """The EIP-712 domain separator of an EnergyMarket; orders and receipts share it."""
    return domain_separator(DOMAIN_NAME, DOMAIN_VERSION, chain_id, contract)


def struct_hash(order: Order) -> bytes:
    """The EIP-712 struct hash of an order, 32 bytes."""
    validate(order)
    if isinstance(order.wh, tuple):
        flat, profile = 0, words_hash(_profile_words(order))
    else:
        flat, profile = order.wh, _NO_PROFILE
    return keccak(
        ORDER_TYPEHASH
        + word(order.account)
        + word(order.mandate)
        + word(order.nonce)
        + word(order.expiry)
        + word(order.side)
        + word(order.limit)
        + word(order.first_slot)
        + word(order.count)
        + word(flat)
        + profile
    )


def order_digest(separator: bytes, order: Order) -> bytes:
    """The 32 bytes a resident's wallet signs for an order."""
    return digest(separator, struct_hash(order))


def sign_order(separator: bytes, order: Order, private_key: bytes) -> bytes:
    """An order's signature, 65 bytes r || s || v."""
    return sign_digest(private_key, order_digest(separator, order))


def receipt_digest(separator: bytes, meter: int, first_slot: int, exports: Sequence[int]) -> bytes:
    """The 32 bytes a meter's device key signs for what it exported.

    exports: Wh per slot from `first_slot`, the session's first slot, on.
    """
    return _delivery_digest(RECEIPT_TYPEHASH, separator, meter, first_slot, exports)


def correction_digest(
    separator: bytes, meter: int, first_slot: int, exports: Sequence[int]
) -> bytes:
    """The 32 bytes a meter's device key signs to take back a part of its receipt; as there."""
    return _delivery_digest(CORRECTION_TYPEHASH, separator, meter, first_slot, exports)


def _delivery_digest(
    typehash: bytes, separator: bytes, meter: int, first_slot: int, exports: Sequence[int]
) -> bytes:
    _whole("meter", meter, 1, _UINT[32])
    _whole("first_slot", first_slot, 0, _UINT[64])
    if not 1 <= len(exports) <= MAX_SESSION_SLOTS:
        raise InvalidOrder("exports", f"{len(exports)} values", f"1..{MAX_SESSION_SLOTS} slots")
    return digest(
        separator,
        keccak(
            typehash
            + word(meter)
            + word(first_slot)
            + word(len(exports))
            + words_hash(pack_wh(exports))
        ),
    )


def sign_receipt(
    separator: bytes, meter: int, first_slot: int, exports: Sequence[int], private_key: bytes
) -> bytes:
    """A delivery receipt's signature by the device key, 65 bytes r || s || v."""
    return sign_digest(private_key, receipt_digest(separator, meter, first_slot, exports))


def _whole(field: str, value: object, lowest: int, highest: int, accepted: str = "") -> None:
    accepted = accepted or f"{lowest}..{highest}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidOrder(field, f"{value!r} is not a whole number", accepted)
    if not lowest <= value <= highest:
        raise InvalidOrder(field, f"{value} is out of range", accepted)
