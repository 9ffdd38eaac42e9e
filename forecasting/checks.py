# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a series, found before a model sees it, each with what was done about it.

A value that cannot be true becomes a missing value; nothing is invented in its place. What a file
may not contain at all is `csv_input`'s; whether enough is left for a model is `model`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forecasting.series import DAY_SECONDS, FloatArray

_FROZEN_SECONDS = DAY_SECONDS  # no home repeats one reading, to the last digit, for a day
_DEAD_SECONDS = 2 * DAY_SECONDS  # a home without a fridge, or two days without any light
# Far above what any home or zone does to its own usual peak; a wrong unit is a thousand times.
_IMPOSSIBLE_TIMES = 20.0
# A reading below zero now and then, in a series that never is: a fault, not an export.
_RARE = 0.002
_USUAL_ZEROS = 0.05
_LEAST_GAIN = 0.1
_LEAST_LIGHT_DAYS = 7
_DARK_SHARE = 0.01


@dataclass(frozen=True)
class Finding:
    """name: frozen, dead, impossible, shifted or missing; what: how much; done: what was done."""

    name: str
    what: str
    done: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what}; {self.done}"


@dataclass(frozen=True)
class Examined:
    """values: (n,) with what cannot be true as NaN. sun_shift: intervals to move the sun by."""

    values: FloatArray
    findings: tuple[Finding, ...]
    sun_shift: int = 0


def examine(
    values: FloatArray,
    step: int,
    *,
    signed: bool,
    solar: bool = False,
    sky: FloatArray | None = None,
) -> Examined:
    """Check a series of one meter or zone.

    values: (n,), NaN where missing; step: seconds; signed: whether values below zero are possible
    (net energy); solar: whether the values are what the sun made, which is zero every night; sky:
    (n,) its clear-sky output where the place is known.
    """
    clean = np.array(values, dtype=np.float64)
    found: list[Finding] = []
    missing = int(np.isnan(clean).sum())
    if missing:
        found.append(Finding("missing", _count(missing, clean.size), "left out, never taken as 0"))

    wrong = _impossible(clean, signed)
    if wrong.any():
        clean[wrong] = np.nan
        found.append(Finding("impossible", _count(int(wrong.sum()), clean.size), "left out"))

    if np.nanmin(clean, initial=np.inf) != np.nanmax(clean, initial=-np.inf):
        still = _runs(clean, _FROZEN_SECONDS // step) & (clean != 0.0)
        if still.any():
            clean[still] = np.nan
            what = (
                f"one value repeated for a day or longer ({_count(int(still.sum()), clean.size)})"
            )
            found.append(Finding("frozen", what, "left out"))
        zero = clean == 0.0
        dead = _runs(clean, _DEAD_SECONDS // step) & zero
        alive = ~(dead | np.isnan(clean))
        # A heat pump in summer or a charger stands still for days, and often for hours too.
        usual = not solar and zero[alive].mean() > _USUAL_ZEROS if alive.any() else True
        if dead.any() and not usual:
            clean[dead] = np.nan
            what = f"zero for two days or longer ({_count(int(dead.sum()), clean.size)})"
            found.append(Finding("dead", what, "left out"))

    shift = 0 if sky is None else _sun_shift(clean, sky, DAY_SECONDS // step)
    if shift:
        side = "behind" if shift > 0 else "ahead of"
        what = f"the output is {abs(shift) * step / 3600:g} h {side} the sun"
        found.append(Finding("shifted", what, "the sun was moved; check the time zone"))
    return Examined(clean, tuple(found), shift)


def _count(part: int, whole: int) -> str:
    return f"{part} of {whole} values"


def _impossible(values: FloatArray, signed: bool) -> npt.NDArray[np.bool_]:
    known = values[~np.isnan(values)]
    wrong = np.zeros(values.shape, dtype=bool)
    if not known.size:
        return wrong
    size = np.abs(known)
    usual = float(np.quantile(size, 0.99))
    if usual > 0.0:
        with np.errstate(invalid="ignore"):
            wrong |= np.abs(values) > _IMPOSSIBLE_TIMES * usual
    below = values < 0.0
    if not signed and 0 < below.sum() < _RARE * known.size:
        wrong |= below
    return wrong


def _runs(values: FloatArray, least: int) -> npt.NDArray[np.bool_]:
    """Where a value lies in a run of at least `least` equal ones."""
    change = np.flatnonzero(values[1:] != values[:-1]) + 1  # NaN differs from NaN: it ends a run
    begin = np.concatenate([[0], change])
    length = np.diff(np.concatenate([begin, [values.size]]))
    return np.repeat(length >= least, length)


def _sun_shift(values: FloatArray, sky: FloatArray, per_day: int) -> int:
    """How many intervals the output lies behind the sun; 0 where that is less than an hour.

    Found as the shift of the mean clear day that fits the mean day of the last eight weeks best.
    """
    size = min(values.size, 56 * per_day) // per_day * per_day
    if size < _LEAST_LIGHT_DAYS * per_day:
        return 0
    days = values[-size:].reshape(-1, per_day)
    made = np.nansum(days, axis=0)
    light = sky[: values.size][-size:].reshape(-1, per_day).sum(axis=0)
    if made.max() <= 0.0 or light.max() <= 0.0:
        return 0

    def fit(shift: int) -> float:
        moved = np.roll(light, shift)
        return float(made @ moved / np.sqrt((made @ made) * (moved @ moved)))

    fits = [fit(shift) for shift in range(per_day)]
    best = int(np.argmax(fits))
    best = best - per_day if best > per_day // 2 else best
    # A roof that faces east is early by an hour or two, and dark at night all the same. Only
    # output in the dark shows that it is the clock.
    dark = sky[: values.size][-size:].reshape(-1, per_day) <= 0.0
    if abs(best) * 24 < per_day or np.nansum(days[dark]) < _DARK_SHARE * made.sum():
        return 0
    return best if max(fits) - fits[0] > _LEAST_GAIN * max(fits) else 0
