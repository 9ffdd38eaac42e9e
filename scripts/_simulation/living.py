# SPDX-License-Identifier: Apache-2.0
"""A demo with people in it: the days as the loop has them, and then on, at a pace one can follow.

The clock moves over no gate before everything that people signed for it is posted. A step that
fails is told and the village goes on: whatever a person does must not end it.
"""

from __future__ import annotations

import heapq
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from dao.chain import is_away
from dao.errors import GridCommonsError
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY, day_of
from scripts._simulation.counter import Counter
from scripts._simulation.following import Following
from scripts._simulation.loop import DAY, HOUR, Loop
from scripts._simulation.records import Step

log = logging.getLogger("gridcommons.demo")

# How often the clock of a village that lives on moves, in real seconds.
TICK_S = 1.0
# So long before the relay's last call the agent orders, where the clock leaps over its hour.
_AGENT_S = 60
# Steps of a day lie up to a day before its midnight.
_EVE = DAY
# What could not be settled is tried again, an hour of its time later, so many times.
_TRIES = 24

# Different complaints that are shown; a run may last for weeks.
_MOST_TOLD = 100

Progress = Callable[[str, int, int], None]


class Life:
    """The loop's steps one after the other, without an end, with the relay at their side."""

    def __init__(
        self, loop: Loop, counter: Counter, agent: Following, say: Callable[[str], None]
    ) -> None:
        self._loop = loop
        self._counter = counter
        self._agent = agent
        loop.followed = agent.sides
        self._say = say
        self._queue: list[tuple[int, int, Step]] = []
        self._next_day = -1
        self._stage = "readings"
        self._told: set[str] = set()
        self._tries: dict[int, int] = {}
        settings = loop.settings
        self._first_midnight = settings.first_slot * SLOT_SECONDS
        self.days_end = loop.end * SLOT_SECONDS + HOUR
        """When the last of the days is in the books."""

    def live_days(self, progress: Progress) -> None:
        """The days that were asked for, as fast as they go."""
        loop = self._loop
        begun = time.perf_counter()
        done, total = 0, max(1, sum(step.at <= self.days_end for step in loop.agenda()))
        while (step := self._due(self.days_end)) is not None:
            name = f"{day_of(step.at // SLOT_SECONDS)} {step.name}"
            progress(name, min(done, total), total)
            before = len(loop.days)
            self._take(step)
            if len(loop.days) > before:
                now = time.perf_counter()
                loop.days[-1].seconds = now - begun
                begun = now
            done += 1
        self.move(self.days_end)

    def live_on(self, pace: float) -> None:
        """From then on, `pace` seconds of chain time in a second, until an interruption.

        What a step takes of real time is not caught up: the clock then stands, it never leaps.
        """
        loop = self._loop
        now = float(loop.world.chain.now())
        last = time.monotonic()
        while True:
            time.sleep(TICK_S)
            passed = min(time.monotonic() - last, 2 * TICK_S)
            last = time.monotonic()
            target = now + pace * passed
            # People's own transactions may not have moved it, but nothing forbids them to.
            now = max(now, float(loop.world.chain.now()))
            while (step := self._due(int(target))) is not None:
                self._take(step)
                last = time.monotonic()
            now = max(now, target)
            self._guarded("the clock", partial(self.move, int(now)))
            self._guarded("the page", partial(loop.publish, loop, self._stage))

    def move(self, to: int) -> None:
        """Turn the clock, with all that people signed posted before each gate on the way."""
        chain = self._loop.world.chain
        now = chain.now()
        for gate in self._loop.gates(now, to):
            # From here on the relay takes nothing more for this gate.
            last_call = gate - self._counter.pace.last_call
            if last_call - _AGENT_S > now:
                chain.set_time(last_call - _AGENT_S)
                self._agent_orders()
            if last_call > now:
                chain.set_time(last_call)
            self._counter.drain()
            self._carry(flush=True)
        if to > chain.now():
            chain.set_time(to)
        self._agent_orders()
        self._carry(flush=False)

    # Inside

    def _agent_orders(self) -> None:
        """What the owners' agent orders now. A fault of its does not stop the clock."""
        now = self._loop.world.chain.now()
        self._guarded("the agent", partial(self._agent.round, now))

    def _carry(self, *, flush: bool) -> None:
        """A round of the relay. A fault of its does not stop the clock."""
        self._guarded("the relay", partial(self._counter.round, flush=flush))

    def _due(self, until: int) -> Step | None:
        """The next step that is due by then, None where there is none."""
        loop = self._loop
        while self._first_midnight + self._next_day * DAY - _EVE <= until:
            loop.world.reach(loop.settings.first_slot + (self._next_day + 1) * SLOTS_PER_DAY)
            for step in loop.steps_of(self._next_day):
                heapq.heappush(self._queue, (step.at, step.order, step))
            self._next_day += 1
        if self._queue and self._queue[0][0] <= until:
            return heapq.heappop(self._queue)[2]
        return None

    def _take(self, step: Step) -> None:
        """One step at its time."""
        loop = self._loop
        loop.day = max(step.day, 0)
        self._stage = step.name
        self._guarded("the clock", partial(self.move, step.at))
        unsettled = len(loop.unsettled)
        done = self._guarded(f"{day_of(step.at // SLOT_SECONDS)} {step.name}", step.run)
        if step.name == "settlement" and (not done or len(loop.unsettled) > unsettled):
            self._again(step)
        # What people asked for while the step ran.
        self._carry(flush=False)
        self._guarded("the page", partial(loop.publish, loop, step.name))

    def _again(self, step: Step) -> None:
        """Settle later, with what receipts there are then."""
        tries = self._tries.get(step.order, 0) + 1
        self._tries[step.order] = tries
        if tries <= _TRIES:
            later = replace(step, at=step.at + HOUR)
            heapq.heappush(self._queue, (later.at, later.order, later))

    def _guarded(self, what: str, run: Callable[[], None]) -> bool:
        """Run a part; where it fails, say so once and go on. Whether it went well."""
        try:
            run()
        except GridCommonsError as error:
            if is_away(error):  # without its chain there is no village
                raise
            self._complain(what, str(error))
        except Exception as error:
            log.exception("%s failed", what)
            self._complain(what, f"{type(error).__name__}: {error}")
        else:
            return True
        return False

    def _complain(self, what: str, why: str) -> None:
        if why not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(why)
            self._say(f"{what}: {why}. The village goes on.")
