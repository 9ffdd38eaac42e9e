# SPDX-License-Identifier: Apache-2.0
"""`instructions.sqlite`: members' standing ballot instructions, by the address that signed in.

Beside the member's other own data, for nobody else to read: how somebody means to vote is theirs to
tell. Nothing here is signed, and nothing votes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dao.errors import BadUse
from dashboard.repositories.own_file import OwnFile
from dashboard.services.instructions import MOST_KEPT, Instruction, is_sound
from dashboard.settings import Settings

_TABLES = """
CREATE TABLE IF NOT EXISTS instruction (
    number INTEGER PRIMARY KEY AUTOINCREMENT, account TEXT NOT NULL, key INTEGER NOT NULL,
    most INTEGER NOT NULL, support INTEGER NOT NULL, until INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS instruction_by_account ON instruction (account);
"""


class Instructions:
    """The file of one dashboard."""

    def __init__(self, path: Path) -> None:
        self._file = OwnFile(path, _TABLES, is_private=True)

    def of(self, account: str, now: int) -> tuple[Instruction, ...]:
        """An account's instructions that hold at `now`, the newest first."""
        rows = self._file.ask(
            "SELECT key, most, support, until, number FROM instruction "
            "WHERE account = ? AND until > ? ORDER BY number DESC LIMIT ?",
            (account, now, MOST_KEPT),
        )
        return tuple(Instruction(*row) for row in rows)

    def keep(self, account: str, one: Instruction, now: int) -> None:
        """Add an instruction. BadUse for one that is none, or one too many."""
        if not is_sound(one, now):
            raise BadUse("the instruction is out of bounds")
        with self._file.writing() as db:
            db.execute("DELETE FROM instruction WHERE account = ? AND until <= ?", (account, now))
            (held,) = db.execute(
                "SELECT count(*) FROM instruction WHERE account = ?", (account,)
            ).fetchone()
            if held >= MOST_KEPT:
                raise BadUse(f"there are {MOST_KEPT} instructions already")
            values: Sequence[Any] = (account, one.key, one.most, one.support, one.until)
            db.execute(
                "INSERT INTO instruction (account, key, most, support, until) "
                "VALUES (?, ?, ?, ?, ?)",
                values,
            )

    def forget(self, account: str, number: int) -> None:
        """Delete one of the account's own instructions."""
        with self._file.writing() as db:
            db.execute(
                "DELETE FROM instruction WHERE account = ? AND number = ?", (account, number)
            )


def instructions(settings: Settings) -> Instructions:
    """The dashboard's own file."""
    return Instructions(settings.home / "instructions.sqlite")
