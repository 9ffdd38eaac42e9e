# SPDX-License-Identifier: Apache-2.0
"""How everything runs: all of it for operators, a short public status for everybody else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape

import streamlit as st

from dao.status import Part, State
from dashboard import errors, identity
from dashboard.context import Context
from dashboard.i18n import _, ngettext
from dashboard.repositories import operations as watching
from dashboard.services import operations
from dashboard.services.operations import GROUPS, Account, Line, Standing
from dashboard.settings import read_settings
from dashboard.views.parts import empty, lead, pill, put, section, title, together

REFRESH_SECONDS = 2.0
_MANY = 1_000_000
_STYLE = """<style>
.gc-state td:first-child { width: 15rem; font-weight: 600; padding-right: 1rem; }
.gc-state td:nth-child(2):not(:last-child) { width: 8rem; white-space: nowrap; }
.gc-state ul { margin: .25rem 0 0 !important; padding-left: 1.1rem !important; }
.gc-state .gc-address { font-size: .8rem; font-weight: 400; }
@media (max-width: 760px) {
  .gc-state, .gc-state tbody, .gc-state tr { display: block; }
  .gc-state thead { display: none; }
  .gc-state tr { padding: .45rem 0; border-bottom: 1px solid #80808040; }
  .gc-state td { display: inline-block; border: 0; padding: .1rem .8rem .1rem 0;
    width: auto !important; }
  .gc-state td:last-child { display: block; }
}
</style>"""


def draw(context: Context) -> None:
    """The page; what stands below the title is looked at again every few seconds."""
    title(_("Status"), _("Whether everything runs, and what is due."))
    st.html(_STYLE)
    _now(context)


@st.fragment(run_every=REFRESH_SECONDS)
def _now(opened: Context) -> None:
    # Who may see it is asked each time: a session ends while its page stays open.
    settings = read_settings()
    context = replace(opened, settings=settings, person=identity.current(settings))
    seen = watching.WATCH.ask(watching.places(context.settings, context.zone))
    if seen.parts is None:
        empty(
            _("Everything is being looked at"),
            _("What answers is shown in a moment, and what does not is said."),
        )
        return
    with together():
        if watching.is_operator(context.settings, context.person):
            _everything(context, seen.parts, seen.age_s)
        else:
            _short(context, seen.parts)


def _short(context: Context, parts: Sequence[Part]) -> None:
    """Works or late, and nothing else."""
    said = {
        Standing.WORKS: (_("works"), "good"),
        Standing.LATE: (_("late"), "bad"),
        Standing.UNKNOWN: (_("not known here"), "plain"),
    }
    rows = [
        (escape(_(GROUPS[key][0])), pill(*said[how]))
        for key, how in operations.standing(parts).items()
    ]
    put(_table(_("Public status"), [_("Part"), _("State")], rows))
    lead(
        _("Details are for operators. Sign in with an operator’s wallet to see them.")
        if context.person is None
        else _("Details are for operators, and you are signed in as somebody else.")
    )


def _everything(context: Context, parts: Sequence[Part], age_s: float) -> None:
    wrong = operations.wrong(parts)
    if wrong:
        words = _("Look at: {names}").format(names=", ".join(wrong))
        put(f"<p>{pill(_('something is wrong'), 'bad')} {escape(words)}</p>")
    else:
        put(f"<p>{pill(_('all is well'), 'good')}</p>")
    heads = [_("Part"), _("State"), _("What is known")]
    section(_("What runs"))
    put(
        _table(
            _("What runs"), heads, _rows(operations.lines(parts, operations.RUNNING, context.fmt))
        )
    )
    section(_("What is due"), _("By the chain’s clock, from the index of its events."))
    due = operations.lines(parts, operations.DUE, context.fmt)
    if due:
        put(_table(_("What is due"), heads, _rows(due)))
    else:
        empty(_("No index here"), _("Without an index of the chain nobody knows what is due."))
    _gas(context, parts)
    _log(context, parts)
    rows = [(escape(name), escape(version)) for name, version in operations.versions(parts)]
    section(_("Versions"))
    put(_table(_("Versions"), [_("Program"), _("Version")], rows))
    lead(
        _("Looked at {age} ago, again every {seconds} s while this page is open.").format(
            age=context.fmt.duration(int(age_s)), seconds=round(watching.FRESH_S)
        )
    )


def _gas(context: Context, parts: Sequence[Part]) -> None:
    section(
        _("Gas"),
        _("What the accounts hold, and for how many of their newest transaction it lasts."),
    )
    found = operations.accounts(parts)
    if not found:
        empty(_("Not known"), _("It is seen once a node answers and somebody has sent something."))
        return
    rows = [
        (
            f'{escape(one.role)}<div class="gc-address">{escape(one.address)}</div>',
            pill(_("low"), "bad") if one.is_low else pill(_("enough"), "good"),
            escape(_holds(context, one)),
        )
        for one in found
    ]
    put(_table(_("Gas"), [_("Account"), _("State"), _("What it holds")], rows))


def _holds(context: Context, one: Account) -> str:
    ether = context.fmt.number(one.ether, 0 if one.ether >= 100 else 3)
    if one.left > _MANY:
        return _("{ether} ETH, enough for more than a million transactions").format(ether=ether)
    return ngettext(
        "{ether} ETH, enough for {number} transaction",
        "{ether} ETH, enough for {number} transactions",
        one.left,
    ).format(ether=ether, number=context.fmt.number(one.left))


def _log(context: Context, parts: Sequence[Part]) -> None:
    """The last errors: what the parts say of themselves, and of this dashboard's pages."""
    section(_("Last errors"))
    rows = [
        (escape(_(operations.NAMES[one.part])), escape(said))
        for one in parts
        if one.part
        for said in one.said
    ]
    rows += [
        (
            escape(_("Page, {time}").format(time=context.fmt.moment(int(when)))),
            escape(what),
        )
        for when, what in errors.recent()
    ]
    if rows:
        put(_table(_("Last errors"), [_("Where"), _("What")], rows))
    else:
        lead(_("None that the parts tell of, and no page failed since the dashboard began."))


def _rows(lines: Sequence[Line]) -> list[tuple[str, ...]]:
    said = {
        State.WELL: (_("well"), "good"),
        State.WRONG: (_("wrong"), "bad"),
        State.UNCHECKED: (_("not checked"), "plain"),
    }
    return [(escape(one.name), pill(*said[one.state]), escape(one.sentence)) for one in lines]


def _table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of our own HTML, each cell escaped already; on a narrow screen a list."""
    head = "".join(f'<th scope="col">{escape(one)}</th>' for one in heads)
    body = "".join("<tr>" + "".join(f"<td>{one}</td>" for one in row) + "</tr>" for row in rows)
    return (
        f'<table class="gc-table gc-state" aria-label="{escape(caption)}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
