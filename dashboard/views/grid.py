# SPDX-License-Identifier: Apache-2.0
"""The grid: the zone drawn from its own model, slot by slot, before and after an action, and what
the devices said to their schedule. Public: no home's flow is in it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from dao.errors import CheckFailed
from dao.parameters import CHARGE_POINTS, COMMUNITY_BATTERY, HOME_BATTERIES
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY, day_of
from dashboard.context import Context
from dashboard.i18n import Formats, Locale, _, ngettext, speaking
from dashboard.plot import Drawing
from dashboard.repositories import devices
from dashboard.repositories import grid as files
from dashboard.repositories.cache import Version, cached, version
from dashboard.repositories.grid import Asked, Day
from dashboard.services import grid, grid_drawing
from dashboard.services.grid import VOLTS, Action, Basis, Flow, Moment, Picture, Said, Side, Told
from dashboard.services.plan_words import title_in_words
from dashboard.services.units import local_time
from dashboard.theme import Palette
from dashboard.views.parts import (
    Figure,
    empty,
    error_box,
    figures_of,
    halves,
    lead,
    pill,
    put,
    section,
    table,
    title,
    together,
    unfolding,
)

WAIT_SECONDS = 1.0
_WEEK = 7
_EARLIER, _LATER = -1, -2
_DAY, _SLOT, _BASIS, _SIDE = "grid.day", "grid.slot", "grid.shown", "grid.action"


def draw(context: Context) -> None:
    """The page: what there is no picture of is said in its place."""
    title(
        _("The grid"),
        _(
            "The cables of the zone and the points where homes are connected, called buses, drawn "
            "from the grid’s own model."
        ),
    )
    st.html(grid_drawing.style(context.colours))
    there = files.days(context.settings.home, context.zone)
    if context.run is None:
        empty(
            _("The zone’s model is not known here"),
            _("A demonstration says which grid it runs on; this dashboard follows none."),
        )
        return
    if not there:
        empty(
            _("Nothing to draw yet"),
            _("The picture is made from a day’s forecast. It appears with the first one."),
        )
        return
    wish = grid.wish_of(st.query_params.to_dict(), there)
    if wish.odd:
        lead(_("The address asked for a day or a time that there is none of; here is another one."))
    # The address says what to begin with; then the page's own choice counts.
    begin = {
        _DAY: (wish.day or grid.day_of_now(there, context.now)).first_slot,
        _SLOT: wish.slot,
        _BASIS: wish.basis,
        _SIDE: wish.side,
    }
    for key, value in begin.items():
        if key not in st.session_state and value is not None:
            st.session_state[key] = value
    if st.session_state.get(_DAY) not in {one.first_slot for one in there}:
        st.session_state[_DAY] = begin[_DAY]
    _page(context, there)


@st.fragment
def _page(context: Context, there: Sequence[Day]) -> None:
    """All below the title: drawn anew when one of its widgets moves, and nothing else is."""
    # Hundreds of words are said at each move of the slider; asking for the language takes longer.
    with speaking(context.locale):
        fresh = context.renewed()
        if fresh.run is not None:
            context, there = fresh, files.days(fresh.settings.home, fresh.zone) or there
        _drawn(context, there)


def _drawn(context: Context, there: Sequence[Day]) -> None:
    by_slot = {one.first_slot: one for one in there}
    controls = st.container(horizontal=True, vertical_alignment="bottom")
    with controls:
        chosen = _day(context, list(by_slot))
    day = by_slot[chosen]
    action = _action(context, day)
    asked = _asked(context, there, day, action)
    if asked.file is None:
        _not_there(asked, context, there, day, action)
        return
    picture = _parsed(asked.file, version(asked.file))
    with controls:
        basis = _basis(picture)
        side = _side(picture, basis, action)
    flow = picture.flow(basis, side)
    slot = _slot(context, picture, flow)
    here = {"day": str(day_of(day.first_slot)), "slot": str(slot), "shown": basis, "action": side}
    if here.items() - st.query_params.to_dict().items():
        st.query_params.update(here)
    found = grid.moment(picture, flow, slot)
    words = _words(context, picture, found, slot)
    voltage = grid_drawing.voltage_chart(picture, basis, side, slot, context.colours).html(
        _("Highest voltage in the zone over the day, without and with the action")
    )
    power = ""
    if flow.battery_w.any():
        power = _battery_chart(
            asked.file, version(asked.file), basis, side, context.colours, context.locale
        ).html(_("Power of the community battery over the day"))
    map_ = grid_drawing.map_of(picture, flow, slot, context.colours, words)
    told = f'<p class="gc-lead">{escape(_action_words(context, picture, action, basis))}</p>'
    put(
        figures_of(_figures(context, picture, flow, found, basis))
        + halves([map_], [f"{told}{voltage}{power}"])
    )
    unfolding("grid.buses", lambda: _buses(picture, flow, slot))
    with together():
        _devices(context, picture, action, day, slot)
        put(_source(context, picture, basis))


def _buses(picture: Picture, flow: Flow, slot: int) -> str:
    frame = grid_drawing.table_of(picture, flow, slot)
    return table(frame, _("All buses in this quarter-hour"), set(frame.columns[[0, 1, 3]]))


# What is asked for


def _action(context: Context, day: Day) -> Action:
    run = context.run
    rows = files.windows(context.settings.home / "index.sqlite", context.zone, day.first_slot)
    return grid.action_of(rows, run.proposals if run else (), day.first_slot)


def _asked(context: Context, there: Sequence[Day], day: Day, action: Action) -> Asked:
    assert context.run is not None
    later = grid.later_evidence(there, day)
    return files.picture(
        context.settings.home,
        context.zone,
        context.run.zone,
        context.run.seed,
        day,
        later.evidence if later else None,
        action.rows,
    )


@cached(ttl=3_600, max_entries=8)
def _parsed(file: Path, _: Version) -> Picture:
    return grid.picture_of(files.document(file))


@cached(ttl=3_600, max_entries=16)
def _battery_chart(
    file: Path, read: Version, basis: Basis, side: Side, colours: Palette, _: Locale
) -> Drawing:
    return grid_drawing.battery_chart(_parsed(file, read), basis, side, colours)


def _not_there(
    asked: Asked, context: Context, there: Sequence[Day], day: Day, action: Action
) -> None:
    if asked.problem is not None:
        error_box(
            _("This day’s picture could not be made: {reason}").format(reason=asked.problem),
            _("Nothing on the chain depends on it."),
            _("Choose another day, or load the page again in a minute."),
        )
        return
    _making(context, there, day, action)


@st.fragment(run_every=WAIT_SECONDS)
def _making(context: Context, there: Sequence[Day], day: Day, action: Action) -> None:
    """Wait until the picture is there, and draw the page then."""
    if _asked(context, there, day, action).is_made:
        st.rerun()
    put(
        '<div class="gc-empty" role="status"><b>'
        + escape(_("The day’s picture is being made"))
        + "</b>"
        + escape(
            _(
                "The power flow of all its quarter-hours is computed once and then kept. It takes "
                "a few seconds, the very first time up to half a minute."
            )
        )
        + "</div>"
    )


# The widgets


def _day(context: Context, there: Sequence[int]) -> int:
    """Choose a day: a week at a time, and the weeks before and after it."""
    place = there.index(st.session_state[_DAY]) // _WEEK * _WEEK
    week = list(there[place : place + _WEEK])[::-1]
    names = {_EARLIER: _("Earlier"), _LATER: _("Later")}
    before = [_EARLIER] if place + _WEEK < len(there) else []
    after = [_LATER] if place else []

    def turn() -> None:
        step = {_EARLIER: place + _WEEK, _LATER: place - 1}.get(st.session_state[_DAY])
        if step is not None:
            st.session_state[_DAY] = there[step]

    st.pills(
        _("Day"),
        [*before, *week, *after],
        # Named by its noon: a UTC day begins at night here.
        format_func=lambda one: (
            names.get(one) or context.fmt.day(local_time((one + SLOTS_PER_DAY // 2) * SLOT_SECONDS))
        ),
        key=_DAY,
        on_change=turn,
        required=True,
    )
    chosen: int = st.session_state[_DAY]
    return chosen


def _basis(picture: Picture) -> Basis:
    names = {Basis.FORECAST: _("Forecast"), Basis.MEASURED: _("Measured")}
    options = [one for one in Basis if picture.has(one)]
    _keep(_BASIS, options, options[-1])
    if len(options) == 1:
        # Nothing to choose; the end of the page says what it is.
        return options[0]
    chosen = st.segmented_control(
        _("What is shown"), options, format_func=lambda one: names[one], key=_BASIS, required=True
    )
    return chosen or options[-1]


def _side(picture: Picture, basis: Basis, action: Action) -> Side:
    names = {Side.WITHOUT: _("Without the action"), Side.WITH: _("With the action")}
    options = [one for one in Side if picture.has(basis, one)]
    _keep(_SIDE, options, options[-1] if action.in_force else options[0])
    if len(options) == 1:
        return options[0]
    chosen = st.segmented_control(
        _("Before and after"), options, format_func=lambda one: names[one], key=_SIDE, required=True
    )
    return chosen or options[0]


def _slot(context: Context, picture: Picture, flow: Flow) -> int:
    slots = list(range(SLOTS_PER_DAY))
    # Opens where it matters: at the quarter-hour that is tightest with nothing done.
    _keep(_SLOT, slots, grid.tightest(picture, picture.flow(Basis.FORECAST, Side.WITHOUT)))
    names = _slot_names(picture.first_slot, context.locale)
    chosen: int = st.select_slider(
        _("Quarter-hour"), slots, format_func=lambda one: names[one], key=_SLOT
    )
    return chosen


@cached(ttl=3_600, max_entries=32)
def _slot_names(first_slot: int, locale: Locale) -> list[str]:
    fmt = Formats(locale)
    return [fmt.weekday((first_slot + one) * SLOT_SECONDS) for one in range(SLOTS_PER_DAY)]


def _keep(key: str, options: Sequence[Any], otherwise: Any) -> None:
    """See that a widget's choice is one that there is."""
    if st.session_state.get(key) not in options:
        st.session_state[key] = otherwise


