# SPDX-License-Identifier: Apache-2.0
"""Simulations on a fork of a real node: what they foretell happens, what was altered is found."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.street import DAY_SLOT, ZONE, Street
from dao.chain import ContractReverted, Event
from dao.errors import BadUse, CheckFailed
from dao.governance import Call, Lane, battery_call, rule_call, terms_of
from dao.governance.simulate import (
    Moment,
    Record,
    canonical,
    parse_record,
    record_hash,
    simulate,
    verify,
    write_record,
)
from dao.parameters import KEYS
from tests.dao.governance.conftest import accept, carry_out, governor, parameters, propose

LATER = DAY_SLOT + 960


def set_fee(on: Street, value: int = 120) -> Call:
    return rule_call(parameters(on), "grid_fee", value)


def mint(on: Street, amount: int) -> Call:
    token = on.deployment["TestEuro"]
    return Call(token.address, token.encode("mint", on.owners[7].address, amount))


@pytest.fixture(scope="module")
def record(on: Street) -> Record:
    """Two rules move, two windows open and somebody is paid, eight days from now."""
    return simulate(
        on.deployment,
        [
            rule_call(parameters(on), "penalty", 90),
            battery_call(parameters(on), ZONE, [(LATER, 8, 60_000), (LATER + 20, 4, -60_000)]),
            mint(on, 2_500_000),
        ],
        queued_at=on.chain.now() + 8 * 86_400,
    )


def test_a_record_tells_rules_windows_money_and_events(on: Street, record: Record) -> None:
    assert (record["outcome"], record["reason"]) == ("executed", None)
    moved = {k: v for k, v in record["rules"].items() if v["before"] != v["after"]}
    assert moved == {"penalty": {"before": 100, "after": 90}}
    assert set(record["rules"]) == set(KEYS)
    assert [(w["first_slot"], w["value"]) for w in record["windows"]] == [
        (LATER, 60_000),
        (LATER + 20, -60_000),
    ]
    paid = record["balances"][on.owners[7].address]
    assert paid["after"] - paid["before"] == 2_500_000
    own = [e["event"] for e in record["events"] if e["contract"] != "GridTimelock"]
    assert own == ["ValueChanged", "WindowOpened", "WindowOpened", "Transfer"]
    assert 100_000 < record["gas"] < 1_000_000


def test_nothing_happens_on_the_chain_itself(on: Street, record: Record) -> None:
    block = on.chain.block_number()
    simulate(on.deployment, [set_fee(on)])
    assert on.chain.block_number() == block
    assert parameters(on).call("value", KEYS["grid_fee"]) == 110


def test_a_record_comes_out_the_same_when_run_again(on: Street, record: Record) -> None:
    assert verify(record, on.deployment).difference is None


def test_a_record_holds_after_the_chain_went_on(on: Street) -> None:
    made = simulate(on.deployment, [set_fee(on)])
    on.chain.mine(40)
    assert verify(made, on.deployment).difference is None


def test_the_hash_does_not_depend_on_the_spelling(record: Record, tmp_path: Path) -> None:
    file = tmp_path / "new" / "record.json"
    write_record(record, file)
    read = parse_record(file.read_bytes(), "record.json")
    assert record_hash(read) == record_hash(record)
    backwards = json.dumps(dict(reversed(record.items()))).encode()
    assert record_hash(parse_record(backwards, "backwards")) == record_hash(record)


@pytest.mark.parametrize(
    ("alter", "place"),
    [
        (lambda r: r["rules"]["grid_fee"].update(after=130), "rules.grid_fee.after: 130"),
        (lambda r: r["rules"].pop("penalty"), "rules.penalty: missing in the record"),
        (lambda r: r["rules"].update(free_beer={}), "rules.free_beer: in the record, but not"),
        (lambda r: r["windows"].pop(), "windows: 1 entries in the record, 2"),
        (lambda r: r["events"].reverse(), "events.0"),
        (lambda r: r["events"][0].update(event="Other"), "events.0.event"),
        (lambda r: r["calls"][0].update(value="1"), "outcome"),
        (lambda r: r.update(outcome="reverted"), "outcome"),
        (lambda r: r.update(gas=r["gas"] - 1), "gas"),
        (lambda r: r.update(delay=r["delay"] - 1), "outcome: "),
        (lambda r: r.update(queued_at=0), "queued_at"),
        (lambda r: r.update(chain_id=1), "chain_id: 1 in the record"),
        (lambda r: r["block"].update(hash="0x" + "00" * 32), "block.hash"),
        (lambda r: r["block"].update(time=1), "block.time"),
        (lambda r: r["contracts"].update(GridTimelock="0x00"), "contracts.GridTimelock"),
        (lambda r: r.update(note="trust me"), "note: in the record, but not"),
    ],
)
def test_a_record_that_was_altered_is_told_with_the_place(
    on: Street, record: Record, alter: Callable[[Any], Any], place: str
) -> None:
    altered = copy.deepcopy(record)
    alter(altered)
    assert record_hash(altered) != record_hash(record)
    difference = verify(altered, on.deployment).difference
    assert difference is not None
    assert difference.startswith(place)


def test_other_calls_under_the_same_record_do_not_hold(on: Street, record: Record) -> None:
    altered = copy.deepcopy(record)
    altered["calls"][2]["calldata"] = "0x" + mint(on, 2_500_001).calldata.hex()
    difference = verify(altered, on.deployment).difference
    assert difference is not None
    assert "2500000 in the record, 2500001 when run again" in difference


def test_a_call_that_fails_is_told_with_its_reason(on: Street) -> None:
    made = simulate(on.deployment, [set_fee(on, 120), set_fee(on, 5_000)])
    assert (made["outcome"], made["reason"]) == ("reverted", "parameters: value out of bounds")
    assert made["events"] == []
    assert made["rules"]["grid_fee"] == {"before": 110, "after": 110}
    assert verify(made, on.deployment).difference is None


def test_a_window_that_has_begun_by_then_fails_in_the_simulation_too(on: Street) -> None:
    first = on.chain.now() // 900 + 8
    calls = [battery_call(parameters(on), ZONE, [(first, 4, 1_000)])]
    assert simulate(on.deployment, calls)["outcome"] == "executed"
    late = simulate(on.deployment, calls, queued_at=on.chain.now() + 3 * 3_600)
    assert late["reason"] == "parameters: window has begun"


def test_a_call_to_nowhere_and_a_delay_too_short_are_told(on: Street) -> None:
    nowhere = simulate(on.deployment, [Call("0x" + "77" * 20, b"\x01\x02\x03\x04")])
    assert nowhere["reason"] == "timelock: target has no code"
    hasty = simulate(on.deployment, [set_fee(on)], delay=1)
    assert hasty["reason"] == "not scheduled: timelock: delay below the minimum"


def test_what_no_proposal_can_hold_is_refused(on: Street) -> None:
    with pytest.raises(BadUse, match="no calls"):
        simulate(on.deployment, [])
    with pytest.raises(BadUse, match="9 calls"):
        simulate(on.deployment, [set_fee(on)] * 9)
    with pytest.raises(BadUse, match="not after the block's time"):
        simulate(on.deployment, [set_fee(on)], queued_at=1)


def test_a_block_that_is_not_there_is_told(on: Street) -> None:
    with pytest.raises(CheckFailed, match="has no block"):
        simulate(on.deployment, [set_fee(on)], block=10**9)


# Effects


def fee_of_a_day(before: Moment, after: Moment) -> dict[str, int]:
    """What 10 kWh cost in fees, read from the chain at both moments."""
    return {
        name: 10_000 * int(moment.call("GridParameters", "value", KEYS["grid_fee"]))
        for name, moment in (("before", before), ("after", after))
    }


def test_a_callers_effect_is_computed_from_both_moments(on: Street) -> None:
    effects = {"fee_of_10_kwh": fee_of_a_day}
    made = simulate(on.deployment, [set_fee(on)], effects=effects)
    assert made["effects"] == {"fee_of_10_kwh": {"before": 1_100_000, "after": 1_200_000}}
    assert verify(made, on.deployment, effects).difference is None
    altered = copy.deepcopy(made)
    altered["effects"]["fee_of_10_kwh"]["after"] = 0
    verdict = verify(altered, on.deployment, effects)
    assert verdict.difference is not None
    assert verdict.difference.startswith("effects.fee_of_10_kwh.after: 0 in the record")


def test_an_effect_that_nobody_here_can_compute_is_named(on: Street) -> None:
    made = simulate(on.deployment, [set_fee(on)], effects={"bill": lambda before, after: 1})
    verdict = verify(made, on.deployment)
    assert (verdict.difference, verdict.unchecked) == (None, ("bill",))


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}])
def test_an_effect_that_is_no_json_is_refused(on: Street, value: Any) -> None:
    with pytest.raises(BadUse, match="the effect odd is not JSON"):
        simulate(on.deployment, [set_fee(on)], effects={"odd": lambda before, after: value})


# Files


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "no record of a simulation"),
        (b'{"format": "another"}', "no record of a simulation"),
        (b'{"format": "gridcommons-simulation/1"}', "chain_id is missing"),
    ],
)
def test_a_file_that_is_no_record_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(BadUse, match=message):
        parse_record(text, "record.json")


@pytest.mark.parametrize(
    "alter",
    [
        {"gas": True},
        {"rules": []},
        {"calls": [{}]},
        {"calls": ["0x"]},
        {"calls": [{"target": "0x12", "calldata": "0x", "value": "0"}]},
        {"reason": 7},
    ],
)
def test_a_record_with_a_field_of_the_wrong_kind_is_refused(
    record: Record, alter: dict[str, Any]
) -> None:
    with pytest.raises(BadUse, match=r"wrong kind|cannot be read"):
        parse_record(canonical({**record, **alter}), "record.json")


@pytest.mark.parametrize("alter", [{"block": {}}, {"proposal": "many"}])
def test_a_record_without_block_or_proposal_cannot_be_run(
    on: Street, record: Record, alter: dict[str, Any]
) -> None:
    with pytest.raises(BadUse, match="names no block or proposal"):
        verify({**record, **alter}, on.deployment)


# What is foretold happens. Last, because time goes on.


def told(events: list[Any]) -> list[Any]:
    """Events of the contracts that the calls reach, as a record spells them."""
    return [
        (one.contract, one.name, dict(one.args))
        if isinstance(one, Event)
        else (one["contract"], one["event"], one["args"])
        for one in events
        if (one.contract if isinstance(one, Event) else one["contract"])
        not in ("GridTimelock", "GridGovernor")
    ]


def test_what_a_simulation_tells_is_what_then_happens(on: Street) -> None:
    calls = [
        set_fee(on, 130),
        battery_call(parameters(on), ZONE, [(LATER + 48, 8, 10_000)]),
        mint(on, 1_000_000),
    ]
    terms = terms_of(governor(on), Lane.ORDINARY)
    foretold = simulate(
        on.deployment,
        calls,
        delay=terms.timelock_delay,
        queued_at=on.chain.now() + terms.voting_delay + terms.voting_period + 1,
    )
    made = propose(on, calls, "As simulated.", simulation=record_hash(foretold))
    assert made.simulation == record_hash(foretold)
    receipt = carry_out(on, made)
    assert told(list(receipt.events)) == told(foretold["events"])
    for name, value in foretold["rules"].items():
        assert parameters(on).call("value", KEYS[name]) == value["after"], name
    for address, held in foretold["balances"].items():
        assert on.deployment["TestEuro"].call("balanceOf", address) == held["after"]


def test_a_failure_that_a_simulation_tells_is_what_then_happens(on: Street) -> None:
    calls = [set_fee(on, 131)]
    foretold = simulate(on.deployment, calls)
    assert foretold["reason"] is not None
    made = propose(on, [set_fee(on, 131 + 500)], "Too much.")
    on.chain.set_time(accept(on, made))
    again = simulate(on.deployment, list(made.calls), proposal=made.id)
    with pytest.raises(ContractReverted) as caught:
        governor(on).transact("execute", *made.arguments(), sender=on.relay)
    assert caught.value.reason == again["reason"]


def test_a_contract_that_asks_is_told_which_proposal_is_executed(on: Street) -> None:
    treasury, payee = on.deployment["Treasury"], on.owners[9].address
    money = on.deployment["TestEuro"].encode("mint", treasury.address, 5_000_000)
    executed_at = on.chain.now() + 1_000
    end = executed_at + 60 * 86_400
    budget = (1, "Street light", 5_000_000, 30 * 86_400, executed_at, end)
    calls = [
        Call(on.deployment["TestEuro"].address, money),
        Call(treasury.address, treasury.encode("set_budget", *budget)),
        Call(treasury.address, treasury.encode("pay", 1, payee, 3_000_000, "A lamp.")),
        Call(governor(on).address, governor(on).encode("setGuardian", payee)),
    ]
    made = simulate(on.deployment, calls, delay=900, queued_at=executed_at - 900, proposal=77)
    assert made["reason"] is None
    by_name = {event["event"]: event for event in made["events"]}
    assert by_name["Payment"]["args"]["proposal"] == 77
    assert by_name["GuardianChanged"]["address"] == governor(on).address
    assert made["balances"][payee]["after"] == 3_000_000
