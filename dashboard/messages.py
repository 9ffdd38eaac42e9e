# SPDX-License-Identifier: Apache-2.0
"""The catalogues of the screens' texts, written from the sources: `make messages`.

`locale/gridcommons.pot` holds every English text, `locale/<language>/LC_MESSAGES/` what it is in
that language. Nothing here is used while the dashboard runs; `i18n.py` reads what this writes.
"""

from __future__ import annotations

import ast
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from dao.errors import BadUse
from dashboard.i18n import DOMAIN, LOCALES

SOURCES = Path(__file__).parent
TEMPLATE = LOCALES / f"{DOMAIN}.pot"
_MARKS = {"_": 1, "N_": 1, "ngettext": 2}
"""What marks a text, and how many of its arguments are texts."""


@dataclass(frozen=True)
class Found:
    """A text of a source: one form, or two where a number decides."""

    forms: tuple[str, ...]
    file: str
    line: int


def texts_of(path: Path) -> Iterator[Found]:
    """The texts that a source marks. BadUse where one is put together before it is looked up.

    Read from the syntax tree: texts within f-strings count, which pybabel leaves out.
    """
    name = path.relative_to(SOURCES.parent).as_posix()
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        wanted = node.args[: _MARKS.get(node.func.id, 0)]
        forms = [
            one.value
            for one in wanted
            if isinstance(one, ast.Constant) and isinstance(one.value, str)
        ]
        for one in wanted:
            if isinstance(one, (ast.JoinedStr, ast.BinOp)) or (
                isinstance(one, ast.Call)
                and isinstance(one.func, ast.Attribute)
                and one.func.attr in ("format", "join")
            ):
                raise BadUse(f"{name}:{one.lineno}: a text is filled in after it is looked up")
        if wanted and len(forms) == len(wanted):
            yield Found(tuple(forms), name, node.lineno)


def template() -> Catalog:
    """Every text of the dashboard, in the order of the alphabet, with the files it stands in."""
    made = _empty()
    places: dict[tuple[str, ...], set[str]] = {}
    for path in sorted(SOURCES.rglob("*.py")):
        for one in texts_of(path):
            places.setdefault(one.forms, set()).add(one.file)
    for forms in sorted(places):
        # No line numbers: a catalogue changes only where a text does.
        where = [(file, 0) for file in sorted(places[forms])]
        made.add(forms if len(forms) > 1 else forms[0], locations=where)
    return made


class Plain(Catalog):
    """A catalogue whose head tells no time, no name and no version: the same texts make the same
    file, and branches merge."""

    @property  # type: ignore[misc]  # babel's can be set, and then be read anew
    def mime_headers(self) -> list[tuple[str, str]]:
        plural = self.plural_forms if self.locale is not None else ""
        return [
            ("Project-Id-Version", self.project),
            *([("Language", str(self.locale)), ("Plural-Forms", plural)] if plural else []),
            ("MIME-Version", "1.0"),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Transfer-Encoding", "8bit"),
        ]


def _empty(language: str | None = None) -> Catalog:
    made = Plain(locale=language, domain=DOMAIN, project="GridCommons", fuzzy=False)
    made.header_comment = "# SPDX-License-Identifier: Apache-2.0"
    return made


def updated(language: str, old: bytes, texts: Catalog) -> Catalog:
    """The catalogue `old` with the texts of today: new ones empty, those that went left out."""
    known = read_po(io.BytesIO(old), locale=language)
    made = _empty(language)
    for one in texts:
        if not one.id:
            continue
        found = known.get(one.id[0] if isinstance(one.id, tuple) else one.id)
        string = found.string if found is not None and found.id == one.id else None
        made.add(one.id, string or "", locations=one.locations)
    return made


def as_po(catalogue: Catalog) -> bytes:
    """A catalogue as text."""
    out = io.BytesIO()
    write_po(out, catalogue, width=100, sort_output=True, include_lineno=False)
    return out.getvalue()


def as_mo(catalogue: Catalog) -> bytes:
    """A catalogue as gettext reads it."""
    out = io.BytesIO()
    write_mo(out, catalogue)
    return out.getvalue()


def languages() -> list[Path]:
    """The catalogues that there are, as text."""
    return sorted(LOCALES.glob(f"*/LC_MESSAGES/{DOMAIN}.po"))


def main() -> int:
    """Write the template, bring each catalogue up to date, compile it; say what is missing."""
    try:
        texts = template()
    except BadUse as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    TEMPLATE.write_bytes(as_po(texts))
    for path in languages():
        language = path.parts[-3]
        made = updated(language, path.read_bytes(), texts)
        path.write_bytes(as_po(made))
        path.with_suffix(".mo").write_bytes(as_mo(made))
        for missing in without_words(made):
            print(f"{language}: no words for: {missing}")
    return 0


def without_words(catalogue: Catalog) -> list[str]:
    """The texts that have no translation, or not in every form."""
    return [
        str(one.id[0] if isinstance(one.id, tuple) else one.id)
        for one in catalogue
        if one.id and not all(one.string if isinstance(one.string, tuple) else (one.string,))
    ]


if __name__ == "__main__":
    sys.exit(main())
