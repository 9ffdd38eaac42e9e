# SPDX-License-Identifier: Apache-2.0
"""Reads `timestamp,value` files into an `IntervalSeries`, and writes forecasts the same way.

Everything that could make a forecast quietly wrong is an error with its row; only missing rows and
empty values pass, as missing values. Row numbers count the header as row 1, as editors do.

Timestamps are ISO 8601, the begin of their interval. With an offset (or Z) they mean what they
say. Without one they are UTC, unless a time zone is named: then they are its wall clock, the hour
that a change of clocks skips is an error, and in the hour that occurs twice the file's order
decides; where the order does not show it, that is an error too.
"""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import numpy as np

from dao.errors import BadUse
from forecasting.series import DAY_SECONDS, STEPS, IntervalSeries

COLUMNS = ("timestamp", "value")
_MISSING = {"", "nan", "na", "null", "none"}
_HORIZON = re.compile(r"([+-]?\d+)\s*(min|h|d)?")
_UNITS = {"min": 60, "h": 3600, "d": DAY_SECONDS}
_MOST_ROWS = 2_000_000
_OFFSET = re.compile(r"[+-]\d{2}:?\d{2}$")


@dataclass(frozen=True)
class StampStyle:
    """How the file writes time, so that the answer can be written the same way."""

    separator: str
    seconds: bool
    zone: tzinfo
    zulu: bool
    aware: bool

    def write(self, moment: int) -> str:
        local = datetime.fromtimestamp(moment, UTC).astimezone(self.zone)
        shape = "%H:%M:%S" if self.seconds else "%H:%M"
        text = f"{local:%Y-%m-%d}{self.separator}{local.strftime(shape)}"
        if not self.aware:
            return text
        if self.zulu:
            return text + "Z"
        offset = local.strftime("%z")
        return f"{text}{offset[:3]}:{offset[3:5]}"


@dataclass(frozen=True)
class ReadFile:
    series: IntervalSeries
    style: StampStyle
    timezone: str
    missing: int