# What is told of a slot


def _figures(
    context: Context, picture: Picture, flow: Flow, found: Moment, basis: Basis
) -> list[Figure]:
    fmt, limits = context.fmt, picture.limits
    over = int(flow.over.sum())
    return [
        Figure(
            _("Highest voltage"),
            _volts(context, found.highest),
            _("at bus {bus}; the limit is {limit}").format(
                bus=found.highest_bus, limit=_volts(context, limits.highest)
            ),
        ),
        Figure(
            _("Lowest voltage"),
            _volts(context, found.lowest),
            _("at bus {bus}; the limit is {limit}").format(
                bus=found.lowest_bus, limit=_volts(context, limits.lowest)
            ),
        ),
        Figure(
            _("Transformer"),
            fmt.percent(found.transformer / 100),
            _("of {power} kVA; the fullest cable carries {share}").format(
                power=fmt.number(picture.rated_kva), share=fmt.percent(found.line / 100)
            ),
        ),
        Figure(
            _("Over a limit in the whole day"),
            ngettext("{number} quarter-hour", "{number} quarter-hours", over).format(
                number=fmt.number(over)
            ),
            _("as measured, by the standard shares")
            if basis is Basis.MEASURED
            else _("on a hard day: nine in ten are milder"),
        ),
    ]


