# SPDX-License-Identifier: Apache-2.0
"""Whether a dossier is complete and unaltered: in itself, and against the chain where a node is at
hand. Needs the file and the node, nothing else: no lake, no index, no compiled contracts.

    file      the zip holds its parts and nothing else, each with the hash that the manifest says
    tables    each has its columns; the CSV says what the Parquet says
    totals    every table and figure that follows from events comes out of them again
    clearing, settlement    prices, fills and payments, computed again from books and rules
    operator  what only the operator can say: consistent with the ledger, no group too small
    bills     the closed bills give the root in the manifest
    chain, events, ledger, gas, anchor    the same on the chain that a node tells of
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dao.audit import anchor, report
from dao.audit.bills import (
    BillSecrets,
    TradeSums,
    bills_root,
    open_bill,
    trade_sums,
)
from dao.audit.build import (
    DERIVED,
    OPERATOR_TABLES,
    ChainPart,
    OperatorPart,
    all_tables,
    chain_part,
)
from dao.audit.operator_rules import fault_of_operator
from dao.audit.package import Dossier, csv_difference
from dao.audit.records import counted_transactions
from dao.audit.remote import Remote, fetch
from dao.audit.scope import POSTING_SECONDS, Events, Scope, args_text, closing_time, select
from dao.audit.tables import TABLES
from dao.errors import CheckFailed
from dao.ledger import unpack_totals
from dao.node import Addresses
from dao.rpc import Refused
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from dao.treasury import Kind, Payment, next_hash

if TYPE_CHECKING:
    import pyarrow as pa

State = Literal["passed", "failed", "not checked"]

LOCAL = ("file", "tables", "totals", "clearing", "settlement", "operator", "bills", "report")
ON_CHAIN = ("contracts", "chain", "events", "ledger", "spending", "gas", "anchor")


@dataclass(frozen=True)
class Check:
    """What was looked at, how it ended, and one line about it."""

    name: str
    state: State
    detail: str


def verify(
    dossier: Dossier,
    remote: Remote | None,
    known: Addresses | None = None,
    *,
    named: bool = False,
    must_be_anchored: bool = False,
    notify: Callable[[str], None] = lambda _: None,
) -> list[Check]:
    """All checks in order. Once one has failed, those that rest on it are `not checked`.

    known: the deployment that the reader trusts; named: the reader said where it is written down,
    so another chain is a fault too. CheckFailed where the node does not answer.
    """
    if remote is not None:
        _ = remote.chain_id  # a node that is away says nothing about the dossier
    return _Run(dossier, remote, known, named, must_be_anchored, notify).all()


@dataclass(eq=False)
class _Run:
    dossier: Dossier
    remote: Remote | None
    known: Addresses | None
    named: bool
    must_be_anchored: bool
    notify: Callable[[str], None]

    def all(self) -> list[Check]:
        checks: list[Check] = []
        broken = False
        steps: list[tuple[str, Callable[[], str]]] = [
            (name, getattr(self, f"_{name}")) for name in (*LOCAL, *ON_CHAIN)
        ]
        for name, step in steps:
            if name in ON_CHAIN and name != "contracts" and self.remote is None:
                checks.append(Check(name, "not checked", "needs a node: --rpc URL"))
                continue
            if broken:
                checks.append(Check(name, "not checked", "what it rests on does not hold"))
                continue
            self.notify(name)
            try:
                said = step()
            except _NotChecked as why:
                checks.append(Check(name, "not checked", str(why)))
            except CheckFailed as error:
                checks.append(Check(name, "failed", str(error)))
                broken = True
            except (ValueError, LookupError, TypeError, ArithmeticError, AttributeError) as error:
                # Parts whose hashes are right and whose content nobody would write.
                text = f"{type(error).__name__} in what the dossier holds: {error}"
                checks.append(Check(name, "failed", text[:300]))
                broken = True
            else:
                checks.append(Check(name, "passed", said))
        return checks

    # In the file

    def _file(self) -> str:
        self.dossier.check_frame()
        count = self.dossier.check_parts()
        expected = {f"data/{name}.{kind}" for name in TABLES for kind in ("csv", "parquet")}
        missing = sorted(expected - set(self.dossier.paths))
        if missing:
            raise CheckFailed(f"the dossier has no {missing[0]}")
        return f"{count} parts, root {self.dossier.root}"

    def _tables(self) -> str:
        rows = 0
        for name, table in self.dossier.tables.items():
            rows += table.num_rows
            data = self.dossier.read(f"data/{name}.csv")
            if (fault := csv_difference(data, table, TABLES[name])) is not None:
                raise CheckFailed(f"data/{name}.csv is not data/{name}.parquet: {fault}")
        return f"{len(TABLES)} tables, {rows:,} rows, each the same as CSV and as Parquet"

    def _totals(self) -> str:
        scope, events = self.dossier.scope, self.dossier.events
        belongs = set(counted_transactions(events, scope.period))
        if belongs != set(self.dossier.spent):
            odd = sorted(belongs ^ set(self.dossier.spent))[0]
            raise CheckFailed(f"proofs/transactions.parquet: {odd} is missing or does not belong")
        if closing_time(scope.period, events.rules) != scope.closes_at:
            raise CheckFailed("the manifest says another time at which the period closes")
        chain = self.chain
        tables = self.dossier.tables
        operator = OperatorPart({name: tables[name] for name in OPERATOR_TABLES})
        again = all_tables(scope, chain, operator, tables["changes"])
        for name in TABLES:
            if name in OPERATOR_TABLES or name == "changes":
                continue
            if (fault := difference(again[name], tables[name])) is not None:
                raise CheckFailed(f"data/{name}.parquet: {fault}")
        count = len(TABLES) - len(OPERATOR_TABLES) - len(DERIVED) + 1
        return f"{count} tables come out of {len(events.rows):,} events again"

    def _clearing(self) -> str:
        self._no_fault("slot ")
        table = self.dossier.tables["clearing"]
        wrong = {
            name: int(np.asarray(table[name].combine_chunks().fill_null(0)).sum())
            for name in ("unbalanced_wh", "irrational", "envious")
        }
        for name, count in wrong.items():
            if count:
                raise CheckFailed(f"data/clearing.parquet: {name} comes to {count}, not to 0")
        return f"{table.num_rows:,} auctions cleared again from their books"

    def _settlement(self) -> str:
        self._no_fault("session ")
        count = self.dossier.tables["sessions"].num_rows
        return f"{count:,} sessions settled again; every escrow is credited or a fee"

    def _operator(self) -> str:
        if (fault := fault_of_operator(self.dossier.tables, self.dossier.scope)) is not None:
            raise CheckFailed(fault)
        return "consistent with the ledger; on the operator's word else"

    def _bills(self) -> str:
        found = "0x" + bills_root(self.dossier.bills).hex()
        if found != self.dossier.manifest.bills_root:
            raise CheckFailed(
                f"proofs/bills.parquet gives the root {found}, the manifest has another"
            )
        keys = [(row["account"], row["month"]) for row in self.dossier.bills.to_pylist()]
        if keys != sorted(set(keys)):
            raise CheckFailed("proofs/bills.parquet: a bill stands twice, or in another order")
        return f"{len(keys)} closed bills under {found}"

    def _report(self) -> str:
        try:
            fault = report.check(self.dossier.content(), self.dossier.read)
        except report.NotCompared as why:
            raise _NotChecked(str(why)) from None
        if fault is not None:
            raise CheckFailed(fault)
        return "what is told beside the tables"

    @cached_property
    def chain(self) -> ChainPart:
        """What follows from the dossier's events."""
        return chain_part(self.dossier.scope, self.dossier.events, self.dossier.spent)

    def _no_fault(self, kind: str) -> None:
        for fault in self.chain.faults:
            if fault.startswith(kind):
                raise CheckFailed(fault)

    # On the chain

    def _contracts(self) -> str:
        scope = self.dossier.scope
        if self.known is None or (not self.named and self.known.chain_id != scope.chain_id):
            raise _NotChecked(
                "compare them with those you know: "
                + ", ".join(
                    f"{name} {scope.contracts[name].address}"
                    for name in ("ReadingLedger", "EnergyMarket", "DossierAnchor")
                    if name in scope.contracts
                )
            )
        if self.known.chain_id != scope.chain_id:
            raise CheckFailed(
                f"the dossier is of chain {scope.chain_id}, the deployment of chain "
                f"{self.known.chain_id}"
            )
        for name, address in sorted(self.known.contracts.items()):
            placed = scope.contracts.get(name)
            if placed is None or placed.address != address:
                raise CheckFailed(f"the dossier's {name} is another one than {address}")
        return f"{len(scope.contracts)} contracts are those of the deployment"

    def _chain(self) -> str:
        scope, remote = self.dossier.scope, self._node
        if (found := remote.chain_id) != scope.chain_id:
            raise CheckFailed(f"the dossier is of chain {scope.chain_id}, this node is of {found}")
        names = sorted(scope.contracts)
        codes = remote.code_hashes([scope.contracts[name].address for name in names])
        for name, code in zip(names, codes, strict=True):
            if code != scope.contracts[name].code:
                said = "no code" if not code else "other code"
                raise CheckFailed(
                    f"{name}: the chain has {said} at {scope.contracts[name].address}"
                )
        last = remote.block(scope.last_block.number)
        if last != scope.last_block:
            raise CheckFailed(f"block {last.number} is another one on the chain: {last.hash}")
        self._check_span(scope, remote)
        return (
            f"chain {scope.chain_id}, blocks {scope.first_block} to {last.number}, "
            f"{len(names)} contracts with the code they had"
        )

    def _check_span(self, scope: Scope, remote: Remote) -> None:
        """That no block which can hold an event of the period lies outside the dossier's."""
        if scope.as_of < scope.closes_at:
            raise CheckFailed("the dossier ends before its period was closed")
        if scope.last_block.timestamp > scope.as_of:
            raise CheckFailed(f"block {scope.last_block.number} is later than the dossier's end")
        if remote.head().number > scope.last_block.number:
            after = remote.block(scope.last_block.number + 1)
            if after.timestamp <= scope.as_of:
                raise CheckFailed(
                    f"the blocks end at {scope.last_block.number}, block {after.number} belongs too"
                )
        else:
            raise CheckFailed(
                f"the chain ends at block {scope.last_block.number}: the period is open"
            )
        since = scope.period.before * SLOT_SECONDS - POSTING_SECONDS
        if not scope.first_block <= scope.market_block <= scope.last_block.number:
            raise CheckFailed("the market's first block lies outside the dossier's blocks")
        if scope.market_block > scope.first_block:
            earlier = remote.block(scope.market_block - 1)
            if earlier.timestamp >= since:
                raise CheckFailed(
                    f"the market's blocks begin too late: {earlier.number} belongs too"
                )
        names = sorted(scope.contracts)
        if scope.first_block > 0:
            try:
                codes = remote.code_hashes(
                    [scope.contracts[name].address for name in names if name != "TestEuro"],
                    hex(scope.first_block - 1),
                )
            except Refused:
                return  # a node that keeps no old states; the registry's counts are asked below
            if any(codes):
                raise CheckFailed(
                    f"the blocks begin at {scope.first_block}, contracts were there before"
                )

    def _events(self) -> str:
        scope = self.dossier.scope
        with tempfile.TemporaryDirectory(prefix="gridcommons-") as folder:
            reader = fetch(self._node.url, scope, Path(folder))
            there = select(reader, scope.period, scope.as_of)
        compare_events(self.dossier.events, there)
        self._check_counts(scope)
        return f"{len(there.rows):,} events are those of the chain, none is missing"

    def _check_counts(self, scope: Scope) -> None:
        """Events since the deployment cannot be left out by beginning later: numbers tell."""
        seen = {row.args["meter"] for row in self.dossier.events.of("MeterRegistered")}
        address = scope.contracts["MeterRegistry"].address
        ((count,),) = self._node.views([(address, "meter_count()", [])])
        unseen = [number for number in range(1, count + 1) if number not in seen]
        points = self._node.views([(address, "metering_point(uint256)", [n]) for n in unseen])
        late = set()
        for number, point in zip(unseen, points, strict=True):
            if point[1] == scope.period.zone:
                late.add(number)
        # Registered after the dossier's end: they are not in it, and need not be.
        if late and min(late) < max(seen, default=0):
            raise CheckFailed(f"meter {min(late)} of the zone is missing among the events")

    def _ledger(self) -> str:
        scope = self.dossier.scope
        ledger, zone = scope.contracts["ReadingLedger"].address, scope.period.zone
        batches = self.dossier.tables["batches"].to_pylist()
        roots = self._node.views(
            [
                (ledger, "root_of(uint256,uint256,uint256)", [zone, b["first_slot"], b["version"]])
                for b in batches
            ]
        )
        for batch, (root,) in zip(batches, roots, strict=True):
            if f"0x{root:064x}" != batch["root"]:
                raise CheckFailed(f"the ledger has another root for batch {batch['first_slot']}")
        period = scope.period
        days = range(period.first_slot, period.end_slot, SLOTS_PER_DAY)
        answers = self._node.views(
            [
                (ledger, "totals(uint256,uint256,uint256)", [zone, day, SLOTS_PER_DAY])
                for day in days
            ]
        )
        table = self.dossier.tables["slots"]
        mine = np.asarray(table["net_wh"]), np.asarray(table["export_wh"])
        for day, answer in zip(days, answers, strict=True):
            lanes = answer[2:]
            if len(lanes) != SLOTS_PER_DAY:
                raise CheckFailed(f"the ledger tells {len(lanes)} totals from slot {day} on")
            words = [
                sum(lane << (64 * i) for i, lane in enumerate(lanes[at : at + 4]))
                for at in range(0, len(lanes), 4)
            ]
            net, export = unpack_totals(words, SLOTS_PER_DAY)
            here = slice(day - period.first_slot, day - period.first_slot + SLOTS_PER_DAY)
            wrong = np.flatnonzero((mine[0][here] != net) | (mine[1][here] != export))
            if wrong.size:
                raise CheckFailed(f"the ledger has other totals for slot {day + int(wrong[0])}")
        return f"{len(batches)} roots and {period.slots:,} totals stand on the ledger"

    def _spending(self) -> str:
        """The payments' own chain of hashes; its head is asked for at the dossier's last block."""
        scope, head, total = self.dossier.scope, bytes(32), 0
        rows = self.dossier.events.of("Payment", "Treasury")
        for number, row in enumerate(rows, 1):
            payment = Payment(**{**row.args, "kind": Kind(row.args["kind"])})
            if payment.number != number:
                raise CheckFailed(f"payment {number} is missing; the next one is {payment.number}")
            head, total = next_hash(head, payment), total + payment.amount
        treasury = scope.contracts["Treasury"].address
        try:
            (found,), (paid,) = self._node.views(
                [(treasury, "spending_hash()", ()), (treasury, "total_paid()", ())],
                hex(scope.last_block.number),
            )
        except Refused:
            raise _NotChecked("the node keeps no states of the past") from None
        if found.to_bytes(32, "big") != head or paid != total:
            raise CheckFailed(
                f"the treasury paid {paid} µ€ under another hash, the events say {total}"
            )
        return f"{len(rows)} payments since the deployment, {total / 1e6:,.2f} €, none left out"

    def _gas(self) -> str:
        there = self._node.spent(self.dossier.spent)
        for tx, said in sorted(self.dossier.spent.items()):
            if there[tx] != said:
                raise CheckFailed(
                    f"transaction {tx} used {there[tx][0]} gas, the dossier says {said[0]}"
                )
        return f"{len(there):,} transactions used what the dossier says"

    def _anchor(self) -> str:
        scope, root = self.dossier.scope, self.dossier.root
        placed = scope.contracts.get("DossierAnchor")
        if placed is None:
            return self._unanchored("this deployment has no anchor")
        period = scope.period
        found = anchor.anchored(self._node, placed.address, root)
        if found is None:
            other = anchor.latest(
                self._node, placed.address, period.zone, period.first_slot, period.slots
            )
            if other is not None and other != scope.corrects:
                raise CheckFailed(
                    f"not the dossier that was published for this period: that is {other}"
                )
            return self._unanchored("nobody has published this dossier")
        if (found.zone, found.first_slot, found.slots) != (
            period.zone,
            period.first_slot,
            period.slots,
        ):
            raise CheckFailed("the root was published for another zone or period")
        if found.corrects != scope.corrects:
            raise CheckFailed(f"the chain says that it corrects {found.corrects}")
        later = f"; corrected since by {found.corrected_by}" if found.corrected_by else ""
        return f"published by the collector {found.publisher} at {found.published_at}{later}"

    def _unanchored(self, why: str) -> str:
        text = f"NOT ANCHORED: {why}"
        if self.must_be_anchored:
            raise CheckFailed(text)
        raise _NotChecked(text)

    @property
    def _node(self) -> Remote:
        assert self.remote is not None
        return self.remote


