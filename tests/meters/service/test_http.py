# SPDX-License-Identifier: Apache-2.0
"""The collector over HTTP: signed answers, hostile bodies, floods, and what its pages tell."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
import threading

import pytest

from dao.relay.limits import Rate
from meters.acknowledgements import Acknowledgement, Busy, parse
from meters.collector import Collector
from meters.dispatch import DispatchReport
from meters.frames import MAX_FRAME_BYTES, encode, frame_id, to_json
from meters.gateway.uplink import HttpTransport, Unreachable
from meters.readings import Readings
from meters.service.http import MAX_JSON_BYTES
from meters.service.intake import Limits
from meters.signing import Head
from tests.meters.batch_rows import DAY, SEPARATOR
from tests.meters.service.conftest import Made
from tests.meters.service.served import ACCOUNT, SEAL, Served, intake_of, served
from tests.meters.service.zone import KEYS, of


def acknowledged(answer: object, frame: bytes) -> Acknowledgement:
    made = parse(answer)
    assert isinstance(made, Acknowledgement)
    made.verify(SEAL, ACCOUNT.address, frame_id(frame))
    return made


def forged(readings: Readings) -> Readings:
    changed = readings.import_wh + 1
    return Readings.columns(
        readings.meter,
        readings.slot,
        changed,
        readings.export_wh,
        readings.quality,
        readings.signature,
        readings.sequence,
        readings.previous,
    )


def test_a_frame_is_on_disk_when_its_signed_acknowledgement_comes(
    writers: Made, day: Readings
) -> None:
    writer = writers()
    with served(writer) as at:
        frame = encode(day)
        made = acknowledged(at.post(frame).json(), frame)
        assert (made.accepted, made.duplicates, made.rejected) == (128, 0, ())
        assert writer.call(lambda collector: collector.waiting()) == 128
        again = acknowledged(at.post(frame).json(), frame)
        assert (again.accepted, again.duplicates) == (0, 128)
        head = at.get("/v1/heads/3").json()
        assert head["sequence"] == 7
        assert head["link"] == "0x" + made.heads[3].link.hex()


def test_people_send_the_same_readings_as_json(writers: Made, day: Readings) -> None:
    with served(writers()) as at:
        rows = of(day, 5)
        answer = at.post(json.dumps(to_json(rows)).encode(), "application/json")
        assert acknowledged(answer.json(), encode(rows)).accepted == 8


def test_a_meter_without_a_reading_has_a_head_before_the_first(writers: Made) -> None:
    with served(writers()) as at:
        assert at.get("/v1/heads/3").json() == {"sequence": -1, "link": "0x" + "00" * 32}
        assert at.get("/v1/heads/99").status_code == 404
        assert at.get("/v1/heads/²").status_code == 422


HOSTILE = {
    "nothing": (b"", "application/octet-stream", 400),
    "noise": (bytes(range(256)), "application/octet-stream", 400),
    "a head alone": (b"GCR1", "application/octet-stream", 400),
    "a count of nothing": (b"GCR1" + bytes(4), "application/octet-stream", 400),
    "a count too large": (b"GCR1" + b"\xff" * 4, "application/octet-stream", 400),
    "too long": (bytes(MAX_FRAME_BYTES + 1), "application/octet-stream", 413),
    "no kind": (b"GCR1", "", 415),
    "a form": (b"a=b", "application/x-www-form-urlencoded", 415),
    "no JSON": (b"{", "application/json", 400),
    "JSON that is no list": (b"{}", "application/json", 400),
    "an empty list": (b"[]", "application/json", 400),
    "NaN": (b"[NaN]", "application/json", 400),
    "deep JSON": (b"[" * 100_000, "application/json", 400),
    "long numbers": (b"[" + b"9" * 10_000 + b"]", "application/json", 400),
    "not UTF-8": (b'["\xff"]', "application/json", 400),
    "too much JSON": (b" " * (MAX_JSON_BYTES + 1), "application/json", 413),
}


def test_hostile_bodies_are_refused_in_a_line_and_lose_nothing(
    writers: Made, day: Readings
) -> None:
    limits = Limits(bad=Rate(burst=100_000, per_minute=1))
    with served(writers(), limits) as at:
        for what, (body, kind, status) in HOSTILE.items():
            answer = at.post(body, kind)
            assert answer.status_code == status, what
            assert set(answer.json()) == {"error"}, what
        frame = encode(day)
        cut = at.post(frame[:-1])
        assert cut.status_code == 400
        assert "cut off" in cut.json()["error"]
        assert acknowledged(at.post(frame).json(), frame).accepted == 128


def test_a_body_that_never_ends_is_read_no_further_than_it_may_be(writers: Made) -> None:
    with served(writers()) as at, socket.create_connection(("127.0.0.1", at.port), 20) as line:
        line.sendall(
            b"POST /v1/readings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: application/octet-stream\r\n\r\n"
        )
        chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        sent = 0
        line.settimeout(20)
        try:
            while sent < 16 * MAX_FRAME_BYTES:
                line.sendall(chunk)
                sent += len(chunk)
        except OSError:
            pass
        answer = line.recv(64)
    assert answer.startswith(b"HTTP/1.1 413")


def test_an_announced_length_is_refused_before_the_body_is_sent(writers: Made) -> None:
    with served(writers()) as at:
        line = http.client.HTTPConnection("127.0.0.1", at.port, timeout=20)
        line.putrequest("POST", "/v1/readings")
        line.putheader("Content-Type", "application/octet-stream")
        line.putheader("Content-Length", "9" * 13)
        line.endheaders()
        assert line.getresponse().status == 413
        line.close()


def test_a_devices_report_is_kept_once_if_it_is_the_meters_own(writers: Made) -> None:
    report = DispatchReport(3, DAY, 5_000, 5_000, 1_200, "battery", "held")

    def sent(key: bytes) -> bytes:
        return json.dumps(report.signed(key, SEPARATOR).to_json()).encode()

    with served(writers()) as at:
        for is_new in (True, False):
            answer = at.post(sent(KEYS[3]), "application/json", "/v1/dispatch")
            assert (answer.status_code, answer.json()) == (200, {"stored": True, "new": is_new})
        assert at.post(sent(KEYS[4]), "application/json", "/v1/dispatch").status_code == 422
        assert at.post(b"{", "application/json", "/v1/dispatch").status_code == 422
        assert at.post(sent(KEYS[3]), path="/v1/dispatch").status_code == 415
        text = at.get("/metrics").text
    assert 'gridcommons_dispatch_reports_total{outcome="stored"} 1.0' in text
    assert 'gridcommons_dispatch_reports_total{outcome="refused"} 2.0' in text


def test_a_report_of_an_erased_time_does_not_come_back(writers: Made) -> None:
    report = DispatchReport(3, DAY, 5_000, 5_000, 1_200, "battery", "held")
    body = json.dumps(report.signed(KEYS[3], SEPARATOR).to_json()).encode()
    writer = writers()
    with served(writer) as at:
        writer.call(lambda collector: collector.erase(3, DAY, DAY + 96))
        answer = at.post(body, "application/json", "/v1/dispatch")
    assert answer.status_code == 422
    assert "was erased" in answer.json()["error"]


def test_a_source_that_floods_is_told_when_to_come_again(writers: Made, day: Readings) -> None:
    with served(writers(), Limits(readings=Rate(burst=100, per_minute=60))) as at:
        assert at.post(encode(day)).status_code == 200
        answer = at.post(encode(of(day, 1)))
        assert answer.status_code == 429
        assert answer.json() == {"busy": int(answer.headers["Retry-After"])}
        assert at.intake.metrics.busy["rate"] == 1


def test_whoever_sends_signatures_that_do_not_hold_has_to_wait(
    writers: Made, day: Readings
) -> None:
    with served(writers(), Limits(bad=Rate(burst=20, per_minute=1))) as at:
        frame = encode(forged(day))
        made = acknowledged(at.post(frame).json(), frame)
        assert {finding.rule for finding in made.rejected} == {"signature"}
        assert at.post(encode(of(day, 1))).status_code == 429


def test_a_node_that_hangs_holds_up_only_whom_it_is_asked_for(writers: Made, day: Readings) -> None:
    asked, answers = threading.Event(), threading.Event()

    def follow(since: float) -> None:
        asked.set()
        assert answers.wait(30)

    intake = intake_of(writers(), follow=follow)

    async def run() -> None:
        strange = asyncio.create_task(intake.take("http", "a", encode(forged(of(day, 1)))))
        assert await asyncio.to_thread(asked.wait, 30)
        others = [intake.take("http", f"{m}", encode(of(day, m))) for m in range(2, 17)]
        assert {made.accepted for made in await asyncio.gather(*others)} == {8}
        assert not strange.done()
        answers.set()
        assert len((await strange).rejected) == 8

    asyncio.run(run())


def test_naming_a_meter_does_not_make_it_heard(writers: Made, day: Readings) -> None:
    with served(writers()) as at:
        at.post(encode(forged(of(day, 1))))
        at.post(encode(of(day, 2)))
        assert at.intake.heard.never([1, 2]) == 1
        assert at.intake.heard.never([1]) == 1


def test_readings_are_refused_while_the_disk_does_not_take_them(
    writers: Made, day: Readings
) -> None:
    writer = writers()

    def pages(collector: Collector, most: int) -> None:
        collector.inbox._db.execute(f"PRAGMA max_page_count = {most}")

    with served(writer) as at:
        assert at.get("/health").status_code == 200
        writer.call(lambda collector: pages(collector, 1))
        answer = at.post(encode(day))
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        health = at.get("/health")
        assert health.status_code == 503
        assert health.json()["problems"] == ["the inbox cannot be written"]
        writer.call(lambda collector: pages(collector, 1 << 30))
        assert at.post(encode(day)).json()["accepted"] == 128
        assert at.get("/health").status_code == 200


def test_a_collector_that_ends_says_so(writers: Made, day: Readings) -> None:
    writer = writers()
    with served(writer) as at:
        writer.stop()
        assert at.get("/health").status_code == 503
        assert at.post(encode(day)).status_code == 503
        assert at.get("/v1/heads/3").status_code == 503


def test_metrics_count_what_happened_and_name_no_meter(writers: Made, day: Readings) -> None:
    with served(writers()) as at:
        at.post(encode(day))
        at.post(encode(day))
        at.post(encode(forged(of(day, 7))))
        text = at.get("/metrics").text
    values = dict(re.findall(r"^(\S+) (\S+)$", text, re.MULTILINE))
    assert values['gridcommons_readings_total{outcome="accepted"}'] == "128.0"
    assert values['gridcommons_readings_total{outcome="duplicate"}'] == "128.0"
    assert values['gridcommons_readings_rejected_total{rule="signature"}'] == "8.0"
    assert values['gridcommons_frames_total{answer="acknowledged",transport="http"}'] == "3.0"
    assert values["gridcommons_meters"] == "16.0"
    labels = set(re.findall(r'(\w+)="', text))
    assert labels == {"outcome", "rule", "answer", "transport"}


def test_only_the_operator_learns_which_meters_are_silent(writers: Made, day: Readings) -> None:
    def asked(at: Served, shown: str) -> object:
        headers = {"Authorization": f"Bearer {shown}"}
        return at.get("/status.json", headers=headers).json().get("silent_meters")

    writer = writers()
    with served(writer, token="a secret") as at:
        at.intake.heard.begun -= 7_200
        at.post(encode(of(day, 2)))
        at.status.survey()
        assert at.get("/status.json").json()["meters"]["silent"]["1h"] == 15
        assert asked(at, "another") is None
        assert asked(at, "") is None
        told = asked(at, "a secret")
        assert isinstance(told, list)
        assert {one["meter"] for one in told} == {*range(1, 17)} - {2}
    with served(writer) as without:
        without.intake.heard.begun -= 7_200
        assert asked(without, "") is None


def test_the_status_page_stands_alone(writers: Made, day: Readings) -> None:
    with served(writers()) as at:
        at.post(encode(day))
        answer = at.get("/status")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for foreign in ("http:", "https:", "//", "<script", "<img", "<link", "style="):
        assert foreign not in answer.text
    assert "128" in answer.text


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/v1/readings"])
def test_there_is_nothing_else_to_see(writers: Made, path: str) -> None:
    with served(writers()) as at:
        assert at.get(path).status_code in (404, 405)


def test_a_gateways_own_sender_is_understood(writers: Made, day: Readings) -> None:
    async def run(at: Served) -> None:
        transport = HttpTransport(at.url, None, 20.0)
        assert transport.head(3) == Head.NONE
        with pytest.raises(Unreachable):
            transport.head(99)
        frame = encode(day)
        made = acknowledged(await transport.send(frame), frame)
        assert transport.head(3) == made.heads[3]
        busy = parse(await transport.send(frame))
        assert isinstance(busy, Busy)
        assert busy.seconds > 0
        await transport.close()

    with served(writers(), Limits(readings=Rate(burst=100, per_minute=60))) as at:
        asyncio.run(run(at))
