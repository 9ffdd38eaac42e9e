# SPDX-License-Identifier: Apache-2.0
"""What the pages of rules, roles and treasury have in common: their styles, and small pieces of
HTML. Each of them draws one block. Whatever comes from the chain is escaped here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import streamlit as st

from dashboard.context import Context
from dashboard.i18n import _
from dashboard.repositories import house as asking
from dashboard.repositories.cache import cached
from dashboard.repositories.house import House
from dashboard.services.decided import Decisions, decisions
from dashboard.services.plan_words import title_in_words
from dashboard.services.proposal import link

_PLACE = re.compile(r"\{(\w+)\}")
STYLE = """<style>
.gc-house h2 {{ margin-top: 1.5rem; }}
.gc-house h3 {{ font-size: 1.05rem; font-weight: 650; margin: 0; padding: 0; }}
.gc-house .gc-figures {{ grid-template-columns: repeat(auto-fit, minmax(min(13rem, 46%), 1fr)); }}
.gc-house ul {{ list-style: none; margin: .5rem 0 0 !important; padding: 0 !important; }}
.gc-house li {{ margin: 0 !important; }}
.gc-house li.gc-role {{ margin-bottom: .7rem !important; }}
.gc-house a {{ color: {green}; overflow-wrap: anywhere; }}
.gc-house small {{ color: {muted}; font-size: .85rem; }}
.gc-house td small {{ display: block; }}
.gc-house .gc-table td {{ vertical-align: top; }}
.gc-house small a {{ color: {green}; }}
.gc-house td.num, .gc-house td.when {{ white-space: nowrap; }}
.gc-house td.text {{ overflow-wrap: anywhere; min-width: 9rem; }}
.gc-rule {{ display: grid; gap: .1rem 1.4rem; padding: .7rem 0;
  grid-template-columns: minmax(0, 1fr) 9.5rem minmax(0, 27rem);
  border-bottom: 1px solid {line}; align-items: start; }}
.gc-rule p {{ margin: 0; color: {muted}; font-size: .9rem; }}
.gc-rule .now {{ font-size: 1.2rem; font-weight: 650; font-variant-numeric: tabular-nums;
  text-align: right; line-height: 1.3; }}
.gc-rule .now small {{ display: block; font-weight: 400; }}
.gc-rule dl {{ display: grid; grid-template-columns: repeat(4, 1fr); gap: 0 .9rem;
  margin: 0 !important; padding: 0 !important; font-size: .9rem;
  font-variant-numeric: tabular-nums; }}
.gc-rule dt {{ color: {muted}; font-size: .8rem; font-weight: 400; line-height: 1.3; }}
.gc-rule dd {{ margin: 0; }}
.gc-rule .track {{ grid-column: 1 / 3; height: 4px; margin: .45rem .25rem .1rem; border-radius: 2px;
  background: {line}; position: relative; }}
.gc-rule .track i {{ position: absolute; top: -3px; width: 10px; height: 10px; margin-left: -5px;
  border-radius: 50%; background: {green}; }}
.gc-rule .more {{ grid-column: 1 / -1; }}
.gc-rule .more p {{ margin-top: .35rem; color: {ink}; }}
.gc-rule details {{ margin-top: .2rem; font-size: .9rem; }}
.gc-role {{ padding: .9rem 1.1rem 1rem; background: {surface}; border: 1px solid {line};
  border-radius: .6rem; }}
.gc-role header {{ display: flex; flex-wrap: wrap; gap: .2rem .8rem; align-items: center; }}
.gc-role .holder {{ margin: .35rem 0 0; overflow-wrap: anywhere; }}
.gc-role .duties {{ display: grid; gap: .5rem 1.4rem; margin: .6rem 0 0 !important;
  padding: 0 !important; grid-template-columns: repeat(3, minmax(0, 1fr)); }}
.gc-role .duties dt {{ color: {muted}; font-size: .85rem; font-weight: 400; }}
.gc-role .duties dd {{ margin: 0; font-size: .93rem; }}
.gc-house .gc-address {{ font-family: ui-monospace, monospace; color: inherit; white-space: nowrap;
  font-size: .85em; }}
.gc-house .gc-address.whole {{ white-space: normal; overflow-wrap: anywhere; }}
.gc-unseen {{ position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); }}
.gc-matrix th[scope="row"] {{ color: {ink}; font-size: .93rem; min-width: 13rem;
  padding-right: .8rem; }}
.gc-matrix th[scope="row"] small {{ display: block; }}
.gc-matrix thead th:not(:first-child), .gc-matrix td {{ text-align: center;
  padding: .36rem .3rem; }}
