# SPDX-License-Identifier: Apache-2.0
"""What the pages of votes have in common: the decisions as the visitor stands to them, how one is
shown in short, and how a ballot is put to the visitor's wallet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import streamlit as st

from dao.errors import CheckFailed
from dao.runstate import Outcome
from dashboard import identity, wallet
from dashboard.context import Context
from dashboard.i18n import _, ngettext
from dashboard.repositories.governance import Ballot, Governance, Made, Members
from dashboard.repositories.relay import RelayClient, RequestStatus
from dashboard.services import votes
from dashboard.services.plan_words import title_in_words
from dashboard.services.proposal import ballot_message, link, told
from dashboard.services.typed_data import own
from dashboard.services.votes import AGAINST, VETO, Standing
from dashboard.views.parts import countdown, empty, error_box, pill, title
from dashboard.views.resident import wallet_problem

SAID = "votes.said."
LIVE_SECONDS = 5.0

STYLE = """<style>
.gc-top > div {{ min-width: 0; }}
.gc-top h1 {{ overflow-wrap: anywhere; }}
.gc-vote {{ margin: 0 0 .7rem; }}
.gc-legend + p {{ margin: .5rem 0 0; }}
.gc-vote h3 a, .gc-past a {{ color: {ink} !important; text-decoration: none !important; }}
.gc-vote h3 a:hover, .gc-past a:hover {{ color: {green} !important;
  text-decoration: underline !important; }}
.gc-vote .go {{ color: {green} !important; font-weight: 600; }}
.gc-vote header {{ justify-content: space-between; align-items: start; }}
.gc-vote header h3 {{ flex: 1 1 16rem; overflow-wrap: anywhere; }}
.gc-past {{ list-style: none; margin: .4rem 0 0 !important; padding: 0 !important; }}
.gc-past li {{ margin: 0 !important; padding: .6rem 0; border-top: 1px solid {line};
  display: grid; grid-template-columns: 1fr auto; gap: .15rem 1rem; align-items: baseline; }}
.gc-past li > span:first-child {{ overflow-wrap: anywhere; }}
.gc-past small {{ color: {muted}; font-size: .88rem; grid-column: 1 / -1; }}
.gc-quote {{ margin: .5rem 0 0; padding: .1rem 0 .1rem .9rem; border-left: 3px solid {line};
  white-space: pre-wrap; overflow-wrap: anywhere; }}
.gc-calls {{ margin: .4rem 0 0 !important; padding-left: 1.2rem !important; }}
.gc-calls li {{ margin: .2rem 0 !important; overflow-wrap: anywhere; }}
.gc-reasons {{ list-style: none; margin: .4rem 0 0 !important; padding: 0 !important; }}
.gc-reasons li {{ margin: 0 !important; padding: .6rem 0; border-top: 1px solid {line}; }}
.gc-reasons header {{ display: flex; flex-wrap: wrap; gap: .2rem .7rem; align-items: baseline; }}
.gc-reasons p {{ margin: .25rem 0 0; white-space: pre-wrap; overflow-wrap: anywhere; }}
.gc-whole {{ font-family: ui-monospace, monospace; font-size: .8rem; white-space: pre-wrap;
  overflow-wrap: anywhere; margin: .3rem 0 0; color: {muted}; }}
.gc-turn {{ font-size: 1.15rem; margin: .7rem 0 0; }}
</style>"""


@dataclass(frozen=True)
class Held:
    """The decisions as one visitor sees them."""

    context: Context
    governance: Governance
    members: Members
    mine: dict[int, Ballot]
    people: Mapping[str, int]
    """On a local chain the demonstration people's metering points, by address."""

    @property
    def address(self) -> str | None:
        """Who is signed in."""
        person = self.context.person
        return None if person is None else person.address

    def renewed(self) -> Held:
        """The same with time and chain read anew."""
        return _held(self.context.renewed())


def opened(context: Context) -> Held | None:
    """The decisions, None where nothing is deployed; the page has said so."""
    held = _held(context)
    if held.governance.governor is None or context.settings.chain_id is None:
        empty(
            _("There is nothing to decide here yet"),
            _("Votes appear as soon as the contracts are deployed and read."),
        )
        return None
    return held


