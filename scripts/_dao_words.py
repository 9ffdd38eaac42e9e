# SPDX-License-Identifier: Apache-2.0
"""What the `gridcommons dao` commands say: proposals, simulations and policies in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dao.governance import Call, Proposal
    from scripts._dao_options import Place

_SHORTEST_ID = 10


def summary(place: Place, proposal: Proposal) -> dict[str, Any]:
    """What a list shows of a proposal."""
    from dao.governance import hex_id, lane_of, state, zone_of
    from dao.governance.describe import plain_text

    title = plain_text(proposal.description).strip().split("\n", 1)[0]
    return {
        "id": hex_id(proposal.id),
        "title": title if len(title) <= 100 else f"{title[:99]}…",
        "proposer": proposal.proposer,
        "lane": lane_of(place.governor, proposal.id).name.lower(),
        "zone": zone_of(place.governor, proposal.id),
        "state": state(place.governor, proposal).name.lower(),
        "deadline": int(place.governor.call("proposalDeadline", proposal.id)),
    }


def quorum_of(place: Place, proposal: Proposal) -> int | None:
    """Votes for and abstentions that are needed; None while the snapshot lies ahead."""
    if place.chain.now() <= proposal.snapshot:
        return None
    return int(place.governor.call("quorumOf", proposal.id))


def show_lines(facts: Mapping[str, Any]) -> list[str]:
    """A proposal in full."""
    from dao.governance.describe import euro

    votes = facts["votes"]
    lines = [
        f"{facts['id']}",
        f"{facts['state']}, {facts['lane']} lane, {electorate(facts['zone'])} vote",
        f"proposed by {facts['proposer']}"
        + (f", with a bond of {euro(facts['bond'])}" if facts["bond"] else ""),
        "",
        *(f"  {call['text']}" for call in facts["calls"]),
        "",
        *(f"  | {line}" for line in facts["description"].split("\n")),
        "",
        f"votes count from {utc_of(facts['snapshot'])} to {utc_of(facts['deadline'])}",
        f"for {votes['for']}, against {votes['against']} ({votes['veto']} with veto), "
        f"abstain {votes['abstain']}"
        + ("" if facts["quorum"] is None else f"; quorum {facts['quorum']}"),
    ]
    if facts["eta"]:
        lines.append(f"may be executed from {utc_of(facts['eta'])}")
    return lines


def record_lines(place: Place, record: Mapping[str, Any], calls: Sequence[Call]) -> list[str]:
    """What a simulation found, as far as something changed."""
    from dao.governance.describe import euro, read_calls, rule_value

    block, executed_at = record["block"], record["queued_at"] + record["delay"]
    reason = "" if record["reason"] is None else f": {record['reason']}"
    lines = [
        f"From block {block['number']} of {utc_of(block['time'])}, run at {utc_of(executed_at)}:",
        *(f"  {reading.text}" for reading in read_calls(place.deployment, calls)),
        f"{record['outcome']}, {record['gas']:,} gas{reason}",
    ]
    for name, held in record["rules"].items():
        if held["before"] != held["after"]:
            before, after = (rule_value(name, int(held[at])) for at in ("before", "after"))
            lines.append(f"  {name}: {before} before, {after} after")
    if record["windows"]:
        lines.append(f"  windows opened: {len(record['windows'])}")
    for address, held in record["balances"].items():
        if held["before"] != held["after"]:
            before, after = (euro(int(held[at])) for at in ("before", "after"))
            lines.append(f"  {held['name'] or address}: {before} before, {after} after")
    return lines


def policy_end(row: Mapping[str, Any], now: int) -> str:
    """Until when a policy holds, or that it does no more."""
    if row["ended"]:
        return "ended"
    return f"{'expired' if row['expires_at'] <= now else 'until'} {utc_of(row['expires_at'])}"


def short_ids(proposals: Sequence[Proposal]) -> dict[int, str]:
    """Each id's first digits, as many as tell it from the others."""
    from dao.governance import hex_id

    full = [hex_id(one.id) for one in proposals]
    found = {}
    for one, spelled in zip(proposals, full, strict=True):
        length = _SHORTEST_ID
        while sum(other.startswith(spelled[:length]) for other in full) > 1:
            length += 1
        found[one.id] = spelled[:length]
    return found


def electorate(zone: int) -> str:
    """Who votes."""
    return f"zone {zone}" if zone else "all members"


def utc_of(seconds: int) -> str:
    """A unix time for people."""
    from dao.governance.describe import utc

    return utc(seconds)
