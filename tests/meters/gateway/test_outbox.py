# SPDX-License-Identifier: Apache-2.0
"""The outbox signs once, forgets nothing that was not acknowledged, and says what it cannot do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from dao import eip712
from dao.errors import BadUse, CheckFailed
from dao.market.orders import market_separator, receipt_digest
from meters.gateway.intervals import Interval
from meters.gateway.keystore import DeviceKey
from meters.gateway.outbox import KEPT_RECENT, KeyPeriod, Outbox, OutboxFull
from meters.readings import Quality, Readings
from meters.signing import Head, digests, links, recover_all
from tests.meters.gateway.house import CHAIN, FIRST_SLOT, MARKET, METER, SEPARATOR

KEY = DeviceKey.of(b"\x07" * 32)
MARKET_SEPARATOR = market_separator(CHAIN, MARKET)


def always(_: int) -> DeviceKey | None:
    return KEY


def slots(count: int, first: int = FIRST_SLOT) -> list[Interval]:
    return [Interval(first + i, 100 + i, i, Quality.MEASURED) for i in range(count)]


def made(folder: Path, **more: object) -> Outbox:
    return Outbox(folder / "outbox.sqlite", METER, SEPARATOR, **more)  # type: ignore[arg-type]


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with made(tmp_path) as opened:
        opened.begin_at(Head.NONE)
        yield opened


def test_readings_form_a_chain_that_goes_on_after_closing(outbox: Outbox, tmp_path: Path) -> None:
    outbox.record(slots(3), {}, always)
    outbox.close()
    with made(tmp_path) as again:
        again.record(slots(2, FIRST_SLOT + 3), {"x": 1}, always)
        rows = again.waiting(0)
        assert again.intervals_state() == {"x": 1}
    chain = links(digests(SEPARATOR, rows), rows.signature)
    assert rows.sequence.tolist() == [0, 1, 2, 3, 4]
    assert [bytes(link) for link in rows.previous] == [bytes(32), *map(bytes, chain[:-1])]
    signers = recover_all(digests(SEPARATOR, rows), rows.signature, 1)
    assert set(signers) == {eip712.address_bytes(KEY.address)}


def test_nothing_is_signed_before_the_head_is_known_and_nothing_is_lost(tmp_path: Path) -> None:
    with made(tmp_path) as outbox:
        assert outbox.record(slots(3), {}, always) == 0
        assert len(outbox.waiting(0)) == 0
        assert outbox.begin_at(Head(41, b"\x05" * 32))
        assert outbox.record([], {}, always) == 3
        rows = outbox.waiting(0)
    assert rows.sequence.tolist() == [42, 43, 44]
    assert bytes(rows.previous[0]) == b"\x05" * 32


def test_a_head_never_goes_back(outbox: Outbox) -> None:
    outbox.record(slots(3), {}, always)
    head = outbox.head
    assert not outbox.begin_at(Head(1, b"\x09" * 32))
    assert outbox.head == head


def test_while_the_key_is_not_known_readings_wait_in_order(outbox: Outbox) -> None:
    outbox.record(slots(2), {}, lambda slot: KEY if slot == FIRST_SLOT else None)
    assert outbox.counts().waiting == outbox.counts().unsigned == 1
    outbox.record([], {}, always)
    assert outbox.waiting(0).slot.tolist() == [FIRST_SLOT, FIRST_SLOT + 1]


def test_what_is_acknowledged_is_not_sent_again_and_what_may_be_taken_later_is(
    outbox: Outbox,
) -> None:
    outbox.record(slots(4), {}, always)
    outbox.settle(outbox.waiting(0), {1: "future_slot", 2: "above_capacity"}, now=1_000.0)
    assert len(outbox.waiting(1_001)) == 0
    assert outbox.waiting(1_000 + 1_801).sequence.tolist() == [1]
    assert outbox.refused() == [
        (2, FIRST_SLOT + 2, "above_capacity"),
        (1, FIRST_SLOT + 1, "future_slot"),
    ]


def test_a_transaction_that_breaks_off_leaves_nothing(outbox: Outbox, tmp_path: Path) -> None:
    outbox.record(slots(1), {"before": True}, always)
    head = outbox.head

    def power_cut(slot: int) -> DeviceKey:
        if slot == FIRST_SLOT + 2:
            raise KeyboardInterrupt
        return KEY

    with pytest.raises(KeyboardInterrupt):
        outbox.record(slots(3, FIRST_SLOT + 1), {"after": True}, power_cut)
    outbox.close()
    with made(tmp_path) as again:
        assert again.head == head
        assert again.intervals_state() == {"before": True}
        assert again.counts().unsigned == 0


def test_a_full_outbox_drops_the_oldest_acknowledged_and_never_what_waits(tmp_path: Path) -> None:
    with made(tmp_path, limit_bytes=1 << 20) as outbox:
        outbox.begin_at(Head.NONE)

        def flood() -> None:
            for at in range(0, 100_000, 500):
                outbox.record(slots(500, FIRST_SLOT + at), {}, always)

        with pytest.raises(OutboxFull, match="is full"):
            flood()
        counts = outbox.counts()
        head = outbox.head
        assert counts.waiting > 1_500
        assert head is not None
        assert head.sequence == counts.waiting - 1
        outbox.settle(outbox.waiting(0), {}, 0)
        for at in range(0, 6_000, 500):
            outbox.record(slots(500, FIRST_SLOT + 200_000 + at), {}, always)
            outbox.settle(outbox.waiting(0), {}, 0)
        counts = outbox.counts()
        assert counts.acknowledged >= KEPT_RECENT
        assert counts.used_bytes <= 1 << 20


def test_the_disk_that_is_full_is_said_and_the_reading_can_come_again(outbox: Outbox) -> None:
    pages = outbox._db.execute("PRAGMA page_count").fetchone()[0]
    outbox._db.execute(f"PRAGMA max_page_count = {pages + 4}")
    with pytest.raises(OutboxFull, match="disk"):
        outbox.record(slots(2_000), {}, always)
    outbox._db.execute("PRAGMA max_page_count = 1000000")
    assert outbox.head == Head.NONE
    assert outbox.record(slots(5), {}, always) == 5


def test_one_outbox_serves_one_gateway(outbox: Outbox, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="another gateway"):
        made(tmp_path)
    with made(tmp_path, readonly=True) as looked:
        assert looked.head == Head.NONE


def test_an_outbox_of_another_meter_or_chain_is_refused(outbox: Outbox, tmp_path: Path) -> None:
    outbox.close()
    path = tmp_path / "outbox.sqlite"
    with pytest.raises(BadUse, match="of meter 17, not 18"):
        Outbox(path, 18, SEPARATOR)
    with pytest.raises(BadUse, match="another chain"):
        Outbox(path, METER, bytes(32))


@pytest.mark.parametrize("damage", ["noise", "cut", "middle", "foreign"])
def test_a_damaged_or_foreign_outbox_is_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    with made(tmp_path) as outbox:
        outbox.begin_at(Head.NONE)
        outbox.record(slots(500), {}, always)
        outbox._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(path.read_bytes())
    if damage == "noise":
        path.write_bytes(b"\xff" * 8_192)
    elif damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "middle":
        data[8_192:40_960] = b"\x5a" * 32_768
        path.write_bytes(data)
    else:
        path.unlink()
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE letters (x)")
        db.close()
    with pytest.raises((CheckFailed, BadUse), match=r"damaged|not a gateway's outbox") as refused:
        made(tmp_path)
    assert "\n" not in str(refused.value)
    # The lock was given back: the right file opens.
    path.unlink()
    made(tmp_path).close()


def test_the_exports_of_a_session_are_the_newest_that_were_signed(outbox: Outbox) -> None:
    outbox.record(slots(3), {}, always)
    outbox.record([Interval(FIRST_SLOT + 1, None, 77, Quality.ESTIMATED)], {}, always)
    outbox.record([Interval(FIRST_SLOT + 2, 5, None, Quality.MEASURED)], {}, always)
    outbox.settle(outbox.waiting(0), {0: "above_capacity"}, 0)
    assert outbox.exports(FIRST_SLOT, 4) == [None, 77, None, None]


def test_no_slot_ever_gets_two_receipts_that_differ(outbox: Outbox, tmp_path: Path) -> None:
    first = outbox.make_receipt(MARKET_SEPARATOR, FIRST_SLOT, [1, 2, 3, 4], KEY)
    digest = receipt_digest(MARKET_SEPARATOR, METER, FIRST_SLOT, [1, 2, 3, 4])
    assert eip712.recover(digest, first) == eip712.address_bytes(KEY.address)
    outbox.close()
    with made(tmp_path) as again:
        assert again.make_receipt(MARKET_SEPARATOR, FIRST_SLOT, [1, 2, 3, 4], KEY) == first
        for begin, exports in ((FIRST_SLOT, [1, 2, 3, 5]), (FIRST_SLOT + 3, [4, 0])):
            with pytest.raises(CheckFailed, match="has its delivery receipt"):
                again.make_receipt(MARKET_SEPARATOR, begin, exports, KEY)
        assert not again.has_receipt(FIRST_SLOT + 4)
        assert len(again.receipts()) == 1


def test_keys_are_kept_in_the_order_of_their_time(outbox: Outbox) -> None:
    for name, begin in (("b", 500), ("a", 0)):
        outbox.put_key(KeyPeriod(name, f"{name}.json", begin, confirmed=begin == 0))
    assert [one.address for one in outbox.key_periods()] == ["a", "b"]
    outbox.drop_key("b")
    assert len(outbox.key_periods()) == 1


def test_an_outbox_that_never_was_is_not_made_by_looking(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="never ran"):
        made(tmp_path, readonly=True)
    assert list(tmp_path.iterdir()) == []


def test_an_outbox_is_for_its_owner_only(outbox: Outbox) -> None:
    assert outbox.path.stat().st_mode & 0o077 == 0


def test_readings_come_back_as_they_were_signed(outbox: Outbox) -> None:
    outbox.record([Interval(FIRST_SLOT, None, 0, Quality.SUBSTITUTED)], {}, always)
    [row] = list(outbox.waiting(0))
    assert (row.import_wh, row.export_wh, row.quality) == (None, 0, Quality.SUBSTITUTED)
    assert len(Readings.of([row])) == 1
