# SPDX-License-Identifier: Apache-2.0
"""Signing in at the real dashboard, in a real browser: with a wallet, and as a demo person."""

from __future__ import annotations

import json
from collections.abc import Iterator

import playwright.sync_api as playwright
import pytest
import requests

from dao.anvil import AnvilNode
from dao.demo_people import owner_account
from dao.eip712 import checksum_address
from dao.paths import deployment_path, index_path
from dao.processes import free_port
from dao.runstate import write_run_state
from dashboard.hosts import cookie_name
from dashboard.routes.session import SESSION_COOKIE
from dashboard.serve import DashboardServer
from tests.dashboard.sample import ZONE, Index, run_state
from tests.dashboard.wallet.drive import Visit
from tests.dashboard.wallet.people import Wallet

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

SEED, CHAIN = 7, 31_337
STRANGER = "0x00000000000000000000000000000000000000AA"


@pytest.fixture(scope="module")
def server(
    node: AnvilNode, accounts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DashboardServer]:
    """The dashboard of a local chain: three seeded homes, and one of the wallet's owner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRIDCOMMONS_HOME", str(tmp_path_factory.mktemp("signin")))
        index = Index(index_path())
        seeded = [owner_account(SEED, meter).address for meter in (1, 2, 3)]
        for meter, owner in enumerate([*seeded, checksum_address(accounts[0])], start=1):
            args = {"meter": meter, "owner": owner, "zone": ZONE, "device": STRANGER}
            index.add("MeterRegistered", 0, args)
        write_run_state(run_state(seed=SEED, rpc=node.url))
        contracts = {"chain_id": CHAIN, "contracts": {"EnergyMarket": STRANGER}}
        deployment_path().write_text(json.dumps(contracts))
        with DashboardServer(free_port()) as running:
            yield running


@pytest.fixture
def visit(context: playwright.BrowserContext, server: DashboardServer) -> Iterator[Visit]:
    opened = Visit(context.new_page(), server.url)
    yield opened
    opened.page.evaluate("localStorage.clear()")
    opened.page.close()
    context.clear_cookies()
    assert opened.complaints == []
    assert opened.foreign_hosts() == set()


def who(visit: Visit, name: str) -> None:
    """Until the page's head names this person."""
    visit.page.get_by_role("link", name=f"You are signed in as {name}").wait_for()


def test_a_demonstration_person_is_one_click_away_and_stays_after_a_reload(visit: Visit) -> None:
    visit.open("sign-in")
    visit.page.get_by_text("Demonstration: these people live on a local chain").wait_for()
    visit.click("Continue as Home 1")
    visit.page.get_by_text("You are signed in as Home 1").wait_for()
    name = cookie_name(SESSION_COOKIE, visit.url.removeprefix("http://"))
    (cookie,) = [one for one in visit.page.context.cookies() if one["name"] == name]
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert SESSION_COOKIE not in visit.page.evaluate("document.cookie")
    visit.open("sign-in")
    visit.page.get_by_text("You are signed in as Home 1").wait_for()
    who(visit, "Home 1")
    visit.click("Sign out")
    visit.button("Continue as Home 1").wait_for()
    assert visit.page.get_by_text("Signed in.").count() == 0
    visit.open("sign-in")
    visit.button("Continue as Home 1").wait_for()


def test_a_wallet_signs_in_with_one_click_and_two_words_of_the_person(
    visit: Visit, node: AnvilNode, accounts: list[str]
) -> None:
    wallet = Wallet(node.url, accounts[:1]).install(visit.page)
    visit.open("sign-in").click("Sign in with a wallet")
    dialog = visit.page.get_by_role("dialog", name="Choose a wallet")
    names = dialog.locator(".choice .name")
    names.first.wait_for()
    assert set(names.all_inner_texts()) == {"Testing wallet", "Demo person (local chain)"}
    visit.click("Testing wallet")
    wallet.approve(visit.page, "eth_requestAccounts")
    wallet.reject(visit.page, "personal_sign")
    visit.status("You said no")
    visit.click("Try again")
    wallet.wait(visit.page, "personal_sign")
    text = bytes.fromhex(wallet.pending[0].params[0][2:]).decode()
    assert text.startswith(f"{visit.url.removeprefix('http://')} wants you to sign in")
    wallet.approve(visit.page, "personal_sign")
    visit.page.get_by_text("You are signed in as 0xf39F").wait_for()
    assert wallet.asked == ["eth_requestAccounts", "personal_sign", "personal_sign"]


