# SPDX-License-Identifier: Apache-2.0
"""The DAO on titanoboa: members with keys, the timelock as the only owner, a clock to turn.

Ballots are signed with eth-account's own EIP-712 code, not with the project's, so that a test
also proves the typed data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import boa
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils import keccak
from vyper.compiler.output import build_abi_output

from tests.contracts.compiling import compiled

LOCAL_CHAIN = 31_337
# 2016-06-06 00:00 UTC, the first second of a day.
START = 1_465_171_200
DAY = 86_400
HOUR = 3_600
ZERO = "0x" + "00" * 20
ZERO_HASH = b"\x00" * 32
AGAINST, FOR, ABSTAIN, VETO = 0, 1, 2, 3
ORDINARY, BALANCING, POLICY = 0, 1, 2
EURO = 1_000_000
# Voting delay, voting period, grace period and timelock delay of a lane.
ORDINARY_TERMS = (HOUR, DAY, 2 * DAY, DAY)
BALANCING_TERMS = (1, 3 * HOUR, 12 * HOUR, 900)
ADMISSION_DELAY = 29
# Of the members; the others live in zone 2.
IN_ZONE_1 = 15
STATES = (
    "Pending",
    "Active",
    "Canceled",
    "Defeated",
    "Succeeded",
    "Queued",
    "Expired",
    "Executed",
)
# key: (name, initial, minimum, maximum, largest step, cooldown)
RULES: dict[int, tuple[str, int, int, int, int, int]] = {
    5: ("PRICE_BAND_MIN", 0, 0, 100, 50, DAY),
    6: ("PRICE_BAND_MAX", 400, 150, 1_000, 100, DAY),
    7: ("GRID_FEE", 50, 0, 100, 20, DAY),
    11: ("FORECAST_LEAD", 6 * HOUR, HOUR, DAY, 6 * HOUR, DAY),
    12: ("FINALITY", 3 * DAY, DAY, 7 * DAY, DAY, DAY),
    13: ("NAIVE_SPREAD", 500, 1, 5_000, 1_000, DAY),
    14: ("SKILL_THRESHOLD", 50, 0, 1_000, 100, DAY),
    15: ("QUORUM", 2_500, 500, 5_000, 1_000, DAY),
    17: ("BATTERY_MAX_W", 50_000, 0, 200_000, 50_000, DAY),
    18: ("MAX_EXEMPT_SLOTS", 4, 0, 48, 8, DAY),
    19: ("MIN_HOMES", 15, 15, 100, 10, DAY),
    20: ("VETO_SHARE", 2_000, 100, 5_000, 1_000, DAY),
    21: ("FORFEIT_SHARE", 3_000, 2_500, 6_667, 1_000, DAY),
    22: ("PROPOSAL_BOND", 20, 0, 1_000, 20, DAY),
    23: ("HOLDING_TIME", 2 * HOUR, 0, 90 * DAY, 30 * DAY, DAY),
    24: ("ZONE_QUORUM", 0, 0, 6_000, 5_000, DAY),
    25: ("MAX_SLASH", 5 * EURO, 0, 100 * EURO, 10 * EURO, DAY),
    26: ("MAX_REWARD", EURO, 0, 20 * EURO, 5 * EURO, DAY),
    27: ("PROBATION_DAYS", 7, 0, 28, 7, DAY),
    28: ("MAX_ALLOWANCE", 4, 0, 8, 4, DAY),
    29: ("ADMISSION_DELAY", HOUR, HOUR, 30 * DAY, 7 * DAY, DAY),
}


def deploy(name: str, *args: Any) -> Any:
    boa.env.evm.patch.chain_id = LOCAL_CHAIN
    contract = compiled(name).deploy(*args)
    # titanoboa remembers the storage keys of every address, rolled back or not; a contract that
    # takes over an address would be shown with the keys of the last one, and fail at it.
    boa.env.sstore_trace.pop(contract.address, None)
    return contract


def reverts(reason: str) -> Any:
    """The block reverts with exactly this reason, its own or that of a call it made."""
    return boa.reverts(reason)


def event_signatures(name: str) -> set[str]:
    """The events of a contract as `Name(type,type)`, what the first topic is the hash of."""
    return {
        f"{entry['name']}({','.join(field['type'] for field in entry['inputs'])})"
        for entry in build_abi_output(compiled(name).compiler_data)
        if entry["type"] == "event"
    }


def selector(signature: str) -> bytes:
    return keccak(text=signature)[:4]


def rule(key: int) -> tuple[int, str, int, int, int, int, int]:
    return (key, *RULES[key])


def new_parameters() -> Any:
    parameters = deploy("GridParameters")
    parameters.define_batch([rule(key) for key in RULES])
    return parameters


def events(contract: Any, name: str) -> list[Any]:
    """The events of the contract's last transaction that have this name."""
    return [log for log in contract.get_logs() if type(log).__name__ == name]


