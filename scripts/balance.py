# SPDX-License-Identifier: Apache-2.0
"""`gridcommons balance`: plan what keeps a zone's grid within its limits, and see what it did.

Only the commands live here; plans and reports are `forecasting.balancing`'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dao.errors import BadUse
from scripts._balance_zone import Zone, checked_forecast, price_rules, read, zone_options
from scripts._common import (
    deployment_option,
    handles_errors,
    json_option,
    open_chain,
    read_input,
)

if TYPE_CHECKING:
    from forecasting.balancing.route import Policy

_LARGEST_PLAN = 4_000_000


@click.group(name="balance")
def cli() -> None:
    """Plan what keeps a zone's grid within its limits, and see what a plan did."""


@cli.command()
@click.argument("file", metavar="EVIDENCE")
@zone_options
@click.option(
    "--stored",
    "stored_wh",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="What the community battery holds when the day begins, Wh.",
)
@click.option("--called/--no-called", default=True, help="Whether people's devices may be called.")
@click.option("--prices/--no-prices", default=True, help="Whether a price window may be offered.")
@click.option(
    "--tariffs",
    "tariffs_file",
    type=click.Path(path_type=Path),
    help="TOML file with feed_in, retail and grid_fee in µ€ per Wh.",
)
@click.option("--median", is_flag=True, help="Plan on the median alone, to see what courses add.")
@click.option(
    "--operator",
    "lake",
    type=click.Path(path_type=Path),
    metavar="LAKE",
    help="The operator's own view: spread the courses as the homes' readings of the week before "
    "are. No proposal comes out of it.",
)
@click.option(
    "--network",
    help="Look up standing policies and price rules: Ape's name of a network, or the URL of a "
    "local node.",
)
@click.option("--account", help="Alias of an Ape account that a network is opened with.")
@deployment_option
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the document here.")
@click.option(
    "--calls", type=click.Path(path_type=Path), help="Write the calls for `dao propose` here."
)
@click.option("--chart", type=click.Path(path_type=Path), help="Draw the day (PNG or SVG).")
@json_option
@handles_errors
def plan(
    file: str,
    code: str,
    seed: int,
    battery_text: str | None,
    stored_wh: int,
    called: bool,
    prices: bool,
    tariffs_file: Path | None,
    median: bool,
    lake: Path | None,
    network: str | None,
    account: str | None,
    deployment_file: Path | None,
    output: Path | None,
    calls: Path | None,
    chart: Path | None,
    as_json: bool,
) -> None:
    """Plan the day that an evidence file forecasts.

    The forecast is recomputed from EVIDENCE first ("-" reads standard input). Ends with 1 where the
    evidence does not hold, with 2 for bad use; a day on which nothing is to be done ends with 0.
    """
    if network is None and (account is not None or deployment_file is not None):
        raise BadUse("--account and --deployment say where on a chain to look: --network is needed")
    if lake is not None and calls is not None:
        raise BadUse("the operator's own view makes no proposal: leave --calls or --operator out")
    for target in (output, calls, chart):
        _check_target(target)
    if chart is not None and chart.suffix.lower() not in (".png", ".svg"):
        raise BadUse(f"cannot write {chart}: a chart is .png or .svg")
    from dao.tariffs import load_tariffs
    from forecasting.balancing import courses_of, median_of
    from forecasting.balancing import plan as plan_of
    from forecasting.balancing.operator import METHOD, spread_as_measured
    from forecasting.balancing.proposal import proposal_of
    from forecasting.balancing.route import route

    # Mistakes are told before seconds are spent on the forecast.
    tariffs = load_tariffs(tariffs_file)
    evidence = read(file)
    zone = Zone(code, seed, battery_text, stored_wh)
    readings = None if lake is None else zone.week_before(lake, evidence)
    policies: list[Policy] = []
    rules = price_rules(None, tariffs, zone.shares)
    if network is not None:
        from dao import deployment as deploying
        from dao.paths import deployment_path
        from forecasting.balancing.route import read_policies

        with open_chain(network, account) as chain:
            deployed = deploying.read(chain, deployment_file or deployment_path())
            for name in ("GridParameters", "StandingPolicies"):
                if name not in deployed.contracts:
                    raise BadUse(f"the deployment names no {name}")
            rules = price_rules(deployed, tariffs, zone.shares)
            policies = read_policies(deployed["StandingPolicies"])
    forecast = checked_forecast(evidence)
    courses = median_of(forecast) if median else courses_of(forecast, evidence.totals)
    scenarios, buses = courses.spread(zone.shares), zone.shares.buses
    if readings is not None:
        scenarios, buses = spread_as_measured(courses, *readings), zone.buses
    found = plan_of(
        scenarios,
        buses,
        evidence.first_slot,
        zone.grid,
        zone.battery,
        flexibility=zone.flexibility if called else None,
        prices=rules if prices else None,
        stored_wh=stored_wh,
    )
    values = {7: rules.fee.value, 5: rules.band_min.value, 6: rules.band_max.value}
    proposal = proposal_of(
        found,
        zone=evidence.zone,
        evidence=evidence.hash,
        homes=len(zone.homes),
        method=METHOD if lake is not None else courses.method,
        routes=route(found.actions, evidence.zone, policies, values) if network else (),
        timezone=str(evidence.document["parameters"]["timezone"]),
        tariffs=tariffs,
        prices=rules if prices else None,
    )
    document = proposal.document()
    if calls is not None:
        _write(calls, json.dumps(document["calls"], indent=1) + "\n")
    if output is not None:
        _write(output, json.dumps(document, sort_keys=True) + "\n")
    if chart is not None:
        from forecasting.balancing.chart import draw

        draw(document, found.before.worst_limit, proposal.timezone, chart)
    click.echo(json.dumps(document) if as_json else "\n".join(_plan_lines(document)))


