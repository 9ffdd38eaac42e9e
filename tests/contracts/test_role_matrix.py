# SPDX-License-Identifier: Apache-2.0
"""Nobody outside the role matrix can change anything, and the deployer can change nothing.

One whole deployment, made and handed over by dao/deployment.py on titanoboa. For every function
that is not open to anyone a case leads to a state in which the rightful caller succeeds; in that
same state everybody else, people and contracts, makes the same call and is turned away. What the
timelock may do is done by a real vote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import boa
import pytest
from eth_abi import decode
from vyper.compiler.output import build_abi_output

from dao.deployment import OWNED, Deployment, Pace, Roles, hand_over, privileges, register_homes
from dao.deployment import deploy as deploy_all
from dao.eip712 import address_of, keccak, sign_digest
from dao.ledger import pack_totals
from dao.market.orders import correction_digest, market_separator
from dao.market.session import DeviceReceipt
from dao.parameters import KEYS
from tests.contracts.compiling import CONTRACTS, compiled
from tests.contracts.forecast_bench import EVIDENCE, FORECAST, SALT, commitment_of, pack
from tests.contracts.governance_fixtures import (
    DAY,
    EURO,
    FOR,
    HOUR,
    LOCAL_CHAIN,
    ZERO_HASH,
)
from tests.contracts.market_world import ASK, BID, DAY_SLOT, GATE, ZONE, World, delivered, traded
from tests.contracts.role_matrix import (
    ACCOUNT_OWNER,
    ADJUSTMENTS,
    ANYONE,
    AUCTION,
    BOND_OWNER,
    COLLECTOR,
    FORECASTER,
    GOVERNOR,
    GUARDIAN,
    MATRIX,
    MEMBER,
    NOBODY,
    PROPOSER,
    REGISTRAR,
    ROLES,
    TIMELOCK,
    as_table,
    from_table,
    is_open,
    roles_of,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "governance.md"
OTHER_ZONE = 2
HOMES, MEMBERS = 20, 3
NEW_HOME = 10  # has an account, and an owner who is no member
TOMORROW = DAY_SLOT + 96
NEXT_WEEK = DAY_SLOT + 7 * 96
BATTERY = 1_000
NOT_OWNER = "ownable: caller is not the owner"
NO_ROLE = "access_control: account is missing role"
PROPOSER_ROLE = keccak(b"PROPOSER_ROLE")


# ---------------------------------------------------------------- a chain for dao/deployment.py


@dataclass(frozen=True)
class Signer:
    """An account as dao/deployment.py takes it."""

    address: str


@dataclass(frozen=True)
class BoaContract:
    """A contract on titanoboa with the two ways of calling that dao/deployment.py uses."""

    address: str
    boa: Any

    def call(self, function: str, *args: Any) -> Any:
        return getattr(self.boa, function)(*args)

    def transact(self, function: str, *args: Any, sender: Signer | None = None) -> None:
        with boa.env.prank(sender.address if sender else boa.env.eoa):
            getattr(self.boa, function)(*args)


@dataclass(frozen=True)
class BoaChain:
    """titanoboa behind what dao/deployment.py asks of a chain."""

    deployer: Signer

    def block_number(self) -> int:
        return int(boa.env.evm.patch.block_number)

    def deploy(self, name: str, *args: Any, sender: Signer) -> BoaContract:
        # titanoboa remembers the written places of every address, rolled back or not: of an address
        # that was taken before only what this contract writes counts.
        others, boa.env.sstore_trace = boa.env.sstore_trace, {}
        with boa.env.prank(sender.address):
            contract = compiled(name).deploy(*args)
        boa.env.sstore_trace = others | boa.env.sstore_trace
        return BoaContract(str(contract.address), contract)


# ---------------------------------------------------------------- the people and their contracts


@dataclass
class City:
    deployment: Deployment
    people: dict[str, str]
    market_world: World
    owned_before: int
    """Words of storage that named the deployer before the hand-over."""
    drafts: int = field(default=0)

    def __getitem__(self, contract: str) -> Any:
        return self.deployment[contract].boa

    @property
    def actors(self) -> dict[str, str]:
        """Everybody who could call: people by their office, contracts by their name."""
        contracts = {name: c.address for name, c in self.deployment.contracts.items()}
        return self.people | contracts

    def act(self, who: str) -> Any:
        return boa.env.prank(self.actors[who])

    def by_vote(self) -> Any:
        """What is done here to lead to a case the timelock does, without the vote."""
        return self.act("GridTimelock")

    def call(self, contract: str, function: str, *args: Any) -> bytes:
        return bytes(getattr(self[contract], function).prepare_calldata(*args))

    # Decisions

    def draft(self, contract: str, data: bytes) -> tuple[list[str], list[int], list[bytes], str]:
        """One call as a proposal; each with a description of its own."""
        self.drafts += 1
        return [self.actors[contract]], [0], [data], f"draft {self.drafts}"

    def propose(
        self, data: bytes, contract: str, lane: str = "propose"
    ) -> tuple[int, tuple[Any, ...]]:
        """A proposal of the member with a bond: its id, and what `queue` takes."""
        *calls, text = self.draft(contract, data)
        with self.act("proposer"):
            proposal = getattr(self["GridGovernor"], lane)(*calls, text)
        return proposal, (*calls, keccak(text.encode()))

    def open_vote(self, proposal: int) -> None:
        boa.env.timestamp = self["GridGovernor"].proposalSnapshot(proposal) + 1

    def decide(self, contract: str, data: bytes) -> None:
        """The call, by a vote in the ordinary lane, from proposal to execution."""
        governor = self["GridGovernor"]
        proposal, calls = self.propose(data, contract)
        self.open_vote(proposal)
        for voter in ("proposer", "member", "neighbour", "far member"):
            with self.act(voter):
                governor.castVote(proposal, FOR)
        boa.env.timestamp = governor.proposalDeadline(proposal) + 1
        governor.queue(*calls)
        boa.env.timestamp = governor.proposalEta(proposal)
        governor.execute(*calls)

    # Calls as they are

    def attempt(self, who: str, contract: str, data: bytes) -> str | None:
        """Make the call; None where it succeeded, else the reason it was refused for."""
        computation = boa.env.execute_code(
            self.actors[contract], sender=self.actors[who], data=data
        )
        if not computation.is_error:
            return None
        output = bytes(computation.output)
        if output[:4] != keccak(b"Error(string)")[:4]:
            return f"{output.hex()} {computation.error!r}"
        return str(decode(["string"], output[4:])[0])

    def storage(self) -> dict[tuple[str, int], int]:
        """Every word that the contracts have ever written, or tried to."""
        return {
            (name, place): boa.env.get_storage(contract.address, place)
            for name, contract in self.deployment.contracts.items()
            for place in boa.env.sstore_trace.get(contract.address, ())
        }

    def inner_call(self, outer: str, run: Callable[[], object], target: str) -> bytes:
        """The call that one contract makes to another when this is run; nothing stays done."""
        with boa.env.anchor():
            run()
            pending = [self[outer]._computation]
            found = []
            while pending:
                computation = pending.pop()
                pending.extend(computation.children)
                message = computation.msg
                if message.to == bytes.fromhex(self.actors[target][2:]) and not message.is_static:
                    found.append(bytes(message.data))
        (data,) = found
        return data


def naming(storage: Mapping[tuple[str, int], int], account: str) -> int:
    """How many words of storage hold the account's address."""
    digits = account.removeprefix("0x").lower()
    return sum(digits in f"{word:064x}" for word in storage.values())


