# SPDX-License-Identifier: Apache-2.0
"""Device keys at rest, and their change."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from eth_account import Account

from dao.errors import BadUse, CheckFailed
from meters.gateway.keys import Keys
from meters.gateway.keystore import (
    DeviceKey,
    address_in,
    load_key,
    new_key,
    read_password,
    request_rotation,
)
from meters.gateway.outbox import KeyPeriod, Outbox
from tests.meters.gateway.house import (
    CHAIN,
    FIRST_SLOT,
    METER,
    PASSWORD,
    REGISTRY,
    SEPARATOR,
    START,
    WORK,
)


def test_a_key_opens_with_its_password_here_and_in_any_wallet(tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    made = new_key(file, PASSWORD, WORK)
    assert load_key(file, PASSWORD) == made
    assert address_in(file) == made.address
    assert bytes(Account.decrypt(json.loads(file.read_text()), PASSWORD)) == made.private
    assert file.stat().st_mode & 0o077 == 0
    assert made.private.hex() not in file.read_text()
    assert made.private.hex() not in repr(made)


def test_a_wrong_password_is_told_in_one_line(tmp_path: Path) -> None:
    new_key(tmp_path / "key.json", PASSWORD, WORK)
    with pytest.raises(CheckFailed, match="password does not open"):
        load_key(tmp_path / "key.json", "wrong")


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    new_key(file, PASSWORD, WORK)
    before = file.read_bytes()
    with pytest.raises(BadUse, match="never overwritten"):
        new_key(file, PASSWORD, WORK)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"version": 3}',
        '{"version": 3, "crypto": {"kdf": "none"}}',
        '{"version": 5, "crypto": {}}',
        "\x00\xff",
    ],
)
def test_what_is_no_keystore_is_bad_use(content: str, tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    file.write_text(content)
    with pytest.raises(BadUse, match="is not a keystore"):
        load_key(file, PASSWORD)
    with pytest.raises(BadUse):
        address_in(file)


def test_a_password_comes_from_a_private_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\r\nsecond line\n")
    with pytest.raises(BadUse, match="chmod 600"):
        read_password(file)
    file.chmod(0o600)
    assert read_password(file) == PASSWORD
    file.write_text("\n")
    with pytest.raises(BadUse, match="empty"):
        read_password(file)
    monkeypatch.delenv("GRIDCOMMONS_GATEWAY_PASSWORD", raising=False)
    with pytest.raises(BadUse, match="no password"):
        read_password(None)
    monkeypatch.setenv("GRIDCOMMONS_GATEWAY_PASSWORD", "from outside")
    assert read_password(None) == "from outside"


def test_a_rotation_is_signed_by_the_old_key_and_the_new_one() -> None:
    old, new = DeviceKey.of(b"\x01" * 32), DeviceKey.of(b"\x02" * 32)
    request = request_rotation(CHAIN, REGISTRY, METER, old, new, START)
    typed = {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
            ],
            "KeyRotation": [
                {"name": "meter", "type": "uint32"},
                {"name": "device", "type": "address"},
                {"name": "validFrom", "type": "uint64"},
                {"name": "deadline", "type": "uint64"},
            ],
        },
        "primaryType": "KeyRotation",
        "domain": {
            "name": "GridCommons MeterRegistry",
            "version": "1",
            "chainId": CHAIN,
            "verifyingContract": REGISTRY,
        },
        "message": {
            "meter": METER,
            "device": new.address,
            "validFrom": START,
            "deadline": START,
        },
    }
    for key, signature in ((old, request.old_signature), (new, request.new_signature)):
        signed = Account.sign_typed_data(key.private, full_message=typed)
        assert bytes(signed.signature) == signature
    with pytest.raises(BadUse):
        request_rotation(CHAIN, REGISTRY, METER, old, old, START)


class Registry:
    """Says which device holds at a moment, or nothing while it is away."""

    def __init__(self) -> None:
        self.device: str | None = None
        self.is_away = True

    def device_at(self, meter: int, moment: int) -> str | None:
        if self.is_away:
            raise CheckFailed("the node does not answer")
        assert meter == METER
        return self.device


def test_a_new_key_signs_from_its_time_on_once_the_registry_has_it(tmp_path: Path) -> None:
    first = new_key(tmp_path / "key.json", PASSWORD, WORK)
    second = new_key(tmp_path / "second.json", PASSWORD, WORK)
    registry = Registry()
    begin = START + 900
    with Outbox(tmp_path / "outbox.sqlite", METER, SEPARATOR) as outbox:
        keys = Keys(outbox, tmp_path, tmp_path / "key.json", PASSWORD, registry.device_at)
        outbox.put_key(KeyPeriod(second.address, "second.json", begin, confirmed=False))
        asyncio.run(keys.look(begin + 1))
        # Slot 0 ends a second before; slot 1 nobody can sign as long as the registry is silent.
        assert keys.of(FIRST_SLOT) == first
        assert keys.of(FIRST_SLOT + 1) is None
        registry.is_away = False
        asyncio.run(keys.look(begin + 2))
        assert keys.of(FIRST_SLOT + 1) == first
        assert "does not know the new key" in str(keys.problem)
        registry.device = second.address
        asyncio.run(keys.look(begin + 3))
        assert keys.of(FIRST_SLOT) == first
        assert keys.of(FIRST_SLOT + 1) == second
        assert keys.problem is None


def test_without_a_node_a_new_key_waits_for_a_person(tmp_path: Path) -> None:
    first = new_key(tmp_path / "key.json", PASSWORD, WORK)
    second = new_key(tmp_path / "second.json", PASSWORD, WORK)
    with Outbox(tmp_path / "outbox.sqlite", METER, SEPARATOR) as outbox:
        keys = Keys(outbox, tmp_path, tmp_path / "key.json", PASSWORD, None)
        period = KeyPeriod(second.address, "second.json", START, confirmed=False)
        outbox.put_key(period)
        asyncio.run(keys.look(START + 1))
        assert keys.of(FIRST_SLOT) == first
        assert "confirm" in str(keys.problem)
        outbox.put_key(KeyPeriod(second.address, "second.json", START, confirmed=True))
        asyncio.run(keys.look(START + 2))
        assert keys.of(FIRST_SLOT) == second
        assert keys.of(FIRST_SLOT - 1) == first
