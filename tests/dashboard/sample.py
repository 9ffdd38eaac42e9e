# SPDX-License-Identifier: Apache-2.0
"""A run as the page would find it: a state file and a real SQLite index, made from nothing."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from dao.index import _SCHEMA, SCHEMA_VERSION
from dao.ledger import pack_totals
from dao.runstate import ForecastDay, Proposal, RunState, Step, Window
from dao.slots import SLOTS_PER_DAY
from dao.tariffs import Tariffs

ZONE = 1
TARIFFS = Tariffs()
# 7 June 2016, 00:00 UTC.
FIRST_SLOT = 16_959 * SLOTS_PER_DAY


class Index:
    """An index file to write events into, one block for each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.block = 0
        self.mined = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path)) as db:
            db.executescript(_SCHEMA)
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            db.execute("INSERT INTO cursor VALUES (1, -1, 'sample')")
            db.commit()

    def add(self, name: str, timestamp: int, args: Mapping[str, Any], contract: str = "X") -> None:
        self.block += 1
        # As on a chain, a block that takes another's place has a hash of its own.
        self.mined += 1
        with closing(sqlite3.connect(self.path)) as db:
            db.execute(
                "INSERT INTO blocks VALUES (?, ?, ?)", (self.block, f"0x{self.mined}", timestamp)
            )
            db.execute(
                "INSERT INTO events VALUES (?, 0, ?, ?, ?, ?, ?)",
                (self.block, f"0x{self.block:064x}", contract, name, json.dumps(args), timestamp),
            )
            db.execute("UPDATE cursor SET block = ?", (self.block,))
            db.commit()

    def commit(self, first_slot: int, net_wh: np.ndarray, export_wh: np.ndarray) -> None:
        slots = len(net_wh)
        args = {
            "zone": ZONE,
            "first_slot": first_slot,
            "slots": slots,
            "root": "0x" + "00" * 32,
            "homes": 118,
            "leaves": 118 * slots,
            "totals": pack_totals(net_wh, export_wh),
        }
        self.add("BatchCommitted", (first_slot + slots) * 900 + 1_800, args, "ReadingLedger")

    def open_window(self, key: int, first_slot: int, slots: int, value: int) -> None:
        args = {"zone": ZONE, "key": key, "first_slot": first_slot, "slots": slots, "value": value}
        self.add("WindowOpened", first_slot * 900 - 7_200, args, "GridParameters")

    def clear(self, slot: int, price: int, volume_wh: int) -> None:
        args = {"zone": ZONE, "slot": slot, "price": price, "volume_wh": volume_wh}
        self.add("SlotCleared", slot * 900 - 3_600, args, "EnergyMarket")

    def settle(self, slot: int, price: int, delivered_wh: int, penalties: int = 0) -> None:
        args = {
            "zone": ZONE,
            "slot": slot,
            "price": price,
            "delivered_wh": delivered_wh,
            "fees": delivered_wh * TARIFFS.grid_fee,
            "penalties": penalties,
        }
        self.add("SlotSettled", slot * 900 + 50_000, args, "EnergyMarket")


