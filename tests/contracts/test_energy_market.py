# SPDX-License-Identifier: Apache-2.0
"""What the market promises, one behaviour a test. The random books are in test_market_fuzz."""

from __future__ import annotations

import boa
import pytest

from dao.eip712 import compact, sign_digest
from dao.market.orders import market_separator, order_digest, pack
from tests.contracts.market_world import (
    ASK,
    BID,
    DAY_SLOT,
    EURO,
    NO_PRICE,
    ZONE,
    World,
    build,
    key_of,
)

GATE = DAY_SLOT - 4  # one hour before the first slot
END = DAY_SLOT + 4
N = 3 * [NO_PRICE]
# Reasons of OrderRejected, as the contract numbers them.
UNKNOWN, MALFORMED, EXPIRED, ENERGY, NONCE, OPEN, POOR, SIGNATURE = range(1, 9)


def traded(world: World, wh: int = 1_000, bid: int = 400, ask: int = 100) -> None:
    """Account 1 sells to account 2 in the first slot, cleared at the only canonical price."""
    assert world.post([world.order(1, ASK, ask, wh), world.order(2, BID, bid, wh)]) == [0, 0]
    world.at(GATE)
    # The interval of clearing prices runs from the ask to the bid less the fee of 110.
    world.clear([(ask + bid - 110) // 2, *N])


def delivered(world: World, wh: int = 1_000, zone_export: int | None = None) -> None:
    world.at(END)
    world.commit(DAY_SLOT, [wh if zone_export is None else zone_export, 0, 0, 0])


# ---------------------------------------------------------------- accounts and money


def test_an_owner_withdraws_the_free_balance(world: World) -> None:
    payee = boa.env.generate_address()
    world.market.withdraw(1, 40 * EURO, payee, sender=world.owner(1))
    assert world.token.balanceOf(payee) == 40 * EURO
    assert world.balance(1) == 60 * EURO
    world.check_conservation()


def test_nobody_withdraws_from_anothers_account(world: World) -> None:
    with boa.reverts("market: caller is not the owner"):
        world.market.withdraw(1, 1, world.deployer, sender=world.deployer)


def test_escrowed_money_cannot_be_withdrawn(world: World) -> None:
    world.post([world.order(2, BID, 400, 1_000)])
    with boa.reverts("market: balance too low"):
        world.market.withdraw(2, 100 * EURO, world.owner(2), sender=world.owner(2))


def test_an_account_opens_only_once_and_only_for_a_registered_point(world: World) -> None:
    with boa.reverts("market: account is open"):
        world.market.open_accounts([1])
    with boa.reverts("market: unknown metering point"):
        world.market.open_accounts([999])


def test_a_deposit_to_an_unknown_account_is_refused(world: World) -> None:
    with boa.reverts("market: unknown account"):
        world.market.deposit([999], [1], sender=world.deployer)


def test_a_token_that_takes_a_fee_is_refused() -> None:
    token = boa.loads(
        """
# pragma version ~=0.4.3
balanceOf: public(HashMap[address, uint256])
@external
def mint(to: address, amount: uint256):
    self.balanceOf[to] += amount
@external
def approve(spender: address, amount: uint256) -> bool:
    return True
@external
def transferFrom(a: address, b: address, amount: uint256) -> bool:
    self.balanceOf[a] -= amount
    self.balanceOf[b] += amount - 1
    return True
"""
    )
    with boa.env.anchor():
        world = build(homes=2, token=token)
        with boa.reverts("market: token took a fee"):
            world.fund([1], EURO)


def test_only_the_owner_of_the_contract_moves_the_treasury(world: World) -> None:
    with boa.reverts("ownable: caller is not the owner"):
        world.market.set_treasury(world.owner(1), sender=world.owner(1))


# ---------------------------------------------------------------- posting


def test_a_bid_escrows_limit_times_energy_and_an_ask_its_penalty(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000, count=4), world.order(2, BID, 400, (500, 250))])
    assert world.balance(1) == 100 * EURO - 100 * 4_000
    assert world.balance(2) == 100 * EURO - 400 * 750
    assert world.market.escrow() == 100 * 4_000 + 400 * 750


