# SPDX-License-Identifier: Apache-2.0
"""An agent orders for an account inside the limits that its owner set, and never outside them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import boa
import pytest

from dao.eip712 import address_of, compact, sign_digest
from dao.market.account import MAX_CAP, MAX_DAY, Mandate, mandate_digest, mandate_end_digest
from dao.market.orders import pack
from dao.market.session import Rejection, SignedOrder, Vouched
from tests.contracts.market_world import (
    ASK,
    BID,
    DAY_SLOT,
    END,
    EURO,
    GATE,
    World,
    key_of,
    logged,
)

AGENT = key_of("agent")
# The clock stands in the evening before the traded day.
TODAY = DAY_SLOT // 96 - 1


def terms(**changes: Any) -> Mandate:
    given = {"side": BID, "limit": 400, "daily_cap": 10, "last_day": TODAY + 30} | changes
    return Mandate(address_of(AGENT), **given)


def grant(world: World, account: int = 1, number: int = 7, **changes: Any) -> None:
    world.market.grant_mandate(
        account, number, terms(**changes).as_tuple(), sender=world.owner(account)
    )


def order(world: World, wh: int | tuple[int, ...] = 1_000, **changes: Any) -> SignedOrder:
    """A bid at 400 by the agent for account 1 under mandate 7, unless told otherwise."""
    given = {"account": 1, "side": BID, "limit": 400, "mandate": 7} | changes
    key = given.pop("key", AGENT)
    return world.sign(world.order(wh=wh, **given), key)


def committed(world: World, account: int = 1, number: int = 7) -> int:
    """Cents that today's orders have put in escrow."""
    return int(world.market.mandate(account, number)[1])


# ---------------------------------------------------------------- what it is good for


def test_an_agent_orders_with_its_own_key_and_the_owners_money(world: World) -> None:
    grant(world)
    assert world.post([order(world)]) == [0]
    assert world.balance(1) == 100 * EURO - 400_000
    # A number of the mandate's own: the owner's stay as they are.
    assert world.market.account(1)[4:] == (0, 0)
    assert world.market.mandate(1, 7)[2:] == (1, 0)
    assert committed(world) == 40


def test_the_agent_itself_holds_no_money(world: World) -> None:
    grant(world)
    with boa.reverts("market: caller is not the owner"):
        world.market.withdraw(1, 1, address_of(AGENT), sender=address_of(AGENT))


def test_the_agent_posts_in_person(world: World) -> None:
    grant(world)
    unsigned = replace(order(world), signature=b"", vouched=Vouched.BY_CALLER)
    assert world.post([unsigned], sender=world.owner(1)) == [Rejection.BAD_SIGNATURE]
    assert world.post([unsigned], sender=address_of(AGENT)) == [0]


def test_what_an_agent_sells_is_paid_to_the_owner(world: World) -> None:
    grant(world, side=ASK, limit=100)
    sold = order(world, side=ASK, limit=100)
    assert world.post([sold, world.order(2, BID, 400, 1_000)]) == [0, 0]
    world.at(GATE)
    world.clear([195, None, None, None])
    world.at(END)
    world.commit(DAY_SLOT, [1_000, 0, 0, 0])
    world.settle({1: [1_000, 0, 0, 0]})
    assert world.balance(1) == 100 * EURO + 195_000


def test_owner_and_agents_share_a_batch(world: World) -> None:
    grant(world)
    grant(world, number=8, side=ASK, limit=50)
    batch = [
        world.order(1, BID, 900, 50),
        order(world),
        order(world, mandate=8, side=ASK, limit=60),
        order(world, (100, 200)),
    ]
    assert world.post(batch) == [0, 0, 0, 0]
    assert world.market.account(1)[3] == 4


# ---------------------------------------------------------------- granted and ended


def test_only_the_owner_grants_and_ends(world: World) -> None:
    for stranger in (world.owner(2), address_of(AGENT), world.deployer):
        with boa.reverts("market: caller is not the owner"):
            world.market.grant_mandate(1, 7, terms().as_tuple(), sender=stranger)
    grant(world)
    for stranger in (world.owner(2), address_of(AGENT), world.deployer):
        with boa.reverts("market: caller is not the owner"):
            world.market.end_mandate(1, 7, sender=stranger)


