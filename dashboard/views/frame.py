# SPDX-License-Identifier: Apache-2.0
"""What stands on top of every page, as HTML: the menu of pages, the languages, the bell.

Streamlit's own menu lays itself out piece by piece, about a fifth of what a browser did for a page.
`assets/frame.js` opens and closes this one and follows its links.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from urllib.parse import urlencode

from dashboard import i18n, identity, pages
from dashboard.i18n import _, ngettext

SIGN_IN, NOTICES = "sign-in", "notices"
CONTENT = "gc-content"
"""Where the page itself begins."""


def top(
    here: pages.Page, query: Mapping[str, str], person: identity.Person | None, count: int
) -> str:
    """The menu, and at the right the languages, the bell, and who is signed in or the way in.

    query: what the address asks for, which a change of language keeps. count: of new notices.
    """
    words = languages(query)
    aside = [words]
    if count and here.slug != NOTICES:
        said = ngettext("{number} notice", "{number} notices", count).format(number=count)
        aside.append(
            f'<a class="gc-enter gc-bell" href="/{NOTICES}"><span>{escape(said)}</span></a>'
        )
    if person is not None:
        who = person.name or f"{person.address[:6]}…{person.address[-4:]}"
        said = escape(_("You are signed in as {who}").format(who=who))
        aside.append(f'<a class="gc-enter" href="/{SIGN_IN}" aria-label="{said}">{escape(who)}</a>')
    elif here.slug != SIGN_IN:
        aside.append(f'<a class="gc-enter" href="/{SIGN_IN}">{escape(_("Sign in"))}</a>')
    skip = f'<a class="gc-skip" href="#{CONTENT}" target="_self">{escape(_("Skip the menu"))}</a>'
    return (
        f'{skip}{_menu(here, words)}<div class="gc-aside">{"".join(aside)}</div>'
        f'<span id="{CONTENT}" tabindex="-1"></span>'
    )


def languages(query: Mapping[str, str]) -> str:
    """A link to this page in each other language, in that language's own words: the server keeps
    the choice for the browser."""
    here = i18n.current().language
    links = "".join(
        f'<a href="?{escape(urlencode({**query, "lang": one}))}" lang="{one}" '
        f'hreflang="{one}" target="_self">{escape(i18n.NAMES[one])}</a>'
        for one in i18n.available()
        if one != here
    )
    return f'<p class="gc-language">{links}</p>' if links else ""


def _menu(here: pages.Page, words: str) -> str:
    """The pages by section; where there is little room all of it is behind one button."""
    parts = []
    for key, heading in pages.SECTIONS.items():
        those = [one for one in pages.PAGES if one.section == key and one.listed]
        links = "".join(_link(one, here) for one in those)
        if key == "public":
            # Beside the sections, without a heading of its own.
            parts.append(links)
        elif links:
            inside = ' class="here"' if here.section == key else ""
            parts.append(
                f"<details><summary{inside}>{escape(_(heading))}</summary>"
                f"<div>{links}</div></details>"
            )
    return (
        f'<nav class="gc-nav" aria-label="{escape(_("Pages"))}">'
        '<a class="gc-brand" href="/"><img src="/assets/icon.svg" alt=""/>GridCommons</a>'
        f'<button class="gc-burger" type="button" aria-expanded="false">{escape(_("Menu"))}'
        f'</button><div class="gc-list">{"".join(parts)}{words}</div></nav>'
    )


def _link(one: pages.Page, here: pages.Page) -> str:
    path = "" if one.slug == pages.DEFAULT else one.slug
    current = ' aria-current="page"' if one.slug == here.slug else ""
    icon = f'<i data-icon="{one.icon}"></i>' if one.icon else ""
    return f'<a href="/{path}"{current}>{icon}{escape(_(one.title))}</a>'
