# SPDX-License-Identifier: Apache-2.0
"""Calls as people write them: encoded as meant, and every mistake told with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.street import DAY_SLOT, Street
from dao.errors import BadUse
from dao.governance import Call, battery_call, rule_call
from dao.governance.calls import parse_calls
from tests.dao.governance.conftest import parameters

SET = {"target": "GridParameters", "function": "set_value"}


def parsed(on: Street, *rows: Any) -> list[Call]:
    return parse_calls(on.deployment, json.dumps(rows).encode(), "calls.json")


def test_a_call_is_written_by_names_by_address_or_as_bytes(on: Street) -> None:
    wanted = rule_call(parameters(on), "grid_fee", 120)
    address = parameters(on).address
    assert (
        parsed(
            on,
            {**SET, "arguments": [7, 120]},
            {**SET, "arguments": {"new_value": "120", "key": 7}},
            {"target": address.lower(), "function": "set_value", "arguments": [7, 120]},
            {"target": address, "calldata": "0x" + wanted.calldata.hex()},
        )
        == [wanted] * 4
    )


def test_lists_and_contract_names_are_arguments_too(on: Street) -> None:
    call = battery_call(parameters(on), 1, [(DAY_SLOT, 4, 1_000)])
    word = DAY_SLOT | (4 << 64) | (1_000 << 128)
    windows = {"target": "GridParameters", "function": "open_windows"}
    assert parsed(on, {**windows, "arguments": [1, 1_000, [str(word)]]}) == [call]
    token, market = on.deployment["TestEuro"], on.deployment["EnergyMarket"]
    mint = {"target": "TestEuro", "function": "mint", "arguments": ["EnergyMarket", 5]}
    assert parsed(on, mint) == [Call(token.address, token.encode("mint", market.address, 5))]


def test_wei_goes_with_a_call_of_bytes(on: Street) -> None:
    target = "0x" + "77" * 20
    assert parsed(on, {"target": target, "calldata": "0x", "value": 5}) == [Call(target, b"", 5)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("set_value", "call 1: expected an object with a target"),
        ({"function": "set_value"}, "expected an object with a target"),
        ({**SET, "arguments": [7, 120], "gas": 1}, "'gas' is unknown"),
        ({**SET, "target": "GridParameter"}, "neither an address nor one of"),
        ({**SET, "target": "0x1234"}, "neither an address nor one of"),
        ({**SET, "target": "0x" + "77" * 20}, "none of the deployment's contracts"),
        ({"target": "GridParameters"}, "either function and arguments, or calldata"),
        ({**SET, "calldata": "0x"}, "either function and arguments, or calldata"),
        ({"target": "GridParameters", "calldata": "0x123"}, "expected bytes"),
        ({**SET, "function": "set_velue"}, "GridParameters has no function 'set_velue'"),
        ({**SET, "function": ["set_value"]}, "has no function"),
        ({**SET, "arguments": [7]}, "takes (uint256 key, uint256 new_value)"),
        ({**SET, "arguments": {"key": 7, "value": 1}}, "argument new_value is missing"),
        ({**SET, "arguments": "7120"}, "arguments are a list"),
        ({**SET, "arguments": [7, 1.5]}, "new_value: expected an integer, not 1.5"),
        ({**SET, "arguments": [7, True]}, "expected an integer, not True"),
        ({**SET, "arguments": [7, -1]}, "arguments do not fit"),
        ({**SET, "arguments": [7, 2**256]}, "arguments do not fit"),
        ({**SET, "arguments": [7, 120], "value": -1}, "not an amount of wei"),
        ({**SET, "arguments": [7, 120], "value": "much"}, "not an amount of wei"),
        (
            {"target": "GridParameters", "function": "open_windows", "arguments": [1, 7, "123"]},
            "windows: expected a list",
        ),
        (
            {"target": "TestEuro", "function": "mint", "arguments": ["me", 1]},
            "'me' is neither an address",
        ),
        (
            {
                "target": "GridTimelock",
                "function": "revokeRole",
                "arguments": ["admin", "EnergyMarket"],
            },
            "expected bytes",
        ),
        (
            {
                "target": "ForecastRegistry",
                "function": "set_forecaster",
                "arguments": ["EnergyMarket", "false"],
            },
            "expected true or false",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(on: Street, row: Any, message: str) -> None:
    with pytest.raises(BadUse) as caught:
        parsed(on, row)
    assert message in str(caught.value)
    assert str(caught.value).startswith("calls.json, call 1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"{}", "expected a list of calls"),
        (b"[]", "expected a list of calls"),
        (b"[{}, {}, {}, {}, {}, {}, {}, {}, {}]", "at most 8"),
    ],
)
def test_a_file_that_is_no_list_of_calls_is_refused(on: Street, text: bytes, message: str) -> None:
    with pytest.raises(BadUse, match=message):
        parse_calls(on.deployment, text, "calls.json")