def _volts(context: Context, pu: float) -> str:
    return f"{context.fmt.number(pu * VOLTS, 1)}\u00a0V"


def _words(context: Context, picture: Picture, found: Moment, slot: int) -> str:
    """The drawing in words."""
    when = context.fmt.weekday((picture.first_slot + slot) * SLOT_SECONDS)
    return _(
        "The zone’s grid at {time}: voltages from {lowest} to {highest}; {above} buses above and "
        "{below} below a limit; transformer {transformer}, fullest cable {cable}"
    ).format(
        time=when,
        lowest=_volts(context, found.lowest),
        highest=_volts(context, found.highest),
        above=found.above,
        below=found.below,
        transformer=context.fmt.percent(found.transformer / 100),
        cable=context.fmt.percent(found.line / 100),
    )


def _action_words(context: Context, picture: Picture, action: Action, basis: Basis) -> str:
    """What the action is, and whether it is in force."""
    slots = action.of_day(COMMUNITY_BATTERY, picture.first_slot)
    if not any(row[1] >= picture.first_slot for row in action.rows):
        return _("No action is in force or proposed for this day.")
    if not action.in_force:
        return _("Proposed, not in force: {title}.").format(
            title=title_in_words(action.proposal.title) if action.proposal else ""
        )
    said = ngettext(
        "In force: a schedule for the community battery in {number} quarter-hour.",
        "In force: a schedule for the community battery in {number} quarter-hours.",
        len(slots),
    ).format(number=context.fmt.number(len(slots)))
    if basis is Basis.MEASURED:
        return said + " " + _("Without it, what the battery did is taken out of what was measured.")
    return said


