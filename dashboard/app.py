# SPDX-License-Identifier: Apache-2.0
"""The script of every page: what stands around it, and which one is drawn. Streamlit runs this.

The server is started by `dashboard.serve`; pages are listed in `dashboard.pages`.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from urllib.parse import urlencode

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.navigation.page import Page as Handle

from dao.errors import GridCommonsError
from dashboard import i18n, identity, pages
from dashboard.context import Context, State, read_state
from dashboard.errors import on_script_error, plain
from dashboard.hosts import cookie_name
from dashboard.i18n import _, ngettext
from dashboard.repositories.attention import unseen_of
from dashboard.services.program_words import in_words
from dashboard.settings import Settings, read_settings
from dashboard.theme import Palette, palette, style_sheet
from dashboard.views.parts import as_label, empty, put, title

log = logging.getLogger("dashboard")

ICON = str(Path(__file__).with_name("icon.svg"))
SIGN_IN = "sign-in"
NOTICES = "notices"
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
    st.set_page_config(
        page_title="GridCommons",
        page_icon=ICON,
        layout="wide",
        # With an entry of its own the menu is there, and the choice of light and dark with it.
        menu_items={"About": _("GridCommons: a neighbourhood’s own electricity market.")},
    )
    colours = palette(st.context.theme.type)
    st.html(style_sheet(colours))
    st.logo(ICON, size="large")
    handles: dict[str, Handle] = {}

    def drawing(page: pages.Page) -> Callable[[], None]:
        return lambda: _draw(page, handles, colours, locale)

    for one in pages.PAGES:
        handles[one.slug] = st.Page(
            drawing(one),
            title=_(one.title),
            icon=one.icon,
            url_path=one.slug,
            default=one.slug == pages.DEFAULT,
            visibility="visible" if one.listed else "hidden",
        )
    # The public pages stand beside the sections, without a heading of their own.
    sections = {
        "" if key == "public" else _(heading): [
            handles[one.slug] for one in pages.PAGES if one.section == key
        ]
        for key, heading in pages.SECTIONS.items()
    }
    st.navigation({name: those for name, those in sections.items() if those}, position="top").run()


def _draw(
    page: pages.Page, handles: Mapping[str, Handle], colours: Palette, locale: i18n.Locale
) -> None:
    """The page that was asked for, and what stands above it."""
    st.set_page_config(page_title=f"{_(page.title)} · GridCommons")
    # What ends a script early is no Exception, so it passes.
    try:
        try:
            settings, state = read_settings(), read_state()
        except GridCommonsError:
            title(_("The run cannot be shown"))
            _wait()
            return
        person = identity.current(settings)
        _menu(handles)
        bell = _top(page, handles[SIGN_IN], person)
        parts = {one.name: getattr(state, one.name) for one in dataclasses.fields(state)}
        context = Context(settings=settings, colours=colours, person=person, locale=locale, **parts)
        if page.needs_person and person is None:
            title(_(page.title), _("This page is about you, so it needs to know who you are."))
            identity.sign_in_box(context)
        else:
            page.draw(context)
        # Last, so that nobody waits for it to see the page.
        if person is not None and person.accounts and page.slug != NOTICES:
            with bell:
                _count(settings, state, person, handles[NOTICES])
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


def _bell(settings: Settings, state: State, person: identity.Person, notices: Handle) -> None:
    """How many notices are new, and the way to them."""
    count = unseen_of(settings, state, person.accounts)
    if count and st.button(
        ngettext("{number} notice", "{number} notices", count).format(number=count),
        key="frame.notices",
        icon=":material/notifications:",
    ):
        st.switch_page(notices)


def _count(settings: Settings, state: State, person: identity.Person, notices: Handle) -> None:
    """The count of notices; a page does not fail for want of it."""
    try:
        _bell(settings, state, person, notices)
    except Exception as error:
        log.error("the notices cannot be counted", exc_info=error)


@st.fragment
def _menu(handles: Mapping[str, Handle]) -> None:
    """The pages in a menu of our own, where there is little room for Streamlit's: its list with
    headings in it is none to a screen reader. What is in it is drawn once it is open."""
    with st.container(key="frame-menu"):
        menu = st.popover(_("Menu"), icon=":material/menu:", key="frame.pages", on_change="rerun")
    if not menu.open:
        return
    with menu:
        for key, heading in pages.SECTIONS.items():
            those = [one for one in pages.PAGES if one.section == key and one.listed]
            if those and key != "public":
                put(f'<p class="gc-menu">{escape(_(heading))}</p>')
            for one in those:
                st.page_link(handles[one.slug], label=_(one.title), icon=one.icon)
        put(_languages())


def _languages() -> str:
    """A link to this page in each other language, in that language's own words: the server keeps
    the choice for the browser."""
    here = i18n.current().language
    links = "".join(
        f'<a href="?{escape(urlencode({**st.query_params.to_dict(), "lang": one}))}" lang="{one}" '
        f'hreflang="{one}" target="_self">{escape(i18n.NAMES[one])}</a>'
        for one in i18n.available()
        if one != here
    )
    return f'<p class="gc-language">{links}</p>' if links else ""


def _top(page: pages.Page, sign_in: Handle, person: identity.Person | None) -> DeltaGenerator:
    """The languages, who is signed in, the way in and out: at the top right of every page. Returns
    where the count of notices goes."""
    with st.container(key="frame-top", horizontal=True, vertical_alignment="center"):
        put(_languages())
        bell = st.empty()
        if person is not None:
            short = f"{person.address[:6]}…{person.address[-4:]}"
            with st.popover(as_label(person.name or short), key="frame.person"):
                put(
                    f"<p>{escape(_('You are signed in as'))}<br>"
                    f"<b>{escape(person.name or short)}</b></p>"
                    f'<p class="gc-address">{escape(person.address)}</p>'
                )
                st.button(_("Sign out"), key="frame.sign_out", on_click=identity.sign_out)
        elif page.slug != SIGN_IN and st.button(_("Sign in"), key="frame.sign_in"):
            st.switch_page(sign_in)
    return bell


main()
