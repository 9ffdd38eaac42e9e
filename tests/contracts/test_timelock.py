# SPDX-License-Identifier: Apache-2.0
"""What is scheduled waits, runs once and as a whole, and only when those who may say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import boa
import pytest
from eth_abi import encode
from eth_utils import keccak

from tests.contracts.governance_fixtures import (
    DAY,
    HOUR,
    START,
    ZERO_HASH,
    deploy,
    event_signatures,
    events,
    new_parameters,
    reverts,
)

SALT = keccak(text="salt")


@dataclass
class Bench:
    timelock: Any
    parameters: Any

    def batch(self, *fees: int, salt: bytes = SALT, predecessor: bytes = ZERO_HASH) -> Any:
        calls = [self.parameters.set_value.prepare_calldata(7, fee) for fee in fees]
        targets = [self.parameters.address] * len(calls)
        return targets, [0] * len(calls), calls, predecessor, salt

    def operation(self, batch: Any) -> bytes:
        return bytes(self.timelock.hashOperationBatch(*batch))

    def schedule(self, batch: Any, delay: int = HOUR) -> bytes:
        operation = self.operation(batch)
        self.timelock.scheduleBatch(*batch, delay)
        return operation


@pytest.fixture(scope="module")
def deployed() -> Bench:
    boa.env.timestamp = START
    owner = str(boa.env.eoa)
    timelock = deploy("GridTimelock", HOUR, owner)
    for role in ("PROPOSER_ROLE", "CANCELLER_ROLE", "EXECUTOR_ROLE"):
        timelock.grantRole(keccak(text=role), owner)
    parameters = new_parameters()
    parameters.transfer_ownership(timelock.address)
    return Bench(timelock, parameters)


@pytest.fixture
def bench(deployed: Bench) -> Any:
    with boa.env.anchor():
        yield deployed


@pytest.fixture
def mallory() -> str:
    return str(boa.env.generate_address("mallory"))


def test_a_scheduled_batch_runs_after_its_delay(bench: Bench) -> None:
    batch = bench.batch(60)
    operation = bench.operation(batch)
    bench.schedule(batch)
    assert len(events(bench.timelock, "CallScheduled")) == 1
    assert bench.timelock.isOperationPending(operation)
    assert not bench.timelock.isOperationReady(operation)
    boa.env.timestamp += HOUR
    assert bench.timelock.isOperationReady(operation)
    bench.timelock.executeBatch(*batch)
    assert len(events(bench.timelock, "CallExecuted")) == 1
    assert bench.timelock.isOperationDone(operation)
    assert bench.parameters.value(7) == 60


def test_the_id_is_openzeppelins(bench: Bench) -> None:
    batch = bench.batch(60, 61)
    types = ["address[]", "uint256[]", "bytes[]", "bytes32", "bytes32"]
    assert bench.operation(batch) == keccak(encode(types, batch))


def test_nothing_runs_early(bench: Bench) -> None:
    batch = bench.batch(60)
    bench.schedule(batch)
    boa.env.timestamp += HOUR - 1
    with reverts("timelock: not ready"):
        bench.timelock.executeBatch(*batch)


def test_nothing_runs_twice(bench: Bench) -> None:
    batch = bench.batch(60)
    bench.schedule(batch)
    boa.env.timestamp += HOUR
    bench.timelock.executeBatch(*batch)
    with reverts("timelock: not scheduled"):
        bench.timelock.executeBatch(*batch)


def test_nothing_runs_unscheduled(bench: Bench) -> None:
    with reverts("timelock: not scheduled"):
        bench.timelock.executeBatch(*bench.batch(60))


def test_nothing_is_scheduled_twice(bench: Bench) -> None:
    batch = bench.batch(60)
    bench.schedule(batch)
    with reverts("timelock: already scheduled"):
        bench.timelock.scheduleBatch(*batch, HOUR)


def test_what_was_done_is_not_scheduled_again(bench: Bench) -> None:
    batch = bench.batch(60)
    bench.schedule(batch)
    boa.env.timestamp += HOUR
    bench.timelock.executeBatch(*batch)
    with reverts("timelock: already scheduled"):
        bench.timelock.scheduleBatch(*batch, HOUR)


def test_another_salt_is_another_operation(bench: Bench) -> None:
    assert bench.schedule(bench.batch(60)) != bench.schedule(
        bench.batch(60, salt=keccak(text="other"))
    )


def test_one_failing_call_undoes_the_others(bench: Bench) -> None:
    batch = bench.batch(60, 1_000)
    operation = bench.schedule(batch)
    boa.env.timestamp += HOUR
    with reverts("parameters: value out of bounds"):
        bench.timelock.executeBatch(*batch)
    assert bench.parameters.value(7) == 50
    assert bench.timelock.isOperationReady(operation)


def test_a_call_to_nowhere_does_not_look_executed(bench: Bench, mallory: str) -> None:
    _, *rest = bench.batch(60)
    batch = ([mallory], *rest)
    bench.schedule(batch)
    boa.env.timestamp += HOUR
    with reverts("timelock: target has no code"):
        bench.timelock.executeBatch(*batch)


def test_a_predecessor_comes_first(bench: Bench) -> None:
    first = bench.batch(60)
    second = bench.batch(61, predecessor=bench.schedule(first))
    bench.schedule(second)
    boa.env.timestamp += HOUR
    with reverts("timelock: predecessor not done"):
        bench.timelock.executeBatch(*second)


def test_no_batch_runs_inside_another(bench: Bench) -> None:
    inner = bench.batch(60)
    bench.schedule(inner)
    bench.timelock.grantRole(bench.timelock.EXECUTOR_ROLE(), bench.timelock.address)
    call = bench.timelock.executeBatch.prepare_calldata(*inner)
    outer = ([bench.timelock.address], [0], [call], ZERO_HASH, SALT)
    bench.schedule(outer)
    boa.env.timestamp += HOUR
    with pytest.raises(boa.BoaError):
        bench.timelock.executeBatch(*outer)
    assert bench.parameters.value(7) == 50
    bench.timelock.executeBatch(*inner)
    assert bench.parameters.value(7) == 60


def test_a_cancelled_batch_does_not_run(bench: Bench) -> None:
    batch = bench.batch(60)
    bench.timelock.cancel(bench.schedule(batch))
    boa.env.timestamp += HOUR
    with reverts("timelock: not scheduled"):
        bench.timelock.executeBatch(*batch)


def test_what_was_done_cannot_be_cancelled(bench: Bench) -> None:
    batch = bench.batch(60)
    operation = bench.schedule(batch)
    boa.env.timestamp += HOUR
    bench.timelock.executeBatch(*batch)
    with reverts("timelock: not pending"):
        bench.timelock.cancel(operation)


def test_only_proposers_schedule(bench: Bench, mallory: str) -> None:
    with boa.env.prank(mallory), reverts("access_control: account is missing role"):
        bench.timelock.scheduleBatch(*bench.batch(60), HOUR)


def test_only_executors_execute(bench: Bench, mallory: str) -> None:
    batch = bench.batch(60)
    bench.schedule(batch)
    boa.env.timestamp += HOUR
    with boa.env.prank(mallory), reverts("access_control: account is missing role"):
        bench.timelock.executeBatch(*batch)


def test_only_cancellers_cancel(bench: Bench, mallory: str) -> None:
    operation = bench.schedule(bench.batch(60))
    with boa.env.prank(mallory), reverts("access_control: account is missing role"):
        bench.timelock.cancel(operation)


def test_an_admin_who_renounced_grants_nothing(bench: Bench, mallory: str) -> None:
    bench.timelock.renounceRole(ZERO_HASH, boa.env.eoa)
    with reverts("access_control: account is missing role"):
        bench.timelock.grantRole(bench.timelock.PROPOSER_ROLE(), mallory)


def test_whoever_deploys_is_no_admin_by_that() -> None:
    with boa.env.anchor():
        timelock = deploy("GridTimelock", HOUR, "0x" + "00" * 20)
        assert not timelock.hasRole(ZERO_HASH, boa.env.eoa)
        assert timelock.hasRole(ZERO_HASH, timelock.address)


def test_a_delay_below_the_minimum_is_refused(bench: Bench) -> None:
    with reverts("timelock: delay below the minimum"):
        bench.timelock.scheduleBatch(*bench.batch(60), HOUR - 1)


def test_a_delay_above_the_maximum_is_refused(bench: Bench) -> None:
    with reverts("timelock: delay above the maximum"):
        bench.timelock.scheduleBatch(*bench.batch(60), 31 * DAY)


def test_only_the_timelock_sets_its_delay(bench: Bench) -> None:
    with reverts("timelock: caller is not the timelock"):
        bench.timelock.updateDelay(2 * HOUR)


def run_update(bench: Bench, delay: int) -> None:
    call = bench.timelock.updateDelay.prepare_calldata(delay)
    batch = ([bench.timelock.address], [0], [call], ZERO_HASH, SALT)
    bench.schedule(batch)
    boa.env.timestamp += HOUR
    bench.timelock.executeBatch(*batch)


def test_the_timelock_sets_its_delay_through_itself(bench: Bench) -> None:
    run_update(bench, 2 * HOUR)
    assert bench.timelock.getMinDelay() == 2 * HOUR


@pytest.mark.parametrize("delay", [899, 30 * DAY + 1])
def test_the_delay_has_bounds(bench: Bench, delay: int) -> None:
    with reverts("timelock: delay out of range"):
        run_update(bench, delay)


def test_lists_of_unequal_length_are_refused(bench: Bench) -> None:
    targets, values, calls, predecessor, salt = bench.batch(60)
    with reverts("timelock: one value per target"):
        bench.timelock.scheduleBatch(targets, [], calls, predecessor, salt, HOUR)
    with reverts("timelock: one payload per target"):
        bench.timelock.scheduleBatch(targets, values, [], predecessor, salt, HOUR)


def test_indexers_find_openzeppelins_events() -> None:
    assert event_signatures("GridTimelock") >= {
        "CallScheduled(bytes32,uint256,address,uint256,bytes,bytes32,uint256)",
        "CallExecuted(bytes32,uint256,address,uint256,bytes)",
        "CallSalt(bytes32,bytes32)",
        "Cancelled(bytes32)",
        "MinDelayChange(uint256,uint256)",
    }
