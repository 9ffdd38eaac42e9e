# SPDX-License-Identifier: Apache-2.0
"""A real MQTT broker (amqtt) inside a test's event loop, that can be stopped and come back."""

from __future__ import annotations

import logging
from typing import Any, Self

from dao.processes import free_port


class Broker:
    """Listens on one port of the loopback address for as long as it is entered."""

    def __init__(self) -> None:
        self.port = free_port()
        self._broker: Any = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    async def start(self) -> None:
        from amqtt.broker import Broker as Amqtt

        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._broker = Amqtt(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}},
                "plugins": {
                    "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
                },
            }
        )
        await self._broker.start()

    async def stop(self) -> None:
        await self._broker.shutdown()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
