# SPDX-License-Identifier: Apache-2.0
"""A key hands over to the next one by signature: who may, when, how often, and what a thief of a
key can make of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import boa
import pytest

from dao.eip712 import address_of, compact
from dao.metering import KeyRotation, registry_separator, sign_rotation
from tests.contracts.market_world import CHAIN_ID, CURVE_ORDER, key_of
from tests.contracts.registry_bench import (
    DAY,
    HONEST,
    HOURS,
    OTHER,
    PEOPLE,
    SLOT,
    START,
    ZERO,
    Receipt,
    Registry,
    at,
    make_convictable,
    new_registry,
    report,
    rolled_back,
    rotate,
    speakers,
)

MONTH = 30 * DAY


@pytest.fixture(scope="module")
def deployed() -> Registry:
    return new_registry()


@pytest.fixture
def registry(deployed: Registry) -> Iterator[Registry]:
    """Meter 1 with device a, meter 2 with device t."""
    with rolled_back(deployed) as registry:
        registry.register("a", "t")
        yield registry


@dataclass(frozen=True)
class Handover:
    """A signed rotation of meter 1, right in all but what a test says; times after START."""

    old: str
    new: str
    start: int
    deadline: int = 10**8
    meter: int = 1
    chain: int = CHAIN_ID
    # Seconds of the terms that the signatures are of, where they are of others.
    signed_start: int | None = None
    signed_device: str | None = None

    def sign(self, registry: Registry, by: str, address: str = "") -> bytes:
        terms = KeyRotation(
            self.meter,
            PEOPLE[self.signed_device or self.new],
            START + (self.start if self.signed_start is None else self.signed_start),
            START + self.deadline,
        )
        separator = registry_separator(self.chain, address or registry.contract.address)
        return sign_rotation(separator, key_of(by), terms)

    def bring(self, registry: Registry, **changes: Any) -> None:
        fields = {
            "meter": self.meter,
            "device": PEOPLE[self.new],
            "valid_from": START + self.start,
            "deadline": START + self.deadline,
            "old_signature": self.sign(registry, self.old),
            "new_signature": self.sign(registry, self.new),
        } | changes
        anyone = boa.env.generate_address("anyone")
        registry.contract.rotate_key_signed(*fields.values(), sender=anyone)


def hand_over(registry: Registry, old: str, new: str, start: int, **changes: Any) -> None:
    Handover(old, new, start, **changes).bring(registry)


def test_a_key_hands_over_to_the_next_and_anyone_brings_it(registry: Registry) -> None:
    hand_over(registry, "a", "b", 500)
    (event,) = registry.contract.get_logs()
    assert type(event).__name__ == "KeyRotated"
    assert (event.meter, event.device, event.valid_from) == (1, PEOPLE["b"], START + 500)
    assert speakers(registry, [-1, 0, 499, 500, 10**6]) == "-aabb"
    assert registry.contract.meter_of_device(PEOPLE["b"]) == 1


def test_a_handover_costs_little_more_than_the_registrars_rotation() -> None:
    """Outside of any anchor, so that every word of storage is cold."""
    before, boa.env.timestamp = boa.env.timestamp, START
    registry = new_registry()
    registry.register("a", "t")
    used = []
    for step in (
        lambda: rotate(registry, "b", 0, meter=2),
        lambda: hand_over(registry, "a", "c", 0),
    ):
        boa.env.reset_gas_used()
        step()
        used.append(registry.contract._computation.get_gas_used())
    boa.env.timestamp = before
    # Two recoveries at 3,000 gas each, and the calldata stands outside of the computation.
    assert used[1] - used[0] < 12_000
    assert used[1] < 90_000


def test_compact_signatures_count_too(registry: Registry) -> None:
    made = Handover("a", "b", 500)
    short = {
        f"{name}_signature": b"".join(compact(made.sign(registry, by)))
        for name, by in (("old", "a"), ("new", "b"))
    }
    made.bring(registry, **short)
    assert speakers(registry, [499, 500]) == "ab"


def test_a_handover_begins_between_now_and_thirty_days_ahead(registry: Registry) -> None:
    at(1_000)
    for start in (999, 1_001 + MONTH):
        with boa.reverts("registry: start out of range"):
            hand_over(registry, "a", "b", start)
    hand_over(registry, "a", "b", 1_000 + MONTH)
    hand_over(registry, "a", "c", 1_000)
    assert speakers(registry, [999, 1_000]) == "ac"


def test_a_handover_counts_up_to_its_deadline(registry: Registry) -> None:
    made = Handover("a", "b", 900, deadline=100)
    at(101)
    with boa.reverts("registry: signatures have expired"):
        made.bring(registry)
    at(100)
    made.bring(registry)
    assert speakers(registry, [899, 900]) == "ab"


# Whose signatures


@pytest.mark.parametrize("thief", ["b", "c", "t"])
def test_only_the_key_in_force_hands_over(registry: Registry, thief: str) -> None:
    with boa.reverts("registry: not signed by the key in force"):
        hand_over(registry, thief, "b", 500)


def test_no_device_is_brought_in_that_did_not_sign(registry: Registry) -> None:
    """Else a thief could spend the device that another home is about to install."""
    made = Handover("a", "b", 500)
    with boa.reverts("registry: not signed by the device"):
        made.bring(registry, new_signature=made.sign(registry, "a"))
    assert registry.contract.meter_of_device(PEOPLE["b"]) == 0


@pytest.mark.parametrize(
    "signed",
    [
        Handover("a", "b", 500, chain=1),
        Handover("a", "b", 500, signed_start=501),
        Handover("a", "b", 500, signed_device="c"),
        Handover("a", "b", 500, deadline=1_000),
        Handover("a", "b", 500, meter=2),
    ],
    ids=["another chain", "another start", "another device", "another deadline", "another meter"],
)
@pytest.mark.parametrize("which", ["old", "new"])
def test_signatures_of_other_terms_are_refused(
    registry: Registry, signed: Handover, which: str
) -> None:
    by, whose = {"old": ("a", "key in force"), "new": ("b", "device")}[which]
    with boa.reverts(f"registry: not signed by the {whose}"):
        Handover("a", "b", 500).bring(registry, **{f"{which}_signature": signed.sign(registry, by)})
    assert speakers(registry, [500]) == "a"


def test_signatures_for_another_registry_are_refused(registry: Registry) -> None:
    made = Handover("a", "b", 500)
    other = str(boa.env.generate_address("another registry"))
    with boa.reverts("registry: not signed by the key in force"):
        made.bring(registry, old_signature=made.sign(registry, "a", other))
    with boa.reverts("registry: not signed by the device"):
        made.bring(registry, new_signature=made.sign(registry, "b", other))


def twin(signature: bytes) -> bytes:
    """The other signature that fits: s in the upper half, the other parity."""
    s = CURVE_ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])


@pytest.mark.parametrize("which", ["old", "new"])
def test_a_signature_in_the_upper_half_is_refused(registry: Registry, which: str) -> None:
    made = Handover("a", "b", 500)
    high = twin(made.sign(registry, {"old": "a", "new": "b"}[which]))
    with boa.reverts("ecdsa: invalid signature `s` value"):
        made.bring(registry, **{f"{which}_signature": high})


@pytest.mark.parametrize("which", ["old", "new"])
@pytest.mark.parametrize(
    "junk",
    [b"", bytes(63), bytes(64), bytes(65), b"\xff" * 65],
    ids=["nothing", "too short", "zeros", "more zeros", "ones"],
)
def test_what_is_no_signature_is_refused(registry: Registry, which: str, junk: bytes) -> None:
    for device in (PEOPLE["b"], ZERO):
        with boa.reverts():
            Handover("a", "b", 500).bring(registry, device=device, **{f"{which}_signature": junk})


def test_a_device_that_speaks_or_spoke_for_a_meter_is_not_handed_over_to(
    registry: Registry,
) -> None:
    for device in ("a", "t"):
        with boa.reverts("registry: device already speaks for a meter"):
            hand_over(registry, "a", device, 500)
    hand_over(registry, "a", "b", 0)
    with boa.reverts("registry: device already speaks for a meter"):
        hand_over(registry, "b", "a", 500)


@pytest.mark.parametrize("meter", [0, 3, 2**32 - 1])
def test_a_meter_without_a_key_hands_nothing_over(registry: Registry, meter: int) -> None:
    with boa.reverts("registry: no key in force"):
        hand_over(registry, "a", "b", 500, meter=meter)
    with boa.reverts():
        Handover("a", "b", 500).bring(registry, meter=2**32 + 1)


# Once, and in which order


def test_a_handover_is_not_brought_twice(registry: Registry) -> None:
    hand_over(registry, "a", "b", 500)
    with boa.reverts("registry: device already speaks for a meter"):
        hand_over(registry, "a", "b", 500)
    at(500)
    with boa.reverts("registry: not signed by the key in force"):
        hand_over(registry, "a", "b", 500)


def test_a_handover_that_was_replaced_does_not_come_back(registry: Registry) -> None:
    """Its signatures are known to all and not expired; the device that it named is spent."""
    hand_over(registry, "a", "b", 500)
    hand_over(registry, "a", "c", 700)
    for start in (500, 900):
        with boa.reverts("registry: device already speaks for a meter"):
            hand_over(registry, "a", "b", start)
    with boa.reverts("registry: device already speaks for a meter"):
        registry.register("b")
    assert speakers(registry, [499, 500, 699, 700]) == "aaac"


def test_a_key_that_is_to_come_hands_nothing_over_yet(registry: Registry) -> None:
    hand_over(registry, "a", "b", 500)
    with boa.reverts("registry: not signed by the key in force"):
        hand_over(registry, "b", "c", 700)
    at(500)
    hand_over(registry, "b", "c", 700)
    assert speakers(registry, [499, 500, 699, 700]) == "abbc"


def test_the_registrar_replaces_a_handover(registry: Registry) -> None:
    hand_over(registry, "a", "b", 500)
    rotate(registry, "c", 800)
    assert speakers(registry, [500, 799, 800]) == "aac"
    # Not spent: nothing that the key in force signs comes past the registrar's rotation.
    assert registry.contract.meter_of_device(PEOPLE["b"]) == 0
    for device in "bd":
        with boa.reverts("registry: the registrar has set the next key"):
            hand_over(registry, "a", device, 500)


def test_the_registrar_may_put_off_the_device_that_was_handed_over_to(registry: Registry) -> None:
    hand_over(registry, "a", "b", 500)
    rotate(registry, "b", 800)
    assert speakers(registry, [500, 799, 800]) == "aab"
    with boa.reverts("registry: the registrar has set the next key"):
        hand_over(registry, "a", "c", 600)


def test_what_the_registrar_set_keeps_its_time_and_then_hands_over(registry: Registry) -> None:
    rotate(registry, "b", 500)
    with boa.reverts("registry: the registrar has set the next key"):
        hand_over(registry, "a", "c", 100)
    at(500)
    with boa.reverts("registry: not signed by the key in force"):
        hand_over(registry, "a", "c", 600)
    hand_over(registry, "b", "c", 600)
    assert speakers(registry, [499, 500, 599, 600]) == "abbc"


# A key that was taken away


def test_a_suspended_key_hands_nothing_over(registry: Registry) -> None:
    at(100)
    registry.contract.suspend_key(1, sender=registry.registrar)
    with boa.reverts("registry: no key in force"):
        hand_over(registry, "a", "b", 500)


def test_a_handover_to_come_falls_with_the_suspended_key(registry: Registry) -> None:
    hand_over(registry, "a", "b", 500)
    at(100)
    registry.contract.suspend_key(1, sender=registry.registrar)
    assert [(e.device, e.valid_to) for e in registry.contract.get_logs()] == [
        (PEOPLE["a"], START + 100),
        (PEOPLE["b"], START + 500),
    ]
    assert speakers(registry, [99, 100, 499, 500, 10**6]) == "a----"
    at(600)
    for old in "ab":
        with boa.reverts("registry: no key in force"):
            hand_over(registry, old, "c", 700)
    rotate(registry, "d", 700)
    assert speakers(registry, [99, 100, 699, 700]) == "a--d"


def test_the_registrar_sets_a_key_in_place_of_the_handover_that_fell(registry: Registry) -> None:
    hand_over(registry, "a", "b", 500)
    at(100)
    registry.contract.suspend_key(1, sender=registry.registrar)
    rotate(registry, "c", 200)
    assert speakers(registry, [99, 100, 199, 200, 500]) == "a--cc"


def test_a_thief_ahead_of_the_suspension_gains_nothing(registry: Registry) -> None:
    """Whatever key is in force when it lands, it ends, and what that one has signed for."""
    for start in (100, 101, 100 + MONTH):
        with boa.env.anchor():
            at(100)
            hand_over(registry, "a", "b", start)
            registry.contract.suspend_key(1, sender=registry.registrar)
            assert speakers(registry, [100, start, 10**8]) == "---"


def test_a_rotation_that_the_registrar_set_outlives_the_suspended_key(registry: Registry) -> None:
    rotate(registry, "b", 500)
    at(100)
    registry.contract.suspend_key(1, sender=registry.registrar)
    assert speakers(registry, [99, 100, 499, 500]) == "a--b"


@pytest.fixture
def convictable(deployed: Registry) -> Iterator[Registry]:
    with rolled_back(deployed) as registry:
        make_convictable(registry)
        yield registry


NOW = HOURS * 3_600


def test_a_convicted_key_hands_nothing_over(convictable: Registry) -> None:
    report(convictable, HONEST, OTHER)
    with boa.reverts("registry: no key in force"):
        hand_over(convictable, "a", "c", NOW + 10)


def test_a_handover_to_come_falls_with_the_convicted_key(convictable: Registry) -> None:
    hand_over(convictable, "a", "c", NOW + 1_000)
    first, second, _ = report(convictable, HONEST, OTHER)
    assert (first.device, first.valid_to) == (PEOPLE["a"], START)
    assert (second.device, second.valid_to) == (PEOPLE["c"], START + NOW + 1_000)
    assert speakers(convictable, [-1, 0, NOW, NOW + 1_000, 10**6]) == "a----"


def test_whoever_hands_over_ahead_of_the_report_gains_nothing(convictable: Registry) -> None:
    """The heirs end now, and what they signed before still counts."""
    hand_over(convictable, "a", "c", NOW)
    at(NOW + 100)
    hand_over(convictable, "c", "d", NOW + 100)
    hand_over(convictable, "d", "e", NOW + 900)
    at(NOW + 200)
    *ended, _ = report(convictable, HONEST, OTHER)
    assert [e.device for e in ended] == [PEOPLE[name] for name in "ade"]
    moments = [-1, 0, NOW - 1, NOW, NOW + 99, NOW + 100, NOW + 199, NOW + 200, NOW + 900, 10**7]
    assert speakers(convictable, moments) == "a--ccdd---"
    with boa.reverts("registry: no key in force"):
        hand_over(convictable, "d", "f", NOW + 900)


def test_an_heir_falls_only_within_thirty_days(convictable: Registry) -> None:
    """Or whoever finds a device that was thrown away could end the meter's key of today."""
    hand_over(convictable, "a", "c", NOW)
    for later, expected in ((MONTH, "cc-"), (MONTH + 1, "ccc")):
        with boa.env.anchor():
            at(NOW + later)
            report(convictable, HONEST, OTHER)
            assert speakers(convictable, [NOW, NOW + later - 1, NOW + later]) == expected
            assert speakers(convictable, [-1, 0]) == "a-"


