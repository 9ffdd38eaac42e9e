# SPDX-License-Identifier: Apache-2.0
"""Tables of how the machine did: forecasts and their scores, what went wrong, money moved, gas."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dao.audit.energy import totals
from dao.audit.market import Replay, start_text
from dao.audit.scope import EventRow, Events, Period, Scope
from dao.audit.tables import TABLES
from dao.forecasts import unpack_quantiles
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY, day_of

if TYPE_CHECKING:
    import pyarrow as pa

REASONS = {
    1: "unknown account",
    2: "malformed",
    3: "expired",
    4: "energy bound",
    5: "number used",
    6: "too many open",
    7: "balance too low",
    8: "bad signature",
    9: "no mandate",
    10: "beyond the mandate",
}
"""Why the contract turns an order away, as docs/market.md has it."""

MAINNET_WH_PER_YEAR = 2_601_000_000
"""Ethereum after the Merge: CCRI, "The Merge: Implications on the Electricity Consumption and
Carbon Footprint of the Ethereum Network", September 2022: 2,601 MWh a year."""
MAINNET_GAS_PER_YEAR = 15_000_000 * 7_200 * 365
"""At that time's target of 15 million gas a block, a block every 12 seconds."""

PURPOSES: tuple[tuple[str, str], ...] = (
    ("BatchCommitted", "readings committed"),
    ("BatchCorrected", "readings corrected"),
    ("OrdersPosted", "orders posted"),
    ("OrderRejected", "orders posted"),
    ("SlotCleared", "sessions cleared"),
    ("SlotSettled", "sessions settled"),
    ("OrdersSettled", "sessions settled"),
    ("SessionVoided", "sessions voided"),
    ("AdjustmentRecorded", "late corrections"),
    ("ForecastCommitted", "forecasts"),
    ("ForecastRevealed", "forecasts"),
    ("ForecastScored", "forecasts scored"),
    ("DayUnscored", "forecasts scored"),
    ("ForecastMissed", "forecasts scored"),
    ("ProposalCreated", "proposals"),
    ("VoteCast", "ballots"),
    ("BallotRejected", "ballots"),
    ("ProposalQueued", "proposals"),
    ("ProposalExecuted", "proposals"),
    ("ProposalCanceled", "proposals"),
    ("Payment", "spending"),
    ("Deposited", "deposits and withdrawals"),
    ("Withdrawn", "deposits and withdrawals"),
    ("FeesCollected", "deposits and withdrawals"),
)
"""An event and what its transaction did; the first one of a transaction names it. Transactions of
the period before, and of what stands since the deployment, are not counted."""


# Forecasts


def forecast_tables(events: Events, period: Period) -> dict[str, pa.Table]:
    """The tables forecasts and scores."""
    first, end = period.first_slot, period.end_slot
    net, _, homes = totals(events, first, end)
    windowed = events.rules.windowed(first, period.slots)
    rows: list[tuple[Any, ...]] = []
    for row in events.of("ForecastRevealed", "ForecastRegistry"):
        day = row.args["first_slot"]
        low, middle, high = unpack_quantiles(row.args["words"]).tolist()
        for at, slot in enumerate(range(day, day + SLOTS_PER_DAY)):
            if not period.has(slot) or not homes[slot - first]:
                continue
            measured = int(net[slot - first])
            rows.append(
                (
                    slot,
                    start_text(slot),
                    row.args["forecaster"],
                    low[at],
                    middle[at],
                    high[at],
                    measured,
                    low[at] <= measured <= high[at],
                    slot in windowed,
                )
            )
    return {"forecasts": TABLES["forecasts"].of_rows(rows), "scores": _scores(events)}


