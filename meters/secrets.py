# SPDX-License-Identifier: Apache-2.0
"""The secrets behind the salts: one per home and UTC month, kept so that one can be destroyed.

What is made of them, salts and leaves, is in `leaves.py`. `SecretStore` is the keeper of a real
zone; `DerivedSecrets` follow from one root, so they can be made anew and never be erased: for tests
and benchmarks.
"""

from __future__ import annotations

import hmac
import os
import secrets as randomness
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from dao.errors import CheckFailed
from dao.paths import ensure_parent
from dao.sqlite import transaction

SECRET_BYTES = 32
_BUSY_TIMEOUT_S = 30.0

_TABLES = """
CREATE TABLE IF NOT EXISTS month_secret (
    month INTEGER NOT NULL, meter INTEGER NOT NULL, secret BLOB,
    PRIMARY KEY (month, meter)
) WITHOUT ROWID;
"""

Pair = tuple[int, int]
"""Meter and month."""


class MonthSecrets(Protocol):
    """Who keeps the homes' secrets. `month` counts from January 1970, UTC (`leaves.month_of`)."""

    def month_secret(self, meter: int, month: int) -> bytes:
        """32 bytes that only this home's keeper knows."""
        ...


class ErasedSecret(CheckFailed):
    """The secret of this home and month was erased: nothing of that month can be opened."""


class DerivedSecrets:
    """Month secrets derived from one master secret per home.

    They can be handed out month by month without opening another month. As long as a master is
    kept its months can be derived again, so nothing can be erased; `SecretStore` can.
    """

    def __init__(self, root: bytes) -> None:
        if len(root) < 16:
            raise ValueError("a root secret has at least 16 bytes")
        self._root = root

    def master(self, meter: int) -> bytes:
        """The master secret of one home, 32 bytes."""
        return hmac.digest(self._root, b"gridcommons home" + meter.to_bytes(4, "big"), "sha256")

    def month_secret(self, meter: int, month: int) -> bytes:
        return month_secret(self.master(meter), month)


def month_secret(master: bytes, month: int) -> bytes:
    """The secret of a UTC month of the home with this master secret: HMAC-SHA256, 32 bytes."""
    return hmac.digest(master, b"gridcommons month" + month.to_bytes(4, "big"), "sha256")


def month_name(month: int) -> str:
    """A month counted from January 1970 as people write it: 556 is 2016-05."""
    return f"{1970 + month // 12:04d}-{month % 12 + 1:02d}"


def secrets_of(keeper: MonthSecrets, pairs: Iterable[Pair]) -> dict[Pair, bytes]:
    """The secrets of many homes and months, at once where the keeper can."""
    if isinstance(keeper, SecretStore):
        return keeper.month_secrets(pairs)
    return {pair: keeper.month_secret(*pair) for pair in pairs}


class SecretStore:
    """Random secrets in one SQLite file, readable by its owner only.

    A secret is made when it is first asked for, and on disk before it is given out. An erased one
    leaves a mark without content: it is never made anew, because a new one would open nothing and
    hide that the old one is gone. Nothing is kept in memory, so an erasure by another process holds
    at once. One object serves any number of threads; several processes may share the file.

    make: whether the file and secrets that are not there yet are made, else CheckFailed. source:
    where new secrets come from instead of chance; whoever has the source can make them again, so
    it is for demonstrations.
    """

    def __init__(
        self, path: Path, *, make: bool = True, source: MonthSecrets | None = None
    ) -> None:
        self.path = Path(path)
        self._make = make
        self._source = source
        self._turn = threading.RLock()
        if make:
            ensure_parent(self.path)
        elif not self.path.is_file():
            raise CheckFailed(f"there is no store of secrets at {self.path}")
        try:
            # Before SQLite makes it: a file that is closed up later was open for a moment.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            self.path.chmod(0o600)
            self._db = sqlite3.connect(
                self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA secure_delete = ON")
            # No WAL: its file would hold secrets after they were erased.
            self._db.execute("PRAGMA journal_mode = TRUNCATE")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_TABLES)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            self._db.close()

    def __enter__(self) -> SecretStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def month_secret(self, meter: int, month: int) -> bytes:
        """The secret of a home and month, made on first use. ErasedSecret where it is gone."""
        return self.month_secrets([(meter, month)])[meter, month]

    def month_secrets(self, pairs: Iterable[Pair]) -> dict[Pair, bytes]:
        """The secrets of many homes and months; those not there yet are made in one transaction.

        ErasedSecret where one of them is gone; none is made then.
        """
        wanted = set(pairs)
        with self._turn:
            found = self._find(wanted)
            absent = sorted(wanted - found.keys())
            if absent and not self._make:
                _refuse_erased(found)
                meter, month = absent[0]
                raise CheckFailed(
                    f"{self.path} has no secret of meter {meter} for {month_name(month)}"
                )
            if absent:
                with self._transaction():
                    # Another process may have made one meanwhile: the first one stands.
                    found.update(self._find(set(absent)))
                    _refuse_erased(found)
                    made = {pair: self._new(pair) for pair in absent if pair not in found}
                    self._db.executemany(
                        "INSERT INTO month_secret (meter, month, secret) VALUES (?, ?, ?)",
                        ((*pair, secret) for pair, secret in made.items()),
                    )
                found.update(made)
        return _refuse_erased(found)

    def erase(self, meter: int, month: int) -> None:
        """Destroy the secret of a home and month; what stays says only that it is gone.

        Without effect the second time. A month that never had a secret gets the mark too.
        """
        with self._turn, self._transaction():
            self._db.execute(
                "INSERT INTO month_secret (meter, month, secret) VALUES (?, ?, NULL) "
                "ON CONFLICT DO UPDATE SET secret = NULL",
                (meter, month),
            )

    def _new(self, pair: Pair) -> bytes:
        if self._source is None:
            return randomness.token_bytes(SECRET_BYTES)
        return self._source.month_secret(*pair)

    def _find(self, wanted: set[Pair]) -> dict[Pair, bytes | None]:
        """What the file has of these: the secret, or None where it was erased."""
        found: dict[Pair, bytes | None] = {}
        meters_of: dict[int, list[int]] = {}
        for meter, month in wanted:
            meters_of.setdefault(month, []).append(meter)
        try:
            for month, meters in meters_of.items():
                rows = self._db.execute(
                    "SELECT meter, secret FROM month_secret "
                    "WHERE month = ? AND meter BETWEEN ? AND ?",
                    (month, min(meters), max(meters)),
                )
                for meter, secret in rows:
                    if (meter, month) in wanted:
                        found[meter, month] = secret
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        return found

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """What happens inside is on disk whole or not at all."""
        try:
            with transaction(self._db):
                yield
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> CheckFailed:
        return CheckFailed(f"cannot use the store of secrets {self.path}: {error}")


def _refuse_erased(found: Mapping[Pair, bytes | None]) -> dict[Pair, bytes]:
    kept: dict[Pair, bytes] = {}
    for (meter, month), secret in found.items():
        if secret is None:
            raise ErasedSecret(
                f"the secret of meter {meter} for {month_name(month)} was erased: what it hid "
                "cannot be opened any more"
            )
        kept[meter, month] = secret
    return kept
