# SPDX-License-Identifier: Apache-2.0
"""What a charge point's limits come to, and what a car takes under them. No protocol lives here.

Charging profiles are those of OCPP 1.6, chapter 3.13: of each purpose the profile with the highest
stack level that has a limit at the moment counts; a TxProfile stands before a TxDefaultProfile;
the ChargePointMaxProfile bounds both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dao.errors import BadUse

VOLTS = 230
MIN_W = 6 * VOLTS
"""IEC 61851 knows no current below 6 A: under this power, on one phase, a car waits."""
MAX_STACK_LEVEL = 8
MAX_PERIODS = 96
MAX_PROFILES = 16

CHARGE_POINT_MAX = "ChargePointMaxProfile"
TX_DEFAULT = "TxDefaultProfile"
TX = "TxProfile"
_RECURS = {"Daily": 86_400, "Weekly": 7 * 86_400}
NEVER = math.inf


@dataclass(frozen=True)
class Car:
    """A visit: unix seconds, Wh that it would like to take at the meter, the most that it can."""

    arrives: float
    leaves: float
    needs_wh: int
    max_w: int = 11_000

    def __post_init__(self) -> None:
        if not self.arrives < self.leaves:
            raise BadUse("a car leaves after it has arrived")
        if self.needs_wh < 0 or self.max_w <= 0:
            raise BadUse("a car needs no less than nothing, and takes some power")


@dataclass(frozen=True)
class Profile:
    """A charging profile. Periods are seconds after its start, a limit in W or A, and phases."""

    number: int
    connector: int
    purpose: str
    level: int
    kind: str
    unit: str
    periods: tuple[tuple[int, float, int], ...]
    duration: int | None = None
    start: float | None = None
    recurs: int | None = None
    valid_from: float = -NEVER
    valid_to: float = NEVER
    transaction: int | None = None

    @staticmethod
    def parse(connector: int, payload: Mapping[str, Any]) -> Profile:
        """From the payload of SetChargingProfile, names in snake case. BadUse for nonsense."""
        schedule = payload["charging_schedule"]
        periods = tuple(
            (int(one["start_period"]), float(one["limit"]), int(one.get("number_phases", 3)))
            for one in schedule["charging_schedule_period"]
        )
        starts = [start for start, _, _ in periods]
        if not periods or starts[0] != 0 or starts != sorted(set(starts)):
            raise BadUse("periods of a schedule begin at 0 and follow each other")
        if len(periods) > MAX_PERIODS:
            raise BadUse(f"more than {MAX_PERIODS} periods")
        if any(not 0 <= limit <= 1e6 or not 1 <= phases <= 3 for _, limit, phases in periods):
            raise BadUse("a limit below zero, or no number of phases")
        level = int(payload["stack_level"])
        if not 0 <= level <= MAX_STACK_LEVEL:
            raise BadUse(f"stack level {level}, expected 0 to {MAX_STACK_LEVEL}")
        kind, recurs = payload["charging_profile_kind"], str(payload.get("recurrency_kind"))
        start = _time(schedule.get("start_schedule"))
        if kind == "Recurring" and (recurs not in _RECURS or start is None):
            raise BadUse("a recurring profile needs a start and how often")
        valid_from, valid_to = _time(payload.get("valid_from")), _time(payload.get("valid_to"))
        return Profile(
            number=int(payload["charging_profile_id"]),
            connector=connector,
            purpose=str(payload["charging_profile_purpose"]),
            level=level,
            kind=str(kind),
            unit=str(schedule["charging_rate_unit"]),
            periods=periods,
            duration=schedule.get("duration"),
            start=start,
            recurs=_RECURS[recurs] if kind == "Recurring" else None,
            valid_from=-NEVER if valid_from is None else valid_from,
            valid_to=NEVER if valid_to is None else valid_to,
            transaction=payload.get("transaction_id"),
        )

    def limit(self, at: float, began: float | None) -> tuple[int | None, float]:
        """W at a time, None if it sets no limit then, and when that may next change.

        `began`: when the car's transaction began, the start of a profile that names none.
        """
        if at < self.valid_from:
            return None, self.valid_from
        if at >= self.valid_to:
            return None, NEVER
        start = began if self.kind == "Relative" or self.start is None else self.start
        if start is None:
            return None, self.valid_to
        if self.recurs and at >= start:
            start += (at - start) // self.recurs * self.recurs
        again = start + self.recurs if self.recurs else NEVER
        if at < start:
            return None, min(start, self.valid_to)
        if self.duration is not None and at >= start + self.duration:
            return None, min(again, self.valid_to)
        end = start + self.duration if self.duration is not None else NEVER
        passed = at - start
        current = max(i for i, (since, _, _) in enumerate(self.periods) if since <= passed)
        if current + 1 < len(self.periods):
            end = min(end, start + self.periods[current + 1][0])
        _, limit, phases = self.periods[current]
        watts = int(limit) if self.unit == "W" else int(limit * VOLTS * phases)
        return watts, min(end, again, self.valid_to)


def installed(profiles: Iterable[Profile], new: Profile) -> tuple[Profile, ...]:
    """With `new` in the place of one with its number, or its connector, purpose and level."""
    kept = [
        one
        for one in profiles
        if one.number != new.number
        and (one.connector, one.purpose, one.level) != (new.connector, new.purpose, new.level)
    ]
    if len(kept) >= MAX_PROFILES:
        raise BadUse(f"more than {MAX_PROFILES} profiles")
    return (*kept, new)


def composite(
    profiles: Iterable[Profile], at: float, began: float | None
) -> tuple[int | None, float]:
    """The limit of all profiles together in W, None without one, and when it may next change."""
    change = NEVER
    found: dict[str, int] = {}
    # Of two with the same level the connector's own stands before the whole point's.
    for one in sorted(profiles, key=lambda one: (one.level, one.connector), reverse=True):
        watts, until = one.limit(at, began)
        change = min(change, until)
        if watts is not None:
            found.setdefault(one.purpose, watts)
    asked = [found.get(TX, found.get(TX_DEFAULT)), found.get(CHARGE_POINT_MAX)]
    limits = [watts for watts in asked if watts is not None]
    return (min(limits) if limits else None), change


def power(limit_w: int | None, car_w: int, cable_w: int) -> int:
    """What a car draws, W."""
    watts = min(car_w, cable_w) if limit_w is None else min(car_w, cable_w, limit_w)
    return watts if watts >= MIN_W else 0


def _time(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise BadUse(f"time {text!r}, expected ISO 8601") from None
    if when.tzinfo is None:
        raise BadUse(f"time {text!r} has no offset")
    return when.timestamp()