def test_a_grant_tells_its_terms(world: World) -> None:
    grant(world)
    (event,) = logged(world.market, "MandateGranted")
    assert (event.account, event.number, event.agent) == (1, 7, address_of(AGENT))
    assert tuple(event.terms) == terms().as_tuple()
    assert tuple(world.market.mandate(1, 7)[0]) == terms().as_tuple()
    assert world.market.mandate(1, 7)[1:] == (0, 0, 0)


def test_terms_out_of_range_are_refused(world: World) -> None:
    good = terms().as_tuple()
    for place, value in ((1, 2), (2, 65_535), (3, MAX_CAP + 1), (4, MAX_DAY + 1)):
        wrong = (*good[:place], value, *good[place + 1 :])
        with boa.reverts("market: terms out of range"):
            world.market.grant_mandate(1, 7, wrong, sender=world.owner(1))
    with boa.reverts("market: agent is zero"):
        world.market.grant_mandate(1, 7, ("0x" + "00" * 20, *good[1:]), sender=world.owner(1))
    for number in (0, 2**32):
        with boa.reverts("market: mandate out of range"):
            world.market.grant_mandate(1, number, good, sender=world.owner(1))


def test_a_number_is_granted_once(world: World) -> None:
    grant(world)
    with boa.reverts("market: mandate number is used"):
        grant(world, limit=500)
    world.market.end_mandate(1, 7, sender=world.owner(1))
    with boa.reverts("market: mandate number is used"):
        grant(world)
    with boa.reverts("market: no such mandate"):
        world.market.end_mandate(1, 7, sender=world.owner(1))


def test_without_a_mandate_no_agent_orders(world: World) -> None:
    grant(world)
    for other in ({"mandate": 8}, {"account": 2}):
        assert world.post([order(world, **other)]) == [Rejection.NO_MANDATE]


def test_an_ended_mandate_orders_nothing_and_its_posted_orders_stay(world: World) -> None:
    grant(world)
    assert world.post([order(world)]) == [0]
    signed = order(world)
    world.market.end_mandate(1, 7, sender=world.owner(1))
    assert world.post([signed]) == [Rejection.NO_MANDATE]
    assert world.market.session(1, DAY_SLOT)[4] == 1
    # Nor is a zero signature taken for that of the agent who is no more.
    assert world.post_words(1, 1, [*pack(signed.order), 0, 0]) == [Rejection.NO_MANDATE]


def test_orders_of_an_ended_mandate_do_not_come_back_with_the_next(world: World) -> None:
    grant(world)
    old = [order(world, 100) for _ in range(3)]
    assert world.post(old[:2]) == [0, 0]
    world.market.end_mandate(1, 7, sender=world.owner(1))
    grant(world, number=8)
    assert world.post(old) == [Rejection.NO_MANDATE] * 3
    moved = [replace(one, order=replace(one.order, mandate=8)) for one in old]
    assert world.post(moved) == [Rejection.BAD_SIGNATURE] * 3


def test_a_signed_grant_is_brought_by_anyone_once(world: World) -> None:
    signature = _signed(world, mandate_digest(world.separator, 1, 7, terms()))
    world.market.grant_mandate_signed(1, 7, terms().as_tuple(), signature, sender=world.owner(9))
    assert world.post([order(world)]) == [0]
    with boa.reverts("market: mandate number is used"):
        world.market.grant_mandate_signed(1, 7, terms().as_tuple(), signature)
    world.market.end_mandate(1, 7, sender=world.owner(1))
    with boa.reverts("market: mandate number is used"):
        world.market.grant_mandate_signed(1, 7, terms().as_tuple(), signature)


@pytest.mark.parametrize(
    ("account", "number", "changes"),
    [
        (2, 7, {}),
        (1, 8, {}),
        (1, 7, {"limit": 401}),
        (1, 7, {"daily_cap": 11}),
        (1, 7, {"side": 1}),
    ],
)
def test_a_signed_grant_is_good_for_nothing_else(
    world: World, account: int, number: int, changes: dict[str, int]
) -> None:
    signature = _signed(world, mandate_digest(world.separator, 1, 7, terms()))
    with boa.reverts("market: not the owner's signature"):
        world.market.grant_mandate_signed(account, number, terms(**changes).as_tuple(), signature)


