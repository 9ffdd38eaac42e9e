# SPDX-License-Identifier: Apache-2.0
"""The report's files as other programs take them: PDF/A and PDF/UA, XLSX, Open Contracting,
Frictionless.

No validator of PDF/A comes from the registries that a build may use. typst checks both standards
as it writes; here what they ask for is looked up in the finished file.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import openpyxl
import pypdf
import pytest

from dao.audit.package import Content, csv_bytes
from dao.audit.report import document
from dao.audit.report.contracting import release_package
from dao.audit.report.tabular import data_package
from dao.audit.report.words import Words
from dao.audit.report.workbook import summary
from dao.audit.tables import TABLES
from tests.audit.report_content import (
    PAYEE,
    SPENDING,
    content_of,
    group_rows,
    payment_row,
    proposal_row,
    scope_of,
)
from tests.audit.test_report import HOSTILE, hostile

SCHEMA = Path(__file__).parent / "standards" / "ocds-release-schema-1.1.4.json"


@cache
def pdf(language: str = "en") -> pypdf.PdfReader:
    return pypdf.PdfReader(io.BytesIO(document.pdf(content_of(language=language))))


def elements(node: Any) -> Iterator[Any]:
    """Every structure element below a node."""
    found = node.get_object() if hasattr(node, "get_object") else node
    if isinstance(found, list):
        for one in found:
            yield from elements(one)
    elif isinstance(found, pypdf.generic.DictionaryObject):
        if "/S" in found:
            yield found
        if "/K" in found:
            yield from elements(found["/K"])


def root(language: str = "en") -> Any:
    return pdf(language).trailer["/Root"]


# PDF


@pytest.mark.parametrize("language", ["en", "de"])
def test_the_pdf_says_which_standards_it_keeps_and_in_which_language(language: str) -> None:
    xmp = root(language)["/Metadata"].get_data().decode()

    assert "<pdfaid:part>2</pdfaid:part>" in xmp
    assert "<pdfaid:conformance>A</pdfaid:conformance>" in xmp
    assert "<pdfuaid:part>1</pdfuaid:part>" in xmp
    assert root(language)["/Lang"].startswith(language)
    assert root(language)["/MarkInfo"]["/Marked"]
    assert root(language)["/ViewerPreferences"]["/DisplayDocTitle"]
    assert root(language)["/OutputIntents"][0]["/DestOutputProfile"].get_data()
    assert pdf(language).metadata.title == Words(language)("report.title", zone=1)


def test_the_pdf_holds_nothing_active_nothing_foreign_and_no_clock() -> None:
    reader = pdf()

    assert not reader.is_encrypted
    assert "/AA" not in root()
    assert "/OpenAction" not in root()
    assert "/JavaScript" not in str(root().get("/Names", ""))
    assert not reader.attachments
    assert reader.metadata.creation_date.timestamp() == scope_of(3).as_of
    for page in reader.pages:
        for note in page.get("/Annots", []):
            assert "/URI" not in note.get_object().get("/A", {})


def test_every_font_is_embedded() -> None:
    seen = set()
    for page in pdf().pages:
        for font in page["/Resources"].get("/Font", {}).values():
            one = font.get_object()
            for inner in one.get("/DescendantFonts", [one]):
                descriptor = inner.get_object()["/FontDescriptor"]
                assert descriptor.keys() & {"/FontFile2", "/FontFile3"}, one["/BaseFont"]
                assert "/ToUnicode" in one
                seen.add(str(one["/BaseFont"]).split("+")[-1].split("-")[0])

    assert seen <= {"LibertinusSerif", "DejaVuSansMono"}
    assert seen


def test_every_picture_has_words_and_every_table_its_heads() -> None:
    found = list(elements(root()["/StructTreeRoot"]["/K"]))
    kinds = [str(one["/S"]) for one in found]
    figures = [one for one in found if one["/S"] == "/Figure"]
    tables = [one for one in found if one["/S"] == "/Table"]
    charts = [b for b in document.contents(content_of())["blocks"] if b["kind"] == "chart"]

    # The house on the first page, and each chart.
    assert len(figures) == len(charts) + 1
    assert all(len(str(one.get("/Alt", ""))) > 8 for one in figures)
    assert {"/H1", "/H2", "/L", "/LI", "/TOC", "/P"} <= set(kinds)
    assert len(tables) >= 15
    for one in tables:
        assert any(inner["/S"] == "/TH" for inner in elements(one["/K"]))


def test_headings_begin_with_the_first_level_and_skip_none() -> None:
    found = [str(one["/S"]) for one in elements(root()["/StructTreeRoot"]["/K"])]
    levels = [int(kind[2:]) for kind in found if kind[1:2] == "H" and kind[2:].isdigit()]

    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert len(pdf().outline) >= 18


def test_pages_are_named_tagged_and_read_in_order() -> None:
    for page in pdf().pages:
        assert page["/Tabs"] == "/S"
        assert "/StructParents" in page


# XLSX


@cache
def sheets(language: str = "en") -> Any:
    return openpyxl.load_workbook(io.BytesIO(summary(content_of(language=language))))


def column(sheet: Any, title: str) -> list[Any]:
    """The cells below a title."""
    heads = [cell.value for cell in sheet[4]]
    at = heads.index(title) + 1
    return [sheet.cell(row, at).value for row in range(5, sheet.max_row + 1)]


def test_the_sheets_sum_to_the_key_figures() -> None:
    figures = {row["name"]: row["value"] for row in content_of().tables["figures"].to_pylist()}
    words = Words("en")
    for sheet, name, one in (
        ("Energy", "import_wh", 1_000),
        ("Energy", "export_wh", 1_000),
        ("Energy", "grid_in_wh", 1_000),
        ("Trade", "cleared_wh", 1_000),
        ("Settlement", "turnover", 1_000_000),
        ("Settlement", "grid_fees", 1_000_000),
    ):
        unit = " (kWh)" if one == 1_000 else " (€)"
        total = sum(column(sheets()[sheet], words(f"figure.{name}") + unit))
        assert round(total * one) == figures[name], name
    raw = dict(
        zip(
            column(sheets()["Key figures"], "Table"),
            column(sheets()["Key figures"], "Number in data/figures.csv"),
            strict=True,
        )
    )
    assert raw == {name: value for name, value in figures.items() if name in raw}
    assert len(raw) >= 55


def test_the_sheets_have_no_formula_and_no_link_whatever_people_wrote() -> None:
    book = openpyxl.load_workbook(io.BytesIO(summary(content_of(**hostile(HOSTILE["formula"])))))
    cells = [cell for sheet in book for row in sheet.iter_rows() for cell in row]

    assert any(cell.value == HOSTILE["formula"] for cell in cells)
    assert {cell.data_type for cell in cells} <= {"s", "n"}
    assert not any(cell.hyperlink for cell in cells)


@pytest.mark.parametrize("name", ["controls", "huge", "emoji", "turned"])
def test_the_sheets_take_hostile_text(name: str) -> None:
    book = openpyxl.load_workbook(io.BytesIO(summary(content_of(**hostile(HOSTILE[name])))))

    assert len(book.sheetnames) == len(set(book.sheetnames)) == 12


def test_small_groups_in_the_sheets_say_that_they_are_kept_back() -> None:
    rows = group_rows(scope_of(3).period, hidden_days=1)
    quality = content_of().tables["quality"].to_pylist()
    for row in quality[96:100]:
        row |= {"meters": 3} | dict.fromkeys(list(row)[3:])
    content = content_of(groups=rows, quality=[tuple(row.values()) for row in quality])
    book = openpyxl.load_workbook(io.BytesIO(summary(content)))

    assert column(book["Who gains"], "Homes") == ["kept back", "kept back", 45, 75, 45, 75]
    measured = column(book["Meters"], "measured")
    assert measured[1] == "kept back"
    assert isinstance(measured[0], int)
    for name in ("Who gains", "Meters"):
        homes = [
            c for row in book[name].iter_rows(min_row=5) for c in row if c.value == "kept back"
        ]
        assert len(homes) in (6, 20)


def test_sheets_are_named_in_their_language() -> None:
    assert sheets("de").sheetnames[:3] == ["Kennzahlen", "Energie", "Handel"]
    assert sheets("en").properties.title == "Energy report of zone 1"
    assert sheets("en").properties.created.timestamp() == pytest.approx(scope_of(3).as_of, abs=1)


# Open Contracting


def releases(content: Content) -> Any:
    """The releases, each held against the standard's schema."""
    package = json.loads(release_package(content))
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    checker = jsonschema.Draft4Validator(
        schema, format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER
    )
    for release in package["releases"]:
        faults = [f"{list(fault.path)}: {fault.message}" for fault in checker.iter_errors(release)]
        assert faults == []
    assert set(package) >= {"uri", "version", "publishedDate", "publisher", "releases"}
    return package["releases"]


