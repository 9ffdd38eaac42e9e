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
from dao.audit.report.tabular import data_package
from dao.audit.report.workbook import workbook

if TYPE_CHECKING:
    from dao.audit.package import Content

MAKERS: Mapping[str, Callable[[Content], bytes]] = {
    "datapackage.json": data_package,
    "ocds/releases.json": release_package,
    "report.pdf": pdf,
    "summary.xlsx": workbook,
}


def files(content: Content) -> dict[str, bytes]:
    """Every further part by path."""
    return {path: make(content) for path, make in MAKERS.items()}


def check(content: Content, read: Callable[[str], bytes]) -> str | None:
    """What is wrong with the parts of a dossier: each must be what its tables come to."""
    for path, make in MAKERS.items():
        if read(path) != make(content):
            return f"{path} is not what the tables come to (made by {content.scope.software})"
    return None
