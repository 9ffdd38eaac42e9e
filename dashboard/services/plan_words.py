# SPDX-License-Identifier: Apache-2.0
"""A balancing plan's title and summary, in the visitor's language.

`forecasting.balancing.tell` writes them in English, and so they stand on the chain. Words that a
member wrote are nobody's to change: they match nothing here, and stay. Pure.
"""

from __future__ import annotations

import re
from datetime import date

from dashboard.i18n import N_, _, current, formats
from dashboard.services.program_words import match

SUBJECTS = (
    N_("community battery"),
    N_("called home batteries"),
    N_("charge points"),
    N_("grid fee"),
    N_("lowest price"),
    N_("highest price"),
)
SENTENCES = (
    N_("Nothing to do on {day}"),
    N_("On {day} the grid is expected to stay within its limits; nothing needs to be done."),
    N_("If nothing is done, {threat} for about {time} on {day}; {chance}."),
    N_("No action that the members allow would mend this."),
    N_("The community battery would take in {number} kWh {when}."),
    N_(
        "The community battery would take in {number} kWh {when} and give {number_back} kWh in "
        "quiet hours."
    ),
    N_("The community battery would give {number} kWh {when}."),
    N_("The called home batteries would take in {number} kWh {when}."),
    N_(
        "The called home batteries would take in {number} kWh {when} and give {number_back} kWh in "
        "quiet hours."
    ),
    N_("The called home batteries would give {number} kWh {when}."),
    N_("Charge points would draw at most {decimal} kW at times {when}, and catch up."),
    N_("That should leave {time}."),
    N_("That should leave {time} and cost a typical home about {cost}."),
)
PARTS = (
    N_(
        "the voltage at the end of the street rises above its limit of {number} V (to "
        "{number_worst} V on a bad day)"
    ),
    N_(
        "the voltage at the end of the street falls below its limit of {number} V (to "
        "{number_worst} V on a bad day)"
    ),
    N_("the transformer carries more than it is built for ({number} % on a bad day)"),
    N_("a cable carries more than it is built for ({number} % on a bad day)"),
    N_("that is practically certain"),
    N_("that is very unlikely"),
    N_("the chance of it is {number} %"),
    N_("{number} minutes"),
    N_("{decimal} hour"),
    N_("{decimal} hours"),
    N_("next to nothing"),
    N_("nothing"),
    N_("{decimal} cents"),
    N_("minus {decimal} cents"),
    N_("between {clock} and {clock_end}"),
    N_("between {clock} and {clock_end} UTC"),
)
_TITLE = re.compile(r"(.{1,200}) on (\d{4}-\d{2}-\d{2})")
_ENDS = re.compile(r"(?<=\.) (?=[A-Z])")


def title_in_words(title: str) -> str:
    """The title of a plan; any other as it is."""
    if current().language == "en":
        return title
    found = _TITLE.fullmatch(title)
    named = re.split(", | and ", found[1]) if found else []
    names = [one[:1].lower() + one[1:] for one in named]
    if found is None or not set(names) <= set(SUBJECTS):
        return _said(title, SENTENCES) or title
    *before, last = [_(one) for one in names]
    listed = _(" and ").join([", ".join(before), last]) if before else last
    return _("{what} on {day}").format(what=listed[:1].upper() + listed[1:], day=_day(found[2]))


def summary_in_words(summary: str) -> str:
    """The summary of a plan; any other as it is, and none by halves."""
    if current().language == "en":
        return summary
    said = [_said(one, SENTENCES) for one in _ENDS.split(summary)]
    return " ".join(filter(None, said)) if all(said) else summary


def _said(text: str, texts: tuple[str, ...]) -> str | None:
    found = match(text, texts)
    if found is None:
        return None
    pattern, values = found
    return _(pattern).format(**{name: _value(name, value) for name, value in values.items()})


def _value(name: str, value: str) -> str:
    kind = name.partition("_")[0]
    if kind == "day":
        return _day(value)
    if kind == "decimal":
        return formats().number(float(value), 1 if "." in value else 0)
    if kind in ("number", "clock"):
        return value
    return _said(value, PARTS) or value


def _day(text: str) -> str:
    from babel.dates import format_date

    try:
        day = format_date(date.fromisoformat(text), "long", locale=current().tag)
    except ValueError:
        return text
    return str(day).replace(" ", "\u00a0")
