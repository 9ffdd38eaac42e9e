# SPDX-License-Identifier: Apache-2.0
"""The tables of an audit dossier for a screen: of some days, as index and lake have them now.

They come from the same functions as a dossier's (`dao.audit`, `forecasting.dossier`), so where the
days are over for good both say the same. What costs time is kept by content: a session that has not
changed is not cleared again. No home's readings leave this module.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dao.audit.build import ChainPart
from dao.audit.decisions import decision_tables
from dao.audit.energy import energy_tables, newest_batches
from dao.audit.figures import figure_table
from dao.audit.market import Replay, Session, market_tables, replay, sessions_of
from dao.audit.records import anomaly_table, forecast_tables, money_table
from dao.audit.scope import (
    Block,
    Events,
    Period,
    Placed,
    Rules,
    Scope,
    closing_time,
    rules_of,
    select,
)
from dao.audit.tables import TABLES
from dao.errors import CheckFailed
from dao.index import EventReader
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY, day_of
from dashboard.repositories.cache import Version, cached, version
from dashboard.repositories.events import Mark, mark_of

if TYPE_CHECKING:
    import pyarrow as pa

MAX_DAYS = 31
"""What is computed for a screen; of longer spans the last days. A dossier holds up to a year."""
_KEPT_S = 3_600.0
_SESSIONS_KEPT = 31 * 24
_NOT_HERE = ("transactions", "gas", "gas_energy_wh")
"""Figures that need every transaction's receipt from a node: in a dossier only."""
_UNSETTLED = "session open"
_LAST = (1 << 62) - 1

_computing = threading.Lock()
"""However many visitors ask for however many spans: one is computed at a time."""


@dataclass(frozen=True, eq=False)
class Analysis:
    """Some days of a zone.

    tables: by name, as in `dao.audit.table_list`. as_of: unix seconds, up to which the chain is
    told. final_end: the first slot that is not over for good; what only the operator can say is
    told up to there. missing: the lake could not be read for it.
    """

    period: Period
    tables: Mapping[str, pa.Table]
    as_of: int
    final_end: int
    missing: bool

    @property
    def is_final(self) -> bool:
        """Whether nothing of it can change any more."""
        return self.final_end >= self.period.end_slot


class DatedReader(EventReader):
    """An index whose questions about a span of time look at the blocks of that span only.

    A row's time lies behind its arguments, so to ask every row for it would read years of books.
    """

    def __init__(self, db_path: Path) -> None:
        super().__init__(db_path)
        self._bounds: dict[tuple[str, int], int | None] = {}

    def events(self, name: str, **filters: Any) -> list[dict[str, Any]]:
        """As `EventReader.events`."""
        first, last = filters.pop("first_time", None), filters.pop("last_time", None)
        if (first is None and last is None) or set(filters) != {"contract"}:
            return super().events(name, first_time=first, last_time=last, **filters)
        begin = 0 if first is None else self._bound("timestamp >= ? ORDER BY number", first)
        end = _LAST if last is None else self._bound("timestamp <= ? ORDER BY number DESC", last)
        if begin is None or end is None:
            return []
        keys = ("block", "log_index", "tx", "contract", "event", "timestamp")
        rows = self._query(
            "SELECT block, log_index, tx, contract, event, timestamp, args FROM events "
            "WHERE event = ? AND contract = ? AND block >= ? AND block <= ? "
            "ORDER BY block, log_index",
            (name, filters["contract"], begin, end),
        )
        return [
            {**dict(zip(keys, row[:6], strict=True)), "args": json.loads(row[6])} for row in rows
        ]

    def last_block(self, when: int) -> tuple[int, str] | None:
        """Number and hash of the last block that is kept and not later than a time."""
        rows = self._query(
            "SELECT number, hash FROM blocks WHERE timestamp <= ? ORDER BY number DESC LIMIT 1",
            (when,),
        )
        return (int(rows[0][0]), str(rows[0][1])) if rows else None

    def _bound(self, where: str, when: int) -> int | None:
        """The first or the last block of a time."""
        if (where, when) not in self._bounds:
            rows = self._query(f"SELECT number FROM blocks WHERE {where} LIMIT 1", (when,))
            self._bounds[where, when] = int(rows[0][0]) if rows else None
        return self._bounds[where, when]


def zones(home: Path) -> tuple[int, ...]:
    """The zones that have a metering point, at most a hundred."""
    index = home / "index.sqlite"
    return _zones(index, mark_of(index))


@cached(ttl=3_600, max_entries=4)
def _zones(index: Path, _: Mark) -> tuple[int, ...]:
    rows = EventReader(index)._query(
        "SELECT DISTINCT json_extract(args, '$.zone') FROM events "
        "WHERE event = 'MeterRegistered' AND contract = 'MeterRegistry' ORDER BY 1 LIMIT 100",
        (),
    )
    return tuple(int(one) for (one,) in rows if one is not None)


