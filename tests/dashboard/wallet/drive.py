# SPDX-License-Identifier: Apache-2.0
"""A visit to the test app: what a person clicks and sees there."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlparse

import playwright.sync_api as playwright

PATIENCE = 20_000


class Visit:
    """An open page, with everything that it asked for and complained about."""

    def __init__(self, page: playwright.Page, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        self._requests: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: self._requests.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._console)

    def _console(self, message: playwright.ConsoleMessage) -> None:
        # That a delivery was answered with 422 or 503 is the browser's remark on a test's wish.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def foreign_hosts(self) -> set[str]:
        hosts = {urlparse(one).hostname for one in self._requests if "://" in one}
        return {one for one in hosts if one and one not in ("localhost", "127.0.0.1")}

    def open(self, path: str = "") -> Visit:
        self.page.goto(f"{self.url}/{path}")
        self.page.get_by_role("heading", level=1).wait_for()
        return self

    def button(self, label: str) -> playwright.Locator:
        return self.page.get_by_role("button", name=label, exact=True)

    def click(self, label: str) -> None:
        self.button(label).click()

    def status(self, text: str) -> None:
        """Until some button's status line says this."""
        self.page.get_by_role("status").filter(has_text=text).first.wait_for()

    def heard(self, name: str, number: int = 1) -> list[dict[str, Any]]:
        """The answers that the app took as fresh, once there are `number` of them."""
        line = self.page.get_by_text(f"{name}: [", exact=False)
        self.page.wait_for_function(
            """([name, number]) => [...document.querySelectorAll('[data-testid="stText"]')]
                .map(one => one.textContent)
                .filter(one => one.startsWith(name + ': ['))
                .some(one => JSON.parse(one.slice(name.length + 2)).length >= number)""",
            arg=[name, number],
        )
        return list(json.loads(line.inner_text().partition(": ")[2]))

    def settle(self) -> None:
        """Until a run of the script more has been drawn."""
        drawn = self.page.get_by_text("drawn ", exact=False)
        before = drawn.inner_text()
        self.click("Run again")
        self.page.wait_for_function(
            """before => [...document.querySelectorAll('[data-testid="stText"]')]
                .some(one => one.textContent.startsWith('drawn ') && one.textContent !== before)""",
            arg=before,
        )
