# SPDX-License-Identifier: Apache-2.0
"""The guardian may stop the market once, for three days, and can take nothing from anyone."""

from __future__ import annotations

import boa
import pytest

from tests.contracts.market_world import (
    ASK,
    BID,
    DAY_SLOT,
    END,
    EURO,
    GATE,
    ZONE,
    World,
    delivered,
    logged,
    traded,
)

DAY = 86_400
PAUSE = 3 * DAY
NOBODY = "0x" + "00" * 20
KEY = ZONE << 64 | DAY_SLOT
N = [None] * 3


def pause(world: World, *keys: int) -> int:
    """Pause now, and void these sessions; returns when the pause ends."""
    world.market.pause(list(keys), sender=world.guardian)
    return int(boa.env.timestamp) + PAUSE


def pair(world: World, session: int = DAY_SLOT) -> list[int]:
    """A bid and an ask that trade, for one slot."""
    orders = [
        world.order(1, ASK, 100, 1_000, session=session),
        world.order(2, BID, 400, 1_000, session=session),
    ]
    return world.post(orders, session=session)


# ---------------------------------------------------------------- who, and how often


def test_only_the_guardian_pauses(world: World) -> None:
    for sender in (world.deployer, world.owner(1), world.collector):
        with boa.reverts("market: caller is not the guardian"):
            world.market.pause([], sender=sender)


def test_the_guardian_pauses_once(world: World) -> None:
    until = pause(world)
    assert [e.until for e in logged(world.market, "Paused")] == [until]
    assert [e.guardian for e in logged(world.market, "GuardianChanged")] == [NOBODY]
    assert world.market.guard() == (NOBODY, until - PAUSE, until)
    for moment in (until - PAUSE, until, until + DAY):
        boa.env.timestamp = moment
        with boa.reverts("market: caller is not the guardian"):
            world.market.pause([], sender=world.guardian)


def test_only_the_owner_names_the_guardian(world: World) -> None:
    for sender in (world.guardian, world.owner(1)):
        with boa.reverts("ownable: caller is not the owner"):
            world.market.set_guardian(sender, sender=sender)
    world.market.set_guardian(NOBODY, sender=world.deployer)
    with boa.reverts("market: caller is not the guardian"):
        world.market.pause([], sender=world.guardian)


def test_a_guardian_named_anew_may_pause_once_more(world: World) -> None:
    first = pause(world)
    world.market.set_guardian(world.guardian, sender=world.deployer)
    boa.env.timestamp = first + DAY
    until = pause(world)
    assert world.market.guard() == (NOBODY, first + DAY, until)


def test_one_pause_follows_another_without_a_gap(world: World) -> None:
    since = int(boa.env.timestamp)
    pause(world)
    world.market.set_guardian(world.guardian, sender=world.deployer)
    boa.env.timestamp = since + 2 * DAY
    until = pause(world)
    assert world.market.guard() == (NOBODY, since, until)


# ---------------------------------------------------------------- before, in and after it


def test_no_session_opens_during_a_pause(world: World) -> None:
    until = pause(world)
    tomorrow = DAY_SLOT + 96
    for moment, session in (
        (boa.env.timestamp, DAY_SLOT),
        (DAY_SLOT * 900 + 1, tomorrow),
        (until - 1, tomorrow + 2 * 96),
    ):
        boa.env.timestamp = moment
        with boa.reverts("market: paused"):
            pair(world, session)
        world.pending.clear()


def test_after_a_pause_sessions_open_and_trade(world: World) -> None:
    until = pause(world)
    boa.env.timestamp = until
    later = DAY_SLOT + 3 * 96
    assert pair(world, later) == [0, 0]
    world.at(later - 4)
    world.clear([195, *N], session=later)
    assert world.market.clearing(ZONE, later) == (195, 110, 1_000)


