# SPDX-License-Identifier: Apache-2.0
"""What the relay works with, and what the chain says at one moment: accounts, mandates, terms.

Reads and nothing else. What follows from it is for `checks`, what is stored for the intakes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dao import abi
from dao.chain import Account, Chain, Contract, is_away
from dao.deployment import Deployment
from dao.eip712 import keccak
from dao.errors import CheckFailed
from dao.market.account import Mandate
from dao.market.orders import market_separator
from dao.market.session import read_session, read_terms
from dao.parameters import DAY, SessionTerms, unpack_session_terms
from dao.relay import checks
from dao.relay.checks import AccountState, MandateState, Nonces, Terms
from dao.relay.posting import Pace, gate_in_pause
from dao.relay.store import RelayStore
from dao.relay.submitted import Problem
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY

# As EnergyMarket and GridGovernor ask a contract wallet.
WALLET_GAS = 100_000
_IS_VALID = keccak(b"isValidSignature(bytes32,bytes)")[:4]
_IS_VALID_INPUTS = ({"name": "hash", "type": "bytes32"}, {"name": "signature", "type": "bytes"})


@dataclass(frozen=True)
class Relay:
    """What the relay works with. `account` pays the gas and signs the promises; first_block: of
    the deployment. token, governor, membership: where one is None, the relay carries no deposits,
    ballots, or delegations."""

    market: Contract
    parameters: Contract
    registry: Contract
    store: RelayStore
    zone: int
    account: Account
    pace: Pace = field(default_factory=Pace)
    first_block: int = 0
    token: Contract | None = None
    governor: Contract | None = None
    membership: Contract | None = None
    separator: bytes = field(init=False)

    def __post_init__(self) -> None:
        separator = market_separator(self.chain.chain_id, self.market.address)
        object.__setattr__(self, "separator", separator)

    @classmethod
    def of(
        cls,
        deployment: Deployment,
        store: RelayStore,
        zone: int,
        account: Account,
        pace: Pace | None = None,
    ) -> Relay:
        """A relay for all that a deployment holds."""
        return cls(
            market=deployment["EnergyMarket"],
            parameters=deployment["GridParameters"],
            registry=deployment["MeterRegistry"],
            store=store,
            zone=zone,
            account=account,
            pace=pace or Pace(),
            first_block=deployment.first_block,
            token=deployment["TestEuro"],
            governor=deployment["GridGovernor"],
            membership=deployment["Membership"],
        )

    @property
    def chain(self) -> Chain:
        """The chain all contracts lie on."""
        return self.market.chain


class Reader:
    """What the chain says at one moment, each thing read once."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        latest = relay.chain.rpc("eth_getBlockByNumber", "latest", False)
        self.block = int(latest["number"], 16)
        self.now = int(latest["timestamp"], 16)
        self._fixed: dict[int, SessionTerms] = {}
        self._terms: dict[int, Terms] = {}
        self._accounts: dict[int, AccountState] = {}
        self._mandates: dict[tuple[int, int], tuple[Mandate, Nonces]] = {}

    def fixed(self, slot: int) -> SessionTerms:
        """What was fixed for the sessions of the slot's UTC day when they were announced."""
        opens = opening(slot)
        if opens not in self._fixed:
            word = self._relay.parameters.call("session_terms", opens)
            self._fixed[opens] = unpack_session_terms(word)
        return self._fixed[opens]

    def length(self, slot: int) -> int:
        """Slots in each session of the slot's UTC day, which has to be announced."""
        return SLOTS_PER_DAY // self.fixed(slot).sessions_per_day

    def terms(self, slot: int) -> Terms | Problem:
        """The terms of the session that a slot belongs to, or why it cannot be traded yet."""
        opens = opening(slot)
        if self.now <= opens:
            return Problem(
                "first_slot",
                f"{slot} lies in a day whose sessions are not announced",
                f"a slot before {(self.now // DAY + 2) * SLOTS_PER_DAY}, or an order after {opens}",
            )
        if slot * SLOT_SECONDS <= self.now:
            return Problem("first_slot", f"{slot} has begun", "a slot of a session still to come")
        slots = self.length(slot)
        first = slot - slot % slots
        if first not in self._terms:
            self._terms[first] = self._read_terms(first, slots)
        return self._terms[first]

    def account(self, number: int) -> AccountState:
        """An account's state; zone 0 where it is not open."""
        if number not in self._accounts:
            owner, balance, zone, open_orders, base, used = self._relay.market.call(
                "account", number
            )
            self._accounts[number] = AccountState(
                number, owner, balance, zone, open_orders, Nonces(base, used)
            )
        return self._accounts[number]

    def mandate(self, account: int, number: int) -> MandateState:
        """A mandate's state, with what waits here, and was posted from here today, as spent."""
        key = (account, number)
        if key not in self._mandates:
            terms, _, base, used = self._relay.market.call("mandate", account, number)
            self._mandates[key] = (Mandate(**terms), Nonces(base, used))
        terms, nonces = self._mandates[key]
        counted = self._relay.store.of_mandate(account, number, self.now // DAY * DAY)
        return MandateState(terms, nonces, sum(checks.counted(one.escrow) for one in counted))

    def _read_terms(self, first: int, slots: int) -> Terms:
        relay, fixed = self._relay, self.fixed(first)
        gate = first * SLOT_SECONDS - fixed.gate_lead
        state = read_session(relay.market, relay.zone, first)
        rows = 0
        if state.orders:
            # The book's word: its hash, then the words of its orders and their number.
            rows = relay.market.call("session_words", relay.zone, first)[1] >> 12 & 0xFFF
        closed = ""
        if state.void:
            closed = "the session is void"
        elif gate_in_pause(relay.market, gate):
            closed = "the market is paused at the session's gate: it will be void"
        prices = read_terms(relay.parameters, relay.zone, first, slots, self.now)
        return Terms(
            zone=relay.zone,
            first_slot=first,
            slots=slots,
            gate=gate,
            penalty=fixed.penalty,
            min_order_wh=fixed.min_order_wh,
            max_slot_wh=fixed.max_slot_wh,
            grid_fee=prices.fee,
            band_min=tuple(lowest for lowest, _ in prices.band),
            band_max=tuple(highest for _, highest in prices.band),
            orders=state.orders,
            rows=rows,
            closed=closed,
        )


def opening(slot: int) -> int:
    """When the sessions of a slot's UTC day are announced: orders are taken after that second."""
    return slot // SLOTS_PER_DAY * DAY - DAY


def wallet_agrees(asking: Contract, wallet: str, digest: bytes, signature: bytes) -> bool:
    """Whether a contract wallet takes a signature for its own (ERC-1271), asked as the contract
    will ask: with so much gas and no more."""
    if asking.chain.rpc("eth_getCode", wallet, "latest") == "0x":
        return False
    data = _IS_VALID + abi.encode(_IS_VALID_INPUTS, [digest, signature])
    # What a node takes off before the call begins.
    gas = 21_000 + sum(16 if byte else 4 for byte in data) + WALLET_GAS
    question = {
        "from": asking.address,
        "to": wallet,
        "data": f"0x{data.hex()}",
        "gas": hex(gas),
    }
    try:
        answer = str(asking.chain.rpc("eth_call", question, "latest"))
    except CheckFailed as error:
        if is_away(error):
            raise
        return False  # it reverted, or took too much
    return answer == f"0x{_IS_VALID.hex():0<64}"
