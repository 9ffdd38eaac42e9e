# SPDX-License-Identifier: Apache-2.0
"""Sign in: reached from the top of every page."""

from __future__ import annotations

from html import escape

import streamlit as st

from dashboard import identity
from dashboard.context import Context
from dashboard.i18n import _
from dashboard.views.parts import put, title


def draw(context: Context) -> None:
    """The box to sign in with, or whom this browser is signed in as and the way out."""
    person = context.person
    if person is None:
        title(_("Sign in"), _("Your wallet proves who you are. There is no password."))
        identity.sign_in_box(context)
        return
    title(_("Signed in"), _("Your pages are in the menu."))
    who = _("You are signed in as {who}").format(who=person.name or person.address)
    put(f'<p><b>{escape(who)}</b></p><p class="gc-address">{escape(person.address)}</p>')
    st.button(_("Sign out"), key="sign_in.out", on_click=identity.sign_out)