def _held(context: Context) -> Held:
    governance = Governance(context.settings)
    person = context.person
    mine = {} if person is None else governance.cast_by(person.address)
    people = {
        owner: meter for meter, owner in identity.seeded(context.settings, context.zone).items()
    }
    return Held(context, governance, governance.members(), mine, people)


def standing(held: Held, made: Made, *, whole: bool = False) -> Standing:
    """A proposal as it stands now. whole: with the quorum of what is over, too."""
    governance, now = held.governance, held.context.now
    final = made.executed is not None or made.cancelled is not None
    address = held.address
    return votes.standing_of(
        made,
        governance.tally(made),
        None if final and not whole else governance.quorum(made, now),
        held.members.electorate(made.zone, min(made.snapshot, now)),
        None if final or now <= made.deadline else governance.expiry(made),
        now,
        0 if address is None else held.members.power(address, made.snapshot, made.zone),
        held.mine.get(made.id),
    )


def name_of(held: Held, address: str) -> str:
    """An address for people: a demonstration person's name on a local chain, else its ends."""
    if address in held.people:
        return identity.home_name(held.people[address])
    return f"{address[:6]}…{address[-4:]}"


def card(one: Standing, held: Held, *, go: str = "") -> str:
    """A decision in short, as HTML. go: the words of the link to its page."""
    words, tone = votes.state_words(one)
    said = told(one.made.description)
    left = ""
    if one.left:
        left = escape(votes.left_words(one)).format(time=countdown(one.left)) + ". "
    also = votes.majority(one)
    return (
        f'<article class="gc-vote"><header><h3><a href="{link(one.made.id)}">'
        f"{escape(title_in_words(said.title))}</a></h3>{pill(words, tone)}</header>"
        f'<p class="gc-muted">{escape(votes.lane_words(one.made))}. '
        f"{escape(votes.timing(one))}</p>"
        f"<p>{left}{escape(votes.decided_by(one))} {escape(also)}</p>{tally(one)}"
        f"{_mine(one)}"
        + (
            f'<p><a class="go" href="{link(one.made.id)}" '
            f'aria-label="{escape(go)}: {escape(title_in_words(said.title))}">{escape(go)}</a></p>'
            if go
            else ""
        )
        + "</article>"
    )


def _mine(one: Standing) -> str:
    if one.mine is None:
        return ""
    words, tone = votes.support_words(one.mine.support)
    cast = ngettext(
        "You voted with {number} vote:", "You voted with {number} votes:", one.mine.weight
    ).format(number=one.mine.weight)
    return f"<p>{escape(cast)} {pill(words, tone)}</p>"


def tally(one: Standing) -> str:
    """The votes as a bar with its numbers, as HTML."""
    cast = one.tally
    against = cast.against - cast.vetoes
    if one.made.under_policy:
        words = ngettext("{number} objection", "{number} objections", cast.against)
        parts = [("against", words.format(number=cast.against), cast.against)]
    else:
        parts = [
            ("for", _("{number} for").format(number=cast.in_favour), cast.in_favour),
            ("against", _("{number} against").format(number=against), against),
        ]
        if cast.vetoes:
            words = _("{number} against with a veto").format(number=cast.vetoes)
            parts.append(("against", words, cast.vetoes))
        parts.append(("abstain", _("{number} abstain").format(number=cast.abstain), cast.abstain))
    total = cast.in_favour + cast.against + cast.abstain
    whole = max(cast.against if one.made.under_policy else total, one.needed or 0, 1)
    bar = "".join(
        f'<i class="{kind}" style="width:{number / whole * 100:.1f}%"></i>'
        for kind, _words, number in parts
    )
    legend = "".join(
        f'<span class="{kind}"><b>{escape(words)}</b></span>' for kind, words, _number in parts
    )
    spoken = ", ".join(words for _kind, words, _number in parts)
    return (
        f'<div class="gc-tally" role="img" aria-label="{escape(spoken)}">{bar}</div>'
        f'<p class="gc-legend">{legend}</p>'
    )


