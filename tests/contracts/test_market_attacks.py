# SPDX-License-Identifier: Apache-2.0
"""Attempts to break the market, each with what it meets. The rules themselves are tested in
test_energy_market."""

from __future__ import annotations

import boa
import pytest

from dao.market.orders import pack
from tests.contracts.market_world import (
    ASK,
    BID,
    DAY_SLOT,
    NO_PRICE,
    ZONE,
    World,
    key_of,
)

GATE = DAY_SLOT - 4
END = DAY_SLOT + 4
N = 3 * [NO_PRICE]
UNSIGNED = [bytes(32)] * 2


def traded(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000), world.order(2, BID, 400, 1_000)])
    world.at(GATE)
    world.clear([195, *N])


@pytest.mark.parametrize(
    ("zone", "first_slot"), [(ZONE, 2**64 + DAY_SLOT), (2**192 + ZONE, DAY_SLOT), (0, 2**64)]
)
def test_no_order_joins_a_book_under_another_name(world: World, zone: int, first_slot: int) -> None:
    # Wider numbers fold onto the same session; the event would name a session nobody watches.
    order = world.order(1, ASK, 100, 1_000)
    world.post([world.order(2, BID, 400, 1_000)])
    with boa.reverts("market: no such session"):
        world.market.post(zone, first_slot, pack(order), UNSIGNED, sender=world.owner(1))
    world.at(GATE)
    with boa.reverts("market: no such session"):
        world.market.clear(zone, first_slot, world.rows(), [NO_PRICE, *N])
    with boa.reverts("market: no such session"):
        world.market.void(zone, first_slot)
    with boa.reverts("market: no such session"):
        world.market.abandon(zone, first_slot)
    with boa.reverts("market: no such session"):
        world.market.settle(zone, first_slot, 1, world.rows(), [], [], [0])
    world.clear([NO_PRICE, *N])


def test_a_receipt_is_lodged_only_once_no_key_can_change_it(world: World) -> None:
    # Lodged early and then suspended, it could be neither used nor left out.
    traded(world)
    words, signature = world.receipts({1: [1_000, 0, 0, 0]})
    world.at(END, -1)
    with boa.reverts("market: delivery is not over"):
        world.market.lodge_receipt(1, DAY_SLOT, words[1:], signature)
    world.at(END)
    world.market.lodge_receipt(1, DAY_SLOT, words[1:], signature)
    world.registry.suspend_key(1, sender=world.deployer)
    world.commit(DAY_SLOT, [1_000, 0, 0, 0])
    world.settle({1: [1_000, 0, 0, 0]})


@pytest.mark.parametrize("words", [0, 2, 3, 6])
def test_a_lodged_receipt_has_the_sessions_length(world: World, words: int) -> None:
    traded(world)
    world.at(END)
    _, signature = world.receipts({1: [1_000, 0, 0, 0]})
    with boa.reverts("market: receipt is cut off"):
        world.market.lodge_receipt(1, DAY_SLOT, [1_000] * words, signature)


def test_a_receipt_is_lodged_only_for_a_session_of_the_meters_zone(world: World) -> None:
    traded(world)
    world.at(END)
    words, signature = world.receipts({999: [1_000, 0, 0, 0]}, keys={999: key_of("device 999")})
    with boa.reverts("market: no such session"):
        world.market.lodge_receipt(999, DAY_SLOT, words[1:], signature)


def test_an_account_cannot_be_filled_so_far_that_a_credit_fails(world: World) -> None:
    world.token.mint(world.deployer, 2**48, sender=world.deployer)
    world.token.approve(world.market.address, 2**48, sender=world.deployer)
    room = 2**47 - world.balance(2)
    with boa.reverts("market: balance too large"):
        world.market.deposit([2], [room + 1], sender=world.deployer)
    world.market.deposit([2], [room], sender=world.deployer)
    traded(world)
    world.at(END)
    world.commit(DAY_SLOT, [1_000, 0, 0, 0])
    world.settle({1: [1_000, 0, 0, 0]})
    assert world.balance(2) == 2**47 - 305_000


def test_a_rule_changed_in_the_second_of_announcement_makes_no_overlapping_sessions(
    world: World,
) -> None:
    # Four slots now, a whole day after the change: in that second nobody posts, so all sessions
    # of the day have one length.
    world.at(DAY_SLOT, -86_400)
    early = world.order(1, ASK, 100, 1_000)
    with boa.reverts("market: too early to post"):
        world.post([early])
    world.parameters.set_value(1, 1, sender=world.deployer)
    world.at(DAY_SLOT, 1 - 86_400)
    late = world.order(1, ASK, 100, 1_000, session=DAY_SLOT + 4)
    with boa.reverts("market: no session starts here"):
        world.post([late], session=DAY_SLOT + 4)
    world.pending.clear()
    assert world.post([world.order(1, ASK, 100, 1_000)]) == [0]
    assert world.market.session(ZONE, DAY_SLOT)[0] == 96


def test_sessions_of_a_later_day_keep_the_length_announced_for_them(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000)])
    world.parameters.set_value(1, 4, sender=world.deployer)
    # Announced before the change: today's sessions keep four slots, and none overlap.
    for first in range(DAY_SLOT + 4, DAY_SLOT + 96, 4):
        world.post([world.order(2, ASK, 100, 50, session=first)], session=first)
        assert world.market.session(ZONE, first)[0] == 4
    world.at(DAY_SLOT, 60)
    tomorrow = DAY_SLOT + 96
    assert world.post([world.order(3, ASK, 100, 50, session=tomorrow)], session=tomorrow) == [0]
    assert world.market.session(ZONE, tomorrow)[0] == 24
    with boa.reverts("market: no session starts here"):
        world.post([world.order(3, ASK, 100, 50, session=tomorrow + 4)], session=tomorrow + 4)


def test_a_profile_word_that_reads_as_a_header_stays_a_profile_word(world: World) -> None:
    # The second word of account 3's profile would be account 1's order, had it a place of its own.
    flat = world.order(1, ASK, 100, 1_000)
    (header,) = pack(flat)
    world.at(GATE, -1)
    words = [header, pack(world.order(3, BID, 400, (60,) * 4))[0]]
    # Rejected whole: its values lie beyond its slots.
    world.market.post(ZONE, DAY_SLOT, [words[1], header], UNSIGNED, sender=world.owner(3))
    assert [e.reason for e in world.events("OrderRejected")] == [4]
    assert world.market.running_hashes((ZONE << 64) | DAY_SLOT) == bytes(32)


@pytest.mark.parametrize("hints", [[], [2], [65_535], [1 << 16]])
def test_a_hint_beyond_the_receipts_settles_nothing(world: World, hints: list[int]) -> None:
    traded(world)
    world.at(END)
    world.commit(DAY_SLOT, [1_000, 0, 0, 0])
    words, signatures = world.receipts({1: [1_000, 0, 0, 0]})
    with pytest.raises(boa.BoaError):
        world.market.settle(ZONE, DAY_SLOT, 4, world.rows(), words, signatures, hints)
    world.settle({1: [1_000, 0, 0, 0]})


@pytest.mark.parametrize(
    "bit", [72 - 1, 0, 120, 127, 130, 135, 192, 223], ids=lambda bit: f"bit {bit}"
)
def test_a_header_with_a_stray_bit_is_turned_away(world: World, bit: int) -> None:
    (header,) = pack(world.order(1, ASK, 100, 1_000))
    world.market.post(ZONE, DAY_SLOT, [header | 1 << bit], UNSIGNED, sender=world.owner(1))
    assert [e.reason for e in world.events("OrderRejected")] == [2]
