# SPDX-License-Identifier: Apache-2.0
"""What an owner signs and anyone brings: withdrawals, revocations, permits for deposits.

Signed mandates are in test_mandates, wallets that are contracts in test_contract_wallets.
"""

from __future__ import annotations

from typing import Any

import boa
import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from dao.eip712 import address_of, compact, sign_digest
from dao.market.account import revocation_digest, withdrawal_digest
from dao.market.orders import ASK, market_separator
from dao.market.session import Rejection
from tests.contracts.market_world import (
    CHAIN_ID,
    DAY_SLOT,
    EURO,
    World,
    key_of,
    key_with_twin,
    set_numbers,
)

DEADLINE = DAY_SLOT * 900


def signed(key: bytes, digest: bytes) -> bytes:
    return b"".join(compact(sign_digest(key, digest)))


def withdrawal(world: World, **changes: Any) -> tuple[Any, ...]:
    """All that `withdraw_signed` takes: account 1 pays one euro to a stranger, unless told
    otherwise; `key` and `separator` say how it is signed."""
    given = {"account": 1, "nonce": 0, "amount": EURO, "to": PAYEE, "deadline": DEADLINE} | changes
    key = given.pop("key", world.owner_key(given["account"]))
    digest = withdrawal_digest(given.pop("separator", world.separator), **given)
    return (*given.values(), signed(key, digest))


PAYEE = "0x00000000000000000000000000000000000000EE"


# ---------------------------------------------------------------- withdrawals


def test_anyone_brings_a_signed_withdrawal(world: World) -> None:
    world.market.withdraw_signed(*withdrawal(world), sender=world.owner(9))
    assert world.token.balanceOf(PAYEE) == EURO
    assert world.balance(1) == 99 * EURO
    world.check_conservation()


def test_a_withdrawal_is_brought_once(world: World) -> None:
    request = withdrawal(world)
    world.market.withdraw_signed(*request)
    with boa.reverts("market: nonce is not free"):
        world.market.withdraw_signed(*request)


def test_a_withdrawal_and_an_order_of_one_number_exclude_each_other(world: World) -> None:
    order = world.order(1, ASK, 100, 50, nonce=3)
    world.market.withdraw_signed(*withdrawal(world, nonce=3))
    assert world.post([order]) == [Rejection.NONCE_USED]
    assert world.post([world.order(1, ASK, 100, 50, nonce=4)]) == [0]
    with boa.reverts("market: nonce is not free"):
        world.market.withdraw_signed(*withdrawal(world, nonce=4))


def test_a_revoked_withdrawal_is_worth_nothing(world: World) -> None:
    request = withdrawal(world)
    world.market.revoke(1, 0, sender=world.owner(1))
    with boa.reverts("market: nonce is not free"):
        world.market.withdraw_signed(*request)


def test_a_withdrawal_expires_with_the_second_of_its_deadline(world: World) -> None:
    boa.env.timestamp = DEADLINE + 1
    with boa.reverts("market: withdrawal has expired"):
        world.market.withdraw_signed(*withdrawal(world))
    boa.env.timestamp = DEADLINE
    world.market.withdraw_signed(*withdrawal(world))


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, 2), (1, 1), (2, EURO + 1), (2, 0), (3, "0x" + "00" * 19 + "EF"), (4, DEADLINE + 1)],
)
def test_an_edited_withdrawal_is_refused(world: World, place: int, value: Any) -> None:
    request = list(withdrawal(world))
    request[place] = value
    with boa.reverts("market: not the owner's signature"):
        world.market.withdraw_signed(*request)


def test_a_withdrawal_by_another_key_chain_or_contract_is_refused(world: World) -> None:
    for change in (
        {"key": world.owner_key(2)},
        {"key": key_of("nobody")},
        {"separator": market_separator(1, world.market.address)},
        {"separator": market_separator(CHAIN_ID, world.auction.address)},
    ):
        with boa.reverts("market: not the owner's signature"):
            world.market.withdraw_signed(*withdrawal(world, **change))


