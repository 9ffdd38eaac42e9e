# SPDX-License-Identifier: Apache-2.0
"""No home's reading stands on a page of the report or in a cell of its sheets."""

from __future__ import annotations

import io
import re

import openpyxl

from dao.audit.package import Dossier
from tests.audit.conftest import Published
from tests.audit.test_report import text_of
from tests.audit.village import LOWEST_READING, Village

_NUMBER = re.compile(r"[0-9][0-9,.]*[0-9]")


def numbers_on_pages(pdf: bytes) -> set[int]:
    """Every number on a page, and the digits of those with decimals."""
    text = "\n".join(text_of(pdf))
    return {int(re.sub(r"[,.]", "", one)) for one in _NUMBER.findall(text)}


def numbers_in_sheets(data: bytes) -> set[int]:
    """Every number in a cell as Wh, whatever its unit there, and every number in a text."""
    book = openpyxl.load_workbook(io.BytesIO(data), read_only=True)
    found: set[int] = set()
    for sheet in book:
        for row in sheet.iter_rows(values_only=True):
            for value in row:
                if isinstance(value, str):
                    found.update(int(re.sub(r"[,.]", "", n)) for n in _NUMBER.findall(value))
                elif isinstance(value, (int, float)):
                    found.update(round(value * one) for one in (1, 1_000, 1_000_000))
    return found


def test_no_reading_is_on_a_page_or_in_a_sheet(village: Village, published: Published) -> None:
    rows = village.readings
    secret = {*rows.import_wh.tolist(), *rows.export_wh.tolist()} - {0}
    with Dossier(published.path) as dossier:
        pages = numbers_on_pages(dossier.read("report.pdf"))
        sheets = numbers_in_sheets(dossier.read("summary.xlsx"))

    assert min(secret) == LOWEST_READING
    assert len(pages) > 150
    assert len(sheets) > 300
    assert not secret & (pages | sheets)
