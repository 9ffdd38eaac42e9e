# SPDX-License-Identifier: Apache-2.0
"""A real browser for the figures of the dashboard: when a page stands, and what came over the wire.

The page itself notes when it stands, on the clock that its navigation began; so the time that a
driver needs to look is not in a figure.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlparse

from dao.errors import BadUse

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request, WebSocket

PATIENCE = 60_000
"""Milliseconds until a page has to stand."""

# Its script has ended, it has a heading, and every chart is drawn.
READY = """() => {
    const app = document.querySelector('.stApp');
    const charts = [...document.querySelectorAll('.gc-chart img')];
    return Boolean(app) && app.dataset.testScriptState === 'notRunning'
        && document.querySelector('h1') !== null
        && document.querySelector('[data-testid="stSkeleton"]') === null
        && charts.every(one => one.complete && one.naturalWidth > 0);
}"""
_CLOCK = f"""() => {{
    const ready = {READY};
    const look = () => {{
        if (ready()) {{ window.readyAt = performance.now(); }}
        else {{ requestAnimationFrame(look); }}
    }};
    requestAnimationFrame(look);
}}"""

# When the page last heard of the server.
_HEARD = """(() => {
    const Socket = window.WebSocket;
    window.heardAt = 0;
    window.WebSocket = class extends Socket {
        constructor(...given) {
            super(...given);
            this.addEventListener('message', () => { window.heardAt = performance.now(); });
        }
    };
})()"""

# From an act until what it changed stands: the server has answered, its script has ended, every
# chart is drawn, and nothing of the page changes any more. That the script runs is not waited for:
# Streamlit shows a short run's begin and end at once.
_QUIET_MS = 150
_ACT = f"""act => new Promise((done, failed) => {{
    const ready = {READY};
    const began = performance.now();
    let changedAt = 0;
    let stoodAt = null;
    const watcher = new MutationObserver(() => {{ changedAt = performance.now(); }});
    watcher.observe(document.body, {{
        attributes: true, characterData: true, childList: true, subtree: true,
    }});
    const look = () => {{
        const now = performance.now();
        if (!ready() || window.heardAt <= began) stoodAt = null;
        else if (stoodAt === null || Math.max(changedAt, window.heardAt) > stoodAt) stoodAt = now;
        if (stoodAt !== null && now - stoodAt > {_QUIET_MS}) {{
            watcher.disconnect();
            done(stoodAt - began);
        }} else if (now - began > 20000) {{
            watcher.disconnect();
            failed(new Error('nothing happened'));
        }} else requestAnimationFrame(look);
    }};
    act();
    requestAnimationFrame(look);
}})"""


@dataclass
class Visit:
    """One visitor's page, and what it received and complained about."""

    page: Page
    received: int = 0
    """Bytes of our own data: over the socket, and as answers to questions."""
    largest: int = 0
    problems: list[str] = field(default_factory=list)

    def open(self, url: str) -> float:
        """Seconds from the start of the navigation until the page stands."""
        self.start(url)
        return self.stands()

    def start(self, url: str) -> None:
        """Begin to go to a page, without waiting for it."""
        self.received = self.largest = 0
        self.page.goto(url, wait_until="commit", timeout=PATIENCE)

    def stands(self) -> float:
        """Seconds from the start of the navigation until the page stood; waits for that."""
        self.page.wait_for_function("() => window.readyAt !== undefined", timeout=PATIENCE)
        return float(self.page.evaluate("() => window.readyAt")) / 1000

    def act(self, control: Locator) -> float:
        """Seconds from a click on a control until what it changed stands."""
        return float(control.evaluate(f"one => ({_ACT})(() => one.click())")) / 1000

    def press(self, control: Locator, key: str) -> float:
        """Seconds from before a key is pressed on a control until what it changed stands."""
        self.page.evaluate(f"() => {{ window.acted = ({_ACT})(() => undefined); }}")
        control.press(key)
        return float(self.page.evaluate("() => window.acted")) / 1000

    def _socket(self, socket: WebSocket) -> None:
        socket.on("framereceived", lambda payload: self._count(len(payload)))

    def _finished(self, request: Request) -> None:
        # What is the same for every Streamlit page is not ours.
        path = urlparse(request.url).path
        if not path.startswith(("/static/", "/_stcore/")) and request.resource_type == "fetch":
            self._count(request.sizes()["responseBodySize"])

    def _count(self, size: int) -> None:
        self.received += size
        self.largest = max(self.largest, size)


def browser_path() -> str:
    """The machine's Chromium. BadUse without one."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if found := shutil.which(name):
            return found
    raise BadUse("no Chromium on PATH; install it, for example: apt-get install chromium")


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Chromium without a window, that asks nobody anything by itself."""
    from playwright.sync_api import sync_playwright

    quiet = ("background-networking", "component-update", "sync", "gpu", "quic")
    arguments = ["--no-sandbox", "--no-first-run", *(f"--disable-{one}" for one in quiet)]
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=browser_path(), args=arguments)
        try:
            yield opened
        finally:
            opened.close()


def visit(context: BrowserContext) -> Visit:
    """A page of a visitor, watched."""
    page = context.new_page()
    one = Visit(page)
    page.add_init_script(_HEARD)
    page.add_init_script(f"({_CLOCK})()")
    page.on("websocket", one._socket)
    page.on("requestfinished", one._finished)
    page.on("pageerror", lambda error: one.problems.append(str(error)))
    page.on(
        "console",
        lambda message: one.problems.append(message.text) if message.type == "error" else None,
    )
    return one
