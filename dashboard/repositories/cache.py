# SPDX-License-Identifier: Apache-2.0
"""The one cache of the dashboard: answers kept for all visitors as long as their source stands.

A cached function names its source among its arguments, by the version of a file or the cursor of
the index; so what changed is asked anew, and what did not is not.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")

Version = tuple[tuple[int, int, int], ...]


def version(path: Path) -> Version:
    """What changes whenever the file does: number, size and time of it and of its WAL file."""
    found = []
    for one in (path, path.with_name(path.name + "-wal")):
        try:
            facts = one.stat()
        except OSError:
            continue
        found.append((facts.st_ino, facts.st_size, facts.st_mtime_ns))
    return tuple(found)


class _Answer:
    """One answer, asked for by one thread while the others wait."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.asked_at: float | None = None
        self.value: object = None


def cached(ttl: float, max_entries: int) -> Callable[[Callable[P, R]], Cached[P, R]]:
    """Decorator: keep the answers of a function of hashable arguments.

    ttl: seconds an answer is good for. max_entries: how many are kept; the one unused for longest
    goes first. Whoever asks for what is just being asked waits for that answer. An error is told
    and not kept. Answers are shared: nobody may change one.
    """
    return lambda function: Cached(function, ttl, max_entries)


class Cached(Generic[P, R]):
    """A function whose answers are kept."""

    def __init__(self, function: Callable[P, R], ttl: float, max_entries: int) -> None:
        self._function = function
        self._ttl, self._max_entries = ttl, max_entries
        self._answers: OrderedDict[object, _Answer] = OrderedDict()
        self._guard = threading.Lock()
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        key = _key(args, kwargs)
        with self._guard:
            answer = self._answers.setdefault(key, _Answer())
            self._answers.move_to_end(key)
            while len(self._answers) > self._max_entries:
                self._answers.popitem(last=False)
        with answer.lock:
            now = time.monotonic()
            if answer.asked_at is None or now - answer.asked_at >= self._ttl:
                answer.value = self._function(*args, **kwargs)
                answer.asked_at = now
            return cast(R, answer.value)

    def told(self, *args: P.args, **kwargs: P.kwargs) -> R | None:
        """What was told last, however old; None where nothing was. Asks and waits for nobody."""
        with self._guard:
            answer = self._answers.get(_key(args, kwargs))
        return None if answer is None else cast(R | None, answer.value)


def _key(args: tuple[object, ...], kwargs: dict[str, object]) -> object:
    return args, tuple(sorted(kwargs.items()))
