# SPDX-License-Identifier: Apache-2.0
"""One deployment of all contracts: put them on chain, hand them to the timelock, find them again.

`deploy` leaves the deployer in charge so that the first homes and members can be registered;
`hand_over` ends that: afterwards the timelock owns everything and the deployer nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dao.chain import Account, Chain, Contract
from dao.eip712 import keccak
from dao.errors import BadUse, CheckFailed
from dao.parameters import DAY, HOUR, rules_from
from dao.paths import ensure_parent

OWNED = (
    "TestEuro",
    "GridParameters",
    "MeterRegistry",
    "ReadingLedger",
    "EnergyMarket",
    "Membership",
    "Treasury",
    "ForecastRegistry",
    "StandingPolicies",
    "GridGovernor",
)
"""Contracts with an owner; the timelock is the one that is nobody's."""

# They believe the governor whose decisions they carry out.
_LISTENERS = ("Treasury", "ForecastRegistry", "StandingPolicies")
_ADMIN_ROLE = bytes(32)
_GOVERNOR_ROLES = ("PROPOSER_ROLE", "CANCELLER_ROLE", "EXECUTOR_ROLE")


@dataclass(frozen=True)
class Roles:
    """Who holds which office after deployment; addresses. docs/governance.md has the matrix."""

    registrar: str
    collector: str
    forecaster: str
    guardian: str


@dataclass(frozen=True)
class Pace:
    """How fast the decisions of a lane go, in seconds; voting and grace periods in whole hours."""

    voting_delay: int
    voting_period: int
    grace_period: int
    timelock_delay: int

    def as_tuple(self) -> tuple[int, int, int, int]:
        """The fields in the order of the governor's `LaneTerms`."""
        return self.voting_delay, self.voting_period, self.grace_period, self.timelock_delay


# A weekend and a week's evenings to talk it over, and two days to leave before it holds.
ORDINARY = Pace(DAY, 5 * DAY, 7 * DAY, 2 * DAY)
# Between the evening's forecast and the first gate of the next day.
BALANCING = Pace(1, 3 * HOUR, 12 * HOUR, 900)


@dataclass(frozen=True)
class Deployment:
    """The contracts of one deployment and the block it began at."""

    chain: Chain
    contracts: dict[str, Contract]
    first_block: int
    own_token: bool = True
    """Whether the token was deployed here; a real one belongs to somebody else."""

    def __getitem__(self, name: str) -> Contract:
        return self.contracts[name]

    def index_contracts(self) -> dict[str, tuple[str, Sequence[Any]]]:
        """Name to (address, ABI), as the indexer takes them."""
        return {
            name: (contract.address, self.chain.artifacts[name].abi)
            for name, contract in self.contracts.items()
        }

    def as_dict(self) -> dict[str, Any]:
        """What is written down: enough to find the contracts and read their events."""
        return {
            "chain_id": self.chain.chain_id,
            "first_block": self.first_block,
            "own_token": self.own_token,
            "contracts": {name: c.address for name, c in self.contracts.items()},
        }


def deploy(
    chain: Chain,
    roles: Roles,
    *,
    zone: int,
    token: str | None = None,
    minimum_bond: int = 100_000_000,
    ordinary: Pace = ORDINARY,
    balancing: Pace = BALANCING,
    initial: Mapping[str, int] | None = None,
) -> Deployment:
    """Deploy every contract and fill the offices. The deployer still owns all of it.

    token: address of the settlement token (6 decimals); None deploys TestEuro, which only a local
    chain accepts. minimum_bond: token units a forecaster must put up. initial: first values of
    rules by name, where they are not the usual ones; BadUse outside a rule's bounds.
    """
    owner = chain.deployer
    first_block = chain.block_number() + 1
    contracts: dict[str, Contract] = {}

    def put(name: str, *args: Any) -> Contract:
        contracts[name] = chain.deploy(name, *args, sender=owner)
        return contracts[name]

    token_contract = put("TestEuro") if token is None else chain.at("TestEuro", token)
    parameters = put("GridParameters")
    rules = [rule.as_tuple() for rule in rules_from(initial or {})]
    parameters.transact("define_batch", rules, sender=owner)
    registry = put("MeterRegistry", roles.registrar)
    ledger = put("ReadingLedger", parameters.address)
    ledger.transact("set_collector", zone, roles.collector, sender=owner)
    membership = put("Membership", roles.registrar, registry.address, parameters.address)
    # Its own least delay is the faster lane's; the governor asks more of the other one.
    timelock = put("GridTimelock", balancing.timelock_delay, owner.address)
    treasury = put("Treasury", token_contract.address, registry.address, ledger.address)
    market = put(
        "EnergyMarket",
        token_contract.address,
        parameters.address,
        registry.address,
        treasury.address,
    )
    auction = put(
        "UniformPriceAuction", market.address, parameters.address, registry.address, ledger.address
    )
    adjustments = put("DeliveryAdjustments", market.address, parameters.address, registry.address)
    market.transact("set_auction", auction.address, adjustments.address, sender=owner)
    market.transact("set_guardian", roles.guardian, sender=owner)
    forecasts = put(
        "ForecastRegistry",
        ledger.address,
        parameters.address,
        membership.address,
        token_contract.address,
        minimum_bond,
    )
    forecasts.transact("set_forecaster", roles.forecaster, True, sender=owner)
    policies = put("StandingPolicies", parameters.address)
    governor = put(
        "GridGovernor",
        timelock.address,
        membership.address,
        parameters.address,
        forecasts.address,
        policies.address,
        treasury.address,
        token_contract.address,
        ordinary.as_tuple(),
        balancing.as_tuple(),
    )
    governor.transact("setGuardian", roles.guardian, sender=owner)
    for name in _LISTENERS:
        contracts[name].transact("set_governor", governor.address, sender=owner)
    for role in _GOVERNOR_ROLES:
        timelock.transact("grantRole", keccak(role.encode()), governor.address, sender=owner)
    put("DossierAnchor", ledger.address)
    if token is not None:
        contracts["TestEuro"] = token_contract
    return Deployment(
        chain=chain, contracts=contracts, first_block=first_block, own_token=token is None
    )


