# SPDX-License-Identifier: Apache-2.0
"""The community battery of the demo: a device on a socket, and the gateway that steers it.

The battery is simulated (`meters.simulate`), and speaks SunSpec over Modbus TCP. The gateway reads
the windows in force from the node, writes each slot's set-point, reads it back, counts the energy
by the battery's own registers, and signs a report. Both live in a thread of their own, in a time
that the demo moves from slot to slot.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

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
from meters.simulate.clock import ManualClock
from meters.simulate.sunspec import SunSpecBattery

# Real time that the devices get to answer; they answer within milliseconds.
PATIENCE_S = 60.0
_LOOK_S = 0.0005
_REPORTS = 1_000


@dataclass(frozen=True)
class BatteryWork:
    """What the battery's registers say of a run of slots: Wh, int64 (slots,) each."""

    first_slot: int
    import_wh: np.ndarray
    export_wh: np.ndarray
    soc_wh: int


class BatteryPlant:
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
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._driver: BatteryDriver | None = None
        self._dispatcher: Dispatcher | None = None
        self._outbox: Outbox | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="battery", daemon=True)
        self._thread.start()
        if not self._ready.wait(PATIENCE_S) and self._error is None:
            self._error = CheckFailed("the battery's gateway did not begin")
        if self._error is not None:
            self._stop()
            raise self._error
        self._settled(self.clock())
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def run(self, first_slot: int, slots: int) -> BatteryWork:
        """Live through the slots; the gateway finds the schedule on the chain by itself."""
        assert self._driver is not None
        taken, given = np.zeros(slots, dtype=np.int64), np.zeros(slots, dtype=np.int64)
        for i in range(slots):
            begin = float((first_slot + i) * SLOT_SECONDS)
            for moment in (begin, begin + SLOT_SECONDS):
                if moment > self.clock():
                    self.clock.set(moment)
                    self._settled(moment)
            done = self._driver.done(first_slot + i)
            if done is None:
                raise CheckFailed(f"the battery's registers do not tell of slot {first_slot + i}")
            taken[i], given[i] = done
        return BatteryWork(first_slot, taken, given, self._device.state().soc_wh)

    def reports(self) -> list[DispatchReport]:
        """What was wanted, acknowledged and done in every slot with a schedule so far, signed."""
        assert self._outbox is not None
        found = self._call(lambda outbox: outbox.reports(state=None, most=_REPORTS * 100))
        return [DispatchReport.from_json(one) for one in found]

    # Inside

    def _settled(self, moment: float) -> None:
        """Wait until set-point and registers are those of this moment."""
        assert self._driver is not None
        assert self._dispatcher is not None
        waited = 0.0
        pause = threading.Event()
        while self._driver.counting.read_at < moment or self._dispatcher.looked_at < moment:
            if self._error is not None:
                raise CheckFailed(f"the battery's gateway ended: {self._error}")
            if waited > PATIENCE_S:
                raise CheckFailed("the battery does not answer its gateway")
            pause.wait(_LOOK_S)
            waited += _LOOK_S

    def _call(self, ask: Callable[[Outbox], Any]) -> Any:
        """Ask the outbox where it lives: its file belongs to that thread."""
        assert self._loop is not None

        async def asked() -> Any:
            assert self._outbox is not None
            return ask(self._outbox)

        return asyncio.run_coroutine_threadsafe(asked(), self._loop).result(PATIENCE_S)

    def _stop(self) -> None:
        loop, end = self._loop, self._end
        if loop is not None and end is not None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(end.set)
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:  # told to the thread that enters or waits
            self._error = error
        finally:
            self._ready.set()

    async def _live(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with self._device as device:
            settings = DeviceSettings(
                "community-battery",
                "community_battery",
                address=Endpoint(f"tcp://{device.address}"),
                revert_s=self._revert,
            )
            key = DeviceKey.of(self._gateway.key)
            node = NodeReader(self._chain)
            with Outbox(self._path, self._gateway.meter, self._separator) as self._outbox:
                self._driver = BatteryDriver(settings, self.clock)
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
                parts: list[Coroutine[Any, Any, None]] = [
                    self._driver.watch(),
                    self._dispatcher.run(),
                    _wait(self._end),
                ]
                tasks = [asyncio.create_task(part) for part in parts]
                self._ready.set()
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                self._driver.close()
                node.close()
                for task in done:
                    if (error := task.exception()) is not None:
                        raise error


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
