# SPDX-License-Identifier: Apache-2.0
"""Real records of devices and portals, where the folder with them is at hand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dao.errors import BadUse, CheckFailed
from tests.meters.adapters.helpers import parsed, rows

SHARED = (
    Path(os.environ.get("GRIDCOMMONS_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))
    / "meters"
)

pytestmark = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the folder of shared device records is not here"
)


def read(name: str) -> bytes:
    (path,) = SHARED.glob(name)
    return path.read_bytes()


# Adapter, file, number of readings, sums of import and export in Wh (None: nowhere known).
SERIES = [
    ("aiida", "eddie/at-adapter/*", 1, 50_000, 50_000),
    ("linky", "eddie/fr-linky/*", 1, 50, None),
    ("eda", "eddie/at-eda/consumption*", 96, None, 719),
    ("fluvius", "eddie/be-fluvius/*", 2, 19, None),
    ("cim", "eddie/cim/vhds.xml", 1, 2, None),
    ("datadis", "eddie/es-datadis/*", 24, 71_138, 36_256),
    ("enedis", "eddie/fr-enedis/*", 28, 0, None),
    ("energinet", "eddie/dk-energinet/*", 96, 6_600, 6_570),
    ("greenbutton", "greenbutton/*", 216, 199_563, None),
    ("greenbutton", "eddie/us-green-button/*", 67, None, 726_240),
    ("fronius", "home-json/fronius_inverter*", 1, None, 44_186_900),
    ("fronius", "home-json/fronius_meter*", 1, 15_303_334, 35_623_065),
    ("homewizard", "home-json/homewizard*", 1, 13_779_338, 13_086_777),
    ("sunspec", "sunspec/device_1547.json", 1, 0, 150_000),
]


@pytest.mark.parametrize(("name", "file", "count", "imported", "exported"), SERIES)
def test_a_real_record_is_read_whole(
    name: str, file: str, count: int, imported: int | None, exported: int | None
) -> None:
    found = rows(name, read(file))
    assert len(found) == count
    for key, expected in (("import_wh", imported), ("export_wh", exported)):
        known = [row[key] for row in found if row[key] is not None]
        assert (sum(known) if known else None) == expected


def test_the_registers_of_a_dutch_connection() -> None:
    found = rows("mijn-aansluiting", read("eddie/nl-mijn-aansluiting/*"))
    assert len(found) == 61
    assert {row["meter"] for row in found} == {"871690930000909597"}
    assert found[0]["import_wh"] == 16_942_450


CHARGES: list[tuple[str, list[Any]]] = [
    ("nistP384_0Wh.xml", [0, 0]),
    ("ocmf_tariff_1.xml", [62_500_203, 62_500_203]),
    ("test_ocmf_ebee_01.xml", [7753, 7753]),
    ("test_ocmf_keba_kcp30.xml", [260, 260]),
    ("test_ocmf_transaction_two_values.xml", [3518, 7010, 9436, 12_641]),
    ("Ocmf_Example_OBIS_98.8.0_2.8.0.xml", [0, 1000]),
]


@pytest.mark.parametrize(("file", "imported"), CHARGES)
def test_a_signed_charging_record_verifies(file: str, imported: list[int]) -> None:
    assert [row["import_wh"] for row in rows("ocmf", read(f"ocmf/{file}"))] == imported


def test_a_charging_record_that_was_laid_out_anew_does_not_verify() -> None:
    with pytest.raises(CheckFailed, match="does not hold"):
        parsed("ocmf", read("ocmf/OCMF-receipt-with_import_and_export.xml"))


@pytest.mark.parametrize(
    ("name", "file", "words"),
    [
        ("eda", "eddie/at-eda/ecmplist.xml", "root element is ECMPList"),
        ("cim", "eddie/cim/min-max-envelope.json", "no CIM document of measured energy"),
        ("sunspec", "sunspec/inverter_123.json", "no model of the device counts energy"),
    ],
)
def test_a_record_without_readings_says_what_it_is(name: str, file: str, words: str) -> None:
    with pytest.raises((BadUse, CheckFailed), match=words):
        parsed(name, read(file))
