# SPDX-License-Identifier: Apache-2.0
"""Attempts to break the market, each with what it meets.

The rules themselves are in test_energy_market, test_auction and test_settlement; calldata that no
library would write in test_calldata.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import boa
import pytest

from dao.eip712 import address_of, sign_digest
from dao.market.orders import correction_digest, order_digest, pack, unpack
from dao.market.session import (
    NO_TRADE,
    DeviceReceipt,
    Rejection,
    Settled,
    SignedOrder,
    Vouched,
    session_key,
)
from tests.contracts.market_world import (
    ASK,
    BID,
    CURVE_ORDER,
    DAY_SLOT,
    EURO,
    GATE,
    ZONE,
    World,
    build,
    delivered,
    key_of,
    key_with_twin,
    logged,
    traded,
    whole_day,
)

N = [None] * 3
RECEIPT_PERIOD = 12 * 3_600


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("zone", "first_slot"), [(ZONE, 2**64 + DAY_SLOT), (2**192 + ZONE, DAY_SLOT), (0, 2**64)]
)
def test_no_order_joins_a_book_under_another_name(world: World, zone: int, first_slot: int) -> None:
    # Wider numbers fold onto the same session; the event would name a session nobody watches.
    world.post([world.order(2, BID, 400, 1_000)])
    (header,) = pack(world.order(1, ASK, 100, 1_000), Vouched.BY_CALLER)
    with boa.reverts("market: no such session"):
        world.market.post(zone, first_slot, 1, 1, [header], sender=world.owner(1))
    world.at(GATE)
    book = world.posted()
    no_trade = [NO_TRADE + 1_001] * 4
    for step in (
        lambda: world.auction.clear(zone, first_slot, no_trade, book.page_words, book.rows),
        lambda: world.market.void(zone, first_slot),
        lambda: world.market.abandon(zone, first_slot),
        lambda: world.market.session_words(zone, first_slot),
        lambda: world.auction.lodge_receipt(
            1, zone, first_slot, world.receipt(1, [0] * 4).as_tuple()
        ),
    ):
        with boa.reverts("market: no such session"):
            step()
    world.clear([None] * 4)


def test_only_the_auction_tells_the_market_what_came_out(world: World) -> None:
    traded(world)
    for sender in (world.deployer, world.owner(1), world.guardian, world.market.address):
        for call, arguments in (
            (world.market.record_clearing, (ZONE, DAY_SLOT, [195])),
            (world.market.record_settlement, (ZONE, DAY_SLOT, [0] * 4, 0, 0, [0] * 256)),
        ):
            with boa.reverts("market: caller is not the auction"):
                call(*arguments, sender=sender)
    for sender in (world.deployer, world.owner(1), world.guardian, world.auction.address):
        with boa.reverts("market: caller is not the adjuster"):
            world.market.record_adjustment(ZONE, DAY_SLOT, 1, 1, 1, [], sender=sender)


def test_the_market_pays_no_more_than_the_auction_releases(world: World) -> None:
    """Not even to the auction that it was given."""
    traded(world)
    credit = 1 << 224 | 1 << 128
    for released, entries in ((0, [credit]), (2, [credit]), (1, [])):
        padded = entries + [0] * (256 - len(entries))
        with boa.reverts("market: money is not conserved"):
            world.market.record_settlement(
                ZONE, DAY_SLOT, [0] * 4, released, 1, padded, sender=world.auction.address
            )


# ---------------------------------------------------------------- signatures


def test_the_malleable_twin_of_a_signature_is_turned_away(world: World) -> None:
    account = world.registry.meter_count() + 1
    order = world.order(account, ASK, 100, 1_000, nonce=0)
    key, r, lower, twin = key_with_twin(order_digest(world.separator, order))
    assert world.join(address_of(key)) == account
    assert world.post_words(1, 1, [*pack(order), r, twin]) == [Rejection.BAD_SIGNATURE]
    assert world.post_words(1, 1, [*pack(order), r, lower]) == [0]


@pytest.mark.parametrize(
    ("r", "vs"),
    [(0, 0), (0, 1), (1, 0), (CURVE_ORDER, 1), (2**256 - 1, 1), (5, 5), (0, 1 << 255)],
)
def test_what_recovers_to_nobody_is_turned_away(world: World, r: int, vs: int) -> None:
    good = world.order(1, ASK, 100, 1_000)
    bad = world.order(1, ASK, 100, 1_000)
    # Behind a good one of the same signer, whose address may still lie in memory.
    words = [*pack(good), *pack(bad), *world.signature(good), r, vs]
    assert world.post_words(2, 2, words) == [0, Rejection.BAD_SIGNATURE]


@pytest.mark.parametrize(
    "bit", [0, 71, *range(120, 128), *range(132, 136)], ids=lambda bit: f"bit {bit}"
)
def test_a_header_with_a_stray_bit_is_turned_away(world: World, bit: int) -> None:
    (header,) = pack(world.order(1, ASK, 100, 1_000), Vouched.BY_CALLER)
    reasons = world.post_words(1, 1, [header | 1 << bit], sender=world.owner(1))
    assert reasons == [Rejection.MALFORMED]


def test_the_caller_vouches_only_for_itself(world: World) -> None:
    """With both flags set, the words of a wallet's signature are not skipped."""
    order = world.order(1, ASK, 100, 1_000)
    (header,) = pack(order, Vouched.BY_CALLER)
    both = header | Vouched.BY_WALLET << 128
    with boa.reverts("market: one signature per order"):
        world.post_words(1, 1, [both, *[0] * 17], sender=world.owner(1))
    assert world.post_words(1, 1, [both]) == [Rejection.BAD_SIGNATURE]
    assert world.post_words(1, 1, [both], sender=world.owner(1)) == [0]


