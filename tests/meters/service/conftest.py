# SPDX-License-Identifier: Apache-2.0
"""One node for all tests of the service, each finding it as it was built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meters.collector import Collector
from meters.readings import Readings
from meters.secrets import DerivedSecrets
from meters.service.writer import Room, Writer
from tests.chains import put_back
from tests.meters.batch_rows import DAY, SEPARATOR, keys
from tests.meters.service.served import NOW
from tests.meters.service.zone import HOMES, ZONE, OnChain, on_chain, signed

Made = Callable[..., Writer]


@pytest.fixture(scope="session")
def _chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnChain]:
    with on_chain(tmp_path_factory.mktemp("chain")) as made:
        yield made


@pytest.fixture
def on(_chain: OnChain) -> Iterator[OnChain]:
    """The node for one test; what the test did to the chain is undone."""
    with put_back(_chain.chain):
        yield _chain


@pytest.fixture(scope="session")
def day() -> Readings:
    """Two hours of everybody's readings, signed."""
    return signed(SEPARATOR, DAY, 8)


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[Made]:
    """Makes a writer with a real collector behind it; all are stopped afterwards."""
    made: list[Writer] = []

    def make(kind: type[Collector] = Collector, room: Room | None = None) -> Writer:
        def collector() -> Collector:
            return kind(
                ZONE,
                keys(HOMES),
                DerivedSecrets(b"a secret for the tests only"),
                SEPARATOR,
                tmp_path / "lake",
                tmp_path / "inbox.sqlite",
                clock=lambda: NOW,
            )

        writer = Writer(collector, room)
        writer.start()
        made.append(writer)
        return writer

    yield make
    for writer in made:
        assert writer.stop()
