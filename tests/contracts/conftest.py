# SPDX-License-Identifier: Apache-2.0
"""The market that its tests share: deployed once a module, put back after every test."""

from __future__ import annotations

from collections.abc import Iterator

import boa
import pytest

from tests.contracts.market_world import EURO, World, build


@pytest.fixture(scope="module")
def market_world() -> World:
    world = build()
    world.fund(range(1, 11), 100 * EURO)
    return world


@pytest.fixture
def world(market_world: World) -> Iterator[World]:
    start = boa.env.timestamp
    with boa.env.anchor():
        yield market_world
    boa.env.timestamp = start
    market_world.book.clear()
    market_world.pending.clear()
