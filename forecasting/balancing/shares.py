# SPDX-License-Identifier: Apache-2.0
"""How a zone's totals are spread over its buses by what is public: standard shares.

Import goes by yearly load, export by installed solar power. No reading enters here; the operator's
own view has its own table of power per home and needs no shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dao.errors import BadUse
from forecasting.grid import FloatArray, IntArray

SLOTS_PER_HOUR = 4


class HasPlace(Protocol):
    """What of a home is public: where it stands, its yearly load and its installed solar power."""

    @property
    def bus(self) -> int: ...
    @property
    def annual_load_kwh(self) -> int: ...
    @property
    def solar_wp(self) -> int: ...


@dataclass(frozen=True)
class Shares:
    """Standard shares per bus; each array (buses,) sums to 1 (export: or to 0 without solar)."""

    buses: IntArray
    import_share: FloatArray
    export_share: FloatArray

    def spread(self, import_wh: npt.ArrayLike, export_wh: npt.ArrayLike) -> FloatArray:
        """Net power in W of each bus: (slots,) Wh of the zone to (slots, buses)."""
        taken = np.asarray(import_wh, dtype=np.float64) * SLOTS_PER_HOUR
        given = np.asarray(export_wh, dtype=np.float64) * SLOTS_PER_HOUR
        return np.outer(taken, self.import_share) - np.outer(given, self.export_share)


def standard_shares(homes: Sequence[HasPlace]) -> Shares:
    """Shares from what is public about homes. Raises BadUse where no home has any load."""
    buses = np.array(sorted({int(home.bus) for home in homes}), dtype=np.int64)
    column = {int(bus): at for at, bus in enumerate(buses)}
    load = np.zeros(buses.size)
    solar = np.zeros(buses.size)
    for home in homes:
        load[column[int(home.bus)]] += home.annual_load_kwh
        solar[column[int(home.bus)]] += home.solar_wp
    if load.sum() <= 0.0:
        raise BadUse("no home of the zone has any yearly load")
    return Shares(buses, load / load.sum(), solar / solar.sum() if solar.sum() > 0.0 else solar)
