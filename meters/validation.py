# SPDX-License-Identifier: Apache-2.0
"""Plausibility of normalised readings: named rules, each with a message that says how to mend it.

What depends on readings taken before (duplicates, conflicts, committed slots) is judged by the
collector, under the names listed here too. A reading that fails stays missing; nothing is invented
in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dao.slots import SLOT_SECONDS, slot_of
from meters.readings import MAX_WH, NULL_WH, Quality, Readings

# 3 x 100 A at 230 V: the largest connection a house in a low-voltage zone is fused for.
DEFAULT_CAPACITY_W = 69_000
# A gateway's clock may run ahead of the collector's by this much before a slot counts as future.
CLOCK_TOLERANCE_S = 60
# 2^32 slots would end in the year 124,000; what the lake's uint32 cannot hold is no slot.
_MAX_SLOT = 0xFFFF_FFFF

RULES: Mapping[str, str] = {
    "unknown_meter": "no device of this zone is registered under this meter number",
    "misaligned": "the interval is not one quarter-hour on the UTC grid (:00, :15, :30, :45)",
    "slot_range": "the slot number is not a quarter-hour since 1970",
    "future_slot": "the slot has not ended yet: check the gateway's clock",
    "no_value": "neither import nor export is given: send the reading when it is known",
    "negative": "energy of a slot is negative: report feed-in as export, not as negative import",
    "above_capacity": "more energy than the connection can carry in a slot: check unit and scale",
    "quality": "only measured, estimated or substituted values can be delivered",
    "signature": "the signature is not by the device key registered for this meter",
    "conflict": "another value was delivered for this meter and slot before; the first one is kept",
    "late": "the slot's batch is closed already: the value can only enter as a correction",
}

# The order in which a reading is judged: the first rule it breaks is reported.
_DELIVERABLE = (Quality.MEASURED, Quality.ESTIMATED, Quality.SUBSTITUTED)


@dataclass(frozen=True)
class Finding:
    """One reading that broke one rule."""

    rule: str
    meter: int
    slot: int

    @property
    def message(self) -> str:
        return f"meter {self.meter}, slot {self.slot}: {RULES[self.rule]}"


def slot_of_interval(start: int, end: int) -> int | None:
    """The slot of an interval in unix seconds; None if it breaks the rule `misaligned`."""
    if start % SLOT_SECONDS or end - start != SLOT_SECONDS:
        return None
    return slot_of(start)


def check(
    readings: Readings, capacity_w: Mapping[int, int], now: int | None
) -> tuple[np.ndarray, list[Finding]]:
    """Judge readings on their own: a mask of the plausible ones (bool, (n,)) and what was wrong.

    `capacity_w` gives each meter of the zone its connection in W; `now` is in unix seconds, None
    where every slot lies in the past by construction (history). The signature is not looked at.
    """
    meter, slot = readings.meter, readings.slot
    imported, exported = readings.import_wh, readings.export_wh
    known = np.isin(meter, np.fromiter(capacity_w, dtype=np.int64, count=len(capacity_w)))
    limit_wh = _limits(meter, capacity_w)
    no_import, no_export = imported == NULL_WH, exported == NULL_WH
    broken: list[tuple[str, np.ndarray]] = [
        ("unknown_meter", ~known),
        ("slot_range", (slot < 0) | (slot > _MAX_SLOT)),
        ("quality", ~np.isin(readings.quality, _DELIVERABLE)),
        ("no_value", no_import & no_export),
        ("negative", (imported < 0) | (exported < 0)),
        (
            "above_capacity",
            (~no_import & (imported > limit_wh)) | (~no_export & (exported > limit_wh)),
        ),
    ]
    if now is not None:
        broken.insert(2, ("future_slot", slot >= slot_of(now + CLOCK_TOLERANCE_S)))

    good = np.ones(len(readings), dtype=bool)
    findings: list[Finding] = []
    for rule, failed in broken:
        for i in np.flatnonzero(good & failed):
            findings.append(Finding(rule, int(meter[i]), int(slot[i])))
        good &= ~failed
    return good, findings


def _limits(meter: np.ndarray, capacity_w: Mapping[int, int]) -> np.ndarray:
    """The most Wh each row's connection can carry in a slot; unknown meters get zero."""
    distinct, inverse = np.unique(meter, return_inverse=True)
    limits = np.array(
        [min(capacity_w.get(int(m), 0) * SLOT_SECONDS // 3600, MAX_WH) for m in distinct],
        dtype=np.int64,
    )
    return limits[inverse] if len(distinct) else np.zeros(0, dtype=np.int64)
