# SPDX-License-Identifier: Apache-2.0
"""A zone's transformer meter held against its homes' meters and the losses of the grid between.

Where energy is missing, a matched filter asks of each home whether a constant part of its own
consumption explains it, beyond what the meters' classes allow. It names homes that fit, never the
one that did it. What becomes of the answer is `meters/faults`'s.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from dao.errors import BadUse
from dao.slots import SLOT_SECONDS
from forecasting.grid import ZoneGrid
from meters.faults.balance import CLASSES, Balance, Suspect

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MAX_ROWS = 100_000
# A class bounds the error; spread evenly inside the bound, its deviation is this part of it.
_DEVIATION = 1 / np.sqrt(3)
# What a suspect must exceed: five deviations, so that of 10,000 honest homes none is named, and a
# part of its consumption several times what the class of its meter allows. And it must explain half
# of what honest meters do not: where something is missing that looks like no home, whichever comes
# closest is many deviations off, too.
_LEAST_Z = 5.0
_LEAST_PART = 0.05
_LEAST_EXPLAINED = 0.5
_ALIKE = 0.8
_LEAST_SLOTS = 96


def read_feeder(data: bytes, name: str) -> dict[int, int]:
    """Wh that flowed into the zone per slot, from CSV `timestamp,import_wh,export_wh`.

    The stamp is the start of a quarter-hour with its offset (2016-06-01T00:00:00Z); import flows
    into the zone. BadUse, with the line, for anything else; a slot may not come twice.
    """
    try:
        rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"))))
    except (ValueError, csv.Error) as error:
        raise BadUse(f"{name} is not CSV: {error}") from None
    if not rows or [cell.strip() for cell in rows[0]] != ["timestamp", "import_wh", "export_wh"]:
        raise BadUse(f"{name}: the first line is timestamp,import_wh,export_wh")
    if len(rows) > MAX_ROWS:
        raise BadUse(f"{name}: more than {MAX_ROWS:,} lines")
    found: dict[int, int] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        slot, net = _line(row, f"{name}, line {number}")
        if slot in found:
            raise BadUse(f"{name}, line {number}: the quarter-hour {row[0]} comes twice")
        found[slot] = net
    return found


def _line(row: Sequence[str], where: str) -> tuple[int, int]:
    if len(row) != 3:
        raise BadUse(f"{where}: expected three columns")
    try:
        when = datetime.fromisoformat(row[0].strip())
    except ValueError:
        raise BadUse(f"{where}: {row[0][:40]!r} is no time like 2016-06-01T00:00:00Z") from None
    if when.tzinfo is None:
        raise BadUse(f"{where}: {row[0][:40]!r} has no offset; write Z for UTC")
    seconds = (when - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    if seconds % SLOT_SECONDS or seconds < 0:
        raise BadUse(f"{where}: {row[0][:40]!r} does not begin a quarter-hour")
    values = []
    for text in row[1:]:
        if not text.strip().isascii() or not text.strip().isdigit() or len(text) > 12:
            raise BadUse(f"{where}: {text[:40]!r} is not whole Wh")
        values.append(int(text))
    return int(seconds) // SLOT_SECONDS, values[0] - values[1]


def read_buses(data: bytes, name: str) -> dict[int, int]:
    """The bus of each metering point, from CSV `meter,bus`. BadUse for anything else."""
    try:
        rows = [row for row in csv.reader(io.StringIO(data.decode("utf-8-sig"))) if row]
        if [cell.strip() for cell in rows[0]] != ["meter", "bus"]:
            raise ValueError
        found = {int(meter): int(bus) for meter, bus in rows[1:]}
    except (ValueError, IndexError, csv.Error):
        raise BadUse(f"{name}: expected lines meter,bus below a line that says so") from None
    if len(found) != len(rows) - 1:
        raise BadUse(f"{name}: a meter comes twice")
    return found


def balance(
    grid: ZoneGrid,
    buses: Mapping[int, int],
    feeder: Mapping[int, int],
    meters: IntArray,
    slots: IntArray,
    import_wh: IntArray,
    export_wh: IntArray,
    *,
    high_side: bool = False,
) -> Balance:
    """Hold the transformer meter against the homes in the slots in which all are known.

    meters: (homes,); slots: (slots,); import_wh, export_wh: (slots, homes) Wh without any unknown
    value. high_side: whether the transformer is metered before its own losses. BadUse for a meter
    without a bus, or where the transformer was not metered in these slots.
    """
    lost = [int(meter) for meter in meters if int(meter) not in buses]
    if lost:
        raise BadUse(f"meter {lost[0]} has no bus: the losses need to know where it is connected")
    have = np.array([int(slot) in feeder for slot in slots], dtype=bool)
    if have.sum() < _LEAST_SLOTS:
        raise BadUse(
            f"the transformer meter and all homes are known in {have.sum()} quarter-hours; a "
            f"balance needs {_LEAST_SLOTS}"
        )
    slots, import_wh, export_wh = slots[have], import_wh[have], export_wh[have]
    fed = np.array([feeder[int(slot)] for slot in slots], dtype=np.int64)
    watts = (import_wh - export_wh) * (3600 / SLOT_SECONDS)
    losses = grid.losses(watts, [buses[int(meter)] for meter in meters])
    whole = losses.lines + (losses.transformer if high_side else 0.0)
    lost_wh = np.floor(whole * (SLOT_SECONDS / 3600) + 0.5).astype(np.int64)
    made = Balance(
        high_side=high_side,
        homes=len(meters),
        slots=tuple(slots.tolist()),
        feeder_wh=tuple(fed.tolist()),
        import_wh=tuple(import_wh.sum(axis=1).tolist()),
        export_wh=tuple(export_wh.sum(axis=1).tolist()),
        losses_wh=tuple(lost_wh.tolist()),
        suspects=(),
    )
    return made.with_suspects(suspects(made, meters, import_wh, export_wh))


def suspects(
    made: Balance, meters: IntArray, import_wh: IntArray, export_wh: IntArray
) -> list[Suspect]:
    """Homes of whose consumption a constant part, left out, explains the energy that is missing.

    What is missing is taken as normal with the covariance that honest meters of their classes would
    give it: each home's error a constant part of its own energy, the transformer meter's of its,
    the losses off by a part of them, and rounding. For one home h with consumption m the best
    estimate of the part left out, of what it shows, is m'C^-1 r / m'C^-1 m, in units of its own
    deviation 1 / sqrt(m'C^-1 m): that is z. It explains z^2 of the misfit r'C^-1 r, which is at
    most about one a slot where meters are honest.
    """
    missing = np.array(made.residual_wh, dtype=np.float64)
    shapes = import_wh.astype(np.float64)
    fed = np.abs(np.array(made.feeder_wh, dtype=np.float64))
    losses = np.array(made.losses_wh, dtype=np.float64)
    home, feeder, loss = (
        CLASSES[name] / 1000 * _DEVIATION for name in ("home", "feeder", "losses")
    )
    loadings = np.column_stack([shapes * home, export_wh * home, fed * feeder, losses * loss])
    # Whole Wh: two register reads, each rounded, and a quarter more for what no class speaks of.
    noise = (made.homes + 2) / 4

    def whitened(columns: FloatArray) -> FloatArray:
        """C^-1 times columns, by Woodbury: as many unknowns as meters, not as slots."""
        inner = noise * np.eye(loadings.shape[1]) + loadings.T @ loadings
        return (columns - loadings @ np.linalg.solve(inner, loadings.T @ columns)) / noise

    whole = whitened(np.column_stack([missing, shapes]))
    weights = (shapes * whole[:, 1:]).sum(axis=0)
    found = []
    with np.errstate(all="ignore"):
        parts = shapes.T @ whole[:, 0] / weights
        z = parts * np.sqrt(weights)
    # An honest error of the home itself is in C already; what is asked is what lies beyond it.
    beyond = missing @ whole[:, 0] - len(missing)
    named = np.flatnonzero(np.nan_to_num(z) >= _LEAST_Z)
    named = named[(parts[named] >= _LEAST_PART) & (z[named] ** 2 >= _LEAST_EXPLAINED * beyond)]
    if not len(named):
        return []
    best = z[named].max()
    for at in sorted(named.tolist(), key=lambda index: -z[index]):
        if z[at] < _ALIKE * best:
            continue
        correlation = _correlation(missing, shapes[:, at])
        found.append(
            Suspect(
                meter=int(meters[at]),
                part_permille=round(1000 * parts[at] / (1 + parts[at])),
                z_tenths=int(10 * z[at]),
                correlation_permille=round(1000 * correlation),
            )
        )
    return found


def _correlation(one: FloatArray, other: FloatArray) -> float:
    one, other = one - one.mean(), other - other.mean()
    size = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / size if size > 0 else 0.0
