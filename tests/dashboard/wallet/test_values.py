# SPDX-License-Identifier: Apache-2.0
"""Requests and answers as plain values: what is accepted, what is refused, what has which id."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import wallet
from dashboard.wallet.answers import read_answer
from dashboard.wallet.requests import chain_wanted, content_digest
from dashboard.wallet.texts import texts
from tests.dashboard.wallet.asked import TO, document

ORDER = wallet.SignTypedData(document(5), TO, wallet.Deliver("/orders", {"s": "$signature"}))
SAID: dict[str, Any] = {
    "id": "a", "ok": True, "account": TO, "signature": "0xab", "transaction": None,
    "delivered": {"status": 201, "body": {}}, "problem": None, "detail": "", "token": "t",
}  # fmt: skip


def test_another_content_is_another_request() -> None:
    others = [
        replace(ORDER, document=document(6)),
        replace(ORDER, account="0x" + "11" * 20),
        replace(ORDER, deliver=None),
        replace(ORDER, deliver=wallet.Deliver("/orders", {"s": "$signature", "n": 1})),
        wallet.SignMessage("x", TO),
        wallet.Connect(),
    ]
    assert len({content_digest(one) for one in [ORDER, *others]}) == 1 + len(others)
    assert content_digest(ORDER) == content_digest(replace(ORDER, document=document(5)))


def test_large_numbers_reach_the_wallet_as_text() -> None:
    message = json.loads(ORDER.wire()["document"])["message"]
    assert message == {"wh": 5, "salt": str(2**255 + 5)}


@pytest.mark.parametrize("url", ["//evil.example/x", "https://evil.example", "/\\evil", "x", ""])
def test_a_signature_goes_to_this_server_only(url: str) -> None:
    with pytest.raises(ValueError, match="no path of this server"):
        wallet.Deliver(url, {})
    with pytest.raises(ValueError, match="no path of this server"):
        wallet.SignIn(url, "/session")


@pytest.mark.parametrize("account", ["", "0x", "0x" + "g" * 40, TO + "\n", TO[2:]])
def test_an_account_is_an_address(account: str) -> None:
    with pytest.raises(ValueError, match="no address"):
        wallet.SignMessage("x", account)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"data": "0xabc"}, "hex"), ({"value": -1}, "wei"), ({"value": 2**256}, "wei")],
)
def test_a_transaction_is_checked(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        wallet.SendTransaction(TO, account=TO, chain=1, **change)


def test_typed_data_must_be_whole() -> None:
    with pytest.raises(ValueError, match="domain"):
        wallet.SignTypedData({"types": {}, "primaryType": "A"}, TO)


def test_a_chain_is_described_only_where_it_is_the_documents() -> None:
    known = wallet.Chain(31337, "Local", "http://127.0.0.1:1")
    assert chain_wanted(ORDER, known) == known
    assert chain_wanted(ORDER, wallet.Chain(1, "Other", "http://x")) == wallet.Chain(31337)
    assert chain_wanted(wallet.SignMessage("x", TO), known) is None
    assert "rpcUrls" not in wallet.Chain(1).wire()


@pytest.mark.parametrize("rpc", ["javascript:alert(1)", "ftp://x", "x"])
def test_a_wallet_is_told_only_of_web_addresses(rpc: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        wallet.Chain(1, "x", rpc)


def test_an_answer_is_read() -> None:
    answer = read_answer(SAID, True, ORDER)
    assert answer is not None
    assert (answer.request_id, answer.ok, answer.signature) == ("a", True, "0xab")
    assert answer.request is ORDER


@pytest.mark.parametrize(
    "change",
    [
        {"ok": 1},
        {"ok": True, "problem": "rejected"},
        {"ok": False},
        {"ok": False, "problem": "invented"},
        {"ok": False, "problem": ["rejected"]},
        {"account": "<script>"},
        {"signature": "0x" + "ab" * 20_000},
        {"signature": "zz"},
        {"transaction": 7},
        {"delivered": "yes"},
        {"delivered": {"status": "201"}},
        {"id": None},
        {"detail": ["x"]},
    ],
)
def test_a_browser_that_lies_about_form_is_not_heard(change: dict[str, Any]) -> None:
    assert read_answer({**SAID, **change}, True, None) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*SAID, "x"]), inner, max_size=9)
        ),
        max_leaves=12,
    )
)
def test_nothing_that_a_browser_says_raises(said: Any) -> None:
    read_answer(said, False, None)
    read_answer({**SAID, **said} if isinstance(said, dict) else SAID, False, None)


def test_every_word_goes_through_the_translation() -> None:
    assert set(texts(lambda _: "x").values()) == {"x"}
