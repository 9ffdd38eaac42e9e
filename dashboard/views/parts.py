# SPDX-License-Identifier: Apache-2.0
"""Small pieces that all views use. Whatever comes from data is escaped here.

What returns text returns our own HTML, to be given to `put`; everything else draws.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from html import escape

import pandas as pd
import streamlit as st
from streamlit.elements.lib.mutable_expander_container import ExpanderContainer

from dashboard.i18n import _, formats
from dashboard.plot import Drawing

_MARKS = re.compile(r"([\\\\`*_{}\[\]()#+\-.!~:$<>|])")
TONES = ("good", "open", "bad", "plain")
"""What a pill may say by its colour; its words say it too."""


@dataclass(frozen=True)
class Figure:
    """One number with its name, and what to know about it."""

    name: str
    value: str
    note: str = ""


_gathered: ContextVar[list[str] | None] = ContextVar("gathered", default=None)


def put(html: str) -> None:
    """Put a piece of our own HTML on the page."""
    pieces = _gathered.get()
    if pieces is None:
        st.html(f'<div class="gc">{html}</div>')
    else:
        pieces.append(html)


@contextmanager
def gathered() -> Iterator[list[str]]:
    """What is `put` inside goes into the list instead of onto the page."""
    pieces: list[str] = []
    token = _gathered.set(pieces)
    try:
        yield pieces
    finally:
        _gathered.reset(token)


@contextmanager
def together() -> Iterator[None]:
    """What is `put` inside comes onto the page as one piece, and looks as it would one by one.

    A browser takes some milliseconds for each piece of a page, however little is in it. Only what
    `put` puts is gathered: before a widget is drawn inside, `flush`, or it stands above. What
    changes every few seconds is better off alone, as the whole piece is made anew with it.
    """
    if _gathered.get() is not None:
        yield
        return
    with gathered():
        try:
            yield
        finally:
            flush()


def flush() -> None:
    """Put on the page what was gathered so far, so that a widget comes below it."""
    pieces = _gathered.get()
    if pieces:
        st.html(f'<div class="gc">{stacked(pieces)}</div>')
        pieces.clear()


def stacked(pieces: Sequence[str]) -> str:
    """Pieces of HTML one under the other, as far apart as the page's own are."""
    return f'<div class="gc-pieces">{"".join(f"<div>{one}</div>" for one in pieces)}</div>'


def halves(left: Sequence[str], right: Sequence[str], wide: str = "left") -> str:
    """Pieces in two columns, one under the other on a phone; wide: which column gets more."""
    assert wide in {"left", "right"}
    return (
        f'<div class="gc-halves {wide}"><div>{stacked(left)}</div><div>{stacked(right)}</div></div>'
    )


def title(words: str, lead: str = "") -> None:
    """The one heading of the first level that each page begins with."""
    below = f'<p class="gc-lead">{escape(lead)}</p>' if lead else ""
    put(f'<div class="gc-top"><div><h1>{escape(words)}</h1>{below}</div></div>')


def section(title: str, lead: str = "") -> None:
    """A section's heading and the sentence under it."""
    below = f'<p class="gc-lead">{escape(lead)}</p>' if lead else ""
    put(f'<div class="gc-section"><h2>{escape(title)}</h2>{below}</div>')


def lead(words: str) -> None:
    """A quiet sentence."""
    put(f'<p class="gc-lead">{escape(words)}</p>')


def empty(title: str, advice: str) -> None:
    """What stands where there is nothing yet: what is missing and what will bring it."""
    put(f'<div class="gc-empty"><b>{escape(title)}</b>{escape(advice)}</div>')


def error_box(what_happened: str, what_is_safe: str, what_to_do: str) -> None:
    """Something failed: three plain sentences, read out by a screen reader at once."""
    put(
        f'<div class="gc-error" role="alert"><b>{escape(what_happened)}</b>'
        f"<p>{escape(what_is_safe)}</p><p>{escape(what_to_do)}</p></div>"
    )


def figures(those: Sequence[Figure]) -> None:
    """The numbers that matter, side by side."""
    put(figures_of(those))


def figures_of(those: Sequence[Figure]) -> str:
    """The same as text, for what is put on the page in one piece."""
    return (
        '<dl class="gc-figures">'
        + "".join(
            f'<div><dt>{escape(one.name)}</dt><dd class="value">{escape(one.value)}</dd>'
            + (f'<dd class="note">{escape(one.note)}</dd>' if one.note else "")
            + "</div>"
            for one in those
        )
        + "</dl>"
    )


def as_label(text: str) -> str:
    """`text` as it stands, for the labels that Streamlit reads as Markdown."""
    return _MARKS.sub(r"\\\1", text)


def pill(words: str, tone: str, live: bool = False) -> str:
    """A state as a small label."""
    return f'<span class="gc-pill {escape(tone)}{" live" if live else ""}">{escape(words)}</span>'


def countdown(seconds: int) -> str:
    """The time that is left, as one would say it. Draw it again in a fragment to let it run."""
    left = formats().duration(seconds)
    return f'<span class="gc-countdown" role="timer">{escape(left)}</span>'


def table(
    frame: pd.DataFrame,
    caption: str,
    numeric: Collection[str],
    quiet: Collection[str] = (),
    own: Collection[str] = (),
) -> str:
    """A plain table that a screen reader reads row by row; `numeric` columns stand right.

    A cell whose whole text is in `quiet` ("not yet settled") steps back. The cells of the columns
    in `own` are HTML of ours. A wide table scrolls in its own box.
    """

    def cell(tag: str, column: object, text: object, more: str = "") -> str:
        names = ["num"] if column in numeric else []
        names += ["wait"] if text in quiet else []
        classes = f' class="{" ".join(names)}"' if names else ""
        shown = str(text) if column in own and tag == "td" else escape(str(text))
        return f"<{tag}{classes}{more}>{shown}</{tag}>"

    head = "".join(cell("th", name, name, ' scope="col"') for name in frame.columns)
    rows = "".join(
        "<tr>" + "".join(cell("td", name, row[name]) for name in frame.columns) + "</tr>"
        for row in frame.to_dict("records")
    )
    name = escape(caption)
    return (
        f'<div class="gc-scroll" role="region" aria-label="{name}" tabindex="0">'
        f'<table class="gc-table" aria-label="{name}">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def chart(
    drawing: Drawing, *, alt: str, key: str, frame: pd.DataFrame | None = None, note: str = ""
) -> None:
    """A chart with what it shows in words, and where `frame` is given the same as a table.

    key: its name on the page. frame: its columns in words, its cells as they are to be read; a few
    dozen rows, as they are sent with the page, folded away. `unfolding` is for more.
    """
    below = f'<p class="gc-muted">{escape(note)}</p>' if note else ""
    if frame is not None and not frame.empty:
        same = table(frame, alt, set(frame.columns[1:]))
        below += f"<details><summary>{escape(_('The same as a table'))}</summary>{same}</details>"
    put(f'<div id="{escape(key)}">{drawing.html(alt)}{below}</div>')


def unfolding(key: str, content: Callable[[], str], words: str = "") -> None:
    """Some HTML of ours that is folded away, and made and sent only while somebody has it open.
    words: its name, by default that a table says the same."""
    flush()
    fold = folded(words or _("The same as a table"), key)
    if fold.open:
        with fold:
            put(content())
            flush()


def folded(words: str, key: str) -> ExpanderContainer:
    """A place that is folded away; what is in it is to be drawn only where it is `open`."""
    return st.expander(words, key=f"{key}.unfold", type="compact", on_change="rerun")
