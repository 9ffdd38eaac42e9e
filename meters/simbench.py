# SPDX-License-Identifier: Apache-2.0
"""Reads one low-voltage grid of the installed `simbench` package: its elements and year profiles.

What homes and meters make of it lives in `profiles.py`. SimBench's data is under the ODbL and stays
in the package it came in; only a cache in the state folder holds an extract.

Conventions of the data, as found in it: `load` is positive when it consumes, `sgen` is positive
when it generates, `storage` is positive when it charges, all in MW over the quarter-hour that
*begins* at the stamp. A storage's profile (`Storage_PV3_H0-A`) is never positive and sums up to far
below zero: it carries a solar roof *and* its battery, the battery already covering the evening
load of the named household shape.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from dao.errors import BadUse, CheckFailed
from dao.slots import slot_of

LOCAL_ZONE = ZoneInfo("Europe/Berlin")
YEAR_SLOTS = 366 * 96  # SimBench's profile year is 2016

# One more whenever the extract below changes: an older cache is then simply not found.
CACHE_VERSION = 1

_NOT_INSTALLED = "the package simbench is not installed; make demo installs it"
_GRIDS = ("rural1", "rural2", "rural3", "semiurb4", "semiurb5", "urban6")


def known_codes() -> tuple[str, ...]:
    """Every code of a SimBench low-voltage grid: the zones this package can play."""
    return tuple(
        f"1-LV-{grid}--{scenario}-{switches}"
        for grid in _GRIDS
        for scenario in (0, 1, 2)
        for switches in ("sw", "no_sw")
    )


@dataclass(frozen=True)
class Element:
    """One load, generator or storage. `power_mw` scales its profile, whose sign it keeps."""

    bus: int
    power_mw: float
    profile: str


@dataclass(frozen=True)
class Grid:
    """What a zone needs of a SimBench grid.

    `values` holds one profile per column, relative to an element's `power_mw`, float64 of shape
    (35136, profiles), one row per UTC slot from `first_slot`; `profiles` names the columns.
    """

    code: str
    bus_names: dict[int, str]
    loads: tuple[Element, ...]
    generators: tuple[Element, ...]
    storages: tuple[Element, ...]
    first_slot: int
    profiles: tuple[str, ...]
    values: np.ndarray


def slots_of_local_stamps(stamps: Sequence[str]) -> np.ndarray:
    """SimBench's local stamps (`27.03.2016 03:00`, in order) as UTC slots, int64.

    German clocks skip an hour in March and repeat one in October. Of a repeated hour the second
    pass is the one whose stamp does not lie after the stamp before it.
    """
    slots = np.empty(len(stamps), dtype=np.int64)
    previous: datetime | None = None
    fold = 0
    for i, stamp in enumerate(stamps):
        naive = datetime.strptime(stamp, "%d.%m.%Y %H:%M")
        if previous is not None and naive <= previous:
            fold = 1
        elif previous is not None and naive - previous > timedelta(minutes=15):
            fold = 0
        moment = naive.replace(tzinfo=LOCAL_ZONE, fold=fold)
        # `fold` only matters inside the repeated hour; once past it, it has no effect.
        slots[i] = slot_of(moment.astimezone(UTC))
        previous = naive
    return slots


def load_grid(code: str, cache: Path | None = None) -> Grid:
    """The grid `code`, from `cache` (a folder) if it has been extracted before.

    The first extraction takes some ten seconds, most of it importing simbench; afterwards the cache
    file is read in a fraction of a second. Raises BadUse for an unknown code.
    """
    if code not in known_codes():
        raise BadUse(
            f"unknown zone {code!r}: it is not one of SimBench's {len(known_codes())} low-voltage "
            "grids; list them with: python -c "
            '"from meters.simbench import known_codes; print(*known_codes())"'
        )
    if cache is None:
        return _extract(code)
    try:
        release = metadata.version("simbench")
    except metadata.PackageNotFoundError as error:
        raise CheckFailed(_NOT_INSTALLED) from error
    file = Path(cache) / f"simbench-{release}-v{CACHE_VERSION}-{code}.npz"
    grid = _read_cache(file)
    if grid is None:
        grid = _extract(code)
        _write_cache(file, grid)
    return grid


def _extract(code: str) -> Grid:
    with _quiet():
        try:
            import simbench
        except ImportError as error:
            raise CheckFailed(
                "the package simbench is not installed; make demo installs it"
            ) from error
        net = simbench.get_simbench_net(code)

    tables = net.profiles
    slots = slots_of_local_stamps(tables["load"]["time"].tolist())
    if len(slots) != YEAR_SLOTS or not np.array_equal(np.diff(slots), np.ones(YEAR_SLOTS - 1)):
        raise CheckFailed(f"SimBench's time axis of {code} is not one year of quarter-hours")

    loads = tuple(_elements(net.load))
    generators = tuple(_elements(net.sgen))
    storages = tuple(_elements(net.storage))
    columns: dict[str, np.ndarray] = {}
    for elements, table, suffix in (
        (loads, "load", "_pload"),
        (generators, "renewables", ""),
        (storages, "storage", ""),
    ):
        for name in sorted({element.profile for element in elements}):
            columns[name] = tables[table][name + suffix].to_numpy(dtype=np.float64)
    # One charger shape carries a few values of -0.00001: noise, not generation.
    for name in {element.profile for element in loads}:
        columns[name] = np.maximum(columns[name], 0.0)
    return Grid(
        code=code,
        bus_names={int(bus): str(name) for bus, name in net.bus["name"].items()},
        loads=loads,
        generators=generators,
        storages=storages,
        first_slot=int(slots[0]),
        profiles=tuple(columns),
        values=np.column_stack(list(columns.values())),
    )


def _elements(table: Any) -> Iterator[Element]:
    for row in table[table["in_service"]].itertuples():
        yield Element(int(row.bus), float(row.p_mw) * float(row.scaling), str(row.profile))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep simbench's deprecation notes and pandapower's log off the user's screen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _write_cache(file: Path, grid: Grid) -> None:
    """Write whole or not at all: a second process may be reading, or writing the same."""
    about = asdict(grid)
    del about["values"]
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.stem}-", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as out:
            np.savez(out, about=np.array(json.dumps(about)), values=grid.values)
            out.flush()
            os.fsync(out.fileno())
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _read_cache(file: Path) -> Grid | None:
    """The cached grid; None if there is none, or it cannot be read (it is then made anew)."""
    try:
        with np.load(file, allow_pickle=False) as data:
            about = json.loads(str(data["about"]))
            values = data["values"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        logging.getLogger(__name__).warning("cache %s is damaged and is made anew", file)
        return None
    return Grid(
        code=about["code"],
        bus_names={int(bus): name for bus, name in about["bus_names"].items()},
        loads=tuple(Element(**e) for e in about["loads"]),
        generators=tuple(Element(**e) for e in about["generators"]),
        storages=tuple(Element(**e) for e in about["storages"]),
        first_slot=about["first_slot"],
        profiles=tuple(about["profiles"]),
        values=values,
    )
