# SPDX-License-Identifier: Apache-2.0
"""Requests to the DAO: ballots, objections and vetoes, delegations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from dao.chain import Contract, ContractReverted
from dao.eip712 import keccak
from dao.governance import State as VoteState
from dao.governance import Support
from dao.relay.reader import Relay
from dao.relay.request_fields import Address, Choice, Field, Flag, Number, Text, number
from dao.relay.request_store import Kind, StoredRequest
from dao.relay.requests import (
    COUNT,
    DEADLINE,
    LEAST_TIME_S,
    Fields,
    Moment,
    Rule,
    Waiting,
    expiry_problems,
    head_of,
    next_problems,
    v_r_s,
)
from dao.relay.submitted import Problem
from dao.relay.typed_data import Domain

SUPPORT = {"against": 0, "for": 1, "abstain": 2, "veto": 3}
BALLOT_TYPE = (
    "Ballot(uint256 proposalId,uint8 support,address voter,bytes32 reasonHash,uint256 deadline)"
)
DELEGATION_TYPE = "Delegation(address delegatee,uint256 nonce,uint256 expiry)"

_MAX_REASON = 1_024


class Ballot(Rule):
    """A member's vote."""

    kind = Kind.BALLOT
    typed_as, plural = "ballot", "ballots"
    type_text = BALLOT_TYPE
    fields: ClassVar[Mapping[str, Field]] = {
        "proposal": Number(),
        "voter": Address(),
        "support": Choice(words=tuple(SUPPORT)),
        "reason": Text(default="", most=_MAX_REASON),
        "deadline": DEADLINE,
    }

    def contract(self, relay: Relay) -> Contract | None:
        return relay.governor

    def domain(self, at: Moment) -> Domain | None:
        governor = at.relay.governor
        if governor is None:
            return None
        return Domain("GridGovernor", "1", governor.chain.chain_id, governor.address)

    def account(self, at: Moment, fields: Fields) -> int:
        return _meter_of(at, fields["voter"])

    def signer(self, at: Moment, fields: Fields) -> str | Problem:
        return str(fields["voter"])

    def message(self, at: Moment, fields: Fields, signer: str) -> dict[str, Any]:
        return {
            "proposalId": number(fields["proposal"]),
            "support": self.support(fields),
            "voter": fields["voter"],
            "reasonHash": keccak(fields["reason"].encode()),
            "deadline": fields["deadline"],
        }

    def fields_of(self, message: dict[str, Any]) -> Fields:
        """All but the reason, of which the message has the hash."""
        words = {value: word for word, value in SUPPORT.items()}
        return {
            **super().fields_of(message),
            "proposal": f"0x{int(message['proposalId']):064x}",
            "support": words[message["support"]],
        }

    def support(self, fields: Fields) -> int:
        """How it counts, as the governor numbers it."""
        return SUPPORT[fields["support"]]

    def problems(self, at: Moment, fields: Fields, signer: str, waiting: Waiting) -> list[Problem]:
        governor = at.relay.governor
        assert governor is not None
        found = expiry_problems(at, "deadline", fields["deadline"])
        proposal = number(fields["proposal"])
        try:
            state = VoteState(at.view(governor, "state", proposal))
        except ContractReverted:
            accepted = "the id of one that was made"
            return [*found, Problem("proposal", "there is none with this id", accepted)]
        if state is not VoteState.ACTIVE:
            why = f"its vote is not open: it is {state.name.lower()}"
            return [*found, Problem("proposal", why, "one whose vote is open")]
        if at.view(governor, "proposalDeadline", proposal) < at.now + LEAST_TIME_S:
            why = "its vote closes too soon for a ballot to arrive in time"
            return [*found, Problem("proposal", why, "one whose vote is open for longer")]
        if self._has_voted(at, proposal, signer) or any(
            one.fields["proposal"] == fields["proposal"] for one in waiting.requests
        ):
            found.append(Problem("voter", "has voted", "one ballot for each member and proposal"))
        return found

    def _has_voted(self, at: Moment, proposal: int, voter: str) -> bool:
        assert at.relay.governor is not None
        return bool(at.view(at.relay.governor, "hasVoted", proposal, voter))

    def call(self, request: StoredRequest) -> tuple[str, tuple[Any, ...]]:
        fields = request.fields
        return "castVoteBySig", (
            number(fields["proposal"]),
            self.support(dict(fields)),
            request.signer,
            fields["reason"],
            fields["deadline"],
            request.signature,
        )

    def event(self, request: StoredRequest) -> tuple[str, dict[str, Any]]:
        return "VoteCast", {
            "voter": request.signer,
            "proposalId": number(request.fields["proposal"]),
            "support": self.support(dict(request.fields)),
        }

    def topic(self, request: StoredRequest) -> str:
        return _address_topic(request.signer)


