# SPDX-License-Identifier: Apache-2.0
"""Reads `timestamp,value` files into `IntervalSeries`, and writes forecasts the same way.

A file may hold several meters, in a column `meter` (or another that the caller names) or in value
columns that the caller names, and weather that is known in advance, in columns with the names of
`WEATHER`. Fields are separated by commas, or by semicolons or tabs, and then decimals may have a
comma.

Everything that could make a forecast quietly wrong is an error with its row; only missing rows and
empty values pass, as missing values. Row numbers count the header as row 1, as editors do.

Timestamps are ISO 8601, the begin of their interval. With an offset (or Z) they mean what they
say. Without one they are UTC, unless a time zone is named: then they are its wall clock, the hour
that a change of clocks skips is an error, and in the hour that occurs twice the file's order
decides; where the order does not show it, that is an error too.
"""

from __future__ import annotations

import csv
import fnmatch
import gzip
import io
import math
import re
import zlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import numpy as np

from dao.errors import BadUse
from forecasting.series import DAY_SECONDS, STEPS, IntervalSeries

COLUMNS = ("timestamp", "value")
METER = "meter"
WEATHER: Mapping[str, str] = {
    "temperature": "temperature",
    "temp": "temperature",
    "radiation": "radiation",
    "ghi": "radiation",
    "cloud_cover": "cloud_cover",
    "clouds": "cloud_cover",
    "wind_speed": "wind_speed",
    "windspeed": "wind_speed",
    "humidity": "humidity",
}
"""Column of a file, in small letters, to the weather it holds. Any unit: the model scales it."""
_MISSING = {"", "nan", "na", "null", "none"}
_HORIZON = re.compile(r"([+-]?\d+)\s*(min|h|d)?")
_UNITS = {"min": 60, "h": 3600, "d": DAY_SECONDS}
_MOST_ROWS = 20_000_000
_MOST_INTERVALS = 2_000_000  # of one meter: 57 years of quarter-hours
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
    """One meter of a file.

    missing: values that are not there, between the first and the last; weather: columns of the
    file, one value per interval of the series and `ahead` more that lie after its last value.
    """

    series: IntervalSeries
    style: StampStyle
    timezone: str
    missing: int
    name: str = ""
    zone_missing: bool = False
    weather: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the result has to know of the file."""
        if not self.zone_missing:
            return ()
        return ("time zone missing: timestamps without an offset were taken as UTC",)


@dataclass(frozen=True)
class _Table:
    """One meter's cells, checked one by one: row numbers, time, and numbers per column."""

    values: dict[str, array[float]]
    weather: dict[str, array[float]]
    stamps: list[datetime] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    rows: array[int] = field(default_factory=lambda: array("q"))


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

    Raises BadUse, with the row, for anything it cannot take at its word, and for several meters.

    timezone_name: whose wall clock stamps without an offset are, and whose calendar (evenings,
    working days) the values follow; without it UTC, or the file's own fixed offset.
    """
    meters = read_meters(data, path, timezone_name)
    if len(meters) > 1:
        raise BadUse(f"{path}: {len(meters)} meters; expected one, without a column {METER}")
    return meters[0]


def read_meters(
    data: bytes,
    path: str,
    timezone_name: str | None = None,
    *,
    time_column: str | None = None,
    value_columns: Sequence[str] = (),
    meter_column: str | None = None,
) -> list[ReadFile]:
    """Every meter of a file, in the order in which they come. Raises BadUse as `read_series` does.

    time_column, value_columns, meter_column: what they are called where it is not timestamp, value
    and meter; several value columns (or patterns like h*_load) are several meters.
    """
    zone = zone_of(timezone_name) if timezone_name else None
    columns = _Columns(time_column, tuple(value_columns), meter_column)
    parts = _cells(data, path, columns)
    named = len(parts) > 1 or meter_column is not None
    found = [
        _meter(part, path, zone, timezone_name, column, meter if named else "")
        for meter, part in parts.items()
        for column in part.values
    ]
    names = [one.name for one in found]
    if len(set(names)) < len(names):
        raise BadUse(f"{path}: two meters of one name; name each once")
    return found


def _meter(
    table: _Table,
    path: str,
    zone: ZoneInfo | None,
    timezone_name: str | None,
    column: str,
    meter: str,
) -> ReadFile:
    stamps, rows = table.stamps, table.rows
    single = len(table.values) == 1 and (meter or column == COLUMNS[1])
    name = meter if single else " ".join(part for part in (meter, column) if part)
    where = f"{path}: {name}" if name else path
    aware = [stamp.tzinfo is not None for stamp in stamps]
    if len(stamps) < 2:
        raise BadUse(f"{where}: too short: {len(stamps)} rows; expected at least one day")
    if any(aware) and not all(aware):
        odd = aware.index(not aware[0])
        raise BadUse(
            f"{where}: row {rows[odd]}: some timestamps have an offset and some do not; "
            "write all of them one way"
        )
    if aware[0]:
        moments = [_seconds(stamp, path, row) for stamp, row in zip(stamps, rows, strict=True)]
    else:
        moments = _from_wall(stamps, zone, path, rows)
    _ordered(moments, stamps, where, rows, named=zone is not None or aware[0])
    start, step, places, size = _regular(moments, where, rows)

    def spread(numbers: Sequence[float], length: int) -> np.ndarray:
        result = np.full(size, np.nan)
        result[places] = numbers
        return result[:length]

    series = spread(table.values[column], size)
    style, calendar_zone = _style(stamps, table.texts, zone, aware[0], timezone_name)
    known = np.flatnonzero(~np.isnan(series))
    if not known.size:
        raise BadUse(f"{where}: every value is missing")
    weather = {key: spread(numbers, size) for key, numbers in table.weather.items()}
    weather = {key: numbers for key, numbers in weather.items() if not np.isnan(numbers).all()}
    if weather:
        # Rows with weather and without a value are what is to be forecast.
        series = series[: known[-1] + 1]
    missing = int(np.isnan(series).sum())
    if series.size < DAY_SECONDS // step:
        raise BadUse(
            f"{where}: too short: {series.size} intervals of {step // 60} minutes; expected at "
            "least one day, and two weeks for the full model"
        )
    if not series[~np.isnan(series)].any():
        raise BadUse(f"{where}: every value is zero; expected readings of a meter that runs")
    return ReadFile(
        IntervalSeries(start, step, series),
        style,
        calendar_zone,
        missing,
        name,
        zone_missing=zone is None and not aware[0],
        weather=weather,
    )


def _text(data: bytes, path: str) -> str:
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise BadUse(f"{path}: a damaged gzip file") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadUse(f"{path}: not a text file in UTF-8") from error


@dataclass(frozen=True)
class _Columns:
    """What the columns are called where it is not what they usually are."""

    time: str | None
    values: tuple[str, ...]
    meter: str | None


@dataclass(frozen=True)
class _Layout:
    """Where things stand in a row."""

    time: int
    meter: int | None
    values: dict[str, int]
    weather: dict[str, int]


def _cells(data: bytes, path: str, columns: _Columns) -> dict[str, _Table]:
    """The cells of every meter, by its name, in the order in which they come."""
    text = _text(data, path)
    separator = _separator(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    tables: dict[str, _Table] = {}
    known: dict[str, datetime] = {}  # many meters have the same stamps
    count = 0
    try:
        header = next(reader, None)
        if header is None:
            raise BadUse(f"{path}: the file is empty; expected a header line timestamp,value")
        names = [name.strip().lower() for name in header]
        at = _layout(names, path, columns)
        for cells in reader:
            row = reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(names):
                raise BadUse(
                    f"{path}: row {row}: {len(cells)} fields; expected {','.join(names)[:80]}"
                )
            count += 1
            if count > _MOST_ROWS:
                raise BadUse(f"{path}: more than {_MOST_ROWS} rows")
            meter = "" if at.meter is None else cells[at.meter].strip()
            if at.meter is not None and not meter:
                raise BadUse(f"{path}: row {row}: no {names[at.meter]}; expected whose value it is")
            table = tables.get(meter)
            if table is None:
                table = tables[meter] = _Table(
                    {name: array("d") for name in at.values},
                    {name: array("d") for name in at.weather},
                )
            stamp_text = cells[at.time].strip()
            stamp = known.get(stamp_text)
            if stamp is None:
                stamp = known[stamp_text] = _stamp(stamp_text, path, row)
            table.stamps.append(stamp)
            table.texts.append(stamp_text)
            table.rows.append(row)
            for numbers, places in ((table.values, at.values), (table.weather, at.weather)):
                for name, place in places.items():
                    numbers[name].append(_value(cells[place].strip(), path, row, separator != ","))
    except csv.Error as error:
        raise BadUse(f"{path}: not a CSV file: {error}") from error
    if count < 2:
        raise BadUse(f"{path}: too short: {count} rows; expected at least one day")
    return tables


def _separator(text: str) -> str:
    """What separates the fields: a comma, or a semicolon or tab that the header has instead."""
    header = text.split("\n", 1)[0]
    return next((mark for mark in ",;\t" if mark in header), ",")


def _layout(names: list[str], path: str, columns: _Columns) -> _Layout:
    """Where time and meter stand, and the value and weather columns by name."""
    expected = "expected a header line timestamp,value"
    shown = repr(",".join(names)[:80])
    if len(set(names)) < len(names):
        raise BadUse(f"{path}: columns {shown}: two have one name; {expected}")
    time = (columns.time or COLUMNS[0]).lower()
    if time not in names:
        raise BadUse(f"{path}: columns {shown}: no {time}; {expected}, or name it with --time")
    meter = (columns.meter or METER).lower()
    if columns.meter is not None and meter not in names:
        raise BadUse(f"{path}: columns {shown}: no {meter}; expected the column that --by names")
    wanted: list[str] = []
    for pattern in columns.values or (COLUMNS[1],):
        found = [
            name
            for name in fnmatch.filter(names, pattern.lower())
            if name not in (time, columns.meter and meter)
        ]
        if not found:
            raise BadUse(
                f"{path}: columns {shown}: no {pattern}; {expected}, or name it with --value"
            )
        wanted += [name for name in found if name not in wanted]
    weather: dict[str, int] = {}
    for at, name in enumerate(names):
        if name not in wanted and name in WEATHER and WEATHER[name] not in weather:
            weather[WEATHER[name]] = at
    at_meter = names.index(meter) if meter in names and meter not in wanted else None
    if not columns.values:
        odd = [name for name in names if name not in (time, meter, *wanted) and name not in WEATHER]
        if odd:
            raise BadUse(
                f"{path}: columns {shown}: what is {odd[0]}? {expected}; more may be {METER}, "
                f"{', '.join(dict.fromkeys(WEATHER.values()))}; --value names values, --by homes"
            )
    return _Layout(
        names.index(time), at_meter, {name: names.index(name) for name in wanted}, weather
    )


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


def _value(text: str, path: str, row: int, comma: bool) -> float:
    if text.lower() in _MISSING:
        return math.nan
    try:
        number = float(text.replace(",", ".") if comma and "." not in text else text)
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
    stamps: list[datetime], zone: ZoneInfo | None, path: str, rows: Sequence[int]
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
    moments: list[int], stamps: list[datetime], path: str, rows: Sequence[int], named: bool
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
    moments: list[int], path: str, rows: Sequence[int]
) -> tuple[int, int, np.ndarray, int]:
    """Start, step, the place of each row among the intervals, and how many intervals there are."""
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
    if size > _MOST_INTERVALS:
        raise BadUse(f"{path}: the rows span more than {_MOST_INTERVALS} intervals")
    return moments[0], step, (at - at[0]) // step, size


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
