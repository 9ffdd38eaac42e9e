# SPDX-License-Identifier: Apache-2.0
"""How deep somebody else's JSON is nested, told before a parser sees it.

Python's parser recurses. Where a library has raised the recursion limit, as compilers do, deep
nesting ends the process instead of raising RecursionError.
"""

from __future__ import annotations

import re

MAX_DEPTH = 64
"""Deeper than any document that a meter, a portal or a person writes."""

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
