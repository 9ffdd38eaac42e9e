# SPDX-License-Identifier: Apache-2.0
"""Random lives of the whole DAO on the real contracts, step by step beside the plain model.

Dice say what people do, right or wrong; the model (governance_model) says what must come of it:
the new state, or the reason of the revert. After every step the laws are checked. To add a step:
throw the dice for its arguments, ask the model first through `attempt`, never catch a revert
yourself, and give it a weight in `STEPS`. A decree is what a passed vote would do, done in the
timelock's name, so that rules change in the middle of many votes; the votes of the ordinary lane
decide the same things.
A life that fails names its seed: `GRIDCOMMONS_STATEFUL_SEED` lives it alone once more.
`GRIDCOMMONS_STATEFUL_LIVES` sets the number of lives.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

import boa
import pytest
from eth_account import Account as Signer
from eth_account.messages import encode_typed_data
from eth_utils import keccak

from tests.contracts import governance_model as model
from tests.contracts.governance_fixtures import LOCAL_CHAIN, START, STATES, ZERO, ZERO_HASH, deploy
from tests.contracts.governance_model import (
    ACTIVE,
    BALANCING,
    DAY,
    EURO,
    HOUR,
    ORDINARY,
    POLICY,
    QUEUED,
    SUCCEEDED,
    Ballot,
    Call,
    Dao,
    Proposal,
    Refused,
)
from tests.contracts.wallets import SIGNER_WALLET

SEED = os.environ.get("GRIDCOMMONS_STATEFUL_SEED")
LIVES = os.environ.get("GRIDCOMMONS_STATEFUL_LIVES")
# The last home is a contract. Each owns a metering point in both zones, but votes for one.
HOMES = ("ada", "ben", "cleo", "dan", "eve", "finn", "gus", "wallet")
AT_FIRST = {"ada": 1, "ben": 1, "cleo": 1, "dan": 1, "wallet": 1, "eve": 2, "finn": 2}
FORECASTERS = ("fay", "ada")
PEOPLE = (*HOMES, "fay", "gil", "olga")
PURSE, BOND = 10_000 * EURO, 60 * EURO
FORECAST_BOND = 100 * EURO
LANES = {ORDINARY: (HOUR, DAY, 2 * DAY, DAY), BALANCING: (1, 3 * HOUR, 12 * HOUR, 900)}
MIN_DELAY = 900
# Key: value at first, minimum, maximum, largest step, cooldown.
RULES = {
    5: (0, 0, 100, 50, HOUR),
    6: (400, 150, 1_000, 100, HOUR),
    7: (50, 0, 100, 20, HOUR),
    14: (50, 0, 1_000, 100, HOUR),
    15: (2_500, 500, 6_000, 2_000, HOUR),
    17: (50_000, 0, 200_000, 50_000, HOUR),
    20: (2_000, 100, 5_000, 2_000, HOUR),
    21: (3_000, 2_500, 6_667, 1_500, HOUR),
    22: (20, 0, 1_000, 20, HOUR),
    23: (2 * HOUR, 0, 90 * DAY, 2 * DAY, HOUR),
    24: (0, 0, 6_000, 5_000, 900),
    27: (7, 0, 28, 7, HOUR),
    28: (2, 0, 8, 4, HOUR),
    29: (HOUR, HOUR, 30 * DAY, 2 * DAY, HOUR),
}
# What is put to the vote; some of it too far, or too soon.
CHANGES = {
    5: (0, 20, 60),
    6: (350, 450, 600),
    7: (40, 60, 65, 90),
    14: (0, 50),
    15: (500, 1_500, 2_500, 4_000, 6_000, 6_001),
    17: (0, 40_000, 60_000),
    20: (100, 1_500, 3_000, 5_000, 6_000),
    21: (2_500, 3_334, 4_500, 2_400),
    22: (0, 10, 20, 30, 60),
    23: (0, HOUR, 3 * HOUR, DAY, 2 * DAY),
    24: (0, 1_000, 4_000, 5_000),
    27: (0, 7),
    28: (0, 1, 3),
    29: (HOUR, 2 * HOUR, DAY),
}
# Values of windows by key, the last of them one that never can be; other keys take prices.
VALUES = {
    model.BATTERY: (-20_000, -10_000, 5_000, 20_000) * 3 + (70_000,),
    model.CHARGE_POINTS: (0, 3_700, 3_700, 11_000, 22_000) * 2 + (22_001,),
    model.HOME_BATTERIES: (-1_000, -500, 0, 250, 1_000) * 2 + (-1_001,),
}
# Lowest and highest value and budget of policies: micro euro, W, or permille.
AGREED = {
    7: ((10, 80, 400), (40, 55, 100)),
    model.BATTERY: ((-20_000, 20_000, 400_000), (-10_000, 5_000, 90_000)),
    model.CHARGE_POINTS: ((3_700, 22_000, 400_000), (0, 11_000, 90_000)),
    model.HOME_BATTERIES: ((-1_000, 1_000, 20_000), (-500, 250, 6_000)),
}
MOST_LIVE = 6
BALLOT_FAULTS = ("signer", "other support", "other proposal", "late", "chain", "bad support")

# Many views in one call.
READER = """
# pragma version ~=0.4.3

interface Governor:
    def state(id: uint256) -> uint8: view
    def proposalVotes(id: uint256) -> (uint256, uint256, uint256): view
    def proposalVetoes(id: uint256) -> uint256: view
    def proposalSnapshot(id: uint256) -> uint256: view
    def proposalDeadline(id: uint256) -> uint256: view
    def proposalEta(id: uint256) -> uint256: view
    def proposalExpiry(id: uint256) -> uint256: view
    def proposalBond(id: uint256) -> uint256: view
    def proposalLane(id: uint256) -> uint256: view
    def proposalZone(id: uint256) -> uint256: view
    def proposalProposer(id: uint256) -> address: view

interface Membership:
    def is_member(account: address) -> bool: view
    def zone_of(account: address) -> uint256: view
    def meter_of(account: address) -> uint256: view
    def member_since(account: address) -> uint256: view
    def delegates(account: address) -> address: view
    def getVotes(account: address) -> uint256: view
    def past_weight(account: address, timepoint: uint256) -> uint256: view
    def getPastTotalSupply(timepoint: uint256) -> uint256: view
    def getPastZoneSupply(zone: uint256, timepoint: uint256) -> uint256: view

interface Policies:
    def remaining(id: uint256) -> uint256: view
    def policy_count() -> uint256: view

struct Proposal:
    proposer: address
    lane: uint256
    zone: uint256
    snapshot: uint256
    deadline: uint256
    eta: uint256
    expiry: uint256
    bond: uint256
    against: uint256
    agreed: uint256
    abstained: uint256
    vetoes: uint256

