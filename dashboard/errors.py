# SPDX-License-Identifier: Apache-2.0
"""What happens when a page fails: it is logged here, and told in plain words there."""

from __future__ import annotations

import logging
import re
import time
from collections import deque

from dao.errors import GridCommonsError
from dashboard.i18n import _
from dashboard.services.program_words import in_words
from dashboard.views.parts import error_box

log = logging.getLogger("dashboard")

_ADDRESS = re.compile(r"(https?://)([^/\s]+)(/[^\s,;]*)?")


_recent: deque[tuple[float, str]] = deque(maxlen=10)


def recent() -> tuple[tuple[float, str], ...]:
    """The last errors of pages for the operator, the newest first: when, unix seconds, and what. Of
    errors that are not ours only the kind, for their words may hold anything."""
    return tuple(reversed(_recent))


def on_script_error(error: Exception) -> bool:
    """Log an error of a page, tell the visitor what is safe. True: nothing more is shown."""
    said = plain(error) if isinstance(error, GridCommonsError) else type(error).__name__
    _recent.append((time.time(), said[:300]))
    if isinstance(error, GridCommonsError):
        log.warning("%s", error)
    else:
        log.error("a page failed", exc_info=error)
    tell(error)
    return True


def tell(error: Exception) -> None:
    """The error on the page. What it says of itself is shown only where we wrote it."""
    error_box(
        in_words(plain(error))
        if isinstance(error, GridCommonsError)
        else _("This page could not be drawn."),
        _("Nothing was signed or sent by this. Orders, money and readings are as they were."),
        _("Load the page again. If it stays like this, tell the operator when it happened."),
    )


def plain(error: GridCommonsError) -> str:
    """What an error of ours says, in one line. Of an address only the host is left: the rest may
    hold an operator's key."""
    said = " ".join(str(error).split())
    return _ADDRESS.sub(lambda found: found[1] + found[2].rpartition("@")[2], said)