def hand_over(deployment: Deployment) -> None:
    """Make the timelock the owner of everything; the deployer keeps no privilege.

    Raises CheckFailed when anything is left behind.
    """
    owner = deployment.chain.deployer
    timelock = deployment["GridTimelock"]
    for name in _owned(deployment):
        contract = deployment[name]
        if contract.call("owner") == owner.address:
            contract.transact("transfer_ownership", timelock.address, sender=owner)
    timelock.transact("renounceRole", _ADMIN_ROLE, owner.address, sender=owner)
    for name, holds in privileges(deployment, owner.address).items():
        if holds:
            raise CheckFailed(f"the deployer still holds {name}")
    for name in _LISTENERS:
        if deployment[name].call("governor") != deployment["GridGovernor"].address:
            raise CheckFailed(f"{name} listens to another governor")


def _owned(deployment: Deployment) -> list[str]:
    """The deployment's contracts that have an owner."""
    return [name for name in OWNED if name != "TestEuro" or deployment.own_token]


def privileges(deployment: Deployment, account: str) -> dict[str, bool]:
    """Which privileged positions an account holds, by the name of contract and office."""
    held: dict[str, bool] = {}
    for name in _owned(deployment):
        held[f"{name}.owner"] = deployment[name].call("owner") == account
    timelock = deployment["GridTimelock"]
    held["GridTimelock.admin"] = bool(timelock.call("hasRole", _ADMIN_ROLE, account))
    for role in _GOVERNOR_ROLES:
        held[f"GridTimelock.{role}"] = bool(
            timelock.call("hasRole", keccak(role.encode()), account)
        )
    return held


def write(deployment: Deployment, path: Path) -> None:
    """Write the addresses down, whole or not at all."""
    ensure_parent(path)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(deployment.as_dict(), indent=2) + "\n")
    part.replace(path)


def read(chain: Chain, path: Path) -> Deployment:
    """Find a deployment that `write` wrote. BadUse for an unreadable file, CheckFailed where the
    chain is another one."""
    try:
        document = json.loads(path.read_text())
        addresses = document["contracts"]
        chain_id, first_block = int(document["chain_id"]), int(document["first_block"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadUse(f"{path} is not a deployment file ({error})") from error
    if chain_id != chain.chain_id:
        raise CheckFailed(f"{path} is of chain {chain_id}, this node is of {chain.chain_id}")
    contracts = {name: chain.at(name, address) for name, address in addresses.items()}
    return Deployment(
        chain=chain,
        contracts=contracts,
        first_block=first_block,
        own_token=bool(document.get("own_token", True)),
    )


def register_homes(
    deployment: Deployment,
    registrar: Account,
    *,
    zone: int,
    owners: Sequence[str],
    devices: Sequence[str],
    members: int,
    batch: int = 100,
) -> list[int]:
    """Register metering points and open their accounts; announce the first `members` owners.

    They are members once `dao.membership.complete` was called for them, after the delay that the
    rule `admission_delay` sets. Returns the numbers of the metering points, in the owners' order.
    """
    registry, market = deployment["MeterRegistry"], deployment["EnergyMarket"]
    first = int(registry.call("meter_count")) + 1
    numbers = list(range(first, first + len(owners)))
    for start in range(0, len(owners), batch):
        part = slice(start, start + batch)
        registry.transact(
            "register_batch", list(owners[part]), list(devices[part]), zone, sender=registrar
        )
        market.transact("open_accounts", numbers[part])
    for start in range(0, members, batch):
        part = slice(start, min(start + batch, members))
        deployment["Membership"].transact(
            "announce_admissions", list(owners[part]), numbers[part], sender=registrar
        )
    return numbers
