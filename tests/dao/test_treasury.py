# SPDX-License-Identifier: Apache-2.0
"""Public money through Python: a node takes the calls, and the list of payments proves itself.

The rules are tested in tests/contracts/test_treasury.py. Here too a small contract plays governor
and timelock in one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from eth_abi.abi import encode
from vyper.compiler import compile_code

from dao import treasury as dao
from dao.anvil import AnvilNode
from dao.chain import Chain, Contract, ContractReverted, LocalAccount
from dao.eip712 import checksum_address, keccak
from dao.errors import BadUse, CheckFailed
from dao.governance import Call
from dao.ledger import pack_totals
from dao.treasury import Kind, MeteredSlot, Milestone, Outcome
from meters.leaves import leaves_of, month_of, proof_of, root_of_leaves, salt_of
from meters.readings import NULL_WH, Quality, Reading, Readings
from meters.secrets import DerivedSecrets
from tests.chains import put_back

START = 1_465_171_200
DAY = 86_400
FIRST_SLOT = START // 900
EURO = 1_000_000
SOLAR = 3
HOMES = 15
SECRETS = DerivedSecrets(b"treasury test secrets")
PAYEE = LocalAccount.from_key(keccak(b"payee")).address

EXECUTOR = """
# pragma version ~=0.4.3
executing: public(transient(uint256))

@external
def run(proposal: uint256, target: address, data: Bytes[4_096]):
    self.executing = proposal
    raw_call(target, data)
    self.executing = 0
