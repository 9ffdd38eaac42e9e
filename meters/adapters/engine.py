# SPDX-License-Identifier: Apache-2.0
"""The engine under all adapters: what an adapter is, and how its points become readings.

An adapter turns bytes into points, one register value or one interval of one direction each. The
engine joins directions and tariffs, rounds to whole Wh once, and tells what looks wrong; it never
fills a gap. Which files there are and how rows are printed is the command's business.
"""

from __future__ import annotations

import difflib
import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from importlib.metadata import EntryPoint, entry_points
from itertools import pairwise
from typing import Literal, TypeVar
from zoneinfo import ZoneInfo

from dao.errors import BadUse, CheckFailed, GridCommonsError
from meters.readings import Quality

GROUP = "gridcommons.adapters"
"""Entry-point group of adapters; an entry's name is what `meter parse` is given."""

BUILT_IN: Mapping[str, str] = {
    "aiida": "meters.adapters.aiida:AIIDA",
    "cim": "meters.adapters.cim:CIM",
    "csv": "meters.adapters.csv_table:CSV",
    "datadis": "meters.adapters.datadis:DATADIS",
    "dsmr": "meters.adapters.dsmr:DSMR",
    "eda": "meters.adapters.eda:EDA",
    "energinet": "meters.adapters.cim:ENERGINET",
    "enedis": "meters.adapters.enedis:ENEDIS",
    "fluvius": "meters.adapters.fluvius:FLUVIUS",
    "fronius": "meters.adapters.home:FRONIUS",
    "greenbutton": "meters.adapters.greenbutton:GREENBUTTON",
    "homewizard": "meters.adapters.home:HOMEWIZARD",
    "linky": "meters.adapters.linky:LINKY",
    "mijn-aansluiting": "meters.adapters.mijn_aansluiting:MIJN_AANSLUITING",
    "ocmf": "meters.adapters.ocmf:OCMF",
    "shelly": "meters.adapters.home:SHELLY",
    "sml": "meters.adapters.sml:SML",
    "sunspec": "meters.adapters.sunspec:SUNSPEC",
    "tasmota": "meters.adapters.home:TASMOTA",
}
"""The adapters that come along. pyproject.toml registers the same ones as entry points; this table
serves a checkout that is not installed."""

Direction = Literal["import", "export"]

T = TypeVar("T")

TOTAL = ""
"""The `part` of a point that is the whole energy of its direction, not one tariff of it."""

# Above any register of a home or a street, and exact in every format that carries it as a double.
MAX_REGISTER_WH = Decimal(2**53)


@dataclass(frozen=True)
class Point:
    """One value of one direction: a register at `end`, or the energy from `start` to `end`.

    `wh` is exact and not rounded; None where the source holds no value. `end` is None only for a
    register whose source carries no clock. Points of one meter, time and `order` make one reading;
    `order` keeps apart what only looks alike (two readings of one second, or of no time at all).
    """

    meter: str | None
    end: datetime | None
    direction: Direction
    wh: Decimal | None
    start: datetime | None = None
    quality: Quality = Quality.MEASURED
    source_quality: str | None = None
    part: str = TOTAL
    order: int = 0


@dataclass(frozen=True)
class MeterReading:
    """A normalised reading: cumulative at `end` if `register`, else the energy of an interval.

    Energy in whole Wh or None, never zero for unknown; times aware, UTC. `meter` is the source's
    own name for the meter or metering point, None where it gives none. `source_quality` holds the
    source's own code.
    """

    meter: str | None
    start: datetime | None
    end: datetime | None
    import_wh: int | None
    export_wh: int | None
    register: bool
    quality: Quality
    source_quality: str | None


@dataclass(frozen=True)
class Options:
    """What a record may leave unsaid and the caller knows.

    meter: name of the meter; at: when a record without a clock was taken; timezone: of stamps
    without an offset; key: OCMF public key, or decryption key of a P1 port; export: the file holds
    feed-in, for formats that do not say.
    """

    meter: str | None = None
    at: datetime | None = None
    timezone: ZoneInfo | None = None
    key: bytes | None = None
    export: bool = False