def test_no_other_form_of_a_signature_is_taken(world: World) -> None:
    *request, signature = withdrawal(world)
    r, vs = signature[:32], int.from_bytes(signature[32:], "big")
    s = vs & 2**255 - 1
    wrong = (
        r + (vs ^ 1 << 255).to_bytes(32, "big"),
        bytes(64),
        r + bytes(32),
        bytes(32) + signature[32:],
        b"\xff" * 64,
        r + s.to_bytes(32, "big") + bytes([27 + (vs >> 255)]),
        signature + b"\0",
        signature[:63],
        b"",
    )
    for form in wrong:
        with boa.reverts("market: not the owner's signature"):
            world.market.withdraw_signed(*request, form)
    world.market.withdraw_signed(*request, signature)


def test_the_malleable_twin_of_a_withdrawal_is_refused(world: World) -> None:
    account = world.registry.meter_count() + 1
    request = (account, 0, EURO, PAYEE, DEADLINE)
    key, r, lower, twin = key_with_twin(withdrawal_digest(world.separator, *request))
    assert world.join(address_of(key)) == account
    with boa.reverts("market: not the owner's signature"):
        world.market.withdraw_signed(*request, b"".join(x.to_bytes(32, "big") for x in (r, twin)))
    world.market.withdraw_signed(*request, b"".join(x.to_bytes(32, "big") for x in (r, lower)))


def test_no_signature_opens_an_account_that_is_not_there(world: World) -> None:
    for account in (0, 999, 2**32 - 1):
        request = withdrawal(world, account=account, key=key_of("nobody"))
        with boa.reverts("market: unknown account"):
            world.market.withdraw_signed(*request)
    with boa.reverts():
        world.market.withdraw_signed(2**32 + 1, *withdrawal(world)[1:])


def test_no_more_is_withdrawn_than_there_is(world: World) -> None:
    for amount in (100 * EURO + 1, 2**48, 2**200):
        with boa.reverts("market: balance too low"):
            world.market.withdraw_signed(*withdrawal(world, amount=amount))
    world.market.withdraw_signed(*withdrawal(world, amount=100 * EURO))
    assert world.balance(1) == 0


def test_a_withdrawal_takes_its_number_at_the_end_of_all_numbers(world: World) -> None:
    set_numbers(world, 1, 65_535)
    with boa.reverts("market: nonce is not free"):
        world.market.withdraw_signed(*withdrawal(world, nonce=15))
    for nonce in (65_536, 2**160):
        with boa.reverts("market: nonce is not free"):
            world.market.withdraw_signed(*withdrawal(world, nonce=nonce))
    world.market.withdraw_signed(*withdrawal(world, nonce=65_535))
    world.market.withdraw_signed(*withdrawal(world, nonce=0))
    assert world.market.account(1)[4:] == (1, 0)


# ---------------------------------------------------------------- revocations


def revocation(world: World, account: int = 1, nonce: int = 0) -> bytes:
    return signed(world.owner_key(account), revocation_digest(world.separator, account, nonce))


def test_anyone_brings_a_signed_revocation(world: World) -> None:
    order = world.order(1, ASK, 100, 50, nonce=0)
    world.market.revoke_signed(1, 0, revocation(world), sender=world.owner(9))
    assert world.post([order]) == [Rejection.NONCE_USED]


def test_a_revocation_stops_its_own_number_only(world: World) -> None:
    signature = revocation(world)
    for account, nonce in ((1, 1), (2, 0)):
        with boa.reverts("market: not the owner's signature"):
            world.market.revoke_signed(account, nonce, signature)
    world.market.revoke_signed(1, 0, signature)
    with boa.reverts("market: nonce is not free"):
        world.market.revoke_signed(1, 0, signature)


def test_what_is_posted_cannot_be_revoked(world: World) -> None:
    world.post([world.order(1, ASK, 100, 50, nonce=0)])
    with boa.reverts("market: nonce is not free"):
        world.market.revoke_signed(1, 0, revocation(world))
    assert world.market.session(1, DAY_SLOT)[4] == 1


# ---------------------------------------------------------------- permits


