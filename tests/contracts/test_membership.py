# SPDX-License-Identifier: Apache-2.0
"""One member, one metering point, one vote, readable for any past time.

The registry is a contract of this file, because points change hands in it: `MeterRegistry` never
moves one. Delegations are signed with eth-account's own code, not with the project's.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import boa
import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils import keccak
from vyper.compiler.output import build_abi_output

from tests.contracts.compiling import compiled
from tests.contracts.governance_fixtures import (
    DAY,
    HOUR,
    LOCAL_CHAIN,
    START,
    ZERO,
    deploy,
    events,
    reverts,
)

NAMES = ("anna", "ben", "cara", "dora", "emil", "fatma")
KEYS = [Account.from_key(keccak(text=name)) for name in NAMES]
KEY_OF = {str(key.address): key for key in KEYS}
ANNA, BEN, CARA, DORA, *_ = KEY_OF
MALLORY, REGISTRAR = (str(boa.env.generate_address(name)) for name in ("mallory", "registrar"))
ADMISSION_DELAY = 29
DELAY = 2 * DAY
EXPIRY = 30 * DAY
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
GAS_LIMIT = 16_777_216
SLOAD = 2_100

REGISTRY = """
# pragma version ~=0.4.3
owners: HashMap[uint256, address]
zones: HashMap[uint256, uint256]

@external
def put(meter: uint256, owner: address, zone: uint256):
    self.owners[meter] = owner
    self.zones[meter] = zone

@view
@external
def metering_point(meter: uint256) -> (address, uint256):
    return self.owners[meter], self.zones[meter]
