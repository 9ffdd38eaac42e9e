# SPDX-License-Identifier: Apache-2.0
"""Disclosures: a file that opens some slots and no others, and what makes it fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dao.eip712 import keccak
from dao.errors import BadUse, CheckFailed
from dao.leaves import leaf_of
from dao.node import Addresses, Node
from meters.disclosure import Disclosure, disclose, document, read, zone_of
from meters.lake import batch_path, read_batch, write_batch
from meters.leaves import salt_of
from meters.readings import Quality
from meters.secrets import DerivedSecrets
from meters.verification import Check, verify
from tests.meters.town import (
    FIRST,
    GAP,
    JUNE_SLOT,
    METER,
    ZONE,
    Town,
    visited,
)


@pytest.fixture
def town(street: Town, tmp_path: Path) -> Iterator[Town]:
    with visited(street, tmp_path) as here:
        yield here


def opened(town: Town, *slots: int, **options: Any) -> Disclosure:
    with town.secrets() as secrets:
        return disclose(town.lake, secrets, town.addresses, ZONE, METER, slots, **options)


def states(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.state for check in checks}


def fault(checks: list[Check]) -> str:
    """The first that failed."""
    first = next(check for check in checks if check.state == "failed")
    return f"{first.name}: {first.detail}"


def test_a_disclosed_slot_verifies_against_the_chain_and_says_what_the_meter_said(
    town: Town,
) -> None:
    given = opened(town, FIRST + 20, JUNE_SLOT + 5)
    again = read(json.dumps(document(given)).encode(), "x")
    assert again == given
    assert [one.reading for one in again.slots] == [
        town.reading(METER, slot) for slot in (FIRST + 20, JUNE_SLOT + 5)
    ]
    checks = verify(again, town.node, town.addresses)
    assert states(checks) == dict.fromkeys(
        ("leaves", "roots", "zone", "signatures", "contracts"), "passed"
    )


def test_without_a_node_it_says_what_was_not_checked(town: Town) -> None:
    checks = verify(opened(town, FIRST))
    assert states(checks) == {
        "leaves": "passed",
        "roots": "not checked",
        "zone": "not checked",
        "signatures": "not checked",
        "contracts": "not checked",
    }
    assert town.addresses["ReadingLedger"] in checks[-1].detail


def test_it_opens_the_named_slots_and_no_other(town: Town) -> None:
    """Whoever has the file and all of the lake's hashes tries every value of every other slot."""
    given = opened(town, FIRST + 20, FIRST + 22)
    stored = read_batch(batch_path(town.lake, ZONE, FIRST, 96))
    hashes = set(stored.leaves)
    text = json.dumps(document(given))
    known = [one.salt for one in given.slots]
    known += [step for one in given.slots for step in one.path]

    def confirmed(slot: int) -> bool:
        one = town.reading(METER, slot)
        values = (one.import_wh or 0, one.export_wh or 0, int(one.quality))
        salts = [*known, *(salt_of(salt, slot) for salt in known)]
        return any(leaf_of(METER, slot, *values, salt) in hashes for salt in salts)

    assert [slot for slot in range(FIRST, FIRST + 96) if confirmed(slot)] == [
        FIRST + 20,
        FIRST + 22,
    ]
    with town.secrets() as secrets:
        assert secrets.month_secret(METER, 556).hex() not in text
    neighbour = town.reading(METER, FIRST + 21)
    assert neighbour.signature.hex() not in text


def test_an_estimated_slot_proves_itself_and_shows_its_records_only_on_demand(town: Town) -> None:
    plain, full = (opened(town, GAP[0], with_records=more) for more in (False, True))
    (one,), (whole,) = plain.slots, full.slots
    assert (one.reading.quality, one.reading.signature) == (Quality.ESTIMATED, b"")
    assert (one.edits, one.records) == (1, ())
    may = town.reading(METER, JUNE_SLOT - 1)
    assert json.loads(whole.records[0].canonical)["inputs"]["left"] == [
        may.slot,
        may.import_wh,
        may.export_wh,
    ]
    for given in (plain, full):
        found = states(verify(given, town.node, town.addresses))
        assert set(found.values()) == {"passed", "not checked"}
        assert found["signatures"] == "not checked", "no device signed it"
    assert states(verify(full, town.node))["records"] == "passed"


