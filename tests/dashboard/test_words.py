# SPDX-License-Identifier: Apache-2.0
"""The words on the pages: each comes from the catalogue, and the German one is whole."""

from __future__ import annotations

import ast
import gettext
import re
import string
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po

from dao.audit.report import words as report_words
from dao.market.orders import ASK, BID
from dashboard import i18n, identity, messages, pages
from dashboard.services import analysis
from dashboard.services.ticket import BUY, SELL
from tests.dashboard.village import FIRST, HOUR, SLOTS, Village, village

ME = 3
"""A home with panels whose meter has gaps: it has something of everything."""


# The catalogues


@pytest.fixture(scope="module", params=messages.languages(), ids=lambda path: path.parts[-3])
def catalogue(request: pytest.FixtureRequest) -> tuple[Path, Catalog]:
    with request.param.open("rb") as file:
        return request.param, read_po(file)


def strings(one: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A message's forms in English and in its language."""
    ids = one.id if isinstance(one.id, tuple) else (one.id,)
    said = one.string if isinstance(one.string, tuple) else (one.string,)
    return ids, said


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def assert_same(path: Path, wanted: bytes) -> None:
    # Not by pytest's own comparison: it takes minutes to show where two such files differ.
    is_same = path.read_bytes() == wanted
    assert is_same, f"{path.name} is not what the sources say: make messages"


class TestCatalogues:
    def test_german_is_there(self) -> None:
        assert i18n.available() == ("en", "de")

    def test_the_template_is_what_the_sources_say(self) -> None:
        """After a change of a text: make messages."""
        assert_same(messages.TEMPLATE, messages.as_po(messages.template()))

    def test_a_catalogue_is_as_its_target_writes_it(self, catalogue: tuple[Path, Catalog]) -> None:
        path, _ = catalogue
        made = messages.updated(path.parts[-3], path.read_bytes(), messages.template())
        assert_same(path, messages.as_po(made))

    def test_what_the_pages_read_is_compiled_from_it(self, catalogue: tuple[Path, Catalog]) -> None:
        path, read = catalogue
        with path.with_suffix(".mo").open("rb") as file:
            compiled = gettext.GNUTranslations(file)
        for one in read:
            ids, said = strings(one)
            if not ids[0]:
                continue
            if len(ids) == 1:
                assert compiled.gettext(ids[0]) == said[0]
            else:
                assert [compiled.ngettext(*ids, number) for number in (1, 2)] == list(said)
        made = messages.updated(path.parts[-3], path.read_bytes(), messages.template())
        assert_same(path.with_suffix(".mo"), messages.as_mo(made))

    def test_every_text_has_its_words_in_every_form(self, catalogue: tuple[Path, Catalog]) -> None:
        assert messages.without_words(catalogue[1]) == []

    def test_what_is_filled_in_stands_in_every_form(self, catalogue: tuple[Path, Catalog]) -> None:
        for one in catalogue[1]:
            ids, said = strings(one)
            if ids[0]:
                # "The one day" needs no number: a form of one may leave it out.
                assert fields(said[-1]) == fields(ids[-1]), ids[0]
                assert fields(said[0]) <= fields(ids[-1]), ids[0]
                assert fields(said[0]) >= fields(ids[0]), ids[0]

    def test_a_text_ends_as_its_original_does(self, catalogue: tuple[Path, Catalog]) -> None:
        """Full stop for full stop, blank for blank: what is put together stays together."""
        for one in catalogue[1]:
            ids, said = strings(one)
            if not ids[0]:
                continue
            for original, form in zip(ids, said, strict=True):
                assert (original[:1] == " ") == (form[:1] == " "), original
                assert (original[-1:] == " ") == (form[-1:] == " "), original
                ends = original[-1:] in ".?" and not form.endswith((".", "?", ".“"))
                assert not ends, original

    def test_a_merge_that_left_both_sides_is_mended_without_losing_either(self) -> None:
        texts = messages.template()
        old = (
            b"<<<<<<< HEAD\n"
            b'msgid "Sign in"\nmsgstr "Anmelden"\n\n'
            b"=======\n"
            b'msgid "Sign out"\nmsgstr "Abmelden"\n\n'
            b">>>>>>> other\n"
            b'msgid "A text that is gone"\nmsgstr "Ein Text"\n'
        )
        made = messages.updated("de", old, texts)
        assert made.get("Sign in").string == "Anmelden"
        assert made.get("Sign out").string == "Abmelden"
        assert made.get("A text that is gone") is None
        assert len(messages.without_words(made)) == len(list(texts)) - 3  # and the head

    def test_names_beside_each_other_stay_apart(self, catalogue: tuple[Path, Catalog]) -> None:
        """The columns of a row have names of their own in every language, or one would be lost."""
        said = {ids[0]: form[0] for ids, form in map(strings, catalogue[1])}
        rows = 0
        for path in messages.SOURCES.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                keys = node.keys if isinstance(node, ast.Dict) else []
                names = [
                    one.args[0].value
                    for one in keys
                    if isinstance(one, ast.Call)
                    and isinstance(one.func, ast.Name)
                    and one.func.id == "_"
                    and isinstance(one.args[0], ast.Constant)
                ]
                rows += len(names) > 1
                words = [said[name] for name in names]
                assert len(set(words)) == len(words), f"{path.name}:{node.lineno}"
        assert rows > 5


# Whatever is on a page goes through it


class Bracketed(gettext.NullTranslations):
    """A language that nobody speaks: English in brackets."""

    def gettext(self, message: str) -> str:
        return f"⟦{message}⟧"

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return f"⟦{msgid1 if n == 1 else msgid2}⟧"


def bracketed(table: dict[str, Any]) -> dict[str, Any]:
    """The words of the dossier's report in brackets: the page of figures speaks them too."""

    def words(text: str) -> str:
        return "|".join(f"⟦{part}⟧" for part in text.split("|"))

    return {
        **table,
        "texts": {name: words(text) for name, text in table["texts"].items()},
        "records": {name: words(text) for name, text in table.get("records", {}).items()},
        "details": [{**one, "text": words(one["text"])} for one in table.get("details", [])],
    }


class Read(HTMLParser):
    """All that a person can read or hear of a piece of HTML."""

    SPOKEN = ("alt", "title", "aria-label", "data-tips", "placeholder")

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self._open = ""
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag == "style"
        self.said += [value for name, value in attrs if name in self.SPOKEN and value]
        self._part(tag)

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag == "style"
        self._part(tag)

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._open += data

    def close(self) -> None:
        super().close()
        self._part("")

    def _part(self, tag: str) -> None:
        """A sentence goes on through what stands within its line."""
        if tag not in ("a", "b", "code", "i", "small", "span", "time"):
            self.said.append(self._open)
            self._open = ""


_WORDS = ("label", "body", "help", "placeholder", "options", "text", "title", "value", "data")
_BRACKETS = re.compile(r"⟦[^⟦⟧]*⟧")
_SENTENCE = re.compile(r"[A-Za-z’']{3,}[,:]? [a-z]{2,}")


def spoken(proto: Any) -> Iterator[str]:
    """The texts of one of Streamlit's elements, tags taken away."""
    for field, value in proto.ListFields():
        many = list(value) if getattr(field, "is_repeated", False) else [value]
        for one in many:
            if field.message_type is not None and hasattr(one, "ListFields"):
                yield from spoken(one)
            elif isinstance(one, str) and field.name in _WORDS:
                reader = Read()
                reader.feed(one)
                reader.close()
                yield from reader.said


def nodes(block: Any) -> Iterator[Any]:
    children = getattr(block, "children", None)
    for one in (children or {}).values():
        yield from nodes(one)
    proto = getattr(block, "proto", None)
    if proto is not None:
        yield proto


def unmarked(protos: list[Any]) -> list[str]:
    """What reads like English and did not come from the catalogue."""
    found = []
    for proto in protos:
        for said in spoken(proto):
            left = said
            while (shorter := _BRACKETS.sub(" ", left)) != left:
                left = shorter
            if _SENTENCE.search(left):
                found.append(left.strip())
    return found


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Village]:
    """A neighbourhood that has traded for a day, some of it not yet paid."""
    folder = tmp_path_factory.mktemp("words")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRIDCOMMONS_HOME", str(folder))
        with village(folder, history_days=8) as made:
            made.live(FIRST, 2)
            made.at((FIRST + 3 * SLOTS) * 900 - 3 * HOUR)
            made.neighbours(FIRST + 3 * SLOTS, range(1, 12))
            made.publish()
            yield made


