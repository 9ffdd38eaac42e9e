# SPDX-License-Identifier: Apache-2.0
"""The days of the demo: every step of the loop at its hour, on chain time.

        18:30  readings committed          22:31  executed
        18:45  forecast committed          23:00  gate of the first session of the next day
        19:05  revealed                           (and an hour before each later session)
        19:10  proposed, 19:30 voted              receipts and settlement after each session
        22:15  queued                      three days later: scored

All hours are UTC. A step only reads what its actor could know at that moment: the forecaster the
ledger's published totals, a home's agent its own meter, the keeper the chain.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from dao import forecasts, governance
from dao.chain import Contract, ContractReverted
from dao.eip712 import keccak
from dao.errors import CheckFailed
from dao.governance import Lane, State, reasons
from dao.ledger import read_totals
from dao.market import session as market_session
from dao.market.orders import ASK, BID, Order, sign_order
from dao.market.session import DeviceReceipt, SignedOrder, unpack_entries
from dao.market.settlement import settle_session
from dao.parameters import COMMUNITY_BATTERY, KEYS
from dao.paths import ensure_parent, home, plan_path
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY, day_of
from forecasting.balancing import plan_day
from forecasting.balancing.proposal import proposal_of
from forecasting.evidence import newest_batches
from forecasting.home_agent import intent
from forecasting.zone import (
    DEMO_TIMEZONE,
    ZoneTotals,
    canonical_json,
    evidence_hash,
    forecast_zone_day,
    without_battery,
)
from meters.devices import Gateway
from meters.lake import Batch
from scripts._simulation.founding import POLICY
from scripts._simulation.people import MANDATES, ballots_of, objections_of
from scripts._simulation.records import DayReport, Decision, Money, Session, Step
from scripts._simulation.settings import ZONE
from scripts._simulation.world import BOND, COMMIT_DELAY, World, sign

MINUTE, HOUR, DAY = 60, 3_600, 86_400
RECENT_DAYS = 7

# Offsets from the midnight that a day begins with; the evening belongs to the day before.
FORECAST_AT = -DAY + 18 * HOUR + 45 * MINUTE
REVEAL_AT = -DAY + 19 * HOUR + 5 * MINUTE
PROPOSE_AT = -DAY + 19 * HOUR + 10 * MINUTE
VOTE_AT = -DAY + 19 * HOUR + 30 * MINUTE
QUEUE_AT = -DAY + 22 * HOUR + 15 * MINUTE
EXECUTE_AT = -DAY + 22 * HOUR + 31 * MINUTE

# More than a day has; keeps the steps of one day before those of the next that are due at once.
_MOST_STEPS = 1_000

Publish = Callable[["Loop", str], None]


class Loop:
    """Runs the agenda of all days and keeps what the summary and the page tell."""

    def __init__(self, world: World, publish: Publish) -> None:
        self.world = world
        self.settings = world.settings
        self.publish = publish
        self.sessions: dict[int, Session] = {}
        self.decisions: dict[int, Decision] = {}
        self.days: list[DayReport] = []
        self.money = Money()
        self.faults: list[str] = []
        self.unsettled: list[dict[str, object]] = []
        self.day = 0
        self.ballots: dict[int, int] = {}
        self.refusals: list[dict[str, object]] = []
        # Accounts and sides that an owner's standing offer is followed for, not by this loop.
        self.followed: Callable[[int], frozenset[tuple[int, int]]] = lambda now: frozenset()
        parameters = world.deployment["GridParameters"]
        self._rules = {name: int(parameters.call("value", key)) for name, key in KEYS.items()}
        self._session_slots = SLOTS_PER_DAY // self._rules["sessions_per_day"]
        self._battery_wh: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._net = np.empty(0, dtype=np.int64)
        self._export = np.empty(0, dtype=np.int64)

    # -- the agenda ------------------------------------------------------------------------

    def agenda(self) -> list[Step]:
        """Every step of the run in order of time. Day -1 is the eve: it measures and forecasts."""
        steps = [step for day in range(-1, self.settings.days) for step in self.steps_of(day)]
        return sorted(steps, key=lambda step: (step.at, step.order))

    def steps_of(self, day: int) -> list[Step]:
        """The steps that belong to a day; some are due on its eve, and the last days after it."""
        steps: list[Step] = []

        def add(at: int, name: str, run: Callable[[], None]) -> None:
            steps.append(Step(at, day * _MOST_STEPS + len(steps), name, day, run))

        slot = self.settings.first_slot + day * SLOTS_PER_DAY
        for first in range(slot, slot + SLOTS_PER_DAY, self._session_slots):
            gate = first * SLOT_SECONDS - self._rules["gate_lead"]
            end = (first + self._session_slots) * SLOT_SECONDS
            if day >= 0:
                add(gate - 10 * MINUTE, "orders", partial(self.post, first))
                add(gate + MINUTE, "clearing", partial(self.clear, first))
            add(end + COMMIT_DELAY, "readings", partial(self.measure, first))
            if day >= 0:
                add(end + COMMIT_DELAY + 600, "settlement", partial(self.settle, first))
        midnight = slot * SLOT_SECONDS
        if day >= 0:
            for offset, name, step in (
                (FORECAST_AT, "forecast", self.forecast),
                (REVEAL_AT, "reveal", self.reveal),
                (PROPOSE_AT, "proposal", self.propose),
                (VOTE_AT, "vote", self.vote),
                (QUEUE_AT, "count", self.queue),
                (EXECUTE_AT, "execution", self.execute),
            ):
                add(midnight + offset, name, partial(step, slot))
            add(midnight + DAY + HOUR, "grid", partial(self.grid, slot))
            final = midnight + DAY + self._rules["finality"] + HOUR
            add(final, "score", partial(self.score, slot))
        return steps

    def gates(self, after: int, until: int) -> list[int]:
        """The gates in (after, until], unix seconds, in order of time."""
        step, lead = self._session_slots, self._rules["gate_lead"]
        first = (after + lead) // SLOT_SECONDS // step * step
        found = []
        while (gate := first * SLOT_SECONDS - lead) <= until:
            if gate > after:
                found.append(gate)
            first += step
        return found

    @property
    def end(self) -> int:
        """The first slot after the days that were asked for."""
        return self.settings.first_slot + self.settings.days * SLOTS_PER_DAY

    def run(self, progress: Callable[[str, int, int], None]) -> None:
        """Live through the agenda."""
        steps = self.agenda()
        begun = time.perf_counter()
        for number, step in enumerate(steps):
            self.day = max(step.day, 0)
            progress(f"{day_of(step.at // SLOT_SECONDS)} {step.name}", number, len(steps))
            self.world.chain.set_time(step.at)
            step.run()
            if step.name == "grid":
                now = time.perf_counter()
                self.days[-1].seconds = now - begun
                begun = now
            self.publish(self, step.name)
        progress("The days are over", len(steps), len(steps))

    # -- market ----------------------------------------------------------------------------

    def post(self, first_slot: int) -> None:
        """Every home's agent signs at most one bid and one ask; the relay posts them."""
        world = self.world
        slots = self._session_slots
        known = world.chain.now() // SLOT_SECONDS
        recent = world.profiles.window(
            known - RECENT_DAYS * SLOTS_PER_DAY, RECENT_DAYS * SLOTS_PER_DAY
        )
        position = (first_slot - recent.first_slot) % SLOTS_PER_DAY
        gate = first_slot * SLOT_SECONDS - self._rules["gate_lead"]
        followed = self.followed(world.chain.now())
        signed: list[SignedOrder] = []
        for i, resident in enumerate(world.residents):
            wanted = intent(
                recent.import_wh[:, i], recent.export_wh[:, i], position, slots, resident.limits
            )
            for side, limit, energy in (
                (ASK, resident.limits.floor, wanted.sell_wh),
                (BID, resident.limits.ceiling, wanted.buy_wh),
            ):
                capped = tuple(min(wh, self._rules["max_slot_wh"]) for wh in energy)
                if sum(capped) < self._rules["min_order_wh"]:
                    continue
                if (resident.meter, side) in followed:
                    continue
                mandate = MANDATES[side]
                order = Order(
                    account=resident.meter,
                    mandate=mandate,
                    nonce=world.nonces.take(resident.meter, mandate),
                    expiry=gate,
                    side=side,
                    limit=limit,
                    session_slot=first_slot,
                    offset=0,
                    wh=capped,
                    count=slots,
                )
                signature = sign_order(world.market_separator, order, resident.agent.key)
                signed.append(SignedOrder(order, signature))
        # They arrive in no particular order.
        rng = np.random.default_rng([self.settings.seed, 3, first_slot])
        signed = [signed[i] for i in rng.permutation(len(signed))]
        session = self._session(first_slot)
        if signed:
            accepted, rejected = market_session.post(
                self.market, ZONE, first_slot, signed, world.offices.relay
            )
            session.posted, session.rejected = len(accepted), len(rejected)
            for turned_away, reason in rejected:
                if reason != market_session.Rejection.NONCE_USED:
                    world.nonces.give_back(turned_away.order)

    def clear(self, first_slot: int) -> None:
        """The keeper reads the book from the chain, finds the prices, has them checked there."""
        session = self._session(first_slot)
        session.book = market_session.read_book(self.market, ZONE, first_slot)
        if not session.book.pages:
            return
        session.clearing = market_session.clear(
            self.auction,
            self.market,
            self.world.deployment["GridParameters"],
            ZONE,
            session.book,
            self.world.offices.keeper,
        )
        session.crossing = self._crossing(session)

    def settle(self, first_slot: int) -> None:
        """Devices sign what they exported, and the keeper settles by those receipts."""
        world, session = self.world, self._session(first_slot)
        if session.clearing is None or session.book is None:
            return
        exports = world.profiles.window(first_slot, session.slots).export_wh
        receipts: dict[int, DeviceReceipt] = {}
        for order in session.orders:
            if order.side == ASK and order.account not in receipts:
                proven, gateway = self._proof(first_slot, exports, order.account)
                signature = gateway.receipt(world.market_separator, first_slot, proven)
                receipts[order.account] = DeviceReceipt(order.account, proven, signature)
        try:
            receipt = market_session.settle(
                self.auction, self.market, ZONE, session.book, receipts, world.offices.keeper
            )
        except ContractReverted as error:
            self.unsettled.append({"first_slot": first_slot, "reason": error.reason})
            return
        state = market_session.read_session(self.market, ZONE, first_slot)
        fee = [
            int(self.market.call("clearing", ZONE, first_slot + k)[1]) for k in range(session.slots)
        ]
        _, zone_export = read_totals(
            world.deployment["ReadingLedger"], ZONE, first_slot, first_slot + session.slots
        )
        session.settlement = settle_session(
            session.orders,
            session.slots,
            session.clearing,
            {meter: r.exports for meter, r in receipts.items()},
            [int(wh) for wh in zone_export],
            fee,
            state.penalty,
        )
        if receipt is not None:
            self._compare(session, receipt.event("OrdersSettled").args["entries"])
        self._account(session)

    def _session(self, first_slot: int) -> Session:
        """The session as the keeper knows it so far."""
        return self.sessions.setdefault(first_slot, Session(first_slot, self._session_slots))

    def _proof(
        self, first_slot: int, exports: np.ndarray, account: int
    ) -> tuple[tuple[int, ...], Gateway]:
        """What an account's meter exported in each slot of a session, and the device that says so.
        The community battery's owner may sell too."""
        world = self.world
        if account == world.battery_meter:
            return tuple(self._battery_wh[first_slot][1].tolist()), world.battery_gateway
        return tuple(exports[:, account - 1].tolist()), world.fleet.gateways[account - 1]

    def _crossing(self, session: Session) -> int:
        """Slots in which a bid meets an ask, seen from the orders alone: the auctions there are."""
        best_bid = np.full(session.slots, -1)
        best_ask = np.full(session.slots, 1 << 20)
        fee, low, high = (self._rules[k] for k in ("grid_fee", "price_band_min", "price_band_max"))
        for order in session.orders:
            wh = np.array(order.wh) if order.is_profile else np.full(order.count, order.wh)
            here = np.zeros(session.slots, dtype=bool)
            here[order.offset : order.offset + order.count] = wh > 0
            if order.side == BID and order.limit - fee >= low:
                best_bid[here] = np.maximum(best_bid[here], min(order.limit - fee, high))
            elif order.side == ASK and order.limit <= high:
                best_ask[here] = np.minimum(best_ask[here], max(order.limit, low))
        return int((best_bid >= best_ask).sum())

    def _compare(self, session: Session, entries: bytes) -> None:
        """Hold the chain's settlement against the one computed here, order by order."""
        assert session.settlement is not None
        mine = session.settlement
        for i, entry in enumerate(unpack_entries(entries)):
            expected = (
                session.orders[i].account,
                int(mine.delivered_wh[i].sum()),
                int(mine.filled_wh[i].sum()),
                int(mine.credit[i]),
            )
            found = (entry.account, entry.delivered_wh, entry.filled_wh, entry.credit)
            if expected != found:
                self.faults.append(f"order {i} of session {session.first_slot}: {found}")

    def _account(self, session: Session) -> None:
        """Add a settled session to the sums.

        Gain is what sellers got over the feed-in tariff. Saving is what the energy that the
        buyers' meters really took would have cost at retail, less all that they paid: energy bought
        and not taken saves nothing. Penalties are apart.
        """
        assert session.settlement is not None
        tariffs, money = self.settings.tariffs, self.money
        settled = session.settlement
        orders = session.orders
        imports = self.world.profiles.window(session.first_slot, session.slots).import_wh
        bought: dict[int, np.ndarray] = {}
        for i, order in enumerate(orders):
            if order.side == ASK:
                delivered = int(settled.delivered_wh[i].sum())
                money.traded_wh += delivered
                money.seller_gain += int(settled.paid[i].sum()) - delivered * tariffs.feed_in
                money.penalties += int(settled.penalty[i].sum())
            else:
                money.buyer_saving -= int(settled.paid[i].sum())
                sofar = bought.get(order.account, np.zeros(session.slots, dtype=np.int64))
                bought[order.account] = sofar + settled.delivered_wh[i]
        for account, wh in bought.items():
            if account == self.world.battery_meter:
                continue  # the community's; it is no household's saving
            taken = int(np.minimum(wh, imports[:, account - 1]).sum())
            money.taken_wh += taken
            money.buyer_saving += taken * tariffs.retail
        money.grid_fees += int(settled.fees.sum())

    # -- meters and battery ----------------------------------------------------------------

    def measure(self, first_slot: int) -> None:
        """Devices sign their readings, the collector checks, stores and commits them."""
        world, slots = self.world, self._session_slots
        battery = self._run_battery(first_slot, slots)
        readings = sign(world, first_slot, slots, battery)
        report = world.collector.receive(readings)
        if report.rejected:
            raise CheckFailed(f"readings rejected: {'; '.join(report.messages()[:3])}")
        batch: Batch = world.collector.close_batch(first_slot, slots)
        world.commit(batch)
        world.readings += report.accepted

    def _run_battery(self, first_slot: int, slots: int) -> tuple[np.ndarray, np.ndarray]:
        """The battery's gateway finds its schedule on the chain, steers it, and reads it."""
        work = self.world.plant.run(first_slot, slots)
        self.world.battery = replace(self.world.battery, soc_wh=work.soc_wh)
        self._battery_wh[first_slot] = (work.import_wh, work.export_wh)
        return work.import_wh, work.export_wh

    def _stored_at(self, day_slot: int) -> int:
        """What the battery will hold when the day begins, its schedule until then obeyed, in Wh."""
        known = self.world.chain.now() // SLOT_SECONDS
        known -= known % self._session_slots  # up to here its runs are in the books
        run = self.world.battery.run(self._schedule(known), known, day_slot - known)
        return run.after.soc_wh

    def _schedule(self, slot: int) -> dict[int, int]:
        """Slot to power in W, from the windows that are in force for the slot's day."""
        windows = self.world.deployment["GridParameters"].call(
            "windows_of", ZONE, COMMUNITY_BATTERY, slot - slot % SLOTS_PER_DAY
        )
        return {
            at: int(window["value"])
            for window in windows
            for at in range(window["first_slot"], window["first_slot"] + window["slots"])
        }

    def grid(self, day_slot: int) -> None:
        """Power flow of what the day's meters showed, and of the same with a resting battery."""
        world = self.world
        day = world.profiles.window(day_slot, SLOTS_PER_DAY)
        net_w = (day.import_wh.astype(np.int64) - day.export_wh) * (3_600 // SLOT_SECONDS)
        buses = [h.bus for h in day.homes]
        firsts = range(day_slot, day_slot + SLOTS_PER_DAY, self._session_slots)
        battery_w = np.concatenate(
            [self._battery_wh[s][0] - self._battery_wh[s][1] for s in firsts]
        ) * (3_600 // SLOT_SECONDS)
        measured = world.grid.states(net_w, buses, battery_w=battery_w, battery=world.battery_spec)
        self.days.append(
            DayReport(day_slot, measured=measured, resting=world.grid.states(net_w, buses))
        )

    # -- forecast and vote -----------------------------------------------------------------

    def forecast(self, day_slot: int) -> None:
        """The forecaster reads the published totals, forecasts the day, and commits its hash."""
        world = self.world
        ledger = world.deployment["ReadingLedger"]
        until = int(ledger.call("committed_until", ZONE))
        known = self.settings.history_slot + len(self._net)
        net, export = read_totals(ledger, ZONE, known, until)
        self._net, self._export = np.append(self._net, net), np.append(self._export, export)
        published = ZoneTotals(self.settings.history_slot, self._net, self._export)
        battery_wh = self._battery_rows()
        history = without_battery(published, battery_wh)
        forecast = forecast_zone_day(history, day_slot, zone=ZONE)
        words = forecasts.pack_quantiles(forecast.net_q10, forecast.net_q50, forecast.net_q90)
        window = (forecast.train_first_slot, forecast.train_end_slot)
        roots = ["0x" + batch.root.hex() for batch in newest_batches(ledger, ZONE, *window)]
        document = forecast.evidence(published, roots, battery_wh)
        evidence = evidence_hash(document)
        path = ensure_parent(home() / "evidence" / f"zone-{ZONE}-{day_of(day_slot)}.json")
        path.write_bytes(canonical_json(document))
        salt = keccak(f"gridcommons demo forecast {self.settings.seed} {day_slot}".encode())
        forecaster = world.offices.forecaster
        world.deployment["ForecastRegistry"].transact(
            "commit",
            ZONE,
            day_slot,
            forecasts.commitment(ZONE, day_slot, forecaster.address, words, evidence, salt),
            sender=forecaster,
        )
        self.decisions[day_slot] = Decision(day_slot, forecast, words, salt, evidence, history)

    def _battery_rows(self) -> list[list[int]]:
        """What the battery did, as [slot, import, export] in Wh where it did something.

        It is taken out of the totals, and that is public: the windows stand on chain, and obeying
        them is the battery's data sheet.
        """
        return [
            [first_slot + k, int(taken[k]), int(given[k])]
            for first_slot, (taken, given) in self._battery_wh.items()
            for k in range(len(taken))
            if taken[k] or given[k]
        ]

    def reveal(self, day_slot: int) -> None:
        """After the deadline for commitments the quantiles go on chain."""
        decision = self.decisions[day_slot]
        self.world.deployment["ForecastRegistry"].transact(
            "reveal",
            ZONE,
            day_slot,
            decision.words,
            decision.evidence,
            decision.salt,
            sender=self.world.offices.forecaster,
        )

    def propose(self, day_slot: int) -> None:
        """Where the forecast breaks a limit, propose the smallest schedule that mends it."""
        world, decision = self.world, self.decisions[day_slot]
        decision.plan = plan_day(
            decision.forecast,
            world.grid,
            world.shares,
            world.battery_spec,
            history=decision.history,
            stored_wh=self._stored_at(day_slot),
        )
        windows = decision.plan.windows(COMMUNITY_BATTERY)
        if not self.settings.proposals or not windows:
            return
        decision.put = proposal_of(
            decision.plan,
            zone=ZONE,
            evidence=decision.evidence,
            homes=len(world.profiles.homes),
            timezone=DEMO_TIMEZONE,
            tariffs=self.settings.tariffs,
        )
        call = governance.battery_call(
            world.deployment["GridParameters"],
            ZONE,
            [(w.first_slot, w.slots, w.value) for w in windows],
        )
        try:
            decision.proposal = governance.propose(
                self.governor,
                [call],
                decision.put.description(),
                world.offices.forecaster,
                lane=Lane.POLICY if self.settings.policy else Lane.BALANCING,
                policy=POLICY if self.settings.policy else None,
            )
        except ContractReverted as error:
            # Out of allowance, of skill, or of bond: the day runs as forecast.
            self.refusals.append({"first_slot": day_slot, "reason": error.reason})
            return
        document = canonical_json(decision.put.document())
        ensure_parent(plan_path(decision.proposal.id)).write_bytes(document)
        # Its snapshot is a second after it, its vote opens then.
        decision.state = State.PENDING
        # The highest voltage of each slot that nine of ten courses stay below.
        for name, risk in (
            ("voltage_before", decision.plan.before),
            ("voltage_after", decision.plan.after),
        ):
            band = risk.limits["voltage_max"].band[2]
            setattr(decision, name, tuple(round(float(v), 5) for v in band))

    def vote(self, day_slot: int) -> None:
        """Members sign ballots, or objections; the relay carries them in batches."""
        decision = self.decisions[day_slot]
        proposal = decision.proposal
        if proposal is None:
            return
        separator = governance.governor_separator(self.governor)
        day = day_slot // SLOTS_PER_DAY
        asked = objections_of if self.settings.policy else ballots_of
        signed = [
            governance.sign_ballot(
                separator,
                member.account.key,
                member.account.address,
                proposal.id,
                support,
                reason,
                proposal.deadline,
            )
            for member, support, reason in asked(
                self.settings.seed, day, self.world.residents, self.settings.voters
            )
        ]
        governance.cast_ballots(self.governor, proposal.id, signed, self.world.offices.relay)
        # The batch brings the hashes of the reasons to the chain, and nobody the texts but us.
        reasons.publish(proposal.id, [one.reason for one in signed])
        self.ballots[day_slot] = len(signed)
        self._read_votes(decision)

    def queue(self, day_slot: int) -> None:
        """The vote is over: what passed goes to the timelock."""
        decision = self.decisions[day_slot]
        if decision.proposal is None:
            return
        self._read_votes(decision)
        if decision.state == State.SUCCEEDED:
            governance.queue(self.governor, decision.proposal, self.world.offices.keeper)
            self._read_votes(decision)

    def execute(self, day_slot: int) -> None:
        """The timelock's delay is over: the schedule comes into force."""
        decision = self.decisions[day_slot]
        if decision.proposal is not None and decision.state == State.QUEUED:
            governance.execute(self.governor, decision.proposal, self.world.offices.keeper)
            self._read_votes(decision)

    def score(self, day_slot: int) -> None:
        """The totals are final: the contract holds the forecast against them."""
        decision = self.decisions[day_slot]
        receipt = self.world.deployment["ForecastRegistry"].transact(
            "score",
            self.world.offices.forecaster.address,
            ZONE,
            day_slot,
            decision.words,
            sender=self.world.offices.keeper,
        )
        for event in receipt.events:
            if event.name == "ForecastScored":
                decision.loss = int(event.args["loss"])
                decision.naive_loss = int(event.args["naive_loss"])

    def forecaster_earned(self) -> int:
        """What the scores added to the forecaster's bond so far, in µ€; they may also cost."""
        registry = self.world.deployment["ForecastRegistry"]
        return int(registry.call("bond_of", self.world.offices.forecaster.address)[0]) - BOND

    def _read_votes(self, decision: Decision) -> None:
        assert decision.proposal is not None
        decision.state = governance.state(self.governor, decision.proposal)
        against, favour, abstain = self.governor.call("proposalVotes", decision.proposal.id)
        decision.votes = (int(against), int(favour), int(abstain))
        if self.world.chain.now() > decision.proposal.snapshot:
            decision.quorum = int(self.governor.call("quorumOf", decision.proposal.id))

    # -- shorthands ------------------------------------------------------------------------

    @property
    def market(self) -> Contract:
        return self.world.deployment["EnergyMarket"]

    @property
    def auction(self) -> Contract:
        return self.world.deployment["UniformPriceAuction"]

    @property
    def governor(self) -> Contract:
        return self.world.deployment["GridGovernor"]
