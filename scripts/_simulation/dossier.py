# SPDX-License-Identifier: Apache-2.0
"""The sample dossier that a demo leaves: of the days that are closed when the run is over, and
published by the demo's collector. What goes wrong with it is told and stops nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dao.audit.anchor import publish
from dao.audit.export import Request
from dao.audit.scope import Events, Period, Scope, closing_time, rules_of
from dao.errors import GridCommonsError
from dao.index import EventReader
from dao.paths import ensure_parent, home, index_path, lake_dir, secrets_path
from dao.slots import SLOTS_PER_DAY, day_of
from forecasting.dossier import Sources, grid_rows, write_dossier
from scripts._simulation.loop import Loop
from scripts._simulation.settings import ZONE

NAME = f"dossier-zone-{ZONE}.zip"

# A voltage in pu is written in millionths.
_MICRO = 1_000_000


def leave_dossier(loop: Loop) -> str:
    """Write and publish the dossier; returns one line about it."""
    try:
        return _leave(loop)
    except GridCommonsError as error:
        return f"No audit dossier was written: {error}"


def _leave(loop: Loop) -> str:
    world = loop.world
    settings, chain = world.settings, world.chain
    rules = rules_of(EventReader(index_path()))
    now = chain.now()
    closed = [
        period
        for days in range(settings.days, 0, -1)
        if closing_time(period := Period(ZONE, settings.first_slot, days * SLOTS_PER_DAY), rules)
        <= now
    ]
    if not closed:
        return (
            "An audit dossier can be made once the first day's readings are final (docs/audit.md)."
        )
    period = closed[0]
    if closing_time(period, rules) == now:
        # What is closed at this second is past in the next one.
        chain.set_time(now + 1)
    request = Request(
        period=period,
        rpc=chain.url,
        chain_id=chain.chain_id,
        addresses={name: one.address for name, one in world.deployment.contracts.items()},
        first_block=world.deployment.first_block,
        tariffs=asdict(settings.tariffs),
        index=index_path(),
    )
    sources = Sources(
        lake=lake_dir(),
        secrets=secrets_path(),
        relay=home() / "relay.sqlite",
        grid=lambda scope, events: _grid(loop, scope, events),
    )
    path: Path = ensure_parent(home() / NAME)
    manifest = write_dossier(request, sources, path)
    publish(world.deployment["DossierAnchor"], manifest, world.offices.collector)
    begin, end = period.days
    # Without a page the node ends with the run.
    node = f" --rpc {chain.url}" if settings.living else ""
    return (
        f"The audit dossier of {begin} to {end} is {path}; check it with: "
        f"gridcommons audit verify {path}{node}"
    )


def _grid(loop: Loop, scope: Scope, _: Events) -> Iterable[tuple[Any, ...]]:
    """What the days' metered flows did to the grid, and what the plans had promised."""
    days = {}
    for report in loop.days:
        if not scope.period.has(report.first_slot):
            continue
        decision = loop.decisions.get(report.first_slot)
        plan = None if decision is None else decision.plan
        measured, resting = report.measured, report.resting
        days[day_of(report.first_slot).isoformat()] = [
            (
                "highest voltage",
                "millionths pu",
                round(float(measured.voltage_max.max()) * _MICRO),
                round(float(resting.voltage_max.max()) * _MICRO),
                None if plan is None else _voltage(plan.before),
                None if plan is None else _voltage(plan.after),
            ),
            (
                "quarter-hours over a limit",
                "slots",
                measured.slots_over_limit,
                resting.slots_over_limit,
                # What nine of ten courses of the day stay below.
                None if plan is None else int(plan.before.quantiles[2]),
                None if plan is None else int(plan.after.quantiles[2]),
            ),
        ]
    return grid_rows(days)


def _voltage(risk: Any) -> int:
    return round(float(risk.limits["voltage_max"].worst[2]) * _MICRO)