def test_a_session_named_by_the_guardian_takes_no_more_orders(world: World) -> None:
    pair(world)
    pause(world, KEY)
    (event,) = logged(world.market, "SessionVoided")
    assert (event.zone, event.first_slot, event.from_slot) == (ZONE, DAY_SLOT, DAY_SLOT)
    with boa.reverts("market: session is void"):
        pair(world)


def test_anyone_voids_a_session_whose_gate_falls_into_the_pause(world: World) -> None:
    pair(world)
    pause(world)
    world.market.void(ZONE, DAY_SLOT, sender=world.owner(9))
    with boa.reverts("market: session is void"):
        pair(world)
    # At once, hours before the gate.
    world.settle({})
    assert world.balance(1) == world.balance(2) == 100 * EURO
    assert world.market.account(1)[3] == 0


def test_a_session_whose_gate_falls_into_the_pause_is_never_cleared(world: World) -> None:
    pair(world)
    world.at(GATE, -1)
    pause(world)
    for moment in (GATE * 900, DAY_SLOT * 900):
        boa.env.timestamp = moment
        with boa.reverts("market: the gate fell into a pause"):
            world.clear([195, *N])
    world.market.void(ZONE, DAY_SLOT)
    world.settle({})
    assert world.balance(1) == world.balance(2) == 100 * EURO


def test_a_pause_in_the_very_second_of_the_gate_counts(world: World) -> None:
    pair(world)
    world.at(GATE)
    pause(world)
    with boa.reverts("market: the gate fell into a pause"):
        world.clear([195, *N])


def test_a_session_whose_gate_was_before_the_pause_goes_its_way(world: World) -> None:
    pair(world)
    world.at(GATE, 1)
    pause(world)
    world.clear([195, *N])
    delivered(world)
    world.settle({1: [1_000, 0, 0, 0]})
    assert world.balance(1) == 100 * EURO + 195_000


def test_the_guardian_voids_nothing_whose_gate_was_before_the_pause(world: World) -> None:
    pair(world)
    world.at(GATE, 1)
    with boa.reverts("market: the gate is not in the pause"):
        pause(world, KEY)
    assert world.market.guard()[0] == world.guardian


def test_the_guardian_voids_only_sessions_that_are_there(world: World) -> None:
    with boa.reverts("market: no such session"):
        pause(world, KEY)


def test_a_cleared_session_settles_during_a_pause(world: World) -> None:
    traded(world)
    delivered(world, 400)
    pause(world)
    world.settle({1: [400, 0, 0, 0]})
    world.market.collect_fees()
    world.check_conservation()


def test_a_partly_cleared_session_settles_what_it_cleared(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000, count=4), world.order(2, BID, 400, 1_000, count=4)])
    world.at(GATE)
    world.clear([195])
    world.at(GATE, 60)
    pause(world)
    world.clear([195])
    world.at(DAY_SLOT, 1)
    world.market.void(ZONE, DAY_SLOT)
    delivered(world, 1_000, 1_000, 1_000, 1_000)
    world.settle({1: [1_000] * 4})
    assert world.balance(1) == 100 * EURO + 2 * 195_000


@pytest.mark.parametrize("stage", ["open", "closed", "cleared", "over", "void"])
def test_money_can_be_withdrawn_at_every_stage(world: World, stage: str) -> None:
    pair(world)
    if stage in ("closed", "cleared", "over"):
        world.at(GATE, 1)
    if stage in ("cleared", "over"):
        world.clear([195, *N])
    if stage == "over":
        world.at(END)
    pause(world, *[KEY] * (stage == "void"))
    for account in (1, 2, 3):
        owner = world.owner(account)
        free = world.balance(account)
        world.market.withdraw(account, free, owner, sender=owner)
        assert world.token.balanceOf(owner) == free
    world.check_conservation()


def test_a_pause_stops_no_deposit_no_account_and_no_revocation(world: World) -> None:
    pause(world)
    number = world.join()
    world.market.revoke(number, 0, sender=world.owner(number))
    assert world.balance(number) == 100 * EURO
    world.check_conservation()
