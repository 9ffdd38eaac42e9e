# SPDX-License-Identifier: Apache-2.0
"""A balancing plan's own words, as a German reads them; a member's words are left alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dao.parameters import CHARGE_POINTS, COMMUNITY_BATTERY, HOME_BATTERIES
from dao.slots import SLOTS_PER_DAY
from dashboard.i18n import ENGLISH, Locale, speaking
from dashboard.services.plan_words import summary_in_words, title_in_words
from forecasting.balancing import Action, Window
from forecasting.balancing.tell import summary_of, title_of

GERMAN = Locale("de")
DAY = 16_960 * SLOTS_PER_DAY


def risk(expected: float, probability: float, limit: str = "voltage_max") -> Any:
    """A day's risk, as far as its words go."""
    found = SimpleNamespace(limit=1.05, worst=(1.0, 1.02, 1.07))
    return SimpleNamespace(
        expected=expected, probability=probability, worst_limit=limit, limits={limit: found}
    )


def power(*watts: int) -> np.ndarray:
    found = np.zeros(SLOTS_PER_DAY, dtype=np.int64)
    found[40 : 40 + len(watts)] = watts
    return found


def plan(before: Any, after: Any, actions: dict[int, np.ndarray]) -> Any:
    made = tuple(
        Action(key, tuple(Window(DAY + 40 + i, 1, int(w)) for i, w in enumerate(watts[40:44])))
        for key, watts in actions.items()
    )
    return SimpleNamespace(
        first_slot=DAY, before=before, after=after, actions=made, power_w=dict(actions)
    )


PLANS = {
    "quiet": plan(risk(0.0, 0.0), risk(0.0, 0.0), {}),
    "nothing helps": plan(risk(9.0, 1.0, "transformer"), risk(9.0, 1.0, "transformer"), {}),
    "takes and gives": plan(
        risk(23.4, 0.95), risk(0.3, 0.1), {COMMUNITY_BATTERY: power(20_000, 9_000, 0, -12_000)}
    ),
    "gives": plan(
        risk(2.0, 0.4, "voltage_min"),
        risk(0.1, 0.01),
        {HOME_BATTERIES: power(-2_000, -900, -1, -1)},
    ),
    "takes": plan(
        risk(2.0, 0.001, "line"), risk(4.0, 0.5), {HOME_BATTERIES: power(2_000, 900, 1, 1)}
    ),
    "all": plan(
        risk(23.4, 0.95),
        risk(0.0, 0.0),
        {
            COMMUNITY_BATTERY: power(20_000, 9_000, 1_000, 1_000),
            HOME_BATTERIES: power(2_000, 900, -1_000, -4_000),
            CHARGE_POINTS: power(4_200, 3_700, 11_000, 11_000),
        },
    ),
}


@pytest.mark.parametrize("timezone", ["UTC", "Europe/Berlin"])
@pytest.mark.parametrize("cost", [None, 21_000, -4_000, 0])
@pytest.mark.parametrize("name", PLANS)
def test_no_english_is_left_of_what_the_planner_says(
    name: str, cost: int | None, timezone: str
) -> None:
    bill = None if cost is None else SimpleNamespace(each_home=cost)
    title, summary = title_of(PLANS[name]), summary_of(PLANS[name], bill, timezone)
    with speaking(ENGLISH):
        assert (title_in_words(title), summary_in_words(summary)) == (title, summary)
    with speaking(GERMAN):
        said = f" {title_in_words(title)} {summary_in_words(summary)} "
    for word in ("the", "of", "and", "would", "between", "hours", "on", "is", "nothing", "cents"):
        assert f" {word} " not in said, said
    assert "8.\u00a0Juni\u00a02016" in said


@pytest.mark.parametrize(
    "written",
    [
        "Party on 2016-06-08",
        "Nothing to do",
        "community battery",
        "",
        "<b>Community battery</b> on 2016-06-08",
        "Community battery on 2016-13-45, and more",
        "No action that the members allow would mend this. But mine does.",
    ],
)
def test_what_a_member_wrote_stays(written: str) -> None:
    with speaking(GERMAN):
        assert title_in_words(written) == written
        assert summary_in_words(written) == written
