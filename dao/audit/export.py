# SPDX-License-Identifier: Apache-2.0
"""Making a dossier: what is asked for, whether the period is over, where its events come from.

The operator's part is made by a function that is handed in, because it needs the lake; everything
else follows from the chain.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from dao.audit import report
from dao.audit.bills import bill_schema
from dao.audit.build import ChainPart, OperatorPart, all_tables, chain_part
from dao.audit.changes import changes
from dao.audit.energy import totals
from dao.audit.package import Content, Dossier, Manifest, write
from dao.audit.records import counted_transactions
from dao.audit.remote import Remote, fetched
from dao.audit.scope import (
    POSTING_SECONDS,
    Events,
    Period,
    Placed,
    Scope,
    closing_time,
    rules_of,
    select,
)
from dao.errors import BadUse, CheckFailed
from dao.index import EventReader
from dao.slots import SLOT_SECONDS, slot_start

if TYPE_CHECKING:
    import pyarrow as pa

DAY = 86_400
LANGUAGES = ("en", "de")

MakeOperatorPart = Callable[[Scope, Events, ChainPart], OperatorPart]


@dataclass(frozen=True)
class Request:
    """What is asked for. addresses, first_block: of the deployment; index: an index file that may
    serve, where it reaches far enough; corrects: an earlier dossier; tariffs: µ€/Wh by name."""

    period: Period
    rpc: str
    chain_id: int
    addresses: Mapping[str, str]
    first_block: int
    tariffs: Mapping[str, int]
    language: str = "en"
    index: Path | None = None
    corrects: Path | None = None


def export(
    request: Request,
    path: Path,
    operator_part: MakeOperatorPart,
    notify: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Write the dossier to `path`, whole or not at all.

    BadUse for a zone or language that is not known; CheckFailed where the node does not answer, is
    of another chain, the period is still open, or the ledger or the lake lacks a batch of it.
    """
    if request.language not in LANGUAGES:
        raise BadUse(f"--lang {request.language}: expected {' or '.join(LANGUAGES)}")
    remote = Remote(request.rpc)
    if (found := remote.chain_id) != request.chain_id:
        raise CheckFailed(
            f"the deployment is of chain {request.chain_id}, the node at {request.rpc} of {found}"
        )
    with ExitStack() as stack:
        earlier = None
        if request.corrects is not None:
            earlier = stack.enter_context(Dossier(request.corrects))
            _check_earlier(earlier, request)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gridcommons-")))
        notify("Reading the chain's events")
        scope, events = _scope_and_events(request, remote, earlier, folder)
        _check_ledger(events, scope.period)
        spent = remote.spent(counted_transactions(events, scope.period))
        notify("Clearing and settling again")
        chain = chain_part(scope, events, spent)
        notify("Reading the lake")
        operator = operator_part(scope, events, chain)
        found_changes = None
        if earlier is not None:
            found_changes = changes(earlier.tables, all_tables(scope, chain, operator))
        tables = all_tables(scope, chain, operator, found_changes)
        bills = operator.bills if operator.bills is not None else _no_bills()
        content = Content(scope, tables, events, spent, bills)
        notify("Writing")
        return write(path, content, report.files(content))


def _no_bills() -> pa.Table:
    return bill_schema().empty_table()


def _check_earlier(earlier: Dossier, request: Request) -> None:
    earlier.check_frame()
    earlier.check_parts()
    if earlier.scope.period != request.period or earlier.scope.chain_id != request.chain_id:
        raise BadUse(
            f"{earlier.path} speaks of another period, zone or chain: a dossier corrects one of "
            "the same"
        )