# The devices


def _devices(context: Context, picture: Picture, action: Action, day: Day, slot: int) -> None:
    first = day.first_slot
    home = context.settings.home
    schedule = action.of_day(COMMUNITY_BATTERY, first) if action.in_force else {}
    unread = ""
    try:
        reports, others = devices.reports(home, first), devices.others(home, first)
    except CheckFailed:
        reports, others = (), None
        unread = _("What the devices reported cannot be read just now.")
    said = () if unread else grid.told(schedule, reports, context.now)
    rows = [
        (
            _("Community battery"),
            _("{energy}, {power}, at buses {buses}").format(
                energy=context.fmt.kwh(picture.battery_wh),
                power=grid_drawing.kw(context.fmt, picture.battery_w),
                buses=", ".join(map(str, picture.battery_buses)),
            ),
            _called(context, len(schedule)),
            _acknowledged(context, said),
        ),
    ]
    for name, what, key in (
        (
            _("Charge points"),
            ngettext("{number} place", "{number} places", len(picture.charge_points)).format(
                number=len(picture.charge_points)
            ),
            CHARGE_POINTS,
        ),
        (
            _("Home batteries"),
            ngettext("{number} home", "{number} homes", picture.home_batteries).format(
                number=picture.home_batteries
            ),
            HOME_BATTERIES,
        ),
    ):
        called = len(action.of_day(key, first)) if action.in_force else 0
        known = _("only as a sum over all homes") if called else "–"
        rows.append((name, what, _called(context, called), known))
    frame = pd.DataFrame(
        rows, columns=[_("Device"), _("What it is"), _("Called on this day"), _("Acknowledged")]
    )
    head, about = (
        _("Devices and their schedule"),
        _("What was decided, what the device acknowledged, and what its own counter then showed."),
    )
    below = f'<p class="gc-lead">{escape(unread)}</p>' if unread else ""
    if others is not None:
        words = _("{devices} devices of people acknowledged {taken} of {calls} calls.").format(
            devices=context.fmt.number(others.devices),
            taken=context.fmt.number(others.acknowledged),
            calls=context.fmt.number(others.calls),
        )
        below += f'<p class="gc-lead">{escape(words)}</p>'
    section(head, about)
    put(table(frame, head, set()) + below)
    if said:
        put(_said_now(context, said, first + slot))
        unfolding("grid.schedule", lambda: _said_all(context, said), _schedule_words())


