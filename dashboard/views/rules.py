# SPDX-License-Identifier: Apache-2.0
"""The rules page: each rule with its bounds, who changed it, what is being voted on, windows."""

from __future__ import annotations

from html import escape

from dashboard.context import Context
from dashboard.i18n import Formats, _, ngettext
from dashboard.repositories import house as asking
from dashboard.services import rule_words as words
from dashboard.services.decided import ACTIVE, PENDING, QUEUED, undecided
from dashboard.services.rule_words import Group
from dashboard.services.rules import RuleBook, RuleState, WindowState, Wish, rule_book
from dashboard.views.house import Asked, ask, heading, nothing, proposal, put, table
from dashboard.views.parts import pill, title
from dashboard.views.resident import hash_text

WISHES_SHOWN = 50
CHANGES_SHOWN = 20
"""Of one rule; the older ones are counted."""


def draw(context: Context) -> None:
    """The page."""
    title(
        _("Rules"),
        _(
            "What the members have agreed on. Only a vote changes a rule, never beyond its bounds, "
            "and never in a larger step than it allows."
        ),
    )
    asked = ask(context)
    contract = asked.deployment.get("GridParameters")
    pending = undecided(asked.decisions, contract)
    book = rule_book(
        asked.house,
        asked.decisions,
        contract=contract,
        states=asking.states(context.settings, pending),
        now=context.now,
    )
    if not book.rules:
        put(
            nothing(
                _("No rules yet"),
                _("They appear once the contracts are on the chain and have been read."),
            )
        )
        return
    put(_wishes(asked, book) + _groups(asked, book) + _windows(asked, book))


def _wishes(asked: Asked, book: RuleBook) -> str:
    """What may be different soon, first."""
    fmt = asked.context.fmt
    rows = [
        (
            (
                f"<b>{escape(words.title(rule.key, rule.name))}</b>"
                f"<small>{proposal(asked, wish.proposal)}</small>{_state(asked, wish)}"
            ),
            _step(rule.key, rule.value, wish.value, fmt),
        )
        for rule in book.rules
        for wish in rule.wishes
    ][:WISHES_SHOWN]
    if not rows:
        return ""
    return heading(_("What may change")) + table(
        _("What may change"),
        ((_("Rule"), "text"), (_("From, to"), "when")),
        rows,
    )


def _step(key: int, before: int, after: int, fmt: Formats) -> str:
    """Two values of a rule, the second one the one that counts."""
    old, new = words.value(key, before, fmt), words.value(key, after, fmt)
    return f"{escape(old)} → <b>{escape(new)}</b>"


def _state(asked: Asked, wish: Wish) -> str:
    fmt = asked.context.fmt
    when = fmt.moment(wish.until)
    if wish.state == PENDING:
        said = _("the vote opens soon, until {time}")
    elif wish.state == ACTIVE:
        said = _("open until {time}")
    elif wish.state == QUEUED:
        said = _("takes effect from {time}")
    else:
        said = _("passed, waiting to be queued")
    name = {PENDING: _("Coming"), ACTIVE: _("Being voted on")}.get(wish.state, _("Accepted"))
    tone = "open" if wish.state in (PENDING, ACTIVE) else "good"
    return f"{pill(name, tone)}<small>{escape(said.format(time=when))}</small>"


def _groups(asked: Asked, book: RuleBook) -> str:
    by_group: dict[Group, list[RuleState]] = {}
    for rule in book.rules:
        by_group.setdefault(words.group_of(rule), []).append(rule)
    return "".join(
        heading(words.group_title(group))
        + f"<ul>{''.join(_rule(asked, rule) for rule in by_group[group])}</ul>"
        for group in Group
        if group in by_group
    )


