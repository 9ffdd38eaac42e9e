# SPDX-License-Identifier: Apache-2.0
"""A real browser on the dashboard: how it is found, what a visit asked for and complained of."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, field
from urllib.parse import urlparse

import pytest

from benchmarks.browsing import READY

playwright = pytest.importorskip("playwright.sync_api") if not os.environ.get("CI") else None
if playwright is None:
    import playwright.sync_api as playwright  # type: ignore[no-redef]

PATIENCE = 30_000


@dataclass
class Watched:
    """A page with everything it asked for and complained about."""

    page: playwright.Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def foreign_hosts(self) -> set[str]:
        hosts = {urlparse(url).hostname for url in self.requests if "://" in url}
        return {host for host in hosts if host not in ("localhost", "127.0.0.1", None)}

    def open(self, url: str) -> None:
        """Go to a page of the dashboard and wait until it stands."""
        self.page.goto(url)
        self.page.get_by_role("heading", level=1).first.wait_for(timeout=PATIENCE)
        self.page.wait_for_function(READY, timeout=PATIENCE)

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        return int(
            self.page.evaluate(
                "Math.max(...[document.documentElement, document.querySelector('.stMain')]"
                ".map(one => one.scrollWidth - one.clientWidth))"
            )
        )


def browser_path() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if found := shutil.which(name):
            return found
    if os.environ.get("CI"):
        pytest.fail("no Chromium on PATH, and in CI the browser tests do not skip")
    pytest.skip("no Chromium on PATH; install it, for example: apt-get install chromium")


def watch(
    browser: playwright.Browser, width: int = 1280, theme: str = "light", **more: object
) -> Watched:
    """A fresh visitor's page; whoever opens it closes its context."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=theme,
        timezone_id="America/New_York",
        **more,
    )
    watched = Watched(context.new_page())
    watched.page.on("request", lambda request: watched.requests.append(request.url))
    watched.page.on("pageerror", lambda error: watched.complaints.append(str(error)))
    # What the policy forbids is told on the console too.
    watched.page.on(
        "console",
        lambda message: (
            watched.complaints.append(message.text) if message.type == "error" else None
        ),
    )
    return watched


def choose(page: playwright.Page, label: str, option: str | re.Pattern[str]) -> None:
    """Choose from a list. A page that is drawn anew closes an open list: then it is opened again,
    as a person would."""
    wanted = page.get_by_role("option", name=option).first
    for _ in range(8):
        page.get_by_role("combobox", name=label).click()
        try:
            wanted.click(timeout=6_000)
        except playwright.TimeoutError:
            page.keyboard.press("Escape")
        else:
            return
    raise AssertionError(f"{label} does not offer {option}")
