# SPDX-License-Identifier: Apache-2.0
"""The gateway beside a real node, the real contracts and a real relay: windows, keys, receipts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from dao.errors import CheckFailed
from dao.metering import rotate
from dao.parameters import CHARGE_POINTS, COMMUNITY_BATTERY
from dao.processes import free_port
from dao.relay.api import create_app
from dao.relay.posting import post_due
from dao.relay.service import listen
from meters.gateway.chain import NodeReader, Window
from meters.gateway.intervals import Interval
from meters.gateway.keys import Keys
from meters.gateway.keystore import DeviceKey, new_key, request_rotation
from meters.gateway.outbox import ACKNOWLEDGED, REFUSED, KeyPeriod, Outbox
from meters.gateway.receipts import Receipts
from meters.gateway.settings import Settings, parse
from meters.readings import Quality
from meters.signing import Head, reading_separator
from tests.meters.gateway.house import PASSWORD, WORK
from tests.relay.conftest import (
    DAY_SLOT,
    DEVICES,
    HOUR,
    SLOTS,
    ZONE,
    Lane,
    lane,
    street,
)

__all__ = ["lane", "street"]


def settings_of(lane: Lane, folder: Path, meter: int, relay_port: int = 9) -> Settings:
    on = lane.deployment
    return parse(
        f"""
[gateway]
meter = {meter}
zone = {ZONE}
folder = "{folder}"
[chain]
id = {lane.chain.chain_id}
registry = "{on["MeterRegistry"].address}"
ledger = "{on["ReadingLedger"].address}"
market = "{on["EnergyMarket"].address}"
parameters = "{on["GridParameters"].address}"
rpc = "{lane.node.url}"
[collector]
url = "http://127.0.0.1:9"
address = "{lane.chain.accounts[2].address}"
[market]
relay = "http://127.0.0.1:{relay_port}"
[[source]]
kind = "p1"
address = "tcp://127.0.0.1:9"
""",
        folder / "gateway.toml",
    )


def open_windows(lane: Lane, key: int, *windows: Window) -> None:
    """Do as an executed vote does: the timelock opens windows."""
    timelock = lane.deployment["GridTimelock"].address
    parameters = lane.deployment["GridParameters"]
    words = [
        (window.value % (1 << 128)) << 128 | window.slots << 64 | window.first_slot
        for window in windows
    ]
    data = "0x" + parameters.encode("open_windows", ZONE, key, words).hex()
    lane.chain.rpc("anvil_impersonateAccount", timelock)
    lane.chain.fund(timelock)
    request = {"from": timelock, "to": parameters.address, "data": data, "gas": hex(2_000_000)}
    mined = lane.chain.rpc("eth_sendTransactionSync", request)
    assert mined["status"] == "0x1"


def test_the_windows_in_force_are_read_from_the_chain(lane: Lane, tmp_path: Path) -> None:
    charge, give = Window(DAY_SLOT + 40, 8, 20_000), Window(DAY_SLOT + 20, 4, -15_000)
    open_windows(lane, COMMUNITY_BATTERY, charge, give)
    open_windows(lane, CHARGE_POINTS, Window(DAY_SLOT + 68, 12, 3_700))
    node = NodeReader(settings_of(lane, tmp_path, 1).chain)
    assert node.windows(ZONE, COMMUNITY_BATTERY, DAY_SLOT + 95) == [give, charge]
    assert node.windows(ZONE, CHARGE_POINTS, DAY_SLOT) == [Window(DAY_SLOT + 68, 12, 3_700)]
    assert node.windows(ZONE, COMMUNITY_BATTERY, DAY_SLOT + 96) == []
    assert node.windows(ZONE + 1, COMMUNITY_BATTERY, DAY_SLOT) == []


def test_a_node_that_is_away_or_has_no_such_contract_is_one_clear_line(
    lane: Lane, tmp_path: Path
) -> None:
    settings = settings_of(lane, tmp_path, 1)
    text = (lane.deployment["GridParameters"].address, "0x" + "99" * 20)
    for old, new, said in (
        (*text, "0x9999.* does not answer windows_of"),
        (lane.node.url, "http://127.0.0.1:9", "node unreachable at http://127.0.0.1:9"),
    ):
        chain = settings.chain
        if old == chain.parameters:
            broken = NodeReader(_with(chain, parameters=new))
        else:
            broken = NodeReader(_with(chain, rpc=type(chain.rpc)(new)))  # type: ignore[misc]
        with pytest.raises(CheckFailed, match=said):
            broken.windows(ZONE, COMMUNITY_BATTERY, DAY_SLOT)


def _with(chain: object, **changes: object) -> object:
    from dataclasses import replace

    return replace(chain, **changes)  # type: ignore[type-var]


def test_a_key_hands_over_by_the_request_that_the_gateway_makes(lane: Lane, tmp_path: Path) -> None:
    meter = 3
    settings = settings_of(lane, tmp_path, meter)
    registry = lane.deployment["MeterRegistry"]
    old = DeviceKey.of(DEVICES[meter - 1].key)
    _keystore(settings.first_key, old)
    new = new_key(tmp_path / "new.json", PASSWORD, WORK)
    begin = (lane.chain.now() // 900 + 2) * 900
    request = request_rotation(
        settings.chain.chain_id, settings.chain.registry, meter, old, new, begin
    )
    separator = reading_separator(settings.chain.chain_id, settings.chain.registry)
    node = NodeReader(settings.chain)
    with Outbox(settings.outbox, meter, separator) as outbox:
        keys = Keys(outbox, tmp_path, settings.first_key, PASSWORD, node.device_at)
        outbox.put_key(KeyPeriod(new.address, "new.json", begin, confirmed=False))
        # Anybody may send it, here somebody without a role.
        rotate(
            registry,
            request.rotation,
            request.old_signature,
            request.new_signature,
            lane.chain.accounts[9],
        )
        asyncio.run(keys.look(begin))
        slot = begin // 900
        assert keys.of(slot - 1) == old
        assert keys.of(slot) == new
        assert node.device_at(meter, begin - 1) == old.address
        assert node.device_at(meter, begin) == new.address


def _keystore(file: Path, key: DeviceKey) -> None:
    import json

    from eth_keyfile import create_keyfile_json

    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        json.dumps(create_keyfile_json(key.private, PASSWORD, kdf="scrypt", iterations=WORK))
    )


@contextmanager
def relay_of(lane: Lane) -> Iterator[int]:
    """The lane's relay, serving."""
    stopping = threading.Event()
    port = free_port()
    app = create_app(lane.relay, stopping=stopping.is_set)
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=2)
    )
    listener = listen("127.0.0.1", port)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield port
    finally:
        stopping.set()
        server.should_exit = True
        thread.join(10)


