# SPDX-License-Identifier: Apache-2.0
"""The editor of a batch: which rows are taken out, filled or kept, and the records of it.

What cannot be true is taken out first, then wrong signs are turned, then gaps are filled. Only rows
that need it are looked at one by one. The same rows and the same history give the same records.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from meters.readings import MAX_WH, NULL_WH, Quality, Readings
from meters.validation import DEFAULT_CAPACITY_W
from meters.vee import rules
from meters.vee.flags import Flag, batch_flags, day_flags
from meters.vee.history import Columns, History, IntArray, series
from meters.vee.records import EditRecord, Values, values_of
from meters.vee.signs import past_days, sign_evidence
from meters.vee.table import CHUNK_METERS, BoolArray, Table, runs

_LONGEST_PEAK_DAYS = 28


class Registers(Protocol):
    """What is known of a meter's registers besides its readings."""

    def energy(self, meter: int, first_slot: int, slots: int) -> tuple[int | None, int | None]:
        """Import and export Wh between two reads at the edges of the slots, None if unknown."""
        ...


@dataclass(frozen=True)
class Edited:
    """A batch after editing.

    records are in the order of meter, slot and step. An edited row has no signature: what the
    device signed stands in its record. flags change nothing.
    """

    readings: Readings
    records: tuple[EditRecord, ...]
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True)
class Editor:
    """Edits a zone's batches.

    capacity_w: connections in W, one for all or per meter; registers: reads of the cumulative
    registers, where there are any; with_flags: whether to look for what is only suspicious;
    with_day_flags: also once a day for what only a whole day shows, at the batch that ends it.
    """

    capacity_w: int | Mapping[int, int] = DEFAULT_CAPACITY_W
    registers: Registers | None = None
    with_flags: bool = True
    with_day_flags: bool = True

    def __call__(self, complete: Readings, history: History) -> Edited:
        """The batch with what can be mended mended.

        complete: one row per meter and slot of the batch, sorted by meter, then slot, signatures
        checked. history: the zone's committed rows before it. BadUse for rows in another order.
        """
        table = Table.of(complete)
        if not len(complete):
            return Edited(complete, ())
        try:
            return self._edit(complete, table, history)
        finally:
            history.forget()

    def _edit(self, complete: Readings, table: Table, history: History) -> Edited:
        work = _Work(complete, table, history, self._limits(table.meters))
        work.take_out()
        work.turn_signs()
        work.fill(self.registers)
        work.keep_estimates()
        readings, records = work.result()
        flags: list[Flag] = []
        if self.with_flags:
            now = work.now()
            flags += batch_flags(now, history)
            if self.with_day_flags and (now.first_slot + now.slots) % SLOTS_PER_DAY == 0:
                flags += day_flags(now, history)
        return Edited(readings, records, tuple(sorted(flags)))

    def _limits(self, meters: IntArray) -> IntArray:
        """The most Wh of a slot, (meters,)."""
        if isinstance(self.capacity_w, int):
            return np.full(len(meters), _wh_of(self.capacity_w), dtype=np.int64)
        watts = self.capacity_w
        return np.array(
            [_wh_of(watts.get(meter, DEFAULT_CAPACITY_W)) for meter in meters.tolist()],
            dtype=np.int64,
        )


