# SPDX-License-Identifier: Apache-2.0
"""Setting the stage: homes and devices, contracts and offices, deposits, and weeks of history.

When `build` returns, the chain stands at the evening before the first traded day, the lake holds
the history, and the timelock owns every contract.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from dao import deployment as deploying
from dao.chain import Chain, LocalAccount
from dao.demo_people import owner_account
from dao.deployment import Deployment, Roles
from dao.eip712 import checksum_address, keccak, sign_digest
from dao.errors import BadUse, CheckFailed
from dao.market.account import MAX_DAY, grant_signed, mandate_digest
from dao.market.orders import market_separator
from dao.market.session import OrderNonces
from dao.paths import cache_dir, home, inbox_path, lake_dir, secrets_path
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY, day_of
from forecasting.balancing import Shares, battery_of, standard_shares
from forecasting.grid import BatterySpec, ZoneGrid, load_grid
from meters.collector import Collector
from meters.devices import CommunityBattery, Fleet, Gateway
from meters.lake import MIN_HOMES, Batch
from meters.profiles import ZoneProfiles, zone_profiles
from meters.publishing import publish
from meters.readings import Readings
from meters.registry import KeyPeriods
from meters.secrets import DerivedSecrets, SecretStore
from meters.signing import Head, heads_after, reading_separator
from scripts._simulation.founding import PROPOSER_BOND, Founding
from scripts._simulation.people import Resident, residents
from scripts._simulation.plant import BatteryPlant
from scripts._simulation.settings import ZONE, Settings

# Covers a business's escrow for the four sessions that can be open at once, several times over.
DEPOSIT = 1_000_000_000
BOND = 200_000_000
# What every resident of a demo that lives on has in the wallet, and wei for a transaction or two.
POCKET = 100_000_000
POCKET_WEI = 10**18
# Days of profiles read at once, ahead of a neighbourhood that lives on.
AHEAD_DAYS = 28
# How long the agents of such a neighbourhood may order.
_TEN_YEARS = 3_650
# What good forecasts are rewarded from; later a budget of the treasury fills it up.
REWARDS = 50_000_000
DEPOSIT_BATCH = 100
# Collectors commit half an hour after the last slot: stragglers have arrived by then.
COMMIT_DELAY = 1_800

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Offices:
    """Who acts for whom. The deployer's account ends without any privilege."""

    registrar: LocalAccount
    collector: LocalAccount
    forecaster: LocalAccount
    guardian: LocalAccount
    relay: LocalAccount
    keeper: LocalAccount


@dataclass
class World:
    """Everything a run has in hand. The battery's state and the meters' chains move on."""

    settings: Settings
    chain: Chain
    deployment: Deployment
    offices: Offices
    profiles: ZoneProfiles
    residents: list[Resident]
    fleet: Fleet
    battery_gateway: Gateway
    battery_spec: BatterySpec
    battery: CommunityBattery
    plant: BatteryPlant
    grid: ZoneGrid
    shares: Shares
    collector: Collector
    history_began: float = 0.0
    readings: int = 0
    batches: int = 0
    heads: dict[int, Head] = field(default_factory=dict)
    nonces: OrderNonces = field(default_factory=OrderNonces)

    @property
    def battery_meter(self) -> int:
        return self.battery_gateway.meter

    @cached_property
    def reading_separator(self) -> bytes:
        """EIP-712 domain of readings."""
        return reading_separator(self.chain.chain_id, self.deployment["MeterRegistry"].address)

    @cached_property
    def market_separator(self) -> bytes:
        """EIP-712 domain of orders and receipts."""
        return market_separator(self.chain.chain_id, self.deployment["EnergyMarket"].address)

    def reach(self, end_slot: int) -> None:
        """Have profiles up to this slot and some days on; those that there are stay as they are."""
        if end_slot > self.profiles.first_slot + self.profiles.slots:
            self.profiles = zone_profiles(
                self.settings.zone_code,
                self.settings.history_slot,
                end_slot + AHEAD_DAYS * SLOTS_PER_DAY - self.settings.history_slot,
                self.settings.seed,
                cache_dir(),
            )

    def commit(self, batch: Batch) -> None:
        """Put a closed batch's root and totals on chain and purge it from the inbox."""
        publish(self.collector, self.deployment["ReadingLedger"], self.offices.collector, batch)
        self.batches += 1


