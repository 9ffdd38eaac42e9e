# SPDX-License-Identifier: Apache-2.0
"""Taking steps so that one that fails stays alone: it is told, left in peace for a while, and tried
again, while the others go on. What the steps are is the duties' business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from dao.chain import ContractReverted, Receipt, is_away
from dao.errors import CheckFailed, GridCommonsError
from dao.keeper.context import Action, Context, Outcome, Setback
from dao.keeper.sending import GasTooDear

FIRST_RETRY = 30
"""Seconds after which what failed is tried again; twice as long after every further failure."""
LAST_RETRY = 900
"""Never longer than the shortest period in which a session can be cleared."""


class Open(Protocol):
    """What a watch finds."""

    @property
    def about(self) -> dict[str, int | str]:
        """How a log names it."""
        ...


Found = TypeVar("Found", bound=Open)


@dataclass(frozen=True)
class Task:
    """One step that may be due.

    do: takes the step and returns a detail; it adds to `sent` what it sent, and sends nothing
    where nothing is left to do. look: reads the state that the step moves, `before` as it was
    found. seen: what the outcome depends on; until it changes, what did not succeed has time.
    patient: a refusal is no failure but a reason to wait.
    """

    about: Mapping[str, int | str]
    do: Callable[[list[Receipt]], str]
    before: object
    look: Callable[[], object]
    seen: object = None
    patient: bool = False


def carry(context: Context, now: int, duty: str, tasks: Iterable[Task]) -> list[Action]:
    """Take the steps, one after another; what goes wrong with one stays with it.

    Raises CheckFailed only where no step can succeed: the node is away, or gas is too dear.
    """
    actions: list[Action] = []
    for task in tasks:
        if context.stopping():
            break
        key = (duty, *task.about.values())
        last = context.setbacks.get(key)
        if last is not None and last.seen == task.seen and now < last.again:
            continue
        sent: list[Receipt] = []
        gas = context.chain.gas_used
        try:
            outcome, detail = _outcome(task, sent)
        except CheckFailed as halt:
            if sent:
                _report(context, now, duty, task, Outcome.DONE, f"in part: {told(halt)}", sent, gas)
            raise
        if outcome in (Outcome.DONE, Outcome.LOST):
            context.setbacks.pop(key, None)
        else:
            failures, pause = 0, LAST_RETRY if outcome is Outcome.WAITING else FIRST_RETRY
            if outcome is Outcome.FAILED:
                failures = 1 if last is None else last.failures + 1
                pause = min(FIRST_RETRY << min(failures - 1, 8), LAST_RETRY)
            context.setbacks[key] = Setback(task.seen, detail, now + pause, failures)
        told_before = outcome is Outcome.WAITING and last is not None and last.detail == detail
        if outcome is not None and not told_before:
            actions.append(_report(context, now, duty, task, outcome, detail, sent, gas))
    return actions


def _report(
    context: Context,
    now: int,
    duty: str,
    task: Task,
    outcome: Outcome,
    detail: str,
    sent: Sequence[Receipt],
    gas_before: int,
) -> Action:
    gas = context.chain.gas_used - gas_before
    transactions = tuple(receipt.tx for receipt in sent)
    action = Action(now, duty, task.about, outcome, detail, transactions, gas)
    context.report(action)
    return action


def _outcome(task: Task, sent: list[Receipt]) -> tuple[Outcome | None, str]:
    """Take one step. None: there was nothing to do."""
    try:
        detail = task.do(sent)
    except GasTooDear:
        raise
    except ContractReverted as refused:
        if sent:  # a part is done; the next look shows what is left
            return Outcome.DONE, f"in part: {refused.reason}"
        if task.look() != task.before:
            return Outcome.LOST, "somebody else was faster"
        return (Outcome.WAITING if task.patient else Outcome.FAILED), refused.reason
    except Exception as error:
        # Whatever a stranger's order or receipt may bring about here: the other sessions go on.
        if is_away(error):
            raise
        return Outcome.FAILED, told(error)
    return (Outcome.DONE if sent else None), detail


def told(error: Exception) -> str:
    """An error in one line; one that is no error of ours with its name."""
    text = str(error) if isinstance(error, GridCommonsError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def planned(found: Iterable[Found], plan: Callable[[Found], Iterable[Task]]) -> Iterator[Task]:
    """The steps that are due for each of what was found; where finding them out fails, that
    failure is the step."""
    for one in found:
        try:
            tasks = list(plan(one))
        except Exception as error:
            if is_away(error):
                raise
            tasks = [failing(one.about, error)]
        yield from tasks


def failing(about: Mapping[str, int | str], error: Exception) -> Task:
    """A step that can only fail: how an error met on the way to it is told and given time."""

    def do(sent: list[Receipt]) -> str:
        raise error

    return Task(about, do, None, lambda: None)
