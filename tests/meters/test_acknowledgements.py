# SPDX-License-Identifier: Apache-2.0
"""What a collector promises can be held against it, and nobody else can promise it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from dao import eip712
from dao.errors import BadUse, CheckFailed
from meters.acknowledgements import Acknowledgement, Busy, acknowledgement_separator, parse
from meters.signing import Head
from meters.validation import Finding

LEDGER = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
SEPARATOR = acknowledgement_separator(31337, LEDGER)
KEY = eip712.keccak(b"a collector")
COLLECTOR = eip712.address_of(KEY)
FRAME = bytes(range(32))
PLAIN = Acknowledgement(
    FRAME,
    5,
    2,
    (Finding("signature", 7, 8, 9), Finding("future_slot", 7, 10, 10)),
    {300: Head(4, b"\x02" * 32), 7: Head(1, b"\x01" * 32)},
)
SIGNED = PLAIN.signed(KEY, SEPARATOR)


def test_it_is_what_eth_account_signs() -> None:
    heads = b"".join(
        meter.to_bytes(4, "big") + sequence.to_bytes(8, "big") + link
        for meter, sequence, link in ((7, 1, b"\x01" * 32), (300, 4, b"\x02" * 32))
    )
    fields = {
        "frame": "bytes32",
        "accepted": "uint32",
        "duplicates": "uint32",
        "rejected": "uint32",
        "heads": "bytes32",
    }
    message = dict(zip(fields, (FRAME, 5, 2, 2, eip712.keccak(heads)), strict=True))
    domain = {
        "name": "GridCommons Collector",
        "version": "1",
        "chainId": 31337,
        "verifyingContract": LEDGER,
    }
    types = {"Acknowledgement": [{"name": n, "type": t} for n, t in fields.items()]}
    signed = Account.sign_message(encode_typed_data(domain, types, message), KEY)
    assert bytes(signed.signature) == SIGNED.signature


def test_it_survives_json_and_verifies() -> None:
    read = parse(json.loads(json.dumps(SIGNED.to_json())))
    assert read == replace(SIGNED, heads=dict(sorted(SIGNED.heads.items())))
    assert isinstance(read, Acknowledgement)
    read.verify(SEPARATOR, COLLECTOR, FRAME)


@pytest.mark.parametrize(
    "change",
    [
        {"accepted": 6},
        {"duplicates": 3},
        {"rejected": ()},
        {"heads": {}},
        {"heads": {7: Head(1, b"\x01" * 32), 300: Head(5, b"\x02" * 32)}},
        {"signature": bytes(65)},
        {"signature": SIGNED.signature[:64] + b"\x1d"},
    ],
)
def test_a_changed_one_does_not_verify(change: dict[str, Any]) -> None:
    with pytest.raises(CheckFailed, match="not signed by"):
        replace(SIGNED, **change).verify(SEPARATOR, COLLECTOR, FRAME)


def test_one_of_another_frame_chain_or_collector_does_not_verify() -> None:
    with pytest.raises(CheckFailed, match="another frame"):
        SIGNED.verify(SEPARATOR, COLLECTOR, bytes(32))
    with pytest.raises(CheckFailed, match="not signed by"):
        SIGNED.verify(acknowledgement_separator(1, LEDGER), COLLECTOR, FRAME)
    with pytest.raises(CheckFailed, match="not signed by"):
        SIGNED.verify(SEPARATOR, "0x" + "11" * 20, FRAME)


def test_busy_is_told_apart_and_bounded() -> None:
    assert parse(Busy(2.5).to_json()) == Busy(2.5)
    assert parse({"busy": 1e300}) == Busy(3600.0)
    assert parse({"busy": float("nan")}) == parse({"busy": -1}) == Busy(0.0)


GOOD = SIGNED.to_json()


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"busy": "soon"},
        {"busy": True},
        {**GOOD, "frame": "0x"},
        {**GOOD, "accepted": -1},
        {**GOOD, "accepted": 1 << 32},
        {**GOOD, "accepted": "5"},
        {**GOOD, "rejected": {}},
        {**GOOD, "rejected": [{"rule": "no such rule", "meter": 1, "slot": 1, "sequence": 1}]},
        {**GOOD, "rejected": [{"rule": "signature", "meter": -1, "slot": 1, "sequence": 1}]},
        {**GOOD, "rejected": [{"rule": ["signature"], "meter": 1, "slot": 1, "sequence": 1}]},
        {**GOOD, "heads": []},
        {**GOOD, "heads": {"x": {"sequence": 1, "link": "0x" + "00" * 32}}},
        {**GOOD, "heads": {"²": {"sequence": 1, "link": "0x" + "00" * 32}}},
        {**GOOD, "heads": {"4294967296": {"sequence": 1, "link": "0x" + "00" * 32}}},
        {**GOOD, "heads": {"7": {"sequence": 1}}},
        {**GOOD, "heads": {"7": {"sequence": -1, "link": "0x" + "00" * 32}}},
        {**GOOD, "heads": {"7": None}},
        {**GOOD, "signature": None},
    ],
)
def test_a_malformed_one_is_refused(document: object) -> None:
    with pytest.raises(BadUse):
        parse(document)
