# SPDX-License-Identifier: Apache-2.0
"""A node, the test app's server and a browser, once for all tests of the wallet's button."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import playwright.sync_api as playwright
import pytest
import requests

from dao.anvil import AnvilNode
from dao.processes import LOOPBACK, ChildServer, free_port
from tests.dashboard.wallet.drive import Visit
from tests.dashboard.wallet.people import Wallet

ROOT = Path(__file__).resolve().parents[3]


class App(ChildServer):
    """`serve.py` as a child process."""

    title = "the test app"

    def __init__(self, command: list[str], **variables: str) -> None:
        super().__init__()
        self._command = command
        self._variables = variables

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def start(self, patience: float = 60.0) -> Self:
        self.port = free_port()
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path, **self._variables}
        # The dashboard's own settings: no telemetry, its themes.
        folder = ROOT / "dashboard"
        command = [*self._command, str(self.port)]
        self._launch(command, self._answers, patience, environment=environment, folder=folder)
        return self

    def control(self, **told: Any) -> None:
        requests.post(f"{self.url}/control", json=told, timeout=10).raise_for_status()

    def orders(self) -> list[dict[str, Any]]:
        return list(requests.get(f"{self.url}/orders", timeout=10).json()["orders"])

    def _answers(self) -> bool:
        address = f"http://{LOOPBACK}:{self.port}/_stcore/health"
        return requests.get(address, timeout=2).status_code == 200


@pytest.fixture(scope="session")
def node() -> Iterator[AnvilNode]:
    with AnvilNode() as running:
        yield running


@pytest.fixture(scope="session")
def accounts(node: AnvilNode) -> list[str]:
    call = {"jsonrpc": "2.0", "id": 1, "method": "eth_accounts", "params": []}
    return list(requests.post(node.url, json=call, timeout=10).json()["result"])


@pytest.fixture(scope="session")
def app(node: AnvilNode, accounts: list[str]) -> Iterator[App]:
    command = [sys.executable, "-m", "tests.dashboard.wallet.serve"]
    with App(command, TEST_RPC=node.url, TEST_ACCOUNT=accounts[0]) as running:
        yield running


@pytest.fixture(scope="module")
def context(chromium: playwright.Browser) -> Iterator[playwright.BrowserContext]:
    """One for all, so that Streamlit's own files are fetched once; each test has its own page."""
    opened = chromium.new_context(viewport={"width": 900, "height": 900})
    yield opened
    opened.close()


@pytest.fixture
def visit(context: playwright.BrowserContext, app: App) -> Iterator[Visit]:
    """The app's first page; every test ends with nothing foreign asked and nothing complained."""
    app.control(forget=True)
    opened = Visit(context.new_page(), app.url)
    yield opened
    opened.page.goto(f"{app.url}/orders")
    opened.page.evaluate("localStorage.clear()")
    opened.page.close()
    assert opened.complaints == []
    assert opened.foreign_hosts() == set()


@pytest.fixture
def wallet(node: AnvilNode, accounts: list[str], visit: Visit) -> Wallet:
    """A wallet with two accounts, installed in the browser."""
    return Wallet(node.url, accounts[:2]).install(visit.page)
