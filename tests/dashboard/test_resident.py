# SPDX-License-Identifier: Apache-2.0
"""A resident at the dashboard, in a real browser on a real chain: pays in, sells, is paid, pays
out. And what a hostile relay, a foreign account and a relay that is away come to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dao.market import session
from dao.market.orders import ASK
from dao.market.session import unpack_entries
from dao.processes import free_port
from dao.runstate import read_run_state, write_run_state
from tests.dashboard.acting import fill, pick, sign, sign_in
from tests.dashboard.village import FIRST, HOUR, PURSE, SLOTS, ZONE, Village, village
from tests.dashboard.wallet.drive import Visit

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

ME, OTHER = 3, 4
NOON = FIRST + SLOTS
"""The session of 6 June, 08:00 to 14:00 local time, in which the sun shines."""
EURO = 1_000_000
SCRIPT = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Village]:
    folder = tmp_path_factory.mktemp("resident")
    kept = pytest.MonkeyPatch()
    kept.setenv("GRIDCOMMONS_HOME", str(folder))
    with village(folder, history_days=8) as made:
        yield made
    kept.undo()


def test_a_resident_pays_in_sells_is_paid_and_pays_out(visit: Visit, street: Village) -> None:
    page = visit.page
    street.at(NOON * 900 - 3 * HOUR)
    before, purse = street.balance(ME), street.purse(ME)
    sign_in(visit, ME)

    # Pays in.
    visit.open("money")
    fill(visit, "Amount to pay in", "12.50")
    sign(visit, "Sign and pay in")
    page.get_by_text("Signed and safe at the relay. The money arrives").wait_for()
    street.carry()
    assert street.balance(ME) == before + 12_500_000
    assert street.purse(ME) == purse - 12_500_000 == PURSE - 12_500_000
    visit.open("money")
    page.get_by_text("exactly what the contract says at block").wait_for()

    # Sells: what the ticket says beforehand is what the chain does afterwards.
    visit.open("trade")
    pick(visit, "Sell")
    fill(visit, "Energy in kWh over the whole time", "2.40")
    fill(visit, "Sell for at least, ct/kWh", "9.5")
    page.get_by_text("all of it is sold at your limit").wait_for()
    # The first draft stands with the price suggested, until the typed one has been heard.
    page.get_by_text("€0.23").first.wait_for()
    shown = page.get_by_label("What the order comes to").first.inner_text()
    assert "€0.23" in shown  # 2.40 kWh at 9.5 ct
    assert "\u2212€0.24" in shown  # nothing delivered: 10 ct for each kWh
    sign(visit, "Sign and sell 2.40")
    page.get_by_text("Your order is taken and safe at the relay").wait_for()

    # Waits at the relay, then stands in the book.
    visit.open("orders")
    page.get_by_text("Waiting to be posted").wait_for()
    street.carry()
    assert street.balance(ME) == before + 12_500_000 - 240_000
    visit.open("orders")
    page.get_by_text("In the book").wait_for()
    assert page.get_by_text("Waiting to be posted").count() == 0

    # Neighbours buy; the gate closes; the sun shines; the meters prove it.
    assert street.neighbours(NOON, range(9, 21)) == 12
    street.clear(NOON)
    visit.open("orders")
    page.get_by_text("is held until the meters have proved delivery").wait_for()
    street.deliver(NOON)
    posted = session.read_book(street.relay.market, ZONE, NOON)
    (mine,) = [i for i, one in enumerate(posted.orders) if one.account == ME]
    assert posted.orders[mine].side == ASK
    (event,) = street.chain.logs(
        [street.relay.market.address],
        topics=[street.relay.market.interface.topic("OrdersSettled")],
    )
    entry = unpack_entries(bytes(event.args["entries"]))[mine]
    assert entry.filled_wh == entry.delivered_wh == 2_400
    paid = entry.credit - 240_000
    assert paid > 2_400 * 95 - 1
    assert street.balance(ME) == before + 12_500_000 + paid

    visit.open("orders")
    card = page.get_by_role("article").filter(has_text="Sale,")
    card.get_by_text("Paid", exact=True).first.wait_for()
    assert f"+€{paid / EURO:.2f}" in card.inner_text()
    page.get_by_role("button", name="Receipt", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Receipt as JSON").click()
    document = json.loads(Path(download.value.path()).read_text())
    assert document["change_of_balance"] == paid
    assert document["position_in_book"] == mine
    assert sum(one["paid"] for one in document["fills"]) == paid
    transactions = {step["step"]: step["transaction"] for step in document["steps"]}
    mined = street.chain.rpc("eth_getTransactionReceipt", transactions["paid"])
    topics = {log["topics"][0] for log in mined["logs"]}
    assert street.relay.market.interface.topic("OrdersSettled") in topics

    # Pays out.
    visit.open("money")
    fill(visit, "Amount to pay out", "20.00")
    sign(visit, "Sign and pay out")
    page.get_by_text("The money is on its way to your wallet").wait_for()
    street.carry()
    assert street.purse(ME) == PURSE - 12_500_000 + 20_000_000
    assert street.balance(ME) == before + 12_500_000 + paid - 20_000_000
    visit.open("money")
    page.get_by_text("exactly what the contract says at block").wait_for()
    page.get_by_text("Paid out to").first.wait_for()

    # And home knows.
    visit.open("home")
    page.get_by_text("Earned more").wait_for()


def test_an_order_is_taken_back_before_it_is_posted(visit: Visit, street: Village) -> None:
    page = visit.page
    first_slot = FIRST + 3 * SLOTS
    street.at(max(street.chain.now(), first_slot * 900 - 3 * HOUR))
    sign_in(visit, OTHER)
    before = street.balance(OTHER)
    visit.open("trade")
    page.get_by_role("radio", name="Buy").click()
    page.get_by_label("Pay at most, grid fee included, ct/kWh").wait_for()
    fill(visit, "Energy in kWh over the whole time", "1.20")
    page.get_by_text("all is bought at your limit").wait_for()
    sign(visit, "Sign and buy 1.20")
    page.get_by_text("Your order is taken and safe at the relay").wait_for()
    visit.open("orders")
    page.get_by_text("Waiting to be posted").wait_for()
    sign(visit, "Take this order back")
    page.get_by_text("You took the order back").wait_for()
    street.carry()
    visit.open("orders")
    page.get_by_text("Taken back", exact=True).wait_for()
    assert street.balance(OTHER) == before
    assert not [
        one
        for one in session.read_book(street.relay.market, ZONE, first_slot).orders
        if one.account == OTHER
    ]


def test_a_foreign_account_in_the_address_shows_nothing_of_it(
    visit: Visit, street: Village
) -> None:
    sign_in(visit, OTHER)
    for path in (f"orders?account={ME}", f"money?account={ME}&money.account={ME}", f"home?a={ME}"):
        visit.open(path)
        visit.page.wait_for_timeout(300)
        text = visit.page.inner_text("body")
        assert "12.50" not in text
        assert street.people[ME - 1].address[:8] not in text
    visit.open(f"orders?account={ME}")
    visit.page.get_by_text("No orders yet").wait_for()


def test_nobody_sees_a_residents_page_without_signing_in(visit: Visit) -> None:
    for slug in ("home", "trade", "orders", "money"):
        visit.open(slug)
        visit.page.get_by_text("needs to know who you are").wait_for()
        assert visit.page.locator(".gc-figures, .gc-table").count() == 0


@contextmanager
def hostile(answers: dict[str, Any]) -> Iterator[str]:
    """A relay that answers each path that ends so with this, and everything else with nonsense."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            found = next((a for end, a in answers.items() if path.endswith(end)), "nonsense")
            body = json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{made.server_address[1]}"
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


