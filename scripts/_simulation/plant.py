# SPDX-License-Identifier: Apache-2.0
"""The community battery of the demo: a device on a socket, and the gateway that steers it.

The battery is simulated (`meters.simulate`), and speaks SunSpec over Modbus TCP. The gateway reads
the windows in force from the node, writes each slot's set-point, reads it back, counts the energy
by the battery's own registers, and signs a report. Both live in a thread of their own, in a time
that the demo moves from slot to slot.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dao.deployment import Deployment
from dao.errors import CheckFailed
from dao.paths import ensure_parent
from dao.slots import SLOT_SECONDS
from meters.devices import CommunityBattery, Gateway
from meters.dispatch import DispatchReport
from meters.gateway.chain import NodeReader
from meters.gateway.dispatching import Dispatcher
from meters.gateway.drivers.battery import SunSpecBattery as BatteryDriver
from meters.gateway.keystore import DeviceKey
from meters.gateway.outbox import Outbox
from meters.gateway.settings import ChainSettings, DeviceSettings, Endpoint
from meters.gateway.tasks import side_by_side
from meters.simulate.background import Background
from meters.simulate.clock import ManualClock
from meters.simulate.sunspec import SunSpecBattery

# Real time that the devices get to answer; they answer within milliseconds.
PATIENCE_S = 60.0
_LOOK_S = 0.0005
_MOST_REPORTS = 100_000


@dataclass(frozen=True)
class BatteryWork:
    """What the battery's registers say of a run of slots: Wh, int64 (slots,) each."""

    import_wh: np.ndarray
    export_wh: np.ndarray
    soc_wh: int


class BatteryPlant(Background):
    """The battery and its gateway between `with` and its end."""

    def __init__(
        self,
        deployment: Deployment,
        zone: int,
        battery: CommunityBattery,
        gateway: Gateway,
        separator: bytes,
        start: int,
        folder: Path,
    ) -> None:
        super().__init__("battery and its gateway")
        self.clock = ManualClock(start)
        # A slot may pass in one step, so the set-point outlives a slot.
        revert = 2 * SLOT_SECONDS
        self._device = SunSpecBattery(
            battery, self.clock, revert_seconds=revert, serial="GC-COMMUNITY"
        )
        self._revert = revert
        self._zone = zone
        self._gateway = gateway
        self._separator = separator
        self._path = ensure_parent(folder / "outbox.sqlite")
        self._chain = ChainSettings(
            chain_id=deployment.chain.chain_id,
            registry=deployment["MeterRegistry"].address,
            ledger=deployment["ReadingLedger"].address,
            parameters=deployment["GridParameters"].address,
            rpc=Endpoint(deployment.chain.url),
        )
        self._driver: BatteryDriver | None = None
        self._dispatcher: Dispatcher | None = None
        self._outbox: Outbox | None = None

    def run(self, first_slot: int, slots: int) -> BatteryWork:
        """Live through the slots; the gateway finds the schedule on the chain by itself."""
        assert self._driver is not None
        taken, given = np.zeros(slots, dtype=np.int64), np.zeros(slots, dtype=np.int64)
        for i in range(slots):
            begin = float((first_slot + i) * SLOT_SECONDS)
            for moment in (begin, begin + SLOT_SECONDS):
                self.clock.set(max(moment, self.clock()))
                self._settled(moment)
            done = self._driver.done(first_slot + i)
            if done is None:
                raise CheckFailed(f"the battery's registers do not tell of slot {first_slot + i}")
            taken[i], given[i] = done
        return BatteryWork(taken, given, self._device.state().soc_wh)

    def reports(self) -> list[DispatchReport]:
        """What was wanted, acknowledged and done in every slot with a schedule so far, signed."""
        outbox = self._outbox
        assert outbox is not None
        found = self.ask(lambda: outbox.reports(state=None, most=_MOST_REPORTS))
        return [DispatchReport.from_json(one) for one in found]

    # Inside

    def _settled(self, moment: float) -> None:
        """Wait until set-point and registers are those of this moment."""
        assert self._driver is not None
        assert self._dispatcher is not None
        waited = 0.0
        while self._driver.counting.read_at < moment or self._dispatcher.looked_at < moment:
            if self.error is not None:
                raise CheckFailed(f"the battery's gateway ended: {self.error}") from self.error
            if waited > PATIENCE_S:
                raise CheckFailed("the battery does not answer its gateway")
            time.sleep(_LOOK_S)
            waited += _LOOK_S

    @asynccontextmanager
    async def _life(self) -> AsyncIterator[None]:
        async with self._device as device:
            settings = DeviceSettings(
                "community-battery",
                "community_battery",
                address=Endpoint(f"tcp://{device.address}"),
                revert_s=self._revert,
            )
            key = DeviceKey.of(self._gateway.key)
            with (
                closing(NodeReader(self._chain)) as node,
                Outbox(self._path, self._gateway.meter, self._separator) as self._outbox,
                closing(BatteryDriver(settings, self.clock)) as self._driver,
            ):
                self._dispatcher = Dispatcher(
                    settings,
                    self._zone,
                    self._driver,
                    node,
                    self._outbox,
                    self.clock,
                    self._separator,
                    lambda _: key,
                )
                async with side_by_side((self._driver.watch(), self._dispatcher.run())):
                    yield
