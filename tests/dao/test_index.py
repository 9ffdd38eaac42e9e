# SPDX-License-Identifier: Apache-2.0
"""The event index against a real node, through reorganisations, crashes and a second indexer."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

import dao.rpc
from dao.anvil import anvil_binary
from dao.eip712 import checksum_address, keccak, word
from dao.errors import CheckFailed
from dao.index import EventReader, Indexer

SENDER = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
SOURCE = """
# pragma version ~=0.4.3
event Noted:
    zone: indexed(uint256)
    who: indexed(address)
    value: int256
    rows: DynArray[uint256, 8]
    text: String[32]
    root: bytes32
    flag: bool

event Other:
    value: uint256

@external
def note(zone: uint256, amount: int256, rows: DynArray[uint256, 8]):
    log Noted(
        zone=zone, who=msg.sender, value=amount, rows=rows, text="hello",
        root=keccak256("root"), flag=amount > 0,
    )

@external
def other(amount: uint256):
    log Other(value=amount)
    log Other(value=amount + 1)
"""


class Node:
    """An anvil process of this test alone, with the contract deployed."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [str(anvil_binary()), "--port", str(port), "--hardfork", "osaka", "--silent"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(200):
            try:
                self.call("eth_chainId")
                return
            except requests.RequestException:
                time.sleep(0.05)
        self.stop()
        raise AssertionError("anvil did not start")

    def call(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer = requests.post(self.url, json=body, timeout=20).json()
        assert "error" not in answer, answer
        return answer["result"]

    def send(self, data: str, to: str | None = None) -> dict[str, Any]:
        tx = {"from": SENDER, "data": data, **({"to": to} if to else {})}
        tx_hash = self.call("eth_sendTransaction", tx)
        for _ in range(400):  # the node mines a moment after it has answered
            receipt: dict[str, Any] | None = self.call("eth_getTransactionReceipt", tx_hash)
            if receipt is not None:
                assert receipt["status"] == "0x1"
                return receipt
            time.sleep(0.01)
        raise AssertionError("the transaction was not mined")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture(scope="module")
def compiled() -> tuple[list[dict[str, Any]], str]:
    from vyper.compiler import compile_code

    output = compile_code(SOURCE, output_formats=["abi", "bytecode"])
    return output["abi"], output["bytecode"]


@pytest.fixture
def node() -> Iterator[Node]:
    running = Node()
    yield running
    running.stop()


class Notes:
    """The test contract on a node."""

    def __init__(self, node: Node, bytecode: str) -> None:
        self.node = node
        self.address = checksum_address(node.send(bytecode)["contractAddress"])

    def note(self, zone: int, value: int, rows: list[int]) -> dict[str, Any]:
        selector = keccak(b"note(uint256,int256,uint256[])")[:4]
        words = [zone, value % 2**256, 96, len(rows), *rows]
        data = (selector + b"".join(map(word, words))).hex()
        return self.node.send("0x" + data, self.address)

    def other(self, value: int) -> dict[str, Any]:
        data = keccak(b"other(uint256)")[:4] + word(value)
        return self.node.send("0x" + data.hex(), self.address)


@pytest.fixture
def notes(node: Node, compiled: tuple[list[dict[str, Any]], str]) -> Notes:
    return Notes(node, compiled[1])


@pytest.fixture
def indexer(node: Node, notes: Notes, compiled: Any, tmp_path: Path) -> Indexer:
    return Indexer(node.url, {"Notes": (notes.address, compiled[0])}, tmp_path / "i" / "x.sqlite")


def on_chain(node: Node, notes: Notes) -> list[tuple[int, int, str]]:
    logs = node.call("eth_getLogs", {"fromBlock": "0x0", "address": notes.address})
    return [(int(x["blockNumber"], 16), int(x["logIndex"], 16), x["transactionHash"]) for x in logs]


def indexed(reader: EventReader) -> list[tuple[int, int, str]]:
    rows = [*reader.events("Noted"), *reader.events("Other")]
    return sorted((row["block"], row["log_index"], row["tx"]) for row in rows)


def test_events_are_decoded_by_their_abi(indexer: Indexer, node: Node, notes: Notes) -> None:
    receipt = notes.note(3, -5, [1, 2**255, 7])
    assert indexer.sync() == 1
    (event,) = EventReader(indexer.db_path).events("Noted")
    block = node.call("eth_getBlockByNumber", receipt["blockNumber"], False)
    assert event == {
        "block": int(receipt["blockNumber"], 16),
        "log_index": 0,
        "tx": receipt["transactionHash"],
        "contract": "Notes",
        "event": "Noted",
        "timestamp": int(block["timestamp"], 16),
        "args": {
            "zone": 3,
            "who": SENDER,
            "value": -5,
            "rows": [1, 2**255, 7],
            "text": "hello",
            "root": "0x" + keccak(b"root").hex(),
            "flag": False,
        },
    }
    assert indexer.cursor() == event["block"]
    assert indexer.timestamp() == event["timestamp"]


def test_events_are_found_by_contract_argument_place_and_time(
    indexer: Indexer, notes: Notes
) -> None:
    for number in range(6):
        notes.note(number % 2, number, [])
    notes.other(9)
    indexer.sync()
    odd = indexer.events("Noted", match={"zone": 1})
    assert [event["args"]["value"] for event in odd] == [1, 3, 5]
    later = indexer.events("Noted", since=(odd[1]["block"], odd[1]["log_index"]))
    assert [event["args"]["value"] for event in later] == [4, 5]
    newest = indexer.events("Noted", contract="Notes", newest_first=True, limit=2)
    assert [event["args"]["value"] for event in newest] == [5, 4]
    assert indexer.events("Noted", contract="Market") == []
    times = [event["timestamp"] for event in indexer.events("Noted")]
    assert len(indexer.events("Noted", first_time=times[0], last_time=times[-1])) == 6
    assert indexer.events("Noted", first_time=times[-1] + 1) == []
    frame = indexer.frame("Other")
    assert frame["value"].tolist() == [9, 10]
    assert frame["log_index"].tolist() == [0, 1]
    assert indexer.frame("Nothing").empty
    assert indexer.counts() == {("Notes", "Noted"): 6, ("Notes", "Other"): 2}


def test_a_second_sync_adds_nothing(indexer: Indexer, node: Node, notes: Notes) -> None:
    notes.note(1, 1, [])
    assert (indexer.sync(), indexer.sync()) == (1, 0)
    node.call("anvil_mine", hex(20))
    assert indexer.sync() == 0
    notes.note(1, 2, [])
    assert indexer.sync() == 1
    assert indexed(indexer) == on_chain(node, notes)


def test_a_reverted_chain_takes_its_events_along(
    indexer: Indexer, node: Node, notes: Notes
) -> None:
    assert indexer.last() is None
    notes.note(1, 1, [])
    snapshot = node.call("evm_snapshot")
    for number in range(5):
        notes.note(1, 10 + number, [])
        indexer.sync()
    node.call("evm_revert", snapshot)
    assert indexer.sync() == 0  # shorter than what was indexed: rows go, none come
    assert indexed(indexer) == on_chain(node, notes)
    assert len(indexed(indexer)) == 1
    snapshot = node.call("evm_snapshot")
    notes.note(1, 20, [])
    indexer.sync()
    taken_back = indexer.last()
    assert taken_back == (node.call("eth_getBlockByNumber", "latest", False)["hash"], 0)
    node.call("evm_revert", snapshot)
    for number in range(9):
        notes.note(2, 30 + number, [])
    indexer.sync()  # longer than what was indexed, with other events in the same blocks
    assert indexed(indexer) == on_chain(node, notes)
    assert [e["args"]["value"] for e in indexer.events("Noted")] == [1, *range(30, 39)]
    assert indexer.last() == (node.call("eth_getBlockByNumber", "latest", False)["hash"], 0)
    assert indexer.last() != taken_back


def test_a_reorganisation_replaces_the_orphaned_rows(
    indexer: Indexer, node: Node, notes: Notes
) -> None:
    for number in range(8):
        notes.note(1, number, [])
        indexer.sync()
    before = indexed(indexer)
    node.call("anvil_reorg", 3, [])
    indexer.sync()
    assert indexed(indexer) == on_chain(node, notes)
    assert indexed(indexer) == before[:5]


def test_another_chain_behind_the_same_url_starts_the_index_anew(
    indexer: Indexer, node: Node, notes: Notes, compiled: Any
) -> None:
    notes.note(1, 1, [])
    indexer.sync()
    time.sleep(1.1)  # another genesis time, so that not even block 0 is shared
    fresh = Node()
    try:
        again = Notes(fresh, compiled[1])
        again.note(2, 77, [])
        contracts = {"Notes": (again.address, compiled[0])}
        moved = Indexer(fresh.url, contracts, indexer.db_path)
        assert again.address == notes.address
        assert moved.sync() == 1
        assert [e["args"]["value"] for e in moved.events("Noted")] == [77]
    finally:
        fresh.stop()


def test_other_contracts_start_the_index_anew(
    indexer: Indexer, node: Node, notes: Notes, compiled: Any
) -> None:
    notes.note(1, 1, [])
    indexer.sync()
    second = Notes(node, compiled[1])
    second.note(1, 2, [])
    both = {"Notes": (notes.address, compiled[0]), "Second": (second.address, compiled[0])}
    assert Indexer(node.url, both, indexer.db_path).sync() == 2
    assert indexer.counts() == {("Notes", "Noted"): 1, ("Second", "Noted"): 1}


def test_ranges_that_a_node_refuses_are_halved(
    indexer: Indexer, node: Node, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        notes.note(1, number, [])
    real, asked = dao.rpc.Rpc.call, []

    def strict(self: Any, method: str, *params: Any) -> Any:
        if method == "eth_getLogs":
            size = int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) + 1
            asked.append(size)
            if size > 3:
                raise dao.rpc.Refused("query exceeds max block range 3")
        return real(self, method, *params)

    monkeypatch.setattr(dao.rpc.Rpc, "call", strict)
    assert indexer.sync() == 9
    assert max(asked) > 3
    assert indexed(indexer) == on_chain(node, notes)


def test_a_chain_that_changes_during_the_read_is_read_again(
    indexer: Indexer, node: Node, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes.note(1, 1, [])
    snapshot = node.call("evm_snapshot")
    notes.note(1, 2, [])
    real, done = dao.rpc.Rpc.call, []

    def moving(self: Any, method: str, *params: Any) -> Any:
        result = real(self, method, *params)
        if method == "eth_getLogs" and not done:
            done.append(True)
            node.call("evm_revert", snapshot)
            notes.note(1, 3, [])
        return result

    monkeypatch.setattr(dao.rpc.Rpc, "call", moving)
    indexer.sync()
    assert [e["args"]["value"] for e in indexer.events("Noted")] == [1, 3]
    assert indexed(indexer) == on_chain(node, notes)


@pytest.mark.parametrize("statement", ["DELETE FROM", "INSERT INTO events", "UPDATE cursor"])
def test_a_crash_inside_a_commit_leaves_the_last_one(
    indexer: Indexer, node: Node, notes: Notes, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    notes.note(1, 1, [])
    indexer.sync()
    before = indexed(indexer)
    node.call("anvil_reorg", 1, [])
    notes.note(1, 2, [])

    class Crash(BaseException):
        pass

    class Dying(sqlite3.Connection):
        def _dies(self, sql: str) -> None:
            if sql.startswith(statement):
                raise Crash

        def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:
            if "WHERE" in sql or "SET" in sql:
                self._dies(sql)
            return super().execute(sql, *rest)

        def executemany(self, sql: str, *rest: Any) -> sqlite3.Cursor:
            self._dies(sql)
            return super().executemany(sql, *rest)

    real = sqlite3.connect
    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", lambda *a, **k: real(*a, **{**k, "factory": Dying}))
        with pytest.raises(Crash):
            indexer.sync()
    assert indexed(indexer) == before
    indexer.sync()
    assert indexed(indexer) == on_chain(node, notes) != before


def test_two_indexers_at_once_write_every_event_once(
    indexer: Indexer, node: Node, notes: Notes, compiled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dao.index, "MAX_SPAN", 2)
    for number in range(12):
        notes.note(1, number, [])
    contracts = {"Notes": (notes.address, compiled[0])}
    counts: list[int] = []

    def run() -> None:
        counts.append(Indexer(node.url, contracts, indexer.db_path).sync())

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 12
    assert indexed(indexer) == on_chain(node, notes)


def test_many_openers_of_a_new_file_do_not_lock_each_other_out(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def run(path: Path) -> None:
        try:
            EventReader(path).cursor()
            dao.index._patiently(Indexer("http://127.0.0.1:1", {}, path)._open).close()
            EventReader(path).cursor()
        except BaseException as error:
            failed.append(error)

    for number in range(15):
        path = tmp_path / f"{number}.sqlite"
        threads = [threading.Thread(target=run, args=(path,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == []


def test_reading_before_the_first_sync_finds_nothing(tmp_path: Path) -> None:
    reader = EventReader(tmp_path / "none.sqlite")
    assert reader.events("Noted") == []
    assert reader.cursor() is None
    assert reader.timestamp() is None
    assert reader.counts() == {}


def test_says_when_the_node_is_away_or_the_file_is_no_index(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(CheckFailed, match=f"node unreachable at {url}"):
        Indexer(url, {}, tmp_path / "x.sqlite").sync()
    (tmp_path / "y.sqlite").write_text("this is not a database, and long enough to be read")
    with pytest.raises(CheckFailed, match="delete the file to build it again"):
        Indexer(url, {}, tmp_path / "y.sqlite").sync()
    with pytest.raises(CheckFailed, match="delete the file to build it again"):
        EventReader(tmp_path / "y.sqlite").events("Noted")


def test_the_quick_way_to_read_a_log_gives_what_the_general_one_gives() -> None:
    import random

    from eth_abi.abi import encode

    kinds = ("uint256", "uint8", "int256", "address", "bool", "bytes32", "bytes", "uint256[]")
    inputs = [{"name": f"a{i}", "type": kind, "indexed": i == 0} for i, kind in enumerate(kinds)]
    inputs.append({"name": "text", "type": "string", "indexed": False})
    abi = [{"type": "event", "name": "All", "inputs": inputs}]
    ((topic, kind),) = dao.index._event_types("Some", abi)
    chance = random.Random(1)
    for _ in range(200):
        values = [
            chance.randrange(2**256),
            chance.randrange(256),
            chance.randrange(-(2**255), 2**255),
            chance.randbytes(20),
            chance.random() < 0.5,
            chance.randbytes(32),
            chance.randbytes(chance.randrange(100)),
            [chance.randrange(2**256) for _ in range(chance.randrange(5))],
            "ä" * chance.randrange(40),
        ]
        plain = encode([*kinds[1:], "string"], values[1:])
        topics, data = [topic, "0x" + word(values[0]).hex()], "0x" + plain.hex()
        quick = kind._decode_words(topics, data)
        assert quick is not None
        assert quick == kind._decode_any(topics, data)
        # What is not plainly in form is left to the general one.
        assert kind._decode_words(topics, data[:-64]) is None