def test_the_demo_wallet_asks_in_words_before_it_signs_anything_else(visit: Visit) -> None:
    visit.open("sign-in").click("Continue as Home 1")
    visit.page.get_by_text("You are signed in as Home 1").wait_for()
    order = {
        "types": {"Revocation": [{"name": "nonce", "type": "uint16"}]},
        "primaryType": "Revocation",
        "domain": {"name": "Test", "chainId": CHAIN},
        "message": {"nonce": 3},
    }
    visit.page.evaluate(
        """([document]) => {
            window.addEventListener("eip6963:announceProvider", async ({ detail }) => {
                if (window.asked) return;
                window.asked = true;
                const [account] = await detail.provider.request({ method: "eth_accounts" });
                const request = { method: "eth_signTypedData_v4", params: [account, document] };
                try { window.signature = await detail.provider.request(request); }
                catch (error) { window.signature = String(error.code); }
            });
            window.dispatchEvent(new Event("eip6963:requestProvider"));
        }""",
        [json.dumps(order)],
    )
    # No button of the wallet's is on this page: its window needs none.
    dialog = visit.page.get_by_role("dialog", name="Home 1 is asked to sign")
    dialog.get_by_text("Take an order back").wait_for()
    dialog.get_by_text("Demonstration on a local chain").wait_for()
    visit.click("Reject")
    visit.page.wait_for_function("window.signature")
    assert visit.page.evaluate("window.signature") == "4001"


def test_a_press_before_the_demo_wallet_has_come_waits_for_it(visit: Visit) -> None:
    held: list[playwright.Route] = []
    visit.page.route("**/demo.js*", lambda route: held.append(route))
    visit.open("sign-in").click("Continue as Home 1")
    visit.status("One moment")
    assert held
    for one in held:
        one.continue_()
    visit.page.get_by_text("You are signed in as Home 1").wait_for()


def test_files_of_the_wallet_come_from_its_folder_only(server: DashboardServer) -> None:
    base = f"{server.url}/_stcore/bidi-components/gridcommons-wallet.wallet"
    # The folder is known once a page has shown a button; the tests above did.
    assert requests.get(f"{base}/index.js", timeout=10).status_code == 200
    for path in ("../component.py", "%2e%2e/pyproject.toml", "..%2fcomponent.py"):
        assert requests.get(f"{base}/{path}", timeout=10).status_code in (400, 403, 404)


def test_the_page_of_a_public_chain_has_no_demonstration_people(
    visit: Visit, server: DashboardServer
) -> None:
    kept = deployment_path().read_text()
    deployment_path().write_text(kept.replace(str(CHAIN), "100"))
    try:
        visit.open("sign-in")
        visit.button("Sign in with a wallet").wait_for()
        assert visit.page.get_by_text("Demonstration").count() == 0
    finally:
        deployment_path().write_text(kept)


def stumbles(page: playwright.Page) -> list[str]:
    """What axe-core finds inside the buttons and their windows, which lie in shadow roots."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, options={"resultTypes": ["violations", "passes"]}).response

    def inside(outcome: str) -> list[str]:
        return [
            f"{one['id']}: {node['html'][:200]}"
            for one in found[outcome]
            for node in one["nodes"]
            if any(isinstance(target, list) for target in node["target"])
        ]

    assert inside("passes")
    return inside("violations")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_button_help_and_windows_are_easy_to_read(
    visit: Visit, node: AnvilNode, accounts: list[str], theme: str
) -> None:
    wallet = Wallet(node.url, accounts[:1]).install(visit.page)
    visit.page.emulate_media(color_scheme=theme)
    visit.open("sign-in")
    visit.button("Sign in with a wallet").wait_for()
    assert stumbles(visit.page) == []
    visit.click("Sign in with a wallet")
    visit.page.get_by_role("dialog", name="Choose a wallet").wait_for()
    assert stumbles(visit.page) == []
    visit.click("Testing wallet")
    visit.page.get_by_text("The wallet did not open?").wait_for()
    assert stumbles(visit.page) == []
    wallet.reject(visit.page, "eth_requestAccounts")
    visit.status("You said no")
    assert stumbles(visit.page) == []
    visit.click("Sign in with a wallet")
    visit.click("Demo person (local chain)")
    visit.page.get_by_role("dialog", name="Which demonstration person are you?").wait_for()
    assert stumbles(visit.page) == []
