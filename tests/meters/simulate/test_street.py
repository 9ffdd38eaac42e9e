# SPDX-License-Identifier: Apache-2.0
"""A street of SimBench homes in one process, and the command that runs one."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from click.testing import CliRunner

from dao.errors import BadUse
from dao.paths import cache_dir
from dao.slots import first_slot_of_day
from meters.adapters.dsmr import DSMR
from meters.adapters.engine import parse
from meters.profiles import roof_wh
from meters.simulate.clock import ManualClock
from meters.simulate.http import HomeWizardMeter
from meters.simulate.p1 import P1Meter
from meters.simulate.street import KINDS, LISTENS, Place, Street, Zone, make
from meters.simulate.truth import Truth
from scripts.meter import cli
from tests.kept import bring_extract

CODE = "1-LV-rural3--2-sw"
DAY = first_slot_of_day(date(2016, 6, 1))


@pytest.fixture(scope="module")
def zone() -> Zone:
    # The command's own cache: SimBench is read once for all of them.
    return Zone(CODE, DAY, 7, bring_extract(cache_dir()), slots=96)


def test_every_kind_that_listens_runs_side_by_side_and_is_reached(zone: Zone) -> None:
    clock = ManualClock(DAY * 900)
    home = next(one.index for one in zone.profiles.homes if one.has_solar)
    kinds = [kind for kind, about in KINDS.items() if about.needs == LISTENS]
    with Street(make(kind, Place(zone, home, clock)) for kind in kinds) as street:
        ports = {device.address.rpartition(":")[2] for device in street.devices}
        assert len(ports) == len(kinds)
        for port in ports:
            socket.create_connection(("127.0.0.1", int(port)), timeout=10).close()


def test_a_streets_meters_add_up_to_the_zone(zone: Zone) -> None:
    clock = ManualClock(DAY * 900)
    homes = len(zone.profiles.homes)
    devices = [make("homewizard", Place(zone, home, clock)) for home in range(homes)]
    with Street(devices) as street:
        before = [_net(device) for device in street.devices]
        clock.advance(96 * 900)
        after = [_net(device) for device in street.devices]
    assert sum(after) - sum(before) == int(zone.profiles.net_wh.sum())


def _net(device: Any) -> int:
    told = requests.get(f"{device.address}/api/v1/data", timeout=10).json()
    return round(1000 * (told["total_power_import_kwh"] - told["total_power_export_kwh"]))


def test_a_roof_yields_by_day_and_covers_what_its_home_feeds_in(zone: Zone) -> None:
    for home in zone.profiles.homes:
        made = roof_wh(CODE, home.index, DAY, 96, 7, zone.cache)
        if not home.has_solar:
            assert not made.any()
            continue
        assert made.min() >= 0
        exported = zone.profiles.export_wh[:, home.index]
        assert (made + 1 >= exported).all()
        if not home.has_battery:
            assert not made[:8].any(), "no sun in the two hours after midnight UTC"
            assert made[40:56].sum() > 0


def test_a_street_begins_whole_or_not_at_all(truth: Truth) -> None:
    clock = ManualClock(0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        first = P1Meter(truth, clock)
        with pytest.raises(BadUse, match="cannot listen"):
            Street([first, HomeWizardMeter(truth, clock, port=port)]).__enter__()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((first.host, first.port), timeout=10)


def test_a_street_that_ends_leaves_no_connection_and_no_port(truth: Truth) -> None:
    clock = ManualClock(0)
    with Street([P1Meter(truth, clock)]) as street:
        (meter,) = street.devices
        assert isinstance(meter, P1Meter)
        client = socket.create_connection((meter.host, meter.port), timeout=10)
        assert client.recv(1) == b"/"
    rest = b"x"
    while rest:
        rest = client.recv(65_536)
    client.close()
    socket.create_server((meter.host, meter.port)).close()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("p2", "unknown kind of device 'p2'"),
        ("tasmota", "name the broker"),
        ("ocpp", "name its URL"),
        ("inverter", "needs a solar roof"),
    ],
)
def test_a_device_that_lacks_something_is_refused(zone: Zone, kind: str, message: str) -> None:
    home = next(one.index for one in zone.profiles.homes if not one.has_solar)
    with pytest.raises(BadUse, match=message):
        make(kind, Place(zone, home, ManualClock(DAY * 900)))


def test_cars_come_every_evening_and_are_the_same_for_the_same_seed(zone: Zone) -> None:
    week = Zone(CODE, DAY, 7, zone.cache, slots=8 * 96)
    cars = week.cars(3)
    assert len(cars) == 7
    assert cars == Zone(CODE, DAY, 7, zone.cache, slots=8 * 96).cars(3)
    assert cars != week.cars(4)
    assert all(np.diff([car.arrives for car in cars]) > 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["p2"], "unknown kind of device 'p2'"),
        (["p2", "--homes", "3"], "unknown kind of device 'p2'"),
        (["--zone", "x"], "unknown zone 'x'"),
        (["--home", "500"], "has the homes 0 to 117, not 500"),
        (["--homes", "500"], "has the homes 0 to 117, not 118"),
        (["--listen", "127.0.0.1:99999"], "expected HOST:PORT"),
        (["--listen", "12"], "expected HOST:PORT"),
        (["p1", "sml", "--listen", "127.0.0.1:65535"], "beyond 65535"),
        (["p1", "--listen", "a:1", "--listen", "a:2"], "given 2 times for 1"),
        (["--listen", "192.0.2.1:4711"], "cannot listen on 192.0.2.1:4711"),
        (["--start", "yesterday"], "expected a date"),
        (["--start", "2016-06-01T12:00"], "needs its offset"),
        (["--start", "0001-01-01"], "expected a year"),
        (["--fault", "x"], "unknown fault 'x'"),
        (["--fault", "spike@x"], "expected whole seconds"),
        (["tasmota"], "name the broker"),
        (["ocpp", "ocpp", "--csms", "ws://h"], "ocpp is named twice for home 0"),
        (["tasmota", "--broker", "x"], "expected mqtt://HOST:PORT"),
        (["ocpp", "--csms", "x"], "expected ws://HOST:PORT/PATH"),
        (["--speed", "nan"], "speed lies above 0"),
    ],
)
def test_bad_use_ends_in_one_clear_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(cli, ["simulate", *arguments])
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_state_folder_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GRIDCOMMONS_HOME", str(tmp_path / "file"))
    result = CliRunner().invoke(cli, ["simulate"])
    assert result.exit_code == 2
    assert "cannot keep profiles in" in result.output


def test_the_kinds_are_listed() -> None:
    listed = json.loads(CliRunner().invoke(cli, ["simulate", "--list", "--json"]).output)
    assert [kind["kind"] for kind in listed["kinds"]] == list(KINDS)
    assert {"fault": "silent", "does": "the device answers nothing and sends nothing"} in listed[
        "faults"
    ]


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_where_devices_are_and_ends_cleanly(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "scripts", "meter", "simulate", "p1", "battery"]
    with subprocess.Popen(
        [*command, "--speed", "900", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            rows = json.loads(process.stdout.readline())
            assert [row["kind"] for row in rows] == ["p1", "battery"]
            host, _, port = rows[0]["address"].rpartition(":")
            with socket.create_connection((host, int(port)), timeout=30) as client:
                telegram = b""
                while b"\r\n" not in telegram.partition(b"!")[2]:
                    telegram += client.recv(4096)
            process.send_signal(number)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")
    whole = telegram[: telegram.index(b"!") + 7]
    (reading,) = parse(DSMR, [("socket", whole)]).readings
    assert reading.end is not None
    assert reading.end.timestamp() % 45 == 0
