# SPDX-License-Identifier: Apache-2.0
"""Key periods: what the events say is what the contract answers, for every moment."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

from dao.anvil import AnvilNode
from dao.chain import Chain, Contract, ContractReverted
from dao.eip712 import address_of, keccak, sign_digest
from dao.errors import CheckFailed
from dao.market.orders import market_separator, receipt_digest
from meters.registry import KeyPeriods, Period

ZONE = 3
HOUR = 3600


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with AnvilNode() as node, Chain.local(node.url) as opened:
        yield opened


@pytest.fixture
def registry(chain: Chain) -> Contract:
    return chain.deploy("MeterRegistry", chain.deployer.address)


class Devices:
    """A supply of device keys, none handed out twice."""

    def __init__(self) -> None:
        self.keys: dict[str, bytes] = {}

    def new(self) -> str:
        key = keccak(f"device {len(self.keys)}".encode())
        address = address_of(key)
        self.keys[address] = key
        return address

    def some(self, count: int) -> list[str]:
        return [self.new() for _ in range(count)]


def register(registry: Contract, devices: list[str], zone: int = ZONE) -> None:
    owner = registry.chain.accounts[5].address
    registry.transact("register_batch", [owner] * len(devices), devices, zone)


def agrees(registry: Contract, keys: KeyPeriods, meters: list[int], moments: list[int]) -> None:
    """Whether the contract and the periods name the same key everywhere."""
    for moment in moments:
        told = registry.call("devices_at", meters, moment)
        ours = [keys.device_at(meter, moment) or bytes(20) for meter in meters]
        assert [bytes.fromhex(address[2:]) for address in told] == ours, moment


def test_a_lifetime_of_keys_reads_as_the_contract_has_it(chain: Chain, registry: Contract) -> None:
    dice = random.Random(5)
    devices = Devices()
    register(registry, devices.some(4))
    register(registry, devices.some(2), ZONE + 1)
    register(registry, devices.some(2))
    begin = chain.now()
    ours = [1, 2, 3, 4, 7, 8]
    keys = KeyPeriods.read(registry, ZONE)
    assert keys.meters.tolist() == ours
    edges = {begin}
    rotations = suspensions = 0
    for _ in range(60):
        chain.set_time(chain.now() + dice.choice([1, HOUR, 30 * HOUR]))
        meter = dice.choice([*ours, 5])
        edges.add(chain.now())
        try:
            if dice.random() < 0.7:
                start = chain.now() + dice.choice([0, 0, 7, HOUR, 48 * HOUR])
                registry.transact("rotate_key", meter, devices.new(), start)
                rotations += 1
                edges.add(start)
            else:
                registry.transact("suspend_key", meter)
                suspensions += 1
        except ContractReverted:
            continue  # too many keys, or none in force
        if dice.random() < 0.3:
            assert keys.follow() > 0
    keys.follow()
    moments = [moment + by for moment in sorted(edges) for by in (-1, 0, 1)]
    assert rotations > 20
    assert suspensions > 5
    agrees(registry, keys, ours, moments)
    again = KeyPeriods.read(registry, ZONE)
    assert all(again.periods(meter) == keys.periods(meter) for meter in ours)
    assert KeyPeriods.read(registry, ZONE + 1).meters.tolist() == [5, 6]


def test_two_stories_about_one_slot_end_a_key_for_the_past(
    chain: Chain, registry: Contract
) -> None:
    devices = Devices()
    device = devices.new()
    register(registry, [device])
    first = chain.now() // 900 + 8
    chain.set_time((first + 40) * 900)
    market = registry.address  # any address: the receipts are meant for it alone
    separator = market_separator(chain.chain_id, market)

    def receipt(at: int, wh: int) -> tuple[object, ...]:
        digest = receipt_digest(separator, 1, at, [wh] * 4)
        signature = sign_digest(devices.keys[device], digest)
        vs = int.from_bytes(signature[32:64], "big") | (signature[64] - 27) << 255
        words = [sum(wh << 16 * i for i in range(4))]
        return (at, 4, words, signature[:32], vs.to_bytes(32, "big"))

    keys = KeyPeriods.read(registry, ZONE)
    assert keys.device_at(1, (first + 5) * 900) == bytes.fromhex(device[2:])
    registry.transact(
        "report_conflict", 1, market, first + 4, receipt(first + 4, 5), receipt(first + 4, 6)
    )
    assert keys.conflicted == set()
    keys.follow()
    assert keys.conflicted == {1}
    moments = [(first + 4) * 900 + by for by in (-1, 0, 1, 3600)]
    agrees(registry, keys, [1], moments)
    assert keys.device_at(1, moments[0]) == bytes.fromhex(device[2:])
    assert keys.device_at(1, moments[1]) == b""
    assert KeyPeriods.read(registry, ZONE).conflicted == {1}


def test_a_reorganised_chain_is_read_anew(chain: Chain, registry: Contract) -> None:
    devices = Devices()
    register(registry, devices.some(2))
    snapshot = chain.rpc("evm_snapshot")
    register(registry, devices.some(1))
    keys = KeyPeriods.read(registry, ZONE)
    assert keys.meters.tolist() == [1, 2, 3]
    chain.rpc("evm_revert", snapshot)
    chain._nonces.clear()  # the account's number went back with the blocks
    chain.mine(2)
    keys.follow()
    assert keys.meters.tolist() == [1, 2]
    chain.set_time(chain.now() + 5)
    registry.transact("rotate_key", 2, devices.new())
    keys.follow()
    agrees(registry, keys, [1, 2], [chain.now() - 1, chain.now()])


def test_a_node_that_is_away_changes_nothing(chain: Chain, registry: Contract) -> None:
    with AnvilNode() as node, Chain.local(node.url) as other:
        there = other.deploy("MeterRegistry", other.deployer.address)
        register(there, Devices().some(2))
        keys = KeyPeriods.read(there, ZONE)
        node.stop()
        with pytest.raises(CheckFailed, match="unreachable"):
            keys.follow()
    assert keys.meters.tolist() == [1, 2]


def test_the_key_of_a_slot_is_that_of_its_last_second() -> None:
    old, new = b"\x01" * 20, b"\x02" * 20
    keys = KeyPeriods({9: [Period(old, 0, 1_800), Period(new, 1_800)]})
    device, valid = keys.of_slots(np.array([9, 9, 9, 8]), np.array([0, 1, 2, 1]))
    assert [row.tobytes() for row in device[:3]] == [old, old, new]
    assert valid.tolist() == [True, True, True, False]


def test_a_rotation_inside_a_slot_counts_from_that_slot_on() -> None:
    old, new = b"\x01" * 20, b"\x02" * 20
    keys = KeyPeriods({9: [Period(old, 0, 1_000), Period(new, 1_000)]})
    device, _ = keys.of_slots(np.array([9, 9]), np.array([0, 1]))
    assert [row.tobytes() for row in device] == [old, new]


def test_a_meter_belongs_to_the_batches_from_its_first_key_on() -> None:
    keys = KeyPeriods({2: [Period(b"\x01" * 20, 900)], 1: [Period(b"\x02" * 20, 1_800)]})
    assert [keys.meters_before(t).tolist() for t in (900, 901, 1_800, 1_801)] == [
        [], [2], [2], [1, 2]
    ]  # fmt: skip


def test_no_meters_at_all_have_no_keys() -> None:
    keys = KeyPeriods.fixed({})
    device, valid = keys.of_slots(np.array([1]), np.array([1]))
    assert device.shape == (1, 20)
    assert valid.tolist() == [False]
    assert keys.device_at(1, 1) == b""
    assert keys.follow() == 0
