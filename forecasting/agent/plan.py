# SPDX-License-Identifier: Apache-2.0
"""One order for one session inside an offer and its mandate, or the reason why there is none.

Plain functions over plain data: nothing is read or sent here. How much a home can count on is
`home_agent.intent`'s; this module cuts it to what the owner allowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dao.market.account import CAP_UNIT, DAY_SECONDS, Mandate
from dao.market.orders import ASK, MAX_WH
from dao.relay.checks import CENT
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from forecasting.agent.offers import StandingOffer
from forecasting.agent.recent import Recent
from forecasting.home_agent import Limits, intent


@dataclass(frozen=True)
class Terms:
    """A session to order for. gate, orders_until: unix seconds, the latter the relay's last call;
    prices in µ€/Wh, one per slot; penalty: of a Wh sold and not delivered."""

    first_slot: int
    slots: int
    gate: int
    orders_until: int
    penalty: int
    min_order_wh: int
    max_slot_wh: int
    grid_fee: tuple[int, ...]
    band_min: tuple[int, ...]
    band_max: tuple[int, ...]


@dataclass(frozen=True)
class Means:
    """What an account has to order with. zone: 0 where it is not open; mandate: as granted, None
    where none is in force; spent: token units of today's cap; available: free balance, token
    units; nonces: order numbers to use."""

    zone: int
    mandate: Mandate | None
    spent: int
    available: int
    nonces: tuple[int, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """An order to sign. limit: µ€/Wh; wh: per slot from first_slot; facts: how it came about."""

    first_slot: int
    limit: int
    wh: tuple[int, ...]
    escrow: int
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Idle:
    """Why nothing is ordered: a code and its facts, which `words` turns into a sentence."""

    code: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def plan(
    offer: StandingOffer,
    agent: str,
    terms: Terms,
    recent: Recent,
    means: Means,
    ordered: Mapping[int, int],
    now: int,
) -> Wanted | Idle:
    """What to order for a session, within the offer, the mandate and the account's money.

    agent: address of the key that signs; ordered: Wh by slot that other orders of this account and
    side already name, of all days that the session touches; now: chain time, unix seconds.
    """
    refused = _may_not(offer, agent, terms, means, now)
    if refused is not None:
        return refused
    granted = means.mandate
    assert granted is not None
    # The stricter of the two prices lies inside both.
    limit = (max if offer.side == ASK else min)(offer.limit, granted.limit)
    likely = dependable_day(offer, recent)
    wh, why_not = allowed_energy(offer, terms, recent, likely, ordered)
    if why_not is not None:
        return why_not
    tradeable = np.array(
        [
            limit <= high if offer.side == ASK else limit >= fee + low
            for fee, low, high in zip(terms.grid_fee, terms.band_min, terms.band_max, strict=True)
        ]
    )
    if not (wh[tradeable] > 0).any():
        return Idle("price-outside", {"limit": limit, **_bounds(offer, terms)})
    wh = np.minimum(np.where(tradeable, wh, 0), min(terms.max_slot_wh, MAX_WH))
    facts: dict[str, Any] = {}
    if limit != offer.limit:
        facts["mandate_limit"] = granted.limit
    rate = terms.penalty if offer.side == ASK else limit
    left = max(0, granted.daily_cap * CAP_UNIT - means.spent) // CENT * CENT
    affordable = min(left, means.available) // rate if rate else int(wh.sum())
    if affordable < wh.sum():
        facts["cut_by"] = "cap" if left < means.available else "balance"
        wh = scaled(wh, affordable)
    total = int(wh.sum())
    if total < max(1, terms.min_order_wh):
        facts |= {"wh": total, "min_order_wh": terms.min_order_wh}
        if "cut_by" in facts:
            return Idle(f"{facts.pop('cut_by')}-used", {**facts, "left": left})
        return Idle("too-small", facts)
    used = np.flatnonzero(wh)
    first, end = int(used[0]), int(used[-1]) + 1
    return Wanted(
        terms.first_slot + first,
        limit,
        tuple(int(value) for value in wh[first:end]),
        total * rate,
        facts,
    )


def _may_not(offer: StandingOffer, agent: str, terms: Terms, means: Means, now: int) -> Idle | None:
    """What forbids any order at all."""
    slots = range(terms.first_slot, terms.first_slot + terms.slots)
    if offer.withdrawn:
        return Idle("withdrawn")
    if now >= offer.valid_until or slots[0] * SLOT_SECONDS >= offer.valid_until:
        return Idle("expired", {"valid_until": offer.valid_until})
    if not any(offer.covers(slot) for slot in slots):
        return Idle("other-hours")
    mandate = means.mandate
    if mandate is None:
        return Idle("no-mandate", {"mandate": offer.mandate})
    if mandate.agent.lower() != agent.lower():
        return Idle("other-agent", {"mandate": offer.mandate, "agent": mandate.agent})
    if mandate.side != offer.side:
        return Idle("other-side", {"mandate": offer.mandate})
    # It may be posted at any time up to the gate.
    if max(now, terms.gate) // DAY_SECONDS > mandate.last_day:
        return Idle("mandate-over", {"mandate": offer.mandate, "last_day": mandate.last_day})
    if not means.nonces:
        return Idle("no-number", {"mandate": offer.mandate})
    return None


def dependable_day(offer: StandingOffer, recent: Recent) -> np.ndarray:
    """Wh that the home can count on to sell, or to need, in each slot of a day; shape (96,), in
    the order of the recent days' slots."""
    if offer.side == ASK:
        limits = Limits(offer.limit, 0, sell_permille=offer.caution)
    else:
        limits = Limits(0, offer.limit, buy_permille=offer.caution)
    wanted = intent(recent.import_wh, recent.export_wh, 0, SLOTS_PER_DAY, limits)
    return np.array(wanted.sell_wh if offer.side == ASK else wanted.buy_wh, dtype=np.int64)