def test_the_owner_posts_directly_without_a_signature(world: World) -> None:
    order = world.order(1, ASK, 100, 1_000)
    assert world.post([order], signatures=[b"\0" * 32] * 2, sender=world.owner(1)) == [0]
    other = world.order(2, ASK, 100, 1_000)
    reasons = world.post([other], signatures=[b"\0" * 32] * 2, sender=world.owner(1))
    assert reasons == [SIGNATURE]


def test_one_bad_order_leaves_the_rest_of_the_batch_unharmed(world: World) -> None:
    good = world.order(1, ASK, 100, 1_000)
    batch = [
        world.order(999, ASK, 100, 1_000, nonce=0),
        world.order(3, BID, 400, 1_000, expiry=1),
        world.order(4, BID, 400, 26_000),
        world.order(5, BID, 400, 49),
        world.order(6, BID, 400, 1_000, nonce=16),
        world.order(11, BID, 400, 1_000),
        good,
        world.order(7, BID, 400, 1_000, count=5),
    ]
    assert world.post(batch) == [UNKNOWN, EXPIRED, ENERGY, ENERGY, NONCE, POOR, 0, MALFORMED]
    assert world.book == [good]


def test_an_order_signed_by_anyone_but_the_owner_is_turned_away(world: World) -> None:
    order = world.order(1, ASK, 100, 1_000)
    forged = world.signature(order, world.owner_key(2))
    assert world.post([order], signatures=forged) == [SIGNATURE]


def test_an_order_for_another_chain_or_contract_is_turned_away(world: World) -> None:
    order = world.order(1, ASK, 100, 1_000)
    for separator in (
        market_separator(1, world.market.address),
        market_separator(31_337, world.token.address),
    ):
        signed = sign_digest(world.owner_key(1), order_digest(separator, order))
        assert world.post([order], signatures=list(compact(signed))) == [SIGNATURE]


def test_the_malleable_twin_of_a_signature_is_turned_away(world: World) -> None:
    half = 2**255 - 1
    order = world.order(1, ASK, 100, 1_000)
    r, vs = world.signature(order)
    value = int.from_bytes(vs, "big")
    n = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    twin = ((n - (value & half)) | ((1 - (value >> 255)) << 255)) % 2**256
    assert world.post([order], signatures=[r, twin.to_bytes(32, "big")]) == [SIGNATURE]


def test_an_order_cannot_be_posted_twice(world: World) -> None:
    order = world.order(1, ASK, 100, 1_000)
    assert world.post([order, order]) == [0, NONCE]
    assert world.post([order]) == [NONCE]


def test_an_order_for_one_session_does_not_count_in_another(world: World) -> None:
    order = world.order(1, ASK, 100, 1_000)
    # The same words under the next session: the signature names other slots.
    world.market.post(ZONE, DAY_SLOT + 4, pack(order), world.signature(order))
    assert [e.reason for e in world.events("OrderRejected")] == [SIGNATURE]


def test_a_revoked_nonce_stays_dead_and_its_neighbours_live(world: World) -> None:
    dead = world.order(1, ASK, 100, 1_000, nonce=1)
    alive = world.order(1, ASK, 100, 1_000, nonce=0)
    world.market.revoke(1, 1, sender=world.owner(1))
    assert world.post([dead, alive]) == [NONCE, 0]
    with boa.reverts("market: nonce is not free"):
        world.market.revoke(1, 1, sender=world.owner(1))
    with boa.reverts("market: caller is not the owner"):
        world.market.revoke(1, 2, sender=world.owner(2))


def test_nonces_work_in_any_order_inside_the_window_and_wrap(world: World) -> None:
    for nonce in (15, 3, 0, 1, 2):
        assert world.post([world.order(1, ASK, 100, 50, nonce=nonce)]) == [0]
    base = world.market.account(1)[4]
    assert base == 4
    assert world.post([world.order(1, ASK, 100, 50, nonce=20)]) == [NONCE]
    assert world.post([world.order(1, ASK, 100, 50, nonce=65_535)]) == [NONCE]


