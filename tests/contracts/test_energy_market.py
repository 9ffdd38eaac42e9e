# SPDX-License-Identifier: Apache-2.0
"""Accounts, money and orders: what the market promises, one behaviour a test.

Clearing is in test_auction, settling in test_settlement, attempts to break them in
test_market_attacks, random sessions in test_market_fuzz.
"""

from __future__ import annotations

import random
from dataclasses import replace

import boa
import pytest

from dao.eip712 import address_of, sign_digest
from dao.market.orders import market_separator, order_digest, pack, pages
from dao.market.session import Rejection, SignedOrder, Vouched
from tests.contracts.market_world import (
    ASK,
    BID,
    DAY_SLOT,
    EURO,
    GATE,
    ZONE,
    World,
    key_of,
    set_numbers,
    whole_day,
)

# ---------------------------------------------------------------- accounts and money


def test_an_owner_withdraws_the_free_balance(world: World) -> None:
    payee = boa.env.generate_address()
    world.market.withdraw(1, 40 * EURO, payee, sender=world.owner(1))
    assert world.token.balanceOf(payee) == 40 * EURO
    assert world.balance(1) == 60 * EURO
    world.check_conservation()


def test_nobody_withdraws_from_anothers_account(world: World) -> None:
    for stranger in (world.deployer, world.owner(2)):
        with boa.reverts("market: caller is not the owner"):
            world.market.withdraw(1, 1, stranger, sender=stranger)


def test_nobody_withdraws_more_than_there_is(world: World) -> None:
    with boa.reverts("market: balance too low"):
        world.market.withdraw(2, 100 * EURO + 1, world.owner(2), sender=world.owner(2))


def test_escrowed_money_cannot_be_withdrawn(world: World) -> None:
    world.post([world.order(2, BID, 400, 1_000)])
    with boa.reverts("market: balance too low"):
        world.market.withdraw(2, 100 * EURO, world.owner(2), sender=world.owner(2))
    world.market.withdraw(2, 100 * EURO - 400_000, world.owner(2), sender=world.owner(2))
    world.check_conservation()


def test_an_account_opens_only_once_and_only_for_a_registered_point(world: World) -> None:
    with boa.reverts("market: account is open"):
        world.market.open_accounts([1])
    with boa.reverts("market: unknown metering point"):
        world.market.open_accounts([999])


def test_anyone_may_deposit_to_any_account(world: World) -> None:
    payer = world.owner(3)
    world.token.mint(payer, 7 * EURO, sender=world.deployer)
    world.token.approve(world.market.address, 7 * EURO, sender=payer)
    world.market.deposit([1, 2, 1], [EURO, 2 * EURO, 4 * EURO], sender=payer)
    assert (world.balance(1), world.balance(2)) == (105 * EURO, 102 * EURO)
    world.check_conservation()


def test_a_deposit_names_an_open_account_and_one_amount_each(world: World) -> None:
    with boa.reverts("market: unknown account"):
        world.market.deposit([999], [1], sender=world.deployer)
    with boa.reverts("market: one amount per account"):
        world.market.deposit([1, 2], [1], sender=world.deployer)


def test_deposits_leave_room_for_credits(world: World) -> None:
    world.token.mint(world.deployer, 2**48, sender=world.deployer)
    world.token.approve(world.market.address, 2**48, sender=world.deployer)
    room = 2**47 - world.balance(2)
    with boa.reverts("market: balance too large"):
        world.market.deposit([2], [room + 1], sender=world.deployer)
    world.market.deposit([2], [room], sender=world.deployer)


def test_only_the_owner_of_the_contract_moves_the_treasury(world: World) -> None:
    with boa.reverts("ownable: caller is not the owner"):
        world.market.set_treasury(world.owner(1), sender=world.owner(1))
    with boa.reverts("market: treasury is zero"):
        world.market.set_treasury("0x" + "00" * 20, sender=world.deployer)
    world.market.set_treasury(world.owner(9), sender=world.deployer)
    assert world.market.treasury() == world.owner(9)


