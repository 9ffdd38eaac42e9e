# SPDX-License-Identifier: Apache-2.0
"""Whether a forecast's evidence holds: its file read strictly, recomputed, held against the chain.

The file is written by `zone`; how it is shown is the command's. What the community battery did is
the file's word: a node can only tell that the windows in force allowed it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dao.errors import BadUse
from dao.forecasts import pack_quantiles
from dao.json_input import is_too_deep
from dao.ledger import unpack_totals
from dao.parameters import COMMUNITY_BATTERY
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY, day_of, slot_start
from forecasting.series import Location
from forecasting.zone import (
    EVIDENCE_FORMAT,
    LIBRARIES,
    METHOD,
    DayForecast,
    IntArray,
    ZoneTotals,
    canonical_json,
    evidence_hash,
    forecast_zone_day,
    totals_digest,
    without_battery,
)

if TYPE_CHECKING:
    from dao.chain import Contract

State = Literal["passed", "failed", "not checked"]

# The longest training window, every slot corrected, stays below it.
LARGEST_FILE = 4_000_000
# Year 2198: beyond it nanoseconds since 1970 do not fit 64 bits for long.
_LAST_SLOT = 8_000_000
_LARGEST_ZONE = 1_023
_PARTS = ("q10", "q50", "q90", "mean")
_KEYS = (
    *("format", "method", "zone", "unit", "first_slot", "slots", "model", "reason"),
    *("train_first_slot", "train_end_slot", "totals", "battery_wh", "totals_sha256", "roots"),
    *("parameters", "libraries", "net", "export"),
)
_RECOMPUTED = ("model", "reason", "train_first_slot", "train_end_slot")
_INT32, _UINT32 = (-(2**31), 2**31 - 1), (0, 2**32 - 1)


@dataclass(frozen=True)
class Evidence:
    """An evidence file whose form is right. Whether it is true is for the checks."""

    document: Mapping[str, Any]
    hash: bytes
    """Keccak-256 of the file's bytes."""
    published: ZoneTotals
    battery_wh: tuple[tuple[int, int, int], ...]
    """(slot, import, export) in Wh."""
    totals: ZoneTotals
    """What the forecast was made from: published, the battery's doing taken out."""
    location: Location | None

    @property
    def zone(self) -> int:
        return int(self.document["zone"])

    @property
    def first_slot(self) -> int:
        return int(self.document["first_slot"])


@dataclass(frozen=True)
class Check:
    """One thing that was held against the file, and how it ended."""

    name: str
    state: State
    detail: str


@dataclass(frozen=True)
class PublishedBatch:
    """One version of a batch as the ledger's events tell it. net_wh, export_wh: (slots,) int64."""

    first_slot: int
    version: int
    root: bytes
    net_wh: IntArray
    export_wh: IntArray

    @property
    def end_slot(self) -> int:
        return self.first_slot + int(self.net_wh.size)


# -- the file ----------------------------------------------------------------------------------


def read_evidence(data: bytes, name: str) -> Evidence:
    """An evidence file. BadUse, with one line, unless its form is exactly that of the format."""
    if len(data) > LARGEST_FILE:
        raise BadUse(f"{name} is larger than any evidence file ({LARGEST_FILE:,} bytes)")
    try:
        text = data.decode("ascii")
        if is_too_deep(text):
            raise ValueError
        document = json.loads(text)
        canonical = canonical_json(document) == data
    except ValueError:
        raise BadUse(f"{name} is not an evidence file: expected one JSON object, ASCII") from None
    try:
        _expect(type(document) is dict, "expected one JSON object")
        _expect(
            document.get("format") == EVIDENCE_FORMAT,
            f"format {_shown(document.get('format'))}: this program reads {EVIDENCE_FORMAT}",
        )
        # Two keys of one name, spaces or another order would give the same content another hash.
        _expect(canonical, "not canonical JSON: expected sorted keys, each once, and no spaces")
        return _parsed(document)
    except BadUse as error:
        raise BadUse(f"{name}: {error}") from None


