# SPDX-License-Identifier: Apache-2.0
"""Simulated gateways and the community battery."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dao import eip712
from dao.errors import BadUse
from dao.market.orders import receipt_digest
from dao.slots import first_slot_of_day
from meters.collector import Collector
from meters.devices import CommunityBattery, Fleet, device_key
from meters.profiles import zone_profiles
from meters.registry import KeyPeriods
from meters.secrets import DerivedSecrets
from meters.signing import reading_separator
from meters.simbench import Grid

CODE = "1-LV-rural3--2-sw"
DAY = first_slot_of_day(date(2016, 6, 1))
SEPARATOR = reading_separator(31337, "0x" + "42" * 20)


def test_a_device_key_follows_from_seed_and_meter() -> None:
    assert device_key(1, 2) == device_key(1, 2)
    assert len({device_key(seed, meter) for seed in range(3) for meter in range(3)}) == 9


def test_a_gateway_does_not_show_its_key() -> None:
    gateway = Fleet.of(1, [1]).gateways[0]
    assert gateway.key.hex() not in repr(gateway)
    assert str(gateway.key) not in repr(gateway)


def test_a_day_of_the_demo_zone_goes_from_profile_to_batch(
    grid: Grid, cache: Path, tmp_path: Path
) -> None:
    day = zone_profiles(CODE, DAY, 96, 1, cache)
    fleet = Fleet.of(1, range(1, len(day.homes) + 1))
    with Collector(
        1,
        KeyPeriods.fixed(fleet.devices),
        DerivedSecrets(bytes(16)),
        SEPARATOR,
        tmp_path / "lake",
        tmp_path / "inbox.sqlite",
    ) as collector:
        batch, report = collector.close_history(fleet.readings(SEPARATOR, day), DAY, 96)
    assert report.rejected == []
    assert (report.accepted, batch.homes, batch.leaves) == (118 * 96, 118, 118 * 96)
    assert batch.net_wh.tolist() == day.net_wh.tolist()
    assert batch.export_wh.tolist() == day.export_wh.sum(1).tolist()


def test_a_fleet_serves_as_many_homes_as_it_has_gateways(grid: Grid, cache: Path) -> None:
    with pytest.raises(BadUse, match="2 gateways cannot serve 118"):
        Fleet.of(1, [1, 2]).readings(SEPARATOR, zone_profiles(CODE, DAY, 1, 1, cache))


def test_a_receipt_is_signed_by_the_device_over_the_markets_digest() -> None:
    gateway = Fleet.of(1, [7]).gateways[0]
    market = eip712.domain_separator("GridCommons EnergyMarket", "1", 31337, "0x" + "11" * 20)
    exports = [0, 5, 65_000, 1]
    signature = gateway.receipt(market, DAY, np.array(exports))
    assert eip712.recover(receipt_digest(market, 7, DAY, exports), signature) == gateway.address


def test_a_battery_without_a_schedule_rests() -> None:
    battery = CommunityBattery(100_000, 50_000, soc_wh=40_000)
    run = battery.run({}, DAY, 96)
    assert run.import_wh.sum() == run.export_wh.sum() == run.loss_wh.sum() == 0
    assert run.after == battery


def test_a_battery_obeys_its_schedule() -> None:
    battery = CommunityBattery(100_000, 50_000)
    run = battery.run({DAY + 1: 20_000, DAY + 2: -8_000}, DAY, 4)
    assert run.import_wh.tolist() == [0, 5_000, 0, 0]
    assert run.export_wh.tolist() == [0, 0, 2_000, 0]
    assert run.soc_wh.tolist() == [0, 4_750, 4_750 - 2_106, 4_750 - 2_106]
    assert run.after.soc_wh == 4_750 - 2_106


def test_power_beyond_its_rating_is_cut() -> None:
    run = CommunityBattery(10**6, 50_000).run({DAY: 10**9}, DAY, 1)
    assert run.import_wh.tolist() == [12_500]


def test_it_fills_up_to_the_brim_and_empties_to_the_ground() -> None:
    battery = CommunityBattery(10_001, 50_000, 930, 970)
    full = battery.run(dict.fromkeys(range(DAY, DAY + 9), 50_000), DAY, 9).after
    assert full.soc_wh == 10_001
    empty = full.run(dict.fromkeys(range(DAY, DAY + 9), -50_000), DAY, 9)
    assert empty.after.soc_wh <= 1
    assert empty.export_wh[-1] == 0


@given(
    st.integers(0, 200_000),
    st.integers(0, 80_000),
    st.integers(1, 1000),
    st.integers(1, 1000),
    st.floats(0, 1),
    st.lists(st.integers(-100_000, 100_000), max_size=40),
)
def test_a_battery_keeps_energy_and_its_limits(
    capacity: int, power: int, charge: int, discharge: int, filled: float, wishes: list[int]
) -> None:
    battery = CommunityBattery(capacity, power, charge, discharge, int(capacity * filled))
    run = battery.run({DAY + i: w for i, w in enumerate(wishes)}, DAY, len(wishes))
    rise = np.diff(run.soc_wh, prepend=battery.soc_wh)
    assert (run.import_wh == run.export_wh + rise + run.loss_wh).all()
    assert ((run.soc_wh >= 0) & (run.soc_wh <= capacity)).all()
    assert (run.loss_wh >= 0).all()
    assert (np.maximum(run.import_wh, run.export_wh) <= power // 4).all()
    assert all(run.import_wh[i] == 0 for i, w in enumerate(wishes) if w <= 0)
    assert all(run.export_wh[i] == 0 for i, w in enumerate(wishes) if w >= 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"capacity_wh": -1},
        {"max_power_w": -1},
        {"charge_permille": 0},
        {"discharge_permille": 1001},
        {"soc_wh": 11},
    ],
)
def test_an_impossible_battery_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(BadUse):
        CommunityBattery(**{"capacity_wh": 10, "max_power_w": 10, **wrong})