"""


@dataclass
class Street:
    """Anna and Ben are members in zone 1, Cara and Dora own points: zone 1, and zone 2."""

    membership: Any
    registry: Any
    parameters: Any

    def announce(self, members: Sequence[str], meters: Sequence[int]) -> None:
        with boa.env.prank(REGISTRAR):
            self.membership.announce_admissions(list(members), list(meters))

    def announce_removal(self, *members: str) -> None:
        with boa.env.prank(REGISTRAR):
            self.membership.announce_removals(list(members))

    def complete(self, *meters: int) -> None:
        with boa.env.prank(MALLORY):
            self.membership.complete(list(meters))

    def cancel(self, *meters: int) -> None:
        with boa.env.prank(REGISTRAR):
            self.membership.cancel_announcements(list(meters))

    def admit(self, member: str, meter: int) -> None:
        self.announce([member], [meter])
        wait(DELAY)
        self.complete(meter)

    def remove(self, member: str) -> None:
        meter = self.membership.meter_of(member)
        self.announce_removal(member)
        wait(DELAY)
        self.complete(meter)

    def delegate(self, who: str, to: str) -> None:
        with boa.env.prank(who):
            self.membership.delegate(to)

    def sign(self, who: str, to: str, nonce: int = 0, expiry: int = 2**40, **domain: Any) -> Any:
        """The arguments of `delegateBySig`."""
        message = encode_typed_data(
            {
                "name": "Membership",
                "version": "1",
                "chainId": LOCAL_CHAIN,
                "verifyingContract": self.membership.address,
                **domain,
            },
            {
                "Delegation": [
                    {"name": "delegatee", "type": "address"},
                    {"name": "nonce", "type": "uint256"},
                    {"name": "expiry", "type": "uint256"},
                ]
            },
            {"delegatee": to, "nonce": nonce, "expiry": expiry},
        )
        signed = KEY_OF[who].sign_message(message)
        return [to, nonce, expiry, signed.v, word(signed.r), word(signed.s)]

    def carry(self, delegation: Sequence[Any]) -> None:
        with boa.env.prank(MALLORY):
            self.membership.delegateBySig(*delegation)

    def weight(self, account: str, moment: int) -> tuple[int, int]:
        """Zone and votes at a past time."""
        packed = self.membership.past_weight(account, moment)
        return packed >> 64, packed & (2**64 - 1)

    def votes(self, *accounts: str) -> list[int]:
        return [self.membership.getVotes(account) for account in accounts]


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def wait(seconds: int) -> None:
    boa.env.timestamp += seconds


def cold_gas(contract: Any, call: Any) -> int:
    """Gas of a call that finds every storage word cold, as the first of a transaction does."""
    boa.env.reset_gas_used()
    call()
    return int(contract._computation.get_gas_used())


def new_street() -> Street:
    boa.env.timestamp = START
    parameters = deploy("GridParameters")
    parameters.define(ADMISSION_DELAY, "admission_delay", DELAY, HOUR, 30 * DAY, 7 * DAY, DAY)
    registry = boa.loads(REGISTRY)
    boa.env.sstore_trace.pop(registry.address, None)
    street = Street(
        deploy("Membership", REGISTRAR, registry.address, parameters.address),
        registry,
        parameters,
    )
    for meter, (owner, zone) in enumerate([(ANNA, 1), (BEN, 1), (CARA, 1), (DORA, 2)], start=1):
        registry.put(meter, owner, zone)
    street.announce([ANNA, BEN], [1, 2])
    boa.env.timestamp += DELAY
    street.complete(1, 2)
    return street


@pytest.fixture(scope="module")
def deployed() -> Street:
    return new_street()


@pytest.fixture
def street(deployed: Street) -> Iterator[Street]:
    with boa.env.anchor():
        boa.env.timestamp = START + DELAY + 1_000
        yield deployed


# Admission


def test_an_admitted_member_holds_its_own_vote(street: Street) -> None:
    street.admit(CARA, 3)
    membership, now = street.membership, boa.env.timestamp
    assert street.votes(CARA) == [1]
    assert membership.delegates(CARA) == CARA
    assert membership.is_member(CARA)
    assert membership.meter_of(CARA) == 3
    assert membership.member_of(3) == CARA
    assert membership.zone_of(CARA) == 1
    assert membership.member_since(CARA) == now
    assert membership.member_count() == 3


def test_an_admission_tells_what_it_changed(street: Street) -> None:
    street.admit(CARA, 3)
    [admitted] = events(street.membership, "MemberAdmitted")
    assert (admitted.member, admitted.meter, admitted.zone) == (CARA, 3, 1)
    [changed] = events(street.membership, "DelegateChanged")
    assert (changed.delegator, changed.fromDelegate, changed.toDelegate) == (CARA, ZERO, CARA)
    [votes] = events(street.membership, "DelegateVotesChanged")
    assert (votes.delegate, votes.previousVotes, votes.newVotes) == (CARA, 0, 1)


def test_who_is_no_member_has_nothing(street: Street) -> None:
    membership = street.membership
    assert street.votes(CARA) == [0]
    assert membership.delegates(CARA) == ZERO
    assert not membership.is_member(CARA)
    assert (membership.meter_of(CARA), membership.zone_of(CARA)) == (0, 0)
    assert membership.member_since(CARA) == 0


def test_nothing_but_an_announcement_leads_into_the_membership() -> None:
    names = {
        entry["name"]
        for entry in build_abi_output(compiled("Membership").compiler_data)
        if entry["type"] == "function" and entry["stateMutability"] in ("nonpayable", "payable")
    }
    assert names == {
        "transfer_ownership",
        "set_registrar",
        "announce_admissions",
        "announce_removals",
        "cancel_announcements",
        "complete",
        "delegate",
        "delegateBySig",
    }


@pytest.mark.parametrize("call", ["announce_admissions", "announce_removals"])
def test_only_the_registrar_announces(street: Street, call: str) -> None:
    arguments = ([CARA], [3]) if call == "announce_admissions" else ([ANNA],)
    for stranger in (MALLORY, CARA, str(boa.env.eoa)):
        with boa.env.prank(stranger), reverts("membership: caller is not the registrar"):
            getattr(street.membership, call)(*arguments)


def test_an_announcement_says_who_joins_where_and_when(street: Street) -> None:
    street.announce([CARA], [3])
    due = boa.env.timestamp + DELAY
    [announced] = events(street.membership, "AdmissionAnnounced")
    assert (announced.member, announced.meter, announced.effective_at) == (CARA, 3, due)
    assert street.membership.announcement_of(3) == (CARA, due, False)


def test_an_announced_member_has_no_vote_yet(street: Street) -> None:
    street.announce([CARA], [3])
    assert street.votes(CARA) == [0]
    assert street.membership.member_count() == 2


def test_nobody_is_admitted_a_second_before_the_delay_is_over(street: Street) -> None:
    street.announce([CARA], [3])
    wait(DELAY - 1)
    with reverts("membership: not due yet"):
        street.complete(3)
    wait(1)
    street.complete(3)
    assert street.membership.is_member(CARA)


def test_an_announcement_is_completed_once(street: Street) -> None:
    street.admit(CARA, 3)
    assert street.membership.announcement_of(3) == (ZERO, 0, False)
    with reverts("membership: nothing announced"):
        street.complete(3)


def test_an_announcement_is_completed_once_within_one_call(street: Street) -> None:
    street.announce([CARA], [3])
    wait(DELAY)
    with reverts("membership: nothing announced"):
        street.complete(3, 3)
    assert not street.membership.is_member(CARA)


def test_a_completion_with_one_that_is_not_due_admits_nobody(street: Street) -> None:
    street.announce([CARA], [3])
    wait(HOUR)
    street.announce([DORA], [4])
    wait(DELAY - HOUR)
    with reverts("membership: not due yet"):
        street.complete(3, 4)
    assert not street.membership.is_member(CARA)


def test_an_announcement_can_be_completed_until_thirty_days_after_it_became_due(
    street: Street,
) -> None:
    street.announce([CARA], [3])
    wait(DELAY + EXPIRY - 1)
    assert street.membership.announcement_of(3)[0] == CARA
    street.complete(3)
    assert street.membership.is_member(CARA)


def test_an_expired_announcement_admits_nobody(street: Street) -> None:
    street.announce([CARA], [3])
    wait(DELAY + EXPIRY)
    assert street.membership.announcement_of(3) == (ZERO, 0, False)
    with reverts("membership: announcement expired"):
        street.complete(3)


def test_an_expired_announcement_gives_way_to_a_new_one(street: Street) -> None:
    street.announce([CARA], [3])
    wait(DELAY + EXPIRY)
    street.registry.put(3, DORA, 1)
    street.announce([DORA], [3])
    with reverts("membership: not due yet"):
        street.complete(3)
    wait(DELAY)
    street.complete(3)
    assert street.membership.member_of(3) == DORA


def test_a_running_announcement_cannot_be_announced_over(street: Street) -> None:
    street.announce([CARA], [3])
    wait(DELAY + EXPIRY - 1)
    street.registry.put(3, DORA, 1)
    with reverts("membership: already announced"):
        street.announce([DORA], [3])


def test_a_metering_point_is_announced_once_within_one_call(street: Street) -> None:
    with reverts("membership: already announced"):
        street.announce([CARA, CARA], [3, 3])


def test_the_delay_is_that_of_the_announcement(street: Street) -> None:
    street.announce([CARA], [3])
    street.parameters.set_value(ADMISSION_DELAY, HOUR)
    street.announce([DORA], [4])
    wait(HOUR)
    street.complete(4)
    with reverts("membership: not due yet"):
        street.complete(3)
    wait(DELAY - HOUR)
    street.complete(3)
    assert street.membership.member_count() == 4


def test_a_longer_delay_does_not_hold_back_what_is_announced(street: Street) -> None:
    street.announce([CARA], [3])
    street.parameters.set_value(ADMISSION_DELAY, 9 * DAY)
    wait(DELAY)
    street.complete(3)
    assert street.membership.is_member(CARA)


def test_only_the_owner_of_the_metering_point_can_be_announced(street: Street) -> None:
    with reverts("membership: metering point is another's"):
        street.announce([MALLORY], [3])


def test_nobody_is_announced_for_an_unknown_metering_point(street: Street) -> None:
    with reverts("membership: metering point is another's"):
        street.announce([CARA], [77])


def test_a_metering_point_that_changed_hands_admits_its_seller_no_more(street: Street) -> None:
    street.announce([CARA], [3])
    street.registry.put(3, DORA, 1)
    wait(DELAY)
    with reverts("membership: metering point is another's"):
        street.complete(3)
    assert street.membership.member_of(3) == ZERO


def test_the_zone_is_that_of_the_metering_point_at_completion(street: Street) -> None:
    street.announce([CARA], [3])
    street.registry.put(3, CARA, 5)
    wait(DELAY)
    street.complete(3)
    assert street.membership.zone_of(CARA) == 5


@pytest.mark.parametrize("zone", [0, 1_024, 2**16 + 1])
def test_a_member_has_a_zone_of_the_grid(street: Street, zone: int) -> None:
    street.registry.put(3, CARA, zone)
    with reverts("membership: zone out of range"):
        street.announce([CARA], [3])


def test_a_metering_point_with_a_member_takes_no_other(street: Street) -> None:
    street.registry.put(1, CARA, 1)
    with reverts("membership: metering point has a member"):
        street.announce([CARA], [1])


def test_a_member_is_not_announced_for_a_second_metering_point(street: Street) -> None:
    street.registry.put(3, ANNA, 1)
    with reverts("membership: already a member"):
        street.announce([ANNA], [3])


@pytest.mark.parametrize("order", [(3, 5), (5, 3)])
def test_two_announcements_give_one_account_one_metering_point(
    street: Street, order: tuple[int, int]
) -> None:
    street.registry.put(5, CARA, 2)
    street.announce([CARA, CARA], [3, 5])
    wait(DELAY)
    street.complete(order[0])
    with reverts("membership: already a member"):
        street.complete(order[1])
    assert street.membership.meter_of(CARA) == order[0]
    assert street.membership.member_of(order[1]) == ZERO


def test_two_announcements_completed_at_once_admit_nobody(street: Street) -> None:
    street.registry.put(5, CARA, 2)
    street.announce([CARA, CARA], [3, 5])
    wait(DELAY)
    with reverts("membership: already a member"):
        street.complete(3, 5)
    assert not street.membership.is_member(CARA)


def test_the_zero_address_is_no_member(street: Street) -> None:
    with reverts("membership: member is the zero address"):
        street.announce([ZERO], [77])


@pytest.mark.parametrize("meter", [0, 2**32])
def test_a_metering_point_is_a_number_of_32_bits(street: Street, meter: int) -> None:
    street.registry.put(meter, CARA, 1)
    with reverts("membership: metering point out of range"):
        street.announce([CARA], [meter])


def test_every_member_has_a_metering_point(street: Street) -> None:
    with reverts("membership: one metering point per member"):
        street.announce([CARA, DORA], [3])


def test_an_announcement_with_one_bad_entry_announces_nobody(street: Street) -> None:
    with reverts("membership: metering point is another's"):
        street.announce([CARA, MALLORY], [3, 4])
    assert street.membership.announcement_of(3) == (ZERO, 0, False)


def test_the_members_are_as_many_as_the_governor_counts(street: Street) -> None:
    street.announce([CARA], [3])
    wait(DELAY)
    street.membership.eval(f"self._heads[2**160] = {2**24 - 1}")
    with reverts("membership: too many members"):
        street.complete(3)
    street.membership.eval(f"self._heads[2**160] = {2**24 - 2}")
    street.complete(3)
    assert street.membership.member_count() == 2**24 - 1


def test_there_is_no_transfer(street: Street) -> None:
    assert not [
        name for name in dir(street.membership) if "transfer" in name and "owner" not in name
    ]


# Removal


def test_a_removal_takes_effect_after_the_delay(street: Street) -> None:
    street.announce_removal(ANNA)
    due = boa.env.timestamp + DELAY
    [announced] = events(street.membership, "RemovalAnnounced")
    assert (announced.member, announced.meter, announced.effective_at) == (ANNA, 1, due)
    assert street.membership.announcement_of(1) == (ANNA, due, True)
    wait(DELAY - 1)
    with reverts("membership: not due yet"):
        street.complete(1)
    assert street.votes(ANNA) == [1]
    wait(1)
    street.complete(1)
    assert not street.membership.is_member(ANNA)


def test_a_removed_member_leaves_nothing_behind(street: Street) -> None:
    street.remove(ANNA)
    [removed] = events(street.membership, "MemberRemoved")
    assert (removed.member, removed.meter, removed.zone) == (ANNA, 1, 1)
    assert street.votes(ANNA) == [0]
    assert street.membership.delegates(ANNA) == ZERO
    assert street.membership.member_of(1) == ZERO
    assert (street.membership.meter_of(ANNA), street.membership.zone_of(ANNA)) == (0, 0)
    assert street.membership.member_count() == 1


def test_a_removal_is_completed_once(street: Street) -> None:
    street.remove(ANNA)
    with reverts("membership: nothing announced"):
        street.complete(1)
    assert street.membership.member_count() == 1


def test_an_expired_removal_removes_nobody(street: Street) -> None:
    street.announce_removal(ANNA)
    wait(DELAY + EXPIRY)
    with reverts("membership: announcement expired"):
        street.complete(1)
    assert street.membership.is_member(ANNA)


def test_a_removal_does_not_hang_on_who_owns_the_point_now(street: Street) -> None:
    street.registry.put(1, DORA, 1)
    street.remove(ANNA)
    assert not street.membership.is_member(ANNA)


def test_whoever_is_no_member_cannot_be_removed(street: Street) -> None:
    with reverts("membership: not a member"):
        street.announce_removal(ANNA, MALLORY)
    assert street.membership.announcement_of(1) == (ZERO, 0, False)


def test_a_removal_is_announced_once(street: Street) -> None:
    street.announce_removal(ANNA)
    with reverts("membership: already announced"):
        street.announce_removal(ANNA)


def test_a_freed_metering_point_takes_a_new_member_after_a_delay_of_its_own(
    street: Street,
) -> None:
    street.registry.put(1, CARA, 1)
    street.announce_removal(ANNA)
    wait(DELAY)
    with reverts("membership: metering point has a member"):
        street.announce([CARA], [1])
    street.complete(1)
    street.announce([CARA], [1])
    with reverts("membership: not due yet"):
        street.complete(1)
    wait(DELAY)
    street.complete(1)
    assert street.membership.member_of(1) == CARA


def test_a_removed_member_takes_its_vote_from_its_delegate(street: Street) -> None:
    street.delegate(ANNA, BEN)
    street.remove(ANNA)
    [change] = events(street.membership, "DelegateVotesChanged")
    assert (change.delegate, change.previousVotes, change.newVotes) == (BEN, 2, 1)
    assert street.votes(ANNA, BEN) == [0, 1]


def test_a_member_may_come_back(street: Street) -> None:
    street.remove(ANNA)
    street.admit(ANNA, 1)
    assert street.votes(ANNA) == [1]
    assert street.membership.member_since(ANNA) == boa.env.timestamp


# Cancellation and the registrar's office


def test_a_cancelled_announcement_is_not_completed(street: Street) -> None:
    street.announce([CARA], [3])
    street.cancel(3)
    [cancelled] = events(street.membership, "AnnouncementCancelled")
    assert (cancelled.member, cancelled.meter, cancelled.removal) == (CARA, 3, False)
    wait(DELAY)
    with reverts("membership: nothing announced"):
        street.complete(3)


def test_a_vote_stops_what_the_registrar_announced(street: Street) -> None:
    street.announce([CARA], [3])
    street.announce_removal(ANNA)
    wait(DELAY)
    owner = street.membership.owner()
    with boa.env.prank(owner):
        street.membership.cancel_announcements([3, 1])
    kinds = [one.removal for one in events(street.membership, "AnnouncementCancelled")]
    assert kinds == [False, True]
    for meter in (1, 3):
        with reverts("membership: nothing announced"):
            street.complete(meter)
    assert street.membership.is_member(ANNA)


def test_only_registrar_and_owner_cancel(street: Street) -> None:
    street.announce([CARA], [3])
    for stranger in (MALLORY, CARA):
        with (
            boa.env.prank(stranger),
            reverts("membership: caller is neither registrar nor owner"),
        ):
            street.membership.cancel_announcements([3])


def test_an_empty_office_of_registrar_is_nobodys(street: Street) -> None:
    street.membership.set_registrar(ZERO)
    with boa.env.prank(REGISTRAR), reverts("membership: caller is not the registrar"):
        street.membership.announce_removals([ANNA])


def test_what_is_not_announced_is_not_cancelled(street: Street) -> None:
    street.announce([CARA], [3])
    with reverts("membership: nothing announced"):
        street.cancel(3, 4)
    assert street.membership.announcement_of(3)[0] == CARA


def test_a_cancelled_announcement_can_be_made_anew_with_the_whole_delay(street: Street) -> None:
    street.announce([CARA], [3])
    wait(DELAY)
    street.cancel(3)
    street.announce([CARA], [3])
    with reverts("membership: not due yet"):
        street.complete(3)


def test_only_the_owner_appoints_the_registrar(street: Street) -> None:
    for stranger in (MALLORY, REGISTRAR):
        with boa.env.prank(stranger), reverts("ownable: caller is not the owner"):
            street.membership.set_registrar(MALLORY)


def test_a_new_registrar_takes_the_place_of_the_old(street: Street) -> None:
    street.membership.set_registrar(CARA)
    with reverts("membership: caller is not the registrar"):
        street.announce([CARA], [3])
    with boa.env.prank(CARA):
        street.membership.announce_admissions([CARA], [3])


def test_a_dismissed_registrar_cancels_no_more(street: Street) -> None:
    street.announce([CARA], [3])
    street.membership.set_registrar(DORA)
    with reverts("membership: caller is neither registrar nor owner"):
        street.cancel(3)


def test_a_registrar_cannot_keep_an_announcement_in_stock(street: Street) -> None:
    """Whatever it does, an admission that nobody completes takes the whole delay again."""
    street.announce([CARA], [3])
    wait(DELAY)
    for _ in range(3):
        with reverts("membership: already announced"):
            street.announce([CARA], [3])
        wait(EXPIRY)
        street.announce([CARA], [3])
        with reverts("membership: not due yet"):
            street.complete(3)
        wait(DELAY)


# Delegation


def test_a_delegated_vote_moves(street: Street) -> None:
    street.delegate(ANNA, BEN)
    assert street.votes(ANNA, BEN) == [0, 2]
    assert street.membership.delegates(ANNA) == BEN


def test_a_delegated_vote_comes_back(street: Street) -> None:
    street.delegate(ANNA, BEN)
    street.delegate(ANNA, ANNA)
    assert street.votes(ANNA, BEN) == [1, 1]


def test_a_vote_is_not_delegated_where_it_is(street: Street) -> None:
    with reverts("membership: already delegated so"):
        street.delegate(ANNA, ANNA)


def test_only_members_delegate(street: Street) -> None:
    with reverts("membership: delegator is not a member"):
        street.delegate(MALLORY, ANNA)


@pytest.mark.parametrize("to", [MALLORY, ZERO])
def test_votes_stay_among_members(street: Street, to: str) -> None:
    with reverts("membership: delegate is not a member"):
        street.delegate(ANNA, to)


def test_votes_stay_in_their_zone(street: Street) -> None:
    street.admit(DORA, 4)
    for who, to in ((ANNA, DORA), (DORA, ANNA)):
        with reverts("membership: delegate lives in another zone"):
            street.delegate(who, to)
    with reverts("membership: delegate lives in another zone"):
        street.carry(street.sign(ANNA, DORA))


def test_votes_lent_to_a_removed_member_rest(street: Street) -> None:
    street.delegate(ANNA, BEN)
    street.remove(BEN)
    [gone] = [e for e in events(street.membership, "DelegateVotesChanged") if e.newVotes == 0]
    assert (gone.delegate, gone.previousVotes) == (BEN, 1)
    assert street.votes(ANNA, BEN) == [0, 0]
    wait(1)
    assert street.weight(BEN, boa.env.timestamp - 1) == (0, 0)
    assert street.membership.getPastVotes(BEN, boa.env.timestamp - 1) == 0


def test_a_resting_vote_is_taken_back(street: Street) -> None:
    street.delegate(ANNA, BEN)
    street.remove(BEN)
    street.delegate(ANNA, ANNA)
    changes = [(e.delegate, e.newVotes) for e in events(street.membership, "DelegateVotesChanged")]
    assert changes == [(ANNA, 1)]
    assert street.votes(ANNA, BEN) == [1, 0]


def test_resting_votes_wake_when_their_holder_comes_back(street: Street) -> None:
    street.delegate(ANNA, BEN)
    street.remove(BEN)
    street.admit(BEN, 2)
    [woken] = events(street.membership, "DelegateVotesChanged")
    assert (woken.delegate, woken.previousVotes, woken.newVotes) == (BEN, 0, 2)
    assert street.votes(ANNA, BEN) == [0, 2]


def test_nobody_carries_resting_votes_into_another_zone(street: Street) -> None:
    street.delegate(ANNA, BEN)
    street.remove(BEN)
    street.registry.put(5, BEN, 2)
    street.announce([BEN], [5])
    wait(DELAY)
    with reverts("membership: holds votes of another zone"):
        street.complete(5)
    street.delegate(ANNA, ANNA)
    street.complete(5)
    assert (street.membership.zone_of(BEN), street.votes(BEN)) == (2, [1])


# Delegation by signature


def test_a_signed_delegation_moves_the_vote(street: Street) -> None:
    street.carry(street.sign(ANNA, BEN))
    assert street.votes(ANNA, BEN) == [0, 2]
    assert street.membership.nonces(ANNA) == 1


def test_the_domain_is_told_on_chain(street: Street) -> None:
    _, name, version, chain, contract, _, _ = street.membership.eip712Domain()
    assert (name, version, chain) == ("Membership", "1", LOCAL_CHAIN)
    assert contract == street.membership.address


def test_signed_delegations_count_one_after_the_other(street: Street) -> None:
    there, back = street.sign(ANNA, BEN), street.sign(ANNA, ANNA, nonce=1)
    with reverts("membership: nonce is not the next"):
        street.carry(back)
    street.carry(there)
    street.carry(back)
    assert street.votes(ANNA, BEN) == [1, 1]


def test_a_signed_delegation_counts_once(street: Street) -> None:
    there = street.sign(ANNA, BEN)
    street.carry(there)
    street.delegate(ANNA, ANNA)
    with reverts("membership: nonce is not the next"):
        street.carry(there)


def test_a_signed_delegation_does_not_come_back_with_its_signer(street: Street) -> None:
    there = street.sign(ANNA, BEN)
    street.carry(there)
    street.remove(ANNA)
    street.admit(ANNA, 1)
    with reverts("membership: nonce is not the next"):
        street.carry(there)
    assert street.votes(ANNA, BEN) == [1, 1]


def test_a_signed_delegation_counts_up_to_its_last_second(street: Street) -> None:
    there = street.sign(ANNA, BEN, expiry=boa.env.timestamp)
    with boa.env.anchor():
        wait(1)
        with reverts("membership: signature expired"):
            street.carry(there)
    street.carry(there)
    assert street.votes(BEN) == [2]


def test_an_outsiders_signature_moves_nothing(street: Street) -> None:
    with reverts("membership: delegator is not a member"):
        street.carry(street.sign(CARA, BEN))
    assert street.membership.nonces(CARA) == 0


@pytest.mark.parametrize(
    "domain",
    [{"chainId": 1}, {"verifyingContract": MALLORY}, {"name": "GridGovernor"}, {"version": "2"}],
    ids=["chain", "contract", "name", "version"],
)
def test_a_signature_for_elsewhere_speaks_for_nobody_here(
    street: Street, domain: dict[str, Any]
) -> None:
    with reverts("membership: delegator is not a member"):
        street.carry(street.sign(ANNA, BEN, **domain))


@pytest.mark.parametrize("position", [0, 1, 2], ids=["delegatee", "nonce", "expiry"])
def test_a_changed_delegation_is_not_the_signers(street: Street, position: int) -> None:
    street.admit(CARA, 3)
    delegation = street.sign(ANNA, BEN, nonce=0)
    delegation[position] = (CARA, 1, 2**41)[position]
    reason = "nonce is not the next" if position == 1 else "delegator is not a member"
    with reverts(f"membership: {reason}"):
        street.carry(delegation)
    assert street.votes(ANNA, BEN, CARA) == [1, 1, 1]


def test_the_malleable_twin_of_a_signature_is_refused(street: Street) -> None:
    *terms, v, r, s = street.sign(ANNA, BEN)
    with reverts("membership: bad signature"):
        street.carry([*terms, 55 - v, r, word(ORDER - int.from_bytes(s, "big"))])


@pytest.mark.parametrize("v", [0, 1, 26, 29, 255])
def test_what_is_no_signature_is_refused(street: Street, v: int) -> None:
    *terms, _, r, s = street.sign(ANNA, BEN)
    with reverts("membership: bad signature"):
        street.carry([*terms, v, r, s])


def test_an_empty_signature_is_refused(street: Street) -> None:
    with reverts("membership: bad signature"):
        street.carry([BEN, 0, 2**40, 27, bytes(32), bytes(32)])


# The past


def test_who_is_admitted_after_the_snapshot_has_no_vote_in_it(street: Street) -> None:
    snapshot = boa.env.timestamp
    street.announce([CARA], [3])
    wait(DELAY)
    street.complete(3)
    wait(1)
    assert street.weight(CARA, snapshot) == (0, 0)
    assert street.membership.getPastVotes(CARA, snapshot) == 0
    assert street.membership.getPastTotalSupply(snapshot) == 2


def test_an_admission_due_at_the_snapshot_and_completed_later_has_no_vote_in_it(
    street: Street,
) -> None:
    street.announce([CARA], [3])
    wait(DELAY)
    snapshot = boa.env.timestamp
    wait(1)
    street.complete(3)
    wait(1)
    assert street.weight(CARA, snapshot) == (0, 0)
    assert street.weight(CARA, snapshot + 1) == (1, 1)


def test_a_vote_delegated_after_the_snapshot_stays_where_it_was_in_it(street: Street) -> None:
    snapshot = boa.env.timestamp
    wait(1)
    street.delegate(ANNA, BEN)
    wait(1)
    assert street.weight(ANNA, snapshot) == (1, 1)
    assert street.weight(BEN, snapshot) == (1, 1)


def test_a_lent_vote_is_not_cast_twice_by_removing_its_holder(street: Street) -> None:
    street.delegate(ANNA, BEN)
    snapshot = boa.env.timestamp
    street.remove(BEN)
    street.delegate(ANNA, ANNA)
    wait(1)
    assert street.weight(ANNA, snapshot) == (1, 0)
    assert street.weight(BEN, snapshot) == (1, 2)


def test_who_is_removed_after_the_snapshot_keeps_its_vote_in_it(street: Street) -> None:
    snapshot = boa.env.timestamp
    street.remove(ANNA)
    wait(1)
    assert street.weight(ANNA, snapshot) == (1, 1)
    assert street.weight(ANNA, boa.env.timestamp - 1) == (0, 0)


def test_who_comes_back_after_the_snapshot_is_not_back_in_it(street: Street) -> None:
    street.remove(ANNA)
    snapshot = boa.env.timestamp
    street.admit(ANNA, 1)
    wait(1)
    assert street.weight(ANNA, snapshot) == (0, 0)


def test_a_member_that_lent_its_vote_still_has_a_zone(street: Street) -> None:
    street.delegate(ANNA, BEN)
    wait(1)
    assert street.weight(ANNA, boa.env.timestamp - 1) == (1, 0)


def test_what_happens_in_the_second_of_the_snapshot_is_in_it(street: Street) -> None:
    street.delegate(ANNA, BEN)
    snapshot = boa.env.timestamp
    street.delegate(BEN, ANNA)
    wait(1)
    assert street.weight(ANNA, snapshot) == (1, 1)
    assert street.weight(BEN, snapshot) == (1, 1)


def test_past_votes_follow_every_change(street: Street) -> None:
    expected: list[tuple[int, list[int]]] = []
    for step in range(12):
        wait(10)
        street.delegate(ANNA, BEN if step % 2 == 0 else ANNA)
        expected.append((boa.env.timestamp, street.votes(ANNA, BEN)))
    wait(10)
    for moment, votes in expected:
        for when in (moment, moment + 9):
            assert [street.membership.getPastVotes(who, when) for who in (ANNA, BEN)] == votes
    assert street.membership.getPastVotes(ANNA, START - 1) == 0


def test_changes_within_a_second_leave_one_checkpoint(street: Street) -> None:
    def older(account: str) -> int:
        return int(street.membership.eval(f"self._heads[{int(account, 16)}] >> 144"))

    assert older(BEN) == 0
    street.delegate(ANNA, BEN)
    street.delegate(ANNA, ANNA)
    street.delegate(ANNA, BEN)
    assert older(BEN) == 1


def test_past_member_counts_follow_admission_and_removal(street: Street) -> None:
    moments = [boa.env.timestamp]
    street.announce([CARA, DORA], [3, 4])
    wait(DELAY)
    street.complete(3, 4)
    moments.append(boa.env.timestamp)
    street.announce_removal(ANNA, BEN, DORA)
    wait(DELAY)
    street.complete(1, 2, 4)
    moments.append(boa.env.timestamp)
    wait(5)
    membership = street.membership
    assert [membership.getPastTotalSupply(moment) for moment in moments] == [2, 4, 1]
    assert [membership.getPastZoneSupply(1, moment) for moment in moments] == [2, 3, 1]
    assert [membership.getPastZoneSupply(2, moment) for moment in moments] == [0, 1, 0]


def test_zone_0_stands_for_all_zones(street: Street) -> None:
    street.admit(DORA, 4)
    wait(1)
    assert street.membership.getPastZoneSupply(0, boa.env.timestamp - 1) == 3


def test_a_zone_beyond_the_grid_is_refused(street: Street) -> None:
    for zone in (1_024, 2**160 + 1, 2**256 - 2**160 + int(ANNA, 16)):
        with reverts("membership: zone out of range"):
            street.membership.getPastZoneSupply(zone, START)


def test_a_zones_count_is_never_an_accounts_votes(street: Street) -> None:
    """An address as small as a zone's number has a history of its own."""
    small = "0x" + (1).to_bytes(20, "big").hex()
    street.registry.put(9, small, 7)
    street.admit(small, 9)
    wait(1)
    moment = boa.env.timestamp - 1
    assert street.weight(small, moment) == (7, 1)
    assert street.membership.getPastZoneSupply(1, moment) == 2


