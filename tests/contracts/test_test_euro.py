# SPDX-License-Identifier: Apache-2.0
"""Play money with the shape of real money, on local chains only."""

from __future__ import annotations

from typing import Any

import boa
import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils import keccak

from tests.contracts.compiling import compiled
from tests.contracts.governance_fixtures import LOCAL_CHAIN, deploy, reverts

ANNA = Account.from_key(keccak(text="anna"))
MALLORY = str(boa.env.generate_address("mallory"))


@pytest.fixture
def token() -> Any:
    with boa.env.anchor():
        yield deploy("TestEuro")


def test_it_counts_micro_euro(token: Any) -> None:
    assert (token.name(), token.symbol(), token.decimals()) == ("Test Euro", "tEUR", 6)


def test_the_owner_mints(token: Any) -> None:
    token.mint(ANNA.address, 5_000_000)
    assert token.balanceOf(ANNA.address) == token.totalSupply() == 5_000_000


def test_nobody_else_mints(token: Any) -> None:
    with boa.env.prank(MALLORY), reverts("erc20: access is denied"):
        token.mint(MALLORY, 1)


def test_minting_moves_with_ownership(token: Any) -> None:
    token.transfer_ownership(MALLORY)
    with reverts("erc20: access is denied"):
        token.mint(ANNA.address, 1)
    with boa.env.prank(MALLORY):
        token.mint(MALLORY, 1)
    assert token.balanceOf(MALLORY) == 1


def test_a_permit_allows_without_a_transaction(token: Any) -> None:
    deadline = boa.env.timestamp + 60
    message = encode_typed_data(
        {
            "name": "Test Euro",
            "version": "1",
            "chainId": LOCAL_CHAIN,
            "verifyingContract": token.address,
        },
        {
            "Permit": [
                {"name": "owner", "type": "address"},
                {"name": "spender", "type": "address"},
                {"name": "value", "type": "uint256"},
                {"name": "nonce", "type": "uint256"},
                {"name": "deadline", "type": "uint256"},
            ]
        },
        {
            "owner": ANNA.address,
            "spender": MALLORY,
            "value": 7,
            "nonce": 0,
            "deadline": deadline,
        },
    )
    signed = ANNA.sign_message(message)
    token.permit(
        ANNA.address,
        MALLORY,
        7,
        deadline,
        signed.v,
        signed.r.to_bytes(32, "big"),
        signed.s.to_bytes(32, "big"),
    )
    assert token.allowance(ANNA.address, MALLORY) == 7


def test_it_refuses_a_public_chain() -> None:
    boa.env.evm.patch.chain_id = 1
    try:
        with reverts("test euro: not a local chain"):
            compiled("TestEuro").deploy()
    finally:
        boa.env.evm.patch.chain_id = LOCAL_CHAIN
