# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from forecasting.zone import canonical_json, forecast_zone_day, without_battery
from scripts.balance import cli
from tests.forecasting.balancing.conftest import DAY, Eve
from tests.forecasting.conftest import DemoZone
from tests.forecasting.test_zone import totals_before


@pytest.fixture(scope="module")
def evidence(eve: Eve, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evidence") / "zone-1.json"
    path.write_bytes(canonical_json(eve.forecast.evidence(eve.history)))
    return path


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "cache").symlink_to(cache)
    monkeypatch.setenv("GRIDCOMMONS_HOME", str(tmp_path))


def balance(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(one) for one in arguments])


def test_a_day_is_planned_from_its_evidence_alone(evidence: Path, tmp_path: Path) -> None:
    target, calls, chart = (tmp_path / name for name in ("plan.json", "calls.json", "day.svg"))
    found = balance(
        "plan", evidence, "-o", target, "--calls", calls, "--chart", chart, "--no-called"
    )
    assert found.exit_code == 0, found.output
    assert "Community battery on 2016-06-08" in found.output
    assert "If nothing is done" in found.output
    document = json.loads(target.read_text())
    assert document["first_slot"] == DAY
    assert [action["key"] for action in document["actions"]] == [1_000]
    assert json.loads(calls.read_text()) == document["calls"]
    assert chart.read_text().lstrip().startswith("<?xml")
    again = balance("plan", evidence, "--json", "--no-called")
    assert json.loads(again.output) == document


def test_without_a_battery_only_people_s_devices_are_left(evidence: Path) -> None:
    found = balance("plan", evidence, "--battery", "none", "--json")
    assert found.exit_code == 0, found.output
    assert 1_000 not in [action["key"] for action in json.loads(found.output)["actions"]]


def test_evidence_that_was_tampered_with_makes_no_plan(evidence: Path, tmp_path: Path) -> None:
    document = json.loads(evidence.read_text())
    document["net"]["q10"][40] -= 5_000
    forged = tmp_path / "forged.json"
    forged.write_bytes(canonical_json(document))
    found = balance("plan", forged)
    assert found.exit_code == 1
    assert "does not hold: forecast" in found.output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--grid", "nowhere"], 2, "unknown zone"),
        (["--battery", "83:1"], 2, "expected BUS"),
        (["--battery", "9999:1000:1000"], 2, "no low-voltage bus 9999"),
        (["--battery", "83:0:10"], 2, "above zero"),
        (["--stored", "300001"], 2, "cannot hold"),
        (["--battery", "none", "--stored", "5"], 2, "there is none"),
        (["--deployment", "x.json"], 2, "--network is needed"),
        (["--operator", "lake", "--calls", "c.json"], 2, "makes no proposal"),
        (["--operator", "nowhere"], 1, "holds no readings"),
        (["-o", "missing/folder/plan.json"], 2, "cannot write"),
        (["--chart", "day.nonsense"], 2, "cannot write"),
    ],
)
def test_a_mistake_is_one_line(
    evidence: Path, arguments: list[str], code: int, message: str
) -> None:
    found = balance("plan", evidence, *arguments)
    assert found.exit_code == code, found.output
    last = found.output.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert message in last


def test_a_report_needs_a_plan_and_totals_of_its_day(evidence: Path, tmp_path: Path) -> None:
    target = tmp_path / "plan.json"
    assert balance("plan", evidence, "-o", target, "--no-called").exit_code == 0
    early = balance("report", target, evidence)
    assert early.exit_code == 2
    assert "take a later one" in early.output
    for text in ("{}", "[1]", "not json"):
        broken = tmp_path / "broken.json"
        broken.write_text(text)
        found = balance("report", broken, evidence)
        assert found.exit_code == 2
        assert "Traceback" not in found.output


def test_a_plan_is_held_against_the_day_from_a_later_forecasts_evidence(
    evidence: Path, demo_zone: DemoZone, tmp_path: Path
) -> None:
    target, later = tmp_path / "plan.json", tmp_path / "later.json"
    assert balance("plan", evidence, "-o", target, "--no-called").exit_code == 0
    done = json.loads(target.read_text())["chart"]["power_w"]["1000"]
    rows = [
        [DAY + at, max(0, watts) // 4, max(0, -watts) // 4]
        for at, watts in enumerate(done)
        if watts
    ]
    rest = totals_before(demo_zone, DAY + 2 * 96)
    # The ledger's totals contain the battery; the evidence says what it did, and takes it out.
    published = without_battery(rest, [[slot, -taken, -given] for slot, taken, given in rows])
    forecast = forecast_zone_day(rest, DAY + 2 * 96)
    later.write_bytes(canonical_json(forecast.evidence(published, (), rows)))
    found = balance("report", target, later, "--json")
    assert found.exit_code == 0, found.output
    report = json.loads(found.output)
    assert report["view"] == "public"
    assert report["quarter_hours_over"]["without"] > 20
    assert report["quarter_hours_over"]["with"] < 5
    assert report["energy_wh"]["1000"]["taken"] > 100_000
    assert "promised (80 %)" in balance("report", target, later).output
    without = balance("report", target, later, "--battery", "none")
    assert without.exit_code == 2
    assert "give it with --battery" in without.output
