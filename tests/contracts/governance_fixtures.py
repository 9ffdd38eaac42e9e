# SPDX-License-Identifier: Apache-2.0
"""The DAO on titanoboa: members with keys, the timelock as the only owner, a clock to turn.

Ballots are signed with eth-account's own EIP-712 code, not with the project's, so that a test
also proves the typed data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import boa
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils import keccak
from vyper.compiler.output import build_abi_output

CONTRACTS = Path(__file__).parents[2] / "contracts"
LOCAL_CHAIN = 31_337
# 2016-06-06 00:00 UTC, the first second of a day.
START = 1_465_171_200
DAY = 86_400
HOUR = 3_600
ZERO = "0x" + "00" * 20
ZERO_HASH = b"\x00" * 32
AGAINST, FOR, ABSTAIN = 0, 1, 2
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
    15: ("QUORUM", 2_500, 500, 5_000, 1_000, DAY),
    17: ("BATTERY_MAX_W", 50_000, 0, 200_000, 50_000, DAY),
    18: ("MAX_EXEMPT_SLOTS", 4, 0, 48, 8, DAY),
    19: ("MIN_HOMES", 15, 15, 100, 10, DAY),
}


@cache
def compiled(name: str) -> Any:
    return boa.load_partial(str(CONTRACTS / f"{name}.vy"))


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
    id: int = 0

    @property
    def description_hash(self) -> bytes:
        return bytes(keccak(text=self.description))

    @property
    def calls(self) -> tuple[list[str], list[int], list[bytes], bytes]:
        return self.targets, self.values, self.calldatas, self.description_hash


@dataclass
class Dao:
    deployer: str
    timelock: Any
    membership: Any
    parameters: Any
    governor: Any
    keys: list[Any]
    forecaster: str
    guardian: str
    outsider: str

    def member(self, index: int) -> str:
        return str(self.keys[index].address)

    def pass_time(self, seconds: int) -> None:
        boa.env.timestamp += seconds

    def change_of(self, key: int, value: int, description: str = "why") -> Proposal:
        """A proposal to change a rule."""
        call = self.parameters.set_value.prepare_calldata(key, value)
        return Proposal([self.parameters.address], [0], [call], description)

    def window_of(self, description: str = "battery", **changes: int) -> Proposal:
        slot = (boa.env.timestamp // DAY + 2) * 96 + 40
        window = {"zone": 1, "key": 1_000, "first_slot": slot, "slots": 8, "value": -20_000}
        call = self.parameters.open_window.prepare_calldata(*(window | changes).values())
        return Proposal([self.parameters.address], [0], [call], description)

    def propose(self, proposal: Proposal, sender: str | None = None) -> Proposal:
        with boa.env.prank(sender or self.member(0)):
            proposal.id = self.governor.propose(
                proposal.targets, proposal.values, proposal.calldatas, proposal.description
            )
        return proposal

    def open_vote(self, proposal: Proposal, sender: str | None = None) -> Proposal:
        self.propose(proposal, sender)
        self.pass_time(self.governor.votingDelay() + 1)
        return proposal

    def vote(self, proposal: Proposal, voters: Sequence[int], support: int = FOR) -> None:
        for index in voters:
            with boa.env.prank(self.member(index)):
                self.governor.castVote(proposal.id, support)

    def accept(self, proposal: Proposal, sender: str | None = None) -> Proposal:
        self.open_vote(proposal, sender)
        self.vote(proposal, range(10))
        self.pass_time(self.governor.votingPeriod())
        return proposal

    def enqueue(self, proposal: Proposal, sender: str | None = None) -> Proposal:
        self.accept(proposal, sender)
        self.governor.queue(*proposal.calls)
        return proposal

    def state(self, proposal: Proposal) -> str:
        return STATES[self.governor.state(proposal.id)]

    def sign(
        self,
        proposal_id: int,
        index: int,
        support: int = FOR,
        reason: str = "",
        deadline: int | None = None,
        voter: str | None = None,
        **domain: Any,
    ) -> tuple[int, bytes, bytes, bytes]:
        """A ballot packed for `castBallots`, signed by member `index`."""
        deadline = boa.env.timestamp + HOUR if deadline is None else deadline
        voter = voter or self.member(index)
        reason_hash = bytes(keccak(text=reason))
        message = encode_typed_data(
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
                "reasonHash": reason_hash,
                "deadline": deadline,
            },
        )
        signed = self.keys[index].sign_message(message)
        vs = signed.s | ((signed.v - 27) << 255)
        head = (int(voter, 16) << 96) | (support << 88) | (deadline << 48)
        return head, reason_hash, signed.r.to_bytes(32, "big"), vs.to_bytes(32, "big")


def new_dao(members: int = 20) -> Dao:
    """Contracts, members for the metering points 1, 2, ..., and the hand-over to the timelock."""
    boa.env.timestamp = START
    deployer = str(boa.env.eoa)
    keys = [Account.from_key(keccak(text=f"member {index}")) for index in range(members)]
    forecaster, guardian, outsider = (
        str(boa.env.generate_address(name)) for name in ("forecaster", "guardian", "outsider")
    )
    timelock = deploy("GridTimelock", HOUR, deployer)
    membership = deploy("Membership", deployer)
    parameters = new_parameters()
    governor = deploy(
        "GridGovernor",
        timelock.address,
        membership.address,
        parameters.address,
        HOUR,
        DAY,
        2 * DAY,
    )
    for start in range(0, members, 100):
        part = keys[start : start + 100]
        membership.admit_batch(
            [key.address for key in part], list(range(start + 1, start + 1 + len(part)))
        )
    governor.setForecaster(forecaster, True)
    governor.setGuardian(guardian)
    for role in ("PROPOSER_ROLE", "CANCELLER_ROLE", "EXECUTOR_ROLE"):
        timelock.grantRole(keccak(text=role), governor.address)
    for contract in (membership, parameters, governor):
        contract.transfer_ownership(timelock.address)
    timelock.renounceRole(ZERO_HASH, deployer)
    boa.env.timestamp += HOUR
    return Dao(
        deployer,
        timelock,
        membership,
        parameters,
        governor,
        keys,
        forecaster,
        guardian,
        outsider,
    )