@dataclass
class Source:
    """One file while it is read: the caller's options, and what to tell the caller afterwards."""

    options: Options = field(default_factory=Options)
    notes: dict[str, None] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Something the caller should know; said once however often it happens."""
        self.notes[text] = None

    def quality(self, codes: Mapping[str, Quality], code: str | None) -> Quality:
        """Our quality for a source's code. None is measured; an unknown code only an estimate."""
        if code is None:
            return Quality.MEASURED
        if code not in codes:
            self.note(f"unknown quality code {code!r}: its values count as estimated")
            return Quality.ESTIMATED
        return codes[code]

    def whole(self, pieces: Sequence[T], read: Callable[[T], Iterable[Point]]) -> Iterator[Point]:
        """Points of the pieces whose checksum holds; CheckFailed if it holds for none.

        A line or a radio damages one telegram in a while; the others are as good as before.
        """
        damaged: list[CheckFailed] = []
        for piece in pieces:
            try:
                points = list(read(piece))
            except CheckFailed as error:
                damaged.append(error)
            else:
                yield from points
        if damaged and len(damaged) == len(pieces):
            raise damaged[0]
        if damaged:
            self.note(f"{len(damaged)} of {len(pieces)} were left out as damaged: {damaged[0]}")

    @property
    def unsaid_direction(self) -> Direction:
        return "export" if self.options.export else "import"


@dataclass(frozen=True)
class Conventions:
    """How a format speaks, in the words of the docs; one line each."""

    sign: str
    interval: str
    time: str
    units: str
    register: str


@dataclass(frozen=True)
class Adapter:
    """One format: its name, what it reads, its conventions, and the function that reads it.

    `read` yields points from the bytes of one file. It raises BadUse for bytes it cannot read,
    CheckFailed where a signature or checksum of the source itself does not hold; nothing else.
    """

    name: str
    title: str
    conventions: Conventions
    read: Callable[[bytes, Source], Iterable[Point]]


@dataclass(frozen=True)
class Parsed:
    """Readings by meter and time, and notes: one line each about what was left out or looks odd."""

    readings: list[MeterReading]
    notes: list[str]


def adapter_names() -> list[str]:
    """Every adapter there is: the built-in ones and those of installed plugins."""
    return sorted({*BUILT_IN, *(entry.name for entry in entry_points(group=GROUP))})