@cli.command()
@click.argument("plan_file", metavar="PLAN")
@click.argument("evidence_file", metavar="EVIDENCE")
@zone_options
@click.option(
    "--operator",
    "lake",
    type=click.Path(path_type=Path),
    metavar="LAKE",
    help="The operator's own view: from every home's committed readings.",
)
@json_option
@handles_errors
def report(
    plan_file: str,
    evidence_file: str,
    code: str,
    seed: int,
    battery_text: str | None,
    lake: Path | None,
    as_json: bool,
) -> None:
    """What a plan promised, and what came of it.

    PLAN is a document that `balance plan -o` wrote. EVIDENCE is a later forecast's evidence: it
    holds the published totals of the plan's day, and what the community battery did on it. Devices
    that people let be called are taken to have done what the plan says.
    """
    promise = _read_plan(plan_file)
    evidence = read(evidence_file)
    zone = Zone(code, seed, battery_text)
    found = zone.report(promise, evidence, lake)
    click.echo(json.dumps(found) if as_json else "\n".join(_report_lines(found)))


def _read_plan(name: str) -> dict[str, Any]:
    """A document that `balance plan` wrote. BadUse for anything else."""
    from dao.governance.calls import read_json
    from forecasting.balancing.proposal import check_document

    text = read_input(name)
    if len(text) > _LARGEST_PLAN:
        raise BadUse(f"{name} is larger than any plan ({_LARGEST_PLAN:,} bytes)")
    document = read_json(text, name)
    try:
        check_document(document)
    except BadUse as error:
        raise BadUse(f"{name}: {error}") from None
    return dict(document)


def _check_target(path: Path | None) -> None:
    if path is not None and not path.absolute().parent.is_dir():
        raise BadUse(f"cannot write {path}: there is no folder {path.parent}")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadUse(f"cannot write {path}: {error.strerror or error}") from None


def _plan_lines(document: Mapping[str, Any]) -> list[str]:
    from dao.slots import slot_start

    before, after = document["if_nothing_is_done"], document["with_the_action"]
    lines = [document["title"], "", document["summary"], ""]
    for name, risk in (("if nothing is done", before), ("with the action", after)):
        quarters = risk["quarter_hours"]
        lines.append(
            f"{name:<20} {100 * risk['probability']:5.1f} % chance, {quarters['mean']:5.1f} "
            f"quarter-hours expected ({quarters['q10']} to {quarters['q90']})"
        )
    answered = document["if_people_answer_to_prices"]
    if answered is not None:
        lines.append(
            f"{'if people answer':<20} {100 * answered['probability']:5.1f} % chance, "
            f"{answered['quarter_hours']['mean']:5.1f} quarter-hours expected "
            f"(elasticity {answered['elasticity']})"
        )
    for action in document["actions"]:
        lines += ["", f"{action['name']} (key {action['key']})"]
        lines += [
            f"  {slot_start(first):%H:%M} to {slot_start(first + slots):%H:%M} UTC  {value:>8,}"
            for first, slots, value in action["windows"]
        ]
    lines += ["", f"A typical home pays {document['bill']['each_home'] / 1e6:.4f} € for the day"]
    lines += [
        f"  {line['what']}, paid by {line['paid_by']}: {line['energy_wh'] / 1000:,.1f} kWh, "
        f"{line['cost'] / 1e6:,.2f} €"
        for line in document["bill"]["lines"]
    ]
    lines += [f"{one['lane']} lane, key {one['key']}: {one['why']}" for one in document["routes"]]
    lines.append(f"Evidence {document['evidence']}, courses: {document['courses']}")
    return lines


def _report_lines(found: Mapping[str, Any]) -> list[str]:
    from dao.slots import day_of

    over, promised = found["quarter_hours_over"], found["promised"]
    lines = [
        f"{day_of(found['first_slot'])}, {found['view']} view",
        f"{'':<24} measured  promised (80 %)",
    ]
    for name, measured, key in (
        ("without the action", over["without"], "if_nothing_is_done"),
        ("with it", over["with"], "with_the_action"),
    ):
        quarters = promised[key]
        lines.append(
            f"{name + ', quarter-hours':<24} {measured:>8}  {quarters['mean']:.1f} "
            f"({quarters['q10']} to {quarters['q90']})"
        )
    if over["only_with"]:
        lines.append(f"{over['only_with']} quarter-hours were over a limit because of it")
    lines += [
        f"key {key}: {energy['taken'] / 1000:,.1f} kWh taken, {energy['given'] / 1000:,.1f} given"
        for key, energy in found["energy_wh"].items()
    ]
    return lines


if __name__ == "__main__":
    cli()
