# SPDX-License-Identifier: Apache-2.0
"""Questions to any node over JSON-RPC: no Ape, no compiler, no account, no trace on the node.

For commands that only look something up and must start fast on a fresh install; everything that
sends or follows events goes through `chain.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dao.eip712 import address_bytes, checksum_address, keccak, word
from dao.errors import BadUse, CheckFailed
from dao.rpc import PATIENCE_S, Refused, Rpc

# What a view here answers is a few words; more is another service.
_MAX_ANSWER = 1 << 20
_ERC1271 = bytes.fromhex("1626ba7e")


@dataclass(frozen=True)
class Addresses:
    """Where a deployment's contracts lie, and on which chain."""

    chain_id: int
    contracts: dict[str, str]

    def __getitem__(self, name: str) -> str:
        try:
            return self.contracts[name]
        except KeyError:
            raise BadUse(f"the deployment names no {name}") from None


def read_addresses(path: Path) -> Addresses:
    """A deployment file as `deployment.write` wrote it. BadUse for anything else."""
    try:
        document = json.loads(path.read_text())
        contracts = {
            str(name): checksum_address(address) for name, address in document["contracts"].items()
        }
        return Addresses(int(document["chain_id"]), contracts)
    except OSError as error:
        raise BadUse(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadUse(f"{path} is not a deployment file") from None


class Node:
    """A node at a URL. Raises CheckFailed where it does not answer or refuses.

    shown, patience_s: see `Rpc`.
    """

    def __init__(
        self, url: str, *, shown: str | None = None, patience_s: float = PATIENCE_S
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise BadUse(f"--rpc {url}: expected the URL of a node, http://... or https://...")
        self._rpc = Rpc(url, shown=shown, patience_s=patience_s, most_bytes=_MAX_ANSWER)

    def close(self) -> None:
        """Give the connection back."""
        self._rpc.close()

    @property
    def chain_id(self) -> int:
        return self._number(self._rpc.call("eth_chainId"))

    def now(self) -> int:
        """The latest block's time, unix seconds."""
        block = self._rpc.call("eth_getBlockByNumber", "latest", False)
        return self._number(block.get("timestamp") if isinstance(block, dict) else None)

    def has_code(self, address: str) -> bool:
        """Whether there is a contract at the address."""
        return self._rpc.call("eth_getCode", address, "latest") not in ("0x", None)

    def view(
        self, contract: str, signature: str, *numbers: int, block: int | None = None
    ) -> list[int]:
        """The words that a view answers to whole numbers, as `metering_point(uint256)`.

        block: as of then, which a node knows of recent blocks at least; None: of the latest.

        CheckFailed where there is no contract at the address, or it refuses.
        """
        data = keccak(signature.encode())[:4] + b"".join(word(number) for number in numbers)
        raw = self._call(contract, data, "latest" if block is None else hex(block))
        if not raw or len(raw) % 32:
            name = signature.partition("(")[0]
            raise CheckFailed(f"{contract} on {self._rpc.shown} does not answer {name}")
        return [int.from_bytes(raw[at : at + 32], "big") for at in range(0, len(raw), 32)]

    def device_at(self, registry: str, meter: int, moment: int) -> bytes:
        """The 20 bytes of the device key that a MeterRegistry has for a meter at a unix second,
        zeros for none."""
        held = self.view(registry, "device_at(uint256,uint256)", meter, moment)
        if len(held) != 1 or held[0] >> 160:
            raise CheckFailed(f"{registry} on {self._rpc.shown} is no registry of meters")
        return held[0].to_bytes(20, "big")

    def vouches(self, wallet: str, digest: bytes, signature: bytes) -> bool:
        """Whether a contract wallet takes a signature for its own (ERC-1271)."""
        head = keccak(b"isValidSignature(bytes32,bytes)")[:4]
        padded = signature + bytes(-len(signature) % 32)
        try:
            raw = self._call(wallet, head + digest + word(64) + word(len(signature)) + padded)
        except Refused:
            return False
        return raw[:4] == _ERC1271 and len(raw) == 32

    def ask(self, method: str, *params: Any) -> Any:
        """Any question of JSON-RPC; its result as the node gives it."""
        return self._rpc.call(method, *params)

    def _call(self, contract: str, data: bytes, block: str = "latest") -> bytes:
        request = {"to": checksum_address(address_bytes(contract)), "data": "0x" + data.hex()}
        answer = self._rpc.call("eth_call", request, block)
        try:
            return bytes.fromhex(str(answer).removeprefix("0x"))
        except ValueError:
            raise self._rpc.no_node() from None

    def _number(self, text: Any) -> int:
        try:
            return int(text, 16)
        except (TypeError, ValueError):
            raise self._rpc.no_node() from None
