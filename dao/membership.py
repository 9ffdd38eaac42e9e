# SPDX-License-Identifier: Apache-2.0
"""Members as Python objects: announce, complete and cancel; delegate in person or by signature.

Who may join is decided by the registrar and the people; how votes count is up to `Membership`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dao.chain import Account, Contract, Receipt
from dao.eip712 import (
    address_word,
    checksum_address,
    digest,
    domain_separator,
    keccak,
    recover,
    sign_digest,
    word,
)
from dao.errors import BadUse

MAX_BATCH = 128
"""Entries of one transaction; more are sent in several."""
EXPIRY = 30 * 86_400
"""Seconds after it became due in which an announcement can be completed."""

_DELEGATION_TYPEHASH = keccak(b"Delegation(address delegatee,uint256 nonce,uint256 expiry)")
_NOBODY = "0x" + "00" * 20


@dataclass(frozen=True)
class Member:
    """Who may vote. `votes` counts what others lent it, and its own vote unless that is lent."""

    address: str
    meter: int
    zone: int
    since: int
    """Unix seconds of the admission."""
    delegate: str
    votes: int


@dataclass(frozen=True)
class Announcement:
    """An admission, or a removal, that anyone may complete from `effective_at` on."""

    member: str
    meter: int
    effective_at: int
    """Unix seconds."""
    removal: bool


@dataclass(frozen=True)
class Delegation:
    """A vote handed on by signature, for anyone to carry to the chain."""

    delegator: str
    delegatee: str
    nonce: int
    expiry: int
    """The last unix second at which it counts."""
    signature: bytes
    """65 bytes r, s, v."""


# Joining and leaving


def announce_admissions(
    membership: Contract, members: Sequence[str], meters: Sequence[int], registrar: Account
) -> list[Receipt]:
    """Announce that each owner joins for its metering point, after the delay in force now.

    Raises ContractReverted with the contract's reason, BadUse when the lengths differ.
    """
    if len(members) != len(meters):
        raise BadUse(f"{len(members)} members for {len(meters)} metering points; give one for each")
    return _in_batches(
        len(members),
        lambda part: membership.transact(
            "announce_admissions", list(members[part]), list(meters[part]), sender=registrar
        ),
    )


def announce_removals(
    membership: Contract, members: Sequence[str], registrar: Account
) -> list[Receipt]:
    """Announce that these members leave, after the delay in force now."""
    return _in_batches(
        len(members),
        lambda part: membership.transact(
            "announce_removals", list(members[part]), sender=registrar
        ),
    )


def complete(membership: Contract, meters: Sequence[int], sender: Account) -> list[Receipt]:
    """Carry out what is due for these metering points; anyone may.

    A transaction takes up to MAX_BATCH of them, all or none: ContractReverted with the reason
    where one is not due, expired, or no longer possible.
    """
    return _in_batches(
        len(meters),
        lambda part: membership.transact("complete", list(meters[part]), sender=sender),
    )


def cancel_announcements(
    membership: Contract, meters: Sequence[int], sender: Account
) -> list[Receipt]:
    """Take back what is announced for these metering points, as the registrar."""
    return _in_batches(
        len(meters),
        lambda part: membership.transact("cancel_announcements", list(meters[part]), sender=sender),
    )


def _in_batches(count: int, send: Callable[[slice], Receipt]) -> list[Receipt]:
    return [send(slice(start, start + MAX_BATCH)) for start in range(0, count, MAX_BATCH)]


# Delegation


def delegate(membership: Contract, delegatee: str, delegator: Account) -> Receipt:
    """Hand the delegator's vote to a member of its zone, or back to itself."""
    return membership.transact("delegate", delegatee, sender=delegator)


def membership_separator(membership: Contract) -> bytes:
    """The EIP-712 domain that delegations are signed under."""
    return domain_separator("Membership", "1", membership.chain.chain_id, membership.address)


def delegation_digest(separator: bytes, delegatee: str, nonce: int, expiry: int) -> bytes:
    """What a wallet signs to hand its vote on."""
    struct = keccak(_DELEGATION_TYPEHASH + address_word(delegatee) + word(nonce) + word(expiry))
    return digest(separator, struct)