def _rule(asked: Asked, rule: RuleState) -> str:
    context = asked.context
    fmt = context.fmt

    def said(number: int) -> str:
        return escape(words.value(rule.key, number, fmt))

    name = words.title(rule.key, rule.name)
    about = words.about(rule.key)
    below = f"<p>{escape(about)}</p>" if about else ""
    changed = ""
    if rule.changes:
        when = fmt.date(rule.changes[-1].at)
        changed = f"<small>{escape(_('since {date}').format(date=when))}</small>"
    bounds = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{told}</dd></div>"
        for name, told in (
            (_("Lowest"), said(rule.minimum)),
            (_("Highest"), said(rule.maximum)),
            (_("Largest step"), said(rule.max_step)),
            (_("Between changes"), escape(words.duration(rule.cooldown, fmt))),
        )
    )
    return (
        f'<li class="gc-rule" id="rule-{rule.key}"><div><h3>{escape(name)}</h3>{below}</div>'
        f'<div class="now">{said(rule.value)}{changed}</div>'
        f'<div class="bounds"><dl>{bounds}{_track(rule)}</dl></div>'
        f"{_history(asked, rule)}</li>"
    )


def _track(rule: RuleState) -> str:
    """Where the value lies between its bounds, for the eye only."""
    width = rule.maximum - rule.minimum
    if width <= 0:
        return ""
    place = 100 * (rule.value - rule.minimum) / width
    return f'<div class="track" aria-hidden="true"><i style="left: {place:.1f}%"></i></div>'


def _history(asked: Asked, rule: RuleState) -> str:
    fmt, now = asked.context.fmt, asked.context.now
    parts = []
    if rule.rests_until > now:
        parts.append(
            "<p>"
            + escape(
                _("No vote can change it again before {time}.").format(
                    time=fmt.moment(rule.rests_until)
                )
            )
            + "</p>"
        )
    if rule.changes:
        rows = [
            (
                escape(fmt.date(one.at)),
                _step(rule.key, one.before, one.after, fmt),
                proposal(asked, one.proposal),
                hash_text(one.tx),
            )
            for one in rule.changes[::-1][:CHANGES_SHOWN]
        ]
        count = len(rule.changes)
        summary = ngettext("Changed once", "Changed {number} times", count)
        name = words.title(rule.key, rule.name)
        parts.append(
            f"<details><summary>{escape(summary.format(number=fmt.number(count)))}</summary>"
            + table(
                _("Changes of {rule}").format(rule=name),
                (
                    (_("Day"), "when"),
                    (_("From, to"), "num"),
                    (_("Decided by"), "text"),
                    (_("Transaction"), ""),
                ),
                rows,
            )
            + "</details>"
        )
    return f'<div class="more">{"".join(parts)}</div>' if parts else ""


def _windows(asked: Asked, book: RuleBook) -> str:
    top = heading(
        _("Windows"),
        _(
            "For some quarter-hours of one day a vote can set a price rule differently, or tell "
            "devices what to do. Those that are not over:"
        ),
    )
    if not book.windows:
        return top + nothing(
            _("No window is open or to come"),
            _("Prices and fees hold as above, and devices follow their own plans."),
        )
    rows = [_window(asked, one) for one in book.windows]
    left = ""
    if book.more_windows:
        more = ngettext("And {number} later one.", "And {number} later ones.", book.more_windows)
        left = f'<p class="gc-lead">{escape(more.format(number=book.more_windows))}</p>'
    return (
        top
        + table(
            _("Windows"),
            (
                (_("When"), "when"),
                (_("What"), ""),
                (_("Where it stands"), "when"),
                (_("Zone"), "num"),
                (_("Decided by"), "text"),
            ),
            rows,
        )
        + left
    )


def _window(asked: Asked, one: WindowState) -> tuple[str, ...]:
    fmt = asked.context.fmt
    span = _("{begin} to {end}").format(begin=fmt.moment(one.begins_at), end=fmt.time(one.ends_at))
    if one.wish is not None:
        stands = _state(asked, one.wish)
    elif one.begins_at <= asked.context.now:
        stands = pill(_("Running"), "good")
    else:
        stands = pill(_("Decided"), "plain")
    return (
        escape(span),
        (
            f"{escape(words.window_title(one.key))}"
            f"<small>{escape(words.window_value(one.key, one.value, fmt))}</small>"
        ),
        stands,
        escape(fmt.number(one.zone)),
        proposal(asked, one.proposal),
    )