def test_a_payment_is_told_from_its_budget_to_its_transaction() -> None:
    (release,) = releases(content_of())
    (award,) = release["awards"]
    (contract,) = release["contracts"]
    (transaction,) = contract["implementation"]["transactions"]

    assert release["ocid"].endswith(SPENDING)
    assert release["planning"]["budget"]["amount"] == {"amount": 50, "currency": "EUR"}
    assert "45 for, 12 against, 3 abstained, of 100 members" in award["description"]
    assert transaction["value"] == {"amount": 7.25, "currency": "EUR"}
    assert transaction["source"] == "0x" + "f6" * 32
    assert transaction["payee"]["id"].endswith(PAYEE)
    assert contract["awardID"] == award["id"]


def test_payments_of_one_proposal_are_one_process_with_a_contract_for_each_payee() -> None:
    at = scope_of(3).period.begins_at
    other = "0x" + "77" * 20
    rows = [
        payment_row(1, at, amount=1, kind="voted milestone"),
        payment_row(2, at + 1, amount=2, payee=other, kind="recurring", votes_for=None),
        payment_row(3, at + 2, amount=3, kind="metered milestone"),
        payment_row(4, at + 3, proposal="999"),
    ]
    first, second = releases(content_of(payments=rows))

    assert [len(one["implementation"]["transactions"]) for one in first["contracts"]] == [2, 1]
    assert [one["value"]["amount"] for one in first["contracts"]] == [0.000004, 0.000002]
    assert second["ocid"].endswith("-999")
    assert "description" not in second["awards"][0]


