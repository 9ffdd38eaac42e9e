# SPDX-License-Identifier: Apache-2.0
"""The browser of all pages' tests, and a resident's visit to a file's `street`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import playwright.sync_api as playwright
import pytest

from dao.processes import free_port
from dashboard.serve import DashboardServer
from tests.dashboard.browsing import browser_path
from tests.dashboard.village import Village
from tests.dashboard.wallet.drive import Visit

FLAGS = ["--no-sandbox", "--disable-quic", "--disable-background-networking"]


@pytest.fixture(autouse=True)
def main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit's way of testing a page leaves its script as the process's main module, and every
    process that is started after it would look for that script."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(scope="module")
def chromium() -> Iterator[playwright.Browser]:
    """One for each file, and ended with it: while Playwright runs, no other test of the process
    can start it or a loop of its own."""
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=browser_path(), args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(street: Village) -> Iterator[DashboardServer]:
    """The dashboard of the file's village."""
    with DashboardServer(free_port()) as running:
        yield running


@pytest.fixture
def visit(chromium: playwright.Browser, pages: DashboardServer) -> Iterator[Visit]:
    """A browser in front of it. In the end nothing was complained of, and nobody else asked."""
    context = chromium.new_context(viewport={"width": 1280, "height": 1000})
    opened = Visit(context.new_page(), pages.url)
    opened.page.set_default_timeout(45_000)
    yield opened
    context.close()
    assert opened.complaints == []
    assert opened.foreign_hosts() == set()
