# SPDX-License-Identifier: Apache-2.0
"""The wallet's button in a real browser, before a real node: one click, one request, one effect."""

from __future__ import annotations

import pytest
import requests
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data

from dao.anvil import AnvilNode
from tests.dashboard.wallet.asked import TO, document
from tests.dashboard.wallet.conftest import App
from tests.dashboard.wallet.drive import Visit
from tests.dashboard.wallet.people import Refused, Wallet

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

CONNECT, TYPED = "eth_requestAccounts", "eth_signTypedData_v4"
SEND, NOTE = "eth_sendTransaction", "personal_sign"


def balance(node: AnvilNode) -> int:
    call = {"jsonrpc": "2.0", "id": 1, "method": "eth_getBalance", "params": [TO, "latest"]}
    return int(requests.post(node.url, json=call, timeout=10).json()["result"], 16)


def test_a_signature_reaches_the_service_and_the_app_hears_it_once(
    visit: Visit, wallet: Wallet, app: App, accounts: list[str]
) -> None:
    visit.open().click("Sign the order")
    wallet.approve(visit.page, CONNECT)
    wallet.approve(visit.page, TYPED)
    (answer,) = visit.heard("order")
    assert answer["ok"]
    assert answer["known"]
    assert answer["delivered"]["status"] == 201
    assert app.orders() == [{"wh": 500, "signature": answer["signature"]}]
    # Signed is the document to the last of its 77 digits.
    document_signed = encode_typed_data(full_message=document(500))
    signer = Account.recover_message(document_signed, signature=answer["signature"])
    assert signer.lower() == accounts[0].lower()
    visit.settle()
    assert len(visit.heard("order")) == 1
    assert wallet.asked == [CONNECT, TYPED]
    visit.status("Done.")


def test_a_message_is_signed_as_utf8(visit: Visit, wallet: Wallet, accounts: list[str]) -> None:
    visit.open().click("Sign the note")
    wallet.approve(visit.page, CONNECT)
    wallet.approve(visit.page, NOTE)
    (answer,) = visit.heard("note")
    signer = Account.recover_message(encode_defunct(text="Grüße"), signature=answer["signature"])
    assert signer.lower() == accounts[0].lower()


def test_a_transaction_is_sent(visit: Visit, wallet: Wallet, node: AnvilNode) -> None:
    before = balance(node)
    visit.open().click("Send the coins")
    wallet.approve(visit.page, CONNECT)
    wallet.approve(visit.page, SEND)
    (answer,) = visit.heard("send")
    assert answer["ok"]
    assert len(answer["transaction"]) == 66
    assert balance(node) == before + 500


def test_one_of_two_wallets_is_chosen_with_the_keyboard_and_remembered(
    visit: Visit, wallet: Wallet, node: AnvilNode, accounts: list[str]
) -> None:
    other = Wallet(node.url, accounts[2:3], name="Other wallet", rdns="test.other")
    other.install(visit.page)
    visit.open().click("Connect")
    dialog = visit.page.get_by_role("dialog", name="Choose a wallet")
    dialog.wait_for()
    visit.page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert visit.button("Connect").evaluate("one => one.getRootNode().activeElement === one")
    visit.page.keyboard.press("Enter")
    entry = visit.button("Other wallet")
    entry.wait_for()
    for _ in range(5):
        if entry.evaluate("one => one.getRootNode().activeElement === one"):
            break
        visit.page.keyboard.press("Tab")
    visit.page.keyboard.press("Enter")
    other.approve(visit.page, CONNECT)
    (answer,) = visit.heard("connect")
    assert answer["account"].lower() == accounts[2].lower()
    visit.open()
    (again,) = visit.heard("connect")
    assert again["account"].lower() == accounts[2].lower()
    assert other.asked == [CONNECT]
    assert wallet.asked == []


def test_a_wallet_from_before_the_standard_is_found(
    visit: Visit, node: AnvilNode, accounts: list[str]
) -> None:
    old = Wallet(node.url, accounts[:1], legacy=True).install(visit.page)
    visit.open().click("Connect")
    old.approve(visit.page, CONNECT)
    (answer,) = visit.heard("connect")
    assert answer["account"].lower() == accounts[0].lower()


def test_without_a_wallet_it_says_what_to_do(visit: Visit) -> None:
    visit.open().click("Sign the order")
    visit.status("No wallet found")
    (answer,) = visit.heard("order")
    assert answer["problem"] == "no-wallet"


