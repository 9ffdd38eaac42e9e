# SPDX-License-Identifier: Apache-2.0
"""`gridcommons balance`: plan what keeps a zone's grid within its limits, and see what it did.

Only the commands live here; plans and reports are `forecasting.balancing`'s.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dao.errors import BadUse, CheckFailed
from scripts._common import handles_errors, json_option, open_chain, read_input

if TYPE_CHECKING:
    from dao.deployment import Deployment
    from dao.tariffs import Tariffs
    from forecasting.balancing import Courses, Flexibility, PriceRules, Scenario, Shares
    from forecasting.balancing.route import Policy
    from forecasting.evidence import Evidence
    from forecasting.grid import BatterySpec, IntArray, ZoneGrid

_DEMO_GRID = "1-LV-rural3--2-sw"
_LARGEST_PLAN = 4_000_000


@click.group(name="balance")
def cli() -> None:
    """Plan what keeps a zone's grid within its limits, and see what a plan did."""


def zone_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options that say which grid it is and what stands in it."""
    for option in (
        click.option(
            "--grid",
            "code",
            default=_DEMO_GRID,
            show_default=True,
            help="SimBench's code of the zone's grid.",
        ),
        click.option(
            "--seed",
            type=click.IntRange(0, 2**63 - 1),
            default=1,
            show_default=True,
            help="Of the homes' scales, as the demo was run with.",
        ),
        click.option(
            "--battery",
            "battery_text",
            metavar="BUS[+BUS]:WH:W",
            help='The community battery: where its units stand, size and power; "none" for none.  '
            "[default: the demo's in its grid, else none]",
        ),
    ):
        function = option(function)
    return function


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
@click.option(
    "--deployment",
    "deployment_file",
    type=click.Path(path_type=Path),
    help="Where the addresses are written down.  [default: in the state folder]",
)
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
    from dao.tariffs import load_tariffs
    from forecasting.balancing import courses_of, median_of
    from forecasting.balancing import plan as plan_of
    from forecasting.balancing.operator import METHOD
    from forecasting.balancing.proposal import proposal_of
    from forecasting.balancing.route import route
    from forecasting.evidence import check_file, read_evidence, recompute

    tariffs = load_tariffs(tariffs_file)
    evidence = read_evidence(read_input(file), "standard input" if file == "-" else file)
    fault = next((check for check in check_file(evidence) if check.state == "failed"), None)
    if fault is not None:
        raise CheckFailed(f"the evidence does not hold: {fault.name}: {fault.detail}")
    zone = _Zone(code, seed, battery_text)
    policies: list[Policy] = []
    rules = _price_rules(None, tariffs, zone.shares)
    if network is not None:
        from dao import deployment as deploying
        from dao.paths import deployment_path
        from forecasting.balancing.route import read_policies

        with open_chain(network, account) as chain:
            deployed = deploying.read(chain, deployment_file or deployment_path())
            for name in ("GridParameters", "StandingPolicies"):
                if name not in deployed.contracts:
                    raise BadUse(f"the deployment names no {name}")
            rules = _price_rules(deployed, tariffs, zone.shares)
            policies = read_policies(deployed["StandingPolicies"])
    forecast = recompute(evidence)
    courses = median_of(forecast) if median else courses_of(forecast, evidence.totals)
    scenarios, buses = courses.spread(zone.shares), zone.shares.buses
    if lake is not None:
        scenarios, buses = zone.as_measured(courses, lake, evidence)
    if zone.battery is None and stored_wh:
        raise BadUse("--stored tells of a community battery, and there is none")
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
    from forecasting.evidence import read_evidence

    promise = _read_plan(plan_file)
    evidence = read_evidence(read_input(evidence_file), evidence_file)
    zone = _Zone(code, seed, battery_text)
    found = zone.report(promise, evidence, lake)
    click.echo(json.dumps(found) if as_json else "\n".join(_report_lines(found)))


class _Zone:
    """A grid, its homes, and what stands in it, all public."""

    def __init__(self, code: str, seed: int, battery_text: str | None) -> None:
        from dao.paths import cache_dir
        from forecasting.balancing import standard_shares
        from forecasting.balancing.flexibility import flexibility_of
        from forecasting.grid import load_grid
        from meters.profiles import zone_profiles
        from meters.simbench import load_grid as load_elements

        self.grid: ZoneGrid = load_grid(code, cache_dir())
        self.homes = zone_profiles(code, 0, 0, seed, cache_dir()).homes
        self.shares: Shares = standard_shares(self.homes)
        self.flexibility: Flexibility = flexibility_of(load_elements(code, cache_dir()), self.homes)
        self.battery = _battery(battery_text, code)

    def as_measured(
        self, courses: Courses, lake: Path, evidence: Evidence
    ) -> tuple[tuple[Scenario, ...], IntArray]:
        """The courses spread as the homes' readings of the week before the forecast are."""
        import numpy as np

        from dao.slots import SLOTS_PER_DAY
        from forecasting.balancing.operator import spread_as_measured

        end = evidence.totals.end_slot // SLOTS_PER_DAY * SLOTS_PER_DAY
        imported, exported = self._readings(lake, evidence.zone, end - 7 * SLOTS_PER_DAY, end)
        buses = np.array([home.bus for home in self.homes], dtype=np.int64)
        return spread_as_measured(courses, imported, exported), buses

    def report(self, promise: Mapping[str, Any], evidence: Evidence, lake: Path | None) -> Any:
        """The measured effect of a plan, as JSON."""
        import numpy as np

        from forecasting.balancing.actions import home_store
        from forecasting.balancing.report import Done, operator_effect, public_effect
        from forecasting.zone import ZoneTotals

        first, slots = int(promise["first_slot"]), int(promise["slots"])
        totals = evidence.totals
        if promise["zone"] != evidence.zone:
            raise BadUse(f"the plan is of zone {promise['zone']}, the evidence of {evidence.zone}")
        if not totals.first_slot <= first or first + slots > totals.end_slot:
            raise BadUse("the evidence ends before the plan's day does; take a later one")
        done = []
        battery_w = np.zeros(slots, dtype=np.int64)
        for slot, taken, given in evidence.battery_wh:
            if first <= slot < first + slots:
                battery_w[slot - first] = 4 * (taken - given)
        if battery_w.any():
            if self.battery is None:
                raise BadUse("the evidence tells of a community battery: give it with --battery")
            count = len(self.battery.buses)
            done.append(
                Done(
                    1_000,
                    battery_w,
                    self.battery.buses,
                    (1.0 / count,) * count,
                    self.battery.reactive_per_active,
                )
            )
        batteries, points = self.flexibility.home_batteries, self.flexibility.charge_points
        nobody = home_store(batteries, np.zeros((slots, len(batteries))))
        for key, buses, parts in (
            (1_002, *(() if nobody is None else (nobody.buses, nobody.parts))),
            (
                1_001,
                tuple(point.bus for point in points),
                tuple(point.rated_w / sum(p.rated_w for p in points) for point in points),
            ),
        ):
            power = promise["chart"]["power_w"].get(str(key))
            if power is not None and any(power):
                done.append(Done(key, np.array(power, dtype=np.int64), buses, parts, inside=True))
        if lake is not None:
            imported, exported = self._readings(lake, evidence.zone, first, first + slots)
            return operator_effect(
                self.grid,
                (imported - exported) * 4.0,
                [home.bus for home in self.homes],
                first,
                done,
                promise=promise,
            ).as_dict()
        part = slice(first - totals.first_slot, first - totals.first_slot + slots)
        day = ZoneTotals(first, totals.net_wh[part], totals.export_wh[part])
        return public_effect(self.grid, self.shares, day, done, promise=promise).as_dict()

    def _readings(self, lake: Path, zone: int, first: int, end: int) -> tuple[IntArray, IntArray]:
        """Import and export in Wh, (slots, homes); a value that is missing counts as 0."""
        import numpy as np

        from meters.lake import meter_series

        tables = np.zeros((2, end - first, len(self.homes)), dtype=np.int64)
        rows = 0
        for at in range(len(self.homes)):
            frame = meter_series(lake, zone, at + 1, first, end - first)
            rows += len(frame)
            where = frame["slot"].to_numpy(dtype=np.int64) - first
            for number, name in enumerate(("import_wh", "export_wh")):
                tables[number, where, at] = frame[name].fillna(0).to_numpy(dtype=np.int64)
        if not rows:
            raise CheckFailed(f"{lake} holds no readings of zone {zone} for these days")
        return tables[0], tables[1]


