# SPDX-License-Identifier: Apache-2.0
"""How the commands end on bad input."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.e2e.conftest import gridcommons, in_process

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
    run = in_process("demo", "--headless", *arguments, home=tmp_path)
    assert run.code == 2
    last = run.err.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert message in last
    assert "Traceback" not in run.err
    assert not (tmp_path / "lake").exists()


def test_a_zone_too_small_to_publish_is_refused(tmp_path: Path) -> None:
    run = in_process("demo", "--headless", "--zone", "1-LV-rural1--2-sw", home=tmp_path)
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
    run = in_process("demo", "--headless", "--days", "1", home=tmp_path)
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
        run = in_process(*command, "--help", home=tmp_path)
        assert run.code == 0
        assert option in run.out
