# SPDX-License-Identifier: Apache-2.0
"""The dashboard's page of figures over the dossiers' village: it makes, gives and checks dossiers.

Here, not with the other pages, for the village that this folder's tests build once.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import playwright.sync_api as playwright
import pytest
from click.testing import CliRunner

from dao import deployment as deploying
from dao.audit.package import Dossier
from dao.audit.report.words import Words
from dao.audit.scope import Period
from dao.index import EventReader, Indexer
from dao.processes import free_port
from dashboard.repositories import analysis as repository
from dashboard.repositories.analysis import (
    Analysis,
    DatedReader,
    _computed,
    analysis,
    readings_span,
    zones,
)
from dashboard.serve import DashboardServer
from meters.lake.erasing import erase_rows
from meters.signing import reading_separator
from scripts.audit import cli
from tests.audit.altering import Forger, cell_changed
from tests.audit.conftest import JUNE_6, JUNE_7, Published
from tests.audit.village import HOMES, TARIFFS, Village
from tests.audit.village import JUNE_6 as JUNE_6_SLOT
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
    page.get_by_text("Check a dossier").click()
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
    page.get_by_text("Check a dossier").click()
    choose(page, "Which one", "A file of my own")
    page.locator('input[type="file"]').set_input_files(tmp_path / "bad.zip")
    page.get_by_text("bad.zip").first.wait_for()
    pressed(page, "Check it")
    alert = page.get_by_role("alert").filter(has_text="bad.zip could not be checked")
    alert.wait_for(timeout=120_000)
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
    table.wait_for()
    shown = {}
    for row in table.locator("tbody tr").all():
        name, value, *_, mark = row.locator("td").all_inner_texts()
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


# What stands behind the page, without a browser


def tables_of(home: Path) -> Analysis:
    """June 6 and 7 as a page gets them."""
    found = analysis(home, Period.of_days(1, JUNE_6, JUNE_7), TARIFFS)
    assert found is not None
    return found


def numbers_of(one: Analysis) -> set[int]:
    """Every number in any of the tables, those inside of texts too."""
    found: set[int] = set()
    for table in one.tables.values():
        for column in table.columns:
            for value in column.to_pylist():
                if isinstance(value, int):
                    found.add(value)
                elif isinstance(value, str):
                    found |= {int(one) for one in re.findall(r"\d{6,18}", value)}
    return found


def test_days_that_are_over_say_what_the_dossier_says(home: Path, published: Published) -> None:
    """Every table that a page shows, row by row."""
    one = tables_of(home)
    assert one.is_final
    assert not one.missing
    with Dossier(published.path) as dossier:
        assert one.as_of == dossier.scope.as_of
        for name in ("slots", "before", "prices", "settlement", "sessions", "clearing", "quality"):
            assert one.tables[name].equals(dossier.tables[name]), name
        for name in ("groups", "contents", "forecasts", "scores", "payments", "anomalies"):
            assert one.tables[name].equals(dossier.tables[name]), name


def test_no_reading_of_a_home_and_no_sum_over_one_is_in_what_pages_get(
    home: Path, village: Village
) -> None:
    numbers = numbers_of(tables_of(home))
    rows = village.readings
    readings = {int(v) for v in rows.import_wh} | {int(v) for v in rows.export_wh if v}
    assert len(readings) > 10_000
    assert numbers & readings == set()
    sums = set()
    for meter in range(1, HOMES + 1):
        for day in (JUNE_6_SLOT, JUNE_6_SLOT + 96):
            here = (rows.meter == meter) & (rows.slot >= day) & (rows.slot < day + 96)
            sums |= {int(rows.import_wh[here].sum()), int(rows.export_wh[here].sum())}
    assert numbers & (sums - {0}) == set()


def test_days_that_can_still_change_show_no_groups_and_no_counts(
    home: Path, village: Village, tmp_path: Path
) -> None:
    """The chain read up to the evening of June 8: finality is three days."""
    (tmp_path / "lake").symlink_to(village.folder / "lake")
    evening = (JUNE_6_SLOT + 3 * 96 - 16) * 900
    rows = EventReader(home / "index.sqlite")._query(
        "SELECT max(number) FROM blocks WHERE timestamp <= ?", (evening,)
    )
    made = village.deployment
    Indexer(
        village.chain.url,
        made.index_contracts(),
        tmp_path / "index.sqlite",
        first_block=made.first_block,
    ).sync(rows[0][0])
    one = tables_of(tmp_path)
    assert not one.is_final
    assert one.final_end == one.period.first_slot
    for name in ("groups", "quality", "contents"):
        assert one.tables[name].num_rows == 0
    assert one.tables["slots"].num_rows == 192
    assert "session open" not in one.tables["anomalies"]["kind"].to_pylist()


def test_an_erased_reading_takes_its_days_groups_off_the_page(
    home: Path, village: Village, tmp_path: Path
) -> None:
    shutil.copytree(village.folder / "lake", tmp_path / "lake")
    shutil.copyfile(home / "index.sqlite", tmp_path / "index.sqlite")
    before = {row["day"]: row["homes"] for row in tables_of(tmp_path).tables["groups"].to_pylist()}
    assert None not in before.values()
    (path,) = (tmp_path / "lake" / "zone=1" / "day=2016-06-07").glob(f"batch-{JUNE_6_SLOT + 96}-*")
    separator = reading_separator(village.chain.chain_id, village["MeterRegistry"].address)
    assert erase_rows(
        tmp_path / "lake", str(path), 12, JUNE_6_SLOT + 96, JUNE_6_SLOT + 100, separator
    )
    after = {row["day"]: row["homes"] for row in tables_of(tmp_path).tables["groups"].to_pylist()}
    assert after == {**before, "2016-06-07": None}


def test_a_lake_that_lacks_a_batch_leaves_the_chains_figures_alone(
    home: Path, tmp_path: Path
) -> None:
    shutil.copyfile(home / "index.sqlite", tmp_path / "index.sqlite")
    one = tables_of(tmp_path)
    assert one.missing
    assert one.tables["groups"].num_rows == 0
    assert one.tables["slots"].num_rows == 192


def test_before_there_is_a_chain_there_is_nothing_to_tell(tmp_path: Path) -> None:
    assert analysis(tmp_path, Period.of_days(1, JUNE_6, JUNE_7), TARIFFS) is None
    assert zones(tmp_path) == ()
    assert readings_span(tmp_path, 1) is None


def test_a_session_that_has_not_changed_is_not_cleared_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    period = Period.of_days(1, JUNE_6, JUNE_7)
    assert _computed(home, period, TARIFFS) is not None
    monkeypatch.setattr(repository, "replay", None)
    again = _computed(home, period, TARIFFS)
    assert again is not None
    assert again.tables["clearing"].num_rows == 168


def test_days_that_are_over_are_not_computed_again_when_the_chain_moves(
    home: Path, village: Village, tmp_path: Path
) -> None:
    """Open ones are, with its next minute."""
    (tmp_path / "lake").symlink_to(village.folder / "lake")
    index = tmp_path / "index.sqlite"
    shutil.copyfile(home / "index.sqlite", index)
    last_day = Period.of_days(1, JUNE_7 + timedelta(days=8), JUNE_7 + timedelta(days=8))
    closed, opened = tables_of(tmp_path), analysis(tmp_path, last_day, TARIFFS)
    with closing(sqlite3.connect(index)) as db:
        (number, when) = db.execute("SELECT max(number), max(timestamp) FROM blocks").fetchone()
        db.execute("INSERT INTO blocks VALUES (?, '0xnew', ?)", (number + 1, when + 60))
        db.execute("UPDATE cursor SET block = ?", (number + 1,))
        db.commit()
    assert tables_of(tmp_path) is closed
    moved = analysis(tmp_path, last_day, TARIFFS)
    assert opened is not None
    assert moved is not None
    assert moved.as_of == opened.as_of + 60


def test_a_span_of_time_reads_what_the_whole_index_holds_of_it(home: Path) -> None:
    dated = DatedReader(home / "index.sqlite")
    plain = EventReader(home / "index.sqlite")
    first, last = (JUNE_6_SLOT + 20) * 900, (JUNE_6_SLOT + 90) * 900
    for name, contract in (("SlotCleared", "EnergyMarket"), ("BatchCommitted", "ReadingLedger")):
        for span in (
            {"first_time": first, "last_time": last},
            {"first_time": first},
            {"last_time": last},
            {"first_time": 1 << 40},
            {"last_time": 5},
        ):
            found = dated.events(name, contract=contract, **span)
            assert found == plain.events(name, contract=contract, **span)
