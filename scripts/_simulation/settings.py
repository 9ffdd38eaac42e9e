# SPDX-License-Identifier: Apache-2.0
"""What a run of the demo is asked for, and what it refuses to be asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from dao.errors import BadUse
from dao.slots import SLOTS_PER_DAY, first_slot_of_day
from dao.tariffs import Tariffs

ZONE = 1
"""The demo zone's number on chain."""

# A fortnight trains the forecast; a year of readings is what the profiles hold.
SHORTEST_HISTORY, LONGEST_HISTORY = 14, 364
LONGEST_RUN = 364
# Admission, holding time, and an ordinary vote: 24 days.
POLICY_HISTORY = 28
# A week in which the zone's solar roofs push the voltage over its limit every day.
DEFAULT_START = date(2016, 6, 6)


@dataclass(frozen=True)
class Settings:
    """One run. `start` is the first traded day, UTC; history ends where it begins.

    policy: whether the members agreed on a standing policy in the weeks before. living: whether the
    neighbourhood goes on after the days, with people in it.
    """

    zone_code: str = "1-LV-rural3--2-sw"
    seed: int = 1
    start: date = DEFAULT_START
    days: int = 7
    history_days: int = 56
    proposals: bool = True
    voters: str = "accept"
    policy: bool = False
    living: bool = False
    tariffs: Tariffs = field(default_factory=Tariffs)
    port: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.days <= LONGEST_RUN:
            raise BadUse(f"--days {self.days}: expected 1..{LONGEST_RUN}")
        if not SHORTEST_HISTORY <= self.history_days <= LONGEST_HISTORY:
            raise BadUse(
                f"--history-days {self.history_days}: expected "
                f"{SHORTEST_HISTORY}..{LONGEST_HISTORY}"
            )
        if self.policy and self.history_days < POLICY_HISTORY:
            raise BadUse(
                f"--history-days {self.history_days}: a standing policy is voted in the weeks "
                f"before, which takes {POLICY_HISTORY} days or more"
            )
        if self.history_days % 7:
            raise BadUse(f"--history-days {self.history_days}: expected whole weeks")
        if not 0 <= self.seed < 2**63:
            raise BadUse(f"--seed {self.seed}: expected 0..2^63-1")
        if self.voters not in ("accept", "reject"):
            raise BadUse(f"--voters {self.voters}: expected accept or reject")
        # Chain time starts before the history, and a chain cannot start before 1970.
        if not date(1975, 1, 1) <= self.start <= date(2099, 12, 31):
            raise BadUse(f"--start {self.start}: expected 1975-01-01..2099-12-31")

    @property
    def first_slot(self) -> int:
        """First traded slot."""
        return first_slot_of_day(self.start)

    @property
    def history_slot(self) -> int:
        """First slot of the history."""
        return self.first_slot - self.history_days * SLOTS_PER_DAY

    @property
    def genesis(self) -> int:
        """Time of the chain's first block, unix seconds: the day before the history."""
        day = self.start - timedelta(days=self.history_days + 1)
        return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def parse_date(text: str) -> date:
    """A date as YYYY-MM-DD; BadUse otherwise."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadUse(f"--start {text}: expected a date like 2016-06-06") from None
