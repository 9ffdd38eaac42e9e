# SPDX-License-Identifier: Apache-2.0
"""A zone of homes on a real node: its contracts, and the state folder of its collector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dao.chain import Chain, Contract
from dao.node import Addresses, Node
from dao.parameters import rules_from
from meters.secrets import SecretStore
from meters.signing import reading_separator
from tests.meters.batch_rows import fleet


@dataclass(frozen=True)
class OnNode:
    """The node, the contracts' addresses, and the folder with lake, secrets and inbox."""

    chain: Chain
    addresses: Addresses
    folder: Path

    @property
    def node(self) -> Node:
        return Node(self.chain.url)

    @property
    def separator(self) -> bytes:
        return reading_separator(self.addresses.chain_id, self.addresses["MeterRegistry"])

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    def secrets(self) -> SecretStore:
        return SecretStore(self.folder / "secrets.sqlite", make=False)


def deploy(chain: Chain, zone: int, owners: Sequence[str]) -> tuple[Contract, Contract]:
    """Registry and ledger of a zone, a home for each owner with a device of `fleet`.

    The node's second account is the registrar, its third collects.
    """
    registrar, collecting = chain.accounts[1:3]
    parameters = chain.deploy("GridParameters")
    parameters.transact("define_batch", [rule.as_tuple() for rule in rules_from({})])
    registry = chain.deploy("MeterRegistry", registrar.address)
    ledger = chain.deploy("ReadingLedger", parameters.address)
    ledger.transact("set_collector", zone, collecting.address)
    devices = ["0x" + device.hex() for device in fleet(len(owners)).devices.values()]
    registry.transact("register_batch", list(owners), devices, zone, sender=registrar)
    return registry, ledger


def addresses_of(registry: Contract, ledger: Contract) -> Addresses:
    return Addresses(
        registry.chain.chain_id,
        {"MeterRegistry": registry.address, "ReadingLedger": ledger.address},
    )
