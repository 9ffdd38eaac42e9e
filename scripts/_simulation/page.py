# SPDX-License-Identifier: Apache-2.0
"""Tells the page what the loop is doing: the run's state file, and the index of chain events."""

from __future__ import annotations

from dao import runstate
from dao.governance import State
from dao.index import Indexer
from dao.parameters import COMMUNITY_BATTERY
from dao.paths import index_path
from dao.runstate import ForecastDay, Outcome, RunState, Step, Window, write_run_state
from forecasting.grid import GridLimits
from scripts._simulation.loop import Loop
from scripts._simulation.records import Decision
from scripts._simulation.settings import ZONE, Settings
from scripts._simulation.world import World

# The loop's steps under the names of the day's eight stages.
_STAGES = {
    "forecast": Step.FORECAST,
    "reveal": Step.FORECAST,
    "proposal": Step.VOTE,
    "vote": Step.VOTE,
    "count": Step.VOTE,
    "execution": Step.EXECUTION,
    "orders": Step.GATE,
    "clearing": Step.DELIVERY,
    "readings": Step.RECEIPTS,
    "settlement": Step.SETTLEMENT,
    "grid": Step.SETTLEMENT,
    "score": Step.SCORE,
}
_OUTCOMES = {state: Outcome(state.name.lower()) for state in State}


class Page:
    """Writes the state of one run. Use `preparing` until the world stands, then `attach`."""

    def __init__(self, settings: Settings, rpc: str) -> None:
        self._settings = settings
        self._rpc = rpc
        self.relay: str | None = None
        """Where the relay's API is, once there is one."""
        self._indexer: Indexer | None = None
        self._world: World | None = None

    def preparing(self, what: str, done: int, total: int) -> None:
        """Show how far the preparation is."""
        write_run_state(
            RunState(
                zone=self._settings.zone_code,
                zone_id=ZONE,
                seed=self._settings.seed,
                start=self._settings.start.isoformat(),
                days=self._settings.days,
                day=0,
                step=Step.SETUP,
                sim_time=self._settings.genesis,
                tariffs=self._settings.tariffs,
                rpc=self._rpc,
                work=runstate.Work(what, done, total),
            )
        )

    def attach(self, world: World) -> None:
        """From here on the chain's events are indexed too."""
        self._world = world
        self._indexer = Indexer(
            self._rpc,
            world.deployment.index_contracts(),
            index_path(),
            first_block=world.deployment.first_block,
        )
        self._indexer.sync()

    def publish(self, loop: Loop, step: str, finished: bool = False) -> None:
        """Write down where the loop is, after the step called `step`."""
        assert self._world is not None
        assert self._indexer is not None
        self._indexer.sync()
        homes = self._world.profiles.homes
        money = loop.money
        decisions = sorted(loop.decisions.values(), key=lambda d: d.first_slot)
        write_run_state(
            RunState(
                zone=self._settings.zone_code,
                zone_id=ZONE,
                seed=self._settings.seed,
                start=self._settings.start.isoformat(),
                # It goes on where the days that were asked for end.
                days=max(self._settings.days, loop.day + 1),
                day=loop.day + 1,
                step=Step.FINISHED if finished else _STAGES[step],
                sim_time=self._world.chain.now(),
                tariffs=self._settings.tariffs,
                rpc=self._rpc,
                relay=self.relay,
                homes=len(homes),
                prosumers=sum(h.has_solar or h.has_battery for h in homes),
                proposals=tuple(
                    _proposal(d, self._settings.policy) for d in decisions if d.proposal is not None
                ),
                forecasts=tuple(
                    ForecastDay(
                        first_slot=d.first_slot,
                        q10=tuple(d.forecast.net_q10.tolist()),
                        q50=tuple(d.forecast.net_q50.tolist()),
                        q90=tuple(d.forecast.net_q90.tolist()),
                        loss=d.loss,
                        naive_loss=d.naive_loss,
                    )
                    for d in decisions
                ),
                money=runstate.Money(
                    traded_wh=money.traded_wh,
                    seller_gain=money.seller_gain,
                    buyer_saving=money.buyer_saving,
                    grid_fees=money.grid_fees,
                ),
                finished=finished,
            )
        )


def _proposal(decision: Decision, under_policy: bool) -> runstate.Proposal:
    assert decision.proposal is not None
    assert decision.plan is not None
    assert decision.put is not None
    before, after = decision.plan.before, decision.plan.after
    windows = decision.plan.windows(COMMUNITY_BATTERY)
    against, favour, abstain = decision.votes
    return runstate.Proposal(
        id=str(decision.proposal.id),
        title=decision.put.title,
        summary=decision.put.summary,
        first_slot=decision.first_slot,
        windows=tuple(Window(w.first_slot, w.slots, w.value) for w in windows),
        # What nine of ten courses of the day stay below.
        worst_voltage_before=before.limits["voltage_max"].worst[2],
        worst_voltage_after=after.limits["voltage_max"].worst[2],
        slots_over_before=before.quantiles[2],
        slots_over_after=after.quantiles[2],
        limit=GridLimits().voltage_max,
        state=_OUTCOMES[decision.state or State.PENDING],
        votes_for=favour,
        votes_against=against,
        votes_abstain=abstain,
        quorum=decision.quorum,
        deadline=decision.proposal.deadline,
        voltage_before=decision.voltage_before,
        voltage_after=decision.voltage_after,
        under_policy=under_policy,
    )
