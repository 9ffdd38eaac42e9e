# SPDX-License-Identifier: Apache-2.0
"""Random sessions on the real contracts against the plainly written reference.

Sessions of every length, posted, cleared and settled in random runs of slots; prices, fills,
deliveries and money are computed again with plain loops and compared to the unit. Single slots by
the thousand are in test_market_brute_force.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import boa
import pytest

from dao.market.orders import Order
from dao.market.session import Settled
from tests.contracts.market_world import ASK, BID, DAY_SLOT, EURO, ZONE, World, build, logged
from tests.dao.reference_market import canonical_price, effective_book, fills_at

FEE, PENALTY = 20, 7
BAND = (3, 60)
RECEIPT_PERIOD = 3_600
# Few, so that they meet; and some of whose numbers the last eight bits are the same.
HOMES = 516
PEOPLE = (1, 2, 3, 4, 5, 257, 258, 259, 513, 516)


@pytest.fixture(scope="module")
def deployed() -> Iterator[World]:
    with boa.env.anchor():
        start = boa.env.timestamp
        world = build(
            homes=HOMES,
            grid_fee=FEE,
            penalty=PENALTY,
            price_band_min=BAND[0],
            price_band_max=BAND[1],
            min_order_wh=1,
            receipt_period=RECEIPT_PERIOD,
        )
        world.fund(PEOPLE, 100 * EURO)
        yield world
        boa.env.timestamp = start


def random_orders(world: World, rng: random.Random, slots: int) -> list[Order]:
    """Flat, partial and profile orders, few distinct prices so that ties abound."""
    orders = []
    for _ in range(rng.choice((3, 6, 10, 16, 24))):
        side = rng.choice((BID, ASK))
        limit = rng.choice((0, 3, 10, 11, 12, 30)) + (FEE if side == BID else 0)
        limit = rng.choice((limit, limit, limit, 65_534 if side == BID else 70))
        count = rng.choice((1, 2, slots, rng.randint(1, slots)))
        offset = rng.randint(0, slots - count)
        wh: int | tuple[int, ...] = rng.randint(1, 9)
        if rng.random() < 0.6:
            wh = (*(rng.choice((0, 1, 2, 5, 9)) for _ in range(count - 1)), rng.randint(1, 9))
        account = rng.choice(PEOPLE)
        orders.append(world.order(account, side, limit, wh, offset=offset, count=count))
    return orders


def shares(weights: list[int], amount: int) -> list[int]:
    """`amount` over the weights by cumulative rounding."""
    result, running, total = [], 0, sum(weights)
    for weight in weights:
        before = running
        running += weight
        result.append(running * amount // total - before * amount // total if total else 0)
    return result


@dataclass
class SlotOutcome:
    """What a slot comes to: money back to each account, fees, energy delivered."""

    price: int | None
    volume: int
    back: Counter[int]
    fees: int
    delivered: int


def slot_outcome(
    orders: list[Order], slot: int, exports: dict[int, list[int]], zone_export: int
) -> SlotOutcome:
    book = [("ask" if o.side == ASK else "bid", o.limit, o.at(slot)) for o in orders]
    effective = effective_book(book, *BAND, FEE)
    price = canonical_price(effective, range(BAND[0], BAND[1] + 1))
    back: Counter[int] = Counter()
    for order in orders:
        back[order.account] += order.at(slot) * (PENALTY if order.side == ASK else order.limit)
    if price is None:
        return SlotOutcome(None, 0, back, 0, 0)
    fills = fills_at(effective, price)
    left = {meter: values[slot - DAY_SLOT] for meter, values in exports.items()}
    delivered = missing = 0
    for order, fill in zip(orders, fills, strict=True):
        if order.side == ASK:
            proven = min(fill, left.get(order.account, 0))
            if proven:
                left[order.account] -= proven
            missing += fill - proven
            served = min(proven, zone_export - delivered)
            delivered += served
            back[order.account] += served * price - (fill - proven) * PENALTY
    bought = [fill if o.side == BID else 0 for o, fill in zip(orders, fills, strict=True)]
    energy, comfort = shares(bought, delivered), shares(bought, missing * PENALTY)
    for order, wh, money in zip(orders, energy, comfort, strict=True):
        back[order.account] += money - wh * (price + FEE)
    assert sum(bought) == sum(fills) - sum(bought), "energy sold is energy bought"
    return SlotOutcome(price, sum(bought), back, delivered * FEE, delivered)


def runs(rng: random.Random, slots: int) -> list[int]:
    """The slots in runs of random length; often all at once, often singly."""
    if rng.random() < 0.3:
        return [slots]
    lengths = []
    while sum(lengths) < slots:
        lengths.append(min(rng.choice((1, 1, 2, 5, 17, slots)), slots - sum(lengths)))
    return lengths


@pytest.mark.parametrize("seed", range(40))
def test_a_random_session_ends_as_the_reference_says(deployed: World, seed: int) -> None:
    world, rng = deployed, random.Random(seed)
    sessions = rng.choice((24, 24, 12, 6, 4, 3, 2, 1))
    slots = 96 // sessions
    start = boa.env.timestamp
    with boa.env.anchor():
        world.at(DAY_SLOT, -86_410)
        world.parameters.set_value(1, sessions, sender=world.deployer)
        world.at(DAY_SLOT, 1 - 86_400)
        orders = random_orders(world, rng, slots)
        for first in range(0, len(orders), 7):
            assert not any(world.post(orders[first : first + 7]))
        assert world.orders() == orders

        sellers = {order.account for order in orders if order.side == ASK}
        # Some meters stay silent; the others prove from nothing to more than was sold.
        exports = {
            meter: [rng.choice((0, 3, 12, 40)) for _ in range(slots)]
            for meter in sellers
            if rng.random() < 0.8
        }
        # Now and then less than the receipts claim.
        zone_export = [rng.choice((10_000, 10_000, rng.randint(0, 20))) for _ in range(slots)]
        expected = [
            slot_outcome(orders, DAY_SLOT + i, exports, zone_export[i]) for i in range(slots)
        ]
        world.at(DAY_SLOT, -3_600)
        done = 0
        for run in runs(rng, slots):
            prices = [outcome.price for outcome in expected[done : done + run]]
            wrong = list(prices)
            at = rng.randrange(run)
            wrong[at] = rng.choice([p for p in (*range(*BAND), None) if p != prices[at]])
            with boa.reverts():
                world.clear(wrong)
            world.clear(prices)
            done += run
        for i, outcome in enumerate(expected):
            assert world.market.clearing(ZONE, DAY_SLOT + i)[2] == outcome.volume

        world.at(DAY_SLOT + slots, RECEIPT_PERIOD + 1)
        world.commit(DAY_SLOT, zone_export)
        balances = {account: world.balance(account) for account in PEOPLE}
        fees = done = 0
        for run in runs(rng, slots):
            entries = world.settle(exports, slots=run)
            events = logged(world.auction, "SlotSettled")
            for outcome in expected[done : done + run]:
                for account, money in outcome.back.items():
                    balances[account] += money
                fees += outcome.fees
            told = [(e.delivered_wh, e.fees) for e in events]
            assert told == [(o.delivered, o.fees) for o in expected[done : done + run]]
            bought = sum(
                e.delivered_wh for e, o in zip(entries, orders, strict=True) if o.side == BID
            )
            assert bought == sum(o.delivered for o in expected[done : done + run])
            done += run
            assert {account: world.balance(account) for account in PEOPLE} == balances
            assert world.market.fees_due() == fees
        assert world.escrow() == 0
        assert all(world.market.account(account)[3] == 0 for account in PEOPLE)
    boa.env.timestamp = start
    world.book.clear()
    world.pending.clear()


@pytest.mark.parametrize("singly", [True, False], ids=["singly", "at once"])
@pytest.mark.parametrize("slots", [4, 24, 96])
@pytest.mark.parametrize("sellers", [3, 16, 17, 37, 120])
def test_every_one_of_many_sellers_is_heard(
    deployed: World, sellers: int, slots: int, singly: bool
) -> None:
    """Receipts are read, and their signers held against the registry, by up to sixteen. Some are
    missing, and one is forged."""
    world, rng = deployed, random.Random(sellers)
    start = boa.env.timestamp
    with boa.env.anchor():
        world.at(DAY_SLOT, -86_410)
        world.parameters.set_value(1, 96 // slots, sender=world.deployer)
        world.at(DAY_SLOT, 1 - 86_400)
        meters = rng.sample(range(1, HOMES + 1), sellers)
        buyers = [meter for meter in range(1, HOMES + 1) if meter not in meters][:2]
        world.fund([*meters, *buyers], EURO)
        # In the last slot, so that its word of the exports is not the first one.
        last = slots - 1
        asks = [world.order(m, ASK, 10, 1 + i % 5, offset=last) for i, m in enumerate(meters)]
        sold = sum(order.total_wh for order in asks)
        world.post(asks[: sellers // 2])
        bid = world.order(buyers[0], BID, 50, sold - 1, offset=last)
        world.post([bid, *asks[sellers // 2 :]])
        world.post([world.order(buyers[1], BID, 50, 1, offset=last)])
        world.at(DAY_SLOT, -3_600)
        world.clear([*[None] * last, 20])
        world.at(DAY_SLOT + slots, RECEIPT_PERIOD + 1)
        world.commit(DAY_SLOT, [*[0] * last, sold])
        silent = set(rng.sample(meters, sellers // 4))
        proved = [*[9] * last, 3]
        receipts = [world.receipt(meter, proved) for meter in meters if meter not in silent]
        run = slots
        if singly:
            world.settle(receipts, slots=last)
            run = 1
        liar = rng.choice(receipts)
        forged = world.receipt(liar.meter, proved, key=world.owner_key(1))
        with boa.reverts("auction: not the device's receipt"):
            world.settle([forged if r is liar else r for r in receipts], slots=run)
        entries = world.settle(receipts, slots=run)
        paid = {entry.account: entry for entry in entries}
        for ask in asks:
            wh = 0 if ask.account in silent else min(3, ask.total_wh)
            back = wh * 20 + ask.total_wh * PENALTY - (ask.total_wh - wh) * PENALTY
            assert paid[ask.account] == Settled(ask.account, wh, ask.total_wh, back)
    boa.env.timestamp = start
    world.book.clear()
    world.pending.clear()
