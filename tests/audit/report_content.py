# SPDX-License-Identifier: Apache-2.0
"""A dossier's content made of numbers alone, for tests of the report: any length, with all that a
report can have to tell. No chain is behind it; tests that need one take the village's dossier.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np

from dao.audit.bills import bill_schema
from dao.audit.figures import figure_table
from dao.audit.package import Content
from dao.audit.scope import Block, Events, Period, Placed, Scope
from dao.audit.tables import TABLES
from dao.slots import day_of, slot_start

FIRST_DAY = date(2016, 6, 6)
TARIFFS = {"feed_in": 79, "retail": 397, "grid_fee": 110}
PROPOSAL, SPENDING = str(0x1234 << 200), str(0x5678 << 200)
FORECASTER, MEMBER, PAYEE = "0x" + "a1" * 20, "0x" + "b2" * 20, "0x" + "c3" * 20
HOMES = 120


def scope_of(days: int, language: str = "en", corrects: str | None = None) -> Scope:
    """The scope of so many days."""
    period = Period.of_days(1, FIRST_DAY, day_of(_first() + 96 * days - 1))
    names = ("EnergyMarket", "GridGovernor", "ReadingLedger", "Treasury")
    return Scope(
        chain_id=31_337,
        contracts={
            name: Placed("0x" + f"{at:02x}" * 20, "0x" + "5e" * 32)
            for at, name in enumerate(names, 16)
        },
        period=period,
        first_block=1,
        market_block=40,
        last_block=Block(900, "0x" + "7f" * 32, period.ends_at + 86_400),
        as_of=period.ends_at + 259_200,
        closes_at=period.ends_at + 259_200,
        tariffs=TARIFFS,
        software="gridcommons 0.1.0",
        language=language,
        corrects=corrects,
    )


def _first() -> int:
    return Period.of_days(1, FIRST_DAY, FIRST_DAY).first_slot


def content_of(
    days: int = 3,
    language: str = "en",
    *,
    corrects: str | None = None,
    **tables: Any,
) -> Content:
    """Content of so many days; tables: rows that take the place of a table's own."""
    scope = scope_of(days, language, corrects)
    found = {name: TABLES[name].of_rows([]) for name in TABLES}
    found.update(_energy(scope.period))
    found.update(_decided(scope.period))
    found.update(_operator(scope.period))
    found.update({name: TABLES[name].of_rows(rows) for name, rows in tables.items()})
    found["figures"] = figure_table(found, TARIFFS)
    return Content(scope, found, Events([]), {}, bill_schema().empty_table())


def _starts(slots: np.ndarray) -> list[str]:
    return [f"{slot_start(int(slot)):%Y-%m-%dT%H:%MZ}" for slot in slots]


