# SPDX-License-Identifier: Apache-2.0
"""SML files over a socket, read by our adapter and by pysml itself."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import sml

from meters.adapters.engine import parse
from meters.adapters.sml import SML
from meters.simulate.clock import ManualClock
from meters.simulate.sml import SmlMeter, transport
from meters.simulate.truth import Truth
from tests.meters.simulate.conftest import BEGIN, SLOTS, edges, run

END = b"\x1b\x1b\x1b\x1b\x1a"


async def read_file(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(END) + await reader.readexactly(3)


def test_a_day_read_over_the_socket_is_the_truth_to_the_wh(
    truth: Truth, clock: ManualClock
) -> None:
    async def body() -> list[bytes]:
        async with SmlMeter(truth, clock, with_clock=True) as meter:
            reader, writer = await asyncio.open_connection(meter.host, meter.port)
            files = [await read_file(reader)]
            for _ in range(SLOTS):
                clock.advance(900)
                files.append(await read_file(reader))
            writer.close()
            return files

    files = run(body())
    assert len(files) == SLOTS + 1
    for i, file in enumerate(files):
        parsed = parse(SML, [("socket", file)])
        assert parsed.notes == []
        (reading,) = parsed.readings
        assert (reading.import_wh, reading.export_wh) == edges(truth)[i]
        assert reading.end == datetime.fromtimestamp(BEGIN + i * 900, UTC)
        assert reading.meter == "1 GRC00 1234 5678"


def test_the_library_reads_power_with_its_sign_and_every_message(
    truth: Truth, clock: ManualClock
) -> None:
    meter = SmlMeter(truth, clock)
    for i in range(SLOTS):
        _, frame = sml.SmlBase.find_frame(meter.telegram(BEGIN + i * 900))
        assert frame is not None
        assert len(frame) == 3
        values = {one["objName"]: one for one in frame[1]["messageBody"]["valList"]}
        power = values["1-0:16.7.0*255"]
        expected = int(truth.import_wh[i] - truth.export_wh[i]) * 4
        assert (power["value"], power["unit"]) == (expected, "W")


def test_a_meter_without_a_clock_counts_seconds(truth: Truth, clock: ManualClock) -> None:
    meter = SmlMeter(truth, clock)
    times = []
    for at in (BEGIN, BEGIN + 77):
        _, frame = sml.SmlBase.find_frame(meter.telegram(at))
        assert frame is not None
        times.append(frame[1]["messageBody"]["actSensorTime"])
    assert times[1] - times[0] == 77


def test_a_value_that_looks_like_an_escape_is_sent_twice() -> None:
    framed = transport(b"\x1b\x1b\x1b\x1b")
    assert framed[8:-8] == b"\x1b" * 8
    assert sml.Crc.verify_fcs(framed)
