# SPDX-License-Identifier: Apache-2.0
"""`gridcommons meter` as a person or a script uses it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec

from meters.adapters.engine import BUILT_IN
from scripts.meter import cli
from tests.meters.adapters.records import (
    CSV_LOCAL,
    DUTCH,
    HOMEWIZARD,
    ocmf_key,
    ocmf_payload,
    ocmf_reading,
    ocmf_record,
    public_der,
)
from tests.meters.adapters.records import telegram as telegram_of

ROOT = Path(__file__).resolve().parents[3]


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    runner = CliRunner(mix_stderr=False)
    return runner.invoke(cli, list(arguments), input=stdin, catch_exceptions=False)


@pytest.fixture
def telegram(tmp_path: Path) -> str:
    path = tmp_path / "telegram.txt"
    path.write_bytes(DUTCH)
    return str(path)


def test_json_is_the_published_format(telegram: str) -> None:
    result = run("parse", "dsmr", telegram, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == [
        {
            "meter": "E0044007050792417",
            "start": None,
            "end": "2024-04-01T10:00:00Z",
            "import_wh": 1514050,
            "export_wh": 3500,
            "register": True,
            "quality": "measured",
            "source_quality": None,
        }
    ]


def test_a_table_is_what_a_person_sees(telegram: str) -> None:
    result = run("parse", "dsmr", telegram)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].split() == [
        *("E0044007050792417", "register", "2024-04-01T10:00:00Z"),
        *("1,514,050", "3,500", "measured"),
    ]


def test_a_long_table_is_cut(tmp_path: Path) -> None:
    lines = [f"{1711965600 + 900 * i},{i}" for i in range(50)]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["timestamp,import_wh", *lines]))
    assert "... 10 more (--json lists all readings)" in run("parse", "csv", str(path)).stdout
    assert len(json.loads(run("parse", "csv", str(path), "--json").stdout)) == 50


def test_several_files_and_standard_input_are_read_as_one(telegram: str) -> None:
    result = run("parse", "dsmr", telegram, "-", "--json", stdin=DUTCH)
    assert len(json.loads(result.stdout)) == 1


def test_notes_go_to_stderr_and_leave_the_json_alone() -> None:
    result = run("parse", "csv", "-", "--json", stdin=CSV_LOCAL)
    assert len(json.loads(result.stdout)) == 3
    assert "Note: standard input: times without an offset" in result.stderr


def test_options_fill_what_the_record_does_not_say() -> None:
    options = ("--at", "2024-04-01T12:00:00+02:00")
    (row,) = json.loads(
        run("parse", "homewizard", "-", "--json", *options, stdin=HOMEWIZARD).stdout
    )
    assert row["end"] == "2024-04-01T10:00:00Z"
    zoned = run("parse", "csv", "-", "--timezone", "Europe/Vienna", "--meter", "X", stdin=CSV_LOCAL)
    assert zoned.stdout.splitlines()[1].split()[:2] == ["X", "2023-10-28T23:00:00Z"]


@pytest.mark.parametrize("as_file", [True, False])
def test_a_key_is_given_as_text_or_as_a_file(tmp_path: Path, as_file: bool) -> None:
    key = public_der(ocmf_key(ec.SECP256R1()))
    path = tmp_path / "key.der"
    path.write_bytes(key)
    given = str(path) if as_file else key.hex()
    record = ocmf_record(ocmf_payload(ocmf_reading())).encode()
    assert run("parse", "ocmf", "-", "--key", given, stdin=record).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "stdin", "words", "code"),
    [
        (("nonsense", "-"), b"x", "unknown adapter 'nonsense'", 2),
        (("dsmr", "no/such/file"), b"", "cannot read no/such/file", 2),
        (("dsmr", "-"), b"", "standard input: the file is empty", 2),
        (("dsmr", "-"), b"abc", "no telegram found", 2),
        (("dsmr", "-"), DUTCH.replace(b"671", b"672"), "CRC", 1),
        (("shelly", "-"), b"{}", "no reading of electrical energy", 1),
        (("csv", "-", "--timezone", "Mars/Olympus"), b"x", "unknown time zone", 2),
        (("csv", "-", "--timezone", "../../etc/passwd"), b"x", "unknown time zone", 2),
        (("csv", "-", "--at", "noon"), b"x", "--at is 'noon'", 2),
        (("ocmf", "-", "--key", "zz!"), b"x", "neither hexadecimal nor base64", 2),
    ],
)
def test_bad_input_ends_with_one_line_and_its_code(
    arguments: tuple[str, ...], stdin: bytes, words: str, code: int
) -> None:
    result = run("parse", *arguments, stdin=stdin)
    assert result.exit_code == code
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert words in line


@pytest.mark.parametrize("line", ["1-0:1.8.1(00x*kWh)", "1-0:1.8.1(1é*kWh)", "0-0:1.0.0(99)"])
def test_no_library_prints_beside_the_one_line(line: str) -> None:
    # In a process of its own: within pytest, log records do not reach stderr.
    command = [sys.executable, "-m", "scripts", "meter", "parse", "dsmr", "-"]
    ended = subprocess.run(
        command, input=telegram_of("1-0:1.8.2(1*kWh)", line), cwd=ROOT, capture_output=True
    )
    assert ended.returncode == 2
    (said,) = ended.stderr.decode().splitlines()
    assert said.startswith("Error: standard input: telegram cannot be read")


def test_a_name_from_a_file_cannot_command_the_terminal() -> None:
    payload = {"unique_id": "\x1b[2Jevil\nname", "total_power_import_kwh": 1}
    result = run("parse", "homewizard", "-", stdin=json.dumps(payload).encode())
    assert "\x1b" not in result.stdout
    assert "?[2Jevil name" in result.stdout


def test_every_adapter_is_listed_with_its_conventions() -> None:
    listed = json.loads(run("adapters", "--json").stdout)
    assert [one["name"] for one in listed] == sorted(BUILT_IN)
    keys = {"name", "title", "sign", "interval", "time", "units", "register"}
    assert all(one.keys() == keys and all(one.values()) for one in listed)
    assert {line.split()[0] for line in run("adapters").stdout.splitlines()} == set(BUILT_IN)


def test_the_conventions_of_one_adapter_are_shown() -> None:
    lines = run("adapters", "dsmr").stdout.splitlines()
    assert lines[0].startswith("dsmr")
    assert [line.split()[0] for line in lines[1:]] == [
        *("sign", "interval", "time", "units", "register")
    ]
    assert run("adapters", "nonsense").exit_code == 2


def test_help_needs_no_library_of_any_adapter() -> None:
    heavy = ["lxml", "dsmr_parser", "sml", "sunspec2", "cryptography", "numpy", "meters"]
    program = (
        "import sys; from scripts.__main__ import gridcommons\n"
        "try: gridcommons(['meter', 'parse', '--help'])\n"
        "except SystemExit: pass\n"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    )
    helped, loaded = ended.stdout.splitlines()[0], ended.stdout.splitlines()[-1]
    assert helped.startswith("Usage:")
    assert loaded == "[]"
