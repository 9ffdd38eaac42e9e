# SPDX-License-Identifier: Apache-2.0
"""A small MQTT broker inside this program (amqtt): for demonstrations, tests and a single street.

It lets anybody in and keeps nothing across its end, so it listens on the loopback address unless
told otherwise. A real zone runs a broker of its own, with TLS, passwords and access control.
"""

from __future__ import annotations

import logging
from typing import Any, Self

from dao.errors import CheckFailed

_NOISY = ("amqtt", "transitions")


class EmbeddedBroker:
    """A broker in the running event loop, as an async context manager."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._broker: Any = None

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"mqtt://{self._address}"

    @property
    def _address(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    async def start(self) -> None:
        """Listen. CheckFailed where the address is taken or not allowed."""
        from amqtt.broker import Broker
        from amqtt.errors import BrokerError

        for name in _NOISY:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._broker = Broker(
            {
                "listeners": {"default": {"type": "tcp", "bind": self._address}},
                "plugins": {
                    "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
                },
            }
        )
        try:
            await self._broker.start()
        except (BrokerError, OSError) as error:
            self._broker = None
            cause = error.__cause__ or error.__context__ or error
            why = getattr(cause, "strerror", None) or str(cause)
            raise CheckFailed(
                f"cannot listen for MQTT on {self.host} port {self.port}: {why}"
            ) from None

    async def stop(self) -> None:
        """Close every connection and give the port back."""
        if self._broker is not None:
            broker, self._broker = self._broker, None
            await broker.shutdown()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
