# SPDX-License-Identifier: Apache-2.0
"""Orders and receipts as they are taken in, judged by what really stands on the chain."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from eth_account import Account as Signer

from dao.chain import LocalAccount
from dao.deployment import register_homes
from dao.market import session as market_session
from dao.market.orders import Order, Vouched, order_digest
from dao.market.session import Rejection, SignedOrder
from dao.relay import intake, promise
from dao.relay.answers import order_fields
from dao.relay.checks import MAX_OPEN, NONCE_WINDOW
from dao.relay.drafts import typed_order
from dao.relay.intake import Answer, coming_sessions, submit, submit_receipt
from dao.relay.posting import post_due
from dao.relay.store import Receipt, State
from tests.relay.conftest import DAY_SLOT, GATE, HOMES, HOUR, MIDNIGHT, SLOTS, ZONE, Lane

DAY = 24 * HOUR


def one(lane: Lane, order: Order, **changes: Any) -> Answer:
    (answer,) = submit(lane.relay, [lane.document(order, **changes)])
    return answer


def refused(lane: Lane, order: Order, **changes: Any) -> list[str]:
    """The fields that an order is refused for."""
    answer = one(lane, order, **changes)
    assert answer.stored is None
    return [problem.field for problem in answer.problems]


def post(lane: Lane) -> None:
    relay = lane.relay
    post_due(relay.store, relay.market, relay.account, ZONE, lane.chain.now(), flush=True)


def test_a_good_order_is_on_disk_with_a_promise_that_the_relay_signed(lane: Lane) -> None:
    answer = one(lane, lane.order(1))
    assert answer.stored is not None
    assert answer.promise is not None
    assert lane.relay.store.get(answer.promise.order) == answer.stored
    assert (answer.promise.post_before, answer.promise.session) == (GATE, DAY_SLOT)
    signer = promise.signer(lane.chain.chain_id, answer.promise, answer.stored.promise)
    assert signer == lane.relay.account.address


def test_the_outlook_is_what_then_happens_to_the_balance(lane: Lane) -> None:
    for order in (lane.order(1), lane.ask(2, wh=(100, 0, 700), count=3)):
        answer = one(lane, order)
        assert answer.outlook is not None
        post(lane)
        assert lane.balance(order.account) == answer.outlook.balance_after


def test_a_batch_is_judged_order_by_order(lane: Lane) -> None:
    documents: list[Any] = [
        lane.document(lane.order(1)),
        lane.document(lane.order(2), limit=301),
        "nonsense",
        lane.document(lane.order(3)),
        lane.document(lane.order(3, limit=200)),
    ]
    answers = submit(lane.relay, documents)
    assert [answer.stored is not None for answer in answers] == [True, False, False, True, False]
    assert [[p.field for p in answer.problems] for answer in answers] == [
        [],
        ["signature"],
        ["order"],
        [],
        ["nonce"],
    ]


def test_the_same_order_again_gets_the_same_promise(lane: Lane) -> None:
    first, again = one(lane, lane.order(1)), one(lane, lane.order(1))
    assert (again.stored, again.promise) == (first.stored, first.promise)
    assert again.outlook is None
    post(lane)
    later = one(lane, lane.order(1))
    assert later.stored is not None
    assert later.stored.state is State.ACCEPTED


def test_an_order_that_was_turned_away_is_not_taken_unchanged(lane: Lane) -> None:
    order, owner = lane.order(1), lane.owners[0]
    one(lane, order)
    lane.chain.fund(owner.address)
    lane.relay.market.transact("withdraw", 1, 100_000_000, owner.address, sender=owner)
    post(lane)
    token = lane.deployment["TestEuro"]
    token.transact("approve", lane.relay.market.address, 100_000_000, sender=owner)
    lane.relay.market.transact("deposit", [1], [100_000_000], sender=owner)
    assert refused(lane, order) == ["order"]
    assert one(lane, replace(order, expiry=order.expiry + 1)).stored is not None


@pytest.mark.parametrize("signer", [0, 2])
def test_only_the_owner_can_order(lane: Lane, signer: int) -> None:
    stranger = replace(lane, owners=(lane.owners[signer],) * len(lane.owners))
    assert refused(stranger, lane.order(2)) == ["signature"]


def test_an_unknown_account_is_named(lane: Lane) -> None:
    document = lane.document(lane.order(1), account=999)
    (answer,) = submit(lane.relay, [document])
    assert [p.field for p in answer.problems] == ["account"]


def test_a_session_is_open_from_the_day_before_until_shortly_before_its_gate(lane: Lane) -> None:
    far = lane.order(1, session_slot=DAY_SLOT + 96, expiry=2**40 - 1)
    assert refused(lane, far) == ["first_slot"]
    begun = lane.order(1, session_slot=DAY_SLOT - 2 * SLOTS)
    assert refused(lane, begun) == ["first_slot"]
    lane.at(-HOUR - 120)
    assert refused(lane, lane.order(1)) == ["first_slot"]
    lane.at(1)
    assert one(lane, far).stored is not None


def test_money_is_counted_with_what_waits(lane: Lane) -> None:
    large = lane.order(1, wh=25_000, limit=2_000)
    assert one(lane, large).stored is not None
    assert one(lane, replace(large, nonce=1)).stored is not None
    assert refused(lane, replace(large, nonce=2)) == ["limit"]
    assert refused(lane, lane.ask(1, nonce=2)) == ["wh"]
    post(lane)
    assert refused(lane, replace(large, nonce=2)) == ["limit"]


def test_numbers_are_counted_with_what_waits(lane: Lane) -> None:
    for nonce in range(NONCE_WINDOW):
        assert one(lane, lane.order(1, nonce=nonce, wh=50)).stored is not None
    assert refused(lane, lane.order(1, nonce=NONCE_WINDOW)) == ["nonce"]
    post(lane)
    assert one(lane, lane.order(1, nonce=NONCE_WINDOW, wh=50)).stored is not None


def test_open_orders_are_counted_with_what_waits(lane: Lane) -> None:
    for nonce in range(MAX_OPEN):
        assert one(lane, lane.order(1, nonce=nonce, wh=50)).stored is not None
        if nonce % NONCE_WINDOW == NONCE_WINDOW - 1:
            post(lane)
    assert refused(lane, lane.order(1, nonce=MAX_OPEN, wh=50)) == ["account"]


def test_what_the_relay_takes_the_contract_accepts_and_what_it_refuses_it_turns_away(
    lane: Lane,
) -> None:
    """The checks against the contract itself, at every edge that both of them know."""
    edges = [
        lane.order(1, wh=50),
        lane.order(2, wh=49),
        lane.order(3, limit=0, wh=25_000),
        lane.order(4, limit=0, wh=25_001),
        lane.order(5, nonce=15),
        lane.order(6, nonce=16),
        lane.order(7, limit=4_000, wh=25_000),
        lane.order(8, limit=4_001, wh=25_000),
        lane.ask(9, wh=(25_000,) * SLOTS, count=SLOTS),
        lane.ask(10, wh=(0,) * (SLOTS - 1) + (50,), count=SLOTS, limit=65_534),
        lane.order(11, offset=SLOTS - 1),
    ]
    answers = submit(lane.relay, [lane.document(order) for order in edges])
    taken = [answer.stored is not None for answer in answers]
    batch = [lane.signed(order) for order in edges]
    accepted, rejected = market_session.post(
        lane.relay.market, ZONE, DAY_SLOT, batch, lane.relay.account
    )
    assert taken == [signed in accepted for signed in batch]
    assert [why for _, why in rejected] == [
        Rejection.ENERGY_BOUND,
        Rejection.ENERGY_BOUND,
        Rejection.NONCE_USED,
        Rejection.POOR,
    ]


def test_an_agent_orders_within_its_mandate_and_no_further(lane: Lane) -> None:
    agent, owner = lane.owners[9], lane.owners[0]
    lane.chain.fund(owner.address)
    lane.grant(1, 7, agent, limit=300, daily_cap=4)

    def ask_for(order: Order, by: LocalAccount = agent) -> list[str]:
        (answer,) = submit(lane.relay, [lane.document(order, by=by)])
        return [problem.field for problem in answer.problems]

    order = lane.order(1, mandate=7, wh=1_000)  # 0.30 of the 0.40 euro a day
    assert ask_for(order, by=owner) == ["signature"]
    assert ask_for(replace(order, mandate=8)) == ["mandate"]
    assert ask_for(replace(order, limit=301)) == ["limit"]
    assert ask_for(lane.ask(1, mandate=7)) == ["side"]
    assert ask_for(order) == []
    more = replace(order, nonce=1, wh=400)
    assert ask_for(more) == ["mandate"]
    post(lane)
    assert ask_for(more) == ["mandate"]
    assert ask_for(replace(more, wh=300)) == []
    post(lane)
    accepted = lane.relay.store.of_session(ZONE, DAY_SLOT, [State.ACCEPTED])
    assert [stored.order.wh for stored in accepted] == [1_000, 300]
    lane.at(1)
    tomorrow = replace(
        more, nonce=2, session_slot=DAY_SLOT + SLOTS, expiry=MIDNIGHT + DAY, wh=1_300
    )
    assert ask_for(tomorrow) == []
    post(lane)
    assert lane.relay.store.counts()[State.ACCEPTED] == 3


WALLET = """
# pragma version ~=0.4.3
spin: uint256

