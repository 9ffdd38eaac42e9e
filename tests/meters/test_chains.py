# SPDX-License-Identifier: Apache-2.0
"""Chains: gaps close, two stories and broken links leave evidence, and what is erased stays so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import coincurve
import numpy as np

from meters import frames
from meters.inbox import MAX_EVIDENCE, State
from meters.lake import read_batch
from meters.readings import Quality, Reading, Readings
from meters.registry import KeyPeriods, Period
from meters.signing import (
    CURVE_ORDER,
    Head,
    digests,
    heads_after,
    sign_chain,
)
from tests.meters.batch_rows import SEPARATOR

Zone = Any


def of_meter(zone: Zone, meter: int) -> Readings:
    return zone.readings.take(zone.readings.meter == meter)


def test_the_heads_are_where_the_gateways_stand(zone: Zone) -> None:
    with zone.collector() as collector:
        assert collector.heads([1, 2, 99]) == {}
        collector.receive(zone.readings)
        assert collector.heads([1, 2, 99]) == {1: zone.head(1), 2: zone.head(2)}


def test_a_gap_is_taken_noted_and_closed_again(zone: Zone) -> None:
    rows = of_meter(zone, 2)
    with zone.collector() as collector:
        collector.receive(rows.take(np.array([0, 3])))
        (gap,) = collector.inbox.gaps(2)
        assert (gap.first, gap.last) == (1, 2)
        assert collector.inbox.meters_with_gaps() == [2]
        assert collector.receive(rows.take(np.array([2]))).accepted == 1
        assert [(g.first, g.last) for g in collector.inbox.gaps(2)] == [(1, 1)]
        assert collector.receive(rows.take(np.array([1]))).accepted == 1
        assert collector.inbox.meters_with_gaps() == []
        assert collector.heads([2]) == {2: zone.head(2)}


def test_a_chain_whose_beginning_is_lost_goes_on(zone: Zone) -> None:
    rows = of_meter(zone, 2)
    with zone.collector() as collector:
        assert collector.receive(rows.take(np.array([2, 3]))).accepted == 2
        assert [(g.first, g.last) for g in collector.inbox.gaps(2)] == [(0, 1)]


def test_one_number_for_two_readings_is_refused_and_both_are_kept(zone: Zone) -> None:
    fork = zone.signed(3, zone.first_slot + 2, 12_345, 0, zone.head(3, 2))
    with zone.collector() as collector:
        collector.receive(zone.readings)
        report = collector.receive(fork)
        (item,) = collector.inbox.evidence()
        batch = collector.close_batch(zone.first_slot, zone.slots)
    assert report.rejected == [("sequence", 3, zone.first_slot + 2, 2)]
    assert frames.readings_of(item.record).import_wh.tolist() == [12_345]
    assert list(frames.readings_of(item.other or b"")) == [list(of_meter(zone, 3))[2]]
    assert batch.net_wh.sum() == (zone.readings.import_wh - zone.readings.export_wh).sum()


def test_a_fork_shows_after_the_commit_too(zone: Zone) -> None:
    fork = zone.signed(3, zone.first_slot + 2, 12_345, 0, zone.head(3, 2))
    with zone.collector() as collector:
        collector.receive(zone.readings)
        collector.mark_committed(collector.close_batch(zone.first_slot, zone.slots))
        assert collector.receive(fork).rejected[0].rule == "sequence"
        (item,) = collector.inbox.evidence(3)
    assert list(frames.readings_of(item.other or b"")) == [list(of_meter(zone, 3))[2]]


def test_a_fork_in_another_slot_shows_as_well(zone: Zone) -> None:
    fork = zone.signed(3, zone.first_slot + 3, 12_345, 0, zone.head(3, 2))
    with zone.collector() as collector:
        collector.receive(zone.readings)
        assert collector.receive(fork).rejected[0].rule == "sequence"
        (item,) = collector.inbox.evidence(3)
    assert list(frames.readings_of(item.other or b"")) == [list(of_meter(zone, 3))[2]]


def test_a_broken_link_is_refused_and_kept(zone: Zone) -> None:
    wrong = replace(zone.head(5), link=b"\x01" * 32)
    with zone.collector() as collector:
        collector.receive(zone.readings)
        report = collector.receive(zone.signed(5, zone.first_slot, 9, 0, wrong))
        (item,) = collector.inbox.evidence(5)
        assert collector.heads([5]) == {5: zone.head(5)}
        assert collector.receive(zone.signed(5, zone.first_slot, 9, 0)).accepted == 1
    assert [finding.rule for finding in report.rejected] == ["previous"]
    assert item.link == zone.head(5).link
    assert list(frames.readings_of(item.other or b"")) == [list(of_meter(zone, 5))[3]]


def test_what_fills_a_gap_must_be_what_the_reading_after_it_names(zone: Zone) -> None:
    rows = of_meter(zone, 5)
    other = zone.signed(5, zone.first_slot + 1, 9, 0, zone.head(5, 1))
    with zone.collector() as collector:
        collector.receive(rows.take(np.array([0, 2, 3])))
        assert collector.receive(other).rejected[0].rule == "previous"
        assert len(collector.inbox.evidence(5)) == 1
        assert collector.receive(rows.take(np.array([1]))).accepted == 1


def test_evidence_cannot_fill_the_disk(zone: Zone) -> None:
    with zone.collector() as collector:
        collector.receive(zone.readings)
        for value in range(MAX_EVIDENCE + 5):
            fork = zone.signed(3, zone.first_slot + 2, value, 0, zone.head(3, 2))
            collector.receive(fork)
            collector.receive(fork)
        assert len(collector.inbox.evidence(3)) == MAX_EVIDENCE


def test_the_same_reading_under_another_signature_is_no_second_story(zone: Zone) -> None:
    """A device library with random nonces signs a resend anew."""
    row = of_meter(zone, 3).take(np.array([2]))
    (digest,) = digests(SEPARATOR, row)
    other = signed_with_another_nonce(zone.fleet.gateways[2].key, digest)
    assert other != row.signature[0].tobytes()
    again = replace(row, signature=np.frombuffer(other, dtype=np.uint8).reshape(1, 65))
    with zone.collector() as collector:
        collector.receive(zone.readings)
        assert collector.receive(again).duplicates == 1
        assert collector.inbox.evidence() == []
        collector.mark_committed(collector.close_batch(zone.first_slot, zone.slots))
        assert collector.receive(again).duplicates == 1


def signed_with_another_nonce(key: bytes, digest: bytes) -> bytes:
    """ECDSA by hand with a nonce that no library would choose."""
    nonce = 0xC0FFEE
    point = coincurve.PrivateKey(nonce.to_bytes(32, "big")).public_key.format(compressed=False)
    r = int.from_bytes(point[1:33], "big") % CURVE_ORDER
    secret, message = (int.from_bytes(part, "big") for part in (key, digest))
    s = pow(nonce, -1, CURVE_ORDER) * (message + r * secret) % CURVE_ORDER
    odd = point[-1] & 1
    if s > CURVE_ORDER // 2:
        s, odd = CURVE_ORDER - s, odd ^ 1
    return r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([27 + odd])


def test_an_old_reading_is_checked_against_the_key_of_its_own_time(zone: Zone) -> None:
    old, new = zone.fleet.gateways[0], zone.fleet.gateways[1]
    change = (zone.first_slot + 2) * 900
    keys = KeyPeriods({1: [Period(old.address, 0, change), Period(new.address, change)]})
    rows = of_meter(zone, 1)
    before = sign_chain(old.key, SEPARATOR, rows.take(np.array([0, 1])), Head.NONE)
    head = heads_after(SEPARATOR, before)[1]
    after = sign_chain(new.key, SEPARATOR, rows.take(np.array([2, 3])), head)
    stolen = sign_chain(old.key, SEPARATOR, rows.take(np.array([2])), head)
    with zone.collector(keys=keys) as collector:
        assert collector.receive(stolen).rejected[0].rule == "signature"
        assert collector.receive(after).accepted == 2
        assert collector.receive(before).accepted == 2
        assert collector.inbox.gaps(1) == []


def test_a_key_that_was_ended_for_the_past_takes_its_readings_along(zone: Zone) -> None:
    with zone.collector() as collector:
        collector.receive(zone.readings)
    ended = {meter: [Period(key)] for meter, key in zone.fleet.devices.items()}
    ended[4] = [Period(zone.fleet.devices[4], 0, (zone.first_slot + 2) * 900)]
    keys = KeyPeriods(ended)
    keys.conflicted.add(4)
    with zone.collector(keys=keys) as collector:
        batch = collector.close_batch(zone.first_slot, zone.slots)
        gone = collector.inbox.beside(zone.first_slot, zone.first_slot + 4, State.REVOKED)
    of = [r for r in read_batch(batch.path).readings if r.meter == 4]
    assert [r.quality for r in of] == [Quality.MEASURED] * 2 + [Quality.MISSING] * 2
    assert gone.slot.tolist() == [zone.first_slot + 2, zone.first_slot + 3]


# frames


def test_each_frame_gets_its_own_report(zone: Zone) -> None:
    parts = [of_meter(zone, 1), of_meter(zone, 2), of_meter(zone, 3)]
    bent = replace(parts[1], signature=parts[1].signature.copy())
    bent.signature[3, 5] ^= 1
    sent = [
        frames.encode(parts[0]),
        b"rubbish",
        frames.encode(bent),
        frames.encode(parts[0]),
        frames.encode(Readings.of([Reading(77, zone.first_slot, 1, 1, signature=b"\x01" * 65)])),
    ]
    with zone.collector() as collector:
        reports = collector.receive_frames(sent)
    assert [r.frame for r in reports] == [frames.frame_id(frame) for frame in sent]
    assert [(r.report.accepted, r.report.duplicates) for r in reports] == [
        (4, 0), (0, 0), (3, 0), (0, 4), (0, 0)
    ]  # fmt: skip
    assert [r.error is None for r in reports] == [True, False, True, True, True]
    assert reports[2].report.rejected == [("signature", 2, zone.first_slot + 3, 3)]
    assert reports[4].report.rejected[0].rule == "unknown_meter"
    assert [set(r.heads) for r in reports] == [{1}, set(), {2}, {1}, set()]
    assert reports[2].acknowledgement().heads == {2: zone.head(2, 3)}


def test_no_frames_are_no_trouble(zone: Zone) -> None:
    with zone.collector() as collector:
        assert collector.receive_frames([]) == []


def test_a_clock_that_jumps_loses_nothing(zone: Zone) -> None:
    now = [float((zone.first_slot + 4) * 900)]
    with zone.collector(clock=lambda: now[0]) as collector:
        now[0] -= 86_400
        behind = collector.receive(zone.readings)
        assert {finding.rule for finding in behind.rejected} == {"future_slot"}
        now[0] += 86_400
        assert collector.receive(zone.readings).accepted == 64
        now[0] += 10 * 365 * 86_400
        assert collector.receive(zone.readings).duplicates == 64
        now[0] = 0.0
        assert collector.close_batch(zone.first_slot, zone.slots).homes == 16


# erasing


def test_an_erased_meter_leaves_no_value_and_is_taken_no_more(zone: Zone, tmp_path: Path) -> None:
    first, end = zone.first_slot, zone.first_slot + zone.slots
    marked = zone.signed(3, first, 17_011, 0)
    fork = zone.signed(3, first + 2, 17_013, 0, zone.head(3, 2))
    with zone.collector() as collector:
        collector.receive(zone.readings)
        collector.mark_committed(collector.close_batch(first, zone.slots))
        assert collector.receive(marked).late == 1
        collector.receive(fork)
        assert collector.erase(3, first, end) == 2
        assert collector.erase(3, first, end) == 0
        report = collector.receive(Readings.concat([marked, fork, of_meter(zone, 3)]))
        assert {finding.rule for finding in report.rejected} == {"erased"}
        assert collector.receive(of_meter(zone, 4)).duplicates == 4
        files = [p.read_bytes() for p in tmp_path.glob("inbox.sqlite*")]
    for value in (17_011, 17_013):
        assert all(value.to_bytes(4, "big") not in content for content in files)
    for row in (marked, fork):
        assert all(row.signature[0].tobytes() not in content for content in files)