def measured(outbox: Outbox, key: DeviceKey, slots: int) -> None:
    """The session's readings, signed: slot i exported 10 i Wh."""
    outbox.begin_at(Head.NONE)
    rows = [Interval(DAY_SLOT + i, 0, 10 * i, Quality.MEASURED) for i in range(slots)]
    outbox.record(rows, {}, lambda _: key)


def post_asks(lane: Lane, *accounts: int) -> None:
    relay = lane.relay
    for account in accounts:
        ask = lane.signed(lane.ask(account, wh=500))
        from dao.relay.intake import submit

        [answer] = submit(relay, [lane.document(ask.order)], lambda *_: None)
        assert answer is not None
    lane.at(-2 * HOUR)
    now = relay.chain.now()
    post_due(relay.store, relay.market, relay.account, ZONE, now, relay.pace, flush=True)


def test_a_seller_hands_in_one_receipt_once_the_session_is_over(lane: Lane, tmp_path: Path) -> None:
    post_asks(lane, 1)
    key = DeviceKey.of(DEVICES[0].key)
    with relay_of(lane) as port:
        settings = settings_of(lane, tmp_path, 1, port)
        separator = reading_separator(settings.chain.chain_id, settings.chain.registry)
        with Outbox(settings.outbox, 1, separator) as outbox:
            measured(outbox, key, SLOTS)
            receipts = Receipts(settings, outbox, lambda: lane.chain.now(), lambda _: key)
            lane.at(5 * HOUR)
            asyncio.run(receipts.turn())
            assert not outbox.has_receipt(DAY_SLOT)
            lane.at(6 * HOUR + 60)
            for _ in range(2):
                asyncio.run(receipts.turn())
            assert len(outbox.receipts(ACKNOWLEDGED)) == 1
            assert receipts.faults.total() == 0
        [stored] = lane.relay.store.receipts(DAY_SLOT).values()
        assert tuple(stored.exports) == tuple(10 * i for i in range(SLOTS))


def test_a_home_that_sold_nothing_shows_nothing_and_asks_seldom(lane: Lane, tmp_path: Path) -> None:
    post_asks(lane, 1)
    key = DeviceKey.of(DEVICES[1].key)
    with relay_of(lane) as port:
        settings = settings_of(lane, tmp_path, 2, port)
        separator = reading_separator(settings.chain.chain_id, settings.chain.registry)
        outbox = Outbox(settings.outbox, 2, separator)
        measured(outbox, key, SLOTS)
        lane.at(6 * HOUR + 60)
        receipts = Receipts(settings, outbox, lambda: lane.chain.now(), lambda _: key)
        asyncio.run(receipts.turn())
    with outbox:
        assert [outbox.receipts(state) for state in (0, ACKNOWLEDGED, REFUSED)] == [[], [], []]
        # The relay is gone, which only who asks it can see.
        asyncio.run(receipts.turn())
        lane.at(7 * HOUR + 120)
        with pytest.raises(CheckFailed, match="does not answer"):
            asyncio.run(receipts.turn())


def test_a_slot_that_is_not_known_is_waited_for_and_then_counts_as_nothing(
    lane: Lane, tmp_path: Path
) -> None:
    post_asks(lane, 1)
    key = DeviceKey.of(DEVICES[0].key)
    with relay_of(lane) as port:
        settings = settings_of(lane, tmp_path, 1, port)
        separator = reading_separator(settings.chain.chain_id, settings.chain.registry)
        with Outbox(settings.outbox, 1, separator) as outbox:
            measured(outbox, key, SLOTS - 1)
            receipts = Receipts(settings, outbox, lambda: lane.chain.now(), lambda _: key)
            lane.at(6 * HOUR + 60)
            asyncio.run(receipts.turn())
            assert not outbox.has_receipt(DAY_SLOT)
            lane.at(8 * HOUR + 60)
            asyncio.run(receipts.turn())
            [taken] = outbox.receipts(ACKNOWLEDGED)
            assert taken["exports"][-2:] == [10 * (SLOTS - 2), 0]
            # What comes in later changes nothing: a second receipt would suspend the key.
            late = Interval(DAY_SLOT + SLOTS - 1, 0, 99, Quality.MEASURED)
            outbox.record([late], {}, lambda _: key)
            asyncio.run(receipts.turn())
            assert len(outbox.receipts(ACKNOWLEDGED)) == 1
            assert receipts.faults["unknown_slots"] == 1
