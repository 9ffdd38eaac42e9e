# SPDX-License-Identifier: Apache-2.0
"""Random sessions on the real contract against the plainly written reference.

Every session is posted, cleared and settled; prices, fills, deliveries and money are computed
again with plain loops and compared to the unit. No price but the reference's is accepted.
"""

from __future__ import annotations

import random

import boa
import pytest

from tests.contracts.market_world import ASK, BID, DAY_SLOT, NO_PRICE, ZONE, World, build
from tests.dao.reference_market import canonical_price, effective_book, fills_at

EURO = 1_000_000
FEE, PENALTY = 20, 7
BAND = (3, 60)
SLOTS = 4


@pytest.fixture(scope="module")
def deployed() -> World:
    world = build(
        homes=10,
        grid_fee=FEE,
        penalty=PENALTY,
        price_band_min=BAND[0],
        price_band_max=BAND[1],
        min_order_wh=1,
    )
    world.fund(range(1, 11), 100 * EURO)
    return world


def random_session(world: World, rng: random.Random) -> None:
    """Up to ten orders: flat, partial and profile, few distinct prices so that ties abound."""
    for _ in range(rng.randint(2, 10)):
        account = rng.randint(1, 10)
        side = rng.choice((BID, ASK))
        limit = rng.choice((0, 3, 10, 11, 12, 30)) + (FEE if side == BID else 0)
        limit = rng.choice((limit, limit, limit, 65_534 if side == BID else 70))
        if rng.random() < 0.5:
            count = rng.randint(1, SLOTS)
            offset = rng.randint(0, SLOTS - count)
            order = world.order(account, side, limit, rng.randint(1, 9), offset=offset, count=count)
        else:
            values = tuple(rng.choice((0, 1, 2, 5, 9)) for _ in range(SLOTS))
            if sum(values) == 0:
                continue
            order = world.order(account, side, limit, values)
        assert world.post([order]) == [0]


def energy(world: World, slot: int) -> list[tuple[str, int, int]]:
    """The slot's book as the reference takes it: side, limit, Wh, in order of arrival."""
    book = []
    for order in world.book:
        inside = 0 <= slot - order.offset < order.count
        value = (
            order.wh[slot - order.offset]
            if isinstance(order.wh, tuple) and inside
            else (order.wh if inside else 0)
        )
        assert isinstance(value, int)
        book.append(("ask" if order.side == ASK else "bid", order.limit, value))
    return book


def shares(weights: list[int], amount: int) -> list[int]:
    """`amount` over the weights by cumulative rounding."""
    result, running, total = [], 0, sum(weights)
    for weight in weights:
        before = running
        running += weight
        result.append(running * amount // total - before * amount // total if total else 0)
    return result


@pytest.mark.parametrize("seed", range(30))
def test_a_random_session_ends_as_the_reference_says(deployed: World, seed: int) -> None:
    rng = random.Random(seed)
    world = deployed
    start = boa.env.timestamp
    with boa.env.anchor():
        random_session(world, rng)
        if not world.book:
            world.post([world.order(1, ASK, 5, 1), world.order(2, BID, 50, 1)])
        prices: list[int | None] = []
        fills: list[list[int]] = []
        for slot in range(SLOTS):
            effective = effective_book(energy(world, slot), *BAND, FEE)
            price = canonical_price(effective, range(BAND[0], BAND[1] + 1))
            prices.append(price)
            fills.append(fills_at(effective, price) if price is not None else [0] * len(world.book))
        claimed = [NO_PRICE if p is None else p for p in prices]

        world.at(DAY_SLOT - 4)
        # No other price is accepted: every price of the band in the first slot, and a random
        # other one in each of the rest.
        for wrong in (*range(BAND[0] - 1, BAND[1] + 2), NO_PRICE):
            if wrong != claimed[0]:
                with pytest.raises(boa.BoaError):
                    world.clear([wrong])
        for slot in range(1, SLOTS):
            others = [p for p in (*range(BAND[0], BAND[1] + 1), NO_PRICE) if p != claimed[slot]]
            tampered = list(claimed)
            tampered[slot] = rng.choice(others)
            with pytest.raises(boa.BoaError):
                world.clear(tampered)
        world.clear(claimed)

        # Delivery: each seller exports something between nothing and more than it sold.
        sellers = sorted({o.account for o in world.book if o.side == ASK})
        exports = {m: [rng.randint(0, 12) for _ in range(SLOTS)] for m in sellers}
        # Now and then less than the receipts claim.
        zone_export = [rng.choice((10_000, 10_000, rng.randint(0, 20))) for _ in range(SLOTS)]
        before = {a: world.balance(a) for a in range(1, 11)}
        expected = dict.fromkeys(range(1, 11), 0)
        fees = 0
        for order in world.book:
            rate = PENALTY if order.side == ASK else order.limit
            values = order.wh if isinstance(order.wh, tuple) else (order.wh,) * order.count
            expected[order.account] += rate * sum(values)
        for slot in range(SLOTS):
            price = prices[slot]
            left = {m: exports[m][slot] for m in sellers}
            served = missing = 0
            room = zone_export[slot]
            for order, fill in zip(world.book, fills[slot], strict=True):
                if order.side == ASK and price is not None:
                    proven = min(fill, left[order.account])
                    left[order.account] -= proven
                    missing += fill - proven
                    got = min(proven, room - served)
                    served += got
                    expected[order.account] += got * price - (fill - proven) * PENALTY
            bought = [
                fill if order.side == BID else 0
                for order, fill in zip(world.book, fills[slot], strict=True)
            ]
            for order, wh, paid_out in zip(
                world.book,
                shares(bought, served),
                shares(bought, missing * PENALTY),
                strict=True,
            ):
                if price is not None:
                    expected[order.account] += paid_out - wh * (price + FEE)
            fees += served * FEE
        world.at(DAY_SLOT + SLOTS)
        world.commit(DAY_SLOT, zone_export)
        entries = world.settle(exports)

        assert {a: world.balance(a) - before[a] for a in before} == expected
        assert world.market.fees_due() == fees
        assert world.market.escrow() == 0
        sold = sum(e[2] for e in entries if e[1] == ASK)
        assert sold == sum(e[2] for e in entries if e[1] == BID)
        for slot in range(SLOTS):
            traded = sum(f for o, f in zip(world.book, fills[slot], strict=True) if o.side == ASK)
            assert world.market.clearing(ZONE, DAY_SLOT + slot)[2] == traded
    boa.env.timestamp = start
    world.book.clear()
    world.pending.clear()
