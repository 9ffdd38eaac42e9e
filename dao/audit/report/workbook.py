# SPDX-License-Identifier: Apache-2.0
"""summary.xlsx: the summaries as sheets, in units that people read, without a formula.

Every text is written as text, never as a formula or a link. Inside, the file is stored without
compression (the library's own depends on the machine's zlib), so its bytes are everywhere the same.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dao.audit.report.glyphs import printable
from dao.audit.report.reader import Reader
from dao.audit.report.sheets import SHEETS, Kind, Sheet

if TYPE_CHECKING:
    from dao.audit.package import Content

_TIME = (1980, 1, 1, 0, 0, 0)
_FORMATS = {
    Kind.TEXT: "@",
    Kind.COUNT: "#,##0",
    Kind.KWH: "#,##0.000",
    Kind.EURO: "#,##0.00",
    Kind.CENT: "#,##0.0",
    Kind.SHARE: "0.0%",
}
_DIVISORS = {Kind.KWH: 1_000, Kind.EURO: 1_000_000, Kind.CENT: 10, Kind.SHARE: 1_000_000}
MOST_WIDE = 60
_BREAK = "\u200b"


def summary(content: Content) -> bytes:
    """summary.xlsx in the dossier's language."""
    import xlsxwriter

    reader = Reader(content)
    sink = io.BytesIO()
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    book = xlsxwriter.Workbook(sink, options)
    book.set_properties(
        {
            "title": reader.words("report.title", zone=reader.period.zone),
            "author": "GridCommons",
            "created": datetime.fromtimestamp(content.scope.as_of, UTC).replace(tzinfo=None),
        }
    )
    formats = {kind: book.add_format({"num_format": text}) for kind, text in _FORMATS.items()}
    head = book.add_format(
        {"bold": True, "bottom": 1, "text_wrap": True, "valign": "top", "font_color": "#1a7a57"}
    )
    title = book.add_format({"bold": True, "font_size": 14})
    note = book.add_format({"font_color": "#5a6861"})
    for make in SHEETS:
        _write(book, make(reader), formats, head, title, note)
    book.close()
    return _stored(sink.getvalue())


def _write(
    book: Any, sheet: Sheet, formats: dict[Kind, Any], head: Any, title: Any, note: Any
) -> None:
    page = book.add_worksheet(sheet.name)
    page.write_string(0, 0, sheet.title, title)
    page.write_string(1, 0, sheet.note, note)
    for at, column in enumerate(sheet.columns):
        page.write_string(3, at, column.title, head)
        page.set_column(at, at, _width(column.title, column.values, column.kind))
        for row, value in enumerate(column.values, 4):
            _cell(page, row, at, value, column.kind, formats)
    page.freeze_panes(4, 1)
    page.set_landscape()
    page.fit_to_pages(1, 0)


def _cell(page: Any, row: int, at: int, value: Any, kind: Kind, formats: dict[Kind, Any]) -> None:
    if value is None:
        return
    if isinstance(value, str):
        page.write_string(
            row, at, printable(value.replace(_BREAK, ""), 1_000, breaks=False), formats[Kind.TEXT]
        )
    elif kind in _DIVISORS:
        page.write_number(row, at, value / _DIVISORS[kind], formats[kind])
    else:
        page.write_number(row, at, value, formats[kind])


def _width(title: str, values: Sequence[Any], kind: Kind) -> int:
    longest = max((len(v) for v in values if isinstance(v, str)), default=0)
    return min(MOST_WIDE, max(longest + 2, 12, min(len(title) + 2, 16)))


def _stored(data: bytes) -> bytes:
    """The same zip file with nothing compressed."""
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(sink, "w") as target:
        for entry in source.infolist():
            plain = zipfile.ZipInfo(entry.filename, _TIME)
            plain.external_attr = 0o644 << 16
            plain.create_system = 3
            target.writestr(plain, source.read(entry.filename))
    return sink.getvalue()
