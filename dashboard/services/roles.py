# SPDX-License-Identifier: Apache-2.0
"""Who holds which role now, from the chain's events, and what each role may do, in plain words.

Pure. The words stand for functions of the contracts; a test holds them against the role matrix
that the contracts themselves are tested with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from dao.audit.scope import EventRow
from dao.eip712 import keccak
from dashboard.i18n import N_
from dashboard.repositories.house import OWNED, House
from dashboard.services.decided import Decisions

_NOBODY = "0x" + "00" * 20


class Role(StrEnum):
    """The roles, in the order in which they are shown."""

    VOTE = "vote"
    MEMBER = "member"
    REGISTRAR = "registrar"
    COLLECTOR = "collector"
    FORECASTER = "forecaster"
    GUARDIAN = "guardian"
    ANYONE = "anyone"


@dataclass(frozen=True)
class Words:
    """A role in plain words; English, for `_`."""

    title: str
    may: str
    may_not: str
    ends: str


WORDS: Mapping[Role, Words] = {
    Role.VOTE: Words(
        N_("A vote of the members"),
        N_(
            "Everything that a proposal says, once its vote has passed and its waiting time is "
            "over: change rules, spend, fill and end offices."
        ),
        N_("Act without a vote, sooner than its waiting time, or beyond a rule’s bounds."),
        N_("It is not taken away: no other account owns any contract."),
    ),
    Role.MEMBER: Words(
        N_("Members"),
        N_(
            "Propose, vote, lend the own vote to a member of the same zone, object to an action, "
            "dispute a forecast."
        ),
        N_("Have more than one vote of one’s own, sell it, or give it away for good."),
        N_(
            "The registrar announces a removal. It waits long enough for the members to stop it by "
            "a vote."
        ),
    ),
    Role.REGISTRAR: Words(
        N_("Registrar"),
        N_(
            "Register metering points, replace or suspend their keys, announce who joins and who "
            "leaves."
        ),
        N_("Make anybody a member at once, vote, spend, or change a rule."),
        N_("A vote names another one."),
    ),
    Role.COLLECTOR: Words(
        N_("Collector"),
        N_(
            "Publish the sums of its zone’s readings, correct a batch once, publish the zone’s "
            "dossiers."
        ),
        N_("Forecast its own zone, or change readings that are final."),
        N_("A vote names another one for the zone."),
    ),
    Role.FORECASTER: Words(
        N_("Forecasters"),
        N_(
            "Put up a bond and publish forecasts. In good standing: propose a schedule for battery "
            "and charging, or act under a standing policy."
        ),
        N_("Vote, change a forecast after its deadline, or take its bond back at once."),
        N_(
            "A vote bars it. Bad forecasts cost it its bond and its standing without anybody’s "
            "doing."
        ),
    ),
    Role.GUARDIAN: Words(
        N_("Guardian"),
        N_(
            "Stop a schedule for battery and charging before it takes effect, and pause new orders "
            "once, for three days."
        ),
        N_("Stop any other vote, its own dismissal among them; spend, or change a rule."),
        N_("A vote names another one. After a pause there is none at the market until a vote."),
    ),
    Role.ANYONE: Words(
        N_("Keeper, relay and everybody else"),
        N_(
            "Carry to the chain what others have signed, and carry out what is due: prices, "
            "payments, votes that have passed. The keeper and the relay have no role; they do what "
            "anyone may."
        ),
        N_("Sign for somebody, change what was signed, or act where nothing is due."),
        N_("There is nothing to take away. Where they fail, anybody else can do the same."),
    ),
}


@dataclass(frozen=True)
class Power:
    """Something that changes things: who may do it, and the functions it stands for.

    besides: who else may, where that is no role; English, for `_`.
    """

    title: str
    who: frozenset[Role]
    functions: tuple[tuple[str, str], ...]
    besides: str = ""


def _power(title: str, who: str, functions: str, besides: str = "") -> Power:
    pairs = [one.partition(".") for one in functions.split()]
    return Power(
        title,
        frozenset(Role(one) for one in who.split()),
        tuple((contract, name) for contract, _dot, name in pairs),
        besides,
    )


POWERS: tuple[Power, ...] = (
    _power(N_("Change a rule"), "vote", "GridParameters.set_value GridParameters.define"),
    _power(
        N_("Spend from the treasury"),
        "vote",
        "Treasury.set_budget Treasury.pay Treasury.grant Treasury.recurring Treasury.release",
    ),
    _power(
        N_("Fill or end an office"),
        "vote",
        "MeterRegistry.set_registrar Membership.set_registrar ReadingLedger.set_collector "
        "ForecastRegistry.set_forecaster GridGovernor.setGuardian EnergyMarket.set_guardian",
    ),
    _power(
        N_("Put a schedule for battery and charging into force"),
        "vote",
        "GridParameters.open_window GridParameters.open_windows",
    ),
    _power(N_("Propose anything"), "member", "GridGovernor.propose"),
    _power(
        N_("Propose a schedule for battery and charging"),
        "member forecaster",
        "GridGovernor.proposeBalancing GridGovernor.proposeUnderPolicy",
    ),
    _power(
        N_("Vote, and lend a vote"),
        "member",
        "GridGovernor.castVote GridGovernor.castVoteWithReason Membership.delegate",
    ),
    _power(
        N_("Stop a schedule before it takes effect"),
        "guardian",
        "GridGovernor.cancel",
        N_("and who proposed it"),
    ),
    _power(N_("Pause new orders"), "guardian", "EnergyMarket.pause"),
    _power(
        N_("Register metering points and their keys"),
        "registrar",
        "MeterRegistry.register_batch MeterRegistry.rotate_key MeterRegistry.suspend_key",
    ),
    _power(
        N_("Announce who joins and who leaves"),
        "registrar",
        "Membership.announce_admissions Membership.announce_removals",
    ),
    _power(N_("Take an announcement back"), "vote registrar", "Membership.cancel_announcements"),
    _power(
        N_("Publish the sums of a zone’s readings"),
        "collector",
        "ReadingLedger.commit ReadingLedger.correct DossierAnchor.publish",
    ),
    _power(
        N_("Publish forecasts"), "forecaster", "ForecastRegistry.commit ForecastRegistry.reveal"
    ),
    _power(N_("Dispute a forecast"), "member", "ForecastRegistry.open_dispute"),
    _power(
        N_("Move a resident’s money, or trade in their name"),
        "",
        "EnergyMarket.withdraw EnergyMarket.grant_mandate EnergyMarket.revoke",
        N_("only who owns the account"),
    ),
    _power(
        N_("Carry what others have signed"),
        "anyone",
        "EnergyMarket.post EnergyMarket.withdraw_signed EnergyMarket.revoke_signed "
        "GridGovernor.castBallots Membership.delegateBySig",
    ),
    _power(
        N_("Carry out what is due"),
        "anyone",
        "UniformPriceAuction.clear UniformPriceAuction.settle GridGovernor.queue "
        "GridGovernor.execute Treasury.pay_due Membership.complete",
    ),
)


@dataclass(frozen=True)
class Holder:
    """Who holds an office since when. address: None where it is vacant. places: the contracts that
    say so; zone: of a collector."""

    address: str | None
    since: int
    tx: str
    proposal: int | None
    places: tuple[str, ...]
    zone: int | None = None


@dataclass(frozen=True)
class ForecasterState:
    """A forecaster: whether a vote lets it commit, and its bond by the events, µ€."""

    address: str
    allowed: bool
    since: int
    tx: str
    proposal: int | None
    bond: int


@dataclass(frozen=True)
class Roster:
    """Who holds what.

    members: how many, all zones; strangers: what is not in the hands of a vote, as pairs of
    contract and who holds it. owned: contracts that belong to the timelock.
    """

    members: int
    registrars: tuple[Holder, ...]
    collectors: tuple[Holder, ...]
    guardians: tuple[Holder, ...]
    forecasters: tuple[ForecasterState, ...]
    minimum_bond: int | None
    paused_until: int
    owned: int
    strangers: tuple[tuple[str, str], ...]


def roster(house: House, decisions: Decisions, deployment: Mapping[str, str]) -> Roster:
    """Who holds what by the events. deployment: the contracts' addresses."""
    joined = len(house.of("Membership", "MemberAdmitted"))
    left = len(house.of("Membership", "MemberRemoved"))
    pauses = house.of("EnergyMarket", "Paused")
    bonds = house.of("ForecastRegistry", "MinimumBondChanged")
    owned, strangers = _owners(house, deployment)
    return Roster(
        members=joined - left,
        registrars=_office(
            house, decisions, "RegistrarChanged", "registrar", "MeterRegistry", "Membership"
        ),
        collectors=_collectors(house, decisions),
        guardians=_office(
            house, decisions, "GuardianChanged", "guardian", "GridGovernor", "EnergyMarket"
        ),
        forecasters=_forecasters(house, decisions),
        minimum_bond=bonds[-1].args["current"] if bonds else None,
        paused_until=pauses[-1].args["until"] if pauses else 0,
        owned=owned,
        strangers=(*strangers, *_schedulers(house, deployment)),
    )


