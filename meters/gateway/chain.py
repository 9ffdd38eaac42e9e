# SPDX-License-Identifier: Apache-2.0
"""What a gateway asks a node: schedules in force, and whose key holds. It sends no transactions.

Packed by hand, so that a small box needs no compiler and no framework.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dao import eip712
from dao.errors import CheckFailed
from meters.gateway.settings import ChainSettings

_WINDOWS_OF = eip712.keccak(b"windows_of(uint256,uint256,uint256)")[:4]
_DEVICE_AT = eip712.keccak(b"device_at(uint256,uint256)")[:4]
_PATIENCE_S = 10.0
_MOST_WINDOWS = 96


@dataclass(frozen=True)
class Window:
    """A run of slots for which a vote put a value in force; unit by the key it stands under."""

    first_slot: int
    slots: int
    value: int


class NodeReader:
    """Calls over JSON-RPC. Blocking: for a thread of its own."""

    def __init__(self, settings: ChainSettings) -> None:
        import requests

        self._settings = settings
        self._session = requests.Session()

    def windows(self, zone: int, key: int, slot: int) -> list[Window]:
        """The windows of a zone and key on the UTC day of a slot, in order of time."""
        assert self._settings.parameters is not None
        data = _WINDOWS_OF + b"".join(eip712.word(value) for value in (zone, key, slot))
        words = self._call(self._settings.parameters, data)
        count = words[1] if len(words) > 1 else -1
        if not 0 <= count <= _MOST_WINDOWS or len(words) != 2 + 4 * count:
            raise CheckFailed("the node's answer holds no list of windows")
        found = [Window(words[i], words[i + 1], _signed(words[i + 2])) for i in _places(count)]
        return sorted(found, key=lambda window: window.first_slot)

    def device_at(self, meter: int, moment: int) -> str | None:
        """The device key of a meter valid at a unix time, None if there is none."""
        data = _DEVICE_AT + eip712.word(meter) + eip712.word(moment)
        words = self._call(self._settings.registry, data)
        if len(words) != 1 or words[0] >> 160:
            raise CheckFailed("the node's answer holds no device")
        return eip712.checksum_address(eip712.word(words[0])[12:]) if words[0] else None

    def close(self) -> None:
        """Give the connection back."""
        self._session.close()

    def _call(self, to: str, data: bytes) -> list[int]:
        result = self._ask("eth_call", [{"to": to, "data": "0x" + data.hex()}, "latest"])
        try:
            raw = bytes.fromhex(str(result).removeprefix("0x"))
        except ValueError:
            raise CheckFailed("the node's answer is not hexadecimal") from None
        if not raw or len(raw) % 32:
            raise CheckFailed(f"there is no such contract at {to}")
        return [int.from_bytes(raw[i : i + 32], "big") for i in range(0, len(raw), 32)]

    def _ask(self, method: str, parameters: list[Any]) -> Any:
        import requests

        assert self._settings.rpc is not None
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        try:
            answer = self._session.post(self._settings.rpc.url, json=request, timeout=_PATIENCE_S)
            document = answer.json()
        except (requests.RequestException, OSError, ValueError, RecursionError) as error:
            name = type(error).__name__
            raise CheckFailed(f"the node {self._settings.rpc} does not answer ({name})") from None
        if not isinstance(document, dict) or "result" not in document:
            raise CheckFailed(f"the node {self._settings.rpc} refused {method}")
        return document["result"]


def _places(count: int) -> range:
    return range(2, 2 + 4 * count, 4)


def _signed(word: int) -> int:
    return word - (1 << 256) if word >> 255 else word