@contextmanager
def build(settings: Settings, chain: Chain, progress: Progress) -> Iterator[World]:
    """Deploy, register, fund, hand over, and commit the history."""
    progress("Reading the zone's profiles", 0, 2)
    days = settings.history_days + settings.days
    profiles = zone_profiles(
        settings.zone_code,
        settings.history_slot,
        days * SLOTS_PER_DAY,
        settings.seed,
        cache_dir(),
    )
    if len(profiles.homes) < MIN_HOMES:
        raise BadUse(
            f"zone {settings.zone_code} has {len(profiles.homes)} homes; totals are published for "
            f"groups of at least {MIN_HOMES} only"
        )
    progress("Reading the zone's grid", 1, 2)
    grid = load_grid(settings.zone_code, cache_dir())
    battery_spec = battery_of(grid)

    accounts = chain.accounts
    offices = Offices(*accounts[1:7])
    progress("Deploying the contracts", 0, 4)
    deployment = deploying.deploy(
        chain,
        Roles(
            registrar=offices.registrar.address,
            collector=offices.collector.address,
            forecaster=offices.forecaster.address,
            guardian=offices.guardian.address,
        ),
        zone=ZONE,
        initial={"grid_fee": settings.tariffs.grid_fee},
    )

    progress("Registering homes and members", 1, 4)
    homes = len(profiles.homes)
    expected = list(range(1, homes + 2))
    people = residents(settings.seed, expected[:homes], settings.tariffs)
    fleet = Fleet.of(settings.seed, expected[:homes])
    battery_gateway = Fleet.of(settings.seed, expected[homes:]).gateways[0]
    owners = [p.account.address for p in people]
    # The battery's metering point belongs to the community; it has no seat among the members.
    owners.append(owner_account(settings.seed, battery_gateway.meter).address)
    devices = [checksum_address(g.address) for g in (*fleet.gateways, battery_gateway)]
    numbers = deploying.register_homes(
        deployment, offices.registrar, zone=ZONE, owners=owners, devices=devices, members=homes
    )
    if numbers != expected:
        raise CheckFailed(f"the registry counts from {numbers[0]}, not from 1: not a fresh chain")

    founding = Founding(deployment, people, offices.relay, settings, battery_spec.max_power_w)

    progress("Paying in the deposits", 2, 4)
    _fund(deployment, offices, [p.meter for p in people])
    if settings.policy:
        _bond(deployment, people[0].account)
    if settings.living:
        for person in people:
            chain.fund(person.account.address, POCKET_WEI)
            deployment["TestEuro"].transact("mint", person.account.address, POCKET)
    _grant(deployment, offices, people, settings)
    progress("Handing everything over to the timelock", 3, 4)
    deploying.hand_over(deployment)

    separator = reading_separator(chain.chain_id, deployment["MeterRegistry"].address)
    battery = CommunityBattery(
        capacity_wh=battery_spec.capacity_wh,
        max_power_w=battery_spec.max_power_w,
        charge_permille=battery_spec.efficiency_permille,
        discharge_permille=1_000,
    )
    # From the seed, so that the same seed gives the same roots: they hide nothing from its knower.
    source = DerivedSecrets(keccak(f"gridcommons demo salts {settings.seed}".encode()))
    with (
        SecretStore(secrets_path(), source=source) as secrets,
        Collector(
            ZONE,
            KeyPeriods.read(deployment["MeterRegistry"], ZONE, deployment.first_block),
            secrets,
            separator,
            lake_dir(),
            inbox_path(),
            clock=chain.now,
        ) as collector,
        BatteryPlant(
            deployment,
            ZONE,
            battery,
            battery_gateway,
            separator,
            # The day before the first one is measured session by session like all that follow.
            (settings.first_slot - SLOTS_PER_DAY) * SLOT_SECONDS,
            home() / "battery",
        ) as plant,
    ):
        world = World(
            settings=settings,
            chain=chain,
            deployment=deployment,
            offices=offices,
            profiles=profiles,
            residents=people,
            fleet=fleet,
            battery_gateway=battery_gateway,
            battery_spec=battery_spec,
            battery=battery,
            plant=plant,
            grid=grid,
            shares=standard_shares(profiles.homes),
            collector=collector,
        )
        world.history_began = time.perf_counter()
        _history(world, founding, progress)
        yield world


