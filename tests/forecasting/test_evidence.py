# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from dao.eip712 import keccak
from dao.slots import first_slot_of_day
from forecasting.zone import ZoneTotals, canonical_json, forecast_zone_day, without_battery
from scripts.evidence import cli
from tests.forecasting.conftest import DemoZone

DAY = first_slot_of_day(date(2016, 6, 8))
ROOT = "0x" + "ab" * 32
Document = dict[str, Any]


def made(zone: DemoZone, days: int) -> Document:
    """The evidence of a day after so many days of history, the battery's doing on the last one."""
    end = DAY - 24
    part = slice(end - days * 96 - zone.first_slot, end - zone.first_slot)
    published = ZoneTotals(
        end - days * 96, zone.net_wh[part], zone.export_wh.sum(1, dtype=np.int64)[part]
    )
    battery_wh = [[end - 80, 700, 0], [end - 50, 1, 0]]
    forecast = forecast_zone_day(without_battery(published, battery_wh), DAY)
    return forecast.evidence(published, [ROOT] * days, battery_wh)


@pytest.fixture(scope="module")
def evidence(demo_zone: DemoZone) -> Document:
    return made(demo_zone, 56)


@pytest.fixture(scope="module")
def young(demo_zone: DemoZone) -> Document:
    """A small file that a simple model made: quickly checked."""
    return made(demo_zone, 8)


def write(path: Path, document: Document | bytes) -> Path:
    data = document if isinstance(document, bytes) else canonical_json(document)
    path.write_bytes(data)
    return path


def verify(*arguments: object) -> Result:
    return CliRunner(mix_stderr=False).invoke(cli, ["verify", *map(str, arguments)])


def changed(document: Document, *path: str | int, to: Any) -> Document:
    """A copy with another value at a place; a function as value gets the old one."""
    copied = copy.deepcopy(document)
    at: Any = copied
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = to(at[path[-1]]) if callable(to) else to
    return copied


def more(by: int) -> Callable[[int], int]:
    return lambda value: value + by


def states(done: Result) -> dict[str, str]:
    return {check["name"]: check["state"] for check in json.loads(done.stdout)["checks"]}


