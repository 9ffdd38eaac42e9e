# SPDX-License-Identifier: Apache-2.0
"""A home's data on this machine: grants and who read, disclosures, erasures, what stores hold.

Whoever asks has made sure that the home is the visitor's own, or brings a signature that `meters`
judges. Owners are asked of the registry at that moment, times are the chain's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dao.eip712 import address_bytes
from dao.errors import CheckFailed
from dao.node import Addresses, Node
from dashboard.settings import Settings
from meters.erasure import Done, Erasure, Stores, check_final, erase_month, find, unfinished
from meters.granted import Committed, asks_registry, owner_of
from meters.grants import Access, Grants, Held, grant_separator
from meters.leaves import first_slot_of_month, month_at
from meters.secrets import SecretStore
from meters.signing import reading_separator

if TYPE_CHECKING:
    from meters.disclosure import Disclosure
    from meters.lake import Lake

MAX_SHOWN = 200
"""Grants and accesses that a page gets at most, the newest."""


class NoChain(CheckFailed):
    """No node or no contracts are known here: nobody can be asked who owns a meter."""


@dataclass(frozen=True)
class Holdings:
    """How much of a meter's month lies where on this machine; None where a store is not here."""

    lake: int
    inbox: int | None
    relay: int | None
    secret: bool


@dataclass(frozen=True)
class OwnData:
    """The stores of one state folder, with the chain that says whose is what."""

    home: Path
    node: Node
    addresses: Addresses

    @classmethod
    def of(cls, settings: Settings) -> OwnData:
        """NoChain where the settings name no node or no contracts."""
        if settings.rpc is None or settings.deployment is None or settings.chain_id is None:
            raise NoChain("no market is known here")
        if not {"MeterRegistry", "ReadingLedger"} <= set(settings.deployment):
            raise NoChain("no registry of meters is known here")
        addresses = Addresses(settings.chain_id, dict(settings.deployment))
        return cls(settings.home, Node(settings.rpc), addresses)

    @property
    def registry(self) -> str:
        return self.addresses["MeterRegistry"]

    @property
    def separator(self) -> bytes:
        """The EIP-712 domain of grants and of what `meters.consent` adds to them."""
        return grant_separator(self.addresses.chain_id, self.registry)

    @property
    def lake(self) -> Path:
        return self.home / "lake"

    def zone(self, meter: int) -> int:
        """The zone of a meter; CheckFailed where the registry does not know it."""
        _, zone = self.node.view(self.registry, "metering_point(uint256)", meter)
        if not zone:
            raise CheckFailed(f"the registry knows no meter {meter}")
        return zone

    def owns(self, address: str, meter: int) -> bool:
        """Whether the registry says now that the meter is this address's."""
        return owner_of(self.node, self.registry, meter) == address_bytes(address)

    def signed_by_owner(self, meter: int, digest: bytes, signature: bytes) -> bool:
        """Whether the meter's owner of now made the signature."""
        return asks_registry(self.node, self.registry)(meter, digest, signature)

    # grants

    @contextmanager
    def grants(self) -> Iterator[Grants]:
        """The store of grants, made where it is not there yet."""
        signed = asks_registry(self.node, self.registry)
        with Grants(self.home / "grants.sqlite", self.separator, signed) as store:
            yield store

    def committed(self, meter: int) -> Committed:
        """What grants give out of."""
        zone = self.zone(meter)
        ledger = self.addresses["ReadingLedger"]
        (until,) = self.node.view(ledger, "committed_until(uint256)", zone)
        return Committed(self.lake, zone, until)

    # disclosures

    def disclose(
        self, meter: int, slots: Iterable[int], *, with_records: bool = False
    ) -> Disclosure:
        """Some slots of a meter, opened."""
        from meters.disclosure import disclose

        with self.secrets() as secrets:
            return disclose(
                self.lake,
                secrets,
                self.addresses,
                self.zone(meter),
                meter,
                slots,
                with_records=with_records,
            )

    @contextmanager
    def secrets(self) -> Iterator[SecretStore]:
        """The homes' secrets; CheckFailed where they are not on this machine."""
        with SecretStore(self.home / "secrets.sqlite", make=False) as store:
            yield store

    # erasures

    @property
    def journal(self) -> Path:
        return self.home / "erasures"

    def erasure(self, meter: int, month: int) -> Erasure | None:
        """The erasure of a month, begun or finished."""
        return find(self.journal, meter, month)

    def broken_off(self, meter: int) -> list[Erasure]:
        """Erasures of the meter that were begun and did not end."""
        return [one for one in unfinished(self.journal) if one.meter == meter]

    def check_final(self, meter: int, month: int, now: int) -> int:
        """The zone of a month that can be erased; raises what `meters.erasure` does."""
        return check_final(self.node, self.addresses, self.lake, meter, month, now)

    def erase(self, zone: int, meter: int, month: int, now: int) -> Done:
        """Erase a month from all the stores of this machine."""
        with self.secrets() as secrets:
            stores = Stores(
                lake=self.lake,
                secrets=secrets,
                inbox=self.home / "inbox.sqlite",
                relay=self.home / "relay.sqlite",
                dispatches=self.home / "dispatch.sqlite",
                journal=self.journal,
                separator=reading_separator(self.addresses.chain_id, self.registry),
            )
            return erase_month(stores, zone, meter, month, now)

    def months(self, zone: int) -> list[int]:
        """Months that the zone's lake has anything of, the newest first."""
        found: set[int] = set()
        for file in _lake(self.lake).zone_batches(zone):
            found |= {month_at(file.first_slot), month_at(file.end_slot - 1)}
        return sorted(found, reverse=True)

    def holdings(self, zone: int, meter: int, month: int) -> Holdings:
        """How much of a month the stores hold."""
        first, end = first_slot_of_month(month), first_slot_of_month(month + 1)
        return Holdings(
            lake=_rows_in_lake(_lake(self.lake), zone, meter, first, end),
            inbox=_count(
                self.home / "inbox.sqlite",
                "SELECT count(*) FROM reading WHERE slot >= ? AND slot < ? AND meter = ?",
                (first, end, meter),
            ),
            relay=_count(
                self.home / "relay.sqlite",
                "SELECT count(*) FROM receipts WHERE first_slot >= ? AND first_slot < ? "
                "AND meter = ?",
                (first, end, meter),
            ),
            secret=bool(
                _count(
                    self.home / "secrets.sqlite",
                    "SELECT count(*) FROM month_secret WHERE month = ? AND meter = ? "
                    "AND secret IS NOT NULL",
                    (month, meter),
                )
            ),
        )


