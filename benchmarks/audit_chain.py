# SPDX-License-Identifier: Apache-2.0
"""A node made of recorded logs: the part of JSON-RPC that a reader of the past asks for.

It stands for a chain that ran for a year. What it serves are encoded logs, blocks and receipts;
it executes nothing, so the views that a dossier asks are answered from the same logs by `views`.
"""

from __future__ import annotations

import bisect
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from dao.eip712 import keccak

Log = Mapping[str, Any]
View = Callable[[bytes], bytes]
"""Call data after the selector to the words of the answer."""


class LogNode:
    """Answers from logs in the chain's order. blocks: number to unix seconds, every block that
    there is; views: (address, selector) to its answer, lower case and raw."""

    def __init__(
        self,
        chain_id: int,
        logs: Sequence[Log],
        blocks: Mapping[int, int],
        contracts: Sequence[str],
        views: Mapping[tuple[str, bytes], View],
        first_block: int,
    ) -> None:
        self._chain_id = chain_id
        self._logs = logs
        self._numbers = [int(log["blockNumber"], 16) for log in logs]
        self._blocks = blocks
        self._head = max(blocks)
        self._contracts = {address.lower() for address in contracts}
        self._views = views
        self._first_block = first_block
        self._gas: dict[str, int] = defaultdict(lambda: 21_000)
        for log in logs:
            # About what a log and the storage behind it cost.
            self._gas[log["transactionHash"]] += 20_000 + 8 * (len(log["data"]) // 2)

    def answer(self, method: str, params: Sequence[Any]) -> Any:
        """The result of one request. LookupError for what this node does not do."""
        if method == "eth_chainId":
            return hex(self._chain_id)
        if method == "eth_blockNumber":
            return hex(self._head)
        if method == "eth_getBlockByNumber":
            number = self._head if params[0] == "latest" else int(params[0], 16)
            return self._block(number)
        if method == "eth_getLogs":
            return self._filtered(params[0])
        if method == "eth_getCode":
            known = params[0].lower() in self._contracts
            early = params[1] != "latest" and int(params[1], 16) < self._first_block
            return "0x00" if known and not early else "0x"
        if method == "eth_getTransactionReceipt":
            gas = self._gas.get(params[0])
            return gas and {"gasUsed": hex(gas), "effectiveGasPrice": hex(10**9)}
        if method == "eth_call":
            data = bytes.fromhex(params[0]["data"][2:])
            view = self._views[params[0]["to"].lower(), data[:4]]
            return "0x" + view(data[4:]).hex()
        raise LookupError(method)

    def _block(self, number: int) -> dict[str, str] | None:
        if number > self._head:
            return None
        return {
            "number": hex(number),
            "hash": block_hash(number),
            "parentHash": block_hash(number - 1),
            "timestamp": hex(self._blocks[number]),
        }

    def _filtered(self, wanted: Mapping[str, Any]) -> list[Log]:
        first, last = int(wanted["fromBlock"], 16), int(wanted["toBlock"], 16)
        addresses = {address.lower() for address in wanted["address"]}
        begin = bisect.bisect_left(self._numbers, first)
        end = bisect.bisect_right(self._numbers, last)
        return [log for log in self._logs[begin:end] if log["address"].lower() in addresses]


def block_hash(number: int) -> str:
    """The hash of a recorded block."""
    return "0x" + keccak(b"recorded block" + number.to_bytes(8, "big", signed=True)).hex()


@contextmanager
def serving(node: LogNode) -> Iterator[str]:
    """The node on a free port of this machine; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests = body if isinstance(body, list) else [body]
            answers = []
            for request in requests:
                reply: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
                try:
                    reply["result"] = node.answer(request["method"], request["params"])
                except LookupError as error:
                    reply["error"] = {"code": -32601, "message": str(error)}
                answers.append(reply)
            data = json.dumps(answers if isinstance(body, list) else answers[0]).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def views_of(
    addresses: Mapping[str, str],
    roots: Mapping[tuple[int, int, int], bytes],
    totals: Mapping[tuple[int, int], int],
    meters: int,
    anchors: dict[bytes, tuple[int, int, int, int, int, int, int]],
) -> dict[tuple[str, bytes], View]:
    """What the contracts would answer: roots by zone, first slot and version; totals by zone and
    slot, packed as the ledger packs a lane; a registry of so many meters, a treasury that never
    paid, and an anchor that holds what stands in `anchors` (root to its seven words)."""

    def words(*values: int) -> bytes:
        return b"".join(value.to_bytes(32, "big") for value in values)

    def numbers(data: bytes) -> list[int]:
        return [int.from_bytes(data[i : i + 32], "big") for i in range(0, len(data), 32)]

    def root_of(data: bytes) -> bytes:
        zone, first, version = numbers(data)
        return roots.get((zone, first, version), bytes(32))

    def totals_of(data: bytes) -> bytes:
        zone, first, slots = numbers(data)
        return words(32, slots, *(totals.get((zone, first + i), 0) for i in range(slots)))

    def dossier(data: bytes) -> bytes:
        return words(*anchors.get(data, (0,) * 7))

    def latest(data: bytes) -> bytes:
        period = tuple(numbers(data))
        found = [root for root, anchored in anchors.items() if anchored[:3] == period]
        return found[-1] if found else bytes(32)

    def none(_: bytes) -> bytes:
        return bytes(32)

    def count(_: bytes) -> bytes:
        return words(meters)

    listed: tuple[tuple[str, str, View], ...] = (
        ("ReadingLedger", "root_of(uint256,uint256,uint256)", root_of),
        ("ReadingLedger", "totals(uint256,uint256,uint256)", totals_of),
        ("MeterRegistry", "meter_count()", count),
        ("Treasury", "spending_hash()", none),
        ("Treasury", "total_paid()", none),
        ("DossierAnchor", "dossier(bytes32)", dossier),
        ("DossierAnchor", "latest(uint256,uint256,uint256)", latest),
    )
    return {
        (addresses[name].lower(), keccak(signature.encode())[:4]): view
        for name, signature, view in listed
        if name in addresses
    }