# ---------------------------------------------------------------- money


def token(transfer: str, *, extra: str = "") -> Any:
    """A token whose transfers do what is said, and which lets anyone take what anyone has."""
    return boa.loads(
        f"""
# pragma version ~=0.4.3
interface Market:
    def withdraw(account: uint256, amount: uint256, to: address): nonpayable
    def deposit(accounts: DynArray[uint256, 128], amounts: DynArray[uint256, 128]): nonpayable
    def collect_fees(): nonpayable
    def post(
        zone: uint256, first_slot: uint256, orders: uint256, rows: uint256,
        batch: DynArray[uint256, 2048],
    ): nonpayable

balanceOf: public(HashMap[address, uint256])
mood: public(uint256)
market: Market
calls: public(uint256)

@external
def be(mood: uint256, market: address):
    self.mood = mood
    self.market = Market(market)
    self.calls = 0

@external
def mint(to: address, amount: uint256):
    self.balanceOf[to] += amount

@external
def approve(spender: address, amount: uint256) -> bool:
    return True

@internal
def _move(a: address, b: address, amount: uint256):
    self.balanceOf[a] -= amount
    self.balanceOf[b] += amount

{transfer}
{extra}
"""
    )


LIAR = """
@external
def transfer(b: address, amount: uint256) -> bool:
    if self.mood == 0:
        self._move(msg.sender, b, amount)
    return self.mood == 0

@external
def transferFrom(a: address, b: address, amount: uint256) -> bool:
    if self.mood == 0:
        self._move(a, b, amount)
    return self.mood == 0
"""

SILENT = """
@external
def transfer(b: address, amount: uint256):
    self._move(msg.sender, b, amount)

@external
def transferFrom(a: address, b: address, amount: uint256):
    self._move(a, b, amount)
"""

TAXED = """
@external
def transfer(b: address, amount: uint256) -> bool:
    self._move(msg.sender, b, amount)
    return True

@external
def transferFrom(a: address, b: address, amount: uint256) -> bool:
    self._move(a, b, amount)
    self.balanceOf[b] -= 1
    return True
"""

BLOCKS = """
@external
def transfer(b: address, amount: uint256) -> bool:
    assert self.mood == 0, "token: receiver is blocked"
    self._move(msg.sender, b, amount)
    return True

@external
def transferFrom(a: address, b: address, amount: uint256) -> bool:
    self._move(a, b, amount)
    return True
"""

# Calls back while the market pays or is paid. The token owns account 1.
ENTERS = """
@internal
def _enter():
    self.calls += 1
    if self.calls > 1:
        return
    if self.mood == 1:
        extcall self.market.withdraw(1, 1, self)
    if self.mood == 2:
        extcall self.market.deposit([1], [1])
    if self.mood == 3:
        extcall self.market.collect_fees()

@external
def transfer(b: address, amount: uint256) -> bool:
    self._enter()
    self._move(msg.sender, b, amount)
    return True

@external
def transferFrom(a: address, b: address, amount: uint256) -> bool:
    self._enter()
    self._move(a, b, amount)
    return True

@external
def withdraw(amount: uint256):
    extcall self.market.withdraw(1, amount, self)
"""