def test_the_present_is_not_past_yet(street: Street) -> None:
    now, membership = boa.env.timestamp, street.membership
    for moment in (now, now + 1, 2**256 - 1):
        for call in (
            lambda when: membership.getPastVotes(ANNA, when),
            lambda when: membership.past_weight(ANNA, when),
            lambda when: membership.getPastTotalSupply(when),
            lambda when: membership.getPastZoneSupply(1, when),
        ):
            with reverts("membership: future lookup"):
                call(moment)


def test_the_zero_address_holds_no_votes(street: Street) -> None:
    assert street.votes(ZERO) == [0]
    assert street.membership.getPastVotes(ZERO, START + DELAY) == 0
    assert street.weight(ZERO, START + DELAY) == (0, 0)


def test_the_clock_is_unix_time(street: Street) -> None:
    assert street.membership.clock() == boa.env.timestamp
    assert street.membership.CLOCK_MODE() == "mode=timestamp"


# The whole life at random, beside a plain model


@dataclass(frozen=True)
class Seat:
    meter: int
    zone: int
    delegate: str


@dataclass(frozen=True)
class Announced:
    member: str
    due: int
    removal: bool


@dataclass
class Model:
    """What the contract should hold; past states are kept whole, one for every second."""

    delay: int = HOUR
    points: dict[int, tuple[str, int]] = field(default_factory=dict)
    seats: dict[str, Seat] = field(default_factory=dict)
    announced: dict[int, Announced] = field(default_factory=dict)
    nonces: Counter[str] = field(default_factory=Counter)
    past: dict[int, dict[str, Seat]] = field(default_factory=dict)

    def why_not_admit(self, member: str, meter: int) -> str | None:
        if member in self.seats:
            return "already a member"
        if any(seat.meter == meter for seat in self.seats.values()):
            return "metering point has a member"
        if self.points.get(meter, ("", 0))[0] != member:
            return "metering point is another's"
        return None

    def announce(self, member: str, meter: int, removal: bool, now: int) -> str | None:
        if removal and member not in self.seats:
            return "not a member"
        if removal:
            meter = self.seats[member].meter
        elif reason := self.why_not_admit(member, meter):
            return reason
        if (old := self.announced.get(meter)) and now < old.due + EXPIRY:
            return "already announced"
        self.announced[meter] = Announced(member, now + self.delay, removal)
        return None

    def cancel(self, meter: int) -> str | None:
        return None if self.announced.pop(meter, None) else "nothing announced"

    def complete(self, meter: int, now: int) -> str | None:
        if (one := self.announced.get(meter)) is None:
            return "nothing announced"
        if now < one.due:
            return "not due yet"
        if now >= one.due + EXPIRY:
            return "announcement expired"
        if one.removal:
            del self.seats[one.member]
        else:
            if reason := self.why_not_admit(one.member, meter):
                return reason
            zone = self.points[meter][1]
            lenders = [s for s in self.seats.values() if s.delegate == one.member]
            if any(seat.zone != zone for seat in lenders):
                return "holds votes of another zone"
            self.seats[one.member] = Seat(meter, zone, one.member)
        del self.announced[meter]
        return None

    def delegate(self, who: str, to: str) -> str | None:
        if who not in self.seats:
            return "delegator is not a member"
        if to not in self.seats:
            return "delegate is not a member"
        if self.seats[who].zone != self.seats[to].zone:
            return "delegate lives in another zone"
        if self.seats[who].delegate == to:
            return "already delegated so"
        self.seats[who] = replace(self.seats[who], delegate=to)
        return None


