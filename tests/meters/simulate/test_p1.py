# SPDX-License-Identifier: Apache-2.0
"""P1 telegrams over a socket, read by our adapter and by dsmr-parser's own strict parser."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from dao.errors import BadUse, CheckFailed
from meters.adapters.dsmr import DSMR
from meters.adapters.engine import MeterReading, Options, parse
from meters.simulate.clock import ManualClock
from meters.simulate.p1 import P1Meter
from meters.simulate.truth import Truth
from tests.meters.simulate.conftest import BEGIN, FIRST, SLOTS, edges, run


async def read_telegram(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"!") + await reader.readline()


def read_by_us(telegram: bytes) -> MeterReading:
    parsed = parse(DSMR, [("socket", telegram)])
    assert parsed.notes == []
    return parsed.readings[0]


def read_by_the_library(telegram: bytes, variant: str) -> dict[str, Any]:
    from dsmr_parser import telegram_specifications as known
    from dsmr_parser.objects import CosemObject
    from dsmr_parser.parsers import TelegramParser

    specification = {
        "dsmr5": known.V5,
        "dsmr4": known.V4,
        "belgium": known.BELGIUM_FLUVIUS,
        "luxembourg": known.LUXEMBOURG_SMARTY,
    }[variant]
    parsed = TelegramParser(specification).parse(telegram.decode(), throw_ex=True)
    return {
        name: (one.value, one.unit)
        for name, one in vars(parsed).items()
        if isinstance(one, CosemObject)
    }


def total(lines: dict[str, Any], *names: str) -> Decimal:
    assert all(lines[name][1] == "kWh" for name in names)
    return sum((lines[name][0] for name in names), Decimal(0)) * 1000


@pytest.mark.parametrize(
    ("variant", "step"), [("dsmr5", 1), ("dsmr4", 11), ("belgium", 11), ("luxembourg", 11)]
)
def test_a_day_read_over_the_socket_is_the_truth_to_the_wh(
    truth: Truth, clock: ManualClock, variant: str, step: int
) -> None:
    async def body() -> list[bytes]:
        async with P1Meter(truth, clock, variant=variant) as meter:
            reader, writer = await asyncio.open_connection(meter.host, meter.port)
            telegrams = [await read_telegram(reader)]
            for _ in range(step, SLOTS + 1, step):
                clock.advance(900 * step)
                telegrams.append(await read_telegram(reader))
            writer.close()
            return telegrams

    for i, telegram in enumerate(run(body())):
        expected = edges(truth)[i * step]
        ours = read_by_us(telegram)
        assert (ours.import_wh, ours.export_wh) == expected
        # One of these hours comes twice in local time, with S and with W.
        assert ours.end == datetime.fromtimestamp((FIRST + i * step) * 900, UTC)
        lines = read_by_the_library(telegram, variant)
        if variant == "luxembourg":
            imported = total(lines, "ELECTRICITY_IMPORTED_TOTAL")
            exported = total(lines, "ELECTRICITY_EXPORTED_TOTAL")
        else:
            imported = total(lines, "ELECTRICITY_USED_TARIFF_1", "ELECTRICITY_USED_TARIFF_2")
            exported = total(
                lines, "ELECTRICITY_DELIVERED_TARIFF_1", "ELECTRICITY_DELIVERED_TARIFF_2"
            )
        assert (int(imported), int(exported)) == expected


def test_an_encrypted_telegram_opens_with_its_key_only(truth: Truth, clock: ManualClock) -> None:
    key = bytes.fromhex("AABBCCDDEEFF00112233445566778899")
    meter = P1Meter(truth, clock, variant="luxembourg", key=key)
    frames = [meter.telegram((FIRST + i) * 900) for i in range(3)]
    readings = parse(DSMR, [("socket", b"".join(frames))], Options(key=key)).readings
    assert [(one.import_wh, one.export_wh) for one in readings] == edges(truth)[:3]
    with pytest.raises(CheckFailed, match="does not open"):
        parse(DSMR, [("socket", frames[0])], Options(key=bytes(16)))
    # The same moment twice is not the same frame: no counter is used again.
    assert meter.telegram(BEGIN) != meter.telegram(BEGIN)


@pytest.mark.parametrize(("variant", "key"), [("dsmr5", bytes(16)), ("luxembourg", bytes(15))])
def test_a_key_that_does_not_fit_is_refused(
    truth: Truth, clock: ManualClock, variant: str, key: bytes
) -> None:
    with pytest.raises(BadUse, match="key of 16 bytes"):
        P1Meter(truth, clock, variant=variant, key=key)


def test_power_is_that_of_the_slot(truth: Truth, clock: ManualClock) -> None:
    meter = P1Meter(truth, clock)
    for i in range(SLOTS):
        lines = read_by_the_library(meter.telegram((FIRST + i) * 900), "dsmr5")
        kw = lines["CURRENT_ELECTRICITY_USAGE"][0] - lines["CURRENT_ELECTRICITY_DELIVERY"][0]
        assert kw * 250 == int(truth.import_wh[i]) - int(truth.export_wh[i])


def test_energy_is_counted_under_the_tariff_that_the_telegram_names(clock: ManualClock) -> None:
    slots = SLOTS + 96
    meter = P1Meter(Truth(FIRST, np.full(slots, 5), np.zeros(slots, dtype=np.int64)), clock)
    tariffs = []
    before = read_by_the_library(meter.telegram(BEGIN), "dsmr5")
    for i in range(slots):
        after = read_by_the_library(meter.telegram((FIRST + i + 1) * 900), "dsmr5")
        tariff = int(before["ELECTRICITY_ACTIVE_TARIFF"][0])
        idle, busy = (f"ELECTRICITY_USED_TARIFF_{n}" for n in (3 - tariff, tariff))
        assert after[idle] == before[idle]
        assert after[busy][0] > before[busy][0]
        tariffs.append(tariff)
        before = after
    # A Sunday of 25 hours, then a Monday: low tariff until 7 o'clock and from 23 o'clock on.
    assert tariffs == [1] * SLOTS + [1] * 28 + [2] * 64 + [1] * 4


def test_a_telegram_comes_every_second_to_every_client(truth: Truth, clock: ManualClock) -> None:
    async def body() -> None:
        async with P1Meter(truth, clock) as meter:
            clients = [await asyncio.open_connection(meter.host, meter.port) for _ in range(3)]
            for reader, _ in clients:
                await read_telegram(reader)
            for second in range(1, 6):
                clock.advance(1)
                for reader, _ in clients:
                    end = read_by_us(await read_telegram(reader)).end
                    assert end == datetime.fromtimestamp(BEGIN + second, UTC)
            for _, writer in clients:
                writer.close()

    run(body())


def test_a_client_that_reads_nothing_holds_nobody_up(truth: Truth, clock: ManualClock) -> None:
    rounds = 300

    async def body(idle: socket.socket) -> list[datetime | None]:
        async with P1Meter(truth, clock) as meter:
            # Buffers so small that what is not read soon fills them.
            assert meter._server is not None
            meter._server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
            idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            idle.connect((meter.host, meter.port))
            reader, writer = await asyncio.open_connection(meter.host, meter.port)
            ends = []
            for _ in range(rounds):
                ends.append(read_by_us(await read_telegram(reader)).end)
                clock.advance(1)
            writer.close()
        return ends

    with socket.socket() as idle:
        ends = run(body(idle))
        unread = b""
        with suppress(ConnectionError):
            while chunk := idle.recv(65_536):
                unread += chunk
    assert ends == [datetime.fromtimestamp(BEGIN + i, UTC) for i in range(rounds)]
    assert 0 < unread.count(b"!") < rounds


def test_an_unknown_variant_is_refused(truth: Truth, clock: ManualClock) -> None:
    with pytest.raises(BadUse, match="unknown P1 variant 'x'; known are dsmr5"):
        P1Meter(truth, clock, variant="x")


def test_a_port_in_use_is_told_in_one_line(truth: Truth, clock: ManualClock) -> None:
    async def body() -> None:
        async with P1Meter(truth, clock) as meter:
            second = P1Meter(truth, clock, port=meter.port)
            with pytest.raises(BadUse, match=f"cannot listen on 127.0.0.1:{meter.port}: "):
                await second.__aenter__()

    run(body())
