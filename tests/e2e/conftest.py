# SPDX-License-Identifier: Apache-2.0
"""Runs of the real command, each in a state folder of its own, kept for the whole test session."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from scripts.__main__ import gridcommons as cli
from tests.kept import bring_extract

ROOT = Path(__file__).parents[2]
ZONE = "1-LV-rural3--2-sw"
# Three weeks of history keep the runs short and are enough for Prophet.
HISTORY = ("--history-days", "21")
TWO_DAYS = ("demo", "--days", "2", "--headless", "--json", *HISTORY)


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


def in_process(*arguments: str, home: Path) -> Run:
    """Run the command as a user would, but in this process: a process of its own takes seconds."""
    handlers = {sign: signal.getsignal(sign) for sign in (signal.SIGINT, signal.SIGTERM)}
    bring_cache(home)
    try:
        runner = CliRunner(mix_stderr=False, env=environment(home))
        found = runner.invoke(cli, arguments, prog_name="gridcommons")
    finally:
        for sign, handler in handlers.items():  # a command may have set its own
            signal.signal(sign, handler)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception  # what would have been a traceback
    return Run(found.exit_code, found.stdout, found.stderr, home)


def bring_cache(home: Path) -> None:
    """Give a state folder the extract of SimBench."""
    bring_extract(home / "cache")


def environment(home: Path) -> dict[str, str]:
    """The environment of a command whose state lies in `home`."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "GRIDCOMMONS_HOME": str(home), "PATH": path}


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two days in a week with broken limits; the members accept."""
    return gridcommons(*TWO_DAYS, home=tmp_path_factory.mktemp("demo"))
