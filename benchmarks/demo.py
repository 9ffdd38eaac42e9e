# SPDX-License-Identifier: Apache-2.0
"""Two days of the whole loop as a user would run them: a process and a state folder of its own."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks.results import Result, seconds
from dao.anvil import checkout_root
from dao.errors import CheckFailed

DAYS = 2
# Twice the promise: three minutes for eight weeks of history, one for each day.
PATIENCE_S = 600
_KIB_PER_MIB = 1024
# ru_maxrss is in KiB, on macOS in bytes.
_MAXRSS_UNIT = 1 if sys.platform != "darwin" else 1024


def run() -> Result:
    """Wall time by part, and the largest process of the run."""
    with tempfile.TemporaryDirectory(prefix="gridcommons-bench-") as state:
        wall_s, summary = seconds(lambda: _demo(state))
    timings = summary["timings"]
    if not summary["conservation_ok"]:
        raise CheckFailed("the demo's money or energy does not add up")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / _MAXRSS_UNIT / _KIB_PER_MIB
    return Result(
        figures={
            "demo.setup_s": timings["setup_s"],
            "demo.history_8_weeks_s": timings["history_s"],
            "demo.day_s": max(timings["days_s"]),
            "demo.wall_s": wall_s,
            "demo.peak_mib": peak,
            "demo.gas": summary["gas_used"],
            "demo.orders": summary["orders"],
        },
        notes={
            "demo.history_8_weeks_s": f"{summary['homes']} homes: ingested, signed, committed",
            "demo.day_s": f"the slowest of {DAYS}",
            "demo.wall_s": f"{DAYS} days from nothing",
            "demo.peak_mib": "largest process below this one",
        },
    )


def _demo(state: str) -> dict[str, Any]:
    """The summary that the command prints. CheckFailed with its last words when it fails."""
    command = [sys.executable, "-m", "scripts", "demo"]
    command += ["--days", str(DAYS), "--headless", "--json"]
    search = [str(checkout_root()), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "GRIDCOMMONS_HOME": state,
        "PYTHONPATH": os.pathsep.join(filter(None, search)),
    }
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd=checkout_root(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CheckFailed(f"the demo did not end within {PATIENCE_S} s") from None
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["nothing said"]
        raise CheckFailed(f"the demo ended with {done.returncode}: {words[-1]}")
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary
