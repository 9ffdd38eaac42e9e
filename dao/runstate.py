# SPDX-License-Identifier: Apache-2.0
"""What a running demo tells whoever watches it: one small JSON file, replaced whole.

What stands on chain is not repeated here; the dashboard reads it from the index of events. This
file carries what the chain does not say: where the loop is, what the forecast and the power flow
found, and the tariffs that trade is compared with.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from dao.errors import BadUse, CheckFailed
from dao.paths import ensure_parent, run_state_path
from dao.tariffs import Tariffs

VERSION = 1


class Step(StrEnum):
    """Where a day stands. `setup` comes before the first day, `finished` after the last."""

    SETUP = "setup"
    FORECAST = "forecast"
    VOTE = "vote"
    EXECUTION = "execution"
    GATE = "gate"
    DELIVERY = "delivery"
    RECEIPTS = "receipts"
    SETTLEMENT = "settlement"
    SCORE = "score"
    FINISHED = "finished"


class Outcome(StrEnum):
    """A proposal's state, named as in OpenZeppelin's Governor."""

    PENDING = "pending"
    ACTIVE = "active"
    CANCELED = "canceled"
    DEFEATED = "defeated"
    SUCCEEDED = "succeeded"
    QUEUED = "queued"
    EXPIRED = "expired"
    EXECUTED = "executed"


@dataclass(frozen=True)
class Work:
    """Preparation under way: `done` of `total` units of `what` ("Committing the history")."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Window:
    """Part of a battery schedule: slots at one power in W, positive charges."""

    first_slot: int
    slots: int
    power_w: int


@dataclass(frozen=True)
class ForecastDay:
    """A day's committed forecast of the zone's net energy (positive draws): Wh per slot, one value
    for each slot from `first_slot`. `loss` and `naive_loss` are the scores once there is one."""

    first_slot: int
    q10: tuple[int, ...]
    q50: tuple[int, ...]
    q90: tuple[int, ...]
    loss: int | None = None
    naive_loss: int | None = None


@dataclass(frozen=True)
class Proposal:
    """A battery schedule put to the vote, with its evidence.

    `id` is the governor's number as decimal text; `first_slot` the day's first slot; voltages are
    per unit, `limit` the planning limit that the worst one breaks. The curves hold the highest
    voltage in each slot of the day and may be empty. Votes and `quorum` count members;
    `deadline` is the end of the vote, unix seconds of chain time. `under_policy`: it takes effect
    unless `quorum` members object.
    """

    id: str
    title: str
    summary: str
    first_slot: int
    windows: tuple[Window, ...]
    worst_voltage_before: float
    worst_voltage_after: float
    slots_over_before: int
    slots_over_after: int
    limit: float
    state: str
    votes_for: int
    votes_against: int
    votes_abstain: int
    quorum: int
    deadline: int
    voltage_before: tuple[float, ...] = ()
    voltage_after: tuple[float, ...] = ()
    under_policy: bool = False


@dataclass(frozen=True)
class Money:
    """The run's money so far in µ€, as the run itself counts it (energy really taken)."""

    traded_wh: int
    seller_gain: int
    buyer_saving: int
    grid_fees: int


@dataclass(frozen=True)
class RunState:
    """One run. `sim_time` is chain time in unix seconds; `day` counts from 1, 0 before the first;
    `zone` is the SimBench code and `zone_id` its number on chain; `rpc` and `relay` are the URLs of
    the node and of the relay's API, where there is one."""

    zone: str
    zone_id: int
    seed: int
    start: str
    days: int
    day: int
    step: str
    sim_time: int
    tariffs: Tariffs
    rpc: str
    relay: str | None = None
    homes: int = 0
    prosumers: int = 0
    work: Work | None = None
    proposals: tuple[Proposal, ...] = ()
    forecasts: tuple[ForecastDay, ...] = ()
    money: Money | None = None
    finished: bool = False
    version: int = VERSION

    def with_proposal(self, proposal: Proposal) -> RunState:
        """This state with `proposal` added, or in place of the one with its id."""
        others = [one for one in self.proposals if one.id != proposal.id]
        kept = sorted([*others, proposal], key=lambda one: (one.first_slot, one.id))
        return replace(self, proposals=tuple(kept))

    def with_forecast(self, forecast: ForecastDay) -> RunState:
        """This state with `forecast` added, or in place of the one of its day."""
        others = [one for one in self.forecasts if one.first_slot != forecast.first_slot]
        kept = sorted([*others, forecast], key=lambda one: one.first_slot)
        return replace(self, forecasts=tuple(kept))


def write_run_state(state: RunState, path: Path | None = None) -> Path:
    """Replace the file with `state` in one step: a reader sees the old one or the new one."""
    target = ensure_parent(path or run_state_path())
    handle, part = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            json.dump(asdict(state), out, separators=(",", ":"))
        Path(part).replace(target)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    return target


def read_run_state(path: Path | None = None) -> RunState | None:
    """The state last written, None where none was. Raises CheckFailed on a file of another make."""
    source = path or run_state_path()
    try:
        text = source.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckFailed(f"cannot read {source}: {error.strerror}") from error
    try:
        data = json.loads(text)
        if data["version"] != VERSION:
            raise CheckFailed(f"{source} was written by another version; start the demo again")
        return RunState(
            **_known(
                RunState,
                data,
                tariffs=Tariffs(**data["tariffs"]),
                work=Work(**data["work"]) if data.get("work") else None,
                money=Money(**data["money"]) if data.get("money") else None,
                proposals=tuple(_proposal(one) for one in data.get("proposals", ())),
                forecasts=tuple(_forecast(one) for one in data.get("forecasts", ())),
            )
        )
    except (BadUse, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckFailed(f"{source} is not a run's state: {error}") from error


def _known(kind: type[Any], data: Mapping[str, Any], **made: Any) -> dict[str, Any]:
    """The fields of `kind` in `data`, with those in `made` already built."""
    names = {one.name for one in fields(kind)}
    return {**{name: value for name, value in data.items() if name in names}, **made}


def _proposal(data: Mapping[str, Any]) -> Proposal:
    return Proposal(
        **_known(
            Proposal,
            data,
            windows=tuple(Window(**one) for one in data["windows"]),
            voltage_before=tuple(data.get("voltage_before", ())),
            voltage_after=tuple(data.get("voltage_after", ())),
        )
    )


def _forecast(data: Mapping[str, Any]) -> ForecastDay:
    quantiles = {name: tuple(data[name]) for name in ("q10", "q50", "q90")}
    if len({len(values) for values in quantiles.values()}) != 1:
        raise ValueError("the quantiles of a forecast differ in length")
    return ForecastDay(**_known(ForecastDay, data, **quantiles))