def zone_of(name: str) -> ZoneInfo:
    """The IANA time zone of that name. Raises BadUse."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise BadUse(
            f"unknown time zone {name!r}; expected a name like Europe/Berlin or UTC"
        ) from error


def read_series(data: bytes, path: str, timezone_name: str | None = None) -> ReadFile:
    """Read and check a file's bytes; `path` is its name for messages.

    Raises BadUse, with the row, for anything it cannot take at its word.

    timezone_name: whose wall clock stamps without an offset are, and whose calendar (evenings,
    working days) the values follow; without it UTC, or the file's own fixed offset.
    """
    zone = zone_of(timezone_name) if timezone_name else None
    stamps, values, texts, rows = _rows(data, path)
    aware = [stamp.tzinfo is not None for stamp in stamps]
    if any(aware) and not all(aware):
        odd = aware.index(not aware[0])
        raise BadUse(
            f"{path}: row {rows[odd]}: some timestamps have an offset and some do not; "
            "write all of them one way"
        )
    if aware[0]:
        moments = [_seconds(stamp, path, row) for stamp, row in zip(stamps, rows, strict=True)]
    else:
        moments = _from_wall(stamps, zone, path, rows)
    _ordered(moments, stamps, path, rows, named=zone is not None or aware[0])
    start, step, series = _regular(moments, values, path, rows)
    style, calendar_zone = _style(stamps, texts, zone, aware[0], timezone_name)
    missing = int(np.isnan(series).sum())
    if missing == series.size:
        raise BadUse(f"{path}: every value is missing")
    if series.size < DAY_SECONDS // step:
        raise BadUse(
            f"{path}: too short: {series.size} intervals of {step // 60} minutes; expected at "
            "least one day, and two weeks for the full model"
        )
    return ReadFile(IntervalSeries(start, step, series), style, calendar_zone, missing)


def _rows(data: bytes, path: str) -> tuple[list[datetime], list[float], list[str], list[int]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadUse(f"{path}: not a text file in UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    expected = "expected a header line timestamp,value"
    stamps: list[datetime] = []
    values: list[float] = []
    texts: list[str] = []
    rows: list[int] = []
    try:
        header = next(reader, None)
        if header is None:
            raise BadUse(f"{path}: the file is empty; {expected}")
        names = [name.strip().lower() for name in header]
        if sorted(names) != sorted(COLUMNS):
            raise BadUse(f"{path}: columns {','.join(header)[:80]!r}; {expected}")
        at_stamp, at_value = (names.index(name) for name in COLUMNS)
        for cells in reader:
            row = reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(COLUMNS):
                raise BadUse(f"{path}: row {row}: {len(cells)} fields; expected timestamp,value")
            if len(stamps) >= _MOST_ROWS:
                raise BadUse(f"{path}: more than {_MOST_ROWS} rows")
            stamp_text = cells[at_stamp].strip()
            stamps.append(_stamp(stamp_text, path, row))
            values.append(_value(cells[at_value].strip(), path, row))
            texts.append(stamp_text)
            rows.append(row)
    except csv.Error as error:
        raise BadUse(f"{path}: not a CSV file: {error}") from error
    if len(stamps) < 2:
        raise BadUse(f"{path}: too short: {len(stamps)} rows; expected at least one day")
    return stamps, values, texts, rows


def _stamp(text: str, path: str, row: int) -> datetime:
    try:
        # A bare date or a number would parse too, and mean something else than was written.
        if len(text) < 16 or text[4:5] != "-":
            raise ValueError(text)
        return datetime.fromisoformat(text)
    except ValueError:
        raise BadUse(
            f"{path}: row {row}: {text[:40]!r} is not a timestamp; expected ISO 8601 like "
            "2016-06-01T12:15:00+02:00"
        ) from None


def _value(text: str, path: str, row: int) -> float:
    if text.lower() in _MISSING:
        return math.nan
    try:
        number = float(text)
    except ValueError:
        number = math.inf
    if not math.isfinite(number) or "_" in text:
        raise BadUse(f"{path}: row {row}: {text[:40]!r} is not a number (decimals with a point)")
    return number


def _seconds(stamp: datetime, path: str, row: int) -> int:
    seconds = stamp.timestamp()
    if seconds != int(seconds):
        raise BadUse(f"{path}: row {row}: fractions of a second in a timestamp")
    return int(seconds)


def _from_wall(
    stamps: list[datetime], zone: ZoneInfo | None, path: str, rows: list[int]
) -> list[int]:
    """Unix seconds of stamps without an offset."""
    if zone is None:
        return [
            _seconds(stamp.replace(tzinfo=UTC), path, row)
            for stamp, row in zip(stamps, rows, strict=True)
        ]
    twice = dict.fromkeys(stamps, 0)
    for stamp in stamps:
        twice[stamp] += 1
    seen: set[datetime] = set()
    moments = []
    for stamp, row in zip(stamps, rows, strict=True):
        first = stamp.replace(tzinfo=zone, fold=0)
        second = stamp.replace(tzinfo=zone, fold=1)
        chosen = first
        if first.utcoffset() != second.utcoffset():
            back = first.astimezone(UTC).astimezone(zone).replace(tzinfo=None)
            if back != stamp:
                raise BadUse(
                    f"{path}: row {row}: {stamp} does not exist in {zone.key}: clocks skip it"
                )
            if twice[stamp] != 2:
                raise BadUse(
                    f"{path}: row {row}: {stamp} occurs twice in {zone.key} and the file does not "
                    "show which one is meant; write timestamps with their offset"
                )
            chosen = second if stamp in seen else first
            seen.add(stamp)
        moments.append(_seconds(chosen, path, row))
    return moments


def _ordered(
    moments: list[int], stamps: list[datetime], path: str, rows: list[int], named: bool
) -> None:
    hint = "" if named else "; if these are local times, name their zone with --timezone"
    for at in range(1, len(moments)):
        if moments[at] == moments[at - 1]:
            raise BadUse(f"{path}: row {rows[at]}: {stamps[at]} is there twice{hint}")
        if moments[at] < moments[at - 1]:
            raise BadUse(
                f"{path}: row {rows[at]}: {stamps[at]} comes after a later time; "
                f"sort the rows by time{hint}"
            )


def _regular(
    moments: list[int], values: list[float], path: str, rows: list[int]
) -> tuple[int, int, np.ndarray]:
    at = np.array(moments, dtype=np.int64)
    gaps = np.diff(at)
    sizes, counts = np.unique(gaps, return_counts=True)
    step = int(sizes[counts.argmax()])
    if step not in STEPS:
        raise BadUse(
            f"{path}: intervals of {timedelta(seconds=step)} (most rows); "
            "expected 15, 30 or 60 minutes"
        )
    wrong = np.flatnonzero(gaps % step)
    if wrong.size:
        raise BadUse(
            f"{path}: row {rows[int(wrong[0]) + 1]}: mixed intervals: "
            f"{timedelta(seconds=int(gaps[wrong[0]]))} after the row before, where most rows are "
            f"{step // 60} minutes apart"
        )
    if moments[0] % step:
        raise BadUse(f"{path}: row {rows[0]}: intervals of {step // 60} minutes begin on the clock")
    size = int((at[-1] - at[0]) // step) + 1
    if size > _MOST_ROWS:
        raise BadUse(f"{path}: the rows span more than {_MOST_ROWS} intervals")
    series = np.full(size, np.nan)
    series[(at - at[0]) // step] = values
    return moments[0], step, series


def _style(
    stamps: list[datetime],
    texts: list[str],
    zone: ZoneInfo | None,
    aware: bool,
    timezone_name: str | None,
) -> tuple[StampStyle, str]:
    text = texts[-1]
    written: tzinfo = zone or UTC
    name = timezone_name or "UTC"
    zulu = aware and not _OFFSET.search(text)
    if aware:
        offset = stamps[-1].utcoffset() or timedelta(0)
        if zulu:
            written = UTC
        elif zone is None or any(
            stamp.astimezone(zone).utcoffset() != stamp.utcoffset() for stamp in stamps
        ):
            # Offsets that the named zone does not have (or no zone named): keep the last one.
            written = timezone(offset)
        if zone is None and offset:
            minutes = int(offset.total_seconds()) // 60
            sign = "+" if minutes >= 0 else "-"
            name = f"UTC{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
    clock = text[11:].split("+")[0].split("-")[0].rstrip("Zz")
    return (
        StampStyle(
            separator=text[10],
            seconds=clock.count(":") == 2,
            zone=written,
            zulu=zulu,
            aware=aware,
        ),
        name,
    )


def parse_horizon(text: str, step: int) -> int:
    """Intervals of `96` (a count), `24h`, `2d` or `90min`. Raises BadUse."""
    match = _HORIZON.fullmatch(text.strip())
    if match is None:
        raise BadUse(f"horizon {text!r}: expected a number of intervals, or like 24h, 2d or 90min")
    count = int(match.group(1))
    if match.group(2):
        seconds = count * _UNITS[match.group(2)]
        if seconds % step:
            raise BadUse(f"horizon {text!r} is not a whole number of {step // 60}-minute intervals")
        count = seconds // step
    if count <= 0:
        raise BadUse(f"horizon {text!r}: expected more than zero intervals")
    return count