def bent(given: Disclosure, change: Callable[[dict[str, Any]], None]) -> Disclosure:
    """The disclosure after somebody has worked on its text."""
    text = document(given)
    change(text)
    return read(json.dumps(text).encode(), "x")


def value(row: dict[str, Any]) -> None:
    row["import_wh"] += 1


def quality(row: dict[str, Any]) -> None:
    row["quality"] = "estimated"


def salt(row: dict[str, Any]) -> None:
    row["salt"] = "0x" + "11" * 32


def path(row: dict[str, Any]) -> None:
    row["path"][0], row["path"][1] = row["path"][1], row["path"][0]


def short(row: dict[str, Any]) -> None:
    row["path"].pop()


@pytest.mark.parametrize("change", [value, quality, salt, path, short])
def test_a_changed_slot_is_not_under_its_root(
    town: Town, change: Callable[[dict[str, Any]], None]
) -> None:
    given = bent(opened(town, FIRST), lambda text: change(text["slots"][0]))
    assert "leaves: slot" in fault(verify(given, town.node, town.addresses))


def test_a_tree_of_ones_own_is_not_on_the_ledger(town: Town) -> None:
    given = opened(town, FIRST)
    one = given.slots[0]
    lie = replace(one.reading, import_wh=0, signature=b"", sequence=0, previous=bytes(32))
    leaf = leaf_of(METER, FIRST, 0, lie.export_wh or 0, 1, one.salt)
    forged = replace(
        given,
        roots=(replace(given.roots[0], root=leaf),),
        slots=(replace(one, reading=lie, path=()),),
    )
    assert states(verify(forged))["leaves"] == "passed"
    assert "another root" in fault(verify(forged, town.node, town.addresses))


def test_a_signature_of_somebody_else_is_noticed(town: Town) -> None:
    other = town.reading(METER, FIRST + 1)
    given = bent(opened(town, FIRST), lambda text: text["slots"][0].update(sequence=other.sequence))
    assert "signatures: slot" in fault(verify(given, town.node, town.addresses))


def test_a_signature_counts_by_the_key_of_its_time_only(town: Town) -> None:
    given = opened(town, FIRST + 3, JUNE_SLOT)
    registry = town.chain.at("MeterRegistry", town.addresses["MeterRegistry"])
    new = "0x" + keccak(b"a new device")[:20].hex()
    registry.transact("rotate_key", METER, new, sender=town.chain.accounts[1])
    assert states(verify(given, town.node, town.addresses))["signatures"] == "passed"


def test_contracts_that_are_not_those_one_knows_are_noticed(town: Town) -> None:
    """A file could name a ledger of its own that says yes to everything."""
    elsewhere = {**town.addresses.contracts, "ReadingLedger": "0x" + "99" * 20}
    given = opened(town, FIRST)
    other = replace(given, addresses=replace(given.addresses, contracts=elsewhere))
    assert "contracts: the file's ReadingLedger" in fault(verify(other, None, town.addresses))


def test_another_chain_is_told(town: Town) -> None:
    given = opened(town, FIRST)
    other = replace(given, addresses=Addresses(5, given.addresses.contracts))
    with pytest.raises(CheckFailed, match="of chain 5, this node is of 31337"):
        verify(other, town.node)
    assert "of chain 5" in fault(verify(other, None, town.addresses, named=True))
    assert states(verify(other, None, town.addresses))["contracts"] == "not checked"


def test_a_value_that_was_corrected_since_does_not_hold(town: Town) -> None:
    old = opened(town, JUNE_SLOT + 4)
    stored = read_batch(batch_path(town.lake, ZONE, JUNE_SLOT, 96), separator=town.separator)
    book = town.chain.at("ReadingLedger", town.addresses["ReadingLedger"])
    opens, _ = book.call("correction_window", ZONE, JUNE_SLOT)
    town.chain.set_time(max(opens, town.chain.now()))
    root = keccak(b"of the corrected batch")
    collector = town.chain.accounts[2]
    book.transact(
        "correct", ZONE, JUNE_SLOT, root, 16, len(stored.tree), [0] * 24, sender=collector
    )
    assert "was corrected since" in fault(verify(old, town.node, town.addresses))


