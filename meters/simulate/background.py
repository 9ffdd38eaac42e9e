# SPDX-License-Identifier: Apache-2.0
"""An event loop in a thread of its own, beside a program that knows nothing of asyncio."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self, TypeVar

from dao.errors import CheckFailed

START_SECONDS = 60
"""Real time that a life has to begin before it is given up."""

T = TypeVar("T")


class Background(ABC):
    """Lives its `_life` between `with` and its end.

    What keeps it from beginning is raised by `with`, what ends it too early at the end; `error`
    tells of it before.
    """

    def __init__(self, name: str) -> None:
        self.error: BaseException | None = None
        self._name = name
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._ready = threading.Event()

    @abstractmethod
    def _life(self) -> AbstractAsyncContextManager[object]:
        """What is entered and left in the thread."""

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()
        if not self._ready.wait(START_SECONDS):
            self._ask_to_end()  # nobody waits for what hangs already
            raise CheckFailed(f"the {self._name} did not begin within {START_SECONDS} s")
        if self.error is not None:
            self._thread.join()
            raise self.error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ask_to_end()
        if self._thread is not None:
            self._thread.join()
        if self.error is not None and error is None:
            raise self.error

    def ask(self, question: Callable[[], T]) -> T:
        """The answer to a question that only the thread itself may ask."""
        assert self._loop is not None

        async def asked() -> T:
            return question()

        return asyncio.run_coroutine_threadsafe(asked(), self._loop).result(START_SECONDS)

    def _ask_to_end(self) -> None:
        loop, end = self._loop, self._end
        if loop is not None and end is not None and not loop.is_closed():
            loop.call_soon_threadsafe(end.set)

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:  # told to the thread that enters or leaves
            self.error = error
        finally:
            self._ready.set()

    async def _live(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with self._life():
            self._ready.set()
            await self._end.wait()
