# SPDX-License-Identifier: Apache-2.0
"""The demonstration people's wallet: whom it signs for, for whom it is there, what it says."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data

from dao.anvil import AnvilNode
from dao.demo_people import owner_account
from dao.paths import index_path
from dao.runstate import write_run_state
from dashboard.routes import local_wallet as routes
from dashboard.services import signing_words
from dashboard.settings import Settings
from tests.dashboard.near import Browser, serving
from tests.dashboard.sample import FIRST_SLOT, ZONE, Index, run_state

SEED, CHAIN = 7, 31_337
HOMES = [owner_account(SEED, meter).address for meter in (1, 2, 3)]
STRANGER = "0x00000000000000000000000000000000000000AA"
MARKET = "0x00000000000000000000000000000000000000Bb"


@pytest.fixture(scope="module")
def node() -> Iterator[AnvilNode]:
    with AnvilNode() as running:
        yield running


@pytest.fixture(scope="module")
def browser(node: AnvilNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRIDCOMMONS_HOME", str(tmp_path_factory.mktemp("local")))
        index = Index(index_path())
        for meter, owner in enumerate([*HOMES, STRANGER], start=1):
            args = {"meter": meter, "owner": owner, "zone": ZONE, "device": STRANGER}
            index.add("MeterRegistered", 0, args)
        write_run_state(run_state(seed=SEED, rpc=node.url))
        settings = Settings(Path(), node.url, None, CHAIN, {"EnergyMarket": MARKET}, local=True)
        with serving(lambda: routes.routes(settings)) as url:
            yield Browser(url)


def ask(browser: Browser, method: str, *params: Any, **headers: str) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
    answer = browser.post("/local-wallet", body, **headers)
    return {"status": answer.status_code, **answer.json()}


def document(kind: str = "Order", **message: Any) -> dict[str, Any]:
    fields = [{"name": name, "type": "uint256"} for name in message]
    domain = [{"name": "name", "type": "string"}, {"name": "chainId", "type": "uint256"}]
    return {
        "types": {"EIP712Domain": domain, kind: fields},
        "primaryType": kind,
        "domain": {"name": "Test", "chainId": CHAIN},
        "message": message,
    }


def test_only_seeded_owners_are_its_people(browser: Browser) -> None:
    people = ask(browser, "demo_people")["result"]
    assert people == [
        {"address": address, "name": f"Home {meter}"} for meter, address in enumerate(HOMES, 1)
    ]


def test_a_message_is_signed(browser: Browser) -> None:
    text = "Grüße"
    signature = ask(browser, "personal_sign", "0x" + text.encode().hex(), HOMES[1])["result"]
    assert Account.recover_message(encode_defunct(text=text), signature=signature) == HOMES[1]


def test_typed_data_is_signed(browser: Browser) -> None:
    wanted = document(wh=5)
    answer = ask(browser, "eth_signTypedData_v4", HOMES[0], json.dumps(wanted))
    signed = encode_typed_data(full_message=wanted)
    assert Account.recover_message(signed, signature=answer["result"]) == HOMES[0]


def test_a_transaction_is_sent(browser: Browser, node: AnvilNode) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "anvil_setBalance"}
    requests.post(node.url, json={**call, "params": [HOMES[2], hex(10**18)]}, timeout=10)
    sent = {"from": HOMES[2], "to": STRANGER, "value": hex(12_345), "data": "0x"}
    before = int(ask(browser, "eth_getBalance", STRANGER, "latest")["result"], 16)
    tx = ask(browser, "eth_sendTransaction", sent)["result"]
    for _ in range(200):
        if receipt := ask(browser, "eth_getTransactionReceipt", tx)["result"]:
            break
        time.sleep(0.05)
    assert receipt["status"] == "0x1"
    after = int(ask(browser, "eth_getBalance", STRANGER, "latest")["result"], 16)
    assert after - before == 12_345


def test_whoever_has_no_coins_is_told(browser: Browser) -> None:
    sent = {"from": HOMES[0], "to": STRANGER, "value": hex(1)}
    assert "nsufficient" in ask(browser, "eth_sendTransaction", sent)["error"]["message"]


@pytest.mark.parametrize("address", [STRANGER, "0x", None, 7, "0x" + "00" * 20])
def test_nobody_else_is_signed_for(browser: Browser, address: Any) -> None:
    assert ask(browser, "personal_sign", "0x00", address)["error"]["code"] in (4100, -32602)


@pytest.mark.parametrize(
    "method",
    [
        "anvil_setBalance",
        "evm_mine",
        "eth_sign",
        "eth_sendRawTransaction",
        "eth_signTransaction",
        "debug_traceTransaction",
        "admin_peers",
        "personal_unlockAccount",
    ],
)
def test_the_node_is_only_asked_questions(browser: Browser, method: str) -> None:
    assert ask(browser, method)["error"]["code"] == 4200


def test_typed_data_for_another_chain_is_refused(browser: Browser) -> None:
    wanted = document(wh=5)
    wanted["domain"]["chainId"] = 1
    answer = ask(browser, "eth_signTypedData_v4", HOMES[0], json.dumps(wanted))
    assert answer["error"]["code"] == 4901


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example"},
        {"Host": "localhost.evil.example:80"},
        {"X-Forwarded-For": "10.0.0.1"},
        {"Forwarded": "for=10.0.0.1"},
    ],
)
def test_only_this_machines_own_pages_reach_it(browser: Browser, headers: dict[str, str]) -> None:
    assert ask(browser, "demo_people", **headers)["status"] == 403


def test_it_is_not_there_on_another_chain(node: AnvilNode) -> None:
    assert routes.routes(Settings(Path(), node.url, None, CHAIN, {}, local=False)) == []


@pytest.mark.parametrize(
    "params",
    [[], ["x"], [{}], [[]], ["0x1", HOMES[0]], ["0xzz", HOMES[0]], ["0xff", HOMES[0]], [None] * 3],
)
@pytest.mark.parametrize(
    "method", ["personal_sign", "eth_signTypedData_v4", "eth_sendTransaction", "demo_describe"]
)
def test_nonsense_is_an_error_in_words(browser: Browser, method: str, params: list[Any]) -> None:
    answer = ask(browser, method, *params)
    assert answer["status"] == 200
    assert answer["error"]["message"]


class TestWords:
    def test_an_order_says_what_is_sold_and_when(self, browser: Browser) -> None:
        wanted = document(
            account=1, mandate=0, nonce=1, expiry=0, side=1, limit=120, firstSlot=FIRST_SLOT,
            slots=4, wh=250, profile="0x" + "00" * 32,
        )  # fmt: skip
        asked = ask(browser, "demo_describe", "eth_signTypedData_v4", [HOMES[0], wanted])["result"]
        assert asked["name"] == "Home 1"
        assert asked["title"].replace("\u00a0", " ") == "Sell 1.00 kWh"
        facts = {name: value.replace("\u00a0", " ") for name, value in asked["facts"]}
        assert facts["Price"] == "at least 12.0 ct/kWh"
        assert "firstSlot" in asked["everything"]

    @pytest.mark.parametrize(
        ("kind", "message", "title"),
        [
            ("Withdrawal", {"amount": 5_000_000, "to": STRANGER, "deadline": 1}, "Take out €5.00"),
            ("Permit", {"value": 20_000_000, "spender": MARKET, "deadline": 1}, "Pay in €20.00"),
            ("Revocation", {"nonce": 3}, "Take an order back"),
            (
                "Mandate",
                {"side": 0, "limit": 300, "dailyCap": 10, "lastDay": 17_000, "agent": STRANGER},
                "Let the agent buy for you",
            ),
            ("MandateEnd", {"number": 2}, "End the agent’s mandate"),
            ("Ballot", {"support": 1, "proposalId": "7", "deadline": 1}, "Vote"),
            ("Delegation", {"delegatee": STRANGER}, "Let somebody vote for you"),
            (
                "StandingOffer",
                {
                    "side": 1,
                    "withdrawn": False,
                    "limit": 120,
                    "dailyWh": 2_000,
                    "hours": 1,
                    "validUntil": 1,
                },
                "Offer what you do not need",
            ),
            (
                "StandingOffer",
                {"side": 1, "withdrawn": True, "version": 2},
                "End your offer to sell",
            ),
            ("Order", {"wh": "not ours"}, "Sign “Order”"),
            ("Permit", {"value": 10**40, "spender": MARKET, "deadline": 10**30}, "Sign “Permit”"),
            ("Whatever", {"a": [1, {"b": "<script>"}]}, "Sign “Whatever”"),
        ],
    )
    def test_each_kind_has_its_words(self, kind: str, message: dict[str, Any], title: str) -> None:
        asked = signing_words.of_typed_data(document(kind, **message))
        assert asked.title.replace("\u00a0", " ") == title
        assert all(isinstance(value, str) for fact in asked.facts for value in fact)

    def test_a_transaction_names_our_contract(self, browser: Browser) -> None:
        sent = {"from": HOMES[0], "to": MARKET, "data": "0x12345678"}
        asked = ask(browser, "demo_describe", "eth_sendTransaction", [sent])["result"]
        assert ["To", "EnergyMarket"] in asked["facts"]
        assert ["Call", "0x12345678"] in asked["facts"]