def test_slots_that_cannot_be_opened_are_named(town: Town) -> None:
    with pytest.raises(CheckFailed, match=r"no row of meter 3 for slot \d+ \(2016-06-03"):
        opened(town, FIRST, FIRST + 96 * 4)
    with pytest.raises(CheckFailed, match="no rows of meter 99"):
        zone_of(town.lake, 99)
    with pytest.raises(BadUse, match="no slot"):
        opened(town)
    with pytest.raises(CheckFailed, match="do not open slot"):
        disclose(
            town.lake,
            DerivedSecrets(b"of somebody else's zone"),
            town.addresses,
            ZONE,
            METER,
            [FIRST],
        )


def test_a_lake_that_was_changed_opens_nothing(town: Town) -> None:
    place = batch_path(town.lake, ZONE, FIRST, 96)
    stored = read_batch(place, separator=town.separator)
    more = replace(stored.readings, import_wh=stored.readings.import_wh + 1)
    write_batch(town.lake, ZONE, FIRST, 96, more, stored.leaves)
    with pytest.raises(CheckFailed, match="the lake was changed"):
        opened(town, FIRST)


# Files of others


def replaced(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda text: {**text, **changes}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"format": "gridcommons disclosure 1"}',
        b'{"a": NaN}',
    ],
)
def test_a_file_that_is_no_disclosure_is_refused(content: bytes) -> None:
    with pytest.raises(BadUse, match="given is no disclosure"):
        read(content, "given")


@pytest.mark.parametrize(
    "change",
    [
        replaced(format="gridcommons disclosure 9"),
        replaced(meter=0),
        replaced(meter=True),
        replaced(zone="1"),
        replaced(chain_id=2**70),
        replaced(ledger="0x12"),
        replaced(registry=None),
        replaced(slots=[]),
        replaced(slots={}),
        replaced(batches=[]),
        replaced(more=1),
        lambda text: {**text, "slots": text["slots"] * 2},
        lambda text: {**text, "slots": [{**text["slots"][0], "slot": 7}]},
        lambda text: {**text, "slots": [{**text["slots"][0], "batch": -1}]},
        lambda text: {**text, "slots": [{**text["slots"][0], "start": "2016-05-30T00:15:00Z"}]},
        lambda text: {**text, "slots": [{**text["slots"][0], "import_wh": -1}]},
        lambda text: {**text, "slots": [{**text["slots"][0], "import_wh": 1.5}]},
        lambda text: {**text, "slots": [{**text["slots"][0], "import_wh": 10**40}]},
        lambda text: {**text, "slots": [{**text["slots"][0], "quality": "best"}]},
        lambda text: {**text, "slots": [{**text["slots"][0], "quality": []}]},
        lambda text: {**text, "slots": [{**text["slots"][0], "salt": "0x"}]},
        lambda text: {**text, "slots": [{**text["slots"][0], "path": ["0x00"] * 99}]},
        lambda text: {**text, "slots": [{**text["slots"][0], "signature": "0xzz"}]},
        lambda text: {**text, "slots": [{**text["slots"][0], "sequence": None}]},
        lambda text: {**text, "slots": [{**text["slots"][0], "records": [{"record": 1}]}]},
    ],
)
def test_a_malformed_disclosure_is_refused_with_one_line(
    town: Town, change: Callable[[dict[str, Any]], Any]
) -> None:
    given = json.dumps(change(document(opened(town, FIRST))))
    with pytest.raises(BadUse, match="given is no disclosure: ") as refused:
        read(given.encode(), "given")
    assert "\n" not in str(refused.value)


# The commands


def run(town: Town, monkeypatch: pytest.MonkeyPatch, *words: object) -> Result:
    from scripts.meter import cli

    monkeypatch.setenv("GRIDCOMMONS_HOME", str(town.folder))
    place = town.folder / "deployment.json"
    if not place.exists():
        facts = {"chain_id": town.addresses.chain_id, "contracts": town.addresses.contracts}
        place.write_text(json.dumps(facts))
    return CliRunner(mix_stderr=False).invoke(cli, [str(word) for word in words])


