# SPDX-License-Identifier: Apache-2.0
"""Linky meters of France: the customer port (TIC), historical and standard mode, checksums checked.

Format: Enedis-NOI-CPT_54E. AIIDA's JSON form of the same meter is taken too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

from dao.errors import BadUse, CheckFailed
from meters.adapters import aiida
from meters.adapters.engine import TOTAL, Adapter, Conventions, Direction, Point, Source
from meters.adapters.fields import bounded, number, shown

# Label, direction, tariff; all in Wh. In historical mode each contract has its own registers.
_REGISTERS: dict[str, tuple[Direction, str]] = {
    "EAST": ("import", TOTAL),
    "EAIT": ("export", TOTAL),
    "BASE": ("import", TOTAL),
    "HCHC": ("import", "HCHC"),
    "HCHP": ("import", "HCHP"),
    "EJPHN": ("import", "EJPHN"),
    "EJPHPM": ("import", "EJPHPM"),
    "BBRHCJB": ("import", "BBRHCJB"),
    "BBRHPJB": ("import", "BBRHPJB"),
    "BBRHCJW": ("import", "BBRHCJW"),
    "BBRHPJW": ("import", "BBRHPJW"),
    "BBRHCJR": ("import", "BBRHCJR"),
    "BBRHPJR": ("import", "BBRHPJR"),
}
_METER = ("ADSC", "ADCO")
_GROUP = re.compile(rb"\n([^\r\n]*)\r")
_FRAME = re.compile(rb"\x02([^\x02\x03]*)\x03")
_OFFSETS = {"E": 2, "H": 1}
"""Season letter of a stamp: summer (été) or winter (hiver), in hours from UTC. Lower case says that
the meter's clock is in doubt."""


def read(data: bytes, source: Source) -> Iterator[Point]:
    if data.lstrip()[:1] in (b"{", b"["):
        yield from aiida.read(data, source)
        return
    frames = [match.group(1) for match in _FRAME.finditer(data)]
    # A capture without STX and ETX, as a terminal program saves it, counts as one frame.
    frames = frames or [b"\n" + data.strip(b"\x02\x03\r\n ") + b"\r"]
    numbered = list(enumerate(frames, start=1))
    yield from source.whole(numbered, lambda one: _frame(one[1], one[0], source))


def _frame(frame: bytes, order: int, source: Source) -> Iterator[Point]:
    values: dict[str, str] = {}
    end: datetime | None = None
    frame = frame.replace(b"\r\r\n", b"\r\n")
    if b"\r" not in frame.strip(b"\r\n"):
        frame = b"".join(b"\n" + line + b"\r" for line in frame.split(b"\n") if line.strip())
    for match in _GROUP.finditer(frame):
        label, stamp, value = _group(match.group(1))
        if label == "DATE":
            end = _time(stamp or value, source)
        values[label] = value
    meter = next((values[label] for label in _METER if label in values), None)
    used = [label for label in _REGISTERS if label in values]
    if not used:
        raise BadUse("no Linky frame with energy: expected EAST, EAIT, BASE, HCHC and the like")
    for label in used:
        direction, part = _REGISTERS[label]
        wh = number(values[label], label)
        yield Point(meter, end, direction, wh, part=part, order=0 if end else order)


def _group(line: bytes) -> tuple[str, str, str]:
    """Label, stamp and value of a group whose checksum holds."""
    text = line.decode("latin-1")
    if len(text) < 4:
        raise BadUse(f"the group {shown(text)} is too short: expected label, value and checksum")
    separator = "\t" if "\t" in text else " "
    # Historical mode leaves the last separator out of the sum, standard mode takes it in.
    checked = text[:-1] if separator == "\t" else text[:-2]
    if chr((sum(map(ord, checked)) & 0x3F) + 0x20) != text[-1]:
        raise CheckFailed(f"the checksum of group {shown(text)} does not hold")
    parts = text[:-2].split(separator)
    if len(parts) not in (2, 3):
        raise BadUse(f"the group {shown(text)} has {len(parts)} fields, expected 2 or 3")
    return parts[0], parts[1] if len(parts) == 3 else "", parts[-1]


def _time(text: str, source: Source) -> datetime:
    """SAAMMJJhhmmss: season letter, then local time."""
    season = text[:1]
    if season.islower():
        source.note("the meter's clock is in doubt (lower-case season letter)")
    try:
        zone = timezone(timedelta(hours=_OFFSETS[season.upper()]))
        return bounded(datetime.strptime(text[1:], "%y%m%d%H%M%S").replace(tzinfo=zone), "DATE")
    except (KeyError, ValueError):
        raise BadUse(f"DATE is {shown(text)}, expected E or H and yymmddhhmmss") from None


LINKY = Adapter(
    name="linky",
    title="France: Linky customer port (TIC, both modes), and AIIDA records of it",
    conventions=Conventions(
        sign="EAST, BASE, HCHC and the like are import, EAIT export",
        interval="none: registers only",
        time="standard mode: DATE, local time with season letter; historical mode none (--at)",
        units="Wh",
        register="historical mode: sum of the contract's registers",
    ),
    read=read,
)
