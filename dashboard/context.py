# SPDX-License-Identifier: Apache-2.0
"""What a page is given: settings, time, zone, tariffs, events, person, language. No widgets."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from dao.paths import index_path
from dao.runstate import RunState
from dao.tariffs import Tariffs
from dashboard.i18n import Formats, Locale
from dashboard.identity import Person
from dashboard.repositories.events import ChainEvents
from dashboard.settings import Settings, configured_zone, current_run
from dashboard.theme import Palette

DEFAULT_ZONE = 1


@dataclass(frozen=True)
class Context:
    """One run of a page. `now` is the chain's time in unix seconds; `person` is None for whoever
    has not signed in, and never None on a page that needs a person."""

    settings: Settings
    colours: Palette
    now: int
    zone: int
    tariffs: Tariffs
    run: RunState | None
    events: ChainEvents
    person: Person | None
    locale: Locale

    @property
    def fmt(self) -> Formats:
        """Numbers and dates in the visitor's language."""
        return Formats(self.locale)

    def renewed(self) -> Context:
        """The same visitor's context with time and state read anew: for what refreshes itself."""
        state = read_state()
        return replace(
            self,
            now=state.now,
            zone=state.zone,
            tariffs=state.tariffs,
            run=state.run,
            events=state.events,
        )


@dataclass(frozen=True)
class State:
    """The part of a context that is the same for all visitors."""

    now: int
    zone: int
    tariffs: Tariffs
    run: RunState | None
    events: ChainEvents


def read_state() -> State:
    """The state as the files have it now. Raises CheckFailed where one is damaged."""
    run = current_run()
    zone = configured_zone() or (run.zone_id if run else DEFAULT_ZONE)
    events = ChainEvents(index_path(), zone)
    return State(
        now=_now(run, events),
        zone=zone,
        tariffs=run.tariffs if run else Tariffs(),
        run=run,
        events=events,
    )


def _now(run: RunState | None, events: ChainEvents) -> int:
    if run is not None:
        return run.sim_time
    cursor = events.cursor()
    return cursor[1] if cursor else int(time.time())
