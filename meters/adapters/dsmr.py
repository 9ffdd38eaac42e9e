# SPDX-License-Identifier: Apache-2.0
"""DSMR P1 telegrams as smart meters of the Netherlands, Belgium, Luxembourg and others send them.

The library is dsmr-parser: it checks the CRC before anything is parsed. The table below names the
lines that carry energy; reading a serial port or socket is the gateway's business.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from dao.errors import BadUse, CheckFailed
from meters.adapters.engine import TOTAL, Adapter, Conventions, Direction, Point, Source
from meters.adapters.fields import number, shown, watt_hours

# Name, OBIS code (the first two groups may differ by country), direction, tariff.
_REGISTERS: tuple[tuple[str, str, Direction, str], ...] = (
    ("IMPORT_TOTAL", r"1\.8\.0", "import", TOTAL),
    ("IMPORT_1", r"1\.8\.1", "import", "1"),
    ("IMPORT_2", r"1\.8\.2", "import", "2"),
    ("IMPORT_3", r"1\.8\.3", "import", "3"),
    ("IMPORT_4", r"1\.8\.4", "import", "4"),
    ("EXPORT_TOTAL", r"2\.8\.0", "export", TOTAL),
    ("EXPORT_1", r"2\.8\.1", "export", "1"),
    ("EXPORT_2", r"2\.8\.2", "export", "2"),
    ("EXPORT_3", r"2\.8\.3", "export", "3"),
    ("EXPORT_4", r"2\.8\.4", "export", "4"),
)
_TEXTS = (
    ("VERSION", r"1-3:0\.2\.8"),
    ("VERSION_BELGIUM", r"0-0:96\.1\.4"),
    ("METER", r"0-0:96\.1\.1"),
    ("METER_LUXEMBOURG", r"0-0:42\.0\.0"),
    ("METER_OTHER", r"0-0:96\.1\.0"),
    ("METER_EASYMETER", r"0-0:96\.1\.255"),
    ("METER_SWITZERLAND", r"[01]-0:0\.0\.0"),
)
_METER_LINES = tuple(name for name, _ in _TEXTS if name.startswith("METER"))

_TELEGRAM = re.compile(r"/[^/!]*![^\r\n]*(?:\r?\n)?")
_ENCRYPTED = 0xDB
"""First byte of a DLMS general-global-cipher frame, as Luxembourg's meters send them."""


def read(data: bytes, source: Source) -> Iterator[Point]:
    """Registers of every telegram whose CRC holds; CheckFailed if none does."""
    plain = _decrypted(data, source) if _is_encrypted(data) else data.decode("latin-1")
    telegrams = list(_TELEGRAM.finditer(plain))
    if not telegrams:
        raise BadUse("no telegram found: one starts with / and ends with ! and its CRC")
    rest = _TELEGRAM.sub("", plain).strip()
    if rest:
        source.note(f"{len(rest)} characters outside a whole telegram were left out")
    numbered = [(order, match.group()) for order, match in enumerate(telegrams, start=1)]
    yield from source.whole(numbered, _points)


def _points(telegram: tuple[int, str]) -> Iterator[Point]:
    order, text = telegram
    parsed = _parsed(text)
    meter = next((_readable(parsed[name]) for name in _METER_LINES if parsed.get(name)), None)
    end = parsed.get("TIME")
    found = False
    for name, code, direction, part in _REGISTERS:
        if name in parsed:
            value, unit = parsed[name]
            wh = watt_hours(number(value, name), unit, code.replace("\\", ""))
            found = True
            yield Point(meter, end, direction, wh, part=part, order=0 if end else order)
    if not found:
        raise BadUse("the telegram has no energy register (1.8.x or 2.8.x)")


def _parsed(text: str) -> dict[str, Any]:
    """The lines of the table that a telegram has: registers as value and unit, others as text."""
    from dsmr_parser.exceptions import InvalidChecksumError, ParseError
    from dsmr_parser.objects import CosemObject

    body, _, crc = text.partition("!")
    text = f"{body}!{crc.strip().upper()}\r\n"
    # The CRC runs over CR LF, as on the wire; an editor or a version control may have taken the CR.
    if "\r" not in body:
        text = text.replace("\n", "\r\n").replace("\r\r\n", "\r\n")
    # Up to version 3 a telegram has no CRC and no line with a version.
    modern = re.search(r"^(1-3:0\.2\.8|0-0:96\.1\.4|0-0:1\.0\.0)", text, re.MULTILINE)
    with_crc = bool(crc.strip()) or modern is not None
    # The library logs what it raises, with a traceback.
    logger = logging.getLogger("dsmr_parser.parsers")
    quiet, logger.disabled = logger.disabled, True
    try:
        telegram = _parser(with_crc).parse(text, throw_ex=True)
    except InvalidChecksumError as error:
        raise CheckFailed(f"CRC of the telegram does not hold: {error}") from None
    except ParseError as error:
        raise BadUse(f"telegram cannot be read: {' '.join(map(str, error.args))}") from None
    except Exception as error:  # what the library does not foresee in bytes from outside
        raise BadUse(f"telegram cannot be read: {shown(error)}") from None
    finally:
        logger.disabled = quiet

    found: dict[str, Any] = {}
    for name, one in vars(telegram).items():
        if isinstance(one, CosemObject):
            is_register = name.startswith(("IMPORT", "EXPORT"))
            found[name] = (one.value, one.unit) if is_register else one.value
    return found


