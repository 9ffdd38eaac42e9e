# SPDX-License-Identifier: Apache-2.0
"""How everything runs: what is looked at, what is said of it, and who may know."""

from __future__ import annotations

import ast
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dao import due, status
from dao.due import look_due
from dao.processes import free_port
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from dao.status import Part, Places, State, look
from dashboard.i18n import Formats
from dashboard.identity import Person
from dashboard.repositories import operations as watching
from dashboard.services import operations
from dashboard.services.operations import Standing
from dashboard.settings import Settings
from tests.dashboard.sample import FIRST_SLOT, ZONE, Index

NOBODY = f"http://127.0.0.1:{free_port()}"
ADDRESS = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
PATIENCE_S = 0.5


@contextmanager
def answering(body: bytes) -> Iterator[str]:
    """Something that answers every question alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def mute() -> Iterator[str]:
    """Something that takes a connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def by_name(parts: list[Part]) -> dict[str, Part]:
    return {one.part: one for one in parts if one.part}


def places(folder: Path, **changes: Any) -> Places:
    given = {"rpc": NOBODY, "collector": NOBODY, "relay": NOBODY, "patience_s": PATIENCE_S}
    return Places(home=folder, **{**given, **changes})


def test_dead_parts_are_told(tmp_path: Path) -> None:
    found = by_name(look(places(tmp_path)))
    for name in ("node", "relay", "collector"):
        assert (found[name].state, found[name].code) == (State.WRONG, "away")
    assert found["keeper"].state is State.UNCHECKED


def test_nobody_waits_for_a_part_that_says_nothing(tmp_path: Path) -> None:
    with mute() as silent:
        found = by_name(look(places(tmp_path, relay=silent, patience_s=20.0), deadline_s=0.2))
    assert (found["relay"].state, found["relay"].code) == (State.WRONG, "late")


def test_what_answers_nonsense_is_wrong(tmp_path: Path) -> None:
    for body in (
        b"hello",
        b"[]",
        b"[" * 100_000,
        b'{"status": []}',
        b'{"orders": 7, "problems": 1}',
    ):
        with answering(body) as url:
            found = by_name(look(places(tmp_path, rpc=url, relay=url, collector=url)))
        assert {found[name].state for name in ("node", "relay", "collector")} == {State.WRONG}


def test_an_odd_node_blinds_nobody_for_the_rest(tmp_path: Path) -> None:
    """A node that answers every question with one word, and not with what was asked for."""
    index = sessions(tmp_path)
    at(index, (FIRST_SLOT + 48) * SLOT_SECONDS)
    contracts = (("GridGovernor", ADDRESS), ("ReadingLedger", ADDRESS))
    for result in ('"0x7a69"', '{"from": 7, "gasUsed": "0x1"}', '"0x' + "00" * 96 + '"', "null"):
        body = f'{{"jsonrpc": "2.0", "id": 0, "result": {result}}}'.encode()
        with answering(body) as url:
            where = places(tmp_path, rpc=url, contracts=contracts, chain_id=status.LOCAL_CHAIN)
            found = by_name([*look(where), *look_due(where)])
        assert found["clearing"].state is State.WRONG
        assert {"node", "relay", "readings", "votes"} <= set(found)


def test_what_a_relay_complains_of_is_passed_on(tmp_path: Path) -> None:
    health = {"status": "degraded", "problems": ["no gas"], "orders": {"posted": 3}}
    with answering(json.dumps(health).encode()) as url:
        relay = by_name(look(places(tmp_path, relay=url)))["relay"]
    assert (relay.state, relay.said, relay.facts["orders"]) == (State.WRONG, ("no gas",), 3)


def test_an_address_is_told_by_its_host_alone(tmp_path: Path) -> None:
    secret = "s3cr3t"
    port = free_port()
    url = f"http://user:{secret}@127.0.0.1:{port}/v3/{secret}?key={secret}"
    settings = Settings(home=tmp_path, rpc=url, relay=url)
    found = look(watching.places(settings, ZONE))
    told = [str(one) for one in found]
    told += [operations.sentence(one, Formats()) for one in found]
    assert secret not in " ".join(told)
    assert f"127.0.0.1:{port}" in " ".join(told)


def sessions(folder: Path) -> Index:
    """A session that was settled, one that waits since its delivery, and one past its gate."""
    index = Index(folder / "index.sqlite")
    for number, (cleared, settled) in enumerate([(24, 24), (24, 0), (0, 0)]):
        first = FIRST_SLOT + 24 * number
        gate = first * SLOT_SECONDS - 3_600
        args = {"zone": ZONE, "first_slot": first, "slots": 24, "gate": gate, "penalty": 100}
        index.add("SessionOpened", gate - 600, args, "EnergyMarket")
        for slot in range(first, first + cleared):
            index.clear(slot, 200, 100)
        for slot in range(first, first + settled):
            index.settle(slot, 200, 100)
    return index


def at(index: Index, now: int) -> None:
    """Let the index end at a moment."""
    index.add("Nothing", now, {})


def test_sessions_are_due_and_then_late(tmp_path: Path) -> None:
    index = sessions(tmp_path)
    where = places(tmp_path, chain_id=status.LOCAL_CHAIN, rpc=None)
    delivered = (FIRST_SLOT + 48) * SLOT_SECONDS
    at(index, delivered + 60)
    found = by_name(look_due(where))
    # The third session's gate closed seven hours ago.
    assert (found["clearing"].state, found["clearing"].facts["late"]) == (State.WRONG, 1)
    assert (found["settlement"].state, found["settlement"].facts["open"]) == (State.WELL, 1)
    at(index, delivered + 14 * 3_600)
    found = by_name(look_due(where))
    assert (found["settlement"].state, found["settlement"].facts["late"]) == (State.WRONG, 1)
    assert found["settlement"].facts["oldest"] == delivered


