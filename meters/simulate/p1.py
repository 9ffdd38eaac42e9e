# SPDX-License-Identifier: Apache-2.0
"""A P1 port on TCP, as ser2net and P1 bridges offer it: DSMR 5 and 4, Belgium, Luxembourg.

The lines follow the P1 companion standards (DSMR 5.0.2, DSMR 4.2, Belgium's e-MUCS_P1 1.7.1,
Luxembourg's E-meter P1). Tariffs of the Netherlands: 2 (normal) on weekdays from 7 to 23 o'clock
local time, else 1 (low); in Belgium 1 is day and 2 night. Luxembourg sends totals.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np

from dao.errors import BadUse
from dao.slots import SLOT_SECONDS
from meters.simulate.clock import Clock
from meters.simulate.faults import Fault, Shown
from meters.simulate.truth import Truth
from meters.simulate.wire import PushDevice, State, crc16

CRC16_ARC = 0xA001
WIDTH_WH = 10**9
"""Registers show six digits of kWh and three after the point."""
VOLTS = 230
SYSTEM_TITLE = b"GRC67001"
SECURITY_CONTROL = b"\x30"
AUTHENTICATION_KEY = bytes.fromhex("00112233445566778899AABBCCDDEEFF")
"""Public, and the same for all meters of Luxembourg."""
DEMO_KEY = bytes(range(16))
"""What an encrypted meter of the command encrypts with; it keeps nothing secret."""


@dataclass(frozen=True)
class Variant:
    """A country's telegram. `period`: seconds between two; `day_tariff`: which tariff is day's."""

    name: str
    timezone: str
    period: int
    header: str
    version: str
    identity: str
    gas: str
    day_tariff: int | None


VARIANTS: dict[str, Variant] = {
    one.name: one
    for one in (
        Variant(
            "dsmr5",
            "Europe/Amsterdam",
            1,
            "/GRC5\\2GridCommons",
            "1-3:0.2.8(50)",
            "0-0:96.1.1",
            "0-1:24.2.1",
            2,
        ),
        Variant(
            "dsmr4",
            "Europe/Amsterdam",
            10,
            "/GRC5\\2GridCommons-4",
            "1-3:0.2.8(42)",
            "0-0:96.1.1",
            "0-1:24.2.1",
            2,
        ),
        Variant(
            "belgium",
            "Europe/Brussels",
            1,
            "/GRC5\\2GridCommons-B",
            "0-0:96.1.4(50217)",
            "0-0:96.1.1",
            "0-1:24.2.3",
            1,
        ),
        Variant(
            "luxembourg",
            "Europe/Luxembourg",
            10,
            "/GRC5\\2GridCommons-L",
            "1-3:0.2.8(50)",
            "0-0:42.0.0",
            "0-1:24.2.1",
            None,
        ),
    )
}


class P1Meter(PushDevice):
    """A smart meter of a home; `truth` is what flows through it.

    key: of the P1 port, 16 bytes; Luxembourg's meters encrypt with it.
    """

    kind = "p1"

    def __init__(
        self,
        truth: Truth,
        clock: Clock,
        *,
        variant: str = "dsmr5",
        serial: str = "E0000000000000001",
        key: bytes | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        faults: Iterable[Fault] = (),
    ) -> None:
        super().__init__(clock, host=host, port=port, faults=faults)
        if variant not in VARIANTS:
            raise BadUse(f"unknown P1 variant {variant!r}; known are {', '.join(VARIANTS)}")
        if key is not None and (variant != "luxembourg" or len(key) != 16):
            raise BadUse("Luxembourg's meters alone encrypt, with a key of 16 bytes")
        self.variant = VARIANTS[variant]
        self._key = key
        self._sent = 0
        self.period = self.variant.period
        self.serial = serial
        self.truth = truth
        self._timezone = ZoneInfo(self.variant.timezone)
        self._parts = self._tariffs()

    def _tariffs(self) -> list[tuple[str, Truth]]:
        """The registers there are, by their last OBIS group; they add up to the truth."""
        day = self.variant.day_tariff
        if day is None:
            return [("0", self.truth)]
        night = 3 - day
        # A part of what the meter has counted so far stands under each tariff.
        imported, exported = self.truth.import_start_wh, self.truth.export_start_wh
        by_day = _day_slots(self.truth.first_slot, self.truth.slots, self._timezone)
        parts = {
            day: self.truth.where(by_day, imported // 2, exported // 2),
            night: self.truth.where(~by_day, imported - imported // 2, exported - exported // 2),
        }
        return [("1", parts[1]), ("2", parts[2])]

    def _shown(self, at: float) -> list[tuple[str, Shown]]:
        return [(part, self.faults.shown(truth, at, 1, WIDTH_WH)) for part, truth in self._parts]

    def state(self) -> State:
        at = self.clock()
        parts = [shown for _, shown in self._shown(at)]
        return State(
            at,
            sum(one.import_register for one in parts),
            sum(one.export_register for one in parts),
            sum(one.import_w for one in parts),
            sum(one.export_w for one in parts),
        )

    def telegram(self, at: float) -> bytes:
        parts = self._shown(at)
        clock = datetime.fromtimestamp(parts[0][1].clock, UTC).astimezone(self._timezone)
        slot = int(parts[0][1].clock // SLOT_SECONDS)
        import_w, export_w = (
            sum(getattr(one, name) for _, one in parts) for name in ("import_w", "export_w")
        )
        day = self.variant.day_tariff
        lines = [
            self.variant.header,
            "",
            self.variant.version,
            f"0-0:1.0.0({_stamp(clock)})",
            f"{self.variant.identity}({self.serial.encode().hex().upper()})",
            *(f"1-0:1.8.{part}({_kwh(one.import_register)}*kWh)" for part, one in parts),
            *(f"1-0:2.8.{part}({_kwh(one.export_register)}*kWh)" for part, one in parts),
        ]
        if day is not None:
            lines.append(f"0-0:96.14.0({day if _is_day(slot, self._timezone) else 3 - day:04})")
        lines += [
            f"1-0:1.7.0({_kw(import_w)}*kW)",
            f"1-0:2.7.0({_kw(export_w)}*kW)",
            "0-0:96.7.21(00004)",
            "0-0:96.7.9(00002)",
            f"1-0:32.7.0({VOLTS:03}.0*V)",
            f"1-0:31.7.0({min((import_w + export_w) // VOLTS, 999):03}*A)",
            f"1-0:21.7.0({_kw(import_w)}*kW)",
            f"1-0:22.7.0({_kw(export_w)}*kW)",
            "0-0:96.13.0()",
            "0-1:24.1.0(003)",
            f"0-1:96.1.0({('G' + self.serial[1:]).encode().hex().upper()})",
            self._gas(clock),
            "!",
        ]
        body = "\r\n".join(lines).encode("ascii")
        whole = body + b"%04X\r\n" % crc16(body, CRC16_ARC)
        return whole if self._key is None else self._encrypted(self._key, whole)

    def _encrypted(self, key: bytes, telegram: bytes) -> bytes:
        """A DLMS general-global-cipher frame: AES-128-GCM with a tag of 12 bytes."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        # A counter must not come twice under one key: not even for two clients of one second.
        self._sent += 1
        counter = self._sent.to_bytes(4, "big")
        sealed = AESGCM(key).encrypt(
            SYSTEM_TITLE + counter, telegram, SECURITY_CONTROL + AUTHENTICATION_KEY
        )[:-4]
        rest = SECURITY_CONTROL + counter + sealed
        head = bytes([0xDB, len(SYSTEM_TITLE)]) + SYSTEM_TITLE
        return head + b"\x82" + len(rest).to_bytes(2, "big") + rest

    def _gas(self, clock: datetime) -> str:
        """A gas meter that reports on the hour; it burns a steady 40 litres an hour."""
        hour = clock.replace(minute=0, second=0, microsecond=0)
        litres = int(hour.timestamp()) // 3600 % 10**6 * 40 % 10**8
        return f"{self.variant.gas}({_stamp(hour)})({litres / 1000:09.3f}*m3)"


def _is_day(slot: int, timezone: ZoneInfo) -> bool:
    local = datetime.fromtimestamp(slot * SLOT_SECONDS, UTC).astimezone(timezone)
    return local.weekday() < 5 and 7 <= local.hour < 23


@lru_cache(maxsize=4)
def _day_slots(first_slot: int, slots: int, timezone: ZoneInfo) -> np.ndarray:
    """Which slots are charged by day, bool (slots,); a whole street shares them."""
    return np.array([_is_day(first_slot + i, timezone) for i in range(slots)], dtype=bool)


def _stamp(local: datetime) -> str:
    """YYMMDDhhmmss and S or W, for summer or winter time."""
    return f"{local:%y%m%d%H%M%S}{'S' if local.dst() else 'W'}"


def _kwh(wh: int) -> str:
    return f"{wh // 1000:06}.{wh % 1000:03}"


def _kw(watts: int) -> str:
    return f"{watts // 1000:02}.{watts % 1000:03}"
