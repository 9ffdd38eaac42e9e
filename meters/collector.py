# SPDX-License-Identifier: Apache-2.0
"""The collector: takes signed readings, keeps them safe, closes batches.

Readings enter the inbox and are acknowledged only after its commit. Here they are judged and
stored; `closing.py` makes batches of them, `publishing.py` brings those to the ledger, and HTTP and
MQTT are somewhere else. A `Collector` belongs to the thread that made it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dao.errors import BadUse, CheckFailed
from meters import frames, inbox, signing, validation
from meters.acknowledgements import Acknowledgement
from meters.chains import Break, unbroken
from meters.closing import Batches, Editor
from meters.inbox import Closed, Evidence, Inbox, State
from meters.lake import Batch, LakeLike, check_range
from meters.readings import SIGNATURE_BYTES, Reading, Readings
from meters.registry import KeyPeriods, verified
from meters.secrets import MonthSecrets
from meters.signing import Head
from meters.validation import DEFAULT_CAPACITY_W, Finding

if TYPE_CHECKING:
    from meters.vee.history import History

MAX_VERSIONS = 16
"""Readings of one meter and slot that are taken: a device may correct itself, not flood."""

# What becomes of a reading: a rule's place in `validation.NAMES`, or one of these.
_ACCEPTED = validation.PLAUSIBLE
_LATE = -2
_DUPLICATE = -3

_RULE = {name: place for place, name in enumerate(validation.NAMES)}


@dataclass(frozen=True)
class ReceiveReport:
    """What became of delivered readings: accepted ones are on disk now.

    `late` of the accepted ones belong to closed batches: they are kept, and enter by a correction.
    `rejected` names the rule; `validation.RULES` explains each.
    """

    accepted: int = 0
    duplicates: int = 0
    rejected: list[Finding] = field(default_factory=list)
    late: int = 0

    def messages(self) -> list[str]:
        """One line per rejected reading."""
        return [finding.message for finding in self.rejected]


@dataclass(frozen=True)
class FrameReport:
    """What became of one frame, with the heads of its meters' chains afterwards.

    `error` says what is wrong with a malformed frame, of which nothing was taken.
    """

    frame: bytes
    report: ReceiveReport = field(default_factory=ReceiveReport)
    heads: Mapping[int, Head] = field(default_factory=dict)
    error: str | None = None

    def acknowledgement(self) -> Acknowledgement:
        """The answer to the gateway, still to be signed. BadUse for a malformed frame."""
        if self.error is not None:
            raise BadUse(self.error)
        report = self.report
        return Acknowledgement(
            self.frame, report.accepted, report.duplicates, tuple(report.rejected), self.heads
        )


class Collector:
    """Collects one zone's readings; the only one that works with its inbox.

    keys: who may sign for which meter when; these are the meters a batch has rows for. secrets:
    keeper of the salts' secrets. separator: the readings' EIP-712 domain. lake: as `meters.lake`
    takes it; inbox: SQLite file. capacity_w: connection in W, one for all or per meter. clock: unix
    seconds now, None where no slot can lie ahead. editor, history: see `closing.Batches`.
    """

    def __init__(
        self,
        zone: int,
        keys: KeyPeriods,
        secrets: MonthSecrets,
        separator: bytes,
        lake: LakeLike,
        inbox: Path,
        *,
        capacity_w: int | Mapping[int, int] = DEFAULT_CAPACITY_W,
        clock: Callable[[], float] | None = None,
        workers: int | None = None,
        editor: Editor | None = None,
        history: History | None = None,
    ) -> None:
        self.zone = zone
        self.keys = keys
        self._separator = separator
        self._capacity_w = capacity_w
        self._clock = clock
        self._workers = workers
        self._limits: tuple[np.ndarray, np.ndarray] | None = None
        self.inbox = Inbox(Path(inbox), zone)
        self._batches = Batches(zone, keys, secrets, separator, lake, self.inbox, editor, history)

    def close(self) -> None:
        """Close the inbox. Nothing is lost: what was acknowledged is on disk."""
        self.inbox.close()

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # receiving

    def receive(self, readings: Readings | Sequence[Reading]) -> ReceiveReport:
        """Judge readings and store the good ones; returns once they are safe on disk.

        The same reading again has no effect. Another one for a slot that has one counts if its
        sequence is higher; the other is kept beside. One for a closed batch is kept as `late`.
        """
        columns = readings if isinstance(readings, Readings) else Readings.of(readings)
        with self.inbox.transaction():
            verdicts = self._take(columns)
        return _report(columns, verdicts)

    def receive_frames(self, received: Sequence[bytes]) -> list[FrameReport]:
        """As `receive`, many frames in one transaction: one report for each, in order.

        A malformed frame is reported alone, the others go on. When this returns, all that was
        accepted is on disk; when it raises, nothing of it was taken.
        """
        decoded = [_decoded(frame) for frame in received]
        parts = [part for part in decoded if isinstance(part, Readings)]
        columns = Readings.concat(parts)
        meters = self.keys.meters
        named = np.unique(columns.meter)
        with self.inbox.transaction():
            verdicts = self._take(columns)
            heads = self.inbox.heads(named[np.isin(named, meters)].tolist())
        reports: list[FrameReport] = []
        begin = 0
        for frame, part in zip(received, decoded, strict=True):
            name = frames.frame_id(frame)
            if isinstance(part, str):
                reports.append(FrameReport(name, error=part))
                continue
            end = begin + len(part)
            of = {m: heads[m] for m in np.unique(part.meter).tolist() if m in heads}
            reports.append(FrameReport(name, _report(part, verdicts[begin:end]), of))
            begin = end
        return reports

    def heads(self, meters: Iterable[int]) -> dict[int, Head]:
        """Where the chains of these meters stand; one without a reading is left out."""
        with self.inbox.transaction():
            return self.inbox.heads(meters)

    def _take(self, columns: Readings) -> np.ndarray:
        """Judge and store, inside a transaction: what became of each row, int8 (n,)."""
        verdicts = self._judge(columns)
        at = np.flatnonzero(verdicts == _ACCEPTED)
        if not len(at):
            return verdicts
        rows = _normalised(columns.take(at))
        records = frames.cut(frames.records_of(rows))
        held = self.inbox.held(rows)
        # Only a resend of the very same bytes goes unverified. To compare values before the
        # signature is checked would let anyone try out a home's readings against the answers.
        fresh = np.array([record not in held for record in records], dtype=bool)
        verdicts[at[~fresh]] = _DUPLICATE
        good, links = self._verified(rows.take(fresh))
        at = at[fresh]
        verdicts[at[~good]] = _RULE["signature"]
        picked = np.flatnonzero(fresh)[good]
        rows, records = rows.take(picked), [records[i] for i in picked.tolist()]
        verdicts[at[good]] = codes = self._place(rows, records, links, held)
        kept = list(
            zip(
                rows.slot.tolist(),
                rows.meter.tolist(),
                rows.sequence.tolist(),
                records,
                strict=True,
            )
        )
        self.inbox.add([kept[i] for i in np.flatnonzero(codes == _ACCEPTED).tolist()])
        late = [kept[i] for i in np.flatnonzero(codes == _LATE).tolist()]
        self.inbox.put_beside(late, State.LATE)
        return verdicts

    def _judge(self, columns: Readings) -> np.ndarray:
        """What each row breaks on its own, int8 (n,)."""
        meters = self.keys.meters
        if self._limits is None or self._limits[0] is not meters:
            self._limits = (meters, validation.limits_wh(meters, self._capacity_w))
        now = None if self._clock is None else self._clock()
        return validation.judge(columns, *self._limits, now)

    def _verified(self, rows: Readings) -> tuple[np.ndarray, np.ndarray]:
        return verified(rows, self.keys, self._separator, self._workers)

    def _place(
        self, rows: Readings, records: list[bytes], links: np.ndarray, held: set[bytes]
    ) -> np.ndarray:
        """Put verified rows into their chains: what became of each, int8 (n,). Stores no row.

        `held`: what the inbox has of their meters and slots.
        """
        n = len(rows)
        if not n:
            return np.zeros(0, dtype=np.int8)
        order = np.lexsort((np.arange(n), rows.sequence, rows.meter))
        rows, links = rows.take(order), links[order]
        records = [records[i] for i in order.tolist()]
        closed = self.inbox.closed(int(rows.slot.min()), int(rows.slot.max()) + 1)
        codes = np.where(_covered(rows.slot, closed), _LATE, _ACCEPTED).astype(np.int8)
        begins = np.append(True, rows.meter[1:] != rows.meter[:-1])
        meters = rows.meter[begins].tolist()
        heads = self.inbox.heads(meters)
        erased = self.inbox.erased(meters)

        plain = unbroken(rows, links, heads)
        plain &= ~np.isin(rows.meter, _crowded(rows, held, [meter for meter, _, _ in erased]))
        last = plain & np.append(begins[1:], True)
        self.inbox.set_heads(
            {
                meter: Head(sequence, link.tobytes())
                for meter, sequence, link in zip(
                    rows.meter[last].tolist(),
                    rows.sequence[last].tolist(),
                    links[last],
                    strict=True,
                )
            }
        )
        if not plain.all():
            # Of a committed or restored batch the inbox has nothing, so its file is asked, for
            # numbers that are not new: a resend, or a second story.
            group = np.cumsum(begins) - 1
            known = np.array([heads.get(meter, Head.NONE).sequence for meter in meters])[group]
            inside = _covered(rows.slot, closed)
            filed = self._batches.filed(rows.take(inside & (rows.sequence <= known)))
            again = ~plain & np.array([record in filed for record in records], dtype=bool)
            codes[again] = _DUPLICATE
            looker = _Closer(self.inbox, held | filed, erased)
            left = np.flatnonzero(~plain & ~again)
            for part in np.split(left, np.flatnonzero(np.diff(rows.meter[left])) + 1):
                if len(part):
                    of = [records[i] for i in part.tolist()]
                    codes[part] = looker.judge(rows.take(part), of, links[part], codes[part])
        verdicts = np.empty(n, dtype=np.int8)
        verdicts[order] = codes
        return verdicts

    # batches

    def close_batch(self, first_slot: int, slots: int) -> Batch:
        """Close the batch of these slots from the inbox and write its file.

        Every meter of the zone has a row per slot; where nothing was delivered it says missing.
        From here on the batch does not change: a later value is `late`, and closing again gives the
        same root and file. Raises BadUse for a range outside one UTC day and CheckFailed if it
        overlaps a closed batch or the file cannot be written.
        """
        return self._batches.close(first_slot, slots)

    def reopen_batch(self, first_slot: int) -> None:
        """Take back a closed batch that the ledger cannot have, with too few homes behind it: its
        readings are open again, and late ones enter. CheckFailed for a committed one."""
        self._batches.reopen(first_slot)

    def close_history(
        self, readings: Readings, first_slot: int, slots: int
    ) -> tuple[Batch, ReceiveReport]:
        """Judge readings in bulk and close them as one batch, past the inbox.

        Safe because a history's source can be replayed: nothing is acknowledged before the file is
        on disk, and the same source gives the same root again. Raises BadUse for readings outside
        the range, CheckFailed if the slots are closed with another root or the inbox holds some.
        """
        check_range(first_slot, slots)
        outside = (readings.slot < first_slot) | (readings.slot >= first_slot + slots)
        if outside.any():
            raise BadUse(
                f"slot {int(readings.slot[outside][0])} lies outside the batch of {slots} slots "
                f"from {first_slot}"
            )
        verdicts = self._judge(readings)
        at = np.flatnonzero(verdicts == _ACCEPTED)
        rows = _normalised(readings.take(at))
        good, links = self._verified(rows)
        verdicts[at[~good]] = _RULE["signature"]
        at, rows = at[good], rows.take(good)
        with self.inbox.transaction():
            waiting = self.inbox.waiting(first_slot, first_slot + slots)
            if waiting:
                raise CheckFailed(
                    f"the inbox holds {waiting} readings of slots {first_slot}.."
                    f"{first_slot + slots - 1}: close them with close_batch"
                )
            before = self._batches.closed_as(first_slot, slots)
            if before is not None:
                return self._batches.again(before, rows), _report(readings, verdicts)
            codes = self._place(rows, frames.cut(frames.records_of(rows)), links, set())
            verdicts[at] = codes
            batch = self._batches.close_with(first_slot, slots, rows.take(codes == _ACCEPTED))
        return batch, _report(readings, verdicts)

    def correct_batch(self, first_slot: int, *, force: bool = False) -> Batch:
        """Version 2 of a committed batch, with the late readings in it: written, to be published.

        Where fewer than 15 homes change, the difference of the two totals would show too much of
        them: CheckFailed unless forced. Once only; again gives the same file. CheckFailed where
        nothing late counts.
        """
        return self._batches.correct(first_slot, force=force)

    def discard_correction(self, first_slot: int) -> None:
        """Take back a version 2 that the ledger will not take: version 1 is the newest again."""
        self._batches.discard(first_slot)

    def correctable(self) -> list[Closed]:
        """Committed batches that late readings wait for and that were not corrected yet."""
        return self._batches.correctable()

    def mark_committed(self, batch: Batch) -> None:
        """Note that a batch's root stands on chain and purge its rows from the inbox.

        Without effect the second time. Raises CheckFailed for a batch that was not closed here.
        """
        self._batches.mark_committed(batch)

    def uncommitted(self) -> list[tuple[int, int]]:
        """Closed batches whose commit has not been noted: (first slot, slots), in order."""
        return [(b.first_slot, b.slots) for b in self.inbox.closed() if not b.committed]

    def uncommitted_corrections(self) -> list[int]:
        """First slots of corrections that were written and not noted as published."""
        return [b.first_slot for b in self.inbox.closed(version=2) if not b.committed]

    def waiting(self) -> int:
        """Readings in the inbox, closed or not, that are not yet committed."""
        return self.inbox.waiting()

    def restore(self) -> int:
        """Build a lost inbox again from the lake: its batches, all as uncommitted (`publish` finds
        out which the ledger has), heads, gaps and erasures; how many batches there were.

        What was not in a batch is lost; gateways send it again as far as they keep it. Raises
        CheckFailed for an inbox that is not empty, and for a file that was changed.
        """
        with self.inbox.transaction():
            if self.inbox.closed(version=None) or self.inbox.waiting():
                raise CheckFailed(f"the inbox {self.inbox.path} is not empty: nothing to restore")
            noted: list[Closed] = []
            for batch, stored in self._batches.unnoted():
                rows = stored.readings.take(stored.readings.signature.any(axis=1))
                digests = signing.digests(self._separator, rows)
                links = signing.links(digests, rows.signature)
                self._place(rows, frames.cut(frames.records_of(rows)), links, set())
                gone = np.unique(stored.readings.meter[stored.erased]).tolist()
                erased = [(meter, batch.first_slot, batch.end_slot) for meter in gone]
                self.inbox.note_erased(erased)
                noted.append(batch)
            for batch in noted:
                self.inbox.note_closed(batch.first_slot, batch.slots, batch.root, batch.version)
        return len(noted)

    def erase(self, meter: int, first_slot: int, end_slot: int) -> int:
        """Delete all that the inbox holds of a meter's slots: see `inbox.erase`."""
        self._batches.forget_files()
        return inbox.erase(self.inbox.path, meter, first_slot, end_slot)