def test_a_key_that_the_registrar_set_does_not_fall_with_the_one_before(
    convictable: Registry,
) -> None:
    hand_over(convictable, "a", "c", NOW)
    at(NOW + 100)
    rotate(convictable, "d", NOW + 100)
    hand_over(convictable, "d", "e", NOW + 900)
    report(convictable, HONEST, OTHER)
    moments = [-1, 0, NOW, NOW + 99, NOW + 100, NOW + 899, NOW + 900]
    assert speakers(convictable, moments) == "a-ccdde"


def test_a_rotation_that_the_registrar_set_outlives_the_heirs(convictable: Registry) -> None:
    hand_over(convictable, "a", "c", NOW)
    rotate(convictable, "d", NOW + 900)
    at(NOW + 100)
    report(convictable, HONEST, OTHER)
    assert speakers(convictable, [NOW, NOW + 99, NOW + 100, NOW + 899, NOW + 900]) == "cc--d"


def test_the_key_that_handed_over_to_the_convicted_one_stays(convictable: Registry) -> None:
    hand_over(convictable, "a", "c", NOW)
    late = [Receipt([wh], signer="c", first_slot=SLOT + 4 * HOURS) for wh in (1, 2)]
    at(NOW + 900)
    ended, _ = report(convictable, *late, slot=SLOT + 4 * HOURS)
    assert ended.device == PEOPLE["c"]
    assert speakers(convictable, [-1, NOW - 1, NOW, NOW + 900]) == "aa--"


