# SPDX-License-Identifier: Apache-2.0
"""What the keeper works with, what it finds open on chain, and how it tells what it did."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, partial
from typing import Any, Protocol

from dao import forecasts, governance, membership, treasury
from dao.chain import Account, Chain, Contract, Event, Receipt
from dao.deployment import Deployment
from dao.governance import Proposal, State
from dao.keeper.sending import AskedFirst
from dao.keeper.watch import Bookmark, Watch
from dao.market import session as market_session
from dao.market.session import DeviceReceipt, SessionState
from dao.membership import Announcement
from dao.parameters import KEYS
from dao.slots import SLOT_SECONDS

COLLECT_ABOVE = 10_000_000
"""Fees below 10 euro stay in the market: collecting costs gas however little it is."""

# Of a forecast in `ForecastRegistry`.
_COMMITTED, _REVEALED = 1, 2
_OVER = (State.CANCELED, State.DEFEATED, State.EXPIRED, State.EXECUTED)


class Outcome(StrEnum):
    """What became of a step."""

    DONE = "done"
    LOST = "lost"
    """Somebody else was faster: as good as done."""
    WAITING = "waiting"
    FAILED = "failed"
    WARNING = "warning"


@dataclass(frozen=True)
class Action:
    """One thing that a duty did, or could not do.

    time: chain time, unix seconds; about: zone, first_slot and the like; gas includes what
    transactions in vain have cost.
    """

    time: int
    duty: str
    about: Mapping[str, int | str]
    outcome: Outcome
    detail: str = ""
    transactions: tuple[str, ...] = ()
    gas: int = 0


class ReceiptSource(Protocol):
    """Where devices leave their receipts, for example `dao.relay.store.RelayStore`."""

    def receipts(self, first_slot: int) -> Mapping[int, DeviceReceipt]:
        """The receipts of the sessions that begin with `first_slot`, by meter."""
        ...


@dataclass(frozen=True)
class Session:
    """A session that orders were posted to and that is not settled; `opened` is a block."""

    zone: int
    first_slot: int
    opened: int
    state: SessionState

    @property
    def place(self) -> tuple[int, int]:
        """How the contract finds it."""
        return self.zone, self.first_slot

    @property
    def about(self) -> dict[str, int | str]:
        """How a log names it."""
        return {"zone": self.zone, "first_slot": self.first_slot}

    @property
    def end(self) -> int:
        """When its delivery is over, unix seconds."""
        return (self.first_slot + self.state.slots) * SLOT_SECONDS

    @property
    def is_cleared(self) -> bool:
        """Whether cleared slots are left to settle."""
        return self.state.settled < self.state.cleared

    def can_clear(self, now: int) -> bool:
        """Whether slots are left to clear and the gate is closed."""
        state = self.state
        return not state.void and state.cleared < state.slots and state.gate <= now


@dataclass(frozen=True)
class OpenProposal:
    """A proposal that may still be queued or executed, or that still binds a bond, in µ€."""

    proposal: Proposal
    state: State
    bond: int

    @property
    def about(self) -> dict[str, int | str]:
        """How a log names it."""
        return {"proposal": str(self.proposal.id)}


@dataclass(frozen=True)
class OpenForecast:
    """A forecast without a score; `words` are empty while it is not revealed."""

    forecaster: str
    zone: int
    first_slot: int
    words: tuple[int, ...]
    committed_at: int

    @property
    def place(self) -> tuple[str, int, int]:
        """How the contract finds it."""
        return self.forecaster, self.zone, self.first_slot

    @property
    def about(self) -> dict[str, int | str]:
        """How a log names it."""
        return {
            "zone": self.zone,
            "first_slot": self.first_slot,
            "forecaster": self.forecaster,
        }


@dataclass(frozen=True)
class OpenAnnouncement:
    """A member who is about to join or to leave."""

    announcement: Announcement

    @property
    def about(self) -> dict[str, int | str]:
        """How a log names it."""
        return {"meter": self.announcement.meter, "member": self.announcement.member}


@dataclass(frozen=True)
class OpenDispute:
    """A complaint about a forecast that holds the forecaster's bond."""

    number: int
    opened_at: int

    @property
    def about(self) -> dict[str, int | str]:
        """How a log names it."""
        return {"dispute": self.number}


@dataclass(frozen=True)
class OpenPayment:
    """A payment of the treasury that recurs; the next one is due at `due_at`, unix seconds."""

    number: int
    due_at: int

    @property
    def about(self) -> dict[str, int | str]:
        """How a log names it."""
        return {"payment": self.number}


@dataclass
class Setback:
    """What was tried last and did not succeed, and when it is tried again, whatever happens."""

    seen: object
    detail: str
    again: int
    failures: int


