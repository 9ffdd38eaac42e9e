# SPDX-License-Identifier: Apache-2.0
"""What a dossier holds beside tables and proofs: modules that make further parts from its content.

Such a module has `files(content) -> Mapping[str, bytes]` (path to bytes, the same for
the same content) and may have `check(content, read) -> str | None`, which says what is wrong with
its parts in a dossier; `read` gives a part's bytes. It raises NotCompared where it cannot tell.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

from dao.audit.package import Content


class NotCompared(Exception):
    """Why a part cannot be made again here."""


PARTS: tuple[str, ...] = ("dao.audit.report",)
"""Modules, imported when a dossier is made or checked."""


def further_files(content: Content) -> dict[str, bytes]:
    """All further parts."""
    found: dict[str, bytes] = {}
    for name in PARTS:
        made: Mapping[str, bytes] = importlib.import_module(name).files(content)
        if twice := found.keys() & made.keys():
            raise ValueError(f"two modules make {', '.join(sorted(twice))}")
        found.update(made)
    return found


def fault_in_parts(content: Content, read: Callable[[str], bytes]) -> str | None:
    """What a module finds wrong with its parts, None where all is well."""
    for name in PARTS:
        check = getattr(importlib.import_module(name), "check", None)
        if check is not None and (fault := check(content, read)) is not None:
            return str(fault)
    return None