def _scores(events: Events) -> pa.Table:
    days: dict[tuple[int, str], dict[str, Any]] = defaultdict(
        lambda: {"state": "committed", "slashed": 0, "rewarded": 0}
    )

    def told(name: str) -> list[tuple[EventRow, dict[str, Any]]]:
        rows = events.of(name, "ForecastRegistry")
        return [(row, days[row.args["first_slot"], row.args["forecaster"]]) for row in rows]

    for row, day in told("ForecastCommitted"):
        day["commitment"] = row.args["commitment"]
    for row, day in told("ForecastRevealed"):
        day["state"], day["evidence"] = "revealed", row.args["evidence_hash"]
    for row, day in told("ForecastScored"):
        day["state"] = "scored"
        for name in ("loss", "naive_loss", "slots_scored"):
            day[name] = row.args[name]
    for name, state in (("DayUnscored", "unscored"), ("ForecastMissed", "missed")):
        for _, day in told(name):
            day["state"] = state
    for name, key in (("BondSlashed", "slashed"), ("BondRewarded", "rewarded")):
        for row, day in told(name):
            day[key] += row.args["amount"]
    return TABLES["scores"].of_rows(
        (
            slot,
            day_of(slot).isoformat(),
            forecaster,
            day.get("commitment"),
            day.get("evidence"),
            day["state"],
            day.get("loss"),
            day.get("naive_loss"),
            day.get("slots_scored"),
            day["slashed"],
            day["rewarded"],
        )
        for (slot, forecaster), day in days.items()
    )


# What went wrong


def anomaly_table(events: Events, replays: list[Replay], scope: Scope) -> pa.Table:
    """Everything on record that should not have been, with what became of it."""
    period = scope.period
    rows: list[tuple[Any, ...]] = []
    turned_away: Counter[tuple[int, int]] = Counter()
    last: dict[tuple[int, int], EventRow] = {}
    for row in events.of("OrderRejected"):
        key = (row.args["session"] & ((1 << 64) - 1), row.args["reason"])
        turned_away[key] += 1
        last[key] = row
    for (session, reason), count in turned_away.items():
        row = last[session, reason]
        rows.append(
            (
                row.timestamp,
                "orders turned away",
                f"session {session}",
                f"{count} for: {REASONS.get(reason, str(reason))}",
                "left out alone; the rest of the batch went on",
                row.tx,
            )
        )
    simple: tuple[tuple[str, str, Any, Any, str], ...] = (
        (
            "SessionVoided",
            "session void",
            lambda a: f"session {a['first_slot']}",
            lambda a: f"from slot {a['from_slot']} on",
            "all escrow of these slots returned",
        ),
        (
            "AdjustmentRecorded",
            "delivery taken back",
            lambda a: f"slot {a['slot']}",
            lambda a: (
                f"account {a['account']} took back {a['wh']} Wh and gave back {a['amount']} µ€"
            ),
            "shared among the slot's buyers",
        ),
        (
            "BatchCorrected",
            "readings corrected",
            lambda a: f"batch {a['first_slot']}",
            lambda a: f"{a['slots']} slots have new totals",
            "the newest version counts; the first root stays on chain",
        ),
        (
            "KeySuspended",
            "device key suspended",
            lambda a: f"meter {a['meter']}",
            lambda a: f"valid until {a['valid_to']}",
            "what is not settled counts as missing",
        ),
        (
            "ReceiptConflict",
            "two receipts of one slot",
            lambda a: f"meter {a['meter']}",
            lambda a: f"slot {a['slot']}; the values stand on the chain",
            "the device's key ended where the conflict began",
        ),
        (
            "ForecastMissed",
            "forecast not revealed",
            lambda a: f"day {day_of(a['first_slot'])}",
            lambda a: f"by {a['forecaster']}",
            "counts as no skill, and cuts the bond",
        ),
        (
            "DayUnscored",
            "day not scored",
            lambda a: f"day {day_of(a['first_slot'])}",
            lambda a: f"forecast of {a['forecaster']}",
            "too few homes, or no slot left to score",
        ),
        (
            "DisputeOpened",
            "forecast disputed",
            lambda a: f"dispute {a['dispute_id']}",
            lambda a: str(a["complaint"]),
            "for a vote in the ordinary lane",
        ),
        (
            "DisputeDecided",
            "dispute decided",
            lambda a: f"dispute {a['dispute_id']}",
            lambda a: str(a["finding"]),
            "slashed as the vote said",
        ),
        (
            "DisputeLapsed",
            "dispute lapsed",
            lambda a: f"dispute {a['dispute_id']}",
            lambda a: "nobody brought it to a vote in time",
            "closed without a finding",
        ),
        (
            "Paused",
            "market paused",
            lambda a: "the market",
            lambda a: f"until {a['until']}",
            "no new orders; withdrawals went on",
        ),
        (
            "BondForfeited",
            "proposer's bond forfeited",
            lambda a: f"proposal {a['proposalId']}",
            lambda a: f"{a['amount']} µ€",
            "to the treasury",
        ),
        (
            "BallotRejected",
            "ballot turned away",
            lambda a: f"proposal {a['proposalId']}",
            lambda a: f"of {a['voter']}, reason {a['reason']}",
            "left out alone; the rest of the batch went on",
        ),
    )
    for name, kind, subject, detail, treatment in simple:
        for row in events.of(name):
            if name == "BatchCorrected" and not period.has(row.args["first_slot"]):
                continue
            rows.append(
                (row.timestamp, kind, subject(row.args), detail(row.args), treatment, row.tx)
            )
    for one in replays:
        book = one.session
        due = (book.first_slot + book.slots) * SLOT_SECONDS
        if not book.is_settled:
            left = int((book.delivered < 0).sum())
            text = f"{left} slots are not settled as of {scope.as_of}"
            rows.append(
                (due, "session open", f"session {book.first_slot}", text, "escrow is held", None)
            )
        for fault in one.faults:
            rows.append((due, "does not add up", f"session {book.first_slot}", fault, "none", None))
    return TABLES["anomalies"].of_rows(rows)