@dataclass(frozen=True)
class Context:
    """What the duties work with: the deployment, whose money pays the gas, and the receipts.

    receipts: None where the keeper knows only those that are lodged on chain. conflicts: meter,
    first slot, and receipts for that session which contradict each other, as their source met them.
    bookmarks and setbacks are kept from tick to tick and save work; nothing depends on them.
    report hears of every action at once, before a later step can fail. max_gas_price: wei.
    collect_above: least fees due, in token units, that are sent to the treasury.
    """

    deployment: Deployment
    account: Account
    receipts: ReceiptSource | None = None
    conflicts: Callable[[], Iterable[tuple[int, int, Sequence[DeviceReceipt]]]] = tuple
    report: Callable[[Action], None] = lambda action: None
    stopping: Callable[[], bool] = lambda: False
    max_gas_price: int | None = None
    collect_above: int = COLLECT_ABOVE
    lodges: bool = True
    bookmarks: dict[str, Bookmark] = field(default_factory=dict)
    setbacks: dict[tuple[object, ...], Setback] = field(default_factory=dict)

    @property
    def chain(self) -> Chain:
        """Where the deployment lies."""
        return self.deployment.chain

    @property
    def market(self) -> Contract:
        """Accounts, sessions and money: voids and abandons, pays fees out."""
        return self.deployment["EnergyMarket"]

    @property
    def auction(self) -> Contract:
        """Clears, settles, and keeps receipts on record."""
        return self.deployment["UniformPriceAuction"]

    def asked_first(self, name: str, sent: list[Receipt]) -> AskedFirst:
        """The contract `name` for sending to."""
        found = self.deployment[name]
        return AskedFirst(
            found.name,
            found.address,
            found.interface,
            found.chain,
            max_gas_price=self.max_gas_price,
            sent=sent,
        )

    def rule_at(self, name: str, when: int) -> int:
        """The value of a rule at a past time."""
        return int(self.deployment["GridParameters"].call("value_at", KEYS[name], when))

    def metered(self, zone: int, end_slot: int) -> bool:
        """Whether the zone's readings are committed up to `end_slot`."""
        return int(self.deployment["ReadingLedger"].call("committed_until", zone)) >= end_slot

    @cached_property
    def sessions(self) -> Watch[Session]:
        """Sessions not settled. One without orders needs nothing once its gate is closed."""

        def read(event: Event, time: int) -> Session | None:
            zone, first_slot = int(event.args["zone"]), int(event.args["first_slot"])
            state = market_session.read_session(self.market, zone, first_slot)
            over = state.settled == state.slots or (state.orders == 0 and state.gate <= time)
            return None if over else Session(zone, first_slot, event.block, state)

        return self._watch("EnergyMarket", "SessionOpened", read)

    @cached_property
    def proposals(self) -> Watch[OpenProposal]:
        """Proposals that can still be executed, or whose bond is not released."""

        def read(event: Event, time: int) -> OpenProposal | None:
            governor = self.deployment["GridGovernor"]
            proposal = _proposal(event)
            state = governance.state(governor, proposal)
            bond = int(governor.call("proposalBond", proposal.id))
            return None if state in _OVER and not bond else OpenProposal(proposal, state, bond)

        return self._watch("GridGovernor", "ProposalCreated", read)

    @cached_property
    def revealed(self) -> Watch[OpenForecast]:
        """Revealed forecasts without a score."""
        return self._watch(
            "ForecastRegistry", "ForecastRevealed", partial(self._forecast, _REVEALED)
        )

    @cached_property
    def commitments(self) -> Watch[OpenForecast]:
        """Forecasts that are committed and not revealed."""
        return self._watch(
            "ForecastRegistry", "ForecastCommitted", partial(self._forecast, _COMMITTED)
        )

    def _forecast(self, wanted: int, event: Event, time: int) -> OpenForecast | None:
        args = event.args
        place = (args["forecaster"], int(args["zone"]), int(args["first_slot"]))
        registry = self.deployment["ForecastRegistry"]
        status, committed_at, _ = registry.call("forecast_of", *place)
        if status != wanted:
            return None
        return OpenForecast(*place, tuple(args.get("words", ())), committed_at)

    @cached_property
    def announcements(self) -> Watch[OpenAnnouncement]:
        """Members who are about to join."""
        return self._watch("Membership", "AdmissionAnnounced", self._announcement)

    @cached_property
    def removals(self) -> Watch[OpenAnnouncement]:
        """Members who are about to leave."""
        return self._watch("Membership", "RemovalAnnounced", self._announcement)

    def _announcement(self, event: Event, time: int) -> OpenAnnouncement | None:
        found = membership.announcement(self.deployment["Membership"], int(event.args["meter"]))
        # The metering point may have another announcement by now, which has an event of its own.
        if found is None or found.effective_at != int(event.args["effective_at"]):
            return None
        return OpenAnnouncement(found)

    @cached_property
    def disputes(self) -> Watch[OpenDispute]:
        """Disputes about forecasts that are not decided."""

        def read(event: Event, time: int) -> OpenDispute | None:
            registry = self.deployment["ForecastRegistry"]
            found = forecasts.dispute_of(registry, int(event.args["dispute_id"]))
            return OpenDispute(found.id, found.opened_at) if found.state == "open" else None

        return self._watch("ForecastRegistry", "DisputeOpened", read)

    @cached_property
    def payments(self) -> Watch[OpenPayment]:
        """Recurring payments that have not ended."""

        def read(event: Event, time: int) -> OpenPayment | None:
            number = int(event.args["recurring_id"])
            found = treasury.recurring(self.deployment["Treasury"], number)
            if found.ended or found.paid == found.count:
                return None
            return OpenPayment(number, found.first_at + found.paid * found.period_seconds)

        return self._watch("Treasury", "RecurringMade", read)

    def _watch(self, contract: str, event: str, read: Callable[[Event, int], Any]) -> Watch[Any]:
        return Watch(
            self.deployment[contract], event, self.deployment.first_block, read, self.bookmarks
        )


Duty = Callable[[Context, int], list[Action]]


def _proposal(event: Event) -> Proposal:
    args = event.args
    calls = zip(args["targets"], args["calldatas"], args["values"], strict=True)
    return Proposal(
        id=int(args["proposalId"]),
        calls=tuple(governance.Call(*call) for call in calls),
        description=args["description"],
        snapshot=int(args["voteStart"]),
        deadline=int(args["voteEnd"]),
    )
