# SPDX-License-Identifier: Apache-2.0
"""The page about one's own data: what the meter said and how good it is, opening some of it to
somebody, letting somebody read for a time and seeing who did. Erasing is `views/erasing.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from html import escape

import pandas as pd
import streamlit as st

from dao.eip712 import checksum_address
from dao.errors import BadUse, CheckFailed
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from dashboard.context import Context
from dashboard.i18n import _, ngettext
from dashboard.repositories.marks import MAX_NAME, marks
from dashboard.repositories.own_data import grants_of
from dashboard.services import my_data
from dashboard.services.my_data import DayQuality
from dashboard.services.program_words import in_words
from dashboard.services.statement_words import month_title
from dashboard.views import erasing
from dashboard.views.parts import empty, error_box, lead, pill, put, section, table, title
from dashboard.views.resident import Resident, file_link, notes, resident
from dashboard.views.signing import DONE, is_waiting, said, sign
from meters.consent import revocation_data
from meters.grants import Access, Held, Outcome, typed_data

MONTHS = 24
SHOWN = 20


def draw(context: Context) -> None:
    """The page."""
    title(
        _("My data"),
        _("What is kept of your home, who may see it, and how to have it erased."),
    )
    held = resident(context, "my-data")
    if held is None:
        return
    said()
    _readings(held)
    try:
        found, accesses = grants_of(context.settings.home, held.account)
        names = marks(context.settings).names(held.account)
    except CheckFailed:
        error_box(
            _("Your grants cannot be read just now."),
            _("Nobody gets anything while they cannot be read."),
            _("Try again in a moment."),
        )
        return
    section(_("Who may read"))
    _grants(held, found, names)
    _accesses(held, accesses, names)
    _act(held, len(found))


# Readings


def _readings(held: Resident) -> None:
    section(
        _("My readings"),
        _("Each day as your meter counted it, in UTC days, and how good it is."),
    )
    context, fmt = held.context, held.context.fmt
    newest = my_data.month_now(context.now)
    month: int = st.selectbox(
        _("Month"),
        range(newest, newest - MONTHS, -1),
        format_func=lambda one: month_title(one, fmt),
        key="my-data.month",
        width=260,
    )
    first, slots = my_data.month_slots(month)
    try:
        buckets = held.sources.readings.buckets(held.account, first, slots, SLOTS_PER_DAY)
    except CheckFailed:
        error_box(
            _("The readings cannot be read just now."),
            _("Nothing is lost: they are kept where they are."),
            _("Try again in a moment."),
        )
        return
    days = my_data.day_qualities(buckets, context.now // SLOT_SECONDS)
    if not days:
        empty(
            _("No readings of this month"),
            _("Either your meter said nothing yet, or the month was erased. Choose another one."),
        )
        return
    columns = (_("Day"), _("Drawn"), _("Fed in"), _("Quality"))
    rows = [
        (
            fmt.date(one.slot * SLOT_SECONDS),
            _kwh(held, one.import_wh),
            _kwh(held, one.export_wh),
            _quality(one),
        )
        for one in days
    ]
    frame = pd.DataFrame(rows, columns=columns)
    put(table(frame, _("Readings by day"), {columns[1], columns[2]}, {"–"}))


def _kwh(held: Resident, wh: int | None) -> str:
    return "–" if wh is None else held.context.fmt.kwh(wh, 2)


def _quality(one: DayQuality) -> str:
    parts = []
    if one.measured:
        parts.append(_("{number} measured").format(number=one.measured))
    if one.estimated:
        parts.append(_("{number} estimated").format(number=one.estimated))
    if one.missing:
        parts.append(_("{number} missing").format(number=one.missing))
    if one.absent:
        parts.append(_("{number} not in").format(number=one.absent))
    return ", ".join(parts)


# Acting


def _act(held: Resident, grants: int) -> None:
    """One thing at a time: each has fields of its own, and most visits want none of them."""
    section(_("What do you want to do?"))
    acts = {
        "disclose": _("Open some days to somebody"),
        "give": _("Let somebody read"),
        "erase": _("Erase a month"),
    }
    act = st.radio(
        _("What do you want to do?"),
        tuple(acts),
        index=None,
        format_func=lambda one: acts[one],
        horizontal=True,
        key="my-data.act",
        label_visibility="collapsed",
    )
    if act == "disclose":
        _disclose(held)
    elif act == "give":
        _give(held, grants)
    elif act == "erase":
        erasing.draw(held)
    else:
        lead(_("Nothing is given out or erased before you have signed it."))


# Opening some


def _disclose(held: Resident) -> None:
    section(
        _("Open some days to somebody"),
        _(
            "A file that proves itself against the chain: to an adviser, a landlord, a court. "
            "Whoever has it can pass it on, for good."
        ),
    )
    # The newest whole day is a good first choice.
    last = my_data.utc_day(held.context.now) - timedelta(days=1)
    chosen = st.date_input(
        _("Days, from and to (UTC)"),
        (last, last),
        max_value=last,
        format=held.context.fmt.picker,
        key="my-data.disclose",
        width=320,
    )
    records = st.checkbox(
        _("Also how estimated values came about: that opens the quarter-hours they quote"),
        key="my-data.records",
    )
    if not isinstance(chosen, tuple) or len(chosen) != 2:
        lead(_("Choose the last day as well."))
        return
    try:
        my_data.slots_of_days(*chosen)
    except BadUse:
        lead(
            _("Choose at most {number} days, the first one first.").format(
                number=my_data.MAX_DISCLOSED_DAYS
            )
        )
        return
    path = f"/my-data/v1/disclosures/{held.account}?from={chosen[0]}&to={chosen[1]}"
    if records:
        path += "&records=1"
    put(f'<p class="gc-files">{file_link(_("Readings with proof"), path, main=True)}</p>')
    lead(_("Whoever gets it checks it with: gridcommons meter verify FILE --rpc URL"))


# Grants


def _give(held: Resident, count: int) -> None:
    section(
        _("Let somebody read"),
        _(
            "For a time, until you end it. Only whoever holds the key of the address can read, "
            "and every access is on record below."
        ),
    )
    context = held.context
    today = my_data.utc_day(context.now)
    if st.session_state.pop(DONE, False):
        st.session_state["my-data.reader"] = st.session_state["my-data.name"] = ""
    left, right = st.columns(2)
    reader = left.text_input(
        _("Address of the reader"), key="my-data.reader", placeholder="0x…", max_chars=42
    )
    name = right.text_input(
        _("Your name for them"),
        key="my-data.name",
        placeholder=_("for example: energy adviser"),
        max_chars=MAX_NAME,
    )
    span = left.date_input(
        _("Readings of these days (UTC)"),
        (today - timedelta(days=30), today),
        format=held.context.fmt.picker,
        key="my-data.span",
    )
    expires = right.date_input(
        _("May read until the end of"),
        today + timedelta(days=30),
        min_value=today,
        format=held.context.fmt.picker,
        key="my-data.expires",
    )
    if not reader.strip():
        lead(_("Fill in the reader's address to sign the grant. Nothing is given out before."))
        return
    registry, chain_id = _registry(held)
    if registry is None or chain_id is None:
        return
    if not isinstance(span, tuple) or len(span) != 2 or not isinstance(expires, date):
        lead(_("Choose the last day as well."))
        return
    try:
        # How many there were makes the number: drawn again, the page asks for the same.
        grant = my_data.new_grant(
            held.account, reader, span[0], span[1], expires, count + 1, context.now
        )
    except BadUse as error:
        notes([("bad", _grant_problem(error))])
        return
    document = typed_data(grant, chain_id, registry)
    if grant.reader.hex() == held.address[2:].lower():
        notes([("", _("This is your own address."))])
    sign(
        held,
        _("Sign the grant"),
        document,
        "grants",
        {"grant": document["message"], "name": name},
        key="my-data.grant",
    )


def _grant_problem(error: BadUse) -> str:
    words = {
        "a reader's address is 0x and 40 hex digits": _(
            "An address is 0x and 40 digits or letters from a to f."
        ),
        "the last day lies before the first": _("The last day lies before the first."),
        "that is more than ten years": _("That is more than ten years."),
        "the grant would have ended already": _("The grant would have ended already."),
    }
    return words.get(str(error), in_words(str(error)))


def _registry(held: Resident) -> tuple[str | None, int | None]:
    settings = held.context.settings
    return (settings.deployment or {}).get("MeterRegistry"), settings.chain_id


def _grants(held: Resident, found: Sequence[Held], names: Mapping[str, str]) -> None:
    if not found:
        empty(
            _("Nobody may read your readings"),
            _("The operator's own machine aside: it keeps them for the market."),
        )
        return
    registry, chain_id = _registry(held)
    context, fmt = held.context, held.context.fmt
    st.html("<style>.gc-grant h3 { font-size: 1.05rem; margin: 0; padding: 0; }</style>")
    for one in found[:SHOWN]:
        grant = one.grant
        address = checksum_address(grant.reader)
        name = names.get(address, _("Reader without a name"))
        ended = one.revoked_at is not None
        holds = not ended and grant.expires > context.now
        label = (
            pill(_("holds"), "good")
            if holds
            else pill(_("ended"), "plain")
            if ended
            else pill(_("expired"), "plain")
        )
        words = _("Readings of {begin} to {end}; may read until {expires}.").format(
            begin=fmt.date(grant.from_slot * SLOT_SECONDS),
            end=fmt.date((grant.to_slot - 1) * SLOT_SECONDS),
            expires=fmt.moment(grant.expires),
        )
        with st.container(border=True):
            put(
                f'<article class="gc-order gc-grant"><header><h3>{escape(name)}</h3>{label}'
                f'</header><p class="gc-address">{escape(address)}</p><p>{escape(words)}</p>'
                f'<p class="gc-hash">{escape(_("Number for the reader:"))} 0x{one.id.hex()}</p>'
                "</article>"
            )
            number = "0x" + one.id.hex()
            key = f"my-data.revoke.{number[:18]}"
            if registry is not None and chain_id is not None and (holds or is_waiting(key)):
                sign(
                    held,
                    _("End this grant"),
                    revocation_data(grant.meter, one.id, chain_id, registry),
                    "revocations",
                    {"meter": grant.meter, "grant": number},
                    key=key,
                    kind="secondary",
                    disabled=not holds,
                )
    if len(found) > SHOWN:
        lead(_("The newest {shown} of {all}.").format(shown=SHOWN, all=len(found)))


def _accesses(held: Resident, found: Sequence[Access], names: Mapping[str, str]) -> None:
    section(_("Who read, and who tried"), _("On record before anything is given out."))
    if not found:
        empty(_("Nobody has asked for your readings"), _("Each access appears here."))
        return
    fmt = held.context.fmt
    rows = []
    for one in found[:SHOWN]:
        address = checksum_address(one.reader)
        rows.append(
            {
                _("When"): fmt.moment(one.last_at),
                _("Who"): names.get(address, f"{address[:8]}…{address[-4:]}"),
                _("What"): _outcome(one),
            }
        )
    put(table(pd.DataFrame(rows), _("Who read, and who tried"), set()))


def _outcome(one: Access) -> str:
    if one.outcome is Outcome.READ:
        return ngettext(
            "read {number} quarter-hour", "read {number} quarter-hours", one.slots
        ).format(number=one.slots)
    words = {
        Outcome.REVOKED: _("refused: you had ended the grant"),
        Outcome.EXPIRED: _("refused: the grant had expired"),
        Outcome.FOREIGN: _("refused: somebody else's signature"),
        Outcome.REPLAYED: _("refused: an old request, sent again"),
        Outcome.OUTSIDE: _("refused: days that the grant does not name"),
        Outcome.NOTHING: _("got nothing: no readings there"),
    }
    text = words.get(one.outcome, one.outcome.value)
    return (
        text if one.times == 1 else _("{what} ({times} times)").format(what=text, times=one.times)
    )
