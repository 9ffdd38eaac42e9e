# SPDX-License-Identifier: Apache-2.0
"""Which device key signs for which slot: the one valid in the slot's last second.

A new key counts once the registry has it. Until that is known nothing is signed for slots that it
might have to sign: what waits is not lost, what the wrong key signed would be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dao.errors import CheckFailed
from dao.slots import SLOT_SECONDS
from meters.gateway.keystore import DeviceKey, load_key
from meters.gateway.outbox import KeyPeriod, Outbox


class Keys:
    """The keys of one gateway, opened with its password.

    device_at: asks the registry for the key of the meter at a moment; None where the gateway has no
    node to ask. Then a new key counts once it was confirmed by hand.
    """

    def __init__(
        self,
        outbox: Outbox,
        folder: Path,
        first: Path,
        password: str,
        device_at: Callable[[int, int], str | None] | None,
    ) -> None:
        self._outbox = outbox
        self._folder = folder
        self._password = password
        self._device_at = device_at
        self._loaded: dict[str, DeviceKey] = {}
        # New keys of which the registry said that they do not hold.
        self._refused: set[str] = set()
        self.problem: str | None = None
        if not outbox.key_periods():
            key = load_key(first, password)
            self._loaded[key.address] = key
            outbox.put_key(KeyPeriod(key.address, first.name, 0, confirmed=True))
        self._periods = outbox.key_periods()
        for period in self._periods:
            self._key(period)

    def of(self, slot: int) -> DeviceKey | None:
        """The key that must sign for a slot; None while that is not known."""
        moment = (slot + 1) * SLOT_SECONDS - 1
        chosen: KeyPeriod | None = None
        for period in self._periods:
            if period.valid_from > moment:
                break
            if period.confirmed:
                chosen = period
            elif self._device_at is not None and period.address not in self._refused:
                return None
        return None if chosen is None else self._key(chosen)

    @property
    def addresses(self) -> list[KeyPeriod]:
        """The keys and when they begin to hold."""
        return list(self._periods)

    async def look(self, now: float) -> None:
        """See what keys were added, and ask the registry for those whose time has come."""
        self._periods = self._outbox.key_periods()
        for period in self._periods:
            if period.confirmed or period.valid_from > now:
                continue
            if self._device_at is None:
                self.problem = f"the new key {period.address} waits: confirm that it is registered"
                continue
            try:
                found = await asyncio.to_thread(
                    self._device_at, self._outbox.meter, period.valid_from
                )
            except CheckFailed as error:
                self.problem = str(error)
                continue
            if found == period.address:
                self._outbox.put_key(replace(period, confirmed=True))
                self._refused.discard(period.address)
                self.problem = None
            else:
                self._refused.add(period.address)
                self.problem = f"the registry does not know the new key {period.address}"
        self._periods = self._outbox.key_periods()

    def _key(self, period: KeyPeriod) -> DeviceKey:
        key = self._loaded.get(period.address)
        if key is None:
            key = load_key(self._folder / period.file, self._password)
            if key.address != period.address:
                raise CheckFailed(f"{self._folder / period.file} holds {key.address}")
            self._loaded[period.address] = key
        return key