@deploy
def __init__(spin: uint256):
    self.spin = spin

@view
@external
def isValidSignature(digest: bytes32, signature: Bytes[512]) -> bytes4:
    for i: uint256 in range(self.spin, bound=100_000):
        assert keccak256(convert(i, bytes32)) != empty(bytes32)
    if signature == concat(b"agreed to ", digest):
        return 0x1626ba7e
    return 0xffffffff
"""


def wallet_order(lane: Lane, spin: int) -> tuple[Order, dict[str, Any]]:
    """An order of an account that a contract wallet owns, and its submission. spin: how long the
    wallet thinks."""
    from vyper import compile_code

    code = compile_code(WALLET, output_formats=["bytecode"])["bytecode"]
    made = lane.chain.send(None, bytes.fromhex(code[2:]) + spin.to_bytes(32, "big"))
    assert made.contract_address is not None
    (number,) = register_homes(
        lane.deployment,
        lane.chain.accounts[1],
        zone=ZONE,
        owners=[made.contract_address],
        devices=["0x" + "99" * 20],
        members=0,
    )
    order = lane.order(number, limit=0)  # which takes no money
    fields = dict(vars(order_fields(order)))
    digest = order_digest(lane.relay.separator, order)
    return order, {**fields, "signature": "0x" + (b"agreed to " + digest).hex()}


def test_a_contract_wallet_orders_with_a_signature_of_its_own_kind(lane: Lane) -> None:
    _, document = wallet_order(lane, spin=0)
    (answer,) = submit(lane.relay, [{**document, "signature": "0x1234"}])
    assert [problem.field for problem in answer.problems] == ["signature"]
    (answer,) = submit(lane.relay, [document])
    assert answer.problems == ()
    post(lane)
    assert lane.relay.store.counts()[State.ACCEPTED] == 1


def test_a_wallet_that_takes_too_long_is_refused_as_the_market_does(lane: Lane) -> None:
    order, document = wallet_order(lane, spin=2_000)
    (answer,) = submit(lane.relay, [document])
    assert [problem.field for problem in answer.problems] == ["signature"]
    signature = bytes.fromhex(document["signature"][2:])
    signed = SignedOrder(order, signature, Vouched.BY_WALLET)
    _, rejected = market_session.post(
        lane.relay.market, ZONE, DAY_SLOT, [signed], lane.relay.account
    )
    assert [why for _, why in rejected] == [Rejection.BAD_SIGNATURE]


def test_a_book_that_is_full_is_said_so(lane: Lane) -> None:
    """An order with a value for each of 24 slots takes three of the book's 1,024 words."""
    profile = {"wh": tuple(range(60, 60 + SLOTS)), "count": SLOTS, "limit": 20}
    accounts = range(1, HOMES + 1)
    first = [lane.order(n, nonce=nonce, **profile) for n in accounts for nonce in range(16)]
    answers = submit(lane.relay, [lane.document(order) for order in first])
    assert all(answer.stored is not None for answer in answers)
    post(lane)
    second = [lane.order(n, nonce=nonce, **profile) for nonce in (16, 17) for n in accounts]
    answers = submit(lane.relay, [lane.document(order) for order in second])
    room = 1_024 // 3 - len(first)
    assert [answer.stored is not None for answer in answers] == [True] * room + [False] * (
        len(second) - room
    )
    assert {p.field for answer in answers for p in answer.problems} == {"first_slot"}
    post(lane)
    assert lane.relay.store.counts()[State.ACCEPTED] == 1_024 // 3


