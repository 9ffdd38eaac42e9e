# SPDX-License-Identifier: Apache-2.0
"""A day of a street, from the registers of real devices to the ledger and back to the resident."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dao.anvil import AnvilNode
from dao.chain import Chain
from dao.ledger import read_totals
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from meters.lake import batch_files, read_batch
from meters.lake.batches import signed_rows
from meters.readings import Quality, Readings
from meters.signing import reading_separator
from tests.e2e.street import BATTERY, CAP, CHARGE, GIVE, P1, REAL, STORE, WALLBOX, Day, lived
from tests.meters.gateway.house import FIRST_SLOT, START
from tests.meters.service.zone import HOMES, ZONE

END = FIRST_SLOT + SLOTS_PER_DAY


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    folder = tmp_path_factory.mktemp("street")
    with (
        AnvilNode(timestamp=START - 2 * 86_400) as node,
        Chain.local(node.url) as chain,
    ):
        yield lived(folder, node, chain)


@pytest.fixture(scope="module")
def stored(street: Day) -> Readings:
    """The day as its files hold it, by meter and slot, with links put back."""
    separator = reading_separator(
        street.on.chain.chain_id, street.on.deployment["MeterRegistry"].address
    )
    lake = street.folder / "lake"
    files = batch_files(lake, ZONE, FIRST_SLOT, SLOTS_PER_DAY)
    return Readings.concat([signed_rows(read_batch(file.path), separator) for file in files])


def test_the_ledger_holds_exactly_the_wh_of_the_devices(street: Day, stored: Readings) -> None:
    assert len(street.truth) == HOMES * SLOTS_PER_DAY
    held = {(row.meter, row.slot): (row.import_wh, row.export_wh) for row in stored}
    assert held == street.truth
    assert set(stored.quality.tolist()) == {Quality.MEASURED}
    net, export = np.zeros(SLOTS_PER_DAY, int), np.zeros(SLOTS_PER_DAY, int)
    for (_, slot), (imported, exported) in street.truth.items():
        net[slot - FIRST_SLOT] += imported - exported
        export[slot - FIRST_SLOT] += exported
    on_chain = read_totals(street.on.ledger, ZONE, FIRST_SLOT, END)
    assert on_chain[0].tolist() == net.tolist()
    assert on_chain[1].tolist() == export.tolist()


def test_something_flowed_through_every_device(street: Day) -> None:
    for meter in REAL:
        moved = [sum(wh) for (m, _), wh in street.truth.items() if m == meter]
        assert sum(moved) > 1_000, meter


def test_a_collector_killed_in_the_middle_has_lost_nothing(street: Day, stored: Readings) -> None:
    assert street.before_kill > 0
    assert street.refused == 0
    for meter in REAL:
        mine = stored.take(stored.meter == meter)
        first = int(mine.sequence[0])
        assert mine.sequence.tolist() == list(range(first, first + SLOTS_PER_DAY))


def test_heads_agree_and_a_meter_without_readings_has_none(street: Day) -> None:
    assert street.silent_head == {"sequence": -1, "link": "0x" + "00" * 32}
    for answer, own in street.heads.values():
        assert own is not None
        assert answer == {"sequence": own.sequence, "link": "0x" + own.link.hex()}


def test_the_battery_and_the_charge_point_obeyed_the_windows(street: Day) -> None:
    wanted = {
        slot: window.value
        for window in (CHARGE, GIVE)
        for slot in range(window.first_slot, window.first_slot + window.slots)
    }
    run = STORE.run(wanted, FIRST_SLOT, SLOTS_PER_DAY)
    told = [street.truth[BATTERY, slot] for slot in range(FIRST_SLOT, END)]
    assert [wh for wh, _ in told] == run.import_wh.tolist()
    assert [wh for _, wh in told] == run.export_wh.tolist()
    for slot in range(CAP.first_slot, CAP.first_slot + CAP.slots):
        assert street.truth[WALLBOX, slot] == (CAP.value // 4, 0)
    assert street.truth[WALLBOX, CAP.first_slot - 1][0] > CAP.value // 4


def test_signed_reports_of_what_was_done_are_at_the_collector(street: Day) -> None:
    separator = reading_separator(
        street.on.chain.chain_id, street.on.deployment["MeterRegistry"].address
    )
    reports = street.reports()
    expected = {
        (meter, slot): window.value
        for meter, windows in ((BATTERY, (CHARGE, GIVE)), (WALLBOX, (CAP,)))
        for window in windows
        for slot in range(window.first_slot, window.first_slot + window.slots)
    }
    assert {at: report.wanted for at, report in reports.items()} == expected
    for (meter, slot), report in reports.items():
        report.verify(separator, street.devices[meter])
        assert report.acknowledged == report.wanted
        imported, exported = street.truth[meter, slot]
        assert report.done_wh == imported - exported


def test_a_resident_opens_one_slot_and_a_stranger_verifies_it_with_file_and_node_alone(
    street: Day, tmp_path: Path
) -> None:
    slot = FIRST_SLOT + 52
    file = tmp_path / "opened.json"
    opened = ("disclose", "--meter", str(P1), "--slot", str(slot), "-o", str(file))
    code, _, problem = street.command(*opened)
    assert code == 0, problem
    checked = ("verify", str(file), "--rpc", street.on.chain.url, "--json")
    code, out, problem = street.command(*checked, home=tmp_path / "nowhere")
    assert code == 0, problem
    facts = json.loads(out)
    states = {check["name"]: check["state"] for check in facts["checks"]}
    # Whose contracts these are nobody but the reader can know: it is told, not passed.
    assert {name for name, state in states.items() if state == "passed"} >= {
        "leaves",
        "signatures",
        "roots",
        "zone",
    }
    assert "failed" not in states.values()
    [row] = facts["slots"]
    assert (row["import_wh"], row["export_wh"]) == street.truth[P1, slot]
    document = json.loads(file.read_text())
    document["slots"][0]["import_wh"] += 1
    file.write_text(json.dumps(document))
    assert street.command(*checked, home=tmp_path / "nowhere")[0] == 1


def test_at_the_end_of_the_day_all_is_well(street: Day) -> None:
    assert street.problems == {meter: {} for meter in REAL}
    assert street.status["ok"], street.status
    assert int(street.on.until()) * SLOT_SECONDS == START + 86_400
