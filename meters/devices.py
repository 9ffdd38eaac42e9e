# SPDX-License-Identifier: Apache-2.0
"""Simulated devices: a gateway per home that signs what its meter shows, and the zone's battery.

Gateways play demonstration data (`profiles.SOURCE`); their keys come from the run's seed, so they
protect nothing and must never stand for a real meter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from dao import eip712
from dao.errors import BadUse
from dao.market.orders import receipt_digest
from dao.slots import SLOT_SECONDS
from meters.profiles import ZoneProfiles
from meters.readings import Readings
from meters.signing import CURVE_ORDER, Head, sign_chain, sign_chains


def device_key(seed: int, meter: int) -> bytes:
    """The private key of a simulated device, 32 bytes, the same for the same seed and meter."""
    salt = 0
    while True:
        key = eip712.keccak(
            b"gridcommons simulated device"
            + seed.to_bytes(32, "big")
            + meter.to_bytes(4, "big")
            + salt.to_bytes(4, "big")
        )
        # Outside the curve's order no key exists; one in 2^128 draws has to be repeated.
        if 0 < int.from_bytes(key, "big") < CURVE_ORDER:
            return key
        salt += 1


@dataclass(frozen=True)
class Gateway:
    """The box beside a home's meter: it holds the device key and signs."""

    meter: int
    key: bytes = field(repr=False)

    @cached_property
    def address(self) -> bytes:
        """The 20 bytes registered for this device."""
        return eip712.address_bytes(eip712.address_of(self.key))

    def readings(
        self,
        separator: bytes,
        first_slot: int,
        import_wh: np.ndarray,
        export_wh: np.ndarray,
        head: Head = Head.NONE,
    ) -> Readings:
        """Signed readings of consecutive slots, after `head`; Wh per slot, int (slots,) each."""
        rows = _rows([self.meter], first_slot, import_wh, export_wh)
        return sign_chain(self.key, separator, rows, head)

    def receipt(self, separator: bytes, first_slot: int, exports: Sequence[int]) -> bytes:
        """The signature (65 bytes) of a delivery receipt: Wh exported per slot of a session.

        `separator` is the market's domain, not the one of readings.
        """
        wh = [int(value) for value in exports]
        return eip712.sign_digest(self.key, receipt_digest(separator, self.meter, first_slot, wh))


@dataclass(frozen=True)
class Fleet:
    """The gateways of a zone's homes, in the homes' order."""

    gateways: tuple[Gateway, ...]

    @staticmethod
    def of(seed: int, meters: Sequence[int]) -> Fleet:
        """One gateway per meter number, keys derived from the seed."""
        return Fleet(tuple(Gateway(int(meter), device_key(seed, int(meter))) for meter in meters))

    @property
    def devices(self) -> dict[int, bytes]:
        """Meter to device address: what the registry holds."""
        return {gateway.meter: gateway.address for gateway in self.gateways}

    def readings(
        self,
        separator: bytes,
        profiles: ZoneProfiles,
        heads: Mapping[int, Head] | None = None,
        workers: int | None = None,
    ) -> Readings:
        """Signed readings of all homes for all slots of `profiles`, sorted by meter order, slot.

        `heads`: where each meter's chain stands; without it, the chains begin here.
        """
        if len(self.gateways) != len(profiles.homes):
            raise BadUse(f"{len(self.gateways)} gateways cannot serve {len(profiles.homes)} homes")
        rows = _rows(
            [gateway.meter for gateway in self.gateways],
            profiles.first_slot,
            profiles.import_wh,
            profiles.export_wh,
        )
        keys = {gateway.meter: gateway.key for gateway in self.gateways}
        return sign_chains(keys, separator, rows, heads or {}, workers)


def _rows(
    meters: Sequence[int], first_slot: int, import_wh: np.ndarray, export_wh: np.ndarray
) -> Readings:
    """(slots, meters) or (slots,) energies as rows, all slots of the first meter first."""
    slots = len(import_wh)
    return Readings.columns(
        np.repeat(np.asarray(meters, dtype=np.int64), slots),
        np.tile(np.arange(first_slot, first_slot + slots, dtype=np.int64), len(meters)),
        np.asarray(import_wh).reshape(slots, -1).T.reshape(-1),
        np.asarray(export_wh).reshape(slots, -1).T.reshape(-1),
    )


@dataclass(frozen=True)
class BatteryRun:
    """What the battery did: Wh per slot, int64 (slots,) each; `soc_wh` and the like at slot end.

    In every slot import = export + rise of the state of charge + loss, exactly.
    """

    first_slot: int
    import_wh: np.ndarray
    export_wh: np.ndarray
    loss_wh: np.ndarray
    soc_wh: np.ndarray
    after: CommunityBattery


@dataclass(frozen=True)
class CommunityBattery:
    """The zone's shared battery. Efficiencies per direction in permille, energy in whole Wh.

    Of `m` Wh taken from the grid, `m * charge_permille // 1000` are stored; `e` Wh given back cost
    `e * 1000 / discharge_permille`, rounded up, of the store. What rounding takes is loss.
    """

    capacity_wh: int
    max_power_w: int
    charge_permille: int = 950
    discharge_permille: int = 950
    soc_wh: int = 0

    def __post_init__(self) -> None:
        if self.capacity_wh < 0 or self.max_power_w < 0:
            raise BadUse("a battery's capacity and power cannot be negative")
        if not (0 < self.charge_permille <= 1000 and 0 < self.discharge_permille <= 1000):
            raise BadUse("a battery's efficiencies lie between 1 and 1000 permille")
        if not 0 <= self.soc_wh <= self.capacity_wh:
            raise BadUse("a battery's state of charge lies between zero and its capacity")

    def run(self, schedule: Mapping[int, int], first_slot: int, slots: int) -> BatteryRun:
        """Obey `schedule` (slot to W, positive charges) as far as power and store allow.

        Slots that are not in the schedule rest. The battery itself is unchanged; `after` continues.
        """
        imported, exported, lost, level = (np.zeros(slots, dtype=np.int64) for _ in range(4))
        soc = self.soc_wh
        for i in range(slots):
            wanted = int(schedule.get(first_slot + i, 0))
            wh = min(abs(wanted), self.max_power_w) * SLOT_SECONDS // 3600
            before = soc
            if wanted > 0:
                # Rounded up, the last Wh still fits: the floor below then gives the room exactly.
                room = -((soc - self.capacity_wh) * 1000 // self.charge_permille)
                taken = min(wh, room)
                soc += taken * self.charge_permille // 1000
                imported[i] = taken
            elif wanted < 0:
                given = min(wh, soc * self.discharge_permille // 1000)
                soc -= -(-given * 1000 // self.discharge_permille)
                exported[i] = given
            lost[i] = imported[i] - exported[i] - (soc - before)
            level[i] = soc
        return BatteryRun(first_slot, imported, exported, lost, level, replace(self, soc_wh=soc))
