# SPDX-License-Identifier: Apache-2.0
"""What every test needs: a state folder of its own, never the developer's, and no clock."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """All state of a test run goes to a folder that pytest removes."""
    folder = tmp_path_factory.mktemp("state")
    kept = {name: os.environ.get(name) for name in ("GRIDCOMMONS_HOME", "APE_DATA_FOLDER")}
    os.environ["GRIDCOMMONS_HOME"] = str(folder)
    os.environ["APE_DATA_FOLDER"] = str(folder / "ape")
    yield
    for name, value in kept.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


# Files that take minutes: begun last, one of them would keep one worker busy and the other idle.
LONG = ("e2e/", "keeper/", "relay/test_command", "_stateful", "_brute_force", "market_fuzz")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files first, in the order in which they were found."""
    items.sort(key=lambda item: not any(name in item.nodeid for name in LONG))
