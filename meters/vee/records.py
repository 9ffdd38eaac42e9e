# SPDX-License-Identifier: Apache-2.0
"""Edit records: what was put in place of what, by which rule, from which inputs.

A record stands for itself: `replay` computes its result from nothing else. How its hash becomes a
leaf is in `meters/leaves.py`; which rows get edited is decided in `edit.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, SupportsInt

from dao.errors import BadUse, CheckFailed
from dao.json_input import is_too_deep
from meters.readings import MAX_WH, NULL_WH, Quality
from meters.vee.rules import RULES, Values

MAX_RECORD_BYTES = 1 << 14
"""Several times what the longest record of a rule takes."""

_KEYS = {"meter", "slot", "rule", "version", "inputs", "before", "result"}
_BITS_64 = 1 << 64


@dataclass(frozen=True)
class EditRecord:
    """One step on one row. Several steps on a row follow each other: `before` of the next is the
    `result` of the last."""

    meter: int
    slot: int
    rule: str
    version: int
    inputs: Mapping[str, Any]
    before: Values
    result: Values

    def canonical(self) -> bytes:
        """The one way to write it: compact JSON, keys sorted, whole numbers only."""
        return json.dumps(
            {
                "meter": self.meter,
                "slot": self.slot,
                "rule": self.rule,
                "version": self.version,
                "inputs": self.inputs,
                "before": list(self.before),
                "result": list(self.result),
            },
            sort_keys=True,
            separators=(",", ":"),
            allow_nan=False,
        ).encode()

    @staticmethod
    def parse(data: bytes) -> EditRecord:
        """The record written as `data`. BadUse unless that is its canonical form."""
        record = _record(_json(data, MAX_RECORD_BYTES))
        # A second way to write the same record would have another hash.
        if record.canonical() != data:
            raise BadUse("an edit record is not in its canonical form")
        return record


def values_of(import_wh: SupportsInt, export_wh: SupportsInt, quality: SupportsInt) -> Values:
    """A row of columns as rules and records have it: None for `NULL_WH`."""
    imported, exported = int(import_wh), int(export_wh)
    return (
        None if imported == NULL_WH else imported,
        None if exported == NULL_WH else exported,
        int(quality),
    )


def pack(records: Iterable[EditRecord]) -> bytes:
    """The records of one row as the lake keeps them: a JSON array of canonical records."""
    return b"[" + b",".join(record.canonical() for record in records) + b"]"


def unpack(data: bytes) -> list[EditRecord]:
    """Inverse of `pack`. BadUse for anything that `pack` would not have written."""
    document = _json(data, 16 * MAX_RECORD_BYTES)
    if not isinstance(document, list):
        raise BadUse("the edit records of a row are not a list")
    records = [_record(entry) for entry in document]
    if pack(records) != data:
        raise BadUse("edit records are not in their canonical form")
    return records


def replay(record: EditRecord) -> Values:
    """What the record's rule makes of its inputs, from the record alone.

    CheckFailed where the rule is not known or does not apply to these inputs, BadUse where the
    inputs are not those of the rule.
    """
    rule = RULES.get((record.rule, record.version))
    if rule is None:
        raise CheckFailed(f"no rule {record.rule} of version {record.version} is known")
    try:
        return rule.apply(record.slot, record.before, record.inputs)
    except (KeyError, TypeError, ValueError, IndexError, ArithmeticError, AttributeError) as error:
        raise BadUse(f"the inputs are not those of the rule {record.rule}") from error


def _json(data: bytes, limit: int) -> Any:
    if len(data) > limit:
        raise BadUse(f"edit records of {len(data)} bytes are longer than any rule makes them")
    try:
        text = data.decode("ascii")
        if is_too_deep(text):
            raise BadUse("an edit record is nested too deep")
        return json.loads(text, parse_float=_no_number, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise BadUse("an edit record is not JSON of whole numbers") from error


def _no_number(text: str) -> Any:
    raise ValueError(text)


def _record(document: Any) -> EditRecord:
    if not isinstance(document, dict) or set(document) != _KEYS:
        raise BadUse(f"an edit record has the keys {', '.join(sorted(_KEYS))}")
    _check_numbers(document)
    meter, slot, version = document["meter"], document["slot"], document["version"]
    if not all(_is_whole(number) for number in (meter, slot, version)):
        raise BadUse("meter, slot and version of an edit record are whole numbers")
    if not isinstance(document["rule"], str) or not isinstance(document["inputs"], dict):
        raise BadUse("an edit record names a rule and its inputs")
    return EditRecord(
        meter,
        slot,
        document["rule"],
        version,
        document["inputs"],
        _values(document["before"]),
        _values(document["result"]),
    )


def _values(entry: Any) -> Values:
    if not isinstance(entry, list) or len(entry) != 3:
        raise BadUse("before and result of an edit record are import, export and quality")
    imported, exported, quality = entry
    for value in (imported, exported):
        if value is not None and not (_is_whole(value) and value <= MAX_WH):
            raise BadUse("an energy in an edit record is whole Wh or null")
    if not _is_whole(quality) or quality > max(Quality):
        raise BadUse(f"a quality lies between 0 and {max(Quality)}")
    return imported, exported, quality


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_numbers(document: Any) -> None:
    if isinstance(document, bool):
        raise BadUse("an edit record holds no true or false")
    if isinstance(document, int) and not -_BITS_64 < document < _BITS_64:
        raise BadUse("a number in an edit record is beyond 64 bits")
    entries: Sequence[Any] = ()
    if isinstance(document, dict):
        entries = list(document.values())
    elif isinstance(document, list):
        entries = document
    for entry in entries:
        _check_numbers(entry)