def readings_span(home: Path, zone: int) -> tuple[int, int] | None:
    """First and last slot of the zone's readings on the chain, None where there are none yet."""
    index = home / "index.sqlite"
    return _readings_span(index, mark_of(index), zone)


@cached(ttl=3_600, max_entries=8)
def _readings_span(index: Path, _: Mark, zone: int) -> tuple[int, int] | None:
    ends = [
        EventReader(index).events(
            "BatchCommitted",
            contract="ReadingLedger",
            match={"zone": zone},
            limit=1,
            newest_first=newest,
        )
        for newest in (False, True)
    ]
    if not ends[0] or not ends[1]:
        return None
    (first,), (last,) = ends
    return first["args"]["first_slot"], last["args"]["first_slot"] + last["args"]["slots"] - 1


def analysis(home: Path, period: Period, tariffs: Mapping[str, int]) -> Analysis | None:
    """The tables of a period of at most `MAX_DAYS` days, None where the chain has not been read or
    has no rules yet. CheckFailed where the index is damaged."""
    if period.slots > MAX_DAYS * SLOTS_PER_DAY:
        raise ValueError(f"more than {MAX_DAYS} days")
    index = home / "index.sqlite"
    told = _closed_by(index, version(index), period) or _minute(index, version(index))
    marks = (told, _days_mark(home, period))
    return _analysis(home, marks, period, tuple(sorted(tariffs.items())))


@cached(ttl=_KEPT_S, max_entries=64)
def _minute(index: Path, now: Version) -> Hashable:
    """What names the chain of a period that is still open: its minute, and which file tells of it.
    Computed anew for each block, it would never be kept."""
    timestamp = DatedReader(index).timestamp()
    return None if timestamp is None or not now else (now[0][0], timestamp // 60)


@cached(ttl=_KEPT_S, max_entries=64)
def _closed_by(index: Path, _: Version, period: Period) -> Hashable:
    """What names the chain of a period that is over for good, whatever comes after: the last block
    that counts. None while it is open."""
    reader = DatedReader(index)
    now = reader.timestamp()
    if now is None or not reader.events("RuleDefined", contract="GridParameters", limit=1):
        return None
    rules = rules_of(reader)
    if _final_end(period, rules, now) < period.end_slot:
        return None
    return reader.last_block(closing_time(period, rules))


def _days_mark(home: Path, period: Period) -> Hashable:
    """What changes when a file of these days is written or taken away."""
    folder = home / "lake" / f"zone={period.zone}"
    days = range(period.first_slot, period.end_slot, SLOTS_PER_DAY)
    return tuple(version(folder / f"day={day_of(day).isoformat()}") for day in days)


@cached(ttl=_KEPT_S, max_entries=12)
def _analysis(
    home: Path, _: Hashable, period: Period, tariffs: tuple[tuple[str, int], ...]
) -> Analysis | None:
    with _computing:
        return _computed(home, period, dict(tariffs))


def _computed(home: Path, period: Period, tariffs: Mapping[str, int]) -> Analysis | None:
    reader = DatedReader(home / "index.sqlite")
    now = reader.timestamp()
    if now is None or not reader.events("RuleDefined", contract="GridParameters", limit=1):
        return None
    rules = rules_of(reader)
    final_end = _final_end(period, rules, now)
    as_of = now if final_end < period.end_slot else min(now, closing_time(period, rules))
    events = select(reader, period, as_of)
    scope = _scope(period, as_of, tariffs)
    sessions = sessions_of(events, period)
    # Rules of a session are those of its gate, so what was replayed stays right.
    told = [_told(one, events) for one in sessions]
    market = {
        name: _stacked([one.tables[name] for one in told], name)
        for name in ("sessions", "orders", "fills", "prices", "settlement", "clearing")
    }
    tables: dict[str, pa.Table] = {
        **energy_tables(events, period),
        **market,
        **decision_tables(events, scope),
        **forecast_tables(events, period),
        "money": money_table(events),
        "anomalies": _anomalies(events, [one.replay for one in told], scope, final_end),
    }
    operator, missing = _operator(home, period, tables, events, scope, final_end)
    for name in TABLES:
        if name not in tables:
            tables[name] = operator.get(name, TABLES[name].of_rows([]))
    figures = figure_table(tables, tariffs)
    keep = [name not in _NOT_HERE for name in figures["name"].to_pylist()]
    tables["figures"] = _kept(figures, keep)
    # Only sums by account and slot were wanted of these.
    for name in ("orders", "fills"):
        del tables[name]
    return Analysis(period, tables, as_of, final_end, missing)


def _final_end(period: Period, rules: Rules, now: int) -> int:
    end = period.first_slot
    for day in range(period.first_slot, period.end_slot, SLOTS_PER_DAY):
        if closing_time(Period(period.zone, day, SLOTS_PER_DAY), rules) >= now:
            break
        end = day + SLOTS_PER_DAY
    return end


def _scope(period: Period, as_of: int, tariffs: Mapping[str, int]) -> Scope:
    """The scope as tables need it: who reads them here sees no proofs."""
    nowhere: dict[str, Placed] = {}
    block = Block(0, "", as_of)
    return Scope(0, nowhere, period, 0, 0, block, as_of, as_of, tariffs, "", "en")


# The market, session by session


@dataclass(frozen=True, eq=False)
class _Told:
    """What a session came to."""

    replay: Replay
    tables: Mapping[str, pa.Table]


@dataclass
class _Named:
    """Something that is known by what it holds; given out once, so that a cache keeps the name."""

    mark: Hashable
    held: list[Any] = field(compare=False, default_factory=list)

    def __hash__(self) -> int:
        return hash(self.mark)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Named) and self.mark == other.mark


