# SPDX-License-Identifier: Apache-2.0
"""Whatever answers at a node's address ends in an answer or in one line that names the address."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dao.errors import CheckFailed
from dao.node import Node
from dao.rpc import Refused, Rpc


@contextmanager
def answering(body: bytes, length: int | None = None) -> Iterator[str]:
    """A server that answers every call with these bytes, or promises more of them; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def result(value: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 0, "result": value}).encode()


def test_what_a_node_says_is_given() -> None:
    with answering(result([1, None, "0x"])) as url:
        assert Rpc(url).call("eth_anything", 1) == [1, None, "0x"]


def test_what_a_node_refuses_is_told_apart() -> None:
    body = b'{"jsonrpc": "2.0", "id": 0, "error": {"code": 3, "message": "execution reverted"}}'
    with answering(body) as url, pytest.raises(Refused, match=f"{url} refused eth_call: execution"):
        Rpc(url).call("eth_call")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"7",
        b"{}",
        b"\xff\xfe",
        pytest.param(b"[" * 100_000, id="nested"),
        b'{"id": 0}',
    ],
)
def test_what_is_no_node_is_named(body: bytes) -> None:
    with answering(body) as url, pytest.raises(CheckFailed, match=f"{url} is not an Ethereum node"):
        Rpc(url).call("eth_chainId")


def test_an_answer_that_breaks_off_is_no_answer() -> None:
    body = result("0x1")
    with answering(body, len(body) + 10) as url, pytest.raises(CheckFailed, match="unreachable"):
        Rpc(url).call("eth_chainId")


def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    body = result("0x" + "00" * 100_000)
    with answering(body, 1 << 40) as url, pytest.raises(CheckFailed, match="not an Ethereum node"):
        Rpc(url, most_bytes=1_000).call("eth_call")


@pytest.mark.parametrize("value", [None, 7, "0x", "zz", [], {"timestamp": None}])
def test_an_answer_of_another_kind_is_no_traceback(value: object) -> None:
    with answering(result(value)) as url:
        node = Node(url)
        for ask in (
            lambda: node.chain_id,
            node.now,
            lambda: node.view("0x" + "11" * 20, "x()"),
            lambda: node.device_at("0x" + "11" * 20, 1, 2),
        ):
            with pytest.raises(CheckFailed, match=url):
                ask()


def test_a_registry_answers_with_one_address() -> None:
    for words in ("11" * 32, "00" * 64):
        with (
            answering(result("0x" + words)) as url,
            pytest.raises(CheckFailed, match="no registry"),
        ):
            Node(url).device_at("0x" + "11" * 20, 1, 2)


def test_messages_name_what_may_be_shown() -> None:
    node = Node("http://127.0.0.1:9/?key=abc", shown="http://127.0.0.1:9/")
    with pytest.raises(CheckFailed, match=r"unreachable at http://127\.0\.0\.1:9/ ") as told:
        node.now()
    assert "abc" not in str(told.value)
