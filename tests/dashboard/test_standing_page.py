# SPDX-License-Identifier: Apache-2.0
"""A resident makes a standing offer on the page, the agent follows it, and the resident ends it:
a real browser, node and relay, and the demonstration people's wallet."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import playwright.sync_api as playwright
import pytest

import tests.relay.conftest as street
from dao.demo_people import owner_account
from dao.market.orders import ASK
from dao.market.session import read_book
from dao.paths import index_path
from dao.processes import free_port
from dao.relay.service import run_round
from dao.runstate import write_run_state
from dao.slots import SLOTS_PER_DAY
from dashboard import settings
from dashboard.serve import DashboardServer
from forecasting.agent.keys import AgentKeys
from forecasting.agent.store import OfferStore
from tests.dashboard.browsing import READY, browser_path
from tests.dashboard.sample import Index, run_state
from tests.dashboard.wallet.drive import Visit
from tests.forecasting.agent.conftest import DUE, EXPORT_WH, SELLER, Village, past, served
from tests.relay.conftest import DAY_SLOT, HOMES, SLOTS, ZONE

__all__ = ["past"]  # a fixture
pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

SEED = 7
PRICE = 200


@dataclass
class Place:
    """The dashboard of a street whose people are seeded, and a browser in it."""

    village: Village
    visit: Visit

    def carry(self) -> None:
        """What the relay's own thread does all the time."""
        run_round(self.village.lane.relay, flush=True)

    def sign(self, button: str, title: str) -> None:
        """Click a button of the page, and sign in the wallet's window what it says."""
        self.visit.page.wait_for_function(READY)
        self.visit.page.get_by_role("button", name=button, exact=True).first.click()
        dialog = self.visit.page.get_by_role("dialog", name=f"Home {SELLER} is asked to sign")
        dialog.get_by_text(title).wait_for()
        dialog.get_by_role("button", name="Sign", exact=True).click()
        dialog.wait_for(state="detached")

    def says(self, text: str) -> None:
        self.visit.page.get_by_text(text).first.wait_for()


@pytest.fixture
def place(past: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    owners = tuple(owner_account(SEED, meter) for meter in range(1, HOMES + 1))
    monkeypatch.setattr(street, "OWNERS", owners)
    monkeypatch.setenv("GRIDCOMMONS_HOME", str(tmp_path))
    shutil.copytree(past, tmp_path / "lake")
    with ExitStack() as stack:
        node, chain = stack.enter_context(street.built(tmp_path))
        addresses = tmp_path / "deployment.json"
        lane = stack.enter_context(street.lane_on(node, chain, addresses, tmp_path))
        chain.set_time(DUE)
        url = stack.enter_context(served(lane))
        index = Index(index_path())
        for meter, owner in enumerate(owners, start=1):
            args = {"meter": meter, "owner": owner.address, "zone": ZONE, "device": owner.address}
            index.add("MeterRegistered", 0, args)
        for slot in range(DAY_SLOT - SLOTS_PER_DAY, DAY_SLOT, 2):
            index.clear(slot, PRICE, 1_000)
        write_run_state(run_state(seed=SEED, rpc=node.url, sim_time=DUE, zone_id=ZONE))
        monkeypatch.setenv(settings.RELAY, url)
        server = stack.enter_context(DashboardServer(free_port()))
        store = stack.enter_context(OfferStore())
        keys = AgentKeys()
        driver = stack.enter_context(playwright.sync_playwright())
        browser = driver.chromium.launch(
            executable_path=browser_path(), args=["--no-sandbox", "--disable-quic"]
        )
        stack.callback(browser.close)
        page = browser.new_context(viewport={"width": 1_280, "height": 1_000}).new_page()
        visit = Visit(page, server.url)
        page.set_default_timeout(60_000)
        yield Place(Village(lane, tmp_path, url, store, keys), visit)
        assert visit.complaints == []
        assert visit.foreign_hosts() == set()


def test_an_offer_is_made_followed_and_ended_on_the_page(place: Place) -> None:
    visit, village = place.visit, place.village
    market = village.lane.relay.market
    visit.open("standing-offers")
    chosen = visit.page.get_by_role("combobox", name="Demonstration person")
    chosen.click()
    visit.page.get_by_role("option", name=re.compile(rf"^Home {SELLER}\b")).click()
    visit.click(f"Continue as Home {SELLER}")

    place.says("You have no standing offer")
    visit.page.get_by_text("Sell what I do not need", exact=True).click()

    # What it would have been: every second of the last 92 quarter-hours has a price.
    place.says(f"{EXPORT_WH * SLOTS_PER_DAY * 7 / 1_000:.0f}\u00a0kWh")
    place.says(f"{EXPORT_WH * 46 / 1_000:.1f}\u00a0kWh")

    place.sign("1. Let the agent order", "Let the agent sell for you")
    place.says("Signed, on its way to the chain")
    place.carry()
    terms, *_ = market.call("mandate", SELLER, 1)
    assert terms["agent"] == village.keys.address(SELLER)
    place.sign("2. Sign the offer", "Offer what you do not need")
    place.says("Followed")
    place.says("This is the offer that you have.")

    (held,) = village.store.in_force()
    assert (held.offer.account, held.offer.side, held.offer.mandate) == (SELLER, ASK, 1)
    assert held.offer.limit == terms["limit"]
    village.follower().round(village.now)
    place.carry()
    (order,) = read_book(market, ZONE, DAY_SLOT).orders
    assert (order.account, order.limit, order.total_wh) == (
        SELLER,
        held.offer.limit,
        EXPORT_WH * SLOTS,
    )
    visit.open("standing-offers")
    place.says(f"{EXPORT_WH * SLOTS / 1_000:.1f}\u00a0kWh offered for at least")

    place.sign("End the mandate", "End the agent’s mandate")
    place.says("Done.")
    place.carry()
    assert market.call("mandate", SELLER, 1)[0]["agent"] == "0x" + "00" * 20
    place.sign("End this offer", "End your offer to sell")
    place.says("You have no standing offer")
    assert village.store.in_force() == []
    assert [one.offer.version for one in village.store.history(SELLER)] == [2, 1]
