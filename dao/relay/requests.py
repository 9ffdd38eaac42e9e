# SPDX-License-Identifier: Apache-2.0
"""What a kind of request is: what is signed for it, who signs, what is wrong with it, and the call
that carries it out.

The kinds themselves are `market_requests` and `voting_requests`. Taking them in is
`request_intake`'s business, sending them `carrying`'s.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dao.chain import Contract
from dao.market.orders import DOMAIN_NAME, DOMAIN_VERSION
from dao.relay.checks import AccountState
from dao.relay.reader import Reader, Relay
from dao.relay.request_fields import Field, Whole
from dao.relay.request_store import Claims, Kind, StoredRequest, claims_of
from dao.relay.store import StoredOrder
from dao.relay.submitted import Problem
from dao.relay.typed_data import Domain, document, signed_digest

# A signature that is about to end would fail on its way.
LEAST_TIME_S = 60
# How long one holds where its signer named no time. A local chain's clock may run ahead of people.
PATIENCE_S = 86_400
PATIENCE_LOCAL_S = 30 * 86_400

COUNT = Whole(filled=True, highest=2**53)
DEADLINE = Whole(filled=True)

Fields = dict[str, Any]


class Moment(Reader):
    """What the chain says at one moment, further views among it, each read once."""

    def __init__(self, relay: Relay) -> None:
        super().__init__(relay)
        self.relay = relay
        self._views: dict[tuple[Any, ...], Any] = {}

    def view(self, contract: Contract, function: str, *arguments: Any) -> Any:
        """What a view returns."""
        key = (contract.address, function, *arguments)
        if key not in self._views:
            self._views[key] = contract.call(function, *arguments)
        return self._views[key]

    @property
    def patience(self) -> int:
        """Until when a signature holds that names no time, unix seconds."""
        local = self.relay.chain.is_local
        return self.now + (PATIENCE_LOCAL_S if local else PATIENCE_S)


@dataclass(frozen=True)
class Waiting:
    """What waits here of an account or a signer, as far as it concerns a request."""

    orders: Sequence[StoredOrder] = ()
    requests: Sequence[StoredRequest] = ()

    @property
    def claims(self) -> Claims:
        """What the requests will take."""
        return claims_of(self.requests)

    @property
    def money(self) -> int:
        """Token units that orders and withdrawals will take."""
        return sum(one.escrow for one in self.orders) + self.claims.money

    def numbers(self, account: AccountState) -> list[int]:
        """The account's numbers that nothing has used and nothing here will use."""
        own = [one for one in self.orders if not one.order.mandate]
        return account.nonces.to_use(own, self.claims.nonces)


class Rule(ABC):
    """What a kind of request is."""

    kind: ClassVar[Kind]
    typed_as: ClassVar[str]
    """Its name among the typed data."""
    plural: ClassVar[str]
    """Its name where it is submitted."""
    type_text: ClassVar[str]
    fields: ClassVar[Mapping[str, Field]]
    by_key_only: ClassVar[bool] = False
    """Whether its contract asks no contract wallet (ERC-1271)."""

    def contract(self, relay: Relay) -> Contract | None:
        """Where it is carried to, None where this relay does not."""
        return relay.market

    def domain(self, at: Moment) -> Domain | None:
        """The domain it is signed under; None where that is not known."""
        market = at.relay.market
        return Domain(DOMAIN_NAME, DOMAIN_VERSION, market.chain.chain_id, market.address)

    def account(self, at: Moment, fields: Fields) -> int:
        """The metering point it speaks of, 0 for none."""
        return int(fields["account"])

    def signer(self, at: Moment, fields: Fields) -> str | Problem:
        """The address that has to sign."""
        state = at.account(fields["account"])
        if state.zone != at.relay.zone:
            lies = f"lies in zone {state.zone}" if state.zone else "is not open"
            accepted = f"an account of zone {at.relay.zone}"
            return Problem("account", f"{state.number} {lies}", accepted)
        return state.owner

    def fill(self, at: Moment, fields: Fields, signer: str, waiting: Waiting) -> None:
        """Put numbers and times in the place of those left out."""
        if "deadline" in self.fields:
            fields.setdefault("deadline", at.patience)

    @abstractmethod
    def message(self, at: Moment, fields: Fields, signer: str) -> dict[str, Any]:
        """What is signed."""

    def fields_of(self, message: dict[str, Any]) -> Fields:
        """The fields of a message as a document has it, but for those it does not hold."""
        names = set(self.fields)
        return {name: value for name, value in message.items() if name in names}

    @abstractmethod
    def problems(self, at: Moment, fields: Fields, signer: str, waiting: Waiting) -> list[Problem]:
        """What would keep it from being carried out. Asks the node nothing that it has asked
        before with the same fields."""

    @abstractmethod
    def call(self, request: StoredRequest) -> tuple[str, tuple[Any, ...]]:
        """Function and arguments that carry it out."""

    @abstractmethod
    def event(self, request: StoredRequest) -> tuple[str, dict[str, Any]]:
        """The event, and its arguments, that shows it on the chain."""

    def mark(self, relay: Relay, request: StoredRequest) -> bytes:
        """What the transaction's data hold, where the event alone could be another's."""
        return b""

    def topic(self, request: StoredRequest) -> str:
        """The first indexed argument of its event, by which to search."""
        return f"0x{request.account:064x}"

    # What all kinds do alike

    def document(self, at: Moment, fields: Fields, signer: str) -> dict[str, Any] | None:
        """What a wallet signs; None where the domain is not known."""
        domain = self.domain(at)
        if domain is None:
            return None
        return document(self.type_text, domain, self.message(at, fields, signer))

    def digest(self, at: Moment, fields: Fields, signer: str) -> bytes | None:
        """The 32 bytes that are signed, the request's id; None where the domain is not known."""
        domain = self.domain(at)
        if domain is None:
            return None
        return signed_digest(self.type_text, domain, self.message(at, fields, signer))


# For the kinds


def expiry_problems(at: Moment, name: str, deadline: int) -> list[Problem]:
    """A signature that ends too soon to be carried."""
    if deadline >= at.now + LEAST_TIME_S:
        return []
    accepted = f"{at.now + LEAST_TIME_S} or later"
    return [Problem(name, f"{deadline} is past, or too near to arrive in time", accepted)]


def next_problems(nonce: int, wanted: int) -> list[Problem]:
    """A number that is not the next of a row without gaps."""
    if nonce == wanted:
        return []
    return [Problem("nonce", f"{nonce} is not the next one", f"{wanted}")]


def v_r_s(request: StoredRequest) -> tuple[int, bytes, bytes]:
    """A key's signature as v, r and s."""
    signature = request.signature
    return signature[64], signature[:32], signature[32:64]


def head_of(contract: Contract, function: str, arguments: tuple[Any, ...], *, words: int) -> bytes:
    """The first words of a call's arguments, as they stand in any data that make the call."""
    return contract.encode(function, *arguments)[4 : 4 + 32 * words]