def new_city() -> City:
    """Everything that dao/deployment.py deploys, with people, homes and money; handed over."""
    boa.env.evm.patch.chain_id = LOCAL_CHAIN
    boa.env.timestamp = (DAY_SLOT - 30 * 96) * 900
    people = {
        name: str(boa.env.generate_address(name))
        for name in (
            "deployer",
            "stranger",
            "meter registrar",
            "membership registrar",
            "collector",
            "other collector",
            "forecaster",
            "proposal guardian",
            "market guardian",
            "agent",
        )
    }
    deployer = Signer(people["deployer"])
    deployment = deploy_all(
        BoaChain(deployer),  # type: ignore[arg-type]
        Roles(
            registrar=people["meter registrar"],
            collector=people["collector"],
            forecaster=people["forecaster"],
            guardian=people["proposal guardian"],
        ),
        zone=ZONE,
        ordinary=Pace(HOUR, DAY, DAY, DAY),
        initial={"sessions_per_day": 24},
    )
    contracts = {name: contract.boa for name, contract in deployment.contracts.items()}
    token, market = contracts["TestEuro"], contracts["EnergyMarket"]
    world = World(
        token=token,
        parameters=contracts["GridParameters"],
        registry=contracts["MeterRegistry"],
        ledger=contracts["ReadingLedger"],
        market=market,
        auction=contracts["UniformPriceAuction"],
        adjustments=contracts["DeliveryAdjustments"],
        deployer=deployer.address,
        treasury=str(contracts["Treasury"].address),
        guardian=people["market guardian"],
        collector=people["collector"],
        separator=market_separator(LOCAL_CHAIN, str(market.address)),
    )
    registrar = Signer(people["meter registrar"])
    meters: list[int] = []
    for zone, homes, members in ((ZONE, HOMES, MEMBERS), (OTHER_ZONE, 1, 1)):
        first = len(meters) + 1
        numbers = range(first, first + homes)
        meters += register_homes(
            deployment,
            registrar,  # type: ignore[arg-type]
            zone=zone,
            owners=[world.owner(n) for n in numbers],
            devices=[address_of(world.device_key(n)) for n in numbers],
            members=members,
        )
    boa.env.timestamp += contracts["GridParameters"].value(KEYS["admission_delay"])
    contracts["Membership"].complete([1, 2, 3, HOMES + 1])
    people |= {
        "proposer": world.owner(1),
        "member": world.owner(2),
        "neighbour": world.owner(3),
        "account owner": world.owner(NEW_HOME),
        "far member": world.owner(HOMES + 1),
    }
    world.fund(range(1, HOMES + 1), 100 * EURO)
    for who, spender, amount in (
        ("proposer", "GridGovernor", 1_000 * EURO),
        ("forecaster", "ForecastRegistry", 200 * EURO),
    ):
        with boa.env.prank(deployer.address):
            token.mint(people[who], amount)
        with boa.env.prank(people[who]):
            token.approve(contracts[spender].address, amount)
    with boa.env.prank(deployer.address):
        token.mint(contracts["Treasury"].address, 1_000 * EURO)
    with boa.env.prank(people["proposer"]):
        contracts["GridGovernor"].depositBond(1_000 * EURO)
    with boa.env.prank(people["forecaster"]):
        contracts["ForecastRegistry"].deposit_bond(150 * EURO)
    with boa.env.prank(people["account owner"]):
        market.grant_mandate(NEW_HOME, 1, (people["agent"], 0, 300, 100, DAY_SLOT // 96 + 30))
    city = City(deployment, people, world, owned_before=0)
    city.owned_before = naming(city.storage(), deployer.address)
    hand_over(deployment)
    # Offices that one person has at first are apart here, so that no contract takes one for
    # another.
    with city.by_vote():
        contracts["Membership"].set_registrar(people["membership registrar"])
        market.set_guardian(people["market guardian"])
        contracts["ReadingLedger"].set_collector(OTHER_ZONE, people["other collector"])
    world.at(DAY_SLOT, -4 * HOUR)
    return city


@pytest.fixture(scope="module")
def built() -> City:
    return new_city()


@pytest.fixture
def city(built: City) -> Iterator[City]:
    """The city for one test, which leaves no trace on it."""
    boa.env.evm.patch.chain_id = LOCAL_CHAIN
    built.market_world.at(DAY_SLOT, -4 * HOUR)
    with boa.env.anchor():
        yield built
    built.market_world.at(DAY_SLOT, -4 * HOUR)
    built.market_world.book.clear()
    built.market_world.pending.clear()


# ---------------------------------------------------------------- the cases


Lead = Callable[[City], bytes | tuple[Any, ...]]


@dataclass(frozen=True)
class Case:
    """A call that succeeds for whoever may make it, and for nobody else."""

    contract: str
    name: str
    """Of the function, with its types where it is one of several."""
    lead: Lead
    """Leads to a state in which the call succeeds; returns the call, or its arguments."""
    refusals: tuple[str, ...]
    """What others are told."""
    holders: Mapping[str, tuple[str, ...]]
    """Who holds a role of the matrix here, where it is not whom `HOLDERS` names."""

    @property
    def function(self) -> str:
        return self.name.partition("(")[0]

    @property
    def signature(self) -> str:
        """As `name(type,type)`."""
        (found,) = (
            signature
            for signature in changing(self.contract)
            if self.name in (signature, signature.partition("(")[0])
        )
        return found

    def rightful(self) -> list[str]:
        """The actors whose call succeeds."""
        return [
            actor
            for role in roles_of(self.contract, self.function)
            for actor in self.holders.get(role) or HOLDERS[role]
        ]

    def call(self, city: City) -> bytes:
        """Lead to the state; returns the call."""
        found = self.lead(city)
        if not isinstance(found, bytes):
            found = city.call(self.contract, self.function, *found)
        assert found[:4] == keccak(self.signature.encode())[:4]
        return found


HOLDERS: Mapping[str, tuple[str, ...]] = {
    TIMELOCK: ("GridTimelock",),
    GOVERNOR: ("GridGovernor",),
    COLLECTOR: ("collector",),
    FORECASTER: ("forecaster",),
    MEMBER: ("proposer", "member", "neighbour", "far member"),
    PROPOSER: ("proposer",),
    ACCOUNT_OWNER: ("account owner",),
    AUCTION: ("UniformPriceAuction",),
    ADJUSTMENTS: ("DeliveryAdjustments",),
    NOBODY: (),
}
# Of the members only one has put up a bond.
WITH_BOND = {MEMBER: ("proposer",)}
# Votes stay in a zone, and the third neighbour has its own already.
NEIGHBOURS = {MEMBER: ("proposer", "member")}
CASES: list[Case] = []


def case(
    name: str,
    lead: Lead,
    *refusals: str,
    holders: Mapping[str, tuple[str, ...]] | None = None,
) -> None:
    """Adds a case; its name is `Contract.function`."""
    contract, _, function = name.partition(".")
    CASES.append(Case(contract, function, lead, refusals, holders or {}))


# Ownership and appointments

for _name in OWNED:
    case(f"{_name}.transfer_ownership", lambda city: (city.actors["stranger"],), NOT_OWNER)

for _name in (
    "GridGovernor.setGuardian",
    "EnergyMarket.set_guardian",
    "EnergyMarket.set_treasury",
    "Membership.set_registrar",
    "MeterRegistry.set_registrar",
    "ForecastRegistry.set_governor",
    "StandingPolicies.set_governor",
):
    case(_name, lambda city: (city.actors["stranger"],), NOT_OWNER)


# Any other contract will do; the governor itself goes on executing this one proposal.
case("Treasury.set_governor", lambda city: (city.actors["EnergyMarket"],), NOT_OWNER)
case("ReadingLedger.set_collector", lambda city: (ZONE, city.actors["stranger"]), NOT_OWNER)
case("ForecastRegistry.set_forecaster", lambda city: (city.actors["stranger"], True), NOT_OWNER)
case("ForecastRegistry.set_minimum_bond", lambda city: (EURO,), NOT_OWNER)
case(
    "EnergyMarket.set_auction",
    lambda city: (city.actors["stranger"], city.actors["agent"]),
    NOT_OWNER,
    "market: auction is set",
)
case("TestEuro.mint", lambda city: (city.actors["stranger"], EURO), "erc20: access is denied")


# The timelock

case("GridTimelock.grantRole", lambda city: (PROPOSER_ROLE, city.actors["stranger"]), NO_ROLE)
case("GridTimelock.revokeRole", lambda city: (PROPOSER_ROLE, city.actors["GridGovernor"]), NO_ROLE)
case(
    "GridTimelock.renounceRole",
    lambda city: (ZERO_HASH, city.actors["GridTimelock"]),
    "access_control: can only renounce roles for itself",
)
case("GridTimelock.updateDelay", lambda city: (HOUR,), "timelock: caller is not the timelock")


def batch(city: City) -> tuple[Any, ...]:
    data = city.call("GridParameters", "set_value", 5, 10)
    return [city.actors["GridParameters"]], [0], [data], ZERO_HASH, ZERO_HASH


def scheduled(city: City) -> tuple[Any, ...]:
    with city.act("GridGovernor"):
        city["GridTimelock"].scheduleBatch(*batch(city), HOUR)
    return batch(city)


case("GridTimelock.scheduleBatch", lambda city: (*batch(city), HOUR), NO_ROLE)


def due(city: City) -> tuple[Any, ...]:
    found = scheduled(city)
    boa.env.timestamp += HOUR
    return found


case("GridTimelock.executeBatch", due, NO_ROLE)
case(
    "GridTimelock.cancel",
    lambda city: (city["GridTimelock"].hashOperationBatch(*scheduled(city)),),
    NO_ROLE,
)


# The governor

case("GridGovernor.setLane", lambda city: (0, 2 * HOUR, 2 * DAY, 2 * DAY, 2 * DAY), NOT_OWNER)


def window(city: City) -> bytes:
    return city.call("GridParameters", "open_window", ZONE, BATTERY, NEXT_WEEK, 4, -20_000)


NO_MEMBER = "governor: proposer is not a member"
NO_BOND = "governor: proposer has no free bond"
NO_FORECASTER = "forecast: proposer is not a forecaster"


case(
    "GridGovernor.propose",
    lambda city: city.draft("GridParameters", window(city)),
    NO_MEMBER,
    NO_BOND,
    holders=WITH_BOND,
)
case(
    "GridGovernor.proposeBalancing",
    lambda city: city.draft("GridParameters", window(city)),
    NO_FORECASTER,
    NO_BOND,
    holders=WITH_BOND,
)


POLICY = (ZONE, BATTERY, -30_000, 30_000, 96, 10**9, 3)


def adopted(city: City) -> int:
    with city.by_vote():
        return int(city["StandingPolicies"].adopt(*POLICY, TOMORROW * 900 + 30 * DAY))


case(
    "GridGovernor.proposeUnderPolicy",
    lambda city: (adopted(city), *city.draft("GridParameters", window(city))),
    NO_FORECASTER,
    NO_BOND,
    holders=WITH_BOND,
)


def voting(city: City) -> int:
    proposal, _ = city.propose(window(city), "GridParameters")
    city.open_vote(proposal)
    return proposal


NO_VOTES = "governor: no votes at the snapshot"


case("GridGovernor.castVote", lambda city: (voting(city), FOR), NO_VOTES)
case("GridGovernor.castVoteWithReason", lambda city: (voting(city), FOR, "why"), NO_VOTES)
case(
    "GridGovernor.cancel",
    lambda city: city.propose(window(city), "GridParameters", "proposeBalancing")[1],
    "governor: caller may not cancel",
    holders={GUARDIAN: ("proposal guardian",)},
)
case(
    "GridGovernor.withdrawBond",
    lambda city: (EURO,),
    "governor: more than the free bond",
    holders={BOND_OWNER: ("proposer",)},
)


# Rules and policies


def rule(key: int) -> tuple[Any, ...]:
    return key, "a rule", 5, 1, 10, 2, DAY


case("GridParameters.define", lambda city: rule(900), NOT_OWNER)
case("GridParameters.define_batch", lambda city: ([rule(900), rule(901)],), NOT_OWNER)
case("GridParameters.set_value", lambda city: (5, 10), NOT_OWNER)
case("GridParameters.open_window", window, NOT_OWNER)
case(
    "GridParameters.open_windows",
    lambda city: (ZONE, BATTERY, [20_000 << 128 | 4 << 64 | NEXT_WEEK]),
    NOT_OWNER,
)
case("StandingPolicies.adopt", lambda city: (*POLICY, TOMORROW * 900 + 30 * DAY), NOT_OWNER)
case("StandingPolicies.end", lambda city: (adopted(city),), NOT_OWNER)


def used(city: City) -> tuple[Any, ...]:
    calls = city.draft("GridParameters", window(city))[:3]
    return (adopted(city), city.actors["proposer"], *calls)


case("StandingPolicies.use", used, "policies: caller is not the governor")


# Members

THE_REGISTRAR = {REGISTRAR: ("membership registrar",)}
NO_REGISTRAR = "membership: caller is not the registrar"


case(
    "Membership.announce_admissions",
    lambda city: ([city.actors["account owner"]], [NEW_HOME]),
    NO_REGISTRAR,
    holders=THE_REGISTRAR,
)
case(
    "Membership.announce_removals",
    lambda city: ([city.actors["neighbour"]],),
    NO_REGISTRAR,
    holders=THE_REGISTRAR,
)


def withdrawn_announcement(city: City) -> tuple[Any, ...]:
    with city.act("membership registrar"):
        city["Membership"].announce_removals([city.actors["neighbour"]])
    return ([3],)


case(
    "Membership.cancel_announcements",
    withdrawn_announcement,
    "membership: caller is neither registrar nor owner",
    holders=THE_REGISTRAR,
)
case(
    "Membership.delegate",
    lambda city: (city.actors["neighbour"],),
    "membership: delegator is not a member",
    "membership: delegate lives in another zone",
    "membership: already delegated so",
    holders=NEIGHBOURS,
)


# Forecasts


def commitment(city: City) -> tuple[Any, ...]:
    forecaster = city.actors["forecaster"]
    return ZONE, TOMORROW, commitment_of(pack(FORECAST), TOMORROW, forecaster)


def committed(city: City) -> None:
    with city.act("forecaster"):
        city["ForecastRegistry"].commit(*commitment(city))


def disputed(city: City) -> int:
    committed(city)
    boa.env.timestamp = (TOMORROW + 96) * 900
    with city.act("member"):
        return int(
            city["ForecastRegistry"].open_dispute(city.actors["forecaster"], ZONE, TOMORROW, "harm")
        )


NOT_FORECASTER = "forecast: caller is not a forecaster"
ITS_BOND = {BOND_OWNER: ("forecaster",)}


case("ForecastRegistry.deposit_bond", lambda city: (EURO,), NOT_FORECASTER)
case(
    "ForecastRegistry.announce_withdrawal",
    lambda city: (EURO,),
    "forecast: more than the bond",
    holders=ITS_BOND,
)


def leaving(city: City) -> tuple[Any, ...]:
    with city.act("forecaster"):
        city["ForecastRegistry"].announce_withdrawal(EURO)
    boa.env.timestamp += 30 * DAY
    return ()


case("ForecastRegistry.withdraw_bond", leaving, "forecast: nothing announced", holders=ITS_BOND)
case("ForecastRegistry.commit", commitment, NOT_FORECASTER)


def revealing(city: City) -> tuple[Any, ...]:
    committed(city)
    boa.env.timestamp = TOMORROW * 900
    return ZONE, TOMORROW, pack(FORECAST), EVIDENCE, SALT


case("ForecastRegistry.reveal", revealing, "forecast: nothing to reveal")
case(
    "ForecastRegistry.use_allowance",
    lambda city: (city.actors["forecaster"], ZONE),
    "forecast: caller is not the governor",
)


def disputing(city: City) -> tuple[Any, ...]:
    committed(city)
    boa.env.timestamp = (TOMORROW + 96) * 900
    return city.actors["forecaster"], ZONE, TOMORROW, "harm"


case("ForecastRegistry.open_dispute", disputing, "forecast: caller is not a member")
case(
    "ForecastRegistry.decide_dispute",
    lambda city: (disputed(city), city.actors["forecaster"], EURO, "its forecast was wrong"),
    NOT_OWNER,
)


# Money that the members share


def budget(city: City) -> None:
    now = int(boa.env.timestamp)
    with city.by_vote():
        city["Treasury"].set_budget(1, "Solar roofs", 500 * EURO, 30 * DAY, now, now + 360 * DAY)


def payment(city: City) -> tuple[Any, ...]:
    budget(city)
    return 1, city.actors["stranger"], EURO


def granted(city: City) -> tuple[Any, ...]:
    """What `grant` takes; one milestone that a vote releases."""
    milestone = (EURO, 0, 0, 0, int(boa.env.timestamp) + 90 * DAY)
    purpose, payee, _ = payment(city)
    return purpose, payee, [milestone], "a roof"


def monthly(city: City) -> tuple[Any, ...]:
    return (*payment(city), 30 * DAY, 3, int(boa.env.timestamp) + 30 * DAY, "a lease")


def next_edition(city: City) -> tuple[Any, ...]:
    start = int(boa.env.timestamp) + 30 * DAY
    return 1, "Solar roofs", EURO, 30 * DAY, start, start + 90 * DAY


case("Treasury.set_budget", next_edition, NOT_OWNER)
case("Treasury.pay", lambda city: (*payment(city), "a bench"), NOT_OWNER)
case("Treasury.grant", granted, NOT_OWNER)


def released(city: City) -> tuple[Any, ...]:
    city.decide("Treasury", city.call("Treasury", "grant", *granted(city)))
    return 1, 0


case("Treasury.release", released, NOT_OWNER)


def cancelled_grant(city: City) -> tuple[Any, ...]:
    city.decide("Treasury", city.call("Treasury", "grant", *granted(city)))
    return (1,)


case("Treasury.cancel_grant", cancelled_grant, NOT_OWNER)
case("Treasury.recurring", monthly, NOT_OWNER)


def ended(city: City) -> tuple[Any, ...]:
    city.decide("Treasury", city.call("Treasury", "recurring", *monthly(city)))
    return (1,)


case("Treasury.end_recurring", ended, NOT_OWNER)


# Meters and readings

METERS_REGISTRAR = {REGISTRAR: ("meter registrar",)}
NOT_REGISTRAR = "registry: caller is not the registrar"


case(
    "MeterRegistry.register_batch",
    lambda city: ([city.actors["stranger"]], [city.actors["stranger"]], ZONE),
    NOT_REGISTRAR,
    holders=METERS_REGISTRAR,
)
case(
    "MeterRegistry.rotate_key(uint256,address)",
    lambda city: (1, city.actors["stranger"]),
    NOT_REGISTRAR,
    holders=METERS_REGISTRAR,
)
case(
    "MeterRegistry.rotate_key(uint256,address,uint256)",
    lambda city: (1, city.actors["stranger"], int(boa.env.timestamp) + HOUR),
    NOT_REGISTRAR,
    holders=METERS_REGISTRAR,
)
case("MeterRegistry.suspend_key", lambda city: (1,), NOT_REGISTRAR, holders=METERS_REGISTRAR)


TOTALS = pack_totals([0] * 4, [0] * 4)
NOT_COLLECTOR = "ledger: caller is not the zone's collector"


case(
    "ReadingLedger.commit",
    lambda city: (ZONE, DAY_SLOT - 96, 4, EVIDENCE, 15, 60, TOTALS),
    NOT_COLLECTOR,
)


def correcting(city: City) -> tuple[Any, ...]:
    first = DAY_SLOT - 96
    with city.act("collector"):
        city["ReadingLedger"].commit(ZONE, first, 4, EVIDENCE, 15, 60, TOTALS)
    opens, _ = city["ReadingLedger"].correction_window(ZONE, first)
    boa.env.timestamp = opens
    return ZONE, first, SALT, 15, 60, TOTALS


case("ReadingLedger.correct", correcting, NOT_COLLECTOR)


def publishing(city: City) -> tuple[Any, ...]:
    first = DAY_SLOT - 96
    with city.act("collector"):
        city["ReadingLedger"].commit(ZONE, first, 4, EVIDENCE, 15, 60, TOTALS)
    return ZONE, first, 4, SALT, bytes(32)


case("DossierAnchor.publish", publishing, "anchor: caller is not the zone's collector")


# The market

NOT_ACCOUNT_OWNER = "market: caller is not the owner"


case(
    "EnergyMarket.withdraw",
    lambda city: (NEW_HOME, EURO, city.actors["stranger"]),
    NOT_ACCOUNT_OWNER,
)
case("EnergyMarket.revoke", lambda city: (NEW_HOME, 0), NOT_ACCOUNT_OWNER)
case(
    "EnergyMarket.grant_mandate",
    lambda city: (NEW_HOME, 2, (city.actors["agent"], 0, 300, 100, DAY_SLOT // 96 + 30)),
    NOT_ACCOUNT_OWNER,
)
case("EnergyMarket.end_mandate", lambda city: (NEW_HOME, 1), NOT_ACCOUNT_OWNER)
case(
    "EnergyMarket.pause",
    lambda city: ([],),
    "market: caller is not the guardian",
    holders={GUARDIAN: ("market guardian",)},
)


NOT_AUCTION = "market: caller is not the auction"


def clearing(city: City) -> bytes:
    world = city.market_world
    assert world.post([world.order(1, ASK, 100, 1_000), world.order(2, BID, 400, 1_000)]) == [0, 0]
    world.at(GATE)
    return city.inner_call(
        "UniformPriceAuction", lambda: world.clear([195, None, None, None]), "EnergyMarket"
    )


case("EnergyMarket.record_clearing", clearing, NOT_AUCTION)


def settling(city: City) -> bytes:
    world = city.market_world
    traded(world, 1_000)
    delivered(world)
    return city.inner_call(
        "UniformPriceAuction", lambda: world.settle({1: (1_000, 0, 0, 0)}), "EnergyMarket"
    )


case("EnergyMarket.record_settlement", settling, NOT_AUCTION)


def adjusting(city: City) -> bytes:
    world = city.market_world
    traded(world, 1_000)
    delivered(world)
    world.settle({1: (1_000, 0, 0, 0)})
    kept = (850, 0, 0, 0)
    digest = correction_digest(world.separator, 1, DAY_SLOT, kept)
    correction = DeviceReceipt(1, kept, sign_digest(world.device_key(1), digest))
    book = world.posted()

    def adjust() -> None:
        world.adjustments.adjust(
            ZONE,
            DAY_SLOT,
            DAY_SLOT,
            1,
            world.receipt(1, (1_000, 0, 0, 0)).as_tuple(),
            correction.as_tuple(),
            book.page_words,
            book.rows,
        )

    return city.inner_call("DeliveryAdjustments", adjust, "EnergyMarket")


case("EnergyMarket.record_adjustment", adjusting, "market: caller is not the adjuster")


# ---------------------------------------------------------------- the matrix and the ABIs


@cache
def changing(contract: str) -> frozenset[str]:
    """The functions of a contract that can change something, as `name(type,type)`."""
    found = set()
    for entry in build_abi_output(compiled(contract).compiler_data):
        if entry["type"] in ("fallback", "receive"):
            found.add("__default__()")
        elif entry["type"] == "function" and entry["stateMutability"] not in ("view", "pure"):
            found.add(f"{entry['name']}({','.join(map(type_of, entry['inputs']))})")
    return frozenset(found)


def type_of(part: Mapping[str, Any]) -> str:
    """The canonical type of an argument."""
    if not part["type"].startswith("tuple"):
        return str(part["type"])
    return f"({','.join(map(type_of, part['components']))}){part['type'].removeprefix('tuple')}"


def names(contract: str) -> set[str]:
    return {signature.partition("(")[0] for signature in changing(contract)}


ALL = sorted(path.stem for path in CONTRACTS.glob("*.vy"))
EVERY_CASE = [pytest.param(found, id=f"{found.contract}.{found.name}") for found in CASES]


def test_the_matrix_knows_every_contract_and_no_other() -> None:
    assert sorted(MATRIX) == ALL


def test_a_deployment_has_every_contract(built: City) -> None:
    assert sorted(built.deployment.contracts) == ALL


@pytest.mark.parametrize("contract", ALL)
def test_the_matrix_knows_every_function_that_changes_something_and_no_other(
    contract: str,
) -> None:
    assert set().union(*MATRIX[contract].values()) == names(contract)


@pytest.mark.parametrize("contract", ALL)
def test_what_is_open_to_anyone_has_no_other_role(contract: str) -> None:
    roles = {f: roles_of(contract, f) for f in names(contract) if is_open(contract, f)}
    assert roles == dict.fromkeys(roles, (ANYONE,))


def test_every_function_that_is_not_open_to_anyone_has_a_case() -> None:
    restricted = {
        (contract, signature)
        for contract in ALL
        for signature in changing(contract)
        if not is_open(contract, signature.partition("(")[0])
    }
    assert sorted((case.contract, case.signature) for case in CASES) == sorted(restricted)


def test_the_table_in_the_documentation_is_the_matrix() -> None:
    told = from_table(DOCUMENT.read_text())
    assert told == MATRIX, (
        f"{DOCUMENT.name} needs the table that `python -m tests.contracts.role_matrix` prints"
    )


def test_the_table_holds_the_whole_matrix() -> None:
    assert from_table(f"before\n\n{as_table()}\nafter\n") == MATRIX


def test_the_roles_of_the_table_are_those_of_the_matrix() -> None:
    assert {role for roles in MATRIX.values() for role in roles} == set(ROLES)


# ---------------------------------------------------------------- the walk


@pytest.mark.parametrize("case", EVERY_CASE)
def test_everybody_else_is_turned_away_and_changes_nothing(city: City, case: Case) -> None:
    data = case.call(city)
    others = [who for who in city.actors if who not in case.rightful()]
    before = city.storage()
    answers = {who: city.attempt(who, case.contract, data) for who in others}
    assert {who: answer for who, answer in answers.items() if answer not in case.refusals} == {}
    assert set(answers.values()) == set(case.refusals)
    assert {
        place: word for place, word in city.storage().items() if before.get(place) != word
    } == {}


@pytest.mark.parametrize("case", EVERY_CASE)
def test_who_is_entitled_may_call_and_changes_something(city: City, case: Case) -> None:
    data = case.call(city)
    for who in case.rightful():
        with boa.env.anchor():
            start = boa.env.timestamp
            before = city.storage()
            if who == "GridTimelock":
                city.decide(case.contract, data)
            else:
                assert city.attempt(who, case.contract, data) is None, who
            assert city.storage() != before
        boa.env.timestamp = start


# ---------------------------------------------------------------- the deployer


def test_the_deployer_owned_every_contract_before_the_hand_over(built: City) -> None:
    assert built.owned_before == len(OWNED)


def test_after_the_hand_over_the_deployer_holds_no_office(built: City) -> None:
    assert not any(privileges(built.deployment, built.people["deployer"]).values())


def test_after_the_hand_over_no_contract_remembers_the_deployer(built: City) -> None:
    assert naming(built.storage(), built.people["deployer"]) == 0
    address = bytes.fromhex(built.people["deployer"][2:])
    codes = {name: boa.env.get_code(c.address) for name, c in built.deployment.contracts.items()}
    assert [name for name, code in codes.items() if address in code] == []


def test_after_the_hand_over_the_timelock_owns_every_contract(built: City) -> None:
    owners = {name: built[name].owner() for name in OWNED}
    assert owners == dict.fromkeys(OWNED, built["GridTimelock"].address)


@pytest.mark.parametrize("role", ["PROPOSER_ROLE", "CANCELLER_ROLE", "EXECUTOR_ROLE"])
def test_only_the_governor_has_a_role_of_the_timelock(built: City, role: str) -> None:
    holds = built["GridTimelock"].hasRole
    holders = [n for n, address in built.actors.items() if holds(keccak(role.encode()), address)]
    assert holders == ["GridGovernor"]


def test_only_the_timelock_administers_its_roles(built: City) -> None:
    holds = built["GridTimelock"].hasRole
    assert [n for n, a in built.actors.items() if holds(ZERO_HASH, a)] == ["GridTimelock"]
