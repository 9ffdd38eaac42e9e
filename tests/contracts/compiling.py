# SPDX-License-Identifier: Apache-2.0
"""The contracts compiled for titanoboa, each once per state of the sources.

titanoboa parses and analyses a contract anew in every process, whatever it has kept. Here the
finished work is kept in `.build/`, under the digest by which dao.artifacts knows the sources.
"""

from __future__ import annotations

import gc
import importlib.metadata
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import boa
from boa.contracts.vyper.vyper_contract import VyperDeployer

from dao.artifacts import sources_digest
from tests.kept import BUILD, alone

CONTRACTS = Path(__file__).parents[2] / "contracts"
STORE = BUILD / "titanoboa"


@cache
def compiled(name: str) -> Any:
    """A contract's deployer; of several processes one compiles, the others wait for it."""
    source = CONTRACTS / f"{name}.vy"
    kept = STORE / f"{name}.pickle"
    with _uncollected(), alone(f"titanoboa-{name}"):
        data = _read(kept, _state(source))
        if data is None:
            data = boa.load_partial(str(source)).compiler_data
            _write(kept, _state(source), data)
    return VyperDeployer(data, filename=str(source))


@cache
def _state(source: Path) -> bytes:
    """Changes with every contract, with the tools, and where the source lies elsewhere."""
    tools = [f"{one} {importlib.metadata.version(one)}" for one in ("titanoboa", "vyper")]
    parts = [sources_digest(CONTRACTS), str(source), sys.version, *tools]
    return sha256("\n".join(parts).encode()).digest()


def _read(kept: Path, state: bytes) -> Any:
    try:
        content = kept.read_bytes()
    except OSError:
        return None
    # What another Python or compiler left behind is never unpickled.
    return pickle.loads(content[len(state) :]) if content.startswith(state) else None


def _write(kept: Path, state: bytes, data: Any) -> None:
    kept.parent.mkdir(exist_ok=True)
    part = kept.with_suffix(".part")
    part.write_bytes(state + pickle.dumps(data))
    part.replace(kept)


@contextmanager
def _uncollected() -> Iterator[None]:
    """A contract is half a million objects that stay to the end: the garbage collector, which
    would look through all of them again and again, is told to leave them alone."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if running:
            gc.enable()