class _NotChecked(Exception):
    """Why a check could not be made."""


# Comparing


def difference(mine: pa.Table, told: pa.Table) -> str | None:
    """The first cell in which a table is not what it should be; None where it is."""
    if mine.num_rows == told.num_rows and mine.equals(told):
        return None
    rows = min(mine.num_rows, told.num_rows)
    first: tuple[int, str] | None = None
    for name in mine.column_names:
        ours, theirs = mine[name].slice(0, rows), told[name].slice(0, rows)
        if ours.equals(theirs):
            continue
        at = _first_unequal(ours.to_pylist(), theirs.to_pylist())
        if at is not None and (first is None or at < first[0]):
            first = at, name
    if first is not None:
        at, name = first
        said, expected = told[name][at].as_py(), mine[name][at].as_py()
        return f"row {at + 1}: {name} is {_short(said)}, the events give {_short(expected)}"
    if mine.num_rows == told.num_rows:
        return None
    return f"{told.num_rows} rows, the events give {mine.num_rows}"


def _first_unequal(mine: list[Any], told: list[Any]) -> int | None:
    for at, (one, other) in enumerate(zip(mine, told, strict=True)):
        if one != other:
            return at
    return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def compare_events(mine: Events, there: Events) -> None:
    """Raise where the dossier's events are not those of the chain, naming the first."""
    for at, row in enumerate(there.rows):
        place = f"{row.contract}.{row.event} in block {row.block}, log {row.log_index}"
        if at >= len(mine.rows):
            raise CheckFailed(f"the dossier lacks the event {place}")
        own = mine.rows[at]
        if (own.block, own.log_index) != (row.block, row.log_index):
            if (own.block, own.log_index) > (row.block, row.log_index):
                raise CheckFailed(f"the dossier lacks the event {place}")
            raise CheckFailed(
                f"the dossier has an event that is not on the chain, or does not belong: "
                f"{own.contract}.{own.event} in block {own.block}, log {own.log_index}"
            )
        if own[:-1] != row[:-1] or args_text(own.args) != args_text(row.args):
            raise CheckFailed(f"the event {place} is another one on the chain")
    if len(mine.rows) > len(there.rows):
        own = mine.rows[len(there.rows)]
        raise CheckFailed(
            f"the dossier has an event that is not on the chain: {own.contract}.{own.event} in "
            f"block {own.block}"
        )


