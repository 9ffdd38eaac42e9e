# SPDX-License-Identifier: Apache-2.0
"""Every page that there is, in a real browser: readable, reachable, and asking nobody else. Half of
the visits are in German.

A new page takes part by being in `dashboard.pages`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import playwright.sync_api as playwright
import pytest

from benchmarks.dashboard import Cookie, sign_in
from benchmarks.empty import EmptyServer
from dao.paths import home
from dao.processes import free_port
from dao.runstate import write_run_state
from dashboard import i18n
from dashboard.pages import PAGES, Page
from dashboard.serve import DashboardServer
from tests.dashboard.browsing import PATIENCE, READY, Watched, watch
from tests.dashboard.sample import run_state
from tests.dashboard.village import village

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardServer]:
    """The pages over a village with a chain, a relay and a week of readings."""
    folder = tmp_path_factory.mktemp("walk")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRIDCOMMONS_HOME", str(folder))
        with village(folder, history_days=8) as made:
            made.publish()
            with DashboardServer(free_port()) as running:
                yield running


@pytest.fixture(scope="module")
def cookie(server: DashboardServer) -> Cookie:
    """The session of the first home's person."""
    return sign_in(server.url, home())


def signed_in(watched: Watched, cookie: Cookie) -> None:
    watched.page.context.add_cookies(
        [{"name": cookie.name, "value": cookie.value, "url": cookie.url}]
    )


