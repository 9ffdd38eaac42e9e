# SPDX-License-Identifier: Apache-2.0
"""What a run amounts to: one flat object of figures, and the checks behind `conservation_ok`."""

from __future__ import annotations

from typing import Any

from dao.governance import State
from dao.market.orders import ASK
from dao.market.session import read_book, read_session, unpack_entries
from dao.market.solver import NULL_PRICE
from scripts._simulation.founding import PROPOSER_BOND
from scripts._simulation.loop import Loop
from scripts._simulation.settings import ZONE
from scripts._simulation.world import BOND, DEPOSIT, POCKET, REWARDS


def conservation_faults(loop: Loop) -> list[str]:
    """Every broken law of conservation in words; empty where all hold.

    Money: the market holds what its accounts, its escrow and the fees due add up to, and no token
    came from or went anywhere else. Energy: in every settlement as much was bought as sold.
    Settlement: each order got what the rules, computed again off chain, give it.
    """
    world = loop.world
    market, token = world.deployment["EnergyMarket"], world.deployment["TestEuro"]
    faults = list(loop.faults)
    accounts = sum(
        int(market.call("account", number)[1]) for number in range(1, world.battery_meter + 1)
    )
    escrow, fees = _escrow(loop), int(market.call("fees_due"))
    held = int(token.call("balanceOf", market.address))
    if accounts + escrow != int(market.call("owed")):
        faults.append(
            f"accounts and escrow add up to {accounts + escrow}, the market says "
            f"{market.call('owed')}"
        )
    if held != accounts + escrow + fees:
        faults.append(f"the market holds {held}, owes {accounts + escrow + fees}")
    paid_in = _paid_in(loop)
    if held != paid_in:
        faults.append(f"the market holds {held}, {paid_in} were paid in and not out again")
    if not world.settings.living and paid_in != DEPOSIT * len(world.residents):
        faults.append(f"{paid_in} were paid in, not {DEPOSIT * len(world.residents)}")
    minted = DEPOSIT * len(world.residents) + BOND + REWARDS
    minted += POCKET * len(world.residents) if world.settings.living else 0
    minted += PROPOSER_BOND if world.settings.policy else 0
    if int(token.call("totalSupply")) != minted:
        faults.append(f"{token.call('totalSupply')} tokens exist, {minted} were minted")
    registry = world.deployment["ForecastRegistry"]
    pledged = int(registry.call("bond_of", world.offices.forecaster.address)[0])
    pledged += int(registry.call("reward_pool"))
    if pledged != BOND + REWARDS:
        faults.append(f"bond and rewards are {pledged}, {BOND + REWARDS} were paid in")
    for event in market.events("OrdersSettled"):
        orders = read_book(market, ZONE, event.args["first_slot"]).orders
        entries = list(zip(orders, unpack_entries(event.args["entries"]), strict=True))
        sold = sum(entry.delivered_wh for order, entry in entries if order.side == ASK)
        bought = sum(entry.delivered_wh for order, entry in entries if order.side != ASK)
        if sold != bought:
            faults.append(f"session {event.args['first_slot']}: {sold} Wh sold, {bought} bought")
    return faults


def _paid_in(loop: Loop) -> int:
    """What was paid into the market and not out of it, by its events."""
    market = loop.world.deployment["EnergyMarket"]
    total = sum(int(event.args["amount"]) for event in market.events("Deposited"))
    for name in ("Withdrawn", "FeesCollected"):
        total -= sum(int(event.args["amount"]) for event in market.events(name))
    return total


def _escrow(loop: Loop) -> int:
    """What the posted orders of sessions that are not settled hold, from their books: the
    agents' and other people's."""
    market = loop.world.deployment["EnergyMarket"]
    total = 0
    for event in market.events("SessionOpened"):
        state = read_session(market, ZONE, event.args["first_slot"])
        if state.settled < state.slots:
            for order in read_book(market, ZONE, event.args["first_slot"]).orders:
                rate = state.penalty if order.side == ASK else order.limit
                total += rate * sum(order.profile[max(0, state.settled - order.offset) :])
    return total


