# SPDX-License-Identifier: Apache-2.0
"""Who owns a metering point, and which device key speaks for it when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boa
import pytest

from dao.eip712 import address_of
from tests.contracts.market_world import key_of, load

ZERO = "0x" + "00" * 20
START = 1_465_171_200


@dataclass
class Registry:
    contract: Any
    owner: str
    registrar: str

    def register(self, *names: str, zone: int = 1) -> None:
        self.contract.register_batch(
            [PEOPLE[f"owner of {n}"] for n in names],
            [PEOPLE[n] for n in names],
            zone,
            sender=self.registrar,
        )


PEOPLE = {
    name: address_of(key_of(name))
    for name in [*"abcdefghi", *(f"owner of {letter}" for letter in "abcdefghi")]
}


@pytest.fixture(scope="module")
def deployed() -> Registry:
    owner, registrar = (str(boa.env.generate_address(n)) for n in ("owner", "registrar"))
    with boa.env.prank(owner):
        return Registry(load("MeterRegistry", registrar), owner, registrar)


@pytest.fixture
def registry(deployed: Registry) -> Iterator[Registry]:
    with boa.env.anchor():
        before, boa.env.timestamp = boa.env.timestamp, START
        yield deployed
        boa.env.timestamp = before


def at(seconds: int) -> None:
    boa.env.timestamp = START + seconds


def test_points_are_numbered_from_one_and_know_owner_and_zone(registry: Registry) -> None:
    registry.register("a", "b")
    registry.register("c", zone=1_023)
    c = registry.contract
    assert c.meter_count() == 3
    assert c.metering_point(1) == (PEOPLE["owner of a"], 1)
    assert c.metering_point(3) == (PEOPLE["owner of c"], 1_023)
    assert c.meter_of_device(PEOPLE["b"]) == 2


def test_a_registration_is_announced(registry: Registry) -> None:
    registry.register("a", "b")
    events = registry.contract.get_logs()
    assert [(e.meter, e.owner, e.zone, e.device) for e in events] == [
        (1, PEOPLE["owner of a"], 1, PEOPLE["a"]),
        (2, PEOPLE["owner of b"], 1, PEOPLE["b"]),
    ]


@pytest.mark.parametrize("meter", [0, 1, 2**256 - 1])
def test_an_unknown_point_has_no_owner_no_zone_and_no_key(registry: Registry, meter: int) -> None:
    assert registry.contract.metering_point(meter) == (ZERO, 0)
    assert registry.contract.device_at(meter, START) == ZERO


def test_only_the_registrar_registers_rotates_and_suspends(registry: Registry) -> None:
    registry.register("a")
    c = registry.contract
    for caller in (registry.owner, PEOPLE["owner of a"]):
        with boa.reverts("registry: caller is not the registrar"):
            c.register_batch([PEOPLE["owner of b"]], [PEOPLE["b"]], 1, sender=caller)
        with boa.reverts("registry: caller is not the registrar"):
            c.rotate_key(1, PEOPLE["b"], sender=caller)
        with boa.reverts("registry: caller is not the registrar"):
            c.suspend_key(1, sender=caller)


def test_only_the_owner_appoints_the_registrar(registry: Registry) -> None:
    c = registry.contract
    with boa.reverts("ownable: caller is not the owner"):
        c.set_registrar(PEOPLE["a"], sender=registry.registrar)
    c.set_registrar(PEOPLE["a"], sender=registry.owner)
    assert [e.registrar for e in c.get_logs()] == [PEOPLE["a"]]
    with boa.reverts("registry: caller is not the registrar"):
        registry.register("b")


def test_an_empty_office_registers_nothing(registry: Registry) -> None:
    registry.contract.set_registrar(ZERO, sender=registry.owner)
    with boa.reverts("registry: caller is not the registrar"):
        registry.register("a")


def test_the_owner_hands_over_once_and_for_all(registry: Registry) -> None:
    c = registry.contract
    c.transfer_ownership(PEOPLE["a"], sender=registry.owner)
    with boa.reverts("ownable: caller is not the owner"):
        c.set_registrar(PEOPLE["b"], sender=registry.owner)
    c.set_registrar(PEOPLE["b"], sender=PEOPLE["a"])


def test_a_batch_with_one_unusable_entry_registers_nothing(registry: Registry) -> None:
    c, by = registry.contract, registry.registrar
    a, b = PEOPLE["a"], PEOPLE["b"]
    for owners, devices, zone, reason in (
        ([a, b], [a], 1, "one device per owner"),
        ([a], [a], 0, "zone out of range"),
        ([a], [a], 1_024, "zone out of range"),
        ([a, ZERO], [a, b], 1, "owner is the zero address"),
        ([a, b], [a, ZERO], 1, "device is the zero address"),
        ([a, b], [a, a], 1, "device already speaks for a meter"),
    ):
        with boa.reverts(f"registry: {reason}"):
            c.register_batch(owners, devices, zone, sender=by)
    assert c.meter_count() == 0
    assert c.meter_of_device(a) == 0


def test_a_device_speaks_for_one_meter_even_after_its_time(registry: Registry) -> None:
    registry.register("a", "b")
    c = registry.contract
    with boa.reverts("registry: device already speaks for a meter"):
        registry.register("a")
    c.rotate_key(1, PEOPLE["c"], sender=registry.registrar)
    with boa.reverts("registry: device already speaks for a meter"):
        c.rotate_key(2, PEOPLE["a"], sender=registry.registrar)
    with boa.reverts("registry: device is the zero address"):
        c.rotate_key(2, ZERO, sender=registry.registrar)


def test_a_key_is_valid_from_its_registration_on(registry: Registry) -> None:
    registry.register("a")
    c = registry.contract
    assert c.device_at(1, START - 1) == ZERO
    assert c.device_at(1, START) == PEOPLE["a"]
    assert c.device_at(1, START + 10**9) == PEOPLE["a"]


def test_each_key_speaks_for_its_own_period(registry: Registry) -> None:
    registry.register("a")
    c = registry.contract
    at(100)
    c.rotate_key(1, PEOPLE["b"], sender=registry.registrar)
    (event,) = c.get_logs()
    assert (event.meter, event.device, event.valid_from) == (1, PEOPLE["b"], START + 100)
    at(200)
    c.suspend_key(1, sender=registry.registrar)
    (event,) = c.get_logs()
    assert (event.meter, event.device, event.valid_to) == (1, PEOPLE["b"], START + 200)
    at(300)
    c.rotate_key(1, PEOPLE["c"], sender=registry.registrar)
    expected = {-1: ZERO, 0: "a", 99: "a", 100: "b", 199: "b", 200: ZERO, 299: ZERO, 300: "c"}
    for moment, name in expected.items():
        assert c.device_at(1, START + moment) == PEOPLE.get(name, ZERO), moment


def test_a_key_replaced_within_a_second_never_spoke(registry: Registry) -> None:
    registry.register("a")
    registry.contract.rotate_key(1, PEOPLE["b"], sender=registry.registrar)
    assert registry.contract.device_at(1, START) == PEOPLE["b"]


def test_a_suspended_or_unknown_meter_has_no_key_to_suspend(registry: Registry) -> None:
    registry.register("a")
    c = registry.contract
    c.suspend_key(1, sender=registry.registrar)
    for meter in (1, 2):
        with boa.reverts("registry: no key in force"):
            c.suspend_key(meter, sender=registry.registrar)
    with boa.reverts("registry: unknown meter"):
        c.rotate_key(2, PEOPLE["b"], sender=registry.registrar)


def test_a_meter_has_at_most_eight_keys_in_its_life(registry: Registry) -> None:
    registry.register("a")
    c = registry.contract
    for n, name in enumerate("bcdefgh"):
        at(n + 1)
        c.rotate_key(1, PEOPLE[name], sender=registry.registrar)
    with boa.reverts("registry: too many keys"):
        c.rotate_key(1, PEOPLE["i"], sender=registry.registrar)
    # The last key is still in force, and so are the periods of all before it.
    assert [c.device_at(1, START + n) for n in range(9)] == [PEOPLE[x] for x in "abcdefghh"]


def test_many_keys_are_looked_up_at_once_in_the_order_asked(registry: Registry) -> None:
    registry.register("a", "b", "c")
    c = registry.contract
    c.suspend_key(2, sender=registry.registrar)
    assert c.devices_at([3, 2, 1, 3, 9], START) == [
        PEOPLE["c"], ZERO, PEOPLE["a"], PEOPLE["c"], ZERO
    ]  # fmt: skip
    assert c.devices_at([], START) == []
