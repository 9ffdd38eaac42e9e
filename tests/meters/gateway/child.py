# SPDX-License-Identifier: Apache-2.0
"""A gateway as a process of its own, in the scaled time of the test that started it; to be killed.

Arguments: settings file, start of the clock, its speed, and the steady second at which it began.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from meters.gateway.run import Gateway
from meters.gateway.settings import read
from meters.simulate.clock import ScaledClock
from tests.meters.gateway.house import PASSWORD


def main() -> None:
    file, start, speed, began = sys.argv[1:]
    clock = ScaledClock(float(start), float(speed))
    # The steady clock is the machine's: both processes live at the same time.
    clock._began = float(began)
    gateway = Gateway(read(Path(file)), clock, PASSWORD, steady=None)

    async def live() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        print("running", flush=True)
        await gateway.run(stop)

    asyncio.run(live())


if __name__ == "__main__":
    main()
