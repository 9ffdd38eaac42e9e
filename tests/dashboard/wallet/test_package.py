# SPDX-License-Identifier: Apache-2.0
"""The button as a package of its own: installed beside Streamlit only, run by the README's app."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import playwright.sync_api as playwright
import pytest
import requests

from dao.anvil import AnvilNode
from dao.processes import LOOPBACK, ChildServer, free_port
from dashboard import wallet
from tests.dashboard.wallet.drive import Visit
from tests.dashboard.wallet.people import Wallet

FOLDER = Path(wallet.__file__).parent


def test_it_imports_nothing_but_streamlit() -> None:
    named = set()
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                named |= {one.name.partition(".")[0] for one in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                named.add(str(node.module).partition(".")[0])
    assert named - set(sys.stdlib_module_names) == {"streamlit"}


def test_windows_get_every_colour_that_they_are_drawn_with() -> None:
    styles = (FOLDER / "assets" / "wallet.css").read_text()
    wanted = set(re.findall(r"var\(--st-([a-z-]+)\)", styles[styles.index("\ndialog {") :]))
    given = set(
        re.findall(r'^  "([a-z-]+)",$', (FOLDER / "assets" / "windows.js").read_text(), re.M)
    )
    assert wanted
    assert wanted <= given


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built from a copy and installed into a folder of its own."""
    source = tmp_path_factory.mktemp("source") / "wallet"
    shutil.copytree(FOLDER, source, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--target", str(target), str(source)]
    subprocess.run(command, check=True, timeout=120)
    return target


def test_streamlit_finds_the_installed_package_by_its_manifest(installed: Path) -> None:
    program = (
        "from streamlit.components.v2.manifest_scanner import scan_component_manifests\n"
        "for manifest, root in scan_component_manifests():\n"
        "    for one in manifest.components:\n"
        "        print(manifest.name, one.name, one.resolve_asset_root(root))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    found = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=installed, capture_output=True,
        text=True, check=True, timeout=60,
    )  # fmt: skip
    root = installed / "gridcommons_wallet" / "assets"
    assert f"gridcommons-wallet wallet {root}" in found.stdout


class Example(ChildServer):
    """The README's app, run as anybody would."""

    title = "the README's app"

    def __init__(self, folder: Path, installed: Path) -> None:
        super().__init__()
        self._folder = folder
        self._installed = installed

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def start(self, patience: float = 60.0) -> Example:
        self.port = free_port()
        command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless=true"]
        command += [f"--server.port={self.port}", f"--server.address={LOOPBACK}"]
        command += ["--browser.gatherUsageStats=false"]
        environment = {**os.environ, "PYTHONPATH": str(self._installed)}
        self._launch(command, self._answers, patience, environment=environment, folder=self._folder)
        return self

    def _answers(self) -> bool:
        address = f"http://{LOOPBACK}:{self.port}/_stcore/health"
        return requests.get(address, timeout=2).status_code == 200


@pytest.fixture(scope="module")
def example(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    folder = tmp_path_factory.mktemp("app")
    (code,) = re.findall(r"```python\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    assert len(code.strip().splitlines()) <= 12
    (folder / "app.py").write_text(code)
    with Example(folder, installed) as running:
        yield running


@pytest.mark.browser
def test_the_readmes_app_connects_and_signs(
    context: playwright.BrowserContext, example: Example, node: AnvilNode, accounts: list[str]
) -> None:
    visit = Visit(context.new_page(), example.url)
    person = Wallet(node.url, accounts[:1]).install(visit.page)
    visit.page.goto(example.url)
    visit.click("Connect")
    person.approve(visit.page, "eth_requestAccounts")
    visit.click("Sign it")
    person.approve(visit.page, "personal_sign")
    visit.page.get_by_text("Signed by 0x").wait_for()
    assert person.asked == ["eth_requestAccounts", "personal_sign"]
    visit.page.close()
    assert visit.complaints == []
