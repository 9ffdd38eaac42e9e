# SPDX-License-Identifier: Apache-2.0
"""Erasing a home's month: afterwards nothing here tells or confirms a value, and all else stands.

The tests look for the values as somebody would who has the whole state folder: byte by byte, in
every table, and by trying the true values against every hash that is left.
"""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from dao import ledger
from dao.eip712 import keccak
from dao.errors import BadUse, CheckFailed
from dao.leaves import NULL_WH, leaf_of
from dao.relay.store import RelayStore
from dao.slots import SLOTS_PER_DAY
from meters.collector import Collector
from meters.disclosure import disclose
from meters.erasure import check_final, erase_month, find, unfinished
from meters.lake import Lake, batch_path, read_batch, verify_signatures, write_batch
from meters.leaves import record_leaf, record_salt, salt_of
from meters.readings import Reading
from meters.registry import KeyPeriods
from meters.secrets import ErasedSecret, SecretStore
from meters.signing import digests
from meters.verification import verify
from tests.meters.town import FIRST, GAP, HOMES, JUNE_SLOT, MAY, METER, ZONE, Town, visited

LATER = date(2016, 6, 20)


@pytest.fixture
def town(street: Town, tmp_path: Path) -> Iterator[Town]:
    """The town on June 20, when May is final."""
    with visited(street, tmp_path, LATER) as here:
        yield here


def erase(town: Town, meter: int = METER, month: int = MAY) -> None:
    now = town.chain.now()
    zone = check_final(town.node, town.addresses, town.lake, meter, month, now)
    with town.secrets() as secrets:
        erase_month(town.stores(secrets), zone, meter, month, now)


def of_may(town: Town) -> list[Reading]:
    """All that meter 3 ever signed of May, what counted and what did not."""
    return [*town.of(METER, FIRST, JUNE_SLOT), *town.beside]


# Looking for values


def files(town: Town) -> dict[str, bytes]:
    return {
        str(path.relative_to(town.folder)): path.read_bytes()
        for path in sorted(town.folder.rglob("*"))
        if path.is_file()
    }


def traces(town: Town) -> set[tuple[str, str]]:
    """File and kind of every place in the folder where something of meter 3's May stands."""
    found: set[tuple[str, str]] = set()
    readings = of_may(town)
    pairs = [(one.import_wh or 0, one.export_wh or 0) for one in readings]
    words = {b"%d" % value for pair in pairs for value in pair}
    signatures = [one.signature for one in readings]
    wanted = {
        f"{order}-endian integers": [a.to_bytes(4, order) + b.to_bytes(4, order) for a, b in pairs]
        for order in ("big", "little")
    }
    wanted["signature"] = [signature[:32] for signature in signatures]
    wanted["signature in hex"] = [signature.hex()[:64].encode() for signature in signatures]
    for name, content in files(town).items():
        for kind, pieces in wanted.items():
            if any(piece in content for piece in pieces):
                found.add((name, kind))
        if words & set(re.findall(rb"(?<![0-9])[0-9]{5}(?![0-9])", content)):
            found.add((name, "text"))
        if name.endswith(".parquet"):
            found |= {(name, kind) for kind in _in_parquet(town.folder / name, readings)}
        if name.endswith(".sqlite"):
            found |= {(name, kind) for kind in _in_tables(town.folder / name, readings)}
    return found


def _in_parquet(path: Path, readings: list[Reading]) -> set[str]:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    mine = np.asarray(table["meter"]) == METER
    slots = {reading.slot for reading in readings}
    found = set()
    for row in table.filter(mine).to_pylist():
        if row["slot"] in slots:
            kept = {name for name, value in row.items() if value is not None}
            found |= kept - {"meter", "slot", "leaf", "record_leaves", "erased"}
    return found