def _wh_of(watts: int) -> int:
    return min(watts * SLOT_SECONDS // 3600, MAX_WH)


@dataclass
class _Work:
    """One batch while it is edited."""

    readings: Readings
    table: Table
    history: History
    limits: IntArray

    def __post_init__(self) -> None:
        table = self.table
        self.import_wh = table.import_wh.copy()
        self.export_wh = table.export_wh.copy()
        self.quality = table.quality.copy()
        self.changed = np.zeros(table.quality.shape, dtype=bool)
        self.above = np.zeros(table.quality.shape, dtype=bool)
        self.records: dict[tuple[int, int], list[EditRecord]] = defaultdict(list)

    # the steps

    def take_out(self) -> None:
        """What the device itself calls invalid, or the connection cannot carry, becomes missing."""
        invalid = self.quality == Quality.INVALID
        limit = self.limits[:, None]
        self.above = ~invalid & (
            ((self.import_wh > limit) & (self.import_wh != NULL_WH))
            | ((self.export_wh > limit) & (self.export_wh != NULL_WH))
        )
        for row, at in _cells(invalid):
            self._edit(row, at, "invalid_at_source", {"signed": self._signed(row, at)})
        for row, at in _cells(self.above):
            inputs = {"signed": self._signed(row, at), "capacity_wh": int(self.limits[row])}
            self._edit(row, at, "above_capacity", inputs)

    def turn_signs(self) -> None:
        """Import and export change places where the home's last two weeks leave no doubt."""
        if self.table.slots < rules.SWAP_DECISIVE:
            return
        found = []
        for rows, part in self.now().chunks():
            past = past_days(self.history, part.meters, part.first_slot, part.slots)
            evidence = sign_evidence(part, past)
            for row in np.flatnonzero(evidence.is_strong).tolist():
                counts = {
                    name: int(getattr(evidence, name)[row])
                    for name in ("decisive", "against", "hours", "level")
                }
                found.append((rows.start + row, counts))
        for row, counts in found:
            for at in np.flatnonzero(self.quality[row] == Quality.MEASURED).tolist():
                self._edit(row, at, "sign_swapped", {"signed": self._signed(row, at), **counts})

    def fill(self, registers: Registers | None) -> None:
        """Fill what is missing, as far as anything is known about it."""
        gaps = [_Gap(*run) for run in runs(self.quality == Quality.MISSING)]
        for group in _by_meters(gaps):
            past = _Past(self.table, self.history, sorted({gap.row for gap in group}))
            for gap in (piece for whole in group for piece in self._pieces(whole, past)):
                if not (self._fill_energy(gap, registers, past) or self._fill_line(gap, past)):
                    self._fill_like(gap, past)

    def keep_estimates(self) -> None:
        """A value that the device estimated stays as it was signed; its record says so."""
        estimated = ~self.changed & (
            (self.quality == Quality.ESTIMATED) | (self.quality == Quality.SUBSTITUTED)
        )
        for row, at in _cells(estimated):
            values = self._values(row, at)
            inputs = {"signed": self._signed(row, at)}
            self._note(row, at, "estimated_at_source", inputs, values, values)

    def result(self) -> tuple[Readings, tuple[EditRecord, ...]]:
        changed = self.changed.reshape(-1)
        whole = self.readings
        if changed.any():
            whole = replace(
                whole,
                import_wh=self.import_wh.reshape(-1),
                export_wh=self.export_wh.reshape(-1),
                quality=self.quality.reshape(-1).astype(np.uint8),
                **{
                    name: _cleared(getattr(whole, name), changed)
                    for name in ("signature", "sequence", "previous")
                },
            )
        return whole, tuple(
            record for place in sorted(self.records) for record in self.records[place]
        )

    # gaps

    def _pieces(self, gap: _Gap, past: _Past) -> Iterator[_Gap]:
        """A gap that ends with its own energy is one, whatever comes after it."""
        first = gap.first
        for at in np.flatnonzero(self.above[gap.row, gap.first : gap.end]).tolist():
            piece = _Gap(gap.row, first, gap.first + at + 1)
            if self._caught_up(piece, past) != (None, None):
                yield piece
                first = piece.end
        if first < gap.end:
            yield _Gap(gap.row, first, gap.end)

    def _fill_energy(self, gap: _Gap, registers: Registers | None, past: _Past) -> bool:
        """Share out the energy of the gap, where it is known."""
        meter, first = int(self.table.meters[gap.row]), self.table.first_slot + gap.first
        energy: tuple[int | None, int | None] = (None, None)
        source = "registers"
        if registers is not None:
            energy = registers.energy(meter, first, gap.slots)
        if energy == (None, None):
            energy, source = self._caught_up(gap, past), "catch_up"
        most = int(self.limits[gap.row]) * gap.slots
        if energy == (None, None) or any(wh is not None and not 0 <= wh <= most for wh in energy):
            return False
        sums = [
            None if wh is None else self._weights(gap, wh, channel, past)
            for channel, wh in enumerate(energy)
        ]
        for step, at in enumerate(range(gap.first, gap.end)):
            weights = [None if s is None else [s[step], s[step + 1], s[-1]] for s in sums]
            inputs = {
                "source": source,
                "first": first,
                "slots": gap.slots,
                "energy": list(energy),
                "weights": weights,
            }
            self._edit(gap.row, at, "gap_energy", inputs)
        return True

    def _caught_up(self, gap: _Gap, past: _Past) -> tuple[int | None, int | None]:
        """The value that ends a gap, where one slot cannot hold it but the whole gap can.

        Nothing before the gap may be missing too, and the mean must be below what the home has
        drawn in a slot before: else the value is a fault like any other.
        """
        if gap.slots < 2 or not self.above[gap.row, gap.end - 1]:
            return None, None
        if not self._neighbour(gap.row, gap.first - 1, past):
            return None, None
        peaks = past.peaks(gap.row)
        found: list[int | None] = []
        for column, peak in zip((self.table.import_wh, self.table.export_wh), peaks, strict=True):
            value = int(column[gap.row, gap.end - 1])
            found.append(None if value == NULL_WH else value)
            if value != NULL_WH and value > peak * gap.slots:
                return None, None
        return found[0], found[1]

    def _weights(self, gap: _Gap, energy: int, channel: int, past: _Past) -> list[int]:
        """Running sums of the gap's shape on like days; an even shape where that is unknown."""
        shape = [past.mean_like(gap.row, at, channel) for at in range(gap.first, gap.end)]
        weights = [weight for weight in shape if weight is not None]
        sums = np.concatenate([[0], np.cumsum(weights)]).tolist()
        even = list(range(gap.slots + 1))
        if len(weights) < gap.slots or sums[-1] == 0:
            return even
        parts = [rules.share(energy, a, b, sums[-1]) for a, b in pairwise(sums)]
        return even if max(parts) > self.limits[gap.row] else sums

    def _fill_line(self, gap: _Gap, past: _Past) -> bool:
        if gap.slots > rules.LINEAR_SLOTS:
            return False
        left = self._neighbour(gap.row, gap.first - 1, past)
        right = self._neighbour(gap.row, gap.end, past)
        if (
            not left
            or not right
            or all(None in pair for pair in zip(left[1:], right[1:], strict=True))
        ):
            return False
        for at in range(gap.first, gap.end):
            self._edit(gap.row, at, "gap_linear", {"left": left, "right": right})
        return True

    def _neighbour(self, row: int, at: int, past: _Past) -> list[int | None]:
        """Slot, import and export of a measured row beside a gap; nothing if it is not measured."""
        if at >= self.table.slots:
            return []
        values = past.before(row) if at < 0 else self._values(row, at)
        if values[2] != Quality.MEASURED or values[:2] == (None, None):
            return []
        return [self.table.first_slot + at, values[0], values[1]]

    def _fill_like(self, gap: _Gap, past: _Past) -> None:
        for at in range(gap.first, gap.end):
            days = past.like(gap.row, at)
            if days:
                self._edit(gap.row, at, "gap_like_days", {"days": days})

    # rows

    def _values(self, row: int, at: int) -> Values:
        return values_of(self.import_wh[row, at], self.export_wh[row, at], self.quality[row, at])

    def _edit(self, row: int, at: int, rule: str, inputs: dict[str, Any]) -> None:
        """Put the rule's result into the row, and the step on record."""
        before = self._values(row, at)
        result = rules.RULES[rule, 1].apply(self.table.first_slot + at, before, inputs)
        self._note(row, at, rule, inputs, before, result)
        imported, exported, quality = result
        self.import_wh[row, at] = NULL_WH if imported is None else imported
        self.export_wh[row, at] = NULL_WH if exported is None else exported
        self.quality[row, at] = quality
        self.changed[row, at] = True

    def _note(
        self, row: int, at: int, rule: str, inputs: dict[str, Any], before: Values, result: Values
    ) -> None:
        meter, slot = int(self.table.meters[row]), self.table.first_slot + at
        record = EditRecord(meter, slot, rule, 1, inputs, before, result)
        self.records[meter, slot].append(record)

    def _signed(self, row: int, at: int) -> dict[str, Any] | None:
        """What the device signed for a row, all of it, so that its signature can be checked."""
        i = row * self.table.slots + at
        whole = self.readings
        if not whole.signature[i].any():
            return None
        imported, exported, quality = values_of(
            whole.import_wh[i], whole.export_wh[i], whole.quality[i]
        )
        return {
            "import_wh": imported,
            "export_wh": exported,
            "quality": quality,
            "sequence": int(whole.sequence[i]),
            "previous": whole.previous[i].tobytes().hex(),
            "signature": whole.signature[i].tobytes().hex(),
        }

    def now(self) -> Table:
        """The batch as far as it is edited."""
        return replace(
            self.table, import_wh=self.import_wh, export_wh=self.export_wh, quality=self.quality
        )


@dataclass(frozen=True)
class _Gap:
    """Columns [first, end) of one row."""

    row: int
    first: int
    end: int

    @property
    def slots(self) -> int:
        return self.end - self.first


class _Past:
    """What some meters showed before the batch, read when it is first asked for."""

    def __init__(self, table: Table, history: History, rows: list[int]) -> None:
        self._table = table
        self._history = history
        self._meters = table.meters[rows]
        self._at = {row: at for at, row in enumerate(rows)}
        self._read: dict[int, Columns] = {}
        self._last: Columns | None = None
        self._peaks: dict[int, tuple[int, int]] = {}

    def before(self, row: int) -> Values:
        """The row right before the batch."""
        if self._last is None:
            self._last = self._history.block(self._meters, self._table.first_slot - 1, 1)
        return values_of(*(column[self._at[row], 0] for column in self._last))

    def like(self, row: int, at: int) -> list[list[int | None]]:
        """Slot, import and export of the like days to fill from; empty if too few are known."""
        for days, least in (
            (rules.LIKE_WEEKS, rules.LIKE_WEEKS_LEAST),
            (rules.LIKE_DAYS, rules.LIKE_DAYS_LEAST),
        ):
            found: list[list[int | None]] = []
            for day in days:
                imported, exported, quality = self._on(day, row, at)
                if quality == Quality.MEASURED and (imported, exported) != (None, None):
                    slot = self._table.first_slot + at - day * SLOTS_PER_DAY
                    found.append([slot, imported, exported])
            if any(sum(day[c] is not None for day in found) >= least for c in (1, 2)):
                return found
        return []

    def mean_like(self, row: int, at: int, channel: int) -> int | None:
        """The mean of the like days in Wh; channel 0 imports, 1 exports."""
        values = [day[channel + 1] for day in self.like(row, at)]
        known = [value for value in values if value is not None]
        return rules.rounded(sum(known), len(known)) if known else None

    def peaks(self, row: int) -> tuple[int, int]:
        """The most that was ever measured in a slot of the last four weeks: import, export."""
        if row not in self._peaks:
            slots = _LONGEST_PEAK_DAYS * SLOTS_PER_DAY
            meter = int(self._meters[self._at[row]])
            first = self._table.first_slot - slots
            imported, exported, quality = series(self._history, meter, first, slots)
            measured = quality == Quality.MEASURED
            self._peaks[row] = (
                int(imported[measured & (imported != NULL_WH)].max(initial=0)),
                int(exported[measured & (exported != NULL_WH)].max(initial=0)),
            )
        return self._peaks[row]

    def _on(self, day: int, row: int, at: int) -> Values:
        if day not in self._read:
            first = self._table.first_slot - day * SLOTS_PER_DAY
            self._read[day] = self._history.block(self._meters, first, self._table.slots)
        return values_of(*(column[self._at[row], at] for column in self._read[day]))


def _by_meters(gaps: list[_Gap]) -> Iterator[list[_Gap]]:
    """Gaps, sorted by row, in groups of as many meters as are read together."""
    group: list[_Gap] = []
    rows: set[int] = set()
    for gap in gaps:
        if gap.row not in rows and len(rows) == CHUNK_METERS:
            yield group
            group, rows = [], set()
        group.append(gap)
        rows.add(gap.row)
    if group:
        yield group


def _cells(mask: BoolArray) -> list[tuple[int, int]]:
    rows, columns = np.nonzero(mask)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _cleared(column: np.ndarray, rows: np.ndarray) -> np.ndarray:
    made = column.copy()
    made[rows] = 0
    return made
