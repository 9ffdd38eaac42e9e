# SPDX-License-Identifier: Apache-2.0
"""The thread that asks the chain: who may sign, what is due, and batches and corrections to it.

It keeps no truth of its own: what is closed is the inbox's, what is committed the ledger's. While
the node is away readings are still taken, and what fell due is done afterwards, in order.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from dao.chain import Account, Contract, ContractReverted, Receipt, is_away
from dao.errors import CheckFailed, GridCommonsError
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from meters.collector import Collector
from meters.inbox import Closed
from meters.lake import MIN_HOMES, Batch, LakeLike, quality_shares
from meters.publishing import due_corrections, publish, publish_correction
from meters.registry import KeyPeriods
from meters.service.metrics import Metrics
from meters.service.writer import Writer

log = logging.getLogger("gridcommons.collector")

_LOOK_FOR_CORRECTIONS_S = 60
_REFUSED_AGAIN_S = 3_600


@dataclass(frozen=True)
class Terms:
    """When a batch is due. slots: of a batch, dividing a day; delay_s: seconds after its end;
    patience_s: how long to wait further while fewer than 15 homes have delivered."""

    slots: int = 24
    delay_s: int = 1_800
    patience_s: int = 6 * 3_600

    def __post_init__(self) -> None:
        if self.slots % 4 or not 4 <= self.slots <= SLOTS_PER_DAY or SLOTS_PER_DAY % self.slots:
            raise ValueError("a batch is of whole hours, and a day of whole batches")


@dataclass(frozen=True)
class Standing:
    """What the chain said last, and what is to be done; times in unix seconds of the chain."""

    now: int = 0
    until: int = 0
    """Slot before which the ledger is complete, 0 where it has not begun."""
    next_slot: int | None = None
    """First slot of the next batch, None before anything was delivered."""
    next_slots: int = 0
    uncommitted: int = 0
    corrections: tuple[int, ...] = ()
    last_commit: int | None = None
    is_away: bool = False
    problem: str | None = None
    waits_for: str | None = None
    quality: tuple[tuple[str, float], ...] = ()
    """Share of each quality in the batch committed last."""

    def due_at(self, terms: Terms) -> int | None:
        """When the next batch is due."""
        if self.next_slot is None:
            return None
        return (self.next_slot + self.next_slots) * SLOT_SECONDS + terms.delay_s

    def late_s(self, terms: Terms) -> int:
        """For how long something has been due."""
        due = self.due_at(terms)
        return 0 if due is None else max(self.now - due, 0)


class _OnWriter:
    """The collector as publishing needs it, each call made in the writer's thread."""

    def __init__(self, writer: Writer, zone: int) -> None:
        self._writer = writer
        self._zone = zone

    @property
    def zone(self) -> int:
        return self._zone

    def mark_committed(self, batch: Batch) -> None:
        self._writer.call(lambda collector: collector.mark_committed(batch))

    def correct_batch(self, first_slot: int, *, force: bool = False) -> Batch:
        return self._writer.call(lambda c: c.correct_batch(first_slot, force=force))

    def discard_correction(self, first_slot: int) -> None:
        self._writer.call(lambda collector: collector.discard_correction(first_slot))

    def correctable(self) -> list[Closed]:
        return self._writer.call(lambda collector: collector.correctable())

    def uncommitted_corrections(self) -> list[int]:
        return self._writer.call(lambda collector: collector.uncommitted_corrections())


