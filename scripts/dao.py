# SPDX-License-Identifier: Apache-2.0
"""`gridcommons dao`: propose, vote, delegate, queue, execute, and see what a proposal would do.

Only the commands live here; proposals, ballots and simulations are `dao.governance`'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from scripts._common import address_from, read_input
from scripts._dao_options import (
    Asked,
    Place,
    calls_from,
    calls_options,
    euro_from,
    on_chain,
)
from scripts._dao_words import (
    electorate,
    policy_end,
    quorum_of,
    record_lines,
    short_ids,
    show_lines,
    summary,
    utc_of,
)

if TYPE_CHECKING:
    from dao.chain import Receipt
    from dao.governance import Call, Proposal
    from dao.governance.simulate import Effect

Effects: TypeAlias = "Mapping[str, Effect] | None"
SUPPORT = {"against": 0, "for": 1, "abstain": 2, "veto": 3}


@click.group(name="dao")
def cli() -> None:
    """Propose, vote, and see what a decision would do.

    ID is a proposal's id, in decimal or 0x-hex, or the first digits of one, where no other begins
    so. CALLS.json is a list of {"target", "function", "arguments"}, target being a contract's name
    or an address; "-" reads standard input.
    """


# Read


@cli.command(name="list")
@on_chain
def list_(place: Place) -> None:
    """All proposals, the newest first."""
    found = place.proposals()
    short = short_ids(found)
    rows = [{**summary(place, one), "short": short[one.id]} for one in reversed(found)]
    place.tell(
        rows,
        *(
            f"{row['short']}  {row['state']:<9}  {row['lane']:<9}  {electorate(row['zone']):<11}  "
            f"until {utc_of(row['deadline'])}  {row['title']}"
            for row in rows
        ),
        *(() if rows else ("Nothing was proposed yet.",)),
    )


@cli.command()
@click.argument("proposal_id", metavar="ID")
@on_chain
def show(place: Place, proposal_id: str) -> None:
    """A proposal: what it would do, how the votes stand, and what comes next."""
    from dao.governance import votes_of
    from dao.governance.describe import plain_text, read_calls

    proposal = place.proposal(proposal_id)
    readings = read_calls(place.deployment, proposal.calls)
    votes = votes_of(place.governor, proposal.id)
    facts = {
        **summary(place, proposal),
        "description": plain_text(proposal.description),
        "simulation": proposal.simulation,
        "snapshot": proposal.snapshot,
        "eta": int(place.governor.call("proposalEta", proposal.id)),
        "votes": {
            "for": votes.in_favour,
            "against": votes.against,
            "abstain": votes.abstain,
            "veto": votes.vetoes,
        },
        "quorum": quorum_of(place, proposal),
        "bond": int(place.governor.call("proposalBond", proposal.id)),
        "calls": [
            {
                "target": reading.target,
                "contract": reading.contract,
                "function": reading.function,
                "calldata": f"0x{call.calldata.hex()}",
                "value": str(call.value),
                "text": reading.text,
            }
            for reading, call in zip(readings, proposal.calls, strict=True)
        ],
    }
    place.tell(facts, *show_lines(facts))


@cli.command()
@on_chain
def policies(place: Place) -> None:
    """The standing policies: what may be done without a vote, and what is left of each."""
    from dao.governance.describe import rule_name

    contract = place.deployment["StandingPolicies"]
    rows = [
        {
            "policy": number,
            **contract.call("policy_of", number),
            "remaining": int(contract.call("remaining", number)),
        }
        for number in range(1, int(contract.call("policy_count")) + 1)
    ]
    now = place.chain.now()
    place.tell(
        rows,
        *(
            f"{row['policy']}  zone {row['zone']}  {rule_name(row['key'])} from "
            f"{row['lowest']:,} to {row['highest']:,}, at most {row['max_slots']} slots; "
            f"{row['veto_hours']} h to object; {row['remaining']:,} of {row['budget']:,} left; "
            f"{policy_end(row, now)}"
            for row in rows
        ),
        *(() if rows else ("There is no standing policy.",)),
    )


@cli.command()
@on_chain
def members(place: Place) -> None:
    """Who votes: zone, votes, and whom each member delegates to."""
    from dataclasses import asdict

    from dao import membership

    rows = membership.members(place.deployment["Membership"], place.deployment.first_block)
    place.tell(
        [asdict(row) for row in rows],
        *(
            f"{row.address}  zone {row.zone}  metering point {row.meter}  votes {row.votes}  "
            f"since {utc_of(row.since)}"
            + ("" if row.delegate == row.address else f"  delegates to {row.delegate}")
            for row in rows
        ),
        f"{len(rows)} members",
    )


# Decide


@cli.command()
@calls_options
@click.option("--description", required=True, help="What it does, and why.")
@click.option(
    "--lane",
    type=click.Choice(["ordinary", "balancing"]),
    default="ordinary",
    show_default=True,
    help="Balancing: windows of one zone only, in hours instead of days.",
)
@click.option("--policy", type=click.IntRange(1), help="Act under this standing policy instead.")
@click.option(
    "--simulate", "simulated", is_flag=True, help="Try it first, and name the record's hash."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Where the record of --simulate goes.  [default: in the state folder]",
)
@on_chain
def propose(
    place: Place,
    asked: Asked,
    description: str,
    lane: str,
    policy: int | None,
    simulated: bool,
    output: Path | None,
) -> None:
    """Put calls to the vote.

    The description ends in the hash of the simulation, where there is one, and in the proposer's
    address, so that nobody else can propose the same first. With --simulate nothing is proposed
    that would fail. A member needs a bond for it: see `gridcommons dao bond`.
    """
    from dao.errors import BadUse, CheckFailed
    from dao.governance import Lane, hex_id
    from dao.governance import propose as put
    from dao.governance.describe import read_calls
    from dao.governance.simulate import record_hash, write_record
    from dao.paths import home

    if output is not None and not simulated:
        raise BadUse("-o takes the record of a simulation; add --simulate")
    way = Lane.POLICY if policy is not None else Lane[lane.upper()]
    calls = calls_from(place, asked)
    digest = None
    if simulated:
        record = _simulation(place, calls, way, None)
        if record["outcome"] != "executed":
            raise CheckFailed(f"not proposed, it would fail: {record['reason']}")
        digest = record_hash(record)
        output = output or home() / "simulations" / f"{digest}.json"
        write_record(record, output)
    made = put(
        place.governor,
        calls,
        description,
        place.account,
        lane=way,
        policy=policy,
        simulation=digest,
    )
    facts = {
        "id": hex_id(made.id),
        "lane": way.name.lower(),
        "snapshot": made.snapshot,
        "deadline": made.deadline,
        "simulation": digest,
        "record": None if output is None else str(output),
    }
    place.tell(
        facts,
        f"Proposed {hex_id(made.id)}",
        *(f"  {reading.text}" for reading in read_calls(place.deployment, calls)),
        f"Votes count from {utc_of(made.snapshot)} to {utc_of(made.deadline)}.",
        *(() if digest is None else (f"Simulation {digest} in {output}",)),
    )


@cli.command()
@click.argument("proposal_id", metavar="ID")
@click.argument("support", type=click.Choice(list(SUPPORT)))
@click.option("--reason", default="", help="Why; it stands on chain beside the vote.")
@on_chain
def vote(place: Place, proposal_id: str, support: str, reason: str) -> None:
    """Vote on a proposal, once and for good.

    A veto is a vote against that also calls the proposal an abuse: where enough members say so, the
    proposer loses the bond.
    """
    _vote(place, proposal_id, support, reason)


@cli.command()
@click.argument("proposal_id", metavar="ID")
@click.option("--reason", default="", help="Why; it stands on chain beside the vote.")
@on_chain
def veto(place: Place, proposal_id: str, reason: str) -> None:
    """Object: vote with a veto, or against an action under a standing policy.

    An objection to such an action costs nobody a bond; `vote ID veto` says that it is an abuse.
    """
    from dao.governance import Lane, lane_of

    found = place.proposal(proposal_id)
    under_policy = lane_of(place.governor, found.id) is Lane.POLICY
    _vote(place, proposal_id, "against" if under_policy else "veto", reason)


@cli.command()
@click.argument("address")
@on_chain
def delegate(place: Place, address: str) -> None:
    """Let another member of the zone vote for you, from the next proposal on.

    Your own address takes it back.
    """
    from dao import membership

    to = address_from(address)
    membership.delegate(place.deployment["Membership"], to, place.account)
    place.tell(
        {"member": place.account.address, "delegate": to},
        f"{to} votes for {place.account.address} on what is proposed from now on.",
    )


@cli.command()
@click.argument("proposal_id", metavar="ID")
@on_chain
def queue(place: Place, proposal_id: str) -> None:
    """Hand what passed to the timelock. Anyone may."""
    from dao.governance import hex_id
    from dao.governance import queue as hand_over

    found = place.proposal(proposal_id)
    eta = hand_over(place.governor, found, place.account)
    place.tell(
        {"id": hex_id(found.id), "eta": eta}, f"Queued; it may be executed at {utc_of(eta)}."
    )


@cli.command()
@click.argument("proposal_id", metavar="ID")
@on_chain
def execute(place: Place, proposal_id: str) -> None:
    """Carry out what was queued, once its delay is over. Anyone may."""
    from dao.governance import execute as carry_out
    from dao.governance import hex_id
    from dao.governance.describe import read_calls

    found = place.proposal(proposal_id)
    readings = read_calls(place.deployment, found.calls)
    receipt = carry_out(place.governor, found, place.account)
    place.tell(
        {"id": hex_id(found.id), **_sent(receipt)},
        f"Executed, for {receipt.gas_used:,} gas:",
        *(f"  {reading.text}" for reading in readings),
    )


@cli.command()
@click.argument("proposal_id", metavar="ID")
@on_chain
def cancel(place: Place, proposal_id: str) -> None:
    """Take a proposal back: your own while it is pending, any as guardian outside the ordinary
    lane."""
    from dao.governance import cancel as take_back
    from dao.governance import hex_id

    found = place.proposal(proposal_id)
    receipt = take_back(place.governor, found, place.account)
    place.tell({"id": hex_id(found.id), **_sent(receipt)}, "Cancelled.")


@cli.command(name="release-bond")
@click.argument("proposal_id", metavar="ID")
@on_chain
def release_bond(place: Place, proposal_id: str) -> None:
    """Free a proposal's bond once its vote is over; where enough vetoes say so, it is forfeited.
    Anyone may."""
    from dao.governance import hex_id

    found = place.proposal(proposal_id)
    receipt = place.governor.transact("releaseBond", found.id, sender=place.account)
    forfeited = any(event.name == "BondForfeited" for event in receipt.events)
    outcome = "forfeited" if forfeited else "released"
    place.tell(
        {"id": hex_id(found.id), "bond": outcome, **_sent(receipt)},
        f"The bond is {outcome}" + (", it goes to the treasury." if forfeited else "."),
    )


@cli.command()
@click.option("--deposit", metavar="EURO", help="Put up so much.")
@click.option("--withdraw", metavar="EURO", help="Take back so much of what is not locked.")
@on_chain
def bond(place: Place, deposit: str | None, withdraw: str | None) -> None:
    """Your bond, which a proposal of yours locks until its vote is over."""
    from dao.errors import BadUse
    from dao.governance.describe import euro

    governor, account = place.governor, place.account
    if deposit is not None and withdraw is not None:
        raise BadUse("either --deposit or --withdraw, not both")
    if deposit is not None:
        amount = euro_from("--deposit", deposit)
        token = place.deployment["TestEuro"]
        token.transact("approve", governor.address, amount, sender=account)
        governor.transact("depositBond", amount, sender=account)
    if withdraw is not None:
        governor.transact("withdrawBond", euro_from("--withdraw", withdraw), sender=account)
    deposited, locked = governor.call("bondOf", account.address)
    place.tell(
        {"account": account.address, "deposited": deposited, "locked": locked},
        f"{euro(deposited)} put up, {euro(locked)} of it locked.",
    )


# Simulate


@cli.command()
@calls_options
@click.option("--proposal", metavar="ID", help="The calls of this proposal.")
@click.option(
    "--lane",
    type=click.Choice(["ordinary", "balancing"]),
    default="ordinary",
    show_default=True,
    help="Whose voting time and delay pass before the calls are made.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write the record to this file."
)
@click.option(
    "--check",
    metavar="RECORD.json",
    help="Run this record again and compare; with --proposal also with what the proposal names.",
)
@click.option(
    "--evidence",
    metavar="EVIDENCE",
    help="A forecast's evidence file: compute what windows on its day do to grid and bill, too.",
)
@click.option(
    "--grid",
    "grid_code",
    default="1-LV-rural3--2-sw",
    show_default=True,
    help="With --evidence: SimBench's code of the zone's grid.",
)
@click.option(
    "--stored",
    "stored_wh",
    type=click.IntRange(0),
    default=0,
    help="With --evidence: what the community battery holds when that day begins, Wh.",
)
@on_chain
def simulate(
    place: Place,
    asked: Asked,
    proposal: str | None,
    lane: str,
    output: Path | None,
    check: str | None,
    evidence: str | None,
    grid_code: str,
    stored_wh: int,
) -> None:
    """What calls would do: run through the timelock on a fork of the chain.

    The calls are made at the time at which the vote could first be carried out. Nothing happens on
    the chain itself. Exits 1 where the calls would fail, or a record does not hold.
    """
    from dao.errors import BadUse, CheckFailed
    from dao.governance import Lane
    from dao.governance.simulate import record_hash, write_record

    effects = None
    if evidence is not None:
        from scripts._balance_zone import effects_from

        effects = effects_from(place.deployment, evidence, grid_code, 1, stored_wh)
    if check is not None:
        if output or not asked.is_nothing:
            raise BadUse("--check takes its calls from the record; leave them and -o out")
        _check(place, check, proposal, effects)
        return
    found = None
    if proposal is not None:
        if not asked.is_nothing:
            raise BadUse("either --proposal or calls, not both")
        found = place.proposal(proposal)
        calls = list(found.calls)
    else:
        calls = calls_from(place, asked)
    record = _simulation(place, calls, Lane[lane.upper()], found, effects)
    if output is not None:
        write_record(record, output)
    digest = record_hash(record)
    shown = []
    if effects is not None:
        from scripts._balance_zone import effect_lines

        shown = effect_lines(record["effects"])
    place.tell(
        {"hash": digest, "record": record},
        *record_lines(place, record, calls),
        *shown,
        f"Simulation {digest}" + ("" if output is None else f" in {output}"),
    )
    if record["outcome"] != "executed":
        raise CheckFailed(f"the calls would fail: {record['reason']}")


def _check(place: Place, name: str, proposal: str | None, effects: Effects = None) -> None:
    from dao.errors import CheckFailed
    from dao.governance.simulate import calls_of, parse_record, record_hash, verify

    record = parse_record(read_input(name), name)
    digest = record_hash(record)
    if proposal is not None:
        found = place.proposal(proposal)
        if found.simulation != digest:
            raise CheckFailed(f"the proposal names {found.simulation}, the record is {digest}")
        if list(found.calls) != calls_of(record):
            raise CheckFailed("the record is of other calls than the proposal's")
    verdict = verify(record, place.deployment, effects)
    facts = {
        "hash": digest,
        "holds": verdict.difference is None,
        "difference": verdict.difference,
        "unchecked": list(verdict.unchecked),
    }
    if verdict.difference is not None:
        if place.as_json:
            click.echo(json.dumps(facts))
        raise CheckFailed(f"the record does not hold: {verdict.difference}")
    place.tell(
        facts,
        f"The record {digest} holds.",
        *(f"Not checked here: the effect {effect}." for effect in verdict.unchecked),
    )


def _simulation(
    place: Place,
    calls: Sequence[Call],
    lane: Any,
    proposal: Proposal | None,
    effects: Effects = None,
) -> dict[str, Any]:
    """The record of calls made when their vote could first be carried out."""
    from dao.governance import lane_of, terms_of
    from dao.governance.simulate import simulate as run

    if proposal is not None:
        lane = lane_of(place.governor, proposal.id)
    terms = terms_of(place.governor, lane)
    now = place.chain.now()
    over = now + terms.voting_delay + terms.voting_period
    if proposal is not None:
        over = int(place.governor.call("proposalDeadline", proposal.id))
    return run(
        place.deployment,
        calls,
        delay=terms.timelock_delay,
        queued_at=max(over, now) + 1,
        proposal=0 if proposal is None else proposal.id,
        effects=effects,
    )


# What commands share


def _vote(place: Place, proposal_id: str, support: str, reason: str) -> None:
    from dao.governance import Support, cast_vote, hex_id

    found = place.proposal(proposal_id)
    weight = cast_vote(place.governor, found.id, Support(SUPPORT[support]), place.account, reason)
    place.tell(
        {
            "id": hex_id(found.id),
            "voter": place.account.address,
            "support": support,
            "weight": weight,
        },
        f"{place.account.address} voted {support}, with {weight} vote{'s' * (weight != 1)}.",
    )


def _sent(receipt: Receipt) -> dict[str, Any]:
    return {"transaction": receipt.tx, "gas": receipt.gas_used}
