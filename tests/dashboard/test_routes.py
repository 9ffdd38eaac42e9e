# SPDX-License-Identifier: Apache-2.0
"""What the server answers beside its pages: its headers, its names, and the way to the relay."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from dao.processes import free_port
from dashboard import settings
from dashboard.pages import PAGES
from dashboard.routes.relay import MAX_ANSWER, MAX_SENT
from dashboard.serve import DashboardServer
from tests.dashboard.sample import run_state


class OddRelay(BaseHTTPRequestHandler):
    """A relay that tells what it was asked, or misbehaves where the path says so."""

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        mood = self.path.rpartition("/")[2]
        kind, status = "application/json", 200
        text = json.dumps(
            {
                "method": self.command,
                "path": self.path,
                "client": self.headers["X-Forwarded-For"],
                "cookie": self.headers["Cookie"],
                "body": body.decode(),
            }
        )
        if mood == "huge":
            text = json.dumps("x" * MAX_ANSWER)
        elif mood == "html":
            kind = "text/html"
        elif mood == "refuse":
            status, text = 422, '{"error": {"field": "price"}}'
        elif mood == "moved":
            status = 302
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Set-Cookie", "stolen=1")
        self.end_headers()
        if mood == "cut":
            self.wfile.write(text[:10].encode())
            return
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def relay() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), OddRelay) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def server(relay: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRIDCOMMONS_HOME", str(tmp_path_factory.mktemp("routes")))
        patch.setenv(settings.RELAY, relay)
        with DashboardServer(free_port()) as running:
            yield running


def own(server: DashboardServer) -> dict[str, str]:
    return {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}


class TestHeaders:
    @pytest.mark.parametrize("path", ["/", *(f"/{one.slug}" for one in PAGES), "/_stcore/health"])
    def test_nothing_but_files_of_this_server_may_run(
        self, server: DashboardServer, path: str
    ) -> None:
        answer = requests.get(server.url + path, timeout=10)
        assert answer.status_code == 200
        rules = dict(
            one.strip().split(" ", 1)
            for one in answer.headers["Content-Security-Policy"].split(";")
        )
        assert rules["default-src"] == rules["connect-src"] == "'self'"
        assert "unsafe" not in rules["script-src"]
        assert rules["script-src"].startswith("'self' 'sha256-")
        assert rules["frame-ancestors"] == rules["object-src"] == "'none'"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"

    def test_another_name_for_this_machine_is_turned_away(self, server: DashboardServer) -> None:
        for path in ("/", "/_stcore/health", "/relay/v1/health"):
            answer = requests.get(
                server.url + path, headers={"Host": f"evil.example:{server.port}"}, timeout=10
            )
            assert answer.status_code == 421

    def test_no_program_may_drive_the_pages(self, server: DashboardServer) -> None:
        answer = requests.post(server.url + "/_stcore/agent/interact", json={}, timeout=10)
        assert answer.status_code >= 400


class TestRelay:
    def test_a_question_reaches_the_relay_and_its_answer_comes_back(
        self, server: DashboardServer
    ) -> None:
        answer = requests.get(
            f"{server.url}/relay/v1/accounts/7/orders",
            params={"before": 9, "limit": 20},
            cookies={"session": "secret"},
            timeout=10,
        )
        told = answer.json()
        assert told["path"] == "/v1/accounts/7/orders?before=9&limit=20"
        assert told["client"] == "127.0.0.1"
        # Who the visitor is stays with this server, and the relay sets nothing on it.
        assert told["cookie"] is None
        assert "Set-Cookie" not in answer.headers

    def test_what_is_sent_arrives_as_it_is(self, server: DashboardServer) -> None:
        body = '{"orders":  [1]}'
        answer = requests.post(
            f"{server.url}/relay/v1/orders",
            body,
            headers={**own(server), "Content-Type": "application/json"},
            timeout=10,
        )
        assert answer.json()["body"] == body

    def test_a_refusal_of_the_relay_is_given_on(self, server: DashboardServer) -> None:
        answer = requests.get(f"{server.url}/relay/v1/orders/refuse", timeout=10)
        assert (answer.status_code, answer.json()["error"]["field"]) == (422, "price")

    @pytest.mark.parametrize(
        "path", ["v1/receipts", "v1/feed", "docs", "v1/orders/../docs", "v2/orders", "v1/orders//"]
    )
    def test_other_paths_are_not_passed_on(self, server: DashboardServer, path: str) -> None:
        for method in ("GET", "POST"):
            question = requests.Request(method, server.url, json={}, headers=own(server)).prepare()
            question.url = f"{server.url}/relay/{path}"
            with requests.Session() as session:
                assert session.send(question, timeout=10).status_code in (400, 404)

    def test_another_question_is_not_passed_on(self, server: DashboardServer) -> None:
        answer = requests.get(
            f"{server.url}/relay/v1/orders/1", params={"next": "http://evil"}, timeout=10
        )
        assert answer.status_code == 422

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "http://evil.example", "Content-Type": "application/json"},
            {"Sec-Fetch-Site": "cross-site", "Content-Type": "application/json"},
            {"Origin": "null", "Content-Type": "application/json"},
        ],
    )
    def test_another_page_cannot_send(
        self, server: DashboardServer, headers: dict[str, str]
    ) -> None:
        answer = requests.post(f"{server.url}/relay/v1/orders", "{}", headers=headers, timeout=10)
        assert answer.status_code == 403

    def test_only_json_of_a_sane_size_is_taken(self, server: DashboardServer) -> None:
        url = f"{server.url}/relay/v1/orders"
        text = {**own(server), "Content-Type": "text/plain"}
        assert requests.post(url, "{}", headers=text, timeout=10).status_code == 415
        large = {**own(server), "Content-Type": "application/json"}
        answer = requests.post(url, b" " * (MAX_SENT + 1), headers=large, timeout=10)
        assert answer.status_code == 413

    @pytest.mark.parametrize("mood", ["huge", "html", "moved", "cut"])
    def test_an_odd_answer_is_told_as_no_answer(self, server: DashboardServer, mood: str) -> None:
        answer = requests.get(f"{server.url}/relay/v1/orders/{mood}", timeout=10)
        assert answer.status_code == 502
        assert "nothing is lost" in answer.json()["error"]["problem"]
        assert answer.json()["retry_after"] > 0


def test_an_absent_relay_is_told_and_found_once_it_is_there(
    tmp_path_factory: pytest.TempPathFactory, relay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path_factory.mktemp("absent")
    monkeypatch.delenv(settings.RELAY, raising=False)
    monkeypatch.setenv("GRIDCOMMONS_HOME", str(home))
    with DashboardServer(free_port()) as server:
        url = f"{server.url}/relay/v1/health"
        answer = requests.get(url, timeout=10)
        assert (answer.status_code, answer.json()["error"]["field"]) == (503, "relay")
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            _tell(home, asdict(run_state()), f"http://127.0.0.1:{nobody.getsockname()[1]}")
            answer = requests.get(url, timeout=10)
        assert answer.status_code == 502
        _tell(home, asdict(run_state()), relay)
        assert requests.get(url, timeout=10).json()["path"] == "/v1/health"


def _tell(home: Any, run: dict[str, Any], relay: str) -> None:
    """A run's state that names its relay."""
    time.sleep(0.01)
    (home / "run.json").write_text(json.dumps({**run, "relay": relay}))
