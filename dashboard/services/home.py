# SPDX-License-Identifier: Apache-2.0
"""One home: what its meter saw, what it trades, and what its owner should look at.

A meter at the connection point sees what comes in and what goes out. What a roof makes and the home
uses at once never passes it, so production and own use are not told here: no register for them is
known to the zone. Wh, µ€, unix seconds. Null is never zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import pandas as pd

from dao.slots import SLOT_SECONDS
from dashboard.repositories.readings import Bucket, Reading
from dashboard.services.orders import OrderView, Stage
from dashboard.services.units import LOCAL, local_time, wall_clock

STALE_SECONDS = 26 * 3_600
"""A reading older than this is worth a word: batches come several times a day."""
SOON_SECONDS = 2 * 3_600


def midnight(seconds: int, days_back: int = 0) -> int:
    """When the local day of a moment began, or one of the days before it; unix seconds.

    Days of 23 and 25 hours included.
    """
    day = local_time(seconds).date() - timedelta(days=days_back)
    return int(datetime(day.year, day.month, day.day, tzinfo=LOCAL).timestamp())


def day_slots(now: int, days: int) -> tuple[int, int]:
    """First slot and number of slots of the last `days` local days, today with them."""
    first = midnight(now, days - 1) // SLOT_SECONDS
    return first, max(1, -(-now // SLOT_SECONDS) - first)


@dataclass(frozen=True)
class Totals:
    """Sums over a time. import_wh, export_wh: over what is known, None where nothing is.

    known, missing, estimated: quarter-hours with a value, without one, and among those with a value
    the ones that were not measured. expected: how many there should be.
    """

    import_wh: int | None
    export_wh: int | None
    known: int
    missing: int
    estimated: int
    expected: int

    @property
    def is_complete(self) -> bool:
        return self.known >= self.expected


def totals(buckets: Sequence[Bucket], expected: int) -> Totals:
    """Sums of buckets. expected: quarter-hours that should have a reading by now."""
    imports = [one.import_wh for one in buckets if one.import_wh is not None]
    exports = [one.export_wh for one in buckets if one.export_wh is not None]
    known = sum(one.known for one in buckets)
    return Totals(
        import_wh=sum(imports) if imports else None,
        export_wh=sum(exports) if exports else None,
        known=known,
        missing=max(0, expected - known),
        estimated=sum(one.estimated for one in buckets),
        expected=expected,
    )


def chart_frame(buckets: Sequence[Bucket], first_slot: int, slots: int, width: int) -> pd.DataFrame:
    """For a chart: time (wall clock), drawn_kwh, fed_kwh, one row for each `width` quarter-hours.

    Where nothing is known both are NaN, so that a gap is seen as one.
    """
    by_slot = {one.slot: one for one in buckets}
    starts = list(range(first_slot, first_slot + slots, width))
    rows = [by_slot.get(slot) for slot in starts]

    return pd.DataFrame(
        {
            "time": wall_clock(pd.Series(starts, dtype="int64")),
            "drawn_kwh": [float("nan") if row is None else _kwh(row.import_wh) for row in rows],
            "fed_kwh": [float("nan") if row is None else _kwh(row.export_wh) for row in rows],
            "unsure": [row is not None and (row.estimated > 0 or row.missing > 0) for row in rows],
        }
    )


def daily(buckets: Sequence[Bucket]) -> list[Bucket]:
    """Hours (or less) as local days; the slot of each is its first one here."""
    found: dict[str, Bucket] = {}
    for one in sorted(buckets, key=lambda bucket: bucket.slot):
        day = local_time(one.slot * SLOT_SECONDS).date().isoformat()
        held = found.get(day)
        if held is None:
            found[day] = one
            continue
        found[day] = Bucket(
            held.slot,
            held.slots + one.slots,
            _sum(held.import_wh, one.import_wh),
            _sum(held.export_wh, one.export_wh),
            held.known + one.known,
            held.missing + one.missing,
            held.estimated + one.estimated,
        )
    return list(found.values())


def _sum(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else a + b


def day_frame(days: Sequence[Bucket]) -> pd.DataFrame:
    """As `chart_frame`, one row for each local day, at its noon."""
    noon = [_noon(one.slot) for one in days]
    return pd.DataFrame(
        {
            "time": wall_clock(pd.Series(noon, dtype="int64")),
            "drawn_kwh": [_kwh(one.import_wh) for one in days],
            "fed_kwh": [_kwh(one.export_wh) for one in days],
            "unsure": [one.estimated > 0 or one.missing > 0 for one in days],
        }
    )


def _noon(slot: int) -> int:
    day = local_time(slot * SLOT_SECONDS).date()
    return int(datetime(day.year, day.month, day.day, 12, tzinfo=LOCAL).timestamp()) // SLOT_SECONDS


def _kwh(wh: int | None) -> float:
    return float("nan") if wh is None else wh / 1000


@dataclass(frozen=True)
class TradingNow:
    """What the home's orders trade in a quarter-hour; None where a fill cannot be told yet."""

    sold_wh: int | None
    bought_wh: int | None


