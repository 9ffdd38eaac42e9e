# SPDX-License-Identifier: Apache-2.0
"""Two days of the whole loop through the real command, and its figures recomputed from raw logs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import duckdb
import pytest

from dao.parameters import MARKET_RULES
from tests.dao.reference_market import canonical_price, effective_book, fills_at
from tests.e2e import raw_logs
from tests.e2e.conftest import (
    ROOT,
    TWO_DAYS,
    Run,
    bring_cache,
    environment,
    gridcommons,
)

FEED_IN, RETAIL, FEE = 79, 397, 110
PENALTY, BAND = 100, (0, 1_000)
NO_PRICE = 65_535
KEYS = {
    "zone",
    "seed",
    "start",
    "days",
    "homes",
    "prosumers",
    "readings",
    "batches",
    "orders",
    "auctions",
    "auctions_cleared",
    "auctions_settled",
    "traded_wh",
    "seller_gain_micro_eur",
    "buyer_saving_micro_eur",
    "grid_fees_micro_eur",
    "proposals",
    "executed",
    "forecasts_scored",
    "skill",
    "slots_over_limit",
    "conservation_ok",
    "gas_used",
    "wall_s",
}
# A run takes well under a minute on two idle cores, but machines are shared.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1_200)]


@pytest.fixture(scope="session")
def without_proposals(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return gridcommons(*TWO_DAYS, "--no-proposals", home=tmp_path_factory.mktemp("silent"))


@pytest.fixture(scope="session")
def rejected(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return gridcommons(*TWO_DAYS, "--voters", "reject", home=tmp_path_factory.mktemp("rejected"))


def test_two_days_end_well(demo_run: Run) -> None:
    summary = demo_run.summary
    assert set(summary) >= KEYS
    assert summary["homes"] >= 100
    assert summary["prosumers"] >= 27
    assert summary["conservation_ok"] is True
    assert summary["auctions"] > 0
    assert summary["auctions"] == summary["auctions_cleared"] == summary["auctions_settled"]
    assert summary["forecasts_scored"] == 2
    assert summary["executed"] >= 1
    assert summary["orders_rejected"] == 0


def test_executed_schedules_keep_slots_inside_the_limit(
    demo_run: Run, without_proposals: Run, rejected: Run
) -> None:
    silent, outvoted = without_proposals.summary, rejected.summary
    assert silent["proposals"] == 0
    assert outvoted["proposals"] == demo_run.summary["proposals"] >= 1
    assert outvoted["executed"] == silent["executed"] == 0
    assert silent["slots_over_limit"] == outvoted["slots_over_limit"]
    assert demo_run.summary["slots_over_limit"] < silent["slots_over_limit"]


# What may differ between two runs of one seed: how long they took.
TIMES = {"wall_s", "timings", "gas_used"}
ONE_DAY = ("demo", "--days", "1", "--headless", "--json", "--history-days", "14")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process_and_the_next_run_works(
    tmp_path: Path, demo_run: Run, sign: signal.Signals
) -> None:
    interrupt_a_demo(tmp_path, sign)
    if sign is signal.SIGTERM:
        again = gridcommons(*TWO_DAYS, home=tmp_path).summary
        assert {k: v for k, v in again.items() if k not in TIMES} == {
            k: v for k, v in demo_run.summary.items() if k not in TIMES
        }, "the same seed gives the same figures, whatever went before"
    else:
        other = gridcommons(*ONE_DAY, "--seed", "2", home=tmp_path).summary
        assert other["traded_wh"] != demo_run.summary["traded_wh"]
        assert other["conservation_ok"] is True


def test_another_start_gives_other_figures(demo_run: Run, tmp_path: Path) -> None:
    other = gridcommons(*ONE_DAY, "--start", "2016-05-23", home=tmp_path).summary
    assert other["traded_wh"] != demo_run.summary["traded_wh"]
    assert other["conservation_ok"] is True


def interrupt_a_demo(home: Path, sign: signal.Signals) -> None:
    """In the middle of the history, with node and page running."""
    bring_cache(home)
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts", "demo", "--days", "3", "--history-days", "14"],
        cwd=ROOT,
        env={**environment(home), "DISPLAY": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    state = home / "run.json"
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        if state.exists() and "History" in json.loads(state.read_text())["work"]["what"]:
            break
        time.sleep(0.1)
    below = children(process.pid)
    assert len(below) >= 2, "a node and a page should run"
    process.send_signal(sign)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130, out
    assert "Traceback" not in out
    # The kernel takes a moment to reap.
    time.sleep(0.5)
    assert [pid for pid in below if Path(f"/proc/{pid}").exists() and _lives(pid)] == []


def children(pid: int) -> list[int]:
    """Every process below `pid`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            if int(stat.rsplit(")", 1)[1].split()[1]) == pid:
                found += [int(entry.name), *children(int(entry.name))]
    return found


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


def lake_imports(home: Path) -> dict[tuple[int, int], tuple[int, int]]:
    """(meter, slot) to (import, export) Wh, read from the Parquet files themselves."""
    files = str(home / "lake" / "**" / "*.parquet")
    rows = duckdb.sql(
        f"SELECT meter, slot, import_wh, export_wh FROM read_parquet('{files}')"
    ).fetchall()
    return {(m, s): (i, e) for m, s, i, e in rows}