def weights(seats: dict[str, Seat]) -> dict[str, tuple[int, int]]:
    """Zone and votes of every member: the votes of all who named it."""
    votes = Counter(seat.delegate for seat in seats.values())
    return {who: (seat.zone, votes[who]) for who, seat in seats.items()}


def random_step(street: Street, model: Model, rng: random.Random, people: list[str]) -> str:
    """One random call on both sides, with the same outcome; what the outcome was."""

    def one_of(likely: Iterable[Any], possible: Iterable[Any]) -> Any:
        """Mostly one for which the call has a chance."""
        chosen = list(likely)
        return rng.choice(chosen if chosen and rng.random() < 0.8 else list(possible))

    actions = {"admit": 4, "remove": 1.5, "complete": 5, "cancel": 0.3, "delegate": 5, "sell": 0.5}
    [action] = rng.choices(list(actions), list(actions.values()))
    now, signed = boa.env.timestamp, []
    meter = one_of(model.announced if action in ("complete", "cancel") else (), model.points)
    other = rng.choice(people)
    if action == "sell":
        model.points[meter] = (other, rng.randint(1, 2))
        street.registry.put(meter, *model.points[meter])
        return "sold"
    if action == "admit":
        member = one_of([who for who in people if who not in model.seats], people)
        meter = one_of([m for m, point in model.points.items() if point[0] == member], [meter])
        expected = model.announce(member, meter, False, now)
    elif action == "remove":
        member = one_of(model.seats, people)
        expected = model.announce(member, meter, True, now)
    elif action == "complete":
        expected = model.complete(meter, now)
    elif action == "cancel":
        expected = model.cancel(meter)
    else:
        who, other = one_of(model.seats, people), one_of(model.seats, people)
        if rng.random() < 0.5:
            signed = street.sign(who, other, model.nonces[who] + (rng.random() < 0.1))
        expected = "nonce is not the next" if signed and signed[1] != model.nonces[who] else None
        expected = expected or model.delegate(who, other)
        if signed and expected is None:
            model.nonces[who] += 1

    def act() -> None:
        if action == "admit":
            street.announce([member], [meter])
        elif action == "remove":
            street.announce_removal(member)
        elif action == "complete":
            street.complete(meter)
        elif action == "cancel":
            street.cancel(meter)
        elif signed:
            street.carry(signed)
        else:
            street.delegate(who, other)

    if expected is None:
        act()
        return action
    with reverts(f"membership: {expected}"):
        act()
    return expected


