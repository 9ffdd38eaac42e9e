# SPDX-License-Identifier: Apache-2.0
"""Grants: who may read whose readings until when, and the record of who did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from eth_account import Account
from eth_account.messages import encode_typed_data

from dao.chain import LocalAccount
from dao.eip712 import address_bytes, sign_digest
from dao.errors import BadUse, CheckFailed
from dao.leaves import NULL_WH
from dao.node import Node
from meters.erasure import erase_month
from meters.granted import Committed, Request, asks_registry, disclose_under, read_under
from meters.grants import (
    CHALLENGE_SECONDS,
    AccessRefused,
    Grant,
    Grants,
    Outcome,
    access_digest,
    record_digest,
    revocation_digest,
    typed_data,
)
from meters.verification import verify
from tests.meters.town import (
    DAYS,
    FIRST,
    JUNE_SLOT,
    MAY,
    METER,
    OWNERS,
    READER,
    STRANGER,
    ZONE,
    Town,
    visited,
)

OWNER = OWNERS[METER - 1]
NOW = 1_465_000_000
HOUR = 3_600


def grant(**changes: Any) -> Grant:
    plain = Grant(METER, address_bytes(READER.address), FIRST, JUNE_SLOT, NOW + HOUR, 1)
    return replace(plain, **changes)


@pytest.fixture
def town(street: Town, tmp_path: Path) -> Iterator[Town]:
    with visited(street, tmp_path) as here:
        yield here


@pytest.fixture
def grants(town: Town) -> Iterator[Grants]:
    registry = town.addresses["MeterRegistry"]
    path = town.folder / "grants.sqlite"
    with Grants(path, town.grant_separator, asks_registry(town.node, registry)) as store:
        yield store


def taken(town: Town, grants: Grants, by: LocalAccount = OWNER, **changes: Any) -> bytes:
    """A grant, signed and taken; its id."""
    given = grant(**changes)
    return grants.add(given, sign_digest(by.key, given.digest(town.grant_separator)), NOW).id


def request(
    town: Town, grants: Grants, number: bytes, by: LocalAccount = READER, **part: int
) -> Request:
    challenge = grants.challenge(number, NOW)
    digest = access_digest(town.grant_separator, number, challenge)
    return Request(number, challenge, sign_digest(by.key, digest), **part)


def committed(town: Town) -> Committed:
    return Committed(town.lake, ZONE, FIRST + DAYS * 96)


def revoke(town: Town, grants: Grants, number: bytes, by: LocalAccount = OWNER) -> None:
    digest = revocation_digest(town.grant_separator, METER, number)
    grants.revoke(METER, number, sign_digest(by.key, digest), NOW)


def refused(town: Town, grants: Grants, given: Request, now: int = NOW) -> Outcome:
    with pytest.raises(AccessRefused) as error:
        read_under(grants, committed(town), given, now)
    return error.value.outcome


def test_the_named_reader_gets_the_granted_slots_as_they_stand_in_the_lake(
    town: Town, grants: Grants
) -> None:
    number = taken(town, grants)
    rows = read_under(grants, committed(town), request(town, grants, number), NOW)
    assert [row.slot for row in rows] == list(range(FIRST, JUNE_SLOT))
    signed = town.of(METER, FIRST, JUNE_SLOT)
    assert [row.import_wh for row in rows] == signed.import_wh.tolist()
    assert NULL_WH not in signed.import_wh.tolist()


def test_a_part_can_be_asked_for_and_a_proof(town: Town, grants: Grants) -> None:
    number = taken(town, grants)
    given = request(town, grants, number, first_slot=FIRST + 3, end_slot=FIRST + 5)
    with town.secrets() as secrets:
        made = disclose_under(grants, committed(town), given, NOW, secrets, town.addresses)
    assert [one.reading.slot for one in made.slots] == [FIRST + 3, FIRST + 4]
    assert {check.state for check in verify(made, town.node, town.addresses)} == {"passed"}


def test_a_grant_covers_later_slots_once_they_are_committed(town: Town, grants: Grants) -> None:
    number = taken(town, grants, to_slot=JUNE_SLOT + 96)
    early = Committed(town.lake, ZONE, JUNE_SLOT)
    assert len(read_under(grants, early, request(town, grants, number), NOW)) == 192
    assert len(read_under(grants, committed(town), request(town, grants, number), NOW)) == 288
    later = taken(town, grants, from_slot=JUNE_SLOT, to_slot=JUNE_SLOT + 96)
    given = request(town, grants, later)
    with pytest.raises(AccessRefused, match="none of these slots is committed"):
        read_under(grants, early, given, NOW)


def test_only_the_owner_of_the_meter_can_grant(town: Town, grants: Grants) -> None:
    assert taken(town, grants, nonce=2**64 - 1)
    for by in (STRANGER, READER, OWNERS[0]):
        with pytest.raises(CheckFailed, match="not signed by the owner of meter 3"):
            taken(town, grants, by)
    with pytest.raises(CheckFailed, match="knows no meter 99"):
        taken(town, grants, OWNERS[0], meter=99)
    assert [held.grant.nonce for held in grants.of_meter(METER)] == [2**64 - 1]


def test_a_grant_of_another_deployment_is_not_taken(town: Town, grants: Grants) -> None:
    given = grant()
    elsewhere = sign_digest(OWNER.key, given.digest(bytes(32)))
    with pytest.raises(CheckFailed, match="not signed by the owner"):
        grants.add(given, elsewhere, NOW)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"to_slot": FIRST}, "names no slot"),
        ({"to_slot": FIRST - 1}, "names no slot"),
        ({"expires": NOW}, "expired already"),
        ({"nonce": 2**64}, "out of range"),
        ({"to_slot": 2**63}, "beyond the year 3000"),
        ({"expires": 2**64 - 1}, "beyond the year 3000"),
        ({"meter": 2**32}, "out of range"),
    ],
)
def test_a_grant_that_names_nothing_is_bad_use(
    town: Town, grants: Grants, changes: dict[str, int], says: str
) -> None:
    with pytest.raises(BadUse, match=says):
        grants.add(grant(**changes), bytes(65), NOW)


def test_an_expired_grant_gives_nothing(town: Town, grants: Grants) -> None:
    number = taken(town, grants)
    given = request(town, grants, number)
    last = replace(given, challenge=grants.challenge(number, NOW + HOUR - 1))
    digest = access_digest(town.grant_separator, number, last.challenge)
    last = replace(last, signature=sign_digest(READER.key, digest))
    assert read_under(grants, committed(town), last, NOW + HOUR - 1)
    challenge = grants.challenge(number, NOW + HOUR)
    digest = access_digest(town.grant_separator, number, challenge)
    after = Request(number, challenge, sign_digest(READER.key, digest))
    assert refused(town, grants, after, NOW + HOUR) is Outcome.EXPIRED


def test_a_revoked_grant_gives_nothing_from_then_on(town: Town, grants: Grants) -> None:
    number = taken(town, grants)
    given = request(town, grants, number)
    revoke(town, grants, number)
    assert refused(town, grants, given) is Outcome.REVOKED
    with pytest.raises(CheckFailed, match="was revoked"):
        taken(town, grants)
    assert grants.get(number).revoked_at == NOW


def test_a_grant_can_be_revoked_before_anybody_brings_it(town: Town, grants: Grants) -> None:
    number = grant().digest(town.grant_separator)
    revoke(town, grants, number)
    with pytest.raises(CheckFailed, match="was revoked"):
        taken(town, grants)


def test_nobody_else_can_revoke_or_stand_in_the_way(town: Town, grants: Grants) -> None:
    number = taken(town, grants)
    with pytest.raises(CheckFailed, match="not signed by the owner"):
        revoke(town, grants, number, STRANGER)
    # The owner of another meter claims the grant for it.
    digest = revocation_digest(town.grant_separator, 1, number)
    with pytest.raises(CheckFailed, match="not one of meter 1"):
        grants.revoke(1, number, sign_digest(OWNERS[0].key, digest), NOW)
    early = grant(nonce=2).digest(town.grant_separator)
    digest = revocation_digest(town.grant_separator, 1, early)
    grants.revoke(1, early, sign_digest(OWNERS[0].key, digest), NOW)
    assert taken(town, grants, nonce=2) == early
    revoke(town, grants, early)
    assert grants.get(early).revoked_at == NOW


def test_somebody_else_gets_nothing(town: Town, grants: Grants) -> None:
    number = taken(town, grants)
    for by in (STRANGER, OWNER):
        assert refused(town, grants, request(town, grants, number, by)) is Outcome.FOREIGN
    broken = replace(request(town, grants, number), signature=b"\xff" * 65)
    assert refused(town, grants, broken) is Outcome.FOREIGN


def test_a_challenge_counts_once_soon_and_for_its_grant(town: Town, grants: Grants) -> None:
    number, other = taken(town, grants), taken(town, grants, nonce=2)
    given = request(town, grants, number)
    read_under(grants, committed(town), given, NOW)
    assert refused(town, grants, given) is Outcome.REPLAYED
    old = request(town, grants, number)
    assert refused(town, grants, old, NOW + CHALLENGE_SECONDS) is Outcome.REPLAYED
    challenge = grants.challenge(other, NOW)
    digest = access_digest(town.grant_separator, number, challenge)
    moved = Request(number, challenge, sign_digest(READER.key, digest))
    assert refused(town, grants, moved) is Outcome.REPLAYED
    own = bytes(range(32))
    digest = access_digest(town.grant_separator, number, own)
    assert refused(town, grants, Request(number, own, sign_digest(READER.key, digest))) is (
        Outcome.REPLAYED
    )


@pytest.mark.parametrize(
    ("first", "end"),
    [(FIRST - 1, FIRST + 5), (FIRST, JUNE_SLOT + 1), (FIRST + 5, FIRST + 5), (9, 4)],
)
def test_slots_outside_the_grant_are_not_given(
    town: Town, grants: Grants, first: int, end: int
) -> None:
    number = taken(town, grants)
    given = request(town, grants, number, first_slot=first, end_slot=end)
    assert refused(town, grants, given) is Outcome.OUTSIDE


def test_every_access_is_on_record_refused_ones_too(town: Town, grants: Grants) -> None:
    number = taken(town, grants)
    read_under(
        grants,
        committed(town),
        request(town, grants, number, first_slot=FIRST + 2, end_slot=FIRST + 6),
        NOW,
    )
    refused(town, grants, request(town, grants, number, STRANGER))
    revoke(town, grants, number)
    refused(town, grants, request(town, grants, number))
    record = grants.accesses(METER)
    assert [(one.outcome, one.slots) for one in record] == [
        (Outcome.READ, 4),
        (Outcome.FOREIGN, 0),
        (Outcome.REVOKED, 0),
    ]
    assert (record[0].first_slot, record[0].end_slot) == (FIRST + 2, FIRST + 6)
    assert [one.reader for one in record] == [
        address_bytes(account.address) for account in (READER, STRANGER, READER)
    ]
    assert grants.accesses(METER + 1) == []


def test_asking_again_and_again_does_not_fill_the_record(town: Town, grants: Grants) -> None:
    number = taken(town, grants)
    for _ in range(5):
        for by in (STRANGER, OWNER):
            refused(town, grants, request(town, grants, number, by))
    (line,) = grants.accesses(METER)
    assert (line.times, line.reader) == (10, address_bytes(STRANGER.address))
    for _ in range(40):
        grants.challenge(number, NOW)
    open_ones = grants._db.execute("SELECT count(*) FROM challenge").fetchone()[0]
    assert open_ones == 16


def test_only_the_owner_sees_the_record(town: Town, grants: Grants) -> None:
    def asks(by: LocalAccount, challenge: bytes) -> int:
        signature = sign_digest(by.key, record_digest(town.grant_separator, METER, challenge))
        return len(grants.accesses_for_owner(METER, challenge, signature, NOW))

    number = taken(town, grants)
    read_under(grants, committed(town), request(town, grants, number), NOW)
    challenge = grants.owner_challenge(METER, NOW)
    assert asks(OWNER, challenge) == 1
    for by, words in (
        (OWNER, challenge),
        (READER, grants.owner_challenge(METER, NOW)),
        (OWNER, grants.owner_challenge(METER + 1, NOW)),
    ):
        with pytest.raises(CheckFailed, match="only the owner"):
            asks(by, words)


def test_erased_slots_are_not_given_and_the_record_stays(town: Town, grants: Grants) -> None:
    number = taken(town, grants, to_slot=JUNE_SLOT + 96)
    read_under(grants, committed(town), request(town, grants, number), NOW)
    with town.secrets() as secrets:
        erase_month(town.stores(secrets), ZONE, METER, MAY, NOW)
    rows = read_under(grants, committed(town), request(town, grants, number), NOW)
    assert [row.slot for row in rows] == list(range(JUNE_SLOT, JUNE_SLOT + 96))
    assert [one.slots for one in grants.accesses(METER)] == [288, 96]


def test_a_wallet_signs_the_same_message(town: Town) -> None:
    given = grant()
    registry = town.addresses["MeterRegistry"]
    message = encode_typed_data(full_message=typed_data(given, town.addresses.chain_id, registry))
    signed = Account.sign_message(message, OWNER.key)
    assert bytes(signed.signature) == sign_digest(OWNER.key, given.digest(town.grant_separator))


def test_a_contract_wallet_vouches_for_its_own_grants(town: Town) -> None:
    node, wallet = Node(town.chain.url), "0x" + "ab" * 20
    # Without code, and with code that does not speak ERC-1271, an address vouches for nothing.
    for other in (town.addresses["MeterRegistry"], wallet):
        assert not node.vouches(other, bytes(32), bytes(65))
    answers_yes = "0x631626ba7e60e01b60005260206000f3"
    town.chain.rpc("anvil_setCode", wallet, answers_yes)
    assert node.vouches(wallet, bytes(32), b"of any length")


# The commands


@pytest.fixture
def keys(town: Town) -> dict[str, Path]:
    """Key files of the owner, the reader and a stranger; the state folder has its deployment."""
    facts = {"chain_id": town.addresses.chain_id, "contracts": town.addresses.contracts}
    (town.folder / "deployment.json").write_text(json.dumps(facts))
    found = {}
    for name, account in (("owner", OWNER), ("reader", READER), ("stranger", STRANGER)):
        found[name] = town.folder / f"{name}.key"
        found[name].write_text("0x" + account.key.hex() + "\n")
    return found


def run(town: Town, monkeypatch: pytest.MonkeyPatch, *words: object) -> Result:
    from scripts.meter import cli

    monkeypatch.setenv("GRIDCOMMONS_HOME", str(town.folder))
    return CliRunner(mix_stderr=False).invoke(cli, [str(word) for word in words])


GRANT = (
    *("grant", "--meter", METER, "--reader", READER.address),
    *("--from", "2016-05-30", "--to", "2016-06-01", "--expires", "2016-07-01"),
)


def test_the_commands_grant_read_revoke_and_tell(
    town: Town, keys: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rpc = ("--rpc", town.chain.url)
    made = run(town, monkeypatch, *GRANT, "--key-file", keys["owner"], *rpc, "--json")
    assert made.exit_code == 0, made.stderr
    number = json.loads(made.stdout)["id"]
    reads = ("read", "--grant", number, *rpc)
    rows = run(town, monkeypatch, *reads, "--key-file", keys["reader"], "--json")
    assert len(json.loads(rows.stdout)) == 288
    proof = town.folder / "proof.json"
    asked = (*reads, "--slot", FIRST, "--proof", "-o", proof)
    assert run(town, monkeypatch, *asked, "--key-file", keys["reader"]).exit_code == 0
    assert run(town, monkeypatch, "verify", proof, *rpc).exit_code == 0
    other = run(town, monkeypatch, *reads, "--key-file", keys["stranger"])
    assert (other.exit_code, other.stdout) == (1, "")
    end = ("grant", "--meter", METER, "--revoke", number, *rpc)
    assert run(town, monkeypatch, *end, "--key-file", keys["stranger"]).exit_code == 1
    assert run(town, monkeypatch, *end, "--key-file", keys["owner"]).exit_code == 0
    after = run(town, monkeypatch, *reads, "--key-file", keys["reader"])
    assert "the owner has revoked the grant" in after.stderr
    told = json.loads(run(town, monkeypatch, "access", "--meter", METER, "--json").stdout)
    assert [line["outcome"] for line in told] == ["read", "read", "foreign", "revoked"]
    table = run(town, monkeypatch, "access", "--meter", METER).stdout
    assert "read 288 slots" in table
    assert "refused: foreign" in table
    listed = run(town, monkeypatch, "grant", "--meter", METER, "--list").stdout
    assert number in listed
    assert "revoked 2016-06-03" in listed


def test_a_grant_signed_elsewhere_is_brought_back_with_its_number(
    town: Town, keys: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = run(town, monkeypatch, *GRANT, "--nonce", 5, "--unsigned")
    message = json.loads(shown.stdout)["typed_data"]
    signed = Account.sign_message(encode_typed_data(full_message=message), OWNER.key)
    brought = run(
        town,
        monkeypatch,
        *GRANT,
        *("--nonce", 5, "--signature", "0x" + signed.signature.hex().removeprefix("0x")),
        *("--rpc", town.chain.url),
    )
    assert brought.exit_code == 0, brought.stderr


def test_a_keystore_signs_with_its_password_only(
    town: Town, keys: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = town.folder / "owner.json"
    store.write_text(json.dumps(Account.encrypt(OWNER.key, "right", iterations=2)))
    words = (*GRANT, "--keystore", store, "--rpc", town.chain.url)
    monkeypatch.setenv("GRIDCOMMONS_PASSWORD", "wrong")
    refused_one = run(town, monkeypatch, *words)
    assert refused_one.exit_code == 2
    assert "the password is wrong" in refused_one.stderr
    monkeypatch.setenv("GRIDCOMMONS_PASSWORD", "right")
    assert run(town, monkeypatch, *words).exit_code == 0


@pytest.mark.parametrize("content", ["{}", "[]", "no JSON", '{"version": 5, "crypto": {}}'])
def test_what_is_no_keystore_is_said_to_be_none(
    town: Town, keys: dict[str, Path], monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    store = town.folder / "owner.json"
    store.write_text(content)
    monkeypatch.setenv("GRIDCOMMONS_PASSWORD", "right")
    refused = run(town, monkeypatch, *GRANT, "--keystore", store, "--rpc", town.chain.url)
    assert refused.exit_code == 2
    assert "is not a keystore" in refused.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ((*GRANT,), 2, "who signs?"),
        ((*GRANT, "--key-file", "/nowhere"), 2, "cannot read"),
        ((*GRANT, "--key-file", "KEYS/deployment.json"), 2, "is not a private key"),
        ((*GRANT, "--signature", "0x12"), 2, "--signature needs the --nonce"),
        ((*GRANT, "--signature", "0x12", "--nonce", 1), 2, "130 hex digits"),
        ((*GRANT, "--key-file", "KEYS/owner.key"), 2, "--rpc is needed"),
        ((*GRANT, "--key-file", "KEYS/stranger.key", "--rpc", "RPC"), 1, "not signed by the owner"),
        ((*GRANT[:5], "--from", "2016-05-30"), 2, "--to is needed"),
        ((*GRANT[:3], "--from", "2016-05-30", "--to", "2016-05-30"), 2, "--expires is needed"),
        (("grant", "--meter", METER, "--reader", "me", *GRANT[5:]), 2, "expected an address"),
        (("grant", "--meter", METER, "--revoke", "0x1"), 2, "64 hex digits"),
        (("read", "--grant", "0x" + "00" * 32, "--rpc", "RPC"), 1, "there is no grant"),
        (("read", "--grant", "7", "--rpc", "RPC"), 2, "64 hex digits"),
        (("read", "--grant", "0x" + "00" * 32, "--rpc", "http://127.0.0.1:9"), 1, "unreachable"),
    ],
)
def test_bad_use_is_one_clear_line_and_changes_nothing(
    town: Town,
    keys: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[object, ...],
    code: int,
    says: str,
) -> None:
    given = [
        str(word).replace("KEYS", str(town.folder)).replace("RPC", town.chain.url) for word in words
    ]
    result = run(town, monkeypatch, *given)
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("Error: ")
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
    assert "No grants" in run(town, monkeypatch, "grant", "--meter", METER, "--list").stdout


def test_a_meter_that_nobody_asked_for_says_so(
    town: Town, keys: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Nobody has asked" in run(town, monkeypatch, "access", "--meter", METER).stdout
