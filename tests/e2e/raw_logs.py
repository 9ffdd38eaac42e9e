# SPDX-License-Identifier: Apache-2.0
"""Reads a run's raw logs with nothing of the project's own: ABI words cut by hand.

Only what the end-to-end test needs of the market's events, decoded from topics and data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eth_utils import keccak


def topic(signature: str) -> str:
    return "0x" + keccak(text=signature).hex()


POSTED = topic("OrdersPosted(uint256,bytes)")
REJECTED = topic("OrderRejected(uint256,uint256,uint256,uint256,uint256)")
CLEARED = topic("SlotCleared(uint256,uint256,uint256,uint256)")
SETTLED = topic("SlotSettled(uint256,uint256,uint256,uint256,uint256,uint256)")
ORDERS_SETTLED = topic("OrdersSettled(uint256,uint256,uint256,uint256,bytes)")
DEPOSITED = topic("Deposited(uint256,uint256)")
TRANSFER = topic("Transfer(address,address,uint256)")
BATCH = topic("BatchCommitted(uint256,uint256,uint256,bytes32,uint256,uint256,uint256[])")


@dataclass(frozen=True)
class Log:
    address: str
    topics: tuple[str, ...]
    words: tuple[int, ...]

    @property
    def indexed(self) -> tuple[int, ...]:
        return tuple(int(t, 16) for t in self.topics[1:])

    def array(self, position: int) -> list[int]:
        """The dynamic array whose offset stands in word `position`."""
        start = self.words[position] // 32
        length = self.words[start]
        return list(self.words[start + 1 : start + 1 + length])

    def whole_words(self, position: int) -> list[int]:
        """The byte string whose offset stands in word `position`, cut into words."""
        data = self.string(position)
        assert len(data) % 32 == 0
        return [int.from_bytes(data[i : i + 32], "big") for i in range(0, len(data), 32)]

    def string(self, position: int) -> bytes:
        """The byte string whose offset stands in word `position`."""
        start = self.words[position] // 32
        data = b"".join(word.to_bytes(32, "big") for word in self.words[start + 1 :])
        return data[: self.words[start]]


def read(path: Path) -> Iterator[Log]:
    for line in path.read_text().splitlines():
        log = json.loads(line)
        data = bytes.fromhex(log["data"][2:])
        yield Log(
            address=log["address"].lower(),
            topics=tuple(log["topics"]),
            words=tuple(int.from_bytes(data[i : i + 32], "big") for i in range(0, len(data), 32)),
        )


@dataclass(frozen=True)
class PostedOrder:
    """An order cut out of its words: Wh by slot of the session."""

    account: int
    is_ask: bool
    limit: int
    wh: dict[int, int]


def cut_orders(rows: list[int]) -> list[PostedOrder]:
    orders = []
    i = 0
    while i < len(rows):
        header = rows[i]
        i += 1
        flags, count, offset = header >> 128 & 255, header >> 72 & 255, header >> 80 & 255
        values = [header >> 88 & 0xFFFF] * count
        if flags & 2:
            # Cut at every sixteenth slot of the session.
            values = []
            for _ in range(offset // 16, (offset + count + 15) // 16):
                values += [rows[i] >> 16 * k & 0xFFFF for k in range(16)]
                i += 1
            values = values[offset % 16 :]
        orders.append(
            PostedOrder(
                account=header >> 224,
                is_ask=flags & 1 == 1,
                limit=header >> 104 & 0xFFFF,
                wh={offset + k: values[k] for k in range(count)},
            )
        )
    return orders


def cut_credits(data: bytes) -> list[tuple[int, int]]:
    """(account, credit) of each order of a settlement, sixteen bytes an order."""
    entries = [int.from_bytes(data[i : i + 16], "big") for i in range(0, len(data), 16)]
    return [(entry >> 96, entry & (2**48 - 1)) for entry in entries]
