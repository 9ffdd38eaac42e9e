# SPDX-License-Identifier: Apache-2.0
"""The pages of the grid and of how everything runs, in a real browser over a state folder with a
day's evidence; node and relay are dead. The power flow is made by the page's own child."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path

import numpy as np
import playwright.sync_api as playwright
import pytest

from benchmarks.dashboard import sign_in
from benchmarks.empty import EmptyServer
from dao.demo_people import owner_account
from dao.parameters import COMMUNITY_BATTERY
from dao.paths import cache_dir, deployment_path, index_path
from dao.processes import free_port
from dao.runstate import write_run_state
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY, day_of, first_slot_of_day
from dashboard.repositories.operations import OPERATORS
from dashboard.serve import DashboardServer
from forecasting.zone import DayForecast, ZoneTotals, canonical_json, totals_digest
from meters.profiles import zone_profiles
from tests.dashboard.browsing import READY, Watched, watch
from tests.dashboard.sample import Index, run_state
from tests.dashboard.test_walk import violations
from tests.kept import CODE, bring_extract

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

DAY = first_slot_of_day(date(2016, 6, 8))
TRAINED_DAYS = 28
TOLD, FIRST_TOLD, SLOTS_TOLD = 40_000, DAY + 36, 16
MADE = 120_000


def evidence(folder: Path, day: int, ends: int, battery_wh: list[list[int]]) -> None:
    """A forecast of a day with the totals that it knows: last week's day, and a band around it."""
    begin = day - TRAINED_DAYS * SLOTS_PER_DAY
    profiles = zone_profiles(CODE, begin, ends - begin, 1, cache_dir())
    export = profiles.export_wh.sum(axis=1, dtype=np.int64)
    net = profiles.import_wh.sum(axis=1, dtype=np.int64) - export
    homes = ZoneTotals(begin, net, export)
    published = ZoneTotals(begin, net.copy(), export.copy())
    for slot, taken, given in battery_wh:
        published.net_wh[slot - begin] += taken - given
    week = slice(day - begin - 7 * SLOTS_PER_DAY, day - begin - 6 * SLOTS_PER_DAY)
    values: dict[str, np.ndarray] = {}
    for name, middle in (("net", net[week]), ("export", export[week])):
        band = np.abs(middle) // 5 + 1_500
        low, high = middle - band, middle + band
        values |= {
            f"{name}_q10": np.maximum(low, 0) if name == "export" else low,
            f"{name}_q50": middle,
            f"{name}_q90": high,
            f"{name}_mean": middle,
        }
    made = DayForecast(
        zone=1,
        first_slot=day,
        model="last week",
        reason="a test",
        train_first_slot=begin,
        train_end_slot=ends,
        totals_sha256=totals_digest(homes),
        parameters={"timezone": "Europe/Berlin", "country": "DE", "region": "MV", "location": None},
        **values,
    )
    path = folder / "evidence" / f"zone-1-{day_of(day)}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(canonical_json(made.evidence(published, battery_wh=battery_wh)))


