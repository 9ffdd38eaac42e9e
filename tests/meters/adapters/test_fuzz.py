# SPDX-License-Identifier: Apache-2.0
"""Damaged records: whatever happens to the bytes, an adapter answers with readings or one error."""

from __future__ import annotations

import copy
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from dao.errors import GridCommonsError
from meters.adapters.engine import BUILT_IN, Adapter, Parsed, as_dict, load_adapter, parse
from meters.readings import Quality
from tests.meters.adapters.records import (
    DUTCH,
    RECORDS,
    SML_LIST,
    crc16_arc,
    ocmf_key,
    ocmf_payload,
    ocmf_reading,
    ocmf_record,
    public_der,
    sml_field,
    sml_frame,
    tic_frame,
    tic_group,
)

SHARED = (
    Path(os.environ.get("GRIDCOMMONS_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))
    / "meters"
)
COPIES = 1000
SLOWEST_S = 5.0

# Folder of the shared records, and the adapter that reads it.
SHARED_FOLDERS = {
    "eddie/at-adapter": "aiida",
    "eddie/at-eda": "eda",
    "eddie/be-fluvius": "fluvius",
    "eddie/cim": "cim",
    "eddie/dk-energinet": "energinet",
    "eddie/es-datadis": "datadis",
    "eddie/fr-enedis": "enedis",
    "eddie/fr-linky": "linky",
    "eddie/nl-mijn-aansluiting": "mijn-aansluiting",
    "eddie/us-green-button": "greenbutton",
    "greenbutton": "greenbutton",
    "ocmf": "ocmf",
    "sunspec": "sunspec",
}
SHARED_FILES = {"home-json/fronius*": "fronius", "home-json/homewizard*": "homewizard"} | {
    f"{folder}/*": name for folder, name in SHARED_FOLDERS.items()
}

_SPLICES = (
    *(b"", b"0", b"-1", b"-", b"1e999999", b"99999999999999999999999999999999999999", b"NaN"),
    *(b"null", b"true", b"[]", b"{}", b'""', b"\xff", b"\x00", b"<", b"&a;", b'"', b"\r\n", b"!"),
    *("é".encode(), b"P999999Y", b"PT0S", b"9999-12-31T23:59:59Z", b"0001-01-01", b"\\ud800"),
)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A copy with one to four of the damages that files and wires do."""
    copy = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(copy) + 1)
        end = min(len(copy), at + rng.choice((1, 1, 2, 5, 20, 200)))
        kind = rng.randrange(8)
        if kind == 0 and at < len(copy):
            copy[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del copy[at:end]
        elif kind == 2:
            copy[at:at] = copy[at:end]
        elif kind == 3:
            copy[at:at] = rng.randbytes(rng.randint(1, 4))
        elif kind == 4:
            del copy[at:]
        elif kind == 5:
            copy[at:end] = rng.choice(_SPLICES)
        elif kind == 6:
            # A value replaced whole: what a wrong exporter writes.
            marks = [i for i, byte in enumerate(copy) if chr(byte) in '0123456789"']
            if marks:
                start = rng.choice(marks)
                stop = start + 1
                while stop < len(copy) and chr(copy[stop]) in "0123456789.":
                    stop += 1
                copy[start:stop] = rng.choice(_SPLICES)
        elif len(copy) > 1:
            other = rng.randrange(len(copy))
            copy[at:end], copy[other : other + 1] = copy[other : other + 1], copy[at:end]
    return bytes(copy)


def check_form(parsed: Parsed) -> None:
    """What holds for every reading, however strange its source."""
    json.dumps([as_dict(reading) for reading in parsed.readings], allow_nan=False)
    for reading in parsed.readings:
        assert reading.register == (reading.start is None)
        for when in (reading.start, reading.end):
            assert when is None or when.utcoffset() == UTC.utcoffset(None)
        values = (reading.import_wh, reading.export_wh)
        assert all(value is None or (type(value) is int and value >= 0) for value in values)
        if reading.start is not None:
            assert reading.end is not None
            assert reading.start < reading.end
        if values == (None, None):
            assert reading.quality in (Quality.MISSING, Quality.INVALID)


READ, REFUSED = "readings", "one known error"


def endings(
    adapter: Adapter,
    data: bytes,
    count: int,
    seed: int,
    seal: Callable[[bytes], bytes] = bytes,
) -> set[str]:
    """All the ways in which reading damaged copies ended."""
    rng = random.Random(seed)
    return {ending(adapter, seal(mutated(data, rng))) for _ in range(count)}


def ending(adapter: Adapter, data: bytes) -> str:
    """How reading the bytes ends: READ or REFUSED, or too late. Any other error passes."""
    began = time.perf_counter()
    end = REFUSED
    with suppress(GridCommonsError):
        check_form(parse(adapter, [("damaged", data)]))
        end = READ
    seconds = time.perf_counter() - began
    return end if seconds < SLOWEST_S else f"{end} only after {seconds:.1f} s: {data!r}"


_ODD = (
    *(
        None,
        True,
        0,
        -1,
        1e300,
        10**40,
        "",
        "x",
        "-1",
        "1e400",
        "nan",
        [],
        {},
        [[]],
        [None],
        {"a": 1},
    ),
    *("2024-01-01", "9999-12-31T23:59:59Z", "2024-03-31 02:30:00", "1970-01-01T00:00:00+14:00"),
    *("PT1S", "P1Y", "A01", "24:00", "\ud800", "\x00", "1" * 5000, 2**64 - 1),
)


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value within a JSON document."""
    keys = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        yield (*path, key)
        yield from places(node[key], (*path, key))


def with_odd_values(document: bytes, rng: random.Random) -> bytes:
    """A document that is still JSON, with one to three values left out or of another kind."""
    root = json.loads(document)
    for _ in range(rng.randint(1, 3)):
        paths = list(places(root))
        if not paths:
            break
        *way, last = rng.choice(paths)
        holder = root
        for key in way:
            holder = holder[key]
        if rng.random() < 0.2:
            del holder[last]
        else:
            holder[last] = copy.deepcopy(rng.choice(_ODD))
    return json.dumps(root).encode()


CASES = [(name, i) for name, records in RECORDS.items() for i in range(len(records))]

JSON_CASES = [case for case in CASES if RECORDS[case[0]][case[1]][:1] in (b"{", b"[")]


def test_every_adapter_has_a_record_here() -> None:
    assert RECORDS.keys() == BUILT_IN.keys()


@pytest.mark.parametrize(("name", "which"), CASES)
def test_a_whole_record_gives_readings(name: str, which: int) -> None:
    parsed = parse(load_adapter(name), [("whole", RECORDS[name][which])])
    assert parsed.readings
    check_form(parsed)


@pytest.mark.parametrize(("name", "which"), CASES)
def test_a_thousand_damaged_records_end_in_readings_or_one_error(name: str, which: int) -> None:
    found = endings(load_adapter(name), RECORDS[name][which], COPIES, seed=100 + which)
    assert found <= {READ, REFUSED}


@pytest.mark.parametrize(("name", "which"), JSON_CASES)
def test_odd_values_in_a_whole_document_end_in_readings_or_one_error(name: str, which: int) -> None:
    record = RECORDS[name][which].splitlines()[0]
    rng = random.Random(which)
    adapter = load_adapter(name)
    found = {ending(adapter, with_odd_values(record, rng)) for _ in range(COPIES)}
    assert found <= {READ, REFUSED}


@pytest.mark.deep
@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of shared device records is not here")
@pytest.mark.parametrize("files", SHARED_FILES)
def test_a_thousand_damaged_copies_of_real_records_end_in_readings_or_one_error(
    files: str,
) -> None:
    for seed, path in enumerate(sorted(SHARED.glob(files))):
        found = endings(load_adapter(SHARED_FILES[files]), path.read_bytes(), COPIES, seed)
        assert found <= {READ, REFUSED}


def sealed_telegram(damaged: bytes) -> bytes:
    body = b"/" + damaged.replace(b"!", b"").replace(b"/", b"") + b"!"
    return body + f"{crc16_arc(body):04X}\r\n".encode()


def sealed_ocmf(damaged: bytes) -> bytes:
    payload = damaged.decode("utf-8", errors="replace")
    key = public_der(ocmf_key(ec.SECP256R1())).hex()
    return f"{ocmf_record(payload)}|{key}".encode()


def sealed_tic(damaged: bytes) -> bytes:
    lines = damaged.decode("latin-1").split("|")
    return tic_frame(*(tic_group(*line.split("\t"), standard=True) for line in lines))


# What lies under a checksum or signature, and how it is sealed again once damaged.
SEALED: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "dsmr": (DUTCH.partition(b"!")[0], sealed_telegram),
    "sml": (sml_field(SML_LIST), sml_frame),
    "ocmf": (ocmf_payload(ocmf_reading(), {"RV": 1, "RI": "1-b:2.8.0"}).encode(), sealed_ocmf),
    "linky": (b"ADSC\t0418760|DATE\tE240401120000\t|EAST\t008400123|EAIT\t77", sealed_tic),
}


@pytest.mark.parametrize("name", SEALED)
def test_damage_under_a_checksum_that_holds_ends_in_readings_or_one_error(name: str) -> None:
    content, seal = SEALED[name]
    assert parse(load_adapter(name), [("whole", seal(content))]).readings
    found = endings(load_adapter(name), content, COPIES, seed=7, seal=seal)
    assert READ in found
    assert found <= {READ, REFUSED}


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_record_of_another_format_is_refused(name: str) -> None:
    for other, records in RECORDS.items():
        if {name, other} <= {"aiida", "linky"} or {name, other} <= {"cim", "energinet"}:
            continue  # two of one form
        for record in records:
            if name != other:
                with pytest.raises(GridCommonsError):
                    parse(load_adapter(name), [("other", record)])