def test_an_account_has_at_most_32_open_orders(world: World) -> None:
    orders = []
    for nonce in range(33):
        orders.append(world.order(1, ASK, 100, 50, nonce=nonce))
    assert world.post(orders) == [0] * 32 + [OPEN]


def test_energy_beyond_the_last_slot_of_a_profile_is_turned_away(world: World) -> None:
    order = world.order(1, ASK, 100, (100, 100))
    header, values = pack(order)
    tampered = [header, values | (100 << 32)]
    world.market.post(ZONE, DAY_SLOT, tampered, world.signature(order))
    assert [e.reason for e in world.events("OrderRejected")] == [ENERGY]


def test_posting_ends_at_the_gate(world: World) -> None:
    order = world.order(1, ASK, 100, 1_000)
    world.at(GATE)
    with boa.reverts("market: the gate is closed"):
        world.post([order])


def test_posting_starts_a_day_before_the_sessions_day(world: World) -> None:
    order = world.order(1, ASK, 100, 1_000)
    boa.env.timestamp = DAY_SLOT * 900 - 86_401
    with boa.reverts("market: too early to post"):
        world.post([order])


def test_a_session_starts_only_on_its_grid(world: World) -> None:
    order = world.order(1, ASK, 100, 1_000, session=DAY_SLOT + 1)
    with boa.reverts("market: no session starts here"):
        world.post([order], session=DAY_SLOT + 1)


def test_rows_and_signatures_must_match(world: World) -> None:
    order = world.order(1, ASK, 100, (100, 100))
    with boa.reverts("market: profile is cut off"):
        world.market.post(ZONE, DAY_SLOT, pack(order)[:1], world.signature(order))
    with boa.reverts("market: one signature per order"):
        world.market.post(ZONE, DAY_SLOT, pack(order), world.signature(order) * 2)


def test_orders_of_another_zone_are_turned_away(world: World) -> None:
    order = world.order(1, ASK, 100, 1_000)
    assert world.post([order], zone=2) == [UNKNOWN]


# ---------------------------------------------------------------- clearing


def test_the_midpoint_clears_and_its_neighbours_do_not(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000), world.order(2, BID, 400, 1_000)])
    world.at(GATE)
    for price in (194, 196, 100, 290, 99, 291, NO_PRICE):
        with pytest.raises(boa.BoaError):
            world.clear([price, *N])
    world.clear([195, *N])
    assert world.market.clearing(ZONE, DAY_SLOT) == (195, 110, 1_000)


def test_a_book_without_trade_has_no_price(world: World) -> None:
    world.post([world.order(1, ASK, 300, 1_000), world.order(2, BID, 400, 1_000)])
    world.at(GATE)
    for price in (290, 295, 300):
        with pytest.raises(boa.BoaError):
            world.clear([price, *N])
    world.clear([NO_PRICE] * 4)


def test_clearing_takes_exactly_the_sessions_orders(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000), world.order(2, BID, 400, 1_000)])
    world.post([world.order(3, BID, 350, 500)])
    world.at(GATE)
    a, b, c = world.book
    edited = world.rows()
    edited[0] += 1 << 104
    for rows in (
        world.rows([a, b]),
        world.rows([a, c, b]),
        world.rows([a, b, c, c]),
        world.rows([b, a, c]),
        edited,
        [],
    ):
        with boa.reverts("market: not the session's orders"):
            world.market.clear(ZONE, DAY_SLOT, rows, [195, *N])


def test_clearing_waits_for_the_gate_and_ends_at_its_deadline(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000), world.order(2, BID, 400, 1_000)])
    world.at(GATE, -1)
    with boa.reverts("market: the gate is open"):
        world.clear([195, *N])
    world.at(DAY_SLOT, 1)
    with boa.reverts("market: too late to clear"):
        world.clear([195, *N])


def test_a_slot_clears_once(world: World) -> None:
    traded(world)
    with boa.reverts("market: slots out of range"):
        world.clear([195])


