# SPDX-License-Identifier: Apache-2.0
"""A home's own data: months by name, days by quality, what is asked for over the network, checked.

Plain functions. Months are UTC months, as erasures, secrets and statements count them; they are
counted from January 1970. Wh; null is never zero.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from dao.eip712 import address_bytes
from dao.errors import BadUse
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from dashboard.repositories.readings import Bucket
from meters.grants import Grant
from meters.leaves import first_slot_of_month, month_at

MAX_DISCLOSED_DAYS = 31
MAX_GRANT_DAYS = 3_660
LAST_MONTH = (2_999 - 1_970) * 12 + 11

_MONTH = re.compile(r"(\d{4})-(\d{2})", re.ASCII)
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)


def month_of_name(text: object) -> int:
    """The month that a name like `2016-05` means. BadUse for anything else, paths above all."""
    found = _MONTH.fullmatch(text) if isinstance(text, str) else None
    if found is None or not 1 <= int(found[2]) <= 12:
        raise BadUse("a month is written as 2016-05")
    month = (int(found[1]) - 1_970) * 12 + int(found[2]) - 1
    if not 0 <= month <= LAST_MONTH:
        raise BadUse("a month is one from 1970 to 2999")
    return month


def month_slots(month: int) -> tuple[int, int]:
    """First slot and number of slots of a month."""
    first = first_slot_of_month(month)
    return first, first_slot_of_month(month + 1) - first


def month_start(month: int) -> int:
    """When a month begins, unix seconds."""
    return first_slot_of_month(month) * SLOT_SECONDS


def month_now(now: int) -> int:
    """The month of a moment in unix seconds."""
    return month_at(now // SLOT_SECONDS)


def slots_of_days(begin: date, end: date) -> tuple[int, int]:
    """First slot and number of slots of the UTC days from `begin` to `end`, both with them. BadUse
    for days the wrong way round, or too many."""
    if end < begin:
        raise BadUse("the last day lies before the first")
    days = (end - begin).days + 1
    if days > MAX_DISCLOSED_DAYS:
        raise BadUse(f"at most {MAX_DISCLOSED_DAYS} days at once")
    return day_slot(begin), days * SLOTS_PER_DAY


def day_slot(day: date) -> int:
    """The first slot of a UTC day."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) // SLOT_SECONDS


def utc_day(seconds: int) -> date:
    """The UTC day of a moment."""
    return datetime.fromtimestamp(seconds, UTC).date()


@dataclass(frozen=True)
class DayQuality:
    """One UTC day of a home, in quarter-hours: measured, estimated, missing (on record, without a
    value), absent (past, and nothing on record)."""

    slot: int
    import_wh: int | None
    export_wh: int | None
    measured: int
    estimated: int
    missing: int
    absent: int


def day_qualities(buckets: Sequence[Bucket], now_slot: int) -> list[DayQuality]:
    """Days with how good their readings are, the newest first. buckets: whole UTC days."""
    found = []
    for one in sorted(buckets, key=lambda bucket: bucket.slot, reverse=True):
        due = min(one.slots, max(0, now_slot - one.slot))
        absent = max(0, due - one.known - one.missing)
        found.append(
            DayQuality(
                one.slot,
                one.import_wh,
                one.export_wh,
                one.known - one.estimated,
                one.estimated,
                one.missing,
                absent,
            )
        )
    return found


# Grants


def new_grant(
    meter: int, reader: str, begin: date, end: date, expires: date, nonce: int, now: int
) -> Grant:
    """The grant that a form asks for: days are UTC days, both with them. BadUse says what is
    wrong with it."""
    if not _ADDRESS.fullmatch(reader.strip()):
        raise BadUse("a reader's address is 0x and 40 hex digits")
    if end < begin:
        raise BadUse("the last day lies before the first")
    if (end - begin).days >= MAX_GRANT_DAYS:
        raise BadUse("that is more than ten years")
    until = (day_slot(expires) + SLOTS_PER_DAY) * SLOT_SECONDS
    if until <= now:
        raise BadUse("the grant would have ended already")
    return Grant(
        meter,
        address_bytes(reader.strip()),
        day_slot(begin),
        day_slot(end) + SLOTS_PER_DAY,
        until,
        nonce,
    )


def grant_of_message(message: object) -> Grant:
    """A grant from the fields of its typed message. BadUse for anything else."""
    names = ("meter", "reader", "fromSlot", "toSlot", "expires", "nonce")
    if not isinstance(message, Mapping) or set(message) != set(names):
        raise BadUse(f"a grant has the fields {', '.join(names)}")
    reader = message["reader"]
    if not isinstance(reader, str) or not _ADDRESS.fullmatch(reader):
        raise BadUse("reader is an address, 0x and 40 hex digits")
    return Grant(
        whole(message["meter"], "meter", 32),
        address_bytes(reader),
        *(whole(message[name], name, 64) for name in names[2:]),
    )


def whole(value: Any, name: str, bits: int = 64) -> int:
    """A whole number, as JSON number or decimal text. BadUse for anything else."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,20}", value, re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << bits:
        raise BadUse(f"{name} is a whole number of {bits} bits")
    return value


def raw(value: Any, name: str, width: int | None = None, most: int = 4_096) -> bytes:
    """Bytes from 0x text: just `width` of them, or one to `most`. BadUse for anything else."""
    size = f"{{{width}}}" if width is not None else f"{{1,{most}}}"
    if not isinstance(value, str) or not re.fullmatch(f"0x(?:[0-9a-fA-F]{{2}}){size}", value):
        count = f"{2 * width} hex digits" if width is not None else "hex digits"
        raise BadUse(f"{name} is 0x and {count}")
    return bytes.fromhex(value[2:])
