# SPDX-License-Identifier: Apache-2.0
"""Parts that work side by side as long as a context lasts; none outlives it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

_CANCEL_S = 0.5


@asynccontextmanager
async def side_by_side(parts: Iterable[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """The parts at work. One that fails unforeseen ends the context, and is raised."""
    waiting = asyncio.current_task()
    assert waiting is not None
    failed: list[BaseException] = []
    is_over = False

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            failed.append(error)
            if not is_over:
                waiting.cancel()

    tasks = {asyncio.create_task(part) for part in parts}
    for task in tasks:
        task.add_done_callback(ended)
    try:
        yield
    except asyncio.CancelledError:
        if failed:
            waiting.uncancel()
            raise failed[0] from None
        raise
    finally:
        is_over = True
        await _end(tasks)


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended.

    Once is not enough: Python 3.11's `wait_for`, which libraries use, forgets a cancellation that
    comes at the moment of a result.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_S)
