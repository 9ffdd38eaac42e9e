# SPDX-License-Identifier: Apache-2.0
"""A treasury on titanoboa with real meters, a real ledger and real leaves.

The governor and the timelock are played by one small contract that owns the treasury and says
which proposal it is executing, so that these tests are about the treasury alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import boa
import numpy as np

from dao.ledger import pack_totals
from meters.leaves import leaves_of, month_of, proof_of, root_of_leaves, salt_of
from meters.readings import Quality, Reading, Readings
from meters.secrets import DerivedSecrets
from tests.contracts.governance_fixtures import DAY, START, deploy, new_parameters

EURO = 1_000_000
MONTH = 30 * DAY
YEAR = 12 * MONTH
HOMES = 16
FIRST_SLOT = START // 900
FINALITY = 3 * DAY
SOLAR, PLAYGROUND = 1, 2
BY_VOTE, BY_EVIDENCE = 0, 1
OPEN, PAID, LAPSED, CANCELLED = range(4)
SECRETS = DerivedSecrets(b"treasury test secrets")

EXECUTOR = """
# pragma version ~=0.4.3
executing: public(transient(uint256))

@external
def run(proposal: uint256, target: address, data: Bytes[4_096]):
    self.executing = proposal
    raw_call(target, data)
    self.executing = 0
