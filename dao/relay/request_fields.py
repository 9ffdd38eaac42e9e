# SPDX-License-Identifier: Apache-2.0
"""The fields of requests as they are submitted: JSON values read, or everything that is wrong.

Plain functions over plain data; the same table makes the API's description. Which fields a kind of
request has stands in `requests`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from dao.eip712 import address_bytes, checksum_address
from dao.relay.submitted import Problem, shown, signature_problems, unknown_fields, whole

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_NUMBER = re.compile(r"0x[0-9a-fA-F]{1,64}|[0-9]{1,78}", re.ASCII)
_ABSENT = object()


@dataclass(frozen=True)
class Field(ABC):
    """A field. default: what an absent one is; filled: whether the relay fills it in, where typed
    data are asked for."""

    filled: bool = False
    default: Any = _ABSENT

    @property
    @abstractmethod
    def accepted(self) -> str:
        """What would be accepted, in words."""

    @property
    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """The same as a JSON schema."""

    @abstractmethod
    def problems(self, name: str, value: Any) -> list[Problem]:
        """What is wrong with a value."""

    def read(self, value: Any) -> Any:
        """A good value in its one spelling."""
        return value

    @property
    def is_optional(self) -> bool:
        """Whether a signed request may leave it out."""
        return self.default is not _ABSENT


@dataclass(frozen=True)
class Whole(Field):
    """A whole number; step: what it has to be a multiple of."""

    lowest: int = 0
    highest: int = 2**40 - 1
    step: int = 1

    @property
    def accepted(self) -> str:
        multiple = f", a multiple of {self.step}" if self.step > 1 else ""
        return f"a whole number {self.lowest}..{self.highest}{multiple}"

    @property
    def schema(self) -> dict[str, Any]:
        plain = {"type": "integer", "minimum": self.lowest, "maximum": self.highest}
        return {**plain, "multipleOf": self.step} if self.step > 1 else plain

    def problems(self, name: str, value: Any) -> list[Problem]:
        found = whole(name, value, self.lowest, self.highest)
        if not found and value % self.step:
            found = [Problem(name, f"{shown(value)} is no multiple", self.accepted)]
        return found


@dataclass(frozen=True)
class Address(Field):
    """An address; mixed case has to be its checksum, as a slip of the finger is then seen."""

    accepted = "an address: 0x and 40 hex digits, in mixed case with the right checksum"
    schema: ClassVar[dict[str, Any]] = {"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$"}

    def problems(self, name: str, value: Any) -> list[Problem]:
        if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
            return [Problem(name, f"{shown(value)} is not an address", self.accepted)]
        if not any(address_bytes(value)):
            return [Problem(name, "the zero address", self.accepted)]
        digits = value[2:]
        if digits not in (digits.lower(), digits.upper()) and checksum_address(value) != value:
            return [Problem(name, "its checksum is wrong", self.accepted)]
        return []

    def read(self, value: Any) -> Any:
        return checksum_address(value)


@dataclass(frozen=True)
class Choice(Field):
    """One of some words."""

    words: tuple[str, ...] = ()

    @property
    def accepted(self) -> str:
        return f"one of {', '.join(self.words)}"

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.words)}

    def problems(self, name: str, value: Any) -> list[Problem]:
        if isinstance(value, str) and value in self.words:
            return []
        return [Problem(name, f"{shown(value)} is none of them", self.accepted)]


@dataclass(frozen=True)
class Text(Field):
    """Text of at most so many bytes in UTF-8."""

    most: int = 1_024

    @property
    def accepted(self) -> str:
        return f"text of up to {self.most} bytes in UTF-8"

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string", "maxLength": self.most}

    def problems(self, name: str, value: Any) -> list[Problem]:
        try:
            if isinstance(value, str) and len(value.encode("utf-8")) <= self.most:
                return []
        except UnicodeEncodeError:  # half of a surrogate pair
            pass
        return [Problem(name, "not such a text", self.accepted)]


@dataclass(frozen=True)
class Flag(Field):
    """true or false."""

    accepted = "true or false"
    schema: ClassVar[dict[str, Any]] = {"type": "boolean"}

    def problems(self, name: str, value: Any) -> list[Problem]:
        if isinstance(value, bool):
            return []
        return [Problem(name, f"{shown(value)} is neither", self.accepted)]


@dataclass(frozen=True)
class Number(Field):
    """A number of up to 256 bits, as text: JSON's are not exact in every language."""

    accepted = "a number as text, in decimal or as 0x and hex digits"
    schema: ClassVar[dict[str, Any]] = {"type": "string", "pattern": f"^({_NUMBER.pattern})$"}

    def problems(self, name: str, value: Any) -> list[Problem]:
        if isinstance(value, str) and _NUMBER.fullmatch(value) and number(value) < 2**256:
            return []
        return [Problem(name, f"{shown(value)} is not one", self.accepted)]

    def read(self, value: Any) -> Any:
        return f"0x{number(value):064x}"


def number(text: str) -> int:
    """A `Number` as an int."""
    return int(text, 16) if text.startswith("0x") else int(text)


def parse(
    fields: Mapping[str, Field], document: Any, *, signed: bool
) -> tuple[dict[str, Any], bytes, list[Problem]]:
    """A submitted JSON value as fields in their one spelling and a signature, or what is wrong.

    signed: whether it has to be complete and carry a signature; without, it must carry none, and
    fields that the relay can fill in may be absent.
    """
    if not isinstance(document, Mapping):
        return {}, b"", [Problem("request", f"{shown(document)} is not an object", "its fields")]
    known = (*fields, "signature") if signed else tuple(fields)
    problems = unknown_fields(document, known)
    values: dict[str, Any] = {}
    for name, one in fields.items():
        if name in document:
            wrong = one.problems(name, document[name])
            problems += wrong
            if not wrong:
                values[name] = one.read(document[name])
        elif one.is_optional:
            values[name] = one.default
        elif signed or not one.filled:
            problems.append(Problem(name, "missing", one.accepted))
    if signed:
        problems += signature_problems(document.get("signature"))
    if problems:
        return {}, b"", problems
    return values, bytes.fromhex(document["signature"][2:]) if signed else b"", []
