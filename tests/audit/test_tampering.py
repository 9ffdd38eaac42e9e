# SPDX-License-Identifier: Apache-2.0
"""A published dossier altered in every way we know: each is caught, and the fault says where."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from dao.audit.package import Dossier
from dao.audit.scope import Events
from dao.audit.verify import verify
from dao.errors import BadUse
from tests.audit.altering import (
    Alteration,
    Forger,
    byte_alterations,
    event_alterations,
    proof_alterations,
    scope_alterations,
    table_alterations,
)
from tests.audit.conftest import Published, checks, first_fault
from tests.audit.village import Village

SHARE = 5
"""Of the alterations of tables and events every fifth is tried here, all in the deep run."""

DEEP = (pytest.mark.deep, pytest.mark.timeout(1_800))


@pytest.fixture(scope="module")
def forger(published: Published) -> Forger:
    return Forger(published.path)


def caught(
    village: Village, published: Published, folder: Path, alterations: Iterable[Alteration]
) -> int:
    """Try each; all that were not caught, or not named, in one message."""
    count, missed = 0, []
    target = folder / "altered.zip"
    for one in alterations:
        one.make(published.path, target)
        count += 1
        try:
            fault = first_fault(checks(village, target))
            said = None if fault is None else f"{fault.name}: {fault.detail}"
        except BadUse as error:
            said = str(error)
        if said is None:
            missed.append(f"{one.name}: not caught")
        elif not any(name in said for name in one.names):
            missed.append(f"{one.name}: {said}")
    assert not missed, "\n".join(missed)
    return count


def test_the_untouched_dossier_holds(village: Village, published: Published) -> None:
    found = checks(village, published.path)
    assert first_fault(found) is None
    assert {check.name for check in found if check.state == "not checked"} == {"contracts"}
    assert "published by the collector" in found[-1].detail


def test_every_part_altered_in_place_is_named(
    village: Village, published: Published, tmp_path: Path
) -> None:
    paths = [part.path for part in published.manifest.parts]
    assert caught(village, published, tmp_path, byte_alterations(paths)) >= 180


def test_a_manifest_altered_in_place_is_caught(
    village: Village, published: Published, tmp_path: Path
) -> None:
    alterations = byte_alterations(["manifest.json"])[:2]
    for one in alterations:
        one.make(published.path, tmp_path / "altered.zip")
        try:
            assert first_fault(checks(village, tmp_path / "altered.zip")) is not None
        except BadUse:
            continue


@pytest.mark.parametrize("share", [SHARE, pytest.param(1, marks=DEEP)])
def test_a_cell_or_row_altered_with_every_hash_is_named(
    village: Village, published: Published, forger: Forger, tmp_path: Path, share: int
) -> None:
    alterations = table_alterations(forger)[::share]
    assert caught(village, published, tmp_path, alterations) >= 35


@pytest.mark.parametrize("share", [SHARE, pytest.param(1, marks=DEEP)])
def test_events_left_out_moved_or_made_up_are_named(
    village: Village, published: Published, forger: Forger, tmp_path: Path, share: int
) -> None:
    alterations = event_alterations(forger)[::share]
    assert caught(village, published, tmp_path, alterations) >= 10


def test_another_chain_period_or_fewer_blocks_are_named(
    village: Village, published: Published, forger: Forger, tmp_path: Path
) -> None:
    alterations = scope_alterations(forger)
    # Without its anchor a dossier is not anchored, which is said and is no fault.
    alterations = [one for one in alterations if one.name != "a contract left out"]
    assert caught(village, published, tmp_path, alterations) >= 15


def test_exchanged_bills_and_other_gas_are_named(
    village: Village, published: Published, forger: Forger, tmp_path: Path
) -> None:
    assert caught(village, published, tmp_path, proof_alterations(forger)) >= 8


def test_a_dossier_whose_scope_leaves_the_anchor_out_is_not_anchored(
    village: Village, published: Published, forger: Forger, tmp_path: Path
) -> None:
    (one,) = [one for one in scope_alterations(forger) if one.name == "a contract left out"]
    one.make(published.path, tmp_path / "altered.zip")
    anchor = checks(village, tmp_path / "altered.zip")[-1]
    assert (anchor.name, anchor.state) == ("anchor", "not checked")
    assert "NOT ANCHORED" in anchor.detail


ODD = (None, -1, 2**70, "x", [], {}, True, "0x", 10**12)


def test_events_that_nobody_would_write_end_in_a_fault_not_in_a_traceback(
    published: Published, forger: Forger, tmp_path: Path
) -> None:
    chance = random.Random(11)
    rows = forger.content.events.rows
    kinds = sorted({row.event for row in rows})
    for kind in kinds:
        at = chance.choice([at for at, row in enumerate(rows) if row.event == kind])
        args = dict(rows[at].args)
        name = chance.choice(sorted(args))
        args[name] = chance.choice(ODD)
        if chance.random() < 0.3:
            del args[name]
        made = rows[at]._replace(args=args)
        forger.write(tmp_path / "odd.zip", events=Events([*rows[:at], made, *rows[at + 1 :]]))
        with Dossier(tmp_path / "odd.zip") as dossier:
            verify(dossier, None)  # raises nothing
