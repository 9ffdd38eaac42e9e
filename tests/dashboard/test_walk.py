# SPDX-License-Identifier: Apache-2.0
"""Every page that there is, in a real browser, signed out and signed in: readable, reachable, and
asking nobody else.

A new page takes part by being in `dashboard.pages`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import playwright.sync_api as playwright
import pytest

from benchmarks.empty import EmptyServer
from dao.eip712 import sign_digest
from dao.processes import free_port
from dao.runstate import write_run_state
from dashboard.pages import PAGES, Page
from dashboard.serve import DashboardServer
from dashboard.services.sign_in import personal_digest
from tests.dashboard.browsing import PATIENCE, Watched, browser_path, watch
from tests.dashboard.near import Browser
from tests.dashboard.sample import Index, fill, run_state
from tests.dashboard.village import FIRST, SLOTS, Village, village

STRANGER = "needs to know who you are"
"""What a page that needs a person says to whoever is not signed in; the last of all needs one."""

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardServer]:
    home = tmp_path_factory.mktemp("walk")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRIDCOMMONS_HOME", str(home))
        fill(Index(home / "index.sqlite"))
        write_run_state(run_state())
        with DashboardServer(free_port()) as running:
            yield running


@pytest.fixture(scope="module")
def empty() -> Iterator[EmptyServer]:
    with EmptyServer() as running:
        yield running


@dataclass(frozen=True)
class Street:
    """A dashboard of a village where a session was traded, and the cookie of a resident's
    browser who sold in it."""

    server: DashboardServer
    cookie: dict[str, str]


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    folder = tmp_path_factory.mktemp("street")
    with pytest.MonkeyPatch.context() as patch, village(folder, history_days=2) as made:
        patch.setenv("GRIDCOMMONS_HOME", str(folder))
        made.live(FIRST + SLOTS, 1)
        with DashboardServer(free_port()) as running:
            yield Street(running, cookie_of(running, made, home=3))


def cookie_of(server: DashboardServer, made: Village, home: int) -> dict[str, str]:
    """Sign in as the home's owner, as a browser with a wallet does."""
    visitor, owner = Browser(server.url), made.people[home - 1]
    asked = visitor.post("/session/challenge", {"account": owner.address})
    message = str(asked.json()["message"])
    signature = "0x" + sign_digest(owner.key, personal_digest(message)).hex()
    answer = visitor.post("/session/sign-in", {"message": message, "signature": signature})
    assert answer.status_code == 200
    ((name, value),) = answer.cookies.items()
    return {"name": name, "value": value, "url": server.url}


def violations(page: playwright.Page) -> list[tuple[str, str]]:
    """What a screen reader or a weak eye would stumble over: the rule, and where."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [(one["id"], node["html"][:300]) for one in found for node in one["nodes"]]


def check(watched: Watched, server: DashboardServer, empty: EmptyServer) -> None:
    """Every page stands alone, and is as easy to read as one with nothing on it."""
    watched.open(empty.url)
    known = {rule for rule, _ in violations(watched.page)}
    watched.complaints.clear()
    for one in PAGES:
        walk(watched, server, one)
        levels = watched.page.evaluate(
            "[...document.querySelectorAll('main h1, main h2, main h3, main h4')]"
            ".map(one => Number(one.tagName[1]))"
        )
        assert levels[0] == 1, one.slug
        assert all(below - above <= 1 for above, below in pairwise(levels)), one.slug
        assert [it for it in violations(watched.page) if it[0] not in known] == [], one.slug
    assert watched.foreign_hosts() == set()
    assert watched.complaints == []


BOTH = pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])


@BOTH
def test_every_page_stands_alone_and_is_as_easy_to_read_as_an_empty_one(
    browser: playwright.Browser, server: DashboardServer, empty: EmptyServer, width: int, theme: str
) -> None:
    watched = watch(browser, width, theme)
    check(watched, server, empty)
    assert watched.page.get_by_text(STRANGER).count() == 1
    watched.page.context.close()


@BOTH
def test_every_page_of_somebody_signed_in_is_so_too(
    browser: playwright.Browser, street: Street, empty: EmptyServer, width: int, theme: str
) -> None:
    watched = watch(browser, width, theme)
    watched.page.context.add_cookies([street.cookie])
    check(watched, street.server, empty)
    assert watched.page.get_by_text(STRANGER).count() == 0
    watched.page.context.close()


@pytest.mark.parametrize(("width", "theme"), [(1280, "dark"), (390, "light")])
def test_every_page_stands_alone(
    browser: playwright.Browser, server: DashboardServer, width: int, theme: str
) -> None:
    watched = watch(browser, width, theme)
    for one in PAGES:
        walk(watched, server, one)
    assert watched.foreign_hosts() == set()
    assert watched.complaints == []
    watched.page.context.close()


def walk(watched: Watched, server: DashboardServer, one: Page) -> None:
    """Open a page, and look at what holds for all of them."""
    watched.open(f"{server.url}/{one.slug}")
    assert watched.page.get_by_role("heading", level=1).count() == 1, one.slug
    assert watched.overflow() <= 0, one.slug
    assert "Traceback" not in watched.page.content(), one.slug
    assert watched.page.title().endswith(" · GridCommons"), one.slug


def test_the_keyboard_reaches_the_content_and_the_way_in(
    browser: playwright.Browser, server: DashboardServer
) -> None:
    watched = watch(browser)
    watched.open(server.url)
    page = watched.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to main content"
    page.keyboard.press("Enter")
    for _ in range(4):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Sign in":
            break
    page.keyboard.press("Enter")
    page.get_by_role("heading", level=1, name="Sign in").wait_for(timeout=PATIENCE)
    assert page.url.endswith("/sign-in")
    watched.page.context.close()


def test_a_page_that_fails_is_told_in_words(
    browser: playwright.Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that is no index: the page says what is safe, and shows nothing of the inside."""
    monkeypatch.setenv("GRIDCOMMONS_HOME", str(tmp_path))
    write_run_state(run_state())
    (tmp_path / "index.sqlite").write_text("no index at all " * 100)
    with DashboardServer(free_port()) as server:
        watched = watch(browser)
        watched.open(server.url)
        text = watched.page.locator("main").inner_text()
        assert "Nothing on the chain is affected" in text
        assert "Traceback" not in watched.page.content()
        watched.page.context.close()
