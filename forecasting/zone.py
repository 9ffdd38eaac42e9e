# SPDX-License-Identifier: Apache-2.0
"""The forecast of a zone's day, made from public inputs only, in integer Wh.

Inputs are the ledger's published totals, the calendar and the sun's position: enough for anyone to
recompute it, which `evidence` does. Commit, reveal and score live on chain; turning it into
voltages is `balancing`'s.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt

from dao.errors import BadUse
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY, day_of
from forecasting.model import QuantileForecast, Settings, forecast
from forecasting.series import IntervalSeries, Location

IntArray = npt.NDArray[np.int64]

EVIDENCE_FORMAT = "gridcommons-forecast-2"
METHOD = "prophet-ridge-3"
LIBRARIES = ("prophet", "numpy", "pandas", "pvlib", "holidays")

# The coordinates that SimBench gives 1-LV-rural3--2-sw (middle of its buses, rounded): near
# Schwerin, Mecklenburg-Vorpommern. SimBench places its grids where such grids are typical.
DEMO_LOCATION = Location(latitude=53.65, longitude=11.41)
DEMO_TIMEZONE = "Europe/Berlin"
DEMO_COUNTRY = "DE"
DEMO_REGION = "MV"


@dataclass(frozen=True)
class ZoneTotals:
    """The ledger's totals of consecutive slots from first_slot on, as committed, in Wh.

    net_wh: (n,) int64, import minus export, positive draws; export_wh: (n,) int64, never negative.
    A slot without totals does not exist in a contiguous ledger, so nothing is missing here.
    """

    first_slot: int
    net_wh: IntArray
    export_wh: IntArray

    def __post_init__(self) -> None:
        if self.net_wh.shape != self.export_wh.shape or self.net_wh.ndim != 1:
            raise BadUse("totals need one net and one export value per slot")
        if (self.export_wh < 0).any() or (self.net_wh + self.export_wh < 0).any():
            raise BadUse("totals are impossible: export or import below zero")

    @property
    def end_slot(self) -> int:
        """The first slot not known yet: the forecast's origin."""
        return self.first_slot + int(self.net_wh.size)


@dataclass(frozen=True)
class DayForecast:
    """Integer Wh per slot from first_slot on; each array (slots,) int64.

    net: q10 <= q50 <= q90. export: 0 <= q10 <= q50 <= q90. The scenarios fit together: high export
    belongs to low net, and net + export is an import that is never negative.
    """

    zone: int
    first_slot: int
    net_q10: IntArray
    net_q50: IntArray
    net_q90: IntArray
    net_mean: IntArray
    export_q10: IntArray
    export_q50: IntArray
    export_q90: IntArray
    export_mean: IntArray
    model: str
    reason: str
    train_first_slot: int
    train_end_slot: int
    totals_sha256: str
    parameters: dict[str, Any]

    @property
    def slots(self) -> int:
        return int(self.net_q50.size)

    def scenario(self, name: str) -> tuple[IntArray, IntArray]:
        """(import_wh, export_wh) of "high_export", "median", "mean" or "high_load"."""
        pairs = {
            "high_export": (self.net_q10, self.export_q90),
            "median": (self.net_q50, self.export_q50),
            "mean": (self.net_mean, self.export_mean),
            "high_load": (self.net_q90, self.export_q10),
        }
        if name not in pairs:
            raise BadUse(f"unknown scenario {name!r}; expected one of {', '.join(pairs)}")
        net, export = pairs[name]
        return net + export, export

    def evidence(
        self,
        published: ZoneTotals,
        roots: Sequence[str] = (),
        battery_wh: Sequence[Sequence[int]] = (),
    ) -> dict[str, Any]:
        """Everything needed to recompute this forecast, as plain JSON values.

        published: totals as the ledger has them, the training window at least. roots: hex of the
        Merkle roots of the batches behind that window, in slot order. battery_wh: [slot, import,
        export] that was taken out of the totals. Only what lies in the window is written. Raises
        BadUse where published totals less battery_wh are not what the forecast was made from.
        """
        window = slice(
            self.train_first_slot - published.first_slot, self.train_end_slot - published.first_slot
        )
        if window.start < 0 or self.train_end_slot > published.end_slot:
            raise BadUse("the published totals do not cover the forecast's training window")
        inside = ZoneTotals(
            self.train_first_slot, published.net_wh[window], published.export_wh[window]
        )
        corrections = [
            [int(value) for value in row]
            for row in battery_wh
            if self.train_first_slot <= row[0] < self.train_end_slot
        ]
        if totals_digest(without_battery(inside, corrections)) != self.totals_sha256:
            raise BadUse("the forecast was not made from these totals")
        return {
            "format": EVIDENCE_FORMAT,
            "method": METHOD,
            "zone": self.zone,
            "unit": "Wh",
            "first_slot": self.first_slot,
            "slots": self.slots,
            "model": self.model,
            "reason": self.reason,
            "train_first_slot": self.train_first_slot,
            "train_end_slot": self.train_end_slot,
            "totals": {"net": inside.net_wh.tolist(), "export": inside.export_wh.tolist()},
            "battery_wh": corrections,
            "totals_sha256": self.totals_sha256,
            "roots": list(roots),
            "parameters": self.parameters,
            "libraries": {name: metadata.version(name) for name in LIBRARIES},
            "net": {
                "q10": self.net_q10.tolist(),
                "q50": self.net_q50.tolist(),
                "q90": self.net_q90.tolist(),
                "mean": self.net_mean.tolist(),
            },
            "export": {
                "q10": self.export_q10.tolist(),
                "q50": self.export_q50.tolist(),
                "q90": self.export_q90.tolist(),
                "mean": self.export_mean.tolist(),
            },
        }


