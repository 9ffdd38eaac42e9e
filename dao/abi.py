# SPDX-License-Identifier: Apache-2.0
"""Calls, results and events of a contract, to and from bytes, by its ABI.

Plain values on both sides: integers (numpy's too), text, bytes, lists, and tuples or mappings for
structs. Nothing here talks to a node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from dao.eip712 import address_bytes, checksum_address, keccak
from dao.errors import BadUse

Entry = Mapping[str, Any]
"""One element of a contract's JSON ABI, or one of its inputs and outputs."""


def canonical_type(entry: Entry) -> str:
    """An argument's type as signatures spell it, structs written out."""
    kind = str(entry["type"])
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(map(canonical_type, entry['components']))}){kind[len('tuple') :]}"


def signature(entry: Entry) -> str:
    """`name(type,type)` of a function or an event."""
    return f"{entry['name']}({','.join(canonical_type(one) for one in entry['inputs'])})"


def plain(entry: Entry, value: Any) -> Any:
    """`value` as the encoder takes it. Raises TypeError or ValueError when it does not fit."""
    kind = str(entry["type"])
    if kind.endswith("]"):
        inner = {**entry, "type": kind[: kind.rindex("[")]}
        if inner["type"].startswith(("uint", "int")) and "[" not in inner["type"]:
            return [int(one) for one in value]
        return [plain(inner, one) for one in value]
    if kind == "tuple":
        parts = entry["components"]
        if isinstance(value, Mapping):
            value = [value[part["name"]] for part in parts]
        return tuple(plain(part, one) for part, one in zip(parts, value, strict=True))
    if kind.startswith(("uint", "int")):
        if isinstance(value, float):
            raise TypeError(f"{entry.get('name') or kind} takes an integer, not {value!r}")
        return int(value)
    if kind == "address":
        return "0x" + address_bytes(value).hex()
    if kind.startswith("bytes") and isinstance(value, str):
        return bytes.fromhex(value.removeprefix("0x"))
    if kind == "bool":
        return bool(value)
    return value


def readable(entry: Entry, value: Any) -> Any:
    """A decoded value as callers read it: addresses with checksum, structs as a dict."""
    kind = str(entry["type"])
    if kind.endswith("]"):
        inner = {**entry, "type": kind[: kind.rindex("[")]}
        return [readable(inner, one) for one in value]
    if kind == "tuple":
        parts = entry["components"]
        return {part["name"]: readable(part, one) for part, one in zip(parts, value, strict=True)}
    if kind == "string":
        # A contract may log any bytes as a string. `encode("utf-8", "surrogateescape")` gives
        # exactly these bytes back, so that hashes over a text still fit.
        return bytes(value).decode("utf-8", "surrogateescape")
    return checksum_address(value) if kind == "address" else value


def encode(entries: Sequence[Entry], values: Sequence[Any]) -> bytes:
    """The values ABI-encoded, without a selector. Raises BadUse when they do not fit."""
    from eth_abi.abi import encode as encode_abi
    from eth_abi.exceptions import EncodingError

    try:
        ready = [plain(entry, value) for entry, value in zip(entries, values, strict=True)]
        return bytes(encode_abi([canonical_type(entry) for entry in entries], ready))
    except (EncodingError, TypeError, ValueError, KeyError, OverflowError) as error:
        wanted = ", ".join(
            f"{canonical_type(one)} {one.get('name', '')}".strip() for one in entries
        )
        raise BadUse(f"arguments do not fit ({wanted}): {error}") from error


def decode(entries: Sequence[Entry], data: bytes) -> list[Any]:
    """ABI-encoded `data` as readable values, one for each entry."""
    from eth_abi.abi import decode as decode_abi

    # Text is read as bytes, which lie on chain the same way: the decoder refuses what is no UTF-8.
    kinds = [canonical_type(entry).replace("string", "bytes") for entry in entries]
    values = decode_abi(kinds, data)
    return [readable(entry, value) for entry, value in zip(entries, values, strict=True)]


