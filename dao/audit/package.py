# SPDX-License-Identifier: Apache-2.0
"""A dossier as one file: a zip whose manifest names every part, and whose root is what is anchored.

    manifest.json            scope, parts with their hashes, root
    data/NAME.parquet, .csv  the tables of `tables`
    proofs/events.parquet    the events that belong to the period
    proofs/transactions.parquet, proofs/bills.parquet
    ...                      what `report` adds: the report to read, descriptions

The same content gives the same bytes. A file appears whole or not at all, and one that holds
anything beside its parts is refused.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import lzma
import os
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dao.audit.bills import bill_schema, bills_root
from dao.audit.scope import EventRow, Events, Scope, args_text
from dao.audit.tables import TABLES, Table
from dao.eip712 import keccak
from dao.errors import BadUse, CheckFailed
from dao.json_input import is_too_deep
from dao.merkle import root_of

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "gridcommons dossier 1"
MANIFEST = "manifest.json"
EVENTS = "proofs/events.parquet"
TRANSACTIONS = "proofs/transactions.parquet"
BILLS = "proofs/bills.parquet"

MAX_PARTS = 1_000
MAX_PART_BYTES = 1 << 31
MAX_MANIFEST_BYTES = 1 << 20

_SCOPE_TAG = keccak(b"GridCommons dossier scope v1")
_PART_TAG = keccak(b"GridCommons dossier part v1")
_PATH = re.compile(r"(?:[a-z0-9][a-z0-9_-]*/){0,4}[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_TIME = (1980, 1, 1, 0, 0, 0)
# These are packed already; to pack them again costs time and wins nothing.
_STORED = (".parquet", ".png", ".xlsx", ".zip")
_LOCAL_HEADER, _END_RECORD = 30, 22
# All that zipfile and the libraries under it answer a damaged part with. RuntimeError: one under a
# password, or (NotImplementedError) of a compression or version that zipfile does not know.
_NOT_UNPACKED = (
    *(zipfile.BadZipFile, KeyError, ValueError, EOFError, OSError, RuntimeError),
    *(zlib.error, lzma.LZMAError, struct.error),
)


@dataclass(frozen=True)
class Part:
    """One file of a dossier as the manifest names it."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Scope and parts; `root` binds both."""

    scope: Scope
    parts: tuple[Part, ...]
    bills_root: str

    @cached_property
    def root(self) -> str:
        """0x text of the Merkle root: the scope's leaf, then one for each part by path."""
        head = {"format": FORMAT, "scope": self.scope.as_dict(), "bills_root": self.bills_root}
        leaves = [keccak(_SCOPE_TAG + _canonical(head))]
        for part in self.parts:
            leaves.append(
                keccak(
                    _PART_TAG
                    + keccak(part.path.encode())
                    + part.size.to_bytes(8, "big")
                    + bytes.fromhex(part.sha256)
                )
            )
        return "0x" + root_of(leaves).hex()

    def encode(self) -> bytes:
        """The bytes of manifest.json."""
        document = {
            "format": FORMAT,
            "scope": self.scope.as_dict(),
            "bills_root": self.bills_root,
            "parts": [
                {"path": part.path, "bytes": part.size, "sha256": part.sha256}
                for part in self.parts
            ],
            "root": self.root,
        }
        return (json.dumps(document, indent=1, sort_keys=True, ensure_ascii=True) + "\n").encode()