def _told(session: Session, events: Events) -> _Told:
    rules, first, n = events.rules, session.first_slot, session.slots
    said = blake2b(digest_size=16)
    for row in (session.opened, *session.pages, *session.entries):
        said.update(repr(row).encode())
    for values in (session.price, session.volume, session.delivered, session.fees):
        said.update(values.tobytes())
    said.update(session.penalties.tobytes())
    in_force = [
        rules.per_slot(name, first, n, session.gate)
        for name in ("grid_fee", "price_band_min", "price_band_max")
    ]
    said.update(repr((session.void_from, session.rejected, in_force)).encode())
    return _replayed(_Named(said.digest(), [session, events]))


@cached(ttl=86_400, max_entries=_SESSIONS_KEPT)
def _replayed(named: _Named) -> _Told:
    session, events = named.held
    named.held.clear()
    one = replay(session, events)
    period = Period(0, session.first_slot, session.slots)
    return _Told(_light(one), market_tables([one], period))


def _light(one: Replay) -> Replay:
    """What the anomalies ask of a replay, without its matrices."""
    none = np.zeros(0, dtype=np.int64)
    session = replace(one.session, pages=[], entries=[])
    return replace(one, session=session, fills=none, bought=none, paid=none, shared=none, held=none)


def _stacked(parts: list[pa.Table], name: str) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables(parts).combine_chunks() if parts else TABLES[name].of_rows([])


def _kept(table: pa.Table, keep: list[bool]) -> pa.Table:
    import pyarrow as pa

    return table.filter(pa.array(keep, pa.bool_()))


def _anomalies(events: Events, replays: list[Replay], scope: Scope, final_end: int) -> pa.Table:
    """A session is open for good reason until its day is over for good."""
    table = anomaly_table(events, replays, scope)
    limit = final_end * SLOT_SECONDS
    keep = [
        kind != _UNSETTLED or at <= limit
        for kind, at in zip(table["kind"].to_pylist(), table["at"].to_pylist(), strict=True)
    ]
    return _kept(table, keep)


# The operator's part


def _operator(
    home: Path,
    period: Period,
    tables: Mapping[str, pa.Table],
    events: Events,
    scope: Scope,
    final_end: int,
) -> tuple[dict[str, pa.Table], bool]:
    """The operator's tables of the days that are over for good; whether they cannot be read."""
    if final_end <= period.first_slot:
        return {}, False
    part = Period(period.zone, period.first_slot, final_end - period.first_slot)
    mark = (home, part, tuple(sorted(scope.tariffs.items())), _lake_mark(home, part, events))
    held = [home, part, tables, events, scope]
    try:
        return _asked(_Named(mark, held)), False
    except CheckFailed:
        return {}, True


def _lake_mark(home: Path, part: Period, events: Events) -> Hashable:
    """What changes when a batch of these days does: by a correction, or because rows are erased."""
    from meters.lake import Lake

    lake = Lake.of(home / "lake")
    found = []
    for row, number in newest_batches(events, part.first_slot, part.end_slot):
        first, slots = row.args["first_slot"], row.args["slots"]
        found.append((row.args["root"], version(Path(lake.path(part.zone, first, slots, number)))))
    settled = [row.tx for row in events.of("OrdersSettled")]
    return tuple(found), tuple(settled)


@cached(ttl=3_600, max_entries=8)
def _asked(named: _Named) -> dict[str, pa.Table]:
    import pyarrow.compute as pc

    from forecasting.dossier import Sources, shown_tables

    home, part, tables, events, scope = named.held
    named.held.clear()
    inside = {
        name: tables[name].filter(pc.less(tables[name]["session"], part.end_slot))
        for name in ("orders", "fills")
    }
    sources = Sources(lake=home / "lake", relay=home / "relay.sqlite")
    chain = ChainPart(inside, ())
    return shown_tables(sources, replace(scope, period=part), events, chain)
