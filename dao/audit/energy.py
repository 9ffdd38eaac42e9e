# SPDX-License-Identifier: Apache-2.0
"""Tables of energy: the ledger's batches and totals, the balance per slot, the period before, and
how much of each hour's energy came from the zone itself.

In a slot the zone fed in E and drew I. What it fed in was used by neighbours in the same slot as
far as they drew, min(I, E), and the rest left the zone. Of min(I, E) a part was traded, the rest is
`own use` beside the market:

    metered export = traded + own use + to the grid   + residual
    metered import = traded + own use + from the grid + residual

The residual is 0, or negative where more was traded than neighbours drew: firm bids are paid for
whether they are used or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dao.audit.market import Ints, start_text
from dao.audit.scope import EventRow, Events, Period
from dao.audit.tables import TABLES
from dao.errors import CheckFailed
from dao.ledger import unpack_totals
from dao.market.solver import NULL_PRICE
from dao.slots import SLOTS_PER_DAY

if TYPE_CHECKING:
    import pyarrow as pa

_UNKNOWN = np.iinfo(np.int64).min


def newest_batches(events: Events, first: int, end: int) -> list[tuple[EventRow, int]]:
    """The newest version of each batch that has a slot in [first, end), with its number."""
    found: dict[int, tuple[EventRow, int]] = {}
    for version, name in ((1, "BatchCommitted"), (2, "BatchCorrected")):
        for row in events.of(name):
            begin, slots = row.args["first_slot"], row.args["slots"]
            if not 4 <= slots <= SLOTS_PER_DAY or len(row.args["totals"]) != slots // 4:
                raise CheckFailed(f"a batch of {slots} slots in block {row.block}")
            if begin < end and begin + slots > first:
                found[begin] = (row, version)
    return [found[begin] for begin in sorted(found)]


def totals(events: Events, first: int, end: int) -> tuple[Ints, Ints, Ints]:
    """Net Wh, export Wh and homes per slot of [first, end) from the newest batches; homes 0 where
    the ledger has nothing."""
    net, export, homes = (np.zeros(end - first, dtype=np.int64) for _ in range(3))
    for row, _ in newest_batches(events, first, end):
        args = row.args
        values = unpack_totals(args["totals"], args["slots"])
        begin, stop = max(args["first_slot"], first), min(args["first_slot"] + args["slots"], end)
        here, there = (
            slice(begin - first, stop - first),
            slice(begin - args["first_slot"], stop - args["first_slot"]),
        )
        net[here], export[here] = values[0][there], values[1][there]
        homes[here] = args["homes"]
    return net, export, homes


def energy_tables(events: Events, period: Period) -> dict[str, pa.Table]:
    """The tables slots, batches, before and carbon."""
    first, end = period.first_slot, period.end_slot
    net, export, homes = totals(events, first, end)
    delivered = _delivered(events, first, end)
    return {
        "slots": _balance(first, net, export, homes, delivered),
        "batches": _batches(events, period),
        "before": _before(events, period),
        "carbon": _carbon(first, net, export),
    }


def _delivered(events: Events, first: int, end: int) -> np.ma.MaskedArray[Any, Any]:
    """Wh delivered per slot; 0 where the market had no session, unknown where it is not settled."""
    wh = np.zeros(end - first, dtype=np.int64)
    for row in events.of("SessionOpened"):
        begin = row.args["first_slot"]
        wh[max(begin - first, 0) : max(begin + row.args["slots"] - first, 0)] = _UNKNOWN
    for row in events.of("SlotSettled"):
        if first <= row.args["slot"] < end:
            wh[row.args["slot"] - first] = row.args["delivered_wh"]
    return np.ma.MaskedArray(wh, mask=wh == _UNKNOWN)


def _balance(
    first: int, net: Ints, export: Ints, homes: Ints, traded: np.ma.MaskedArray[Any, Any]
) -> pa.Table:
    imported = net + export
    within = np.minimum(imported, export)
    own = np.ma.maximum(within - traded, 0)
    slots = np.arange(first, first + net.size)
    return TABLES["slots"].of_columns(
        {
            "slot": slots,
            "start": [start_text(slot) for slot in slots.tolist()],
            "homes": homes,
            "import_wh": imported,
            "export_wh": export,
            "net_wh": net,
            "traded_wh": traded,
            "own_use_wh": own,
            "grid_in_wh": imported - within,
            "grid_out_wh": export - within,
            "residual_wh": within - own - traded,
        },
        is_sorted=True,
    )


def _batches(events: Events, period: Period) -> pa.Table:
    newest = {
        row.tx + str(row.log_index)
        for row, _ in newest_batches(events, period.first_slot, period.end_slot)
    }
    rows = []
    for version, name in ((1, "BatchCommitted"), (2, "BatchCorrected")):
        for row in events.of(name):
            args = row.args
            begin = args["first_slot"]
            if begin >= period.end_slot or begin + args["slots"] <= period.first_slot:
                continue
            rows.append(
                (
                    begin,
                    start_text(begin),
                    args["slots"],
                    version,
                    row.tx + str(row.log_index) in newest,
                    args["root"],
                    args["homes"],
                    args["leaves"],
                    row.timestamp,
                    row.block,
                    row.tx,
                )
            )
    return TABLES["batches"].of_rows(rows)


def _before(events: Events, period: Period) -> pa.Table:
    first, end = period.before, period.first_slot
    net, export, homes = totals(events, first, end)
    known = homes > 0
    columns: dict[str, Any] = {"slot": np.arange(first, end)}
    columns["import_wh"] = np.ma.MaskedArray(net + export, mask=~known)
    columns["export_wh"] = np.ma.MaskedArray(export, mask=~known)
    settled = {
        name: np.full(end - first, _UNKNOWN, dtype=np.int64)
        for name in ("traded_wh", "price", "fees", "penalties")
    }
    for row in events.of("SlotSettled"):
        args = row.args
        if first <= args["slot"] < end:
            at = args["slot"] - first
            settled["traded_wh"][at] = args["delivered_wh"]
            settled["fees"][at], settled["penalties"][at] = args["fees"], args["penalties"]
            if args["price"] != NULL_PRICE:
                settled["price"][at] = args["price"]
    for name, values in settled.items():
        columns[name] = np.ma.MaskedArray(values, mask=values == _UNKNOWN)
    return TABLES["before"].of_columns(columns, is_sorted=True)


def _carbon(first: int, net: Ints, export: Ints) -> pa.Table:
    imported = (net + export).reshape(-1, 4).sum(axis=1)
    fed = export.reshape(-1, 4).sum(axis=1)
    matched = np.minimum(imported, fed)
    hours = np.arange(first, first + net.size, 4)
    return TABLES["carbon"].of_columns(
        {
            "first_slot": hours,
            "start": [start_text(slot) for slot in hours.tolist()],
            "import_wh": imported,
            "export_wh": fed,
            "matched_wh": matched,
            "matched_ppm": np.ma.MaskedArray(
                matched * 1_000_000 // np.maximum(imported, 1), mask=imported <= 0
            ),
        },
        is_sorted=True,
    )
