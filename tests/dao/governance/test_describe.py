# SPDX-License-Identifier: Apache-2.0
"""Calls in plain words: rules with their unit, windows as times, and anything else as bytes."""

from __future__ import annotations

import pytest

from benchmarks.street import DAY_SLOT, ZONE, Street
from dao.abi import Interface
from dao.governance import Call, battery_call, rule_call, windows_call
from dao.governance.describe import duration, euro, plain_text, read_call, rule_value
from dao.parameters import CHARGE_POINTS, COMMUNITY_BATTERY, HOME_BATTERIES
from tests.dao.governance.conftest import parameters

STRANGER = "0x" + "77" * 20


def test_a_rule_is_named_with_its_unit_and_its_value_before_and_after(on: Street) -> None:
    reading = read_call(on.deployment, rule_call(parameters(on), "grid_fee", 120))
    assert reading.text == "set grid_fee from 110 µ€/Wh to 120 µ€/Wh"
    assert (reading.contract, reading.function) == ("GridParameters", "set_value")
    assert reading.arguments == {"key": 7, "new_value": 120}


@pytest.mark.parametrize(
    ("rule", "value", "words"),
    [
        ("gate_lead", 5_400, "1 h 30 min"),
        ("quorum", 2_050, "20.5 %"),
        ("battery_max_w", 150_000, "150,000 W"),
        ("min_homes", 15, "15 homes"),
        ("a_rule_to_come", 1_000, "1,000"),
    ],
)
def test_a_value_is_told_in_the_unit_of_its_rule(rule: str, value: int, words: str) -> None:
    assert rule_value(rule, value) == words


def test_a_battery_schedule_is_told_as_times_and_power(on: Street) -> None:
    call = battery_call(
        parameters(on), ZONE, [(DAY_SLOT + 40, 8, 60_000), (DAY_SLOT + 72, 4, -30_000)]
    )
    assert read_call(on.deployment, call).text == (
        "the community battery of zone 1 charges at 60,000 W from 2016-06-06 10:00 to 12:00 UTC; "
        "discharges at 30,000 W from 2016-06-06 18:00 to 19:00 UTC"
    )


@pytest.mark.parametrize(
    ("cap", "words"),
    [
        (3_700, "may draw at most 3.7 kW"),
        (22_000, "may draw at most 22 kW"),
        (21_999, "may draw at most 21.999 kW"),
        (0, "may draw nothing"),
        # No window can say so, but a proposal's bytes can.
        (22_001, "may draw at most 22,001 W"),
        (-1, "may draw at most -1 W"),
    ],
)
def test_a_cap_on_charge_points_is_told_as_times_and_power(
    on: Street, cap: int, words: str
) -> None:
    call = windows_call(parameters(on), ZONE, CHARGE_POINTS, [(DAY_SLOT + 68, 12, cap)])
    assert read_call(on.deployment, call).text == (
        f"charge points taking part in zone 1 {words} from 2016-06-06 17:00 to 20:00 UTC"
    )


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (500, "charge at 50 % of their rated power"),
        (-125, "discharge at 12.5 % of their rated power"),
        (0, "rest"),
        (-(10**20), "discharge at 10,000,000,000,000,000,000 % of their rated power"),
    ],
)
def test_what_home_batteries_do_is_told_as_times_and_share(
    on: Street, share: int, words: str
) -> None:
    call = windows_call(parameters(on), ZONE, HOME_BATTERIES, [(DAY_SLOT + 40, 8, share)])
    assert read_call(on.deployment, call).text == (
        f"home batteries taking part in zone 1 {words} from 2016-06-06 10:00 to 12:00 UTC"
    )


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (COMMUNITY_BATTERY, "the community battery of zone 1 keeps its plan"),
        (CHARGE_POINTS, "charge points taking part in zone 1 keep their caps"),
        (HOME_BATTERIES, "home batteries taking part in zone 1 keep their plans"),
    ],
)
def test_a_schedule_without_windows_changes_nothing(on: Street, key: int, words: str) -> None:
    assert read_call(on.deployment, windows_call(parameters(on), ZONE, key, [])).text == words


def test_a_window_of_a_rule_is_told_beside_the_value_it_overrides(on: Street) -> None:
    data = parameters(on).encode("open_window", ZONE, 7, DAY_SLOT + 40, 4, 90)
    assert read_call(on.deployment, Call(parameters(on).address, data)).text == (
        "grid_fee in zone 1 instead of 110 µ€/Wh: 90 µ€/Wh from 2016-06-06 10:00 to 11:00 UTC"
    )


