# SPDX-License-Identifier: Apache-2.0
"""Proposals on a real node: written, found by their ids, and read back whatever they say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.street import DAY_SLOT, ZONE, Street
from dao.chain import ContractReverted
from dao.eip712 import keccak
from dao.errors import BadUse
from dao.governance import (
    Lane,
    Proposal,
    State,
    Support,
    battery_call,
    cancel,
    cast_vote,
    find_proposal,
    hex_id,
    lane_of,
    list_proposals,
    propose,
    read_proposal,
    rule_call,
    state,
    terms_of,
    votes_of,
    windows_call,
    zone_of,
)
from dao.governance.describe import plain_text
from dao.governance.proposals import MAX_DESCRIPTION, full_description
from dao.index import Indexer
from dao.parameters import CHARGE_POINTS, COMMUNITY_BATTERY, HOME_BATTERIES
from tests.dao.governance import conftest
from tests.dao.governance.conftest import accept, carry_out, governor, parameters

ALICE, BOB = "0x" + "aa" * 20, "0x" + "bb" * 20
NO_TEXT = b"\xff\xfe\xfd\xfc"


def test_a_proposal_is_read_back_as_it_was_made(on: Street) -> None:
    calls = [rule_call(parameters(on), "grid_fee", 121), rule_call(parameters(on), "penalty", 90)]
    made = conftest.propose(on, calls, "Read me back.")
    assert read_proposal(governor(on), made.id, on.deployment.first_block) == made
    assert made.proposer == on.owners[0].address
    assert made.calls == tuple(calls)


def test_a_proposal_that_nobody_made_is_not_found(on: Street) -> None:
    with pytest.raises(BadUse, match="there is no proposal 17"):
        read_proposal(governor(on), 17)


def test_a_decision_is_carried_out_through_its_steps(on: Street) -> None:
    made = conftest.propose(on, [rule_call(parameters(on), "grid_fee", 112)], "A higher fee.")
    assert state(governor(on), made) is State.PENDING
    carry_out(on, made)
    assert state(governor(on), made) is State.EXECUTED
    assert parameters(on).call("value", 7) == 112


def test_the_lanes_differ_in_who_votes_and_how_fast(on: Street) -> None:
    first = int(DAY_SLOT + 400)
    calls = [battery_call(parameters(on), ZONE, [(first, 4, 1_000)])]
    ordinary = conftest.propose(on, calls, "Slowly.")
    balancing = conftest.propose(on, calls, "Quickly.", Lane.BALANCING)
    assert [lane_of(governor(on), one.id) for one in (ordinary, balancing)] == [
        Lane.ORDINARY,
        Lane.BALANCING,
    ]
    assert [zone_of(governor(on), one.id) for one in (ordinary, balancing)] == [0, ZONE]
    terms = [terms_of(governor(on), lane) for lane in (Lane.ORDINARY, Lane.BALANCING)]
    assert [one.deadline - one.snapshot for one in (ordinary, balancing)] == [
        one.voting_period for one in terms
    ]
    assert terms_of(governor(on), Lane.POLICY) == terms[1]


@pytest.mark.parametrize(
    ("key", "values"),
    [(7, (90, 130)), (COMMUNITY_BATTERY, (-5_000, 60_000)), (CHARGE_POINTS, (0, 22_000)),
     (HOME_BATTERIES, (-1_000, 1_000))],
)  # fmt: skip
def test_windows_of_any_key_are_voted_on_in_the_balancing_lane(
    on: Street, key: int, values: tuple[int, int]
) -> None:
    first = on.chain.now() // 86_400 * 96 + 288
    windows = [(first + 4 * i, 3, value) for i, value in enumerate(values)]
    carry_out(
        on,
        conftest.propose(
            on, [windows_call(parameters(on), ZONE, key, windows)], f"Key {key}.", Lane.BALANCING
        ),
    )
    opened = parameters(on).call("windows_of", ZONE, key, first)
    assert [(w["first_slot"], w["slots"], w["value"]) for w in opened] == windows


def test_windows_that_cannot_be_are_refused(on: Street) -> None:
    for key in (0, 4, 8, 999, 1_003, 2**300):
        with pytest.raises(BadUse, match="takes no window; there are 5 price_band_min"):
            windows_call(parameters(on), ZONE, key, [(DAY_SLOT, 4, 1)])
    for window in ((-1, 4, 1), (2**64, 4, 1), (DAY_SLOT, -1, 1), (DAY_SLOT, 2**64, 1)):
        with pytest.raises(BadUse, match="charge points: no window has"):
            windows_call(parameters(on), ZONE, CHARGE_POINTS, [window])
    for value in (2**127, -(2**127)):
        with pytest.raises(BadUse, match="charge points: no window has the value"):
            windows_call(parameters(on), ZONE, CHARGE_POINTS, [(DAY_SLOT, 4, value)])
    with pytest.raises(BadUse, match="17 windows; a day of a zone has at most 16"):
        windows_call(parameters(on), ZONE, CHARGE_POINTS, [(DAY_SLOT + i, 1, 1) for i in range(17)])


def test_a_policys_number_goes_with_its_lane_only(on: Street) -> None:
    calls = [battery_call(parameters(on), ZONE, [(DAY_SLOT + 400, 4, 1_000)])]
    for lane, policy in ((Lane.POLICY, None), (Lane.ORDINARY, 1)):
        with pytest.raises(BadUse, match="policy lane"):
            propose(governor(on), calls, "Odd.", on.owners[0], lane=lane, policy=policy)


def test_a_veto_counts_against_and_is_counted_apart(on: Street) -> None:
    made = conftest.propose(on, [rule_call(parameters(on), "penalty", 95)], "Cheaper.")
    on.chain.set_time(made.snapshot + 1)
    for member, support in enumerate([Support.VETO, Support.AGAINST, Support.FOR]):
        cast_vote(governor(on), made.id, support, on.owners[member], "So.")
    votes = votes_of(governor(on), made.id)
    assert (votes.against, votes.in_favour, votes.abstain, votes.vetoes) == (2, 1, 0, 1)


def test_a_proposer_takes_a_pending_proposal_back(on: Street) -> None:
    made = conftest.propose(on, [rule_call(parameters(on), "penalty", 96)], "A slip.")
    cancel(governor(on), made, on.owners[0])
    assert state(governor(on), made) is State.CANCELED


def test_nobody_else_can_propose_what_a_member_is_about_to(on: Street) -> None:
    calls = [rule_call(parameters(on), "penalty", 97)]
    text = full_description("Mine.", on.owners[0].address)
    with pytest.raises(ContractReverted, match="propos"):
        governor(on).transact(
            "propose",
            [calls[0].target],
            [0],
            [calls[0].calldata],
            text,
            sender=on.owners[1],
        )
    assert conftest.propose(on, calls, "Mine.").description == text


# Descriptions


def test_a_description_ends_in_simulation_and_proposer() -> None:
    digest = "0x" + "12" * 32
    text = full_description("Why.\n\n", ALICE, digest)
    assert text == f"Why.\nsimulation: {digest}\n#proposer={ALICE}"
    assert Proposal(1, (), text, 0, 0).simulation == digest


def test_a_description_without_simulation_names_none() -> None:
    text = full_description("See simulation: 0x12 of last week.", ALICE)
    assert Proposal(1, (), text, 0, 0).simulation is None


def test_only_the_last_hash_counts_as_the_simulation() -> None:
    old, new = "0x" + "11" * 32, "0x" + "22" * 32
    text = full_description(f"simulation: {old}\nWas wrong.", ALICE, new)
    assert Proposal(1, (), text, 0, 0).simulation == new


def test_a_proposers_mark_is_not_repeated_and_not_replaced() -> None:
    once = full_description("Why.", ALICE)
    assert full_description(once, ALICE) == once
    with pytest.raises(BadUse, match="but 0xbb"):
        full_description(once, BOB)


@pytest.mark.parametrize("text", ["", " \n ", "\udcff", "x" * MAX_DESCRIPTION, "€" * 1_360])
def test_a_description_that_the_governor_would_not_take_is_refused(text: str) -> None:
    with pytest.raises(BadUse, match="description"):
        full_description(text, ALICE)


def propose_bytes(on: Street, text: bytes) -> None:
    """A proposal whose text is these bytes, which no honest tool sends."""
    member = on.owners[1].address
    call = rule_call(parameters(on), "min_order_wh", 60)
    data = governor(on).encode("propose", [call.target], [0], [call.calldata], "X" * len(text))
    on.chain.rpc("anvil_impersonateAccount", member)
    mined = on.chain.rpc(
        "eth_sendTransactionSync",
        {
            "from": member,
            "to": governor(on).address,
            "data": "0x" + data.replace(b"X" * len(text), text).hex(),
        },
    )
    assert mined["status"] == "0x1"


def test_a_description_that_is_no_utf8_is_read_shown_and_carried_out(
    on: Street, tmp_path: Path
) -> None:
    propose_bytes(on, NO_TEXT)
    found = list_proposals(governor(on), on.deployment.first_block)[-1]
    assert found.arguments()[3] == keccak(NO_TEXT)
    assert plain_text(found.description) == r"\xff\xfe\xfd\xfc"
    indexer = Indexer(
        on.chain.url,
        on.deployment.index_contracts(),
        tmp_path / "index.sqlite",
        first_block=on.deployment.first_block,
    )
    indexer.sync()
    assert indexer.events("ProposalCreated")[-1]["args"]["description"] == r"\xff\xfe\xfd\xfc"
    accept(on, found)
    assert state(governor(on), found) is State.QUEUED


# Ids

SOME = [Proposal(id, (), "", 0, 0) for id in (0x12 << 248, (0x12 << 248) | (1 << 200), 123_456)]


def test_an_id_is_given_whole_in_decimal_or_hex() -> None:
    for one in SOME:
        for text in (str(one.id), hex(one.id), hex_id(one.id), hex_id(one.id).upper()):
            assert find_proposal(SOME, text) == one


def test_the_first_digits_of_an_id_are_enough_where_no_other_begins_so() -> None:
    assert find_proposal(SOME, hex_id(SOME[1].id)[:20]) == SOME[1]
    assert find_proposal(SOME, "1234") == SOME[2]


def test_an_id_that_is_also_the_beginning_of_another_names_itself() -> None:
    longer = replace(SOME[2], id=1_234_567)
    assert find_proposal([longer, SOME[2]], "123456") == SOME[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0x12", "2 proposals begin"),
        ("0x99", "no proposal begins"),
        ("7", "no proposal begins"),
        ("abc", "is no proposal's id"),
        ("0x", "is no proposal's id"),
        ("", "is no proposal's id"),
        ("-1", "is no proposal's id"),
        ("1" * 100, "is no proposal's id"),
        ("٣", "is no proposal's id"),
    ],
)
def test_an_id_that_names_nothing_or_too_much_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadUse, match=message):
        find_proposal(SOME, text)