# A resident's bill


def check_bills(dossier: Dossier, secrets: BillSecrets) -> list[Check]:
    """Whether a home's bills are in the dossier, and right. Nothing leaves this machine."""
    checks = []
    table, scope, root = dossier.bills, dossier.scope, dossier.manifest.bills_root
    sums = trade_sums(dossier.tables["orders"])
    there = {row["month"] for row in table.to_pylist() if row["account"] == secrets.account}
    months = sorted(there & set(secrets.months)) or sorted(secrets.months)
    for month in months:
        name = f"bill {month}"
        try:
            bill = open_bill(scope, table, root, secrets.account, month, secrets.months[month])
        except CheckFailed as error:
            checks.append(Check(name, "failed", str(error)))
            continue
        mine = sums.get((secrets.account, month), TradeSums())
        told = TradeSums(bill.orders, bill.sold_wh, bill.received, bill.bought_wh, bill.paid)
        metered = f"drew {bill.import_wh / 1000:,.3f} kWh, fed in {bill.export_wh / 1000:,.3f} kWh"
        if bill.known_slots < bill.slots:
            metered += f" ({bill.slots - bill.known_slots} quarter-hours unknown)"
        traded = (
            f"sold {bill.sold_wh / 1000:,.3f} kWh for {bill.received / 1e6:,.2f} €, bought "
            f"{bill.bought_wh / 1000:,.3f} kWh for {bill.paid / 1e6:,.2f} €"
        )
        own = secrets.metered.get(month)
        if told != mine:
            text = "its trades are not those of the account's orders in the dossier"
            checks.append(Check(name, "failed", text))
        elif own is not None and own != (bill.import_wh, bill.export_wh):
            text = f"it says: {metered}; your own meter says {own[0]} Wh and {own[1]} Wh"
            checks.append(Check(name, "failed", text))
        else:
            checks.append(Check(name, "passed", f"in the dossier: {metered}; {traded}"))
    return checks
