# SPDX-License-Identifier: Apache-2.0
"""An SML meter on TCP, as a reading head behind ser2net offers the optical port of a German meter.

Transport version 1 (BSI TR-03109-1, annex IV, part B): escape sequences, padding, CRC-16/X-25. One
file a second: open response, list response, close response, each with a CRC of its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from meters.simulate.clock import Clock
from meters.simulate.faults import Fault, Shown
from meters.simulate.truth import Truth
from meters.simulate.wire import PushDevice, State, crc16

CRC16_X25 = 0x8408
WIDTH_WH = 10**9
"""Registers show six digits of kWh."""
PER_WH = 10
"""Steps of a Wh: the scaler is -1."""

_ESCAPE = b"\x1b\x1b\x1b\x1b"
_OPEN_RESPONSE, _CLOSE_RESPONSE, _LIST_RESPONSE = 0x0101, 0x0201, 0x0701
_WH, _W = 30, 27
_SKIPPED = b"\x01"
"""An optional element that is not sent."""


class SmlMeter(PushDevice):
    """A German meter. Most count the seconds since they were installed; `with_clock` tells UTC."""

    kind = "sml"
    period = 1

    def __init__(
        self,
        truth: Truth,
        clock: Clock,
        *,
        serial: int = 12_345_678,
        with_clock: bool = False,
        host: str = "127.0.0.1",
        port: int = 0,
        faults: Iterable[Fault] = (),
    ) -> None:
        super().__init__(clock, host=host, port=port, faults=faults)
        self.truth = truth
        self.with_clock = with_clock
        # DIN 43863-5: one byte of medium, three letters of the maker, a block, the number.
        self.server_id = b"\x0a\x01GRC\x00" + serial.to_bytes(4, "big")

    def _shown(self, at: float) -> Shown:
        return self.faults.shown(self.truth, at, PER_WH, WIDTH_WH)

    def state(self) -> State:
        at = self.clock()
        return State.of(at, self._shown(at))

    def telegram(self, at: float) -> bytes:
        shown = self._shown(at)
        seconds = int(shown.clock)
        if not self.with_clock:
            seconds -= self.truth.first_slot * 900 - 1_000_000
        seconds = max(seconds, 0) & 0xFFFFFFFF
        time = _list(_unsigned(2 if self.with_clock else 1, 1), _unsigned(seconds, 4))
        # Import may be followed by export in the status word's direction bit; none is sent here.
        entries = (
            _entry("1-0:96.50.1*1", _octets(b"GRC")),
            _entry("1-0:96.1.0*255", _octets(self.server_id)),
            _entry("1-0:1.8.0*255", _unsigned(shown.import_register, 8), _WH, -1),
            _entry("1-0:2.8.0*255", _unsigned(shown.export_register, 8), _WH, -1),
            _entry("1-0:16.7.0*255", _signed(shown.import_w - shown.export_w, 4), _W, 0),
        )
        number = int(at) & 0xFFFF
        file = _octets(number.to_bytes(2, "big"))
        body = (
            _message(
                0,
                number,
                _OPEN_RESPONSE,
                _list(_SKIPPED, _SKIPPED, file, _octets(self.server_id), _SKIPPED, _SKIPPED),
            )
            + _message(
                1,
                number,
                _LIST_RESPONSE,
                _list(
                    _SKIPPED,
                    _octets(self.server_id),
                    _octets(_obis("1-0:98.10.255*255")),
                    time,
                    _list(*entries),
                    _SKIPPED,
                    _SKIPPED,
                ),
            )
            + _message(2, number, _CLOSE_RESPONSE, _list(_SKIPPED))
        )
        return transport(body)


def transport(body: bytes) -> bytes:
    """A file between its escape sequences; one that looks like an escape is sent twice."""
    padding = -len(body) % 4
    body += bytes(padding)
    body = body.replace(_ESCAPE, _ESCAPE * 2)
    framed = _ESCAPE + b"\x01\x01\x01\x01" + body + _ESCAPE + bytes([0x1A, padding])
    return framed + _crc(framed)


def _crc(data: bytes) -> bytes:
    return (crc16(data, CRC16_X25, 0xFFFF) ^ 0xFFFF).to_bytes(2, "little")


def _message(group: int, transaction: int, choice: int, body: bytes) -> bytes:
    start = b"\x76" + b"".join(
        (
            _octets(transaction.to_bytes(2, "big") + bytes([group])),
            _unsigned(group, 1),
            _unsigned(0, 1),
            _list(_unsigned(choice, 2), body),
        )
    )
    return start + b"\x63" + _crc(start) + b"\x00"


def _entry(code: str, value: bytes, unit: int | None = None, scaler: int | None = None) -> bytes:
    return _list(
        _octets(_obis(code)),
        _SKIPPED,
        _SKIPPED,
        _SKIPPED if unit is None else _unsigned(unit, 1),
        _SKIPPED if scaler is None else _signed(scaler, 1),
        value,
        _SKIPPED,
    )


def _list(*items: bytes) -> bytes:
    return _header(0x70, len(items), 0) + b"".join(items)


def _octets(data: bytes) -> bytes:
    return _header(0x00, len(data), 1) + data


def _unsigned(value: int, size: int) -> bytes:
    return _header(0x60, size, 1) + value.to_bytes(size, "big")


def _signed(value: int, size: int) -> bytes:
    return _header(0x50, size, 1) + value.to_bytes(size, "big", signed=True)


def _header(kind: int, count: int, own: int) -> bytes:
    """Type and length, four bits a byte; the length of all but a list counts the header too."""
    if count + own < 16:
        return bytes([kind | count + own])
    length = count + 2 * own
    return bytes([kind | 0x80 | length >> 4, length & 0x0F])


def _obis(code: str) -> bytes:
    """`1-0:1.8.0*255` as its six bytes."""
    for sign in "-:*":
        code = code.replace(sign, ".")
    return bytes(int(part) for part in code.split("."))
