# SPDX-License-Identifier: Apache-2.0
"""Accounts whose owner is a contract (ERC-1271): it agrees to orders, and can harm only itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import boa
import pytest

from dao.eip712 import address_of, sign_digest
from dao.market.account import (
    Mandate,
    mandate_digest,
    mandate_end_digest,
    revocation_digest,
    withdrawal_digest,
)
from dao.market.orders import order_digest, pack
from dao.market.session import Rejection, SignedOrder, Vouched, pack_batch
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

KEYS = (key_of("first of two"), key_of("second of two"))
MAGIC = "1626ba7e"

# Two keys have to sign, 65 bytes each.
TWO_KEYS = """
# pragma version ~=0.4.3
first: immutable(address)
second: immutable(address)

@deploy
def __init__(first_: address, second_: address):
    first = first_
    second = second_

@view
@internal
def _signer(digest: bytes32, signature: Bytes[512], at: uint256) -> address:
    return ecrecover(
        digest,
        convert(slice(signature, at + 64, 1), uint256),
        convert(slice(signature, at, 32), uint256),
        convert(slice(signature, at + 32, 32), uint256),
    )

@view
@external
def isValidSignature(digest: bytes32, signature: Bytes[512]) -> bytes4:
    assert len(signature) == 130, "wallet: two signatures"
    if self._signer(digest, signature, 0) == first:
        if self._signer(digest, signature, 65) == second:
            return 0x1626ba7e
    return 0xffffffff

@external
def run(target: address, data: Bytes[1024]):
    raw_call(target, data)
"""

# Agrees to a signature that holds so many bytes of ones, whatever it is for.
AGREES = """
# pragma version ~=0.4.3
@view
@external
def isValidSignature(digest: bytes32, signature: Bytes[1024]) -> bytes4:
    for i: uint256 in range(len(signature), bound=1024):
        assert convert(slice(signature, i, 1), uint256) == 255
    return 0x1626ba7e
"""

# Agrees, once it has spent what it may but for the last two thousand gas or so.
SPENDS = """
# pragma version ~=0.4.3
@view
@external
def isValidSignature(digest: bytes32, signature: Bytes[512]) -> bytes4:
    for i: uint256 in range(10_000):
        if msg.gas < 2_000:
            break
    assert msg.gas > 1_000
    return 0x1626ba7e
"""

# Like SPENDS, but needs nearly all of the allowance whatever it is given.
NEEDS = """
# pragma version ~=0.4.3
@view
@external
def isValidSignature(digest: bytes32, signature: Bytes[512]) -> bytes4:
    assert msg.gas > 97_000
    return 0x1626ba7e
"""

# Writes while it is asked.
WRITES = """
# pragma version ~=0.4.3
asked: public(uint256)

@external
def isValidSignature(digest: bytes32, signature: Bytes[512]) -> bytes4:
    self.asked += 1
    return 0x1626ba7e
"""

# Uses the moment to withdraw the account's money, of which it is the owner.
WITHDRAWS = """
# pragma version ~=0.4.3
interface Market:
    def withdraw(account: uint256, amount: uint256, to: address): nonpayable

market: Market
account: uint256

@deploy
def __init__(market: address):
    self.market = Market(market)

@external
def set_account(account: uint256):
    self.account = account

@external
def isValidSignature(digest: bytes32, signature: Bytes[512]) -> bytes4:
    extcall self.market.withdraw(self.account, 100_000_000, self)
    return 0x1626ba7e
