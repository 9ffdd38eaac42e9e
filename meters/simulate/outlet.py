# SPDX-License-Identifier: Apache-2.0
"""One outlet of a charge point over time: cars that come, charge under its limits, and leave.

Time moves in events, each with its own moment, so a clock that jumps a day leaves none out. The
protocol that tells of them is in `ocpp`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter

from dao.errors import BadUse
from dao.slots import SLOT_SECONDS
from meters.simulate.charging import NEVER, TX, Car, Profile, composite, power

_MS_PER_HOUR = 3_600_000
MAX_HISTORY = 100_000
"""Changes of power that are remembered."""


@dataclass(frozen=True)
class Began:
    """A car was plugged in; `session` numbers the visits."""

    at: float
    session: int
    meter_wh: int


@dataclass(frozen=True)
class Ended:
    at: float
    session: int
    meter_wh: int
    reason: str


@dataclass(frozen=True)
class Turned:
    """The outlet's status is another, in OCPP's words."""

    at: float
    status: str


@dataclass(frozen=True)
class Sampled:
    """It is time for a meter value. `aligned`: on the clock's grid, else since the car came."""

    at: float
    session: int | None
    offered_w: int
    aligned: bool


Event = Began | Ended | Turned | Sampled


class Outlet:
    """An outlet that `cars` visit one after another; `cable_w` is the most it can give."""

    def __init__(
        self, cars: Iterable[Car], cable_w: int, start: float, meter_start_wh: int = 0
    ) -> None:
        self._cars = sorted(cars, key=lambda car: car.arrives)
        if any(b.arrives < a.leaves for a, b in zip(self._cars, self._cars[1:], strict=False)):
            raise BadUse("two cars cannot stand at one outlet")
        self.cable_w = cable_w
        self.aligned_seconds = SLOT_SECONDS
        self.sample_seconds = 0
        self.profiles: tuple[Profile, ...] = ()
        self.status = "Available"
        self.car: Car | None = None
        self.session: int | None = None
        self.began: float | None = None
        self.limit_w: int | None = None
        self._sessions = 0
        self._ms = round(start * 1000)
        self._taken = 0
        self._denied = False
        self._power_w = 0
        self._change: float = NEVER
        # Since when, the register then (W ms), and the power.
        self._history: list[tuple[int, int, int]] = [(self._ms, meter_start_wh * _MS_PER_HOUR, 0)]

    # What `faults.Measured` asks for.
    def registers(self, at: float, per_wh: int = 1) -> tuple[int, int]:
        """Import and export registers; at a future time, as if nothing changed until then."""
        ms = round(at * 1000)
        history = self._history
        since, energy, watts = history[max(bisect_right(history, ms, key=itemgetter(0)) - 1, 0)]
        return (energy + watts * max(ms - since, 0)) * per_wh // _MS_PER_HOUR, 0

    def power(self, at: float) -> tuple[int, int]:
        history, ms = self._history, round(at * 1000)
        return history[max(bisect_right(history, ms, key=itemgetter(0)) - 1, 0)][2], 0

    @property
    def now(self) -> float:
        """Unix seconds, to the millisecond: how far it has run."""
        return self._ms / 1000

    @property
    def next_event(self) -> float:
        """Unix seconds, from which on `run_to` has something to tell."""
        return self._next() / 1000

    def run_to(self, at: float) -> Iterator[Event]:
        """Everything that happens until `at`, in order."""
        end = round(at * 1000)
        while (moment := self._next()) <= end:
            before = self._ms
            self._ms = round(moment)
            self._taken += self._power_w * (self._ms - before)
            yield from self._happens()
        self._taken += self._power_w * max(end - self._ms, 0)
        self._ms = max(end, self._ms)

    def install(self, profiles: tuple[Profile, ...], at: float) -> Iterator[Event]:
        """Other limits from now on."""
        yield from self.run_to(at)
        self.profiles = profiles
        yield from self._settle()

    def deny(self, at: float) -> Iterator[Event]:
        """The central system does not accept the car: it gets nothing, and its session ends."""
        yield from self.run_to(at)
        if self.session is not None:
            self._denied = True
            yield Ended(at, self.session, self.registers(at)[0], "DeAuthorized")
            self._end_session()
            yield from self._settle()

    def _next(self) -> float:
        moments: list[float] = [self._change * 1000]
        if self.car is not None:
            moments.append(self.car.leaves * 1000)
            if self._power_w:
                left = self.car.needs_wh * _MS_PER_HOUR - self._taken
                moments.append(self._ms - -left // self._power_w)
        elif self._cars:
            moments.append(self._cars[0].arrives * 1000)
        for seconds, since in (
            (self.aligned_seconds, 0.0),
            (self.sample_seconds if self.began is not None else 0, self.began or 0.0),
        ):
            if seconds:
                step, first = seconds * 1000, round(since * 1000)
                moments.append(((self._ms - first) // step + 1) * step + first)
        # A moment that has passed, as of a car that stood there before the start, is now.
        soonest = min(moments, default=NEVER)
        return soonest if soonest == NEVER else max(round(soonest), self._ms)

    def _happens(self) -> Iterator[Event]:
        at = self._ms / 1000
        if self.aligned_seconds and self._ms % (self.aligned_seconds * 1000) == 0:
            yield self._sample(at, True)
        elif (
            self.sample_seconds
            and self.began is not None
            and (self._ms - round(self.began * 1000)) % (self.sample_seconds * 1000) == 0
        ):
            yield self._sample(at, False)
        if self.car is not None and self.car.leaves <= at:
            if self.session is not None:
                yield Ended(at, self.session, self.registers(at)[0], "EVDisconnected")
            self._end_session()
            self.car, self._denied = None, False
            yield from self._settle()
        while self.car is None and self._cars and self._cars[0].arrives <= at:
            car = self._cars.pop(0)
            if car.leaves > at:
                self.car, self.session, self.began = car, self._sessions, at
                self._sessions += 1
                self._taken = 0
                yield Turned(at, "Preparing")
                yield Began(at, self.session, self.registers(at)[0])
        yield from self._settle()

    @property
    def offered_w(self) -> int:
        """The most that a car may draw now."""
        return self.cable_w if self.limit_w is None else min(self.cable_w, self.limit_w)

    def _sample(self, at: float, aligned: bool) -> Sampled:
        return Sampled(at, self.session, self.offered_w, aligned)

    def _end_session(self) -> None:
        self.session = self.began = None
        self.profiles = tuple(one for one in self.profiles if one.purpose != TX)

    def _settle(self) -> Iterator[Event]:
        """Power and status as they follow from car and limits."""
        at = self._ms / 1000
        self.limit_w, change = composite(self.profiles, at, self.began)
        self._change = max(change, at + 0.001)
        watts = 0
        if self.car is None:
            status = "Available"
        elif self._denied:
            status = "Finishing"
        elif self._taken >= self.car.needs_wh * _MS_PER_HOUR:
            status = "SuspendedEV"
        else:
            watts = power(self.limit_w, self.car.max_w, self.cable_w)
            status = "Charging" if watts else "SuspendedEVSE"
        if watts != self._power_w:
            since, energy, before = self._history[-1]
            if len(self._history) >= MAX_HISTORY:
                self._history = self._history[MAX_HISTORY // 2 :]
            energy += before * (self._ms - since)
            if status == "SuspendedEV":
                # The last millisecond took less than it could have.
                assert self.car is not None
                needs = self.car.needs_wh * _MS_PER_HOUR
                energy -= self._taken - needs
                self._taken = needs
            self._history.append((self._ms, energy, watts))
            self._power_w = watts
        if status != self.status:
            self.status = status
            yield Turned(at, status)