def test_the_file_alone_is_enough_to_recompute_the_forecast(
    evidence: Document, tmp_path: Path
) -> None:
    path = write(tmp_path / "evidence.json", evidence)
    done = verify(path, "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["hash"] == "0x" + keccak(path.read_bytes()).hex()
    assert told["day"] == "2016-06-08"
    assert told["model"] == "prophet"
    assert told["holds"] is True
    assert states(done) == {
        "digest": "passed",
        "settings": "passed",
        "forecast": "passed",
        "roots": "not checked",
        "totals": "not checked",
        "battery": "not checked",
        "registry": "not checked",
    }


def test_another_machine_recomputes_the_same_watt_hours(evidence: Document, tmp_path: Path) -> None:
    # Older vector units, other kernels and thread counts, another clock: what machines differ in.
    path = write(tmp_path / "evidence.json", evidence)
    environment = os.environ | {
        "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL "
        "AVX512_ICL AVX512_SPR",
        "OPENBLAS_CORETYPE": "Prescott",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "77",
        "TZ": "Pacific/Auckland",
    }
    done = subprocess.run(
        [sys.executable, "-m", "scripts", "evidence", "verify", str(path)],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "all 768 quantiles and means recomputed to the Wh" in done.stdout


def test_one_watt_hour_is_found_and_named(evidence: Document, tmp_path: Path) -> None:
    first = changed(evidence, "net", "mean", 40, to=more(1))
    both = changed(first, "export", "mean", 50, to=more(2))
    done = verify(write(tmp_path / "evidence.json", both))
    assert done.exit_code == 1
    right = evidence["net"]["mean"][40]
    assert (
        f"forecast: net.mean of slot {DAY + 40} (2016-06-08 10:00 UTC): the file says {right + 1} "
        f"Wh, recomputed {right} Wh; 2 of 768 values differ"
    ) in done.stderr


def test_totals_that_were_not_used_have_another_digest(young: Document, tmp_path: Path) -> None:
    for path in (("totals", "net", 5), ("totals", "export", 5), ("battery_wh", 0, 1)):
        other = changed(young, *path, to=more(1))
        done = verify(write(tmp_path / "evidence.json", other), "--json")
        assert done.exit_code == 1
        assert states(done)["digest"] == "failed"


@pytest.mark.parametrize(
    ("path", "to", "named"),
    [
        (("model",), "prophet", 'model: the file says "prophet", recomputed "seasonal-naive-week"'),
        (("parameters", "short_days"), 57, "parameters.short_days: the file says 57"),
        (("parameters", "day"), "2016-06-09", 'parameters.day: the file says "2016-06-09"'),
        (("parameters", "more"), 1, "parameters.more: the file says 1, recomputed null"),
    ],
)
def test_a_setting_that_the_method_does_not_have_is_named(
    young: Document, tmp_path: Path, path: tuple[str, ...], to: Any, named: str
) -> None:
    done = verify(write(tmp_path / "evidence.json", changed(young, *path, to=to)))
    assert done.exit_code == 1
    assert f"settings: {named}" in done.stderr


def test_another_calendar_gives_another_forecast(evidence: Document, tmp_path: Path) -> None:
    other = changed(evidence, "parameters", "timezone", to="America/New_York")
    done = verify(write(tmp_path / "evidence.json", other), "--json")
    assert done.exit_code == 1
    assert states(done)["settings"] == "passed"
    assert states(done)["forecast"] == "failed"


def test_another_library_version_is_told_and_fails_nothing(young: Document, tmp_path: Path) -> None:
    other = changed(young, "libraries", "prophet", to="0.0.1")
    path = write(tmp_path / "evidence.json", other)
    done = verify(path)
    assert done.exit_code == 0
    assert "Note: made with prophet 0.0.1, checked with" in done.stdout
    assert json.loads(verify(path, "--json").stdout)["other_libraries"]["prophet"]["file"] == (
        "0.0.1"
    )


@pytest.mark.parametrize(
    ("path", "to", "named"),
    [
        (("format",), "gridcommons-forecast-1", "this program reads gridcommons-forecast-2"),
        (("method",), "prophet-ridge-1", "this program computes prophet-ridge-3"),
        (("zone",), True, "zone true: expected a whole number, 1 to 1023"),
        (("first_slot",), more(1), "expected the first slot of a UTC day"),
        (("slots",), 95, "slots 95"),
        (("train_first_slot",), more(1), "totals.net: expected 767 values"),
        (("train_end_slot",), DAY + 96, "train_end_slot"),
        (("train_first_slot",), -96, "train_first_slot -96"),
        (("totals", "net", 0), 1.5, "totals.net 1.5: expected a whole number"),
        (("totals", "net", 0), 2**31, "totals.net 2147483648"),
        (("totals", "export", 0), -1, "totals.export -1"),
        (("totals", "net", 0), -(2**30), "export or import below zero"),
        (("battery_wh", 0, 2), 2**31, "export or import below zero"),
        (("battery_wh", 0), [DAY, 1, 1], "battery_wh, slot"),
        (("battery_wh", 1), [1, 1], "expected [slot, import, export]"),
        (("totals_sha256",), "00", "totals_sha256"),
        (("roots", 0), "0x01", "roots"),
        (("parameters", "timezone"), "Europe/Nowhere", "unknown time zone 'Europe/Nowhere'"),
        (("parameters", "timezone"), "../../etc/passwd", "parameters.timezone"),
        (("parameters", "country"), "XX", "no holidays known for"),
        (("parameters", "region"), "ZZ", "no holidays known for 'DE/ZZ'"),
        (("parameters", "location", "latitude"), 91, "no such place on earth"),
        (("parameters", "location", "latitude"), "53", "expected degrees"),
        (("parameters", "location"), {}, "latitude is missing"),
        (("libraries", "numpy"), None, "libraries.numpy null"),
        (("net", "q50"), [0] * 95, "net.q50: expected 96 values"),
        (("net", "q10", 3), 2**31 - 1, "expected q10 <= q50 <= q90"),
    ],
)
def test_a_file_of_another_form_ends_with_one_line(
    evidence: Document, young: Document, tmp_path: Path, path: tuple[Any, ...], to: Any, named: str
) -> None:
    # Only the full model reads the calendar.
    base = evidence if path[0] == "parameters" else young
    done = verify(write(tmp_path / "evidence.json", changed(base, *path, to=to)))
    assert_bad_use(done)
    assert named in done.stderr


def test_what_is_not_canonical_is_refused(young: Document, tmp_path: Path) -> None:
    whole = canonical_json(young)
    for data in (
        whole + b"\n",
        json.dumps(young, sort_keys=True).encode(),
        whole.replace(b'"unit":"Wh"', b'"unit":"kWh","unit":"Wh"'),
        b"\xef\xbb\xbf" + whole,
        b"",
        b"[]",
        b"null",
        b"[" * 100_000,
        b"NaN",
        b'{"zone":' + b"9" * 10_000 + b"}",
        whole[: len(whole) // 2],
        b" " * 4_000_001,
    ):
        assert_bad_use(verify(write(tmp_path / "evidence.json", data)))
    assert_bad_use(verify(tmp_path / "none.json"))


def assert_bad_use(done: Result) -> None:
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == 2, done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) < 400
    assert done.stdout == ""


STRANGE: tuple[Any, ...] = (
    None,
    True,
    -1,
    2**63,
    10**400,
    0.5,
    "",
    "x" * 5_000,
    "\ud800",
    [],
    [[]],
    {},
    {"a": 1},
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place of a document; of long lists the first and the last."""
    found = [path] if path else []
    keys: list[str | int] = list(value) if isinstance(value, dict) else []
    if isinstance(value, list):
        keys = sorted({0, len(value) - 1} & set(range(len(value))))
    for key in keys:
        found += places(value[key], (*path, key))
    return found


def test_no_mutilated_copy_ends_in_a_traceback_or_passes(young: Document, tmp_path: Path) -> None:
    # Roots need a node, versions nobody, and a young zone's model reads no calendar: these may
    # pass, all else must not.
    may_differ = {"roots", "libraries", "parameters"}
    rng = random.Random(20160608)
    everywhere = places(young)
    passed = failed = 0
    for number in range(200):
        if number % 2:
            whole = bytearray(canonical_json(young))
            for _ in range(rng.choice((1, 1, 3))):
                whole[rng.randrange(len(whole))] = rng.choice(b'0123456789-,[]{}"ae. \xff')
            data = bytes(whole)
        else:
            where = rng.choice(everywhere)
            data = canonical_json(changed(young, *where, to=rng.choice(STRANGE)))
        done = verify(write(tmp_path / "evidence.json", data))
        if done.exit_code == 2:
            assert_bad_use(done)
            continue
        other = json.loads(data)
        if done.exit_code == 0:
            passed += 1
            assert {key for key in young if young[key] != other[key]} <= may_differ
        else:
            failed += 1
            assert done.exit_code == 1
            assert done.stderr.startswith("Error: the evidence does not hold: ")
    assert failed > 10
    assert passed < 20


def test_a_deployment_without_a_network_is_bad_use(young: Document, tmp_path: Path) -> None:
    path = write(tmp_path / "evidence.json", young)
    done = verify(path, "--deployment", tmp_path / "deployment.json")
    assert_bad_use(done)
    assert "--network is needed" in done.stderr


def test_help_loads_no_model() -> None:
    code = "import sys, scripts.evidence; print({'numpy', 'pandas', 'ape'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "set()\n"