def test_a_signed_end_is_brought_by_anyone_once(world: World) -> None:
    grant(world)
    digest = mandate_end_digest(world.separator, 1, 7)
    with boa.reverts("market: not the owner's signature"):
        world.market.end_mandate_signed(1, 7, b"".join(compact(sign_digest(AGENT, digest))))
    signature = _signed(world, digest)
    world.market.end_mandate_signed(1, 7, signature, sender=world.owner(9))
    assert world.post([order(world)]) == [Rejection.NO_MANDATE]
    grant(world, number=8)
    with boa.reverts("market: no such mandate"):
        world.market.end_mandate_signed(1, 7, signature)
    with boa.reverts("market: not the owner's signature"):
        world.market.end_mandate_signed(1, 8, signature)


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("granted", "changes", "reason"),
    [
        ({}, {"limit": 400}, 0),
        ({}, {"limit": 401}, Rejection.BEYOND_MANDATE),
        ({"limit": 0}, {"limit": 0}, 0),
        ({}, {"side": ASK, "limit": 400}, Rejection.BEYOND_MANDATE),
        ({"side": ASK, "limit": 90}, {"side": ASK, "limit": 90}, 0),
        ({"side": ASK, "limit": 90}, {"side": ASK, "limit": 89}, Rejection.BEYOND_MANDATE),
        ({"side": ASK, "limit": 90}, {"side": BID, "limit": 90}, Rejection.BEYOND_MANDATE),
    ],
)
def test_side_and_price_stay_inside_the_mandate(
    world: World, granted: dict[str, int], changes: dict[str, int], reason: int
) -> None:
    grant(world, **granted)
    assert world.post([order(world, 100, **changes)]) == [reason]


def test_the_daily_cap_is_used_up_to_the_cent(world: World) -> None:
    grant(world, daily_cap=10)  # one euro
    # 400 a Wh: 40 cents, 40 cents, and 20 cents less 400.
    assert world.post([order(world), order(world)]) == [0, 0]
    assert world.post([order(world, 501)]) == [Rejection.BEYOND_MANDATE]
    assert world.post([order(world, 500)]) == [0]
    assert committed(world) == 100
    assert world.post([order(world, 50)]) == [Rejection.BEYOND_MANDATE]
    assert world.balance(1) == 99 * EURO


def test_an_order_turned_away_uses_nothing_up(world: World) -> None:
    grant(world, daily_cap=10)
    late = order(world, expiry=1)
    forged = order(world, key=key_of("nobody"))
    assert world.post([late, forged]) == [Rejection.EXPIRED, Rejection.BAD_SIGNATURE]
    assert world.market.mandate(1, 7)[1:] == (0, 0, 0)


def test_each_order_counts_as_a_cent_at_least(world: World) -> None:
    grant(world, daily_cap=1)
    # 51 Wh at 0 put nothing in escrow, at 1 fifty-one millionths.
    assert world.post([order(world, 51, limit=0)]) == [0]
    assert committed(world) == 0
    assert world.post([order(world, 51, limit=1) for _ in range(10)]) == [0] * 10
    assert committed(world) == 10
    assert world.post([order(world, 51, limit=1)]) == [Rejection.BEYOND_MANDATE]


def test_an_ask_counts_its_collateral(world: World) -> None:
    grant(world, side=ASK, limit=0, daily_cap=1)
    assert world.post([order(world, 1_001, side=ASK, limit=100)]) == [Rejection.BEYOND_MANDATE]
    assert world.post([order(world, 1_000, side=ASK, limit=100)]) == [0]


def test_a_profile_counts_all_its_slots(world: World) -> None:
    grant(world, daily_cap=1)
    assert world.post([order(world, (100, 0, 151))]) == [Rejection.BEYOND_MANDATE]
    assert world.post([order(world, (100, 0, 150))]) == [0]
    assert world.post([order(world, 50, count=2, limit=1)]) == [Rejection.BEYOND_MANDATE]


def test_the_dearest_order_there_is_does_not_slip_under_the_cap(world: World) -> None:
    """Its cents do not fit the place where they are kept."""
    world.fund([1], 2_000_000 * EURO)
    grant(world, limit=65_534, daily_cap=MAX_CAP)
    dear = order(world, 25_000, limit=65_534, count=4)
    assert world.post([dear]) == [Rejection.BEYOND_MANDATE]
    assert world.market.mandate(1, 7)[1:] == (0, 0, 0)


