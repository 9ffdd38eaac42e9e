# SPDX-License-Identifier: Apache-2.0
"""The report to read: what a dossier holds for people and for other programs beside its tables.

    report.pdf           drawn by typst, English or German, PDF/A-2a and PDF/UA-1
    summary.xlsx         the same summaries as sheets
    ocds/releases.json   public spending as Open Contracting releases
    datapackage.json     the tables described for Frictionless

All of it follows from the dossier's content and nothing else: no clock, no network, no fonts of the
machine. So `check` makes it again and compares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from dao.audit.report.contracting import release_package
from dao.audit.report.document import pdf
from dao.audit.report.glyphs import printable
from dao.audit.report.tabular import data_package, tools, tools_of
from dao.audit.report.workbook import summary

if TYPE_CHECKING:
    from dao.audit.package import Content


class NotCompared(Exception):
    """Why a part cannot be made again here."""


MAKERS: Mapping[str, Callable[[Content], bytes]] = {
    "datapackage.json": data_package,
    "ocds/releases.json": release_package,
    "report.pdf": pdf,
    "summary.xlsx": summary,
}
DRAWN = ("report.pdf", "summary.xlsx")
"""Parts whose bytes depend on the version of a library."""


def files(content: Content) -> dict[str, bytes]:
    """Every further part by path."""
    return {path: make(content) for path, make in MAKERS.items()}


def check(content: Content, read: Callable[[str], bytes]) -> str | None:
    """What is wrong with the parts of a dossier: each must be what its tables come to.

    NotCompared where all that depends on no library holds, and the dossier was made with other
    versions of those that draw than are here.
    """
    package = read("datapackage.json")
    made_with = tools_of(package)
    mine = tools()
    if package != data_package(content, made_with):
        return "datapackage.json is not what the tables come to"
    for path, make in MAKERS.items():
        if path in DRAWN and made_with != mine:
            continue
        given = read(path)
        if path != "datapackage.json" and given != make(content):
            return f"{path} is not what the tables come to"
    if made_with != mine:
        raise NotCompared(
            f"{' and '.join(DRAWN)} were made with {_said(made_with)}, here is {_said(mine)}: "
            "only their hashes are checked"
        )
    return None


def _said(versions: Mapping[str, str]) -> str:
    text = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return printable(text, 80, breaks=False) or "nothing named"
