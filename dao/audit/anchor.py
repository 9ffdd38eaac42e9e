# SPDX-License-Identifier: Apache-2.0
"""`DossierAnchor`: what stands on chain about a dossier, and how a root gets there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dao.audit.package import Manifest
from dao.audit.remote import Remote
from dao.eip712 import checksum_address
from dao.errors import CheckFailed

if TYPE_CHECKING:
    from dao.chain import Account, Contract, Receipt

_NONE = "0x" + "00" * 32


@dataclass(frozen=True)
class Anchored:
    """A root on chain; `corrects` and `corrected_by` are None where there is none."""

    zone: int
    first_slot: int
    slots: int
    publisher: str
    published_at: int
    corrects: str | None
    corrected_by: str | None


def anchored(remote: Remote, contract: str, root: str) -> Anchored | None:
    """What was published under a root; None where nothing was."""
    ((zone, first_slot, slots, publisher, published_at, corrects, corrected_by),) = remote.views(
        [(contract, "dossier(bytes32)", [int(root, 16)])]
    )
    if not slots:
        return None
    return Anchored(
        zone,
        first_slot,
        slots,
        checksum_address(publisher.to_bytes(20, "big")),
        published_at,
        _root(corrects),
        _root(corrected_by),
    )


def latest(remote: Remote, contract: str, zone: int, first_slot: int, slots: int) -> str | None:
    """The newest root of a period; None where there is none."""
    ((found,),) = remote.views(
        [(contract, "latest(uint256,uint256,uint256)", [zone, first_slot, slots])]
    )
    return _root(found)


def _root(value: int) -> str | None:
    return f"0x{value:064x}" if value else None


def publish(contract: Contract, manifest: Manifest, collector: Account) -> Receipt | None:
    """Put a dossier's root on record as the zone's collector; None where it stands there already.

    CheckFailed where the period has another dossier that this one does not correct.
    """
    period, root = manifest.scope.period, bytes.fromhex(manifest.root[2:])
    if contract.call("dossier", root)["slots"]:
        return None
    stands = (
        "0x" + bytes(contract.call("latest", period.zone, period.first_slot, period.slots)).hex()
    )
    named = manifest.scope.corrects or _NONE
    if stands != named:
        raise CheckFailed(
            f"for this period the dossier {stands} is published; name it with --corrects"
            if stands != _NONE
            else f"the dossier that this one corrects, {named}, was never published"
        )
    return contract.transact(
        "publish",
        period.zone,
        period.first_slot,
        period.slots,
        root,
        bytes.fromhex(named[2:]),
        sender=collector,
    )