def test_a_mandate_without_a_cap_orders_nothing_that_costs(world: World) -> None:
    grant(world, daily_cap=0)
    assert world.post([order(world, limit=1)]) == [Rejection.BEYOND_MANDATE]
    assert world.post([order(world, limit=0)]) == [0]


def test_the_cap_begins_anew_with_each_utc_day(world: World) -> None:
    grant(world, daily_cap=4)
    late = DAY_SLOT + 92
    assert world.post([order(world)]) == [0]
    world.at(DAY_SLOT, -1)
    tonight = order(world, session=late)
    assert world.post([tonight], session=late) == [Rejection.BEYOND_MANDATE]
    world.at(DAY_SLOT)
    assert world.post([tonight], session=late) == [0]
    assert committed(world) == 40


def test_after_eight_idle_days_to_the_day_the_old_sum_counts_once_more(world: World) -> None:
    grant(world, daily_cap=4)
    assert world.post([order(world)]) == [0]
    for days, reason in ((1, 0), (7, 0), (8, Rejection.BEYOND_MANDATE), (9, 0), (15, 0)):
        first = DAY_SLOT + 96 * days
        world.at(first, 1 - 86_400)
        with boa.env.anchor():
            reasons = world.post([order(world, session=first)], session=first)
        world.book.pop(first, None)
        assert reasons == [reason], days


def test_a_mandate_ends_with_its_last_day(world: World) -> None:
    grant(world, last_day=TODAY)
    assert world.post([order(world)]) == [0]
    late = DAY_SLOT + 92
    world.at(DAY_SLOT, -1)
    assert world.post([order(world, 50, session=late)], session=late) == [0]
    world.at(DAY_SLOT)
    signed = order(world, 50, session=late)
    assert world.post([signed], session=late) == [Rejection.BEYOND_MANDATE]


def test_the_money_must_be_there_all_the_same(world: World) -> None:
    grant(world, daily_cap=MAX_CAP)
    world.market.withdraw(1, 100 * EURO - 399_999, world.owner(1), sender=world.owner(1))
    assert world.post([order(world)]) == [Rejection.POOR]
    assert world.post([order(world, 999)]) == [0]


# ---------------------------------------------------------------- signatures and numbers


def test_only_the_agents_key_signs_for_the_mandate(world: World) -> None:
    grant(world)
    for key in (world.owner_key(1), key_of("another agent"), world.device_key(1)):
        assert world.post([order(world, key=key)]) == [Rejection.BAD_SIGNATURE]


def test_the_agents_key_signs_for_nothing_but_the_mandate(world: World) -> None:
    grant(world)
    assert world.post([order(world, mandate=0)]) == [Rejection.BAD_SIGNATURE]


def test_an_order_of_a_mandate_is_good_for_no_other(world: World) -> None:
    grant(world)
    grant(world, number=8)
    grant(world, account=2)
    signed = order(world)
    for change in ({"mandate": 8}, {"mandate": 0}, {"account": 2}):
        other = replace(signed, order=replace(signed.order, **change))
        assert world.post([other]) == [Rejection.BAD_SIGNATURE], change


def test_a_mandate_has_numbers_of_its_own(world: World) -> None:
    grant(world)
    grant(world, number=8)
    batch = [
        order(world, 50, nonce=0),
        order(world, 50, nonce=0),
        order(world, 50, nonce=0, mandate=8),
        world.order(1, BID, 400, 50, nonce=0),
        order(world, 50, nonce=15),
        order(world, 50, nonce=17),
    ]
    used = Rejection.NONCE_USED
    assert world.post(batch) == [0, used, 0, 0, 0, used]


def test_revoking_an_order_of_the_owner_leaves_those_of_the_agent(world: World) -> None:
    grant(world)
    world.market.revoke(1, 0, sender=world.owner(1))
    assert world.post([order(world, nonce=0)]) == [0]


def _signed(world: World, digest: bytes, account: int = 1) -> bytes:
    return b"".join(compact(sign_digest(world.owner_key(account), digest)))
