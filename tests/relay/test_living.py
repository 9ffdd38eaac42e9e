# SPDX-License-Identifier: Apache-2.0
"""The relay inside a demo: a clock that jumps breaks no promise, and no fault ends the village."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

from dao.errors import CheckFailed
from dao.relay import promise
from dao.relay.promise import Verdict
from dao.slots import SLOTS_PER_DAY
from scripts._simulation.counter import Counter, Counting
from scripts._simulation.living import Life
from scripts._simulation.loop import Loop
from scripts._simulation.records import Step
from tests.relay.conftest import DAY_SLOT, GATE, HOUR, MIDNIGHT, SLOTS, ZONE, Lane, as_promise


class Village:
    """A loop of which only the clock is looked at."""

    def __init__(self, lane: Lane) -> None:
        self.world = SimpleNamespace(chain=lane.chain, reach=lambda end_slot: None)
        self.settings = SimpleNamespace(first_slot=DAY_SLOT)
        self.end = DAY_SLOT + SLOTS_PER_DAY
        self.unsettled: list[Any] = []
        self.days: list[Any] = []
        self.day = 0
        self._session_slots = SLOTS
        self._rules = {"gate_lead": HOUR}
        self.published: list[str] = []

    gates = Loop.gates

    def publish(self, _: Any, step: str) -> None:
        self.published.append(step)


@pytest.fixture
def counter(lane: Lane, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[Counter]:
    monkeypatch.setenv("GRIDCOMMONS_HOME", str(tmp_path / "home"))
    with Counter(lane.deployment, ZONE, lane.chain.accounts[7]) as made:
        yield made


def ask(counter: Counter, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    at = urlsplit(counter.url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=30)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def life_of(lane: Lane, counter: Counter) -> tuple[Life, Village, list[str]]:
    said: list[str] = []
    village = Village(lane)
    loop: Any = village
    agent: Any = SimpleNamespace(round=lambda now: None, sides=lambda now: frozenset())
    return Life(loop, counter, agent, said.append), village, said


def test_the_gates_are_those_of_the_sessions() -> None:
    village: Any = SimpleNamespace(_session_slots=SLOTS, _rules={"gate_lead": HOUR})
    assert Loop.gates(village, GATE - 1, GATE + 6 * HOUR) == [GATE, GATE + 6 * HOUR]
    assert Loop.gates(village, GATE, GATE + 6 * HOUR - 1) == []


def test_the_clock_moves_over_no_gate_before_what_waits_for_it_is_posted(
    lane: Lane, counter: Counter
) -> None:
    life, _, _ = life_of(lane, counter)
    status, taken = ask(counter, "POST", "/v1/orders", lane.document(lane.order(1)))
    assert status == 201
    later = lane.order(2, session_slot=DAY_SLOT + SLOTS, expiry=2**40 - 1)
    status, other = ask(counter, "POST", "/v1/orders", lane.document(later))
    assert status == 201
    life.move(MIDNIGHT + 6 * HOUR)
    assert lane.chain.now() == MIDNIGHT + 6 * HOUR
    for one in (taken, other):
        made = as_promise(one["promise"])
        assert promise.verdict(made, lane.relay.market, ZONE) is Verdict.KEPT
    assert ask(counter, "GET", "/v1/health")[1]["broken_promises"] == 0


def test_after_the_last_call_the_relay_takes_nothing_for_the_gate(
    lane: Lane, counter: Counter
) -> None:
    life, _, _ = life_of(lane, counter)
    life.move(GATE - counter.pace.last_call)
    status, answer = ask(counter, "POST", "/v1/orders", lane.document(lane.order(1)))
    assert (status, answer["error"]["field"]) == (422, "first_slot")


def test_what_is_being_taken_in_is_let_finish() -> None:
    gate = threading.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        while not gate.is_set():
            await asyncio.sleep(0.005)

    counting = Counting(slow)
    taking = threading.Thread(
        target=lambda: asyncio.run(counting({"method": "POST"}, None, None))  # type: ignore[arg-type]
    )
    taking.start()
    while not counting.begun:
        pass
    drained = threading.Thread(target=counting.drain)
    drained.start()
    drained.join(0.1)
    assert drained.is_alive()
    gate.set()
    drained.join(5)
    taking.join(5)
    assert not drained.is_alive()


def test_a_step_that_fails_is_told_once_and_the_village_goes_on(
    lane: Lane, counter: Counter
) -> None:
    life, village, said = life_of(lane, counter)

    def fails() -> None:
        raise ValueError("an odd order")

    for number in range(2):
        life._take(Step(GATE + number, number, "clearing", 0, fails))
    assert len(said) == 1
    assert "an odd order" in said[0]
    assert village.published == ["clearing", "clearing"]


def test_an_agent_that_fails_does_not_stop_the_clock(lane: Lane, counter: Counter) -> None:
    life, _, said = life_of(lane, counter)
    life._agent = SimpleNamespace(round=lambda now: 1 // 0)  # type: ignore[assignment]
    _, taken = ask(counter, "POST", "/v1/orders", lane.document(lane.order(1)))
    life.move(MIDNIGHT)
    assert lane.chain.now() == MIDNIGHT
    assert promise.verdict(as_promise(taken["promise"]), lane.relay.market, ZONE) is Verdict.KEPT
    assert len(said) == 1


def test_what_could_not_be_settled_is_tried_again(lane: Lane, counter: Counter) -> None:
    life, village, _ = life_of(lane, counter)
    tried: list[int] = []

    def settles() -> None:
        tried.append(lane.chain.now())
        if len(tried) < 3:
            village.unsettled.append({})

    life._next_day = 10  # the loop's own steps are not asked for
    life._take(Step(GATE, 1, "settlement", 0, settles))
    while (step := life._due(GATE + 24 * HOUR)) is not None:
        life._take(step)
    assert tried == [GATE, GATE + HOUR, GATE + 2 * HOUR]


def test_without_its_chain_the_village_ends(lane: Lane, counter: Counter) -> None:
    life, _, _ = life_of(lane, counter)

    def away() -> None:
        raise CheckFailed("node unreachable") from ConnectionRefusedError()

    with pytest.raises(CheckFailed, match="unreachable"):
        life._take(Step(GATE, 1, "clearing", 0, away))