def without_battery(published: ZoneTotals, battery_wh: Sequence[Sequence[int]]) -> ZoneTotals:
    """The totals as they would be had the community battery rested.

    battery_wh: [slot, import, export] in Wh, each slot inside the totals. Else a day that the
    battery mended would look like one that needs no mending.
    """
    net, export = published.net_wh.copy(), published.export_wh.copy()
    for slot, taken, given in battery_wh:
        net[slot - published.first_slot] -= taken - given
        export[slot - published.first_slot] -= given
    return ZoneTotals(published.first_slot, net, export)


def canonical_json(evidence: dict[str, Any]) -> bytes:
    """Sorted keys, no spaces, ASCII: equal evidence gives equal bytes."""
    return json.dumps(
        evidence, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode("ascii")


def evidence_hash(evidence: dict[str, Any]) -> bytes:
    """Keccak-256 of the canonical JSON, as the forecast registry stores it."""
    from dao.eip712 import keccak

    return keccak(canonical_json(evidence))


def totals_digest(totals: ZoneTotals) -> str:
    """SHA-256 over first slot, net and export as big-endian 64 bit integers, in hex."""
    parts = (np.array([totals.first_slot]), totals.net_wh, totals.export_wh)
    return hashlib.sha256(b"".join(part.astype(">i8").tobytes() for part in parts)).hexdigest()


def forecast_zone_day(
    totals: ZoneTotals,
    target_first_slot: int,
    *,
    zone: int = 1,
    location: Location | None = DEMO_LOCATION,
    timezone: str = DEMO_TIMEZONE,
    country: str | None = DEMO_COUNTRY,
    region: str | None = DEMO_REGION,
    slots: int = SLOTS_PER_DAY,
) -> DayForecast:
    """Forecast `slots` slots of a zone from target_first_slot on, given all totals known by then.

    The origin is the end of the totals; the target may begin there or later. Same input, same
    integers. Raises BadUse for a target inside the totals or too far after them, and for totals
    without a slot.
    """
    if totals.net_wh.size == 0:
        raise BadUse("no totals: nothing is committed for this zone yet")
    gap = target_first_slot - totals.end_slot
    if gap < 0:
        raise BadUse(
            f"the day beginning at slot {target_first_slot} is already known "
            f"(totals reach to slot {totals.end_slot})"
        )
    settings = Settings(
        kind="net", timezone=timezone, country=country, region=region, location=location
    )
    # What the model may read, and no more: the evidence speaks of exactly these totals.
    keep = (settings.long_days + 28) * SLOTS_PER_DAY
    first = max(totals.first_slot, totals.end_slot - keep)
    used = ZoneTotals(
        first,
        np.asarray(totals.net_wh[first - totals.first_slot :], dtype=np.int64),
        np.asarray(totals.export_wh[first - totals.first_slot :], dtype=np.int64),
    )
    begin = used.first_slot * SLOT_SECONDS
    sun = used.export_wh.astype(np.float64)
    net = forecast(
        IntervalSeries(begin, SLOT_SECONDS, used.net_wh.astype(np.float64)),
        slots,
        settings,
        gap=gap,
        generation=sun,
    )
    export = forecast(
        IntervalSeries(begin, SLOT_SECONDS, sun), slots, settings, gap=gap, generation=sun
    )
    net_low, net_mid, net_high, net_mean = _whole(net)
    out_low, out_mid, out_high, out_mean = _whole(export)
    # Import = net + export cannot be negative. Raising export keeps the order of its quantiles,
    # because -net falls from the low to the high quantile of net.
    out_high = np.maximum(out_high, np.maximum(0, -net_low))
    out_mid = np.maximum(out_mid, np.maximum(0, -net_mid))
    out_low = np.maximum(out_low, np.maximum(0, -net_high))
    out_mean = np.maximum(out_mean, np.maximum(0, -net_mean))
    return DayForecast(
        zone=zone,
        first_slot=target_first_slot,
        net_q10=net_low,
        net_q50=net_mid,
        net_q90=net_high,
        net_mean=net_mean,
        export_q10=out_low,
        export_q50=out_mid,
        export_q90=out_high,
        export_mean=out_mean,
        model=net.model,
        reason=net.reason,
        train_first_slot=used.first_slot,
        train_end_slot=used.end_slot,
        totals_sha256=totals_digest(used),
        parameters={
            **settings.as_dict(),
            "regressors": list(net.regressors),
            "day": day_of(target_first_slot).isoformat(),
        },
    )


def _whole(values: QuantileForecast) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    low, mid, high, mean = (
        np.rint(part).astype(np.int64) for part in (values.q10, values.q50, values.q90, values.mean)
    )
    return low, mid, high, mean
