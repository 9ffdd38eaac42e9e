# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from dao.errors import BadUse
from dao.governance.describe import unpack_window
from dao.governance.proposals import MAX_DESCRIPTION, Lane
from dao.parameters import COMMUNITY_BATTERY
from dao.tariffs import Tariffs
from forecasting.balancing import (
    CHARGE_POINTS,
    DEMO_BATTERY,
    Action,
    Plan,
    Scenario,
    Window,
    plan,
    plan_day,
)
from forecasting.balancing.bill import bill_lines, bill_of
from forecasting.balancing.proposal import check_document, proposal_of
from forecasting.balancing.route import Policy, calls_json, route
from forecasting.balancing.tell import summary_of, title_of
from tests.forecasting.balancing.conftest import DAY, Eve
from tests.forecasting.conftest import DemoZone

EVIDENCE = bytes(range(32))


@pytest.fixture(scope="module")
def made(eve: Eve, demo_zone: DemoZone) -> Plan:
    return plan_day(eve.forecast, demo_zone.grid, eve.shares, DEMO_BATTERY, history=eve.history)


def policy(**changes: int | bool) -> Policy:
    terms = {
        "number": 1,
        "zone": 1,
        "key": COMMUNITY_BATTERY,
        "lowest": -50_000,
        "highest": 50_000,
        "max_slots": 96,
        "remaining": 10_000_000,
        "veto_hours": 3,
        "expires_at": (DAY + 200) * 900,
        "ended": False,
    }
    return Policy(**{**terms, **changes})  # type: ignore[arg-type]


BATTERY = Action(COMMUNITY_BATTERY, (Window(DAY + 40, 8, 20_000), Window(DAY + 80, 4, -10_000)))


def test_an_action_inside_a_standing_policy_needs_no_vote() -> None:
    found = route([BATTERY], 1, [policy()])
    assert [(one.lane, one.policy) for one in found] == [(Lane.POLICY, 1)]
    assert "3 hours" in found[0].why


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"ended": True}, "has ended"),
        ({"highest": 19_999}, "allows -50,000 to 19,999"),
        ({"lowest": -9_999}, "allows -9,999"),
        ({"max_slots": 11}, "allows 11 slots at a time, these are 12"),
        ({"expires_at": (DAY + 84) * 900 - 1}, "expires before"),
        ({"remaining": 8 * 20_000 + 4 * 10_000 - 1}, "left of its budget"),
        ({"zone": 2}, "no standing policy of the zone"),
        ({"key": CHARGE_POINTS}, "no standing policy of the zone"),
    ],
)
def test_whatever_a_policy_does_not_cover_goes_to_a_vote(
    changes: dict[str, int | bool], why: str
) -> None:
    found = route([BATTERY], 1, [policy(**changes)])
    assert [(one.lane, one.policy) for one in found] == [(Lane.BALANCING, None)]
    assert why in found[0].why


def test_a_budget_is_used_up_by_the_action_before() -> None:
    tight = policy(remaining=250_000)
    assert [one.lane for one in route([BATTERY, BATTERY], 1, [tight])] == [
        Lane.POLICY,
        Lane.BALANCING,
    ]


def test_the_policy_with_the_most_left_is_taken() -> None:
    found = route([BATTERY], 1, [policy(remaining=300_000), policy(number=2)])
    assert found[0].policy == 2


def test_a_price_window_costs_its_distance_from_the_rule() -> None:
    fee = Action(7, (Window(DAY + 40, 8, 60),))
    cheap = policy(key=7, lowest=0, highest=200, remaining=8 * 50)
    assert route([fee], 1, [cheap], {7: 110})[0].lane is Lane.POLICY
    assert route([fee], 1, [replace(cheap, remaining=399)], {7: 110})[0].lane is Lane.BALANCING


def test_calls_carry_the_windows_as_the_contract_reads_them() -> None:
    call = calls_json([BATTERY], 3)[0]
    assert call["arguments"]["zone"] == 3
    assert call["arguments"]["key"] == COMMUNITY_BATTERY
    assert [unpack_window(int(word)) for word in call["arguments"]["windows"]] == [
        (DAY + 40, 8, 20_000),
        (DAY + 80, 4, -10_000),
    ]


