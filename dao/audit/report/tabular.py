# SPDX-License-Identifier: Apache-2.0
"""datapackage.json: the tables described for Frictionless, from the one list of tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

from dao.audit.tables import TABLES, Column, Table

if TYPE_CHECKING:
    from dao.audit.package import Content

_TYPES = {"int": "integer", "text": "string", "bool": "boolean"}
_NOT_UNIQUE = ("anomalies",)
"""Tables whose key gives their order and may repeat."""


def tools() -> dict[str, str]:
    """Versions of the libraries that draw the report and the sheets."""
    return {name: metadata.version(name) for name in ("typst", "xlsxwriter")}


def tools_of(package: bytes) -> dict[str, str]:
    """The versions that a data package names; none where it names none."""
    try:
        named = json.loads(package)["tools"]
        return {str(name): str(version) for name, version in named.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def data_package(content: Content, made_with: Mapping[str, str] | None = None) -> bytes:
    """datapackage.json. made_with: versions of `tools`, those that are here by default."""
    scope = content.scope
    begin, end = scope.period.days
    document = {
        "profile": "tabular-data-package",
        "name": f"gridcommons-zone-{scope.period.zone}-{begin}-{end}",
        "title": f"Energy market of zone {scope.period.zone}, {begin} to {end} (UTC)",
        "description": (
            "Each table lies here as CSV and, with the same rows, as Parquet beside it. "
            "manifest.json has the hash of every file."
        ),
        "created": f"{datetime.fromtimestamp(scope.as_of, UTC):%Y-%m-%dT%H:%M:%SZ}",
        "chain_id": scope.chain_id,
        "software": scope.software,
        "tools": tools() if made_with is None else dict(made_with),
        "resources": [_resource(table) for table in TABLES.values()],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def _resource(table: Table) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "fields": [_field(column) for column in table.columns],
        "missingValues": [""],
    }
    if table.key and table.name not in _NOT_UNIQUE:
        schema["primaryKey"] = list(table.key)
    return {
        "profile": "tabular-data-resource",
        "name": table.name,
        "title": table.title,
        "description": f"Rests on: {table.basis}.",
        "path": f"data/{table.name}.csv",
        "format": "csv",
        "mediatype": "text/csv",
        "encoding": "utf-8",
        "dialect": {"delimiter": ",", "quoteChar": '"', "doubleQuote": True, "header": True},
        "schema": schema,
    }


def _field(column: Column) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": column.name,
        "type": _TYPES[column.kind],
        "description": column.meaning,
    }
    if column.unit:
        found["unit"] = column.unit
    # An empty text is a value, and looks like none in CSV.
    if not column.nullable and column.kind != "text":
        found["constraints"] = {"required": True}
    return found
