# SPDX-License-Identifier: Apache-2.0
"""What is due on chain and late, whose money pays the gas, and what devices said last.

Read from the index of events and from a node; nothing is sent. What keeps a session or a vote from
going on is the keeper's own business: here is only whether somebody should look.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from dao.eip712 import checksum_address
from dao.errors import CheckFailed
from dao.index import EventReader
from dao.json_input import loads
from dao.node import Node
from dao.parameters import HOUR, MARKET_RULES
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from dao.status import LOCAL_CHAIN, Part, Places, State, gathered, utc

_RULES = {rule.name: rule.initial for rule in MARKET_RULES}
# A batch is due so long after its end, and late so long after that.
BATCH_DELAY_S = 1_800
LATE_S = HOUR
CLEAR_LATE_S = 1_800
# Of what is older nobody would do anything today.
_BACK_S = 8 * 24 * HOUR
_MOST_SESSIONS = 400
_MOST_PROPOSALS = 20
_LOW_TRANSACTIONS = 100
"""With money for fewer the account wants more."""
_SUCCEEDED, _QUEUED = 4, 5
# The event that tells who does the work of a role: its newest transaction's sender.
_ROLES = (
    ("relay", "OrdersPosted", "EnergyMarket"),
    ("keeper", "SlotCleared", "EnergyMarket"),
    ("collector", "BatchCommitted", "ReadingLedger"),
    ("forecaster", "ForecastCommitted", "ForecastRegistry"),
)


def look_due(places: Places, deadline_s: float | None = None) -> list[Part]:
    """What is due and late, as of the node's time, else of the index's. Nothing without an index:
    then nobody has followed the chain here."""
    reader = EventReader(places.home / "index.sqlite")
    if not reader.db_path.exists():
        return []
    seconds = reader.timestamp()
    if seconds is None:
        return []
    # A local chain's time is simulated; elsewhere an index that stopped must not stop the clock.
    now = seconds if places.chain_id == LOCAL_CHAIN else max(seconds, round(time.time()))
    zone = places.zone
    looks: dict[str, Callable[[], list[Part]]] = {
        "index": lambda: [_index(places, reader, seconds)],
        "readings": lambda: [_readings(reader, zone, now)],
        "clearing": lambda: [_sessions(reader, zone, now, cleared=True)],
        "settlement": lambda: [_sessions(reader, zone, now, cleared=False)],
        "forecast": lambda: [_forecast(reader, zone, now)],
        "votes": lambda: [_votes(places, reader)],
        "gas": lambda: _gas(places, reader),
        "devices": lambda: [_devices(places.home, now)],
    }
    return gathered({name: _guarded(name, one) for name, one in looks.items()}, deadline_s)


def _guarded(name: str, look: Callable[[], list[Part]]) -> Callable[[], list[Part]]:
    def guarded() -> list[Part]:
        try:
            return look()
        except CheckFailed as error:
            away = isinstance(error.__cause__, OSError)
            return [Part(name, State.UNCHECKED, str(error), "no-node" if away else "unreadable")]

    return guarded


def _index(places: Places, reader: EventReader, seconds: int) -> Part:
    """Whether the index follows the chain: without a node only how far it has read."""
    block = reader.cursor()
    about = f"read up to block {block} of {utc(seconds)}"
    facts = {"block": block, "time": seconds}
    try:
        head = seconds if places.rpc is None else places.node().now()
    except CheckFailed:
        head = seconds  # that the node is away is said of the node
    behind = max(head - seconds, 0)
    late = behind > LATE_S
    if late:
        about = f"{about}, {behind} s behind the chain"
    return Part(
        "index",
        State.WRONG if late else State.WELL,
        about,
        "index-late" if late else "index",
        {**facts, "behind_s": behind},
    )


def _readings(reader: EventReader, zone: int, now: int) -> Part:
    rows = reader.events(
        "BatchCommitted",
        contract="ReadingLedger",
        match={"zone": zone},
        limit=1,
        newest_first=True,
    )
    if not rows:
        return Part("readings", State.UNCHECKED, "no batch is committed yet", "none")
    args = rows[0]["args"]
    end = (args["first_slot"] + args["slots"]) * SLOT_SECONDS
    due = end + args["slots"] * SLOT_SECONDS + BATCH_DELAY_S
    facts = {"until": end, "due": due, "late_s": max(now - due, 0)}
    about = f"committed until {utc(end)}, the next batch is due at {utc(due)}"
    if now - due > LATE_S:
        return Part("readings", State.WRONG, f"{about} and late", "batch-late", facts)
    return Part("readings", State.WELL, about, "batch", facts)


def _sessions(reader: EventReader, zone: int, now: int, *, cleared: bool) -> Part:
    """Sessions past their gate that are not cleared, or past their delivery and not settled."""
    name = "clearing" if cleared else "settlement"
    since = now - _BACK_S

    def done(event: str) -> dict[int, int]:
        return _slots_of(reader, event, zone, since)

    counts = done("SlotCleared" if cleared else "SlotSettled")
    cleared_slots = counts if cleared else done("SlotCleared")
    voided = {row["args"]["first_slot"] for row in _recent(reader, "SessionVoided", zone, since)}
    due = late = oldest = 0
    for row in _recent(reader, "SessionOpened", zone, since):
        args = row["args"]
        first, slots = int(args["first_slot"]), int(args["slots"])
        wanted = range(first, first + slots)
        has = sum(slot in counts for slot in wanted)
        if cleared:
            begins = int(args["gate"])
            open_slots = 0 if first in voided else slots - has
            patience = CLEAR_LATE_S
        else:
            begins = (first + slots) * SLOT_SECONDS
            open_slots = sum(slot in cleared_slots for slot in wanted) - has
            patience = _RULES["receipt_period"] + LATE_S
        if open_slots <= 0 or begins > now:
            continue
        due += 1
        oldest = min(oldest or begins, begins)
        late += now > begins + patience
    facts = {"open": due, "late": late, "oldest": oldest}
    if late:
        about = f"{late} of {due} sessions are late, the oldest since {utc(oldest)}"
        return Part(name, State.WRONG, about, f"{name}-late", facts)
    about = f"{due} sessions are due" if due else "nothing is due"
    return Part(name, State.WELL, about, name if due else "nothing-due", facts)


def _recent(reader: EventReader, event: str, zone: int, since: int) -> list[dict[str, Any]]:
    return reader.events(
        event,
        contract="EnergyMarket",
        match={"zone": zone},
        first_time=since,
        limit=_MOST_SESSIONS,
        newest_first=True,
    )


def _slots_of(reader: EventReader, event: str, zone: int, since: int) -> dict[int, int]:
    """The slots that an event was seen of, lately."""
    rows = reader.events(
        event,
        contract="EnergyMarket",
        match={"zone": zone},
        first_time=since,
        limit=_MOST_SESSIONS * SLOTS_PER_DAY,
        newest_first=True,
    )
    return {int(row["args"]["slot"]): 1 for row in rows}


def _forecast(reader: EventReader, zone: int, now: int) -> Part:
    """Whether tomorrow's forecast was committed in time. Nobody's fault where nobody forecasts."""
    rows = reader.events(
        "ForecastCommitted",
        contract="ForecastRegistry",
        match={"zone": zone},
        limit=50,
        newest_first=True,
    )
    if not rows:
        return Part("forecast", State.UNCHECKED, "nobody forecasts this zone", "none")
    tomorrow = (now // SLOT_SECONDS // SLOTS_PER_DAY + 1) * SLOTS_PER_DAY
    deadline = tomorrow * SLOT_SECONDS - _RULES["forecast_lead"]
    facts = {"day": tomorrow * SLOT_SECONDS, "deadline": deadline}
    if any(int(row["args"]["first_slot"]) >= tomorrow for row in rows):
        return Part("forecast", State.WELL, "tomorrow's is committed", "committed", facts)
    if now <= deadline:
        about = f"tomorrow's is due until {utc(deadline)}"
        return Part("forecast", State.WELL, about, "forecast-due", facts)
    return Part("forecast", State.WRONG, "tomorrow's was not committed", "forecast-late", facts)


def _votes(places: Places, reader: EventReader) -> Part:
    """Votes that passed and wait to be queued or executed; the governor says which."""
    addresses = places.addresses
    if addresses is None or "GridGovernor" not in addresses.contracts:
        return Part("votes", State.UNCHECKED, "no governor is known", "none")
    over = {
        str(row["args"]["proposalId"])
        for event in ("ProposalExecuted", "ProposalCanceled")
        for row in reader.events(
            event, contract="GridGovernor", limit=_MOST_SESSIONS, newest_first=True
        )
    }
    rows = reader.events(
        "ProposalCreated", contract="GridGovernor", limit=_MOST_PROPOSALS, newest_first=True
    )
    open_ids = [
        int(row["args"]["proposalId"]) for row in rows if str(row["args"]["proposalId"]) not in over
    ]
    waiting = 0
    if open_ids:
        node = _own_node(places)
        states = [
            node.view(addresses["GridGovernor"], "state(uint256)", number)[0] for number in open_ids
        ]
        waiting = sum(state in (_SUCCEEDED, _QUEUED) for state in states)
    about = f"{waiting} passed votes wait to be executed" if waiting else "nothing is due"
    return Part(
        "votes", State.WELL, about, "votes" if waiting else "nothing-due", {"open": waiting}
    )


def _gas(places: Places, reader: EventReader) -> list[Part]:
    """For each role that pays gas: what its account holds, and for how many of its newest
    transaction that lasts at today's price."""
    node = _own_node(places)
    price = _hex(node.ask("eth_gasPrice"))
    found = []
    for role, event, contract in _ROLES:
        rows = reader.events(event, contract=contract, limit=1, newest_first=True)
        if not rows:
            continue
        receipt = node.ask("eth_getTransactionReceipt", rows[0]["tx"])
        if not isinstance(receipt, dict):
            continue
        account, gas = _account(receipt.get("from")), _hex(receipt.get("gasUsed"))
        held = _hex(node.ask("eth_getBalance", account, "latest"))
        left = held // max(price * gas, 1)
        facts: dict[str, int | str | None] = {
            "role": role,
            "account": account,
            "gwei": held // 10**9,
            "left": left,
        }
        low = left < _LOW_TRANSACTIONS
        about = (
            f"{role} {account} holds {held / 1e18:.4f} ETH, "
            f"enough for {min(left, 10**9):,} of its transactions"
        )
        code = "gas-low" if low else "gas"
        found.append(Part("gas", State.WRONG if low else State.WELL, about, code, facts))
    return found