def test_a_voided_session_is_due_to_nobody(tmp_path: Path) -> None:
    index = sessions(tmp_path)
    args = {"zone": ZONE, "first_slot": FIRST_SLOT + 48, "from_slot": FIRST_SLOT + 48}
    now = (FIRST_SLOT + 48) * SLOT_SECONDS
    index.add("SessionVoided", now, args, "EnergyMarket")
    found = by_name(look_due(places(tmp_path, chain_id=status.LOCAL_CHAIN, rpc=None)))
    assert (found["clearing"].state, found["clearing"].code) == (State.WELL, "nothing-due")


def test_a_batch_and_a_forecast_are_late_when_their_time_is_over(tmp_path: Path) -> None:
    index = Index(tmp_path / "index.sqlite")
    index.commit(FIRST_SLOT, np.zeros(24, dtype=np.int64), np.zeros(24, dtype=np.int64))
    args = {"forecaster": ADDRESS, "zone": ZONE, "first_slot": FIRST_SLOT, "commitment": "0x"}
    index.add("ForecastCommitted", FIRST_SLOT * SLOT_SECONDS - 18_000, args, "ForecastRegistry")
    where = places(tmp_path, chain_id=status.LOCAL_CHAIN, rpc=None)
    due_at = (FIRST_SLOT + 48) * SLOT_SECONDS + due.BATCH_DELAY_S
    at(index, due_at + due.LATE_S)
    found = by_name(look_due(where))
    assert (found["readings"].state, found["readings"].facts["due"]) == (State.WELL, due_at)
    assert found["forecast"].code == "forecast-due"
    at(index, (FIRST_SLOT + SLOTS_PER_DAY) * SLOT_SECONDS - 60)
    found = by_name(look_due(where))
    assert (found["readings"].state, found["forecast"].state) == (State.WRONG, State.WRONG)
    tomorrow = {**args, "first_slot": FIRST_SLOT + SLOTS_PER_DAY}
    index.add(
        "ForecastCommitted",
        (FIRST_SLOT + SLOTS_PER_DAY) * SLOT_SECONDS - 50,
        tomorrow,
        "ForecastRegistry",
    )
    assert by_name(look_due(where))["forecast"].state is State.WELL


def test_every_code_has_its_sentence() -> None:
    """A state that somebody adds without words would be told by its colour alone."""
    made = {
        text.value
        for module in (status, due)
        for call in ast.walk(ast.parse(Path(str(module.__file__)).read_text()))
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Part"
        for text in ast.walk(call.args[3])
        if isinstance(text, ast.Constant) and isinstance(text.value, str)
    }
    assert {"away", "node", "relay", "batch-late"} <= made
    # These have no line of their own on the page.
    assert made - set(operations._SENTENCES) == {"warning", "silent-meters", "-late"}


def test_an_unknown_code_or_fact_is_no_error() -> None:
    fmt = Formats()
    assert operations.sentence(Part("relay", State.WRONG, "", "new"), fmt) == ""
    assert operations.sentence(Part("relay", State.WELL, "", "relay", {}), fmt) == ""
    assert "–" in operations.sentence(
        Part("relay", State.WELL, "", "relay", {"orders": 3, "broken": None}), fmt
    )


def test_gas_is_told_by_role_and_by_what_it_lasts_for() -> None:
    facts = {"role": "keeper", "account": ADDRESS, "gwei": 1_500_000_000, "left": 70}
    (found,) = operations.accounts([Part("gas", State.WRONG, "", "gas-low", facts)])
    assert found == operations.Account("clears and settles", ADDRESS, 1.5, 70, True)
    assert operations.accounts([Part("gas", State.UNCHECKED, "", "no-node")]) == []


def test_the_public_learns_whether_it_works_and_nothing_else() -> None:
    parts = [
        Part("node", State.WELL, "chain 1, secret"),
        Part("relay", State.WRONG, "secret"),
        Part("clearing", State.WELL, "secret"),
    ]
    assert operations.standing(parts) == {
        "chain": Standing.WORKS,
        "trade": Standing.LATE,
        "readings": Standing.UNKNOWN,
        "decisions": Standing.UNKNOWN,
    }


def test_operators_are_whom_the_variable_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = Settings(home=tmp_path)
    here = replace(far, local=True)
    somebody = Person("0x" + "11" * 20)
    assert watching.is_operator(here, None)
    assert not watching.is_operator(far, None)
    assert not watching.is_operator(far, somebody)
    monkeypatch.setenv(watching.OPERATORS, f" nonsense, {ADDRESS.lower()} ,")
    for settings in (far, here):
        assert watching.is_operator(settings, Person(ADDRESS))
        assert not watching.is_operator(settings, somebody)
        assert not watching.is_operator(settings, None)
    monkeypatch.setenv(watching.OPERATORS, "nonsense")
    assert not watching.is_operator(here, Person("nonsense"))


def test_a_page_is_answered_at_once_and_later_has_what_was_seen(tmp_path: Path) -> None:
    watch = watching.Watch()
    with mute() as silent:
        where = places(tmp_path, relay=silent, patience_s=2.0)
        assert watch.ask(where, wait_s=0.0).parts is None
        assert watch._looking is not None
        watch._looking.join(30)
        seen = watch.ask(where, wait_s=0.0)
    assert seen.parts is not None
    assert by_name(list(seen.parts))["relay"].state is State.WRONG
    # Another run begins: what was seen of the old one is not told of it.
    assert watch.ask(replace(where, relay=NOBODY), wait_s=0.0).parts is None
