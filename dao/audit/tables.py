# SPDX-License-Identifier: Apache-2.0
"""Every table of a dossier: its columns, their units and meaning, and on whose word they rest.

One list for export, verify and `datapackage.json`. What fills the tables is in `build` and, for
what only the operator can know, in `forecasting/dossier.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from dao.audit.table_list import TABLE_LIST

if TYPE_CHECKING:
    import pyarrow as pa


class Basis(StrEnum):
    """On whose word a figure rests.

    `metered`: the ledger's totals, which the zone's collector committed from signed readings;
    `chain`: computed from the chain's events, by anyone again; `operator`: said by the zone's
    operator, held to by the anchor and checked for consistency only.
    """

    METERED = "metered"
    CHAIN = "chain"
    OPERATOR = "operator"


@dataclass(frozen=True)
class Column:
    """kind: int (64 bits), text or bool; unit: "" where there is none."""

    name: str
    kind: str
    unit: str
    meaning: str
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """One table. `key`: the columns that tell its rows apart and give their order."""

    name: str
    title: str
    basis: Basis
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    def schema(self) -> pa.Schema:
        """The columns as Arrow has them, each with its unit and meaning."""
        import pyarrow as pa

        kinds = {"int": pa.int64(), "text": pa.string(), "bool": pa.bool_()}
        return pa.schema(
            [
                pa.field(
                    column.name,
                    kinds[column.kind],
                    nullable=column.nullable,
                    metadata={"unit": column.unit, "meaning": column.meaning},
                )
                for column in self.columns
            ],
            metadata={"title": self.title, "basis": str(self.basis)},
        )

    def of_rows(self, rows: Iterable[Sequence[Any]]) -> pa.Table:
        """Rows in the columns' order, sorted by the key."""
        listed = list(rows)
        columns = list(zip(*listed, strict=True)) if listed else [()] * len(self.columns)
        names = [column.name for column in self.columns]
        return self.of_columns(dict(zip(names, columns, strict=True)))

    def of_columns(self, columns: Mapping[str, Any], *, is_sorted: bool = False) -> pa.Table:
        """Columns by name (lists or arrays), sorted by the key unless they are."""
        import pyarrow as pa

        schema = self.schema()
        arrays = [_array(columns[field.name], field.type) for field in schema]
        table = pa.Table.from_arrays(arrays, schema=schema)
        if is_sorted or not self.key or table.num_rows < 2:
            return table
        return table.sort_by([(name, "ascending") for name in self.key])


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    if isinstance(values, np.ma.MaskedArray):
        return pa.array(values.data, type=kind, mask=np.ma.getmaskarray(values))
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values.cast(kind)
    return pa.array(values, type=kind)


def _parse() -> dict[str, Table]:
    found: dict[str, Table] = {}
    for name, title, basis, key, text in TABLE_LIST:
        columns = []
        for line in text.strip().splitlines():
            head, kind, unit, meaning = (part.strip() for part in line.split("|"))
            nullable = kind.endswith("?")
            columns.append(
                Column(head, kind.rstrip("?"), "" if unit == "-" else unit, meaning, nullable)
            )
        found[name] = Table(name, title, Basis(basis), tuple(key.split()), tuple(columns))
    return found


TABLES: Mapping[str, Table] = _parse()
"""By name, in the order in which a reader meets them."""