"""


@dataclass
class Town:
    chain: Chain
    treasury: Contract
    ledger: Contract
    executor: str
    proposals: int = 0

    @property
    def anyone(self) -> LocalAccount:
        return self.chain.accounts[3]

    def execute(self, *calls: Call) -> int:
        """What a proposal decides, carried out."""
        self.proposals += 1
        for call in calls:
            arguments = encode(
                ["uint256", "address", "bytes"], [self.proposals, call.target, call.calldata]
            )
            selector = keccak(b"run(uint256,address,bytes)")[:4]
            self.chain.send(self.executor, selector + arguments)
        return self.proposals

    def grant(self, *milestones: Milestone) -> int:
        self.execute(dao.grant_call(self.treasury, SOLAR, PAYEE, milestones, "a roof"))
        return len(dao.grants(self.treasury))

    def measure(
        self, quality: Quality = Quality.MEASURED, until: int = START + 4 * DAY
    ) -> list[MeteredSlot]:
        """The first day, committed and final; what meter 1 has to show of it."""
        rows = [
            Reading(meter, slot, None, 100 + slot % 3, quality)
            for meter in range(1, HOMES + 1)
            for slot in range(FIRST_SLOT, FIRST_SLOT + 96)
        ]
        leaves = leaves_of(Readings.of(rows), SECRETS)
        self.chain.set_time(START + DAY)
        self.ledger.transact(
            "commit",
            1,
            FIRST_SLOT,
            96,
            root_of_leaves(leaves),
            HOMES,
            len(leaves),
            pack_totals([0] * 96, [0] * 96),
        )
        self.chain.set_time(until)
        readings = Readings.of(rows[:96])
        return [
            MeteredSlot(
                FIRST_SLOT,
                row.slot,
                row.import_wh,
                int(row.export_wh or 0),
                salt_of(SECRETS.month_secret(1, int(month)), row.slot),
                tuple(proof_of(leaves, index)),
            )
            for index, (row, month) in enumerate(
                zip(rows[:96], month_of(readings.slot), strict=True)
            )
        ]


@pytest.fixture(scope="module")
def opened() -> Iterator[Town]:
    with AnvilNode(timestamp=START - 10 * DAY) as node, Chain.local(node.url) as chain:
        deployer = chain.accounts[0].address
        parameters = chain.deploy("GridParameters")
        parameters.transact("define", 12, "finality", 3 * DAY, DAY, 7 * DAY, DAY, DAY)
        registry = chain.deploy("MeterRegistry", deployer)
        people = [checksum_address(keccak(bytes([index]))[12:]) for index in range(2 * HOMES)]
        registry.transact("register_batch", people[:HOMES], people[HOMES:], 1)
        ledger = chain.deploy("ReadingLedger", parameters.address)
        ledger.transact("set_collector", 1, deployer)
        token = chain.deploy("TestEuro")
        treasury = chain.deploy("Treasury", token.address, registry.address, ledger.address)
        code = bytes.fromhex(compile_code(EXECUTOR, output_formats=["bytecode"])["bytecode"][2:])
        executor = chain.send(None, code).contract_address
        assert executor is not None
        treasury.transact("set_governor", executor)
        chain.set_time(START)
        treasury.transact(
            "set_budget", SOLAR, "Solar roofs", 500 * EURO, 30 * DAY, START, START + 360 * DAY
        )
        treasury.transact("transfer_ownership", executor)
        token.transact("mint", treasury.address, 2_000 * EURO)
        yield Town(chain, treasury, ledger, checksum_address(executor))


@pytest.fixture
def town(opened: Town) -> Iterator[Town]:
    with put_back(opened.chain):
        yield replace(opened)


# Spending


def test_a_payment_is_listed_with_all_that_was_decided(town: Town) -> None:
    proposal = town.execute(
        dao.pay_call(town.treasury, SOLAR, PAYEE, 7 * EURO, "Rechnung für März")
    )
    [payment] = dao.payments(town.treasury)
    assert payment == dao.Payment(
        number=1,
        proposal=proposal,
        purpose=SOLAR,
        payee=PAYEE,
        amount=7 * EURO,
        kind=Kind.SINGLE,
        source=0,
        paid_at=town.chain.now(),
        reference="Rechnung für März",
    )
    assert dao.accounts(town.treasury) == dao.Accounts(1_993 * EURO, 0, 7 * EURO, 1)


def test_a_budget_is_read_and_followed_by_the_next(town: Town) -> None:
    town.execute(dao.pay_call(town.treasury, SOLAR, PAYEE, 7 * EURO, "one"))
    [budget] = dao.budgets(town.treasury)
    assert (budget.purpose, budget.name, budget.edition) == (SOLAR, "Solar roofs", 1)
    assert (budget.amount, budget.spent, budget.period) == (500 * EURO, 7 * EURO, 0)
    edge = dao.next_edge(budget, town.chain.now())
    assert edge == START + 30 * DAY
    town.execute(dao.budget_call(town.treasury, SOLAR, "Solar roofs", 5, DAY, edge, edge + DAY))
    town.chain.set_time(edge)
    following = dao.budget(town.treasury, SOLAR)
    assert following is not None
    assert (following.edition, following.amount, following.spent) == (2, 5, 0)
    assert dao.next_edge(following, edge) == edge + DAY
    town.chain.set_time(edge + DAY)
    assert dao.budget(town.treasury, SOLAR) is None
    assert dao.budgets(town.treasury) == []


def test_a_grant_is_read_with_its_milestones(town: Town) -> None:
    terms = (Milestone(EURO, START + 50 * DAY), Milestone(2 * EURO, START + 60 * DAY, 1, 900))
    made = town.grant(*terms)
    town.execute(dao.release_call(town.treasury, made, 0))
    grant = dao.grant(town.treasury, made)
    assert (grant.id, grant.purpose, grant.payee, grant.proposal) == (made, SOLAR, PAYEE, 1)
    assert tuple(one.milestone for one in grant.milestones) == terms
    assert [one.outcome for one in grant.milestones] == [Outcome.PAID, Outcome.OPEN]
    town.execute(dao.cancel_call(town.treasury, made))
    assert dao.grant(town.treasury, made).milestones[1].outcome is Outcome.CANCELLED
    assert dao.accounts(town.treasury).reserved == 0


def test_a_milestone_that_expired_lapses(town: Town) -> None:
    made = town.grant(Milestone(EURO, START + 5 * DAY))
    town.chain.set_time(START + 5 * DAY)
    dao.lapse(town.treasury, made, 0, town.anyone)
    assert dao.grant(town.treasury, made).milestones[0].outcome is Outcome.LAPSED


def test_a_recurring_payment_is_paid_and_ended(town: Town) -> None:
    town.execute(
        dao.recurring_call(town.treasury, SOLAR, PAYEE, EURO, 7 * DAY, 4, START + DAY, "rent")
    )
    town.chain.set_time(START + 9 * DAY)
    assert dao.recurring(town.treasury, 1).due == 2
    paid = dao.pay_due(town.treasury, 1, town.anyone)
    assert [(one.number, one.kind, one.source) for one in paid] == [
        (1, Kind.RECURRING, 1),
        (2, Kind.RECURRING, 1),
    ]
    town.execute(dao.end_recurring_call(town.treasury, 1))
    [found] = dao.all_recurring(town.treasury)
    assert (found.paid, found.due, found.ended, found.count) == (2, 0, True, 4)
    assert (found.payee, found.proposal, found.reference) == (PAYEE, 1, "rent")


# Evidence


def test_what_meters_committed_is_evidence(town: Town) -> None:
    made = town.grant(Milestone(EURO, START + 50 * DAY, 1, 9_000))
    slots = town.measure()
    assert dao.check_evidence(town.ledger, 1, 1, slots) == sum(one.export_wh for one in slots)
    [receipt] = dao.submit_evidence(town.treasury, made, 0, slots, town.anyone)
    assert receipt.event("EvidenceCounted").args["produced_wh"] == 9_000
    [payment] = dao.payments(town.treasury)
    assert (payment.kind, payment.source, payment.proposal) == (Kind.METERED_MILESTONE, made, 1)


def test_evidence_goes_in_several_transactions_and_stops_once_it_is_paid(town: Town) -> None:
    made = town.grant(Milestone(EURO, START + 50 * DAY, 1, 500))
    slots = town.measure()
    many = [*slots[:2], *slots[:2] * 47, *slots[2:]]
    receipts = dao.submit_evidence(town.treasury, made, 0, [*many, *slots], town.anyone)
    assert len(receipts) == 2
    assert dao.grant(town.treasury, made).milestones[0].outcome is Outcome.PAID


def test_evidence_that_would_not_count_is_found_before_it_is_sent(town: Town) -> None:
    slots = town.measure()
    first, second = slots[:2]
    for bad, words in (
        (replace(first, export_wh=first.export_wh + 1), "not what was committed"),
        (replace(first, import_wh=0), "not what was committed"),
        (replace(first, salt=second.salt), "not what was committed"),
        (replace(first, path=first.path[:-1]), "not what was committed"),
        (replace(first, batch=FIRST_SLOT + 96), "no batch that begins"),
        (replace(first, slot=FIRST_SLOT + 96), "not in the batch"),
        (second, "given twice"),
    ):
        with pytest.raises(CheckFailed, match=words):
            dao.check_evidence(town.ledger, 1, 1, [second, bad])
    with pytest.raises(CheckFailed, match="not what was committed"):
        dao.check_evidence(town.ledger, 1, 2, [first])
    with pytest.raises(CheckFailed, match="zone 2 has no batch"):
        dao.check_evidence(town.ledger, 2, 1, [first])


def test_evidence_that_is_not_final_is_told_when_it_will_be(town: Town) -> None:
    slots = town.measure(until=START + 4 * DAY - 1)
    with pytest.raises(CheckFailed, match=f"final from {START + 4 * DAY} on"):
        dao.check_evidence(town.ledger, 1, 1, slots[:1])
    town.chain.set_time(START + 4 * DAY)
    assert dao.check_evidence(town.ledger, 1, 1, slots[:1]) == slots[0].export_wh


def test_what_was_estimated_is_no_evidence(town: Town) -> None:
    slots = town.measure(Quality.ESTIMATED)
    with pytest.raises(CheckFailed, match="another quality than measured"):
        dao.check_evidence(town.ledger, 1, 1, slots[:1])


def test_the_leaf_is_that_of_meters() -> None:
    for imported, exported in ((None, 0), (0, 1), (2**31 - 1, 2**31 - 1)):
        row = Reading(5, FIRST_SLOT, imported, exported)
        salt = salt_of(SECRETS.month_secret(5, int(month_of(Readings.of([row]).slot)[0])), row.slot)
        slot = MeteredSlot(FIRST_SLOT, FIRST_SLOT, imported, exported, salt, ())
        assert dao.evidence_leaf(5, slot) == leaves_of(Readings.of([row]), SECRETS)[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"export_wh": NULL_WH},
        {"export_wh": -1},
        {"import_wh": 2**32},
        {"salt": bytes(31)},
        {"path": (bytes(32),) * 25},
    ],
)
def test_a_slot_that_fits_no_leaf_is_refused(changes: dict[str, Any]) -> None:
    slot = replace(MeteredSlot(0, 0, 0, 0, bytes(32), ()), **changes)
    with pytest.raises(BadUse):
        dao.evidence_leaf(1, slot)


# The chain of payments


def spend(town: Town) -> tuple[list[dao.Payment], bytes, int]:
    for amount in (3, 5, 7):
        town.execute(dao.pay_call(town.treasury, SOLAR, PAYEE, amount, f"no. {amount}"))
    found = dao.payments(town.treasury)
    return found, bytes(town.treasury.call("spending_hash")), 15


def test_a_payment_left_out_is_found(town: Town) -> None:
    found, head, total = spend(town)
    dao.verify_payments(found, head, total)
    with pytest.raises(CheckFailed, match="payment 2 is missing"):
        dao.verify_payments([found[0], found[2]], head, total)
    with pytest.raises(CheckFailed, match="the 2 payments found are not those on chain"):
        dao.verify_payments(found[:2], head, total)
    with pytest.raises(CheckFailed, match="the 0 payments"):
        dao.verify_payments([], head, total)


@pytest.mark.parametrize(
    "change",
    [
        {"proposal": 9},
        {"purpose": 9},
        {"payee": "0x" + "11" * 20},
        {"amount": 9},
        {"kind": Kind.RECURRING},
        {"source": 9},
        {"paid_at": 9},
        {"reference": "no. 9"},
    ],
)
def test_an_altered_payment_is_found(town: Town, change: dict[str, Any]) -> None:
    found, head, total = spend(town)
    altered = [found[0], replace(found[1], **change), found[2]]
    with pytest.raises(CheckFailed, match="not those on chain"):
        dao.verify_payments(altered, head, total)


def test_a_sum_that_does_not_fit_is_found(town: Town) -> None:
    found, head, total = spend(town)
    with pytest.raises(CheckFailed, match="come to 15, the contract has paid 16"):
        dao.verify_payments(found, head, total + 1)


def test_where_nothing_was_paid_the_list_is_empty(town: Town) -> None:
    assert dao.payments(town.treasury) == []


# Bad use


def test_calls_that_cannot_be_made_are_refused(town: Town) -> None:
    treasury = town.treasury
    fine = Milestone(1, START + DAY)
    with pytest.raises(BadUse, match="at most 128 bytes, not 129"):
        dao.pay_call(treasury, SOLAR, PAYEE, 1, "x" * 129)
    with pytest.raises(BadUse, match="at most 64 bytes, not 66"):
        dao.budget_call(treasury, SOLAR, "ü" * 33, 1, DAY, START, START + DAY)
    for milestones in ([], [fine] * 9):
        with pytest.raises(BadUse, match="1 to 8 milestones"):
            dao.grant_call(treasury, SOLAR, PAYEE, milestones, "why")
    for half in (replace(fine, meter=1), replace(fine, threshold_wh=1)):
        with pytest.raises(BadUse, match="names a meter"):
            dao.grant_call(treasury, SOLAR, PAYEE, [half], "why")


def test_an_unknown_grant_is_told_by_the_contract(town: Town) -> None:
    with pytest.raises(ContractReverted, match="treasury: unknown grant"):
        dao.grant(town.treasury, 1)