def _canonical(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


@dataclass(frozen=True, eq=False)
class Content:
    """What a dossier is made of. spent: gas and price in wei by transaction."""

    scope: Scope
    tables: Mapping[str, pa.Table]
    events: Events
    spent: Mapping[str, tuple[int, int]]
    bills: pa.Table


# Writing


@contextmanager
def written_whole(path: Path) -> Iterator[io.BufferedWriter]:
    """A file beside `path` that takes its place once all of it is on disk, and else is gone."""
    folder = path.parent
    if path.is_dir() or not folder.is_dir():
        raise BadUse(f"cannot write {path}: {'it is a folder' if path.is_dir() else 'no folder'}")
    try:
        handle, name = tempfile.mkstemp(dir=folder, prefix=f".{path.name}-", suffix=".tmp")
    except OSError as error:
        raise BadUse(f"cannot write {path}: {error.strerror}") from None
    try:
        with os.fdopen(handle, "w+b") as out:
            yield out  # type: ignore[misc]
            out.flush()
            os.fsync(out.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise BadUse(f"cannot write {path}: {error.strerror}") from None
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write(path: Path, content: Content, extra: Mapping[str, bytes]) -> Manifest:
    """Write a dossier; extra: further parts by path."""
    parts: list[Part] = []
    with written_whole(path) as out, zipfile.ZipFile(out, "w") as archive:
        for name, data in _parts(content, extra):
            if not _PATH.fullmatch(name) or name == MANIFEST:
                raise ValueError(f"{name} cannot name a part")
            add_part(archive, name, data)
            parts.append(Part(name, len(data), hashlib.sha256(data).hexdigest()))
        manifest = Manifest(content.scope, tuple(parts), "0x" + bills_root(content.bills).hex())
        add_part(archive, MANIFEST, manifest.encode())
    return manifest


def add_part(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Put a part into the zip as every dossier has it."""
    entry = zipfile.ZipInfo(name, _TIME)
    entry.external_attr = 0o644 << 16
    entry.create_system = 3
    entry.compress_type = zipfile.ZIP_STORED if name.endswith(_STORED) else zipfile.ZIP_DEFLATED
    archive.writestr(entry, data, compresslevel=6)


def _parts(content: Content, extra: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """All parts by path, one at a time."""
    makers: dict[str, Any] = dict(extra)
    for name, table in content.tables.items():
        makers[f"data/{name}.parquet"] = (parquet_bytes, table)
        makers[f"data/{name}.csv"] = (csv_bytes, table)
    makers[EVENTS] = (parquet_bytes, events_table(content.events))
    makers[TRANSACTIONS] = (parquet_bytes, transactions_table(content.spent))
    makers[BILLS] = (parquet_bytes, content.bills)
    for name in sorted(makers):
        made = makers[name]
        yield name, made if isinstance(made, bytes) else made[0](made[1])


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as a Parquet file: the same bytes for the same table, by one version of pyarrow."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=1 << 20)
    return sink.getvalue()


def csv_bytes(table: pa.Table) -> bytes:
    """A table as CSV: UTF-8, a header row, an empty cell where a value is not known."""
    import pyarrow.csv as pc

    sink = io.BytesIO()
    pc.write_csv(table, sink, pc.WriteOptions(quoting_style="needed"))
    return sink.getvalue()


def events_table(events: Events) -> pa.Table:
    """The events as a table: args as compact JSON."""
    import pyarrow as pa

    rows = events.rows
    columns = {
        "block": pa.array([row.block for row in rows], pa.int64()),
        "log_index": pa.array([row.log_index for row in rows], pa.int64()),
        "timestamp": pa.array([row.timestamp for row in rows], pa.int64()),
        "tx": pa.array([row.tx for row in rows], pa.string()),
        "contract": pa.array([row.contract for row in rows], pa.string()),
        "event": pa.array([row.event for row in rows], pa.string()),
        "args": pa.array([args_text(row.args) for row in rows], pa.string()),
    }
    return pa.table(columns)


def transactions_table(spent: Mapping[str, tuple[int, int]]) -> pa.Table:
    """What transactions used: tx, gas, price in wei."""
    import pyarrow as pa

    names = sorted(spent)
    return pa.table(
        {
            "tx": pa.array(names, pa.string()),
            "gas": pa.array([spent[tx][0] for tx in names], pa.int64()),
            "price_wei": pa.array([spent[tx][1] for tx in names], pa.int64()),
        }
    )


# Reading


class Dossier:
    """An opened dossier. Its parts are read when they are asked for.

    BadUse where the file is no dossier at all; CheckFailed, with the part's name, where a part is
    not what it has to be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except OSError as error:
            raise BadUse(f"cannot read {path}: {error.strerror}") from None
        except (zipfile.BadZipFile, ValueError, NotImplementedError):
            # NotImplementedError: an entry says that it needs a later version of the zip format.
            raise BadUse(f"{path} is not a dossier: it is no zip file") from None
        self._entries = self._archive.infolist()
        self.manifest, self._said_root = self._read_manifest()
        self.scope = self.manifest.scope

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def __enter__(self) -> Dossier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def root(self) -> str:
        """The root that the manifest comes to."""
        return self.manifest.root

    def check_frame(self) -> None:
        """That the file is its parts and nothing else, and the manifest says its own root."""
        names = [entry.filename for entry in self._entries]
        wanted = [*(part.path for part in self.manifest.parts), MANIFEST]
        if names != wanted:
            for at, name in enumerate([*names, ""]):
                expected = wanted[at] if at < len(wanted) else ""
                if name != expected:
                    said = f"{name or 'nothing'} stands where {expected or 'nothing'} belongs"
                    raise CheckFailed(f"the parts are not those of the manifest: {said}")
        place = 0
        for entry in self._entries:
            if entry.header_offset != place or entry.extra or entry.comment or entry.flag_bits:
                raise CheckFailed(f"{entry.filename}: the zip file holds more than its parts")
            if entry.date_time != _TIME:
                raise CheckFailed(f"{entry.filename}: not as it was written")
            place += _LOCAL_HEADER + len(entry.filename.encode()) + entry.compress_size
        directory = sum(46 + len(entry.filename.encode()) for entry in self._entries)
        size = self.path.stat().st_size
        if self._archive.comment or place + directory + _END_RECORD != size:
            raise CheckFailed("the zip file holds more than its parts")
        if self._said_root != self.manifest.root:
            raise CheckFailed(
                f"{MANIFEST} says its root is {self._said_root}, it comes to {self.manifest.root}"
            )
        if self._raw(MANIFEST, MAX_MANIFEST_BYTES) != self.manifest.encode():
            raise CheckFailed(f"{MANIFEST} is not in its one form")

    def check_parts(self) -> int:
        """That every part has the size and hash that the manifest says; returns how many."""
        for part in self.manifest.parts:
            data = self._raw(part.path, part.size)
            if len(data) != part.size:
                raise CheckFailed(f"{part.path} has {len(data)} bytes, not {part.size}")
            if hashlib.sha256(data).hexdigest() != part.sha256:
                raise CheckFailed(f"{part.path} is not what the manifest says (another hash)")
        return len(self.manifest.parts)

    def read(self, path: str) -> bytes:
        """A part's bytes. CheckFailed where there is none."""
        for part in self.manifest.parts:
            if part.path == path:
                return self._raw(path, part.size)
        raise CheckFailed(f"the dossier has no {path}")

    @property
    def paths(self) -> list[str]:
        """All parts."""
        return [part.path for part in self.manifest.parts]

    def table(self, name: str) -> pa.Table:
        """A table of the list, from its Parquet file. CheckFailed unless it has its schema."""
        found = self._table(f"data/{name}.parquet")
        schema = TABLES[name].schema()
        if not found.schema.equals(schema):
            raise CheckFailed(f"data/{name}.parquet has other columns than the table {name}")
        for field in schema:
            if not field.nullable and found[field.name].null_count:
                raise CheckFailed(f"data/{name}.parquet: {field.name} has an empty cell")
        return found

    @cached_property
    def tables(self) -> dict[str, pa.Table]:
        """All tables of the list."""
        return {name: self.table(name) for name in TABLES}

    @cached_property
    def events(self) -> Events:
        """The events of the period."""
        table = self._table(EVENTS)
        try:
            rows = [
                EventRow(
                    row["block"],
                    row["log_index"],
                    row["timestamp"],
                    row["tx"],
                    row["contract"],
                    row["event"],
                    json.loads(row["args"]),
                )
                for row in table.to_pylist()
            ]
            return Events(rows)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise CheckFailed(f"{EVENTS} does not hold events") from None

    @cached_property
    def spent(self) -> dict[str, tuple[int, int]]:
        """Gas and price of the transactions."""
        table = self._table(TRANSACTIONS)
        try:
            return {
                str(row["tx"]): (int(row["gas"]), int(row["price_wei"]))
                for row in table.to_pylist()
            }
        except (ValueError, KeyError, TypeError):
            raise CheckFailed(f"{TRANSACTIONS} does not hold transactions") from None

    @cached_property
    def bills(self) -> pa.Table:
        """The bills, closed."""
        table = self._table(BILLS)
        if not table.schema.equals(bill_schema()):
            raise CheckFailed(f"{BILLS} has other columns than bills")
        return table

    def content(self) -> Content:
        """All of it."""
        return Content(self.scope, self.tables, self.events, self.spent, self.bills)

    # Inside

    def _table(self, path: str) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.read_table(io.BytesIO(self.read(path)))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise CheckFailed(f"{path} is not readable: {str(error).splitlines()[0]}") from None

    def _raw(self, path: str, most: int) -> bytes:
        try:
            with self._archive.open(path) as source:
                return source.read(most + 1)
        except _NOT_UNPACKED as error:
            raise CheckFailed(f"{path} cannot be unpacked: {error}") from None

    def _read_manifest(self) -> tuple[Manifest, str]:
        if len(self._entries) > MAX_PARTS or MANIFEST not in self._archive.NameToInfo:
            raise BadUse(f"{self.path} is not a dossier: it has no {MANIFEST}")
        try:
            text = self._raw(MANIFEST, MAX_MANIFEST_BYTES).decode("ascii")
            if len(text) > MAX_MANIFEST_BYTES or is_too_deep(text):
                raise ValueError("too large")
            document = json.loads(text)
            if document["format"] != FORMAT:
                raise BadUse(
                    f"{self.path} has the format {str(document['format'])[:60]!r}; this program "
                    f"reads {FORMAT!r}"
                )
            parts = tuple(
                Part(str(one["path"]), int(one["bytes"]), str(one["sha256"]))
                for one in document["parts"]
            )
            for part in parts:
                if not _PATH.fullmatch(part.path) or not 0 <= part.size <= MAX_PART_BYTES:
                    raise ValueError(part.path)
                if not re.fullmatch(r"[0-9a-f]{64}", part.sha256):
                    raise ValueError(part.sha256)
            manifest = Manifest(
                Scope.from_dict(document["scope"]), parts, str(document["bills_root"])
            )
            return manifest, str(document["root"])
        except CheckFailed as error:
            raise BadUse(f"{self.path} is not a dossier: {error}") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise BadUse(f"{self.path} is not a dossier: its {MANIFEST} is not readable") from None


def csv_difference(data: bytes, table: pa.Table, spec: Table) -> str | None:
    """Where a CSV file differs from its table: the first row and column, or None.

    Read with another parser than the one that wrote it.
    """
    if data == csv_bytes(table):
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return "not UTF-8"
    rows = csv.reader(io.StringIO(text, newline=""))
    header = next(rows, [])
    if header != [column.name for column in spec.columns]:
        return "another header"
    columns = [_as_text(table[column.name]) for column in spec.columns]
    count = 0
    for count, row in enumerate(rows, 1):
        if count > table.num_rows:
            return f"row {count}: more rows than the table has ({table.num_rows})"
        if len(row) != len(columns):
            return f"row {count}: {len(row)} cells"
        for column, cell, spec_column in zip(columns, row, spec.columns, strict=True):
            if column[count - 1] != cell:
                said = (
                    f"{spec_column.name} is {cell[:40]!r}, the table has {column[count - 1][:40]!r}"
                )
                return f"row {count}: {said}"
    if count != table.num_rows:
        return f"{count} rows, the table has {table.num_rows}"
    return None


def _as_text(column: pa.ChunkedArray) -> list[str]:
    import pyarrow as pa

    values: Iterable[Any] = column.to_pylist()
    if pa.types.is_boolean(column.type):
        return ["" if v is None else "true" if v else "false" for v in values]
    return ["" if v is None else str(v) for v in values]
