# SPDX-License-Identifier: Apache-2.0
"""`gridcommons dao` against a real node: a member decides with the command alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dao import deployment as deploying
from dao import membership
from dao.anvil import AnvilNode
from dao.chain import Chain, LocalAccount
from dao.deployment import Deployment, Roles, deploy, hand_over, register_homes
from dao.eip712 import keccak
from dao.parameters import DAY, KEYS
from scripts.__main__ import gridcommons

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

START = 1_777_000_000
ZONE = 1
MEMBERS = (6, 7, 8, 9)
"""Accounts of the node that own a home and are members."""
HELP = ["list", "show", "propose", "vote", "veto", "delegate", "queue", "execute", "cancel"]
HELP += ["release-bond", "bond", "simulate", "policies", "members"]


@dataclass(frozen=True)
class Town:
    """Four members on a node, and the command to act with as one of them."""

    chain: Chain
    deployment: Deployment
    file: Path

    def run(self, *arguments: str, account: int = MEMBERS[0]) -> tuple[int, str, str]:
        """Exit code, output and complaints."""
        place = ["--network", self.chain.url, "--deployment", str(self.file)]
        place += ["--account", str(account)]
        result = CliRunner(mix_stderr=False).invoke(gridcommons, ["dao", *arguments, *place])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    def told(self, *arguments: str, account: int = MEMBERS[0]) -> Any:
        """What the command told as JSON; it has to succeed."""
        code, out, err = self.run(*arguments, "--json", account=account)
        assert code == 0, err
        return json.loads(out)

    def wait_until(self, seconds: int) -> None:
        self.chain.set_time(max(seconds, self.chain.now()))

    def rule(self, name: str) -> int:
        return int(self.deployment["GridParameters"].call("value", KEYS[name]))


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with AnvilNode(timestamp=START) as node, Chain.local(node.url) as chain:
        registrar, collector, forecaster, guardian, relay = chain.accounts[1:6]
        deployment = deploy(
            chain,
            Roles(registrar.address, collector.address, forecaster.address, guardian.address),
            zone=ZONE,
        )
        owners = [chain.accounts[number] for number in MEMBERS]
        devices = [LocalAccount.from_key(keccak(bytes([number]))) for number in MEMBERS]
        meters = register_homes(
            deployment,
            registrar,
            zone=ZONE,
            owners=[one.address for one in owners],
            devices=[one.address for one in devices],
            members=len(owners),
        )
        for owner in owners:
            deployment["TestEuro"].transact("mint", owner.address, 200_000_000)
        hand_over(deployment)
        waits = {
            name: int(deployment["GridParameters"].call("value", KEYS[name]))
            for name in ("admission_delay", "holding_time")
        }
        chain.set_time(chain.now() + waits["admission_delay"])
        membership.complete(deployment["Membership"], meters, relay)
        chain.set_time(chain.now() + waits["holding_time"] + DAY)
        file = tmp_path_factory.mktemp("town") / "deployment.json"
        deploying.write(deployment, file)
        made = Town(chain, deployment, file)
        for number in MEMBERS[:2]:
            made.told("bond", "--deposit", "160", account=number)
        yield made


def test_a_member_proposes_votes_queues_and_executes_with_the_command_alone(
    town: Town, tmp_path: Path
) -> None:
    record = tmp_path / "record.json"
    before = town.rule("grid_fee")
    made = town.told(
        *("propose", "--set", f"grid_fee={before + 5}", "--description", "The grid costs more."),
        *("--simulate", "-o", str(record)),
    )
    town.wait_until(made["snapshot"] + 1)
    for number, support in zip(MEMBERS, ("for", "for", "against", "abstain"), strict=True):
        cast = town.told("vote", made["id"], support, "--reason", "So.", account=number)
        assert cast["weight"] == 1
    shown = town.told("show", made["id"])
    assert shown["votes"] == {"for": 2, "against": 1, "abstain": 1, "veto": 0}
    assert (shown["state"], shown["quorum"]) == ("active", 1)
    assert shown["calls"][0]["text"] == (f"set grid_fee from {before} µ€/Wh to {before + 5} µ€/Wh")
    town.wait_until(shown["deadline"] + 1)
    eta = town.told("queue", made["id"], account=3)["eta"]
    town.wait_until(eta)
    town.told("execute", made["id"], account=3)
    assert town.rule("grid_fee") == before + 5
    assert town.told("show", made["id"])["state"] == "executed"
    assert town.told("release-bond", made["id"])["bond"] == "released"
    # The record was made before the vote, and still holds against the proposal that names it.
    checked = town.told("simulate", "--check", str(record), "--proposal", made["id"])
    assert checked["holds"] is True


def test_a_balancing_schedule_is_decided_by_its_zone_within_hours(town: Town) -> None:
    day = (town.chain.now() // DAY + 1) * DAY
    start = f"{day // DAY * DAY}"
    town.wait_until(day - 8 * 3_600)
    when = _iso(day + 10 * 3_600)
    made = town.told(
        *("propose", "--lane", "balancing", "--battery", f"{when}/8/60000"),
        *("--battery", f"{_iso(day + 18 * 3_600)}/4/-60000", "--description", f"Day {start}."),
        *("--charge-points", f"{when}/8/3700", "--home-batteries", f"{when}/8/-500"),
    )
    assert (made["lane"], made["deadline"] - made["snapshot"]) == ("balancing", 3 * 3_600)
    town.wait_until(made["snapshot"] + 1)
    for number in MEMBERS[:2]:
        town.told("vote", made["id"], "for", account=number)
    town.wait_until(made["deadline"] + 1)
    town.wait_until(town.told("queue", made["id"])["eta"])
    town.told("execute", made["id"])
    slot = (day + 10 * 3_600) // 900
    parameters = town.deployment["GridParameters"]
    for key, value in ((1_000, 60_000), (1_001, 3_700), (1_002, -500)):
        assert parameters.call("window_at", ZONE, key, slot) == (True, value)


def _iso(seconds: int) -> str:
    from dao.slots import slot_start

    return f"{slot_start(seconds // 900):%Y-%m-%dT%H:%M}"


def test_a_veto_of_most_votes_costs_the_proposer_its_bond(town: Town) -> None:
    made = town.told("propose", "--set", "penalty=110", "--description", "For nobody's good.")
    town.wait_until(made["snapshot"] + 1)
    for number in MEMBERS[1:]:
        assert town.told("veto", made["id"], account=number)["support"] == "veto"
    town.wait_until(made["deadline"] + 1)
    assert town.told("show", made["id"])["state"] == "defeated"
    assert town.told("release-bond", made["id"])["bond"] == "forfeited"


def test_a_proposer_takes_its_own_proposal_back_and_nobody_else_does(town: Town) -> None:
    made = town.told("propose", "--set", "penalty=111", "--description", "A slip.")
    code, _, err = town.run("cancel", made["id"], account=MEMBERS[1])
    assert (code, err) == (
        1,
        "Error: GridGovernor.cancel reverted: governor: caller may not cancel\n",
    )
    town.told("cancel", made["id"])
    assert town.told("show", made["id"])["state"] == "canceled"


def test_a_delegate_votes_with_both_votes(town: Town) -> None:
    to = town.chain.accounts[MEMBERS[1]].address
    town.told("delegate", to, account=MEMBERS[3])
    row = {one["address"]: one for one in town.told("members")}
    assert row[to]["votes"] == 2
    assert row[town.chain.accounts[MEMBERS[3]].address]["delegate"] == to
    town.told("delegate", town.chain.accounts[MEMBERS[3]].address, account=MEMBERS[3])


def test_calls_from_a_file_are_proposed_and_found_by_the_first_digits_of_their_id(
    town: Town, tmp_path: Path
) -> None:
    file = tmp_path / "calls.json"
    call = {"target": "GridParameters", "function": "set_value"}
    file.write_text(json.dumps([{**call, "arguments": [KEYS["penalty"], 112]}]))
    made = town.told("propose", str(file), "--description", "From a file.")
    rows = town.told("list")
    assert (rows[0]["id"], rows[0]["title"]) == (made["id"], "From a file.")
    for spelled in (rows[0]["short"], str(int(made["id"], 16)), made["id"]):
        assert town.told("show", spelled)["id"] == made["id"]


def test_texts_for_people_say_what_the_json_says(town: Town) -> None:
    code, out, _ = town.run("list")
    assert code == 0
    assert "From a file." in out or "Nothing was proposed yet." in out
    assert town.run("members")[1].splitlines()[-1] == "4 members"
    assert town.run("policies")[1] == "There is no standing policy.\n"
    assert town.run("bond")[1].startswith("1")
    code, out, _ = town.run("simulate", "--set", "penalty=120")
    assert code == 0
    assert "set penalty from 100 µ€/Wh to 120 µ€/Wh" in out
    assert "penalty: 100 µ€/Wh before, 120 µ€/Wh after" in out


def test_calls_that_would_fail_are_told_and_not_proposed(town: Town) -> None:
    before = town.told("list")
    code, out, err = town.run("simulate", "--set", "grid_fee=501")
    assert code == 1
    assert "reverted" in out
    assert err == "Error: the calls would fail: parameters: value out of bounds\n"
    code, out, err = town.run(
        "propose", "--set", "grid_fee=501", "--description", "Too much.", "--simulate"
    )
    assert (code, out) == (1, "")
    assert err == "Error: not proposed, it would fail: parameters: value out of bounds\n"
    assert town.told("list") == before


def test_a_record_that_was_altered_is_told(town: Town, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    assert town.run("simulate", "--set", "penalty=120", "-o", str(file))[0] == 0
    assert town.run("simulate", "--check", str(file))[0] == 0
    record = json.loads(file.read_text())
    record["rules"]["penalty"]["after"] = 105
    file.write_text(json.dumps(record))
    code, out, err = town.run("simulate", "--check", str(file))
    assert (code, out) == (1, "")
    assert "rules.penalty.after: 105 in the record, 120 when run again" in err


def test_a_record_that_the_proposal_does_not_name_is_told(town: Town, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    town.run("simulate", "--set", "penalty=120", "-o", str(file))
    some = town.told("list")[0]["id"]
    code, _, err = town.run("simulate", "--check", str(file), "--proposal", some)
    assert code == 1
    assert "the proposal names None" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "0x"), "is no proposal's id"),
        (("show", "0xffffffffffffff"), "no proposal begins with"),
        (("vote", "12", "perhaps"), "'perhaps' is not one of"),
        (("vote", "999", "for"), "no proposal begins with 999"),
        (("delegate", "me"), "me: expected an address"),
        (("bond", "--deposit", "-1"), "--deposit -1: expected euro"),
        (("bond", "--deposit", "1", "--withdraw", "1"), "not both"),
        (("propose", "--set", "grid_fee=1"), "Missing option '--description'"),
        (("propose", "--description", "Nothing."), "nothing to do"),
        (("propose", "--description", " ", "--set", "grid_fee=1"), "a description is needed"),
        (("propose", "--description", "x", "--set", "grid_fee"), "expected RULE=VALUE"),
        (("propose", "--description", "x", "--set", "grid_fee=-1"), "expected RULE=VALUE"),
        (("propose", "--description", "x", "--set", "free_beer=1"), "no rule 'free_beer'"),
        (("propose", "--description", "x", "--battery", "noon/8/1"), "expected START/SLOTS/WATTS"),
        (
            ("propose", "--description", "x", "--battery", "2026-05-04T10:07/8/1"),
            "expected START/SLOTS/WATTS",
        ),
        (
            ("propose", "--description", "x", "--charge-points", "2026-05-04T10:00/8/22001"),
            "--charge-points 2026-05-04T10:00/8/22001: expected START/SLOTS/WATTS",
        ),
        (
            ("propose", "--description", "x", "--home-batteries", "2026-05-04T10:00/8/-1001"),
            "PERMILLE -1,000 to 1,000",
        ),
        (("propose", "/nowhere.json", "--description", "x"), "cannot read /nowhere.json"),
        (("propose", "--description", "x", "--lane", "fast"), "'fast' is not one of"),
        (
            ("propose", "--description", "x", "--set", "grid_fee=1", "-o", "x.json"),
            "add --simulate",
        ),
        (("simulate",), "nothing to do"),
        (("simulate", "--check", "/nowhere.json"), "cannot read /nowhere.json"),
        (("simulate", "--check", "x", "--set", "grid_fee=1"), "leave them and -o out"),
        (("list", "--account", "17"), "--account 17: a local node has the accounts 0 to 9"),
        (("list", "--deployment", "/nowhere.json"), "is not a deployment file"),
        (("shout",), "No such command"),
    ],
)
def test_bad_use_ends_with_one_clear_line_and_code_2(
    town: Town, arguments: tuple[str, ...], message: str
) -> None:
    place = ["--network", town.chain.url, "--deployment", str(town.file), "--account", "6"]
    given = [
        part
        for pair in zip(place[::2], place[1::2], strict=True)
        if pair[0] not in arguments
        for part in pair
    ]
    result = CliRunner(mix_stderr=False).invoke(gridcommons, ["dao", *arguments, *given])
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 2
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert message in last


def test_an_unreachable_node_is_a_failure_of_one_line(town: Town) -> None:
    result = CliRunner(mix_stderr=False).invoke(
        gridcommons, ["dao", "list", "--network", "http://127.0.0.1:1"]
    )
    assert result.exit_code == 1
    assert "node unreachable" in result.stderr


def test_what_the_chain_refuses_is_told_with_its_reason(town: Town) -> None:
    code, _, err = town.run("propose", "--set", "penalty=113", "--description", "x", account=0)
    assert code == 1
    assert "governor: proposer is not a member" in err


@pytest.mark.parametrize("command", HELP)
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner(mix_stderr=False).invoke(gridcommons, ["dao", command, "--help"])
    assert result.exit_code == 0
    assert "--network" in result.output
    assert "--json" in result.output
