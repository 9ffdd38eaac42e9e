# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser: drawn, readable at both widths and in both themes, live."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import playwright.sync_api as playwright
import pytest

from dao.paths import index_path, run_state_path
from dao.processes import free_port
from dao.runstate import Step, Work, write_run_state
from dashboard.serve import DashboardServer
from tests.dashboard.browsing import PATIENCE, Watched, watch
from tests.dashboard.sample import FIRST_SLOT, Index, fill, proposal, run_state

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

CHARTS = 5


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("dashboard")
    kept = os.environ.get("GRIDCOMMONS_HOME")
    os.environ["GRIDCOMMONS_HOME"] = str(folder)
    yield folder
    if kept is None:
        del os.environ["GRIDCOMMONS_HOME"]
    else:
        os.environ["GRIDCOMMONS_HOME"] = kept


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[DashboardServer]:
    with DashboardServer(free_port()) as running:
        yield running


@pytest.fixture
def index(home: Path) -> Index:
    for path in home.glob("index.sqlite*"):
        path.unlink()
    run_state_path().unlink(missing_ok=True)
    return Index(index_path())


@pytest.fixture
def open_page(
    chromium: playwright.Browser, server: DashboardServer
) -> Iterator[list[playwright.BrowserContext]]:
    contexts: list[playwright.BrowserContext] = []
    yield contexts
    for context in contexts:
        context.close()


def visit(
    chromium: playwright.Browser,
    contexts: list[playwright.BrowserContext],
    server: DashboardServer,
    width: int = 1280,
    theme: str = "light",
) -> Watched:
    watched = watch(chromium, width, theme)
    contexts.append(watched.page.context)
    watched.page.goto(server.url)
    watched.page.get_by_role("heading", level=1).wait_for(timeout=PATIENCE)
    return watched


def wait_for_charts(page: playwright.Page, number: int = CHARTS) -> None:
    page.wait_for_function(
        """number => {
            const drawn = [...document.querySelectorAll('.gc-chart img')]
                .filter(one => one.complete && one.naturalWidth > 0)
                .filter(one => one.getBoundingClientRect().width > 100);
            return drawn.length >= number;
        }""",
        arg=number,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_drawn(
    chromium: playwright.Browser,
    open_page: list[playwright.BrowserContext],
    server: DashboardServer,
    index: Index,
    tmp_path: Path,
    theme: str,
    width: int,
) -> None:
    fill(index)
    write_run_state(run_state())
    watched = visit(chromium, open_page, server, width, theme)
    page = watched.page
    wait_for_charts(page)

    heading = page.get_by_role("heading", level=1).inner_text()
    assert heading.split("\n")[0].startswith("Tuesday, 7 June 2016")
    assert "17:45" in heading
    assert page.locator('[aria-current="step"]').inner_text() == "Vote"
    for title in ("What the zone makes and uses", "Prices", "Last clearings", "The open vote"):
        page.get_by_role("heading", name=title, exact=True).wait_for(timeout=PATIENCE)
    page.get_by_text("Demonstration data.").wait_for(timeout=PATIENCE)
    text = page.locator(".gc-figures").inner_text()
    assert "kWh" in text
    assert text.count("€") >= 3
    assert "61 for" in page.locator(".gc-vote").inner_text()
    assert "Closes in" in page.locator(".gc-vote").inner_text()

    overflow = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert overflow <= 0
    ground = page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor")
    lightness = sum(int(part) for part in ground[4:-1].split(",")[:3])
    assert lightness > 600 if theme == "light" else lightness < 200

    if width == 1280:
        # The browser stands in New York, the zone in Germany: its own clock is shown.
        box = page.locator(".gc-chart img").first.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        tip = page.locator(".gc-tip").inner_text()
        assert re.match(r"Wed 8 Jun, 0[12]:\d\d\n", tip)
        assert "Forecast: " in tip
        page.mouse.move(0, 0)
        page.locator(".gc-tip").wait_for(state="hidden")

    tall = page.evaluate(
        "Math.max(...[...document.querySelectorAll('*')].map(one => one.scrollHeight))"
    )
    page.set_viewport_size({"width": width, "height": int(tall) + 40})
    page.wait_for_timeout(1_500)
    page.screenshot(path=tmp_path / f"page-{theme}-{width}.png")

    assert watched.foreign_hosts() == set()
    assert watched.complaints == []


def test_the_page_follows_the_run_without_a_reload(
    chromium: playwright.Browser,
    open_page: list[playwright.BrowserContext],
    server: DashboardServer,
    index: Index,
) -> None:
    watched = visit(chromium, open_page, server)
    page = watched.page
    assert page.get_by_role("heading", level=1).inner_text() == "No run yet"
    page.get_by_text("make demo").wait_for(timeout=PATIENCE)
    loads = []
    page.on("load", lambda _: loads.append(1))

    work = Work("Committing the history", 14, 56)
    write_run_state(
        run_state(step=Step.SETUP, day=0, work=work, proposals=(), forecasts=()),
    )
    page.get_by_text("Committing the history").wait_for(timeout=PATIENCE)
    for title in ("No totals yet", "No price yet", "Nothing traded yet", "No vote so far"):
        page.get_by_text(title).wait_for(timeout=PATIENCE)

    fill(index)
    write_run_state(run_state())
    page.get_by_text("Open", exact=True).wait_for(timeout=PATIENCE)
    wait_for_charts(page)
    before = page.locator(".gc-figures").inner_text()

    index.settle(FIRST_SLOT + 80, 200, 500_000)
    done = proposal(FIRST_SLOT + 96, "executed", votes_for=80)
    write_run_state(run_state(step=Step.DELIVERY).with_proposal(done))
    page.get_by_text("The community battery follows the schedule").wait_for(timeout=PATIENCE)
    page.get_by_text("80 for").wait_for(timeout=PATIENCE)
    assert page.locator('[aria-current="step"]').inner_text() == "Delivery"
    assert page.locator(".gc-figures").inner_text() != before

    write_run_state(run_state(step=Step.FINISHED, finished=True, day=7))
    page.get_by_text("Finished", exact=True).wait_for(timeout=PATIENCE)
    assert loads == []
    assert watched.foreign_hosts() == set()
    assert watched.complaints == []


def test_a_broken_state_file_is_told_in_words_and_heals(
    chromium: playwright.Browser,
    open_page: list[playwright.BrowserContext],
    server: DashboardServer,
    index: Index,
) -> None:
    run_state_path().write_text("not a run")
    watched = visit(chromium, open_page, server)
    watched.page.get_by_text("The run cannot be shown").wait_for(timeout=PATIENCE)
    assert "Traceback" not in watched.page.content()
    write_run_state(run_state())
    watched.page.get_by_text("Tuesday, 7 June 2016").wait_for(timeout=PATIENCE)


def test_text_from_data_stays_text(
    chromium: playwright.Browser,
    open_page: list[playwright.BrowserContext],
    server: DashboardServer,
    index: Index,
) -> None:
    hostile = (
        "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
    )
    one = proposal(FIRST_SLOT + 96, title=hostile, summary=hostile)
    write_run_state(run_state(zone=hostile, proposals=(one,)))
    watched = visit(chromium, open_page, server)
    heading = watched.page.get_by_role("heading", level=3)
    heading.wait_for(timeout=PATIENCE)
    assert heading.inner_text() == hostile
    assert watched.page.title() == "Live · GridCommons"
    assert watched.page.locator("img[src=x]").count() == 0