def _holder(
    decisions: Decisions, row: EventRow, who: str, places: tuple[str, ...], zone: int | None = None
) -> Holder:
    address = None if who == _NOBODY else who
    return Holder(address, row.timestamp, row.tx, decisions.behind(row), places, zone)


def _office(
    house: House, decisions: Decisions, event: str, key: str, *contracts: str
) -> tuple[Holder, ...]:
    """An office that several contracts keep: one holder where they agree."""
    held: dict[str, list[EventRow]] = {}
    for contract in contracts:
        for row in house.of(contract, event)[-1:]:
            held.setdefault(row.args[key], []).append(row)
    return tuple(
        _holder(decisions, rows[-1], who, tuple(row.contract for row in rows))
        for who, rows in held.items()
    )


def _collectors(house: House, decisions: Decisions) -> tuple[Holder, ...]:
    last = {row.args["zone"]: row for row in house.of("ReadingLedger", "CollectorChanged")}
    return tuple(
        _holder(decisions, row, row.args["collector"], (row.contract,), zone)
        for zone, row in sorted(last.items())
    )


def _forecasters(house: House, decisions: Decisions) -> tuple[ForecasterState, ...]:
    registry = "ForecastRegistry"
    bonds: Counter[str] = Counter()
    for name, sign in (
        ("BondDeposited", 1),
        ("BondRewarded", 1),
        ("BondSlashed", -1),
        ("BondWithdrawn", -1),
    ):
        for row in house.of(registry, name):
            bonds[row.args["forecaster"]] += sign * row.args["amount"]
    last = {row.args["forecaster"]: row for row in house.of(registry, "ForecasterChanged")}
    found = [
        ForecasterState(
            who,
            row.args["allowed"],
            row.timestamp,
            row.tx,
            decisions.behind(row),
            bonds[who],
        )
        for who, row in last.items()
    ]
    return tuple(sorted(found, key=lambda one: (not one.allowed, one.since, one.address)))


