# SPDX-License-Identifier: Apache-2.0
"""The votes page: what needs the visitor first, what can be vetoed, what is due, what was decided;
and the standing instructions by which ballots are prepared."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from html import escape

import streamlit as st

from dao.errors import GridCommonsError
from dao.parameters import COMMUNITY_BATTERY
from dashboard.context import Context
from dashboard.i18n import _, formats, ngettext
from dashboard.repositories.instructions import instructions
from dashboard.services import instructions as standing_orders
from dashboard.services import votes
from dashboard.services.instructions import Instruction
from dashboard.services.proposal import windows_of
from dashboard.services.votes import Agenda, Standing
from dashboard.views.decisions import (
    LIVE_SECONDS,
    Held,
    ballot_button,
    card,
    heading,
    is_on_its_way,
    opened,
    past_row,
    standing,
    state_mark,
)
from dashboard.views.parts import empty, error_box, flush, folded, lead, put, section, together
from dashboard.views.resident import notes, style

SHOWN = 20
MOST_SHOWN = 60
MARK = "votes.mark"
MORE = "votes.more"


def draw(context: Context) -> None:
    """The page."""
    style(context)
    heading(
        _("Votes"),
        _("What the members decide: one metering point, one vote, for all to see on the chain."),
        context,
    )
    held = opened(context)
    if held is None:
        return
    those = _those(held)
    st.session_state[MARK] = state_mark(those)
    if held.address is None:
        lead(_("Sign in to see what needs your vote."))
    elif not held.members.zone(held.address, context.now):
        notes(
            [
                (
                    "",
                    _(
                        "You are no member yet, so you cannot vote. Whoever keeps the register "
                        "announces new members; after a delay it takes effect."
                    ),
                )
            ]
        )
    _lists(held)
    with together():
        _past(held, votes.agenda(those).past)
        if held.address is not None:
            section(
                _("Your standing instructions"),
                _(
                    "Say once how you usually vote on small actions. Nobody votes for you: a "
                    "fitting ballot is put ready, you are told of it, and it counts only once you "
                    "sign it. Only you see your instructions."
                ),
            )
    if held.address is not None:
        _instructions(held)


def _those(held: Held) -> list[Standing]:
    return [standing(held, made) for made in held.governance.proposals()[:MOST_SHOWN]]


@st.fragment(run_every=LIVE_SECONDS)
def _lists(held: Held) -> None:
    """What is under way; drawn again as time goes on, and the whole page once something turns."""
    fresh = held.renewed()
    those = _those(fresh)
    if state_mark(those) != st.session_state.get(MARK):
        st.session_state[MARK] = state_mark(those)
        st.rerun()
    with together():
        _agenda(fresh, votes.agenda(those))


def _agenda(fresh: Held, found: Agenda) -> None:
    if fresh.address is not None:
        _mine(fresh, found)
    _group(
        fresh,
        _("You can still object"),
        _("Under a standing policy these take effect by themselves unless enough members object."),
        found.vetoes,
        _("Read and object"),
    )
    _group(
        fresh,
        _("Due"),
        _("Accepted. Anyone may hand it to the timelock and carry it out; a keeper usually does."),
        found.due,
        _("See and carry on"),
    )
    _group(
        fresh,
        _("Open") if fresh.address is None else _("Open, nothing for you to do"),
        "",
        found.others,
        _("Read"),
    )
    if fresh.address is None and not (found.due or found.others):
        empty(_("No vote is open"), _("When something is proposed, it appears here at once."))


def _mine(held: Held, found: Agenda) -> None:
    section(_("Needs your vote"))
    if not found.mine:
        empty(
            _("Nothing needs your vote"),
            _("When something is proposed that you may vote on, it stands here first."),
        )
        return
    own = _own_instructions(held)
    for one in found.mine:
        put(card(one, held, go=_("Read and vote")))
        _prepared(held, one, own)


def _group(held: Held, name: str, words: str, those: Sequence[Standing], go: str) -> None:
    if not those:
        return
    section(name, words)
    own = _own_instructions(held) if any(one.can_vote for one in those) else ()
    for one in those:
        put(card(one, held, go=go))
        if one.can_vote:
            _prepared(held, one, own)


# Prepared ballots


def _own_instructions(held: Held) -> tuple[Instruction, ...]:
    if held.address is None:
        return ()
    try:
        return instructions(held.context.settings).of(held.address, held.context.now)
    except GridCommonsError:
        return ()


def _prepared(held: Held, one: Standing, own: Sequence[Instruction]) -> None:
    """The ballot that the visitor's instruction picks, for them to sign or not."""
    if is_on_its_way(held, one.made.id):
        notes([("good", _("Your ballot is signed and on its way to the chain."))])
        return
    parameters = (held.context.settings.deployment or {}).get("GridParameters")
    windows = windows_of(one.made.calls, parameters)
    now = held.context.now
    if standing_orders.disagree(own, windows, one.made.lane, now):
        notes([("", _("Your instructions disagree about this one; read it and decide."))])
        return
    found = standing_orders.prepared(own, windows, one.made.lane, now)
    if found is None:
        return
    says = standing_orders.ballot_words(found.support)
    notes(
        [
            (
                "",
                _(
                    "Your instruction fits this one and says: {ballot}. Nothing is cast until you "
                    "sign."
                ).format(ballot=says),
            )
        ]
    )
    flush()
    ballot_button(
        held,
        one,
        found.support,
        "",
        _("Sign now: {ballot}").format(ballot=says),
        key=f"votes.prepared.{one.made.id:064x}"[:40],
        kind="secondary",
    )


