# SPDX-License-Identifier: Apache-2.0
"""How a long run shows that it is alive: a progress bar on a terminal, sparse lines elsewhere.

Everything goes to stderr, so that `--json` leaves stdout to the figures.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

# Without a terminal a line every so many seconds is enough for a log.
QUIET_SECONDS = 10.0


class Display:
    """A context manager; call it with what is being done, how much is done, and of how much."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._last = 0.0

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description:<44}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}"),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=1)
        return self

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=what, completed=done, total=total)
            return
        now = time.monotonic()
        if done == 0 or now - self._last >= QUIET_SECONDS:
            self._last = now
            print(f"{what} ({done}/{total})", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """A line of its own."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def finish(self) -> None:
        """Take the bar away: what follows is for reading."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.finish()
