# SPDX-License-Identifier: Apache-2.0
"""What physically flows through a metering point: the ground that every simulated meter shows.

Energy is linear inside a slot. Registers are cumulative whole Wh at the slots' edges, and are cut
down to the asked resolution in between. What a faulty meter makes of it is in `faults`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dao.errors import BadUse
from dao.slots import SLOT_SECONDS
from meters.profiles import ZoneProfiles

_SLOT_MS = SLOT_SECONDS * 1000


@dataclass(frozen=True)
class Truth:
    """Energies per slot from `first_slot` on, int64 Wh (slots,), and the registers before them.

    Before the first slot and after the last nothing flows: the registers stand still.
    """

    first_slot: int
    import_wh: np.ndarray
    export_wh: np.ndarray
    import_start_wh: int = 0
    export_start_wh: int = 0

    def __post_init__(self) -> None:
        if self.import_wh.shape != self.export_wh.shape or self.import_wh.ndim != 1:
            raise BadUse("a truth has one import and one export per slot")
        if min(self.import_wh.min(initial=0), self.export_wh.min(initial=0)) < 0:
            raise BadUse("energy of a slot cannot be negative")
        if self.import_start_wh < 0 or self.export_start_wh < 0:
            raise BadUse("a register cannot start below zero")

    @staticmethod
    def of_home(
        profiles: ZoneProfiles,
        index: int,
        import_start_wh: int | None = None,
        export_start_wh: int | None = None,
    ) -> Truth:
        """The meter of home `index`; registers start where a meter of some age might stand."""
        if not 0 <= index < len(profiles.homes):
            raise BadUse(f"home {index} is not one of 0 to {len(profiles.homes) - 1}")
        return Truth(
            profiles.first_slot,
            profiles.import_wh[:, index].astype(np.int64),
            profiles.export_wh[:, index].astype(np.int64),
            4_321_000 + 7_919 * index if import_start_wh is None else import_start_wh,
            1_234_000 + 3_571 * index if export_start_wh is None else export_start_wh,
        )

    @property
    def slots(self) -> int:
        return len(self.import_wh)

    @cached_property
    def _edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Registers at the edges of slots, int64 (slots + 1,) each."""
        return (
            np.concatenate([[0], np.cumsum(self.import_wh, dtype=np.int64)]) + self.import_start_wh,
            np.concatenate([[0], np.cumsum(self.export_wh, dtype=np.int64)]) + self.export_start_wh,
        )

    def registers(self, at: float, per_wh: int = 1) -> tuple[int, int]:
        """Import and export registers at a time, in steps of 1/per_wh Wh, rounded down."""
        slot, passed = divmod(round(at * 1000) - self.first_slot * _SLOT_MS, _SLOT_MS)
        if slot < 0:
            slot, passed = 0, 0
        elif slot >= self.slots:
            slot, passed = self.slots, 0
        imported, exported = (
            int(edges[slot]) * per_wh
            + (int(edges[slot + 1] - edges[slot]) * per_wh * passed // _SLOT_MS if passed else 0)
            for edges in self._edges
        )
        return imported, exported

    def power(self, at: float) -> tuple[int, int]:
        """Import and export in W, the mean of the slot that `at` lies in."""
        slot = int(at // SLOT_SECONDS) - self.first_slot
        if not 0 <= slot < self.slots:
            return 0, 0
        per_hour = 3600 // SLOT_SECONDS
        return int(self.import_wh[slot]) * per_hour, int(self.export_wh[slot]) * per_hour

    def where(self, mask: np.ndarray, import_start_wh: int = 0, export_start_wh: int = 0) -> Truth:
        """The slots that `mask` (bool, one per slot) names, nothing in the others: one tariff."""
        return Truth(
            self.first_slot,
            np.where(mask, self.import_wh, 0),
            np.where(mask, self.export_wh, 0),
            import_start_wh,
            export_start_wh,
        )