def test_a_session_may_clear_in_runs_of_slots(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000, count=4), world.order(2, BID, 400, 1_000, count=4)])
    world.at(GATE)
    world.clear([195])
    world.clear([195, 195])
    with boa.reverts("market: slots out of range"):
        world.clear([195, 195])
    world.clear([195])
    assert world.market.session(ZONE, DAY_SLOT)[2] == 4


def test_fee_and_band_are_those_in_force_at_the_gate(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000), world.order(2, BID, 400, 1_000)])
    world.parameters.set_value(7, 150, sender=world.deployer)
    world.at(GATE)
    world.clear([(100 + 250) // 2, *N])
    assert world.market.clearing(ZONE, DAY_SLOT) == (175, 150, 1_000)


def test_a_fee_changed_after_the_gate_does_not_move_the_price(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000), world.order(2, BID, 400, 1_000)])
    world.at(GATE, 60)
    world.parameters.set_value(7, 150, sender=world.deployer)
    world.at(GATE, 120)
    world.clear([195, *N])
    assert world.market.clearing(ZONE, DAY_SLOT) == (195, 110, 1_000)


def test_a_fee_window_holds_for_its_slot_only(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000, count=2), world.order(2, BID, 400, 1_000, count=2)])
    world.parameters.open_window(ZONE, 7, DAY_SLOT + 1, 1, 90, sender=world.deployer)
    world.at(GATE)
    world.clear([195, (100 + 310) // 2, NO_PRICE, NO_PRICE])
    assert world.market.clearing(ZONE, DAY_SLOT + 1) == (205, 90, 1_000)


# ---------------------------------------------------------------- settlement


def test_a_delivered_trade_pays_seller_and_treasury_and_refunds_the_buyer(world: World) -> None:
    traded(world)
    delivered(world)
    assert world.settle({1: [1_000, 0, 0, 0]}) == [
        (1, 1, 1_000, 1_000, 100 * 1_000 + 195 * 1_000),
        (2, 0, 1_000, 1_000, (400 - 195 - 110) * 1_000),
    ]
    assert world.balance(1) == 100 * EURO + 195_000
    assert world.balance(2) == 100 * EURO - 305_000
    assert world.market.fees_due() == 110_000
    assert world.market.escrow() == 0
    world.market.collect_fees()
    assert world.token.balanceOf(world.treasury) == 110_000
    assert world.market.account(1)[3] == world.market.account(2)[3] == 0


def test_a_shortfall_is_paid_from_collateral_to_the_buyers_it_hit(world: World) -> None:
    traded(world)
    delivered(world, 400)
    world.settle({1: [400, 0, 0, 0]})
    assert world.balance(1) == 100 * EURO + 400 * 195 - 600 * 100
    assert world.balance(2) == 100 * EURO - 400 * 305 + 600 * 100


def test_settlement_needs_every_filled_asks_receipt_until_the_deadline(world: World) -> None:
    traded(world)
    delivered(world)
    with boa.reverts("market: a receipt is outstanding"):
        world.settle({})
    world.at(END, 12 * 3600)
    with boa.reverts("market: a receipt is outstanding"):
        world.settle({})
    world.at(END, 12 * 3600 + 1)
    world.settle({})
    assert world.balance(1) == 100 * EURO - 1_000 * 100
    assert world.balance(2) == 100 * EURO + 1_000 * 100


def test_a_lodged_receipt_cannot_be_left_out(world: World) -> None:
    traded(world)
    delivered(world)
    words, signature = world.receipts({1: [1_000, 0, 0, 0]})
    world.market.lodge_receipt(1, DAY_SLOT, words[1:], signature)
    world.at(END, 12 * 3600 + 1)
    with boa.reverts("market: receipt was lodged"):
        world.settle({})
    world.settle({1: [1_000, 0, 0, 0]})


def test_a_receipt_by_another_key_is_refused(world: World) -> None:
    traded(world)
    delivered(world)
    with boa.reverts("market: not the device's receipt"):
        world.settle({1: [1_000, 0, 0, 0]}, keys={1: key_of("nobody")})
    with boa.reverts("market: not the device's receipt"):
        world.settle({1: [1_000, 0, 0, 0]}, keys={1: world.device_key(2)})
    with boa.reverts("market: not the device's receipt"):
        world.market.lodge_receipt(2, DAY_SLOT, [1_000], world.receipts({1: [1_000, 0, 0, 0]})[1])


def test_a_receipt_of_another_session_is_refused(world: World) -> None:
    traded(world)
    delivered(world)
    words, signatures = world.receipts({1: [1_000, 0, 0, 0]}, session=DAY_SLOT + 4)
    with boa.reverts("market: not the device's receipt"):
        world.market.settle(ZONE, DAY_SLOT, 4, world.rows(), words, signatures, world.hints([1]))


def test_an_altered_receipt_is_refused(world: World) -> None:
    traded(world)
    delivered(world)
    words, signatures = world.receipts({1: [900, 0, 0, 0]})
    words[1] += 100
    with boa.reverts("market: not the device's receipt"):
        world.market.settle(ZONE, DAY_SLOT, 4, world.rows(), words, signatures, world.hints([1]))


def test_a_meter_has_one_receipt(world: World) -> None:
    world.post(
        [
            world.order(1, ASK, 100, 500),
            world.order(1, ASK, 100, 500),
            world.order(2, BID, 400, 1_000),
        ]
    )
    world.at(GATE)
    world.clear([195, *N])
    delivered(world, 1_000)
    words, signatures = world.receipts({1: [500, 0, 0, 0]})
    hints = [1 | (2 << 16)]
    with boa.reverts("market: receipts out of order"):
        world.market.settle(ZONE, DAY_SLOT, 4, world.rows(), words * 2, signatures * 2, hints)
    # The one receipt serves both asks, in order of arrival, and no Wh twice.
    entries = world.settle({1: [600, 0, 0, 0]})
    assert [(e[0], e[2]) for e in entries] == [(1, 500), (1, 100), (2, 600)]


def test_a_hint_to_another_meters_receipt_is_refused(world: World) -> None:
    traded(world)
    delivered(world)
    words, signatures = world.receipts({3: [1_000, 0, 0, 0]})
    with boa.reverts("market: receipt of another meter"):
        world.market.settle(ZONE, DAY_SLOT, 4, world.rows(), words, signatures, [1])


def test_a_suspended_key_signs_no_receipt(world: World) -> None:
    traded(world)
    world.at(DAY_SLOT)
    world.registry.suspend_key(1, sender=world.deployer)
    delivered(world)
    with boa.reverts("market: not the device's receipt"):
        world.settle({1: [1_000, 0, 0, 0]})


def test_a_rotated_key_signs_the_receipt(world: World) -> None:
    from dao.eip712 import address_of

    traded(world)
    world.at(DAY_SLOT)
    world.registry.rotate_key(1, address_of(key_of("new device")), sender=world.deployer)
    delivered(world)
    with boa.reverts("market: not the device's receipt"):
        world.settle({1: [1_000, 0, 0, 0]})
    world.settle({1: [1_000, 0, 0, 0]}, keys={1: key_of("new device")})


def test_settlement_waits_for_delivery_and_for_the_ledger(world: World) -> None:
    traded(world)
    world.at(END, -1)
    with boa.reverts("market: delivery is not over"):
        world.settle({1: [1_000, 0, 0, 0]})
    world.at(END)
    with boa.reverts("market: readings not committed"):
        world.settle({1: [1_000, 0, 0, 0]})


def test_no_more_is_delivered_than_the_zone_exported(world: World) -> None:
    traded(world)
    delivered(world, zone_export=999)
    entries = world.settle({1: [1_000, 0, 0, 0]})
    assert [e[2] for e in entries] == [999, 999]
    # The Wh that the zone did not export is neither paid for nor punished.
    assert world.balance(1) == 100 * EURO + 999 * 195
    assert world.balance(2) == 100 * EURO - 999 * 305


def test_a_lodged_false_receipt_does_not_hold_up_the_others(world: World) -> None:
    world.post(
        [
            world.order(1, ASK, 100, 500),
            world.order(3, ASK, 100, 500),
            world.order(2, BID, 400, 1_000),
        ]
    )
    world.at(GATE)
    world.clear([195, *N])
    delivered(world, zone_export=800)
    words, signature = world.receipts({3: [60_000, 0, 0, 0]})
    world.market.lodge_receipt(3, DAY_SLOT, words[1:], signature)
    lodged = world.events("ReceiptLodged")[0]
    assert (lodged.exports, list(lodged.signature)) == (words[1:], signature)
    entries = world.settle({1: [500, 0, 0, 0], 3: [60_000, 0, 0, 0]})
    assert [(e[0], e[2]) for e in entries] == [(1, 500), (3, 300), (2, 800)]


def test_a_slot_settles_once(world: World) -> None:
    traded(world)
    delivered(world)
    world.settle({1: [1_000, 0, 0, 0]})
    with boa.reverts("market: slots are not cleared"):
        world.settle({1: [1_000, 0, 0, 0]}, slots=1)


def test_settlement_in_runs_equals_settlement_at_once(world: World) -> None:
    orders = [
        world.order(1, ASK, 100, (700, 0, 300, 50)),
        world.order(3, ASK, 195, (400, 200, 0, 0)),
        world.order(2, BID, 400, (500, 500, 500, 500)),
        world.order(4, BID, 305, (500, 10, 20, 30)),
    ]
    world.post(orders)
    world.at(GATE)
    # Scarce slots clear at the marginal bid, 400 less the fee of 110.
    world.clear([195, 290, 290, 290])
    world.at(END)
    world.commit(DAY_SLOT, [900, 150, 300, 100])
    exports = {1: [600, 0, 250, 50], 3: [300, 150, 0, 0]}
    with boa.env.anchor():
        world.settle(exports)
        at_once = [world.balance(a) for a in range(1, 5)]
    for slots in (1, 2, 1):
        world.settle(exports, slots=slots)
    assert [world.balance(a) for a in range(1, 5)] == at_once
    assert world.market.escrow() == 0


def test_self_trade_costs_the_fee_and_nothing_else(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000), world.order(1, BID, 400, 1_000)])
    world.at(GATE)
    world.clear([195, *N])
    delivered(world)
    world.settle({1: [1_000, 0, 0, 0]})
    assert world.balance(1) == 100 * EURO - 110_000


