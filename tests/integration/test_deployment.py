# SPDX-License-Identifier: Apache-2.0
"""A deployment on a real node: who holds what afterwards, and finding it again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dao import deployment as deploying
from dao.anvil import AnvilNode
from dao.chain import Chain, ContractReverted
from dao.deployment import OWNED, Deployment, Roles
from dao.errors import BadUse, CheckFailed

ZONE = 1


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with AnvilNode() as node, Chain.local(node.url) as opened:
        yield opened


def roles(chain: Chain) -> Roles:
    return Roles(*(account.address for account in chain.accounts[1:5]))


@pytest.fixture(scope="module")
def deployed(chain: Chain) -> Deployment:
    made = deploying.deploy(chain, roles(chain), zone=ZONE)
    deploying.hand_over(made)
    return made


def test_the_timelock_owns_everything_and_the_deployer_nothing(deployed: Deployment) -> None:
    timelock = deployed["GridTimelock"].address
    assert {deployed[name].call("owner") for name in OWNED} == {timelock}
    held = deploying.privileges(deployed, deployed.chain.deployer.address)
    assert not any(held.values()), held


def test_the_deployer_can_change_no_rule_any_more(deployed: Deployment) -> None:
    parameters = deployed["GridParameters"]
    for call in (
        ("set_value", 7, 120),
        ("open_window", ZONE, 1_000, 2_000_000, 4, 1_000),
        ("transfer_ownership", deployed.chain.deployer.address),
    ):
        with pytest.raises(ContractReverted, match="caller is not the owner"):
            parameters.transact(*call, sender=deployed.chain.deployer)


def test_the_governor_holds_the_timelocks_roles(deployed: Deployment) -> None:
    held = deploying.privileges(deployed, deployed["GridGovernor"].address)
    assert [name for name, holds in held.items() if holds] == [
        "GridTimelock.PROPOSER_ROLE",
        "GridTimelock.CANCELLER_ROLE",
        "GridTimelock.EXECUTOR_ROLE",
    ]


def test_a_deployment_is_found_again_by_its_file(deployed: Deployment, tmp_path: Path) -> None:
    path = tmp_path / "deployment.json"
    deploying.write(deployed, path)
    found = deploying.read(deployed.chain, path)
    assert found.as_dict() == deployed.as_dict()
    assert found["GridParameters"].call("value", 7) == 110


def test_a_file_of_another_chain_or_make_is_refused(deployed: Deployment, tmp_path: Path) -> None:
    path = tmp_path / "deployment.json"
    path.write_text(json.dumps({**deployed.as_dict(), "chain_id": 1}))
    with pytest.raises(CheckFailed, match="chain 1"):
        deploying.read(deployed.chain, path)
    path.write_text("[]")
    with pytest.raises(BadUse, match="not a deployment file"):
        deploying.read(deployed.chain, path)


def test_a_token_of_somebody_else_keeps_its_owner(chain: Chain, deployed: Deployment) -> None:
    token = deployed["TestEuro"]
    other = deploying.deploy(chain, roles(chain), zone=ZONE, token=token.address)
    deploying.hand_over(other)
    assert token.call("owner") == deployed["GridTimelock"].address
    assert other["EnergyMarket"].call("contracts")[0] == token.address


def test_first_values_of_rules_are_taken_within_their_bounds(chain: Chain) -> None:
    made = deploying.deploy(chain, roles(chain), zone=ZONE, initial={"grid_fee": 150})
    assert made["GridParameters"].call("value", 7) == 150
    with pytest.raises(BadUse, match=r"grid_fee 501: expected 0\.\.500"):
        deploying.deploy(chain, roles(chain), zone=ZONE, initial={"grid_fee": 501})
    with pytest.raises(BadUse, match="no rule 'fee'"):
        deploying.deploy(chain, roles(chain), zone=ZONE, initial={"fee": 1})