def allowed_energy(
    offer: StandingOffer,
    terms: Terms,
    recent: Recent,
    likely: np.ndarray,
    ordered: Mapping[int, int],
) -> tuple[np.ndarray, Idle | None]:
    """Wh per slot of a session that hours, reserve or daily amount leave; with the reason where
    that is nothing.

    What may be ordered of a local day is shared out over its slots in proportion to what is likely
    in each, so that no session of the day depends on another; what other orders of that day name
    already is taken off.
    """
    slots = range(terms.first_slot, terms.first_slot + terms.slots)
    wh = np.zeros(terms.slots, dtype=np.int64)
    likely_here = budget_left = 0
    for day in _days(offer, slots):
        expected = np.array(
            [likely[recent.position(slot)] if offer.covers(slot) else 0 for slot in day],
            dtype=np.int64,
        )
        total = int(expected.sum())
        budget = max(0, total - offer.daily_wh) if offer.side == ASK else offer.daily_wh
        share = scaled(expected, budget)
        budget -= sum(ordered.get(slot, 0) for slot in day)
        here = [i for i, slot in enumerate(day) if slot in slots]
        mine = np.array(
            [0 if day[i] in ordered else share[i] for i in here],
            dtype=np.int64,
        )
        mine = _up_to(mine, max(0, budget))
        likely_here += int(expected[here].sum())
        budget_left += max(0, budget)
        for i, value in zip(here, mine, strict=True):
            wh[day[i] - terms.first_slot] = value
    if wh.any():
        return wh, None
    if likely_here == 0:
        return wh, Idle("nothing-likely", _seen(offer, slots, recent))
    if offer.side == ASK:
        return wh, Idle("reserve", {"likely_wh": likely_here, "daily_wh": offer.daily_wh})
    return wh, Idle("day-used", {"daily_wh": offer.daily_wh, "left": budget_left})


def scaled(wh: np.ndarray, most: int) -> np.ndarray:
    """Energies that sum to at most `most`, in proportion, by cumulative rounding; none grows."""
    total = int(wh.sum())
    if total <= most:
        return wh
    running = np.cumsum(wh) * max(0, most) // total
    return np.diff(running, prepend=0)


def _up_to(wh: np.ndarray, most: int) -> np.ndarray:
    """Energies in order until `most` is used up."""
    return np.diff(np.minimum(np.cumsum(wh), most), prepend=0)


def _days(offer: StandingOffer, slots: Sequence[int]) -> list[list[int]]:
    """The whole local days that some slots lie in, each as its slots: 92, 96 or 100 of them."""
    # Slots of the days before and after are looked at too; the clock decides what belongs.
    local = {slot: offer.local(slot).date() for slot in range(slots[0] - 108, slots[-1] + 108)}
    dates = sorted({local[slot] for slot in slots})
    return [[slot for slot, date in local.items() if date == day] for day in dates]


def _seen(offer: StandingOffer, slots: Sequence[int], recent: Recent) -> dict[str, Any]:
    """What the recent days really showed in these slots of the day: the most of any of them."""
    flow = recent.export_wh if offer.side == ASK else recent.import_wh
    here = [recent.position(slot) for slot in slots if offer.covers(slot)]
    per_day = flow.reshape(-1, SLOTS_PER_DAY)[:, here].sum(axis=1)
    return {"days": recent.days, "most_wh": int(per_day.max())}


def _bounds(offer: StandingOffer, terms: Terms) -> dict[str, int]:
    if offer.side == ASK:
        return {"accepted": max(terms.band_max)}
    return {
        "accepted": min(fee + low for fee, low in zip(terms.grid_fee, terms.band_min, strict=True))
    }


def plain_offer(
    account: int, side: int, mandate: int, limit: int, caution: int, until: int
) -> StandingOffer:
    """The offer that a home without wishes of its own follows: all hours, nothing kept back, as
    much as is needed. until: unix seconds."""
    everything = StandingOffer(
        account=account,
        side=side,
        version=1,
        withdrawn=False,
        mandate=mandate,
        limit=limit,
        daily_wh=0,
        hours=(1 << 24) - 1,
        weekdays=(1 << 7) - 1,
        caution=caution,
        valid_until=until,
        timezone="UTC",
    )
    return everything if side == ASK else replace(everything, daily_wh=1_000_000_000)
