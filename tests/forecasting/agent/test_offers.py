# SPDX-License-Identifier: Apache-2.0
"""What an owner signs is what is kept: no other document, no old version, no other chain."""

from __future__ import annotations

import copy
import multiprocessing
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_account.messages import _hash_eip191_message, encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from dao.eip712 import address_of
from dao.errors import BadUse, CheckFailed
from dao.market.orders import ASK, BID
from forecasting.agent.keys import PASSWORD_FILE_VARIABLE, AgentKeys
from forecasting.agent.offers import (
    StandingOffer,
    from_typed_data,
    hour_spans,
    hours_between,
    offer_digest,
    typed_data,
)
from forecasting.agent.store import Deed, HeldOffer, OfferStore, State, following
from tests.forecasting.agent.samples import BUY, DAY, SELL

CHAIN = 31_337
MARKET = "0x" + "11" * 20


def held(offer: StandingOffer) -> HeldOffer:
    return HeldOffer(offer_digest(CHAIN, MARKET, offer), offer, b"\x01" * 65, 1_000)


def document(offer: StandingOffer = SELL) -> dict[str, Any]:
    return typed_data(CHAIN, MARKET, offer)


# The document


@pytest.mark.parametrize("offer", [SELL, BUY, replace(SELL, withdrawn=True, timezone="UTC")])
def test_a_wallet_signs_the_digest_that_is_packed_here(offer: StandingOffer) -> None:
    signed = _hash_eip191_message(encode_typed_data(full_message=document(offer)))
    assert signed == offer_digest(CHAIN, MARKET, offer)
    assert from_typed_data(CHAIN, MARKET, document(offer)) == offer


def test_the_document_of_another_chain_market_or_kind_is_refused() -> None:
    for changed in (
        typed_data(1, MARKET, SELL),
        typed_data(CHAIN, "0x" + "12" * 20, SELL),
        {**document(), "primaryType": "EIP712Domain"},
        {**document(), "types": {}},
        {**document(), "more": 1},
    ):
        with pytest.raises(BadUse, match="document"):
            from_typed_data(CHAIN, MARKET, changed)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("account", 0),
        ("account", 2**32),
        ("account", True),
        ("account", "7"),
        ("side", 2),
        ("version", 0),
        ("withdrawn", 0),
        ("mandate", 0),
        ("limit", 65_535),
        ("limit", -1),
        ("limit", 12.0),
        ("dailyWh", 2**64),
        ("hours", 0),
        ("hours", 2**24),
        ("weekdays", 128),
        ("caution", 1_001),
        ("validUntil", 2**40 - 1),
        ("timezone", "Europe/Nowhere"),
        ("timezone", "../../etc/passwd"),
        ("timezone", "/etc/localtime"),
        ("timezone", ""),
        ("timezone", None),
        ("timezone", ["UTC"]),
    ],
)
def test_a_value_that_cannot_be_is_named(name: str, value: Any) -> None:
    changed = document()
    changed["message"] = {**changed["message"], name: value}
    with pytest.raises(BadUse, match=name):
        from_typed_data(CHAIN, MARKET, changed)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=9), inside),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(json_values, st.sampled_from(["", "domain", "message", "types", "primaryType"]))
def test_whatever_is_sent_is_refused_in_one_line(value: Any, part: str) -> None:
    changed = copy.deepcopy(document())
    if part:
        changed[part] = value
    with pytest.raises(BadUse) as refused:
        from_typed_data(CHAIN, MARKET, changed if part else value)
    assert "\n" not in str(refused.value)


@given(st.integers(0, 23), st.integers(0, 23))
def test_hours_are_shown_as_they_were_named(begin: int, end: int) -> None:
    spans = hour_spans(hours_between(begin, end))
    assert spans == ([(0, 24)] if begin == end else [(begin, end or 24)])


# The store


def test_the_newest_version_holds_and_an_old_one_cannot_come_back(tmp_path: Path) -> None:
    with OfferStore(tmp_path / "offers.sqlite") as store:
        second = replace(SELL, version=2, limit=200)
        assert store.put(held(SELL))
        assert not store.put(held(SELL))  # the very same again
        assert store.put(held(second))
        assert not store.put(held(SELL))
        assert [one.offer for one in store.in_force()] == [second]
        for version in (1, 2, 4):
            with pytest.raises(BadUse, match=r"version.*accepted: 3"):
                store.put(held(replace(SELL, version=version, limit=90)))
        assert store.put(held(replace(second, version=3, withdrawn=True)))
        assert store.in_force() == []
        assert [one.offer.version for one in store.history(7)] == [3, 2, 1]