def _energy(period: Period) -> dict[str, Any]:
    slots = np.arange(period.first_slot, period.end_slot)
    count = slots.size
    quarter = slots % 96
    sun = np.maximum(0, np.sin((quarter - 24) / 48 * np.pi))
    season = 1 + 0.4 * np.sin(slots / 96 / 58)
    drawn = (9_000 + 4_000 * np.sin(quarter / 96 * 2 * np.pi - 2) + slots * 7 % 500).astype(int)
    fed = (14_000 * sun * season + slots * 3 % 200 * (sun > 0)).astype(int)
    used = np.minimum(drawn, fed)
    traded = used // 3
    price = np.ma.MaskedArray(90 + slots * 13 % 190, mask=traded == 0)
    cleared = traded + traded // 20
    session = slots // 24 * 24
    start = _starts(slots)
    known = traded * price.filled(0)
    made = {
        "slots": {
            "slot": slots,
            "start": start,
            "homes": np.full(count, HOMES),
            "import_wh": drawn,
            "export_wh": fed,
            "net_wh": drawn - fed,
            "traded_wh": traded,
            "own_use_wh": used - traded,
            "grid_in_wh": drawn - used,
            "grid_out_wh": fed - used,
            "residual_wh": np.zeros(count, int),
        },
        "prices": {
            "slot": slots,
            "start": start,
            "session": session,
            "price": price,
            "volume_wh": cleared,
            "bids": np.full(count, 60),
            "asks": np.full(count, 30),
            "bid_wh": cleared * 2,
            "ask_wh": cleared * 3,
            "fee": np.full(count, 110),
            "band_min": np.zeros(count, int),
            "band_max": np.full(count, 1_000),
        },
        "settlement": {
            "slot": slots,
            "start": start,
            "session": session,
            "state": ["settled"] * count,
            "price": price,
            "cleared_wh": cleared,
            "delivered_wh": traded,
            "turnover": known,
            "fees": traded * 110,
            "buyers_paid": known + traded * 110,
            "penalties": (cleared - traded) * 100,
        },
        "clearing": {
            "slot": slots,
            "start": start,
            "price": price,
            "replayed_price": price,
            "volume_wh": cleared,
            "welfare": cleared * 200,
            "best_welfare": cleared * 200,
            "efficiency_ppm": np.ma.MaskedArray(np.full(count, 1_000_000), mask=cleared == 0),
            "unbalanced_wh": np.zeros(count, int),
            "irrational": np.zeros(count, int),
            "envious": np.zeros(count, int),
        },
        "forecasts": {
            "slot": slots,
            "start": start,
            "forecaster": [FORECASTER] * count,
            "q10": drawn - fed - 2_500,
            "q50": drawn - fed + slots * 11 % 1_000 - 400,
            "q90": drawn - fed + 1_800 - slots % 7 * 400,
            "net_wh": drawn - fed,
            "inside": slots % 7 < 5,
            "in_window": (quarter >= 48) & (quarter < 56),
        },
        "before": {
            "slot": slots - period.slots,
            "import_wh": drawn - 300,
            "export_wh": fed,
            "traded_wh": traded // 2,
            "price": price,
            "fees": traded // 2 * 110,
            "penalties": np.zeros(count, int),
        },
    }
    hours = slots[::4]
    drawn_h, fed_h = drawn.reshape(-1, 4).sum(1), fed.reshape(-1, 4).sum(1)
    matched = np.minimum(drawn_h, fed_h)
    made["carbon"] = {
        "first_slot": hours,
        "start": _starts(hours),
        "import_wh": drawn_h,
        "export_wh": fed_h,
        "matched_wh": matched,
        "matched_ppm": matched * 1_000_000 // drawn_h,
    }
    sessions = np.unique(session)
    fees = np.add.reduceat(traded * 110, np.arange(0, count, 24))
    size = sessions.size
    made["sessions"] = {
        "session": sessions,
        "start": _starts(sessions),
        "slots": np.full(size, 24),
        "gate": sessions * 900 - 3_600,
        "penalty": np.full(size, 100),
        "orders": np.full(size, 90),
        "rejected": np.zeros(size, int),
        "book_hash": ["0x" + "9a" * 32] * size,
        "cleared_slots": np.full(size, 24),
        "settled_slots": np.full(size, 24),
        "state": ["settled"] * size,
        "escrow": fees * 4,
        "credited": fees * 3,
        "fees": fees,
        "conserved": [True] * size,
    }
    accounts = np.arange(1, 41)
    made["orders"] = {
        "session": np.full(40, period.first_slot),
        "position": accounts - 1,
        "account": accounts,
        "side": ["ask"] * 16 + ["bid"] * 24,
        "price_limit": np.full(40, 150),
        "mandate": np.zeros(40, int),
        "first_slot": np.full(40, period.first_slot),
        "slots": np.full(40, 24),
        "wh": accounts * 100,
        "escrow": accounts * 900,
        "filled_wh": accounts * 90,
        "delivered_wh": accounts * 80,
        "credit": accounts * 500,
        "block": np.full(40, 50),
    }
    return {name: TABLES[name].of_columns(columns) for name, columns in made.items()}


def proposal_row(number: str, title: str, when: int, **changed: Any) -> tuple[Any, ...]:
    """A row of the table proposals."""
    row = {
        "id": number,
        "lane": "balancing",
        "zone": 1,
        "proposer": MEMBER,
        "title": title,
        "description": title,
        "calls": "[]",
        "created_at": when,
        "snapshot": when + 60,
        "deadline": when + 3_600,
        "members": 100,
        "voters": 60,
        "votes_for": 45,
        "votes_against": 12,
        "votes_abstain": 3,
        "votes_veto": 0,
        "quorum": 20,
        "turnout_ppm": 600_000,
        "outcome": "executed",
        "executed_at": when + 7_200,
        "block": 60,
        "tx": "0x" + "d4" * 32,
        "executed_tx": "0x" + "e5" * 32,
    }
    return tuple((row | changed).values())


def payment_row(number: int, when: int, **changed: Any) -> tuple[Any, ...]:
    """A row of the table payments."""
    row = {
        "number": number,
        "proposal": SPENDING,
        "purpose": 1,
        "name": "Upkeep",
        "payee": PAYEE,
        "amount": 7_250_000,
        "kind": "single",
        "source": 0,
        "paid_at": when,
        "reference": "invoice 12",
        "votes_for": 45,
        "votes_against": 12,
        "block": 70,
        "tx": "0x" + "f6" * 32,
    }
    return tuple((row | changed).values())


