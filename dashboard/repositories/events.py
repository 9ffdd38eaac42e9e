# SPDX-License-Identifier: Apache-2.0
"""The chain's events as the page needs them: zone totals, clearings, settlements.

Only what is public is read: totals of a whole zone, prices, sums. No home's readings pass here.
Each question has a cap, and its answer is kept for all visitors until an event is added.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dao.index import EventReader
from dao.ledger import unpack_totals
from dao.parameters import COMMUNITY_BATTERY
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from dashboard.repositories.cache import Version, cached, version

# A week of batches at the finest division of a day; what the page draws is less.
MAX_BATCHES = 7 * 24
# Two weeks of slots: the price chart shows two days, the table a handful.
MAX_SLOTS = 14 * SLOTS_PER_DAY
# Two weeks of the most windows that a day can hold.
MAX_WINDOWS = 14 * 16
# Events counted in one step; years of them are counted in many.
_STEP = 5_000
_KEPT_S = 3_600

Mark = tuple[int, tuple[str, int] | None]
"""A file, and the last event in it: hash of its block, and its number there."""

NO_PRICE = 65_535
"""What the market writes where nothing traded."""


@dataclass(frozen=True)
class Settled:
    """Sums over settled slots: Wh, µ€, and the number of slots in which something was delivered.
    `turnover` is what sellers were paid."""

    delivered_wh: int = 0
    turnover: int = 0
    fees: int = 0
    penalties: int = 0
    traded_slots: int = 0

    def plus(self, args: dict[str, Any]) -> Settled:
        """These sums and one more slot, as SlotSettled tells it."""
        delivered = args["delivered_wh"]
        return Settled(
            self.delivered_wh + delivered,
            self.turnover + delivered * args["price"],
            self.fees + args["fees"],
            self.penalties + args["penalties"],
            self.traded_slots + (delivered > 0),
        )


def mark_of(index: Path) -> Mark:
    """What changes with each event of the chain and with nothing else: a block without one leaves
    every answer as it was."""
    return _mark(index, version(index))


@cached(ttl=_KEPT_S, max_entries=8)
def _mark(index: Path, now: Version) -> Mark:
    # The hash of its block stands for all that came before.
    return (now[0][0] if now else 0, EventReader(index).last())


class ChainEvents:
    """Reads one zone's events from an index file, which an indexer may be writing."""

    def __init__(self, index: Path, zone: int) -> None:
        self._index = index
        self._zone = zone

    @property
    def version(self) -> tuple[Path, Mark, int]:
        """What changes whenever an answer may: to keep what was made of answers."""
        return self._index, mark_of(self._index), self._zone

    def cursor(self) -> tuple[int, int] | None:
        """Last block indexed and its time in unix seconds, None before the first."""
        return _cursor(self._index, version(self._index))

    def totals(self, first_slot: int, slots: int) -> pd.DataFrame:
        """Published totals in the range: columns slot, net_wh, export_wh, homes; sorted by slot.

        The batches read are the last ones, at most `MAX_BATCHES`.
        """
        return _totals(self._index, mark_of(self._index), self._zone, first_slot, slots)

    def scheduled(self, first_slot: int, slots: int) -> frozenset[int]:
        """Slots of the range that lie inside an executed window of the community battery."""
        return _scheduled(self._index, mark_of(self._index), self._zone, first_slot, slots)

    def clearings(self, limit: int = MAX_SLOTS) -> pd.DataFrame:
        """The last cleared slots: columns slot, price (µ€/Wh, <NA> without trade), volume_wh."""
        return _clearings(self._index, mark_of(self._index), self._zone, min(limit, MAX_SLOTS))

    def settlements(self, limit: int = MAX_SLOTS) -> pd.DataFrame:
        """The last settled slots: columns slot, price, delivered_wh, fees and penalties in µ€."""
        return _settlements(self._index, mark_of(self._index), self._zone, min(limit, MAX_SLOTS))

    def settled(self) -> Settled:
        """Sums over every slot ever settled."""
        return _settled(self._index, mark_of(self._index), self._zone)


@cached(ttl=_KEPT_S, max_entries=8)
def _cursor(index: Path, _: Version) -> tuple[int, int] | None:
    reader = EventReader(index)
    block, seconds = reader.cursor(), reader.timestamp()
    return None if block is None or seconds is None else (block, seconds)