def test_sides_and_accounts_count_their_versions_apart(tmp_path: Path) -> None:
    with OfferStore(tmp_path / "offers.sqlite") as store:
        for offer in (SELL, BUY, replace(SELL, account=8)):
            assert store.put(held(offer))
        assert store.next_version(7, ASK) == store.next_version(7, BID) == 2
        assert [one.offer.account for one in store.in_force([8, 9])] == [8]
    with OfferStore(tmp_path / "offers.sqlite") as again:
        assert len(again.in_force()) == 3


def test_an_order_on_record_is_not_replaced_by_another(tmp_path: Path) -> None:
    order = {"first_slot": DAY, "wh": [100, 0, 50]}
    deed = Deed(7, ASK, DAY, 1, State.SIGNED, "ordered", {}, 5, 100, 24, b"\x01" * 32, order)
    with OfferStore(tmp_path / "offers.sqlite") as store:
        store.note(replace(deed, state=State.IDLE, order_id=None, document=None))
        store.note(deed)
        store.note(replace(deed, state=State.TAKEN))
        for other in (b"\x02" * 32, None):
            with pytest.raises(BadUse, match="has an order already"):
                store.note(replace(deed, order_id=other))
        assert store.deed(7, ASK, DAY) == replace(deed, state=State.TAKEN)
        assert store.ordered(7, ASK, DAY - 9, DAY + 9, now=0) == {DAY: 100, DAY + 2: 50}


def test_an_order_that_failed_counts_until_its_gate_and_not_after(tmp_path: Path) -> None:
    order = {"first_slot": DAY, "wh": [100]}
    deed = Deed(7, ASK, DAY, 1, State.REFUSED, "relay", {}, 5, 100, 24, b"\x01" * 32, order)
    with OfferStore(tmp_path / "offers.sqlite") as store:
        store.note(deed)
        assert store.ordered(7, ASK, DAY, DAY + 1, now=99) == {DAY: 100}
        assert store.ordered(7, ASK, DAY, DAY + 1, now=100) == {}


def test_only_its_owner_reads_the_store(tmp_path: Path) -> None:
    path = tmp_path / "offers.sqlite"
    with OfferStore(path) as store:
        store.put(held(SELL))
        modes = {file.stat().st_mode & 0o077 for file in tmp_path.iterdir()}
    assert modes == {0}


def test_a_file_that_is_no_store_is_named_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "offers.sqlite"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(CheckFailed, match="cannot use"):
        OfferStore(path)
    assert path.read_bytes() == b"no database at all" * 100
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE something (a)")
    with pytest.raises(CheckFailed, match="not a store of standing offers"):
        OfferStore(other)


def test_a_second_agent_is_refused_while_the_first_one_lives(tmp_path: Path) -> None:
    path = tmp_path / "offers.sqlite"
    with (
        following(path),
        pytest.raises(CheckFailed, match="another agent follows"),
        following(path),
    ):
        pass
    with following(path):
        pass


# The keys


def _address(folder: Path) -> str:
    return AgentKeys(folder).address(7)


def test_a_key_is_made_once_however_many_ask_for_it_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    with context.Pool(4) as pool:
        addresses = pool.map(_address, [tmp_path / "keys"] * 8)
    keys = AgentKeys(tmp_path / "keys")
    assert set(addresses) == {address_of(keys.key(7))}
    assert keys.address(8) != keys.address(7)


def test_keys_lie_encrypted_where_only_their_owner_reads_them(tmp_path: Path) -> None:
    keys = AgentKeys(tmp_path / "keys")
    keys.address(7)
    assert (tmp_path / "keys").stat().st_mode & 0o077 == 0
    for file in (tmp_path / "keys").iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
        assert keys.key(7).hex().encode() not in file.read_bytes()
        assert not file.name.endswith(".tmp")


def test_a_password_elsewhere_opens_the_keys_and_no_other_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = tmp_path / "password"
    password.write_text("four words of mine\n")
    password.chmod(0o600)
    monkeypatch.setenv(PASSWORD_FILE_VARIABLE, str(password))
    address = AgentKeys(tmp_path / "keys").address(7)
    assert not (tmp_path / "keys" / "password").exists()
    assert address_of(AgentKeys(tmp_path / "keys").key(7)) == address
    password.write_text("another\n")
    with pytest.raises(CheckFailed, match="cannot open"):
        AgentKeys(tmp_path / "keys").key(7)
    password.chmod(0o644)
    with pytest.raises(BadUse, match="can be read by others"):
        AgentKeys(tmp_path / "keys").key(7)


@pytest.mark.parametrize("account", [0, -1, True, "../../x", "7"])
def test_what_is_no_account_gets_no_key(tmp_path: Path, account: Any) -> None:
    with pytest.raises(BadUse, match="not the number of an account"):
        AgentKeys(tmp_path / "keys").address(account)
