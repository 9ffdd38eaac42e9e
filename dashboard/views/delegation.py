# SPDX-License-Identifier: Apache-2.0
"""The delegation page: how many votes the visitor has, where they come from, and handing one's own
vote to a neighbour, or taking it back, by one signature."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import pandas as pd
import streamlit as st

from dao.errors import CheckFailed
from dashboard import identity, wallet
from dashboard.context import Context
from dashboard.i18n import _, ngettext
from dashboard.repositories.governance import Lent
from dashboard.repositories.relay import RelayClient
from dashboard.services import delegation
from dashboard.services.delegation import NOBODY, Power
from dashboard.services.typed_data import checked, deadline
from dashboard.views.decisions import Held, heading, heard, name_of, opened, request_of
from dashboard.views.parts import (
    Figure,
    empty,
    error_box,
    figures,
    lead,
    put,
    section,
    table,
    together,
)
from dashboard.views.resident import no_relay, notes, relay_trouble, style, wallet_problem

SAID = "delegation.said."
MOST_CHOICES = 400
SHOWN_LENDERS = 40


def draw(context: Context) -> None:
    """The page."""
    style(context)
    heading(
        _("Delegation"),
        _(
            "A neighbour of your zone can vote for you. You can take your vote back at any time; a "
            "vote that is already open goes on as it was."
        ),
        context,
    )
    held = opened(context)
    if held is None or held.address is None:
        return
    found = delegation.power_of(held.members, held.address, context.now)
    if found is None:
        empty(
            _("You are no member yet"),
            _(
                "Whoever keeps the register announces new members; after a delay it takes effect, "
                "and this page shows your vote."
            ),
        )
        return
    with together():
        _said(held, found)
        _power(held, found)
        section(_("Hand your vote on"))
    _hand_on(held, found)
    _history(held)


def _power(held: Held, found: Power) -> None:
    context = held.context
    figures(
        [
            Figure(
                _("Your votes"),
                context.fmt.number(found.votes),
                _("on what is proposed from now on"),
            ),
            Figure(
                _("Your own"),
                context.fmt.number(int(found.own)),
                _("you cast it yourself")
                if found.lent_to is None
                else _("{who} casts it").format(who=name_of(held, found.lent_to)),
            ),
            Figure(
                _("Lent to you"),
                context.fmt.number(len(found.lenders)),
                ngettext("by {number} member", "by {number} members", len(found.lenders)).format(
                    number=len(found.lenders)
                ),
            ),
            Figure(
                _("Where it counts"),
                _("Zone {zone}").format(zone=found.zone),
                _("and in votes of all members"),
            ),
        ]
    )
    if found.lenders:
        names = [name_of(held, one) for one in found.lenders[:SHOWN_LENDERS]]
        if len(found.lenders) > SHOWN_LENDERS:
            names.append("…")
        put(f"<p>{escape(_('Lent to you by {names}.').format(names=', '.join(names)))}</p>")
    if found.lenders and found.lent_to is not None:
        lead(_("Your own vote is lent on; the votes lent to you stay with you."))


# Handing it on


def _hand_on(held: Held, found: Power) -> None:
    context, members = held.context, held.members
    assert held.address is not None
    relay = context.settings.relay
    if relay is None:
        no_relay()
        return
    to: str | None
    choices = delegation.candidates(members, held.address, context.now)
    if not choices:
        lead(_("There is no other member in your zone."))
        to = None
    elif len(choices) <= MOST_CHOICES:
        picked = st.selectbox(
            _("To whom"),
            choices,
            index=None,
            placeholder=_("Choose a member of your zone"),
            format_func=lambda one: _member(held, one),
            key="delegation.to",
        )
        # The widget's value passed through a browser.
        to = picked if picked in choices else None
    else:
        to = _typed(choices)
    if to is not None and to == found.lent_to:
        lead(_("Your vote is there already."))
    elif to is not None:
        name = name_of(held, to)
        _sign(held, to, _("Sign: {who} votes for me").format(who=name), "delegation.sign", relay)
        lead(_("It holds for what is proposed from then on, until you take it back."))
    if found.lent_to is not None:
        _sign(held, held.address, _("Take my vote back"), "delegation.back", relay, "secondary")


def _typed(choices: list[str]) -> str | None:
    """An address out of too many to list."""
    text = st.text_input(_("Address of a member of your zone"), key="delegation.address")
    if not text.strip():
        return None
    found = delegation.read_address(text)
    if found is None:
        lead(_("That is no address; one character may be wrong."))
        return None
    if found not in choices:
        lead(_("This address is no member of your zone."))
        return None
    return found


def _member(held: Held, address: str) -> str:
    meter = held.members.meters.get(address, 0)
    return _("{name} (metering point {number})").format(name=name_of(held, address), number=meter)


def _sign(held: Held, to: str, label: str, key: str, relay: str, kind: Any = "primary") -> None:
    """Have a delegation signed: the relay fills in its number, and nothing else."""
    settings, membership = held.context.settings, held.governance.membership
    if membership is None or settings.chain_id is None or held.address is None:
        return
    wanted = {"delegatee": to, "expiry": deadline(held.context.now)}
    fields = {"delegator": held.address, **wanted}
    try:
        document = checked(
            RelayClient(relay).typed_data("delegation", fields),
            "delegation",
            wanted,
            chain_id=settings.chain_id,
            contract=membership,
            now=held.context.now,
        )
    except CheckFailed as error:
        relay_trouble(error)
        return
    nonce = int(document["message"]["nonce"])
    answer = wallet.button(
        label,
        request=wallet.SignTypedData(
            document,
            held.address,
            wallet.Deliver(
                "/relay/v1/delegations", {**fields, "nonce": nonce, "signature": "$signature"}
            ),
        ),
        key=key,
        kind=kind,
        chain=identity.chain(settings),
    )
    heard(answer, SAID + held.address)


def _said(held: Held, found: Power) -> None:
    """What became of the last signature."""
    assert held.address is not None
    answer = st.session_state.get(SAID + held.address)
    if not isinstance(answer, wallet.Answer):
        return
    if not answer.ok:
        wallet_problem(answer)
        return
    status = request_of(held, answer)
    if status is not None and status.state == "failed":
        error_box(
            _("Your delegation was not taken by the chain: {reason}.").format(
                reason=(status.reason or "?")[:200]
            ),
            _("Your vote is where it was."),
            _("You can sign it again."),
        )
        return
    if status is not None and status.state == "done":
        notes([("good", _("Done: your vote moved as you signed."))])
        return
    notes(
        [("good", _("Signed, and safe at the relay. It is on the chain within a minute or two."))]
    )


# History


def _history(held: Held) -> None:
    assert held.address is not None
    found = delegation.history(held.members, held.address)
    with together():
        section(_("History"))
        _told(held, found)


def _told(held: Held, found: Sequence[Lent]) -> None:
    if not found:
        empty(_("Nothing yet"), _("Each time a vote is lent or taken back, it is noted here."))
        return
    frame = pd.DataFrame(
        {
            _("When"): [held.context.fmt.moment(one.at) for one in found],
            _("What"): [_words(held, one) for one in found],
        }
    )
    put(table(frame, _("History of your vote"), set()))


def _words(held: Held, one: Lent) -> str:
    if one.delegator == held.address:
        if one.to == held.address:
            return _("You held your own vote")
        if one.to == NOBODY:
            return _("Your membership ended")
        return _("You lent your vote to {who}").format(who=name_of(held, one.to))
    return _("{who} lent you a vote").format(who=name_of(held, one.delegator))
