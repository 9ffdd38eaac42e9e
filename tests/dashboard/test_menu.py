# SPDX-License-Identifier: Apache-2.0
"""The menu on top of every page, in a real browser: how it opens, and where its links lead."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import playwright.sync_api as playwright
import pytest

from dao.processes import free_port
from dao.runstate import write_run_state
from dashboard.pages import PAGES
from dashboard.serve import DashboardServer
from tests.dashboard.browsing import Watched, watch
from tests.dashboard.sample import Index, run_state

LISTED = {one.title for one in PAGES if one.listed}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardServer]:
    folder = tmp_path_factory.mktemp("menu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRIDCOMMONS_HOME", str(folder))
        write_run_state(run_state())
        Index(folder / "index.sqlite")
        with DashboardServer(free_port()) as running:
            yield running


@pytest.fixture(params=[(1280, "light"), (390, "dark")])
def watched(
    request: pytest.FixtureRequest,
    chromium: playwright.Browser,
    server: DashboardServer,
) -> Iterator[Watched]:
    """A visitor of the rules' page. In the end nothing was complained of, and nobody else asked."""
    one = watch(chromium, *request.param)
    one.open(f"{server.url}/rules")
    yield one
    assert one.complaints == []
    assert one.foreign_hosts() == set()
    one.page.context.close()


def is_narrow(page: playwright.Page) -> bool:
    assert page.viewport_size is not None
    return page.viewport_size["width"] < 1_101


def opened(page: playwright.Page, section: str) -> playwright.Locator:
    """A section of the menu with its links in sight."""
    if is_narrow(page):
        page.get_by_role("button", name="Menu", exact=True).click()
    else:
        page.locator(".gc-nav summary").get_by_text(section, exact=True).click()
    return page.get_by_role("navigation", name="Pages")


def heading(page: playwright.Page, name: str) -> None:
    page.get_by_role("heading", level=1, name=name).wait_for()


def test_a_link_leads_to_a_page_without_loading_the_others_anew(watched: Watched) -> None:
    page = watched.page
    page.evaluate("() => { window.stayed = true; }")
    menu = opened(page, "Decisions")
    current = menu.locator("[aria-current]")
    assert current.inner_text() == "Rules"
    menu.get_by_role("link", name="Roles").click()
    heading(page, "Roles")
    assert page.url.endswith("/roles")
    assert page.title() == "Roles · GridCommons"
    # The menu closes behind a choice.
    menu.get_by_role("link", name="Roles").wait_for(state="hidden")
    page.go_back()
    heading(page, "Rules")
    assert page.evaluate("() => window.stayed")
    page.go_forward()
    heading(page, "Roles")
    assert page.evaluate("() => window.stayed")


def test_it_closes_by_escape_and_by_a_click_beside_it(watched: Watched) -> None:
    page = watched.page
    link = page.get_by_role("navigation", name="Pages").get_by_role("link", name="Roles")
    for away in (
        lambda: page.keyboard.press("Escape"),
        lambda: page.get_by_role("heading", level=1).click(force=True),
    ):
        opened(page, "Decisions")
        playwright.expect(link).to_be_visible()
        away()
        playwright.expect(link).to_be_hidden()
    if is_narrow(page):
        return
    opened(page, "Decisions")
    opened(page, "Figures")
    playwright.expect(link).to_be_hidden()
    playwright.expect(page.get_by_role("link", name="Grid", exact=True)).to_be_visible()


def test_all_listed_pages_are_in_it(watched: Watched) -> None:
    page = watched.page
    found: set[str] = set()
    if is_narrow(page):
        opened(page, "")
        links = page.get_by_role("navigation", name="Pages").get_by_role("link")
        found = set(links.all_inner_texts())
    else:
        for section in page.locator(".gc-nav summary").all():
            section.click()
            links = page.get_by_role("navigation", name="Pages").get_by_role("link")
            found |= {one.inner_text() for one in links.all() if one.is_visible()}
    assert found >= LISTED
    assert watched.overflow() <= 0


def test_the_files_beside_it_come_from_here_and_no_others(server: DashboardServer) -> None:
    import requests

    page = requests.get(f"{server.url}/rules", timeout=30)
    for name in ("frame.js", "tips.js"):
        (path,) = [one for one in page.text.split('"') if f"/assets/{name}?" in one]
        answer = requests.get(f"{server.url}/{path}", timeout=30)
        kind = answer.headers["Content-Type"].partition(";")[0]
        assert kind in ("text/javascript", "application/javascript")
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.text == (Path("dashboard/assets") / name).read_text()
        other = requests.get(f"{server.url}/assets/{name}?another", timeout=30)
        assert "immutable" not in other.headers["Cache-Control"]
    for odd in ("..%2fapp.py", "app.py", "%2e%2e/settings.py"):
        answer = requests.get(f"{server.url}/assets/{odd}", timeout=30)
        assert "from __future__" not in answer.text
    assert requests.get(f"{server.url}/assets/app.py", timeout=30).status_code == 404
