# SPDX-License-Identifier: Apache-2.0
"""Which zone and which days a page of figures is about: by its address, else the last week.

Days are UTC days, as in a dossier. What an address says is a stranger's text: it is believed only
where it is a zone that is known, and days that there can be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from dao.audit.scope import MAX_DAYS, Period
from dao.slots import day_of
from dashboard.i18n import N_, _

SHOWN_DAYS = 31
"""What a page computes; see `dashboard.repositories.analysis`."""
WEEK = 7
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_ZONE = re.compile(r"[1-9]\d{0,3}", re.ASCII)

BAD_DAYS = N_("The address named days that there are not, so these are the last ones.")
BAD_ZONE = N_("The address named a zone that is not known here, so this is another one.")


@dataclass(frozen=True)
class Span:
    """Zone and days, the last one included. problems: what the address asked for in vain."""

    zone: int
    begin: date
    end: date
    problems: tuple[str, ...] = ()

    @property
    def days(self) -> int:
        """How many."""
        return (self.end - self.begin).days + 1

    @property
    def shown_begin(self) -> date:
        """The first of the days that a page computes."""
        return max(self.begin, self.end - timedelta(days=SHOWN_DAYS - 1))

    @property
    def is_cut(self) -> bool:
        """Whether a page shows less than all of it."""
        return self.shown_begin > self.begin

    @property
    def period(self) -> Period:
        """What a page computes."""
        return Period.of_days(self.zone, self.shown_begin, self.end)

    @property
    def whole(self) -> Period:
        """All of it: what a dossier holds."""
        return Period.of_days(self.zone, self.begin, self.end)

    @property
    def query(self) -> dict[str, str]:
        """As the address says it."""
        return {
            "from": self.begin.isoformat(),
            "to": self.end.isoformat(),
            "zone": str(self.zone),
        }

    def told(self) -> list[str]:
        """What to say of it before anything else."""
        found = [_(one) for one in self.problems]
        if self.is_cut:
            found.append(
                _(
                    "This page shows the last {shown} of {days} days. A dossier holds all of them."
                ).format(shown=SHOWN_DAYS, days=self.days)
            )
        return found


@dataclass(frozen=True)
class Known:
    """What there is to choose from. first_slot, last_slot: of the zone's readings on the chain,
    None without any; now: unix seconds."""

    zones: Sequence[int]
    zone: int
    first_slot: int | None
    last_slot: int | None
    now: int

    @property
    def today(self) -> date:
        """The chain's UTC day."""
        return datetime.fromtimestamp(self.now, UTC).date()

    @property
    def first(self) -> date:
        """The first day that can be chosen."""
        return self.today if self.first_slot is None else min(day_of(self.first_slot), self.today)

    @property
    def last(self) -> date:
        """The last whole day with readings; the first day while there is none."""
        if self.last_slot is None:
            return self.first
        whole = day_of(self.last_slot + 1) - timedelta(days=1)
        return max(self.first, min(whole, self.today))


def zone_of(query: Mapping[str, str], zones: Sequence[int], default: int) -> tuple[int, bool]:
    """The zone that an address names, or the default; and whether it named one in vain."""
    named = query.get("zone", "")
    if not named:
        return default, False
    if _ZONE.fullmatch(named) and int(named) in zones:
        return int(named), False
    return default, True


def last_days(known: Known, days: int) -> Span:
    """The last days that are whole; fewer where the zone is younger."""
    begin = max(known.first, known.last - timedelta(days=days - 1))
    return Span(known.zone, begin, known.last)


def span_of(query: Mapping[str, str], known: Known) -> Span:
    """The days that an address names, else the last week."""
    usual = last_days(known, WEEK)
    if not query.get("from") and not query.get("to"):
        return usual
    begin, end = _day(query.get("from", "")), _day(query.get("to", ""))
    if begin is None or end is None or not sound(begin, end, known):
        return Span(usual.zone, usual.begin, usual.end, (BAD_DAYS,))
    return Span(known.zone, begin, end)


def sound(begin: date, end: date, known: Known) -> bool:
    """Whether these are days that can be shown: in order, not before the zone, not to come, and no
    more than a dossier holds."""
    return known.first <= begin <= end <= known.today and (end - begin).days < MAX_DAYS


def _day(text: str) -> date | None:
    if not _DAY.fullmatch(text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
