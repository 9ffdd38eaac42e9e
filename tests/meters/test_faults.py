# SPDX-License-Identifier: Apache-2.0
"""The dossier of faults, on a real node: what is wrong is found, what is sound is not, and a
dossier that was altered or made up does not hold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from dao.errors import BadUse
from dao.node import Addresses
from dao.slots import SLOTS_PER_DAY
from meters.faults.check import verify
from meters.faults.dossier import Dossier, decode, encode, open_findings
from meters.faults.findings import KINDS, Finding
from meters.lake import batch_path, erase_rows
from scripts.meter import cli
from tests.meters import faulty_town as town
from tests.meters.conftest import CODE
from tests.meters.faulty_town import FIRST, FIRST_DAY, SOUND_DAYS, ZONE, Street

LAST = (SOUND_DAYS, town.DAYS - 1)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    with town.built(tmp_path_factory.mktemp("faulty")) as made:
        yield made


@pytest.fixture
def run(
    street: Street, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """A command in the street's state folder: exit code, output, errors."""
    monkeypatch.setenv("GRIDCOMMONS_HOME", str(street.folder))
    monkeypatch.chdir(tmp_path)

    def invoke(*words: str) -> tuple[int, str, str]:
        result = CliRunner(mix_stderr=False).invoke(cli, words)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.stdout, result.stderr

    return invoke


def span(first: int, last: int) -> list[str]:
    """Options for whole days, counted from the first one of the street."""
    return [
        *("--from", (FIRST_DAY + timedelta(days=first)).isoformat()),
        *("--to", (FIRST_DAY + timedelta(days=last)).isoformat()),
    ]


def everything(street: Street, days: tuple[int, int], *more: str) -> list[str]:
    return [
        "faults",
        *("--zone", str(ZONE), *span(*days), "-o", "out.json", "--rpc", street.chain.url),
        *("--inbox", str(street.folder / "inbox.sqlite"), *more),
    ]


def with_feeder(street: Street) -> list[str]:
    folder = street.folder
    return [
        *("--feeder", str(folder / "feeder.csv"), "--buses", str(folder / "buses.csv")),
        *("--grid", CODE),
    ]


