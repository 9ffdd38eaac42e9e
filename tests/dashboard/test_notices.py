# SPDX-License-Identifier: Apache-2.0
"""Notices: what follows from what is known, in which order, and what was seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dao.market.orders import ASK, Order
from dashboard.repositories.marks import Marks
from dashboard.repositories.months import Correction
from dashboard.repositories.readings import Bucket, Reading
from dashboard.repositories.relay import OrderFields, OrderStatus, Step
from dashboard.repositories.trades import CORRECTION, GIVEN_BACK, TurnedAway
from dashboard.services.notices import (
    EXPIRES_SOON,
    LOOK_BACK,
    Ending,
    Kind,
    Known,
    Vote,
    notices,
    unseen,
)
from dashboard.services.orders import Mark, Name, OrderView, Stage
from dashboard.services.orders import Step as OrderStep
from meters.grants import Access, Outcome
from meters.leaves import first_slot_of_month
from meters.readings import Quality

NOW = 1_465_300_000
SLOT = NOW // 900
DAY = 86_400
NOTHING = Known(now=NOW)
TX = "0x" + "ab" * 32


def kinds(**changes: Any) -> list[Kind]:
    return [one.kind for one in notices(replace(NOTHING, **changes))]


def relayed(state: str, nonce: int = 3) -> OrderStatus:
    order = OrderFields(7, 0, nonce, SLOT * 900, "ask", 90, SLOT - 20, 4, 100)
    return OrderStatus("0x" + "11" * 32, state, None, order, 1, (Step("gate", NOW - 900, None),))


def sale(filled: int, delivered: int) -> OrderView:
    order = Order(7, 0, 3, SLOT * 900, ASK, 90, SLOT - 20, 0, (100,) * 4, 4)
    step = OrderStep(Name.PAID, Mark.DONE, NOW - 60, TX)
    return OrderView(
        order, (SLOT - 20, 0), Stage.PAID, (step,), 0, filled, delivered, 5, 5, 5, 900, (), True
    )


def access(outcome: Outcome, at: int = NOW - 60) -> Access:
    return Access(b"\1" * 32, b"\2" * 20, outcome, 1, 9, 8, at, at, 1)


def test_all_is_quiet_where_nothing_happened() -> None:
    assert notices(NOTHING) == []
    fresh = Reading(SLOT - 1, 5, 0, Quality.MEASURED, True)
    whole = Bucket(SLOT - 96, 96, 10, 10, 96, 0, 2)
    assert kinds(newest=fresh, days=[whole], free=20_000_000, orders=[sale(400, 400)]) == []


def test_each_thing_that_happens_has_its_notice() -> None:
    away = TurnedAway(SLOT - 20, 3, 5, TX, NOW - 60)
    assert kinds(turned_away=[away]) == [Kind.REFUSED]
    assert kinds(relayed=[relayed("late")]) == [Kind.PROMISE_BROKEN]
    assert kinds(relayed=[relayed("rejected")]) == [Kind.REFUSED]
    assert kinds(relayed=[relayed("rejected")], turned_away=[away]) == [Kind.REFUSED], "once"
    assert kinds(relayed=[relayed("received"), relayed("accepted")]) == []
    assert kinds(orders=[sale(400, 300)]) == [Kind.SHORT]
    back = Correction(GIVEN_BACK, -900, 10, SLOT - 9, TX, NOW - 60)
    assert kinds(corrections=[back]) == [Kind.GIVEN_BACK]
    assert kinds(corrections=[replace(back, kind=CORRECTION, amount=9)]) == [Kind.GOT_BACK]
    assert kinds(days=[Bucket(SLOT - 96, 96, 1, 1, 95, 1, 0)]) == [Kind.MISSING]
    assert kinds(newest=Reading(SLOT - 200, 5, 0, Quality.MEASURED, True)) == [Kind.SILENT]
    assert kinds(free=900_000) == [Kind.LOW_BALANCE]
    assert kinds(free=900_000, escrowed=200_000) == []
    assert kinds(accesses=[access(Outcome.READ)]) == [Kind.READ]
    assert kinds(accesses=[access(Outcome.FOREIGN)]) == [Kind.TRIED]
    assert kinds(corrected=[(SLOT - 96, NOW - 60)]) == [Kind.CORRECTED]
    votes = [Vote("9", "<script>", NOW + 60), Vote("8", "over", NOW - 60)]
    assert kinds(votes=votes) == [Kind.VOTE]


@pytest.mark.parametrize(("ahead", "told"), [(-1, 0), (60, 1), (EXPIRES_SOON, 1), (4 * DAY, 0)])
def test_what_ends_is_told_shortly_before(ahead: int, told: int) -> None:
    ending = [Ending(1, NOW + ahead)]
    assert kinds(offers=ending) == [Kind.OFFER_ENDS] * told
    assert kinds(mandates=ending) == [Kind.MANDATE_ENDS] * told


def test_a_statement_is_told_once_it_is_final() -> None:
    may = 556
    june = first_slot_of_month(may + 1) * 900
    later = {"first_month": may}
    assert notices(replace(NOTHING, now=june + 3 * DAY, **later)) == []
    (one,) = notices(replace(NOTHING, now=june + 5 * DAY, **later))
    assert (one.kind, one.number) == (Kind.STATEMENT, may)
    assert notices(replace(NOTHING, now=june + 5 * DAY)) == []


def test_the_newest_comes_first_and_the_old_is_not_told() -> None:
    told = [access(Outcome.READ, NOW - age) for age in (LOOK_BACK + 1, 500, 5, 50)]
    found = notices(replace(NOTHING, accesses=told))
    assert [one.at for one in found] == [NOW - 5, NOW - 50, NOW - 500]


def test_what_was_seen_stays_seen_and_is_one_accounts_own(tmp_path: Path) -> None:
    held = Marks(tmp_path / "dashboard.sqlite")
    assert held.seen(7) == set()
    found = notices(replace(NOTHING, accesses=[access(Outcome.READ), access(Outcome.FOREIGN)]))
    held.see(7, [found[0].id], NOW)
    held.see(7, [found[0].id], NOW + 1)
    assert unseen(found, held.seen(7)) == found[1:]
    assert unseen(found, held.seen(8)) == found
    # The same state gives the same ids, so what was seen is not told anew.
    again = notices(replace(NOTHING, accesses=[access(Outcome.READ), access(Outcome.FOREIGN)]))
    assert unseen(again, Marks(tmp_path / "dashboard.sqlite").seen(7)) == again[1:]


def test_a_name_for_a_reader_is_short_and_can_be_forgotten(tmp_path: Path) -> None:
    held = Marks(tmp_path / "dashboard.sqlite")
    address = "0x" + "ab" * 20
    held.name(7, address, "  My\n adviser " + "x" * 200)
    (name,) = held.names(7).values()
    assert name.startswith("My adviser x")
    assert len(name) == 60
    assert held.names(8) == {}
    held.name(7, address, "")
    assert held.names(7) == {}
