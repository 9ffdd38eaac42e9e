# SPDX-License-Identifier: Apache-2.0
"""Gas on the receipts of a real node under Osaka's rules.

Accounts are funded, signatures checked, escrow moved; contracts are as `dao.deployment` puts them
there. Gas is exact, so the figures are the same on every machine; tests/integration holds them to
bounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks import openzeppelin
from benchmarks.results import Number, Result
from benchmarks.street import (
    DAY,
    DAY_SLOT,
    ZONE,
    Street,
    require,
    street,
)
from dao import forecasts, governance
from dao.chain import Contract, Receipt
from dao.eip712 import sign_digest
from dao.governance import Call, Proposal, Support
from dao.market import session
from dao.market.account import Mandate, grant_signed, mandate_digest
from dao.market.orders import ASK, BID
from dao.market.session import SignedOrder
from dao.parameters import KEYS
from dao.slots import SLOTS_PER_DAY

HOUR = 3_600
PRICE = 250
FEE = 110
SESSION_SLOTS = 24
SHORT_WH = 60
# The forecast is held against the same day a week before; an ordinary decision takes eight days, so
# its vote is open while the history is metered.
HISTORY_DAYS = 9
BALLOTS = 50
# The last UTC day on which an order under a benchmark's mandate can be posted.
LAST_DAY = DAY_SLOT // SLOTS_PER_DAY + 30


@dataclass
class Tally:
    """The figures as they come in."""

    figures: dict[str, Number] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, gas: int, share: int = 1, note: str = "") -> None:
        """Gas of something, divided over `share` orders or ballots, rounded up."""
        self.figures[name] = -(-gas // share)
        if note:
            self.notes[name] = note


def run() -> Result:
    """All figures, and OpenZeppelin's Governor after ours, on one node. Raises CheckFailed where
    that is not installed."""
    peer = openzeppelin.load()
    tally = Tally()
    with street(HISTORY_DAYS) as on:
        one_session = dao_figures(on, tally)
        market_and_forecast_figures(on, tally, one_session)
        on.check_conservation()
        peers = openzeppelin.measure(on, peer)
    return Result(
        figures=tally.figures,
        peers=peers,
        ratios=openzeppelin.ratios(tally.figures, peers),
        notes=tally.notes | openzeppelin.NOTES,
    )


# Governance


def dao_figures(on: Street, tally: Tally) -> Proposal:
    """Two proposals: one session a day from the day after on, in the ordinary lane, which gives the
    figures; and the battery's schedule in the balancing lane, which shows what a vote costs those
    who have voted before. Returns the first one, queued."""
    parameters, governor = on.deployment["GridParameters"], on.deployment["GridGovernor"]
    schedule = [governance.battery_call(parameters, ZONE, [(DAY_SLOT + 40, 8, 60_000)])]
    one_session = Call(
        parameters.address, parameters.encode("set_value", KEYS["sessions_per_day"], 1)
    )
    first, used = _propose(on, "propose", [one_session], "One session a day is enough.")
    tally.put("dao.propose_1", used.gas_used)
    on.chain.set_time(first.snapshot + 60)
    votes = [_vote(on, first, member) for member in (1, 2)]
    tally.put("dao.vote_first_ever", votes[0].gas_used)
    tally.put("dao.vote_new_voter", votes[1].gas_used)
    tally.put("dao.ballot_batch_new", _ballots(on, first).gas_used, BALLOTS)
    on.chain.set_time(first.deadline + 1)
    queued = governor.transact("queue", *first.arguments(), sender=on.relay)
    tally.put("dao.queue_1", queued.gas_used)

    on.at(-12 * HOUR)
    second, used = _propose(on, "proposeBalancing", schedule, "Charge the battery over noon.")
    tally.put("dao.propose_balancing_1", used.gas_used, note="by a member")
    on.chain.set_time(second.snapshot + 60)
    _vote(on, second, 1)
    tally.put("dao.vote_returning", _vote(on, second, 2).gas_used)
    tally.put("dao.ballot_batch_returning", _ballots(on, second).gas_used, BALLOTS)
    on.chain.set_time(second.deadline + 1)
    queued = governor.transact("queue", *second.arguments(), sender=on.relay)
    on.chain.set_time(int(queued.event("ProposalQueued").args["etaSeconds"]))
    executed = governance.execute(governor, second, on.relay)
    tally.put("dao.execute_battery_1", executed.gas_used, note="opens a window for the battery")
    return first


def _propose(on: Street, lane: str, calls: list[Call], why: str) -> tuple[Proposal, Receipt]:
    receipt = on.deployment["GridGovernor"].transact(
        lane,
        [c.target for c in calls],
        [c.value for c in calls],
        [c.calldata for c in calls],
        why,
        sender=on.owners[0],
    )
    made = receipt.event("ProposalCreated").args
    proposal = Proposal(
        int(made["proposalId"]), tuple(calls), why, int(made["voteStart"]), int(made["voteEnd"])
    )
    return proposal, receipt


def _vote(on: Street, proposal: Proposal, member: int) -> Receipt:
    return on.deployment["GridGovernor"].transact(
        "castVote", proposal.id, int(Support.FOR), sender=on.owners[member]
    )


def _ballots(on: Street, proposal: Proposal) -> Receipt:
    governor = on.deployment["GridGovernor"]
    separator = governance.governor_separator(governor)
    voters = on.owners[50 : 50 + BALLOTS]
    ballots = [
        governance.sign_ballot(
            separator, one.key, one.address, proposal.id, Support.FOR, "", proposal.deadline
        )
        for one in voters
    ]
    before = governor.call("proposalVotes", proposal.id)[1]
    (receipt,) = governance.cast_ballots(governor, proposal.id, ballots, on.relay)
    counted = governor.call("proposalVotes", proposal.id)[1] - before
    require(counted == BALLOTS, f"{counted} of {BALLOTS} ballots were counted")
    return receipt


# Market, ledger and forecast, in the order in which a day brings them


def market_and_forecast_figures(on: Street, tally: Tally, one_session: Proposal) -> None:
    """The evening before the traded day, the day, and the four days until its score."""
    on.at(-6 * HOUR)
    forecast = _Forecast(on)
    gas_of_forecast = forecast.commit().gas_used

    on.at(-4 * HOUR)
    two_hundred = OneSlotBook(on, DAY_SLOT, sellers=100)
    posted = two_hundred.post(batch=100)
    tally.put("market.post_per_order_100", posted[0].gas_used, 100)
    five_hundred = OneSlotBook(on, DAY_SLOT + SESSION_SLOTS, sellers=250)
    largest = {"posting": five_hundred.post(batch=500)[0].gas_used}

    agents = AgentBook(on, DAY_SLOT + SESSION_SLOTS)
    tally.put(
        "market.mandate_order",
        agents.post().gas_used,
        agents.orders,
        note="ten agents for ten homes, in a session that is open",
    )

    executed = governance.execute(on.deployment["GridGovernor"], one_session, on.relay)
    tally.put("dao.execute_1", executed.gas_used, note="sets a rule in GridParameters")

    on.at(-HOUR + 60)
    tally.put("market.clear_per_order_200", two_hundred.clear().gas_used, 200)
    on.at(HOUR)
    gas_of_forecast += forecast.reveal().gas_used
    on.at(5 * HOUR + 60)
    largest["clearing"] = five_hundred.clear().gas_used
    for day in range(1 - HISTORY_DAYS, 0):
        on.commit_day(day)

    on.at(6 * HOUR)
    whole_day = LongBook(on, DAY_SLOT + SLOTS_PER_DAY)
    gas_of_day = {"post": whole_day.post()}
    on.at(23 * HOUR + 60)
    gas_of_day["clear"] = whole_day.clear()

    on.at(DAY + HOUR // 2)
    tally.put("ledger.commit_day", on.commit_day(0).gas_used)
    tally.put("market.settle_per_order_200", two_hundred.settle().gas_used, 200)
    largest["settling"] = five_hundred.settle().gas_used
    dearest = max(largest, key=lambda step: largest[step])
    tally.put("market.largest_tx_500", largest[dearest], note=f"{dearest}, one transaction each")

    on.at(2 * DAY + HOUR // 2)
    on.commit_day(1)
    gas_of_day["settle"] = whole_day.settle()
    tally.put(
        "market.all_in_per_order_slot",
        sum(sum(parts) for parts in gas_of_day.values()),
        whole_day.order_slots,
        note=", ".join(
            f"{step} {sum(parts):,} in {len(parts)}" for step, parts in gas_of_day.items()
        ),
    )

    on.at(4 * DAY)
    gas_of_forecast += forecast.score().gas_used
    tally.put(
        "dao.forecast_day", gas_of_forecast, note="commit + reveal + score of a forecaster's first"
    )


class AgentBook:
    """Ten orders by ten agents, each for a home of its own under a mandate."""

    orders = 10

    def __init__(self, on: Street, session_slot: int) -> None:
        self.on = on
        self.session_slot = session_slot
        market = on.deployment["EnergyMarket"]
        self.agents = on.devices[-self.orders :]
        self.accounts = range(len(on.owners) - self.orders + 1, len(on.owners) + 1)
        for account, agent in zip(self.accounts, self.agents, strict=True):
            terms = Mandate(agent.address, BID, PRICE + FEE, daily_cap=100, last_day=LAST_DAY)
            digest = mandate_digest(on.separator, account, 1, terms)
            signature = sign_digest(on.owners[account - 1].key, digest)
            grant_signed(market, account, 1, terms, signature, on.relay)

    def post(self) -> Receipt:
        """Nothing but these orders in one batch."""
        signed = [
            self.on.order(
                account, BID, PRICE, 400 + account, self.session_slot, mandate=1, key=agent.key
            )
            for account, agent in zip(self.accounts, self.agents, strict=True)
        ]
        return self.on.post(signed)


class OneSlotBook:
    """Sellers and as many buyers in one slot, all at the clearing price; half of the sellers
    deliver less than they sold."""

    def __init__(self, on: Street, session_slot: int, sellers: int) -> None:
        self.on = on
        self.session_slot = session_slot
        self.sellers = sellers
        self.orders: list[SignedOrder] = []
        for i in range(1, sellers + 1):
            ask = on.order(i, ASK, PRICE, self.wh(i), session_slot)
            # Demand is longer, so every ask is filled and the bids are rationed.
            bid = on.order(sellers + i, BID, PRICE + FEE, self.wh(i) + 150, session_slot)
            self.orders += [ask, bid]

    @staticmethod
    def wh(seller: int) -> int:
        """What a seller offers."""
        return 300 + seller

    def post(self, batch: int) -> list[Receipt]:
        """The book in batches; the first one opens the session."""
        return [
            self.on.post(self.orders[start : start + batch])
            for start in range(0, len(self.orders), batch)
        ]

    def clear(self) -> Receipt:
        """Clear the slot that the orders speak of."""
        book = session.read_book(self.on.deployment["EnergyMarket"], ZONE, self.session_slot)
        receipt = self.on.deployment["UniformPriceAuction"].transact(
            "clear",
            ZONE,
            self.session_slot,
            [PRICE],
            book.page_words,
            book.rows,
            sender=self.on.relay,
        )
        cleared = receipt.event("SlotCleared").args
        sold = sum(self.wh(i) for i in range(1, self.sellers + 1))
        require(cleared["volume_wh"] == sold, "not every ask was filled")
        return receipt

    def settle(self) -> Receipt:
        """Settle that slot with a receipt of every seller."""
        exports = {}
        for i in range(1, self.sellers + 1):
            exports[i] = [self.wh(i) - SHORT_WH * (i % 2)] + [0] * (SESSION_SLOTS - 1)
        market = self.on.deployment["EnergyMarket"]
        book = session.read_book(market, ZONE, self.session_slot)
        receipt = session.settle(
            self.on.deployment["UniformPriceAuction"],
            market,
            ZONE,
            book,
            self.on.receipts(self.session_slot, exports),
            self.on.relay,
        )
        if receipt is None:
            raise AssertionError("a cleared slot is there to settle")
        entries = session.unpack_entries(receipt.event("OrdersSettled").args["entries"])
        asks = [
            entry for order, entry in zip(book.orders, entries, strict=True) if order.side == ASK
        ]
        short = sum(entry.delivered_wh < entry.filled_wh for entry in asks)
        require(short == self.sellers // 2, f"{short} of {len(asks)} sellers fell short, not half")
        return receipt


class LongBook:
    """50 sellers and 50 buyers over all 96 slots of a day, a different Wh in every slot."""

    orders_each_side = 50

    def __init__(self, on: Street, session_slot: int) -> None:
        self.on = on
        self.session_slot = session_slot
        self.orders: list[SignedOrder] = []
        for i in range(1, self.orders_each_side + 1):
            # Limits differ and cross: in most slots nearly all of the energy trades.
            self.orders.append(on.order(i, ASK, 100 + i, self.wh(i), session_slot))
            bidder = self.orders_each_side + i
            self.orders.append(on.order(bidder, BID, 360 + i, self.wh(bidder), session_slot))

    @property
    def order_slots(self) -> int:
        """Orders times slots."""
        return len(self.orders) * SLOTS_PER_DAY

    @staticmethod
    def wh(account: int) -> tuple[int, ...]:
        """96 values, no two the same."""
        return tuple(300 + (37 * account + 5 * slot) % 480 for slot in range(SLOTS_PER_DAY))

    def post(self) -> list[int]:
        """Post all orders; gas of each transaction."""
        return [self.on.post(self.orders).gas_used]

    def clear(self) -> list[int]:
        """Clear the whole session; gas of each transaction."""
        market = self.on.deployment["EnergyMarket"]
        book = session.read_book(market, ZONE, self.session_slot)
        before = self.on.chain.gas_used
        solved = session.clear(
            self.on.deployment["UniformPriceAuction"],
            market,
            self.on.deployment["GridParameters"],
            ZONE,
            book,
            self.on.relay,
        )
        if solved is None or None in solved.prices:
            raise AssertionError("a slot of the long session does not trade")
        return [self.on.chain.gas_used - before]

    def settle(self) -> list[int]:
        """Settle the whole session, every second seller short; gas of each transaction."""
        exports = {
            i: [wh - SHORT_WH * (i % 2) for wh in self.wh(i)]
            for i in range(1, self.orders_each_side + 1)
        }
        market = self.on.deployment["EnergyMarket"]
        receipt = session.settle(
            self.on.deployment["UniformPriceAuction"],
            market,
            ZONE,
            session.read_book(market, ZONE, self.session_slot),
            self.on.receipts(self.session_slot, exports),
            self.on.relay,
        )
        if receipt is None:
            raise AssertionError("a cleared session is there to settle")
        state = session.read_session(self.on.deployment["EnergyMarket"], ZONE, self.session_slot)
        require(state.settled == SLOTS_PER_DAY, f"{state.settled} of 96 slots are settled")
        return [receipt.gas_used]


class _Forecast:
    """A forecast of the traded day, right on average."""

    def __init__(self, on: Street) -> None:
        self.on = on
        actual = [on.net_wh(0, slot) for slot in range(SLOTS_PER_DAY)]
        self.words = forecasts.pack_quantiles(
            [wh - 3_000 for wh in actual], [wh + 11 for wh in actual], [wh + 3_000 for wh in actual]
        )
        self.evidence = bytes(range(32))
        self.salt = bytes(range(100, 132))

    def commit(self) -> Receipt:
        digest = forecasts.commitment(
            ZONE, DAY_SLOT, self.on.forecaster.address, self.words, self.evidence, self.salt
        )
        return self._registry.transact("commit", ZONE, DAY_SLOT, digest, sender=self.on.forecaster)

    def reveal(self) -> Receipt:
        return self._registry.transact(
            "reveal",
            ZONE,
            DAY_SLOT,
            self.words,
            self.evidence,
            self.salt,
            sender=self.on.forecaster,
        )

    def score(self) -> Receipt:
        receipt = self._registry.transact(
            "score", self.on.forecaster.address, ZONE, DAY_SLOT, self.words, sender=self.on.relay
        )
        scored = receipt.event("ForecastScored").args["slots_scored"]
        # The executed window's eight slots are exempt.
        require(scored == SLOTS_PER_DAY - 8, f"{scored} slots were scored")
        return receipt

    @property
    def _registry(self) -> Contract:
        return self.on.deployment["ForecastRegistry"]
