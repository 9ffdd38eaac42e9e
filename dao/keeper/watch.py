# SPDX-License-Identifier: Apache-2.0
"""What an event opened and nothing has closed yet, found from the chain's own logs.

What is remembered between two looks is a block with its hash: before it everything was seen closed
twice, further apart than a reorganisation reaches. It saves reading; lost or wrong, it is built
again. What to do with what is found is not known here.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, TypeVar

from dao.chain import Contract, Event
from dao.paths import ensure_parent

T = TypeVar("T")

REORG_DEPTH = 96
"""Blocks that the chain may still take back: Ethereum is final after two to three epochs of 32."""


@dataclass(frozen=True)
class Bookmark:
    """Everything opened before `block` is closed for good; `hash` None: the first look is due.

    candidate: the next such block, as seen without a break since the chain was at block `since`.
    """

    block: int
    hash: str | None
    candidate: int
    since: int


class Watch(Generic[T]):
    """All that one kind of event opened and that is still open, as of the chain's head.

    read: the open thing behind an event at the head's time, or None once it is closed.
    bookmarks: shared and kept by the caller; read and set under the contract's address and event.
    """

    def __init__(
        self,
        contract: Contract,
        event: str,
        first_block: int,
        read: Callable[[Event, int], T | None],
        bookmarks: dict[str, Bookmark],
    ) -> None:
        self._contract = contract
        self._event = event
        self._first_block = first_block
        self._read = read
        self._bookmarks = bookmarks
        self._key = f"{contract.address}:{event}"
        self._head = ""
        self._found: list[T] = []

    def open(self) -> list[T]:
        """What is open, oldest first. Asks the chain anew only where its head has moved.

        Raises CheckFailed when the node is unreachable or refuses its logs.
        """
        head = self._contract.chain.rpc("eth_getBlockByNumber", "latest", False)
        if head["hash"] == self._head:
            return self._found
        number, time = int(head["number"], 16), int(head["timestamp"], 16)
        start = self._start()
        found: list[T] = []
        # Nothing so young that the chain may still take it back is left behind.
        oldest = max(start, number + 1 - REORG_DEPTH)
        for event in self._contract.events(self._event, start, number):
            if (item := self._read(event, time)) is not None:
                found.append(item)
                oldest = min(oldest, event.block)
        self._advance(start, oldest, number)
        self._head, self._found = head["hash"], found
        return found

    def _start(self) -> int:
        """The block to look from: the bookmark's while it lies on this chain, else the first."""
        mark = self._bookmarks.get(self._key)
        if mark is None:
            return self._first_block
        if mark.hash is not None and self._hash(mark.block) != mark.hash:
            del self._bookmarks[self._key]
            return self._first_block
        return mark.block

    def _advance(self, start: int, oldest: int, head: int) -> None:
        mark = self._bookmarks.get(self._key)
        if mark is None:
            mark = Bookmark(start, None, oldest, head)
        elif oldest < mark.candidate or head < mark.since:
            mark = Bookmark(mark.block, mark.hash, oldest, head)
        elif head - mark.since >= REORG_DEPTH:
            mark = Bookmark(mark.candidate, self._hash(mark.candidate), oldest, head)
        self._bookmarks[self._key] = mark

    def _hash(self, block: int) -> str | None:
        found = self._contract.chain.rpc("eth_getBlockByNumber", hex(block), False)
        return None if found is None else str(found["hash"])


def load(path: Path) -> dict[str, Bookmark]:
    """The bookmarks that `save` wrote; none where there are none, or nothing that can be read."""
    try:
        return {
            key: Bookmark(
                int(mark["block"]), mark["hash"], int(mark["candidate"]), int(mark["since"])
            )
            for key, mark in json.loads(path.read_text()).items()
        }
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return {}


def save(bookmarks: Mapping[str, Bookmark], path: Path) -> None:
    """Write the bookmarks, whole or not at all, whoever else does so at the same time."""
    ensure_parent(path)
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=path.name, suffix=".tmp", delete=False
    ) as part:
        json.dump({key: asdict(mark) for key, mark in bookmarks.items()}, part)
    Path(part.name).replace(path)