def load_adapter(name: str) -> Adapter:
    """The adapter of this name. BadUse for an unknown one or a plugin that does not load."""
    place = BUILT_IN.get(name)
    if place is None:
        plugins = {entry.name: entry for entry in entry_points(group=GROUP)}
        if name not in plugins:
            near = difflib.get_close_matches(name.lower(), adapter_names(), n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise BadUse(f"unknown adapter {name!r}{hint} (`gridcommons meter adapters` lists all)")
        return _load_plugin(plugins[name])
    module, _, attribute = place.partition(":")
    adapter: Adapter = getattr(importlib.import_module(module), attribute)
    return adapter


def _load_plugin(entry: EntryPoint) -> Adapter:
    try:
        adapter = entry.load()
    except Exception as error:  # a plugin is anyone's code: whatever it raises is its name's fault
        raise BadUse(f"adapter {entry.name!r} does not load: {error}") from error
    if not isinstance(adapter, Adapter):
        raise BadUse(f"adapter {entry.name!r} is not a meters.adapters.engine.Adapter: {adapter!r}")
    return adapter


def parse(
    adapter: Adapter, files: Iterable[tuple[str, bytes]], options: Options | None = None
) -> Parsed:
    """Normalised readings of some files of one format, read as one.

    files: pairs of a name, for messages, and bytes. Raises BadUse or CheckFailed with the file's
    name; CheckFailed too where the files hold no reading.
    """
    options = options or Options()
    points: list[Point] = []
    origin: list[int] = []
    notes: list[str] = []
    for number, (name, data) in enumerate(files):
        source = Source(options)
        if not data.strip():
            raise BadUse(f"{name}: the file is empty")
        try:
            found = list(adapter.read(data, source))
        except GridCommonsError as error:
            raise type(error)(f"{name}: {error}") from error
        points += [_named(point, options) for point in found]
        origin += [number] * len(found)
        notes += [f"{name}: {note}" for note in source.notes]
    if not points:
        told = f" ({notes[0]})" if notes else ""
        raise CheckFailed(f"no reading of electrical energy in what {adapter.name} was given{told}")
    if any(point.end is None for point in points):
        notes.append("the source carries no clock: say when it was read with --at")
    readings, found_notes = combine(points, origin)
    return Parsed(readings, notes + found_notes + review(readings))


def _named(point: Point, options: Options) -> Point:
    meter = point.meter if point.meter is not None else options.meter
    end = point.end if point.end is not None else options.at
    return replace(point, meter=meter, end=end)


def combine(
    points: Sequence[Point], origin: Sequence[int] | None = None
) -> tuple[list[MeterReading], list[str]]:
    """Points to readings, by meter and time, and notes on what contradicts itself.

    The directions of one meter and time make one reading. Where a direction comes as tariffs, it is
    their sum, and unknown as soon as one tariff that the meter has is missing. A repeated point
    counts once; of two that contradict each other the one of better quality is taken, else neither.
    Wh are rounded half to even, after summing. `origin` numbers each point's file.
    """
    places = origin if origin is not None else [0] * len(points)
    meters: dict[str | None, int] = {}
    groups: dict[tuple[int, datetime | None, datetime | None, tuple[int, int]], list[Point]] = {}
    tariffs: dict[tuple[object, ...], set[str]] = {}
    for point, place in zip(points, places, strict=True):
        rank = meters.setdefault(point.meter, len(meters))
        order = (place, point.order) if point.order else (0, 0)
        groups.setdefault((rank, point.start, point.end, order), []).append(point)
        if point.part != TOTAL:
            kind = (point.meter, point.direction, point.start is None)
            tariffs.setdefault(kind, set()).add(point.part)

    notes: Counter[str] = Counter()
    rows: list[tuple[tuple[object, ...], MeterReading]] = []
    for (rank, start, end, order), group in groups.items():
        meter = group[0].meter
        sides: dict[Direction, tuple[int | None, Quality, str | None]] = {}
        for direction in ("import", "export"):
            own = [point for point in group if point.direction == direction]
            if own:
                expected = tariffs.get((meter, direction, own[0].start is None), set())
                sides[direction] = _one_direction(own, expected, notes)
        quality, source_quality = _joint_quality(list(sides.values()))
        reading = MeterReading(
            meter=meter,
            start=group[0].start,
            end=group[0].end,
            import_wh=sides["import"][0] if "import" in sides else None,
            export_wh=sides["export"][0] if "export" in sides else None,
            register=group[0].start is None,
            quality=quality,
            source_quality=source_quality,
        )
        first = datetime.min.replace(tzinfo=UTC)
        rows.append(
            ((rank, start is None, end is None, end or first, start or first, order), reading)
        )
    rows.sort(key=lambda row: row[0])
    return [reading for _, reading in rows], _counted(notes)


_SEVERITY = (Quality.MEASURED, Quality.ESTIMATED, Quality.SUBSTITUTED, Quality.INVALID)


def _one_direction(
    points: list[Point], tariffs: set[str], notes: Counter[str]
) -> tuple[int | None, Quality, str | None]:
    """Wh, quality and source code of one direction at one time."""
    what = f"meter {points[0].meter or '-'}, {points[0].direction}"
    parts: dict[str, list[Point]] = {}
    for point in points:
        parts.setdefault(point.part, []).append(point)
    total = parts.pop(TOTAL, None)
    known = any(p.wh is not None and p.quality != Quality.MISSING for p in total or ())
    if total is not None and (known or not parts):
        used, complete = [total], True
    else:
        used, complete = list(parts.values()), tariffs <= parts.keys()

    agreed = [_agreed(same) for same in used]
    chosen = [point for point in agreed if point is not None]
    codes = list(dict.fromkeys(p.source_quality for p in chosen if p.source_quality))
    code = "/".join(codes) or None
    if len(chosen) < len(agreed):
        notes[f"{what}: two different values for one time, neither is taken"] += 1
        return None, Quality.INVALID, code
    if any(len({(p.wh, p.quality) for p in same}) > 1 for same in used):
        notes[f"{what}: two different values for one time, the better one is taken"] += 1
    elif any(len(same) > 1 for same in used):
        notes[f"{what}: the same value twice, counted once"] += 1
    # What a source calls missing may still carry a number, a zero as a rule: it is none.
    values = [None if point.quality == Quality.MISSING else point.wh for point in chosen]
    quality = worst(point.quality for point in chosen)
    if not complete:
        notes[f"{what}: a tariff is missing, so the sum is not known"] += 1
        return None, Quality.MISSING, code
    if any(value is None for value in values):
        return None, Quality.INVALID if quality == Quality.INVALID else Quality.MISSING, code
    wh = sum((value for value in values if value is not None), Decimal(0))
    if wh < 0:
        notes[f"{what}: energy below zero is not taken (feed-in belongs under export)"] += 1
        return None, Quality.INVALID, code
    if wh > MAX_REGISTER_WH:
        notes[f"{what}: a value beyond any meter is not taken"] += 1
        return None, Quality.INVALID, code
    return int(wh.to_integral_value(ROUND_HALF_EVEN)), quality, code


def _agreed(points: list[Point]) -> Point | None:
    """The one point that several for the same time and tariff come down to; None if they differ.

    A value stands before none, a measured one before an estimate: so a portal corrects itself.
    """
    known = [p for p in points if p.wh is not None and p.quality != Quality.MISSING]
    if not known:
        return points[0]
    best = min(_SEVERITY.index(point.quality) for point in known)
    leading = [point for point in known if _SEVERITY.index(point.quality) == best]
    return leading[0] if len({point.wh for point in leading}) == 1 else None


def worst(qualities: Iterable[Quality]) -> Quality:
    """The one to be trusted least; missing only where nothing else is there."""
    known = [quality for quality in qualities if quality != Quality.MISSING]
    return max(known, key=_SEVERITY.index) if known else Quality.MISSING


def _joint_quality(
    sides: list[tuple[int | None, Quality, str | None]],
) -> tuple[Quality, str | None]:
    codes = list(dict.fromkeys(code for _, _, code in sides if code))
    return worst(quality for _, quality, _ in sides), "/".join(codes) or None


def review(readings: Sequence[MeterReading]) -> list[str]:
    """What looks wrong in a series: falling registers, gaps, overlaps, mixed resolutions."""
    notes: list[str] = []
    series: dict[tuple[str | None, bool], list[MeterReading]] = {}
    for reading in readings:
        series.setdefault((reading.meter, reading.register), []).append(reading)
    for (meter, register), rows in series.items():
        name = f"meter {meter or '-'}"
        notes += _falling(name, rows) if register else _uneven(name, rows)
    return notes


def _falling(name: str, rows: Sequence[MeterReading]) -> list[str]:
    notes: Counter[str] = Counter()
    for direction, values in (
        ("import", [(row.import_wh, row) for row in rows]),
        ("export", [(row.export_wh, row) for row in rows]),
    ):
        known = [(wh, row) for wh, row in values if wh is not None]
        for (before, _), (after, row) in pairwise(known):
            if after < before:
                when = f" at {stamp(row.end)}" if row.end else ""
                notes[
                    f"{name}: the {direction} register falls from {before} to {after} Wh{when} "
                    "(reset, rollover or another device): take no difference across it"
                ] += 1
    return _counted(notes)


def _uneven(name: str, rows: Sequence[MeterReading]) -> list[str]:
    notes: list[str] = []
    spans = sorted({(row.start, row.end) for row in rows if row.start and row.end})
    lengths = sorted({int((end - start).total_seconds()) for start, end in spans})
    if len(lengths) > 1:
        notes.append(f"{name}: intervals of different length ({', '.join(map(str, lengths))} s)")
    gaps = [(a, b) for (_, a), (b, _) in pairwise(spans) if b > a]
    overlaps = [b for (_, a), (b, _) in pairwise(spans) if b < a]
    if gaps:
        notes.append(
            f"{name}: {_times(len(gaps), 'gap')}, the first from {stamp(gaps[0][0])} "
            f"to {stamp(gaps[0][1])}"
        )
    if overlaps:
        notes.append(
            f"{name}: intervals overlap, first at {stamp(overlaps[0])}: do not add them up"
        )
    return notes


def stamp(when: datetime | None) -> str | None:
    """ISO 8601 in UTC, to the second, or to the millisecond where there is a fraction."""
    if when is None:
        return None
    utc = when.astimezone(UTC).replace(tzinfo=None)
    return utc.isoformat(timespec="milliseconds" if utc.microsecond else "seconds") + "Z"


def as_dict(reading: MeterReading) -> dict[str, object]:
    """The published form: times in ISO 8601 UTC, energy in Wh or null, quality by its name."""
    return {
        "meter": reading.meter,
        "start": stamp(reading.start),
        "end": stamp(reading.end),
        "import_wh": reading.import_wh,
        "export_wh": reading.export_wh,
        "register": reading.register,
        "quality": reading.quality.name.lower(),
        "source_quality": reading.source_quality,
    }


def _times(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _counted(notes: Counter[str]) -> list[str]:
    return [text if count == 1 else f"{text} ({count} times)" for text, count in notes.items()]