@functools.cache
def _parser(with_crc: bool) -> Any:
    """The library's parser for the table."""
    from decimal import Decimal

    from dsmr_parser.parsers import CosemParser, TelegramParser, ValueParser
    from dsmr_parser.value_types import timestamp

    def line(name: str, code: str, kind: Any) -> dict[str, Any]:
        return {
            "obis_reference": rf"^{code}(?:\*255)?\(.*?\r\n",
            "value_parser": CosemParser(ValueParser(kind)),
            "value_name": name,
        }

    lines = [line(name, rf"\d-\d:{code}", Decimal) for name, code, _, _ in _REGISTERS]
    lines += [line(name, code, str) for name, code in _TEXTS]
    lines.append(line("TIME", r"0-0:1\.0\.0", _checked(timestamp)))
    return TelegramParser({"checksum_support": with_crc, "objects": lines})


def _checked(timestamp: Any) -> Any:
    def parse(text: str) -> datetime:
        found: datetime | None = timestamp(text)
        if found is None:
            raise ValueError(f"time {text}, expected YYMMDDhhmmss and S or W")
        return found

    return parse


def _readable(text: str) -> str:
    """An equipment number: hexadecimal for the ASCII that is printed on the meter."""
    try:
        decoded = bytes.fromhex(text).decode("ascii").strip("\0 ")
    except ValueError:
        return text
    return decoded if decoded.isprintable() and decoded else text


def _is_encrypted(data: bytes) -> bool:
    return data[:1] == bytes([_ENCRYPTED]) or data[:4].upper() == b"DB08"


def _decrypted(data: bytes, source: Source) -> str:
    """The telegrams of encrypted frames, one after another."""
    from dlms_cosem.connection import XDlmsApduFactory
    from dlms_cosem.exceptions import DecryptionError
    from dsmr_parser.telegram_specifications import MSN

    key = source.options.key
    if key is None or len(key) != 16:
        raise BadUse("the telegrams are encrypted: give the 16-byte key of the P1 port with --key")
    if data[:1] != bytes([_ENCRYPTED]):
        try:
            data = bytes.fromhex(data.decode("ascii"))
        except ValueError:
            raise BadUse("the encrypted telegram is not hexadecimal throughout") from None
    # The authentication key is public and the same for all of Luxembourg.
    public = bytes.fromhex(MSN["authentication_key"])
    telegrams = []
    while data:
        # Tag, length and title of the system are ten bytes; then comes the length of the rest, one
        # byte, or more if the first says how many (BER).
        size = data[10] & 0x7F if len(data) > 10 and data[10] & 0x80 else 0
        length = 11 + size + int.from_bytes(data[11 : 11 + size] if size else data[10:11], "big")
        frame, data = data[:length], data[length:].lstrip(b"\r\n")
        try:
            plain = XDlmsApduFactory.apdu_from_bytes(frame).to_plain_apdu(key, public)
        except DecryptionError:
            raise CheckFailed(
                "an encrypted telegram does not open: wrong key, or damaged"
            ) from None
        except Exception as error:  # the library does not foresee every cut or flipped byte
            raise BadUse(f"encrypted telegram cannot be read: {shown(error)}") from None
        telegrams.append(plain.decode("latin-1"))
    return "\r\n".join(telegrams)


DSMR = Adapter(
    name="dsmr",
    title="DSMR P1 telegrams (Netherlands, Belgium, Luxembourg, and others alike)",
    conventions=Conventions(
        sign="1.8.x from the grid is import, 2.8.x to the grid is export",
        interval="none: registers only",
        time="0-0:1.0.0, local time of Amsterdam with S or W for summer or winter",
        units="as written after *, kWh as a rule",
        register="sum of the tariffs, or 1.8.0 and 2.8.0 where the meter sends them",
    ),
    read=read,
)
