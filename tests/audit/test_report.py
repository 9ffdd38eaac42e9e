# SPDX-License-Identifier: Apache-2.0
"""The report to read: what it says, in which language, and what it does with hostile input."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import count
from typing import Any

import pypdfium2
import pytest

from dao.audit import decisions, records
from dao.audit.package import Content
from dao.audit.report import MAKERS, NotCompared, check, document, files
from dao.audit.report.glyphs import drawn, printable
from dao.audit.report.reader import MOST_ROWS, Reader
from dao.audit.report.words import Words, table_of
from dao.audit.scope import EventRow, Events, Period
from dao.audit.tables import TABLES
from dao.errors import CheckFailed
from dao.parameters import WINDOW_NAMES
from tests.audit.report_content import (
    PROPOSAL,
    SPENDING,
    content_of,
    group_rows,
    payment_row,
    proposal_row,
    scope_of,
)

CHAPTERS = 18


def text_of(pdf: bytes) -> list[str]:
    """The text of each page."""
    with pypdfium2.PdfDocument(pdf) as opened:
        return [page.get_textpage().get_text_bounded() for page in opened]


def squeezed(text: str) -> str:
    """Without spaces, line ends and marks that a line may break at."""
    return re.sub(r"[\s\u200b\ufffe\u00ad]+", "", text)


@cache
def report(language: str) -> tuple[Content, bytes]:
    content = content_of(language=language)
    return content, document.pdf(content)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text in the document's data with its place; pictures by their words."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from leaves(one, f"{path}.{key}")
    elif isinstance(value, list):
        for at, one in enumerate(value):
            yield from leaves(one, f"{path}.{at}")
    elif isinstance(value, str):
        if value.startswith("<svg"):
            for at, word in enumerate(re.findall(r"<text[^>]*>([^<]*)</text>", value)):
                yield f"{path}.{at}", word
        else:
            yield path, value


def shown_text(content: Content) -> str:
    return "\n".join(text for _, text in leaves(document.contents(content)))


def test_the_same_content_gives_the_same_bytes() -> None:
    content = content_of()
    first = files(content)
    document._drawn.cache_clear()

    assert files(content_of()) == first
    assert set(first) == set(MAKERS)


@pytest.mark.parametrize("language", ["en", "de"])
def test_every_key_figure_stands_in_the_pdf_as_in_the_table(language: str) -> None:
    content, made = report(language)
    words = Words(language)
    text = squeezed("".join(text_of(made)))

    for row in content.tables["figures"].to_pylist():
        label = words(f"figure.{row['name']}")
        value = words.figure(row["value"], row["unit"])
        assert squeezed(label + value) in text, (label, value)


@pytest.mark.parametrize("language", ["en", "de"])
def test_the_chapters_come_in_order_on_a_bounded_number_of_pages(language: str) -> None:
    content, made = report(language)
    pages = text_of(made)
    blocks = document.contents(content)["blocks"]
    titles = [one["text"] for one in blocks if one["kind"] == "heading" and one["level"] == 1]
    text = squeezed("".join(pages[1:]))
    places = [text.index(squeezed(f"{at}{title}")) for at, title in enumerate(titles, 1)]

    assert len(titles) == CHAPTERS
    assert places == sorted(places)
    assert 10 <= len(pages) <= 18


def test_a_long_period_with_a_thousand_faults_gives_no_longer_report() -> None:
    at = scope_of(70).period.begins_at
    faults = [
        (at + n, "session void", f"session {n}", "from slot 5 on", "all escrow", None)
        for n in range(1_000)
    ]
    votes = [proposal_row(str(n + 1), f"Vote {n}", at + n) for n in range(300)]
    paid = [payment_row(n, at + n) for n in range(1, 400)]
    content = content_of(70, anomalies=faults, proposals=votes, payments=paid)
    made = text_of(document.pdf(content))

    assert len(made) <= 22
    assert squeezed(f"{1_000 - MOST_ROWS:,} more are in data/anomalies.csv.") in squeezed(
        "".join(made)
    )


# Languages


def test_both_languages_have_the_same_texts_with_the_same_values() -> None:
    english, german = table_of("en")["texts"], table_of("de")["texts"]

    def values(text: str) -> list[str]:
        return sorted(set(re.findall(r"{(\w+)}", text)))

    assert english.keys() == german.keys()
    for key, text in english.items():
        assert values(text) == values(german[key]), key
        assert text.count("|") == german[key].count("|"), key
    assert all(len(table_of(one)["months"]) == 12 for one in ("en", "de"))


def test_no_english_is_left_in_the_german_report() -> None:
    english = dict(leaves(document.contents(content_of(language="en"))))
    german = dict(leaves(document.contents(content_of(language="de"))))
    same = {text for path, text in german.items() if english.get(path) == text}
    # Names of tables, files and contracts, what members wrote, units, and words both languages use.
    own = set(TABLES) | set(content_of().scope.contracts)
    kept = {
        *("Zone", "Chain", "Software", "Code-Hash", "Gas", "Quorum", "Upkeep", "Charge at noon"),
        *("Mend the fuse box", "Upkeep: invoice 12", "transformer", "April", "Median", "Budget"),
        *("GridCommons", "gridcommons 0.1.0", "gap_linear 1", "ct/kWh", "kWh", "default"),
    }
    kinds = {"heading", "text", "points", "cards", "box", "pair", "table", "chart", "code"}
    layout = {"good", "bad", "plain", "left", "right"} | kinds
    left = {
        text
        for text in same - own - kept - layout
        if re.search(
            r"[A-Za-z]{4,}",
            re.sub(r"0x[0-9a-f…]+|[\w/*]+\.(?:json|csv|xlsx|pdf|parquet)", "", text),
        )
        and not text.startswith(
            ("gridcommons audit", "Charge at noon (", "slots, ", "figures, ", "contents, ")
        )
    }

    assert left == set()


def test_everything_that_the_tables_record_has_german_words() -> None:
    german = Words("de")
    known = [
        *records.REASONS.values(),
        *(purpose for _, purpose in records.PURPOSES),
        *decisions.LANES,
        *decisions.KINDS,
        *WINDOW_NAMES.values(),
        *("with solar", "without solar"),
    ]
    number = count(1)
    slot = scope_of(3).period.first_slot
    details = {"complaint", "finding"}
    rows = [
        EventRow(next(number), 0, 1, "0x1", "", name, _AnyArguments(slot))
        for name in (
            *("OrderRejected", "SessionVoided", "AdjustmentRecorded", "BatchCorrected"),
            *("KeySuspended", "ReceiptConflict", "ForecastMissed", "DayUnscored", "DisputeOpened"),
            *("DisputeDecided", "DisputeLapsed", "Paused", "BondForfeited", "BallotRejected"),
        )
    ]
    told = records.anomaly_table(Events(rows), [], scope_of(3)).to_pylist()
    for row in told:
        known += [row["kind"], row["subject"], row["treatment"]]
        if row["detail"] not in details:
            known.append(row["detail"])
    known += [row["what"] for row in records.money_table(Events([])).to_pylist()]

    assert len(told) == len(rows)
    assert [one for one in known if german.recorded(one) == one] == []


class _AnyArguments(dict[str, Any]):
    """Arguments of any event."""

    def __init__(self, slot: int) -> None:
        super().__init__()
        self._slot = slot

    def __missing__(self, name: str) -> Any:
        if name in ("first_slot", "slot", "from_slot", "session"):
            return self._slot
        if name in ("complaint", "finding"):
            return name
        return 1 if name not in ("forecaster", "voter") else "0x" + "5a" * 20


def test_numbers_read_as_people_write_them() -> None:
    english, german = Words("en"), Words("de")

    assert english.wh(1_234_500) == "1,234.5 kWh"
    assert german.wh(1_234_500) == "1.234,5 kWh"
    assert english.money(-3_205_000) == "−€3.21"
    assert german.money(3_200_000) == "3,20 €"
    assert german.money(4_990) == "0,50 ct"
    assert german.price(123) == "12,3 ct/kWh"
    assert english.share(999_999) == "99.99%"
    assert english.share(1_000_000) == "100%"
    assert german.share(12) == "0,001 %"
    assert english.change(90, 100, "Wh") == "−10.0%"
    assert english.change(500_000, 480_000, "ppm") == "+2.0 points"
    assert english.change(5, 0, "Wh") == "–"


# What went wrong


def test_what_went_wrong_stands_on_the_first_page() -> None:
    content = content_of()
    faulty = {
        "sessions": content.tables["sessions"].to_pylist(),
        "clearing": content.tables["clearing"].to_pylist(),
        "settlement": content.tables["settlement"].to_pylist(),
    }
    faulty["sessions"][0] |= {"state": "open", "conserved": None}
    faulty["sessions"][1] |= {"conserved": False}
    faulty["clearing"][40] |= {"welfare": 0, "envious": 3}
    for row in faulty["settlement"]:
        row["turnover"] = (row["delivered_wh"] or 0) * 500
    made = content_of(
        batches=[(1, "x", 96, 2, True, "0x", 120, 9, 1, 1, "0x")],
        **{name: [tuple(row.values()) for row in rows] for name, rows in faulty.items()},
    )
    page = squeezed(text_of(document.pdf(made))[0])

    for said in (
        "1 of 12 sessions did not end in a settlement",
        "In 1 sessions the money does not add up",
        "3 slips against their own rules",
        "more than the retail tariff",
        "The relay broke 12 of 1,080 promises",
        "are missing, the rest was estimated or replaced",
        "Batches of readings corrected later: 1",
        "Records of anomalies and disputes: 2",
    ):
        assert squeezed(said) in page, said


def test_a_period_in_which_nothing_happened_says_so_in_both_languages() -> None:
    quiet = ("slots", "before", "carbon", "figures")
    for language in ("en", "de"):
        empty = content_of(language=language, **{n: [] for n in TABLES if n not in quiet})
        text = shown_text(empty)
        words = Words(language)
        for key in ("trade.none", "balancing.none", "forecasts.none", "spending.none"):
            assert words(key) in text
        for key in ("gains.none", "quality.none", "promises.none", "anomalies.none", "gas.none"):
            assert words(key) in text
        assert words("verdict.no_forecast.bad") in text
        assert len(text_of(document.pdf(empty))) >= 7


def test_a_correction_names_what_it_corrects_and_counts_the_changes() -> None:
    rows = [
        ("slots", "changed", "1", "import_wh", "5", "6"),
        ("slots", "changed", "2", "import_wh", "5", "6"),
        ("batches", "added", "3", None, None, None),
    ]
    found = content_of(corrects="0x" + "c0ffee" * 10 + "abcd", changes=rows)
    blocks = document.contents(found)["blocks"]
    tables = [one["rows"] for one in blocks if one["kind"] == "table"]

    assert [["slots", "2", "0", "0"], ["batches", "0", "1", "0"]] in tables
    assert "0xc0ffee…abcd" in shown_text(found)


# Privacy


def test_groups_kept_back_say_so_and_show_nothing() -> None:
    period = scope_of(3).period
    text = shown_text(content_of(groups=group_rows(period, hidden_days=3)))
    part = shown_text(content_of(groups=group_rows(period, hidden_days=1)))

    assert "Kept back for 3 days: a group had fewer than 15 homes" in text
    assert "with solar" not in text.replace("Homes with solar", "")
    assert "Kept back for 1 day:" in part
    assert Words("en").wh(2 * 500_000) in part


def test_counts_of_few_meters_are_kept_back_in_text_and_chart() -> None:
    rows = content_of().tables["quality"].to_pylist()
    for row in rows[:96]:
        row |= {"meters": 14}
        row |= dict.fromkeys(list(row)[3:])
    found = content_of(quality=[tuple(row.values()) for row in rows])
    svg = next(
        one["svg"]
        for one in document.contents(found)["blocks"]
        if one["kind"] == "chart" and "not measured" in one["caption"]
    )

    assert "Counts of 96 quarter-hours are kept back" in shown_text(found)
    assert ">kept back</text>" in svg


# Hostile text

MARKUP = '#set page(fill: red) *bold* $x^2$ @label <tag> `raw` \\ #eval("1")'
HOSTILE = {
    "markup": MARKUP,
    "svg": "</text><script>alert(1)</script>&amp;\"'",
    "emoji": "Party 🎉🎉 at noon 中文",
    "turned": "pay \u202e0001 € \u2066to\u2069 \u200fme\u061c",
    "hebrew and arabic": "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "controls": "a\x00b\x1b[31mc\x7f\u2028d\ufeffe\ue000f",
    "huge": "x" * 50_000,
    "wide": "WWWW " * 4_000,
    "braces": "{zone} {0} %s {{",
    "formula": '=HYPERLINK("http://x","y")',
    "empty": "",
}


def hostile(text: str) -> dict[str, Any]:
    """Tables in which people wrote this."""
    at = scope_of(3).period.begins_at
    return {
        "proposals": [
            proposal_row(PROPOSAL, text[:200], at, description=text),
            proposal_row(SPENDING, text[:200], at + 5, description=text, lane="ordinary"),
        ],
        "payments": [payment_row(1, at, reference=text, name=text)],
        "budgets": [(1, 1, text, SPENDING, 5, 9, at - 1, at + 9, 3)],
        "anomalies": [(at, "forecast disputed", "dispute 1", text, text, None)],
        "edits": [("2016-06-06", text, 1, "missing", "estimated", 2)],
        "grid": [("2016-06-06", text, "slots", 1, 2, 3, 4)],
        "money": [(text, 5, 5)],
    }


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_shown_as_text_and_breaks_nothing(name: str) -> None:
    content = content_of(language="de" if len(name) % 2 else "en", **hostile(HOSTILE[name]))
    made = document.pdf(content)

    assert len(text_of(made)) <= 20
    if name == "markup":
        assert squeezed(MARKUP[:60]) in squeezed("".join(text_of(made)))


def test_what_no_font_can_draw_is_shown_by_number() -> None:
    assert printable("a🎉b") == "a U+1F600 b".replace("1F600", "1F389")
    assert printable("x\u202ey\x00") == "x U+202E y U+0000"
    assert printable("é €ß→") == "é €ß→"
    assert len(printable("z" * 9_999).replace("\u200b", "")) <= 602


def test_the_fonts_draw_every_character_that_is_let_through() -> None:
    # One document with them all, upright and bold; the standard refuses any without a glyph.
    import typst

    every = " ".join(chr(code) for code in sorted(drawn()))
    fonts = '("Libertinus Serif", "DejaVu Sans Mono")'
    head = f'#set document(title: "t")\n#set text(lang: "en", font: {fonts})'
    body = '#let t = sys.inputs.t\n#t #text(weight: "semibold", t) #raw(t)'
    made = typst.compile(
        f"{head}\n{body}".encode(),
        format="pdf",
        ignore_system_fonts=True,
        sys_inputs={"t": every},
        pdf_standards=document.STANDARDS,
        timestamp=0,
    )

    assert len(drawn()) > 3_000
    assert made.startswith(b"%PDF")


# The check of verify


def test_each_part_that_differs_is_named() -> None:
    content = content_of()
    made = files(content)

    assert check(content, made.__getitem__) is None
    for path in made:
        altered = made | {path: made[path][:-9] + b"9" + made[path][-8:]}
        assert path in str(check(content, altered.__getitem__))


def test_other_versions_of_what_draws_are_said_and_the_rest_is_compared() -> None:
    content = content_of()
    made = files(content)
    older = made["datapackage.json"].replace(b'"typst": "', b'"typst": "0.')
    other = made | {"datapackage.json": older, "report.pdf": b"drawn otherwise"}

    with pytest.raises(NotCompared, match=r"made with typst 0\."):
        check(content, other.__getitem__)
    broken = other | {"ocds/releases.json": b"{}"}
    assert "ocds" in str(check(content, broken.__getitem__))


def test_a_scope_in_an_unknown_language_is_refused_plainly() -> None:
    content = content_of()
    strange = replace(content, scope=replace(content.scope, language="../../etc"))

    with pytest.raises(CheckFailed, match="no report is written in"):
        document.pdf(strange)


@pytest.mark.parametrize("moved", [-96, 96])
def test_tables_of_another_period_or_with_unknown_words_still_draw(moved: int) -> None:
    # So that the check of verify can say what is wrong with them.
    content = content_of(2)
    scope = content.scope
    other = replace(scope, period=replace(scope.period, first_slot=scope.period.first_slot + moved))
    sessions = [{**row, "state": "settle1"} for row in content.tables["sessions"].to_pylist()]
    table = TABLES["sessions"].of_rows(tuple(row.values()) for row in sessions)
    strange = replace(content, scope=other, tables={**content.tables, "sessions": table})

    assert "settle1" in shown_text(strange)


def test_periods_are_drawn_by_hour_day_or_week() -> None:
    for days, name, bins in ((1, "hour", 24), (3, "hour", 72), (4, "day", 4), (63, "week", 9)):
        reader = Reader(content_of(days))
        assert (reader.bins.name, len(reader.bins.labels)) == (name, bins)
        assert isinstance(reader.period, Period)
