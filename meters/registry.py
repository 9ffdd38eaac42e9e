# SPDX-License-Identifier: Apache-2.0
"""Which device key spoke for which meter when, as `MeterRegistry` has it: one look-up for millions.

The periods follow from the registry's events, by the contract's own rules (`contracts/
MeterRegistry.vy`), so that no meter has to be asked for on chain. A reading is checked against the
key of its own time: the one valid at the last second of its slot, as the market asks for receipts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dao.eip712 import address_bytes
from dao.errors import CheckFailed
from dao.slots import SLOT_SECONDS
from meters import signing
from meters.readings import Readings

if TYPE_CHECKING:
    from dao.chain import Contract, Event

OPEN = np.iinfo(np.int64).max
"""End of a period that nothing has ended yet."""

_EVENTS = ("MeterRegistered", "KeyRotated", "KeySuspended", "ReceiptConflict")


@dataclass(frozen=True)
class Period:
    """A device key (20 bytes) and the unix seconds from and before which it is valid."""

    device: bytes
    valid_from: int = 0
    valid_to: int | None = None


@dataclass(frozen=True)
class _Table:
    """One row per period, sorted by meter, a meter's in the order they were given."""

    owner: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    devices: np.ndarray
    meters: np.ndarray
    first: np.ndarray
    last: np.ndarray

    @staticmethod
    def of(periods: Mapping[int, Sequence[Period]], before: _Table | None = None) -> _Table:
        """These meters' periods; of all other meters, what the table before has."""
        rows = [(meter, period) for meter, given in periods.items() for period in given]
        owner = np.array([meter for meter, _ in rows], dtype=np.int64)
        starts = np.array([period.valid_from for _, period in rows], dtype=np.int64)
        ends = [OPEN if period.valid_to is None else period.valid_to for _, period in rows]
        devices = b"".join(period.device for _, period in rows)
        columns: list[np.ndarray] = [
            owner,
            starts,
            np.array(ends, dtype=np.int64),
            np.frombuffer(devices, dtype=np.uint8).reshape(-1, 20),
        ]
        if before is not None:
            stay = ~np.isin(before.owner, owner)
            old = (before.owner, before.starts, before.ends, before.devices)
            pairs = zip(old, columns, strict=True)
            columns = [np.concatenate([kept[stay], new]) for kept, new in pairs]
        order = np.argsort(columns[0], kind="stable")
        columns = [column[order] for column in columns]
        meters, first, counts = np.unique(columns[0], return_index=True, return_counts=True)
        owner, starts, times, keys = columns
        return _Table(owner, starts, times, keys, meters, first, first + counts - 1)

    def look_up(self, meter: np.ndarray, moment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The row of the key for each meter and unix second, and whether it is valid then."""
        if not len(self.meters):
            return np.zeros(len(meter), dtype=np.int64), np.zeros(len(meter), dtype=bool)
        place = np.minimum(np.searchsorted(self.meters, meter), len(self.meters) - 1)
        known = self.meters[place] == meter
        at, first = self.last[place], self.first[place]
        # Newest first; a key ends no later than the next begins.
        while (back := (self.starts[at] > moment) & (at > first)).any():
            at = at - back
        return at, known & (self.starts[at] <= moment) & (moment < self.ends[at])


class KeyPeriods:
    """The key periods of a zone's meters. Those read from a registry move on with `follow`, which
    another thread may call."""

    def __init__(self, periods: Mapping[int, Sequence[Period]]) -> None:
        """`periods`: each meter's keys in the order in which they were given."""
        self.conflicted: set[int] = set()
        """Meters whose past was cut short by two receipts that contradict each other."""
        self._table = _Table.of(periods)
        self._source: _Source | None = None

    @staticmethod
    def fixed(devices: Mapping[int, bytes | str]) -> KeyPeriods:
        """One key per meter, valid always: for tests and what has no chain."""
        return KeyPeriods(
            {int(meter): [Period(address_bytes(key))] for meter, key in devices.items()}
        )

    @staticmethod
    def read(registry: Contract, zone: int, first_block: int = 0) -> KeyPeriods:
        """The zone's periods as the chain tells them now; `first_block`: of the deployment."""
        keys = KeyPeriods({})
        keys._source = _Source(registry, zone, first_block)
        keys.follow()
        return keys

    @property
    def meters(self) -> np.ndarray:
        """All meters of the zone, sorted, int64."""
        return self._table.meters

    def meters_before(self, moment: int) -> np.ndarray:
        """The meters that had a key at some time before `moment` (unix seconds), sorted."""
        table = self._table
        before: np.ndarray = table.meters[table.starts[table.first] < moment]
        return before

    def device_at(self, meter: int, moment: int) -> bytes:
        """The 20-byte key valid at the unix second, empty where there is none: as the contract."""
        table = self._table
        at, valid = table.look_up(np.array([meter]), np.array([moment]))
        return table.devices[at[0]].tobytes() if valid[0] else b""

    def of_slots(self, meter: np.ndarray, slot: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The key whose signature counts for each meter and slot: uint8 (n, 20), and whether
        there is one, bool (n,)."""
        table = self._table
        moment = (np.asarray(slot, dtype=np.int64) + 1) * SLOT_SECONDS - 1
        at, valid = table.look_up(np.asarray(meter, dtype=np.int64), moment)
        if not len(table.devices):
            return np.zeros((len(at), 20), dtype=np.uint8), valid
        return table.devices[at], valid

    def periods(self, meter: int) -> list[Period]:
        """The meter's keys, first to last."""
        table = self._table
        at = int(np.searchsorted(table.meters, meter))
        if at == len(table.meters) or table.meters[at] != meter:
            return []
        return [
            Period(
                table.devices[row].tobytes(),
                int(table.starts[row]),
                None if table.ends[row] == OPEN else int(table.ends[row]),
            )
            for row in range(int(table.first[at]), int(table.last[at]) + 1)
        ]

    def follow(self) -> int:
        """Take in what the registry has logged since; the number of events. Nothing for `fixed`.

        A chain that was reorganised is read anew from the start. Raises CheckFailed when the node
        does not answer; what was known stays.
        """
        source = self._source
        if source is None:
            return 0
        events, anew = source.news()
        known: dict[int, list[Period]] = {}
        conflicted: set[int] = set() if anew else set(self.conflicted)
        for event, moment in events:
            meter = int(event.args["meter"])
            if event.name == "MeterRegistered":
                if event.args["zone"] == source.zone:
                    known[meter] = [Period(address_bytes(event.args["device"]), moment)]
                continue
            if meter not in known:
                before = [] if anew else self.periods(meter)
                if not before:
                    continue  # of another zone
                known[meter] = before
            if event.name == "KeyRotated":
                device = address_bytes(event.args["device"])
                known[meter] = _rotated(known[meter], device, event.args["valid_from"], moment)
            elif event.name == "KeySuspended":
                device = address_bytes(event.args["device"])
                known[meter] = _ended(known[meter], device, event.args["valid_to"])
            else:
                conflicted.add(meter)
        if known or anew:
            self._table = _Table.of(known, None if anew else self._table)
        self.conflicted = conflicted
        source.taken()
        return len(events)


def verified(
    rows: Readings, keys: KeyPeriods, separator: bytes, workers: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Which readings are signed by the key their meter had at the end of the slot, bool (n,), and
    the links of those, uint8 (k, 32). Signatures must be normalised."""
    digests = signing.digests(separator, rows)
    found = signing.signers(digests, rows.signature, workers)
    expected, valid = keys.of_slots(rows.meter, rows.slot)
    good = valid & found.any(axis=1) & (found == expected).all(axis=1)
    picked = np.flatnonzero(good)
    links = signing.links([digests[i] for i in picked.tolist()], rows.signature[picked])
    return good, links


def _rotated(
    periods: Sequence[Period], device: bytes, valid_from: int, moment: int
) -> list[Period]:
    """As `MeterRegistry.rotate_key` at `moment`: a rotation still ahead is replaced."""
    *older, newest = periods
    if newest.valid_from > moment:
        # Where the one before ends only because the rotation would begin, it ends with this one.
        if older and older[-1].valid_to == newest.valid_from:
            older[-1] = Period(older[-1].device, older[-1].valid_from, valid_from)
        return [*older, Period(device, valid_from)]
    if newest.valid_to is None:
        newest = Period(newest.device, newest.valid_from, valid_from)
    return [*older, newest, Period(device, valid_from)]


def _ended(periods: Sequence[Period], device: bytes, moment: int) -> list[Period]:
    """As `MeterRegistry._end_key`; by a conflict the moment may lie in the past."""
    return [
        Period(device, period.valid_from, moment) if period.device == device else period
        for period in periods
    ]


class _Source:
    """A registry's events from a block on, with the time of each, and whether the chain is still
    the one that was read."""

    def __init__(self, registry: Contract, zone: int, first_block: int) -> None:
        self.zone = zone
        self._registry = registry
        self._first_block = first_block
        self._next = first_block
        self._last: tuple[int, str] | None = None
        self._ahead: tuple[int, str] | None = None

    def news(self) -> tuple[list[tuple[Event, int]], bool]:
        """What was logged since the last call that was `taken`, and whether that is everything
        since the first block, because the blocks read before are no longer in the chain."""
        chain = self._registry.chain
        anew = self._last is not None and self._block(self._last[0])["hash"] != self._last[1]
        first = self._first_block if anew else self._next
        last = chain.block_number()
        self._ahead = (last, str(self._block(last)["hash"]))
        if first > last:
            return [], anew
        topics = [self._registry.interface.topic(name) for name in _EVENTS]
        found = chain.logs([self._registry.address], first, last, [topics])
        times: dict[int, int] = {}
        for event in found:
            if event.block not in times:
                times[event.block] = int(self._block(event.block)["timestamp"], 16)
        return [(event, times[event.block]) for event in found], anew

    def taken(self) -> None:
        if self._ahead is not None:
            self._last = self._ahead
            self._next = self._ahead[0] + 1

    def _block(self, number: int) -> Mapping[str, str]:
        block = self._registry.chain.rpc("eth_getBlockByNumber", hex(number), False)
        if block is None:
            # A shorter chain than before: what was read there is gone.
            return {"hash": "", "timestamp": "0x0"}
        if not isinstance(block, Mapping):
            raise CheckFailed(f"the node at {self._registry.chain.url} gives no block {number}")
        return block
