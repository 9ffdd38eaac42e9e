# SPDX-License-Identifier: Apache-2.0
"""Where a decision stands and what it promises, from plain data: no chain, no browser."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dao.eip712 import keccak, word
from dao.errors import BadUse
from dao.governance import reasons
from dao.governance.proposals import Call, Lane
from dao.parameters import CHARGE_POINTS, COMMUNITY_BATTERY, KEYS
from dao.runstate import Outcome
from dashboard.repositories.devices import Report
from dashboard.repositories.forecasts import _unpacked
from dashboard.repositories.governance import Ballot, Happened, Lent, Made, Members, Tally
from dashboard.repositories.instructions import Instructions
from dashboard.services import delegation, instructions, promise, proposal, votes
from dashboard.services.instructions import Instruction
from dashboard.services.proposal import Window, read_id, told, windows_of
from dashboard.services.votes import AGAINST, FOR

NOW = 1_000_000
PARAMETERS = "0x" + "11" * 20
A, B, C = ("0x" + f"{number:02x}" * 20 for number in (0xA1, 0xB2, 0xC3))


def made(**more: Any) -> Made:
    plain = Made(
        id=7,
        proposer=A,
        calls=(),
        description="So.",
        snapshot=NOW - 100,
        deadline=NOW + 100,
        lane=Lane.BALANCING,
        zone=1,
        place=(5, 0),
        made=Happened(NOW - 101, "0x01"),
    )
    return replace(plain, **more)


def at(one: Made, tally: Tally | None = None, needed: int | None = 3, **more: Any):
    expiry = more.pop("expiry", NOW + 10_000)
    now = more.pop("now", NOW)
    return votes.standing_of(one, tally or Tally(), needed, 12, expiry, now, **more)


OVER = {"snapshot": NOW - 300, "deadline": NOW - 100}
PASSED = Tally(1, 2, 1, 0, 4)
WORDS = Happened(NOW, "0x02")


@pytest.mark.parametrize(
    ("one", "tally", "expected"),
    [
        (made(snapshot=NOW), Tally(), Outcome.PENDING),
        (made(deadline=NOW), Tally(), Outcome.ACTIVE),
        (made(**OVER), PASSED, Outcome.SUCCEEDED),
        (made(**OVER), Tally(2, 2, 5, 0, 9), Outcome.DEFEATED),
        (made(**OVER), Tally(0, 2, 0, 0, 2), Outcome.DEFEATED),
        (made(**OVER, lane=Lane.POLICY), Tally(2), Outcome.SUCCEEDED),
        (made(**OVER, lane=Lane.POLICY), Tally(3), Outcome.DEFEATED),
        (made(**OVER, eta=NOW + 9), PASSED, Outcome.QUEUED),
        (made(**OVER, cancelled=WORDS), PASSED, Outcome.CANCELED),
        (made(**OVER, eta=NOW - 9, executed=WORDS), PASSED, Outcome.EXECUTED),
    ],
)
def test_a_proposal_stands_where_the_governor_says(
    one: Made, tally: Tally, expected: Outcome
) -> None:
    assert at(one, tally).state is expected


def test_what_passed_and_was_not_carried_on_in_time_expires() -> None:
    assert at(made(**OVER), PASSED, expiry=NOW).state is Outcome.SUCCEEDED
    assert at(made(**OVER), PASSED, expiry=NOW - 1).state is Outcome.EXPIRED
    assert at(made(**OVER, eta=NOW - 50), PASSED, expiry=NOW - 1).state is Outcome.EXPIRED


def test_what_needs_the_visitor_stands_first_and_the_soonest_of_it_above() -> None:
    late = at(made(id=1, deadline=NOW + 900), power=1)
    soon = at(made(id=2, deadline=NOW + 9), power=1)
    veto = at(made(id=3, lane=Lane.POLICY), power=1)
    cast = at(made(id=4), power=1, mine=Ballot(4, A, FOR, 1, "", NOW, "0x", (1, 1)))
    none = at(made(id=5))
    due = at(made(id=6, **OVER), PASSED)
    gone = at(made(id=8, **OVER), Tally())
    found = votes.agenda([gone, due, none, cast, veto, late, soon])
    assert [one.made.id for one in found.mine] == [2, 1]
    assert [one.made.id for one in found.vetoes] == [3]
    assert [one.made.id for one in found.due] == [6]
    assert [one.made.id for one in found.others] == [4, 5]
    assert [one.made.id for one in found.past] == [8]


def test_a_quorum_is_told_in_words() -> None:
    assert votes.decided_by(at(made(), Tally(5, 1, 1, 0, 7))) == (
        "3 of 12 members must vote for it or abstain (so far: 2)."
    )
    assert votes.decided_by(at(made(lane=Lane.POLICY), Tally(1, 0, 0, 0, 1))) == (
        "It takes effect unless 3 of 12 members object (so far: 1)."
    )
    assert "without a node" in votes.decided_by(at(made(), needed=None))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0x" + "0" * 63 + "7", 7),
        ("12", 12),
        ("", None),
        ("0x", None),
        ("0", None),
        ("-1", None),
        ("١٢", None),
        ("9" * 78, None),
        ("0x" + "f" * 65, None),
        ("7 OR 1=1", None),
        (None, None),
        (["7"], None),
    ],
)
def test_an_id_in_the_address_is_read_or_is_none(text: Any, number: int | None) -> None:
    assert read_id(text) == number


def test_a_plan_s_description_is_taken_apart_and_a_text_is_shown_as_it_is() -> None:
    evidence = "0x" + "ab" * 32
    body = json.dumps({"title": "Battery", "summary": "Why.", "evidence": evidence})
    mark = "#proposer=0x" + "aa" * 20
    record = "0x" + "cd" * 32
    found = told(f"{body}\nsimulation: {record}\n{mark}")
    assert (found.title, found.summary, found.evidence) == ("Battery", "Why.", evidence)
    assert found.simulation == record
    plain = told(f"Lower the fee\nIt is high.\n{mark}")
    assert (plain.title, plain.summary, plain.evidence) == ("Lower the fee", "It is high.", None)


@pytest.mark.parametrize(
    "text",
    ["", "\n", '{"title": 7}', '{"title": ["x"], "evidence": 3}', "{" * 5_000, "\u202e\x00", "{]"],
)
def test_no_description_breaks_a_page(text: str) -> None:
    found = told(text)
    assert found.title
    assert "\u202e" not in found.title + found.summary + found.whole


def battery(*windows: tuple[int, int, int], zone: int = 1, key: int = COMMUNITY_BATTERY) -> Call:
    words = [(v % (1 << 128)) << 128 | n << 64 | first for first, n, v in windows]
    data = keccak(b"open_windows(uint256,uint256,uint256[])")[:4]
    data += b"".join(word(one) for one in (zone, key, 96, len(words), *words))
    return Call(PARAMETERS, data)


def test_windows_are_read_from_calls_and_nothing_else_is_taken_for_one() -> None:
    call = battery((1_000, 4, 4_000), (1_010, 2, -3_000))
    found = windows_of([call], PARAMETERS)
    assert found == (
        Window(1, COMMUNITY_BATTERY, 1_000, 4, 4_000),
        Window(1, COMMUNITY_BATTERY, 1_010, 2, -3_000),
    )
    assert proposal.moved_wh(found) == 4_000 + 1_500
    for other in (
        replace(call, target="0x" + "22" * 20),
        replace(call, value=1),
        replace(call, calldata=call.calldata + b"\0"),
        replace(call, calldata=call.calldata + bytes(32)),
        replace(call, calldata=call.calldata[:-32]),
        replace(call, calldata=b""),
        battery(),
        battery((1_000, 97, 1)),
        battery((1 << 40, 1, 1)),
    ):
        assert windows_of([other], PARAMETERS) is None
    assert windows_of([], PARAMETERS) is None
    assert windows_of([call], None) is None


# Instructions

SMALL = Instruction(COMMUNITY_BATTERY, 5_000, FOR, NOW + 1)


def test_an_instruction_fits_small_actions_of_its_kind_only() -> None:
    charge = [Window(1, COMMUNITY_BATTERY, 1_000, 4, 5_000)]
    assert instructions.covers(SMALL, charge, Lane.BALANCING, NOW)
    more = [*charge, Window(1, COMMUNITY_BATTERY, 1_010, 1, -4)]
    assert not instructions.covers(SMALL, more, Lane.BALANCING, NOW)
    mixed = [*charge, Window(1, CHARGE_POINTS, 1_010, 1, 0)]
    assert not instructions.covers(SMALL, mixed, Lane.BALANCING, NOW)
    assert not instructions.covers(SMALL, charge, Lane.ORDINARY, NOW)
    assert not instructions.covers(SMALL, charge, Lane.POLICY, NOW)
    assert instructions.covers(replace(SMALL, support=AGAINST), charge, Lane.POLICY, NOW)
    assert not instructions.covers(SMALL, charge, Lane.BALANCING, NOW + 1)
    assert not instructions.covers(SMALL, None, Lane.BALANCING, NOW)


def test_instructions_that_disagree_prepare_nothing() -> None:
    charge = [Window(1, COMMUNITY_BATTERY, 1_000, 4, 1_000)]
    both = [SMALL, replace(SMALL, support=AGAINST, number=2)]
    assert instructions.prepared(both[:1], charge, Lane.BALANCING, NOW) == SMALL
    assert instructions.prepared(both, charge, Lane.BALANCING, NOW) is None
    assert instructions.disagree(both, charge, Lane.BALANCING, NOW)


def test_instructions_are_kept_for_their_own_account(tmp_path: Path) -> None:
    kept = Instructions(tmp_path / "instructions.sqlite")
    assert kept.of(A, NOW) == ()
    kept.keep(A, SMALL, NOW)
    (mine,) = kept.of(A, NOW)
    assert replace(mine, number=0) == SMALL
    assert kept.of(B, NOW) == ()
    assert kept.of(A, NOW + 1) == ()
    kept.forget(B, mine.number)
    assert kept.of(A, NOW) == (mine,)
    kept.forget(A, mine.number)
    assert kept.of(A, NOW) == ()
    for bad in (
        replace(SMALL, support=3),
        replace(SMALL, key=7),
        replace(SMALL, most=0),
        replace(SMALL, until=NOW),
        replace(SMALL, until=NOW + 400 * 86_400),
    ):
        with pytest.raises(BadUse):
            kept.keep(A, bad, NOW)
    for _ in range(instructions.MOST_KEPT):
        kept.keep(A, SMALL, NOW)
    with pytest.raises(BadUse):
        kept.keep(A, SMALL, NOW)


# Members


def test_power_and_electorate_are_those_of_the_snapshot() -> None:
    members = Members(
        zones={A: [(10, 1)], B: [(10, 1), (50, 0)], C: [(20, 2)]},
        votes={A: [(10, 1), (30, 2)], B: [(10, 1), (30, 0)], C: [(20, 1)]},
        lent=[Lent(A, A, 10, ""), Lent(B, B, 10, ""), Lent(B, A, 30, "")],
        counts={0: [(10, 2), (20, 3), (50, 2)], 1: [(10, 2), (50, 1)]},
    )
    assert [members.power(A, when, 1) for when in (9, 10, 29, 30)] == [0, 1, 1, 2]
    assert members.power(A, 30, 2) == 0
    assert members.power(C, 30, 0) == 1
    assert members.power(B, 60, 1) == 0
    assert members.electorate(1, 49) == 2
    assert members.electorate(0, 49) == 3
    found = delegation.power_of(members, A, 40)
    assert found == delegation.Power(1, 2, True, None, (B,))
    lent = delegation.power_of(members, B, 40)
    assert lent == delegation.Power(1, 0, False, A, ())
    assert delegation.power_of(members, "0x" + "00" * 20, 40) is None
    assert delegation.candidates(members, A, 40) == [B]


# Reasons


def test_a_reason_is_shown_only_where_its_hash_is_on_the_chain(tmp_path: Path) -> None:
    reasons.publish(7, ["Because.", "", "Because."], tmp_path)
    reasons.publish(7, ["So."], tmp_path)
    found = reasons.read(7, tmp_path)
    assert list(found.values()) == ["Because.", "So."]
    hashed = "0x" + keccak(b"Because.").hex()
    assert proposal.reason_of("", hashed, found) == "Because."
    assert proposal.reason_of("", "0x" + "00" * 32, found) is None
    assert proposal.reason_of("", "0x" + keccak(b"").hex(), found) == ""
    assert proposal.reason_of("on chain \u202e", None, {}) == "on chain \\u202e"


@pytest.mark.parametrize("text", ["", "{}", "[1, null]", '["\\ud800"]', "[" * 4_000, "[[]]"])
def test_a_damaged_file_of_reasons_is_nobody_s(tmp_path: Path, text: str) -> None:
    path = reasons.reasons_path(7, tmp_path)
    path.parent.mkdir()
    path.write_text(text)
    assert reasons.read(7, tmp_path) == {}


# The promise


def plan(windows: list[list[int]], evidence: str) -> dict[str, Any]:
    def risk(number: int) -> dict[str, Any]:
        limits = {
            name: {"probability": 0.5, "worst": {"q90": 1.06}}
            for name in ("voltage_max", "voltage_min", "transformer", "line")
        }
        hours = {"mean": float(number), "q10": 0, "q50": number, "q90": 2 * number}
        return {"probability": 0.5, "quarter_hours": hours, "limits": limits}

    band = {name: [1.0] * 96 for name in ("q10", "q50", "q90")}
    return {
        "format": promise.FORMAT,
        "zone": 1,
        "first_slot": 960,
        "evidence": evidence,
        "actions": [{"key": COMMUNITY_BATTERY, "windows": windows}],
        "if_nothing_is_done": risk(8),
        "with_the_action": risk(0),
        "chart": {"voltage_max": {"limit": 1.055, "without": band, "with": band}},
        "bill": {"homes": 12, "each_home": 900, "lines": []},
    }


def test_a_plan_counts_only_for_the_windows_and_the_evidence_that_are_proposed() -> None:
    evidence = "0x" + "ab" * 32
    said = told(json.dumps({"title": "T", "summary": "S", "evidence": evidence}))
    windows = (Window(1, COMMUNITY_BATTERY, 1_000, 4, 4_000),)
    document = plan([[1_000, 4, 4_000]], evidence)
    found = promise.promise_of(document, said, windows)
    assert found is not None
    assert (found.before.mean, found.after.high, found.each_home) == (8.0, 0, 900)
    assert "about 2" in promise.nothing_words(found)
    for other in (
        plan([[1_000, 4, 4_001]], evidence),
        plan([[1_000, 4, 4_000], [1_010, 1, 1]], evidence),
        plan([[1_000, 4, 4_000]], "0x" + "cd" * 32),
        {**document, "format": "something"},
        {**document, "bill": None},
        {**document, "chart": {"voltage_max": {"limit": 1, "without": {}, "with": {}}}},
        {**document, "if_nothing_is_done": {}},
        {**document, "bill": {"homes": 1e99, "each_home": "x", "lines": []}},
        {},
        None,
        [],
    ):
        assert promise.promise_of(other, said, windows) is None
    assert promise.promise_of(document, said, None) is None


def test_what_was_metered_is_told_by_direction_and_only_once_all_of_it_is_there() -> None:
    windows = (
        Window(1, COMMUNITY_BATTERY, 1_000, 2, 4_000),
        Window(1, COMMUNITY_BATTERY, 1_010, 2, -2_000),
    )
    slots = [1_000, 1_001, 1_010, 1_011]
    totals = pd.DataFrame({"slot": slots, "net_wh": [3_000, 3_100, 400, 300]})
    forecast = pd.DataFrame(
        {"slot": slots, "q10": [1_500] * 4, "q50": [2_000] * 4, "q90": [2_500] * 4}
    )
    reports = (
        Report(1_000, 4_000, 4_000, 1_000),
        Report(1_001, 4_000, 4_000, 990),
        Report(1_010, -2_000, None, None),
        Report(1_011, 500, 500, 125),  # of another order
    )
    taken, given = promise.measured(windows, totals, forecast, reports)
    assert (taken.promised_wh, taken.zone_wh, taken.battery_wh) == (2_000, 2_100, 1_990)
    assert (taken.low_wh, taken.high_wh, taken.inside) == (1_100, 3_100, True)
    assert (given.promised_wh, given.zone_wh, given.inside) == (-1_000, -3_300, False)
    assert (given.battery_wh, given.reported, given.acknowledged) == (None, 1, 0)
    less, _ = promise.measured(windows, totals.iloc[1:], forecast, ())
    assert (less.known, less.zone_wh, less.inside) == (1, None, None)
    assert promise.measured((Window(1, CHARGE_POINTS, 1, 1, 0),), totals, forecast, ()) == []


def test_skill_counts_as_the_contract_does() -> None:
    days = [promise.Day(96, 600, 1_000), promise.Day(192, 500, 1_000)]
    assert promise.skill_of(days) == 450
    missed = [*days, promise.Day(288, None, None, missed=True)]
    assert promise.skill_of(missed) == 300
    worse = [promise.Day(96, 3_000, 1_000), promise.Day(288, None, None, missed=True)]
    assert promise.skill_of(worse) == -2_000
    assert promise.skill_of([]) is None


def test_a_changed_fee_is_reckoned_on_what_the_home_drew() -> None:
    fee = (Window(1, KEYS["grid_fee"], 96 * 5 + 40, 2, 150),)
    drew = {40: 100.0, 41: 50.0, 42: 1_000.0}
    assert promise.my_fee(fee, 110, drew) == 40 * 150
    assert promise.my_fee(fee, 110, {}) is None


def test_quantiles_are_unpacked_as_the_registry_packs_them() -> None:
    from dao.forecasts import pack_quantiles

    table = np.sort(np.random.default_rng(1).integers(-(2**31), 2**31, (3, 96)), axis=0)
    assert (_unpacked(pack_quantiles(*table)) == table).all()


def test_halves_of_a_sign_in_a_title_break_no_page() -> None:
    one = proposal.told('{"title": "a\\ud800b", "summary": "c\\udfffd"}')
    assert (one.title, one.summary) == ("a\\ud800b", "c\\udfffd")
    assert one.title.encode()
