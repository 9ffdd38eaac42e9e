# SPDX-License-Identifier: Apache-2.0
"""Slots: the quarter-hours everything is counted in. Always UTC; local time lives at the edges.

`slot = unix_seconds // 900`; a UTC day holds exactly 96 of them.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

SLOT_SECONDS = 900
SLOTS_PER_DAY = 96

_EPOCH_DATE = date(1970, 1, 1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def slot_of(when: datetime | int) -> int:
    """The slot that contains `when`: an aware datetime, or unix seconds.

    Raises ValueError for a datetime without a time zone: guessing one would move energy in time.
    """
    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise ValueError(f"datetime without a time zone: {when.isoformat()}")
        return (when - _EPOCH) // timedelta(seconds=SLOT_SECONDS)
    return int(when) // SLOT_SECONDS


def slot_start(slot: int) -> datetime:
    """The UTC instant at which `slot` begins."""
    return _EPOCH + timedelta(seconds=int(slot) * SLOT_SECONDS)


def slot_timestamp(slot: int) -> int:
    """Unix seconds at which `slot` begins."""
    return int(slot) * SLOT_SECONDS


def first_slot_of_day(day: date) -> int:
    """The first slot of a UTC day. A datetime is refused: it would hide a time zone."""
    if isinstance(day, datetime):
        raise ValueError("first_slot_of_day takes a date, not a datetime")
    return (day - _EPOCH_DATE).days * SLOTS_PER_DAY


def day_of(slot: int) -> date:
    """The UTC day that `slot` lies in."""
    return _EPOCH_DATE + timedelta(days=int(slot) // SLOTS_PER_DAY)