@pytest.mark.parametrize("name", HOSTILE)
def test_releases_stay_valid_with_hostile_text(name: str) -> None:
    (release,) = releases(content_of(**hostile(HOSTILE[name])))

    assert release["tender"]["title"] == HOSTILE[name][:200]


def test_proposals_that_paid_nothing_give_no_release() -> None:
    assert releases(content_of(payments=[])) == []
    votes = [proposal_row("5", "Paint it", scope_of(3).period.begins_at, outcome="defeated")]
    assert releases(content_of(payments=[], proposals=votes)) == []


# Frictionless


@pytest.mark.parametrize("name", ["markup", "controls", "formula", "empty"])
def test_the_data_package_is_valid_with_every_table(tmp_path: Path, name: str) -> None:
    import frictionless

    content = content_of(1, **hostile(HOSTILE[name]))
    (tmp_path / "data").mkdir()
    for table, rows in content.tables.items():
        (tmp_path / "data" / f"{table}.csv").write_bytes(csv_bytes(rows))
    described = tmp_path / "datapackage.json"
    described.write_bytes(data_package(content))
    report = frictionless.validate(str(described))

    assert report.valid, report.flatten(["title", "type", "message"])[:5]
    assert [task.name for task in report.tasks] == list(TABLES)


def test_the_data_package_describes_every_column_with_its_unit() -> None:
    package = json.loads(data_package(content_of()))
    fields = {
        (resource["name"], field["name"]): field
        for resource in package["resources"]
        for field in resource["schema"]["fields"]
    }

    for table in TABLES.values():
        for one in table.columns:
            field = fields[table.name, one.name]
            assert field["description"] == one.meaning
            assert field.get("unit", "") == one.unit
