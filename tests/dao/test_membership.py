# SPDX-License-Identifier: Apache-2.0
"""Members through Python: signed delegations equal eth-account's, and a node takes them.

The rules themselves are tested in tests/contracts/test_membership.py.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from eth_account import Account as EthAccount
from eth_account.messages import encode_typed_data

from dao import membership as dao
from dao.anvil import AnvilNode
from dao.chain import Chain, Contract, ContractReverted, LocalAccount
from dao.eip712 import checksum_address, domain_separator, keccak
from dao.errors import BadUse
from tests.chains import put_back

START = 1_460_000_000
DELAY = 2 * 86_400
ADMISSION_DELAY = 29
OWNERS = [LocalAccount.from_key(keccak(f"owner {index}".encode())) for index in range(130)]
ANNA, BEN, CARA = OWNERS[:3]


def typed(chain_id: int, contract: str, message: dict[str, Any]) -> Any:
    return encode_typed_data(
        {
            "name": "Membership",
            "version": "1",
            "chainId": chain_id,
            "verifyingContract": contract,
        },
        {
            "Delegation": [
                {"name": "delegatee", "type": "address"},
                {"name": "nonce", "type": "uint256"},
                {"name": "expiry", "type": "uint256"},
            ]
        },
        message,
    )


def test_digest_and_signature_equal_eth_account() -> None:
    rng = random.Random(4)
    for _ in range(40):
        chain_id = rng.randint(1, 2**40)
        contract, to = (checksum_address(rng.randbytes(20)) for _ in range(2))
        nonce, expiry = rng.randint(0, 2**256 - 1), rng.randint(0, 2**256 - 1)
        separator = domain_separator("Membership", "1", chain_id, contract)
        signable = typed(chain_id, contract, {"delegatee": to, "nonce": nonce, "expiry": expiry})
        assert signable.header == separator
        assert dao.delegation_digest(separator, to, nonce, expiry) == keccak(
            b"\x19" + signable.version + signable.header + signable.body
        )
        delegation = dao.sign_delegation(separator, ANNA.key, ANNA.address, to, nonce, expiry)
        assert delegation.signature == EthAccount.sign_message(signable, ANNA.key).signature


# On a node


@dataclass(frozen=True)
class Street:
    chain: Chain
    membership: Contract

    @property
    def registrar(self) -> LocalAccount:
        return self.chain.accounts[1]

    @property
    def relay(self) -> LocalAccount:
        return self.chain.accounts[2]

    def sign(self, who: LocalAccount, to: LocalAccount, **changes: int) -> dao.Delegation:
        terms = {
            "nonce": dao.next_nonce(self.membership, who.address),
            "expiry": self.chain.now() + 3_600,
            **changes,
        }
        separator = dao.membership_separator(self.membership)
        return dao.sign_delegation(separator, who.key, who.address, to.address, **terms)

    def state(self, *accounts: LocalAccount) -> list[tuple[int, str]]:
        """Votes and delegate of each."""
        found = [dao.member(self.membership, one.address) for one in accounts]
        return [(one.votes, one.delegate) for one in found if one is not None]


@pytest.fixture(scope="module")
def opened() -> Iterator[Street]:
    """130 metering points in two zones; their owners are announced and admitted."""
    with AnvilNode(timestamp=START) as node, Chain.local(node.url) as chain:
        registrar = chain.accounts[1]
        parameters = chain.deploy("GridParameters")
        parameters.transact(
            "define", ADMISSION_DELAY, "admission_delay", DELAY, 3_600, 30 * 86_400, 86_400, 0
        )
        registry = chain.deploy("MeterRegistry", registrar.address)
        for zone, owners in ((1, OWNERS[:100]), (2, OWNERS[100:])):
            devices = [checksum_address(keccak(one.address.encode())[12:]) for one in owners]
            registry.transact(
                "register_batch", [one.address for one in owners], devices, zone, sender=registrar
            )
        membership = chain.deploy(
            "Membership", registrar.address, registry.address, parameters.address
        )
        meters = list(range(1, 131))
        dao.announce_admissions(membership, [one.address for one in OWNERS], meters, registrar)
        chain.set_time(START + 2 * DELAY)
        dao.complete(membership, meters, chain.accounts[2])
        for account in (ANNA, BEN):
            chain.fund(account.address)
        yield Street(chain, membership)


@pytest.fixture
def street(opened: Street) -> Iterator[Street]:
    with put_back(opened.chain):
        yield opened


def test_more_than_a_batch_is_announced_and_completed(street: Street) -> None:
    assert street.membership.call("member_count") == 130


def test_all_members_are_read_with_seat_and_vote(street: Street) -> None:
    dao.delegate(street.membership, BEN.address, ANNA)
    found = dao.members(street.membership)
    assert [one.address for one in found] == [one.address for one in OWNERS]
    assert found == [dao.member(street.membership, one.address) for one in OWNERS]
    anna, ben = found[:2]
    assert (anna.meter, anna.zone, anna.since) == (1, 1, START + 2 * DELAY)
    assert (anna.votes, anna.delegate, ben.votes) == (0, BEN.address, 2)


def test_a_stranger_is_no_member(street: Street) -> None:
    assert dao.member(street.membership, street.relay.address) is None


def test_a_removal_is_announced_read_and_completed(street: Street) -> None:
    dao.announce_removals(street.membership, [CARA.address], street.registrar)
    due = street.chain.now() + DELAY
    expected = dao.Announcement(CARA.address, 3, due, removal=True)
    assert dao.announcement(street.membership, 3) == expected
    assert dao.announcements(street.membership) == [expected]
    with pytest.raises(ContractReverted, match="membership: not due yet"):
        dao.complete(street.membership, [3], street.relay)
    street.chain.set_time(due)
    dao.complete(street.membership, [3], street.relay)
    assert dao.member(street.membership, CARA.address) is None
    assert CARA.address not in [one.address for one in dao.members(street.membership)]
    assert dao.announcements(street.membership) == []


def test_who_comes_back_is_read_once(street: Street) -> None:
    dao.announce_removals(street.membership, [CARA.address], street.registrar)
    street.chain.set_time(street.chain.now() + DELAY)
    dao.complete(street.membership, [3], street.relay)
    dao.announce_admissions(street.membership, [CARA.address], [3], street.registrar)
    street.chain.set_time(street.chain.now() + DELAY)
    dao.complete(street.membership, [3], street.relay)
    [cara] = [one for one in dao.members(street.membership) if one.address == CARA.address]
    assert cara == dao.member(street.membership, CARA.address)
    assert cara.since == street.chain.now()


def test_a_cancelled_announcement_is_no_longer_listed(street: Street) -> None:
    accounts = [CARA.address, BEN.address]
    dao.announce_removals(street.membership, accounts, street.registrar)
    dao.cancel_announcements(street.membership, [3], street.registrar)
    assert [one.member for one in dao.announcements(street.membership)] == [BEN.address]
    assert dao.announcement(street.membership, 3) is None


def test_an_expired_announcement_is_no_longer_listed(street: Street) -> None:
    dao.announce_removals(street.membership, [CARA.address], street.registrar)
    street.chain.set_time(street.chain.now() + DELAY + dao.EXPIRY - 1)
    assert len(dao.announcements(street.membership)) == 1
    street.chain.set_time(street.chain.now() + 1)
    assert dao.announcements(street.membership) == []


def test_every_member_needs_a_metering_point(street: Street) -> None:
    with pytest.raises(BadUse, match="2 members for 1 metering points"):
        dao.announce_admissions(
            street.membership, [ANNA.address, BEN.address], [1], street.registrar
        )


def test_a_delegation_is_carried_by_a_relay(street: Street) -> None:
    receipt = dao.carry_delegation(street.membership, street.sign(ANNA, BEN), street.relay)
    assert receipt.event("DelegateChanged").args["delegator"] == ANNA.address
    assert street.state(ANNA, BEN) == [(0, BEN.address), (2, BEN.address)]
    assert dao.next_nonce(street.membership, ANNA.address) == 1


def test_a_delegation_is_carried_once(street: Street) -> None:
    delegation = street.sign(ANNA, BEN)
    dao.carry_delegation(street.membership, delegation, street.relay)
    with pytest.raises(ContractReverted, match="membership: nonce is not the next"):
        dao.carry_delegation(street.membership, delegation, street.relay)


def test_an_expired_delegation_is_the_contracts_to_refuse(street: Street) -> None:
    late = street.sign(ANNA, BEN, expiry=street.chain.now() - 1)
    with pytest.raises(ContractReverted, match="membership: signature expired"):
        dao.carry_delegation(street.membership, late, street.relay)


def test_a_delegation_of_anothers_hand_is_not_carried(street: Street) -> None:
    forged = replace(street.sign(CARA, BEN), delegator=ANNA.address)
    with pytest.raises(BadUse, match=f"the signature is {CARA.address}'s"):
        dao.carry_delegation(street.membership, forged, street.relay)


def test_a_delegation_for_another_chain_is_not_carried(street: Street) -> None:
    separator = domain_separator("Membership", "1", 1, street.membership.address)
    elsewhere = dao.sign_delegation(
        separator, ANNA.key, ANNA.address, BEN.address, 0, street.chain.now() + 3_600
    )
    with pytest.raises(BadUse, match="another contract or another chain"):
        dao.carry_delegation(street.membership, elsewhere, street.relay)


@pytest.mark.parametrize(
    ("signature", "message"),
    [(b"", "65 bytes"), (bytes(64), "65 bytes"), (bytes(65), "v must be 27 or 28")],
)
def test_what_is_no_signature_is_not_carried(
    street: Street, signature: bytes, message: str
) -> None:
    broken = replace(street.sign(ANNA, BEN), signature=signature)
    with pytest.raises(BadUse, match=message):
        dao.carry_delegation(street.membership, broken, street.relay)
