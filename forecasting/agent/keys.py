# SPDX-License-Identifier: Apache-2.0
"""The agent's key for each account, made when it is first asked for: an encrypted keystore each.

A key can do what the owner's mandate for it allows, and nothing else. The page asks for addresses,
the agent for keys; both run on the operator's machine.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from dao import eip712
from dao.errors import BadUse, CheckFailed
from dao.paths import agent_keys_dir
from meters.signing import CURVE_ORDER

PASSWORD_FILE_VARIABLE = "GRIDCOMMONS_AGENT_PASSWORD_FILE"

# scrypt's cost. A password of our own has 256 random bits, which no work makes any safer.
_WORK_RANDOM, _WORK_CHOSEN = 1 << 12, 1 << 18
_KEYSTORE = re.compile(r"[1-9][0-9]{0,9}\.json", re.ASCII)


class AgentKeys:
    """The keys of a folder.

    The password is the first line of the file that GRIDCOMMONS_AGENT_PASSWORD_FILE names; without
    one it is made at random and lies beside the keys.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or agent_keys_dir()
        self._opened: dict[int, bytes] = {}

    def address(self, account: int) -> str:
        """The address that an owner grants the mandate to; its key is made if there is none."""
        file = self._file(account)
        if not file.exists():
            self._make(file)
        try:
            return eip712.checksum_address(json.loads(file.read_bytes())["address"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckFailed(f"{file} is not a keystore: {error}") from None

    def key(self, account: int) -> bytes:
        """The private key, 32 bytes. CheckFailed where there is none, or the password is wrong."""
        if account not in self._opened:
            from eth_keyfile import decode_keyfile_json

            file = self._file(account)
            password, _ = self._password()
            try:
                document = json.loads(file.read_bytes())
                self._opened[account] = bytes(decode_keyfile_json(document, password))
            except FileNotFoundError:
                raise CheckFailed(f"there is no agent key for account {account}") from None
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise CheckFailed(f"cannot open {file}: {error}") from None
        return self._opened[account]

    def has(self, account: int) -> bool:
        """Whether there is a key for the account."""
        return self._file(account).exists()

    def _file(self, account: int) -> Path:
        name = f"{account}.json"
        if isinstance(account, bool) or not isinstance(account, int) or not _KEYSTORE.match(name):
            raise BadUse(f"account {account!r}: not the number of an account")
        return self.folder / name

    def _make(self, file: Path) -> None:
        from eth_keyfile import create_keyfile_json

        password, work = self._password()
        private = bytes(32)
        while not 0 < int.from_bytes(private, "big") < CURVE_ORDER:
            private = secrets.token_bytes(32)
        document = create_keyfile_json(private, password, kdf="scrypt", iterations=work)
        _write_once(file, json.dumps(document).encode())

    def _password(self) -> tuple[str, int]:
        named = os.environ.get(PASSWORD_FILE_VARIABLE, "").strip()
        file = Path(named) if named else self.folder / "password"
        if not named and not file.exists():
            _write_once(file, secrets.token_hex(32).encode())
        try:
            mode, text = file.stat().st_mode, file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadUse(f"cannot read the password file {file}: {error}") from None
        if mode & 0o077:
            raise BadUse(f"the password file {file} can be read by others: chmod 600 it")
        password = text.split("\n", 1)[0].rstrip("\r")
        if not password:
            raise BadUse(f"the password file {file} is empty")
        return password, _WORK_CHOSEN if named else _WORK_RANDOM


def _write_once(file: Path, data: bytes) -> None:
    """A file that only its owner reads, whole and on disk, or what somebody else made of it a
    moment before: page and agent may both be first."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as out:  # mkstemp gives 0600
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            with suppress(FileExistsError):
                os.link(part, file)
        finally:
            Path(part).unlink(missing_ok=True)
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise CheckFailed(f"cannot write {file}: {error.strerror}") from None


def agent_address(account: int) -> str:
    """The address that the owner of an account grants a mandate to, so that its offers are
    followed."""
    return AgentKeys().address(account)
