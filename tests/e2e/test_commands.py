# SPDX-License-Identifier: Apache-2.0
"""How the commands end on bad input and on interruption."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, bring_cache, environment, gridcommons

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--zone", "1-LV-nowhere"), "unknown zone"),
        (("--days", "-1"), "--days -1"),
        (("--days", "0"), "--days 0"),
        (("--days", "many"), "many"),
        (("--start", "06.06.2016"), "expected a date"),
        (("--history-days", "3"), "--history-days 3"),
        (("--voters", "maybe"), "maybe"),
        (("--tariffs", "/nonexistent.toml"), "cannot read tariffs"),
        (("--what",), "--what"),
    ],
)
def test_bad_use_ends_with_one_clear_line_and_code_2(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    run = gridcommons("demo", "--headless", *arguments, home=tmp_path)
    assert run.code == 2
    last = run.err.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert message in last
    assert "Traceback" not in run.err
    assert not (tmp_path / "lake").exists()


def test_a_zone_too_small_to_publish_is_refused(tmp_path: Path) -> None:
    run = gridcommons("demo", "--headless", "--zone", "1-LV-rural1--2-sw", home=tmp_path)
    assert run.code == 2
    assert "13 homes" in run.err.strip().splitlines()[-1]


def test_a_tariff_that_leaves_no_gain_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tariffs.toml"
    file.write_text("feed_in = 300\nretail = 350\ngrid_fee = 110\n")
    run = gridcommons("demo", "--headless", "--tariffs", str(file), home=tmp_path / "home")
    assert run.code == 2
    assert "nothing can be gained" in run.err


def test_the_demo_never_overwrites_anothers_state(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "precious").write_text("readings")
    run = gridcommons("demo", "--headless", "--days", "1", home=tmp_path)
    assert run.code == 2
    assert "not the demo's" in run.err
    assert (tmp_path / "lake" / "precious").read_text() == "readings"


def test_deploy_says_that_the_node_is_unreachable(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = gridcommons("deploy", "--network", f"http://127.0.0.1:{port}", home=tmp_path)
    assert run.code == 1
    assert "unreachable" in run.err
    assert "Traceback" not in run.err


def children(pid: int) -> list[int]:
    """Every process below `pid`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            if int(stat.rsplit(")", 1)[1].split()[1]) == pid:
                found += [int(entry.name), *children(int(entry.name))]
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process_and_the_next_run_works(
    tmp_path: Path, sign: signal.Signals
) -> None:
    bring_cache(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts", "demo", "--days", "3", "--history-days", "14"],
        cwd=ROOT,
        env={**environment(tmp_path), "DISPLAY": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    state = tmp_path / "run.json"
    deadline = time.monotonic() + 180
    # Interrupt in the middle of the history, with node and page running.
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        if state.exists() and "History" in json.loads(state.read_text())["work"]["what"]:
            break
        time.sleep(0.1)
    below = children(process.pid)
    assert len(below) >= 2, "a node and a page should run"
    process.send_signal(sign)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130, out
    assert "Traceback" not in out
    # The kernel takes a moment to reap.
    time.sleep(0.5)
    assert [pid for pid in below if Path(f"/proc/{pid}").exists() and _lives(pid)] == []
    run = gridcommons(
        "demo", "--days", "1", "--history-days", "14", "--headless", "--json", home=tmp_path
    )
    assert run.summary["conservation_ok"] is True


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


def test_help_of_every_command_names_its_options(tmp_path: Path) -> None:
    for command, option in (
        (("demo",), "--voters"),
        (("deploy",), "--network"),
        (("dao",), "propose"),
        (("backtest",), "--horizon"),
        (("evidence", "verify"), "--deployment"),
        (("meter", "parse"), "--timezone"),
        (("market", "clear"), "--json"),
        (("forecast",), "--horizon"),
    ):
        run = gridcommons(*command, "--help", home=tmp_path)
        assert run.code == 0
        assert option in run.out
