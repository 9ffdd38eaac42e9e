# SPDX-License-Identifier: Apache-2.0
"""Ways to alter a dossier: its bytes, and its content with every hash written anew.

Bytes altered in place leave the manifest as it is. A `Forger` knows the format: whatever is
changed, tables as CSV and Parquet, hashes and root agree again.
"""

from __future__ import annotations

import hashlib
import random
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from dao.audit import report
from dao.audit.bills import bills_root
from dao.audit.build import OPERATOR_TABLES, OperatorPart, all_tables, chain_part
from dao.audit.package import (
    BILLS,
    EVENTS,
    MANIFEST,
    TRANSACTIONS,
    Content,
    Dossier,
    Manifest,
    Part,
    add_part,
    csv_bytes,
    events_table,
    parquet_bytes,
    transactions_table,
)
from dao.audit.scope import Block, EventRow, Events, Placed, Scope
from dao.audit.tables import TABLES
from dao.errors import GridCommonsError


@dataclass(frozen=True)
class Alteration:
    """What is done, and what the fault has to name (any of these words)."""

    name: str
    make: Callable[[Path, Path], None]
    names: tuple[str, ...]


# Bytes


def repacked(source: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """The zip again, parts changed as they lie, in the same frame."""
    with zipfile.ZipFile(source) as archive:
        parts = {one.filename: archive.read(one) for one in archive.infolist()}
        infos = {one.filename: one for one in archive.infolist()}
    change(parts)
    with zipfile.ZipFile(target, "w") as out:
        for name, data in parts.items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.external_attr, info.create_system = 0o644 << 16, 3
            info.compress_type = infos.get(name, infos[MANIFEST]).compress_type
            out.writestr(info, data, compresslevel=6)


def byte_alterations(paths: list[str]) -> list[Alteration]:
    """Every part: a byte flipped, cut off, put in place of another; and the zip around them."""
    found: list[Alteration] = []
    chance = random.Random(3)
    for at, path in enumerate(paths):

        def flipped(parts: dict[str, bytes], path: str = path) -> None:
            data = bytearray(parts[path])
            place = chance.randrange(len(data))
            data[place] ^= 1 << chance.randrange(8)
            parts[path] = bytes(data)

        def cut(parts: dict[str, bytes], path: str = path) -> None:
            parts[path] = parts[path][:-1]

        other = paths[(at + 7) % len(paths)]

        def swapped(parts: dict[str, bytes], path: str = path, other: str = other) -> None:
            parts[path], parts[other] = parts[other], parts[path]

        for name, change, names in (
            ("a bit of", flipped, (path,)),
            ("the end of", cut, (path,)),
            ("another part in place of", swapped, (path, other)),
        ):
            found.append(
                Alteration(
                    f"{name} {path}",
                    lambda source, target, change=change: repacked(source, target, change),
                    names,
                )
            )
    for path in (paths[0], paths[len(paths) // 2], paths[-1]):

        def dropped(parts: dict[str, bytes], path: str = path) -> None:
            del parts[path]

        found.append(
            Alteration(
                f"{path} dropped", lambda s, t, change=dropped: repacked(s, t, change), (path,)
            )
        )

    def added(parts: dict[str, bytes]) -> None:
        parts["data/more.csv"] = b"1\n"

    def appended(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes() + b"more")

    def commented(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes())
        with zipfile.ZipFile(target, "a") as archive:
            archive.comment = b"a note"

    found += [
        Alteration("a part added", lambda s, t: repacked(s, t, added), ("data/more.csv",)),
        Alteration("bytes appended", appended, ("more than its parts",)),
        Alteration("a comment", commented, ("more than its parts",)),
    ]
    return found


# Content


class Forger:
    """Who knows the format, has a dossier, and writes others after it."""

    def __init__(self, source: Path) -> None:
        with Dossier(source) as dossier:
            self.content = dossier.content()
            self.parts = {path: dossier.read(path) for path in dossier.paths}

    def write(
        self,
        target: Path,
        *,
        tables: Mapping[str, pa.Table] | None = None,
        scope: Scope | None = None,
        events: Events | None = None,
        bills: pa.Table | None = None,
        spent: Mapping[str, tuple[int, int]] | None = None,
        from_events: bool = False,
        told_anew: bool = False,
    ) -> None:
        """The dossier with other content, every hash and the root in agreement.

        from_events: all tables that follow from events are made anew too; told_anew: the report
        as well, which takes its time.
        """
        old, parts, changed_tables = self.content, dict(self.parts), dict(tables or {})
        scope, events, spent = scope or old.scope, events or old.events, spent or old.spent
        if from_events:
            chain = chain_part(scope, events, spent)
            operator = OperatorPart({name: old.tables[name] for name in OPERATOR_TABLES})
            changed_tables = all_tables(scope, chain, operator, old.tables["changes"])
        for name, table in changed_tables.items():
            parts[f"data/{name}.parquet"] = parquet_bytes(table)
            parts[f"data/{name}.csv"] = csv_bytes(table)
        if events is not old.events:
            parts[EVENTS] = parquet_bytes(events_table(events))
        if spent is not old.spent:
            parts[TRANSACTIONS] = parquet_bytes(transactions_table(spent))
        bills = old.bills if bills is None else bills
        root = bills_root(bills)
        if bills is not old.bills:
            parts[BILLS] = parquet_bytes(bills)
        if told_anew:
            content = Content(scope, {**old.tables, **changed_tables}, events, spent, bills)
            parts |= report.files(content)
        listed = tuple(
            Part(path, len(data), hashlib.sha256(data).hexdigest())
            for path, data in sorted(parts.items())
        )
        manifest = Manifest(scope, listed, "0x" + root.hex())
        with zipfile.ZipFile(target, "w") as archive:
            for path, data in sorted(parts.items()):
                add_part(archive, path, data)
            add_part(archive, MANIFEST, manifest.encode())


def cell_changed(table: pa.Table, column: str, row: int) -> pa.Table:
    """A table with one cell changed: a number by one, a digit or sign of a text, a truth turned."""
    values = table[column].to_pylist()
    values[row] = changed(values[row], table.schema.field(column).type)
    at = table.column_names.index(column)
    return table.set_column(at, table.schema.field(column), pa.array(values, table[column].type))


def changed(value: Any, kind: pa.DataType) -> Any:
    if pa.types.is_boolean(kind):
        return not value
    if pa.types.is_integer(kind):
        return 1 if value is None else value + 1
    if not value:
        return "x"
    return value[:-1] + ("1" if value[-1] == "0" else "0")


def row_taken(table: pa.Table, row: int, times: int) -> pa.Table:
    """A table with one row dropped (times 0) or twice (2)."""
    rows = list(range(table.num_rows))
    return table.take(pa.array(rows[:row] + [row] * times + rows[row + 1 :], pa.int64()))


def rows_swapped(table: pa.Table, row: int) -> pa.Table:
    """A table with two neighbours in each other's place."""
    rows = list(range(table.num_rows))
    rows[row], rows[row + 1] = rows[row + 1], rows[row]
    return table.take(rows)


def table_alterations(forger: Forger) -> list[Alteration]:
    """Every column of every table: a cell; every table: a row dropped, doubled, swapped."""
    found: list[Alteration] = []
    chance = random.Random(5)

    def add(name: str, table: str, made: pa.Table) -> None:
        # What the operator says is first missed in the figures that are made of it.
        also = ("data/figures.",) if table in OPERATOR_TABLES else ()
        names = (f"data/{table}.", "not the dossier that was published", *also)
        found.append(
            Alteration(
                name,
                lambda _, t: forger.write(t, tables={table: made}, told_anew=bool(also)),
                names,
            )
        )

    for name, table in forger.content.tables.items():
        if not table.num_rows:
            continue
        for column in TABLES[name].columns:
            row = chance.randrange(table.num_rows)
            add(f"{name}.{column.name}, row {row}", name, cell_changed(table, column.name, row))
        row = chance.randrange(table.num_rows)
        add(f"{name}: row {row} dropped", name, row_taken(table, row, 0))
        add(f"{name}: row {row} twice", name, row_taken(table, row, 2))
        if table.num_rows > 1:
            row = chance.randrange(table.num_rows - 1)
            if table.slice(row, 1).equals(table.slice(row + 1, 1)):
                continue
            add(f"{name}: rows {row} and {row + 1} swapped", name, rows_swapped(table, row))
    return found


def event_alterations(forger: Forger) -> list[Alteration]:
    """Of every kind of event one left out, and one moved to another block; one made up. All tables
    follow where they can."""
    found: list[Alteration] = []
    events = forger.content.events
    kinds = sorted({row.event for row in events.rows})

    def add(name: str, rows: list[EventRow], event: str) -> None:
        def make(source: Path, target: Path) -> None:
            other = Events(rows)
            try:
                forger.write(target, events=other, from_events=True, told_anew=True)
            except (GridCommonsError, KeyError, ValueError, IndexError):
                forger.write(target, events=other)

        found.append(
            Alteration(
                name, make, (event, "data/", "proofs/", "session", "slot", "closes", "no rule")
            )
        )

    for kind in kinds:
        of_kind = [at for at, row in enumerate(events.rows) if row.event == kind]
        at = of_kind[len(of_kind) // 2]
        row = events.rows[at]
        add(f"{kind} left out", events.rows[:at] + events.rows[at + 1 :], kind)
        moved = row._replace(log_index=row.log_index + 500)
        add(f"{kind} moved", [*events.rows[:at], moved, *events.rows[at + 1 :]], kind)
    row = next(row for row in events.rows if row.event == "SlotSettled")
    more = row._replace(log_index=999)
    add("a second SlotSettled made up", [*events.rows, more], "SlotSettled")
    return found


def scope_alterations(forger: Forger) -> list[Alteration]:
    """Another chain, other contracts, fewer blocks, another time, zone or period."""
    scope = forger.content.scope
    period, last = scope.period, scope.last_block
    ledger = scope.contracts["ReadingLedger"]

    def contracts(name: str, placed: Placed) -> dict[str, Placed]:
        return {**scope.contracts, name: placed}

    others: dict[str, tuple[Scope, tuple[str, ...]]] = {
        "another chain": (replace(scope, chain_id=1), ("chain 1",)),
        "another ledger": (
            replace(
                scope,
                contracts=contracts(
                    "ReadingLedger", Placed(scope.contracts["EnergyMarket"].address, ledger.code)
                ),
            ),
            ("ReadingLedger",),
        ),
        "other code": (
            replace(
                scope,
                contracts=contracts("ReadingLedger", Placed(ledger.address, "0x" + "11" * 32)),
            ),
            ("ReadingLedger",),
        ),
        "a contract left out": (
            replace(
                scope,
                contracts={k: v for k, v in scope.contracts.items() if k != "DossierAnchor"},
            ),
            ("NOT ANCHORED",),
        ),
        "blocks that end earlier": (
            replace(scope, last_block=Block(last.number - 1, last.hash, last.timestamp)),
            ("block",),
        ),
        "blocks that begin later": (
            replace(scope, first_block=scope.first_block + 3, market_block=scope.market_block + 3),
            ("block",),
        ),
        "market blocks that begin later": (
            replace(scope, market_block=last.number - 3),
            ("block",),
        ),
        "an earlier end": (
            replace(scope, as_of=scope.as_of - 86_400),
            ("period", "block", "closes"),
        ),
        "a later end": (
            replace(scope, as_of=scope.as_of + 86_400),
            ("period", "block", "published"),
        ),
        "closed earlier": (replace(scope, closes_at=scope.closes_at - 86_400), ("closes",)),
        "other tariffs": (
            replace(scope, tariffs={**scope.tariffs, "retail": 399}),
            ("data/figures", "published"),
        ),
        "other software": (replace(scope, software="another"), ("published",)),
        "another language": (replace(scope, language="de"), ("published",)),
        "a correction of nothing": (replace(scope, corrects="0x" + "22" * 32), ("published",)),
        "another zone": (
            replace(scope, period=replace(period, zone=2)),
            ("data/", "zone", "events"),
        ),
        "a day less": (
            replace(scope, period=replace(period, slots=period.slots - 96)),
            ("data/", "closes"),
        ),
        "a day more": (
            replace(scope, period=replace(period, slots=period.slots + 96)),
            ("data/", "closes"),
        ),
    }

    def maker(other: Scope) -> Callable[[Path, Path], None]:
        return lambda _, target: forger.write(target, scope=other, told_anew=True)

    return [Alteration(name, maker(other), names) for name, (other, names) in others.items()]


def proof_alterations(forger: Forger) -> list[Alteration]:
    """Bills exchanged between homes, left out, changed; gas that was not used."""
    bills, spent = forger.content.bills, forger.content.spent
    rows = bills.to_pylist()

    def with_rows(changed_rows: list[dict[str, Any]]) -> Callable[[Path, Path], None]:
        table = pa.Table.from_pylist(changed_rows, schema=bills.schema)
        return lambda _, target: forger.write(target, bills=table, told_anew=True)

    def exchanged(*columns: str) -> list[dict[str, Any]]:
        other = [dict(row) for row in rows]
        for column in columns:
            other[2][column], other[9][column] = other[9][column], other[2][column]
        return other

    tx = sorted(spent)[0]
    more = {**spent, tx: (spent[tx][0] + 1, spent[tx][1])}
    fewer = {name: value for name, value in spent.items() if name != tx}
    published = ("published", "proofs/bills")
    return [
        Alteration("bills exchanged", with_rows(exchanged("leaf", "box")), published),
        Alteration("boxes exchanged", with_rows(exchanged("box")), published),
        Alteration("leaves exchanged", with_rows(exchanged("leaf")), published),
        Alteration("a bill left out", with_rows(rows[1:]), published),
        Alteration("a bill twice", with_rows([rows[0], *rows]), published),
        Alteration("bills in another order", with_rows(rows[::-1]), published),
        Alteration(
            "gas changed",
            lambda _, t: forger.write(t, spent=more, from_events=True, told_anew=True),
            ("gas",),
        ),
        Alteration(
            "a transaction left out", lambda _, t: forger.write(t, spent=fewer), ("proofs/",)
        ),
    ]
