# SPDX-License-Identifier: Apache-2.0
"""From a closed batch to the ledger: its root and totals, and later, once, its correction.

What the ledger says holds. Where it has another root than this collector, somebody else has
published these slots, and nothing here is marked as committed. When it is time, the caller knows.
"""

from __future__ import annotations

from typing import Protocol

from dao import ledger as client
from dao.chain import Account, Contract, ContractReverted, Receipt
from dao.errors import CheckFailed
from meters.inbox import Closed
from meters.lake import Batch


class Batches(Protocol):
    """What of a `Collector` publishing needs; a service offers it from the collector's thread."""

    @property
    def zone(self) -> int: ...
    def mark_committed(self, batch: Batch) -> None: ...
    def correct_batch(self, first_slot: int, *, force: bool = False) -> Batch: ...
    def discard_correction(self, first_slot: int) -> None: ...
    def correctable(self) -> list[Closed]: ...
    def uncommitted_corrections(self) -> list[int]: ...


def publish(collector: Batches, ledger: Contract, account: Account, batch: Batch) -> Receipt | None:
    """Bring a closed batch or its correction to the ledger and mark it committed here.

    None where the ledger has this very root already: a run that broke off after the transaction is
    simply repeated. Raises CheckFailed where the ledger has other slots or another root there, and
    what it raises when the node is away: the batch then stays uncommitted.
    """
    if stands(ledger, batch):
        collector.mark_committed(batch)
        return None
    send = client.commit if batch.version == 1 else client.correct
    try:
        receipt = send(
            ledger,
            account,
            zone=batch.zone,
            first_slot=batch.first_slot,
            root=batch.root,
            homes=batch.homes,
            leaves=batch.leaves,
            net_wh=batch.net_wh,
            export_wh=batch.export_wh,
        )
    except ContractReverted:
        # Somebody may have been quicker; if so, that is the better message.
        if not stands(ledger, batch):
            raise
        receipt = None
    collector.mark_committed(batch)
    return receipt


def stands(ledger: Contract, batch: Batch) -> bool:
    """Whether the ledger has the batch in this version, False where it has nothing of it yet.

    CheckFailed where it has something else in its place: then two collectors serve the zone.
    """
    zone, first, end = batch.zone, batch.first_slot, batch.first_slot + batch.slots
    there = bytes(ledger.call("root_of", zone, first, batch.version))
    if there == batch.root:
        return True
    until = int(ledger.call("committed_until", zone))
    if not any(there) and (batch.version > 1 or until <= first):
        return False
    what = f"the root 0x{there.hex()} for the" if any(there) else "other batches over the"
    raise CheckFailed(
        f"the ledger of zone {zone} has {what} slots {first}..{end - 1}, not 0x{batch.root.hex()}: "
        "another collector has published them; stop one of the two, and go on from the lake of "
        "the one whose root stands"
    )


def due_corrections(
    collector: Batches, ledger: Contract, now: float, final: set[int] | None = None
) -> list[int]:
    """First slots of the batches that wait for a correction and can be corrected now.

    The ledger takes one within a window only, and once. `now`: unix seconds of the chain. final:
    batches whose window is known to be over, added to here: they are not asked for again, or a
    collector would ask for all its past.
    """
    due: list[int] = []
    waiting = {*(b.first_slot for b in collector.correctable())}
    waiting |= {*collector.uncommitted_corrections()}
    for first_slot in sorted(waiting - (final or set())):
        opens, closes = client.correction_window(ledger, collector.zone, first_slot)
        if opens <= now < closes:
            due.append(first_slot)
        elif now >= closes and final is not None:
            final.add(first_slot)
    return due


def publish_correction(
    collector: Batches,
    ledger: Contract,
    account: Account,
    first_slot: int,
    *,
    force: bool = False,
) -> Receipt | None:
    """Make version 2 of a batch and bring it to the ledger, as `publish`.

    Where the ledger refuses it, version 1 is the newest again, in the lake too. Raises what
    `Collector.correct_batch` raises where too few homes change.
    """
    batch = collector.correct_batch(first_slot, force=force)
    try:
        return publish(collector, ledger, account, batch)
    except ContractReverted:
        collector.discard_correction(first_slot)
        raise