@dataclass
class Proposal:
    targets: list[str]
    values: list[int]
    calldatas: list[bytes]
    description: str
    lane: int = ORDINARY
    policy: int = 0
    id: int = 0

    @property
    def description_hash(self) -> bytes:
        return bytes(keccak(text=self.description))

    @property
    def calls(self) -> tuple[list[str], list[int], list[bytes], bytes]:
        return self.targets, self.values, self.calldatas, self.description_hash

    def __add__(self, other: Proposal) -> Proposal:
        """The calls of both, described as the first."""
        return Proposal(
            self.targets + other.targets,
            self.values + other.values,
            self.calldatas + other.calldatas,
            self.description,
            self.lane,
            self.policy,
        )


@dataclass
class Dao:
    deployer: str
    token: Any
    parameters: Any
    registry: Any
    ledger: Any
    membership: Any
    timelock: Any
    treasury: Any
    forecasts: Any
    policies: Any
    governor: Any
    keys: list[Any]
    registrar: str
    forecaster: str
    guardian: str
    outsider: str

    def member(self, index: int) -> str:
        return str(self.keys[index].address)

    def pass_time(self, seconds: int) -> None:
        boa.env.timestamp += seconds

    def by_vote(self) -> Any:
        """What is done here the timelock does."""
        return boa.env.prank(self.timelock.address)

    def set_rule(self, key: int, value: int) -> None:
        with self.by_vote():
            self.parameters.set_value(key, value)

    # Members

    def announce(self, account: str, zone: int = 1) -> int:
        """A metering point for the account, and the announcement of its membership."""
        with boa.env.prank(self.registrar):
            self.registry.register_batch([account], [str(boa.env.generate_address())], zone)
            meter = int(self.registry.meter_count())
            self.membership.announce_admissions([account], [meter])
        return meter

    def admit(self, account: str, zone: int = 1) -> None:
        """A member more, an admission delay later."""
        meter = self.announce(account, zone)
        self.pass_time(HOUR)
        self.membership.complete([meter])

    def announce_removal(self, *accounts: str) -> list[int]:
        with boa.env.prank(self.registrar):
            self.membership.announce_removals(list(accounts))
        return [int(self.membership.meter_of(account)) for account in accounts]

    def remove(self, *accounts: str) -> None:
        meters = self.announce_removal(*accounts)
        self.pass_time(HOUR)
        self.membership.complete(meters)

    def delegate(self, index: int, to: int) -> None:
        with boa.env.prank(self.member(index)):
            self.membership.delegate(self.member(to))

    def deposit(self, account: str, amount: int) -> None:
        """Money for a bond, and the bond."""
        self.token.mint(account, amount)
        with boa.env.prank(account):
            self.token.approve(self.governor.address, amount)
            self.governor.depositBond(amount)

    def withdraw(self, account: str, amount: int) -> None:
        with boa.env.prank(account):
            self.governor.withdrawBond(amount)

    # Proposals

    def change_of(self, key: int, value: int, description: str = "why") -> Proposal:
        """A proposal to change a rule."""
        call = self.parameters.set_value.prepare_calldata(key, value)
        return Proposal([self.parameters.address], [0], [call], description)

    def call_of(self, contract: Any, function: str, *arguments: Any) -> Proposal:
        """A proposal of any one call."""
        call = getattr(contract, function).prepare_calldata(*arguments)
        return Proposal([contract.address], [0], [call], function)

    def window_of(self, description: str = "battery", **changes: int) -> Proposal:
        """A proposal of one window of zone 1, in the balancing lane."""
        window = {
            "zone": 1,
            "key": 1_000,
            "first_slot": self.noon(),
            "slots": 8,
            "value": -20_000,
        }
        call = self.parameters.open_window.prepare_calldata(*(window | changes).values())
        return Proposal([self.parameters.address], [0], [call], description, BALANCING)

    def noon(self) -> int:
        """A slot of the day after tomorrow."""
        return (boa.env.timestamp // DAY + 2) * 96 + 48

    def propose(self, proposal: Proposal, sender: str | None = None) -> Proposal:
        parts = (proposal.targets, proposal.values, proposal.calldatas, proposal.description)
        with boa.env.prank(sender or self.member(0)):
            if proposal.lane == ORDINARY:
                proposal.id = self.governor.propose(*parts)
            elif proposal.lane == BALANCING:
                proposal.id = self.governor.proposeBalancing(*parts)
            else:
                proposal.id = self.governor.proposeUnderPolicy(proposal.policy, *parts)
        return proposal

    def open_vote(self, proposal: Proposal, sender: str | None = None) -> Proposal:
        self.propose(proposal, sender)
        boa.env.timestamp = self.governor.proposalSnapshot(proposal.id) + 1
        return proposal

    def vote(self, proposal: Proposal, voters: Sequence[int], support: int = FOR) -> None:
        for index in voters:
            with boa.env.prank(self.member(index)):
                self.governor.castVote(proposal.id, support)

    def close(self, proposal: Proposal) -> None:
        """The first second after the vote."""
        boa.env.timestamp = self.governor.proposalDeadline(proposal.id) + 1

    def accept(self, proposal: Proposal, sender: str | None = None) -> Proposal:
        self.open_vote(proposal, sender)
        self.vote(proposal, range(10))
        self.close(proposal)
        return proposal

    def enqueue(self, proposal: Proposal, sender: str | None = None) -> Proposal:
        self.accept(proposal, sender)
        self.governor.queue(*proposal.calls)
        return proposal

    def ready(self, proposal: Proposal, sender: str | None = None) -> Proposal:
        """Queued, and its delay is over."""
        self.enqueue(proposal, sender)
        boa.env.timestamp = self.governor.proposalEta(proposal.id)
        return proposal

    def state(self, proposal: Proposal) -> str:
        return STATES[self.governor.state(proposal.id)]

    # Ballots

    def ballot_message(
        self,
        proposal_id: int,
        voter: str,
        support: int = FOR,
        reason: str = "",
        deadline: int | None = None,
        **domain: Any,
    ) -> Any:
        """What a voter signs; good for an hour where nothing is said."""
        return encode_typed_data(
            {
                "name": "GridGovernor",
                "version": "1",
                "chainId": LOCAL_CHAIN,
                "verifyingContract": self.governor.address,
                **domain,
            },
            {
                "Ballot": [
                    {"name": "proposalId", "type": "uint256"},
                    {"name": "support", "type": "uint8"},
                    {"name": "voter", "type": "address"},
                    {"name": "reasonHash", "type": "bytes32"},
                    {"name": "deadline", "type": "uint256"},
                ]
            },
            {
                "proposalId": proposal_id,
                "support": support,
                "voter": voter,
                "reasonHash": bytes(keccak(text=reason)),
                "deadline": boa.env.timestamp + HOUR if deadline is None else deadline,
            },
        )

    def sign(
        self,
        proposal_id: int,
        index: int,
        support: int = FOR,
        reason: str = "",
        deadline: int | None = None,
        voter: str | None = None,
        **domain: Any,
    ) -> tuple[int, bytes, int, int]:
        """A ballot packed for `castBallots`, signed by member `index`."""
        deadline = boa.env.timestamp + HOUR if deadline is None else deadline
        voter = voter or self.member(index)
        message = self.ballot_message(proposal_id, voter, support, reason, deadline, **domain)
        signed = self.keys[index].sign_message(message)
        head = (int(voter, 16) << 96) | (support << 88) | (deadline << 48)
        vs = signed.s | ((signed.v - 27) << 255)
        return head, bytes(keccak(text=reason)), signed.r, vs


def new_dao(members: int = 20) -> Dao:
    """Contracts, members for the metering points 1, 2, ..., and the hand-over to the timelock.

    The first 15 members live in zone 1, the others in zone 2. Each has a bond of 100 euros.
    """
    boa.env.timestamp = START
    deployer = str(boa.env.eoa)
    keys = [Account.from_key(keccak(text=f"member {index}")) for index in range(members)]
    registrar, forecaster, guardian, outsider = (
        str(boa.env.generate_address(name))
        for name in ("registrar", "forecaster", "guardian", "outsider")
    )
    token = deploy("TestEuro")
    parameters = new_parameters()
    registry = deploy("MeterRegistry", registrar)
    ledger = deploy("ReadingLedger", parameters.address)
    membership = deploy("Membership", registrar, registry.address, parameters.address)
    timelock = deploy("GridTimelock", BALANCING_TERMS[3], deployer)
    treasury = deploy("Treasury", token.address, registry.address, ledger.address)
    forecasts = deploy(
        "ForecastRegistry",
        ledger.address,
        parameters.address,
        membership.address,
        token.address,
        100 * EURO,
    )
    policies = deploy("StandingPolicies", parameters.address)
    governor = deploy(
        "GridGovernor",
        timelock.address,
        membership.address,
        parameters.address,
        forecasts.address,
        policies.address,
        treasury.address,
        token.address,
        ORDINARY_TERMS,
        BALANCING_TERMS,
    )
    dao = Dao(
        deployer,
        token,
        parameters,
        registry,
        ledger,
        membership,
        timelock,
        treasury,
        forecasts,
        policies,
        governor,
        keys,
        registrar,
        forecaster,
        guardian,
        outsider,
    )
    meters = [
        dao.announce(dao.member(index), 1 if index < IN_ZONE_1 else 2) for index in range(members)
    ]
    dao.pass_time(HOUR)
    membership.complete(meters)
    for index in range(members):
        dao.deposit(dao.member(index), 100 * EURO)
    forecasts.set_forecaster(forecaster, True)
    token.mint(forecaster, 100 * EURO)
    with boa.env.prank(forecaster):
        token.approve(forecasts.address, 100 * EURO)
        forecasts.deposit_bond(100 * EURO)
    governor.setGuardian(guardian)
    for role in ("PROPOSER_ROLE", "CANCELLER_ROLE", "EXECUTOR_ROLE"):
        timelock.grantRole(keccak(text=role), governor.address)
    for contract in (treasury, forecasts, policies):
        contract.set_governor(governor.address)
    for contract in (
        parameters,
        registry,
        ledger,
        membership,
        treasury,
        forecasts,
        policies,
        governor,
    ):
        if hasattr(contract, "transfer_ownership"):
            contract.transfer_ownership(timelock.address)
    timelock.renounceRole(ZERO_HASH, deployer)
    # Everybody has been a member for long enough to propose.
    dao.pass_time(2 * HOUR)
    return dao