def _owners(house: House, deployment: Mapping[str, str]) -> tuple[int, list[tuple[str, str]]]:
    """How many contracts belong to the timelock, and which belong to somebody else."""
    timelock = deployment.get("GridTimelock", "").lower()
    owned, strangers = 0, []
    for contract in OWNED:
        for row in house.of(contract, "OwnershipTransferred")[-1:]:
            owner = row.args["new_owner"]
            if owner.lower() == timelock:
                owned += 1
            else:
                strangers.append((contract, owner))
    return owned, strangers


def _schedulers(house: House, deployment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Who but the governor and the timelock itself holds a role of the timelock."""
    names = {"0x" + keccak(name).hex() for name in (b"PROPOSER_ROLE", b"EXECUTOR_ROLE")}
    names |= {"0x" + keccak(b"CANCELLER_ROLE").hex(), "0x" + "00" * 32}
    changes = [
        *house.of("GridTimelock", "RoleGranted"),
        *house.of("GridTimelock", "RoleRevoked"),
    ]
    holding: dict[tuple[str, str], bool] = {}
    for row in sorted(changes, key=lambda one: (one.block, one.log_index)):
        role = row.args["role"]
        if role in names:
            holding[role, row.args["account"]] = row.event == "RoleGranted"
    own = {deployment.get(name, "").lower() for name in ("GridGovernor", "GridTimelock")}
    return [
        ("GridTimelock", account)
        for (_role, account), held in holding.items()
        if held and account.lower() not in own
    ]
