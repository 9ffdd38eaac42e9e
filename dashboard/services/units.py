# SPDX-License-Identifier: Apache-2.0
"""Times on the zone's own clock.

Inside everything is UTC; the conversion happens here and nowhere else. Numbers and words are in
`dashboard.i18n`.
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
