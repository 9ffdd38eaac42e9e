# SPDX-License-Identifier: Apache-2.0
"""A proposal's page: where it stands, what it does, what speaks for and against it, and the ballot.

The evidence below the ballot is drawn by `views/evidence.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import streamlit as st

from dao.runstate import Outcome
from dashboard import charts, identity, wallet
from dashboard.context import Context
from dashboard.i18n import _, ngettext
from dashboard.repositories import calls as call_readings
from dashboard.repositories.governance import MAX_REASONS, Ballot, Made, published
from dashboard.services import proposal, votes
from dashboard.services.plan_words import summary_in_words, title_in_words
from dashboard.services.proposal import Told, told
from dashboard.services.votes import ABSTAIN, AGAINST, FOR, VETO, Standing, Turn
from dashboard.views import evidence
from dashboard.views.decisions import (
    LIVE_SECONDS,
    Held,
    ballot_button,
    heading,
    heard,
    is_on_its_way,
    name_of,
    on_its_way,
    opened,
    said_key,
    standing,
    state_mark,
    tally,
)
from dashboard.views.parts import chart, countdown, empty, lead, pill, put, section, together
from dashboard.views.resident import hash_text, notes, style, wallet_problem

MARK = "proposal.mark"
DRAFT = "proposal.draft"
FEW = 4
SHOWN = 8


@dataclass(frozen=True)
class Draft:
    """A ballot that is about to be signed."""

    number: int
    voter: str
    support: int
    reason: str


def draw(context: Context) -> None:
    """The page."""
    number = proposal.read_id(st.query_params.get("id"))
    style(context)
    if number is None:
        heading(_("Proposal"), "", context)
        _no_such()
        return
    held = opened_quietly(context)
    made = None if held is None else held.governance.proposal(number)
    if held is None or made is None:
        heading(_("Proposal"), "", context)
        _no_such()
        return
    said = told(made.description)
    heading(title_in_words(said.title), votes.lane_words(made), context)
    one = standing(held, made, whole=True)
    st.session_state[MARK] = state_mark([one])
    _now(held, number)
    with together():
        _says(held, made, said)
    _act(held, one)
    with together():
        evidence.draw(held, one, said)
        _reasons(held, one)
        _whole(held, made, said)


def opened_quietly(context: Context) -> Held | None:
    """The decisions; None where there are no contracts, without a word about it."""
    if context.settings.chain_id is None or not context.settings.deployment:
        return None
    return opened(context)


def _no_such() -> None:
    empty(
        _("There is no such proposal"),
        _("The address names none that is known here. All of them are on the page of votes."),
    )
    put(f'<p><a class="go" href="/votes">{escape(_("All votes"))}</a></p>')


# Where it stands


@st.fragment(run_every=LIVE_SECONDS)
def _now(held: Held, number: int) -> None:
    """State, time left, steps and votes, drawn again as they change."""
    fresh = held.renewed()
    made = fresh.governance.proposal(number)
    if made is None:
        # The chain was taken back behind it.
        st.rerun()
    one = standing(fresh, made, whole=True)
    if state_mark([one]) != st.session_state.get(MARK):
        st.session_state[MARK] = state_mark([one])
        st.rerun()
    words, tone = votes.state_words(one)
    left = ""
    if one.left:
        left = " · " + escape(votes.left_words(one)).format(time=countdown(one.left))
    steps = "".join(
        _turn(fresh.context, step)
        for step in votes.timeline(one, fresh.governance.timelock_delay(made))
    )
    also = votes.majority(one)
    put(
        f'<p class="gc-turn">{pill(words, tone)}{left}</p>'
        f'<p class="gc-muted">{escape(votes.timing(one))}</p>'
        f'<ol class="gc-life" aria-label="{escape(_("Steps of the decision"))}">{steps}</ol>'
        f"{tally(one)}<p>{escape(votes.decided_by(one))} {escape(also)}</p>"
        + (f'<p class="gc-muted">{escape(_mind(one))}</p>' if one.made.under_policy else "")
    )


def _mind(one: Standing) -> str:
    return _(
        "The members voted once for the standing policy that allows this; saying nothing lets it "
        "pass."
    )


def _turn(context: Context, step: Turn) -> str:
    when = "" if step.at is None else context.fmt.moment(step.at)
    if when and step.planned:
        when = _("from {time}").format(time=when)
    marks = {"done": "done", "now": "now", "failed": "failed"}
    current = ' aria-current="step"' if step.mark == "now" else ""
    return (
        f'<li class="{marks.get(step.mark, "")}"{current}><b>{escape(step.name)}</b>'
        f"{escape(when)}</li>"
    )


# What it says


def _says(held: Held, made: Made, said: Told) -> None:
    section(_("What it does"))
    _calls(held, made)
    who = name_of(held, made.proposer)
    if held.members.zone(made.proposer, made.made.at):
        by = _("Proposed by {who}, {time}.")
    else:
        by = _("Proposed by the forecaster {who}, {time}.")
    by = by.format(who=who, time=held.context.fmt.moment(made.made.at))
    summary = summary_in_words(said.summary)
    quote = f'<div class="gc-quote">{escape(summary)}</div>' if summary else ""
    put(
        f'<p class="gc-muted" style="margin-top:.6rem">{escape(by)} '
        f"{escape(_('In the proposer’s own words:')) if quote else ''}</p>{quote}"
    )


def _calls(held: Held, made: Made) -> None:
    """The calls in words; many windows of the battery in short, with each of them folded away."""
    context = held.context
    parameters = (context.settings.deployment or {}).get("GridParameters")
    items = f'<ul class="gc-calls">{"".join(_call_items(held, made))}</ul>'
    windows = proposal.windows_of(made.calls, parameters) or ()
    short = proposal.battery_words(windows)
    if short is None or len(windows) < FEW:
        put(items)
        return
    put(f'<p style="margin-top:.4rem">{escape(short)}</p>')
    frame = proposal.schedule_frame(windows)
    chart(
        charts.schedule_chart(frame, context.colours),
        alt=_("Power of the community battery in the proposed schedule"),
        key="proposal.schedule",
    )
    put(f"<details><summary>{escape(_('Each step of the schedule'))}</summary>{items}</details>")


def _call_items(held: Held, made: Made) -> list[str]:
    settings = held.context.settings
    parameters = (settings.deployment or {}).get("GridParameters")
    # What was carried out changed the values itself: then those of the time it was proposed.
    block = made.place[0] if made.executed is not None else None
    found = call_readings.readings(settings, made.calls, block)
    return [
        f"<li>{escape(words)}</li>"
        for reading, call in zip(found, made.calls, strict=True)
        for words in proposal.call_words(reading, parameters, call)
    ]


# What the visitor can do


def _act(held: Held, one: Standing) -> None:
    made = one.made
    if one.is_open:
        section(_("Object") if made.under_policy else _("Your vote"))
        _ballot(held, one)
    elif one.can_queue or one.state is Outcome.QUEUED:
        section(_("Carry it on"))
        _carry(held, one)
    elif one.mine is not None:
        section(_("Your vote"))
        _cast(one)


def _cast(one: Standing) -> None:
    assert one.mine is not None
    words, tone = votes.support_words(one.mine.support)
    said = ngettext(
        "You voted with {number} vote.", "You voted with {number} votes.", one.mine.weight
    ).format(number=one.mine.weight)
    put(
        f"<p>{pill(words, tone)} {escape(said)} "
        f'<span class="gc-muted">{hash_text(one.mine.tx)}</span></p>'
    )


def _ballot(held: Held, one: Standing) -> None:
    made, number = one.made, one.made.id
    if held.address is None:
        lead(_("Sign in to vote."))
        return
    if one.mine is not None:
        st.session_state.pop(said_key(held, number), None)
        _cast(one)
        return
    if not one.power:
        _no_power(held, made)
        return
    if is_on_its_way(held, number):
        notes([("good", on_its_way(held, number))])
        return
    lead(
        ngettext(
            "You have {number} vote on this, as of when the vote opened. A vote is cast once and "
            "for good, and everybody can see it.",
            "You have {number} votes on this, as of when the vote opened. A vote is cast once and "
            "for good, and everybody can see it.",
            one.power,
        ).format(number=one.power)
    )
    draft = st.session_state.get(DRAFT)
    if isinstance(draft, Draft) and (draft.number, draft.voter) == (number, held.address):
        _review(held, one, draft)
    else:
        _form(held, one)


def _form(held: Held, one: Standing) -> None:
    """The choice and its reason. Taken as a whole, so that nothing typed last is left out of what
    is signed."""
    made = one.made
    key = f"{made.id:064x}"[:16]
    support: int | None
    with st.form(f"proposal.form.{key}", border=False):
        if made.under_policy:
            veto = st.checkbox(
                _("It is an abuse and should never have been proposed (veto)"),
                key=f"proposal.veto.{key}",
            )
            support = VETO if veto else AGAINST
        else:
            support = st.radio(
                _("Your vote"),
                (FOR, AGAINST, ABSTAIN, VETO),
                format_func=_choice,
                index=None,
                key=f"proposal.support.{key}",
                label_visibility="collapsed",
            )
        reason = proposal.clean_reason(
            st.text_area(
                _("Why (everybody can read it, for good)"),
                key=f"proposal.reason.{key}",
                max_chars=500,
                height=90,
            )
        )
        sent = st.form_submit_button(_("Continue"), key=f"proposal.continue.{key}")
    if not sent:
        return
    if support is None:
        lead(_("Choose above first."))
    elif len(reason.encode()) > proposal.MAX_REASON:
        lead(_("The reason is too long for the chain; say it shorter."))
    else:
        assert held.address is not None
        st.session_state[DRAFT] = Draft(made.id, held.address, int(support), reason)
        st.rerun()


def _review(held: Held, one: Standing, draft: Draft) -> None:
    """What is about to be signed, word for word."""
    words, tone = votes.support_words(draft.support)
    quote = f'<div class="gc-quote">{escape(draft.reason)}</div>' if draft.reason else ""
    put(f"<p>{pill(words, tone)}</p>{quote}")
    _deliver(held, one, draft.support, draft.reason, f"{one.made.id:064x}"[:16])
    st.button(_("Change it"), key="proposal.change", on_click=_change)


def _change() -> None:
    st.session_state.pop(DRAFT, None)


def _choice(support: int) -> str:
    return {
        FOR: _("For"),
        AGAINST: _("Against"),
        ABSTAIN: _("Abstain"),
        VETO: _("Against, with a veto: it should never have been proposed"),
    }[support]


def _deliver(held: Held, one: Standing, support: int, reason: str, key: str) -> None:
    context = held.context
    label = {
        FOR: _("Sign: vote for"),
        AGAINST: _("Sign the objection") if one.made.under_policy else _("Sign: vote against"),
        ABSTAIN: _("Sign: abstain"),
        VETO: _("Sign the veto"),
    }[support]
    if context.settings.relay is not None:
        ballot_button(held, one, support, reason, label, key=f"proposal.sign.{key}")
        lead(_("It costs nothing: the relay carries it to the chain."))
    else:
        lead(_("No relay is known here, so a vote goes to the chain with your own gas."))
    with st.expander(_("Without the relay, with your own gas")):
        data = proposal.vote_data(one.made.id, support, reason)
        label = _("Send the vote yourself")
        _send(held, one.made, data, label, f"proposal.vote.{key}", is_vote=True)


def _no_power(held: Held, made: Made) -> None:
    assert held.address is not None
    members, at = held.members, made.snapshot
    home = members.zone(held.address, at)
    if not home:
        words = _(
            "You were no member when this vote opened, so you cannot vote on it. Membership counts "
            "from the moment it takes effect."
        )
    elif made.zone not in (0, home):
        words = _("Only the members of zone {zone} vote on this.").format(zone=made.zone)
    else:
        words = _(
            "You had lent your vote when this vote opened. Whoever holds it votes for you; on the "
            "page of delegation you can take it back for later votes."
        )
    notes([("", words)])


def _carry(held: Held, one: Standing) -> None:
    """Queue and execute, for whoever wants to."""
    made, settings = one.made, held.context.settings
    key = f"{made.id:064x}"[:16]
    if one.mine is not None:
        _cast(one)
    if one.state is Outcome.QUEUED and not one.can_execute:
        lead(_("Nothing can be done until its time in the timelock is over."))
        return
    lead(
        _("A keeper does this by itself. You can do it with your own gas if none does."),
    )
    function = "queue" if one.can_queue else "execute"
    data = proposal.carry_on(made, function)
    if data is None or held.governance.governor is None:
        lead(_("Its description cannot be read whole here; use the command line to carry it on."))
        return
    if held.address is None:
        lead(_("Sign in to do it from here."))
        return
    if settings.chain_id is None:
        return
    label = _("Hand it to the timelock") if one.can_queue else _("Carry it out")
    _send(held, made, data, label, f"proposal.{function}.{key}")


def _send(
    held: Held, made: Made, data: str, label: str, key: str, *, is_vote: bool = False
) -> None:
    """A button that sends a transaction to the governor."""
    settings, governor = held.context.settings, held.governance.governor
    if held.address is None or governor is None or settings.chain_id is None:
        return
    answer = wallet.button(
        label,
        request=wallet.SendTransaction(
            governor, data, account=held.address, chain=settings.chain_id
        ),
        key=key,
        chain=identity.chain(settings),
    )
    if answer is not None and answer.ok and answer.transaction:
        put(
            f'<p class="gc-muted">{escape(_("Sent to the chain:"))} '
            f"{hash_text(answer.transaction)}</p>"
        )
    if is_vote:
        heard(answer, said_key(held, made.id))
    elif answer is not None and answer.fresh and not answer.ok:
        wallet_problem(answer)


# What others say


def _reasons(held: Held, one: Standing) -> None:
    cast = held.governance.ballots(one.made)
    if not cast:
        return
    texts = published(held.context.settings, one.made.id)
    told_ = [
        (ballot, proposal.reason_of(ballot.reason, ballot.reason_hash, texts)) for ballot in cast
    ]
    with_words = [(ballot, words) for ballot, words in told_ if words]
    hidden = sum(words is None for _ballot, words in told_)
    section(
        _("What others say"),
        ngettext(
            "{number} ballot so far, {reasons} with a reason.",
            "{number} ballots so far, {reasons} with a reason.",
            one.tally.ballots,
        ).format(number=held.context.fmt.number(one.tally.ballots), reasons=len(with_words)),
    )
    if with_words:
        put(_said_by(held, with_words[:SHOWN]))
    if len(with_words) > SHOWN:
        more = _said_by(held, with_words[SHOWN:MAX_REASONS])
        put(f"<details><summary>{escape(_('More reasons'))}</summary>{more}</details>")
    if hidden:
        lead(
            ngettext(
                "{number} ballot came in a batch with the mere hash of its reason, whose text "
                "nobody has published.",
                "{number} ballots came in a batch with the mere hash of their reason, whose texts "
                "nobody has published.",
                hidden,
            ).format(number=hidden)
        )


def _said_by(held: Held, those: Sequence[tuple[Ballot, str | None]]) -> str:
    items = []
    for ballot, words in those:
        choice, tone = votes.support_words(ballot.support)
        weight = ngettext("{number} vote", "{number} votes", ballot.weight).format(
            number=ballot.weight
        )
        items.append(
            f"<li><header>{pill(choice, tone)}<b>{escape(name_of(held, ballot.voter))}</b>"
            f'<span class="gc-muted">{escape(weight)}</span></header>'
            f"<p>{escape(words or '')}</p></li>"
        )
    return f'<ul class="gc-reasons">{"".join(items)}</ul>'


# All of it


def _whole(held: Held, made: Made, said: Told) -> None:
    rows = [
        (_("Number"), f"0x{made.id:064x}"),
        (_("Proposer"), made.proposer),
        (_("Proposed in transaction"), made.made.tx),
        (_("Handed to the timelock in"), made.queued.tx if made.queued else ""),
        (_("Carried out in"), made.executed.tx if made.executed else ""),
        (_("Cancelled in"), made.cancelled.tx if made.cancelled else ""),
    ]
    body = "".join(
        f'<dt class="gc-muted">{escape(name)}</dt><dd class="gc-whole">{escape(value)}</dd>'
        for name, value in rows
        if value
    )
    raw = "\n".join(
        f"{call.target}  {call.value} wei\n0x{call.calldata.hex()}" for call in made.calls
    )
    put(
        f"<details><summary>{escape(_('As it stands on the chain'))}</summary><dl>{body}</dl>"
        f"<p>{escape(_('Description'))}</p>"
        f'<div class="gc-whole">{escape(said.whole)}</div>'
        f'<p>{escape(_("Calls"))}</p><div class="gc-whole">{escape(raw)}</div></details>'
    )