def test_a_token_that_takes_a_fee_is_refused() -> None:
    with boa.env.anchor():
        world = build(homes=2, token=token(TAXED))
        with boa.reverts("market: token took a fee"):
            world.fund([1], EURO)
        assert world.market.owed() == 0


def test_a_token_that_says_no_moves_no_balance() -> None:
    with boa.env.anchor():
        liar = token(LIAR)
        world = build(homes=2, token=liar)
        world.fund([1], EURO)
        liar.be(1, world.market.address)
        with boa.reverts("market: transfer failed"):
            world.fund([1], EURO)
        with boa.reverts("market: transfer failed"):
            world.market.withdraw(1, EURO, world.owner(1), sender=world.owner(1))
        assert world.balance(1) == world.market.owed() == EURO


def test_a_token_that_says_nothing_is_taken_at_its_word() -> None:
    with boa.env.anchor():
        world = build(homes=2, token=token(SILENT))
        world.fund([1], EURO)
        world.market.withdraw(1, EURO // 4, world.owner(1), sender=world.owner(1))
        assert world.token.balanceOf(world.owner(1)) == EURO // 4
        world.check_conservation()


@pytest.mark.parametrize("mood", [1, 2, 3], ids=["withdraw", "deposit", "collect fees"])
def test_a_token_that_calls_back_moves_nothing_twice(mood: int) -> None:
    with boa.env.anchor():
        enters = token(ENTERS)
        world = build(homes=2, token=enters, owner=enters.address)
        world.fund([1, 2], EURO)
        enters.mint(enters.address, EURO)
        enters.be(0, world.market.address)
        enters.withdraw(1)
        enters.be(mood, world.market.address)
        for step in (
            lambda: enters.withdraw(EURO // 2),
            lambda: world.fund([2], EURO),
            world.market.collect_fees,
        ):
            with boa.reverts():
                step()
        assert (world.balance(1), world.balance(2)) == (EURO - 1, EURO)
        world.check_conservation()


def test_a_treasury_that_cannot_be_paid_stops_nobody() -> None:
    with boa.env.anchor():
        blocks = token(BLOCKS)
        world = build(homes=15, token=blocks)
        world.fund([1, 2], EURO)
        traded(world)
        delivered(world)
        blocks.be(1, world.market.address)
        world.settle({1: [1_000, 0, 0, 0]})
        with boa.reverts("token: receiver is blocked"):
            world.market.collect_fees()
        assert world.market.fees_due() == 110_000
        blocks.be(0, world.market.address)
        world.market.set_treasury(world.owner(9), sender=world.deployer)
        world.market.collect_fees()
        assert blocks.balanceOf(world.owner(9)) == 110_000
        world.check_conservation()


def test_money_sent_past_the_market_is_nobodys(world: World) -> None:
    world.token.mint(world.market.address, EURO, sender=world.deployer)
    assert world.market.owed() == 1_000 * EURO
    world.fund([1], EURO)
    world.market.withdraw(1, 101 * EURO, world.owner(1), sender=world.owner(1))
    assert world.token.balanceOf(world.market.address) == 900 * EURO + EURO


def test_a_full_account_does_not_hold_up_a_settlement(world: World) -> None:
    world.token.mint(world.deployer, 2**48, sender=world.deployer)
    world.token.approve(world.market.address, 2**48, sender=world.deployer)
    for account in (1, 2):
        world.market.deposit([account], [2**47 - world.balance(account)], sender=world.deployer)
    traded(world)
    delivered(world)
    world.settle({1: [1_000, 0, 0, 0]})
    assert world.balance(1) == 2**47 + 195_000
    assert world.balance(2) == 2**47 - 305_000


@pytest.mark.parametrize("account", [1, 2])
def test_a_credit_never_spills_into_what_stands_beside_a_balance(
    world: World, account: int
) -> None:
    """No deposits reach so far, and no income could; were there one, settling stops."""
    traded(world)
    delivered(world)
    first = world.market.compiler_data.storage_layout["storage_layout"]["_accounts"]["slot"]
    word = boa.env.get_storage(world.market.address, first + account)
    brimful = word | (2**48 - 1) << 160
    boa.env.set_storage(world.market.address, first + account, brimful)
    with boa.reverts("market: balance too large"):
        world.settle({1: [1_000, 0, 0, 0]})
    assert boa.env.get_storage(world.market.address, first + account) == brimful


# ---------------------------------------------------------------- books


def test_a_book_of_spam_still_clears_and_settles(world: World) -> None:
    """Sixteen points fill the book; the one honest trade in it goes through."""
    honest = [world.order(17, ASK, 100, 1_000), world.order(18, BID, 400, 1_000)]
    world.fund(range(11, 19), 100 * EURO)
    spam = [world.sign(world.order(1 + i // 32, ASK, 65_534, 50, nonce=i % 32)) for i in range(510)]
    assert world.post([*honest, *spam]) == [0] * 512
    world.at(GATE)
    world.clear([195, *N])
    delivered(world)
    entries = world.settle({17: [1_000, 0, 0, 0]})
    assert len(entries) == 512
    assert entries[0] == Settled(17, 1_000, 1_000, 295_000)
    assert world.balance(1) == 100 * EURO


def test_orders_of_another_session_are_no_book_of_this_one(world: World) -> None:
    later = DAY_SLOT + 4
    for session in (DAY_SLOT, later):
        orders = [
            world.order(1, ASK, 100, 1_000, session=session),
            world.order(2, BID, 400, 1_000, session=session),
        ]
        world.post(orders, session=session)
    world.at(GATE)
    with boa.reverts("auction: not the session's orders"):
        world.clear([195, *N], book=replace(world.posted(later), first_slot=DAY_SLOT))


# ---------------------------------------------------------------- edited settlements


@pytest.mark.parametrize("slots", [1, 4])
def test_no_edited_argument_changes_what_a_settlement_pays(world: World, slots: int) -> None:
    """Every word that the settler brings, changed, dropped, doubled, moved: the settlement comes
    to the same, or to nothing."""
    world.post(
        [
            world.order(1, ASK, 100, 500),
            world.order(3, ASK, 100, (300, 200)),
            world.order(2, BID, 400, 700),
            world.order(1, ASK, 195, 300),
            world.order(4, BID, 305, 200),
        ]
    )
    world.at(GATE)
    world.clear([195, None, None, None])
    delivered(world, 880)
    receipts = [world.receipt(1, [650, 0, 0, 0]), world.receipt(3, [300, 200, 0, 0])]
    with boa.env.anchor():
        right = world.settle(receipts, slots=slots)
    assert sum(entry.delivered_wh for entry in right) == 2 * 880
    rng = random.Random(1)
    refused = 0
    arguments = world.settlement(receipts, slots=slots)
    for edited in edits(rng, arguments):
        with boa.env.anchor():
            try:
                assert world.settle(receipts, edit=lambda _, edited=edited: edited) == right
            except boa.BoaError:
                refused += 1
    assert refused > 100


def edits(rng: random.Random, arguments: list[Any]) -> Iterator[list[Any]]:
    """The arguments behind zone, session and number of slots, each with one thing different."""
    for i, argument in enumerate(arguments[3:], start=3):
        changed: list[Any] = []
        if isinstance(argument, int):
            changed = [0, argument + 1, argument + 2, 2**256 - 1, max(argument - 1, 0)]
        else:
            changed = [[], argument[::-1], argument * 2, [*argument, 0], [0, *argument]]
            for at, word in enumerate(argument):
                before, after = argument[:at], argument[at + 1 :]
                values = (0, word ^ 1, word ^ 1 << 16, word ^ 1 << 48, 2**256 - 1, word + 1)
                for value in (*values, word ^ 1 << rng.randrange(256), rng.choice(argument)):
                    changed.append([*before, value % 2**256, *after])
                changed += [[*before, *after], [*before, word, word, *after]]
                if after:
                    changed.append([*before, after[0], word, *after[1:]])
        for other in changed:
            if other != argument:
                yield [*arguments[:i], other, *arguments[i + 1 :]]


# ---------------------------------------------------------------- corrections


def take_back(world: World, proved: Sequence[int], kept: Sequence[int]) -> None:
    """Meter 1 takes back a part of what it proved for the session's first slot."""
    digest = correction_digest(world.separator, 1, DAY_SLOT, kept)
    correction = DeviceReceipt(1, tuple(kept), sign_digest(world.device_key(1), digest))
    book = world.posted()
    world.adjustments.adjust(
        ZONE,
        DAY_SLOT,
        DAY_SLOT,
        1,
        world.receipt(1, proved).as_tuple(),
        correction.as_tuple(),
        book.page_words,
        book.rows,
    )
    world.check_conservation()


def test_an_ask_at_the_price_without_energy_in_the_slot_stops_no_correction(world: World) -> None:
    world.post([world.order(3, ASK, 195, (0, 50))])
    traded(world)
    delivered(world)
    world.settle({1: [1_000, 0, 0, 0]})
    take_back(world, [1_000, 0, 0, 0], [900, 0, 0, 0])
    assert world.balance(1) == 100 * EURO + 900 * 195


def test_a_book_of_whole_days_stops_no_correction(world: World) -> None:
    whole_day(world)
    world.fund(range(2, 13), 100 * EURO)
    bids = [world.order(2 + i // 8, BID, 400, (50,) + (1,) * 95) for i in range(86)]
    world.post([world.order(1, ASK, 100, 86 * 50), *bids])
    world.at(DAY_SLOT, -3_600)
    world.clear([195, *[None] * 95])
    world.at(DAY_SLOT + 96)
    world.commit(DAY_SLOT, [86 * 50] + [0] * 95)
    world.settle({1: [86 * 50] + [0] * 95}, slots=96)
    before = world.balance(1)
    take_back(world, [86 * 50] + [0] * 95, [0] * 96)
    assert world.balance(1) == before - 86 * 50 * 195


# ---------------------------------------------------------------- people


def test_a_poor_account_and_a_signer_gone_mad_leave_the_batch_alone(world: World) -> None:
    """Orders that differ only in what is wrong with them, around good ones."""
    good = [world.order(account, ASK, 100, 500) for account in (1, 2, 3)]
    poor = world.order(11, BID, 400, 500)
    twice = world.order(1, ASK, 100, 500, nonce=0)
    batch: list[Any] = [
        good[0],
        poor,
        good[1],
        twice,
        world.sign(world.order(4, ASK, 100, 500), key_of("nobody")),
        SignedOrder(world.order(5, ASK, 100, 500), b"\1" * 200, Vouched.BY_WALLET),
        good[2],
    ]
    r = Rejection
    assert world.post(batch) == [
        0, r.POOR, 0, r.NONCE_USED, r.BAD_SIGNATURE, r.BAD_SIGNATURE, 0,
    ]  # fmt: skip
    assert world.orders() == good


def test_the_events_of_a_batch_name_its_session_and_nothing_else(world: World) -> None:
    world.market.post(ZONE, DAY_SLOT, 0, 0, [])
    orders = [world.order(1, ASK, 100, 500), world.order(11, BID, 400, 500)]
    signed = [world.sign(order) for order in orders]
    words = [word for o in orders for word in pack(o)]
    words += [w for s in signed for w in world.signature(s.order)]
    world.market.post(ZONE, DAY_SLOT, 2, 2, words)
    key = session_key(ZONE, DAY_SLOT)
    (page,) = logged(world.market, "OrdersPosted")
    (rejected,) = logged(world.market, "OrderRejected")
    assert (page.session, rejected.session) == (key, key)
    assert (rejected.position, rejected.account, rejected.nonce) == (1, 11, 0)
    assert unpack([int.from_bytes(page.page, "big")], DAY_SLOT) == orders[:1]


def test_the_receipt_of_a_rotated_key_is_refused(world: World) -> None:
    """A key that was handed on signs only from its start."""
    traded(world)
    world.at(DAY_SLOT)
    new = key_of("handed on")
    world.registry.rotate_key(1, address_of(new), sender=world.deployer)
    delivered(world)
    for key in (world.device_key(1), key_of("nobody")):
        with boa.reverts("auction: not the device's receipt"):
            world.settle([world.receipt(1, [1_000, 0, 0, 0], key=key)])
    world.settle([world.receipt(1, [1_000, 0, 0, 0], key=new)])
