# SPDX-License-Identifier: Apache-2.0
"""The compiled contracts: ABI and byte code by name, compiled through Ape once per source state.

The result is kept in `.build/` under a digest of every source and the compiler's version, so a
changed module or interface recompiles all that may use it, and an unchanged tree starts at once
without importing Ape.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dao.abi import Interface
from dao.anvil import checkout_root
from dao.errors import BadUse, CheckFailed
from dao.paths import home

RUNTIME_SIZE_LIMIT = 24_576
"""EIP-170: bytes of code a contract may have."""


@dataclass(frozen=True)
class Artifact:
    """One compiled contract: `bytecode` creates it, `runtime` is what then lies on chain."""

    name: str
    abi: tuple[Mapping[str, Any], ...]
    bytecode: bytes
    runtime: bytes

    @cached_property
    def interface(self) -> Interface:
        """The ABI, ready to encode and decode."""
        return Interface(self.name, self.abi)


def prepare_ape(data_folder: Path | None = None) -> None:
    """Set the process up for importing Ape: quiet, and able to find the Vyper beside Python.

    `data_folder` is where Ape keeps its own state; None leaves Ape's choice (`~/.ape`).
    """
    binaries = str(Path(sys.prefix) / "bin")
    if binaries not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([binaries, os.environ.get("PATH", "")])
    if data_folder is not None:
        data_folder.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("APE_DATA_FOLDER", str(data_folder))
        # vvm, which ape-vyper asks for the compiler, wants a folder even when it fetches nothing.
        compilers = data_folder / "vvm"
        compilers.mkdir(exist_ok=True)
        os.environ.setdefault("VVM_BINARY_PATH", str(compilers))
    warnings.filterwarnings("ignore", message="Field 'import_remapping'")
    from ape.logging import logger

    logger.set_level("ERROR")


def load_artifacts(
    folder: Path | None = None, notify: Callable[[str], None] | None = None
) -> dict[str, Artifact]:
    """Every deployable contract by name, compiled when the sources changed.

    `folder` is a checkout (this one when None); `notify` hears that a compilation begins, which
    takes about 20 seconds. Raises BadUse without contracts, CheckFailed when they do not compile.
    """
    root = folder or checkout_root()
    digest = sources_digest(root / "contracts")
    store = root / ".build" / "artifacts.json"
    if (kept := _read(store, digest)) is not None:
        return kept
    if notify is not None:
        notify("Compiling the contracts (once, about 20 s) ...")
    store.parent.mkdir(parents=True, exist_ok=True)
    with store.with_suffix(".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # who comes second waits for the first one's work
        if (kept := _read(store, digest)) is not None:
            return kept
        compiled = _compile(root)
        _write(store, digest, compiled)
    return compiled


def compiled_artifacts(folder: Path | None = None) -> dict[str, Artifact] | None:
    """As `load_artifacts`, but None where the contracts are not compiled as they stand: for who
    cannot wait for a compiler."""
    root = folder or checkout_root()
    return _read(root / ".build" / "artifacts.json", sources_digest(root / "contracts"))


def sources_digest(contracts: Path) -> str:
    """What changes with every source under `contracts`, and with what compiles them."""
    sources = sorted(path for path in contracts.rglob("*") if path.suffix in (".vy", ".vyi"))
    if not sources:
        raise BadUse(f"no contracts in {contracts}; run from a checkout of GridCommons")
    digest = hashlib.sha256()
    for package in ("vyper", "snekmate"):
        digest.update(f"{package} {importlib.metadata.version(package)}\n".encode())
    digest.update((contracts.parent / "ape-config.yaml").read_bytes())
    for path in sources:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(contracts).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _compile(root: Path) -> dict[str, Artifact]:
    prepare_ape(home() / "ape")
    import ape
    from ape.exceptions import ApeException

    # Ape writes what it compiled into a manifest of 13 MB, and would read all of it whenever it is
    # imported in the checkout: it gets a place for that which goes with the compilation.
    with tempfile.TemporaryDirectory() as folder:
        try:
            project = ape.Project(root, manifest_path=Path(folder) / "__local__.json")
            types = project.load_contracts(use_cache=False)
        except ApeException as error:
            raise CheckFailed(f"the contracts do not compile: {error}") from error
    found: dict[str, Artifact] = {}
    for name, kind in types.items():
        data = kind.model_dump(mode="json", by_alias=True)
        code = bytes.fromhex(data["deploymentBytecode"]["bytecode"].removeprefix("0x"))
        if not code:
            continue  # an interface
        found[name] = Artifact(
            name=name,
            abi=tuple(data["abi"]),
            bytecode=code,
            runtime=bytes.fromhex(data["runtimeBytecode"]["bytecode"].removeprefix("0x")),
        )
    return found


def _read(store: Path, digest: str) -> dict[str, Artifact] | None:
    try:
        kept = json.loads(store.read_text())
        if kept["digest"] != digest:
            return None
        return {
            name: Artifact(
                name=name,
                abi=tuple(one["abi"]),
                bytecode=bytes.fromhex(one["bytecode"]),
                runtime=bytes.fromhex(one["runtime"]),
            )
            for name, one in kept["contracts"].items()
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a copy that can be made again


def _write(store: Path, digest: str, artifacts: Mapping[str, Artifact]) -> None:
    contracts = {
        one.name: {"abi": one.abi, "bytecode": one.bytecode.hex(), "runtime": one.runtime.hex()}
        for one in artifacts.values()
    }
    with tempfile.NamedTemporaryFile(
        "w", dir=store.parent, prefix=store.name, suffix=".tmp", delete=False
    ) as part:
        json.dump({"digest": digest, "contracts": contracts}, part)
    Path(part.name).replace(store)