@cached(ttl=_KEPT_S, max_entries=16)
def _totals(index: Path, _: Mark, zone: int, first_slot: int, slots: int) -> pd.DataFrame:
    # A slot is committed after it has ended, never before.
    rows = EventReader(index).events(
        "BatchCommitted",
        contract="ReadingLedger",
        match={"zone": zone},
        first_time=first_slot * SLOT_SECONDS,
        limit=MAX_BATCHES,
        newest_first=True,
    )
    parts = []
    for row in reversed(rows):
        args = row["args"]
        net, export = unpack_totals(args["totals"], args["slots"])
        parts.append(
            pd.DataFrame(
                {
                    "slot": np.arange(args["slots"]) + args["first_slot"],
                    "net_wh": net,
                    "export_wh": export,
                    "homes": args["homes"],
                }
            )
        )
    if not parts:
        return pd.DataFrame(
            {name: pd.Series(dtype="int64") for name in ("slot", "net_wh", "export_wh", "homes")}
        )
    frame = pd.concat(parts, ignore_index=True).drop_duplicates("slot", keep="last")
    inside = frame["slot"].between(first_slot, first_slot + slots - 1)
    return frame[inside].sort_values("slot", ignore_index=True)


@cached(ttl=_KEPT_S, max_entries=16)
def _scheduled(index: Path, _: Mark, zone: int, first_slot: int, slots: int) -> frozenset[int]:
    rows = EventReader(index).events(
        "WindowOpened",
        contract="GridParameters",
        match={"zone": zone, "key": COMMUNITY_BATTERY},
        limit=MAX_WINDOWS,
        newest_first=True,
    )
    inside = range(first_slot, first_slot + slots)
    return frozenset(
        slot
        for row in rows
        for slot in range(
            row["args"]["first_slot"], row["args"]["first_slot"] + row["args"]["slots"]
        )
        if slot in inside
    )


@cached(ttl=_KEPT_S, max_entries=16)
def _clearings(index: Path, _: Mark, zone: int, limit: int) -> pd.DataFrame:
    rows = EventReader(index).events(
        "SlotCleared",
        contract="EnergyMarket",
        match={"zone": zone},
        limit=limit,
        newest_first=True,
    )
    price = pd.array(
        [None if row["args"]["price"] == NO_PRICE else row["args"]["price"] for row in rows],
        dtype="Int64",
    )
    frame = pd.DataFrame(
        {
            "slot": np.array([row["args"]["slot"] for row in rows], dtype=np.int64),
            "price": price,
            "volume_wh": np.array([row["args"]["volume_wh"] for row in rows], dtype=np.int64),
        }
    )
    return frame.sort_values("slot", ignore_index=True)


@cached(ttl=_KEPT_S, max_entries=16)
def _settlements(index: Path, _: Mark, zone: int, limit: int) -> pd.DataFrame:
    rows = EventReader(index).events(
        "SlotSettled",
        contract="EnergyMarket",
        match={"zone": zone},
        limit=limit,
        newest_first=True,
    )
    names = ("slot", "price", "delivered_wh", "fees", "penalties")
    frame = pd.DataFrame(
        {name: np.array([row["args"][name] for row in rows], dtype=np.int64) for name in names}
    )
    return frame.sort_values("slot", ignore_index=True)


@dataclass(frozen=True)
class _Counted:
    """How far the settled slots of an index are counted, and what they come to."""

    last: dict[str, Any] | None = None
    sums: Settled = Settled()


_counted: dict[tuple[Path, int], _Counted] = {}
_counting = threading.Lock()


@cached(ttl=_KEPT_S, max_entries=8)
def _settled(index: Path, _: Mark, zone: int) -> Settled:
    """The sums, counted on from where the last question ended.

    Where the last event counted no longer stands in the index (the chain was reorganised, or the
    index is another one), everything is counted anew.
    """
    reader = EventReader(index)
    with _counting:
        counted = _counted.get((index, zone), _Counted())
        if counted.last is not None and not stands(reader, counted.last):
            counted = _Counted()
        while True:
            last = counted.last
            rows = reader.events(
                "SlotSettled",
                contract="EnergyMarket",
                match={"zone": zone},
                since=(last["block"], last["log_index"]) if last else None,
                limit=_STEP,
            )
            sums = counted.sums
            for row in rows:
                sums = sums.plus(row["args"])
            counted = _Counted(rows[-1] if rows else last, sums)
            _counted[index, zone] = counted
            if len(rows) < _STEP:
                return sums


def stands(reader: EventReader, event: dict[str, Any]) -> bool:
    """Whether an event is still where it was read."""
    before = (event["block"], event["log_index"] - 1)
    return reader.events(event["event"], contract=event["contract"], since=before, limit=1) == [
        event
    ]