# Money and gas


def money_table(events: Events) -> pa.Table:
    """Money in and out of the zone's accounts, and fees collected, in the period."""
    rows = []
    for name, what in (
        ("Deposited", "paid in by owners"),
        ("Withdrawn", "paid out to owners"),
        ("FeesCollected", "grid fees sent to the treasury, all zones"),
    ):
        amounts = [row.args["amount"] for row in events.of(name, "EnergyMarket")]
        rows.append((what, sum(amounts), len(amounts)))
    return TABLES["money"].of_rows(rows)


def counted_transactions(events: Events, period: Period) -> dict[str, str]:
    """The transactions that did the period's work, with what each did."""
    found: dict[str, str] = {}
    for name, purpose in PURPOSES:
        for row in events.of(name):
            slot = row.args.get("slot", row.args.get("first_slot", period.first_slot))
            if slot < period.first_slot:
                continue
            if name == "Payment" and not (period.begins_at <= row.args["paid_at"] < period.ends_at):
                continue
            found.setdefault(row.tx, purpose)
    return found


def gas_table(events: Events, period: Period, spent: Mapping[str, tuple[int, int]]) -> pa.Table:
    """spent: gas used and price in wei, by transaction."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for tx, purpose in counted_transactions(events, period).items():
        gas, price = spent[tx]
        sums[purpose][0] += 1
        sums[purpose][1] += gas
        sums[purpose][2] += gas * price
    return TABLES["gas"].of_rows(
        (
            purpose,
            count,
            gas,
            fee // 1_000_000_000,
            gas * MAINNET_WH_PER_YEAR // MAINNET_GAS_PER_YEAR,
        )
        for purpose, (count, gas, fee) in sums.items()
    )


def concentration(votes: np.ndarray) -> tuple[int, int]:
    """Of a list of sizes: the share of the largest, and the Herfindahl index, both in ppm."""
    total = int(votes.sum())
    if total == 0:
        return 0, 0
    squares = sum(int(v) * int(v) for v in votes)
    return int(votes.max()) * 1_000_000 // total, squares * 1_000_000 // (total * total)