def past_row(one: Standing, held: Held) -> str:
    """A decision that is over, as an item of a list."""
    words, tone = votes.state_words(one)
    said, cast, fmt = told(one.made.description), one.tally, held.context.fmt
    numbers = _("{in_favour} for, {against} against, {abstain} abstain").format(
        in_favour=fmt.number(cast.in_favour),
        against=fmt.number(cast.against),
        abstain=fmt.number(cast.abstain),
    )
    if one.made.under_policy:
        numbers = ngettext("{number} objection", "{number} objections", cast.against).format(
            number=fmt.number(cast.against)
        )
    return (
        f'<li><span><a href="{link(one.made.id)}">{escape(title_in_words(said.title))}</a></span>'
        f"{pill(words, tone)}<small>{escape(votes.timing(one))} {escape(numbers)}.</small></li>"
    )


# Ballots


def ballot_button(
    held: Held,
    one: Standing,
    support: int,
    reason: str,
    label: str,
    *,
    key: str,
    kind: Literal["primary", "secondary"] = "primary",
) -> None:
    """A button that has a ballot, or under a policy an objection, signed and brought to the relay.

    Every field of what is signed is known here, so no relay can have anything else signed.
    """
    settings, address = held.context.settings, held.address
    governor, chain_id = held.governance.governor, settings.chain_id
    if address is None or governor is None or chain_id is None:
        return
    made = one.made
    message = ballot_message(made.id, support, address, reason, made.deadline)
    document = own("ballot", message, chain_id=chain_id, contract=governor)
    fields: dict[str, Any] = {
        "proposal": f"0x{made.id:064x}",
        "voter": address,
        "reason": reason,
        "deadline": made.deadline,
        "signature": "$signature",
    }
    if made.under_policy:
        path, fields["veto"] = "/relay/v1/objections", support == VETO
    else:
        names = {AGAINST: "against", votes.FOR: "for", votes.ABSTAIN: "abstain", VETO: "veto"}
        path, fields["support"] = "/relay/v1/ballots", names[support]
    answer = wallet.button(
        label,
        request=wallet.SignTypedData(document, address, wallet.Deliver(path, fields)),
        key=key,
        kind=kind,
        chain=identity.chain(settings),
    )
    heard(answer, said_key(held, made.id))


def heard(answer: wallet.Answer | None, key: str) -> None:
    """Keep a fresh answer for the top of the page, and draw anew."""
    if answer is not None and answer.fresh:
        st.session_state[key] = answer
        st.rerun()


def said_key(held: Held, number: int) -> str:
    """Where a session keeps what was signed last on a proposal."""
    return f"{SAID}{number:064x}.{held.address}"


def request_of(held: Held, answer: Any) -> RequestStatus | None:
    """What became of a delivered signature at the relay, None where it cannot be told now."""
    relay = held.context.settings.relay
    if not isinstance(answer, wallet.Answer) or relay is None:
        return None
    body = (answer.delivered or {}).get("body")
    number = body.get("id") if isinstance(body, dict) else None
    if not isinstance(number, str) or len(number) != 66 or not number[2:].isalnum():
        return None
    try:
        return RelayClient(relay).request(number)
    except CheckFailed:
        return None


def is_on_its_way(held: Held, number: int) -> bool:
    """Whether a signed ballot waits to reach the chain; tells a failed one on the page."""
    answer = st.session_state.get(said_key(held, number))
    if not isinstance(answer, wallet.Answer):
        return False
    if not answer.ok:
        wallet_problem(answer)
        return False
    if answer.transaction is not None:
        return True
    status = request_of(held, answer)
    if status is not None and status.state == "failed":
        error_box(
            _("Your signature was not taken by the chain: {reason}.").format(
                reason=(status.reason or "?")[:200]
            ),
            _("Your vote has not been counted, and nothing else happened."),
            _("You can try again as long as the vote is open."),
        )
        return False
    return True


def on_its_way(held: Held, number: int) -> str:
    """What is told of a ballot that waits to reach the chain."""
    answer = st.session_state.get(said_key(held, number))
    if isinstance(answer, wallet.Answer) and answer.transaction is not None:
        return _("Sent to the chain. It counts as soon as the next block is read.")
    return _("Signed, and safe at the relay. It is on the chain within a minute or two.")


def state_mark(those: Sequence[Standing]) -> tuple[tuple[int, Outcome, bool, bool], ...]:
    """What changes when the page has other things to offer than before."""
    return tuple((one.made.id, one.state, one.can_execute, one.mine is None) for one in those)


def heading(words: str, lead: str, context: Context) -> None:
    """A page's beginning, with the styles of these pages."""
    title(words, lead)
    st.html(STYLE.format(**vars(context.colours)))
