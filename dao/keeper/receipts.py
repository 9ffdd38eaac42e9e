# SPDX-License-Identifier: Apache-2.0
"""The delivery receipts of a session: those at hand and those lodged on chain, and which of them
the contract would take. Read anew each time, as one may come, be lodged, or lose its key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dao.eip712 import address_bytes, compact, expand, recover, word
from dao.errors import BadUse
from dao.keeper.context import Context, Session
from dao.market.orders import market_separator, pack_wh, receipt_digest, unpack_wh
from dao.market.session import DeviceReceipt

_DEVICES_AT_ONCE = 128


@dataclass(frozen=True)
class Contradiction:
    """Two different receipts of one meter for the session that begins with `first_slot`."""

    meter: int
    first_slot: int
    receipts: tuple[DeviceReceipt, DeviceReceipt]

    @property
    def about(self) -> dict[str, int | str]:
        """How a log names it."""
        return {"first_slot": self.first_slot, "meter": self.meter}


def receipt_deadline(context: Context, session: Session) -> int:
    """Until then, unix seconds, a session settles only with every filled seller's receipt."""
    return session.end + context.rule_at("receipt_period", session.state.gate)


@dataclass(frozen=True)
class Receipts:
    """The receipts known for a session, by meter.

    usable: signed by the meter's device, lodged or from the keeper's source, the lodged one first.
    lodged: meters whose receipt is on chain. conflicting: pairs of different ones, lodged and not.
    foreign: meters whose receipt is not of their device, or not of the session's length; one of
    them would stop the settlement of all.
    """

    usable: Mapping[int, DeviceReceipt] = field(default_factory=dict)
    lodged: frozenset[int] = frozenset()
    conflicting: tuple[tuple[DeviceReceipt, DeviceReceipt], ...] = ()
    foreign: tuple[int, ...] = ()


def receipts_of(context: Context, session: Session) -> Receipts:
    """What is known now: a receipt may come, be lodged, or lose its key at any time."""
    source = context.receipts
    known = {} if source is None else dict(source.receipts(session.first_slot))
    own = _of_their_devices(context, session, known)
    lodged = _of_their_devices(context, session, _lodged(context, session))
    return Receipts(
        usable={**own, **lodged},
        lodged=frozenset(lodged),
        conflicting=tuple(
            (lodged[meter], own[meter])
            for meter in sorted(lodged.keys() & own.keys())
            if lodged[meter].exports != own[meter].exports
        ),
        foreign=tuple(sorted(known.keys() - own.keys())),
    )


def _lodged(context: Context, session: Session) -> dict[int, DeviceReceipt]:
    """The receipts on record."""
    auction = context.auction
    topics = [auction.interface.topic("ReceiptLodged"), None, f"0x{session.first_slot:064x}"]
    head = context.chain.block_number()
    found = {}
    for event in context.chain.logs([auction.address], session.opened, head, topics):
        meter, receipt = int(event.args["meter"]), event.args["receipt"]
        found[meter] = DeviceReceipt(
            meter,
            unpack_wh(receipt["exports"], session.state.slots),
            expand(word(receipt["r"]), word(receipt["vs"])),
        )
    return found


def _of_their_devices(
    context: Context, session: Session, receipts: Mapping[int, DeviceReceipt]
) -> dict[int, DeviceReceipt]:
    """Those that the contract would take: of the session's length, signed by the key that was in
    force in the session's last second."""
    registry = context.deployment["MeterRegistry"]
    # What could be no meter would have the registry refuse to answer for all.
    meters = [n for n in sorted(receipts) if 0 < n < 2**32 and receipts[n].meter == n]
    good: dict[int, DeviceReceipt] = {}
    for start in range(0, len(meters), _DEVICES_AT_ONCE):
        part = meters[start : start + _DEVICES_AT_ONCE]
        devices = registry.call("devices_at", part, session.end - 1)
        for meter, device in zip(part, devices, strict=True):
            receipt = receipts[meter]
            if len(receipt.exports) == session.state.slots and is_signed_by(
                context, session.first_slot, receipt, device
            ):
                good[meter] = receipt
    return good


def is_signed_by(context: Context, first_slot: int, receipt: DeviceReceipt, device: str) -> bool:
    """Whether a device signed the receipt for this market; never true of the zero address."""
    separator = market_separator(context.chain.chain_id, context.market.address)
    try:
        digest = receipt_digest(separator, receipt.meter, first_slot, receipt.exports)
        return recover(digest, receipt.signature) == address_bytes(device)
    except (ValueError, BadUse):
        return False


def as_registry_takes(
    first_slot: int, receipt: DeviceReceipt
) -> tuple[int, int, list[int], bytes, bytes]:
    """A receipt as the registry takes it."""
    return (
        first_slot,
        len(receipt.exports),
        pack_wh(receipt.exports),
        *compact(receipt.signature),
    )
