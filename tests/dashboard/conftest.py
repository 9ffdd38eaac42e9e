# SPDX-License-Identifier: Apache-2.0
"""The browser of all pages' tests."""

from __future__ import annotations

from collections.abc import Iterator

import playwright.sync_api as playwright
import pytest

from tests.dashboard.browsing import browser_path

FLAGS = ["--no-sandbox", "--disable-quic", "--disable-background-networking"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[playwright.Browser]:
    """One for each file, and ended with it: while Playwright runs, no other test of the process
    can start it or a loop of its own."""
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=browser_path(), args=FLAGS)
        yield opened
        opened.close()
