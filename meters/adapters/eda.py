# SPDX-License-Identifier: Apache-2.0
"""EDA ConsumptionRecord of Austria (ebutilities.at), as grid operators send it to market partners.

Any schema version: names are matched without their namespace, which carries the version.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dao.errors import BadUse
from meters.adapters.engine import Adapter, Conventions, Point, Source
from meters.adapters.fields import (
    child_text,
    children,
    descendants,
    instant,
    load_xml,
    number,
    obis,
    seconds_between,
    tag,
    watt_hours,
)
from meters.readings import Quality

if TYPE_CHECKING:
    from lxml.etree import _Element

# MeteringMethod: L1 read from the meter, L2 a substitute of known quality, L3 an estimate.
_QUALITY = {"L1": Quality.MEASURED, "L2": Quality.SUBSTITUTED, "L3": Quality.ESTIMATED}
# What a metering point measured. G.01 is the total of a point in an energy community, and P.01 what
# the community left of it; the other suffixes (G.02, G.03, T) are shares, not measurements.
_COMMUNITY, _PLAIN = "G.01", "P.01"


def read(data: bytes, source: Source) -> Iterator[Point]:
    root = load_xml(data)
    if tag(root) != "ConsumptionRecord":
        raise BadUse(f"root element is {tag(root)}, expected ConsumptionRecord")
    sector = child_text(root, "MarketParticipantDirectory/Sector")
    if sector not in ("01", None):
        source.note(f"sector {sector} is not electricity (01) and was left out")
        return
    for process in children(root, "ProcessDirectory"):
        meter = child_text(process, "MeteringPoint")
        for energy in children(process, "Energy"):
            series = list(children(energy, "EnergyData"))
            totals = {_code(one)[0] for one in series if _code(one)[1] == _COMMUNITY}
            for one in series:
                yield from _series(one, meter, totals, source)


def _code(series: _Element) -> tuple[str, str]:
    code, _, suffix = (series.get("MeterCode") or "").strip().partition(" ")
    return code, suffix.strip()


def _series(
    series: _Element, meter: str | None, totals: set[str], source: Source
) -> Iterator[Point]:
    code, suffix = _code(series)
    meaning = obis(code)
    if meaning is None:
        source.note(f"meter code {code!r} is no active energy and was left out")
        return
    if suffix not in (_COMMUNITY, _PLAIN, "") or (suffix == _PLAIN and code in totals):
        source.note(f"meter code {code} {suffix} is a share, not a measurement, and was left out")
        return
    for position in descendants(series, "EP"):
        end = instant(child_text(position, "DTT"), "DTT")
        start = instant(child_text(position, "DTF"), "DTF")
        method = child_text(position, "MM")
        wh = watt_hours(
            number(child_text(position, "BQ"), "BQ"),
            series.get("UOM"),
            "UOM",
            None if meaning.register else seconds_between(start, end, "an interval"),
        )
        yield Point(
            meter,
            end,
            meaning.direction,
            wh,
            start=None if meaning.register else start,
            quality=source.quality(_QUALITY, method),
            source_quality=method,
            part=meaning.part,
        )


EDA = Adapter(
    name="eda",
    title="Austria: EDA ConsumptionRecord XML",
    conventions=Conventions(
        sign="meter code 1-1:1.9.0 is import, 1-1:2.9.0 export; P.01, or G.01 where both are",
        interval="DTF to DTT",
        time="with offset",
        units="UOM: KWH as a rule",
        register="1.8.0 and 2.8.0, read at DTT",
    ),
    read=read,
)
