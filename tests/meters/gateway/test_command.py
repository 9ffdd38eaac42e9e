# SPDX-License-Identifier: Apache-2.0
"""`gridcommons meter gateway` as a person meets it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dao.eip712 import address_bytes, recover
from dao.metering import KeyRotation, registry_separator, rotation_digest
from meters.gateway.keystore import address_in, load_key
from meters.gateway.outbox import Outbox
from scripts.meter import cli
from tests.meters.gateway.house import (
    CHAIN,
    LEDGER,
    METER,
    PASSWORD,
    REGISTRY,
    SEPARATOR,
    WORK,
    Collector,
    House,
    source,
)

ROOT = Path(__file__).resolve().parents[3]
INIT = [
    *("--meter", str(METER), "--registry", REGISTRY, "--ledger", LEDGER),
    *("--collector", "http://127.0.0.1:9", "--collector-address", "0x" + "5" * 40),
    *("--source", "p1", "--address", "tcp://127.0.0.1:2001"),
]


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDCOMMONS_GATEWAY_PASSWORD", PASSWORD)
    # A wallet's cost of scrypt takes seconds for each key.
    monkeypatch.setattr("eth_keyfile.keyfile.get_default_work_factor_for_kdf", lambda _: WORK)


def call(folder: Path, *words: str) -> Result:
    """One command on the folder's settings."""
    config = ["--config", str(folder / "gateway.toml")]
    return CliRunner(mix_stderr=False).invoke(cli, ["gateway", *words, *config])


def assert_refused(result: Result, code: int, said: str) -> None:
    """It ended with one line and no traceback."""
    assert result.exit_code == code, result.output
    [line] = result.stderr.strip().splitlines()
    assert line.startswith("Error: ")
    assert said in line


def test_from_nothing_to_a_key_that_is_registered_and_changed(tmp_path: Path) -> None:
    assert call(tmp_path, "init", *INIT).exit_code == 0
    made = json.loads(call(tmp_path, "key", "new", "--json").stdout)
    [shown] = json.loads(call(tmp_path, "key", "show", "--json").stdout)
    assert shown["device"] == made["device"]
    old = load_key(Path(made["file"]), PASSWORD)
    request = json.loads(call(tmp_path, "key", "rotate").stdout)
    assert (request["meter"], request["registry"]) == (METER, REGISTRY)
    rotation = KeyRotation(METER, request["device"], request["valid_from"], request["deadline"])
    digest = rotation_digest(registry_separator(CHAIN, REGISTRY), rotation)
    for name, address in (("old_signature", old.address), ("new_signature", request["device"])):
        assert recover(digest, bytes.fromhex(request[name][2:])) == address_bytes(address)
    first, second = json.loads(call(tmp_path, "key", "show", "--json").stdout)
    assert (first["device"], first["in_use"]) == (old.address, True)
    assert (second["device"], second["in_use"]) == (request["device"], False)
    assert_refused(call(tmp_path, "key", "rotate"), 2, "--replace")
    assert call(tmp_path, "key", "confirm", request["device"]).exit_code == 0
    with Outbox(tmp_path / f"gateway-{METER}" / "outbox.sqlite", METER, SEPARATOR) as outbox:
        assert [one.confirmed for one in outbox.key_periods()] == [True, True]


def test_a_key_that_never_reached_the_registry_can_be_replaced(tmp_path: Path) -> None:
    call(tmp_path, "init", *INIT)
    call(tmp_path, "key", "new")
    begin = ("--valid-from", str(int(time.time()) + 5_000))
    first, second = (
        json.loads(call(tmp_path, "key", "rotate", *begin, *more).stdout)["device"]
        for more in ((), ("--replace",))
    )
    shown = json.loads(call(tmp_path, "key", "show", "--json").stdout)
    assert [one["device"] for one in shown][1:] == [second]
    # The key itself is kept: nobody can know whether the registry gets it after all.
    folder = tmp_path / f"gateway-{METER}"
    assert {address_in(file) for file in folder.glob("key-*.json")} == {first, second}


def test_init_overwrites_nothing_and_takes_nothing_that_run_would_not(tmp_path: Path) -> None:
    assert call(tmp_path, "init", *INIT).exit_code == 0
    before = (tmp_path / "gateway.toml").read_text()
    assert_refused(call(tmp_path, "init", *INIT), 2, "exists already")
    assert (tmp_path / "gateway.toml").read_text() == before
    other = tmp_path / "other"
    other.mkdir()
    wrong = ["p2" if word == "p1" else word for word in INIT]
    assert_refused(call(other, "init", *wrong), 2, "is not one of p1")
    assert list(other.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run"], 2, "cannot read"),
        (["status"], 2, "cannot read"),
        (["key", "new"], 2, "cannot read"),
        (["key", "show"], 2, "cannot read"),
        (["key", "rotate"], 2, "cannot read"),
        (["key", "confirm", "0x" + "1" * 40], 2, "cannot read"),
    ],
)
def test_without_settings_every_command_says_so(
    words: list[str], code: int, said: str, tmp_path: Path
) -> None:
    assert_refused(call(tmp_path, *words), code, said)


def test_what_is_missing_or_wrong_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(tmp_path, "init", *INIT)
    assert_refused(call(tmp_path, "run"), 2, "key new")
    assert_refused(call(tmp_path, "status"), 1, "never ran")
    assert_refused(call(tmp_path, "key", "show"), 2, "key new")
    call(tmp_path, "key", "new")
    assert_refused(call(tmp_path, "key", "new"), 2, "never overwritten")
    assert_refused(call(tmp_path, "key", "confirm", "0x" + "1" * 40), 2, "has no key")
    assert_refused(call(tmp_path, "key", "confirm", "0x12"), 2, "20 bytes")
    assert_refused(call(tmp_path, "key", "rotate", "--valid-from", "1"), 2, "in the past")
    monkeypatch.setenv("GRIDCOMMONS_GATEWAY_PASSWORD", "wrong")
    assert_refused(call(tmp_path, "run"), 1, "does not open")
    assert_refused(call(tmp_path, "key", "rotate"), 1, "does not open")
    monkeypatch.delenv("GRIDCOMMONS_GATEWAY_PASSWORD")
    assert_refused(call(tmp_path, "run"), 2, "no password")


def test_a_running_gateway_says_what_it_does_and_ends_on_a_signal(tmp_path: Path) -> None:
    with Collector("0x" + "00" * 20) as collector:
        house = House(tmp_path, collector)
        house.settings(source("p1", "tcp://127.0.0.1:9"))
        command = [sys.executable, "-m", "scripts", "meter", "gateway", "run", "--json"]
        process = subprocess.Popen(
            [*command, "--config", str(tmp_path / "gateway.toml")],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            facts = json.loads(process.stdout.readline())
            assert facts["device"] == house.key.address
            assert_refused(call(tmp_path, "run"), 1, "another gateway")
            status: dict[str, Any] = {}
            while not status:
                told = call(tmp_path, "status", "--json")
                status = json.loads(told.stdout) if told.stdout else {}
                time.sleep(0.05)
            assert status["meter"] == METER
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0
        assert "Traceback" not in log
        assert house.key.private.hex() not in log
        told = call(tmp_path, "status")
        assert told.exit_code == 1
        assert "problem   source p1: tcp://127.0.0.1:9: Connection refused" in told.stdout