class Interface:
    """A contract's ABI, looked up by name and selector."""

    def __init__(self, name: str, abi: Sequence[Entry]) -> None:
        self.name = name
        self.abi = tuple(abi)

    @cached_property
    def _functions(self) -> dict[str, list[tuple[bytes, Entry]]]:
        found: dict[str, list[tuple[bytes, Entry]]] = {}
        for entry in self.abi:
            if entry["type"] == "function":
                selector = keccak(signature(entry).encode("ascii"))[:4]
                found.setdefault(entry["name"], []).append((selector, entry))
        return found

    @cached_property
    def _events(self) -> dict[str, Entry]:
        return {
            "0x" + keccak(signature(entry).encode("ascii")).hex(): entry
            for entry in self.abi
            if entry["type"] == "event" and not entry.get("anonymous")
        }

    def topic(self, event: str) -> str:
        """The first topic of an event's logs, 0x text. Raises BadUse for an unknown name."""
        for topic, entry in self._events.items():
            if entry["name"] == event:
                return topic
        raise BadUse(f"{self.name} has no event {event}")

    def _function(self, name: str, count: int) -> tuple[bytes, Entry]:
        """The function called `name` with `count` arguments; default arguments make several."""
        choices = self._functions.get(name)
        if not choices:
            raise BadUse(f"{self.name} has no function {name}")
        for selector, entry in choices:
            if len(entry["inputs"]) == count:
                return selector, entry
        counts = " or ".join(str(len(entry["inputs"])) for _, entry in choices)
        raise BadUse(f"{self.name}.{name} takes {counts} arguments, not {count}")

    def encode_deploy(self, arguments: Sequence[Any]) -> bytes:
        """Constructor arguments, to follow the creation code."""
        inputs: Sequence[Entry] = ()
        for entry in self.abi:
            if entry["type"] == "constructor":
                inputs = entry["inputs"]
        if len(inputs) != len(arguments):
            raise BadUse(f"{self.name} is deployed with {len(inputs)} arguments")
        return encode(inputs, arguments)

    def encode_call(self, function: str, arguments: Sequence[Any]) -> bytes:
        """Selector and arguments of a call."""
        selector, entry = self._function(function, len(arguments))
        return selector + encode(entry["inputs"], arguments)

    def decode_call(self, data: bytes) -> tuple[str, dict[str, Any]] | None:
        """Function and arguments by name of call data, None for what this ABI does not know.

        Raises ValueError where the arguments do not fit the function.
        """
        from eth_abi.exceptions import DecodingError

        for name, choices in self._functions.items():
            for selector, entry in choices:
                if selector != data[:4]:
                    continue
                if len(data) < 4 + 32 * len(entry["inputs"]):  # the decoder would read zeros
                    raise ValueError(f"{self.name}.{name}: arguments are cut short")
                try:
                    values = decode(entry["inputs"], data[4:])
                except (DecodingError, OverflowError) as error:
                    raise ValueError(f"{self.name}.{name}: {error}") from error
                keys = [one["name"] or f"arg{i}" for i, one in enumerate(entry["inputs"])]
                return name, dict(zip(keys, values, strict=True))
        return None

    def decode_result(self, function: str, count: int, data: bytes) -> Any:
        """What a call with `count` arguments returned: None, one value, or a tuple of several."""
        outputs = self._function(function, count)[1]["outputs"]
        values = decode(outputs, data)
        return None if not values else values[0] if len(values) == 1 else tuple(values)

    def decode_log(self, topics: Sequence[str], data: bytes) -> tuple[str, dict[str, Any]] | None:
        """Event name and arguments of a log, None for one this ABI does not know."""
        entry = self._events.get(topics[0]) if topics else None
        if entry is None:
            return None
        keys, unhashed = iter(topics[1:]), [one for one in entry["inputs"] if not one["indexed"]]
        values = iter(decode(unhashed, data))
        arguments: dict[str, Any] = {}
        for one in entry["inputs"]:
            if not one["indexed"]:
                arguments[one["name"]] = next(values)
            elif one["type"].endswith("]") or one["type"] in ("tuple", "bytes", "string"):
                arguments[one["name"]] = next(keys)  # only the hash of such a value is logged
            else:
                arguments[one["name"]] = decode([one], bytes.fromhex(next(keys)[2:]))[0]
        return entry["name"], arguments


def revert_reason(data: bytes) -> str:
    """The reason inside a reverted call's return data, in words."""
    from eth_abi.abi import decode as decode_abi

    if not data:
        return "reverted without a reason"
    try:
        if data[:4] == bytes.fromhex("08c379a0"):  # Error(string)
            return str(decode_abi(["string"], data[4:])[0])
        if data[:4] == bytes.fromhex("4e487b71"):  # Panic(uint256)
            return f"panic {decode_abi(['uint256'], data[4:])[0]:#x}"
    except Exception:  # a contract may return anything
        return "0x" + data.hex()
    return "0x" + data.hex()
