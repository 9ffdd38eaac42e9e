# SPDX-License-Identifier: Apache-2.0
"""The key figures: each a sum, share or median over the tables of the same dossier."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dao.audit.records import concentration
from dao.audit.tables import TABLES, Basis

if TYPE_CHECKING:
    import pyarrow as pa

Tables = Mapping[str, "pa.Table"]
Figure = tuple[str, int | None, int | None, str, str]


def figure_table(tables: Tables, tariffs: Mapping[str, int]) -> pa.Table:
    """The table figures from all others."""
    rows: list[Figure] = []

    def add(
        name: str, value: int | None, unit: str, basis: Basis, before: int | None = None
    ) -> None:
        rows.append((name, value, before, unit, str(basis)))

    _energy(tables, add)
    _trade(tables, tariffs, add)
    _quality(tables, add)
    _votes(tables, add)
    _forecasts(tables, add)
    _rest(tables, add)
    return TABLES["figures"].of_rows(rows)


Add = Callable[..., None]


def _column(tables: Tables, table: str, column: str) -> np.ma.MaskedArray[Any, Any]:
    """A column of integers; unknown values are masked."""
    found = tables[table][column].combine_chunks()
    mask = np.asarray(found.is_null())
    return np.ma.MaskedArray(np.asarray(found.fill_null(0)), mask=mask)


def _sum(tables: Tables, table: str, column: str) -> int:
    values = _column(tables, table, column)
    return int(values.filled(0).sum())


def _sum_or_none(tables: Tables, table: str, column: str) -> int | None:
    """None where nothing is known."""
    values = _column(tables, table, column)
    return int(values.filled(0).sum()) if values.count() else None


def _median(values: np.ma.MaskedArray[Any, Any]) -> int | None:
    """Of the known values, the lower one of two in the middle."""
    known = np.sort(values.compressed())
    return int(known[(known.size - 1) // 2]) if known.size else None


def _share(part: int, whole: int) -> int | None:
    return part * 1_000_000 // whole if whole else None


def _energy(tables: Tables, add: Add) -> None:
    for name in ("import_wh", "export_wh"):
        add(
            name,
            _sum(tables, "slots", name),
            "Wh",
            Basis.METERED,
            _sum_or_none(tables, "before", name),
        )
    traded = _sum(tables, "slots", "traded_wh")
    add("traded_wh", traded, "Wh", Basis.CHAIN, _sum_or_none(tables, "before", "traded_wh"))
    for name in ("own_use_wh", "grid_in_wh", "grid_out_wh", "residual_wh"):
        add(name, _sum(tables, "slots", name), "Wh", Basis.METERED)
    imported, matched = _sum(tables, "carbon", "import_wh"), _sum(tables, "carbon", "matched_wh")
    add("matched_by_the_hour_ppm", _share(matched, imported), "ppm", Basis.METERED)
    exported = _sum(tables, "slots", "export_wh")
    add(
        "matched_by_the_period_ppm", _share(min(imported, exported), imported), "ppm", Basis.METERED
    )


def _trade(tables: Tables, tariffs: Mapping[str, int], add: Add) -> None:
    delivered = _sum(tables, "settlement", "delivered_wh")
    turnover, fees = _sum(tables, "settlement", "turnover"), _sum(tables, "settlement", "fees")
    before_wh = _column(tables, "before", "traded_wh").filled(0)
    before_price = _column(tables, "before", "price").filled(0)
    knows_before = bool(_column(tables, "before", "traded_wh").count())
    before_turnover = int((before_wh * before_price).sum()) if knows_before else None
    add("turnover", turnover, "µ€", Basis.CHAIN, before_turnover)
    add("grid_fees", fees, "µ€", Basis.CHAIN, _sum_or_none(tables, "before", "fees"))
    add(
        "penalties",
        _sum(tables, "settlement", "penalties"),
        "µ€",
        Basis.CHAIN,
        _sum_or_none(tables, "before", "penalties"),
    )
    add("cleared_wh", _sum(tables, "settlement", "cleared_wh"), "Wh", Basis.CHAIN)
    price = _column(tables, "prices", "price")
    add(
        "slots_with_trade",
        int(price.count()),
        "slots",
        Basis.CHAIN,
        int(_column(tables, "before", "price").count()) if knows_before else None,
    )
    add(
        "median_price",
        _median(price),
        "µ€/Wh",
        Basis.CHAIN,
        _median(_column(tables, "before", "price")),
    )
    add(
        "mean_price",
        turnover // delivered if delivered else None,
        "µ€/Wh",
        Basis.CHAIN,
        before_turnover // int(before_wh.sum())
        if before_turnover is not None and before_wh.sum()
        else None,
    )
    add("feed_in_tariff", tariffs["feed_in"], "µ€/Wh", Basis.OPERATOR)
    add("retail_tariff", tariffs["retail"], "µ€/Wh", Basis.OPERATOR)
    add("sellers_over_feed_in", turnover - delivered * tariffs["feed_in"], "µ€", Basis.CHAIN)
    add("buyers_under_retail", delivered * tariffs["retail"] - turnover - fees, "µ€", Basis.CHAIN)
    add("orders", tables["orders"].num_rows, "orders", Basis.CHAIN)
    add("orders_turned_away", _sum(tables, "sessions", "rejected"), "orders", Basis.CHAIN)
    add("sessions", tables["sessions"].num_rows, "sessions", Basis.CHAIN)
    states = tables["sessions"]["state"].to_pylist()
    add("sessions_settled", states.count("settled"), "sessions", Basis.CHAIN)
    conserved = tables["sessions"]["conserved"].to_pylist()
    add("sessions_not_conserved", conserved.count(False), "sessions", Basis.CHAIN)
    for side in ("ask", "bid"):
        largest, index = concentration(_by_account(tables, side))
        who = "seller" if side == "ask" else "buyer"
        add(f"largest_{who}_ppm", largest, "ppm", Basis.CHAIN)
        add(f"{who}_concentration_ppm", index, "ppm", Basis.CHAIN)
    best, welfare = _sum(tables, "clearing", "best_welfare"), _sum(tables, "clearing", "welfare")
    add("clearing_efficiency_ppm", _share(welfare, best), "ppm", Basis.CHAIN)
    for name in ("irrational", "envious", "unbalanced_wh"):
        add(
            f"clearing_{name}",
            _sum(tables, "clearing", name),
            "Wh" if name.endswith("wh") else "orders",
            Basis.CHAIN,
        )
    promised = tables["promises"].num_rows
    for name in ("promised", "not_posted"):
        add(
            f"orders_{name}",
            _sum(tables, "promises", name) if promised else None,
            "orders",
            Basis.OPERATOR,
        )


def _by_account(tables: Tables, side: str) -> np.ndarray:
    """Wh delivered by account on one side of the market."""
    orders = tables["orders"]
    mask = np.array([one == side for one in orders["side"].to_pylist()], dtype=bool)
    accounts = _column(tables, "orders", "account").filled(0)[mask]
    wh = _column(tables, "orders", "delivered_wh").filled(0)[mask]
    _, places = np.unique(accounts, return_inverse=True)
    return np.bincount(places, weights=wh).astype(np.int64) if wh.size else np.zeros(0, np.int64)


def _quality(tables: Tables, add: Add) -> None:
    rows = _sum(tables, "contents", "rows")
    add("readings", rows, "readings", Basis.OPERATOR)
    for name in ("measured", "estimated", "substituted", "missing"):
        add(
            f"readings_{name}_ppm",
            _share(_sum(tables, "quality", name), rows),
            "ppm",
            Basis.OPERATOR,
        )
    add("edit_records", _sum(tables, "contents", "records"), "records", Basis.OPERATOR)
    versions = tables["batches"]["version"].to_pylist()
    add("batches", versions.count(1), "batches", Basis.CHAIN)
    add("batches_corrected", versions.count(2), "batches", Basis.CHAIN)


def _votes(tables: Tables, add: Add) -> None:
    outcomes = tables["proposals"]["outcome"].to_pylist()
    add("proposals", len(outcomes), "proposals", Basis.CHAIN)
    add("proposals_executed", outcomes.count("executed"), "proposals", Basis.CHAIN)
    add("ballots", tables["ballots"].num_rows, "ballots", Basis.CHAIN)
    add(
        "median_turnout_ppm",
        _median(_column(tables, "proposals", "turnout_ppm")),
        "ppm",
        Basis.CHAIN,
    )
    votes = _column(tables, "delegates", "votes").filled(0)
    largest, index = concentration(votes)
    add("members_who_vote", int(votes.sum()), "members", Basis.CHAIN)
    add("largest_delegate_ppm", largest, "ppm", Basis.CHAIN)
    add("vote_concentration_ppm", index, "ppm", Basis.CHAIN)
    add("balancing_actions", tables["actions"].num_rows, "windows", Basis.CHAIN)
    add("public_spending", _sum(tables, "payments", "amount"), "µ€", Basis.CHAIN)
    add("payments", tables["payments"].num_rows, "payments", Basis.CHAIN)


def _forecasts(tables: Tables, add: Add) -> None:
    inside = np.array(tables["forecasts"]["inside"].to_pylist(), dtype=bool)
    windowed = np.array(tables["forecasts"]["in_window"].to_pylist(), dtype=bool)
    free = ~windowed
    add(
        "forecast_coverage_ppm",
        _share(int((inside & free).sum()), int(free.sum())),
        "ppm",
        Basis.CHAIN,
    )
    median = _column(tables, "forecasts", "q50").filled(0)
    net = _column(tables, "forecasts", "net_wh").filled(0)
    add(
        "forecast_bias_wh",
        int((median - net)[free].sum()) if free.size else None,
        "Wh",
        Basis.CHAIN,
    )
    naive = _sum(tables, "scores", "naive_loss")
    add(
        "forecast_loss_of_naive_ppm",
        _share(_sum(tables, "scores", "loss"), naive),
        "ppm",
        Basis.CHAIN,
    )
    add("days_scored", tables["scores"]["state"].to_pylist().count("scored"), "days", Basis.CHAIN)


def _rest(tables: Tables, add: Add) -> None:
    add("anomalies", tables["anomalies"].num_rows, "records", Basis.CHAIN)
    add("transactions", _sum(tables, "gas", "transactions"), "transactions", Basis.CHAIN)
    add("gas", _sum(tables, "gas", "gas"), "gas", Basis.CHAIN)
    add("gas_energy_wh", _sum(tables, "gas", "energy_wh"), "Wh", Basis.CHAIN)