# How many


def test_a_thief_leaves_two_keys_to_the_registrar(registry: Registry) -> None:
    for number, (old, new) in enumerate(zip("abcde", "bcdef", strict=True), start=1):
        at(number)
        hand_over(registry, old, new, number)
    with boa.reverts("registry: too many signed rotations"):
        hand_over(registry, "f", "g", 100)
    rotate(registry, "h", 100)
    at(100)
    with boa.reverts("registry: too many signed rotations"):
        hand_over(registry, "h", "g", 200)
    rotate(registry, "i", 200)
    at(200)
    with boa.reverts("registry: too many keys"):
        rotate(registry, "j", 300)
    assert speakers(registry, [0, 1, 2, 3, 4, 5, 99, 100, 200]) == "abcdeffhi"


def test_replaced_handovers_use_up_no_keys(registry: Registry) -> None:
    for number, device in enumerate("bcdefghij"):
        hand_over(registry, "a", device, 500 + number)
    at(600)
    for number, (old, new) in enumerate(zip("jklm", "klmn", strict=True)):
        at(600 + number)
        hand_over(registry, old, new, 600 + number)
    with boa.reverts("registry: too many signed rotations"):
        hand_over(registry, "n", "o", 700)
    assert speakers(registry, [507, 508, 599, 600, 603, 10**6]) == "ajjknn"


