# SPDX-License-Identifier: Apache-2.0
"""`gridcommons meter collect` as a process: killed under load, ended in order, badly used; and what
`gridcommons status` says of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiomqtt
import pytest
import requests
from click.testing import CliRunner, Result

from dao.processes import free_port
from meters.broker import EmbeddedBroker
from meters.frames import encode
from meters.readings import Readings
from scripts.__main__ import gridcommons
from tests.meters.service.zone import (
    FIRST,
    HOMES,
    OnChain,
    Service,
    of,
    service,
    signed,
    wait_for,
)

pytestmark = pytest.mark.e2e


@contextmanager
def broker() -> Iterator[int]:
    """A broker in a thread of its own, which outlives the services of a test."""
    port, loop, up = free_port(), asyncio.new_event_loop(), threading.Event()
    stop = asyncio.Event()

    async def live() -> None:
        async with EmbeddedBroker("127.0.0.1", port):
            up.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(live(),))
    thread.start()
    assert up.wait(30)
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()


def pieces(readings: Readings, meters: range) -> list[bytes]:
    """One frame for every reading of these meters, in the order of their chains."""
    slots = range(FIRST, FIRST + len(readings) // HOMES)
    return [encode(of(readings, m, range(s, s + 1))) for s, m in itertools.product(slots, meters)]


def by_http(at: Service, frames: list[bytes], done: queue.SimpleQueue[bytes]) -> None:
    """Send one after the other until the collector is gone."""
    with contextlib.suppress(requests.RequestException):
        for frame in frames:
            if at.post(frame).json().get("accepted") == 1:
                done.put(frame)


def by_mqtt(
    port: int, frames: list[bytes], done: queue.SimpleQueue[bytes], end: threading.Event
) -> None:
    """Send all at once and note what is acknowledged."""
    from meters.frames import frame_id

    named = {"0x" + frame_id(frame).hex(): frame for frame in frames}

    async def run() -> None:
        async with aiomqtt.Client("127.0.0.1", port) as client:
            await client.subscribe("gridcommons/1/acknowledgements/home", qos=1)

            async def listen() -> None:
                async for message in client.messages:
                    answer = json.loads(message.payload)
                    if answer.get("accepted") == 1:
                        done.put(named[answer["frame"]])

            listening = asyncio.create_task(listen())
            for frame in frames:
                await client.publish("gridcommons/1/readings/home", frame, qos=1)
            while not end.is_set():
                await asyncio.sleep(0.02)
            listening.cancel()

    asyncio.run(run())


def test_what_was_acknowledged_survives_a_kill_under_load(on: OnChain, tmp_path: Path) -> None:
    readings = signed(on.separator, FIRST, 24)
    on.at_slot(FIRST + 24)
    heard: dict[str, queue.SimpleQueue[bytes]] = {
        name: queue.SimpleQueue() for name in ("http", "mqtt")
    }
    end = threading.Event()
    with broker() as port:
        mqtt = ("--mqtt", f"mqtt://127.0.0.1:{port}", "--no-commit")
        with service(on, tmp_path, *mqtt) as first:
            wait_for(lambda: first.status()["mqtt"]["connected"])
            senders = [
                threading.Thread(
                    target=by_http, args=(first, pieces(readings, range(1, 9)), heard["http"])
                ),
                threading.Thread(
                    target=by_mqtt, args=(port, pieces(readings, range(9, 17)), heard["mqtt"], end)
                ),
            ]
            for sender in senders:
                sender.start()
            try:
                wait_for(lambda: min(one.qsize() for one in heard.values()) >= 10)
                first.kill()
            finally:
                end.set()
                for sender in senders:
                    sender.join(30)
        acknowledged = [one.get() for one in heard.values() for _ in range(one.qsize())]
        assert len(acknowledged) >= 20
        with service(on, tmp_path, *mqtt) as second:
            for frame in acknowledged:
                answer = on.check(second.post(frame).json(), frame)
                assert (answer.accepted, answer.duplicates) == (0, 1)
            second.process.send_signal(signal.SIGINT)
            assert second.process.wait(60) == 0


def test_a_service_commits_refuses_a_second_and_ends_in_order(on: OnChain, tmp_path: Path) -> None:
    readings = signed(on.separator, FIRST, 4)
    on.at_slot(FIRST + 4)
    with service(on, tmp_path, "--broker", f"127.0.0.1:{free_port()}") as at:
        for meter in range(1, HOMES + 1):
            frame = encode(of(readings, meter))
            assert on.check(at.post(frame).json(), frame).accepted == 4
        on.at_slot(FIRST + 4, 1_800)
        wait_for(lambda: on.until() == FIRST + 4)

        options = ["--rpc", on.node.url, "--deployment", str(on.addresses)]
        second = collect(tmp_path, *options)
        assert second.exit_code == 1
        assert "another collector" in second.stderr
        assert at.get("/health").status_code == 200

        wait_for(lambda: at.status()["ledger"]["until_slot"] == FIRST + 4)
        told = status(*options, "--collector", at.url)
        assert told.exit_code == 0, told.output
        assert "16 meters" in told.stdout
        document = json.loads(status(*options, "--collector", at.url, "--json").stdout)
        states = {part["part"]: part["state"] for part in document["parts"]}
        assert document["ok"]
        assert {states[part] for part in ("node", "contracts", "collector")} == {"well"}

        assert at.end() == 0
        told = status(*options, "--collector", at.url)
        assert told.exit_code == 1
        assert "nothing answers" in told.stdout
    with pytest.raises(ProcessLookupError):
        os.kill(at.process.pid, 0)
    lines = [json.loads(line) for line in at.log.read_text().splitlines()]
    assert {"closed", "committed"} <= {line["event"] for line in lines}
    assert all(line["level"] == "info" for line in lines)


def collect(folder: Path, *options: str) -> Result:
    """The command in this process, where it is expected to end at once."""
    words = ["meter", "collect", "--listen", "127.0.0.1:0", *options]
    environment = {"GRIDCOMMONS_HOME": str(folder)}
    return CliRunner(mix_stderr=False).invoke(gridcommons, words, env=environment)


def status(*arguments: str) -> Result:
    return CliRunner(mix_stderr=False).invoke(gridcommons, ["status", *arguments])


BAD = {
    "--listen nowhere": "--listen",
    "--listen 127.0.0.1:99999": "--listen",
    "--listen 127.0.0.1:x": "--listen",
    "--listen ::1:80": "[::1]",
    "--listen 999.1.1.1:80": "--listen 999.1.1.1",
    "--mqtt http://broker": "--mqtt",
    "--mqtt mqtt://user:word@broker": "PASSWORD",
    "--mqtt mqtt://broker --broker 127.0.0.1:1883": "choose one",
    "--mqtt-ca nowhere": "--mqtt",
    "--mqtt mqtts://broker --mqtt-ca nowhere": "--mqtt-ca",
    "--mqtt mqtt://u@broker --mqtt-password-file /nowhere": "cannot read",
    "--zone 0": "--zone",
    "--zone 1024": "--zone",
    "--account 10": "--account",
    "--batch-hours 5": "--batch-hours",
    "--delay -1": "--delay",
    "--source-rate 0": "--source-rate",
}


@pytest.mark.parametrize("options", BAD)
def test_bad_options_end_with_a_line_before_anything_runs(options: str, tmp_path: Path) -> None:
    found = collect(tmp_path, *options.split())
    assert found.exit_code == 2, found.output
    assert BAD[options] in found.stderr
    assert not list(tmp_path.iterdir())


def test_an_account_that_is_not_the_collector_is_refused(on: OnChain, tmp_path: Path) -> None:
    options = ["--rpc", on.node.url, "--deployment", str(on.addresses)]
    found = collect(tmp_path, *options, "--account", "3")
    assert found.exit_code == 1
    assert "is not the collector of zone 1" in found.stderr
    assert not (tmp_path / "inbox.sqlite").exists()


@pytest.mark.parametrize("options", ["--rpc nowhere", "--relay ftp://x", "--collector http://[x"])
def test_status_refuses_what_is_no_address(options: str) -> None:
    found = status(*options.split())
    assert found.exit_code == 2
    assert "expected" in found.stderr


def test_status_tells_a_keeper_that_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDCOMMONS_HOME", str(tmp_path))
    notes = tmp_path / "keeper.json"
    notes.write_text("{}")
    nobody = ("--rpc", f"http://127.0.0.1:{free_port()}")
    parts = json.loads(status(*nobody, "--json").stdout)["parts"]
    assert {"part": "keeper", "state": "well"}.items() <= parts[2].items()
    os.utime(notes, (0, 0))
    told = json.loads(status(*nobody, "--json").stdout)
    assert told["wrong"] == ["node", "keeper"]
