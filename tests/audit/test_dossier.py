# SPDX-License-Identifier: Apache-2.0
"""What a dossier says, that it says it twice alike, and what is answered to a bad request."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from click.testing import CliRunner, Result
from scipy.optimize import linprog

from dao import deployment as deploying
from dao.artifacts import load_artifacts
from dao.audit.anchor import publish
from dao.audit.bills import BillSecrets, read_secrets, trade_sums
from dao.audit.event_list import abis, extract
from dao.audit.package import Dossier
from dao.audit.verify import check_bills
from dao.errors import BadUse, CheckFailed
from dao.leaves import root_above
from dao.market.solver import effective_limits
from dao.merkle import root_of
from dao.relay.store import RelayStore
from forecasting.dossier import write_dossier
from meters.leaves import proof_of
from scripts.audit import cli
from tests.audit.conftest import JUNE_6, JUNE_7, Published, checks, first_fault, make
from tests.audit.village import JUNE_7 as JUNE_7_SLOT
from tests.audit.village import NEVER_CLEARED, NEVER_OPENED, ZONE, Village


@pytest.fixture
def opened(published: Published) -> Iterator[Dossier]:
    with Dossier(published.path) as dossier:
        yield dossier


def test_the_list_of_events_is_that_of_the_contracts() -> None:
    assert abis() == extract(load_artifacts())


def test_exported_twice_it_is_the_same_to_the_byte(
    village: Village, published: Published, tmp_path: Path
) -> None:
    make(village, tmp_path / "again.zip", JUNE_6, JUNE_7)
    assert (tmp_path / "again.zip").read_bytes() == published.path.read_bytes()


def test_the_balance_of_each_slot_is_closed(opened: Dossier) -> None:
    slots = opened.tables["slots"].to_pylist()
    assert len(slots) == 192
    for row in slots:
        within = row["own_use_wh"] + row["traded_wh"] + row["residual_wh"]
        assert row["import_wh"] == within + row["grid_in_wh"]
        assert row["export_wh"] == within + row["grid_out_wh"]
    assert sum(row["traded_wh"] for row in slots) > 0


def test_the_totals_are_those_of_the_ledger(village: Village, opened: Dossier) -> None:
    from dao.ledger import read_totals

    net, export = read_totals(village["ReadingLedger"], ZONE, JUNE_7_SLOT, JUNE_7_SLOT + 96)
    table = opened.tables["slots"].slice(96)
    assert table["net_wh"].to_pylist() == net.tolist()
    assert table["export_wh"].to_pylist() == export.tolist()


def test_what_went_wrong_is_told(opened: Dossier) -> None:
    kinds = {row["kind"] for row in opened.tables["anomalies"].to_pylist()}
    assert kinds == {"orders turned away", "session void", "day not scored"}
    states = {row["session"]: row["state"] for row in opened.tables["sessions"].to_pylist()}
    assert states.pop(NEVER_CLEARED) == "void"
    assert NEVER_OPENED not in states
    assert set(states.values()) == {"settled"}
    (edit,) = opened.tables["edits"].to_pylist()
    assert (edit["rule"], edit["records"]) == ("gap_linear", 3)


def test_every_cent_of_a_session_is_found_again(village: Village, opened: Dossier) -> None:
    orders = opened.tables["orders"]
    for row in opened.tables["sessions"].to_pylist():
        mine = orders.filter(pc.equal(orders["session"], row["session"]))
        assert row["escrow"] == pc.sum(mine["escrow"]).as_py()
        assert row["credited"] + row["fees"] == row["escrow"]
    # Nobody paid in or out: what accounts hold now is what they paid in, and their trades.
    moved = pc.sum(pc.subtract(orders["credit"], orders["escrow"])).as_py()
    held = sum(village["EnergyMarket"].call("account", n)[1] for n in range(1, 41))
    assert held == 40 * 100_000_000 + moved


def test_no_allocation_is_worth_more_than_the_clearing(opened: Dossier) -> None:
    """A linear programme over each of some books comes to the welfare that the table says."""
    table = {row["slot"]: row for row in opened.tables["clearing"].to_pylist()}
    from dao.audit.market import read_book, sessions_of

    tried = 0
    for session in sessions_of(opened.events, opened.scope.period)[:3]:
        book = read_book(session)
        for at in (3, 11, 19):
            row = table[session.first_slot + at]
            if row["price"] is None:
                continue
            limit, part = effective_limits(book.side, book.limit, band=(0, 1_000), fee=110)
            assert part is not None
            sign = np.where(book.side == 0, 1, -1)
            best = linprog(
                -sign * limit,
                A_eq=[sign],
                b_eq=[0],
                bounds=list(zip([0] * len(book), book.wh[:, at] * part, strict=True)),
                method="highs",
            )
            assert round(-best.fun) == row["welfare"] == row["best_welfare"]
            tried += 1
    assert tried >= 6


def test_a_payment_names_its_vote(opened: Dossier) -> None:
    (payment,) = opened.tables["payments"].to_pylist()
    assert (payment["amount"], payment["name"]) == (7_000_000, "Upkeep")
    assert (payment["votes_for"], payment["votes_against"]) == (20, 3)
    (budget,) = opened.tables["budgets"].to_pylist()
    assert budget["paid"] == 7_000_000


def test_an_action_has_forecast_decision_and_what_was_measured(opened: Dossier) -> None:
    first, second = opened.tables["actions"].to_pylist()
    assert (first["ordered_wh"], second["ordered_wh"]) == (40_000, -36_000)
    assert first["without_wh"] == first["measured_wh"] - 40_000
    assert first["proposal"] in {row["id"] for row in opened.tables["proposals"].to_pylist()}


def test_a_path_leads_from_a_part_to_the_root() -> None:
    leaves = [bytes([i]) * 32 for i in range(11)]
    for at, leaf in enumerate(leaves):
        assert root_above(leaf, proof_of(leaves, at)) == root_of(leaves)


# Bills


def secrets_of(village: Village, meter: int, folder: Path) -> Path:
    path = folder / f"secrets-{meter}.json"
    path.touch(mode=0o644)  # what lies there before does not say who may read it
    arguments = ["secrets", "--meter", str(meter), "--months", "2016-06", "-o", str(path)]
    done = run(*arguments, "--secrets", str(village.folder / "secrets.sqlite"))
    assert done.exit_code == 0, done.stderr
    assert path.stat().st_mode & 0o077 == 0
    return path


def test_a_resident_finds_the_own_bill_and_that_it_is_right(
    village: Village, opened: Dossier, tmp_path: Path
) -> None:
    for meter in (3, 25):
        (check,) = check_bills(opened, read_secrets(secrets_of(village, meter, tmp_path)))
        assert check.state == "passed", check.detail
        rows = village.readings
        mine = (rows.meter == meter) & (rows.slot >= JUNE_7_SLOT - 96)
        # Meter 25 lost three readings, which the collector estimated: it says more than it signed.
        fed_in = int(rows.export_wh[mine].sum())
        assert f"fed in {fed_in / 1000:,.3f} kWh" in check.detail
        bought = trade_sums(opened.tables["orders"])[meter, "2016-06"].bought_wh
        assert f"bought {bought / 1000:,.3f} kWh" in check.detail


def test_another_homes_secret_opens_no_bill(
    village: Village, opened: Dossier, tmp_path: Path
) -> None:
    own = read_secrets(secrets_of(village, 4, tmp_path))
    (check,) = check_bills(opened, BillSecrets(3, own.months, {}))
    assert check.state == "failed"
    assert "does not open with this secret" in check.detail


def test_a_bill_that_differs_from_the_own_meter_is_told(
    village: Village, opened: Dossier, tmp_path: Path
) -> None:
    own = read_secrets(secrets_of(village, 4, tmp_path))
    (check,) = check_bills(opened, replace(own, metered={"2016-06": (1, 2)}))
    assert check.state == "failed"
    assert "your own meter says 1 Wh" in check.detail


def test_a_bill_beside_bills_of_another_root_is_told(
    village: Village, opened: Dossier, tmp_path: Path
) -> None:
    own = read_secrets(secrets_of(village, 4, tmp_path))
    opened.manifest = replace(opened.manifest, bills_root="0x" + "00" * 32)
    (check,) = check_bills(opened, own)
    assert check.state == "failed"
    assert "not those under the dossier's root" in check.detail


def test_a_month_without_a_bill_is_told(village: Village, opened: Dossier, tmp_path: Path) -> None:
    own = read_secrets(secrets_of(village, 4, tmp_path))
    other = BillSecrets(4, {"2016-07": own.months["2016-06"]}, {})
    (check,) = check_bills(opened, other)
    assert "no bill of account 4 for 2016-07" in check.detail


# Corrections


def test_a_correction_names_what_it_corrects_and_what_changed(
    village: Village, published: Published, tmp_path: Path
) -> None:
    snapshot = village.chain.rpc("evm_snapshot")
    path = tmp_path / "corrected.zip"
    try:
        by = village.owners[2]
        village.chain.fund(by.address)
        village["ForecastRegistry"].transact(
            "open_dispute",
            village.forecaster.address,
            ZONE,
            JUNE_7_SLOT,
            "It was far off",
            sender=by,
        )
        village.chain.set_time(village.chain.now() + 2 * 86_400)
        manifest = make(village, path, JUNE_6, JUNE_7, corrects=published.path)
        assert manifest.scope.corrects == published.manifest.root
        with Dossier(path) as dossier:
            changes = dossier.tables["changes"].to_pylist()
            assert ("anomalies", "added") in {(row["table"], row["change"]) for row in changes}
            assert any("It was far off" in (row["after"] or "") for row in changes)
        publish(village["DossierAnchor"], manifest, village.collector)
        assert first_fault(checks(village, path)) is None
        # The earlier one still holds, and says that it was corrected.
        found = checks(village, published.path)
        assert first_fault(found) is None
        assert f"corrected since by {manifest.root}" in found[-1].detail
        other = make(village, tmp_path / "c.zip", JUNE_6, JUNE_7, language="de")
        with pytest.raises(CheckFailed, match="name it with --corrects"):
            publish(village["DossierAnchor"], other, village.collector)
    finally:
        village.chain.rpc("evm_revert", snapshot)
        village.chain._nonces.clear()


def test_a_dossier_corrects_only_one_of_its_own_period(
    village: Village, published: Published, tmp_path: Path
) -> None:
    with pytest.raises(BadUse, match="another period, zone or chain"):
        make(village, tmp_path / "d.zip", JUNE_6, JUNE_6, corrects=published.path)
    assert list(tmp_path.iterdir()) == []


# The command


def run(*arguments: str) -> Result:
    return CliRunner(mix_stderr=False).invoke(cli, list(arguments))


def export_command(village: Village, folder: Path, *more: str, output: str = "out.zip") -> Result:
    addresses = folder / "deployment.json"
    deploying.write(village.deployment, addresses)
    place = ["--deployment", str(addresses), "--lake", str(village.folder / "lake")]
    place += ["--secrets", str(village.folder / "secrets.sqlite"), "--rpc", village.chain.url]
    return run("export", *place, *more, "-o", str(folder / output))


def written(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "deployment.json")


PERIOD = ("--zone", "1", "--from", "2016-06-06", "--to", "2016-06-07")


def test_the_command_exports_publishes_and_verifies(village: Village, tmp_path: Path) -> None:
    snapshot = village.chain.rpc("evm_snapshot")
    try:
        days = ("--zone", "1", "--from", "2016-06-06", "--to", "2016-06-06")
        done = export_command(village, tmp_path, *days, "--publish", "--json")
        assert done.exit_code == 0, done.stderr
        facts = json.loads(done.stdout)
        assert facts["published"].startswith("0x")
        file = str(tmp_path / "out.zip")
        place = ["--deployment", str(tmp_path / "deployment.json")]
        done = run("verify", file, "--rpc", village.chain.url, "--anchored", *place)
        assert done.exit_code == 0, done.stderr
        lines = done.stdout.splitlines()
        assert lines[1] == f"Root {facts['root']}"
        assert all(" ok " in f"{line} " for line in lines[3:]), done.stdout
    finally:
        village.chain.rpc("evm_revert", snapshot)
        village.chain._nonces.clear()


def test_without_a_node_what_needs_one_is_not_checked(published: Published) -> None:
    done = run("verify", str(published.path), "--json")
    assert done.exit_code == 0, done.stderr
    states = {one["name"]: one["state"] for one in json.loads(done.stdout)["checks"]}
    assert states["totals"] == "passed"
    assert states["events"] == states["anchor"] == "not checked"


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--zone", "9", *PERIOD[2:]), 2, "zone 9 is unknown; the chain knows 1"),
        ((*PERIOD[:4], "--to", "2016-06-05"), 2, "the period is empty"),
        ((*PERIOD[:2], "--from", "2016-6-6", *PERIOD[4:]), 2, "expected a UTC day"),
        ((*PERIOD[:2], "--from", "2014-06-06", *PERIOD[4:]), 2, "at most 366 days"),
        ((*PERIOD[:4], "--to", "2016-06-13"), 1, "the period is still open"),
        ((*PERIOD[:4], "--to", "2016-06-08"), 1, "batches are missing"),
        ((*PERIOD[:2], "--from", "2016-06-01", "--to", "2016-06-05"), 1, "batches are missing"),
        ((*PERIOD, "--lang", "fr"), 2, "expected en or de"),
        ((*PERIOD, "--corrects", "nothing.zip"), 2, "cannot read nothing.zip"),
        ((*PERIOD, "--account", "2"), 2, "--publish is needed"),
    ],
)
def test_a_bad_request_is_answered_plainly_and_leaves_no_file(
    village: Village, tmp_path: Path, options: tuple[str, ...], code: int, said: str
) -> None:
    done = export_command(village, tmp_path, *options)
    assert done.exit_code == code, done.stderr
    assert said in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert written(tmp_path) == []


def test_a_lake_that_lacks_a_batch_or_has_another_is_told(village: Village, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(village.folder / "lake", lake)
    other, file = sorted(lake.glob("zone=1/day=2016-06-07/*.parquet"))[:2]
    file.unlink()
    done = export_command(village, tmp_path, *PERIOD, "--lake", str(lake))
    assert done.exit_code == 1
    assert "the lake has no batch of zone 1" in done.stderr
    file.write_bytes(other.read_bytes())
    done = export_command(village, tmp_path, *PERIOD, "--lake", str(lake))
    assert done.exit_code == 1
    assert "another root than the ledger" in done.stderr
    assert written(tmp_path) == ["lake"]


def test_an_output_that_cannot_be_written_is_told(village: Village, tmp_path: Path) -> None:
    done = export_command(village, tmp_path, *PERIOD, output="no/such/folder.zip")
    assert done.exit_code == 2
    assert "cannot write" in done.stderr


def test_an_earlier_file_stays_where_the_export_fails(village: Village, tmp_path: Path) -> None:
    (tmp_path / "out.zip").write_bytes(b"yesterday's")
    done = export_command(village, tmp_path, *PERIOD, "--lake", str(tmp_path / "nothing"))
    assert done.exit_code == 1
    assert (tmp_path / "out.zip").read_bytes() == b"yesterday's"


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"no zip at all"])
def test_what_is_no_dossier_is_bad_use(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    done = run("verify", str(path))
    assert done.exit_code == 2
    assert "is not a dossier" in done.stderr


def test_a_node_that_is_away_is_told_and_is_no_fault_of_the_dossier(published: Published) -> None:
    done = run("verify", str(published.path), "--rpc", "http://127.0.0.1:1")
    assert done.exit_code == 1
    assert "node unreachable" in done.stderr


def test_contracts_of_another_deployment_are_named(
    village: Village, published: Published, tmp_path: Path
) -> None:
    document = village.deployment.as_dict()
    document["contracts"]["ReadingLedger"] = village["Treasury"].address
    (tmp_path / "deployment.json").write_text(json.dumps(document))
    place = ["--deployment", str(tmp_path / "deployment.json")]
    done = run("verify", str(published.path), "--rpc", village.chain.url, *place)
    assert done.exit_code == 1
    assert "the dossier's ReadingLedger is another one" in done.stderr


def test_verify_starts_without_ape_prophet_streamlit_or_matplotlib(published: Published) -> None:
    program = (
        "import sys; from scripts.audit import cli; "
        f"cli(['verify', {str(published.path)!r}], standalone_mode=False); "
        "heavy = {'ape', 'prophet', 'streamlit', 'matplotlib', 'vyper', 'boa', 'scipy'}; "
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert "HEAVY []" in done.stdout, done.stdout + done.stderr


def test_only_the_zones_collector_publishes(village: Village, published: Published) -> None:
    with pytest.raises(CheckFailed, match="caller is not the zone's collector"):
        village["DossierAnchor"].transact(
            "publish", ZONE, JUNE_7_SLOT, 96, b"\1" * 32, bytes(32), sender=village.relay
        )


def test_what_the_relay_promised_and_did_not_post_is_counted(
    village: Village, tmp_path: Path
) -> None:
    relay = tmp_path / "relay.sqlite"
    RelayStore(relay).close()
    states = ("accepted", "accepted", "rejected", "withdrawn", "late", "received")
    with sqlite3.connect(relay) as db:
        for number, state in enumerate(states):
            db.execute(
                "INSERT INTO orders (id, zone, session, account, gate, signed, escrow, promise, "
                "state, received_at, received_block) VALUES (?, 1, ?, 7, 0, '', 0, x'', ?, 0, 0)",
                (bytes([number]), JUNE_7_SLOT, state),
            )
        db.execute("UPDATE orders SET session = ? WHERE id = x'01'", (JUNE_7_SLOT + 96,))
    db.close()
    path = tmp_path / "june.zip"
    write_dossier(village.request(JUNE_7, JUNE_7), village.sources(relay=relay), path)
    with Dossier(path) as dossier:
        (row,) = dossier.tables["promises"].to_pylist()
        # One of them was for a session after the period. What still waits after its gate is broken.
        assert row == {
            "session": JUNE_7_SLOT,
            "promised": 5,
            "posted": 2,
            "withdrawn": 1,
            "not_posted": 2,
        }
        figures = {one["name"]: one["value"] for one in dossier.tables["figures"].to_pylist()}
        assert (figures["orders_promised"], figures["orders_not_posted"]) == (5, 2)
    assert first_fault(checks(village, path)) is None
