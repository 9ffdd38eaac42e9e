# SPDX-License-Identifier: Apache-2.0
"""Making, fetching and checking an audit dossier: the last part of the page of figures."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import streamlit as st

from dao.audit.export import LANGUAGES
from dao.errors import CheckFailed, GridCommonsError
from dao.slots import day_of
from dashboard.context import Context
from dashboard.errors import plain
from dashboard.i18n import _, formats
from dashboard.repositories.dossiers import MAX_UPLOAD, Busy, Job, Ready, Workshop, workshop
from dashboard.services import dossier_words as words
from dashboard.services.program_words import in_words
from dashboard.services.span import Span
from dashboard.views.parts import empty, error_box, folded, lead, pill, put, section, together
from dashboard.views.resident import file_link

EXPORT, CHECK = "analysis.export.job", "analysis.check.job"
"""Where the session keeps which work it asked for."""
WHICH, SEEN = "analysis.check.which", "analysis.export.seen"
CHECKING = "analysis.check"
OWN = "own"
_TICK_S = 1.0


def introduction() -> None:
    """What the section below it is about."""
    section(
        _("The dossier"),
        _(
            "These days as one file: all tables, the proofs, and a report to read. No home’s "
            "readings are in it. Anybody can check it against the chain, here or on a machine of "
            "their own."
        ),
    )


def may_work(context: Context) -> bool:
    """Making or checking takes minutes of a core: for people who signed in, or on a local chain."""
    return context.person is not None or context.settings.local


def dossier(context: Context, span: Span, *, final_end: int) -> None:
    """The section. final_end: the first slot that is not over for good."""
    shop = workshop(context.settings.home)
    # While something is under way the fragment draws itself again, the page once it has ended.
    ticking = shop.running() is not None
    part = st.fragment(_parts, run_every=_TICK_S if ticking else None)
    part(context, shop, span, final_end, ticking)


def _parts(context: Context, shop: Workshop, span: Span, final_end: int, ticking: bool) -> None:
    now = shop.running()
    if ticking and now is None:
        # Before any widget is drawn: what they were given in a run that breaks off is lost.
        st.rerun()
    allowed = may_work(context)
    if not allowed:
        lead(
            _(
                "Sign in to make or check a dossier here: it takes minutes of this server’s time. "
                "What is ready can be fetched by anybody."
            )
        )
    else:
        _make(context, shop, span, final_end, now)
    _progress(now)
    _failed(shop.job(st.session_state.get(EXPORT, "")))
    ready = shop.ready(context.settings)
    _list(context, ready)
    if allowed:
        _check(context, shop, ready, now)
    _outcome(shop.job(st.session_state.get(CHECK, "")))


def _make(context: Context, shop: Workshop, span: Span, final_end: int, now: Job | None) -> None:
    period = span.whole
    if final_end < period.end_slot:
        with together():
            lead(_("A dossier of these days can be made once nothing of them can change any more."))
            if final_end > period.first_slot:
                last = context.fmt.written_day(day_of(final_end - 1).isoformat())
                lead(_("Choose days up to {day} to make one now.").format(day=last))
        return
    asked = st.button(
        _("Make the dossier"),
        key="analysis.export",
        disabled=now is not None,
    )
    if not asked:
        return
    language = context.locale.language
    try:
        job = shop.export(
            context.settings,
            period,
            vars(context.tariffs),
            language if language in LANGUAGES else "en",
        )
        st.session_state[EXPORT] = job.id
    except Busy:
        pass  # The other's progress says it.
    except CheckFailed as error:
        _refused(error)
        return
    st.rerun()


def _refused(error: GridCommonsError) -> None:
    error_box(
        _("This cannot be done just now."),
        in_words(plain(error)),
        _("Nothing was changed. Try again later, or tell the operator."),
    )


def _progress(now: Job | None) -> None:
    """What is under way, for everybody: there is one place."""
    if now is None:
        return
    mine = now.id in (st.session_state.get(EXPORT), st.session_state.get(CHECK))
    if now.kind == "export":
        what = _("The dossier {name} is being made.").format(name=now.name)
    elif mine:
        what = _("Your dossier is being checked.")
    else:
        what = _("Somebody’s dossier is being checked.")
    wait = "" if mine else _("One at a time is worked on here: yours can begin after it.")
    share = round(words.share_done(now.step) * 100)
    put(
        f'<div class="gc-vote" role="status"><b>{escape(what)}</b> {escape(wait)}'
        f"<p>{escape(words.step_words(now.step))} · "
        f"{escape(formats().duration(now.seconds))}</p>"
        f'<div class="gc-bar" style="margin-top:.6rem"><i style="width:{share}%"></i></div></div>'
    )


def _failed(job: Job | None) -> None:
    if job is None or job.state != "failed":
        return
    error_box(
        _("The dossier could not be made."),
        _said(job),
        _("Nothing was changed. Choose other days, or tell the operator."),
    )


def _said(job: Job) -> str:
    return in_words(plain(CheckFailed(job.problem)))


def _list(context: Context, ready: list[Ready]) -> None:
    """The dossiers that can be had."""
    if not ready:
        return
    fmt = context.fmt
    rows = []
    for one in ready:
        begin, end = map(fmt.written_day, one.period.days)
        size = _("{number} MB").format(number=fmt.number(one.size / 1e6, 1))
        by = _("from the operator") if one.by_operator else _("made here")
        link = file_link(_("Fetch"), f"/dossiers/v1/{one.name}")
        rows.append(
            f"<li>{link} <b>{escape(f'{begin} – {end}')}</b> "
            f"{escape(_('Zone {number}').format(number=one.period.zone))} · {escape(size)} · "
            f"{escape(one.language)} · {escape(by)}<br>"
            f'<span class="gc-address">{escape(one.root)}</span></li>'
        )
    put(f'<ul class="gc-dossiers">{"".join(rows)}</ul>')


# Checking


def _check(context: Context, shop: Workshop, ready: list[Ready], now: Job | None) -> None:
    names = {one.name: one for one in ready}
    made = shop.job(st.session_state.get(EXPORT, ""))
    seen = st.session_state.get(SEEN)
    if now is None and made is not None and made.name in names and seen != made.id:
        # Once: what was just made is likely what one wants to check.
        st.session_state[SEEN] = made.id
        st.session_state[WHICH] = made.name
        st.session_state[f"{CHECKING}.unfold"] = True
    # Most come for the figures: a browser takes longer for this form than for all of them.
    fold = folded(_("Check a dossier"), CHECKING)
    if fold.open:
        with fold:
            _check_form(context, shop, names, now)


def _check_form(
    context: Context, shop: Workshop, names: Mapping[str, Ready], now: Job | None
) -> None:
    def said(name: str) -> str:
        if name == OWN:
            return _("A file of my own")
        begin, end = map(context.fmt.written_day, names[name].period.days)
        return f"{begin} – {end} ({names[name].language})"

    chosen = st.selectbox(
        _("Which one"),
        [*names, OWN],
        # The box for a file is fetched only where it is wanted.
        index=None,
        required=True,
        placeholder=_("Choose a dossier"),
        format_func=said,
        key=WHICH,
        width=320,
    )
    content, name = None, chosen or ""
    if chosen == OWN:
        brought = st.file_uploader(
            _("Dossier (.zip), at most {number} MB").format(number=MAX_UPLOAD >> 20),
            type="zip",
            key="analysis.check.file",
            max_upload_size=MAX_UPLOAD >> 20,
        )
        if brought is not None:
            content, name = brought.getvalue(), brought.name
    ready_to_go = now is None and chosen is not None and (chosen != OWN or content is not None)
    if not st.button(_("Check it"), key="analysis.check", disabled=not ready_to_go):
        return
    try:
        job = shop.verify(context.settings, name, content)
        st.session_state[CHECK] = job.id
    except Busy:
        pass  # The other's progress says it.
    except CheckFailed as error:
        _refused(error)
        return
    st.rerun()


def _outcome(job: Job | None) -> None:
    """What the check of this visitor's came to."""
    if job is None or job.state == "running":
        return
    if job.state == "failed":
        error_box(
            _("{name} could not be checked.").format(name=job.name),
            _said(job),
            _("Is it a dossier? Larger ones are checked with: gridcommons audit verify FILE"),
        )
        return
    one = words.verdict(job.result)
    said, tone = words.headline(one)
    first = ""
    if one.first is not None:
        first = (
            f"<p>{escape(_('The first thing that differs:'))} "
            f"<b>{escape(words.check_name(one.first.name))}</b>: {escape(_plain(one.first))}</p>"
        )
    rows = "".join(
        f'<tr><th scope="row">{escape(words.check_name(line.name))}</th>'
        f"<td>{pill(*words.state_words(line.state))}</td><td>{escape(_plain(line))}</td></tr>"
        for line in one.lines
    )
    name = escape(_("Checks of the dossier"))
    heads = "".join(
        f'<th scope="col">{escape(head)}</th>' for head in (_("Check"), _("Outcome"), _("Detail"))
    )
    put(
        f'<div class="gc-verdict {tone}" role="status"><b>{escape(said)}</b> '
        f"{escape(job.name)}: {escape(_('zone {number}').format(number=one.zone))}, "
        f"{escape(' – '.join(map(formats().written_day, (one.begin, one.end))))}{first}"
        f'<p class="gc-address">{escape(_("Root"))} {escape(one.root)}</p></div>'
        f'<div class="gc-scroll" role="region" aria-label="{name}" tabindex="0">'
        f'<table class="gc-table" aria-label="{name}"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _plain(line: words.CheckLine) -> str:
    return in_words(plain(CheckFailed(line.detail)))


def nothing() -> None:
    """The page before there is anything to tell of."""
    empty(
        _("No figures yet"),
        _("They appear once the first readings of this zone are on the chain."),
    )
