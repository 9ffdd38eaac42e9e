# SPDX-License-Identifier: Apache-2.0
"""What the members do in the weeks before the first day: join, and agree on a standing policy.

Each step waits for its hour on chain time, as it would for real: a member is admitted after the
delay, may propose after the holding time, and an ordinary vote takes days.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dao import governance, membership
from dao.chain import LocalAccount
from dao.deployment import Deployment
from dao.governance import Call, Lane, Proposal
from dao.parameters import COMMUNITY_BATTERY, DAY, KEYS
from scripts._simulation.people import Resident, ballots_of
from scripts._simulation.settings import ZONE, Settings

PROPOSER_BOND = 20_000_000
POLICY = 1
"""The number of the first policy."""
VETO_HOURS = 3
# Half of all quarter-hours at full power: more than a sunny month takes.
_BUDGET_SLOTS = 30 * 48
_MAX_SLOTS = 96


@dataclass(frozen=True)
class Step:
    """Something due at a unix time; it may tell what comes after it."""

    at: int
    run: Callable[[], list[Step]]


class Founding:
    """The weeks before the first day, step by step."""

    def __init__(
        self,
        deployment: Deployment,
        people: list[Resident],
        relay: LocalAccount,
        settings: Settings,
        battery_w: int,
    ) -> None:
        self._deployment = deployment
        self._people = people
        self._relay = relay
        self._settings = settings
        self._battery_w = battery_w
        # The registrar announced all members when their homes were registered.
        delay = self._rule("admission_delay")
        self._steps = [Step(deployment.chain.now() + delay, self._admit)]

    def until(self, when: int) -> None:
        """Live through what is due up to the unix time `when`."""
        while self._steps and self._steps[0].at <= when:
            step = self._steps.pop(0)
            self._deployment.chain.set_time(step.at)
            self._steps = step.run() + self._steps

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return not self._steps

    def _admit(self) -> list[Step]:
        members = [person.meter for person in self._people]
        membership.complete(self._deployment["Membership"], members, self._relay)
        if not self._settings.policy:
            return []
        return [Step(self._now() + self._rule("holding_time"), self._propose)]

    def _propose(self) -> list[Step]:
        governor, policies = self._deployment["GridGovernor"], self._deployment["StandingPolicies"]
        terms = (
            ZONE,
            COMMUNITY_BATTERY,
            -self._battery_w,
            self._battery_w,
            _MAX_SLOTS,
            _BUDGET_SLOTS * self._battery_w,
            VETO_HOURS,
            self._now() + 360 * DAY,
        )
        proposal = governance.propose(
            governor,
            [Call(policies.address, policies.encode("adopt", *terms))],
            "Let the community battery be scheduled for a day without a vote each time: up to its "
            f"rated power, unless a tenth of us object within {VETO_HOURS} hours.",
            self._people[0].account,
            lane=Lane.ORDINARY,
        )
        return [
            Step(proposal.snapshot + 1, lambda: self._vote(proposal)),
            Step(proposal.deadline + 1, lambda: self._queue(proposal)),
        ]

    def _vote(self, proposal: Proposal) -> list[Step]:
        governor = self._deployment["GridGovernor"]
        separator = governance.governor_separator(governor)
        ballots = [
            governance.sign_ballot(
                separator,
                member.account.key,
                member.account.address,
                proposal.id,
                support,
                "",
                proposal.deadline,
            )
            for member, support, _ in ballots_of(self._settings.seed, 0, self._people, "accept")
        ]
        governance.cast_ballots(governor, proposal.id, ballots, self._relay)
        return []

    def _queue(self, proposal: Proposal) -> list[Step]:
        governor = self._deployment["GridGovernor"]
        ready = governance.queue(governor, proposal, self._relay)
        governor.transact("releaseBond", proposal.id, sender=self._relay)

        def execute() -> list[Step]:
            governance.execute(governor, proposal, self._relay)
            return []

        return [Step(ready, execute)]

    def _rule(self, name: str) -> int:
        return int(self._deployment["GridParameters"].call("value", KEYS[name]))

    def _now(self) -> int:
        return self._deployment.chain.now()
