# SPDX-License-Identifier: Apache-2.0
"""The PDF: chapters in their order, handed to typst as data.

PDF/A-2a (for archives, text and structure kept) and PDF/UA-1 (for screen readers). Only the fonts
that typst brings are used, and the document's date is that of the dossier, so the same content
gives the same bytes.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from dao.audit.report import chapters_machine as machine
from dao.audit.report import chapters_market as market
from dao.audit.report import chapters_people as people
from dao.audit.report import chapters_scope as front
from dao.audit.report import chapters_votes as votes
from dao.audit.report.charts import GREEN
from dao.audit.report.reader import Reader
from dao.errors import CheckFailed

if TYPE_CHECKING:
    from typst import PDFStandard

    from dao.audit.package import Content

STANDARDS: list[PDFStandard] = ["a-2a", "ua-1"]

CHAPTERS = (
    front.scope,
    front.proof,
    front.figures,
    market.energy,
    market.trade,
    market.settlement,
    market.quality,
    votes.balancing,
    votes.forecasts,
    people.spending,
    people.governance,
    people.gains,
    machine.anomalies,
    machine.clearing,
    machine.gas,
    machine.carbon,
    machine.privacy,
    machine.method,
)

_MARK = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" width="24" height="24">'
    f'<path fill="{GREEN}" d="M3 12 12 3l9 9h-2.6v8.5H5.6V12z"/>'
    '<path fill="#ffffff" d="m12.9 8.3-4 5.6h2.7l-.5 4 4-5.6h-2.7z"/></svg>'
)


def contents(content: Content) -> dict[str, Any]:
    """Everything that the page shows, as plain data."""
    reader = Reader(content)
    w = reader.words
    begin, end = reader.period.days
    blocks = [block for chapter in CHAPTERS for block in chapter(reader)]
    return {
        "language": w.language,
        "region": "GB" if w.language == "en" else "DE",
        "title": w("report.title", zone=reader.period.zone),
        "period": w.days(begin, end),
        "running": w("report.running", zone=reader.period.zone),
        "foot": w("report.foot"),
        "author": "GridCommons",
        "description": w("report.description", zone=reader.period.zone, days=w.days(begin, end)),
        "keywords": w("report.keywords").split(", "),
        "contents": w("report.contents"),
        "mark": _MARK,
        "mark_alt": w("report.mark_alt"),
        "opening": machine.opening(reader),
        "blocks": blocks,
        # Where the second column of the contents begins.
        "middle": [at for at, one in enumerate(blocks) if one.get("level") == 1][
            len(CHAPTERS) // 2
        ],
    }


def pdf(content: Content) -> bytes:
    """report.pdf in the dossier's language."""
    return _drawn(json.dumps(contents(content)), content.scope.as_of)


@lru_cache(maxsize=1)
def _drawn(data: str, when: int) -> bytes:
    """The document of some data; kept, for who makes a dossier often checks it next."""
    import typst

    template = files("dao.audit.report").joinpath("report.typ").read_bytes()
    try:
        return typst.compile(
            template,
            format="pdf",
            ignore_system_fonts=True,
            sys_inputs={"data": data},
            pdf_standards=STANDARDS,
            timestamp=when,
        )
    except typst.TypstError as error:
        raise CheckFailed(f"the report cannot be drawn: {error.message}") from None
