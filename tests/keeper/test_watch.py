# SPDX-License-Identifier: Apache-2.0
"""Finding what is open from the chain alone: reorganisations, bookmarks, nodes that refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.street import DAY_SLOT, ZONE, Street
from dao.chain import Chain
from dao.keeper import watch
from dao.keeper.context import Context
from dao.keeper.watch import REORG_DEPTH, Bookmark
from dao.market import session
from dao.market.orders import BID
from dao.parameters import HOUR
from tests.keeper.conftest import (
    LATER_SLOT,
    Gateway,
    Receipts,
    keeper,
    market,
    moved,
    post_book,
    turn,
)


def open_slots(context: Context) -> list[int]:
    return [one.first_slot for one in context.sessions.open()]


def key(on: Street) -> str:
    return f"{market(on).address}:SessionOpened"


def void_at_once(on: Street, first_slot: int = DAY_SLOT) -> None:
    """Carry a session to its end."""
    post_book(on, first_slot)
    on.chain.set_time(first_slot * 900 + 1)
    turn(keeper(on, Receipts()))


def test_a_session_is_open_from_its_first_order_until_it_is_settled(on: Street) -> None:
    context = keeper(on)
    assert open_slots(context) == []
    post_book(on)
    assert open_slots(context) == [DAY_SLOT]
    on.at(1)
    turn(context)
    assert open_slots(context) == []


def test_a_session_that_the_chain_took_back_is_gone_and_what_came_instead_is_there(
    on: Street,
) -> None:
    context = keeper(on)
    snapshot = on.chain.rpc("evm_snapshot")
    post_book(on)
    assert open_slots(context) == [DAY_SLOT]
    assert on.chain.rpc("evm_revert", snapshot)
    assert open_slots(context) == []
    on.nonces.clear()
    bid = on.order(3, BID, 210, 400, LATER_SLOT)
    session.post(market(on), ZONE, LATER_SLOT, [bid], on.chain.accounts[7])
    assert open_slots(context) == [LATER_SLOT]


def test_a_session_that_was_settled_on_a_branch_that_the_chain_left_is_open_again(
    on: Street,
) -> None:
    context = keeper(on)
    post_book(on)
    on.at(1)
    snapshot = on.chain.rpc("evm_snapshot")
    turn(context)
    assert open_slots(context) == []
    assert on.chain.rpc("evm_revert", snapshot)
    assert open_slots(context) == [DAY_SLOT]


def test_the_bookmark_follows_what_is_closed_for_good_and_no_further(on: Street) -> None:
    context = keeper(on)
    void_at_once(on)
    settled = on.chain.block_number()
    open_slots(context)
    on.chain.mine(REORG_DEPTH - 1)
    open_slots(context)
    assert context.bookmarks[key(on)].block == on.deployment.first_block
    on.chain.mine(1 + REORG_DEPTH)  # seen closed twice, and deep enough
    open_slots(context)
    on.chain.mine(REORG_DEPTH)
    open_slots(context)
    passed = context.bookmarks[key(on)].block
    assert settled < passed <= on.chain.block_number() - REORG_DEPTH
    post_book(on, LATER_SLOT)
    assert open_slots(context) == [LATER_SLOT]
    for _ in range(4):
        on.chain.mine(REORG_DEPTH)
        assert open_slots(context) == [LATER_SLOT]


def test_what_was_closed_only_just_now_is_not_passed_however_long_ago_it_was_opened(
    on: Street,
) -> None:
    context = keeper(on)
    post_book(on)
    on.chain.mine(2 * REORG_DEPTH)
    assert open_slots(context) == [DAY_SLOT]
    on.at(1)
    snapshot = on.chain.rpc("evm_snapshot")
    turn(keeper(on))
    for _ in range(3):
        on.chain.mine(REORG_DEPTH // 4)
        assert open_slots(context) == []
    assert on.chain.rpc("evm_revert", snapshot)
    assert open_slots(context) == [DAY_SLOT]


def test_a_bookmark_of_another_chain_is_not_believed(on: Street) -> None:
    post_book(on)
    here = on.chain.block_number()
    foreign = Bookmark(here, "0x" + "11" * 32, here, here)
    assert open_slots(keeper(on, bookmarks={key(on): foreign})) == [DAY_SLOT]
    beyond = Bookmark(here + 1_000, "0x" + "11" * 32, here, here)
    assert open_slots(keeper(on, bookmarks={key(on): beyond})) == [DAY_SLOT]


def test_bookmarks_are_found_again_and_a_broken_file_is_none(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "keeper.json"
    assert watch.load(path) == {}
    marks = {"0x00:SessionOpened": Bookmark(5, "0xab", 7, 9)}
    watch.save(marks, path)
    assert watch.load(path) == marks
    for broken in ("", "[]", '{"a": 1}', '{"a": {"block": 1}}'):
        path.write_text(broken)
        assert watch.load(path) == {}
    assert [one.name for one in path.parent.iterdir()] == ["keeper.json"]


def test_logs_are_read_in_parts_where_the_node_gives_only_few_blocks(on: Street) -> None:
    def few(asked: dict[str, Any]) -> str | None:
        if asked["method"] != "eth_getLogs":
            return None
        wanted = asked["params"][0]
        span = int(wanted["toBlock"], 16) - int(wanted["fromBlock"], 16)
        return "query exceeds 10 blocks" if span > 10 else None

    post_book(on)
    on.chain.mine(50)
    post_book(on, LATER_SLOT)
    with Gateway(on.chain.url, refuses=few) as gateway, Chain.local(gateway.url) as behind:
        assert open_slots(Context(moved(on, behind), on.relay)) == [DAY_SLOT, LATER_SLOT]


def test_the_chain_is_read_anew_only_where_it_has_moved(on: Street) -> None:
    context = keeper(on)
    post_book(on)
    first = context.sessions.open()
    assert context.sessions.open() is first
    on.at(-2 * HOUR)
    assert context.sessions.open() is not first