def day_shape(offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Net and export Wh of 96 slots: evening demand, solar at noon."""
    hour = (np.arange(SLOTS_PER_DAY) / 4 + 2) % 24
    sun = np.clip(np.sin((hour - 6) / 14 * math.pi), 0, None) ** 1.4 * ((hour > 6) & (hour < 20))
    ripple = 1 + 0.06 * np.sin(np.arange(SLOTS_PER_DAY) * 1.7 + offset)
    use = 6_000 + 5_500 * np.exp(-((hour - 19.5) ** 2) / 5) + 2_500 * np.exp(-((hour - 8) ** 2) / 4)
    export = (26_000 * sun * ripple * (1 + offset / 12)).astype(np.int64)
    return (use * ripple).astype(np.int64) - export, export


def forecast(first_slot: int, scored: bool = False) -> ForecastDay:
    net, _ = day_shape(0.4)
    spread = (1_200 + 0.16 * np.abs(net)).astype(np.int64)
    return ForecastDay(
        first_slot=first_slot,
        q10=tuple(int(v) for v in net - spread),
        q50=tuple(int(v) for v in net),
        q90=tuple(int(v) for v in net + spread),
        loss=7_400 if scored else None,
        naive_loss=10_000 if scored else None,
    )


def proposal(first_slot: int, state: str = "active", **changes: Any) -> Proposal:
    hour = np.arange(SLOTS_PER_DAY) / 4
    sun = np.clip(np.sin((hour - 4) / 14 * math.pi), 0, None) * ((hour > 4) & (hour < 18))
    before = 1.012 + 0.052 * sun
    after = np.minimum(before, 1.0535 + 0.001 * np.sin(hour))
    fields: dict[str, Any] = {
        "id": str(first_slot),
        "title": "Community battery on Wed 8 June",
        "summary": (
            "On 2016-06-08 the grid is outside its limits for 17 quarter-hours: the voltage rises "
            "to 1.064 pu at bus 87 (limit 1.055). Between 09:15 and 13:30 UTC the community "
            "battery would take in 96 kWh with up to 31.0 kW, and give 81 kWh back when the "
            "neighbourhood draws most."
        ),
        "first_slot": first_slot,
        "windows": (
            Window(first_slot + 37, 8, 22_000),
            Window(first_slot + 45, 9, 31_000),
            Window(first_slot + 70, 12, -27_000),
        ),
        "worst_voltage_before": 1.064,
        "worst_voltage_after": 1.0545,
        "slots_over_before": 17,
        "slots_over_after": 0,
        "limit": 1.055,
        "state": state,
        "votes_for": 61,
        "votes_against": 9,
        "votes_abstain": 4,
        "quorum": 24,
        "deadline": (first_slot - 26) * 900,
        "voltage_before": tuple(round(float(v), 5) for v in before),
        "voltage_after": tuple(round(float(v), 5) for v in after),
    }
    return Proposal(**{**fields, **changes})


def run_state(**changes: Any) -> RunState:
    today = FIRST_SLOT + SLOTS_PER_DAY
    fields: dict[str, Any] = {
        "zone": "1-LV-rural3--2-sw",
        "zone_id": ZONE,
        "seed": 1,
        "start": "2016-06-06",
        "days": 7,
        "day": 2,
        "step": str(Step.VOTE),
        "sim_time": (FIRST_SLOT + 63) * 900,
        "tariffs": TARIFFS,
        "rpc": "http://127.0.0.1:8545",
        "homes": 118,
        "prosumers": 27,
        "proposals": (
            proposal(FIRST_SLOT - SLOTS_PER_DAY, "executed", id="1", slots_over_after=0),
            proposal(FIRST_SLOT, "defeated", id="2", slots_over_before=11, slots_over_after=2),
            proposal(today),
        ),
        "forecasts": (
            forecast(FIRST_SLOT - SLOTS_PER_DAY, scored=True),
            forecast(FIRST_SLOT),
            forecast(today),
        ),
    }
    return RunState(**{**fields, **changes})


def fill(index: Index) -> None:
    """Two days of totals, clearings and settlements, the second day under way."""
    for day in (-1, 0):
        first = FIRST_SLOT + day * SLOTS_PER_DAY
        net, export = day_shape(day)
        end = 60 if day == 0 else SLOTS_PER_DAY
        for start in range(0, end, 12):
            index.commit(first + start, net[start : start + 12], export[start : start + 12])
        for i in range(24, 78):
            volume = int(export[i] * 0.4)
            price = (
                65_535 if volume < 900 else int(240 - 130 * export[i] / 28_000 + 6 * math.sin(i))
            )
            index.clear(first + i, price, 0 if price == 65_535 else volume)
            if price != 65_535 and i < end - 12:
                index.settle(first + i, price, int(volume * 0.97), penalties=300)
