# SPDX-License-Identifier: Apache-2.0
"""Words, numbers and dates in the visitor's language.

Every text on a screen is an English literal inside `_()`; values go in with `.format(name=...)`
afterwards. Catalogues lie in `locale/`, one folder for each language. Nothing here draws.
"""

from __future__ import annotations

import gettext
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date as CalendarDay
from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from dashboard.services.units import local_time

DOMAIN = "gridcommons"
LOCALES = Path(__file__).with_name("locale")
SESSION_KEY = "frame.locale"
"""Where the session keeps the language of its current run."""

# Which country's habits go with a language.
_TAGS = {"en": "en_GB", "de": "de_DE"}
NAMES = {"en": "English", "de": "Deutsch"}
"""Each language in its own words."""
COOKIE = "gridcommons_language"
"""Where a browser keeps the language that was chosen; the name before the port is added."""

_NARROW = "\u00a0"


@dataclass(frozen=True)
class Locale:
    """A language, as its two letters, with the habits of one country."""

    language: str = "en"

    @property
    def tag(self) -> str:
        """Name of the habits of number and date: `en_GB`."""
        return _TAGS.get(self.language, self.language)


ENGLISH = Locale()
_speaking: ContextVar[Locale | None] = ContextVar("speaking", default=None)


def available() -> tuple[str, ...]:
    """The languages that there are texts for."""
    found = LOCALES.glob(f"*/LC_MESSAGES/{DOMAIN}.mo")
    return ("en", *sorted(one.parts[-3] for one in found if one.parts[-3] in NAMES))


def choose(*wishes: str | None) -> Locale:
    """The first wish ("de", "de-AT", "de_DE") that there are texts for, else English."""
    there = available()
    for wish in wishes:
        language = (wish or "")[:16].replace("_", "-").partition("-")[0].lower()
        if language in there:
            return Locale(language)
    return ENGLISH


def asked(lang: str | None, cookie: str | None, accept: str | None) -> Locale:
    """The language of a visitor: of the address (`?lang=`), else chosen before, else the browser's.

    accept: the header Accept-Language, whose order is taken as it stands.
    """
    wishes = [one.partition(";")[0].strip() for one in (accept or "")[:200].split(",")[:8]]
    return choose(lang, cookie, *wishes)


def current() -> Locale:
    """The language of this place: of `speaking`, else of the visitor's session, else English."""
    chosen = _speaking.get()
    if chosen is not None:
        return chosen
    return _of_session() or ENGLISH


@contextmanager
def speaking(locale: Locale) -> Iterator[None]:
    """Everything inside the `with` speaks `locale`: for files, and outside of a page."""
    token = _speaking.set(locale)
    try:
        yield
    finally:
        _speaking.reset(token)


def _(text: str) -> str:
    """`text` in the language of this place."""
    return _catalogue(current().language).gettext(text)


def ngettext(one: str, many: str, number: int) -> str:
    """`one` or `many`, whichever goes with `number`, in the language of this place."""
    return _catalogue(current().language).ngettext(one, many, number)


def N_(text: str) -> str:
    """`text` as it stands, marked for the catalogue: for lists that `_` reads later."""
    return text


@cache
def _catalogue(language: str) -> gettext.NullTranslations:
    return gettext.translation(DOMAIN, LOCALES, [language], fallback=True)


def _of_session() -> Locale | None:
    """The language of the running script, None outside of one."""
    if "streamlit" not in sys.modules:
        return None
    import streamlit as st
    from streamlit.runtime.scriptrunner_utils.script_run_context import get_script_run_ctx

    if get_script_run_ctx(suppress_warning=True) is None:
        return None
    found = st.session_state.get(SESSION_KEY)
    return found if isinstance(found, Locale) else None


