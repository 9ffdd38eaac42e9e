# SPDX-License-Identifier: Apache-2.0
"""Erasing one home's month: its secret, and every value of it in every store of this operator.

What stays verifies: leaves, roots, the other rows. What this cannot reach is said in
docs/privacy.md: the chain, what was given out, backups. A journal without values lets a run that
broke off be completed by running it again.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

from dao.errors import BadUse, CheckFailed
from dao.node import Addresses, Node
from dao.relay.erasure import erase as erase_from_relay
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY, day_of
from meters.inbox import erase as erase_from_inbox
from meters.lake import Lake, LakeLike, erase_rows, mentions, read_batch
from meters.leaves import first_slot_of_month
from meters.secrets import SecretStore, month_name
from meters.service.dispatches import erase as erase_dispatches

# A session can be settled with receipts until the receipt period is over, which the rule's own
# bound keeps at a week, and be adjusted until the finality is; a day more for the keeper.
SETTLING_SECONDS = 8 * 86_400


@dataclass(frozen=True)
class Stores:
    """Where readings of a zone lie at its operator. Files that are not there hold nothing.

    separator: the EIP-712 domain of readings. journal: the folder of what was erased when.
    dispatches: reports of what devices did.
    """

    lake: LakeLike
    secrets: SecretStore
    inbox: Path
    relay: Path
    dispatches: Path
    journal: Path
    separator: bytes


@dataclass(frozen=True)
class Erasure:
    """One erasure as the journal has it; times in unix seconds of the chain. No value, no hash."""

    zone: int
    meter: int
    month: int
    begun_at: int
    finished_at: int | None = None

    @property
    def first_slot(self) -> int:
        return first_slot_of_month(self.month)

    @property
    def end_slot(self) -> int:
        return first_slot_of_month(self.month + 1)


@dataclass(frozen=True)
class Done:
    """How much an erasure took out: lake files, rows of the inbox, rows of the relay."""

    files: int
    inbox: int
    relay: int


def check_final(
    node: Node, addresses: Addresses, lake: LakeLike, meter: int, month: int, now: int
) -> int:
    """The zone of a meter whose month can be erased: over, committed, and past all corrections and
    settlements.

    BadUse for a month that is not over, CheckFailed for an unknown meter or another chain, and
    where something of the month is still open.
    """
    if (chain_id := node.chain_id) != addresses.chain_id:
        raise CheckFailed(
            f"the deployment is of chain {addresses.chain_id}, this node is of {chain_id}"
        )
    first, end = first_slot_of_month(month), first_slot_of_month(month + 1)
    name = month_name(month)
    if end * SLOT_SECONDS > now:
        raise BadUse(f"{name} is not over: only whole past months can be erased")
    registry, ledger = addresses["MeterRegistry"], addresses["ReadingLedger"]
    zone = node.view(registry, "metering_point(uint256)", meter)[1]
    if not zone:
        raise CheckFailed(f"the registry knows no meter {meter}")
    (until,) = node.view(ledger, "committed_until(uint256)", zone)
    if until < end:
        raise CheckFailed(f"{name} is not committed to its end yet: the ledger stops at {until}")
    if now < end * SLOT_SECONDS + SETTLING_SECONDS:
        raise CheckFailed(
            f"sessions of {name} may still be settled: it can be erased from "
            f"{day_of(end + SETTLING_SECONDS // SLOT_SECONDS)} on"
        )
    files = [file for file in Lake.of(lake).zone_batches(zone) if file.overlaps(first, end)]
    # Of the first and the last batch: enough to tell another deployment's lake.
    for file in (*files[:1], *files[-1:]):
        arguments = (zone, file.first_slot, file.version)
        (root,) = node.view(ledger, "root_of(uint256,uint256,uint256)", *arguments)
        if root and read_batch(file.path, lake).root() != root.to_bytes(32, "big"):
            raise CheckFailed(
                f"the ledger has another root than the lake for the batch that starts at "
                f"{file.first_slot}: nothing is erased from a lake that is not this ledger's"
            )
    for start in sorted({file.first_slot for file in files}):
        if not node.view(ledger, "version_of(uint256,uint256)", zone, start)[0]:
            raise CheckFailed(f"the ledger has no batch that starts at {start}, the lake has one")
        _, closes = node.view(ledger, "correction_window(uint256,uint256)", zone, start)
        if now < closes:
            raise CheckFailed(f"the batch that starts at slot {start} may still be corrected")
    return zone


def erase_month(stores: Stores, zone: int, meter: int, month: int, now: int) -> Done:
    """Erase; returns once nothing of it is left. Run again after a crash it completes, and once
    complete it has nothing to do. What may be erased is asked before, by `check_final`.

    CheckFailed where a store cannot be written or is held by another process for too long; run it
    again then.
    """
    with _held(stores.journal):
        before = find(stores.journal, meter, month)
        erasure = before or Erasure(zone, meter, month, now)
        if erasure.zone != zone:
            raise CheckFailed(f"meter {meter} was erased in zone {erasure.zone}, not in {zone}")
        if before is None:
            _note(stores.journal, erasure)
        first, end = erasure.first_slot, erasure.end_slot
        # The inbox first: from then on a running collector takes nothing of the month any more.
        inbox = erase_from_inbox(stores.inbox, meter, first, end)
        files = _erase_from_lake(stores, erasure)
        relay = erase_from_relay(stores.relay, meter, first, end)
        erase_dispatches(stores.dispatches, meter, first, end)
        stores.secrets.erase(meter, month)
        _note(stores.journal, replace(erasure, finished_at=erasure.finished_at or now))
    return Done(files, inbox, relay)


def _erase_from_lake(stores: Stores, erasure: Erasure) -> int:
    """How many files were rewritten."""
    lake, first, end = Lake.of(stores.lake), erasure.first_slot, erasure.end_slot
    # A write that broke off may have left values behind; of these days nobody writes any more.
    days = {day_of(slot).isoformat() for slot in range(first, end, SLOTS_PER_DAY)}
    for path in lake.leftovers(erasure.zone):
        if PurePosixPath(path).parent.name.removeprefix("day=") in days:
            lake.remove(path)
    count = 0
    for file in lake.zone_batches(erasure.zone):
        # An edit record of another month may quote the values.
        if file.overlaps(first, end) or mentions(lake, file.path, erasure.meter, first, end):
            count += erase_rows(lake, file.path, erasure.meter, first, end, stores.separator)
    return count


# The journal


def find(journal: Path, meter: int, month: int) -> Erasure | None:
    """The erasure of a home's month, begun or finished; None where there was none."""
    path = _path(journal, meter, month)
    return _read(path) if path.exists() else None


def unfinished(journal: Path) -> list[Erasure]:
    """Erasures that were begun and broke off."""
    found = [_read(path) for path in sorted(journal.glob("meter-*.json"))]
    return [erasure for erasure in found if erasure.finished_at is None]


def _path(journal: Path, meter: int, month: int) -> Path:
    return journal / f"meter-{meter}-{month_name(month)}.json"


def _read(path: Path) -> Erasure:
    try:
        return Erasure(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise CheckFailed(f"{path} is not readable as an erasure: {error}") from None


def _note(journal: Path, erasure: Erasure) -> None:
    """Write an erasure down, on disk before anything goes on."""
    path = _path(journal, erasure.meter, erasure.month)
    handle, name = tempfile.mkstemp(dir=journal, prefix=".", suffix=".tmp")
    with os.fdopen(handle, "w") as out:
        json.dump(asdict(erasure), out)
        out.flush()
        os.fsync(out.fileno())
    Path(name).replace(path)


@contextmanager
def _held(journal: Path) -> Iterator[None]:
    """One erasure at a time."""
    journal.mkdir(parents=True, exist_ok=True)
    with (journal / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CheckFailed(f"another erasure is running in {journal}") from None
        yield