# Against a plain list


@dataclass
class Period:
    device: str
    start: int
    end: int | None
    signed: bool

    def holds(self, moment: int) -> bool:
        return self.start <= moment and (self.end is None or moment < self.end)


class Refused(Exception):
    """With the reason that the registry must give."""


class Keys:
    """A meter's keys as a list; times after START."""

    def __init__(self, device: str) -> None:
        self.periods = [Period(device, 0, None, signed=False)]
        self.used = {device}

    def speaker(self, moment: int) -> str:
        return next((p.device for p in self.periods if p.holds(moment)), "")

    def rotate(self, now: int, device: str, start: int, by: str) -> None:
        """by: the key that hands over, or nobody where the registrar rotates."""
        last = self.periods[-1]
        pending = last.start > now
        if by:
            if not self.speaker(now):
                raise Refused("no key in force")
            if pending and not last.signed:
                raise Refused("the registrar has set the next key")
            if self.speaker(now) != by:
                raise Refused("not signed by the key in force")
        if not now <= start <= now + MONTH:
            raise Refused("start out of range")
        if not pending and len(self.periods) == 8:
            raise Refused("too many keys")
        if not pending and by and len(self.periods) >= 6:
            raise Refused("too many signed rotations")
        freed = {last.device} if pending and not by else set()
        if device in self.used - freed:
            raise Refused("device already speaks for a meter")
        self.used = self.used - freed | {device}
        if pending:
            self.periods.pop()
            if self.periods[-1].end == last.start:
                self.periods[-1].end = start
        elif last.end is None:
            last.end = start
        self.periods.append(Period(device, start, None, signed=bool(by)))

    def end(self, now: int, device: str, moment: int) -> None:
        place = next(i for i, p in enumerate(self.periods) if p.device == device)
        self.periods[place].end = moment
        for heir in self.periods[place + 1 :]:
            if not heir.signed or heir.start < now - MONTH:
                break
            if heir.start > now:
                heir.end = heir.start
            elif heir.holds(now):
                heir.end = now

    def suspend(self, now: int) -> None:
        if not self.speaker(now):
            raise Refused("no key in force")
        self.end(now, self.speaker(now), now)

    def convict(self, now: int, slot: int) -> None:
        """By receipts of a slot, counted from START's, by the key of its last second."""
        last_second = 900 * slot + 899
        if last_second >= now:
            raise Refused("delivery is not over")
        device = self.speaker(last_second)
        if not device:
            raise Refused("no key in force")
        start = next(p.start for p in self.periods if p.device == device)
        self.end(now, device, max(900 * slot, start))


