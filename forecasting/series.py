# SPDX-License-Identifier: Apache-2.0
"""A regular interval series and the calendar it lives in. No model, no file format.

Time is unix seconds UTC; local time (time zone, holidays, evenings) is derived here and only here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dao.errors import BadUse

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DAY_SECONDS = 86_400
STEPS = (900, 1800, 3600)


@dataclass(frozen=True)
class Location:
    """Degrees north and east; for the sun's position only."""

    latitude: float
    longitude: float

    def __post_init__(self) -> None:
        if not (-90.0 <= self.latitude <= 90.0 and -180.0 <= self.longitude <= 180.0):
            raise BadUse(f"no such place on earth: {self.latitude}, {self.longitude}")


@dataclass(frozen=True)
class IntervalSeries:
    """Values of consecutive intervals; NaN is a missing value, never a zero.

    start: unix seconds at which interval 0 begins, a multiple of step; step: 900, 1800 or 3600 s;
    values: (n,) float64, any unit.
    """

    start: int
    step: int
    values: FloatArray

    def __post_init__(self) -> None:
        if self.step not in STEPS:
            raise BadUse(f"interval of {self.step / 60:g} minutes: expected 15, 30 or 60 minutes")
        if self.values.ndim != 1:
            raise BadUse("a series has one value per interval")
        if np.isinf(self.values).any():
            raise BadUse("a series holds finite numbers or missing values, not infinity")

    @property
    def per_day(self) -> int:
        return DAY_SECONDS // self.step

    @property
    def end(self) -> int:
        """Unix seconds at which the last interval ends: the first moment not known yet."""
        return self.start + self.step * self.values.size


@dataclass(frozen=True)
class Calendar:
    """Per interval: local wall clock, hour, day number, and whether people work that day."""

    utc: IntArray  # unix seconds at which the interval begins
    offset: IntArray  # local minus UTC, seconds
    workday: npt.NDArray[np.bool_]

    @property
    def wall(self) -> IntArray:
        """Local wall clock as seconds, as if it were UTC."""
        return self.utc + self.offset

    @property
    def hour(self) -> IntArray:
        return (self.wall % DAY_SECONDS) // 3600

    @property
    def day(self) -> IntArray:
        """Local days since 1970-01-01."""
        return self.wall // DAY_SECONDS


def calendar(
    start: int, step: int, count: int, timezone: str, country: str | None, region: str | None
) -> Calendar:
    """The calendar of `count` intervals. Raises BadUse for an unknown zone, country or region."""
    import pandas as pd

    utc = start + step * np.arange(count, dtype=np.int64)
    stamps = pd.DatetimeIndex(utc * 1_000_000_000, tz="UTC")
    try:
        local = stamps.tz_convert(timezone)
    except Exception as error:  # pandas passes on whatever its zone database raises
        raise BadUse(f"unknown time zone {timezone!r}; expected a name like Europe/Berlin") from (
            error
        )
    wall = local.tz_localize(None).as_unit("s").asi8
    day = wall // DAY_SECONDS
    # 1970-01-01 was a Thursday.
    workday = (day + 3) % 7 < 5
    if country is not None and count:
        import holidays

        years = range(int(local[0].year), int(local[-1].year) + 1)
        try:
            free = holidays.country_holidays(country, subdiv=region, years=years)
        except NotImplementedError as error:  # the library's word for one that it does not know
            known = f"{country}/{region}" if region else country
            raise BadUse(f"no holidays known for {known!r}; expected a code like DE") from error
        epoch = pd.Timestamp(0).date()
        numbers = np.array([(date - epoch).days for date in sorted(free)], dtype=np.int64)
        workday &= ~np.isin(day, numbers)
    return Calendar(utc=utc, offset=wall - utc, workday=workday)


def clear_sky(utc: IntArray, step: int, place: Location) -> FloatArray:
    """Clear-sky irradiance on the ground in W/m2 at the middle of each interval; zero at night.

    Simplified Solis model (Ineichen 2008) of pvlib, with its default clear atmosphere: only the
    shape matters, the height is learned.
    """
    import pandas as pd
    from pvlib import clearsky, solarposition

    if not utc.size:
        return np.zeros(0)
    middle = pd.DatetimeIndex((utc + step // 2) * 1_000_000_000, tz="UTC")
    sun = solarposition.ephemeris(middle, place.latitude, place.longitude)
    elevation = sun["apparent_elevation"].to_numpy()
    ground = clearsky.simplified_solis(np.maximum(elevation, 0.5))["ghi"]
    return np.where(elevation > 0.0, np.asarray(ground, dtype=np.float64), 0.0)