@contextmanager
def relay_at(street: Village, url: str) -> Iterator[None]:
    """The pages ask this relay instead."""
    path = street.folder / "run.json"
    state = read_run_state(path)
    assert state is not None
    write_run_state(replace(state, relay=url), path)
    try:
        yield
    finally:
        street.publish()


def test_a_relay_that_answers_nonsense_or_not_at_all_is_told_in_words(
    visit: Visit, street: Village
) -> None:
    sign_in(visit, ME)
    for url, words in (
        (f"http://127.0.0.1:{free_port()}", "The relay does not answer."),
        (None, "The relay answered something else than was asked."),
    ):
        with hostile({}) as nonsense, relay_at(street, url or nonsense):
            for slug in ("trade", "orders"):
                visit.open(slug)
                visit.page.get_by_text(words).first.wait_for()
            for slug in ("home", "money"):
                visit.open(slug)
                visit.page.get_by_text("Free", exact=False).first.wait_for()
            assert "Traceback" not in visit.page.content()


def test_script_in_a_relays_answers_stays_text_and_another_order_is_never_signed(
    visit: Visit, street: Village
) -> None:
    page = visit.page
    sign_in(visit, ME)
    first_slot = FIRST + 5 * SLOTS
    gate = first_slot * 900 - HOUR
    coming = {
        "first_slot": first_slot,
        "slots": SLOTS,
        "gate": gate,
        "orders_until": gate - 120,
        "orders": 0,
        "waiting": 0,
        "penalty": 100,
        "min_order_wh": 50,
        "max_slot_wh": 25_000,
        "grid_fee": [110] * SLOTS,
        "band_min": [0] * SLOTS,
        "band_max": [1_000] * SLOTS,
    }
    fields = {
        "account": ME,
        "mandate": 0,
        "nonce": 9,
        "expiry": gate,
        "side": "ask",
        "limit": 100,
        "first_slot": first_slot,
        "slots": 1,
        "wh": 500,
    }
    order = {
        "id": SCRIPT,
        "state": "rejected",
        "reason": SCRIPT,
        "order": fields,
        "escrow": 1,
        "steps": [{"step": SCRIPT, "at": gate, "block": None}],
    }
    market = street.relay.market.address
    document = {
        "types": {"Order": []},
        "primaryType": "Order",
        "domain": {"chainId": 31_337, "verifyingContract": market},
        "message": {**fields, "limit": 1},
    }
    account = {
        "account": ME,
        "owner": SCRIPT,
        "zone": ZONE,
        "balance": 10**9,
        "available": 10**9,
        "open_orders": 0,
        "nonces": [9],
        "waiting": [],
    }
    outlook = {"energy_wh": 500, "escrow": 50_000, "balance_after": 1, "posted_within_s": 1}
    answers = {
        "/sessions": {"zone": ZONE, "now": 1, "sessions": [coming]},
        f"/accounts/{ME}": account,
        f"/accounts/{ME}/orders": {"orders": [order], "next": None},
        "/outlook/order": {"problems": [], "outlook": outlook},
        "/typed-data/order": document,
        "/book": {"zone": ZONE, "session": first_slot, "slots": []},
    }
    with hostile(answers) as url, relay_at(street, url):
        visit.open("orders")
        page.get_by_text("Turned away", exact=True).first.wait_for()
        page.get_by_text("onerror=").first.wait_for()
        assert page.locator("img[src=x]").count() == 0
        visit.open("trade")
        pick(visit, "Sell")
        fill(visit, "Energy in kWh over the whole time", "0.50")
        page.get_by_text("The relay answered something else than was asked.").wait_for()
        assert page.get_by_role("button", name="Sign and sell").count() == 0
        assert "taken" not in page.title()
