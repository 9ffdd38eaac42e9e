# SPDX-License-Identifier: Apache-2.0
"""A dossier's content as the chapters read it: columns, sums by hour, day or week, and words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from dao.audit.report.blocks import Block, paragraph
from dao.audit.report.words import Words
from dao.slots import SLOTS_PER_DAY, day_of, slot_start

if TYPE_CHECKING:
    from dao.audit.package import Content
    from dao.audit.scope import Period

Masked = np.ma.MaskedArray[Any, Any]


def total(values: Masked) -> int:
    """The sum of what is known."""
    return int(values.filled(0).sum())


_UNKNOWN: dict[str, Any] = {"value": None, "before": None, "unit": ""}
MOST_ROWS = 30
"""Of a table in the report; the data have all."""
HOURS_UNTIL, DAYS_UNTIL = 3, 62
"""Periods of so many days are drawn by hour, or by day; longer ones by week."""


@dataclass(frozen=True)
class Bins:
    """Spans of equal length that a chart's values are summed over. name: hour, day or week."""

    name: str
    slots: int
    labels: tuple[str, ...]

    @staticmethod
    def of(period: Period, words: Words) -> Bins:
        """As fine as a page can show."""
        days = period.slots // SLOTS_PER_DAY
        if days <= HOURS_UNTIL:
            labels = []
            for hour in range(24 * days):
                start = slot_start(period.first_slot + 4 * hour)
                clock = f"{start:%H}"
                labels.append(clock if hour % 24 else words.short_day(start.date()))
            return Bins("hour", 4, tuple(labels))
        name, length = ("day", 1) if days <= DAYS_UNTIL else ("week", 7)
        first = day_of(period.first_slot)
        starts = (first + timedelta(days=at) for at in range(0, days, length))
        return Bins(name, length * SLOTS_PER_DAY, tuple(words.short_day(day) for day in starts))


class Reader:
    """Content, words and bins of one report."""

    def __init__(self, content: Content) -> None:
        self.content = content
        self.scope = content.scope
        self.period = content.scope.period
        self.words = Words(content.scope.language)
        self.bins = Bins.of(self.period, self.words)

    @cached_property
    def figures(self) -> dict[str, dict[str, Any]]:
        """Key figures by name."""
        return {row["name"]: row for row in self.rows("figures")}

    def value(self, name: str) -> int | None:
        """A key figure."""
        found: int | None = self.figures.get(name, _UNKNOWN)["value"]
        return found

    def shown(self, name: str) -> str:
        """A key figure as people read it."""
        row = self.figures.get(name, _UNKNOWN)
        return self.words.figure(row["value"], row["unit"])

    def change(self, name: str) -> str:
        """A key figure against the period before."""
        row = self.figures.get(name, _UNKNOWN)
        return self.words.change(row["value"], row["before"], row["unit"])

    def rows(self, table: str) -> list[dict[str, Any]]:
        """A table, row by row: for small ones."""
        found: list[dict[str, Any]] = self.content.tables[table].to_pylist()
        return found

    def count(self, table: str) -> int:
        """How many rows a table has."""
        return int(self.content.tables[table].num_rows)

    def ints(self, table: str, column: str) -> Masked:
        """A column of integers; what is not known is masked."""
        found = self.content.tables[table][column].combine_chunks()
        return np.ma.MaskedArray(np.asarray(found.fill_null(0)), mask=np.asarray(found.is_null()))

    def texts(self, table: str, column: str) -> list[Any]:
        """A column of texts or flags."""
        return list(self.content.tables[table][column].to_pylist())

    def by_slot(self, table: str, column: str, slot: str = "slot") -> Masked:
        """A column laid on the period's slots; masked where the table has none."""
        values = self.ints(table, column)
        places = self.ints(table, slot).filled(0) - self.period.first_slot
        found = np.ma.masked_all(self.period.slots, dtype=np.int64)
        inside = (places >= 0) & (places < self.period.slots)
        found[places[inside]] = values[inside]
        return found

    def by_bin(self, values: Masked) -> list[int | None]:
        """Sums over bins of values by slot; None where nothing is known."""
        return [total(part) if part.count() else None for part in self.parts(values)]

    def bin_of(self, slot: int) -> int:
        """The bin that a slot lies in."""
        return (slot - self.period.first_slot) // self.bins.slots

    def parts(self, values: Masked) -> list[Masked]:
        """Values by slot, bin by bin."""
        step = self.bins.slots
        return [values[at : at + step] for at in range(0, self.period.slots, step)]

    @property
    def axis(self) -> Callable[[float, float], str]:
        """Numbers of an axis, all with the decimals that their step needs."""

        def shown(value: float, step: float) -> str:
            hundredths = round(step * 100)
            places = 0 if hundredths % 100 == 0 else 1 if hundredths % 10 == 0 else 2
            return self.words.decimal(round(value * 100), 100, places)

        return shown


def more(reader: Reader, shown: int, rows: int, file: str) -> list[Block]:
    """That a table was cut, and where the rest is."""
    if rows <= shown:
        return []
    text = reader.words("more", left=reader.words.integer(rows - shown), file=file)
    return [paragraph(text, small=True)]
