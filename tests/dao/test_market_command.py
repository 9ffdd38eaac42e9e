# SPDX-License-Identifier: Apache-2.0
"""Order books from files and sessions, and `gridcommons market clear` as a person meets it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from dao.errors import BadUse, CheckFailed
from dao.market.book import parse_book, session_book
from dao.market.orders import Order
from dao.market.solver import ASK, BID, MAX_LIMIT, MAX_TOTAL_WH
from dao.market.solver import clear as solve
from scripts.__main__ import COMMANDS, gridcommons
from scripts._common import handles_errors
from scripts.market import cli

RUNNER = CliRunner(mix_stderr=False)
ROOT = Path(__file__).resolve().parents[2]
GOOD = "side,price,wh\nbid,300,10\nask,100,7\nask,250,1\n"
CLEARED = {"price": 275, "volume_wh": 8, "welfare": 8 * 300 - 700 - 250, "fills": [8, 7, 1]}


def run(tmp_path: Path, content: bytes | str, *options: str) -> tuple[int, str, str]:
    book = tmp_path / "book.csv"
    book.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    result = RUNNER.invoke(cli, ["clear", str(book), *options])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.stdout, result.stderr.replace(str(book), "book.csv")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(GOOD, id="plain"),
        pytest.param(GOOD.replace("\n", "\r\n"), id="CRLF"),
        pytest.param(GOOD.replace("\n", "\r"), id="CR"),
        pytest.param("\ufeff" + GOOD, id="BOM"),
        pytest.param(GOOD.rstrip("\n"), id="no last line end"),
        pytest.param("\n" + GOOD.replace("\nask,100", "\n\n ,,\nask,100"), id="blank rows"),
        pytest.param(
            'wh, Price ,name,SIDE\n10,300,Müller,Bid\n7,100,"a,b",ASK\n 1 ,0250,,ask\n',
            id="other order, case, spaces, quotes and columns",
        ),
    ],
)
def test_clears_a_book(tmp_path: Path, content: str) -> None:
    content = content.replace("bid,300,10", "bid,300,8").replace("10,300", "8,300")
    code, out, err = run(tmp_path, content, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {**CLEARED, "price": 275}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("side,price,wh\n", id="empty"),
        pytest.param("side,price,wh\nbid,1,5\nask,2,5\n", id="does not cross"),
        pytest.param("side,price,wh\nbid,9,5\nbid,8,5\n", id="bids only"),
        pytest.param("side,price,wh\nask,1,5\n", id="asks only"),
        pytest.param("side,price,wh\nbid,9,0\nask,1,5\n", id="no energy on one side"),
    ],
)
def test_a_book_without_trade_is_no_error(tmp_path: Path, content: str) -> None:
    code, out, _ = run(tmp_path, content, "--json")
    cleared = json.loads(out)
    assert code == 0
    assert (cleared["price"], cleared["volume_wh"], cleared["welfare"]) == (None, 0, 0)
    assert cleared["fills"] == [0] * (content.count("\n") - 1)
    code, out, _ = run(tmp_path, content)
    assert code == 0
    assert "No trade" in out


def test_json_has_exactly_the_four_keys_in_their_order(tmp_path: Path) -> None:
    for content in (GOOD, "side,price,wh\n"):
        _, out, _ = run(tmp_path, content, "--json")
        assert list(json.loads(out)) == ["price", "volume_wh", "welfare", "fills"]


def test_clears_the_largest_numbers_exactly(tmp_path: Path) -> None:
    half = MAX_TOTAL_WH // 2
    content = f"side,price,wh\nbid,{MAX_LIMIT},{half}\nask,0,{half}\n"
    _, out, _ = run(tmp_path, content, "--json")
    cleared = json.loads(out)
    assert cleared == {
        "price": MAX_LIMIT // 2,
        "volume_wh": half,
        "welfare": MAX_LIMIT * half,
        "fills": [half, half],
    }


def test_a_million_rows_clear_in_seconds(tmp_path: Path) -> None:
    rng = np.random.default_rng(1_000_000)
    side = rng.integers(0, 2, 1_000_000)
    limit, wh = rng.integers(60, 420, side.size), rng.integers(0, 2_000, side.size)
    rows = zip(side.tolist(), limit.tolist(), wh.tolist(), strict=True)
    text = "side,price,wh\n" + "".join(f"{('bid', 'ask')[s]},{p},{w}\n" for s, p, w in rows)
    began = time.process_time()
    code, out, _ = run(tmp_path, text, "--json")
    assert time.process_time() - began < 30
    cleared, expected = json.loads(out), solve(side, limit, wh)
    assert (code, cleared["price"], cleared["welfare"]) == (0, expected.price, expected.welfare)
    assert cleared["fills"] == expected.fills.tolist()


def test_says_in_words_that_nothing_trades(tmp_path: Path) -> None:
    _, out, _ = run(tmp_path, "side,price,wh\nask,1,5\n")
    assert out == "No trade: in this book of 1 order no bid meets an ask.\n"


def test_prints_a_table_for_people(tmp_path: Path) -> None:
    code, out, _ = run(tmp_path, GOOD + "bid,1,1\n" * 60)
    assert code == 0
    assert "Price    300 µ€/Wh (0.300 €/kWh)" in out
    assert "Volume   8 Wh" in out
    assert "23 more orders" in out
    assert out.splitlines()[5].split() == ["1", "bid", "300", "10", "8"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty file; expected a header row side,price,wh"),
        ("\r\n \r\n", "empty file; expected a header row side,price,wh"),
        ("side,price\nbid,1\n", "row 1: missing column wh; expected a header row side,price,wh"),
        ("bid,1,2\n", "row 1: missing columns side, price, wh; expected a header row"),
        ("side;price;wh\n", "row 1: missing columns side, price, wh; expected a header row"),
        ("side,price,wh,wh\n", "row 1: column wh appears more than once"),
        ("side,price,wh\nbid,1,2\nsell,1,2\n", "row 3: unknown side 'sell'; expected bid or ask"),
        ("side,price,wh\nbid,1\n", "row 2: 2 values, the header has 3 columns"),
        ("side,price,wh\nbid,,1\n", "row 2: price is empty; expected a whole number"),
        ("side,price,wh\nbid,x\ty,1\n", "row 2: price 'x\\ty' is not a number; expected"),
        ("side,price,wh\nbid,1,nan\n", "row 2: wh 'nan' is not a number; expected a whole number"),
        ("side,price,wh\nbid,1_0,1\n", "row 2: price '1_0' is not a number; expected"),
        ("side,price,wh\nbid,\u0663,1\n", "row 2: price '\u0663' is not a number; expected"),
        ("side,price,wh\n\nbid,-1,1\n", "row 3: price -1 is negative; expected"),
        ("side,price,wh\r\nbid,1,1\r\nbid,1,-7\r\n", "row 3: wh -7 is negative; expected"),
        ("side,price,wh\nbid,1,1\nside,price,wh\n", "row 3: unknown side 'side'; expected bid or"),
        ("side\tprice\twh\nbid\t1\t1\n", "row 1: missing columns side, price, wh; expected"),
        ("side,price,wh\nbid,1,10.0\n", "row 2: wh '10.0' is not a whole number; expected"),
        ('side,price,wh\nbid,"1,000",1\n', "row 2: price '1,000' is not a number; expected"),
        ("side,price,wh\nbid,0x10,1\n", "row 2: price '0x10' is not a number; expected"),
        ("side,price,wh\nbid,1,inf\n", "row 2: wh 'inf' is not a number; expected"),
        ("side,price,wh\nbid,1,9007199254740992\n", "row 2: wh '9007199254740992' is too large"),
        ("side,price,wh\nbid,1,1.5\n", "row 2: wh '1.5' is not a whole number; expected"),
        ("side,price,wh\nbid,1,1e3\n", "row 2: wh '1e3' is not a whole number; expected"),
        (
            "side,price,wh\nbid,4294967296,1\n",
            "row 2: price '4294967296' is too large; expected a whole number 0..4294967295",
        ),
        pytest.param(
            "side,price,wh\nbid,1," + "9" * 6000, "row 2: wh '9999999999999999", id="6000 digits"
        ),
        (
            "side,price,wh\nbid,1,9007199254740991\nask,1,1\n",
            "row 3: wh: the book holds more than 9007199254740991 Wh up to here",
        ),
        (b"side,price,wh\nbid,1,1\nbid,\xff,1\n", "row 3: not UTF-8 text"),
        ("side,price,wh\n".encode("utf-16"), "row 1: not UTF-8 text"),
        ('side,price,wh\nbid,"1,1\n', "not valid CSV"),
        ("side,price,wh\nbid,\0,1\n", "row 2: "),
        pytest.param(
            "side,price,wh\nbid," + "1" * 200_000 + ",1\n",
            "row 2: ",  # a library in this process may have raised the csv module's own limit
            id="200000 digits",
        ),
    ],
)
def test_a_defective_file_ends_with_one_line_and_exit_code_2(
    tmp_path: Path, content: bytes | str, message: str
) -> None:
    code, out, err = run(tmp_path, content, "--json")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("Error: book.csv: ")
    assert message in err


def test_reads_standard_input_as_a_dash() -> None:
    result = RUNNER.invoke(cli, ["clear", "-", "--json"], input=GOOD)
    assert json.loads(result.stdout)["volume_wh"] == 8
    result = RUNNER.invoke(cli, ["clear", "-"], input="x")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: standard input: row 1: missing columns")


@pytest.mark.parametrize("name", ["nowhere.csv", "."])
def test_an_unreadable_file_is_bad_use(name: str) -> None:
    result = RUNNER.invoke(cli, ["clear", name])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: cannot read {name}: ")


def test_a_session_of_orders_becomes_one_matrix() -> None:
    flat = Order(1, 0, 0, 0, BID, 300, 96, 1, 5, 2)
    shaped = Order(2, 0, 0, 0, ASK, 100, 96, 0, (7, 0, 9, 1), 4)
    book = session_book([flat, shaped], 4)
    assert book.wh.tolist() == [[0, 5, 5, 0], [7, 0, 9, 1]]
    assert (book.side.tolist(), book.limit.tolist()) == ([BID, ASK], [300, 100])
    assert session_book([], 4).wh.shape == (0, 4)
    with pytest.raises(ValueError, match="order 0 leaves the session of 2 slots"):
        session_book([shaped], 2)


def test_a_book_keeps_the_order_of_arrival() -> None:
    book = parse_book(GOOD.encode(), "book")
    assert (book.side.tolist(), book.price.tolist(), book.wh.tolist()) == (
        [BID, ASK, ASK],
        [300, 100, 250],
        [10, 7, 1],
    )
    assert len(book) == 3


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (BadUse("no such\nzone"), 2, "Error: no such zone\n"),
        (CheckFailed("node unreachable"), 1, "Error: node unreachable\n"),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
    ],
)
def test_every_command_ends_with_one_line_and_its_exit_code(
    error: BaseException, code: int, line: str
) -> None:
    @click.command()
    @handles_errors
    def command() -> None:
        raise error

    result = RUNNER.invoke(command)
    assert (result.exit_code, result.stderr) == (code, line)


def test_help_names_every_command_and_imports_none_of_the_heavy() -> None:
    code = (
        "import sys\nfrom scripts.__main__ import main\n"
        "sys.argv = ['gridcommons', '--help']\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'ape', 'numpy', 'pandas', 'prophet', 'streamlit', 'requests'}\n"
        "assert not heavy & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert all(name in done.stdout for name in COMMANDS)


def test_clearing_imports_neither_ape_nor_pandas() -> None:
    code = (
        "import sys\nfrom scripts.market import cli\n"
        "try: cli(['clear', '-'])\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'ape', 'pandas', 'prophet', 'streamlit', 'requests'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        input=GOOD,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_command_is_bad_use() -> None:
    result = RUNNER.invoke(gridcommons, ["clearr"])
    assert result.exit_code == 2
    assert "No such command 'clearr'" in result.stderr


def test_shows_the_version() -> None:
    result = RUNNER.invoke(gridcommons, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.startswith("gridcommons ")
