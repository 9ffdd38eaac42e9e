# SPDX-License-Identifier: Apache-2.0
"""A forecast's evidence held against a real node: ledger, battery windows, commitment, reveal."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from dao import deployment as deploying
from dao import forecasts, ledger
from dao.anvil import AnvilNode
from dao.chain import Chain, LocalAccount
from dao.deployment import Deployment, Roles
from dao.eip712 import keccak
from dao.parameters import COMMUNITY_BATTERY, DAY, HOUR
from dao.slots import SLOT_SECONDS, first_slot_of_day
from forecasting.evidence import newest_batches
from forecasting.zone import (
    ZoneTotals,
    canonical_json,
    evidence_hash,
    forecast_zone_day,
    without_battery,
)
from scripts.evidence import cli

ZONE = 1
HISTORY_DAYS = 8
TARGET = first_slot_of_day(date(2016, 6, 8))
MIDNIGHT = TARGET * SLOT_SECONDS
BEGIN = TARGET - HISTORY_DAYS * 96
BATTERY_SLOT = TARGET - 96 + 40
BOND = 100_000_000
SALT = keccak(b"salt")


@dataclass
class Town:
    """A ledger with a week in it, the day's forecast committed and revealed, and its evidence."""

    chain: Chain
    deployment: Deployment
    collector: LocalAccount
    evidence: dict[str, Any]
    waiting: dict[str, Any]
    """Evidence of the day after, which is committed and not revealed."""
    addresses: Path

    def verify(self, document: dict[str, Any], folder: Path) -> Result:
        path = folder / "evidence.json"
        path.write_bytes(canonical_json(document))
        place = ["--network", self.chain.url, "--deployment", str(self.addresses)]
        return CliRunner(mix_stderr=False).invoke(cli, ["verify", str(path), "--json", *place])


def totals(first_slot: int, slots: int) -> tuple[np.ndarray, np.ndarray]:
    at = np.arange(first_slot, first_slot + slots)
    export = np.where((at % 96 > 28) & (at % 96 < 76), 20_000 + 37 * (at % 101), 0)
    return 15_000 + 53 * (at % 96) - export, export


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with (
        AnvilNode(timestamp=MIDNIGHT - HISTORY_DAYS * DAY) as node,
        Chain.local(node.url) as chain,
    ):
        yield settle(chain, tmp_path_factory.mktemp("town") / "deployment.json")


def settle(chain: Chain, addresses: Path) -> Town:
    registrar, collector, forecaster, guardian = chain.accounts[1:5]
    made = deploying.deploy(
        chain,
        Roles(registrar.address, collector.address, forecaster.address, guardian.address),
        zone=ZONE,
    )
    registry = made["ForecastRegistry"]
    made["TestEuro"].transact("mint", forecaster.address, BOND)
    made["TestEuro"].transact("approve", registry.address, BOND, sender=forecaster)
    registry.transact("deposit_bond", BOND, sender=forecaster)
    chain.set_time(MIDNIGHT - 2 * DAY)
    made["GridParameters"].transact(
        "open_window", ZONE, COMMUNITY_BATTERY, BATTERY_SLOT, 4, 40_000, sender=chain.deployer
    )
    deploying.write(made, addresses)
    chain.set_time(MIDNIGHT - 6 * HOUR)
    end = TARGET - 24
    for first in range(BEGIN, end, 96):
        commit(made, collector, first, min(96, end - first))
    # All of a second zone's batches lie in the same slots.
    made["ReadingLedger"].transact("set_collector", 2, collector.address, sender=chain.deployer)
    commit(made, collector, BEGIN, 96, zone=2)
    evidence = commit_forecast(made, forecaster, TARGET)
    waiting = commit_forecast(made, forecaster, TARGET + 96)
    chain.set_time(MIDNIGHT + HOUR)
    reveal(made, forecaster, evidence)
    return Town(chain, made, collector, evidence, waiting, addresses)


def commit(made: Deployment, by: LocalAccount, first: int, slots: int, zone: int = ZONE) -> None:
    net, export = totals(first, slots)
    ledger.commit(
        made["ReadingLedger"],
        by,
        zone=zone,
        first_slot=first,
        root=keccak(f"{zone} {first}".encode()),
        homes=20,
        leaves=20 * slots,
        net_wh=net,
        export_wh=export,
    )


def commit_forecast(made: Deployment, by: LocalAccount, first_slot: int) -> dict[str, Any]:
    chain_ledger = made["ReadingLedger"]
    end = TARGET - 24
    published = ZoneTotals(BEGIN, *ledger.read_totals(chain_ledger, ZONE, BEGIN, end))
    battery_wh = [[BATTERY_SLOT, 10_000, 0], [BATTERY_SLOT + 1, 9_000, 0]]
    forecast = forecast_zone_day(without_battery(published, battery_wh), first_slot)
    roots = ["0x" + one.root.hex() for one in newest_batches(chain_ledger, ZONE, BEGIN, end)]
    document = forecast.evidence(published, roots, battery_wh)
    words = words_of(document)
    digest = forecasts.commitment(
        ZONE, first_slot, by.address, words, evidence_hash(document), SALT
    )
    made["ForecastRegistry"].transact("commit", ZONE, first_slot, digest, sender=by)
    return document


def words_of(document: dict[str, Any]) -> list[int]:
    return forecasts.pack_quantiles(*(document["net"][part] for part in ("q10", "q50", "q90")))