def test_each_fault_is_found_and_nothing_else(
    street: Street, run: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = run(*everything(street, LAST), "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert {(one["meter"], one["kind"]) for one in facts["findings"]} == {
        (town.DEAD, "dead_inverter"),
        (town.FORK, "fork"),
        (town.GAP, "gap"),
        (town.FORGED, "signature"),
        (town.FROZEN, "frozen"),
    }
    assert facts["not_opened"] == []
    # What each finding rests on, and no slot more: a frozen value needs 24, a dead inverter eight
    # slots of six days, a gap both its sides. A fork is in no batch, so it opens none.
    assert facts["opened"] == {
        str(town.DEAD): 48,
        str(town.GAP): 2,
        str(town.FORGED): 1,
        str(town.FROZEN): 24,
    }


def test_sound_days_give_no_finding(
    street: Street, run: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, _ = run(*everything(street, (0, SOUND_DAYS - 1)))
    assert code == 0
    assert out.startswith("Nothing was found. Looked for: frozen, dead_inverter, signature")
    code, out, _ = run("faults-verify", "out.json", "--rpc", street.chain.url)
    assert code == 0


def test_a_dossier_holds_against_the_chain_and_its_hash_names_it(
    street: Street, run: Callable[..., tuple[int, str, str]]
) -> None:
    _, out, err = run(*everything(street, LAST))
    shown = out.strip().splitlines()[-1].removeprefix("Hash: ")
    assert "Opens slots of meters 2 (48), 5 (2), 6 (1), 7 (24); --meters restricts that." in err
    code, out, err = run(
        "faults-verify", "out.json", "--rpc", street.chain.url, "--hash", shown, "--json"
    )
    assert code == 0, err
    facts = json.loads(out)
    assert facts["holds"]
    assert facts["hash"] == shown
    # No leaf holds a signature or what never came, so these two rest on somebody's word.
    unproved = {check["name"] for check in facts["checks"] if check["state"] != "passed"}
    assert unproved == {"gap", "signature"}
    code, _, err = run("faults-verify", "out.json", "--hash", "0x" + "11" * 32)
    assert code == 1
    assert "not the file that was named" in err


def test_without_a_node_it_says_what_was_not_checked(
    street: Street, run: Callable[..., tuple[int, str, str]]
) -> None:
    run(*everything(street, LAST))
    code, out, _ = run("faults-verify", "out.json")
    assert code == 0
    assert "roots, zone and keys need a node" in out
    assert out.count("not checked") >= 5


def test_only_the_named_meters_are_opened_and_named(
    street: Street, run: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, _ = run(*everything(street, LAST, *with_feeder(street)), "--meters", "7", "--json")
    assert code == 0
    facts = json.loads(out)
    assert {one["meter"] for one in facts["findings"]} == {7}
    assert facts["balance"]["suspects"] == []
    document = json.loads(Path("out.json").read_text())
    assert {one["meter"] for one in document["opened"]} == {7}
    assert run("faults-verify", "out.json", "--rpc", street.chain.url)[0] == 0


def test_what_was_not_looked_for_is_not_said_to_be_sound(
    run: Callable[..., tuple[int, str, str]],
) -> None:
    _, out, _ = run("faults", "--zone", "1", *span(*LAST), "-o", "out.json", "--json")
    facts = json.loads(out)
    assert facts["looked_for"] == ["frozen", "dead_inverter"]
    assert {one["kind"] for one in facts["findings"]} == {"frozen", "dead_inverter"}


def test_a_bypassed_meter_fits_what_the_transformer_saw_and_no_meter_did(
    street: Street, run: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = run(*everything(street, (0, SOUND_DAYS - 1), *with_feeder(street)), "--json")
    assert code == 0, err
    facts = json.loads(out)["balance"]
    assert [one["meter"] for one in facts["suspects"]] == [town.BYPASSED]
    (one,) = facts["suspects"]
    assert abs(one["part_permille"] - 1000 * town.BYPASS) < 20
    assert one["z_tenths"] > 50
    assert facts["slots"] == SOUND_DAYS * SLOTS_PER_DAY
    # No single home is beyond what the classes of sixteen meters allow together.
    assert all(day["residual_wh"] > 0 for day in facts["days"])
    code, out, _ = run("faults-verify", "out.json", "--rpc", street.chain.url)
    assert code == 0
    assert "the losses are the operator's word; so is which homes fit" in out


@pytest.fixture(scope="module")
def written(street: Street, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The dossier of the last days, with the transformer's meter, made once."""
    path = tmp_path_factory.mktemp("dossier") / "faults.json"
    words = [str(path) if word == "out.json" else word for word in everything(street, LAST)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRIDCOMMONS_HOME", str(street.folder))
        result = CliRunner().invoke(cli, [*words, *with_feeder(street)])
    assert result.exit_code == 0, result.output
    return path.read_bytes()


def finding(document: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(one for one in document["findings"] if one["kind"] == kind)


def slots_of(document: dict[str, Any], meter: int) -> list[dict[str, Any]]:
    return next(one["slots"] for one in document["opened"] if one["meter"] == meter)


def change_value(d: dict[str, Any]) -> None:
    slots_of(d, town.FROZEN)[3]["import_wh"] += 1


def change_root(d: dict[str, Any]) -> None:
    d["opened"][0]["batches"][0]["root"] = "0x" + "11" * 32


def hide_opening(d: dict[str, Any]) -> None:
    d["opened"] = [one for one in d["opened"] if one["meter"] != town.DEAD]


def open_for_nothing(d: dict[str, Any]) -> None:
    d["findings"].remove(finding(d, "frozen"))


def move_finding(d: dict[str, Any]) -> None:
    finding(d, "frozen")["first_slot"] += 1


def claim_other_numbers(d: dict[str, Any]) -> None:
    finding(d, "gap")["numbers"][1] += 1


def twin_records(d: dict[str, Any]) -> None:
    finding(d, "fork")["records"][1] = finding(d, "fork")["records"][0]


def foreign_record(d: dict[str, Any]) -> None:
    finding(d, "fork")["meter"] = town.FROZEN


def change_record(d: dict[str, Any]) -> None:
    record = finding(d, "fork")["records"][0]
    finding(d, "fork")["records"][0] = (
        record[:40] + ("0" if record[40] != "0" else "1") + record[41:]
    )


def call_fork_a_link(d: dict[str, Any]) -> None:
    finding(d, "fork")["kind"] = "link"


def drop_a_clear_day(d: dict[str, Any]) -> None:
    one = finding(d, "dead_inverter")
    gone = one["opened"][:8]
    one["opened"] = one["opened"][8:]
    mine = next(entry for entry in d["opened"] if entry["meter"] == town.DEAD)
    mine["slots"] = [slot for slot in mine["slots"] if slot["slot"] not in gone]


def change_sums(d: dict[str, Any]) -> None:
    d["balance"]["import_wh"][7] -= 500


def not_looked_for(d: dict[str, Any]) -> None:
    d["looked_for"].remove("frozen")


def other_time(d: dict[str, Any]) -> None:
    d["slots"] = 96


ALTERED: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "a value": (change_value, "meter 7: leaves: slot"),
    "a root": (change_root, "meter 2: leaves: slot"),
    "an opening that is gone": (hide_opening, "slot"),
    "an opening for nothing": (open_for_nothing, "is opened for no finding"),
    "where it stood still": (move_finding, "24 slots in a row"),
    "the missing numbers": (claim_other_numbers, "not those before and after"),
    "one story twice": (twin_records, "both readings say the same"),
    "whose story it is": (foreign_record, "of another meter"),
    "a story": (change_record, "meter 4"),
    "the kind": (call_fork_a_link, "do not follow each other"),
    "the clear days": (drop_a_clear_day, "5 of the 14 before"),
    "the homes' sums": (change_sums, "not those on the ledger"),
    "what was looked for": (not_looked_for, "was not looked for"),
    "its time": (other_time, "outside the dossier's time"),
}


@pytest.mark.parametrize("what", ALTERED)
def test_an_altered_dossier_does_not_hold_and_says_where(
    street: Street, run: Callable[..., tuple[int, str, str]], written: bytes, what: str
) -> None:
    document = json.loads(written)
    change, says = ALTERED[what]
    change(document)
    text = json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n"
    Path("altered.json").write_text(text)
    code, _, err = run("faults-verify", "altered.json", "--rpc", street.chain.url)
    assert code == 1, err
    assert err.startswith("Error: the dossier does not hold: ")
    assert says in err


def made_up(street: Street, finding: Finding) -> Dossier:
    """A dossier with a finding that somebody invented, its slots really opened."""
    with street.secrets() as secrets:
        kept, opened, lost = open_findings([finding], street.lake, secrets, street.addresses, ZONE)
    assert not lost
    return Dossier(
        street.addresses,
        ZONE,
        FIRST,
        town.DAYS * SLOTS_PER_DAY,
        tuple(KINDS),
        None,
        tuple(kept),
        tuple(opened),
        None,
    )


MIDDAY = range(FIRST + SOUND_DAYS * SLOTS_PER_DAY + 42, FIRST + SOUND_DAYS * SLOTS_PER_DAY + 50)
SIX_MIDDAYS = tuple(sorted(slot - back * SLOTS_PER_DAY for slot in MIDDAY for back in range(6)))
NIGHT = tuple(slot - 40 for slot in SIX_MIDDAYS)
INVENTED = {
    "frozen": (Finding(8, "frozen", FIRST, 24, tuple(range(FIRST, FIRST + 24))), "differ"),
    "dead, but it exported": (
        Finding(3, "dead_inverter", MIDDAY[0], 8, SIX_MIDDAYS),
        "exported on that midday",
    ),
    "dead, but there is no roof": (
        Finding(8, "dead_inverter", MIDDAY[0], 8, SIX_MIDDAYS),
        "hardly exported",
    ),
    "dead, but it was night": (
        Finding(3, "dead_inverter", MIDDAY[0] - 40, 8, NIGHT),
        "hardly exported",
    ),
    "a forgery that is none": (Finding(8, "signature", FIRST, 1, (FIRST,)), "device after all"),
    "a gap that is none": (
        Finding(8, "gap", FIRST, 2, (FIRST, FIRST + 1), numbers=(1, 1)),
        "not those before and after",
    ),
}


@pytest.mark.parametrize("what", INVENTED)
def test_an_invented_finding_does_not_hold(street: Street, what: str) -> None:
    finding, says = INVENTED[what]
    checks = verify(made_up(street, finding), street.node, street.addresses)
    failed = [check for check in checks if check.state == "failed"]
    assert len(failed) == 1
    assert says in failed[0].detail


def test_what_was_erased_since_is_left_out_and_said_to_be(street: Street, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(street.lake, lake)
    file = batch_path(lake, ZONE, FIRST, SLOTS_PER_DAY)
    assert erase_rows(lake, str(file), 8, FIRST, FIRST + 1, street.separator)
    gone = Finding(8, "signature", FIRST, 1, (FIRST,))
    kept = Finding(8, "signature", FIRST + 1, 1, (FIRST + 1,))
    with street.secrets() as secrets:
        findings, opened, lost = open_findings([gone, kept], lake, secrets, street.addresses, ZONE)
    assert findings == [kept]
    assert [one.reading.slot for one in opened[0].slots] == [FIRST + 1]
    assert len(lost) == 1
    assert "were erased" in lost[0]


def test_a_dossier_of_another_deployment_is_told(street: Street) -> None:
    dossier = made_up(street, INVENTED["frozen"][0])
    other = Addresses(street.addresses.chain_id, {**street.addresses.contracts})
    other.contracts["ReadingLedger"] = "0x" + "22" * 20
    assert verify(dossier, street.node, other, named=True)[-1].state == "failed"


def test_the_same_dossier_is_the_same_bytes_and_no_other_bytes_are_read(street: Street) -> None:
    dossier = made_up(street, INVENTED["frozen"][0])
    data = encode(dossier)
    assert encode(decode(data, "it")) == data
    for other in (data[:-1], data + b" ", data.replace(b'"zone":1', b'"zone": 1', 1), b"{}", b""):
        with pytest.raises(BadUse, match="no dossier"):
            decode(other, "it")


def test_no_change_of_a_field_ends_in_anything_but_a_clear_error(written: bytes) -> None:
    random = np.random.default_rng(5)
    odd = [None, -1, 2**70, "", "0x", [], {}, True, 1.5, "signature", "gap", "fork", "link", [[]]]
    whole = json.loads(written)
    places = list(_places(whole))
    refused = 0
    for _ in range(300):
        document = json.loads(written)
        *path, last = places[random.integers(len(places))]
        holder = document
        for step in path:
            holder = holder[step]
        holder[last] = odd[random.integers(len(odd))]
        text = json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n"
        try:
            dossier = decode(text.encode(), "it")
        except BadUse:
            refused += 1
            continue
        # What can still be read is checked to an end, whatever it says.
        assert verify(dossier)
    assert refused > 150


def _places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document, of long lists the first three entries."""
    steps = node if isinstance(node, dict) else range(min(3, len(node))) if node else ()
    for step in steps:
        yield (*path, step)
        if isinstance(node[step], dict | list):
            yield from _places(node[step], (*path, step))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--meters", "3,x"], "expected numbers"),
        (["--meters", "99"], "no rows of meter 99"),
        (["--feeder", "feeder.csv"], "--grid and --buses"),
        (["--inbox", "no.sqlite"], "there is no inbox"),
        (["--lake", "nowhere"], "has no batch"),
        (["--rpc", "ftp://x"], "expected the URL"),
        (["--rpc", "http://127.0.0.1:1"], "node unreachable"),
    ],
)
def test_options_that_cannot_be_used_are_one_clear_line(
    run: Callable[..., tuple[int, str, str]], words: list[str], says: str
) -> None:
    code, _, err = run("faults", "--zone", "1", *span(*LAST), "-o", "out.json", *words)
    assert code in (1, 2)
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert not Path("out.json").exists()


@pytest.mark.parametrize(
    ("begin", "end"), [("2016-06-05", "2016-06-04"), ("2016-01-01", "2016-06-10"), ("x", "y")]
)
def test_a_time_that_is_none_is_one_clear_line(
    run: Callable[..., tuple[int, str, str]], begin: str, end: str
) -> None:
    code, _, err = run("faults", "--zone", "1", "--from", begin, "--to", end, "-o", "out.json")
    assert code == 2
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 9_000, b"\xff", b'{"format":1}'])
def test_a_file_that_is_no_dossier_is_bad_use(
    run: Callable[..., tuple[int, str, str]], data: bytes
) -> None:
    Path("bad.json").write_bytes(data)
    code, _, err = run("faults-verify", "bad.json")
    assert code == 2
    assert "no dossier of faults" in err
    assert len(err.strip().splitlines()) == 1