@view
@external
def proposal(governor: Governor, id: uint256) -> Proposal:
    against: uint256 = 0
    agreed: uint256 = 0
    abstained: uint256 = 0
    against, agreed, abstained = staticcall governor.proposalVotes(id)
    return Proposal(
        proposer=staticcall governor.proposalProposer(id),
        lane=staticcall governor.proposalLane(id),
        zone=staticcall governor.proposalZone(id),
        snapshot=staticcall governor.proposalSnapshot(id),
        deadline=staticcall governor.proposalDeadline(id),
        eta=staticcall governor.proposalEta(id),
        expiry=staticcall governor.proposalExpiry(id),
        bond=staticcall governor.proposalBond(id),
        against=against,
        agreed=agreed,
        abstained=abstained,
        vetoes=staticcall governor.proposalVetoes(id),
    )

@view
@external
def states(governor: Governor, ids: DynArray[uint256, 64]) -> DynArray[uint256, 64]:
    result: DynArray[uint256, 64] = []
    for id: uint256 in ids:
        result.append(convert(staticcall governor.state(id), uint256))
    return result

@view
@external
def member(
    members: Membership, account: address
) -> (bool, uint256, uint256, uint256, address, uint256):
    return (
        staticcall members.is_member(account),
        staticcall members.zone_of(account),
        staticcall members.meter_of(account),
        staticcall members.member_since(account),
        staticcall members.delegates(account),
        staticcall members.getVotes(account),
    )

@view
@external
def past(
    members: Membership, account: address, zone: uint256, moment: uint256
) -> (uint256, uint256, uint256):
    return (
        staticcall members.past_weight(account, moment),
        staticcall members.getPastTotalSupply(moment),
        staticcall members.getPastZoneSupply(zone, moment),
    )

@view
@external
def budgets(policies: Policies) -> DynArray[uint256, 64]:
    result: DynArray[uint256, 64] = []
    for id: uint256 in range(staticcall policies.policy_count(), bound=64):
        result.append(staticcall policies.remaining(id + 1))
    return result