# ---------------------------------------------------------------- void and abandon


def test_an_uncleared_session_is_voided_after_its_deadline_and_pays_back(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000), world.order(2, BID, 400, 1_000)])
    world.at(GATE)
    with boa.reverts("market: can still be cleared"):
        world.market.void(ZONE, DAY_SLOT)
    world.at(DAY_SLOT, 1)
    world.market.void(ZONE, DAY_SLOT)
    with boa.reverts("market: session is void"):
        world.market.void(ZONE, DAY_SLOT)
    world.settle({})
    assert world.balance(1) == world.balance(2) == 100 * EURO
    assert world.market.escrow() == 0


def test_what_was_cleared_in_time_still_settles_after_the_rest_is_void(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000, count=4), world.order(2, BID, 400, 1_000, count=4)])
    world.at(GATE)
    world.clear([195])
    world.at(DAY_SLOT, 1)
    world.market.void(ZONE, DAY_SLOT)
    world.at(END)
    world.commit(DAY_SLOT, [1_000] * 4)
    world.settle({1: [1_000] * 4})
    assert world.balance(1) == 100 * EURO + 195_000
    assert world.balance(2) == 100 * EURO - 305_000


def test_a_session_whose_readings_never_come_is_abandoned_without_penalty(world: World) -> None:
    traded(world)
    world.at(END, 7 * 86_400)
    with boa.reverts("market: can still be settled"):
        world.market.abandon(ZONE, DAY_SLOT)
    world.at(END, 7 * 86_400 + 1)
    world.market.abandon(ZONE, DAY_SLOT)
    world.settle({})
    assert world.balance(1) == world.balance(2) == 100 * EURO


def test_a_cleared_session_can_only_be_settled(world: World) -> None:
    traded(world)
    world.at(DAY_SLOT, 1)
    with boa.reverts("market: session is cleared"):
        world.market.void(ZONE, DAY_SLOT)