def test_the_auction_is_named_once_and_for_good(world: World) -> None:
    for sender, reason in (
        (world.owner(1), "ownable: caller is not the owner"),
        (world.deployer, "market: auction is set"),
    ):
        with boa.reverts(reason):
            world.market.set_auction(world.owner(1), world.owner(1), sender=sender)
    assert world.market.auction() == world.auction.address
    assert world.market.adjustments() == world.adjustments.address


# ---------------------------------------------------------------- posting


def test_a_bid_escrows_limit_times_energy_and_an_ask_its_penalty(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000, count=4), world.order(2, BID, 400, (500, 250))])
    assert world.balance(1) == 100 * EURO - 100 * 4_000
    assert world.balance(2) == 100 * EURO - 400 * 750
    assert world.market.owed() == 1_000 * EURO


def test_posting_moves_no_tokens(world: World) -> None:
    before = world.token.balanceOf(world.market.address)
    world.post([world.order(1, ASK, 100, 1_000), world.order(2, BID, 400, 1_000)])
    assert world.token.balanceOf(world.market.address) == before


def test_the_owner_posts_in_person_without_a_signature(world: World) -> None:
    order = world.order(1, ASK, 100, 1_000)
    unsigned = SignedOrder(order, b"", Vouched.BY_CALLER)
    assert world.post([unsigned], sender=world.owner(2)) == [Rejection.BAD_SIGNATURE]
    assert world.post([unsigned], sender=world.owner(1)) == [0]


def test_an_owner_in_person_and_signed_orders_share_a_batch(world: World) -> None:
    batch = [
        world.order(2, BID, 400, 1_000),
        SignedOrder(world.order(1, ASK, 100, 1_000), b"", Vouched.BY_CALLER),
        world.order(3, BID, 400, (200, 300)),
    ]
    assert world.post(batch, sender=world.owner(1)) == [0, 0, 0]


def test_one_bad_order_leaves_the_rest_of_the_batch_unharmed(world: World) -> None:
    good = world.order(1, ASK, 100, 1_000)
    last = world.order(8, BID, 400, (500, 500))
    batch = [
        world.order(999, ASK, 100, 1_000, nonce=0),
        world.order(3, BID, 400, 1_000, expiry=1),
        world.order(4, BID, 400, 26_000),
        world.order(5, BID, 400, (26_000, 100)),
        world.order(5, BID, 400, 49),
        world.order(6, BID, 400, 1_000, nonce=16),
        world.order(11, BID, 400, 1_000),
        good,
        world.order(7, BID, 400, 1_000, count=5),
        world.order(7, BID, 400, (500,) * 5),
        last,
    ]
    r = Rejection
    assert world.post(batch) == [
        r.UNKNOWN_ACCOUNT, r.EXPIRED, r.ENERGY_BOUND, r.ENERGY_BOUND, r.ENERGY_BOUND,
        r.NONCE_USED, r.POOR, 0, r.MALFORMED, r.MALFORMED, 0,
    ]  # fmt: skip
    assert world.orders() == [good, last]