def sign(
    world: World, first_slot: int, slots: int, battery_wh: tuple[np.ndarray, np.ndarray]
) -> Readings:
    """What all devices of the zone sign for these slots; the battery's import and export in Wh."""
    separator, gateway = world.reading_separator, world.battery_gateway
    profiles = world.profiles.window(first_slot, slots)
    homes = world.fleet.readings(separator, profiles, world.heads)
    head = world.heads.get(gateway.meter, Head.NONE)
    battery = gateway.readings(separator, first_slot, *battery_wh, head)
    signed = Readings.concat([homes, battery])
    world.heads.update(heads_after(separator, signed))
    return signed


def _fund(deployment: Deployment, offices: Offices, meters: list[int]) -> None:
    """Mint play money, pay every account's deposit, put up the forecaster's bond, and what good
    forecasts are rewarded from."""
    chain = deployment.chain
    token, market = deployment["TestEuro"], deployment["EnergyMarket"]
    relay = offices.relay
    token.transact("mint", relay.address, DEPOSIT * len(meters), sender=chain.deployer)
    token.transact("mint", offices.forecaster.address, BOND, sender=chain.deployer)
    token.transact("mint", relay.address, REWARDS, sender=chain.deployer)
    token.transact("approve", market.address, DEPOSIT * len(meters), sender=relay)
    for start in range(0, len(meters), DEPOSIT_BATCH):
        part = meters[start : start + DEPOSIT_BATCH]
        market.transact("deposit", part, [DEPOSIT] * len(part), sender=relay)
    forecasts = deployment["ForecastRegistry"]
    token.transact("approve", forecasts.address, BOND, sender=offices.forecaster)
    forecasts.transact("deposit_bond", BOND, sender=offices.forecaster)
    token.transact("approve", forecasts.address, REWARDS, sender=relay)
    forecasts.transact("fund_rewards", REWARDS, sender=relay)


def _bond(deployment: Deployment, proposer: LocalAccount) -> None:
    """What a member puts up to propose, and the gas for it."""
    chain, token, governor = deployment.chain, deployment["TestEuro"], deployment["GridGovernor"]
    chain.fund(proposer.address)
    token.transact("mint", proposer.address, PROPOSER_BOND, sender=chain.deployer)
    token.transact("approve", governor.address, PROPOSER_BOND, sender=proposer)
    governor.transact("depositBond", PROPOSER_BOND, sender=proposer)


def _grant(
    deployment: Deployment, offices: Offices, people: list[Resident], settings: Settings
) -> None:
    """Every owner signs what the agent at home may do; the relay brings it to the chain."""
    market = deployment["EnergyMarket"]
    separator = market_separator(deployment.chain.chain_id, market.address)
    last_day = settings.first_slot // SLOTS_PER_DAY + settings.days
    if settings.living:
        last_day = min(MAX_DAY, last_day + _TEN_YEARS)
    for person in people:
        for number, terms in person.mandates(last_day).items():
            digest = mandate_digest(separator, person.meter, number, terms)
            signature = sign_digest(person.account.key, digest)
            grant_signed(market, person.meter, number, terms, signature, offices.relay)


def _history(world: World, founding: Founding, progress: Progress) -> None:
    """Sign, validate and commit the weeks before the first day, a day a batch.

    The last day of them is left to the loop, which commits it session by session as it happens.
    """
    settings = world.settings
    days = settings.history_days - 1
    zeros = np.zeros(SLOTS_PER_DAY, dtype=np.int64)
    for day in range(days):
        first_slot = settings.history_slot + day * SLOTS_PER_DAY
        progress(f"History: {day_of(first_slot)} signed, checked, committed", day, days)
        readings = sign(world, first_slot, SLOTS_PER_DAY, (zeros, zeros))
        commit_at = (first_slot + SLOTS_PER_DAY) * SLOT_SECONDS + COMMIT_DELAY
        founding.until(commit_at)
        world.chain.set_time(commit_at)
        batch, report = world.collector.close_history(readings, first_slot, SLOTS_PER_DAY)
        if report.rejected:
            raise CheckFailed(
                f"{len(report.rejected)} readings of {day_of(first_slot)} were rejected, the "
                f"first for {report.rejected[0][0]}"
            )
        world.commit(batch)
        world.readings += len(readings)
    if not founding.is_over:
        raise CheckFailed("the weeks before the first day were too short for what members decide")
    progress("History is in place", days, days)
