# SPDX-License-Identifier: Apache-2.0
"""Thousands of small books on the contracts: the reference's price is taken, and no other near it.

The books are those of tests/dao, made to meet the edges of the rules: ties, one side only, bands
and fees that cut, the largest values there are. The solver faces them in tests/dao/test_solver.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boa
import pytest
from eth_abi import encode

from dao.eip712 import keccak
from dao.market.orders import Order, Vouched, pack
from dao.market.session import NO_TRADE, SignedOrder, pack_batch
from dao.parameters import MARKET_RULES
from tests.contracts.market_world import (
    ASK,
    BID,
    DAY_SLOT,
    END,
    GATE,
    ZONE,
    World,
    build,
)
from tests.dao.reference_market import (
    MAX_LIMIT,
    MAX_WH,
    Effective,
    SmallBook,
    canonical_price,
    effective_book,
    fills_at,
    prices_around,
    random_book,
)

BOOKS = int(os.environ.get("GRIDCOMMONS_BRUTE_FORCE_BOOKS", "2000"))
HOMES = 11
PENALTY = 7
FEE, BAND_MIN, BAND_MAX = 7, 5, 6
# Every other book is cleared with the next slot. A quarter goes on to be settled, of either kind.
SETTLED, BESIDE = 8, 2


@pytest.fixture(scope="module")
def deployed() -> Iterator[World]:
    """One owner for all homes, who posts in person; rules that let the books' terms in."""
    rules = []
    for rule in MARKET_RULES:
        if rule.key in (FEE, BAND_MIN, BAND_MAX):
            rule = replace(rule, minimum=0, maximum=MAX_LIMIT, max_step=MAX_LIMIT, cooldown=0)
        values = {"sessions_per_day": 24, "penalty": PENALTY, "min_order_wh": 1}
        values["max_slot_wh"] = MAX_WH
        if rule.name in values:
            value = values[rule.name]
            rule = replace(rule, initial=value, maximum=max(rule.maximum, value))
        rules.append(rule.as_tuple())
    with boa.env.anchor():
        start = boa.env.timestamp
        world = build(homes=HOMES, defined=rules, owner=str(boa.env.eoa))
        world.fund(range(1, HOMES + 1), 10**11)
        # The meters report more than anyone can sell; that this is known early harms nobody.
        world.at(END)
        world.commit(DAY_SLOT, [HOMES * MAX_WH] * 4)
        world.at(GATE, -3_600)
        world.post([])
        yield world
        boa.env.timestamp = start


def orders_of(book: SmallBook) -> list[Order]:
    """The book in the session's first slot. Without energy there an order needs some elsewhere."""
    return [
        Order(
            account=account,
            mandate=0,
            nonce=0,
            expiry=DAY_SLOT * 900,
            side=ASK if side == "ask" else BID,
            limit=limit,
            session_slot=DAY_SLOT,
            offset=0,
            wh=wh or (0, 1),
            count=1 if wh else 2,
        )
        for account, (side, limit, wh) in enumerate(book.orders, start=1)
    ]


def calls(world: World, name: str, arguments: tuple[Any, ...]) -> Any:
    """A call without what titanoboa adds to find out why one reverts."""
    (entry,) = [f for f in world.auction.abi if f.get("name") == name]
    types = [argument["type"] for argument in entry["inputs"]]
    data = keccak(f"{name}({','.join(types)})".encode())[:4] + encode(types, arguments)
    return boa.env.execute_code(to_address=world.auction.address, data=data)


def witnesses(effective: Effective, band: tuple[int, int]) -> list[int]:
    """Claims that nothing trades: with the lowest ask, the highest bid, the ends of the band."""
    asks = [order[1] for order in effective if order and order[0] == "ask"]
    bids = [order[1] for order in effective if order and order[0] == "bid"]
    return [
        NO_TRADE + w
        for w in (min(asks, default=band[1] + 1), max(bids, default=band[0]), *band, band[1] + 1)
    ]