def violations(page: playwright.Page) -> list[tuple[str, str]]:
    """What a screen reader or a weak eye would stumble over: the rule, and where."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [(one["id"], node["html"][:300]) for one in found for node in one["nodes"]]


@pytest.mark.parametrize(
    ("width", "theme", "locale"), [(1280, "light", "en-GB"), (390, "dark", "de-DE")]
)
def test_every_page_is_as_easy_to_read_as_an_empty_one(
    chromium: playwright.Browser,
    server: DashboardServer,
    cookie: Cookie,
    width: int,
    theme: str,
    locale: str,
) -> None:
    watched = watch(chromium, width, theme, locale=locale)
    with EmptyServer() as empty:
        watched.open(empty.url)
        known = {rule for rule, _ in violations(watched.page)}
        # Or it would go on asking for a server that is no more.
        watched.page.goto("about:blank")
    watched.complaints.clear()
    signed_in(watched, cookie)
    for one in PAGES:
        walk(watched, server, one)
        levels = watched.page.evaluate(
            "[...document.querySelectorAll('main h1, main h2, main h3, main h4')]"
            ".map(one => Number(one.tagName[1]))"
        )
        assert levels[0] == 1, one.slug
        assert all(below - above <= 1 for above, below in pairwise(levels)), one.slug
        assert [it for it in violations(watched.page) if it[0] not in known] == [], one.slug
        if unfolded(watched, one):
            assert [it for it in violations(watched.page) if it[0] not in known] == [], one.slug
            assert watched.overflow() <= 0, one.slug
    assert watched.foreign_hosts() == set()
    assert watched.complaints == []
    watched.page.context.close()


def unfolded(watched: Watched, one: Page) -> bool:
    """Bring up what a page keeps until somebody asks for it; whether there was anything."""
    page = watched.page
    if one.slug == "trade":
        page.get_by_role("radio", name=re.compile("Sell|Verkaufen")).click()
        page.get_by_role("spinbutton").first.wait_for()
    folds = page.locator('[class*="-unfold"] details')
    for place in range(folds.count()):
        fold = folds.nth(place)
        fold.locator("summary").click()
        fold.locator('[data-testid="stVerticalBlock"] > *').first.wait_for()
    page.wait_for_function(READY)
    return one.slug == "trade" or folds.count() > 0


@pytest.mark.parametrize(
    ("width", "theme", "locale"), [(1280, "dark", "de-AT"), (390, "light", "en-US")]
)
def test_every_page_stands_for_whoever_is_signed_in(
    chromium: playwright.Browser,
    server: DashboardServer,
    cookie: Cookie,
    width: int,
    theme: str,
    locale: str,
) -> None:
    watched = watch(chromium, width, theme, locale=locale)
    signed_in(watched, cookie)
    for one in PAGES:
        walk(watched, server, one)
    assert watched.foreign_hosts() == set()
    assert watched.complaints == []
    watched.page.context.close()


def test_whoever_is_not_signed_in_is_asked_to(
    chromium: playwright.Browser, server: DashboardServer
) -> None:
    watched = watch(chromium, 390)
    for one in PAGES:
        walk(watched, server, one)
        if one.needs_person:
            watched.page.get_by_role("button", name="Sign in with a wallet").wait_for()
    assert watched.foreign_hosts() == set()
    assert watched.complaints == []
    watched.page.context.close()


def walk(watched: Watched, server: DashboardServer, one: Page) -> None:
    """Open a page, and look at what holds for all of them."""
    watched.open(f"{server.url}/{one.slug}")
    language = watched.page.evaluate("navigator.language")[:2]
    assert watched.page.evaluate("document.documentElement.lang") == language, one.slug
    with i18n.speaking(i18n.Locale(language)):
        assert watched.page.title() == f"{i18n._(one.title)} · GridCommons"
    assert watched.page.get_by_role("heading", level=1).count() == 1, one.slug
    assert watched.overflow() <= 0, one.slug
    assert "Traceback" not in watched.page.content(), one.slug


@pytest.mark.parametrize("width", [1280, 390])
def test_a_language_is_chosen_on_any_page_and_kept(
    chromium: playwright.Browser, server: DashboardServer, width: int
) -> None:
    """By a link on top, or in the menu where there is little room; the address and what it asks
    for stay, and the next visit speaks it too."""
    watched = watch(chromium, width, locale="fr-FR")
    page = watched.page
    watched.open(f"{server.url}/orders?of=this")
    page.get_by_role("heading", level=1, name="Orders").wait_for()
    if width == 390:
        page.get_by_role("button", name="Menu", exact=True).click()
    page.get_by_role("link", name="Deutsch").locator("visible=true").click()
    page.get_by_role("heading", level=1, name="Aufträge").wait_for()
    assert "of=this" in page.url
    assert watched.overflow() <= 0
    watched.open(f"{server.url}/money")
    page.get_by_role("heading", level=1, name="Geld").wait_for()
    assert page.evaluate("document.documentElement.lang") == "de"
    watched.open(f"{server.url}/money?lang=en")
    page.get_by_role("heading", level=1, name="Money").wait_for()
    assert watched.foreign_hosts() == set()
    assert watched.complaints == []
    page.context.close()


def test_a_comma_is_a_decimal_sign_where_the_page_says_so(
    chromium: playwright.Browser, server: DashboardServer, cookie: Cookie
) -> None:
    """In a browser that knows only the point: 2,5 kWh must not become 25."""
    watched = watch(chromium, locale="de-DE")
    signed_in(watched, cookie)
    watched.open(f"{server.url}/trade")
    watched.page.get_by_role("radio", name="Verkaufen").click()
    field = watched.page.get_by_label("Strom in kWh über die ganze Zeit")
    field.click()
    watched.page.keyboard.type("2,5", delay=60)
    assert field.input_value() == "2.5"
    watched.page.keyboard.press("Enter")
    watched.page.get_by_text("2,50\u00a0kWh").first.wait_for(timeout=PATIENCE)
    assert watched.complaints == []
    watched.page.context.close()


def test_the_keyboard_reaches_the_content_and_the_way_in(
    chromium: playwright.Browser, server: DashboardServer
) -> None:
    watched = watch(chromium)
    watched.open(server.url)
    page = watched.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to main content"
    page.keyboard.press("Enter")
    # Past Streamlit's own link the menu begins, and with it a link that leads past it.
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip the menu"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "gc-content"
    page.keyboard.press("Shift+Tab")
    for _ in range(12):
        if page.evaluate("document.activeElement.textContent") == "Sign in":
            break
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.get_by_role("heading", level=1, name="Sign in").wait_for(timeout=PATIENCE)
    assert page.url.endswith("/sign-in")
    watched.page.context.close()


def test_a_page_that_fails_is_told_in_words(
    chromium: playwright.Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that is no index: the page says what is safe, and shows nothing of the inside."""
    monkeypatch.setenv("GRIDCOMMONS_HOME", str(tmp_path))
    write_run_state(run_state())
    (tmp_path / "index.sqlite").write_text("no index at all " * 100)
    with DashboardServer(free_port()) as server:
        watched = watch(chromium)
        watched.open(server.url)
        text = watched.page.locator("main").inner_text()
        assert "Nothing on the chain is affected" in text
        assert "Traceback" not in watched.page.content()
        watched.page.context.close()