class Objection(Ballot):
    """A vote against, where saying nothing lets a thing pass; with `veto` it calls it an abuse."""

    kind = Kind.OBJECTION
    typed_as, plural = "objection", "objections"
    fields: ClassVar[Mapping[str, Field]] = {
        "proposal": Number(),
        "voter": Address(),
        "veto": Flag(default=False),
        "reason": Text(default="", most=_MAX_REASON),
        "deadline": DEADLINE,
    }

    def fields_of(self, message: dict[str, Any]) -> Fields:
        kept = super().fields_of(message)
        kept["veto"] = kept.pop("support") == "veto"
        return kept

    def support(self, fields: Fields) -> int:
        return int(Support.VETO if fields["veto"] else Support.AGAINST)


class Delegation(Rule):
    """A member's vote handed on (ERC-5805), or back to itself."""

    kind = Kind.DELEGATION
    typed_as, plural = "delegation", "delegations"
    type_text = DELEGATION_TYPE
    by_key_only = True
    fields: ClassVar[Mapping[str, Field]] = {
        "delegator": Address(),
        "delegatee": Address(),
        "nonce": COUNT,
        "expiry": DEADLINE,
    }

    def contract(self, relay: Relay) -> Contract | None:
        return relay.membership

    def domain(self, at: Moment) -> Domain | None:
        membership = at.relay.membership
        if membership is None:
            return None
        return Domain("Membership", "1", membership.chain.chain_id, membership.address)

    def account(self, at: Moment, fields: Fields) -> int:
        return _meter_of(at, fields["delegator"])

    def signer(self, at: Moment, fields: Fields) -> str | Problem:
        return str(fields["delegator"])

    def fill(self, at: Moment, fields: Fields, signer: str, waiting: Waiting) -> None:
        fields.setdefault("nonce", self._next(at, signer, waiting))
        fields.setdefault("expiry", at.patience)

    def message(self, at: Moment, fields: Fields, signer: str) -> dict[str, Any]:
        return {name: fields[name] for name in ("delegatee", "nonce", "expiry")}

    def problems(self, at: Moment, fields: Fields, signer: str, waiting: Waiting) -> list[Problem]:
        found = next_problems(fields["nonce"], self._next(at, signer, waiting))
        return found + expiry_problems(at, "expiry", fields["expiry"])

    def call(self, request: StoredRequest) -> tuple[str, tuple[Any, ...]]:
        fields = request.fields
        return "delegateBySig", (
            fields["delegatee"],
            fields["nonce"],
            fields["expiry"],
            *v_r_s(request),
        )

    def event(self, request: StoredRequest) -> tuple[str, dict[str, Any]]:
        return "DelegateChanged", {
            "delegator": request.signer,
            "toDelegate": request.fields["delegatee"],
        }

    def mark(self, relay: Relay, request: StoredRequest) -> bytes:
        assert relay.membership is not None
        return head_of(relay.membership, *self.call(request), words=3)

    def topic(self, request: StoredRequest) -> str:
        return _address_topic(request.signer)

    def _next(self, at: Moment, signer: str, waiting: Waiting) -> int:
        assert at.relay.membership is not None
        mine = [one.fields["nonce"] + 1 for one in waiting.requests if one.kind is self.kind]
        return max([int(at.view(at.relay.membership, "nonces", signer)), *mine])


# Inside


def _address_topic(address: str) -> str:
    return f"0x{int(address, 16):064x}"


def _meter_of(at: Moment, member: str) -> int:
    membership = at.relay.membership
    return int(at.view(membership, "meter_of", member)) if membership is not None else 0