def grants_of(home: Path, meter: int) -> tuple[list[Held], list[Access]]:
    """A meter's grants and the record of accesses, the newest first; nothing is checked or written,
    so no node is needed."""
    path = home / "grants.sqlite"
    if not path.exists():
        return [], []

    def nobody(*_: object) -> bool:
        raise CheckFailed("grants are only read here")

    with Grants(path, bytes(32), nobody) as store:
        held, found = store.of_meter(meter), store.accesses(meter)
    return held[-MAX_SHOWN:][::-1], found[-MAX_SHOWN:][::-1]


def _lake(place: Path) -> Lake:
    from meters.lake import Lake

    return Lake.of(place)


def _rows_in_lake(lake: Lake, zone: int, meter: int, first: int, end: int) -> int:
    import duckdb

    from meters.lake.batches import batch_files

    files = batch_files(lake, zone, first, end - first)
    if not files:
        return 0
    try:
        with duckdb.connect(":memory:") as connection:
            connection.execute("SET threads = 2")
            lake.attach(connection)
            names = [lake.query_name(file.path) for file in files]
            connection.from_parquet(names, hive_partitioning=False).create_view("batch")
            row = connection.execute(
                "SELECT count(*) FROM batch WHERE meter = ? AND slot >= ? AND slot < ? "
                "AND NOT erased",
                (meter, first, end),
            ).fetchone()
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise CheckFailed(f"the readings cannot be read: {reason}") from error
    return int(row[0]) if row else 0


def _count(path: Path, sql: str, values: Sequence[Any]) -> int | None:
    if not path.exists():
        return None
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=2.0)) as db:
            return int(db.execute(sql, tuple(values)).fetchone()[0])
    except sqlite3.Error:
        return None
