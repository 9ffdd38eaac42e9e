# SPDX-License-Identifier: Apache-2.0
"""Orders and receipts: words as agreed, digests byte-identical to eth-account's."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from dao.eip712 import address_bytes, address_of, keccak, recover, word
from dao.market.orders import (
    MAX_LIMIT,
    InvalidOrder,
    Order,
    Vouched,
    correction_digest,
    fold,
    market_separator,
    order_digest,
    pack,
    pack_wh,
    pages,
    receipt_digest,
    sign_order,
    sign_receipt,
    unpack,
    unpack_wh,
    validate,
)

CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
CHAIN_ID = 31337
KEY = b"\x42" * 32
DOMAIN = {
    "name": "GridCommons EnergyMarket",
    "version": "1",
    "chainId": CHAIN_ID,
    "verifyingContract": CONTRACT,
}
FLAT = Order(7, 0, 3, 1_700_000_000, 0, 250, 1_612_800, 4, 120, 6)
PROFILE = replace(FLAT, side=1, wh=(0, 65535, 1, 2, 3, 4))


def random_order(rng: random.Random) -> Order:
    count = rng.randint(1, 96)
    wh: int | tuple[int, ...] = rng.randint(1, 65535)
    if rng.random() < 0.5:
        wh = (*tuple(rng.randint(0, 65535) for _ in range(count - 1)), 1)
    return Order(
        account=rng.randint(1, 2**32 - 1),
        mandate=rng.choice((0, rng.randint(1, 2**32 - 1))),
        nonce=rng.randint(0, 65535),
        expiry=rng.randint(0, 2**40 - 1),
        side=rng.randint(0, 1),
        limit=rng.randint(0, MAX_LIMIT),
        session_slot=rng.randint(0, 2**63),
        offset=rng.randint(0, 96 - count),
        wh=wh,
        count=count,
    )


def typed(primary: str, fields: list[tuple[str, str]], message: dict[str, Any]) -> Any:
    return encode_typed_data(
        full_message={
            "types": {
                "EIP712Domain": [
                    {"name": "name", "type": "string"},
                    {"name": "version", "type": "string"},
                    {"name": "chainId", "type": "uint256"},
                    {"name": "verifyingContract", "type": "address"},
                ],
                primary: [{"name": name, "type": kind} for kind, name in fields],
            },
            "primaryType": primary,
            "domain": DOMAIN,
            "message": message,
        }
    )


def typed_order(order: Order) -> Any:
    fields = [
        ("uint32", "account"),
        ("uint32", "mandate"),
        ("uint16", "nonce"),
        ("uint40", "expiry"),
        ("uint8", "side"),
        ("uint16", "limit"),
        ("uint64", "firstSlot"),
        ("uint8", "slots"),
        ("uint16", "wh"),
        ("bytes32", "profile"),
    ]
    profile = bytes(32)
    if isinstance(order.wh, tuple):
        # Two bytes for each slot of the session, from the last sixteenth before the order on.
        values = [0] * (order.offset % 16) + list(order.wh)
        packed = b""
        for start in range(0, len(values), 16):
            chunk = values[start : start + 16]
            packed += b"".join(v.to_bytes(2, "little") for v in chunk).ljust(32, b"\0")[::-1]
        profile = keccak(packed)
    message = {
        "account": order.account,
        "mandate": order.mandate,
        "nonce": order.nonce,
        "expiry": order.expiry,
        "side": order.side,
        "limit": order.limit,
        "firstSlot": order.session_slot + order.offset,
        "slots": order.count,
        "wh": 0 if isinstance(order.wh, tuple) else order.wh,
        "profile": profile,
    }
    return typed("Order", fields, message)


def test_order_digest_and_signature_equal_eth_account() -> None:
    rng = random.Random(1)
    separator = market_separator(CHAIN_ID, CONTRACT)
    for _ in range(40):
        order = random_order(rng)
        signable = typed_order(order)
        assert signable.header == separator
        assert order_digest(separator, order) == keccak(
            b"\x19" + signable.version + signable.header + signable.body
        )
        assert sign_order(separator, order, KEY) == Account.sign_message(signable, KEY).signature


def test_receipt_digest_and_signature_equal_eth_account() -> None:
    separator = market_separator(CHAIN_ID, CONTRACT)
    exports = [0, 1, 65535, *range(30)]
    packed = b"".join(word(item) for item in pack_wh(exports))
    signable = typed(
        "DeliveryReceipt",
        [("uint32", "meter"), ("uint64", "firstSlot"), ("uint8", "slots"), ("bytes32", "exports")],
        {"meter": 9, "firstSlot": 1_612_800, "slots": 33, "exports": keccak(packed)},
    )
    signature = sign_receipt(separator, 9, 1_612_800, exports, KEY)
    assert signature == Account.sign_message(signable, KEY).signature
    signer = recover(receipt_digest(separator, 9, 1_612_800, exports), signature)
    assert signer == address_bytes(address_of(KEY))


def test_a_correction_is_another_message_than_a_receipt() -> None:
    separator = market_separator(CHAIN_ID, CONTRACT)
    exports = [5, 6, 7, 8]
    signable = typed(
        "DeliveryCorrection",
        [("uint32", "meter"), ("uint64", "firstSlot"), ("uint8", "slots"), ("bytes32", "exports")],
        {"meter": 9, "firstSlot": 960, "slots": 4, "exports": keccak(word(pack_wh(exports)[0]))},
    )
    digest = correction_digest(separator, 9, 960, exports)
    assert digest == keccak(b"\x19" + signable.version + signable.header + signable.body)
    assert digest != receipt_digest(separator, 9, 960, exports)


def test_header_holds_every_field_at_its_place() -> None:
    assert pack(FLAT) == [
        7 << 224 | 3 << 176 | 1_700_000_000 << 136 | 250 << 104 | 120 << 88 | 4 << 80 | 6 << 72
    ]
    header, profile = pack(PROFILE)
    assert header >> 128 & 0xFF == 3
    assert header >> 88 & 0xFFFF == 0
    # The order begins with the session's fifth slot.
    assert profile == (65535 << 16 | 1 << 32 | 2 << 48 | 3 << 64 | 4 << 80) << 4 * 16
    assert pack(replace(FLAT, mandate=5)) == [pack(FLAT)[0] | 5 << 192]


def test_the_header_says_who_vouches() -> None:
    for vouched, flag in ((Vouched.BY_KEY, 0), (Vouched.BY_WALLET, 4), (Vouched.BY_CALLER, 8)):
        assert pack(FLAT, vouched)[0] >> 128 & 0xFF == flag
        assert pack(PROFILE, vouched)[0] >> 128 & 0xFF == 3 | flag


@pytest.mark.parametrize(
    ("offset", "count", "words"),
    [(0, 1, 1), (0, 16, 1), (0, 17, 2), (15, 2, 2), (16, 16, 1), (95, 1, 1), (1, 95, 6)],
)
def test_a_profile_has_a_word_for_every_sixteen_slots_of_the_session_it_touches(
    offset: int, count: int, words: int
) -> None:
    values = tuple(100 + i for i in range(count))
    order = replace(PROFILE, offset=offset, count=count, wh=values)
    packed = pack(order)[1:]
    assert len(packed) == words
    for i, value in enumerate(values):
        slot = offset + i
        assert packed[slot // 16 - offset // 16] >> 16 * (slot % 16) & 0xFFFF == value
    assert sum(bin(w).count("1") for w in packed) == sum(bin(v).count("1") for v in values)


def test_wh_pack_lowest_first_sixteen_to_a_word() -> None:
    assert pack_wh([]) == []
    assert pack_wh([1, 2]) == [1 | 2 << 16]
    assert pack_wh(range(17)) == [sum(i << 16 * i for i in range(16)), 16]
    assert unpack_wh(pack_wh(range(17)), 17) == tuple(range(17))
    with pytest.raises(InvalidOrder, match=r"wh\[1\]: 65536 is out of range"):
        pack_wh([0, 65536])


def test_unpacking_a_session_gives_its_orders_back() -> None:
    rng = random.Random(2)
    orders = [replace(random_order(rng), session_slot=960) for _ in range(200)]
    words = [item for order in orders for item in pack(order)]
    assert unpack(words, 960) == orders
    with pytest.raises(InvalidOrder, match="profile: 0 words for 10 slots"):
        unpack(pack(PROFILE)[:1], 0)


def test_unpacking_reads_who_vouches_as_no_part_of_the_order() -> None:
    for vouched in Vouched:
        assert unpack([*pack(FLAT, vouched), *pack(PROFILE, vouched)], FLAT.session_slot) == [
            FLAT,
            PROFILE,
        ]


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (0, []),
        (1, [1]),
        (7, [4, 2, 1]),
        (63, [32, 16, 8, 4, 2, 1]),
        (64, [64]),
        (130, [64, 64, 2]),
        (1_024, [64] * 16),
    ],
)
def test_a_run_of_words_is_cut_into_pages_the_largest_first(count: int, sizes: list[int]) -> None:
    words = list(range(count))
    cut = pages(words)
    assert [len(page) for page in cut] == sizes
    assert [w for page in cut for w in page] == words


def test_a_page_folds_into_the_upper_bits_of_the_hash() -> None:
    page = [*pack(PROFILE), *pack(FLAT)]
    packed = b"".join(item.to_bytes(32, "big") for item in page)
    first = keccak(bytes(32) + packed)[:29] + bytes(3)
    assert fold(0, page) == int.from_bytes(first, "big")
    second = keccak(first + packed)[:29] + bytes(3)
    assert fold(fold(0, page), page) == int.from_bytes(second, "big")
    assert fold(fold(0, page[:1]), page[1:]) != fold(0, page)


def test_an_order_knows_its_energy_per_slot() -> None:
    assert (PROFILE.at(1_612_804), PROFILE.at(1_612_805), PROFILE.at(1_612_810)) == (0, 65535, 0)
    assert FLAT.at(1_612_803) == 0
    assert FLAT.at(1_612_809) == 120
    assert (FLAT.total_wh, PROFILE.total_wh) == (720, 65545)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"account": 0}, "account: 0 is out of range; accepted: 1..4294967295"),
        ({"mandate": -1}, "mandate: -1 is out of range; accepted: 0..4294967295"),
        ({"nonce": 65536}, "nonce: 65536 is out of range; accepted: 0..65535"),
        ({"expiry": 1.5}, "expiry: 1.5 is not a whole number; accepted: 0..1099511627775"),
        ({"side": 2}, r"side: 2 is out of range; accepted: 0 \(bid\) or 1 \(ask\)"),
        ({"limit": 65535}, "limit: 65535 is out of range; accepted: 0..65534"),
        ({"offset": 24}, "offset: 24 is out of range; accepted: 0..23"),
        ({"count": 0}, "count: 0 is out of range; accepted: 1..24"),
        ({"offset": 20}, "count: slots 20..25 leave the session; accepted: 1..4 from offset 20"),
        ({"wh": 0}, "wh: 0 is out of range; accepted: 1..65535"),
        ({"wh": (1, 2)}, "wh: 2 values for 6 slots; accepted: one value per slot"),
        ({"wh": (0,) * 6}, "wh: 0 in every slot; accepted: at least one slot above 0"),
        ({"wh": (1, 2, 3, -4, 5, 6)}, r"wh\[3\]: -4 is out of range; accepted: 0..65535"),
        ({"wh": True}, "wh: True is not a whole number"),
    ],
)
def test_says_which_field_is_wrong_why_and_what_would_do(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidOrder, match=message):
        validate(replace(FLAT, **change), session_slots=24)
