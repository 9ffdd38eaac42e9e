# SPDX-License-Identifier: Apache-2.0
"""The roles page: who holds which office now, what it may do, and how it is taken away."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from dashboard.context import Context
from dashboard.i18n import _, ngettext
from dashboard.repositories import house as asking
from dashboard.repositories.house import MAX_ASKED, Record
from dashboard.services.roles import (
    POWERS,
    WORDS,
    ForecasterState,
    Holder,
    Role,
    Roster,
    roster,
)
from dashboard.views.house import Asked, address, ask, filled, heading, nothing, proposal, put
from dashboard.views.parts import pill, title


def draw(context: Context) -> None:
    """The page."""
    title(
        _("Roles"),
        _(
            "Who may do what. Every office has bounds, and a vote of the members can give it to "
            "somebody else."
        ),
    )
    asked = ask(context)
    held = roster(asked.house, asked.decisions, asked.deployment)
    if not held.owned and not held.strangers:
        put(
            nothing(
                _("No roles yet"),
                _("They appear once the contracts are on the chain and have been read."),
            )
        )
        return
    put(_check(asked, held) + _cards(asked, held) + _matrix())


def _check(asked: Asked, held: Roster) -> str:
    """Whether anything is in the hands of somebody whom no vote has put there."""
    if not held.strangers:
        words = ngettext(
            "{number} contract belongs to the members’ votes alone; no other account can "
            "change it.",
            "All {number} contracts belong to the members’ votes alone; no other account can "
            "change them.",
            held.owned,
        ).format(number=held.owned)
        return f"<p>{pill(_('Checked'), 'good')} {escape(words)}</p>"
    who = "".join(
        f"<li>{escape(contract)}: {address(owner, asked.deployment)}</li>"
        for contract, owner in held.strangers
    )
    words = _("These contracts are not in the hands of the members’ votes alone:")
    return f'<div class="gc-error" role="alert"><b>{escape(words)}</b><ul>{who}</ul></div>'


def _cards(asked: Asked, held: Roster) -> str:
    fmt = asked.context.fmt
    count = ngettext("{number} member", "{number} members", held.members)
    timelock = asked.deployment.get("GridTimelock", "")
    who = {
        Role.VOTE: [
            filled(
                _("Carried out by the timelock {address}"),
                address=address(timelock, whole=True),
            )
        ],
        Role.MEMBER: [escape(count.format(number=fmt.number(held.members)))],
        Role.REGISTRAR: _holders(asked, held.registrars),
        Role.COLLECTOR: _holders(asked, held.collectors),
        Role.FORECASTER: _forecasters(asked, held),
        Role.GUARDIAN: _guardians(asked, held),
        Role.ANYONE: [escape(_("Nobody holds it, and nobody has to be asked."))],
    }
    cards = []
    for role, lines in who.items():
        words = WORDS[role]
        duties = "".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>"
            for name, text in (
                (_("May"), _(words.may)),
                (_("May not"), _(words.may_not)),
                (_("How it ends"), _(words.ends)),
            )
        )
        cards.append(
            f'<li class="gc-role"><header><h3>{escape(_(words.title))}</h3></header>'
            + "".join(f'<p class="holder">{line}</p>' for line in lines)
            + f'<dl class="duties">{duties}</dl></li>'
        )
    return heading(_("Who holds what now")) + f"<ul>{''.join(cards)}</ul>"


def _since(asked: Asked, since: int, number: int | None) -> str:
    day = escape(asked.context.fmt.date(since))
    return f"<small>{filled(_('since {date}, {by}'), date=day, by=proposal(asked, number))}</small>"


def _holders(asked: Asked, holders: Sequence[Holder]) -> list[str]:
    if not holders:
        return [escape(_("Nobody holds it."))]
    lines = []
    for one in holders:
        who = escape(_("Nobody")) if one.address is None else _named(asked, one.address)
        if one.zone is not None:
            who = filled(_("Zone {zone}: {who}"), zone=str(one.zone), who=who)
        elif len(holders) > 1:
            # Two contracts keep this office, and say different things.
            who = f"{escape(', '.join(one.places))}: {who}"
        lines.append(f"{who} {_since(asked, one.since, one.proposal)}")
    return lines


def _named(asked: Asked, who: str) -> str:
    return address(who, asked.deployment, whole=True)


def _guardians(asked: Asked, held: Roster) -> list[str]:
    lines = _holders(asked, held.guardians)
    if held.paused_until > asked.context.now:
        words = _("New orders are paused until {time}.").format(
            time=asked.context.fmt.moment(held.paused_until)
        )
        lines.append(f"{pill(_('Paused'), 'bad')} {escape(words)}")
    return lines


def _forecasters(asked: Asked, held: Roster) -> list[str]:
    context = asked.context
    if not held.forecasters:
        return [escape(_("Nobody holds it."))]
    lines = []
    for place, one in enumerate(held.forecasters):
        record = None
        if place < MAX_ASKED:
            record = asking.record(context.settings, one.address, context.zone)
        lines.append(_forecaster(asked, one, record))
    if held.minimum_bond is not None:
        words = _("A bond of {amount} is needed to publish a forecast.").format(
            amount=context.fmt.euro(held.minimum_bond)
        )
        lines.append(f"<small>{escape(words)}</small>")
    return lines


def _forecaster(asked: Asked, one: ForecasterState, record: Record | None) -> str:
    fmt = asked.context.fmt
    bond = one.bond if record is None else record.bond
    said = [_("Bond {amount}").format(amount=fmt.euro(bond))]
    if not one.allowed:
        state = pill(_("Barred by a vote"), "bad")
    elif record is None:
        state = pill(_("Standing not known without a node"), "plain")
    elif record.in_good_standing:
        state = pill(_("In good standing"), "good")
    else:
        state = pill(_("Not in good standing"), "bad")
    if record is not None:
        if record.leaving:
            said.append(_("of it leaving {amount}").format(amount=fmt.euro(record.leaving)))
        said.append(_record_words(asked, record))
        used = _("{used} of {allowance} proposals used today in zone {zone}")
        said.append(
            used.format(used=record.used, allowance=record.allowance, zone=asked.context.zone)
        )
        if record.open_disputes:
            disputes = ngettext(
                "{number} open dispute", "{number} open disputes", record.open_disputes
            )
            said.append(disputes.format(number=record.open_disputes))
    facts = escape(" · ".join(said))
    since = _since(asked, one.since, one.proposal)
    return f"{_named(asked, one.address)} {state} {since}<br>{facts}"


def _record_words(asked: Asked, record: Record) -> str:
    fmt = asked.context.fmt
    if not record.days_scored:
        return _("no day scored yet")
    share = fmt.percent(abs(record.skill) / 1_000, 1)
    if record.skill >= 0:
        words = ngettext(
            "{share} better than the simple forecast over {number} day",
            "{share} better than the simple forecast over {number} days",
            record.days_scored,
        )
    else:
        words = ngettext(
            "{share} worse than the simple forecast over {number} day",
            "{share} worse than the simple forecast over {number} days",
            record.days_scored,
        )
    return words.format(share=share, number=record.days_scored)


def _matrix() -> str:
    """What each may do, at a glance."""
    names = {
        Role.VOTE: _("A vote"),
        Role.MEMBER: _("Member"),
        Role.REGISTRAR: _("Registrar"),
        Role.COLLECTOR: _("Collector"),
        Role.FORECASTER: _("Forecaster"),
        Role.GUARDIAN: _("Guardian"),
        Role.ANYONE: _("Anyone"),
    }
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names.values())
    yes = escape(_("yes"))
    no = f'<span aria-hidden="true">–</span><span class="gc-unseen">{escape(_("no"))}</span>'
    rows = []
    for power in POWERS:
        besides = f"<small>{escape(_(power.besides))}</small>" if power.besides else ""
        cells = "".join(
            f"<td><b>{yes}</b></td>" if role in power.who else f"<td>{no}</td>" for role in names
        )
        rows.append(f'<tr><th scope="row">{escape(_(power.title))}{besides}</th>{cells}</tr>')
    caption = escape(_("Who may do what"))
    lead = _("The keeper and the relay stand under “Anyone”: they have no right of their own.")
    return (
        heading(_("Who may do what"), lead)
        + f'<div class="gc-scroll" role="region" aria-label="{caption}" tabindex="0">'
        f'<table class="gc-table gc-matrix" aria-label="{caption}"><thead><tr>'
        f'<th scope="col">{escape(_("What"))}</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
