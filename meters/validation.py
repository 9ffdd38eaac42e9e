# SPDX-License-Identifier: Apache-2.0
"""Plausibility of normalised readings: named rules, each with a message that says how to mend it.

What depends on readings taken before (the chain, erased months) is judged by the collector, under
the names listed here too. A reading that fails stays missing; nothing is invented
in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from dao.slots import SLOT_SECONDS, slot_of
from meters.readings import MAX_WH, NULL_WH, Quality, Readings

# 3 x 100 A at 230 V: the largest connection a house in a low-voltage zone is fused for.
DEFAULT_CAPACITY_W = 69_000
# A gateway's clock may run ahead of the collector's by this much before a slot counts as future.
CLOCK_TOLERANCE_S = 60
# 2^32 slots would end in the year 124,000; what the lake's uint32 cannot hold is no slot.
_MAX_SLOT = 0xFFFF_FFFF
# A reading a second for 136 years; a larger number would end a chain for good.
_MAX_SEQUENCE = 0xFFFF_FFFF

RULES: Mapping[str, str] = {
    "unknown_meter": "no device of this zone is registered under this meter number",
    "misaligned": "the interval is not one quarter-hour on the UTC grid (:00, :15, :30, :45)",
    "slot_range": "the slot number is not a quarter-hour since 1970",
    "future_slot": "the slot has not ended yet: check the gateway's clock",
    "sequence_range": "the number of the reading is not one that counting could reach",
    "no_value": "neither import nor export is given: send the reading when it is known",
    "negative": "energy of a slot is negative: report feed-in as export, not as negative import",
    "above_capacity": "more energy than the connection can carry in a slot: check unit and scale",
    "quality": "only measured, estimated or substituted values can be delivered",
    "signature": "the signature is not by the device key that the meter had at that time",
    "sequence": "the device gave this number to another reading before: two stories, both kept",
    "previous": "the link is not that of the reading before it: a broken chain, kept as evidence",
    "versions": "too many corrections of this slot: the newest one taken counts",
    "erased": "the readings of this time were erased at the home's wish: none is taken any more",
}

_DELIVERABLE = (Quality.MEASURED, Quality.ESTIMATED, Quality.SUBSTITUTED)

NAMES = tuple(RULES)
PLAUSIBLE = -1
"""Where `judge` finds nothing wrong; else it gives the rule's place in `NAMES`."""


class Finding(NamedTuple):
    """One reading that broke one rule."""

    rule: str
    meter: int
    slot: int
    sequence: int = 0

    @property
    def message(self) -> str:
        return f"meter {self.meter}, slot {self.slot}: {RULES[self.rule]}"


def slot_of_interval(start: int, end: int) -> int | None:
    """The slot of an interval in unix seconds; None if it breaks the rule `misaligned`."""
    if start % SLOT_SECONDS or end - start != SLOT_SECONDS:
        return None
    return slot_of(start)


def judge(
    readings: Readings, meters: np.ndarray, limits_wh: np.ndarray, now: float | None
) -> np.ndarray:
    """The first rule that each reading breaks on its own, or `PLAUSIBLE`: int8 (n,).

    meters: those of the zone, sorted, with the most Wh that each one's connection can carry in a
    slot beside. now: unix seconds, None where every slot lies in the past by construction
    (history). The signature is not looked at.
    """
    meter, slot = readings.meter, readings.slot
    imported, exported = readings.import_wh, readings.export_wh
    if len(meters):
        place = np.minimum(np.searchsorted(meters, meter), len(meters) - 1)
        unknown, most = meters[place] != meter, limits_wh[place]
    else:
        unknown, most = np.ones(len(readings), dtype=bool), np.zeros(len(readings), dtype=np.int64)
    no_import, no_export = imported == NULL_WH, exported == NULL_WH
    broken = {
        "unknown_meter": unknown,
        "slot_range": (slot < 0) | (slot > _MAX_SLOT),
        "future_slot": np.zeros(len(readings), dtype=bool)
        if now is None
        else slot >= slot_of(int(now) + CLOCK_TOLERANCE_S),
        "sequence_range": (readings.sequence < 0) | (readings.sequence > _MAX_SEQUENCE),
        "quality": ~np.isin(readings.quality, _DELIVERABLE),
        "no_value": no_import & no_export,
        "negative": (imported < 0) | (exported < 0),
        "above_capacity": (~no_import & (imported > most)) | (~no_export & (exported > most)),
    }
    found = np.full(len(readings), PLAUSIBLE, dtype=np.int8)
    for rule, failed in broken.items():
        found[failed & (found == PLAUSIBLE)] = NAMES.index(rule)
    return found


def findings(readings: Readings, rules: np.ndarray) -> list[Finding]:
    """What was wrong, by row, where `rules` names one (its place in `NAMES`)."""
    at = np.flatnonzero(rules >= 0)
    return [
        Finding(NAMES[rule], meter, slot, sequence)
        for rule, meter, slot, sequence in zip(
            rules[at].tolist(),
            readings.meter[at].tolist(),
            readings.slot[at].tolist(),
            readings.sequence[at].tolist(),
            strict=True,
        )
    ]


def limits_wh(meters: np.ndarray, capacity_w: int | Mapping[int, int]) -> np.ndarray:
    """The most Wh each meter's connection can carry in a slot, int64; `capacity_w` in W, one for
    all or per meter, where a meter that is not in it has the usual connection."""
    if isinstance(capacity_w, int):
        return np.full(len(meters), _wh(capacity_w), dtype=np.int64)
    return np.array(
        [_wh(capacity_w.get(meter, DEFAULT_CAPACITY_W)) for meter in meters.tolist()],
        dtype=np.int64,
    )


def _wh(watts: int) -> int:
    return min(watts * SLOT_SECONDS // 3600, MAX_WH)