def wrong_claims(effective: Effective, price: int | None, band: tuple[int, int]) -> set[int]:
    """Claims near the truth: the next prices, the next limits, that nothing trades."""
    limits = sorted({order[1] for order in effective if order})
    if price is None:
        # Of prices the limits, of witnesses those that an order stands against.
        asks = [order[1] for order in effective if order and order[0] == "ask"]
        bids = [order[1] for order in effective if order and order[0] == "bid"]
        wrong = set(limits[:1] + limits[-1:])
        wrong |= {
            NO_TRADE + w for w in (max(bids, default=-1), min(asks, default=-2) + 1) if w >= 0
        }
        return wrong
    below = [limit for limit in limits if limit < price][-1:]
    above = [limit for limit in limits if limit > price][:1]
    wrong = {price - 1, price + 1, *below, *above, witnesses(effective, band)[0]}
    return {claim for claim in wrong if claim >= 0}


@pytest.mark.timeout(900)
def test_of_every_book_the_contract_takes_the_references_price_alone(deployed: World) -> None:
    world = deployed
    seen: Counter[str] = Counter()
    terms = {FEE: 110, BAND_MIN: 0, BAND_MAX: 1_000}
    for seed in range(BOOKS):
        book = random_book(seed)
        for key, value in zip((FEE, BAND_MIN, BAND_MAX), (book.fee, *book.band), strict=True):
            if terms[key] != value:
                world.parameters.set_value(key, value, sender=world.deployer)
                terms[key] = value
        now = boa.env.timestamp
        with boa.env.anchor():
            check(world, seed, book, seen)
        # Rules of one second would not be told apart.
        boa.env.timestamp = now
        world.book.clear()
    print(dict(seen))
    assert seen["books"] == BOOKS
    assert seen["traded"] > BOOKS // 4
    assert seen["no trade"] > BOOKS // 10
    assert seen["refused"] > 2 * BOOKS
    assert seen["settled"] > BOOKS // 40


def check(world: World, seed: int, book: SmallBook, seen: Counter[str]) -> None:
    orders = orders_of(book)
    batch = [SignedOrder(order, b"", Vouched.BY_CALLER) for order in orders]
    world.market.post(ZONE, DAY_SLOT, *pack_batch(batch))
    world.take_down()
    rows = [word for order in orders for word in pack(order, Vouched.BY_CALLER)]
    posted = world.posted()
    assert posted.rows == rows, "every order is taken"
    effective = effective_book(book.orders, *book.band, book.fee)
    price = canonical_price(effective, prices_around(effective))
    world.at(GATE)

    others: list[int] = []
    if seed % BESIDE:
        # In a run of slots the contract works in another way than in one. Next door are only the
        # orders that have no energy here.
        beside = [(s, limit, 0 if wh else 1) for s, limit, wh in book.orders]
        next_door = effective_book(beside, *book.band, book.fee)
        other = canonical_price(next_door, prices_around(next_door))
        others = [witnesses(next_door, book.band)[0] if other is None else other]

    def claim(first: int) -> bool:
        arguments = (ZONE, DAY_SLOT, [first, *others], posted.page_words, posted.rows)
        return not calls(world, "clear", arguments).is_error

    for wrong in wrong_claims(effective, price, book.band):
        assert not claim(wrong), f"seed {seed}: {wrong} is not {price}"
        seen["refused"] += 1
    right = witnesses(effective, book.band)[0] if price is None else price
    assert claim(right), f"seed {seed}: {right}"
    fills = [0] * len(orders) if price is None else fills_at(effective, price)
    volume = sum(f for f, order in zip(fills, orders, strict=True) if order.side == BID)
    told = world.market.clearing(ZONE, DAY_SLOT)
    assert told == (65_535 if price is None else price, book.fee, volume), f"seed {seed}"
    seen["books"] += 1
    seen["no trade" if price is None else "traded"] += 1

    if price is None or seed % SETTLED > 1:
        return
    world.at(END)
    sellers = [order.account for order in orders if order.side == ASK]
    slots = 1 + len(others)
    exports = {meter: [MAX_WH, 1, 0, 0] for meter in sellers}
    paid = world.settle(exports, slots=slots)
    for order, fill, part in zip(orders, fills, paid, strict=True):
        if not isinstance(order.wh, tuple):
            assert (part.filled_wh, part.delivered_wh) == (fill, fill), f"seed {seed}"
            held = order.wh * (PENALTY if order.side == ASK else order.limit)
            moved = fill * price if order.side == ASK else -fill * (price + book.fee)
            assert part.credit == held + moved, f"seed {seed}"
    seen["settled"] += 1
