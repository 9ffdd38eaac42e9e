# SPDX-License-Identifier: Apache-2.0
"""What the page says, computed from a real index file and state."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dao.runstate import Money, Outcome, Step, Window, Work
from dao.slots import SLOTS_PER_DAY
from dashboard.repositories.events import ChainEvents, Settled
from dashboard.services import units
from dashboard.services.energy import energy_view, shown_range
from dashboard.services.progress import TIMETABLE, progress_view, skill_view
from dashboard.services.trade import balance, price_view
from dashboard.services.vote import chosen, decisions, effect, vote_view
from tests.dashboard.sample import (
    FIRST_SLOT,
    TARIFFS,
    ZONE,
    Index,
    day_shape,
    fill,
    forecast,
    proposal,
    run_state,
)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index(tmp_path / "index.sqlite")


def events(index: Index, zone: int = ZONE) -> ChainEvents:
    return ChainEvents(index.path, zone)


class TestEvents:
    def test_totals_come_back_as_they_were_committed(self, index: Index) -> None:
        net, export = day_shape()
        index.commit(FIRST_SLOT, net[:48], export[:48])
        index.commit(FIRST_SLOT + 48, net[48:], export[48:])
        frame = events(index).totals(FIRST_SLOT, SLOTS_PER_DAY)
        assert frame["slot"].tolist() == list(range(FIRST_SLOT, FIRST_SLOT + SLOTS_PER_DAY))
        np.testing.assert_array_equal(frame["net_wh"], net)
        np.testing.assert_array_equal(frame["export_wh"], export)
        assert set(frame["homes"]) == {118}

    def test_totals_outside_the_range_are_left_out(self, index: Index) -> None:
        net, export = day_shape()
        index.commit(FIRST_SLOT, net, export)
        assert events(index).totals(FIRST_SLOT + 90, 50)["slot"].tolist() == [
            FIRST_SLOT + i for i in range(90, 96)
        ]

    def test_another_zone_is_another_zone(self, index: Index) -> None:
        fill(index)
        other = events(index, zone=2)
        assert other.totals(FIRST_SLOT, SLOTS_PER_DAY).empty
        assert other.clearings().empty
        assert other.settlements().empty

    def test_an_index_not_yet_written_is_empty(self, tmp_path: Path) -> None:
        nothing = ChainEvents(tmp_path / "none.sqlite", ZONE)
        assert nothing.cursor() is None
        assert nothing.totals(FIRST_SLOT, 96).empty
        assert nothing.clearings().empty
        assert nothing.settlements().empty

    def test_a_slot_without_trade_has_no_price(self, index: Index) -> None:
        index.clear(FIRST_SLOT, 65_535, 0)
        index.clear(FIRST_SLOT + 1, 200, 1_000)
        prices = events(index).clearings()["price"]
        assert pd.isna(prices[0])
        assert prices[1] == 200

    def test_settled_slots_are_counted_on(self, index: Index) -> None:
        index.settle(FIRST_SLOT, 200, 1_000)
        assert events(index).settled().turnover == 200_000
        index.settle(FIRST_SLOT + 1, 100, 500, penalties=7)
        index.settle(FIRST_SLOT + 2, 65_535, 0)
        found = events(index).settled()
        assert found == Settled(1_500, 250_000, 1_500 * TARIFFS.grid_fee, 7, 2)
        assert events(index, zone=2).settled() == Settled()

    def test_what_the_chain_takes_back_is_not_counted(self, index: Index) -> None:
        index.settle(FIRST_SLOT, 200, 1_000)
        index.settle(FIRST_SLOT + 1, 200, 1_000)
        assert events(index).settled().delivered_wh == 2_000
        with closing(sqlite3.connect(index.path)) as db:
            db.execute("DELETE FROM events WHERE block = ?", (index.block,))
            db.commit()
        index.block -= 1
        with closing(sqlite3.connect(index.path)) as db:
            db.execute("DELETE FROM blocks WHERE number > ?", (index.block,))
            db.commit()
        index.settle(FIRST_SLOT + 1, 200, 400)
        assert events(index).settled().delivered_wh == 1_400


class TestEnergy:
    def test_used_less_fed_is_net(self, index: Index) -> None:
        fill(index)
        first, slots = FIRST_SLOT, SLOTS_PER_DAY
        view = energy_view(events(index).totals(first, slots), (), first, slots)
        frame = view.frame
        np.testing.assert_allclose(frame["used_kwh"] - frame["fed_kwh"], frame["net_kwh"])
        assert view.measured_slots == 60
        assert view.inside_band is None

    def test_the_day_figures_are_of_the_newest_measured_day(self, index: Index) -> None:
        fill(index)
        first, slots = FIRST_SLOT - SLOTS_PER_DAY, 3 * SLOTS_PER_DAY
        view = energy_view(events(index).totals(first, slots), (), first, slots)
        net, export = day_shape(0)
        assert view.day_fed_wh == export[:60].sum()
        assert view.day_used_wh == (net + export)[:60].sum()

    def test_the_share_inside_the_band_counts_both_ends(self, index: Index) -> None:
        one = forecast(FIRST_SLOT)
        net = np.array([*one.q10[:4], *one.q90[4:8], one.q90[8] + 1, *one.q50[9:12]])
        index.commit(FIRST_SLOT, net, np.zeros(12, dtype=np.int64))
        view = energy_view(events(index).totals(FIRST_SLOT, 96), (one,), FIRST_SLOT, SLOTS_PER_DAY)
        assert view.inside_band == pytest.approx(11 / 12)

    def test_slots_in_which_the_battery_worked_do_not_count(self, index: Index) -> None:
        one = forecast(FIRST_SLOT)
        net = np.array([*one.q50[:5], *(np.array(one.q90[5:8]) + 1)])
        index.commit(FIRST_SLOT, net, np.zeros(8, dtype=np.int64))
        index.open_window(1_000, FIRST_SLOT + 5, 2, 5_000)
        index.open_window(7, FIRST_SLOT, 3, 120)
        read = events(index)
        scheduled = read.scheduled(FIRST_SLOT, SLOTS_PER_DAY)
        assert scheduled == {FIRST_SLOT + 5, FIRST_SLOT + 6}
        view = energy_view(
            read.totals(FIRST_SLOT, 96), (one,), FIRST_SLOT, SLOTS_PER_DAY, scheduled
        )
        assert view.inside_band == pytest.approx(5 / 6)

    def test_a_forecast_alone_is_worth_showing(self) -> None:
        one = forecast(FIRST_SLOT)
        nothing = pd.DataFrame({"slot": [], "net_wh": [], "export_wh": []}, dtype="int64")
        view = energy_view(nothing, (one,), FIRST_SLOT, SLOTS_PER_DAY)
        assert len(view.frame) == SLOTS_PER_DAY
        assert view.frame["net_kwh"].isna().all()
        assert view.day_used_wh == 0

    def test_without_anything_the_view_is_empty(self) -> None:
        nothing = pd.DataFrame({"slot": [], "net_wh": [], "export_wh": []}, dtype="int64")
        assert energy_view(nothing, (), FIRST_SLOT, SLOTS_PER_DAY).is_empty

    def test_the_chart_reaches_to_the_last_forecast_day(self) -> None:
        first, slots = shown_range(FIRST_SLOT + 50, (forecast(FIRST_SLOT + SLOTS_PER_DAY),))
        assert (first, slots) == (FIRST_SLOT, 2 * SLOTS_PER_DAY)
        later = shown_range(FIRST_SLOT + 500, (forecast(FIRST_SLOT + SLOTS_PER_DAY),))
        assert later == (first, slots)
        first, _ = shown_range(FIRST_SLOT + 50, ())
        assert first == FIRST_SLOT - SLOTS_PER_DAY


class TestTrade:
    def test_gain_and_saving_are_against_the_two_tariffs(self, index: Index) -> None:
        index.settle(FIRST_SLOT, 200, 1_000)
        index.settle(FIRST_SLOT + 1, 150, 500, penalties=70)
        sums = balance(events(index).settled(), TARIFFS)
        paid = 200 * 1_000 + 150 * 500
        assert sums.traded_wh == 1_500
        assert sums.turnover == paid
        assert sums.seller_gain == paid - 1_500 * 79
        assert sums.buyer_saving == 1_500 * 397 - paid - 1_500 * 110
        assert sums.grid_fees == 1_500 * 110
        assert sums.penalties == 70
        assert sums.traded_slots == 2

    def test_what_the_run_counted_holds(self, index: Index) -> None:
        index.settle(FIRST_SLOT, 200, 1_000)
        counted = Money(traded_wh=900, seller_gain=5, buyer_saving=6, grid_fees=7)
        sums = balance(events(index).settled(), TARIFFS, counted)
        assert (sums.traded_wh, sums.seller_gain, sums.buyer_saving, sums.grid_fees) == (
            900,
            5,
            6,
            7,
        )

    def test_without_trade_all_sums_are_zero(self, index: Index) -> None:
        sums = balance(events(index).settled(), TARIFFS)
        assert (sums.traded_wh, sums.seller_gain, sums.buyer_saving) == (0, 0, 0)

    def test_the_mean_price_is_weighted_with_the_energy(self, index: Index) -> None:
        index.clear(FIRST_SLOT, 100, 3_000)
        index.clear(FIRST_SLOT + 1, 200, 1_000)
        index.clear(FIRST_SLOT + 2, 65_535, 0)
        view = price_view(events(index).clearings(), events(index).settlements())
        assert view.mean_ct == pytest.approx(12.5)
        assert view.traded_slots == 2
        assert view.frame["price_ct"].isna().tolist() == [False, False, True]

    def test_the_table_says_what_is_not_yet_settled(self, index: Index) -> None:
        index.clear(FIRST_SLOT, 100, 3_000)
        index.clear(FIRST_SLOT + 1, 200, 1_000)
        index.settle(FIRST_SLOT, 100, 2_900)
        table = price_view(events(index).clearings(), events(index).settlements()).table
        assert table["When"].tolist() == ["Tue 02:15", "Tue 02:00"]
        assert table["Delivered"].tolist() == ["not yet settled", "2.9\u00a0kWh"]
        assert table["Price"].tolist() == ["20.0\u00a0ct/kWh", "10.0\u00a0ct/kWh"]

    def test_no_clearing_makes_an_empty_view(self, index: Index) -> None:
        assert price_view(events(index).clearings(), events(index).settlements()).is_empty


class TestVote:
    def test_the_open_vote_is_shown_before_a_newer_decided_one(self) -> None:
        decided = proposal(FIRST_SLOT + 96, "executed")
        running = proposal(FIRST_SLOT, "active")
        assert chosen((decided, running)) is running
        assert chosen((decided,)) is decided
        assert chosen(()) is None

    def test_the_countdown_runs_in_chain_time(self) -> None:
        one = proposal(FIRST_SLOT, deadline=FIRST_SLOT * 900)
        assert (
            vote_view(one, FIRST_SLOT * 900 - 6_300).timing
            == "Closes in 1\u00a0h 45\u00a0min, Tue 02:00"
        )
        assert vote_view(one, FIRST_SLOT * 900).timing == "Closed Tue 02:00, counting"

    def test_objections_do_not_count_towards_the_quorum(self) -> None:
        one = proposal(FIRST_SLOT, votes_for=10, votes_against=50, votes_abstain=5, quorum=20)
        view = vote_view(one, 0)
        assert view.turnout == pytest.approx(0.75)
        assert not view.quorum_reached
        assert vote_view(proposal(FIRST_SLOT, votes_for=15, quorum=19), 0).quorum_reached

    def test_under_a_policy_the_objections_decide(self) -> None:
        one = proposal(FIRST_SLOT, votes_for=0, votes_against=4, quorum=12, under_policy=True)
        view = vote_view(one, 0)
        assert view.turnout == pytest.approx(1 / 3)
        assert view.decided_by == "4 of the 12 objections that stop it"
        stopped = proposal(FIRST_SLOT, "defeated", votes_against=12, quorum=12, under_policy=True)
        assert vote_view(stopped, 0).status == "Stopped by objections"

    @pytest.mark.parametrize(
        ("state", "status", "tone"),
        [
            ("pending", "Opens shortly", "open"),
            ("active", "Open", "open"),
            ("queued", "Accepted, waiting for execution", "good"),
            ("executed", "Executed", "good"),
            ("defeated", "Rejected", "bad"),
            ("of another kind", "of another kind", "calm"),
        ],
    )
    def test_every_state_has_its_words(self, state: str, status: str, tone: str) -> None:
        view = vote_view(proposal(FIRST_SLOT, state), 0)
        assert (view.status, view.tone) == (status, tone)

    def test_the_schedule_is_told_on_the_zones_own_clock(self) -> None:
        view = vote_view(proposal(FIRST_SLOT), 0)
        assert view.plan == (
            "The community battery takes in 114\u00a0kWh (11:15–15:30) and gives back 81\u00a0kWh "
            "(19:30–22:30)."
        )
        assert view.schedule["power_kw"].sum() / 4 == pytest.approx(44 + 69.75 - 81)
        assert vote_view(proposal(FIRST_SLOT, windows=()), 0).plan == ""

    def test_a_schedule_with_a_pause_names_both_parts(self) -> None:
        windows = (
            Window(FIRST_SLOT + 72, 12, -20_000),
            Window(FIRST_SLOT, 12, -10_000),
            Window(FIRST_SLOT + 84, 12, -10_000),
        )
        assert vote_view(proposal(FIRST_SLOT, windows=windows), 0).plan == (
            "The community battery gives back 120\u00a0kWh (02:00–05:00, 20:00–02:00)."
        )

    def test_a_proposal_without_curves_has_no_voltage_chart(self) -> None:
        view = vote_view(proposal(FIRST_SLOT, voltage_before=(), voltage_after=()), 0)
        assert view.voltage.empty

    def test_earlier_decisions_leave_out_the_one_shown(self) -> None:
        shown = proposal(FIRST_SLOT)
        past = decisions((shown, proposal(FIRST_SLOT - 96, Outcome.EXECUTED)), shown)
        assert (past.total, past.executed) == (2, 1)
        assert past.table["Outcome"].tolist() == ["Executed"]
        assert past.table["Day"].tolist() == ["Mon 6 Jun"]

    def test_the_effect_names_what_is_left(self) -> None:
        assert effect(proposal(0)).endswith("none with it.")
        assert effect(proposal(0, slots_over_before=1, slots_over_after=1)) == (
            "1 quarter-hour over the limit without it, 1 with it."
        )


class TestProgress:
    def test_the_steps_before_the_present_one_are_done(self) -> None:
        view = progress_view(run_state(step=Step.GATE))
        assert [one.mark for one in view.steps] == ["done"] * 3 + ["now"] + ["next"] * 4
        assert view.status == "Live"
        assert view.clock == "17:45"
        assert view.headline == "Tuesday, 7 June 2016"

    def test_preparation_shows_how_far_it_is(self) -> None:
        work = Work("Committing the history", 14, 56)
        view = progress_view(run_state(step=Step.SETUP, day=0, work=work))
        assert view.status == "Preparing"
        assert view.sentence == "Committing the history"
        assert (view.headline, view.clock) == ("Preparing the neighbourhood", "")
        assert view.fraction == pytest.approx(0.25)
        assert {one.mark for one in view.steps} == {"next"}

    def test_the_end_is_the_end(self) -> None:
        view = progress_view(run_state(step=Step.FINISHED, finished=True, day=7))
        assert (view.status, view.fraction) == ("Finished", 1.0)
        assert {one.mark for one in view.steps} == {"done"}

    def test_the_run_only_moves_forward(self) -> None:
        parts = [
            progress_view(run_state(day=day, step=step)).fraction
            for day in (1, 2, 7)
            for step, _, _ in TIMETABLE
        ]
        assert parts == sorted(parts)
        assert 0 < parts[0] < parts[-1] < 1

    def test_skill_is_the_ratio_of_sums(self) -> None:
        days = (forecast(0, True), forecast(96, True), forecast(192))
        view = skill_view(run_state(forecasts=days))
        assert view.ratio == pytest.approx(0.74)
        assert view.words == "26\u00a0% better than “same as last week” over 2 scored days."
        assert skill_view(run_state(forecasts=())).ratio is None


class TestUnits:
    def test_local_clocks_follow_daylight_saving(self) -> None:
        # 27 March 2016, 01:00 UTC: clocks go from 02:00 to 03:00.
        change = 1_459_040_400 // 900
        hours = units.wall_clock(np.array([change - 1, change]))
        assert [f"{one:%H:%M}" for one in hours] == ["01:45", "03:00"]
