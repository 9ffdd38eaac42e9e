# SPDX-License-Identifier: Apache-2.0
"""What the loop keeps of a run: sessions, decisions, days, money, and the steps to come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dao.governance import Proposal, State
from dao.market.orders import Order
from dao.market.session import PostedBook
from dao.market.settlement import Settlement
from dao.market.solver import SessionClearing
from forecasting.balancing import Plan
from forecasting.balancing.proposal import BalancingProposal
from forecasting.grid import GridResult
from forecasting.zone import DayForecast, ZoneTotals


@dataclass
class Session:
    """A session as the keeper sees it."""

    first_slot: int
    slots: int
    posted: int = 0
    rejected: int = 0
    book: PostedBook | None = None
    clearing: SessionClearing | None = None
    crossing: int = 0
    settlement: Settlement | None = None

    @property
    def orders(self) -> list[Order]:
        """The book as read back from the chain, in order of arrival."""
        return self.book.orders if self.book is not None else []


@dataclass
class Decision:
    """A day's forecast and what became of it."""

    first_slot: int
    forecast: DayForecast
    words: list[int]
    salt: bytes
    evidence: bytes
    history: ZoneTotals
    plan: Plan | None = None
    put: BalancingProposal | None = None
    proposal: Proposal | None = None
    state: State | None = None
    votes: tuple[int, int, int] = (0, 0, 0)
    quorum: int = 0
    loss: int | None = None
    naive_loss: int | None = None
    voltage_before: tuple[float, ...] = ()
    voltage_after: tuple[float, ...] = ()


@dataclass
class DayReport:
    """What a day's measured flows did to the grid, with the battery and had it rested."""

    first_slot: int
    measured: GridResult
    resting: GridResult
    seconds: float = 0.0


@dataclass
class Money:
    """Running sums over settled sessions; Wh and µ€."""

    traded_wh: int = 0
    taken_wh: int = 0
    seller_gain: int = 0
    buyer_saving: int = 0
    grid_fees: int = 0
    penalties: int = 0


@dataclass(frozen=True)
class Step:
    """Something due at a time; `order` decides where two are due at once."""

    at: int
    order: int
    name: str
    day: int
    run: Callable[[], None]
