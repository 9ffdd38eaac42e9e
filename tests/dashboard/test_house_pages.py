# SPDX-License-Identifier: Apache-2.0
"""The pages of rules, roles and treasury on a chain where real votes changed a rule and paid a
bill: in a browser, against the contracts, and against hostile words."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import playwright.sync_api as playwright
import pytest
import requests

from dao import treasury as dao
from dao.parameters import EURO
from dao.treasury import Outcome
from dashboard.repositories import house as asking
from dashboard.serve import DashboardServer
from dashboard.services.decided import decisions
from dashboard.services.roles import roster
from dashboard.services.treasury import Verdict, When, ledger
from dashboard.settings import read_settings
from tests.dashboard.browsing import watch
from tests.dashboard.house_town import BOND, HOSTILE, PAYEE, ZONE, Town, live, town
from tests.dashboard.wallet.drive import Visit

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
SLUGS = ("rules", "roles", "treasury")


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """The file's town, after all that its members decided."""
    folder = tmp_path_factory.mktemp("town")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRIDCOMMONS_HOME", str(folder))
        with town(folder) as made:
            live(made)
            yield made


def plain(place: playwright.Locator) -> str:
    """What is read there, with spaces that may break."""
    return place.inner_text().replace("\u00a0", " ")


def test_the_rules_page_shows_who_changed_a_rule_and_what_is_voted_on(visit: Visit) -> None:
    visit.open("rules")
    visit.page.locator(".gc-house").wait_for()
    page = visit.page
    fee = page.locator("#rule-7")
    assert plain(fee.locator(".now")).startswith("12.0 ct/kWh")
    assert "50.0 ct/kWh" in plain(fee)
    fee.get_by_text("Changed once").click()
    link = fee.get_by_role("link")
    assert link.inner_text().startswith("<script>")
    assert "/proposal?id=0x" in str(link.get_attribute("href"))
    pending = page.get_by_role("table", name="What may change")
    for words in ("Grid fee", "12.0 ct/kWh → 13.5 ct/kWh", "Being voted on", "The grid costs more"):
        assert words in plain(pending)
    windows = plain(page.get_by_role("table", name="Windows"))
    assert "charges with 20 kW" in windows
    assert "gives back 18 kW" in windows


def test_the_roles_page_names_who_holds_what(visit: Visit, street: Town) -> None:
    visit.open("roles")
    visit.page.locator(".gc-house").wait_for()
    text = visit.page.locator("main").inner_text()
    for account in street.chain.accounts[1:5]:
        assert account.address in text
    assert "All 9 contracts belong to the members’ votes alone" in text
    assert "In good standing" in text
    assert "5 members" in text
    matrix = visit.page.get_by_role("table", name="Who may do what")
    row = matrix.get_by_role("row", name="Pause new orders")
    assert row.get_by_role("cell").all_inner_texts().count("yes") == 1


def test_the_treasury_page_shows_every_payment_with_its_vote(visit: Visit) -> None:
    visit.open("treasury")
    visit.page.locator(".gc-house").wait_for()
    page = visit.page
    text = page.locator("main").inner_text()
    assert "The payments below are all there are, unaltered" in text
    assert "€510.00" in text
    row = page.get_by_role("table", name="Every payment").get_by_role("row").nth(2)
    for words in ("€7.00", HOSTILE[:40], "Pay for the new fuse", "3 for, 0 against"):
        assert words in plain(row)
    assert page.title() == "Treasury · GridCommons"
    with page.expect_download() as download:
        page.get_by_role("link", name="All payments as CSV").click()
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text())))
    assert [(row["micro_euro"], row["votes_for"]) for row in rows] == [
        (f"{7 * EURO}", "3"),
        (f"{3 * EURO}", "3"),
    ]
    assert rows[0]["payee"].lower() == PAYEE


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_the_pages_are_readable_by_everybody(
    chromium: playwright.Browser, pages: DashboardServer, width: int, theme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    watched = watch(chromium, width, theme)
    for slug in SLUGS:
        watched.open(f"{pages.url}/{slug}")
        watched.page.locator(".gc-house").wait_for()
        for one in watched.page.locator("details").all():
            one.evaluate("it => it.open = true")
        found = Axe().run(watched.page, context=".gc-house").response["violations"]
        assert [(it["id"], it["nodes"][0]["html"][:200]) for it in found] == [], slug
        assert watched.overflow() <= 0, slug
    assert watched.complaints == []
    watched.page.context.close()


def test_what_is_reckoned_is_what_the_contracts_say(street: Town) -> None:
    settings = read_settings()
    contract = street.deployment["Treasury"]
    now, found = street.chain.now(), asking.house(settings)
    purse = asking.purse(settings)
    one = ledger(found, purse=purse, treasury=contract.address, now=now)
    assert one.verdict is Verdict.FITS
    assert [it.payment for it in one.payments] == dao.payments(contract)
    [told] = dao.budgets(contract)
    [budget] = [it for it in one.budgets if it.when is When.RUNNING]
    assert (budget.spent, budget.amount, budget.edition) == (
        told.spent,
        told.amount,
        told.edition,
    )
    [grant] = dao.grants(contract)
    assert one.grants[0].milestones == grant.milestones
    assert grant.milestones[0].outcome is Outcome.OPEN
    [again] = dao.all_recurring(contract)
    assert (one.recurring[0].due, one.recurring[0].paid) == (again.due, again.paid)
    assert (one.forfeited, one.otherwise) == (20 * EURO, 500 * EURO)
    accounts = dao.accounts(contract)
    assert purse is not None
    assert (purse.free, purse.reserved) == (accounts.free, accounts.reserved)
    [forecaster] = roster(found, decisions(found), settings.deployment or {}).forecasters
    record = asking.record(settings, forecaster.address, ZONE)
    assert record is not None
    assert record.bond == forecaster.bond == BOND


def test_a_payment_that_the_index_has_lost_is_found(street: Town) -> None:
    settings = read_settings()
    found = asking.house(settings)
    kind = ("Treasury", "Payment")
    cut = asking.House({**found.rows, kind: found.rows[kind][:1]})
    contract = street.deployment["Treasury"].address
    one = ledger(cut, purse=asking.purse(settings), treasury=contract, now=street.chain.now())
    assert one.verdict is Verdict.DIFFERS


def test_the_file_of_payments_is_for_everybody(pages: DashboardServer, street: Town) -> None:
    answer = requests.get(f"{pages.url}/public/v1/payments.csv", timeout=20)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/csv")
    last = list(csv.DictReader(io.StringIO(answer.text)))[-1]
    head = bytes(street.deployment["Treasury"].call("spending_hash"))
    assert last["chain_hash"] == "0x" + head.hex()
    assert requests.post(f"{pages.url}/public/v1/payments.csv", timeout=20).status_code == 405