def permit(world: World, account: int, amount: int, **changes: Any) -> tuple[Any, ...]:
    """All that `deposit_with_permit` takes; the account's owner signs for the market."""
    given = {"spender": world.market.address, "deadline": DEADLINE, "nonce": 0} | changes
    owner = given.pop("owner", world.owner_key(account))
    address = Account.from_key(owner).address
    message = encode_typed_data(
        domain_data={
            "name": "Test Euro",
            "version": "1",
            "chainId": CHAIN_ID,
            "verifyingContract": world.token.address,
        },
        message_types={
            "Permit": [
                {"name": "owner", "type": "address"},
                {"name": "spender", "type": "address"},
                {"name": "value", "type": "uint256"},
                {"name": "nonce", "type": "uint256"},
                {"name": "deadline", "type": "uint256"},
            ]
        },
        message_data={"owner": address, "value": amount, **given},
    )
    part = Account.sign_message(message, owner)
    r, s = (x.to_bytes(32, "big") for x in (part.r, part.s))
    return account, amount, given["deadline"], part.v, r, s


@pytest.fixture
def purse(world: World) -> World:
    """Owner 1 has ten euro outside the market, and so has owner 2."""
    for account in (1, 2):
        world.token.mint(world.owner(account), 10 * EURO, sender=world.deployer)
    return world


def test_anyone_brings_a_permit_and_the_owner_pays(purse: World) -> None:
    purse.market.deposit_with_permit(*permit(purse, 1, 7 * EURO), sender=purse.owner(9))
    assert purse.balance(1) == 107 * EURO
    assert purse.token.balanceOf(purse.owner(1)) == 3 * EURO
    assert purse.token.allowance(purse.owner(1), purse.market.address) == 0
    purse.check_conservation()


def test_a_permit_used_by_somebody_else_first_still_serves(purse: World) -> None:
    account, amount, *rest = request = permit(purse, 1, 7 * EURO)
    deadline, v, r, s = rest
    owner = purse.owner(1)
    purse.token.permit(owner, purse.market.address, amount, deadline, v, r, s)
    purse.market.deposit_with_permit(*request)
    assert purse.balance(account) == 107 * EURO
    with boa.reverts("market: permit is not valid"):
        purse.market.deposit_with_permit(*request)


@pytest.mark.parametrize(
    "changes",
    [
        {"owner": key_of("owner 2")},
        {"spender": PAYEE},
        {"deadline": 1},
        {"nonce": 1},
    ],
    ids=str,
)
def test_a_permit_of_somebody_else_or_for_something_else_is_refused(
    purse: World, changes: dict[str, Any]
) -> None:
    with boa.reverts("market: permit is not valid"):
        purse.market.deposit_with_permit(*permit(purse, 1, 7 * EURO, **changes))


def test_a_permit_moves_the_amount_it_names(purse: World) -> None:
    account, _, *rest = permit(purse, 1, 7 * EURO)
    for amount in (7 * EURO + 1, EURO):
        with boa.reverts("market: permit is not valid"):
            purse.market.deposit_with_permit(account, amount, *rest)


def test_an_allowance_goes_into_an_account_of_its_owner_only(purse: World) -> None:
    """Whoever brings a worthless permit can at most move the owner's money to the owner."""
    purse.token.approve(purse.market.address, 5 * EURO, sender=purse.owner(1))
    _, _, *rest = permit(purse, 2, EURO, owner=key_of("nobody"))
    with boa.reverts("market: permit is not valid"):
        purse.market.deposit_with_permit(2, EURO, *rest, sender=purse.owner(2))
    purse.market.deposit_with_permit(1, EURO, *rest, sender=purse.owner(2))
    assert (purse.balance(1), purse.balance(2)) == (101 * EURO, 100 * EURO)


def test_a_permit_for_an_account_that_is_not_there_is_refused(purse: World) -> None:
    with boa.reverts("market: unknown account"):
        purse.market.deposit_with_permit(*permit(purse, 999, EURO, owner=key_of("nobody")))


def test_a_permit_without_the_money_is_refused(purse: World) -> None:
    with boa.reverts("erc20: transfer amount exceeds balance"):
        purse.market.deposit_with_permit(*permit(purse, 1, 11 * EURO))
    assert purse.balance(1) == 100 * EURO