"""


@dataclass(frozen=True)
class Tree:
    """A committed batch: readings, leaves, and where each stands."""

    zone: int
    first_slot: int
    rows: list[Reading]
    leaves: list[bytes]

    def evidence(self, meter: int, slot: int) -> tuple[int, int, int, int, bytes, list[bytes]]:
        """One leaf as `submit_evidence` takes it."""
        index = next(i for i, row in enumerate(self.rows) if (row.meter, row.slot) == (meter, slot))
        row = self.rows[index]
        imported = 0xFFFFFFFF if row.import_wh is None else row.import_wh
        exported = 0xFFFFFFFF if row.export_wh is None else row.export_wh
        path = proof_of(self.leaves, index)
        return self.first_slot, slot, imported, exported, salt(meter, slot), path


def salt(meter: int, slot: int) -> bytes:
    month = int(month_of(np.array([slot]))[0])
    return salt_of(SECRETS.month_secret(meter, month), slot)


@dataclass
class TreasuryWorld:
    treasury: Any
    token: Any
    registry: Any
    ledger: Any
    executor: Any
    collector: str
    deployer: str
    payee: str
    other: str
    _proposals: int = field(default=0)

    def act(self, function: str, *args: Any, proposal: int | None = None) -> int:
        """What a proposal decides, executed; a new proposal unless one is named."""
        if proposal is None:
            self._proposals += 1
            proposal = self._proposals
        data = getattr(self.treasury, function).prepare_calldata(*args)
        self.executor.run(proposal, self.treasury.address, data)
        return proposal

    def logged(self, name: str, contract: Any = None) -> list[Any]:
        found = (contract or self.executor).get_logs(strict=False)
        return [event for event in found if type(event).__name__ == name]

    def budget(
        self,
        purpose: int = SOLAR,
        amount: int = 1_000 * EURO,
        period: int = MONTH,
        starts_at: int | None = None,
        ends_at: int | None = None,
        name: str = "Solar roofs",
    ) -> None:
        start = boa.env.timestamp if starts_at is None else starts_at
        self.act("set_budget", purpose, name, amount, period, start, ends_at or start + YEAR)

    def pay(self, amount: int, reference: str = "why", **others: Any) -> int:
        purpose = others.pop("purpose", SOLAR)
        payee = others.pop("payee", self.payee)
        return self.act("pay", purpose, payee, amount, reference, **others)

    def voted(self, amount: int, expires_in: int = YEAR) -> tuple[int, int, int, int, int]:
        return amount, BY_VOTE, 0, 0, boa.env.timestamp + expires_in

    def metered(
        self, amount: int, threshold_wh: int, meter: int = 1, expires_in: int = YEAR
    ) -> tuple[int, int, int, int, int]:
        return amount, BY_EVIDENCE, meter, threshold_wh, boa.env.timestamp + expires_in

    def grant(self, *milestones: Sequence[int], purpose: int = SOLAR, **others: Any) -> int:
        payee, reference = others.pop("payee", self.payee), others.pop("reference", "a roof")
        self.act("grant", purpose, payee, list(milestones), reference, **others)
        return int(self.treasury.grant_count())

    def measure(
        self,
        export: Callable[[int, int], int | None] = lambda meter, slot: 100,
        zone: int = 1,
        day: int = 0,
        slots: int = 96,
        quality: Callable[[int, int], Quality] = lambda meter, slot: Quality.MEASURED,
        final: bool = True,
    ) -> Tree:
        """Readings of a zone's day, committed; and the clock turned until they are final."""
        tree = self.tree(export, zone, day, slots, quality)
        end = (tree.first_slot + slots) * 900
        boa.env.timestamp = max(boa.env.timestamp, end)
        with boa.env.prank(self.collector):
            self.ledger.commit(
                zone,
                tree.first_slot,
                slots,
                root_of_leaves(tree.leaves),
                HOMES,
                len(tree.leaves),
                pack_totals([0] * slots, [0] * slots),
            )
        if final:
            boa.env.timestamp = max(boa.env.timestamp, START + (day + 1) * DAY + FINALITY)
        return tree

    def tree(
        self,
        export: Callable[[int, int], int | None],
        zone: int = 1,
        day: int = 0,
        slots: int = 96,
        quality: Callable[[int, int], Quality] = lambda meter, slot: Quality.MEASURED,
    ) -> Tree:
        first = FIRST_SLOT + 96 * day
        meters = range((zone - 1) * HOMES + 1, zone * HOMES + 1)
        rows = [
            Reading(meter, slot, 5, export(meter, slot), quality(meter, slot))
            for meter in meters
            for slot in range(first, first + slots)
        ]
        return Tree(zone, first, rows, leaves_of(Readings.of(rows), SECRETS))

    def show(
        self, grant_id: int, milestone: int, leaves: Sequence[Any], sender: str | None = None
    ) -> None:
        with boa.env.prank(sender or self.other):
            self.treasury.submit_evidence(grant_id, milestone, list(leaves))

    def state(self, grant_id: int, milestone: int) -> tuple[int, int]:
        """Wh shown, and what became of the milestone."""
        found = self.treasury.milestone_of(grant_id, milestone)
        return found.produced_wh, found.state


def new_world(token: Any = None, money: int = 10_000 * EURO) -> TreasuryWorld:
    """Two zones of 16 homes; a treasury with money, handed to its executor."""
    boa.env.timestamp = START
    deployer = str(boa.env.eoa)
    collector, payee, other = (
        str(boa.env.generate_address(name)) for name in ("collector", "payee", "other")
    )
    if token is None:
        token = deploy("TestEuro")
    parameters = new_parameters()
    registry = deploy("MeterRegistry", deployer)
    for zone in (1, 2):
        owners = [str(boa.env.generate_address()) for _ in range(HOMES)]
        devices = [str(boa.env.generate_address()) for _ in range(HOMES)]
        registry.register_batch(owners, devices, zone)
    ledger = deploy("ReadingLedger", parameters.address)
    for zone in (1, 2):
        ledger.set_collector(zone, collector)
    treasury = deploy("Treasury", token.address, registry.address, ledger.address)
    executor = boa.loads(EXECUTOR)
    treasury.set_governor(executor.address)
    treasury.transfer_ownership(executor.address)
    token.mint(treasury.address, money)
    return TreasuryWorld(
        treasury, token, registry, ledger, executor, collector, deployer, payee, other
    )
