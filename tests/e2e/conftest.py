# SPDX-License-Identifier: Apache-2.0
"""Runs of the real command, each in a state folder of its own, kept for the whole test session."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ZONE = "1-LV-rural3--2-sw"
# Three weeks of history keep the runs short and are enough for Prophet.
HISTORY = ("--history-days", "21")


@dataclass(frozen=True)
class Run:
    """A finished command: exit code, the JSON it printed, and its state folder."""

    code: int
    out: str
    err: str
    home: Path

    @property
    def summary(self) -> dict[str, Any]:
        assert self.code == 0, self.err
        parsed: dict[str, Any] = json.loads(self.out)
        return parsed


def gridcommons(*arguments: str, home: Path, timeout: float = 600) -> Run:
    """Run the command as a user would, its state in `home`."""
    bring_cache(home)
    done = subprocess.run(
        [sys.executable, "-m", "scripts", *arguments],
        cwd=ROOT,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return Run(done.returncode, done.stdout, done.stderr, home)


def bring_cache(home: Path) -> None:
    """Give a state folder the extract of SimBench, made once per test session: it takes 15 s."""
    from dao.paths import cache_dir
    from forecasting.grid import load_grid
    from meters.simbench import load_grid as load_profiles

    load_profiles(ZONE, cache_dir())
    load_grid(ZONE, cache_dir())
    shutil.copytree(cache_dir(), home / "cache", dirs_exist_ok=True)


def environment(home: Path) -> dict[str, str]:
    """The environment of a command whose state lies in `home`."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "GRIDCOMMONS_HOME": str(home), "PATH": path}


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two days in a week with broken limits; the members accept."""
    home = tmp_path_factory.mktemp("demo")
    return gridcommons("demo", "--days", "2", "--headless", "--json", *HISTORY, home=home)
