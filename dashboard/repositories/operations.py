# SPDX-License-Identifier: Apache-2.0
"""How everything runs, looked at in the background: a page never waits for a part that is dead.

What is looked at is `dao.status`'s and `dao.due`'s, the same that `gridcommons status` tells.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from dataclasses import dataclass

from dao.due import look_due
from dao.errors import BadUse
from dao.status import Part, Places, look
from dashboard.identity import Person
from dashboard.settings import Settings, checked_address

log = logging.getLogger("dashboard")

OPERATORS = "GRIDCOMMONS_OPERATORS"
"""Environment variable: addresses, separated by commas, of who may see how everything runs."""
COLLECTOR = "GRIDCOMMONS_COLLECTOR"
"""Environment variable: where the collector is, if not where it is by default."""
FRESH_S = 10.0
"""So old may be what is shown before it is looked at again."""
PATIENCE_S = 3.0
DEADLINE_S = 6.0
# So many looks may hang on parts that answer a byte at a time, until no more are begun.
_MOST_HANGING = 24
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")


def operators() -> frozenset[str]:
    """The operators' addresses, in small letters; what is no address is left out."""
    named = [one.strip() for one in os.environ.get(OPERATORS, "").split(",") if one.strip()]
    odd = [one for one in named if not _ADDRESS.fullmatch(one)]
    if odd:
        log.warning("%s: %s is no address", OPERATORS, ", ".join(odd)[:200])
    return frozenset(one.lower() for one in named if _ADDRESS.fullmatch(one))


def is_operator(settings: Settings, person: Person | None) -> bool:
    """Whether somebody may see everything: whom the operator names; where nobody is named anybody
    on a local chain, which is for trying out, and nobody elsewhere."""
    if os.environ.get(OPERATORS, "").strip():
        return person is not None and person.address.lower() in operators()
    return settings.local


def places(settings: Settings, zone: int) -> Places:
    """Where to look, with short patience, and addresses never told beyond their host."""
    collector = os.environ.get(COLLECTOR, "").strip()
    try:
        named = checked_address(COLLECTOR, collector) if collector else None
    except BadUse as error:
        log.warning("%s", error)
        named = None
    return Places(
        home=settings.home,
        zone=zone,
        rpc=settings.rpc,
        relay=settings.relay,
        collector=named,
        contracts=None if settings.deployment is None else tuple(settings.deployment.items()),
        chain_id=settings.chain_id,
        patience_s=PATIENCE_S,
        shown=False,
    )


@dataclass(frozen=True)
class Seen:
    """The parts as they were last seen, and how many seconds ago; None before the first look."""

    parts: tuple[Part, ...] | None = None
    age_s: float = 0.0


class Watch:
    """Looks again when somebody asks and what is known is old; one look at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: Places | None = None
        self._seen: tuple[float, tuple[Part, ...]] | None = None
        self._looking: threading.Thread | None = None

    def ask(self, where: Places, wait_s: float = 1.0) -> Seen:
        """What is known now. The first time a look may take `wait_s`; then nothing is waited for,
        and the next question has the answer."""
        with self._lock:
            if where != self._places:
                # Another run, another relay: what was seen of the old one says nothing of it.
                self._places, self._seen = where, None
            is_old = self._seen is None or time.monotonic() - self._seen[0] > FRESH_S
            if is_old and (self._looking is None or not self._looking.is_alive()):
                self._looking = threading.Thread(
                    target=self._look, args=(where,), name="operations", daemon=True
                )
                self._looking.start()
            looking = self._looking if self._seen is None else None
        if looking is not None:
            looking.join(wait_s)
        with self._lock:
            if self._seen is None:
                return Seen()
            return Seen(self._seen[1], time.monotonic() - self._seen[0])

    def _look(self, where: Places) -> None:
        if sum(one.name.startswith("status") for one in threading.enumerate()) > _MOST_HANGING:
            return
        try:
            parts = (*look(where, DEADLINE_S), *look_due(where, DEADLINE_S))
        except Exception as error:  # a part's odd answer must not blind the page for good
            log.error("the parts cannot be looked at", exc_info=error)
            return
        with self._lock:
            if where == self._places:
                self._seen = (time.monotonic(), parts)


WATCH = Watch()
"""The one for all visitors."""
