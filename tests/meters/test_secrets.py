# SPDX-License-Identifier: Apache-2.0
"""The keeper of month secrets: what it makes, keeps, and destroys for good."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dao.errors import CheckFailed
from meters.leaves import leaves_of, month_of
from meters.readings import Reading, Readings
from meters.secrets import DerivedSecrets, ErasedSecret, SecretStore, month_name

MAY = 46 * 12 + 4
JUNE = MAY + 1


def test_a_secret_is_made_once_and_stays_through_a_restart(tmp_path: Path) -> None:
    with SecretStore(tmp_path / "secrets.sqlite") as store:
        made = store.month_secret(7, MAY)
        assert store.month_secret(7, MAY) == made
    with SecretStore(tmp_path / "secrets.sqlite") as store:
        assert store.month_secret(7, MAY) == made
    assert len(made) == 32


def test_every_home_and_month_has_a_secret_of_its_own(tmp_path: Path) -> None:
    pairs = {(meter, month) for meter in (1, 2, 3) for month in (MAY, JUNE)}
    with SecretStore(tmp_path / "secrets.sqlite") as store:
        found = store.month_secrets(pairs)
        assert {pair: store.month_secret(*pair) for pair in pairs} == found
    assert len(set(found.values())) == 6


def test_only_the_owner_of_the_file_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "secrets.sqlite"
    path.touch(0o644)
    with SecretStore(path) as store:
        store.month_secret(1, MAY)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_erased_secret_is_gone_from_the_file_and_never_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "secrets.sqlite"
    with SecretStore(path) as store, SecretStore(path) as other:
        gone, kept = store.month_secret(7, MAY), store.month_secret(7, JUNE)
        other.erase(7, MAY)
        with pytest.raises(ErasedSecret, match="meter 7 for 2016-05 was erased"):
            store.month_secret(7, MAY)
        with pytest.raises(ErasedSecret):
            store.month_secrets([(7, JUNE), (7, MAY), (8, MAY)])
        other.erase(7, MAY)
        assert len(store.month_secret(8, MAY)) == 32, "the refused call made none, a later one may"
        assert store.month_secret(7, JUNE) == kept
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert gone not in content
    assert kept in content


def test_a_month_without_a_secret_can_be_erased_before_one_is_made(tmp_path: Path) -> None:
    with SecretStore(tmp_path / "secrets.sqlite") as store:
        store.erase(7, MAY)
        with pytest.raises(ErasedSecret):
            store.month_secret(7, MAY)


def test_leaves_of_many_homes_cost_one_transaction(tmp_path: Path) -> None:
    rows = Readings.of(Reading(meter, 1_627_488, meter, 0) for meter in range(1, 2_001))
    with SecretStore(tmp_path / "secrets.sqlite") as store:
        writes: list[str] = []
        store._db.set_trace_callback(writes.append)
        first = leaves_of(rows, store)
        assert sum(line.startswith("BEGIN") for line in writes) == 1
        assert leaves_of(rows, store) == first
        assert sum(line.startswith("BEGIN") for line in writes) == 1


def test_two_processes_that_ask_at_once_get_the_same_secrets(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from meters.secrets import SecretStore\n"
        "store = SecretStore(Path(sys.argv[1]))\n"
        "print([store.month_secret(meter, 556).hex() for meter in range(40)])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "secrets.sqlite")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    answers = [process.communicate(timeout=60)[0] for process in running]
    assert answers[0] == answers[1] != b""


def test_looking_up_makes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "secrets.sqlite"
    with pytest.raises(CheckFailed, match="no store of secrets"):
        SecretStore(path, make=False)
    assert not path.exists()
    with SecretStore(path) as store:
        made = store.month_secret(7, MAY)
    with SecretStore(path, make=False) as store:
        assert store.month_secret(7, MAY) == made
        with pytest.raises(CheckFailed, match="no secret of meter 8 for 2016-05"):
            store.month_secrets([(7, MAY), (8, MAY)])
    with SecretStore(path) as store:
        assert store._find({(8, MAY)}) == {}


def test_a_demonstrations_secrets_come_from_its_source_and_can_be_erased(tmp_path: Path) -> None:
    source = DerivedSecrets(b"a secret for the tests only")
    with SecretStore(tmp_path / "secrets.sqlite", source=source) as store:
        assert store.month_secret(7, MAY) == source.month_secret(7, MAY)
        store.erase(7, MAY)
        with pytest.raises(ErasedSecret):
            store.month_secret(7, MAY)


def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "secrets.sqlite").write_text("these are notes, not secrets at all" * 9)
    with pytest.raises(CheckFailed, match=r"secrets\.sqlite"):
        SecretStore(tmp_path / "secrets.sqlite")
    with pytest.raises(CheckFailed):
        SecretStore(tmp_path)


def test_a_month_is_written_as_people_write_it() -> None:
    assert month_name(MAY) == "2016-05"
    assert month_name(int(month_of(np.array([0]))[0])) == "1970-01"