def test_an_account_that_sends_too_much_has_to_wait_and_nobody_else(lane: Lane) -> None:
    asked: list[int] = []

    def allow(account: int) -> int:
        asked.append(account)
        return 7 if account == 1 else 0

    documents = [
        lane.document(lane.order(1)),
        lane.document(lane.order(2), limit=301),  # not signed by 2, so not at its expense
        lane.document(lane.order(3)),
    ]
    answers = submit(lane.relay, documents, allow)
    assert [answer.retry_after for answer in answers] == [7, 0, 0]
    assert answers[2].stored is not None
    assert asked == [1, 3]


def test_two_orders_at_once_cannot_spend_the_same_number_or_money(lane: Lane) -> None:
    orders = [lane.order(1, wh=25_000, limit=4_000 - i) for i in range(6)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda order: one(lane, order), orders))
    assert sum(answer.stored is not None for answer in answers) == 1


def test_the_next_gates_are_told_with_their_terms(lane: Lane) -> None:
    now, terms = coming_sessions(lane.relay)
    assert now == MIDNIGHT - 12 * HOUR
    first = DAY_SLOT - SLOTS
    assert [one.first_slot for one in terms] == list(range(first, DAY_SLOT + 96, SLOTS))
    assert [one.gate for one in terms[:2]] == [MIDNIGHT - 7 * HOUR, GATE]
    assert (terms[1].penalty, terms[1].grid_fee, terms[1].band_max) == (
        100,
        (110,) * SLOTS,
        (1_000,) * SLOTS,
    )
    lane.at(-HOUR)
    assert coming_sessions(lane.relay)[1][0].first_slot == DAY_SLOT + SLOTS