def summarise(loop: Loop, wall_s: float, timings: dict[str, Any]) -> dict[str, Any]:
    """The run's figures; README documents every key."""
    world, settings, money = loop.world, loop.settings, loop.money
    market = world.deployment["EnergyMarket"]
    # Where the neighbourhood lives on, its next day has begun by now.
    sessions = [s for s in loop.sessions.values() if s.posted and s.first_slot < loop.end]
    cleared, settled = (
        sum(
            1
            for event in market.events(name)
            if int(event.args["price"]) != NULL_PRICE and event.args["slot"] < loop.end
        )
        for name in ("SlotCleared", "SlotSettled")
    )
    permille, scored_days = world.deployment["ForecastRegistry"].call(
        "skill", world.offices.forecaster.address, ZONE
    )
    decisions = [one for one in loop.decisions.values() if one.first_slot < loop.end]
    faults = conservation_faults(loop)
    reports = world.plant.reports()
    return {
        "zone": settings.zone_code,
        "seed": settings.seed,
        "start": settings.start.isoformat(),
        "days": settings.days,
        "history_days": settings.history_days,
        "homes": len(world.profiles.homes),
        "prosumers": sum(h.has_solar or h.has_battery for h in world.profiles.homes),
        "readings": world.readings,
        "batches": world.batches,
        "orders": sum(s.posted for s in sessions),
        "orders_rejected": sum(s.rejected for s in sessions),
        "auctions": sum(s.crossing for s in sessions),
        "auctions_cleared": cleared,
        "auctions_settled": settled,
        "auctions_open": loop.unsettled,
        "traded_wh": money.traded_wh,
        "taken_wh": money.taken_wh,
        "seller_gain_micro_eur": money.seller_gain,
        "buyer_saving_micro_eur": money.buyer_saving,
        "grid_fees_micro_eur": money.grid_fees,
        "penalties_micro_eur": money.penalties,
        "proposals": sum(d.proposal is not None for d in decisions),
        "executed": sum(d.state == State.EXECUTED for d in decisions),
        "proposals_refused": loop.refusals,
        "standing_policy": settings.policy,
        "ballots": sum(count for slot, count in loop.ballots.items() if slot < loop.end),
        "forecasts_scored": sum(d.loss is not None for d in decisions),
        "skill": int(permille) / 1000 if scored_days else None,
        "forecaster_earned_micro_eur": loop.forecaster_earned(),
        "slots_over_limit": sum(d.measured.slots_over_limit for d in loop.days),
        "slots_over_limit_without_battery": sum(d.resting.slots_over_limit for d in loop.days),
        "dispatch_slots": len(reports),
        "dispatch_acknowledged": sum(r.acknowledged == r.wanted for r in reports),
        "voltage_max_pu": round(max(float(d.measured.voltage_max.max()) for d in loop.days), 5),
        "conservation_ok": not faults,
        "conservation_faults": faults,
        "gas_used": world.chain.gas_used,
        "transactions": world.chain.transactions,
        "wall_s": round(wall_s, 1),
        "timings": timings,
    }


def in_words(summary: dict[str, Any]) -> str:
    """The summary for people."""

    def euro(key: str) -> str:
        return f"{summary[key] / 1e6:,.2f} €"

    skill = summary["skill"]
    rows = [
        ("Zone", f"{summary['zone']}, {summary['homes']} homes, {summary['prosumers']} with solar"),
        ("Days", f"{summary['days']} from {summary['start']}, seed {summary['seed']}"),
        ("Readings", f"{summary['readings']:,} signed, in {summary['batches']} batches on chain"),
        ("Orders", f"{summary['orders']:,} posted, {summary['orders_rejected']} turned away"),
        (
            "Auctions",
            "{auctions}, {auctions_cleared} cleared, {auctions_settled} settled".format(**summary),
        ),
        ("Traded", f"{summary['traded_wh'] / 1000:,.1f} kWh"),
        ("Sellers gained", f"{euro('seller_gain_micro_eur')} over the feed-in tariff"),
        ("Buyers saved", f"{euro('buyer_saving_micro_eur')} against the retail tariff"),
        ("Grid fees", f"{euro('grid_fees_micro_eur')}"),
        ("Penalties", f"{euro('penalties_micro_eur')} from sellers who fell short to their buyers"),
        ("Proposals", f"{summary['proposals']}, {summary['executed']} executed"),
        (
            "Forecasts",
            f"{summary['forecasts_scored']} scored"
            + (f", skill {skill:+.3f} against the naive" if skill is not None else "")
            + f", {euro('forecaster_earned_micro_eur')} earned",
        ),
        (
            "Over the limit",
            "{slots_over_limit} quarter-hours ({slots_over_limit_without_battery} had the battery "
            "rested)".format(**summary),
        ),
        (
            "Battery",
            "{dispatch_acknowledged} of {dispatch_slots} scheduled quarter-hours acknowledged over "
            "Modbus".format(**summary),
        ),
        ("Conservation", "holds" if summary["conservation_ok"] else "BROKEN"),
        ("Chain", "{transactions:,} transactions, {gas_used:,} gas".format(**summary)),
        ("Time", f"{summary['wall_s']} s"),
    ]
    text = "\n".join(f"{name:<15} {value}" for name, value in rows)
    return text + "".join(f"\n  {fault}" for fault in summary["conservation_faults"])
