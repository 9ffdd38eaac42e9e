# SPDX-License-Identifier: Apache-2.0
"""The collector over a real MQTT broker, with the gateways' own sender at the other end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Protocol

import aiomqtt
import pytest
from amqtt.broker import Broker as Server
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pwdlib.hashers.argon2 import Argon2Hasher

from dao.errors import BadUse, CheckFailed
from dao.processes import end_child, free_port, start_child
from dao.relay.limits import Rate
from meters.acknowledgements import Acknowledgement, parse
from meters.broker import EmbeddedBroker
from meters.frames import MAX_FRAME_BYTES, encode, frame_id
from meters.gateway.settings import Settings
from meters.gateway.uplink import MqttTransport, Unreachable
from meters.readings import Readings
from meters.service.intake import Intake, Limits
from meters.service.mqtt import Broker, MqttSide
from meters.service.writer import Writer
from tests.meters.gateway.house import House
from tests.meters.service.conftest import Made
from tests.meters.service.served import ACCOUNT, SEAL, intake_of
from tests.meters.service.zone import ZONE, of


class Startable(Protocol):
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


class Mosquitto:
    """The broker most zones would run, as a process."""

    def __init__(self, port: int, folder: Path) -> None:
        self._settings = folder / "mosquitto.conf"
        self._settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
        self._port = port
        self._process: Any = None

    async def start(self) -> None:
        self._process = start_child(["mosquitto", "-c", str(self._settings)])
        for _ in range(500):
            with contextlib.suppress(OSError):
                _, out = await asyncio.open_connection("127.0.0.1", self._port)
                out.close()
                return
            await asyncio.sleep(0.02)
        raise AssertionError("mosquitto does not listen")

    async def stop(self) -> None:
        end_child(self._process)


def broker_of(kind: str, port: int, folder: Path) -> Startable:
    if kind == "mosquitto":
        if shutil.which("mosquitto") is None:
            pytest.skip("mosquitto is not installed")
        return Mosquitto(port, folder)
    return EmbeddedBroker("127.0.0.1", port)


Reported = list[object]


@asynccontextmanager
async def listening(
    port: int, writer: Writer, limits: Limits | None = None, reports: Reported | None = None
) -> AsyncIterator[tuple[MqttSide, Intake]]:
    intake = intake_of(writer, limits)

    async def report(document: object) -> bool:
        if not isinstance(document, dict):
            raise BadUse("a dispatch report is a JSON object")
        (reports if reports is not None else []).append(document)
        return True

    # Waits are drawn as zero: what is tested is that it comes back, not when.
    side = MqttSide(
        Broker("127.0.0.1", port), ZONE, "gridcommons-collector-1", intake, report, lambda: 0.01
    )
    task = asyncio.create_task(side.run())
    try:
        await until(lambda: side.is_connected)
        yield side, intake
    finally:
        await side.drain()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(6_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


def gateway(port: int, folder: Path) -> Settings:
    folder.mkdir(exist_ok=True)
    return House(folder).settings(
        '[[source]]\nkind = "p1"\naddress = "tcp://127.0.0.1:9"\n',
        link=f'mqtt = "mqtt://127.0.0.1:{port}"',
    )


async def delivered(transport: MqttTransport, frame: bytes) -> Acknowledgement:
    """Send until it is acknowledged, as a gateway does."""
    for _ in range(60):
        with contextlib.suppress(Unreachable):
            answer = parse(await transport.send(frame))
            if isinstance(answer, Acknowledgement):
                answer.verify(SEAL, ACCOUNT.address, frame_id(frame))
                return answer
        await asyncio.sleep(0.05)
    raise AssertionError("never acknowledged")


@pytest.mark.parametrize("kind", ["embedded", "mosquitto"])
def test_a_stream_survives_the_restart_of_its_broker(
    kind: str, writers: Made, day: Readings, tmp_path: Path
) -> None:
    writer = writers()

    async def run() -> list[Acknowledgement]:
        port = free_port()
        broker = broker_of(kind, port, tmp_path)
        await broker.start()
        transport = MqttTransport(gateway(port, tmp_path / "home"), None)
        try:
            async with listening(port, writer) as (side, _):
                found = []
                for meter in range(1, 17):
                    if meter == 6:
                        await broker.stop()
                        await until(lambda: not side.is_connected)
                        await broker.start()
                    found.append(await delivered(transport, encode(of(day, meter))))
                assert side.reconnects
                return found
        finally:
            await transport.close()
            await broker.stop()

    found = asyncio.run(run())
    assert all(one.accepted + one.duplicates == 8 for one in found)
    assert writer.call(lambda collector: collector.waiting()) == len(day)


@asynccontextmanager
async def with_client(port: int) -> AsyncIterator[tuple[aiomqtt.Client, Callable[..., Any]]]:
    """A client that hears all answers, and what waits for the next one."""
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("gridcommons/1/acknowledgements/+", qos=1)

        async def answer(gateway: str, payload: bytes) -> Any:
            await client.publish(f"gridcommons/1/readings/{gateway}", payload, qos=1)
            async with asyncio.timeout(30):
                message = await anext(aiter(client.messages))
            assert str(message.topic).endswith("/" + gateway)
            return json.loads(message.payload)

        yield client, answer


def test_a_hostile_message_is_answered_and_loses_nothing(writers: Made, day: Readings) -> None:
    async def run() -> None:
        port = free_port()
        limits = Limits(bad=Rate(burst=1_000, per_minute=1))
        async with (
            EmbeddedBroker("127.0.0.1", port),
            listening(port, writers(), limits),
            with_client(port) as (client, answer),
        ):
            for gateway in ("a b", "x" * 65, "../etc", "ü"):
                topic = f"gridcommons/1/readings/{gateway}"
                await client.publish(topic, encode(of(day, 1)), qos=1)
            for body in (b"", b"GCR1", bytes(1_000), bytes(MAX_FRAME_BYTES + 1)):
                assert "error" in await answer("home-1", body)
            made = parse(await answer("home-1", encode(day)))
            assert isinstance(made, Acknowledgement)
            assert (made.accepted, made.duplicates) == (128, 0)

    asyncio.run(run())


def test_a_gateway_that_floods_waits_alone(writers: Made, day: Readings) -> None:
    async def run() -> None:
        port = free_port()
        limits = Limits(readings=Rate(burst=8, per_minute=1))
        async with (
            EmbeddedBroker("127.0.0.1", port),
            listening(port, writers(), limits),
            with_client(port) as (_, answer),
        ):
            first = encode(of(day, 1))
            assert (await answer("loud", first))["accepted"] == 8
            busy = await answer("loud", first)
            assert busy["busy"] > 0
            assert busy["frame"] == "0x" + frame_id(first).hex()
            assert (await answer("quiet", encode(of(day, 2))))["accepted"] == 8

    asyncio.run(run())


def test_dispatch_reports_come_the_same_way(writers: Made) -> None:
    async def run() -> None:
        port, reports = free_port(), Reported()
        async with (
            EmbeddedBroker("127.0.0.1", port),
            listening(port, writers(), reports=reports) as (_, intake),
            aiomqtt.Client("127.0.0.1", port) as client,
        ):
            for body in (b"{", b"[]", b"x" * 5_000, b'{"meter": 1}'):
                await client.publish("gridcommons/1/dispatch/home-1", body, qos=1)
            await until(lambda: len(reports) == 1)
            assert reports == [{"meter": 1}]
            assert intake.metrics.malformed == 3

    asyncio.run(run())


def test_a_gateway_that_floods_with_reports_waits(writers: Made) -> None:
    async def run() -> None:
        port, reports = free_port(), Reported()
        limits = Limits(readings=Rate(burst=2, per_minute=1))
        async with (
            EmbeddedBroker("127.0.0.1", port),
            listening(port, writers(), limits, reports) as (_, intake),
            aiomqtt.Client("127.0.0.1", port) as client,
        ):
            for _ in range(5):
                await client.publish("gridcommons/1/dispatch/home-1", b"{}", qos=1)
            await until(lambda: intake.metrics.busy["rate"] == 3)
            assert len(reports) == 2

    asyncio.run(run())


def test_a_taken_port_is_told_in_a_line() -> None:
    async def run() -> None:
        port = free_port()
        async with EmbeddedBroker("127.0.0.1", port):
            with pytest.raises(CheckFailed, match=f"cannot listen for MQTT on 127.0.0.1.*{port}"):
                await EmbeddedBroker("127.0.0.1", port).start()

    asyncio.run(run())


@pytest.mark.parametrize(
    "url",
    ["", "broker", "http://broker", "mqtt://", "mqtt://b:0", "mqtt://b:99999", "mqtt://b/topic",
     "mqtt://b?x=1", "mqtt://[::1", "mqtt://user:word@b"],
)  # fmt: skip
def test_a_broker_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BadUse, match="--mqtt"):
        Broker.parse(url)


def test_a_broker_never_shows_its_password() -> None:
    broker = Broker.parse("mqtt://collector@broker", "a secret word")
    assert "secret" not in f"{broker} {broker!r}"
    with pytest.raises(BadUse, match="user"):
        Broker.parse("mqtt://broker", "a secret word")
    with pytest.raises(BadUse, match="mqtt-ca"):
        Broker.parse("mqtts://broker", None, Path("/nowhere"))


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "broker.pem", folder / "broker.key"
    files[0].write_bytes(made.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


@asynccontextmanager
async def guarded(port: int, folder: Path) -> AsyncIterator[None]:
    """A broker with TLS that lets in the user `collector` with its password alone."""
    public, private = certificate(folder)
    users = folder / "users"
    users.write_text(f"collector:{Argon2Hasher(time_cost=1, memory_cost=64).hash('a word')}\n")
    listener = {"type": "tcp", "bind": f"127.0.0.1:{port}", "ssl": True}
    server = Server(
        {
            "listeners": {
                "default": {**listener, "certfile": str(public), "keyfile": str(private)}
            },
            "plugins": {
                "amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(users)}
            },
        }
    )
    await server.start()
    try:
        yield
    finally:
        await server.shutdown()


def test_a_broker_is_entered_over_tls_with_a_password(writers: Made, tmp_path: Path) -> None:
    async def outcome(port: int, password: str, ca_file: Path | None) -> bool:
        broker = Broker.parse(f"mqtts://collector@127.0.0.1:{port}", password, ca_file)
        intake = intake_of(writer)
        side = MqttSide(broker, ZONE, "gridcommons-collector-1", intake, kept, lambda: 1.0)
        task = asyncio.create_task(side.run())
        try:
            await until(lambda: side.is_connected or side.problem is not None)
            return side.is_connected
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def kept(document: object) -> bool:
        return True

    async def run() -> None:
        port = free_port()
        async with guarded(port, tmp_path):
            assert await outcome(port, "a word", tmp_path / "broker.pem")
            assert not await outcome(port, "another", tmp_path / "broker.pem")
            assert not await outcome(port, "a word", None)

    writer = writers()
    asyncio.run(run())


def test_a_broker_whose_certificates_are_back_is_entered_again(
    writers: Made, tmp_path: Path
) -> None:
    async def kept(document: object) -> bool:
        return True

    async def run() -> None:
        port, file, aside = free_port(), tmp_path / "broker.pem", tmp_path / "aside.pem"
        async with guarded(port, tmp_path):
            file.rename(aside)
            broker = Broker("127.0.0.1", port, True, "collector", "a word", file)
            side = MqttSide(broker, ZONE, "gridcommons-collector-1", intake, kept, lambda: 0.01)
            task = asyncio.create_task(side.run())
            try:
                await until(lambda: side.problem is not None)
                aside.rename(file)
                await until(lambda: side.is_connected)
                assert side.problem is None
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    intake = intake_of(writers())
    asyncio.run(run())