def trading(views: Sequence[OrderView], slot: int) -> TradingNow:
    """What was agreed for a slot, over all orders that speak of it."""
    sums: dict[bool, int | None] = {True: 0, False: 0}
    for one in views:
        if not one.order.at(slot) or one.stage in (Stage.OPEN, Stage.VOID, Stage.EMPTY):
            continue
        if one.filled_wh is None or (one.filled_wh and not one.fills):
            sums[one.sells] = None
            continue
        here = sum(fill.filled_wh for fill in one.fills if fill.slot == slot)
        before = sums[one.sells]
        sums[one.sells] = None if before is None else before + here
    return TradingNow(sums[True], sums[False])


class Matter(StrEnum):
    """What an owner should look at."""

    NO_READINGS = "no-readings"
    STALE = "stale"
    MISSING = "missing"
    NO_MONEY = "no-money"
    REJECTED = "rejected"
    SHORT = "short"
    GATE = "gate"


@dataclass(frozen=True)
class Attention:
    """One thing to look at; number: what it is about (seconds, quarter-hours, Wh, orders)."""

    matter: Matter
    number: int = 0


def attention(
    *,
    newest: Reading | None,
    now: int,
    week: Totals,
    free: int | None,
    rejected: int,
    short_wh: int,
    next_gate: int | None,
    has_order: bool,
) -> list[Attention]:
    """What needs a look, the weightiest first.

    free: balance, None where it could not be asked; rejected: orders turned away in the last day;
    short_wh: sold and not delivered in the last week; next_gate: of the next session, has_order:
    whether something was ordered for it.
    """
    found = []
    if newest is None:
        found.append(Attention(Matter.NO_READINGS))
    else:
        age = now - (newest.slot + 1) * SLOT_SECONDS
        if age > STALE_SECONDS:
            found.append(Attention(Matter.STALE, age))
    if rejected:
        found.append(Attention(Matter.REJECTED, rejected))
    if short_wh > 0:
        found.append(Attention(Matter.SHORT, short_wh))
    if free == 0:
        found.append(Attention(Matter.NO_MONEY))
    # The newest batch of the week is still to come: a day's worth of gaps is worth a word.
    if newest is not None and week.missing > week.expected // 7:
        found.append(Attention(Matter.MISSING, week.missing))
    if next_gate is not None and not has_order and 0 < next_gate - now <= SOON_SECONDS:
        found.append(Attention(Matter.GATE, next_gate - now))
    return found


def own_account(accounts: Sequence[int], wanted: object) -> int | None:
    """The wanted account if it is one of the person's own, else the first of them, else None."""
    if isinstance(wanted, int) and wanted in accounts:
        return wanted
    return accounts[0] if accounts else None