def test_a_refusal_changes_nothing_and_can_be_retried(
    visit: Visit, wallet: Wallet, app: App
) -> None:
    visit.open().click("Sign the order")
    wallet.approve(visit.page, CONNECT)
    wallet.reject(visit.page, TYPED)
    (answer,) = visit.heard("order")
    assert answer["problem"] == "rejected"
    assert app.orders() == []
    visit.status("You said no")
    visit.click("Try again")
    wallet.approve(visit.page, TYPED)
    assert [one["ok"] for one in visit.heard("order", 2)] == [False, True]
    assert len(app.orders()) == 1
    assert wallet.asked.count(TYPED) == 2


@pytest.mark.parametrize("known", [pytest.param(True, marks=pytest.mark.deep), False])
def test_another_chain_is_left_for_the_right_one(
    visit: Visit, wallet: Wallet, app: App, known: bool
) -> None:
    wallet.chain = 1
    if not known:
        wallet.chains = {1}
    visit.open().click("Sign the order")
    wallet.approve(visit.page, CONNECT)
    wallet.approve(visit.page, "wallet_switchEthereumChain")
    if not known:
        wallet.approve(visit.page, "wallet_addEthereumChain")
        wallet.approve(visit.page, "wallet_switchEthereumChain")
    wallet.approve(visit.page, TYPED)
    assert visit.heard("order")[0]["ok"]
    assert len(app.orders()) == 1


@pytest.mark.deep
def test_a_chain_that_the_person_keeps_ends_the_request(visit: Visit, wallet: Wallet) -> None:
    wallet.chain = 1
    visit.open().click("Sign the order")
    wallet.approve(visit.page, CONNECT)
    wallet.reject(visit.page, "wallet_switchEthereumChain")
    (answer,) = visit.heard("order")
    assert answer["problem"] == "wrong-chain"
    assert TYPED not in wallet.asked


def test_another_account_is_told_and_never_asked_to_sign(
    visit: Visit, wallet: Wallet, accounts: list[str]
) -> None:
    wallet.accounts = accounts[1:2]
    visit.open().click("Sign the order")
    wallet.approve(visit.page, CONNECT)
    (answer,) = visit.heard("order")
    assert answer["problem"] == "wrong-account"
    assert TYPED not in wallet.asked
    wallet.accounts = accounts[:1]
    wallet.emit(visit.page, "accountsChanged", accounts[:1])
    visit.click("Try again")
    wallet.approve(visit.page, TYPED)
    assert visit.heard("order", 2)[1]["ok"]


@pytest.mark.deep
def test_another_wallet_may_have_the_right_account(
    visit: Visit, wallet: Wallet, node: AnvilNode, accounts: list[str]
) -> None:
    wallet.accounts = accounts[1:2]
    other = Wallet(node.url, accounts[:1], name="Other wallet", rdns="test.other")
    other.install(visit.page)
    visit.open().click("Sign the order")
    visit.click("Testing wallet")
    wallet.approve(visit.page, CONNECT)
    visit.status("Choose that account in your wallet")
    visit.click("Choose a wallet")
    visit.click("Other wallet")
    other.approve(visit.page, CONNECT)
    other.approve(visit.page, TYPED)
    assert visit.heard("order", 2)[1]["ok"]
    assert TYPED not in wallet.asked


def test_the_app_hears_of_a_changed_account_and_of_the_end(
    visit: Visit, wallet: Wallet, accounts: list[str]
) -> None:
    visit.open().click("Connect")
    wallet.approve(visit.page, CONNECT)
    visit.heard("connect")
    wallet.emit(visit.page, "accountsChanged", [accounts[1]])
    assert visit.heard("connect", 2)[1]["account"].lower() == accounts[1].lower()
    wallet.emit(visit.page, "accountsChanged", [])
    assert visit.heard("connect", 3)[2]["problem"] == "disconnected"


@pytest.mark.deep
def test_listeners_do_not_pile_up(visit: Visit, wallet: Wallet) -> None:
    visit.open().click("Connect")
    wallet.approve(visit.page, CONNECT)
    visit.heard("connect")
    for _ in range(3):
        visit.settle()
    visit.page.get_by_role("link", name="other").click()
    visit.page.get_by_role("heading", name="Other").wait_for()
    visit.page.get_by_role("link", name="home").click()
    visit.button("Connect").wait_for()
    count = visit.page.evaluate("id => window.wallets[id].count('accountsChanged')", wallet.uuid)
    assert count == 1


