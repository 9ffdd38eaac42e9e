# SPDX-License-Identifier: Apache-2.0
"""The agent's loop: a round, a pause, a round, until it is told to stop; and what `status` reads.

One agent follows the offers of a state folder. A round that cannot reach relay or node is told and
tried again; nothing is lost by it.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dao.errors import CheckFailed, GridCommonsError
from dao.paths import ensure_parent, home
from forecasting.agent.follow import Follower
from forecasting.agent.store import following

log = logging.getLogger("gridcommons.agent")

POLL_S = 15.0
LONGEST_PAUSE_S = 300.0


def heartbeat_path() -> Path:
    """What the agent tells `gridcommons status`: nothing about any home."""
    return home() / "agent.json"


def run(
    follower: Follower,
    *,
    clock: Callable[[], int],
    wait: Callable[[float], bool],
    poll: float = POLL_S,
    once: bool = False,
) -> None:
    """Follow until `wait` says to stop, or once.

    clock: chain time, unix seconds; wait: sleeps so many seconds and says whether to stop.
    CheckFailed where another agent follows the same offers; with `once` also where a round fails.
    """
    with following(follower.store.path):
        pause = poll
        while True:
            problem = None
            try:
                follower.round(clock())
                pause = poll
            except GridCommonsError as error:
                if once:
                    raise
                problem = str(error)
            except Exception as error:
                if once:
                    raise
                # A defect with one home must not end the following of all others for good.
                log.exception("a round failed")
                problem = type(error).__name__
            if problem is not None:
                pause = min(2 * pause, LONGEST_PAUSE_S)
                log.warning("%s; trying again in %.0f s", problem, pause)
            beat(follower, problem)
            if once or wait(pause):
                return


def beat(follower: Follower, problem: str | None) -> None:
    """Leave word that the agent lives; a full disk costs the word, not the agent."""
    with suppress(OSError, CheckFailed):
        target = ensure_parent(heartbeat_path())
        told = {
            "time": round(time.time()),
            "zone": follower.zone,
            "offers": len(follower.store.in_force()),
            # The text may name an address with a key in it: that stays in the log.
            "well": problem is None,
        }
        handle, part = tempfile.mkstemp(dir=target.parent, prefix=".agent-", suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                json.dump(told, out)
            Path(part).replace(target)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
