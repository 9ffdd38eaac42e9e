# SPDX-License-Identifier: Apache-2.0
"""The dashboard's page of figures over the dossiers' village: it makes, gives and checks dossiers.

Here, not with the other pages, for the village that this folder's tests build once.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import playwright.sync_api as playwright
import pytest
from click.testing import CliRunner

from dao import deployment as deploying
from dao.audit.package import Dossier
from dao.audit.report.words import Words
from dao.index import Indexer
from dao.processes import free_port
from dashboard.serve import DashboardServer
from scripts.audit import cli
from tests.audit.altering import Forger, cell_changed
from tests.audit.conftest import Published
from tests.audit.village import Village
from tests.dashboard.browsing import choose, watch
from tests.dashboard.conftest import chromium  # noqa: F401 - a fixture

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

DAYS = "from=2016-06-06&to=2016-06-07"


@pytest.fixture(scope="module")
def home(village: Village, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A state folder that looks at the village."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "lake").symlink_to(village.folder / "lake")
    shutil.copyfile(village.folder / "secrets.sqlite", folder / "secrets.sqlite")
    deploying.write(village.deployment, folder / "deployment.json")
    made = village.deployment
    Indexer(
        village.chain.url,
        made.index_contracts(),
        folder / "index.sqlite",
        first_block=made.first_block,
    ).sync()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRIDCOMMONS_HOME", str(folder))
        patch.setenv("GRIDCOMMONS_RPC", village.chain.url)
        yield folder


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[DashboardServer]:
    with DashboardServer(free_port()) as running:
        yield running


@pytest.fixture
def page(chromium: playwright.Browser, server: DashboardServer) -> Iterator[playwright.Page]:  # noqa: F811
    """An analyst's browser. In the end nothing was complained of, and nobody else asked."""
    watched = watch(chromium)
    watched.page.set_default_timeout(45_000)
    watched.open(f"{server.url}/analysis?{DAYS}&zone=1")
    yield watched.page
    watched.page.context.close()
    assert watched.complaints == []
    assert watched.foreign_hosts() == set()


def pressed(page: playwright.Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def verdict(page: playwright.Page) -> str:
    """What the page says of a dossier once it is checked."""
    found = page.locator(".gc-verdict")
    found.wait_for(timeout=120_000)
    return found.inner_text()


def test_an_analyst_makes_a_dossier_and_checks_it(
    page: playwright.Page,
    chromium: playwright.Browser,  # noqa: F811
    server: DashboardServer,
    village: Village,
    published: Published,
    tmp_path: Path,
) -> None:
    """The same bytes as the command's; a second visitor is told, and gets the same file."""
    pressed(page, "Make the dossier")
    page.get_by_text("is being made").wait_for()
    second = watch(chromium)
    second.open(f"{server.url}/analysis?{DAYS}")
    text = second.page.locator("main").inner_text()
    assert "One at a time is worked on here" in text or "made here" in text
    with page.expect_download() as download:
        page.get_by_role("link", name="Fetch").first.click(timeout=120_000)
    download.value.save_as(tmp_path / "page.zip")
    command = ["export", "--zone", "1", "--from", "2016-06-06", "--to", "2016-06-07"]
    command += ["--rpc", village.chain.url]
    made = CliRunner().invoke(cli, [*command, "-o", str(tmp_path / "command.zip"), "--json"])
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["root"] == published.manifest.root
    assert (tmp_path / "page.zip").read_bytes() == (tmp_path / "command.zip").read_bytes()
    second.page.get_by_text("made here").wait_for()
    second.page.context.close()
    pressed(page, "Check it")
    assert "it is the dossier that was published on the chain" in verdict(page)
    rows = page.get_by_role("table", name="Checks of the dossier").get_by_role("row")
    assert rows.count() == 16
    assert "holds" in rows.filter(has_text="Ledger of readings").inner_text()


def test_a_dossier_that_was_tampered_with_is_named(
    page: playwright.Page, published: Published, tmp_path: Path
) -> None:
    """A visitor's own file: the first thing that differs is said by name."""
    forger = Forger(published.path)
    forged = tmp_path / "forged.zip"
    payments = cell_changed(forger.content.tables["payments"], "amount", 0)
    forger.write(forged, tables={"payments": payments})
    choose(page, "Which one", "A file of my own")
    page.locator('input[type="file"]').set_input_files(forged)
    page.get_by_text("forged.zip").first.wait_for()
    pressed(page, "Check it")
    said = verdict(page)
    assert "This dossier does not hold." in said
    assert "Totals and figures: data/payments.parquet" in said
    assert str(tmp_path) not in said


def test_a_file_that_is_no_dossier_ends_in_words(page: playwright.Page, tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 and then nothing")
    choose(page, "Which one", "A file of my own")
    page.locator('input[type="file"]').set_input_files(tmp_path / "bad.zip")
    page.get_by_text("bad.zip").first.wait_for()
    pressed(page, "Check it")
    alert = page.get_by_role("alert").filter(has_text="bad.zip could not be checked")
    alert.wait_for(timeout=60_000)
    assert "is not a dossier" in alert.inner_text()
    assert "/" not in alert.inner_text()


def test_an_address_that_names_nonsense_shows_the_last_days(
    chromium: playwright.Browser,  # noqa: F811
    server: DashboardServer,
) -> None:
    """The unit tests of the span try more of them; here no word of it is run or shown."""
    watched = watch(chromium)
    for query in (
        "from=%3Cscript%3Ealert(1)%3C/script%3E&to=2016-06-07",
        "zone=99999999999999999999&from=0001-01-01&to=9999-12-31",
    ):
        watched.open(f"{server.url}/analysis?{query}")
        text = watched.page.locator("main").inner_text()
        assert "The address named" in text
        assert "Final" in text
        assert "alert(1)" not in text
    assert watched.complaints == []
    watched.page.context.close()


def test_the_page_says_of_each_figure_what_the_dossier_says(
    page: playwright.Page, published: Published
) -> None:
    """And with the same mark."""
    words = Words("en")
    with Dossier(published.path) as dossier:
        rows = dossier.tables["figures"].to_pylist()
    page.get_by_text("All figures").click()
    table = page.get_by_role("table", name="All figures")
    shown = {}
    for row in table.locator("tbody tr").all():
        name, value, _, _, mark = row.locator("td").all_inner_texts()
        shown[name] = value, mark
    marks = {"metered": "metered", "chain": "computed", "operator": "operator"}
    expected = {
        words(f"figure.{row['name']}"): (
            words.figure(row["value"], row["unit"]),
            marks[row["basis"]],
        )
        for row in rows
        if row["name"] not in ("transactions", "gas", "gas_energy_wh")
    }
    assert shown == expected
