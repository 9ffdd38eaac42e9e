# SPDX-License-Identifier: Apache-2.0
"""Public spending as an Open Contracting (OCDS 1.1) release package: one process for each proposal
that paid in the period, from its budget to the transactions.

An ocid begins with a prefix that the standard's registry gives to a publisher. None was asked for,
and nobody else's is taken: who publishes these for a city registers one and puts it in its place.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dao.audit.package import Content

PREFIX = "gridcommons"
_CURRENCY = "EUR"
Row = dict[str, Any]


def release_package(content: Content) -> bytes:
    """ocds/releases.json."""
    scope = content.scope
    proposals = {row["id"]: row for row in content.tables["proposals"].to_pylist()}
    budgets: dict[int, Row] = {}
    for row in content.tables["budgets"].to_pylist():
        budgets[row["purpose"]] = row
    paid: dict[str, list[Row]] = {}
    for row in content.tables["payments"].to_pylist():
        paid.setdefault(row["proposal"], []).append(row)
    treasury = scope.contracts["Treasury"].address if "Treasury" in scope.contracts else ""
    buyer = {"id": f"eip155:{scope.chain_id}:{treasury}", "name": "GridCommons treasury"}
    releases = [
        _release(content, buyer, payments, proposals.get(proposal), budgets)
        for proposal, payments in sorted(paid.items(), key=lambda one: one[1][0]["number"])
    ]
    document = {
        "uri": f"urn:gridcommons:{scope.chain_id}:{scope.period.zone}:{scope.period.first_slot}",
        "version": "1.1",
        "publishedDate": _time(scope.as_of),
        "publisher": {"name": "GridCommons", "scheme": "eip155", "uid": buyer["id"]},
        "releases": releases,
    }
    return (json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()


def _release(
    content: Content,
    buyer: Row,
    payments: list[Row],
    proposal: Row | None,
    budgets: dict[int, Row],
) -> Row:
    scope = content.scope
    number = payments[0]["proposal"]
    ocid = f"{PREFIX}-{scope.chain_id}-{number}"
    title = proposal["title"] if proposal else f"Proposal {number}"
    payees: dict[str, list[Row]] = {}
    for row in payments:
        payees.setdefault(row["payee"], []).append(row)
    suppliers = {
        payee: {"id": f"eip155:{scope.chain_id}:{payee}", "name": payee} for payee in payees
    }
    decided = proposal["executed_at"] if proposal else None
    if decided is None:
        decided = payments[0]["paid_at"]
    return {
        "ocid": ocid,
        "id": f"{ocid}-{scope.period.first_slot}-{scope.as_of}",
        "date": _time(scope.as_of),
        "language": "en",
        "tag": ["planning", "tender", "award", "contract", "implementation"],
        "initiationType": "tender",
        "parties": [
            {**buyer, "roles": ["buyer", "payer", "procuringEntity"]},
            *({**one, "roles": ["supplier", "payee"]} for one in suppliers.values()),
        ],
        "buyer": buyer,
        "planning": _planning(payments, proposal, budgets, buyer),
        "tender": _tender(ocid, title, proposal, buyer),
        "awards": [
            _award(at, rows, suppliers[payee], proposal, decided)
            for at, (payee, rows) in enumerate(payees.items(), 1)
        ],
        "contracts": [
            _contract(at, rows, buyer, suppliers[payee], decided)
            for at, (payee, rows) in enumerate(payees.items(), 1)
        ],
    }


def _planning(
    payments: list[Row], proposal: Row | None, budgets: dict[int, Row], buyer: Row
) -> Row:
    budget = budgets.get(payments[0]["purpose"])
    found: Row = {"budget": {"description": payments[0]["name"] or "no budget in force"}}
    found["budget"]["id"] = str(payments[0]["purpose"])
    if budget is not None:
        found["budget"]["amount"] = _value(budget["amount"])
        found["budget"]["project"] = budget["name"]
        found["budget"]["projectID"] = f"{budget['purpose']}-{budget['edition']}"
    if proposal is not None:
        found["rationale"] = proposal["description"]
        found["milestones"] = [
            _milestone("proposed", "Proposed", proposal["created_at"]),
            _milestone("vote-end", "End of the vote", proposal["deadline"]),
        ]
    return found


def _milestone(name: str, title: str, when: int) -> Row:
    return {"id": name, "title": title, "type": "approval", "status": "met", "dateMet": _time(when)}


def _tender(ocid: str, title: str, proposal: Row | None, buyer: Row) -> Row:
    found: Row = {
        "id": ocid,
        "title": title,
        "status": "complete",
        "procuringEntity": buyer,
        "procurementMethod": "direct",
        "procurementMethodDetails": "Decided by a vote of the members",
    }
    if proposal is not None:
        found["procurementMethodRationale"] = _vote(proposal)
        found["tenderPeriod"] = {
            "startDate": _time(proposal["created_at"]),
            "endDate": _time(proposal["deadline"]),
        }
    return found


def _vote(proposal: Row) -> str:
    return (
        f"Proposal {proposal['id']} ({proposal['outcome']}): {proposal['votes_for']} for, "
        f"{proposal['votes_against']} against, {proposal['votes_abstain']} abstained, of "
        f"{proposal['members']} members; quorum {proposal['quorum']}. Proposed by transaction "
        f"{proposal['tx']}, carried out by {proposal['executed_tx'] or 'none yet'}."
    )


def _award(at: int, rows: list[Row], supplier: Row, proposal: Row | None, decided: int) -> Row:
    found = {
        "id": f"award-{at}",
        "title": rows[0]["reference"] or (proposal["title"] if proposal else rows[0]["name"]),
        "status": "active",
        "date": _time(decided),
        "value": _value(sum(row["amount"] for row in rows)),
        "suppliers": [supplier],
    }
    if proposal is not None:
        found["description"] = _vote(proposal)
    return found


def _contract(at: int, rows: list[Row], buyer: Row, supplier: Row, decided: int) -> Row:
    milestones = [
        {
            "id": f"payment-{row['number']}",
            "title": row["reference"] or row["name"],
            "type": "financing" if row["kind"] in ("single", "recurring") else "delivery",
            "description": row["kind"],
            "status": "met",
            "dateMet": _time(row["paid_at"]),
        }
        for row in rows
    ]
    transactions = [
        {
            "id": str(row["number"]),
            "source": row["tx"],
            "date": _time(row["paid_at"]),
            "value": _value(row["amount"]),
            "payer": buyer,
            "payee": supplier,
        }
        for row in rows
    ]
    return {
        "id": f"contract-{at}",
        "awardID": f"award-{at}",
        "title": rows[0]["reference"] or rows[0]["name"],
        "status": "active",
        "dateSigned": _time(decided),
        "value": _value(sum(row["amount"] for row in rows)),
        "implementation": {"transactions": transactions, "milestones": milestones},
    }


def _value(micro_euro: int) -> Row:
    """Money in euro; six decimals are exact in the file."""
    whole = micro_euro // 1_000_000 if micro_euro % 1_000_000 == 0 else micro_euro / 1_000_000
    return {"amount": whole, "currency": _CURRENCY}


def _time(when: int) -> str:
    return f"{datetime.fromtimestamp(when, UTC):%Y-%m-%dT%H:%M:%SZ}"
