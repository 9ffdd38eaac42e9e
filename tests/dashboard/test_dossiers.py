# SPDX-License-Identifier: Apache-2.0
"""The workshop of dossiers: one piece of work at a time, bounded, and nothing left behind.

That it makes the dossier of the command, and finds what was tampered with, is tried over a chain in
`tests/audit/test_pages.py`.
"""

from __future__ import annotations

import time
import zipfile
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests

from dao.audit.scope import Period
from dao.errors import CheckFailed
from dashboard.repositories import dossiers
from dashboard.repositories.dossiers import Busy, Job, Ready, Workshop, chain_of
from dashboard.routes import dossiers as routes
from dashboard.settings import Settings
from dashboard.views.dossier import may_work
from tests.dashboard.near import serving

PERIOD = Period(1, 16_959 * 96, 96)


def done(job: Job) -> Job:
    """The work once it has ended."""
    deadline = time.monotonic() + 60
    while job.state == "running":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return job


def settings(home: Path) -> Settings:
    return Settings(home=home)


def bomb() -> bytes:
    """A small zip whose parts say that they unpack to gigabytes."""
    held = BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", bytes(1 << 20))
        archive.infolist()[0].file_size = 3 << 30
    return held.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no zip file"),
        (b"PK\x03\x04" + bytes(100), "no zip file"),
        (b"<script>alert(1)</script>", "no zip file"),
    ],
)
def test_what_is_no_dossier_is_said_to_be_none(tmp_path: Path, content: bytes, said: str) -> None:
    job = done(Workshop(tmp_path).verify(settings(tmp_path), "mine.zip", content))
    assert (job.state, job.is_use) == ("failed", True)
    assert said in job.problem
    assert job.problem.startswith("mine.zip")
    assert str(tmp_path) not in job.problem


def test_a_file_that_unpacks_to_more_than_a_machine_holds_is_refused(tmp_path: Path) -> None:
    job = done(Workshop(tmp_path).verify(settings(tmp_path), "bomb.zip", bomb()))
    assert job.state == "failed"
    assert "unpacks to more than" in job.problem


def test_one_at_a_time_and_the_second_is_told_which(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    first = shop.verify(settings(tmp_path), "first.zip", b"x")
    with pytest.raises(Busy) as busy:
        shop.verify(settings(tmp_path), "second.zip", b"x")
    assert busy.value.job is first
    assert shop.running() is first
    done(first)
    deadline = time.monotonic() + 10
    while shop.running() is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert done(shop.verify(settings(tmp_path), "second.zip", b"x")).name == "second.zip"


def test_work_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process is gone, its files too, and the next one can begin."""
    monkeypatch.setattr(dossiers, "VERIFY_S", 0.05)
    shop = Workshop(tmp_path)
    job = done(shop.verify(settings(tmp_path), "slow.zip", b"x"))
    assert job.state == "failed"
    assert "was ended" in job.problem
    (own,) = (tmp_path / "cache" / "dossiers").iterdir()
    assert [one.name for one in own.iterdir()] == ["lock"]


def test_too_large_a_file_is_not_even_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dossiers, "MAX_UPLOAD", 10)
    shop = Workshop(tmp_path)
    with pytest.raises(CheckFailed, match="is not taken"):
        shop.verify(settings(tmp_path), "large.zip", bytes(11))
    assert shop.running() is None
    assert not (tmp_path / "cache").exists()


def test_without_a_node_no_dossier_is_begun(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="needs a node"):
        Workshop(tmp_path).export(settings(tmp_path), PERIOD, {}, "en")


def test_what_a_server_left_behind_is_cleared_and_a_living_ones_is_not(tmp_path: Path) -> None:
    above = tmp_path / "cache" / "dossiers"
    other, here = Workshop(tmp_path), Workshop(tmp_path)
    living = other._own_folder()
    left = above / "1-dead"
    left.mkdir()
    (left / "lock").touch()
    (left / "old.zip").write_bytes(b"old")
    mine = here._own_folder()
    assert sorted(above.iterdir()) == sorted([living, mine])


def kept(shop: Workshop, here: Settings, number: int, size: int = 10) -> None:
    """As if a dossier had just been made."""
    job = Job(f"{number:016x}", "export", f"dossier-{number}.zip", PERIOD)
    part = shop._bench(job) / job.name
    part.write_bytes(bytes(size))
    shop._keep(job, part, {"root": f"0x{number}", "bytes": size}, chain_of(here))


def names(those: list[Ready]) -> list[str]:
    return [one.name for one in those]


def test_the_oldest_go_when_there_are_too_many_or_they_are_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, here = Workshop(tmp_path), settings(tmp_path)
    for number in range(7):
        kept(shop, here, number)
    assert names(shop.ready(here)) == [f"dossier-{n}.zip" for n in (6, 5, 4, 3, 2)]
    assert len(list(shop._own_folder().glob("*.zip"))) == dossiers.MAX_KEPT
    monkeypatch.setattr(dossiers, "MAX_BYTES", 25)
    kept(shop, here, 7)
    assert names(shop.ready(here)) == ["dossier-7.zip", "dossier-6.zip"]
    assert len(list(shop._own_folder().glob("*.zip"))) == 2


def test_a_dossier_of_another_chain_is_not_offered(tmp_path: Path) -> None:
    """A run that begins anew in the same folder has the same addresses, and another index."""
    shop, here = Workshop(tmp_path), settings(tmp_path)
    (tmp_path / "index.sqlite").write_bytes(b"one")
    kept(shop, here, 1)
    assert names(shop.ready(here)) == ["dossier-1.zip"]
    (tmp_path / "new.sqlite").write_bytes(b"two")
    (tmp_path / "new.sqlite").replace(tmp_path / "index.sqlite")
    assert shop.ready(here) == []


def test_a_ready_dossier_is_fetched_by_anybody_and_nothing_else_is(tmp_path: Path) -> None:
    here = settings(tmp_path)
    shop = dossiers.workshop(tmp_path)
    kept(shop, here, 3, size=1_000)
    (tmp_path / "secrets.sqlite").write_bytes(b"secret")
    with serving(lambda: routes.routes(here)) as url:
        found = requests.get(f"{url}/dossiers/v1/dossier-3.zip", timeout=20)
        assert found.content == bytes(1_000)
        assert found.headers["content-type"] == "application/zip"
        assert 'filename="dossier-3.zip"' in found.headers["content-disposition"]
        for name in (
            "dossier-4.zip",
            "lock",
            "..%2f..%2fsecrets.sqlite",
            "../secrets.sqlite",
            "%00",
        ):
            answer = requests.get(f"{url}/dossiers/v1/{name}", timeout=20)
            assert answer.status_code == 404
            assert b"secret" not in answer.content
        assert requests.post(f"{url}/dossiers/v1/dossier-3.zip", timeout=20).status_code == 405


@pytest.mark.parametrize(
    ("person", "local", "may"),
    [(None, False, False), (None, True, True), ("somebody", False, True)],
)
def test_work_is_for_people_who_signed_in_or_on_a_local_chain(
    tmp_path: Path, person: str | None, local: bool, may: bool
) -> None:
    context = SimpleNamespace(person=person, settings=Settings(home=tmp_path, local=local))
    assert may_work(context) is may
