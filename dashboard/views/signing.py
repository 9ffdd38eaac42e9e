# SPDX-License-Identifier: Apache-2.0
"""Having something about one's data signed and brought to `/my-data/v1/...`, and what became of
it, told where the page begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboard import wallet
from dashboard.i18n import _
from dashboard.services.program_words import in_words
from dashboard.views.parts import error_box
from dashboard.views.resident import Resident, notes, wallet_problem

SAID = "my-data.said"
DONE = "my-data.done"
HEARD = "my-data.heard"
"""What was signed last, and whether a form that led to it is to be emptied."""


def said() -> None:
    """What became of what was signed last."""
    answer = st.session_state.get(SAID)
    if not isinstance(answer, wallet.Answer):
        return
    if answer.ok:
        status = (answer.delivered or {}).get("status")
        body = (answer.delivered or {}).get("body")
        state = body.get("state") if isinstance(body, Mapping) else None
        words = {
            "received": _("The grant holds from now on. You can end it at any time."),
            "revoked": _("The grant is ended. Whatever was read before stays with its reader."),
            "done": _("The month is erased."),
            "running": _("The month is being erased. This page says when it is done."),
        }
        if status is not None and state in words:
            notes([("good", words[state])])
        return
    body = (answer.delivered or {}).get("body")
    why = body.get("error") if isinstance(body, Mapping) else None
    if answer.problem == "delivery-failed" and isinstance(why, Mapping):
        error_box(
            _("It was not taken: {problem}.").format(
                problem=in_words(str(why.get("problem"))[:300])
            ),
            _("Your readings, your grants and your money are as they were."),
            _("It would accept: {accepted}.").format(
                accepted=in_words(str(why.get("accepted"))[:200])
            ),
        )
        return
    wallet_problem(answer)


def is_waiting(key: str) -> bool:
    """Whether a button has been there and not answered yet: what it did may be done already, and
    only a button that is drawn again hears of it."""
    return key in st.session_state and key not in st.session_state.get(HEARD, set())


def sign(
    held: Resident,
    label: str,
    document: dict[str, Any],
    path: str,
    body: dict[str, Any],
    *,
    key: str,
    kind: Any = "primary",
    disabled: bool = False,
) -> None:
    """A button that has something signed and brought to `/my-data/v1/...`."""
    answer = wallet.button(
        label,
        request=wallet.SignTypedData(
            document,
            held.address,
            wallet.Deliver(f"/my-data/v1/{path}", {**body, "signature": "$signature"}),
        ),
        key=key,
        kind=kind,
        disabled=disabled,
    )
    if answer is not None and answer.fresh:
        st.session_state[SAID] = answer
        st.session_state[DONE] = answer.ok
        st.session_state.setdefault(HEARD, set()).add(key)
        st.rerun()
