# SPDX-License-Identifier: Apache-2.0
"""What a dossier asks a node: blocks, code, receipts, views, and the events of a span of blocks.

Plain JSON-RPC through `dao.index`; no Ape, no compiler. Events come into an index file, the same
that a screen reads, so there is one way to read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dao.audit.event_list import MARKET_CONTRACTS, abis
from dao.audit.scope import Block, Scope
from dao.eip712 import keccak, word
from dao.errors import BadUse, CheckFailed
from dao.index import EventReader, Indexer
from dao.rpc import Refused, Rpc


class Remote:
    """A node at a URL. CheckFailed where it does not answer or refuses."""

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise BadUse(f"--rpc {url}: expected the URL of a node, http://... or https://...")
        self.url = url
        self._rpc = Rpc(url)

    @property
    def chain_id(self) -> int:
        """The number of its chain."""
        return self._whole(self._call("eth_chainId"))

    def head(self) -> Block:
        """The latest block."""
        return self._block(self._call("eth_getBlockByNumber", "latest", False))

    def block(self, number: int) -> Block:
        """A block by number. CheckFailed where the chain has none."""
        found = self._call("eth_getBlockByNumber", hex(number), False)
        if found is None:
            raise CheckFailed(f"the chain at {self.url} has no block {number}")
        return self._block(found)

    def last_block_until(self, when: int, first: int) -> Block:
        """The last block not later than a time, from block `first` on. CheckFailed where the chain
        has not come further than that time, so that such a block may still come."""
        head = self.head()
        if head.timestamp <= when:
            raise CheckFailed(
                f"the chain at {self.url} stands at {head.timestamp}, before {when + 1}"
            )
        low, high = first, head.number  # the first block later than `when` lies in here
        while low < high:
            middle = (low + high) // 2
            if self.block(middle).timestamp > when:
                high = middle
            else:
                low = middle + 1
        if low == first:
            raise CheckFailed(f"the deployment is younger than {when}")
        return self.block(low - 1)

    def code_hashes(self, addresses: Sequence[str], block: str = "latest") -> list[str]:
        """keccak of the code at each address, 0x text; "" where there is none."""
        found = self._rpc.batch([("eth_getCode", [address, block]) for address in addresses])
        hashes = []
        for code in found:
            raw = self._bytes(code)
            hashes.append("0x" + keccak(raw).hex() if raw else "")
        return hashes

    def spent(self, transactions: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Gas used and price in wei of each transaction."""
        names = sorted(transactions)
        found = {}
        receipts = self._rpc.batch([("eth_getTransactionReceipt", [tx]) for tx in names])
        for tx, receipt in zip(names, receipts, strict=True):
            if not isinstance(receipt, dict):
                raise CheckFailed(f"the node at {self.url} has no transaction {tx}")
            price = receipt.get("effectiveGasPrice", "0x0")
            found[tx] = (self._whole(receipt.get("gasUsed")), self._whole(price))
        return found

    def views(
        self, calls: Sequence[tuple[str, str, Sequence[int]]], block: str = "latest"
    ) -> list[list[int]]:
        """The words that views answer: contract, signature as `root_of(uint256)`, whole numbers."""
        requests: list[tuple[str, list[Any]]] = []
        for contract, signature, numbers in calls:
            data = keccak(signature.encode())[:4] + b"".join(word(number) for number in numbers)
            requests.append(("eth_call", [{"to": contract, "data": "0x" + data.hex()}, block]))
        answers = []
        for raw, (contract, signature, _) in zip(self._rpc.batch(requests), calls, strict=True):
            data = self._bytes(raw)
            if not data or len(data) % 32:
                name = signature.partition("(")[0]
                raise CheckFailed(f"{contract} on {self.url} does not answer {name}")
            answers.append(
                [int.from_bytes(data[at : at + 32], "big") for at in range(0, len(data), 32)]
            )
        return answers

    # Inside

    def _call(self, method: str, *params: Any) -> Any:
        try:
            return self._rpc.call(method, *params)
        except Refused as refusal:
            raise CheckFailed(str(refusal)) from None

    def _block(self, found: Any) -> Block:
        try:
            return Block(
                self._whole(found["number"]), str(found["hash"]), self._whole(found["timestamp"])
            )
        except (KeyError, TypeError):
            raise CheckFailed(f"what answers at {self.url} is no node") from None

    def _whole(self, text: Any) -> int:
        try:
            return int(text, 16)
        except (TypeError, ValueError):
            raise CheckFailed(f"what answers at {self.url} is no node") from None

    def _bytes(self, text: Any) -> bytes:
        try:
            return bytes.fromhex(text[2:])
        except (TypeError, ValueError):
            raise CheckFailed(f"what answers at {self.url} is no node") from None


class Readers(EventReader):
    """Two indexes as one: of the contracts whose events begin with the deployment, and of those
    whose events begin with the period before."""

    def __init__(self, standing: EventReader, market: EventReader) -> None:
        super().__init__(standing.db_path)
        self._standing, self._market = standing, market

    def events(self, name: str, **filters: Any) -> list[dict[str, Any]]:
        of_market = filters.get("contract") in MARKET_CONTRACTS
        return (self._market if of_market else self._standing).events(name, **filters)


def fetch(url: str, scope: Scope, folder: Path) -> EventReader:
    """The events that a dossier can rest on, read from a node into index files in `folder`."""
    addresses = {name: one.address for name, one in scope.contracts.items()}
    return fetched(
        url, addresses, scope.first_block, scope.market_block, scope.last_block.number, folder
    )


def fetched(
    url: str,
    addresses: Mapping[str, str],
    first_block: int,
    market_block: int,
    last_block: int,
    folder: Path,
) -> EventReader:
    """As `fetch`, with each fact of the scope by itself."""
    readers = []
    for name, first, of_market in (
        ("standing", first_block, False),
        ("market", market_block, True),
    ):
        contracts = {
            contract: (addresses[contract], abi)
            for contract, abi in abis().items()
            if contract in addresses and (contract in MARKET_CONTRACTS) == of_market
        }
        indexer = Indexer(url, contracts, folder / f"{name}.sqlite", first_block=first)
        indexer.sync(last_block)
        readers.append(indexer)
    return Readers(*readers)
