# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import time
from datetime import date

import numpy as np
import pytest

from dao.errors import BadUse
from dao.slots import first_slot_of_day
from forecasting.zone import (
    ZoneTotals,
    canonical_json,
    evidence_hash,
    forecast_zone_day,
)
from tests.forecasting.conftest import DemoZone

# The operational origin: the evening before, with everything up to 18:00 UTC committed.
ORIGIN = 24


def totals_before(zone: DemoZone, day_slot: int, days: int = 56) -> ZoneTotals:
    end = day_slot - ORIGIN - zone.first_slot
    part = slice(end - days * 96, end)
    return ZoneTotals(
        zone.first_slot + end - days * 96,
        zone.net_wh[part],
        zone.export_wh.sum(1, dtype=np.int64)[part],
    )


def test_a_zone_day_is_forecast_better_than_last_week_and_quickly(demo_zone: DemoZone) -> None:
    ours = naive = 0.0
    slowest = 0.0
    net = demo_zone.net_wh
    forecast_zone_day(  # imports are paid here
        totals_before(demo_zone, first_slot_of_day(date(2016, 6, 5))),
        first_slot_of_day(date(2016, 6, 5)),
    )
    for number in range(6, 20, 2):
        day = first_slot_of_day(date(2016, 6, number))
        totals = totals_before(demo_zone, day)
        began = time.perf_counter()
        made = forecast_zone_day(totals, day)
        slowest = max(slowest, time.perf_counter() - began)
        assert made.model == "prophet"
        at = day - demo_zone.first_slot
        actual, week = net[at : at + 96], net[at - 7 * 96 : at - 6 * 96]
        spread = np.abs(totals.net_wh[672:] - totals.net_wh[:-672])
        half = np.quantile(spread, 0.8)
        for level, mine, theirs in (
            (0.1, made.net_q10, week - half),
            (0.5, made.net_q50, week),
            (0.9, made.net_q90, week + half),
        ):
            for total, band in ((0, mine), (1, theirs)):
                error = actual - band
                loss = float(np.maximum(level * error, (level - 1) * error).mean())
                if total == 0:
                    ours += loss
                else:
                    naive += loss
    assert ours < 0.75 * naive
    assert slowest < 5.0


def test_scenarios_fit_together(demo_zone: DemoZone) -> None:
    day = first_slot_of_day(date(2016, 6, 8))
    made = forecast_zone_day(totals_before(demo_zone, day), day)
    assert made.net_q10.dtype == np.int64
    for low, middle, high in (
        (made.net_q10, made.net_q50, made.net_q90),
        (made.export_q10, made.export_q50, made.export_q90),
    ):
        assert (low <= middle).all()
        assert (middle <= high).all()
    for name in ("high_export", "median", "mean", "high_load"):
        taken, given = made.scenario(name)
        assert (taken >= 0).all()
        assert (given >= 0).all()
    with pytest.raises(BadUse, match="unknown scenario"):
        made.scenario("worst")


def test_equal_totals_give_equal_evidence_and_other_totals_another(demo_zone: DemoZone) -> None:
    day = first_slot_of_day(date(2016, 6, 8))
    totals = totals_before(demo_zone, day)
    first = forecast_zone_day(totals, day).evidence(totals, ["0x01"])
    second = forecast_zone_day(totals, day).evidence(totals, ["0x01"])
    assert canonical_json(first) == canonical_json(second)
    assert len(evidence_hash(first)) == 32
    assert json.loads(canonical_json(first))["net"]["q50"] == first["net"]["q50"]
    assert first["roots"] == ["0x01"]
    assert first["libraries"]["prophet"]
    changed = totals.net_wh.copy()
    changed[-1] += 1
    other = ZoneTotals(totals.first_slot, changed, totals.export_wh)
    made = forecast_zone_day(other, day)
    assert evidence_hash(made.evidence(other, ["0x01"])) != evidence_hash(first)
    with pytest.raises(BadUse, match="not made from these totals"):
        made.evidence(totals)
    with pytest.raises(BadUse, match="do not cover"):
        made.evidence(ZoneTotals(totals.first_slot, changed[:-1], totals.export_wh[:-1]))


def test_a_young_zone_is_forecast_by_a_simpler_model_that_is_named(demo_zone: DemoZone) -> None:
    day = first_slot_of_day(date(2016, 6, 8))
    totals = totals_before(demo_zone, day, days=8)
    made = forecast_zone_day(totals, day)
    assert made.model == "seasonal-naive-week"
    assert "8.0 days" in made.evidence(totals)["reason"]


def test_a_day_that_is_already_known_is_not_forecast() -> None:
    totals = ZoneTotals(1000, np.ones(96, dtype=np.int64), np.zeros(96, dtype=np.int64))
    with pytest.raises(BadUse, match="already known"):
        forecast_zone_day(totals, 1095)


def test_impossible_totals_are_refused() -> None:
    with pytest.raises(BadUse, match="below zero"):
        ZoneTotals(0, np.array([-5]), np.array([4]))
    with pytest.raises(BadUse, match="no totals"):
        forecast_zone_day(ZoneTotals(0, np.zeros(0, np.int64), np.zeros(0, np.int64)), 96)