def _parsed(document: dict[str, Any]) -> Evidence:
    _keys(document, "the file", _KEYS)
    _expect(
        document["method"] == METHOD,
        f"method {_shown(document['method'])}: this program computes {METHOD}",
    )
    _expect(document["unit"] == "Wh", "unit: expected Wh")
    _integer(document["zone"], "zone", 1, _LARGEST_ZONE)
    first_slot = _integer(document["first_slot"], "first_slot", 0, _LAST_SLOT)
    _expect(first_slot % SLOTS_PER_DAY == 0, "first_slot: expected the first slot of a UTC day")
    _integer(document["slots"], "slots", SLOTS_PER_DAY, SLOTS_PER_DAY)
    for key in ("model", "reason"):
        _text(document[key], key, r".{1,500}")
    begin = _integer(document["train_first_slot"], "train_first_slot", 0, first_slot)
    end = _integer(document["train_end_slot"], "train_end_slot", begin + 1, first_slot)

    _keys(document["totals"], "totals", ("net", "export"))
    published = ZoneTotals(
        begin,
        _column(document["totals"]["net"], "totals.net", end - begin, *_INT32),
        _column(document["totals"]["export"], "totals.export", end - begin, *_UINT32),
    )
    battery_wh = _battery(document["battery_wh"], begin, end)
    _text(document["totals_sha256"], "totals_sha256", r"[0-9a-f]{64}")
    _list(document["roots"], "roots")
    for root in document["roots"]:
        _text(root, "roots", r"0x[0-9a-f]{64}")

    parameters = document["parameters"]
    _expect(type(parameters) is dict, "parameters: expected an object")
    for key in ("timezone", "country", "region", "location"):
        _expect(key in parameters, f"parameters: {key} is missing")
    _text(parameters["timezone"], "parameters.timezone", r"[A-Za-z0-9_+/-]{1,64}")
    if parameters["country"] is not None:
        _text(parameters["country"], "parameters.country", r"[A-Z]{2,3}")
    if parameters["region"] is not None:
        _text(parameters["region"], "parameters.region", r"[A-Za-z0-9 .-]{1,40}")

    _keys(document["libraries"], "libraries", LIBRARIES)
    for library, version in document["libraries"].items():
        _text(version, f"libraries.{library}", r"[0-9A-Za-z.+!-]{1,40}")

    for kind, bounds in (("net", _INT32), ("export", _UINT32)):
        _keys(document[kind], kind, _PARTS)
        low, middle, high, _ = (
            _column(document[kind][part], f"{kind}.{part}", SLOTS_PER_DAY, *bounds)
            for part in _PARTS
        )
        _expect(
            bool((low <= middle).all() and (middle <= high).all()),
            f"{kind}: expected q10 <= q50 <= q90 in every slot",
        )
    return Evidence(
        document=document,
        hash=evidence_hash(document),
        published=published,
        battery_wh=battery_wh,
        totals=without_battery(published, battery_wh),
        location=_location(parameters["location"]),
    )


def _battery(rows: Any, begin: int, end: int) -> tuple[tuple[int, int, int], ...]:
    found: list[tuple[int, int, int]] = []
    for row in _list(rows, "battery_wh"):
        _expect(type(row) is list and len(row) == 3, "battery_wh: expected [slot, import, export]")
        # Rising slots: no slot is corrected twice.
        after = found[-1][0] + 1 if found else begin
        slot = _integer(row[0], "battery_wh, slot", after, end - 1)
        taken, given = (_integer(value, "battery_wh", *_UINT32) for value in row[1:])
        found.append((slot, taken, given))
    return tuple(found)


def _location(value: Any) -> Location | None:
    if value is None:
        return None
    _keys(value, "parameters.location", ("latitude", "longitude"))
    for degrees in value.values():
        _expect(type(degrees) in (int, float), "parameters.location: expected degrees")
    return Location(value["latitude"], value["longitude"])


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise BadUse(otherwise)


