# SPDX-License-Identifier: Apache-2.0
"""A street on a real node for the gas figures: contracts as deployed, homes, money, and a clock.

The street signs and packs with the project's own code; what it does on chain is the suite's
business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

from dao import ledger, membership
from dao.anvil import AnvilNode
from dao.chain import Chain, LocalAccount, Receipt
from dao.deployment import Deployment, Roles, deploy, hand_over, register_homes
from dao.eip712 import keccak
from dao.errors import CheckFailed
from dao.market.orders import Order, market_separator, sign_order, sign_receipt
from dao.market.session import DeviceReceipt, SignedOrder, pack_batch
from dao.parameters import KEYS
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY, first_slot_of_day

ZONE = 1
HOMES = 500
MEMBERS = 150
DEPOSIT = 1_000_000_000
BOND = 100_000_000
# Members are admitted after their delay, and have held their membership long enough to propose.
FOUNDING_DAYS = 18
PROPOSERS = 3
DAY_SLOT = first_slot_of_day(date(2016, 6, 6))
DAY = SLOTS_PER_DAY * SLOT_SECONDS
MIDNIGHT = DAY_SLOT * SLOT_SECONDS
_BATCH = 100


def require(condition: bool, otherwise: str) -> None:
    """A figure is worth nothing if the scenario was not what its name says: CheckFailed."""
    if not condition:
        raise CheckFailed(f"benchmark: {otherwise}")


@dataclass
class Street:
    """The deployment with everybody who acts in it. `nonces` counts the orders of each
    account and mandate."""

    chain: Chain
    deployment: Deployment
    owners: tuple[LocalAccount, ...]
    devices: tuple[LocalAccount, ...]
    collector: LocalAccount
    forecaster: LocalAccount
    relay: LocalAccount
    nonces: dict[tuple[int, int], int] = field(default_factory=dict)

    @cached_property
    def separator(self) -> bytes:
        """EIP-712 domain of orders and receipts."""
        return market_separator(self.chain.chain_id, self.deployment["EnergyMarket"].address)

    def at(self, seconds: int) -> None:
        """Turn the clock to so many seconds after midnight of the traded day."""
        self.chain.set_time(MIDNIGHT + seconds)

    def order(
        self,
        account: int,
        side: int,
        limit: int,
        wh: int | tuple[int, ...],
        session_slot: int,
        *,
        mandate: int = 0,
        key: bytes | None = None,
    ) -> SignedOrder:
        """An order from the session's first slot on, signed by its owner, or with the key of the
        mandate's agent."""
        nonce = self.nonces.get((account, mandate), 0)
        self.nonces[account, mandate] = nonce + 1
        made = Order(
            account=account,
            mandate=mandate,
            nonce=nonce,
            expiry=session_slot * SLOT_SECONDS,
            side=side,
            limit=limit,
            session_slot=session_slot,
            offset=0,
            wh=wh,
            count=len(wh) if isinstance(wh, tuple) else 1,
        )
        key = key or self.owners[account - 1].key
        return SignedOrder(made, sign_order(self.separator, made, key))

    def post(self, orders: Sequence[SignedOrder]) -> Receipt:
        """Post a batch in one transaction; all of it has to be taken."""
        receipt = self.deployment["EnergyMarket"].transact(
            "post", ZONE, orders[0].order.session_slot, *pack_batch(orders), sender=self.relay
        )
        turned_away = [e.args["reason"] for e in receipt.events if e.name == "OrderRejected"]
        require(not turned_away, f"orders were turned away for {turned_away[:3]}")
        return receipt

    def receipts(
        self, session_slot: int, exports: Mapping[int, Sequence[int]]
    ) -> dict[int, DeviceReceipt]:
        """What the meters say they exported, Wh per slot of the session, signed."""
        return {
            meter: DeviceReceipt(
                meter,
                tuple(values),
                sign_receipt(
                    self.separator, meter, session_slot, values, self.devices[meter - 1].key
                ),
            )
            for meter, values in exports.items()
        }

    def commit_day(self, day: int) -> Receipt:
        """Commit the totals of a whole day, counted from the traded one; all lanes differ."""
        first_slot = DAY_SLOT + day * SLOTS_PER_DAY
        return ledger.commit(
            self.deployment["ReadingLedger"],
            self.collector,
            zone=ZONE,
            first_slot=first_slot,
            root=keccak(f"root {day}".encode()),
            homes=HOMES,
            leaves=HOMES * SLOTS_PER_DAY,
            net_wh=[self.net_wh(day, i) for i in range(SLOTS_PER_DAY)],
            export_wh=[1_000_000 + 1_000 * i + day for i in range(SLOTS_PER_DAY)],
        )

    @staticmethod
    def net_wh(day: int, slot: int) -> int:
        """What the zone draws, Wh; it gives at noon."""
        return 40_000 - 80_000 * (32 <= slot < 64) + 37 * slot + 101 * day

    def check_conservation(self) -> None:
        """Tokens held = what is owed to accounts, escrow included, + fees due."""
        market, token = self.deployment["EnergyMarket"], self.deployment["TestEuro"]
        held = token.call("balanceOf", market.address)
        due = sum(market.call(part) for part in ("owed", "fees_due"))
        require(held == due, f"the market holds {held} and owes {due}")


@contextmanager
def street(days_before: int) -> Iterator[Street]:
    """A node of its own under Osaka's rules, `days_before` days before the traded day."""
    begin = MIDNIGHT - days_before * DAY
    with (
        AnvilNode(timestamp=begin - FOUNDING_DAYS * DAY) as node,
        Chain.local(node.url) as chain,
    ):
        made = _settle_in(chain)
        chain.set_time(begin)
        yield made


def _settle_in(chain: Chain) -> Street:
    registrar, collector, forecaster, guardian, relay = chain.accounts[1:6]
    deployment = deploy(
        chain,
        Roles(registrar.address, collector.address, forecaster.address, guardian.address),
        zone=ZONE,
    )
    owners = _accounts("owner", HOMES)
    devices = _accounts("device", HOMES)
    numbers = register_homes(
        deployment,
        registrar,
        zone=ZONE,
        owners=[one.address for one in owners],
        devices=[one.address for one in devices],
        members=MEMBERS,
    )
    token, market = deployment["TestEuro"], deployment["EnergyMarket"]
    token.transact("mint", chain.deployer.address, DEPOSIT * HOMES)
    token.transact("mint", forecaster.address, BOND)
    token.transact("approve", market.address, DEPOSIT * HOMES)
    for start in range(0, HOMES, _BATCH):
        part = numbers[start : start + _BATCH]
        market.transact("deposit", part, [DEPOSIT] * len(part))
    forecasts, governor = deployment["ForecastRegistry"], deployment["GridGovernor"]
    token.transact("approve", forecasts.address, BOND, sender=forecaster)
    forecasts.transact("deposit_bond", BOND, sender=forecaster)
    for owner in owners[:PROPOSERS]:
        chain.fund(owner.address)
        token.transact("mint", owner.address, BOND)
        token.transact("approve", governor.address, BOND, sender=owner)
        governor.transact("depositBond", BOND, sender=owner)
    hand_over(deployment)
    delay = int(deployment["GridParameters"].call("value", KEYS["admission_delay"]))
    chain.set_time(chain.now() + delay)
    membership.complete(deployment["Membership"], numbers[:MEMBERS], relay)
    return Street(chain, deployment, owners, devices, collector, forecaster, relay)


def _accounts(kind: str, count: int) -> tuple[LocalAccount, ...]:
    return tuple(
        LocalAccount.from_key(keccak(f"benchmark {kind} {i}".encode())) for i in range(count)
    )