def reveal(made: Deployment, by: LocalAccount, document: dict[str, Any]) -> None:
    made["ForecastRegistry"].transact(
        "reveal",
        ZONE,
        document["first_slot"],
        words_of(document),
        evidence_hash(document),
        SALT,
        sender=by,
    )


def checks(done: Result) -> dict[str, dict[str, str]]:
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def failed(done: Result) -> set[str]:
    return {name for name, check in checks(done).items() if check["state"] == "failed"}


def test_what_was_revealed_holds_against_the_chain(town: Town, tmp_path: Path) -> None:
    done = town.verify(town.evidence, tmp_path)
    assert done.exit_code == 0, done.stderr
    assert {check["state"] for check in checks(done).values()} == {"passed"}
    assert "744 slots" in checks(done)["totals"]["detail"]
    assert "8 batches" in checks(done)["roots"]["detail"]
    assert town.chain.accounts[3].address in checks(done)["registry"]["detail"]


def test_totals_that_the_ledger_does_not_have_are_named(town: Town, tmp_path: Path) -> None:
    # A forecaster whose whole file agrees with itself, but not with the chain.
    told = town.evidence
    net = np.array(told["totals"]["net"])
    net[100] += 1
    published = ZoneTotals(BEGIN, net, np.array(told["totals"]["export"]))
    forecast = forecast_zone_day(without_battery(published, told["battery_wh"]), TARGET)
    other = forecast.evidence(published, told["roots"], told["battery_wh"])
    done = town.verify(other, tmp_path)
    assert done.exit_code == 1
    assert failed(done) == {"totals", "registry"}
    right = town.evidence["totals"]["net"][100]
    detail = checks(done)["totals"]["detail"]
    assert detail.startswith(f"net of slot {BEGIN + 100} (2016-06-01 01:00 UTC): ")
    assert detail.endswith(
        f"the file says {right + 1} Wh, the ledger {right} Wh; 1 of 744 slots differ"
    )


def test_a_root_that_is_wrong_or_missing_is_found(town: Town, tmp_path: Path) -> None:
    other = copy.deepcopy(town.evidence)
    other["roots"][3] = "0x" + "12" * 32
    done = town.verify(other, tmp_path)
    assert failed(done) == {"roots", "registry"}
    assert f"batch of slot {BEGIN + 3 * 96} " in checks(done)["roots"]["detail"]
    other["roots"] = town.evidence["roots"][:-1]
    done = town.verify(other, tmp_path)
    assert "names 7 roots, the ledger has 8" in checks(done)["roots"]["detail"]


def test_a_battery_beyond_its_window_is_found(town: Town, tmp_path: Path) -> None:
    for row in (
        [BATTERY_SLOT, 10_001, 0],
        [BATTERY_SLOT, 0, 1],
        [BATTERY_SLOT + 4, 1, 0],
    ):
        other = copy.deepcopy(town.evidence)
        other["battery_wh"] = [row]
        done = town.verify(other, tmp_path)
        assert "battery" in failed(done)
        assert f"slot {row[0]} " in checks(done)["battery"]["detail"]


def test_what_is_not_revealed_yet_is_not_called_checked(town: Town, tmp_path: Path) -> None:
    done = town.verify(town.waiting, tmp_path)
    assert done.exit_code == 0, done.stderr
    assert checks(done)["registry"]["state"] == "not checked"
    assert "not revealed" in checks(done)["registry"]["detail"]


def test_a_day_that_nobody_committed_to_fails(town: Town, tmp_path: Path) -> None:
    published = ZoneTotals(
        BEGIN, *(np.array(town.evidence["totals"][k]) for k in ("net", "export"))
    )
    battery_wh = town.evidence["battery_wh"]
    forecast = forecast_zone_day(without_battery(published, battery_wh), TARGET + 2 * 96)
    done = town.verify(forecast.evidence(published, town.evidence["roots"], battery_wh), tmp_path)
    assert failed(done) == {"registry"}
    assert "nobody committed" in checks(done)["registry"]["detail"]


def test_no_node_and_no_deployment_end_with_one_line(town: Town, tmp_path: Path) -> None:
    path = tmp_path / "evidence.json"
    path.write_bytes(canonical_json(town.evidence))
    for place, code in (
        (["--network", "http://127.0.0.1:9", "--deployment", str(town.addresses)], 1),
        (["--network", town.chain.url, "--deployment", str(tmp_path / "none.json")], 2),
    ):
        done = CliRunner(mix_stderr=False).invoke(cli, ["verify", str(path), *place])
        assert done.exit_code == code
        assert done.stderr.count("\n") == 1


def test_a_later_correction_is_told_and_fails_nothing(town: Town, tmp_path: Path) -> None:
    first = TARGET - 96
    opens, _ = ledger.correction_window(town.deployment["ReadingLedger"], ZONE, first)
    town.chain.set_time(max(opens, town.chain.now()))
    net, export = totals(first, 72)
    ledger.correct(
        town.deployment["ReadingLedger"],
        town.collector,
        zone=ZONE,
        first_slot=first,
        root=keccak(b"corrected"),
        homes=20,
        leaves=20 * 72,
        net_wh=net + 5,
        export_wh=export,
    )
    done = town.verify(town.evidence, tmp_path)
    assert done.exit_code == 0, done.stderr
    assert "1 corrected since" in checks(done)["totals"]["detail"]