def sign_delegation(
    separator: bytes, key: bytes, delegator: str, delegatee: str, nonce: int, expiry: int
) -> Delegation:
    """Sign a delegation; it holds until `expiry` (unix seconds), and for one nonce: `next_nonce`.

    delegator: the address of `key`. It is not signed: the contract takes it from the signature.
    """
    signature = sign_digest(key, delegation_digest(separator, delegatee, nonce, expiry))
    return Delegation(delegator, delegatee, nonce, expiry, signature)


def next_nonce(membership: Contract, account: str) -> int:
    """The nonce that the account's next signed delegation must carry."""
    return int(membership.call("nonces", account))


def carry_delegation(membership: Contract, delegation: Delegation, relay: Account) -> Receipt:
    """Bring a signed delegation to the chain; the relay pays.

    Raises BadUse where the signature is not the delegator's for this contract and chain: there it
    would speak for some other account. ContractReverted with the contract's reason.
    """
    signature = delegation.signature
    terms = (delegation.delegatee, delegation.nonce, delegation.expiry)
    if len(signature) != 65:
        raise BadUse(f"a delegation's signature has 65 bytes (r, s, v), not {len(signature)}")
    try:
        signer = checksum_address(
            recover(delegation_digest(membership_separator(membership), *terms), signature)
        )
    except ValueError as error:
        raise BadUse(f"the delegation's signature cannot be used: {error}") from error
    if signer != checksum_address(delegation.delegator):
        raise BadUse(
            f"the signature is {signer}'s, not {delegation.delegator}'s, or was made for other "
            "terms, another contract or another chain"
        )
    return membership.transact(
        "delegateBySig",
        *terms,
        signature[64],
        signature[:32],
        signature[32:64],
        sender=relay,
    )


# Reading


def member(membership: Contract, account: str, block: int | str = "latest") -> Member | None:
    """The account as a member at a block, or None."""

    def read(view: str) -> int:
        return int(membership.call(view, account, block=block))

    meter = read("meter_of")
    if meter == 0:
        return None
    return Member(
        address=checksum_address(account),
        meter=meter,
        zone=read("zone_of"),
        since=read("member_since"),
        delegate=str(membership.call("delegates", account, block=block)),
        votes=read("getVotes"),
    )


def members(membership: Contract, first_block: int = 0) -> list[Member]:
    """All members at the latest block, by metering point; votes and delegates from the events.

    first_block: that of the deployment saves a public node the search before it.
    """
    block = membership.chain.block_number()
    seats: dict[str, tuple[int, int]] = {}
    delegates: dict[str, str] = {}
    votes: dict[str, int] = {}
    for event in membership.chain.logs([membership.address], first_block, block):
        args = event.args
        if event.name == "MemberAdmitted":
            seats[str(args["member"])] = int(args["meter"]), int(args["zone"])
        elif event.name == "MemberRemoved":
            del seats[str(args["member"])]
        elif event.name == "DelegateChanged":
            delegates[str(args["delegator"])] = str(args["toDelegate"])
        elif event.name == "DelegateVotesChanged":
            votes[str(args["delegate"])] = int(args["newVotes"])
    return [
        Member(
            address=account,
            meter=meter,
            zone=zone,
            since=int(membership.call("member_since", account, block=block)),
            delegate=delegates[account],
            votes=votes[account],
        )
        for account, (meter, zone) in sorted(seats.items(), key=lambda seat: seat[1])
    ]


def announcement(
    membership: Contract, meter: int, block: int | str = "latest"
) -> Announcement | None:
    """What is announced for the metering point; None where nothing is, or it expired."""
    who, effective_at, removal = membership.call("announcement_of", meter, block=block)
    if who == _NOBODY:
        return None
    return Announcement(str(who), meter, int(effective_at), bool(removal))


def announcements(membership: Contract, first_block: int = 0) -> list[Announcement]:
    """All that is announced and neither completed, cancelled nor expired, the first due first."""
    block = membership.chain.block_number()
    open_meters: dict[int, None] = {}
    for event in membership.chain.logs([membership.address], first_block, block):
        if event.name in ("AdmissionAnnounced", "RemovalAnnounced"):
            open_meters[int(event.args["meter"])] = None
        elif event.name in ("AnnouncementCancelled", "MemberAdmitted", "MemberRemoved"):
            open_meters.pop(int(event.args["meter"]), None)
    found = [announcement(membership, meter, block) for meter in open_meters]
    return sorted(
        (one for one in found if one is not None),
        key=lambda one: (one.effective_at, one.meter),
    )