def test_the_document_is_json_and_tells_what_happens_without_and_with(made: Plan) -> None:
    proposal = proposal_of(made, zone=1, evidence=EVIDENCE, homes=118, timezone="Europe/Berlin")
    document = json.loads(json.dumps(proposal.document(), allow_nan=False))
    before, after = document["if_nothing_is_done"], document["with_the_action"]
    assert before["probability"] > after["probability"]
    assert before["quarter_hours"]["mean"] > 5 * after["quarter_hours"]["mean"]
    limit = before["limits"]["voltage_max"]
    assert limit["worst"]["q10"] <= limit["worst"]["q50"] <= limit["worst"]["q90"]
    assert len(limit["probability_per_slot"]) == 96
    band = document["chart"]["voltage_max"]["without"]
    assert all(low <= high for low, high in zip(band["q10"], band["q90"], strict=True))
    assert document["evidence"] == "0x" + EVIDENCE.hex()
    assert document["courses"] == "shuffle"
    check_document(document)


def test_the_summary_is_two_or_three_sentences_in_local_time_without_jargon(made: Plan) -> None:
    proposal = proposal_of(made, zone=1, evidence=EVIDENCE, homes=118, timezone="Europe/Berlin")
    assert proposal.title == "Community battery on 2016-06-08"
    assert len(re.findall(r"\.(?: |$)", proposal.summary)) == 3
    assert "kWh between" in proposal.summary
    assert "cents" in proposal.summary
    assert " pu" not in proposal.summary
    assert "bus" not in proposal.summary
    first = next(w for w in made.windows(COMMUNITY_BATTERY) if w.value > 0).first_slot
    hour = (first - DAY) // 4 + 2  # Berlin in June
    assert f"between {hour:02d}:{(first - DAY) % 4 * 15:02d} and" in proposal.summary


def test_the_description_fits_on_chain_and_names_the_evidence(made: Plan) -> None:
    text = proposal_of(made, zone=1, evidence=EVIDENCE, homes=118).description()
    assert len(text.encode()) < MAX_DESCRIPTION / 2
    assert json.loads(text)["evidence"] == "0x" + EVIDENCE.hex()


def test_the_bill_is_the_energy_lost_shared_by_all_homes(made: Plan) -> None:
    bill = bill_of(made, 118, Tariffs())
    power = made.power_w[COMMUNITY_BATTERY]
    lost = int(power.sum()) // 4 - made.stored_wh[1]
    assert [line.paid_by for line in bill.lines] == ["treasury"]
    assert bill.cost == lost * 79
    assert bill.cost <= bill.each_home * 118 < bill.cost + 118
    with pytest.raises(BadUse):
        bill_of(made, 0)


def test_a_lower_fee_moves_money_from_the_treasury_to_buyers() -> None:
    lines = bill_lines({}, 0, [Window(DAY, 4, 60)], DAY, np.full(96, 1_000.0), 10, Tariffs(), 110)
    assert [(line.paid_by, line.cost) for line in lines] == [
        ("buyers", -50 * 4_000),
        ("treasury", 50 * 4_000),
    ]
    assert sum(line.each_home for line in lines) == -20_000


def test_a_quiet_day_says_that_nothing_needs_to_be_done(demo_zone: DemoZone) -> None:
    calm = [Scenario("calm", 1.0, np.zeros((96, 1)))]
    found = plan(calm, np.array([83]), DAY, demo_zone.grid, DEMO_BATTERY)
    assert title_of(found) == "Nothing to do on 2016-06-08"
    assert "nothing needs to be done" in summary_of(found)


def test_where_nothing_helps_the_summary_says_so(demo_zone: DemoZone) -> None:
    hot = [Scenario("hot", 1.0, demo_zone.power_w(DAY, 96))]
    found = plan(hot, demo_zone.buses, DAY, demo_zone.grid, None)
    assert found.before.probability == 1.0
    assert "practically certain" in summary_of(found)
    assert "No action" in summary_of(found)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"first_slot": "1"},
        {"slots": 97},
        {"zone": None},
        {"with_the_action": {}},
        {"chart": {"power_w": {"1000": [1.5] * 96}}},
        {"chart": None},
    ],
)
def test_a_file_that_is_no_plan_is_refused(made: Plan, change: dict[str, object]) -> None:
    document = proposal_of(made, zone=1, evidence=EVIDENCE, homes=118).document()
    with pytest.raises(BadUse):
        check_document({**document, **change})
    with pytest.raises(BadUse):
        check_document([document])
