# SPDX-License-Identifier: Apache-2.0
"""Signed charging records."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from dao.errors import BadUse, CheckFailed
from meters.adapters import secp192k1
from meters.adapters.ocmf import key_bytes
from tests.meters.adapters.helpers import energies, only, parsed, rows
from tests.meters.adapters.records import (
    OCMF,
    ocmf_key,
    ocmf_payload,
    ocmf_reading,
    ocmf_record,
    ocmf_xml,
    public_der,
)

KEY = public_der(ocmf_key(ec.SECP256R1()))


def signed(*readings: dict[str, Any], **changes: Any) -> bytes:
    return ocmf_record(ocmf_payload(*readings, **changes)).encode()


def test_a_transaction_gives_import_and_export_at_its_begin_and_end() -> None:
    begin, end = rows("ocmf", OCMF)
    assert begin == {
        "meter": "CHARGER-7",
        "start": None,
        "end": "2024-04-01T10:00:00Z",
        "import_wh": 12500,
        "export_wh": 1000,
        "register": True,
        "quality": "measured",
        "source_quality": "G",
    }
    assert (end["import_wh"], end["export_wh"], end["source_quality"]) == (14750, 1001, "G")


def test_a_changed_digit_breaks_the_signature() -> None:
    with pytest.raises(CheckFailed, match="page T1 does not hold"):
        parsed("ocmf", OCMF.replace(b"12.5", b"12.6"))


def test_whitespace_is_signed_too() -> None:
    payload = ocmf_payload(ocmf_reading()).replace(", ", " ,\n\t")
    assert only("ocmf", ocmf_record(payload).encode(), key=KEY)["import_wh"] == 12500
    with pytest.raises(CheckFailed):
        parsed("ocmf", signed(ocmf_reading()).replace(b", ", b","), key=KEY)


def test_a_plain_record_needs_the_meters_key() -> None:
    record = signed(ocmf_reading())
    assert only("ocmf", record, key=KEY)["import_wh"] == 12500
    with pytest.raises(BadUse, match="--key"):
        parsed("ocmf", record)


def test_the_callers_key_counts_before_the_one_in_the_file() -> None:
    stranger = public_der(ec.derive_private_key(77, ec.SECP256R1()))
    with pytest.raises(CheckFailed):
        parsed("ocmf", OCMF, key=stranger)


def test_a_key_from_the_file_itself_is_told() -> None:
    assert "compare it with the one on the meter" in parsed("ocmf", OCMF).notes[0]
    assert parsed("ocmf", OCMF, key=KEY).notes == []


@pytest.mark.parametrize(
    ("curve", "name"),
    [
        (ec.SECP192R1(), "secp192r1"),
        (ec.SECP256R1(), "secp256r1"),
        (ec.SECP384R1(), "secp384r1"),
        (ec.SECP521R1(), "secp521r1"),
        (ec.SECP256K1(), "secp256k1"),
        (ec.BrainpoolP256R1(), "brainpool256r1"),
        (ec.BrainpoolP384R1(), "brainpool384r1"),
    ],
)
def test_every_curve_of_the_standard_is_verified(curve: ec.EllipticCurve, name: str) -> None:
    record = ocmf_record(ocmf_payload(ocmf_reading()), curve, name)
    key = public_der(ocmf_key(curve))
    assert only("ocmf", record.encode(), key=key)["import_wh"] == 12500
    with pytest.raises(CheckFailed):
        parsed("ocmf", record.replace("12.5", "12.4").encode(), key=key)


def sign_on_secp192k1(secret: int, message: bytes) -> tuple[int, int]:
    """Textbook ECDSA with a fixed nonce: for a test only."""
    import hashlib

    nonce = 0xC0FFEE
    z = int.from_bytes(hashlib.sha256(message).digest()[:24], "big")
    point = secp192k1._times(nonce, secp192k1.G)
    assert point is not None
    r = point[0] % secp192k1.N
    return r, pow(nonce, -1, secp192k1.N) * (z + r * secret) % secp192k1.N


def test_the_curve_that_no_library_here_has_is_verified() -> None:
    payload = ocmf_payload(ocmf_reading())
    r, s = sign_on_secp192k1(4711, payload.encode())
    point = secp192k1._times(4711, secp192k1.G)
    assert point is not None
    key = b"\x04" + b"".join(part.to_bytes(24, "big") for part in point)
    raw = f"{r:048x}{s:048x}"
    record = f"OCMF|{payload}|" + json.dumps({"SA": "ECDSA-secp192k1-SHA256", "SD": raw})
    assert only("ocmf", record.encode(), key=key)["import_wh"] == 12500
    with pytest.raises(CheckFailed):
        parsed("ocmf", record.replace("12.5", "12.4").encode(), key=key)


def test_the_generator_of_secp192k1_has_its_order() -> None:
    assert secp192k1._times(secp192k1.N, secp192k1.G) is None
    x, y = secp192k1.G
    assert secp192k1._times(secp192k1.N - 1, secp192k1.G) == (x, secp192k1.P - y)


@pytest.mark.parametrize(
    "write",
    [
        lambda key: key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        lambda key: public_der(key),
        lambda key: public_der(key).hex(" ").upper().encode(),
        lambda key: key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )[1:].hex().encode(),
        lambda key: key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
        ).hex().encode(),
    ],
    ids=["pem", "der", "hex", "x-y", "compressed"],
)  # fmt: skip
def test_a_key_may_be_written_in_many_ways(write: Any) -> None:
    key = key_bytes(write(ocmf_key(ec.SECP256R1())))
    assert only("ocmf", signed(ocmf_reading()), key=key)["import_wh"] == 12500


@pytest.mark.parametrize("form", ["raw", "base64", "trailing"])
def test_a_signature_may_be_written_in_other_ways(form: str) -> None:
    import base64

    payload = ocmf_payload(ocmf_reading())
    der = ocmf_key(ec.SECP256R1()).sign(payload.encode(), ec.ECDSA(hashes.SHA256()))
    r, s = decode_dss_signature(der)
    text = {
        "raw": f"{r:064x}{s:064x}",
        "base64": base64.b64encode(der).decode(),
        "trailing": der.hex() + "FF",
    }[form]
    record = f"OCMF|{payload}|" + json.dumps({"SD": text})
    assert only("ocmf", record.encode(), key=KEY)["import_wh"] == 12500


def test_xml_may_hold_the_record_in_base64() -> None:
    record = ocmf_record(ocmf_payload(ocmf_reading()))
    assert only("ocmf", ocmf_xml(record, KEY, "base64"))["import_wh"] == 12500


@pytest.mark.parametrize(
    ("changes", "quality"),
    [
        ({"ST": "S"}, "substituted"),
        ({"ST": "N"}, "missing"),
        ({"ST": "M"}, "invalid"),
        ({"ST": "T"}, "invalid"),
        ({"EF": "E"}, "invalid"),
        ({"EF": "t"}, "invalid"),
    ],
)
def test_states_and_error_flags_of_the_meter_count(changes: dict[str, str], quality: str) -> None:
    row = only("ocmf", signed(ocmf_reading(**changes)), key=KEY)
    assert row["quality"] == quality
    assert row["source_quality"] == changes.get("ST", f"G EF={changes.get('EF')}")
    assert row["import_wh"] == (None if quality == "missing" else 12500)


def test_a_reading_inherits_what_it_leaves_out() -> None:
    record = signed(ocmf_reading(ST="M"), {"RV": 1, "RI": "1-b:2.8.0"})
    (row,) = rows("ocmf", record, key=KEY)
    assert (row["import_wh"], row["export_wh"], row["quality"]) == (12500, 1000, "invalid")


def test_two_readings_of_one_second_stay_two() -> None:
    record = signed(ocmf_reading(TX="B", RV=1), ocmf_reading(TX="X", RV=2))
    assert energies(rows("ocmf", record, key=KEY)) == [(1000, None), (2000, None)]


@pytest.mark.parametrize(
    ("code", "energy"),
    [
        ("1-0:1.8.0*198", (12500, None)),
        ("01-00:B2.08.00*FF", (12500, None)),
        ("01-00:C2.08.00*FF", (None, 12500)),
        ("1-b:2.8.e", (None, 12500)),
    ],
)
def test_registers_of_the_standard_are_known(
    code: str, energy: tuple[int | None, int | None]
) -> None:
    assert energies(rows("ocmf", signed(ocmf_reading(RI=code)), key=KEY)) == [energy]


def test_a_register_that_is_no_energy_is_left_out_and_told() -> None:
    with pytest.raises(CheckFailed, match=r"RI 1-0:1\.7\.0 is no register"):
        parsed("ocmf", signed(ocmf_reading(RI="1-0:1.7.0")), key=KEY)


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(BadUse, match="unit"):
        parsed("ocmf", signed(ocmf_reading(RU="mOhm")), key=KEY)


def test_pages_must_follow_each_other() -> None:
    records = signed(ocmf_reading(), page="T1") + b"\n" + signed(ocmf_reading(RV=13), page="T3")
    assert "page T3 does not follow T1" in parsed("ocmf", records, key=KEY).notes[0]
    backwards = signed(ocmf_reading(RV=13), page="T2") + signed(ocmf_reading(), page="T1")
    assert not any("page" in note for note in parsed("ocmf", backwards, key=KEY).notes)
    twice = signed(ocmf_reading(), page="T1") * 2
    assert "page T1 comes again" in parsed("ocmf", twice, key=KEY).notes[0]


def test_a_clock_that_was_never_set_is_told() -> None:
    record = signed(ocmf_reading(TM="1970-01-01T01:21:45,000+0100 U"))
    found = parsed("ocmf", record, key=KEY)
    assert found.readings[0].source_quality == "G TM=U"
    assert "not to be trusted" in found.notes[0]


@pytest.mark.parametrize(
    "data",
    [
        b"OCMF|{}",
        b"OCMF|{}|",
        b"OCMF|[]|[]",
        b"OCMF||",
        b"nothing",
        b"<values/>",
        b'OCMF|{"RD": []}|{"SD": "00"}',
        b'OCMF|{"RD": []}|{"SA": "RSA", "SD": "00"}',
        b'OCMF|{"RD": []}|{"SA": "ECDSA-secp999r1-SHA256", "SD": "0001"}',
    ],
)
def test_what_is_no_record_is_one_clear_error(data: bytes) -> None:
    with pytest.raises(BadUse):
        parsed("ocmf", data, key=KEY)


def test_a_key_of_another_curve_is_refused() -> None:
    with pytest.raises(BadUse, match="not on secp256r1"):
        parsed("ocmf", signed(ocmf_reading()), key=public_der(ocmf_key(ec.SECP384R1())))
