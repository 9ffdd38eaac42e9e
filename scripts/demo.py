# SPDX-License-Identifier: Apache-2.0
"""`gridcommons demo`: the whole loop on a local chain, with or without its page."""

from __future__ import annotations

import json
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts._common import handles_errors, json_option

if TYPE_CHECKING:
    from scripts._simulation.living import Life
    from scripts._simulation.settings import Settings

PORT = 8501
# Of the node's accounts: the loop's own relay posts as another one.
RELAY = 7
DAYS_OVER = "The days are over"
"""How a demo that lives on begins to say that it does."""


@click.command(name="demo")
@click.option("--days", type=int, default=7, show_default=True, help="How many days to trade.")
@click.option(
    "--start", default="2016-06-06", show_default=True, help="First traded day, UTC, YYYY-MM-DD."
)
@click.option(
    "--zone", default="1-LV-rural3--2-sw", show_default=True, help="SimBench code of the zone."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Fixes everything random.")
@click.option("--no-proposals", is_flag=True, help="Forecast, but propose nothing.")
@click.option(
    "--voters",
    type=click.Choice(["accept", "reject"]),
    default="accept",
    show_default=True,
    help="The members' mood.",
)
@click.option(
    "--standing-policy",
    is_flag=True,
    help="Members agreed on a policy before: they object, or the action takes effect.",
)
@click.option(
    "--history-days",
    type=int,
    default=56,
    show_default=True,
    help="Days of readings before the start, in whole weeks.",
)
@click.option("--tariffs", type=click.Path(path_type=Path), help="TOML file with other tariffs.")
@click.option(
    "--port", type=click.IntRange(1, 65_535), help=f"The page's port.  [default: {PORT} or next]"
)
@click.option(
    "--pace",
    type=click.FloatRange(1, 3_600),
    default=60,
    show_default=True,
    help="Seconds of chain time in a second, once the days are over.",
)
@click.option("--headless", is_flag=True, help="No page: run, print the summary, end.")
@json_option
@handles_errors
def cli(
    days: int,
    start: str,
    zone: str,
    seed: int,
    no_proposals: bool,
    voters: str,
    standing_policy: bool,
    history_days: int,
    tariffs: Path | None,
    port: int | None,
    pace: float,
    headless: bool,
    as_json: bool,
) -> None:
    """Run a zone's homes, market and votes on a local chain.

    Homes of a SimBench zone meter, trade and vote for some days after weeks of history: readings
    are signed and committed, orders cleared and settled on chain, the next day forecast, and where
    the forecast breaks a limit of the grid the members vote on the battery's schedule. Without
    --headless a page at http://localhost:8501 shows it live, a relay takes what people sign, and
    after the days the neighbourhood lives on, at a pace one can follow, until Ctrl-C. The same seed
    gives the same figures.
    """
    from dao.tariffs import load_tariffs
    from scripts._simulation.settings import Settings, parse_date

    settings = Settings(
        zone_code=zone,
        seed=seed,
        start=parse_date(start),
        days=days,
        history_days=history_days,
        proposals=not no_proposals,
        voters=voters,
        policy=standing_policy,
        living=not headless,
        tariffs=load_tariffs(tariffs),
    )
    # SIGTERM ends a run as Ctrl-C does: the node and the page's server go with it.
    signal.signal(signal.SIGTERM, _interrupt)
    _run(settings, as_json=as_json, port=port, pace=pace)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _run(settings: Settings, *, as_json: bool, port: int | None, pace: float) -> None:
    from scripts._simulation.display import Display
    from scripts._simulation.state import claim
    from scripts._simulation.summary import in_words

    begun = time.perf_counter()
    with ExitStack() as stack:
        display = stack.enter_context(Display())
        display("Starting", 0, 1)
        stack.enter_context(claim())
        _check_zone(settings.zone_code)
        if settings.living:
            from dashboard.serve import DashboardServer

            server = stack.enter_context(DashboardServer(port or PORT))
            display.say(server.notice or f"The page is at {server.url}")
            _open_browser(server.url)
        summary, life = _live(settings, stack, display, begun)
        text = json.dumps(summary) if as_json else in_words(summary)
        display.finish()
        click.echo(text)
        sys.stdout.flush()
        if life is not None:
            display.say(
                f"{DAYS_OVER}; the neighbourhood lives on, {pace:g} times as fast as life, "
                f"with its page at {server.url}, until Ctrl-C."
            )
            life.live_on(pace)
    if not summary["conservation_ok"]:
        raise SystemExit(1)


def _live(
    settings: Settings, stack: ExitStack, display: Any, begun: float
) -> tuple[dict[str, Any], Life | None]:
    """Start the node, build the world, live through the days; returns the summary, and what goes
    on where somebody watches."""
    from dao import deployment
    from dao.anvil import AnvilNode
    from dao.chain import Chain
    from dao.paths import deployment_path
    from scripts._simulation import world as worlds
    from scripts._simulation.counter import Counter
    from scripts._simulation.dossier import leave_dossier
    from scripts._simulation.following import Following
    from scripts._simulation.living import Life
    from scripts._simulation.loop import Loop
    from scripts._simulation.page import Page
    from scripts._simulation.settings import ZONE
    from scripts._simulation.summary import summarise

    node = stack.enter_context(AnvilNode(timestamp=settings.genesis))
    page = Page(settings, node.url)

    def preparing(what: str, done: int, total: int) -> None:
        display(what, done, total)
        page.preparing(what, done, total)

    preparing("Opening the chain and compiling the contracts", 0, 1)
    chain = stack.enter_context(Chain.local(node.url, notify=display.say))
    world = stack.enter_context(worlds.build(settings, chain, preparing))
    deployment.write(world.deployment, deployment_path())
    page.attach(world)
    history_done = time.perf_counter()
    loop = Loop(world, page.publish)
    life = None
    if settings.living:
        counter = stack.enter_context(Counter(world.deployment, ZONE, chain.accounts[RELAY]))
        page.relay = counter.url
        agent = stack.enter_context(Following(world.deployment, ZONE, counter.url))
        life = Life(loop, counter, agent, display.say)
        life.live_days(display)
    else:
        loop.run(display)
        page.publish(loop, "score", finished=True)
    _write_logs(chain)
    ended = time.perf_counter()
    summary = summarise(
        loop,
        wall_s=ended - begun,
        timings={
            "setup_s": round(world.history_began - begun, 1),
            "history_s": round(history_done - world.history_began, 1),
            "days_s": [round(day.seconds, 1) for day in loop.days],
        },
    )
    display.say(leave_dossier(loop))
    return summary, life


def _write_logs(chain: Any) -> None:
    """Leave every log of the run as the node has it, for whoever wants to recompute the figures."""
    from dao.paths import ensure_parent, home

    logs = chain.rpc("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest"})
    path = ensure_parent(home() / "logs.jsonl")
    path.write_text("".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs))


def _check_zone(code: str) -> None:
    """Refuse an unknown zone before anything is started."""
    from dao.paths import cache_dir
    from meters.simbench import load_grid

    load_grid(code, cache_dir())


def _open_browser(url: str) -> None:
    """Show the page where there is a screen; a machine without one just prints the address."""
    import os
    import webbrowser

    if (
        sys.platform in ("darwin", "win32")
        or os.environ.get("DISPLAY")
        or os.environ.get("WAYLAND_DISPLAY")
    ):
        webbrowser.open(url)
