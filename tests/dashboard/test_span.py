# SPDX-License-Identifier: Apache-2.0
"""Which zone and days a page of figures is about, whatever its address says."""

from __future__ import annotations

from datetime import date

import pytest

from dao.slots import SLOT_SECONDS, first_slot_of_day
from dashboard.services.span import BAD_DAYS, Known, last_days, span_of, zone_of

FIRST, LAST = date(2016, 5, 1), date(2016, 6, 12)
NOW = first_slot_of_day(date(2016, 6, 16)) * SLOT_SECONDS + 7_200
KNOWN = Known((1, 3), 1, first_slot_of_day(FIRST), first_slot_of_day(LAST) + 95, NOW)


def test_without_a_word_it_is_the_last_week_of_whole_days() -> None:
    span = span_of({}, KNOWN)
    assert (span.begin, span.end) == (date(2016, 6, 6), LAST)
    assert span.problems == ()


def test_a_day_that_is_not_whole_is_not_the_last_one() -> None:
    cut = Known((1,), 1, KNOWN.first_slot, first_slot_of_day(LAST) + 50, NOW)
    assert span_of({}, cut).end == date(2016, 6, 11)


def test_a_young_zone_has_its_own_days_only() -> None:
    young = Known((1,), 1, first_slot_of_day(LAST), first_slot_of_day(LAST) + 10, NOW)
    assert (span_of({}, young).begin, span_of({}, young).end) == (LAST, LAST)
    nothing = Known((1,), 1, None, None, NOW)
    assert span_of({}, nothing).days == 1


def test_an_address_is_believed_and_written_again() -> None:
    query = {"from": "2016-05-03", "to": "2016-06-14", "zone": "1", "lang": "de"}
    span = span_of(query, KNOWN)
    assert (span.begin, span.end, span.problems) == (date(2016, 5, 3), date(2016, 6, 14), ())
    assert span.query == {"from": "2016-05-03", "to": "2016-06-14", "zone": "1"}


def test_a_long_span_is_shown_in_part_and_said_so() -> None:
    span = span_of({"from": "2016-05-01", "to": "2016-06-12"}, KNOWN)
    assert span.is_cut
    assert span.period.slots == 31 * 96
    assert span.period.end_slot == span.whole.end_slot
    assert span.whole.slots == 43 * 96
    assert span.told() == ["This page shows the last 31 of 43 days. A dossier holds all of them."]
    assert not last_days(KNOWN, 31).is_cut


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("2016-06-09", "2016-06-01"),
        ("2016-04-30", "2016-06-01"),
        ("2016-06-01", "2016-06-17"),
        ("0001-01-01", "9999-12-31"),
        ("2016-06-31", "2016-07-01"),
        ("2016-06-01", ""),
        ("", "2016-06-01"),
        ("2016-6-1", "2016-06-02"),
        ("２０１６-06-01", "2016-06-02"),
        ("2016-06-01\n", "2016-06-02"),
        ("<script>", "'; DROP TABLE events; --"),
        ("9" * 10_000, "2016-06-02"),
    ],
)
def test_days_that_there_are_not_become_the_last_week(begin: str, end: str) -> None:
    span = span_of({"from": begin, "to": end}, KNOWN)
    assert (span.begin, span.end) == (date(2016, 6, 6), LAST)
    assert span.problems == (BAD_DAYS,)


def test_a_year_and_a_day_is_more_than_a_dossier_holds() -> None:
    old = Known((1,), 1, first_slot_of_day(date(2014, 1, 1)), KNOWN.last_slot, NOW)
    assert span_of({"from": "2015-06-13", "to": "2016-06-12"}, old).problems == ()
    assert span_of({"from": "2015-06-12", "to": "2016-06-12"}, old).problems == (BAD_DAYS,)


@pytest.mark.parametrize("named", ["0", "-1", "2", "1.0", "01", "９", "99999999999", "1 OR 1=1"])
def test_a_zone_that_is_not_known_is_the_default(named: str) -> None:
    assert zone_of({"zone": named}, (1, 3), 1) == (1, True)
    assert zone_of({"zone": "3"}, (1, 3), 1) == (3, False)
    assert zone_of({}, (1, 3), 1) == (1, False)
