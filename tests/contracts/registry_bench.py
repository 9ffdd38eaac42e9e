# SPDX-License-Identifier: Apache-2.0
"""A registry to test: people, rotations by the registrar, who speaks when, and two receipts.

What it must do is said in test_meter_registry.py and test_signed_rotations.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boa

from dao.eip712 import address_of, compact, sign_digest
from dao.market.orders import market_separator, pack_wh, receipt_digest
from tests.contracts.market_world import CHAIN_ID, key_of, load

ZERO = "0x" + "00" * 20
START = 1_465_171_200
DAY = 86_400
MARKET = "0x" + "5a" * 20
SLOT = START // 900
HOURS = 4


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


LETTERS = "abcdefghijklmnopqrst"
PEOPLE = {
    name: address_of(key_of(name))
    for name in [*LETTERS, *(f"owner of {letter}" for letter in LETTERS)]
}


def new_registry() -> Registry:
    boa.env.evm.patch.chain_id = CHAIN_ID
    owner, registrar = (str(boa.env.generate_address(n)) for n in ("owner", "registrar"))
    with boa.env.prank(owner):
        return Registry(load("MeterRegistry", registrar), owner, registrar)


@contextmanager
def rolled_back(registry: Registry) -> Iterator[Registry]:
    """The registry at START; afterwards everything is as it was."""
    boa.env.evm.patch.chain_id = CHAIN_ID
    with boa.env.anchor():
        before, boa.env.timestamp = boa.env.timestamp, START
        yield registry
        boa.env.timestamp = before


def make_convictable(registry: Registry) -> None:
    """Meter 1 with device a, registered an hour before a session of four slots that is over."""
    at(-3_600)
    registry.register("a", "b")
    at(HOURS * 3_600)


def at(seconds: int) -> None:
    boa.env.timestamp = START + seconds


def rotate(registry: Registry, device: str, at_: int, meter: int = 1) -> None:
    """Rotate to a device from `at_` seconds after START on."""
    registry.contract.rotate_key(meter, PEOPLE[device], START + at_, sender=registry.registrar)


def speakers(registry: Registry, moments: Sequence[int], meter: int = 1) -> str:
    """Who speaks at each moment, in seconds after START; `-` for nobody."""
    names = {address: name for name, address in PEOPLE.items()} | {ZERO: "-"}
    found = [names[registry.contract.device_at(meter, START + moment)] for moment in moments]
    for name, moment in zip(found, moments, strict=True):
        assert [PEOPLE.get(name, ZERO)] == registry.contract.devices_at([meter], START + moment)
        for claimed, device in [*PEOPLE.items(), ("-", ZERO)]:
            holds = claimed == name != "-"
            assert speaks_for(registry, START + moment, (meter, device)) == holds
    return "".join(found)


def speaks_for(registry: Registry, when: int, *claims: tuple[int, str]) -> bool:
    """Whether each device is its meter's at that time."""
    words = [meter << 160 | int(device, 16) for meter, device in claims]
    return bool(registry.contract.speak_for(words + [0] * (16 - len(words)), when))


def fresh(meter: int, turn: int) -> str:
    return address_of(key_of(f"device {meter} {turn}"))


def ends_after(period: Sequence[Any], moment: int) -> bool:
    return period[2] is None or period[2] > moment


# Two receipts for one slot


@dataclass
class Receipt:
    """A delivery receipt of a session, and how it is signed; right in all but what a test says."""

    exports: Sequence[int]
    signer: str = "a"
    first_slot: int = SLOT
    meter: int = 1
    market: str = MARKET
    chain: int = CHAIN_ID

    def packed(self, **changes: Any) -> tuple[int, int, list[int], bytes, bytes]:
        separator = market_separator(self.chain, self.market)
        signed = sign_digest(
            key_of(self.signer),
            receipt_digest(separator, self.meter, self.first_slot, self.exports),
        )
        r, vs = compact(signed)
        fields = {
            "first_slot": self.first_slot,
            "slots": len(self.exports),
            "exports": pack_wh(self.exports),
            "r": r,
            "vs": vs,
        } | changes
        return tuple(fields.values())  # type: ignore[return-value]


HONEST = Receipt([100, 200, 300, 400])
OTHER = Receipt([100, 200, 301, 400])


def report(
    registry: Registry, one: Any, other: Any, *, slot: int = SLOT + 2, meter: int = 1
) -> list[Any]:
    """Anyone reports; the events of it."""
    packed = [one.packed() if isinstance(one, Receipt) else one for one in (one, other)]
    anyone = boa.env.generate_address("anyone")
    registry.contract.report_conflict(meter, MARKET, slot, *packed, sender=anyone)
    return list(registry.contract.get_logs())
