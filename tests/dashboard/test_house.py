# SPDX-License-Identifier: Apache-2.0
"""Rules, roles and treasury from events alone: what is reckoned, and how it is said."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dao import deployment
from dao.audit.scope import EventRow
from dao.eip712 import keccak, word
from dao.errors import CheckFailed
from dao.governance.describe import plain_text
from dao.parameters import CHARGE_POINTS, COMMUNITY_BATTERY, DAY, HOME_BATTERIES, MARKET_RULES
from dao.processes import free_port
from dashboard.i18n import Formats
from dashboard.repositories import house as asking
from dashboard.repositories.house import House, Purse, Votes
from dashboard.services import rule_words as words
from dashboard.services.decided import (
    ACTIVE,
    QUEUED,
    Decision,
    Decisions,
    decisions,
    state_by_events,
)
from dashboard.services.proposal import link
from dashboard.services.roles import POWERS, Role, roster
from dashboard.services.rules import RuleState, rule_book, rule_calls, window_calls
from dashboard.services.treasury import Verdict, When, csv_text, ledger
from dashboard.settings import Settings
from dashboard.views.house import filled
from tests.contracts.role_matrix import (
    COLLECTOR,
    FORECASTER,
    GUARDIAN,
    MEMBER,
    REGISTRAR,
    TIMELOCK,
    is_open,
    roles_of,
)
from tests.dashboard.sample import Index

FMT = Formats()
RULES_AT, TREASURY = "0x" + "11" * 20, "0x" + "22" * 20
ANNA, BEN = "0x" + "aA" * 20, "0x" + "bb" * 20


class Chain:
    """Events as an index has them, each in a block and transaction of its own unless told."""

    def __init__(self) -> None:
        self._rows: list[EventRow] = []

    def add(
        self, contract: str, event: str, at: int, tx: str | None = None, **args: Any
    ) -> EventRow:
        number = len(self._rows) + 1
        row = EventRow(number, number, at, tx or f"0x{number:064x}", contract, event, args)
        self._rows.append(row)
        return row

    def house(self) -> House:
        found: dict[tuple[str, str], tuple[EventRow, ...]] = {}
        for row in self._rows:
            kind = (row.contract, row.event)
            found[kind] = (*found.get(kind, ()), row)
        return House(found)

    def define(self, key: int, value: int) -> None:
        rule = next(one for one in MARKET_RULES if one.key == key)
        self.add(
            "GridParameters",
            "RuleDefined",
            0,
            key=key,
            name=rule.name,
            initial=value,
            minimum=rule.minimum,
            maximum=rule.maximum,
            max_step=rule.max_step,
            cooldown=rule.cooldown,
        )

    def propose(self, number: int, at: int, *datas: bytes, description: str = "A title") -> None:
        self.add(
            "GridGovernor",
            "ProposalCreated",
            at,
            proposalId=number,
            targets=[RULES_AT] * len(datas),
            calldatas=["0x" + one.hex() for one in datas],
            voteStart=at + 10,
            voteEnd=at + 100,
            description=description,
        )

    def budget(self, edition: int, amount: int, starts_at: int, ends_at: int) -> None:
        self.add(
            "Treasury",
            "BudgetSet",
            0,
            purpose=1,
            edition=edition,
            proposal=7,
            name="Upkeep",
            amount=amount,
            period_seconds=10 * DAY,
            starts_at=starts_at,
            ends_at=ends_at,
        )

    def pay(self, number: int, amount: int, at: int, **more: Any) -> None:
        fields = {
            "number": number,
            "proposal": 7,
            "payee": ANNA,
            "purpose": 1,
            "amount": amount,
            "kind": 0,
            "source": 0,
            "paid_at": at,
            "reference": "a fuse",
        }
        self.add("Treasury", "Payment", at, **{**fields, **more})


@pytest.fixture
def chain() -> Chain:
    return Chain()


def call(signature: str, *numbers: int) -> bytes:
    return keccak(signature.encode())[:4] + b"".join(word(n % 2**256) for n in numbers)


def set_value(key: int, value: int) -> bytes:
    return call("set_value(uint256,uint256)", key, value)


def book(chain: Chain, now: int, states: Mapping[int, int] | None = None) -> Any:
    house = chain.house()
    return rule_book(house, decisions(house), contract=RULES_AT, states=states or {}, now=now)


# Rules


def test_a_rule_tells_its_value_its_history_and_who_decided_it(chain: Chain) -> None:
    chain.define(7, 110)
    chain.propose(5, 1_000, set_value(7, 120))
    chain.add("GridGovernor", "ProposalExecuted", 2_000, tx="0xaa", proposalId=5)
    chain.add("GridParameters", "ValueChanged", 2_000, tx="0xaa", key=7, previous=110, current=120)
    chain.add("GridParameters", "ValueChanged", 3_000, key=7, previous=120, current=130)
    [rule] = book(chain, 4_000).rules
    assert (rule.value, rule.initial) == (130, 110)
    assert [(one.before, one.after, one.proposal) for one in rule.changes] == [
        (110, 120, 5),
        (120, 130, None),
    ]
    assert rule.rests_until == 3_000 + DAY


def test_two_proposals_of_one_transaction_are_told_apart(chain: Chain) -> None:
    chain.define(7, 110)
    for number, value in ((5, 120), (6, 130)):
        chain.add("GridGovernor", "ProposalExecuted", 9, tx="0xaa", proposalId=number)
        chain.add("GridParameters", "ValueChanged", 9, tx="0xaa", key=7, previous=0, current=value)
    [rule] = book(chain, 10).rules
    assert [(one.after, one.proposal) for one in rule.changes] == [(120, 5), (130, 6)]


def test_what_is_voted_on_is_told_until_it_is_over(chain: Chain) -> None:
    chain.define(7, 110)
    chain.propose(5, 1_000, set_value(7, 120))
    assert [(one.value, one.state) for one in book(chain, 1_050).rules[0].wishes] == [(120, ACTIVE)]
    # The events alone do not tell whether it passed; the governor does.
    assert book(chain, 1_200).rules[0].wishes == ()
    assert book(chain, 1_200, {5: 4}).rules[0].wishes[0].value == 120
    assert book(chain, 1_200, {5: 3}).rules[0].wishes == ()
    chain.add("GridGovernor", "ProposalQueued", 1_200, proposalId=5, etaSeconds=1_500)
    chain.add("GridGovernor", "LaneSet", 0, lane=0, gracePeriod=300)
    [queued] = book(chain, 1_300).rules[0].wishes
    assert (queued.state, queued.until) == (QUEUED, 1_500)
    assert book(chain, 1_801).rules[0].wishes == ()
    chain.add("GridGovernor", "ProposalCanceled", 1_350, proposalId=5)
    assert book(chain, 1_360, {}).rules[0].wishes == ()


def test_an_extended_vote_is_open_until_its_new_end(chain: Chain) -> None:
    chain.propose(5, 1_000, set_value(7, 120))
    chain.add("GridGovernor", "ProposalExtended", 1_090, proposalId=5, extendedDeadline=1_400)
    known = decisions(chain.house()).by_id[5]
    assert state_by_events(known, 1_300, 0) == ACTIVE


def decision(*datas: bytes) -> Decision:
    calls = tuple((RULES_AT, one) for one in datas)
    return Decision(1, "", 0, (0, 0), 0, 0, calls, 0, 0, False, None, False)


def test_windows_are_read_from_calls_of_either_kind() -> None:
    one = call("open_window(uint256,uint256,uint256,uint256,int256)", 2, 1_000, 96, 4, -500)
    packed = [(v % 2**128) << 128 | 8 << 64 | first for first, v in ((100, 700), (110, -700))]
    many = call("open_windows(uint256,uint256,uint256[])", 2, 1_000, 96, 2, *packed)
    assert list(window_calls(decision(one, many), RULES_AT)) == [
        (2, 1_000, 96, 4, -500),
        (2, 1_000, 100, 8, 700),
        (2, 1_000, 110, 8, -700),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        set_value(7, 1)[:40],
        call("open_windows(uint256,uint256,uint256[])", 1, 1_000, 2**200, 1),
        call("open_windows(uint256,uint256,uint256[])", 1, 1_000, 97, 1),
        call("open_window(uint256,uint256,uint256,uint256,int256)", 1, 2),
    ],
)
def test_calls_that_are_cut_or_point_nowhere_are_passed_over(data: bytes) -> None:
    one = decision(data)
    assert list(rule_calls(one, RULES_AT)) == list(window_calls(one, RULES_AT)) == []


def test_a_list_of_windows_that_claims_to_be_endless_is_read_as_far_as_it_goes() -> None:
    data = call("open_windows(uint256,uint256,uint256[])", 1, 1_000, 96, 2**255, 8 << 64 | 5)
    assert len(list(window_calls(decision(data), RULES_AT))) == 1


def test_what_the_contract_could_never_take_is_left_out(chain: Chain) -> None:
    chain.define(7, 110)
    single = "open_window(uint256,uint256,uint256,uint256,int256)"
    chain.propose(
        5,
        1_000,
        set_value(7, 2**256 - 1),
        call(single, 1, 1_000, 100, 2**60, 1),
        call(single, 1, 1_000, 2**255, 4, 1),
        call(single, 1, 1_000, 100, 4, 2**200),
        call(single, 2**200, 1_000, 100, 4, 1),
    )
    found = book(chain, 1_050)
    assert (found.rules[0].wishes, found.windows) == ((), ())


def test_windows_that_are_over_are_not_shown_and_a_slot_beyond_all_calendars_is_not(
    chain: Chain,
) -> None:
    for first in (100, 200, 10**15):
        fields = {"zone": 1, "key": 1_000, "first_slot": first, "slots": 4, "value": 1}
        chain.add("GridParameters", "WindowOpened", 0, **fields)
    assert [one.first_slot for one in book(chain, 104 * 900).windows] == [200]
    assert [one.first_slot for one in book(chain, 104 * 900 - 1).windows] == [100, 200]


def test_every_rule_of_the_chain_has_words_and_a_group() -> None:
    for rule in MARKET_RULES:
        state = RuleState(rule.key, rule.name, 0, 0, 0, 1, 1, 0)
        assert words.group_of(state) is not words.Group.OTHER, rule.name
        assert words.about(rule.key), rule.name
    other = RuleState(900, "<b>new\u202e", 0, 0, 0, 1, 1, 0)
    assert words.group_of(other) is words.Group.OTHER
    assert words.title(900, other.name) == "<b>new\\u202e"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("grid_fee", 110, "11.0 ct/kWh"),
        ("grid_fee", 1, "0.1 ct/kWh"),
        ("gate_lead", 3_600, "1 h"),
        ("gate_lead", 5_401, "1 h 30 min 1 s"),
        ("admission_delay", 9 * DAY, "9 d"),
        ("holding_time", 0, "0"),
        ("min_order_wh", 75, "0.075 kWh"),
        ("max_slot_wh", 25_000, "25 kWh"),
        ("battery_max_w", 150_000, "150 kW"),
        ("battery_max_w", 1_500, "1.5 kW"),
        ("quorum", 2_000, "20 %"),
        ("forfeit_share", 3_334, "33.34 %"),
        ("skill_threshold", 55, "5.5 %"),
        ("proposal_bond", 20, "€20.00"),
        ("max_slash", 5_000_000, "€5.00"),
        ("probation_days", 1, "1 day"),
        ("min_homes", 15, "15"),
    ],
)
def test_values_are_said_as_residents_read_them(name: str, value: int, said: str) -> None:
    key = next(rule.key for rule in MARKET_RULES if rule.name == name)
    assert words.value(key, value, FMT).replace("\u00a0", " ") == said


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (COMMUNITY_BATTERY, 0, "rests"),
        (COMMUNITY_BATTERY, -18_000, "gives back 18 kW"),
        (CHARGE_POINTS, 3_700, "draw at most 3.7 kW each"),
        (HOME_BATTERIES, 505, "charge with 50.5 % of their power"),
        (7, 120, "12.0 ct/kWh"),
    ],
)
def test_windows_are_said_in_words(key: int, value: int, said: str) -> None:
    assert words.window_value(key, value, FMT).replace("\u00a0", " ") == said


# Texts of others


def test_a_title_cannot_turn_the_page_or_break_it() -> None:
    assert plain_text("a\u202eb\ud800c\x00") == "a\\u202eb\\ud800c\\x00"


def test_a_titles_half_sign_is_no_title_that_a_page_cannot_send(chain: Chain) -> None:
    chain.propose(5, 0, description='{"title": "\\ud83d half"}')
    assert decisions(chain.house()).title(5).encode("utf-8")


def test_a_piece_that_holds_a_place_stays_what_it_is() -> None:
    assert filled("{a} & {b}", a="{b}", b="x") == "{b} &amp; x"


def test_a_proposals_link_names_its_number_in_full() -> None:
    assert link(255) == "/proposal?id=0x" + "ff".rjust(64, "0")


# Roles


def test_the_powers_are_those_of_the_role_matrix() -> None:
    """The words on the page against the table that the contracts are tested with."""
    named = {
        TIMELOCK: Role.VOTE,
        MEMBER: Role.MEMBER,
        REGISTRAR: Role.REGISTRAR,
        COLLECTOR: Role.COLLECTOR,
        FORECASTER: Role.FORECASTER,
        GUARDIAN: Role.GUARDIAN,
    }
    for power in POWERS:
        for contract, function in power.functions:
            who = {named[one] for one in roles_of(contract, function) if one in named}
            if is_open(contract, function):
                who.add(Role.ANYONE)
            assert who == power.who, (power.title, contract, function)


def test_whose_contracts_are_looked_at_are_all_that_have_an_owner_of_ours() -> None:
    assert set(asking.OWNED) == set(deployment.OWNED) - {"TestEuro"}


def _roster(chain: Chain) -> Any:
    house = chain.house()
    places = {"GridTimelock": BEN, "GridGovernor": ANNA}
    return roster(house, decisions(house), places)


def test_an_office_kept_in_two_places_is_one_where_they_agree(chain: Chain) -> None:
    for contract in ("MeterRegistry", "Membership"):
        chain.add(contract, "RegistrarChanged", 5, registrar=ANNA)
    [one] = _roster(chain).registrars
    assert (one.address, one.places) == (ANNA, ("MeterRegistry", "Membership"))
    chain.add("Membership", "RegistrarChanged", 9, registrar=BEN)
    assert {(one.address, one.places) for one in _roster(chain).registrars} == {
        (ANNA, ("MeterRegistry",)),
        (BEN, ("Membership",)),
    }


def test_an_office_that_was_used_up_is_vacant(chain: Chain) -> None:
    chain.add("EnergyMarket", "GuardianChanged", 5, guardian="0x" + "00" * 20)
    [one] = _roster(chain).guardians
    assert one.address is None


def test_a_forecasters_bond_is_what_its_events_come_to(chain: Chain) -> None:
    registry = "ForecastRegistry"
    chain.add(registry, "ForecasterChanged", 1, forecaster=ANNA, allowed=True)
    for event, amount in (
        ("BondDeposited", 100),
        ("BondSlashed", 7),
        ("BondRewarded", 2),
        ("BondWithdrawn", 30),
    ):
        chain.add(registry, event, 2, forecaster=ANNA, amount=amount)
    chain.add(registry, "ForecasterChanged", 9, forecaster=ANNA, allowed=False)
    [one] = _roster(chain).forecasters
    assert (one.bond, one.allowed, one.since) == (65, False, 9)


def test_a_contract_that_belongs_to_somebody_else_is_told(chain: Chain) -> None:
    chain.add("Treasury", "OwnershipTransferred", 1, new_owner=ANNA)
    chain.add("Treasury", "OwnershipTransferred", 2, new_owner=BEN.upper().replace("X", "x"))
    assert (_roster(chain).owned, _roster(chain).strangers) == (1, ())
    chain.add("GridParameters", "OwnershipTransferred", 3, new_owner=ANNA)
    assert _roster(chain).strangers == (("GridParameters", ANNA),)


def test_a_stranger_who_may_schedule_is_told_until_the_role_is_taken_back(chain: Chain) -> None:
    stranger, role = "0x" + "cc" * 20, "0x" + keccak(b"PROPOSER_ROLE").hex()
    for who in (ANNA, stranger):
        chain.add("GridTimelock", "RoleGranted", 1, role=role, account=who)
    assert _roster(chain).strangers == (("GridTimelock", stranger),)
    chain.add("GridTimelock", "RoleRevoked", 2, role=role, account=stranger)
    assert _roster(chain).strangers == ()


# Treasury


def purse(payments: int, total: int, head: bytes, *, same_block: bool = True) -> Purse:
    return Purse(0, 0, total, payments, head, same_block)


def told(chain: Chain, now: int = 0, known: Purse | None = None) -> Any:
    return ledger(chain.house(), purse=known, treasury=TREASURY, now=now)


def test_payments_are_checked_against_the_contracts_own_hash(chain: Chain) -> None:
    chain.pay(1, 5, 100)
    chain.pay(2, 6, 200)
    rows = list(csv.DictReader(io.StringIO(csv_text(told(chain), Decisions(), {}))))
    head = bytes.fromhex(rows[-1]["chain_hash"][2:])
    assert told(chain).verdict is Verdict.UNKNOWN
    assert told(chain, known=purse(2, 11, head)).verdict is Verdict.FITS
    assert told(chain, known=purse(2, 12, head)).verdict is Verdict.DIFFERS
    assert told(chain, known=purse(2, 11, bytes(32))).verdict is Verdict.DIFFERS
    # A node that is further on says nothing about this list.
    ahead = purse(3, 20, bytes(32), same_block=False)
    assert told(chain, known=ahead).verdict is Verdict.UNKNOWN


def test_a_payment_that_is_left_out_is_found(chain: Chain) -> None:
    chain.pay(2, 6, 200)
    assert told(chain, known=purse(2, 6, bytes(32))).verdict is Verdict.DIFFERS
    # A hash that does not begin at the beginning would be nobody's.
    [row] = csv.DictReader(io.StringIO(csv_text(told(chain), Decisions(), {})))
    assert row["chain_hash"] == ""


def test_a_budgets_period_is_charged_with_payments_and_promises(chain: Chain) -> None:
    begin = 100 * DAY
    chain.budget(1, 1_000, begin, begin + 25 * DAY)
    chain.pay(1, 5, begin + 9 * DAY)
    chain.pay(2, 6, begin + 10 * DAY)
    chain.pay(3, 7, begin + 11 * DAY, kind=3, source=1)
    chain.pay(4, 40, begin + 12 * DAY, kind=1, source=1)  # promised before, so not again
    steps = [[40, 0, 0, 0, 2**40], [50, 1, 3, 900, 2**40], [60, 0, 0, 0, 2**40]]
    chain.add(
        "Treasury",
        "GrantMade",
        begin + 10 * DAY,
        grant_id=1,
        proposal=7,
        payee=BEN,
        purpose=1,
        amount=150,
        milestones=steps,
        reference="A roof",
    )
    for milestone, outcome in ((0, 1), (2, 2)):
        fields = {"grant_id": 1, "milestone": milestone, "outcome": outcome, "amount": 0}
        chain.add("Treasury", "MilestoneClosed", begin + 13 * DAY, **fields)
    [one] = told(chain, begin + 12 * DAY).budgets
    assert (one.when, one.spent) == (When.RUNNING, 6 + 7 + 40 + 50)
    assert (one.period_begins, one.period_ends) == (begin + 10 * DAY, begin + 20 * DAY)
    [last] = told(chain, begin + 21 * DAY).budgets
    assert (last.spent, last.period_ends) == (0, begin + 25 * DAY)
    [grant] = told(chain, begin + 21 * DAY).grants
    assert grant.paid == 40
    assert [one.milestone.meter for one in grant.milestones] == [None, 3, None]


def test_a_budget_that_is_over_or_to_come_is_told_beside_the_running_one(chain: Chain) -> None:
    chain.budget(1, 1_000, 100 * DAY, 200 * DAY)
    chain.budget(2, 2_000, 150 * DAY, 300 * DAY)
    chain.budget(2, 3_000, 150 * DAY, 300 * DAY)  # replaced before it began
    found = [(one.edition, one.amount, one.when) for one in told(chain, 120 * DAY).budgets]
    assert found == [(1, 1_000, When.RUNNING), (2, 3_000, When.COMING)]
    assert [one.edition for one in told(chain, 160 * DAY).budgets] == [2]
    assert told(chain, 301 * DAY).budgets[0].when is When.OVER


def test_a_recurring_payment_tells_what_is_due_and_what_comes_next(chain: Chain) -> None:
    fields = {"purpose": 1, "payee": ANNA, "amount": 3, "period_seconds": 7 * DAY, "count": 3}
    more = {"recurring_id": 1, "proposal": 7, "first_at": 10 * DAY, "reference": "Light"}
    chain.add("Treasury", "RecurringMade", 0, **fields, **more)
    assert (told(chain, 9 * DAY).recurring[0].due, told(chain).recurring[0].next_at) == (
        0,
        10 * DAY,
    )
    chain.pay(1, 3, 10 * DAY, kind=3, source=1)
    [one] = told(chain, 24 * DAY).recurring
    assert (one.paid, one.due, one.next_at) == (1, 2, 17 * DAY)
    assert told(chain, 900 * DAY).recurring[0].due == 2
    chain.add("Treasury", "RecurringEnded", 20 * DAY, recurring_id=1, proposal=8, paid=1)
    [ended] = told(chain, 24 * DAY).recurring
    assert (ended.due, ended.next_at) == (0, None)


def test_income_is_parted_by_where_it_came_from(chain: Chain) -> None:
    for where, amount in ((TREASURY, 30), (BEN, 999)):
        chain.add("EnergyMarket", "FeesCollected", 0, treasury=where, amount=amount)
    chain.add("GridGovernor", "BondForfeited", 0, proposalId=7, account=ANNA, amount=20)
    chain.add("ForecastRegistry", "BondSlashed", 0, forecaster=BEN, amount=5)
    one = ledger(
        chain.house(), purse=Purse(70, 10, 40, 0, bytes(32), True), treasury=TREASURY, now=0
    )
    assert (one.fees, one.forfeited, one.slashed, one.otherwise) == (30, 20, 5, 70)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "  =1+1", "a\n=b"])
def test_no_cell_of_the_file_is_a_formula(chain: Chain, text: str) -> None:
    chain.pay(1, 5, 100, reference=text)
    chain.propose(7, 0, description=text)
    one = told(chain)
    written = csv_text(one, decisions(chain.house()), {7: Votes(3, 2, 1)})
    [row] = csv.DictReader(io.StringIO(written))
    for cell in (row["reference"], row["proposal_title"]):
        assert not cell.lstrip().startswith(("=", "+", "-", "@"))
        assert "\n" not in cell
    assert (row["votes_for"], row["votes_against"], row["votes_abstain"]) == ("3", "2", "1")


# Asking the index


def test_ballots_are_counted_on_and_counted_anew_after_a_reorganisation(tmp_path: Path) -> None:
    index, settings = Index(tmp_path / "index.sqlite"), Settings(tmp_path)

    def vote(support: int) -> None:
        fields = {"voter": ANNA, "proposalId": 2**200, "support": support, "weight": 2}
        index.add("VoteCast", 10, {**fields, "reason": ""}, "GridGovernor")

    for support in (1, 3, 0, 2):
        vote(support)
    assert asking.votes(settings) == {2**200: Votes(2, 4, 2)}
    vote(1)
    assert asking.votes(settings)[2**200] == Votes(4, 4, 2)
    (tmp_path / "index.sqlite").unlink()
    index = Index(tmp_path / "index.sqlite")
    vote(2)
    assert asking.votes(settings) == {2**200: Votes(0, 0, 2)}


def test_no_index_is_an_empty_house(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    assert asking.house(settings).of("Treasury", "Payment") == ()
    assert asking.votes(settings) == {}
    assert asking.purse(settings) is None


def test_a_node_that_is_away_leaves_out_what_only_it_could_tell(tmp_path: Path) -> None:
    Index(tmp_path / "index.sqlite").add("Payment", 1, {}, "Treasury")
    places = {"Treasury": TREASURY, "GridGovernor": ANNA, "ForecastRegistry": BEN}
    settings = Settings(tmp_path, rpc=f"http://127.0.0.1:{free_port()}", deployment=places)
    assert asking.purse(settings) is None
    assert asking.states(settings, (5,)) == {}
    assert asking.record(settings, ANNA, 1) is None


def test_a_damaged_index_is_told(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite").write_text("no index at all " * 100)
    with pytest.raises(CheckFailed):
        asking.house(Settings(tmp_path))


def test_of_many_events_the_newest_are_kept_and_the_kind_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "MAX_ROWS", 2)
    index = Index(tmp_path / "index.sqlite")
    for number in range(4):
        index.add("Payment", number, {"number": number}, "Treasury")
    found = asking.house(Settings(tmp_path))
    assert [row.args["number"] for row in found.of("Treasury", "Payment")] == [2, 3]
    assert found.cut == {("Treasury", "Payment")}
