# SPDX-License-Identifier: Apache-2.0
"""Readings, their digests and signatures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from coincurve import PrivateKey
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from dao import eip712
from dao.errors import BadUse
from meters.readings import NULL_WH, Quality, Reading, Readings
from meters.signing import (
    CURVE_ORDER,
    Head,
    bulk,
    digests,
    heads_after,
    links,
    normalise,
    reading_separator,
    recover_all,
    sign_chain,
    sign_chains,
)

REGISTRY = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
SEPARATOR = reading_separator(31337, REGISTRY)
KEY = eip712.keccak(b"a test key")
ADDRESS = eip712.address_bytes(eip712.address_of(KEY))


def typed_data(reading: Reading) -> dict[str, object]:
    names = (("meter", "uint32"), ("slot", "uint64"), ("importWh", "uint32"))
    names += (("exportWh", "uint32"), ("quality", "uint8"))
    names += (("sequence", "uint64"), ("previous", "bytes32"))
    domain = (("name", "string"), ("version", "string"), ("chainId", "uint256"))
    domain += (("verifyingContract", "address"),)
    return {
        "types": {
            "EIP712Domain": [{"name": n, "type": t} for n, t in domain],
            "Reading": [{"name": n, "type": t} for n, t in names],
        },
        "primaryType": "Reading",
        "domain": {
            "name": "GridCommons Meter",
            "version": "1",
            "chainId": 31337,
            "verifyingContract": REGISTRY,
        },
        "message": {
            "meter": reading.meter,
            "slot": reading.slot,
            "importWh": NULL_WH if reading.import_wh is None else reading.import_wh,
            "exportWh": NULL_WH if reading.export_wh is None else reading.export_wh,
            "quality": int(reading.quality),
            "sequence": reading.sequence,
            "previous": reading.previous,
        },
    }


wh = st.none() | st.integers(0, (1 << 31) - 1)


@settings(max_examples=25, deadline=None)
@given(
    st.builds(
        Reading,
        st.integers(0, (1 << 32) - 1),
        st.integers(0, (1 << 63) - 1),
        wh,
        wh,
        st.sampled_from(Quality),
        st.just(b""),
        st.integers(0, (1 << 63) - 1),
        st.binary(min_size=32, max_size=32),
    )
)
def test_a_digest_is_what_eth_account_signs(reading: Reading) -> None:
    signed = Account.sign_message(encode_typed_data(full_message=typed_data(reading)), KEY)
    (digest,) = digests(SEPARATOR, Readings.of([reading]))
    assert digest == bytes(signed.message_hash)
    assert eip712.sign_digest(KEY, digest) == bytes(signed.signature)


def test_every_row_recovers_to_the_key_that_signed_it() -> None:
    keys = {meter: eip712.keccak(bytes([meter])) for meter in range(5)}
    rows = Readings.columns(np.arange(5), np.arange(5), np.arange(5), np.arange(5))
    signed = sign_chains(keys, SEPARATOR, rows, {})
    recovered = recover_all(digests(SEPARATOR, signed), signed.signature)
    assert recovered == [eip712.address_bytes(eip712.address_of(key)) for key in keys.values()]


def test_threads_give_the_same_bytes_as_one() -> None:
    n = 5_000
    keys = dict.fromkeys(range(50), KEY)
    rows = Readings.columns(np.arange(n) % 50, np.arange(n), np.arange(n), np.zeros(n))
    one, two = (sign_chains(keys, SEPARATOR, rows, {}, workers) for workers in (1, 2))
    assert np.array_equal(one.signature, two.signature)
    assert set(recover_all(digests(SEPARATOR, two), two.signature, 2)) == {ADDRESS}


def keccak_link(digest: bytes, signature: bytes) -> bytes:
    return eip712.keccak(digest + signature)


def test_each_reading_names_the_link_of_the_one_before() -> None:
    rows = Readings.columns(np.full(5, 7), np.arange(5), np.arange(5), np.zeros(5))
    signed = sign_chain(KEY, SEPARATOR, rows, Head.NONE)
    made = digests(SEPARATOR, signed)
    assert signed.sequence.tolist() == [0, 1, 2, 3, 4]
    assert recover_all(made, signed.signature) == [ADDRESS] * 5
    links_ = [keccak_link(d, s.tobytes()) for d, s in zip(made, signed.signature, strict=True)]
    assert [row.tobytes() for row in signed.previous] == [bytes(32), *links_[:-1]]
    assert [row.tobytes() for row in links(made, signed.signature)] == links_
    assert heads_after(SEPARATOR, signed) == {7: Head(4, links_[-1])}


def test_a_chain_goes_on_where_it_stood() -> None:
    rows = Readings.columns(np.full(6, 7), np.arange(6), np.arange(6), np.zeros(6))
    whole = sign_chain(KEY, SEPARATOR, rows, Head.NONE)
    first = sign_chain(KEY, SEPARATOR, rows.take(np.arange(2)), Head.NONE)
    rest = sign_chain(KEY, SEPARATOR, rows.take(np.arange(2, 6)), heads_after(SEPARATOR, first)[7])
    assert list(Readings.concat([first, rest])) == list(whole)


def test_many_chains_at_once_are_what_each_is_alone() -> None:
    keys = {meter: eip712.keccak(bytes([meter])) for meter in range(1, 9)}
    dice = np.random.default_rng(2)
    meters = dice.permutation(np.repeat(np.arange(1, 9), 40))
    rows = Readings.columns(meters, np.arange(320), np.arange(320), np.zeros(320))
    heads = {3: Head(17, b"\x05" * 32)}
    one, two = (sign_chains(keys, SEPARATOR, rows, heads, workers) for workers in (1, 2))
    assert list(one) == list(two)
    assert one.slot.tolist() == rows.slot.tolist(), "rows stay where they were"
    for meter, key in keys.items():
        of = rows.take(meters == meter)
        alone = sign_chain(key, SEPARATOR, of, heads.get(meter, Head.NONE))
        assert list(one.take(meters == meter)) == list(alone)


def test_a_chain_belongs_to_one_meter() -> None:
    rows = Readings.columns([1, 2], [1, 1], [1, 1], [1, 1])
    with pytest.raises(BadUse, match="one meter"):
        sign_chain(KEY, SEPARATOR, rows, Head.NONE)


def test_nothing_to_sign_is_no_trouble() -> None:
    none = Readings.of([])
    assert len(sign_chain(KEY, SEPARATOR, none, Head.NONE)) == 0
    assert len(sign_chains({}, SEPARATOR, none, {})) == 0
    assert heads_after(SEPARATOR, none) == {}


def test_the_twin_with_a_high_s_is_taken_as_the_same_signature() -> None:
    plain = Readings.of([Reading(1, s, s, 0) for s in range(40)])
    rows = sign_chain(KEY, SEPARATOR, plain, Head.NONE)
    twins = rows.signature.copy()
    for row in twins:
        s = int.from_bytes(row[32:64].tobytes(), "big")
        row[32:64] = np.frombuffer((CURVE_ORDER - s).to_bytes(32, "big"), dtype=np.uint8)
        row[64] = 55 - row[64]
    made = digests(SEPARATOR, rows)
    assert set(recover_all(made, twins)) == {b""}, "not before it is normalised"
    assert np.array_equal(normalise(twins), rows.signature)
    assert np.array_equal(normalise(rows.signature), rows.signature)


def test_a_parity_of_zero_or_one_is_understood() -> None:
    row = sign_chain(KEY, SEPARATOR, Readings.of([Reading(1, 2, 3, 4)]), Head.NONE)
    bare = row.signature.copy()
    bare[:, 64] -= 27
    assert np.array_equal(normalise(bare), row.signature)


@pytest.mark.parametrize(
    "broken", [bytes(65), b"\xff" * 65, b"\x01" * 64 + b"\x1d", b"\x00" * 64 + b"\x1b"]
)
def test_rubbish_recovers_to_nobody(broken: bytes) -> None:
    block = normalise(np.frombuffer(broken, dtype=np.uint8).reshape(1, 65))
    assert recover_all([bytes(32)], block)[0] != ADDRESS


def test_a_value_that_does_not_fit_is_not_signed_cut_off() -> None:
    for rows in (
        Readings.columns([1 << 32], [0], [0], [0]),
        Readings.columns([1], [-1], [0], [0]),
        Readings.columns([1], [1], [-5], [0]),
    ):
        with pytest.raises(ValueError, match="does not fit"):
            digests(SEPARATOR, rows)


def test_an_error_in_a_thread_reaches_the_caller() -> None:
    def fail(part: list[int]) -> list[int]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bulk(fail, list(range(10_000)), 2)


def test_rows_and_columns_are_the_same_readings() -> None:
    rows = [
        Reading(1, 10, 5, None, Quality.MEASURED, b"\x01" * 65, 3, bytes(range(32))),
        Reading(2, 10, None, None, Quality.MISSING),
        Reading(3, 11, 0, 7, Quality.ESTIMATED),
    ]
    assert list(Readings.of(rows)) == rows
    assert list(Readings.concat([Readings.of(rows[:1]), Readings.of(rows[1:])])) == rows
    assert len(Readings.concat([])) == 0


def test_a_real_value_is_never_read_as_null() -> None:
    assert Readings.of([Reading(1, 1, NULL_WH, 0)]).import_wh[0] != NULL_WH


def test_malformed_rows_are_refused_by_name() -> None:
    with pytest.raises(BadUse, match="65 bytes"):
        Readings.of([Reading(1, 1, 1, 1, Quality.MEASURED, b"short")])
    with pytest.raises(BadUse, match="32 bytes"):
        Readings.of([Reading(1, 1, 1, 1, previous=b"short")])
    with pytest.raises(BadUse, match="64 bits"):
        Readings.of([Reading(1, 1, 1 << 70, 1)])
    with pytest.raises(BadUse, match="one length"):
        Readings.columns([1, 2], [1], [1], [1])


def test_the_device_library_is_the_one_the_digest_was_signed_with() -> None:
    public = PrivateKey(KEY).public_key.format(compressed=False)
    assert eip712.keccak(public[1:])[12:] == ADDRESS


def test_ctrl_c_ends_a_bulk_run_at_once_and_leaves_nothing() -> None:
    program = """
import numpy as np
from meters.readings import Readings
from meters.signing import sign_chains
many = np.arange(400_000)
keys = dict.fromkeys(many.tolist(), bytes([1]) * 32)
print("begun", flush=True)
sign_chains(keys, bytes(32), Readings.columns(many, many, many, many), {}, 2)
"""
    worker = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == "begun\n"
    time.sleep(1.5)
    assert worker.poll() is None
    worker.send_signal(signal.SIGINT)
    _, errors = worker.communicate(timeout=60)
    assert worker.returncode != 0
    assert "KeyboardInterrupt" in errors
