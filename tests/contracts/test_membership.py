# SPDX-License-Identifier: Apache-2.0
"""One member, one metering point, one vote, readable for any past time."""

from __future__ import annotations

from typing import Any

import boa
import pytest

from tests.contracts.governance_fixtures import START, ZERO, deploy, events, reverts

ANNA, BEN, CARA, MALLORY = (
    str(boa.env.generate_address(name)) for name in ("anna", "ben", "cara", "mallory")
)


@pytest.fixture(scope="module")
def deployed() -> Any:
    boa.env.timestamp = START
    membership = deploy("Membership", str(boa.env.eoa))
    membership.admit_batch([ANNA, BEN], [1, 2])
    return membership


@pytest.fixture
def membership(deployed: Any) -> Any:
    with boa.env.anchor():
        boa.env.timestamp = START + 1_000
        yield deployed


def delegate(membership: Any, who: str, to: str) -> None:
    with boa.env.prank(who):
        membership.delegate(to)


def test_an_admitted_member_holds_its_own_vote(membership: Any) -> None:
    membership.admit(CARA, 3)
    assert events(membership, "MemberAdmitted")
    assert events(membership, "DelegateChanged")
    assert events(membership, "DelegateVotesChanged")
    assert membership.getVotes(CARA) == 1
    assert membership.delegates(CARA) == CARA
    assert membership.is_member(CARA)
    assert membership.meter_of(CARA) == 3
    assert membership.member_of(3) == CARA
    assert membership.admitted_at(CARA) == START + 1_000
    assert membership.member_count() == 3


def test_only_the_registrar_admits(membership: Any) -> None:
    with boa.env.prank(MALLORY), reverts("membership: caller is not the registrar"):
        membership.admit(MALLORY, 3)


def test_only_the_registrar_admits_many(membership: Any) -> None:
    with boa.env.prank(MALLORY), reverts("membership: caller is not the registrar"):
        membership.admit_batch([MALLORY], [3])


def test_only_the_registrar_removes(membership: Any) -> None:
    with boa.env.prank(MALLORY), reverts("membership: caller is not the registrar"):
        membership.remove(ANNA)


def test_only_the_owner_appoints_the_registrar(membership: Any) -> None:
    with boa.env.prank(MALLORY), reverts("ownable: caller is not the owner"):
        membership.set_registrar(MALLORY)


def test_a_new_registrar_takes_the_place_of_the_old(membership: Any) -> None:
    membership.set_registrar(CARA)
    with reverts("membership: caller is not the registrar"):
        membership.admit(MALLORY, 9)


def test_a_metering_point_has_one_member(membership: Any) -> None:
    with reverts("membership: metering point has a member"):
        membership.admit(CARA, 1)


def test_a_member_has_one_metering_point(membership: Any) -> None:
    with reverts("membership: already a member"):
        membership.admit(ANNA, 3)


def test_a_batch_with_one_bad_entry_admits_nobody(membership: Any) -> None:
    with reverts("membership: metering point has a member"):
        membership.admit_batch([CARA, MALLORY], [3, 1])
    assert membership.member_count() == 2


@pytest.mark.parametrize("meter", [0, 2**32])
def test_a_metering_point_is_a_number_of_32_bits(membership: Any, meter: int) -> None:
    with reverts("membership: metering point out of range"):
        membership.admit(CARA, meter)


def test_there_is_no_transfer(membership: Any) -> None:
    assert not [name for name in dir(membership) if "transfer" in name and "owner" not in name]


def test_a_delegated_vote_moves(membership: Any) -> None:
    delegate(membership, ANNA, BEN)
    assert (membership.getVotes(ANNA), membership.getVotes(BEN)) == (0, 2)
    assert membership.delegates(ANNA) == BEN


def test_a_delegated_vote_comes_back(membership: Any) -> None:
    delegate(membership, ANNA, BEN)
    delegate(membership, ANNA, ANNA)
    assert (membership.getVotes(ANNA), membership.getVotes(BEN)) == (1, 1)


def test_only_members_delegate(membership: Any) -> None:
    with reverts("membership: caller is not a member"):
        delegate(membership, MALLORY, ANNA)


@pytest.mark.parametrize("to", [MALLORY, ZERO])
def test_votes_stay_among_members(membership: Any, to: str) -> None:
    with reverts("membership: delegate is not a member"):
        delegate(membership, ANNA, to)


def test_a_removed_member_takes_its_vote_from_its_delegate(membership: Any) -> None:
    delegate(membership, ANNA, BEN)
    membership.remove(ANNA)
    assert membership.getVotes(BEN) == 1
    assert membership.delegates(ANNA) == ZERO
    assert membership.member_of(1) == ZERO
    assert membership.member_count() == 1


def test_a_vote_lent_to_a_removed_member_can_be_taken_back(membership: Any) -> None:
    delegate(membership, ANNA, BEN)
    membership.remove(BEN)
    assert membership.getVotes(BEN) == 1
    delegate(membership, ANNA, ANNA)
    assert (membership.getVotes(ANNA), membership.getVotes(BEN)) == (1, 0)


def test_whoever_is_no_member_cannot_be_removed(membership: Any) -> None:
    with reverts("membership: not a member"):
        membership.remove(MALLORY)


def test_a_freed_metering_point_takes_a_new_member(membership: Any) -> None:
    membership.remove(ANNA)
    membership.admit(CARA, 1)
    assert membership.member_of(1) == CARA


def test_past_votes_follow_every_change(membership: Any) -> None:
    expected: list[tuple[int, int, int]] = []
    for step in range(12):
        boa.env.timestamp += 10
        delegate(membership, ANNA, BEN if step % 2 == 0 else ANNA)
        expected.append((boa.env.timestamp, membership.getVotes(ANNA), membership.getVotes(BEN)))
    boa.env.timestamp += 10
    for moment, anna, ben in expected:
        for when in (moment, moment + 9):
            assert membership.getPastVotes(ANNA, when) == anna
            assert membership.getPastVotes(BEN, when) == ben
    assert membership.getPastVotes(ANNA, START - 1) == 0


def test_changes_within_a_second_leave_one_checkpoint(membership: Any) -> None:
    before = boa.env.timestamp - 1
    delegate(membership, ANNA, BEN)
    delegate(membership, ANNA, ANNA)
    delegate(membership, ANNA, BEN)
    boa.env.timestamp += 1
    assert membership.getPastVotes(BEN, boa.env.timestamp - 1) == 2
    assert membership.getPastVotes(BEN, before) == 1


def test_past_supply_follows_admission_and_removal(membership: Any) -> None:
    moments = [boa.env.timestamp - 1]
    membership.admit(CARA, 3)
    moments.append(boa.env.timestamp)
    boa.env.timestamp += 5
    membership.remove(ANNA)
    membership.remove(BEN)
    moments.append(boa.env.timestamp)
    boa.env.timestamp += 5
    assert [membership.getPastTotalSupply(moment) for moment in moments] == [2, 3, 1]


def test_the_present_is_not_past_yet(membership: Any) -> None:
    with reverts("membership: future lookup"):
        membership.getPastVotes(ANNA, boa.env.timestamp)
    with reverts("membership: future lookup"):
        membership.getPastTotalSupply(boa.env.timestamp)


def test_the_zero_address_holds_no_votes(membership: Any) -> None:
    assert membership.getVotes(ZERO) == 0
    assert membership.getPastVotes(ZERO, START) == 0


def test_the_clock_is_unix_time(membership: Any) -> None:
    assert membership.clock() == boa.env.timestamp
    assert membership.CLOCK_MODE() == "mode=timestamp"