def reports(folder: Path) -> None:
    """What the battery's gateway signed: all acknowledged but the last."""
    path = folder / "battery" / "outbox.sqlite"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE reports (device TEXT, slot INTEGER, document TEXT)")
        for slot in range(FIRST_TOLD, FIRST_TOLD + SLOTS_TOLD):
            last = slot == FIRST_TOLD + SLOTS_TOLD - 1
            report = {
                "meter": 119,
                "slot": slot,
                "wanted": TOLD,
                "acknowledged": None if last else TOLD,
                "done_wh": TOLD // 4,
            }
            db.execute("INSERT INTO reports VALUES ('b', ?, ?)", (slot, json.dumps(report)))
        db.commit()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("grid")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRIDCOMMONS_HOME", str(made))
        bring_extract(cache_dir())
        took = [[slot, TOLD // 4, 0] for slot in range(FIRST_TOLD, FIRST_TOLD + SLOTS_TOLD)]
        evidence(made, DAY, DAY - 48, [])
        evidence(made, DAY + 2 * SLOTS_PER_DAY, DAY + SLOTS_PER_DAY + 48, took)
        reports(made)
        index = Index(index_path())
        owner = owner_account(1, 1).address
        args = {"meter": 1, "owner": owner, "zone": 1, "device": owner}
        index.add("MeterRegistered", 0, args, "MeterRegistry")
        index.open_window(COMMUNITY_BATTERY, FIRST_TOLD, SLOTS_TOLD, TOLD)
        dead = f"http://127.0.0.1:{free_port()}"
        write_run_state(
            run_state(
                rpc=dead, relay=dead, proposals=(), sim_time=(DAY + SLOTS_PER_DAY) * SLOT_SECONDS
            )
        )
        contracts = {"MeterRegistry": "0x" + "11" * 20, "ReadingLedger": "0x" + "22" * 20}
        deployment_path().write_text(json.dumps({"chain_id": 31_337, "contracts": contracts}))
        yield made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[DashboardServer]:
    with DashboardServer(free_port()) as running:
        yield running


def shown(watched: Watched) -> tuple[str, str, str]:
    """The drawing, what it says of itself, and the first row of the table."""
    image = watched.page.locator(".gc-gridbox img")
    buses = watched.page.get_by_role("table", name="All buses in this quarter-hour")
    row = buses.locator("tbody tr").first
    return (
        str(image.get_attribute("src")),
        str(image.get_attribute("alt")),
        str(row.text_content()),
    )


def moved(watched: Watched, before: tuple[str, str, str]) -> tuple[str, str, str]:
    """The same once the drawing is another one."""
    watched.page.wait_for_function(
        "old => (document.querySelector('.gc-gridbox img') || {}).src !== old", arg=before[0]
    )
    watched.page.wait_for_function(READY)
    return shown(watched)


def over(watched: Watched) -> int:
    """How many quarter-hours are over a limit, as the page says."""
    text = watched.page.locator(".gc-figures div").last.locator(".value").inner_text()
    return int(text.split()[0])


def test_the_slider_and_the_action_move_picture_and_table(
    chromium: playwright.Browser, server: DashboardServer
) -> None:
    watched = watch(chromium)
    page = watched.page
    watched.open(f"{server.url}/grid?day=2016-06-08&slot=44&shown=forecast&action=without")
    page.locator(".gc-gridbox").wait_for(timeout=MADE)
    page.get_by_text("The same as a table").first.click()
    first = shown(watched)
    assert "Wed 13:00" in first[1]
    box = page.locator(".gc-gridbox")
    spots = (box.get_attribute("data-spots") or "").split(",")
    assert len(spots) == 128
    right, down = (float(part) / 100 for part in spots[5].split())
    area = box.bounding_box()
    assert area is not None
    box.hover(position={"x": right * area["width"], "y": down * area["height"]}, force=True)
    assert page.locator(".gc-tip").inner_text().startswith("Bus ")
    page.keyboard.press("Escape")
    page.locator(".gc-tip").wait_for(state="hidden")

    slider = page.get_by_role("slider", name="Quarter-hour")
    slider.focus()
    page.keyboard.press("ArrowRight")
    second = moved(watched, first)
    assert "Wed 13:15" in second[1]
    assert second[2] != first[2]
    page.wait_for_url("**slot=45**")

    without = over(watched)
    page.get_by_role("radio", name="With the action").click()
    third = moved(watched, second)
    assert over(watched) < without
    assert page.get_by_text("Battery takes 20.0 kW").count() == 2
    page.get_by_role("radio", name="Measured").click()
    moved(watched, third)
    page.get_by_text("15 of 16").wait_for()

    known = EmptyServer()
    with known as empty:
        other = watch(chromium)
        other.open(empty.url)
        harmless = {rule for rule, _ in violations(other.page)}
        other.page.context.close()
    assert [one for one in violations(page) if one[0] not in harmless] == []
    assert watched.overflow() <= 0
    assert watched.complaints == []
    assert watched.foreign_hosts() == set()
    page.context.close()


def test_a_hostile_address_opens_the_page_all_the_same(
    chromium: playwright.Browser, server: DashboardServer
) -> None:
    watched = watch(chromium, 390, "dark")
    watched.open(
        f"{server.url}/grid?day=..%2F..%2Fetc&slot={'9' * 400}&shown=%3Cscript%3E&action=%00"
    )
    watched.page.locator(".gc-gridbox").wait_for(timeout=MADE)
    watched.page.get_by_text("asked for a day or a time that there is none of").wait_for()
    assert watched.overflow() <= 0
    assert watched.complaints == []
    watched.page.context.close()


def test_a_dead_node_and_relay_are_said(
    chromium: playwright.Browser, server: DashboardServer
) -> None:
    watched = watch(chromium)
    watched.open(f"{server.url}/operations")
    page = watched.page
    page.get_by_role("heading", name="What runs").wait_for()
    for part in ("Node", "Relay"):
        row = page.locator(".gc-state tr", has=page.get_by_text(part, exact=True))
        row.get_by_text("wrong", exact=True).wait_for()
        row.get_by_text("Nothing answers at http://127.0.0.1").wait_for()
    page.get_by_text("Look at: Node").wait_for()
    assert watched.complaints == []
    page.context.close()


def test_details_are_for_the_operator_alone(chromium: playwright.Browser, folder: Path) -> None:
    given = {OPERATORS: owner_account(1, 1).address}
    with DashboardServer(free_port(), given) as server:
        stranger = watch(chromium, 390, "dark")
        stranger.open(f"{server.url}/operations")
        stranger.page.get_by_text("Details are for operators.").wait_for()
        stranger.page.get_by_role("table", name="Public status").wait_for()
        text = stranger.page.locator("main").inner_text()
        assert "late" in text
        for secret in ("127.0.0.1", "Nothing answers", "Versions", "Gas"):
            assert secret not in text
        assert stranger.overflow() <= 0
        stranger.page.context.close()

        operator = watch(chromium)
        cookie = sign_in(server.url, folder)
        operator.page.context.add_cookies(
            [{"name": cookie.name, "value": cookie.value, "url": cookie.url}]
        )
        operator.open(f"{server.url}/operations")
        operator.page.get_by_role("heading", name="Last errors").wait_for()
        operator.page.context.close()
