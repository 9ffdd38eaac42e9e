# SPDX-License-Identifier: Apache-2.0
"""Late corrections: what a meter takes back after settlement, and who gets what for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import boa
import pytest

from dao.eip712 import sign_digest
from dao.market.orders import correction_digest
from dao.market.session import DeviceReceipt
from tests.contracts.market_world import (
    ASK,
    BID,
    DAY_SLOT,
    END,
    EURO,
    GATE,
    ZONE,
    World,
    build,
    delivered,
    key_of,
    logged,
)

PRICE = 195
PROVED = (1_000, 0, 0, 0)
KEPT = (850, 0, 0, 0)


@pytest.fixture
def world() -> World:
    """Seller 1 sold 1,000 Wh, delivered, to buyers 2 and 3, rationed to 667 and 333."""
    made = build()
    made.fund(range(1, 5), 10 * EURO)
    orders = [
        made.order(1, ASK, PRICE, 1_000),
        made.order(2, BID, PRICE + 110, 1_000),
        made.order(3, BID, PRICE + 110, 500),
    ]
    assert not any(made.post(orders))
    made.at(GATE)
    made.clear([PRICE, None, None, None])
    delivered(made)
    seller, *buyers = made.settle({1: PROVED})
    assert (seller.delivered_wh, [b.delivered_wh for b in buyers]) == (1_000, [666, 334])
    return made


def correction(
    world: World, exports: Sequence[int] = KEPT, key: bytes | None = None
) -> DeviceReceipt:
    digest = correction_digest(world.separator, 1, DAY_SLOT, exports)
    return DeviceReceipt(1, tuple(exports), sign_digest(key or world.device_key(1), digest))


def adjust(
    world: World,
    corrected: DeviceReceipt,
    receipt: DeviceReceipt | None = None,
    slot: int = DAY_SLOT,
    meter: int = 1,
    drop: int = 0,
) -> Any:
    """The event of an adjustment; drop: so many of the book's last words."""
    book = world.posted()
    world.adjustments.adjust(
        ZONE,
        DAY_SLOT,
        slot,
        meter,
        (receipt or world.receipt(1, PROVED)).as_tuple(),
        corrected.as_tuple(),
        book.page_words,
        book.rows[: len(book.rows) - drop],
        sender=world.deployer,
    )
    (event,) = logged(world.adjustments, "AdjustmentRecorded")
    world.check_conservation()
    return event


def test_buyers_share_the_price_of_what_was_taken_back(world: World) -> None:
    before = [world.balance(n) for n in (1, 2, 3)]
    event = adjust(world, correction(world))
    after = [world.balance(n) for n in (1, 2, 3)]
    amount = 150 * PRICE
    first = 666 * amount // 1_000
    assert [b - a for a, b in zip(before, after, strict=True)] == [-amount, first, amount - first]
    assert (event.account, event.slot, event.wh, event.amount) == (1, DAY_SLOT, 150, amount)


def test_only_what_the_account_still_holds_comes_back(world: World) -> None:
    world.market.withdraw(1, world.balance(1) - 1_000, world.deployer, sender=world.owner(1))
    event = adjust(world, correction(world))
    assert (event.wh, event.amount, world.balance(1)) == (150, 1_000, 0)


def test_a_slot_is_adjusted_once(world: World) -> None:
    adjust(world, correction(world))
    with boa.reverts("adjustments: slot was adjusted"):
        adjust(world, correction(world, (800, 0, 0, 0)))


@pytest.mark.parametrize("exports", [PROVED, (1_001, 0, 0, 0)])
def test_nothing_is_adjusted_upwards(world: World, exports: tuple[int, ...]) -> None:
    with boa.reverts("adjustments: nothing to take back"):
        adjust(world, correction(world, exports))


def test_energy_that_was_never_sold_is_not_paid_back(world: World) -> None:
    """Of 1,500 Wh proved 1,000 were sold; taking back 400 leaves 1,100."""
    with boa.reverts("adjustments: nothing to take back"):
        adjust(world, correction(world, (1_100, 0, 0, 0)), world.receipt(1, (1_500, 0, 0, 0)))


def test_final_readings_are_not_adjusted(world: World) -> None:
    world.at(END, 3 * 86_400 + 1)
    with boa.reverts("adjustments: readings are final"):
        adjust(world, correction(world))


def test_a_slot_that_did_not_trade_or_is_not_settled_is_not_adjusted(world: World) -> None:
    with boa.reverts("adjustments: nothing traded here"):
        adjust(world, correction(world), slot=DAY_SLOT + 1)
    with boa.reverts("adjustments: slot is not settled"):
        adjust(world, correction(world), slot=DAY_SLOT + 4)
    with boa.reverts("adjustments: slots out of range"):
        adjust(world, correction(world), slot=DAY_SLOT - 1)


def test_forged_words_are_refused(world: World) -> None:
    own = world.receipt(1, KEPT)
    for corrected, receipt in (
        (correction(world, key=key_of("stranger")), None),
        (correction(world), world.receipt(1, PROVED, key=key_of("stranger"))),
        # A receipt is no correction, nor the other way round.
        (own, None),
        (correction(world), correction(world, PROVED)),
    ):
        with boa.reverts("receipts: not the device's receipt"):
            adjust(world, corrected, receipt)
    with boa.reverts("receipts: not the device's receipt"):
        adjust(world, correction(world), meter=4)
    with boa.reverts():
        adjust(world, correction(world), drop=1)
    adjust(world, correction(world))


def test_only_the_adjustments_contract_moves_money(world: World) -> None:
    with boa.reverts("market: caller is not the adjuster"):
        world.market.record_adjustment(
            ZONE, DAY_SLOT, 1, 1, 1, [(2 << 224) | 1], sender=world.auction.address
        )