def test_a_double_click_is_one_request(visit: Visit, wallet: Wallet, app: App) -> None:
    wallet.trusts = True
    visit.open().button("Sign the order").dblclick()
    visit.button("Sign the order").click(force=True)
    wallet.approve(visit.page, TYPED)
    visit.heard("order")
    assert wallet.asked == [TYPED]
    assert len(app.orders()) == 1


@pytest.mark.deep
def test_two_buttons_do_not_ask_at_once(visit: Visit, wallet: Wallet) -> None:
    wallet.trusts = True
    visit.open().click("Sign the order")
    wallet.wait(visit.page, TYPED)
    visit.click("Send the coins")
    visit.status("Another request is open")
    assert wallet.asked == [TYPED]
    wallet.approve(visit.page, TYPED)
    visit.heard("order")


def test_a_rerun_while_the_wallet_is_open_asks_nothing_twice(
    visit: Visit, wallet: Wallet, app: App
) -> None:
    wallet.trusts = True
    visit.open().click("Sign the order")
    wallet.wait(visit.page, TYPED)
    visit.settle()
    # Another amount is another request; the one in the wallet stays what it is.
    visit.page.get_by_label("Wh", exact=True).fill("700")
    visit.page.get_by_label("Wh", exact=True).press("Enter")
    visit.settle()
    visit.button("Sign the order").click(force=True)
    wallet.approve(visit.page, TYPED)
    (answer,) = visit.heard("order")
    assert answer["ok"]
    assert wallet.asked == [TYPED]
    assert [one["wh"] for one in app.orders()] == [500]


def test_a_change_of_the_page_while_the_wallet_is_open_loses_nothing(
    visit: Visit, wallet: Wallet, app: App
) -> None:
    wallet.trusts = True
    visit.open().click("Sign the order")
    wallet.wait(visit.page, TYPED)
    visit.page.get_by_role("link", name="other").click()
    visit.page.get_by_role("heading", name="Other").wait_for()
    wallet.approve(visit.page, TYPED)
    for _ in range(100):
        if app.orders():
            break
        visit.page.wait_for_timeout(50)
    assert len(app.orders()) == 1
    visit.page.get_by_role("link", name="home").click()
    (answer,) = visit.heard("order")
    assert answer["ok"]
    visit.settle()
    assert len(visit.heard("order")) == 1
    assert wallet.asked == [TYPED]


def test_a_reload_while_the_wallet_is_open_asks_only_when_told(
    visit: Visit, wallet: Wallet, app: App
) -> None:
    wallet.trusts = True
    visit.open().click("Sign the order")
    wallet.wait(visit.page, TYPED)
    visit.open()
    visit.status("The page was reloaded while your wallet was open")
    visit.settle()
    assert wallet.asked == [TYPED]
    # Signed too late: nobody waits for it.
    wallet.approve(visit.page, TYPED)
    assert app.orders() == []
    visit.click("Sign the order")
    wallet.approve(visit.page, TYPED)
    visit.heard("order")
    assert len(app.orders()) == 1


def test_a_transaction_sent_after_a_reload_is_found_and_not_sent_again(
    visit: Visit, wallet: Wallet, node: AnvilNode
) -> None:
    wallet.trusts = True
    before = balance(node)
    visit.open().click("Connect")
    visit.heard("connect")
    visit.click("Send the coins")
    wallet.wait(visit.page, SEND)
    visit.open()
    visit.status("this page will notice")
    wallet.approve(visit.page, SEND)
    (answer,) = visit.heard("send")
    assert answer["ok"]
    assert balance(node) == before + 500
    assert wallet.asked == [SEND]


def test_a_signature_is_delivered_after_a_reload(visit: Visit, wallet: Wallet, app: App) -> None:
    wallet.trusts = True
    app.control(away=3)
    visit.open().click("Sign the order")
    wallet.approve(visit.page, TYPED)
    visit.status("Trying again")
    visit.open()
    (answer,) = visit.heard("order")
    assert answer["ok"]
    assert wallet.asked == [TYPED]
    assert len(app.orders()) == 1