class Committer(threading.Thread):
    """Looks at the chain every `poll` seconds and does what is due, until `end`.

    account: the zone's collector; None to commit nothing. now: the chain's clock.
    """

    def __init__(
        self,
        writer: Writer,
        keys: KeyPeriods,
        ledger: Contract,
        account: Account | None,
        zone: int,
        lake: LakeLike,
        metrics: Metrics,
        *,
        terms: Terms | None = None,
        now: Callable[[], int],
        poll: float = 15.0,
        longest_pause: float = 300.0,
    ) -> None:
        super().__init__(name="committer", daemon=True)
        self.terms = terms or Terms()
        self.standing = Standing()
        self._writer = writer
        self._collector = _OnWriter(writer, zone)
        self._keys = keys
        self._ledger = ledger
        self._account = account
        self._zone = zone
        self._lake = lake
        self._metrics = metrics
        self._now = now
        self._poll = poll
        self._longest_pause = longest_pause
        self._asked = threading.Event()
        self._looked_at = 0
        self._following = threading.Lock()
        self._followed = float("-inf")
        self._refused: dict[int, int] = {}
        self._final: set[int] = set()
        self._said = ""

    @property
    def commits(self) -> bool:
        """Whether batches are brought to the ledger."""
        return self._account is not None

    def end(self, patience: float = 60.0) -> bool:
        """Begin nothing more and wait for the step under way; whether it ended in time."""
        self._asked.set()
        if self.ident is not None:
            self.join(patience)
        return not self.is_alive()

    def follow(self, since: float | None = None) -> None:
        """Take in what the registry has logged; safe for any number of threads.

        since: steady seconds; nothing is asked where it was asked later than that. Raises
        CheckFailed while the node is away.
        """
        with self._following:
            if since is not None and self._followed >= since:
                return
            begun = time.monotonic()
            self._keys.follow()
            self._followed = begun

    def run(self) -> None:
        """The rounds, one after the other; one that fails is told and tried again, later."""
        pause = self._poll
        while not self._asked.is_set():
            pause = self._poll if self.look() else min(2 * pause, self._longest_pause)
            # Not all collectors of a city at the same moment.
            if self._asked.wait(pause * (0.75 + 0.5 * random.random())):
                return

    def look(self) -> bool:
        """One round; False where the node was away or a step failed."""
        try:
            self._round()
        except Exception as error:
            if self._asked.is_set():
                return True
            self._failed(error)
            return False
        if self.standing.is_away or self.standing.problem is not None:
            log.info("going on")
        self.standing = replace(self.standing, is_away=False, problem=None)
        self._said = ""
        return True

    def _failed(self, error: Exception) -> None:
        before = self.standing
        away = is_away(error)
        if not away:
            self._metrics.commit_failed()
        # The text may name the node's address, with a key in it: it goes to the log only.
        if away:
            problem = "the node does not answer"
        elif isinstance(error, ContractReverted):
            problem = f"the ledger refuses the batch: {error.reason}"
        elif isinstance(error, GridCommonsError):
            problem = "a batch cannot be closed or committed: see the log"
        else:
            problem = "a step failed: see the log"
        said = f"{problem}: {error}"
        if said != self._said:
            self._said = said
            if isinstance(error, GridCommonsError):
                log.error("%s", error)
            else:
                log.exception("a step failed")
        self.standing = replace(before, is_away=away, problem=problem)

    def _round(self) -> None:
        now = self._now()
        self.follow()
        until = int(self._ledger.call("committed_until", self._zone))
        self.standing = replace(self.standing, now=now, until=until, is_away=False)
        if self._account is None:
            return
        self._finish()
        while not self._asked.is_set() and self._close_next(now):
            pass
        if now - self._looked_at >= _LOOK_FOR_CORRECTIONS_S or now < self._looked_at:
            self._correct(now)
            self._looked_at = now

    def _finish(self) -> None:
        """Bring to the ledger what is closed and does not, or not any more, stand there: what was
        committed can be lost to a reorganisation."""
        until = self.standing.until
        closed = self._writer.call(lambda collector: collector.inbox.closed())
        waiting = [one for one in closed if not one.committed or one.end_slot > until]
        self.standing = replace(self.standing, uncommitted=len(waiting))
        for one in waiting:
            if self._asked.is_set():
                return
            batch = self._close(one.first_slot, one.slots)
            if batch is not None:
                self._publish(batch)

    def _close_next(self, now: int) -> bool:
        """Close and publish the next batch if it is due; whether it was."""
        begin = self._next_slot()
        if begin is None:
            self._waits(f"an hour with readings of {MIN_HOMES} homes")
            return False
        # The ledger begins with the first hour that it can take, whatever follows.
        slots = self.terms.slots - begin % self.terms.slots if self.standing.until else 4
        end = begin + slots
        self.standing = replace(self.standing, next_slot=begin, next_slots=slots)
        overdue = now - end * SLOT_SECONDS - self.terms.delay_s
        if overdue < 0:
            self._waits("its time")
            return False
        homes = self._writer.call(lambda c: c.inbox.homes_waiting(begin, end))
        if homes < MIN_HOMES and (not self.standing.until or overdue < self.terms.patience_s):
            self._waits(f"readings of {MIN_HOMES} homes in each slot, {homes} came")
            return False
        too_small = f"values of {MIN_HOMES} homes in each slot"
        if homes < MIN_HOMES and now < self._refused.get(begin, 0):
            self._waits(too_small)
            return False
        batch = self._close(begin, slots)
        if batch is None:
            self._refused[begin] = now + SLOT_SECONDS
            self._waits(too_small)
            return False
        log.info("closed", extra={"first_slot": begin, "slots": slots, "homes": batch.homes})
        self.standing = replace(self.standing, uncommitted=self.standing.uncommitted + 1)
        self._publish(batch)
        return True

    def _close(self, first_slot: int, slots: int) -> Batch | None:
        """Close a batch, or an already closed one again; None where it has too few homes for the
        ledger ever to take it: then it stays open for what may still come."""

        def close(collector: Collector) -> Batch | None:
            batch = collector.close_batch(first_slot, slots)
            if batch.publishable:
                return batch
            collector.reopen_batch(first_slot)
            return None

        return self._writer.call(close)

    def _next_slot(self) -> int | None:
        """The slot with which the next batch begins: where the last one ends, or the first hour
        for which enough homes have delivered."""
        until = self.standing.until
        closed = self._writer.call(lambda collector: collector.inbox.closed(until))
        after = max([until, *(batch.end_slot for batch in closed)])
        if after:
            return after
        return self._writer.call(lambda collector: collector.inbox.first_hour_of(MIN_HOMES))

    def _waits(self, what: str) -> None:
        self.standing = replace(self.standing, waits_for=what)

    def _publish(self, batch: Batch) -> None:
        assert self._account is not None
        receipt = publish(self._collector, self._ledger, self._account, batch)
        self._told(batch, receipt)
        self.standing = replace(
            self.standing,
            until=max(self.standing.until, batch.first_slot + batch.slots),
            uncommitted=max(self.standing.uncommitted - 1, 0),
            quality=self._quality(batch),
        )

    def _correct(self, now: int) -> None:
        assert self._account is not None
        if now < self._looked_at:  # a local chain that was taken back
            self._final.clear()
        due = due_corrections(self._collector, self._ledger, now, self._final)
        self.standing = replace(self.standing, corrections=tuple(due))
        for first_slot in due:
            if self._asked.is_set():
                return
            if now < self._refused.get(first_slot, 0):
                continue
            try:
                publish_correction(self._collector, self._ledger, self._account, first_slot)
            except CheckFailed as error:
                if is_away(error):
                    raise
                # Too few homes change, or none: until the window closes more may come.
                self._refused[first_slot] = now + _REFUSED_AGAIN_S
                log.info("not corrected: %s", error, extra={"first_slot": first_slot})
                continue
            self._metrics.committed(2)
            log.info("corrected", extra={"first_slot": first_slot})
            left = tuple(slot for slot in self.standing.corrections if slot != first_slot)
            self.standing = replace(self.standing, corrections=left)

    def _told(self, batch: Batch, receipt: Receipt | None) -> None:
        about = {"first_slot": batch.first_slot, "slots": batch.slots, "homes": batch.homes}
        if receipt is None:
            log.info("found on the ledger", extra=about)
            return
        self._metrics.committed(batch.version)
        self.standing = replace(self.standing, last_commit=self._now())
        log.info("committed", extra={**about, "gas": receipt.gas_used})

    def _quality(self, batch: Batch) -> tuple[tuple[str, float], ...]:
        """Read again from the file: what is told is what is committed."""
        try:
            frame = quality_shares(self._lake, self._zone, batch.first_slot, batch.slots)
        except GridCommonsError as error:
            log.error("the shares of a batch cannot be read: %s", error)
            return ()
        row = frame.iloc[0] if len(frame) else {}
        return tuple(
            (name, float(row[name])) for name in frame.columns if name not in ("day", "rows")
        )