@pytest.mark.parametrize("wh", [500, [1, 0, 65_535, *range(14)]], ids=["flat", "profile"])
def test_a_wallet_signs_the_typed_data_and_the_relay_takes_it(lane: Lane, wh: Any) -> None:
    order = lane.ask(1, offset=2, wh=tuple(wh) if isinstance(wh, list) else wh)
    order = replace(order, count=17 if isinstance(wh, list) else 3)
    if isinstance(wh, list):
        order = replace(order, wh=tuple(min(value, 25_000) for value in wh))
    fields = lane.document(order)
    del fields["signature"]
    typed, problems = typed_order(lane.relay, fields)
    assert problems == []
    assert typed is not None
    signed = Signer.sign_typed_data(lane.owners[0].key, full_message=typed)
    (answer,) = submit(lane.relay, [{**fields, "signature": "0x" + signed.signature.hex()}])
    assert answer.problems == ()
    post(lane)
    assert [stored.state for stored in lane.relay.store.of_session(ZONE, DAY_SLOT)] == [
        State.ACCEPTED
    ]


def test_the_depth_shows_what_is_posted_and_what_waits_at_each_price(lane: Lane) -> None:
    submit(
        lane.relay,
        [lane.document(lane.order(1)), lane.document(lane.ask(2, wh=(300, 400), count=2))],
    )
    post(lane)
    submit(
        lane.relay,
        [
            lane.document(lane.order(3, wh=70)),
            lane.document(lane.order(4, limit=320, wh=(0, 80), count=2)),
            lane.document(lane.ask(5, limit=90, wh=60)),
        ],
    )
    depth = intake.depth(lane.relay, DAY_SLOT, SLOTS)
    assert [one.slot for one in depth] == list(range(DAY_SLOT, DAY_SLOT + SLOTS))
    assert depth[0].bids == (intake.Level(300, 500, 70),)
    assert depth[0].asks == (intake.Level(90, 0, 60), intake.Level(100, 300, 0))
    assert depth[1].bids == (intake.Level(320, 0, 80),)
    assert depth[2].bids == depth[2].asks == ()


