# SPDX-License-Identifier: Apache-2.0
"""A proposal's calls as people write them down: a JSON file, encoded by the deployment's ABIs.

What encoded calls mean is told in `describe`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dao.abi import Entry, canonical_type
from dao.chain import Contract
from dao.deployment import Deployment
from dao.eip712 import checksum_address
from dao.errors import BadUse
from dao.governance.proposals import Call
from dao.json_input import MAX_DEPTH, is_too_deep

MAX_CALLS = 8
"""Calls in a proposal, as the governor takes them."""

_KEYS = {"target", "function", "arguments", "calldata", "value"}


def parse_calls(deployment: Deployment, text: bytes, name: str) -> list[Call]:
    """The calls of a JSON file called `name`.

    A list of objects: `target`, a contract's name or an address; `function` and `arguments`, a
    list or an object by name, or else `calldata` in hex; `value` in wei, 0 when left out. Integers
    may be decimal text; an address may be a contract's name. Raises BadUse with the place.
    """
    rows = read_json(text, name)
    if not isinstance(rows, list) or not rows:
        raise BadUse(f"{name}: expected a list of calls, [{{target, function, arguments}}, ...]")
    if len(rows) > MAX_CALLS:
        raise BadUse(f"{name}: {len(rows)} calls; a proposal holds at most {MAX_CALLS}")
    return [_call(deployment, row, f"{name}, call {i}") for i, row in enumerate(rows, start=1)]


def read_json(text: bytes, name: str) -> Any:
    """Somebody else's JSON. BadUse where it is none, or is nested to bring the parser down."""
    try:
        decoded = text.decode("utf-8-sig")
        if is_too_deep(decoded):
            raise BadUse(f"{name} is not JSON that anybody needs: nested over {MAX_DEPTH} deep")
        return json.loads(decoded)
    except ValueError as error:
        raise BadUse(f"{name} is not JSON: {error}") from None


def _call(deployment: Deployment, row: Any, where: str) -> Call:
    if not isinstance(row, dict) or not isinstance(row.get("target"), str):
        raise BadUse(f"{where}: expected an object with a target")
    unknown = sorted(set(row) - _KEYS)
    if unknown:
        raise BadUse(f"{where}: {unknown[0]!r} is unknown; expected {', '.join(sorted(_KEYS))}")
    value = row.get("value", 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**256:
        raise BadUse(f"{where}: value {value!r} is not an amount of wei")
    address = _address(deployment, row["target"], where)
    if ("function" in row) == ("calldata" in row):
        raise BadUse(f"{where}: expected either function and arguments, or calldata")
    if "calldata" in row:
        return Call(address, _bytes(row["calldata"], where), value)
    contract = next((c for c in deployment.contracts.values() if c.address == address), None)
    if contract is None:
        raise BadUse(f"{where}: {address} is none of the deployment's contracts; give its calldata")
    return Call(address, _encoded(deployment, contract, row, where), value)


def _encoded(
    deployment: Deployment, contract: Contract, row: Mapping[str, Any], where: str
) -> bytes:
    function, arguments = row["function"], row.get("arguments", [])
    choices = [
        entry
        for entry in contract.interface.abi
        if entry["type"] == "function" and entry["name"] == function
    ]
    if not choices:
        raise BadUse(f"{where}: {contract.name} has no function {function!r}")
    if not isinstance(arguments, (list, dict)):
        raise BadUse(f"{where}: arguments are a list, or an object by name")
    for entry in choices:
        inputs: Sequence[Entry] = entry["inputs"]
        if len(inputs) == len(arguments):
            values = _in_order(inputs, arguments, where)
            ready = [
                _value(deployment, one, value, f"{where}: {one['name']}")
                for one, value in zip(inputs, values, strict=True)
            ]
            try:
                return contract.encode(str(function), *ready)
            except BadUse as error:
                raise BadUse(f"{where}: {error}") from None
    wanted = " or ".join(
        "(" + ", ".join(f"{canonical_type(one)} {one['name']}" for one in entry["inputs"]) + ")"
        for entry in choices
    )
    raise BadUse(f"{where}: {contract.name}.{function} takes {wanted}")


def _in_order(inputs: Sequence[Entry], arguments: Any, where: str) -> list[Any]:
    if isinstance(arguments, list):
        return arguments
    for one in inputs:
        if one["name"] not in arguments:
            raise BadUse(f"{where}: the argument {one['name']} is missing")
    return [arguments[one["name"]] for one in inputs]


def _value(deployment: Deployment, entry: Entry, value: Any, where: str) -> Any:
    """A JSON value as its ABI type; the encoder itself would read `"false"` as true."""
    kind = str(entry["type"])
    if kind.endswith("]"):
        if not isinstance(value, list):
            raise BadUse(f"{where}: expected a list, not {value!r}")
        inner = {**entry, "type": kind[: kind.rindex("[")]}
        return [_value(deployment, inner, one, where) for one in value]
    if kind == "tuple":
        parts: Sequence[Entry] = entry["components"]
        if not isinstance(value, (list, dict)) or len(value) != len(parts):
            names = ", ".join(str(part["name"]) for part in parts)
            raise BadUse(f"{where}: expected {names}, not {value!r}")
        ordered = _in_order(parts, value, where)
        return [
            _value(deployment, part, one, f"{where}.{part['name']}")
            for part, one in zip(parts, ordered, strict=True)
        ]
    if kind.startswith(("uint", "int")):
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,78}", value):
            return int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise BadUse(f"{where}: expected an integer, not {value!r}")
        return value
    if kind == "bool" and not isinstance(value, bool):
        raise BadUse(f"{where}: expected true or false, not {value!r}")
    if kind == "address":
        return _address(deployment, value, where)
    if kind.startswith("bytes"):
        return _bytes(value, where)
    if kind == "string" and not isinstance(value, str):
        raise BadUse(f"{where}: expected a text, not {value!r}")
    return value


def _address(deployment: Deployment, value: Any, where: str) -> str:
    if isinstance(value, str) and value in deployment.contracts:
        return deployment[value].address
    if isinstance(value, str) and re.fullmatch(r"0x[0-9a-fA-F]{40}", value):
        return checksum_address(value)
    known = ", ".join(deployment.contracts)
    raise BadUse(f"{where}: {value!r} is neither an address nor one of {known}")


def _bytes(value: Any, where: str) -> bytes:
    if not isinstance(value, str) or not re.fullmatch(r"0x([0-9a-fA-F]{2})*", value):
        raise BadUse(f"{where}: expected bytes as 0x and hex digits, not {value!r}")
    return bytes.fromhex(value[2:])
