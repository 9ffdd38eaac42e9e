# SPDX-License-Identifier: Apache-2.0
"""Requests to the market: money out and in, numbers revoked, mandates and their ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from dao.chain import Contract, is_away
from dao.eip712 import compact
from dao.errors import CheckFailed
from dao.market import account as signing
from dao.market.account import CAP_UNIT, MAX_CAP, MAX_DAY, Mandate
from dao.market.orders import MAX_LIMIT
from dao.market.session import NONCES
from dao.parameters import DAY
from dao.relay.checks import AccountState
from dao.relay.reader import Relay
from dao.relay.request_fields import Address, Choice, Field, Whole
from dao.relay.request_store import Kind, StoredRequest
from dao.relay.requests import (
    COUNT,
    DEADLINE,
    Fields,
    Moment,
    Rule,
    Waiting,
    expiry_problems,
    head_of,
    next_problems,
    v_r_s,
)
from dao.relay.submitted import SIDE_NAMES, SIDES, Problem
from dao.relay.typed_data import Domain

# As EnergyMarket has it: what an account may hold after a deposit.
MAX_DEPOSITED = 2**47
PERMIT_TYPE = "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"

_ACCOUNT = Whole(lowest=1, highest=2**32 - 1)
_NONCE = Whole(filled=True, highest=NONCES - 1)


class Withdrawal(Rule):
    """Free balance paid out to an address."""

    kind = Kind.WITHDRAWAL
    typed_as, plural = "withdrawal", "withdrawals"
    type_text = signing.WITHDRAWAL_TYPE
    fields: ClassVar[Mapping[str, Field]] = {
        "account": _ACCOUNT,
        "nonce": _NONCE,
        "amount": Whole(lowest=1, highest=2**48 - 1),
        "to": Address(),
        "deadline": DEADLINE,
    }

    def fill(self, at: Moment, fields: Fields, signer: str, waiting: Waiting) -> None:
        super().fill(at, fields, signer, waiting)
        free = waiting.numbers(at.account(fields["account"]))
        if free:
            fields.setdefault("nonce", free[0])

    def message(self, at: Moment, fields: Fields, signer: str) -> dict[str, Any]:
        return {name: fields[name] for name in self.fields}

    def problems(self, at: Moment, fields: Fields, signer: str, waiting: Waiting) -> list[Problem]:
        account = at.account(fields["account"])
        found = _number_problems(fields["nonce"], account, waiting)
        found += expiry_problems(at, "deadline", fields["deadline"])
        free = max(0, account.balance - waiting.money)
        if fields["amount"] > free:
            why = f"the account has {free} free"
            if waiting.money:
                why += f"; {waiting.money} is promised to what waits here"
            found.append(Problem("amount", why, f"at most {free}" if free else "a deposit first"))
        return found

    def call(self, request: StoredRequest) -> tuple[str, tuple[Any, ...]]:
        values = (request.fields[name] for name in self.fields)
        return "withdraw_signed", (*values, _signature(request))

    def event(self, request: StoredRequest) -> tuple[str, dict[str, Any]]:
        return "Withdrawn", {name: request.fields[name] for name in ("account", "to", "amount")}

    def mark(self, relay: Relay, request: StoredRequest) -> bytes:
        return head_of(relay.market, *self.call(request), words=5)


class Revocation(Rule):
    """An order's or a withdrawal's number made worthless."""

    kind = Kind.REVOCATION
    typed_as, plural = "revocation", "revocations"
    type_text = signing.REVOCATION_TYPE
    fields: ClassVar[Mapping[str, Field]] = {
        "account": _ACCOUNT,
        "nonce": Whole(highest=NONCES - 1),
    }

    def message(self, at: Moment, fields: Fields, signer: str) -> dict[str, Any]:
        return dict(fields)

    def problems(self, at: Moment, fields: Fields, signer: str, waiting: Waiting) -> list[Problem]:
        # What waits with this number is no hindrance: it is what is to be stopped.
        account = at.account(fields["account"])
        if account.nonces.is_free(fields["nonce"]):
            return []
        why = f"{fields['nonce']} is used by what is on the chain, revoked, or too far ahead"
        return [Problem("nonce", why, "the number of something that was not posted yet")]

    def call(self, request: StoredRequest) -> tuple[str, tuple[Any, ...]]:
        return "revoke_signed", (request.account, request.fields["nonce"], _signature(request))

    def event(self, request: StoredRequest) -> tuple[str, dict[str, Any]]:
        return "NonceRevoked", {"account": request.account, "nonce": request.fields["nonce"]}


class MandateGrant(Rule):
    """An agent let order for an account, within limits."""

    kind = Kind.MANDATE
    typed_as, plural = "mandate", "mandates"
    type_text = signing.MANDATE_TYPE
    fields: ClassVar[Mapping[str, Field]] = {
        "account": _ACCOUNT,
        "number": Whole(filled=True, lowest=1, highest=2**32 - 1),
        "agent": Address(),
        "side": Choice(words=tuple(SIDES)),
        "limit": Whole(highest=MAX_LIMIT),
        "daily_cap": Whole(highest=MAX_CAP * CAP_UNIT, step=CAP_UNIT),
        "last_day": Whole(filled=True, highest=MAX_DAY),
    }

    def fill(self, at: Moment, fields: Fields, signer: str, waiting: Waiting) -> None:
        if "number" not in fields:
            relay = at.relay
            granted = relay.chain.logs(
                [relay.market.address],
                relay.first_block,
                topics=[
                    relay.market.interface.topic("MandateGranted"),
                    f"0x{fields['account']:064x}",
                ],
            )
            used = {int(event.args["number"]) for event in granted}
            used |= {one.fields["number"] for one in waiting.requests if one.kind is self.kind}
            fields["number"] = next(i for i in range(1, len(used) + 2) if i not in used)
        fields.setdefault("last_day", min(MAX_DAY, at.now // DAY + 365))

    def message(self, at: Moment, fields: Fields, signer: str) -> dict[str, Any]:
        terms = _terms(fields)
        return {
            "account": fields["account"],
            "number": fields["number"],
            "agent": terms.agent,
            "side": terms.side,
            "limit": terms.limit,
            "dailyCap": terms.daily_cap,
            "lastDay": terms.last_day,
        }

    def fields_of(self, message: dict[str, Any]) -> Fields:
        return {
            **super().fields_of(message),
            "side": SIDE_NAMES[message["side"]],
            "daily_cap": message["dailyCap"] * CAP_UNIT,
            "last_day": message["lastDay"],
        }

    def problems(self, at: Moment, fields: Fields, signer: str, waiting: Waiting) -> list[Problem]:
        found = []
        if fields["last_day"] < at.now // DAY:
            accepted = f"a UTC day from {at.now // DAY} on"
            found.append(Problem("last_day", f"{fields['last_day']} is past", accepted))
        for one in waiting.requests:
            if one.kind is self.kind and one.fields["number"] == fields["number"]:
                why = f"another mandate {fields['number']} waits here"
                found.append(Problem("number", why, "a number not used before"))
        return found

    def call(self, request: StoredRequest) -> tuple[str, tuple[Any, ...]]:
        terms = _terms(request.fields).as_tuple()
        number_ = request.fields["number"]
        return "grant_mandate_signed", (request.account, number_, terms, _signature(request))

    def event(self, request: StoredRequest) -> tuple[str, dict[str, Any]]:
        terms = _terms(request.fields)
        return "MandateGranted", {
            "account": request.account,
            "number": request.fields["number"],
            "terms": {
                "agent": terms.agent,
                "side": terms.side,
                "limit": terms.limit,
                "daily_cap": terms.daily_cap,
                "last_day": terms.last_day,
            },
        }


class MandateEnd(Rule):
    """A mandate ended."""

    kind = Kind.MANDATE_END
    typed_as, plural = "mandate-end", "mandate-ends"
    type_text = signing.MANDATE_END_TYPE
    fields: ClassVar[Mapping[str, Field]] = {
        "account": _ACCOUNT,
        "number": Whole(lowest=1, highest=2**32 - 1),
    }

    def message(self, at: Moment, fields: Fields, signer: str) -> dict[str, Any]:
        return dict(fields)

    def problems(self, at: Moment, fields: Fields, signer: str, waiting: Waiting) -> list[Problem]:
        if at.mandate(fields["account"], fields["number"]).exists:
            return []
        why = f"{fields['number']} is not in force"
        return [Problem("number", why, "that of a mandate which was granted")]

    def call(self, request: StoredRequest) -> tuple[str, tuple[Any, ...]]:
        number_ = request.fields["number"]
        return "end_mandate_signed", (request.account, number_, _signature(request))

    def event(self, request: StoredRequest) -> tuple[str, dict[str, Any]]:
        return "MandateEnded", {"account": request.account, "number": request.fields["number"]}


class Deposit(Rule):
    """Money paid in: the token's permit to the market (EIP-2612), which its owner signs."""

    kind = Kind.DEPOSIT
    typed_as, plural = "permit", "deposits"
    type_text = PERMIT_TYPE
    by_key_only = True
    fields: ClassVar[Mapping[str, Field]] = {
        "account": _ACCOUNT,
        "amount": Whole(lowest=1, highest=MAX_DEPOSITED),
        "nonce": COUNT,
        "deadline": DEADLINE,
    }

    def contract(self, relay: Relay) -> Contract | None:
        return relay.market if relay.token is not None else None

    def domain(self, at: Moment) -> Domain | None:
        return _token_domain(at)

    def fill(self, at: Moment, fields: Fields, signer: str, waiting: Waiting) -> None:
        super().fill(at, fields, signer, waiting)
        fields.setdefault("nonce", self._next(at, signer, waiting))

    def message(self, at: Moment, fields: Fields, signer: str) -> dict[str, Any]:
        return {
            "owner": signer,
            "spender": at.relay.market.address,
            "value": fields["amount"],
            "nonce": fields["nonce"],
            "deadline": fields["deadline"],
        }

    def fields_of(self, message: dict[str, Any]) -> Fields:
        return {**super().fields_of(message), "amount": int(message["value"])}

    def problems(self, at: Moment, fields: Fields, signer: str, waiting: Waiting) -> list[Problem]:
        assert at.relay.token is not None
        found = next_problems(fields["nonce"], self._next(at, signer, waiting))
        found += expiry_problems(at, "deadline", fields["deadline"])
        mine = [one for one in waiting.requests if one.kind is self.kind]
        coming = sum(one.fields["amount"] for one in mine)
        has = max(0, at.view(at.relay.token, "balanceOf", signer) - coming)
        if fields["amount"] > has:
            accepted = f"at most {has}" if has else "money in the owner's wallet first"
            found.append(Problem("amount", f"the owner's wallet holds {has}", accepted))
        room = MAX_DEPOSITED - at.account(fields["account"]).balance - coming
        if fields["amount"] > room:
            accepted = f"at most {max(0, room)}"
            found.append(Problem("amount", "more than an account may hold", accepted))
        return found

    def call(self, request: StoredRequest) -> tuple[str, tuple[Any, ...]]:
        fields = request.fields
        v, r, s = v_r_s(request)
        arguments = (request.account, fields["amount"], fields["deadline"], v, r, s)
        return "deposit_with_permit", arguments

    def event(self, request: StoredRequest) -> tuple[str, dict[str, Any]]:
        return "Deposited", {"account": request.account, "amount": request.fields["amount"]}

    def mark(self, relay: Relay, request: StoredRequest) -> bytes:
        return head_of(relay.market, *self.call(request), words=6)

    def _next(self, at: Moment, signer: str, waiting: Waiting) -> int:
        assert at.relay.token is not None
        mine = [one.fields["nonce"] + 1 for one in waiting.requests if one.kind is self.kind]
        return max([int(at.view(at.relay.token, "nonces", signer)), *mine])