def take_turn(rng: random.Random, registry: Registry, keys: Keys, meter: int, now: int) -> str:
    """Do something to a meter's keys, there and in the list; what it was, or why it was refused."""
    what = rng.choice(("hand over",) * 4 + ("rotate", "rotate", "suspend", "convict"))
    new = spare(meter, rng.randrange(DEVICES))
    start = now + rng.choice((0, 0, 1, 700, 3_000, MONTH, MONTH + 1, -1))
    old = keys.speaker(now) if rng.random() < 0.9 else ""
    old = old or rng.choice(keys.periods).device
    slot = max(0, now // 900 - rng.choice((0, 1, 1, 2, 5)))
    signer = keys.speaker(900 * slot + 899) or old
    shown = [Receipt([wh], signer=signer, first_slot=SLOT + slot, meter=meter) for wh in (1, 2)]
    expected: Callable[[], None]
    actual: Callable[[], Any]
    expected, actual = {
        "hand over": (
            lambda: keys.rotate(now, new, start, old),
            lambda: hand_over(registry, old, new, start, meter=meter),
        ),
        "rotate": (
            lambda: keys.rotate(now, new, start, ""),
            lambda: rotate(registry, new, start, meter=meter),
        ),
        "suspend": (
            lambda: keys.suspend(now),
            lambda: registry.contract.suspend_key(meter, sender=registry.registrar),
        ),
        "convict": (
            lambda: keys.convict(now, slot),
            lambda: report(registry, *shown, slot=SLOT + slot, meter=meter),
        ),
    }[what]
    try:
        expected()
    except Refused as refusal:
        with boa.reverts(f"registry: {refusal}"):
            actual()
        return str(refusal)
    actual()
    return what


def spare(meter: int, number: int) -> str:
    """The name of a device that could come to the meter."""
    return f"device {number} of {meter}"


METERS, DEVICES = range(1, 13), 26
EVERYTHING = {
    "hand over", "rotate", "suspend", "convict", "no key in force", "start out of range",
    "the registrar has set the next key", "not signed by the key in force", "delivery is not over",
    "too many signed rotations", "device already speaks for a meter",
}  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
def test_handovers_rotations_suspensions_and_convictions_in_any_order(
    deployed: Registry, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    for name in (spare(meter, number) for meter in METERS for number in range(DEVICES)):
        monkeypatch.setitem(PEOPLE, name, address_of(key_of(name)))
    rng = random.Random(seed)
    reached = set()
    with rolled_back(deployed) as registry:
        for meter in METERS:
            at(0)
            keys, now = Keys(spare(meter, 0)), 0
            devices = [PEOPLE[spare(meter, 0)]]
            registry.contract.register_batch(
                [PEOPLE["owner of a"]], devices, 1, sender=registry.registrar
            )
            moments = {0}
            for _ in range(30):
                now += rng.choice((0, 1, 450, 450, 2_000, rng.choice((900, 900, 20 * DAY))))
                at(now)
                reached.add(take_turn(rng, registry, keys, meter, now))
                moments |= {m for p in keys.periods for m in (p.start, p.end or 0)}
            edges = sorted({m + shift for m in moments for shift in (-1, 0, 1)})
            for moment in rng.sample(edges, min(24, len(edges))):
                speaker = PEOPLE.get(keys.speaker(moment), ZERO)
                when = START + moment
                assert registry.contract.device_at(meter, when) == speaker, (meter, moment)
                assert registry.contract.devices_at([meter], when) == [speaker]
    assert reached >= EVERYTHING