class _Closer:
    """A closer look, one by one, at the rows of meters whose chain does not simply go on."""

    def __init__(
        self, store: Inbox, known: set[bytes], erased: Sequence[tuple[int, int, int]]
    ) -> None:
        """known: records that are stored of the rows' meters and slots. erased: meter, first slot,
        end slot."""
        self._store = store
        self._erased: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for meter, first, end in erased:
            self._erased[meter].append((first, end))
        self._numbers: dict[tuple[int, int], bytes] = {}
        self._versions: Counter[tuple[int, int]] = Counter()
        stored = sorted(known)
        for row, record in zip(frames.readings_of(b"".join(stored)), stored, strict=True):
            self._note(row.meter, row.slot, row.sequence, record)

    def judge(
        self, rows: Readings, records: Sequence[bytes], links: np.ndarray, codes: np.ndarray
    ) -> np.ndarray:
        """What becomes of one meter's rows, sorted by sequence, where `codes` says what would
        become of them in a chain that holds. Moves the chain on."""
        meter = int(rows.meter[0])
        chain = self._store.chain(meter)
        codes = codes.copy()
        for i, row in enumerate(rows):
            link = links[i].tobytes()
            rule = self._rule(row, records[i], chain.judge(row.sequence, row.previous, link))
            if rule is not None:
                codes[i] = rule
                continue
            chain.add(row.sequence, row.previous, link)
            self._note(meter, row.slot, row.sequence, records[i])
        self._store.set_heads({meter: chain.head})
        return codes

    def _rule(self, row: Reading, record: bytes, fault: Break | None) -> int | None:
        """The code of what a reading breaks, None where it is taken. Evidence is kept."""
        if any(first <= row.slot < end for first, end in self._erased[row.meter]):
            return _RULE["erased"]
        if fault is None:
            crowded = self._versions[row.meter, row.slot] >= MAX_VERSIONS
            return _RULE["versions"] if crowded else None
        other = self._with_number(row.meter, row.slot, fault.number)
        # The same statement under another of the device's signatures is no second story.
        if other is not None and other[:-SIGNATURE_BYTES] == record[:-SIGNATURE_BYTES]:
            return _DUPLICATE
        self._store.add_evidence(Evidence(row.meter, fault.rule, record, other, fault.link))
        return _RULE[fault.rule]

    def _note(self, meter: int, slot: int, sequence: int, record: bytes) -> None:
        self._numbers[meter, sequence] = record
        self._versions[meter, slot] += 1

    def _with_number(self, meter: int, slot: int, number: int) -> bytes | None:
        """The reading that has this number, as far as it is to be found without a long search."""
        return self._numbers.get((meter, number)) or self._store.find(meter, number, slot)


