# SPDX-License-Identifier: Apache-2.0
"""Sign in: reached from the top of every page."""

from __future__ import annotations

from dashboard import identity
from dashboard.context import Context
from dashboard.i18n import _
from dashboard.views.parts import empty, title


def draw(context: Context) -> None:
    """The box to sign in with, or whom this browser is signed in as."""
    title(_("Sign in"), _("Your wallet proves who you are. There is no password."))
    if context.person is None:
        identity.sign_in_box(context)
        return
    who = context.person.name or context.person.address
    empty(_("You are signed in as {who}").format(who=who), _("Your pages are in the menu."))
