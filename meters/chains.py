# SPDX-License-Identifier: Apache-2.0
"""A metering point's chain of readings as the collector knows it: its head, and where it has gaps.

A reading either follows the head, leaves a gap before it, fills a gap, breaks the chain, or uses a
number again. To know that, the head and two links per gap are enough; no reading is kept here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from meters.readings import Readings
from meters.signing import Head


@dataclass(frozen=True)
class Gap:
    """Numbers that never arrived, `first` to `last`; between the link of the reading before them
    and the link that the reading after them names."""

    first: int
    last: int
    link: bytes
    previous: bytes


@dataclass(frozen=True)
class Break:
    """Why a reading does not belong to a chain: the rule (`validation.RULES`), the number of the
    reading that it contradicts, and for `previous` the link between the two that holds."""

    rule: str
    number: int
    link: bytes | None = None


class Gaps(Protocol):
    """Where one meter's gaps are kept: there may be many, and few are looked at."""

    def around(self, sequence: int) -> Gap | None:
        """The gap that this number lies in."""
        ...

    def replace(self, gap: Gap | None, by: Sequence[Gap]) -> None:
        """Put these gaps in the place of one, or beside the others."""
        ...


class Chain:
    """One meter's chain. `add` moves it on."""

    def __init__(self, head: Head, gaps: Gaps) -> None:
        self.head = head
        self._gaps = gaps

    def judge(self, sequence: int, previous: bytes, link: bytes) -> Break | None:
        """What a reading with this number and these links breaks; None where it belongs here."""
        if sequence > self.head.sequence:
            follows = sequence == self.head.sequence + 1
            if follows and previous != self.head.link:
                return Break("previous", sequence - 1, self.head.link)
            return None
        gap = self._gaps.around(sequence)
        if gap is None:
            return Break("sequence", sequence)
        if sequence == gap.first and previous != gap.link:
            return Break("previous", sequence - 1, gap.link)
        if sequence == gap.last and link != gap.previous:
            return Break("previous", sequence + 1, gap.previous)
        return None

    def add(self, sequence: int, previous: bytes, link: bytes) -> None:
        """Take in a reading that `judge` found to belong to the chain."""
        first = self.head.sequence + 1
        if sequence >= first:
            if sequence > first:
                self._gaps.replace(None, [Gap(first, sequence - 1, self.head.link, previous)])
            self.head = Head(sequence, link)
            return
        gap = self._gaps.around(sequence)
        if gap is None:
            raise ValueError(f"number {sequence} is taken")
        left: list[Gap] = []
        if gap.first < sequence:
            left.append(Gap(gap.first, sequence - 1, gap.link, previous))
        if sequence < gap.last:
            left.append(Gap(sequence + 1, gap.last, link, gap.previous))
        self._gaps.replace(gap, left)


def unbroken(readings: Readings, links: np.ndarray, heads: Mapping[int, Head]) -> np.ndarray:
    """Which rows belong to meters whose rows all follow their head one by one, bool (n,).

    Rows are sorted by meter and sequence; links: uint8 (n, 32). A quarter-hour of a large zone is
    nearly all like this, and needs no look at a single row.
    """
    n = len(readings)
    if not n:
        return np.zeros(0, dtype=bool)
    begins = np.append(True, readings.meter[1:] != readings.meter[:-1])
    first = np.flatnonzero(begins)
    known = [heads.get(meter, Head.NONE) for meter in readings.meter[first].tolist()]
    before = np.empty(n, dtype=np.int64)
    before[1:] = readings.sequence[:-1]
    before[first] = [head.sequence for head in known]
    expected = np.empty_like(links)
    expected[1:] = links[:-1]
    expected[first] = np.frombuffer(b"".join(head.link for head in known), np.uint8).reshape(-1, 32)
    good = (readings.sequence == before + 1) & (readings.previous == expected).all(axis=1)
    group = np.cumsum(begins) - 1
    whole: np.ndarray = np.logical_and.reduceat(good, first)[group]
    return whole