def test_one_disclose_and_one_verify_do_it(
    town: Town, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "opened.json"
    day = ("--from", "2016-06-01", "--to", "2016-06-01")
    made = run(town, monkeypatch, "disclose", "--meter", METER, *day, "-o", file)
    assert made.exit_code == 0
    assert "Opened 96 slots" in made.output
    assert "4 edit records were left out" in made.stderr
    assert file.stat().st_mode & 0o077 == 0
    held = run(town, monkeypatch, "verify", file, "--rpc", town.chain.url, "--json")
    facts = json.loads(held.stdout)
    assert held.exit_code == 0
    assert facts["complete"]
    assert len(facts["slots"]) == 96
    table = run(town, monkeypatch, "verify", file)
    assert table.exit_code == 0
    assert "not checked  needs a node: --rpc URL" in table.output


def test_a_changed_file_ends_with_one_line_and_code_one(
    town: Town, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = run(town, monkeypatch, "disclose", "--meter", METER, "--slot", FIRST)
    text = json.loads(made.stdout)
    text["slots"][0]["export_wh"] += 1
    (tmp_path / "bent.json").write_text(json.dumps(text))
    held = run(town, monkeypatch, "verify", tmp_path / "bent.json", "--rpc", town.chain.url)
    assert held.exit_code == 1
    assert held.stderr.startswith("Error: the disclosure does not hold: leaves: slot")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("disclose", "--meter", 99, "--slot", FIRST), 1, "no rows of meter 99"),
        (("disclose", "--meter", METER), 2, "which slots?"),
        (("disclose", "--meter", METER, "--slot", 7), 1, "no row of meter 3 for slot 7"),
        (
            ("disclose", "--meter", METER, "--slot", FIRST, "--to", "2016-06-01"),
            2,
            "give --slot, or",
        ),
        (("disclose", "--meter", METER, "--from", "May", "--to", "June"), 2, "expected a UTC day"),
        (
            ("disclose", "--meter", METER, "--from", "2016-06-02", "--to", "2016-06-01"),
            2,
            "is not after",
        ),
        (
            ("disclose", "--meter", METER, "--from", "2016-05-30T00:07", "--to", "2016-06-01"),
            2,
            "quarter-hour",
        ),
        (
            ("disclose", "--meter", METER, "--slot", FIRST, "--secrets", "/nowhere/s"),
            1,
            "no store of secrets",
        ),
        (("disclose", "--meter", METER, "--slot", FIRST, "-o", "/nowhere/x"), 2, "cannot write"),
        (
            ("disclose", "--meter", METER, "--slot", FIRST, "--lake", "nowhere://x"),
            2,
            "cannot open the lake",
        ),
        (("verify", "/nowhere/x"), 2, "cannot read"),
    ],
)
def test_bad_use_of_the_commands_is_one_clear_line(
    town: Town, monkeypatch: pytest.MonkeyPatch, words: tuple[object, ...], code: int, says: str
) -> None:
    result = run(town, monkeypatch, *words)
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("Error: ")
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_node_that_is_none_is_told(
    town: Town, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "x.json"
    run(town, monkeypatch, "disclose", "--meter", METER, "--slot", FIRST, "-o", file)
    for url, says in (("http://127.0.0.1:9", "node unreachable"), ("ftp://x", "URL of a node")):
        held = run(town, monkeypatch, "verify", file, "--rpc", url)
        assert held.exit_code in (1, 2)
        assert says in held.stderr
    with pytest.raises(CheckFailed, match="does not answer"):
        Node(town.chain.url).view("0x" + "77" * 20, "root_of(uint256,uint256,uint256)", 1, 2, 3)


def test_many_slots_of_a_zone_are_opened_from_trees_built_once(town: Town) -> None:
    given = opened(town, *range(FIRST, FIRST + 96 * 4))
    assert len(given.slots) == 384
    assert len(given.roots) == 4
    assert all(one.path for one in given.slots)
    assert states(verify(given, town.node, town.addresses))["signatures"] == "passed"
