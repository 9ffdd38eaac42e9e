# SPDX-License-Identifier: Apache-2.0
"""A local chain: one anvil process, started here and ended here.

The binary comes from the pinned npm package that `make setup` installs. Rules are Osaka's,
the cap of 16,777,216 gas per transaction (EIP-7825) included.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any, Self

from dao.errors import BadUse, CheckFailed
from dao.processes import LOOPBACK, ChildServer, free_port, port_is_free

CHAIN_ID = 31337
"""What wallets and tools know as a local development chain."""

BLOCK_GAS_LIMIT = 60_000_000
"""Mainnet's limit at the time of writing."""

TRANSACTION_GAS_LIMIT = 16_777_216
"""EIP-7825: the most gas one transaction may hold."""

MNEMONIC = "test test test test test test test test test test test junk"
"""The publicly known words of every local development chain. Never put value on them."""

# States of past blocks that the node keeps. A failed transaction is explained by replaying it on
# the state before it; older states only cost memory.
_KEPT_STATES = 64

_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def checkout_root() -> Path:
    """The folder that holds `contracts/`, `dao/` and `node_modules/`."""
    return Path(__file__).resolve().parent.parent


def anvil_binary() -> Path:
    """Where the anvil binary lies. Raises BadUse when there is none."""
    architecture = _ARCHITECTURES.get(platform.machine().lower(), platform.machine().lower())
    package = f"anvil-{platform.system().lower()}-{architecture}"
    pinned = checkout_root() / "node_modules" / "@foundry-rs" / package / "bin" / "anvil"
    if pinned.is_file() and os.access(pinned, os.X_OK):
        return pinned
    if found := shutil.which("anvil"):
        return Path(found)
    raise BadUse("the local chain's program, anvil, is not installed; run `make setup`")


class AnvilNode(ChildServer):
    """One anvil process as a context manager: running inside the `with`, gone after it.

    `timestamp` is the genesis block's time in unix seconds; `port` None picks a free one, and a
    taken one raises CheckFailed with its name.
    """

    title = "the local chain"

    def __init__(
        self,
        *,
        port: int | None = None,
        timestamp: int | None = None,
        accounts: int = 10,
        prune_history: bool = True,
    ) -> None:
        super().__init__()
        if port is not None and not 1 <= port <= 65_535:
            raise BadUse(f"port {port} does not exist; ports are 1 to 65535")
        if timestamp is not None and timestamp < 0:
            raise BadUse(f"the chain cannot start at {timestamp}, before 1970")
        self._wanted_port = port
        self._timestamp = timestamp
        self._accounts = accounts
        self._prune_history = prune_history

    @property
    def url(self) -> str:
        """The node's JSON-RPC address."""
        return f"http://{LOOPBACK}:{self.port}"

    def start(self, patience: float = 20.0) -> Self:
        """Start the process and wait until it answers. Does nothing while it runs.

        Raises BadUse without a binary, CheckFailed on a taken port or when nothing answers
        within `patience` seconds.
        """
        if self.is_running:
            return self
        binary = anvil_binary()
        if self._wanted_port is not None and not port_is_free(self._wanted_port):
            raise CheckFailed(
                f"port {self._wanted_port} is taken by another process; "
                "end that one, or name another port"
            )
        # Between finding a free port and anvil's binding it, somebody else may take it: retry.
        attempts = 1 if self._wanted_port is not None else 3
        for left in reversed(range(attempts)):
            self.port = self._wanted_port if self._wanted_port is not None else free_port()
            try:
                self._launch(self._command(binary), self._answers, patience)
                return self
            except CheckFailed:
                if not left:
                    raise
        raise CheckFailed("the local chain did not start")

    def _command(self, binary: Path) -> list[str]:
        command = [str(binary), "--silent", "--hardfork", "osaka", "--enable-tx-gas-limit"]
        command += ["--host", LOOPBACK, "--port", str(self.port), "--chain-id", str(CHAIN_ID)]
        command += ["--gas-limit", str(BLOCK_GAS_LIMIT), "--mnemonic", MNEMONIC]
        command += ["--accounts", str(self._accounts), "--no-cors"]
        if self._timestamp is not None:
            command += ["--timestamp", str(self._timestamp)]
        if self._prune_history:
            command += ["--prune-history", str(_KEPT_STATES)]
        return command

    def _answers(self) -> bool:
        return int(str(self._ask("eth_chainId")), 16) == CHAIN_ID

    def _ask(self, method: str) -> Any:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=2)
        try:
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": []})
            connection.request("POST", "/", body, {"Content-Type": "application/json"})
            return json.loads(connection.getresponse().read()).get("result")
        finally:
            connection.close()


class ForkNode(AnvilNode):
    """A node that goes on from another one's state at `block`; nothing done here reaches that one.

    It asks `source` for every word of state that it needs, so that node must still have the block's
    state. The chain keeps its id.
    """

    title = "the fork of the chain"

    def __init__(self, source: str, block: int) -> None:
        super().__init__(prune_history=False)
        self._source = source
        self._block = block

    def _command(self, binary: Path) -> list[str]:
        command = [str(binary), "--silent", "--hardfork", "osaka", "--enable-tx-gas-limit"]
        command += ["--host", LOOPBACK, "--port", str(self.port), "--no-cors"]
        command += ["--gas-limit", str(BLOCK_GAS_LIMIT), "--mnemonic", MNEMONIC]
        return [*command, "--fork-url", self._source, "--fork-block-number", str(self._block)]

    def _answers(self) -> bool:
        return int(str(self._ask("eth_blockNumber")), 16) == self._block