"""

# Machine code of wallets that Vyper would not write.
HOSTILE = {
    "burns all gas": "fe",
    "runs for ever": "5b5f56",
    "reverts": "5f5ffd",
    "reverts with 100 kB": "620186a05ffd",
    "returns 100 kB of nothing": "620186a05ff3",
    "returns nothing": "00",
    "returns four bytes": f"63{MAGIC}60e01b5f5260045ff3",
    "returns the magic on the wrong side": f"63{MAGIC}5f5260205ff3",
    "returns a word with more than the magic": f"63{MAGIC}60e01b6001015f5260205ff3",
    "returns another magic": "63ffffffff60e01b5f5260205ff3",
    "destroys itself": "5fff",
}


@dataclass
class Home:
    """A metering point that belongs to a contract."""

    account: int
    wallet: Any


@pytest.fixture
def home(world: World) -> Home:
    wallet = boa.loads(TWO_KEYS, *[address_of(key) for key in KEYS])
    return Home(world.join(wallet.address), wallet)


def agreed(digest: bytes) -> bytes:
    """What the wallet of two keys takes for its signature."""
    return b"".join(sign_digest(key, digest) for key in KEYS)


def vouched(world: World, account: int, signature: bytes | None = None, **changes: Any) -> Any:
    """A bid for which the wallet that owns the account vouches."""
    given = {"side": BID, "limit": 400, "wh": 1_000} | changes
    order = world.order(account, **given)
    if signature is None:
        signature = agreed(order_digest(world.separator, order))
    return SignedOrder(order, signature, Vouched.BY_WALLET)


# ---------------------------------------------------------------- what it is good for


def test_a_contract_wallet_orders_as_its_owners_sign(world: World, home: Home) -> None:
    batch = [
        world.order(1, ASK, 100, 500),
        vouched(world, home.account),
        vouched(world, home.account, wh=(200, 300)),
        world.order(2, ASK, 100, (300, 200)),
    ]
    assert world.post(batch) == [0, 0, 0, 0]
    assert world.balance(home.account) == 100 * EURO - 400 * 1_500


def test_a_wallets_trade_settles_like_any_other(world: World, home: Home) -> None:
    world.post([world.order(1, ASK, 100, 1_000), vouched(world, home.account)])
    world.at(GATE)
    world.clear([195, None, None, None])
    world.at(END)
    world.commit(DAY_SLOT, [1_000, 0, 0, 0])
    world.settle({1: [1_000, 0, 0, 0]})
    assert world.balance(home.account) == 100 * EURO - 305_000


def test_a_wallet_posts_in_person(world: World, home: Home) -> None:
    order = world.order(home.account, BID, 400, 1_000)
    unsigned = SignedOrder(order, b"", Vouched.BY_CALLER)
    assert world.post([unsigned]) == [Rejection.BAD_SIGNATURE]
    assert world.post([unsigned], sender=home.wallet.address) == [0]


def test_a_contract_may_be_the_agent_of_a_mandate(world: World, home: Home) -> None:
    terms = Mandate(home.wallet.address, BID, 400, 10, DAY_SLOT // 96)
    world.market.grant_mandate(1, 7, terms.as_tuple(), sender=world.owner(1))
    assert world.post([vouched(world, 1, mandate=7)]) == [0]
    assert world.balance(1) == 100 * EURO - 400_000


def test_a_wallet_signs_whatever_an_owner_signs(world: World, home: Home) -> None:
    account, market, separator = home.account, world.market, world.separator
    payee = boa.env.generate_address()
    digest = withdrawal_digest(separator, account, 0, EURO, payee, END * 900)
    market.withdraw_signed(account, 0, EURO, payee, END * 900, agreed(digest))
    assert world.token.balanceOf(payee) == EURO
    market.revoke_signed(account, 2, agreed(revocation_digest(separator, account, 2)))
    terms = Mandate(world.owner(1), BID, 400, 10, DAY_SLOT // 96)
    grant = agreed(mandate_digest(separator, account, 7, terms))
    market.grant_mandate_signed(account, 7, terms.as_tuple(), grant)
    market.end_mandate_signed(account, 7, agreed(mandate_end_digest(separator, account, 7)))
    with boa.reverts("market: not the owner's signature"):
        market.revoke_signed(account, 3, agreed(revocation_digest(separator, account, 4)))
    world.check_conservation()


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 63, 64, 65, 511, 512])
def test_a_wallet_sees_its_signature_whole(world: World, length: int) -> None:
    account = world.join(boa.loads(AGREES).address)
    assert world.post([vouched(world, account, b"\xff" * length)]) == [0]
    # Nothing that lies behind a signature is taken for a part of it.
    order = world.order(account, BID, 400, 50)
    words = [*pack(order, Vouched.BY_WALLET), length, *[2**256 - 1] * 16]
    assert world.post_words(1, 1, words) == [0]
    world.market.revoke_signed(account, 5, b"\xff" * length)


# ---------------------------------------------------------------- what it does not agree to


def test_what_the_wallet_does_not_agree_to_is_turned_away(world: World, home: Home) -> None:
    good = vouched(world, home.account)
    other = agreed(order_digest(world.separator, world.order(home.account, BID, 400, 999)))
    half = agreed(order_digest(world.separator, good.order))
    for signature in (other, half[:65] * 2, half[:65], half + b"\0", b""):
        assert world.post([replace(good, signature=signature)]) == [Rejection.BAD_SIGNATURE]
    assert world.post([good]) == [0]
    assert world.post([good]) == [Rejection.NONCE_USED]


def test_a_wallet_has_no_key_and_a_key_no_wallet(world: World, home: Home) -> None:
    by_key = world.sign(world.order(home.account, BID, 400, 1_000), KEYS[0])
    by_wallet = vouched(world, 1)
    assert world.post([by_key, by_wallet]) == [Rejection.BAD_SIGNATURE] * 2


def test_a_longer_signature_than_there_is_room_for_is_nobodys(world: World) -> None:
    account = world.join(boa.loads(AGREES).address)
    for length in (513, 2**128, 2**256 - 1):
        order = world.order(account, BID, 400, 1_000)
        words = [*pack(order, Vouched.BY_WALLET), length, *[2**256 - 1] * 16]
        assert world.post_words(1, 1, words) == [Rejection.BAD_SIGNATURE]


@pytest.mark.parametrize("missing", [1, 15, 16])
def test_a_batch_without_all_words_of_a_wallets_signature_is_refused(
    world: World, missing: int
) -> None:
    account = world.join(boa.loads(AGREES).address)
    order = world.order(account, BID, 400, 1_000)
    words = [*pack(order, Vouched.BY_WALLET), 512, *[2**256 - 1] * (16 - missing)]
    with boa.reverts():
        world.post_words(1, 1, words)


@pytest.mark.parametrize("code", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_wallet_harms_only_its_own_order(world: World, code: str) -> None:
    address = boa.env.generate_address()
    boa.env.set_code(address, bytes.fromhex(code))
    account = world.join(address)
    good = world.order(2, ASK, 100, 500), world.order(3, ASK, 100, (250, 250))
    batch = [good[0], vouched(world, account), vouched(world, account), good[1]]
    bad = Rejection.BAD_SIGNATURE
    assert world.post(batch) == [0, bad, bad, 0]
    assert world.orders() == list(good)
    with boa.reverts("market: not the owner's signature"):
        world.market.revoke_signed(account, 0, b"\0" * 65)


def test_a_wallet_changes_nothing_while_it_is_asked(world: World) -> None:
    writes = boa.loads(WRITES)
    assert world.post([vouched(world, world.join(writes.address))]) == [Rejection.BAD_SIGNATURE]
    assert writes.asked() == 0
    withdraws = boa.loads(WITHDRAWS, world.market.address)
    account = world.join(withdraws.address)
    withdraws.set_account(account)
    assert world.post([vouched(world, account)]) == [Rejection.BAD_SIGNATURE]
    assert world.balance(account) == 100 * EURO


# ---------------------------------------------------------------- gas


@pytest.mark.parametrize("wallet", [NEEDS, SPENDS], ids=["needs", "spends"])
def test_too_little_gas_never_turns_a_good_order_away(world: World, wallet: str) -> None:
    """Whatever gas the caller gives: the batch goes through with the order, or not at all."""
    account = world.join(boa.loads(wallet).address)
    batch = [vouched(world, account, b"\1" * 64), world.order(1, ASK, 100, 500)]
    outcomes = {}
    for gas in range(110_000, 190_000, 2_000):
        with boa.env.anchor():
            outcomes[gas] = outcome(world, batch, gas)
    assert set(outcomes.values()) == {"refused", "taken"}
    # Just where the two meet.
    least = min(gas for gas, what in outcomes.items() if what == "taken")
    for gas in range(least - 2_000, least + 2_000, 50):
        with boa.env.anchor():
            assert outcome(world, batch, gas) != "turned away", gas


def outcome(world: World, batch: list[Any], gas: int) -> str:
    signed = [batch[0], *[world.sign(order) for order in batch[1:]]]
    try:
        world.market.post(1, DAY_SLOT, *pack_batch(signed), gas=gas)
    except boa.BoaError:
        return "refused"
    return "turned away" if logged(world.market, "OrderRejected") else "taken"


def test_a_starved_wallet_is_named_as_the_cause(world: World) -> None:
    account = world.join(boa.loads(NEEDS).address)
    order = world.order(account, BID, 400, 1_000)
    words = [*pack(order, Vouched.BY_WALLET), 64, *[0] * 16]
    with boa.reverts("market: too little gas for a wallet"):
        world.market.post(1, DAY_SLOT, 1, 1, words, gas=130_000)
    with boa.reverts("market: too little gas for a wallet"):
        world.market.revoke_signed(account, 0, b"\0" * 65, gas=100_000)