def _scope_and_events(
    request: Request, remote: Remote, earlier: Dossier | None, folder: Path
) -> tuple[Scope, Events]:
    period = request.period
    head = remote.head()
    reader = _standing(request, remote, head.number, folder)
    _check_zone(reader, period.zone)
    # Past the rules of today nobody knows when a period in the future closes; that it is open is
    # plain.
    closes_at = closing_time(period, rules_of(reader))
    if head.timestamp <= closes_at:
        raise CheckFailed(
            f"the period is still open: what happened in it can change until {_said(closes_at)}, "
            f"the chain stands at {_said(head.timestamp)}"
        )
    as_of = closes_at
    if earlier is not None:
        as_of = max(closes_at, (head.timestamp - 1) // DAY * DAY)
        if as_of <= earlier.scope.as_of:
            raise CheckFailed(
                f"nothing to correct yet: {earlier.path} holds all up to "
                f"{_said(earlier.scope.as_of)}; the next state is that of midnight, UTC"
            )
    last = remote.last_block_until(as_of, request.first_block)
    since = period.before * SLOT_SECONDS - POSTING_SECONDS
    market = request.first_block
    if remote.block(market).timestamp < since:
        market = remote.last_block_until(since - 1, market).number + 1
    if not _serves(request.index, remote, last.number):
        reader = fetched(
            request.rpc, request.addresses, request.first_block, market, last.number, folder
        )
    else:
        assert request.index is not None
        reader = EventReader(request.index)
    names = sorted(request.addresses)
    codes = remote.code_hashes([request.addresses[name] for name in names])
    for name, code in zip(names, codes, strict=True):
        if not code:
            raise CheckFailed(f"there is no {name} at {request.addresses[name]} on {request.rpc}")
    scope = Scope(
        chain_id=request.chain_id,
        contracts={
            name: Placed(request.addresses[name], code)
            for name, code in zip(names, codes, strict=True)
        },
        period=period,
        first_block=request.first_block,
        market_block=market,
        last_block=last,
        as_of=as_of,
        closes_at=closes_at,
        tariffs=dict(request.tariffs),
        software=_software(),
        language=request.language,
        corrects=None if earlier is None else earlier.root,
    )
    return scope, select(reader, period, as_of)


def _standing(request: Request, remote: Remote, head: int, folder: Path) -> EventReader:
    """An index with the rules and the zones; the state folder's, or one read now."""
    if request.index is not None and _serves(request.index, remote, None):
        reader = EventReader(request.index)
        if reader.events("RuleDefined", contract="GridParameters", limit=1):
            return reader
    return fetched(request.rpc, request.addresses, request.first_block, head + 1, head, folder)


def _serves(index: Path | None, remote: Remote, last_block: int | None) -> bool:
    """Whether an index file is of this chain, and reaches to a block."""
    if index is None:
        return False
    reader = EventReader(index)
    try:
        cursor = reader.cursor()
        if cursor is None or (last_block is not None and cursor < last_block):
            return False
        return reader.block_hash(cursor) == remote.block(cursor).hash
    except CheckFailed:
        return False


def _check_zone(reader: EventReader, zone: int) -> None:
    known = sorted(
        {row["args"]["zone"] for row in reader.events("MeterRegistered", contract="MeterRegistry")}
    )
    if zone not in known:
        listed = ", ".join(str(one) for one in known) or "none"
        raise BadUse(f"zone {zone} is unknown; the chain knows {listed}")


def _check_ledger(events: Events, period: Period) -> None:
    _, _, homes = totals(events, period.first_slot, period.end_slot)
    missing = (homes == 0).nonzero()[0]
    if missing.size:
        slot = period.first_slot + int(missing[0])
        raise CheckFailed(
            f"batches are missing: the ledger of zone {period.zone} has no readings of "
            f"{slot_start(slot):%Y-%m-%d %H:%M} UTC, {missing.size} quarter-hours in all"
        )


def _said(when: int) -> str:
    return f"{datetime.fromtimestamp(when, UTC):%Y-%m-%d %H:%M} UTC"


def _software() -> str:
    try:
        return f"gridcommons {metadata.version('gridcommons')}"
    except metadata.PackageNotFoundError:
        return "gridcommons, from a checkout"
