# SPDX-License-Identifier: Apache-2.0
"""The report's words (texts/*.toml), and numbers, money and dates as people write them."""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, date, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from dao.audit.report.glyphs import printable, short
from dao.errors import CheckFailed
from dao.slots import SLOT_SECONDS

LANGUAGES = ("en", "de")
NONE = "–"

_HEXADECIMAL = re.compile(r"0x[0-9A-Fa-f]{40,64}")


@cache
def table_of(language: str) -> dict[str, Any]:
    """A language's file."""
    path = files("dao.audit.report").joinpath(f"texts/{language}.toml")
    return tomllib.loads(path.read_text(encoding="utf-8"))


class Words:
    """Texts and formats of one language. KeyError for a text that is not there."""

    def __init__(self, language: str) -> None:
        if language not in LANGUAGES:
            raise CheckFailed(f"no report is written in {language!r}")
        found = table_of(language)
        self.language = language
        self._texts: dict[str, str] = found["texts"]
        self._months: list[str] = found["months"]
        self._records: dict[str, str] = found.get("records", {})
        self._details: list[dict[str, str]] = found.get("details", [])
        self._thousands, self._point = (",", ".") if language == "en" else (".", ",")

    def __call__(self, key: str, **values: object) -> str:
        text = self._texts[key]
        return text.format(**values) if values else text

    def of(self, group: str, name: str) -> str:
        """The text `group.name` for a word of the tables; a word that is not known as it stands."""
        return self._texts.get(f"{group}.{name.replace(' ', '_')}") or printable(name, 60)

    def count(self, key: str, number: int) -> str:
        """A number with its noun: the text is `one|many`."""
        one, many = self._texts[key].split("|")
        return f"{self.integer(number)} {one if number == 1 else many}"

    def recorded(self, text: str) -> str:
        """A word of the tables (kind, treatment, state ...) in this language.

        What is not known stays as it stands in the table: it was written by people.
        """
        plain = _HEXADECIMAL.sub(lambda found: short(found[0]), text)
        if plain in self._records:
            return self._records[plain]
        for one in self._details:
            if found := re.fullmatch(one["pattern"], plain):
                values = {k: self._value(k, v) for k, v in found.groupdict().items()}
                return printable(one["text"].format(**values))
        return printable(plain)

    def _value(self, name: str, text: str) -> str:
        """A value out of a recorded text: times (`slot`, `at`), energy, money, else a word."""
        if name in ("slot", "at", "wh", "money") and len(text) <= 11:
            number = int(text)
            if name == "wh":
                return self.wh(number)
            if name == "money":
                return self.money(number)
            return self.short_time(number * SLOT_SECONDS if name == "slot" else number)
        return self._records.get(text, text)

    # Numbers

    def integer(self, number: int) -> str:
        """With marks between thousands."""
        return f"{number:,}".replace(",", self._thousands).replace("-", "−")

    def decimal(self, number: int, one: int, places: int) -> str:
        """number / one with a fixed count of decimals, rounded half away from zero."""
        scale = 10**places
        units = (2 * abs(number) * scale + one) // (2 * one)
        whole = f"{units // scale:,}".replace(",", self._thousands)
        text = f"{whole}{self._point}{units % scale:0{places}d}" if places else whole
        return f"−{text}" if number < 0 and units else text

    def wh(self, number: int | None) -> str:
        """Energy: Wh in, kWh or MWh out."""
        if number is None:
            return NONE
        if number == 0:
            return "0 kWh"
        size = abs(number)
        if size < 100_000:
            return f"{self.decimal(number, 1_000, 2)} kWh"
        if size < 10_000_000:
            return f"{self.decimal(number, 1_000, 1)} kWh"
        return f"{self.decimal(number, 1_000_000, 1)} MWh"

    def money(self, number: int | None) -> str:
        """Money: µ€ in, € out; cents below one cent."""
        if number is None:
            return NONE
        if 0 < abs(number) < 10_000:
            return f"{self.decimal(number, 10_000, 2)} ct"
        text = self.decimal(number, 1_000_000, 2)
        if self.language == "de":
            return f"{text} €"
        return text.replace("−", "−€") if text.startswith("−") else f"€{text}"

    def price(self, number: int | None) -> str:
        """A price: µ€/Wh in, ct/kWh out."""
        return NONE if number is None else f"{self.decimal(number, 10, 1)} ct/kWh"

    def share(self, ppm: int | None, places: int = 1) -> str:
        """Millionths as a percentage; what is less than all never reads 100."""
        if ppm is None:
            return NONE
        space = " " if self.language == "de" else ""
        if ppm in (0, 1_000_000):
            return f"{ppm // 10_000}{space}%"
        if 999_500 <= ppm < 1_000_000:
            # What is shown of nearly all must not round to all.
            units = ppm // 100
            return f"{self.decimal(units, 100, 2)}{space}%"
        if 0 < abs(ppm) < 1_000:
            return f"{self.decimal(ppm, 10_000, 3)}{space}%"
        return f"{self.decimal(ppm, 10_000, places)}{space}%"

    def figure(self, value: int | None, unit: str) -> str:
        """A key figure in the unit that people read."""
        if value is None:
            return NONE
        if unit == "Wh":
            return self.wh(value)
        if unit == "µ€":
            return self.money(value)
        if unit == "µ€/Wh":
            return self.price(value)
        if unit == "ppm":
            return self.share(value)
        return self.integer(value)

    def change(self, value: int | None, before: int | None, unit: str) -> str:
        """Against the period before: points for a share, else per cent."""
        if value is None or before is None:
            return NONE
        if unit == "ppm":
            points = self.decimal(value - before, 10_000, 1)
            return self("change.points", points=_signed(points))
        if before == 0:
            return "±0" if value == 0 else NONE
        ppm = (value - before) * 1_000_000 // abs(before)
        space = " " if self.language == "de" else ""
        return f"{_signed(self.decimal(ppm, 10_000, 1))}{space}%"

    # Time

    def day(self, when: date) -> str:
        """6 June 2016."""
        month = self._months[when.month - 1]
        dot = "." if self.language == "de" else ""
        return f"{when.day}{dot} {month} {when.year}"

    def short_day(self, when: date) -> str:
        """6 Jun."""
        if self.language == "de":
            return f"{when.day}.{when.month}."
        return f"{when.day} {self._months[when.month - 1][:3]}"

    def days(self, first: date, last: date) -> str:
        """A span of days."""
        if first == last:
            return self.day(first)
        return f"{self.day(first)} – {self.day(last)}"

    def time(self, when: int) -> str:
        """Unix seconds as day and UTC time."""
        moment = datetime.fromtimestamp(when, UTC)
        return f"{self.day(moment.date())}, {moment:%H:%M}"

    def short_time(self, when: int) -> str:
        """Unix seconds as short day and UTC time."""
        moment = datetime.fromtimestamp(when, UTC)
        return f"{self.short_day(moment.date())} {moment:%H:%M}"


def _signed(text: str) -> str:
    return text if text.startswith("−") else f"+{text}"
