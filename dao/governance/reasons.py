# SPDX-License-Identifier: Apache-2.0
"""The texts of reasons whose hashes a batch of ballots brought to the chain.

Whoever carries a batch publishes them: one JSON list for each proposal. Nobody has to be trusted
about a text, because only one whose hash stands on the chain is shown.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

from dao.eip712 import keccak
from dao.paths import ensure_parent, home

MAX_FILE = 16 << 20
MAX_REASON = 1_024
"""Bytes of a reason that the governor takes."""


def reasons_path(proposal: int, folder: Path | None = None) -> Path:
    """Where the reasons on a proposal lie."""
    return (folder or home()) / "reasons" / f"0x{proposal:064x}.json"


def publish(proposal: int, reasons: Iterable[str], folder: Path | None = None) -> Path:
    """Add texts to those published on a proposal; the same text once, an empty one not at all."""
    path = ensure_parent(reasons_path(proposal, folder))
    texts = dict.fromkeys([*read(proposal, folder).values(), *(one for one in reasons if one)])
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=path.name, suffix=".tmp", delete=False, encoding="utf-8"
    ) as part:
        json.dump(list(texts), part, ensure_ascii=False)
    Path(part.name).replace(path)
    return path


def read(proposal: int, folder: Path | None = None) -> dict[str, str]:
    """The texts published on a proposal by the keccak of each, 0x text. What cannot be read as such
    is nobody's reason and left out."""
    path = reasons_path(proposal, folder)
    try:
        if path.stat().st_size > MAX_FILE:
            return {}
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    texts: dict[str, str] = {}
    for text in found if isinstance(found, list) else ():
        try:
            raw = text.encode("utf-8")
        except (AttributeError, UnicodeEncodeError):
            continue
        if 0 < len(raw) <= MAX_REASON:
            texts["0x" + keccak(raw).hex()] = text
    return texts
