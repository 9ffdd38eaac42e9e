# SPDX-License-Identifier: Apache-2.0
"""The run's state file: what is written comes back, and a reader never sees half of it."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from dao.errors import CheckFailed
from dao.runstate import Money, RunState, Step, Work, read_run_state, write_run_state
from dao.tariffs import Tariffs
from tests.dashboard.sample import FIRST_SLOT, forecast, proposal, run_state


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    state = run_state(
        money=Money(traded_wh=1, seller_gain=2, buyer_saving=3, grid_fees=4),
        work=Work("Committing the history", 3, 56),
    )
    write_run_state(state, tmp_path / "new" / "run.json")
    assert read_run_state(tmp_path / "new" / "run.json") == state


def test_before_the_first_run_there_is_no_state(tmp_path: Path) -> None:
    assert read_run_state(tmp_path / "run.json") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"version": 1}',
        '{"version": 2}',
        json.dumps({"version": 1, "tariffs": {"feed_in": "much"}}),
    ],
)
def test_a_file_of_another_make_is_reported_not_thrown(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(CheckFailed, match=r"run\.json"):
        read_run_state(path)


def test_quantiles_of_different_lengths_are_refused(tmp_path: Path) -> None:
    path = write_run_state(run_state(), tmp_path / "run.json")
    data = json.loads(path.read_text())
    data["forecasts"][0]["q10"].pop()
    path.write_text(json.dumps(data))
    with pytest.raises(CheckFailed, match="differ in length"):
        read_run_state(path)


def test_a_reader_beside_a_writer_always_sees_a_whole_state(tmp_path: Path) -> None:
    path = write_run_state(run_state(day=0), tmp_path / "run.json")
    stop = threading.Event()

    def write() -> None:
        day = 0
        while not stop.is_set():
            day += 1
            write_run_state(run_state(day=day), path)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        days = [state.day for _ in range(200) if (state := read_run_state(path)) is not None]
    finally:
        stop.set()
        writer.join()
    assert len(days) == 200
    assert days == sorted(days)
    assert list(tmp_path.iterdir()) == [path]


def test_a_proposal_and_a_forecast_replace_their_older_selves() -> None:
    empty = RunState(
        zone="Z",
        zone_id=1,
        seed=1,
        start="2016-06-06",
        days=1,
        day=1,
        step=Step.VOTE,
        sim_time=0,
        tariffs=Tariffs(),
        rpc="",
    )
    first = proposal(FIRST_SLOT, "active")
    state = empty.with_proposal(first).with_proposal(proposal(FIRST_SLOT - 96))
    state = state.with_proposal(replace(first, state="executed"))
    assert [one.state for one in state.proposals] == ["active", "executed"]
    state = state.with_forecast(forecast(FIRST_SLOT)).with_forecast(forecast(FIRST_SLOT, True))
    assert [one.loss for one in state.forecasts] == [7_400]