def _battery(text: str | None, code: str) -> BatterySpec | None:
    """A community battery from BUS[+BUS]:WH:W. BadUse says what is wrong."""
    from forecasting.balancing import DEMO_BATTERY
    from forecasting.grid import BatterySpec

    if text is None:
        return DEMO_BATTERY if code == _DEMO_GRID else None
    if text == "none":
        return None
    parts = text.split(":")
    try:
        buses = tuple(int(bus) for bus in parts[0].split("+"))
        size, power = (int(part) for part in parts[1:])
    except ValueError:
        raise BadUse(
            f"--battery {text}: expected BUS[+BUS]:WH:W like 83+121:300000:50000"
        ) from None
    return BatterySpec(buses, size, power)


def _price_rules(deployed: Deployment | None, tariffs: Tariffs, shares: Shares) -> PriceRules:
    """The price rules of the chain, or as they are first deployed with these tariffs.

    Energy is expected to cost the middle between what a seller gets and a buyer pays elsewhere.
    """
    from dao.parameters import KEYS, MARKET_RULES
    from forecasting.balancing import KeyBounds, PriceRules

    first = {rule.name: rule for rule in MARKET_RULES}
    found = {}
    for name in ("grid_fee", "price_band_min", "price_band_max"):
        if deployed is None:
            rule = first[name]
            value = tariffs.grid_fee if name == "grid_fee" else rule.initial
            found[name] = KeyBounds(value, rule.minimum, rule.maximum, rule.max_step)
        else:
            bounds = deployed["GridParameters"].call("bounds_of", KEYS[name])
            found[name] = KeyBounds(
                int(deployed["GridParameters"].call("value", KEYS[name])),
                int(bounds["minimum"]),
                int(bounds["maximum"]),
                int(bounds["max_step"]),
            )
    fee = found["grid_fee"]
    middle = max(1, (tariffs.feed_in + tariffs.retail - fee.value) // 2)
    return PriceRules(fee, found["price_band_min"], found["price_band_max"], middle, shares)


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