# Receipts

EXPORTS = [500] * SLOTS


@pytest.fixture
def over(lane: Lane) -> Lane:
    """The lane when the first session is over."""
    lane.at(6 * HOUR)
    return lane


def test_a_devices_receipt_is_kept_for_the_keeper(over: Lane) -> None:
    document = over.receipt(2, EXPORTS)
    assert submit_receipt(over.relay, document) == (Receipt.NEW, [])
    assert submit_receipt(over.relay, document) == (Receipt.KNOWN, [])
    kept = over.relay.store.receipts(DAY_SLOT)[2]
    assert kept.exports == tuple(EXPORTS)
    assert "0x" + kept.signature.hex() == document["signature"]


def test_a_second_receipt_that_differs_is_evidence(over: Lane) -> None:
    submit_receipt(over.relay, over.receipt(2, EXPORTS))
    other = over.receipt(2, [501, *EXPORTS[1:]])
    assert submit_receipt(over.relay, other) == (Receipt.CONFLICT, [])
    assert [conflict.meter for conflict in over.relay.store.conflicts()] == [2]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"meter": 3}, "signature"),
        ({"meter": 999}, "meter"),
        ({"meter": 0}, "meter"),
        ({"exports": [501, *EXPORTS[1:]]}, "signature"),
        ({"exports": EXPORTS[1:]}, "exports"),
        ({"exports": []}, "exports"),
        ({"exports": [*EXPORTS[1:], -1]}, "exports[23]"),
        ({"first_slot": DAY_SLOT + 1}, "first_slot"),
        ({"first_slot": DAY_SLOT - SLOTS}, "signature"),
        ({"first_slot": DAY_SLOT + SLOTS}, "first_slot"),
        ({"first_slot": DAY_SLOT + 960}, "first_slot"),
        ({"first_slot": 96}, "signature"),
        ({"signature": "0x"}, "signature"),
        ({"extra": 1}, "'extra'"),
    ],
)
def test_a_receipt_that_proves_nothing_is_refused(
    over: Lane, changes: dict[str, Any], field: str
) -> None:
    status, problems = submit_receipt(over.relay, {**over.receipt(2, EXPORTS), **changes})
    assert status is None
    assert [problem.field for problem in problems] == [field]


def test_a_receipt_before_the_sessions_end_is_refused(lane: Lane) -> None:
    lane.at(6 * HOUR - 1)
    status, problems = submit_receipt(lane.relay, lane.receipt(2, EXPORTS))
    assert status is None
    assert [problem.field for problem in problems] == ["first_slot"]


def test_a_receipt_of_a_suspended_device_is_refused(lane: Lane) -> None:
    registrar = lane.chain.accounts[1]
    lane.relay.registry.transact("suspend_key", 2, sender=registrar)
    lane.at(6 * HOUR)
    status, problems = submit_receipt(lane.relay, lane.receipt(2, EXPORTS))
    assert status is None
    assert [problem.field for problem in problems] == ["signature"]