def test_of_several_reasons_the_same_one_is_always_given(world: World) -> None:
    """An order with every fault there is, mended one by one."""
    for _ in range(32):
        world.order(1, ASK, 100, 50)
    world.post(world.pending[:])
    agent = key_of("agent")
    terms = (address_of(agent), 0, 10, 1, boa.env.timestamp // 86_400)
    for account in (1, 2):
        world.market.grant_mandate(account, 7, terms, sender=world.owner(account))

    def reason(stray: int = 0, zone: int = ZONE, **changes: int) -> int:
        order = world.order(
            **{"account": 2, "side": ASK, "limit": 400, "wh": 10, "nonce": 0} | changes
        )
        (header,) = pack(order)
        return world.post_words(1, 1, [header | stray, 1, 1], zone=zone)[0]

    wrong = {"mandate": 8, "nonce": 16, "expiry": 1, "count": 5, "stray": 1, "account": 1}
    r = Rejection
    assert reason(**wrong, zone=2) == r.UNKNOWN_ACCOUNT
    assert reason(**wrong) == r.TOO_MANY_OPEN
    wrong["account"] = 12  # which has no money
    assert reason(**wrong) == r.MALFORMED
    del wrong["count"]
    assert reason(**wrong) == r.EXPIRED
    del wrong["expiry"]
    assert reason(**wrong) == r.ENERGY_BOUND
    wrong["wh"] = 1_000
    assert reason(**wrong) == r.NONCE_USED
    wrong["nonce"] = 0
    assert reason(**wrong) == r.POOR
    wrong["account"] = 2
    assert reason(**wrong) == r.NO_MANDATE
    wrong["mandate"] = 7
    assert reason(**wrong) == r.BEYOND_MANDATE
    wrong["mandate"] = 0
    assert reason(**wrong) == r.MALFORMED
    wrong["stray"] = 0
    assert reason(**wrong) == r.BAD_SIGNATURE


def test_an_order_turned_away_changes_nothing_and_can_come_again(world: World) -> None:
    order = world.order(11, BID, 400, 1_000)
    before = world.market.account(11)
    assert world.post([order]) == [Rejection.POOR]
    assert world.market.account(11) == before
    assert world.market.session(ZONE, DAY_SLOT)[4] == 0
    world.fund([11], EURO)
    assert world.post([order]) == [0]


def test_an_order_signed_by_anyone_but_the_owner_is_turned_away(world: World) -> None:
    order = world.order(1, ASK, 100, 1_000)
    assert world.post([world.sign(order, world.owner_key(2))]) == [Rejection.BAD_SIGNATURE]
    assert world.post([world.sign(order, world.device_key(1))]) == [Rejection.BAD_SIGNATURE]


def test_an_edited_order_is_turned_away(world: World) -> None:
    signed = world.sign(world.order(1, ASK, 100, (500, 500)))
    for change in (
        {"limit": 99},
        {"wh": (500, 501)},
        {"nonce": 1},
        {"expiry": DAY_SLOT * 900 + 1},
        {"side": BID},
        {"offset": 1},
        {"wh": 500},
        {"account": 2},
    ):
        edited = replace(signed, order=replace(signed.order, **change))
        assert world.post([edited]) == [Rejection.BAD_SIGNATURE], change
    assert world.post([signed]) == [0]


def test_an_order_for_another_chain_or_contract_is_turned_away(world: World) -> None:
    order = world.order(1, ASK, 100, 1_000)
    for separator in (
        market_separator(1, world.market.address),
        market_separator(31_337, world.auction.address),
    ):
        signed = sign_digest(world.owner_key(1), order_digest(separator, order))
        assert world.post([SignedOrder(order, signed)]) == [Rejection.BAD_SIGNATURE]


def test_after_a_fork_of_the_chain_orders_of_the_old_one_are_turned_away(world: World) -> None:
    signed = world.sign(world.order(1, ASK, 100, 1_000))
    chain_id = boa.env.evm.patch.chain_id
    boa.env.evm.patch.chain_id = 1
    try:
        assert world.post([signed]) == [Rejection.BAD_SIGNATURE]
    finally:
        boa.env.evm.patch.chain_id = chain_id
    assert world.post([signed]) == [0]


def test_an_order_cannot_be_posted_twice(world: World) -> None:
    order = world.order(1, ASK, 100, 1_000)
    assert world.post([order, order]) == [0, Rejection.NONCE_USED]
    assert world.post([order]) == [Rejection.NONCE_USED]


def test_an_order_for_one_session_does_not_count_in_another(world: World) -> None:
    signed = world.sign(world.order(1, ASK, 100, 1_000))
    # The same words under the next session: the signature names other slots.
    assert world.post([signed], session=DAY_SLOT + 4) == [Rejection.BAD_SIGNATURE]


def test_orders_of_another_zone_are_turned_away(world: World) -> None:
    order = world.order(1, ASK, 100, 1_000)
    assert world.post([order], zone=2) == [Rejection.UNKNOWN_ACCOUNT]


def test_an_account_has_at_most_32_open_orders(world: World) -> None:
    orders = [world.order(1, ASK, 100, 50) for _ in range(33)]
    assert world.post(orders) == [0] * 32 + [Rejection.TOO_MANY_OPEN]
    # In no session.
    later = world.order(1, ASK, 100, 50, session=DAY_SLOT + 4)
    assert world.post([later], session=DAY_SLOT + 4) == [Rejection.TOO_MANY_OPEN]


def test_a_settled_session_makes_room_for_open_orders(world: World) -> None:
    world.post([world.order(1, ASK, 100, 50) for _ in range(32)])
    late = DAY_SLOT + 92
    world.at(DAY_SLOT, 1)
    world.market.void(ZONE, DAY_SLOT)
    world.settle({})
    assert world.market.account(1)[3] == 0
    assert world.post([world.order(1, ASK, 100, 50, session=late)], session=late) == [0]


def test_rows_and_signatures_must_match(world: World) -> None:
    order = world.order(1, ASK, 100, (100, 100))
    rows, signature = pack(order), world.signature(order)
    for count, row_count, words, reason in (
        (1, 1, [rows[0], *signature], "market: profile is cut off"),
        (1, 2, [*rows, *signature * 2], "market: one signature per order"),
        (1, 4, [*rows * 2, *signature * 2], "market: orders do not fill their words"),
        (0, 2, rows, "market: orders do not fill their words"),
        (1, 3, rows, "market: more orders than words"),
        (1, 2**256 - 1, rows, "market: more orders than words"),
    ):
        with boa.reverts(reason):
            world.post_words(count, row_count, words)


@pytest.mark.parametrize("left_out", [1, 2, 3])
def test_a_batch_that_ends_too_early_is_refused(world: World, left_out: int) -> None:
    orders = [world.order(account, ASK, 100, 1_000) for account in (1, 2)]
    words = [word for o in orders for word in pack(o)]
    words += [word for o in orders for word in world.signature(o)]
    with boa.reverts():
        world.post_words(2, 2, words[:-left_out])


def test_an_empty_batch_opens_the_session_and_does_nothing_else(world: World) -> None:
    assert world.post([]) == []
    assert world.market.session(ZONE, DAY_SLOT) == (4, GATE * 900, 0, 0, 0, 100, False)


# ---------------------------------------------------------------- profiles


@pytest.mark.parametrize(
    ("offset", "count", "words"),
    [
        (0, 1, 1),
        (15, 1, 1),
        (15, 2, 2),
        (16, 16, 1),
        (1, 16, 2),
        (0, 96, 6),
        (95, 1, 1),
        (7, 80, 6),
    ],
)
def test_a_profile_brings_a_word_for_every_sixteen_slots_that_it_touches(
    world: World, offset: int, count: int, words: int
) -> None:
    whole_day(world)
    values = tuple(50 + slot for slot in range(count))
    order = world.order(1, ASK, 100, values, offset=offset)
    assert len(pack(order)) == 1 + words
    assert world.post([order]) == [0]
    assert world.balance(1) == 100 * EURO - 100 * sum(values)
    assert world.orders() == [order]


@pytest.mark.parametrize("lane", [0, 3, 7, 15])
def test_energy_outside_the_slots_of_a_profile_is_turned_away(world: World, lane: int) -> None:
    whole_day(world)
    # Slots 4 to 6 of the first word; then 20 to 22, which are lanes 4 to 6 of the second.
    for offset in (4, 20):
        order = world.order(1, ASK, 100, (100, 100, 100), offset=offset)
        header, values = pack(order)
        words = [header, values | 1 << 16 * lane, *world.signature(order)]
        assert world.post_words(1, 2, words) == [Rejection.ENERGY_BOUND]


def test_each_value_of_a_profile_is_held_to_the_maximum(world: World) -> None:
    whole_day(world)
    most = 25_000
    for lane in range(16):
        values = [0] * 16
        values[lane] = most + 1
        assert world.post([world.order(1, ASK, 0, tuple(values))]) == [Rejection.ENERGY_BOUND]
        values[lane] = most
        with boa.env.anchor():
            assert world.post([world.order(1, ASK, 0, tuple(values))]) == [0]
        world.book.clear()


def test_a_profile_names_no_energy_for_all_slots_at_once(world: World) -> None:
    order = world.order(1, ASK, 100, (100, 100))
    header, values = pack(order)
    words = [header | 5 << 88, values, *world.signature(order)]
    assert world.post_words(1, 2, words) == [Rejection.MALFORMED]


@pytest.mark.xfail(
    strict=True,
    reason="EnergyMarket._hash_words takes no words for six: a profile without slots, within 192 "
    "bytes of the end of the calldata, reverts the whole batch",
)
def test_a_profile_without_slots_is_turned_away_alone(world: World) -> None:
    good = world.order(2, BID, 400, 1_000)
    (header,) = pack(world.order(1, ASK, 100, 1_000))
    empty = header & ~(2**24 - 1 << 80 | 255 << 72) | 2 << 128
    words = [*pack(good), empty, *world.signature(good), 1, 1]
    assert world.post_words(2, 2, words) == [0, Rejection.ENERGY_BOUND]


def test_a_profile_word_that_reads_as_a_header_stays_a_profile_word(world: World) -> None:
    (hidden,) = pack(world.order(1, ASK, 100, 1_000))
    header = pack(world.order(3, BID, 400, (60,) * 4))[0]
    assert world.post_words(1, 2, [header, hidden, 0, 0]) == [Rejection.ENERGY_BOUND]
    assert world.orders() == []


# ---------------------------------------------------------------- order numbers


def test_a_revoked_number_stays_dead_and_its_neighbours_live(world: World) -> None:
    dead = world.order(1, ASK, 100, 1_000, nonce=1)
    alive = world.order(1, ASK, 100, 1_000, nonce=0)
    world.market.revoke(1, 1, sender=world.owner(1))
    assert world.post([dead, alive]) == [Rejection.NONCE_USED, 0]
    with boa.reverts("market: nonce is not free"):
        world.market.revoke(1, 1, sender=world.owner(1))
    with boa.reverts("market: caller is not the owner"):
        world.market.revoke(1, 2, sender=world.owner(2))


def test_numbers_work_in_any_order_inside_the_window(world: World) -> None:
    for nonce in (15, 3, 0, 1, 2):
        assert world.post([world.order(1, ASK, 100, 50, nonce=nonce)]) == [0]
    base, bits = world.market.account(1)[4:]
    assert (base, bits) == (4, 1 << 11)
    for nonce in (20, 65_535, 3, 15):
        assert world.post([world.order(1, ASK, 100, 50, nonce=nonce)]) == [Rejection.NONCE_USED]
    assert world.post([world.order(1, ASK, 100, 50, nonce=19)]) == [0]


def test_no_order_kills_another(world: World) -> None:
    """Whatever goes first, each of sixteen orders signed together can still be posted."""
    orders = [world.order(1, ASK, 100, 50, nonce=nonce) for nonce in range(16)]
    assert world.post([*reversed(orders)]) == [0] * 16
    assert world.market.account(1)[4:] == (16, 0)


def test_the_window_of_numbers_reaches_across_the_end(world: World) -> None:
    set_numbers(world, 1, 65_530)
    for nonce, reason in ((10, 5), (65_529, 5), (9, 0), (0, 0), (65_535, 0), (65_530, 0)):
        assert world.post([world.order(1, ASK, 100, 50, nonce=nonce)]) == [reason], nonce
    assert world.market.account(1)[4:] == (65_531, 1 << 4 | 1 << 5 | 1 << 14)
    for nonce in (65_531, 65_532, 65_533, 65_534):
        assert world.post([world.order(1, ASK, 100, 50, nonce=nonce)]) == [0], nonce
    assert world.market.account(1)[4:] == (1, 1 << 8)


def test_each_number_is_used_once_whatever_their_order(world: World) -> None:
    """Numbers drawn around the lowest unused one and across the end."""
    rng = random.Random(1)
    lowest = 65_450
    set_numbers(world, 1, lowest)
    used: set[int] = set()
    owner = world.owner(1)
    for _ in range(600):
        number = lowest + rng.randint(-2, 17)
        if number not in used and lowest <= number < lowest + 16:
            world.market.revoke(1, number % 65_536, sender=owner)
            used.add(number)
        else:
            with boa.reverts("market: nonce is not free"):
                world.market.revoke(1, number % 65_536, sender=owner)
        while lowest in used:
            lowest += 1
        bits = sum(1 << i for i in range(16) if lowest + i in used)
        assert world.market.account(1)[4:] == (lowest % 65_536, bits)
    assert lowest > 65_536 + 16


def test_after_the_last_number_in_turn_comes_the_number_one(world: World) -> None:
    set_numbers(world, 1, 65_535)
    r = Rejection
    for nonce, reason in ((65_535, 0), (65_535, r.NONCE_USED), (0, r.NONCE_USED), (1, 0), (2, 0)):
        assert world.post([world.order(1, ASK, 100, 50, nonce=nonce)]) == [reason], nonce
    assert world.market.account(1)[4:] == (3, 0)
    # Only order numbers moved: the account is of the same owner and zone.
    assert (world.market.account(1)[0], world.market.account(1)[2]) == (world.owner(1), ZONE)


# ---------------------------------------------------------------- sessions


def test_posting_ends_at_the_gate(world: World) -> None:
    order = world.order(1, ASK, 100, 1_000)
    world.at(GATE, -1)
    assert world.post([order]) == [0]
    late = world.order(2, BID, 400, 1_000)
    world.at(GATE)
    with boa.reverts("market: the gate is closed"):
        world.post([late])


def test_posting_starts_a_day_before_the_sessions_day(world: World) -> None:
    order = world.order(1, ASK, 100, 1_000)
    world.at(DAY_SLOT, -86_400)
    with boa.reverts("market: too early to post"):
        world.post([order])
    world.at(DAY_SLOT, 1 - 86_400)
    assert world.post([order]) == [0]


def test_a_session_starts_only_on_its_grid(world: World) -> None:
    order = world.order(1, ASK, 100, 1_000, session=DAY_SLOT + 1)
    with boa.reverts("market: no session starts here"):
        world.post([order], session=DAY_SLOT + 1)


def test_a_session_opens_only_in_a_zone_that_can_be(world: World) -> None:
    for zone in (0, 1_024):
        with boa.reverts("market: zone out of range"):
            world.post([], zone=zone)


def test_an_order_expires_with_its_last_second(world: World) -> None:
    now = boa.env.timestamp
    order = world.order(1, ASK, 100, 1_000, expiry=now)
    late = world.order(2, BID, 400, 1_000, expiry=now - 1)
    assert world.post([order, late]) == [0, Rejection.EXPIRED]


def test_a_sessions_terms_are_those_of_a_day_before_its_day(world: World) -> None:
    signed = [
        world.sign(world.order(1, ASK, 100, 50)),
        world.sign(world.order(2, BID, 400, 25_000)),
    ]
    for key, value in ((2, 1_800), (8, 150), (9, 60), (10, 24_000)):
        world.parameters.set_value(key, value, sender=world.deployer)
    assert world.post(signed) == [0, 0]
    assert world.market.session(ZONE, DAY_SLOT) == (4, GATE * 900, 0, 0, 2, 100, False)
    assert world.balance(1) == 100 * EURO - 100 * 50


def test_later_changes_hold_for_the_next_day(world: World) -> None:
    for key, value in ((2, 1_800), (8, 150), (9, 60), (10, 24_000)):
        world.parameters.set_value(key, value, sender=world.deployer)
    tomorrow = DAY_SLOT + 96
    world.at(DAY_SLOT, 1)
    batch = [
        world.order(1, ASK, 100, 59, session=tomorrow),
        world.order(2, BID, 400, 24_001, session=tomorrow),
        world.order(3, ASK, 100, 60, session=tomorrow),
    ]
    reasons = world.post(batch, session=tomorrow)
    assert reasons == [Rejection.ENERGY_BOUND, Rejection.ENERGY_BOUND, 0]
    gate = tomorrow * 900 - 1_800
    assert world.market.session(ZONE, tomorrow) == (4, gate, 0, 0, 1, 150, False)
    assert world.balance(3) == 100 * EURO - 150 * 60


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
    order = world.order(3, ASK, 100, 50, session=tomorrow + 4)
    with boa.reverts("market: no session starts here"):
        world.post([order], session=tomorrow + 4)


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


# ---------------------------------------------------------------- the book


@pytest.mark.parametrize("orders", [1, 2, 3, 31, 33, 64, 67])
def test_accepted_words_are_logged_in_the_pages_that_the_hash_was_made_of(
    world: World, orders: int
) -> None:
    batch = [world.order(1 + i % 10, ASK, 100, 50) for i in range(orders)]
    world.post(batch)
    book = world.posted()
    assert book.rows == [word for order in batch for word in pack(order)]
    assert list(book.pages) == [tuple(page) for page in pages(book.rows)]
    assert world.market.session_words(ZONE, DAY_SLOT)[1] == book.hash | orders << 12 | orders


def test_what_was_turned_away_parts_the_pages_and_leaves_no_trace(world: World) -> None:
    good = [world.order(account, ASK, 100, 50) for account in (1, 2, 3, 4, 5)]
    bad = [world.order(account, ASK, 100, 49, nonce=9) for account in (6, 7, 8)]
    world.post([bad[0], *good[:3], bad[1], bad[2], *good[3:]])
    book = world.posted()
    assert [len(page) for page in book.pages] == [2, 1, 2]
    assert world.orders() == good
    assert world.market.session_words(ZONE, DAY_SLOT)[1] == book.hash | 5 << 12 | 5


def test_batches_follow_each_other_in_one_book(world: World) -> None:
    orders = [world.order(account, ASK, 100, (50, 60)) for account in range(1, 8)]
    for batch in (orders[:3], orders[3:4], [], orders[4:]):
        world.post(batch)
    assert world.orders() == orders
    book = world.market.session_words(ZONE, DAY_SLOT)[1]
    assert book == world.posted().hash | 14 << 12 | 7


def full_batch(world: World, orders: int, wh: int | tuple[int, ...]) -> list[SignedOrder]:
    """So many asks, as many of each account as it may have open."""
    return [world.sign(world.order(1 + i // 32, ASK, 100, wh, nonce=i % 32)) for i in range(orders)]


def test_a_book_takes_512_orders_and_no_more(world: World) -> None:
    world.fund(range(11, 18), EURO)
    assert world.post(full_batch(world, 512, 50)) == [0] * 512
    assert world.market.session(ZONE, DAY_SLOT)[4] == 512
    with boa.reverts("market: the book is full"):
        world.post([world.order(20, ASK, 0, 50), world.order(17, ASK, 100, 50)])
    # What is turned away takes no room.
    assert world.post([world.order(20, ASK, 0, 50)]) == [Rejection.POOR]


def test_a_batch_with_an_order_too_many_for_the_book_is_refused_whole(world: World) -> None:
    world.fund(range(11, 18), EURO)
    assert world.post(full_batch(world, 511, 50)) == [0] * 511
    two = [world.order(17, ASK, 100, 50, nonce=nonce) for nonce in (0, 1)]
    before = world.market.account(17)
    with boa.reverts("market: the book is full"):
        world.post(two)
    assert world.market.account(17) == before
    assert world.post(two[:1]) == [0]


def test_the_book_of_a_whole_day_takes_1024_words(world: World) -> None:
    whole_day(world)
    world.fund(range(1, 21), 100 * EURO)
    orders = [world.order(1 + i // 8, ASK, 100, (50,) * 96) for i in range(147)]
    # Seven words each.
    assert world.post(orders[:100]) == [0] * 100
    with boa.reverts("market: the book is full"):
        world.post(orders[100:147])
    assert world.post(orders[100:146]) == [0] * 46
    assert len(world.posted().rows) == 1_022


def test_a_batch_of_512_orders_with_a_profile_each_is_taken_whole(world: World) -> None:
    world.fund(range(11, 18), EURO)
    batch = full_batch(world, 512, (50, 50))
    assert world.post(batch) == [0] * 512
    assert world.orders() == [signed.order for signed in batch]
