# SPDX-License-Identifier: Apache-2.0
"""A town whose members have decided things: a changed rule, a payment, a grant, a bond forfeited,
a window, and votes that are still open. All of it by real votes on a real chain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dao import deployment as deploying
from dao import governance, membership, treasury
from dao.anvil import AnvilNode
from dao.chain import Chain, LocalAccount
from dao.deployment import Deployment, Pace, Roles
from dao.eip712 import keccak
from dao.governance import Call, Lane, Proposal, Support
from dao.index import Indexer
from dao.parameters import DAY, EURO, HOUR
from dao.runstate import write_run_state
from dao.treasury import Milestone
from tests.dashboard.sample import run_state

ZONE = 1
START = 1_465_171_200
"""6 June 2016, 00:00 UTC."""
MEMBERS = 5
BOND = 100 * EURO
HOSTILE = "</td><img src=x onerror=\"document.title='owned'\">**bold** =1+1 \u202eevil"
"""What somebody may write on the chain to take over a page."""
PAYEE = "0x" + "17" * 20
SCRIPT = f"<script>document.title='owned'</script>{HOSTILE}"


@dataclass
class Town:
    """Everything in hand."""

    folder: Path
    node: AnvilNode
    chain: Chain
    deployment: Deployment
    members: tuple[LocalAccount, ...]
    forecaster: LocalAccount
    relay: LocalAccount
    indexer: Indexer

    def publish(self) -> None:
        """Bring index and state file up to the chain."""
        self.indexer.sync()
        write_run_state(
            run_state(
                sim_time=self.chain.now(), rpc=self.node.url, relay=None, proposals=(), forecasts=()
            ),
            self.folder / "run.json",
        )

    def at(self, seconds: int) -> None:
        """Turn the clock to a moment, unless it is past."""
        self.chain.set_time(max(seconds, self.chain.now()))

    def propose(self, calls: Sequence[Call], words: str, lane: Lane = Lane.ORDINARY) -> Proposal:
        """The first member's proposal, its vote open."""
        governor = self.deployment["GridGovernor"]
        made = governance.propose(governor, list(calls), words, self.members[0], lane=lane)
        self.at(made.snapshot + 1)
        return made

    def vote(self, proposal: Proposal, support: Support = Support.FOR, voters: int = 3) -> None:
        """So many members vote alike."""
        governor = self.deployment["GridGovernor"]
        separator = governance.governor_separator(governor)
        ballots = [
            governance.sign_ballot(
                separator, one.key, one.address, proposal.id, support, HOSTILE, proposal.deadline
            )
            for one in self.members[:voters]
        ]
        governance.cast_ballots(governor, proposal.id, ballots, self.relay)

    def carry_out(self, proposal: Proposal) -> None:
        """Queue and execute what has passed, and free its bond."""
        governor = self.deployment["GridGovernor"]
        self.at(proposal.deadline + 1)
        governor.transact("releaseBond", proposal.id, sender=self.relay)
        governance.queue(governor, proposal, self.relay)
        self.at(self.chain.now() + (DAY if proposal.deadline - proposal.snapshot > DAY else HOUR))
        governance.execute(governor, proposal, self.relay)

    def decide(self, calls: Sequence[Call], words: str, lane: Lane = Lane.ORDINARY) -> Proposal:
        """A proposal that passes and is carried out."""
        made = self.propose(calls, words, lane)
        self.vote(made)
        self.carry_out(made)
        return made

    def rule(self, name: str, value: int) -> Call:
        """The call that changes a rule."""
        return governance.rule_call(self.deployment["GridParameters"], name, value)