def test_money_and_energy_agree_with_the_raw_logs(demo_run: Run) -> None:
    """The whole market once more, from the node's logs and the lake alone, in plain loops."""
    assert {r.name: r.initial for r in MARKET_RULES}["penalty"] == PENALTY
    logs = list(raw_logs.read(demo_run.home / "logs.jsonl"))
    meters = lake_imports(demo_run.home)
    pages: dict[int, list[int]] = defaultdict(list)
    prices: dict[int, int] = {}
    settled_fees: dict[int, int] = {}
    credits: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    balances: dict[int, int] = defaultdict(int)
    market = ""
    for log in logs:
        if log.topics[0] == raw_logs.REJECTED:
            pytest.fail("an order was rejected: the book below would be wrong")
        if log.topics[0] == raw_logs.DEPOSITED:
            market = log.address
            balances[log.indexed[0]] += log.words[0]
        if log.topics[0] == raw_logs.POSTED:
            pages[log.indexed[0] & (2**64 - 1)] += log.whole_words(0)
        if log.topics[0] == raw_logs.CLEARED:
            prices[log.indexed[1]] = log.words[0]
        if log.topics[0] == raw_logs.SETTLED:
            settled_fees[log.indexed[1]] = log.words[2]
        if log.topics[0] == raw_logs.ORDERS_SETTLED:
            for account, credit in raw_logs.cut_credits(log.string(2)):
                credits[log.indexed[1]][account] += credit

    gain = saving = fees = traded = penalties = auctions = 0
    for first, words in pages.items():
        book = raw_logs.cut_orders(words)
        expected: dict[int, int] = defaultdict(int)
        bought: dict[tuple[int, int], int] = defaultdict(int)
        for order in book:
            held = (PENALTY if order.is_ask else order.limit) * sum(order.wh.values())
            expected[order.account] += held
            balances[order.account] -= held
        for offset in range(24):
            slot = first + offset
            rows = [("ask" if o.is_ask else "bid", o.limit, o.wh.get(offset, 0)) for o in book]
            effective = effective_book(rows, *BAND, FEE)
            price = canonical_price(effective, range(BAND[0], BAND[1] + 1))
            assert prices[slot] == (NO_PRICE if price is None else price)
            if price is None:
                continue
            auctions += 1
            fills = fills_at(effective, price)
            left = {o.account: meters[o.account, slot][1] for o in book if o.is_ask}
            served = owed = 0
            for order, fill in zip(book, fills, strict=True):
                if order.is_ask:
                    got = min(fill, left[order.account])
                    left[order.account] -= got
                    served += got
                    owed += (fill - got) * PENALTY
                    expected[order.account] += got * price - (fill - got) * PENALTY
                    gain += got * (price - FEED_IN)
            running, volume = 0, sum(f for o, f in zip(book, fills, strict=True) if not o.is_ask)
            for order, fill in zip(book, fills, strict=True):
                if not order.is_ask:
                    before, running = running, running + fill
                    got = running * served // volume - before * served // volume
                    received = running * owed // volume - before * owed // volume
                    expected[order.account] += received - got * (price + FEE)
                    saving -= got * (price + FEE)
                    bought[order.account, slot] += got
            assert settled_fees[slot] == served * FEE
            fees += served * FEE
            traded += served
            penalties += owed
        for (account, slot), wh in bought.items():
            saving += min(wh, meters[account, slot][0]) * RETAIL
        assert dict(credits[first]) == dict(expected)
        for account, credit in credits[first].items():
            balances[account] += credit

    summary = demo_run.summary
    assert auctions == summary["auctions"]
    assert traded == summary["traded_wh"]
    assert gain == summary["seller_gain_micro_eur"]
    assert saving == summary["buyer_saving_micro_eur"]
    assert fees == summary["grid_fees_micro_eur"]
    assert penalties == summary["penalties_micro_eur"]
    held = sum(
        (log.words[0] if log.indexed[1] == int(market, 16) else 0)
        - (log.words[0] if log.indexed[0] == int(market, 16) else 0)
        for log in logs
        if log.topics[0] == raw_logs.TRANSFER and len(log.topics) == 3
    )
    assert held == sum(balances.values()) + fees


def test_published_totals_are_the_sums_of_the_lake(demo_run: Run) -> None:
    net: dict[int, int] = defaultdict(int)
    export: dict[int, int] = defaultdict(int)
    for (_, slot), (imported, exported) in lake_imports(demo_run.home).items():
        net[slot] += imported - exported
        export[slot] += exported
    seen = 0
    for log in raw_logs.read(demo_run.home / "logs.jsonl"):
        if log.topics[0] != raw_logs.BATCH:
            continue
        first, slots = log.indexed[1], log.words[0]
        words = log.array(4)
        for i in range(slots):
            lane = words[i // 4] >> 64 * (i % 4) & (2**64 - 1)
            low = lane & 0xFFFFFFFF
            assert (low - (1 << 32) if low >> 31 else low) == net[first + i]
            assert lane >> 32 == export[first + i]
            seen += 1
    assert seen == 23 * 96
