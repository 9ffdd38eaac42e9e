# SPDX-License-Identifier: Apache-2.0
"""Who is looking: the person that signed in with this browser, and the box to sign in with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dashboard.i18n import _
from dashboard.settings import Settings

if TYPE_CHECKING:
    from dashboard.context import Context


@dataclass(frozen=True)
class Person:
    """Somebody who signed in. accounts: the metering points that are theirs on the registry."""

    address: str
    accounts: tuple[int, ...] = ()
    name: str | None = None
    is_seeded: bool = False


def current(settings: Settings) -> Person | None:
    """The person of this browser's session, None where nobody signed in."""
    return None


def sign_in_box(context: Context) -> None:
    """Connect a wallet and sign in."""
    from dashboard.views.parts import empty

    empty(_("Nobody can sign in yet"), _("This dashboard has no sign-in."))


def sign_out() -> None:
    """End this browser's session."""