def _in_tables(path: Path, readings: list[Reading]) -> set[str]:
    values = {value for r in readings for value in (r.import_wh, r.export_wh)}
    exports = set(range(40_000 + 97 * METER, 40_000 + 97 * METER + 24))
    found = set()
    with closing(sqlite3.connect(path)) as db:
        tables = [
            name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        for table in tables:
            for row in db.execute(f"SELECT * FROM {table}"):
                if values & {cell for cell in row if isinstance(cell, int)}:
                    found.add(table)
            if table == "receipts":
                for meter, slot, text in db.execute(
                    "SELECT meter, first_slot, exports FROM receipts"
                ):
                    if meter == METER and slot < JUNE_SLOT and exports & set(json.loads(text)):
                        found.add(table)
    return found


def secrets_left(town: Town) -> list[bytes]:
    with closing(sqlite3.connect(town.folder / "secrets.sqlite")) as db:
        return [s for (s,) in db.execute("SELECT secret FROM month_secret WHERE secret NOT NULL")]


def hashes_left(town: Town) -> set[bytes]:
    """Every 32 bytes of the folder that may be a hash."""
    found: set[bytes] = set()
    for file in Lake.of(town.lake).zone_batches(ZONE):
        stored = read_batch(file.path)
        found.update(stored.tree)
        found.update(row.tobytes() for row in stored.readings.previous)
    for name in ("inbox", "relay"):
        with closing(sqlite3.connect(town.folder / f"{name}.sqlite")) as db:
            tables = [t for (t,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
            for table in tables:
                for row in db.execute(f"SELECT * FROM {table}"):
                    for cell in row:
                        if isinstance(cell, bytes):
                            found.update(cell[at : at + 32] for at in range(max(1, len(cell) - 31)))
    return found


def confirmed(town: Town, records: list[bytes]) -> set[str]:
    """What an attacker with the folder, and the right guess, can be sure of."""
    hashes, keys = hashes_left(town), secrets_left(town)
    found: set[str] = set()
    for one in of_may(town):
        values = (one.import_wh or 0, one.export_wh or 0, int(one.quality))
        for key in keys:
            if leaf_of(METER, one.slot, *values, salt_of(key, one.slot)) in hashes:
                found.add("leaf")
    for record in records:
        slot = json.loads(record)["slot"]
        for chosen in [*keys, *_pairs(town)]:
            if record_leaf(record, record_salt(chosen, slot, 0)) in hashes:
                found.add("record")
    signatures = _signatures_left(town)
    mine = town.of(METER, FIRST, JUNE_SLOT)
    made = digests(town.separator, mine)
    for digest in made:
        if any(keccak(digest + signature) in hashes for signature in signatures):
            found.add("link")
    return found


def _pairs(town: Town) -> list[bytes]:
    """What is left of meter 3's secrets of May and June, one after the other."""
    with closing(sqlite3.connect(town.folder / "secrets.sqlite")) as db:
        sql = "SELECT month, secret FROM month_secret WHERE meter = ?"
        held = dict(db.execute(sql, (METER,)).fetchall())
    may, june = held.get(MAY), held.get(MAY + 1) or b""
    return [(may or bytes(32)) + june, (may or b"") + june]


def _signatures_left(town: Town) -> set[bytes]:
    found: set[bytes] = set()
    for file in Lake.of(town.lake).zone_batches(ZONE):
        stored = read_batch(file.path)
        mine = stored.readings.meter == METER
        found.update(row.tobytes() for row in stored.readings.signature[mine])
    return found


def records_of_june(town: Town) -> list[bytes]:
    """Records of June that quote May."""
    stored = read_batch(batch_path(town.lake, ZONE, JUNE_SLOT, SLOTS_PER_DAY))
    return [record for record in stored.records if record is not None]


def test_after_an_erasure_no_file_holds_a_value_and_no_hash_confirms_one(town: Town) -> None:
    records = records_of_june(town)
    with town.secrets() as secrets:
        secret = secrets.month_secret(METER, MAY)
    found = traces(town)
    kinds = {kind for _, kind in found}
    # The search finds what there is to find, or it would prove nothing afterwards.
    assert {"text", "signature", "big-endian integers", "import_wh", "receipts"} <= kinds
    assert {"inbox.sqlite", "relay.sqlite", "dispatch.sqlite"} <= {name for name, _ in found}
    assert confirmed(town, records) == {"leaf", "record", "link"}
    assert any(secret in content for content in files(town).values())

    erase(town)

    assert traces(town) == set()
    assert confirmed(town, records) == set()
    for name, content in files(town).items():
        assert secret not in content, name
        assert secret.hex().encode() not in content, name


def test_everything_else_still_verifies(town: Town) -> None:
    before = {
        file.path: read_batch(file.path).root() for file in Lake.of(town.lake).zone_batches(1)
    }
    erase(town)
    registry = town.chain.at("MeterRegistry", town.addresses["MeterRegistry"])
    keys = KeyPeriods.read(registry, ZONE)
    for file in Lake.of(town.lake).zone_batches(ZONE):
        stored = read_batch(file.path)
        assert stored.root() == before[file.path]
        assert stored.erased.sum() == (SLOTS_PER_DAY if file.first_slot < JUNE_SLOT else 0)
        assert not len(verify_signatures(stored, town.separator, keys).bad)
    others = [FIRST, FIRST + 100, JUNE_SLOT + 7]
    with town.secrets() as secrets:
        for meter in (1, METER + 1):
            given = disclose(town.lake, secrets, town.addresses, ZONE, meter, others)
            found = verify(given, town.node, town.addresses)
            assert {check.state for check in found} == {"passed"}
        mine = disclose(town.lake, secrets, town.addresses, ZONE, METER, [GAP[0], JUNE_SLOT + 7])
        assert {check.state for check in verify(mine, town.node, town.addresses)} == {"passed"}
        with pytest.raises(CheckFailed, match="2016-05 were erased"):
            disclose(town.lake, secrets, town.addresses, ZONE, METER, [JUNE_SLOT - 1, JUNE_SLOT])
        with pytest.raises(ErasedSecret):
            secrets.month_secret(METER, MAY)


def test_the_chains_totals_minus_the_others_still_tell_a_home_that_is_alone_in_its_erasure(
    town: Town,
) -> None:
    """What erasure cannot reach, as docs/privacy.md says: the operator has all the others."""
    truth = town.reading(METER, FIRST + 50)
    erase(town)
    book = town.chain.at("ReadingLedger", town.addresses["ReadingLedger"])
    net, export = ledger.read_totals(book, ZONE, FIRST + 50, FIRST + 51)
    stored = read_batch(batch_path(town.lake, ZONE, FIRST, SLOTS_PER_DAY))
    rest = stored.readings.take((stored.readings.slot == FIRST + 50) & ~stored.erased)
    assert net[0] - (rest.import_wh - rest.export_wh).sum() == (truth.import_wh or 0) - (
        truth.export_wh or 0
    )
    assert export[0] - rest.export_wh.sum() == truth.export_wh


def test_both_versions_of_a_batch_are_erased(town: Town) -> None:
    place = batch_path(town.lake, ZONE, FIRST, SLOTS_PER_DAY)
    stored = read_batch(place, separator=town.separator)
    write_batch(
        town.lake,
        ZONE,
        FIRST,
        SLOTS_PER_DAY,
        stored.readings,
        stored.leaves,
        version=2,
        separator=town.separator,
    )
    erase(town)
    for version in (1, 2):
        held = read_batch(batch_path(town.lake, ZONE, FIRST, SLOTS_PER_DAY, version))
        gone = held.readings.take(held.erased)
        assert len(gone) == SLOTS_PER_DAY
        assert set(gone.import_wh.tolist()) == {NULL_WH}


def test_what_broken_off_writes_left_behind_goes_too(town: Town) -> None:
    day = batch_path(town.lake, ZONE, FIRST, SLOTS_PER_DAY)
    left = day.with_name(f".{day.stem}-abcd.tmp")
    left.write_bytes(day.read_bytes())
    erase(town)
    assert not left.exists()


def test_other_homes_and_months_lose_nothing(town: Town) -> None:
    def kept() -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        for file in Lake.of(town.lake).zone_batches(ZONE):
            stored = read_batch(file.path, separator=town.separator)
            rows = stored.readings
            other = (rows.meter != METER) | (rows.slot >= JUNE_SLOT)
            found += [
                (row.meter, row.slot, row.import_wh, row.signature) for row in rows.take(other)
            ]
        store = RelayStore(town.folder / "relay.sqlite")
        for session in (FIRST, FIRST + SLOTS_PER_DAY, JUNE_SLOT):
            found += [
                (session, meter, receipt.exports)
                for meter, receipt in store.receipts(session).items()
                if meter != METER or session >= JUNE_SLOT
            ]
        store.close()
        with closing(sqlite3.connect(town.folder / "dispatch.sqlite")) as db:
            found += db.execute("SELECT * FROM report WHERE slot >= ?", (JUNE_SLOT,)).fetchall()
        return found

    before, others = kept(), len(secrets_left(town))
    erase(town)
    assert kept() == before
    assert len(secrets_left(town)) == others - 1


def test_an_erased_reading_that_is_sent_again_is_not_taken(town: Town) -> None:
    erase(town)
    registry = town.chain.at("MeterRegistry", town.addresses["MeterRegistry"])
    with (
        SecretStore(town.folder / "secrets.sqlite") as secrets,
        Collector(
            ZONE,
            KeyPeriods.read(registry, ZONE),
            secrets,
            town.separator,
            town.lake,
            town.folder / "inbox.sqlite",
            clock=town.chain.now,
        ) as collector,
    ):
        report = collector.receive(town.of(METER, FIRST, FIRST + 4))
        late = collector.receive(town.beside)
    assert report.accepted == late.accepted == 0
    assert {entry[0] for entry in report.rejected} == {"erased"}
    assert traces(town) == set()


# Breaking off


KILLED = """
import os, signal, sys
from pathlib import Path
import meters.erasure as erasing
from meters.secrets import SecretStore

folder, step, separator = Path(sys.argv[1]), sys.argv[2], bytes.fromhex(sys.argv[3])
name, count = step.split(":")
whole = getattr(erasing, name) if name != "secret" else SecretStore.erase
calls = 0

def dies(*given):
    global calls
    calls += 1
    if calls == int(count):
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*given)

if name == "secret":
    SecretStore.erase = dies
else:
    setattr(erasing, name, dies)
with SecretStore(folder / "secrets.sqlite", make=False) as secrets:
    stores = erasing.Stores(folder / "lake", secrets, folder / "inbox.sqlite",
                            folder / "relay.sqlite", folder / "dispatch.sqlite",
                            folder / "erasures", separator)
    erasing.erase_month(stores, 1, 3, 556, 1466380800)
"""


@pytest.mark.parametrize(
    "step",
    [
        "erase_from_inbox:1",
        "erase_rows:1",
        "erase_rows:2",
        "erase_from_relay:1",
        "erase_dispatches:1",
        "secret:1",
    ],
)
def test_an_erasure_that_was_killed_is_completed_by_the_next(town: Town, step: str) -> None:
    words = [sys.executable, "-c", KILLED, str(town.folder), step, town.separator.hex()]
    ended = subprocess.run(words, timeout=120, check=False, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    journal = town.folder / "erasures"
    assert [(one.meter, one.month) for one in unfinished(journal)] == [(METER, MAY)]
    erase(town)
    assert unfinished(journal) == []
    assert traces(town) == set()
    assert confirmed(town, []) == set()


def test_the_second_time_there_is_nothing_to_do(town: Town) -> None:
    erase(town)
    first = find(town.folder / "erasures", METER, MAY)
    before = files(town)
    now = town.chain.now()
    with town.secrets() as secrets:
        done = erase_month(town.stores(secrets), ZONE, METER, MAY, now + 60)
    assert (done.files, done.inbox, done.relay) == (0, 0, 0)
    assert find(town.folder / "erasures", METER, MAY) == first
    assert {name for name, content in files(town).items() if content != before.get(name)} <= {
        "relay.sqlite",
        "inbox.sqlite-shm",
        "relay.sqlite-shm",
    }


# What may not be erased


def test_a_month_that_is_not_over_is_refused(town: Town) -> None:
    with pytest.raises(BadUse, match="2016-06 is not over"):
        check_final(town.node, town.addresses, town.lake, METER, MAY + 1, town.chain.now())


def test_a_month_that_can_still_be_settled_or_corrected_is_refused(
    street: Town, tmp_path: Path
) -> None:
    with visited(street, tmp_path) as town:
        with pytest.raises(
            CheckFailed, match="may still be settled: it can be erased from 2016-06-09"
        ):
            check_final(town.node, town.addresses, town.lake, METER, MAY, town.chain.now())
        late = town.chain.now() + 30 * 86_400
        with pytest.raises(CheckFailed, match="2016-06 is not committed to its end"):
            check_final(town.node, town.addresses, town.lake, METER, MAY + 1, late)


def test_an_unknown_meter_and_another_chain_are_refused(town: Town) -> None:
    now = town.chain.now()
    with pytest.raises(CheckFailed, match="knows no meter 99"):
        check_final(town.node, town.addresses, town.lake, 99, MAY, now)
    other = type(town.addresses)(5, town.addresses.contracts)
    with pytest.raises(CheckFailed, match="of chain 5, this node is of 31337"):
        check_final(town.node, other, town.lake, METER, MAY, now)


def test_a_lake_that_is_not_this_ledgers_is_left_alone(town: Town) -> None:
    stored = read_batch(batch_path(town.lake, ZONE, FIRST, SLOTS_PER_DAY))
    write_batch(town.lake, ZONE, FIRST, SLOTS_PER_DAY, stored.readings, stored.leaves[::-1])
    with pytest.raises(CheckFailed, match="another root than the lake"):
        erase(town)
    assert traces(town)


# The command


def run(town: Town, monkeypatch: pytest.MonkeyPatch, *words: object, **more: Any) -> Result:
    from scripts.meter import cli

    monkeypatch.setenv("GRIDCOMMONS_HOME", str(town.folder))
    facts = {"chain_id": town.addresses.chain_id, "contracts": town.addresses.contracts}
    (town.folder / "deployment.json").write_text(json.dumps(facts))
    given = ["erase", *(str(word) for word in words), "--rpc", town.chain.url]
    return CliRunner(mix_stderr=False).invoke(cli, given, **more)


def test_the_command_asks_before_and_says_what_it_did(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--meter", METER, "--month", "2016-05")
    refused = run(town, monkeypatch, *words, input="n\n")
    assert refused.exit_code == 1
    assert "totals stay on the chain" in refused.stderr
    assert traces(town)
    done = run(town, monkeypatch, *words, "--yes", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {
        "meter": METER,
        "month": "2016-05",
        "files": 3,
        "inbox": 3,
        "relay": 2,
    }
    assert traces(town) == set()


def test_the_command_reaches_stores_that_lie_elsewhere(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = town.folder / "away"
    away.mkdir()
    for name in ("inbox", "dispatch", "relay"):
        for file in town.folder.glob(f"{name}.sqlite*"):
            file.rename(away / file.name)
    named = ("--inbox", away / "inbox.sqlite", "--relay-store", away / "relay.sqlite")
    words = ("--meter", METER, "--month", "2016-05", "--yes", "--json")
    done = run(town, monkeypatch, *words, *named)
    assert done.exit_code == 0, done.stderr
    assert (json.loads(done.stdout)["inbox"], json.loads(done.stdout)["relay"]) == (3, 2)
    assert traces(town) == set()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--meter", METER, "--month", "May"), 2, "expected a month"),
        (("--meter", METER, "--month", "2016-13"), 2, "expected a month"),
        (("--meter", METER, "--month", "2016-06"), 2, "is not over"),
        (("--meter", METER, "--month", "2031-01"), 2, "is not over"),
        (("--meter", HOMES + 1, "--month", "2016-05"), 1, "knows no meter 17"),
        (
            ("--meter", METER, "--month", "2016-05", "--secrets", "/nowhere"),
            1,
            "no store of secrets",
        ),
    ],
)
def test_bad_use_is_one_clear_line_and_erases_nothing(
    town: Town, monkeypatch: pytest.MonkeyPatch, words: tuple[object, ...], code: int, says: str
) -> None:
    result = run(town, monkeypatch, *words, "--yes")
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("Error: ")
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
    assert traces(town)
