# SPDX-License-Identifier: Apache-2.0
"""What a chapter is made of, as the template (report.typ) takes it: plain dictionaries of text.

Text is handed to typst as data and never read as its markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Block = dict[str, Any]


def heading(text: str, level: int = 1) -> Block:
    """A chapter's or section's title."""
    return {"kind": "heading", "level": level, "text": text}


def paragraph(text: str, *, small: bool = False) -> Block:
    """Running text; small for a remark."""
    return {"kind": "text", "text": text, "small": small}


def points(items: Sequence[str]) -> Block:
    """A list."""
    return {"kind": "points", "items": list(items)}


def cards(items: Sequence[tuple[str, str, str]]) -> Block:
    """Figures to see at a glance: label, value, remark."""
    return {"kind": "cards", "items": [list(item) for item in items]}


def box(tone: str, title: str, items: Sequence[str]) -> Block:
    """A framed list; tone: good, bad or plain."""
    return {"kind": "box", "tone": tone, "title": title, "items": list(items)}


def pair(left: Block, right: Block) -> Block:
    """Two boxes beside each other."""
    return {"kind": "pair", "left": left, "right": right}


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    align: str,
    widths: Sequence[float | None],
    code: Sequence[int] = (),
) -> Block:
    """align: l or r by column; widths: shares, None for as wide as its text; code: columns of
    hashes and the like."""
    assert len(head) == len(align) == len(widths)
    assert all(len(row) == len(head) for row in rows)
    return {
        "kind": "table",
        "head": list(head),
        "rows": [list(row) for row in rows],
        "align": ["right" if one == "r" else "left" for one in align],
        "widths": list(widths),
        "code": list(code),
    }


def chart(svg: str, caption: str, alt: str) -> Block:
    """A picture; alt says what it shows to who cannot see it."""
    return {"kind": "chart", "svg": svg, "caption": caption, "alt": alt}
