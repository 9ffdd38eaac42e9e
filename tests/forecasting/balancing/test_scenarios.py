# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dao.errors import BadUse
from forecasting.balancing import courses_of, median_of
from forecasting.balancing.scenarios import check_weights, weighted_quantile
from forecasting.zone import ZoneTotals
from tests.forecasting.balancing.conftest import DAY, Eve
from tests.forecasting.conftest import DemoZone


def test_every_slot_of_the_courses_has_the_quantiles_of_the_forecast(eve: Eve) -> None:
    courses = courses_of(eve.forecast, eve.history)
    net = courses.import_wh - courses.export_wh
    assert courses.method == "shuffle"
    assert courses.weights.sum() == pytest.approx(1.0)
    day = slice(40, 48)
    width = (eve.forecast.net_q90 - eve.forecast.net_q10)[day]
    for level, wanted in ((0.1, eve.forecast.net_q10), (0.9, eve.forecast.net_q90)):
        found = np.quantile(net, level, axis=0)
        # Within a tenth of the interval: fifty courses are no continuum.
        assert (np.abs(found - wanted)[day] < 0.1 * width).all()


def test_a_course_stays_sunny_or_dull_as_past_days_did(eve: Eve) -> None:
    courses = courses_of(eve.forecast, eve.history)
    noon, hour_later = courses.export_wh[:, 44], courses.export_wh[:, 48]
    shuffled = np.random.default_rng(0).permutation(hour_later)
    together = np.corrcoef(noon, hour_later)[0, 1]
    assert together > 0.5
    assert together > np.corrcoef(noon, shuffled)[0, 1] + 0.3
    # But no course is the same quantile all day long.
    ranks = courses.export_wh[:, 24:72].argsort(axis=0).argsort(axis=0)
    assert (np.ptp(ranks, axis=1) > 5).mean() > 0.9


def test_no_course_imports_less_than_nothing_or_exports_beyond_what_roofs_ever_did(
    eve: Eve,
) -> None:
    courses = courses_of(eve.forecast, eve.history)
    assert (courses.import_wh >= -1e-6).all()
    assert (courses.export_wh >= 0.0).all()
    most = max(eve.history.export_wh.max() * 1.05, eve.forecast.export_q90.max())
    assert courses.export_wh.max() <= max(most, (-eve.forecast.net_q10).max()) + 1e-6


def test_the_same_evidence_gives_the_same_courses(eve: Eve) -> None:
    first, second = (courses_of(eve.forecast, eve.history) for _ in range(2))
    assert np.array_equal(first.import_wh, second.import_wh)
    assert np.array_equal(first.export_wh, second.export_wh)


def test_with_too_few_past_days_every_slot_keeps_its_rank(eve: Eve) -> None:
    history = eve.history
    week = ZoneTotals(history.end_slot - 10 * 96, history.net_wh[-960:], history.export_wh[-960:])
    for short in (None, week):
        courses = courses_of(eve.forecast, short)
        assert courses.method == "fixed"
        assert (np.diff(courses.export_wh, axis=0) <= 1e-6).all()


def test_the_median_is_one_course(eve: Eve) -> None:
    courses = median_of(eve.forecast)
    assert courses.weights.tolist() == [1.0]
    assert courses.export_wh[0].tolist() == eve.forecast.export_q50.tolist()


def test_totals_that_reach_into_the_day_are_refused(eve: Eve, demo_zone: DemoZone) -> None:
    ahead = ZoneTotals(DAY - 56 * 96, np.zeros(57 * 96, np.int64), np.zeros(57 * 96, np.int64))
    with pytest.raises(BadUse, match="reach into the day"):
        courses_of(eve.forecast, ahead)


def test_a_forecast_that_is_no_whole_day_is_refused(eve: Eve) -> None:
    with pytest.raises(BadUse, match="whole UTC day"):
        courses_of(replace(eve.forecast, first_slot=DAY + 4), eve.history)


def test_scenarios_need_weights() -> None:
    with pytest.raises(BadUse, match="at least one"):
        check_weights([])


def test_a_weighted_quantile_heeds_the_weights() -> None:
    values = np.array([[3.0], [1.0], [2.0]])
    weights = np.array([0.1, 0.8, 0.1])
    assert weighted_quantile(values, weights, 0.5)[0] == 1.0
    assert weighted_quantile(values, weights, 0.85)[0] == 2.0
    assert weighted_quantile(values, weights, 1.0)[0] == 3.0