def _shown(value: Any) -> str:
    """A value of the file, short enough for one line."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _keys(value: Any, name: str, expected: Iterable[str]) -> None:
    _expect(type(value) is dict, f"{name}: expected an object")
    wanted = set(expected)
    for key in sorted(wanted ^ set(value)):
        _expect(key in wanted, f"{name}: {_shown(key)} is not known")
        raise BadUse(f"{name}: {key} is missing")


def _integer(value: Any, name: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:  # a bool is no number here
        raise BadUse(f"{name} {_shown(value)}: expected a whole number, {low} to {high}")
    return value


def _text(value: Any, name: str, pattern: str) -> None:
    if type(value) is not str or re.fullmatch(pattern, value, re.ASCII) is None:
        raise BadUse(f"{name} {_shown(value)}: expected text like {pattern}")


def _list(value: Any, name: str) -> list[Any]:
    if type(value) is not list:
        raise BadUse(f"{name}: expected a list")
    return value


def _column(value: Any, name: str, count: int, low: int, high: int) -> IntArray:
    _expect(len(_list(value, name)) == count, f"{name}: expected {count} values")
    for number in value:
        _integer(number, name, low, high)
    return np.array(value, dtype=np.int64)


# -- without a node ----------------------------------------------------------------------------


def library_differences(evidence: Evidence) -> dict[str, tuple[str, str]]:
    """Libraries of another version here: name to (the file's, this machine's)."""
    named: Mapping[str, str] = evidence.document["libraries"]
    here = {name: metadata.version(name) for name in named}
    return {name: (named[name], here[name]) for name in named if named[name] != here[name]}


def recompute(evidence: Evidence) -> DayForecast:
    """The forecast, made again from the file's totals and settings.

    Raises BadUse for settings that no forecast can be made with, such as an unknown time zone.
    """
    parameters = evidence.document["parameters"]
    return forecast_zone_day(
        evidence.totals,
        evidence.first_slot,
        zone=evidence.zone,
        location=evidence.location,
        timezone=parameters["timezone"],
        country=parameters["country"],
        region=parameters["region"],
    )


def stated_forecast(evidence: Evidence) -> DayForecast:
    """The forecast as the file states it; whether it holds is for the checks."""
    document = evidence.document
    fields: dict[str, Any] = {
        f"{series}_{part}": np.array(document[series][part], dtype=np.int64)
        for series in ("net", "export")
        for part in _PARTS
    }
    for name in (*_RECOMPUTED, "totals_sha256"):
        fields[name] = document[name]
    return DayForecast(
        zone=evidence.zone,
        first_slot=evidence.first_slot,
        parameters=dict(document["parameters"]),
        **fields,
    )


def check_file(evidence: Evidence) -> list[Check]:
    """All that needs nothing but the file: the digest, the settings, every value in Wh."""
    document = evidence.document
    digest = totals_digest(evidence.totals)
    made = recompute(evidence)
    again = json.loads(
        canonical_json(made.evidence(evidence.published, document["roots"], evidence.battery_wh))
    )
    return [
        _check(
            "digest",
            None
            if digest == document["totals_sha256"]
            else f"the totals have the digest {digest}, the file says {document['totals_sha256']}",
            f"SHA-256 of the totals of {evidence.totals.net_wh.size:,} slots",
        ),
        _check(
            "settings",
            _other_setting(document, again),
            f"{document['model']} ({document['reason']}); settings as the method has them",
        ),
        _check(
            "forecast",
            _other_value(document, again),
            f"all {2 * len(_PARTS) * SLOTS_PER_DAY} quantiles and means recomputed to the Wh",
        ),
    ]


def _check(name: str, fault: str | None, otherwise: str) -> Check:
    return Check(name, "passed", otherwise) if fault is None else Check(name, "failed", fault)


def _other_setting(document: Mapping[str, Any], again: Mapping[str, Any]) -> str | None:
    """The first setting that is not what the recomputed forecast has."""
    pairs = [(key, document[key], again[key]) for key in _RECOMPUTED]
    told, made = document["parameters"], again["parameters"]
    pairs += [(f"parameters.{key}", told.get(key), made.get(key)) for key in sorted({*told, *made})]
    for name, there, here in pairs:
        if there != here:
            return f"{name}: the file says {_shown(there)}, recomputed {_shown(here)}"
    return None


def _other_value(document: Mapping[str, Any], again: Mapping[str, Any]) -> str | None:
    """The first value, by slot, that is not the recomputed one, and how many there are."""
    names = [(kind, part) for kind in ("net", "export") for part in _PARTS]
    there, here = (
        np.array([table[kind][part] for kind, part in names]) for table in (document, again)
    )
    places = np.argwhere((there != here).T)
    if not len(places):
        return None
    at, which = (int(i) for i in places[0])
    return (
        f"{'.'.join(names[which])} of slot {_slot(document['first_slot'] + at)}: the file says "
        f"{there[which, at]} Wh, recomputed {here[which, at]} Wh; "
        f"{len(places)} of {there.size} values differ"
    )


def _slot(slot: int) -> str:
    return f"{slot} ({slot_start(slot):%Y-%m-%d %H:%M} UTC)"


# -- with a node -------------------------------------------------------------------------------


def published_batches(
    ledger: Contract, zone: int, first_slot: int, end_slot: int, first_block: int = 0
) -> list[PublishedBatch]:
    """Every version of the batches that reach into [first_slot, end_slot), by slot and version."""
    versions = {"BatchCommitted": 1, "BatchCorrected": 2}
    events = ledger.chain.logs(
        [ledger.address],
        first_block,
        topics=[[ledger.interface.topic(name) for name in versions], f"0x{zone:064x}"],
    )
    found = []
    for event in events:
        begin, slots = int(event.args["first_slot"]), int(event.args["slots"])
        if begin < end_slot and begin + slots > first_slot:
            net, export = unpack_totals(event.args["totals"], slots)
            root = bytes(event.args["root"])
            found.append(PublishedBatch(begin, versions[event.name], root, net, export))
    return sorted(found, key=lambda batch: (batch.first_slot, batch.version))


def newest_batches(
    ledger: Contract, zone: int, first_slot: int, end_slot: int, first_block: int = 0
) -> list[PublishedBatch]:
    """The newest version of each batch that reaches into [first_slot, end_slot), by slot."""
    batches = published_batches(ledger, zone, first_slot, end_slot, first_block)
    return list({batch.first_slot: batch for batch in batches}.values())


def check_ledger(evidence: Evidence, ledger: Contract, first_block: int = 0) -> list[Check]:
    """Each root and each slot of the totals against the ledger's events.

    A batch may have been corrected after the forecast was made: the root in the file says which
    version it used.
    """
    published, roots = evidence.published, list(evidence.document["roots"])
    begin, end = published.first_slot, published.end_slot
    versions: dict[int, list[PublishedBatch]] = {}
    for batch in published_batches(ledger, evidence.zone, begin, end, first_block):
        versions.setdefault(batch.first_slot, []).append(batch)
    used: list[PublishedBatch] = []
    root_fault = total_fault = None
    if len(roots) != len(versions):
        root_fault = f"the file names {len(roots)} roots, the ledger has {len(versions)} batches"
    corrected = 0
    for at, (first, choices) in enumerate(versions.items()):
        named = roots[at] if at < len(roots) else None
        match = next((batch for batch in choices if f"0x{batch.root.hex()}" == named), None)
        if match is None and root_fault is None:
            root_fault = (
                f"batch of slot {_slot(first)}: the file says {named}, the ledger "
                f"0x{choices[-1].root.hex()}"
            )
        corrected += match is not None and match is not choices[-1]
        used.append(match or choices[-1])
    # The ledger has no gaps: only its beginning and its end can be missing.
    if not used or used[0].first_slot > begin or used[-1].end_slot < end:
        known = f"{used[0].first_slot} to {used[-1].end_slot}" if used else "none of them"
        total_fault = f"the file has the slots {begin} to {end}, the ledger {known}"
    else:
        window = slice(begin - used[0].first_slot, end - used[0].first_slot)
        for name, there, here in (
            ("net", published.net_wh, np.concatenate([b.net_wh for b in used])[window]),
            ("export", published.export_wh, np.concatenate([b.export_wh for b in used])[window]),
        ):
            places = np.flatnonzero(there != here)
            if places.size and total_fault is None:
                total_fault = (
                    f"{name} of slot {_slot(begin + int(places[0]))}: the file says "
                    f"{there[places[0]]} Wh, the ledger {here[places[0]]} Wh; "
                    f"{places.size} of {there.size} slots differ"
                )
    since = f"; {corrected} corrected since" if corrected else ""
    return [
        _check("roots", root_fault, f"{len(roots)} batches as committed{since}"),
        _check("totals", total_fault, f"{published.net_wh.size:,} slots as published{since}"),
    ]


def check_battery(evidence: Evidence, parameters: Contract) -> Check:
    """Whether the windows in force allowed all that the file says the battery did."""
    windows: dict[int, int] = {}
    for day in sorted({slot - slot % SLOTS_PER_DAY for slot, *_ in evidence.battery_wh}):
        for window in parameters.call("windows_of", evidence.zone, COMMUNITY_BATTERY, day):
            first = int(window["first_slot"])
            for slot in range(first, first + int(window["slots"])):
                windows[slot] = int(window["value"])
    fault = None
    for slot, taken, given in evidence.battery_wh:
        power = windows.get(slot, 0)
        most = abs(power) * SLOT_SECONDS // 3_600
        if taken > most * (power > 0) or given > most * (power < 0):
            fault = (
                f"slot {_slot(slot)}: the file says that the battery took {taken} and gave "
                f"{given} Wh, its window was for {power} W"
            )
            break
    count = len(evidence.battery_wh)
    within = f"{count} slots, each inside the windows that were in force"
    return _check("battery", fault, within if count else "at rest in all of the window")


def check_registry(evidence: Evidence, registry: Contract, first_block: int = 0) -> Check:
    """Whether this very file was committed to and revealed, with these quantiles.

    The contract itself held the reveal against the commitment.
    """
    names = ("ForecastCommitted", "ForecastRevealed")
    events = registry.chain.logs(
        [registry.address],
        first_block,
        topics=[
            [registry.interface.topic(name) for name in names],
            None,
            f"0x{evidence.zone:064x}",
            f"0x{evidence.first_slot:064x}",
        ],
    )
    committed = {e.args["forecaster"]: e for e in events if e.name == "ForecastCommitted"}
    revealed = {e.args["forecaster"]: e for e in events if e.name == "ForecastRevealed"}
    about = f"zone {evidence.zone} on {day_of(evidence.first_slot)}"
    net = evidence.document["net"]
    for who, event in revealed.items():
        if bytes(event.args["evidence_hash"]) != evidence.hash:
            continue
        if list(event.args["words"]) != pack_quantiles(net["q10"], net["q50"], net["q90"]):
            return Check("registry", "failed", f"{who} revealed other quantiles than the file's")
        told = f"in block {committed[who].block}" if who in committed else "before"
        detail = f"{who} committed to it {told} and revealed it in block {event.block}"
        return Check("registry", "passed", detail)
    if waiting := sorted(set(committed) - set(revealed)):
        detail = f"committed for {about} by {', '.join(waiting)}, not revealed: ask again later"
        return Check("registry", "not checked", detail)
    if revealed:
        detail = f"no forecast of {about} that was revealed names 0x{evidence.hash.hex()}"
        return Check("registry", "failed", detail)
    return Check("registry", "failed", f"nobody committed to a forecast of {about}")
