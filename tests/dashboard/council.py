# SPDX-License-Identifier: Apache-2.0
"""A village whose owners are members: what they propose, and time and keeper that carry it on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dao import governance
from dao.chain import LocalAccount
from dao.governance import Call, Lane, Proposal, State, Support
from dao.keeper.context import Context
from dao.keeper.duties import DUTIES
from dao.keeper.loop import tick
from dao.parameters import COMMUNITY_BATTERY
from tests.dashboard.village import ZONE, Village, village

MEMBERS = 12
KEEPER = 7
POLICY = 1
BOND = 160_000_000


@dataclass
class Council:
    """The village and what its members decide."""

    street: Village

    @property
    def governor(self):
        return self.street.deployment["GridGovernor"]

    @property
    def people(self) -> Sequence[LocalAccount]:
        return self.street.people

    def battery(self, *windows: tuple[int, int, int]) -> Call:
        """A schedule of the community battery: (first slot, slots, W)."""
        return governance.battery_call(self.street.deployment["GridParameters"], ZONE, windows)

    def propose(
        self,
        calls: Sequence[Call],
        description: str,
        lane: Lane = Lane.BALANCING,
        by: int = 1,
    ) -> Proposal:
        """A member's proposal, whose vote is open when this returns unless it is ordinary."""
        made = governance.propose(
            self.governor,
            calls,
            description,
            self.people[by - 1],
            lane=lane,
            policy=POLICY if lane is Lane.POLICY else None,
        )
        self.street.at(made.snapshot + 1)
        return made

    def plan(self, title: str, summary: str, evidence: bytes = bytes(32)) -> str:
        """A description as the balancing plan writes it."""
        told = {"title": title, "summary": summary, "evidence": "0x" + evidence.hex()}
        return json.dumps(told, ensure_ascii=False)

    def vote(self, made: Proposal, members: Sequence[int], support: Support, why: str = "") -> None:
        """Ballots in a batch, as a relay carries them."""
        separator = governance.governor_separator(self.governor)
        signed = [
            governance.sign_ballot(
                separator,
                self.people[one - 1].key,
                self.people[one - 1].address,
                made.id,
                support,
                why,
                made.deadline,
            )
            for one in members
        ]
        governance.cast_ballots(self.governor, made.id, signed, self.street.chain.accounts[6])
        self.street.publish()

    def state(self, made: Proposal) -> State:
        return governance.state(self.governor, made)

    def keep(self) -> None:
        """The keeper's turn: whatever is due."""
        chain = self.street.chain
        context = Context(self.street.deployment, chain.accounts[KEEPER])
        tick(context, DUTIES, chain.now())
        self.street.publish()

    def carried(self, made: Proposal) -> None:
        """Time and the keeper alone: vote over, timelock over."""
        self.street.at(self.deadline(made) + 1)
        self.keep()
        eta = int(self.governor.call("proposalEta", made.id))
        if eta:
            self.street.at(eta + 1)
            self.keep()

    def deadline(self, made: Proposal) -> int:
        return int(self.governor.call("proposalDeadline", made.id))

    def in_force(self, first_slot: int) -> list[tuple[int, int, int]]:
        """The battery's windows of a day on the chain."""
        rows = self.street.deployment["GridParameters"].call(
            "windows_of", ZONE, COMMUNITY_BATTERY, first_slot
        )
        return [(int(r["first_slot"]), int(r["slots"]), int(r["value"])) for r in rows]


@contextmanager
def council(folder: Path, history_days: int = 8) -> Iterator[Council]:
    """A village of members, two of whom have put up a bond, under a standing policy."""
    with village(folder, history_days=history_days, members=MEMBERS) as street:
        made = Council(street)
        deployment, chain = street.deployment, street.chain
        token, timelock = deployment["TestEuro"], deployment["GridTimelock"].address
        chain.rpc("anvil_impersonateAccount", timelock)
        chain.fund(timelock)
        for contract, function, *args in (
            (token, "mint", made.people[0].address, BOND),
            (
                deployment["StandingPolicies"],
                "adopt",
                ZONE,
                COMMUNITY_BATTERY,
                -8_000,
                8_000,
                24,
                1_000_000,
                2,
                chain.now() + 300 * 86_400,
            ),
        ):
            data = "0x" + contract.encode(function, *args).hex()
            request = {"from": timelock, "to": contract.address, "data": data}
            sent = chain.rpc("eth_sendTransactionSync", {**request, "gas": hex(3_000_000)})
            assert sent["status"] == "0x1"
        governor = made.governor
        for one in made.people[:4]:
            chain.fund(one.address)
        token.transact("approve", governor.address, BOND, sender=made.people[0])
        governor.transact("depositBond", BOND, sender=made.people[0])
        street.publish()
        yield made
