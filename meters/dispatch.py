# SPDX-License-Identifier: Apache-2.0
"""Dispatch: a schedule that a vote put in force, what a device said to it, and what it really did.

Here are the schedule, the report with its signature, and what a driver must offer. Drivers speak to
devices in `gateway.drivers`; `gateway.dispatching` carries a schedule out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from dao import eip712
from dao.errors import BadUse, CheckFailed
from dao.parameters import CHARGE_POINTS, COMMUNITY_BATTERY, HOME_BATTERIES

KEYS: Mapping[str, int] = {
    "community_battery": COMMUNITY_BATTERY,
    "charge_points": CHARGE_POINTS,
    "home_battery": HOME_BATTERIES,
}

NONE = -(1 << 31)
"""In a signed report: no value (nothing acknowledged, or not known what was done)."""
_MOST = (1 << 31) - 1

REPORT_TYPE = (
    b"DispatchReport(uint32 meter,uint64 slot,int32 wanted,int32 acknowledged,int32 doneWh)"
)
REPORT_TYPEHASH = eip712.keccak(REPORT_TYPE)


@dataclass(frozen=True)
class Schedule:
    """Values of a zone's window key for consecutive slots, int64 (slots,).

    `in_force` says where there is a window at all: zero is a value, no window is none.
    """

    zone: int
    key: int
    first_slot: int
    slots: int
    values: np.ndarray
    in_force: np.ndarray

    def __post_init__(self) -> None:
        if self.values.shape != (self.slots,) or self.in_force.shape != (self.slots,):
            raise BadUse("a schedule has one value per slot")

    @staticmethod
    def of(zone: int, key: int, first_slot: int, slots: int, windows: Any) -> Schedule:
        """From windows, each with first_slot, slots and value. What lies outside is left out."""
        values = np.zeros(slots, dtype=np.int64)
        in_force = np.zeros(slots, dtype=bool)
        for window in windows:
            begin = max(window.first_slot - first_slot, 0)
            end = max(window.first_slot + window.slots - first_slot, 0)
            values[begin:end] = window.value
            in_force[begin:end] = True
        return Schedule(zone, key, first_slot, slots, values, in_force)

    def value(self, slot: int) -> int | None:
        """The value in force in a slot, None where there is no window or it lies outside."""
        at = slot - self.first_slot
        if not 0 <= at < self.slots or not self.in_force[at]:
            return None
        return int(self.values[at])


@dataclass(frozen=True)
class Acknowledged:
    """What a device took: when (unix seconds), the value as the device has it, and its words.

    value: in the unit of the schedule's key; None where it refused or did not answer, which
    `detail` says.
    """

    at: float
    value: int | None
    detail: str


class Driver(Protocol):
    """One device, or all charge points of a home, over its own protocol."""

    async def apply(self, slot: int, value: int) -> Acknowledged:
        """Hold a value from now until the slot ends. Called again in a slot to hold it on."""
        ...

    async def release(self) -> Acknowledged:
        """Give the device back to its own programme."""
        ...

    def done(self, slot: int) -> tuple[int, int] | None:
        """Wh that the device took and gave in a slot by its own counters; None if not known."""
        ...

    async def watch(self) -> None:
        """Read the device's counters until cancelled."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """What its counting goes on from after a restart, as JSON."""
        ...

    def close(self) -> None:
        """Give connections back."""
        ...


@dataclass(frozen=True)
class DispatchReport:
    """What was wanted of a device in a slot, what it acknowledged, and what it did.

    meter: the metering point whose device key signs; wanted, acknowledged: in the unit of the key;
    done_wh: import - export of the device in the slot. None is not known. Not signed: device,
    which names the device at the metering point, and detail.
    """

    meter: int
    slot: int
    wanted: int
    acknowledged: int | None
    done_wh: int | None
    device: str = ""
    detail: str = ""
    signature: bytes = b""

    def digest(self, separator: bytes) -> bytes:
        """What is signed; `separator` is that of readings (`signing.reading_separator`)."""
        return eip712.digest(
            separator,
            eip712.keccak(
                REPORT_TYPEHASH
                + eip712.word(self.meter)
                + eip712.word(self.slot)
                + _int32(self.wanted)
                + _int32(self.acknowledged)
                + _int32(self.done_wh)
            ),
        )

    def signed(self, private_key: bytes, separator: bytes) -> DispatchReport:
        """This report with the signature of the meter's device key."""
        signature = eip712.sign_digest(private_key, self.digest(separator))
        return replace(self, signature=signature)

    def verify(self, separator: bytes, device: str | bytes) -> None:
        """Raises CheckFailed unless it is signed by the meter's device key."""
        try:
            signer = eip712.recover(self.digest(separator), self.signature)
        except ValueError:
            signer = b""
        if signer != eip712.address_bytes(device):
            raise CheckFailed(f"the dispatch report of meter {self.meter} is not by its device")

    def to_json(self) -> dict[str, Any]:
        """As it is sent: null for what is not known."""
        return {
            "meter": self.meter,
            "slot": self.slot,
            "wanted": self.wanted,
            "acknowledged": self.acknowledged,
            "done_wh": self.done_wh,
            "device": self.device,
            "detail": self.detail,
            "signature": "0x" + self.signature.hex(),
        }

    @staticmethod
    def from_json(document: object) -> DispatchReport:
        """The inverse of `to_json`, of a parsed document. BadUse for anything else."""
        if not isinstance(document, Mapping):
            raise BadUse("a dispatch report is a JSON object")
        signature = document.get("signature")
        try:
            raw = bytes.fromhex(str(signature).removeprefix("0x"))
        except ValueError:
            raw = b""
        if len(raw) != 65:
            raise BadUse("dispatch report: signature is not 65 bytes as 0x text")
        known = {
            name: None if document.get(name) is None else _whole(document, name, NONE + 1, _MOST)
            for name in ("acknowledged", "done_wh")
        }
        return DispatchReport(
            meter=_whole(document, "meter", 1, 2**32 - 1),
            slot=_whole(document, "slot", 0, 2**63 - 1),
            wanted=_whole(document, "wanted", NONE + 1, _MOST),
            acknowledged=known["acknowledged"],
            done_wh=known["done_wh"],
            device=str(document.get("device", ""))[:200],
            detail=str(document.get("detail", ""))[:200],
            signature=raw,
        )


def _whole(document: Mapping[str, Any], name: str, lowest: int, highest: int) -> int:
    value = document.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise BadUse(f"dispatch report: {name} is not a whole number, {lowest}..{highest}")
    return value


def _int32(value: int | None) -> bytes:
    """A signed number as an ABI word; None as NONE."""
    number = NONE if value is None else value
    if not NONE <= number <= _MOST:
        raise BadUse(f"dispatch report: {value} does not fit into 32 bits")
    return eip712.word(number % (1 << 256))
