# SPDX-License-Identifier: Apache-2.0
"""Small pieces of HTML that several views use. Whatever comes from data is escaped here."""

from __future__ import annotations

from html import escape

import pandas as pd
import streamlit as st


def put(html: str) -> None:
    """Put a piece of our own HTML on the page."""
    st.html(f'<div class="gc">{html}</div>')


def section(title: str, lead: str) -> None:
    """A section's heading and the sentence under it."""
    put(
        f'<div class="gc-section"><h2>{escape(title)}</h2>'
        f'<p class="gc-lead">{escape(lead)}</p></div>'
    )


def empty(title: str, advice: str) -> None:
    """What stands where there is nothing yet: what is missing and what will bring it."""
    put(f'<div class="gc-empty"><b>{escape(title)}</b>{escape(advice)}</div>')


def pill(words: str, tone: str, live: bool = False) -> str:
    """A state as a small label."""
    return f'<span class="gc-pill {escape(tone)}{" live" if live else ""}">{escape(words)}</span>'


def table(frame: pd.DataFrame, caption: str, numeric: set[str]) -> str:
    """A plain table that a screen reader reads row by row; `numeric` columns stand right."""

    def cell(tag: str, column: str, text: object, more: str = "") -> str:
        classes = "num" if column in numeric else ""
        if text == "not yet settled":
            classes += " wait"
        return f'<{tag} class="{classes}"{more}>{escape(str(text))}</{tag}>'

    head = "".join(cell("th", name, name, ' scope="col"') for name in frame.columns)
    rows = "".join(
        "<tr>" + "".join(cell("td", name, row[name]) for name in frame.columns) + "</tr>"
        for row in frame.to_dict("records")
    )
    return (
        f'<table class="gc-table" aria-label="{escape(caption)}">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )
