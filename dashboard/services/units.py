# SPDX-License-Identifier: Apache-2.0
"""Numbers and times as residents know them: kWh, ct/kWh, euro, local time.

Inside everything is integer Wh, µ€ and UTC; the conversion happens here and nowhere else.
"""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from dao.slots import SLOT_SECONDS

LOCAL = ZoneInfo("Europe/Berlin")
"""Where the demonstration data was measured."""


def local_time(seconds: int) -> datetime:
    """A moment, unix seconds, on the zone's own clock."""
    return datetime.fromtimestamp(seconds, UTC).astimezone(LOCAL)


def wall_clock(slots: pd.Series | np.ndarray) -> pd.Series:
    """Starts of slots as wall-clock times without a zone, for a chart's axis."""
    stamps = pd.to_datetime(np.asarray(slots, dtype=np.int64) * SLOT_SECONDS, unit="s", utc=True)
    return pd.Series(stamps.tz_convert(LOCAL).tz_localize(None))


def kwh(wh: float, digits: int | None = None) -> str:
    """Energy: `1,234 kWh`, with decimals below 100."""
    value = wh / 1000
    places = digits if digits is not None else (0 if abs(value) >= 100 else 1)
    return f"{value:,.{places}f} kWh"


def ct_per_kwh(price: float) -> str:
    """A price in µ€ per Wh: `23.4 ct/kWh`."""
    return f"{price / 10:.1f} ct/kWh"


def euro(micro: float) -> str:
    """Money in µ€: `€12.34`."""
    sign = "-" if round(micro / 10_000) < 0 else ""
    return f"{sign}€{abs(micro) / 1_000_000:,.2f}"


def duration(seconds: int) -> str:
    """A span as one would say it: `1 h 45 min`, `50 s`."""
    if seconds < 60:
        return f"{max(seconds, 0)} s"
    minutes = seconds // 60
    days, minutes = divmod(minutes, 24 * 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    said = [f"{count} {unit}" for count, unit in parts if count]
    return " ".join(said[:2])


def count(number: int, one: str, many: str) -> str:
    """`1 home`, `1,200 homes`."""
    return f"{number:,} {one if number == 1 else many}"