def test_another_known_call_is_told_by_its_arguments_names(on: Street) -> None:
    token = on.deployment["TestEuro"]
    data = token.encode("mint", on.deployment["EnergyMarket"].address, 2_500_000)
    text = read_call(on.deployment, Call(token.address, data)).text
    assert text.startswith("TestEuro.mint(")
    assert "EnergyMarket" in text


def test_wei_that_a_call_carries_is_told(on: Street) -> None:
    text = read_call(on.deployment, Call(STRANGER, b"", 10**18)).text
    assert text == f"unknown contract {STRANGER}: no call, with 1,000,000,000,000,000,000 wei"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no call"),
        (b"\x01\x02", "0x0102"),
        (b"\xde\xad\xbe\xef", "unknown function 0xdeadbeef"),
        (b"\xde\xad\xbe\xef\x01", "unknown function 0xdeadbeef with 0x01"),
        (b"\xde\xad\xbe\xef" + bytes(1_000), "(1,000 bytes)"),
    ],
)
def test_what_nobody_knows_is_shown_as_bytes(on: Street, data: bytes, words: str) -> None:
    for target in (STRANGER, parameters(on).address):
        reading = read_call(on.deployment, Call(target, data))
        assert words in reading.text
        assert reading.function is None


def test_arguments_cut_short_are_shown_as_bytes(on: Street) -> None:
    data = rule_call(parameters(on), "grid_fee", 120).calldata[:-1]
    reading = read_call(on.deployment, Call(parameters(on).address, data))
    assert reading.function is None
    assert data[4:].hex() in reading.text


def test_bytes_after_the_arguments_are_pointed_out(on: Street) -> None:
    data = rule_call(parameters(on), "grid_fee", 120).calldata + b"\x99"
    text = read_call(on.deployment, Call(parameters(on).address, data)).text
    assert text.startswith("set grid_fee from 110 µ€/Wh to 120 µ€/Wh (encoded unusually: 0x")
    assert "99)" in text


@pytest.mark.parametrize(
    ("function", "key"),
    [("set_value", 0), ("open_window", 0), *(("open_windows", key) for key in range(1_000, 1_004))],
)
def test_numbers_beyond_all_bounds_are_told_too(on: Street, function: str, key: int) -> None:
    most = 2**256 - 1
    arguments = {
        "set_value": (most, most),
        "open_window": (most, most, most, most, 2**255 - 1),
        "open_windows": (most, key, [most, 1 << 127, 0]),
    }[function]
    data = parameters(on).encode(function, *arguments)
    assert read_call(on.deployment, Call(parameters(on).address, data)).function == function


def test_a_text_can_neither_move_the_cursor_nor_turn_the_line() -> None:
    hostile = "Lower the fee\x1b[2K\rRaise it\u202e\u2028" + b"\xff".decode(
        "utf-8", "surrogateescape"
    )
    assert plain_text(hostile) == r"Lower the fee\x1b[2K\rRaise it\u202e\u2028\xff"
    assert (
        plain_text("half \ud800, half \udfff, byte \udcff")
        == r"half \ud800, half \udfff, byte \xff"
    )
    assert plain_text("zwei Zeilen,\nmit Umlaut: ä €") == "zwei Zeilen,\nmit Umlaut: ä €"


def test_durations_and_money_are_exact() -> None:
    assert [duration(s) for s in (0, 900, 90_061)] == ["0 s", "15 min", "1 d 1 h 1 min 1 s"]
    assert [euro(a) for a in (0, 1, -2_500_000, 10**12)] == [
        "0.00 €",
        "0.000001 €",
        "-2.50 €",
        "1,000,000.00 €",
    ]


def test_text_that_is_no_utf8_keeps_its_bytes_when_decoded() -> None:
    event = {
        "type": "event",
        "name": "Said",
        "inputs": [{"name": "text", "type": "string", "indexed": False}],
    }
    interface = Interface("Talker", [event])
    data = (32).to_bytes(32, "big") + (3).to_bytes(32, "big") + b"a\xff\xfe".ljust(32, b"\0")
    decoded = interface.decode_log([interface.topic("Said")], data)
    assert decoded is not None
    assert decoded[1]["text"].encode("utf-8", "surrogateescape") == b"a\xff\xfe"
