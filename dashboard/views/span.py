# SPDX-License-Identifier: Apache-2.0
"""The choice of zone and days above a page of figures. The address keeps it: a page can be passed
on as it stands."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from dashboard.context import Context
from dashboard.i18n import _, formats
from dashboard.repositories.analysis import readings_span, zones
from dashboard.services.span import (
    BAD_ZONE,
    SHOWN_DAYS,
    WEEK,
    Known,
    Span,
    last_days,
    sound,
    span_of,
    zone_of,
)
from dashboard.views.parts import lead

QUICK = (1, WEEK, SHOWN_DAYS)
OTHER = 0


def chosen_span(context: Context, key: str) -> Span:
    """What the visitor looks at. key: the page's own, for its widgets."""
    home = context.settings.home
    there = zones(home) or (context.zone,)
    query = st.query_params.to_dict()
    default = context.zone if context.zone in there else there[0]
    zone, vain = zone_of(query, there, default)
    first, last = readings_span(home, zone) or (None, None)
    known = Known(there, zone, first, last, context.now)
    span = span_of(query, known)
    if vain:
        span = Span(span.zone, span.begin, span.end, (BAD_ZONE, *span.problems))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if len(there) > 1:
            _zone(there, zone, key)
        _days(known, span, key)
    return span


def _zone(there: tuple[int, ...], zone: int, key: str) -> None:
    name = f"{key}.zone"
    st.session_state[name] = zone

    def changed() -> None:
        for one in ("from", "to"):
            st.query_params.pop(one, None)
        st.query_params["zone"] = str(st.session_state[name])

    st.selectbox(
        _("Zone"),
        there,
        format_func=lambda one: _("Zone {number}").format(number=one),
        key=name,
        on_change=changed,
        width=140,
    )


def _days(known: Known, span: Span, key: str) -> None:
    quick, own = f"{key}.quick", f"{key}.days"
    same = next((n for n in QUICK if _same(last_days(known, n), span)), OTHER)
    if st.session_state.get(quick) is None or (st.session_state[quick] != OTHER):
        st.session_state[quick] = same

    def moved() -> None:
        days = st.session_state[quick]
        if days:
            _go(last_days(known, days))

    def typed() -> None:
        days = st.session_state[own]
        if len(days) == 2 and sound(days[0], days[1], known):
            _go(Span(known.zone, days[0], days[1]))

    names: dict[int, Callable[[], str]] = {
        1: lambda: _("Last day"),
        WEEK: lambda: _("{number} days").format(number=WEEK),
        SHOWN_DAYS: lambda: _("{number} days").format(number=SHOWN_DAYS),
        OTHER: lambda: _("Other days"),
    }
    st.segmented_control(
        _("Days shown"),
        [*QUICK, OTHER],
        format_func=lambda one: names[one](),
        key=quick,
        on_change=moved,
    )
    if st.session_state.get(quick) == OTHER:
        st.session_state[own] = (span.begin, span.end)
        st.date_input(
            _("From and to (UTC days)"),
            min_value=known.first,
            max_value=known.today,
            format=formats().picker,
            key=own,
            on_change=typed,
            width=260,
        )


def _same(one: Span, other: Span) -> bool:
    return (one.begin, one.end) == (other.begin, other.end)


def _go(span: Span) -> None:
    for name, value in span.query.items():
        st.query_params[name] = value


def told(span: Span) -> None:
    """What to say of the choice before anything else."""
    for words in span.told():
        lead(words)