def _normalised(rows: Readings) -> Readings:
    return replace(rows, signature=signing.normalise(rows.signature))


def _decoded(frame: bytes) -> Readings | str:
    try:
        return frames.decode(frame)
    except BadUse as error:
        return str(error)


def _crowded(rows: Readings, held: set[bytes], erased: Sequence[int]) -> np.ndarray:
    """Meters with several readings of one slot, here or before, or with something erased."""
    order = np.lexsort((rows.slot, rows.meter))
    meter, slot = rows.meter[order], rows.slot[order]
    twice = meter[1:][(meter[1:] == meter[:-1]) & (slot[1:] == slot[:-1])]
    before = frames.readings_of(b"".join(held)).meter
    return np.unique(np.concatenate([twice, before, np.array(erased, dtype=np.int64)]))


def _covered(slot: np.ndarray, batches: Sequence[Closed]) -> np.ndarray:
    """Which slots lie in one of these batches, which are in order and do not overlap."""
    if not batches:
        return np.zeros(len(slot), dtype=bool)
    first = np.array([batch.first_slot for batch in batches], dtype=np.int64)
    end = np.array([batch.end_slot for batch in batches], dtype=np.int64)
    at = np.searchsorted(first, slot, side="right") - 1
    inside: np.ndarray = (at >= 0) & (slot < end[at])
    return inside


def _report(readings: Readings, verdicts: np.ndarray) -> ReceiveReport:
    late = int((verdicts == _LATE).sum())
    return ReceiveReport(
        accepted=int((verdicts == _ACCEPTED).sum()) + late,
        duplicates=int((verdicts == _DUPLICATE).sum()),
        rejected=validation.findings(readings, verdicts),
        late=late,
    )
