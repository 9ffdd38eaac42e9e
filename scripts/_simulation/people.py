# SPDX-License-Identifier: Apache-2.0
"""The demo's residents: their keys, their price limits, and how they vote. All follows the seed.

The owners' keys come from `dao.demo_people`, the agents' are derived here in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dao.chain import LocalAccount
from dao.demo_people import owner_account
from dao.eip712 import keccak
from dao.governance import Support
from dao.market.account import MAX_CAP, Mandate
from dao.market.solver import ASK, BID
from dao.tariffs import Tariffs
from forecasting.home_agent import Limits

# Of a hundred members who are asked, so many send a ballot, and so many of those go with the mood.
TURNOUT_PERCENT = 65
MOOD_PERCENT = 85
# The number of each side's mandate, the same in every home.
MANDATES = {BID: 1, ASK: 2}

_FOR = (
    "A few hours of charging cost little and spare us the voltage alarms.",
    "The last forecasts were right, I trust this one.",
    "My inverter switched off twice last summer. Please do.",
    "",
)
_AGAINST = (
    "I would rather see the cable replaced.",
    "The battery should not wear out for one sunny hour.",
    "Show me first that the last one helped.",
    "",
)


@dataclass(frozen=True)
class Resident:
    """An owner of one metering point, and the agent at home that orders under two mandates."""

    meter: int
    account: LocalAccount = field(repr=False)
    agent: LocalAccount = field(repr=False)
    limits: Limits

    def mandates(self, last_day: int) -> dict[int, Mandate]:
        """By number what the agent may do: buy up to the owner's ceiling, sell from the floor."""
        return {
            number: Mandate(self.agent.address, side, limit, MAX_CAP, last_day)
            for number, side, limit in (
                (MANDATES[BID], BID, self.limits.ceiling),
                (MANDATES[ASK], ASK, self.limits.floor),
            )
        }


def residents(seed: int, meters: list[int], tariffs: Tariffs) -> list[Resident]:
    """One resident per metering point, each with limits of their own.

    Sellers want something over the feed-in tariff, buyers something under retail; how much differs
    from home to home, uniformly over a third and a half of the gap between the two.
    """
    rng = np.random.default_rng([seed, 1])
    gap = tariffs.retail - tariffs.feed_in - tariffs.grid_fee
    markup = rng.integers(1, gap // 3 + 2, size=len(meters))
    discount = rng.integers(0, gap // 2 + 1, size=len(meters))
    return [
        Resident(
            meter=meter,
            account=owner_account(seed, meter),
            agent=LocalAccount.from_key(keccak(f"gridcommons demo agent {seed} {meter}".encode())),
            limits=Limits(
                floor=tariffs.feed_in + int(markup[i]), ceiling=tariffs.retail - int(discount[i])
            ),
        )
        for i, meter in enumerate(meters)
    ]


def objections_of(
    seed: int, day: int, members: list[Resident], mood: str
) -> list[tuple[Resident, Support, str]]:
    """Who objects to a day's action under a standing policy, and why.

    Nobody has to say yes; and of those who would vote no, every second one finds it worth a
    signature.
    """
    against = [
        ballot for ballot in ballots_of(seed, day, members, mood) if ballot[1] is Support.AGAINST
    ]
    return against[::2]


def ballots_of(
    seed: int, day: int, members: list[Resident], mood: str
) -> list[tuple[Resident, Support, str]]:
    """Who votes how on a day's proposal, and why; `mood` is accept or reject."""
    rng = np.random.default_rng([seed, 2, day])
    cast = []
    for member in members:
        turns_out = rng.integers(100) < TURNOUT_PERCENT
        with_mood = rng.integers(100) < MOOD_PERCENT
        words = int(rng.integers(4))
        if not turns_out:
            continue
        favours = with_mood == (mood == "accept")
        support = Support.FOR if favours else Support.AGAINST
        cast.append((member, support, (_FOR if favours else _AGAINST)[words]))
    return cast
