# SPDX-License-Identifier: Apache-2.0
"""Slots, paths, keccak, signatures and addresses."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest
from eth_account import Account
from eth_utils import to_checksum_address

from dao import eip712, paths, slots
from dao.errors import BadUse, CheckFailed, GridCommonsError

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def test_slots_are_quarter_hours_of_utc() -> None:
    noon = datetime(2016, 7, 1, 12, 7, tzinfo=UTC)
    slot = slots.slot_of(noon)
    assert slot == slots.slot_of(int(noon.timestamp())) == int(noon.timestamp()) // 900
    assert slots.slot_start(slot) == datetime(2016, 7, 1, 12, 0, tzinfo=UTC)
    assert slots.slot_timestamp(slot) == slot * 900
    assert slots.slot_of(noon.astimezone(timezone(timedelta(hours=2)))) == slot
    assert slots.first_slot_of_day(date(2016, 7, 1)) == slot - 48
    assert slots.day_of(slot - 48) == slots.day_of(slot + 47) == date(2016, 7, 1)
    assert slots.day_of(slot + 48) == date(2016, 7, 2)


def test_slots_refuse_times_without_a_zone() -> None:
    with pytest.raises(ValueError, match="without a time zone"):
        slots.slot_of(datetime(2016, 7, 1))
    with pytest.raises(ValueError, match="takes a date"):
        slots.first_slot_of_day(datetime(2016, 7, 1, tzinfo=UTC))


def test_state_lies_under_one_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRIDCOMMONS_HOME", raising=False)
    assert paths.home() == tmp_path / ".gridcommons"
    monkeypatch.setenv("GRIDCOMMONS_HOME", str(tmp_path / "elsewhere"))
    for path in (
        paths.lake_dir(),
        paths.inbox_path(),
        paths.index_path(),
        paths.deployment_path(),
        paths.run_state_path(),
        paths.cache_dir(),
    ):
        assert path.is_relative_to(tmp_path / "elsewhere")
    assert paths.ensure_parent(paths.index_path()).parent.is_dir()


def test_errors_carry_their_exit_code() -> None:
    assert (BadUse("x").exit_code, CheckFailed("x").exit_code) == (2, 1)
    assert issubclass(BadUse, GridCommonsError)
    assert issubclass(CheckFailed, GridCommonsError)


def test_keccak_is_ethereums() -> None:
    empty = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert eip712.keccak(b"").hex() == empty


@pytest.mark.parametrize("number", range(1, 30))
def test_signatures_and_addresses_equal_eth_account(number: int) -> None:
    key = eip712.keccak(bytes([number]))
    digest = eip712.keccak(key)
    account = Account.from_key(key)
    signature = eip712.sign_digest(key, digest)
    assert eip712.address_of(key) == account.address == to_checksum_address(account.address)
    assert signature == account.unsafe_sign_hash(digest).signature
    assert eip712.recover(digest, signature) == eip712.address_bytes(account.address)
    r, vs = eip712.compact(signature)
    assert eip712.expand(r, vs) == signature
    assert eip712.recover(digest, r + vs) == eip712.address_bytes(account.address)


def test_recover_refuses_what_the_contracts_refuse() -> None:
    digest = eip712.keccak(b"reading")
    signature = eip712.sign_digest(b"\x01" * 32, digest)
    s = int.from_bytes(signature[32:64], "big")
    twin = signature[:32] + eip712.word(ORDER - s) + bytes([55 - signature[64]])
    with pytest.raises(ValueError, match="upper half"):
        eip712.recover(digest, twin)
    with pytest.raises(ValueError, match="upper half"):
        eip712.compact(twin)
    with pytest.raises(ValueError, match="65 or 64 bytes"):
        eip712.recover(digest, signature[:63])
    with pytest.raises(ValueError, match="v must be"):
        eip712.recover(digest, signature[:64] + b"\x00")
    with pytest.raises(ValueError, match="not a valid signature"):
        eip712.recover(digest, bytes(64) + b"\x1b")


def test_addresses_are_twenty_bytes() -> None:
    with pytest.raises(ValueError, match="20 bytes, not 3"):
        eip712.address_bytes("0x010203")