def _own_node(places: Places) -> Node:
    """The node, of the chain that the index follows."""
    node = places.node()
    if places.chain_id is not None and node.chain_id != places.chain_id:
        raise CheckFailed("the node is of another chain than the deployment")
    return node


def _account(value: object) -> str:
    try:
        return checksum_address(str(value))
    except ValueError:
        raise CheckFailed("what answers is not an Ethereum node") from None


def _hex(value: object) -> int:
    try:
        return int(str(value), 16)
    except ValueError:
        raise CheckFailed("what answers is not an Ethereum node") from None


def _devices(home: Path, now: int) -> Part:
    """What called devices reported in the last day, over all: neither whose nor what they did."""
    slot = now // SLOT_SECONDS
    newest = calls = taken = 0
    for path, table, column in (
        (home / "battery" / "outbox.sqlite", "reports", "document"),
        (home / "dispatch.sqlite", "report", "report"),
    ):
        for found, text in _rows(path, table, column, slot - SLOTS_PER_DAY):
            try:
                acknowledged = loads(text).get("acknowledged")
            except (ValueError, AttributeError):
                continue
            newest, calls = max(newest, found), calls + 1
            taken += acknowledged is not None
    if not calls:
        return Part("devices", State.UNCHECKED, "no report in the last day", "none")
    end = (newest + 1) * SLOT_SECONDS
    facts = {"calls": calls, "taken": taken, "until": end}
    about = f"{taken} of {calls} calls of the last day acknowledged, the newest of {utc(end)}"
    well = taken == calls
    return Part("devices", State.WELL if well else State.WRONG, about, "devices", facts)


def _rows(path: Path, table: str, column: str, first_slot: int) -> list[tuple[int, str]]:
    if not path.exists():
        return []
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=2.0)) as db:
            return list(
                db.execute(
                    f"SELECT slot, {column} FROM {table} WHERE slot >= ? "
                    "ORDER BY slot DESC LIMIT 20000",
                    (first_slot,),
                ).fetchall()
            )
    except sqlite3.Error as error:
        raise CheckFailed(f"{path.name} cannot be read: {error}") from None
