# SPDX-License-Identifier: Apache-2.0
"""What a settlement states and brings: outcomes, receipts and their places, each tried wrong.

Four slots a session; seller 1 asks, buyer 2 bids, the penalty is 100 and the grid fee 110.
"""

from __future__ import annotations

from typing import Any

import boa
import pytest

from dao.market.orders import pack_wh
from tests.contracts.market_world import (
    ASK,
    BID,
    DAY_SLOT,
    END,
    EURO,
    GATE,
    World,
    build,
    delivered,
    traded,
)

LATE = 12 * 3_600 + 1


@pytest.fixture
def world() -> World:
    made = build()
    made.fund(range(1, 21), 100 * EURO)
    return made


def late_world(world: World, slots: int) -> None:
    """Seller 1 sold 1,000 Wh in the first slot, and the receipts are overdue."""
    traded(world)
    delivered(world)
    world.at(END, LATE)


@pytest.mark.parametrize("slots", [1, 4])
def test_what_stands_in_the_place_of_a_missing_receipt_proves_nothing(
    world: World, slots: int
) -> None:
    """No signature, but exports: neither as if delivered, nor as if missing with them in place."""
    late_world(world, slots)

    def with_exports(arguments: list[Any]) -> list[Any]:
        batch = list(arguments[-1])
        assert batch[-3:] == [0, 0, 0]
        return [*arguments[:-1], [*batch[:-1], *pack_wh([1_000] * 4)]]

    def as_if_delivered(arguments: list[Any]) -> list[Any]:
        arguments = with_exports(arguments)
        batch = arguments[-1]
        pages = arguments[3]
        batch[pages] = 1_000
        return arguments

    with boa.reverts("auction: not what it comes to"):
        world.settle({}, slots=slots, edit=as_if_delivered)
    seller, _ = world.settle({}, slots=slots, edit=with_exports)
    assert (seller.delivered_wh, seller.filled_wh, seller.credit) == (0, 1_000, 0)


@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("change", [1, -1, 1 << 48])
def test_any_other_outcome_is_refused(world: World, slots: int, change: int) -> None:
    traded(world)
    delivered(world)

    def other(arguments: list[Any]) -> list[Any]:
        batch = list(arguments[-1])
        batch[arguments[3]] += change
        return [*arguments[:-1], batch]

    exports = {1: [900, 0, 0, 0]}
    with boa.reverts("auction: not what it comes to"):
        world.settle(exports, slots=slots, edit=other)
    seller, buyer = world.settle(exports, slots=slots)
    assert seller.delivered_wh == buyer.delivered_wh == 900


@pytest.mark.parametrize("slots", [1, 4])
def test_a_receipt_that_no_ask_needs_is_refused(world: World, slots: int) -> None:
    traded(world)
    delivered(world)
    spare = world.receipt(3, [5, 5, 5, 5]).as_words()

    def with_spare(arguments: list[Any]) -> list[Any]:
        return [*arguments[:-1], [*arguments[-1], *spare]]

    with boa.reverts("auction: receipts do not fit the asks"):
        world.settle({1: [1_000, 0, 0, 0]}, slots=slots, edit=with_spare)


def test_an_ask_without_energy_in_a_slot_takes_no_part_in_its_rationing(world: World) -> None:
    """Its limit is the second slot's price, at which nothing else stands."""
    # The midpoint of 100 and 290 is 195.
    still = world.order(3, ASK, 195, (500, 0, 500, 500))
    orders = [world.order(1, ASK, 100, 500, offset=1), world.order(2, BID, 400, 500, offset=1)]
    assert world.post([*orders, still]) == [0, 0, 0]
    world.at(GATE)
    world.clear([None, 195, None, None])
    delivered(world, 0, 500)
    parts = world.settle({1: [0, 500, 0, 0]})
    assert [part.delivered_wh for part in parts] == [500, 500, 0]


@pytest.mark.parametrize("runs", [(4,), (1, 3), (2, 2)])
def test_sellers_on_one_seat_keep_what_is_left_of_their_receipts(
    world: World, runs: tuple[int, ...]
) -> None:
    """Meters 1 and 257 share a place in the table of what is left, and take turns."""
    world = build(homes=258)
    world.fund([1, 2, 257], 100 * EURO)
    orders = [
        world.order(account, ASK, 100, 300, nonce=nonce)
        for nonce in range(3)
        for account in (1, 257)
    ]
    assert not any(world.post([*orders, world.order(2, BID, 400, 1_800)]))
    world.at(GATE)
    world.clear([195, None, None, None])
    delivered(world, 1_800)
    settled = []
    for slots in runs:
        settled.append(world.settle({1: [700, 0, 0, 0], 257: [400, 0, 0, 0]}, slots=slots))
    delivered_wh = [part.delivered_wh for part in settled[0]]
    assert delivered_wh == [300, 300, 300, 100, 100, 0, 1_100]


def test_an_abandoned_session_pays_everything_back_whatever_is_committed_later(
    world: World,
) -> None:
    before = [world.balance(1), world.balance(2)]
    traded(world)
    world.at(END, 7 * 86_400 + 1)
    world.market.abandon(1, DAY_SLOT)
    assert world.market.clearing(1, DAY_SLOT)[0] == 65_535
    world.commit(DAY_SLOT, [1_000, 0, 0, 0])
    world.settle({})
    assert [world.balance(1), world.balance(2)] == before
