# SPDX-License-Identifier: Apache-2.0
"""Batches: which readings count, edited where an editor is given, as a file in the lake and a root.

Works on the collector's inbox, inside its transactions where it says so. The file is written before
its root is noted, so a note without its file cannot exist. Publishing is in `publishing.py`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dao.errors import CheckFailed, GridCommonsError
from dao.slots import SLOT_SECONDS
from meters import frames
from meters.counting import changed_homes, complete, keyed, newest
from meters.inbox import Closed, Inbox, State
from meters.lake import (
    MIN_HOMES,
    Batch,
    Lake,
    LakeLike,
    StoredBatch,
    batch_path,
    check_range,
    leaves_hold,
    read_batch,
    totals_of,
    write_batch,
)
from meters.leaves import leaves_of, record_leaves, root_of_leaves
from meters.readings import Readings
from meters.registry import KeyPeriods, verified
from meters.secrets import MonthSecrets

if TYPE_CHECKING:
    from meters.vee.history import History

# Files of committed batches that stay in memory to compare what arrives again.
_FILES_KEPT = 2


class Edited(Protocol):
    """What an editor gives: the rows, and a record of every edit by meter, slot and number."""

    @property
    def readings(self) -> Readings: ...
    @property
    def records(self) -> Sequence[Any]: ...


Editor = Callable[[Readings, Any], Edited]
"""Takes a batch with one row per meter and slot, sorted, and the history before it. An edited row
has no signature."""


@dataclass(frozen=True)
class _Whole:
    """A batch before and after editing, with its tree."""

    signed: Readings
    readings: Readings
    records: Sequence[Any]
    leaves: list[bytes]
    record_leaves: list[bytes]
    root: bytes


class Batches:
    """The batches of one collector's inbox.

    editor: mends what is missing or impossible, with records; history: what it may look at, by
    default the zone's lake.
    """

    def __init__(
        self,
        zone: int,
        keys: KeyPeriods,
        secrets: MonthSecrets,
        separator: bytes,
        lake: LakeLike,
        inbox: Inbox,
        editor: Editor | None,
        history: History | None,
    ) -> None:
        self._zone = zone
        self._keys = keys
        self._secrets = secrets
        self._separator = separator
        self._lake = lake
        self._store = Lake.of(lake)
        self._inbox = inbox
        self._editor = editor
        self._history = history
        self._files: OrderedDict[tuple[int, int], Readings] = OrderedDict()
        if editor is not None and history is None:
            from meters.vee.history import LakeHistory

            self._history = LakeHistory(lake, zone)

    # closing

    def close(self, first_slot: int, slots: int) -> Batch:
        """See `Collector.close_batch`."""
        check_range(first_slot, slots)
        with self._inbox.transaction():
            before = self.closed_as(first_slot, slots)
            if before is not None:
                return self._reread(before)
            rows = self._inbox.readings(first_slot, first_slot + slots)
            counted = self._set_aside(rows)
            return self._close(first_slot, slots, counted)

    def close_with(self, first_slot: int, slots: int, readings: Readings) -> Batch:
        """Close a batch of these verified readings, inside a transaction."""
        order = np.lexsort((readings.sequence, readings.meter, readings.slot))
        rows = readings.take(order)
        counts = newest(rows)
        self._inbox.put_beside(keyed(rows.take(~counts)), State.SUPERSEDED)
        return self._close(first_slot, slots, rows.take(counts))

    def again(self, batch: Closed, readings: Readings) -> Batch:
        """A closed batch, where these verified readings are those it was closed with.

        CheckFailed where they would give another: changed values enter as a correction.
        """
        stored = self._stored(batch)
        signed = stored.readings.take(stored.readings.signature.any(axis=1))
        counted = set(frames.cut(frames.records_of(signed)))
        first, end = batch.first_slot, batch.end_slot
        beside = [
            frames.records_of(self._inbox.beside(first, end, state))
            for state in (State.SUPERSEDED, State.EDITED, State.REVOKED)
        ]
        aside = {record for part in beside for record in frames.cut(part)}
        aside |= {item.record for item in self._inbox.evidence()}
        given = set(frames.cut(frames.records_of(readings)))
        if not counted <= given or not given <= counted | aside:
            raise CheckFailed(
                f"the batch of slots {first}..{end - 1} is closed with another root: changed "
                "values can only enter as a correction"
            )
        return self._batch(batch, stored.readings, len(stored.tree))

    def closed_as(self, first_slot: int, slots: int) -> Closed | None:
        """This very batch if it is closed, None if its slots are all open. CheckFailed if it
        overlaps another."""
        for batch in self._inbox.closed(first_slot, first_slot + slots):
            if (batch.first_slot, batch.slots) != (first_slot, slots):
                raise CheckFailed(
                    f"slots {first_slot}..{first_slot + slots - 1} overlap the closed batch of "
                    f"slots {batch.first_slot}..{batch.end_slot - 1}"
                )
            return batch
        return None

    def reopen(self, first_slot: int) -> None:
        """See `Collector.reopen_batch`."""
        with self._inbox.transaction():
            for batch in self._inbox.closed(first_slot, first_slot + 1):
                if batch.committed:
                    raise CheckFailed(f"the batch that starts at {first_slot} is committed")
                first, end = batch.first_slot, batch.end_slot
                late = keyed(self._inbox.beside(first, end, State.LATE))
                edited = keyed(self._inbox.beside(first, end, State.EDITED))
                # An edited reading was copied, a late one never stood among the others.
                self._inbox.drop("beside", [row[:3] for row in (*late, *edited)])
                self._inbox.add(late)
                self._inbox.forget_closed(first, 1)
                self._store.remove(self._path(batch))
                self._files.pop((first, 1), None)

    def mark_committed(self, batch: Batch) -> None:
        """See `Collector.mark_committed`."""
        first, end = batch.first_slot, batch.first_slot + batch.slots
        with self._inbox.transaction():
            known = self._inbox.closed(first, end, batch.version)
            if [(b.first_slot, b.slots, b.root) for b in known] != [
                (first, batch.slots, batch.root)
            ]:
                raise CheckFailed(
                    f"no batch of {batch.slots} slots from {first} was closed here with root "
                    f"0x{batch.root.hex()}"
                )
            self._inbox.note_committed(first, batch.version)
            if batch.version == 1:
                purged = self._inbox.purge(first, end)
            else:
                purged = self._settle_late(first, end)
        if purged:
            # Else the purged values would stand in the log until SQLite happens to reuse it.
            self._inbox.truncate_log()

    def _set_aside(self, rows: Readings) -> Readings:
        """The readings that count, of rows by slot, meter and sequence; the others are put
        beside: those that a newer one of the slot replaces, and those whose key was ended since."""
        revoked = self._revoked(rows)
        valid = rows.take(~revoked)
        counts = newest(valid)
        for part, state in (
            (valid.take(~counts), State.SUPERSEDED),
            (rows.take(revoked), State.REVOKED),
        ):
            self._inbox.put_beside(keyed(part), state)
            self._inbox.drop("reading", [key[:3] for key in keyed(part)])
        return valid.take(counts)

    def _revoked(self, rows: Readings) -> np.ndarray:
        """Which readings are no longer signed by a key that holds, bool (n,).

        Only two receipts that contradict each other end a key for the past.
        """
        # A meter that a reorganised chain no longer has is the other case.
        gone = np.isin(rows.meter, list(self._keys.conflicted))
        gone |= ~np.isin(rows.meter, self._keys.meters)
        if gone.any():
            good, _links = verified(rows.take(gone), self._keys, self._separator)
            gone[gone] = ~good
        return gone

    def _close(self, first_slot: int, slots: int, readings: Readings) -> Batch:
        whole = self._whole(first_slot, slots, readings)
        edited = whole.signed.signature.any(axis=1) & ~whole.readings.signature.any(axis=1)
        self._inbox.put_beside(keyed(whole.signed.take(edited)), State.EDITED)
        return self._keep(Closed(first_slot, slots, whole.root, False, version=1), whole)

    def _whole(self, first_slot: int, slots: int, readings: Readings) -> _Whole:
        end = (first_slot + slots) * SLOT_SECONDS
        meters = self._keys.meters_before(end)
        if not len(meters):
            raise CheckFailed(f"zone {self._zone} has no meters: there is nothing to commit")
        signed = complete(meters, first_slot, slots, readings)
        rows, records = signed, ()
        if self._editor is not None:
            edited = self._editor(signed, self._history)
            rows, records = edited.readings, tuple(edited.records)
        leaves, hashes = leaves_of(rows, self._secrets), record_leaves(records, self._secrets)
        return _Whole(signed, rows, records, leaves, hashes, root_of_leaves(leaves + hashes))

    def _keep(self, batch: Closed, whole: _Whole) -> Batch:
        """Write a batch's file, then note it."""
        what = f"the batch of slots {batch.first_slot}..{batch.end_slot - 1}"
        try:
            self._may_replace(batch, whole.signed, what)
            write_batch(
                self._lake,
                self._zone,
                batch.first_slot,
                batch.slots,
                whole.readings,
                whole.leaves,
                whole.records,
                whole.record_leaves,
                batch.version,
                separator=self._separator,
            )
        except OSError as error:
            raise CheckFailed(f"cannot write {what}: {error}") from error
        self._inbox.note_closed(batch.first_slot, batch.slots, batch.root, batch.version)
        return self._batch(batch, whole.readings, len(whole.leaves) + len(whole.record_leaves))

    def _may_replace(self, batch: Closed, signed: Readings, what: str) -> None:
        """A file that is there without a note is what a run left that broke off before the note:
        then its readings are all here. CheckFailed where it holds others."""
        path = self._path(batch)
        if not self._store.exists(path):
            return
        there = read_batch(path, self._store, separator=self._separator).readings
        parts = [part.take(part.signature.any(axis=1)) for part in (there, signed)]
        filed, known = ({*frames.cut(frames.records_of(part))} for part in parts)
        for state in State:
            aside = self._inbox.beside(batch.first_slot, batch.end_slot, state)
            known.update(frames.cut(frames.records_of(aside)))
        if not filed <= known:
            raise CheckFailed(
                f"the lake holds readings in {what} that this inbox does not know: another "
                "collector wrote it, or an inbox was lost; restore the inbox from the lake"
            )

    # files

    def filed(self, rows: Readings) -> set[bytes]:
        """The records that the files of closed batches have for the meters and slots of these
        rows, in all versions."""
        found: set[bytes] = set()
        if not len(rows):
            return found
        first, end = int(rows.slot.min()), int(rows.slot.max()) + 1
        for batch in self._inbox.closed(first, end, version=None):
            within = rows.take((rows.slot >= batch.first_slot) & (rows.slot < batch.end_slot))
            if not len(within):
                continue
            # A file has a row for every meter and slot, sorted.
            held = self._rows_of(batch)
            meters = held.meter[:: batch.slots]
            place = np.minimum(np.searchsorted(meters, within.meter), len(meters) - 1)
            at = place * batch.slots + within.slot - batch.first_slot
            part = held.take(at[meters[place] == within.meter])
            part = part.take(part.signature.any(axis=1))
            found.update(frames.cut(frames.records_of(part)))
        return found

    def forget_files(self) -> None:
        """Drop what was read of files, after an erasure."""
        self._files.clear()

    def _rows_of(self, batch: Closed) -> Readings:
        """The rows of a file; the last few files asked for stay in memory."""
        key = (batch.first_slot, batch.version)
        rows = self._files.pop(key, None)
        if rows is None:
            rows = self._read(batch).readings
        self._files[key] = rows
        while len(self._files) > _FILES_KEPT:
            self._files.popitem(last=False)
        return rows

    def _read(self, batch: Closed) -> StoredBatch:
        try:
            return read_batch(self._path(batch), self._store, separator=self._separator)
        except GridCommonsError as error:
            raise CheckFailed(str(error)) from error

    def unnoted(self) -> Iterator[tuple[Closed, StoredBatch]]:
        """The batches in the lake, in order, with what their files hold, for an inbox that lost
        its notes. CheckFailed for a file whose leaves are not those of its values."""
        for file in self._store.zone_batches(self._zone):
            stored = self._read(Closed(file.first_slot, file.slots, b"", False, file.version))
            root = stored.root()
            batch = Closed(file.first_slot, file.slots, root, False, file.version)
            if not leaves_hold(stored, self._secrets):
                raise CheckFailed(f"{file.path} does not hold what its leaves say: it was changed")
            yield batch, stored

    def _stored(self, batch: Closed) -> StoredBatch:
        """What a closed batch's file holds. CheckFailed if it does not give its root."""
        stored = self._read(batch)
        # The root vouches for the leaves only, and totals are summed from the values.
        if (
            not stored.leaves
            or stored.root() != batch.root
            or not leaves_hold(stored, self._secrets)
        ):
            path = self._path(batch)
            raise CheckFailed(f"{path} does not give the root it was closed with: it was changed")
        return stored

    def _reread(self, batch: Closed) -> Batch:
        """A closed batch as its file has it. CheckFailed if that does not give its root."""
        stored = self._stored(batch)
        return self._batch(batch, stored.readings, len(stored.tree))

    def _path(self, batch: Closed) -> str:
        """Where a batch's file lies, in the words of the lake's file system."""
        return self._store.path(self._zone, batch.first_slot, batch.slots, batch.version)

    def _batch(self, batch: Closed, readings: Readings, leaves: int) -> Batch:
        net, export, homes = totals_of(readings, batch.first_slot, batch.slots)
        return Batch(
            zone=self._zone,
            first_slot=batch.first_slot,
            slots=batch.slots,
            root=batch.root,
            net_wh=net,
            export_wh=export,
            homes=int(homes.min()),
            leaves=leaves,
            path=batch_path(self._lake, self._zone, batch.first_slot, batch.slots, batch.version),
            version=batch.version,
        )

    # corrections

    def correctable(self) -> list[Closed]:
        """See `Collector.correctable`."""
        late = np.array(self._inbox.slots_with_late(), dtype=np.int64)
        if not len(late):
            return []
        first, end = int(late.min()), int(late.max()) + 1
        corrected = {batch.first_slot for batch in self._inbox.closed(first, end, version=2)}
        return [
            batch
            for batch in self._inbox.closed(first, end)
            if batch.committed
            and batch.first_slot not in corrected
            and ((late >= batch.first_slot) & (late < batch.end_slot)).any()
        ]

    def correct(self, first_slot: int, *, force: bool) -> Batch:
        """See `Collector.correct_batch`."""
        with self._inbox.transaction():
            first = self._committed(first_slot)
            for second in self._inbox.closed(first_slot, first_slot + 1, version=2):
                return self._reread(second)
            stored = self._stored(first)
            if stored.erased.any():
                raise CheckFailed(
                    f"rows of the batch that starts at {first_slot} were erased: it stays as it is"
                )
            whole = self._whole(first_slot, first.slots, self._with_late(first, stored))
            homes = changed_homes(stored.readings, whole.readings)
            if homes >= MIN_HOMES or (homes and force):
                second = Closed(first_slot, first.slots, whole.root, False, version=2)
                return self._keep(second, whole)
            if not homes:
                # Not asked for again: what came late is older than what counts, or says the same.
                self._settle_late(first_slot, first.end_slot)
        if not homes:
            raise CheckFailed(f"no late reading changes the batch that starts at {first_slot}")
        raise CheckFailed(
            f"only {homes} homes change in the batch that starts at {first_slot}: the difference "
            f"of its totals would show them; at least {MIN_HOMES} are needed"
        )

    def discard(self, first_slot: int) -> None:
        """See `Collector.discard_correction`."""
        with self._inbox.transaction():
            for second in self._inbox.closed(first_slot, first_slot + 1, version=2):
                if second.committed:
                    raise CheckFailed(
                        f"the correction of the batch that starts at {first_slot} is published"
                    )
                self._inbox.forget_closed(first_slot, 2)
                self._store.remove(self._path(second))
        self._files.pop((first_slot, 2), None)

    def _committed(self, first_slot: int) -> Closed:
        for batch in self._inbox.closed(first_slot, first_slot + 1):
            if batch.first_slot == first_slot and batch.committed:
                return batch
        raise CheckFailed(f"no committed batch starts at slot {first_slot}: nothing to correct")

    def _with_late(self, batch: Closed, stored: StoredBatch) -> Readings:
        """The newest signed reading of each meter and slot: as if the late ones had been there."""
        first, end = batch.first_slot, batch.end_slot
        rows = Readings.concat(
            [
                stored.readings.take(stored.readings.signature.any(axis=1)),
                self._inbox.beside(first, end, State.EDITED),
                self._inbox.beside(first, end, State.LATE),
            ]
        )
        rows = rows.take(~self._revoked(rows))
        rows = rows.take(np.lexsort((rows.sequence, rows.meter, rows.slot)))
        return rows.take(newest(rows))

    def _settle_late(self, first_slot: int, end_slot: int) -> int:
        """Once version 2 is published: its late readings lie in its file, or are superseded."""
        late = self._inbox.beside(first_slot, end_slot, State.LATE)
        filed = self.filed(late)
        rows = keyed(late)
        inside = [row for row in rows if row[3] in filed]
        self._inbox.drop("beside", [row[:3] for row in inside])
        self._inbox.put_beside([row for row in rows if row[3] not in filed], State.SUPERSEDED)
        return len(inside)
