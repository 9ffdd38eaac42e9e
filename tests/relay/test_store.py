# SPDX-License-Identifier: Apache-2.0
"""The relay's file: nothing answered is lost, nothing is told twice, evidence is kept."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dao.errors import BadUse
from dao.market.orders import ASK, BID, Order, Vouched
from dao.market.session import DeviceReceipt, SignedOrder
from dao.relay.request_store import Kind, RequestState, StoredRequest
from dao.relay.store import FEED_LENGTH, WAITING, Fate, Receipt, RelayStore, State, StoredOrder

SESSION = 1_627_968
FLAT = Order(
    account=7,
    mandate=0,
    nonce=3,
    expiry=2**40 - 1,
    side=BID,
    limit=300,
    session_slot=SESSION,
    offset=2,
    wh=500,
    count=4,
)
PROFILE = replace(FLAT, side=ASK, wh=(0, 65_535, 1, 2))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RelayStore]:
    made = RelayStore(tmp_path / "relay.sqlite")
    yield made
    made.close()


def stored(number: int = 1, order: Order = FLAT) -> StoredOrder:
    return StoredOrder(
        id=bytes([number]) * 32,
        zone=1,
        session=SESSION,
        gate=1_000,
        signed=SignedOrder(order, bytes(range(65))),
        escrow=600_000,
        promise=bytes(65),
        state=State.RECEIVED,
        reason=None,
        received_at=100 + number,
        received_block=5,
    )


def add(store: RelayStore, *orders: StoredOrder) -> None:
    with store.writing():
        for order in orders:
            store.add(order)


def reopened(store: RelayStore) -> RelayStore:
    return RelayStore(store.path)


@pytest.mark.parametrize("order", [FLAT, PROFILE], ids=["flat", "profile"])
def test_an_order_comes_back_as_it_was_added(store: RelayStore, order: Order) -> None:
    add(store, stored(order=order))
    assert reopened(store).get(bytes([1]) * 32) == stored(order=order)


def test_who_vouches_for_an_order_comes_back_too(store: RelayStore) -> None:
    wallets = replace(stored(), signed=SignedOrder(FLAT, bytes(512), Vouched.BY_WALLET))
    add(store, wallets)
    found = reopened(store).get(wallets.id)
    assert found is not None
    assert found.signed.vouched is Vouched.BY_WALLET
    assert found == wallets


def test_a_mandates_day_is_counted_from_what_waits_and_what_was_accepted(
    store: RelayStore,
) -> None:
    agents = replace(FLAT, mandate=4)
    add(store, *(stored(number, agents) for number in range(1, 7)), stored(7))
    fates = [
        Fate(bytes([1]) * 32, State.ACCEPTED, posted_at=499),
        Fate(bytes([2]) * 32, State.ACCEPTED, posted_at=500),
        Fate(bytes([3]) * 32, State.REJECTED, posted_at=500),
        Fate(bytes([4]) * 32, State.POSTED),
        Fate(bytes([5]) * 32, State.WITHDRAWN),
    ]
    store.settle_fates(fates, 600)
    assert [one.id[0] for one in store.of_mandate(7, 4, 500)] == [2, 4, 6]


def test_an_order_is_added_once(store: RelayStore) -> None:
    add(store, stored())
    with pytest.raises(Exception, match="UNIQUE"):
        add(store, stored(2), stored())
    assert reopened(store).get(bytes([2]) * 32) is None  # all of it or nothing


def test_orders_come_in_order_of_receipt(store: RelayStore) -> None:
    add(store, stored(3), stored(1), stored(2))
    assert [one.id[0] for one in store.of_session(1, SESSION)] == [3, 1, 2]
    assert store.of_session(2, SESSION) == []


def test_what_became_of_an_order_is_written_down_and_told_once(store: RelayStore) -> None:
    add(store, stored())
    fate = Fate(bytes([1]) * 32, State.REJECTED, "poor", posted_at=150, posted_block=9)
    store.settle_fates([fate], 200)
    store.settle_fates([fate], 201)
    found = reopened(store).get(fate.id)
    assert found == replace(
        stored(), state=State.REJECTED, reason="poor", posted_at=150, posted_block=9
    )
    assert [(e.kind, e.body.get("reason")) for e in store.feed(0)] == [
        ("order-received", None),
        ("order-rejected", "poor"),
    ]


def test_only_what_waits_counts_against_an_account(store: RelayStore) -> None:
    add(store, *(stored(number) for number in range(1, 7)))
    for number, state in enumerate(State, start=1):
        store.settle_fates([Fate(bytes([number]) * 32, state)], 200)
    assert {one.state for one in store.waiting_of([7])} == set(WAITING)
    assert store.waiting_of([8]) == []
    assert store.counts() == dict.fromkeys(State, 1)
    assert store.oldest_waiting() == 101


def test_the_feed_goes_on_after_an_event_and_names_no_account(store: RelayStore) -> None:
    add(store, stored(1), stored(2))
    first, second = store.feed(0)
    assert store.feed(first.seq) == [second]
    assert store.last_event() == second.seq
    assert second.body == {"order": "0x" + "02" * 32, "zone": 1, "session": SESSION}


def test_the_feed_does_not_grow_for_ever(store: RelayStore) -> None:
    add(store, stored())
    fates = [Fate(bytes([1]) * 32, state) for state in (State.POSTED, State.RECEIVED)]
    store.settle_fates(fates * (FEED_LENGTH // 2 + 50), 200)
    assert store.feed(0)[0].seq == store.last_event() - FEED_LENGTH + 1


def test_a_session_is_told_to_be_cleared_once(store: RelayStore) -> None:
    add(store, stored())
    before = store.last_event()
    store.mark_cleared(1, SESSION, 300, void=False)
    store.mark_cleared(1, SESSION, 301, void=False)
    assert [event.kind for event in store.feed(before)] == ["session-cleared"]


def test_a_new_order_opens_a_session_again(store: RelayStore) -> None:
    add(store, stored(1))
    store.close_session(1, SESSION)
    add(store, stored(2))
    assert [session.closed for session in store.sessions(1)] == [False]


def test_a_receipt_sent_again_changes_nothing(store: RelayStore) -> None:
    receipt = DeviceReceipt(4, (1, 2, 3), bytes(65))
    assert store.add_receipt(SESSION, receipt) is Receipt.NEW
    again = replace(receipt, signature=bytes([1]) * 65)
    assert store.add_receipt(SESSION, again) is Receipt.KNOWN
    assert reopened(store).receipts(SESSION) == {4: receipt}
    assert store.receipts(SESSION + 24) == {}
    assert store.conflicts() == []


def test_a_receipt_that_differs_is_kept_as_evidence_and_the_first_one_stays(
    store: RelayStore,
) -> None:
    first, second, third = (DeviceReceipt(4, (wh,), bytes([wh]) * 65) for wh in (1, 2, 3))
    store.add_receipt(SESSION, first)
    store.add_receipt(SESSION, DeviceReceipt(5, (9,), bytes(65)))
    assert store.add_receipt(SESSION, second) is Receipt.CONFLICT
    assert store.add_receipt(SESSION, third) is Receipt.CONFLICT
    assert store.receipts(SESSION)[4] == first
    (conflict,) = reopened(store).conflicts()
    assert (conflict.meter, conflict.first_slot, conflict.receipts) == (4, SESSION, (first, second))


def test_only_one_may_post_at_a_time(store: RelayStore) -> None:
    with store.posting() as alone, reopened(store).posting() as second:
        assert (alone, second) == (True, False)
    with store.posting() as again:
        assert again


def test_a_killed_process_lets_go_of_posting_and_of_the_file(store: RelayStore) -> None:
    program = (
        "import sys, time; from pathlib import Path; from dao.relay.store import RelayStore\n"
        "store = RelayStore(Path(sys.argv[1]))\n"
        "with store.posting() as alone, store.writing():\n"
        "    print(alone, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(store.path)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "True\n"
        with store.posting() as alone:
            assert not alone
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    with store.posting() as alone:
        assert alone
    add(store, stored())


def test_a_file_that_is_no_store_is_bad_use(tmp_path: Path) -> None:
    path = tmp_path / "relay.sqlite"
    path.write_text("these are not the bytes of a database, but enough to look like a file" * 20)
    with pytest.raises(BadUse, match="relay's file"):
        RelayStore(path)


def test_a_file_of_another_schema_is_refused(store: RelayStore) -> None:
    with sqlite3.connect(store.path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(BadUse, match="schema 99"):
        reopened(store)


def test_a_file_of_before_requests_keeps_its_orders_and_takes_requests(store: RelayStore) -> None:
    add(store, stored())
    store.close()
    with sqlite3.connect(store.path) as db:
        db.execute("DROP TABLE requests")
        db.execute("PRAGMA user_version = 1")
    again = reopened(store)
    assert again.get(stored().id) == stored()
    request = StoredRequest(
        id=bytes(32),
        kind=Kind.REVOCATION,
        account=7,
        signer="0x" + "11" * 20,
        fields={"account": 7, "nonce": 3},
        signature=bytes(65),
        by_key=True,
        state=RequestState.RECEIVED,
        reason=None,
        transaction=None,
        received_at=100,
        received_block=5,
    )
    with again.writing():
        again.requests.put(request)
    assert reopened(again).requests.live() == [request]
    assert reopened(again).requests.held([7]).of(7).nonces == {3}


def test_what_its_owner_took_back_is_not_claimed_for_posting(store: RelayStore) -> None:
    add(store, stored(1), stored(2))
    with store.writing():
        store.withdraw([stored(1)], "revoked by its owner", 200)
    assert store.claim([stored(1), stored(2)], 201) == [stored(2)]
    store.settle_fates([Fate(stored(1).id, State.RECEIVED)], 202)
    found = store.get(stored(1).id)
    assert found is not None
    assert found.state is State.WITHDRAWN
