# SPDX-License-Identifier: Apache-2.0
"""The keeper's loop: all duties, again and again, until it is told to stop.

It keeps one duty's defect from the others, waits for a node that is away, and says when the money
for gas runs low. What the duties are is not known here; the clock and the waiting come from the
caller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dao.chain import is_away
from dao.errors import CheckFailed
from dao.keeper.context import Action, Context, Duty, Outcome, Setback
from dao.keeper.sending import GasTooDear
from dao.keeper.steps import carry, failing, told
from dao.parameters import DAY, KEYS

POLL = 15.0
"""Seconds between two looks: about one block of Ethereum's."""
LONGEST_PAUSE = 300.0
"""Seconds between two looks at most, while the node is away or gas too dear."""
WARN_DAYS = 7.0
"""Time enough to send money to the account."""
SESSION_GAS = 5_000_000
"""Gas of a session of 200 orders, posted, cleared and settled, at the figures of the README."""

_MONEY = ("money",)


@dataclass
class Spending:
    """The gas spent in the last day, as this process has seen it."""

    _entries: deque[tuple[int, int]] = field(default_factory=deque)

    def add(self, now: int, gas: int) -> None:
        """Gas spent at a time, unix seconds."""
        if gas:
            self._entries.append((now, gas))
        while self._entries and self._entries[0][0] <= now - DAY:
            self._entries.popleft()

    def gas(self) -> int:
        """Gas of the last day."""
        return sum(gas for _, gas in self._entries)


def run(
    context: Context,
    duties: Sequence[Duty],
    *,
    clock: Callable[[], int],
    wait: Callable[[float], bool],
    poll: float = POLL,
    once: bool = False,
    warn_days: float = WARN_DAYS,
    after_tick: Callable[[], None] = lambda: None,
) -> bool:
    """Carry out what is due until `wait` says to stop, or once.

    clock: chain time, unix seconds. wait: sleeps for so many seconds and says whether to stop.
    warn_days: how many days the money for gas should last. after_tick: called when all duties were
    gone through. Returns whether the last look did something, and nothing failed in it. What keeps
    all steps from succeeding (the node is away, gas is too dear) is reported and waited out; with
    `once`, or at the very start, it raises CheckFailed.
    """
    spending = Spending()
    now, pause, good = clock(), poll, False

    def money(context: Context, now: int) -> list[Action]:
        return check_money(context, now, spending.gas(), warn_days)

    while True:
        try:
            now = clock()
            actions = tick(context, (*duties, money), now)
            after_tick()
            spending.add(now, sum(action.gas for action in actions))
            outcomes = {action.outcome for action in actions}
            good = bool(outcomes & {Outcome.DONE, Outcome.LOST}) and Outcome.FAILED not in outcomes
            if pause != poll:
                context.report(Action(now, "keeper", {}, Outcome.DONE, "going on"))
            pause = poll
        except Exception as error:  # a node behind a proxy may answer anything
            if once:
                raise CheckFailed(told(error)) from error
            pause = min(2 * pause, LONGEST_PAUSE)
            detail = f"{told(error)}; trying again in {pause:.0f} s"
            context.report(Action(now, "keeper", {}, Outcome.WAITING, detail))
        if once or wait(pause):
            return good


def tick(context: Context, duties: Sequence[Duty], now: int) -> list[Action]:
    """All duties once; what breaks one of them does not keep the next from its turn.

    Raises CheckFailed where the node is away or gas too dear.
    """
    done: list[Action] = []
    for duty in duties:
        try:
            done += duty(context, now)
        except Exception as error:
            if is_away(error) or isinstance(error, GasTooDear):
                raise
            done += carry(context, now, duty.__name__, [failing({}, error)])
    return done


def check_money(context: Context, now: int, gas: int, warn_days: float) -> list[Action]:
    """A warning, once a day, where the account's money lasts for less than `warn_days` days.

    A day is taken to cost what the last one did (`gas`), and at least what its sessions cost where
    200 orders are posted in each, at the present price of gas.
    """
    last = context.setbacks.get(_MONEY)
    if last is not None and now < last.again:
        return []
    zones = len({session.zone for session in context.sessions.open()})
    sessions = int(context.deployment["GridParameters"].call("value", KEYS["sessions_per_day"]))
    gas = max(gas, SESSION_GAS * sessions * max(zones, 1))
    balance = int(context.chain.rpc("eth_getBalance", context.account.address, "latest"), 16)
    price = int(context.chain.rpc("eth_gasPrice"), 16)
    days = balance / max(gas * price, 1)
    if days >= warn_days:
        return []
    detail = (
        f"{context.account.address} holds {balance / 1e18:.6f} of the chain's coin: gas for "
        f"{days:.1f} days"
    )
    context.setbacks[_MONEY] = Setback(None, detail, now + DAY, 0)
    action = Action(now, "money", {}, Outcome.WARNING, detail)
    context.report(action)
    return [action]
