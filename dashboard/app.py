# SPDX-License-Identifier: Apache-2.0
"""The script of every page: what stands around it, and which one is drawn. Streamlit runs this.

The server is started by `dashboard.serve`; pages are listed in `dashboard.pages`.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import streamlit as st
from streamlit.navigation.page import Page as Handle

from dao.errors import GridCommonsError
from dashboard import i18n, identity, pages
from dashboard.context import Context, State, read_state
from dashboard.errors import on_script_error, plain
from dashboard.hosts import cookie_name
from dashboard.i18n import _
from dashboard.repositories.attention import unseen_of
from dashboard.services.program_words import in_words
from dashboard.settings import Settings, read_settings
from dashboard.theme import Palette, palette, style_sheet
from dashboard.views import frame
from dashboard.views.parts import empty, put, title

log = logging.getLogger("dashboard")

ICON = str(Path(__file__).parent / "assets" / "icon.svg")
RETRY_SECONDS = 2.0


def main() -> None:
    """One run of the script: the frame, then the page that was asked for."""
    kept = cookie_name(i18n.COOKIE, st.context.headers.get("host") or "")
    locale = i18n.asked(
        st.query_params.get("lang"),
        st.context.cookies.get(kept),
        # As the page's script tells it: what opens its socket may name another.
        st.context.locale or st.context.headers.get("accept-language"),
    )
    st.session_state[i18n.SESSION_KEY] = locale
    colours = palette(st.context.theme.type)
    # `views/frame.py` draws the menu: Streamlit's own takes a browser much longer.
    handles = [_handle(one, colours, locale) for one in pages.PAGES]
    chosen = st.navigation(handles, position="hidden")
    st.set_page_config(
        page_title=f"{chosen.title} · GridCommons",
        page_icon=ICON,
        layout="wide",
        # With an entry of its own the menu is there, and the choice of light and dark with it.
        menu_items={"About": _("GridCommons: a neighbourhood’s own electricity market.")},
    )
    st.html(style_sheet(colours))
    chosen.run()


def _handle(page: pages.Page, colours: Palette, locale: i18n.Locale) -> Handle:
    return st.Page(
        lambda: _draw(page, colours, locale),
        title=_(page.title),
        url_path=page.slug,
        default=page.slug == pages.DEFAULT,
    )


def _draw(page: pages.Page, colours: Palette, locale: i18n.Locale) -> None:
    """The page that was asked for, and what stands above it."""
    # What ends a script early is no Exception, so it passes.
    try:
        try:
            settings, state = read_settings(), read_state()
        except GridCommonsError:
            title(_("The run cannot be shown"))
            _wait()
            return
        person = identity.current(settings)
        query = st.query_params.to_dict()
        above = st.empty()
        accounts = () if person is None else person.accounts
        count = unseen_of(settings, state, accounts, at_once=True)
        with above:
            put(frame.top(page, query, person, count))
        parts = {one.name: getattr(state, one.name) for one in dataclasses.fields(state)}
        context = Context(settings=settings, colours=colours, person=person, locale=locale, **parts)
        if page.needs_person and person is None:
            title(_(page.title), _("This page is about you, so it needs to know who you are."))
            identity.sign_in_box(context)
        else:
            page.draw(context)
        # Last, so that nobody waits for it to see the page.
        if person is not None and (now := _count(settings, state, person, count)) != count:
            with above:
                put(frame.top(page, query, person, now))
    except Exception as error:
        on_script_error(error)


@st.fragment(run_every=RETRY_SECONDS)
def _wait() -> None:
    """Tell what is wrong with the state, until it can be read again."""
    try:
        read_settings(), read_state()
    except GridCommonsError as error:
        empty(
            in_words(plain(error)),
            _("Nothing on the chain is affected. This page tries again by itself."),
        )
    else:
        st.rerun()


def _count(settings: Settings, state: State, person: identity.Person, otherwise: int) -> int:
    """How many notices are new; a page does not fail for want of it."""
    try:
        return unseen_of(settings, state, person.accounts)
    except Exception as error:
        log.error("the notices cannot be counted", exc_info=error)
        return otherwise


main()
