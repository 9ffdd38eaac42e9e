# SPDX-License-Identifier: Apache-2.0
"""What an owner signs besides orders, byte for byte as any wallet signs it."""

from __future__ import annotations

import random
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from dao.eip712 import address_of, keccak, sign_digest
from dao.errors import BadUse
from dao.market.account import (
    MANDATE_END_TYPE,
    MANDATE_TYPE,
    MAX_CAP,
    MAX_DAY,
    REVOCATION_TYPE,
    WITHDRAWAL_TYPE,
    Mandate,
    mandate_digest,
    mandate_end_digest,
    revocation_digest,
    withdrawal_digest,
)
from dao.market.orders import ASK, BID, MAX_LIMIT, market_separator

CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
CHAIN_ID = 31337
SEPARATOR = market_separator(CHAIN_ID, CONTRACT)
KEY = b"\x42" * 32
AGENT = address_of(b"\x43" * 32)
MANDATE = Mandate(AGENT, BID, 400, 25, 17_000)


Signed = tuple[bytes, bytes]
"""A digest, and the owner's signature of it."""


def ours(digest: bytes) -> Signed:
    return digest, sign_digest(KEY, digest)


def a_wallets(declared: str, **message: Any) -> Signed:
    """What eth-account makes of a message of the declared type."""
    name, _, fields = declared.rstrip(")").partition("(")
    kinds = [field.split(" ") for field in fields.split(",")]
    made = encode_typed_data(
        domain_data={
            "name": "GridCommons EnergyMarket",
            "version": "1",
            "chainId": CHAIN_ID,
            "verifyingContract": CONTRACT,
        },
        message_types={name: [{"name": field, "type": kind} for kind, field in kinds]},
        message_data=message,
    )
    digest = keccak(b"\x19" + made.version + made.header + made.body)
    return digest, bytes(Account.sign_message(made, KEY).signature)


def numbers(seed: int, *bits: int) -> list[int]:
    """A value for each width: the smallest, the largest, then any."""
    rng = random.Random(seed)
    if seed < 2:
        return [(2**width - 1) * seed for width in bits]
    return [rng.randrange(2**width) for width in bits]


@pytest.mark.parametrize("seed", range(12))
def test_a_withdrawals_digest_equals_eth_account(seed: int) -> None:
    account, nonce, amount, deadline = numbers(seed, 32, 16, 48, 40)
    to = address_of(keccak(bytes([seed])))
    assert ours(withdrawal_digest(SEPARATOR, account, nonce, amount, to, deadline)) == a_wallets(
        WITHDRAWAL_TYPE, account=account, nonce=nonce, amount=amount, to=to, deadline=deadline
    )


@pytest.mark.parametrize("seed", range(12))
def test_a_revocations_digest_equals_eth_account(seed: int) -> None:
    account, nonce = numbers(seed, 32, 16)
    assert ours(revocation_digest(SEPARATOR, account, nonce)) == a_wallets(
        REVOCATION_TYPE, account=account, nonce=nonce
    )


@pytest.mark.parametrize("seed", range(12))
def test_a_mandates_digest_equals_eth_account(seed: int) -> None:
    account, number, side, cap, day = numbers(seed, 32, 32, 1, 12, 16)
    limit = min(numbers(seed, 16)[0], MAX_LIMIT)
    agent = address_of(keccak(bytes([seed])))
    mandate = Mandate(agent, side, limit, cap, day)
    assert ours(mandate_digest(SEPARATOR, account, number, mandate)) == a_wallets(
        MANDATE_TYPE,
        account=account,
        number=number,
        agent=agent,
        side=side,
        limit=limit,
        dailyCap=cap,
        lastDay=day,
    )


@pytest.mark.parametrize("seed", range(12))
def test_the_digest_that_ends_a_mandate_equals_eth_account(seed: int) -> None:
    account, number = numbers(seed, 32, 32)
    assert ours(mandate_end_digest(SEPARATOR, account, number)) == a_wallets(
        MANDATE_END_TYPE, account=account, number=number
    )


def test_no_two_requests_share_a_digest() -> None:
    """The same numbers in messages of other kinds, contracts and chains."""
    digests = [
        revocation_digest(SEPARATOR, 1, 7),
        mandate_end_digest(SEPARATOR, 1, 7),
        mandate_digest(SEPARATOR, 1, 7, MANDATE),
        withdrawal_digest(SEPARATOR, 1, 7, 0, AGENT, 0),
        revocation_digest(market_separator(1, CONTRACT), 1, 7),
        revocation_digest(market_separator(CHAIN_ID, AGENT), 1, 7),
    ]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("side", 2, "0..1"),
        ("limit", MAX_LIMIT + 1, "0..65534"),
        ("limit", -1, "0..65534"),
        ("daily_cap", MAX_CAP + 1, "0..4095"),
        ("last_day", MAX_DAY + 1, f"0..{MAX_DAY}"),
    ],
)
def test_a_mandate_out_of_range_says_what_would_do(field: str, value: int, accepted: str) -> None:
    given = {"agent": AGENT, "side": BID, "limit": 1, "daily_cap": 1, "last_day": 1, field: value}
    with pytest.raises(BadUse, match=f"mandate: {field}: {value} .* accepted: {accepted}"):
        Mandate(**given)


@pytest.mark.parametrize(
    ("side", "limit", "allowed"),
    [(BID, 400, True), (BID, 401, False), (BID, 0, True), (ASK, 400, False)],
)
def test_a_mandate_to_buy_allows_bids_up_to_its_limit(side: int, limit: int, allowed: bool) -> None:
    assert MANDATE.allows(side, limit) == allowed


@pytest.mark.parametrize(
    ("side", "limit", "allowed"),
    [(ASK, 90, True), (ASK, 89, False), (ASK, 65_534, True), (BID, 90, False)],
)
def test_a_mandate_to_sell_allows_asks_from_its_limit_on(
    side: int, limit: int, allowed: bool
) -> None:
    assert Mandate(AGENT, ASK, 90, 25, 17_000).allows(side, limit) == allowed
