# SPDX-License-Identifier: Apache-2.0
"""What the pages of figures say of a dossier's tables, from tables written by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dao.audit.figures import figure_table
from dao.audit.scope import Period
from dao.audit.tables import TABLES, Basis
from dao.slots import SLOTS_PER_DAY
from dashboard import charts
from dashboard.i18n import Formats
from dashboard.repositories.analysis import Analysis
from dashboard.services import analysis as service
from dashboard.services import forecast_record
from dashboard.services.dossier_words import headline, share_done, step_words, verdict
from dashboard.theme import LIGHT
from tests.dashboard.sample import FIRST_SLOT, TARIFFS, ZONE

FMT, WORDS = Formats(), service.words_of("en")
DAY = FIRST_SLOT // SLOTS_PER_DAY


def analysis(days: int = 1, final: bool = True, **rows: list[tuple[Any, ...]]) -> Analysis:
    """Some days with these tables, all others empty."""
    period = Period(ZONE, FIRST_SLOT, days * SLOTS_PER_DAY)
    tables = {name: one.of_rows(rows.get(name, [])) for name, one in TABLES.items()}
    tables["figures"] = figure_table(tables, vars(TARIFFS))
    end = period.end_slot if final else period.first_slot
    return Analysis(period, tables, period.ends_at, end, missing=False)


def slot(
    at: int, imported: int, exported: int, traded: int | None, homes: int = 20
) -> tuple[Any, ...]:
    """A row of the table slots, as `dao.audit.energy` reckons it."""
    within = min(imported, exported)
    own = None if traded is None else max(within - traded, 0)
    residual = None if traded is None or own is None else within - own - traded
    return (
        *(FIRST_SLOT + at, "", homes, imported, exported, imported - exported),
        *(traded, own, imported - within, exported - within, residual),
    )


def before(count: int = SLOTS_PER_DAY) -> list[tuple[Any, ...]]:
    return [
        (FIRST_SLOT - SLOTS_PER_DAY + n, 500 if n < count else None, 0, None, None, None, None)
        for n in range(SLOTS_PER_DAY)
    ]


# Energy


def test_what_homes_drew_is_what_the_three_sources_gave() -> None:
    """And what they fed in is what neighbours used and what left; never more than was drawn."""
    random = np.random.default_rng(1)
    rows = []
    for at in range(SLOTS_PER_DAY):
        imported, exported = (int(one) for one in random.integers(0, 5_000, 2))
        rows.append(slot(at, imported, exported, int(random.integers(0, exported + 1))))
    one = analysis(slots=rows)
    frame = service.balance(one).frame
    imported = sum(row[3] for row in rows)
    exported = sum(row[4] for row in rows)
    drawn = frame["traded"] + frame["beside"] + frame["grid_in"]
    given = frame["traded"] + frame["beside"] + frame["grid_out"]
    assert drawn.sum() * 1_000 == pytest.approx(imported)
    assert given.sum() * 1_000 == pytest.approx(exported)
    assert (frame[["traded", "beside", "grid_in", "grid_out"]] >= 0).all().all()


def test_a_quarter_hour_that_nobody_knows_is_a_gap_and_not_zero() -> None:
    one = analysis(slots=[slot(0, 900, 100, 50), slot(1, 0, 0, 0, homes=0)])
    found = service.balance(one)
    assert found.unknown == 1
    assert found.frame["grid_in"].isna().tolist() == [False, True]


def test_a_trade_that_is_not_settled_is_told_apart() -> None:
    found = service.balance(analysis(slots=[slot(0, 900, 100, None)]))
    assert found.unsettled == 1
    assert found.frame["traded"].tolist() == [0]
    assert found.frame["beside"].tolist() == [0.1]


def test_more_than_three_days_are_summed_by_utc_day() -> None:
    rows = [slot(at, 1_000, 0, 0) for at in range(2 * SLOTS_PER_DAY)]
    rows += [slot(at, 0, 0, 0, homes=0) for at in range(2 * SLOTS_PER_DAY, 4 * SLOTS_PER_DAY)]
    frame = service.balance(analysis(days=4, slots=rows)).frame
    assert frame["grid_in"].tolist()[:2] == [96.0, 96.0]
    assert frame["grid_in"].isna().tolist() == [False, False, True, True]
    assert [one.day for one in frame["time"]] == [7, 8, 9, 10]


def test_the_mean_price_of_a_day_is_by_energy() -> None:
    rows = [
        (FIRST_SLOT, "", FIRST_SLOT, 100, 3_000, 1, 1, 0, 0, 110, 0, 1_000),
        (FIRST_SLOT + 1, "", FIRST_SLOT, 200, 1_000, 1, 1, 0, 0, 110, 0, 1_000),
        (FIRST_SLOT + 2, "", FIRST_SLOT, None, 0, 0, 0, 0, 0, 110, 0, 1_000),
    ]
    daily = service.prices(analysis(days=4, prices=rows))
    assert daily["price_ct"].tolist() == [12.5]
    fine = service.prices(analysis(days=1, prices=rows))
    assert fine["price_ct"].tolist()[:2] == [10.0, 20.0]
    assert np.isnan(fine["price_ct"].tolist()[2])


@pytest.mark.parametrize("days", [1, 4])
def test_a_chart_is_drawn_of_what_is_known(days: int) -> None:
    rows = [slot(at, 1_000, 400, 100) for at in range(days * SLOTS_PER_DAY)]
    one = analysis(days=days, slots=rows)
    daily = not service.is_fine(one)
    drawn = charts.balance_chart(service.balance(one).frame, LIGHT, daily=daily).html("all of it")
    assert "From neighbours, traded: " in drawn
    assert len(drawn) < 60_000


# Figures and their marks


def test_a_change_is_told_only_where_both_times_are_whole() -> None:
    rows = [slot(at, 1_000, 0, 0) for at in range(SLOTS_PER_DAY)]
    whole = service.figure_lines(analysis(slots=rows, before=before()), WORDS, ["import_wh"])[0]
    assert (whole.value, whole.change, whole.basis) == ("96.00 kWh", "+100.0%", Basis.METERED)
    for one in (
        analysis(slots=rows, before=before(95)),
        analysis(slots=[*rows[:-1], slot(95, 0, 0, 0, homes=0)], before=before()),
    ):
        assert service.figure_lines(one, WORDS, ["import_wh"])[0].change == ""
        assert not service.is_comparable(one)


def test_every_figure_has_a_name_and_a_mark() -> None:
    lines = service.figure_lines(analysis(slots=[slot(0, 1, 1, 1)]), WORDS)
    assert len(lines) > 50
    assert all(line.name and service.basis_words(line.basis) for line in lines)


def test_an_auction_that_is_not_as_it_has_to_be_is_marked() -> None:
    rows = [
        (FIRST_SLOT, "", 100, 100, 50, 10, 10, 1_000_000, 0, 0, 0),
        (FIRST_SLOT + 1, "", 100, 101, 50, 9, 10, 900_000, 0, 2, 0),
        (FIRST_SLOT + 2, "", None, None, 0, 0, 0, None, 0, 0, 0),
    ]
    found = [
        (value, sound) for _, value, sound in service.clearing_rows(analysis(clearing=rows), WORDS)
    ]
    assert found == [
        ("3", None),
        ("1", False),
        ("95.0%", None),
        ("0 kWh", True),
        ("2", False),
        ("0", True),
        ("0", True),
    ]


# Meters and groups


def test_counts_below_fifteen_homes_are_kept_back() -> None:
    rows = [
        (FIRST_SLOT, "", 20, 18, 1, 0, 1, 0, 0),
        (FIRST_SLOT + SLOTS_PER_DAY, "", 3, None, None, None, None, None, None),
    ]
    frame = service.quality_frame(analysis(days=2, quality=rows), FMT)
    assert frame["Measured"].tolist() == ["18", "kept back"]
    assert frame["Missing"].tolist() == ["1", "kept back"]


def test_a_day_whose_groups_are_kept_back_counts_as_hidden() -> None:
    rows = [
        ("2016-06-07", "with solar", 20, 1_000, 9_000, 500, 0, 0, 90_000, 0, 50_500, 0),
        ("2016-06-07", "without solar", 30, 8_000, 0, 0, 500, 400, 0, 120_000, 0, 38_800),
        ("2016-06-08", "with solar", None, *[None] * 9),
        ("2016-06-08", "without solar", None, *[None] * 9),
    ]
    found = service.groups(analysis(days=2, groups=rows), WORDS, FMT)
    assert (found.days, found.hidden) == (1, 1)
    assert found.frame["Homes"].tolist() == ["20", "30"]
    gains = found.frame["Gain by selling, per home and day"].tolist()
    assert gains == ["0.3\u00a0ct", "0.0\u00a0ct"]


def test_what_went_wrong_stands_in_words_the_newest_first() -> None:
    rows = [
        (
            1_465_300_000 + n,
            "orders turned away",
            f"session {FIRST_SLOT}",
            "1 for: malformed",
            "left out alone; the rest of the batch went on",
            None,
        )
        for n in range(40)
    ]
    frame = service.anomaly_frame(analysis(anomalies=rows), WORDS, FMT)
    assert len(frame) == service.MAX_ROWS
    assert frame["What"].tolist()[0] == "orders turned away"
    assert str(FIRST_SLOT) not in frame["Where"].tolist()[0]


# Forecasts

WHO = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"


def score(
    day: int, state: str, loss: int | None = None, naive: int | None = None
) -> tuple[Any, ...]:
    first = FIRST_SLOT + day * SLOTS_PER_DAY
    scored = None if loss is None else 96
    return (
        first,
        f"2016-06-{7 + day:02}",
        WHO,
        "0xc",
        "0x" + "ab" * 32,
        state,
        loss,
        naive,
        scored,
        0,
        0,
    )


def forecast(at: int, net: int, window: bool = False) -> tuple[Any, ...]:
    inside = -100 <= net <= 100
    return (FIRST_SLOT + at, "", WHO, -100, 0, 100, net, inside, window)


def test_the_record_of_forecasts_is_the_sum_of_its_days() -> None:
    one = analysis(
        days=3,
        scores=[score(0, "scored", 60, 100), score(1, "scored", 20, 100), score(2, "missed")],
        forecasts=[forecast(0, 50), forecast(1, 500), forecast(2, 900, window=True)],
    )
    found = forecast_record.record(one)
    assert (found.days, found.missed, found.ratio) == (2, 1, 0.4)
    assert (found.coverage, found.slots) == (0.5, 2)
    assert found.bias_wh == -275
    lines = forecast_record.day_lines(one)
    assert [line.state for line in lines] == ["missed", "scored", "scored"]
    assert (lines[2].inside, lines[2].slots, lines[2].ratio) == (1, 2, 0.6)
    assert forecast_record.chart_frame(lines)["loss_percent"].tolist() == [60.0, 20.0]


def test_a_perfect_simple_forecast_divides_by_nothing() -> None:
    one = analysis(scores=[score(0, "scored", 5, 0)])
    assert forecast_record.record(one).ratio is None
    assert forecast_record.day_frame(forecast_record.day_lines(one), FMT)["Skill"].tolist() == ["–"]


def test_fairness_is_told_by_time_of_day_and_under_actions() -> None:
    # 22:00 UTC is midnight on the zone's clock.
    one = analysis(forecasts=[forecast(0, 0), forecast(48, 500), forecast(60, 0, window=True)])
    frame = forecast_record.fairness_frame(one, FMT)
    assert frame["When"].tolist() == [
        "0 to 6 o’clock",
        "12 to 18 o’clock",
        "While an action was in force",
    ]
    assert frame["Metered within the band"].tolist()[:2] == ["100\u00a0%", "0\u00a0%"]


def test_no_forecast_at_all_is_no_error() -> None:
    found = forecast_record.record(analysis())
    assert (found.days, found.ratio, found.coverage, found.forecasters) == (0, None, None, ())
    assert forecast_record.fairness_frame(analysis(), FMT).empty


# What a check says


def result(**states: str) -> dict[str, Any]:
    names = ("file", "totals", "events", "anchor")
    checks = [[name, states.get(name, "passed"), f"about {name}"] for name in names]
    return {"root": "0x1", "zone": 1, "from": "a", "to": "b", "corrects": None, "checks": checks}


@pytest.mark.parametrize(
    ("states", "words", "tone"),
    [
        ({}, "published on the chain", "good"),
        ({"anchor": "not checked"}, "nobody has published", "open"),
        ({"events": "not checked", "anchor": "not checked"}, "no node was asked", "open"),
        ({"totals": "failed", "events": "not checked"}, "does not hold", "bad"),
    ],
)
def test_a_verdict_says_no_more_than_was_checked(
    states: dict[str, str], words: str, tone: str
) -> None:
    found = verdict(result(**states))
    said, colour = headline(found)
    assert words in said
    assert colour == tone
    assert (found.first.name if found.first else None) == ("totals" if tone == "bad" else None)


def test_steps_go_forward() -> None:
    steps = ["", "Reading the chain's events", "Writing"]
    shares = [share_done(step) for step in steps]
    assert shares == sorted(shares)
    assert step_words("file") == "Checking: Parts of the file"
    assert step_words("something new") == "Beginning"
