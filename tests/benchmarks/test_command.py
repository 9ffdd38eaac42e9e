# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks.results import Result, merge, seconds, table

ROOT = Path(__file__).resolve().parents[2]


def fake_suite(monkeypatch: pytest.MonkeyPatch, name: str, result: Result) -> list[str]:
    """Replace a suite by one that gives `result`; returns the list of its runs."""
    runs: list[str] = []

    def run() -> Result:
        runs.append(name)
        return result

    module = types.ModuleType(f"benchmarks.{name}")
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"benchmarks.{name}", module)
    return runs


@pytest.fixture
def suites(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Every suite replaced, each with one figure named after it."""
    return {
        name: fake_suite(monkeypatch, name, Result(figures={f"{name}.one": at}))
        for at, name in enumerate(command.SUITES)
    }


def test_json_has_exactly_the_three_parts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = Result({"gas.a": 3}, {"gas.peer": 4.5}, {"gas.ratio": 1.5}, {"gas.a": "a note"})
    fake_suite(monkeypatch, "gas", result)
    assert command.main(["gas", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "figures": {"gas.a": 3},
        "peers": {"gas.peer": 4.5},
        "ratios": {"gas.ratio": 1.5},
    }


def test_all_suites_run_when_none_is_named(
    suites: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["figures"]) == {f"{n}.one" for n in suites}
    assert all(len(runs) == 1 for runs in suites.values())


def test_a_suite_named_twice_runs_once(
    suites: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["market", "market"]) == 0
    assert {name: len(runs) for name, runs in suites.items() if runs} == {"market": 1}
    assert "market.one" in capsys.readouterr().out


def test_an_unknown_suite_is_named_in_one_line_before_any_runs(
    suites: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["market", "petrol"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "'petrol'" in said.err
    assert "market" in said.err
    assert not any(suites.values())


def test_help_and_a_wrong_name_import_no_suite() -> None:
    program = (
        "import sys; from benchmarks.__main__ import main; main(['petrol']);"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in"
        " ('numpy', 'ape', 'prophet', 'coincurve')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_two_suites_may_not_claim_one_name() -> None:
    with pytest.raises(ValueError, match="x"):
        merge([Result(figures={"x": 1}), Result(figures={"x": 2})])


def test_the_table_shows_names_numbers_and_notes() -> None:
    shown = table(Result({"gas.a": 12_345}, {}, {"gas.r": 0.000_512}, {"gas.a": "in one"}))
    assert "12,345  in one" in shown
    assert "0.000512" in shown
    assert "Peers" not in shown


def test_time_is_that_of_the_shortest_run() -> None:
    runs = iter([0.05, 0.0, 0.05])
    took, last = seconds(lambda: __import__("time").sleep(next(runs)) or "done", repeat=3)
    assert took < 0.05
    assert last == "done"
