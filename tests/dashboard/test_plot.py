# SPDX-License-Identifier: Apache-2.0
"""Charts: what is drawn where, with gaps, at the edges, and with hostile words."""

from __future__ import annotations

import re
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from dashboard import plot
from dashboard.i18n import Locale, speaking
from dashboard.plot import Area, Dots, Drawing, Level, Line

DAY = pd.Series(pd.date_range("2016-06-07", periods=96, freq="15min"))
RED = "#b3372b"


def paths(drawing: Drawing, alt: str = "a chart") -> list[ElementTree.Element]:
    """The paths of the picture, after the marks of the axis."""
    found = re.search(r'src="data:image/svg\+xml,([^"]*)"', drawing.html(alt))
    assert found is not None
    root = ElementTree.fromstring(unquote(found[1]))
    return [one for one in root.iter() if one.tag.endswith("path")]


def corners(path: str) -> list[tuple[float, float]]:
    return [(float(a), float(b)) for a, b in re.findall(r"([-\d.]+) ([-\d.]+)", path)]


def test_a_line_goes_through_its_values() -> None:
    drawing = Drawing(DAY, [Line(np.linspace(0, 10, 96), RED)], "kWh", 200)
    line = corners(paths(drawing)[-1].attrib["d"])
    assert len(line) == 96
    assert line[0] == pytest.approx((5.2, 1000), abs=0.1)
    assert line[-1] == pytest.approx((994.8, 0), abs=0.1)


def test_a_gap_stays_a_gap() -> None:
    values = np.ones(96)
    values[40:50] = np.nan
    line = paths(Drawing(DAY, [Line(values, RED)], "kWh", 200))[-1].attrib["d"]
    assert line.count("M") == 2
    area = paths(Drawing(DAY, [Area(values, RED)], "kWh", 200))[-1].attrib["d"]
    assert area.count("Z") == 2


def test_a_step_lasts_as_long_as_its_time() -> None:
    values = np.full(96, np.nan)
    values[95] = 6.0
    area = corners(paths(Drawing(DAY, [Area(values, RED, step=True)], "kWh", 200))[-1].attrib["d"])
    assert {round(x) for x, _ in area} == {990, 1000}
    assert {round(y) for _, y in area} == {0, 1000}


def test_dots_are_only_where_a_value_is() -> None:
    values = np.full(96, np.nan)
    values[[3, 9]] = 1.0
    assert paths(Drawing(DAY, [Dots(values, RED)], "kWh", 200))[-1].attrib["d"].count("h0") == 2


def test_nothing_known_is_an_empty_chart() -> None:
    drawing = Drawing(DAY, [Line(np.full(96, np.nan), RED)], "kWh", 200)
    assert paths(drawing)[-1].attrib["d"] == ""


def test_a_single_value_can_be_drawn() -> None:
    drawing = Drawing(DAY[:1], [Line([3.0], RED), Dots([3.0], RED)], "kWh", 200)
    assert len(paths(drawing)) > 2


def test_the_days_are_named_and_stay_where_there_is_little_room() -> None:
    two = pd.Series(pd.date_range("2016-06-07 03:00", periods=192, freq="15min"))
    html = Drawing(two, [Line(np.ones(192), RED)], "kWh", 200).html("a chart")
    marks = re.findall(r'<span class="(minor|)" style="left[^>]*>([^<]*)<', html)
    assert ("", "Wed 8") in marks
    assert any(kind == "minor" for kind, _ in marks)
    with speaking(Locale("de")):
        other = Drawing(two, [Line(np.ones(192), RED)], "kWh", 200).html("a chart")
    assert "Mi" in other


def test_numbers_beside_it_are_round_and_tell_apart() -> None:
    html = Drawing(DAY, [Line(np.linspace(-3, 12, 96), RED)], "kWh", 250).html("a chart")
    beside = html.partition('<div class="gc-beside"')[2].partition("</div>")[0]
    assert re.findall(r">([-\d.,]+)<", beside) == ["-5", "0", "5", "10", "15"]


def test_each_time_says_what_it_knows() -> None:
    tips = [f"tip {place}" for place in range(96)]
    html = Drawing(DAY, [Line(np.ones(96), RED)], "kWh", 200, tips=tips).html("a chart")
    (said,) = re.findall(r'data-tips="([^"]*)"', html)
    assert said.split("\n\n") == tips
    assert "data-edges" not in html


def test_a_missing_time_leaves_the_others_where_they_are() -> None:
    whole = [place for place in range(96) if place not in (40, 41)]
    tips = [f"tip {place}" for place in whole]
    html = Drawing(DAY[whole], [Line(np.ones(94), RED)], "kWh", 200, tips=tips).html("a chart")
    (edges,) = re.findall(r'data-edges="([^"]*)"', html)
    found = [float(one) for one in edges.split(",")]
    assert found == [pytest.approx(place / 96 * 100, abs=0.01) for place in whole]


def test_as_many_tips_as_times() -> None:
    with pytest.raises(ValueError, match="2 tips for 96 times"):
        Drawing(DAY, [Line(np.ones(96), RED)], "kWh", 200, tips=["a", "b"]).html("a chart")


def test_words_stay_words() -> None:
    hostile = "\"><script>alert(1)</script>'&"
    drawing = Drawing(
        DAY,
        [Line(np.ones(96), RED, name=hostile)],
        hostile,
        200,
        levels=[Level(1.0, hostile, RED)],
        tips=[hostile] * 96,
    )
    html = drawing.html(hostile)
    assert "<script" not in html
    # Taken apart by a parser, each is an attribute or a text, and no more.
    root = ElementTree.fromstring(html)
    assert {one.tag for one in root.iter()} == {"figure", "figcaption", "span", "i", "div", "img"}


def test_colours_are_colours() -> None:
    """A colour goes into the picture as it is, so it comes from the palette only."""
    from dashboard.theme import DARK, LIGHT

    for palette in (LIGHT, DARK):
        assert all(re.fullmatch(r"#[0-9a-f]{6}", one) for one in vars(palette).values())


def test_ticks_step_by_round_numbers() -> None:
    assert [plot._nice(one) for one in (0.3, 1.1, 2.2, 4, 7, 30)] == [0.5, 2, 2.5, 5, 10, 50]
