# SPDX-License-Identifier: Apache-2.0
"""`gridcommons meter replay`: a batch file whose edits hold, and ones that somebody changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from meters.collector import Collector
from meters.devices import device_key
from meters.lake import erase_rows, read_batch
from meters.leaves import leaves_of, record_leaves
from meters.readings import NULL_WH, Quality, Readings
from meters.secrets import DerivedSecrets
from meters.signing import Head, sign_chain
from meters.vee.check import replay_batch
from meters.vee.edit import Edited, Editor
from meters.vee.records import EditRecord
from scripts.meter import cli
from tests.meters.batch_rows import chained, filed, keys
from tests.meters.vee.test_edit import CAPACITY_W, DAY, HISTORY, HOMES, SEPARATOR, SLOTS, drop, rows

SECRETS = DerivedSecrets(b"a secret for the tests only")
PART = (1, DAY + 9)
"""Meter and slot of a part of the energy that is known of a gap."""


@pytest.fixture(scope="module")
def edited() -> Edited:
    """Three homes: a gap with its energy, a gap without, an impossible and an estimated value."""
    made = []
    for meter in range(1, HOMES + 1):
        part = rows(DAY, SLOTS, range(meter, meter + 1))
        if meter == 1:
            part.import_wh[19] = part.import_wh[4:20].sum()
        if meter == 2:
            part.import_wh[21] = 0x7FFF_FFFF
        if meter == 3:
            part.quality[2] = Quality.ESTIMATED
        made.append(sign_chain(device_key(7, meter), SEPARATOR, part, Head.NONE))
    whole = Readings.concat(made)
    for meter, first, end in ((1, 4, 19), (2, 3, 15)):
        drop(whole, meter, first, end)
        at = slice((meter - 1) * SLOTS + first, (meter - 1) * SLOTS + end)
        for column in (whole.signature, whole.sequence, whole.previous):
            column[at] = 0
    return Editor(capacity_w=min(CAPACITY_W, 5_000))(whole, HISTORY)


def write(lake: Path, edited: Edited) -> Path:
    leaves = leaves_of(edited.readings, SECRETS)
    records = list(edited.records)
    return filed(
        lake,
        1,
        DAY,
        SLOTS,
        edited.readings,
        leaves,
        records,
        record_leaves(records, SECRETS),
        separator=SEPARATOR,
    )


def run(path: Path, *more: str) -> tuple[int, str, str]:
    result = CliRunner(mix_stderr=False).invoke(cli, ["replay", str(path), *more])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.stdout, result.stderr


def test_the_edits_of_a_batch_file_give_its_rows(tmp_path: Path, edited: Edited) -> None:
    code, out, _ = run(write(tmp_path, edited), "--json")
    found = json.loads(out)
    assert code == 0
    assert found["problems"] == []
    assert found["rules"] == {
        "above_capacity": 2,
        "estimated_at_source": 1,
        "gap_energy": 16,
        "gap_like_days": 12,
        "gap_linear": 1,
    }
    assert found["rows"] == 16 + 12 + 1 + 1
    code, out, _ = run(write(tmp_path, edited))
    assert "32 edit records in 30 rows" in out
    assert f"numbers in no row{found['unseen']:>13}" in out


def change_row(edited: Edited, row: int, **values: int) -> Edited:
    columns = {}
    for name, value in values.items():
        column = getattr(edited.readings, name).copy()
        column[row] = value
        columns[name] = column
    return replace(edited, readings=replace(edited.readings, **columns))


def change_record(edited: Edited, rule: str, change: Callable[[EditRecord], EditRecord]) -> Edited:
    at = next(i for i, record in enumerate(edited.records) if record.rule == rule)
    records = list(edited.records)
    records[at] = change(records[at])
    return replace(edited, records=tuple(records))


def drop_record(edited: Edited, rule: str) -> Edited:
    at = next(i for i, record in enumerate(edited.records) if record.rule == rule)
    return replace(edited, records=edited.records[:at] + edited.records[at + 1 :])


CHANGES: dict[str, tuple[Callable[[Edited], Edited], str]] = {
    "a filled row": (
        lambda e: change_row(e, SLOTS + 5, import_wh=1),
        "another value than its records give",
    ),
    "a result": (
        lambda e: change_record(
            e, "gap_linear", lambda r: replace(r, result=(1, 0, int(Quality.ESTIMATED)))
        ),
        "gives another result than recorded",
    ),
    "an input": (
        lambda e: change_record(
            e,
            "gap_like_days",
            lambda r: replace(r, inputs={"days": [[s, i + 4, x] for s, i, x in r.inputs["days"]]}),
        ),
        "gives another result than recorded",
    ),
    "a rule nobody knows": (
        lambda e: change_record(e, "gap_linear", lambda r: replace(r, version=9)),
        "no rule gap_linear of version 9",
    ),
    "a record that is gone": (
        lambda e: drop_record(e, "gap_like_days"),
        "without a signature or an edit record",
    ),
    "a part of the energy": (
        lambda e: change_record(
            e,
            "gap_energy",
            lambda r: replace(
                r, inputs={**r.inputs, "weights": [[0, 999, 1000], r.inputs["weights"][1]]}
            ),
        ),
        "gives another result than recorded",
    ),
    "a signature under an edited row": (
        lambda e: change_row(e, SLOTS + 5, signature=1),
        "carries no signature",
    ),
    "a value out of nowhere": (
        lambda e: change_row(e, 2 * SLOTS + 9, signature=0),
        "without a signature or an edit record",
    ),
    "an estimate that hides": (
        lambda e: change_row(e, 2 * SLOTS + 9, quality=int(Quality.ESTIMATED)),
        "without a signature or an edit record",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_was_changed_by_hand_is_found(tmp_path: Path, edited: Edited, what: str) -> None:
    change, says = CHANGES[what]
    code, _, err = run(write(tmp_path, change(edited)))
    assert code == 1
    assert err.strip().splitlines()[-1].startswith("Error: meter ")
    assert says in err


def test_parts_of_a_known_energy_that_overlap_are_found_though_each_one_holds(
    tmp_path: Path, edited: Edited
) -> None:
    parts = [r for r in edited.records if r.rule == "gap_energy"]
    # Every slot claims the whole: each record is true to its rule, their sum is not.
    total = parts[0].inputs["energy"][0]
    claims = {
        id(r): replace(
            r,
            inputs={**r.inputs, "weights": [[0, 1, 1], r.inputs["weights"][1]]},
            result=(total, r.result[1], r.result[2]),
        )
        for r in parts
    }
    records = tuple(claims.get(id(r), r) for r in edited.records)
    imported = edited.readings.import_wh.copy()
    imported[4:20] = total
    changed = Edited(replace(edited.readings, import_wh=imported), records)
    found = replay_batch(read_batch(write(tmp_path, changed)))
    assert found.problems == (
        f"meter 1, slots {DAY + 4}..{DAY + 19}: the parts do not add up to the energy of the gap",
    )


def test_a_signed_value_that_was_left_out_leaves_a_hole_in_the_meters_numbers(
    tmp_path: Path, edited: Edited
) -> None:
    # Of the gaps themselves twelve and fifteen numbers were used for rows that never came.
    before = replay_batch(read_batch(write(tmp_path, edited))).unseen
    hidden = drop_record(edited, "above_capacity")
    found = replay_batch(read_batch(write(tmp_path, hidden)))
    assert (found.problems, found.unseen) == ((), before + 1)


def test_an_erased_month_leaves_the_rest_to_be_checked(tmp_path: Path, edited: Edited) -> None:
    path = write(tmp_path, edited)
    assert erase_rows(tmp_path, str(path), 1, DAY, DAY + SLOTS, SEPARATOR)
    found = replay_batch(read_batch(path))
    assert found.problems == ()
    assert found.erased == 17
    assert found.rules["gap_like_days"] == 12


def test_an_erased_home_hides_no_part_of_anothers_energy(tmp_path: Path, edited: Edited) -> None:
    short = change_row(
        replace(edited, records=tuple(r for r in edited.records if (r.meter, r.slot) != PART)),
        PART[1] - DAY,
        import_wh=NULL_WH,
        export_wh=NULL_WH,
        quality=int(Quality.MISSING),
    )
    path = write(tmp_path, short)
    assert erase_rows(tmp_path, str(path), 2, DAY, DAY + SLOTS, SEPARATOR)
    (problem,) = replay_batch(read_batch(path)).problems
    assert problem.endswith("not every slot has its part of the energy")


def test_a_batch_that_nobody_edited_has_nothing_to_replay(tmp_path: Path) -> None:
    plain = sign_chain(device_key(7, 1), SEPARATOR, rows(DAY, SLOTS, range(1, 2)), Head.NONE)
    found = replay_batch(read_batch(write(tmp_path, Edited(plain, ()))))
    assert (found.rules, found.rows, found.problems) == ({}, 0, ())


@pytest.mark.parametrize("content", [None, b"", b"no parquet"])
def test_a_file_that_is_no_batch_is_bad_use(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "batch.parquet"
    if content is not None:
        path.write_bytes(content)
    code, _, err = run(path)
    assert code == 2
    assert err.startswith("Error: ")
    assert len(err.strip().splitlines()) == 1


def test_a_collector_with_an_editor_closes_batches_that_replay_and_whose_root_covers_the_records(
    tmp_path: Path,
) -> None:
    first, homes, days = DAY, 4, 4
    plain = chained(first, days * SLOTS_PER_DAY, homes)
    lost = (plain.meter == 2) & (plain.slot >= first + 3 * SLOTS_PER_DAY + 10)
    lost &= plain.slot < first + 3 * SLOTS_PER_DAY + 30
    with Collector(
        1,
        keys(homes),
        SECRETS,
        SEPARATOR,
        tmp_path / "lake",
        tmp_path / "inbox.sqlite",
        clock=lambda: (first + days * SLOTS_PER_DAY) * SLOT_SECONDS,
        editor=Editor(),
    ) as collector:
        assert not collector.receive(plain.take(~lost)).rejected
        for day in range(days):
            batch = collector.close_batch(first + day * SLOTS_PER_DAY, SLOTS_PER_DAY)
            collector.mark_committed(batch)
    stored = read_batch(batch.path)
    found = replay_batch(stored)
    assert (found.rules, found.problems) == ({"gap_like_days": 20}, ())
    assert found.unseen == 20
    assert stored.root() == batch.root
    assert batch.leaves == homes * SLOTS_PER_DAY + 20