def _called(context: Context, slots: int) -> str:
    if not slots:
        return _("no")
    return ngettext("{number} quarter-hour", "{number} quarter-hours", slots).format(
        number=context.fmt.number(slots)
    )


def _acknowledged(context: Context, said: Sequence[Told]) -> str:
    if not said:
        return "–"
    taken = sum(one.said is Said.TOOK for one in said)
    words = _("{taken} of {calls}").format(
        taken=context.fmt.number(taken), calls=context.fmt.number(len(said))
    )
    waiting = sum(one.said is Said.TO_COME for one in said)
    if waiting:
        words = _("{words}, {number} still to come").format(
            words=words, number=context.fmt.number(waiting)
        )
    return words


def _said_words() -> dict[Said, tuple[str, str]]:
    return {
        Said.TOOK: (_("acknowledged"), "good"),
        Said.OTHER: (_("took another value"), "bad"),
        Said.SILENT: (_("refused or did not answer"), "bad"),
        Said.MISSING: (_("no report"), "bad"),
        Said.TO_COME: (_("to come"), "plain"),
    }


def _said_now(context: Context, said: Sequence[Told], slot: int) -> str:
    """What the battery said in the slot that is looked at."""
    here = next((one for one in said if one.slot == slot), None)
    if here is None:
        sentence, mark = _("In this quarter-hour nothing was asked of the battery."), ""
    else:
        words, tone = _said_words()[here.said]
        sentence = _("In this quarter-hour the battery was told {power}:").format(
            power=_power(context, here.wanted)
        )
        mark = pill(words, tone)
    return f'<p class="gc-lead gc-told">{escape(sentence)} {mark}</p>'


def _said_all(context: Context, said: Sequence[Told]) -> str:
    """What the battery said in every slot of the day."""
    names = _said_words()
    frame = pd.DataFrame(
        [
            (
                context.fmt.weekday(one.slot * SLOT_SECONDS),
                _power(context, one.wanted),
                _power(context, one.acknowledged),
                "–" if one.done_wh is None else context.fmt.kwh(one.done_wh, 2),
                names[one.said][0],
            )
            for one in said
        ],
        columns=[_("Quarter-hour"), _("Told"), _("Acknowledged"), _("Did"), _("State")],
    )
    return table(frame, _schedule_words(), set(frame.columns[1:4]))


def _schedule_words() -> str:
    return _("Every quarter-hour of the battery’s schedule")


def _power(context: Context, watts: int | None) -> str:
    return "–" if watts is None else grid_drawing.kw(context.fmt, watts)


def _source(context: Context, picture: Picture, basis: Basis) -> str:
    """What the picture is made from, and what it does not show."""
    index = context.settings.home / "index.sqlite"
    shown = files.revealed(index, context.zone, picture.first_slot, picture.evidence)
    made = (
        _(
            "Measured: the totals of the zone as they were published, without the battery’s own, "
            "and what the battery’s counter showed."
        )
        if basis is Basis.MEASURED
        else ngettext(
            "Forecast: the one course that the evidence allows.",
            "Forecast: of the {number} courses that the evidence allows, the one that nine in ten "
            "are milder than.",
            picture.courses,
        ).format(number=picture.courses)
    )
    lines = [
        _(
            "No home’s own flow is in this picture. The zone’s totals are spread over the buses by "
            "public standard shares: use by yearly load, feed-in by installed solar power. So a "
            "voltage here is the model’s, not a measurement, and buses have numbers, not names."
        ),
        made,
        _("The forecaster revealed this evidence on the chain: {hash}").format(
            hash=picture.evidence[:18] + "…"
        )
        if shown
        else _("This evidence is not revealed on the chain yet."),
        _("Grid, homes and devices: SimBench (ODbL). Called devices by their standard behaviour."),
    ]
    return (
        f'<footer class="gc-foot"><p><b>{escape(_("How this picture is made."))}</b> '
        + "</p><p>".join(escape(line) for line in lines)
        + "</p></footer>"
    )