.gc-matrix td b {{ color: {green}; }}
.gc-matrix td span {{ color: {muted}; }}
.gc-matrix td {{ position: relative; }}
.gc-spent {{ min-width: 9rem; white-space: nowrap; }}
.gc-spent .gc-bar {{ margin-top: .3rem; }}
.gc-hash {{ font-family: ui-monospace, monospace; font-size: .85em; white-space: nowrap; }}
.gc-file {{ display: inline-block; padding: .45rem .95rem; border: 1px solid {green};
  border-radius: .5rem; text-decoration: none !important; font-weight: 500;
  margin: .5rem 0 .3rem; }}
@media (max-width: 760px) {{
  .gc-rule {{ grid-template-columns: minmax(0, 1fr) auto; }}
  .gc-rule .bounds {{ grid-column: 1 / -1; margin-top: .4rem; }}
  .gc-rule dl {{ grid-template-columns: 1fr 1fr 1fr 1.3fr; gap: 0 .5rem; font-size: .82rem; }}
  .gc-rule dt {{ font-size: .76rem; }}
  .gc-role .duties {{ grid-template-columns: 1fr; }}
  .gc-house td.text {{ min-width: 12rem !important; }}
  .gc-house .gc-matrix td {{ min-width: 0; padding: .36rem .1rem; }}
  .gc-house .gc-matrix th[scope="row"] {{ min-width: 8.2rem; padding-right: .3rem; }}
  .gc-matrix thead th:not(:first-child) {{ writing-mode: vertical-rl; text-align: right;
    padding: .2rem .1rem; }}
  .gc-house .gc-figures div:last-child:nth-child(odd) {{ grid-column: 1 / -1; }}
}}
</style>"""


@dataclass(frozen=True)
class Asked:
    """What the three pages begin with."""

    context: Context
    house: House
    decisions: Decisions

    @property
    def deployment(self) -> Mapping[str, str]:
        """Addresses of the contracts by name; empty before there are any."""
        return self.context.settings.deployment or {}


def ask(context: Context) -> Asked:
    """Read the chain's events. CheckFailed where the index is damaged."""
    st.html(STYLE.format(**vars(context.colours)))
    found = asking.house(context.settings)
    return Asked(context, found, _decisions(found))


@cached(ttl=3_600, max_entries=4)
def _decisions(found: House) -> Decisions:
    return decisions(found)


def put(html: str) -> None:
    """The page's one block."""
    st.html(f'<div class="gc gc-house">{html}</div>')


def heading(title: str, lead: str = "") -> str:
    """A section's heading and the sentence under it."""
    below = f'<p class="gc-lead">{escape(lead)}</p>' if lead else ""
    return f"<h2>{escape(title)}</h2>{below}"


def filled(words: str, **pieces: str) -> str:
    """A translated sentence with pieces of HTML in the places of its {names}."""
    # In one go: a piece may hold somebody else's {name}.
    return _PLACE.sub(lambda found: pieces[found[1]], escape(words))


def nothing(title: str, advice: str) -> str:
    """What stands where there is nothing yet."""
    return f'<div class="gc-empty"><b>{escape(title)}</b>{escape(advice)}</div>'


def address(text: str, known: Mapping[str, str] | None = None, *, whole: bool = False) -> str:
    """An account, short and whole on hover, or `whole`; by its name where it is a contract of
    ours."""
    for name, at in (known or {}).items():
        if at.lower() == text.lower():
            return f'<span title="{escape(text)}">{escape(name)}</span>'
    if whole:
        return f'<span class="gc-address whole">{escape(text)}</span>'
    short = f"{text[:8]}…{text[-6:]}"
    return f'<span class="gc-address" title="{escape(text)}">{escape(short)}</span>'


def proposal(asked: Asked, number: int | None) -> str:
    """The link to a proposal by its title; a dash where none decided."""
    if not number:
        return f'<span class="gc-muted">{escape(_("set up at the beginning"))}</span>'
    title = title_in_words(asked.decisions.title(number)) or _("A proposal")
    words = title if len(title) <= 90 else f"{title[:88]}…"
    return f'<a href="{escape(link(number))}">{escape(words)}</a>'


def table(
    caption: str, head: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]], more: str = ""
) -> str:
    """A table of ready HTML cells. head: each column's name and class; more: the table's class."""
    name = escape(caption)
    top = "".join(f'<th scope="col" class="{kind}">{escape(words)}</th>' for words, kind in head)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="{kind}">{cell}</td>'
            for (_words, kind), cell in zip(head, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="gc-scroll" role="region" aria-label="{name}" tabindex="0">'
        f'<table class="gc-table {more}" aria-label="{name}">'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )
