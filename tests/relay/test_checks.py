# SPDX-License-Identifier: Apache-2.0
"""What the relay says of a submitted order: every problem by field, and what will happen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dao.eip712 import address_of, sign_digest
from dao.market.account import Mandate
from dao.market.orders import ASK, BID, Order, pack
from dao.market.session import SignedOrder
from dao.relay import checks
from dao.relay.checks import (
    AccountState,
    MandateState,
    Nonces,
    Terms,
    judge,
    outlook,
)
from dao.relay.store import State, StoredOrder
from dao.relay.submitted import key_signature, parse_order, receipt_problems

FIRST = 1_627_968
GATE = FIRST * 900 - 3_600
NOW = GATE - 7_200
SIGNATURE = "0x" + "11" * 64 + "1b"
GOOD: dict[str, Any] = {
    "account": 1,
    "mandate": 0,
    "nonce": 2,
    "expiry": GATE,
    "side": "bid",
    "limit": 300,
    "first_slot": FIRST + 3,
    "slots": 2,
    "wh": 500,
    "signature": SIGNATURE,
}
TERMS = Terms(
    zone=1,
    first_slot=FIRST,
    slots=24,
    gate=GATE,
    penalty=100,
    grid_fee=(110,) * 24,
    band_min=(0,) * 24,
    band_max=(1_000,) * 24,
    min_order_wh=50,
    max_slot_wh=25_000,
)
ACCOUNT = AccountState(1, address_of(b"\x01" * 32), 1_000_000, 1, 0, Nonces(0, 0))
AGENT = address_of(b"\x02" * 32)
# Room for one more order of 300,000 under its cap of half a euro.
MANDATE = MandateState(Mandate(AGENT, BID, 300, 5, NOW // 86_400), Nonces(0, 0), 200_000)
ORDER = Order(1, 0, 2, GATE, BID, 300, FIRST, 3, 500, 2)


def fields(problems: Any) -> list[str]:
    return [problem.field for problem in problems]


def test_a_good_order_is_read_with_its_place_in_the_session() -> None:
    draft, problems = parse_order(GOOD)
    assert problems == []
    assert draft is not None
    assert draft.order(FIRST) == ORDER


def test_a_profile_has_one_value_for_each_slot() -> None:
    draft, _ = parse_order({**GOOD, "wh": [0, 65_535]})
    assert draft is not None
    assert draft.wh == (0, 65_535)


def test_the_mandate_may_be_left_out() -> None:
    draft, _ = parse_order({key: value for key, value in GOOD.items() if key != "mandate"})
    assert draft is not None
    assert draft.mandate == 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"account": 0}, "account"),
        ({"account": 2**32}, "account"),
        ({"account": True}, "account"),
        ({"account": "1"}, "account"),
        ({"account": 1.0}, "account"),
        ({"nonce": -1}, "nonce"),
        ({"nonce": 65_536}, "nonce"),
        ({"expiry": 2**40}, "expiry"),
        ({"limit": 65_535}, "limit"),
        ({"first_slot": 2**64}, "first_slot"),
        ({"first_slot": 95}, "first_slot"),
        ({"slots": 0}, "slots"),
        ({"slots": 97}, "slots"),
        ({"side": "BID"}, "side"),
        ({"side": 0}, "side"),
        ({"side": []}, "side"),
        ({"wh": 0}, "wh"),
        ({"wh": 65_536}, "wh"),
        ({"wh": None}, "wh"),
        ({"wh": [1]}, "wh"),
        ({"wh": [0, 0]}, "wh"),
        ({"wh": [1, -1]}, "wh[1]"),
        ({"signature": "0x"}, "signature"),
        ({"signature": "0x1"}, "signature"),
        ({"signature": "0x" + "11" * 513}, "signature"),
        ({"signature": SIGNATURE[2:]}, "signature"),
        ({"signature": 5}, "signature"),
        ({"note": "hello"}, "'note'"),
        ({"account": 10**5_000}, "account"),
    ],
)
def test_a_field_of_the_wrong_shape_is_named(changes: dict[str, Any], field: str) -> None:
    draft, problems = parse_order({**GOOD, **changes})
    assert draft is None
    assert fields(problems) == [field]
    assert problems[0].accepted


def test_everything_that_is_wrong_is_said_at_once() -> None:
    _, problems = parse_order({"account": 0, "side": "?", "wh": 1.5})
    assert set(fields(problems)) == set(GOOD) - {"mandate"}


@pytest.mark.parametrize("document", [None, 5, "order", [GOOD], True])
def test_what_is_no_object_is_no_order(document: Any) -> None:
    assert fields(parse_order(document)[1]) == ["order"]
    assert fields(receipt_problems(document)) == ["receipt"]


def test_an_order_full_of_unknown_fields_gets_a_short_answer() -> None:
    _, problems = parse_order({**GOOD, **{f"field {i}": i for i in range(10_000)}})
    assert len(problems) == 5


def test_an_unsigned_order_must_not_be_signed() -> None:
    assert fields(parse_order(GOOD, signed=False)[1]) == ["'signature'"]


@pytest.mark.parametrize(
    "text",
    [SIGNATURE, "0x" + "11" * 64 + "00", "0x" + "11" * 64],
    ids=["v 27", "v 0", "EIP-2098"],
)
def test_a_keys_signature_becomes_65_bytes_from_every_usual_form(text: str) -> None:
    draft, _ = parse_order({**GOOD, "signature": text})
    assert draft is not None
    assert key_signature(draft.signature) == bytes.fromhex(SIGNATURE[2:])


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)
nearly = st.fixed_dictionaries(
    {}, optional={key: st.just(value) | anything for key, value in GOOD.items()}
)


@settings(max_examples=200, deadline=None)
@given(anything | nearly)
def test_whatever_is_submitted_the_answer_is_plain_text(document: Any) -> None:
    draft, problems = parse_order(document)
    assert (draft is None) == bool(problems)
    for problem in [*problems, *receipt_problems(document)]:
        assert all(text.isascii() and text.isprintable() for text in vars(problem).values())


# What the chain knows


def waiting(number: int = 1, escrow: int = 0, **changes: Any) -> StoredOrder:
    order = replace(ORDER, **changes)
    return StoredOrder(
        id=bytes([number]) * 32,
        zone=1,
        session=FIRST,
        gate=GATE,
        signed=SignedOrder(order, b""),
        escrow=escrow,
        promise=b"",
        state=State.RECEIVED,
        reason=None,
        received_at=NOW,
        received_block=1,
    )


def found(
    order: Order = ORDER,
    terms: Terms = TERMS,
    account: AccountState = ACCOUNT,
    mandate: MandateState | None = None,
    queue: tuple[StoredOrder, ...] = (),
    now: int = NOW,
) -> list[str]:
    return fields(judge(order, terms, account, mandate, queue, now=now, last_call=120))


def test_a_good_order_has_no_problem() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"account": replace(ACCOUNT, zone=0)}, "account"),
        ({"account": replace(ACCOUNT, zone=2)}, "account"),
        ({"account": replace(ACCOUNT, open_orders=32)}, "account"),
        ({"account": replace(ACCOUNT, balance=299_999)}, "limit"),
        ({"account": replace(ACCOUNT, nonces=Nonces(0, 1 << 2))}, "nonce"),
        ({"account": replace(ACCOUNT, nonces=Nonces(3, 0))}, "nonce"),
        ({"account": replace(ACCOUNT, nonces=Nonces(65_522, 0))}, "nonce"),
        ({"order": replace(ORDER, expiry=GATE - 1)}, "expiry"),
        ({"order": replace(ORDER, wh=24)}, "wh"),
        ({"order": replace(ORDER, limit=1, wh=25_001)}, "wh"),
        ({"order": replace(ORDER, side=ASK, wh=5_001)}, "wh"),
        ({"now": GATE - 120}, "first_slot"),
        ({"now": GATE}, "first_slot"),
        ({"terms": replace(TERMS, orders=512)}, "first_slot"),
        ({"terms": replace(TERMS, rows=1_024)}, "first_slot"),
        ({"terms": replace(TERMS, closed="the session is void")}, "first_slot"),
        ({"queue": (waiting(),)}, "nonce"),
        ({"queue": (waiting(nonce=3, escrow=700_001),)}, "limit"),
    ],
)
def test_what_the_contract_would_turn_away_is_refused_by_field(
    change: dict[str, Any], field: str
) -> None:
    assert found(**change) == [field]


@pytest.mark.parametrize(
    "change",
    [
        {"account": replace(ACCOUNT, open_orders=31)},
        {"account": replace(ACCOUNT, balance=300_000)},
        {"account": replace(ACCOUNT, nonces=Nonces(65_523, 0))},
        {"order": replace(ORDER, wh=25)},
        {"order": replace(ORDER, limit=1, wh=25_000)},
        {"order": replace(ORDER, side=ASK, wh=5_000)},
        {"now": GATE - 121},
        {"terms": replace(TERMS, orders=511, rows=1_023)},
        {"queue": (waiting(nonce=3, escrow=700_000),)},
        {"queue": (waiting(account=2, escrow=10**9),)},
    ],
)
def test_what_lies_on_the_edge_is_taken(change: dict[str, Any]) -> None:
    assert found(**change) == []


def test_orders_that_wait_count_as_open_and_fill_the_book() -> None:
    queue = tuple(waiting(n, nonce=n + 3) for n in range(2))
    assert found(account=replace(ACCOUNT, open_orders=30), queue=queue) == ["account"]
    assert found(terms=replace(TERMS, orders=510), queue=queue) == ["first_slot"]
    assert found(terms=replace(TERMS, rows=1_022), queue=queue) == ["first_slot"]


@given(st.integers(0, 95), st.integers(1, 96), st.booleans())
def test_the_words_of_an_order_are_counted_as_they_are_packed(
    offset: int, count: int, is_profile: bool
) -> None:
    count = min(count, 96 - offset)
    wh = (1,) * count if is_profile else 1
    order = replace(ORDER, offset=offset, count=count, wh=wh)
    assert checks.rows_of(order) == len(pack(order))


def test_the_numbers_to_use_are_said() -> None:
    numbers = Nonces(65_530, 0b10)
    queue = [waiting(nonce=65_532)]
    assert numbers.to_use(queue) == [65_530, 65_533, 65_534, 65_535, *range(10)]
    account, order = replace(ACCOUNT, nonces=numbers), replace(ORDER, nonce=65_532)
    (problem,) = judge(order, TERMS, account, None, queue, now=NOW, last_call=120)
    assert problem.accepted.startswith("one of 65530, 65533")


# Mandates

AGENTS = replace(ORDER, mandate=9)


@pytest.mark.parametrize(
    ("order", "mandate", "field"),
    [
        (AGENTS, replace(MANDATE, terms=replace(MANDATE.terms, agent="0x" + "00" * 20)), "mandate"),
        (replace(AGENTS, limit=301, wh=400), MANDATE, "limit"),
        (replace(AGENTS, side=ASK), MANDATE, "side"),
        (AGENTS, replace(MANDATE, terms=replace(MANDATE.terms, last_day=16_956)), "mandate"),
        (AGENTS, replace(MANDATE, spent=200_001), "mandate"),
        (AGENTS, replace(MANDATE, nonces=Nonces(3, 0)), "nonce"),
    ],
)
def test_an_agents_order_stays_within_its_mandate(
    order: Order, mandate: MandateState, field: str
) -> None:
    assert found(order, mandate=mandate) == [field]


def test_an_agents_order_within_its_mandate_is_taken() -> None:
    assert found(AGENTS, mandate=MANDATE) == []
    sells = replace(MANDATE, terms=replace(MANDATE.terms, side=ASK, limit=299))
    assert found(replace(AGENTS, side=ASK), mandate=sells) == []
    assert found(replace(AGENTS, side=ASK, limit=298), mandate=sells) == ["limit"]


def test_a_mandate_and_its_account_number_their_orders_apart() -> None:
    assert found(AGENTS, mandate=MANDATE, queue=(waiting(),)) == []
    assert found(AGENTS, mandate=MANDATE, queue=(waiting(mandate=9),)) == ["nonce"]
    assert found(AGENTS, mandate=MANDATE, queue=(waiting(mandate=8),)) == []


def test_a_cap_counts_whole_cents() -> None:
    assert [checks.counted(escrow) for escrow in (0, 1, 10_000, 10_001)] == [
        0,
        10_000,
        10_000,
        20_000,
    ]


def test_an_order_must_fit_its_session() -> None:
    assert fields(checks.fit_problems(replace(ORDER, offset=23), TERMS)) == ["slots"]
    assert checks.fit_problems(replace(ORDER, offset=22), TERMS) == []


def test_only_the_signer_is_accepted() -> None:
    digest, key = b"\x07" * 32, b"\x01" * 32
    signature = sign_digest(key, digest)
    assert checks.is_signed_by(digest, signature, ACCOUNT.owner)
    assert not checks.is_signed_by(b"\x08" * 32, signature, ACCOUNT.owner)
    assert not checks.is_signed_by(digest, signature, AGENT)
    mirrored = signature[:32] + bytes([0xFF]) * 32 + signature[64:]
    assert not checks.is_signed_by(digest, mirrored, ACCOUNT.owner)
    assert not checks.is_signed_by(digest, b"", ACCOUNT.owner)


# What will happen


def test_a_bid_is_told_the_most_it_can_cost() -> None:
    told = outlook(ORDER, TERMS, 1_000_000, now=NOW, interval=30, margin=300)
    assert (told.escrow, told.balance_after) == (300_000, 700_000)
    assert (told.at_limit, told.worst_case) == (-300_000, -300_000)
    assert told.fee_at_limit == 110 * 1_000
    assert (told.posted_within_s, told.posted_before) == (30, GATE)
    assert told.warnings == ()


def test_an_ask_is_told_what_it_earns_and_what_a_shortfall_costs() -> None:
    ask = replace(ORDER, side=ASK, wh=(400, 600))
    told = outlook(ask, TERMS, 1_000_000, now=NOW, interval=30, margin=300)
    assert (told.escrow, told.at_limit, told.worst_case) == (100_000, 300_000, -100_000)
    assert told.fee_at_limit == 0
    assert "100 micro euro" in told.if_not_delivered


@pytest.mark.parametrize(
    ("order", "terms"),
    [
        (replace(ORDER, limit=109), TERMS),
        (replace(ORDER, side=ASK, limit=1_001), TERMS),
        (ORDER, replace(TERMS, grid_fee=(110,) * 4 + (301,) * 20)),
    ],
    ids=["bid below the fee", "ask above the band", "one slot of two"],
)
def test_an_order_that_cannot_trade_as_things_stand_is_warned(order: Order, terms: Terms) -> None:
    (warning,) = outlook(order, terms, 10**9, now=NOW, interval=30, margin=300).warnings
    count = 1 if terms is not TERMS else 2
    assert warning.startswith(f"In {count} of 2 slots")


def test_close_to_the_gate_an_order_is_posted_at_once() -> None:
    told = outlook(ORDER, TERMS, 10**9, now=GATE - 200, interval=30, margin=300)
    assert told.posted_within_s == 0
