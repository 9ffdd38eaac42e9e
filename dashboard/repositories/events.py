# SPDX-License-Identifier: Apache-2.0
"""The chain's events as the page needs them: zone totals, clearings, settlements.

Only what is public is read: totals of a whole zone, prices, sums. No home's readings pass here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dao.index import EventReader
from dao.ledger import unpack_totals
from dao.parameters import COMMUNITY_BATTERY
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY

# A week of batches at the finest division of a day; what the page draws is less.
MAX_BATCHES = 7 * 24
# Two weeks of slots: the price chart shows two days, the table a handful.
MAX_SLOTS = 14 * SLOTS_PER_DAY
# Two weeks of the most windows that a day can hold.
MAX_WINDOWS = 14 * 16
# Every slot of the longest run.
MAX_SETTLED = 366 * SLOTS_PER_DAY

NO_PRICE = 65_535
"""What the market writes where nothing traded."""


class ChainEvents:
    """Reads one zone's events from an index file, which an indexer may be writing."""

    def __init__(self, index: Path, zone: int) -> None:
        self._reader = EventReader(index)
        self._zone = zone

    def cursor(self) -> tuple[int, int] | None:
        """Last block indexed and its time in unix seconds, None before the first."""
        block, seconds = self._reader.cursor(), self._reader.timestamp()
        return None if block is None or seconds is None else (block, seconds)

    def totals(self, first_slot: int, slots: int) -> pd.DataFrame:
        """Published totals in the range: columns slot, net_wh, export_wh, homes; sorted by slot.

        The batches read are the last ones, at most `MAX_BATCHES`.
        """
        # A slot is committed after it has ended, never before.
        rows = self._reader.events(
            "BatchCommitted",
            match={"zone": self._zone},
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
                {
                    name: pd.Series(dtype="int64")
                    for name in ("slot", "net_wh", "export_wh", "homes")
                }
            )
        frame = pd.concat(parts, ignore_index=True).drop_duplicates("slot", keep="last")
        inside = frame["slot"].between(first_slot, first_slot + slots - 1)
        return frame[inside].sort_values("slot", ignore_index=True)

    def scheduled(self, first_slot: int, slots: int) -> frozenset[int]:
        """Slots of the range that lie inside an executed window of the community battery."""
        rows = self._reader.events(
            "WindowOpened",
            match={"zone": self._zone, "key": COMMUNITY_BATTERY},
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

    def clearings(self, limit: int = MAX_SLOTS) -> pd.DataFrame:
        """The last cleared slots: columns slot, price (µ€/Wh, <NA> without trade), volume_wh."""
        rows = self._reader.events(
            "SlotCleared", match={"zone": self._zone}, limit=limit, newest_first=True
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

    def settlements(self) -> pd.DataFrame:
        """Every settled slot: columns slot, price, delivered_wh, fees and penalties in µ€."""
        rows = self._reader.events(
            "SlotSettled", match={"zone": self._zone}, limit=MAX_SETTLED, newest_first=True
        )
        names = ("slot", "price", "delivered_wh", "fees", "penalties")
        frame = pd.DataFrame(
            {name: np.array([row["args"][name] for row in rows], dtype=np.int64) for name in names}
        )
        return frame.sort_values("slot", ignore_index=True)
