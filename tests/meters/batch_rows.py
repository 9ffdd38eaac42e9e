# SPDX-License-Identifier: Apache-2.0
"""Rows, leaves and edit records that the tests of the lake and of privacy are built from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from dao.slots import first_slot_of_day
from meters.devices import Fleet
from meters.lake import batch_path, write_batch
from meters.readings import NULL_WH, Quality, Readings
from meters.registry import KeyPeriods
from meters.signing import Head, reading_separator, sign_chains

DAY = first_slot_of_day(date(2016, 6, 1))
SEPARATOR = reading_separator(31337, "0x" + "42" * 20)


@dataclass(frozen=True)
class Edit:
    """An edit record as far as the lake and the leaves look at it."""

    meter: int
    slot: int
    inputs: dict[str, Any] = field(default_factory=dict)

    def canonical(self) -> bytes:
        fields = {"inputs": self.inputs, "meter": self.meter, "slot": self.slot}
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def rows(first_slot: int, slots: int, homes: int, seed: int = 1) -> Readings:
    """Made-up rows that look signed, each outside any chain."""
    random = np.random.default_rng(seed)
    n = homes * slots
    return Readings.columns(
        np.repeat(np.arange(1, homes + 1), slots),
        np.tile(np.arange(first_slot, first_slot + slots), homes),
        random.integers(0, 1000, n),
        random.integers(0, 1000, n),
        signature=random.integers(1, 255, (n, 65)),
    )


def chained(
    first_slot: int,
    slots: int,
    homes: int,
    seed: int = 1,
    heads: dict[int, Head] | None = None,
    values: tuple[np.ndarray, np.ndarray] | None = None,
) -> Readings:
    """The same rows, or others' import and export, really signed by `fleet(homes)` as chains."""
    plain = rows(first_slot, slots, homes, seed)
    if values is not None:
        plain.import_wh[:], plain.export_wh[:] = (part.reshape(-1) for part in values)
    return sign_chains(
        {gateway.meter: gateway.key for gateway in fleet(homes).gateways},
        SEPARATOR,
        plain,
        heads or {},
    )


def fleet(homes: int) -> Fleet:
    return Fleet.of(7, range(1, homes + 1))


def keys(homes: int) -> KeyPeriods:
    """The devices' keys, valid from ever on."""
    return KeyPeriods.fixed(fleet(homes).devices)


def filed(
    lake: Path,
    zone: int,
    first_slot: int,
    slots: int,
    *content: Any,
    version: int = 1,
    separator: bytes | None = None,
) -> Path:
    """Write a batch; where it lies. content: readings, leaves, records and their leaves."""
    place = (lake, zone, first_slot, slots)
    write_batch(*place, *content, version=version, separator=separator)
    return batch_path(*place, version)


def leaves(n: int) -> list[bytes]:
    return [i.to_bytes(32, "big") for i in range(n)]


def missing(readings: Readings, at: np.ndarray | Sequence[int]) -> Readings:
    """The readings with nothing known in some rows, which nobody signs."""
    at = np.asarray(at)
    readings.import_wh[at] = NULL_WH
    readings.export_wh[at] = NULL_WH
    readings.quality[at] = Quality.MISSING
    readings.signature[at] = 0
    readings.sequence[at] = 0
    readings.previous[at] = 0
    return readings
