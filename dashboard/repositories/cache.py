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
from typing import ParamSpec, TypeVar

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


def cached(ttl: float, max_entries: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: keep the answers of a function of hashable arguments.

    ttl: seconds an answer is good for. max_entries: how many are kept; the one unused for longest
    goes first. Whoever asks for what is just being asked waits for that answer. An error is told
    and not kept. Answers are shared: nobody may change one.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        answers: OrderedDict[object, _Answer] = OrderedDict()
        guard = threading.Lock()

        @functools.wraps(function)
        def ask(*args: P.args, **kwargs: P.kwargs) -> R:
            key = (args, tuple(sorted(kwargs.items())))
            with guard:
                answer = answers.setdefault(key, _Answer())
                answers.move_to_end(key)
                while len(answers) > max_entries:
                    answers.popitem(last=False)
            with answer.lock:
                now = time.monotonic()
                if answer.asked_at is None or now - answer.asked_at >= ttl:
                    answer.value = function(*args, **kwargs)
                    answer.asked_at = now
                return answer.value  # type: ignore[return-value]

        return ask

    return decorate
