# SPDX-License-Identifier: Apache-2.0
"""What a zone's transformer meter says, beside the sum of its homes' meters and the losses.

Only sums stand here, and they are on the ledger too. Which homes fit what is missing is computed
in `forecasting/feeder.py`, from readings that nobody else may see.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date

from dao.slots import SLOTS_PER_DAY, day_of

CLASSES: Mapping[str, int] = {"home": 20, "feeder": 5, "losses": 200}
"""The largest error, in permille of what is measured. Homes: class A of EN 50470-3 (2 %), the
widest that the European measuring instruments directive allows in a home. Transformer: class 0,5 S
of EN IEC 62053-22. Losses: computed for balanced phases and the mean of a quarter-hour, so they are
taken to be off by up to a fifth."""


@dataclass(frozen=True)
class Suspect:
    """A home that fits: were `part_permille` of its consumption left out, that would explain what
    is missing; z_tenths: ten times how many deviations that is beyond what honest meters give."""

    meter: int
    part_permille: int
    z_tenths: int
    correlation_permille: int


@dataclass(frozen=True)
class DayBalance:
    """A day's sums in Wh. residual: fed in, not metered by any home, not lost."""

    day: date
    slots: int
    residual_wh: int
    tolerance_wh: int

    @property
    def is_over(self) -> bool:
        """Whether no meters of their classes could have shown this."""
        return abs(self.residual_wh) > self.tolerance_wh


@dataclass(frozen=True)
class Balance:
    """Per slot in Wh: what flowed into the zone (negative: out of it), what all homes imported and
    exported, what lines lost, and with `high_side` the transformer too."""

    high_side: bool
    homes: int
    slots: tuple[int, ...]
    feeder_wh: tuple[int, ...]
    import_wh: tuple[int, ...]
    export_wh: tuple[int, ...]
    losses_wh: tuple[int, ...]
    suspects: tuple[Suspect, ...]

    @property
    def residual_wh(self) -> tuple[int, ...]:
        """What flowed in and was neither metered nor lost, per slot."""
        return tuple(
            fed - imported + exported - lost
            for fed, imported, exported, lost in zip(
                self.feeder_wh, self.import_wh, self.export_wh, self.losses_wh, strict=True
            )
        )

    @property
    def tolerance_wh(self) -> tuple[int, ...]:
        """What the errors of all meters and of the losses could add up to, per slot.

        All at their largest and all the same way: half a Wh of rounding for each meter on top.
        """
        return tuple(
            -(
                -(
                    CLASSES["home"] * (imported + exported)
                    + CLASSES["feeder"] * abs(fed)
                    + CLASSES["losses"] * lost
                    + 500 * (self.homes + 2)
                )
                // 1000
            )
            for fed, imported, exported, lost in zip(
                self.feeder_wh, self.import_wh, self.export_wh, self.losses_wh, strict=True
            )
        )

    @property
    def slots_over(self) -> list[int]:
        """The slots in which more is missing, or too much, than the classes allow."""
        return [
            slot
            for slot, residual, tolerance in zip(
                self.slots, self.residual_wh, self.tolerance_wh, strict=True
            )
            if abs(residual) > tolerance
        ]

    @property
    def days(self) -> list[DayBalance]:
        found: dict[int, list[int]] = {}
        for slot, residual, tolerance in zip(
            self.slots, self.residual_wh, self.tolerance_wh, strict=True
        ):
            sums = found.setdefault(slot // SLOTS_PER_DAY, [0, 0, 0])
            sums[0] += 1
            sums[1] += residual
            sums[2] += tolerance
        return [
            DayBalance(day_of(day * SLOTS_PER_DAY), *sums) for day, sums in sorted(found.items())
        ]

    @property
    def days_over(self) -> list[DayBalance]:
        return [day for day in self.days if day.is_over]

    def with_suspects(self, suspects: Iterable[Suspect]) -> Balance:
        return replace(self, suspects=tuple(suspects))
