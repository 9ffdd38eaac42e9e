# SPDX-License-Identifier: Apache-2.0
"""Key rotations through Python: signatures equal eth-account's, and a node takes them.

The rules themselves are tested in tests/contracts/test_signed_rotations.py.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from eth_account import Account as EthAccount
from eth_account.messages import encode_typed_data

from dao import metering
from dao.anvil import AnvilNode
from dao.chain import Chain, Contract, ContractReverted, LocalAccount
from dao.eip712 import checksum_address, domain_separator, keccak
from dao.errors import BadUse
from dao.metering import KeyRotation
from tests.chains import put_back

START = 1_460_000_000
OLD, NEW, OTHER = (LocalAccount.from_key(keccak(name)) for name in (b"old", b"new", b"other"))


def test_digest_and_signature_equal_eth_account() -> None:
    rng = random.Random(4)
    for _ in range(40):
        chain_id, contract = rng.randint(1, 2**40), checksum_address(rng.randbytes(20))
        terms = KeyRotation(
            rng.randrange(2**32),
            checksum_address(rng.randbytes(20)),
            rng.randrange(2**64),
            rng.randrange(2**64),
        )
        signable = encode_typed_data(
            {
                "name": "GridCommons MeterRegistry",
                "version": "1",
                "chainId": chain_id,
                "verifyingContract": contract,
            },
            {
                "KeyRotation": [
                    {"name": "meter", "type": "uint32"},
                    {"name": "device", "type": "address"},
                    {"name": "validFrom", "type": "uint64"},
                    {"name": "deadline", "type": "uint64"},
                ]
            },
            {
                "meter": terms.meter,
                "device": terms.device,
                "validFrom": terms.valid_from,
                "deadline": terms.deadline,
            },
        )
        separator = metering.registry_separator(chain_id, contract)
        assert signable.header == separator
        assert metering.rotation_digest(separator, terms) == keccak(
            b"\x19" + signable.version + signable.header + signable.body
        )
        signature = metering.sign_rotation(separator, OLD.key, terms)
        assert signature == EthAccount.sign_message(signable, OLD.key).signature


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"meter": 2**32}, "meter 4294967296"),
        ({"meter": -1}, "meter -1"),
        ({"valid_from": 2**64}, "valid_from"),
        ({"deadline": -1}, "deadline -1"),
        ({"device": "0x12"}, "an address has 20 bytes"),
        ({"device": "nobody"}, "device 'nobody'"),
    ],
)
def test_terms_that_cannot_be_signed_are_refused(
    changes: dict[str, int | str], message: str
) -> None:
    terms = replace(KeyRotation(1, NEW.address, 5, 5), **changes)  # type: ignore[arg-type]
    with pytest.raises(BadUse, match=message):
        metering.rotation_digest(bytes(32), terms)


# On a node


@dataclass(frozen=True)
class Meter:
    """Metering point 1, with the old key."""

    chain: Chain
    registry: Contract

    @property
    def anyone(self) -> LocalAccount:
        return self.chain.accounts[5]

    def terms(self, ahead: int = 900) -> KeyRotation:
        now = self.chain.now()
        return KeyRotation(1, NEW.address, now + ahead, now + 600)

    def sign(self, who: LocalAccount, terms: KeyRotation) -> bytes:
        separator = metering.registry_separator(self.chain.chain_id, self.registry.address)
        return metering.sign_rotation(separator, who.key, terms)

    def key_at(self, moment: int) -> str:
        return str(self.registry.call("device_at", 1, moment))


@pytest.fixture(scope="module")
def opened() -> Iterator[Meter]:
    with AnvilNode(timestamp=START) as node, Chain.local(node.url) as chain:
        registrar = chain.accounts[1]
        registry = chain.deploy("MeterRegistry", registrar.address)
        owner = chain.accounts[2].address
        registry.transact("register_batch", [owner], [OLD.address], 1, sender=registrar)
        yield Meter(chain, registry)


@pytest.fixture
def meter(opened: Meter) -> Iterator[Meter]:
    with put_back(opened.chain):
        yield opened


def test_a_handover_is_brought_by_anyone(meter: Meter) -> None:
    terms = meter.terms()
    signatures = meter.sign(OLD, terms), meter.sign(NEW, terms)
    receipt = metering.rotate(meter.registry, terms, *signatures, meter.anyone)
    assert receipt.event("KeyRotated").args == {
        "meter": 1,
        "device": NEW.address,
        "valid_from": terms.valid_from,
    }
    assert meter.key_at(terms.valid_from - 1) == OLD.address
    assert meter.key_at(terms.valid_from) == NEW.address


@pytest.mark.parametrize("device", [NEW.address.lower(), NEW.address[2:]])
def test_a_device_may_be_spelled_in_other_ways(meter: Meter, device: str) -> None:
    terms = replace(meter.terms(), device=device)
    signatures = meter.sign(OLD, terms), meter.sign(NEW, terms)
    metering.rotate(meter.registry, terms, *signatures, meter.anyone)
    assert meter.key_at(terms.valid_from) == NEW.address


def test_a_signature_of_anothers_hand_is_not_brought(meter: Meter) -> None:
    terms = meter.terms()
    old, new, other = (meter.sign(who, terms) for who in (OLD, NEW, OTHER))
    with pytest.raises(BadUse, match=f"meter 1 is {OTHER.address}'s, not {OLD.address}'s"):
        metering.rotate(meter.registry, terms, other, new, meter.anyone)
    with pytest.raises(BadUse, match=f"new device is {OLD.address}'s, not {NEW.address}'s"):
        metering.rotate(meter.registry, terms, old, old, meter.anyone)


def test_a_signature_for_another_chain_is_not_brought(meter: Meter) -> None:
    terms = meter.terms()
    separator = domain_separator("GridCommons MeterRegistry", "1", 1, meter.registry.address)
    elsewhere = metering.sign_rotation(separator, OLD.key, terms)
    with pytest.raises(BadUse, match="another registry or another chain"):
        metering.rotate(meter.registry, terms, elsewhere, meter.sign(NEW, terms), meter.anyone)


@pytest.mark.parametrize(
    ("signature", "message"),
    [(b"", "65 or 64 bytes"), (bytes(65), "v must be 27 or 28"), (b"\xff" * 64, "upper half")],
)
def test_what_is_no_signature_is_not_brought(meter: Meter, signature: bytes, message: str) -> None:
    terms = meter.terms()
    with pytest.raises(BadUse, match=message):
        metering.rotate(meter.registry, terms, signature, meter.sign(NEW, terms), meter.anyone)


def test_what_the_registry_refuses_is_told_with_its_reason(meter: Meter) -> None:
    terms = meter.terms(ahead=31 * 86_400)
    signatures = meter.sign(OLD, terms), meter.sign(NEW, terms)
    with pytest.raises(ContractReverted, match="registry: start out of range"):
        metering.rotate(meter.registry, terms, *signatures, meter.anyone)
    unknown = replace(meter.terms(), meter=2)
    signatures = meter.sign(OLD, unknown), meter.sign(NEW, unknown)
    with pytest.raises(ContractReverted, match="registry: no key in force"):
        metering.rotate(meter.registry, unknown, *signatures, meter.anyone)
