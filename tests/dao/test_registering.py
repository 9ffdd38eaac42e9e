# SPDX-License-Identifier: Apache-2.0
"""A list of metering points goes to the registry whole, once, and under the numbers it names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dao import deployment as deploying
from dao.anvil import AnvilNode
from dao.chain import Chain
from dao.deployment import Deployment, Roles
from dao.errors import BadUse
from dao.registering import read_points
from scripts.meter import cli
from tests.chains import put_back

OWNER, DEVICE = ("0x" + digit * 40 for digit in "1a")


def address(number: int) -> str:
    return f"0x{number:040x}"


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, Path]]:
    with AnvilNode() as node, Chain.local(node.url) as chain:
        offices = (account.address for account in chain.accounts[1:5])
        deployment = deploying.deploy(chain, Roles(*offices), zone=1)
        file = tmp_path_factory.mktemp("founded") / "deployment.json"
        deploying.write(deployment, file)
        yield deployment, file


Run = Callable[..., Result]


@pytest.fixture
def chain(founded: tuple[Deployment, Path]) -> Iterator[Deployment]:
    """The contracts with no meter yet."""
    deployment = founded[0]
    with put_back(deployment.chain):
        yield deployment


@pytest.fixture
def run(founded: tuple[Deployment, Path], chain: Deployment) -> Run:
    def run(text: str | None, *more: str) -> Result:
        named = ["register", "--rpc", chain.chain.url, "--deployment", str(founded[1])]
        read = [] if text is None else ["-"]
        return CliRunner(mix_stderr=False).invoke(cli, [*named, *read, *more], input=text)

    return run


def count(deployment: Deployment) -> int:
    return int(deployment["MeterRegistry"].call("meter_count"))


def listed(*rows: str, head: str = "owner,device,zone,meter") -> str:
    return "\n".join([head, *rows]) + "\n"


def test_a_list_becomes_metering_points_with_accounts(chain: Deployment, run: Run) -> None:
    text = listed(*(f"{address(50 + i)},{address(90 + i)},{1 + i % 2}," for i in range(3)))
    done = run(text, "--json")
    assert done.exit_code == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [(row["meter"], row["zone"], row["is_new"]) for row in rows] == [
        (1, 1, True),
        (2, 2, True),
        (3, 1, True),
    ]
    for row in rows:
        owner, zone = chain["MeterRegistry"].call("metering_point", row["meter"])
        assert (owner, zone) == (row["owner"], row["zone"])
        assert chain["MeterRegistry"].call("meter_of_device", row["device"]) == row["meter"]
        assert chain["EnergyMarket"].call("account", row["meter"])[0] == owner


def test_the_same_list_again_changes_nothing(chain: Deployment, run: Run) -> None:
    text = listed(f"{OWNER},{DEVICE},,")
    assert run(text).exit_code == 0
    again = run(text, "--json")
    assert [row["is_new"] for row in json.loads(again.stdout)] == [False]
    assert count(chain) == 1


def test_accounts_that_were_not_opened_before_it_broke_off_are_opened(
    chain: Deployment, run: Run
) -> None:
    chain["MeterRegistry"].transact(
        "register_batch", [OWNER], [DEVICE], 1, sender=chain.chain.accounts[1]
    )
    assert run(listed(f"{OWNER},{DEVICE},,")).exit_code == 0
    assert int(chain["EnergyMarket"].call("account", 1)[0], 16) == int(OWNER, 16)


def test_numbers_that_gateways_were_set_up_with_are_kept_in_any_order(
    chain: Deployment, run: Run
) -> None:
    done = run(listed(f"{OWNER},{address(92)},1,2", f"{OWNER},{address(91)},1,1"))
    assert done.exit_code == 0, done.stderr
    assert chain["MeterRegistry"].call("meter_of_device", address(92)) == 2


def test_a_dry_run_sends_nothing_and_without_a_list_the_next_number_is_told(
    chain: Deployment, run: Run
) -> None:
    told = run(listed(f"{OWNER},{DEVICE},,"), "--dry-run", "--json")
    assert json.loads(told.stdout) == {"known": 0, "new": 1, "first": 1}
    assert count(chain) == 0
    assert json.loads(run(None, "--json").stdout) == {"next": 1}


@pytest.mark.parametrize(
    ("text", "more", "code", "said"),
    [
        (listed(f"{OWNER},{DEVICE},1,7"), (), 2, "would give the number 1, not 7"),
        (listed(f"{OWNER},{DEVICE},1,"), ("--account", "5"), 1, "is not the registrar"),
        (listed(f"{OWNER},{DEVICE},1,"), ("--account", "55"), 2, "has the accounts 0 to 9"),
    ],
)
def test_what_cannot_be_registered_is_one_line_and_nothing_is_sent(
    chain: Deployment, run: Run, text: str, more: tuple[str, ...], code: int, said: str
) -> None:
    done = run(text, *more)
    assert (done.exit_code, count(chain)) == (code, 0)
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_device_that_speaks_for_another_home_is_refused(chain: Deployment, run: Run) -> None:
    assert run(listed(f"{OWNER},{DEVICE},1,")).exit_code == 0
    done = run(listed(f"{address(77)},{address(78)},1,", f"{address(79)},{DEVICE},1,"))
    assert (done.exit_code, count(chain)) == (2, 1)
    assert "speaks for meter 1" in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "first line"),
        ("owner\n0x11", "first line"),
        (listed(head="owner,device"), "holds 0 points"),
        (listed("a,b", head="owner,device,colour"), "unknown column"),
        (listed("a", head="owner,device"), "has 1 fields"),
        (listed(f"x,{DEVICE},,"), "owner 'x'"),
        (listed(f"{address(0)},{DEVICE},,"), "zero address"),
        (listed(f"{OWNER},{DEVICE},0,"), "zone '0'"),
        (listed(f"{OWNER},{DEVICE},1024,"), "zone '1024'"),
        (listed(f"{OWNER},{DEVICE},1,-1"), "meter '-1'"),
        (listed(f"{OWNER},{DEVICE},,", f"{OWNER},{DEVICE},,"), "stands twice"),
        (listed(f"{OWNER},{DEVICE},,3", f"{OWNER},{address(9)},,3"), "stands twice"),
        (listed(f'{OWNER},"{DEVICE}'), "not CSV"),
    ],
)
def test_a_list_that_cannot_be_read_says_where(text: str, said: str) -> None:
    with pytest.raises(BadUse, match=said):
        read_points(text, 1)
