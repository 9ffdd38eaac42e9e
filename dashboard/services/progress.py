# SPDX-License-Identifier: Apache-2.0
"""Where the run stands: its day, its step, and what that step means."""

from __future__ import annotations

from dataclasses import dataclass

from dao.runstate import RunState, Step
from dashboard.services.units import count, local_time

TIMETABLE: tuple[tuple[Step, str, str], ...] = (
    (Step.FORECAST, "Forecast", "Tomorrow's net energy is forecast and committed on chain."),
    (Step.VOTE, "Vote", "Members decide on what would keep the grid within its limits."),
    (Step.EXECUTION, "Execution", "The timelock carries out what was accepted."),
    (Step.GATE, "Gate", "Orders are in; each quarter-hour gets one price."),
    (Step.DELIVERY, "Delivery", "Homes make and use energy; their meters sign every reading."),
    (Step.RECEIPTS, "Receipts", "Meters prove what the sellers delivered."),
    (Step.SETTLEMENT, "Settlement", "Sellers are paid, buyers get back what was not delivered."),
    (Step.SCORE, "Score", "The contract measures the forecast against the published totals."),
)
"""The steps of a day, in order: step, name, what happens."""


@dataclass(frozen=True)
class StepView:
    """One step of the timetable: `mark` is done, now or next."""

    name: str
    mark: str


@dataclass(frozen=True)
class ProgressView:
    """`headline` and `clock` are simulated local time, once it runs; `fraction` is the part of the
    run (or of the preparation) that is over."""

    headline: str
    clock: str
    status: str
    tone: str
    sentence: str
    steps: tuple[StepView, ...]
    fraction: float
    facts: str


def progress_view(state: RunState) -> ProgressView:
    """The run's progress in words."""
    moment = local_time(state.sim_time)
    current = next((i for i, one in enumerate(TIMETABLE) if one[0] == state.step), None)
    over = state.finished or state.step == Step.FINISHED
    steps = tuple(
        StepView(name=name, mark=_mark(index, current, over))
        for index, (_, name, _) in enumerate(TIMETABLE)
    )
    headline, clock = f"{moment:%A}, {moment.day} {moment:%B %Y}", f"{moment:%H:%M}"
    if over:
        status, tone = "Finished", "calm"
        sentence = f"All {count(state.days, 'day', 'days')} are settled and scored."
    elif current is None:
        status, tone = "Preparing", "open"
        headline, clock = "Preparing the neighbourhood", ""
        sentence = state.work.what if state.work else "The run is being set up."
    else:
        status, tone = "Live", "good"
        sentence = TIMETABLE[current][2]
    return ProgressView(
        headline=headline,
        clock=clock,
        status=status,
        tone=tone,
        sentence=sentence,
        steps=steps,
        fraction=_fraction(state, current, over),
        facts=_facts(state, over),
    )


def _mark(index: int, current: int | None, over: bool) -> str:
    if over:
        return "done"
    if current is None or index > current:
        return "next"
    return "now" if index == current else "done"


def _fraction(state: RunState, current: int | None, over: bool) -> float:
    if over:
        return 1.0
    if current is None:
        work = state.work
        return work.done / work.total if work and work.total else 0.0
    part = (current + 0.5) / len(TIMETABLE)
    return min(max((state.day - 1 + part) / state.days, 0.0), 1.0) if state.days else 0.0


def _facts(state: RunState, over: bool) -> str:
    parts = []
    if state.homes:
        parts.append(
            f"{count(state.homes, 'home', 'homes')}, {state.prosumers} with solar or a battery"
        )
    if state.day and not over:
        parts.append(f"day {state.day} of {state.days}")
    return " · ".join(parts)


@dataclass(frozen=True)
class SkillView:
    """The forecast's record: days scored, and its loss over the naive's (below 1 is better)."""

    days: int
    ratio: float | None

    @property
    def words(self) -> str:
        if self.ratio is None:
            return "Scored three days after each day, when its readings are final."
        better = (1 - self.ratio) * 100
        side = "better" if better >= 0 else "worse"
        return (
            f"{abs(better):.0f} % {side} than “same as last week” "
            f"over {count(self.days, 'scored day', 'scored days')}."
        )


def skill_view(state: RunState) -> SkillView:
    """Sum of losses over sum of naive losses, over the scored days."""
    scored = [
        (f.loss, f.naive_loss) for f in state.forecasts if f.loss is not None and f.naive_loss
    ]
    naive = sum(one[1] or 0 for one in scored)
    ratio = sum(one[0] or 0 for one in scored) / naive if naive else None
    return SkillView(days=len(scored), ratio=ratio)
