# SPDX-License-Identifier: Apache-2.0
"""Somebody else's JSON: how deep it is nested, told before a parser sees it, and its parts.

Python's parser recurses. Where a library has raised the recursion limit, as compilers do, deep
nesting ends the process instead of raising RecursionError. Whose file it is, and what it should
say, is not known here: what does not fit is a ValueError for the reader to name.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 64
"""Deeper than any document that a meter, a portal or a person writes."""

# Python's own; its parser ends in RecursionError well before the stack does.
_SAFE_LIMIT = 1_000

# A whole string, in which brackets say nothing, or a bracket.
_TOKENS = re.compile(r'"(?:\\.|[^"\\])*"|[\[\]{}]', re.DOTALL)


def is_too_deep(text: str) -> bool:
    """Whether lists and objects lie within each other more than MAX_DEPTH times."""
    depth = 0
    for token in _TOKENS.finditer(text):
        sign = token[0]
        if sign in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif sign in "]}":
            depth -= 1
    return False


def loads(data: str | bytes | bytearray) -> Any:
    """The JSON document in an answer of any size. ValueError where it is none.

    Telling the depth costs more than parsing, so it is told only where the interpreter's own limit
    has been raised and no longer protects.
    """
    if sys.getrecursionlimit() > _SAFE_LIMIT:
        text = data if isinstance(data, str) else data.decode()
        if is_too_deep(text):
            raise ValueError("nested too deep")
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deep") from None


def parse(data: bytes, most_bytes: int) -> Any:
    """The JSON document in the bytes of a file. ValueError, with the reason, for anything else."""
    if len(data) > most_bytes:
        raise ValueError(f"longer than {most_bytes >> 20} MiB")
    text = data.decode()
    if is_too_deep(text):
        raise ValueError("nested too deep")
    return json.loads(text)


def fields_of(value: Any, what: str, names: set[str]) -> Mapping[str, Any]:
    """An object with exactly these fields."""
    if not isinstance(value, dict) or set(value) != names:
        raise ValueError(f"{what} has the fields {', '.join(sorted(names))}")
    return value


def list_of(value: Any, name: str, most: int) -> list[Any]:
    """A list that is not too long."""
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"{name} is a list of at most {most:,}")
    return value


def whole_number(value: Any, name: str, least: int, most: int) -> int:
    """A whole number in a range, and no truth value."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} is a whole number from {least} to {most}")
    return value