def test_a_refused_delivery_says_why(visit: Visit, wallet: Wallet, app: App) -> None:
    wallet.trusts = True
    app.control(refuse=1)
    visit.open().click("Sign the order")
    wallet.approve(visit.page, TYPED)
    visit.status("Signed, but not taken: the gate has closed")
    (answer,) = visit.heard("order")
    assert answer["problem"] == "delivery-failed"
    assert answer["delivered"]["status"] == 422
    assert app.orders() == []


def test_a_service_that_stays_away_gets_the_same_signature_later(
    visit: Visit, wallet: Wallet, app: App
) -> None:
    wallet.trusts = True
    app.control(away=1_000)
    visit.open().click("Sign the order")
    wallet.approve(visit.page, TYPED)
    kept = visit.page.get_by_role("status").filter(has_text="Your signature is kept")
    for _ in range(200):
        # The network "is back" again and again, and the service is not.
        visit.page.evaluate("window.dispatchEvent(new Event('online'))")
        if kept.count():
            break
        visit.page.wait_for_timeout(50)
    assert visit.heard("order")[0]["problem"] == "delivery-failed"
    app.control(away=0)
    visit.open()
    visit.click("Hand it over again")
    assert visit.heard("order")[0]["ok"]
    assert len(app.orders()) == 1
    assert wallet.asked == [TYPED]


@pytest.mark.deep
def test_a_person_may_give_up_on_a_service_that_is_away(
    visit: Visit, wallet: Wallet, app: App
) -> None:
    wallet.trusts = True
    app.control(away=1_000)
    visit.open().click("Sign the order")
    wallet.approve(visit.page, TYPED)
    visit.status("Trying again")
    # Meanwhile the wallet is free for another request.
    visit.click("Sign the note")
    wallet.approve(visit.page, NOTE)
    assert visit.heard("note")[0]["ok"]
    visit.click("Forget it")
    app.control(away=0)
    visit.open()
    visit.settle()
    assert app.orders() == []
    assert wallet.asked == [TYPED, NOTE]


@pytest.mark.deep
def test_what_is_over_is_not_said_of_another_request(visit: Visit, wallet: Wallet) -> None:
    wallet.trusts = True
    visit.open().click("Sign the order")
    wallet.approve(visit.page, TYPED)
    visit.heard("order")
    visit.status("Done.")
    visit.page.evaluate("{ const now = Date.now; Date.now = () => now() + 9_000; }")
    visit.page.get_by_label("Wh", exact=True).fill("700")
    visit.page.get_by_label("Wh", exact=True).press("Enter")
    done = visit.page.get_by_role("status").filter(has_text="Done.")
    done.wait_for(state="detached")
    assert done.count() == 0


@pytest.mark.deep
def test_a_wallet_that_answers_nonsense_is_not_believed(
    visit: Visit, wallet: Wallet, app: App
) -> None:
    wallet.trusts = True
    script = "<img src=x onerror=\"document.title='taken'\">"
    nonsense = [None, 7, "0x", script, {"x": 1}, "0x" + "ab" * 20_000, Refused(-32603, script)]
    visit.open()
    for number, value in enumerate(nonsense, start=1):
        wallet.junk[TYPED] = value
        visit.click("Sign the order")
        wallet.approve(visit.page, TYPED)
        assert visit.heard("order", number)[-1]["problem"] == "other"
    visit.status("could not do it: <img src=x")
    assert visit.page.title() != "taken"
    assert app.orders() == []


def test_a_request_already_open_is_told(visit: Visit, wallet: Wallet) -> None:
    wallet.trusts = wallet.one_at_a_time = True
    visit.open().click("Sign the order")
    wallet.wait(visit.page, TYPED)
    visit.open()
    visit.click("Sign the order")
    visit.status("already shows a request")
    assert wallet.asked == [TYPED]
    wallet.reject(visit.page, TYPED)
    visit.click("Try again")
    wallet.approve(visit.page, TYPED)
    assert visit.heard("order")[-1]["ok"]


def test_a_wallet_that_does_not_open_gets_help_and_an_end(
    visit: Visit, wallet: Wallet, app: App
) -> None:
    wallet.trusts = True
    visit.open().click("Sign the order")
    wallet.wait(visit.page, TYPED)
    visit.page.get_by_text("The wallet did not open?").wait_for()
    visit.click("Stop waiting")
    visit.status("No longer waiting")
    # What is signed after that is thrown away, and the next click is a request of its own.
    wallet.approve(visit.page, TYPED)
    visit.settle()
    assert app.orders() == []
    visit.click("Sign the order")
    wallet.approve(visit.page, TYPED)
    visit.heard("order")
    assert len(app.orders()) == 1


