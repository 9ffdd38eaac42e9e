# SPDX-License-Identifier: Apache-2.0
"""P1 telegrams of several countries."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dao.errors import BadUse, CheckFailed
from tests.meters.adapters.helpers import energies, only, parsed, rows
from tests.meters.adapters.records import BELGIAN, DUTCH, LUXEMBOURGISH, telegram

TIME = "0-0:1.0.0(240401120000S)"


def test_a_dutch_telegram_gives_the_sum_of_its_tariffs_in_utc() -> None:
    assert only("dsmr", DUTCH) == {
        "meter": "E0044007050792417",
        "start": None,
        "end": "2024-04-01T10:00:00Z",
        "import_wh": 671578 + 842472,
        "export_wh": 3500,
        "register": True,
        "quality": "measured",
        "source_quality": None,
    }


def test_a_belgian_telegram_is_read_in_winter_time() -> None:
    row = only("dsmr", BELGIAN)
    assert (row["meter"], row["end"]) == ("1SAG3100000231", "2024-01-15T11:00:00Z")
    assert (row["import_wh"], row["export_wh"]) == (300003, 700007)


def test_a_luxembourgish_telegram_gives_its_totals_and_no_reactive_energy() -> None:
    row = only("dsmr", LUXEMBOURGISH)
    assert (row["meter"], row["end"]) == ("SAG1030700017848", "2024-06-30T22:00:00Z")
    assert (row["import_wh"], row["export_wh"]) == (353331, 12000)


def test_the_repeated_hour_is_told_by_its_letter() -> None:
    ends = [
        only("dsmr", telegram(f"0-0:1.0.0(231029023000{letter})", "1-0:1.8.0(1*kWh)"))["end"]
        for letter in "SW"
    ]
    assert ends == ["2023-10-29T00:30:00Z", "2023-10-29T01:30:00Z"]


def test_a_flipped_digit_fails_the_crc() -> None:
    with pytest.raises(CheckFailed, match="CRC"):
        parsed("dsmr", DUTCH.replace(b"000671.578", b"000671.579"))


def test_a_damaged_telegram_among_good_ones_is_left_out_and_told() -> None:
    found = parsed("dsmr", DUTCH.replace(b"671", b"672") + BELGIAN)
    assert [reading.meter for reading in found.readings] == ["1SAG3100000231"]
    assert "1 of 2 were left out as damaged: CRC" in found.notes[0]


def test_a_modern_telegram_without_crc_is_refused() -> None:
    with pytest.raises(BadUse, match="CRC"):
        parsed("dsmr", telegram("1-3:0.2.8(50)", TIME, "1-0:1.8.1(1*kWh)", crc=False))


def test_a_telegram_of_version_2_needs_no_crc_and_has_no_clock() -> None:
    old = telegram("0-0:96.1.1(4B38)", "1-0:1.8.1(00100.7*kWh)", "1-0:1.8.2(1*kWh)", crc=False)
    row = only("dsmr", old)
    assert (row["end"], row["import_wh"]) == (None, 101700)


def test_line_endings_without_carriage_return_keep_the_crc() -> None:
    assert only("dsmr", DUTCH.replace(b"\r\n", b"\n")) == only("dsmr", DUTCH)


def test_a_stream_is_read_from_the_first_whole_telegram() -> None:
    found = parsed("dsmr", DUTCH[200:] + DUTCH + BELGIAN)
    assert len(found.readings) == 2
    assert "outside a whole telegram" in found.notes[0]


def test_one_tariff_alone_is_not_taken_for_the_sum() -> None:
    later = telegram("0-0:1.0.0(240401121500S)", "0-0:96.1.1(41)", "1-0:1.8.1(2*kWh)")
    first = telegram(TIME, "0-0:96.1.1(41)", "1-0:1.8.1(1*kWh)", "1-0:1.8.2(1*kWh)")
    assert energies(rows("dsmr", first + later)) == [(2000, None), (None, None)]


def test_a_value_that_is_no_number_is_one_clear_error() -> None:
    with pytest.raises(BadUse, match="telegram cannot be read"):
        parsed("dsmr", telegram(TIME, "1-0:1.8.1(00a.b*kWh)"))


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(BadUse, match="unit"):
        parsed("dsmr", telegram(TIME, "1-0:1.8.1(1*GJ)"))


def test_codes_may_carry_their_billing_period() -> None:
    old = telegram(
        "1-0:0.0.0*255(0272031312565)",
        "1-0:1.8.0*255(00052185.7825309*kWh)",
        "0-0:96.1.255*255(1ESY1313002565)",
        crc=False,
    )
    row = only("dsmr", old)
    assert (row["meter"], row["import_wh"]) == ("1ESY1313002565", 52185783)


def test_a_swiss_telegram_names_its_meter_elsewhere() -> None:
    lines = ("0-0:0.0.0(353738303337)", "0-0:96.1.2(2020)", "0-0:96.1.4(50220)")
    row = only("dsmr", telegram(TIME, *lines, "1-1:1.8.1(25.6*kWh)", "1-1:1.8.2(20.655*kWh)"))
    assert (row["meter"], row["import_wh"]) == ("578037", 46255)


def test_a_telegram_without_energy_is_refused() -> None:
    with pytest.raises(BadUse, match="no energy register"):
        parsed("dsmr", telegram(TIME, "1-0:1.7.0(00.1*kW)"))


KEY, PUBLIC = bytes(range(16)), bytes.fromhex("00112233445566778899AABBCCDDEEFF")


def encrypted(plain: bytes) -> bytes:
    """A general-global-cipher frame of DLMS: AES-GCM with a tag of twelve bytes."""
    title, counter = b"SAGtitle", (7).to_bytes(4, "big")
    sealed = AESGCM(KEY).encrypt(title + counter, plain, b"\x30" + PUBLIC)
    content = b"\x30" + counter + sealed[:-4]
    return b"\xdb\x08" + title + b"\x82" + len(content).to_bytes(2, "big") + content


@pytest.mark.parametrize("form", [bytes, lambda data: data.hex().encode()], ids=["raw", "hex"])
def test_encrypted_telegrams_open_with_their_key(form: object) -> None:
    data = form(encrypted(LUXEMBOURGISH) + encrypted(LUXEMBOURGISH))  # type: ignore[operator]
    assert only("dsmr", data, key=KEY) == only("dsmr", LUXEMBOURGISH)


def test_encrypted_telegrams_need_the_right_key() -> None:
    with pytest.raises(BadUse, match="--key"):
        parsed("dsmr", encrypted(LUXEMBOURGISH))
    with pytest.raises(CheckFailed, match="wrong key"):
        parsed("dsmr", encrypted(LUXEMBOURGISH), key=bytes(16))