def _decided(period: Period) -> dict[str, Any]:
    at = period.begins_at
    actions = []
    for day in range(period.slots // 96):
        slot = period.first_slot + 96 * day + 48
        actions.append(
            (
                slot,
                f"{slot_start(slot):%Y-%m-%dT%H:%MZ}",
                8,
                1_000,
                "community battery",
                20_000,
                PROPOSAL,
                slot * 900 - 7_200,
                -90_000,
                -60_000,
                -20_000,
                40_000,
                -25_000,
                -65_000,
                "0x" + "ab" * 32,
            )
        )
    rows = {
        "actions": actions,
        "proposals": [
            proposal_row(PROPOSAL, "Charge at noon", at),
            proposal_row(SPENDING, "Mend the fuse box", at + 60, lane="ordinary"),
        ],
        "payments": [payment_row(1, at + 9_000)],
        "budgets": [
            (1, 1, "Upkeep", SPENDING, 50_000_000, 2_592_000, at - 100, at + 9_000_000, 7_250_000)
        ],
        "delegates": [(f"0x{number:040x}", 1 + (number == 3) * 4, True) for number in range(1, 90)],
        "scores": [
            (
                period.first_slot + 96 * day,
                day_of(period.first_slot + 96 * day).isoformat(),
                FORECASTER,
                "0x" + "01" * 32,
                "0x" + "02" * 32,
                "scored",
                90_000 + day,
                100_000,
                88,
                0,
                12_000,
            )
            for day in range(period.slots // 96)
        ],
        "anomalies": [
            (
                at,
                "orders turned away",
                f"session {period.first_slot}",
                "3 for: balance too low",
                "left out alone; the rest of the batch went on",
                "0x" + "ac" * 32,
            ),
            (
                at + 9,
                "readings corrected",
                f"batch {period.first_slot}",
                "4 slots have new totals",
                "the newest version counts; the first root stays on chain",
                "0x" + "ad" * 32,
            ),
        ],
        "money": [("paid in by owners", 90_000_000, 30), ("paid out to owners", 40_000_000, 12)],
        "gas": [
            ("ballots", 4, 5_000_000, 5_000_000, 330),
            ("orders posted", 40, 9_000_000, 9_000_000, 595),
        ],
    }
    return {name: TABLES[name].of_rows(listed) for name, listed in rows.items()}


def group_rows(period: Period, hidden_days: int = 0) -> list[tuple[Any, ...]]:
    """Rows of the table groups, the first days kept back."""
    rows: list[tuple[Any, ...]] = []
    for day in range(period.slots // 96):
        label = day_of(period.first_slot + 96 * day).isoformat()
        if day < hidden_days:
            rows += [(label, name, *[None] * 10) for name in ("with solar", "without solar")]
            continue
        rows.append(
            (
                label,
                "with solar",
                45,
                300_000,
                500_000,
                90_000,
                2_000,
                2_000,
                11_000_000,
                500_000,
                3_890_000,
                294_000,
            )
        )
        rows.append(
            (
                label,
                "without solar",
                75,
                560_000,
                0,
                0,
                88_000,
                80_000,
                0,
                19_000_000,
                0,
                12_760_000,
            )
        )
    return rows


def _operator(period: Period) -> dict[str, Any]:
    slots = np.arange(period.first_slot, period.end_slot)
    count = slots.size
    estimated, missing = (slots % 97 == 0) * 3, (slots % 301 == 0) * 1
    zero = np.zeros(count, int)
    quality = {
        "slot": slots,
        "start": _starts(slots),
        "meters": np.full(count, HOMES),
        "measured": HOMES - estimated - missing,
        "estimated": estimated,
        "substituted": zero,
        "missing": missing,
        "invalid": zero,
        "erased": zero,
    }
    rows: Mapping[str, list[tuple[Any, ...]]] = {
        "contents": [(int(slot), 96, HOMES * 96, 9, 0) for slot in slots[::96]],
        "edits": [
            (day_of(int(slot)).isoformat(), "gap_linear", 1, "missing", "estimated", 9)
            for slot in slots[::96]
        ],
        "groups": group_rows(period),
        "promises": [(int(slot), 90, 87, 2, 1) for slot in slots[::24]],
        "grid": [
            (
                day_of(int(slots[0])).isoformat(),
                "transformer",
                "ppm of rated",
                700_000,
                900_000,
                950_000,
                720_000,
            )
        ],
    }
    made = {name: TABLES[name].of_rows(listed) for name, listed in rows.items()}
    made["quality"] = TABLES["quality"].of_columns(quality)
    return made