@contextmanager
def town(folder: Path) -> Iterator[Town]:
    """The town at the moment after `founded`; GRIDCOMMONS_HOME has to name its folder."""
    with AnvilNode(timestamp=START) as node, Chain.local(node.url) as chain:
        registrar, collector, forecaster, guardian, relay = chain.accounts[1:6]
        deployment = deploying.deploy(
            chain,
            Roles(registrar.address, collector.address, forecaster.address, guardian.address),
            zone=ZONE,
            ordinary=Pace(HOUR, 2 * DAY, 3 * DAY, DAY),
            initial={"admission_delay": DAY, "holding_time": 0, "proposal_bond": 20},
        )
        members = tuple(
            LocalAccount.from_key(keccak(f"townsman {i}".encode())) for i in range(MEMBERS)
        )
        deploying.register_homes(
            deployment,
            registrar,
            zone=ZONE,
            owners=[one.address for one in members],
            devices=[
                LocalAccount.from_key(keccak(f"device {i}".encode())).address
                for i in range(MEMBERS)
            ],
            members=MEMBERS,
        )
        token, governor = deployment["TestEuro"], deployment["GridGovernor"]
        token.transact("mint", deployment["Treasury"].address, 500 * EURO)
        token.transact("mint", forecaster.address, BOND)
        token.transact("mint", members[0].address, 200 * EURO)
        chain.fund(members[0].address)
        for who, spender, amount in (
            (members[0], governor, 200 * EURO),
            (forecaster, deployment["ForecastRegistry"], BOND),
        ):
            token.transact("approve", spender.address, amount, sender=who)
        governor.transact("depositBond", 200 * EURO, sender=members[0])
        deployment["ForecastRegistry"].transact("deposit_bond", BOND, sender=forecaster)
        deploying.hand_over(deployment)
        deploying.write(deployment, folder / "deployment.json")
        chain.set_time(START + DAY + 1)
        membership.complete(deployment["Membership"], list(range(1, MEMBERS + 1)), relay)
        chain.set_time(chain.now() + HOUR)
        indexer = Indexer(
            node.url,
            deployment.index_contracts(),
            folder / "index.sqlite",
            first_block=deployment.first_block,
        )
        made = Town(folder, node, chain, deployment, members, forecaster, relay, indexer)
        made.publish()
        yield made


def live(made: Town) -> None:
    """What the members decide, one after the other, up to votes that are open."""
    money = made.deployment["Treasury"]
    begin = START + 10 * DAY
    made.decide(
        [
            made.rule("grid_fee", 120),
            treasury.budget_call(money, 1, "Upkeep", 60 * EURO, 30 * DAY, begin, begin + 90 * DAY),
        ],
        SCRIPT,
    )
    made.at(begin)
    bill = treasury.pay_call(money, 1, PAYEE, 7 * EURO, HOSTILE)
    made.decide([bill, made.rule("min_order_wh", 75)], "Pay for the new fuse")
    made.decide(
        [
            treasury.grant_call(
                money,
                1,
                PAYEE,
                [
                    Milestone(5 * EURO, begin + 60 * DAY),
                    Milestone(9 * EURO, begin + 80 * DAY, 2, 250_000),
                ],
                "Panels on the school",
            ),
            treasury.recurring_call(
                money, 1, PAYEE, 3 * EURO, 7 * DAY, 4, begin + 14 * DAY, "Light in the street"
            ),
        ],
        "A grant for the school, and the street light",
    )
    abuse = made.propose([made.rule("penalty", 120)], "For nobody's good")
    made.vote(abuse, Support.VETO)
    made.at(abuse.deadline + 1)
    made.deployment["GridGovernor"].transact("releaseBond", abuse.id, sender=made.relay)
    made.at(begin + 15 * DAY)
    treasury.pay_due(money, 1, made.relay)
    tomorrow = (made.chain.now() // DAY + 2) * 96
    parameters = made.deployment["GridParameters"]
    windows = [(tomorrow + 40, 8, 20_000), (tomorrow + 72, 8, -18_000)]
    made.decide(
        [governance.battery_call(parameters, ZONE, windows)], "Charge at noon", Lane.BALANCING
    )
    made.vote(made.propose([made.rule("grid_fee", 135)], "The grid costs more"), voters=2)
    made.publish()
