# SPDX-License-Identifier: Apache-2.0
"""What every test needs: a state folder of its own, never the developer's, and no clock."""

from __future__ import annotations

import faulthandler
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


GRACE_S = 300
"""So long after its timeout may a test still take down what it built: that has no bound of its own,
and what waits there for a process that is gone waits for ever."""

_SCREEN = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep the real standard error, which tests do not see."""
    config.stash[_SCREEN] = os.dup(2)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """End a process that is stuck, and say where: the others go on, and the run has an end."""
    marker = item.get_closest_marker("timeout")
    timeout = marker.args[0] if marker else float(item.config.getini("timeout"))
    _end_after(timeout + GRACE_S, item.config)


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """Pytest has just called off what was to end the process: it is still needed."""
    _end_after(GRACE_S, node.config)


def _end_after(seconds: float, config: pytest.Config) -> None:
    faulthandler.dump_traceback_later(seconds, exit=True, file=config.stash[_SCREEN])


def pytest_unconfigure() -> None:
    """What is left is pytest's own way out."""
    faulthandler.cancel_dump_traceback_later()


# Files that take minutes: begun last, one of them would keep one worker busy and the other idle.
LONG = ("e2e/", "keeper/", "relay/test_command", "_stateful", "_brute_force", "market_fuzz")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files first, in the order in which they were found."""
    items.sort(key=lambda item: not any(name in item.nodeid for name in LONG))