def test_a_hostile_wallet_is_only_text_and_a_picture(
    visit: Visit, wallet: Wallet, node: AnvilNode, accounts: list[str]
) -> None:
    script = "<img src=x onerror=\"document.title='taken'\"><b>"
    take = 'document.title="taken"'
    icons = [
        "javascript:document.title='taken'",
        "https://example.invalid/spy.png",
        "data:text/html,<script>document.title='taken'</script>",
        f"data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' onload='{take}'/>",
        "data:image/png;base64," + "A" * 200_000,
    ]
    for number, icon in enumerate(icons):
        rdns = f"test.hostile{number}"
        name = script + "\u202e" + "x" * 500
        Wallet(node.url, accounts[:1], name=name, rdns=rdns, icon=icon).install(visit.page)
    visit.page.add_init_script(
        """window.addEventListener("eip6963:requestProvider", () => {
            for (const detail of [null, 7, {}, { info: {} }, { info: { uuid: 7 }, provider: {} },
                                  { get info() { throw new Error("no"); } }])
                window.dispatchEvent(new CustomEvent("eip6963:announceProvider", { detail }));
        })"""
    )
    visit.open().click("Connect")
    dialog = visit.page.get_by_role("dialog", name="Choose a wallet")
    dialog.wait_for()
    names = dialog.locator(".choice .name").all_inner_texts()
    assert len(names) == 1 + len(icons)
    assert max(map(len, names)) <= 40
    assert "\u202e" not in "".join(names)
    assert any("<img" in name for name in names)
    # The one svg is inert inside <img>; the plain wallet has the other picture.
    assert dialog.locator("img").count() == 2
    assert visit.page.title() != "taken"
    visit.click("Cancel")


def press_while(visit: Visit, toggle: str, until: str) -> None:
    """Hold the button down, have the page drawn anew, and let go when `until` holds of what was
    the button."""
    page = visit.page
    box = visit.button("Sign the order").bounding_box()
    assert box is not None
    visit.button("Sign the order").evaluate("one => { window.held = one; }")
    page.mouse.move(box["x"] + 12, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.get_by_label(toggle, exact=True).evaluate("one => one.click()")
    page.wait_for_function(until)
    page.mouse.up()


def test_a_press_counts_although_the_page_is_drawn_anew_under_it(
    visit: Visit, wallet: Wallet
) -> None:
    visit.open()
    press_while(visit, "Elsewhere", "() => !held.isConnected")
    wallet.approve(visit.page, CONNECT)
    wallet.approve(visit.page, TYPED)
    (answer,) = visit.heard("order")
    assert answer["ok"]
    assert wallet.asked == [CONNECT, TYPED]


def test_what_changed_under_the_press_is_read_again_before_it_is_signed(
    visit: Visit, wallet: Wallet
) -> None:
    visit.open()
    press_while(visit, "Otherwise", "() => held.textContent === 'Sign it otherwise'")
    visit.status("This has just changed")
    assert wallet.asked == []
    visit.click("Sign it otherwise")
    wallet.approve(visit.page, CONNECT)
    wallet.approve(visit.page, TYPED)
    assert len(visit.heard("order")) == 1


def test_a_press_that_can_begin_nothing_is_told_why(visit: Visit, wallet: Wallet) -> None:
    visit.open()
    press_while(visit, "Forbidden", "() => held.getAttribute('aria-disabled') === 'true'")
    visit.status("This cannot be done just now")
    assert wallet.asked == []


def test_a_press_that_is_drawn_aside_is_no_press(visit: Visit, wallet: Wallet) -> None:
    page = visit.open().page
    box = visit.button("Sign the order").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 12, box["y"] + 12)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.up()
    visit.settle()
    assert wallet.asked == []


def test_a_wallet_that_keeps_silent_at_first_is_asked_openly(visit: Visit, wallet: Wallet) -> None:
    visit.open().click("Connect")
    wallet.approve(visit.page, CONNECT)
    visit.heard("connect")
    wallet.silent.add("eth_accounts")
    visit.open().click("Sign the order")
    visit.status("One moment")
    wallet.approve(visit.page, TYPED)
    assert visit.heard("order")[0]["ok"]
    assert wallet.asked == [CONNECT, TYPED]
