# SPDX-License-Identifier: Apache-2.0
"""OpenZeppelin's Governor is what it claims to be, does the same work as ours, and takes more gas
for all of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks import gas, openzeppelin
from benchmarks.openzeppelin import COMPILED, SOURCES, Motion, Peer
from benchmarks.results import Result
from benchmarks.street import DAY, MEMBERS, street
from dao.artifacts import RUNTIME_SIZE_LIMIT
from dao.chain import ContractReverted
from dao.eip712 import keccak
from dao.errors import CheckFailed
from dao.governance import Call, Support
from dao.parameters import KEYS

FULL_SET = (
    "GovernorCountingFractional",
    "GovernorPreventLateQuorum",
    "GovernorSettings",
    "GovernorStorage",
    "GovernorTimelockControl",
    "GovernorVotesQuorumFraction",
)
FIGURES = (
    "propose_1",
    "vote_first_ever",
    "vote_new_voter",
    "vote_returning",
    "ballot_batch_new",
    "ballot_batch_returning",
    "queue_1",
    "execute_1",
)


def error(signature: str) -> str:
    """How a refusal with one of Solidity's own errors begins."""
    return "0x" + keccak(signature.encode())[:4].hex()


# The voter's next nonce is another one, so the signature is nobody's.
SPENT = error("GovernorInvalidSignature(address)")
TOO_EARLY = error("TimelockUnexpectedOperationState(bytes32,bytes32)")


@pytest.fixture(scope="module")
def compiled() -> dict[str, dict[str, Any]]:
    """What `make setup-test` compiled."""
    openzeppelin.load()
    return dict(json.loads(COMPILED.read_text()))


@pytest.fixture(scope="module")
def result() -> Result:
    """Ours and theirs, from one run on one node."""
    return gas.run()


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with street(1) as on:
        yield openzeppelin.deploy(on, openzeppelin.load())


def motion_of(peer: Peer, description: str) -> Motion:
    rules = peer.parameters
    call = Call(rules.address, rules.encode("set_value", KEYS["sessions_per_day"], 1))
    return peer.propose(peer.governor, call, description)


# What was compiled


def test_everything_was_compiled_the_same_way(compiled: dict[str, dict[str, Any]]) -> None:
    for name, one in compiled.items():
        settings = one["metadata"]["settings"]
        assert settings["optimizer"] == {"enabled": True, "runs": 200}, name
        assert (settings["evmVersion"], settings["viaIR"]) == ("osaka", True), name
        assert one["metadata"]["compiler"]["version"].startswith("0.8.37+"), name


def test_every_source_is_the_installed_one_unaltered(compiled: dict[str, dict[str, Any]]) -> None:
    for one in compiled.values():
        for name, source in one["metadata"]["sources"].items():
            path = SOURCES / name if name == "GridPeer.sol" else SOURCES / "node_modules" / name
            assert source["keccak256"] == "0x" + keccak(path.read_bytes()).hex(), name


def test_the_governor_is_built_from_the_full_set(compiled: dict[str, dict[str, Any]]) -> None:
    sources = compiled["PeerGovernor"]["metadata"]["sources"]
    for part in FULL_SET:
        assert f"@openzeppelin/contracts/governance/extensions/{part}.sol" in sources


def test_every_contract_of_the_peer_fits_on_a_chain(compiled: dict[str, dict[str, Any]]) -> None:
    for name, one in compiled.items():
        assert 0 < len(one["runtime"]) // 2 <= RUNTIME_SIZE_LIMIT, name


def test_the_lock_pins_exact_versions_by_hash() -> None:
    wanted = json.loads((SOURCES / "package.json").read_text())["devDependencies"]
    packages = json.loads((SOURCES / "package-lock.json").read_text())["packages"]
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert all(one["integrity"].startswith("sha512-") for name, one in packages.items() if name)


