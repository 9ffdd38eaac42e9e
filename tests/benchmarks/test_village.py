# SPDX-License-Identifier: Apache-2.0
"""The village that the dashboard is measured on: when its days are over, and when it failed."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from benchmarks import dashboard
from dao.errors import CheckFailed
from dao.processes import end_child, start_child
from scripts.demo import DAYS_OVER


def waited_for(home: Path, script: str) -> None:
    with (home / "demo.log").open("wb") as log:
        process = start_child([sys.executable, "-c", script], output=log)
        try:
            dashboard._wait_for_the_days(process, home)
        finally:
            end_child(process)


def test_the_days_are_over_once_the_demo_says_so(tmp_path: Path) -> None:
    script = f"import time; print('{DAYS_OVER}; and on', flush=True); time.sleep(60)"
    began = time.monotonic()
    waited_for(tmp_path, script)
    assert time.monotonic() - began < 30, "and not until it ends"


def test_a_demo_that_ends_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="the demo ended: no anvil"):
        waited_for(tmp_path, "print('begins'); print('no anvil')")


def test_a_demo_that_does_not_come_to_an_end_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard, "_SETUP_S", 0.5)
    with pytest.raises(CheckFailed, match="were not over after"):
        waited_for(tmp_path, "import time; time.sleep(60)")
