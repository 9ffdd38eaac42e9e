# SPDX-License-Identifier: Apache-2.0
"""Where the run stands: its day, its step, and what that step means."""

from __future__ import annotations

from dataclasses import dataclass

from dao.runstate import RunState, Step
from dashboard.i18n import N_, _, formats, ngettext
from dashboard.services.program_words import in_words

TIMETABLE: tuple[tuple[Step, str, str], ...] = (
    (
        Step.FORECAST,
        N_("Forecast"),
        N_("Tomorrow's net energy is forecast and committed on chain."),
    ),
    (Step.VOTE, N_("Vote"), N_("Members decide on what would keep the grid within its limits.")),
    (Step.EXECUTION, N_("Execution"), N_("The timelock carries out what was accepted.")),
    (Step.GATE, N_("Gate"), N_("Orders are in; each quarter-hour gets one price.")),
    (
        Step.DELIVERY,
        N_("Delivery"),
        N_("Homes make and use energy; their meters sign every reading."),
    ),
    (Step.RECEIPTS, N_("Receipts"), N_("Meters prove what the sellers delivered.")),
    (
        Step.SETTLEMENT,
        N_("Settlement"),
        N_("Sellers are paid, buyers get back what was not delivered."),
    ),
    (
        Step.SCORE,
        N_("Score"),
        N_("The contract measures the forecast against the published totals."),
    ),
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
    fmt = formats()
    current = next((i for i, one in enumerate(TIMETABLE) if one[0] == state.step), None)
    over = state.finished or state.step == Step.FINISHED
    steps = tuple(
        StepView(name=_(one[1]), mark=_mark(index, current, over))
        for index, one in enumerate(TIMETABLE)
    )
    headline, clock = fmt.date(state.sim_time, "full"), fmt.time(state.sim_time)
    if over:
        status, tone = _("Finished"), "calm"
        sentence = ngettext(
            "The one day is settled and scored.",
            "All {number} days are settled and scored.",
            state.days,
        ).format(number=state.days)
    elif current is None:
        status, tone = _("Preparing"), "open"
        headline, clock = _("Preparing the neighbourhood"), ""
        sentence = in_words(state.work.what) if state.work else _("The run is being set up.")
    else:
        status, tone = _("Live"), "good"
        sentence = _(TIMETABLE[current][2])
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
            ngettext(
                "{number} home, {prosumers} with solar or a battery",
                "{number} homes, {prosumers} with solar or a battery",
                state.homes,
            ).format(number=formats().number(state.homes), prosumers=state.prosumers)
        )
    if state.day and not over:
        parts.append(_("day {day} of {days}").format(day=state.day, days=state.days))
    return " · ".join(parts)


@dataclass(frozen=True)
class SkillView:
    """The forecast's record: days scored, and its loss over the naive's (below 1 is better)."""

    days: int
    ratio: float | None

    @property
    def words(self) -> str:
        if self.ratio is None:
            return _("Scored three days after each day, when its readings are final.")
        better = 1 - self.ratio
        words = (
            ngettext(
                "{share} better than “same as last week” over {number} scored day.",
                "{share} better than “same as last week” over {number} scored days.",
                self.days,
            )
            if better >= 0
            else ngettext(
                "{share} worse than “same as last week” over {number} scored day.",
                "{share} worse than “same as last week” over {number} scored days.",
                self.days,
            )
        )
        return words.format(share=formats().percent(abs(better)), number=self.days)


def skill_view(state: RunState) -> SkillView:
    """Sum of losses over sum of naive losses, over the scored days."""
    scored = [
        (f.loss, f.naive_loss) for f in state.forecasts if f.loss is not None and f.naive_loss
    ]
    naive = sum(one[1] or 0 for one in scored)
    ratio = sum(one[0] or 0 for one in scored) / naive if naive else None
    return SkillView(days=len(scored), ratio=ratio)