@pytest.mark.parametrize("seed", range(2))
def test_a_random_life_is_remembered_as_a_plain_history(street: Street, seed: int) -> None:
    rng = random.Random(seed)
    people = list(KEY_OF)
    membership = deploy("Membership", REGISTRAR, street.registry.address, street.parameters.address)
    street = replace(street, membership=membership)
    street.parameters.set_value(ADMISSION_DELAY, HOUR)
    model = Model()
    # Everybody owns one point in zone 1, and one more that may lie in zone 2.
    for meter in range(2 * len(people)):
        zone = 1 if meter < len(people) else rng.randint(1, 2)
        model.points[meter + 1] = (people[meter % len(people)], zone)
        street.registry.put(meter + 1, *model.points[meter + 1])
    shown: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for _ in range(300):
        before = len(model.seats)
        outcome = random_step(street, model, rng, people)
        seen[outcome] += 1
        if outcome in ("complete", "delegate"):
            for change in events(membership, "DelegateVotesChanged"):
                # Whoever follows the events knows the votes.
                assert shown[change.delegate] == change.previousVotes
                shown[change.delegate] = change.newVotes
        now = boa.env.timestamp
        model.past[now] = dict(model.seats)
        assert abs(len(model.seats) - before) <= 1
        for who in people:
            seat = model.seats.get(who)
            assert membership.meter_of(who) == (seat.meter if seat else 0)
            assert membership.delegates(who) == (seat.delegate if seat else ZERO)
            votes = weights(model.seats).get(who, (0, 0))[1]
            assert (membership.getVotes(who), shown[who]) == (votes, votes)
        holders = {seat.meter: who for who, seat in model.seats.items()}
        for meter in model.points:
            assert membership.member_of(meter) == holders.get(meter, ZERO)
        wait(rng.choice([0, 0, 0, 1, 1, 60, HOUR // 2, HOUR]))
        if rng.random() < 0.005:
            wait(EXPIRY)
    wait(1)
    assert_remembered(street, model, people)
    # The run met what it is about.
    for outcome in (
        "complete",
        "delegate",
        "already a member",
        "metering point is another's",
        "not due yet",
        "announcement expired",
        "delegate lives in another zone",
        "nonce is not the next",
    ):
        assert seen[outcome], outcome


def assert_remembered(street: Street, model: Model, people: list[str]) -> None:
    """Votes, zones and member counts, in every second of a change and just before the next."""
    membership = street.membership
    moments = sorted(model.past)
    following = [*moments[1:], boa.env.timestamp]
    for moment, then in zip(moments, following, strict=True):
        seats = model.past[moment]
        for when in {moment, then - 1}:
            expected = weights(seats)
            for who in people:
                assert street.weight(who, when) == expected.get(who, (0, 0))
            someone = people[when % len(people)]
            votes = expected.get(someone, (0, 0))[1]
            assert membership.getPastVotes(someone, when) == votes
            zones = Counter(seat.zone for seat in seats.values())
            assert membership.getPastTotalSupply(when) == len(seats)
            assert [membership.getPastZoneSupply(zone, when) for zone in (1, 2, 3)] == [
                zones[1],
                zones[2],
                0,
            ]


# Gas


@pytest.fixture
def fresh() -> Street:
    """A street of its own: what makes storage cold cannot be put back by an anchor."""
    street = new_street()
    wait(1_000)
    return street


def test_a_vote_reads_one_word(fresh: Street) -> None:
    moment = boa.env.timestamp - 1
    gas = cold_gas(fresh.membership, lambda: fresh.membership.past_weight(ANNA, moment))
    assert SLOAD <= gas < SLOAD + 700


def test_a_member_whose_votes_changed_after_the_snapshot_costs_one_more_word(
    fresh: Street,
) -> None:
    moment = boa.env.timestamp
    wait(1)
    fresh.delegate(ANNA, BEN)
    wait(1)
    gas = cold_gas(fresh.membership, lambda: fresh.membership.past_weight(BEN, moment))
    assert 2 * SLOAD <= gas < 2 * SLOAD + 1_500


def test_a_hundred_later_changes_cost_seven_words_more(fresh: Street) -> None:
    moment = boa.env.timestamp
    for step in range(100):
        wait(1)
        fresh.delegate(ANNA, (ANNA, BEN)[step % 2 == 0])
    wait(1)
    assert fresh.weight(BEN, moment) == (1, 1)
    gas = cold_gas(fresh.membership, lambda: fresh.membership.past_weight(BEN, moment))
    assert gas < 8 * SLOAD + 5_000


def test_the_largest_batches_fit_into_a_transaction(fresh: Street) -> None:
    people = [str(boa.env.generate_address(f"newcomer {index}")) for index in range(256)]
    meters = list(range(100, 356))
    for meter, owner in zip(meters, people, strict=True):
        fresh.registry.put(meter, owner, 1 + meter % 4)
    membership, used = fresh.membership, {}
    for part in (slice(128, 256), slice(128)):
        used["announce"] = cold_gas(
            membership, lambda part=part: fresh.announce(people[part], meters[part])
        )
        wait(DELAY)
        used["admit"] = cold_gas(membership, lambda part=part: fresh.complete(*meters[part]))
    # The dearest removal: of members that lent their votes, each to another who stays.
    for lender, holder in zip(people[:128], people[128:], strict=True):
        fresh.delegate(lender, holder)
    used["announce removal"] = cold_gas(membership, lambda: fresh.announce_removal(*people[:128]))
    wait(DELAY)
    used["remove"] = cold_gas(membership, lambda: fresh.complete(*meters[:128]))
    assert membership.member_count() == 2 + 128
    calldata = 16 * 32 * (2 * 128 + 4)
    assert max(used.values()) + calldata + 21_000 < GAS_LIMIT * 3 // 4, used