def script(slug: str) -> None:
    """A page as the frame draws it."""
    import dataclasses

    from dashboard import i18n, identity, pages
    from dashboard.context import Context, read_state
    from dashboard.settings import read_settings
    from dashboard.theme import LIGHT
    from dashboard.views import frame
    from dashboard.views.parts import put

    settings, state = read_settings(), read_state()
    person = identity.current(settings)
    parts = {one.name: getattr(state, one.name) for one in dataclasses.fields(state)}
    context = Context(settings=settings, colours=LIGHT, person=person, locale=i18n.ENGLISH, **parts)
    one = pages.page(slug)
    put(frame.top(one, {"a": "b"}, person, 2))
    if one.needs_person and person is None:
        identity.sign_in_box(context)
    else:
        one.draw(context)


CHOSEN: list[tuple[str, dict[str, object]]] = [
    *((one.slug, {}) for one in pages.PAGES),
    *(("my-data", {"my-data.act": act}) for act in ("disclose", "give", "erase")),
    *(("standing-offers", {"standing.side": side}) for side in (ASK, BID)),
    *(
        (
            "trade",
            {"trade.side": side, f"trade.{side}.ways.unfold": True, "trade.prices.unfold": True},
        )
        for side in (SELL, BUY)
    ),
    ("home", {"home.chart.unfold": True}),
    ("zone", {"zone.energy.unfold": True}),
    ("votes", {"votes.instruction.unfold": True}),
    ("analysis", {"analysis.figures.unfold": True, "analysis.check.unfold": True}),
]
"""Pages as they open, and those that show more once something was chosen."""


@pytest.mark.parametrize(("slug", "chosen"), CHOSEN)
def test_no_sentence_stands_on_a_page_beside_the_catalogue(
    street: Village, slug: str, chosen: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamlit.testing.v1 import AppTest

    address = street.people[ME - 1].address
    monkeypatch.setattr(
        identity,
        "current",
        lambda settings: None if slug == "sign-in" else identity.person(settings, address),
    )
    monkeypatch.setattr(i18n, "_catalogue", lambda language: Bracketed())
    reported = bracketed(report_words.table_of("en"))
    monkeypatch.setattr(report_words, "table_of", lambda language: reported)
    analysis.words_of.cache_clear()
    page = AppTest.from_function(script, default_timeout=60, args=(slug,))
    for key, value in chosen.items():
        page.session_state[key] = value
    visited = page.run()
    analysis.words_of.cache_clear()
    assert not visited.exception, slug
    protos = list(nodes(visited._tree))
    assert len(protos) > 1
    assert unmarked(protos) == []