# What is over


def _past(held: Held, past: Sequence[Standing]) -> None:
    section(
        _("Decided"),
        ngettext(
            "{number} proposal shown, {executed} carried out.",
            "{number} proposals shown, {executed} carried out.",
            len(past),
        ).format(number=len(past), executed=votes.counted(past)[1])
        if past
        else "",
    )
    if not past:
        empty(_("Nothing has been decided yet"), _("Decisions stay here for everyone to see."))
        return
    whole = bool(st.session_state.get(MORE))
    shown = past if whole else past[:SHOWN]
    put('<ul class="gc-past">' + "".join(past_row(one, held) for one in shown) + "</ul>")
    if len(shown) < len(past):
        flush()
        st.button(
            ngettext("Show {number} more", "Show {number} more", len(past) - len(shown)).format(
                number=len(past) - len(shown)
            ),
            key="votes.older",
            on_click=_more,
        )


def _more() -> None:
    st.session_state[MORE] = True


# Standing instructions


def _instructions(held: Held) -> None:
    own = _own_instructions(held)
    for one in own:
        left, right = st.columns([5, 1], vertical_alignment="center")
        with left:
            put(f"<p>{escape(standing_orders.words(one))}</p>")
        with right:
            st.button(
                _("End"),
                key=f"votes.instruction.end.{one.number}",
                on_click=_forget,
                args=(held, one.number),
                width="stretch",
            )
    if len(own) >= standing_orders.MOST_KEPT:
        lead(_("That is as many as can be kept; end one to add another."))
        return
    # Few come for this form, and a browser takes longer for it than for all that is above.
    fold = folded(_("Add an instruction"), "votes.instruction")
    if fold.open:
        with fold:
            _form(held)


def _form(held: Held) -> None:
    now = held.context.now
    key = st.selectbox(
        _("What it is about"),
        standing_orders.KINDS,
        format_func=standing_orders.kind_words,
        key="votes.instruction.key",
    )
    battery = key == COMMUNITY_BATTERY
    most = st.number_input(
        _("At most, kWh moved") if battery else _("At most, hours"),
        min_value=0.25,
        max_value=10_000.0 if battery else 24.0,
        value=50.0 if battery else 2.0,
        step=5.0 if battery else 0.25,
        key=f"votes.instruction.most.{key}",
    )
    support = st.selectbox(
        _("Your ballot"),
        standing_orders.SUPPORTS,
        format_func=standing_orders.ballot_words,
        index=None,
        placeholder=_("Choose"),
        key="votes.instruction.support",
    )
    today = datetime.fromtimestamp(now, UTC).date()
    until = st.date_input(
        _("Until"),
        value=today + timedelta(days=90),
        min_value=today + timedelta(days=1),
        max_value=today + timedelta(days=365),
        format=formats().picker,
        key="votes.instruction.until",
    )
    if support is None:
        lead(_("Choose a ballot first."))
        return
    size = round(most * 1_000) if battery else round(most * 4)
    if not hasattr(until, "year"):
        return
    ends = int(datetime(until.year, until.month, until.day, tzinfo=UTC).timestamp())
    made = Instruction(int(key), size, int(support), ends)
    if not standing_orders.is_sound(made, now):
        return
    put(f"<p>{escape(standing_orders.words(made))}</p>")
    if st.button(_("Keep this instruction"), key="votes.instruction.keep"):
        try:
            assert held.address is not None
            instructions(held.context.settings).keep(held.address, made, now)
        except GridCommonsError:
            error_box(
                _("The instruction could not be kept."),
                _("Your other instructions and your votes are as they were."),
                _("Try again in a moment."),
            )
            return
        st.rerun()


def _forget(held: Held, number: int) -> None:
    assert held.address is not None
    instructions(held.context.settings).forget(held.address, number)
