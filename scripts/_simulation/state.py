# SPDX-License-Identifier: Apache-2.0
"""The demo's claim on the state folder: one run at a time, and never over anyone's real data."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dao.errors import BadUse, CheckFailed
from dao.paths import (
    agent_keys_dir,
    deployment_path,
    ensure_parent,
    erasures_dir,
    grants_path,
    home,
    inbox_path,
    index_path,
    lake_dir,
    offers_path,
    run_state_path,
    secrets_path,
)

_MARK = "demo.json"
_LOCK = "demo.lock"


@contextmanager
def claim() -> Iterator[Path]:
    """Take the state folder for a run and clear the last run's state out of it.

    Raises CheckFailed while another run holds it, BadUse where the folder holds state that no demo
    wrote: a demo must never replace an operator's readings.
    """
    folder = home()
    try:
        lock = ensure_parent(folder / _LOCK).open("w")
    except OSError as error:
        raise BadUse(f"cannot use {folder} for state: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CheckFailed(
                f"another demo runs in {folder}; end it, or set GRIDCOMMONS_HOME to another folder"
            ) from None
        mark = folder / _MARK
        if not mark.exists() and any(p.exists() for p in _state()):
            raise BadUse(
                f"{folder} holds state that is not the demo's; set GRIDCOMMONS_HOME to a folder "
                "for the demo"
            )
        for path in _state():
            _remove(path)
        mark.write_text(json.dumps({"pid": os.getpid()}) + "\n")
        yield folder


def _state() -> list[Path]:
    databases = [
        path.with_name(path.name + ending)
        for path in (
            inbox_path(),
            index_path(),
            secrets_path(),
            grants_path(),
            home() / "relay.sqlite",
            offers_path(),
        )
        for ending in ("", "-wal", "-shm")
    ]
    return [
        lake_dir(),
        erasures_dir(),
        home() / "evidence",
        home() / "battery",
        home() / "logs.jsonl",
        *home().glob("dossier-zone-*.zip"),
        home() / "relay.lock",
        agent_keys_dir(),
        home() / "agent.json",
        deployment_path(),
        run_state_path(),
        *databases,
    ]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
