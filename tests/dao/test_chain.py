# SPDX-License-Identifier: Apache-2.0
"""The chain through Ape on a real node: money moves, reasons surface, time obeys."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from dao.abi import Interface, revert_reason
from dao.anvil import AnvilNode
from dao.artifacts import RUNTIME_SIZE_LIMIT
from dao.chain import Chain, Contract, ContractReverted, LocalAccount
from dao.errors import BadUse, CheckFailed
from dao.processes import free_port

START = 1_460_000_000
ALICE = LocalAccount.from_key(b"\x01" * 32)


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with AnvilNode(timestamp=START) as node, Chain.local(node.url) as opened:
        yield opened


@pytest.fixture(scope="module")
def euro(chain: Chain) -> Contract:
    chain.fund(ALICE.address)
    return chain.deploy("TestEuro")


def test_a_transaction_changes_what_a_call_reads(chain: Chain, euro: Contract) -> None:
    before = euro.call("balanceOf", ALICE.address)
    receipt = euro.transact("mint", ALICE.address, 250)
    assert euro.call("balanceOf", ALICE.address) == before + 250
    event = receipt.event("Transfer")
    assert event.contract == "TestEuro"
    assert event.args["receiver"] == ALICE.address
    assert event.args["value"] == 250


def test_anyone_with_a_key_and_fees_can_send(chain: Chain, euro: Contract) -> None:
    euro.transact("mint", ALICE.address, 100)
    receiver = chain.accounts[3].address
    euro.transact("transfer", receiver, 60, sender=ALICE)
    assert euro.call("balanceOf", receiver) == 60


def test_gas_is_counted_over_all_transactions(chain: Chain, euro: Contract) -> None:
    before, sent = chain.gas_used, chain.transactions
    used = [euro.transact("mint", ALICE.address, 1).gas_used for _ in range(2)]
    assert chain.gas_used - before == sum(used)
    assert chain.transactions - sent == 2
    assert 21_000 < used[0] < 200_000


def test_a_refused_transaction_gives_the_contracts_reason(chain: Chain, euro: Contract) -> None:
    with pytest.raises(ContractReverted, match=r"TestEuro\.transfer reverted: erc20: .*balance"):
        euro.transact("transfer", ALICE.address, 10**30, sender=chain.accounts[4])


def test_a_refused_call_gives_the_contracts_reason(chain: Chain, euro: Contract) -> None:
    with pytest.raises(ContractReverted) as caught:
        euro.call("transfer", ALICE.address, 10**30, sender=chain.accounts[4].address)
    assert "balance" in caught.value.reason


def test_running_out_of_gas_is_said_so(euro: Contract) -> None:
    with pytest.raises(ContractReverted, match="out of gas"):
        euro.transact("mint", "0x" + "77" * 20, 1, gas=40_000)


def test_after_a_failed_transaction_the_next_one_works(chain: Chain, euro: Contract) -> None:
    with pytest.raises(ContractReverted):
        euro.transact("transfer", ALICE.address, 10**30)
    euro.transact("mint", ALICE.address, 1)


def test_a_key_used_elsewhere_in_between_does_not_stop_us(chain: Chain, euro: Contract) -> None:
    euro.transact("mint", ALICE.address, 1)
    with Chain.local(chain.url) as other:
        other.at("TestEuro", euro.address).transact("mint", ALICE.address, 1)
    before = euro.call("balanceOf", ALICE.address)
    euro.transact("mint", ALICE.address, 1)
    assert euro.call("balanceOf", ALICE.address) == before + 1


def test_time_stands_still_until_it_is_moved(chain: Chain, euro: Contract) -> None:
    now = chain.now()
    euro.transact("mint", ALICE.address, 1)
    assert chain.now() == now
    chain.set_time(now + 900)
    assert chain.now() == now + 900
    euro.transact("mint", ALICE.address, 1)
    assert chain.now() == now + 900


def test_who_only_lives_with_a_node_leaves_its_time_running() -> None:
    with (
        AnvilNode(timestamp=1_466_640_000) as node,
        Chain.local(node.url, hold_time=False) as chain,
    ):
        begun = chain.now()
        for _ in range(600):
            chain.rpc("evm_mine")
            if chain.now() > begun:
                break
            time.sleep(0.1)
        assert chain.now() > begun


def test_time_does_not_go_back(chain: Chain) -> None:
    with pytest.raises(BadUse, match="cannot go back"):
        chain.set_time(chain.now() - 1)
    blocks = chain.block_number()
    chain.set_time(chain.now())
    assert chain.block_number() == blocks


def test_events_are_found_again_by_name_and_block(chain: Chain, euro: Contract) -> None:
    first = chain.block_number() + 1
    euro.transact("mint", ALICE.address, 41)
    euro.transact("mint", ALICE.address, 42)
    found = euro.events("Transfer", first)
    assert [event.args["value"] for event in found] == [41, 42]
    assert [event.block for event in found] == [first, first + 1]


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("teleport", (), "has no function teleport"),
        ("mint", (1,), "takes 2 arguments"),
        ("mint", ("0x12", 1), "do not fit"),
        ("mint", (ALICE.address, -1), "do not fit"),
        ("mint", (ALICE.address, 1.5), "do not fit"),
    ],
)
def test_a_call_that_cannot_be_encoded_is_bad_use(
    euro: Contract, function: str, arguments: tuple[object, ...], message: str
) -> None:
    with pytest.raises(BadUse, match=message):
        euro.transact(function, *arguments)


def test_a_contract_unknown_here_is_bad_use(chain: Chain) -> None:
    with pytest.raises(BadUse, match="there is no contract 'Bakery'"):
        chain.deploy("Bakery")


def test_an_address_without_a_contract_is_said_so(chain: Chain) -> None:
    with pytest.raises(CheckFailed, match="there is no contract at"):
        chain.at("TestEuro", "0x" + "11" * 20).call("totalSupply")


def test_a_node_that_is_not_there_is_reported_not_thrown() -> None:
    with pytest.raises(CheckFailed, match="node unreachable"):
        Chain.local(f"http://127.0.0.1:{free_port()}")


def test_a_node_that_goes_away_is_reported_not_thrown() -> None:
    with AnvilNode() as node, Chain.local(node.url) as chain:
        node.stop()
        with pytest.raises(CheckFailed, match="node unreachable"):
            chain.now()


def test_a_public_network_is_opened_by_name_and_pays_with_an_ape_account(
    chain: Chain, euro: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APE_FOUNDRY_HOST", chain.url)
    with Chain.connect("ethereum:local:foundry", "TEST::0") as public:
        token = public.at("TestEuro", euro.address)
        assert token.transact("mint", ALICE.address, 3).event("Transfer").args["value"] == 3
        with pytest.raises(ContractReverted, match="balance"):
            token.transact("transfer", ALICE.address, 10**30)
        with pytest.raises(BadUse, match="local chain only"):
            public.set_time(START * 2)


def test_a_network_that_ape_does_not_know_is_bad_use() -> None:
    with pytest.raises(BadUse, match="not a network"):
        Chain.connect("ethereum:atlantis:node", "TEST::0")


def test_an_account_that_ape_does_not_know_is_bad_use(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APE_FOUNDRY_HOST", chain.url)
    with pytest.raises(BadUse, match="no account 'nobody'"):
        Chain.connect("ethereum:local:foundry", "nobody")


def test_a_simple_transaction_is_not_polled_for(euro: Contract) -> None:
    euro.transact("mint", ALICE.address, 1)
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        euro.transact("mint", ALICE.address, 1)
        times.append(time.perf_counter() - begin)
    # Waiting for a receipt by polling would take a second. The quarter fastest: the machine may
    # be busy.
    assert sorted(times)[5] < 0.5


def test_every_contract_fits_on_a_chain(chain: Chain) -> None:
    sizes = {name: len(one.runtime) for name, one in chain.artifacts.items()}
    assert sizes
    assert {name: size for name, size in sizes.items() if size >= RUNTIME_SIZE_LIMIT} == {}


def test_a_private_key_is_not_shown() -> None:
    assert "01" * 32 not in repr(ALICE)


STRUCTS = Interface(
    "Sample",
    [
        {
            "type": "function",
            "name": "put",
            "stateMutability": "view",
            "inputs": [
                {
                    "name": "orders",
                    "type": "tuple[]",
                    "components": [
                        {"name": "who", "type": "address"},
                        {"name": "wh", "type": "uint16[]"},
                    ],
                },
                {"name": "root", "type": "bytes32"},
            ],
            "outputs": [
                {
                    "name": "",
                    "type": "tuple",
                    "components": [
                        {"name": "who", "type": "address"},
                        {"name": "wh", "type": "uint16[]"},
                    ],
                },
                {"name": "", "type": "bool"},
            ],
        }
    ],
)


def test_structs_go_in_as_mappings_or_sequences_and_come_out_as_mappings() -> None:
    by_name = {"who": ALICE.address, "wh": np.array([1, 2], dtype=np.int64)}
    root = "0x" + "ab" * 32
    data = STRUCTS.encode_call("put", ([by_name], root))
    assert data == STRUCTS.encode_call("put", ([(ALICE.address, [1, 2])], bytes.fromhex(root[2:])))
    from eth_abi.abi import encode

    answer = encode(["(address,uint16[])", "bool"], [(ALICE.address, [5]), True])
    assert STRUCTS.decode_result("put", 2, answer) == ({"who": ALICE.address, "wh": [5]}, True)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("", "without a reason"),
        ("4e487b71" + "11".rjust(64, "0"), "panic 0x11"),
        ("deadbeef", "0xdeadbeef"),
        ("08c379a0ff", "0x08c379a0ff"),
    ],
)
def test_a_reason_is_read_from_whatever_a_contract_returns(data: str, reason: str) -> None:
    assert reason in revert_reason(bytes.fromhex(data))