# Inside


def _number_problems(nonce: int, account: AccountState, waiting: Waiting) -> list[Problem]:
    free = waiting.numbers(account)
    if nonce in free:
        return []
    accepted = f"one of {', '.join(map(str, free))}" if free else "none until an order is posted"
    if not account.nonces.is_free(nonce):
        return [Problem("nonce", f"{nonce} is used, revoked, or too far ahead", accepted)]
    return [Problem("nonce", f"{nonce} is taken by what waits here", accepted)]


def _signature(request: StoredRequest) -> bytes:
    """As the market takes it: a key's in 64 bytes, a wallet's as it is."""
    return b"".join(compact(request.signature)) if request.by_key else request.signature


def _terms(fields: Any) -> Mandate:
    return Mandate(
        agent=fields["agent"],
        side=SIDES[fields["side"]],
        limit=fields["limit"],
        daily_cap=fields["daily_cap"] // CAP_UNIT,
        last_day=fields["last_day"],
    )


def _token_domain(at: Moment) -> Domain | None:
    """The token's domain as it tells it (ERC-5267), None where it has no permit that we know."""
    token = at.relay.token
    if token is None:
        return None
    try:
        told = at.view(token, "eip712Domain")
        domain = Domain(str(told[1]), str(told[2]), int(told[3]), str(told[4]))
        found = at.view(token, "DOMAIN_SEPARATOR")
    except (CheckFailed, ValueError, IndexError) as error:
        if is_away(error):
            raise
        return None
    return domain if domain.separator == found else None
