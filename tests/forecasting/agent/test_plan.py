# SPDX-License-Identifier: Apache-2.0
"""An order lies inside offer, mandate and money whatever the readings are, or there is none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dao.market.orders import ASK, BID
from dao.relay.checks import counted
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY, first_slot_of_day
from forecasting.agent.offers import MOST_DAILY_WH, StandingOffer, hours_between
from forecasting.agent.plan import Idle, Means, Terms, Wanted, dependable_day, plain_offer, plan
from forecasting.agent.recent import Recent
from forecasting.home_agent import Limits, intent
from tests.forecasting.agent.samples import (
    AGENT,
    BUY,
    DAY,
    NOON,
    SELL,
    SLOTS,
    before,
    flat_home,
    mandated,
    means,
    terms,
)


def planned(
    offer: StandingOffer,
    recent: Recent,
    session: Terms | None = None,
    have: Means | None = None,
    ordered: dict[int, int] | None = None,
    now: int | None = None,
) -> Wanted | Idle:
    session = session or terms()
    now = before(session) if now is None else now
    return plan(offer, AGENT, session, recent, have or means(offer), ordered or {}, now)


def wanted(*given: Any, **changes: Any) -> Wanted:
    found = planned(*given, **changes)
    assert isinstance(found, Wanted), found
    return found


def reason(*given: Any, **changes: Any) -> str:
    found = planned(*given, **changes)
    assert isinstance(found, Idle), found
    return found.code


# What people ask for


def test_what_is_left_over_on_every_day_is_offered_at_the_floor() -> None:
    found = wanted(SELL, flat_home(0, 400))
    assert found.limit == 120
    assert found.first_slot == NOON
    assert found.wh == (400,) * SLOTS
    assert found.escrow == 400 * SLOTS * 100


def test_a_home_that_exports_nothing_hears_how_little_it_exported() -> None:
    found = planned(SELL, flat_home(300, 0))
    assert found == Idle("nothing-likely", {"days": 7, "most_wh": 0})


def test_one_sunny_day_of_seven_is_not_offered_but_named() -> None:
    recent = flat_home(100, 0)
    recent.export_wh[:SLOTS_PER_DAY] = 50
    found = planned(SELL, recent)
    assert found == Idle("nothing-likely", {"days": 7, "most_wh": 50 * SLOTS})


def test_the_reserve_is_kept_back_from_the_whole_day_in_proportion() -> None:
    day_wh = 400 * SLOTS_PER_DAY
    found = wanted(replace(SELL, daily_wh=day_wh // 4, timezone="UTC"), flat_home(0, 400))
    assert sum(found.wh) == 300 * SLOTS


def test_a_reserve_above_all_that_is_likely_leaves_nothing_to_sell() -> None:
    assert reason(replace(SELL, daily_wh=10**6), flat_home(0, 400)) == "reserve"


def test_only_the_hours_that_were_named_are_ordered_on_the_local_clock() -> None:
    offer = replace(SELL, hours=hours_between(14, 16))  # 12:00 to 14:00 UTC in summer
    found = wanted(offer, flat_home(0, 400))
    assert (found.first_slot, len(found.wh)) == (NOON, 8)
    assert reason(replace(SELL, hours=hours_between(3, 4)), flat_home(0, 400)) == "other-hours"


def test_other_weekdays_are_left_alone() -> None:
    assert reason(replace(SELL, weekdays=0b1111110), flat_home(0, 400)) == "other-hours"  # Monday


def test_what_is_needed_is_bought_up_to_the_amount_of_a_day() -> None:
    found = wanted(replace(BUY, daily_wh=2_000, timezone="UTC"), flat_home(400, 0))
    assert sum(found.wh) == 500
    assert found.limit == 300


def test_what_other_orders_of_the_day_name_is_taken_off() -> None:
    offer = replace(BUY, daily_wh=2_000, timezone="UTC")
    found = wanted(offer, flat_home(400, 0), ordered={DAY: 1_800})
    assert sum(found.wh) == 200
    assert reason(offer, flat_home(400, 0), ordered={DAY: 2_000}) == "day-used"


def test_a_slot_that_an_order_names_already_is_not_named_again() -> None:
    found = wanted(SELL, flat_home(0, 400), ordered={NOON: 10, NOON + 1: 10})
    assert found.first_slot == NOON + 2


# Offer and mandate that do not fit


def test_of_two_floors_the_higher_holds_and_of_two_ceilings_the_lower() -> None:
    assert wanted(SELL, flat_home(0, 400), have=mandated(SELL, limit=150)).limit == 150
    assert wanted(SELL, flat_home(0, 400), have=mandated(SELL, limit=90)).limit == 120
    assert wanted(BUY, flat_home(400, 0), have=mandated(BUY, limit=250)).limit == 250
    assert wanted(BUY, flat_home(400, 0), have=mandated(BUY, limit=999)).limit == 300


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"mandate": None}, "no-mandate"),
        ({"nonces": ()}, "no-number"),
        ({"available": 0}, "balance-used"),
        ({"spent": 409_500_000}, "cap-used"),
    ],
)
def test_without_the_means_nothing_is_ordered(changes: dict[str, Any], code: str) -> None:
    assert reason(SELL, flat_home(0, 400), have=means(SELL, **changes)) == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"agent": "0x" + "11" * 20}, "other-agent"),
        ({"side": BID}, "other-side"),
        ({"last_day": DAY // SLOTS_PER_DAY - 1}, "mandate-over"),
        ({"daily_cap": 0}, "cap-used"),
    ],
)
def test_a_mandate_for_something_else_is_not_used(changes: dict[str, Any], code: str) -> None:
    assert reason(SELL, flat_home(0, 400), have=mandated(SELL, **changes)) == code


def test_a_mandate_whose_last_day_ends_before_the_gate_is_over() -> None:
    """The order may be posted at any time until the gate, which may lie in the next day."""
    session = terms(DAY + SLOTS_PER_DAY + 8)  # begins at 02:00, its gate is at 01:00
    today = DAY // SLOTS_PER_DAY
    late = session.gate - 2 * 3_600
    have = mandated(SELL, last_day=today)
    assert reason(SELL, flat_home(0, 400), session, have, now=late) == "mandate-over"
    assert wanted(SELL, flat_home(0, 400), session, mandated(SELL, last_day=today + 1), now=late)


def test_an_order_is_cut_to_what_the_cap_leaves() -> None:
    found = wanted(SELL, flat_home(0, 400), have=mandated(SELL, daily_cap=2))
    assert found.facts["cut_by"] == "cap"
    assert sum(found.wh) == 2_000
    assert max(found.wh) - min(found.wh) <= 1


def test_where_the_price_cannot_trade_nothing_is_put_in_escrow() -> None:
    session = terms(band_max=(100,) * 12 + (200,) * 12)
    assert wanted(SELL, flat_home(0, 400), session).first_slot == NOON + 12
    assert reason(BUY, flat_home(400, 0), terms(grid_fee=(301,) * SLOTS)) == "price-outside"


def test_less_than_the_smallest_order_is_none() -> None:
    assert reason(SELL, flat_home(0, 2)) == "too-small"
    assert sum(wanted(SELL, flat_home(0, 2), terms(min_order_wh=48)).wh) == 48


# The end of an offer


def test_the_last_slot_ends_when_the_offer_ends() -> None:
    offer = replace(SELL, valid_until=(NOON + 5) * SLOT_SECONDS)
    assert len(wanted(offer, flat_home(0, 400)).wh) == 5
    one_second_less = replace(offer, valid_until=offer.valid_until - 1)
    assert len(wanted(one_second_less, flat_home(0, 400)).wh) == 4


def test_an_ended_or_withdrawn_offer_is_not_followed() -> None:
    assert reason(replace(SELL, valid_until=NOON * SLOT_SECONDS), flat_home(0, 400)) == "expired"
    assert reason(replace(SELL, withdrawn=True), flat_home(0, 400)) == "withdrawn"


@pytest.mark.parametrize("day", [date(2016, 3, 27), date(2016, 10, 30)])
def test_an_offer_until_midnight_ends_at_local_midnight_when_the_clock_changes(day: date) -> None:
    """A day of 23 or of 25 hours: no slot of the next local day is sold, all of this one are."""
    first = first_slot_of_day(day)
    local_midnight = {3: 22, 10: 23}[day.month]  # UTC hours, after the change
    end = first + local_midnight * 4
    offer = replace(SELL, valid_until=end * SLOT_SECONDS, weekdays=0b1000000)  # Sundays
    session = terms(first, slots=SLOTS_PER_DAY)
    found = wanted(offer, flat_home(0, 400, first - 8), session)
    assert found.first_slot == first
    assert found.first_slot + len(found.wh) == end


@pytest.mark.parametrize(("day", "slots"), [(date(2016, 3, 27), 92), (date(2016, 10, 30), 100)])
def test_the_amount_of_a_day_holds_on_the_days_on_which_the_clock_changes(
    day: date, slots: int
) -> None:
    first = first_slot_of_day(day) - 8
    offer = replace(BUY, daily_wh=slots * 10, valid_until=(first + 200) * SLOT_SECONDS)
    ordered: dict[int, int] = {}
    for number in range(5):
        session = terms(first + number * SLOTS)
        found = planned(offer, flat_home(400, 0, first - 30), session, ordered=ordered)
        if isinstance(found, Wanted):
            ordered |= {found.first_slot + i: wh for i, wh in enumerate(found.wh) if wh}
    of_day = {s: wh for s, wh in ordered.items() if offer.local(s).date() == day}
    assert len(of_day) == slots
    assert sum(of_day.values()) == slots * 10


# For any readings


@st.composite
def homes(draw: st.DrawFn) -> Recent:
    days = draw(st.integers(4, 7))
    seed = draw(st.integers(0, 2**32 - 1))
    most = draw(st.sampled_from([0, 1, 30, 900, 60_000, 2**31 - 1]))
    random = np.random.default_rng(seed)
    shape = (2, days * SLOTS_PER_DAY)
    wh = random.integers(0, most + 1, shape) * (random.random(shape) < draw(st.floats(0, 1)))
    return Recent(wh[0], wh[1], NOON - draw(st.integers(1, 190)))


offers = st.builds(
    lambda side, **changes: replace(SELL if side == ASK else BUY, **changes),
    st.sampled_from([ASK, BID]),
    limit=st.integers(0, 1_200),
    daily_wh=st.integers(0, 60_000) | st.just(10**9),
    hours=st.integers(1, 2**24 - 1),
    weekdays=st.integers(1, 127),
    caution=st.integers(0, 1_000),
    valid_until=st.integers((NOON - 40) * SLOT_SECONDS, (NOON + 200) * SLOT_SECONDS),
    timezone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "Pacific/Kiritimati"]),
)


@settings(max_examples=250, deadline=None)
@given(
    offers,
    homes(),
    st.integers(0, 1_200),
    st.integers(0, 4_095),
    st.integers(0, 5_000_000),
    st.integers(0, 10**9),
    st.sampled_from([4, 12, 24, 48, 96]),
    st.integers(0, 400),
    st.dictionaries(st.integers(NOON - 96, NOON + 96), st.integers(1, 9_000), max_size=12),
)
def test_for_any_readings_an_order_lies_inside_offer_mandate_and_money(
    offer: StandingOffer,
    recent: Recent,
    mandate_limit: int,
    cap: int,
    spent: int,
    available: int,
    slots: int,
    fee: int,
    ordered: dict[int, int],
) -> None:
    session = terms(slots=slots, grid_fee=(fee,) * slots)
    have = replace(
        mandated(offer, limit=mandate_limit, daily_cap=cap), spent=spent, available=available
    )
    found = planned(offer, recent, session, have, ordered)
    if isinstance(found, Idle):
        return
    assert have.mandate is not None
    assert have.mandate.allows(offer.side, found.limit)
    inside = found.limit >= offer.limit if offer.side == ASK else found.limit <= offer.limit
    assert inside
    energy = {found.first_slot + i: wh for i, wh in enumerate(found.wh) if wh}
    assert found.wh[0]
    assert found.wh[-1]
    assert set(energy) <= set(range(NOON, NOON + slots))
    assert not set(energy) & set(ordered)
    rate = session.penalty if offer.side == ASK else found.limit
    assert found.escrow == sum(energy.values()) * rate <= available
    assert spent + counted(found.escrow) <= cap * 100_000
    assert sum(energy.values()) >= session.min_order_wh
    assert max(energy.values()) <= session.max_slot_wh
    likely = dependable_day(offer, recent)
    for slot, wh in energy.items():
        local = datetime.fromtimestamp(slot * SLOT_SECONDS, UTC).astimezone(offer.clock)
        assert offer.hours >> local.hour & 1
        assert offer.weekdays >> local.weekday() & 1
        assert (slot + 1) * SLOT_SECONDS <= offer.valid_until
        assert wh <= likely[recent.position(slot)]
    for day in {offer.local(slot).date() for slot in energy}:
        named = [wh for slot, wh in (energy | ordered).items() if offer.local(slot).date() == day]
        if offer.side == BID:
            assert sum(named) <= offer.daily_wh
        else:
            around = range(NOON - 200, NOON + 300)
            of_day = [s for s in around if offer.local(s).date() == day and offer.covers(s)]
            expected = sum(int(likely[recent.position(slot)]) for slot in of_day)
            assert sum(named) <= expected - offer.daily_wh


@settings(max_examples=60, deadline=None)
@given(homes(), st.sampled_from([ASK, BID]), st.sampled_from([0, 100, 300]))
def test_an_offer_without_wishes_orders_what_the_home_can_count_on(
    recent: Recent, side: int, caution: int
) -> None:
    """The core stays `intent`: offer and mandate only cut."""
    # A day's energy stays below the most that an offer can name for a day.
    recent = replace(
        recent,
        import_wh=np.minimum(recent.import_wh, MOST_DAILY_WH // SLOTS_PER_DAY),
        export_wh=np.minimum(recent.export_wh, MOST_DAILY_WH // SLOTS_PER_DAY),
    )
    offer = plain_offer(7, side, 1, 120, caution, (NOON + 1_000) * SLOT_SECONDS)
    limits = Limits(0, 0, sell_permille=caution) if side == ASK else Limits(0, 0, 300, caution)
    intended = intent(recent.import_wh, recent.export_wh, recent.position(NOON), SLOTS, limits)
    energy = intended.sell_wh if side == ASK else intended.buy_wh
    capped = [min(wh, 8_000) for wh in energy]
    found = planned(offer, recent, have=replace(means(offer), available=2**60, spent=0))
    if isinstance(found, Wanted) and "cut_by" not in found.facts:
        whole = np.zeros(SLOTS, dtype=int)
        at = found.first_slot - NOON
        whole[at : at + len(found.wh)] = found.wh
        assert whole.tolist() == capped
    elif isinstance(found, Idle):
        assert sum(capped) < 50
