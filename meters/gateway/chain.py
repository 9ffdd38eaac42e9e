# SPDX-License-Identifier: Apache-2.0
"""What a gateway asks a node: schedules in force, and whose key holds. It sends no transactions."""

from __future__ import annotations

from dataclasses import dataclass

from dao.eip712 import checksum_address
from dao.errors import CheckFailed
from dao.node import Node
from meters.gateway.settings import ChainSettings

_PATIENCE_S = 10.0
_MOST_WINDOWS = 96


@dataclass(frozen=True)
class Window:
    """A run of slots for which a vote put a value in force; unit by the key it stands under."""

    first_slot: int
    slots: int
    value: int


class NodeReader:
    """The node of a gateway's settings, which must name one. Blocking: for a thread of its own."""

    def __init__(self, settings: ChainSettings) -> None:
        assert settings.rpc is not None
        self._settings = settings
        self._node = Node(settings.rpc.url, shown=str(settings.rpc), patience_s=_PATIENCE_S)

    def windows(self, zone: int, key: int, slot: int) -> list[Window]:
        """The windows of a zone and key on the UTC day of a slot, in order of time."""
        assert self._settings.parameters is not None
        words = self._node.view(
            self._settings.parameters, "windows_of(uint256,uint256,uint256)", zone, key, slot
        )
        count = words[1] if len(words) > 1 else -1
        if not 0 <= count <= _MOST_WINDOWS or len(words) != 2 + 4 * count:
            raise CheckFailed("the node's answer holds no list of windows")
        found = [
            Window(words[i], words[i + 1], _signed(words[i + 2])) for i in range(2, len(words), 4)
        ]
        return sorted(found, key=lambda window: window.first_slot)

    def device_at(self, meter: int, moment: int) -> str | None:
        """The device key of a meter valid at a unix time, None if there is none."""
        device = self._node.device_at(self._settings.registry, meter, moment)
        return checksum_address(device) if any(device) else None

    def close(self) -> None:
        """Give the connection back."""
        self._node.close()


def _signed(word: int) -> int:
    return word - (1 << 256) if word >> 255 else word
