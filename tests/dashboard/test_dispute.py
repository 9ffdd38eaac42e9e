# SPDX-License-Identifier: Apache-2.0
"""Evidence about an order: what became of a promise, what can still be done, and a file that
notices when anything in it was changed."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict, replace
from typing import Any

import pytest

from dao.chain import LocalAccount
from dao.eip712 import keccak
from dao.errors import BadUse
from dao.market.orders import BID, Order
from dao.market.session import DeviceReceipt
from dao.relay.promise import Promise, Verdict, sign
from dao.tariffs import Tariffs
from dashboard.repositories.evidence import Evidence
from dashboard.repositories.relay import Promised
from dashboard.repositories.trades import Posted, Session, SessionFacts
from dashboard.services.dispute import (
    MANIFEST,
    README,
    check,
    package,
    promised_by,
    remedies,
    unpack,
    verdict,
)
from dashboard.services.orders import digest_of, view

CHAIN, MARKET = 31_337, "0x" + "1A" * 20
FIRST, SLOTS = 1_628_352, 4
GATE = FIRST * 900 - 3_600
END = (FIRST + SLOTS) * 900
DAY = 86_400
RELAY = LocalAccount.from_key(keccak(b"a relay"))
TX = "0x" + "ab" * 32
ORDER = Order(7, 0, 3, GATE, BID, 300, FIRST, 0, (100,) * SLOTS, SLOTS)


def promised(**changes: Any) -> Promised:
    number = bytes.fromhex(digest_of(ORDER, CHAIN, MARKET)[2:])
    plain = Promise(number, 7, FIRST, GATE, MARKET)
    told = Promised(
        "0x" + number.hex(),
        7,
        FIRST,
        GATE,
        MARKET,
        RELAY.address,
        "0x" + sign(CHAIN, plain, RELAY).hex(),
    )
    return replace(told, **changes)


def evidence(posted_at: int = GATE - 60, **changes: Any) -> Evidence:
    posted = Posted(ORDER, 0, 120_000, 5, TX, posted_at)
    facts = SessionFacts(Session(FIRST, SLOTS, GATE, 100), (posted,), (), (), (), ())
    plain = Evidence(
        chain_id=CHAIN,
        zone=1,
        contracts={"EnergyMarket": MARKET},
        account=7,
        now=END + 60,
        view=view(posted, facts, None, Tariffs(), END + 60),
        facts=facts,
        digest=digest_of(ORDER, CHAIN, MARKET),
        promise=promised(),
        revoked_at=None,
        paused=False,
        disclosure=None,
        receipts=(),
        corrections=(),
        finality=3 * DAY,
        window=(END, END + 2 * DAY),
        absent={"disclosure": "the month was erased"},
    )
    return replace(plain, **changes)


def test_a_promise_is_kept_broken_released_or_not_yet_due() -> None:
    assert verdict(evidence()) is Verdict.KEPT
    late = GATE + 60
    assert verdict(evidence(late)) is Verdict.BROKEN
    assert verdict(evidence(late, revoked_at=GATE - 9)) is Verdict.RELEASED
    assert verdict(evidence(late, revoked_at=GATE + 9)) is Verdict.BROKEN
    assert verdict(evidence(late, paused=True)) is Verdict.RELEASED
    assert verdict(evidence(late, now=GATE - 1)) is Verdict.NOT_YET_DUE
    assert verdict(evidence(promise=None)) is None
    other = promised(order="0x" + "00" * 32)
    assert verdict(evidence(promise=other)) is None, "a promise about something else"


@pytest.mark.parametrize(
    "change",
    [
        {"post_before": GATE + 1},
        {"session": FIRST + 1},
        {"order": "0x" + "00" * 32},
        {"relay": "0x" + "22" * 20},
        {"signature": "0x1234"},
        {"signature": "<script>"},
        {"order": "no hex"},
    ],
)
def test_a_promise_counts_only_as_it_was_signed(change: dict[str, Any]) -> None:
    assert promised_by(CHAIN, promised()) == RELAY.address
    assert promised_by(CHAIN, promised(**change)) is None


def test_what_can_still_be_done_ends_when_it_ends() -> None:
    def possible(one: Evidence) -> list[bool]:
        return [remedy.possible for remedy in remedies(one)]

    # Not settled: hand in a receipt; correct the batch; adjust only once it is settled.
    assert possible(evidence()) == [True, True, False, False, True]
    assert possible(evidence(now=END + 2 * DAY)) == [True, False, False, False, True]
    settled = evidence()
    settled = replace(settled, view=replace(settled.view, net=-5))
    assert possible(settled) == [True, True, False, True]
    assert possible(replace(settled, now=END + 3 * DAY + 1)) == [False, False, False, True]
    two = tuple(DeviceReceipt(7, (wh,) * SLOTS, bytes(65)) for wh in (1, 2))
    assert possible(replace(settled, receipts=two))[2]


def test_the_file_says_what_is_in_it_and_what_is_not() -> None:
    made = package(evidence())
    assert made == package(evidence())
    found = unpack(made)
    assert set(found) == {README, MANIFEST, "order.json", "events.json", "promise.json"}
    text = found[README].decode()
    assert "did" in text
    assert "not in the file: the month was erased" in text
    assert "gridcommons meter evidence" in text
    assert json.loads(found["promise.json"])["promise"] == asdict(promised())
    states = {one.name: one.state for one in check(made, None, None)}
    assert states == {"pieces": "passed", "promise": "passed", "transactions": "not checked"}


def test_no_piece_can_be_changed_added_or_left_out() -> None:
    found = unpack(package(evidence()))

    def again(pieces: dict[str, bytes]) -> str:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as file:
            for name, data in pieces.items():
                file.writestr(name, data)
        first = check(out.getvalue(), None, None)[0]
        return f"{first.state}: {first.detail}"

    assert again(found).startswith("passed")
    changed = found["events.json"].replace(b"100", b"101", 1)
    assert "events.json is not what" in again({**found, "events.json": changed})
    assert "more.json is not what" in again({**found, "more.json": b"{}"})
    less = {name: data for name, data in found.items() if name != "promise.json"}
    assert "promise.json is missing" in again(less)


@pytest.mark.parametrize("data", [b"", b"PK\x05\x06" + bytes(18), b"no zip at all" * 9])
def test_what_is_no_evidence_is_refused_in_a_line(data: bytes) -> None:
    with pytest.raises(BadUse):
        check(data, None, None)


def test_a_file_that_unpacks_to_something_huge_is_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(MANIFEST, bytes(65 << 20))
    with pytest.raises(BadUse, match="too large"):
        check(out.getvalue(), None, None)


def test_damaged_bytes_never_end_in_a_traceback() -> None:
    made = bytearray(package(evidence()))
    for at in range(0, len(made), 41):
        damaged = bytes(made[:at]) + bytes([made[at] ^ 0xFF]) + bytes(made[at + 1 :])
        try:
            checks = check(damaged, None, None)
        except BadUse:
            continue
        assert checks