@dataclass(frozen=True)
class Formats:
    """Numbers, money and times as people of a locale write them. Times are on the zone's clock.

    A number and its unit are never parted by the end of a line.
    """

    locale: Locale = ENGLISH

    def number(self, value: float, digits: int = 0) -> str:
        """`1,234`, with `digits` decimals."""
        # Babel's own formatting reads its pattern anew each time, and a chart has hundreds.
        group, point = _signs(self.locale.tag)
        plain = f"{value:,.{digits}f}"
        if plain.startswith("-") and not plain.strip("-0.,"):
            plain = plain[1:]
        return plain.translate({ord(","): group, ord("."): point})

    def percent(self, share: float, digits: int = 0) -> str:
        """A share of one as `12 %`."""
        return f"{self.number(share * 100, digits)}{_NARROW}%"

    def kwh(self, wh: float, digits: int | None = None) -> str:
        """Energy in Wh as `1,234 kWh`, with a decimal below 100."""
        value = wh / 1000
        places = digits if digits is not None else (0 if abs(value) >= 100 else 1)
        return f"{self.number(value, places)}{_NARROW}kWh"

    def ct(self, price: float, digits: int = 1) -> str:
        """A price in µ€ per Wh as `23.4 ct/kWh`."""
        return f"{self.number(price / 10, digits)}{_NARROW}ct/kWh"

    def euro(self, micro: float) -> str:
        """Money in µ€ as `€12.34`."""
        from babel.numbers import format_currency

        cents = round(micro / 10_000)
        return str(format_currency(cents / 100, "EUR", locale=self.locale.tag))

    def date(self, seconds: int, length: str = "medium") -> str:
        """A moment's day: `7 Jun 2016`; length is short, medium, long or full."""
        from babel.dates import format_date

        return str(format_date(self._local(seconds), format=length, locale=self.locale.tag))

    def written_day(self, day: CalendarDay | str) -> str:
        """A day of the calendar, or as a table writes it, `2016-06-07`: `7 Jun 2016`."""
        from babel.dates import format_date

        try:
            return str(
                format_date(CalendarDay.fromisoformat(str(day)), "medium", locale=self.locale.tag)
            )
        except ValueError:
            return str(day)

    def time(self, seconds: int) -> str:
        """A moment's time of day: `17:45`."""
        from babel.dates import format_time

        moment: Any = self._local(seconds)
        return str(format_time(moment, format="HH:mm", locale=self.locale.tag))

    def moment(self, seconds: int) -> str:
        """A moment with its weekday: `Tue 7 Jun, 17:45`."""
        return self.at(self._local(seconds).replace(tzinfo=None))

    def weekday(self, seconds: int) -> str:
        """A moment of these days: `Tue 17:45`."""
        from babel.dates import format_datetime

        moment: Any = self._local(seconds)
        return str(format_datetime(moment, "ccc HH:mm", locale=self.locale.tag))

    def clock(self, wall: datetime) -> str:
        """A mark of a time axis, of a wall-clock time without a zone: `06:00`, at midnight the day,
        `Wed 8`."""
        from babel.dates import format_datetime

        if wall.hour or wall.minute:
            return str(format_datetime(wall, "HH:mm", locale=self.locale.tag))
        return str(format_datetime(wall, _pattern(self.locale.tag, "Ed"), locale=self.locale.tag))

    def day(self, wall: datetime) -> str:
        """The day of a wall-clock time without a zone: `Wed 8 Jun`."""
        return _day(wall.date(), self.locale.tag)

    def at(self, wall: datetime) -> str:
        """A wall-clock time without a zone, with its day: `Wed 8 Jun, 03:15`."""
        return f"{self.day(wall)}, {wall:%H:%M}"

    def duration(self, seconds: int) -> str:
        """A span as one would say it: `1 h 45 min`, `50 s`; never below none."""
        if seconds < 60:
            return _("{number} s").format(number=max(int(seconds), 0)).replace(" ", _NARROW)
        hours, minutes = divmod(int(seconds) // 60, 60)
        days, hours = divmod(hours, 24)
        parts = [
            _("{number} d").format(number=days) if days else "",
            _("{number} h").format(number=hours) if hours else "",
            _("{number} min").format(number=minutes) if minutes else "",
        ]
        said = [part.replace(" ", _NARROW) for part in parts if part]
        return " ".join(said[:2])

    @property
    def picker(self) -> str:
        """How a calendar's field writes a day, as `st.date_input` names it."""
        return "DD.MM.YYYY" if self.locale.language == "de" else "YYYY/MM/DD"

    @staticmethod
    def _local(seconds: int) -> datetime:
        return local_time(seconds)


@cache
def _signs(tag: str) -> tuple[str, str]:
    """What parts thousands, and what parts decimals."""
    from babel.numbers import get_decimal_symbol, get_group_symbol

    return str(get_group_symbol(tag)), str(get_decimal_symbol(tag))


@lru_cache(maxsize=1_024)
def _day(day: CalendarDay, tag: str) -> str:
    from babel.dates import format_date

    return str(format_date(day, _pattern(tag, "MMMEd"), locale=tag))


@cache
def _pattern(tag: str, skeleton: str) -> str:
    """How a locale writes a date in a column that is narrow: without the point and the comma after
    a short name of a weekday (`Di 7. Juni`, where babel's own would be `Di., 7. Juni`)."""
    from babel import Locale as Habits

    known = Habits.parse(tag).datetime_skeletons[skeleton].pattern
    return re.sub("E+,?", "ccc", str(known))


@cache
def _formats(locale: Locale) -> Formats:
    return Formats(locale)


def formats() -> Formats:
    """The formats of the language of this place."""
    return _formats(current())