def test_without_the_peer_the_suite_says_how_to_get_it_and_measures_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(openzeppelin, "COMPILED", tmp_path / "nothing.json")
    assert command.main(["gas", "--json"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    errors = [line for line in said.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert "make setup-test" in errors[0]


def test_a_peer_compiled_from_another_source_is_not_measured(
    compiled: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    other = json.loads(json.dumps(compiled))
    other["PeerGovernor"]["metadata"]["sources"]["GridPeer.sol"]["keccak256"] = "0x" + "00" * 32
    path = tmp_path / "other.json"
    path.write_text(json.dumps(other))
    with pytest.raises(CheckFailed, match=r"older GridPeer\.sol"):
        openzeppelin.load(path)


# What it does


def test_one_member_has_one_vote_that_counts_from_admission_on(peer: Peer) -> None:
    members = peer.on.owners[:MEMBERS]
    now = peer.on.chain.now()
    assert {peer.membership.call("getVotes", one.address) for one in members} == {1}
    assert peer.membership.call("getPastTotalSupply", now - 1) == MEMBERS
    assert peer.governor.call("quorum", now - 1) == MEMBERS * openzeppelin.QUORUM_PERCENT // 100


def test_a_membership_cannot_be_passed_on(peer: Peer) -> None:
    member, other = peer.on.owners[0], peer.on.owners[MEMBERS]
    token = int(member.address, 16)
    with pytest.raises(ContractReverted, match=error("Soulbound()")):
        peer.membership.transact(
            "transferFrom", member.address, other.address, token, sender=member
        )


def test_nobody_is_a_member_twice(peer: Peer) -> None:
    member = peer.on.owners[0]
    with pytest.raises(ContractReverted, match=error("AlreadyMember(address)")):
        peer.membership.transact("admit", [member.address])


def test_who_is_no_member_can_neither_propose_nor_vote(peer: Peer) -> None:
    stranger = peer.on.owners[MEMBERS]
    peer.on.chain.fund(stranger.address)
    columns = [peer.parameters.address], [0], [b""]
    refused = error("GovernorInsufficientProposerVotes(address,uint256,uint256)")
    with pytest.raises(ContractReverted, match=refused):
        peer.governor.transact("propose", *columns, "mine", sender=stranger)
    motion = motion_of(peer, "theirs")
    peer.open(motion)
    with pytest.raises(ContractReverted, match=error("GovernorAlreadyCastVote(address)")):
        peer.governor.transact("castVote", motion.id, int(Support.FOR), sender=stranger)


def test_storage_keeps_the_calls_and_the_plain_variant_does_not(peer: Peer) -> None:
    motion = motion_of(peer, "kept")
    targets, values, calldatas, description = peer.governor.call("proposalDetails", motion.id)
    assert (targets, values, calldatas) == tuple(list(column) for column in motion.columns)
    assert description == motion.arguments()[-1]
    call = Call(motion.columns[0][0], motion.columns[2][0])
    plain = peer.propose(peer.plain, call, "not kept")
    assert peer.plain.call("proposalSnapshot", plain.id) > 0
    assert peer.plain.call("proposalCount") == 0


def test_counting_is_fractional(peer: Peer) -> None:
    assert "fractional" in peer.governor.call("COUNTING_MODE")


def test_a_quorum_reached_late_extends_the_vote(peer: Peer) -> None:
    motion = motion_of(peer, "late")
    deadline = int(peer.governor.call("proposalDeadline", motion.id))
    peer.on.chain.set_time(deadline - 60)
    peer.vote_in_a_batch(motion, peer.on.owners[50:100])
    extended = int(peer.governor.call("proposalDeadline", motion.id))
    assert extended == deadline - 60 + openzeppelin.EXTENSION


def test_a_signed_vote_counts_once_alone_and_in_a_batch(peer: Peer) -> None:
    motion = motion_of(peer, "once")
    peer.open(motion)
    voter = peer.on.owners[60]
    signature = peer.sign(motion, voter)
    vote = (voter.address, int(Support.FOR), signature)
    assert peer.vote_in_a_batch(motion, [voter]) > 0
    with pytest.raises(ContractReverted, match=SPENT):
        peer.governor.transact("castVoteBySig", motion.id, int(Support.FOR), vote[0], signature)
    with pytest.raises(ContractReverted, match=SPENT):
        peer.batch.transact("castVotes", peer.governor.address, motion.id, [vote])
    assert peer.governor.call("proposalVotes", motion.id) == (0, 1, 0)


def test_nothing_is_executed_before_the_timelock_lets_it(peer: Peer) -> None:
    motion = motion_of(peer, "too early")
    peer.open(motion)
    peer.vote_in_a_batch(motion, peer.on.owners[50:100])
    peer.queue(motion)
    eta = int(peer.governor.call("proposalEta", motion.id))
    assert eta == peer.on.chain.now() + 2 * DAY
    peer.on.chain.set_time(eta - 1)
    with pytest.raises(ContractReverted, match=TOO_EARLY):
        peer.governor.transact("execute", *motion.arguments())
    assert peer.parameters.call("value", KEYS["sessions_per_day"]) != 1


# What it takes


def test_every_figure_of_the_vote_has_a_ratio(result: Result) -> None:
    for name in FIGURES:
        ours, theirs = result.figures[f"dao.{name}"], result.peers[f"dao.openzeppelin_{name}"]
        assert result.ratios[f"dao.{name}_vs_openzeppelin"] == ours / theirs


def test_ours_takes_less_in_every_ratio(result: Result) -> None:
    assert {name: ratio for name, ratio in result.ratios.items() if ratio >= 1} == {}


def test_the_batch_is_the_peers_best_case(result: Result) -> None:
    for voter in ("new", "returning"):
        batch = result.peers[f"dao.openzeppelin_ballot_batch_{voter}"]
        assert batch < result.peers[f"dao.openzeppelin_vote_by_sig_{voter}"]


def test_every_note_belongs_to_a_figure_of_the_peer(result: Result) -> None:
    assert openzeppelin.NOTES.keys() <= result.peers.keys()