"""

# What the runs reached, by outcome: a machine that only ever gets refused proves nothing.
REACHED: Counter[str] = Counter()


@dataclass
class World:
    """The contracts, and who is who."""

    token: Any
    parameters: Any
    registry: Any
    membership: Any
    timelock: Any
    treasury: Any
    forecasts: Any
    policies: Any
    governor: Any
    reader: Any
    keys: dict[str, Any]
    addresses: dict[str, str]


WORLD: list[World] = []


def meter_of(home: str, zone: int) -> int:
    return (zone - 1) * len(HOMES) + HOMES.index(home) + 1


def at_first() -> Dao:
    """The model where a life begins: what `build` does, done by the model."""
    dao = Dao(
        now=START,
        points={meter_of(home, zone): (home, zone) for home in HOMES for zone in (1, 2)},
        rules={
            key: model.Rule(least, most, step, cooldown, ((0, value),))
            for key, (value, least, most, step, cooldown) in RULES.items()
        },
        lanes={lane: model.Lane(*terms) for lane, terms in LANES.items()},
        min_delay=MIN_DELAY,
        guardian="gil",
        minimum_bond=FORECAST_BOND,
        forecasters={who: model.Forecaster(True, FORECAST_BOND) for who in FORECASTERS},
    )
    meters = [meter_of(home, zone) for home, zone in AT_FIRST.items()]
    dao.announce_admissions("registrar", list(zip(AT_FIRST, meters, strict=True)))
    dao.now += HOUR
    dao.complete(meters)
    for home in HOMES:
        dao.deposit(home, BOND)
    dao.now += 2 * HOUR
    return dao


def build() -> World:
    boa.env.timestamp = START
    deployer = str(boa.env.eoa)
    keys = {name: Signer.from_key(keccak(text=name)) for name in PEOPLE}
    addresses = {name: str(key.address) for name, key in keys.items()}
    addresses["registrar"] = str(boa.env.generate_address("registrar"))
    addresses["wallet"] = str(boa.loads(SIGNER_WALLET, keys["wallet"].address).address)
    token, parameters = deploy("TestEuro"), deploy("GridParameters")
    parameters.define_batch([(key, f"rule {key}", *terms) for key, terms in RULES.items()])
    registry = deploy("MeterRegistry", addresses["registrar"])
    ledger = deploy("ReadingLedger", parameters.address)
    membership = deploy("Membership", addresses["registrar"], registry.address, parameters.address)
    timelock = deploy("GridTimelock", MIN_DELAY, deployer)
    treasury = deploy("Treasury", token.address, registry.address, ledger.address)
    forecasts = deploy(
        "ForecastRegistry",
        ledger.address,
        parameters.address,
        membership.address,
        token.address,
        FORECAST_BOND,
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
        LANES[ORDINARY],
        LANES[BALANCING],
    )
    addresses["timelock"] = str(timelock.address)
    addresses[""] = ZERO
    homes = [addresses[home] for home in HOMES]
    for zone in (1, 2):
        devices = [str(boa.env.generate_address()) for _ in HOMES]
        registry.register_batch(homes, devices, zone, sender=addresses["registrar"])
    meters = [meter_of(home, zone) for home, zone in AT_FIRST.items()]
    membership.announce_admissions(
        [addresses[home] for home in AT_FIRST], meters, sender=addresses["registrar"]
    )
    boa.env.timestamp += HOUR
    membership.complete(meters)
    for home in HOMES:
        token.mint(addresses[home], PURSE)
        token.approve(governor.address, 2**256 - 1, sender=addresses[home])
        governor.depositBond(BOND, sender=addresses[home])
    for who in FORECASTERS:
        forecasts.set_forecaster(addresses[who], True)
        token.mint(addresses[who], FORECAST_BOND)
        token.approve(forecasts.address, FORECAST_BOND, sender=addresses[who])
        forecasts.deposit_bond(FORECAST_BOND, sender=addresses[who])
    governor.setGuardian(addresses["gil"])
    for role in ("PROPOSER_ROLE", "CANCELLER_ROLE", "EXECUTOR_ROLE"):
        timelock.grantRole(keccak(text=role), governor.address)
    for contract in (treasury, forecasts, policies):
        contract.set_governor(governor.address)
    for contract in (parameters, membership, treasury, forecasts, policies, governor):
        contract.transfer_ownership(timelock.address)
    timelock.renounceRole(ZERO_HASH, deployer)
    return World(
        token, parameters, registry, membership, timelock, treasury, forecasts, policies,
        governor, boa.loads(READER), keys, addresses,
    )  # fmt: skip


@cache
def slot_of(place: int, key: int) -> int:
    """Where the value of a key of a map stands."""
    return int.from_bytes(keccak(place.to_bytes(32, "big") + key.to_bytes(32, "big")), "big")


def logs(contract: Any, name: str) -> list[Any]:
    """The events of the last transaction that have this name."""
    return [log for log in contract.get_logs() if type(log).__name__ == name]


# The words that tell whether anything changed.
PLACES = (
    ("governor", "_tallies"),
    ("governor", "_bonds"),
    ("membership", "_members"),
    ("membership", "_heads"),
    ("token", "balanceOf"),
)
# Where each call of the timelock goes.
TARGETS = {
    "set_value": "parameters", "open_window": "parameters", "open_windows": "parameters",
    "adopt": "policies", "end": "policies", "setLane": "governor", "setGuardian": "governor",
    "updateDelay": "timelock", "cancel_announcements": "membership",
    "set_forecaster": "forecasts", "set_minimum_bond": "forecasts",
}  # fmt: skip


class DaoLife:
    """One life: a few weeks of eight homes, two forecasters, a guardian and a registrar."""

    def __init__(self) -> None:
        if not WORLD:
            WORLD.append(build())
        self.world = WORLD[0]
        self.born = boa.env.timestamp
        self.anchor = boa.env.anchor()
        self.anchor.__enter__()
        self.model = at_first()
        boa.env.timestamp = self.model.now
        # By number: the proposal's id, and the calls as the contracts take them.
        self.ids: dict[int, int] = {}
        self.encoded: dict[int, tuple[list[str], list[int], list[bytes]]] = {}
        self.final: dict[int, int] = {}
        self.seen: dict[Any, tuple[int, Any]] = {}
        self.seen_windows: dict[Any, Any] = {}
        self.steps = 0
        self.maps = {place: self.place_of(*place) for place in PLACES}
        # Or nothing would ever be read again.
        for contract, name in PLACES[1:]:
            assert self.word(contract, name, int(self.address("ada"), 16)) != 0

    def end(self) -> None:
        self.anchor.__exit__(None, None, None)
        boa.env.timestamp = self.born

    def check(self) -> None:
        self.tokens_held_are_bonds()
        self.every_proposal_stands_as_the_model_says()
        self.members_and_weights_stand_as_the_model_says()
        self.rules_policies_and_windows_stand_as_the_model_says()

    def check_everything(self) -> None:
        for number in self.model.proposals:
            self.check_state([number])
            self.check_quorum(number)
        for number, policy in self.model.policies.items():
            agreed = self.world.policies.policy_of(number)
            assert tuple(agreed) == (
                policy.zone, policy.key, policy.lowest, policy.highest, policy.max_slots,
                policy.budget, policy.veto_hours, policy.adopted, policy.expires, policy.ended,
            )  # fmt: skip

    # -- helpers ---------------------------------------------------------------------------

    def address(self, name: str) -> str:
        return self.world.addresses[name]

    def attempt(self, name: str, expected: Callable[[], Any], call: Callable[[], Any]) -> Any:
        """The contract's answer, once the model has said the same; None where both refuse."""
        self.steps += 1
        REACHED["steps"] += 1
        try:
            expected()
        except Refused as refusal:
            with boa.reverts(refusal.reason):
                call()
            REACHED[f"{name}: {refusal.reason}"] += 1
            return None
        answer = call()
        REACHED[name] += 1
        return True if answer is None else answer

    def place_of(self, contract: str, name: str) -> int:
        layout = getattr(self.world, contract).compiler_data.storage_layout["storage_layout"]
        return int((layout.get("erc20", layout))[name]["slot"])

    def turn_to(self, moment: int) -> None:
        self.model.now = boa.env.timestamp = moment

    def word(self, contract: str, name: str, key: int) -> int:
        where = slot_of(self.maps[contract, name], key)
        return int(boa.env.get_storage(getattr(self.world, contract).address, where))

    def cached(self, what: Any, word: int, read: Callable[..., Any], *arguments: Any) -> Any:
        """What views say of a word of storage: where it is the same, so is all that they say."""
        if self.seen.get(what, (None,))[0] != word:
            self.seen[what] = word, read(*arguments)
        return self.seen[what][1]

    def live(self) -> list[int]:
        return [number for number in self.model.proposals if number not in self.final]

    def live_in(self, *states: int) -> list[int]:
        return [number for number in self.live() if self.model.state(number) in states]

    def pick(self, dice: Random, *wanted: int) -> int:
        """Mostly a proposal in one of these states, else any one; 0 for one that is none."""
        proposals = list(self.model.proposals)
        fitting = self.live_in(*wanted)
        if fitting and dice.random() < 0.9:
            return dice.choice(fitting)
        return dice.choice(proposals) if proposals and dice.random() < 0.95 else 0

    def id_of(self, number: int) -> int:
        return self.ids.get(number, 12_345)

    def parts(self, number: int) -> tuple[list[str], list[int], list[bytes], bytes]:
        if number == 0:
            return [ZERO], [0], [b""], bytes(32)
        described = keccak(text=self.model.proposals[number].description)
        return (*self.encoded[number], bytes(described))

    # -- members ---------------------------------------------------------------------------

    def members_come_and_go(self, dice: Random) -> None:
        what = dice.choice(("admit", "remove", "complete", "complete", "cancel"))
        if not self.model.announcements and dice.random() < 0.85:
            what = dice.choice(("admit", "remove"))
        w, m = self.world.membership, self.model
        by = dice.choice(("registrar",) * 12 + ("olga", "timelock"))
        sender = self.address(by)
        if what == "admit":
            homes = dice.sample(HOMES, dice.choice((1, 1, 2)))
            strangers = [home for home in HOMES if home not in m.members]
            if strangers and dice.random() < 0.7:
                homes = [dice.choice(strangers)]
            meters = [meter_of(home, dice.choice((1, 2))) for home in homes]
            if dice.random() < 0.05:
                meters[0] = dice.choice((meters[0] % 16 + 1, 99))
            self.attempt(
                "announce admission",
                lambda: m.announce_admissions(by, list(zip(homes, meters, strict=True))),
                lambda: w.announce_admissions(
                    [self.address(home) for home in homes], meters, sender=sender
                ),
            )
        elif what == "remove":
            leaving = dice.sample(HOMES, dice.choice((1, 1, 2)))
            if len(m.members) > 4 and dice.random() < 0.8:
                leaving = [dice.choice(sorted(m.members))]
            elif len(m.members) <= 4:
                by, sender = "olga", self.address("olga")
            self.attempt(
                "announce removal",
                lambda: m.announce_removals(by, leaving),
                lambda: w.announce_removals([self.address(x) for x in leaving], sender=sender),
            )
        elif what == "cancel":
            meters = self.announced(dice)
            self.attempt(
                "cancel announcement",
                lambda: m.cancel_announcements(by, meters),
                lambda: w.cancel_announcements(meters, sender=sender),
            )
        else:
            live = [meter for meter in m.announcements if m.is_live(meter)]
            if live and dice.random() < 0.4:
                self.turn_to(max(m.now, min(m.announcements[meter].due for meter in live)))
            due = [meter for meter in live if m.announcements[meter].due <= m.now]
            meters = due if due and dice.random() < 0.8 else self.announced(dice)
            self.attempt("complete", lambda: m.complete(meters), lambda: w.complete(meters))

    def announced(self, dice: Random) -> list[int]:
        meters = sorted(self.model.announcements)
        if not meters or dice.random() < 0.1:
            return [dice.randint(1, 2 * len(HOMES))]
        return dice.sample(meters, min(len(meters), dice.choice((1, 1, 2))))

    def votes_are_lent(self, dice: Random) -> None:
        signed = dice.random() < 0.5
        w, m = self.world.membership, self.model
        by, to = dice.choice(HOMES[:-1] if signed else HOMES), dice.choice((*HOMES, "olga"))
        same = [h for h, x in m.members.items() if by in m.members and x.zone == m.members[by].zone]
        if same and dice.random() < 0.7:
            to = dice.choice(same)
        if not signed:
            self.attempt(
                "delegate",
                lambda: m.delegate(by, to),
                lambda: w.delegate(self.address(to), sender=self.address(by)),
            )
            return
        fault = dice.choice(("",) * 8 + ("late", "nonce", "other delegate"))
        nonce = m.delegations.get(by, 0) + (fault == "nonce")
        expiry = m.now - (fault == "late")
        meant = "olga" if fault == "other delegate" and to != "olga" else to
        # Of another text the signature is nobody's that anyone knows.
        signer = by if meant == to else ""
        message = encode_typed_data(
            self.domain("Membership", w.address),
            {
                "Delegation": [
                    {"name": "delegatee", "type": "address"},
                    {"name": "nonce", "type": "uint256"},
                    {"name": "expiry", "type": "uint256"},
                ]
            },
            {"delegatee": self.address(meant), "nonce": nonce, "expiry": expiry},
        )
        signature = self.world.keys[by].sign_message(message)
        r, s = (part.to_bytes(32, "big") for part in (signature.r, signature.s))
        self.attempt(
            "delegate signed",
            lambda: m.delegate_by_signature(signer, to, nonce, expiry),
            lambda: w.delegateBySig(
                self.address(to), nonce, expiry, signature.v, r, s, sender=self.address("olga")
            ),
        )

    @staticmethod
    def domain(name: str, contract: str, chain: int = LOCAL_CHAIN) -> dict[str, Any]:
        return {"name": name, "version": "1", "chainId": chain, "verifyingContract": contract}

    # -- bonds -----------------------------------------------------------------------------

    def bonds_move(self, dice: Random) -> None:
        what = dice.choice(("deposit", "withdraw", "release", "release", "leave"))
        g, m = self.world.governor, self.model
        who = dice.choice(HOMES)
        if what == "deposit":
            amount = dice.choice((0, 5, 20 * EURO, 40 * EURO))
            self.attempt(
                "deposit",
                lambda: m.deposit(who, amount),
                lambda: g.depositBond(amount, sender=self.address(who)),
            )
        elif what == "withdraw":
            amount = dice.choice((0, 1, 5 * EURO, m.free(who), m.free(who) + 1))
            self.attempt(
                "withdraw",
                lambda: m.withdraw(who, amount),
                lambda: g.withdrawBond(amount, sender=self.address(who)),
            )
        elif what == "release":
            bound = [p.number for p in m.proposals.values() if p.locked]
            over = [n for n in bound if n in self.final or m.state(n) in (SUCCEEDED, QUEUED)]
            number = dice.choice(over) if over and dice.random() < 0.8 else self.pick(dice)
            before = m.treasury
            if self.attempt(
                "release", lambda: m.release(number), lambda: g.releaseBond(self.id_of(number))
            ):
                forfeited = m.treasury != before
                REACHED["forfeited"] += forfeited
                vetoes = m.proposals[number].count(model.VETO)
                REACHED["vetoes in vain"] += vetoes > 0 and not forfeited
                (event,) = logs(g, "BondForfeited" if forfeited else "BondReleased")
                assert event.amount == m.proposals[number].bond
        else:
            forecaster = dice.choice(FORECASTERS)
            amount = dice.choice((0, 0, 1, FORECAST_BOND, FORECAST_BOND + 1))
            self.attempt(
                "forecaster leaves",
                lambda: m.announce_withdrawal(forecaster, amount),
                lambda: self.world.forecasts.announce_withdrawal(
                    amount, sender=self.address(forecaster)
                ),
            )

    # -- proposals -------------------------------------------------------------------------

    def windows(
        self, dice: Random, zone: int, key: int, ahead: int, values: tuple[int, ...] = ()
    ) -> Call:
        """Windows that begin so many slots from now, and now and then ones that never can."""
        first = self.model.now // 900 + ahead
        value = dice.choice(VALUES.get(key, (10, 45, 45, 55, 60, 80)))
        if values and dice.random() < 0.9:
            value = dice.choice(values)
        slots = min(dice.choice((1, 2, 4, 8)), 96 - first % 96) if dice.random() < 0.95 else 97
        if dice.random() < 0.6:
            return Call("open_window", (zone, key, first, slots, value))
        later = first + slots + dice.choice((-1, 0, 3))
        both = ((first, slots, value), (later, min(2, 96 - later % 96), value))
        return Call("open_windows", (zone, key, both))

    def decision(self, dice: Random) -> Call:
        """What the ordinary lane is for."""
        m = self.model
        what = dice.choice(
            ("rule",) * 7
            + ("adopt",) * 4
            + ("end", "lane", "guardian", "delay", "stop", "forecaster", "least bond", "window")
        )
        if what == "rule":
            key = dice.choice((*CHANGES, 15, 20, 21, 22, 23, 24))
            return Call("set_value", (key, dice.choice(CHANGES[key])))
        if what == "adopt":
            return Call("adopt", self.terms_of_a_policy(dice))
        if what == "end":
            return Call("end", (dice.randint(1, len(m.policies) + 1),))
        if what == "lane":
            lane = dice.choice((ORDINARY, BALANCING) * 4 + (POLICY,))
            delay, period, grace, timelock = LANES[min(lane, BALANCING)]
            delay += dice.choice((0, 0, 0, 60, 8 * DAY))
            period += dice.choice((0, 0, HOUR, 2 * HOUR, 1))
            grace = dice.choice((grace, 2 * grace))
            return Call("setLane", (lane, delay, period, grace, dice.choice((timelock, DAY))))
        if what == "guardian":
            return Call("setGuardian", (dice.choice(("gil", "gil", "ben", "")),))
        if what == "delay":
            return Call("updateDelay", (dice.choice((900, 900, HOUR, 899)),))
        if what == "stop" and m.announcements:
            return Call("cancel_announcements", (tuple(self.announced(dice)),))
        if what == "forecaster":
            return Call("set_forecaster", (dice.choice(FORECASTERS), dice.random() < 0.7))
        if what == "least bond":
            return Call("set_minimum_bond", (dice.choice((FORECAST_BOND, 0, FORECAST_BOND + 1)),))
        key = dice.choice((7, model.BATTERY) * 4 + (*model.DEVICES, 8))
        return self.windows(dice, dice.choice((1, 2) * 4 + (0,)), key, dice.choice((500, 700, 4)))

    def terms_of_a_policy(self, dice: Random) -> tuple[int, ...]:
        key = dice.choice((7, model.BATTERY, model.BATTERY, *model.DEVICES))
        lowest, highest, budget = dice.choice(AGREED[key])
        terms = {
            "zone": dice.choice((1, 1, 2)),
            "key": key,
            "lowest": lowest,
            "highest": highest,
            "slots": dice.choice((8, 20)),
            "budget": budget,
            "hours": dice.choice((1, 3, 24)),
            "expires": self.model.now + dice.choice((20, 40, 200)) * DAY,
        }
        if dice.random() < 0.15:
            wrong = {"zone": 0, "key": 15, "lowest": 90_000, "slots": 0, "budget": 0, "hours": 25}
            wrong |= {"expires": self.model.now + dice.choice((0, 400 * DAY))}
            spoiled = dice.choice(list(wrong))
            terms[spoiled] = wrong[spoiled]
        return tuple(terms.values())

    def encode(self, call: Call) -> tuple[str, int, bytes]:
        contract = getattr(self.world, TARGETS[call.what])
        data = getattr(contract, call.what).prepare_calldata(*self.arguments(call))
        data += bytes(32) if call.fault == "tail" else b""
        return str(contract.address), int(call.fault == "value"), data

    def arguments(self, call: Call) -> tuple[Any, ...]:
        if call.what in ("setGuardian", "set_forecaster"):
            return (self.address(call.arguments[0]), *call.arguments[1:])
        if call.what == "open_windows":
            zone, key, windows = call.arguments
            words = [(v % 2**128) << 128 | slots << 64 | first for first, slots, v in windows]
            return zone, key, words
        return call.arguments

    def somebody_proposes(self, dice: Random) -> None:
        if len(self.live()) >= MOST_LIVE:
            # Enough to look after.
            self.time_passes(dice)
            return
        lane = dice.choice((ORDINARY, ORDINARY, BALANCING, POLICY))
        m = self.model
        usable = [n for n in m.policies if m.remaining(n)]
        adopting = lane == POLICY and not usable and dice.random() < 0.9
        lane = ORDINARY if adopting else lane
        by = dice.choice((*sorted(m.members), *sorted(m.members), *HOMES, "olga"))
        if lane != ORDINARY:
            by = dice.choice((by, "fay", "ada"))
        policy = 0
        if lane == ORDINARY:
            calls = tuple(self.decision(dice) for _ in range(dice.choice((1, 1, 1, 2))))
            if adopting:
                calls = (Call("adopt", self.terms_of_a_policy(dice)),)
        else:
            zone, key = dice.choice((1, 1, 2)), dice.choice((7, model.BATTERY, *model.DEVICES))
            values: tuple[int, ...] = ()
            if lane == POLICY:
                policy = dice.choice(usable or [1])
                if dice.random() < 0.1:
                    policy = dice.randint(1, len(m.policies) + 1)
                if policy in m.policies and dice.random() < 0.95:
                    agreed = m.policies[policy]
                    zone, key, values = agreed.zone, agreed.key, (agreed.lowest, agreed.highest)
            ahead = dice.choice((40, 60, 60, 100, 100, 200, 300, 1_400))
            calls = tuple(
                self.windows(dice, zone, key, ahead + 20 * i, values)
                for i in range(dice.choice((1, 1, 2)))
            )
            if dice.random() < 0.1:
                calls = self.spoiled(dice, calls)
        if dice.random() < 0.02:
            calls = ()
        only = dice.choice(("", "", "", "", by, "olga"))
        description = f"why {len(m.proposals)} {dice.randint(1, 3)}"
        if only:
            description += (
                f"#proposer={dice.choice((self.address(only), self.address(only).lower()))}"
            )
        if m.proposals and dice.random() < 0.05:
            # What somebody proposed before; its mark, if any, stands in its text.
            old = m.proposals[dice.choice(list(m.proposals))]
            lane, calls, description, only = old.lane, old.calls, old.description, ""
            marked = [n for n in PEOPLE if description.lower().endswith(self.address(n).lower())]
            only = marked[0] if marked else ""
        encoded = [self.encode(call) for call in calls]
        parts = ([e[0] for e in encoded], [e[1] for e in encoded], [e[2] for e in encoded])
        g = self.world.governor
        keywords = {"sender": self.address(by)}
        functions: dict[int, Callable[[], Any]] = {
            ORDINARY: lambda: g.propose(*parts, description, **keywords),
            BALANCING: lambda: g.proposeBalancing(*parts, description, **keywords),
            POLICY: lambda: g.proposeUnderPolicy(policy, *parts, description, **keywords),
        }
        if id := self.attempt(
            f"propose {lane}",
            lambda: m.propose(by, lane, calls, description, policy=policy, only=only),
            functions[lane],
        ):
            number = len(m.proposals)
            self.ids[number] = id
            self.encoded[number] = parts
            REACHED["proposed with an allowance"] += (
                lane != ORDINARY and not m.proposals[number].bond
            )
            (created,) = logs(g, "ProposalCreated")
            p = m.proposals[number]
            assert (created.proposalId, created.voteEnd) == (id, p.deadline)
            (laned,) = logs(g, "ProposalLane")
            assert (laned.lane, laned.zone) == (p.lane, p.zone)

    def spoiled(self, dice: Random, calls: tuple[Call, ...]) -> tuple[Call, ...]:
        first, *rest = calls
        how = dice.choice(("value", "tail", "other call", "other zone"))
        if how == "other call":
            return (*calls, Call("set_value", (7, 55)))
        if how == "other zone":
            return (*calls, Call(first.what, (3 - first.arguments[0], *first.arguments[1:])))
        return (Call(first.what, first.arguments, how), *rest)

    def what_passed_goes_on(self, dice: Random) -> None:
        """Queued, executed: in time, too early, too late, twice."""
        wrong = dice.random() < 0.15
        m = self.model
        number = self.pick(dice, SUCCEEDED, QUEUED)
        ripe = self.live_in(SUCCEEDED, QUEUED)
        if ripe and dice.random() < 0.7:
            # The one that expires first.
            number = min(ripe, key=lambda n: m.proposals[n].expiry)
        if not ripe:
            passing = [n for n in self.live_in(ACTIVE) if m.passed(m.proposals[n])]
            if passing:
                # None is ripe: the first that will be.
                number = min(passing, key=lambda n: m.proposals[n].deadline)
                self.turn_to(m.proposals[number].deadline + (dice.random() < 0.9))
            elif dice.random() < 0.85:
                self.somebody_votes(dice)
                return
        queued = m.proposals[number].eta if number else 0
        if bool(queued) != wrong:
            # Too early is worth a try, not all of them.
            if queued and dice.random() < 0.75:
                self.turn_to(max(m.now, queued))
            self.execute(number)
        else:
            self.attempt(
                "queue",
                lambda: self.model.queue(number),
                lambda: self.world.governor.queue(*self.parts(number)),
            )

    def execute(self, number: int) -> None:
        g, m = self.world.governor, self.model
        before = {w for windows in m.windows.values() for w in windows}
        if self.attempt(
            "execute", lambda: m.execute(number), lambda: g.execute(*self.parts(number))
        ):
            opened = {w for windows in m.windows.values() for w in windows} - before
            logged = {(e.first_slot, e.slots, e.value) for e in logs(g, "WindowOpened")}
            assert logged == {(w.first, w.slots, w.value) for w in opened}
            for call in m.proposals[number].calls:
                REACHED[f"voted: {call.what}"] += 1
                if call.what.startswith("open_window"):
                    REACHED[f"windows of key {call.arguments[1]}"] += 1

    def somebody_cancels(self, dice: Random) -> None:
        number = self.pick(dice, model.PENDING, ACTIVE, QUEUED)
        proposer = self.model.proposals[number].proposer if number else "ada"
        lane = self.model.proposals[number].lane if number else 0
        by = dice.choice(("gil", proposer, "olga", "ben", self.model.guardian or "gil"))
        if lane != ORDINARY and by == self.model.guardian and dice.random() < 0.5:
            # Or nothing would outlive its guardian.
            by = "olga"
        if self.attempt(
            "cancel",
            lambda: self.model.cancel(by, number),
            lambda: self.world.governor.cancel(*self.parts(number), sender=self.address(by)),
        ):
            REACHED[f"cancelled when {STATES[self.model.proposals[number].canceled_in or 0]}"] += 1

    def a_decree(self, dice: Random) -> None:
        """What a passed vote would do, at once."""
        call = self.decision(dice)
        contract = getattr(self.world, TARGETS[call.what])
        function = getattr(contract, call.what)
        self.attempt(
            f"decree {call.what}",
            lambda: self.model.carry_out(call),
            lambda: function(*self.arguments(call), sender=self.address("timelock")),
        )

    # -- ballots ---------------------------------------------------------------------------

    def somebody_votes(self, dice: Random) -> None:
        how = dice.choice(("transaction", "signature", "batch", "batch", "batch"))
        proposals = self.model.proposals
        number = self.pick(dice, ACTIVE)
        active, waiting = self.live_in(ACTIVE), self.live_in(model.PENDING)
        if not active and not waiting and len(self.live()) < MOST_LIVE and dice.random() < 0.9:
            self.somebody_proposes(dice)
            return
        if active and dice.random() < 0.6:
            # The one that fewest voted on.
            number = min(active, key=lambda n: len(proposals[n].ballots))
        if waiting and dice.random() < (0.2 if active else 0.9):
            number = min(waiting, key=lambda n: proposals[n].snapshot)
            self.turn_to(proposals[number].snapshot + (dice.random() < 0.9))
        neglected = number % 6 == 3
        if neglected and proposals[number].ballots and dice.random() < 0.8:
            # One vote is all that it gets.
            self.time_passes(dice)
            return
        # Most people agree, some do not, and now and then a proposal angers everybody.
        moods = ((1, 1, 1, 1, 2), (1, 1, 1, 1, 2), (1, 1, 1, 0, 2, 3), (3, 3, 0, 1), (2,), (0, 1))
        mood = moods[(number + dice.choice((0, 0, 1))) % len(moods)]
        if how == "transaction":
            voter, support = dice.choice((*HOMES, "olga")), dice.choice((*mood, *mood, 4))
            self.vote(number, voter, support)
        elif how == "signature":
            self.vote_signed(dice, number, dice.choice(HOMES), dice.choice(mood))
        else:
            zone = proposals[number].zone if number else 0
            entitled = [x for x in HOMES if self.may_vote(x, zone)]
            if number and dice.random() < 0.8:
                entitled = [x for x in entitled if not proposals[number].has_voted(x)] or entitled
            voters = dice.sample(
                entitled, min(len(entitled), 1 if neglected else dice.choice((1, 3, 5, 8)))
            )
            voters += dice.sample(HOMES, dice.choice((0, 0, 1)))
            if dice.random() < 0.3:
                voters += [dice.choice((*voters, "olga"))]
            self.vote_batch(dice, number, voters, mood)

    def may_vote(self, home: str, zone: int) -> bool:
        return home in self.model.members and zone in (0, self.model.members[home].zone)

    def vote(self, number: int, voter: str, support: int) -> None:
        votes = self.attempt(
            "vote",
            lambda: self.model.vote(number, voter, support),
            lambda: self.world.governor.castVote(
                self.id_of(number), support, sender=self.address(voter)
            ),
        )
        if votes is not None:
            assert self.model.proposals[number].ballots[-1] == (voter, support, votes)

    def signed(
        self, dice: Random, number: int, voter: str, support: int, reason: str
    ) -> tuple[Ballot, tuple[int, int, int]]:
        fault = dice.choice(("",) * 50 + BALLOT_FAULTS)
        deadline = self.model.now + dice.choice((0, HOUR)) - (fault == "late") * 2 * HOUR
        if fault == "bad support":
            support = 4
        about = {
            "proposalId": self.id_of(number) ^ (fault == "other proposal"),
            "support": (support + (fault == "other support")) % 5,
            "voter": self.address(voter),
            "reasonHash": bytes(keccak(text=reason)),
            "deadline": deadline,
        }
        kinds = ("uint256", "uint8", "address", "bytes32", "uint256")
        fields = [{"name": n, "type": t} for n, t in zip(about, kinds, strict=True)]
        chain = LOCAL_CHAIN + (fault == "chain")
        domain = self.domain("GridGovernor", self.world.governor.address, chain)
        message = encode_typed_data(domain, {"Ballot": fields}, about)
        key = self.world.keys["gil" if fault == "signer" else voter]
        signature = key.sign_message(message)
        well = fault in ("", "late", "bad support")
        return Ballot(voter, support, deadline, well), (signature.r, signature.s, signature.v)

    def vote_signed(self, dice: Random, number: int, voter: str, support: int) -> None:
        reason = dice.choice(("", "for the roof"))
        ballot, (r, s, v) = self.signed(dice, number, voter, support, reason)
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([v])
        if voter != "wallet" and dice.random() < 0.5:
            signature = r.to_bytes(32, "big") + (s | (v - 27) << 255).to_bytes(32, "big")
        votes = self.attempt(
            "vote signed",
            lambda: self.model.vote_signed(number, ballot),
            lambda: self.world.governor.castVoteBySig(
                self.id_of(number), ballot.support, self.address(voter), reason, ballot.deadline,
                signature, sender=self.address("olga"),
            ),
        )  # fmt: skip
        if votes is not None:
            assert self.model.proposals[number].ballots[-1] == (voter, ballot.support, votes)
            REACHED["vote of a wallet"] += voter == "wallet"

    def vote_batch(
        self, dice: Random, number: int, voters: list[str], mood: tuple[int, ...]
    ) -> None:
        ballots, packed = [], []
        for voter in voters:
            ballot, (r, s, v) = self.signed(dice, number, voter, dice.choice(mood), "")
            head = int(self.address(voter), 16) << 96 | ballot.support << 88 | ballot.deadline << 48
            ballots.append(ballot)
            packed.append((head, bytes(keccak(text="")), r, s | (v - 27) << 255))
        turned_away: list[tuple[str, int]] = []
        g = self.world.governor
        counted = self.attempt(
            "vote batch",
            lambda: turned_away.extend(self.model.vote_batch(number, ballots)),
            lambda: g.castBallots(self.id_of(number), packed, sender=self.address("olga")),
        )
        if counted is not None:
            assert counted == len(ballots) - len(turned_away)
            rejected = [(event.voter, event.reason) for event in logs(g, "BallotRejected")]
            assert rejected == [(self.address(voter), why) for voter, why in turned_away]
            for _, why in turned_away:
                REACHED[f"ballot: {why}"] += 1

    # -- time ------------------------------------------------------------------------------

    def moments(self) -> list[int]:
        """The edges ahead: of votes, delays, grace, announcements, memberships, days, budgets."""
        m = self.model
        result = {m.now + 1, (m.now // DAY + 1) * DAY}
        for number in self.live():
            result |= self.edges(m.proposals[number])
        for announcement in m.announcements.values():
            result |= {announcement.due - 1, announcement.due}
            result |= {announcement.due + model.OFFICE_ENDS + i for i in (-1, 0)}
        for member in m.members.values():
            since = member.since + m.rule(model.HOLDING_TIME)
            result |= {since - 1, since}
        for policy in m.policies.values():
            periods = (m.now - policy.adopted) // model.BUDGET_PERIOD + 1
            result |= {policy.adopted + periods * model.BUDGET_PERIOD, policy.expires}
        return sorted(t for t in result if t > m.now)

    @staticmethod
    def edges(p: Proposal) -> set[int]:
        if p.eta:
            return {p.eta - 1, p.eta, p.expiry, p.expiry + 1}
        late = p.deadline - p.period // 8
        return {
            p.snapshot, p.snapshot + 1, late, late + 1, p.deadline, p.deadline + 1,
            p.expiry, p.expiry + 1,
        }  # fmt: skip

    def next_edge(self, number: int) -> int:
        ahead = (t for t in self.edges(self.model.proposals[number]) if t > self.model.now)
        return min(ahead, default=self.model.now)

    def time_passes(self, dice: Random) -> None:
        ahead = self.moments()
        near = ahead[min(dice.choice((0, 1, 1, 2, 2, 3)), len(ahead) - 1)]
        live = self.live()
        if live and dice.random() < 0.4:
            # To an edge of one vote; the next one mostly.
            number = min(dice.sample(live, min(2, len(live))), key=lambda n: self.next_edge(n))
            edges = sorted(
                t for t in self.edges(self.model.proposals[number]) if t > self.model.now
            )
            near = edges[min(dice.choice((0, 1, 1, 1, 2, 3)), len(edges) - 1)] if edges else near
        elif dice.random() < 0.03:
            near = dice.choice(ahead)
        self.turn_to(near)
        self.attempt("time passes", lambda: None, lambda: None)

    # -- laws ------------------------------------------------------------------------------

    def tokens_held_are_bonds(self) -> None:
        w, m = self.world, self.model
        for account, amount in ((w.governor, sum(m.deposits.values())), (w.treasury, m.treasury)):
            # A balance is one word of storage.
            assert self.word("token", "balanceOf", int(account.address, 16)) == amount
        for home in HOMES:
            key = int(self.address(home), 16)
            assert self.cached(
                ("bond", home),
                self.word("governor", "_bonds", key),
                w.governor.bondOf,
                self.address(home),
            ) == (m.deposits[home], m.locked(home))

    def every_proposal_stands_as_the_model_says(self) -> None:
        # Those that something happened to, be it that time passed an edge; and any other one.
        numbers = [n for n in self.live() if self.seen.get(("state", n)) != self.situation(n)]
        if self.model.proposals:
            number = self.steps % len(self.model.proposals) + 1
            self.check_quorum(number)
            if number not in numbers:
                numbers.append(number)
        self.check_state(numbers)
        for number in numbers:
            self.seen["state", number] = self.situation(number)

    def situation(self, number: int) -> Any:
        p, now = self.model.proposals[number], self.model.now
        edges = (now > p.snapshot, now > p.deadline, now > p.expiry)
        return self.word("governor", "_tallies", self.ids[number]), edges

    def check_state(self, numbers: list[int]) -> None:
        w, m = self.world, self.model
        if not numbers:
            return
        states = w.reader.states(w.governor, [self.ids[number] for number in numbers])
        for number, state in zip(numbers, states, strict=True):
            p = m.proposals[number]
            assert state == m.state(number)
            assert self.final.get(number, state) == state, "what is over does not change"
            if state in (model.CANCELED, model.DEFEATED, model.EXPIRED, model.EXECUTED):
                if number not in self.final:
                    REACHED[f"lane {p.lane} {STATES[state]}"] += 1
                    REACHED["extended"] += bool(p.extended)
                self.final[number] = state
            seen = self.cached(
                ("proposal", number),
                self.word("governor", "_tallies", self.ids[number]),
                w.reader.proposal,
                w.governor,
                self.ids[number],
            )
            assert tuple(seen) == (
                self.address(p.proposer), p.lane, p.zone, p.snapshot, p.deadline, p.eta, p.expiry,
                p.locked, p.count(0, 3), p.count(1), p.count(2), p.count(3),
            )  # fmt: skip

    def check_quorum(self, number: int) -> None:
        p = self.model.proposals[number]
        voter = HOMES[self.steps // 2 % len(HOMES)]
        if p.snapshot < self.model.now and self.steps % 2:
            assert self.world.governor.quorumOf(self.ids[number]) == self.model.needed(p)
        else:
            voted = self.world.governor.hasVoted(self.ids[number], self.address(voter))
            assert voted == p.has_voted(voter)

    def members_and_weights_stand_as_the_model_says(self) -> None:
        w, m = self.world, self.model
        for home in HOMES:
            key = int(self.address(home), 16)
            words = (self.word("membership", name, key) for name in ("_members", "_heads"))
            member = m.members.get(home)
            expected = (False, 0, 0, 0, ZERO, 0)
            if member:
                votes = m.weight(home, m.now)[1]
                to = self.address(member.delegate)
                expected = (True, member.zone, member.meter, member.since, to, votes)
            assert expected == self.cached(
                ("member", home),
                hash(tuple(words)),
                w.reader.member,
                w.membership,
                self.address(home),
            )
        # One account at one past moment a step: a snapshot, or where the membership changed.
        moments = {p.snapshot for p in m.proposals.values()}
        moments |= {since + i for since, _ in m.rolls[1:] for i in (-1, 0)}
        past = sorted(t for t in moments if t < m.now)
        moment, home = past[self.steps * 7 % len(past)], HOMES[self.steps % len(HOMES)]
        zone, votes = m.weight(home, moment)
        asked = self.steps % 3
        assert w.reader.past(w.membership, self.address(home), asked, moment) == (
            zone << 64 | votes, m.electorate(0, moment), m.electorate(asked, moment)
        )  # fmt: skip

    def rules_policies_and_windows_stand_as_the_model_says(self) -> None:
        w, m = self.world, self.model
        if m.policies:
            left = [m.remaining(number) for number in m.policies]
            assert w.reader.budgets(w.policies) == left
        for place in m.windows:
            if self.seen_windows.get(place) != m.windows[place]:
                zone, key, day = place
                found = w.parameters.windows_of(zone, key, day * 96)
                assert [tuple(window) for window in found] == [
                    (x.first, x.slots, x.value, x.opened) for x in m.windows[place]
                ]
                self.seen_windows[place] = m.windows[place]
        if self.steps % 4 == 0:
            key = sorted(m.rules)[self.steps // 4 % len(m.rules)]
            assert w.parameters.value(key) == m.rule(key)
        elif self.steps % 4 == 1:
            who, zone = FORECASTERS[self.steps // 4 % 2], self.steps // 8 % 2 + 1
            assert w.forecasts.allowance(self.address(who), zone) == m.allowance(who, zone)
        elif self.steps % 4 == 2:
            lane = self.steps // 4 % 2
            terms = m.lanes[lane]
            assert tuple(w.governor.laneTerms(lane)) == (
                terms.delay, terms.period, terms.grace, terms.timelock
            )  # fmt: skip
        else:
            meter = self.steps // 4 % (2 * len(HOMES)) + 1
            found = m.announcements[meter] if m.is_live(meter) else None
            expected = (ZERO, 0, False)
            if found:
                expected = (self.address(found.member), found.due, found.removal)
            assert w.membership.announcement_of(meter) == expected


# What happens, and how often.
STEPS: dict[Callable[[DaoLife, Random], None], int] = {
    DaoLife.members_come_and_go: 4,
    DaoLife.votes_are_lent: 2,
    DaoLife.bonds_move: 3,
    DaoLife.somebody_proposes: 4,
    DaoLife.somebody_votes: 7,
    DaoLife.what_passed_goes_on: 6,
    DaoLife.somebody_cancels: 1,
    DaoLife.a_decree: 2,
    DaoLife.time_passes: 4,
}


def live(seeds: Iterable[int], length: int) -> Counter[str]:
    REACHED.clear()
    for seed in seeds:
        dice, life = Random(seed), DaoLife()
        # No two lives are alike: in one people vote all the time, in another they move house.
        weights = [weight * dice.choice((1, 1, 2, 3)) for weight in STEPS.values()]
        try:
            life.check()
            for step in dice.choices(list(STEPS), weights, k=length):
                step(life, dice)
                life.check()
            life.check_everything()
        except BaseException as failure:
            failure.add_note(f"life {seed}, step {life.steps}")
            raise
        finally:
            life.end()
    for name, count in sorted(REACHED.items()):
        print(f"{count:>7} {name}")
    return REACHED


def seeds_from(first: int, lives: int) -> Iterable[int]:
    return [int(SEED)] if SEED else range(first, first + int(LIVES or lives))


# A machine that reaches nothing proves nothing.
EVERYWHERE = (
    "announce admission", "announce removal", "complete", "cancel announcement",
    "complete: membership: not due yet", "complete: membership: announcement expired",
    "delegate", "delegate signed", "delegate: membership: delegate lives in another zone",
    "propose 0", "propose 1", "propose 2", "proposed with an allowance",
    "propose 0: governor: proposer has no free bond", "propose 2: policies: budget is used up",
    "propose 1: policies: encoding is not canonical",
    "vote", "vote signed", "vote batch", "vote of a wallet", "vote signed: governor: bad signature",
    "vote: governor: already voted", "vote: governor: voter lives in another zone",
    "ballot: 1", "ballot: 2", "ballot: 3", "ballot: 4", "ballot: 5", "ballot: 6",
    "queue", "execute", "execute: timelock: not ready", "execute: governor: proposal is not queued",
    "cancelled when Pending", "cancelled when Active", "extended",
    "release", "forfeited", "vetoes in vain",
    "release: governor: vote is not over",
    "lane 0 Executed", "lane 0 Expired", "lane 0 Defeated", "lane 0 Canceled",
    "lane 1 Executed", "lane 1 Expired", "lane 1 Defeated", "lane 1 Canceled",
    "lane 2 Executed", "lane 2 Expired", "lane 2 Defeated", "lane 2 Canceled",
    "voted: set_value", "voted: adopt", "voted: open_window",
    "windows of key 7", "windows of key 1000", "windows of key 1001", "windows of key 1002",
    "decree set_value", "decree end",
)  # fmt: skip


@pytest.mark.timeout(900)
def test_the_dao_lives_as_the_model_says() -> None:
    reached = live(seeds_from(0, 51), 100)
    print(f"{reached['steps']} steps")
    if not SEED and not LIVES:
        assert reached["steps"] >= 5_000
        assert [what for what in EVERYWHERE if not reached[what]] == []


@pytest.mark.deep
@pytest.mark.timeout(4 * 3_600)
def test_the_dao_lives_long_as_the_model_says() -> None:
    reached = live(seeds_from(Random().randrange(2**32), 1_010), 100)
    print(f"{reached['steps']} steps")
    if not SEED and not LIVES:
        assert reached["steps"] >= 100_000
        assert [what for what in (*EVERYWHERE, "voted: open_windows") if not reached[what]] == []
