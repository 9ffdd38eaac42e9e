# SPDX-License-Identifier: Apache-2.0
"""Who owns a metering point, which device key speaks for it when, and how a device loses it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import boa
import coincurve
import pytest

from dao.eip712 import address_of, compact, sign_digest
from dao.market.orders import market_separator, pack_wh, receipt_digest
from tests.contracts.market_world import CHAIN_ID, load
from tests.contracts.registry_bench import (
    DAY,
    HONEST,
    HOURS,
    MARKET,
    OTHER,
    PEOPLE,
    SLOT,
    START,
    ZERO,
    Receipt,
    Registry,
    at,
    ends_after,
    fresh,
    make_convictable,
    new_registry,
    report,
    rolled_back,
    rotate,
    speakers,
    speaks_for,
)

# The order of secp256k1, from SEC 2.
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@pytest.fixture(scope="module")
def deployed() -> Registry:
    return new_registry()


@pytest.fixture
def registry(deployed: Registry) -> Iterator[Registry]:
    with rolled_back(deployed) as registry:
        yield registry


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


def test_a_number_that_no_meter_can_have_is_not_looked_up(registry: Registry) -> None:
    with boa.reverts():
        registry.contract.devices_at([2**32], START)
    assert registry.contract.devices_at([2**32 - 1], START) == [ZERO]


def test_the_usual_lookup_reads_one_word_a_meter() -> None:
    contract = load("MeterRegistry", str(boa.env.eoa))
    people = [str(boa.env.generate_address()) for _ in range(128)]
    contract.register_batch(people, people, 1)
    used = []
    for count in (28, 128):
        boa.env.reset_gas_used()
        contract.devices_at(list(range(1, count + 1)), boa.env.timestamp)
        used.append(contract._computation.get_gas_used())
    # A cold word costs 2,100 gas.
    assert (used[1] - used[0]) / 100 < 2_100 + 400


# Rotation ahead of time


def test_claims_hold_together_or_not_at_all(registry: Registry) -> None:
    registry.register("a", "b", "c")
    right = [(1, PEOPLE["a"]), (2, PEOPLE["b"]), (3, PEOPLE["c"])]
    assert speaks_for(registry, START)
    assert speaks_for(registry, START, *right)
    assert not speaks_for(registry, START, *right[:2], (3, PEOPLE["a"]))
    assert not speaks_for(registry, START, (9, PEOPLE["a"]))
    with boa.reverts():
        speaks_for(registry, START, (2**32, PEOPLE["a"]))


def test_a_rotation_ahead_ends_the_old_key_where_the_new_one_begins(registry: Registry) -> None:
    registry.register("a")
    rotate(registry, "b", 500)
    (event,) = registry.contract.get_logs()
    assert (event.meter, event.device, event.valid_from) == (1, PEOPLE["b"], START + 500)
    moments = [-1, 0, 499, 500, 10**6]
    assert speakers(registry, moments) == "-aabb"
    at(700)
    assert speakers(registry, moments) == "-aabb"


def test_a_rotation_begins_between_now_and_thirty_days_ahead(registry: Registry) -> None:
    registry.register("a")
    at(1_000)
    for start in (999, 1_000 + 30 * DAY + 1):
        with boa.reverts("registry: start out of range"):
            rotate(registry, "b", start)
    rotate(registry, "b", 1_000 + 30 * DAY)
    rotate(registry, "c", 1_000)
    assert speakers(registry, [999, 1_000]) == "ac"


@pytest.mark.parametrize("start", [200, 500, 900])
def test_a_rotation_that_has_not_begun_is_replaced(registry: Registry, start: int) -> None:
    registry.register("a")
    rotate(registry, "b", 500)
    at(200)
    rotate(registry, "c", start)
    assert speakers(registry, [start - 1, start, 10**6]) == "acc"
    # The device that was to come never spoke, and may speak for another meter.
    assert registry.contract.meter_of_device(PEOPLE["b"]) == 0
    registry.register("b")
    assert speakers(registry, [200, 10**6], meter=2) == "bb"


def test_a_rotation_that_has_begun_is_not_replaced(registry: Registry) -> None:
    registry.register("a")
    rotate(registry, "b", 500)
    at(500)
    rotate(registry, "c", 800)
    assert speakers(registry, [499, 500, 799, 800]) == "abbc"
    assert registry.contract.meter_of_device(PEOPLE["b"]) == 1


def test_replaced_rotations_do_not_use_up_keys(registry: Registry) -> None:
    registry.register("a")
    for turn in range(20):
        rotate(registry, "bc"[turn % 2], 500 + turn)
    for number, name in enumerate("defghi"):
        at(1_000 + number)
        rotate(registry, name, 1_000 + number)
    with boa.reverts("registry: too many keys"):
        rotate(registry, "j", 2_000)
    assert speakers(registry, [0, 518, 519, *range(1_000, 1_006)]) == "aacdefghi"


def test_the_same_device_can_be_put_off(registry: Registry) -> None:
    registry.register("a")
    rotate(registry, "b", 500)
    rotate(registry, "b", 900)
    assert speakers(registry, [500, 899, 900]) == "aab"


def test_a_suspended_key_stays_so_when_a_rotation_is_put_off(registry: Registry) -> None:
    registry.register("a")
    rotate(registry, "b", 500)
    at(100)
    registry.contract.suspend_key(1, sender=registry.registrar)
    (event,) = registry.contract.get_logs()
    assert (event.device, event.valid_to) == (PEOPLE["a"], START + 100)
    assert speakers(registry, [99, 100, 499, 500]) == "a--b"
    rotate(registry, "c", 800)
    assert speakers(registry, [99, 100, 500, 799, 800]) == "a---c"
    with boa.reverts("registry: no key in force"):
        registry.contract.suspend_key(1, sender=registry.registrar)


def test_the_periods_are_those_of_a_plain_list(registry: Registry) -> None:
    rng = random.Random(3)
    c = registry.contract
    for meter in range(1, 7):
        at(0)
        c.register_batch([PEOPLE["a"]], [fresh(meter, 0)], 1, sender=registry.registrar)
        # [device, start, end], newest last; an end of None is open.
        periods: list[list[Any]] = [[fresh(meter, 0), START, None]]
        now, moments = 0, [0]
        for turn in range(1, 40):
            now += rng.choice((0, 1, 1_000))
            at(now)
            pending = periods[-1][1] > START + now
            if rng.random() < 0.7:
                start = START + now + rng.choice((0, 0, 1, 700, 2_500))
                if not pending and len(periods) == 8:
                    continue
                if pending:
                    _, was, _ = periods.pop()
                    if periods[-1][2] == was:
                        periods[-1][2] = start
                elif periods[-1][2] is None:
                    periods[-1][2] = start
                periods.append([fresh(meter, turn), start, None])
                c.rotate_key(meter, fresh(meter, turn), start, sender=registry.registrar)
                moments.append(start - START)
            else:
                held = [p for p in periods if p[1] <= START + now and ends_after(p, START + now)]
                if held:
                    held[0][2] = START + now
                    c.suspend_key(meter, sender=registry.registrar)
                else:
                    with boa.reverts("registry: no key in force"):
                        c.suspend_key(meter, sender=registry.registrar)
            moments.append(now)
        for moment in {m + shift for m in moments for shift in (-1, 0, 1)}:
            when = START + moment
            speaks = [p[0] for p in periods if p[1] <= when and ends_after(p, when)] or [ZERO]
            assert [c.device_at(meter, when)] == c.devices_at([meter], when) == speaks


# Two receipts for one slot


@pytest.fixture
def convictable(registry: Registry) -> Registry:
    make_convictable(registry)
    return registry


def test_two_different_receipts_end_the_key_where_their_session_begins(
    convictable: Registry,
) -> None:
    suspended, conflict = report(convictable, HONEST, OTHER)
    assert (suspended.meter, suspended.device, suspended.valid_to) == (1, PEOPLE["a"], START)
    assert (conflict.meter, conflict.device, conflict.slot) == (1, PEOPLE["a"], SLOT + 2)
    assert (conflict.wh_a, conflict.wh_b) == (300, 301)
    # From the session on the past is told anew, before it nothing changes.
    assert speakers(convictable, [-3_601, -3_600, -1, 0, 3_600, 10**6]) == "-aa---"
    assert speakers(convictable, [-1, 0, 10**6], meter=2) == "bbb"


def test_a_device_that_lost_its_key_speaks_for_no_meter_again(convictable: Registry) -> None:
    report(convictable, HONEST, OTHER)
    with boa.reverts("registry: device already speaks for a meter"):
        rotate(convictable, "a", HOURS * 3_600 + 1)
    rotate(convictable, "c", HOURS * 3_600 + 1)
    assert speakers(convictable, [-1, 0, HOURS * 3_600, HOURS * 3_600 + 1]) == "a--c"


def test_receipts_of_two_lengths_conflict_and_the_earlier_one_counts(
    convictable: Registry,
) -> None:
    long = Receipt([7] * 24, first_slot=SLOT - 22)
    at(24 * 900)
    for pair in ((HONEST, long), (long, HONEST)):
        with boa.env.anchor():
            suspended, conflict = report(convictable, *pair, slot=SLOT + 1)
            # It would begin before the key did.
            assert suspended.valid_to == START - 3_600
            assert {conflict.wh_a, conflict.wh_b} == {7, 200}
            assert speakers(convictable, [-3_600, -1, 0, 10**6]) == "----"


@pytest.mark.parametrize("slots", [1, 16, 17, 96])
def test_every_slot_of_a_session_of_any_length_can_conflict(
    convictable: Registry, slots: int
) -> None:
    at(slots * 900)
    rng = random.Random(slots)
    exports = [rng.choice((0, 65_535, rng.randrange(65_536))) for _ in range(slots)]
    for place in {0, 15, 16, slots - 1} & set(range(slots)):
        changed = list(exports)
        changed[place] ^= 1
        with boa.env.anchor():
            _, conflict = report(convictable, Receipt(exports), Receipt(changed), slot=SLOT + place)
            assert (conflict.wh_a, conflict.wh_b) == (exports[place], changed[place])


def test_the_key_after_the_one_that_signed_twice_stays(convictable: Registry) -> None:
    rotate(convictable, "c", HOURS * 3_600)
    at(HOURS * 3_600 + 60)
    rotate(convictable, "d", 10**6)
    report(convictable, HONEST, OTHER)
    assert speakers(convictable, [-1, 0, HOURS * 3_600, 10**6 - 1, 10**6]) == "a-ccd"


def test_putting_off_a_rotation_gives_no_key_back(convictable: Registry) -> None:
    rotate(convictable, "c", 10**6)
    report(convictable, HONEST, OTHER)
    rotate(convictable, "d", 2 * 10**6)
    assert speakers(convictable, [-1, 0, 10**6, 2 * 10**6 - 1, 2 * 10**6]) == "a---d"


def test_a_key_that_is_gone_is_not_reported_again(convictable: Registry) -> None:
    report(convictable, HONEST, OTHER)
    later = [Receipt(r.exports, first_slot=SLOT + 4) for r in (HONEST, OTHER)]
    for pair in ((HONEST, OTHER), later):
        with boa.reverts("registry: no key in force"):
            report(convictable, *pair, slot=pair[0].first_slot + 2)


def test_an_earlier_conflict_moves_the_end_further_back(convictable: Registry) -> None:
    report(convictable, HONEST, OTHER)
    earlier = [Receipt([wh], first_slot=SLOT - 2) for wh in (1, 2)]
    suspended, _ = report(convictable, *earlier, slot=SLOT - 2)
    assert suspended.valid_to == START - 1_800
    assert speakers(convictable, [-1_801, -1_800, 0]) == "a--"


def test_a_key_suspended_in_the_middle_of_the_session_is_not_reported(
    convictable: Registry,
) -> None:
    at(4 * 900 - 1)
    convictable.contract.suspend_key(1, sender=convictable.registrar)
    at(HOURS * 3_600)
    with boa.reverts("registry: no key in force"):
        report(convictable, HONEST, OTHER)


def test_receipts_that_agree_prove_nothing(convictable: Registry) -> None:
    with boa.reverts("registry: receipts agree"):
        report(convictable, HONEST, HONEST)
    # They differ, but in another slot.
    with boa.reverts("registry: receipts agree"):
        report(convictable, HONEST, OTHER, slot=SLOT + 1)


@pytest.mark.parametrize("slot", [SLOT - 1, SLOT + 4, 0, 2**256 - 1])
def test_a_slot_outside_a_receipt_proves_nothing(convictable: Registry, slot: int) -> None:
    with boa.reverts("registry: slot outside the receipt"):
        report(convictable, HONEST, OTHER, slot=slot)


def test_receipts_of_neighbouring_sessions_prove_nothing(convictable: Registry) -> None:
    for pair in ((HONEST, Receipt([1] * 4, first_slot=SLOT + 4)), (OTHER, Receipt([1], "a", SLOT))):
        with boa.reverts("registry: slot outside the receipt"):
            report(convictable, *pair)


@pytest.mark.parametrize(
    "forged",
    [
        Receipt(OTHER.exports, signer="b"),
        Receipt(OTHER.exports, market="0x" + "5b" * 20),
        Receipt(OTHER.exports, chain=1),
        Receipt(OTHER.exports, meter=2),
    ],
    ids=["another device", "another market", "another chain", "another meter"],
)
def test_a_receipt_that_the_device_did_not_sign_so_proves_nothing(
    convictable: Registry, forged: Receipt
) -> None:
    for pair in ((HONEST, forged), (forged, HONEST)):
        with boa.reverts("registry: not the device's receipt"):
            report(convictable, *pair)


def test_a_signature_under_other_words_proves_nothing(convictable: Registry) -> None:
    for changed in (
        {"exports": pack_wh([100, 200, 302, 400])},
        # A word more than was signed, and stray energy behind the last slot.
        {"exports": [pack_wh([100, 200, 301, 400, 1])[0]]},
        {"r": bytes(32)},
        {"r": bytes(32), "vs": bytes(32)},
    ):
        with boa.reverts("registry: not the device's receipt"):
            report(convictable, HONEST, OTHER.packed(**changed))


def test_a_signature_in_the_upper_half_proves_nothing(registry: Registry) -> None:
    """Hardly any such s fits beside the parity bit, so the key is made to suit one that does."""
    digest = receipt_digest(market_separator(CHAIN_ID, MARKET), 1, SLOT, OTHER.exports)
    k, s = 12_345, ORDER // 2 + 1
    point = coincurve.PrivateKey(k.to_bytes(32, "big")).public_key.point()
    # From s = (e + r d) / k.
    secret = (s * k - int.from_bytes(digest, "big")) * pow(point[0], -1, ORDER) % ORDER
    key = secret.to_bytes(32, "big")
    registry.contract.register_batch(
        [PEOPLE["owner of a"]], [address_of(key)], 1, sender=registry.registrar
    )
    at(HOURS * 3_600)
    signed = receipt_digest(market_separator(CHAIN_ID, MARKET), 1, SLOT, HONEST.exports)
    r, vs = compact(sign_digest(key, signed))
    honest = HONEST.packed(r=r, vs=vs)
    parity = point[1] & 1
    packed = {"r": point[0].to_bytes(32, "big"), "vs": (s | parity << 255).to_bytes(32, "big")}
    with boa.reverts("registry: not the device's receipt"):
        report(registry, honest, OTHER.packed(**packed))
    # The lower twin of the same signature proves it.
    packed["vs"] = (ORDER - s | (1 - parity) << 255).to_bytes(32, "big")
    report(registry, honest, OTHER.packed(**packed))


def test_a_receipt_must_be_whole(convictable: Registry) -> None:
    long = Receipt([7] * 24, first_slot=SLOT)
    at(96 * 900)
    words = long.packed()[2]
    for exports in (words[:1], [*words, 0], []):
        with boa.reverts("registry: receipt is cut off"):
            report(convictable, HONEST, long.packed(exports=exports))
    for slots in (0, 97, 2**256 - 1):
        with boa.reverts("registry: slots out of range"):
            report(convictable, HONEST, long.packed(slots=slots))


def test_a_session_that_is_not_over_proves_nothing(convictable: Registry) -> None:
    at(4 * 900 - 1)
    with boa.reverts("registry: delivery is not over"):
        report(convictable, HONEST, OTHER)
    at(4 * 900)
    report(convictable, HONEST, OTHER)


def test_receipts_of_two_keys_prove_nothing(convictable: Registry) -> None:
    """A session of an hour under the old key, one of six hours that ends under the new one."""
    at(2 * 3_600)
    rotate(convictable, "c", 2 * 3_600)
    at(6 * 3_600)
    long = Receipt([7] * 24, signer="c")
    for pair in ((HONEST, long), (long, HONEST)):
        with boa.reverts("registry: not the same key"):
            report(convictable, *pair)


@pytest.mark.parametrize("meter", [0, 3, 2**32 - 1])
def test_a_meter_without_a_key_has_none_to_lose(convictable: Registry, meter: int) -> None:
    with boa.reverts("registry: no key in force"):
        report(convictable, HONEST, OTHER, meter=meter)
